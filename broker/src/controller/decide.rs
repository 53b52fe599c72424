//! What the controller makes of a request: pure decisions on the metadata as it is.
//!
//! A decision is a list of records to be written, and the answers to give once they are. Nothing here changes the
//! state. Error codes are Kafka's for the same request.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use wire::ErrorCode;

use crate::config::Settings;
use crate::config::topic as topic_config;
use crate::controller::folded::FoldedNames;
use crate::controller::image::{LogDirectories, Node, PartitionState, Topic, host_of};
use crate::controller::placement::{self, Placement};
use crate::controller::record::MetadataRecord;
use crate::controller::request::{CreatedTopic, DeletedTopic, NewTopic, TopicReference};
use crate::controller::state::Metadata;

/// The topic in which groups keep their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Topics in which brokers keep their own records.
const INTERNAL_TOPICS: [&str; 2] = [OFFSETS_TOPIC, "__transaction_state"];
/// What it is created with, as Kafka does.
const OFFSETS_CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", topic_config::INTERNAL_CLEANUP_POLICY),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
];

/// The longest name, in bytes: with a partition's number it must fit a file's name.
const NAME_BYTES_MAX: usize = 249;
/// New partitions that one request may ask for, as in Kafka.
pub(crate) const REQUEST_PARTITIONS_MAX: usize = 10_000;
/// Partitions of a cluster: a move of all of them fits one entry of the log.
pub(crate) const PARTITIONS_MAX: usize = 200_000;
/// Producer ids leased at once, as in Kafka.
const PRODUCER_ID_BLOCK: i64 = 1_000;

/// Why something is not done: Kafka's code, and the cause for people.
pub(crate) type Refusal = (ErrorCode, String);

/// What decisions stand on, beside the metadata.
pub struct Cluster<'a> {
    /// The nodes, by id.
    pub nodes: &'a [Node],
    /// The configuration.
    pub settings: &'a Settings,
}

/// Decides on new topics, in order; a topic sees those before it. `new_id` gives ids that were never given.
pub fn create_topics(
    metadata: &Metadata,
    cluster: &Cluster<'_>,
    topics: &[NewTopic],
    mut new_id: impl FnMut() -> u128,
) -> (Vec<MetadataRecord>, Vec<CreatedTopic>) {
    let mut placement = Placement::of(metadata, cluster.nodes);
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut folded = FoldedNames::default();
    let known = metadata.partitions();
    let mut taken = 0;
    let mut configs_bytes = metadata.topic_configs_bytes();
    let mut records = Vec::new();
    let mut results = Vec::new();
    for (number, wanted) in topics.iter().enumerate() {
        // Each has a partition at least.
        let decided = within_request(number + 1)
            .and_then(|()| check_name(metadata, &names, &folded, &wanted.name))
            .and_then(|()| configs(wanted, cluster.settings, configs_bytes))
            .and_then(|configs| {
                let partitions = partitions(known, cluster, wanted, &mut placement, taken)?;
                Ok((configs, partitions))
            });
        let result = match decided {
            Ok((configs, partitions)) => {
                names.insert(&wanted.name);
                folded.insert(&wanted.name);
                configs_bytes += topic_config::bytes(&configs);
                taken += partitions.len();
                let topic = Topic {
                    name: wanted.name.clone(),
                    id: new_id(),
                    is_internal: is_internal(&wanted.name),
                    partitions,
                    configs,
                };
                let result = created(&topic, cluster.settings);
                records.push(MetadataRecord::TopicCreated(topic));
                result
            }
            Err((error_code, message)) => CreatedTopic {
                name: wanted.name.clone(),
                id: 0,
                error_code,
                error_message: Some(message),
                partitions: -1,
                replication_factor: -1,
                configs: Vec::new(),
            },
        };
        results.push(result);
    }
    (records, results)
}

