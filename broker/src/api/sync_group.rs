//! SyncGroup (key 14), versions 0-5: a member asks for its assignment; the leader brings everybody's.
//!
//! The answer waits until the leader's assignment is durable.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use crate::api::{Call, Handled, bound_entries, long_poll};
use crate::group::machine::{Identity, SyncRequest, Synced};
use crate::group::member::Opaque;
use crate::shard::Shard;

/// The first version that must name the protocol (KIP-559).
const FIRST_PROTOCOL_VERSION: i16 = 5;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: SyncGroupRequest<'_> = call.body()?;
    bound_entries([request.assignments.len()].into_iter())?;
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let coordinator = if call.version >= FIRST_PROTOCOL_VERSION && !names_protocol {
        Err(ErrorCode::InconsistentGroupProtocol)
    } else if request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        shard.coordinator(request.group_id).await
    };
    match coordinator {
        Ok(coordinator) => {
            let assignments = request.assignments.iter();
            let sync = SyncRequest {
                member: Identity {
                    member_id: request.member_id.to_owned(),
                    group_instance_id: request.group_instance_id.map(str::to_owned),
                },
                generation: request.generation_id,
                protocol_type: request.protocol_type.map(str::to_owned),
                protocol: request.protocol_name.map(str::to_owned),
                assignments: assignments
                    .map(|one| (one.member_id.to_owned(), Opaque::from(one.assignment)))
                    .collect(),
                // The coordinator knows.
                room_bytes: 0,
            };
            let waiting = coordinator.sync(request.group_id, sync);
            let caller = call.into_caller();
            long_poll(async move {
                let synced = waiting.told(|bytes| shard.room_for_answer(bytes)).await;
                let synced = synced.unwrap_or_else(|| Synced::refused(ErrorCode::NotCoordinator));
                caller.reply(&response(synced))
            })
        }
        Err(error) => call.ready(&response(Synced::refused(error))),
    }
}

fn response(synced: Synced) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: synced.error_code,
        protocol_type: synced.protocol_type,
        protocol_name: synced.protocol,
        assignment: (&*synced.assignment).into(),
        ..SyncGroupResponse::default()
    }
}
