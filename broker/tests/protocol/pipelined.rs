//! Requests that are sent before those ahead of them were answered: on one connection each sees what was asked for before
//! it, and nothing of what was asked for behind it.

use wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use wire::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsTopic,
};
use wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use wire::messages::incremental_alter_configs::{
    ChangedConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
};
use wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use wire::messages::produce::ProduceResponse;
use wire::{Array, Compression, ErrorCode};

use crate::admin::{SET, TOPIC};
use crate::support::{Broker, Client, batch};

const FIRST: i64 = -2;
const NEXT: i64 = -1;

/// Sends a question for an offset of partition 0.
fn ask(client: &mut Client, topic: &str, timestamp: i64) -> i32 {
    client.send_list_offsets(7, topic, timestamp)
}

fn listed(client: &mut Client, id: i32) -> i64 {
    let part = client.listed(7, id);
    assert_eq!(part.error_code, ErrorCode::None);
    part.offset
}

#[test]
fn offsets_are_those_after_what_was_asked_for_before() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let epoch = {
        let topics = broker.client().metadata(Some(&[&topic])).topics;
        topics[0].partitions[0].leader_epoch
    };
    let partitions = [OffsetForLeaderPartition {
        leader_epoch: epoch,
        ..OffsetForLeaderPartition::default()
    }];
    let topics = [OffsetForLeaderTopic {
        name: &topic,
        partitions: Array::from_slice(&partitions),
    }];
    let end_of_epoch = OffsetForLeaderEpochRequest {
        topics: Array::from_slice(&topics),
        ..OffsetForLeaderEpochRequest::default()
    };
    let records = batch(Compression::None, &[b"a"]);
    let produce = |client: &mut Client| client.send_produce(9, &topic, 0, -1, Some(&records));
    let produced = |client: &mut Client, id: i32| {
        let response: ProduceResponse = client.receive(9, id).unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
    };
    for count in (0..200).step_by(2) {
        let sent = [
            ask(&mut client, &topic, NEXT),
            produce(&mut client),
            ask(&mut client, &topic, NEXT),
            client.send(4, &end_of_epoch),
            produce(&mut client),
        ];
        assert_eq!(listed(&mut client, sent[0]), count, "what comes behind it");
        produced(&mut client, sent[1]);
        assert_eq!(listed(&mut client, sent[2]), count + 1, "what comes between");
        let response: OffsetForLeaderEpochResponse = client.receive(4, sent[3]).unwrap();
        let end_offset = response.topics[0].partitions[0].end_offset;
        assert!((count + 1..=count + 2).contains(&end_offset), "{end_offset}");
        produced(&mut client, sent[4]);
    }
}

#[test]
fn a_log_begins_where_its_records_were_deleted_to_before() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    let records = batch(Compression::None, &[b"a", b"b", b"c"]);
    client.produce(9, &topic, 0, -1, Some(&records)).unwrap();
    // What is in flight behind it is durable when this one is answered.
    let partitions = [FetchPartition {
        partition: 0,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        name: &topic,
        partitions: Array::from_slice(&partitions),
        ..FetchTopic::default()
    }];
    let wait = FetchRequest {
        max_wait_ms: 200,
        min_bytes: 1 << 20,
        max_bytes: 1 << 20,
        topics: Array::from_slice(&topics),
        ..FetchRequest::default()
    };
    for round in 0..5 {
        let partitions = [DeleteRecordsPartition {
            partition: 0,
            offset: -1,
        }];
        let topics = [DeleteRecordsTopic {
            name: &topic,
            partitions: Array::from_slice(&partitions),
        }];
        let delete = DeleteRecordsRequest {
            topics: Array::from_slice(&topics),
            timeout_ms: 10_000,
        };
        let waiting = (round == 0).then(|| client.send(11, &wait));
        let sent = [
            ask(&mut client, &topic, FIRST),
            client.send(2, &delete),
            ask(&mut client, &topic, FIRST),
            client.send_produce(9, &topic, 0, -1, Some(&records)),
        ];
        if let Some(waiting) = waiting {
            let _: FetchResponse<Vec<u8>> = client.receive(11, waiting).unwrap();
        }
        assert_eq!(listed(&mut client, sent[0]), 3 * round);
        let deleted: DeleteRecordsResponse = client.receive(2, sent[1]).unwrap();
        assert_eq!(deleted.topics[0].partitions[0].low_watermark, 3 * (round + 1));
        assert_eq!(listed(&mut client, sent[2]), 3 * (round + 1));
        let produced: ProduceResponse = client.receive(9, sent[3]).unwrap();
        assert_eq!(produced.topics[0].partitions[0].base_offset, 3 * (round + 1));
    }
}

/// Kafka does not promise it, and its clients see it: its images come late, and the answer later still.
#[test]
fn a_topic_is_shown_as_it_was_changed_before() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.create_topic(1, &[]);
    for round in 2..12 {
        let value = (round * 1_000).to_string();
        let configs = [ChangedConfig {
            name: "retention.ms",
            config_operation: SET,
            value: Some(&value),
        }];
        let resources = [IncrementalAlterConfigsResource {
            resource_type: TOPIC,
            resource_name: &topic,
            configs: Array::from_slice(&configs),
        }];
        let alter = IncrementalAlterConfigsRequest {
            resources: Array::from_slice(&resources),
            validate_only: false,
        };
        let names = ["retention.ms"];
        let resources = [DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: &topic,
            configuration_keys: Some(Array::from_slice(&names)),
        }];
        let describe = DescribeConfigsRequest {
            resources: Array::from_slice(&resources),
            ..DescribeConfigsRequest::default()
        };
        let topics = [CreatePartitionsTopic {
            name: &topic,
            count: round,
            assignments: None,
        }];
        let grow = CreatePartitionsRequest {
            topics: Array::from_slice(&topics),
            timeout_ms: 30_000,
            validate_only: false,
        };
        let topics = [MetadataRequestTopic {
            name: Some(&topic),
            ..MetadataRequestTopic::default()
        }];
        let metadata = MetadataRequest {
            topics: Some(Array::from_slice(&topics)),
            ..MetadataRequest::default()
        };
        let topics = [DescribeTopicPartitionsTopic { name: &topic }];
        let page = DescribeTopicPartitionsRequest {
            topics: Array::from_slice(&topics),
            response_partition_limit: 100,
            ..DescribeTopicPartitionsRequest::default()
        };
        let sent = [
            client.send(1, &alter),
            client.send(4, &describe),
            client.send(3, &grow),
            client.send(9, &metadata),
            client.send(0, &page),
        ];
        let altered: IncrementalAlterConfigsResponse = client.receive(1, sent[0]).unwrap();
        assert_eq!(altered.responses[0].error_code, ErrorCode::None);
        let described: DescribeConfigsResponse = client.receive(4, sent[1]).unwrap();
        assert_eq!(described.results[0].configs[0].value.as_ref(), Some(&value));
        let grown: CreatePartitionsResponse = client.receive(3, sent[2]).unwrap();
        assert_eq!(grown.results[0].error_code, ErrorCode::None);
        let known: MetadataResponse = client.receive(9, sent[3]).unwrap();
        assert_eq!(known.topics[0].partitions.len(), round as usize);
        let page: DescribeTopicPartitionsResponse = client.receive(0, sent[4]).unwrap();
        assert_eq!(page.topics[0].partitions.len(), round as usize);
    }
}
