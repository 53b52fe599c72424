//! OffsetFetch (key 9), versions 1-9: what groups have committed. What is not there is offset -1, without an error.
//!
//! Only what is durable is told, so that every answer is stable: `require_stable` asks for nothing more until there are
//! transactions. What was asked for before, on the same connection too, is waited for.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::offset_fetch::{
    OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchTopic, OffsetFetchTopicResponse,
};

use crate::api::{AnswerBudget, Call, Handled, Refused, Turn, bound_entries};
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
        let group = fetch(coordinator, request.group_id, request.topics, &mut budget)?;
        let topics = match (group.error_code, request.topics) {
            (ErrorCode::None, _) => group.topics,
            // There is no other place for the error.
            (error, Some(topics)) if call.version < FIRST_ERROR_VERSION => {
                failed(topics, error, &mut budget)?
            }
            _ => Vec::new(),
        };
        return call.ready(&OffsetFetchResponse {
            topics,
            error_code: group.error_code,
            ..OffsetFetchResponse::default()
        });
    }
    let mut groups = Vec::new();
    let mut turn = Turn::default();
    let names = request.groups.iter().map(|group| group.group_id);
    let coordinators = shard.coordinators_to_read(names).await;
    for (group, coordinator) in request.groups.iter().zip(coordinators) {
        let group = fetch(coordinator, group.group_id, group.topics, &mut budget)?;
        let partitions = group.topics.iter().map(|topic| 1 + topic.partitions.len());
        turn.took(1 + partitions.sum::<usize>()).await;
        groups.push(group);
    }
    call.ready(&OffsetFetchResponse {
        groups,
        ..OffsetFetchResponse::default()
    })
}

/// What a group has committed, as far as there is room in the answer.
///
/// # Errors
/// [`Refused::AnswerTooLarge`].
fn fetch(
    coordinator: Result<Rc<Coordinator>, ErrorCode>,
    group: &str,
    topics: Topics<'_>,
    budget: &mut AnswerBudget,
) -> Result<OffsetFetchGroupResponse, Refused> {
    budget.take(size_of::<OffsetFetchGroupResponse>() + group.len())?;
    let found = coordinator.and_then(|coordinator| {
        coordinator.look(group, |_, stored| match topics {
            Some(topics) => some(stored, topics, budget),
            None => all(stored, budget),
        })
    });
    let (topics, error_code) = match found {
        Ok(topics) => (topics?, ErrorCode::None),
        Err(error_code) => (Vec::new(), error_code),
    };
    Ok(OffsetFetchGroupResponse {
        group_id: group.to_owned(),
        topics,
        error_code,
    })
}

fn some(
    stored: Option<&Stored>,
    topics: wire::Array<'_, OffsetFetchTopic<'_>>,
    budget: &mut AnswerBudget,
) -> Result<Vec<OffsetFetchTopicResponse>, Refused> {
    let mut told = Vec::new();
    for asked in topics.iter() {
        let committed = |index| stored.and_then(|stored| stored.committed(asked.name, index));
        let partitions = asked.partition_indexes.iter();
        let partitions = partitions.map(|index| (index, committed(index)));
        told.push(topic(asked.name, partitions, budget)?);
    }
    Ok(told)
}

fn all(stored: Option<&Stored>, budget: &mut AnswerBudget) -> Result<Vec<OffsetFetchTopicResponse>, Refused> {
    let mut told = Vec::new();
    for (name, offsets) in stored.into_iter().flat_map(|stored| &stored.offsets) {
        let partitions = offsets.iter();
        let partitions = partitions.map(|(index, committed)| (*index, Some(committed)));
        told.push(topic(name, partitions, budget)?);
    }
    Ok(told)
}

fn topic<'a>(
    name: &str,
    partitions: impl Iterator<Item = (i32, Option<&'a Committed>)>,
    budget: &mut AnswerBudget,
) -> Result<OffsetFetchTopicResponse, Refused> {
    budget.take(size_of::<OffsetFetchTopicResponse>() + name.len())?;
    let mut told = Vec::new();
    for (index, committed) in partitions {
        let metadata_bytes = committed.map_or(0, |committed| committed.metadata.len());
        budget.take(size_of::<OffsetFetchPartitionResponse>() + metadata_bytes)?;
        told.push(partition(index, committed));
    }
    Ok(OffsetFetchTopicResponse {
        name: name.to_owned(),
        partitions: told,
    })
}

fn failed(
    topics: wire::Array<'_, OffsetFetchTopic<'_>>,
    error_code: ErrorCode,
    budget: &mut AnswerBudget,
) -> Result<Vec<OffsetFetchTopicResponse>, Refused> {
    let mut failed = some(None, topics, budget)?;
    for partition in failed.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error_code;
    }
    Ok(failed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_metadata_are_counted_before_they_are_told() {
        let name = "t".repeat(1 << 20);
        let names = vec![
            OffsetFetchTopic {
                name: &name,
                ..OffsetFetchTopic::default()
            };
            100
        ];
        let asked = |count: usize| wire::Array::from_slice(&names[..count]);
        assert!(some(None, asked(60), &mut AnswerBudget::new()).is_ok());
        let refused = some(None, asked(70), &mut AnswerBudget::new());
        assert_eq!(refused, Err(Refused::AnswerTooLarge));
        assert!(failed(asked(70), ErrorCode::NotCoordinator, &mut AnswerBudget::new()).is_err());

        let committed = Committed {
            offset: 1,
            leader_epoch: 1,
            metadata: Rc::from("m".repeat(4_096)),
            commit_timestamp_ms: 0,
            expire_timestamp_ms: -1,
        };
        let told = |count| {
            let partitions = (0..count).map(|index| (index, Some(&committed)));
            topic("t", partitions, &mut AnswerBudget::new())
        };
        assert!(told(16_000).is_ok());
        assert_eq!(told(16_400), Err(Refused::AnswerTooLarge));
    }
}
