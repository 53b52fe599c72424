//! What a comparison gave: a table for people, JSON for programs, and whether A is good enough.
//!
//! Pure.

use std::fmt;

use serde_json::{Value, json};

use super::pairs::Spread;
use crate::arguments::{WorkloadArguments, shown_bytes, spelled};
use crate::cluster::ClusterFacts;
use crate::environment::{Facts, to_json};
use crate::report::Report;
use crate::text::{columns, labelled};
use crate::wall_time;

/// The version of the JSON's fields. It grows when a field changes its meaning.
const SCHEMA: u32 = 1;

/// Two runs that followed each other.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Of A.
    pub a: Report,
    /// Of B.
    pub b: Report,
}

/// One of the two.
#[derive(Debug, Clone)]
pub struct Side {
    /// A or B.
    pub name: &'static str,
    /// What it says of itself.
    pub cluster: ClusterFacts,
}

/// A comparison that was made.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// The host that it was made on.
    pub host: Facts,
    /// A and B.
    pub sides: [Side; 2],
    /// The load.
    pub workload: WorkloadArguments,
    /// A batch at most, in bytes.
    pub batch_bytes: u32,
    /// Records a second; `None`: flat out.
    pub rate: Option<u64>,
    /// How many times as good as B A has to be.
    pub at_least: Option<f64>,
    /// The runs.
    pub pairs: Vec<Pair>,
}

/// What is compared, and whether more of it is better.
struct Measure {
    name: &'static str,
    is_more_better: bool,
    digits: usize,
    of: fn(&Report) -> f64,
}

const MEASURES: [Measure; 6] = [
    Measure {
        name: "MB/s",
        is_more_better: true,
        digits: 1,
        of: Report::mb_per_s,
    },
    Measure {
        name: "p50 ms",
        is_more_better: false,
        digits: 3,
        of: |report| report.latency_ms(0.5),
    },
    Measure {
        name: "p99 ms",
        is_more_better: false,
        digits: 3,
        of: |report| report.latency_ms(0.99),
    },
    Measure {
        name: "p99.9 ms",
        is_more_better: false,
        digits: 3,
        of: |report| report.latency_ms(0.999),
    },
    Measure {
        name: "max ms",
        is_more_better: false,
        digits: 3,
        of: |report| report.latency_ms(1.0),
    },
    Measure {
        name: "broker CPU s/GB",
        is_more_better: false,
        digits: 3,
        of: |report| {
            let cpu_s = report.server_cpu_s.unwrap_or(f64::NAN);
            cpu_s / (report.sample.bytes as f64 / 1e9)
        },
    },
];

impl Measure {
    fn sides(&self, pairs: &[Pair]) -> [Option<Spread>; 2] {
        [
            Spread::of(pairs.iter().map(|pair| (self.of)(&pair.a))),
            Spread::of(pairs.iter().map(|pair| (self.of)(&pair.b))),
        ]
    }

    /// How many times as good A is as B, pair by pair.
    fn ratio(&self, pairs: &[Pair]) -> Option<Spread> {
        Spread::of_ratios(pairs.iter().map(|pair| {
            let (a, b) = ((self.of)(&pair.a), (self.of)(&pair.b));
            if self.is_more_better { (a, b) } else { (b, a) }
        }))
    }
}

