//! One measurement: starts the workers, lets all of them begin at once, shows progress, adds up.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use ring::channel::{self, Awaited, Receiver};
use ring::clock::{self, Instant};
use ring::executor::{self, Class};
use ring::thread::{self, ThreadHandle, ThreadOptions};
use ring::timer::sleep_until;
use serde_json::Value;

use crate::cpu;
use crate::error::BenchError;
use crate::plan::deal;
use crate::recorder::{Sample, Window, histogram};
use crate::report::{Report, progress_line};
use crate::target::Route;
use crate::worker::{Lines, Load, Start, Told, work};

/// Messages that wait to be read, from all workers: a few seconds of them.
const TOLD_MAX: usize = 256;
/// A run that ends at once has lasted this long, so that it has a rate.
const SHORTEST_RUN: Duration = Duration::from_micros(1);
/// Parts of a run whose histograms are kept, at most: a histogram has some hundred KiB.
const INTERVALS_MAX: u32 = 120;
/// From the last connection that stands to the first batch that is due.
const START_DELAY: Duration = Duration::from_millis(50);

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measuring {
    pub(crate) threads: u32,
    pub(crate) warmup_seconds: u32,
    pub(crate) seconds: u32,
    /// The broker's process, if it is on this host and known.
    pub(crate) server_pid: Option<u32>,
    pub(crate) watching: Watching,
}

impl Measuring {
    /// How long a part of the run is whose histogram is kept, in seconds: one, or what keeps them few.
    fn interval_seconds(&self) -> u32 {
        self.seconds.div_ceil(INTERVALS_MAX)
    }
}

/// What is done with each second of a run, beside adding it up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watching {
    /// A line on standard error.
    pub(crate) is_shown: bool,
    /// Its histogram is kept, of what is measured (of several seconds together, if there are many).
    pub(crate) is_kept: bool,
}

/// What a run gave.
pub(crate) struct Measured {
    seconds: f64,
    threads: u32,
    began_ms: i64,
    sample: Sample,
    intervals: Vec<Histogram<u64>>,
    interval_seconds: u32,
    cpu: CpuTimes,
}

impl Measured {
    pub(crate) fn report(
        self,
        command: &'static str,
        settings: Vec<(&'static str, Value)>,
        records_per_s: Option<u64>,
    ) -> Report {
        Report {
            command,
            settings,
            records_per_s,
            notes: Vec::new(),
            threads: self.threads,
            began_ms: self.began_ms,
            seconds: self.seconds,
            sample: self.sample,
            intervals: self.intervals,
            interval_seconds: self.interval_seconds,
            server_cpu_s: self.cpu.server_s,
            own_cpu_s: self.cpu.own_s,
            host_cpu_s: self.cpu.host_s,
        }
    }
}

/// Runs the load over these connections to the end.
pub(crate) async fn measure(
    measuring: Measuring,
    routes: Vec<Route>,
    load: Load,
) -> Result<Measured, BenchError> {
    let dealt = deal(
        routes,
        usize::try_from(measuring.threads).expect("it is in range"),
    );
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
    let from = at + Duration::from_secs(u64::from(measuring.warmup_seconds));
    let to = from + Duration::from_secs(u64::from(measuring.seconds));
    let warmup_ms = i64::from(measuring.warmup_seconds) * 1_000;
    let began_ms = clock::wall_clock_ms().saturating_add(warmup_ms);
    let start = Start {
        at,
        window: Window { from, to },
    };
    for go in starts {
        // A worker that is gone is missed below.
        let _ = go.give(start);
    }
    let (seen, end) = watch(measuring, start, &mut handles, from_workers).await?;
    Ok(Measured {
        seconds: (end.at.min(to) - from).max(SHORTEST_RUN).as_secs_f64(),
        threads,
        began_ms,
        sample: seen.total,
        intervals: seen.intervals,
        interval_seconds: measuring.interval_seconds(),
        cpu: end.cpu,
    })
}

async fn wait_until_ready(is_ready: Awaited<Result<(), BenchError>>) -> Result<(), BenchError> {
    is_ready.await.unwrap_or(Err(BenchError::Lost))
}

/// The end of a run, and the CPU time within its window.
struct End {
    at: Instant,
    cpu: CpuTimes,
}

/// CPU time: the server's, ours, and everything's of this host.
#[derive(Clone, Copy)]
struct CpuTimes {
    server_s: Option<f64>,
    own_s: Option<f64>,
    host_s: Option<f64>,
}

impl CpuTimes {
    fn read(server_pid: Option<u32>) -> CpuTimes {
        CpuTimes {
            server_s: server_pid.and_then(cpu::process_seconds),
            own_s: cpu::own_seconds(),
            host_s: cpu::host_seconds(),
        }
    }

