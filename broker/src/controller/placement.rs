//! Which shard gets which partition, and which of its host's log directories. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::controller::image::{
    LogDirectories, NODES_PER_HOST, Node, PartitionState, UNASSIGNED_DIRECTORY, host_of,
};
use crate::controller::record::{DirectoryAssignment, PartitionMove};
use crate::controller::state::Metadata;

/// How many partitions each node leads, and how many of them are in each directory, as new ones are handed out.
pub(crate) struct Placement {
    led: BTreeMap<i32, usize>,
    /// By node and directory.
    held: BTreeMap<(i32, u128), usize>,
    directories: Arc<BTreeMap<i32, LogDirectories>>,
}

impl Placement {
    /// The nodes, with what they lead now.
    pub(crate) fn of(metadata: &Metadata, nodes: &[Node]) -> Placement {
        let mut placement = Placement {
            led: nodes.iter().map(|node| (node.id, 0)).collect(),
            held: BTreeMap::new(),
            directories: metadata.directories.clone(),
        };
        let topics = metadata.topics_by_id.values();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| placement.count(partition));
        placement
    }

    fn count(&mut self, partition: &PartitionState) {
        if let Some(led) = self.led.get_mut(&partition.leader) {
            *led += 1;
        }
        for (&node, &directory) in partition.replicas.iter().zip(&partition.directories) {
            let directory = match directory {
                UNASSIGNED_DIRECTORY => self.online_on(node).first().copied().unwrap_or_default(),
                directory => directory,
            };
            *self.held.entry((node, directory)).or_default() += 1;
        }
    }

    /// The directory for a new replica on `node`: the one in which it has the fewest, as in Kafka.
    fn directory(&self, node: i32) -> u128 {
        let held = |directory: u128| self.held.get(&(node, directory)).copied().unwrap_or_default();
        let online = self.online_on(node).iter().copied();
        online
            .min_by_key(|&directory| held(directory))
            .unwrap_or(UNASSIGNED_DIRECTORY)
    }

    /// A new partition with these replicas, the leader first.
    pub(crate) fn place(&mut self, replicas: Vec<i32>) -> PartitionState {
        let partition = PartitionState {
            directories: replicas.iter().map(|&node| self.directory(node)).collect(),
            ..PartitionState::of(replicas)
        };
        self.count(&partition);
        partition
    }

    /// `count` new partitions: round the nodes, beginning with the one that leads the fewest.
    pub(crate) fn take(&mut self, count: usize) -> Vec<PartitionState> {
        let nodes: Vec<i32> = self.led.keys().copied().collect();
        let first = (0..nodes.len())
            .min_by_key(|&at| self.led[&nodes[at]])
            .unwrap_or(0);
        let leaders = nodes.iter().copied().cycle().skip(first).take(count);
        leaders.map(|node| self.place(vec![node])).collect()
    }

    /// The directories of a node's host that are online.
    fn online_on(&self, node: i32) -> &[u128] {
        let known = self.directories.get(&host_of(node));
        known.map_or(&[], |known| &known.online)
    }
}

/// Other directories for what host `host_id` has in `given_up`: those that are online in `metadata`.
pub(crate) fn replace(metadata: &Metadata, host_id: i32, given_up: u128) -> Vec<DirectoryAssignment> {
    let mut placement = Placement::of(metadata, &[]);
    let mut assignments = Vec::new();
    for topic in metadata.topics_by_id.values() {
        for (partition, state) in (0..).zip(&topic.partitions) {
            for (&node, &directory) in state.replicas.iter().zip(&state.directories) {
                if host_of(node) == host_id && directory == given_up {
                    let directory = placement.directory(node);
                    *placement.held.entry((node, directory)).or_default() += 1;
                    assignments.push(DirectoryAssignment {
                        topic_id: topic.id,
                        partition,
                        node,
                        directory,
                    });
                }
            }
        }
    }
    assignments
}

/// The moves that spread what host `host_id` leads evenly over `shards` shards, with as few moves as that takes.
pub(crate) fn spread(metadata: &Metadata, host_id: i32, shards: u32) -> Vec<PartitionMove> {
    let shards = i32::try_from(shards)
        .unwrap_or(NODES_PER_HOST)
        .clamp(1, NODES_PER_HOST);
    let nodes = (0..shards).map(|shard| host_id * NODES_PER_HOST + shard);
    let mut led: BTreeMap<i32, usize> = nodes.map(|node| (node, 0)).collect();
    let here = |leader: i32| host_of(leader) == host_id;
    let partitions = metadata.topics_by_id.values().flat_map(|topic| {
        (0..)
            .zip(&topic.partitions)
            .map(|(number, state)| (topic.id, number, state.leader))
    });
    let all: Vec<(u128, i32, i32)> = partitions.filter(|(_, _, leader)| here(*leader)).collect();
    let share = all.len() / led.len();
    let mut with_one_more = all.len() % led.len();
    let mut homeless = Vec::new();
    for &(topic_id, partition, from) in &all {
        match led.get_mut(&from) {
            Some(count) if *count < share => *count += 1,
            Some(count) if *count == share && with_one_more > 0 => {
                *count += 1;
                with_one_more -= 1;
            }
            _ => homeless.push((topic_id, partition, from)),
        }
    }
    let moved = homeless.into_iter().map(|(topic_id, partition, from)| {
        let (&to, count) = led
            .iter_mut()
            .min_by_key(|(_, count)| **count)
            .expect("at least one shard");
        *count += 1;
        PartitionMove {
            topic_id,
            partition,
            from,
            to,
        }
    });
    moved.collect()
}
