//! Migration: what the journal made durable is written to the segments, so that the journal can be reused.
//!
//! Only whole blocks are written; what is left of the last one stays in memory and goes into the checkpoint. A segment
//! that a later one follows is closed: its last block is padded, written, and cut off at the exact length.

use ring::buffer::Slice;
use ring::directory;
use ring::file::{Allocate, Durability, File};
use ring::local::{Permit, Semaphore};
use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

use super::PartitionLog;
use super::index_files::index_batch;
use crate::error::StorageError;
use crate::files::{log_path, put_whole};
use crate::id::to_base64;
use crate::journal::take;
use crate::segment::SegmentName;

/// Written at a time, in bytes; more only for a larger batch.
const RUN_BYTES: usize = 512 << 10;
/// Reserved behind what is written, in bytes.
pub(super) const RESERVED_BYTES_MAX: u64 = 1 << 20;
const RESERVED_BYTES_MIN: u64 = 56 << 10;
/// Of runs that are written at a time.
const TURN_BYTES: usize = 32 << 10;
/// Batches whose bytes are asked for before they are copied, and of each so many: those that follow come by themselves.
const PREFETCHED: usize = 6;
const PREFETCHED_BYTES: usize = 256;
/// Names the topic of a directory: Kafka's file.
pub(crate) const METADATA_FILE: &str = "partition.metadata";

/// What migration writes to segments at a time, of all partitions: much of one, or little of many.
pub(crate) struct RunTurns(Semaphore);

impl Default for RunTurns {
    fn default() -> RunTurns {
        RunTurns(Semaphore::new(RUN_BYTES / TURN_BYTES))
    }
}

impl RunTurns {
    async fn take(&self, bytes: usize) -> Permit {
        let turns = bytes.div_ceil(TURN_BYTES).min(RUN_BYTES / TURN_BYTES);
        self.0.acquire(turns).await
    }
}

/// Batches of one segment that follow each other.
struct Run {
    segment_base: i64,
    /// Of the segment, where the partial block begins.
    from: u32,
    partial: Vec<u8>,
    /// Of each batch, in order.
    headers: Vec<Header>,
    /// What follows the partial block.
    bytes: Vec<Slice>,
    /// Bytes of whole blocks behind these that are written already: the run ends with them, and what comes after.
    written: u32,
    /// Of the last batch, what comes after the written blocks.
    after: Option<Slice>,
    /// The segment ends with this run.
    seals: bool,
}

/// A batch's header. Of many small batches that nobody has looked at for long, the memory is waited for at once when they are
/// copied, and one after the other when their headers are read before that.
enum Header {
    /// At this byte of the run, where the batch begins.
    InRun(usize),
    Known(Box<BatchHeader>),
}

impl Header {
    fn read(&self, run: &[u8]) -> BatchHeader {
        match self {
            Header::Known(header) => **header,
            Header::InRun(at) => {
                let bytes = run.get(*at..).and_then(<[u8]>::first_chunk::<BATCH_HEADER_BYTES>);
                BatchHeader::decode(bytes.expect("a batch has a header"))
            }
        }
    }
}

impl PartitionLog {
    /// Whether there is anything to migrate.
    pub(crate) fn has_unmigrated(&self) -> bool {
        let state = self.partition.state.borrow();
        state.migrated_pieces < state.tail.len()
    }

    /// Whether the journal or the checkpoint has batches, or the end of one, that no segment is known to have.
    pub(crate) fn has_what_no_file_has(&self) -> bool {
        self.has_unmigrated() || !self.partition.state.borrow().migrated.partial.is_empty()
    }

