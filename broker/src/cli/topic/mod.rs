//! `millstream topic VERB`: topics, and the records in them.

mod consume;
mod create;
mod delete;
mod describe;
mod list;
mod produce;
mod sizes;

use std::time::Duration;

use clap::{Args, Subcommand};
use net::client::Client;
use ring::clock;
use ring::timer::sleep;
use wire::{ErrorCode, Uuid};

use self::consume::ConsumeArguments;
use self::create::CreateArguments;
pub(super) use self::create::key_and_value;
use self::delete::DeleteArguments;
use self::describe::DescribeArguments;
use self::list::ListArguments;
use self::produce::ProduceArguments;
use crate::cli::CliError;
use crate::cli::session::{Bootstrap, RETRY, failed};

/// How long a broker may take to create or delete a topic, in milliseconds.
const ADMIN_TIMEOUT_MS: i32 = 20_000;
/// How long a new topic's leaders are waited for.
const LEADERS_WAIT: Duration = Duration::from_secs(15);

/// `millstream topic`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TopicArguments {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Create a topic
    Create(CreateArguments),
    /// List the names of all topics
    List(ListArguments),
    /// Show partitions, leaders, offsets and sizes of topics
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
    let TopicArguments { bootstrap, verb } = arguments;
    let brokers = bootstrap.brokers;
    match verb {
        Verb::Create(arguments) => create::run(brokers, arguments),
        Verb::List(arguments) => list::run(brokers, arguments),
        Verb::Describe(arguments) => describe::run(brokers, arguments),
        Verb::Delete(arguments) => delete::run(brokers, arguments),
        Verb::Produce(arguments) => produce::run(brokers, arguments),
        Verb::Consume(arguments) => consume::run(brokers, arguments),
    }
}

/// The partitions of a topic.
pub(super) struct Partitions {
    topic_id: Uuid,
    /// In order.
    pub(super) ids: Vec<i32>,
}

/// Asks for a topic's partitions, again while its leaders are being chosen; creates it first, if `may_create` and the
/// broker's auto.create.topics.enable allow it.
pub(super) async fn partitions_of(
    client: &Client,
    name: &str,
    may_create: bool,
) -> Result<Partitions, CliError> {
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
