//! ListOffsets (key 2), versions 1-7: the first offset, the next one, or the first at or after a time.
//!
//! Nothing above the high watermark is told. Until transactions exist the last stable offset is the high watermark.
//! It is looked up when the connection's earlier requests were answered, and what they appended is durable: without that,
//! who appends and asks for the end in one go would be told of what was before.

use std::collections::BTreeSet;
use std::rc::Rc;

use net::Reply;
use ring::executor::yield_now;
use storage::{OPENED_BYTES_MAX, OpeningBudget, PartitionLog};
use wire::ErrorCode;
use wire::messages::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};

use crate::api::{Call, Handled, Refused, Turn, bound_entries, in_turn};
use crate::partition::leader::check_leader_epoch;
use crate::shard::{LocalTopic, Place, Shard, World};

/// The first version that knows [`MAX_TIMESTAMP`].
const FIRST_MAX_TIMESTAMP_VERSION: i16 = 7;

/// What is told of an offset: its time (-1 where it was not asked for), itself, and its leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found {
    timestamp: -1,
    offset: -1,
    leader_epoch: -1,
};

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: ListOffsetsRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().map(|topic| topic.partitions.len() + 1))?;
    let ends = ends(&shard.world(), &request, shard.node_id).await;
    in_turn(answer(shard, call, ends))
}

/// Where each partition ends now, what is not durable included: requests behind this one may append more before it is
/// answered, and that is not for it.
async fn ends(world: &World, request: &ListOffsetsRequest<'_>, node_id: i32) -> Vec<i64> {
    let mut turn = Turn::default();
    let mut ends = Vec::new();
    for topic in request.topics {
        let local = world.topic(topic.name);
        for asked in topic.partitions {
            let place = local.map(|local| local.place(asked.partition, node_id));
            ends.push(match place {
                Some(Place::Here(log)) => log.log_end_offset(),
                _ => i64::MAX,
            });
            turn.took(1).await;
        }
    }
    ends
}

async fn answer(shard: Rc<Shard>, call: Call, ends: Vec<i64>) -> Result<Reply, Refused> {
    let request: ListOffsetsRequest<'_> = call.body()?;
    let world = shard
        .world_with(|| request.topics.iter().map(|topic| topic.name))
        .await;
    let mut turn = Turn::default();
    let mut ends = ends.into_iter();
    let duplicates = duplicates(&request);
    // For batches whose records are not what their headers say.
    let budget = OpeningBudget::new(OPENED_BYTES_MAX);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let local = world.topic(topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            turn.took(1).await;
            let end = ends.next().unwrap_or(i64::MAX);
            let found = if duplicates.contains(&(topic.name, asked.partition)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                find(&shard, local, asked, end, call.version, &budget).await
            };
            let (error_code, found) = match found {
                Ok(found) => (ErrorCode::None, found),
                Err(error) => (error, NOTHING),
            };
            partitions.push(ListOffsetsPartitionResponse {
                partition: asked.partition,
                error_code,
                timestamp: found.timestamp,
                offset: found.offset,
                leader_epoch: found.leader_epoch,
            });
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name.to_owned(),
            partitions,
        });
    }
    Ok(call.into_caller().reply(&ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    }))
}

/// The partitions that are asked for more than once.
fn duplicates<'a>(request: &ListOffsetsRequest<'a>) -> BTreeSet<(&'a str, i32)> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in request.topics {
        for asked in topic.partitions {
            if !seen.insert((topic.name, asked.partition)) {
                twice.insert((topic.name, asked.partition));
            }
        }
    }
    twice
}

async fn find(
    shard: &Shard,
    topic: Option<&LocalTopic>,
    asked: ListOffsetsPartition,
    end: i64,
    version: i16,
    budget: &OpeningBudget,
) -> Result<Found, ErrorCode> {
    let place = topic.map_or(Place::Nowhere, |topic| {
        topic.place(asked.partition, shard.node_id)
    });
    let log = place.log()?;
    check_leader_epoch(asked.current_leader_epoch, log.leader_epoch())?;
    match asked.timestamp {
        LATEST_TIMESTAMP => Ok(Found {
            offset: log.high_watermark().min(end).max(log.log_start_offset()),
            leader_epoch: log.leader_epoch(),
            ..NOTHING
        }),
        EARLIEST_TIMESTAMP => Ok(Found {
            offset: log.log_start_offset(),
            leader_epoch: log.epoch_of(log.log_start_offset()),
            ..NOTHING
        }),
        MAX_TIMESTAMP if version >= FIRST_MAX_TIMESTAMP_VERSION => {
            yield_now().await;
            visible(shard, log, &log.max_timestamp_offset(budget).await)
        }
        timestamp if timestamp >= 0 => {
            // A batch is opened for each: others go between.
            yield_now().await;
            visible(shard, log, &log.offset_for_timestamp(timestamp, budget).await)
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn visible(
    shard: &Shard,
    log: &PartitionLog,
    found: &Result<Option<(i64, i64, i32)>, storage::StorageError>,
) -> Result<Found, ErrorCode> {
    match found {
        &Ok(Some((offset, timestamp, leader_epoch))) if offset < log.high_watermark() => Ok(Found {
            timestamp,
            offset,
            leader_epoch,
        }),
        Ok(_) => Ok(NOTHING),
        Err(error) => {
            shard.read_failures.tell(log.id(), error);
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::Array;
    use wire::messages::list_offsets::ListOffsetsTopic;

    use super::*;

    #[test]
    fn a_partition_asked_for_twice_is_found() {
        let asked = |partition| ListOffsetsPartition {
            partition,
            ..ListOffsetsPartition::default()
        };
        let first = [asked(0), asked(1), asked(0)];
        let second = [asked(1)];
        let topics = [("a", &first[..]), ("b", &second[..]), ("a", &second[..])].map(|(name, partitions)| {
            ListOffsetsTopic {
                name,
                partitions: Array::from_slice(partitions),
            }
        });
        let request = ListOffsetsRequest {
            topics: Array::from_slice(&topics),
            ..ListOffsetsRequest::default()
        };
        assert_eq!(duplicates(&request), BTreeSet::from([("a", 0), ("a", 1)]));
    }
}
