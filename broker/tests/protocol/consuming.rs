//! Fetch, ListOffsets, OffsetForLeaderEpoch, FindCoordinator, Metadata.

use std::thread;

use wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use wire::{Array, Compression, ErrorCode, RecordBatch, Request, Uuid};

use crate::support::{ASK, Ask, Broker, Client, batch, fetch, now_ms, patched};

fn offsets(part: &FetchPartitionResponse<Vec<u8>>) -> Vec<i64> {
    let bytes = part.records.0.concat();
    let mut rest = &bytes[..];
    let mut offsets = Vec::new();
    while let Ok((batch, after)) = RecordBatch::parse(rest) {
        batch.verify_crc().unwrap();
        offsets.extend(batch.header().base_offset..=batch.header().last_offset());
        rest = after;
    }
    offsets
}

#[test]
fn a_fetch_inside_a_batch_returns_the_whole_batch_and_limits_never_cut_the_first() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    for _ in 0..3 {
        let bytes = batch(Compression::None, &[&[1; 500], &[2; 500], &[3; 500]]);
        client.produce(9, &topic, 0, -1, Some(&bytes)).unwrap();
    }
    let mut fetch = |ask| fetch(&mut client, &topic, ask);
    assert_eq!(offsets(&fetch(ASK)), (0..9).collect::<Vec<_>>());
    assert_eq!(
        offsets(&fetch(Ask { offset: 4, ..ASK })),
        (3..9).collect::<Vec<_>>()
    );
    assert_eq!(
        offsets(&fetch(Ask {
            partition_max_bytes: 1,
            ..ASK
        })),
        [0, 1, 2]
    );
    assert_eq!(offsets(&fetch(Ask { max_bytes: 1, ..ASK })), [0, 1, 2]);
    assert_eq!(
        offsets(&fetch(Ask {
            max_bytes: 0,
            partition_max_bytes: 0,
            min_bytes: 0,
            ..ASK
        })),
        [0, 1, 2]
    );
    let end = fetch(Ask { offset: 9, ..ASK });
    assert_eq!(
        (end.error_code, end.high_watermark, end.last_stable_offset),
        (ErrorCode::None, 9, 9)
    );
    assert_eq!(
        (
            end.log_start_offset,
            end.preferred_read_replica,
            end.records.byte_count()
        ),
        (0, -1, 0)
    );
    for offset in [-1, -2, 10, i64::MAX, i64::MIN] {
        let part = fetch(Ask { offset, ..ASK });
        assert_eq!(part.error_code, ErrorCode::OffsetOutOfRange, "offset {offset}");
        assert_eq!(part.high_watermark, -1);
    }
    let epoch = if Broker::foreign().is_some() {
        0
    } else {
        fetch_epoch(&broker, &topic)
    };
    assert_eq!(fetch(Ask { epoch, ..ASK }).error_code, ErrorCode::None);
    assert_eq!(
        fetch(Ask {
            epoch: epoch + 1,
            ..ASK
        })
        .error_code,
        ErrorCode::UnknownLeaderEpoch
    );
}

fn fetch_epoch(broker: &Broker, topic: &str) -> i32 {
    broker.client().metadata(Some(&[topic])).topics[0].partitions[0].leader_epoch
}

#[test]
fn a_waiting_fetch_is_answered_by_the_next_batch() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut reader = broker.leader(&topic, 0);
    let mut writer = broker.leader(&topic, 0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            fetch(
                &mut reader,
                &topic,
                Ask {
                    max_wait_ms: 25_000,
                    ..ASK
                },
            )
        });
        writer
            .produce(9, &topic, 0, -1, Some(&batch(Compression::None, &[b"news"])))
            .unwrap();
        assert_eq!(offsets(&waiting.join().unwrap()), [0]);
    });
    // And one that nothing comes for is answered in time, with what it knows.
    let part = fetch(
        &mut reader,
        &topic,
        Ask {
            offset: 1,
            max_wait_ms: 50,
            ..ASK
        },
    );
    assert_eq!((part.error_code, part.high_watermark), (ErrorCode::None, 1));
    // min_bytes holds an answer back until there is that much.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            fetch(
                &mut reader,
                &topic,
                Ask {
                    offset: 1,
                    min_bytes: 1_500,
                    max_wait_ms: 25_000,
                    ..ASK
                },
            )
        });
        for _ in 0..2 {
            writer
                .produce(9, &topic, 0, -1, Some(&batch(Compression::None, &[&[7; 1_000]])))
                .unwrap();
        }
        assert_eq!(offsets(&waiting.join().unwrap()), [1, 2]);
    });
    // A whole batch is given whatever the limit of the partition is, and so it counts: nothing is waited for.
    let part = fetch(
        &mut reader,
        &topic,
        Ask {
            offset: 1,
            min_bytes: 1_000,
            partition_max_bytes: 1,
            max_wait_ms: i32::MAX,
            ..ASK
        },
    );
    assert_eq!(offsets(&part), [1]);
}

