//! `bench disk`: what a file system and its disk give to a log.
//!
//! Direct writes through the broker's own runtime: bandwidth over old blocks and new ones, with a flush at the end and with
//! one for each group of bytes, the latency of a flush, and commits of a journal's size. Owns a directory of its own, never more than two files of the size that was asked for,
//! and removes them, whatever ends it.
//!
//! | file | what |
//! |---|---|
//! | `plan.rs` | what is asked |
//! | `writing.rs` | the writes |
//! | `table.rs` | the table, and the JSON |

pub mod plan;
pub mod table;
mod writing;

use std::path::{Path, PathBuf};

use clap::Args;
use ring::clock;

use self::plan::{Subject, cases};
use self::table::DiskReport;
use self::writing::Area;
use crate::environment;
use crate::error::BenchError;
use crate::leftovers::Leftovers;
use crate::room;
use crate::run::{Verdict, on_ring, print};

/// Buffer memory of the thread, in bytes: one block of the largest size that is written, which all writes share.
const MEMORY_BYTES: usize = 64 << 20;
/// Room that is left to others, in bytes.
const ROOM_BYTES: u64 = 64 << 20;

/// Options of `bench disk`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DiskArguments {
    /// Where to write: into a new directory in this one, which is removed afterwards.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
    /// The size of the file that is written, in MiB. At most two are there at once.
    #[arg(long, default_value_t = 1_024, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub file_mib: u32,
    /// How long each question may take, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Asks only this; may be given again. Default: all.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub only: Vec<Subject>,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

impl DiskArguments {
    fn file_bytes(&self) -> u64 {
        u64::from(self.file_mib) << 20
    }
}

/// Asks all questions and prints the answers. Blocks an ordinary thread.
pub(crate) fn main(arguments: DiskArguments) -> Result<Verdict, BenchError> {
    let host = environment::host();
    let leftovers = Leftovers::watched()?;
    let place = leftovers.directory(&arguments.directory)?;
    let is_json = arguments.json;
    let mut report = {
        let place = place.clone();
        on_ring(
            MEMORY_BYTES,
            move || async move { run_here(&arguments, &place).await },
        )?
    };
    // The directory that was asked for, and not ours in it.
    let disk = environment::disk_of(place.parent().unwrap_or(&place));
    leftovers.clear();
    report.host = host.into_iter().chain(disk).collect();
    print(is_json, &report, || report.to_json())?;
    Ok(Verdict::Good)
}

/// Asks all questions, in files in `place`, which are removed; on a ring thread (or a simulated one). Progress goes to
/// stderr.
///
/// # Errors
/// If there is not enough room, or an operation failed: a disk with errors has no figures.
pub async fn run_here(arguments: &DiskArguments, place: &Path) -> Result<DiskReport, BenchError> {
    let file_bytes = arguments.file_bytes();
    room::look(place, 2 * file_bytes + ROOM_BYTES, ", or a smaller --file-mib").await?;
    let began_ms = clock::wall_clock_ms();
    eprintln!("writing a file of {} MiB", arguments.file_mib);
    let area = Area::make(place, file_bytes).await?;
    let mut answers = Vec::new();
    let is_asked = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
    for case in cases().into_iter().filter(|case| is_asked(case.subject)) {
        let answer = area.ask(case, u64::from(arguments.seconds)).await;
        match answer {
            Ok(answer) => {
                eprintln!("{}", table::progress_line(&answer));
                answers.push(answer);
            }
            Err(error) => {
                area.remove().await?;
                return Err(error);
            }
        }
    }
    area.remove().await?;
    Ok(DiskReport {
        began_ms,
        host: Vec::new(),
        file_mib: arguments.file_mib,
        seconds: arguments.seconds,
        answers,
    })
}
