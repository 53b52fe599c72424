//! `millstream group VERB`: consumer groups, what they have committed, and how far behind they are.

mod assignment;
mod committed;
mod coordinator;
mod delete;
mod describe;
mod list;
mod reset;
mod time;

use clap::{Args, Subcommand};

use self::delete::DeleteArguments;
use self::describe::DescribeArguments;
use self::list::ListArguments;
use self::reset::ResetArguments;
use crate::cli::CliError;
use crate::cli::session::Bootstrap;

/// `millstream group`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GroupArguments {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Verb {
    /// List all groups
    List(ListArguments),
    /// Show the partitions of groups: what is committed, how far behind, and who reads
    Describe(DescribeArguments),
    /// Let a group that has no members go on elsewhere
    Reset(ResetArguments),
    /// Delete groups that have no members, and what they have committed
    Delete(DeleteArguments),
}

/// Runs a command to its end.
///
/// # Errors
/// If the cluster cannot be reached, refuses, or standard output fails.
pub fn run(arguments: GroupArguments) -> Result<(), CliError> {
    let brokers = arguments.bootstrap.brokers;
    match arguments.verb {
        Verb::List(arguments) => list::run(brokers, arguments),
        Verb::Describe(arguments) => describe::run(brokers, arguments),
        Verb::Reset(arguments) => reset::run(brokers, arguments),
        Verb::Delete(arguments) => delete::run(brokers, arguments),
    }
}
