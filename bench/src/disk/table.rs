//! What a disk gave: a table for people, JSON for programs.
//!
//! Pure.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::plan::Case;
use crate::arguments::shown_bytes;
use crate::environment::{Facts, to_json};
use crate::report::{latencies_us, quantile_ms, shown_ms};
use crate::text::{columns, labelled};
use crate::wall_time;

/// The version of the JSON's fields. It grows when a field changes its meaning.
const SCHEMA: u32 = 1;

/// What all questions gave.
#[derive(Debug, Clone)]
pub struct DiskReport {
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// The host, and its disk.
    pub host: Facts,
    /// The size of a file, in MiB.
    pub file_mib: u32,
    /// How long each question might take, in seconds.
    pub seconds: u32,
    /// The answers, in the order of the questions.
    pub answers: Vec<Answer>,
}

/// What one question gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The question.
    pub case: Case,
    /// The time that all writes took, with a flush at the end, in seconds.
    pub seconds: f64,
    /// The time of each write, with its flush, in nanoseconds.
    pub latency_ns: Histogram<u64>,
}

impl Answer {
    /// Writes that were counted.
    pub fn writes(&self) -> u64 {
        self.latency_ns.len()
    }

    /// MB a second.
    pub fn mb_per_s(&self) -> f64 {
        self.writes_per_s() * self.case.block_bytes as f64 / 1e6
    }

    /// Writes a second.
    pub fn writes_per_s(&self) -> f64 {
        self.writes() as f64 / self.seconds
    }

    fn latency_ms(&self, quantile: f64) -> String {
        shown_ms(quantile_ms(&self.latency_ns, quantile))
    }
}

impl DiskReport {
    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let answers = self.answers.iter().map(|answer| {
            let case = &answer.case;
            json!({
                "subject": case.subject.to_string(),
                "block_bytes": case.block_bytes,
                "place": case.place.to_string(),
                "depth": case.depth,
                "flush": case.flush.to_string(),
                "writes": answer.writes(),
                "seconds": answer.seconds,
                "mb_per_s": answer.mb_per_s(),
                "writes_per_s": answer.writes_per_s(),
                "latency_us": latencies_us(&answer.latency_ns),
            })
        });
        json!({
            "schema": SCHEMA,
            "command": "disk",
            "began_ms": self.began_ms,
            "bench_version": env!("CARGO_PKG_VERSION"),
            "host": to_json(&self.host),
            "file_mib": self.file_mib,
            "answers": answers.collect::<Vec<_>>(),
        })
    }
}

/// For people.
impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = vec![("when", wall_time::shown(self.began_ms))];
        facts.extend(self.host.iter().cloned());
        let each = format!("a file of {} MiB, {} s at most", self.file_mib, self.seconds);
        facts.push(("each line", each));
        writeln!(f, "{}", labelled(&facts))?;
        let head = [
            "what",
            "flush",
            "place",
            "write",
            "in flight",
            "MB/s",
            "writes/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "",
        ];
        let rows = self.answers.iter().map(|answer| {
            let case = &answer.case;
            [
                case.subject.to_string(),
                case.flush.to_string(),
                case.place.to_string(),
                shown_bytes(case.block_bytes as u64),
                case.depth.to_string(),
                format!("{:.1}", answer.mb_per_s()),
                format!("{:.0}", answer.writes_per_s()),
                answer.latency_ms(0.5),
                answer.latency_ms(0.99),
                answer.latency_ms(0.999),
                answer.latency_ms(1.0),
                String::new(),
            ]
        });
        let rows: Vec<_> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
        write!(f, "{}", columns(&rows, 3))?;
        writeln!(
            f,
            "\nMB are millions of bytes; the time of a write holds its flush."
        )
    }
}

/// A line of progress.
pub(super) fn progress_line(answer: &Answer) -> String {
    let case = &answer.case;
    format!(
        "{} of {}, {}, {} in flight, flushed {}: {:.1} MB/s, p99 {} ms",
        case.subject,
        shown_bytes(case.block_bytes as u64),
        case.place,
        case.depth,
        case.flush,
        answer.mb_per_s(),
        answer.latency_ms(0.99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::plan::cases;
    use crate::recorder::histogram;

    #[test]
    fn people_and_programs_get_the_same_figures() {
        let mut latency_ns = histogram();
        latency_ns.record_n(2_000_000, 500).unwrap();
        let answer = Answer {
            case: cases()[0],
            seconds: 0.5,
            latency_ns,
        };
        let report = DiskReport {
            began_ms: 0,
            host: vec![("disk", "a disk".to_owned())],
            file_mib: 16,
            seconds: 1,
            answers: vec![answer],
        };
        let json = report.to_json();
        assert_eq!(json["answers"][0]["mb_per_s"], 65.536);
        assert_eq!(json["answers"][0]["writes_per_s"], 1_000.0);
        assert_eq!(json["host"]["disk"], "a disk");
        let text = report.to_string();
        let line = text.lines().find(|line| line.starts_with("bandwidth")).unwrap();
        for cell in ["overwrite", "64 KiB", "65.5", "1000", "2.00"] {
            assert!(line.contains(cell), "{cell} in {line}");
        }
    }
}
