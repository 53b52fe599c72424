//! The segments of a partition: which bytes of its log are where, and where one ends and the next begins. Pure.
//!
//! A log is a stream of bytes; a segment is a stretch of it, named by its first offset. Positions in the stream count
//! from the first segment that is known, so that "how many bytes from here to there" is a subtraction.

use smallvec::SmallVec;
use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

use crate::index::{EntryCounts, IndexCount, IndexEntry, SegmentIndex, TimeEntry};
use crate::journal::{LARGEST_RECORD_MAX, LARGEST_RECORD_ROOM};

/// A stretch of the log.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    /// Where in the partition's stream it begins.
    pub(crate) stream_start: u64,
    /// Bytes that were appended to it, in memory or on disk.
    pub(crate) appended: u32,
    /// Bytes that migration has taken: whole blocks on disk, the rest in the partition's partial block.
    pub(crate) migrated: u32,
    /// It is on disk to its last byte, and the file ends there.
    pub(crate) is_sealed: bool,
    /// Of the migrated bytes, what is in memory: what is not in its files yet, and what else was added in this life, as long
    /// as there is memory for it. Emptied when the segment is sealed.
    pub(crate) index: SegmentIndex,
    /// Entries of the index that are in its files, or were when it was sealed.
    pub(crate) index_entries: u32,
    /// Entries of the time index that are in its file, or were when it was sealed.
    pub(crate) time_entries: u32,
    /// How many of the entries in memory are in the files.
    pub(crate) offsets_written: usize,
    /// The same of the time index.
    pub(crate) times_written: usize,
    /// What is in its index files alone was looked at, or written, in this life.
    pub(crate) is_index_known: bool,
    /// Of the appended bytes.
    pub(crate) times: SegmentTimes,
    /// Of the appended bytes.
    pub(crate) index_count: IndexCount,
    /// So much earlier than others it ends by its age, in milliseconds.
    pub(crate) jitter_ms: u64,
    /// How often it was compacted. From 1 on its offsets have holes.
    pub(crate) generation: u32,
    /// Its files have the names that a compacted segment has until both checkpoints say that it is the one.
    pub(crate) is_aside: bool,
}

/// Of which times a segment's batches are, and when they were appended; in milliseconds since 1970. They decide when it
/// ends, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentTimes {
    /// The largest timestamp of the first batch; -1 without one.
    pub(crate) first_timestamp_ms: i64,
    /// The largest of all batches; -1 without one.
    pub(crate) max_timestamp_ms: i64,
    /// When the first batch was appended.
    pub(crate) begun_ms: i64,
    /// When the newest batch was appended.
    pub(crate) appended_ms: i64,
}

impl SegmentTimes {
    fn of(batch: &NextBatch) -> SegmentTimes {
        SegmentTimes {
            first_timestamp_ms: batch.max_timestamp_ms,
            max_timestamp_ms: batch.max_timestamp_ms,
            begun_ms: batch.appended_ms,
            appended_ms: batch.appended_ms,
        }
    }

    fn add(&mut self, batch: &NextBatch) {
        self.max_timestamp_ms = self.max_timestamp_ms.max(batch.max_timestamp_ms);
        self.appended_ms = self.appended_ms.max(batch.appended_ms);
    }

    /// How old the segment is for a batch that would be its next: by the timestamps of both, as Kafka has it, or since
    /// it was begun if its first batch has none.
    fn age_ms(&self, next: &NextBatch) -> i64 {
        match self.first_timestamp_ms {
            ..0 => next.appended_ms.saturating_sub(self.begun_ms),
            first_ms => next.max_timestamp_ms.saturating_sub(first_ms),
        }
    }
}

/// No batch that was written here has more bytes: only one that Kafka has written. The length of a larger one is believed only
/// if another batch begins behind it.
pub(crate) const OWN_BATCH_BYTES_MAX: usize = LARGEST_RECORD_MAX + LARGEST_RECORD_ROOM;

/// Whether a header can be that of a batch in a segment that has so many bytes more from its beginning on.
pub(crate) fn is_plausible(header: &BatchHeader, bytes_left: usize) -> bool {
    header.magic == 2
        && (BATCH_HEADER_BYTES..=bytes_left).contains(&header.batch_bytes())
        && header.last_offset_delta >= 0
        && header.base_offset < i64::MAX - i64::from(i32::MAX)
}

