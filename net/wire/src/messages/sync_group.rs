//! SyncGroup (key 14), versions 0-5.
//!
//! 1: throttle time. 3: static members (KIP-345). 4: flexible. 5: the protocol is named, in both directions (KIP-559).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::ByteString;
use crate::schema::message;

message! {
    /// Asks for an assignment; the leader brings everybody's.
    pub struct SyncGroupRequest<'a> {
        [..] group_id: &'a str,
        [..] generation_id: i32,
        [..] member_id: &'a str,
        [3..] group_instance_id: Option<&'a str>,
        [5..] protocol_type: Option<&'a str>,
        [5..] protocol_name: Option<&'a str>,
        [..] assignments: Array<'a, SyncGroupAssignment<'a>>,
    }
}

message! {
    /// What a member shall do.
    pub struct SyncGroupAssignment<'a> {
        [..] member_id: &'a str,
        [..] assignment: &'a [u8],
    }
}

message! {
    /// What the member shall do.
    pub struct SyncGroupResponse {
        [1..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
        [5..] protocol_type: Option<String>,
        [5..] protocol_name: Option<String>,
        [..] assignment: ByteString,
    }
}

api! { SyncGroup: SyncGroupRequest<'a>, SyncGroupResponse }
