//! A run, from the command line to the report: finds the topic, starts the workers, shows progress, adds up.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use ring::channel::{self, Awaited, Receiver};
use ring::clock::{self, Instant};
use ring::executor::{self, Class};
use ring::thread::{self, ThreadHandle, ThreadOptions};
use ring::timer::sleep_until;
use serde_json::json;
use wire::ApiKey;

use crate::arguments::{
    Arguments, AtEnd, Command, CommonArguments, ConsumeArguments, ProduceArguments, spelled,
};
use crate::batches::BatchShape;
use crate::consume::ConsumeLoad;
use crate::cpu;
use crate::error::BenchError;
use crate::plan::deal;
use crate::produce::ProduceLoad;
use crate::recorder::{Sample, Window};
use crate::report::{Report, progress_line};
use crate::target::{Route, Target};
use crate::worker::{Lines, Load, Start, Told, work};

/// Buffer memory of the thread that finds the topic and watches the workers, in bytes: a connection to each node.
const WATCH_MEMORY_BYTES: usize = 1 << 30;
/// Messages that wait to be read, from all workers: a few seconds of them.
const TOLD_MAX: usize = 256;
/// A run that ends at once has lasted this long, so that it has a rate.
const SHORTEST_RUN: Duration = Duration::from_micros(1);
/// From the last connection that stands to the first batch that is due.
const START_DELAY: Duration = Duration::from_millis(50);

