//! DeleteRecords (key 21), versions 0-2: deletes records from the front of partitions. Answered when that is durable: as in
//! Kafka, the request's time-out is for other replicas to follow, and there are none yet.

use std::rc::Rc;

use storage::{DeleteRecordsError, PartitionLog, StorageError};
use wire::ErrorCode;
use wire::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use crate::api::{Call, Handled, bound_entries, later};
use crate::shard::{LocalTopic, Shard};

/// "Everything before the high watermark": what a request behind this one appends before its turn comes is not meant.
const HIGH_WATERMARK: i64 = -1;
/// Where a log begins that nothing can be said of.
const INVALID_LOW_WATERMARK: i64 = -1;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DeleteRecordsRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().map(|topic| topic.partitions.len() + 1))?;
    let world = shard
        .world_with(|| request.topics.iter().map(|topic| topic.name))
        .await;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics.iter() {
        let local = world.topic(topic.name);
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|sent| {
            let found = find(&shard, local, sent.partition);
            let found = found.map(|log| (log.log_end_offset(), log));
            (sent.partition, found, sent.offset)
        });
        topics.push((topic.name.to_owned(), partitions.collect::<Vec<_>>()));
    }
    let caller = call.into_caller();
    later(async move {
        let mut response = DeleteRecordsResponse::default();
        for (name, partitions) in topics {
            let mut results = Vec::with_capacity(partitions.len());
            for (partition, found, offset) in partitions {
                let deleted = match found {
                    Ok((end, log)) => delete(&log, offset, end).await,
                    Err(error) => Err(error),
                };
                results.push(DeleteRecordsPartitionResult {
                    partition,
                    low_watermark: deleted.unwrap_or(INVALID_LOW_WATERMARK),
                    error_code: deleted.err().unwrap_or(ErrorCode::None),
                });
            }
            response.topics.push(DeleteRecordsTopicResult {
                name,
                partitions: results,
            });
        }
        caller.reply(&response)
    })
}

fn find(shard: &Shard, topic: Option<&LocalTopic>, partition: i32) -> Result<PartitionLog, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.topic.is_internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    let log = topic.place(partition, shard.node_id).log()?;
    // A log that is only compacted has the newest records of their keys, not those of a time.
    match topic.cleanup.is_deleting {
        true => Ok(log.clone()),
        false => Err(ErrorCode::PolicyViolation),
    }
}

async fn delete(log: &PartitionLog, offset: i64, end: i64) -> Result<i64, ErrorCode> {
    let offset = match offset {
        HIGH_WATERMARK => log.high_watermark().min(end),
        offset if offset < 0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => offset,
    };
    log.delete_records(offset).await.map_err(|error| match error {
        DeleteRecordsError::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::Log(StorageError::Dropped) => ErrorCode::UnknownTopicOrPartition,
        DeleteRecordsError::Log(_) => ErrorCode::KafkaStorageError,
    })
}
