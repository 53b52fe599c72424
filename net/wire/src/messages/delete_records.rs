//! DeleteRecords (key 21), versions 0-2.
//!
//! 1: as 0. 2: flexible.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Deletes records from the front of partitions.
    pub struct DeleteRecordsRequest<'a> {
        [..] topics: Array<'a, DeleteRecordsTopic<'a>>,
        [..] timeout_ms: i32,
    }
}

message! {
    /// Of a topic.
    pub struct DeleteRecordsTopic<'a> {
        [..] name: &'a str,
        [..] partitions: Array<'a, DeleteRecordsPartition>,
    }
}

message! {
    /// Of a partition: everything before the offset; -1: before the high watermark.
    #[derive(Copy)]
    pub struct DeleteRecordsPartition {
        [..] partition: i32,
        [..] offset: i64,
    }
}

message! {
    /// Where the logs begin now.
    pub struct DeleteRecordsResponse {
        [..] throttle_time_ms: i32,
        [..] topics: Vec<DeleteRecordsTopicResult>,
    }
}

message! {
    /// Of a topic.
    pub struct DeleteRecordsTopicResult {
        [..] name: String,
        [..] partitions: Vec<DeleteRecordsPartitionResult>,
    }
}

message! {
    /// Of a partition.
    pub struct DeleteRecordsPartitionResult {
        [..] partition: i32,
        [..] low_watermark: i64,
        [..] error_code: ErrorCode,
    }
}

api! { DeleteRecords: DeleteRecordsRequest<'a>, DeleteRecordsResponse }
