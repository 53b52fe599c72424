//! What the controller makes of a wish to change topics that are there: more partitions, other configs. Pure.
//!
//! As in [`crate::controller::decide`], a decision is records to be written and the answers to give then; the codes are
//! Kafka's for the same request.

use std::collections::{BTreeMap, BTreeSet};

use wire::ErrorCode;

use crate::config::Settings;
use crate::config::topic as topic_config;
use crate::controller::decide::{
    Cluster, OFFSETS_TOPIC, PARTITIONS_MAX, REQUEST_PARTITIONS_MAX, Refusal, partition,
};
use crate::controller::image::{Node, PartitionState, Topic};
use crate::controller::placement::{Placement, host_of};
use crate::controller::record::MetadataRecord;
use crate::controller::request::{Altered, ConfigChange, ConfigOperation, MorePartitions, TopicConfigs};
use crate::controller::state::Metadata;

/// NAME_MAX of Linux' file systems.
const DIRECTORY_NAME_BYTES_MAX: usize = 255;

/// Decides on more partitions. One result for each topic, in order.
pub fn create_partitions(
    metadata: &Metadata,
    cluster: &Cluster<'_>,
    wanted: &[MorePartitions],
) -> (Vec<MetadataRecord>, Vec<Altered>) {
    let mut placement = Placement::of(metadata, cluster.nodes);
    let mut added = 0;
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(wanted.len());
    for wish in wanted {
        let decided = more_partitions(metadata, cluster.nodes, wish, &mut placement, added);
        results.push(Altered::of(decided.map(|(topic_id, partitions)| {
            added += partitions.len();
            records.push(MetadataRecord::PartitionsAdded { topic_id, partitions });
        })));
    }
    (records, results)
}

