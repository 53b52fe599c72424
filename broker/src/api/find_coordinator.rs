//! FindCoordinator (key 10), versions 0-6: which node coordinates a group.
//!
//! Answered truthfully: the node that leads the group's partition of `__consumer_offsets`, which is created at the
//! first question. Transactions and share groups do not exist yet: INVALID_REQUEST, which no client retries.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse, KEY_TYPE_GROUP, KEY_TYPE_TRANSACTION,
};

use crate::api::{Call, Caller, Handled, bound_entries, later};
use crate::shard::{Shard, World};

/// The topic of groups and their offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
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
        return Ok(net::Pending::Ready(reply(caller, refused.collect())));
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
        world.node(state.leader)
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
            "the group's partition of __consumer_offsets has no leader yet",
        ),
    }
}

/// The partition of `__consumer_offsets` that holds the group: the non-negative remainder of Java's hash of its name.
fn partition_of(group: &str, partitions: usize) -> Option<i32> {
    // Kafka's `Utils.abs`: the hash without its sign bit would differ, so the smallest value maps to 0.
    let hash = java_hash(group);
    let hash = if hash == i32::MIN { 0 } else { hash.abs() };
    hash.checked_rem(i32::try_from(partitions).ok()?)
}

/// `String.hashCode` of the Java language: over UTF-16 units, wrapping.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        // Values of String.hashCode.
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("my-group", -1_906_497_762),
            ("polygenelubricants", i32::MIN),
            ("\u{1f600}", 1_772_899),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
    }

    #[test]
    fn a_groups_partition_is_never_negative() {
        assert_eq!(partition_of("polygenelubricants", 50), Some(0));
        assert_eq!(partition_of("my-group", 50), Some(12));
        assert_eq!(partition_of("a", 50), Some(47));
        assert_eq!(partition_of("a", 0), None);
    }
}
