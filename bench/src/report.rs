//! What a run gave: a table for people, JSON for scripts.
//!
//! MB and GB are powers of ten, of the records' values (for a consumer: of their batches). Latencies are of requests.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::recorder::Sample;

/// The version of the JSON's fields. It grows when a field changes its meaning.
const SCHEMA: u32 = 1;
/// A client that used more of its threads than this was perhaps what was measured.
const SATURATED: f64 = 0.9;
/// Cores that other processes may keep busy meanwhile.
const OTHERS: f64 = 0.25;
/// An open loop that reached less of its rate than this did not keep it.
const KEPT: f64 = 0.99;
/// Requests below which a 99th percentile is the maximum.
const REQUESTS_MIN: u64 = 100;
/// Of the 99th percentile of the latency, at most so much may be this client's own delay.
const OWN_SHARE: f64 = 0.25;

/// What was asked for, and what came.
#[derive(Debug, Clone)]
pub struct Report {
    /// `produce`, `consume` or `end-to-end`.
    pub command: &'static str,
    /// What was asked for, name by name, as in the JSON.
    pub settings: Vec<(&'static str, Value)>,
    /// Records a second that were asked for; `None`: flat out.
    pub records_per_s: Option<u64>,
    /// What of that was not as it was asked for.
    pub notes: Vec<String>,
    /// Threads that sent.
    pub threads: u32,
    /// When the measurement began, in milliseconds since 1970.
    pub began_ms: i64,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// What came.
    pub sample: Sample,
    /// Latencies by interval of the measurement, if they were to be kept.
    pub intervals: Vec<Histogram<u64>>,
    /// How long such an interval is, in seconds.
    pub interval_seconds: u32,
    /// CPU seconds of the broker within the window, if its process was named and there.
    pub server_cpu_s: Option<f64>,
    /// Our own.
    pub own_cpu_s: Option<f64>,
    /// All of this host's.
    pub host_cpu_s: Option<f64>,
}

impl Report {
    /// One for a test: what came in so many seconds, flat out, and nothing else.
    #[cfg(test)]
    pub(crate) fn of(sample: Sample, seconds: f64) -> Report {
        Report {
            command: "produce",
            settings: Vec::new(),
            records_per_s: None,
            notes: Vec::new(),
            threads: 1,
            began_ms: 0,
            seconds,
            sample,
            intervals: Vec::new(),
            interval_seconds: 1,
            server_cpu_s: None,
            own_cpu_s: None,
            host_cpu_s: None,
        }
    }

    /// Whether everything that was sent was acknowledged, or everything that was asked for read.
    pub fn is_clean(&self) -> bool {
        self.sample.failures.is_empty()
    }

    /// MB a second.
    pub fn mb_per_s(&self) -> f64 {
        self.sample.bytes as f64 / 1e6 / self.seconds
    }

    /// Records a second that were answered.
    pub fn reached_per_s(&self) -> f64 {
        self.sample.records as f64 / self.seconds
    }

    /// The latency that so many requests, from 0 to 1, did not exceed, in milliseconds; no number if there were none.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.sample.latency_ns, quantile)
    }

