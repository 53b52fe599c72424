//! Our codec against the published one (`kafka-protocol`), for every API and version of the table: random values, both
//! directions, every field by name; then the same frames cut and bent.

mod mirror;
mod sample;

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request as PublishedRequest, StrBytes};

pub(crate) use sample::{Random, Sample};

use self::mirror::Mirror;
use crate::api::ApiKey;
use crate::error::DecodeError;
use crate::frame::{Piece, Request, Response};
use crate::header::{decode_request_header, decode_response_header};
use crate::messages::*;
use crate::primitive::{Reader, Writer};
use crate::schema::{Decode, Encode, Version};

/// Values for each API, version and direction.
const SAMPLES: u64 = 40;
/// Of those, how many are also cut and bent at every byte, which costs the square of a frame's size.
const BENT_SAMPLES: u64 = 4;
/// Frames above this are not bent.
const BENT_MAX_BYTES: usize = 700;
/// A correlation id with four different bytes.
const CORRELATION_ID: i32 = 0x1234_5678;

#[test]
fn every_message_agrees_with_the_published_codec() {
    macro_rules! compare_all {
        ($($name:ident = $key:literal in $module:ident $versions:tt;)*) => {
            $(compare::<$module::Request, $module::Response, _>(ApiKey::$name);)*
        };
    }
    crate::for_each_api!(compare_all);
}

/// Compares both messages of an API. The published request follows from what mirrors ours; it says which API it is, and
/// what its response is.
fn compare<T, R, K>(key: ApiKey)
where
    T: Request<'static> + Sample + Mirror<K> + PartialEq + Debug,
    R: Response + Decode<'static> + Sample + Mirror<K::Response> + PartialEq + Debug,
    K: PublishedRequest<Response: PartialEq + Debug> + PartialEq + Debug,
{
    assert_eq!((T::API_KEY, R::API_KEY, K::KEY), (key, key, key.code()));
    compare_request::<T, K>();
    compare_response::<R, K::Response>();
}

fn compare_request<T, K>()
where
    T: Request<'static> + Sample + Mirror<K> + PartialEq + Debug,
    K: Encodable + Decodable + HeaderVersion + PartialEq + Debug,
{
    for_each_sample(T::API_KEY, |random, version, bend| {
        let ours: T = in_version(&T::sample(random), version);
        let client_id: Option<&'static str> = Sample::sample(random);
        let mut header = theirs::RequestHeader::default();
        header.request_api_key = T::API_KEY.code();
        header.request_api_version = version.number;
        header.correlation_id = CORRELATION_ID;
        header.client_id = client_id.mirror();
        let mut body = their_bytes(&header, K::header_version(version.number));
        body.extend_from_slice(&their_bytes(&ours.mirror(), version.number));
        let frame: &'static [u8] = ours.encode(version.number, CORRELATION_ID, client_id).leak();
        assert_eq!(length_prefix(frame), frame.len() - 4);
        assert_eq!(frame[4..], body[..], "{ours:?}");

        let (our_header, reader) = decode_request_header(&frame[4..]).unwrap();
        assert_eq!(
            (our_header.api_key, our_header.api_version),
            (T::API_KEY.code(), version.number)
        );
        assert_eq!(
            (our_header.correlation_id, our_header.client_id),
            (CORRELATION_ID, client_id)
        );
        assert_eq!(T::decode(reader, version.number).as_ref(), Ok(&ours));
        assert_eq!(
            their_round_trip::<K>(reader.rest(), version.number),
            reader.rest()
        );
        // What stands behind a request is not looked at, as in Kafka.
        let more: &'static [u8] = [reader.rest(), &[0]].concat().leak();
        assert_eq!(T::decode(Reader::new(more), version.number).as_ref(), Ok(&ours));
        if bend {
            bend_frame(reader.rest(), |bytes| {
                T::decode(Reader::new(bytes), version.number)
            });
        }
    });
}

