//! What the load generator is told: subcommands and their options, with the bounds of each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wire::Compression;

use crate::compare::CompareArguments;
use crate::disk::DiskArguments;
use crate::error::BenchError;
use crate::record_arguments::RecordArguments;
use crate::sweep::SweepArguments;

/// Connections at most, all nodes together: each has a pool of its own for answers.
const CONNECTIONS_MAX: i64 = 1_000;
/// Partitions at most: one CreateTopics request.
const PARTITIONS_MAX: i64 = 10_000;
/// A batch, or a record, at most, in bytes.
const BATCH_BYTES_MAX: u32 = 64 << 20;
/// A run at most, in seconds: a day.
const SECONDS_MAX: i64 = 86_400;

/// Drives any Kafka-protocol broker and says how fast it was.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "bench", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// One run.
    #[command(flatten)]
    Load(LoadCommand),
    /// Latency against batch size and rate: a table, and a plot of p99
    Sweep(SweepArguments),
    /// What this file system and its disk give
    Disk(DiskArguments),
    /// The same load on two clusters, in turns, and the ratio
    Compare(CompareArguments),
}

/// One run.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum LoadCommand {
    /// Sends batches that were built ahead, at a rate or flat out
    Produce(ProduceArguments),
    /// Reads a topic as fast as it comes
    Consume(ConsumeArguments),
    /// Sends batches and reads them back: latency ends when a batch is read
    EndToEnd(EndToEndArguments),
}

/// What both want to know.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct CommonArguments {
    /// Where to find the cluster: host:port, several with commas.
    #[arg(
        long,
        short = 'b',
        env = "BROKERS",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    pub brokers: Vec<String>,
    /// The topic.
    #[arg(long, short = 't', default_value = "bench")]
    pub topic: String,
    /// Clients. Each takes a share of the partitions and has a connection to every node that leads one of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub connections: u32,
    /// Threads of this program that the connections are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub seconds: u32,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=SECONDS_MAX))]
    pub warmup_seconds: u32,
    /// Reports the CPU seconds of this process of this host, too: the broker's.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Prints the report as JSON: the same as `--format json`.
    #[arg(long)]
    pub json: bool,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Table, conflicts_with = "json")]
    pub format: Format,
}

impl CommonArguments {
    /// How the report is printed.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// The lines that Kafka's perf tests print.
    Kafka,
}

/// Options of `bench produce`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ProduceArguments {
    /// Common options.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Partitions to send to, from 0 on. A topic that is missing is created with so many.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=PARTITIONS_MAX))]
    pub partitions: i32,
    /// What is sent.
    #[command(flatten)]
    pub records: RecordArguments,
    /// A batch at most, in bytes, as Kafka's batch.size; at least one record goes into it.
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=(64 << 20)))]
    pub batch_size: u32,
    /// When a batch is acknowledged.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Requests sent and not answered on each connection, at most.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub in_flight: u32,
    /// Records a second, all partitions together: an open loop, in which latency counts from the moment at which a
    /// batch was due, sent or not. Without it: flat out, a closed loop, in which latency counts from the sending.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub rate: Option<u64>,
    /// The codec of the batches.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub compression: Codec,
}

/// The load that runs that are compared with each other have in common.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WorkloadArguments {
    /// Partitions of the topics that are made, and deleted afterwards.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=PARTITIONS_MAX))]
    pub partitions: i32,
    /// Clients. Each takes a share of the partitions and has a connection to every node that leads one of them.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub connections: u32,
    /// Threads of this program that the connections are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// What is sent.
    #[command(flatten)]
    pub records: RecordArguments,
    /// When a batch is acknowledged.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Requests sent and not answered on each connection, at most.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub in_flight: u32,
    /// The codec of the batches.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub compression: Codec,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub seconds: u32,
    /// How long each runs before it is measured, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=SECONDS_MAX))]
    pub warmup_seconds: u32,
    /// Where an embedded broker's data goes: into a new directory in this one, which is removed afterwards.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
}

impl WorkloadArguments {
    /// One run of it.
    pub(crate) fn produce(&self, place: &RunPlace, batch_size: u32, rate: Option<u64>) -> ProduceArguments {
        ProduceArguments {
            common: CommonArguments {
                brokers: place.brokers.clone(),
                topic: place.topic.clone(),
                connections: self.connections,
                threads: self.threads,
                seconds: self.seconds,
                warmup_seconds: self.warmup_seconds,
                server_pid: place.server_pid,
                json: false,
                format: Format::Table,
            },
            partitions: self.partitions,
            records: self.records.clone(),
            batch_size,
            acks: self.acks,
            in_flight: self.in_flight,
            rate,
            compression: self.compression,
        }
    }

