//! Whole requests and responses: header, body, and the length that precedes both.
//!
//! A frame with record data is a list of pieces: our own bytes, and handles to records that were never copied.

use crate::api::ApiKey;
use crate::error::{DecodeError, TooLarge};
use crate::header::{RequestHeader, write_request_header, write_response_header};
use crate::primitive::{FRAME_BYTES_MAX, Reader, Writer};
use crate::schema::{Decode, DecodeNullable, Encode, EncodeNullable, Version};

/// The bytes of a frame's length prefix, which does not count itself.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// A part of a frame, to be sent in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<R> {
    /// Bytes of the protocol.
    Bytes(Vec<u8>),
    /// Record data, as it was handed in.
    Records(R),
}

impl<R: AsRef<[u8]>> AsRef<[u8]> for Piece<R> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Records(records) => records.as_ref(),
        }
    }
}

/// Record data of a response: slices that follow each other on the wire as one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records<R>(pub Vec<R>);

impl<R> Default for Records<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R> From<Vec<R>> for Records<R> {
    fn from(slices: Vec<R>) -> Self {
        Self(slices)
    }
}

impl<R: AsRef<[u8]>> Records<R> {
    /// Bytes in all the slices.
    pub fn byte_count(&self) -> usize {
        self.0.iter().map(|slice| slice.as_ref().len()).sum()
    }
}

impl<R: AsRef<[u8]>> EncodeNullable for Records<R> {
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.length(value.map(Self::byte_count), version.flexible);
        for slice in value.into_iter().flat_map(|records| &records.0) {
            writer.slice(slice.as_ref());
        }
    }
}

/// Null record data reads as none: Kafka writes either for a partition with nothing to send.
impl<'a, R: From<&'a [u8]>> DecodeNullable<'a> for Records<R> {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        let bytes = reader.nullable_bytes(version.flexible)?.unwrap_or_default();
        Ok(Some(Self(if bytes.is_empty() {
            Vec::new()
        } else {
            vec![R::from(bytes)]
        })))
    }
}

/// The body of a request.
pub trait Request<'a>: Encode + Decode<'a> {
    /// The API that it belongs to.
    const API_KEY: ApiKey;

    /// Reads the body at the front of `body`. Nothing is copied and nothing allocated. What follows it is not looked at,
    /// as in Kafka: librdkafka (seen in 2.12) leaves three bytes behind its Metadata 9 and later for all topics.
    #[inline]
    fn decode(mut body: Reader<'a>, api_version: i16) -> Result<Self, DecodeError> {
        let version = const { Self::API_KEY.info() }.version(api_version)?;
        Self::read(&mut body, version)
    }

    /// The whole frame, in one buffer. The version must be one that we speak.
    fn encode(&self, api_version: i16, correlation_id: i32, client_id: Option<&str>) -> Vec<u8> {
        let mut writer = Writer::flat();
        write_request(self, &mut writer, api_version, correlation_id, client_id);
        finish(writer).expect("what we ask for is smaller than 2 GiB")
    }
}

/// The body of a response.
pub trait Response: Encode {
    /// The API that it belongs to.
    const API_KEY: ApiKey;

    /// The whole frame, in one buffer. The version must be one that we speak.
    ///
    /// # Panics
    /// If it has 2 GiB. A broker, which others make answer, has a bound: [`Response::encode_within`].
    #[inline]
    fn encode(&self, api_version: i16, correlation_id: i32) -> Vec<u8> {
        let frame = self.encode_within(FRAME_BYTES_MAX, api_version, correlation_id);
        frame.expect("an answer of less than 2 GiB")
    }

