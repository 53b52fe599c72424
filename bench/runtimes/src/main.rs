//! Our runtime against glommio, compio and tokio: the same echo and the same direct append, system calls and CPU a request.
//!
//! `runtimes` measures all of them in turn and prints one table (`harness`, `measure`, `client`, `table`). What is
//! measured runs in a child process of its own, so that its CPU and its system calls are nobody else's: this program
//! once more, told to `serve` one runtime (`serve`, and a file for each runtime, all of one shape).
#![expect(
    clippy::disallowed_methods,
    reason = "the harness and the other runtimes are outside the seam, which the root's .clippy.toml guards"
)]

mod case;
mod client;
mod compio;
mod glommio;
mod harness;
mod measure;
mod memory;
mod ours;
mod serve;
mod table;
mod tokio;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::case::{Runtime, Subject};

/// Our runtime against glommio, compio and tokio: the same echo and the same O_DIRECT append.
#[derive(Parser)]
#[command(name = "runtimes", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    run: RunArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct RunArguments {
    /// How often everything is measured; every other round in the opposite order.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement, without its warm-up and its count of system calls.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Where the appended files go: into a new directory in this one, on a disk that takes O_DIRECT.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// The size of a file in MiB; two of them are there at once. An extending append begins a new one where it ends.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    file_mib: u32,
    /// These runtimes only.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "ours,glommio,compio,tokio"
    )]
    only: Vec<Runtime>,
    /// These cases only.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "echo,append"
    )]
    cases: Vec<Subject>,
    /// A trial of half a minute, of which no figure is good for anything: one round of 0.2 s, files of 64 MiB.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "file_mib"])]
    short: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Serves one runtime to the process that started this one.
    #[command(hide = true)]
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Some(Command::Serve(arguments)) => serve::run(arguments).map(|never| match never {}),
        None => harness::run(&plan(arguments.run)),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("runtimes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: RunArguments) -> harness::Plan {
    let (rounds, seconds, file_mib) = if arguments.short {
        (1, 0.2, 64)
    } else {
        (arguments.rounds, arguments.seconds, arguments.file_mib)
    };
    let mut runtimes = arguments.only;
    runtimes.sort_unstable();
    runtimes.dedup();
    harness::Plan {
        rounds,
        time: Duration::from_secs_f64(seconds),
        directory: arguments.directory,
        file_bytes: u64::from(file_mib.next_multiple_of(16)) << 20,
        runtimes,
        cases: case::all(&arguments.cases),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.05 to 3600".into()),
    }
}
