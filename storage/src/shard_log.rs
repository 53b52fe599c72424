//! A shard's log: all of its partitions, behind one journal.
//!
//! Owns the partitions' table and the life of the log: open, serve, stop. What moves bytes is elsewhere: appends in
//! `partition/` and `commit/`, segments and checkpoints in `migration.rs`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::{Pool, PoolUsage};
use ring::count::DurationCounts;
use ring::directory;
use ring::executor::{Class, spawn};

use crate::at_once;
use crate::checkpoint::PartitionCheckpoint;
use crate::commit::{CommitTicket, Committer, ROOM_RETRY};
use crate::compaction::{CleanerConfig, Compaction, CompactionReport, CompactionStatistics};
use crate::directory::{journal_place, remove_directory, topic_id_of};
use crate::error::{AppendError, StorageError};
use crate::housekeeping::Housekeeping;
use crate::id::TopicPartition;
use crate::journal::Access;
use crate::journal::record::{Entry, Kind};
use crate::metadata::KnownTopics;
use crate::migration::Migration;
use crate::partition::{
    LogShared, PartitionLog, PartitionSpec, directory_name, set_deleted_aside, set_stray_aside,
};
use crate::recovery::{Memory, Recovered, RecoveryReport, recover};
use crate::scrubber::{ScrubFinding, ScrubOptions, ScrubStatistics, Scrubber};

/// How a shard's log is opened.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// The data directory, prepared by `LogDirectory::prepare_shards`.
    pub directory: PathBuf,
    /// The shard's number, from 0.
    pub shard: u32,
    /// Memory for the log, in bytes, out of the thread's budget.
    pub memory_bytes: usize,
    /// From so many bytes on, what a partition has in a group commit is written to its segment at once, and the journal
    /// only vouches for it.
    pub direct_bytes_min: usize,
    /// Segment files that are kept open.
    pub open_files_max: usize,
    /// `log.segment.delete.delay.ms`: a dropped partition's files are removed after it.
    pub file_delete_delay: Duration,
    /// `log.retention.check.interval.ms`: how often it is looked for segments that need not be kept.
    pub retention_check_interval: Duration,
    /// How sealed segments are read again.
    pub scrub: ScrubOptions,
}

/// What a shard's log has done since it was opened, and how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardStatistics {
    /// Journal records written: group commits, and those that only say what is durable.
    pub records: u64,
    /// Bytes of the ring that they took. One lap is `journal.bytes`.
    pub journal_bytes: u64,
    /// Bytes of batches that were written to their segments with their record, and not through the journal.
    pub direct_bytes: u64,
    /// How long the writes of records took, each with its flush.
    pub flushes: DurationCounts,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Bytes of the ring.
    pub ring_bytes: u64,
    /// Of them, what a replay may still need.
    pub ring_bytes_used: u64,
    /// Of them, what no checkpoint covers: it is not known to be in the segments.
    pub unmigrated_bytes: u64,
    /// Partitions.
    pub partitions: usize,
    /// Idempotent producers that are remembered.
    pub producers: usize,
    /// How many of them may be.
    pub producers_max: usize,
    /// Segments that were removed, because of their age, their topic's size, or DeleteRecords.
    pub removed_segments: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Segments that were begun in the file of a removed one.
    pub reused_segments: u64,
    /// Bytes of segments that were read from the disk for readers.
    pub read_bytes: u64,
    /// Bytes of batches that consumers got without asking the disk: they had been read ahead, or for others.
    pub cached_bytes: u64,
    /// Of segments that are read again.
    pub scrub: ScrubStatistics,
    /// By how much the wall clock is ahead of what the age of records goes by, in milliseconds: 0 while it is believed.
    pub wall_clock_ahead_ms: i64,
    /// What compaction has done.
    pub compaction: CompactionStatistics,
    /// The log's memory: four pools, and what batches in memory take of the heap.
    pub memory: [PoolUsage; 5],
}

/// What is done with a directory that says of no topic that it is its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unclaimed {
    /// The partition may have been there before: its data is never taken for nobody's.
    Refuse,
    /// The partition is new.
    SetAside,
}

/// A shard's log. Cheap to clone.
#[derive(Clone)]
pub struct ShardLog {
    inner: Rc<Inner>,
}

struct Inner {
    shared: Rc<LogShared>,
    committer: Committer,
    partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    migration: Migration,
    housekeeping: Housekeeping,
    compaction: Compaction,
    scrubber: Scrubber,
    file_delete_delay: Cell<Duration>,
}

