//! Group commit: one journal record and one flush for all that a shard has pending.
//!
//! Owns the chain of records after recovery. Promises: a ticket resolves only after the flush of its record and of
//! every record before it, in record order, or after their writes if that is all it asks for; at most two records are
//! being written at a time, and neither says that the other is durable; a record says of none that it is durable that is
//! only written; a block of the ring is written only when the superblock no longer needs it; after the first error
//! nothing more is acknowledged.
//! Must never know what a partition is: it has entries, bytes, and those who want to be told.

mod direct;
mod flush;
mod group;
mod numbers;
mod room_queue;
mod run;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::Pool;
use ring::clock::Instant;
use ring::count::DurationHistogram;
use ring::executor::{Class, Task, spawn};
use ring::local::Signal;

pub(crate) use self::direct::Target;
pub(crate) use self::flush::Flush;
use self::flush::Unflushed;
pub use self::group::{CommitTicket, Committed};
pub(crate) use self::group::{Group, Place};
use self::group::{HEAD_ROOM, Observed, OpenGroup};
pub use self::room_queue::ROOM_RETRY;
use self::room_queue::RoomQueue;
use crate::error::{AppendError, StorageError};
use crate::journal::Journal;
use crate::journal::record::{ENTRIES_MAX, Entry};
use crate::journal::superblock::ReplayStart;
use crate::shortage::Shortage;
use crate::steady_clock::SteadyClock;

/// Records that are being written at a time: one is built and sent while the other is being flushed. More only queue.
const IN_FLIGHT_MAX: usize = 2;
/// A group closes with the batch that passes this many bytes.
const GROUP_BYTES: usize = 1 << 20;
/// Or with the one that passes this many bytes on their way to segments: one flush then covers a lot of them.
const DIRECT_GROUP_BYTES: usize = 16 << 20;
/// A partition's first run of a group has a buffer of this many bytes; each further one twice as many, up to the last.
const RUN_BYTES: std::ops::RangeInclusive<usize> = 128 << 10..=1 << 20;
/// An idle journal says after this time that its last record is durable.
const IDLE_PUBLISH: Duration = Duration::from_millis(5);
/// For so long after a record others are expected.
const LATELY: Duration = Duration::from_secs(1);
/// A new chunk has at least this many bytes.
const CHUNK_BYTES_MIN: usize = 4_096;

/// Told, in record order, what is as safe as its topic wants it.
pub(crate) trait CommitObserver {
    /// Everything before `next_offset` is.
    fn committed(&self, next_offset: i64);
}

/// Where a batch was put.
pub(crate) struct Placed {
    pub(crate) group: Rc<Group>,
    pub(crate) place: Place,
}

/// The group commit of one shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Committer {
    shared: Rc<Shared>,
}

struct Shared {
    journal: Journal,
    /// Memory of the groups: what is not migrated, and the tail that consumers read.
    memory: Pool,
    /// Memory for headers.
    staging: Pool,
    clock: Rc<SteadyClock>,
    limits: Limits,
    state: RefCell<State>,
    /// There is something to write, or a write has ended.
    work: Signal,
    /// The ring or the memory has room again.
    room: Signal,
    /// Who waits for it, of those who append batches.
    room_queue: RoomQueue,
    /// Something has become durable, or was refused, or nothing will be taken any more.
    progress: Signal,
    /// Something was refused for want of ring.
    is_short: Cell<bool>,
    /// Something was refused that is taken once the segments are written.
    are_segments_wanted: Cell<bool>,
    /// When something was last refused for want of memory.
    memory_shortage: Shortage,
    /// How long the writes of records took.
    flushes: DurationHistogram,
    /// When one last began.
    written_at: Cell<Option<Instant>>,
    task: RefCell<Option<Task<()>>>,
}

/// How much is taken, in bytes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    group: usize,
    /// Of a partition in a group: fewer go into the record.
    direct_min: usize,
    /// On their way to segments, of a group.
    direct_group: usize,
    largest_record: usize,
    /// Of the ring, for batches.
    data: u64,
    /// Of the ring, for entries without bytes: these must go on when batches must wait.
    control: u64,
}

