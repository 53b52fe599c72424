//! Topics that are there: more partitions, other configs, records deleted; and who the cluster is. All of it holds for
//! Apache Kafka as well, but where a test says so.

use wire::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlteredConfig,
};
use wire::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use wire::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse, DescribeConfigsResult,
    DescribedConfig,
};
use wire::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsTopic, DescribedLogDir,
    UNKNOWN_VOLUME_BYTES,
};
use wire::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsTopic,
    PartitionCursor,
};
use wire::messages::incremental_alter_configs::{
    ChangedConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
};
use wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::schema::NullableStruct;
use wire::{Array, Compression, ErrorCode};

use crate::support::{ASK, Ask, Broker, Client, batch, fetch};

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

fn grow(
    client: &mut Client,
    topic: &str,
    count: i32,
    assignments: Option<&[&[i32]]>,
    validate_only: bool,
) -> ErrorCode {
    let assignments: Option<Vec<_>> = assignments.map(|assignments| {
        let assignments = assignments.iter();
        assignments
            .map(|nodes| CreatePartitionsAssignment {
                broker_ids: Array::from_slice(nodes),
            })
            .collect()
    });
    let topics = [CreatePartitionsTopic {
        name: topic,
        count,
        assignments: assignments.as_deref().map(Array::from_slice),
    }];
    let request = CreatePartitionsRequest {
        topics: Array::from_slice(&topics),
        timeout_ms: 30_000,
        validate_only,
    };
    let response: CreatePartitionsResponse = client.call(3, &request).unwrap();
    response.results[0].error_code
}

#[test]
fn a_topic_gets_more_partitions_and_they_take_records() {
    use ErrorCode as E;
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.create_topic(2, &[]);
    let node = client.metadata(Some(&[])).brokers[0].node_id;
    let partitions = |client: &mut Client| client.metadata(Some(&[&topic])).topics[0].partitions.len();
    for (count, assignments, code) in [
        (2, None, E::InvalidPartitions),
        (1, None, E::InvalidPartitions),
        (-1, None, E::InvalidPartitions),
        (4, Some(&[&[node][..]][..]), E::InvalidReplicaAssignment),
        (3, Some(&[&[node + 500][..]]), E::InvalidReplicaAssignment),
        (3, Some(&[&[][..]]), E::InvalidReplicaAssignment),
        (3, Some(&[&[node, node][..]]), E::InvalidReplicaAssignment),
    ] {
        assert_eq!(
            grow(&mut client, &topic, count, assignments, false),
            code,
            "{count} {assignments:?}"
        );
    }
    assert_eq!(
        grow(&mut client, "no-such", 4, None, false),
        E::UnknownTopicOrPartition
    );
    assert_eq!(grow(&mut client, &topic, 4, None, true), E::None);
    assert_eq!(partitions(&mut client), 2, "it was only asked");
    assert_eq!(grow(&mut client, &topic, 4, None, false), E::None);
    assert_eq!(grow(&mut client, &topic, 5, Some(&[&[node]]), false), E::None);
    while partitions(&mut client) < 5 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let leader = client.metadata(Some(&[&topic])).topics[0].partitions[4].leader_id;
    assert_eq!(leader, node);
    for partition in 2..5 {
        let mut leader = broker.leader(&topic, partition);
        let records = batch(Compression::None, &[b"hello"]);
        let produced = leader.produce(9, &topic, partition, -1, Some(&records)).unwrap();
        assert_eq!(
            (produced.error_code, produced.base_offset),
            (E::None, 0),
            "{partition}"
        );
    }
}

pub fn configs_of(client: &mut Client, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resources = [DescribeConfigsResource {
        resource_type: kind,
        resource_name: name,
        configuration_keys: keys.map(Array::from_slice),
    }];
    let request = DescribeConfigsRequest {
        resources: Array::from_slice(&resources),
        include_synonyms: true,
        include_documentation: true,
    };
    let mut response: DescribeConfigsResponse = client.call(4, &request).unwrap();
    response.results.remove(0)
}

fn config(client: &mut Client, topic: &str, name: &str) -> DescribedConfig {
    let mut result = configs_of(client, TOPIC, topic, Some(&[name]));
    assert_eq!(result.configs.len(), 1, "{name}");
    result.configs.remove(0)
}