    /// Fails if it cannot be sent so.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        self.records.check(self.partitions, self.acks, self.in_flight)
    }

    /// A run, in seconds.
    pub(crate) fn run_seconds(&self) -> u64 {
        u64::from(self.seconds) + u64::from(self.warmup_seconds)
    }
}

/// Where a run goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunPlace {
    pub(crate) brokers: Vec<String>,
    pub(crate) topic: String,
    /// The broker's process, if it is ours.
    pub(crate) server_pid: Option<u32>,
}

/// Reads a number of bytes: `16384`, `16k` or `16KiB`, `1m` or `1MiB`.
pub(crate) fn bytes(text: &str) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &lower[digits.len()..] {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        _ => return Err("a number of bytes, such as 16384, 16k or 1m".to_owned()),
    };
    let count: u32 = digits
        .parse()
        .map_err(|_| "a number of bytes, such as 16384, 16k or 1m".to_owned())?;
    let value = count.checked_mul(unit);
    value
        .filter(|bytes| (1..=BATCH_BYTES_MAX).contains(bytes))
        .ok_or_else(|| "from 1 byte to 64 MiB".to_owned())
}

/// The same number, as people write it.
pub(crate) fn shown_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// Options of `bench consume`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ConsumeArguments {
    /// Common options.
    #[command(flatten)]
    pub common: CommonArguments,
    /// What to do at the end of the log.
    #[arg(long, value_enum, default_value_t = AtEnd::Stop)]
    pub at_end: AtEnd,
    /// A fetch at most, in bytes, as fetch.max.bytes.
    #[arg(long, default_value_t = 8 << 20, value_parser = clap::value_parser!(u32).range(1..=(64 << 20)))]
    pub max_bytes: u32,
    /// A fetch of one partition at most, in bytes, as max.partition.fetch.bytes.
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=(64 << 20)))]
    pub partition_max_bytes: u32,
    /// A fetch waits for so many bytes, as fetch.min.bytes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=(64 << 20)))]
    pub min_bytes: u32,
    /// But no longer than this, in milliseconds, as fetch.max.wait.ms.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub max_wait_ms: u32,
    /// Checks the CRC of every batch, as consumers do by default.
    #[arg(long)]
    pub check_crcs: bool,
}

/// Options of `bench end-to-end`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct EndToEndArguments {
    /// What is sent. Each partition is sent to by one client: no more connections than partitions; and acks are needed.
    #[command(flatten)]
    pub produce: ProduceArguments,
    /// A fetch without a record waits so long at most, in milliseconds, as fetch.max.wait.ms.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub max_wait_ms: u32,
}

/// When a batch is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// Never: latency ends when the batch is handed to the system.
    #[value(name = "0")]
    None,
    /// By the leader.
    #[value(name = "1")]
    Leader,
    /// By all replicas in sync.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// The number of the protocol.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// What to do at the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AtEnd {
    /// End the run when every partition was read to the end that it had then.
    Stop,
    /// Begin again at the start of the log.
    Restart,
    /// Wait for more.
    Wait,
}

/// A codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "Kafka's own names")]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}

/// The name as the command line spells it.
pub(crate) fn spelled(value: &impl ValueEnum) -> String {
    (value.to_possible_value()).map_or_else(String::new, |name| name.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn acks_are_spelled_as_kafka_spells_them() {
        for (text, code) in [("0", 0), ("1", 1), ("all", -1), ("-1", -1)] {
            let line = ["bench", "produce", &format!("--acks={text}")];
            let Command::Load(LoadCommand::Produce(produce)) =
                Arguments::try_parse_from(line).unwrap().command
            else {
                panic!("produce was asked for");
            };
            assert_eq!(produce.acks.code(), code);
        }
        assert!(Arguments::try_parse_from(["bench", "produce", "--acks=2"]).is_err());
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for option in [
            "--partitions=0",
            "--connections=0",
            "--seconds=0",
            "--rate=0",
            "--in-flight=0",
        ] {
            assert!(
                Arguments::try_parse_from(["bench", "produce", option]).is_err(),
                "{option}"
            );
        }
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        let read = ["1", "16384", "16k", "16KiB", "1m", "64MiB"].map(|text| bytes(text).unwrap());
        assert_eq!(read, [1, 16_384, 16_384, 16_384, 1 << 20, 64 << 20]);
        for text in ["", "k", "0", "-1", "1g", "16 k", "65m", "4194304k", "99999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(
            [1_000, 4_096, 1 << 20].map(shown_bytes),
            ["1000 B", "4 KiB", "1 MiB"]
        );
    }
}
