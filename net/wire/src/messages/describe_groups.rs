//! DescribeGroups (key 15), versions 0-6.
//!
//! 1: throttle time. 3: what the client may do. 4: static members (KIP-345). 5: flexible. 6: an unknown group is an
//! error (KIP-1043).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::ByteString;
use crate::schema::message;

message! {
    /// Asks for groups with their members.
    pub struct DescribeGroupsRequest<'a> {
        [..] groups: Array<'a, &'a str>,
        [3..] include_authorized_operations: bool,
    }
}

message! {
    /// The groups.
    pub struct DescribeGroupsResponse {
        [1..] throttle_time_ms: i32,
        [..] groups: Vec<DescribedGroup>,
    }
}

message! {
    /// One of them.
    pub struct DescribedGroup {
        [..] error_code: ErrorCode,
        [6..] error_message: Option<String>,
        [..] group_id: String,
        [..] group_state: String,
        [..] protocol_type: String,
        [..] protocol_data: String,
        [..] members: Vec<DescribedMember>,
        [3..] authorized_operations: i32 = i32::MIN,
    }
}

message! {
    /// A member of it.
    pub struct DescribedMember {
        [..] member_id: String,
        [4..] group_instance_id: Option<String>,
        [..] client_id: String,
        [..] client_host: String,
        [..] member_metadata: ByteString,
        [..] member_assignment: ByteString,
    }
}

api! { DescribeGroups: DescribeGroupsRequest<'a>, DescribeGroupsResponse }
