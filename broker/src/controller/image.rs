//! What all nodes know of the cluster: an immutable image, shared by pointer.
//!
//! Made by [`crate::controller::state::Metadata::image`], installed on every shard. Topics that did not change keep
//! their `Arc` from image to image, so that a shard sees at once what is new. Must never be changed after it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::broker::BrokerConfigs;

/// Node ids of a host are `host_id * NODES_PER_HOST + shard`.
pub const NODES_PER_HOST: i32 = 1_000;

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
}