    /// Writes everything up to journal record `up_to_seq` to the segments. Not durable before a flush of the file
    /// system. One migration of a partition at a time.
    pub(crate) async fn migrate(&self, up_to_seq: u64) -> Result<(), StorageError> {
        self.partition.shared.assert_writable();
        // The migration before may have found the disk full when it came to that.
        self.write_index(false).await?;
        while let Some(run) = self.next_run(up_to_seq) {
            let seals = run.seals;
            self.write_run(run).await?;
            // Once for all runs of a segment: it costs as much as a run.
            if seals {
                self.write_index(false).await?;
            }
        }
        self.write_index(false).await
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
            run.headers.push(if length == piece.length() {
                Header::InRun(run.partial.len() + bytes)
            } else {
                Header::Known(Box::new(piece.header()))
            });
            bytes += length;
            end += piece.length();
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
            self.migrated(&run, &[], end, partial);
            return Ok(());
        }
        if bytes < block && !run.seals && run.written == 0 {
            // Not a block: checkpoints have it.
            let mut partial = Vec::with_capacity(bytes);
            partial.extend_from_slice(&run.partial);
            run.bytes
                .iter()
                .for_each(|bytes| partial.extend_from_slice(bytes));
            self.migrated(&run, &partial.clone(), end, partial);
            return Ok(());
        }
        if run.from == 0 {
            self.make_directory().await?;
        }
        // A file that others make ready may be about to come to that name.
        let making = if run.from == 0 {
            Some(self.pause_preparing().await)
        } else {
            None
        };
        let file = shared
            .files
            .log(
                &directory,
                self.partition.id,
                SegmentName::first(run.segment_base),
                true,
            )
            .await?;
        drop(making);
        let path = log_path(&directory, run.segment_base);
        let staging_bytes = bytes.next_multiple_of(block).max(block);
        let _turn = shared.migrating.take(staging_bytes).await;
        let mut staging = take(&shared.staging, staging_bytes).await?;
        staging[..run.partial.len()].copy_from_slice(&run.partial);
        let mut at = run.partial.len();
        let ahead = |next: usize| {
            let part = run.bytes.get(next);
            part.inspect(|part| ring::prefetch::bytes(part, PREFETCHED_BYTES));
        };
        (0..PREFETCHED).for_each(ahead);
        for (number, part) in run.bytes.iter().enumerate() {
            ahead(number + PREFETCHED);
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
        let copied = staging.freeze(0..bytes.max(whole));
        if whole > 0 {
            let to = u64::from(run.from) + whole as u64;
            let is_long_enough = to <= self.partition.state.borrow().migrated.reserved
                || self.takes_direct_writes(run.segment_base);
            if !run.seals && !is_long_enough && !shared.is_disk_short.get() {
                self.reserve(&file, run.from, to).await;
            }
            let blocks = vec![copied.slice(0..whole)];
            file.write_all_at(blocks, u64::from(run.from), Durability::Completed)
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
        self.migrated(&run, &copied, end, partial);
        Ok(())
    }

    /// Reserves blocks behind those that are about to be written, in the segment's file: three times as many as it has, so that a log
    /// that is written a block at a time is in few pieces. The kernel writes at once what neither makes a file longer nor allocates.
    async fn reserve(&self, file: &File, from: u32, to: u64) {
        let most = u64::from(self.partition.config.get().segment_bytes).max(to);
        let end = to + (3 * to).clamp(RESERVED_BYTES_MIN, RESERVED_BYTES_MAX);
        let end = end
            .min(most)
            .next_multiple_of(u64::from(self.partition.shared.block_bytes));
        // What cannot be reserved may still be written.
        let reserved = file.allocate(u64::from(from)..end, Allocate::Extend).await;
        self.partition.state.borrow_mut().migrated.reserved = reserved.map_or(to, |()| end);
    }

    /// Moves the state past what was written: these bytes, and what was there.
    fn migrated(&self, run: &Run, bytes: &[u8], end: u32, partial: Vec<u8>) {
        let interval = self.partition.config.get().index_interval_bytes;
        let mut state = self.partition.state.borrow_mut();
        let state = &mut *state;
        let at = state.segments.index_of(run.segment_base);
        let segment = at.map(|at| &mut state.segments.all[at]);
        let segment = segment.filter(|segment| segment.base_offset == run.segment_base);
        let segment = segment.expect("a run is of a segment that is there");
        for header in &run.headers {
            let header = &header.read(bytes);
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
            state.migrated.reserved = 0;
        }
        state.migrated.partial = partial;
        state.migrated.unindexed = Some(run.segment_base);
        state.migrated_pieces += run.headers.len();
        state.forget_evicted();
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
        self.remove_spares(0).await;
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
        self.make_directory().await?;
        self.partition.state.borrow_mut().migrated.unindexed = Some(segment_base);
        self.write_index(true).await?;
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
        Ok(())
    }
}

/// What is in [`METADATA_FILE`].
pub(crate) fn metadata_text(topic_id: u128) -> String {
    format!("version: 0\ntopic_id: {}\n", to_base64(topic_id))
}
