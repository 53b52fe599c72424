//! The cluster's metadata as a pure state machine: records in, image out.
//!
//! Owns what the metadata log says. Promises that the same records give the same state on every node. Must never look
//! at a clock, at chance, or at anything that is not in a record. Decisions are in [`crate::controller::decide`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::broker::BrokerConfigs;
use crate::config::topic as topic_config;
use crate::controller::folded::FoldedNames;
use crate::controller::image::{Image, LogDirectories, Node, PartitionState, Topic, host_of};
use crate::controller::record::{DirectoryAssignment, MetadataRecord, PartitionMove};

/// The metadata after some entry of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The host that the log belongs to and its number of shards; none before the first start.
    pub(crate) host: Option<Host>,
    pub(crate) topics_by_id: BTreeMap<u128, Arc<Topic>>,
    pub(crate) topics_by_name: BTreeMap<String, Arc<Topic>>,
    /// The names of those topics.
    pub(crate) names: FoldedNames,
    pub(crate) deleted_topics: BTreeSet<u128>,
    pub(crate) next_producer_id: i64,
    pub(crate) broker_configs: Arc<BrokerConfigs>,
    pub(crate) directories: Arc<BTreeMap<i32, LogDirectories>>,
}

/// A host, as registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// `node.id`.
    pub id: i32,
    /// How many shards it was last started with.
    pub shards: u32,
    /// How often that number has changed.
    pub layout: u64,
}

/// A record that cannot follow what came before it: the log is not the one that this code wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a metadata record contradicts those before it: {why}")]
pub struct Contradiction {
    /// What does not fit.
    pub why: String,
}

