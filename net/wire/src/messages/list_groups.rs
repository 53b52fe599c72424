//! ListGroups (key 16), versions 0-5.
//!
//! 1: throttle time. 3: flexible. 4: by state (KIP-518). 5: by type (KIP-848).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Asks for the groups that the node coordinates.
    pub struct ListGroupsRequest<'a> {
        /// None: all.
        [4..] states_filter: Array<'a, &'a str>,
        /// None: all.
        [5..] types_filter: Array<'a, &'a str>,
    }
}

message! {
    /// The groups.
    pub struct ListGroupsResponse {
        [1..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
        [..] groups: Vec<ListedGroup>,
    }
}

message! {
    /// One of them.
    pub struct ListedGroup {
        [..] group_id: String,
        [..] protocol_type: String,
        [4..] group_state: String,
        [5..] group_type: String,
    }
}

api! { ListGroups: ListGroupsRequest<'a>, ListGroupsResponse }
