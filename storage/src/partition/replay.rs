//! A partition from its checkpoint, and the journal's records on top of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use ring::local::{Semaphore, Signal};
use smallvec::SmallVec;
use wire::{BatchHeader, RecordBatch};

use super::direct::Direct;
use super::later::Later;
use super::piece::{Bytes, Piece, Split};
use super::{LogShared, Migrated, Partition, PartitionLog, PartitionSpec, State};
use crate::checkpoint::{PartitionCheckpoint, SegmentCheckpoint};
use crate::commit::{Group, Place};
use crate::index::{IndexCount, SegmentIndex};
use crate::journal::record::{self, Entry, Kind};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::ProducerState;
use crate::segment::{NextBatch, Position, Segment, SegmentTimes, Segments};

/// See [`PartitionLog::unmigrated`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unmigrated {
    pub(crate) batches: usize,
    pub(crate) bytes: u64,
    /// Base offsets of all segments.
    pub(crate) segments: Vec<i64>,
}

impl PartitionLog {
    /// The partition as a checkpoint has it. No file is looked at: see `open_files`.
    pub(crate) fn restore(
        spec: &PartitionSpec,
        saved: PartitionCheckpoint,
        shared: Rc<LogShared>,
    ) -> PartitionLog {
        let mut stream_start = 0;
        let mut all = SmallVec::<[Segment; 1]>::with_capacity(saved.segments.len());
        let now_ms = shared.clock.now_ms();
        for segment in &saved.segments {
            // A checkpoint of an older version does not know.
            let known = |time_ms: i64| if time_ms > 0 { time_ms } else { now_ms };
            let times = SegmentTimes {
                first_timestamp_ms: segment.first_timestamp_ms,
                max_timestamp_ms: segment.max_timestamp_ms,
                begun_ms: known(segment.begun_ms),
                appended_ms: known(segment.appended_ms),
            };
            all.push(Segment {
                appended: segment.length,
                migrated: segment.length,
                is_sealed: segment.is_sealed,
                index_entries: segment.index_entries,
                time_entries: segment.time_entries,
                generation: segment.generation,
                index: SegmentIndex {
                    max_timestamp_ms: segment.max_timestamp_ms,
                    max_timestamp_offset: segment.max_timestamp_offset,
                    newest_time: segment.newest_time,
                    bytes_since_entry: segment.bytes_since_entry,
                    ..SegmentIndex::new()
                },
                index_count: IndexCount {
                    offsets: segment.index_entries,
                    times: segment.time_entries,
                    newest_time_ms: segment.newest_time.map_or(-1, |entry| entry.timestamp_ms),
                    bytes_since_entry: segment.bytes_since_entry,
                },
                ..Segment::new(
                    segment.base_offset,
                    stream_start,
                    times,
                    spec.config.draw_jitter_ms(),
                )
            });
            stream_start += u64::from(segment.length);
        }
        let mut unindexed = None;
        if let Some(active) = all.last_mut().filter(|last| !last.is_sealed) {
            active.index_count.offsets += saved.offsets.len() as u32;
            active.index_count.times += saved.times.len() as u32;
            (active.index.offsets, active.index.times) = (saved.offsets, saved.times);
            unindexed = Some(active.base_offset);
        }
        let state = State {
            next_offset: saved.next_offset,
            segments: Segments { all },
            tail: VecDeque::new(),
            migrated_pieces: 0,
            producers: ProducerState::restore(saved.producers, ring::clock::now()),
            leader_epochs: saved.leader_epochs,
            migrated: Migrated {
                next_offset: saved.next_offset,
                partial: saved.partial,
                reserved: 0,
                unindexed,
            },
            cleaned_to: saved.cleaned_to,
            replacing: Vec::new(),
            replaced: 0,
        };
        let producers = state.producers.len();
        let partition = Rc::new_cyclic(|partition| Partition {
            id: spec.id,
            topic: spec.topic.clone(),
            producers: shared.producers.share(partition),
            direct: Direct::new(),
            later: Later::default(),
            leaving: RefCell::default(),
            making_directory: Semaphore::new(1),
            shared,
            config: Cell::new(spec.config),
            owner_epoch: saved.owner_epoch,
            leader_epoch: Cell::new(state.leader_epochs.newest()),
            log_start_offset: Cell::new(saved.log_start_offset),
            committed_log_start: Cell::new(saved.log_start_offset),
            high_watermark: Cell::new(saved.next_offset),
            moved: Signal::new(),
            is_dropped: Cell::new(false),
            cleaning: Semaphore::new(1),
            state: RefCell::new(state),
        });
        partition.producers.set(producers);
        partition.bound_producers();
        PartitionLog { partition }
    }