    /// What a reader should know before he believes the figures.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.notes.clone();
        if let Some(own_cpu_s) = self.own_cpu_s
            && own_cpu_s > SATURATED * self.seconds * f64::from(self.threads)
        {
            warnings.push(format!(
                "this client used {:.0} % of its {} thread(s): it may be what was measured (--threads)",
                100.0 * own_cpu_s / self.seconds / f64::from(self.threads),
                self.threads
            ));
        }
        // Without the broker's it is not known what others had.
        if let (Some(host), Some(own), Some(server)) = (self.host_cpu_s, self.own_cpu_s, self.server_cpu_s) {
            let cores = (host - own - server) / self.seconds;
            if cores > OTHERS {
                warnings.push(format!("other processes kept {cores:.1} cores of this host busy"));
            }
        }
        let own_delay_ms = quantile_ms(&self.sample.own_delay_ns, 0.99);
        if own_delay_ms > OWN_SHARE * self.latency_ms(0.99) {
            warnings.push(format!(
                "this client woke up late itself: {own_delay_ms:.3} ms of the p99 of {:.3} ms; it had too little CPU",
                self.latency_ms(0.99)
            ));
        }
        let reached = self.reached_per_s();
        if let Some(rate) = self.records_per_s
            && reached < KEPT * rate as f64
        {
            warnings.push(format!(
                "the rate was not kept: {reached:.0} of {rate} records/s; {} batches were due and never sent",
                self.sample.unsent
            ));
        }
        match self.sample.latency_ns.len() {
            0 => warnings.push("nothing was answered: there is no latency".to_owned()),
            requests if requests < REQUESTS_MIN => warnings.push(format!(
                "only {requests} requests: its p99 is its maximum (longer --seconds, or a higher rate)"
            )),
            _ => {}
        }
        warnings
    }

    /// What failed, for people: a line for each kind.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        self.sample.failures.iter().map(|(failure, count)| {
            let place = format!("{} partition {}", failure.broker, failure.partition);
            format!("FAILED {count} times: {place}: {}", failure.what)
        })
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let sample = &self.sample;
        let failures = sample.failures.iter().map(|(failure, count)| {
            json!({
                "broker": failure.broker,
                "partition": failure.partition,
                "what": failure.what,
                "count": count,
            })
        });
        json!({
            "schema": SCHEMA,
            "command": self.command,
            "settings": self.settings.iter().cloned().map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>(),
            "loop": if self.records_per_s.is_some() { "open" } else { "closed" },
            "seconds": self.seconds,
            "records": sample.records,
            "bytes": sample.bytes,
            "requests": sample.requests,
            "unsent_batches": sample.unsent,
            "records_per_s": self.reached_per_s(),
            "mb_per_s": self.mb_per_s(),
            "latency_us": latencies_us(&sample.latency_ns),
            "own_delay_us": latencies_us(&sample.own_delay_ns),
            "server_cpu": self.server_cpu_s.map(|seconds| self.cpu(seconds)),
            "bench_cpu": self.own_cpu_s.map(|seconds| self.cpu(seconds)),
            "failures": failures.collect::<Vec<_>>(),
            "warnings": self.warnings(),
        })
    }

    fn cpu(&self, seconds: f64) -> Value {
        json!({
            "seconds": seconds,
            "seconds_per_gb": per(seconds, self.sample.bytes, 1e9),
            "seconds_per_million_records": per(seconds, self.sample.records, 1e6),
        })
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sample = &self.sample;
        write!(f, "{}", self.command)?;
        for (name, value) in &self.settings {
            match value {
                Value::String(text) => write!(f, " {name}={text}")?,
                other => write!(f, " {name}={other}")?,
            }
        }
        let kind = match self.records_per_s {
            Some(_) => "open loop: latency from the moment at which a batch was due",
            None => "flat out, a closed loop: latency from the sending",
        };
        writeln!(f, "\n{kind}\n")?;
        writeln!(f, "  measured       {:>14.1} s", self.seconds)?;
        writeln!(f, "  throughput     {:>14.1} MB/s", self.mb_per_s())?;
        writeln!(f, "                 {:>14.0} records/s", self.reached_per_s())?;
        writeln!(
            f,
            "                 {:>14.0} requests/s",
            sample.requests as f64 / self.seconds
        )?;
        for (name, quantile) in QUANTILES {
            let label = if name == "p50" { "latency" } else { "" };
            let name = name.replace('_', ".");
            let value = shown_ms(self.latency_ms(quantile));
            writeln!(f, "  {label:<9}{name:>5} {value:>14} ms")?;
        }
        for (label, seconds) in [("broker CPU", self.server_cpu_s), ("own CPU", self.own_cpu_s)] {
            let Some(seconds) = seconds else { continue };
            writeln!(f, "  {label:<14} {seconds:>14.2} s")?;
            if let Some(cost) = per(seconds, sample.bytes, 1e9) {
                writeln!(f, "                 {cost:>14.3} s/GB")?;
            }
            if let Some(cost) = per(seconds, sample.records, 1e6) {
                writeln!(f, "                 {cost:>14.3} s/million records")?;
            }
        }
        for failure in self.failures() {
            writeln!(f, "  {failure}")?;
        }
        for warning in self.warnings() {
            writeln!(f, "  note: {warning}")?;
        }
        Ok(())
    }
}

/// A line of progress: what one second gave.
pub(crate) fn progress_line(second: u64, is_warmup: bool, sample: &Sample) -> String {
    let phase = if is_warmup { "  (warm-up)" } else { "" };
    let failed = match sample.failure_count() {
        0 => String::new(),
        count => format!("  FAILED {count}"),
    };
    format!(
        "{second:>5} s {:>9.1} MB/s {:>11.0} records/s  {}{phase}{failed}",
        sample.bytes as f64 / 1e6,
        sample.records as f64,
        latencies(&sample.latency_ns)
    )
}

/// A line of progress: what a whole run gave.
pub(crate) fn run_line(name: &str, report: &Report) -> String {
    let failed = if report.is_clean() { "" } else { "  FAILED" };
    format!(
        "{name:<20} {:>9.1} MB/s {:>11.0} records/s  {}{failed}",
        report.mb_per_s(),
        report.reached_per_s(),
        latencies(&report.sample.latency_ns)
    )
}

fn latencies(histogram: &Histogram<u64>) -> String {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| shown_ms(quantile_ms(histogram, quantile)));
    format!("p50 {p50:>9} ms  p99 {p99:>9} ms  max {max:>9} ms")
}

/// Milliseconds for people; a hyphen for no number.
pub(crate) fn shown_ms(ms: f64) -> String {
    if ms.is_finite() {
        format!("{ms:.3}")
    } else {
        "-".to_owned()
    }
}

/// The percentiles of a report, and their names in the JSON.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("max", 1.0),
];

pub(crate) fn latencies_us(histogram: &Histogram<u64>) -> Value {
    let mut values = serde_json::Map::new();
    values.insert("count".to_owned(), json!(histogram.len()));
    if !histogram.is_empty() {
        values.insert("mean".to_owned(), json!(histogram.mean() / 1e3));
        for (name, quantile) in QUANTILES {
            values.insert(name.to_owned(), json!(quantile_us(histogram, quantile)));
        }
    }
    Value::Object(values)
}

fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

/// A quantile of nanoseconds, in milliseconds. An empty histogram has none: no number.
pub(crate) fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() {
        f64::NAN
    } else {
        quantile_us(histogram, quantile) / 1e3
    }
}

/// `None` where nothing was done: there is no cost of it.
fn per(seconds: f64, count: u64, unit: f64) -> Option<f64> {
    (count > 0).then(|| seconds / (count as f64 / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Failure, Recorder, Window};
    use ring::clock::Instant;

    fn report() -> Report {
        let window = Window {
            from: Instant(0),
            to: Instant(2_000_000_000),
        };
        let mut recorder = Recorder::new(window);
        for number in 0..1_000_u64 {
            recorder.answered(Instant(0), Instant(1_000_000 * (number + 1)), 1_000, 1_000_000);
        }
        Report {
            settings: vec![("topic", json!("orders")), ("partitions", json!(6))],
            records_per_s: Some(500_000),
            server_cpu_s: Some(0.5),
            own_cpu_s: Some(0.1),
            host_cpu_s: Some(0.7),
            ..Report::of(recorder.take().measured, 2.0)
        }
    }

    #[test]
    fn scripts_and_people_get_the_same_figures() {
        let report = report();
        let json = report.to_json();
        assert_eq!(json["mb_per_s"], 500.0);
        assert_eq!(json["records_per_s"], 500_000.0);
        assert_eq!(json["server_cpu"]["seconds_per_gb"], 0.5);
        assert_eq!(json["server_cpu"]["seconds_per_million_records"], 0.5);
        assert_eq!(json["settings"]["topic"], "orders");
        assert_eq!(json["loop"], "open");
        let p99 = json["latency_us"]["p99"].as_f64().unwrap();
        assert!((p99 - 990_000.0).abs() < 1_000.0, "{p99}");
        let text = report.to_string();
        for part in ["topic=orders", "500.0 MB/s", "0.500 s/GB", "990."] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(report.is_clean() && report.warnings().is_empty());
    }

    #[test]
    fn what_spoils_a_figure_is_said() {
        let mut report = report();
        report.own_cpu_s = Some(1.95);
        report.records_per_s = Some(600_000);
        let failure = Failure {
            broker: "1001 at 127.0.0.1:19093".to_owned(),
            partition: 5,
            what: "NOT_LEADER_OR_FOLLOWER".to_owned(),
        };
        report.sample.failures.insert(failure, 3);
        assert_eq!(report.warnings().len(), 2);
        assert!(!report.is_clean());
        let text = report.to_string();
        assert!(text.contains("FAILED 3 times: 1001 at 127.0.0.1:19093 partition 5: NOT_LEADER_OR_FOLLOWER"));
        assert_eq!(report.to_json()["failures"][0]["partition"], 5);
    }

    #[test]
    fn a_client_that_wakes_up_late_says_so() {
        let mut report = report();
        let delay_ns = &mut report.sample.own_delay_ns;
        for _ in 0..98 {
            delay_ns.record(50_000).unwrap();
        }
        delay_ns.record_n(240_000_000, 2).unwrap();
        assert!(report.warnings().is_empty(), "{:?}", report.warnings());
        report.sample.own_delay_ns.record_n(300_000_000, 3).unwrap();
        let [warning] = &report.warnings()[..] else {
            panic!("one warning was expected");
        };
        assert!(warning.contains("woke up late itself: 30"), "{warning}");
    }

    #[test]
    fn a_host_that_was_not_ours_alone_is_named() {
        let mut report = report();
        report.host_cpu_s = Some(2.6);
        assert_eq!(
            report.warnings(),
            ["other processes kept 1.0 cores of this host busy"]
        );
        // A broker elsewhere, or one whose process is not known, may be the others.
        report.server_cpu_s = None;
        assert!(report.warnings().is_empty());
    }

    #[test]
    fn a_p99_of_few_requests_is_marked() {
        let mut report = report();
        for (requests, warning) in [(0, "nothing was answered"), (99, "only 99 requests")] {
            report.sample.latency_ns.clear();
            report.sample.latency_ns.record_n(1_000_000, requests).unwrap();
            assert!(report.warnings()[0].starts_with(warning), "{report}");
        }
        report.sample.latency_ns.record(1_000_000).unwrap();
        assert!(report.warnings().is_empty(), "{report}");
    }

    #[test]
    fn a_run_without_an_answer_has_no_costs_and_no_latency() {
        let report = Report {
            sample: Sample::default(),
            ..report()
        };
        let json = report.to_json();
        assert!(json["server_cpu"]["seconds_per_gb"].is_null());
        assert_eq!(json["latency_us"]["count"], 0);
        assert!(json["latency_us"]["p99"].is_null());
        let text = report.to_string();
        assert!(!text.contains("0.000 ms"), "{text}");
        assert!(run_line("4 KiB", &report).contains("p99         - ms"));
    }
}
