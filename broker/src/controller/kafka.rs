//! What Kafka's own metadata says of its topics (KRaft records, KIP-631), and what becomes of that here. Pure.
//!
//! Reads the kinds of records that topics are made of, and passes over the others. Whatever would be lost without a word is
//! refused, or told.

use std::collections::{BTreeMap, BTreeSet};

use storage::{KafkaLog, TopicPartition};
use wire::{DecodeError, Reader};

use crate::config::Settings;
use crate::config::table::find;
use crate::config::topic as topic_config;
use crate::controller::decide::{PARTITIONS_MAX, is_internal};
use crate::controller::image::{NODES_PER_HOST, PartitionState, Topic};
use crate::controller::record::MetadataRecord;
use crate::controller::state::Metadata;

/// How the values of records begin.
const FRAME_VERSION: u32 = 1;
const TOPIC: u32 = 2;
const PARTITION: u32 = 3;
const CONFIG: u32 = 4;
const PARTITION_CHANGE: u32 = 5;
const REMOVE_TOPIC: u32 = 9;
const PRODUCER_IDS: u32 = 15;
const ABORTED: u32 = 25;
/// The newest version of each that is read.
const VERSIONS: [(u32, u32); 7] = [
    (TOPIC, 0),
    (PARTITION, 2),
    (CONFIG, 0),
    (PARTITION_CHANGE, 2),
    (REMOVE_TOPIC, 0),
    (PRODUCER_IDS, 0),
    (ABORTED, 0),
];
/// What a config is of (ConfigResource.Type).
const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;
/// The tagged fields of a partition's change: those in sync, a new leader, and who may lead though not in sync (KIP-966).
const IN_SYNC: u32 = 0;
const NEW_LEADER: u32 = 1;
const ELIGIBLE: u32 = 6;
/// The last of them in a partition's record.
const ELIGIBLE_AT_FIRST: u32 = 1;
/// Configs of topics that decide what is deleted: without them, more would be, or less.
const DELETING: [&str; 3] = ["cleanup.policy", "retention.bytes", "retention.ms"];
/// The same of brokers.
const DELETING_OF_BROKERS: [&str; 5] = [
    "log.cleanup.policy",
    "log.retention.bytes",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
];
/// A topic of which older data is elsewhere.
const REMOTE: &str = "remote.storage.enable";
/// Topics that go into one entry of our metadata log have so many partitions, or are one.
const PARTITIONS_AT_ONCE: usize = 20_000;

/// Kafka's topics, as one of its brokers knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KafkaMetadata {
    /// The broker's number.
    node: i32,
    topics: BTreeMap<u128, KafkaTopic>,
    /// Of topics, by name.
    configs: BTreeMap<String, BTreeMap<String, String>>,
    /// Of all brokers, and of this one.
    broker_configs: [BTreeMap<String, String>; 2],
    next_producer_id: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KafkaTopic {
    name: String,
    partitions: BTreeMap<i32, KafkaPartition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KafkaPartition {
    leader_epoch: i32,
    in_sync: Vec<i32>,
    /// They have all that was committed: where a broker is stopped that was the last in sync, it is one.
    eligible: Vec<i32>,
}

/// What is to be written to our metadata log, each list as one entry; and what is to be said.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Takeover {
    pub(crate) entries: Vec<Vec<MetadataRecord>>,
    pub(crate) notes: Vec<String>,
}

