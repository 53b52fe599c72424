//! The records of the metadata log: what happened to the cluster, one fact each, and their bytes.
//!
//! A batch of records is one entry of the log: all of it is applied, or none. Layout, little-endian:
//!
//! ```text
//! batch   count u32, then the records
//! record  kind u8, version u8, length u32 of what follows, fields
//! ```
//!
//! A kind or a version that is not known is an error: a record that is skipped is a cluster that differs.

use std::collections::BTreeMap;

use crate::controller::bytes::{Malformed, Reader, put_count, put_string};
use crate::controller::image::{LogDirectories, PartitionState, Topic, UNASSIGNED_DIRECTORY};

/// The largest batch, in bytes: a topic of the most partitions, or a move of all there may be, fits many times.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// The first version in which partitions say in which log directories they are.
const FIRST_VERSION_WITH_DIRECTORIES: u8 = 2;
/// The first version in which a host says which layout of partitions its number of shards made.
const FIRST_VERSION_WITH_LAYOUT: u8 = 2;
/// kind, version, length.
const RECORD_HEADER_BYTES: usize = 6;

/// What stands for all brokers where a node id is written.
const ALL_BROKERS: i32 = -1;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The host that this log belongs to, and how many shards it was last started with.
    HostRegistered {
        /// `node.id`.
        host_id: i32,
        /// How many.
        shards: u32,
        /// Goes up with every change of that number: see [`storage::Layout`].
        layout: u64,
    },
    /// The host started: the leader epoch of every partition that it leads is raised by one.
    LeaderEpochsRaised {
        /// The host.
        host_id: i32,
    },
    /// A topic is there, with all its state.
    TopicCreated(Topic),
    /// A topic is gone; shards have yet to drop it.
    TopicDeleted {
        /// Its id.
        id: u128,
    },
    /// Every shard has dropped a deleted topic.
    TopicDropped {
        /// Its id.
        id: u128,
    },
    /// Partitions have other nodes, as after a start with another number of shards.
    PartitionsMoved(Vec<PartitionMove>),
    /// A topic has more partitions, numbered on from those that it has.
    PartitionsAdded {
        /// The topic.
        topic_id: u128,
        /// The new ones.
        partitions: Vec<PartitionState>,
    },
    /// A topic has these configs, and no others.
    TopicConfigsSet {
        /// The topic.
        topic_id: u128,
        /// The configs.
        configs: BTreeMap<String, String>,
    },
    /// A broker, or without a node id all of them, has these configs, and no others.
    BrokerConfigsSet {
        /// The broker.
        node_id: Option<i32>,
        /// The configs.
        configs: BTreeMap<String, String>,
    },
    /// Every producer id below this one is taken.
    ProducerIdsLeased {
        /// The first that is free.
        next: i64,
    },
    /// Replicas are in other log directories, and begin anew there: those that they were in are given up.
    DirectoriesAssigned(Vec<DirectoryAssignment>),
    /// The host has these log directories.
    DirectoriesKnown {
        /// `node.id`.
        host_id: i32,
        /// Which.
        directories: LogDirectories,
    },
}

/// A partition whose single replica goes to another shard of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMove {
    /// Its topic.
    pub topic_id: u128,
    /// Its number.
    pub partition: i32,
    /// The node that led it.
    pub from: i32,
    /// The node that leads it now.
    pub to: i32,
}

/// A replica whose log begins anew in another log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryAssignment {
    /// Its topic.
    pub topic_id: u128,
    /// Its number.
    pub partition: i32,
    /// The node that has it.
    pub node: i32,
    /// The directory's id.
    pub directory: u128,
}

/// The bytes of a batch.
pub fn encode(records: &[MetadataRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, records.len());
    for record in records {
        let start = out.len();
        out.extend_from_slice(&[record.kind(), version_of(record.kind()), 0, 0, 0, 0]);
        record.put_fields(&mut out);
        let length = u32::try_from(out.len() - start - RECORD_HEADER_BYTES).expect("a bounded record");
        out[start + 2..start + RECORD_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    }
    out
}

/// The records of a batch.
///
/// # Errors
/// Whatever is not exactly what [`encode`] writes.
pub fn decode(bytes: &[u8]) -> Result<Vec<MetadataRecord>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(RECORD_HEADER_BYTES, "record count")?;
    let mut records = Vec::with_capacity(count.min(1_024));
    for _ in 0..count {
        let kind = reader.u8("record kind")?;
        let version = reader.u8("record version")?;
        if !(1..=version_of(kind)).contains(&version) {
            return Err(Malformed {
                what: "record version",
            });
        }
        let length = reader.u32("record length")?;
        let length = usize::try_from(length).map_err(|_| Malformed {
            what: "record length",
        })?;
        let mut fields = Reader::new(reader.bytes(length, "record length")?);
        records.push(MetadataRecord::take_fields(kind, version, &mut fields)?);
        fields.end("record length")?;
    }
    reader.end("end of the records")?;
    Ok(records)
}