    /// Applies a batch of the journal, from a record of that time: the entries that are one, the first of them first.
    /// Everything of it must follow what is here; what does not is said in words. Whether it ends within a block of its
    /// segment that the next batch has to share.
    pub(crate) fn replay(&self, parts: &[Part<'_>], time_ms: i64) -> Result<bool, String> {
        let mut state = self.partition.state.borrow_mut();
        let expected = state.next_offset;
        let Replayed {
            entry,
            length,
            header,
            bytes,
        } = join(parts, self.partition.shared.block_bytes)?;
        if entry.base_offset != expected || entry.next_offset <= expected {
            return Err(format!(
                "the batch for offsets {}..{} does not follow offset {expected}",
                entry.base_offset, entry.next_offset
            ));
        }
        let position = Position {
            segment_base: entry.segment_base,
            file_position: entry.file_position,
        };
        let follows = match state.segments.all.last() {
            _ if position.file_position == 0 => position.segment_base == entry.base_offset,
            Some(last) => {
                (last.base_offset, last.appended) == (position.segment_base, position.file_position)
            }
            None => false,
        };
        if !follows || entry.file_position.checked_add(length).is_none() {
            return Err(format!(
                "the batch at byte {} of segment {} does not follow the segment's end",
                position.file_position, position.segment_base
            ));
        }
        let block_bytes = self.partition.shared.block_bytes;
        let shares = state.tail.back().is_some_and(|last| {
            last.segment_base == entry.segment_base
                && last.ends_within_block(entry.file_position, block_bytes)
        });
        if shares != bytes.begins_within_block(entry.file_position, block_bytes) {
            return Err(format!(
                "the batch for offset {expected} and the one before share a block of the segment that is not whole"
            ));
        }
        let is_within = bytes.ends_within_block(entry.file_position + length, block_bytes);
        if header.base_offset != entry.base_offset || header.next_offset() != entry.next_offset {
            return Err(format!("the batch for offset {expected} says other offsets"));
        }
        let stream_position = state.segments.stream_end();
        let clock = &self.partition.shared.clock;
        let next = NextBatch {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            bytes: length,
            max_timestamp_ms: header.max_timestamp_ms,
            // A record of an older version does not say.
            appended_ms: if time_ms > 0 { time_ms } else { clock.now_ms() },
        };
        let config = self.partition.config.get();
        let jitter_ms = || config.draw_jitter_ms();
        (state.segments).append(position, &next, config.index_interval_bytes, jitter_ms);
        state
            .leader_epochs
            .begin(header.partition_leader_epoch, header.base_offset);
        self.partition.remember(&mut state, &header);
        state.next_offset = entry.next_offset;
        self.partition.high_watermark.set(entry.next_offset);
        self.partition.leader_epoch.set(state.leader_epochs.newest());
        state.tail.push_back(Piece {
            base_offset: entry.base_offset,
            next_offset: entry.next_offset,
            stream_position,
            segment_base: entry.segment_base,
            max_timestamp_ms: header.max_timestamp_ms,
            group: parts[0].group.clone(),
            bytes,
        });
        drop(state);
        self.partition.bound_producers();
        Ok(is_within)
    }

    /// How many batches, and how many bytes of them, are in the journal and not in the segments; and which segments there
    /// will be when they are.
    pub(crate) fn unmigrated(&self) -> Unmigrated {
        let state = self.partition.state.borrow();
        let segments = &state.segments.all;
        Unmigrated {
            batches: state.tail.len() - state.migrated_pieces,
            bytes: segments
                .iter()
                .map(|segment| u64::from(segment.appended - segment.migrated))
                .sum(),
            segments: segments.iter().map(|segment| segment.base_offset).collect(),
        }
    }

    /// Whether a batch has blocks that are in its segment alone, and that only a migration makes readable.
    pub(crate) fn has_split(&self) -> bool {
        let state = self.partition.state.borrow();
        state.tail.range(state.migrated_pieces..).any(Piece::is_split)
    }

    /// The partition as of its last migrated batch.
    pub(crate) fn checkpoint(&self) -> PartitionCheckpoint {
        let partition = &self.partition;
        let state = partition.state.borrow();
        let next_offset = state.migrated.next_offset;
        let segments = state.segments.all.iter();
        // Of a compacted one nothing may be left, and it is there all the same.
        let migrated = segments.filter(|segment| segment.migrated > 0 || segment.is_sealed);
        let starts = state.leader_epochs.starts.iter().copied();
        let active = state.segments.all.iter().find(|segment| !segment.is_sealed);
        PartitionCheckpoint {
            id: partition.id,
            topic: partition.topic.clone(),
            owner_epoch: partition.owner_epoch,
            log_start_offset: partition.committed_log_start.get(),
            next_offset,
            segments: migrated
                .map(|segment| SegmentCheckpoint {
                    base_offset: segment.base_offset,
                    length: segment.migrated,
                    is_sealed: segment.is_sealed,
                    index_entries: segment.index_entries,
                    time_entries: segment.time_entries,
                    max_timestamp_ms: segment.index.max_timestamp_ms,
                    max_timestamp_offset: segment.index.max_timestamp_offset,
                    bytes_since_entry: segment.index.bytes_since_entry,
                    first_timestamp_ms: segment.times.first_timestamp_ms,
                    begun_ms: segment.times.begun_ms,
                    appended_ms: segment.times.appended_ms,
                    generation: segment.generation,
                    newest_time: segment.index.newest_time,
                })
                .collect(),
            partial: state.migrated.partial.clone(),
            leader_epochs: LeaderEpochs {
                starts: starts.filter(|(_, start)| *start < next_offset).collect(),
            },
            producers: state.producers.save(next_offset),
            cleaned_to: state.cleaned_to,
            offsets: active.map_or_else(Vec::new, |active| active.unwritten_offsets().to_vec()),
            times: active.map_or_else(Vec::new, |active| active.unwritten_times().to_vec()),
        }
    }
}

/// An entry of a batch, with its payload.
pub(crate) struct Part<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) payload: &'a [u8],
    pub(crate) group: &'a Rc<Group>,
    /// Where in the group's memory the payload is.
    pub(crate) place: Place,
}

