//! InitProducerId (key 22), versions 0-4.
//!
//! 1: as Produce 6. 2: flexible. 3: a producer may name its id and epoch to raise the epoch (KIP-360). 4:
//! PRODUCER_FENCED.

use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Asks for a producer id.
    pub struct InitProducerIdRequest<'a> {
        [..] transactional_id: Option<&'a str>,
        [..] transaction_timeout_ms: i32,
        [3..] producer_id: i64 = -1,
        [3..] producer_epoch: i16 = -1,
    }
}

message! {
    /// A producer id.
    #[derive(Copy)]
    pub struct InitProducerIdResponse {
        [..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
        [..] producer_id: i64 = -1,
        [..] producer_epoch: i16,
    }
}

api! { InitProducerId: InitProducerIdRequest<'a>, InitProducerIdResponse }
