//! `millstream group delete`.

use clap::Args;
use net::client::Client;
use wire::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use wire::{Array, ErrorCode};

use super::coordinator::coordinator;
use crate::cli::CliError;
use crate::cli::output::{print, printable};
use crate::cli::session::{self, failed, retried};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DeleteArguments {
    /// Names of the groups
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn run(brokers: Vec<String>, arguments: DeleteArguments) -> Result<(), CliError> {
    session::run(brokers, async move |client| {
        for name in &arguments.names {
            retried(async || delete(&client, name).await).await?;
            print(format!("deleted group {}\n", printable(name)).as_bytes())?;
        }
        Ok(())
    })
}

async fn delete(client: &Client, name: &str) -> Result<(), CliError> {
    let node_id = coordinator(client, name).await?;
    let doing = format!("delete group {name}");
    let names = [name];
    let request = DeleteGroupsRequest {
        groups_names: Array::from_slice(&names),
    };
    let response: DeleteGroupsResponse = client
        .call_node(node_id, &request)
        .await
        .map_err(failed(doing.as_str()))?;
    match response.results.first().map(|result| result.error_code) {
        Some(ErrorCode::None) => Ok(()),
        code => Err(CliError::Refused {
            doing,
            code: code.unwrap_or(ErrorCode::UnknownServerError),
            message: None,
        }),
    }
}
