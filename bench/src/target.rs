//! The topic that a run drives: made if it is missing, and the way to the leaders of its partitions.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use net::client::{Client, ClientOptions};
use ring::timer::sleep;
use wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use wire::messages::metadata::{MetadataResponse, MetadataTopic};
use wire::{ApiKey, Array, ErrorCode, Uuid};

use crate::error::BenchError;
use crate::plan::{Lane, lanes};

/// How often Metadata is asked until every partition has a leader.
const ATTEMPTS: u64 = 150;
/// How long to wait between two of these, in milliseconds.
const ATTEMPT_MS: u64 = 200;
/// How long a broker may take to make a topic, in milliseconds.
const CREATE_TIMEOUT_MS: i32 = 30_000;

/// A topic and who leads it.
pub(crate) struct Target {
    client: Client,
    /// For Fetch, which names topics by it.
    pub(crate) topic_id: Uuid,
    /// Of the topic: more than are driven, perhaps.
    pub(crate) topic_partitions: usize,
    /// By partition.
    leaders: Vec<i32>,
    addresses: BTreeMap<i32, SocketAddr>,
}

/// A connection to be made, and what shall travel on it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// What travels.
    pub(crate) lane: Lane,
    /// Where the node is.
    pub(crate) address: SocketAddr,
    /// The version of Produce or Fetch to speak to it.
    pub(crate) api_version: i16,
}

impl Route {
    /// The node, as failures name it.
    pub(crate) fn broker(&self) -> String {
        format!("node {} at {}", self.lane.node_id, self.address)
    }
}

impl Target {
    /// Finds the topic, with so many partitions as asked for (`None`: all it has). A topic that is missing is made
    /// when their number is known.
    pub(crate) async fn find(
        bootstrap: &[String],
        topic: &str,
        partitions: Option<i32>,
    ) -> Result<Target, BenchError> {
        let client = Target::client_of(bootstrap).await?;
        let mut is_made = false;
        let mut last = (-1, ErrorCode::None);
        for _ in 0..ATTEMPTS {
            let metadata = client.metadata(Some(&[topic]), false).await?;
            let Some(found) = (metadata.topics.iter()).find(|found| found.name.as_deref() == Some(topic))
            else {
                return Err(BenchError::Missing {
                    topic: topic.to_owned(),
                });
            };
            match (found.error_code, partitions) {
                (ErrorCode::UnknownTopicOrPartition, None) => {
                    return Err(BenchError::Missing {
                        topic: topic.to_owned(),
                    });
                }
                (ErrorCode::UnknownTopicOrPartition, Some(partitions)) if !is_made => {
                    make(&client, topic, partitions).await?;
                    is_made = true;
                    continue;
                }
                (ErrorCode::None, _) => match leaders(topic, found, partitions)? {
                    Ok(leaders) => {
                        let addresses = addresses(&metadata, &leaders)?;
                        return Ok(Target {
                            client,
                            topic_id: found.topic_id,
                            topic_partitions: found.partitions.len(),
                            leaders,
                            addresses,
                        });
                    }
                    Err(waiting) => last = waiting,
                },
                (code, _) if !code.is_retriable() => {
                    return Err(BenchError::Topic {
                        topic: topic.to_owned(),
                        code,
                        message: None,
                    });
                }
                (code, _) => last = (-1, code),
            }
            sleep(Duration::from_millis(ATTEMPT_MS)).await;
        }
        Err(BenchError::NoLeader {
            topic: topic.to_owned(),
            partition: last.0,
            code: last.1,
            waited_s: ATTEMPTS * ATTEMPT_MS / 1_000,
        })
    }

    /// Connects to a cluster.
    pub(crate) async fn client_of(bootstrap: &[String]) -> Result<Client, BenchError> {
        let options = ClientOptions {
            resolve,
            ..ClientOptions::default()
        };
        Ok(Client::connect(bootstrap, options).await?)
    }

    /// The way to the cluster.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Partitions that are driven.
    pub(crate) fn partitions(&self) -> usize {
        self.leaders.len()
    }

    /// The connections of so many clients.
    pub(crate) async fn routes(&self, clients: u32, api: ApiKey) -> Result<Vec<Route>, BenchError> {
        let clients = usize::try_from(clients).expect("it is in range");
        let mut routes = Vec::new();
        for lane in lanes(&self.leaders, clients) {
            routes.push(Route {
                address: self.addresses[&lane.node_id],
                api_version: self.client.version(lane.node_id, api).await?,
                lane,
            });
        }
        Ok(routes)
    }
}