/// Decides on topics that shall be there, made with the broker's defaults where they are not.
pub fn ensure_topics(
    metadata: &Metadata,
    cluster: &Cluster<'_>,
    names: &[String],
    new_id: impl FnMut() -> u128,
) -> (Vec<MetadataRecord>, Vec<(String, ErrorCode)>) {
    let missing: BTreeSet<&String> = names
        .iter()
        .filter(|name| !metadata.topics_by_name.contains_key(*name))
        .collect();
    let wanted: Vec<NewTopic> = missing
        .iter()
        .map(|name| default_topic(name, cluster.settings))
        .collect();
    let (records, created) = create_topics(metadata, cluster, &wanted, new_id);
    let errors: BTreeMap<String, ErrorCode> = created
        .into_iter()
        .map(|topic| (topic.name, topic.error_code))
        .collect();
    let results = names.iter().map(|name| {
        let error = errors.get(name).copied().unwrap_or(ErrorCode::None);
        (name.clone(), error)
    });
    (records, results.collect())
}

/// Decides on deletions. A topic that is named twice, by name and by id, is deleted once.
pub fn delete_topics(
    metadata: &Metadata,
    topics: &[TopicReference],
) -> (Vec<MetadataRecord>, Vec<DeletedTopic>) {
    let mut ids = BTreeSet::new();
    let mut results = Vec::new();
    for reference in topics {
        let (found, unknown): (Option<&Arc<Topic>>, _) = match reference {
            TopicReference::Name(name) => (
                metadata.topics_by_name.get(name),
                (ErrorCode::UnknownTopicOrPartition, Some(name.clone()), 0),
            ),
            TopicReference::Id(id) => (
                metadata.topics_by_id.get(id),
                (ErrorCode::UnknownTopicId, None, *id),
            ),
        };
        results.push(match found {
            Some(topic) => {
                ids.insert(topic.id);
                DeletedTopic {
                    name: Some(topic.name.clone()),
                    id: topic.id,
                    error_code: ErrorCode::None,
                    error_message: None,
                }
            }
            None => {
                let (error_code, name, id) = unknown;
                DeletedTopic {
                    name,
                    id,
                    error_code,
                    error_message: Some("This server does not host this topic.".to_owned()),
                }
            }
        });
    }
    let records = ids.into_iter().map(|id| MetadataRecord::TopicDeleted { id });
    (records.collect(), results)
}

/// Leases the next block of producer ids; `None` when there are none left.
pub fn lease_producer_ids(metadata: &Metadata) -> Option<(MetadataRecord, Range<i64>)> {
    let first = metadata.next_producer_id;
    let next = first.checked_add(PRODUCER_ID_BLOCK)?;
    Some((MetadataRecord::ProducerIdsLeased { next }, first..next))
}

/// What is written when the host starts with `shards` shards and these log directories: its registration when that is new,
/// moves when the shards are others, the directories when they are, others for what was in the one that is given up, and
/// always new leader epochs, by one record for all.
pub fn start(
    metadata: &Metadata,
    host_id: i32,
    shards: u32,
    directories: LogDirectories,
    given_up: Option<u128>,
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    if let Some(given_up) = given_up {
        let mut without = metadata.clone();
        Arc::make_mut(&mut without.directories).insert(host_id, directories.clone());
        let assigned = placement::replace(&without, host_id, given_up);
        if !assigned.is_empty() {
            records.push(MetadataRecord::DirectoriesAssigned(assigned));
        }
    }
    if metadata.directories_of(host_id) != directories {
        records.push(MetadataRecord::DirectoriesKnown { host_id, directories });
    }
    if metadata.host.is_none_or(|host| host.shards != shards) {
        records.push(MetadataRecord::HostRegistered {
            host_id,
            shards,
            layout: metadata.host.map_or(0, |host| host.layout + 1),
        });
        let moves = placement::spread(metadata, host_id, shards);
        if !moves.is_empty() {
            records.push(MetadataRecord::PartitionsMoved(moves));
        }
    }
    records.push(MetadataRecord::LeaderEpochsRaised { host_id });
    records
}

