//! When a partition's batches are flushed: `flush.messages` and `flush.ms`.
//!
//! Pure. Promises that of what was acknowledged fewer than `flush.messages` records are not flushed, however long a flush
//! takes: while a batch that has to be flushed first is not, those behind it are flushed first, too.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use wire::BatchHeader;

use super::PartitionConfig;
use crate::commit::{Flush, Group};

/// What a partition knows of its batches that are flushed after they are acknowledged.
#[derive(Default)]
pub(super) struct Later {
    /// Their records, since the last batch that is flushed first.
    records: Cell<u64>,
    /// The group of the newest batch that is flushed first, while others are not.
    flushed_first: RefCell<Option<Rc<Group>>>,
    /// From here on all are flushed first: for as long as that group is not durable, or as nothing is flushed later.
    first_from: Cell<i64>,
}

impl Later {
    /// When a batch is flushed.
    pub(super) fn flush_of(&self, config: &PartitionConfig, header: &BatchHeader) -> Flush {
        if self.with(header) >= config.flush_messages || self.is_first_pending() {
            Flush::First
        } else {
            Flush::Within(Duration::from_millis(config.flush_ms))
        }
    }

    /// It is in the group, from that offset on.
    pub(super) fn appended(
        &self,
        config: &PartitionConfig,
        header: &BatchHeader,
        base_offset: i64,
        flush: Flush,
        group: &Rc<Group>,
    ) {
        match flush {
            Flush::Within(_) => self.records.set(self.with(header)),
            Flush::First if config.flush_messages <= 1 => self.records.set(0),
            Flush::First => {
                if !self.is_first_pending() {
                    self.first_from.set(base_offset);
                }
                *self.flushed_first.borrow_mut() = Some(group.clone());
                self.records.set(0);
            }
        }
    }

    /// Whether the batch at that offset, which is not committed, is flushed first.
    pub(super) fn is_flushed_first(&self, config: &PartitionConfig, base_offset: i64) -> bool {
        base_offset >= self.first_from.get() && (config.flush_messages <= 1 || self.is_first_pending())
    }

    /// The topic has other settings. All before `committed` is, and the log ends at `end` with a batch of the group
    /// `newest`, if that is in memory.
    pub(super) fn changed(
        &self,
        before: &PartitionConfig,
        after: &PartitionConfig,
        committed: i64,
        end: i64,
        newest: Option<&Rc<Group>>,
    ) {
        match (before.flush_messages > 1, after.flush_messages > 1) {
            (false, true) => {
                *self.flushed_first.borrow_mut() = newest.cloned();
                self.first_from.set(committed);
            }
            (true, false) if !self.is_first_pending() => self.first_from.set(end),
            _ => {}
        }
    }

    fn is_first_pending(&self) -> bool {
        let mut group = self.flushed_first.borrow_mut();
        group.take_if(|group| group.is_durable());
        group.is_some()
    }

    /// Records that are not flushed with a batch.
    fn with(&self, header: &BatchHeader) -> u64 {
        let records = u64::from(header.record_count.unsigned_abs()).max(1);
        self.records.get().saturating_add(records)
    }
}
