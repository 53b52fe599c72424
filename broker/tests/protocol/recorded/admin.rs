//! Of topics, their configs and their offsets, and of the cluster.

use wire::messages::alter_configs::AlterConfigsResponse;
use wire::messages::create_partitions::CreatePartitionsResponse;
use wire::messages::delete_records::DeleteRecordsResponse;
use wire::messages::delete_topics::DeleteTopicsResponse;
use wire::messages::describe_cluster::DescribeClusterResponse;
use wire::messages::describe_configs::DescribeConfigsResponse;
use wire::messages::describe_topic_partitions::DescribeTopicPartitionsResponse;
use wire::messages::incremental_alter_configs::IncrementalAlterConfigsResponse;
use wire::messages::offset_for_leader_epoch::OffsetForLeaderEpochResponse;
use wire::{ApiKey, ErrorCode};

use super::case::{Bytes, Case, bytes, case};
use super::{TOPIC, read};

const NOWHERE: &str = "recorded-nowhere";
/// Kinds of resources, as Kafka numbers them.
const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;

pub(super) fn cases() -> Vec<Case> {
    [configs(), partitions(), records(), cluster()]
        .into_iter()
        .flatten()
        .collect()
}

fn configs() -> Vec<Case> {
    let ask = |kind: i8, name: &str| {
        let resource = bytes().i8(kind).string(name).i32(-1);
        bytes().array(&[resource]).i8(0)
    };
    let config = |name: &str, value: &str| bytes().string(name).string(value);
    let alter = |kind: i8, name: &str, configs: &[Bytes]| {
        let resource = bytes().i8(kind).string(name).array(configs);
        bytes().array(&[resource]).i8(1)
    };
    let change = |name: &str, operation: i8, value: &str| bytes().string(name).i8(operation).string(value);
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    vec![
        case(
            "describe configs: an unknown topic",
            32,
            1,
            ask(OF_TOPIC, NOWHERE),
        ),
        case("describe configs: no topic name", 32, 1, ask(OF_TOPIC, "")),
        case(
            "describe configs: a topic name with a slash",
            32,
            1,
            ask(OF_TOPIC, "a/b"),
        ),
        case(
            "describe configs: a broker that is not there",
            32,
            1,
            ask(OF_BROKER, "77"),
        ),
        case(
            "describe configs: a broker that is no number",
            32,
            1,
            ask(OF_BROKER, "seven"),
        ),
        case("describe configs: kind 0", 32, 1, ask(0, "a")),
        case("describe configs: kind 99", 32, 1, ask(99, "a")),
        case("describe configs: none", 32, 1, bytes().array(&[]).i8(0)),
        case("describe configs: null resources", 32, 1, bytes().i32(-1).i8(0)),
        case(
            "describe configs: a config that is none",
            32,
            1,
            bytes()
                .array(&[bytes()
                    .i8(OF_TOPIC)
                    .string(TOPIC)
                    .array(&[bytes().string("nonsense")])])
                .i8(0),
        ),
        case("describe configs: version 0", 32, 0, bytes().array(&[])),
        case(
            "alter configs: an unknown topic",
            33,
            0,
            alter(OF_TOPIC, NOWHERE, &[]),
        ),
        case("alter configs: no topic name", 33, 0, alter(OF_TOPIC, "", &[])),
        case(
            "alter configs: a topic name with a slash",
            33,
            0,
            alter(OF_TOPIC, "a/b", &[]),
        ),
        case(
            "alter configs: a topic name of 250 bytes",
            33,
            0,
            alter(OF_TOPIC, &"x".repeat(250), &[]),
        ),
        case(
            "alter configs: a word of a list twice",
            33,
            0,
            alter(OF_TOPIC, TOPIC, &[config("cleanup.policy", "delete,delete")]),
        ),
        case(
            "alter configs: an empty word of a list",
            33,
            0,
            alter(OF_TOPIC, TOPIC, &[config("cleanup.policy", "delete,")]),
        ),
        case(
            "alter configs: a config that is none",
            33,
            0,
            alter(OF_TOPIC, TOPIC, &[config("nonsense", "1")]),
        ),
        case(
            "alter configs: a value that is none",
            33,
            0,
            alter(OF_TOPIC, TOPIC, &[config("retention.ms", "soon")]),
        ),
        case(
            "alter configs: a value out of range",
            33,
            0,
            alter(OF_TOPIC, TOPIC, &[config("segment.bytes", "1")]),
        ),
        case(
            "alter configs: a null value",
            33,
            0,
            alter(OF_TOPIC, TOPIC, &[bytes().string("retention.ms").i16(-1)]),
        ),
        case(
            "alter configs: a config twice",
            33,
            0,
            alter(
                OF_TOPIC,
                TOPIC,
                &[config("retention.ms", "1"), config("retention.ms", "2")],
            ),
        ),
        case("alter configs: a topic twice", 33, 0, {
            let one = bytes().i8(OF_TOPIC).string(TOPIC).array(&[]);
            bytes().array(&[one.clone(), one]).i8(1)
        }),
        case("alter configs: kind 99", 33, 0, alter(99, "a", &[])),
        case("alter configs: null resources", 33, 0, bytes().i32(-1).i8(1)),
        case(
            "change configs: an unknown topic",
            44,
            0,
            alter(OF_TOPIC, NOWHERE, &[change("retention.ms", SET, "1")]),
        ),
        case(
            "change configs: a config that is none",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("nonsense", SET, "1")]),
        ),
        case(
            "change configs: a config that is none, deleted",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("nonsense", DELETE, "")]),
        ),
        case(
            "change configs: a topic of two dots",
            44,
            0,
            alter(OF_TOPIC, "..", &[change("retention.ms", SET, "1")]),
        ),
        case(
            "change configs: a word of a list twice",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("cleanup.policy", SET, "delete,delete")]),
        ),
        case(
            "change configs: operation 9",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("retention.ms", 9, "1")]),
        ),
        case(
            "change configs: operation -1",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("retention.ms", -1, "1")]),
        ),
        case(
            "change configs: appended to a number",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("retention.ms", APPEND, "1")]),
        ),
        case(
            "change configs: appended to a list",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("cleanup.policy", APPEND, "compact")]),
        ),
        case(
            "change configs: a word that is none, appended to a list",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[change("cleanup.policy", APPEND, "nonsense")]),
        ),
        case(
            "change configs: a config twice",
            44,
            0,
            alter(
                OF_TOPIC,
                TOPIC,
                &[
                    change("retention.ms", SET, "1"),
                    change("retention.ms", DELETE, ""),
                ],
            ),
        ),
        case(
            "change configs: a null value",
            44,
            0,
            alter(OF_TOPIC, TOPIC, &[bytes().string("retention.ms").i8(SET).i16(-1)]),
        ),
        case("change configs: nothing", 44, 0, alter(OF_TOPIC, TOPIC, &[])),
        case("change configs: a topic twice", 44, 0, {
            let one = bytes().i8(OF_TOPIC).string(TOPIC).array(&[]);
            bytes().array(&[one.clone(), one]).i8(1)
        }),
        case("change configs: kind -1", 44, 0, alter(-1, "a", &[])),
        case(
            "change configs: null configs",
            44,
            0,
            bytes().i32(1).i8(OF_TOPIC).string(TOPIC).i32(-1).i8(1),
        ),
    ]
}

