//! One partition's log: numbered batches, from its first segment to the batch that is being committed.
//!
//! Owns the partition's offsets, producer state, leader epochs, segments and its part of the shard's memory. Promises:
//! offsets are dense; nothing is readable before it is as safe as the topic wants it; a checkpoint of it and the journal's records from the
//! same moment on give it back exactly.
//! Must never write to a segment what the journal does not hold, or rewrite a block that only the segment holds.

mod append;
mod aside;
mod cached;
mod direct;
mod files_at_start;
mod index_files;
mod later;
mod migrate;
mod piece;
mod producers;
mod read;
mod replace;
mod replay;
mod sealed;
mod spare;
mod timestamps;
mod trim;
mod window;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::Pool;
use ring::clock::Instant;
use ring::count::Counter;
use ring::local::{Semaphore, Signal};
use wire::RecordBatch;

pub use self::append::{Appended, ProducerCheck};
pub(crate) use self::aside::{set_deleted_aside, set_stray_aside};
pub(crate) use self::direct::DIRECT_SEGMENTS_MAX;
use self::direct::Direct;
pub(crate) use self::index_files::index_batch;
use self::later::Later;
pub(crate) use self::migrate::{METADATA_FILE, RunTurns, metadata_text};
use self::piece::Piece;
pub(crate) use self::producers::ProducerBudget;
use self::producers::Share;
pub(crate) use self::read::ANOTHER_EPOCH;
pub use self::read::Extent;
use self::replace::Replacing;
pub(crate) use self::replace::{CHECKPOINTS, CompactedSegment, SegmentSummary};
pub(crate) use self::replay::Part;
pub(crate) use self::sealed::SealedSegment;
pub(crate) use self::spare::is_spare_name;
use crate::backlog::Backlog;
use crate::commit::{CommitObserver, Committer};
use crate::disk_turns::DiskTurns;
use crate::files::{Files, INDEX_BYTES_MAX};
use crate::id::TopicPartition;
use crate::journal::Access;
use crate::leader_epochs::LeaderEpochs;
use crate::opening::{OpenError, Opened, OpeningBudget, Turns};
use crate::producer_state::ProducerState;
use crate::read_cache::ReadCache;
use crate::segment::{Segment, SegmentLimits, Segments};
use crate::shortage::Shortage;
use crate::steady_clock::SteadyClock;

/// How a partition's log is kept: Kafka's topic settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionConfig {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`, in milliseconds.
    pub segment_ms: u64,
    /// `segment.jitter.ms`: by so much at most a segment ends earlier than by that, in milliseconds.
    pub segment_jitter_ms: u64,
    /// `segment.index.bytes`: of each of a segment's two indexes.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `message.timestamp.type=LogAppendTime`: the batches get the broker's time.
    pub is_log_append_time: bool,
    /// `retention.ms` of a topic whose `cleanup.policy` has `delete`, in milliseconds; none: for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes` of such a topic; none: all.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` has `compact`: how.
    pub compaction: Option<CompactionConfig>,
    /// `flush.messages`: the batch with which so many records are not flushed is flushed before it is acknowledged; those
    /// before it are acknowledged when they are written. From 1, which is all of them.
    pub flush_messages: u64,
    /// `flush.ms`: what was acknowledged when it was written is flushed so soon after it, in milliseconds; after 5 s
    /// at the latest.
    pub flush_ms: u64,
    /// `file.delete.delay.ms`: so long after it was deleted a segment's files are removed, in milliseconds.
    pub file_delete_delay_ms: u64,
}

/// How a log is compacted: Kafka's topic settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionConfig {
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub min_cleanable_dirty_ppm: u32,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

impl Default for CompactionConfig {
    /// Kafka's defaults.
    fn default() -> CompactionConfig {
        CompactionConfig {
            min_cleanable_dirty_ppm: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
        }
    }
}

