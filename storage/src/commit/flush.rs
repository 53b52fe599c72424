//! The records on their way to the disk, in order: who is told that they are written, and who that they are flushed.
//!
//! Owns the order of writes and flushes: which records are written with all before them, when one flush makes all of these
//! durable, and who is told of what. Such a flush covers only what had been written when it began. A flush that goes with a record's
//! own write covers nothing else (the device may write this block through its cache, and leave the others in it): so none
//! does while something before it waits for its own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ring::clock::Instant;
use ring::executor::{Class, spawn};

use super::direct::Target;
use super::group::OpenGroup;
use super::{DIRECT_GROUP_BYTES, IN_FLIGHT_MAX, Shared, State};
use crate::error::StorageError;
use crate::journal::superblock::ReplayStart;

/// A flush of what is acknowledged before it begins after this time at the latest: as soon as Linux begins to write back what
/// a program has only written. Nothing more is written while one takes longer than that.
pub(crate) const FLUSH_WITHIN_MAX: Duration = Duration::from_secs(5);
/// Or with the record that passes this part of the ring.
const UNFLUSHED_RING_PART: u64 = 8;
/// Of so many bytes this many times as much may be waiting for flushes before nothing more is written.
const UNFLUSHED_TIMES: u64 = 2;
/// Flushes that come after writes, at a time.
const FLUSHES_MAX: usize = 2;
/// For so long after the last record that is flushed later, all are: or a record that is flushed with its write would keep
/// the next such from being acknowledged before that.
const LATER_FOR: Duration = Duration::from_secs(60);

/// When a batch is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Before it is acknowledged.
    First,
    /// After that, and so soon; after [`FLUSH_WITHIN_MAX`] at the latest.
    Within(Duration),
}

/// What is written, or being written, and waits for a flush that comes later.
#[derive(Default)]
pub(super) struct Unflushed {
    /// Records.
    count: usize,
    /// Bytes of their batches.
    pub(super) batch_bytes: u64,
    /// Segments that their blocks went to, and that no flush has begun to cover.
    targets: Vec<Target>,
    /// Somebody wants all up to this record flushed.
    wanted_seq: u64,
    /// When something last came that is flushed after it is acknowledged.
    came_at: Option<Instant>,
}

impl Unflushed {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records up to `seq` are to be flushed, those that come later too.
    pub(super) fn want(&mut self, seq: u64) {
        self.wanted_seq = self.wanted_seq.max(seq);
    }

    /// Whether a group's record is flushed with its own write.
    pub(super) fn lets_flush_alone(&self, group: &OpenGroup) -> bool {
        let is_recent = || (self.came_at).is_some_and(|at| ring::clock::now() - at < LATER_FOR);
        self.is_empty() && group.flush_by.is_none() && !(group.wants_flush && is_recent())
    }

    /// Blocks were written to these segments.
    pub(super) fn wrote_to(&mut self, targets: Vec<Target>) {
        for target in targets {
            if !self.targets.iter().any(|other| other.is(&target)) {
                self.targets.push(target);
            }
        }
    }
}

/// A record on its way to the disk.
pub(super) struct InFlight {
    pub(super) group: OpenGroup,
    /// Where the next record begins.
    pub(super) end: ReplayStart,
    /// Of memory, what its batches take.
    pub(super) batch_bytes: u64,
    /// Of the disk, what was written with it.
    pub(super) written_bytes: u64,
    /// Its write is its flush.
    pub(super) is_flushed_alone: bool,
    /// If it ended with an error, the committer has failed.
    pub(super) has_ended: Rc<Cell<bool>>,
}

impl InFlight {
    fn seq(&self) -> u64 {
        self.end.seq - 1
    }

    /// Whether somebody waits for its flush.
    fn is_awaited(&self) -> bool {
        self.is_flushed_alone || self.group.wants_flush
    }
}

/// A flush of what was written.
struct LaterFlush {
    up_to_seq: u64,
    begun: Instant,
    has_ended: Rc<Cell<bool>>,
}

