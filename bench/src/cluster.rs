//! What a cluster says of itself: who it is, and when what it acknowledges is on stable storage.

use std::collections::BTreeMap;

use net::client::{Client, ClientError};
use serde_json::{Value, json};
use wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use wire::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use wire::{Array, ErrorCode, Uuid};

use crate::error::BenchError;
use crate::target::{Target, resolve};

/// Kafka's type of a topic's configs.
const TYPE_TOPIC: i8 = 2;
/// How long a broker may take to delete a topic, in milliseconds.
const DELETE_TIMEOUT_MS: i32 = 30_000;
/// What decides when an acknowledged record is on stable storage: Kafka's names, and Redpanda's.
const KEYS: [&str; 5] = [
    "flush.messages",
    "flush.ms",
    "flush.bytes",
    "write.caching",
    "min.insync.replicas",
];

/// What a cluster says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Where it was found.
    pub bootstrap: String,
    /// Its id, if it has one.
    pub cluster_id: Option<String>,
    /// How many nodes it has.
    pub nodes: usize,
    /// Replicas of each partition that is written.
    pub replicas: usize,
    /// Those of its topic's configs that decide when something is durable. Empty: it does not tell.
    pub configs: BTreeMap<String, String>,
    /// Where its log is, if it is on this host.
    pub log_directory: Option<String>,
}

impl ClusterFacts {
    /// When what it acknowledges to a producer with these acks is on stable storage.
    pub fn durability(&self, acks: i16) -> String {
        let config = |name: &str| self.configs.get(name).map(String::as_str);
        if acks == 0 {
            return "acks=0: nothing is acknowledged".to_owned();
        }
        match (config("write.caching"), config("flush.messages")) {
            // Redpanda: what only the leader has acknowledged is flushed later.
            (Some("false"), _) if acks == 1 => {
                "NOT flushed before it is acknowledged (acks=1 with write.caching)".to_owned()
            }
            (Some("false"), _) => "flushed before it is acknowledged (write.caching=false)".to_owned(),
            (_, Some("1")) => "flushed before it is acknowledged (flush.messages=1)".to_owned(),
            (None, None) => "unknown: the broker does not tell when it flushes".to_owned(),
            _ => {
                let flush = (self.configs.iter())
                    .filter(|(name, _)| *name != "min.insync.replicas")
                    .map(|(name, value)| format!("{name}={value}"));
                format!(
                    "NOT flushed before it is acknowledged ({})",
                    flush.collect::<Vec<_>>().join(", ")
                )
            }
        }
    }

    /// For the JSON.
    pub(crate) fn to_json(&self, acks: i16) -> Value {
        json!({
            "bootstrap": self.bootstrap,
            "cluster_id": self.cluster_id,
            "nodes": self.nodes,
            "replicas": self.replicas,
            "configs": self.configs,
            "durability": self.durability(acks),
            "log_directory": self.log_directory,
        })
    }

    /// For people, name by name.
    pub(crate) fn lines(&self, acks: i16) -> Vec<(&'static str, String)> {
        let id = (self.cluster_id.as_ref()).map_or_else(String::new, |id| format!(", cluster {id}"));
        let replicas = match self.configs.get("min.insync.replicas") {
            Some(least) => format!("{}, min.insync.replicas={least}", self.replicas),
            None => self.replicas.to_string(),
        };
        vec![
            (
                "broker",
                format!("{}{id}, {} node(s)", self.bootstrap, self.nodes),
            ),
            ("durability", self.durability(acks)),
            ("replicas", replicas),
        ]
    }
}

/// Makes a topic of so many partitions, waits for its leaders, and asks the cluster about itself.
pub(crate) async fn open_topic(
    brokers: &[String],
    topic: &str,
    partitions: i32,
) -> Result<ClusterFacts, BenchError> {
    let target = Target::find(brokers, topic, Some(partitions)).await?;
    let client = target.client();
    let metadata = client.metadata(Some(&[topic]), false).await?;
    let replicas = (metadata.topics.iter().flat_map(|topic| &topic.partitions))
        .map(|partition| partition.replica_nodes.len())
        .min();
    Ok(ClusterFacts {
        bootstrap: brokers.join(","),
        cluster_id: metadata.cluster_id.map(|id| printable(&id)),
        nodes: metadata.brokers.len(),
        replicas: replicas.unwrap_or(0),
        // A broker that does not know the question is measured all the same.
        configs: configs(client, topic).await.unwrap_or_default(),
        log_directory: log_directory(client).await.unwrap_or_default(),
    })
}

