//! Offsets by time: the first record at or after one, and the record with the largest.

use std::ops::{ControlFlow, Range};

use ring::buffer::Slice;
use ring::executor::yield_now;
use wire::record_batch::{self, RecordBatch};

use super::piece::Piece;
use super::{PartitionLog, State};
use crate::error::StorageError;
use crate::index::{self, EntryCounts, TimeEntry};
use crate::opening::{OpenError, Opened, OpeningBudget, Turn};
use crate::segment::{Segment, SegmentName};

/// Looked at in one step, in bytes.
const STEP_BYTES: usize = 256 << 10;
/// What a batch costs at least whose records are older than its header says, in bytes of what a request may have opened.
const LIE_BYTES_MIN: usize = 64 << 10;

/// A record's offset, its timestamp in milliseconds since 1970, and the leader epoch that wrote it.
type Found = (i64, i64, i32);

/// What looking at a batch gives.
enum Look {
    /// Its header says that there is nothing.
    Passed,
    Found(Found),
    /// There is nothing, whatever its header says.
    Lied,
    /// It is large: its memory goes back, and it is looked at again when it is its turn.
    NeedsTurn,
}

/// A part of the log that is looked through at a time: what is migrated of a segment, or a batch that is not.
struct Stretch {
    /// Its segment's.
    name: SegmentName,
    /// Its first offset.
    begin: i64,
    /// Of the entries that are in memory, the last one that is older.
    older: Option<TimeEntry>,
    /// The offset after its last.
    end: i64,
    /// Its segment's bytes, and how many entries of its time index to look at in its files, if there are any.
    in_files: Option<(u32, EntryCounts)>,
}