impl KafkaMetadata {
    /// Of broker `node`.
    pub(crate) fn new(node: i32) -> KafkaMetadata {
        KafkaMetadata {
            node,
            ..KafkaMetadata::default()
        }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// If it is not one, or one of a newer version of Kafka.
    pub(crate) fn apply(&mut self, value: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(value);
        let mut number = || reader.unsigned_varint().map_err(|error| error.to_string());
        let (frame, kind, version) = (number()?, number()?, number()?);
        if frame != FRAME_VERSION {
            return Err(format!(
                "it is framed in version {frame}, and not {FRAME_VERSION}"
            ));
        }
        let Some((_, newest)) = VERSIONS.iter().find(|(known, _)| *known == kind) else {
            return Ok(());
        };
        if version > *newest {
            return Err(format!(
                "it is of kind {kind}, version {version}, and {newest} is the newest that is known: this Kafka is newer than this \
                 Millstream"
            ));
        }
        if kind == ABORTED {
            let why = "changes before it were taken back, which is not known here. Start Kafka once more, until it has made a \
                       snapshot";
            return Err(why.to_owned());
        }
        self.take(kind, version, &mut reader)
            .map_err(|error| error.to_string())
    }

    fn take(&mut self, kind: u32, version: u32, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match kind {
            TOPIC => {
                let name = string(reader)?;
                let topic = self.topics.entry(id(reader)?).or_default();
                topic.name = name;
            }
            PARTITION => {
                let (number, topic_id) = (reader.i32()?, id(reader)?);
                let (_replicas, in_sync) = (nodes(reader)?, nodes(reader)?);
                let (_removed, _added) = (nodes(reader)?, nodes(reader)?);
                let _leader = reader.i32()?;
                let mut partition = KafkaPartition {
                    leader_epoch: reader.i32()?,
                    in_sync,
                    eligible: Vec::new(),
                };
                let _partition_epoch = reader.i32()?;
                if version > 0 {
                    let directories = reader.nullable_array_count(true, 16)?.unwrap_or(0);
                    reader.take(16 * directories)?;
                }
                for _ in 0..reader.tagged_field_count()? {
                    let (tag, mut field) = reader.tagged_field()?;
                    if tag == ELIGIBLE_AT_FIRST {
                        partition.eligible = nodes(&mut field)?;
                    }
                }
                let topic = self.topics.entry(topic_id).or_default();
                topic.partitions.insert(number, partition);
            }
            PARTITION_CHANGE => {
                let (number, topic_id) = (reader.i32()?, id(reader)?);
                let topic = self.topics.entry(topic_id).or_default();
                let partition = topic.partitions.entry(number).or_default();
                for _ in 0..reader.tagged_field_count()? {
                    match reader.tagged_field()? {
                        (IN_SYNC, mut field) => partition.in_sync = nodes(&mut field)?,
                        (ELIGIBLE, mut field) => partition.eligible = nodes(&mut field)?,
                        (NEW_LEADER, _) => partition.leader_epoch = partition.leader_epoch.saturating_add(1),
                        _ => {}
                    }
                }
            }
            CONFIG => {
                let (of, resource, name) = (reader.i8()?, string(reader)?, string(reader)?);
                let value = reader.nullable_string(true)?;
                let [all, own] = &mut self.broker_configs;
                let configs = match of {
                    OF_TOPIC => self.configs.entry(resource).or_default(),
                    OF_BROKER if resource.is_empty() => all,
                    OF_BROKER if resource == self.node.to_string() => own,
                    _ => return Ok(()),
                };
                match value {
                    Some(value) => configs.insert(name, value.to_owned()),
                    None => configs.remove(&name),
                };
            }
            REMOVE_TOPIC => {
                if let Some(topic) = self.topics.remove(&id(reader)?) {
                    self.configs.remove(&topic.name);
                }
            }
            PRODUCER_IDS => {
                let (_broker_id, _broker_epoch) = (reader.i32()?, reader.i64()?);
                self.next_producer_id = self.next_producer_id.max(reader.i64()?);
            }
            _ => unreachable!("only kinds that are known"),
        }
        Ok(())
    }

    /// Whether there is such a topic.
    pub(crate) fn knows(&self, topic_id: u128) -> bool {
        self.topics.contains_key(&topic_id)
    }

    /// What our metadata lacks, for a host of so many shards that found these logs.
    ///
    /// # Errors
    /// If a partition is not there, or there is more than we take.
    pub(crate) fn taken_over(
        &self,
        found: &[KafkaLog],
        metadata: &Metadata,
        settings: &Settings,
        host_id: i32,
        shards: u32,
    ) -> Result<Takeover, String> {
        let partitions: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        if partitions > PARTITIONS_MAX {
            return Err(format!(
                "Kafka has {partitions} partitions, and {PARTITIONS_MAX} is the most that there may be"
            ));
        }
        let logs: BTreeMap<TopicPartition, &KafkaLog> = found.iter().map(|log| (log.id, log)).collect();
        let shards = i32::try_from(shards)
            .unwrap_or(NODES_PER_HOST)
            .clamp(1, NODES_PER_HOST);
        let mut nodes = (0..shards).map(|shard| host_id * NODES_PER_HOST + shard).cycle();
        let mut takeover = Takeover::default();
        self.check_broker_configs(settings, &mut takeover.notes)?;
        let mut configs_bytes = metadata.topic_configs_bytes();
        let mut entry = Vec::new();
        let mut partitions_in_entry = 0;
        for (&topic_id, topic) in &self.topics {
            // A start that was killed may have come as far as this.
            if metadata.topics_by_id.contains_key(&topic_id) {
                continue;
            }
            let partitions = topic.of_logs(self.node, topic_id, &logs, &mut nodes)?;
            let configs = self.configs_of(&topic.name, settings, &mut takeover.notes)?;
            topic_config::check_bytes(&configs, configs_bytes)?;
            configs_bytes += topic_config::bytes(&configs);
            if partitions_in_entry + partitions.len() > PARTITIONS_AT_ONCE && !entry.is_empty() {
                takeover.entries.push(std::mem::take(&mut entry));
                partitions_in_entry = 0;
            }
            partitions_in_entry += partitions.len();
            entry.push(MetadataRecord::TopicCreated(Topic {
                name: topic.name.clone(),
                id: topic_id,
                is_internal: is_internal(&topic.name),
                partitions,
                configs,
            }));
        }
        let largest = found.iter().map(|log| log.producer_id.saturating_add(1)).max();
        let next = self.next_producer_id.max(largest.unwrap_or(0));
        if next > metadata.next_producer_id {
            entry.push(MetadataRecord::ProducerIdsLeased { next });
        }
        takeover.entries.extend((!entry.is_empty()).then_some(entry));
        Ok(takeover)
    }

    /// Those that we have, too; the others are told.
    fn configs_of(
        &self,
        topic: &str,
        settings: &Settings,
        notes: &mut Vec<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut configs = BTreeMap::new();
        for (name, value) in self.configs.get(topic).into_iter().flatten() {
            match topic_config::check(name, value, settings) {
                Ok(()) => {
                    configs.insert(name.clone(), topic_config::normal(name, value));
                }
                Err(why) if DELETING.contains(&name.as_str()) => {
                    return Err(format!(
                        "topic {topic}: {why}. Start Kafka once more, and give the topic another"
                    ));
                }
                Err(_) if name == REMOTE && value == "true" => {
                    return Err(format!(
                        "topic {topic} has {REMOTE}=true, and what of it is in remote storage cannot be read here. Start Kafka once more, \
                         and bring it back or delete it"
                    ));
                }
                Err(why) => notes.push(format!("topic {topic} does not keep a config that it had: {why}")),
            }
        }
        topic_config::check_together(&configs, settings).map_err(|why| format!("topic {topic}: {why}"))?;
        Ok(configs)
    }

    /// Configs of brokers are not taken; what decides about records has to be the same, or they would be deleted, or kept.
    fn check_broker_configs(&self, settings: &Settings, notes: &mut Vec<String>) -> Result<(), String> {
        let [all, own] = &self.broker_configs;
        let holds = all.iter().filter(|(name, _)| !own.contains_key(*name)).chain(own);
        for (name, value) in holds {
            let ours = find(name).map(|setting| settings.text(setting));
            if ours == Some(value) {
                continue;
            }
            if DELETING_OF_BROKERS.contains(&name.as_str()) {
                return Err(format!(
                    "Kafka's brokers had {name}={value}, which decides what is deleted: start with --set {name}={value}. It can be changed \
                     afterwards"
                ));
            }
            // Its value may be a secret.
            notes.push(format!("{name} was set for Kafka's brokers, and is not taken"));
        }
        Ok(())
    }
}

impl KafkaTopic {
    fn of_logs(
        &self,
        node: i32,
        topic_id: u128,
        logs: &BTreeMap<TopicPartition, &KafkaLog>,
        nodes: &mut impl Iterator<Item = i32>,
    ) -> Result<Vec<PartitionState>, String> {
        let numbers: BTreeSet<i32> = self.partitions.keys().copied().collect();
        if numbers.iter().copied().ne(0..numbers.len() as i32) {
            return Err(format!(
                "Kafka's metadata does not have all partitions of topic {}",
                self.name
            ));
        }
        let mut partitions = Vec::with_capacity(numbers.len());
        for (&partition, state) in &self.partitions {
            if !state.in_sync.contains(&node) && !state.eligible.contains(&node) {
                return Err(format!(
                    "broker {node}, whose directory this is, was not in sync for partition {partition} of topic {}: records of it are \
                     elsewhere. Take over a directory whose broker was, {:?}",
                    self.name, state.in_sync
                ));
            }
            let Some(log) = logs.get(&TopicPartition { topic_id, partition }) else {
                return Err(format!(
                    "partition {partition} of topic {} is not in this directory: a directory is taken over only with all partitions of its \
                     topics. Start Kafka once more, and move the partition here, or delete the topic",
                    self.name
                ));
            };
            let leader = nodes.next().unwrap_or_default();
            partitions.push(PartitionState {
                leader_epoch: state.leader_epoch.max(log.leader_epoch).max(0),
                ..PartitionState::of(vec![leader])
            });
        }
        Ok(partitions)
    }
}

fn string(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    Ok(reader.nullable_string(true)?.unwrap_or_default().to_owned())
}

/// Numbers of brokers; none of a list that is null.
fn nodes(reader: &mut Reader<'_>) -> Result<Vec<i32>, DecodeError> {
    let count = reader.nullable_array_count(true, 4)?.unwrap_or(0);
    (0..count).map(|_| reader.i32()).collect()
}

fn id(reader: &mut Reader<'_>) -> Result<u128, DecodeError> {
    Ok(u128::from_be_bytes(reader.uuid()?.0))
}

#[cfg(test)]
mod tests {
    use wire::{Uuid, Writer};

