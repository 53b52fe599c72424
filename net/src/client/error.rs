//! Why a client has no answer.

use std::io;
use std::net::SocketAddr;

use wire::{DecodeError, ErrorCode};

/// Why a client has no answer. What is [`ClientError::is_retriable`] may succeed with fresh metadata.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No bootstrap address led to a broker.
    #[error("no broker answers at {addresses}: {last}")]
    Unreachable {
        /// What was tried.
        addresses: String,
        /// What the last one said.
        last: String,
    },
    /// A node that Metadata did not name.
    #[error("node {node_id} is not one of the cluster")]
    UnknownNode {
        /// Its id.
        node_id: i32,
    },
    /// A name that leads to no address.
    #[error("cannot resolve {host}: {why}")]
    Resolve {
        /// As it was given or advertised.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Connecting failed.
    #[error("cannot connect to {address}: {kind}")]
    Connect {
        /// The broker's.
        address: SocketAddr,
        /// The system's reason.
        kind: io::ErrorKind,
    },
    /// The connection ended, by the broker or on the way, before the answer came.
    #[error("the connection to {address} ended before the answer came: {why}")]
    Closed {
        /// The broker's.
        address: SocketAddr,
        /// How.
        why: String,
    },
    /// No answer in time.
    #[error("no answer from {address} within {timeout_ms} ms")]
    TimedOut {
        /// The broker's.
        address: SocketAddr,
        /// How long was waited, in milliseconds.
        timeout_ms: u64,
    },
    /// The answer is none.
    #[error("{address} sent an answer that cannot be read: {error}")]
    Malformed {
        /// The broker's.
        address: SocketAddr,
        /// Why not.
        error: DecodeError,
    },
    /// The broker does not speak an API in any version of ours.
    #[error("{address} does not speak {api} in a version that this client knows")]
    Unsupported {
        /// The broker's.
        address: SocketAddr,
        /// Kafka's name of the API.
        api: &'static str,
    },
    /// A topic or partition has an error, or no leader.
    #[error("{topic}-{partition}: {code}")]
    Partition {
        /// The topic.
        topic: String,
        /// The partition; -1 for the topic itself.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
    },
}

impl ClientError {
    /// Whether asking again, with fresh metadata, may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. }
            | ClientError::Connect { .. }
            | ClientError::Closed { .. }
            | ClientError::TimedOut { .. }
            | ClientError::UnknownNode { .. } => true,
            ClientError::Partition { code, .. } => code.is_retriable(),
            ClientError::Resolve { .. } | ClientError::Malformed { .. } | ClientError::Unsupported { .. } => {
                false
            }
        }
    }
}