fn more_partitions(
    metadata: &Metadata,
    nodes: &[Node],
    wanted: &MorePartitions,
    placement: &mut Placement,
    added: usize,
) -> Result<(u128, Vec<PartitionState>), Refusal> {
    let topic = find(metadata, &wanted.topic)?;
    let now = topic.partitions.len();
    if wanted.topic == OFFSETS_TOPIC {
        let why = "groups would be looked for in other partitions than they are in".to_owned();
        return Err((ErrorCode::InvalidRequest, why));
    }
    let count = usize::try_from(wanted.count).unwrap_or(0);
    if count <= now {
        let why = if count == now {
            format!("Topic already has {now} partition(s).")
        } else {
            format!(
                "The topic {} currently has {now} partition(s); {} would not be an increase.",
                wanted.topic, wanted.count
            )
        };
        return Err((ErrorCode::InvalidPartitions, why));
    }
    // A partition's directory has the topic's name and the partition's number.
    let longest = format!("{}-{}", wanted.topic, count - 1);
    if longest.len() > DIRECTORY_NAME_BYTES_MAX {
        let why = format!(
            "the name {longest} of the last partition's directory would be longer than {DIRECTORY_NAME_BYTES_MAX} bytes"
        );
        return Err((ErrorCode::InvalidPartitions, why));
    }
    let more = count - now;
    if added + more > REQUEST_PARTITIONS_MAX || metadata.partitions() + added + more > PARTITIONS_MAX {
        let why = format!(
            "a request may ask for at most {REQUEST_PARTITIONS_MAX} new partitions, and a cluster has at most {PARTITIONS_MAX}"
        );
        return Err((ErrorCode::PolicyViolation, why));
    }
    let Some(assignments) = &wanted.assignments else {
        let partitions = placement.take(more).map(|node| partition(vec![node]));
        return Ok((topic.id, partitions.collect()));
    };
    let refuse = |why: String| Err((ErrorCode::InvalidReplicaAssignment, why));
    if assignments.len() != more {
        return refuse(format!(
            "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        ));
    }
    let factor = topic.partitions.first().map_or(1, |first| first.replicas.len());
    for replicas in assignments {
        let hosts: BTreeSet<i32> = replicas.iter().map(|node| host_of(*node)).collect();
        let unknown = replicas
            .iter()
            .find(|id| !nodes.iter().any(|node| node.id == **id));
        if let Some(unknown) = unknown {
            return refuse(format!(
                "a partition is assigned to node {unknown}, which is not there"
            ));
        }
        if replicas.len() != factor || hosts.len() != factor {
            return refuse(format!(
                "each partition of the topic has {factor} replica(s), on as many hosts"
            ));
        }
    }
    assignments
        .iter()
        .for_each(|replicas| placement.count(replicas[0]));
    Ok((topic.id, assignments.iter().cloned().map(partition).collect()))
}

/// Decides on other configs of topics. One result for each, in order.
pub fn alter_configs(
    metadata: &Metadata,
    settings: &Settings,
    wanted: &[TopicConfigs],
) -> (Vec<MetadataRecord>, Vec<Altered>) {
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(wanted.len());
    for wish in wanted {
        let decided = find(metadata, &wish.topic).and_then(|topic| {
            let configs = changed(&topic.configs, settings, wish)?;
            Ok((topic, configs))
        });
        results.push(Altered::of(decided.map(|(topic, configs)| {
            if topic.configs != configs {
                let topic_id = topic.id;
                records.push(MetadataRecord::TopicConfigsSet { topic_id, configs });
            }
        })));
    }
    (records, results)
}

fn changed(
    before: &BTreeMap<String, String>,
    settings: &Settings,
    wanted: &TopicConfigs,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut configs = if wanted.replaces_all {
        BTreeMap::new()
    } else {
        before.clone()
    };
    let mut names = BTreeSet::new();
    for change in &wanted.changes {
        if !names.insert(&change.name) {
            let why = format!("config {} is named twice", change.name);
            return Err((ErrorCode::InvalidRequest, why));
        }
        let value = new_value(&configs, settings, change)?;
        match value {
            Some(value) => {
                topic_config::check(&change.name, &value, settings)
                    .map_err(|why| (ErrorCode::InvalidConfig, why))?;
                configs.insert(change.name.clone(), value.trim().to_owned());
            }
            None => {
                configs.remove(&change.name);
            }
        }
    }
    Ok(configs)
}

/// What the config shall be; `None`: its default again.
fn new_value(
    configs: &BTreeMap<String, String>,
    settings: &Settings,
    change: &ConfigChange,
) -> Result<Option<String>, Refusal> {
    let name = &change.name;
    if change.operation == ConfigOperation::Delete {
        return Ok(None);
    }
    let Some(value) = &change.value else {
        return Err((
            ErrorCode::InvalidRequest,
            format!("Null value not supported for : {name}"),
        ));
    };
    if change.operation == ConfigOperation::Set {
        return Ok(Some(value.clone()));
    }
    if !topic_config::is_list(name) {
        let why = format!("only values of lists can be added or taken out, and {name} is none");
        return Err((ErrorCode::InvalidConfig, why));
    }
    let effective = topic_config::effective(configs, settings);
    let now = effective.into_iter().find(|config| config.name == *name);
    let now = now.and_then(|config| config.value).unwrap_or_default();
    let mut values: Vec<&str> = now
        .split(',')
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect();
    for one in value.split(',').map(str::trim) {
        match change.operation {
            ConfigOperation::Subtract => values.retain(|known| *known != one),
            _ if !values.contains(&one) => values.push(one),
            _ => {}
        }
    }
    Ok(Some(values.join(",")))
}

fn find<'a>(metadata: &'a Metadata, name: &str) -> Result<&'a Topic, Refusal> {
    let topic = metadata.topics_by_name.get(name);
    topic.map(|topic| &**topic).ok_or_else(|| {
        let why = "This server does not host this topic-partition.".to_owned();
        (ErrorCode::UnknownTopicOrPartition, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        let nodes = (1000..1002).map(|id| Node {
            id,
            host: "127.0.0.1".into(),
            port: 9092,
            rack: None,
        });
        nodes.collect()
    }

    fn metadata() -> Metadata {
        let mut metadata = Metadata::default();
        for (id, name) in [(1, "t"), (2, OFFSETS_TOPIC)] {
            let topic = Topic {
                name: name.into(),
                id,
                partitions: vec![partition(vec![1000]), partition(vec![1001])],
                configs: BTreeMap::from([("retention.ms".into(), "5".into())]),
                ..Topic::default()
            };
            metadata
                .apply(&MetadataRecord::TopicCreated(topic))
                .expect("applied");
        }
        metadata
    }

    fn more(topic: &str, count: i32, assignments: Option<Vec<Vec<i32>>>) -> (ErrorCode, usize) {
        let mut metadata = metadata();
        let cluster = Cluster {
            nodes: &nodes(),
            settings: &Settings::default(),
        };
        let wanted = [MorePartitions {
            topic: topic.into(),
            count,
            assignments,
        }];
        let (records, results) = create_partitions(&metadata, &cluster, &wanted);
        for record in &records {
            metadata.apply(record).expect("a decision that can be applied");
        }
        (
            results[0].error_code,
            metadata.topics_by_name["t"].partitions.len(),
        )
    }

    #[test]
    fn a_topic_grows_and_never_shrinks() {
        use ErrorCode as E;
        assert_eq!(more("t", 5, None), (E::None, 5));
        for (topic, count, code) in [
            ("t", 2, E::InvalidPartitions),
            ("t", 1, E::InvalidPartitions),
            ("t", 0, E::InvalidPartitions),
            ("t", -1, E::InvalidPartitions),
            ("t", i32::MAX, E::PolicyViolation),
            ("u", 3, E::UnknownTopicOrPartition),
            (OFFSETS_TOPIC, 3, E::InvalidRequest),
        ] {
            assert_eq!(more(topic, count, None), (code, 2), "{topic} {count}");
        }
    }

    #[test]
    fn no_partition_gets_a_number_that_its_directorys_name_has_no_room_for() {
        let mut metadata = metadata();
        let name = "x".repeat(249);
        let before = Topic {
            id: 99,
            name: name.clone(),
            partitions: vec![partition(vec![1000]); 99_999],
            ..Topic::default()
        };
        metadata.topics_by_name.insert(name.clone(), before.into());
        let cluster = Cluster {
            nodes: &nodes(),
            settings: &Settings::default(),
        };
        for (count, code) in [
            (100_000, ErrorCode::None),
            (100_001, ErrorCode::InvalidPartitions),
        ] {
            let wanted = [MorePartitions {
                topic: name.clone(),
                count,
                assignments: None,
            }];
            let (_, results) = create_partitions(&metadata, &cluster, &wanted);
            assert_eq!(results[0].error_code, code, "{count}");
        }
    }

    #[test]
    fn assigned_partitions_are_where_they_were_assigned() {
        use ErrorCode as E;
        assert_eq!(more("t", 4, Some(vec![vec![1001], vec![1001]])), (E::None, 4));
        for assignments in [
            vec![vec![1001]],
            vec![vec![1001], vec![1002]],
            vec![vec![1001], vec![]],
            vec![vec![1001], vec![1000, 1001]],
        ] {
            assert_eq!(more("t", 4, Some(assignments)), (E::InvalidReplicaAssignment, 2));
        }
    }

    fn alter(
        replaces_all: bool,
        changes: &[(&str, ConfigOperation, Option<&str>)],
    ) -> Result<Vec<String>, ErrorCode> {
        let mut metadata = metadata();
        let changes = changes.iter().map(|(name, operation, value)| ConfigChange {
            name: (*name).into(),
            operation: *operation,
            value: value.map(str::to_owned),
        });
        let wanted = [TopicConfigs {
            topic: "t".into(),
            replaces_all,
            changes: changes.collect(),
        }];
        let (records, results) = alter_configs(&metadata, &Settings::default(), &wanted);
        for record in &records {
            metadata.apply(record).expect("a decision that can be applied");
        }
        match results[0].error_code {
            ErrorCode::None => {
                let configs = metadata.topics_by_id[&1].configs.iter();
                Ok(configs.map(|(name, value)| format!("{name}={value}")).collect())
            }
            error => Err(error),
        }
    }

    #[test]
    fn configs_are_set_deleted_added_to_and_taken_from() {
        use ConfigOperation::{Append, Delete, Set, Subtract};
        let set = ("segment.ms", Set, Some("7"));
        assert_eq!(
            alter(false, &[set]),
            Ok(vec!["retention.ms=5".into(), "segment.ms=7".into()])
        );
        assert_eq!(alter(true, &[set]), Ok(vec!["segment.ms=7".into()]));
        assert_eq!(alter(true, &[]), Ok(vec![]));
        assert_eq!(alter(false, &[("retention.ms", Delete, None)]), Ok(vec![]));
        let compact = ("cleanup.policy", Append, Some("compact"));
        assert_eq!(
            alter(true, &[compact]),
            Ok(vec!["cleanup.policy=delete,compact".into()]),
            "the default is what is added to"
        );
        assert_eq!(
            alter(true, &[("cleanup.policy", Append, Some("delete"))]),
            Ok(vec!["cleanup.policy=delete".into()])
        );
        assert_eq!(
            alter(true, &[("cleanup.policy", Subtract, Some("compact"))]),
            Ok(vec!["cleanup.policy=delete".into()])
        );
    }

    #[test]
    fn a_change_that_is_wrong_changes_nothing() {
        use ConfigOperation::{Append, Set};
        use ErrorCode::{InvalidConfig, InvalidRequest};
        for (changes, code) in [
            (&[("no.such", Set, Some("1"))][..], InvalidConfig),
            (&[("segment.ms", Set, Some("soon"))], InvalidConfig),
            (&[("segment.ms", Set, None)], InvalidRequest),
            (&[("segment.ms", Append, Some("1"))], InvalidConfig),
            (
                &[("segment.ms", Set, Some("1")), ("segment.ms", Set, Some("2"))],
                InvalidRequest,
            ),
            (
                &[("segment.ms", Set, Some("1")), ("no.such", Set, Some("2"))],
                InvalidConfig,
            ),
        ] {
            assert_eq!(alter(false, changes), Err(code), "{changes:?}");
        }
    }
}