    use super::*;

    const TOPIC_ID: u128 = 7;

    fn record(kind: u32, version: u32, fields: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::flat();
        for number in [FRAME_VERSION, kind, version] {
            writer.unsigned_varint(number);
        }
        fields(&mut writer);
        writer.into_bytes()
    }

    fn topic(name: &str, id: u128) -> Vec<u8> {
        record(TOPIC, 0, |writer| {
            writer.nullable_string(Some(name), true);
            writer.uuid(Uuid(id.to_be_bytes()));
            writer.unsigned_varint(0);
        })
    }

    fn partition(number: i32, id: u128, leader_epoch: i32) -> Vec<u8> {
        record(PARTITION, 1, |writer| {
            writer.i32(number);
            writer.uuid(Uuid(id.to_be_bytes()));
            for nodes in [&[1, 2][..], &[1], &[], &[]] {
                writer.length(Some(nodes.len()), true);
                nodes.iter().for_each(|node| writer.i32(*node));
            }
            writer.i32(1);
            writer.i32(leader_epoch);
            writer.i32(9);
            writer.length(Some(1), true);
            writer.uuid(Uuid([3; 16]));
            writer.unsigned_varint(0);
        })
    }

    fn change(number: i32, id: u128, tag: u32) -> Vec<u8> {
        record(PARTITION_CHANGE, 0, |writer| {
            writer.i32(number);
            writer.uuid(Uuid(id.to_be_bytes()));
            writer.unsigned_varint(1);
            writer.unsigned_varint(tag);
            writer.unsigned_varint(4);
            writer.i32(1);
        })
    }

