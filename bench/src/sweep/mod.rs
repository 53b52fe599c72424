//! `bench sweep`: latency against batch size and rate.
//!
//! For each batch size it measures first what flat out gives (a closed loop), and then, at parts of that rate, an open
//! loop, whose latency counts from when a batch was due. Each run has a warm-up of its own and a topic of its own, which
//! is deleted before the next.
//!
//! | file | what |
//! |---|---|
//! | `plan.rs` | which runs there are |
//! | `table.rs` | the table, and the JSON |
//! | `plot.rs` | a plot as SVG |
//! | `page.rs` | one HTML page with all of it |

mod page;
pub mod plan;
mod plot;
pub mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use ring::clock;

use self::plan::{Cell, Fraction, Pace, cells};
use self::table::{CellResult, Sweep};
use crate::arguments::{RunPlace, WorkloadArguments, bytes};
use crate::cluster::{open_topic, remove_topic};
use crate::embedded::{BrokerProgram, EmbeddedBroker};
use crate::environment::{self, Facts};
use crate::error::BenchError;
use crate::hdr_log;
use crate::leftovers::Leftovers;
use crate::measure::Watching;
use crate::report::{Report, run_line};
use crate::room;
use crate::run::{Verdict, on_watch, print, run_produce};

/// Options of `bench sweep`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct SweepArguments {
    /// Where to find the cluster: host:port, several with commas. Without it: a broker of its own, whose data is
    /// removed afterwards.
    #[arg(long, short = 'b', env = "BROKERS", value_delimiter = ',')]
    pub brokers: Vec<String>,
    /// Batches at most, in bytes, as Kafka's batch.size; at least one record goes into each.
    #[arg(long, value_delimiter = ',', value_parser = bytes, default_value = "1k,4k,16k,64k,256k,1m")]
    pub batch_sizes: Vec<u32>,
    /// Rates, as parts of what each batch size gives flat out: 50% or 0.5.
    #[arg(long, value_delimiter = ',', value_parser = Fraction::parse, default_value = "10%,50%,80%")]
    pub fractions: Vec<Fraction>,
    /// Rates in records a second, instead of fractions.
    #[arg(
        long,
        value_delimiter = ',',
        conflicts_with = "fractions",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000)
    )]
    pub rates: Vec<u64>,
    /// The load.
    #[command(flatten)]
    pub workload: WorkloadArguments,
    /// Reports the CPU seconds of this process of this host, too: the broker's. An embedded one is known.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Writes one HTML page that shows everything and loads nothing.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Writes the plot of p99 against batch size.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Writes each run's percentiles (.hgrm), and an HDR interval log of all (sweep.hlog).
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
}

impl SweepArguments {
    fn cells(&self) -> Vec<Cell> {
        let fractions = if self.rates.is_empty() {
            &self.fractions[..]
        } else {
            &[]
        };
        cells(&self.batch_sizes, fractions, &self.rates)
    }
}

/// Runs the sweep and prints it. Blocks an ordinary thread.
pub(crate) fn main(arguments: &SweepArguments, program: BrokerProgram) -> Result<Verdict, BenchError> {
    arguments.workload.check()?;
    // Before minutes are spent on what cannot be kept.
    for path in [&arguments.html, &arguments.svg].into_iter().flatten() {
        try_to_write(path)?;
    }
    if let Some(directory) = &arguments.hgrm {
        #[expect(clippy::disallowed_methods, reason = "an ordinary thread, before the run")]
        std::fs::create_dir_all(directory).map_err(|error| BenchError::Local {
            doing: format!("make {}", directory.display()),
            error,
        })?;
    }
    let host = environment::host();
    let leftovers = Leftovers::watched()?;
    let mut to_run = arguments.clone();
    let mut embedded_in = None;
    if to_run.brokers.is_empty() {
        eprintln!("no --brokers: starting a broker of our own");
        let broker = EmbeddedBroker::start(program, &arguments.workload.directory, &leftovers)?;
        to_run.brokers = vec![broker.address];
        to_run.server_pid = Some(broker.pid);
        embedded_in = Some(arguments.workload.directory.clone());
    }
    let mut sweep = on_watch(move || run_here(to_run))?;
    let log_directory = (sweep.cluster.log_directory.as_ref()).map(PathBuf::from);
    let disk = (embedded_in.or(log_directory)).map_or_else(Facts::new, |place| environment::disk_of(&place));
    leftovers.clear();
    sweep.host = host.into_iter().chain(disk).collect();
    if sweep.cluster.log_directory.is_none() {
        let unknown = "unknown: the broker is not on this host, or does not tell where its log is";
        sweep.host.push(("broker's disk", unknown.to_owned()));
    }
    print(arguments.json, &sweep, || sweep.to_json())?;
    if let Some(path) = &arguments.html {
        write(path, &page::html(&sweep))?;
        eprintln!("wrote {}", path.display());
    }
    if let Some(path) = &arguments.svg {
        write(path, &page::latency_plot(&sweep).svg())?;
        eprintln!("wrote {}", path.display());
    }
    if let Some(directory) = &arguments.hgrm {
        for result in &sweep.results {
            let path = directory.join(format!("{}.hgrm", result.cell.tag()));
            write(&path, &hdr_log::percentiles(&result.report.sample.latency_ns))?;
        }
        let lines = sweep.results.iter().map(|result| result.hdr_log.as_str());
        let log = hdr_log::header(sweep.began_ms) + &lines.collect::<String>();
        write(&directory.join("sweep.hlog"), &log)?;
        eprintln!("wrote {}", directory.display());
    }
    Ok(Verdict::of(sweep.is_clean()))
}