async fn make(client: &Client, topic: &str, partitions: i32) -> Result<(), BenchError> {
    let (node_id, connection) = client.controller().await?;
    let version = client.version(node_id, ApiKey::CreateTopics).await?;
    let topics = [CreatableTopic {
        name: topic,
        num_partitions: partitions,
        // The broker's default.
        replication_factor: -1,
        ..Default::default()
    }];
    let request = CreateTopicsRequest {
        topics: Array::from_slice(&topics),
        timeout_ms: CREATE_TIMEOUT_MS,
        validate_only: false,
    };
    let response: CreateTopicsResponse = connection.call(version, &request).await?;
    match response.topics.into_iter().find(|made| made.name == topic) {
        Some(made) if !matches!(made.error_code, ErrorCode::None | ErrorCode::TopicAlreadyExists) => {
            Err(BenchError::Topic {
                topic: topic.to_owned(),
                code: made.error_code,
                message: made.error_message,
            })
        }
        _ => Ok(()),
    }
}

/// The leaders by partition; or the partition that has none yet, and why.
fn leaders(
    topic: &str,
    found: &MetadataTopic,
    wanted: Option<i32>,
) -> Result<Result<Vec<i32>, (i32, ErrorCode)>, BenchError> {
    let count = match wanted {
        Some(wanted) if found.partitions.len() < usize::try_from(wanted).unwrap_or(0) => {
            return Err(BenchError::TooFewPartitions {
                topic: topic.to_owned(),
                partitions: found.partitions.len(),
                wanted,
            });
        }
        Some(wanted) => wanted,
        None => i32::try_from(found.partitions.len()).unwrap_or(i32::MAX),
    };
    let leaders: Result<Vec<i32>, _> = (0..count)
        .map(|partition| {
            let state = found.partitions.iter().find(|state| state.partition == partition);
            match state {
                Some(state) if state.leader_id >= 0 => Ok(state.leader_id),
                Some(state) => Err((partition, state.error_code)),
                None => Err((partition, ErrorCode::UnknownTopicOrPartition)),
            }
        })
        .collect();
    match leaders {
        Ok(leaders) if leaders.is_empty() => Ok(Err((-1, ErrorCode::LeaderNotAvailable))),
        leaders => Ok(leaders),
    }
}

fn addresses(metadata: &MetadataResponse, leaders: &[i32]) -> Result<BTreeMap<i32, SocketAddr>, BenchError> {
    let mut addresses = BTreeMap::new();
    for node_id in leaders {
        let Some(node) = (metadata.brokers.iter()).find(|node| node.node_id == *node_id) else {
            return Err(BenchError::UnknownNode { node_id: *node_id });
        };
        let port = u16::try_from(node.port).unwrap_or(0);
        let address = resolve(&node.host, port).map_err(|why| net::client::ClientError::Resolve {
            host: node.host.clone(),
            why,
        })?;
        addresses.insert(*node_id, address);
    }
    Ok(addresses)
}

/// Asks the system's resolver. It blocks the thread that finds the target, which has nothing else to do.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::messages::metadata::MetadataPartition;

    /// Brokers list partitions in any order: here from the last to the first.
    fn topic(leaders: &[i32]) -> MetadataTopic {
        let partitions = (0..)
            .zip(leaders)
            .map(|(partition, leader_id)| MetadataPartition {
                partition,
                leader_id: *leader_id,
                ..Default::default()
            });
        let mut partitions: Vec<_> = partitions.collect();
        partitions.reverse();
        MetadataTopic {
            partitions,
            ..Default::default()
        }
    }

    #[test]
    fn leaders_are_by_partition_in_whatever_order_they_come() {
        let found = topic(&[1000, 1001, 1002]);
        assert_eq!(leaders("t", &found, None).unwrap(), Ok(vec![1000, 1001, 1002]));
        assert_eq!(leaders("t", &found, Some(2)).unwrap(), Ok(vec![1000, 1001]));
    }

    #[test]
    fn a_partition_without_a_leader_is_waited_for() {
        let found = topic(&[1000, -1]);
        assert_eq!(leaders("t", &found, Some(1)).unwrap(), Ok(vec![1000]));
        assert_eq!(leaders("t", &found, None).unwrap(), Err((1, ErrorCode::None)));
        assert!(leaders("t", &topic(&[]), None).unwrap().is_err());
    }

    #[test]
    fn a_topic_that_is_too_small_is_refused() {
        let error = leaders("t", &topic(&[1]), Some(6)).unwrap_err();
        assert!(
            error.to_string().contains("1 partitions, 6 were asked for"),
            "{error}"
        );
    }
}
