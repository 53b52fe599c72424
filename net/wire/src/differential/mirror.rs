//! Which field of ours is which field of the published codec, by name: a swapped pair would read back unchanged in a
//! round trip of our own.

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::StrBytes;

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::Records;
use crate::messages::*;
use crate::primitive::{ByteString, Uuid};
use crate::schema::{Decode, NullableStruct};

/// The same value in the published codec's type.
pub(crate) trait Mirror<K> {
    fn mirror(&self) -> K;
}

macro_rules! mirror {
    ($($ours:ty => $theirs:ty { $($our_field:ident: $their_field:ident),* $(,)? })*) => {$(
        impl Mirror<$theirs> for $ours {
            fn mirror(&self) -> $theirs {
                let mut value = <$theirs>::default();
                $(value.$their_field = self.$our_field.mirror();)*
                value
            }
        }
    )*};
}

mirror! {
    api_versions::ApiVersionsRequest<'_> => theirs::ApiVersionsRequest {
        client_software_name: client_software_name, client_software_version: client_software_version,
    }
    api_versions::ApiVersionsResponse => theirs::ApiVersionsResponse {
        error_code: error_code, api_keys: api_keys, throttle_time_ms: throttle_time_ms,
        supported_features: supported_features, finalized_features_epoch: finalized_features_epoch,
        finalized_features: finalized_features, zk_migration_ready: zk_migration_ready,
    }
    api_versions::ApiVersionRange => theirs::api_versions_response::ApiVersion {
        api_key: api_key, min_version: min_version, max_version: max_version,
    }
    api_versions::SupportedFeature => theirs::api_versions_response::SupportedFeatureKey {
        name: name, min_version: min_version, max_version: max_version,
    }
    api_versions::FinalizedFeature => theirs::api_versions_response::FinalizedFeatureKey {
        name: name, max_version_level: max_version_level, min_version_level: min_version_level,
    }

    create_topics::CreateTopicsRequest<'_> => theirs::CreateTopicsRequest {
        topics: topics, timeout_ms: timeout_ms, validate_only: validate_only,
    }
    create_topics::CreatableTopic<'_> => theirs::create_topics_request::CreatableTopic {
        name: name, num_partitions: num_partitions, replication_factor: replication_factor,
        assignments: assignments, configs: configs,
    }
    create_topics::CreatableReplicaAssignment<'_> => theirs::create_topics_request::CreatableReplicaAssignment {
        partition: partition_index, broker_ids: broker_ids,
    }
    create_topics::CreatableTopicConfig<'_> => theirs::create_topics_request::CreatableTopicConfig {
        name: name, value: value,
    }
    create_topics::CreateTopicsResponse => theirs::CreateTopicsResponse {
        throttle_time_ms: throttle_time_ms, topics: topics,
    }
    create_topics::CreatableTopicResult => theirs::create_topics_response::CreatableTopicResult {
        name: name, topic_id: topic_id, error_code: error_code, error_message: error_message,
        topic_config_error_code: topic_config_error_code, num_partitions: num_partitions,
        replication_factor: replication_factor, configs: configs,
    }
    create_topics::CreatableTopicConfigResult => theirs::create_topics_response::CreatableTopicConfigs {
        name: name, value: value, read_only: read_only, config_source: config_source, is_sensitive: is_sensitive,
    }

    delete_topics::DeleteTopicsRequest<'_> => theirs::DeleteTopicsRequest {
        topics: topics, topic_names: topic_names, timeout_ms: timeout_ms,
    }
    delete_topics::DeleteTopicState<'_> => theirs::delete_topics_request::DeleteTopicState {
        name: name, topic_id: topic_id,
    }
    delete_topics::DeleteTopicsResponse => theirs::DeleteTopicsResponse {
        throttle_time_ms: throttle_time_ms, topics: responses,
    }
    delete_topics::DeletableTopicResult => theirs::delete_topics_response::DeletableTopicResult {
        name: name, topic_id: topic_id, error_code: error_code, error_message: error_message,
    }

    fetch::FetchRequest<'_> => theirs::FetchRequest {
        cluster_id: cluster_id, replica_id: replica_id, replica_state: replica_state, max_wait_ms: max_wait_ms,
        min_bytes: min_bytes, max_bytes: max_bytes, isolation_level: isolation_level, session_id: session_id,
        session_epoch: session_epoch, topics: topics, forgotten_topics: forgotten_topics_data, rack_id: rack_id,
    }
    fetch::ReplicaState => theirs::fetch_request::ReplicaState {
        replica_id: replica_id, replica_epoch: replica_epoch,
    }
    fetch::FetchTopic<'_> => theirs::fetch_request::FetchTopic {
        name: topic, topic_id: topic_id, partitions: partitions,
    }
    fetch::FetchPartition => theirs::fetch_request::FetchPartition {
        partition: partition, current_leader_epoch: current_leader_epoch, fetch_offset: fetch_offset,
        last_fetched_epoch: last_fetched_epoch, log_start_offset: log_start_offset,
        partition_max_bytes: partition_max_bytes, replica_directory_id: replica_directory_id,
    }
    fetch::ForgottenTopic<'_> => theirs::fetch_request::ForgottenTopic {
        name: topic, topic_id: topic_id, partitions: partitions,
    }
    fetch::FetchResponse<&'static [u8]> => theirs::FetchResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, session_id: session_id, topics: responses,
        node_endpoints: node_endpoints,
    }
    fetch::FetchTopicResponse<&'static [u8]> => theirs::fetch_response::FetchableTopicResponse {
        name: topic, topic_id: topic_id, partitions: partitions,
    }
    fetch::FetchPartitionResponse<&'static [u8]> => theirs::fetch_response::PartitionData {
        partition: partition_index, error_code: error_code, high_watermark: high_watermark,
        last_stable_offset: last_stable_offset, log_start_offset: log_start_offset,
        diverging_epoch: diverging_epoch, current_leader: current_leader, snapshot_id: snapshot_id,
        aborted_transactions: aborted_transactions, preferred_read_replica: preferred_read_replica,
        records: records,
    }
    fetch::EpochEndOffset => theirs::fetch_response::EpochEndOffset { epoch: epoch, end_offset: end_offset }
    fetch::SnapshotId => theirs::fetch_response::SnapshotId { end_offset: end_offset, epoch: epoch }
    fetch::AbortedTransaction => theirs::fetch_response::AbortedTransaction {
        producer_id: producer_id, first_offset: first_offset,
    }
    leader::LeaderIdAndEpoch => theirs::fetch_response::LeaderIdAndEpoch {
        leader_id: leader_id, leader_epoch: leader_epoch,
    }
    leader::NodeEndpoint => theirs::fetch_response::NodeEndpoint {
        node_id: node_id, host: host, port: port, rack: rack,
    }

    find_coordinator::FindCoordinatorRequest<'_> => theirs::FindCoordinatorRequest {
        key: key, key_type: key_type, coordinator_keys: coordinator_keys,
    }
    find_coordinator::FindCoordinatorResponse => theirs::FindCoordinatorResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, error_message: error_message,
        node_id: node_id, host: host, port: port, coordinators: coordinators,
    }
    find_coordinator::Coordinator => theirs::find_coordinator_response::Coordinator {
        key: key, node_id: node_id, host: host, port: port, error_code: error_code, error_message: error_message,
    }

    init_producer_id::InitProducerIdRequest<'_> => theirs::InitProducerIdRequest {
        transactional_id: transactional_id, transaction_timeout_ms: transaction_timeout_ms,
        producer_id: producer_id, producer_epoch: producer_epoch,
    }
    init_producer_id::InitProducerIdResponse => theirs::InitProducerIdResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, producer_id: producer_id,
        producer_epoch: producer_epoch,
    }

    list_offsets::ListOffsetsRequest<'_> => theirs::ListOffsetsRequest {
        replica_id: replica_id, isolation_level: isolation_level, topics: topics,
    }
    list_offsets::ListOffsetsTopic<'_> => theirs::list_offsets_request::ListOffsetsTopic {
        name: name, partitions: partitions,
    }
    list_offsets::ListOffsetsPartition => theirs::list_offsets_request::ListOffsetsPartition {
        partition: partition_index, current_leader_epoch: current_leader_epoch, timestamp: timestamp,
    }
    list_offsets::ListOffsetsResponse => theirs::ListOffsetsResponse {
        throttle_time_ms: throttle_time_ms, topics: topics,
    }
    list_offsets::ListOffsetsTopicResponse => theirs::list_offsets_response::ListOffsetsTopicResponse {
        name: name, partitions: partitions,
    }
    list_offsets::ListOffsetsPartitionResponse => theirs::list_offsets_response::ListOffsetsPartitionResponse {
        partition: partition_index, error_code: error_code, timestamp: timestamp, offset: offset,
        leader_epoch: leader_epoch,
    }

    metadata::MetadataRequest<'_> => theirs::MetadataRequest {
        topics: topics, allow_auto_topic_creation: allow_auto_topic_creation,
        include_cluster_authorized_operations: include_cluster_authorized_operations,
        include_topic_authorized_operations: include_topic_authorized_operations,
    }
    metadata::MetadataRequestTopic<'_> => theirs::metadata_request::MetadataRequestTopic {
        topic_id: topic_id, name: name,
    }
    metadata::MetadataResponse => theirs::MetadataResponse {
        throttle_time_ms: throttle_time_ms, brokers: brokers, cluster_id: cluster_id,
        controller_id: controller_id, topics: topics,
        cluster_authorized_operations: cluster_authorized_operations,
    }
    metadata::MetadataBroker => theirs::metadata_response::MetadataResponseBroker {
        node_id: node_id, host: host, port: port, rack: rack,
    }
    metadata::MetadataTopic => theirs::metadata_response::MetadataResponseTopic {
        error_code: error_code, name: name, topic_id: topic_id, is_internal: is_internal,
        partitions: partitions, topic_authorized_operations: topic_authorized_operations,
    }
    metadata::MetadataPartition => theirs::metadata_response::MetadataResponsePartition {
        error_code: error_code, partition: partition_index, leader_id: leader_id, leader_epoch: leader_epoch,
        replica_nodes: replica_nodes, isr_nodes: isr_nodes, offline_replicas: offline_replicas,
    }

    offset_for_leader_epoch::OffsetForLeaderEpochRequest<'_> => theirs::OffsetForLeaderEpochRequest {
        replica_id: replica_id, topics: topics,
    }
    offset_for_leader_epoch::OffsetForLeaderTopic<'_>
        => theirs::offset_for_leader_epoch_request::OffsetForLeaderTopic { name: topic, partitions: partitions }
    offset_for_leader_epoch::OffsetForLeaderPartition
        => theirs::offset_for_leader_epoch_request::OffsetForLeaderPartition {
            partition: partition, current_leader_epoch: current_leader_epoch, leader_epoch: leader_epoch,
        }
    offset_for_leader_epoch::OffsetForLeaderEpochResponse => theirs::OffsetForLeaderEpochResponse {
        throttle_time_ms: throttle_time_ms, topics: topics,
    }
    offset_for_leader_epoch::OffsetForLeaderTopicResponse
        => theirs::offset_for_leader_epoch_response::OffsetForLeaderTopicResult {
            name: topic, partitions: partitions,
        }
    offset_for_leader_epoch::OffsetForLeaderPartitionResponse
        => theirs::offset_for_leader_epoch_response::EpochEndOffset {
            error_code: error_code, partition: partition, leader_epoch: leader_epoch, end_offset: end_offset,
        }

    join_group::JoinGroupRequest<'_> => theirs::JoinGroupRequest {
        group_id: group_id, session_timeout_ms: session_timeout_ms, rebalance_timeout_ms: rebalance_timeout_ms,
        member_id: member_id, group_instance_id: group_instance_id, protocol_type: protocol_type,
        protocols: protocols, reason: reason,
    }
    join_group::JoinGroupProtocol<'_> => theirs::join_group_request::JoinGroupRequestProtocol {
        name: name, metadata: metadata,
    }
    join_group::JoinGroupResponse => theirs::JoinGroupResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, generation_id: generation_id,
        protocol_type: protocol_type, protocol_name: protocol_name, leader: leader,
        skip_assignment: skip_assignment, member_id: member_id, members: members,
    }
    join_group::JoinGroupMember => theirs::join_group_response::JoinGroupResponseMember {
        member_id: member_id, group_instance_id: group_instance_id, metadata: metadata,
    }

    sync_group::SyncGroupRequest<'_> => theirs::SyncGroupRequest {
        group_id: group_id, generation_id: generation_id, member_id: member_id,
        group_instance_id: group_instance_id, protocol_type: protocol_type, protocol_name: protocol_name,
        assignments: assignments,
    }
    sync_group::SyncGroupAssignment<'_> => theirs::sync_group_request::SyncGroupRequestAssignment {
        member_id: member_id, assignment: assignment,
    }
    sync_group::SyncGroupResponse => theirs::SyncGroupResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, protocol_type: protocol_type,
        protocol_name: protocol_name, assignment: assignment,
    }

    heartbeat::HeartbeatRequest<'_> => theirs::HeartbeatRequest {
        group_id: group_id, generation_id: generation_id, member_id: member_id,
        group_instance_id: group_instance_id,
    }
    heartbeat::HeartbeatResponse => theirs::HeartbeatResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code,
    }

    leave_group::LeaveGroupRequest<'_> => theirs::LeaveGroupRequest {
        group_id: group_id, member_id: member_id, members: members,
    }
    leave_group::LeavingMember<'_> => theirs::leave_group_request::MemberIdentity {
        member_id: member_id, group_instance_id: group_instance_id, reason: reason,
    }
    leave_group::LeaveGroupResponse => theirs::LeaveGroupResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, members: members,
    }
    leave_group::LeftMember => theirs::leave_group_response::MemberResponse {
        member_id: member_id, group_instance_id: group_instance_id, error_code: error_code,
    }

    offset_commit::OffsetCommitRequest<'_> => theirs::OffsetCommitRequest {
        group_id: group_id, generation_id: generation_id_or_member_epoch, member_id: member_id,
        group_instance_id: group_instance_id, retention_time_ms: retention_time_ms, topics: topics,
    }
    offset_commit::OffsetCommitTopic<'_> => theirs::offset_commit_request::OffsetCommitRequestTopic {
        name: name, partitions: partitions,
    }
    offset_commit::OffsetCommitPartition<'_> => theirs::offset_commit_request::OffsetCommitRequestPartition {
        partition: partition_index, committed_offset: committed_offset,
        committed_leader_epoch: committed_leader_epoch, committed_metadata: committed_metadata,
    }
    offset_commit::OffsetCommitResponse => theirs::OffsetCommitResponse {
        throttle_time_ms: throttle_time_ms, topics: topics,
    }
    offset_commit::OffsetCommitTopicResponse => theirs::offset_commit_response::OffsetCommitResponseTopic {
        name: name, partitions: partitions,
    }
    offset_commit::OffsetCommitPartitionResponse
        => theirs::offset_commit_response::OffsetCommitResponsePartition {
            partition: partition_index, error_code: error_code,
        }

    offset_fetch::OffsetFetchRequest<'_> => theirs::OffsetFetchRequest {
        group_id: group_id, topics: topics, groups: groups, require_stable: require_stable,
    }
    offset_fetch::OffsetFetchGroup<'_> => theirs::offset_fetch_request::OffsetFetchRequestGroup {
        group_id: group_id, member_id: member_id, member_epoch: member_epoch, topics: topics,
    }
    offset_fetch::OffsetFetchTopic<'_> => theirs::offset_fetch_request::OffsetFetchRequestTopic {
        name: name, partition_indexes: partition_indexes,
    }
    offset_fetch::OffsetFetchTopic<'_> => theirs::offset_fetch_request::OffsetFetchRequestTopics {
        name: name, partition_indexes: partition_indexes,
    }
    offset_fetch::OffsetFetchResponse => theirs::OffsetFetchResponse {
        throttle_time_ms: throttle_time_ms, topics: topics, error_code: error_code, groups: groups,
    }
    offset_fetch::OffsetFetchGroupResponse => theirs::offset_fetch_response::OffsetFetchResponseGroup {
        group_id: group_id, topics: topics, error_code: error_code,
    }
    offset_fetch::OffsetFetchTopicResponse => theirs::offset_fetch_response::OffsetFetchResponseTopic {
        name: name, partitions: partitions,
    }
    offset_fetch::OffsetFetchTopicResponse => theirs::offset_fetch_response::OffsetFetchResponseTopics {
        name: name, partitions: partitions,
    }
    offset_fetch::OffsetFetchPartitionResponse => theirs::offset_fetch_response::OffsetFetchResponsePartition {
        partition: partition_index, committed_offset: committed_offset,
        committed_leader_epoch: committed_leader_epoch, metadata: metadata, error_code: error_code,
    }
    offset_fetch::OffsetFetchPartitionResponse => theirs::offset_fetch_response::OffsetFetchResponsePartitions {
        partition: partition_index, committed_offset: committed_offset,
        committed_leader_epoch: committed_leader_epoch, metadata: metadata, error_code: error_code,
    }

    offset_delete::OffsetDeleteRequest<'_> => theirs::OffsetDeleteRequest {
        group_id: group_id, topics: topics,
    }
    offset_delete::OffsetDeleteTopic<'_> => theirs::offset_delete_request::OffsetDeleteRequestTopic {
        name: name, partitions: partitions,
    }
    offset_delete::OffsetDeletePartition => theirs::offset_delete_request::OffsetDeleteRequestPartition {
        partition: partition_index,
    }
    offset_delete::OffsetDeleteResponse => theirs::OffsetDeleteResponse {
        error_code: error_code, throttle_time_ms: throttle_time_ms, topics: topics,
    }
    offset_delete::OffsetDeleteTopicResponse => theirs::offset_delete_response::OffsetDeleteResponseTopic {
        name: name, partitions: partitions,
    }
    offset_delete::OffsetDeletePartitionResponse
        => theirs::offset_delete_response::OffsetDeleteResponsePartition {
            partition: partition_index, error_code: error_code,
        }

    list_groups::ListGroupsRequest<'_> => theirs::ListGroupsRequest {
        states_filter: states_filter, types_filter: types_filter,
    }
    list_groups::ListGroupsResponse => theirs::ListGroupsResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, groups: groups,
    }
    list_groups::ListedGroup => theirs::list_groups_response::ListedGroup {
        group_id: group_id, protocol_type: protocol_type, group_state: group_state, group_type: group_type,
    }

    describe_groups::DescribeGroupsRequest<'_> => theirs::DescribeGroupsRequest {
        groups: groups, include_authorized_operations: include_authorized_operations,
    }
    describe_groups::DescribeGroupsResponse => theirs::DescribeGroupsResponse {
        throttle_time_ms: throttle_time_ms, groups: groups,
    }
    describe_groups::DescribedGroup => theirs::describe_groups_response::DescribedGroup {
        error_code: error_code, error_message: error_message, group_id: group_id, group_state: group_state,
        protocol_type: protocol_type, protocol_data: protocol_data, members: members,
        authorized_operations: authorized_operations,
    }
    describe_groups::DescribedMember => theirs::describe_groups_response::DescribedGroupMember {
        member_id: member_id, group_instance_id: group_instance_id, client_id: client_id,
        client_host: client_host, member_metadata: member_metadata, member_assignment: member_assignment,
    }

    delete_groups::DeleteGroupsRequest<'_> => theirs::DeleteGroupsRequest {
        groups_names: groups_names,
    }
    delete_groups::DeleteGroupsResponse => theirs::DeleteGroupsResponse {
        throttle_time_ms: throttle_time_ms, results: results,
    }
    delete_groups::DeletedGroup => theirs::delete_groups_response::DeletableGroupResult {
        group_id: group_id, error_code: error_code,
    }

    delete_records::DeleteRecordsRequest<'_> => theirs::DeleteRecordsRequest {
        topics: topics, timeout_ms: timeout_ms,
    }
    delete_records::DeleteRecordsTopic<'_> => theirs::delete_records_request::DeleteRecordsTopic {
        name: name, partitions: partitions,
    }
    delete_records::DeleteRecordsPartition => theirs::delete_records_request::DeleteRecordsPartition {
        partition: partition_index, offset: offset,
    }
    delete_records::DeleteRecordsResponse => theirs::DeleteRecordsResponse {
        throttle_time_ms: throttle_time_ms, topics: topics,
    }
    delete_records::DeleteRecordsTopicResult => theirs::delete_records_response::DeleteRecordsTopicResult {
        name: name, partitions: partitions,
    }
    delete_records::DeleteRecordsPartitionResult
        => theirs::delete_records_response::DeleteRecordsPartitionResult {
            partition: partition_index, low_watermark: low_watermark, error_code: error_code,
        }

    describe_configs::DescribeConfigsRequest<'_> => theirs::DescribeConfigsRequest {
        resources: resources, include_synonyms: include_synonyms, include_documentation: include_documentation,
    }
    describe_configs::DescribeConfigsResource<'_> => theirs::describe_configs_request::DescribeConfigsResource {
        resource_type: resource_type, resource_name: resource_name, configuration_keys: configuration_keys,
    }
    describe_configs::DescribeConfigsResponse => theirs::DescribeConfigsResponse {
        throttle_time_ms: throttle_time_ms, results: results,
    }
    describe_configs::DescribeConfigsResult => theirs::describe_configs_response::DescribeConfigsResult {
        error_code: error_code, error_message: error_message, resource_type: resource_type,
        resource_name: resource_name, configs: configs,
    }
    describe_configs::DescribedConfig => theirs::describe_configs_response::DescribeConfigsResourceResult {
        name: name, value: value, read_only: read_only, config_source: config_source, is_sensitive: is_sensitive,
        synonyms: synonyms, config_type: config_type, documentation: documentation,
    }
    describe_configs::ConfigSynonym => theirs::describe_configs_response::DescribeConfigsSynonym {
        name: name, value: value, source: source,
    }

    alter_configs::AlterConfigsRequest<'_> => theirs::AlterConfigsRequest {
        resources: resources, validate_only: validate_only,
    }
    alter_configs::AlterConfigsResource<'_> => theirs::alter_configs_request::AlterConfigsResource {
        resource_type: resource_type, resource_name: resource_name, configs: configs,
    }
    alter_configs::AlteredConfig<'_> => theirs::alter_configs_request::AlterableConfig {
        name: name, value: value,
    }
    alter_configs::AlterConfigsResponse => theirs::AlterConfigsResponse {
        throttle_time_ms: throttle_time_ms, responses: responses,
    }
    alter_configs::AlteredResource => theirs::alter_configs_response::AlterConfigsResourceResponse {
        error_code: error_code, error_message: error_message, resource_type: resource_type,
        resource_name: resource_name,
    }

    incremental_alter_configs::IncrementalAlterConfigsRequest<'_> => theirs::IncrementalAlterConfigsRequest {
        resources: resources, validate_only: validate_only,
    }
    incremental_alter_configs::IncrementalAlterConfigsResource<'_>
        => theirs::incremental_alter_configs_request::AlterConfigsResource {
            resource_type: resource_type, resource_name: resource_name, configs: configs,
        }
    incremental_alter_configs::ChangedConfig<'_> => theirs::incremental_alter_configs_request::AlterableConfig {
        name: name, config_operation: config_operation, value: value,
    }
    incremental_alter_configs::IncrementalAlterConfigsResponse => theirs::IncrementalAlterConfigsResponse {
        throttle_time_ms: throttle_time_ms, responses: responses,
    }
    alter_configs::AlteredResource => theirs::incremental_alter_configs_response::AlterConfigsResourceResponse {
        error_code: error_code, error_message: error_message, resource_type: resource_type,
        resource_name: resource_name,
    }

    create_partitions::CreatePartitionsRequest<'_> => theirs::CreatePartitionsRequest {
        topics: topics, timeout_ms: timeout_ms, validate_only: validate_only,
    }
    create_partitions::CreatePartitionsTopic<'_> => theirs::create_partitions_request::CreatePartitionsTopic {
        name: name, count: count, assignments: assignments,
    }
    create_partitions::CreatePartitionsAssignment<'_>
        => theirs::create_partitions_request::CreatePartitionsAssignment { broker_ids: broker_ids }
    create_partitions::CreatePartitionsResponse => theirs::CreatePartitionsResponse {
        throttle_time_ms: throttle_time_ms, results: results,
    }
    create_partitions::CreatePartitionsResult => theirs::create_partitions_response::CreatePartitionsTopicResult {
        name: name, error_code: error_code, error_message: error_message,
    }

    describe_cluster::DescribeClusterRequest => theirs::DescribeClusterRequest {
        include_cluster_authorized_operations: include_cluster_authorized_operations,
        endpoint_type: endpoint_type, include_fenced_brokers: include_fenced_brokers,
    }
    describe_cluster::DescribeClusterResponse => theirs::DescribeClusterResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, error_message: error_message,
        endpoint_type: endpoint_type, cluster_id: cluster_id, controller_id: controller_id, brokers: brokers,
        cluster_authorized_operations: cluster_authorized_operations,
    }
    describe_cluster::ClusterBroker => theirs::describe_cluster_response::DescribeClusterBroker {
        broker_id: broker_id, host: host, port: port, rack: rack, is_fenced: is_fenced,
    }

    describe_log_dirs::DescribeLogDirsRequest<'_> => theirs::DescribeLogDirsRequest { topics: topics, }
    describe_log_dirs::DescribeLogDirsTopic<'_> => theirs::describe_log_dirs_request::DescribableLogDirTopic {
        topic: topic, partitions: partitions,
    }
    describe_log_dirs::DescribeLogDirsResponse => theirs::DescribeLogDirsResponse {
        throttle_time_ms: throttle_time_ms, error_code: error_code, results: results,
    }
    describe_log_dirs::DescribedLogDir => theirs::describe_log_dirs_response::DescribeLogDirsResult {
        error_code: error_code, log_dir: log_dir, topics: topics, total_bytes: total_bytes,
        usable_bytes: usable_bytes,
    }
    describe_log_dirs::DescribedLogDirTopic => theirs::describe_log_dirs_response::DescribeLogDirsTopic {
        name: name, partitions: partitions,
    }
    describe_log_dirs::DescribedLogDirPartition => theirs::describe_log_dirs_response::DescribeLogDirsPartition {
        partition_index: partition_index, partition_size: partition_size, offset_lag: offset_lag,
        is_future_key: is_future_key,
    }

    describe_topic_partitions::DescribeTopicPartitionsRequest<'_> => theirs::DescribeTopicPartitionsRequest {
        topics: topics, response_partition_limit: response_partition_limit, cursor: cursor,
    }
    describe_topic_partitions::DescribeTopicPartitionsTopic<'_>
        => theirs::describe_topic_partitions_request::TopicRequest { name: name }
    describe_topic_partitions::PartitionCursor<'_> => theirs::describe_topic_partitions_request::Cursor {
        topic_name: topic_name, partition_index: partition_index,
    }
    describe_topic_partitions::DescribeTopicPartitionsResponse => theirs::DescribeTopicPartitionsResponse {
        throttle_time_ms: throttle_time_ms, topics: topics, next_cursor: next_cursor,
    }
    describe_topic_partitions::DescribedTopic
        => theirs::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic {
            error_code: error_code, name: name, topic_id: topic_id, is_internal: is_internal,
            partitions: partitions, topic_authorized_operations: topic_authorized_operations,
        }
    describe_topic_partitions::DescribedPartition
        => theirs::describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition {
            error_code: error_code, partition_index: partition_index, leader_id: leader_id,
            leader_epoch: leader_epoch, replica_nodes: replica_nodes, isr_nodes: isr_nodes,
            eligible_leader_replicas: eligible_leader_replicas, last_known_elr: last_known_elr,
            offline_replicas: offline_replicas,
        }
    describe_topic_partitions::NextPartitionCursor => theirs::describe_topic_partitions_response::Cursor {
        topic_name: topic_name, partition_index: partition_index,
    }

    produce::ProduceRequest<'_> => theirs::ProduceRequest {
        transactional_id: transactional_id, acks: acks, timeout_ms: timeout_ms, topics: topic_data,
    }
    produce::ProduceTopic<'_> => theirs::produce_request::TopicProduceData {
        name: name, partitions: partition_data,
    }
    produce::ProducePartition<'_> => theirs::produce_request::PartitionProduceData {
        partition: index, records: records,
    }
    produce::ProduceResponse => theirs::ProduceResponse {
        topics: responses, throttle_time_ms: throttle_time_ms, node_endpoints: node_endpoints,
    }
    produce::ProduceTopicResponse => theirs::produce_response::TopicProduceResponse {
        name: name, partitions: partition_responses,
    }
    produce::ProducePartitionResponse => theirs::produce_response::PartitionProduceResponse {
        partition: index, error_code: error_code, base_offset: base_offset,
        log_append_time_ms: log_append_time_ms, log_start_offset: log_start_offset,
        record_errors: record_errors, error_message: error_message, current_leader: current_leader,
    }
    produce::RecordError => theirs::produce_response::BatchIndexAndErrorMessage {
        batch_index: batch_index, batch_index_error_message: batch_index_error_message,
    }
    leader::LeaderIdAndEpoch => theirs::produce_response::LeaderIdAndEpoch {
        leader_id: leader_id, leader_epoch: leader_epoch,
    }
    leader::NodeEndpoint => theirs::produce_response::NodeEndpoint {
        node_id: node_id, host: host, port: port, rack: rack,
    }
}

