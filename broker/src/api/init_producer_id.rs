//! InitProducerId (key 22), versions 0-4: an id for an idempotent producer.
//!
//! Any node answers: ids come from blocks that the control thread leases and persists, so that none is given twice.
//! A producer that names its id and epoch gets a new id, as in Kafka, which looks at them only within transactions.
//! Those do not exist yet: INVALID_REQUEST, since a retriable code would make the client try for ever.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::api::{Call, Handled, later};
use crate::shard::Shard;

/// "None" in both fields.
const NONE: i64 = -1;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: InitProducerIdRequest<'_> = call.body()?;
    if !is_valid(&request) {
        return call.ready(&failed(ErrorCode::InvalidRequest));
    }
    let caller = call.into_caller();
    later(async move {
        let response = match shard.control.producer_id().await {
            Ok(producer_id) => InitProducerIdResponse {
                producer_id,
                producer_epoch: 0,
                ..InitProducerIdResponse::default()
            },
            // The client's own code for "try again": its library knows no time-out for this request.
            Err(_) => failed(ErrorCode::CoordinatorLoadInProgress),
        };
        caller.reply(&response)
    })
}

fn is_valid(request: &InitProducerIdRequest<'_>) -> bool {
    let half_named = (request.producer_id == NONE) != (i64::from(request.producer_epoch) == NONE);
    request.transactional_id.is_none() && !half_named
}

fn failed(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactional_ids_and_half_a_producer_are_invalid() {
        let with = |transactional_id, producer_id, producer_epoch| {
            is_valid(&InitProducerIdRequest {
                transactional_id,
                producer_id,
                producer_epoch,
                ..InitProducerIdRequest::default()
            })
        };
        assert!(with(None, -1, -1));
        assert!(with(None, 5, 0));
        assert!(!with(None, 5, -1));
        assert!(!with(None, -1, 0));
        assert!(!with(Some("a"), -1, -1));
        assert!(!with(Some(""), -1, -1));
    }
}