impl ShardLog {
    /// Recovers the shard's journal, and opens `specs`: the partitions that the metadata gives this shard. One that no
    /// journal knows is new and empty. One that only the journal knows is dropped if its topic was deleted, and set aside if
    /// there never was one.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if something that may have been acknowledged cannot be read; nothing was changed then.
    /// [`StorageError::Refused`] if a partition is here that the metadata has elsewhere: the journal is as it was.
    pub async fn open<'a>(
        options: ShardOptions,
        specs: Vec<PartitionSpec>,
        topics: impl Into<KnownTopics<'a>>,
    ) -> Result<(ShardLog, RecoveryReport), StorageError> {
        const PLACE_BYTES: usize = 128 << 10;
        let pool = Pool::new("manifest", PLACE_BYTES).map_err(|_| StorageError::OutOfMemory {
            bytes: PLACE_BYTES,
            pool: "manifest",
        })?;
        let place = journal_place(&options.directory, options.shard, &pool).await?;
        let memory = Memory::of(options.memory_bytes.saturating_sub(PLACE_BYTES));
        let mut recovered = recover(
            options.directory.clone(),
            &place,
            &specs,
            memory,
            Access::ReadWrite,
        )
        .await?;
        let end_seq = recovered.end.seq - 1;
        let dropped = separate_unknown(&mut recovered, &specs, topics.into(), end_seq).await?;
        let all: Vec<PartitionLog> = recovered.partitions.values().cloned().collect();
        at_once::for_each(&all, async |log: PartitionLog| log.check_and_cut_files().await).await?;
        let Recovered {
            journal,
            shared,
            tail,
            compaction,
            partitions,
            passed_over: _,
            resident,
            end,
            replay,
            journal_tail,
            next_generation,
            migrated_seq,
            report,
        } = recovered;
        journal.begin_epoch(journal_tail).await?;
        shared.files.keep_open(options.open_files_max);
        shared.is_disk_short.set(false);
        let (staging, clock) = (shared.staging.clone(), shared.clock.clone());
        let direct_bytes_min = options.direct_bytes_min;
        let committer = Committer::start(journal, end, resident, tail, staging, clock, direct_bytes_min);
        committer.migrated(migrated_seq);
        if shared.committer.set(committer.clone()).is_err() {
            unreachable!("set once, here");
        }
        let partitions = Rc::new(RefCell::new(partitions));
        let migration = Migration::start(
            shared.clone(),
            committer.clone(),
            partitions.clone(),
            place.directory,
            replay,
            next_generation,
        );
        let compaction = Compaction::start(
            shared.clone(),
            committer.clone(),
            migration.clone(),
            partitions.clone(),
            compaction,
        );
        let log = ShardLog {
            inner: Rc::new(Inner {
                scrubber: Scrubber::new(
                    shared.clone(),
                    committer.clone(),
                    migration.clone(),
                    partitions.clone(),
                ),
                housekeeping: Housekeeping::new(shared.clone(), partitions.clone(), migration.clone()),
                shared,
                committer,
                partitions,
                migration,
                compaction,
                file_delete_delay: Cell::new(options.file_delete_delay),
            }),
        };
        log.settle(dropped, specs).await.inspect_err(|error| {
            // Whoever goes on without this log goes on without its tasks.
            log.inner.committer.fence(error);
        })?;
        // Only now does every partition have its topic's settings.
        log.inner.housekeeping.start(options.retention_check_interval);
        log.inner.scrubber.start(options.scrub);
        Ok((log, report))
    }

    /// Drops what is nobody's any more, and gives every partition that there is its topic's settings.
    async fn settle(
        &self,
        dropped: Vec<(TopicPartition, u32)>,
        specs: Vec<PartitionSpec>,
    ) -> Result<(), StorageError> {
        for (id, owner_epoch) in dropped {
            let dropped = self.commit(drop_entry(id, owner_epoch), &[]).await?;
            dropped.committed().await?;
        }
        for spec in specs {
            match self.partition(spec.id) {
                Some(known) => {
                    known.set_leader_epoch(spec.leader_epoch);
                    known.set_config(spec.config);
                }
                None => drop(self.create(spec, Unclaimed::Refuse).await?),
            }
        }
        Ok(())
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.inner.shared.directory
    }

    /// A partition of this shard.
    pub fn partition(&self, id: TopicPartition) -> Option<PartitionLog> {
        self.inner.partitions.borrow().get(&id).cloned()
    }

    /// Makes an empty partition of a topic that is new. It is in the journal, durably, when this returns. Files that lie
    /// in its place are nobody's, since nobody had the topic's id before: their directory is set aside as a stray.
    ///
    /// # Errors
    /// [`StorageError::Refused`] if there are files of that very partition, which no journal knows.
    pub async fn create_partition(&self, spec: PartitionSpec) -> Result<PartitionLog, StorageError> {
        self.create(spec, Unclaimed::SetAside).await
    }

    async fn create(&self, spec: PartitionSpec, unclaimed: Unclaimed) -> Result<PartitionLog, StorageError> {
        let Inner {
            shared, partitions, ..
        } = &*self.inner;
        let path = shared
            .directory
            .join(directory_name(&spec.topic, spec.id.partition));
        if directory::exists(&path)
            .await
            .map_err(StorageError::io("look at", &path))?
        {
            let topic_id = topic_id_of(&path, &shared.staging).await?;
            match topic_id {
                Some(topic_id) if topic_id != spec.id.topic_id => {
                    let id = TopicPartition { topic_id, ..spec.id };
                    set_stray_aside(&path, id).await?;
                }
                // Made by a migration that no checkpoint told of: it holds nothing that a journal does not.
                _ if !holds_data(&path).await? => {}
                None if unclaimed == Unclaimed::SetAside => {
                    set_stray_aside(&path, spec.id).await?;
                }
                _ => {
                    let what = "it holds data of a partition that no journal knows. Move it away, or restore the \
                                journals from a copy";
                    return Err(StorageError::refused(&path, what));
                }
            }
        }
        let saved = PartitionCheckpoint {
            id: spec.id,
            topic: spec.topic.clone(),
            ..PartitionCheckpoint::default()
        };
        let log = PartitionLog::restore(&spec, saved, shared.clone());
        log.set_leader_epoch(spec.leader_epoch);
        let entry = Entry {
            kind: Kind::Open,
            length: spec.topic.len() as u32,
            data_crc: wire::crc32c(spec.topic.as_bytes()),
            ..drop_entry(spec.id, 0)
        };
        let ticket = self.commit(entry, spec.topic.as_bytes()).await?;
        // Into the table before the flush ends: a checkpoint that is made meanwhile must have it.
        partitions.borrow_mut().insert(spec.id, log.clone());
        ticket.committed().await?;
        Ok(log)
    }

    /// Deletes a partition. Its end is in the journal, durably, when this returns; its files are out of sight, and are
    /// removed later.
    ///
    /// # Errors
    /// If the journal or the directory cannot be written.
    pub async fn drop_partition(&self, id: TopicPartition) -> Result<(), StorageError> {
        let Some(log) = self.partition(id) else {
            return Ok(());
        };
        log.close();
        // Nor may a compacted segment be written there. The cleaner waits for migrations while it has the partition, so this
        // comes first.
        let _no_cleaning = log.cleaning().await;
        let committer = &self.inner.committer;
        // No migration may be writing its files while they get another name. But only a migration makes room in the
        // journal: nobody waits for room who keeps it from running.
        let (ticket, mut no_migration) = loop {
            let room = committer.room().wait();
            let no_migration = self.inner.migration.pause_together().await;
            match committer.control(drop_entry(id, log.owner_epoch()), &[]) {
                Ok(ticket) => break (ticket, no_migration),
                Err(AppendError::Fenced(error)) => return Err(error),
                Err(_) => {
                    drop(no_migration);
                    let _ = ring::timer::timeout(ROOM_RETRY, room).await;
                }
            }
        };
        ticket.committed().await?;
        self.inner.partitions.borrow_mut().remove(&id);
        let mut is_flush_due = false;
        let aside = loop {
            let no_preparing = log.pause_preparing().await;
            match log.hide_deleted().await {
                // It may have been removed, and not flushed.
                Err(error) if error.is_short_of_descriptors() => is_flush_due = true,
                hidden => break hidden?,
            }
            drop((no_preparing, no_migration));
            ring::timer::sleep(ROOM_RETRY).await;
            no_migration = self.inner.migration.pause_together().await;
        };
        // Nobody writes files of this partition any more, and the flush may take long.
        drop(no_migration);
        while aside.is_some() || is_flush_due {
            match committer.flush_names(&self.inner.shared.directory).await {
                Err(error) if error.is_short_of_descriptors() => ring::timer::sleep(ROOM_RETRY).await,
                flushed => {
                    flushed?;
                    break;
                }
            }
        }
        if let Some(path) = aside {
            let delay = self.inner.file_delete_delay.get();
            spawn(Class::Background, async move {
                ring::timer::sleep(delay).await;
                // What cannot be removed now is removed after the next start.
                let _ = remove_directory(&path).await;
            })
            .detach();
        }
        Ok(())
    }

    /// Files of partitions that are dropped from now on are removed after so long.
    pub fn set_file_delete_delay(&self, delay: Duration) {
        self.inner.file_delete_delay.set(delay);
    }

    /// `producer.id.expiration.ms`: idempotent producers that have not written for so long are forgotten, every ten minutes.
    pub fn set_producer_expiration(&self, expiration: Duration) {
        self.inner.housekeeping.set_producer_expiration(expiration);
    }

    /// How logs are compacted from now on.
    pub fn set_cleaner(&self, config: CleanerConfig) {
        self.inner.compaction.set_config(config);
    }

    /// Waits until a log could not be compacted, and says why.
    pub async fn compaction_report(&self) -> CompactionReport {
        self.inner.compaction.report().await
    }

    /// Whether somebody wanted memory within the last seconds, for a batch or to read a segment, and got none: readers
    /// that stand still may hold it.
    pub fn is_short_of_memory(&self) -> bool {
        let Inner {
            committer, shared, ..
        } = &*self.inner;
        committer.memory_shortage().is_recent() || shared.reading_shortage.is_recent()
    }

    /// What it has done since it was opened.
    pub fn statistics(&self) -> ShardStatistics {
        let Inner {
            shared,
            committer,
            partitions,
            migration,
            compaction,
            scrubber,
            ..
        } = &*self.inner;
        let (records, journal_bytes) = committer.written();
        let (producers, producers_max) = shared.producers.usage();
        ShardStatistics {
            records,
            journal_bytes,
            direct_bytes: committer.direct_bytes(),
            flushes: committer.flushes(),
            checkpoints: migration.checkpoints(),
            ring_bytes: committer.ring_bytes(),
            ring_bytes_used: committer.ring_bytes_used(),
            unmigrated_bytes: migration.unmigrated_bytes(),
            partitions: partitions.borrow().len(),
            producers,
            producers_max,
            removed_segments: shared.removed_segments.get(),
            removed_bytes: shared.removed_bytes.get(),
            reused_segments: shared.reused_segments.get(),
            read_bytes: shared.read_bytes.get(),
            cached_bytes: shared.cached_bytes.get(),
            scrub: scrubber.statistics(),
            wall_clock_ahead_ms: shared.clock.wall_clock_ahead_ms(),
            compaction: compaction.statistics(),
            memory: [
                committer.memory_usage(),
                shared.reading.usage(),
                shared.staging.usage(),
                compaction.memory().usage(),
                shared.backlog.usage(),
            ],
        }
    }

    /// Waits until the wall clock has jumped, or after `has_jumped` until it is believed again: it agrees, or it has kept
    /// its time for an hour. Meanwhile records grow old as if it had not. By how many milliseconds it has, either way.
    pub async fn wall_clock_turn(&self, has_jumped: bool) -> i64 {
        self.inner.shared.clock.turn(has_jumped).await
    }

    /// Waits until no segment can be written, for something that may pass (the disk is full, or no file can be opened); or,
    /// after `is_held_up`, until they can again. Gives what it is. Meanwhile batches ride in the journal, for as long as that
    /// has room, and all else goes on.
    pub async fn hold_up_turn(&self, is_held_up: bool) -> Option<StorageError> {
        self.inner.migration.hold_up_turn(is_held_up).await
    }

    /// Waits until the scrubber has found something wrong in a segment, and says what: each place once in a life of the
    /// log. One task may ask.
    pub async fn next_finding(&self) -> ScrubFinding {
        self.inner.scrubber.next_finding().await
    }

    /// Why the log takes nothing any more, if it does not. A log that was stopped has not failed.
    pub fn failure(&self) -> Option<StorageError> {
        let failure = self.inner.committer.failure();
        failure.filter(|error| !matches!(error, StorageError::Stopped))
    }

    /// Waits until the log takes nothing any more because something failed, and says what.
    pub async fn failed(&self) -> StorageError {
        let committer = &self.inner.committer;
        loop {
            let moved = committer.room().wait();
            match committer.failure() {
                None => moved.await,
                // A log that was stopped has not failed, and never will.
                Some(StorageError::Stopped) => std::future::pending().await,
                Some(error) => return error,
            }
        }
    }

    /// Waits until everything is durable, and leaves the directory as other tools expect it: every batch in its
    /// segment, every file at its exact length.
    ///
    /// # Errors
    /// If something cannot be written. The log is as safe as after a crash then.
    pub async fn stop(&self) -> Result<(), StorageError> {
        let Inner {
            committer,
            migration,
            housekeeping,
            compaction,
            scrubber,
            ..
        } = &*self.inner;
        housekeeping.stop();
        scrubber.stop();
        compaction.stop().await;
        committer.stop().await?;
        migration.finish().await
    }

    async fn commit(&self, entry: Entry, bytes: &[u8]) -> Result<CommitTicket, StorageError> {
        let committer = &self.inner.committer;
        committer.control_when_there_is_room(entry, bytes).await
    }
}

