//! From what a crash left to a log that can be written: one shard's journal, checkpoint and partitions.
//!
//! Two passes over the journal: the first finds its end and what was dropped, the second applies the rest to the
//! checkpoint's partitions. Only the journal and the checkpoint are believed about where a log ends; the metadata is
//! believed about which partitions there are. Nothing is written before all of it has been read, except segments:
//! the same bytes to the same places each time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use ring::buffer::Pool;
use ring::count::Counter;
use ring::directory;

use crate::at_once;
use crate::backlog::Backlog;
use crate::checkpoint::{self, PartitionCheckpoint};
use crate::commit::{Group, Place};
use crate::directory::{JournalPlace, topic_id_of};
use crate::disk_turns::DiskTurns;
use crate::error::StorageError;
use crate::id::TopicPartition;
use crate::journal::record::{Entry, Kind, RecordHeader};
use crate::journal::superblock::ReplayStart;
use crate::journal::{Access, Journal, Scan, Visit};
use crate::partition::{
    DIRECT_SEGMENTS_MAX, LogShared, Part, PartitionConfig, PartitionLog, PartitionSpec, ProducerBudget,
    RunTurns,
};
use crate::phase;
use crate::read_cache::ReadCache;
use crate::shortage::Shortage;
use crate::steady_clock::SteadyClock;
use crate::unproven::Unproven;

/// The shares of a shard's memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) tail: usize,
    pub(crate) reading: usize,
    pub(crate) staging: usize,
    /// On the heap: what is known of idempotent producers.
    pub(crate) producers: usize,
    /// Where compaction remembers keys.
    pub(crate) compaction: usize,
}

/// The least memory with which a log opens whose journal has so many bytes: its parts hold several of its largest
/// records.
pub fn log_memory_bytes_min(journal_bytes: u64) -> usize {
    let largest = crate::journal::largest_record_of(journal_bytes);
    // An eighth holds two for staging, and a half holds four for the tail. A block more each, and the manifest.
    16 * (largest + (64 << 10)) + (256 << 10)
}

/// Beside the memory for batches that are not migrated, indexes take this part of it, and what no file has yet.
const INDEX_PART: usize = 32;

impl Memory {
    /// Divides `bytes`: the tail has half, reads three sixteenths.
    pub(crate) fn of(bytes: usize) -> Memory {
        let (reading, compaction, staging, producers) = (bytes / 16 * 3, bytes / 16, bytes / 8, bytes / 8);
        Memory {
            tail: bytes - reading - compaction - staging - producers,
            reading,
            staging,
            producers,
            compaction,
        }
    }
}

/// A shard's log as it was at the crash, in memory and ready to be written.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    pub(crate) shared: Rc<LogShared>,
    pub(crate) tail: Pool,
    pub(crate) compaction: Pool,
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionLog>,
    /// Those of them that have batches in the journal that had no place, and were passed over.
    pub(crate) passed_over: BTreeSet<TopicPartition>,
    /// Groups that are in memory, oldest first.
    pub(crate) resident: VecDeque<Rc<Group>>,
    /// Where the next record goes.
    pub(crate) end: ReplayStart,
    /// Where the newest checkpoint begins to replay.
    pub(crate) replay: ReplayStart,
    /// From here on the journal is needed.
    pub(crate) journal_tail: ReplayStart,
    /// The generation of the next checkpoint.
    pub(crate) next_generation: u64,
    /// Up to here groups may be evicted.
    pub(crate) migrated_seq: u64,
    pub(crate) report: RecoveryReport,
}

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Journal records that were replayed.
    pub records: u64,
    /// Batches that were replayed.
    pub batches: u64,
    /// Directories that no metadata knows: they were renamed to end in `-stray`, and nothing removes them.
    pub strays: Vec<String>,
}