    fn config(of: i8, resource: &str, name: &str, value: Option<&str>) -> Vec<u8> {
        record(CONFIG, 0, |writer| {
            writer.i8(of);
            writer.nullable_string(Some(resource), true);
            writer.nullable_string(Some(name), true);
            writer.nullable_string(value, true);
            writer.unsigned_varint(0);
        })
    }

    fn of(values: &[Vec<u8>]) -> KafkaMetadata {
        let mut metadata = KafkaMetadata::new(1);
        for value in values {
            metadata.apply(value).expect("a record");
        }
        metadata
    }

    fn log(partition: i32, leader_epoch: i32, producer_id: i64) -> KafkaLog {
        KafkaLog {
            topic: "orders".to_owned(),
            id: TopicPartition {
                topic_id: TOPIC_ID,
                partition,
            },
            leader_epoch,
            producer_id,
        }
    }

    fn taken(metadata: &KafkaMetadata, found: &[KafkaLog]) -> Result<Takeover, String> {
        metadata.taken_over(found, &Metadata::default(), &Settings::default(), 0, 2)
    }

    #[test]
    fn topics_come_with_their_partitions_epochs_and_configs() {
        let metadata = of(&[
            topic("orders", TOPIC_ID),
            partition(1, TOPIC_ID, 4),
            partition(0, TOPIC_ID, 2),
            change(0, TOPIC_ID, NEW_LEADER),
            change(0, TOPIC_ID, 7),
            config(OF_TOPIC, "orders", "retention.ms", Some("5000")),
            config(OF_TOPIC, "orders", "segment.bytes", Some("4096")),
            config(OF_TOPIC, "orders", "segment.bytes", None),
            config(OF_TOPIC, "orders", "of.a.newer.kafka", Some("false")),
            config(OF_BROKER, "1", "log.cleaner.threads", Some("3")),
            config(OF_BROKER, "2", "log.retention.ms", Some("6000")),
            topic("gone", 8),
            config(OF_TOPIC, "gone", "retention.ms", Some("1")),
            record(REMOVE_TOPIC, 0, |writer| {
                writer.uuid(Uuid(8_u128.to_be_bytes()));
                writer.unsigned_varint(0);
            }),
            record(PRODUCER_IDS, 0, |writer| {
                writer.i32(1);
                writer.i64(2);
                writer.i64(3_000);
                writer.unsigned_varint(0);
            }),
            record(77, 99, |_| {}),
        ]);
        assert!(metadata.knows(TOPIC_ID) && !metadata.knows(8));
        let takeover = taken(&metadata, &[log(0, 9, 2_999), log(1, 3, -1)]).expect("taken");
        let told = takeover.notes.join("; ");
        assert_eq!(takeover.notes.len(), 2, "{told}");
        assert!(
            told.contains("of.a.newer.kafka") && told.contains("log.cleaner.threads"),
            "{told}"
        );
        let state = |leader, leader_epoch| PartitionState {
            leader_epoch,
            ..PartitionState::of(vec![leader])
        };
        let expected = vec![vec![
            MetadataRecord::TopicCreated(Topic {
                name: "orders".to_owned(),
                id: TOPIC_ID,
                is_internal: false,
                partitions: vec![state(0, 9), state(1, 4)],
                configs: BTreeMap::from([("retention.ms".to_owned(), "5000".to_owned())]),
            }),
            MetadataRecord::ProducerIdsLeased { next: 3_000 },
        ]];
        assert_eq!(takeover.entries, expected);
        // A start that was killed behind the entry finds nothing to do.
        let mut ours = Metadata::default();
        for record in &expected[0] {
            ours.apply(record).expect("it follows");
        }
        let again = metadata.taken_over(&[log(0, 9, 1), log(1, 3, 1)], &ours, &Settings::default(), 0, 2);
        assert_eq!(again.expect("taken").entries, Vec::<Vec<_>>::new());
    }

