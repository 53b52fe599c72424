//! Requests that are well-formed and wrong: each gets the code that Apache Kafka 4 gives to the same bytes. Where ours
//! differs on purpose, the row says so, and why.

use wire::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
    CreateTopicsResponse,
};
use wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use wire::{Array, ErrorCode, ErrorCode::*, Uuid};

use crate::support::{Broker, Client};

/// What was answered; `Closed` if the connection was closed instead.
type Answer = Result<ErrorCode, crate::support::Closed>;

/// Compares answers, and names all that differ.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn row(&mut self, what: &str, answer: Answer, expected: ErrorCode) {
        if answer != Ok(expected) {
            self.0.push(format!("{what}: {answer:?}, expected {expected:?}"));
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{}", self.0.join("\n"));
        }
    }
}

fn creates(client: &mut Client, topics: &[CreatableTopic<'_>]) -> Answer {
    let request = CreateTopicsRequest {
        topics: Array::from_slice(topics),
        timeout_ms: 30_000,
        validate_only: true,
    };
    let response: CreateTopicsResponse = client.call(5, &request)?;
    Ok(response.topics[0].error_code)
}

#[test]
fn topics_that_cannot_be_created() {
    let broker = Broker::start();
    let there = broker.client().create_topic(1, &[]);
    let mut client = broker.client();
    let mut table = Table::default();
    let topic = |name| CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let long = "a".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "\u{fc}", "a\n", &long] {
        let answer = creates(&mut client, &[topic(name)]);
        table.row(&format!("the name {name:?}"), answer, InvalidTopicException);
    }
    let good = "refused-good";
    table.row("a good topic", creates(&mut client, &[topic(good)]), None);
    table.row(
        "a topic that is there",
        creates(&mut client, &[topic(&there)]),
        TopicAlreadyExists,
    );
    let twice = [topic(good), topic(good)];
    table.row("a topic twice", creates(&mut client, &twice), InvalidRequest);
    for (partitions, code) in [(0, InvalidPartitions), (-2, InvalidPartitions), (-1, None)] {
        let mut topic = topic(good);
        topic.num_partitions = partitions;
        table.row(
            &format!("{partitions} partitions"),
            creates(&mut client, &[topic]),
            code,
        );
    }
    for (replicas, code) in [
        (0, InvalidReplicationFactor),
        (-2, InvalidReplicationFactor),
        (7, InvalidReplicationFactor),
        (-1, None),
    ] {
        let mut topic = topic(good);
        topic.replication_factor = replicas;
        table.row(
            &format!("{replicas} replicas"),
            creates(&mut client, &[topic]),
            code,
        );
    }
    for (name, value, code) in [
        ("retention.ms", Some("-1"), None),
        ("retention.ms", Some("-2"), InvalidConfig),
        ("retention.ms", Some("soon"), InvalidConfig),
        ("retention.ms", Some(""), InvalidConfig),
        ("retention.ms", Option::None, InvalidConfig),
        ("no.such.config", Some("1"), InvalidConfig),
        ("", Some("1"), InvalidConfig),
        ("cleanup.policy", Some("shrink"), InvalidConfig),
        ("cleanup.policy", Some("compact,delete"), None),
        ("compression.type", Some("brotli"), InvalidConfig),
        ("compression.type", Some("zstd"), None),
        ("min.insync.replicas", Some("0"), InvalidConfig),
        ("max.message.bytes", Some("-1"), InvalidConfig),
        ("segment.bytes", Some("13"), InvalidConfig),
        ("segment.bytes", Some("2147483648"), InvalidConfig),
        ("message.timestamp.type", Some("Never"), InvalidConfig),
        ("preallocate", Some("maybe"), InvalidConfig),
        ("index.interval.bytes", Some("-1"), InvalidConfig),
    ] {
        let configs = [CreatableTopicConfig { name, value }];
        let mut topic = topic(good);
        topic.configs = Array::from_slice(&configs);
        table.row(&format!("{name}={value:?}"), creates(&mut client, &[topic]), code);
    }
    let nowhere: [i32; 1] = [77];
    let assigned = |partition| CreatableReplicaAssignment {
        partition,
        broker_ids: Array::from_slice(&nowhere),
    };
    for (what, assignments, partitions, code) in [
        (
            "a replica on no broker",
            vec![assigned(0)],
            -1,
            InvalidReplicaAssignment,
        ),
        ("an assignment and a count", vec![assigned(0)], 1, InvalidRequest),
        (
            "an assignment that begins at 1",
            vec![assigned(1)],
            -1,
            InvalidReplicaAssignment,
        ),
        (
            "a partition assigned twice",
            vec![assigned(0), assigned(0)],
            -1,
            InvalidReplicaAssignment,
        ),
    ] {
        let mut topic = topic(good);
        topic.num_partitions = partitions;
        topic.replication_factor = if partitions == -1 { -1 } else { 1 };
        topic.assignments = Array::from_slice(&assignments);
        table.row(what, creates(&mut client, &[topic]), code);
    }
}