impl PartitionLog {
    /// The first record whose timestamp is `timestamp_ms` or later, among those that are durable. Reads only of segments
    /// that have a batch of such a time, from where their time index says. Batches whose headers lie of their records'
    /// time cost of the budget; when it is spent, headers are believed: the answer is a batch's first offset and its
    /// largest time.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub async fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        budget: &OpeningBudget,
    ) -> Result<Option<Found>, StorageError> {
        let mut from = self.log_start_offset();
        while let Some(stretch) = self.stretch_with(timestamp_ms, from) {
            let begin = self.first_possible(&stretch, timestamp_ms, from).await;
            let offsets = begin..stretch.end;
            let found = self.walk_offsets(offsets, async |batch, from, turn| {
                if batch.header().max_timestamp_ms < timestamp_ms {
                    return Look::Passed;
                }
                first_record(batch, from, turn, budget, |time_ms| time_ms >= timestamp_ms).await
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
        mut visit: impl AsyncFnMut(&RecordBatch<'_>, i64, Option<&Turn>) -> Look,
    ) -> Result<Option<Found>, StorageError> {
        let mut offset = offsets.start;
        let mut turn = None;
        loop {
            // Records may be deleted meanwhile.
            offset = offset.max(self.log_start_offset());
            if offset >= offsets.end {
                return Ok(None);
            }
            let max_bytes = if turn.is_some() { 1 } else { STEP_BYTES };
            // Of a compacted segment the last offsets may be gone: what comes next is the end then.
            let replaced = self.partition.state.borrow().replaced;
            let Ok(extent) = self.read(offset, max_bytes, true, self.high_watermark()) else {
                return Ok(None);
            };
            let slices = self.load(extent).await?;
            let mut next = offset;
            let mut needs_turn = false;
            for batch in slices.iter().flat_map(|slice| record_batch::batches(slice)) {
                let Ok(batch) = batch else { break };
                if batch.header().base_offset >= offsets.end {
                    return Ok(None);
                }
                let look = visit(&batch, offset, turn.as_ref()).await;
                if let Look::NeedsTurn = look {
                    needs_turn = true;
                    break;
                }
                next = batch.header().next_offset();
                match look {
                    Look::Found(found) => return Ok(Some(found)),
                    // Others go first, and may need the memory.
                    Look::Lied => break,
                    Look::Passed | Look::NeedsTurn => {}
                }
            }
            drop(slices);
            turn = None;
            if needs_turn {
                turn = Some(self.partition.shared.turns.next().await);
            } else if next == offset && self.partition.state.borrow().replaced != replaced {
                // What was there has newer records, beyond what was the end, and is gone.
            } else if next == offset && self.log_start_offset() <= offset {
                return Err(StorageError::OutOfMemory {
                    bytes: STEP_BYTES,
                    pool: self.partition.shared.reading.name(),
                });
            }
            offset = next;
            yield_now().await;
        }
    }

    /// The first record that has the largest timestamp of all, among those that are durable. The budget is as in
    /// [`PartitionLog::offset_for_timestamp`].
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub async fn max_timestamp_offset(&self, budget: &OpeningBudget) -> Result<Option<Found>, StorageError> {
        loop {
            let replaced = self.partition.state.borrow().replaced;
            let found = self.find_max_timestamp(budget).await?;
            // A segment that was compacted meanwhile may have the record no more.
            if self.partition.state.borrow().replaced == replaced {
                return Ok(found);
            }
        }
    }

    async fn find_max_timestamp(&self, budget: &OpeningBudget) -> Result<Option<Found>, StorageError> {
        let start = self.log_start_offset();
        let Some(largest) = self.largest_timestamp(start) else {
            return Ok(None);
        };
        if let Some(found) = self.first_with(largest, start, budget).await? {
            return Ok(Some(found));
        }
        // It was deleted, and its segment is still there: what is left of that is looked through.
        let end = self.segment_end(start);
        let mut left: Option<(i64, i64)> = None;
        let walked = self.walk_offsets(start..end, async |batch, from, turn| {
            let header = batch.header();
            let mut look = |time_ms: i64| {
                if time_ms >= 0 && left.is_none_or(|(known, _)| time_ms > known) {
                    left = Some((time_ms, header.last_offset()));
                }
            };
            if header.base_offset < from {
                let look_on = |time_ms| {
                    look(time_ms);
                    false
                };
                return first_record(batch, from, turn, budget, look_on).await;
            }
            if header.record_count > 0 {
                look(header.max_timestamp_ms);
            }
            Look::Passed
        });
        walked.await?;
        let later = self.largest_timestamp(end);
        let largest = match (left, later) {
            (Some(left), Some(later)) if later.0 > left.0 => later,
            (Some(left), _) => left,
            (None, Some(later)) => later,
            (None, None) => return Ok(None),
        };
        self.first_with(largest, start, budget).await
    }

    /// The first record of that time, from `start` on, in the batch that holds an offset.
    async fn first_with(
        &self,
        (timestamp_ms, offset): (i64, i64),
        start: i64,
        budget: &OpeningBudget,
    ) -> Result<Option<Found>, StorageError> {
        let mut turn = None;
        loop {
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
            let is_it = |time_ms| time_ms >= timestamp_ms;
            match first_record(&batch, start, turn.as_ref(), budget, is_it).await {
                Look::Found(found) => return Ok(Some(found)),
                Look::Passed | Look::Lied => return Ok(None),
                Look::NeedsTurn => {}
            }
            drop(slices);
            turn = Some(self.partition.shared.turns.next().await);
        }
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
            let older = index::last_older(&segment.index.times, timestamp_ms);
            return Some(Stretch {
                name: segment.name(),
                begin: segment.base_offset,
                older,
                end,
                // What is in memory is newer.
                in_files: (older.is_none()).then(|| (segment.migrated, segment.entries_in_files())),
            });
        }
        let mut pieces = unmigrated_pieces(&state, from, self.high_watermark());
        let piece = pieces.find(|piece| piece.max_timestamp_ms >= timestamp_ms)?;
        Some(Stretch {
            name: SegmentName::first(piece.segment_base),
            begin: piece.base_offset,
            older: None,
            end: piece.next_offset,
            in_files: None,
        })
    }

    /// From where on in the stretch, and not before `from`, a record of that time or later may be.
    async fn first_possible(&self, stretch: &Stretch, timestamp_ms: i64, from: i64) -> i64 {
        let name = stretch.name;
        let older = match stretch.in_files {
            Some((bytes, counts)) if counts.times > 0 => {
                let index = self.index_in_files(name, bytes, counts).await;
                index::last_older(&index.times, timestamp_ms)
            }
            _ => stretch.older,
        };
        let first = stretch.begin.max(from);
        let Some(older) = older else { return first };
        let offset = name.base_offset + i64::from(older.relative_offset);
        // Nothing is passed over for an entry that has rotted.
        if (first..stretch.end).contains(&offset) && self.has_time(offset, older.timestamp_ms).await {
            offset
        } else {
            first
        }
    }

    /// Whether the batch that holds an offset is there, with that as its largest time.
    async fn has_time(&self, offset: i64, timestamp_ms: i64) -> bool {
        let Ok(extent) = self.read(offset, 1, true, self.high_watermark()) else {
            return false;
        };
        let Ok(slices) = self.load(extent).await else {
            return false; // what it is will be told when it is read for an answer
        };
        let mut batches = slices.iter().flat_map(|slice| record_batch::batches(slice));
        matches!(batches.next(), Some(Ok(batch)) if {
            let header = batch.header();
            (header.base_offset..header.next_offset()).contains(&offset) && header.max_timestamp_ms == timestamp_ms
        })
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
/// offset and its largest time: a client wrote something else into it than records. So does one that is not opened
/// because the budget is spent.
async fn first_record(
    batch: &RecordBatch<'_>,
    from: i64,
    turn: Option<&Turn>,
    budget: &OpeningBudget,
    mut is_it: impl FnMut(i64) -> bool,
) -> Look {
    let header = batch.header();
    let epoch = header.partition_leader_epoch;
    // Compaction leaves holes, and batches without records.
    if header.record_count == 0 {
        return Look::Passed;
    }
    let has_all = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    let is_log_append_time = header.attributes.is_log_append_time();
    let whole = |is_it: &mut dyn FnMut(i64) -> bool| {
        if is_it(header.max_timestamp_ms) {
            Look::Found((header.base_offset.max(from), header.max_timestamp_ms, epoch))
        } else {
            Look::Passed
        }
    };
    if (is_log_append_time && has_all) || header.attributes.compression().is_none() || budget.is_spent() {
        return whole(&mut is_it);
    }
    let left = budget.left();
    let opened = match turn {
        None => Opened::at_once(batch, budget),
        Some(turn) => Opened::in_steps(batch, budget, turn).await,
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(OpenError::Busy) => return Look::NeedsTurn,
        Err(OpenError::Unreadable(_) | OpenError::Spent) => return whole(&mut is_it),
    };
    let found = opened.each_record(|record| {
        let Ok(record) = record else {
            return ControlFlow::Break(whole(&mut is_it));
        };
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        let time_ms = if is_log_append_time {
            header.max_timestamp_ms
        } else {
            header.base_timestamp_ms.saturating_add(record.timestamp_delta_ms)
        };
        if offset >= from && is_it(time_ms) {
            return ControlFlow::Break(Look::Found((offset, time_ms, epoch)));
        }
        ControlFlow::Continue(())
    });
    match found.await {
        Some(look) => {
            // What is needed for the answer is not what the budget is for.
            budget.restore(left);
            look
        }
        None => {
            budget.spend(LIE_BYTES_MIN.max(batch.bytes().len()));
            Look::Lied
        }
    }
}