/// A batch that was put together from its entries.
struct Replayed {
    /// The first of them.
    entry: Entry,
    /// Bytes of the batch.
    length: u32,
    header: BatchHeader,
    bytes: Bytes,
}

/// Puts a batch together from its entries: one that holds all of it, or one with blocks of the segment between what
/// the record has of their neighbours.
fn join(parts: &[Part<'_>], block_bytes: u32) -> Result<Replayed, String> {
    let first = parts.first().ok_or("a batch without an entry")?;
    let entry = *first.entry;
    let wrong = |what: &str| format!("the batch for offset {}: {what}", entry.base_offset);
    let mut end = entry.file_position;
    for part in parts {
        let same = part.entry.id == entry.id
            && (part.entry.base_offset, part.entry.next_offset) == (entry.base_offset, entry.next_offset)
            && part.entry.segment_base == entry.segment_base;
        if !same || part.entry.file_position != end {
            return Err(wrong("its parts do not follow each other"));
        }
        end = end
            .checked_add(part.entry.length)
            .ok_or_else(|| wrong("it is longer than a segment can be"))?;
    }
    let length = end - entry.file_position;
    let kinds = |index: usize| parts.get(index).map(|part| part.entry.kind);
    let (before, direct, after) = match (kinds(0), kinds(1), kinds(2), parts.len()) {
        (Some(Kind::Inline), None, ..) => {
            let (parsed, rest) =
                RecordBatch::parse(first.payload).map_err(|_| wrong("its bytes are not one"))?;
            if !rest.is_empty() {
                return Err(wrong("its bytes are more than one"));
            }
            return Ok(Replayed {
                entry,
                length,
                header: *parsed.header(),
                bytes: Bytes::Whole(first.place),
            });
        }
        (Some(Kind::Direct), None, ..) => (None, &parts[0], None),
        (Some(Kind::Direct), Some(Kind::Inline), None, _) => (None, &parts[0], Some(&parts[1])),
        (Some(Kind::Inline), Some(Kind::Direct), None, _) => (Some(&parts[0]), &parts[1], None),
        (Some(Kind::Inline), Some(Kind::Direct), Some(Kind::Inline), 3) => {
            (Some(&parts[0]), &parts[1], Some(&parts[2]))
        }
        _ => return Err(wrong("its parts are not those of one")),
    };
    let header = record::direct_header(direct.payload).ok_or_else(|| wrong("its header is damaged"))?;
    let header = BatchHeader::decode(header);
    if header.batch_bytes() != length as usize {
        return Err(wrong("its parts are not as long as its header says"));
    }
    let (from, blocks) = (direct.entry.file_position, direct.entry.length);
    let is_whole = |edge: u32, more: Option<&Part<'_>>| more.is_none() || edge.is_multiple_of(block_bytes);
    if !is_whole(from, before) || !is_whole(from + blocks, after) {
        return Err(wrong("what is in its segment are not whole blocks"));
    }
    let place = |part: Option<&Part<'_>>| part.map(|part| part.place);
    Ok(Replayed {
        entry,
        length,
        header,
        bytes: Bytes::Split(Box::new(Split {
            header,
            before: place(before),
            blocks,
            after: place(after),
        })),
    })
}
