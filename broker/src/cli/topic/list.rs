//! `millstream topic list`.

use clap::Args;

use crate::cli::CliError;
use crate::cli::output::{OutputArguments, print};
use crate::cli::session::{self, failed};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(brokers: Vec<String>, arguments: ListArguments) -> Result<(), CliError> {
    let mut names = session::run(brokers, async |client| {
        let metadata = client
            .metadata(None, false)
            .await
            .map_err(failed("list topics"))?;
        Ok(metadata
            .topics
            .into_iter()
            .filter_map(|topic| topic.name)
            .collect::<Vec<_>>())
    })?;
    names.sort();
    let lines = || names.iter().map(|name| format!("{name}\n")).collect();
    let text = arguments.output.text(lines, || names.iter().cloned().collect());
    print(text.as_bytes()).map(|_| ())
}
