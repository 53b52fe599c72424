//! Asks leaders where partitions begin and end.

use std::collections::BTreeMap;

use net::client::Client;
use wire::messages::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use wire::{Array, ErrorCode};

use crate::cli::CliError;
use crate::cli::session::failed;

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first record that is there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The first record at or after this time, in milliseconds since 1970; -1 where there is none.
    Time(i64),
}

/// The offset of each of a topic's partitions, asked from its leader.
pub(crate) async fn offsets_of(
    client: &Client,
    topic: &str,
    partitions: &[i32],
    place: Place,
) -> Result<BTreeMap<i32, i64>, CliError> {
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for &partition in partitions {
        let leader = client.leader(topic, partition).await;
        let leader = leader.map_err(failed(format!("ask for the offsets of {topic}")))?;
        by_leader.entry(leader).or_default().push(partition);
    }
    let mut found = BTreeMap::new();
    for (leader, led) in by_leader {
        let offsets = offsets(client, leader, topic, &led, place).await?;
        found.extend(led.into_iter().zip(offsets));
    }
    Ok(found)
}

/// The offsets of a leader's partitions, in the order of `partitions`.
pub(crate) async fn offsets(
    client: &Client,
    leader: i32,
    topic: &str,
    partitions: &[i32],
    place: Place,
) -> Result<Vec<i64>, CliError> {
    let timestamp = match place {
        Place::Earliest => EARLIEST_TIMESTAMP,
        Place::Latest => LATEST_TIMESTAMP,
        Place::Time(timestamp_ms) => timestamp_ms,
    };
    let asked = partitions.iter().map(|&partition| ListOffsetsPartition {
        partition,
        timestamp,
        ..ListOffsetsPartition::default()
    });
    let asked: Vec<_> = asked.collect();
    let topics = [ListOffsetsTopic {
        name: topic,
        partitions: Array::from_slice(&asked),
    }];
    let request = ListOffsetsRequest {
        topics: Array::from_slice(&topics),
        ..ListOffsetsRequest::default()
    };
    let doing = format!("ask for the offsets of {topic}");
    let response: ListOffsetsResponse = client
        .call_node(leader, &request)
        .await
        .map_err(failed(doing.as_str()))?;
    let found = |partition: i32| {
        let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        let answer = answers.into_iter().find(|answer| answer.partition == partition);
        let (code, offset) = answer.map_or((ErrorCode::UnknownServerError, -1), |answer| {
            (answer.error_code, answer.offset)
        });
        match code {
            ErrorCode::None => Ok(offset),
            code => Err(CliError::Refused {
                doing: format!("{doing}-{partition}"),
                code,
                message: None,
            }),
        }
    };
    partitions.iter().map(|&partition| found(partition)).collect()
}
