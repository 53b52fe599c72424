//! The resources that have configs: how requests name them, and who may be meant.

use wire::ErrorCode;

use crate::api::metadata::is_topic_name;
use crate::controller::image::NODES_PER_HOST;
use crate::shard::{LocalTopic, World};

/// A topic, by name.
pub(crate) const TOPIC: i8 = 2;
/// A broker, by node id; without a name: what holds for all brokers.
pub(crate) const BROKER: i8 = 4;

/// Why a resource is not served: Kafka's code, and the cause for people.
pub(crate) type Refusal = (ErrorCode, String);

/// What is meant.
pub(crate) enum Resource<'a> {
    /// This topic.
    Topic(&'a LocalTopic),
    /// This node, one of this host.
    Broker(i32),
    /// What holds for all brokers that do not say otherwise.
    AllBrokers,
}

/// Whether a topic may have the name.
///
/// # Errors
/// INVALID_TOPIC_EXCEPTION.
pub(crate) fn check_topic_name(name: &str) -> Result<(), Refusal> {
    if is_topic_name(name) {
        return Ok(());
    }
    let why = format!("'{name}' is no name of a topic");
    Err((ErrorCode::InvalidTopicException, why))
}

/// The resource of this type and name.
///
/// # Errors
/// If there is none, or if another node has to be asked.
pub(crate) fn of<'a>(kind: i8, name: &str, world: &'a World, node_id: i32) -> Result<Resource<'a>, Refusal> {
    match kind {
        TOPIC => {
            check_topic_name(name)?;
            world.topic(name).map(Resource::Topic).ok_or_else(|| {
                let why = "This server does not host this topic-partition.".to_owned();
                (ErrorCode::UnknownTopicOrPartition, why)
            })
        }
        BROKER if name.is_empty() => Ok(Resource::AllBrokers),
        // Under one name only ("01" is none), so that a request that names a broker twice is known to.
        BROKER => match name.parse::<i32>().ok().filter(|id| id.to_string() == name) {
            // All nodes of a host know of each other.
            Some(id) if id / NODES_PER_HOST == node_id / NODES_PER_HOST && world.node(id).is_some() => {
                Ok(Resource::Broker(id))
            }
            Some(_) => {
                let why =
                    format!("Unexpected broker id, expected {node_id} or empty string, but received {name}");
                Err((ErrorCode::InvalidRequest, why))
            }
            None => {
                let why = format!("Broker id must be an integer, but it is: {name}");
                Err((ErrorCode::InvalidRequest, why))
            }
        },
        _ => {
            let why =
                format!("resources of type {kind} have no configs here yet: topics (2) and brokers (4) have");
            Err((ErrorCode::InvalidRequest, why))
        }
    }
}
