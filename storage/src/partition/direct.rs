//! When a partition's batches go to their segment at once, and the segment that is made ready for it.
//!
//! Owns the choice, and the blocks that are reserved ahead. A segment that is not ready costs nobody a wait: its batches
//! ride in the journal meanwhile.
//! Must never make files for a partition that is dropped.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ring::clock::Instant;
use ring::executor::{Class, spawn};
use ring::file::{Allocate, File};
use ring::local::{Permit, Semaphore};

use super::PartitionLog;
use super::spare::Spares;
use crate::commit::Target;
use crate::error::StorageError;
use crate::files::log_path;
use crate::segment::{Position, SegmentName};

/// Segments of a shard that take direct writes at a time: each has a descriptor.
pub(crate) const DIRECT_SEGMENTS_MAX: usize = 256;
/// Reserved ahead, in bytes: about what a partition writes in [`RESERVED_FOR`].
const AHEAD_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;
/// What is used up sooner is four times as much the next time.
const RESERVED_FOR: Duration = Duration::from_secs(1);

/// A segment that could not be made ready is tried again after this: a shortage passes.
const RETRY: Duration = Duration::from_secs(10);

/// A segment that took no direct writes for so long makes room for others when its log is migrated: two migrations may follow
/// each other at once.
const IDLE: Duration = Duration::from_secs(1);

/// What a partition knows of its direct writes.
pub(super) struct Direct {
    /// The group that its last batch went to.
    group: Cell<u64>,
    /// Its bytes in that group.
    bytes: Cell<usize>,
    /// It had enough in the group before that.
    is_hot: Cell<bool>,
    /// Something was written at once since the last migration; and when that was last.
    is_used: Cell<bool>,
    used_at: Cell<Option<Instant>>,
    segment: RefCell<Option<Ready>>,
    /// How much was reserved last, and when.
    ahead: Cell<u64>,
    reserved_at: Cell<Option<Instant>>,
    /// The segment that could not be made ready, and when: the disk is full, say.
    failed: Cell<Option<(i64, Instant)>>,
    /// A task makes its segment ready.
    is_preparing: Cell<bool>,
    /// While the permit is held no file of it is made ready.
    one: Semaphore,
    /// The log is stopped.
    is_over: Cell<bool>,
    pub(super) spares: Spares,
}

/// The segment that takes direct writes.
struct Ready {
    segment_base: i64,
    /// Up to here it has blocks, and its size.
    bytes: u64,
    target: Target,
    /// Among those of the shard.
    counted: Permit,
}

impl Direct {
    pub(super) fn new() -> Direct {
        Direct {
            group: Cell::new(0),
            bytes: Cell::new(0),
            is_hot: Cell::new(false),
            is_used: Cell::new(false),
            used_at: Cell::new(None),
            segment: RefCell::new(None),
            ahead: Cell::new(0),
            reserved_at: Cell::new(None),
            failed: Cell::new(None),
            is_preparing: Cell::new(false),
            one: Semaphore::new(1),
            is_over: Cell::new(false),
            spares: Spares::default(),
        }
    }

    /// Whether a batch for `group` should go to its segment at once: the partition has `min` bytes in the group with it, or
    /// had as many in the group before.
    fn is_due(&self, group: u64, bytes: usize, min: usize) -> bool {
        let before = self.bytes.get();
        let (is_hot, bytes) = if self.group.get() == group {
            (self.is_hot.get(), before + bytes)
        } else {
            (before >= min, bytes)
        };
        is_hot || bytes >= min
    }

    /// Counts a batch that went to `group`; not one that was refused, and will be tried again.
    fn count(&self, group: u64, bytes: usize, min: usize) {
        if self.group.replace(group) != group {
            self.is_hot.set(self.bytes.replace(0) >= min);
        }
        self.bytes.set(self.bytes.get() + bytes);
    }
}

impl PartitionLog {
    /// Where a batch should be written at once; `None` if it should ride in the journal.
    pub(super) fn direct_target(
        &self,
        position: Position,
        bytes: usize,
        segment_bytes: u32,
    ) -> Option<Target> {
        let partition = &self.partition;
        let direct = &partition.direct;
        let committer = partition.committer();
        if !direct.is_due(committer.open_group(), bytes, committer.direct_bytes_min()) {
            return None;
        }
        let end = u64::from(position.file_position) + bytes as u64;
        let segment = direct.segment.borrow();
        let ready = segment
            .as_ref()
            .filter(|ready| ready.segment_base == position.segment_base);
        let reserved = ready.map_or(0, |ready| ready.bytes);
        let target = ready
            .filter(|_| end <= reserved)
            .map(|ready| ready.target.clone());
        drop(segment);
        if target.is_none() || reserved - end < direct.ahead.get() / 2 {
            self.prepare(position.segment_base, reserved, end, segment_bytes);
        }
        direct.is_used.set(true);
        direct.used_at.set(Some(ring::clock::now()));
        target
    }

