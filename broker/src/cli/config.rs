//! `millstream config get|set`: the configs of topics and brokers.

use clap::{Args, Subcommand, ValueEnum};
use net::client::Client;
use serde_json::{Value, json};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse, DescribedConfig,
};
use wire::messages::incremental_alter_configs::{
    ChangedConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse, OPERATION_DELETE, OPERATION_SET,
};
use wire::{Array, ErrorCode, Request, Response, schema::Decode};

use crate::cli::CliError;
use crate::cli::output::{OutputArguments, known, print, table};
use crate::cli::session::{self, Bootstrap, failed};
use crate::cli::topic::key_and_value;

/// Kafka's type of a topic's configs.
const TYPE_TOPIC: i8 = 2;
/// Kafka's type of a broker's configs.
const TYPE_BROKER: i8 = 4;
/// The name of what holds for all brokers, on the command line.
const ALL_BROKERS: &str = "all";

/// `millstream config`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArguments {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Show the configs of a topic or a broker, and where each value comes from
    Get(GetArguments),
    /// Change configs of a topic or a broker; the others stay as they are
    Set(SetArguments),
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct GetArguments {
    #[command(flatten)]
    resource: Resource,
    /// Names of configs [default: all]
    keys: Vec<String>,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct SetArguments {
    #[command(flatten)]
    resource: Resource,
    /// A config and its value, such as retention.ms=3600000
    #[arg(value_name = "KEY=VALUE", value_parser = key_and_value, required_unless_present = "defaults")]
    values: Vec<(String, String)>,
    /// A config that is to have its default again; may be repeated
    #[arg(long = "default", value_name = "KEY")]
    defaults: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Resource {
    /// What has the configs
    #[arg(value_enum)]
    kind: Kind,
    /// The topic's name, the broker's node id, or `all` for what holds for all brokers
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Topic,
    Broker,
}

/// Runs a command to its end.
///
/// # Errors
/// If the cluster cannot be reached, refuses, or standard output fails.
pub fn run(arguments: ConfigArguments) -> Result<(), CliError> {
    let brokers = arguments.bootstrap.brokers;
    let text = match arguments.verb {
        Verb::Get(arguments) => {
            let output = arguments.output;
            let resource_is_all = arguments.resource.is_all_brokers();
            let mut configs = session::run(brokers, async move |client| get(&client, &arguments).await)?;
            configs.sort_by(|one, other| one.name.cmp(&other.name));
            let is_nothing = configs.is_empty() && resource_is_all;
            let nothing = || "no config is set for all brokers\n".to_owned();
            output.text(
                || if is_nothing { nothing() } else { rows(&configs) },
                || document(&configs),
            )
        }
        Verb::Set(arguments) => {
            let changed = format!("changed {}\n", arguments.resource.shown());
            session::run(brokers, async move |client| set(&client, &arguments).await)?;
            changed
        }
    };
    print(text.as_bytes()).map(|_| ())
}

impl Resource {
    fn type_code(&self) -> i8 {
        match self.kind {
            Kind::Topic => TYPE_TOPIC,
            Kind::Broker => TYPE_BROKER,
        }
    }

    fn is_all_brokers(&self) -> bool {
        self.kind == Kind::Broker && self.name == ALL_BROKERS
    }

    /// What Kafka calls it.
    fn wire_name(&self) -> &str {
        match (self.kind, self.name.as_str()) {
            (Kind::Broker, ALL_BROKERS) => "",
            (_, name) => name,
        }
    }

    fn shown(&self) -> String {
        match (self.kind, self.name.as_str()) {
            (Kind::Topic, name) => format!("topic {name}"),
            (Kind::Broker, ALL_BROKERS) => "all brokers".to_owned(),
            (Kind::Broker, name) => format!("broker {name}"),
        }
    }

    /// Asks the broker whose configs are meant, or else the controller.
    async fn call<'a, Q, A>(&self, client: &Client, doing: &str, request: &Q) -> Result<A, CliError>
    where
        Q: Request<'a>,
        A: Response + for<'b> Decode<'b>,
    {
        let node_id = self.wire_name().parse().ok();
        let answer = match node_id.filter(|_| self.kind == Kind::Broker) {
            Some(node_id) => client.call_node(node_id, request).await,
            None => client.call_controller(request).await,
        };
        answer.map_err(failed(doing))
    }
}

async fn get(client: &Client, arguments: &GetArguments) -> Result<Vec<DescribedConfig>, CliError> {
    let resource = &arguments.resource;
    let doing = format!("describe the configs of {}", resource.shown());
    let keys: Vec<&str> = arguments.keys.iter().map(String::as_str).collect();
    let resources = [DescribeConfigsResource {
        resource_type: resource.type_code(),
        resource_name: resource.wire_name(),
        configuration_keys: Some(Array::from_slice(&keys)).filter(|keys| !keys.is_empty()),
    }];
    let request = DescribeConfigsRequest {
        resources: Array::from_slice(&resources),
        include_synonyms: false,
        include_documentation: true,
    };
    let response: DescribeConfigsResponse = resource.call(client, &doing, &request).await?;
    let result = response.results.into_iter().next().unwrap_or_default();
    if result.error_code != ErrorCode::None {
        return Err(CliError::Refused {
            doing,
            code: result.error_code,
            message: result.error_message,
        });
    }
    // A key that no config has is left out of the answer, and for all brokers one that was not changed.
    let is_there = |key: &&&str| result.configs.iter().any(|config| config.name == **key);
    if let Some(missing) = keys.iter().find(|key| !is_there(key)) {
        let message = match (resource.kind, resource.wire_name()) {
            (Kind::Broker, "") => format!("{missing} is not set for all brokers"),
            _ => format!("there is no config {missing}"),
        };
        return Err(CliError::Refused {
            doing,
            code: ErrorCode::InvalidConfig,
            message: Some(message),
        });
    }
    Ok(result.configs)
}

async fn set(client: &Client, arguments: &SetArguments) -> Result<(), CliError> {
    let resource = &arguments.resource;
    let doing = format!("change the configs of {}", resource.shown());
    let values = arguments.values.iter().map(|(name, value)| ChangedConfig {
        name,
        config_operation: OPERATION_SET,
        value: Some(value),
    });
    let defaults = arguments.defaults.iter().map(|name| ChangedConfig {
        name,
        config_operation: OPERATION_DELETE,
        value: None,
    });
    let configs: Vec<_> = values.chain(defaults).collect();
    let resources = [IncrementalAlterConfigsResource {
        resource_type: resource.type_code(),
        resource_name: resource.wire_name(),
        configs: Array::from_slice(&configs),
    }];
    let request = IncrementalAlterConfigsRequest {
        resources: Array::from_slice(&resources),
        validate_only: false,
    };
    let response: IncrementalAlterConfigsResponse = resource.call(client, &doing, &request).await?;
    match response
        .responses
        .into_iter()
        .find(|result| result.error_code != ErrorCode::None)
    {
        None => Ok(()),
        Some(refused) => Err(CliError::Refused {
            doing,
            code: refused.error_code,
            message: refused.error_message,
        }),
    }
}

fn rows(configs: &[DescribedConfig]) -> String {
    let mut rows = vec![["config", "value", "source", "read only"].map(str::to_owned)];
    for config in configs {
        rows.push([
            config.name.clone(),
            known(config.value.as_ref()),
            source(config.config_source).to_owned(),
            if config.read_only { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table(&rows)
}

fn document(configs: &[DescribedConfig]) -> Value {
    let one = |config: &DescribedConfig| {
        json!({
            "config": config.name,
            "value": config.value,
            "source": source(config.config_source),
            "is_read_only": config.read_only,
            "is_sensitive": config.is_sensitive,
            "documentation": config.documentation,
        })
    };
    configs.iter().map(one).collect()
}

/// Where a value comes from: Kafka's numbers (KIP-226).
fn source(code: i8) -> &'static str {
    match code {
        1 => "topic",
        2 => "broker, changed",
        3 => "all brokers, changed",
        4 => "broker's start",
        5 => "default",
        _ => "other",
    }
}