impl Default for PartitionConfig {
    /// Kafka's defaults, but that nothing is removed but at once, and everything flushed.
    fn default() -> PartitionConfig {
        PartitionConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4_096,
            is_log_append_time: false,
            retention_ms: None,
            retention_bytes: None,
            compaction: None,
            flush_messages: 1,
            flush_ms: u64::MAX,
            file_delete_delay_ms: 0,
        }
    }
}

impl PartitionConfig {
    fn segment_limits(&self) -> SegmentLimits {
        SegmentLimits {
            bytes: self.segment_bytes,
            ms: self.segment_ms,
            index_bytes: self.index_bytes(),
        }
    }

    /// How large each of a segment's indexes gets at most. No larger file is ever believed.
    pub(crate) fn index_bytes(&self) -> u32 {
        self.segment_index_bytes.min(INDEX_BYTES_MAX as u32)
    }

    /// By how much a segment that begins now ends earlier, in milliseconds: by chance, so that the segments of logs that
    /// began together do not end together.
    fn draw_jitter_ms(&self) -> u64 {
        match self.segment_jitter_ms.min(self.segment_ms) {
            0 => 0,
            most => ring::random::next_u64() % most,
        }
    }
}

/// What the metadata says of a partition that this shard owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    /// Its topic's id, and its number.
    pub id: TopicPartition,
    /// Its topic's name.
    pub topic: String,
    /// The epoch under which it is led from now on.
    pub leader_epoch: i32,
    /// Its topic's settings.
    pub config: PartitionConfig,
}

/// What the partitions of a shard share.
pub(crate) struct LogShared {
    /// Who merely looks must not change a file: a broker may be writing to it.
    pub(crate) access: Access,
    /// There from the end of recovery on.
    pub(crate) committer: OnceCell<Committer>,
    /// Memory for what is read back from segments.
    pub(crate) reading: Pool,
    /// What of that is kept for the next reader.
    pub(crate) cache: ReadCache,
    /// Of readers.
    pub(crate) disk_turns: DiskTurns,
    /// Bytes that readers have had the disk read from segments since the start, and that consumers found in the cache.
    pub(crate) read_bytes: Counter,
    pub(crate) cached_bytes: Counter,
    /// Memory for what is written to segments, and for headers.
    pub(crate) staging: Pool,
    pub(crate) files: Files,
    /// The most memory that the indexes of active segments keep for what is in files, too, in bytes.
    pub(crate) index_bytes_max: usize,
    /// What waits for a migration, or is in memory after it.
    pub(crate) backlog: Backlog,
    pub(crate) migrating: RunTurns,
    /// The disk was full when segments were written last: nothing is reserved on it.
    pub(crate) is_disk_short: Cell<bool>,
    /// The disk's last room is used: no file is kept for what may come.
    pub(crate) is_disk_tight: Cell<bool>,
    /// How many segments more may take direct writes.
    pub(crate) direct_segments: Semaphore,
    /// Who reads or writes in the background has it: commits bear one such piece beside them, whoever's it is (storage
    /// contract, 8).
    pub(crate) background: Semaphore,
    /// The data directory.
    pub(crate) directory: PathBuf,
    pub(crate) block_bytes: u32,
    /// Of all partitions together.
    pub(crate) producers: Rc<ProducerBudget>,
    /// Readers of segments got no memory.
    pub(crate) reading_shortage: Shortage,
    /// A checkpoint is wanted however little journal there is: segments are to be removed, or times were corrected.
    pub(crate) is_checkpoint_due: Cell<bool>,
    /// Segments that were removed since the start, and their bytes.
    pub(crate) removed_segments: Counter,
    pub(crate) removed_bytes: Counter,
    /// Segments that were begun in the file of a removed one.
    pub(crate) reused_segments: Counter,
    /// When batches are appended, and how old they are.
    pub(crate) clock: Rc<SteadyClock>,
    /// Of the large batches that are opened.
    pub(crate) turns: Turns,
}

