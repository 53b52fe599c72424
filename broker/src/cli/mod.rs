//! The command line: `millstream NOUN VERB`.
//!
//! Owns the grammar and what the client commands do. Promises: an error says what was tried, what was in the way and
//! what to do next; exit code 1 for what failed, 2 for a command line that is not one. Must never print anything but
//! the asked-for output to standard output.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A Kafka-compatible broker: a core is a node, an acknowledged record is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "millstream", version, about, disable_help_subcommand = true)]
pub struct CommandLine {
    /// Without one: `start` with its defaults.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl CommandLine {
    /// The command; `start` with defaults if none was given.
    pub fn command(self) -> Command {
        self.command
            .unwrap_or_else(|| Command::Start(StartArguments::default()))
    }
}

/// What the program can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run a broker
    Start(StartArguments),
}

/// `millstream start`. What is not given comes from the configuration file, then from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StartArguments {
    /// Configuration file (TOML, or Kafka's server.properties)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the log and everything else that must survive [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Port of shard 0; 0 takes free ports and prints them [default: 9092]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Shards: cores, and so Kafka nodes, of this host [default: 2]
    #[arg(long, value_name = "N")]
    pub shards: Option<u32>,
    /// A setting by Kafka's name, such as auto.create.topics.enable=false; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
