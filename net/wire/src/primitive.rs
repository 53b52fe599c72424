//! Kafka's primitive types: a bounded reader, a writer, and the 128-bit id.

mod byte_string;
mod reader;
pub mod sequence;
mod uuid;
mod writer;

pub use byte_string::ByteString;
pub use reader::{MAX_STRING_BYTES, MAX_TAGGED_FIELDS, Reader};
pub use uuid::Uuid;
pub use writer::Writer;
pub(crate) use writer::{FRAME_BYTES_MAX, TaggedFields};