fn compare_response<T, K>()
where
    T: Response + Decode<'static> + Sample + Mirror<K> + PartialEq + Debug,
    K: Encodable + Decodable + HeaderVersion + PartialEq + Debug,
{
    for_each_sample(T::API_KEY, |random, version, bend| {
        let ours: T = in_version(&T::sample(random), version);
        let header = theirs::ResponseHeader::default().with_correlation_id(CORRELATION_ID);
        let mut body = their_bytes(&header, K::header_version(version.number));
        body.extend_from_slice(&their_bytes(&ours.mirror(), version.number));
        let frame: &'static [u8] = ours.encode(version.number, CORRELATION_ID).leak();
        assert_eq!(length_prefix(frame), frame.len() - 4);
        assert_eq!(frame[4..], body[..], "{ours:?}");

        let (correlation_id, reader) =
            decode_response_header(&frame[4..], T::API_KEY, version.number).unwrap();
        assert_eq!(correlation_id, CORRELATION_ID);
        assert_eq!(T::decode(reader, version.number).as_ref(), Ok(&ours));
        assert_eq!(
            their_round_trip::<K>(reader.rest(), version.number),
            reader.rest()
        );
        let more: &'static [u8] = [reader.rest(), &[0]].concat().leak();
        let read = T::decode(Reader::new(more), version.number);
        assert!(read.is_err(), "bytes after an answer are refused");
        if bend {
            bend_frame(reader.rest(), |bytes| {
                T::decode(Reader::new(bytes), version.number)
            });
        }
    });
}

fn for_each_sample(key: ApiKey, mut check: impl FnMut(&mut Random, Version, bool)) {
    let api = key.info();
    for number in api.min_version..=api.max_version {
        for seed in 0..SAMPLES {
            let mut random = Random(seed << 32 | (key.code() as u64) << 16 | number as u64);
            check(&mut random, api.version(number).unwrap(), seed < BENT_SAMPLES);
        }
    }
}

/// The value with the fields that its version has, the others at their defaults.
fn in_version<T: Encode + Decode<'static>>(value: &T, version: Version) -> T {
    let mut writer = Writer::flat();
    value.write(&mut writer, version);
    T::read(&mut Reader::new(writer.into_bytes().leak()), version).unwrap()
}

fn their_bytes(value: &impl Encodable, version: i16) -> BytesMut {
    let mut bytes = BytesMut::new();
    value.encode(&mut bytes, version).unwrap();
    bytes
}

fn their_round_trip<K: Encodable + Decodable>(body: &'static [u8], version: i16) -> BytesMut {
    let mut bytes = Bytes::from_static(body);
    let value = K::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty());
    their_bytes(&value, version)
}

fn length_prefix(frame: &[u8]) -> usize {
    u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize
}

/// Cuts a body at every byte, which must be refused; and bends every byte, which must not panic: what is still read
/// is walked to its end.
fn bend_frame<T: Debug>(body: &'static [u8], decode: impl Fn(&'static [u8]) -> Result<T, DecodeError>) {
    if body.len() > BENT_MAX_BYTES {
        return;
    }
    for cut in 0..body.len() {
        assert!(decode(&body[..cut]).is_err(), "cut at {cut} of {}", body.len());
    }
    let bends: [&[u8]; 6] = [
        &[0xff],
        &[0x00],
        &[0x7f],
        &[0x80],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff; 5],
    ];
    for at in 0..body.len() {
        for bend in bends {
            let mut bent = body.to_vec();
            let end = (at + bend.len()).min(body.len());
            bent[at..end].copy_from_slice(&bend[..end - at]);
            if let Ok(value) = decode(bent.leak()) {
                std::hint::black_box(format!("{value:?}"));
            }
        }
    }
}

#[test]
fn unknown_tagged_fields_are_stepped_over() {
    let unknown = Bytes::from_static(b"from a newer peer");
    let request = theirs::ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![
            theirs::produce_request::TopicProduceData::default()
                .with_name(StrBytes::from_static_str("orders").into())
                .with_unknown_tagged_field(7, unknown.clone()),
        ])
        .with_unknown_tagged_field(9999, unknown.clone());
    let bytes = their_bytes(&request, 9);
    let ours = produce::ProduceRequest::decode(Reader::new(&bytes), 9).unwrap();
    assert_eq!(
        ours.topics.iter().map(|topic| topic.name).collect::<Vec<_>>(),
        ["orders"]
    );

    let response = theirs::FetchResponse::default().with_unknown_tagged_field(3, unknown);
    let bytes = their_bytes(&response, 16);
    assert!(fetch::FetchResponse::<&[u8]>::decode(Reader::new(&bytes), 16).is_ok());
}