/// Reads everything back. The partitions are those of the journal; their files are not looked at yet. With read-only
/// access nothing is written: the memory must hold all that the journal has.
pub(crate) async fn recover(
    data: PathBuf,
    place: &JournalPlace,
    specs: &[PartitionSpec],
    memory: Memory,
    access: Access,
) -> Result<Recovered, StorageError> {
    phase::say("recovery begin");
    let pool =
        |name, bytes| Pool::new(name, bytes).map_err(|_| StorageError::OutOfMemory { bytes, pool: name });
    let staging = pool("staging", memory.staging)?;
    let journal = Journal::open(&place.journal(), place.id, &staging, access).await?;
    let superblock = journal.superblock();
    let largest = superblock.largest_record as usize;
    if memory.staging < 2 * largest || memory.tail < 4 * largest {
        let what = format!(
            "its records may have {largest} bytes, which needs more memory for the shard: raise its memory, or lower \
             journal.bytes"
        );
        return Err(StorageError::refused(journal.path(), what));
    }
    let (saved, journal_tail) = checkpoint::read(&place.directory, &superblock, &staging).await?;
    let next_generation = if saved.head.generation < superblock.checkpoint_generation {
        if access == Access::ReadWrite {
            checkpoint::set_aside(&place.directory, superblock.checkpoint_generation).await?;
        }
        // The named one is damaged: the next overwrites that, not the good one.
        superblock.checkpoint_generation + 2
    } else {
        superblock.checkpoint_generation + 1
    };
    let shared = Rc::new(LogShared {
        access,
        committer: std::cell::OnceCell::new(),
        reading: pool("reading", memory.reading)?,
        cache: ReadCache::new(memory.reading),
        disk_turns: DiskTurns::default(),
        read_bytes: Counter::new(),
        cached_bytes: Counter::new(),
        staging,
        files: crate::files::Files::default(),
        index_bytes_max: memory.tail / INDEX_PART,
        // On the heap, beside the pools: batches are rarely so small that it is much.
        backlog: Backlog::new(memory.tail / 2),
        migrating: RunTurns::default(),
        // A replay reserves nothing: who begins on a disk that is all but full should not fail for that.
        is_disk_short: Cell::new(true),
        direct_segments: ring::local::Semaphore::new(DIRECT_SEGMENTS_MAX),
        background: ring::local::Semaphore::new(1),
        producers: ProducerBudget::new(memory.producers),
        directory: data,
        block_bytes: superblock.block_bytes,
        reading_shortage: Shortage::default(),
        is_checkpoint_due: Cell::new(false),
        removed_segments: Counter::new(),
        removed_bytes: Counter::new(),
        reused_segments: Counter::new(),
        is_disk_tight: Cell::new(false),
        clock: Rc::new(SteadyClock::new(
            (saved.head.time_ms > 0).then_some(saved.head.time_ms),
        )),
        turns: crate::opening::Turns::new(),
    });
    let mut recovery = Recovery {
        specs: specs.iter().map(|spec| (spec.id, spec)).collect(),
        dropped: BTreeMap::new(),
        starts: BTreeMap::new(),
        partitions: BTreeMap::new(),
        displaced: BTreeMap::new(),
        passed_over: BTreeSet::new(),
        resident: VecDeque::new(),
        tail: pool("tail", memory.tail)?,
        shared: shared.clone(),
        access,
        report: RecoveryReport::default(),
    };
    let mut unproven = Unproven::default();
    let mut endings = Vec::new();
    let scan = journal
        .scan(saved.head.replay, |scanned| {
            unproven.look_at(scanned.header, scanned.entries);
            let ends = scanned
                .entries
                .iter()
                .filter(|entry| matches!(entry.kind, Kind::Drop | Kind::Start));
            endings.extend(ends.map(|entry| (scanned.header.seq, *entry)));
            Ok(Visit::Next)
        })
        .await?;
    recovery.take_endings(&endings);
    let Scan::End { at: end, evidence } = scan else {
        unreachable!("the first pass never pauses")
    };
    // Who only looks is told of no partitions: those that the checkpoint knows are meant.
    let topics: BTreeMap<TopicPartition, &str> = match access {
        Access::ReadWrite => specs.iter().map(|spec| (spec.id, &*spec.topic)).collect(),
        Access::ReadOnly => (saved.partitions.iter())
            .map(|saved| (saved.id, &*saved.topic))
            .collect(),
    };
    let dropped = &recovery.dropped;
    let topic_of = |id, seq| {
        topics
            .get(&id)
            .copied()
            .filter(|_| dropped.get(&id).is_none_or(|end| *end < seq))
    };
    let torn = unproven.first_torn(evidence, topic_of, &shared).await?;
    let end = torn.unwrap_or(end);
    // What follows a torn record never was.
    endings.retain(|(seq, _)| *seq < end.seq);
    recovery.take_endings(&endings);
    let replay = saved.head.replay;
    for partition in saved.partitions {
        // A DROP that the checkpoint knows of is no longer in the journal.
        if !recovery.dropped.contains_key(&partition.id) {
            recovery.restore(partition);
        }
    }
    let migrated_seq = recovery.apply_all(&journal, replay, end, torn.is_some()).await?;
    for log in recovery.partitions.values() {
        // Their files may be gone: nobody looks for them from here on.
        log.take_deleted(u64::MAX, usize::MAX);
    }
    recovery.migrate_split(end.seq - 1, migrated_seq == 0).await?;
    recovery.partitions.append(&mut recovery.displaced);
    phase::say("recovery end");
    Ok(Recovered {
        journal,
        shared,
        tail: recovery.tail,
        compaction: pool("compaction", memory.compaction)?,
        partitions: recovery.partitions,
        passed_over: recovery.passed_over,
        resident: recovery.resident,
        end,
        replay,
        journal_tail,
        next_generation,
        migrated_seq,
        report: recovery.report,
    })
}

