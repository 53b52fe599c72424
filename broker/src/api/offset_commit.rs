//! OffsetCommit (key 8), versions 2-9: keeps offsets for a group. Answered when they are durable.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitPartitionResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetCommitTopicResponse,
};

use crate::api::{Call, Handled, bound_entries, later};
use crate::group::machine::Identity;
use crate::group::stored::Committed;
use crate::shard::{LocalTopic, Shard};

/// The first version whose clients know that a group can be unknown.
const FIRST_UNKNOWN_GROUP_VERSION: i16 = 9;
/// "As the broker is set."
const DEFAULT_RETENTION: i64 = -1;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: OffsetCommitRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().map(|topic| topic.partitions.len() + 1))?;
    let world = shard
        .world_with(|| request.topics.iter().map(|topic| topic.name))
        .await;
    let now_ms = ring::clock::wall_clock_ms();
    let expire_timestamp_ms = match request.retention_time_ms {
        DEFAULT_RETENTION => -1,
        retention_ms => now_ms.saturating_add(retention_ms),
    };
    let metadata_max = shard.settings.groups.offset_metadata_max;
    let mut offsets = Vec::new();
    let mut known_partitions = false;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics.iter() {
        let local = world.topic(topic.name);
        let name: Rc<str> = Rc::from(topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for sent in topic.partitions.iter() {
            let checked = check(local, &sent, metadata_max);
            known_partitions |= checked != Err(ErrorCode::UnknownTopicOrPartition);
            if checked.is_ok() {
                let committed = Committed {
                    offset: sent.committed_offset,
                    leader_epoch: sent.committed_leader_epoch.max(-1),
                    metadata: Rc::from(sent.committed_metadata.unwrap_or_default()),
                    commit_timestamp_ms: now_ms,
                    expire_timestamp_ms,
                };
                offsets.push((name.clone(), sent.partition, committed));
            }
            partitions.push(OffsetCommitPartitionResponse {
                partition: sent.partition,
                error_code: checked.err().unwrap_or(ErrorCode::None),
            });
        }
        topics.push(OffsetCommitTopicResponse {
            name: topic.name.to_owned(),
            partitions,
        });
    }
    let response = OffsetCommitResponse {
        topics,
        ..OffsetCommitResponse::default()
    };
    // As in Kafka, the group is not asked about partitions that are not there.
    if !known_partitions {
        return call.ready(&response);
    }
    let from = Identity {
        member_id: request.member_id.to_owned(),
        group_instance_id: request.group_instance_id.map(str::to_owned),
    };
    let coordinator = shard.coordinator(request.group_id).await;
    let committing = coordinator
        .and_then(|coordinator| coordinator.commit(request.group_id, &from, request.generation_id, offsets));
    match committing {
        Err(error) => {
            let error = if error == ErrorCode::GroupIdNotFound && call.version < FIRST_UNKNOWN_GROUP_VERSION {
                ErrorCode::IllegalGeneration
            } else {
                error
            };
            call.ready(&refused(response, error))
        }
        Ok(None) => call.ready(&response),
        Ok(Some(committed)) => {
            let caller = call.into_caller();
            later(async move {
                let result = committed.await.unwrap_or(Err(ErrorCode::NotCoordinator));
                caller.reply(&match result {
                    Ok(()) => response,
                    Err(error) => refused(response, error),
                })
            })
        }
    }
}

fn check(
    topic: Option<&LocalTopic>,
    sent: &OffsetCommitPartition<'_>,
    metadata_max: usize,
) -> Result<(), ErrorCode> {
    if topic.is_none_or(|topic| topic.state(sent.partition).is_none()) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    // Kafka counts what Java counts: UTF-16 units.
    let metadata = sent.committed_metadata.unwrap_or_default();
    if metadata.len() > metadata_max && metadata.encode_utf16().count() > metadata_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(())
}

/// Everything that was not refused already is refused with `error`.
fn refused(mut response: OffsetCommitResponse, error: ErrorCode) -> OffsetCommitResponse {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code != ErrorCode::UnknownTopicOrPartition {
            partition.error_code = error;
        }
    }
    response
}
