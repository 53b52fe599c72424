//! `millstream cluster`: who the cluster is.

use clap::Args;
use net::client::Client;
use serde_json::{Value, json};
use wire::ErrorCode;
use wire::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};

use crate::cli::CliError;
use crate::cli::output::{OutputArguments, known, print, table};
use crate::cli::session::{self, Bootstrap, failed};

/// `millstream cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ClusterArguments {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs the command to its end.
///
/// # Errors
/// If the cluster cannot be reached, refuses, or standard output fails.
pub fn run(arguments: ClusterArguments) -> Result<(), CliError> {
    let mut cluster = session::run(arguments.bootstrap.brokers, describe)?;
    cluster.brokers.sort_by_key(|broker| broker.broker_id);
    let text = arguments.output.text(|| block(&cluster), || document(&cluster));
    print(text.as_bytes()).map(|_| ())
}

async fn describe(client: Client) -> Result<DescribeClusterResponse, CliError> {
    let request = DescribeClusterRequest::default();
    let response: DescribeClusterResponse = client
        .call_controller(&request)
        .await
        .map_err(failed("describe the cluster"))?;
    match response.error_code {
        ErrorCode::None => Ok(response),
        code => Err(CliError::Refused {
            doing: "describe the cluster".to_owned(),
            code,
            message: response.error_message,
        }),
    }
}

fn block(cluster: &DescribeClusterResponse) -> String {
    let mut rows = vec![["node", "host", "port", "rack", "controller"].map(str::to_owned)];
    for broker in &cluster.brokers {
        let is_controller = broker.broker_id == cluster.controller_id;
        rows.push([
            broker.broker_id.to_string(),
            broker.host.clone(),
            broker.port.to_string(),
            known(broker.rack.as_ref()),
            if is_controller { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let (id, count) = (&cluster.cluster_id, cluster.brokers.len());
    format!("cluster {id}: nodes {count}\n{}", table(&rows))
}

fn document(cluster: &DescribeClusterResponse) -> Value {
    let nodes = cluster.brokers.iter().map(|broker| {
        json!({
            "node": broker.broker_id,
            "host": broker.host,
            "port": broker.port,
            "rack": broker.rack,
        })
    });
    json!({
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller_id,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}
