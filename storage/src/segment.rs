//! The segments of a partition: which bytes of its log are where. Pure.
//!
//! A log is a stream of bytes; a segment is a stretch of it, named by its first offset. Positions in the stream count
//! from the first segment that is known, so that "how many bytes from here to there" is a subtraction.

use crate::index::SegmentIndex;

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
    /// Of the migrated bytes. Emptied when the segment is sealed: it is in its files then.
    pub(crate) index: SegmentIndex,
    /// Entries of the index that are in its files, or were when it was sealed.
    pub(crate) index_entries: u32,
    /// Entries of the time index that are in its file, or were when it was sealed.
    pub(crate) time_entries: u32,
    /// How many of the entries in memory are in the files: fewer than there, before the index was loaded.
    pub(crate) offsets_written: usize,
    /// The same of the time index.
    pub(crate) times_written: usize,
}

impl Segment {
    pub(crate) fn new(base_offset: i64, stream_start: u64) -> Segment {
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
    pub(crate) all: Vec<Segment>,
}

/// Where the next batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment_base: i64,
    pub(crate) file_position: u32,
}

impl Segments {
    /// Where a batch of `bytes` with these offsets goes: in a new segment if the last one would pass `segment_bytes`,
    /// or its index could not count so far.
    pub(crate) fn position_of_next(
        &self,
        base_offset: i64,
        last_offset: i64,
        bytes: usize,
        segment_bytes: u32,
    ) -> Position {
        let fits = self.all.last().filter(|last| {
            !last.is_sealed
                && last.appended as usize + bytes <= segment_bytes as usize
                && last_offset - last.base_offset <= i64::from(i32::MAX)
        });
        match fits {
            Some(last) => Position {
                segment_base: last.base_offset,
                file_position: last.appended,
            },
            None => Position {
                segment_base: base_offset,
                file_position: 0,
            },
        }
    }

    /// Takes a batch at the position that was found for it.
    pub(crate) fn append(&mut self, position: Position, bytes: u32) {
        if position.file_position == 0 {
            let stream_start = self.stream_end();
            self.all.push(Segment::new(position.segment_base, stream_start));
        }
        let last = self.all.last_mut().expect("one was there, or was made");
        assert_eq!(
            (last.base_offset, last.appended),
            (position.segment_base, position.file_position)
        );
        last.appended += bytes;
    }

    /// Bytes of the whole log.
    pub(crate) fn stream_end(&self) -> u64 {
        self.all
            .last()
            .map_or(0, |last| last.stream_start + u64::from(last.appended))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fill_a_segment_and_the_one_that_does_not_fit_begins_the_next() {
        let mut segments = Segments::default();
        let mut at = Vec::new();
        for offset in 0..5 {
            let position = segments.position_of_next(offset * 10, offset * 10 + 9, 400, 1_000);
            segments.append(position, 400);
            at.push((position.segment_base, position.file_position));
        }
        assert_eq!(at, [(0, 0), (0, 400), (20, 0), (20, 400), (40, 0)]);
        assert_eq!(segments.stream_end(), 2_000);
        assert_eq!(segments.index_of(25), Some(1));
        assert_eq!(segments.index_of(-1), None);
    }

    #[test]
    fn an_offset_too_far_for_the_index_begins_a_segment() {
        let mut segments = Segments::default();
        segments.append(segments.position_of_next(5, 9, 100, 1_000), 100);
        let far = 5 + i64::from(i32::MAX);
        assert_eq!(segments.position_of_next(10, far, 100, 1_000).file_position, 100);
        assert_eq!(
            segments.position_of_next(10, far + 1, 100, 1_000).file_position,
            0
        );
    }
}
