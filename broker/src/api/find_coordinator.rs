//! FindCoordinator (key 10), versions 0-6: which node coordinates a group.
//!
//! Answered truthfully: the node that leads the group's partition of `__consumer_offsets`, which is created at the
//! first question. Transactions and share groups do not exist yet: INVALID_REQUEST, which no client retries.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, KEY_TYPE_GROUP, KEY_TYPE_TRANSACTION,
};

use crate::api::{Call, Caller, Handled, Pending, bound_entries, later};
use crate::controller::decide::OFFSETS_TOPIC;
use crate::group::coordinators::partition_of;
use crate::shard::{Shard, World};

/// The first version that asks for many keys at once.
const FIRST_BATCH_VERSION: i16 = 4;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: FindCoordinatorRequest<'_> = call.body()?;
    bound_entries([request.coordinator_keys.len()].into_iter())?;
    let key_type = request.key_type;
    let keys: Vec<String> = if call.version < FIRST_BATCH_VERSION {
        vec![request.key.to_owned()]
    } else {
        request.coordinator_keys.iter().map(str::to_owned).collect()
    };
    let caller = call.into_caller();
    if key_type != KEY_TYPE_GROUP {
        let message = if key_type == KEY_TYPE_TRANSACTION {
            "transactions are not supported"
        } else {
            "only group coordinators are supported"
        };
        let refused = keys
            .into_iter()
            .map(|key| failed(key, ErrorCode::InvalidRequest, message));
        return Ok(Pending::Ready(reply(caller, refused.collect())));
    }
    later(async move {
        let mut world = shard.world();
        if world.topic(OFFSETS_TOPIC).is_none() {
            world = shard.world_with_topics(vec![OFFSETS_TOPIC.to_owned()]).await.0;
        }
        reply(
            caller,
            keys.into_iter().map(|key| coordinator(&world, key)).collect(),
        )
    })
}

fn coordinator(world: &World, key: String) -> Coordinator {
    let node = world.topic(OFFSETS_TOPIC).and_then(|offsets| {
        let state = offsets.state(partition_of(&key, offsets.topic.partitions.len())?)?;
        world.node(world.image.leader_and_offline(state).0)
    });
    match node {
        Some(node) => Coordinator {
            key,
            node_id: node.id,
            host: node.host.clone(),
            port: i32::from(node.port),
            ..Coordinator::default()
        },
        None => failed(
            key,
            ErrorCode::CoordinatorNotAvailable,
            "the group's partition of __consumer_offsets has no leader",
        ),
    }
}

fn failed(key: String, error_code: ErrorCode, message: &str) -> Coordinator {
    Coordinator {
        key,
        node_id: -1,
        host: String::new(),
        port: -1,
        error_code,
        error_message: Some(message.to_owned()),
    }
}

fn reply(caller: Caller, mut coordinators: Vec<Coordinator>) -> net::Reply {
    if caller.version >= FIRST_BATCH_VERSION {
        return caller.reply(&FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        });
    }
    let one = coordinators.pop().unwrap_or_default();
    caller.reply(&FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: one.error_message,
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..FindCoordinatorResponse::default()
    })
}
