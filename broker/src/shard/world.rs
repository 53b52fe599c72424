//! What a shard knows: an image of the cluster's metadata, and beside each topic the partitions that it leads.
//!
//! Immutable: a newer image makes a new world, which shares the topics that did not change.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use storage::{PartitionLog, TopicPartition};
use wire::ErrorCode;
use wire::messages::leader::{LeaderIdAndEpoch, NodeEndpoint};

use crate::controller::image::{Image, Node, PartitionState, Topic};
use crate::partition::leader::AppendRules;
use crate::shard::context::{Cleanup, LiveSettings, TopicSettings};

/// See the module.
pub(crate) struct World {
    /// The cluster's metadata.
    pub(crate) image: Arc<Image>,
    /// The node's settings.
    pub(crate) settings: Rc<LiveSettings>,
    by_name: BTreeMap<String, Rc<LocalTopic>>,
    by_id: BTreeMap<u128, Rc<LocalTopic>>,
}

/// A topic, and what of it is here.
pub(crate) struct LocalTopic {
    /// The topic as all nodes know it.
    pub(crate) topic: Arc<Topic>,
    /// What may be appended to it.
    pub(crate) rules: AppendRules,
    /// What becomes of its old records.
    pub(crate) cleanup: Cleanup,
    /// Of each partition the log, if this shard leads it: one look at little memory, for each batch of any.
    led: Box<[Option<PartitionLog>]>,
}

/// Where a partition's data is.
pub(crate) enum Place<'a> {
    /// Here: this shard leads it.
    Here(&'a PartitionLog),
    /// On another node.
    Elsewhere(&'a PartitionState),
    /// Here, in a log directory that has failed.
    Offline,
    /// Nowhere: the topic has no such partition.
    Nowhere,
}

impl<'a> Place<'a> {
    /// The log, or why a request for it is refused.
    pub(crate) fn log(self) -> Result<&'a PartitionLog, ErrorCode> {
        match self {
            Place::Here(log) => Ok(log),
            Place::Elsewhere(_) => Err(ErrorCode::NotLeaderOrFollower),
            Place::Offline => Err(ErrorCode::KafkaStorageError),
            Place::Nowhere => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

impl World {
    /// A world of `image`, with the logs that `led` finds of the partitions that `node_id` leads, in directories that have not
    /// failed.
    pub(crate) fn new(
        image: Arc<Image>,
        settings: Rc<LiveSettings>,
        node_id: i32,
        before: Option<&World>,
        led: impl Fn(TopicPartition) -> Option<PartitionLog>,
    ) -> World {
        // With other defaults there are other rules for topics that did not change, and other logs when a directory fails.
        let before = before.filter(|before| {
            before.settings.topics == settings.topics && before.image.directories == image.directories
        });
        let mut by_name = BTreeMap::new();
        let mut by_id = BTreeMap::new();
        for (&id, topic) in &image.topics_by_id {
            let kept = before
                .and_then(|before| before.by_id.get(&id))
                .filter(|kept| Arc::ptr_eq(&kept.topic, topic));
            let local = match kept {
                Some(kept) => kept.clone(),
                None => {
                    let TopicSettings { append, cleanup, .. } = TopicSettings::of(topic, &settings.topics);
                    let led = (0..).zip(&topic.partitions).map(|(partition, state)| {
                        let topic_id = id;
                        let is_led = state.leader == node_id;
                        is_led
                            .then(|| led(TopicPartition { topic_id, partition }))
                            .flatten()
                    });
                    Rc::new(LocalTopic {
                        topic: topic.clone(),
                        rules: append,
                        cleanup,
                        led: led.collect(),
                    })
                }
            };
            by_name.insert(topic.name.clone(), local.clone());
            by_id.insert(id, local);
        }
        World {
            image,
            settings,
            by_name,
            by_id,
        }
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Option<&LocalTopic> {
        self.by_name.get(name).map(|topic| &**topic)
    }

    /// The topic of this id.
    pub(crate) fn topic_by_id(&self, id: u128) -> Option<&LocalTopic> {
        self.by_id.get(&id).map(|topic| &**topic)
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &LocalTopic> {
        self.by_name.values().map(|topic| &**topic)
    }

    /// The node of this id.
    pub(crate) fn node(&self, id: i32) -> Option<&Node> {
        self.image.nodes.iter().find(|node| node.id == id)
    }

    /// Who leads, for an answer with NOT_LEADER_OR_FOLLOWER (KIP-951). The endpoint is told exactly as Metadata tells
    /// it: a client that sees any difference drops its connection and opens another.
    pub(crate) fn leader(&self, state: &PartitionState) -> (LeaderIdAndEpoch, Option<NodeEndpoint>) {
        let (leader_id, _) = self.image.leader_and_offline(state);
        let leader = LeaderIdAndEpoch {
            leader_id,
            leader_epoch: state.leader_epoch,
        };
        let endpoint = self.node(leader_id).map(|node| NodeEndpoint {
            node_id: node.id,
            host: node.host.clone(),
            port: i32::from(node.port),
            rack: node.rack.clone(),
        });
        (leader, endpoint)
    }
}

impl LocalTopic {
    /// Where the partition is, seen from `node_id`, which is this shard's.
    pub(crate) fn place(&self, partition: i32, node_id: i32) -> Place<'_> {
        if let Some(log) = self.log(partition) {
            return Place::Here(log);
        }
        match self.state(partition) {
            Some(state) if state.leader == node_id => Place::Offline,
            Some(state) => Place::Elsewhere(state),
            None => Place::Nowhere,
        }
    }

    /// The partition's log, if this shard leads it.
    pub(crate) fn log(&self, partition: i32) -> Option<&PartitionLog> {
        self.led.get(usize::try_from(partition).ok()?)?.as_ref()
    }

    /// The partitions that this shard leads, in order.
    pub(crate) fn led(&self) -> impl Iterator<Item = (i32, &PartitionLog)> {
        let led = (0..).zip(&self.led);
        led.filter_map(|(partition, log)| Some((partition, log.as_ref()?)))
    }

    /// What all nodes know of the partition.
    pub(crate) fn state(&self, partition: i32) -> Option<&PartitionState> {
        self.topic.partitions.get(usize::try_from(partition).ok()?)
    }
}

/// The partitions of `topic` that `node_id` leads.
pub(crate) fn led_partitions(topic: &Topic, node_id: i32) -> impl Iterator<Item = (i32, &PartitionState)> {
    (0..)
        .zip(&topic.partitions)
        .filter(move |(_, state)| state.leader == node_id)
}
