//! DescribeTopicPartitions (key 75), version 0 (KIP-966): topics page by page.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::Uuid;
use crate::schema::{NullableStruct, message};

message! {
    /// Asks for topics, from a place on.
    pub struct DescribeTopicPartitionsRequest<'a> {
        /// None: all.
        [..] topics: Array<'a, DescribeTopicPartitionsTopic<'a>>,
        [..] response_partition_limit: i32 = 2_000,
        /// Where to begin.
        [..] cursor: NullableStruct<PartitionCursor<'a>>,
    }
}

message! {
    /// A topic to describe.
    pub struct DescribeTopicPartitionsTopic<'a> {
        [..] name: &'a str,
    }
}

message! {
    /// A place in the order of topics and partitions, as a request gives it.
    pub struct PartitionCursor<'a> {
        [..] topic_name: &'a str,
        [..] partition_index: i32,
    }
}

message! {
    /// A page of topics.
    pub struct DescribeTopicPartitionsResponse {
        [..] throttle_time_ms: i32,
        [..] topics: Vec<DescribedTopic>,
        /// Where the next page begins; null on the last.
        [..] next_cursor: NullableStruct<NextPartitionCursor>,
    }
}

message! {
    /// A topic.
    pub struct DescribedTopic {
        [..] error_code: ErrorCode,
        [..] name: Option<String>,
        [..] topic_id: Uuid,
        [..] is_internal: bool,
        [..] partitions: Vec<DescribedPartition>,
        [..] topic_authorized_operations: i32 = i32::MIN,
    }
}

message! {
    /// A partition.
    pub struct DescribedPartition {
        [..] error_code: ErrorCode,
        [..] partition_index: i32,
        [..] leader_id: i32,
        [..] leader_epoch: i32 = -1,
        [..] replica_nodes: Vec<i32>,
        [..] isr_nodes: Vec<i32>,
        [..] eligible_leader_replicas: Option<Vec<i32>>,
        [..] last_known_elr: Option<Vec<i32>>,
        [..] offline_replicas: Vec<i32>,
    }
}

message! {
    /// A place in the order of topics and partitions, as a response gives it.
    pub struct NextPartitionCursor {
        [..] topic_name: String,
        [..] partition_index: i32,
    }
}

api! { DescribeTopicPartitions: DescribeTopicPartitionsRequest<'a>, DescribeTopicPartitionsResponse }
