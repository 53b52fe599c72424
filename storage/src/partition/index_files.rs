//! The index files of a partition's segments, as they are written.
//!
//! Owns when entries go from memory into the files of the active segment, when they are forgotten here, and what is done when
//! those files are not whole. Nothing that is wrong with an index loses a record, or ends a migration.

use std::path::Path;

use ring::buffer::Slice;
use ring::file::{Durability, File, OpenOptions};
use wire::BatchHeader;

use super::{Partition, PartitionLog};
use crate::error::StorageError;
use crate::files::read_small;
use crate::index::{self, EntryCounts, INDEX_ENTRY_BYTES, IndexEntry, SegmentIndex, TIME_ENTRY_BYTES};
use crate::segment::{Segment, SegmentName, file_stem};

/// So many entries are written to an index file at a time; fewer wait in memory and in checkpoints. Two files that are opened,
/// written and cut for each block of a log cost more than the log.
const INDEX_RUN_ENTRIES: usize = 64;

impl PartitionLog {
    /// Appends what is new of a segment's indexes to their files, of the one that was written to last: if it is enough, or the
    /// segment is sealed; or anyway if the log is finished. The files end there then, and both are made.
    pub(super) async fn write_index(&self, is_finished: bool) -> Result<(), StorageError> {
        let unindexed = self.partition.state.borrow().migrated.unindexed;
        let Some(segment_base) = unindexed else {
            return Ok(());
        };
        let block = self.partition.shared.block_bytes;
        let due = |segment: &Segment| {
            // Before the first block there may be no directory.
            let is_enough =
                segment.on_disk(block) > 0 && segment.unwritten_offsets().len() >= INDEX_RUN_ENTRIES;
            is_finished || segment.is_sealed || is_enough
        };
        let is_known =
            |segment: &Segment| segment.is_index_known || segment.entries_in_files() == EntryCounts::NONE;
        match self.with_unindexed(segment_base, |segment| (due(segment), is_known(segment))) {
            None | Some((false, _)) => return Ok(()),
            Some((true, true)) => {}
            // Of an earlier life: what follows must not make a file look whole that is not.
            Some((true, false)) => self.look_at_index(segment_base).await?,
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
        let is_last = is_sealed || is_finished;
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
            segment.is_index_known = true;
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
            (active.offsets_written, active.times_written) = (0, 0);
        }
    }

    /// Bytes of memory that the indexes of its active segment take.
    pub(crate) fn index_memory_bytes(&self) -> usize {
        let state = self.partition.state.borrow();
        state.segments.all.iter().map(Segment::index_memory_bytes).sum()
    }

    /// Forgets what is in the index files, too. No migration may be writing them.
    pub(crate) fn forget_written_entries(&self) {
        let mut state = self.partition.state.borrow_mut();
        for segment in &mut state.segments.all {
            segment.forget_written_entries();
        }
    }

    /// Looks whether the index files have what they should, and makes the index anew if they have not. Without a file that
    /// tells all is found, too, only later: nothing that is wrong with them ends a migration.
    ///
    /// # Errors
    /// If they cannot be looked at now.
    async fn look_at_index(&self, segment_base: i64) -> Result<(), StorageError> {
        let Some(counts) = self.with_unindexed(segment_base, |segment| segment.entries_in_files()) else {
            return Ok(());
        };
        let stem = self.directory().join(file_stem(segment_base));
        let pool = &self.partition.shared.staging;
        let offsets = unless_it_passes(read_small(&stem.with_extension("index"), pool).await)?;
        let times = unless_it_passes(read_small(&stem.with_extension("timeindex"), pool).await)?;
        let is_whole = self.with_unindexed(segment_base, |segment| {
            let index = index::decode(&offsets, &times, counts, segment.migrated);
            index.is_some_and(|index| segment.index.follows(&index))
        });
        if is_whole != Some(false) {
            return Ok(());
        }
        let Partition { shared, id, .. } = &*self.partition;
        shared.files.forget_index(*id, SegmentName::first(segment_base));
        let rebuilt = unless_it_passes(self.rebuilt_index(segment_base).await.map(Some))?;
        self.with_unindexed(segment_base, |segment| {
            // What is in memory is right, and so is the rest of the log without the rest of the index.
            if let Some(rebuilt) = rebuilt {
                segment.index = rebuilt;
                if segment.is_sealed {
                    segment.index.add_time();
                }
            }
            (segment.index_entries, segment.time_entries) = (0, 0);
            (segment.offsets_written, segment.times_written) = (0, 0);
        });
        Ok(())
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
}

/// What was read of an index: nothing, if it cannot be read; but it may be another time, if what keeps it from that passes.
fn unless_it_passes<T: Default>(read: Result<T, StorageError>) -> Result<T, StorageError> {
    match read {
        Err(error) if error.may_pass() => Err(error),
        read => Ok(read.unwrap_or_default()),
    }
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