/// Fails if nothing can be written there. What is there stays as it is.
fn try_to_write(path: &Path) -> Result<(), BenchError> {
    let is_new = !path.exists();
    #[expect(clippy::disallowed_methods, reason = "an ordinary thread, before the run")]
    let tried = (std::fs::OpenOptions::new().append(true).create(true))
        .open(path)
        .and_then(|_| {
            if is_new {
                std::fs::remove_file(path)
            } else {
                Ok(())
            }
        });
    tried.map_err(|error| BenchError::Local {
        doing: format!("write {}", path.display()),
        error,
    })
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "an ordinary thread, before or after the run"
    )]
    let written = std::fs::write(path, text);
    written.map_err(|error| BenchError::Local {
        doing: format!("write {}", path.display()),
        error,
    })
}

/// Runs the sweep against the brokers that are named, on a ring thread (or a simulated one); progress goes to stderr.
///
/// # Errors
/// If it could not begin. What ended it later is in it, with what was measured before.
pub async fn run_here(arguments: SweepArguments) -> Result<Sweep, BenchError> {
    let began_ms = clock::wall_clock_ms();
    let began = clock::now();
    let workload = &arguments.workload;
    let cells = arguments.cells();
    let name = format!("bench-sweep-{began_ms}");
    let cluster = open_topic(&arguments.brokers, &name, workload.partitions).await?;
    remove_topic(&arguments.brokers, &name).await;
    eprintln!(
        "{} runs of {} s each, in topics {name}-N; {}: {}",
        cells.len(),
        workload.run_seconds(),
        cluster.bootstrap,
        cluster.durability(workload.acks.code())
    );
    let mut sweep = Sweep::new(workload, cluster, began_ms);
    let mut flat_out = Reached::default();
    for (number, cell) in (1..).zip(&cells) {
        if cell.pace == Pace::FlatOut {
            flat_out.records_per_s = 0.0;
        } else if matches!(cell.pace, Pace::Fraction(_)) && flat_out.records_per_s <= 0.0 {
            eprintln!(
                "{number:>3}/{}  {cell}: left out, flat out gave nothing",
                cells.len()
            );
            continue;
        }
        let place = RunPlace {
            brokers: arguments.brokers.clone(),
            topic: format!("{name}-{number}"),
            server_pid: arguments.server_pid,
        };
        let started_s = (clock::now() - began).as_secs_f64();
        let ran = run_cell(&arguments, cell, &place, &flat_out, &sweep).await;
        remove_topic(&arguments.brokers, &place.topic).await;
        match ran {
            Ok(mut report) => {
                let line = run_line(&cell.to_string(), &report);
                eprintln!("{number:>3}/{}  {line}", cells.len());
                if cell.pace == Pace::FlatOut {
                    flat_out = Reached {
                        records_per_s: report.reached_per_s(),
                        bytes_per_s: report.mb_per_s() * 1e6,
                    };
                }
                let intervals = std::mem::take(&mut report.intervals);
                let measured_s = started_s + f64::from(workload.warmup_seconds);
                let hdr_log = hdr_log::lines(&cell.tag(), measured_s, report.interval_seconds, &intervals);
                sweep.results.push(CellResult {
                    cell: *cell,
                    report,
                    hdr_log,
                });
            }
            Err(error) if sweep.results.is_empty() => return Err(error),
            // What was measured is worth showing.
            Err(error) => {
                sweep.stopped = Some(format!("stopped before {cell}: {error}"));
                break;
            }
        }
    }
    Ok(sweep)
}

/// What the last run flat out gave.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    records_per_s: f64,
    bytes_per_s: f64,
}

async fn run_cell(
    arguments: &SweepArguments,
    cell: &Cell,
    place: &RunPlace,
    flat_out: &Reached,
    sweep: &Sweep,
) -> Result<Report, BenchError> {
    let workload = &arguments.workload;
    let rate = cell.pace.records_per_s(flat_out.records_per_s);
    room::look_for_a_run(&sweep.cluster, workload, rate, flat_out.bytes_per_s).await?;
    let watching = Watching {
        is_shown: false,
        is_kept: arguments.hgrm.is_some(),
    };
    run_produce(workload.produce(place, cell.batch_bytes, rate), watching).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test")]
    fn a_file_is_tried_and_left_as_it_is() {
        let directory = std::env::temp_dir().join(format!("millstream-sweep-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (new, old) = (directory.join("new"), directory.join("old"));
        std::fs::write(&old, "a page").unwrap();
        try_to_write(&new).unwrap();
        try_to_write(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "a page");
        let error = try_to_write(&directory.join("missing").join("new")).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