    #[test]
    fn a_partition_that_is_not_here_is_told() {
        let metadata = of(&[
            topic("orders", TOPIC_ID),
            partition(0, TOPIC_ID, 0),
            partition(1, TOPIC_ID, 0),
        ]);
        let said = taken(&metadata, &[log(0, 0, -1)]).expect_err("refused");
        assert!(said.contains("partition 1 of topic orders"), "{said}");
        let metadata = of(&[topic("orders", TOPIC_ID), partition(1, TOPIC_ID, 0)]);
        assert!(taken(&metadata, &[log(1, 0, -1)]).is_err());
    }

    #[test]
    fn what_would_delete_other_records_or_lacks_some_is_refused() {
        let begun = || vec![topic("orders", TOPIC_ID), partition(0, TOPIC_ID, 0)];
        let in_list = |tag: u32, nodes: &[i32]| {
            record(PARTITION_CHANGE, 2, |writer| {
                writer.i32(0);
                writer.uuid(Uuid(TOPIC_ID.to_be_bytes()));
                writer.unsigned_varint(1);
                writer.unsigned_varint(tag);
                writer.unsigned_varint(1 + 4 * nodes.len() as u32);
                writer.length(Some(nodes.len()), true);
                nodes.iter().for_each(|node| writer.i32(*node));
            })
        };
        for (and, why) in [
            (in_list(IN_SYNC, &[2]), "not in sync"),
            (
                config(OF_TOPIC, "orders", "remote.storage.enable", Some("true")),
                "remote storage",
            ),
            (
                config(OF_TOPIC, "orders", "retention.ms", Some("soon")),
                "retention.ms=soon",
            ),
            (
                config(OF_BROKER, "", "log.retention.ms", Some("-1")),
                "--set log.retention.ms=-1",
            ),
            (
                config(OF_BROKER, "1", "log.cleanup.policy", Some("compact")),
                "--set log.cleanup.policy",
            ),
        ] {
            let mut values = begun();
            values.push(and);
            let said = taken(&of(&values), &[log(0, 0, -1)]).expect_err("refused");
            assert!(said.contains(why), "{said}");
        }
        for and in [
            vec![in_list(IN_SYNC, &[2, 1])],
            vec![in_list(IN_SYNC, &[]), in_list(ELIGIBLE, &[1])],
            vec![config(OF_BROKER, "", "log.retention.hours", Some("168"))],
            vec![config(OF_BROKER, "2", "log.retention.ms", Some("-1"))],
        ] {
            let mut values = begun();
            values.extend(and);
            assert!(taken(&of(&values), &[log(0, 0, -1)]).is_ok());
        }
        let aborted = record(ABORTED, 0, |_| {});
        assert!(KafkaMetadata::new(1).apply(&aborted).is_err());
    }

    #[test]
    fn what_is_no_record_or_a_newer_one_is_refused() {
        for (value, why) in [
            (vec![], "bytes"),
            (vec![2, 2, 0], "framed in version 2"),
            (vec![1, 2, 1], "newer"),
            (topic("orders", TOPIC_ID)[..9].to_vec(), "bytes"),
            (partition(0, TOPIC_ID, 0)[..30].to_vec(), "bytes"),
        ] {
            let said = KafkaMetadata::default().apply(&value).expect_err("refused");
            assert!(said.contains(why), "{said}");
        }
    }
}
