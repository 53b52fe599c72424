//! The headers of requests and responses.
//!
//! A request header is version 1, or 2 (with tagged fields) when the request's version is flexible; its client id is
//! in the old string form in both. A response header is version 0, or 1 (with tagged fields) for flexible versions,
//! but always 0 for ApiVersions, whose caller does not know yet what we speak (KIP-511).

use crate::api::ApiKey;
use crate::error::DecodeError;
use crate::primitive::{Reader, Writer};
use crate::schema::Version;

/// What precedes every request. The key and the version are as the client sent them: perhaps ones that we do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API key, to be looked up by [`ApiKey::from_code`].
    pub api_key: i16,
    /// The version in which the request is written, and the response shall be.
    pub api_version: i16,
    /// Returned with the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<&'a str>,
}

/// Reads the header of `frame` (without its length prefix) and returns the reader at the body.
///
/// An API or a version that we do not speak is no error here, so that the caller can answer an unknown ApiVersions
/// version with a version 0 response and error 35; the body's `decode` is what refuses it.
#[inline]
pub fn decode_request_header(frame: &[u8]) -> Result<(RequestHeader<'_>, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader {
        api_key: reader.i16()?,
        api_version: reader.i16()?,
        correlation_id: reader.i32()?,
        client_id: reader.nullable_string(false)?,
    };
    if let Some(key) = ApiKey::from_code(header.api_key)
        && key
            .info()
            .version(header.api_version)
            .is_ok_and(|version| version.flexible)
    {
        reader.skip_tagged_fields()?;
    }
    Ok((header, reader))
}

pub(crate) fn write_request_header(header: &RequestHeader<'_>, writer: &mut Writer, version: Version) {
    writer.i16(header.api_key);
    writer.i16(header.api_version);
    writer.i32(header.correlation_id);
    writer.nullable_string(header.client_id, false);
    if version.flexible {
        writer.unsigned_varint(0);
    }
}

/// Reads the header of a response `frame` (without its length prefix): the correlation id, and the reader at the body.
pub fn decode_response_header(
    frame: &[u8],
    api_key: ApiKey,
    api_version: i16,
) -> Result<(i32, Reader<'_>), DecodeError> {
    let version = api_key.info().version(api_version)?;
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    if response_header_has_tags(api_key, version) {
        reader.skip_tagged_fields()?;
    }
    Ok((correlation_id, reader))
}

#[inline]
pub(crate) fn write_response_header(
    correlation_id: i32,
    writer: &mut Writer,
    api_key: ApiKey,
    version: Version,
) {
    writer.i32(correlation_id);
    if response_header_has_tags(api_key, version) {
        writer.unsigned_varint(0);
    }
}

#[inline]
fn response_header_has_tags(api_key: ApiKey, version: Version) -> bool {
    version.flexible && api_key != ApiKey::ApiVersions
}
