//! Heartbeat (key 12), versions 0-4.
//!
//! 1: throttle time. 3: static members (KIP-345). 4: flexible.

use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Says that a member is there.
    pub struct HeartbeatRequest<'a> {
        [..] group_id: &'a str,
        [..] generation_id: i32,
        [..] member_id: &'a str,
        [3..] group_instance_id: Option<&'a str>,
    }
}

message! {
    /// Whether its generation still is the group's.
    pub struct HeartbeatResponse {
        [1..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
    }
}

api! { Heartbeat: HeartbeatRequest<'a>, HeartbeatResponse }
