//! Appending: a batch gets its offsets and its place in the pending commit, in O(1).

use std::rc::Rc;

use ring::clock::Instant;
use ring::local::Signal;
use wire::BatchHeader;
use wire::record_batch::{self, BATCH_HEADER_BYTES};

use super::PartitionLog;
use super::piece::{Bytes, Piece};
use crate::commit::{CommitObserver, CommitTicket, Flush, Placed};
use crate::error::{AppendError, StorageError};
use crate::journal::record::{Entry, Kind};
use crate::producer_state::Verdict;
use crate::segment::{NextBatch, SegmentLimits};

/// Where a batch will be, once it is committed.
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The broker's time, which its records have, in milliseconds since 1970; none if they have the producer's
    /// (`message.timestamp.type`).
    pub log_append_time_ms: Option<i64>,
    /// Resolves when the batch is as safe as its topic wants it.
    pub ticket: CommitTicket,
}

/// What an idempotent producer's batch is.
pub enum ProducerCheck {
    /// New, or of no idempotent producer: append it.
    Append,
    /// It was appended before: answer this, once that is committed.
    Duplicate {
        /// Its first offset.
        base_offset: i64,
        /// Its last offset.
        last_offset: i64,
        /// Its time, in milliseconds since 1970.
        log_append_time_ms: i64,
        /// Resolves when the batch that it repeats is committed.
        ticket: CommitTicket,
    },
    /// It does not follow the producer's last batch.
    OutOfOrder,
    /// A newer epoch of the producer has written.
    EpochFenced,
}

impl PartitionLog {
    /// Calls `attempt`, which appends to this log, until it is not refused for want of room, or it is `deadline`. Of all
    /// who append behind the same journal, whoever came first is served first.
    ///
    /// # Errors
    /// What `attempt` said last, or [`AppendError::JournalFull`] if its turn did not come.
    pub async fn append_in_turn<T>(
        &self,
        deadline: Instant,
        attempt: impl FnMut() -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        self.partition.committer().append_in_turn(deadline, attempt).await
    }

    /// Notified when a batch that was refused with `JournalFull` or `BacklogFull` may fit.
    pub fn room(&self) -> &Signal {
        self.partition.committer().room()
    }

    /// Has the processor fetch what an append looks at, while something else is done: most partitions of many are not in its
    /// caches.
    pub fn prefetch(&self) {
        ring::prefetch::value(&*self.partition);
    }

    /// Judges a batch by its producer's state.
    pub fn check_producer(&self, header: &BatchHeader) -> ProducerCheck {
        if !header.has_producer_id() {
            return ProducerCheck::Append;
        }
        let state = self.partition.state.borrow();
        match state.producers.check(header) {
            Verdict::Append => ProducerCheck::Append,
            Verdict::OutOfOrder => ProducerCheck::OutOfOrder,
            Verdict::EpochFenced => ProducerCheck::EpochFenced,
            Verdict::Duplicate(batch) => ProducerCheck::Duplicate {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                log_append_time_ms: batch.timestamp_ms,
                ticket: if batch.last_offset < self.high_watermark() {
                    CommitTicket::done()
                } else {
                    let after = state
                        .tail
                        .partition_point(|piece| piece.base_offset <= batch.base_offset);
                    let piece = after.checked_sub(1).and_then(|index| state.tail.get(index));
                    let group = piece.expect("what is not durable is in memory").group.clone();
                    let config = self.partition.config.get();
                    if self.partition.later.is_flushed_first(&config, batch.base_offset) {
                        CommitTicket::of(group)
                    } else {
                        CommitTicket::of_written(group)
                    }
                },
            },
        }
    }

    /// The most bytes that a batch may have: a larger one is [`AppendError::TooLarge`].
    pub fn largest_batch(&self) -> usize {
        self.partition.committer().largest_batch()
    }

