//! Asks a coordinator what a group has committed.

use std::collections::BTreeMap;

use net::client::Client;
use wire::messages::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse};
use wire::{Array, ErrorCode};

use crate::cli::CliError;
use crate::cli::session::failed;

/// The committed offset of each topic's partitions that have one.
pub(super) async fn committed(
    client: &Client,
    coordinator: i32,
    group: &str,
) -> Result<BTreeMap<(String, i32), i64>, CliError> {
    let doing = format!("ask for the committed offsets of group {group}");
    let groups = [OffsetFetchGroup {
        group_id: group,
        topics: None,
        ..OffsetFetchGroup::default()
    }];
    let request = OffsetFetchRequest {
        group_id: group,
        topics: None,
        groups: Array::from_slice(&groups),
        require_stable: false,
    };
    let response: OffsetFetchResponse = client
        .call_node(coordinator, &request)
        .await
        .map_err(failed(doing.as_str()))?;
    // One in the list from version 8 on, in the fields before it.
    let (code, topics) = match response.groups.into_iter().next() {
        Some(one) => (one.error_code, one.topics),
        None => (response.error_code, response.topics),
    };
    let refused = |code| CliError::Refused {
        doing: doing.clone(),
        code,
        message: None,
    };
    if code != ErrorCode::None {
        return Err(refused(code));
    }
    let mut offsets = BTreeMap::new();
    for topic in topics {
        for partition in topic.partitions {
            if partition.error_code != ErrorCode::None {
                return Err(refused(partition.error_code));
            }
            if partition.committed_offset >= 0 {
                offsets.insert(
                    (topic.name.clone(), partition.partition),
                    partition.committed_offset,
                );
            }
        }
    }
    Ok(offsets)
}
