//! What consumers write into the opaque parts of the group protocol, and how coordinators are found.

use std::time::Duration;

use net::client::Client;
use ring::timer::sleep;
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse, KEY_TYPE_GROUP};
use wire::{ApiKey, Array, DecodeError, ErrorCode, Reader};

use crate::error::BenchError;

/// The one way to share out that members know.
pub(super) const PROTOCOL: &str = "range";
/// What members are.
pub(super) const PROTOCOL_TYPE: &str = "consumer";
/// The first version that asks for many at once (KIP-699); one that answers to no other is too old.
const FIRST_MANY_VERSION: i16 = 4;
/// How often coordinators are asked for, and how long between: the offsets topic may have to be made.
const ATTEMPTS: u32 = 150;
const ATTEMPT: Duration = Duration::from_millis(200);

/// A subscription to one topic (`ConsumerProtocolSubscription`, version 0).
pub(super) fn subscription(topic: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    put_text(&mut bytes, topic);
    bytes.extend((-1i32).to_be_bytes());
    bytes
}

/// Partitions of one topic (`ConsumerProtocolAssignment`, version 0).
pub(super) fn assignment(topic: &str, partitions: &[i32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    put_text(&mut bytes, topic);
    bytes.extend((partitions.len() as u32).to_be_bytes());
    for partition in partitions {
        bytes.extend(partition.to_be_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes
}

/// The partitions of an assignment.
///
/// # Errors
/// If it is none.
pub(super) fn assigned(bytes: &[u8]) -> Result<Vec<i32>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let _version = reader.i16()?;
    let mut partitions = Vec::new();
    for _ in 0..reader.nullable_array_count(false, 2)?.unwrap_or(0) {
        let _topic = reader.nullable_string(false)?;
        for _ in 0..reader.nullable_array_count(false, 4)?.unwrap_or(0) {
            partitions.push(reader.i32()?);
        }
    }
    Ok(partitions)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// The node of each group's coordinator.
pub(super) async fn find_coordinators(client: &Client, groups: &[String]) -> Result<Vec<i32>, BenchError> {
    let keys: Vec<&str> = groups.iter().map(String::as_str).collect();
    let (node, connection) = client.controller().await?;
    let version = client.version(node, ApiKey::FindCoordinator).await?;
    if version < FIRST_MANY_VERSION {
        return Err(BenchError::Group {
            what: format!("the broker speaks FindCoordinator {version}, which asks for one group at a time"),
        });
    }
    let mut last = ErrorCode::None;
    for _ in 0..ATTEMPTS {
        let request = FindCoordinatorRequest {
            key_type: KEY_TYPE_GROUP,
            coordinator_keys: Array::from_slice(&keys),
            ..FindCoordinatorRequest::default()
        };
        let response: FindCoordinatorResponse = connection.call(version, &request).await?;
        let refused = response
            .coordinators
            .iter()
            .find(|found| found.error_code.is_error());
        match refused {
            None if response.coordinators.len() == keys.len() => {
                return Ok(response.coordinators.iter().map(|found| found.node_id).collect());
            }
            None => {}
            Some(found) => last = found.error_code,
        }
        sleep(ATTEMPT).await;
    }
    Err(BenchError::Group {
        what: format!("no coordinator was found: {last}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        assert_eq!(assigned(&assignment("topic", &[3, 1])), Ok(vec![3, 1]));
        assert_eq!(assigned(&assignment("topic", &[])), Ok(Vec::new()));
        assert!(assigned(&[0, 0, 0]).is_err());
    }
}