struct State {
    open: Option<OpenGroup>,
    closed: VecDeque<OpenGroup>,
    /// Counts the groups that were opened.
    groups: u64,
    /// Of the ring, what open and closed groups will take, in bytes.
    pending_bytes: u64,
    /// Where the next record will be.
    head: ReplayStart,
    start_epoch: u64,
    /// The end of what is written.
    written: ReplayStart,
    /// The end of what is durable.
    durable: ReplayStart,
    /// What is written, or being written, and waits for a flush that comes later.
    unflushed: Unflushed,
    /// The highest sequence number that a written record vouches for.
    published_seq: u64,
    /// The highest sequence number of a record that holds something.
    newest_full_seq: u64,
    in_flight: usize,
    /// Groups whose bytes are in memory, oldest first. Bounded by the memory.
    resident: VecDeque<Rc<Group>>,
    /// Up to here groups may be evicted.
    migrated_seq: u64,
    /// What recent groups had, in bytes.
    usual_bytes: usize,
    /// Records written since the start.
    records: u64,
    /// Their bytes.
    journal_bytes: u64,
    /// Bytes of batches that were written to their segments with their record.
    direct_bytes: u64,
    /// Bytes of batches that became durable since the start.
    durable_bytes: u64,
    failure: Option<StorageError>,
}

impl Committer {
    /// Begins to write after `end`, in the journal's newest start epoch. `recovered` groups are in memory already.
    pub(crate) fn start(
        journal: Journal,
        end: ReplayStart,
        recovered: VecDeque<Rc<Group>>,
        memory: Pool,
        staging: Pool,
        clock: Rc<SteadyClock>,
        direct_bytes_min: usize,
    ) -> Committer {
        let superblock = journal.superblock();
        let ring = superblock.ring_bytes;
        let largest_record = superblock.largest_record as usize;
        let limits = Limits {
            group: GROUP_BYTES.min(usize::try_from(ring / 16).unwrap_or(GROUP_BYTES)),
            direct_min: direct_bytes_min,
            // Two are in flight while a third is filled, and what is durable is still being read.
            direct_group: DIRECT_GROUP_BYTES.min(memory.bytes() / 16),
            largest_record,
            // What the end of the ring may waste is at most one record.
            data: (ring / 10 * 9).saturating_sub(largest_record as u64),
            control: (ring / 50 * 49).saturating_sub(largest_record as u64),
        };
        let durable_seq = end.seq - 1;
        let recovered_bytes: u64 = recovered.iter().map(|group| group.memory_bytes() as u64).sum();
        let room = Signal::new();
        let shared = Rc::new(Shared {
            journal,
            memory,
            staging,
            clock,
            limits,
            state: RefCell::new(State {
                open: None,
                closed: VecDeque::new(),
                groups: 0,
                pending_bytes: 0,
                head: end,
                start_epoch: superblock.start_epoch,
                written: end,
                durable: end,
                unflushed: Unflushed::default(),
                published_seq: 0,
                newest_full_seq: durable_seq,
                in_flight: 0,
                resident: recovered,
                migrated_seq: 0,
                usual_bytes: CHUNK_BYTES_MIN,
                records: 0,
                journal_bytes: 0,
                direct_bytes: 0,
                durable_bytes: recovered_bytes,
                failure: None,
            }),
            work: Signal::new(),
            room_queue: RoomQueue::new(room.clone()),
            room,
            progress: Signal::new(),
            is_short: Cell::new(false),
            are_segments_wanted: Cell::new(false),
            memory_shortage: Shortage::default(),
            flushes: DurationHistogram::default(),
            written_at: Cell::new(None),
            task: RefCell::default(),
        });
        let task = spawn(Class::Latency, run::run(shared.clone()));
        *shared.task.borrow_mut() = Some(task);
        Committer { shared }
    }

    /// Whether a record that holds something was begun within the last second.
    pub(crate) fn has_written_lately(&self) -> bool {
        let written_at = self.shared.written_at.get();
        written_at.is_some_and(|at| ring::clock::now() - at < LATELY)
    }

