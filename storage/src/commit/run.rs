//! The task that writes records.

use std::cell::Cell;
use std::rc::Rc;

use ring::buffer::Slice;
use ring::executor::{Class, spawn};

use super::direct::{DirectWrite, Target};
use super::flush::{FLUSH_WITHIN_MAX, InFlight, Pipeline, flush};
use super::group::{Layout, OpenGroup};
use super::{IDLE_PUBLISH, Shared, State};
use crate::error::StorageError;
use crate::journal::record::{self, RecordHeader};
use crate::journal::superblock::ReplayStart;
use crate::journal::take;

/// Lets go of what was pending when the thread ended: it holds those who wait for it, and they hold the committer.
struct Emptied(Rc<Shared>);

impl Drop for Emptied {
    fn drop(&mut self) {
        let (open, closed) = {
            let mut state = self.0.state.borrow_mut();
            (state.open.take(), std::mem::take(&mut state.closed))
        };
        drop((open, closed));
    }
}

pub(super) async fn run(shared: Rc<Shared>) {
    let _emptied = Emptied(shared.clone());
    let mut pipeline = Pipeline::default();
    loop {
        let work = shared.work.wait();
        pipeline.complete(&shared);
        while pipeline.has_room(&shared) {
            let next = shared.state.borrow_mut().next_group();
            let Some(group) = next else { break };
            // Counted before it is sealed, which may wait: a log is not idle meanwhile.
            shared.state.borrow_mut().in_flight = pipeline.len() + 1;
            dispatch(&shared, group, &mut pipeline).await;
        }
        pipeline.flush(&shared);
        let (ended, unpublished) = {
            let mut state = shared.state.borrow_mut();
            state.in_flight = pipeline.len();
            let idle = state.open.is_none() && state.closed.is_empty() && pipeline.rests();
            let ended = state.failure.is_some() && pipeline.is_empty();
            let newest = state.newest_full_seq.min(state.durable.seq - 1);
            (ended, idle && state.published_seq < newest)
        };
        if ended {
            shared.progress.notify_all();
            return;
        }
        let idle = unpublished.then_some(IDLE_PUBLISH);
        let flush = pipeline.alarm().map(|by| by - ring::clock::now());
        let Some(alarm) = idle.into_iter().chain(flush).min() else {
            work.await;
            continue;
        };
        if ring::timer::timeout(alarm, work).await.is_err() && idle == Some(alarm) {
            dispatch(&shared, OpenGroup::new(), &mut pipeline).await;
            shared.state.borrow_mut().in_flight = pipeline.len();
        }
    }
}

/// Seals a group as the next record and begins to write it. An error ends all writing.
async fn dispatch(shared: &Rc<Shared>, group: OpenGroup, pipeline: &mut Pipeline) {
    let tickets = group.group.clone();
    match seal_and_write(shared, group).await {
        Ok(record) => pipeline.push(record, &mut shared.state.borrow_mut()),
        Err(error) => {
            shared.fence(&error);
            tickets.fail(StorageError::Fenced(Box::new(error)));
        }
    }
}

async fn seal_and_write(shared: &Rc<Shared>, mut group: OpenGroup) -> Result<InFlight, StorageError> {
    let is_flushed_alone = shared.state.borrow().unflushed.lets_flush_alone(&group);
    if !is_flushed_alone && !group.wants_flush && group.flush_by.is_none() {
        // It has nothing, and says only what is durable.
        group.flush_by = Some(ring::clock::now() + FLUSH_WITHIN_MAX);
    }
    let block_bytes = shared.journal.block_bytes();
    let ring = shared.journal.ring();
    let direct_min = shared.limits.direct_min;
    let pending = group.record_bytes_max(0, direct_min, block_bytes) as u64;
    let batch_bytes = group.batch_bytes(block_bytes);
    let runs = group.divide_runs(direct_min, block_bytes);
    let fragments = match &runs {
        Some(runs) => {
            let bytes = runs.payload_bytes.next_multiple_of(block_bytes);
            let mut buffer = take(&shared.staging, bytes).await?;
            group.put_fragments(runs, &mut buffer[..bytes], block_bytes);
            Some(buffer.freeze(0..bytes))
        }
        None => None,
    };
    let layout = group.layout(runs.as_ref(), block_bytes);
    debug_assert!(layout.total_length as u64 <= pending || group.entries.is_empty());
    let position = shared.state.borrow().head.position;
    if position < ring.end && position + layout.total_length as u64 > ring.end {
        write_wrap(shared, ring.end - position).await?;
    }
    let mut separate = match layout.head {
        Some(bytes) => Some((take(&shared.staging, bytes).await?, bytes)),
        None => None,
    };
    let (slices, direct, position, end, written_bytes) = {
        let mut state = shared.state.borrow_mut();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let header = state.header(shared, &group, &layout);
        let crc = match &mut separate {
            Some((buffer, bytes)) => {
                buffer[..*bytes].fill(0);
                record::encode(&mut buffer[..*bytes], &header, &group.entries)
            }
            None => group.encode_head(&header),
        };
        if !group.entries.is_empty() {
            state.newest_full_seq = header.seq;
            state.usual_bytes = (state.usual_bytes + layout.total_length).div_ceil(2);
            state.pending_bytes = state.pending_bytes.saturating_sub(pending);
        }
        let end = state.advance(&header, crc);
        let written = group.freeze(header.seq, runs.as_ref(), block_bytes);
        let direct_bytes = written
            .direct
            .iter()
            .map(|write| write.bytes() as u64)
            .sum::<u64>();
        state.direct_bytes += direct_bytes;
        let mut slices = Vec::with_capacity(2);
        slices.extend(separate.map(|(buffer, bytes)| buffer.freeze(0..bytes)));
        slices.extend(written.payload);
        slices.extend(fragments);
        let written_bytes = layout.total_length as u64 + direct_bytes;
        (slices, written.direct, header.position, end, written_bytes)
    };
    let has_ended = Rc::new(Cell::new(false));
    let (writer, ended) = (shared.clone(), has_ended.clone());
    let begun = ring::clock::now();
    if !group.entries.is_empty() {
        shared.written_at.set(Some(begun));
    }
    spawn(Class::Latency, async move {
        let written = if !is_flushed_alone {
            write_unflushed(&writer, slices, position, direct)
                .await
                .map(|targets| writer.state.borrow_mut().unflushed.wrote_to(targets))
        } else if direct.is_empty() {
            writer.journal.write(slices, position).await
        } else {
            write_with_blocks(&writer, slices, position, direct).await
        };
        if is_flushed_alone {
            writer.flushes.record(ring::clock::now() - begun);
        }
        if let Err(error) = &written {
            // At once, and not in its turn: a flush that failed may be the one that the record before it, whose own flush
            // comes after and says nothing, would have needed. And before it has ended, or it would be acknowledged.
            writer.fence(error);
        }
        ended.set(true);
        writer.work.notify_all();
    })
    .detach();
    Ok(InFlight {
        group,
        end,
        batch_bytes: batch_bytes as u64,
        written_bytes,
        is_flushed_alone,
        has_ended,
    })
}

