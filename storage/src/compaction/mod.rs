//! Compaction: of each key the newest record stays (`cleanup.policy=compact`).
//!
//! One cleaner for each shard: it takes the log that is dirtiest, remembers the keys of its dirty part, and writes its sealed segments anew
//! without what is older. `choose.rs` says which and what, `pass.rs` does it, `cleaner.rs` says which records stay, `partition/replace.rs`
//! how a segment takes the place of others (decision 9).
//! Must never clean what is not sealed, nor drop what it cannot read; never have more than [`IO_BYTES`] of reads and writes in flight.

mod choose;
mod cleaner;
mod key_map;
mod pass;
mod segment_reader;
mod segment_writer;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::Pool;
use ring::executor::{Class, Task, spawn, yield_now};
use ring::local::Signal;

use self::choose::{Judged, Plan, plan};
use self::pass::Pass;
use crate::commit::Committer;
use crate::error::StorageError;
use crate::housekeeping::Walk;
use crate::id::TopicPartition;
use crate::migration::Migration;
use crate::opening::Turns;
use crate::partition::{CHECKPOINTS, LogShared, PartitionLog};

/// Read or written at a time, in bytes: what commits bear beside them (storage contract, 8).
pub(crate) const IO_BYTES: usize = 128 << 10;
/// Bytes that may be on the disk twice, of segments that wait for their checkpoints, before checkpoints are made for them at
/// once.
const REPLACING_BYTES_MAX: u64 = 256 << 20;
/// Reports that wait to be taken. Of a partition there is one until the next start.
const REPORTS_MAX: usize = 1_000;

/// How a shard's logs are compacted: Kafka's settings of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerConfig {
    /// `log.cleaner.enable`.
    pub is_enabled: bool,
    /// `log.cleaner.dedupe.buffer.size`, in bytes. What is set aside for it bounds it, too: a sixteenth of the log's memory.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`: of reads and writes together.
    pub io_bytes_per_second: u64,
    /// `log.cleaner.backoff.ms`: how long it rests when nothing is due.
    pub backoff: Duration,
}

impl Default for CleanerConfig {
    /// Kafka's defaults, but that it is off until somebody turns it on.
    fn default() -> CleanerConfig {
        CleanerConfig {
            is_enabled: false,
            dedupe_buffer_bytes: 128 << 20,
            io_bytes_per_second: u64::MAX,
            backoff: Duration::from_secs(15),
        }
    }
}

/// What the cleaner has done since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionStatistics {
    /// Cleanings of a log that came to their end.
    pub cleanings: u64,
    /// Bytes of segments that were read.
    pub bytes_read: u64,
    /// Bytes of segments that were written.
    pub bytes_written: u64,
    /// Partitions that are not cleaned until the next start, because of what was found in them.
    pub uncleanable_partitions: usize,
}

