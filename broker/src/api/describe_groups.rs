//! DescribeGroups (key 15), versions 0-6: groups with their members.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedMember,
};

use crate::api::{AnswerBudget, Call, Handled, bound_entries};
use crate::group::machine::{Group, State};
use crate::group::stored::Stored;
use crate::shard::Shard;

/// The first version whose clients know that a group can be unknown (KIP-1043).
const FIRST_UNKNOWN_GROUP_VERSION: i16 = 6;
/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS: a bit for each of Kafka's AclOperation codes.
const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// The state of a group that is not there.
const DEAD: &str = "Dead";

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeGroupsRequest<'_> = call.body()?;
    bound_entries([request.groups.len()].into_iter())?;
    let mut groups = Vec::new();
    let mut budget = AnswerBudget::new();
    let coordinators = shard.coordinators_to_read(request.groups.iter()).await;
    for (name, coordinator) in request.groups.iter().zip(coordinators) {
        let described = coordinator.and_then(|coordinator| {
            coordinator.look(name, |live, stored| describe(name, live, stored, call.version))
        });
        let mut group = described.unwrap_or_else(|error_code| DescribedGroup {
            error_code,
            group_id: name.to_owned(),
            ..DescribedGroup::default()
        });
        if request.include_authorized_operations && group.error_code == ErrorCode::None {
            group.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        let members = group.members.iter().map(|member| {
            size_of::<DescribedMember>() + member.member_metadata.0.len() + member.member_assignment.0.len()
        });
        budget.take(size_of::<DescribedGroup>() + members.sum::<usize>())?;
        groups.push(group);
    }
    call.ready(&DescribeGroupsResponse {
        groups,
        ..DescribeGroupsResponse::default()
    })
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
    // As in Kafka, what members say of themselves is shown only when they have agreed on a protocol.
    let protocol = live.protocol().filter(|_| live.state() == State::Stable);
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