impl Metadata {
    /// Applies one record. After an error the state must not be used any more.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), Contradiction> {
        match record {
            &MetadataRecord::HostRegistered {
                host_id: id,
                shards,
                layout,
            } => self.host = Some(Host { id, shards, layout }),
            MetadataRecord::LeaderEpochsRaised { host_id } => self.raise_leader_epochs(*host_id)?,
            MetadataRecord::TopicCreated(topic) => {
                let known = self.topics_by_id.contains_key(&topic.id)
                    || self.topics_by_name.contains_key(&topic.name)
                    || self.deleted_topics.contains(&topic.id);
                if known {
                    return contradiction(format!("topic '{}' is created twice", topic.name));
                }
                self.names.insert(&topic.name);
                self.put(topic.clone());
            }
            MetadataRecord::TopicDeleted { id } => {
                // A snapshot tells of deleted topics without having told of their creation.
                if let Some(topic) = self.topics_by_id.remove(id) {
                    self.topics_by_name.remove(&topic.name);
                    self.names.remove(&topic.name);
                }
                if !self.deleted_topics.insert(*id) {
                    return contradiction(format!("topic {id:032x} is deleted twice"));
                }
            }
            MetadataRecord::TopicDropped { id } => {
                if !self.deleted_topics.remove(id) {
                    return contradiction(format!("topic {id:032x} is dropped, and was not deleted"));
                }
            }
            MetadataRecord::PartitionsMoved(moves) => self.move_partitions(moves)?,
            MetadataRecord::PartitionsAdded { topic_id, partitions } => {
                let mut topic = self.known(*topic_id, "gets partitions")?;
                topic.partitions.extend(partitions.iter().cloned());
                self.put(topic);
            }
            MetadataRecord::TopicConfigsSet { topic_id, configs } => {
                let mut topic = self.known(*topic_id, "gets configs")?;
                topic.configs.clone_from(configs);
                self.put(topic);
            }
            MetadataRecord::BrokerConfigsSet { node_id, configs } => {
                Arc::make_mut(&mut self.broker_configs).set(*node_id, configs.clone());
            }
            &MetadataRecord::ProducerIdsLeased { next } => {
                if next < self.next_producer_id {
                    return contradiction(format!("producer ids from {next} on are leased twice"));
                }
                self.next_producer_id = next;
            }
            MetadataRecord::DirectoriesAssigned(assignments) => self.assign_directories(assignments)?,
            MetadataRecord::DirectoriesKnown { host_id, directories } => {
                Arc::make_mut(&mut self.directories).insert(*host_id, directories.clone());
            }
        }
        Ok(())
    }

    /// The records that give this state to an empty one.
    pub fn records(&self) -> Vec<MetadataRecord> {
        let host = self.host.map(|host| MetadataRecord::HostRegistered {
            host_id: host.id,
            shards: host.shards,
            layout: host.layout,
        });
        let topics = self.topics_by_id.values();
        let deleted = self.deleted_topics.iter();
        let directories = self.directories.iter();
        host.into_iter()
            .chain(
                directories.map(|(&host_id, directories)| MetadataRecord::DirectoriesKnown {
                    host_id,
                    directories: directories.clone(),
                }),
            )
            .chain(topics.map(|topic| MetadataRecord::TopicCreated(Topic::clone(topic))))
            .chain(deleted.map(|&id| MetadataRecord::TopicDeleted { id }))
            .chain([MetadataRecord::ProducerIdsLeased {
                next: self.next_producer_id,
            }])
            .chain(self.broker_config_records())
            .collect()
    }

    /// The image of this state, as of entry `version` of the log.
    pub fn image(&self, version: u64, cluster_id: u128, nodes: &[Node]) -> Image {
        Image {
            version,
            cluster_id,
            controller_id: nodes.first().map_or(-1, |node| node.id),
            nodes: nodes.to_vec(),
            topics_by_name: self.topics_by_name.clone(),
            topics_by_id: self.topics_by_id.clone(),
            deleted_topics: self.deleted_topics.clone(),
            next_producer_id: self.next_producer_id,
            broker_configs: self.broker_configs.clone(),
            directories: self.directories.clone(),
        }
    }

    fn broker_config_records(&self) -> impl Iterator<Item = MetadataRecord> {
        let BrokerConfigs { all, nodes } = &*self.broker_configs;
        let nodes = nodes.iter().map(|(node_id, configs)| (Some(*node_id), configs));
        let all = (!all.is_empty()).then_some((None, all));
        let changed = all.into_iter().chain(nodes);
        changed.map(|(node_id, configs)| MetadataRecord::BrokerConfigsSet {
            node_id,
            configs: configs.clone(),
        })
    }

    /// The log directories of a host, as of the last record that says so.
    pub(crate) fn directories_of(&self, host_id: i32) -> LogDirectories {
        self.directories.get(&host_id).cloned().unwrap_or_default()
    }

    /// The partitions in one of a host's log directories.
    pub(crate) fn partitions_in(&self, host_id: i32, directory: u128) -> usize {
        let partitions = self.topics_by_id.values().flat_map(|topic| &topic.partitions);
        let is_in =
            |state: &&PartitionState| host_of(state.leader) == host_id && state.directory() == directory;
        partitions.filter(is_in).count()
    }

    /// How many partitions there are.
    pub(crate) fn partitions(&self) -> usize {
        self.topics_by_id
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// Bytes of the configs of all topics.
    pub(crate) fn topic_configs_bytes(&self) -> usize {
        self.topics_by_id
            .values()
            .map(|topic| topic_config::bytes(&topic.configs))
            .sum()
    }

    /// A copy of the topic, to be changed.
    fn known(&self, id: u128, what: &str) -> Result<Topic, Contradiction> {
        let topic = self.topics_by_id.get(&id);
        topic
            .map(|topic| Topic::clone(topic))
            .ok_or_else(|| Contradiction {
                why: format!("topic {id:032x} {what}, and is not there"),
            })
    }

    fn put(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.topics_by_name.insert(topic.name.clone(), topic.clone());
        self.topics_by_id.insert(topic.id, topic);
    }

    fn raise_leader_epochs(&mut self, host_id: i32) -> Result<(), Contradiction> {
        let led_here = |leader: i32| host_of(leader) == host_id;
        let topics: Vec<_> = self.topics_by_id.values().cloned().collect();
        for topic in topics {
            if !topic
                .partitions
                .iter()
                .any(|partition| led_here(partition.leader))
            {
                continue;
            }
            let mut raised = Topic::clone(&topic);
            for partition in &mut raised.partitions {
                if led_here(partition.leader) {
                    partition.leader_epoch = match partition.leader_epoch.checked_add(1) {
                        Some(epoch) => epoch,
                        None => {
                            return contradiction(format!("topic '{}' has no leader epoch left", topic.name));
                        }
                    };
                }
            }
            self.put(raised);
        }
        Ok(())
    }

    fn move_partitions(&mut self, moves: &[PartitionMove]) -> Result<(), Contradiction> {
        let mut changed: BTreeMap<u128, Topic> = BTreeMap::new();
        for moved in moves {
            let id = moved.topic_id;
            if let Some(topic) = self.topics_by_id.get(&id) {
                changed.entry(id).or_insert_with(|| Topic::clone(topic));
            }
            let partition = changed.get_mut(&id).and_then(|topic| {
                let number = usize::try_from(moved.partition).ok()?;
                topic.partitions.get_mut(number)
            });
            let Some(partition) = partition.filter(|partition| partition.leader == moved.from) else {
                return contradiction(format!(
                    "partition {} of topic {id:032x} is moved from node {}, which does not lead it",
                    moved.partition, moved.from
                ));
            };
            partition.leader = moved.to;
            for node in partition.replicas.iter_mut().chain(&mut partition.isr) {
                if *node == moved.from {
                    *node = moved.to;
                }
            }
        }
        changed.into_values().for_each(|topic| self.put(topic));
        Ok(())
    }

    fn assign_directories(&mut self, assignments: &[DirectoryAssignment]) -> Result<(), Contradiction> {
        let mut changed: BTreeMap<u128, Topic> = BTreeMap::new();
        for assigned in assignments {
            let id = assigned.topic_id;
            if let Some(topic) = self.topics_by_id.get(&id) {
                changed.entry(id).or_insert_with(|| Topic::clone(topic));
            }
            let directory = changed.get_mut(&id).and_then(|topic| {
                let number = usize::try_from(assigned.partition).ok()?;
                let state = topic.partitions.get_mut(number)?;
                let at = state.replicas.iter().position(|node| *node == assigned.node)?;
                state.directories.get_mut(at)
            });
            let Some(directory) = directory else {
                return contradiction(format!(
                    "partition {} of topic {id:032x} gets a directory on node {}, which does not have it",
                    assigned.partition, assigned.node
                ));
            };
            *directory = assigned.directory;
        }
        changed.into_values().for_each(|topic| self.put(topic));
        Ok(())
    }
}

