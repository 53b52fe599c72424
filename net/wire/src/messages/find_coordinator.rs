//! FindCoordinator (key 10), versions 0-6.
//!
//! 1: key type, throttle time, error message. 2: as Produce 6. 3: flexible. 4: many keys at once (KIP-699). 5: clients
//! know TRANSACTION_ABORTABLE (KIP-890). 6: share groups (KIP-932).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

/// The key is a group id.
pub const KEY_TYPE_GROUP: i8 = 0;
/// The key is a transactional id.
pub const KEY_TYPE_TRANSACTION: i8 = 1;
/// The key is a share partition.
pub const KEY_TYPE_SHARE: i8 = 2;

message! {
    /// Asks which node coordinates.
    pub struct FindCoordinatorRequest<'a> {
        [..=3] key: &'a str,
        [1..] key_type: i8,
        [4..] coordinator_keys: Array<'a, &'a str>,
    }
}

message! {
    /// Which node coordinates: in the fields of this struct up to version 3, in the list from 4 on.
    pub struct FindCoordinatorResponse {
        [1..] throttle_time_ms: i32,
        [..=3] error_code: ErrorCode,
        [1..=3] error_message: Option<String>,
        [..=3] node_id: i32,
        [..=3] host: String,
        [..=3] port: i32,
        [4..] coordinators: Vec<Coordinator>,
    }
}

message! {
    /// The coordinator of a key.
    pub struct Coordinator {
        [..] key: String,
        [..] node_id: i32,
        [..] host: String,
        [..] port: i32,
        [..] error_code: ErrorCode,
        [..] error_message: Option<String>,
    }
}

api! { FindCoordinator: FindCoordinatorRequest<'a>, FindCoordinatorResponse }