/// Takes the partitions out that the metadata does not know, and returns them; one that it has elsewhere is refused. A deleted topic's directory is set aside
/// to be removed, another's as a stray, with everything up to `end_seq` in its segments. A crash in the middle is no
/// matter: what was set aside already is left alone.
pub(crate) async fn separate_unknown(
    recovered: &mut Recovered,
    specs: &[PartitionSpec],
    topics: KnownTopics<'_>,
    end_seq: u64,
) -> Result<Vec<(TopicPartition, u32)>, StorageError> {
    let known: BTreeSet<TopicPartition> = specs.iter().map(|spec| spec.id).collect();
    let unknown: Vec<TopicPartition> = recovered
        .partitions
        .keys()
        .filter(|id| !known.contains(id))
        .copied()
        .collect();
    if let Some(id) = unknown.iter().find(|id| topics.live.contains(&id.topic_id)) {
        let what = format!(
            "partition {id} is in this journal, and by the metadata with another shard, or in another log directory. The \
             metadata, or meta.properties or the manifest of this directory, is an older copy, or another one's: \
             restore what belongs together"
        );
        return Err(StorageError::refused(recovered.journal.path(), what));
    }
    let mut dropped = Vec::with_capacity(unknown.len());
    for id in unknown {
        let Some(log) = recovered.partitions.remove(&id) else {
            continue;
        };
        let path = log.directory();
        let is_deleted = topics.deleted.contains(&id.topic_id);
        // Another incarnation may have the name by now.
        let is_there = topic_id_of(&path, &recovered.shared.staging).await? == Some(id.topic_id);
        let is_free = !directory::exists(&path)
            .await
            .map_err(StorageError::io("look at", &path))?;
        // Another unknown one may have had the name, and have been set aside by now.
        let is_passed_over = recovered.passed_over.contains(&id);
        let has_no_place = is_passed_over || (!is_free && log.has_what_no_file_has());
        if !is_deleted && !is_there && has_no_place {
            let what = format!(
                "it is another topic's, and partition {id}, which no metadata knows, has batches in the journal or in its \
                 checkpoint that belong in a directory of this name. Move it away, or restore the metadata from a copy"
            );
            return Err(StorageError::refused(&path, what));
        }
        if !is_deleted && (is_there || (is_free && log.is_only_in_memory())) {
            log.migrate(end_seq).await?;
            log.finish().await?;
            recovered.report.strays.push(path.display().to_string());
            set_stray_aside(&path, id).await?;
        } else if is_there {
            set_deleted_aside(&path, id).await?;
        }
        dropped.push((id, log.owner_epoch()));
    }
    Ok(dropped)
}

async fn holds_data(path: &Path) -> Result<bool, StorageError> {
    let names = directory::list(path)
        .await
        .map_err(StorageError::io("list", path))?;
    Ok(names
        .iter()
        .any(|entry| entry.name.ends_with(".log") && entry.bytes > 0))
}

/// An entry that says nothing but whose it is.
fn drop_entry(id: TopicPartition, owner_epoch: u32) -> Entry {
    Entry {
        kind: Kind::Drop,
        at_block: false,
        goes_on: false,
        id,
        owner_epoch,
        data_crc: 0,
        base_offset: 0,
        next_offset: 0,
        segment_base: 0,
        file_position: 0,
        length: 0,
    }
}

#[cfg(test)]
mod tests;
