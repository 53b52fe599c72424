//! The commands, from the command line to what is printed.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use ring::channel;
use ring::clock;
use serde_json::{Value, json};
use wire::ApiKey;
use wire::messages::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

use crate::arguments::{
    Acks, Arguments, AtEnd, Command, CommonArguments, ConsumeArguments, EndToEndArguments, Format,
    LoadCommand, ProduceArguments, spelled,
};
use crate::batches::{BatchShape, Batches};
use crate::compare;
use crate::consume::ConsumeLoad;
use crate::disk;
use crate::embedded::BrokerProgram;
use crate::end_to_end::EndToEndLoad;
use crate::error::BenchError;
use crate::kafka_lines;
use crate::keys::KeySet;
use crate::measure::{Measuring, Watching, measure, spawn};
use crate::produce::ProduceLoad;
use crate::producer_id::producer_ids;
use crate::records::RecordShape;
use crate::report::Report;
use crate::sweep;
use crate::target::{Route, Target};
use crate::worker::Load;

/// Buffer memory of the thread that finds the topic and watches the workers, in bytes: a connection to each node.
const WATCH_MEMORY_BYTES: usize = 1 << 30;
/// A run that is watched by somebody.
const SHOWN: Watching = Watching {
    is_shown: true,
    is_kept: false,
};

/// Runs what the command line asks for, and prints the report: the whole of the binary. `broker` is the program that an
/// embedded broker runs.
pub fn main(arguments: Arguments, broker: BrokerProgram) -> ExitCode {
    let ended = match arguments.command {
        Command::Load(load) => print_load(load),
        Command::Sweep(arguments) => sweep::main(&arguments, broker),
        Command::Disk(arguments) => disk::main(arguments),
        Command::Compare(arguments) => compare::main(&arguments, broker),
    };
    match ended {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything was as asked for.
    Good,
    /// Something failed, or was not as good as it had to be: the report has it.
    Bad,
}

impl Verdict {
    pub(crate) fn of(is_good: bool) -> Verdict {
        if is_good { Verdict::Good } else { Verdict::Bad }
    }
}

fn print_load(load: LoadCommand) -> Result<Verdict, BenchError> {
    let format = match &load {
        LoadCommand::Produce(arguments) => arguments.common.format(),
        LoadCommand::Consume(arguments) => arguments.common.format(),
        LoadCommand::EndToEnd(arguments) => arguments.produce.common.format(),
    };
    let report = run(load)?;
    match format {
        Format::Table | Format::Json => print(format == Format::Json, &report, || report.to_json())?,
        Format::Kafka => write_out(&kafka_lines::lines(&report))?,
    }
    Ok(Verdict::of(report.is_clean()))
}

/// Prints a report for people, or as JSON.
pub(crate) fn print(
    is_json: bool,
    report: &impl Display,
    to_json: impl FnOnce() -> Value,
) -> Result<(), BenchError> {
    if is_json {
        write_out(&format!("{:#}\n", to_json()))
    } else {
        write_out(&report.to_string())
    }
}

/// Writes to standard output. A reader that left (`| head`) is no error.
fn write_out(text: &str) -> Result<(), BenchError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(BenchError::Local {
            doing: "write the report to standard output".to_owned(),
            error,
        }),
        _ => Ok(()),
    }
}

/// Runs to the end; progress goes to stderr. Blocks the calling thread, which must be an ordinary one.
///
/// # Errors
/// If the run could not begin. What failed later is in the report.
pub fn run(load: LoadCommand) -> Result<Report, BenchError> {
    on_ring(WATCH_MEMORY_BYTES, move || run_here(load))
}

/// Runs `main` on a ring thread, and waits for it on an ordinary one.
pub(crate) fn on_ring<T, F, Fut>(memory_bytes: usize, main: F) -> Result<T, BenchError>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, BenchError>> + 'static,
{
    let (answer, awaited) = channel::oneshot();
    let thread = spawn("bench", memory_bytes, move || async move {
        // The one who asked waits until it is given.
        let _ = answer.give(main().await);
    })?;
    let ended = awaited.wait_blocking();
    thread.join_blocking();
    ended.unwrap_or(Err(BenchError::Lost))
}

