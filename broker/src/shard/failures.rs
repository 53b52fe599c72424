//! Reads of the log that failed: the client hears a code, the operator where the damage is.

use std::cell::Cell;
use std::time::Duration;

use ring::clock::Instant;
use ring::count::Counter;
use storage::{StorageError, TopicPartition};

/// At most one line of each kind in so long: a consumer asks again at once.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ReadFailures {
    /// Reads that found damage, or that the disk refused.
    pub(crate) reads: Counter,
    damaged: Pace,
    refused: Pace,
}

impl ReadFailures {
    /// Counts it, and says what it was, if it is the disk's fault. What ends with the partition or the log is told
    /// elsewhere.
    pub(crate) fn tell(&self, id: TopicPartition, error: &StorageError) {
        let pace = match error {
            StorageError::Corrupt { .. } => &self.damaged,
            StorageError::Io { .. } => &self.refused,
            _ => return,
        };
        self.reads.add(1);
        match pace.take(ring::clock::now()) {
            None => {}
            Some(0) => tracing::warn!(partition = %id, "a read failed: {error}"),
            Some(unsaid) => {
                tracing::warn!(partition = %id, "a read failed: {error} ({unsaid} more since the last line)");
            }
        }
    }
}

/// Says when a line may be written.
#[derive(Debug, Default)]
struct Pace {
    quiet_until: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Pace {
    /// How many lines were kept back since the last, if one may be written now.
    fn take(&self, now: Instant) -> Option<u64> {
        if self.quiet_until.get().is_some_and(|until| now < until) {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.quiet_until.set(Some(now + SAY_EVERY));
        Some(self.unsaid.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_at_once_and_then_once_in_an_interval() {
        let pace = Pace::default();
        let begun = Instant(0);
        let said: Vec<_> = (0..25)
            .map(|second| pace.take(begun + Duration::from_secs(second)))
            .collect();
        let lines: Vec<_> = (0..)
            .zip(said)
            .filter_map(|(second, line)| Some((second, line?)))
            .collect();
        assert_eq!(lines, [(0, 0), (10, 9), (20, 9)]);
    }
}