/// The version in which records of the kind are written. Older ones are read.
fn version_of(kind: u8) -> u8 {
    match kind {
        1 => FIRST_VERSION_WITH_LAYOUT,
        3 | 8 => FIRST_VERSION_WITH_DIRECTORIES,
        _ => 1,
    }
}

impl MetadataRecord {
    fn kind(&self) -> u8 {
        match self {
            MetadataRecord::HostRegistered { .. } => 1,
            MetadataRecord::LeaderEpochsRaised { .. } => 2,
            MetadataRecord::TopicCreated(_) => 3,
            MetadataRecord::TopicDeleted { .. } => 4,
            MetadataRecord::TopicDropped { .. } => 5,
            MetadataRecord::PartitionsMoved(_) => 6,
            MetadataRecord::ProducerIdsLeased { .. } => 7,
            MetadataRecord::PartitionsAdded { .. } => 8,
            MetadataRecord::TopicConfigsSet { .. } => 9,
            MetadataRecord::BrokerConfigsSet { .. } => 10,
            MetadataRecord::DirectoriesKnown { .. } => 11,
            MetadataRecord::DirectoriesAssigned(_) => 12,
        }
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        match self {
            MetadataRecord::HostRegistered {
                host_id,
                shards,
                layout,
            } => {
                out.extend_from_slice(&host_id.to_le_bytes());
                out.extend_from_slice(&shards.to_le_bytes());
                out.extend_from_slice(&layout.to_le_bytes());
            }
            MetadataRecord::LeaderEpochsRaised { host_id } => {
                out.extend_from_slice(&host_id.to_le_bytes());
            }
            MetadataRecord::TopicCreated(topic) => put_topic(out, topic),
            MetadataRecord::TopicDeleted { id } | MetadataRecord::TopicDropped { id } => {
                out.extend_from_slice(&id.to_le_bytes());
            }
            MetadataRecord::PartitionsMoved(moves) => {
                put_count(out, moves.len());
                for moved in moves {
                    out.extend_from_slice(&moved.topic_id.to_le_bytes());
                    for field in [moved.partition, moved.from, moved.to] {
                        out.extend_from_slice(&field.to_le_bytes());
                    }
                }
            }
            MetadataRecord::ProducerIdsLeased { next } => out.extend_from_slice(&next.to_le_bytes()),
            MetadataRecord::PartitionsAdded { topic_id, partitions } => {
                out.extend_from_slice(&topic_id.to_le_bytes());
                put_partitions(out, partitions);
            }
            MetadataRecord::TopicConfigsSet { topic_id, configs } => {
                out.extend_from_slice(&topic_id.to_le_bytes());
                put_configs(out, configs);
            }
            MetadataRecord::BrokerConfigsSet { node_id, configs } => {
                out.extend_from_slice(&node_id.unwrap_or(ALL_BROKERS).to_le_bytes());
                put_configs(out, configs);
            }
            MetadataRecord::DirectoriesKnown { host_id, directories } => {
                out.extend_from_slice(&host_id.to_le_bytes());
                put_directories(out, &directories.online);
                put_directories(out, &directories.offline);
            }
            MetadataRecord::DirectoriesAssigned(assignments) => {
                put_count(out, assignments.len());
                for assigned in assignments {
                    out.extend_from_slice(&assigned.topic_id.to_le_bytes());
                    out.extend_from_slice(&assigned.partition.to_le_bytes());
                    out.extend_from_slice(&assigned.node.to_le_bytes());
                    out.extend_from_slice(&assigned.directory.to_le_bytes());
                }
            }
        }
    }

