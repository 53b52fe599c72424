//! What waits for the segments to be written, beside bytes: segments that are complete, and batches that are known one
//! by one. Pure.
//!
//! Owns how many of each a shard may have. A segment that ends costs nothing when a batch is appended, and a dozen calls
//! when it is sealed; a batch in memory costs some heap, however small it is. Neither is in the budgets of bytes.

use std::cell::Cell;

use ring::buffer::PoolUsage;

use crate::error::AppendError;

/// Complete segments of a shard that are not sealed: a migration seals so many in a second or two.
const SEGMENTS_MAX: usize = 512;
/// Of them, of one partition.
const PARTITION_SEGMENTS_MAX: usize = 64;
/// What a batch in memory takes on the heap at most: a deque may have room for twice what is in it.
pub(crate) const BATCH_BYTES: usize = 128;
/// The segments are written when this part of what may be has come since they were written last.
const PART: usize = 3;

/// See the module.
pub(crate) struct Backlog {
    segments: Count,
    batches: Count,
}

struct Count {
    most: usize,
    there: Cell<usize>,
    /// Of them, those that came since they were counted last.
    fresh: Cell<usize>,
}

impl Count {
    fn new(most: usize) -> Count {
        Count {
            most,
            there: Cell::new(0),
            fresh: Cell::new(0),
        }
    }

    fn has_room(&self) -> bool {
        self.there.get() < self.most
    }

    fn add(&self) {
        self.there.set(self.there.get() + 1);
        self.fresh.set(self.fresh.get() + 1);
    }

    fn set(&self, there: usize) {
        self.there.set(there);
        self.fresh.set(0);
    }

    fn is_due(&self) -> bool {
        self.fresh.get() >= self.most.div_ceil(PART)
    }
}

impl Backlog {
    /// Of a shard that may have so many bytes of heap for what it knows of batches in memory.
    pub(crate) fn new(bytes: usize) -> Backlog {
        Backlog {
            segments: Count::new(SEGMENTS_MAX),
            batches: Count::new(bytes / BATCH_BYTES),
        }
    }

    /// What batches in memory take of the heap, and may.
    pub(crate) fn usage(&self) -> PoolUsage {
        PoolUsage {
            name: "batches",
            bytes: self.batches.most * BATCH_BYTES,
            bytes_used: self.batches.there.get() * BATCH_BYTES,
        }
    }

    /// Whether a batch may come; and end a segment, if it would: of a partition that has so many complete ones.
    ///
    /// # Errors
    /// [`AppendError::JournalFull`] if none may, [`AppendError::BacklogFull`] if others may that end no segment.
    pub(crate) fn admit(&self, ends_one_of: Option<usize>) -> Result<(), AppendError> {
        if !self.batches.has_room() {
            return Err(AppendError::JournalFull);
        }
        match ends_one_of {
            Some(of_partition) if of_partition >= PARTITION_SEGMENTS_MAX || !self.segments.has_room() => {
                Err(AppendError::BacklogFull)
            }
            _ => Ok(()),
        }
    }

    /// A batch came, and ended a segment or did not.
    pub(crate) fn add(&self, ended_one: bool) {
        self.batches.add();
        if ended_one {
            self.segments.add();
        }
    }

    /// Whether so much has come that the segments are to be written.
    pub(crate) fn is_due(&self) -> bool {
        self.segments.is_due() || self.batches.is_due()
    }

    /// What there is, counted anew.
    pub(crate) fn recount(&self, segments: usize, batches: usize) {
        self.segments.set(segments);
        self.batches.set(batches);
    }

    /// Whether what is in segments already has to leave memory, for others to have room.
    pub(crate) fn is_crowded(&self) -> bool {
        self.batches.there.get() > self.batches.most / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(outcome: Result<(), AppendError>, by_all: bool) -> bool {
        match outcome {
            Ok(()) => false,
            Err(AppendError::JournalFull) => by_all,
            Err(AppendError::BacklogFull) => !by_all,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn segments_wait_of_a_partition_and_of_all() {
        let backlog = Backlog::new(10_000 * BATCH_BYTES);
        assert!(backlog.admit(Some(PARTITION_SEGMENTS_MAX - 1)).is_ok());
        assert!(refused(backlog.admit(Some(PARTITION_SEGMENTS_MAX)), false));
        for count in 0..SEGMENTS_MAX {
            assert!(backlog.admit(Some(0)).is_ok(), "{count}");
            assert_eq!(backlog.is_due(), count >= SEGMENTS_MAX.div_ceil(PART));
            backlog.add(true);
        }
        assert!(refused(backlog.admit(Some(0)), false));
        assert!(backlog.admit(None).is_ok(), "what ends no segment goes on");
        backlog.recount(1, 10);
        assert!(backlog.admit(Some(1)).is_ok() && !backlog.is_due() && !backlog.is_crowded());
    }

    #[test]
    fn batches_have_a_bound() {
        let backlog = Backlog::new(10 * BATCH_BYTES);
        for _ in 0..3 {
            backlog.add(false);
        }
        assert!(!backlog.is_due());
        backlog.add(false);
        assert!(backlog.is_due());
        backlog.recount(0, 4);
        assert!(!backlog.is_due(), "what was there before is no reason");
        backlog.recount(0, 5);
        assert!(!backlog.is_crowded());
        backlog.recount(0, 6);
        assert!(backlog.is_crowded() && backlog.admit(None).is_ok());
        backlog.recount(0, 10);
        assert!(refused(backlog.admit(None), true) && refused(backlog.admit(Some(0)), true));
        let usage = backlog.usage();
        assert_eq!((usage.bytes, usage.bytes_used), (1_280, 1_280));
    }
}
