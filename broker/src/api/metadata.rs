//! Metadata (key 3), versions 0-12: nodes, topics, and where partitions are led.
//!
//! All shards are nodes. A topic that may be created is created first and answered with its partitions at once, so
//! that a client's first question is its last. Without an authorizer nothing is hidden.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic,
};

use crate::api::{Call, Caller, Handled, bound_entries, later, topic_id, uuid};
use crate::controller::image::{Image, NO_LEADER, PartitionState};
use crate::shard::{LocalTopic, Shard, World};

/// The first version in which an empty list asks for no topic, and null for all.
const FIRST_VERSION_WITH_NULL: i16 = 1;
/// The first version in which topics may be asked for by id.
const FIRST_VERSION_BY_ID: i16 = 12;
/// `TopicAuthorizedOperations` when asked for and nothing is forbidden: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS, a bit for each of Kafka's AclOperation codes.
pub(crate) const ALL_TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same for the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS,
/// IDEMPOTENT_WRITE.
pub(crate) const ALL_CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut index = 0;
    while index < operations.len() {
        bits |= 1 << operations[index];
        index += 1;
    }
    bits
}

/// What a request asks for, owned: an answer may have to wait for a topic's creation.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    topics: Topics,
    may_create: bool,
    cluster_operations: bool,
    topic_operations: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Topics {
    All,
    Named(Vec<String>),
    ById(Vec<u128>),
    /// The request contradicts itself.
    Invalid,
}

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: MetadataRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().map(wire::Array::len))?;
    let question = question(&request, call.version);
    let caller = call.into_caller();
    // Also if the topics are known: an earlier request of the connection may change them.
    later(async move {
        let world = shard.world_that(|world| knows(world, &question.topics)).await;
        let missing = match &question.topics {
            Topics::Named(names) if question.may_create && shard.settings.auto_create_topics_enable => names
                .iter()
                .filter(|name| world.topic(name).is_none())
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        if missing.is_empty() {
            return answer(&shard, &world, caller, &question, &BTreeMap::new());
        }
        let (world, errors) = shard.world_with_topics(missing).await;
        answer(&shard, &world, caller, &question, &errors)
    })
}

fn question(request: &MetadataRequest<'_>, version: i16) -> Question {
    let topics = match request.topics {
        None => Topics::All,
        Some(topics) if topics.is_empty() && version < FIRST_VERSION_WITH_NULL => Topics::All,
        Some(topics) => {
            let mut names: Vec<String> = Vec::new();
            let mut ids = Vec::new();
            let mut invalid = false;
            for topic in topics {
                match (topic.topic_id.is_zero(), topic.name) {
                    (true, Some(name)) => names.push(name.to_owned()),
                    (false, _) if version >= FIRST_VERSION_BY_ID => ids.push(topic_id(topic.topic_id)),
                    _ => invalid = true,
                }
            }
            // A set in Kafka, too: no topic is answered twice.
            names.sort_unstable();
            names.dedup();
            ids.sort_unstable();
            ids.dedup();
            match (invalid, ids.is_empty()) {
                (true, _) => Topics::Invalid,
                (false, false) => Topics::ById(ids),
                (false, true) => Topics::Named(names),
            }
        }
    };
    Question {
        topics,
        may_create: request.allow_auto_topic_creation,
        cluster_operations: request.include_cluster_authorized_operations,
        topic_operations: request.include_topic_authorized_operations,
    }
}

fn knows(world: &World, topics: &Topics) -> bool {
    match topics {
        Topics::All | Topics::Invalid => true,
        Topics::Named(names) => names.iter().all(|name| world.topic(name).is_some()),
        Topics::ById(ids) => ids.iter().all(|id| world.topic_by_id(*id).is_some()),
    }
}

fn answer(
    shard: &Shard,
    world: &World,
    caller: Caller,
    question: &Question,
    errors: &BTreeMap<String, ErrorCode>,
) -> net::Reply {
    let mut topics: Vec<MetadataTopic> = match &question.topics {
        Topics::All => world
            .topics()
            .map(|topic| describe(topic, &world.image))
            .collect(),
        Topics::Named(names) => names
            .iter()
            .map(|name| match world.topic(name) {
                Some(topic) => describe(topic, &world.image),
                None => missing(name, errors.get(name).copied()),
            })
            .collect(),
        Topics::ById(ids) => ids
            .iter()
            .map(|id| match world.topic_by_id(*id) {
                Some(topic) => describe(topic, &world.image),
                None => MetadataTopic {
                    error_code: ErrorCode::UnknownTopicId,
                    topic_id: uuid(*id),
                    ..MetadataTopic::default()
                },
            })
            .collect(),
        Topics::Invalid => {
            vec![MetadataTopic {
                error_code: ErrorCode::InvalidRequest,
                name: Some(String::new()),
                ..MetadataTopic::default()
            }]
        }
    };
    if question.topic_operations {
        for topic in &mut topics {
            topic.topic_authorized_operations = ALL_TOPIC_OPERATIONS;
        }
    }
    let mut response = MetadataResponse {
        brokers: brokers(&world.image),
        cluster_id: Some(uuid(world.image.cluster_id).to_string()),
        controller_id: world.image.controller_id,
        topics,
        ..MetadataResponse::default()
    };
    if question.cluster_operations {
        response.cluster_authorized_operations = ALL_CLUSTER_OPERATIONS;
    }
    debug_assert!(
        world.node(shard.node_id).is_some(),
        "this shard is a node of its own image"
    );
    caller.reply(&response)
}

