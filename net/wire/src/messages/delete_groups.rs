//! DeleteGroups (key 42), versions 0-2.
//!
//! 1: as 0. 2: flexible.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Deletes groups that have no members.
    pub struct DeleteGroupsRequest<'a> {
        [..] groups_names: Array<'a, &'a str>,
    }
}

message! {
    /// Whether they are deleted.
    pub struct DeleteGroupsResponse {
        [..] throttle_time_ms: i32,
        [..] results: Vec<DeletedGroup>,
    }
}

message! {
    /// One of them.
    pub struct DeletedGroup {
        [..] group_id: String,
        [..] error_code: ErrorCode,
    }
}

api! { DeleteGroups: DeleteGroupsRequest<'a>, DeleteGroupsResponse }