/// Once every shard has opened its log or installed the image without them, deleted topics are forgotten.
pub fn forget_dropped(metadata: &Metadata) -> Vec<MetadataRecord> {
    let deleted = metadata.deleted_topics.iter();
    deleted.map(|&id| MetadataRecord::TopicDropped { id }).collect()
}

/// Whether a request may ask for so many new partitions.
fn within_request(partitions: usize) -> Result<(), Refusal> {
    if partitions > REQUEST_PARTITIONS_MAX {
        let why = format!("a request may ask for at most {REQUEST_PARTITIONS_MAX} new partitions");
        return Err((ErrorCode::PolicyViolation, why));
    }
    Ok(())
}

/// `others` are the names of the same request, and `folded` are they as well.
fn check_name(
    metadata: &Metadata,
    others: &BTreeSet<&str>,
    folded: &FoldedNames,
    name: &str,
) -> Result<(), Refusal> {
    let invalid = |why: String| Err((ErrorCode::InvalidTopicException, why));
    if name.is_empty() {
        return invalid("a topic's name cannot be empty".into());
    }
    if name == "." || name == ".." {
        return invalid("a topic's name cannot be '.' or '..'".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return invalid(format!(
            "a topic's name has at most {NAME_BYTES_MAX} characters, this one has {}",
            name.len()
        ));
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(is_legal) {
        return invalid(format!(
            "topic '{name}' has a character other than ASCII letters and digits, '.', '_' and '-'"
        ));
    }
    if metadata.topics_by_name.contains_key(name) || others.contains(name) {
        return Err((
            ErrorCode::TopicAlreadyExists,
            format!("Topic '{name}' already exists."),
        ));
    }
    match metadata.names.find(name).or_else(|| folded.find(name)) {
        Some(other) => invalid(format!("topic '{name}' collides with topic '{other}'")),
        None => Ok(()),
    }
}

pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// Its configs, beside others of `others` bytes.
fn configs(
    wanted: &NewTopic,
    settings: &Settings,
    others: usize,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut configs = BTreeMap::new();
    for (name, value) in &wanted.configs {
        let refuse = |why| (ErrorCode::InvalidConfig, why);
        let Some(value) = value else {
            return Err(refuse(format!("topic config {name} has no value")));
        };
        topic_config::check(name, value, settings).map_err(refuse)?;
        if configs
            .insert(name.clone(), topic_config::normal(name, value))
            .is_some()
        {
            return Err(refuse(format!("topic config {name} is given twice")));
        }
    }
    if is_internal(&wanted.name) {
        topic_config::check_internal(&configs).map_err(|why| (ErrorCode::InvalidConfig, why))?;
    }
    topic_config::check_together(&configs, settings).map_err(|why| (ErrorCode::InvalidConfig, why))?;
    topic_config::check_bytes(&configs, others).map_err(|why| (ErrorCode::PolicyViolation, why))?;
    Ok(configs)
}

/// Its partitions, beside `known` ones that are there and `taken` ones of the same request.
fn partitions(
    known: usize,
    cluster: &Cluster<'_>,
    wanted: &NewTopic,
    placement: &mut Placement,
    taken: usize,
) -> Result<Vec<PartitionState>, Refusal> {
    let within = |count: usize| {
        within_request(taken + count)?;
        if known + taken + count > PARTITIONS_MAX {
            let why = format!("a cluster has at most {PARTITIONS_MAX} partitions");
            return Err((ErrorCode::PolicyViolation, why));
        }
        Ok(())
    };
    if !wanted.assignments.is_empty() {
        let replicas = assigned(cluster.nodes, wanted)?;
        within(replicas.len())?;
        return Ok(replicas.into_iter().map(|nodes| placement.place(nodes)).collect());
    }
    let count = match wanted.partitions {
        -1 => cluster.settings.num_partitions(),
        count => count,
    };
    let count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or((
        ErrorCode::InvalidPartitions,
        "a topic has at least one partition; -1 takes num.partitions".to_owned(),
    ))?;
    let factor = match wanted.replication_factor {
        -1 => cluster.settings.default_replication_factor(),
        factor => factor,
    };
    let hosts: BTreeMap<i32, &Node> = cluster
        .nodes
        .iter()
        .rev()
        .map(|node| (host_of(node.id), node))
        .collect();
    if factor < 1 {
        let why = "a partition has at least one replica; -1 takes default.replication.factor".to_owned();
        return Err((ErrorCode::InvalidReplicationFactor, why));
    }
    if usize::try_from(factor).is_ok_and(|factor| factor > hosts.len()) {
        let names = hosts
            .iter()
            .map(|(id, node)| format!("{} (node.id {id})", node.host));
        let names: Vec<String> = names.collect();
        return Err((
            ErrorCode::InvalidReplicationFactor,
            format!(
                "replication factor {factor} is larger than the number of hosts, {}: {}",
                hosts.len(),
                names.join(", ")
            ),
        ));
    }
    within(count)?;
    Ok(placement.take(count))
}

/// The nodes of each partition, as the client chose them.
fn assigned(nodes: &[Node], wanted: &NewTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if wanted.partitions != -1 || wanted.replication_factor != -1 {
        let why = "with assignments, the number of partitions and the replication factor are -1".to_owned();
        return Err((ErrorCode::InvalidRequest, why));
    }
    let refuse = |why: String| Err((ErrorCode::InvalidReplicaAssignment, why));
    let by_number: BTreeMap<i32, &Vec<i32>> = wanted
        .assignments
        .iter()
        .map(|(number, replicas)| (*number, replicas))
        .collect();
    if by_number.len() != wanted.assignments.len()
        || !by_number.keys().copied().eq((0..).take(by_number.len()))
    {
        return refuse("assigned partitions are numbered from 0, without a gap and without repeats".into());
    }
    let factor = by_number.values().next().map_or(0, |replicas| replicas.len());
    for (number, replicas) in &by_number {
        if replicas.is_empty() {
            return refuse(format!("partition {number} has no replica"));
        }
        if replicas.len() != factor {
            return refuse("all partitions have the same number of replicas".into());
        }
        let mut hosts = BTreeSet::new();
        for replica in *replicas {
            if !nodes.iter().any(|node| node.id == *replica) {
                return refuse(format!(
                    "partition {number} is assigned to node {replica}, which is not there"
                ));
            }
            if !hosts.insert(host_of(*replica)) {
                return refuse(format!(
                    "partition {number} has two replicas on the host of node {replica}"
                ));
            }
        }
    }
    Ok(by_number.into_values().cloned().collect())
}

fn default_topic(name: &str, settings: &Settings) -> NewTopic {
    let mut topic = NewTopic {
        name: name.to_owned(),
        partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    };
    if name == OFFSETS_TOPIC {
        topic.partitions = settings.offsets_topic_num_partitions();
        let configs = OFFSETS_CONFIGS.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        topic.configs.extend(configs);
    }
    topic
}

fn created(topic: &Topic, settings: &Settings) -> CreatedTopic {
    let count = |count: usize| i32::try_from(count).expect("bounded when it was decided");
    let factor = topic
        .partitions
        .first()
        .map_or(0, |partition| partition.replicas.len());
    CreatedTopic {
        name: topic.name.clone(),
        id: topic.id,
        error_code: ErrorCode::None,
        error_message: None,
        partitions: count(topic.partitions.len()),
        replication_factor: i16::try_from(factor).expect("at most one replica a host"),
        configs: topic_config::effective(&topic_config::own(topic), settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::ALL_CONFIGS_BYTES_MAX;

    fn nodes(shards: i32) -> Vec<Node> {
        (0..shards)
            .map(|shard| Node {
                id: 1000 + shard,
                host: "127.0.0.1".into(),
                port: 9092,
                rack: None,
            })
            .collect()
    }

    fn wanted(name: &str, partitions: i32) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions,
            replication_factor: -1,
            assignments: vec![],
            configs: vec![],
        }
    }

    /// Decides, applies, and answers.
    fn create(metadata: &mut Metadata, topics: &[NewTopic]) -> Vec<CreatedTopic> {
        let settings = Settings::default();
        let mut next = metadata.topics_by_id.len() as u128;
        let cluster = Cluster {
            nodes: &nodes(2),
            settings: &settings,
        };
        let (records, results) = create_topics(metadata, &cluster, topics, || {
            next += 1;
            next
        });
        for record in &records {
            metadata.apply(record).expect("a decision that can be applied");
        }
        results
    }

    fn code(topic: NewTopic) -> ErrorCode {
        create(&mut Metadata::default(), &[topic])[0].error_code
    }

    #[test]
    fn names_follow_kafkas_rules() {
        use ErrorCode::{InvalidTopicException, None};
        for (name, expected) in [
            ("a", None),
            ("A.b_c-9", None),
            ("", InvalidTopicException),
            (".", InvalidTopicException),
            ("..", InvalidTopicException),
            ("...", None),
            ("a b", InvalidTopicException),
            ("a/b", InvalidTopicException),
            ("é", InvalidTopicException),
            (&"x".repeat(249), None),
            (&"x".repeat(250), InvalidTopicException),
        ] {
            assert_eq!(code(wanted(name, 1)), expected, "{name:?}");
        }
    }

    #[test]
    fn a_name_is_taken_once_also_within_a_request() {
        let mut metadata = Metadata::default();
        create(&mut metadata, &[wanted("a_b", 1)]);
        let results = create(
            &mut metadata,
            &[
                wanted("a_b", 1),
                wanted("a.b", 1),
                wanted("c.d", 1),
                wanted("c_d", 1),
            ],
        );
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        use ErrorCode::{InvalidTopicException, None, TopicAlreadyExists};
        assert_eq!(
            codes,
            [
                TopicAlreadyExists,
                InvalidTopicException,
                None,
                InvalidTopicException
            ]
        );
    }

    #[test]
    fn a_name_that_collides_is_found_in_the_set_of_names_and_not_by_looking_at_each() {
        // The topics alone do not tell: nothing goes through them.
        let mut metadata = Metadata::default();
        create(&mut metadata, &[wanted("a.b", 1)]);
        let names = std::mem::take(&mut metadata.names);
        assert_eq!(
            create(&mut metadata.clone(), &[wanted("a_b", 1)])[0].error_code,
            ErrorCode::None
        );
        let mut metadata = Metadata {
            names,
            ..Metadata::default()
        };
        assert_eq!(
            create(&mut metadata, &[wanted("a_b", 1)])[0].error_code,
            ErrorCode::InvalidTopicException
        );
    }

    #[test]
    fn what_is_beyond_the_partitions_of_a_request_is_not_looked_at() {
        // Names that are refused take no partitions, and would be looked at without end.
        let mut topics = vec![wanted("a b", 1); REQUEST_PARTITIONS_MAX];
        topics.push(wanted("a", 1));
        let results = create(&mut Metadata::default(), &topics);
        let (last, before) = results.split_last().expect("results");
        assert_eq!(last.error_code, ErrorCode::PolicyViolation);
        assert!(
            before
                .iter()
                .all(|result| result.error_code == ErrorCode::InvalidTopicException)
        );
    }

    #[test]
    fn configs_of_all_topics_have_a_bound() {
        let throttled = vec!["0:1000"; 4_096 / 7].join(",");
        let with_configs = |name: &str| NewTopic {
            configs: ["leader", "follower"]
                .map(|who| {
                    (
                        format!("{who}.replication.throttled.replicas"),
                        Some(throttled.clone()),
                    )
                })
                .to_vec(),
            ..wanted(name, 1)
        };
        let mut metadata = Metadata::default();
        assert_eq!(
            create(&mut metadata, &[with_configs("a")])[0].error_code,
            ErrorCode::None
        );
        let one = metadata.topic_configs_bytes();
        let topics: Vec<_> = (0..ALL_CONFIGS_BYTES_MAX / one + 1)
            .map(|number| with_configs(&format!("topic-{number}")))
            .collect();
        let results = create(&mut metadata, &topics);
        let refused = |result: &&CreatedTopic| result.error_code == ErrorCode::PolicyViolation;
        assert_eq!(results.iter().filter(refused).count(), 2);
        assert!(metadata.topic_configs_bytes() <= ALL_CONFIGS_BYTES_MAX);
        let message = results.last().and_then(|result| result.error_message.clone());
        assert!(message.expect("a message").contains("67108864"));
        assert_eq!(
            create(&mut metadata, &[wanted("b", 1)])[0].error_code,
            ErrorCode::None,
            "without configs"
        );
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        for partitions in [0, -2, i32::MIN] {
            assert_eq!(code(wanted("a", partitions)), ErrorCode::InvalidPartitions);
        }
        for partitions in [10_001, i32::MAX] {
            assert_eq!(code(wanted("a", partitions)), ErrorCode::PolicyViolation);
        }
        for replication_factor in [0, -2, 2, i16::MAX] {
            let topic = NewTopic {
                replication_factor,
                ..wanted("a", 1)
            };
            let result = &create(&mut Metadata::default(), &[topic])[0];
            assert_eq!(result.error_code, ErrorCode::InvalidReplicationFactor);
            if replication_factor > 0 {
                let message = result.error_message.as_deref().expect("a message");
                assert!(message.contains("127.0.0.1 (node.id 1)"), "{message}");
            }
        }
    }

    #[test]
    fn partitions_go_round_the_shards_from_the_least_loaded() {
        let mut metadata = Metadata::default();
        create(&mut metadata, &[wanted("a", 3), wanted("b", 1), wanted("c", 4)]);
        let leaders = |name: &str| -> Vec<i32> {
            let partitions = metadata.topics_by_name[name].partitions.iter();
            partitions.map(|partition| partition.leader).collect()
        };
        assert_eq!(leaders("a"), [1000, 1001, 1000]);
        assert_eq!(leaders("b"), [1001]);
        assert_eq!(leaders("c"), [1000, 1001, 1000, 1001]);
    }

    fn online(ids: &[u128]) -> LogDirectories {
        LogDirectories {
            online: ids.to_vec(),
            offline: Vec::new(),
        }
    }

    #[test]
    fn partitions_go_to_the_directory_in_which_their_node_has_the_fewest() {
        let mut metadata = Metadata::default();
        // From before the host had several directories: they are where the metadata is.
        let old = PartitionState::of(vec![1001]);
        for record in [
            MetadataRecord::TopicCreated(Topic {
                name: "old".into(),
                id: 1,
                partitions: vec![old.clone(), old],
                ..Topic::default()
            }),
            MetadataRecord::DirectoriesKnown {
                host_id: 1,
                directories: online(&[11, 12]),
            },
        ] {
            metadata.apply(&record).expect("applied");
        }
        let assigned = NewTopic {
            assignments: vec![(0, vec![1000]), (1, vec![1000]), (2, vec![1001])],
            ..wanted("assigned", -1)
        };
        create(&mut metadata, &[wanted("a", 4), assigned]);
        let places = |metadata: &Metadata, name: &str| -> Vec<(i32, u128)> {
            let partitions = metadata.topics_by_name[name].partitions.iter();
            partitions
                .map(|partition| (partition.leader, partition.directory()))
                .collect()
        };
        assert_eq!(
            places(&metadata, "a"),
            [(1000, 11), (1001, 12), (1000, 12), (1001, 12)]
        );
        assert_eq!(
            places(&metadata, "assigned"),
            [(1000, 11), (1000, 12), (1001, 11)]
        );
        assert_eq!(
            [11, 12].map(|directory| metadata.partitions_in(1, directory)),
            [3, 4]
        );
        let one = MetadataRecord::DirectoriesKnown {
            host_id: 1,
            directories: LogDirectories {
                offline: vec![12],
                ..online(&[11])
            },
        };
        metadata.apply(&one).expect("applied");
        create(&mut metadata, &[wanted("b", 2)]);
        assert_eq!(
            metadata.topics_by_name["b"].partitions[1].directory(),
            11,
            "the other has failed"
        );
        let image = metadata.image(9, 0, &[]);
        let are_online = |name: &str| -> Vec<bool> {
            let partitions = image.topics_by_name[name].partitions.iter();
            partitions.map(|partition| image.is_online(partition)).collect()
        };
        assert_eq!(are_online("a"), [true, false, false, false]);
        assert_eq!(are_online("old"), [true, true]);
        for record in start(&metadata.clone(), 1, 2, online(&[11, 13]), Some(12)) {
            metadata.apply(&record).expect("applied");
        }
        assert_eq!(
            places(&metadata, "a"),
            [(1000, 11), (1001, 13), (1000, 13), (1001, 13)],
            "the one that is new has the fewest"
        );
        assert_eq!(metadata.partitions_in(1, 12), 0);
    }

    #[test]
    fn assignments_are_checked() {
        let assigned = |assignments: &[(i32, &[i32])]| NewTopic {
            assignments: assignments
                .iter()
                .map(|(number, nodes)| (*number, nodes.to_vec()))
                .collect(),
            ..wanted("a", -1)
        };
        use ErrorCode::{InvalidReplicaAssignment, InvalidRequest, None};
        assert_eq!(code(assigned(&[(1, &[1000]), (0, &[1001])])), None);
        for wrong in [
            &[(1, &[1000][..])][..],
            &[(0, &[1000]), (0, &[1001])],
            &[(0, &[])],
            &[(0, &[1007])],
            &[(0, &[1000, 1000])],
            &[(0, &[1000, 1001])],
            &[(-1, &[1000])],
        ] {
            assert_eq!(code(assigned(wrong)), InvalidReplicaAssignment, "{wrong:?}");
        }
        let both = NewTopic {
            partitions: 1,
            ..assigned(&[(0, &[1000])])
        };
        assert_eq!(code(both), InvalidRequest);
    }

    #[test]
    fn configs_are_checked() {
        let with = |name: &str, value: Option<&str>| NewTopic {
            configs: vec![(name.into(), value.map(str::to_owned))],
            ..wanted("a", 1)
        };
        use ErrorCode::{InvalidConfig, None};
        assert_eq!(code(with("segment.bytes", Some("1048576"))), None);
        assert_eq!(code(with("segment.bytes", Some("many"))), InvalidConfig);
        assert_eq!(code(with("segment.bytes", Option::None)), InvalidConfig);
        assert_eq!(code(with("segment.byte", Some("1"))), InvalidConfig);
        assert_eq!(code(with("cleanup.policy", Some("compact"))), None);
        assert_eq!(code(with("cleanup.policy", Some("compact,compact"))), None);
        assert_eq!(code(with("cleanup.policy", Some("shred"))), InvalidConfig);
        let long = "0".repeat(topic_config::CONFIGS_BYTES_MAX) + "1048576";
        assert_eq!(
            code(with("segment.bytes", Some(&long))),
            ErrorCode::PolicyViolation
        );
    }

    #[test]
    fn topics_are_ensured_once() {
        let mut metadata = Metadata::default();
        create(&mut metadata, &[wanted("there", 1)]);
        let settings = Settings::default();
        let cluster = Cluster {
            nodes: &nodes(2),
            settings: &settings,
        };
        let names = ["there", OFFSETS_TOPIC, "not valid", OFFSETS_TOPIC].map(str::to_owned);
        let (records, results) = ensure_topics(&metadata, &cluster, &names, || 9);
        let codes: Vec<_> = results.iter().map(|(_, code)| *code).collect();
        use ErrorCode::{InvalidTopicException, None};
        assert_eq!(codes, [None, None, InvalidTopicException, None]);
        let [MetadataRecord::TopicCreated(topic)] = &records[..] else {
            panic!("one topic is created: {records:?}");
        };
        assert_eq!((topic.partitions.len(), topic.is_internal), (50, true));
        assert_eq!(topic.configs["cleanup.policy"], "compact");
        let mut deleting = wanted(OFFSETS_TOPIC, 1);
        deleting.configs = vec![("cleanup.policy".into(), Some("delete".into()))];
        assert_eq!(code(deleting), ErrorCode::InvalidConfig);
    }

    #[test]
    fn deletions_find_topics_by_name_and_by_id() {
        let mut metadata = Metadata::default();
        create(&mut metadata, &[wanted("a", 1)]);
        let id = metadata.topics_by_name["a"].id;
        let (records, results) = delete_topics(
            &metadata,
            &[
                TopicReference::Name("a".into()),
                TopicReference::Id(id),
                TopicReference::Name("b".into()),
                TopicReference::Id(77),
            ],
        );
        assert_eq!(records, [MetadataRecord::TopicDeleted { id }]);
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        use ErrorCode::{None, UnknownTopicId, UnknownTopicOrPartition};
        assert_eq!(codes, [None, None, UnknownTopicOrPartition, UnknownTopicId]);
    }

    #[test]
    fn producer_ids_are_never_leased_twice() {
        let mut metadata = Metadata::default();
        let mut ends = 0;
        for _ in 0..3 {
            let (record, block) = lease_producer_ids(&metadata).expect("ids are left");
            assert_eq!(block, ends..ends + 1_000);
            ends = block.end;
            metadata.apply(&record).expect("applied");
        }
        metadata.next_producer_id = i64::MAX - 5;
        assert!(lease_producer_ids(&metadata).is_none());
    }

    #[test]
    fn another_number_of_shards_moves_partitions_and_every_start_raises_epochs() {
        let mut metadata = Metadata::default();
        for record in start(&metadata.clone(), 1, 2, online(&[11]), None) {
            metadata.apply(&record).expect("applied");
        }
        create(&mut metadata, &[wanted("a", 8)]);
        for shards in [4, 1, 3] {
            for record in start(&metadata.clone(), 1, shards, online(&[11]), None) {
                metadata.apply(&record).expect("applied");
            }
            let mut loads = BTreeMap::new();
            for partition in &metadata.topics_by_name["a"].partitions {
                assert_eq!(partition.replicas, [partition.leader]);
                *loads.entry(partition.leader).or_insert(0) += 1;
            }
            assert_eq!(loads.len(), shards as usize, "{loads:?}");
            let (least, most) = (loads.values().min(), loads.values().max());
            assert!(most.expect("some") - least.expect("some") <= 1, "{loads:?}");
            assert!(
                loads
                    .keys()
                    .all(|node| (0..shards as i32).contains(&(node - 1000)))
            );
        }
        assert_eq!(metadata.topics_by_name["a"].partitions[0].leader_epoch, 3);
        let raised = MetadataRecord::LeaderEpochsRaised { host_id: 1 };
        assert_eq!(
            start(&metadata, 1, 3, online(&[11]), None),
            std::slice::from_ref(&raised)
        );
        assert_eq!(metadata.host.map(|host| host.layout), Some(3), "of three changes");
        let others = MetadataRecord::DirectoriesKnown {
            host_id: 1,
            directories: online(&[11, 12]),
        };
        assert_eq!(start(&metadata, 1, 3, online(&[11, 12]), None), [others, raised]);
    }
}
