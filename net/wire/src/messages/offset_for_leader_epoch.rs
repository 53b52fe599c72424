//! OffsetForLeaderEpoch (key 23), versions 2-4.
//!
//! 2: the client's current leader epoch, throttle time (KIP-320). 3: replica id. 4: flexible.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Asks where leader epochs end.
    pub struct OffsetForLeaderEpochRequest<'a> {
        /// A follower's node id; -1 from a consumer, -2 from a debugging tool and before version 3.
        [3..] replica_id: i32 = -2,
        [..] topics: Array<'a, OffsetForLeaderTopic<'a>>,
    }
}

message! {
    /// A topic's partitions to look into.
    pub struct OffsetForLeaderTopic<'a> {
        [..] name: &'a str,
        [..] partitions: Array<'a, OffsetForLeaderPartition>,
    }
}

message! {
    /// A partition and an epoch.
    #[derive(Copy)]
    pub struct OffsetForLeaderPartition {
        [..] partition: i32,
        [..] current_leader_epoch: i32 = -1,
        [..] leader_epoch: i32,
    }
}

message! {
    /// Where leader epochs end.
    pub struct OffsetForLeaderEpochResponse {
        [..] throttle_time_ms: i32,
        [..] topics: Vec<OffsetForLeaderTopicResponse>,
    }
}

message! {
    /// A topic's part of the answer.
    pub struct OffsetForLeaderTopicResponse {
        [..] name: String,
        [..] partitions: Vec<OffsetForLeaderPartitionResponse>,
    }
}

message! {
    /// The greatest epoch at or below the one asked for, and its end offset. -1 when there is none.
    #[derive(Copy)]
    pub struct OffsetForLeaderPartitionResponse {
        [..] error_code: ErrorCode,
        [..] partition: i32,
        [..] leader_epoch: i32 = -1,
        [..] end_offset: i64 = -1,
    }
}

api! { OffsetForLeaderEpoch: OffsetForLeaderEpochRequest<'a>, OffsetForLeaderEpochResponse }
