//! Produce: order, acknowledgements, idempotence, leadership.

use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::{Array, BatchBuilder, Compression, ErrorCode, NewRecord};

use crate::support::{Broker, Client, batch, now_ms, sequenced};

fn producer_id(client: &mut Client) -> i64 {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    loop {
        let response: InitProducerIdResponse = client.call(4, &request).unwrap();
        // Kafka may still be fetching its first block.
        if response.error_code == ErrorCode::None {
            assert_eq!(response.producer_epoch, 0);
            return response.producer_id;
        }
        assert!(response.error_code.is_retriable(), "{}", response.error_code);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_with_dense_offsets() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let bytes = batch(Compression::None, &[b"a", b"b"]);
    let ids: Vec<i32> = (0..200)
        .map(|_| client.send_produce(9, &topic, 0, -1, Some(&bytes)))
        .collect();
    for (index, id) in (0..).zip(ids) {
        let response: ProduceResponse = client.receive(9, id).unwrap();
        let part = &response.topics[0].partitions[0];
        assert_eq!((part.error_code, part.base_offset), (ErrorCode::None, index * 2));
    }
}

#[test]
fn acks_0_is_silent_and_a_failure_closes_the_connection() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let bytes = batch(Compression::None, &[b"a"]);
    client.send_produce(9, &topic, 0, 0, Some(&bytes));
    let next = client.produce(9, &topic, 0, 1, Some(&bytes)).unwrap();
    assert_eq!(next.base_offset, 1, "the silent one was appended before");
    client.send_produce(9, &topic, 5, 0, Some(&bytes));
    assert!(client.is_closed());
}

#[test]
fn one_bad_partition_does_not_keep_the_others_from_being_written() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let good = batch(Compression::Gzip, &[b"a"]);
    let partitions = [
        ProducePartition {
            partition: 9,
            records: Some(&good),
        },
        ProducePartition {
            partition: 0,
            records: Some(&good),
        },
    ];
    let topics = [
        ProduceTopic {
            name: "absent topic",
            partitions: Array::from_slice(&partitions[..1]),
        },
        ProduceTopic {
            name: &topic,
            partitions: Array::from_slice(&partitions),
        },
    ];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1_000,
        topics: Array::from_slice(&topics),
        ..ProduceRequest::default()
    };
    let response: ProduceResponse = client.call(8, &request).unwrap();
    let mut codes = Vec::new();
    for topic in &response.topics {
        codes.extend(
            topic
                .partitions
                .iter()
                .map(|part| (topic.name.as_str(), part.partition, part.error_code)),
        );
    }
    codes.sort_unstable();
    let mut expected = vec![
        ("absent topic", 9, ErrorCode::UnknownTopicOrPartition),
        (topic.as_str(), 0, ErrorCode::None),
        (topic.as_str(), 9, ErrorCode::UnknownTopicOrPartition),
    ];
    expected.sort_unstable();
    assert_eq!(codes, expected);
}

#[test]
fn a_repeated_batch_is_answered_with_its_first_offset_and_stored_once() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let id = producer_id(&mut client);
    let mut send = |epoch, sequence| {
        let bytes = sequenced(id, epoch, sequence, &[b"a", b"b"]);
        let part = client.produce(9, &topic, 0, -1, Some(&bytes)).unwrap();
        (part.error_code, part.base_offset)
    };
    for index in 0..7 {
        assert_eq!(send(0, index * 2), (ErrorCode::None, i64::from(index) * 2));
    }
    // The last five are remembered.
    for index in 2..7 {
        assert_eq!(
            send(0, index * 2),
            (ErrorCode::None, i64::from(index) * 2),
            "batch {index} again"
        );
    }
    assert_eq!(send(0, 16), (ErrorCode::OutOfOrderSequenceNumber, -1), "a gap");
    assert_eq!(
        send(0, 0),
        (ErrorCode::OutOfOrderSequenceNumber, -1),
        "older than what is remembered"
    );
    assert_eq!(
        send(1, 3),
        (ErrorCode::OutOfOrderSequenceNumber, -1),
        "a new epoch begins at 0"
    );
    assert_eq!(send(1, 0), (ErrorCode::None, 14));
    assert_eq!(
        send(0, 14),
        (ErrorCode::InvalidProducerEpoch, -1),
        "the old epoch"
    );
}