/// Deletes a topic that a run made. What cannot be deleted is said, and stops nothing.
pub(crate) async fn remove_topic(brokers: &[String], topic: &str) {
    if let Err(error) = delete_topic(brokers, topic).await {
        eprintln!("cannot delete topic {topic}: {error}");
    }
}

async fn delete_topic(brokers: &[String], topic: &str) -> Result<(), BenchError> {
    let client = Target::client_of(brokers).await?;
    let topics = [DeleteTopicState {
        name: Some(topic),
        topic_id: Uuid::ZERO,
    }];
    let names = [topic];
    let request = DeleteTopicsRequest {
        topics: Array::from_slice(&topics),
        topic_names: Array::from_slice(&names),
        timeout_ms: DELETE_TIMEOUT_MS,
    };
    let response: DeleteTopicsResponse = client.call_controller(&request).await?;
    match response.topics.into_iter().next() {
        Some(deleted) if deleted.error_code != ErrorCode::None => Err(BenchError::Topic {
            topic: topic.to_owned(),
            code: deleted.error_code,
            message: deleted.error_message,
        }),
        _ => Ok(()),
    }
}

async fn configs(client: &Client, topic: &str) -> Result<BTreeMap<String, String>, ClientError> {
    let resources = [DescribeConfigsResource {
        resource_type: TYPE_TOPIC,
        resource_name: topic,
        configuration_keys: Some(Array::from_slice(&KEYS)),
    }];
    let request = DescribeConfigsRequest {
        resources: Array::from_slice(&resources),
        ..Default::default()
    };
    let response: DescribeConfigsResponse = client.call_controller(&request).await?;
    let configs = response.results.into_iter().flat_map(|result| result.configs);
    Ok((configs.filter(|config| KEYS.contains(&config.name.as_str())))
        .filter_map(|config| Some((config.name, printable(&config.value?))))
        .collect())
}

/// The directory of a node's log, if the node is on this host: then it can be looked at.
async fn log_directory(client: &Client) -> Result<Option<String>, ClientError> {
    let is_here = client
        .nodes()
        .values()
        .all(|(host, port)| resolve(host, *port).is_ok_and(|address| address.ip().is_loopback()));
    if !is_here {
        return Ok(None);
    }
    let request = DescribeLogDirsRequest {
        topics: Some(Array::from_slice(&[])),
    };
    let response: DescribeLogDirsResponse = client.call_controller(&request).await?;
    let found = response.results.into_iter().next();
    Ok(found.map(|found| printable(&found.log_dir)))
}

/// What a broker says goes to a terminal: it writes there, and steers nothing.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(configs: &[(&str, &str)]) -> ClusterFacts {
        let configs = configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ClusterFacts {
            bootstrap: "127.0.0.1:9092".to_owned(),
            cluster_id: None,
            nodes: 1,
            replicas: 1,
            configs: configs.collect(),
            log_directory: None,
        }
    }

    #[test]
    fn what_a_broker_says_does_not_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n/ü"), "a?[2J?/ü");
    }

    #[test]
    fn durability_is_what_the_broker_says_of_its_flushes() {
        for (configs, acks, expected) in [
            (
                &[("flush.messages", "1"), ("flush.ms", "9")][..],
                -1,
                "flushed before",
            ),
            (
                &[("flush.messages", "10000"), ("flush.ms", "1000")],
                -1,
                "NOT flushed",
            ),
            (
                &[("write.caching", "false"), ("flush.ms", "100")],
                -1,
                "flushed before",
            ),
            (
                &[("write.caching", "false"), ("flush.ms", "100")],
                1,
                "NOT flushed",
            ),
            (
                &[("write.caching", "true"), ("flush.ms", "100")],
                -1,
                "NOT flushed",
            ),
            (&[("min.insync.replicas", "2")], -1, "unknown"),
            (&[], 1, "unknown"),
            (&[("flush.messages", "1")], 0, "acks=0"),
        ] {
            let said = facts(configs).durability(acks);
            assert!(said.starts_with(expected), "{configs:?} {acks}: {said}");
        }
        let said = facts(&[("flush.messages", "7"), ("min.insync.replicas", "1")]).durability(-1);
        assert_eq!(said, "NOT flushed before it is acknowledged (flush.messages=7)");
    }
}
