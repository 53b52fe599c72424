//! `millstream group list`.

use clap::Args;
use net::client::Client;
use serde_json::{Value, json};
use wire::ErrorCode;
use wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::cli::CliError;
use crate::cli::output::{OutputArguments, known, print, table};
use crate::cli::session::{self, failed, retried};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(brokers: Vec<String>, arguments: ListArguments) -> Result<(), CliError> {
    let mut groups = session::run(brokers, async |client| {
        retried(async || list(&client).await).await
    })?;
    groups.sort_by(|(one, _), (other, _)| one.group_id.cmp(&other.group_id));
    let text = arguments.output.text(|| rows(&groups), || document(&groups));
    print(text.as_bytes()).map(|_| ())
}

/// The groups of all nodes, with the node that coordinates each.
async fn list(client: &Client) -> Result<Vec<(ListedGroup, i32)>, CliError> {
    let mut groups = Vec::new();
    for node_id in client.nodes().into_keys() {
        let doing = format!("list the groups of node {node_id}");
        let request = ListGroupsRequest::default();
        let response: ListGroupsResponse = client
            .call_node(node_id, &request)
            .await
            .map_err(failed(doing.as_str()))?;
        if response.error_code != ErrorCode::None {
            return Err(CliError::Refused {
                doing,
                code: response.error_code,
                message: None,
            });
        }
        groups.extend(response.groups.into_iter().map(|group| (group, node_id)));
    }
    Ok(groups)
}

fn rows(groups: &[(ListedGroup, i32)]) -> String {
    let mut rows = vec![["group", "state", "protocol type", "coordinator"].map(str::to_owned)];
    for (group, coordinator) in groups {
        rows.push([
            group.group_id.clone(),
            known(not_empty(&group.group_state)),
            known(not_empty(&group.protocol_type)),
            coordinator.to_string(),
        ]);
    }
    table(&rows)
}

fn document(groups: &[(ListedGroup, i32)]) -> Value {
    let one = |(group, coordinator): &(ListedGroup, i32)| {
        json!({
            "group": group.group_id,
            "state": not_empty(&group.group_state),
            "protocol_type": group.protocol_type,
            "coordinator": coordinator,
        })
    };
    groups.iter().map(one).collect()
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