#[test]
fn topics_that_cannot_be_deleted() {
    let broker = Broker::start();
    let there = broker.client().create_topic(1, &[]);
    let mut client = broker.client();
    let mut table = Table::default();
    for name in ["absent", "", "a/b"] {
        let names = [name];
        let request = DeleteTopicsRequest {
            topic_names: Array::from_slice(&names),
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let response: Result<DeleteTopicsResponse, _> = client.call(5, &request);
        let answer = response.map(|response| response.topics[0].error_code);
        table.row(&format!("the name {name:?}"), answer, UnknownTopicOrPartition);
    }
    let id = client.topic_id(&there);
    for (what, name, topic_id, code) in [
        ("an unknown id", Option::None, Uuid([7; 16]), UnknownTopicId),
        ("a name and an id", Some(&*there), id, InvalidRequest),
        ("neither", Option::None, Uuid::default(), InvalidRequest),
        (
            "an unknown name",
            Some("absent"),
            Uuid::default(),
            UnknownTopicOrPartition,
        ),
    ] {
        let topics = [DeleteTopicState { name, topic_id }];
        let request = DeleteTopicsRequest {
            topics: Array::from_slice(&topics),
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let response: Result<DeleteTopicsResponse, _> = client.call(6, &request);
        table.row(what, response.map(|response| response.topics[0].error_code), code);
    }
    assert_eq!(client.metadata(Some(&[&there])).topics[0].error_code, None);
}

#[test]
fn metadata_of_what_cannot_be() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut table = Table::default();
    let mut asks = |version, name, topic_id, allow_auto_topic_creation| -> Answer {
        let topics = [MetadataRequestTopic { topic_id, name }];
        let request = MetadataRequest {
            topics: Some(Array::from_slice(&topics)),
            allow_auto_topic_creation,
            ..MetadataRequest::default()
        };
        let response: MetadataResponse = client.call(version, &request)?;
        Ok(response.topics[0].error_code)
    };
    for (name, create, code) in [
        ("absent", false, UnknownTopicOrPartition),
        ("a/b", false, InvalidTopicException),
        ("a/b", true, InvalidTopicException),
        ("", true, InvalidTopicException),
        ("..", true, InvalidTopicException),
    ] {
        let answer = asks(9, Some(name), Uuid::default(), create);
        table.row(&format!("{name:?}, created: {create}"), answer, code);
    }
    table.row(
        "an unknown id",
        asks(12, Option::None, Uuid([9; 16]), false),
        UnknownTopicId,
    );
}

#[test]
fn offsets_that_cannot_be_found() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let mut table = Table::default();
    for (what, version, name, partition, epoch, timestamp, replica_id, code) in [
        (
            "an unknown topic",
            5,
            "absent",
            0,
            -1,
            -1,
            -1,
            UnknownTopicOrPartition,
        ),
        (
            "an unknown partition",
            5,
            &*topic,
            1,
            -1,
            -1,
            -1,
            UnknownTopicOrPartition,
        ),
        (
            "partition -1",
            5,
            &*topic,
            -1,
            -1,
            -1,
            -1,
            UnknownTopicOrPartition,
        ),
        (
            "a newer leader epoch",
            5,
            &*topic,
            0,
            1_000,
            -1,
            -1,
            UnknownLeaderEpoch,
        ),
        (
            "an older leader epoch",
            5,
            &*topic,
            0,
            -2,
            -1,
            -1,
            FencedLeaderEpoch,
        ),
        (
            "the largest time, asked too early",
            6,
            &*topic,
            0,
            -1,
            -3,
            -1,
            UnsupportedVersion,
        ),
        ("the largest time", 7, &*topic, 0, -1, -3, -1, None),
        (
            "the local log's start",
            7,
            &*topic,
            0,
            -1,
            -4,
            -1,
            UnsupportedVersion,
        ),
        ("time -7", 7, &*topic, 0, -1, -7, -1, UnsupportedVersion),
        ("a time after all", 7, &*topic, 0, -1, i64::MAX, -1, None),
        ("a replica", 5, &*topic, 0, -1, -1, 77, None),
    ] {
        let partitions = [ListOffsetsPartition {
            partition,
            current_leader_epoch: epoch,
            timestamp,
        }];
        let topics = [ListOffsetsTopic {
            name,
            partitions: Array::from_slice(&partitions),
        }];
        let request = ListOffsetsRequest {
            replica_id,
            topics: Array::from_slice(&topics),
            ..ListOffsetsRequest::default()
        };
        let response: Result<ListOffsetsResponse, _> = client.call(version, &request);
        table.row(
            what,
            response.map(|response| response.topics[0].partitions[0].error_code),
            code,
        );
    }
    for (what, name, partition, current, epoch, code) in [
        (
            "an epoch of an unknown topic",
            "absent",
            0,
            -1,
            0,
            UnknownTopicOrPartition,
        ),
        (
            "an epoch of an unknown partition",
            &*topic,
            9,
            -1,
            0,
            UnknownTopicOrPartition,
        ),
        ("a newer leader's epoch", &*topic, 0, 1_000, 0, UnknownLeaderEpoch),
        ("a future epoch", &*topic, 0, -1, 1_000, None),
        ("epoch -1", &*topic, 0, -1, -1, None),
    ] {
        let partitions = [OffsetForLeaderPartition {
            partition,
            current_leader_epoch: current,
            leader_epoch: epoch,
        }];
        let topics = [OffsetForLeaderTopic {
            name,
            partitions: Array::from_slice(&partitions),
        }];
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: Array::from_slice(&topics),
        };
        let response: Result<OffsetForLeaderEpochResponse, _> = client.call(4, &request);
        table.row(
            what,
            response.map(|response| response.topics[0].partitions[0].error_code),
            code,
        );
    }
}

