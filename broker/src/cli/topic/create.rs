//! `millstream topic create`.

use clap::Args;
use net::client::Client;
use wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use wire::{Array, ErrorCode};

use super::ADMIN_TIMEOUT_MS;
use crate::cli::CliError;
use crate::cli::output::print;
use crate::cli::session::{self, failed};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct CreateArguments {
    /// Name of the topic
    name: String,
    /// Partitions [default: the broker's num.partitions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A config of the topic, such as retention.ms=3600000; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_and_value)]
    configs: Vec<(String, String)>,
}

pub(in crate::cli) fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give KEY=VALUE".to_owned()),
    }
}

pub(super) fn run(brokers: Vec<String>, arguments: CreateArguments) -> Result<(), CliError> {
    let name = arguments.name.clone();
    session::run(brokers, move |client| create(client, arguments))?;
    print(format!("created topic {name}\n").as_bytes()).map(|_| ())
}

async fn create(client: Client, arguments: CreateArguments) -> Result<(), CliError> {
    let doing = format!("create topic {}", arguments.name);
    let configs = arguments
        .configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name,
            value: Some(value),
        });
    let configs: Vec<_> = configs.collect();
    let topics = [CreatableTopic {
        name: &arguments.name,
        num_partitions: arguments.partitions.unwrap_or(-1),
        replication_factor: arguments.replication_factor.unwrap_or(-1),
        configs: Array::from_slice(&configs),
        ..CreatableTopic::default()
    }];
    let request = CreateTopicsRequest {
        topics: Array::from_slice(&topics),
        timeout_ms: ADMIN_TIMEOUT_MS,
        validate_only: false,
    };
    let response: CreateTopicsResponse = client
        .call_controller(&request)
        .await
        .map_err(failed(doing.as_str()))?;
    match response
        .topics
        .into_iter()
        .find(|topic| topic.error_code != ErrorCode::None)
    {
        None => Ok(()),
        Some(topic) => Err(CliError::Refused {
            doing,
            code: topic.error_code,
            message: topic.error_message,
        }),
    }
}