/// Writes a record and the blocks that it vouches for; all of it is durable when this returns. The record may be on the
/// disk before the blocks are: recovery looks at the blocks of every record that nothing vouches for.
async fn write_with_blocks(
    shared: &Rc<Shared>,
    slices: Vec<Slice>,
    position: u64,
    direct: Vec<DirectWrite>,
) -> Result<(), StorageError> {
    let targets = write_unflushed(shared, slices, position, direct).await?;
    flush(shared, targets).await
}

/// The same, but nothing of it is durable before a [`flush`] of the segments that are returned.
async fn write_unflushed(
    shared: &Shared,
    slices: Vec<Slice>,
    position: u64,
    direct: Vec<DirectWrite>,
) -> Result<Vec<Target>, StorageError> {
    let writes: Vec<_> = direct
        .into_iter()
        .map(|write| spawn(Class::Latency, write.write()))
        .collect();
    let recorded = shared.journal.write_unflushed(slices, position).await;
    let mut targets: Vec<Target> = Vec::new();
    for write in writes {
        let target = write.await?;
        if !targets.iter().any(|other| other.is(&target)) {
            targets.push(target);
        }
    }
    recorded?;
    Ok(targets)
}

/// Fills what is left of the ring, so that no record straddles its end. Durable before its successor is written.
async fn write_wrap(shared: &Rc<Shared>, bytes: u64) -> Result<(), StorageError> {
    let block_bytes = shared.journal.block_bytes();
    let mut buffer = take(&shared.staging, block_bytes).await?;
    buffer[..block_bytes].fill(0);
    let position = {
        let mut state = shared.state.borrow_mut();
        let header = RecordHeader {
            total_length: u32::try_from(bytes).unwrap_or(u32::MAX),
            entry_count: 0,
            payload_offset: 0,
            payload_length: 0,
            is_wrap: true,
            ..state.next_header(shared)
        };
        let crc = record::encode(&mut buffer, &header, &[]);
        state.advance(&header, crc);
        header.position
    };
    shared
        .journal
        .write(vec![buffer.freeze(0..block_bytes)], position)
        .await
}

impl State {
    /// What is written next: closed groups first, then the open one.
    fn next_group(&mut self) -> Option<OpenGroup> {
        if self.failure.is_some() {
            return None;
        }
        self.closed
            .pop_front()
            .or_else(|| self.open.take_if(|open| !open.is_empty()))
    }

    /// Whether something in the next group is acknowledged when it is written.
    pub(super) fn next_is_acknowledged_first(&self) -> bool {
        let next = self.closed.front().or(self.open.as_ref());
        next.is_some_and(|next| next.flush_by.is_some())
    }

    fn next_header(&self, shared: &Shared) -> RecordHeader {
        let superblock = shared.journal.superblock();
        let ring = shared.journal.ring();
        let position = self.head.position;
        RecordHeader {
            journal_id: superblock.journal_id,
            start_epoch: self.start_epoch,
            seq: self.head.seq,
            position: if position >= ring.end {
                ring.start
            } else {
                position
            },
            durable_seq: self.durable.seq - 1,
            tail_seq: superblock.tail.seq,
            previous_crc: self.head.previous_crc,
            total_length: 0,
            entry_count: 0,
            payload_offset: 0,
            payload_length: 0,
            is_wrap: false,
            time_ms: shared.clock.now_ms(),
        }
    }

    fn header(&self, shared: &Shared, group: &OpenGroup, layout: &Layout) -> RecordHeader {
        RecordHeader {
            total_length: layout.total_length as u32,
            entry_count: group.entries.len() as u32,
            payload_offset: layout.payload_offset as u32,
            payload_length: layout.payload_length as u32,
            ..self.next_header(shared)
        }
    }

    /// Moves the chain past a record; gives where the next one begins.
    fn advance(&mut self, header: &RecordHeader, crc: u32) -> ReplayStart {
        self.published_seq = header.durable_seq;
        self.records += 1;
        self.journal_bytes += u64::from(header.total_length);
        self.head = ReplayStart {
            seq: header.seq + 1,
            position: header.position + u64::from(header.total_length),
            previous_crc: crc,
        };
        self.head
    }
}
