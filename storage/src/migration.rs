//! Emptying the journal: segments, checkpoint, superblock, and only then are its blocks written again.
//!
//! On a disk that is full it waits: producers do when the journal is, and whatever is deleted meanwhile makes room. So it
//! does while no file can be opened.
//! Owns the order of these four. The tail of the journal is where the checkpoint *before* the newest begins to replay,
//! so that one damaged checkpoint costs a longer replay and not the log.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ring::directory;
use ring::executor::{Class, Task, spawn};
use ring::local::{Permit, Semaphore, Signal};

use crate::at_once;
use crate::checkpoint::{self, Head};
use crate::commit::Committer;
use crate::error::StorageError;
use crate::id::TopicPartition;
use crate::journal::superblock::ReplayStart;
use crate::partition::{LogShared, PartitionLog};
use crate::phase;

/// A migration begins when this part of the ring was written since the last one: with what the checkpoint before needs,
/// half of the ring is in use then.
const RING_PART: u64 = 4;
/// Segments are written, without a checkpoint, when this part of the memory for groups is taken by what is not migrated.
const MEMORY_PART: u64 = 3;

/// A migration that found the disk full, or could open no file, is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Segments that a migration removes at most: the journal does not wait for more, nor does a stop.
pub(crate) const REMOVED_MAX: usize = 256;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Migration {
    inner: Rc<Inner>,
}

struct Inner {
    shared: Rc<LogShared>,
    committer: Committer,
    partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    /// Where the checkpoints are.
    directory: PathBuf,
    /// Where the newest checkpoint begins to replay: the journal's tail after the next one.
    newest: Cell<ReplayStart>,
    /// Bytes of batches that were durable when the segments were written last.
    migrated_bytes: Cell<u64>,
    next_generation: Cell<u64>,
    checkpoints: Cell<u64>,
    /// One at a time.
    one: Semaphore,
    /// Who keeps it together with others, and whoever asks whether there are such.
    together: RefCell<Weak<Permit>>,
    asking: Semaphore,
    /// What holds the last migration up, if something does that may pass; and notified when that changes.
    held_up_by: RefCell<Option<StorageError>>,
    hold_up: Signal,
    /// The first error: a flush that failed once proves nothing when it is tried again.
    failure: RefCell<Option<StorageError>>,
    task: RefCell<Option<Task<()>>>,
}

impl Migration {
    /// Begins to watch the journal.
    pub(crate) fn start(
        shared: Rc<LogShared>,
        committer: Committer,
        partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
        directory: PathBuf,
        newest: ReplayStart,
        next_generation: u64,
    ) -> Migration {
        let migration = Migration {
            inner: Rc::new(Inner {
                shared,
                committer,
                partitions,
                directory,
                newest: Cell::new(newest),
                migrated_bytes: Cell::new(0),
                next_generation: Cell::new(next_generation),
                checkpoints: Cell::new(0),
                one: Semaphore::new(1),
                together: RefCell::default(),
                asking: Semaphore::new(1),
                held_up_by: RefCell::default(),
                hold_up: Signal::new(),
                failure: RefCell::default(),
                task: RefCell::default(),
            }),
        };
        migration.inner.settle_backlog();
        let task = spawn(Class::Throughput, migration.inner.clone().watch());
        *migration.inner.task.borrow_mut() = Some(task);
        migration
    }

    /// Checkpoints that were written since the start.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.inner.checkpoints.get()
    }

    /// Bytes of the ring that the newest checkpoint does not cover.
    pub(crate) fn unmigrated_bytes(&self) -> u64 {
        self.inner.committer.bytes_since(self.inner.newest.get())
    }

    /// Migrates what is durable and writes a checkpoint, due or not.
    pub(crate) async fn checkpoint(&self) -> Result<(), StorageError> {
        let _one = self.inner.one.acquire(1).await;
        if let Some(error) = self.inner.committer.failure() {
            return Err(error);
        }
        let migrated = self.inner.migrate(false).await;
        if let Err(error) = &migrated
            && !error.may_pass()
        {
            self.inner.committer.fence(error);
        }
        migrated
    }

    /// Waits until something that may pass holds migrations up; or, after `is_held_up`, until nothing does. Gives what it is.
    pub(crate) async fn hold_up_turn(&self, is_held_up: bool) -> Option<StorageError> {
        loop {
            let hold_up = self.inner.hold_up.wait();
            let held_up_by = self.inner.held_up_by.borrow().clone();
            if held_up_by.is_some() != is_held_up {
                return held_up_by;
            }
            hold_up.await;
        }
    }

    /// Whether a compacted segment is not at its place yet, or something that it replaces is not gone.
    pub(crate) fn is_replacing(&self) -> bool {
        self.inner.is_replacing()
    }

    /// While the permit is held no migration runs.
    pub(crate) async fn pause(&self) -> Permit {
        self.inner.one.acquire(1).await
    }

    /// The same, for steps that end soon: whoever comes while another has it shares it.
    pub(crate) async fn pause_together(&self) -> Rc<Permit> {
        let _asking = self.inner.asking.acquire(1).await;
        let shared = self.inner.together.borrow().upgrade();
        match shared {
            Some(permit) => permit,
            None => {
                let permit = Rc::new(self.pause().await);
                *self.inner.together.borrow_mut() = Rc::downgrade(&permit);
                permit
            }
        }
    }

    /// The last migration, of a log that takes no more batches: every file ends at its exact length afterwards.
    pub(crate) async fn finish(&self) -> Result<(), StorageError> {
        let _one = self.inner.one.acquire(1).await;
        drop(self.inner.task.borrow_mut().take());
        self.inner.migrate(true).await?;
        // Compacted segments come to their place when both checkpoints say so: other tools know no other names.
        while self.inner.is_replacing() {
            self.inner.migrate(true).await?;
        }
        Ok(())
    }
}