macro_rules! mirror_values {
    ($($ours:ty => $theirs:ty, |$value:ident| $mirrored:expr;)*) => {$(
        impl Mirror<$theirs> for $ours {
            fn mirror(&self) -> $theirs {
                let $value = self;
                $mirrored
            }
        }
    )*};
}

mirror_values! {
    bool => bool, |value| *value;
    i8 => i8, |value| *value;
    i16 => i16, |value| *value;
    i32 => i32, |value| *value;
    i64 => i64, |value| *value;
    i32 => theirs::BrokerId, |value| (*value).into();
    i64 => theirs::ProducerId, |value| (*value).into();
    ErrorCode => i16, |value| value.code();
    Uuid => uuid::Uuid, |value| uuid::Uuid::from_bytes(value.0);
    &str => StrBytes, |value| StrBytes::from_string((*value).to_owned());
    &str => theirs::TopicName, |value| StrBytes::from_string((*value).to_owned()).into();
    &str => theirs::GroupId, |value| StrBytes::from_string((*value).to_owned()).into();
    &str => theirs::TransactionalId, |value| StrBytes::from_string((*value).to_owned()).into();
    String => StrBytes, |value| StrBytes::from_string(value.clone());
    String => theirs::GroupId, |value| StrBytes::from_string(value.clone()).into();
    String => theirs::TopicName, |value| StrBytes::from_string(value.clone()).into();
    &[u8] => Bytes, |value| Bytes::copy_from_slice(value);
    ByteString => Bytes, |value| value.0.clone().into();
    Records<&'static [u8]> => Option<Bytes>, |value| Some(value.0.concat().into());
}

impl<T: Mirror<K>, K> Mirror<Option<K>> for Option<T> {
    fn mirror(&self) -> Option<K> {
        self.as_ref().map(Mirror::mirror)
    }
}

impl<T: Mirror<K>, K> Mirror<Option<K>> for NullableStruct<T> {
    fn mirror(&self) -> Option<K> {
        self.0.mirror()
    }
}

impl<T: Mirror<K>, K> Mirror<Vec<K>> for Vec<T> {
    fn mirror(&self) -> Vec<K> {
        self.iter().map(Mirror::mirror).collect()
    }
}

impl<'a, T: Mirror<K> + Decode<'a> + Copy, K> Mirror<Vec<K>> for Array<'a, T> {
    fn mirror(&self) -> Vec<K> {
        self.iter().map(|element| element.mirror()).collect()
    }
}