fn brokers(image: &Image) -> Vec<MetadataBroker> {
    let broker = |node: &crate::controller::image::Node| MetadataBroker {
        node_id: node.id,
        host: node.host.clone(),
        port: i32::from(node.port),
        rack: node.rack.clone(),
    };
    image.nodes.iter().map(broker).collect()
}

fn describe(topic: &LocalTopic, image: &Image) -> MetadataTopic {
    let partition = |(partition, state): (i32, &PartitionState)| {
        let (leader_id, offline_replicas) = image.leader_and_offline(state);
        MetadataPartition {
            error_code: match leader_id {
                NO_LEADER => ErrorCode::LeaderNotAvailable,
                _ => ErrorCode::None,
            },
            partition,
            leader_id,
            leader_epoch: state.leader_epoch,
            replica_nodes: state.replicas.clone(),
            isr_nodes: state.isr.clone(),
            offline_replicas,
        }
    };
    MetadataTopic {
        name: Some(topic.topic.name.clone()),
        topic_id: uuid(topic.topic.id),
        is_internal: topic.topic.is_internal,
        partitions: (0..).zip(&topic.topic.partitions).map(partition).collect(),
        ..MetadataTopic::default()
    }
}

fn missing(name: &str, error: Option<ErrorCode>) -> MetadataTopic {
    let unknown = if is_topic_name(name) {
        ErrorCode::UnknownTopicOrPartition
    } else {
        ErrorCode::InvalidTopicException
    };
    MetadataTopic {
        error_code: error.unwrap_or(unknown),
        name: Some(name.to_owned()),
        ..MetadataTopic::default()
    }
}

/// Kafka's rule: 1 to 249 of letters, digits, dot, underscore and hyphen, but not "." or "..".
pub(crate) fn is_topic_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use wire::messages::metadata::MetadataRequestTopic;
    use wire::{Array, Uuid};

    use super::*;

    fn named(name: &str) -> MetadataRequestTopic<'_> {
        MetadataRequestTopic {
            name: Some(name),
            ..MetadataRequestTopic::default()
        }
    }

    fn topics(topics: Option<&[MetadataRequestTopic<'_>]>, version: i16) -> Topics {
        let request = MetadataRequest {
            topics: topics.map(Array::from_slice),
            ..MetadataRequest::default()
        };
        question(&request, version).topics
    }

    #[test]
    fn an_empty_list_asks_for_all_only_in_version_0() {
        assert_eq!(topics(Some(&[]), 0), Topics::All);
        assert_eq!(topics(Some(&[]), 1), Topics::Named(vec![]));
        assert_eq!(topics(None, 1), Topics::All);
    }

    #[test]
    fn topics_are_asked_for_by_name_or_from_version_12_on_by_id() {
        let by_id = MetadataRequestTopic {
            topic_id: Uuid([7; 16]),
            name: None,
        };
        assert_eq!(
            topics(Some(&[named("b"), named("a"), named("b")]), 9),
            Topics::Named(vec!["a".into(), "b".into()])
        );
        assert_eq!(
            topics(Some(&[by_id]), 12),
            Topics::ById(vec![topic_id(Uuid([7; 16]))])
        );
        assert_eq!(topics(Some(&[by_id]), 11), Topics::Invalid);
        assert_eq!(
            topics(Some(&[MetadataRequestTopic::default()]), 12),
            Topics::Invalid
        );
    }

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for name in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(is_topic_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "\u{e9}", &"x".repeat(250)] {
            assert!(!is_topic_name(name), "{name}");
        }
        assert_eq!(missing("a", None).error_code, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(missing("a/b", None).error_code, ErrorCode::InvalidTopicException);
        assert_eq!(
            missing("a", Some(ErrorCode::RequestTimedOut)).error_code,
            ErrorCode::RequestTimedOut
        );
    }

    #[test]
    fn authorized_operations_are_kafkas_bits() {
        // As a broker without an authorizer answers: 3576 and 8096.
        assert_eq!(ALL_TOPIC_OPERATIONS, 0b1101_1111_1000);
        assert_eq!(ALL_CLUSTER_OPERATIONS, 0b1_1111_1010_0000);
    }
}
