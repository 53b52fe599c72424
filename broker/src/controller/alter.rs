//! What the controller makes of a wish for more partitions of topics that are there. Pure.
//!
//! As in [`crate::controller::decide`], a decision is records to be written and the answers to give then; the codes are
//! Kafka's for the same request.

use std::collections::BTreeSet;

use wire::ErrorCode;

use crate::controller::decide::{Cluster, OFFSETS_TOPIC, PARTITIONS_MAX, REQUEST_PARTITIONS_MAX, Refusal};
use crate::controller::image::{Node, PartitionState, Topic, host_of};
use crate::controller::placement::Placement;
use crate::controller::record::MetadataRecord;
use crate::controller::request::{Altered, MorePartitions};
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
    let known = metadata.partitions();
    let mut added = 0;
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(wanted.len());
    for wish in wanted {
        let decided = more_partitions(metadata, cluster.nodes, wish, &mut placement, (known, added));
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
    (known, added): (usize, usize),
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
    if added + more > REQUEST_PARTITIONS_MAX || known + added + more > PARTITIONS_MAX {
        let why = format!(
            "a request may ask for at most {REQUEST_PARTITIONS_MAX} new partitions, and a cluster has at most {PARTITIONS_MAX}"
        );
        return Err((ErrorCode::PolicyViolation, why));
    }
    let Some(assignments) = &wanted.assignments else {
        return Ok((topic.id, placement.take(more)));
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
    let partitions = assignments.iter().cloned();
    Ok((
        topic.id,
        partitions.map(|replicas| placement.place(replicas)).collect(),
    ))
}

pub(crate) fn find<'a>(metadata: &'a Metadata, name: &str) -> Result<&'a Topic, Refusal> {
    let topic = metadata.topics_by_name.get(name);
    topic.map(|topic| &**topic).ok_or_else(|| {
        let why = "This server does not host this topic-partition.".to_owned();
        (ErrorCode::UnknownTopicOrPartition, why)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Settings;

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
                partitions: vec![PartitionState::of(vec![1000]), PartitionState::of(vec![1001])],
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
            partitions: vec![PartitionState::of(vec![1000]); 99_999],
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
}
