//! The errors of this room.

/// Why bytes from a peer could not be read. Nothing here is our fault, and nothing here is a reason to panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does. The frame was complete, so the peer lied about a length.
    #[error("the frame ends early: {needed} more bytes were needed and {remaining} were left")]
    Short {
        /// Bytes that the value needed.
        needed: usize,
        /// Bytes that were there.
        remaining: usize,
    },
    /// The bytes are there and break a rule of the protocol.
    #[error("malformed request: {what}")]
    Malformed {
        /// The rule that was broken.
        what: &'static str,
    },
    /// An API that we do not speak, or a version of it that we do not speak.
    #[error("version {version} of API key {api_key} is not supported")]
    UnsupportedVersion {
        /// The API key of the request.
        api_key: i16,
        /// The version of the request.
        version: i16,
    },
}

/// A frame of ours would be larger than it may be. Whoever asks for it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame would be larger than it may be")]
pub struct TooLarge;

/// Shorthand for the readers of this room.
#[inline]
pub(crate) fn malformed<T>(what: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Malformed { what })
}
