//! Why there is no report.

use std::io;
use std::path::PathBuf;

use net::client::ClientError;
use wire::ErrorCode;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A thread could not be started: io_uring is missing or blocked.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// A thread of ours went away.
    #[error("a thread of the load generator ended before its work did")]
    Lost,
    /// A broker did not answer, or not in a way that we understand.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster has an error for the topic.
    #[error("topic {topic}: {code}{}", .message.as_ref().map(|message| format!(": {message}")).unwrap_or_default())]
    Topic {
        /// The topic.
        topic: String,
        /// Kafka's code.
        code: ErrorCode,
        /// What the broker says of it.
        message: Option<String>,
    },
    /// There is no such topic to read.
    #[error("there is no topic {topic}: `bench produce --topic {topic}` makes one")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// The topic was there before, and is smaller.
    #[error(
        "topic {topic} has {partitions} partitions, {wanted} were asked for: choose another topic, or --partitions {partitions}"
    )]
    TooFewPartitions {
        /// The topic.
        topic: String,
        /// What it has.
        partitions: usize,
        /// What was asked for.
        wanted: i32,
    },
    /// A partition did not get a leader in time.
    #[error("partition {topic}-{partition} has no leader after {waited_s} s: {code}")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What the cluster says of it.
        code: ErrorCode,
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// Metadata names a leader that is not among the nodes.
    #[error("the cluster names node {node_id} as a leader, but not among its nodes")]
    UnknownNode {
        /// The node.
        node_id: i32,
    },
    /// A partition could not be read from its start.
    #[error("node {broker}, partition {partition}: {code}")]
    Offset {
        /// The node, and its address.
        broker: String,
        /// The partition.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
    },
    /// Latencies from end to end cannot be measured so.
    #[error("{what}")]
    EndToEnd {
        /// Why not, and what else to ask for.
        what: &'static str,
    },
    /// A load cannot be sent so.
    #[error("{what}")]
    Workload {
        /// Why not, and what else to ask for.
        what: String,
    },
    /// An idempotent producer got no id.
    #[error("the cluster gives no producer id: {code}")]
    ProducerId {
        /// Kafka's code.
        code: ErrorCode,
    },
    /// Something on this host failed.
    #[error("cannot {doing}: {error}")]
    Local {
        /// A verb and its object.
        doing: String,
        /// Why.
        error: io::Error,
    },
    /// There is no program to run a broker.
    #[error(
        "no broker was named, and there is none at {}: cargo build --release puts it there; or name one, --brokers HOST:PORT",
        .path.display()
    )]
    NoBroker {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Our broker ended before it was ready.
    #[error("the embedded broker ended: {words}")]
    BrokerEnded {
        /// What it said last.
        words: String,
    },
    /// Our broker does not get ready.
    #[error("the embedded broker is not ready after {waited_s} s: is this disk very slow, or full?")]
    BrokerSilent {
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// There is not enough room for what would be written.
    #[error(
        "{} has {usable_bytes} bytes of room, {wanted_bytes} are wanted: make room, or choose another --directory{hint}",
        .directory.display()
    )]
    NoRoom {
        /// Where.
        directory: PathBuf,
        /// What there is, in bytes.
        usable_bytes: u64,
        /// What is wanted, in bytes.
        wanted_bytes: u64,
        /// What else to do.
        hint: &'static str,
    },
    /// A group does not do what a group does.
    #[error("{what}")]
    Group {
        /// What it does, or does not.
        what: String,
    },
}
