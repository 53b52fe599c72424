//! Migration: what the journal made durable is written to the segments, so that the journal can be reused.
//!
//! Only whole blocks are written; what is left of the last one stays in memory and goes into the checkpoint. A segment
//! that a later one follows is closed: its last block is padded, written, and cut off at the exact length.

use std::path::{Path, PathBuf};

use ring::buffer::Slice;
use ring::directory;
use ring::file::{Allocate, Durability, File, OpenOptions};
use ring::local::{Permit, Semaphore};
use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

use super::{Partition, PartitionLog};
use crate::directory::topic_id_of;
use crate::error::StorageError;
use crate::files::{SegmentFiles, log_path, put_whole, read_index};
use crate::id::{TopicPartition, to_base64};
use crate::index::{self, EntryCounts, INDEX_ENTRY_BYTES, IndexEntry, SegmentIndex, TIME_ENTRY_BYTES};
use crate::journal::take;
use crate::segment::{Segment, SegmentName, file_stem};

/// Written at a time, in bytes; more only for a larger batch.
const RUN_BYTES: usize = 512 << 10;
/// Reserved behind what is written, in bytes.
const RESERVED_BYTES: std::ops::RangeInclusive<u64> = 12 << 10..=1 << 20;
/// Of runs that are written at a time.
const TURN_BYTES: usize = 16 << 10;
/// So many entries are written to an index file at a time; fewer wait in memory and in checkpoints. Two files that are opened,
/// written and cut for each block of a log cost more than the log.
const INDEX_RUN_ENTRIES: usize = 64;
/// Names the topic of a directory: Kafka's file.
pub(crate) const METADATA_FILE: &str = "partition.metadata";

/// What migration writes to segments at a time, of all partitions: much of one, or little of many.
pub(crate) struct RunTurns(Semaphore);

impl Default for RunTurns {
    fn default() -> RunTurns {
        RunTurns(Semaphore::new(RUN_BYTES / TURN_BYTES))
    }
}

impl RunTurns {
    async fn take(&self, bytes: usize) -> Permit {
        let turns = bytes.div_ceil(TURN_BYTES).min(RUN_BYTES / TURN_BYTES);
        self.0.acquire(turns).await
    }
}

/// Batches of one segment that follow each other.
struct Run {
    segment_base: i64,
    /// Of the segment, where the partial block begins.
    from: u32,
    partial: Vec<u8>,
    /// Of each batch, in order.
    headers: Vec<Header>,
    /// What follows the partial block.
    bytes: Vec<Slice>,
    /// Bytes of whole blocks behind these that are written already: the run ends with them, and what comes after.
    written: u32,
    /// Of the last batch, what comes after the written blocks.
    after: Option<Slice>,
    /// The segment ends with this run.
    seals: bool,
}

/// A batch's header. Of many small batches that nobody has looked at for long, the memory is waited for at once when they are
/// copied, and one after the other when their headers are read before that.
enum Header {
    /// At this byte of the run, where the batch begins.
    InRun(usize),
    Known(Box<BatchHeader>),
}

impl Header {
    fn read(&self, run: &[u8]) -> BatchHeader {
        match self {
            Header::Known(header) => **header,
            Header::InRun(at) => {
                let bytes = run.get(*at..).and_then(<[u8]>::first_chunk::<BATCH_HEADER_BYTES>);
                BatchHeader::decode(bytes.expect("a batch has a header"))
            }
        }
    }
}

impl PartitionLog {
    /// Whether there is anything to migrate.
    pub(crate) fn has_unmigrated(&self) -> bool {
        let state = self.partition.state.borrow();
        state.migrated_pieces < state.tail.len()
    }

    /// Writes everything up to journal record `up_to_seq` to the segments. Not durable before a flush of the file
    /// system. One migration of a partition at a time.
    pub(crate) async fn migrate(&self, up_to_seq: u64) -> Result<(), StorageError> {
        // The migration before may have found the disk full when it came to that.
        self.write_index(INDEX_RUN_ENTRIES).await?;
        while let Some(run) = self.next_run(up_to_seq) {
            let seals = run.seals;
            self.write_run(run).await?;
            // Once for all runs of a segment: it costs as much as a run.
            if seals {
                self.write_index(0).await?;
            }
        }
        self.write_index(INDEX_RUN_ENTRIES).await
    }