/// Which file a segment is: what tells it from all others of its partition, before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) base_offset: i64,
    pub(crate) generation: u32,
}

impl SegmentName {
    /// Of a segment as migration writes it.
    pub(crate) fn first(base_offset: i64) -> SegmentName {
        SegmentName {
            base_offset,
            generation: 0,
        }
    }
}

impl Segment {
    pub(crate) fn new(base_offset: i64, stream_start: u64, times: SegmentTimes, jitter_ms: u64) -> Segment {
        Segment {
            base_offset,
            stream_start,
            appended: 0,
            migrated: 0,
            is_sealed: false,
            index: SegmentIndex::new(),
            index_entries: 0,
            time_entries: 0,
            offsets_written: 0,
            times_written: 0,
            is_index_known: false,
            times,
            index_count: IndexCount::NONE,
            jitter_ms,
            generation: 0,
            is_aside: false,
        }
    }

    /// Bytes of memory that its indexes take.
    pub(crate) fn index_memory_bytes(&self) -> usize {
        let SegmentIndex { offsets, times, .. } = &self.index;
        offsets.capacity() * size_of::<IndexEntry>() + times.capacity() * size_of::<TimeEntry>()
    }

    /// Forgets those entries that are in its files: they are read from there.
    pub(crate) fn forget_written_entries(&mut self) {
        let SegmentIndex { offsets, times, .. } = &mut self.index;
        offsets.drain(..std::mem::take(&mut self.offsets_written));
        times.drain(..std::mem::take(&mut self.times_written));
        offsets.shrink_to_fit();
        times.shrink_to_fit();
    }

    /// The entries of its index that are not in its file yet.
    pub(crate) fn unwritten_offsets(&self) -> &[IndexEntry] {
        &self.index.offsets[self.offsets_written..]
    }

    /// The same of its time index.
    pub(crate) fn unwritten_times(&self) -> &[TimeEntry] {
        &self.index.times[self.times_written..]
    }

    /// How many entries are in its files alone: the first of them.
    pub(crate) fn entries_in_files(&self) -> EntryCounts {
        EntryCounts {
            offsets: self.index_entries - self.offsets_written as u32,
            times: self.time_entries - self.times_written as u32,
        }
    }

    pub(crate) fn name(&self) -> SegmentName {
        SegmentName {
            base_offset: self.base_offset,
            generation: self.generation,
        }
    }

    /// Bytes of it that are on disk.
    pub(crate) fn on_disk(&self, block_bytes: u32) -> u32 {
        if self.is_sealed {
            self.migrated
        } else {
            self.migrated - self.migrated % block_bytes
        }
    }
}

/// All segments of a partition, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segments {
    /// Most of many partitions have one, and an append to any of them looks at it: it is where the partition is.
    pub(crate) all: SmallVec<[Segment; 1]>,
}

/// A batch that is to be appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NextBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) bytes: u32,
    /// The largest of its records, in milliseconds since 1970; -1 without any.
    pub(crate) max_timestamp_ms: i64,
    /// When it is appended, in milliseconds since 1970.
    pub(crate) appended_ms: i64,
}

/// When a segment ends: before the batch with which it would be larger, older, or have larger indexes than this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentLimits {
    pub(crate) bytes: u32,
    /// In milliseconds.
    pub(crate) ms: u64,
    /// Of each of its indexes.
    pub(crate) index_bytes: u32,
}

/// Where the next batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment_base: i64,
    pub(crate) file_position: u32,
}

impl Segments {
    /// Where a batch goes: in a new segment if the last one would pass its limits, or its index could not count so far.
    pub(crate) fn position_of_next(&self, next: &NextBatch, limits: &SegmentLimits) -> Position {
        let fits = self.all.last().filter(|last| {
            let age_ms = last.times.age_ms(next).max(0).unsigned_abs();
            !last.is_sealed
                && u64::from(last.appended) + u64::from(next.bytes) <= u64::from(limits.bytes)
                && next.last_offset - last.base_offset <= i64::from(i32::MAX)
                && age_ms <= limits.ms.saturating_sub(last.jitter_ms)
                && !last.index_count.is_full(limits.index_bytes)
        });
        match fits {
            Some(last) => Position {
                segment_base: last.base_offset,
                file_position: last.appended,
            },
            None => Position {
                segment_base: next.base_offset,
                file_position: 0,
            },
        }
    }

