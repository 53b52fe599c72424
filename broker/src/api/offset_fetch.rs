//! OffsetFetch (key 9), versions 1-9: what groups have committed. What is not there is offset -1, without an error.
//!
//! Only what is durable is told, so that every answer is stable: `require_stable` asks for nothing more until there are
//! transactions. What was asked for before, on the same connection too, is waited for.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::offset_fetch::{
    OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchTopic, OffsetFetchTopicResponse,
};

use crate::api::{AnswerBudget, Call, Handled, bound_entries};
use crate::group::coordinator::Coordinator;
use crate::group::stored::{Committed, Stored};
use crate::shard::Shard;

/// The first version that asks for several groups.
const FIRST_BATCH_VERSION: i16 = 8;
/// The first version that has an error for the whole group.
const FIRST_ERROR_VERSION: i16 = 2;

type Topics<'a> = Option<wire::Array<'a, OffsetFetchTopic<'a>>>;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: OffsetFetchRequest<'_> = call.body()?;
    let named = |topics: Topics<'_>| {
        let topics = topics.into_iter().flat_map(|topics| topics.iter());
        topics
            .map(|topic| topic.partition_indexes.len() + 1)
            .sum::<usize>()
    };
    let groups = request.groups.iter().map(|group| named(group.topics) + 1);
    bound_entries(groups.chain([named(request.topics)]))?;
    let mut budget = AnswerBudget::new();
    if call.version < FIRST_BATCH_VERSION {
        let mut coordinators = shard
            .coordinators_to_read(std::iter::once(request.group_id))
            .await;
        let coordinator = coordinators.pop().unwrap_or(Err(ErrorCode::NotCoordinator));
        let group = fetch(coordinator, request.group_id, request.topics);
        budget.take(bytes_of(&group))?;
        let topics = match (group.error_code, request.topics) {
            (ErrorCode::None, _) => group.topics,
            // There is no other place for the error.
            (error, Some(topics)) if call.version < FIRST_ERROR_VERSION => failed(topics, error),
            _ => Vec::new(),
        };
        return call.ready(&OffsetFetchResponse {
            topics,
            error_code: group.error_code,
            ..OffsetFetchResponse::default()
        });
    }
    let mut groups = Vec::new();
    let names = request.groups.iter().map(|group| group.group_id);
    let coordinators = shard.coordinators_to_read(names).await;
    for (group, coordinator) in request.groups.iter().zip(coordinators) {
        let group = fetch(coordinator, group.group_id, group.topics);
        budget.take(bytes_of(&group))?;
        groups.push(group);
    }
    call.ready(&OffsetFetchResponse {
        groups,
        ..OffsetFetchResponse::default()
    })
}

/// About what a group takes, in memory and in the answer.
fn bytes_of(group: &OffsetFetchGroupResponse) -> usize {
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    let partitions = partitions.map(|partition| {
        size_of::<OffsetFetchPartitionResponse>() + partition.metadata.as_ref().map_or(0, String::len)
    });
    size_of::<OffsetFetchGroupResponse>() + partitions.sum::<usize>()
}

fn fetch(
    coordinator: Result<Rc<Coordinator>, ErrorCode>,
    group: &str,
    topics: Topics<'_>,
) -> OffsetFetchGroupResponse {
    let found = coordinator.and_then(|coordinator| {
        coordinator.look(group, |_, stored| match topics {
            Some(topics) => some(stored, topics),
            None => all(stored),
        })
    });
    let error_code = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
    OffsetFetchGroupResponse {
        group_id: group.to_owned(),
        topics: found.unwrap_or_default(),
        error_code,
    }
}

fn some(
    stored: Option<&Stored>,
    topics: wire::Array<'_, OffsetFetchTopic<'_>>,
) -> Vec<OffsetFetchTopicResponse> {
    let topics = topics.iter();
    topics
        .map(|topic| OffsetFetchTopicResponse {
            name: topic.name.to_owned(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| {
                    partition(
                        index,
                        stored.and_then(|stored| stored.committed(topic.name, index)),
                    )
                })
                .collect(),
        })
        .collect()
}

fn all(stored: Option<&Stored>) -> Vec<OffsetFetchTopicResponse> {
    let nothing = BTreeMap::new();
    let topics = stored.map_or(&nothing, |stored| &stored.offsets).iter();
    topics
        .map(|(name, offsets)| OffsetFetchTopicResponse {
            name: (**name).to_owned(),
            partitions: offsets
                .iter()
                .map(|(index, committed)| partition(*index, Some(committed)))
                .collect(),
        })
        .collect()
}

fn failed(
    topics: wire::Array<'_, OffsetFetchTopic<'_>>,
    error_code: ErrorCode,
) -> Vec<OffsetFetchTopicResponse> {
    let mut failed = some(None, topics);
    for partition in failed.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error_code;
    }
    failed
}

fn partition(partition: i32, committed: Option<&Committed>) -> OffsetFetchPartitionResponse {
    OffsetFetchPartitionResponse {
        partition,
        committed_offset: committed.map_or(-1, |committed| committed.offset),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: Some(committed.map_or_else(String::new, |committed| (*committed.metadata).to_owned())),
        error_code: ErrorCode::None,
    }
}
