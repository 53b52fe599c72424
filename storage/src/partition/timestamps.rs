//! Offsets by time: the first record at or after one, and the record with the largest.

use std::ops::Range;

use ring::buffer::Slice;
use wire::Compression;
use wire::record_batch::{self, RecordBatch};

use super::piece::Piece;
use super::{PartitionLog, State};
use crate::error::StorageError;
use crate::index;
use crate::segment::Segment;

/// Looked at in one step, in bytes.
const STEP_BYTES: usize = 256 << 10;
/// The most that a batch may unpack to for its records to be looked at. A larger one is found by its first offset.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// A record's offset, its timestamp in milliseconds since 1970, and the leader epoch that wrote it.
type Found = (i64, i64, i32);

/// A part of the log that is looked through at a time: what is migrated of a segment, or a batch that is not.
struct Stretch {
    /// Of its segment.
    base_offset: i64,
    /// Where to begin to look, as far as it is known without a file.
    begin: i64,
    /// The offset after its last.
    end: i64,
    /// Bytes of its segment, if that is sealed: its index is in its files.
    sealed_bytes: Option<u32>,
}

impl PartitionLog {
    /// The first record whose timestamp is `timestamp_ms` or later, among those that are durable. Reads only of segments
    /// that have a batch of such a time, from where their time index says.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub async fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<Found>, StorageError> {
        let mut from = self.log_start_offset();
        while let Some(stretch) = self.stretch_with(timestamp_ms, from) {
            let begin = self.first_possible(&stretch, timestamp_ms).await?;
            let offsets = begin.max(from)..stretch.end;
            let found = self.walk_offsets(offsets, |batch, from| {
                let may_have = batch.header().max_timestamp_ms >= timestamp_ms;
                may_have.then(|| first_record(batch, from, |time_ms| time_ms >= timestamp_ms))?
            });
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
            // Its records are older than its headers say, or the one that is not was deleted.
            from = stretch.end;
        }
        Ok(None)
    }

    /// Shows the batches of `offsets`, each with the offset from which on its records count, until `visit` gives
    /// something.
    async fn walk_offsets(
        &self,
        offsets: Range<i64>,
        mut visit: impl FnMut(&RecordBatch<'_>, i64) -> Option<Found>,
    ) -> Result<Option<Found>, StorageError> {
        let mut offset = offsets.start;
        loop {
            // Records may be deleted meanwhile.
            offset = offset.max(self.log_start_offset());
            if offset >= offsets.end {
                return Ok(None);
            }
            let Ok(extent) = self.read(offset, STEP_BYTES, true, offsets.end) else {
                return Ok(None);
            };
            let slices = self.load(extent).await?;
            let mut next = offset;
            for batch in slices.iter().flat_map(|slice| record_batch::batches(slice)) {
                let Ok(batch) = batch else { break };
                next = batch.header().next_offset();
                if let Some(found) = visit(&batch, offset) {
                    return Ok(Some(found));
                }
            }
            if next == offset && self.log_start_offset() <= offset {
                return Err(StorageError::OutOfMemory {
                    bytes: STEP_BYTES,
                    pool: self.partition.shared.reading.name(),
                });
            }
            offset = next;
        }
    }

    /// The first record that has the largest timestamp of all, among those that are durable.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub async fn max_timestamp_offset(&self) -> Result<Option<Found>, StorageError> {
        let start = self.log_start_offset();
        let Some(largest) = self.largest_timestamp(start) else {
            return Ok(None);
        };
        if let Some(found) = self.first_with(largest, start).await? {
            return Ok(Some(found));
        }
        // It was deleted, and its segment is still there: what is left of that is looked through.
        let end = self.segment_end(start);
        let mut left: Option<(i64, i64)> = None;
        let walked = self.walk_offsets(start..end, |batch, from| {
            let header = batch.header();
            let mut look = |time_ms: i64| {
                if time_ms >= 0 && left.is_none_or(|(known, _)| time_ms > known) {
                    left = Some((time_ms, header.last_offset()));
                }
            };
            if header.base_offset < from {
                first_record(batch, from, |time_ms| {
                    look(time_ms);
                    false
                });
            } else {
                look(header.max_timestamp_ms);
            }
            None
        });
        walked.await?;
        let later = self.largest_timestamp(end);
        let largest = match (left, later) {
            (Some(left), Some(later)) if later.0 > left.0 => later,
            (Some(left), _) => left,
            (None, Some(later)) => later,
            (None, None) => return Ok(None),
        };
        self.first_with(largest, start).await
    }

    /// The first record of that time, from `start` on, in the batch that holds an offset.
    async fn first_with(
        &self,
        (timestamp_ms, offset): (i64, i64),
        start: i64,
    ) -> Result<Option<Found>, StorageError> {
        let Ok(extent) = self.read(offset, 1, true, self.high_watermark()) else {
            return Ok(None);
        };
        let slices: Vec<Slice> = self.load(extent).await?;
        let batch = slices
            .iter()
            .flat_map(|slice| record_batch::batches(slice))
            .next();
        let Some(Ok(batch)) = batch else {
            return Err(StorageError::OutOfMemory {
                bytes: STEP_BYTES,
                pool: self.partition.shared.reading.name(),
            });
        };
        Ok(first_record(&batch, start, |time_ms| time_ms >= timestamp_ms))
    }

    /// Where the segment ends that an offset is in, as far as it can be read.
    fn segment_end(&self, offset: i64) -> i64 {
        let state = self.partition.state.borrow();
        let segments = &state.segments.all;
        let after = segments.partition_point(|segment| segment.base_offset <= offset);
        let end = self.high_watermark();
        segments.get(after).map_or(end, |next| next.base_offset.min(end))
    }

    /// The first stretch of the log, from `from` on, that has a batch of that time or later.
    fn stretch_with(&self, timestamp_ms: i64, from: i64) -> Option<Stretch> {
        let state = self.partition.state.borrow();
        let mut parts = migrated_parts(&state);
        let part = parts.find(|(segment, end)| *end > from && segment.index.max_timestamp_ms >= timestamp_ms);
        if let Some((segment, end)) = part {
            let known = index::first_possible(&segment.index.times, timestamp_ms);
            return Some(Stretch {
                base_offset: segment.base_offset,
                begin: segment.base_offset + i64::from(known),
                end,
                sealed_bytes: segment.is_sealed.then_some(segment.migrated),
            });
        }
        let mut pieces = unmigrated_pieces(&state, from, self.high_watermark());
        let piece = pieces.find(|piece| piece.max_timestamp_ms >= timestamp_ms)?;
        Some(Stretch {
            base_offset: piece.segment_base,
            begin: piece.base_offset,
            end: piece.next_offset,
            sealed_bytes: None,
        })
    }

    /// From where on in the stretch a record of that time or later may be.
    async fn first_possible(&self, stretch: &Stretch, timestamp_ms: i64) -> Result<i64, StorageError> {
        let Some(bytes) = stretch.sealed_bytes else {
            return Ok(stretch.begin);
        };
        let shared = &self.partition.shared;
        let (directory, id, base_offset) = (self.directory(), self.partition.id, stretch.base_offset);
        let index = shared
            .files
            .sealed_index(&directory, id, base_offset, bytes, &shared.staging);
        let known = index::first_possible(&index.await?.times, timestamp_ms);
        Ok(base_offset + i64::from(known))
    }

    /// The largest timestamp from `from` on, and an offset in the first batch that has it. It may be of a batch before
    /// `from` that is in the same segment.
    fn largest_timestamp(&self, from: i64) -> Option<(i64, i64)> {
        let state = self.partition.state.borrow();
        let mut largest: Option<(i64, i64)> = None;
        let mut look = |timestamp_ms: i64, offset: i64| {
            if timestamp_ms >= 0 && largest.is_none_or(|(known, _)| timestamp_ms > known) {
                largest = Some((timestamp_ms, offset));
            }
        };
        for (segment, end) in migrated_parts(&state).filter(|(_, end)| *end > from) {
            let offset = segment.base_offset + i64::from(segment.index.max_timestamp_offset);
            debug_assert!(offset < end);
            look(segment.index.max_timestamp_ms, offset);
        }
        for piece in unmigrated_pieces(&state, from, self.high_watermark()) {
            look(piece.max_timestamp_ms, piece.next_offset - 1);
        }
        largest
    }
}

