//! `millstream log check`.

use clap::Args;
use serde_json::{Value, json};
use storage::inspect::{self, CheckSummary, Finding, Progress, Report};

use super::{LogError, Place, Verdict};
use crate::cli::CliError;
use crate::cli::output::{OutputArguments, print};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) async fn run(arguments: CheckArguments) -> Result<Verdict, LogError> {
    let CheckArguments { place, output } = arguments;
    let is_json = output.is_json();
    let mut failed: Option<CliError> = None;
    let mut report = |report: Report<'_>| match report {
        Report::Finding(finding) => {
            let text = if is_json {
                format!("{}\n", document(finding))
            } else {
                line(finding)
            };
            if let Err(error) = print(text.as_bytes()) {
                failed = Some(error);
            }
        }
        Report::Progress(Progress { bytes, total_bytes }) => {
            eprintln!("checked {} of {} MiB", bytes >> 20, total_bytes >> 20);
        }
    };
    let summary = inspect::check(&place.data_dir, &place.partitions, &mut report).await?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let text = if is_json {
        format!("{}\n", summary_document(&summary))
    } else {
        summary_line(&summary)
    };
    print(text.as_bytes())?;
    Ok(if summary.is_clean() {
        Verdict::Well
    } else {
        Verdict::Ill
    })
}

fn line(finding: &Finding) -> String {
    let Finding {
        severity,
        path,
        position,
        what,
        next,
    } = finding;
    let place = position.map_or_else(String::new, |position| format!(" at byte {position}"));
    format!("{severity}: {path}{place}: {what}. Next: {next}\n")
}

fn document(finding: &Finding) -> Value {
    json!({
        "type": "finding",
        "severity": finding.severity.to_string(),
        "path": finding.path,
        "position": finding.position,
        "what": finding.what,
        "next": finding.next,
    })
}

fn summary_line(summary: &CheckSummary) -> String {
    let verdict = if summary.is_clean() { "clean" } else { "not clean" };
    let CheckSummary {
        shards,
        partitions,
        segments,
        batches,
        bytes,
        notes,
        warnings,
        damages,
    } = summary;
    format!(
        "{verdict}: damages {damages}, warnings {warnings}, notes {notes}; checked shards {shards}, partitions {partitions}, \
         segments {segments}, batches {batches}, bytes {bytes}\n"
    )
}

fn summary_document(summary: &CheckSummary) -> Value {
    json!({
        "type": "summary",
        "is_clean": summary.is_clean(),
        "damages": summary.damages,
        "warnings": summary.warnings,
        "notes": summary.notes,
        "shards": summary.shards,
        "partitions": summary.partitions,
        "segments": summary.segments,
        "batches": summary.batches,
        "bytes": summary.bytes,
    })
}

#[cfg(test)]
mod tests {
    use storage::inspect::Severity;

    use super::*;

    #[test]
    fn a_finding_is_a_line_that_says_where_what_and_what_next() {
        let finding = Finding {
            severity: Severity::Damage,
            path: "orders-0/00000000000000000000.log".to_owned(),
            position: Some(4_096),
            what: "the batch is damaged".to_owned(),
            next: "restore it".to_owned(),
        };
        assert_eq!(
            line(&finding),
            "damage: orders-0/00000000000000000000.log at byte 4096: the batch is damaged. Next: restore it\n"
        );
        let about_the_whole = Finding {
            position: None,
            ..finding
        };
        assert!(line(&about_the_whole).starts_with("damage: orders-0/00000000000000000000.log: the batch"));
    }
}
