//! `millstream group describe`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use net::client::Client;
use serde_json::{Value, json};
use wire::ErrorCode;
use wire::messages::describe_groups::{DescribedGroup, DescribedMember};

use super::assignment::partitions_of;
use super::committed::committed;
use super::coordinator::{coordinator, described};
use crate::cli::CliError;
use crate::cli::offsets::{Place, offsets_of};
use crate::cli::output::{OutputArguments, known, print, printable, table};
use crate::cli::session::{self, failed, retried};

/// The protocol type whose assignments are partitions.
const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DescribeArguments {
    /// Names of the groups
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(brokers: Vec<String>, arguments: DescribeArguments) -> Result<(), CliError> {
    let DescribeArguments { names, output } = arguments;
    let groups = session::run(brokers, async move |client| {
        let mut groups = Vec::new();
        for name in &names {
            groups.push(retried(async || describe(&client, name).await).await?);
        }
        Ok(groups)
    })?;
    let text = output.text(
        || groups.iter().map(block).collect::<Vec<_>>().join("\n"),
        || groups.iter().map(document).collect(),
    );
    print(text.as_bytes()).map(|_| ())
}

/// A group, and its partitions: those that it has committed, and those that its members have.
struct Group {
    coordinator: i32,
    described: DescribedGroup,
    /// In order.
    partitions: Vec<Partition>,
}

struct Partition {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    log_end_offset: Option<i64>,
    /// The member that has it, by its place among the members.
    member: Option<usize>,
}

impl Partition {
    fn lag(&self) -> Option<i64> {
        self.log_end_offset?.checked_sub(self.committed_offset?)
    }
}

async fn describe(client: &Client, name: &str) -> Result<Group, CliError> {
    let node_id = coordinator(client, name).await?;
    let described = described(client, node_id, name).await?;
    let described = described.ok_or_else(|| CliError::Refused {
        doing: format!("describe group {name}"),
        code: ErrorCode::GroupIdNotFound,
        message: None,
    })?;
    let committed = committed(client, node_id, name).await?;
    let owners = owners(&described);
    let all: BTreeSet<_> = committed.keys().chain(owners.keys()).cloned().collect();
    let ends = log_ends(client, &all).await?;
    let partitions = all.into_iter().map(|key| Partition {
        committed_offset: committed.get(&key).copied(),
        log_end_offset: ends.get(&key).copied(),
        member: owners.get(&key).copied(),
        topic: key.0,
        partition: key.1,
    });
    Ok(Group {
        coordinator: node_id,
        partitions: partitions.collect(),
        described,
    })
}

/// The member of each partition, by its place among the members.
fn owners(group: &DescribedGroup) -> BTreeMap<(String, i32), usize> {
    let mut owners = BTreeMap::new();
    if group.protocol_type == CONSUMER_PROTOCOL_TYPE {
        for (place, member) in group.members.iter().enumerate() {
            // What another client has made of it is not known here.
            let partitions = partitions_of(&member.member_assignment.0).unwrap_or_default();
            owners.extend(partitions.into_iter().map(|partition| (partition, place)));
        }
    }
    owners
}

/// Where the logs of these partitions end; a partition that is gone has none.
async fn log_ends(
    client: &Client,
    partitions: &BTreeSet<(String, i32)>,
) -> Result<BTreeMap<(String, i32), i64>, CliError> {
    let topics: BTreeSet<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
    let mut ends = BTreeMap::new();
    for name in topics {
        let metadata = client.metadata(Some(&[name]), false).await;
        let metadata = metadata.map_err(failed(format!("look up topic {name}")))?;
        let there = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let led = there.filter(|partition| partition.leader_id >= 0);
        let led = led.map(|partition| partition.partition);
        let led: Vec<i32> = led
            .filter(|&partition| partitions.contains(&(name.to_owned(), partition)))
            .collect();
        let found = offsets_of(client, name, &led, Place::Latest).await?;
        ends.extend(
            found
                .into_iter()
                .map(|(partition, end)| ((name.to_owned(), partition), end)),
        );
    }
    Ok(ends)
}

fn block(group: &Group) -> String {
    let header = [
        "topic",
        "partition",
        "committed",
        "log end",
        "lag",
        "member",
        "host",
        "client id",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    let members = &group.described.members;
    for partition in &group.partitions {
        let [member, host, client_id] = cells(partition.member.and_then(|place| members.get(place)));
        rows.push([
            partition.topic.clone(),
            partition.partition.to_string(),
            known(partition.committed_offset),
            known(partition.log_end_offset),
            known(partition.lag()),
            member,
            host,
            client_id,
        ]);
    }
    for (place, idle) in members.iter().enumerate() {
        if group
            .partitions
            .iter()
            .all(|partition| partition.member != Some(place))
        {
            let [member, host, client_id] = cells(Some(idle));
            let none = || "-".to_owned();
            rows.push([none(), none(), none(), none(), none(), member, host, client_id]);
        }
    }
    let DescribedGroup {
        group_id,
        group_state,
        protocol_type,
        protocol_data,
        ..
    } = &group.described;
    let shown = |label: &str, text: &str| match text {
        "" => String::new(),
        text => format!(", {label} {}", printable(text)),
    };
    format!(
        "group {}: {}, members {}, coordinator {}{}{}\n{}",
        printable(group_id),
        printable(group_state),
        members.len(),
        group.coordinator,
        shown("protocol type", protocol_type),
        shown("protocol", protocol_data),
        table(&rows)
    )
}

fn cells(member: Option<&DescribedMember>) -> [String; 3] {
    [
        known(member.map(|member| &member.member_id)),
        known(member.map(|member| &member.client_host)),
        known(member.map(|member| &member.client_id)),
    ]
}

fn document(group: &Group) -> Value {
    let DescribedGroup {
        group_id,
        group_state,
        protocol_type,
        protocol_data,
        members,
        ..
    } = &group.described;
    let partitions = group.partitions.iter().map(|partition| {
        let member = partition.member.and_then(|place| members.get(place));
        json!({
            "topic": partition.topic,
            "partition": partition.partition,
            "committed_offset": partition.committed_offset,
            "log_end_offset": partition.log_end_offset,
            "lag": partition.lag(),
            "member": member.map(|member| &member.member_id),
        })
    });
    let shown = members.iter().map(|member| {
        json!({
            "member": member.member_id,
            "instance_id": member.group_instance_id,
            "client_id": member.client_id,
            "host": member.client_host,
        })
    });
    json!({
        "group": group_id,
        "state": group_state,
        "protocol_type": protocol_type,
        "protocol": protocol_data,
        "coordinator": group.coordinator,
        "members": shown.collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_table_of_its_partitions_and_then_of_idle_members() {
        let member = |id: &str| DescribedMember {
            member_id: id.to_owned(),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            ..DescribedMember::default()
        };
        let partition = |partition, committed_offset, log_end_offset, member| Partition {
            topic: "t".to_owned(),
            partition,
            committed_offset,
            log_end_offset,
            member,
        };
        let group = Group {
            coordinator: 1001,
            described: DescribedGroup {
                group_id: "g".to_owned(),
                group_state: "Stable".to_owned(),
                members: vec![member("idle"), member("m1")],
                ..DescribedGroup::default()
            },
            partitions: vec![
                partition(0, Some(5), Some(12), Some(1)),
                partition(1, None, Some(3), Some(1)),
                partition(2, Some(9), None, None),
            ],
        };
        assert_eq!(
            block(&group),
            "group g: Stable, members 2, coordinator 1001\n\
             topic  partition  committed  log end  lag  member  host        client id\n\
             t      0          5          12       7    m1      /127.0.0.1  c\n\
             t      1          -          3        -    m1      /127.0.0.1  c\n\
             t      2          9          -        -    -       -           -\n\
             -      -          -          -        -    idle    /127.0.0.1  c\n"
        );
        let lags: Vec<_> = group.partitions.iter().map(Partition::lag).collect();
        assert_eq!(lags, [Some(7), None, None]);
    }
}
