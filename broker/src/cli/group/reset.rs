//! `millstream group reset`.

use std::collections::BTreeMap;

use clap::Args;
use net::client::Client;
use serde_json::json;
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use wire::{Array, ErrorCode};

use super::committed::committed;
use super::coordinator::{coordinator, described};
use super::time::timestamp_ms;
use crate::cli::CliError;
use crate::cli::offsets::{Place, offsets_of};
use crate::cli::output::{OutputArguments, known, print, printable, table};
use crate::cli::session::{self, failed, retried};
use crate::cli::topic::partitions_of;

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct ResetArguments {
    /// Name of the group
    name: String,
    /// The topic
    #[arg(long)]
    topic: String,
    /// A partition of it; may be repeated [default: all]
    #[arg(long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    #[command(flatten)]
    target: Target,
    /// Do it: without this the new offsets are only shown
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or the nearest that is there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record at or after this time, as 2026-11-25T20:00:00Z or in milliseconds since 1970; behind the
    /// last record where there is none
    #[arg(long, value_name = "TIME", value_parser = timestamp_ms)]
    to_time: Option<i64>,
}

/// Where a partition's group stands, and where it is to go on.
struct Move {
    partition: i32,
    committed_offset: Option<i64>,
    new_offset: i64,
}

pub(super) fn run(brokers: Vec<String>, arguments: ResetArguments) -> Result<(), CliError> {
    let asked = arguments.clone();
    let moves = session::run(brokers, async move |client| {
        retried(async || reset(&client, &asked).await).await
    })?;
    let ResetArguments {
        name,
        topic,
        execute,
        output,
        ..
    } = arguments;
    let rows = || {
        let mut rows = vec![["topic", "partition", "committed", "new offset"].map(str::to_owned)];
        rows.extend(moves.iter().map(|one| {
            [
                topic.clone(),
                one.partition.to_string(),
                known(one.committed_offset),
                one.new_offset.to_string(),
            ]
        }));
        let outcome = if execute {
            format!("reset group {}\n", printable(&name))
        } else {
            "nothing is changed: add --execute to do it\n".to_owned()
        };
        table(&rows) + &outcome
    };
    let document = || {
        let partitions = moves.iter().map(|one| {
            json!({
                "topic": topic,
                "partition": one.partition,
                "committed_offset": one.committed_offset,
                "new_offset": one.new_offset,
            })
        });
        json!({
            "group": name,
            "executed": execute,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    };
    print(output.text(rows, document).as_bytes()).map(|_| ())
}

async fn reset(client: &Client, arguments: &ResetArguments) -> Result<Vec<Move>, CliError> {
    let ResetArguments { name, topic, .. } = arguments;
    let node_id = coordinator(client, name).await?;
    refuse_live_members(client, node_id, name).await?;
    let there = partitions_of(client, topic, false).await?.ids;
    let partitions = match arguments.partitions.as_slice() {
        [] => there,
        asked => {
            if let Some(missing) = asked.iter().find(|partition| !there.contains(partition)) {
                return Err(CliError::Refused {
                    doing: format!("reset {topic}-{missing} of group {name}"),
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: Some(format!("topic {topic} has {} partitions", there.len())),
                });
            }
            asked.to_vec()
        }
    };
    let targets = targets(client, topic, &partitions, &arguments.target).await?;
    let committed = committed(client, node_id, name).await?;
    let moves = targets.into_iter().map(|(partition, new_offset)| Move {
        partition,
        committed_offset: committed.get(&(topic.clone(), partition)).copied(),
        new_offset,
    });
    let moves: Vec<_> = moves.collect();
    if arguments.execute {
        commit(client, node_id, name, topic, &moves).await?;
    }
    Ok(moves)
}

/// A member would commit over it.
async fn refuse_live_members(client: &Client, node_id: i32, name: &str) -> Result<(), CliError> {
    // A group that is not there begins with what is committed now.
    let Some(group) = described(client, node_id, name).await? else {
        return Ok(());
    };
    if group.members.is_empty() && group.group_state == "Empty" {
        return Ok(());
    }
    let (state, count) = (group.group_state, group.members.len());
    Err(CliError::Refused {
        doing: format!("reset group {name}"),
        code: ErrorCode::NonEmptyGroup,
        message: Some(format!("it is {state} and has {count} members")),
    })
}

/// Where each partition's group is to go on.
async fn targets(
    client: &Client,
    topic: &str,
    partitions: &[i32],
    target: &Target,
) -> Result<BTreeMap<i32, i64>, CliError> {
    let at = async |position| offsets_of(client, topic, partitions, position).await;
    if target.to_earliest {
        return at(Place::Earliest).await;
    }
    let ends = at(Place::Latest).await?;
    if let Some(wanted) = target.to_offset {
        let starts = at(Place::Earliest).await?;
        let nearest = starts
            .into_iter()
            .zip(ends)
            .map(|((partition, start), (_, end))| (partition, wanted.min(end).max(start)));
        return Ok(nearest.collect());
    }
    let Some(time_ms) = target.to_time else {
        return Ok(ends);
    };
    let found = at(Place::Time(time_ms)).await?;
    let found = found.into_iter().zip(ends);
    Ok(found
        .map(|((partition, offset), (_, end))| (partition, if offset < 0 { end } else { offset }))
        .collect())
}

async fn commit(
    client: &Client,
    node_id: i32,
    group: &str,
    topic: &str,
    moves: &[Move],
) -> Result<(), CliError> {
    let doing = format!("reset group {group}");
    let partitions = moves.iter().map(|one| OffsetCommitPartition {
        partition: one.partition,
        committed_offset: one.new_offset,
        committed_metadata: Some(""),
        ..OffsetCommitPartition::default()
    });
    let partitions: Vec<_> = partitions.collect();
    let topics = [OffsetCommitTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = OffsetCommitRequest {
        group_id: group,
        topics: Array::from_slice(&topics),
        ..OffsetCommitRequest::default()
    };
    let response: OffsetCommitResponse = client
        .call_node(node_id, &request)
        .await
        .map_err(failed(doing.as_str()))?;
    let mut results = response.topics.iter().flat_map(|topic| &topic.partitions);
    match results.find(|result| result.error_code != ErrorCode::None) {
        None => Ok(()),
        Some(refused) => Err(CliError::Refused {
            doing: format!("{doing} in {topic}-{}", refused.partition),
            code: refused.error_code,
            message: None,
        }),
    }
}