impl LogShared {
    pub(crate) fn assert_writable(&self) {
        assert_eq!(self.access, Access::ReadWrite, "who looks changes nothing");
    }

    /// Whether the log takes nothing any more: it has failed, or is being stopped.
    pub(crate) fn has_failed(&self) -> bool {
        self.committer
            .get()
            .is_some_and(|committer| committer.failure().is_some())
    }

    /// Whether somebody waits for what the disk is given beside, or may soon.
    pub(crate) fn has_committed_lately(&self) -> bool {
        self.committer.get().is_some_and(Committer::has_written_lately)
    }
}

/// One partition's log. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct PartitionLog {
    partition: Rc<Partition>,
}

struct Partition {
    id: TopicPartition,
    topic: String,
    shared: Rc<LogShared>,
    config: Cell<PartitionConfig>,
    owner_epoch: u32,
    leader_epoch: Cell<i32>,
    log_start_offset: Cell<i64>,
    /// The same, once it is in the journal: readers see it when it is durable.
    committed_log_start: Cell<i64>,
    high_watermark: Cell<i64>,
    moved: Signal,
    is_dropped: Cell<bool>,
    /// What of the shard's producers are its.
    producers: Share,
    direct: Direct,
    later: Later,
    /// Segments that were taken out, and when their files are to be removed: that may be another time for each, if the
    /// config has changed.
    leaving: RefCell<VecDeque<(Instant, Segment)>>,
    /// Whose is the partition's directory to write compacted segments into.
    cleaning: Semaphore,
    /// Whoever makes its directory, alone.
    making_directory: Semaphore,
    state: RefCell<State>,
}

/// Pieces that a log may have room for, whatever it has.
const PIECES_MIN: usize = 64;

struct State {
    next_offset: i64,
    segments: Segments,
    /// What is in memory, oldest first: everything that is not migrated, and before it what was not evicted yet.
    tail: VecDeque<Piece>,
    /// Pieces at the front of the tail that are migrated.
    migrated_pieces: usize,
    producers: ProducerState,
    leader_epochs: LeaderEpochs,
    migrated: Migrated,
    /// Compaction is done up to here.
    cleaned_to: i64,
    /// Compacted segments that are not at their place yet, and what they replace.
    replacing: Vec<Replacing>,
    /// How often a compacted segment took its place in the list.
    replaced: u64,
}

/// The state as of the last migrated batch: what a checkpoint says.
struct Migrated {
    next_offset: i64,
    /// Of the last segment that is not sealed: its bytes after its last whole block.
    partial: Vec<u8>,
    /// Its file has blocks up to here, as far as is known.
    reserved: u64,
    /// The segment that was written to, and whose indexes were not yet.
    unindexed: Option<i64>,
}

impl CommitObserver for Partition {
    fn committed(&self, next_offset: i64) {
        // What is flushed later is never behind what is flushed first and was not (`later`).
        debug_assert!(next_offset >= self.high_watermark.get());
        self.high_watermark.set(next_offset);
        self.moved.notify_all();
    }
}

impl PartitionLog {
    /// Its topic's id, and its number.
    pub fn id(&self) -> TopicPartition {
        self.partition.id
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.partition.log_start_offset.get()
    }

    /// The offset that the next batch gets. Batches before it may not be committed yet.
    pub fn log_end_offset(&self) -> i64 {
        self.partition.state.borrow().next_offset
    }

    /// Everything before it is durable, or written if its topic is flushed later, and may be read.
    pub fn high_watermark(&self) -> i64 {
        self.partition.high_watermark.get()
    }

    /// Forgets what others have taken the memory of. How many complete segments it has that are not sealed, and how many
    /// batches it knows in memory.
    pub(crate) fn settle_backlog(&self) -> (usize, usize) {
        let mut state = self.partition.state.borrow_mut();
        state.forget_evicted();
        state.shrink();
        (state.segments.unsealed(), state.tail.len())
    }

    /// Notified when the high watermark moves.
    pub fn moved(&self) -> Signal {
        self.partition.moved.clone()
    }

