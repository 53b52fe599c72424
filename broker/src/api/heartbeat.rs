//! Heartbeat (key 12), versions 0-4: a member is there, and learns whether its generation still is the group's.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use crate::api::{Call, Handled};
use crate::group::machine::Identity;
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: HeartbeatRequest<'_> = call.body()?;
    let error_code = if request.group_id.is_empty() {
        ErrorCode::InvalidGroupId
    } else {
        match shard.coordinator(request.group_id).await {
            Ok(coordinator) => {
                let from = Identity {
                    member_id: request.member_id.to_owned(),
                    group_instance_id: request.group_instance_id.map(str::to_owned),
                };
                coordinator.heartbeat(request.group_id, &from, request.generation_id)
            }
            Err(error) => error,
        }
    };
    call.ready(&HeartbeatResponse {
        error_code,
        ..HeartbeatResponse::default()
    })
}
