//! OffsetFetch (key 9), versions 1-9.
//!
//! 2: all partitions, and an error for the whole. 3: throttle time. 5: leader epochs. 6: flexible. 7: only stable offsets
//! (KIP-447). 8: many groups at once (KIP-709). 9: members and their epochs (KIP-848).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Asks what groups have committed: one group in the fields up to version 7, many in the list from 8 on.
    pub struct OffsetFetchRequest<'a> {
        [..=7] group_id: &'a str,
        /// Null: all.
        [..=7, null 2..] topics: Option<Array<'a, OffsetFetchTopic<'a>>> = Some(Array::from_slice(&[])),
        [8..] groups: Array<'a, OffsetFetchGroup<'a>>,
        [7..] require_stable: bool,
    }
}

message! {
    /// A group, and the partitions in question.
    pub struct OffsetFetchGroup<'a> {
        [8..] group_id: &'a str,
        [9..] member_id: Option<&'a str>,
        [9..] member_epoch: i32 = -1,
        /// Null: all.
        [8..] topics: Option<Array<'a, OffsetFetchTopic<'a>>>,
    }
}

message! {
    /// Partitions of a topic.
    pub struct OffsetFetchTopic<'a> {
        [..] name: &'a str,
        [..] partition_indexes: Array<'a, i32>,
    }
}

message! {
    /// What they have committed.
    pub struct OffsetFetchResponse {
        [3..] throttle_time_ms: i32,
        [..=7] topics: Vec<OffsetFetchTopicResponse>,
        [2..=7] error_code: ErrorCode,
        [8..] groups: Vec<OffsetFetchGroupResponse>,
    }
}

message! {
    /// Of a group.
    pub struct OffsetFetchGroupResponse {
        [8..] group_id: String,
        [8..] topics: Vec<OffsetFetchTopicResponse>,
        [8..] error_code: ErrorCode,
    }
}

message! {
    /// Of a topic.
    pub struct OffsetFetchTopicResponse {
        [..] name: String,
        [..] partitions: Vec<OffsetFetchPartitionResponse>,
    }
}

message! {
    /// Of a partition. An offset of -1: nothing is committed.
    pub struct OffsetFetchPartitionResponse {
        [..] partition: i32,
        [..] committed_offset: i64,
        [5..] committed_leader_epoch: i32 = -1,
        [..] metadata: Option<String>,
        [..] error_code: ErrorCode,
    }
}

api! { OffsetFetch: OffsetFetchRequest<'a>, OffsetFetchResponse }