#[test]
fn requests_behind_a_waiting_fetch_are_carried_out_and_answered_in_order() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let partitions = [FetchPartition {
        partition_max_bytes: 1_000,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        name: &topic,
        partitions: Array::from_slice(&partitions),
        ..FetchTopic::default()
    }];
    let request = FetchRequest {
        max_wait_ms: 400,
        min_bytes: 1,
        topics: Array::from_slice(&topics),
        ..FetchRequest::default()
    };
    let fetch = client.send(11, &request);
    let produce = client.send_produce(9, &topic, 0, -1, Some(&batch(Compression::None, &[b"a"])));
    let response: FetchResponse<Vec<u8>> = client.receive(11, fetch).unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
    let response: wire::messages::produce::ProduceResponse = client.receive(9, produce).unwrap();
    assert_eq!(response.topics[0].partitions[0].base_offset, 0);
}

#[test]
fn a_fetch_session_names_only_what_is_new() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let id = client.topic_id(&topic);
    client
        .produce(9, &topic, 0, -1, Some(&batch(Compression::None, &[b"a"])))
        .unwrap();
    let mut ask = |session_id, session_epoch, offset: Option<i64>, forget: bool| {
        let partitions = [FetchPartition {
            fetch_offset: offset.unwrap_or(0),
            partition_max_bytes: 1_000,
            ..FetchPartition::default()
        }];
        let topics = [FetchTopic {
            topic_id: id,
            partitions: Array::from_slice(&partitions),
            ..FetchTopic::default()
        }];
        let forgotten = [ForgottenTopic {
            topic_id: id,
            partitions: Array::from_slice(&[0]),
            ..ForgottenTopic::default()
        }];
        let request = FetchRequest {
            max_wait_ms: 10,
            min_bytes: 1,
            session_id,
            session_epoch,
            topics: Array::from_slice(if offset.is_some() { &topics } else { &[] }),
            forgotten_topics: Array::from_slice(if forget { &forgotten } else { &[] }),
            ..FetchRequest::default()
        };
        let response: FetchResponse<Vec<u8>> = client.call(13, &request).unwrap();
        (response.error_code, response.session_id, response.topics)
    };
    let (code, session, topics) = ask(0, 0, Some(0), false);
    assert_eq!((code, topics.len()), (ErrorCode::None, 1));
    assert_ne!(session, 0);
    let (code, same, topics) = ask(session, 1, Some(1), false);
    assert_eq!(
        (code, same, topics.len()),
        (ErrorCode::None, session, 0),
        "nothing is new at the end: {topics:?}"
    );
    assert_eq!(
        ask(session, 1, None, false).0,
        ErrorCode::InvalidFetchSessionEpoch
    );
    let (code, _, topics) = ask(session, 2, Some(0), false);
    assert_eq!((code, topics.len()), (ErrorCode::None, 1));
    assert_eq!(
        ask(session ^ 1, 1, None, false).0,
        ErrorCode::FetchSessionIdNotFound
    );
    let (code, closed, _) = ask(session, 3, None, true);
    assert_eq!(
        (code, closed),
        (ErrorCode::None, 0),
        "the last partition is forgotten"
    );
    assert_eq!(ask(session, 4, None, false).0, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn unknown_topics_and_partitions_are_told_by_name_and_by_id() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let id = client.topic_id(&topic);
    let mut ask = |topic_id, partition| {
        let partitions = [FetchPartition {
            partition,
            partition_max_bytes: 1_000,
            ..FetchPartition::default()
        }];
        let topics = [FetchTopic {
            topic_id,
            partitions: Array::from_slice(&partitions),
            ..FetchTopic::default()
        }];
        let request = FetchRequest {
            max_wait_ms: 10,
            min_bytes: 1,
            topics: Array::from_slice(&topics),
            ..FetchRequest::default()
        };
        let response: FetchResponse<Vec<u8>> = client.call(17, &request).unwrap();
        assert_eq!(response.topics[0].topic_id, topic_id);
        response.topics[0].partitions[0].error_code
    };
    assert_eq!(ask(id, 0), ErrorCode::None);
    assert_eq!(ask(id, 1), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(ask(id, -1), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(ask(Uuid([5; 16]), 0), ErrorCode::UnknownTopicId);
    assert_eq!(
        fetch(&mut client, "absent", ASK).error_code,
        ErrorCode::UnknownTopicOrPartition
    );
}

pub fn list(client: &mut Client, topic: &str, version: i16, timestamp: i64) -> (ErrorCode, i64, i64) {
    let part = client.list_offsets(version, topic, timestamp);
    (part.error_code, part.offset, part.timestamp)
}

#[test]
fn offsets_are_found_by_time() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let mut list = |version, timestamp| list(&mut client, &topic, version, timestamp);
    assert_eq!(list(7, -1), (ErrorCode::None, 0, -1));
    assert_eq!(list(7, -2), (ErrorCode::None, 0, -1));
    assert_eq!(list(7, -3), (ErrorCode::None, -1, -1));
    assert_eq!(list(7, 0), (ErrorCode::None, -1, -1));
    assert_eq!(list(7, -4).0, ErrorCode::UnsupportedVersion);
    assert_eq!(list(6, -3).0, ErrorCode::UnsupportedVersion);
    let begin = now_ms() - 100_000;
    let mut writer = broker.leader(&topic, 0);
    for (index, time) in [1_000, 3_000, 2_000].into_iter().enumerate() {
        let at = (begin + time).to_be_bytes();
        let bytes = batch(Compression::None, &[b"a"]);
        let bytes = patched(patched(bytes, 27, &at), 35, &at);
        let part = writer.produce(9, &topic, 0, -1, Some(&bytes)).unwrap();
        assert_eq!(
            (part.error_code, part.base_offset),
            (ErrorCode::None, index as i64)
        );
    }
    for version in [1, 4, 7] {
        assert_eq!(list(version, -1), (ErrorCode::None, 3, -1));
        assert_eq!(list(version, -2), (ErrorCode::None, 0, -1));
        assert_eq!(list(version, 0), (ErrorCode::None, 0, begin + 1_000));
        assert_eq!(list(version, begin + 1_000), (ErrorCode::None, 0, begin + 1_000));
        assert_eq!(list(version, begin + 1_001), (ErrorCode::None, 1, begin + 3_000));
        assert_eq!(list(version, begin + 3_000), (ErrorCode::None, 1, begin + 3_000));
        assert_eq!(list(version, begin + 3_001), (ErrorCode::None, -1, -1));
    }
    assert_eq!(list(7, -3), (ErrorCode::None, 1, begin + 3_000));
}

#[test]
fn leader_epochs_end_where_the_log_ends() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let epoch = fetch_epoch(&broker, &topic);
    let mut client = broker.leader(&topic, 0);
    client
        .produce(9, &topic, 0, -1, Some(&batch(Compression::None, &[b"a", b"b"])))
        .unwrap();
    let mut ask = |current_leader_epoch, leader_epoch| {
        let partitions = [OffsetForLeaderPartition {
            partition: 0,
            current_leader_epoch,
            leader_epoch,
        }];
        let topics = [OffsetForLeaderTopic {
            name: &topic,
            partitions: Array::from_slice(&partitions),
        }];
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: Array::from_slice(&topics),
        };
        let response: OffsetForLeaderEpochResponse = client.call(4, &request).unwrap();
        let part = response.topics[0].partitions[0];
        (part.error_code, part.leader_epoch, part.end_offset)
    };
    assert_eq!(ask(-1, epoch), (ErrorCode::None, epoch, 2));
    assert_eq!(ask(epoch, epoch), (ErrorCode::None, epoch, 2));
    assert_eq!(ask(epoch, epoch + 1), (ErrorCode::None, -1, -1));
    assert_eq!(ask(epoch + 1, epoch).0, ErrorCode::UnknownLeaderEpoch);
}

