//! Where the logs of a connection's partitions begin, or end; asked before a run, which also shows that their leader serves them:
//! a new topic is in Metadata a little earlier.

use std::time::Duration;

use net::client::Connection;
use ring::timer::sleep;
use wire::messages::list_offsets::{
    EARLIEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopic,
};
use wire::{Array, ErrorCode};

use crate::error::BenchError;
use crate::target::Route;

/// The version to ask in: every broker that speaks Fetch 4 speaks it.
const API_VERSION: i16 = 2;
/// Partitions that are asked for at a time: their answer is no longer than any other that a producer gets.
const PARTITIONS_MAX: usize = 1_000;
/// How often a leader is asked that says it is none yet.
const ATTEMPTS: u32 = 100;
/// How long to wait between two of these.
const ATTEMPT: Duration = Duration::from_millis(100);

/// The first offset of each partition of the route.
pub(crate) async fn log_starts(
    route: &Route,
    connection: &Connection,
    topic: &str,
) -> Result<Vec<(i32, i64)>, BenchError> {
    offsets_at(EARLIEST_TIMESTAMP, route, connection, topic).await
}

/// The offset of each partition of the route at this time, as ListOffsets has it.
pub(crate) async fn offsets_at(
    timestamp: i64,
    route: &Route,
    connection: &Connection,
    topic: &str,
) -> Result<Vec<(i32, i64)>, BenchError> {
    let mut starts = Vec::with_capacity(route.lane.partitions.len());
    for partitions in route.lane.partitions.chunks(PARTITIONS_MAX) {
        let answers = answers(timestamp, partitions, route, connection, topic).await?;
        starts.extend(answers.iter().map(|answer| (answer.partition, answer.offset)));
    }
    Ok(starts)
}

/// Asks until all of them are led there.
async fn answers(
    timestamp: i64,
    partitions: &[i32],
    route: &Route,
    connection: &Connection,
    topic: &str,
) -> Result<Vec<ListOffsetsPartitionResponse>, BenchError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let answers = ask(timestamp, partitions, connection, topic).await?;
        match answers.iter().find(|answer| answer.error_code != ErrorCode::None) {
            None => return Ok(answers),
            Some(failed) if attempts >= ATTEMPTS || !failed.error_code.is_retriable() => {
                return Err(BenchError::Offset {
                    broker: route.broker(),
                    partition: failed.partition,
                    code: failed.error_code,
                });
            }
            Some(_) => sleep(ATTEMPT).await,
        }
    }
}

async fn ask(
    timestamp: i64,
    partitions: &[i32],
    connection: &Connection,
    topic: &str,
) -> Result<Vec<ListOffsetsPartitionResponse>, BenchError> {
    let partitions = partitions.iter().map(|partition| ListOffsetsPartition {
        partition: *partition,
        timestamp,
        ..Default::default()
    });
    let partitions: Vec<_> = partitions.collect();
    let topics = [ListOffsetsTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ListOffsetsRequest {
        topics: Array::from_slice(&topics),
        ..Default::default()
    };
    let response: ListOffsetsResponse = connection.call(API_VERSION, &request).await?;
    Ok((response.topics.into_iter())
        .flat_map(|topic| topic.partitions)
        .collect())
}