impl Inner {
    async fn watch(self: Rc<Self>) {
        loop {
            let progress = self.committer.progress().wait();
            if self.committer.failure().is_some() {
                return;
            }
            let is_due = self.is_due();
            if is_due || self.is_memory_due() {
                let _one = self.one.acquire(1).await;
                let migrated = if is_due {
                    self.migrate(false).await
                } else {
                    self.relieve().await
                };
                self.note_hold_up(migrated.as_ref().err());
                match migrated {
                    Err(error) if error.may_pass() => {
                        // Nothing is lost: the journal has it. All of it is tried again, also what is to be removed.
                        self.shared.is_checkpoint_due.set(true);
                        if error.is_no_space() {
                            self.give_back().await;
                        }
                        drop(_one);
                        ring::timer::sleep(RETRY).await;
                    }
                    Err(error) => {
                        self.committer.fence(&error);
                        return;
                    }
                    Ok(()) => {}
                }
                continue;
            }
            progress.await;
        }
    }

    /// Tells who waits whether something holds migrations up.
    fn note_hold_up(&self, error: Option<&StorageError>) {
        let held_up_by = error.filter(|error| error.may_pass()).cloned();
        let before = self.held_up_by.replace(held_up_by);
        if before.is_some() != self.held_up_by.borrow().is_some() {
            self.hold_up.notify_all();
        }
    }

    fn is_replacing(&self) -> bool {
        let partitions = self.partitions.borrow();
        partitions.values().any(PartitionLog::is_replacing)
    }

    fn is_due(&self) -> bool {
        let newest = self.newest.get();
        let since = self.committer.bytes_since(newest);
        // Two checkpoints that are far apart can leave less room than what makes a migration due.
        if self.committer.take_shortage() && (since > 0 || self.committer.keeps_more_than(newest)) {
            return true;
        }
        if self.shared.is_checkpoint_due.replace(false) {
            return true;
        }
        since >= self.committer.ring_bytes() / RING_PART
    }

    /// Whether memory is to be given back, though the journal has room: large batches take little of it, and small ones
    /// and their segments cost what is not counted in bytes.
    fn is_memory_due(&self) -> bool {
        let committed = self.committer.durable_bytes() + self.committer.unflushed_bytes();
        let in_memory = committed - self.migrated_bytes.get();
        let are_wanted = self.committer.take_segments_wanted() && in_memory > 0;
        let is_much = in_memory >= self.committer.memory_bytes() as u64 / MEMORY_PART;
        are_wanted || is_much || self.shared.backlog.is_due()
    }

    /// Writes everything that is durable to the segments, so that its memory may be used again; the journal keeps it.
    async fn relieve(&self) -> Result<(), StorageError> {
        let relieved = self.relieve_memory().await;
        if let Err(error) = &relieved
            && !error.may_pass()
        {
            *self.failure.borrow_mut() = Some(error.clone());
        }
        relieved
    }

    async fn relieve_memory(&self) -> Result<(), StorageError> {
        self.committer.flush_written().await?;
        let logs: Vec<PartitionLog> = self.partitions.borrow().values().cloned().collect();
        let (replay, bytes) = (self.committer.durable(), self.committer.durable_bytes());
        self.write_segments(&logs, replay.seq - 1, bytes).await
    }