fn partitions() -> Vec<Case> {
    let topic = |name: &str, count: i32| bytes().string(name).i32(count).i32(-1);
    // Nothing is made: it is only asked whether it would be.
    let create = |topics: &[Bytes]| bytes().array(topics).i32(30_000).i8(1);
    let placed =
        |count: i32, assignments: &[Bytes]| create(&[bytes().string(TOPIC).i32(count).array(assignments)]);
    let on = |brokers: &[i32]| {
        let brokers: Vec<Bytes> = brokers.iter().map(|broker| bytes().i32(*broker)).collect();
        bytes().array(&brokers)
    };
    let delete = |names: &[Bytes]| bytes().array(names).i32(30_000);
    // A topic of DeleteTopics from version 6 on: its name, or its id.
    let by = |name: Bytes, id: [u8; 16]| bytes().i8(2).raw(&name.0).raw(&id).i8(0).i32(30_000).i8(0);
    vec![
        case("create partitions: good", 37, 0, create(&[topic(TOPIC, 9)])),
        case(
            "create partitions: as many as there are",
            37,
            0,
            create(&[topic(TOPIC, 1)]),
        ),
        case("create partitions: 0", 37, 0, create(&[topic(TOPIC, 0)])),
        case("create partitions: -1", 37, 0, create(&[topic(TOPIC, -1)])),
        case(
            "create partitions: an unknown topic",
            37,
            0,
            create(&[topic(NOWHERE, 9)]),
        ),
        case("create partitions: no topic name", 37, 0, create(&[topic("", 9)])),
        case(
            "create partitions: a topic twice",
            37,
            0,
            create(&[topic(TOPIC, 9), topic(TOPIC, 9)]),
        ),
        case("create partitions: no topics", 37, 0, create(&[])),
        case(
            "create partitions: null topics",
            37,
            0,
            bytes().i32(-1).i32(30_000).i8(1),
        ),
        case(
            "create partitions: too few assignments",
            37,
            0,
            placed(3, &[on(&[1])]),
        ),
        case(
            "create partitions: too many assignments",
            37,
            0,
            placed(2, &[on(&[1]), on(&[1])]),
        ),
        case(
            "create partitions: on a broker that is not there",
            37,
            0,
            placed(2, &[on(&[77])]),
        ),
        case("create partitions: on no broker", 37, 0, placed(2, &[on(&[])])),
        case(
            "create partitions: on a broker twice",
            37,
            0,
            placed(2, &[on(&[77, 77])]),
        ),
        case(
            "delete topics: an unknown one",
            20,
            1,
            delete(&[bytes().string(NOWHERE)]),
        ),
        case(
            "delete topics: an unknown one twice",
            20,
            1,
            delete(&[bytes().string(NOWHERE), bytes().string(NOWHERE)]),
        ),
        case("delete topics: no name", 20, 1, delete(&[bytes().string("")])),
        case("delete topics: a null name", 20, 1, delete(&[bytes().i16(-1)])),
        case("delete topics: none", 20, 1, delete(&[])),
        case("delete topics: null topics", 20, 1, bytes().i32(-1).i32(30_000)),
        case(
            "delete topics: neither name nor id",
            20,
            6,
            by(bytes().i8(0), [0; 16]),
        ),
        case(
            "delete topics: name and id",
            20,
            6,
            by(bytes().compact(NOWHERE), [7; 16]),
        ),
        case("delete topics: an unknown id", 20, 6, by(bytes().i8(0), [7; 16])),
        case("delete topics: version 0", 20, 0, delete(&[])),
    ]
}