    fn take_fields(kind: u8, version: u8, reader: &mut Reader<'_>) -> Result<MetadataRecord, Malformed> {
        Ok(match kind {
            1 => MetadataRecord::HostRegistered {
                host_id: reader.i32("host id")?,
                shards: reader.u32("shards")?,
                layout: match version {
                    FIRST_VERSION_WITH_LAYOUT.. => reader.u64("layout")?,
                    _ => 0,
                },
            },
            2 => MetadataRecord::LeaderEpochsRaised {
                host_id: reader.i32("host id")?,
            },
            3 => MetadataRecord::TopicCreated(take_topic(version, reader)?),
            4 => MetadataRecord::TopicDeleted {
                id: reader.u128("topic id")?,
            },
            5 => MetadataRecord::TopicDropped {
                id: reader.u128("topic id")?,
            },
            6 => {
                let count = reader.count(28, "moves")?;
                let moves = (0..count).map(|_| {
                    Ok(PartitionMove {
                        topic_id: reader.u128("topic id")?,
                        partition: reader.i32("partition")?,
                        from: reader.i32("node id")?,
                        to: reader.i32("node id")?,
                    })
                });
                MetadataRecord::PartitionsMoved(moves.collect::<Result<_, _>>()?)
            }
            7 => MetadataRecord::ProducerIdsLeased {
                next: reader.i64("producer id")?,
            },
            8 => MetadataRecord::PartitionsAdded {
                topic_id: reader.u128("topic id")?,
                partitions: take_partitions(version, reader)?,
            },
            9 => MetadataRecord::TopicConfigsSet {
                topic_id: reader.u128("topic id")?,
                configs: take_configs(reader)?,
            },
            10 => MetadataRecord::BrokerConfigsSet {
                node_id: match reader.i32("node id")? {
                    ALL_BROKERS => None,
                    node_id if node_id >= 0 => Some(node_id),
                    _ => return Err(Malformed { what: "node id" }),
                },
                configs: take_configs(reader)?,
            },
            11 => MetadataRecord::DirectoriesKnown {
                host_id: reader.i32("host id")?,
                directories: LogDirectories {
                    online: take_directories(reader)?,
                    offline: take_directories(reader)?,
                },
            },
            12 => {
                let count = reader.count(40, "assignments")?;
                let assignments = (0..count).map(|_| {
                    Ok(DirectoryAssignment {
                        topic_id: reader.u128("topic id")?,
                        partition: reader.i32("partition")?,
                        node: reader.i32("node id")?,
                        directory: reader.u128("directory id")?,
                    })
                });
                MetadataRecord::DirectoriesAssigned(assignments.collect::<Result<_, _>>()?)
            }
            _ => return Err(Malformed { what: "record kind" }),
        })
    }
}

fn put_topic(out: &mut Vec<u8>, topic: &Topic) {
    out.extend_from_slice(&topic.id.to_le_bytes());
    put_string(out, &topic.name);
    out.push(topic.is_internal.into());
    put_partitions(out, &topic.partitions);
    put_configs(out, &topic.configs);
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[PartitionState]) {
    put_count(out, partitions.len());
    for partition in partitions {
        out.extend_from_slice(&partition.leader.to_le_bytes());
        out.extend_from_slice(&partition.leader_epoch.to_le_bytes());
        for nodes in [&partition.replicas, &partition.isr] {
            put_count(out, nodes.len());
            nodes
                .iter()
                .for_each(|node| out.extend_from_slice(&node.to_le_bytes()));
        }
        put_directories(out, &partition.directories);
    }
}

fn put_directories(out: &mut Vec<u8>, directories: &[u128]) {
    put_count(out, directories.len());
    directories
        .iter()
        .for_each(|directory| out.extend_from_slice(&directory.to_le_bytes()));
}

fn put_configs(out: &mut Vec<u8>, configs: &BTreeMap<String, String>) {
    put_count(out, configs.len());
    for (name, value) in configs {
        put_string(out, name);
        put_string(out, value);
    }
}

fn take_topic(version: u8, reader: &mut Reader<'_>) -> Result<Topic, Malformed> {
    Ok(Topic {
        id: reader.u128("topic id")?,
        name: reader.string("topic name")?,
        is_internal: reader.bool("internal flag")?,
        partitions: take_partitions(version, reader)?,
        configs: take_configs(reader)?,
    })
}

fn take_partitions(version: u8, reader: &mut Reader<'_>) -> Result<Vec<PartitionState>, Malformed> {
    let count = reader.count(16, "partitions")?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let mut state = PartitionState {
            leader: reader.i32("leader")?,
            leader_epoch: reader.i32("leader epoch")?,
            replicas: take_nodes(reader)?,
            isr: take_nodes(reader)?,
            directories: Vec::new(),
        };
        state.directories = if version < FIRST_VERSION_WITH_DIRECTORIES {
            vec![UNASSIGNED_DIRECTORY; state.replicas.len()]
        } else {
            take_directories(reader)?
        };
        if state.directories.len() != state.replicas.len() {
            return Err(Malformed { what: "directories" });
        }
        partitions.push(state);
    }
    Ok(partitions)
}

fn take_directories(reader: &mut Reader<'_>) -> Result<Vec<u128>, Malformed> {
    let count = reader.count(16, "directories")?;
    (0..count).map(|_| reader.u128("directory id")).collect()
}