    /// The whole frame, in one buffer of at most `bytes_max` bytes: it does not grow beyond them.
    ///
    /// # Errors
    /// If it would be larger.
    #[inline]
    fn encode_within(
        &self,
        bytes_max: usize,
        api_version: i16,
        correlation_id: i32,
    ) -> Result<Vec<u8>, TooLarge> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes, bytes_max, api_version, correlation_id)?;
        Ok(bytes)
    }

    /// The same, into `bytes`, instead of what was there: its memory is used again.
    ///
    /// # Errors
    /// If it would be larger; `bytes` is empty then, and has no memory.
    #[inline]
    fn encode_into(
        &self,
        bytes: &mut Vec<u8>,
        bytes_max: usize,
        api_version: i16,
        correlation_id: i32,
    ) -> Result<(), TooLarge> {
        let mut writer = Writer::reusing(std::mem::take(bytes), bytes_max);
        write_response(self, &mut writer, api_version, correlation_id);
        *bytes = finish(writer)?;
        Ok(())
    }

    /// Reads a body that fills `body` to its end.
    fn decode<'a>(mut body: Reader<'a>, api_version: i16) -> Result<Self, DecodeError>
    where
        Self: Decode<'a>,
    {
        let version = const { Self::API_KEY.info() }.version(api_version)?;
        let response = Self::read(&mut body, version)?;
        body.expect_end()?;
        Ok(response)
    }
}

/// Says which messages are an API's. In its module they are `Request` and `Response` besides, as in every other: so what
/// follows the table of APIs finds them.
macro_rules! api {
    ($api:ident: $request:ident $(<$life:lifetime>)?, $response:ident) => {
        $crate::frame::api!(@request $api $request $(<$life>)?);

        /// The API's response.
        pub type Response = $response;

        impl $crate::frame::Response for $response {
            const API_KEY: $crate::api::ApiKey = $crate::api::ApiKey::$api;
        }
    };
    ($api:ident: $request:ident $(<$life:lifetime>)?, $response:ident<$records:ident>) => {
        $crate::frame::api!(@request $api $request $(<$life>)?);

        /// The API's response, as it is read.
        pub type Response<'a> = $response<&'a [u8]>;

        impl<$records: AsRef<[u8]> + PartialEq> $crate::frame::Response for $response<$records> {
            const API_KEY: $crate::api::ApiKey = $crate::api::ApiKey::$api;
        }
    };
    (@request $api:ident $request:ident $(<$life:lifetime>)?) => {
        /// The API's request.
        pub type Request<'a> = $request $(<$life>)?;

        impl<'a> $crate::frame::Request<'a> for $request $(<$life>)? {
            const API_KEY: $crate::api::ApiKey = $crate::api::ApiKey::$api;
        }
    };
}
pub(crate) use api;

pub(crate) fn write_request<'a, T: Request<'a>>(
    request: &T,
    writer: &mut Writer,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) {
    let version = our_version(T::API_KEY, api_version);
    let header = RequestHeader {
        api_key: T::API_KEY.code(),
        api_version,
        correlation_id,
        client_id,
    };
    writer.i32(0);
    write_request_header(&header, writer, version);
    request.write(writer, version);
}

#[inline]
pub(crate) fn write_response<T: Response + ?Sized>(
    response: &T,
    writer: &mut Writer,
    api_version: i16,
    correlation_id: i32,
) {
    let version = our_version(T::API_KEY, api_version);
    writer.i32(0);
    write_response_header(correlation_id, writer, T::API_KEY, version);
    response.write(writer, version);
}

/// The version was checked when the request was decoded, or chosen by us.
fn our_version(api_key: ApiKey, api_version: i16) -> Version {
    api_key
        .info()
        .version(api_version)
        .expect("we answer and ask only in versions that we speak")
}

/// Patches the length of a flat frame.
#[inline]
fn finish(writer: Writer) -> Result<Vec<u8>, TooLarge> {
    if writer.is_beyond() {
        return Err(TooLarge);
    }
    let mut bytes = writer.into_bytes();
    put_length(&mut bytes, 0)?;
    Ok(bytes)
}