impl Comparison {
    /// What decides: the throughput of a closed loop, the p99 of an open one.
    fn deciding(&self) -> &'static Measure {
        let name = if self.rate.is_some() { "p99 ms" } else { "MB/s" };
        (MEASURES.iter().find(|measure| measure.name == name)).expect("it is in the table")
    }

    /// How many times as good A is as B, by what decides.
    pub fn ratio(&self) -> Option<Spread> {
        self.deciding().ratio(&self.pairs)
    }

    /// Whether everything that was sent was acknowledged, there is a ratio, and A is as good as it has to be.
    pub fn is_good(&self) -> bool {
        let mut reports = self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        let is_clean = reports.all(Report::is_clean);
        let least = self.at_least.unwrap_or(0.0);
        is_clean && self.ratio().is_some_and(|ratio| ratio.median >= least)
    }

    /// What a reader should know before he believes the figures, with the pair and the side.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (number, pair) in (1..).zip(&self.pairs) {
            for (side, report) in [("A", &pair.a), ("B", &pair.b)] {
                let said = report.warnings().into_iter().chain(report.failures());
                warnings.extend(said.map(|said| format!("pair {number}, {side}: {said}")));
            }
        }
        let acks = self.workload.acks.code();
        let [a, b] = &self.sides;
        if a.cluster.durability(acks) != b.cluster.durability(acks) {
            warnings.push("the two sides do not promise the same durability".to_owned());
        }
        warnings
    }

    /// The comparison as JSON.
    pub fn to_json(&self) -> Value {
        let acks = self.workload.acks.code();
        let measures = MEASURES.iter().map(|measure| {
            let [a, b] = measure.sides(&self.pairs);
            let value = json!({
                "a": a.map(spread_json),
                "b": b.map(spread_json),
                "a_times_as_good": measure.ratio(&self.pairs).map(spread_json),
            });
            (measure.name.to_owned(), value)
        });
        let pairs = self
            .pairs
            .iter()
            .map(|pair| json!({ "a": pair.a.to_json(), "b": pair.b.to_json() }));
        json!({
            "schema": SCHEMA,
            "command": "compare",
            "began_ms": self.began_ms,
            "bench_version": env!("CARGO_PKG_VERSION"),
            "host": to_json(&self.host),
            "a": self.sides[0].cluster.to_json(acks),
            "b": self.sides[1].cluster.to_json(acks),
            "measures": measures.collect::<serde_json::Map<_, _>>(),
            "decides": self.deciding().name,
            "a_times_as_good": self.ratio().map(spread_json),
            "at_least": self.at_least,
            "is_good": self.is_good(),
            "warnings": self.warnings(),
            "pairs": pairs.collect::<Vec<_>>(),
        })
    }
}

fn spread_json(spread: Spread) -> Value {
    json!({ "median": spread.median, "lowest": spread.lowest, "highest": spread.highest })
}