    /// Copies a batch into the open group; `patch` may change the copy's bytes, not their number. With a `target` it
    /// goes to its segment, if the group gets enough of them. `flush` says when `observer` is told of it. O(1) in the log.
    pub(crate) fn append(
        &self,
        entry: Entry,
        bytes: &[u8],
        patch: impl FnOnce(&mut [u8]),
        target: Option<&Target>,
        flush: Flush,
        observer: Rc<dyn CommitObserver>,
    ) -> Result<Placed, AppendError> {
        let Shared { limits, .. } = &*self.shared;
        let block_bytes = self.shared.journal.block_bytes();
        let mut state = self.shared.state.borrow_mut();
        if let Some(error) = &state.failure {
            return Err(AppendError::Fenced(error.clone()));
        }
        let largest = self.largest_batch();
        if bytes.len() > largest {
            return Err(AppendError::TooLarge {
                bytes: bytes.len(),
                largest,
            });
        }
        let worst = (HEAD_ROOM + bytes.len()).next_multiple_of(block_bytes) + 4 * block_bytes;
        if self.used(&state) + state.pending_bytes + worst as u64 > limits.data {
            self.fall_short(state);
            return Err(AppendError::JournalFull);
        }
        state.close_if(|open| {
            open.record_bytes_max(3, limits.direct_min, block_bytes) + worst > limits.largest_record
                || open.entries_max() + 3 > ENTRIES_MAX
                // The record has the runs last, and a partition's batches in their order.
                || (target.is_none() && open.run_of(&entry).is_some())
        });
        let mut open = state.take_open();
        let before = open.record_bytes_max(0, limits.direct_min, block_bytes);
        let run = match target {
            None => None,
            Some(target) => match self.run_for(&mut state, &mut open, &entry, bytes.len(), target) {
                Some(run) => Some(run),
                None => return Err(self.fall_short_of_memory(state, open)),
            },
        };
        if run.is_none() && !self.has_chunk_for(&mut state, &mut open, bytes.len()) {
            return Err(self.fall_short_of_memory(state, open));
        }
        let next_offset = entry.next_offset;
        let place = match run {
            Some(run) => open.push_to_run(run, entry, bytes, patch),
            None => open.push(entry, bytes, patch),
        };
        open.observers.push(Observed {
            observer,
            next_offset,
            is_flushed_first: flush == Flush::First,
        });
        open.note(flush, ring::clock::now);
        let group = open.group.clone();
        let after = open.record_bytes_max(0, limits.direct_min, block_bytes);
        state.pending_bytes = state.pending_bytes + after as u64 - before as u64;
        let is_full =
            open.shared_bytes(block_bytes) >= limits.group || open.run_bytes() >= limits.direct_group;
        state.open = Some(open);
        state.close_if(|_| is_full);
        self.shared.work.notify_all();
        Ok(Placed { group, place })
    }

    /// Makes room for a batch in the record's payload.
    fn has_chunk_for(&self, state: &mut State, open: &mut OpenGroup, bytes: usize) -> bool {
        let Shared { limits, memory, .. } = &*self.shared;
        if !open.needs_chunk(bytes) {
            return true;
        }
        let least = HEAD_ROOM + bytes;
        let wanted = least.max(largest_power_of_two(state.usual_bytes.min(limits.group)));
        while !open.add_chunk(memory, least, wanted) {
            if !state.evict_oldest() {
                return open.add_chunk(memory, least, least);
            }
        }
        true
    }

    /// The chunk with the run that takes a batch.
    fn run_for(
        &self,
        state: &mut State,
        open: &mut OpenGroup,
        entry: &Entry,
        bytes: usize,
        target: &Target,
    ) -> Option<usize> {
        let block_bytes = self.shared.journal.block_bytes();
        let last = open.run_of(entry);
        if let Some(last) = last.filter(|last| open.run_takes(*last, entry, bytes)) {
            return Some(last);
        }
        let least = bytes + block_bytes;
        let usual = last.map_or(*RUN_BYTES.start(), |last| 2 * open.capacity_of(last));
        let wanted = least.max(usual.min(*RUN_BYTES.end()));
        let memory = &self.shared.memory;
        let buffer = loop {
            if let Ok(buffer) = memory.try_take_about(least, wanted) {
                break buffer;
            }
            if !state.evict_oldest() {
                break memory.try_take_about(least, least).ok()?;
            }
        };
        Some(open.add_run(buffer, target, entry, block_bytes))
    }

