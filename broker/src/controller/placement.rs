//! Which shard gets which partition. Pure.

use std::collections::BTreeMap;

use crate::controller::image::{NODES_PER_HOST, Node};
use crate::controller::record::PartitionMove;
use crate::controller::state::Metadata;

/// The host of a node.
pub(crate) fn host_of(node_id: i32) -> i32 {
    node_id / NODES_PER_HOST
}

/// How many partitions each node leads, as new ones are handed out.
pub(crate) struct Placement {
    led: BTreeMap<i32, usize>,
}

impl Placement {
    /// The nodes, with what they lead now.
    pub(crate) fn of(metadata: &Metadata, nodes: &[Node]) -> Placement {
        let led = nodes.iter().map(|node| (node.id, 0)).collect();
        let mut placement = Placement { led };
        let topics = metadata.topics_by_id.values();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| placement.count(partition.leader));
        placement
    }

    /// Counts a partition that `node` leads.
    pub(crate) fn count(&mut self, node: i32) {
        if let Some(led) = self.led.get_mut(&node) {
            *led += 1;
        }
    }

    /// Leaders for `count` partitions: round the nodes, beginning with the one that leads the fewest.
    pub(crate) fn take(&mut self, count: usize) -> std::vec::IntoIter<i32> {
        let nodes: Vec<i32> = self.led.keys().copied().collect();
        let first = (0..nodes.len())
            .min_by_key(|&at| self.led[&nodes[at]])
            .unwrap_or(0);
        let leaders: Vec<i32> = nodes.iter().copied().cycle().skip(first).take(count).collect();
        leaders.iter().for_each(|&node| self.count(node));
        leaders.into_iter()
    }
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
