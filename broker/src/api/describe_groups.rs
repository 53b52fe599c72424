//! DescribeGroups (key 15), versions 0-6: groups with their members.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedMember,
};

use crate::api::{AnswerBudget, Call, Handled, Refused, Turn, bound_entries};
use crate::group::machine::{Group, State};
use crate::group::stored::Stored;
use crate::shard::Shard;

/// The first version whose clients know that a group can be unknown (KIP-1043).
const FIRST_UNKNOWN_GROUP_VERSION: i16 = 6;
/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS: a bit for each of Kafka's AclOperation codes.
const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// The state of a group that is not there.
const DEAD: &str = "Dead";
/// The message about a group that is not there, without its name.
const NOT_FOUND_BYTES: usize = "Group  not found.".len();

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeGroupsRequest<'_> = call.body()?;
    bound_entries([request.groups.len()].into_iter())?;
    let mut groups = Vec::new();
    let mut budget = AnswerBudget::new();
    let mut turn = Turn::default();
    let coordinators = shard.coordinators_to_read(request.groups.iter()).await;
    for (name, coordinator) in request.groups.iter().zip(coordinators) {
        let described = coordinator.and_then(|coordinator| {
            coordinator.look(name, |live, stored| {
                budget.take(bytes_of(name, live))?;
                Ok::<_, Refused>(describe(name, live, stored, call.version))
            })
        });
        let mut group = match described {
            Ok(described) => described?,
            Err(error_code) => {
                budget.take(bytes_of(name, None))?;
                DescribedGroup {
                    error_code,
                    group_id: name.to_owned(),
                    ..DescribedGroup::default()
                }
            }
        };
        if request.include_authorized_operations && group.error_code == ErrorCode::None {
            group.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        turn.took(1 + group.members.len()).await;
        groups.push(group);
    }
    call.ready(&DescribeGroupsResponse {
        groups,
        ..DescribeGroupsResponse::default()
    })
}

/// What the description of a group will take.
fn bytes_of(name: &str, live: Option<&Group>) -> usize {
    // A message may name it once more.
    let group = size_of::<DescribedGroup>() + 2 * name.len() + NOT_FOUND_BYTES;
    let Some(live) = live else {
        return group;
    };
    let names = [live.protocol_type(), live.protocol()].map(|name| name.map_or(0, str::len));
    let protocol = shown_protocol(live);
    let members = live.members().iter().map(|(member_id, member)| {
        let client = &member.client;
        size_of::<DescribedMember>()
            + member_id.len()
            + client.group_instance_id.as_ref().map_or(0, String::len)
            + client.client_id.len()
            + client.client_host.len()
            + protocol.map_or(0, |protocol| member.metadata(protocol).len())
            + member.assignment().len()
    });
    group + names.iter().sum::<usize>() + members.sum::<usize>()
}

/// As in Kafka, what members say of themselves is shown only when they have agreed on a protocol.
fn shown_protocol(live: &Group) -> Option<&str> {
    live.protocol().filter(|_| live.state() == State::Stable)
}

fn describe(name: &str, live: Option<&Group>, stored: Option<&Stored>, version: i16) -> DescribedGroup {
    let mut group = DescribedGroup {
        group_id: name.to_owned(),
        group_state: State::Empty.name().to_owned(),
        ..DescribedGroup::default()
    };
    let Some(live) = live else {
        if stored.is_none() {
            group.group_state = DEAD.to_owned();
            if version >= FIRST_UNKNOWN_GROUP_VERSION {
                group.error_code = ErrorCode::GroupIdNotFound;
                group.error_message = Some(format!("Group {name} not found."));
            }
        }
        return group;
    };
    group.group_state = live.state().name().to_owned();
    group.protocol_type = live.protocol_type().unwrap_or_default().to_owned();
    let protocol = shown_protocol(live);
    group.protocol_data = protocol.unwrap_or_default().to_owned();
    let members = live.members().iter().map(|(member_id, member)| DescribedMember {
        member_id: member_id.clone(),
        group_instance_id: member.client.group_instance_id.clone(),
        client_id: member.client.client_id.clone(),
        client_host: member.client.client_host.clone(),
        member_metadata: protocol
            .map_or_else(Default::default, |protocol| (&*member.metadata(protocol)).into()),
        member_assignment: (&**member.assignment()).into(),
    });
    group.members = members.collect();
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::machine::{GroupRules, Now};
    use crate::group::member::Opaque;
    use crate::group::stored::{Generation, StoredMember};

    /// What a description takes in memory, whatever it consists of.
    fn taken(group: &DescribedGroup) -> usize {
        let text = |text: &String| text.len();
        let members = group.members.iter().map(|member| {
            size_of::<DescribedMember>()
                + [&member.member_id, &member.client_id, &member.client_host]
                    .map(text)
                    .iter()
                    .sum::<usize>()
                + member.group_instance_id.as_ref().map_or(0, text)
                + member.member_metadata.0.len()
                + member.member_assignment.0.len()
        });
        size_of::<DescribedGroup>()
            + [&group.group_id, &group.protocol_type, &group.protocol_data]
                .map(text)
                .iter()
                .sum::<usize>()
            + group.error_message.as_ref().map_or(0, text)
            + members.sum::<usize>()
    }

    #[test]
    fn what_a_description_takes_is_known_before_it_is_made() {
        let bytes = |length: usize| Opaque::from(vec![1; length]);
        let member = |number: usize| StoredMember {
            member_id: format!("{number}{}", "m".repeat(1_000)),
            group_instance_id: Some("i".repeat(2_000)),
            client_id: "c".repeat(32_000),
            client_host: "h".repeat(40),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 1,
            subscription: bytes(500),
            assignment: bytes(700),
        };
        let generation = Generation {
            protocol_type: "consumer".to_owned(),
            generation: 1,
            protocol: Some("p".repeat(3_000)),
            leader: None,
            since_wall_ms: 0,
            members: (0..10).map(member).collect(),
        };
        let rules = GroupRules {
            initial_rebalance_delay_ms: 0,
            max_size: 100,
        };
        let now = Now {
            monotonic_ms: 0,
            wall_ms: 0,
        };
        let live = Group::restore(rules, &generation, now);
        let name = "g".repeat(5_000);
        for live in [Some(&live), None] {
            let described = describe(&name, live, None, FIRST_UNKNOWN_GROUP_VERSION);
            let (taken, thought) = (taken(&described), bytes_of(&name, live));
            assert!(taken <= thought, "{taken}, not {thought}");
            assert!(thought <= 2 * taken, "{taken}, not {thought}");
        }
    }
}
