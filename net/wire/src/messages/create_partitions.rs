//! CreatePartitions (key 37), versions 0-3.
//!
//! 1: as 0. 2: flexible. 3: clients know THROTTLING_QUOTA_EXCEEDED.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Adds partitions to topics.
    pub struct CreatePartitionsRequest<'a> {
        [..] topics: Array<'a, CreatePartitionsTopic<'a>>,
        [..] timeout_ms: i32,
        [..] validate_only: bool,
    }
}

message! {
    /// A topic, and how many partitions it shall have.
    pub struct CreatePartitionsTopic<'a> {
        [..] name: &'a str,
        [..] count: i32,
        /// Of each new partition; null: the broker chooses.
        [..] assignments: Option<Array<'a, CreatePartitionsAssignment<'a>>>,
    }
}

message! {
    /// The nodes of a new partition.
    pub struct CreatePartitionsAssignment<'a> {
        [..] broker_ids: Array<'a, i32>,
    }
}

message! {
    /// What came of it.
    pub struct CreatePartitionsResponse {
        [..] throttle_time_ms: i32,
        [..] results: Vec<CreatePartitionsResult>,
    }
}

message! {
    /// Of a topic.
    pub struct CreatePartitionsResult {
        [..] name: String,
        [..] error_code: ErrorCode,
        [..] error_message: Option<String>,
    }
}

api! { CreatePartitions: CreatePartitionsRequest<'a>, CreatePartitionsResponse }
