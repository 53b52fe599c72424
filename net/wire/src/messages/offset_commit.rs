//! OffsetCommit (key 8), versions 2-9.
//!
//! 3: throttle time. 5: without the retention time (KIP-211). 6: leader epochs. 7: static members (KIP-345). 8: flexible.
//! 9: the generation may be a member's epoch (KIP-848), and an unknown group has an error of its own.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Commits offsets for a group.
    pub struct OffsetCommitRequest<'a> {
        [..] group_id: &'a str,
        /// -1: the client is in no group.
        [1..] generation_id: i32 = -1,
        [1..] member_id: &'a str,
        [7..] group_instance_id: Option<&'a str>,
        /// -1: as the broker is set.
        [2..=4] retention_time_ms: i64 = -1,
        [..] topics: Array<'a, OffsetCommitTopic<'a>>,
    }
}

message! {
    /// Offsets of a topic's partitions.
    pub struct OffsetCommitTopic<'a> {
        [..] name: &'a str,
        [..] partitions: Array<'a, OffsetCommitPartition<'a>>,
    }
}

message! {
    /// The offset of the next record that a partition's consumer wants.
    pub struct OffsetCommitPartition<'a> {
        [..] partition: i32,
        [..] committed_offset: i64,
        [6..] committed_leader_epoch: i32 = -1,
        [..] committed_metadata: Option<&'a str>,
    }
}

message! {
    /// Whether they are committed.
    pub struct OffsetCommitResponse {
        [3..] throttle_time_ms: i32,
        [..] topics: Vec<OffsetCommitTopicResponse>,
    }
}

message! {
    /// Of a topic's partitions.
    pub struct OffsetCommitTopicResponse {
        [..] name: String,
        [..] partitions: Vec<OffsetCommitPartitionResponse>,
    }
}

message! {
    /// Of one partition.
    pub struct OffsetCommitPartitionResponse {
        [..] partition: i32,
        [..] error_code: ErrorCode,
    }
}

api! { OffsetCommit: OffsetCommitRequest<'a>, OffsetCommitResponse }
