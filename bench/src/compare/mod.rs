//! `bench compare A B`: the same load on two clusters, in turns, and the ratio of one to the other.
//!
//! | file | what |
//! |---|---|
//! | `pairs.rs` | the order of the runs, medians and ratios |
//! | `table.rs` | the table, and the JSON |

pub mod pairs;
pub mod table;

use clap::Args;
use ring::clock;

use self::pairs::order;
use self::table::{Comparison, Pair, Side};
use crate::arguments::{RunPlace, WorkloadArguments, bytes};
use crate::cluster::{open_topic, remove_topic};
use crate::embedded::{BrokerProgram, EmbeddedBroker};
use crate::environment;
use crate::error::BenchError;
use crate::leftovers::Leftovers;
use crate::measure::Watching;
use crate::report::{Report, run_line};
use crate::room;
use crate::run::{Verdict, on_watch, print, run_produce};

/// The word for a broker of our own.
const EMBEDDED: &str = "embedded";

/// Options of `bench compare`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct CompareArguments {
    /// A cluster: host:port, several with commas; or the word `embedded`: a broker of its own.
    pub a: String,
    /// The other one, likewise.
    pub b: String,
    /// A batch at most, in bytes, as Kafka's batch.size; at least one record goes into it.
    #[arg(long, value_parser = bytes, default_value = "16k")]
    pub batch_size: u32,
    /// Records a second: an open loop, and the p99s are compared. Without it: flat out, and the MB/s are compared.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub rate: Option<u64>,
    /// Pairs of runs. Each has one run of each side; the next has them in the other order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub pairs: u32,
    /// Ends with 1 if A is not at least so many times as good as B, by the median of the pairs.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub at_least: Option<f64>,
    /// The CPU seconds of this process of this host are A's.
    #[arg(long, value_name = "PID")]
    pub a_pid: Option<u32>,
    /// The CPU seconds of this process of this host are B's.
    #[arg(long, value_name = "PID")]
    pub b_pid: Option<u32>,
    /// The load.
    #[command(flatten)]
    pub workload: WorkloadArguments,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

fn ratio(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a ratio, such as 1.5".to_owned())?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err("above 0".to_owned())
    }
}

/// Runs the comparison and prints it. Blocks an ordinary thread.
pub(crate) fn main(arguments: &CompareArguments, program: BrokerProgram) -> Result<Verdict, BenchError> {
    arguments.workload.check()?;
    let host = environment::host();
    let leftovers = Leftovers::watched()?;
    let mut to_run = arguments.clone();
    for (side, pid) in [
        (&mut to_run.a, &mut to_run.a_pid),
        (&mut to_run.b, &mut to_run.b_pid),
    ] {
        if side == EMBEDDED {
            let broker = EmbeddedBroker::start(program, &arguments.workload.directory, &leftovers)?;
            *side = broker.address;
            *pid = Some(broker.pid);
        }
    }
    let mut comparison = on_watch(move || run_here(to_run))?;
    leftovers.clear();
    comparison.host = host;
    print(arguments.json, &comparison, || comparison.to_json())?;
    Ok(Verdict::of(comparison.is_good()))
}

/// Runs the comparison of brokers that are there, on a ring thread (or a simulated one); progress goes to stderr.
///
/// # Errors
/// If a run could not begin. What failed in one is in the comparison.
pub async fn run_here(arguments: CompareArguments) -> Result<Comparison, BenchError> {
    let began_ms = clock::wall_clock_ms();
    let name = format!("bench-compare-{began_ms}");
    let sides = [(&arguments.a, arguments.a_pid), (&arguments.b, arguments.b_pid)];
    let places = sides.map(|(brokers, server_pid)| RunPlace {
        brokers: brokers.split(',').map(str::to_owned).collect(),
        topic: name.clone(),
        server_pid,
    });
    let mut clusters = Vec::new();
    for place in &places {
        clusters.push(open_topic(&place.brokers, &name, arguments.workload.partitions).await?);
        remove_topic(&place.brokers, &name).await;
    }
    let (pairs, run_s) = (arguments.pairs, arguments.workload.run_seconds());
    eprintln!("{pairs} pairs of runs of {run_s} s each, in topics {name}-N");
    let mut pairs = Vec::new();
    let mut bytes_per_s = [0.0; 2];
    for number in 0..arguments.pairs {
        let mut reports: [Option<Report>; 2] = [None, None];
        for side in order(number) {
            let place = RunPlace {
                topic: format!("{name}-{number}"),
                ..places[side].clone()
            };
            let (workload, rate) = (&arguments.workload, arguments.rate);
            room::look_for_a_run(&clusters[side], workload, rate, bytes_per_s[side]).await?;
            let produce = workload.produce(&place, arguments.batch_size, rate);
            let ran = run_produce(produce, Watching::default()).await;
            remove_topic(&place.brokers, &place.topic).await;
            let report = ran?;
            let line = run_line(["A", "B"][side], &report);
            eprintln!("{:>3}/{}  {line}", number + 1, arguments.pairs);
            bytes_per_s[side] = report.mb_per_s() * 1e6;
            reports[side] = Some(report);
        }
        let [Some(a), Some(b)] = reports else {
            unreachable!("a pair has a run of each side");
        };
        pairs.push(Pair { a, b });
    }
    let [a, b]: [Side; 2] = std::array::from_fn(|side| Side {
        name: ["A", "B"][side],
        cluster: clusters[side].clone(),
    });
    Ok(Comparison {
        began_ms,
        host: Vec::new(),
        sides: [a, b],
        workload: arguments.workload,
        batch_bytes: arguments.batch_size,
        rate: arguments.rate,
        at_least: arguments.at_least,
        pairs,
    })
}
