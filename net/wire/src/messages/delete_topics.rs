//! DeleteTopics (key 20), versions 1-6.
//!
//! 1: throttle time. 2: as Produce 6. 3: TOPIC_DELETION_DISABLED. 4: flexible. 5: error message. 6: topics may be
//! deleted by id (KIP-516).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::Uuid;
use crate::schema::message;

message! {
    /// Topics to delete: in `topic_names` up to version 5, in `topics` from 6 on.
    pub struct DeleteTopicsRequest<'a> {
        [6..] topics: Array<'a, DeleteTopicState<'a>>,
        [..=5] topic_names: Array<'a, &'a str>,
        [..] timeout_ms: i32,
    }
}

message! {
    /// A topic to delete, by name or by id.
    pub struct DeleteTopicState<'a> {
        [..] name: Option<&'a str>,
        [..] topic_id: Uuid,
    }
}

message! {
    /// What was deleted.
    pub struct DeleteTopicsResponse {
        [..] throttle_time_ms: i32,
        [..] topics: Vec<DeletableTopicResult>,
    }
}

message! {
    /// A topic's part of the answer.
    pub struct DeletableTopicResult {
        [.., null 6..] name: Option<String>,
        [6..] topic_id: Uuid,
        [..] error_code: ErrorCode,
        [5..] error_message: Option<String>,
    }
}

api! { DeleteTopics: DeleteTopicsRequest<'a>, DeleteTopicsResponse }
