//! What a sweep gave: a table for people, JSON for programs.
//!
//! Pure.

use std::fmt;

use serde_json::{Value, json};

use super::plan::{Cell, Pace};
use crate::arguments::{WorkloadArguments, shown_bytes, spelled};
use crate::cluster::ClusterFacts;
use crate::environment::{Facts, to_json};
use crate::report::{Report, shown_ms};
use crate::text::{columns, labelled};
use crate::wall_time;

/// The version of the JSON's fields. It grows when a field changes its meaning.
const SCHEMA: u32 = 1;
/// How to read the table.
pub(super) const LEGEND: &str = "\
flat out: a closed loop; latency counts from the sending. The others: an open loop, at a part of that rate or at a rate;
latency counts from when a batch was due, sent or not. MB are millions of bytes of record values; CPU is in cores.";

/// A sweep that was made.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// The host that it was made on, and its disk.
    pub host: Facts,
    /// What was driven.
    pub cluster: ClusterFacts,
    /// The load.
    pub workload: WorkloadArguments,
    /// What was measured, in the order of the plan.
    pub results: Vec<CellResult>,
    /// Why it ended before its plan did.
    pub stopped: Option<String>,
}

/// A run of it.
#[derive(Debug, Clone)]
pub struct CellResult {
    /// Which.
    pub cell: Cell,
    /// What it gave.
    pub report: Report,
    /// Its lines in the HDR interval log, if that was asked for.
    pub hdr_log: String,
}

impl CellResult {
    /// What a reader should know before he believes the figures.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.report.warnings();
        warnings.extend(self.report.failures());
        warnings
    }

    /// Cores that a process was busy with.
    fn cores(&self, cpu_s: Option<f64>) -> String {
        cpu_s.map_or_else(
            || "-".to_owned(),
            |cpu_s| format!("{:.2}", cpu_s / self.report.seconds),
        )
    }
}

impl Sweep {
    pub(super) fn new(workload: &WorkloadArguments, cluster: ClusterFacts, began_ms: i64) -> Sweep {
        Sweep {
            began_ms,
            host: Facts::new(),
            cluster,
            workload: workload.clone(),
            results: Vec::new(),
            stopped: None,
        }
    }

    /// Whether the whole plan was measured, and everything that was sent acknowledged.
    pub fn is_clean(&self) -> bool {
        let is_measured =
            |result: &CellResult| result.report.is_clean() && !result.report.sample.latency_ns.is_empty();
        self.stopped.is_none() && self.results.iter().all(is_measured)
    }

    /// The environment: when, where, against what, with which load.
    pub(super) fn environment(&self) -> Facts {
        let workload = &self.workload;
        let mut facts = vec![("when", wall_time::shown(self.began_ms))];
        facts.extend(self.host.iter().cloned());
        facts.extend(self.cluster.lines(workload.acks.code()));
        facts.push((
            "load",
            format!(
                "{} partitions, {} connections with {} requests in flight each, {} thread(s), acks={}, \
                 {}, compression {}",
                workload.partitions,
                workload.connections,
                workload.in_flight,
                workload.threads,
                spelled(&workload.acks),
                workload.records,
                spelled(&workload.compression)
            ),
        ));
        facts.push((
            "each run",
            format!(
                "{} s, after {} s that are not counted",
                workload.seconds, workload.warmup_seconds
            ),
        ));
        facts.push(("bench", env!("CARGO_PKG_VERSION").to_owned()));
        facts
    }

