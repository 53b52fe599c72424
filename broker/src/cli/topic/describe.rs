//! `millstream topic describe`.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use net::client::Client;
use wire::ErrorCode;
use wire::messages::metadata::{MetadataPartition, MetadataTopic};

use super::offsets::{Edge, offsets};
use super::print;
use crate::cli::CliError;
use crate::cli::session::{self, failed};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DescribeArguments {
    /// Names of the topics [default: all]
    names: Vec<String>,
}

pub(super) fn run(brokers: Vec<String>, arguments: DescribeArguments) -> Result<(), CliError> {
    let text = session::run(brokers, move |client| describe(client, arguments.names))?;
    print(text.as_bytes()).map(|_| ())
}

async fn describe(client: Client, names: Vec<String>) -> Result<String, CliError> {
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let asked = Some(asked.as_slice()).filter(|names| !names.is_empty());
    let mut metadata = client
        .metadata(asked, false)
        .await
        .map_err(failed("describe topics"))?;
    metadata.topics.sort_by(|one, other| one.name.cmp(&other.name));
    let nodes = client.nodes();
    let mut blocks = Vec::new();
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
        blocks.push(block(&name, &topic, &nodes, &ranges));
    }
    Ok(blocks.join("\n"))
}

/// First and next offset of each partition that has a leader.
async fn ranges(
    client: &Client,
    topic: &str,
    partitions: &[MetadataPartition],
) -> Result<BTreeMap<i32, (i64, i64)>, CliError> {
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in partitions.iter().filter(|partition| partition.leader_id >= 0) {
        by_leader
            .entry(partition.leader_id)
            .or_default()
            .push(partition.partition);
    }
    let mut ranges = BTreeMap::new();
    for (leader, led) in by_leader {
        let starts = offsets(client, leader, topic, &led, Edge::Earliest).await?;
        let ends = offsets(client, leader, topic, &led, Edge::Latest).await?;
        for ((partition, start), end) in led.into_iter().zip(starts).zip(ends) {
            ranges.insert(partition, (start, end));
        }
    }
    Ok(ranges)
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

fn numbers(numbers: &[i32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    numbers.join(",")
}

/// Columns as wide as their widest cell, two blanks between them.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
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
