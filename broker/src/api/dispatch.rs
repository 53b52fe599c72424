//! The frame around every API: header, version, handler; what is not Kafka's protocol closes its connection.

use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;

use net::{ConnectionLimits, Peer, Service};
use ring::buffer::Slice;
use wire::messages::api_versions::ApiVersionsResponse;
use wire::{ApiKey, DecodeError, decode_request_header};

use crate::api::{Call, Caller, Handled, Later, Pending, handler, produce};
use crate::shard::Shard;

/// Where a frame goes, by its header.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    /// To the handler of an API, in a version that we speak.
    Handler {
        key: ApiKey,
        version: i16,
        correlation_id: i32,
        body_at: usize,
    },
    /// Back, in version 0: ApiVersions in a version that we do not speak (KIP-511).
    UnknownApiVersions { correlation_id: i32 },
}

fn route(frame: &[u8]) -> Result<Route, DecodeError> {
    let (header, body) = decode_request_header(frame)?;
    let unsupported = DecodeError::UnsupportedVersion {
        api_key: header.api_key,
        version: header.api_version,
    };
    let key = ApiKey::from_code(header.api_key).ok_or(unsupported)?;
    match key.info().version(header.api_version) {
        Ok(version) => Ok(Route::Handler {
            key,
            version: version.number,
            correlation_id: header.correlation_id,
            body_at: frame.len() - body.remaining(),
        }),
        Err(_) if key == ApiKey::ApiVersions => Ok(Route::UnknownApiVersions {
            correlation_id: header.correlation_id,
        }),
        Err(error) => Err(error),
    }
}

impl Service for Shard {
    type Later = Later;

    fn is_short(&self) -> bool {
        self.is_short_of_memory()
    }

    fn connection_limits(&self) -> Rc<ConnectionLimits> {
        self.connections().clone()
    }

    fn begin(self: &Rc<Self>, peer: &Peer, request: net::Request) -> impl Future<Output = Pending> {
        let shard = self.clone();
        let client = peer.address.ip();
        async move {
            let handled = handle(shard.clone(), client, request.frame).await;
            handled.unwrap_or_else(|refused| {
                shard.counters.malformed_requests.add(1);
                Pending::Ready(refused.close())
            })
        }
    }
}

async fn handle(shard: Rc<Shard>, client: IpAddr, frame: Slice) -> Handled {
    match route(&frame)? {
        Route::Handler {
            key,
            version,
            correlation_id,
            body_at,
        } => {
            shard.counters.request(key);
            let call = Call {
                version,
                correlation_id,
                client,
                frame,
                body_at,
            };
            match key {
                // The one that comes most often costs no box.
                ApiKey::Produce => produce::handle(shard, call).await,
                _ => handler(key)(shard, call).await,
            }
        }
        Route::UnknownApiVersions { correlation_id } => {
            let caller = Caller {
                version: 0,
                correlation_id,
            };
            let answer = caller.reply(&ApiVersionsResponse::unsupported_version());
            Ok(Pending::Ready(answer))
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::messages::api_versions::ApiVersionsRequest;
    use wire::messages::metadata::MetadataRequest;
    use wire::{API_TABLE, Request};

    use super::*;

    fn header(key: i16, version: i16) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(77i32.to_be_bytes());
        frame.extend((-1i16).to_be_bytes());
        frame
    }

    #[test]
    fn every_api_and_version_that_we_claim_has_a_handler() {
        for api in API_TABLE {
            let _exists: super::super::Handler = handler(api.key);
            for version in api.min_version..=api.max_version {
                let mut frame = header(api.key.code(), version);
                if version >= api.first_flexible_version {
                    frame.push(0);
                }
                let body_at = frame.len();
                frame.push(9);
                let routed = Route::Handler {
                    key: api.key,
                    version,
                    correlation_id: 77,
                    body_at,
                };
                assert_eq!(route(&frame), Ok(routed));
            }
        }
    }

    #[test]
    fn unknown_apis_and_versions_close_the_connection_but_for_api_versions() {
        for (key, version) in [
            (-1, 0),
            (4, 0),
            (999, 0),
            (i16::MAX, 1),
            (0, 2),
            (0, 12),
            (1, 3),
            (1, 18),
            (3, 13),
            (3, -1),
        ] {
            let error = route(&header(key, version)).unwrap_err();
            let unsupported = DecodeError::UnsupportedVersion {
                api_key: key,
                version,
            };
            assert_eq!(error, unsupported, "{key} {version}");
        }
        for version in [5, 6, 1_000, -1, i16::MIN] {
            let routed = route(&header(18, version));
            assert_eq!(routed, Ok(Route::UnknownApiVersions { correlation_id: 77 }));
        }
    }

    #[test]
    fn every_cut_of_a_header_is_refused() {
        let frames = [
            MetadataRequest::default().encode(12, 1, Some("client")),
            ApiVersionsRequest::default().encode(4, 1, Some("client")),
        ];
        for frame in frames {
            let frame = &frame[4..];
            let Ok(Route::Handler { body_at, .. }) = route(frame) else {
                panic!("the whole frame is routed");
            };
            for length in 0..body_at {
                assert!(route(&frame[..length]).is_err(), "{length} bytes");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_frame_makes_it_panic(frame in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let _ = route(&frame);
        }

        #[test]
        fn no_header_makes_it_panic(key in -1..30i16, version in -2..20i16, rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..32)) {
            let mut frame = header(key, version);
            frame.extend(rest);
            if let Ok(Route::Handler { body_at, .. }) = route(&frame) {
                proptest::prop_assert!(body_at <= frame.len());
            }
        }
    }
}
