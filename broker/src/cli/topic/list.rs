//! `millstream topic list`.

use super::print;
use crate::cli::CliError;
use crate::cli::session::{self, failed};

pub(super) fn run(brokers: Vec<String>) -> Result<(), CliError> {
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
    let lines: String = names.into_iter().map(|name| name + "\n").collect();
    print(lines.as_bytes()).map(|_| ())
}
