//! Offsets by time: the first record at or after one, and the record with the largest.

use ring::buffer::Slice;
use wire::record_batch::{self, BATCH_HEADER_BYTES, RecordBatch};
use wire::{BatchHeader, Compression};

use super::PartitionLog;
use crate::error::StorageError;
use crate::index;

/// Looked at in one step, in bytes.
const STEP_BYTES: usize = 256 << 10;
/// The most that a batch may unpack to for its records to be looked at. A larger one is found by its first offset.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// A record's offset, its timestamp in milliseconds since 1970, and the leader epoch that wrote it.
type Found = (i64, i64, i32);

impl PartitionLog {
    /// The first record whose timestamp is `timestamp_ms` or later, among those that are durable.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub async fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<Found>, StorageError> {
        let Some(mut offset) = self.first_possible(timestamp_ms).await? else {
            return Ok(None);
        };
        let end = self.high_watermark();
        while offset < end {
            let extent = match self.read(offset, STEP_BYTES, true, end) {
                Ok(extent) => extent,
                Err(_) => return Ok(None),
            };
            let slices = self.load(extent).await?;
            let mut next = offset;
            for batch in slices.iter().flat_map(|slice| record_batch::batches(slice)) {
                let Ok(batch) = batch else { break };
                next = batch.header().next_offset();
                if batch.header().max_timestamp_ms >= timestamp_ms
                    && let Some(found) = first_record(&batch, offset, |time_ms| time_ms >= timestamp_ms)
                {
                    return Ok(Some(found));
                }
            }
            if next == offset {
                return Err(StorageError::OutOfMemory {
                    bytes: STEP_BYTES,
                    pool: self.partition.shared.reading.name(),
                });
            }
            offset = next;
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of all, among those that are durable.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub async fn max_timestamp_offset(&self) -> Result<Option<Found>, StorageError> {
        let Some((largest, offset)) = self.largest_timestamp() else {
            return Ok(None);
        };
        let Ok(extent) = self.read(offset, 1, true, self.high_watermark()) else {
            return Ok(None);
        };
        let slices: Vec<Slice> = self.load(extent).await?;
        let batch = slices
            .iter()
            .flat_map(|slice| record_batch::batches(slice))
            .next();
        let Some(Ok(batch)) = batch else { return Ok(None) };
        Ok(first_record(&batch, batch.header().base_offset, |time_ms| {
            time_ms >= largest
        }))
    }

    /// From where on a record of that time or later may be.
    async fn first_possible(&self, timestamp_ms: i64) -> Result<Option<i64>, StorageError> {
        let (base_offset, bytes, active) = {
            let state = self.partition.state.borrow();
            let candidate = (state.segments.all.iter())
                .find(|segment| !segment.is_sealed || segment.index.max_timestamp_ms >= timestamp_ms);
            let Some(candidate) = candidate else {
                return Ok(None);
            };
            let known = index::first_possible(&candidate.index.times, timestamp_ms);
            let relative = (!candidate.is_sealed).then_some(known);
            (candidate.base_offset, candidate.migrated, relative)
        };
        let relative = match active {
            Some(relative) => relative,
            None => {
                let shared = &self.partition.shared;
                let (directory, id, pool) = (self.directory(), self.partition.id, &shared.staging);
                let index = shared
                    .files
                    .sealed_index(&directory, id, base_offset, bytes, pool)
                    .await?;
                index::first_possible(&index.times, timestamp_ms)
            }
        };
        Ok(Some(
            (base_offset + i64::from(relative)).max(self.log_start_offset()),
        ))
    }

    /// The largest timestamp, and an offset in the first batch that has it.
    fn largest_timestamp(&self) -> Option<(i64, i64)> {
        let state = self.partition.state.borrow();
        let mut largest: Option<(i64, i64)> = None;
        let mut look = |timestamp_ms: i64, offset: i64| {
            if timestamp_ms >= 0 && largest.is_none_or(|(known, _)| timestamp_ms > known) {
                largest = Some((timestamp_ms, offset));
            }
        };
        for segment in state.segments.all.iter().filter(|segment| segment.migrated > 0) {
            let offset = segment.base_offset + i64::from(segment.index.max_timestamp_offset);
            look(segment.index.max_timestamp_ms, offset);
        }
        for piece in state.tail.range(state.migrated_pieces..) {
            if piece.next_offset > self.high_watermark() {
                break;
            }
            let bytes = piece.group.bytes(piece.place);
            let header = bytes
                .as_ref()
                .and_then(|bytes| bytes.first_chunk::<BATCH_HEADER_BYTES>());
            if let Some(header) = header.map(BatchHeader::decode) {
                look(header.max_timestamp_ms, header.base_offset);
            }
        }
        largest
    }
}

/// The first record from `from` on whose time satisfies `is_it`. A batch that cannot be opened answers with its first
/// offset and its largest time: a client wrote something else into it than records.
fn first_record(batch: &RecordBatch<'_>, from: i64, is_it: impl Fn(i64) -> bool) -> Option<Found> {
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