    fn since(self, first: CpuTimes) -> CpuTimes {
        let between = |first: Option<f64>, last: Option<f64>| Some(last? - first?);
        CpuTimes {
            server_s: between(first.server_s, self.server_s),
            own_s: between(first.own_s, self.own_s),
            host_s: between(first.host_s, self.host_s),
        }
    }
}

/// What all workers told.
#[derive(Default)]
struct Together {
    total: Sample,
    /// By interval of the measurement, if they are to be kept.
    intervals: Vec<Histogram<u64>>,
}

async fn watch(
    measuring: Measuring,
    start: Start,
    workers: &mut Vec<ThreadHandle>,
    mut from_workers: Receiver<Told>,
) -> Result<(Together, End), BenchError> {
    let server_pid = measuring.server_pid;
    let read_at = |instant: Instant| {
        executor::spawn(Class::Latency, async move {
            sleep_until(instant).await;
            CpuTimes::read(server_pid)
        })
    };
    let (at_first, at_last) = (read_at(start.window.from), read_at(start.window.to));
    let mut together = Together::default();
    let mut progress = Progress::new(measuring);
    let mut ended = 0;
    let mut end = start.window.from;
    while let Some(told) = from_workers.receive().await {
        match told {
            Told::Second(second, seen) => {
                together.total.add(&seen.measured);
                if measuring.watching.is_kept {
                    together.keep(second, measuring, &seen.measured);
                }
                progress.take(second, &seen.all);
            }
            Told::End(at, seen) => {
                together.total.add(&seen.measured);
                if measuring.watching.is_kept {
                    // What came after the last whole second, answers that were late among it.
                    together.keep(u64::MAX, measuring, &seen.measured);
                }
                ended += 1;
                end = end.max(at);
            }
        }
        progress.show(workers.len() - ended);
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
    Ok((
        together,
        End {
            at: end,
            cpu: last.since(first),
        },
    ))
}

impl Together {
    /// A second of the run, of one worker. What comes after the measurement's last second belongs to that one.
    fn keep(&mut self, second: u64, measuring: Measuring, measured: &Sample) {
        let second = (second.saturating_sub(u64::from(measuring.warmup_seconds)))
            .min(u64::from(measuring.seconds) - 1);
        let place = second / u64::from(measuring.interval_seconds());
        let place = usize::try_from(place).expect("a run is bounded by a day");
        while self.intervals.len() <= place {
            self.intervals.push(histogram());
        }
        (self.intervals[place].add(&measured.latency_ns)).expect("all histograms have the same bounds");
    }
}

/// Seconds that not all workers have told yet.
struct Progress {
    measuring: Measuring,
    seconds: BTreeMap<u64, (usize, Sample)>,
    shown: u64,
}

impl Progress {
    fn new(measuring: Measuring) -> Progress {
        Progress {
            measuring,
            seconds: BTreeMap::new(),
            shown: 0,
        }
    }

    fn take(&mut self, second: u64, all: &Sample) {
        if self.measuring.watching.is_shown {
            let (count, together) = self.seconds.entry(second).or_default();
            *count += 1;
            together.add(all);
        }
    }

    /// Shows what `working` workers have told of. One that has ended says no more of later seconds.
    fn show(&mut self, working: usize) {
        let warmup_seconds = u64::from(self.measuring.warmup_seconds);
        while let Some((count, sample)) = self.seconds.get(&self.shown)
            && *count >= working
        {
            if self.shown < warmup_seconds + u64::from(self.measuring.seconds) {
                eprintln!(
                    "{}",
                    progress_line(self.shown + 1, self.shown < warmup_seconds, sample)
                );
            }
            self.seconds.remove(&self.shown);
            self.shown += 1;
        }
    }
}

/// Starts a ring thread.
pub(crate) fn spawn<F, Fut>(name: &str, memory_bytes: usize, main: F) -> std::io::Result<ThreadHandle>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let options = ThreadOptions {
        name: name.to_owned(),
        // The broker has the cores first; the kernel finds us a place.
        cpu: None,
        memory_bytes,
        ..ThreadOptions::default()
    };
    thread::spawn(options, main)
}
