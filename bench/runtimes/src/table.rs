//! The table that all of it ends in.
//!
//! Pure, but for what it says of the host.

use std::fmt::Write;

use crate::case::{Case, FLUSH_BYTES, Runtime};
use crate::harness::{Figures, Measured, Plan};

/// What was linked, by name and version.
const LOCK: &str = include_str!("../Cargo.lock");

/// Medians (lowest-highest) in Markdown, what they were measured on, and what could not be measured.
pub(crate) fn shown(
    plan: &Plan,
    measured: &Measured,
    uncounted: Option<&str>,
    failures: &[String],
) -> String {
    let mut text = host(plan);
    let columns: Vec<String> = plan.runtimes.iter().map(|&runtime| heading(runtime)).collect();
    let _ = writeln!(text, "| case | | {} |", columns.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(columns.len()));
    let values: [fn(&Figures) -> Option<f64>; 3] = [
        |figures| Some(figures.rate),
        |figures| Some(figures.cpu),
        |figures| figures.system_calls,
    ];
    for (at, case) in plan.cases.iter().enumerate() {
        for (line, (measure, value)) in case.measures().into_iter().zip(values).enumerate() {
            let name = if line == 0 {
                case.to_string()
            } else {
                String::new()
            };
            let cells = plan.runtimes.iter().map(|&runtime| {
                let figures = measured.get(&(at, runtime)).map_or(&[][..], Vec::as_slice);
                cell(figures.iter().filter_map(value).collect())
            });
            let _ = writeln!(
                text,
                "| {name} | {measure} | {} |",
                cells.collect::<Vec<_>>().join(" | ")
            );
        }
    }
    text.push('\n');
    if let Some(why) = uncounted {
        let _ = writeln!(
            text,
            "No system calls: perf cannot count them here (it needs root, or the rights): {why}"
        );
    }
    for failure in failures {
        let _ = writeln!(text, "Failed: {failure}");
    }
    text
}

fn host(plan: &Plan) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let rounds = match plan.rounds {
        1 => "one round".into(),
        rounds => format!("{rounds} rounds"),
    };
    let mut text = format!(
        "Linux {}, CPUs: {cpus}. Medians (lowest-highest) of {rounds} of {} s; one thread a runtime, on whatever CPU.",
        kernel.trim(),
        plan.time.as_secs_f64(),
    );
    if plan.cases.iter().any(|case| matches!(case, Case::Append(_))) {
        let _ = write!(
            text,
            " Appends: O_DIRECT, fdatasync after every {} MiB, files of {} MiB; tokio's on its threads for what blocks.",
            FLUSH_BYTES >> 20,
            plan.file_bytes >> 20,
        );
    }
    text + "\n\n"
}

fn heading(runtime: Runtime) -> String {
    let name = runtime.name();
    match version(LOCK, name) {
        Some(version) => format!("{name} {version}"),
        None => name.into(),
    }
}

fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"\n");
    let (_, rest) = lock.split_once(&name)?;
    let version = rest.lines().next()?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}

fn cell(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "-".into(),
        [only] => number(only),
        [lowest, .., highest] => format!(
            "{} ({}-{})",
            number(median(&values)),
            number(lowest),
            number(highest)
        ),
    }
}

/// Of values in order.
fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value {
        value if value >= 99.95 => {
            let digits = format!("{value:.0}");
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(|group| str::from_utf8(group).unwrap_or(""))
                .collect();
            groups.join(",")
        }
        value if value >= 9.995 => format!("{value:.1}"),
        value if value >= 0.9995 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_median_and_what_it_is_between() {
        assert_eq!(cell(vec![]), "-");
        assert_eq!(cell(vec![0.1234]), "0.123");
        assert_eq!(cell(vec![3.0, 1.0, 2.0]), "2.00 (1.00-3.00)");
        assert_eq!(cell(vec![1_000.0, 2_000.0]), "1,500 (1,000-2,000)");
    }

    #[test]
    fn a_number_has_three_digits_or_more() {
        let numbers = [0.0, 0.9996, 9.996, 99.96, 999.6, 1_234_567.0].map(number);
        assert_eq!(numbers, ["0.000", "1.00", "10.0", "100", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_versions_are_those_that_are_linked() {
        for package in ["glommio", "compio", "tokio"] {
            assert!(version(LOCK, package).is_some(), "{package}");
        }
        assert_eq!(version(LOCK, "ours"), None);
    }
}
