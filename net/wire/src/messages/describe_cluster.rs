//! DescribeCluster (key 60), versions 0-2 (KIP-700).
//!
//! 1: brokers or controllers (KIP-919). 2: fenced brokers (KIP-1073).

use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

/// The client asks for brokers.
pub const ENDPOINT_BROKERS: i8 = 1;
/// The client asks for controllers.
pub const ENDPOINT_CONTROLLERS: i8 = 2;

message! {
    /// Asks who the cluster is.
    #[derive(Copy)]
    pub struct DescribeClusterRequest {
        [..] include_cluster_authorized_operations: bool,
        [1..] endpoint_type: i8 = 1,
        [2..] include_fenced_brokers: bool,
    }
}

message! {
    /// The cluster.
    pub struct DescribeClusterResponse {
        [..] throttle_time_ms: i32,
        [..] error_code: ErrorCode,
        [..] error_message: Option<String>,
        [1..] endpoint_type: i8 = 1,
        [..] cluster_id: String,
        [..] controller_id: i32 = -1,
        [..] brokers: Vec<ClusterBroker>,
        [..] cluster_authorized_operations: i32 = i32::MIN,
    }
}

message! {
    /// A node of it.
    pub struct ClusterBroker {
        [..] broker_id: i32,
        [..] host: String,
        [..] port: i32,
        [..] rack: Option<String>,
        [2..] is_fenced: bool,
    }
}

api! { DescribeCluster: DescribeClusterRequest, DescribeClusterResponse }