#[test]
fn producer_ids_are_never_given_twice_whichever_node_is_asked() {
    let broker = Broker::start();
    let nodes = broker.client().metadata(Some(&[])).brokers;
    let mut clients: Vec<Client> = nodes.iter().map(|node| broker.node(node.node_id)).collect();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend(clients.iter_mut().map(producer_id));
    }
    let given = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), given);
}

#[test]
fn a_transactional_id_is_refused_for_good() {
    if Broker::foreign().is_some() {
        return;
    }
    let request = InitProducerIdRequest {
        transactional_id: Some("transfer"),
        transaction_timeout_ms: 1_000,
        ..InitProducerIdRequest::default()
    };
    let response: InitProducerIdResponse = Broker::start().client().call(4, &request).unwrap();
    assert_eq!(response.error_code, ErrorCode::InvalidRequest);
    assert!(!response.error_code.is_retriable());
}

#[test]
fn another_node_names_the_leader_exactly_as_metadata_does() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let topic = broker.client().create_topic(2, &[]);
    let metadata = broker.client().metadata(Some(&[&topic]));
    let bytes = batch(Compression::None, &[b"a"]);
    for partition in &metadata.topics[0].partitions {
        let other = metadata
            .brokers
            .iter()
            .find(|node| node.node_id != partition.leader_id)
            .unwrap();
        let mut client = broker.node(other.node_id);
        let id = client.send_produce(10, &topic, partition.partition, -1, Some(&bytes));
        let response: ProduceResponse = client.receive(10, id).unwrap();
        let part = &response.topics[0].partitions[0];
        assert_eq!(part.error_code, ErrorCode::NotLeaderOrFollower);
        assert_eq!(part.current_leader.leader_id, partition.leader_id);
        assert_eq!(part.current_leader.leader_epoch, partition.leader_epoch);
        let leader = metadata
            .brokers
            .iter()
            .find(|node| node.node_id == partition.leader_id)
            .unwrap();
        let endpoint = &response.node_endpoints[0];
        assert_eq!(
            (endpoint.node_id, &endpoint.host, endpoint.port, &endpoint.rack),
            (leader.node_id, &leader.host, leader.port, &leader.rack)
        );
    }
}

#[test]
fn log_append_time_is_the_brokers_and_is_told() {
    let broker = Broker::start();
    let topic = broker
        .client()
        .create_topic(1, &[("message.timestamp.type", "LogAppendTime")]);
    let mut client = broker.leader(&topic, 0);
    let before = now_ms();
    let part = client
        .produce(9, &topic, 0, -1, Some(&batch(Compression::Lz4, &[b"a"])))
        .unwrap();
    assert_eq!(part.error_code, ErrorCode::None);
    assert!(
        part.log_append_time_ms >= before - 1_000,
        "{}",
        part.log_append_time_ms
    );
    let plain = broker.client().create_topic(1, &[]);
    let part = broker
        .leader(&plain, 0)
        .produce(9, &plain, 0, -1, Some(&batch(Compression::Lz4, &[b"a"])))
        .unwrap();
    assert_eq!((part.log_append_time_ms, part.log_start_offset), (-1, 0));
}

#[test]
fn a_compacted_topic_refuses_records_without_a_key_and_says_which() {
    let broker = Broker::start();
    let compacted = broker.client().create_topic(1, &[("cleanup.policy", "compact")]);
    let other = broker.client().create_topic(1, &[("cleanup.policy", "delete")]);
    let with_keys = |keys: &[Option<&[u8]>]| {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for key in keys {
            builder.push(&NewRecord {
                timestamp_ms: now_ms(),
                key: *key,
                value: Some(b"value"),
                ..NewRecord::default()
            });
        }
        builder.build()
    };
    let mixed = with_keys(&[Some(b"a"), None, Some(b"b"), None]);
    let mut leader = broker.leader(&compacted, 0);
    let part = leader.produce(9, &compacted, 0, -1, Some(&mixed)).unwrap();
    let places: Vec<i32> = part.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!((part.error_code, places), (ErrorCode::InvalidRecord, vec![1, 3]));
    let keyed = with_keys(&[Some(b"a"), Some(b"")]);
    let part = leader.produce(9, &compacted, 0, -1, Some(&keyed)).unwrap();
    assert_eq!((part.error_code, part.base_offset), (ErrorCode::None, 0));
    let mut leader = broker.leader(&other, 0);
    let part = leader.produce(9, &other, 0, -1, Some(&mixed)).unwrap();
    assert_eq!(part.error_code, ErrorCode::None);
}