/// A log that could not be cleaned.
#[derive(Debug, Clone)]
pub struct CompactionReport {
    /// Its directory's name.
    pub partition: String,
    /// Why.
    pub error: StorageError,
    /// It is not tried again until the next start.
    pub is_final: bool,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Compaction {
    inner: Rc<Inner>,
}

struct Inner {
    shared: Rc<LogShared>,
    committer: Committer,
    migration: Migration,
    partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    /// Where keys are remembered.
    memory: Pool,
    /// Of the large batches that it opens itself: no client waits for those, as it would behind one of its turns.
    turns: Turns,
    config: Cell<CleanerConfig>,
    /// Something has changed for the cleaner: its settings, or that it shall stop.
    told: Signal,
    is_stopping: Cell<bool>,
    /// Not cleaned until the next start.
    uncleanable: RefCell<BTreeSet<TopicPartition>>,
    /// Not cleaned before the others were: there was no room for it.
    postponed: RefCell<BTreeSet<TopicPartition>>,
    /// Bytes that are on the disk twice, at the most.
    replacing_bytes: Cell<u64>,
    reports: RefCell<VecDeque<CompactionReport>>,
    reported: Signal,
    statistics: Cell<CompactionStatistics>,
    task: RefCell<Option<Task<()>>>,
}

impl Compaction {
    /// Begins to look for logs that are due.
    pub(crate) fn start(
        shared: Rc<LogShared>,
        committer: Committer,
        migration: Migration,
        partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
        memory: Pool,
    ) -> Compaction {
        let compaction = Compaction {
            inner: Rc::new(Inner {
                shared,
                committer,
                migration,
                partitions,
                memory,
                turns: Turns::new(),
                config: Cell::new(CleanerConfig::default()),
                told: Signal::new(),
                is_stopping: Cell::new(false),
                uncleanable: RefCell::default(),
                postponed: RefCell::default(),
                replacing_bytes: Cell::new(0),
                reports: RefCell::default(),
                reported: Signal::new(),
                statistics: Cell::default(),
                task: RefCell::default(),
            }),
        };
        let task = spawn(Class::Background, compaction.inner.clone().watch());
        *compaction.inner.task.borrow_mut() = Some(task);
        compaction
    }

    /// Takes the broker's settings. They hold at once.
    pub(crate) fn set_config(&self, config: CleanerConfig) {
        if self.inner.config.replace(config) != config {
            self.inner.told.notify_all();
        }
    }

    /// Ends the cleaner. What it was about to write is removed.
    pub(crate) async fn stop(&self) {
        self.inner.is_stopping.set(true);
        self.inner.told.notify_all();
        let task = self.inner.task.borrow_mut().take();
        if let Some(task) = task {
            task.await;
        }
    }

    pub(crate) fn statistics(&self) -> CompactionStatistics {
        CompactionStatistics {
            uncleanable_partitions: self.inner.uncleanable.borrow().len(),
            ..self.inner.statistics.get()
        }
    }

    /// Waits for a log that could not be cleaned.
    pub(crate) async fn report(&self) -> CompactionReport {
        loop {
            let reported = self.inner.reported.wait();
            let report = self.inner.reports.borrow_mut().pop_front();
            match report {
                Some(report) => return report,
                None => reported.await,
            }
        }
    }

    pub(crate) fn memory(&self) -> &Pool {
        &self.inner.memory
    }
}

impl Inner {
    async fn watch(self: Rc<Self>) {
        while !self.is_over() {
            let told = self.told.wait();
            let config = self.config.get();
            if !config.is_enabled {
                told.await;
                continue;
            }
            if self.clean_dirtiest().await {
                continue;
            }
            // Its segments come to their place before it rests; then a log that waits for that may be due.
            if self.migration.is_replacing() && self.make_last().await.is_ok() {
                continue;
            }
            self.postponed.borrow_mut().clear();
            let _ = ring::timer::timeout(config.backoff, told).await;
        }
    }

    fn is_over(&self) -> bool {
        self.is_stopping.get() || self.committer.failure().is_some()
    }

    /// Cleans the log that is dirtiest of those that are due. False if there is none.
    async fn clean_dirtiest(&self) -> bool {
        let Some((log, plan)) = self.dirtiest().await else {
            return false;
        };
        let _alone = log.cleaning().await;
        // It may have been told otherwise meanwhile.
        let Some(config) = log.config().compaction else {
            return true;
        };
        let first = |log: &PartitionLog| log.segments().first().map(|segment| segment.name.base_offset);
        let first_before = first(&log);
        match Pass::new(self, &log).run(plan, config).await {
            Ok(()) => self.count(|statistics| statistics.cleanings += 1),
            // Nothing is wrong with the log.
            Err(StorageError::Dropped | StorageError::Stopped) => {}
            Err(_) if self.is_over() || log.is_dropped() => {}
            // Nor if its segments were removed meanwhile.
            Err(_) if first(&log) != first_before => {}
            Err(error) => self.set_aside(&log, error),
        }
        true
    }