/// The segments that have migrated batches, each with the offset after the last of them.
fn migrated_parts(state: &State) -> impl Iterator<Item = (&Segment, i64)> {
    let segments = &state.segments.all;
    let on_disk = segments
        .iter()
        .enumerate()
        .filter(|(_, segment)| segment.migrated > 0);
    on_disk.map(move |(at, segment)| {
        let next = segments.get(at + 1).filter(|_| segment.is_sealed);
        let end = next.map_or(state.migrated.next_offset, |next| next.base_offset);
        (segment, end)
    })
}

/// The batches that are durable and not migrated, from the one that holds `from` on.
fn unmigrated_pieces(state: &State, from: i64, high_watermark: i64) -> impl Iterator<Item = &Piece> {
    let after = state.tail.partition_point(|piece| piece.next_offset <= from);
    let pieces = state.tail.range(after.max(state.migrated_pieces)..);
    pieces.take_while(move |piece| piece.next_offset <= high_watermark)
}

/// The first record from `from` on whose time satisfies `is_it`. A batch that cannot be opened answers with its first
/// offset and its largest time: a client wrote something else into it than records.
fn first_record(batch: &RecordBatch<'_>, from: i64, mut is_it: impl FnMut(i64) -> bool) -> Option<Found> {
    let header = batch.header();
    let epoch = header.partition_leader_epoch;
    let whole = (header.base_offset.max(from), header.max_timestamp_ms, epoch);
    if header.attributes.is_log_append_time() {
        return is_it(header.max_timestamp_ms).then_some(whole);
    }
    let unpacked = header
        .attributes
        .compression()
        .and_then(|codec: Compression| codec.decompress(batch.records_bytes(), UNPACKED_BYTES_MAX).ok());
    let Some(unpacked) = unpacked else {
        return is_it(header.max_timestamp_ms).then_some(whole);
    };
    for record in wire::record::records(&unpacked, header.record_count) {
        let Ok(record) = record else {
            return is_it(header.max_timestamp_ms).then_some(whole);
        };
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        let time_ms = header.base_timestamp_ms.saturating_add(record.timestamp_delta_ms);
        if offset >= from && is_it(time_ms) {
            return Some((offset, time_ms, epoch));
        }
    }
    None
}
