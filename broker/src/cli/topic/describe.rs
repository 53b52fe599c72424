//! `millstream topic describe`.

use std::collections::BTreeMap;

use clap::Args;
use net::client::Client;
use serde_json::{Value, json};
use wire::ErrorCode;
use wire::messages::metadata::{MetadataPartition, MetadataTopic};

use crate::cli::CliError;
use crate::cli::offsets::{Place, offsets_of};
use crate::cli::output::{OutputArguments, print, table};
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

async fn describe(client: Client, arguments: DescribeArguments) -> Result<String, CliError> {
    let asked: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
    let asked = Some(asked.as_slice()).filter(|names| !names.is_empty());
    let mut metadata = client
        .metadata(asked, false)
        .await
        .map_err(failed("describe topics"))?;
    metadata.topics.sort_by(|one, other| one.name.cmp(&other.name));
    let nodes = client.nodes();
    let mut described = Vec::new();
    for mut topic in metadata.topics {
        topic.partitions.sort_by_key(|partition| partition.partition);
        let name = topic.name.clone().unwrap_or_default();
        if topic.error_code != ErrorCode::None {
            return Err(CliError::Refused {
                doing: format!("describe topic {name}"),
                code: topic.error_code,
                message: None,
            });
        }
        let ranges = ranges(&client, &name, &topic.partitions).await?;
        described.push((name, topic, ranges));
    }
    Ok(arguments.output.text(
        || {
            let blocks = described
                .iter()
                .map(|(name, topic, ranges)| block(name, topic, &nodes, ranges));
            blocks.collect::<Vec<_>>().join("\n")
        },
        || {
            described
                .iter()
                .map(|(name, topic, ranges)| document(name, topic, &nodes, ranges))
                .collect()
        },
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

fn block(
    name: &str,
    topic: &MetadataTopic,
    nodes: &BTreeMap<i32, (String, u16)>,
    ranges: &BTreeMap<i32, (i64, i64)>,
) -> String {
    let header = [
        "partition",
        "leader",
        "address",
        "epoch",
        "replicas",
        "in sync",
        "first offset",
        "next offset",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for partition in &topic.partitions {
        let leader = partition.leader_id;
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let range = ranges.get(&partition.partition);
        rows.push([
            partition.partition.to_string(),
            known(
                Some(leader)
                    .filter(|leader| *leader >= 0)
                    .map(|leader| leader.to_string()),
            ),
            known(nodes.get(&leader).map(|(host, port)| format!("{host}:{port}"))),
            partition.leader_epoch.to_string(),
            numbers(&partition.replica_nodes),
            numbers(&partition.isr_nodes),
            known(range.map(|(start, _)| start.to_string())),
            known(range.map(|(_, end)| end.to_string())),
        ]);
    }
    let internal = if topic.is_internal { ", internal" } else { "" };
    let (id, count) = (topic.topic_id, topic.partitions.len());
    format!(
        "topic {name}: id {id}, partitions {count}{internal}\n{}",
        table(&rows)
    )
}

fn document(
    name: &str,
    topic: &MetadataTopic,
    nodes: &BTreeMap<i32, (String, u16)>,
    ranges: &BTreeMap<i32, (i64, i64)>,
) -> Value {
    let partitions = topic.partitions.iter().map(|partition| {
        let leader = Some(partition.leader_id).filter(|leader| *leader >= 0);
        let node = nodes.get(&partition.leader_id);
        let range = ranges.get(&partition.partition);
        json!({
            "partition": partition.partition,
            "leader": leader,
            "address": node.map(|(host, port)| format!("{host}:{port}")),
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replica_nodes,
            "in_sync_replicas": partition.isr_nodes,
            "first_offset": range.map(|(start, _)| start),
            "next_offset": range.map(|(_, end)| end),
        })
    });
    json!({
        "topic": name,
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
        let topic = MetadataTopic {
            partitions: vec![partition(0, 1000), partition(10, -1)],
            ..MetadataTopic::default()
        };
        let nodes = BTreeMap::from([(1000, ("localhost".to_owned(), 9092))]);
        let text = block("orders", &topic, &nodes, &BTreeMap::from([(0, (5, 1_234))]));
        assert_eq!(
            text,
            "topic orders: id AAAAAAAAAAAAAAAAAAAAAA, partitions 2\n\
             partition  leader  address         epoch  replicas  in sync  first offset  next offset\n\
             0          1000    localhost:9092  3      1000      1000     5             1234\n\
             10         -       -               3      1000      1000     -             -\n"
        );
    }
}