pub const SET: i8 = 0;
pub const DELETE: i8 = 1;
pub const APPEND: i8 = 2;
pub const SUBTRACT: i8 = 3;

pub fn change(client: &mut Client, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> ErrorCode {
    let configs = changes
        .iter()
        .map(|(name, config_operation, value)| ChangedConfig {
            name,
            config_operation: *config_operation,
            value: *value,
        });
    let configs: Vec<_> = configs.collect();
    let resources = [IncrementalAlterConfigsResource {
        resource_type: kind,
        resource_name: name,
        configs: Array::from_slice(&configs),
    }];
    let request = IncrementalAlterConfigsRequest {
        resources: Array::from_slice(&resources),
        validate_only: false,
    };
    let response: IncrementalAlterConfigsResponse = client.call(1, &request).unwrap();
    response.responses[0].error_code
}

#[test]
fn a_topics_configs_are_shown_and_changed() {
    use ErrorCode as E;
    let broker = Broker::start();
    let mut client = broker.client();
    let client = &mut client;
    let topic = client.create_topic(1, &[("segment.bytes", "2097152")]);
    let all = configs_of(client, TOPIC, &topic, None);
    assert_eq!(all.configs.len(), 37, "every config of Kafka 4.4's topics");
    for config in &all.configs {
        // Apache Kafka has no words for this one.
        let is_silent = config.name == "errors.deadletterqueue.group.enable";
        let text = config.documentation.as_deref().unwrap_or_default();
        assert!(is_silent || !text.is_empty(), "{}", config.name);
        assert!(config.config_type > 0, "{}", config.name);
    }
    let own = config(client, &topic, "segment.bytes");
    assert_eq!(
        (own.value.as_deref(), own.config_source, own.config_type),
        (Some("2097152"), 1, 3)
    );
    assert_eq!(own.synonyms[0].name, "segment.bytes");
    assert_eq!(
        own.synonyms.last().map(|last| (&*last.name, last.source)),
        Some(("log.segment.bytes", 5))
    );
    let kept = config(client, &topic, "cleanup.policy");
    assert_eq!(
        (kept.value.as_deref(), kept.config_source, kept.config_type),
        (Some("delete"), 5, 7)
    );

    assert_eq!(
        change(client, TOPIC, &topic, &[("retention.ms", SET, Some("77"))]),
        E::None
    );
    assert_eq!(
        change(
            client,
            TOPIC,
            &topic,
            &[("cleanup.policy", APPEND, Some("compact"))]
        ),
        E::None
    );
    // Apache Kafka's brokers learn it from its controller after the answer.
    while config(client, &topic, "cleanup.policy").value.as_deref() != Some("delete,compact") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(
        config(client, &topic, "retention.ms").value.as_deref(),
        Some("77")
    );
    assert_eq!(
        change(
            client,
            TOPIC,
            &topic,
            &[("cleanup.policy", SUBTRACT, Some("delete"))]
        ),
        E::None
    );
    assert_eq!(
        change(client, TOPIC, &topic, &[("retention.ms", DELETE, None)]),
        E::None
    );
    while config(client, &topic, "retention.ms").config_source == 1 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(
        config(client, &topic, "cleanup.policy").value.as_deref(),
        Some("compact")
    );

    for (what, changes, code) in [
        (
            "unknown",
            &[("no.such.config", SET, Some("1"))][..],
            E::InvalidConfig,
        ),
        (
            "bad value",
            &[("retention.ms", SET, Some("soon"))],
            E::InvalidConfig,
        ),
        ("no value", &[("retention.ms", SET, None)], E::InvalidRequest),
        (
            "no list",
            &[("retention.ms", APPEND, Some("1"))],
            E::InvalidConfig,
        ),
        (
            "twice",
            &[("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))],
            E::InvalidRequest,
        ),
    ] {
        assert_eq!(change(client, TOPIC, &topic, changes), code, "{what}");
    }
    assert_eq!(
        change(client, TOPIC, "no-such", &[("retention.ms", SET, Some("1"))]),
        E::UnknownTopicOrPartition
    );
    assert_eq!(
        configs_of(client, TOPIC, "no-such", None).error_code,
        E::UnknownTopicOrPartition
    );

    let configs = [AlteredConfig {
        name: "retention.ms",
        value: Some("88"),
    }];
    let resources = [AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: &topic,
        configs: Array::from_slice(&configs),
    }];
    let request = AlterConfigsRequest {
        resources: Array::from_slice(&resources),
        validate_only: false,
    };
    let response: AlterConfigsResponse = client.call(2, &request).unwrap();
    assert_eq!(response.responses[0].error_code, E::None);
    while config(client, &topic, "retention.ms").value.as_deref() != Some("88") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(
        config(client, &topic, "segment.bytes").config_source,
        5,
        "what is not named has its default again"
    );
}

#[test]
fn a_config_that_is_changed_holds_for_the_next_batch_and_after_a_restart() {
    let mut broker = Broker::start_restartable();
    let topic = broker.client().create_topic(1, &[]);
    let large = batch(Compression::None, &[&[7; 2_000]]);
    let produce = |broker: &Broker| {
        let mut leader = broker.leader(&topic, 0);
        leader.produce(9, &topic, 0, -1, Some(&large)).unwrap().error_code
    };
    assert_eq!(produce(&broker), ErrorCode::None);
    let changes = [("max.message.bytes", SET, Some("1000"))];
    assert_eq!(
        change(&mut broker.client(), TOPIC, &topic, &changes),
        ErrorCode::None
    );
    assert_eq!(produce(&broker), ErrorCode::MessageTooLarge);
    broker.restart("-KILL");
    assert_eq!(produce(&broker), ErrorCode::MessageTooLarge);
    assert_eq!(
        config(&mut broker.client(), &topic, "max.message.bytes")
            .value
            .as_deref(),
        Some("1000")
    );
}

fn delete(client: &mut Client, topic: &str, partition: i32, offset: i64) -> (ErrorCode, i64) {
    let partitions = [DeleteRecordsPartition { partition, offset }];
    let topics = [DeleteRecordsTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = DeleteRecordsRequest {
        topics: Array::from_slice(&topics),
        // The time for other replicas to follow: none is needed.
        timeout_ms: 0,
    };
    let response: DeleteRecordsResponse = client.call(2, &request).unwrap();
    let result = &response.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

#[test]
fn deleted_records_are_gone_and_the_others_stay() {
    use ErrorCode as E;
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let compacted = broker.client().create_topic(1, &[("cleanup.policy", "compact")]);
    let mut leader = broker.leader(&topic, 0);
    for _ in 0..3 {
        let records = batch(Compression::None, &[b"one", b"two"]);
        leader.produce(9, &topic, 0, -1, Some(&records)).unwrap();
    }
    for (offset, result) in [
        (0, (E::None, 0)),
        (2, (E::None, 2)),
        (1, (E::None, 2)),
        (7, (E::OffsetOutOfRange, -1)),
        (-2, (E::OffsetOutOfRange, -1)),
    ] {
        assert_eq!(delete(&mut leader, &topic, 0, offset), result, "{offset}");
    }
    let at = |offset| Ask { offset, ..ASK };
    assert_eq!(fetch(&mut leader, &topic, at(1)).error_code, E::OffsetOutOfRange);
    let found = fetch(&mut leader, &topic, at(2));
    assert_eq!((found.error_code, found.log_start_offset), (E::None, 2));
    assert_eq!(delete(&mut leader, &topic, 0, -1), (E::None, 6), "-1: all of it");
    let records = batch(Compression::None, &[b"three"]);
    assert_eq!(
        leader
            .produce(9, &topic, 0, -1, Some(&records))
            .unwrap()
            .base_offset,
        6
    );
    assert_eq!(fetch(&mut leader, &topic, at(6)).error_code, E::None);

    assert_eq!(delete(&mut leader, &topic, 1, 0).0, E::UnknownTopicOrPartition);
    assert_eq!(delete(&mut leader, "no-such", 0, 0).0, E::UnknownTopicOrPartition);
    let mut leader = broker.leader(&compacted, 0);
    assert_eq!(delete(&mut leader, &compacted, 0, 0).0, E::PolicyViolation);
}

#[test]
fn the_cluster_is_the_one_that_metadata_tells_of() {
    let broker = Broker::start();
    let mut client = broker.client();
    let metadata = client.metadata(Some(&[]));
    let request = DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        ..DescribeClusterRequest::default()
    };
    let cluster: DescribeClusterResponse = client.call(2, &request).unwrap();
    assert_eq!(cluster.error_code, ErrorCode::None);
    assert_eq!(Some(&cluster.cluster_id), metadata.cluster_id.as_ref());
    let ports = |nodes: Vec<(i32, i32)>| nodes;
    assert_eq!(
        ports(
            cluster
                .brokers
                .iter()
                .map(|node| (node.broker_id, node.port))
                .collect()
        ),
        ports(
            metadata
                .brokers
                .iter()
                .map(|node| (node.node_id, node.port))
                .collect()
        )
    );
    assert!(
        cluster
            .brokers
            .iter()
            .any(|node| node.broker_id == cluster.controller_id)
    );
    assert_eq!(cluster.cluster_authorized_operations, 0b1_1111_1010_0000);
    let controllers = DescribeClusterRequest {
        endpoint_type: 2,
        ..DescribeClusterRequest::default()
    };
    let refused: DescribeClusterResponse = client.call(2, &controllers).unwrap();
    assert_eq!(refused.error_code, ErrorCode::MismatchedEndpointType);
}

fn describe_page(
    client: &mut Client,
    topics: &[&str],
    response_partition_limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let topics: Vec<_> = topics
        .iter()
        .map(|&name| DescribeTopicPartitionsTopic { name })
        .collect();
    let request = DescribeTopicPartitionsRequest {
        topics: Array::from_slice(&topics),
        response_partition_limit,
        cursor: NullableStruct(cursor.map(|(topic_name, partition_index)| PartitionCursor {
            topic_name,
            partition_index,
        })),
    };
    client.call(0, &request).unwrap()
}

#[test]
fn topics_are_described_a_page_at_a_time() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut names = [client.create_topic(3, &[]), client.create_topic(2, &[])];
    names.sort();
    let [first, second] = &names;
    let both = [second.as_str(), first, second];
    let asked = names.each_ref().map(|name| MetadataRequestTopic {
        name: Some(name),
        ..MetadataRequestTopic::default()
    });
    let request = MetadataRequest {
        topics: Some(Array::from_slice(&asked)),
        ..MetadataRequest::default()
    };
    let metadata: MetadataResponse = client.call(12, &request).unwrap();
    let expected = |name: &str| {
        let topic = metadata
            .topics
            .iter()
            .find(|topic| topic.name.as_deref() == Some(name));
        topic.expect("a topic that was created")
    };

    let whole = describe_page(&mut client, &both, 100, None);
    assert_eq!(whole.next_cursor.0, None);
    assert_eq!(whole.topics.len(), 2);
    for (name, topic) in names.iter().zip(&whole.topics) {
        let expected = expected(name);
        assert_eq!(
            (topic.error_code, topic.name.as_deref()),
            (ErrorCode::None, Some(name.as_str()))
        );
        assert_eq!((topic.topic_id, topic.is_internal), (expected.topic_id, false));
        assert_eq!(topic.topic_authorized_operations, 0b1101_1111_1000);
        assert_eq!(topic.partitions.len(), expected.partitions.len());
        for (partition, expected) in topic.partitions.iter().zip({
            let mut partitions = expected.partitions.clone();
            partitions.sort_by_key(|partition| partition.partition);
            partitions
        }) {
            assert_eq!(partition.partition_index, expected.partition);
            assert_eq!(partition.leader_id, expected.leader_id);
            assert_eq!(partition.leader_epoch, expected.leader_epoch);
            assert_eq!(partition.replica_nodes, expected.replica_nodes);
            assert_eq!(partition.isr_nodes, expected.isr_nodes);
            assert_eq!(partition.eligible_leader_replicas, Some(vec![]));
            assert_eq!(partition.last_known_elr, Some(vec![]));
            assert!(partition.offline_replicas.is_empty());
        }
    }

    // Followed from page to page, every partition comes once; a limit below one is one.
    for limit in [0, 1, 2, 4] {
        let mut seen = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        loop {
            let at = cursor
                .as_ref()
                .map(|(name, partition)| (name.as_str(), *partition));
            let page = describe_page(&mut client, &both, limit, at);
            for topic in &page.topics {
                let name = topic.name.clone().unwrap();
                seen.extend(
                    topic
                        .partitions
                        .iter()
                        .map(|partition| (name.clone(), partition.partition_index)),
                );
            }
            match page.next_cursor.0 {
                Some(next) => cursor = Some((next.topic_name, next.partition_index)),
                None => break,
            }
            assert!(seen.len() < 5, "pages end: {seen:?}");
        }
        let all = names.iter().flat_map(|name| {
            let count = expected(name).partitions.len() as i32;
            (0..count).map(|partition| (name.clone(), partition))
        });
        assert_eq!(seen, all.collect::<Vec<_>>(), "{limit}");
    }
}

#[test]
fn a_page_of_topics_tells_what_is_wrong_with_what_was_asked() {
    use ErrorCode as E;
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.create_topic(1, &[]);
    let mut codes = |topics: &[&str], cursor| {
        let page = describe_page(&mut client, topics, 10, cursor);
        let answers = page.topics.into_iter();
        answers
            .map(|topic| {
                (
                    topic.name.unwrap(),
                    topic.error_code,
                    topic.topic_authorized_operations,
                )
            })
            .collect::<Vec<_>>()
    };
    let all = 0b1101_1111_1000;
    assert_eq!(
        codes(&["zz/no", "zz-no"], None),
        [
            ("zz-no".to_owned(), E::UnknownTopicOrPartition, all),
            ("zz/no".to_owned(), E::InvalidTopicException, all)
        ]
    );
    for cursor in [("other", 0), (topic.as_str(), -1)] {
        assert_eq!(
            codes(&[&topic, &topic], Some(cursor)),
            [(); 2].map(|()| (topic.clone(), E::InvalidRequest, i32::MIN)),
            "{cursor:?}"
        );
    }
    assert_eq!(codes(&[], Some((&topic, -1))), []);
    assert_eq!(
        codes(&[&topic], Some((&topic, 7))),
        [(topic.clone(), E::None, all)]
    );
}

/// The one log directory of a node, with these partitions of it; all of them without.
pub fn log_dir(client: &mut Client, version: i16, topics: Option<&[(&str, &[i32])]>) -> DescribedLogDir {
    let topics = topics.map(|topics| {
        let asked = topics.iter().map(|&(topic, partitions)| DescribeLogDirsTopic {
            topic,
            partitions: Array::from_slice(partitions),
        });
        asked.collect::<Vec<_>>()
    });
    let request = DescribeLogDirsRequest {
        topics: topics.as_deref().map(Array::from_slice),
    };
    let mut response: DescribeLogDirsResponse = client.call(version, &request).unwrap();
    assert_eq!(
        (response.error_code, response.results.len()),
        (ErrorCode::None, 1)
    );
    let directory = response.results.remove(0);
    assert_eq!(directory.error_code, ErrorCode::None);
    assert!(directory.log_dir.starts_with('/'), "{}", directory.log_dir);
    directory
}

/// Partitions of the topic in it, with their sizes.
pub fn sizes(directory: &DescribedLogDir, topic: &str) -> Vec<(i32, i64)> {
    let topics = directory
        .topics
        .iter()
        .filter(|described| described.name == topic);
    let mut partitions = topics.flat_map(|topic| &topic.partitions).collect::<Vec<_>>();
    partitions.sort_by_key(|partition| partition.partition_index);
    for partition in &partitions {
        assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
    }
    let sizes = partitions
        .iter()
        .map(|partition| (partition.partition_index, partition.partition_size));
    sizes.collect()
}

/// Kafka shows a partition before its leader has made the log.
fn wait_for_logs(client: &mut Client, topic: &str, partitions: &[i32]) {
    let are_there = |sizes: Vec<(i32, i64)>| {
        let is_there = |wanted: &i32| sizes.iter().any(|(partition, _)| partition == wanted);
        partitions.iter().all(is_there)
    };
    while !are_there(sizes(&log_dir(client, 4, None), topic)) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_log_is_as_large_as_what_was_appended_to_it() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(2, &[]);
    let mut leader = broker.leader(&topic, 1);
    wait_for_logs(&mut leader, &topic, &[1]);
    let mut bytes = 0;
    for (count, version) in (1..=4).enumerate() {
        let value = vec![b'x'; 3_000 * count];
        let records = batch(Compression::None, &[b"a", &value]);
        bytes += records.len() as i64;
        let produced = leader.produce(9, &topic, 1, -1, Some(&records)).unwrap();
        assert_eq!(produced.error_code, ErrorCode::None);
        let directory = log_dir(&mut leader, version, Some(&[(&topic, &[1])]));
        assert_eq!(sizes(&directory, &topic), [(1, bytes)], "version {version}");
        assert_eq!(directory.topics.len(), 1, "nothing else was asked for");
        assert_eq!(
            sizes(&log_dir(&mut leader, version, None), &topic).last(),
            Some(&(1, bytes))
        );
    }
    let mut other = broker.leader(&topic, 0);
    wait_for_logs(&mut other, &topic, &[0]);
    let directory = log_dir(&mut other, 4, Some(&[(&topic, &[0])]));
    assert_eq!(sizes(&directory, &topic), [(0, 0)]);
}

#[test]
fn every_node_tells_of_its_own_logs_and_the_first_of_the_volume() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.create_topic(5, &[]);
    let mut nodes: Vec<i32> = client
        .metadata(Some(&[]))
        .brokers
        .iter()
        .map(|node| node.node_id)
        .collect();
    nodes.sort_unstable();
    let mut told = Vec::new();
    for &node in &nodes {
        let mut client = broker.node(node);
        let metadata = client.metadata(Some(&[&topic]));
        let led = metadata.topics[0].partitions.iter();
        let led = led.filter(|partition| partition.leader_id == node);
        let mut led: Vec<_> = led.map(|partition| partition.partition).collect();
        led.sort_unstable();
        wait_for_logs(&mut client, &topic, &led);
        told.extend(led.iter().copied());
        let led: Vec<_> = led.into_iter().map(|partition| (partition, 0)).collect();
        let all = log_dir(&mut client, 4, None);
        assert_eq!(sizes(&all, &topic), led, "all of node {node}");
        let all_five: &[i32] = &[4, 3, 2, 1, 0];
        let named = log_dir(&mut client, 4, Some(&[(&topic, all_five), (&topic, &[0, 0])]));
        assert_eq!(
            sizes(&named, &topic),
            led,
            "what node {node} does not have, and what comes twice"
        );
        let nothing: [&[(&str, &[i32])]; 4] = [
            &[],
            &[(&topic, &[])],
            &[("no-such-topic", &[0])],
            &[(&topic, &[-1, 5, i32::MAX])],
        ];
        for asked in nothing {
            assert_eq!(log_dir(&mut client, 4, Some(asked)).topics, [], "{asked:?}");
        }
        let (total, usable) = (all.total_bytes, all.usable_bytes);
        if node == nodes[0] {
            assert!(0 < usable && usable <= total, "{usable} of {total}");
        } else {
            let unknown = UNKNOWN_VOLUME_BYTES;
            assert_eq!((total, usable), (unknown, unknown), "they are counted once");
        }
        let older = log_dir(&mut client, 3, None);
        assert_eq!(older.log_dir, all.log_dir);
    }
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3, 4], "each partition is one node's");
}

#[test]
fn the_offsets_topic_says_how_it_is_kept_and_stays_so() {
    let broker = Broker::start();
    let client = &mut broker.coordinator("any-group");
    let offsets = "__consumer_offsets";
    let told = |client: &mut Client, name: &str| {
        let config = config(client, offsets, name);
        (config.value.unwrap(), config.config_source)
    };
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", "104857600"),
    ] {
        assert_eq!(told(client, name), (value.to_owned(), 1), "{name}");
    }
    if Broker::foreign().is_some() {
        return; // It would lose its groups.
    }
    for wrong in ["delete", "compact,delete"] {
        let changes = [("cleanup.policy", SET, Some(wrong))];
        assert_eq!(change(client, TOPIC, offsets, &changes), ErrorCode::InvalidConfig);
    }
    for (operation, value) in [(SET, Some("compact")), (DELETE, None)] {
        let changes = [
            ("cleanup.policy", operation, value),
            ("retention.ms", SET, Some("1")),
        ];
        assert_eq!(change(client, TOPIC, offsets, &changes), ErrorCode::None);
        assert_eq!(told(client, "cleanup.policy"), ("compact".to_owned(), 1));
    }
}
