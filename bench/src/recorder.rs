//! What was answered when: counts and histograms of one thread, second by second.
//!
//! Pure. Throughput counts what was *answered* within the window; latency counts what was *due* within it, whenever the
//! answer came. So a stall at the end of a run is seen as well.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use ring::clock::Instant;

/// The shortest latency that is told apart, in nanoseconds.
const LATENCY_NS_MIN: u64 = 1_000;
/// The longest, in nanoseconds: ten minutes, more than any request timeout. What is longer is counted as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Digits of a latency that are right.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Of a delay of this client's own: it only has to be compared with a latency, and a histogram is made each second on
/// the thread that sends.
const OWN_DELAY_DIGITS: u8 = 2;
/// Kinds of failures that are told apart; the rest is counted as one more.
const FAILURES_MAX: usize = 100;

/// What is measured: from, and up to, not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The end of the warm-up.
    pub from: Instant,
    /// The end of the measurement.
    pub to: Instant,
}

impl Window {
    fn holds(&self, instant: Instant) -> bool {
        self.from <= instant && instant < self.to
    }
}

/// Something that a broker refused or that broke on the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// The node, and its address.
    pub broker: String,
    /// The partition; -1 if it was the whole request or connection.
    pub partition: i32,
    /// Kafka's name of the code, or what happened.
    pub what: String,
}

/// What one thread saw since it was asked last.
#[derive(Debug, Default)]
pub struct Seen {
    /// What belongs to the window.
    pub measured: Sample,
    /// Everything, the warm-up included: for the line of progress.
    pub all: Sample,
}

/// A part of a run: what one thread saw in a second, or all threads in all seconds.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Records answered.
    pub records: u64,
    /// Bytes of these records' values (for a consumer: of their batches).
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Batches that were due and never sent.
    pub unsent: u64,
    /// From when it was due to its answer, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// From when a batch was due that a sender waited for, to when that sender was awake to send it, in nanoseconds: the
    /// part of the latency that is this client's own.
    pub own_delay_ns: Histogram<u64>,
    /// How often what failed. A failure of the warm-up counts as well.
    pub failures: BTreeMap<Failure, u64>,
}

/// An empty histogram of latencies; all have the same bounds.
pub fn histogram() -> Histogram<u64> {
    histogram_of(SIGNIFICANT_DIGITS)
}

fn histogram_of(significant_digits: u8) -> Histogram<u64> {
    let histogram = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, significant_digits);
    histogram.expect("the bounds are constants in order")
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            records: 0,
            bytes: 0,
            requests: 0,
            unsent: 0,
            own_delay_ns: histogram_of(OWN_DELAY_DIGITS),
            latency_ns: histogram(),
            failures: BTreeMap::new(),
        }
    }
}

impl Sample {
    /// Takes another sample in. Histograms are merged, so that a percentile is that of all requests.
    pub fn add(&mut self, other: &Sample) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.unsent += other.unsent;
        (self.latency_ns.add(&other.latency_ns)).expect("all histograms have the same bounds");
        (self.own_delay_ns.add(&other.own_delay_ns)).expect("all histograms have the same bounds");
        for (failure, count) in &other.failures {
            self.fail(failure.clone(), *count);
        }
    }

    /// Failures, all together.
    pub fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    fn count(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
        self.requests += 1;
    }

    fn fail(&mut self, failure: Failure, count: u64) {
        let failure = if self.failures.len() < FAILURES_MAX || self.failures.contains_key(&failure) {
            failure
        } else {
            Failure {
                broker: String::new(),
                partition: -1,
                what: "others".to_owned(),
            }
        };
        *self.failures.entry(failure).or_default() += count;
    }
}

/// What one thread sees.
#[derive(Debug)]
pub struct Recorder {
    window: Window,
    seen: Seen,
}

