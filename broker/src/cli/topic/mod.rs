//! `millstream topic VERB`: topics, and the records in them.

mod consume;
mod create;
mod delete;
mod describe;
mod list;
mod offsets;
mod partitioner;
mod produce;

use std::time::Duration;

use clap::{Args, Subcommand};
use net::client::Client;
use ring::clock;
use ring::timer::sleep;
use wire::{ErrorCode, Uuid};

use self::consume::ConsumeArguments;
use self::create::CreateArguments;
use self::delete::DeleteArguments;
use self::describe::DescribeArguments;
use self::produce::ProduceArguments;
use crate::cli::CliError;
use crate::cli::session::failed;

/// How long a broker may take to create or delete a topic, in milliseconds.
const ADMIN_TIMEOUT_MS: i32 = 20_000;
/// How long a new topic's leaders are waited for.
const LEADERS_WAIT: Duration = Duration::from_secs(15);
/// The wait before something is tried again: Kafka's retry.backoff.ms.
const RETRY: Duration = Duration::from_millis(100);

/// `millstream topic`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TopicArguments {
    /// Brokers to begin with, separated by commas; any of the cluster will do
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    brokers: Vec<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Create a topic
    Create(CreateArguments),
    /// List the names of all topics
    List,
    /// Show partitions, leaders and offsets of topics
    Describe(DescribeArguments),
    /// Delete topics and everything in them
    Delete(DeleteArguments),
    /// Send the lines of standard input, a record each, acknowledged by all replicas
    Produce(ProduceArguments),
    /// Print the values of records, a line each
    Consume(ConsumeArguments),
}

/// Runs a command to its end.
///
/// # Errors
/// If the cluster cannot be reached, refuses, or standard input or output fails.
pub fn run(arguments: TopicArguments) -> Result<(), CliError> {
    let TopicArguments { brokers, verb } = arguments;
    match verb {
        Verb::Create(arguments) => create::run(brokers, arguments),
        Verb::List => list::run(brokers),
        Verb::Describe(arguments) => describe::run(brokers, arguments),
        Verb::Delete(arguments) => delete::run(brokers, arguments),
        Verb::Produce(arguments) => produce::run(brokers, arguments),
        Verb::Consume(arguments) => consume::run(brokers, arguments),
    }
}

/// The partitions of a topic.
struct Partitions {
    topic_id: Uuid,
    /// In order.
    ids: Vec<i32>,
}

/// Asks for a topic's partitions, again while its leaders are being chosen; creates it first, if `may_create` and the
/// broker's auto.create.topics.enable allow it.
async fn partitions_of(client: &Client, name: &str, may_create: bool) -> Result<Partitions, CliError> {
    let deadline = clock::now() + LEADERS_WAIT;
    loop {
        let metadata = client.metadata(Some(&[name]), may_create).await;
        let metadata = metadata.map_err(failed(format!("look up topic {name}")))?;
        let topic = metadata.topics.into_iter().next().unwrap_or_default();
        let code = topic.error_code;
        let is_there = code == ErrorCode::None && !topic.partitions.is_empty();
        if is_there && topic.partitions.iter().all(|partition| partition.leader_id >= 0) {
            let mut ids: Vec<i32> = topic
                .partitions
                .iter()
                .map(|partition| partition.partition)
                .collect();
            ids.sort_unstable();
            return Ok(Partitions {
                topic_id: topic.topic_id,
                ids,
            });
        }
        let is_missing = code == ErrorCode::UnknownTopicOrPartition && !may_create;
        let is_final = is_missing || (code != ErrorCode::None && !code.is_retriable());
        if is_final || clock::now() >= deadline {
            let code = if code == ErrorCode::None {
                ErrorCode::LeaderNotAvailable
            } else {
                code
            };
            return Err(CliError::Refused {
                doing: format!("use topic {name}"),
                code,
                message: None,
            });
        }
        sleep(RETRY).await;
    }
}

/// Writes to standard output. A reader that left (`| head`) ends the command without noise.
fn print(text: &[u8]) -> Result<Printed, CliError> {
    use std::io::{ErrorKind, Write};
    let mut output = std::io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => Ok(Printed::Yes),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Printed::NobodyReads),
        Err(error) => Err(CliError::Stream {
            doing: "write standard output",
            error,
        }),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    Yes,
    NobodyReads,
}