    /// Takes a batch at the position that was found for it. `jitter_ms` is asked for if it begins a segment.
    pub(crate) fn append(
        &mut self,
        position: Position,
        batch: &NextBatch,
        index_interval_bytes: u32,
        jitter_ms: impl FnOnce() -> u64,
    ) {
        if position.file_position == 0 {
            let times = SegmentTimes::of(batch);
            let segment = Segment::new(position.segment_base, self.stream_end(), times, jitter_ms());
            self.all.push(segment);
        }
        let last = self.all.last_mut().expect("one was there, or was made");
        assert_eq!(
            (last.base_offset, last.appended),
            (position.segment_base, position.file_position)
        );
        last.appended += batch.bytes;
        last.times.add(batch);
        let largest_ms = last.times.max_timestamp_ms;
        last.index_count
            .add(largest_ms, batch.bytes, index_interval_bytes);
    }

    /// Segments before the last have fewer bytes than they had: those that follow stay where they are in the stream.
    pub(crate) fn close_gaps(&mut self) {
        let Some((last, before)) = self.all.split_last_mut() else {
            return;
        };
        let mut next_start = last.stream_start;
        for segment in before.iter_mut().rev() {
            // Never before 0, unless compaction made something larger: then distances are too short, which only delays.
            next_start = next_start.saturating_sub(u64::from(segment.appended));
            segment.stream_start = next_start;
        }
    }

    /// Bytes of the whole log.
    pub(crate) fn stream_end(&self) -> u64 {
        self.all
            .last()
            .map_or(0, |last| last.stream_start + u64::from(last.appended))
    }

    /// How many are complete, and not sealed.
    pub(crate) fn unsealed(&self) -> usize {
        (self.all.len() - self.sealed()).saturating_sub(1)
    }

    /// How many are sealed: the first ones.
    pub(crate) fn sealed(&self) -> usize {
        self.all.partition_point(|segment| segment.is_sealed)
    }

    /// The segment that `offset` is in, if it is in any.
    pub(crate) fn index_of(&self, offset: i64) -> Option<usize> {
        self.all
            .partition_point(|segment| segment.base_offset <= offset)
            .checked_sub(1)
    }
}

/// The name of a segment's file, without its extension: Kafka's 20 digits.
pub(crate) fn file_stem(base_offset: i64) -> String {
    format!("{base_offset:020}")
}

/// The name of one of a segment's files as long as it is not at its place: `<stem>.log.<generation>.cleaned`.
pub(crate) fn aside_name(name: SegmentName, extension: &str) -> String {
    let stem = file_stem(name.base_offset);
    format!("{stem}.{extension}.{}.{ASIDE_EXTENSION}", name.generation)
}

/// Whether a file's name is such a one.
pub(crate) fn is_aside_name(name: &str) -> bool {
    name.ends_with(&format!(".{ASIDE_EXTENSION}"))
}

