//! Metadata (key 3), versions 0-12.
//!
//! 1: rack, controller, internal flag; a null topic list means all. 2: cluster id. 3: throttle time. 4: auto-creation
//! may be declined. 5: offline replicas. 6: as Produce 6. 7: leader epoch. 8: authorised operations. 9: flexible.
//! 10: topic ids (KIP-516). 11: cluster operations moved to DescribeCluster. 12: topics may be asked for by id.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::primitive::Uuid;
use crate::schema::message;

/// "The client did not ask" in the fields of authorised operations.
pub const NO_AUTHORIZED_OPERATIONS: i32 = i32::MIN;

message! {
    /// Asks for nodes and topics.
    pub struct MetadataRequest<'a> {
        /// Null asks for all topics; in version 0, which has no null, an empty list does.
        [.., null 1..] topics: Option<Array<'a, MetadataRequestTopic<'a>>>,
        [4..] allow_auto_topic_creation: bool = true,
        [8..=10] include_cluster_authorized_operations: bool,
        [8..] include_topic_authorized_operations: bool,
    }
}

message! {
    /// A topic to describe. From version 10 on the name may be null and the id given.
    pub struct MetadataRequestTopic<'a> {
        [10..] topic_id: Uuid,
        [.., null 10..] name: Option<&'a str>,
    }
}

message! {
    /// Nodes and topics.
    pub struct MetadataResponse {
        [3..] throttle_time_ms: i32,
        [..] brokers: Vec<MetadataBroker>,
        [2..] cluster_id: Option<String>,
        [1..] controller_id: i32 = -1,
        [..] topics: Vec<MetadataTopic>,
        [8..=10] cluster_authorized_operations: i32 = NO_AUTHORIZED_OPERATIONS,
    }
}

message! {
    /// A node.
    pub struct MetadataBroker {
        [..] node_id: i32,
        [..] host: String,
        [..] port: i32,
        [1..] rack: Option<String>,
    }
}

message! {
    /// A topic.
    pub struct MetadataTopic {
        [..] error_code: ErrorCode,
        [.., null 12..] name: Option<String>,
        [10..] topic_id: Uuid,
        [1..] is_internal: bool,
        [..] partitions: Vec<MetadataPartition>,
        [8..] topic_authorized_operations: i32 = NO_AUTHORIZED_OPERATIONS,
    }
}

message! {
    /// A partition.
    pub struct MetadataPartition {
        [..] error_code: ErrorCode,
        [..] partition: i32,
        [..] leader_id: i32,
        [7..] leader_epoch: i32 = -1,
        [..] replica_nodes: Vec<i32>,
        [..] isr_nodes: Vec<i32>,
        [5..] offline_replicas: Vec<i32>,
    }
}

api! { Metadata: MetadataRequest<'a>, MetadataResponse }
