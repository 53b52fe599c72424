//! Why a client command failed, and what to do next.

use std::fmt;
use std::io;
use std::process::ExitCode;

use net::client::ClientError;
use wire::ErrorCode;

use crate::cli::output::printable;

/// Why a client command failed. It prints in two lines: what happened, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The runtime cannot start.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    /// The cluster did not answer, or not in a way that we understand.
    #[error("cannot {doing}: {error}")]
    Client {
        /// What was tried: a verb and its object.
        doing: String,
        /// Why not.
        error: ClientError,
    },
    /// The cluster answered no.
    #[error("cannot {doing}: {code}{}", Said(message.as_deref()))]
    Refused {
        /// What was tried: a verb and its object.
        doing: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
    /// Records cannot be read.
    #[error("cannot read {topic}-{partition} at offset {offset}: {why}")]
    Records {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// Why not.
        why: String,
    },
    /// Standard input or output failed.
    #[error("cannot {doing}: {error}")]
    Stream {
        /// `read standard input` or `write standard output`.
        doing: &'static str,
        /// The system's reason.
        error: io::Error,
    },
}

impl CliError {
    /// Prints it to standard error; the code to exit with.
    pub fn report(&self) -> ExitCode {
        eprintln!("millstream: {}", printable(&self.to_string()));
        if let Some(next) = self.next_step() {
            eprintln!("next: {next}");
        }
        ExitCode::FAILURE
    }

    /// What to do about it.
    fn next_step(&self) -> Option<&'static str> {
        match self {
            CliError::Client { error, .. } => match error {
                ClientError::Unreachable { .. } | ClientError::Resolve { .. } => Some(
                    "start a broker with `millstream start`, or give the address of one with --brokers HOST:PORT",
                ),
                ClientError::Connect { .. } => Some(
                    "the cluster advertises an address that does not answer from here: check the host and port of \
                     its brokers",
                ),
                ClientError::UnknownNode { .. } => {
                    Some("`millstream cluster` shows the nodes that there are")
                }
                ClientError::Closed { .. } | ClientError::TimedOut { .. } => {
                    Some("look into the broker's log, and try again")
                }
                ClientError::Malformed { .. } | ClientError::Unsupported { .. } => {
                    Some("is it a Kafka broker, of version 2.4 or later, and the port of its listener?")
                }
                ClientError::Partition { code, .. } => next_step(*code),
            },
            CliError::Refused { code, .. } => next_step(*code),
            CliError::Records { .. } => {
                Some("go on behind it with --offset N, or look into the broker's log")
            }
            CliError::Runtime(_) | CliError::Stream { .. } => None,
        }
    }
}

fn next_step(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            "`millstream topic list` shows the topics, `millstream topic create NAME` makes one"
        }
        ErrorCode::TopicAlreadyExists => "`millstream topic describe NAME` shows it",
        ErrorCode::InvalidTopicException => {
            "a topic's name has 1 to 249 letters, digits, dots, underscores or hyphens, and is not . or .."
        }
        ErrorCode::InvalidReplicationFactor => "leave --replication-factor out to take the broker's default",
        ErrorCode::OffsetOutOfRange => "`millstream topic describe NAME` shows the offsets that are there",
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "raise max.message.bytes of the topic, or send shorter lines"
        }
        ErrorCode::GroupIdNotFound => "`millstream group list` shows the groups",
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => {
            "stop the group's consumers first: `millstream group describe NAME` shows them; one that was killed leaves \
             when its session timeout has passed"
        }
        ErrorCode::InvalidConfig => {
            "`millstream config get topic|broker NAME` shows the configs that are there"
        }
        code if code.is_retriable() => "try again in a moment",
        _ => return None,
    })
}

/// The broker's words behind its code, if it gave any.
struct Said<'a>(Option<&'a str>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .filter(|said| !said.is_empty())
            .map_or(Ok(()), |said| write!(f, " ({said})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_was_tried_the_code_and_the_brokers_words() {
        let mut refused = CliError::Refused {
            doing: "create topic orders".to_owned(),
            code: ErrorCode::TopicAlreadyExists,
            message: None,
        };
        assert_eq!(
            refused.to_string(),
            "cannot create topic orders: TOPIC_ALREADY_EXISTS"
        );
        assert!(refused.next_step().is_some_and(|next| next.contains("describe")));
        if let CliError::Refused { message, .. } = &mut refused {
            *message = Some("it is there".to_owned());
        }
        assert_eq!(
            refused.to_string(),
            "cannot create topic orders: TOPIC_ALREADY_EXISTS (it is there)"
        );
    }
}