    /// A batch of so many bytes went to `group`.
    pub(super) fn count_for_direct(&self, group: u64, bytes: usize) {
        let min = self.partition.committer().direct_bytes_min();
        self.partition.direct.count(group, bytes, min);
    }

    /// Makes a segment, which has blocks up to `reserved`, ready for direct writes beyond `end`; unless that is being
    /// done, or has failed lately.
    fn prepare(&self, segment_base: i64, reserved: u64, end: u64, segment_bytes: u32) {
        let shared = &self.partition.shared;
        let direct = &self.partition.direct;
        let now = ring::clock::now();
        let lasted = direct.reserved_at.get().map_or(Duration::MAX, |at| now - at);
        let ahead = next_ahead(direct.ahead.get(), lasted);
        let to = (end + ahead)
            .min(u64::from(segment_bytes).max(end))
            .next_multiple_of(u64::from(shared.block_bytes));
        let is_one_of_many = direct.segment.borrow().is_none() && shared.direct_segments.available() == 0;
        let has_failed =
            (direct.failed.get()).is_some_and(|(base, at)| base == segment_base && now - at < RETRY);
        if direct.is_preparing.get() || has_failed || is_one_of_many || reserved >= to {
            return;
        }
        direct.is_preparing.set(true);
        direct.ahead.set(ahead);
        direct.reserved_at.set(Some(now));
        let log = self.clone();
        spawn(Class::Throughput, async move {
            let made = log.make_ready(segment_base, to).await;
            let direct = &log.partition.direct;
            if made.is_err() {
                direct.failed.set(Some((segment_base, ring::clock::now())));
            }
            direct.is_preparing.set(false);
        })
        .detach();
    }

    /// Gives a segment's file its blocks, its size, and its name; that durably.
    async fn make_ready(&self, segment_base: i64, to: u64) -> Result<(), StorageError> {
        let partition = &self.partition;
        let direct = &partition.direct;
        let _one = direct.one.acquire(1).await;
        if partition.is_dropped.get() {
            return Err(StorageError::Dropped);
        }
        let newest = {
            let state = partition.state.borrow();
            state.segments.all.last().map(|segment| segment.base_offset)
        };
        if direct.is_over.get() || newest != Some(segment_base) {
            // It has its exact length by now, or gets it as soon as the permit is given back; or it is gone.
            return Ok(());
        }
        let others = &partition.shared.direct_segments;
        let has_one = direct.segment.borrow().is_some();
        let counted = if has_one { None } else { others.try_acquire(1) };
        if !has_one && counted.is_none() {
            return Ok(());
        }
        self.make_directory().await?;
        let directory = self.directory();
        let path = log_path(&directory, segment_base);
        let is_named = self.takes_direct_writes(segment_base);
        let reused = if is_named { 0 } else { self.take_spare(&path).await };
        let block = u64::from(partition.shared.block_bytes);
        let to = to.max(reused / block * block);
        let file = match self.reserve_ahead(segment_base, to, is_named).await {
            Ok(file) => file,
            Err(error) => {
                if let Some((base, end)) = self.end_of_newest()
                    && reused > 0
                    && base == segment_base
                {
                    // If it cannot be cut now, it will be when it is sealed.
                    let _ = self.cut(base, end).await;
                }
                return Err(error);
            }
        };
        let mut segment = direct.segment.borrow_mut();
        let before = segment.take().map(|before| before.counted);
        *segment = counted.or(before).map(|counted| Ready {
            segment_base,
            bytes: to,
            target: Target {
                file,
                path: path.into(),
            },
            counted,
        });
        Ok(())
    }

    /// The segment's file, with blocks up to `to`, and its name durable.
    async fn reserve_ahead(&self, segment_base: i64, to: u64, is_named: bool) -> Result<File, StorageError> {
        let partition = &self.partition;
        let directory = self.directory();
        let path = log_path(&directory, segment_base);
        let name = SegmentName::first(segment_base);
        let file = partition
            .shared
            .files
            .log(&directory, partition.id, name, true)
            .await?;
        // A file that was there may have holes: this costs nothing where it has none.
        file.allocate(0..to, Allocate::Extend)
            .await
            .map_err(StorageError::io("reserve blocks for", &path))?;
        // Its size and its blocks become durable with the first commit that uses them, its name before that.
        for directory in [&directory, &partition.shared.directory] {
            if !is_named {
                partition.committer().flush_names(directory).await?;
            }
        }
        Ok(file)
    }

    /// Closes the segment that takes direct writes, if none came since the last call, nor lately, and gives back what is reserved
    /// of it: others may need the place. No migration of the partition may run.
    pub(crate) async fn rest(&self) {
        let is_used = self.partition.direct.is_used.replace(false);
        if !is_used && self.rests_for(IDLE) {
            self.close_ready().await;
        }
    }

    /// Whether it has a segment that takes direct writes.
    pub(super) fn writes_direct(&self) -> bool {
        self.partition.direct.segment.borrow().is_some()
    }