    fn next_run(&self, up_to_seq: u64) -> Option<Run> {
        let state = self.partition.state.borrow();
        let due = |index: usize| {
            let piece = state.tail.get(index)?;
            let is_due = piece.group.is_durable() && piece.group.seq().is_some_and(|seq| seq <= up_to_seq);
            is_due.then_some(piece)
        };
        let first = due(state.migrated_pieces)?;
        let open = state.segments.all.get(state.segments.sealed())?;
        let mut run = Run {
            segment_base: open.base_offset,
            from: open.on_disk(self.partition.shared.block_bytes),
            partial: state.migrated.partial.clone(),
            headers: Vec::new(),
            bytes: Vec::new(),
            written: 0,
            after: None,
            seals: false,
        };
        if first.segment_base != open.base_offset {
            // The next batch is in a later segment, so this one is complete.
            run.seals = true;
            return Some(run);
        }
        let block = self.partition.shared.block_bytes as usize;
        let mut end = open.migrated as usize;
        let mut bytes = 0;
        let mut next = state.migrated_pieces;
        while let Some(piece) = due(next) {
            if piece.segment_base != run.segment_base {
                run.seals = true;
                break;
            }
            let unwritten = piece.unwritten();
            let length = unwritten.before.as_ref().map_or(0, |bytes| bytes.len());
            if run.written == 0 && bytes > 0 && bytes + length > RUN_BYTES {
                break;
            }
            run.headers.push(if length == piece.length() {
                Header::InRun(run.partial.len() + bytes)
            } else {
                Header::Known(Box::new(piece.header()))
            });
            bytes += length;
            end += piece.length();
            run.bytes.extend(unwritten.before);
            next += 1;
            if unwritten.written > 0 {
                run.written += unwritten.written;
                run.after = unwritten.after;
            }
            // A block that batches share is written for all of them at once.
            let is_within =
                !end.is_multiple_of(block) && run.after.as_ref().is_none_or(|after| after.is_empty());
            if run.written > 0 && !is_within {
                break;
            }
        }
        Some(run)
    }