/// The published codec writes a null in any version; Kafka takes it only from the versions named here on.
#[test]
fn nulls_are_taken_from_the_version_that_has_them() {
    fn check<T, K>(key: ApiKey, first_version: i16, ours: &T, theirs: &K)
    where
        T: Encode + Decode<'static> + PartialEq + Debug,
        K: Encodable,
    {
        let api = key.info();
        for version in (api.min_version..=api.max_version).map(|number| api.version(number).unwrap()) {
            let null = their_bytes(theirs, version.number);
            let read = T::read(&mut Reader::new(null.to_vec().leak()), version);
            let mut writer = Writer::flat();
            ours.write(&mut writer, version);
            if version.number >= first_version {
                assert_eq!(read.as_ref(), Ok(ours));
                assert_eq!(writer.as_bytes(), &null[..]);
            } else {
                assert!(
                    matches!(read, Err(DecodeError::Malformed { .. })),
                    "{key:?} {version:?}"
                );
                assert_ne!(writer.as_bytes(), &null[..], "an empty value is written instead");
            }
        }
    }

    let topics = theirs::MetadataRequest::default().with_topics(None);
    check(
        ApiKey::Metadata,
        1,
        &metadata::MetadataRequest::default(),
        &topics,
    );
    let name = theirs::metadata_request::MetadataRequestTopic::default().with_name(None);
    check(
        ApiKey::Metadata,
        10,
        &metadata::MetadataRequestTopic::default(),
        &name,
    );
    let name = theirs::metadata_response::MetadataResponseTopic::default().with_name(None);
    check(ApiKey::Metadata, 12, &metadata::MetadataTopic::default(), &name);
    let name = theirs::delete_topics_response::DeletableTopicResult::default().with_name(None);
    check(
        ApiKey::DeleteTopics,
        6,
        &delete_topics::DeletableTopicResult::default(),
        &name,
    );
}

#[test]
fn vectored_frames_are_the_flat_ones_in_pieces() {
    for_each_sample(ApiKey::Fetch, |random, version, _| {
        let response = fetch::FetchResponse::<&'static [u8]>::sample(random);
        let flat = response.encode(version.number, CORRELATION_ID);
        let slices = response.topics.iter().flat_map(|topic| &topic.partitions);
        let slices: Vec<_> = slices.flat_map(|partition| partition.records.0.clone()).collect();
        let pieces = response.encode_vectored(usize::MAX, version.number, CORRELATION_ID);
        let pieces = pieces.expect("a small frame");
        check_pieces(&pieces, &flat, &slices);
    });
    for_each_sample(ApiKey::Produce, |random, version, _| {
        let request = produce::ProduceRequest::sample(random);
        let flat = request.encode(version.number, CORRELATION_ID, None);
        let slices = request.topics.iter().flat_map(|topic| topic.partitions);
        let slices: Vec<_> = slices.filter_map(|partition| partition.records).collect();
        let pieces = request.encode_vectored(version.number, CORRELATION_ID, None);
        check_pieces(&pieces, &flat, &slices);
    });
}

fn check_pieces(pieces: &[Piece<&'static [u8]>], flat: &[u8], slices: &[&'static [u8]]) {
    assert_eq!(
        pieces
            .iter()
            .flat_map(AsRef::as_ref)
            .copied()
            .collect::<Vec<u8>>(),
        flat
    );
    let handles = pieces.iter().filter_map(|piece| match piece {
        Piece::Records(records) => Some(records.as_ptr()),
        Piece::Bytes(_) => None,
    });
    let given = slices
        .iter()
        .filter(|slice| !slice.is_empty())
        .map(|slice| slice.as_ptr());
    assert!(handles.eq(given), "the handles come out as they went in");
}

#[test]
fn error_codes_agree_with_the_published_ones() {
    use kafka_protocol::error::ResponseError;
    for code in crate::ErrorCode::ALL {
        let Some(theirs) = ResponseError::try_from_code(code.code()) else {
            assert!(code.code() == 0 || code.code() > 133, "{code}");
            continue;
        };
        if matches!(theirs, ResponseError::Unknown(_)) {
            assert!(code.code() > 133, "{code}");
            continue;
        }
        assert_eq!(format!("{code:?}"), format!("{theirs:?}"));
        // Java's ConcurrentTransactionsException is a RetriableException; the published table has it otherwise.
        if *code != crate::ErrorCode::ConcurrentTransactions {
            assert_eq!(code.is_retriable(), theirs.is_retriable(), "{code}");
        }
    }
}

#[test]
fn an_unknown_version_of_api_versions_can_still_be_answered() {
    let frame = [0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0xde, 0xad];
    let (header, body) = decode_request_header(&frame).unwrap();
    assert_eq!(
        (header.api_key, header.api_version, header.correlation_id),
        (18, 99, 5)
    );
    let refused = api_versions::ApiVersionsRequest::decode(body, header.api_version);
    assert_eq!(
        refused,
        Err(DecodeError::UnsupportedVersion {
            api_key: 18,
            version: 99
        })
    );
    let answer = api_versions::ApiVersionsResponse::unsupported_version().encode(0, header.correlation_id);
    // Length, correlation id, error 35, one range: key 18, versions 0 to 4.
    assert_eq!(
        answer,
        [0, 0, 0, 16, 0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]
    );
}
