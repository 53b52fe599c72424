//! What all nodes know of the cluster: an immutable image, shared by pointer.
//!
//! Made by [`crate::controller::state::Metadata::image`], installed on every shard. Topics that did not change keep
//! their `Arc` from image to image, so that a shard sees at once what is new. Must never be changed after it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::broker::BrokerConfigs;

/// Node ids of a host are `host_id * NODES_PER_HOST + shard`.
pub const NODES_PER_HOST: i32 = 1_000;

/// Stands for the log directory in which its host has the metadata: that of every partition from before a host could have
/// several. Kafka's `DirectoryId.UNASSIGNED`.
pub const UNASSIGNED_DIRECTORY: u128 = 0;

/// Where a leader's node id is told and nobody leads.
pub const NO_LEADER: i32 = -1;

/// The host of a node.
pub fn host_of(node_id: i32) -> i32 {
    node_id / NODES_PER_HOST
}

/// The cluster's metadata as of one entry of the metadata log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// The index of the newest entry of the metadata log that is in it: grows, also over restarts.
    pub version: u64,
    /// The cluster's id.
    pub cluster_id: u128,
    /// The node that Metadata names as controller.
    pub controller_id: i32,
    /// All nodes, by id.
    pub nodes: Vec<Node>,
    /// All topics by name.
    pub topics_by_name: BTreeMap<String, Arc<Topic>>,
    /// The same topics by id.
    pub topics_by_id: BTreeMap<u128, Arc<Topic>>,
    /// Topics that were deleted and that some shard may still have to drop.
    pub deleted_topics: BTreeSet<u128>,
    /// The first producer id that was never leased.
    pub next_producer_id: i64,
    /// Configs of brokers that were changed while they ran.
    pub broker_configs: Arc<BrokerConfigs>,
    /// Each host's log directories, by host.
    pub directories: Arc<BTreeMap<i32, LogDirectories>>,
}

/// The log directories of a host, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogDirectories {
    /// Those that are used. The first has the metadata.
    pub online: Vec<u128>,
    /// Those that have failed, or were not there at the last start, and were not given up.
    pub offline: Vec<u128>,
}

impl Image {
    /// Whether the partition's log on its leader is in a directory that has not failed.
    pub fn is_online(&self, partition: &PartitionState) -> bool {
        let directory = partition.directory();
        let known = self.directories.get(&host_of(partition.leader));
        directory == UNASSIGNED_DIRECTORY || known.is_some_and(|known| known.online.contains(&directory))
    }

    /// The partition's leader as clients are told it, and the replicas that are offline: its only one, and then nobody leads.
    pub fn leader_and_offline(&self, partition: &PartitionState) -> (i32, Vec<i32>) {
        match self.is_online(partition) {
            true => (partition.leader, Vec::new()),
            false => (NO_LEADER, vec![partition.leader]),
        }
    }
}

impl LogDirectories {
    /// Forgets one that is lost for good. Whether it was known: it may have been given up before.
    ///
    /// # Errors
    /// If it is the one with the metadata.
    pub fn give_up(&mut self, id: u128) -> Result<bool, String> {
        if self.online.first() == Some(&id) {
            let id = storage::to_base64(id);
            return Err(format!(
                "log directory {id} has the metadata: it cannot be given up"
            ));
        }
        let before = self.online.len() + self.offline.len();
        self.online.retain(|other| *other != id);
        self.offline.retain(|other| *other != id);
        Ok(self.online.len() + self.offline.len() < before)
    }
}

/// A shard, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `host id * 1000 + shard`.
    pub id: i32,
    /// The host that clients connect to.
    pub host: String,
    /// The port that clients connect to.
    pub port: u16,
    /// `broker.rack`, or else the host.
    pub rack: Option<String>,
}

/// A topic: one incarnation of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, which no other incarnation of the name has.
    pub id: u128,
    /// Whether the broker keeps its own records in it.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionState>,
    /// The configs that were given for it.
    pub configs: BTreeMap<String, String>,
}

/// Where a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The node that leads it.
    pub leader: i32,
    /// Raised whenever the leader may have changed or restarted.
    pub leader_epoch: i32,
    /// The nodes that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub isr: Vec<i32>,
    /// The id of the log directory of each replica, in the order of `replicas` (KIP-858).
    pub directories: Vec<u128>,
}

impl PartitionState {
    /// A new partition on these nodes, which the first leads, on each where its host has the metadata.
    pub fn of(replicas: Vec<i32>) -> PartitionState {
        PartitionState {
            leader: replicas[0],
            leader_epoch: 0,
            isr: replicas.clone(),
            directories: vec![UNASSIGNED_DIRECTORY; replicas.len()],
            replicas,
        }
    }

    /// The log directory on its leader.
    pub fn directory(&self) -> u128 {
        debug_assert!(self.replicas.contains(&self.leader), "its leader holds it");
        let leader = self.replicas.iter().position(|replica| *replica == self.leader);
        let directory = leader.and_then(|at| self.directories.get(at));
        directory.copied().unwrap_or(UNASSIGNED_DIRECTORY)
    }
}