    /// The table, cell by cell, with its head; and the notes that its last column names by number.
    pub(super) fn rows(&self) -> (Vec<[String; 11]>, Vec<String>) {
        let head = [
            "batch",
            "load",
            "records/s",
            "MB/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "broker CPU",
            "bench CPU",
            "notes",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        let mut notes: Vec<String> = Vec::new();
        for result in &self.results {
            let report = &result.report;
            let marks = result.warnings().into_iter().map(|warning| {
                let number = notes.iter().position(|note| *note == warning);
                let number = number.unwrap_or_else(|| {
                    notes.push(warning);
                    notes.len() - 1
                });
                format!("[{}]", number + 1)
            });
            let marks = marks.collect::<Vec<_>>().join(" ");
            let latency = |quantile| shown_ms(report.latency_ms(quantile));
            rows.push([
                shown_bytes(result.cell.batch_bytes.into()),
                result.cell.pace.to_string(),
                format!("{:.0}", report.reached_per_s()),
                format!("{:.1}", report.mb_per_s()),
                latency(0.5),
                latency(0.99),
                latency(0.999),
                latency(1.0),
                result.cores(report.server_cpu_s),
                result.cores(report.own_cpu_s),
                marks,
            ]);
        }
        (rows, notes)
    }

    /// The whole sweep.
    pub fn to_json(&self) -> Value {
        let results = self.results.iter().map(|result| {
            let mut json = result.report.to_json();
            json["batch_bytes"] = json!(result.cell.batch_bytes);
            json["pace"] = json!(result.cell.pace.to_string());
            json["warnings"] = json!(result.warnings());
            json
        });
        json!({
            "schema": SCHEMA,
            "command": "sweep",
            "began_ms": self.began_ms,
            "bench_version": env!("CARGO_PKG_VERSION"),
            "host": to_json(&self.host),
            "cluster": self.cluster.to_json(self.workload.acks.code()),
            "warmup_seconds": self.workload.warmup_seconds,
            "results": results.collect::<Vec<_>>(),
            "stopped": self.stopped,
        })
    }

    /// For each pace but flat out, what `measure` says of its batch sizes, in bytes.
    pub(super) fn series(
        &self,
        is_drawn: impl Fn(Pace) -> bool,
        measure: impl Fn(&Report) -> f64,
    ) -> Vec<(Pace, Vec<(u32, f64)>)> {
        let mut series: Vec<(Pace, Vec<(u32, f64)>)> = Vec::new();
        for result in &self.results {
            let Cell { batch_bytes, pace } = result.cell;
            if !is_drawn(pace) || result.report.sample.latency_ns.is_empty() {
                continue;
            }
            let point = (batch_bytes, measure(&result.report));
            match series.iter_mut().find(|(drawn, _)| *drawn == pace) {
                Some((_, points)) => points.push(point),
                None => series.push((pace, vec![point])),
            }
        }
        series
    }
}

/// For people.
impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, notes) = self.rows();
        writeln!(f, "{}", labelled(&self.environment()))?;
        writeln!(f, "{}", columns(&rows, 2))?;
        writeln!(f, "{LEGEND}")?;
        for (number, note) in (1..).zip(&notes) {
            writeln!(f, "[{number}] {note}")?;
        }
        if let Some(stopped) = &self.stopped {
            writeln!(f, "{stopped}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recorder::{Failure, Recorder, Window};
    use crate::sweep::SweepArguments;
    use crate::sweep::plan::cells;
    use clap::Parser;
    use ring::clock::Instant;
    use std::collections::BTreeMap;

    /// The options, as a command of its own.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SweepArguments,
    }

    /// A sweep of two sizes; the latencies of the second are ten times those of the first.
    pub(crate) fn sweep() -> Sweep {
        let line = ["sweep", "--batch-sizes", "4k,64k", "--fractions", "10%,80%"];
        let arguments = Line::try_parse_from(line).unwrap().arguments;
        let facts = ClusterFacts {
            bootstrap: "<b>:9092".to_owned(),
            cluster_id: Some("id & co".to_owned()),
            nodes: 2,
            replicas: 1,
            configs: BTreeMap::from([("flush.messages".to_owned(), "1".to_owned())]),
            log_directory: None,
        };
        let mut sweep = Sweep::new(&arguments.workload, facts, 1_700_000_000_000);
        sweep.host = vec![("cpu", "a \"CPU\" <1>".to_owned())];
        let planned = cells(&arguments.batch_sizes, &arguments.fractions, &arguments.rates);
        for (number, cell) in (1_u64..).zip(planned) {
            let window = Window {
                from: Instant(0),
                to: Instant(1_000_000_000),
            };
            let mut recorder = Recorder::new(window);
            let factor = if cell.batch_bytes == 4_096 { 1 } else { 10 };
            for request in 0..1_000 {
                recorder.answered(
                    Instant(0),
                    Instant((request + 1) * 10_000 * factor),
                    4,
                    4_096 * number,
                );
            }
            let report = Report {
                records_per_s: cell.pace.records_per_s(1_000.0),
                server_cpu_s: Some(0.5),
                ..Report::of(recorder.take().measured, 1.0)
            };
            sweep.results.push(CellResult {
                cell,
                report,
                hdr_log: String::new(),
            });
        }
        sweep
    }

    #[test]
    fn people_and_programs_get_the_same_figures() {
        let sweep = sweep();
        assert!(sweep.is_clean());
        let text = sweep.to_string();
        let line = text
            .lines()
            .find(|line| line.starts_with("64 KiB  80 %"))
            .unwrap();
        for cell in ["4000", "24.6", "50.", "99.", "100.", "0.50", "-"] {
            assert!(
                line.split_whitespace().any(|found| found.starts_with(cell)),
                "{cell} in {line}"
            );
        }
        for part in [
            "cpu",
            "flushed before it is acknowledged",
            "acks=all",
            "a closed loop",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = sweep.to_json();
        assert_eq!(json["results"].as_array().unwrap().len(), 6);
        let last = &json["results"][5];
        assert_eq!(
            (last["batch_bytes"].as_u64(), last["pace"].as_str()),
            (Some(65_536), Some("80 %"))
        );
        assert!((last["latency_us"]["p99"].as_f64().unwrap() - 99_000.0).abs() < 100.0);
        assert_eq!(json["cluster"]["configs"]["flush.messages"], "1");
        assert_eq!(json["host"]["cpu"], "a \"CPU\" <1>");
    }

    #[test]
    fn a_busy_generator_is_noted_in_its_row() {
        let mut sweep = sweep();
        sweep.results[4].report.own_cpu_s = Some(0.95);
        sweep.results[5].report.own_cpu_s = Some(0.95);
        let (rows, notes) = sweep.rows();
        let marks: Vec<&str> = rows.iter().map(|row| row[10].as_str()).collect();
        assert_eq!(marks, ["notes", "", "", "", "", "[1]", "[1]"]);
        assert!(notes[0].contains("this client used 95 %"), "{notes:?}");
        assert!(sweep.to_string().contains("\n[1] this client used 95 %"));
    }

    #[test]
    fn what_failed_and_what_is_missing_is_said() {
        let mut sweep = sweep();
        let failure = Failure {
            broker: "node 1000".to_owned(),
            partition: 3,
            what: "NOT_LEADER_OR_FOLLOWER".to_owned(),
        };
        sweep.results[1].report.sample.latency_ns.clear();
        assert!(!sweep.is_clean());
        sweep.results[0].report.sample.failures.insert(failure, 2);
        sweep.stopped = Some("stopped before 64 KiB, 80 %: no room".to_owned());
        sweep.results.pop();
        assert!(!sweep.is_clean());
        let text = sweep.to_string();
        assert!(
            text.contains("FAILED 2 times: node 1000 partition 3: NOT_LEADER"),
            "{text}"
        );
        assert!(text.ends_with("no room\n"), "{text}");
        assert!(sweep.to_json()["stopped"].is_string());
    }

    #[test]
    fn lines_of_the_plot_go_through_the_batch_sizes() {
        let series = sweep().series(|pace| pace != Pace::FlatOut, |report| report.latency_ms(0.99));
        assert_eq!(series.len(), 2);
        let (pace, points) = &series[1];
        assert_eq!(pace.to_string(), "80 %");
        assert_eq!((points[0].0, points[1].0), (4_096, 65_536));
        assert!((points[1].1 / points[0].1 - 10.0).abs() < 0.1, "{points:?}");
    }
}