    /// Whether it has a segment that takes direct writes, or files for such, and none came for so long.
    pub(crate) fn rests_for(&self, time: Duration) -> bool {
        let direct = &self.partition.direct;
        let is_used = (direct.used_at.get()).is_some_and(|at| ring::clock::now() - at < time);
        (self.writes_direct() || self.has_spares()) && !is_used
    }

    /// Whether a segment is ready for direct writes: it has blocks, and what may be on its way there is not to wait for more of
    /// them.
    pub(super) fn takes_direct_writes(&self, segment_base: i64) -> bool {
        let segment = self.partition.direct.segment.borrow();
        (segment.as_ref()).is_some_and(|ready| ready.segment_base == segment_base)
    }

    /// Lets go of the descriptor of a segment that is being removed: it would hold its space. Writes that are on their
    /// way have their own.
    pub(super) fn forget_direct(&self, base_offset: i64) {
        let mut segment = self.partition.direct.segment.borrow_mut();
        segment.take_if(|ready| ready.segment_base == base_offset);
    }

    /// Gives back what is reserved behind the newest segment. No migration of the partition may run.
    pub(crate) async fn give_back(&self) {
        self.close_ready().await;
        let reserved = std::mem::take(&mut self.partition.state.borrow_mut().migrated.reserved);
        let _one = self.pause_preparing().await;
        if reserved > 0 && self.may_cut() {
            // If it cannot be cut now, it will be when it is sealed.
            let _ = self.cut_reserved().await;
        }
    }

    /// Gives back what is reserved for direct writes. No migration of the partition may run.
    async fn close_ready(&self) {
        let direct = &self.partition.direct;
        // Batches ride in the journal from here on, until a segment is ready again; those before have their place.
        let ready = direct.segment.borrow_mut().take();
        direct.ahead.set(0);
        if ready.is_none() && !self.has_spares() {
            return;
        }
        let _one = direct.one.acquire(1).await;
        self.remove_spares(0).await;
        let Some(ready) = ready else { return };
        if let Some((segment_base, end)) = self.end_of_newest()
            && segment_base == ready.segment_base
            && self.may_cut()
        {
            // If it cannot be cut now, it will be when it is sealed.
            let _ = ready.target.file.set_len(end).await;
            self.partition.state.borrow_mut().migrated.reserved = 0;
        }
    }

    /// Whether nobody else minds the file's length.
    fn may_cut(&self) -> bool {
        let direct = &self.partition.direct;
        !direct.is_over.get() && !self.partition.is_dropped.get() && direct.segment.borrow().is_none()
    }

    /// The newest segment, if it is not sealed, and the end of its last block.
    pub(super) fn end_of_newest(&self) -> Option<(i64, u64)> {
        let block = u64::from(self.partition.shared.block_bytes);
        let state = self.partition.state.borrow();
        let newest = state.segments.all.last().filter(|newest| !newest.is_sealed)?;
        Some((
            newest.base_offset,
            u64::from(newest.appended).next_multiple_of(block),
        ))
    }

    /// No file of the partition is made ready from now on, and none is being.
    pub(super) async fn end_preparing(&self) {
        self.partition.direct.is_over.set(true);
        drop(self.pause_preparing().await);
    }

    /// The same, if none is being made ready now.
    pub(super) fn try_pause_preparing(&self) -> Option<Permit> {
        self.partition.direct.one.try_acquire(1)
    }

    /// While the permit is held no file of the partition is made ready.
    pub(crate) async fn pause_preparing(&self) -> Permit {
        self.partition.direct.one.acquire(1).await
    }
}

/// How much to reserve when the last that was reserved has lasted so long.
fn next_ahead(ahead: u64, lasted: Duration) -> u64 {
    let next = if lasted <= RESERVED_FOR {
        ahead * 4
    } else if lasted >= RESERVED_FOR * 16 {
        ahead / 4
    } else {
        ahead
    };
    next.clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_follows_how_fast_it_is_used() {
        const MIB: u64 = 1 << 20;
        let next = |ahead_mib: u64, ms| next_ahead(ahead_mib * MIB, Duration::from_millis(ms)) / MIB;
        assert_eq!(
            [next(0, 10), next(1, 1_000), next(4, 900), next(64, 1)],
            [1, 4, 16, 64]
        );
        assert_eq!(
            [
                next(16, 1_001),
                next(16, 15_000),
                next(16, 16_000),
                next(1, 99_000)
            ],
            [16, 16, 4, 1]
        );
    }

    #[test]
    fn what_a_partition_has_pending_decides_and_a_hot_one_begins_at_once() {
        let direct = Direct::new();
        let goes = |group, bytes| {
            let is_due = direct.is_due(group, bytes, 100);
            direct.count(group, bytes, 100);
            is_due
        };
        assert!(!goes(1, 40));
        assert!(!goes(1, 40));
        assert!(goes(1, 20));
        assert!(goes(2, 1), "the group before had enough");
        assert!(goes(2, 1));
        assert!(!goes(3, 1), "and this one had not");
        assert!(goes(4, 100));
        for _ in 0..10 {
            assert!(
                !direct.is_due(6, 50, 101),
                "what is refused each time was counted"
            );
        }
    }
}