    async fn write_run(&self, run: Run) -> Result<(), StorageError> {
        let shared = &self.partition.shared;
        let block = shared.block_bytes as usize;
        let directory = self.directory();
        let bytes = run.partial.len() + run.bytes.iter().map(|bytes| bytes.len()).sum::<usize>();
        let after = run.after.as_ref().map_or(0, |after| after.len());
        let end = run.from + bytes as u32 + run.written + after as u32;
        if bytes == 0 && run.written > 0 {
            let partial = run.after.as_ref().map_or_else(Vec::new, |after| after.to_vec());
            self.migrated(&run, &[], end, partial);
            return Ok(());
        }
        if bytes < block && !run.seals && run.written == 0 {
            // Not a block: checkpoints have it.
            let mut partial = Vec::with_capacity(bytes);
            partial.extend_from_slice(&run.partial);
            run.bytes
                .iter()
                .for_each(|bytes| partial.extend_from_slice(bytes));
            self.migrated(&run, &partial.clone(), end, partial);
            return Ok(());
        }
        if run.from == 0 {
            self.make_directory().await?;
        }
        let file = shared
            .files
            .log(
                &directory,
                self.partition.id,
                SegmentName::first(run.segment_base),
                true,
            )
            .await?;
        let path = log_path(&directory, run.segment_base);
        let staging_bytes = bytes.next_multiple_of(block).max(block);
        let _turn = shared.migrating.take(staging_bytes).await;
        let mut staging = take(&shared.staging, staging_bytes).await?;
        let mut at = 0;
        for part in [&run.partial[..]]
            .into_iter()
            .chain(run.bytes.iter().map(|bytes| &bytes[..]))
        {
            staging[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let whole = if run.seals {
            bytes.next_multiple_of(block)
        } else {
            bytes - bytes % block
        };
        assert!(
            run.written == 0 || whole == bytes,
            "what is written begins with a block"
        );
        let partial = match &run.after {
            _ if run.seals => Vec::new(),
            Some(after) => after.to_vec(),
            None => staging[whole..bytes].to_vec(),
        };
        if whole > bytes {
            staging[bytes..whole].fill(0);
        }
        let copied = staging.freeze(0..bytes.max(whole));
        if whole > 0 {
            let to = u64::from(run.from) + whole as u64;
            if !run.seals && to > self.partition.state.borrow().migrated.reserved {
                self.reserve(&file, run.from, to).await;
            }
            let blocks = vec![copied.slice(0..whole)];
            file.write_all_at(blocks, u64::from(run.from), Durability::Completed)
                .await
                .map_err(StorageError::io("write", &path))?;
        }
        if run.seals {
            // What reserves blocks would make it longer again.
            let _no_preparing = self.pause_preparing().await;
            file.set_len(u64::from(end))
                .await
                .map_err(StorageError::io("cut", &path))?;
        }
        self.migrated(&run, &copied, end, partial);
        Ok(())
    }

    /// Reserves blocks behind those that are about to be written, in the segment's file: as many as it has, so that a log that
    /// is written a block at a time is in few pieces. The kernel writes at once what neither makes a file longer nor allocates.
    async fn reserve(&self, file: &File, from: u32, to: u64) {
        let most = u64::from(self.partition.config.get().segment_bytes).max(to);
        let end = to + to.clamp(*RESERVED_BYTES.start(), *RESERVED_BYTES.end());
        let end = end
            .min(most)
            .next_multiple_of(u64::from(self.partition.shared.block_bytes));
        // What cannot be reserved may still be written.
        let reserved = file.allocate(u64::from(from)..end, Allocate::Extend).await;
        self.partition.state.borrow_mut().migrated.reserved = reserved.map_or(to, |()| end);
    }

    /// Moves the state past what was written: these bytes, and what was there.
    fn migrated(&self, run: &Run, bytes: &[u8], end: u32, partial: Vec<u8>) {
        let interval = self.partition.config.get().index_interval_bytes;
        let mut state = self.partition.state.borrow_mut();
        let state = &mut *state;
        let at = state.segments.index_of(run.segment_base);
        let segment = at.map(|at| &mut state.segments.all[at]);
        let segment = segment.filter(|segment| segment.base_offset == run.segment_base);
        let segment = segment.expect("a run is of a segment that is there");
        for header in &run.headers {
            let header = &header.read(bytes);
            index_batch(
                &mut segment.index,
                segment.base_offset,
                segment.migrated,
                header,
                interval,
            );
            segment.migrated += header.batch_bytes() as u32;
            state.producers.migrated(header);
            state.migrated.next_offset = header.next_offset();
        }
        assert_eq!(segment.migrated, end, "segments are written without gaps");
        if run.seals {
            assert_eq!(
                segment.appended, end,
                "a segment is closed only when it is complete"
            );
            segment.index.add_time();
            segment.is_sealed = true;
            state.migrated.reserved = 0;
        }
        state.migrated.partial = partial;
        state.migrated.unindexed = Some(run.segment_base);
        state.migrated_pieces += run.headers.len();
        state.forget_evicted();
    }

    /// Appends what is new of a segment's indexes to their files, if it is so many entries or the segment is sealed: of
    /// the one that was written to last.
    async fn write_index(&self, entries_min: usize) -> Result<(), StorageError> {
        let unindexed = self.partition.state.borrow().migrated.unindexed;
        let Some(segment_base) = unindexed else {
            return Ok(());
        };
        let due = |segment: &Segment| segment.is_sealed || segment.unwritten_offsets().len() >= entries_min;
        match self.with_unindexed(segment_base, |segment| (due(segment), segment.entries_in_files())) {
            None | Some((false, _)) => return Ok(()),
            Some((true, EntryCounts::NONE)) => {}
            // Of an earlier life: what follows must not make a file look whole that is not.
            Some((true, _)) => self.load_index(segment_base).await,
        }
        let unwritten = self.with_unindexed(segment_base, |segment| {
            let from = (segment.index_entries as usize, segment.time_entries as usize);
            let offsets = index::encode_offsets(segment.unwritten_offsets());
            let times = index::encode_times(segment.unwritten_times());
            (segment.is_sealed, from, offsets, times)
        });
        let Some((is_sealed, (from, times_from), offsets, times)) = unwritten else {
            return Ok(());
        };
        let (added, times_added) = (offsets.len() / INDEX_ENTRY_BYTES, times.len() / TIME_ENTRY_BYTES);
        let is_last = is_sealed || entries_min == 0;
        let stem = self.directory().join(file_stem(segment_base));
        if added > 0 || is_last {
            write_at(&stem.with_extension("index"), offsets, from * INDEX_ENTRY_BYTES).await?;
        }
        if times_added > 0 || is_last {
            let at = times_from * TIME_ENTRY_BYTES;
            write_at(&stem.with_extension("timeindex"), times, at).await?;
        }
        self.with_unindexed(segment_base, |segment| {
            segment.index_entries = (from + added) as u32;
            segment.time_entries = (times_from + times_added) as u32;
            if segment.is_sealed {
                segment.index.offsets = Vec::new();
                segment.index.times = Vec::new();
            }
            segment.offsets_written = segment.index.offsets.len();
            segment.times_written = segment.index.times.len();
        });
        self.partition.state.borrow_mut().migrated.unindexed = None;
        Ok(())
    }

    /// The segment whose indexes are not written, unless it is gone: it may have been removed since, or compacted, which
    /// makes indexes of its own.
    fn with_unindexed<T>(&self, segment_base: i64, with: impl FnOnce(&mut Segment) -> T) -> Option<T> {
        let mut state = self.partition.state.borrow_mut();
        let at = state.segments.index_of(segment_base);
        let segment = at.map(|at| &mut state.segments.all[at]);
        let is_it = |segment: &&mut Segment| segment.base_offset == segment_base && segment.generation == 0;
        let segment = segment.filter(is_it);
        if segment.is_none() {
            state.migrated.unindexed = None;
            return None;
        }
        segment.map(with)
    }

    /// The partition's directory, with its topic's id in it.
    pub(crate) async fn make_directory(&self) -> Result<(), StorageError> {
        let directory = &self.directory();
        let path = directory.join(METADATA_FILE);
        // Migration and direct writes may both come first.
        let _one = self.partition.making_directory.acquire(1).await;
        if directory::exists(&path)
            .await
            .map_err(StorageError::io("look at", &path))?
        {
            return Ok(());
        }
        directory::create_all(directory)
            .await
            .map_err(StorageError::io("create", directory))?;
        let text = metadata_text(self.partition.id.topic_id);
        // A crash never leaves a part of it: what says nothing of its topic would be taken for another's, or for rot.
        put_whole(&path, text.into_bytes()).await
    }

    /// Makes the files of a clean stop: the active segment ends at its exact length, as other tools expect it. All of
    /// the log must be migrated.
    pub(crate) async fn finish(&self) -> Result<(), StorageError> {
        assert!(!self.has_unmigrated());
        self.end_preparing().await;
        let shared = &self.partition.shared;
        let block = shared.block_bytes as usize;
        let (segment_base, from, end, partial) = {
            let state = self.partition.state.borrow();
            let active = state
                .segments
                .all
                .last()
                .filter(|last| !last.is_sealed && last.migrated > 0);
            let Some(active) = active else { return Ok(()) };
            let from = active.on_disk(shared.block_bytes);
            (
                active.base_offset,
                from,
                active.migrated,
                state.migrated.partial.clone(),
            )
        };
        self.make_directory().await?;
        self.write_index(0).await?;
        let directory = self.directory();
        let path = log_path(&directory, segment_base);
        let file = shared
            .files
            .log(
                &directory,
                self.partition.id,
                SegmentName::first(segment_base),
                true,
            )
            .await?;
        if !partial.is_empty() {
            let mut padded = take(&shared.staging, block).await?;
            padded[..block].fill(0);
            padded[..partial.len()].copy_from_slice(&partial);
            file.write_all_at(
                vec![padded.freeze(0..block)],
                u64::from(from),
                Durability::Completed,
            )
            .await
            .map_err(StorageError::io("write", &path))?;
        }
        file.set_len(u64::from(end))
            .await
            .map_err(StorageError::io("cut", &path))?;
        Ok(())
    }

    /// Checks after a start that the segments' files hold what the checkpoint says.
    pub(crate) async fn open_files(&self) -> Result<(), StorageError> {
        self.check_files(i64::MIN).await?;
        self.cut_reserved().await
    }

    /// Checks that the segments' files hold what was written to them. A recovery that migrates must do so first: a file
    /// that is missing would be made anew, with a hole. What holds only records before `start` may be gone: an earlier
    /// life may have removed it, and not come to a checkpoint.
    pub(crate) async fn check_files(&self, start: i64) -> Result<(), StorageError> {
        let shared = &self.partition.shared;
        let directory = self.directory();
        let names = match directory::list(&directory).await {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StorageError::io("list", &directory)(error)),
        };
        self.find_replaced(&names);
        let expected: Vec<(PathBuf, u32, bool)> = {
            let state = self.partition.state.borrow();
            let all = &state.segments.all;
            let ends = all.iter().skip(1).map(|next| next.base_offset);
            let on_disk = all
                .iter()
                .zip(ends.chain([state.migrated.next_offset]))
                .filter(|(segment, end)| segment.migrated > 0 && *end > start);
            on_disk
                .map(|(segment, _)| {
                    let files = SegmentFiles::of(segment, &directory);
                    (
                        files.path("log"),
                        segment.on_disk(shared.block_bytes),
                        segment.is_sealed,
                    )
                })
                .collect()
        };
        for (path, bytes, is_sealed) in expected {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let found = names.binary_search_by(|entry| entry.name.as_str().cmp(&name));
            let found = found.map_or(0, |at| names[at].bytes);
            if found < u64::from(bytes) || (is_sealed && found != u64::from(bytes)) {
                let what = format!("it has {found} bytes, and {bytes} were written to it");
                return Err(StorageError::corrupt(&path, found, what));
            }
        }
        Ok(())
    }

    /// Of an active segment that has nothing from `start` on the files may be gone: whatever comes to it begins an index of its
    /// own.
    pub(crate) fn forget_index(&self, start: i64) {
        let mut state = self.partition.state.borrow_mut();
        if state.migrated.next_offset > start {
            return;
        }
        if let Some(active) = state.segments.all.iter_mut().find(|segment| !segment.is_sealed) {
            (active.index.offsets, active.index.times) = (Vec::new(), Vec::new());
            (active.index_entries, active.time_entries) = (0, 0);
        }
    }

    /// Takes what is in the index files alone into memory; or makes it anew, if they are not whole. Without a file that tells
    /// all is found, too, only later: nothing that is wrong with them ends a migration.
    async fn load_index(&self, segment_base: i64) {
        let Some(counts) = self.with_unindexed(segment_base, |segment| segment.entries_in_files()) else {
            return;
        };
        let stem = self.directory().join(file_stem(segment_base));
        let pool = &self.partition.shared.staging;
        let offsets = read_index(&stem.with_extension("index"), pool).await;
        let times = read_index(&stem.with_extension("timeindex"), pool).await;
        let is_whole = self.with_unindexed(segment_base, |segment| {
            let Some(mut index) = index::decode(&offsets, &times, counts, segment.migrated) else {
                return false;
            };
            (segment.offsets_written, segment.times_written) = (index.offsets.len(), index.times.len());
            index.offsets.append(&mut segment.index.offsets);
            index.times.append(&mut segment.index.times);
            (segment.index.offsets, segment.index.times) = (index.offsets, index.times);
            true
        });
        if is_whole != Some(false) {
            return;
        }
        let rebuilt = self.rebuilt_index(segment_base).await;
        self.with_unindexed(segment_base, |segment| {
            // What is in memory is right, and so is the rest of the log without the rest of the index.
            if let Ok(rebuilt) = rebuilt {
                segment.index = rebuilt;
                if segment.is_sealed {
                    segment.index.add_time();
                }
            }
            (segment.index_entries, segment.time_entries) = (0, 0);
            (segment.offsets_written, segment.times_written) = (0, 0);
        });
    }

    /// The index of a segment from its batches.
    pub(crate) async fn rebuilt_index(&self, segment_base: i64) -> Result<SegmentIndex, StorageError> {
        let interval = self.partition.config.get().index_interval_bytes;
        let mut index = SegmentIndex::new();
        self.walk_segment(segment_base, |header, position| {
            index_batch(&mut index, segment_base, position, header, interval);
        })
        .await?;
        Ok(index)
    }

    /// Takes the partition's directory out of sight, to be removed later; durably with the next flush of the data
    /// directory. Its new name, if it was there. A directory of that name that says it is another incarnation's is left alone.
    pub(crate) async fn rename_aside(&self) -> Result<Option<PathBuf>, StorageError> {
        let Partition { shared, id, .. } = &*self.partition;
        shared.files.forget(*id);
        let directory = self.directory();
        match topic_id_of(&directory, &shared.staging).await? {
            Some(topic_id) if topic_id != id.topic_id => Ok(None),
            _ => rename_aside(&directory, *id, "delete").await,
        }
    }
}

/// What is in [`METADATA_FILE`].
pub(crate) fn metadata_text(topic_id: u128) -> String {
    format!("version: 0\ntopic_id: {}\n", to_base64(topic_id))
}

/// Renames a partition's directory, if it is there, to a name that no partition can have. Durable when it returns.
pub(crate) async fn set_aside(
    directory: &Path,
    id: TopicPartition,
    suffix: &str,
) -> Result<(), StorageError> {
    let aside = rename_aside(directory, id, suffix).await?;
    if let Some(parent) = aside.as_deref().and_then(Path::parent) {
        directory::sync(parent)
            .await
            .map_err(StorageError::io("flush", parent))?;
    }
    Ok(())
}

async fn rename_aside(
    directory: &Path,
    id: TopicPartition,
    suffix: &str,
) -> Result<Option<PathBuf>, StorageError> {
    /// Of the old name, so that the new one stays below NAME_MAX.
    const NAME_BYTES: usize = 190;
    let exists = async |path: &Path| {
        directory::exists(path)
            .await
            .map_err(StorageError::io("look at", path))
    };
    let (Some(name), Some(parent), true) = (
        directory.file_name(),
        directory.parent(),
        exists(directory).await?,
    ) else {
        return Ok(None);
    };
    let name = name.to_string_lossy();
    let kept = name.get(..NAME_BYTES.min(name.len())).unwrap_or("partition");
    let mut to = parent.join(format!("{kept}.{:032x}-{suffix}", id.topic_id));
    let mut count = 1;
    while exists(&to).await? {
        count += 1;
        to = parent.join(format!("{kept}.{:032x}.{count}-{suffix}", id.topic_id));
    }
    directory::rename(directory, &to)
        .await
        .map_err(StorageError::io("rename", directory))?;
    Ok(Some(to))
}

/// Takes a batch into its segment's index.
pub(crate) fn index_batch(
    index: &mut SegmentIndex,
    segment_base: i64,
    position: u32,
    header: &BatchHeader,
    interval_bytes: u32,
) {
    let entry = IndexEntry {
        relative_offset: u32::try_from(header.last_offset() - segment_base).unwrap_or(u32::MAX),
        position,
    };
    let bytes = u32::try_from(header.batch_bytes()).unwrap_or(u32::MAX);
    // Of a batch that compaction has emptied there is no record that could be found by its time.
    let max_timestamp_ms = if header.record_count == 0 {
        -1
    } else {
        header.max_timestamp_ms
    };
    index.add(entry, max_timestamp_ms, bytes, interval_bytes);
}

/// Writes `bytes` at `at`, and ends the file there.
async fn write_at(path: &Path, bytes: Vec<u8>, at: usize) -> Result<(), StorageError> {
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    let file = File::open(path, options)
        .await
        .map_err(StorageError::io("open", path))?;
    let end = (at + bytes.len()) as u64;
    file.write_all_at(vec![Slice::from(bytes)], at as u64, Durability::Completed)
        .await
        .map_err(StorageError::io("write", path))?;
    file.set_len(end).await.map_err(StorageError::io("cut", path))
}