/// The records that are not durable yet, in their order.
#[derive(Default)]
pub(super) struct Pipeline {
    records: VecDeque<InFlight>,
    /// How many of them, from the first, are written, and that was told.
    told: usize,
    /// How many of them are waited for until they are durable.
    awaited: usize,
    /// Those that are under way, in their order.
    flushes: VecDeque<LaterFlush>,
    /// Up to this record a flush has begun.
    begun_seq: u64,
    /// Up to this record flushes have ended.
    flushed_seq: u64,
    /// Among those that were told, the last one whose flush is waited for.
    awaited_seq: u64,
    /// When those that were told are to be flushed, if no flush of them has begun.
    flush_by: Option<Instant>,
    /// Bytes of theirs.
    unflushed_bytes: u64,
}

impl Pipeline {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is being written or flushed.
    pub(super) fn rests(&self) -> bool {
        self.records.len() == self.told && self.flushes.is_empty()
    }

    /// Whether the next group may be written: what is acknowledged when it is written does not wait for flushes, as long as
    /// they keep up.
    pub(super) fn has_room(&self, shared: &Shared) -> bool {
        let state = shared.state.borrow();
        let has_slot = self.records.len() - self.told < IN_FLIGHT_MAX;
        has_slot
            && (self.awaited < IN_FLIGHT_MAX || state.next_is_acknowledged_first())
            && !self.is_much_at_risk(&state.unflushed, flushed_bytes(shared))
    }

    /// Whether flushes do not keep up: a power cut would take back more than is promised. A flush is under way then.
    fn is_much_at_risk(&self, unflushed: &Unflushed, flushed_bytes: u64) -> bool {
        let is_slow = |flush: &LaterFlush| ring::clock::now() - flush.begun >= FLUSH_WITHIN_MAX;
        unflushed.batch_bytes >= UNFLUSHED_TIMES * flushed_bytes || self.flushes.front().is_some_and(is_slow)
    }

    /// Takes a record that is being written.
    pub(super) fn push(&mut self, record: InFlight, state: &mut State) {
        self.awaited += usize::from(record.is_awaited());
        if !record.is_flushed_alone {
            state.unflushed.count += 1;
            state.unflushed.batch_bytes += record.batch_bytes;
        }
        if record.group.flush_by.is_some() {
            state.unflushed.came_at = Some(ring::clock::now());
        }
        self.records.push_back(record);
    }

    /// Takes what has ended off the front, in record order, and tells those who wait.
    pub(super) fn complete(&mut self, shared: &Shared) {
        let failure = shared.state.borrow().failure.clone();
        let failure = failure.filter(|failure| !matches!(failure, StorageError::Stopped));
        let mut moved = failure.is_none() && self.tell_written(shared);
        while let Some(flush) = self.flushes.pop_front_if(|flush| flush.has_ended.get()) {
            self.flushed_seq = flush.up_to_seq;
        }
        let (flushed_seq, has_failed) = (self.flushed_seq, failure.is_some());
        if has_failed {
            self.flush_by = None; // none will come, and nobody may wait for its time
        }
        let is_over = |record: &mut InFlight| {
            record.has_ended.get() && (has_failed || record.is_flushed_alone || record.seq() <= flushed_seq)
        };
        while let Some(record) = self.records.pop_front_if(is_over) {
            moved = true;
            // A failure ends also what was not told.
            self.told = self.told.saturating_sub(1);
            self.awaited -= usize::from(record.is_awaited());
            self.begun_seq = self.begun_seq.max(record.seq());
            let mut state = shared.state.borrow_mut();
            if !record.is_flushed_alone {
                state.unflushed.count -= 1;
                state.unflushed.batch_bytes -= record.batch_bytes;
            }
            let group = record.group;
            // A failure of any record is a failure of this one: nothing is durable behind a hole.
            if let Some(failure) = &failure {
                drop(state);
                group.group.fail(failure.clone());
                continue;
            }
            state.durable = record.end;
            state.durable_bytes += record.batch_bytes;
            if group.group.is_resident() {
                state.resident.push_back(group.group.clone());
            }
            drop(state);
            for observed in group
                .observers
                .iter()
                .filter(|observed| observed.is_flushed_first)
            {
                observed.observer.committed(observed.next_offset);
            }
            group.group.succeed();
        }
        if moved {
            shared.state.borrow_mut().in_flight = self.records.len();
            shared.progress.notify_all();
        }
    }