    /// Commits an entry that is not a batch, with a few bytes at most.
    pub(crate) fn control(&self, entry: Entry, bytes: &[u8]) -> Result<CommitTicket, AppendError> {
        let Shared { limits, memory, .. } = &*self.shared;
        let block_bytes = self.shared.journal.block_bytes();
        let mut state = self.shared.state.borrow_mut();
        if let Some(error) = &state.failure {
            return Err(AppendError::Fenced(error.clone()));
        }
        if self.used(&state) + state.pending_bytes + 3 * block_bytes as u64 > limits.control {
            self.fall_short(state);
            return Err(AppendError::JournalFull);
        }
        let worst = (HEAD_ROOM + bytes.len()).next_multiple_of(block_bytes);
        state.close_if(|open| {
            open.entries_max() == ENTRIES_MAX
                || open.record_bytes_max(1, limits.direct_min, block_bytes) + worst > limits.largest_record
        });
        let mut open = state.take_open();
        while !bytes.is_empty()
            && open.needs_chunk(bytes.len())
            && !open.add_chunk(memory, CHUNK_BYTES_MIN, CHUNK_BYTES_MIN)
        {
            if !state.evict_oldest() {
                return Err(self.fall_short_of_memory(state, open));
            }
        }
        let before = open.record_bytes_max(0, limits.direct_min, block_bytes);
        if bytes.is_empty() {
            open.push_empty(entry);
        } else {
            open.push(entry, bytes, |_| {});
        }
        open.note(Flush::First, ring::clock::now);
        let ticket = CommitTicket::of(open.group.clone());
        let after = open.record_bytes_max(0, limits.direct_min, block_bytes);
        state.pending_bytes = state.pending_bytes + after as u64 - before as u64;
        state.open = Some(open);
        self.shared.work.notify_all();
        Ok(ticket)
    }

    /// Calls `attempt`, which appends, until there is room or it is `deadline`: see [`RoomQueue::append`].
    pub(crate) async fn append_in_turn<T>(
        &self,
        deadline: Instant,
        attempt: impl FnMut() -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        self.shared.room_queue.append(deadline, attempt).await
    }

    /// [`Committer::control`], once there is room. Whoever waits must not keep a migration from running, which makes it.
    pub(crate) async fn control_when_there_is_room(
        &self,
        entry: Entry,
        bytes: &[u8],
    ) -> Result<CommitTicket, StorageError> {
        loop {
            let room = self.room().wait();
            match self.control(entry, bytes) {
                Ok(ticket) => return Ok(ticket),
                Err(AppendError::Fenced(error)) => return Err(error),
                Err(_) => {
                    let _ = ring::timer::timeout(ROOM_RETRY, room).await;
                }
            }
        }
    }

    /// The most bytes that a batch may have.
    pub(crate) fn largest_batch(&self) -> usize {
        let block_bytes = self.shared.journal.block_bytes();
        self.shared.limits.largest_record - 2 * block_bytes - HEAD_ROOM
    }

    /// Asks for segments to be written, however little there is to write.
    pub(crate) fn want_segments(&self) {
        if !self.shared.are_segments_wanted.replace(true) {
            self.shared.progress.notify_all();
        }
    }

    /// What the segments hold up to: these groups may be evicted when memory is short.
    pub(crate) fn migrated(&self, seq: u64) {
        let mut state = self.shared.state.borrow_mut();
        state.migrated_seq = state.migrated_seq.max(seq);
        drop(state);
        self.shared.room.notify_all();
    }

    /// Gives back the memory of the older half of what may be evicted. Whether there was any.
    pub(crate) fn evict_half(&self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let half = state.resident.len().div_ceil(2);
        (0..half).take_while(|_| state.evict_oldest()).count() > 0
    }

    /// Frees the ring before `tail`, which `checkpoint` and the one before it do not need.
    pub(crate) async fn advance_tail(&self, tail: ReplayStart, checkpoint: u64) -> Result<(), StorageError> {
        let advanced = self.shared.journal.advance_tail(tail, checkpoint).await;
        if let Err(error) = &advanced {
            self.fence(error);
        }
        self.shared.room.notify_all();
        advanced
    }

    /// The journal's number of starts, tail and newest checkpoint.
    pub(crate) fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Ends all writing: everyone who waits, and everyone who comes, is told `error`.
    pub(crate) fn fence(&self, error: &StorageError) {
        self.shared.fence(error);
    }

    /// Flushes the names in a directory. If that fails the log ends: the next flush of the file system may say nothing of
    /// names that this one has given up, and a checkpoint would rely on them. Not if the directory could not even be opened.
    ///
    /// # Errors
    /// If it cannot be flushed.
    pub(crate) async fn flush_names(&self, directory: &Path) -> Result<(), StorageError> {
        let flushed = ring::directory::sync(directory).await;
        let flushed = flushed.map_err(StorageError::io("flush", directory));
        flushed.inspect_err(|error| {
            if !error.may_pass() {
                self.fence(error);
            }
        })
    }

