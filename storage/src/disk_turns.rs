//! How much readers of segments have the disk read at a time. Whoever commits batches waits behind what the disk is given,
//! so readers give it little beside commits, and much when there are none.
//!
//! Owns the readers' line. Compaction and the scrubber have their own ([`crate::partition::LogShared::background`]).

use ring::local::{Permit, Semaphore};

/// Bytes of a turn, and of a read beside commits.
const TURN_BYTES: usize = 256 << 10;
/// Bytes of a read without commits.
const READ_BYTES: usize = 1 << 20;
/// Turns at a time: enough for a disk that is far away. Beside commits one read takes them all.
const TURNS: usize = 16;

/// See the module.
pub(crate) struct DiskTurns {
    turns: Semaphore,
}

impl Default for DiskTurns {
    fn default() -> DiskTurns {
        DiskTurns {
            turns: Semaphore::new(TURNS),
        }
    }
}

/// Bytes of the longest read.
pub(crate) fn read_bytes_max(beside_commits: bool) -> usize {
    if beside_commits { TURN_BYTES } else { READ_BYTES }
}

impl DiskTurns {
    /// Waits until so many bytes may be read, first come first served. The turn ends when the permit is dropped.
    pub(crate) async fn take(&self, bytes: usize, beside_commits: bool) -> Permit {
        self.turns.acquire(turns(bytes, beside_commits)).await
    }

    /// Takes a turn if nobody waits for one.
    pub(crate) fn try_take(&self, bytes: usize, beside_commits: bool) -> Option<Permit> {
        self.turns.try_acquire(turns(bytes, beside_commits))
    }
}

/// How many turns a read takes.
fn turns(bytes: usize, beside_commits: bool) -> usize {
    if beside_commits {
        TURNS
    } else {
        bytes.div_ceil(TURN_BYTES).clamp(1, TURNS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(bytes: usize, beside_commits: bool) -> usize {
        let turns = DiskTurns::default();
        let taken: Vec<Permit> = std::iter::from_fn(|| turns.try_take(bytes, beside_commits)).collect();
        taken.len()
    }

    #[test]
    fn readers_have_little_beside_commits_and_much_without() {
        assert_eq!((fit(1, false), fit(1, true)), (16, 1));
        assert_eq!((fit(TURN_BYTES, false), fit(TURN_BYTES, true)), (16, 1));
        assert_eq!((fit(TURN_BYTES + 1, false), fit(TURN_BYTES + 1, true)), (8, 1));
        assert_eq!((fit(1 << 30, false), fit(1 << 30, true)), (1, 1));
    }
}
