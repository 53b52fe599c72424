//! LeaveGroup (key 13), versions 0-5: members leave, or an administrator removes static ones.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, LeftMember};

use crate::api::{Call, Handled, bound_entries};
use crate::group::machine::Identity;
use crate::shard::Shard;

/// The first version that names several members.
const FIRST_BATCH_VERSION: i16 = 3;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: LeaveGroupRequest<'_> = call.body()?;
    bound_entries([request.members.len()].into_iter())?;
    let leaving: Vec<Identity> = if call.version < FIRST_BATCH_VERSION {
        vec![Identity {
            member_id: request.member_id.to_owned(),
            group_instance_id: None,
        }]
    } else {
        let members = request.members.iter();
        members
            .map(|member| Identity {
                member_id: member.member_id.to_owned(),
                group_instance_id: member.group_instance_id.map(str::to_owned),
            })
            .collect()
    };
    let codes = if request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        let coordinator = shard.coordinator(request.group_id).await;
        coordinator.and_then(|coordinator| coordinator.leave(request.group_id, &leaving))
    };
    let response = match codes {
        Err(error_code) => LeaveGroupResponse {
            error_code,
            ..LeaveGroupResponse::default()
        },
        Ok(codes) if call.version < FIRST_BATCH_VERSION => LeaveGroupResponse {
            error_code: codes.first().copied().unwrap_or(ErrorCode::UnknownMemberId),
            ..LeaveGroupResponse::default()
        },
        Ok(codes) => LeaveGroupResponse {
            members: leaving
                .into_iter()
                .zip(codes)
                .map(|(member, error_code)| LeftMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    error_code,
                })
                .collect(),
            ..LeaveGroupResponse::default()
        },
    };
    call.ready(&response)
}