    /// Appends one whole batch, whose CRC the caller has checked and whose header is `header`. It is numbered, and it
    /// is in the pending commit, when this returns; it is as safe as its topic wants it when the ticket resolves.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub fn append(&self, batch: &[u8], header: &BatchHeader) -> Result<Appended, AppendError> {
        let partition = &self.partition;
        if partition.is_dropped.get() {
            return Err(AppendError::Fenced(StorageError::Dropped));
        }
        let config = partition.config.get();
        let mut state = partition.state.borrow_mut();
        if let Some(newest) = state.tail.back() {
            ring::prefetch::behind(newest);
        }
        let base_offset = state.next_offset;
        let mut numbered = *header;
        numbered.base_offset = base_offset;
        let last_offset = base_offset.checked_add(i64::from(header.last_offset_delta));
        let (Some(last_offset), true) = (
            last_offset.filter(|last| *last >= base_offset && *last < i64::MAX),
            batch.len() >= BATCH_HEADER_BYTES && header.batch_bytes() == batch.len(),
        ) else {
            return Err(AppendError::Malformed);
        };
        let log_append_time_ms = config.is_log_append_time.then(ring::clock::wall_clock_ms);
        numbered.max_timestamp_ms = log_append_time_ms.unwrap_or(numbered.max_timestamp_ms);
        let next = NextBatch {
            base_offset,
            last_offset,
            bytes: batch.len() as u32,
            max_timestamp_ms: numbered.max_timestamp_ms,
            appended_ms: partition.shared.clock.now_ms(),
        };
        let limits = config.segment_limits();
        // Nothing before it is left, or will be: the segment before it can be removed.
        let is_first = partition.committed_log_start.get() == base_offset;
        let bytes = if is_first { 0 } else { limits.bytes };
        let position = (state.segments).position_of_next(&next, &SegmentLimits { bytes, ..limits });
        let ends_one = position.file_position == 0 && !state.segments.all.is_empty();
        let backlog = &partition.shared.backlog;
        if let Err(full) = backlog.admit(ends_one.then(|| state.segments.unsealed())) {
            partition.committer().want_segments();
            return Err(full);
        }
        let entry = Entry {
            kind: Kind::Inline,
            at_block: false,
            goes_on: false,
            id: partition.id,
            owner_epoch: partition.owner_epoch,
            data_crc: 0,
            base_offset,
            next_offset: last_offset + 1,
            segment_base: position.segment_base,
            file_position: position.file_position,
            length: next.bytes,
        };
        let leader_epoch = partition.leader_epoch.get();
        let patch = |copy: &mut [u8]| {
            if let Some(time_ms) = log_append_time_ms {
                // Only a batch that is too short is refused, and this one is not.
                let _ = record_batch::assign_log_append_time(copy, time_ms);
            }
            if let Some(header) = copy.first_chunk_mut() {
                record_batch::assign_offset(header, base_offset, leader_epoch);
            }
        };
        let flush = partition.later.flush_of(&config, header);
        let open_group = partition.committer().open_group();
        let target = self.direct_target(position, batch.len(), config.segment_bytes);
        let observer: Rc<dyn CommitObserver> = partition.clone();
        let Placed { group, place } =
            partition
                .committer()
                .append(entry, batch, patch, target.as_ref(), flush, observer)?;
        partition
            .later
            .appended(&config, header, base_offset, flush, &group);
        self.count_for_direct(open_group, batch.len());
        let stream_position = state.segments.stream_end();
        let jitter_ms = || config.draw_jitter_ms();
        (state.segments).append(position, &next, config.index_interval_bytes, jitter_ms);
        debug_assert_eq!(
            state.leader_epochs.newest(),
            leader_epoch,
            "it begins when it is set"
        );
        partition.remember(&mut state, &numbered);
        state.next_offset = last_offset + 1;
        if state.tail.len() == state.tail.capacity() {
            // Whoever looks at the oldest piece each time waits for memory that nobody has used for long.
            state.forget_evicted();
        }
        backlog.add(ends_one);
        state.tail.push_back(Piece {
            base_offset,
            next_offset: last_offset + 1,
            stream_position,
            segment_base: position.segment_base,
            max_timestamp_ms: numbered.max_timestamp_ms,
            group: group.clone(),
            bytes: Bytes::Whole(place),
        });
        drop(state);
        partition.bound_producers();
        if position.file_position == 0 && base_offset > partition.log_start_offset.get() {
            crate::phase::say("roll");
        }
        Ok(Appended {
            base_offset,
            log_append_time_ms,
            ticket: match flush {
                Flush::First => CommitTicket::of(group),
                Flush::Within(_) => CommitTicket::of_written(group),
            },
        })
    }
}
