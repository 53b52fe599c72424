//! What the load generator is told: subcommands and their options, with the bounds of each.

use clap::{Args, Parser, Subcommand, ValueEnum};
use wire::Compression;

/// Connections at most, all nodes together: each has a pool of its own for answers.
const CONNECTIONS_MAX: i64 = 1_000;
/// Partitions at most: one CreateTopics request.
const PARTITIONS_MAX: i64 = 10_000;
/// A run at most, in seconds: a day.
const SECONDS_MAX: i64 = 86_400;

/// Drives any Kafka-protocol broker and says how fast it was.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Sends batches that were built ahead, at a rate or flat out.
    Produce(ProduceArguments),
    /// Reads a topic as fast as it comes.
    Consume(ConsumeArguments),
}

/// What both subcommands want to know.
#[derive(Debug, Clone, Args)]
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
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bench produce`.
#[derive(Debug, Clone, Args)]
pub struct ProduceArguments {
    /// Common options.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Partitions to send to, from 0 on. A topic that is missing is created with so many.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=PARTITIONS_MAX))]
    pub partitions: i32,
    /// The value of a record, in bytes. Records have no key.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(0..=(64 << 20)))]
    pub record_size: u32,
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

/// Options of `bench consume`.
#[derive(Debug, Clone, Args)]
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
            let Command::Produce(produce) = Arguments::try_parse_from(line).unwrap().command else {
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
}