struct Recovery<'a> {
    specs: BTreeMap<TopicPartition, &'a PartitionSpec>,
    /// The record with the last DROP of each: what came before is void.
    dropped: BTreeMap<TopicPartition, u64>,
    /// The furthest START of each in the journal, of its last life.
    starts: BTreeMap<TopicPartition, i64>,
    partitions: BTreeMap<TopicPartition, PartitionLog>,
    /// No metadata knows them, and their directories are others': nothing of them is migrated, and nothing applied from then on.
    displaced: BTreeMap<TopicPartition, PartitionLog>,
    passed_over: BTreeSet<TopicPartition>,
    resident: VecDeque<Rc<Group>>,
    tail: Pool,
    shared: Rc<LogShared>,
    access: Access,
    report: RecoveryReport,
}

impl Recovery<'_> {
    /// What these entries, with the number of their record, say of partitions that end and logs that begin later.
    fn take_endings(&mut self, entries: &[(u64, Entry)]) {
        self.dropped.clear();
        self.starts.clear();
        for (seq, entry) in entries {
            if entry.kind == Kind::Drop {
                self.dropped.insert(entry.id, *seq);
                self.starts.remove(&entry.id);
            } else {
                let start = self.starts.entry(entry.id).or_default();
                *start = entry.base_offset.max(*start);
            }
        }
    }

    fn restore(&mut self, saved: PartitionCheckpoint) {
        let unknown = PartitionSpec {
            id: saved.id,
            topic: saved.topic.clone(),
            leader_epoch: -1,
            config: PartitionConfig::default(),
        };
        let spec = self.specs.get(&saved.id).copied().unwrap_or(&unknown);
        let log = PartitionLog::restore(spec, saved, self.shared.clone());
        self.partitions.insert(spec.id, log);
    }

    /// The second pass. When memory is full, what was read so far is migrated, and the walk goes on. Returns up to
    /// where that was done.
    async fn apply_all(
        &mut self,
        journal: &Journal,
        from: ReplayStart,
        end: ReplayStart,
        is_cut: bool,
    ) -> Result<u64, StorageError> {
        let mut migrated_seq = 0;
        let mut at = from;
        loop {
            let scan = journal
                .scan(at, |scanned| {
                    let header = scanned.header;
                    if is_cut && header.seq == end.seq {
                        return Ok(Visit::Pause);
                    }
                    if header.seq >= end.seq {
                        // What was whole a moment ago still is, and nothing new is written.
                        let what = "the journal changed while it was read";
                        return Err(StorageError::corrupt(journal.path(), header.position, what));
                    }
                    let group = if header.payload_length == 0 {
                        None
                    } else {
                        let from = header.payload_offset as usize;
                        let payload = &scanned.bytes[from..from + header.payload_length as usize];
                        let Ok(mut buffer) = self.tail.try_take(payload.len()) else {
                            return Ok(Visit::Pause);
                        };
                        buffer[..payload.len()].copy_from_slice(payload);
                        Some(Group::recovered(header.seq, buffer.freeze(0..payload.len())))
                    };
                    self.report.records += 1;
                    let mut parts = Vec::new();
                    let mut within_blocks = BTreeSet::new();
                    for (entry, range) in scanned.entries.iter().zip(scanned.payloads) {
                        let payload = &scanned.bytes[range.clone()];
                        let place = Place {
                            chunk: 0,
                            offset: (range.start - header.payload_offset as usize) as u32,
                            length: payload.len() as u32,
                        };
                        let applied = match (entry.kind, &group) {
                            (Kind::Inline | Kind::Direct, Some(group)) => {
                                parts.push(Part {
                                    entry,
                                    payload,
                                    group,
                                    place,
                                });
                                match entry.goes_on {
                                    true => Ok(()),
                                    false => {
                                        let batch = std::mem::take(&mut parts);
                                        self.apply_batch(&batch, header, &mut within_blocks)
                                    }
                                }
                            }
                            _ => self.apply(header.seq, entry, payload),
                        };
                        applied.map_err(|what| {
                            let what =
                                format!("journal record {}, partition {}: {what}", header.seq, entry.id);
                            StorageError::corrupt(journal.path(), header.position, what)
                        })?;
                    }
                    if let Some(id) = within_blocks.first() {
                        let what = format!(
                            "journal record {}, partition {id}: its blocks are not whole",
                            header.seq
                        );
                        return Err(StorageError::corrupt(journal.path(), header.position, what));
                    }
                    if !parts.is_empty() {
                        let what = format!("journal record {} ends within a batch", header.seq);
                        return Err(StorageError::corrupt(journal.path(), header.position, what));
                    }
                    self.resident.extend(group);
                    Ok(Visit::Next)
                })
                .await?;
            let next = match scan {
                Scan::End { at: found, .. } if found == end && !is_cut => return Ok(migrated_seq),
                Scan::Paused(found) if found.seq == end.seq => return Ok(migrated_seq),
                Scan::End { at: found, .. } => {
                    let what = format!(
                        "journal record {} could be read a moment ago, and now cannot",
                        found.seq
                    );
                    return Err(StorageError::corrupt(journal.path(), found.position, what));
                }
                Scan::Paused(next) => next,
            };
            if self.access == Access::ReadOnly {
                return Err(self.out_of_memory());
            }
            if migrated_seq == 0 {
                self.check_files().await?;
            }
            migrated_seq = next.seq - 1;
            self.settle_unknown().await?;
            let mut freed = false;
            for log in self.partitions.values() {
                log.migrate(migrated_seq).await?;
            }
            for group in self.resident.drain(..) {
                group.evict();
                freed = true;
            }
            if !freed {
                return Err(self.out_of_memory());
            }
            at = next;
        }
    }

    fn out_of_memory(&self) -> StorageError {
        StorageError::OutOfMemory {
            bytes: self.tail.bytes(),
            pool: self.tail.name(),
        }
    }

    /// Makes readable what is in segments alone.
    async fn migrate_split(&self, end_seq: u64, is_first: bool) -> Result<(), StorageError> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let is_split = |log: &&PartitionLog| log.has_split() && self.specs.contains_key(&log.id());
        let split: Vec<&PartitionLog> = self.partitions.values().filter(is_split).collect();
        if is_first && !split.is_empty() {
            self.check_files().await?;
        }
        for log in split {
            log.cut_reserved().await?;
            log.migrate(end_seq).await?;
        }
        Ok(())
    }

    /// Before the first migration: that finds the files as the checkpoint left them.
    async fn check_files(&self) -> Result<(), StorageError> {
        let known = (self.partitions.values()).filter(|log| self.specs.contains_key(&log.id()));
        let known: Vec<(PartitionLog, i64)> = known
            .map(|log| {
                // The checkpoint may know of a START, and still have segments before it: files go before the next one.
                let start = self.starts.get(&log.id()).copied().unwrap_or(i64::MIN);
                (log.clone(), start.max(log.log_start_offset()))
            })
            .collect();
        let check = async |(log, start): (PartitionLog, i64)| {
            log.check_files(start).await?;
            log.forget_index(start);
            Ok(())
        };
        at_once::for_each(&known, check).await
    }

    /// Finds a place for what no metadata knows, before it is migrated. A deleted topic's directory is out of sight
    /// already: what follows in the journal gets another. Where another incarnation has the name by now nothing is
    /// written: `separate_unknown` decides.
    async fn settle_unknown(&mut self) -> Result<(), StorageError> {
        let unknown = self
            .partitions
            .values()
            .filter(|log| !self.specs.contains_key(&log.id()));
        for log in unknown.cloned().collect::<Vec<_>>() {
            let (id, path) = (log.id(), log.directory());
            let is_there = directory::exists(&path)
                .await
                .map_err(StorageError::io("look at", &path))?;
            if is_there && topic_id_of(&path, &self.shared.staging).await? != Some(id.topic_id) {
                self.partitions.remove(&id);
                if log.has_unmigrated() {
                    // They will not stay in memory.
                    self.passed_over.insert(id);
                }
                self.displaced.insert(id, log);
            } else {
                log.make_directory().await?;
            }
        }
        Ok(())
    }

    /// `within_blocks` are partitions whose last batch ends within a block that their next one has to share.
    fn apply_batch(
        &mut self,
        parts: &[Part<'_>],
        header: &RecordHeader,
        within_blocks: &mut BTreeSet<TopicPartition>,
    ) -> Result<(), String> {
        let id = parts.first().map(|part| part.entry.id);
        let id = id.ok_or("a batch without an entry")?;
        if self.displaced.contains_key(&id) {
            self.passed_over.insert(id);
        }
        if self.is_void(id, header.seq) {
            return Ok(());
        }
        let log = self.partitions.get(&id);
        let log = log.ok_or("a batch of a partition that was never opened")?;
        self.report.batches += 1;
        if log.replay(parts, header.time_ms)? {
            within_blocks.insert(id);
        } else {
            within_blocks.remove(&id);
        }
        Ok(())
    }

    /// Whether what a record says of a partition does not count.
    fn is_void(&self, id: TopicPartition, seq: u64) -> bool {
        self.displaced.contains_key(&id) || self.dropped.get(&id).is_some_and(|end| seq <= *end)
    }

    fn apply(&mut self, seq: u64, entry: &Entry, bytes: &[u8]) -> Result<(), String> {
        if self.is_void(entry.id, seq) {
            return Ok(());
        }
        match entry.kind {
            // Voids what came before: it is in `dropped`.
            Kind::Drop => Ok(()),
            Kind::Open => {
                if self.partitions.contains_key(&entry.id) {
                    // The checkpoint was made after it.
                    return Ok(());
                }
                let topic = std::str::from_utf8(bytes).map_err(|_| "its topic's name is not text")?;
                self.restore(PartitionCheckpoint {
                    id: entry.id,
                    topic: topic.to_owned(),
                    owner_epoch: entry.owner_epoch,
                    log_start_offset: entry.base_offset,
                    next_offset: entry.next_offset,
                    ..PartitionCheckpoint::default()
                });
                Ok(())
            }
            Kind::Start => {
                let log = self.partitions.get(&entry.id);
                let log = log.ok_or("the log's start of a partition that was never opened")?;
                if entry.base_offset > log.log_end_offset() {
                    return Err(format!(
                        "its log begins at offset {}, and ends before",
                        entry.base_offset
                    ));
                }
                log.begin_at(entry.base_offset);
                Ok(())
            }
            Kind::Inline | Kind::Direct => Err("a batch without bytes".to_owned()),
        }
    }
}