fn contradiction(why: String) -> Result<(), Contradiction> {
    Err(Contradiction { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u128, name: &str, leaders: &[i32]) -> Topic {
        Topic {
            name: name.into(),
            id,
            partitions: leaders
                .iter()
                .map(|&leader| PartitionState {
                    leader,
                    leader_epoch: 0,
                    replicas: vec![leader],
                    isr: vec![leader],
                    directories: vec![11],
                })
                .collect(),
            ..Topic::default()
        }
    }

    fn after(records: &[MetadataRecord]) -> Metadata {
        let mut metadata = Metadata::default();
        for record in records {
            metadata.apply(record).expect("a record that follows");
        }
        metadata
    }

    fn created() -> Vec<MetadataRecord> {
        vec![
            MetadataRecord::HostRegistered {
                host_id: 1,
                shards: 2,
                layout: 7,
            },
            MetadataRecord::TopicCreated(topic(1, "a", &[1000, 1001])),
            MetadataRecord::TopicCreated(topic(2, "b", &[2000])),
        ]
    }

    #[test]
    fn a_start_raises_the_epochs_of_what_the_host_leads_and_of_nothing_else() {
        let mut metadata = after(&created());
        let other = metadata.topics_by_id[&2].clone();
        metadata
            .apply(&MetadataRecord::LeaderEpochsRaised { host_id: 1 })
            .expect("applied");
        let epochs = metadata.topics_by_name["a"]
            .partitions
            .iter()
            .map(|partition| partition.leader_epoch);
        assert_eq!(epochs.collect::<Vec<_>>(), [1, 1]);
        assert!(Arc::ptr_eq(&metadata.topics_by_id[&2], &other));
    }

    #[test]
    fn a_deleted_topic_is_remembered_until_it_is_dropped() {
        let mut metadata = after(&created());
        metadata
            .apply(&MetadataRecord::TopicDeleted { id: 1 })
            .expect("applied");
        assert!(!metadata.topics_by_name.contains_key("a"));
        assert_eq!(metadata.names, FoldedNames::default());
        assert!(metadata.image(9, 0, &[]).deleted_topics.contains(&1));
        metadata
            .apply(&MetadataRecord::TopicDropped { id: 1 })
            .expect("applied");
        assert!(metadata.deleted_topics.is_empty());
        assert!(metadata.apply(&MetadataRecord::TopicDropped { id: 1 }).is_err());
    }

    #[test]
    fn a_move_renames_leader_and_replicas() {
        let mut metadata = after(&created());
        let moved = PartitionMove {
            topic_id: 1,
            partition: 1,
            from: 1001,
            to: 1000,
        };
        metadata
            .apply(&MetadataRecord::PartitionsMoved(vec![moved]))
            .expect("applied");
        let partition = &metadata.topics_by_id[&1].partitions[1];
        assert_eq!((partition.leader, &*partition.replicas), (1000, &[1000][..]));
        assert_eq!(metadata.topics_by_name["a"], metadata.topics_by_id[&1]);
        let again = metadata.apply(&MetadataRecord::PartitionsMoved(vec![moved]));
        assert!(again.is_err(), "the node does not lead it any more");
    }

    #[test]
    fn contradictions_are_refused() {
        let mut metadata = after(&created());
        let twice = [topic(1, "c", &[1000]), topic(3, "a", &[1000])];
        for topic in twice {
            assert!(metadata.apply(&MetadataRecord::TopicCreated(topic)).is_err());
        }
        let mut metadata = after(&[MetadataRecord::ProducerIdsLeased { next: 1_000 }]);
        assert!(
            metadata
                .apply(&MetadataRecord::ProducerIdsLeased { next: 999 })
                .is_err()
        );
    }

    fn configs_set(node_id: Option<i32>, threads: &str) -> MetadataRecord {
        MetadataRecord::BrokerConfigsSet {
            node_id,
            configs: BTreeMap::from([("log.cleaner.threads".into(), threads.into())]),
        }
    }

    #[test]
    fn configs_of_brokers_are_replaced_one_by_one_and_go_when_there_are_none() {
        let mut metadata = after(&[configs_set(None, "1"), configs_set(Some(1001), "2")]);
        let shown = metadata.image(9, 0, &[]).broker_configs;
        assert_eq!(shown.all["log.cleaner.threads"], "1");
        assert_eq!(shown.nodes[&1001]["log.cleaner.threads"], "2");
        for node_id in [None, Some(1001)] {
            let configs = BTreeMap::new();
            metadata
                .apply(&MetadataRecord::BrokerConfigsSet { node_id, configs })
                .expect("applied");
        }
        assert_eq!(metadata, Metadata::default());
        assert_eq!(shown.all["log.cleaner.threads"], "1", "an image does not change");
    }

    #[test]
    fn a_snapshots_records_give_the_same_state() {
        let mut records = created();
        records.extend([
            MetadataRecord::LeaderEpochsRaised { host_id: 1 },
            MetadataRecord::TopicDeleted { id: 2 },
            MetadataRecord::TopicCreated(topic(3, "c.d", &[1000])),
            MetadataRecord::ProducerIdsLeased { next: 3_000 },
            configs_set(None, "1"),
            configs_set(Some(1001), "2"),
            MetadataRecord::DirectoriesKnown {
                host_id: 1,
                directories: LogDirectories {
                    online: vec![11, 12],
                    offline: vec![13],
                },
            },
        ]);
        let metadata = after(&records);
        assert_eq!(after(&metadata.records()), metadata);
    }
}