#[test]
fn the_coordinator_of_a_group_leads_its_partition_of_the_offsets_topic() {
    let broker = Broker::start();
    let mut client = broker.client();
    let keys = ["my-group", "a"];
    let request = FindCoordinatorRequest {
        coordinator_keys: Array::from_slice(&keys),
        ..FindCoordinatorRequest::default()
    };
    let response = loop {
        let response: FindCoordinatorResponse = client.call(4, &request).unwrap();
        if response
            .coordinators
            .iter()
            .all(|one| one.error_code == ErrorCode::None)
        {
            break response;
        }
        assert!(Broker::foreign().is_some(), "{:?}", response.coordinators);
    };
    let metadata = client.metadata(Some(&["__consumer_offsets"]));
    let offsets = &metadata.topics[0];
    assert!(offsets.is_internal);
    assert_eq!(offsets.partitions.len(), 50);
    for (one, partition) in response.coordinators.iter().zip([12, 47]) {
        let leader = offsets
            .partitions
            .iter()
            .find(|part| part.partition == partition)
            .unwrap()
            .leader_id;
        assert_eq!(one.node_id, leader, "{}", one.key);
    }
    let request = FindCoordinatorRequest {
        key: "my-group",
        ..FindCoordinatorRequest::default()
    };
    let old: FindCoordinatorResponse = client.call(0, &request).unwrap();
    assert_eq!(
        (old.error_code, old.node_id),
        (ErrorCode::None, response.coordinators[0].node_id)
    );
    let part = client
        .produce(
            9,
            "__consumer_offsets",
            0,
            -1,
            Some(&batch(Compression::None, &[b"a"])),
        )
        .unwrap();
    assert_eq!(part.error_code, ErrorCode::InvalidTopicException);
}

