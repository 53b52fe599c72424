//! `millstream topic describe`.

use std::collections::BTreeMap;

use clap::Args;
use net::client::Client;
use serde_json::{Value, json};
use wire::messages::metadata::{MetadataPartition, MetadataTopic};

use super::sizes::sizes;
use crate::cli::CliError;
use crate::cli::offsets::{Place, offsets_of};
use crate::cli::output::{OutputArguments, known, print, table};
use crate::cli::session::{self, failed};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DescribeArguments {
    /// Names of the topics [default: all]
    names: Vec<String>,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(brokers: Vec<String>, arguments: DescribeArguments) -> Result<(), CliError> {
    let text = session::run(brokers, move |client| describe(client, arguments))?;
    print(text.as_bytes()).map(|_| ())
}

/// A topic, and what its leaders know of its partitions.
struct Described {
    topic: MetadataTopic,
    logs: BTreeMap<i32, Log>,
}

/// A partition's log, as its leader has it.
#[derive(Debug, Clone, Copy)]
struct Log {
    first_offset: i64,
    next_offset: i64,
    size_bytes: Option<i64>,
}

impl Described {
    fn name(&self) -> &str {
        self.topic.name.as_deref().unwrap_or_default()
    }
}

async fn describe(client: Client, arguments: DescribeArguments) -> Result<String, CliError> {
    let asked: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
    let asked = Some(asked.as_slice()).filter(|names| !names.is_empty());
    let mut metadata = client
        .metadata(asked, false)
        .await
        .map_err(failed("describe topics"))?;
    metadata.topics.sort_by(|one, other| one.name.cmp(&other.name));
    let nodes = client.nodes();
    if let Some(refused) = metadata.topics.iter().find(|topic| topic.error_code.is_error()) {
        return Err(CliError::Refused {
            doing: format!("describe topic {}", refused.name.as_deref().unwrap_or_default()),
            code: refused.error_code,
            message: None,
        });
    }
    let sizes = sizes(&client, &metadata.topics).await?;
    let mut described = Vec::new();
    for mut topic in metadata.topics {
        topic.partitions.sort_by_key(|partition| partition.partition);
        let name = topic.name.clone().unwrap_or_default();
        let ranges = ranges(&client, &name, &topic.partitions).await?;
        let led = topic.partitions.iter().filter_map(|partition| {
            let id = partition.partition;
            let (first_offset, next_offset) = *ranges.get(&id)?;
            let log = Log {
                first_offset,
                next_offset,
                size_bytes: sizes.get(&(partition.leader_id, name.clone(), id)).copied(),
            };
            Some((id, log))
        });
        let logs = led.collect();
        described.push(Described { topic, logs });
    }
    Ok(arguments.output.text(
        || {
            let blocks = described.iter().map(|topic| block(topic, &nodes));
            blocks.collect::<Vec<_>>().join("\n")
        },
        || described.iter().map(|topic| document(topic, &nodes)).collect(),
    ))
}

/// First and next offset of each partition that has a leader.
async fn ranges(
    client: &Client,
    topic: &str,
    partitions: &[MetadataPartition],
) -> Result<BTreeMap<i32, (i64, i64)>, CliError> {
    let led = partitions.iter().filter(|partition| partition.leader_id >= 0);
    let led: Vec<i32> = led.map(|partition| partition.partition).collect();
    let starts = offsets_of(client, topic, &led, Place::Earliest).await?;
    let ends = offsets_of(client, topic, &led, Place::Latest).await?;
    let both = starts.into_iter().zip(ends);
    Ok(both
        .map(|((partition, start), (_, end))| (partition, (start, end)))
        .collect())
}

fn block(described: &Described, nodes: &BTreeMap<i32, (String, u16)>) -> String {
    let header = [
        "partition",
        "leader",
        "address",
        "epoch",
        "replicas",
        "in sync",
        "first offset",
        "next offset",
        "bytes",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    let topic = &described.topic;
    for partition in &topic.partitions {
        let leader = partition.leader_id;
        let log = described.logs.get(&partition.partition);
        rows.push([
            partition.partition.to_string(),
            known(Some(leader).filter(|leader| *leader >= 0)),
            known(nodes.get(&leader).map(|(host, port)| format!("{host}:{port}"))),
            partition.leader_epoch.to_string(),
            numbers(&partition.replica_nodes),
            numbers(&partition.isr_nodes),
            known(log.map(|log| log.first_offset)),
            known(log.map(|log| log.next_offset)),
            known(log.and_then(|log| log.size_bytes)),
        ]);
    }
    let internal = if topic.is_internal { ", internal" } else { "" };
    let (name, id, count) = (described.name(), topic.topic_id, topic.partitions.len());
    format!(
        "topic {name}: id {id}, partitions {count}{internal}\n{}",
        table(&rows)
    )
}

fn document(described: &Described, nodes: &BTreeMap<i32, (String, u16)>) -> Value {
    let topic = &described.topic;
    let partitions = topic.partitions.iter().map(|partition| {
        let leader = Some(partition.leader_id).filter(|leader| *leader >= 0);
        let node = nodes.get(&partition.leader_id);
        let log = described.logs.get(&partition.partition);
        json!({
            "partition": partition.partition,
            "leader": leader,
            "address": node.map(|(host, port)| format!("{host}:{port}")),
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replica_nodes,
            "in_sync_replicas": partition.isr_nodes,
            "first_offset": log.map(|log| log.first_offset),
            "next_offset": log.map(|log| log.next_offset),
            "size_bytes": log.and_then(|log| log.size_bytes),
        })
    });
    json!({
        "topic": described.name(),
        "topic_id": topic.topic_id.to_string(),
        "is_internal": topic.is_internal,
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn numbers(numbers: &[i32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_table_of_its_partitions() {
        let partition = |partition, leader_id| MetadataPartition {
            partition,
            leader_id,
            leader_epoch: 3,
            replica_nodes: vec![1000],
            isr_nodes: vec![1000],
            ..MetadataPartition::default()
        };
        let log = |size_bytes| Log {
            first_offset: 5,
            next_offset: 1_234,
            size_bytes,
        };
        let topic = Described {
            topic: MetadataTopic {
                name: Some("orders".to_owned()),
                partitions: vec![partition(0, 1000), partition(1, 1000), partition(10, -1)],
                ..MetadataTopic::default()
            },
            logs: BTreeMap::from([(0, log(Some(99_000))), (1, log(None))]),
        };
        let nodes = BTreeMap::from([(1000, ("localhost".to_owned(), 9092))]);
        assert_eq!(
            block(&topic, &nodes),
            "topic orders: id AAAAAAAAAAAAAAAAAAAAAA, partitions 3\n\
             partition  leader  address         epoch  replicas  in sync  first offset  next offset  bytes\n\
             0          1000    localhost:9092  3      1000      1000     5             1234         99000\n\
             1          1000    localhost:9092  3      1000      1000     5             1234         -\n\
             10         -       -               3      1000      1000     -             -            -\n"
        );
    }
}
