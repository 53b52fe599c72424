//! LeaveGroup (key 13), versions 0-5.
//!
//! 1: throttle time. 3: several members at once, static ones too (KIP-345). 4: flexible. 5: reasons (KIP-800).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Members leave a group.
    pub struct LeaveGroupRequest<'a> {
        [..] group_id: &'a str,
        [..=2] member_id: &'a str,
        [3..] members: Array<'a, LeavingMember<'a>>,
    }
}

message! {
    /// A member that leaves.
    pub struct LeavingMember<'a> {
        /// Empty: the static member of that instance id.
        [3..] member_id: &'a str,
        [3..] group_instance_id: Option<&'a str>,
        [5..] reason: Option<&'a str>,
    }
}

message! {
    /// Whether they have left.
    pub struct LeaveGroupResponse {
        [1..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
        [3..] members: Vec<LeftMember>,
    }
}

message! {
    /// A member, and whether it has left.
    pub struct LeftMember {
        [3..] member_id: String,
        [3..] group_instance_id: Option<String>,
        [3..] error_code: ErrorCode,
    }
}

api! { LeaveGroup: LeaveGroupRequest<'a>, LeaveGroupResponse }
