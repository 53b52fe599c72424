//! ListOffsets (key 2), versions 1-7.
//!
//! 1: one offset for each timestamp (KIP-79). 2: isolation level, throttle time. 3: as Produce 6. 4: leader epochs
//! (KIP-320). 5: no change. 6: flexible. 7: the offset of the greatest timestamp may be asked for (KIP-734).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

/// Asks for the end of the log (or the last stable offset for read_committed).
pub const LATEST_TIMESTAMP: i64 = -1;
/// Asks for the log start offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// Asks for the record with the greatest timestamp (version 7).
pub const MAX_TIMESTAMP: i64 = -3;

message! {
    /// Asks for offsets by time.
    pub struct ListOffsetsRequest<'a> {
        [..] replica_id: i32 = -1,
        [2..] isolation_level: i8,
        [..] topics: Array<'a, ListOffsetsTopic<'a>>,
    }
}

message! {
    /// A topic's partitions to look into.
    pub struct ListOffsetsTopic<'a> {
        [..] name: &'a str,
        [..] partitions: Array<'a, ListOffsetsPartition>,
    }
}

message! {
    /// A partition to look into.
    #[derive(Copy)]
    pub struct ListOffsetsPartition {
        [..] partition: i32,
        [4..] current_leader_epoch: i32 = -1,
        /// Milliseconds since 1970, or one of the negative constants beside this struct.
        [..] timestamp: i64,
    }
}

message! {
    /// Offsets by time.
    pub struct ListOffsetsResponse {
        [2..] throttle_time_ms: i32,
        [..] topics: Vec<ListOffsetsTopicResponse>,
    }
}

message! {
    /// A topic's part of the answer.
    pub struct ListOffsetsTopicResponse {
        [..] name: String,
        [..] partitions: Vec<ListOffsetsPartitionResponse>,
    }
}

message! {
    /// A partition's part of the answer: -1 where nothing was found.
    #[derive(Copy)]
    pub struct ListOffsetsPartitionResponse {
        [..] partition: i32,
        [..] error_code: ErrorCode,
        [..] timestamp: i64 = -1,
        [..] offset: i64 = -1,
        [4..] leader_epoch: i32 = -1,
    }
}

api! { ListOffsets: ListOffsetsRequest<'a>, ListOffsetsResponse }
