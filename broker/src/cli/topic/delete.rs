//! `millstream topic delete`.

use clap::Args;
use net::client::Client;
use wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use wire::{Array, ErrorCode, Uuid};

use super::ADMIN_TIMEOUT_MS;
use crate::cli::CliError;
use crate::cli::output::print;
use crate::cli::session::{self, failed};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DeleteArguments {
    /// Names of the topics
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn run(brokers: Vec<String>, arguments: DeleteArguments) -> Result<(), CliError> {
    let deleted = session::run(brokers, move |client| delete(client, arguments.names))?;
    for result in deleted {
        let name = result?;
        print(format!("deleted topic {name}\n").as_bytes())?;
    }
    Ok(())
}

/// What became of each.
async fn delete(client: Client, names: Vec<String>) -> Result<Vec<Result<String, CliError>>, CliError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let topics = names.iter().map(|name| DeleteTopicState {
        name: Some(name),
        topic_id: Uuid::ZERO,
    });
    let topics: Vec<_> = topics.collect();
    let request = DeleteTopicsRequest {
        topics: Array::from_slice(&topics),
        topic_names: Array::from_slice(&names),
        timeout_ms: ADMIN_TIMEOUT_MS,
    };
    let response: DeleteTopicsResponse = client
        .call_controller(&request)
        .await
        .map_err(failed(format!("delete {}", names.join(", "))))?;
    let results = response.topics.into_iter().zip(&names).map(|(topic, asked)| {
        let name = topic.name.unwrap_or_else(|| (*asked).to_owned());
        match topic.error_code {
            ErrorCode::None => Ok(name),
            code => Err(CliError::Refused {
                doing: format!("delete topic {name}"),
                code,
                message: topic.error_message,
            }),
        }
    });
    Ok(results.collect())
}