#[test]
fn fetches_that_cannot_be() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let mut table = Table::default();
    let mut fetches = |version, name, topic_id, partition, offset, epoch, session: (i32, i32)| -> Answer {
        let partitions = [FetchPartition {
            partition,
            current_leader_epoch: epoch,
            fetch_offset: offset,
            partition_max_bytes: 1_000,
            ..FetchPartition::default()
        }];
        let topics = [FetchTopic {
            name,
            topic_id,
            partitions: Array::from_slice(&partitions),
        }];
        let request = FetchRequest {
            max_wait_ms: 1,
            max_bytes: 1_000,
            session_id: session.0,
            session_epoch: session.1,
            topics: Array::from_slice(&topics),
            ..FetchRequest::default()
        };
        let response: FetchResponse<Vec<u8>> = client.call(version, &request)?;
        if response.error_code != None {
            return Ok(response.error_code);
        }
        Ok(response.topics[0].partitions[0].error_code)
    };
    let no_id = Uuid::default();
    let whole = (0, -1);
    for (what, name, partition, offset, epoch, code) in [
        ("an unknown topic", "absent", 0, 0, -1, UnknownTopicOrPartition),
        ("an unknown partition", &*topic, 1, 0, -1, UnknownTopicOrPartition),
        ("partition -1", &*topic, -1, 0, -1, UnknownTopicOrPartition),
        ("offset -1", &*topic, 0, -1, -1, OffsetOutOfRange),
        ("offset 1 of an empty log", &*topic, 0, 1, -1, OffsetOutOfRange),
        (
            "the last offset there may be",
            &*topic,
            0,
            i64::MAX,
            -1,
            OffsetOutOfRange,
        ),
        ("a newer leader epoch", &*topic, 0, 0, 1_000, UnknownLeaderEpoch),
        ("leader epoch -2", &*topic, 0, 0, -2, None),
    ] {
        table.row(
            what,
            fetches(11, name, no_id, partition, offset, epoch, whole),
            code,
        );
    }
    table.row(
        "an unknown id",
        fetches(13, "", Uuid([5; 16]), 0, 0, -1, whole),
        UnknownTopicId,
    );
    table.row("no id", fetches(13, "", no_id, 0, 0, -1, whole), UnknownTopicId);
    table.row(
        "an unknown session",
        fetches(11, &topic, no_id, 0, 0, -1, (77, 1)),
        FetchSessionIdNotFound,
    );
    table.row(
        "a session that is closed",
        fetches(11, &topic, no_id, 0, 0, -1, (77, -1)),
        None,
    );
}

#[test]
fn coordinators_and_producer_ids_that_are_not_given() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut table = Table::default();
    for (what, key, key_type, code) in [
        ("a group without a name", "", 0, None),
        ("key type 3", "a", 3, InvalidRequest),
        ("key type -1", "a", -1, InvalidRequest),
        // Kafka says CoordinatorNotAvailable until its topic is there: clients would retry for ever.
        (
            "a transaction",
            "a",
            1,
            if Broker::foreign().is_some() {
                CoordinatorNotAvailable
            } else {
                InvalidRequest
            },
        ),
    ] {
        let keys = [key];
        let request = FindCoordinatorRequest {
            key_type,
            coordinator_keys: Array::from_slice(&keys),
            ..FindCoordinatorRequest::default()
        };
        let response: Result<FindCoordinatorResponse, _> = client.call(4, &request);
        let answer = response.map(|response| response.coordinators[0].error_code);
        // Kafka makes the topic of transactions at the first question.
        let is_made = Broker::foreign().is_some() && key_type == 1 && answer == Ok(None);
        table.row(what, if is_made { Ok(code) } else { answer }, code);
    }
    for (what, transactional_id, producer_id, producer_epoch, code) in [
        ("a plain one", Option::None, -1, -1, None),
        ("an epoch without an id", Option::None, -1, 5, InvalidRequest),
        ("an id without an epoch", Option::None, 5, -1, InvalidRequest),
        ("an empty transactional id", Some(""), -1, -1, InvalidRequest),
    ] {
        let request = InitProducerIdRequest {
            transactional_id,
            transaction_timeout_ms: 1_000,
            producer_id,
            producer_epoch,
        };
        let response: Result<InitProducerIdResponse, _> = client.call(4, &request);
        table.row(what, response.map(|response| response.error_code), code);
    }
}
