//! Migration: what the journal made durable is written to the segments, so that the journal can be reused.
//!
//! Only whole blocks are written; what is left of the last one stays in memory and goes into the checkpoint. A segment
//! that a later one follows is closed: its last block is padded, written, and cut off at the exact length.

use std::path::{Path, PathBuf};

use ring::buffer::Slice;
use ring::directory;
use ring::file::{Durability, File, OpenOptions};
use wire::BatchHeader;

use super::{Partition, PartitionLog};
use crate::directory::topic_id_of;
use crate::error::StorageError;
use crate::files::{SegmentFiles, log_path, put_whole, read_index};
use crate::id::{TopicPartition, to_base64};
use crate::index::{self, INDEX_ENTRY_BYTES, IndexEntry, SegmentIndex, TIME_ENTRY_BYTES};
use crate::journal::take;
use crate::segment::{Segment, SegmentName, file_stem};

/// Written at a time, in bytes; more only for a larger batch.
const RUN_BYTES: usize = 512 << 10;
/// Names the topic of a directory: Kafka's file.
pub(crate) const METADATA_FILE: &str = "partition.metadata";

/// Batches of one segment that follow each other.
struct Run {
    segment_base: i64,
    /// Of the segment, where the partial block begins.
    from: u32,
    partial: Vec<u8>,
    /// Of each batch, in order.
    headers: Vec<BatchHeader>,
    /// What follows the partial block.
    bytes: Vec<Slice>,
    /// Bytes of whole blocks behind these that are written already: the run ends with them, and what comes after.
    written: u32,
    /// Of the last batch, what comes after the written blocks.
    after: Option<Slice>,
    /// The segment ends with this run.
    seals: bool,
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
        self.write_index().await?;
        while let Some(run) = self.next_run(up_to_seq) {
            let seals = run.seals;
            self.write_run(run).await?;
            // Once for all runs of a segment: it costs as much as a run.
            if seals {
                self.write_index().await?;
            }
        }
        self.write_index().await
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
            bytes += length;
            end += unwritten.header.batch_bytes();
            run.headers.push(unwritten.header);
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
            self.migrated(&run, end, partial);
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
        let mut staging = take(&shared.staging, bytes.next_multiple_of(block).max(block)).await?;
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
        if whole > 0 {
            let written = staging.freeze(0..whole);
            file.write_all_at(vec![written], u64::from(run.from), Durability::Completed)
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
        self.migrated(&run, end, partial);
        Ok(())
    }

    /// Moves the state past what was written.
    fn migrated(&self, run: &Run, end: u32, partial: Vec<u8>) {
        let interval = self.partition.config.get().index_interval_bytes;
        let mut state = self.partition.state.borrow_mut();
        let state = &mut *state;
        let at = state.segments.index_of(run.segment_base);
        let segment = at.map(|at| &mut state.segments.all[at]);
        let segment = segment.filter(|segment| segment.base_offset == run.segment_base);
        let segment = segment.expect("a run is of a segment that is there");
        for header in &run.headers {
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
        }
        state.migrated.partial = partial;
        state.migrated.unindexed = Some(run.segment_base);
        state.migrated_pieces += run.headers.len();
        state.forget_evicted();
    }

    /// Appends what is new of a segment's indexes to their files: of the one that was written to last.
    async fn write_index(&self) -> Result<(), StorageError> {
        let directory = self.directory();
        let (segment_base, seals, offsets, times, from, time_from) = {
            let mut state = self.partition.state.borrow_mut();
            let Some(segment_base) = state.migrated.unindexed else {
                return Ok(());
            };
            let at = state.segments.index_of(segment_base);
            let segment = at.map(|at| &state.segments.all[at]);
            // It may have been removed since, or compacted, which makes an index of its own.
            let is_it = |segment: &&Segment| segment.base_offset == segment_base && segment.generation == 0;
            let Some(segment) = segment.filter(is_it) else {
                state.migrated.unindexed = None;
                return Ok(());
            };
            let (from, time_from) = (segment.index_entries as usize, segment.time_entries as usize);
            let offsets = index::encode_offsets(&segment.index.offsets[segment.offsets_written..]);
            let times = index::encode_times(&segment.index.times[segment.times_written..]);
            (segment_base, segment.is_sealed, offsets, times, from, time_from)
        };
        let (added, times_added) = (offsets.len() / INDEX_ENTRY_BYTES, times.len() / TIME_ENTRY_BYTES);
        let stem = directory.join(file_stem(segment_base));
        if added > 0 || seals {
            write_at(&stem.with_extension("index"), offsets, from * INDEX_ENTRY_BYTES).await?;
        }
        if times_added > 0 || seals {
            write_at(
                &stem.with_extension("timeindex"),
                times,
                time_from * TIME_ENTRY_BYTES,
            )
            .await?;
        }
        let mut state = self.partition.state.borrow_mut();
        state.migrated.unindexed = None;
        let Some(at) = state.segments.index_of(segment_base) else {
            return Ok(());
        };
        let segment = &mut state.segments.all[at];
        segment.index_entries = (from + added) as u32;
        segment.time_entries = (time_from + times_added) as u32;
        if seals {
            segment.index.offsets = Vec::new();
            segment.index.times = Vec::new();
        }
        segment.offsets_written = segment.index.offsets.len();
        segment.times_written = segment.index.times.len();
        Ok(())
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
        for extension in ["index", "timeindex"] {
            // What an earlier, longer life left behind its entries is cut off; an empty file is made.
            let count = self.index_file_bytes(segment_base, extension);
            write_at(
                &directory.join(file_stem(segment_base)).with_extension(extension),
                Vec::new(),
                count,
            )
            .await?;
        }
        Ok(())
    }

