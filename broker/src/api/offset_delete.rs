//! OffsetDelete (key 47), version 0: forgets offsets of a group, of topics that it is not subscribed to.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::offset_delete::{
    OffsetDeletePartitionResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopicResponse,
};

use crate::api::{Call, Handled, bound_entries, later};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: OffsetDeleteRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().map(|topic| topic.partitions.len() + 1))?;
    let world = shard
        .world_with(|| request.topics.iter().map(|topic| topic.name))
        .await;
    let mut known: Vec<(Rc<str>, i32)> = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics.iter() {
        let local = world.topic(topic.name);
        let name: Rc<str> = Rc::from(topic.name);
        let partitions = topic.partitions.iter().map(|sent| {
            let is_known = local.is_some_and(|local| local.state(sent.partition).is_some());
            if is_known {
                known.push((name.clone(), sent.partition));
            }
            OffsetDeletePartitionResponse {
                partition: sent.partition,
                error_code: if is_known {
                    ErrorCode::None
                } else {
                    ErrorCode::UnknownTopicOrPartition
                },
            }
        });
        topics.push(OffsetDeleteTopicResponse {
            name: topic.name.to_owned(),
            partitions: partitions.collect(),
        });
    }
    let mut response = OffsetDeleteResponse {
        topics,
        ..OffsetDeleteResponse::default()
    };
    // Also if none of them is there: whether the group is comes first.
    let deleting = if request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        let coordinator = shard.coordinator(request.group_id).await;
        coordinator.and_then(|coordinator| coordinator.delete_offsets(request.group_id, &known))
    };
    match deleting {
        Err(error) => call.ready(&failed(error)),
        Ok((codes, deleted)) => {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            let asked = partitions.filter(|partition| partition.error_code == ErrorCode::None);
            for (partition, code) in asked.zip(codes) {
                partition.error_code = code;
            }
            let Some(deleted) = deleted else {
                return call.ready(&response);
            };
            let caller = call.into_caller();
            later(async move {
                let result = deleted.await.unwrap_or(Err(ErrorCode::NotCoordinator));
                caller.reply(&match result {
                    Ok(()) => response,
                    Err(error) => failed(error),
                })
            })
        }
    }
}

fn failed(error_code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse {
        error_code,
        ..OffsetDeleteResponse::default()
    }
}