/// For people.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workload = &self.workload;
        let acks = workload.acks.code();
        let mut facts = vec![("when", wall_time::shown(self.began_ms))];
        facts.extend(self.host.iter().cloned());
        for side in &self.sides {
            facts.push((side.name, side.cluster.bootstrap.clone()));
            let durability = side.cluster.durability(acks);
            facts.push(("", format!("{durability}; replicas: {}", side.cluster.replicas)));
        }
        let pace = match self.rate {
            Some(rate) => format!("{rate} records/s, latency from when a batch was due"),
            None => "flat out, latency from the sending".to_owned(),
        };
        facts.push((
            "load",
            format!(
                "{pace}; batches of {}, {}, acks={}, {} partitions, {} connections with {} in flight each",
                shown_bytes(self.batch_bytes.into()),
                workload.records,
                spelled(&workload.acks),
                workload.partitions,
                workload.connections,
                workload.in_flight
            ),
        ));
        facts.push((
            "runs",
            format!(
                "{} pairs, interleaved; each run {} s, after {} s that are not counted",
                self.pairs.len(),
                workload.seconds,
                workload.warmup_seconds
            ),
        ));
        writeln!(f, "{}", labelled(&facts))?;
        let head = [
            "median (lowest-highest)",
            "A",
            "B",
            "A is so many times as good",
            "",
        ];
        let rows = MEASURES.iter().filter_map(|measure| {
            let [a, b] = measure.sides(&self.pairs);
            if a.is_none() && b.is_none() {
                return None;
            }
            let digits = measure.digits;
            let shown = |spread: Option<Spread>, digits: usize| {
                spread.map_or_else(|| "-".to_owned(), |spread| format!("{spread:.digits$}"))
            };
            Some([
                measure.name.to_owned(),
                shown(a, digits),
                shown(b, digits),
                shown(measure.ratio(&self.pairs), 2),
                String::new(),
            ])
        });
        let rows: Vec<_> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
        write!(f, "{}", columns(&rows, 1))?;
        if let Some(at_least) = self.at_least {
            let decides = self.deciding().name;
            let ratio = self.ratio();
            let reached = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let word = if self.is_good() {
                "good"
            } else {
                "NOT GOOD ENOUGH, or a run failed"
            };
            writeln!(
                f,
                "\n{decides}: {reached} times as good, at least {at_least} is wanted: {word}"
            )?;
        }
        for warning in self.warnings() {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::CompareArguments;
    use crate::recorder::{Failure, Sample};
    use clap::Parser;
    use std::collections::BTreeMap;

    /// The options, as a command of its own.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: CompareArguments,
    }

    fn report(mb: u64, ms: u64) -> Report {
        let mut sample = Sample {
            records: mb * 1_000,
            bytes: mb * 1_000_000,
            ..Sample::default()
        };
        sample.latency_ns.record_n(ms * 1_000_000, 1_000).unwrap();
        Report::of(sample, 1.0)
    }

    /// A has 20 to 40 MB/s and 2 ms, B has 10 MB/s and 8 ms.
    fn comparison(options: &str) -> Comparison {
        let line = format!("compare a:1 b:2 {options}");
        let arguments = Line::try_parse_from(line.split_whitespace()).unwrap().arguments;
        let side = |name, flush: &str| Side {
            name,
            cluster: ClusterFacts {
                bootstrap: format!("{name}:9092"),
                cluster_id: None,
                nodes: 1,
                replicas: 1,
                configs: BTreeMap::from([("flush.messages".to_owned(), flush.to_owned())]),
                log_directory: None,
            },
        };
        let pairs = [20, 30, 40].map(|mb| Pair {
            a: report(mb, 2),
            b: report(10, 8),
        });
        Comparison {
            began_ms: 0,
            host: Vec::new(),
            sides: [side("A", "1"), side("B", "1")],
            workload: arguments.workload,
            batch_bytes: arguments.batch_size,
            rate: arguments.rate,
            at_least: arguments.at_least,
            pairs: pairs.into(),
        }
    }

    #[test]
    fn throughput_decides_flat_out_and_p99_at_a_rate() {
        let flat_out = comparison("").ratio().unwrap();
        assert_eq!(
            (flat_out.median, flat_out.lowest, flat_out.highest),
            (3.0, 2.0, 4.0)
        );
        let paced = comparison("--rate 1000").ratio().unwrap();
        assert!((paced.median - 4.0).abs() < 0.01, "{paced:?}");
    }

    #[test]
    fn the_median_has_to_be_good_enough() {
        assert!(comparison("").is_good());
        assert!(comparison("--at-least 3").is_good());
        assert!(!comparison("--at-least 3.01").is_good());
        assert!(comparison("--at-least 3.9 --rate 1000").is_good());
        assert!(!comparison("--at-least 4.1 --rate 1000").is_good());
        // Of nothing there is no ratio, whatever is asked for.
        let mut nothing = comparison("--rate 1000");
        nothing.pairs[1].a.sample.latency_ns.clear();
        assert!(!nothing.is_good());
        let text = nothing.to_string();
        assert!(text.contains("pair 2, A: nothing was answered"), "{text}");
    }

    #[test]
    fn a_run_that_failed_is_not_good() {
        let mut comparison = comparison("--at-least 1");
        let failure = Failure {
            broker: "node 7".to_owned(),
            partition: 0,
            what: "NOT_ENOUGH_REPLICAS".to_owned(),
        };
        comparison.pairs[1].b.sample.failures.insert(failure, 1);
        assert!(!comparison.is_good());
        let text = comparison.to_string();
        assert!(
            text.contains("pair 2, B: FAILED 1 times: node 7 partition 0: NOT_ENOUGH_REPLICAS"),
            "{text}"
        );
    }

    #[test]
    fn sides_that_promise_different_things_are_named() {
        let mut comparison = comparison("");
        assert!(!comparison.to_string().contains("same durability"));
        let configs = &mut comparison.sides[1].cluster.configs;
        configs.insert("flush.messages".to_owned(), "9223372036854775807".to_owned());
        let text = comparison.to_string();
        assert!(text.contains("do not promise the same durability"), "{text}");
        assert!(text.contains("NOT flushed before it is acknowledged"), "{text}");
    }

    #[test]
    fn people_and_programs_get_the_same_figures() {
        let comparison = comparison("--at-least 2");
        let text = comparison.to_string();
        let line = text.lines().find(|line| line.starts_with("MB/s")).unwrap();
        for part in ["30.0 (20.0-40.0)", "10.0 (10.0-10.0)", "3.00 (2.00-4.00)"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        // No process was named: there is no CPU to compare.
        assert!(!text.contains("broker CPU"), "{text}");
        assert!(text.contains("at least 2 is wanted: good"), "{text}");
        let json = comparison.to_json();
        assert_eq!(json["a_times_as_good"]["median"], 3.0);
        assert_eq!(json["measures"]["MB/s"]["a"]["highest"], 40.0);
        assert_eq!(
            (&json["is_good"], &json["decides"]),
            (&json!(true), &json!("MB/s"))
        );
        assert_eq!(json["pairs"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_ratio_is_a_number_above_nothing() {
        for text in ["0", "-1", "NaN", "inf", "x"] {
            let line = ["compare", "a:1", "b:2", &format!("--at-least={text}")];
            assert!(Line::try_parse_from(line).is_err(), "{text}");
        }
    }
}
