//! OffsetDelete (key 47), version 0 (KIP-496).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Deletes committed offsets of a group.
    pub struct OffsetDeleteRequest<'a> {
        [..] group_id: &'a str,
        [..] topics: Array<'a, OffsetDeleteTopic<'a>>,
    }
}

message! {
    /// Of a topic.
    pub struct OffsetDeleteTopic<'a> {
        [..] name: &'a str,
        [..] partitions: Array<'a, OffsetDeletePartition>,
    }
}

message! {
    /// Of a partition.
    #[derive(Copy)]
    pub struct OffsetDeletePartition {
        [..] partition: i32,
    }
}

message! {
    /// Whether they are deleted.
    pub struct OffsetDeleteResponse {
        /// For all of them.
        [..] error_code: ErrorCode,
        [..] throttle_time_ms: i32,
        [..] topics: Vec<OffsetDeleteTopicResponse>,
    }
}

message! {
    /// Of a topic.
    pub struct OffsetDeleteTopicResponse {
        [..] name: String,
        [..] partitions: Vec<OffsetDeletePartitionResponse>,
    }
}

message! {
    /// Of a partition.
    pub struct OffsetDeletePartitionResponse {
        [..] partition: i32,
        [..] error_code: ErrorCode,
    }
}

api! { OffsetDelete: OffsetDeleteRequest<'a>, OffsetDeleteResponse }
