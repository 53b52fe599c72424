//! `millstream tune VERB`: a host against a profile, for its operator. No broker is asked.
//!
//! Owns the words; what is true is said by `crate::tune`. Exit codes of `check`: 0 nothing is wrong, 1 something is, 2 it
//! could not be found out. Must never change anything but by `apply` and `revert`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::CliError;
use crate::cli::output::{OutputArguments, known, print, printable, table};
use crate::config::{ConfigError, Settings, table as settings};
use crate::tune::{Applied, Change, Host, Profile, Reverted, TuneError, Verdict, bundled, check, plan};

/// The code of a command that could not find out what it was asked.
const CANNOT_RUN: u8 = 2;

/// `millstream tune`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TuneArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Name the profiles that are in the program
    List(ListArguments),
    /// Hold this host against a profile; nothing is changed
    Check(CheckArguments),
    /// Say what `apply` would change; nothing is changed
    Plan(CheckArguments),
    /// Change what `plan` says, until the next boot
    Apply(ApplyArguments),
    /// Take back what `apply` has changed
    Revert(RevertArguments),
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct ListArguments {
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct CheckArguments {
    #[command(flatten)]
    host: HostArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct ApplyArguments {
    #[command(flatten)]
    host: HostArguments,
    #[command(flatten)]
    record: RecordArguments,
}

/// What is looked at, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct HostArguments {
    /// One of `millstream tune list`, or a file (TOML)
    #[arg(long, value_name = "NAME|FILE")]
    profile: String,
    /// The log directories, as `millstream start` has them [default: ./data]
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    data_dir: Vec<PathBuf>,
    /// Shards of the broker [default: the profile's]
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    #[command(flatten)]
    root: RootArguments,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct RootArguments {
    /// Where the host's /proc and /sys are, as seen from a container
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct RecordArguments {
    /// Where `apply` writes down what was there before; gone after a boot, as the changes are
    #[arg(long, value_name = "FILE", default_value = "/run/millstream/tuned.json")]
    record: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct RevertArguments {
    /// The profile that was applied
    #[arg(long, value_name = "NAME|FILE")]
    profile: String,
    #[command(flatten)]
    root: RootArguments,
    #[command(flatten)]
    record: RecordArguments,
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tune(#[from] TuneError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cli(#[from] CliError),
}

/// Runs a command to its end; the code to exit with.
pub fn run(arguments: TuneArguments) -> ExitCode {
    let ran = match arguments.verb {
        Verb::List(arguments) => list(&arguments),
        Verb::Check(arguments) => return run_check(&arguments),
        Verb::Plan(arguments) => run_plan(&arguments),
        Verb::Apply(arguments) => apply(&arguments),
        Verb::Revert(arguments) => revert(&arguments),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

fn failed(error: &Failure, code: u8) -> ExitCode {
    eprintln!("millstream: {}", printable(&error.to_string()));
    ExitCode::from(code)
}

fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let profiles = bundled();
    let lines = || {
        let rows = profiles
            .iter()
            .map(|profile| [profile.name.clone(), profile.description.clone()]);
        let rows: Vec<_> = std::iter::once(["profile", "for"].map(str::to_owned))
            .chain(rows)
            .collect();
        table(&rows)
    };
    let document = || {
        let profiles = profiles.iter();
        profiles
            .map(|profile| json!({ "profile": profile.name, "for": profile.description }))
            .collect()
    };
    print(arguments.output.text(lines, document).as_bytes())?;
    Ok(())
}

fn run_check(arguments: &CheckArguments) -> ExitCode {
    let verdicts = arguments
        .host
        .open()
        .map(|(profile, host)| check(&profile, &host));
    let printed = verdicts.and_then(|verdicts| {
        let text = arguments.output.text(
            || lines(&verdicts, &arguments.host.profile),
            || verdicts.iter().map(document).collect(),
        );
        print(text.as_bytes())?;
        Ok(verdicts.iter().all(|verdict| verdict.holds != Some(false)))
    });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error, CANNOT_RUN),
    }
}

fn run_plan(arguments: &CheckArguments) -> Result<(), Failure> {
    let (profile, host) = arguments.host.open()?;
    let changes = plan(&profile, &host);
    let text = arguments.output.text(
        || planned(&changes),
        || changes.iter().map(change_document).collect(),
    );
    print(text.as_bytes())?;
    Ok(())
}

fn apply(arguments: &ApplyArguments) -> Result<(), Failure> {
    let (profile, host) = arguments.host.open()?;
    let changes = plan(&profile, &host);
    if changes.is_empty() {
        print(b"nothing is to be changed\n")?;
        return Ok(());
    }
    let record = &arguments.record.record;
    let mut printed = Ok(());
    Applied::apply(&host, record, &profile.name, &changes, |change| {
        let Change { file, from, to, .. } = change;
        say(&mut printed, &format!("{}: {from} -> {to}\n", file.display()));
    })?;
    printed?;
    let last = format!(
        "until the next boot, or `millstream tune revert --profile {}`\n",
        profile.name
    );
    print(last.as_bytes())?;
    Ok(())
}

fn revert(arguments: &RevertArguments) -> Result<(), Failure> {
    let Some(applied) = Applied::read(&arguments.record.record)? else {
        print(b"nothing was applied\n")?;
        return Ok(());
    };
    applied.expect_profile(&arguments.profile)?;
    let host = Host::new(&arguments.root.host_root, &[], 1);
    let mut printed = Ok(());
    applied.revert(&host, |outcome| say(&mut printed, &outcome_line(outcome)))?;
    printed?;
    Ok(())
}

/// Prints, and goes on without printing once that has failed: what is being done is done to its end.
fn say(printed: &mut Result<(), CliError>, line: &str) {
    if printed.is_ok() {
        *printed = print(line.as_bytes()).map(|_| ());
    }
}

impl HostArguments {
    /// The profile, and this host with as many shards as a broker would have here.
    fn open(&self) -> Result<(Profile, Host), Failure> {
        let profile = Profile::load(&self.profile)?;
        let directories = match &self.data_dir[..] {
            [] => &[PathBuf::from("data")],
            given => given,
        };
        let host = Host::new(&self.root.host_root, directories, 1);
        let mut set = Settings::default();
        set.take_profile(&profile.settings(&host)?)?;
        let shards = self
            .shards
            .map_or(set.integer(&settings::SHARDS).unsigned_abs(), u64::from);
        Ok((profile, host.with_shards(shards)))
    }
}

/// A line that says what is wrong, and what mends it; none, if nothing is.
pub fn complaint(profile: &str, verdict: &Verdict) -> Option<String> {
    let Verdict {
        condition,
        required,
        current,
        severity,
        mend,
        ..
    } = verdict;
    let (current, mend) = (current.as_ref()?, mend.as_ref()?);
    let line = format!(
        "{}: {condition} is {current}, and profile {profile} asks for {required}: {mend}",
        severity.name()
    );
    Some(printable(&line).into_owned())
}

fn lines(verdicts: &[Verdict], profile: &str) -> String {
    let mut rows = vec![["condition", "required", "current", "severity", "holds"].map(str::to_owned)];
    rows.extend(verdicts.iter().map(|verdict| {
        [
            verdict.condition.to_owned(),
            verdict.required.clone(),
            known(verdict.current.as_ref()),
            verdict.severity.name().to_owned(),
            known(verdict.holds.map(|holds| if holds { "yes" } else { "no" })),
        ]
    }));
    let mut text = table(&rows);
    for line in verdicts.iter().filter_map(|verdict| complaint(profile, verdict)) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn document(verdict: &Verdict) -> Value {
    json!({
        "condition": verdict.condition,
        "required": verdict.required,
        "current": verdict.current,
        "severity": verdict.severity.name(),
        "holds": verdict.holds,
        "mend": verdict.mend,
    })
}

fn planned(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing is to be changed\n".to_owned();
    }
    let mut rows = vec![["condition", "file", "from", "to"].map(str::to_owned)];
    rows.extend(changes.iter().map(|change| {
        let file = change.file.display().to_string();
        [
            change.condition.clone(),
            file,
            change.from.clone(),
            change.to.clone(),
        ]
    }));
    table(&rows)
}

fn change_document(change: &Change) -> Value {
    json!({
        "condition": change.condition,
        "file": change.file.display().to_string(),
        "from": change.from,
        "to": change.to,
    })
}

fn outcome_line(outcome: &Reverted) -> String {
    let (change, outcome) = match outcome {
        Reverted::Back(change) => (change, format!("{} again", change.from)),
        Reverted::Left(change, there) => (change, format!("{there}, which somebody else has set: left")),
        Reverted::Gone(change) => (change, "gone".to_owned()),
    };
    format!("{}: {}\n", change.file.display(), printable(&outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::Severity;

    fn verdict() -> Verdict {
        Verdict {
            condition: "swappiness",
            required: "at most 1".to_owned(),
            current: Some("60".to_owned()),
            severity: Severity::Warning,
            holds: Some(false),
            mend: Some("echo 1 > /proc/sys/vm/swappiness".to_owned()),
        }
    }

    #[test]
    fn what_is_wrong_is_a_row_and_a_line_with_what_mends_it() {
        let unknown = Verdict {
            condition: "cpu-governor",
            required: "performance".to_owned(),
            current: None,
            holds: None,
            mend: None,
            ..verdict()
        };
        let good = Verdict {
            current: Some("0".to_owned()),
            holds: Some(true),
            mend: None,
            ..verdict()
        };
        assert_eq!(
            lines(&[verdict(), unknown, good], "latency"),
            "condition     required     current  severity  holds\n\
             swappiness    at most 1    60       warning   no\n\
             cpu-governor  performance  -        warning   -\n\
             swappiness    at most 1    0        warning   yes\n\
             warning: swappiness is 60, and profile latency asks for at most 1: echo 1 > /proc/sys/vm/swappiness\n"
        );
        let hostile = Verdict {
            current: Some("\u{1b}[31m".to_owned()),
            ..verdict()
        };
        assert!(!lines(&[hostile], "p").contains('\u{1b}'));
    }

    #[test]
    fn a_plan_is_a_row_for_each_change() {
        let change = Change {
            condition: "swappiness".to_owned(),
            file: "/proc/sys/vm/swappiness".into(),
            from: "60".to_owned(),
            to: "1".to_owned(),
        };
        assert_eq!(
            planned(std::slice::from_ref(&change)),
            "condition   file                     from  to\nswappiness  /proc/sys/vm/swappiness  60    1\n"
        );
        assert_eq!(planned(&[]), "nothing is to be changed\n");
        assert_eq!(
            outcome_line(&Reverted::Left(change, "30".to_owned())),
            "/proc/sys/vm/swappiness: 30, which somebody else has set: left\n"
        );
    }
}