    /// Bytes of a segment's index file.
    fn index_file_bytes(&self, segment_base: i64, extension: &str) -> usize {
        let state = self.partition.state.borrow();
        let segment = state
            .segments
            .index_of(segment_base)
            .map(|at| &state.segments.all[at]);
        segment.map_or(0, |segment| match extension {
            "index" => segment.index_entries as usize * INDEX_ENTRY_BYTES,
            _ => segment.time_entries as usize * TIME_ENTRY_BYTES,
        })
    }

    /// Checks after a start that the segments' files hold what the checkpoint says, and loads the active one's index.
    pub(crate) async fn open_files(&self) -> Result<(), StorageError> {
        self.check_files(i64::MIN).await?;
        self.cut_reserved().await?;
        self.load_active_index(i64::MIN).await
    }

    /// Loads the active segment's index, unless it holds only records before `start`. What is migrated before that is
    /// not known to continue an index: the last time would be in it twice.
    pub(crate) async fn load_active_index(&self, start: i64) -> Result<(), StorageError> {
        let active = {
            let state = self.partition.state.borrow();
            let mut on_disk = state.segments.all.iter().filter(|segment| segment.migrated > 0);
            let newest = on_disk.next_back();
            newest
                .filter(|newest| !newest.is_sealed && state.migrated.next_offset > start)
                .map(|newest| newest.base_offset)
        };
        match active {
            Some(active) => self.load_index(active).await,
            None => Ok(()),
        }
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

    async fn load_index(&self, segment_base: i64) -> Result<(), StorageError> {
        let stem = self.directory().join(file_stem(segment_base));
        let pool = &self.partition.shared.staging;
        let offsets = read_index(&stem.with_extension("index"), pool).await;
        let times = read_index(&stem.with_extension("timeindex"), pool).await;
        let is_whole = {
            let mut state = self.partition.state.borrow_mut();
            let Some(at) = state.segments.index_of(segment_base) else {
                return Ok(());
            };
            let segment = &mut state.segments.all[at];
            let offsets = offsets
                .get(..segment.index_entries as usize * INDEX_ENTRY_BYTES)
                .and_then(|bytes| index::decode_offsets(bytes, segment.migrated));
            let times = times
                .get(..segment.time_entries as usize * TIME_ENTRY_BYTES)
                .and_then(index::decode_times);
            match (offsets, times) {
                (Some(offsets), Some(times)) => {
                    (segment.offsets_written, segment.times_written) = (offsets.len(), times.len());
                    (segment.index.offsets, segment.index.times) = (offsets, times);
                    true
                }
                _ => false,
            }
        };
        if is_whole {
            Ok(())
        } else {
            self.rebuild_index(segment_base).await
        }
    }

    /// The index of the active segment from its batches.
    async fn rebuild_index(&self, segment_base: i64) -> Result<(), StorageError> {
        let interval = self.partition.config.get().index_interval_bytes;
        let mut index = SegmentIndex::new();
        self.walk_segment(segment_base, |header, position| {
            index_batch(&mut index, segment_base, position, header, interval);
        })
        .await?;
        let mut state = self.partition.state.borrow_mut();
        if let Some(at) = state.segments.index_of(segment_base) {
            let segment = &mut state.segments.all[at];
            segment.index = index;
            (segment.index_entries, segment.time_entries) = (0, 0);
            (segment.offsets_written, segment.times_written) = (0, 0);
        }
        Ok(())
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
