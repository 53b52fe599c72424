//! JoinGroup (key 11), versions 0-9.
//!
//! 1: the rebalance timeout. 2: throttle time. 4: a member without an id is given one first (KIP-394). 5: static members
//! (KIP-345). 6: flexible. 7: the answer names the protocol type. 8: the reason (KIP-800). 9: the leader may be told to
//! leave the assignment (KIP-814).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::ByteString;
use crate::schema::message;

message! {
    /// Joins a group, or joins it again.
    pub struct JoinGroupRequest<'a> {
        [..] group_id: &'a str,
        [..] session_timeout_ms: i32,
        /// Before version 1 it is the session timeout.
        [1..] rebalance_timeout_ms: i32 = -1,
        /// Empty: a member that has none.
        [..] member_id: &'a str,
        [5..] group_instance_id: Option<&'a str>,
        [..] protocol_type: &'a str,
        [..] protocols: Array<'a, JoinGroupProtocol<'a>>,
        [8..] reason: Option<&'a str>,
    }
}

message! {
    /// A way to share the work that the member knows.
    pub struct JoinGroupProtocol<'a> {
        [..] name: &'a str,
        [..] metadata: &'a [u8],
    }
}

message! {
    /// The generation that the member is in.
    pub struct JoinGroupResponse {
        [2..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
        [..] generation_id: i32 = -1,
        [7..] protocol_type: Option<String>,
        [.., null 7..] protocol_name: Option<String>,
        [..] leader: String,
        [9..] skip_assignment: bool,
        [..] member_id: String,
        /// All members, for the leader.
        [..] members: Vec<JoinGroupMember>,
    }
}

message! {
    /// A member, for the leader.
    pub struct JoinGroupMember {
        [..] member_id: String,
        [5..] group_instance_id: Option<String>,
        [..] metadata: ByteString,
    }
}

api! { JoinGroup: JoinGroupRequest<'a>, JoinGroupResponse }
