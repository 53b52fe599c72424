//! Bodies of requests, as a broker reads them: the first byte chooses the API, the second the version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::messages::*;
use wire::{API_TABLE, ApiKey, Reader, Request, decode_request_header};

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let api = &API_TABLE[usize::from(*api) % API_TABLE.len()];
    let version = api.min_version + i16::from(*version) % (api.max_version - api.min_version + 1);
    // What was read can be written and read again, and is no longer than what came.
    macro_rules! check {
        ($request:ty) => {
            if let Ok(request) = <$request>::decode(Reader::new(body), version) {
                let frame = request.encode(version, 7, Some("fuzz"));
                let (header, again) = decode_request_header(&frame[4..]).expect("our own header");
                assert_eq!((header.api_version, header.correlation_id), (version, 7));
                assert!(again.remaining() <= body.len());
                assert_eq!(<$request>::decode(again, version), Ok(request));
            }
        };
    }
    match api.key {
        ApiKey::Produce => check!(produce::ProduceRequest),
        ApiKey::Fetch => check!(fetch::FetchRequest),
        ApiKey::ListOffsets => check!(list_offsets::ListOffsetsRequest),
        ApiKey::Metadata => check!(metadata::MetadataRequest),
        ApiKey::FindCoordinator => check!(find_coordinator::FindCoordinatorRequest),
        ApiKey::ApiVersions => check!(api_versions::ApiVersionsRequest),
        ApiKey::CreateTopics => check!(create_topics::CreateTopicsRequest),
        ApiKey::DeleteTopics => check!(delete_topics::DeleteTopicsRequest),
        ApiKey::InitProducerId => check!(init_producer_id::InitProducerIdRequest),
        ApiKey::OffsetForLeaderEpoch => check!(offset_for_leader_epoch::OffsetForLeaderEpochRequest),
        ApiKey::OffsetCommit => check!(offset_commit::OffsetCommitRequest),
        ApiKey::OffsetFetch => check!(offset_fetch::OffsetFetchRequest),
        ApiKey::JoinGroup => check!(join_group::JoinGroupRequest),
        ApiKey::Heartbeat => check!(heartbeat::HeartbeatRequest),
        ApiKey::LeaveGroup => check!(leave_group::LeaveGroupRequest),
        ApiKey::SyncGroup => check!(sync_group::SyncGroupRequest),
        ApiKey::DescribeGroups => check!(describe_groups::DescribeGroupsRequest),
        ApiKey::ListGroups => check!(list_groups::ListGroupsRequest),
        ApiKey::DeleteGroups => check!(delete_groups::DeleteGroupsRequest),
        ApiKey::OffsetDelete => check!(offset_delete::OffsetDeleteRequest),
        ApiKey::DeleteRecords => check!(delete_records::DeleteRecordsRequest),
        ApiKey::DescribeConfigs => check!(describe_configs::DescribeConfigsRequest),
        ApiKey::AlterConfigs => check!(alter_configs::AlterConfigsRequest),
        ApiKey::DescribeLogDirs => check!(describe_log_dirs::DescribeLogDirsRequest),
        ApiKey::CreatePartitions => check!(create_partitions::CreatePartitionsRequest),
        ApiKey::IncrementalAlterConfigs => check!(incremental_alter_configs::IncrementalAlterConfigsRequest),
        ApiKey::DescribeCluster => check!(describe_cluster::DescribeClusterRequest),
        ApiKey::DescribeTopicPartitions => check!(describe_topic_partitions::DescribeTopicPartitionsRequest),
    }
});
