//! Asks every node how large the logs are that it has.

use std::collections::BTreeMap;

use net::client::{Client, ClientError};
use wire::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsTopic,
};
use wire::messages::metadata::MetadataTopic;
use wire::{Array, ErrorCode};

use crate::cli::CliError;
use crate::cli::session::failed;

/// Bytes of logs, by node, topic and partition.
pub(super) type Sizes = BTreeMap<(i32, String, i32), i64>;

/// The logs of these topics on all nodes. What a node may not tell, or does not know how to tell, is left out.
pub(super) async fn sizes(client: &Client, topics: &[MetadataTopic]) -> Result<Sizes, CliError> {
    let partitions: Vec<Vec<i32>> = topics
        .iter()
        .map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| partition.partition)
                .collect()
        })
        .collect();
    let asked = topics
        .iter()
        .zip(&partitions)
        .map(|(topic, partitions)| DescribeLogDirsTopic {
            topic: topic.name.as_deref().unwrap_or_default(),
            partitions: Array::from_slice(partitions),
        });
    let asked: Vec<_> = asked.collect();
    let request = DescribeLogDirsRequest {
        topics: Some(Array::from_slice(&asked)),
    };
    let mut sizes = Sizes::new();
    for node_id in client.nodes().into_keys() {
        let doing = format!("ask node {node_id} for the sizes of logs");
        let response: DescribeLogDirsResponse = match client.call_node(node_id, &request).await {
            Err(ClientError::Unsupported { .. }) => continue,
            response => response.map_err(failed(doing.as_str()))?,
        };
        match response.error_code {
            ErrorCode::None => {}
            ErrorCode::ClusterAuthorizationFailed => continue,
            code => {
                return Err(CliError::Refused {
                    doing,
                    code,
                    message: None,
                });
            }
        }
        for topic in response
            .results
            .into_iter()
            .flat_map(|directory| directory.topics)
        {
            // A log that is to replace another one is not the one that clients see.
            let current = topic
                .partitions
                .iter()
                .filter(|partition| !partition.is_future_key);
            sizes.extend(current.map(|partition| {
                let key = (node_id, topic.name.clone(), partition.partition_index);
                (key, partition.partition_size)
            }));
        }
    }
    Ok(sizes)
}