impl Recorder {
    /// Nothing seen yet.
    pub fn new(window: Window) -> Recorder {
        Recorder {
            window,
            seen: Seen::default(),
        }
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// A request that was due at `due` was answered at `answered`.
    pub fn answered(&mut self, due: Instant, answered: Instant, records: u64, bytes: u64) {
        let latency_ns = u64::try_from((answered - due).as_nanos()).unwrap_or(u64::MAX);
        let Seen { measured, all } = &mut self.seen;
        all.count(records, bytes);
        all.latency_ns.saturating_record(latency_ns);
        if self.window.holds(answered) {
            measured.count(records, bytes);
        }
        if self.window.holds(due) {
            measured.latency_ns.saturating_record(latency_ns);
        }
    }

    /// A sender that waited for `due` was awake at `now`.
    pub fn woke(&mut self, due: Instant, now: Instant) {
        let is_measured = self.window.holds(due);
        if is_measured {
            let delay_ns = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
            self.seen.measured.own_delay_ns.saturating_record(delay_ns);
        }
    }

    /// Batches that were due within the window were not sent before its end.
    pub fn unsent(&mut self, batches: u64) {
        self.seen.measured.unsent += batches;
    }

    /// Something failed.
    pub fn failed(&mut self, failure: Failure) {
        self.seen.all.fail(failure.clone(), 1);
        self.seen.measured.fail(failure, 1);
    }

    /// What was seen since the last call.
    pub fn take(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        from: Instant(1_000_000),
        to: Instant(2_000_000),
    };

    #[test]
    fn latency_goes_by_what_was_due_and_throughput_by_what_was_answered() {
        let mut recorder = Recorder::new(WINDOW);
        // Due in the warm-up, answered in the window.
        recorder.answered(Instant(900_000), Instant(1_100_000), 1, 10);
        // In the window.
        recorder.answered(Instant(1_200_000), Instant(1_300_000), 2, 20);
        // Answered after the end: a stall that must not be forgotten.
        recorder.answered(Instant(1_999_999), Instant(91_999_999), 4, 40);
        // Neither.
        recorder.answered(Instant(2_000_000), Instant(2_000_001), 8, 80);
        let sample = recorder.take().measured;
        assert_eq!((sample.records, sample.bytes, sample.requests), (3, 30, 2));
        assert_eq!(sample.latency_ns.len(), 2);
        assert!(sample.latency_ns.max() >= 90_000_000);
        assert_eq!(recorder.take().all.latency_ns.len(), 0);
    }

    #[test]
    fn percentiles_of_threads_are_merged_and_not_averaged() {
        let mut all = Sample::default();
        for (count, latency) in [(99, 1_000_000), (1, 500_000_000)] {
            let mut recorder = Recorder::new(WINDOW);
            for _ in 0..count {
                recorder.answered(WINDOW.from, Instant(WINDOW.from.0 + latency), 1, 1);
            }
            all.add(&recorder.take().measured);
        }
        assert_eq!(all.latency_ns.len(), 100);
        assert!(all.latency_ns.value_at_quantile(0.5) < 1_100_000);
        assert!(all.latency_ns.value_at_quantile(0.999) > 490_000_000);
    }

    #[test]
    fn a_latency_beyond_the_scale_is_counted_as_the_longest() {
        let mut recorder = Recorder::new(WINDOW);
        recorder.answered(WINDOW.from, Instant(u64::MAX), 1, 1);
        assert!(recorder.take().measured.latency_ns.max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn failures_are_counted_by_what_they_are_and_bounded() {
        let mut recorder = Recorder::new(WINDOW);
        for number in 0..1_000 {
            recorder.failed(Failure {
                broker: "1000".to_owned(),
                partition: number % 500,
                what: "NOT_LEADER_OR_FOLLOWER".to_owned(),
            });
        }
        let sample = recorder.take().measured;
        assert_eq!(sample.failure_count(), 1_000);
        assert_eq!(sample.failures.len(), FAILURES_MAX + 1);
    }
}
