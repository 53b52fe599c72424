//! Kafka's protocol: what the bytes of requests and responses mean.
//!
//! Owns the schemas, the record-batch format and the error codes. Promises that bytes from a peer are never believed:
//! every length is compared with what remains, nothing is allocated by a number from the wire, and nothing panics.
//! Must never do I/O or know about the broker.
//!
//! - A request is a borrowed view, `Copy`, decoded without allocation. Its arrays are lazy ([`Array`]) and were checked
//!   when the request was decoded. A client builds the same struct over slices and encodes it.
//! - A response is an owned struct with `Vec`s. It encodes to one buffer, length prefix included; a Fetch response to a
//!   list of [`Piece`]s, with the record data never copied.
//! - All versions of a message are one struct. A field that a version lacks keeps its default.
//! - To add an API: a line in [`for_each_api!`], the file in `messages/` that it names, its fields in
//!   `differential/mirror.rs`.
//!
//! ```
//! use wire::messages::fetch::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};
//! use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceTopic};
//! use wire::{Array, Piece, Request, decode_request_header};
//!
//! // A client's frame. `[4..]` leaves out the length prefix, as a connection does.
//! let partitions = [ProducePartition { partition: 2, records: Some(b"a batch") }];
//! let topics = [ProduceTopic { name: "orders", partitions: Array::from_slice(&partitions) }];
//! let request =
//!     ProduceRequest { acks: -1, timeout_ms: 1_000, topics: Array::from_slice(&topics), ..Default::default() };
//! let frame = request.encode(9, 42, Some("example"));
//!
//! // The broker reads it in place.
//! let (header, body) = decode_request_header(&frame[4..])?;
//! let request = ProduceRequest::decode(body, header.api_version)?;
//! for topic in request.topics {
//!     for partition in topic.partitions {
//!         assert_eq!((topic.name, partition.partition), ("orders", 2));
//!         assert_eq!(partition.records, Some(&b"a batch"[..]));
//!     }
//! }
//!
//! // A Fetch answer keeps its handles to record data (here `Vec<u8>`, in the broker a slice of a DMA buffer).
//! let partition = FetchPartitionResponse {
//!     partition: 2,
//!     high_watermark: 10,
//!     records: vec![b"batch one".to_vec(), b"batch two".to_vec()].into(),
//!     ..Default::default()
//! };
//! let topic = FetchTopicResponse { name: "orders".into(), partitions: vec![partition], ..Default::default() };
//! let response = FetchResponse { topics: vec![topic], ..Default::default() };
//! let pieces = response.encode_vectored(1 << 20, 11, header.correlation_id)?;
//! assert!(matches!(&pieces[..], [Piece::Bytes(_), Piece::Records(_), Piece::Records(_)]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod api;
pub mod array;
pub mod batch_builder;
pub mod compression;
mod crc;
#[cfg(test)]
mod differential;
pub mod error;
pub mod error_code;
pub mod frame;
pub mod group_record;
pub mod header;
pub mod messages;
pub mod primitive;
pub mod record;
pub mod record_batch;
pub mod rewritten_batch;
pub mod schema;

pub use api::{API_TABLE, ApiInfo, ApiKey};
pub use array::Array;
pub use batch_builder::BatchBuilder;
pub use compression::{Compression, CompressionError, Compressor, Decompressor};
pub use crc::{crc32c, crc32c_append};
pub use error::{DecodeError, TooLarge};
pub use error_code::ErrorCode;
pub use frame::{LENGTH_PREFIX_BYTES, Piece, Records, Request, Response};
pub use header::{RequestHeader, decode_request_header, decode_response_header};
pub use primitive::{ByteString, Reader, Uuid, Writer};
pub use record::{NewRecord, Record, RecordHeader, records};
pub use record_batch::{BatchError, BatchHeader, RecordBatch};
