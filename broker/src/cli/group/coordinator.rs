//! Asks which node coordinates a group, and what that node knows of it.

use net::client::Client;
use wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse, KEY_TYPE_GROUP};
use wire::{Array, ErrorCode};

use crate::cli::CliError;
use crate::cli::session::failed;

/// The state of a group that is not there, in answers that have no error for it.
const STATE_DEAD: &str = "Dead";

/// The node that coordinates the group.
pub(super) async fn coordinator(client: &Client, group: &str) -> Result<i32, CliError> {
    let doing = format!("find the coordinator of group {group}");
    let keys = [group];
    let request = FindCoordinatorRequest {
        key: group,
        key_type: KEY_TYPE_GROUP,
        coordinator_keys: Array::from_slice(&keys),
    };
    let response: FindCoordinatorResponse = client
        .call_controller(&request)
        .await
        .map_err(failed(doing.as_str()))?;
    // One in the list from version 4 on, in the fields before it.
    let (code, message, node_id) = match response.coordinators.into_iter().next() {
        Some(one) => (one.error_code, one.error_message, one.node_id),
        None => (response.error_code, response.error_message, response.node_id),
    };
    match code {
        ErrorCode::None => Ok(node_id),
        code => Err(CliError::Refused { doing, code, message }),
    }
}

/// The group as its coordinator describes it; `None` if it is not there.
pub(super) async fn described(
    client: &Client,
    coordinator: i32,
    group: &str,
) -> Result<Option<DescribedGroup>, CliError> {
    let doing = format!("describe group {group}");
    let groups = [group];
    let request = DescribeGroupsRequest {
        groups: Array::from_slice(&groups),
        include_authorized_operations: false,
    };
    let response: DescribeGroupsResponse = client
        .call_node(coordinator, &request)
        .await
        .map_err(failed(doing.as_str()))?;
    let described = response.groups.into_iter().next().unwrap_or_default();
    match described.error_code {
        ErrorCode::GroupIdNotFound => Ok(None),
        ErrorCode::None if described.group_state == STATE_DEAD => Ok(None),
        ErrorCode::None => Ok(Some(described)),
        code => Err(CliError::Refused {
            doing,
            code,
            message: described.error_message,
        }),
    }
}