const ASIDE_EXTENSION: &str = "cleaned";

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMITS: SegmentLimits = SegmentLimits {
        bytes: 1_000,
        ms: u64::MAX,
        index_bytes: u32::MAX,
    };

    fn next(base_offset: i64, last_offset: i64, bytes: u32) -> NextBatch {
        NextBatch {
            base_offset,
            last_offset,
            bytes,
            max_timestamp_ms: -1,
            appended_ms: 0,
        }
    }

    fn append(segments: &mut Segments, batch: &NextBatch, limits: &SegmentLimits) -> Position {
        let position = segments.position_of_next(batch, limits);
        segments.append(position, batch, 0, || 0);
        position
    }

    #[test]
    fn batches_fill_a_segment_and_the_one_that_does_not_fit_begins_the_next() {
        let mut segments = Segments::default();
        let mut at = Vec::new();
        for offset in 0..5 {
            let batch = next(offset * 10, offset * 10 + 9, 400);
            let position = append(&mut segments, &batch, &NO_LIMITS);
            at.push((position.segment_base, position.file_position));
        }
        assert_eq!(at, [(0, 0), (0, 400), (20, 0), (20, 400), (40, 0)]);
        assert_eq!(segments.stream_end(), 2_000);
        assert_eq!(segments.index_of(25), Some(1));
        assert_eq!(segments.index_of(-1), None);
    }

    #[test]
    fn a_segment_that_shrinks_leaves_no_gap_in_the_stream() {
        let mut segments = Segments::default();
        let one = SegmentLimits {
            bytes: 400,
            ..NO_LIMITS
        };
        for offset in 0..4 {
            append(&mut segments, &next(offset, offset, 400), &one);
        }
        segments.all[1].appended = 100;
        segments.close_gaps();
        let starts: Vec<u64> = segments.all.iter().map(|segment| segment.stream_start).collect();
        assert_eq!(starts, [300, 700, 800, 1_200]);
        assert_eq!(segments.stream_end(), 1_600);
    }

    #[test]
    fn an_offset_too_far_for_the_index_begins_a_segment() {
        let mut segments = Segments::default();
        append(&mut segments, &next(5, 9, 100), &NO_LIMITS);
        let far = 5 + i64::from(i32::MAX);
        let at = |last_offset| segments.position_of_next(&next(10, last_offset, 100), &NO_LIMITS);
        assert_eq!(at(far).file_position, 100);
        assert_eq!(at(far + 1).file_position, 0);
    }

    /// Whether a batch of that timestamp, appended then, begins a segment behind one of these.
    fn begins(before: &[(i64, i64)], jitter_ms: u64, (max_timestamp_ms, appended_ms): (i64, i64)) -> bool {
        let limits = SegmentLimits { ms: 100, ..NO_LIMITS };
        let mut segments = Segments::default();
        for (number, &(max_timestamp_ms, appended_ms)) in (0..).zip(before) {
            let batch = NextBatch {
                max_timestamp_ms,
                appended_ms,
                ..next(number, number, 10)
            };
            let position = Position {
                segment_base: 0,
                file_position: segments.stream_end() as u32,
            };
            segments.append(position, &batch, 0, || jitter_ms);
        }
        let batch = NextBatch {
            max_timestamp_ms,
            appended_ms,
            ..next(50, 50, 10)
        };
        segments.position_of_next(&batch, &limits).file_position == 0
    }

    #[test]
    fn a_segment_ends_by_the_timestamps_of_its_first_batch_and_the_next_whenever_they_come() {
        for (before, batch, is_new) in [
            (&[(1_000, 0)][..], (1_100, 900), false),
            (&[(1_000, 0)], (1_101, 0), true),
            // Not by the largest so far, nor by the newest.
            (&[(1_000, 0), (1_090, 0)], (1_101, 0), true),
            // A batch of older records fits.
            (&[(1_000, 0)], (5, 900), false),
            (&[(1_000, 0)], (-1, 900), false),
            // Without a timestamp the time since it was begun counts.
            (&[(-1, 1_000)], (9_999, 1_100), false),
            (&[(-1, 1_000)], (-1, 1_101), true),
            (&[(-1, 1_000), (5_000, 1_050)], (5_000, 1_101), true),
            (&[(-1, 1_000)], (-1, 10), false),
            (&[(0, 0)], (i64::MAX, 0), true),
        ] {
            assert_eq!(begins(before, 0, batch), is_new, "{before:?}, {batch:?}");
        }
        assert!(begins(&[(1_000, 0)], 30, (1_071, 0)));
        assert!(!begins(&[(1_000, 0)], 30, (1_070, 0)));
        assert!(
            !begins(&[(1_000, 0)], 500, (1_000, 0)),
            "the same moment is no age"
        );
    }

    #[test]
    fn a_segment_ends_before_its_index_is_too_large() {
        let limits = SegmentLimits {
            index_bytes: 31,
            ..NO_LIMITS
        };
        let mut segments = Segments::default();
        // An entry for each batch but the first; 31 bytes are three, and batches without timestamps have none in the other.
        let starts: Vec<i64> = (0..9)
            .map(|offset| append(&mut segments, &next(offset, offset, 10), &limits).segment_base)
            .collect();
        assert_eq!(starts, [0, 0, 0, 0, 4, 4, 4, 4, 8]);
    }
}