    /// The epoch under which it is led.
    pub fn leader_epoch(&self) -> i32 {
        self.partition.leader_epoch.get()
    }

    /// From now on it is led under `leader_epoch`. An older epoch changes nothing.
    pub fn set_leader_epoch(&self, leader_epoch: i32) {
        if leader_epoch <= self.partition.leader_epoch.get() {
            return;
        }
        self.partition.leader_epoch.set(leader_epoch);
        let mut state = self.partition.state.borrow_mut();
        let next_offset = state.next_offset;
        state.leader_epochs.begin(leader_epoch, next_offset);
    }

    /// Takes its topic's settings. They hold for later batches.
    pub fn set_config(&self, config: PartitionConfig) {
        let before = self.partition.config.replace(config);
        let state = self.partition.state.borrow();
        let newest = state.tail.back().map(|piece| &piece.group);
        let (committed, end) = (self.high_watermark(), state.next_offset);
        (self.partition.later).changed(&before, &config, committed, end, newest);
    }

    /// The largest epoch that is not above `epoch`, and the offset at which it ended; (-1, -1) for one that is not
    /// known (OffsetForLeaderEpoch, KIP-101). Only what is durable counts.
    pub fn epoch_end_offset(&self, epoch: i32) -> (i32, i64) {
        let end = self.high_watermark();
        self.partition.state.borrow().leader_epochs.end_of(epoch, end)
    }

    /// The epoch that wrote `offset`; -1 if none did.
    pub fn epoch_of(&self, offset: i64) -> i32 {
        self.partition.state.borrow().leader_epochs.of(offset)
    }

    /// Opens a batch that was sent for it, in steps. One that inflates to more than a MiB waits for its turn among those
    /// of the shard, for `patience` at most.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_batch<'a>(
        &self,
        batch: &RecordBatch<'a>,
        budget: &OpeningBudget,
        patience: Duration,
    ) -> Result<Opened<'a>, OpenError> {
        self.partition.shared.turns.open(batch, budget, patience).await
    }

    /// Nothing is appended from now on: the partition's end in the journal must be the last of it.
    pub(crate) fn close(&self) {
        self.partition.is_dropped.set(true);
    }

    /// Whether nothing of it was written to a segment yet.
    pub(crate) fn is_only_in_memory(&self) -> bool {
        let state = self.partition.state.borrow();
        let segments = &state.segments.all;
        let block = self.partition.shared.block_bytes;
        let is_written = segments
            .iter()
            .any(|segment| segment.on_disk(block) > 0 || segment.is_sealed);
        !is_written && !state.tail.iter().any(Piece::is_split)
    }

    pub(crate) fn owner_epoch(&self) -> u32 {
        self.partition.owner_epoch
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.partition.shared.directory.join(self.directory_name())
    }

    /// The name of its directory: its topic and its number.
    pub(crate) fn directory_name(&self) -> String {
        directory_name(&self.partition.topic, self.partition.id.partition)
    }

    pub(crate) fn config(&self) -> PartitionConfig {
        self.partition.config.get()
    }
}

/// The name of a partition's directory: Kafka's.
pub(crate) fn directory_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

impl State {
    /// Forgets the pieces whose memory was given to others: they are read from the segments.
    fn forget_evicted(&mut self) {
        while self.migrated_pieces > 0 && self.tail.pop_front_if(|piece| !piece.is_in_memory()).is_some() {
            self.migrated_pieces -= 1;
        }
    }

    /// Gives the heap of forgotten pieces back, if it is most of it.
    fn shrink(&mut self) {
        let len = self.tail.len();
        if self.tail.capacity() > 4 * len + PIECES_MIN {
            self.tail.shrink_to(2 * len);
        }
    }
}

impl Partition {
    fn committer(&self) -> &Committer {
        self.shared
            .committer
            .get()
            .expect("a partition is used only after recovery")
    }
}

#[cfg(test)]
mod tests;
