//! CreateTopics (key 19), versions 2-7.
//!
//! 2: throttle time. 3: as Produce 6. 4: partitions and replication factor may be left to the broker (KIP-464).
//! 5: flexible; the answer holds partitions, replication factor and configs (KIP-525). 6: THROTTLING_QUOTA_EXCEEDED.
//! 7: topic id in the answer.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::Uuid;
use crate::schema::message;

message! {
    /// Topics to create.
    pub struct CreateTopicsRequest<'a> {
        [..] topics: Array<'a, CreatableTopic<'a>>,
        [..] timeout_ms: i32 = 60_000,
        [..] validate_only: bool,
    }
}

message! {
    /// A topic to create.
    pub struct CreatableTopic<'a> {
        [..] name: &'a str,
        /// -1 for the broker's default, or when `assignments` says it.
        [..] num_partitions: i32,
        /// -1 for the broker's default, or when `assignments` says it.
        [..] replication_factor: i16,
        [..] assignments: Array<'a, CreatableReplicaAssignment<'a>>,
        [..] configs: Array<'a, CreatableTopicConfig<'a>>,
    }
}

message! {
    /// Where a partition's replicas shall be.
    pub struct CreatableReplicaAssignment<'a> {
        [..] partition: i32,
        [..] broker_ids: Array<'a, i32>,
    }
}

message! {
    /// A config to set.
    pub struct CreatableTopicConfig<'a> {
        [..] name: &'a str,
        [..] value: Option<&'a str>,
    }
}

message! {
    /// What was created.
    pub struct CreateTopicsResponse {
        [..] throttle_time_ms: i32,
        [..] topics: Vec<CreatableTopicResult>,
    }
}

message! {
    /// A topic's part of the answer.
    pub struct CreatableTopicResult {
        [..] name: String,
        [7..] topic_id: Uuid,
        [..] error_code: ErrorCode,
        [..] error_message: Option<String>,
        /// Why the configs are not listed.
        [5.., tag 0] topic_config_error_code: ErrorCode,
        [5..] num_partitions: i32 = -1,
        [5..] replication_factor: i16 = -1,
        [5..] configs: Option<Vec<CreatableTopicConfigResult>>,
    }
}

message! {
    /// A config of the new topic.
    pub struct CreatableTopicConfigResult {
        [..] name: String,
        [..] value: Option<String>,
        [..] read_only: bool,
        /// 1: set on the topic; 4: set on the broker; 5: default.
        [..] config_source: i8 = -1,
        [..] is_sensitive: bool,
    }
}

api! { CreateTopics: CreateTopicsRequest<'a>, CreateTopicsResponse }