    /// A log could not be cleaned: others go first, or it is left alone.
    fn set_aside(&self, log: &PartitionLog, error: StorageError) {
        let is_final =
            !error.is_no_space() && !error.may_pass() && !matches!(error, StorageError::OutOfMemory { .. });
        let set = if is_final {
            &self.uncleanable
        } else {
            &self.postponed
        };
        set.borrow_mut().insert(log.id());
        let mut reports = self.reports.borrow_mut();
        if reports.len() < REPORTS_MAX {
            reports.push_back(CompactionReport {
                partition: log.directory_name(),
                error,
                is_final,
            });
        }
        self.reported.notify_all();
    }

    /// The log that is dirtiest, with what can be cleaned of it in its files. Not one whose last cleaning is not in both
    /// checkpoints yet.
    async fn dirtiest(&self) -> Option<(PartitionLog, Plan)> {
        self.uncleanable
            .borrow_mut()
            .retain(|id| self.partitions.borrow().contains_key(id));
        let now_ms = self.shared.clock.age_now_ms();
        let may_be_due = |log: &PartitionLog| {
            let has = |set: &RefCell<BTreeSet<TopicPartition>>| set.borrow().contains(&log.id());
            let is_set_aside = has(&self.uncleanable) || has(&self.postponed);
            !is_set_aside && !log.is_dropped() && !log.is_replacing()
        };
        let mut dirtiest: Option<(PartitionLog, Plan)> = None;
        let mut walk = Walk::default();
        while let Some(logs) = walk.next_step(&self.partitions) {
            for log in logs.drain(..).filter(may_be_due) {
                let Some(found) = judge(&log, now_ms, false) else {
                    continue;
                };
                let known = dirtiest.as_ref().map(|(_, plan)| plan.dirty_ppm);
                if known.is_none_or(|known| known < found.dirty_ppm) {
                    dirtiest = Some((log, found));
                }
            }
            yield_now().await;
        }
        let (log, found) = dirtiest?;
        // A segment is closed long before migration writes its last block. And nothing is cleaned before both checkpoints
        // are of this life.
        let mut is_sealed = found.is_sealed;
        while !is_sealed || self.migration.checkpoints() < CHECKPOINTS {
            if self.is_over() {
                return None;
            }
            self.migration.checkpoint().await.ok()?;
            is_sealed = true;
        }
        let found = judge(&log, now_ms, true)?;
        Some((log, found))
    }

    /// What was replaced comes to its place when it is much.
    async fn make_room(&self) -> Result<(), StorageError> {
        if self.replacing_bytes.get() < REPLACING_BYTES_MAX {
            return Ok(());
        }
        self.make_last().await
    }

    /// Checkpoints until all that was replaced is in both, and gone.
    async fn make_last(&self) -> Result<(), StorageError> {
        while self.migration.is_replacing() {
            if self.is_over() {
                return Err(StorageError::Stopped);
            }
            self.migration.checkpoint().await?;
        }
        self.replacing_bytes.set(0);
        Ok(())
    }

    fn may_go_on(&self, log: &PartitionLog) -> Result<(), StorageError> {
        if self.is_over() || !self.config.get().is_enabled {
            Err(StorageError::Stopped)
        } else if log.is_dropped() {
            Err(StorageError::Dropped)
        } else {
            Ok(())
        }
    }

    fn count(&self, change: impl FnOnce(&mut CompactionStatistics)) {
        let mut statistics = self.statistics.get();
        change(&mut statistics);
        self.statistics.set(statistics);
    }
}

fn judge(log: &PartitionLog, now_ms: i64, only_sealed: bool) -> Option<Plan> {
    let config = log.config().compaction?;
    let judged = Judged {
        segments: &log.segments(),
        cleaned_to: log.cleaned_to(),
        config,
    };
    plan(&judged, now_ms, only_sealed)
}
