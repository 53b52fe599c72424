//! DescribeCluster (key 60), versions 0-2: the nodes, and who controls them.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::describe_cluster::{
    ClusterBroker, DescribeClusterRequest, DescribeClusterResponse, ENDPOINT_BROKERS, ENDPOINT_CONTROLLERS,
};

use crate::api::metadata::ALL_CLUSTER_OPERATIONS;
use crate::api::{Call, Handled, uuid};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeClusterRequest = call.body()?;
    if request.endpoint_type != ENDPOINT_BROKERS {
        // Kafka's brokers refuse it as well: only controllers tell of controllers.
        let error_code = match request.endpoint_type {
            ENDPOINT_CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        return call.ready(&DescribeClusterResponse {
            error_code,
            error_message: Some("this is a broker, and tells of brokers (endpoint type 1)".to_owned()),
            endpoint_type: request.endpoint_type,
            ..DescribeClusterResponse::default()
        });
    }
    let world = shard.world();
    let nodes = world.image.nodes.iter();
    call.ready(&DescribeClusterResponse {
        cluster_id: uuid(world.image.cluster_id).to_string(),
        controller_id: world.image.controller_id,
        brokers: nodes
            .map(|node| ClusterBroker {
                broker_id: node.id,
                host: node.host.clone(),
                port: i32::from(node.port),
                rack: node.rack.clone(),
                is_fenced: false,
            })
            .collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            ALL_CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..DescribeClusterResponse::default()
    })
}
