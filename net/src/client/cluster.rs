//! A cluster as a client sees it: its brokers, what they speak, who leads what.

use std::net::SocketAddr;
use std::rc::Rc;

use wire::ApiKey;
use wire::messages::metadata::MetadataResponse;

use super::{ClientError, Connection, ConnectionOptions};

/// How to reach a cluster.
#[derive(Clone)]
pub struct ClientOptions {
    /// Of every connection.
    pub connection: ConnectionOptions,
    /// Finds the address of a host name, or says why not. It may block: give [`resolve_literal`] where that matters.
    pub resolve: fn(&str, u16) -> Result<SocketAddr, String>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connection: ConnectionOptions::default(),
            resolve: resolve_literal,
        }
    }
}

/// Knows IP addresses and `localhost`, and asks nobody.
///
/// # Errors
/// For any other name.
pub fn resolve_literal(host: &str, port: u16) -> Result<SocketAddr, String> {
    todo!("{host} {port}")
}

/// A cluster. Clones share their connections, one for each node.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Connects to the first of `bootstrap` (`host:port`; port 9092 if it is left out) that answers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if none does.
    pub async fn connect(bootstrap: &[String], options: ClientOptions) -> Result<Client, ClientError> {
        todo!("{bootstrap:?} {:?}", options.connection)
    }

    /// The newest version of an API that the node and we both speak.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] if there is none, and those of [`Client::node`].
    pub async fn version(&self, node_id: i32, api: ApiKey) -> Result<i16, ClientError> {
        todo!("{node_id} {api:?}")
    }

    /// Asks for fresh metadata of these topics (`None`: all), remembers it, and gives it as it came: errors of topics
    /// are inside.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        allow_auto_topic_creation: bool,
    ) -> Result<Rc<MetadataResponse>, ClientError> {
        todo!("{topics:?} {allow_auto_topic_creation}")
    }

    /// The node that leads a partition, from what is remembered, or from fresh metadata.
    ///
    /// # Errors
    /// [`ClientError::Partition`] with Kafka's code if it has none.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        todo!("{topic} {partition}")
    }

    /// Forgets who leads the partitions of a topic: after NOT_LEADER_OR_FOLLOWER and the like.
    pub fn forget(&self, topic: &str) {
        todo!("{topic}")
    }

    /// The connection to a node, made anew if the last one ended.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn node(&self, node_id: i32) -> Result<Connection, ClientError> {
        todo!("{node_id}")
    }

    /// The connection to the controller, as Metadata names it, or to any broker that answers.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn controller(&self) -> Result<(i32, Connection), ClientError> {
        todo!()
    }
}
