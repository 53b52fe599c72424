//! JoinGroup (key 11), versions 0-9: a member joins a group, and is told its generation when all have joined.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::join_group::{JoinGroupMember, JoinGroupRequest, JoinGroupResponse};
use wire::primitive::MAX_STRING_BYTES;

use crate::api::{Call, Handled, bound_entries, long_poll};
use crate::group::machine::{JoinRequest, Joined};
use crate::group::member::{Client, Opaque, Protocol};
use crate::shard::Shard;

/// The first version whose clients join twice, the second time with an id (KIP-394).
const FIRST_KNOWN_ID_VERSION: i16 = 4;
/// The first version whose leaders can skip the assignment (KIP-814).
const FIRST_SKIP_VERSION: i16 = 9;
/// The first version that has a rebalance timeout.
const FIRST_REBALANCE_TIMEOUT_VERSION: i16 = 1;
/// What a member says of itself, in bytes: it is written to the log with the whole group's.
const METADATA_BYTES_MAX: usize = 1 << 20;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: JoinGroupRequest<'_> = call.body()?;
    bound_entries([request.protocols.len()].into_iter())?;
    let coordinator = match check(&shard, &request) {
        Ok(()) => shard.coordinator(request.group_id).await,
        Err(error) => Err(error),
    };
    match coordinator {
        Ok(coordinator) => {
            let join = join_request(&call, &request);
            if join.member_id.is_empty() && join.new_member_id.len() > MAX_STRING_BYTES {
                // Kafka fails inside when it is to tell such an id.
                return call.ready(&response(Joined::refused(ErrorCode::UnknownServerError, "")));
            }
            let waiting = coordinator.join(request.group_id, join);
            let caller = call.into_caller();
            long_poll(async move {
                let joined = waiting.told(|bytes| shard.room_for_answer(bytes)).await;
                let joined = joined.unwrap_or_else(|| Joined::refused(ErrorCode::NotCoordinator, ""));
                caller.reply(&response(joined))
            })
        }
        Err(error) => {
            let refused = Joined::refused(error, request.member_id);
            call.ready(&response(refused))
        }
    }
}

fn check(shard: &Shard, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
    let settings = &shard.settings.groups;
    let timeouts = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    if !timeouts.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let protocols = request.protocols.iter();
    let said = protocols.map(|protocol| protocol.name.len().saturating_add(protocol.metadata.len()));
    if said.fold(0usize, usize::saturating_add) > METADATA_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

fn join_request(call: &Call, request: &JoinGroupRequest<'_>) -> JoinRequest {
    let client_id = call.client_id().unwrap_or_default();
    let prefix = request.group_instance_id.unwrap_or(client_id);
    let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
    let mut names = std::collections::BTreeSet::new();
    for protocol in request.protocols.iter() {
        if names.insert(protocol.name) {
            protocols.push(Protocol {
                name: protocol.name.to_owned(),
                metadata: Opaque::from(protocol.metadata),
            });
        }
    }
    protocols.shrink_to_fit();
    JoinRequest {
        member_id: request.member_id.to_owned(),
        new_member_id: format!("{prefix}-{}", random_uuid()),
        client: Client {
            group_instance_id: request.group_instance_id.map(str::to_owned),
            client_id: client_id.to_owned(),
            client_host: call.client_host(),
        },
        rebalance_timeout_ms: if call.version < FIRST_REBALANCE_TIMEOUT_VERSION {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        session_timeout_ms: request.session_timeout_ms,
        protocol_type: request.protocol_type.to_owned(),
        protocols,
        must_know_its_id: call.version >= FIRST_KNOWN_ID_VERSION,
        can_skip_assignment: call.version >= FIRST_SKIP_VERSION,
        // The coordinator knows.
        room_bytes: 0,
    }
}

/// A random UUID (version 4, RFC 9562), as text.
fn random_uuid() -> String {
    let bits = ring::random::next_u128();
    let bits = bits & !(0xf << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let (parts, mut at) = ([8, 4, 4, 4, 12], 0);
    let parts = parts.map(|length| {
        at += length;
        &hex[at - length..at]
    });
    parts.join("-")
}

fn response(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter();
    JoinGroupResponse {
        error_code: joined.error_code,
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: joined.protocol,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members
            .map(|(member_id, group_instance_id, metadata)| JoinGroupMember {
                member_id,
                group_instance_id,
                metadata: (&*metadata).into(),
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}
