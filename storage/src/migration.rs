//! Emptying the journal: segments, checkpoint, superblock, and only then are its blocks written again.
//!
//! Owns the order of these four. The tail of the journal is where the checkpoint *before* the newest begins to replay,
//! so that one damaged checkpoint costs a longer replay and not the log.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use ring::directory;
use ring::executor::{Class, Task, spawn};
use ring::local::{Permit, Semaphore};

use crate::checkpoint::{self, Checkpoint};
use crate::commit::Committer;
use crate::error::StorageError;
use crate::id::TopicPartition;
use crate::journal::superblock::ReplayStart;
use crate::partition::{LogShared, PartitionLog};
use crate::phase;

/// A migration begins when this part of the ring was written since the last one: with what the checkpoint before needs,
/// half of the ring is in use then.
const RING_PART: u64 = 4;
/// Or when this part of the memory for groups may be taken by what is not migrated.
const MEMORY_PART: u64 = 3;

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
    next_generation: Cell<u64>,
    checkpoints: Cell<u64>,
    /// One at a time.
    one: Semaphore,
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
                next_generation: Cell::new(next_generation),
                checkpoints: Cell::new(0),
                one: Semaphore::new(1),
                failure: RefCell::default(),
                task: RefCell::default(),
            }),
        };
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

    /// While the permit is held no migration runs.
    pub(crate) async fn pause(&self) -> Permit {
        self.inner.one.acquire(1).await
    }

    /// The last migration, of a log that takes no more batches: every file ends at its exact length afterwards.
    pub(crate) async fn finish(&self) -> Result<(), StorageError> {
        let _one = self.inner.one.acquire(1).await;
        drop(self.inner.task.borrow_mut().take());
        self.inner.migrate(true).await
    }
}

impl Inner {
    async fn watch(self: Rc<Self>) {
        loop {
            let progress = self.committer.progress().wait();
            if self.committer.failure().is_some() {
                return;
            }
            if self.is_due() {
                let _one = self.one.acquire(1).await;
                if let Err(error) = self.migrate(false).await {
                    self.committer.fence(&error);
                    return;
                }
                continue;
            }
            progress.await;
        }
    }

    fn is_due(&self) -> bool {
        let newest = self.newest.get();
        let since = self.committer.bytes_since(newest);
        // Two checkpoints that are far apart can leave less room than what makes a migration due.
        if self.committer.take_shortage() && (since > 0 || self.committer.keeps_more_than(newest)) {
            return true;
        }
        if self.shared.has_deleted.replace(false) {
            return true;
        }
        let memory = self.committer.memory_bytes() as u64;
        since >= (self.committer.ring_bytes() / RING_PART).min(memory / MEMORY_PART)
    }

    async fn migrate(&self, is_last: bool) -> Result<(), StorageError> {
        if let Some(error) = &*self.failure.borrow() {
            return Err(error.clone());
        }
        let migrated = self.empty_journal(is_last).await;
        if let Err(error) = &migrated {
            *self.failure.borrow_mut() = Some(error.clone());
        }
        migrated
    }

    /// Everything that is durable now: to the segments, into a checkpoint, out of the journal.
    async fn empty_journal(&self, is_last: bool) -> Result<(), StorageError> {
        let replay = self.committer.durable();
        let up_to_seq = replay.seq - 1;
        let logs: Vec<PartitionLog> = self.partitions.borrow().values().cloned().collect();
        for log in &logs {
            if is_last {
                // Whoever has asked for a deletion may not have come to it, and everything is durable.
                log.begin_where_committed();
            }
            log.remove_deleted(log.take_deleted(up_to_seq)).await;
            log.migrate(up_to_seq).await?;
            if is_last {
                log.finish().await?;
            }
        }
        self.committer.migrated(up_to_seq);
        phase::say("checkpoint begin");
        let data = &self.shared.directory;
        directory::sync_file_system(data)
            .await
            .map_err(StorageError::io("flush", data))?;
        let generation = self.next_generation.get();
        let checkpoint = Checkpoint {
            generation,
            journal_id: self.committer.journal().superblock().journal_id,
            replay,
            time_ms: self.shared.clock.known_ms(),
            partitions: logs.iter().map(PartitionLog::checkpoint).collect(),
        };
        checkpoint::write(&self.directory, &checkpoint).await?;
        let tail = self.newest.get();
        self.committer.advance_tail(tail, generation).await?;
        self.newest.set(replay);
        self.next_generation.set(generation + 1);
        self.checkpoints.set(self.checkpoints.get() + 1);
        phase::say("checkpoint end");
        Ok(())
    }
}