#[test]
fn a_topic_that_metadata_creates_can_be_written_at_once() {
    let broker = Broker::start();
    let mut client = broker.client();
    let name = format!("auto-{}", std::process::id());
    let ask = |client: &mut Client, name: &str, allow_auto_topic_creation| {
        let topics = [MetadataRequestTopic {
            name: Some(name),
            ..MetadataRequestTopic::default()
        }];
        let request = MetadataRequest {
            topics: Some(Array::from_slice(&topics)),
            allow_auto_topic_creation,
            ..MetadataRequest::default()
        };
        let mut response: MetadataResponse = client.call(9, &request).unwrap();
        response.topics.remove(0)
    };
    assert_eq!(
        ask(&mut client, &name, false).error_code,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        ask(&mut client, "not a name", true).error_code,
        ErrorCode::InvalidTopicException
    );
    let topic = ask(&mut client, &name, true);
    if Broker::foreign().is_none() {
        assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::None, 1));
        let mut leader = broker.node(topic.partitions[0].leader_id);
        let part = leader
            .produce(9, &name, 0, -1, Some(&batch(Compression::None, &[b"a"])))
            .unwrap();
        assert_eq!((part.error_code, part.base_offset), (ErrorCode::None, 0));
    }
}

#[test]
fn all_topics_can_be_asked_for_as_librdkafka_does_with_bytes_behind_the_request() {
    let broker = Broker::start();
    let mut client = broker.client();
    let name = client.create_topic(1, &[]);
    for version in 9..=12 {
        // librdkafka 2.12 keeps four bytes for the number of topics where a request for all of them has one.
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let mut frame = request.encode(version, 7, Some("rdkafka"));
        frame.extend([0, 0, 0]);
        let length = i32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        client.send_bytes(&frame);
        let response: MetadataResponse = client.receive(version, 7).unwrap();
        assert!(
            response
                .topics
                .iter()
                .any(|topic| topic.name.as_ref() == Some(&name)),
            "Metadata {version} lists {name}"
        );
    }
}
