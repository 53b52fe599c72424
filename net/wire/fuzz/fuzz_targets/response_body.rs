//! Bodies of responses, as the load generator and the command line read them: the first byte chooses the API, the
//! second the version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::messages::*;
use wire::{API_TABLE, ApiKey, Reader, Response, decode_response_header};

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let api = &API_TABLE[usize::from(*api) % API_TABLE.len()];
    let version = api.min_version + i16::from(*version) % (api.max_version - api.min_version + 1);
    // What was read can be written and read again, and is no longer than what came.
    macro_rules! check {
        ($response:ty) => {
            if let Ok(response) = <$response>::decode(Reader::new(body), version) {
                let frame = response.encode(version, 7);
                let (correlation_id, again) =
                    decode_response_header(&frame[4..], api.key, version).expect("our own header");
                assert_eq!(correlation_id, 7);
                assert!(again.remaining() <= body.len());
                assert_eq!(<$response>::decode(again, version), Ok(response));
            }
        };
    }
    match api.key {
        ApiKey::Produce => check!(produce::ProduceResponse),
        ApiKey::Fetch => check!(fetch::FetchResponse<&[u8]>),
        ApiKey::ListOffsets => check!(list_offsets::ListOffsetsResponse),
        ApiKey::Metadata => check!(metadata::MetadataResponse),
        ApiKey::FindCoordinator => check!(find_coordinator::FindCoordinatorResponse),
        ApiKey::ApiVersions => check!(api_versions::ApiVersionsResponse),
        ApiKey::CreateTopics => check!(create_topics::CreateTopicsResponse),
        ApiKey::DeleteTopics => check!(delete_topics::DeleteTopicsResponse),
        ApiKey::InitProducerId => check!(init_producer_id::InitProducerIdResponse),
        ApiKey::OffsetForLeaderEpoch => check!(offset_for_leader_epoch::OffsetForLeaderEpochResponse),
        ApiKey::OffsetCommit => check!(offset_commit::OffsetCommitResponse),
        ApiKey::OffsetFetch => check!(offset_fetch::OffsetFetchResponse),
        ApiKey::JoinGroup => check!(join_group::JoinGroupResponse),
        ApiKey::Heartbeat => check!(heartbeat::HeartbeatResponse),
        ApiKey::LeaveGroup => check!(leave_group::LeaveGroupResponse),
        ApiKey::SyncGroup => check!(sync_group::SyncGroupResponse),
        ApiKey::DescribeGroups => check!(describe_groups::DescribeGroupsResponse),
        ApiKey::ListGroups => check!(list_groups::ListGroupsResponse),
        ApiKey::DeleteGroups => check!(delete_groups::DeleteGroupsResponse),
        ApiKey::OffsetDelete => check!(offset_delete::OffsetDeleteResponse),
        ApiKey::DeleteRecords => check!(delete_records::DeleteRecordsResponse),
        ApiKey::DescribeConfigs => check!(describe_configs::DescribeConfigsResponse),
        ApiKey::AlterConfigs => check!(alter_configs::AlterConfigsResponse),
        ApiKey::DescribeLogDirs => check!(describe_log_dirs::DescribeLogDirsResponse),
        ApiKey::CreatePartitions => check!(create_partitions::CreatePartitionsResponse),
        ApiKey::IncrementalAlterConfigs => check!(incremental_alter_configs::IncrementalAlterConfigsResponse),
        ApiKey::DescribeCluster => check!(describe_cluster::DescribeClusterResponse),
        ApiKey::DescribeTopicPartitions => check!(describe_topic_partitions::DescribeTopicPartitionsResponse),
    }
});