fn records() -> Vec<Case> {
    let of = |topic: &str, partitions: &[Bytes]| bytes().string(topic).array(partitions);
    let before = |partition: i32, offset: i64| bytes().i32(partition).i64(offset);
    let delete = |topics: &[Bytes]| bytes().array(topics).i32(30_000);
    let epoch = |partition: i32, current: i32, asked: i32| bytes().i32(partition).i32(current).i32(asked);
    let ask = |replica: i32, topics: &[Bytes]| bytes().i32(replica).array(topics);
    vec![
        case(
            "delete records: nothing",
            21,
            0,
            delete(&[of(TOPIC, &[before(0, 0)])]),
        ),
        case(
            "delete records: beyond the end",
            21,
            0,
            delete(&[of(TOPIC, &[before(0, 1 << 40)])]),
        ),
        case(
            "delete records: offset -2",
            21,
            0,
            delete(&[of(TOPIC, &[before(0, -2)])]),
        ),
        case(
            "delete records: offset -2^63",
            21,
            0,
            delete(&[of(TOPIC, &[before(0, i64::MIN)])]),
        ),
        case(
            "delete records: partition 99",
            21,
            0,
            delete(&[of(TOPIC, &[before(99, 0)])]),
        ),
        case(
            "delete records: partition -1",
            21,
            0,
            delete(&[of(TOPIC, &[before(-1, 0)])]),
        ),
        case(
            "delete records: an unknown topic",
            21,
            0,
            delete(&[of(NOWHERE, &[before(0, 0)])]),
        ),
        case(
            "delete records: no topic name",
            21,
            0,
            delete(&[of("", &[before(0, 0)])]),
        ),
        case("delete records: no topics", 21, 0, delete(&[])),
        case("delete records: null topics", 21, 0, bytes().i32(-1).i32(30_000)),
        case(
            "leader epoch: good",
            23,
            3,
            ask(-1, &[of(TOPIC, &[epoch(0, -1, 0)])]),
        ),
        case(
            "leader epoch: partition 99",
            23,
            3,
            ask(-1, &[of(TOPIC, &[epoch(99, -1, 0)])]),
        ),
        case(
            "leader epoch: an unknown topic",
            23,
            3,
            ask(-1, &[of(NOWHERE, &[epoch(0, -1, 0)])]),
        ),
        case(
            "leader epoch: a current epoch of the future",
            23,
            3,
            ask(-1, &[of(TOPIC, &[epoch(0, 1 << 20, 0)])]),
        ),
        case(
            "leader epoch: -5",
            23,
            3,
            ask(-1, &[of(TOPIC, &[epoch(0, -1, -5)])]),
        ),
        case("leader epoch: null topics", 23, 3, bytes().i32(-1).i32(-1)),
        case("leader epoch: version 1", 23, 1, bytes().array(&[])),
    ]
}