    /// Waits until every record that is written, or being written, is durable.
    ///
    /// # Errors
    /// If one has failed.
    pub(crate) async fn settle(&self) -> Result<(), StorageError> {
        let written_seq = self.shared.state.borrow().head.seq;
        self.want_flush(written_seq - 1);
        loop {
            let progress = self.shared.progress.wait();
            {
                let state = self.shared.state.borrow();
                match &state.failure {
                    None | Some(StorageError::Stopped) if state.durable.seq >= written_seq => return Ok(()),
                    None | Some(StorageError::Stopped) => {}
                    Some(error) => return Err(error.clone()),
                }
            }
            progress.await;
        }
    }

    /// Waits until everything that was appended is durable, then takes nothing more.
    pub(crate) async fn stop(&self) -> Result<(), StorageError> {
        self.want_flush(u64::MAX);
        loop {
            let progress = self.shared.progress.wait();
            {
                let state = self.shared.state.borrow();
                if let Some(error) = &state.failure {
                    return Err(error.clone());
                }
                if state.is_idle() {
                    break;
                }
            }
            progress.await;
        }
        self.shared.state.borrow_mut().failure = Some(StorageError::Stopped);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        let task = self.shared.task.borrow_mut().take();
        if let Some(task) = task {
            task.await;
        }
        Ok(())
    }

    /// Makes durable what is only written; at once, if there is nothing of that.
    ///
    /// # Errors
    /// If the log has failed.
    pub(crate) async fn flush_written(&self) -> Result<(), StorageError> {
        if self.shared.state.borrow().unflushed.is_empty() {
            return Ok(());
        }
        self.settle().await
    }

    /// Has records up to `seq` flushed that are only written by then.
    fn want_flush(&self, seq: u64) {
        self.shared.state.borrow_mut().unflushed.want(seq);
        self.shared.work.notify_all();
    }

    /// Asks for a checkpoint, however little there is to migrate.
    fn fall_short(&self, state: RefMut<'_, State>) {
        drop(state);
        if !self.shared.is_short.replace(true) {
            self.shared.progress.notify_all();
        }
    }

    fn fall_short_of_memory(&self, mut state: RefMut<'_, State>, open: OpenGroup) -> AppendError {
        state.put_back(open);
        drop(state);
        self.shared.memory_shortage.note();
        self.want_segments();
        AppendError::JournalFull
    }

    fn used(&self, state: &State) -> u64 {
        let tail = self.shared.journal.superblock().tail;
        self.distance(tail.position, state.head.position)
    }

    fn distance(&self, from: u64, to: u64) -> u64 {
        let ring = self.shared.journal.ring();
        let bytes = ring.end - ring.start;
        (to - ring.start + bytes - (from - ring.start) % bytes) % bytes
    }
}

impl Shared {
    fn fence(&self, error: &StorageError) {
        let mut state = self.state.borrow_mut();
        // The end of a log that is being stopped may fail all the same.
        if !matches!(state.failure, None | Some(StorageError::Stopped)) {
            return;
        }
        let failure = StorageError::Fenced(Box::new(error.clone()));
        state.failure = Some(failure.clone());
        let pending: Vec<OpenGroup> = state.closed.drain(..).collect();
        let open = state.open.take();
        drop(state);
        for group in pending.into_iter().chain(open) {
            group.group.fail(failure.clone());
        }
        self.work.notify_all();
        self.room.notify_all();
        self.progress.notify_all();
    }
}

/// 0 for 0.
fn largest_power_of_two(most: usize) -> usize {
    most.checked_ilog2().map_or(0, |power| 1 << power)
}

impl State {
    /// Closes the open group if it has entries and `condition` holds.
    fn close_if(&mut self, condition: impl FnOnce(&OpenGroup) -> bool) {
        if let Some(open) = self.open.take_if(|open| !open.is_empty() && condition(open)) {
            self.closed.push_back(open);
        }
    }

    fn take_open(&mut self) -> OpenGroup {
        self.open.take().unwrap_or_else(|| {
            self.groups += 1;
            OpenGroup::new()
        })
    }

    fn put_back(&mut self, open: OpenGroup) {
        if !open.is_empty() {
            self.open = Some(open);
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_none() && self.closed.is_empty() && self.in_flight == 0
    }

    /// Gives the oldest group's memory back, if it is migrated.
    fn evict_oldest(&mut self) -> bool {
        let migrated = self.migrated_seq;
        let oldest = (self.resident).pop_front_if(|group| group.seq().is_some_and(|seq| seq <= migrated));
        oldest.is_some_and(|group| {
            group.evict();
            true
        })
    }
}