/// The same as [`on_ring`], for what finds a topic and watches workers.
pub(crate) fn on_watch<T, F, Fut>(main: F) -> Result<T, BenchError>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, BenchError>> + 'static,
{
    on_ring(WATCH_MEMORY_BYTES, main)
}

/// The same as [`run`] on a ring thread (or a simulated one), which finds the topic and watches the workers.
///
/// # Errors
/// As [`run`].
pub async fn run_here(load: LoadCommand) -> Result<Report, BenchError> {
    match load {
        LoadCommand::Produce(produce) => run_produce(produce, SHOWN).await,
        LoadCommand::Consume(consume) => run_consume(consume).await,
        LoadCommand::EndToEnd(end_to_end) => run_end_to_end(end_to_end).await,
    }
}

pub(crate) async fn run_produce(
    arguments: ProduceArguments,
    watching: Watching,
) -> Result<Report, BenchError> {
    let common = &arguments.common;
    (arguments.records).check(arguments.partitions, arguments.acks, arguments.in_flight)?;
    let target = Target::find(&common.brokers, &common.topic, Some(arguments.partitions)).await?;
    let routes = target.routes(common.connections, ApiKey::Produce).await?;
    let settings = produce_settings(&arguments, &target, &routes);
    let measuring = measuring_of(common, watching);
    let load = produce_load(&arguments, &target, &routes).await?;
    let keys = load.keys.clone();
    let measured = measure(measuring, routes, Load::Produce(load)).await?;
    Ok(noted(
        measured.report("produce", settings, arguments.rate),
        keys.as_deref(),
    ))
}

/// What has to be known of the cluster for it: to how many partitions keys belong, and the ids of producers.
async fn produce_load(
    arguments: &ProduceArguments,
    target: &Target,
    routes: &[Route],
) -> Result<ProduceLoad, BenchError> {
    let records = &arguments.records;
    let shape = BatchShape {
        records: RecordShape {
            sizes: records.record_size,
            compressible_percent: records.compressible,
            timestamp_ms: clock::wall_clock_ms(),
        },
        batch_bytes_max: usize::try_from(arguments.batch_size).expect("it is in range"),
        compression: arguments.compression.into(),
    };
    let partitions = target.topic_partitions;
    if records.keys.is_some() && target.partitions() != partitions {
        let what = format!(
            "topic {} has {partitions} partitions, to which keys belong: choose another topic, or --partitions {partitions}",
            arguments.common.topic
        );
        return Err(BenchError::Workload { what });
    }
    let keys = records.keys.map(|keys| Arc::new(KeySet::new(keys, partitions)));
    let places = routes
        .iter()
        .map(|route| route.lane.partitions.len() as u64)
        .sum();
    Batches::check_room(&shape, keys.as_deref(), places)?;
    let producers = if records.idempotent {
        Some(
            producer_ids(target.client(), arguments.common.connections)
                .await?
                .into(),
        )
    } else {
        None
    };
    Ok(ProduceLoad {
        topic: arguments.common.topic.clone(),
        shape,
        keys,
        producers,
        acks: arguments.acks.code(),
        in_flight: arguments.in_flight,
        records_per_s: arguments.rate,
    })
}

/// With what is to be said of keys.
fn noted(report: Report, keys: Option<&KeySet>) -> Report {
    let notes = keys.and_then(KeySet::note).into_iter().collect();
    Report { notes, ..report }
}

fn produce_settings(
    arguments: &ProduceArguments,
    target: &Target,
    routes: &[Route],
) -> Vec<(&'static str, Value)> {
    let mut settings = vec![
        ("topic", json!(arguments.common.topic)),
        ("partitions", json!(target.partitions())),
        ("connections", json!(routes.len())),
    ];
    settings.extend(arguments.records.settings());
    settings.extend([
        ("batch_size", json!(arguments.batch_size)),
        ("acks", json!(spelled(&arguments.acks))),
        ("in_flight", json!(arguments.in_flight)),
        ("compression", json!(spelled(&arguments.compression))),
    ]);
    if let Some(rate) = arguments.rate {
        settings.push(("rate", json!(rate)));
    }
    settings
}

