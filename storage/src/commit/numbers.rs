//! What others may know of the committer: how far it is, how full, what it has done, what it waits for.
//!
//! Owns nothing, and changes nothing but the marks that say "since the last call".

use ring::buffer::PoolUsage;
use ring::count::DurationCounts;
use ring::local::Signal;

use super::Committer;
use crate::error::StorageError;
use crate::journal::superblock::ReplayStart;
use crate::shortage::Shortage;

impl Committer {
    /// The number of the group that takes the next batch, as a rule: it may be the one after.
    pub(crate) fn open_group(&self) -> u64 {
        let state = self.shared.state.borrow();
        state.groups + u64::from(state.open.is_none())
    }

    /// How many bytes a partition has in a group at least that are written to its segment at once.
    pub(crate) fn direct_bytes_min(&self) -> usize {
        self.shared.limits.direct_min
    }

    /// Whether there was too little memory for groups.
    pub(crate) fn memory_shortage(&self) -> &Shortage {
        &self.shared.memory_shortage
    }

    /// Bytes of batches that became durable since the start, and of those that it found.
    pub(crate) fn durable_bytes(&self) -> u64 {
        self.shared.state.borrow().durable_bytes
    }

    /// Bytes of batches that were written to their segments with their record, since the start.
    pub(crate) fn direct_bytes(&self) -> u64 {
        self.shared.state.borrow().direct_bytes
    }

    /// The end of what is durable.
    pub(crate) fn durable(&self) -> ReplayStart {
        self.shared.state.borrow().durable
    }

    /// Bytes of batches that are written, and flushed later.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.shared.state.borrow().unflushed.batch_bytes
    }

    /// Bytes of the ring from `from` to the end of what is written.
    pub(crate) fn bytes_since(&self, from: ReplayStart) -> u64 {
        self.distance(from.position, self.shared.state.borrow().written.position)
    }

    /// Records that were written since the start, and their bytes.
    pub(crate) fn written(&self) -> (u64, u64) {
        let state = self.shared.state.borrow();
        (state.records, state.journal_bytes)
    }

    /// How long the writes of records took since the start, each with its flush; and the flushes that came after writes.
    pub(crate) fn flushes(&self) -> DurationCounts {
        self.shared.flushes.counts()
    }

    /// Whether something was refused for want of ring since the last call.
    pub(crate) fn take_shortage(&self) -> bool {
        self.shared.is_short.take()
    }

    /// Whether something was refused since the last call that is taken once the segments are written.
    pub(crate) fn take_segments_wanted(&self) -> bool {
        self.shared.are_segments_wanted.take()
    }

    /// Whether the ring keeps what only the checkpoint before the newest needs; that begins to replay at `newest`.
    pub(crate) fn keeps_more_than(&self, newest: ReplayStart) -> bool {
        self.shared.journal.superblock().tail.seq < newest.seq
    }

    /// Bytes of the ring.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.shared.journal.superblock().ring_bytes
    }

    /// Of them, what a replay may still need.
    pub(crate) fn ring_bytes_used(&self) -> u64 {
        self.used(&self.shared.state.borrow())
    }

    /// What groups take of their memory.
    pub(crate) fn memory_usage(&self) -> PoolUsage {
        self.shared.memory.usage()
    }

    /// Bytes of memory for groups in all.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.shared.memory.bytes()
    }

    /// Notified when the ring or the memory has room again, and when there will never be any.
    pub(crate) fn room(&self) -> &Signal {
        &self.shared.room
    }

    /// Notified when something has become durable or was refused, and when nothing will be taken any more.
    pub(crate) fn progress(&self) -> &Signal {
        &self.shared.progress
    }

    /// Why nothing is written any more.
    pub(crate) fn failure(&self) -> Option<StorageError> {
        self.shared.state.borrow().failure.clone()
    }
}
