//! ApiVersions (key 18), versions 0-4.
//!
//! 1: throttle time. 2: no change. 3: flexible; the client's software; features (KIP-511, KIP-584). 4: same bytes as
//! 3; feature ranges may start at 0.

use crate::api::{API_TABLE, ApiKey, PRODUCE_ADVERTISED_MIN_VERSION};
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Asks what the broker speaks.
    pub struct ApiVersionsRequest<'a> {
        [3..] client_software_name: &'a str,
        [3..] client_software_version: &'a str,
    }
}

message! {
    /// What the broker speaks.
    pub struct ApiVersionsResponse {
        [..] error_code: ErrorCode,
        [..] api_keys: Vec<ApiVersionRange>,
        [1..] throttle_time_ms: i32,
        [3.., tag 0] supported_features: Vec<SupportedFeature>,
        [3.., tag 1] finalized_features_epoch: i64 = -1,
        [3.., tag 2] finalized_features: Vec<FinalizedFeature>,
        [3.., tag 3] zk_migration_ready: bool,
    }
}

message! {
    /// The versions of one API.
    #[derive(Copy)]
    pub struct ApiVersionRange {
        [..] api_key: i16,
        [..] min_version: i16,
        [..] max_version: i16,
    }
}

message! {
    /// A feature that the broker could switch on.
    pub struct SupportedFeature {
        [..] name: String,
        [..] min_version: i16,
        [..] max_version: i16,
    }
}

message! {
    /// A feature that the cluster has switched on.
    pub struct FinalizedFeature {
        [..] name: String,
        [..] max_version_level: i16,
        [..] min_version_level: i16,
    }
}

api! { ApiVersions: ApiVersionsRequest<'a>, ApiVersionsResponse }

impl ApiVersionsResponse {
    /// Everything in [`API_TABLE`], with Produce claimed from 0.
    pub fn from_table() -> Self {
        let api_keys = API_TABLE.iter().map(|api| ApiVersionRange {
            api_key: api.key.code(),
            min_version: if api.key == ApiKey::Produce {
                PRODUCE_ADVERTISED_MIN_VERSION
            } else {
                api.min_version
            },
            max_version: api.max_version,
        });
        Self {
            api_keys: api_keys.collect(),
            ..Self::default()
        }
    }

    /// The answer to a version of ApiVersions that we do not speak: to be encoded in version 0. It holds ApiVersions'
    /// own range, so that the client can ask again (KIP-511).
    pub fn unsupported_version() -> Self {
        let api = ApiKey::ApiVersions.info();
        let range = ApiVersionRange {
            api_key: api.key.code(),
            min_version: api.min_version,
            max_version: api.max_version,
        };
        Self {
            error_code: ErrorCode::UnsupportedVersion,
            api_keys: vec![range],
            ..Self::default()
        }
    }
}