fn measuring_of(common: &CommonArguments, watching: Watching) -> Measuring {
    Measuring {
        threads: common.threads,
        warmup_seconds: common.warmup_seconds,
        seconds: common.seconds,
        server_pid: common.server_pid,
        watching,
    }
}

/// A fetch takes whatever there is at once.
async fn run_end_to_end(arguments: EndToEndArguments) -> Result<Report, BenchError> {
    const FETCH_BYTES_MAX: i32 = 8 << 20;
    let produce = &arguments.produce;
    let common = &produce.common;
    if produce.acks == Acks::None {
        let what = "--acks 0: without an answer nobody knows which batch is read";
        return Err(BenchError::EndToEnd { what });
    }
    if i64::from(common.connections) > i64::from(produce.partitions) {
        let what = "each partition is sent to by one client: fewer --connections, or more --partitions";
        return Err(BenchError::EndToEnd { what });
    }
    (produce.records).check(produce.partitions, produce.acks, produce.in_flight)?;
    let target = Target::find(&common.brokers, &common.topic, Some(produce.partitions)).await?;
    let routes = target.routes(common.connections, ApiKey::Produce).await?;
    let fetching = target.routes(common.connections, ApiKey::Fetch).await?;
    let produce_load = produce_load(produce, &target, &routes).await?;
    let keys = produce_load.keys.clone();
    let load = EndToEndLoad {
        produce: produce_load,
        consume: ConsumeLoad {
            topic: common.topic.clone(),
            topic_id: target.topic_id,
            from_timestamp: LATEST_TIMESTAMP,
            at_end: AtEnd::Wait,
            max_bytes: FETCH_BYTES_MAX,
            partition_max_bytes: FETCH_BYTES_MAX,
            min_bytes: 1,
            max_wait_ms: i32::try_from(arguments.max_wait_ms).expect("it is in range"),
            check_crcs: false,
        },
        fetch_versions: (fetching
            .iter()
            .map(|route| (route.lane.node_id, route.api_version)))
        .collect(),
    };
    let mut settings = produce_settings(produce, &target, &routes);
    settings.push(("max_wait_ms", json!(arguments.max_wait_ms)));
    let measuring = measuring_of(common, SHOWN);
    let measured = measure(measuring, routes, Load::EndToEnd(load)).await?;
    Ok(noted(
        measured.report("end-to-end", settings, produce.rate),
        keys.as_deref(),
    ))
}

async fn run_consume(arguments: ConsumeArguments) -> Result<Report, BenchError> {
    let common = &arguments.common;
    let target = Target::find(&common.brokers, &common.topic, None).await?;
    let routes = target.routes(common.connections, ApiKey::Fetch).await?;
    let number = |value: u32| i32::try_from(value).expect("it is in range");
    let load = ConsumeLoad {
        topic: common.topic.clone(),
        topic_id: target.topic_id,
        from_timestamp: EARLIEST_TIMESTAMP,
        at_end: arguments.at_end,
        max_bytes: number(arguments.max_bytes),
        partition_max_bytes: number(arguments.partition_max_bytes),
        min_bytes: number(arguments.min_bytes),
        max_wait_ms: number(arguments.max_wait_ms),
        check_crcs: arguments.check_crcs,
    };
    let settings = vec![
        ("topic", json!(common.topic)),
        ("partitions", json!(target.partitions())),
        ("connections", json!(routes.len())),
        ("at_end", json!(spelled(&arguments.at_end))),
        ("max_bytes", json!(arguments.max_bytes)),
        ("partition_max_bytes", json!(arguments.partition_max_bytes)),
        ("min_bytes", json!(arguments.min_bytes)),
        ("max_wait_ms", json!(arguments.max_wait_ms)),
        ("check_crcs", json!(arguments.check_crcs)),
    ];
    // What is read in a warm-up is not there to be measured.
    let warmup_seconds = if arguments.at_end == AtEnd::Stop {
        0
    } else {
        common.warmup_seconds
    };
    let measuring = Measuring {
        warmup_seconds,
        ..measuring_of(common, SHOWN)
    };
    let measured = measure(measuring, routes, Load::Consume(load)).await?;
    Ok(measured.report("consume", settings, None))
}