    /// Everything up to journal record `up_to_seq`, when `durable_bytes` were durable.
    async fn write_segments(
        &self,
        logs: &[PartitionLog],
        up_to_seq: u64,
        durable_bytes: u64,
    ) -> Result<(), StorageError> {
        let migrate = async move |log: PartitionLog| log.migrate(up_to_seq).await;
        match at_once::for_each(logs, migrate).await {
            // What is reserved is more than nothing, and nobody needs it.
            Err(error) if error.is_no_space() => {
                self.give_back().await;
                at_once::for_each(logs, migrate).await?;
            }
            migrated => {
                migrated?;
                self.shared.is_disk_short.set(false);
            }
        }
        self.migrated_bytes.set(durable_bytes);
        self.committer.migrated(up_to_seq);
        self.settle_backlog();
        self.bound_indexes(logs);
        Ok(())
    }

    /// Forgets what index files have, too, if it is more than it may be. No other migration may run.
    fn bound_indexes(&self, logs: &[PartitionLog]) {
        let bytes: usize = logs.iter().map(PartitionLog::index_memory_bytes).sum();
        if bytes > self.shared.index_bytes_max {
            logs.iter().for_each(PartitionLog::forget_written_entries);
        }
    }

    /// Gives back what is reserved on the disk, which is full, and what awaits its removal. No other migration may run.
    async fn give_back(&self) {
        self.shared.is_disk_short.set(true);
        let logs: Vec<PartitionLog> = self.partitions.borrow().values().cloned().collect();
        for log in logs {
            log.give_back().await;
            log.remove_leaving().await;
        }
    }

    /// Forgets what is known of evicted batches, whoever has evicted them, and makes room for others.
    fn settle_backlog(&self) {
        let backlog = &self.shared.backlog;
        loop {
            let (mut segments, mut batches) = (0, 0);
            for log in self.partitions.borrow().values() {
                let (its_segments, its_batches) = log.settle_backlog();
                (segments, batches) = (segments + its_segments, batches + its_batches);
            }
            backlog.recount(segments, batches);
            if !backlog.is_crowded() || !self.committer.evict_half() {
                break;
            }
        }
    }

    async fn migrate(&self, is_last: bool) -> Result<(), StorageError> {
        if let Some(error) = &*self.failure.borrow() {
            return Err(error.clone());
        }
        let migrated = self.empty_journal(is_last).await;
        if let Err(error) = &migrated
            && !error.may_pass()
        {
            *self.failure.borrow_mut() = Some(error.clone());
        }
        migrated
    }

    /// Everything that is durable now: to the segments, into a checkpoint, out of the journal.
    async fn empty_journal(&self, is_last: bool) -> Result<(), StorageError> {
        let replay = self.committer.durable();
        let (up_to_seq, durable_bytes) = (replay.seq - 1, self.committer.durable_bytes());
        let logs: Vec<PartitionLog> = self.partitions.borrow().values().cloned().collect();
        let mut may_remove = REMOVED_MAX;
        for log in &logs {
            if is_last {
                // Whoever has asked for a deletion may not have come to it, and everything is durable.
                log.begin_where_committed();
            }
            let taken = log.take_deleted(up_to_seq, may_remove);
            may_remove -= taken.len();
            log.remove_deleted(taken, is_last).await;
            log.rest().await;
        }
        if may_remove == 0 {
            self.shared.is_checkpoint_due.set(true); // for the rest of them, if there are any
        }
        self.write_segments(&logs, up_to_seq, durable_bytes).await?;
        if is_last {
            at_once::for_each(&logs, async |log: PartitionLog| log.finish().await).await?;
        }
        phase::say("checkpoint begin");
        let data = &self.shared.directory;
        directory::sync_file_system(data)
            .await
            .map_err(StorageError::io("flush", data))?;
        // A flush of a segment that failed for a commit may have been told of what this one was not.
        self.committer.settle().await?;
        let generation = self.next_generation.get();
        let head = Head {
            generation,
            journal_id: self.committer.journal().superblock().journal_id,
            replay,
            time_ms: self.shared.clock.known_ms(),
        };
        // What is migrated changes only here, and the rest of it is in the journal again from the replay's start on.
        let partitions = logs.iter().map(PartitionLog::checkpoint);
        let block_bytes = self.shared.block_bytes as usize;
        let pool = &self.shared.staging;
        checkpoint::write(&self.directory, &head, partitions, block_bytes, pool).await?;
        let tail = self.newest.get();
        self.committer.advance_tail(tail, generation).await?;
        self.newest.set(replay);
        self.next_generation.set(generation + 1);
        self.checkpoints.set(self.checkpoints.get() + 1);
        phase::say("checkpoint end");
        for log in &logs {
            log.finish_replacements(self.checkpoints.get()).await?;
        }
        Ok(())
    }
}