fn take_configs(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Malformed> {
    let count = reader.count(4, "configs")?;
    let mut configs = BTreeMap::new();
    for _ in 0..count {
        let name = reader.string("config name")?;
        let value = reader.string("config value")?;
        if configs.insert(name, value).is_some() {
            return Err(Malformed { what: "configs" });
        }
    }
    Ok(configs)
}

fn take_nodes(reader: &mut Reader<'_>) -> Result<Vec<i32>, Malformed> {
    let count = reader.count(4, "node ids")?;
    (0..count).map(|_| reader.i32("node id")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn one_of_each() -> Vec<MetadataRecord> {
        vec![
            MetadataRecord::HostRegistered {
                host_id: 1,
                shards: 2,
                layout: 3,
            },
            MetadataRecord::LeaderEpochsRaised { host_id: 1 },
            MetadataRecord::TopicCreated(Topic {
                name: "words".into(),
                id: 7,
                is_internal: false,
                partitions: vec![PartitionState {
                    leader: 1000,
                    leader_epoch: 3,
                    replicas: vec![1000],
                    isr: vec![1000],
                    directories: vec![11],
                }],
                configs: BTreeMap::from([("segment.bytes".into(), "1048576".into())]),
            }),
            MetadataRecord::TopicDeleted { id: 7 },
            MetadataRecord::TopicDropped { id: 7 },
            MetadataRecord::PartitionsMoved(vec![PartitionMove {
                topic_id: 7,
                partition: 0,
                from: 1001,
                to: 1000,
            }]),
            MetadataRecord::ProducerIdsLeased { next: 2_000 },
            MetadataRecord::PartitionsAdded {
                topic_id: 7,
                partitions: vec![PartitionState {
                    leader: 1001,
                    leader_epoch: 0,
                    replicas: vec![1001],
                    isr: vec![1001],
                    directories: vec![12],
                }],
            },
            MetadataRecord::TopicConfigsSet {
                topic_id: 7,
                configs: BTreeMap::from([("retention.ms".into(), "-1".into())]),
            },
            MetadataRecord::BrokerConfigsSet {
                node_id: None,
                configs: BTreeMap::from([("log.segment.bytes".into(), "1048576".into())]),
            },
            MetadataRecord::BrokerConfigsSet {
                node_id: Some(1001),
                configs: BTreeMap::new(),
            },
            MetadataRecord::DirectoriesAssigned(vec![DirectoryAssignment {
                topic_id: 7,
                partition: 0,
                node: 1000,
                directory: 12,
            }]),
            MetadataRecord::DirectoriesKnown {
                host_id: 1,
                directories: LogDirectories {
                    online: vec![11, 12],
                    offline: vec![13],
                },
            },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let records = one_of_each();
        assert_eq!(decode(&encode(&records)), Ok(records));
        assert_eq!(decode(&encode(&[])), Ok(vec![]));
    }

    #[test]
    fn every_cut_and_every_extension_is_refused() {
        let bytes = encode(&one_of_each());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length}");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn unknown_kinds_and_versions_are_refused() {
        let mut bytes = encode(&[MetadataRecord::TopicDeleted { id: 7 }]);
        bytes[4] = 99;
        assert_eq!(decode(&bytes), Err(Malformed { what: "record kind" }));
        bytes[4] = 4;
        bytes[5] = 0;
        assert!(decode(&bytes).is_err());
        bytes[5] = 2;
        assert_eq!(
            decode(&bytes),
            Err(Malformed {
                what: "record version"
            })
        );
    }

    #[test]
    fn partitions_of_the_first_version_are_where_the_metadata_is() {
        let record = |directories: &[u128]| MetadataRecord::PartitionsAdded {
            topic_id: 7,
            partitions: vec![PartitionState {
                leader: 1001,
                leader_epoch: 5,
                replicas: vec![1001],
                isr: vec![1001],
                directories: directories.to_vec(),
            }],
        };
        let now = encode(&[record(&[11])]);
        // The same without the list at its end, which has a count and one id.
        let mut then = now[..now.len() - 20].to_vec();
        then[5] = 1;
        then[6] -= 20;
        assert_eq!(decode(&then), Ok(vec![record(&[UNASSIGNED_DIRECTORY])]));
        then[5] = 2;
        assert!(decode(&then).is_err());
        let what = "directories";
        assert_eq!(
            decode(&encode(&[record(&[])])),
            Err(Malformed { what }),
            "one for each replica"
        );
    }

    #[test]
    fn a_host_of_the_first_version_has_the_first_layout() {
        let registered = |layout| MetadataRecord::HostRegistered {
            host_id: 1,
            shards: 2,
            layout,
        };
        let now = encode(&[registered(3)]);
        let mut then = now[..now.len() - 8].to_vec();
        then[5] = 1;
        then[6] -= 8;
        assert_eq!(decode(&then), Ok(vec![registered(0)]));
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let mut bytes = encode(&one_of_each());
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Malformed { what: "record count" }));
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_an_error_or_records_that_write_back(
            at in 0_usize..400,
            value: u8,
            noise in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _any_answer_but_a_panic = decode(&noise);
            let mut bytes = encode(&one_of_each());
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(records) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&records)), Ok(records));
            }
        }
    }
}
