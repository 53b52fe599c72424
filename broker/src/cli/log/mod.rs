//! `millstream log VERB`: what is in a data directory, for its operator. No broker is asked, and nothing is written.
//!
//! Owns the words; what is true is said by `storage::inspect`. Exit codes: 0 all is well, 1 something is wrong with the
//! files, 2 it could not be found out.

mod check;
mod dump;
mod explain;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ring::channel;
use ring::thread::{ThreadOptions, spawn};
use storage::StorageError;

use self::check::CheckArguments;
use self::dump::DumpArguments;
use self::explain::ExplainArguments;
use crate::cli::CliError;

/// Not a real bound: what a command takes at a time is bounded by what it reads.
const MEMORY_BYTES: usize = 1 << 52;
/// The code of a command that could not find out what it was asked.
const CANNOT_RUN: u8 = 2;

/// `millstream log`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LogArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Print what is in segments, indexes, journals and checkpoints
    Dump(DumpArguments),
    /// Check every file of a data directory that no broker uses
    Check(CheckArguments),
    /// Say what a start would do with a data directory now
    Explain(ExplainArguments),
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Place {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Partitions, such as orders-0; without one all of them
    #[arg(value_name = "PARTITION")]
    partitions: Vec<String>,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing is wrong with the files.
    Well,
    /// Something is.
    Ill,
}

/// Why a command could not find out what it was asked.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Cli(#[from] CliError),
}

/// Runs a command to its end; the code to exit with.
pub fn run(arguments: LogArguments) -> ExitCode {
    let ran = match arguments.verb {
        Verb::Dump(arguments) => on_a_thread(move || dump::run(arguments)),
        Verb::Check(arguments) => on_a_thread(move || check::run(arguments)),
        Verb::Explain(arguments) => on_a_thread(move || explain::run(arguments)),
    };
    match ran {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Ill) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("millstream: {error}");
            if let LogError::Storage(StorageError::InUse { .. }) = error {
                eprintln!(
                    "next: what a broker is writing would look like damage: stop it, or use `millstream log explain` and \
                     `millstream log dump`, which work beside it"
                );
            }
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Files are read on a ring thread.
fn on_a_thread<F, Fut>(command: F) -> Result<Verdict, LogError>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Verdict, LogError>> + 'static,
{
    let (answer, result) = channel::oneshot();
    let options = ThreadOptions {
        name: "log".to_owned(),
        cpu: None,
        memory_bytes: MEMORY_BYTES,
        ..ThreadOptions::default()
    };
    let thread = spawn(options, move || async move {
        // The caller waits.
        let _ = answer.give(command().await);
    })
    .map_err(CliError::Runtime)?;
    let result = result.wait_blocking().expect("the thread gives its result");
    thread.join_blocking();
    result
}