fn cluster() -> Vec<Case> {
    // Of a flexible version: topics, how many partitions at most, where to begin (-1: at the beginning).
    let describe = |name: &str, limit: i32, cursor: Bytes| {
        bytes().i8(2).compact(name).i8(0).i32(limit).raw(&cursor.0).i8(0)
    };
    let no_cursor = || bytes().i8(-1);
    let cursor = |topic: &str, partition: i32| bytes().i8(1).compact(topic).i32(partition).i8(0);
    vec![
        case("describe cluster: brokers", 60, 1, bytes().i8(0).i8(1).i8(0)),
        case("describe cluster: controllers", 60, 1, bytes().i8(0).i8(2).i8(0)),
        case(
            "describe cluster: endpoints of kind 9",
            60,
            1,
            bytes().i8(0).i8(9).i8(0),
        ),
        case("describe cluster: a cut body", 60, 1, bytes().i8(0)),
        case(
            "describe partitions: an unknown topic",
            75,
            0,
            describe(NOWHERE, 10, no_cursor()),
        ),
        case(
            "describe partitions: no topic name",
            75,
            0,
            describe("", 10, no_cursor()),
        ),
        case(
            "describe partitions: at most -1",
            75,
            0,
            describe(TOPIC, -1, no_cursor()),
        ),
        case(
            "describe partitions: a cursor of a topic that is not there",
            75,
            0,
            describe(TOPIC, 10, cursor(NOWHERE, 0)),
        ),
        case(
            "describe partitions: a cursor before the beginning",
            75,
            0,
            describe(TOPIC, 10, cursor(TOPIC, -1)),
        ),
        case(
            "describe partitions: a cursor beyond the end",
            75,
            0,
            describe(TOPIC, 10, cursor(TOPIC, 99)),
        ),
        case(
            "describe partitions: null topics",
            75,
            0,
            bytes().i8(0).i32(10).i8(-1).i8(0),
        ),
    ]
}

/// The error codes of an answer.
pub(super) fn codes(key: ApiKey, frame: &[u8], version: i16) -> Vec<ErrorCode> {
    match key {
        ApiKey::DescribeConfigs => {
            let answer: DescribeConfigsResponse = read(frame, version);
            answer.results.iter().map(|result| result.error_code).collect()
        }
        ApiKey::AlterConfigs => {
            let answer: AlterConfigsResponse = read(frame, version);
            answer.responses.iter().map(|result| result.error_code).collect()
        }
        ApiKey::IncrementalAlterConfigs => {
            let answer: IncrementalAlterConfigsResponse = read(frame, version);
            answer.responses.iter().map(|result| result.error_code).collect()
        }
        ApiKey::CreatePartitions => {
            let answer: CreatePartitionsResponse = read(frame, version);
            answer.results.iter().map(|result| result.error_code).collect()
        }
        ApiKey::DeleteTopics => {
            let answer: DeleteTopicsResponse = read(frame, version);
            answer.topics.iter().map(|topic| topic.error_code).collect()
        }
        ApiKey::DeleteRecords => {
            let answer: DeleteRecordsResponse = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.map(|part| part.error_code).collect()
        }
        ApiKey::OffsetForLeaderEpoch => {
            let answer: OffsetForLeaderEpochResponse = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.map(|part| part.error_code).collect()
        }
        ApiKey::DescribeCluster => vec![read::<DescribeClusterResponse>(frame, version).error_code],
        ApiKey::DescribeTopicPartitions => {
            let answer: DescribeTopicPartitionsResponse = read(frame, version);
            answer.topics.iter().map(|topic| topic.error_code).collect()
        }
        _ => panic!("{key:?} has no codes here"),
    }
}