    /// Acknowledges what need not be flushed first, and is written with all before it. Whether there was anything.
    fn tell_written(&mut self, shared: &Shared) -> bool {
        let before = self.told;
        while let Some(record) = self
            .records
            .get(self.told)
            .filter(|record| record.has_ended.get())
        {
            self.told += 1;
            shared.state.borrow_mut().written = record.end;
            if record.is_flushed_alone {
                continue;
            }
            self.unflushed_bytes += record.written_bytes;
            if record.group.wants_flush || self.unflushed_bytes >= flushed_bytes(shared) {
                self.awaited_seq = record.seq();
            }
            if let Some(by) = record.group.flush_by {
                self.flush_by = Some(self.flush_by.map_or(by, |before| before.min(by)));
            }
            let observers = record.group.observers.iter();
            for observed in observers.filter(|observed| !observed.is_flushed_first) {
                observed.observer.committed(observed.next_offset);
            }
            record.group.group.acknowledge();
        }
        self.told > before
    }

    /// Begins a flush of what was told to be written, if one is due.
    pub(super) fn flush(&mut self, shared: &Rc<Shared>) {
        let (up_to_seq, targets) = {
            let mut state = shared.state.borrow_mut();
            let written_seq = state.written.seq - 1;
            let is_due = written_seq > self.begun_seq
                && !state.unflushed.is_empty()
                && self.flushes.len() < FLUSHES_MAX
                && state.failure.is_none()
                && self.is_wanted(written_seq, &state.unflushed);
            if !is_due {
                return;
            }
            (written_seq, std::mem::take(&mut state.unflushed.targets))
        };
        (self.begun_seq, self.flush_by, self.unflushed_bytes) = (up_to_seq, None, 0);
        let has_ended = Rc::new(Cell::new(false));
        let begun = ring::clock::now();
        let (flusher, ended) = (shared.clone(), has_ended.clone());
        spawn(Class::Latency, async move {
            let flushed = flush(&flusher, targets).await;
            flusher.flushes.record(ring::clock::now() - begun);
            if let Err(error) = &flushed {
                flusher.fence(error); // before it has ended, or what it was for would be acknowledged
            }
            ended.set(true);
            flusher.work.notify_all();
        })
        .detach();
        self.flushes.push_back(LaterFlush {
            up_to_seq,
            begun,
            has_ended,
        });
    }

    fn is_wanted(&self, written_seq: u64, unflushed: &Unflushed) -> bool {
        let asked = unflushed.wanted_seq;
        let is_asked = asked > self.begun_seq && (written_seq >= asked || self.records.len() == self.told);
        let is_late = || self.flush_by.is_some_and(|by| by <= ring::clock::now());
        self.awaited_seq > self.begun_seq || is_asked || is_late()
    }

    /// When a flush will be due, if nothing comes before that.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.flush_by.filter(|_| self.flushes.len() < FLUSHES_MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// A flush begins when so many bytes wait for one, whatever the time.
fn flushed_bytes(shared: &Shared) -> u64 {
    let ring_part = shared.journal.superblock().ring_bytes / UNFLUSHED_RING_PART;
    ring_part.min(DIRECT_GROUP_BYTES as u64)
}

/// Makes durable what was written to the journal, and to these segments, before. An error ends all writing.
pub(super) async fn flush(shared: &Rc<Shared>, targets: Vec<Target>) -> Result<(), StorageError> {
    // A flush covers what had completed before it. That of the journal covers the device's cache; a segment's own is
    // for its extents, which the writes have turned from reserved into written.
    let flush_of = |target: Target| {
        let shared = shared.clone();
        async move {
            let flushed = target.flush().await;
            // At once, not when those before it in the list have ended: another record's flush of this segment may end
            // meanwhile, and say nothing of what this one has lost.
            flushed.inspect_err(|error| shared.fence(error))
        }
    };
    let flushes: Vec<_> = targets
        .into_iter()
        .map(|target| spawn(Class::Latency, flush_of(target)))
        .collect();
    shared.journal.flush().await?;
    for flush in flushes {
        flush.await?;
    }
    Ok(())
}