/// Runs what the command line asks for, and prints the report: the whole of the binary.
pub fn main(arguments: Arguments) -> ExitCode {
    let is_json = match &arguments.command {
        Command::Produce(produce) => produce.common.json,
        Command::Consume(consume) => consume.common.json,
    };
    match run(arguments) {
        Ok(report) => {
            if is_json {
                println!("{:#}", report.to_json());
            } else {
                print!("{report}");
            }
            if report.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end; progress goes to stderr. Blocks the calling thread, which must be an ordinary one.
///
/// # Errors
/// If the run could not begin. What failed later is in the report.
pub fn run(arguments: Arguments) -> Result<Report, BenchError> {
    let (answer, awaited) = channel::oneshot();
    let watch = spawn("bench", WATCH_MEMORY_BYTES, move || async move {
        // The one who asked waits until it is given.
        let _ = answer.give(run_here(arguments).await);
    })?;
    let report = awaited.wait_blocking();
    watch.join_blocking();
    report.unwrap_or(Err(BenchError::Lost))
}

/// The same on a ring thread (or a simulated one), which finds the topic and watches the workers.
///
/// # Errors
/// As [`run`].
pub async fn run_here(arguments: Arguments) -> Result<Report, BenchError> {
    match arguments.command {
        Command::Produce(produce) => run_produce(produce).await,
        Command::Consume(consume) => run_consume(consume).await,
    }
}

async fn run_produce(arguments: ProduceArguments) -> Result<Report, BenchError> {
    let common = &arguments.common;
    let target = Target::find(&common.brokers, &common.topic, Some(arguments.partitions)).await?;
    let routes = target.routes(common.connections, ApiKey::Produce).await?;
    let size = |bytes: u32| usize::try_from(bytes).expect("it is in range");
    let load = ProduceLoad {
        topic: common.topic.clone(),
        shape: BatchShape {
            record_bytes: size(arguments.record_size),
            batch_bytes_max: size(arguments.batch_size),
            compression: arguments.compression.into(),
            timestamp_ms: clock::wall_clock_ms(),
        },
        acks: arguments.acks.code(),
        in_flight: arguments.in_flight,
        records_per_s: arguments.rate,
    };
    let mut settings = vec![
        ("topic", json!(common.topic)),
        ("partitions", json!(target.partitions())),
        ("connections", json!(routes.len())),
        ("record_size", json!(arguments.record_size)),
        ("batch_size", json!(arguments.batch_size)),
        ("acks", json!(spelled(&arguments.acks))),
        ("in_flight", json!(arguments.in_flight)),
        ("compression", json!(spelled(&arguments.compression))),
    ];
    if let Some(rate) = arguments.rate {
        settings.push(("rate", json!(rate)));
    }
    let measured = measure(common, common.warmup_seconds, routes, Load::Produce(load)).await?;
    Ok(measured.report("produce", settings, arguments.rate))
}

async fn run_consume(arguments: ConsumeArguments) -> Result<Report, BenchError> {
    let common = &arguments.common;
    let target = Target::find(&common.brokers, &common.topic, None).await?;
    let routes = target.routes(common.connections, ApiKey::Fetch).await?;
    let number = |value: u32| i32::try_from(value).expect("it is in range");
    let load = ConsumeLoad {
        topic: common.topic.clone(),
        topic_id: target.topic_id,
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
    let measured = measure(common, warmup_seconds, routes, Load::Consume(load)).await?;
    Ok(measured.report("consume", settings, None))
}

/// What a run gave.
struct Measured {
    seconds: f64,
    threads: u32,
    sample: Sample,
    server_cpu_s: Option<f64>,
    own_cpu_s: Option<f64>,
}

impl Measured {
    fn report(
        self,
        command: &'static str,
        settings: Vec<(&'static str, serde_json::Value)>,
        records_per_s: Option<u64>,
    ) -> Report {
        Report {
            command,
            settings,
            records_per_s,
            threads: self.threads,
            seconds: self.seconds,
            sample: self.sample,
            server_cpu_s: self.server_cpu_s,
            own_cpu_s: self.own_cpu_s,
        }
    }
}

async fn measure(
    common: &CommonArguments,
    warmup_seconds: u32,
    routes: Vec<Route>,
    load: Load,
) -> Result<Measured, BenchError> {
    let dealt = deal(routes, usize::try_from(common.threads).expect("it is in range"));
    let threads = u32::try_from(dealt.len()).expect("no more than asked for");
    let (told, from_workers) = channel::bounded(TOLD_MAX);
    let mut workers = Vec::new();
    for routes in dealt {
        let (ready, is_ready) = channel::oneshot();
        let (go, start) = channel::oneshot();
        let lines = Lines {
            ready,
            start,
            told: told.clone(),
        };
        let load = load.clone();
        let memory_bytes = load.memory_bytes(routes.len());
        let handle = spawn("bench-worker", memory_bytes, move || work(routes, load, lines))?;
        workers.push((is_ready, go, handle));
    }
    drop(told);
    let (mut starts, mut handles) = (Vec::new(), Vec::new());
    for (is_ready, go, handle) in workers {
        wait_until_ready(is_ready).await?;
        starts.push(go);
        handles.push(handle);
    }
    let at = clock::now() + START_DELAY;
    let from = at + Duration::from_secs(u64::from(warmup_seconds));
    let to = from + Duration::from_secs(u64::from(common.seconds));
    let start = Start {
        at,
        window: Window { from, to },
    };
    for go in starts {
        // A worker that is gone is missed below.
        let _ = go.give(start);
    }
    let (sample, end) = watch(
        common,
        start,
        u64::from(warmup_seconds),
        &mut handles,
        from_workers,
    )
    .await?;
    Ok(Measured {
        seconds: (end.at.min(to) - from).max(SHORTEST_RUN).as_secs_f64(),
        threads,
        sample,
        server_cpu_s: end.server_cpu_s,
        own_cpu_s: end.own_cpu_s,
    })
}

async fn wait_until_ready(is_ready: Awaited<Result<(), BenchError>>) -> Result<(), BenchError> {
    is_ready.await.unwrap_or(Err(BenchError::Lost))
}

/// The end of a run, and the CPU time within its window.
struct End {
    at: Instant,
    server_cpu_s: Option<f64>,
    own_cpu_s: Option<f64>,
}

/// CPU time so far: the server's, and ours.
#[derive(Clone, Copy)]
struct CpuTimes {
    server_s: Option<f64>,
    own_s: Option<f64>,
}

impl CpuTimes {
    fn read(server_pid: Option<u32>) -> CpuTimes {
        CpuTimes {
            server_s: server_pid.and_then(cpu::process_seconds),
            own_s: cpu::own_seconds(),
        }
    }
}

async fn watch(
    common: &CommonArguments,
    start: Start,
    warmup_seconds: u64,
    workers: &mut Vec<ThreadHandle>,
    mut from_workers: Receiver<Told>,
) -> Result<(Sample, End), BenchError> {
    let server_pid = common.server_pid;
    let read_at = |instant: Instant| {
        executor::spawn(Class::Latency, async move {
            sleep_until(instant).await;
            CpuTimes::read(server_pid)
        })
    };
    let (at_first, at_last) = (read_at(start.window.from), read_at(start.window.to));
    let mut total = Sample::default();
    let mut seconds: BTreeMap<u64, (usize, Sample)> = BTreeMap::new();
    let mut ended = 0;
    let mut end = start.window.from;
    let mut shown = 0;
    while let Some(told) = from_workers.receive().await {
        match told {
            Told::Second(second, seen) => {
                total.add(&seen.measured);
                let (count, together) = seconds.entry(second).or_default();
                *count += 1;
                together.add(&seen.all);
            }
            Told::End(at, seen) => {
                total.add(&seen.measured);
                ended += 1;
                end = end.max(at);
            }
        }
        // A worker that has ended says no more of later seconds.
        while let Some((count, sample)) = seconds.get(&shown)
            && count + ended >= workers.len()
        {
            if shown < warmup_seconds + u64::from(common.seconds) {
                eprintln!("{}", progress_line(shown + 1, shown < warmup_seconds, sample));
            }
            seconds.remove(&shown);
            shown += 1;
        }
    }
    if ended < workers.len() {
        return Err(BenchError::Lost);
    }
    let last = if at_last.is_finished() {
        at_last.await
    } else {
        CpuTimes::read(server_pid)
    };
    let first = if at_first.is_finished() {
        at_first.await
    } else {
        last
    };
    for worker in workers.drain(..) {
        worker.ended().await;
    }
    let between = |first: Option<f64>, last: Option<f64>| Some(last? - first?);
    Ok((
        total,
        End {
            at: end,
            server_cpu_s: between(first.server_s, last.server_s),
            own_cpu_s: between(first.own_s, last.own_s),
        },
    ))
}

fn spawn<F, Fut>(name: &str, memory_bytes: usize, main: F) -> std::io::Result<ThreadHandle>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let options = ThreadOptions {
        name: name.to_owned(),
        // The broker has the cores first; the kernel finds us a place.
        cpu: None,
        memory_bytes,
    };
    thread::spawn(options, main)
}