/// Cuts a vectored frame at its gaps and fills them with `records`, which yields one handle for each slice that was
/// written and is not empty, in the same order.
///
/// # Errors
/// If there was more than the writer may have, or than a length can say.
pub(crate) fn fill_gaps<R: AsRef<[u8]>>(
    writer: Writer,
    records: impl Iterator<Item = R>,
) -> Result<Vec<Piece<R>>, TooLarge> {
    if writer.is_beyond() {
        return Err(TooLarge);
    }
    let (mut bytes, gaps) = writer.into_parts();
    put_length(&mut bytes, gaps.iter().map(|gap| gap.length).sum())?;
    let mut records = records.filter(|slice| !slice.as_ref().is_empty());
    let mut pieces = Vec::with_capacity(2 * gaps.len() + 1);
    let mut start = 0;
    for gap in gaps {
        if gap.position > start {
            pieces.push(Piece::Bytes(bytes[start..gap.position].to_vec()));
            start = gap.position;
        }
        let slice = records.next().expect("a handle for each gap");
        assert_eq!(
            slice.as_ref().len(),
            gap.length,
            "a handle keeps its length while its frame is built"
        );
        pieces.push(Piece::Records(slice));
    }
    debug_assert!(records.next().is_none(), "a gap for each handle");
    if start == 0 {
        pieces.push(Piece::Bytes(bytes));
    } else if start < bytes.len() {
        pieces.push(Piece::Bytes(bytes[start..].to_vec()));
    }
    Ok(pieces)
}

#[inline]
fn put_length(bytes: &mut [u8], record_bytes: usize) -> Result<(), TooLarge> {
    let length = (bytes.len() - LENGTH_PREFIX_BYTES).saturating_add(record_bytes);
    let length = i32::try_from(length).map_err(|_| TooLarge)?;
    bytes[..LENGTH_PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::describe_groups::{DescribeGroupsResponse, DescribedGroup};
    use crate::messages::fetch::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};

    #[test]
    fn an_answer_has_its_bound_to_the_byte_and_is_refused_beyond_it() {
        let group = DescribedGroup {
            group_id: "g".repeat(1_000),
            ..DescribedGroup::default()
        };
        let response = DescribeGroupsResponse {
            groups: vec![group; 100],
            ..DescribeGroupsResponse::default()
        };
        for version in [0, 6] {
            let whole = response.encode(version, 1);
            assert!(whole.len() > 100_000);
            assert_eq!(response.encode_within(whole.len(), version, 1), Ok(whole.clone()));
            let mut used = vec![7; 5_000];
            assert_eq!(response.encode_into(&mut used, whole.len(), version, 1), Ok(()));
            assert_eq!(used, whole, "nothing is left of what was there");
            for bytes_max in [whole.len() - 1, whole.len() / 2, 4, 0] {
                assert_eq!(response.encode_within(bytes_max, version, 1), Err(TooLarge));
            }
        }
    }

    #[test]
    fn a_vectored_answer_has_a_bound_beside_its_records() {
        let partition = FetchPartitionResponse {
            records: vec![vec![7; 10_000]].into(),
            ..FetchPartitionResponse::default()
        };
        let topic = FetchTopicResponse {
            name: "t".repeat(100),
            partitions: vec![partition],
            ..FetchTopicResponse::default()
        };
        let response = FetchResponse {
            topics: vec![topic; 3],
            ..FetchResponse::default()
        };
        let pieces = |bytes_max| response.clone().encode_vectored(bytes_max, 12, 1);
        assert!(pieces(1_000).is_ok(), "records do not count");
        assert_eq!(pieces(200), Err(TooLarge));
    }

    #[test]
    fn a_frame_of_more_bytes_than_a_length_can_say_is_refused() {
        let mut bytes = vec![0; LENGTH_PREFIX_BYTES + 1];
        assert_eq!(put_length(&mut bytes, FRAME_BYTES_MAX - 1), Ok(()));
        assert_eq!(put_length(&mut bytes, FRAME_BYTES_MAX), Err(TooLarge));
        assert_eq!(put_length(&mut bytes, usize::MAX), Err(TooLarge));
    }
}
