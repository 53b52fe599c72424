//! Looks into a data directory for its operator: what is in its files, whether they are whole, what a start would do.
//!
//! Owns the judgement on files that nobody is about to use; the scrubber takes the one on sealed segments from here. Reads
//! with the decoders that recovery has, and asks recovery itself what a start would do: there is no second opinion here. Memory does not grow with the log: segments
//! are read in windows. Must never write, create or rename anything, and must never panic, whatever a file holds.

mod check;
mod dump;
mod explain;
mod partition;
mod segment;
mod shard;
mod source;
mod stream;

#[cfg(test)]
mod tests;

use std::path::Path;

use ring::buffer::Pool;

pub use self::check::{CheckSummary, Finding, Progress, Report, Severity, check};
pub use self::dump::{Cut, DumpOptions, Fact, Go, Value, dump};
pub use self::explain::{CopyState, Explained, ExplainedPartition, ExplainedShard, Replay, explain};
#[cfg(fuzzing)]
pub(crate) use self::segment::judge_anything;
pub(crate) use self::segment::{Flaw, Judge, Part, Step};
pub(crate) use self::source::Source;
pub(crate) use self::stream::BatchStream;
use crate::error::StorageError;

/// A bound on what is read into memory at a time; far more than is taken as a rule. A record of a journal, one batch
/// whose records are shown, or an index has at most a part of it.
const MEMORY_BYTES: usize = 1 << 30;

fn pool() -> Result<Pool, StorageError> {
    Pool::new("inspection", MEMORY_BYTES).map_err(|_| StorageError::OutOfMemory {
        bytes: MEMORY_BYTES,
        pool: "inspection",
    })
}

/// A path as it is shown: below the data directory, without that.
pub(crate) fn shown(path: &Path, directory: &Path) -> String {
    path.strip_prefix(directory).unwrap_or(path).display().to_string()
}
