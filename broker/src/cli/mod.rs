//! The command line: `millstream NOUN VERB`.
//!
//! Owns the grammar and what the client commands do. Promises: an error says what was tried, what was in the way and
//! what to do next; exit code 1 for what failed, 2 for a command line that is not one. Must never print anything but
//! the asked-for output to standard output.

mod cluster;
mod config;
mod error;
mod group;
mod log;
mod offsets;
mod output;
mod session;
mod topic;
mod tune;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::cluster::{ClusterArguments, run as run_cluster};
pub use self::config::{ConfigArguments, run as run_config};
pub use self::error::CliError;
pub use self::group::{GroupArguments, run as run_group};
pub use self::log::{LogArguments, run as run_log};
pub use self::topic::{TopicArguments, run as run_topic};
pub use self::tune::{TuneArguments, complaint, run as run_tune};

/// A Kafka-compatible broker: a core is a node, an acknowledged record is on the disk.
#[derive(Debug, Clone, PartialEq, Parser)]
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
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Run a broker
    Start(StartArguments),
    /// Create, list, describe and delete topics; produce to and consume from one
    Topic(TopicArguments),
    /// List, describe, reset and delete consumer groups
    Group(GroupArguments),
    /// Show and change the configs of topics and brokers
    Config(ConfigArguments),
    /// Show the cluster's id and its nodes
    Cluster(ClusterArguments),
    /// Look into a data directory: dump, check and explain its files
    Log(LogArguments),
    /// Hold this host against a profile of tuning/, and change what it asks for
    Tune(TuneArguments),
    /// Measure a broker, this or any other, or a disk
    Bench(bench::arguments::Arguments),
}

/// `millstream start`. What is not given comes from the configuration file, then from the profile, then from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StartArguments {
    /// Settings for a kind of work, and warnings of what is wrong with the host for it: one of `millstream tune list`, or a
    /// file
    #[arg(long, value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the log and everything else that must survive; several, one for each disk, separated by commas or
    /// in flags of their own: the first has the metadata [default: ./data]
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub data_dir: Vec<PathBuf>,
    /// A log directory that is lost for good, by its directory.id: the partitions in it begin anew, and empty
    #[arg(long, value_name = "ID", value_parser = directory_id, allow_hyphen_values = true)]
    pub give_up_directory: Option<u128>,
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

fn directory_id(text: &str) -> Result<u128, String> {
    storage::from_base64(text)
        .ok_or_else(|| "a directory.id is wanted, as meta.properties and messages have it".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        CommandLine::try_parse_from(line.split(' '))
            .map(CommandLine::command)
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_grammar_is_sound() {
        <CommandLine as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_starts_with_defaults() {
        assert_eq!(parse("millstream"), Ok(Command::Start(StartArguments::default())));
        assert_eq!(parse("millstream start"), parse("millstream"));
    }

    #[test]
    fn start_takes_settings_by_flag_and_by_name() {
        let line = "millstream start --profile latency --config c.toml --data-dir /d,/e --data-dir /f --give-up-directory -jRWeJq83vASNFZ4mrze8A --host h --port 0 --shards 4 --set a=b --set c=d=e";
        let expected = StartArguments {
            profile: Some("latency".to_owned()),
            config: Some("c.toml".into()),
            data_dir: vec!["/d".into(), "/e".into(), "/f".into()],
            give_up_directory: Some(0xfa34_5678_9abc_def0_1234_5678_9abc_def0),
            host: Some("h".to_owned()),
            port: Some(0),
            shards: Some(4),
            set: vec!["a=b".to_owned(), "c=d=e".to_owned()],
        };
        assert_eq!(parse(line), Ok(Command::Start(expected)));
    }

    #[test]
    fn what_is_no_command_line_is_refused() {
        for (line, kind) in [
            ("millstream begin", ErrorKind::InvalidSubcommand),
            ("millstream start --port 65536", ErrorKind::ValueValidation),
            ("millstream start --shards -1", ErrorKind::UnknownArgument),
            ("millstream start extra", ErrorKind::UnknownArgument),
            (
                "millstream start --give-up-directory 7",
                ErrorKind::ValueValidation,
            ),
            (
                "millstream topic",
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ),
            ("millstream topic create", ErrorKind::MissingRequiredArgument),
            (
                "millstream topic create t --config novalue",
                ErrorKind::ValueValidation,
            ),
            (
                "millstream topic create t --partitions 0",
                ErrorKind::ValueValidation,
            ),
            (
                "millstream topic consume t --offset soon",
                ErrorKind::ValueValidation,
            ),
            (
                "millstream topic consume t --offset -1",
                ErrorKind::UnknownArgument,
            ),
            (
                "millstream topic produce t --compression rar",
                ErrorKind::InvalidValue,
            ),
            (
                "millstream group",
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ),
            ("millstream group describe", ErrorKind::MissingRequiredArgument),
            (
                "millstream group reset g --topic t",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "millstream group reset g --topic t --to-latest --to-offset 1",
                ErrorKind::ArgumentConflict,
            ),
            (
                "millstream group reset g --topic t --to-time noon",
                ErrorKind::ValueValidation,
            ),
            ("millstream config get shard 1", ErrorKind::InvalidValue),
            (
                "millstream config set topic t",
                ErrorKind::MissingRequiredArgument,
            ),
            ("millstream config set topic t key", ErrorKind::ValueValidation),
            ("millstream cluster --output xml", ErrorKind::InvalidValue),
            ("millstream log dump", ErrorKind::MissingRequiredArgument),
            (
                "millstream bench sweep --batch-sizes 0",
                ErrorKind::ValueValidation,
            ),
            (
                "millstream bench sweep --rates 5 --fractions 10%",
                ErrorKind::ArgumentConflict,
            ),
            ("millstream bench compare a:1", ErrorKind::MissingRequiredArgument),
            ("millstream bench disk --seconds 0", ErrorKind::ValueValidation),
            ("millstream log check --output xml", ErrorKind::InvalidValue),
            ("millstream tune check", ErrorKind::MissingRequiredArgument),
            (
                "millstream tune apply --output json --profile dev",
                ErrorKind::UnknownArgument,
            ),
            (
                "millstream topic produce t --partition -1",
                ErrorKind::UnknownArgument,
            ),
        ] {
            assert_eq!(parse(line), Err(kind), "{line}");
        }
    }
}
