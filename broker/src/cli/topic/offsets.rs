//! Asks leaders where partitions begin and end.

use net::client::Client;
use wire::messages::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use wire::{Array, ErrorCode};

use crate::cli::CliError;
use crate::cli::session::{call_node, failed};

/// An end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// The first record that is there.
    Earliest,
    /// Behind the last record.
    Latest,
}

/// The offsets of a leader's partitions, in the order of `partitions`.
pub(super) async fn offsets(
    client: &Client,
    leader: i32,
    topic: &str,
    partitions: &[i32],
    edge: Edge,
) -> Result<Vec<i64>, CliError> {
    let timestamp = match edge {
        Edge::Earliest => EARLIEST_TIMESTAMP,
        Edge::Latest => LATEST_TIMESTAMP,
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
    let response: ListOffsetsResponse = call_node(client, leader, &request)
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
