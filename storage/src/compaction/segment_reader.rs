//! The batches of a sealed segment, one after the other, in reads small enough to stand aside for commits.
//!
//! Promises: every batch has the CRC that it says, follows the one before, and is of the leader epoch that had written it.
//! Must never pass over what it cannot read.

use ring::buffer::{Buffer, Pool};
use ring::file::File;
use ring::local::Semaphore;
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchHeader, RecordBatch};

use super::IO_BYTES;
use crate::error::StorageError;
use crate::files::log_path;
use crate::journal::take;
use crate::leader_epochs::LeaderEpochs;
use crate::partition::{ANOTHER_EPOCH, LogShared, PartitionLog, SegmentSummary};
use crate::segment::{OWN_BATCH_BYTES_MAX, SegmentName, is_plausible};

/// See the module.
pub(crate) struct SegmentReader {
    file: File,
    path: std::path::PathBuf,
    pool: Pool,
    background: Semaphore,
    block: usize,
    name: SegmentName,
    /// Who wrote which offsets.
    epochs: LeaderEpochs,
    /// Bytes of the segment.
    length: usize,
    /// Where the next batch begins.
    position: usize,
    /// The offset before which it cannot.
    at_least: i64,
    buffer: Option<Buffer>,
    /// Where in the segment the buffer's first byte is, and how many of its bytes were read.
    start: usize,
    filled: usize,
    /// Bytes that were read and not asked for yet.
    unreported: u64,
}

impl SegmentReader {
    /// Opens a sealed segment of the log.
    pub(crate) async fn open(
        log: &PartitionLog,
        shared: &LogShared,
        segment: &SegmentSummary,
    ) -> Result<SegmentReader, StorageError> {
        let directory = log.directory();
        let name = segment.name;
        Ok(SegmentReader {
            file: shared.files.log(&directory, log.id(), name, false).await?,
            path: log_path(&directory, name.base_offset),
            pool: shared.reading.clone(),
            background: shared.background.clone(),
            block: shared.block_bytes as usize,
            name,
            epochs: log.leader_epochs(),
            length: segment.bytes as usize,
            position: 0,
            at_least: name.base_offset,
            buffer: None,
            start: 0,
            filled: 0,
            unreported: 0,
        })
    }

    /// The next batch.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch<'_>>, StorageError> {
        let mut needed = BATCH_HEADER_BYTES;
        while self.position < self.length {
            let header = self
                .there(needed)
                .and_then(<[u8]>::first_chunk)
                .map(BatchHeader::decode);
            let Some(header) = header else {
                self.read(needed).await?;
                continue;
            };
            self.check(&header)?;
            if header.batch_bytes() > OWN_BATCH_BYTES_MAX && needed < header.batch_bytes() {
                self.check_behind(&header).await?;
            }
            if needed < header.batch_bytes() {
                needed = header.batch_bytes();
                continue;
            }
            let at = self.position;
            self.position += needed;
            self.at_least = header.next_offset();
            let bytes = self
                .buffer
                .as_deref()
                .and_then(|bytes| bytes.get(at - self.start..));
            let parsed = bytes.map(RecordBatch::parse);
            return match parsed {
                Some(Ok((batch, _))) if batch.verify_crc().is_ok() => Ok(Some(batch)),
                _ => Err(StorageError::corrupt(
                    &self.path,
                    at as u64,
                    "a batch's CRC does not match its bytes",
                )),
            };
        }
        Ok(None)
    }

    /// Bytes that were read from the disk since this was asked last.
    pub(crate) fn take_bytes_read(&mut self) -> u64 {
        std::mem::take(&mut self.unreported)
    }

    /// So many bytes from the position on, if they are in memory.
    fn there(&self, bytes: usize) -> Option<&[u8]> {
        let from = self.position.checked_sub(self.start)?;
        let filled = self.buffer.as_deref()?.get(..self.filled)?;
        filled.get(from..from + bytes)
    }

    /// Whether a batch can be the next one, if that must begin with this offset. Only compaction leaves holes.
    fn follows(&self, header: &BatchHeader, at_least: i64) -> bool {
        match self.name.generation {
            0 => header.base_offset == at_least,
            _ => header.base_offset >= at_least,
        }
    }

    /// Looks behind the batch at the position, before memory is taken for it: another begins there, or the segment ends.
    async fn check_behind(&self, header: &BatchHeader) -> Result<(), StorageError> {
        let behind = self.position + header.batch_bytes();
        if behind == self.length {
            return Ok(());
        }
        let start = behind - behind % self.block;
        let end = behind + BATCH_HEADER_BYTES - start;
        let buffer = take(&self.pool, end.next_multiple_of(self.block)).await?;
        let _alone = self.background.acquire(1).await;
        let blocks = 0..end.next_multiple_of(self.block);
        let (read, buffer) = self.file.read_exact_at(buffer, blocks, start as u64).await;
        let count = read.map_err(StorageError::io("read", &self.path))?;
        let next = buffer[..count]
            .get(behind - start..)
            .and_then(<[u8]>::first_chunk);
        let next = next.map(BatchHeader::decode);
        let is_next = |next: &BatchHeader| {
            is_plausible(next, self.length - behind) && self.follows(next, header.next_offset())
        };
        if next.as_ref().is_some_and(is_next) {
            return Ok(());
        }
        let what = "no batch begins where the one here says that it ends";
        Err(StorageError::corrupt(&self.path, self.position as u64, what))
    }

    fn check(&self, header: &BatchHeader) -> Result<(), StorageError> {
        let left = self.length - self.position;
        let epoch = header.partition_leader_epoch;
        let what = if !is_plausible(header, left) {
            "there is no batch where one was written"
        } else if !self.follows(header, self.at_least) {
            "another batch begins here than should"
        } else if self.epochs.instead_of(epoch, header.base_offset).is_some() {
            // It is not served, either: what it has newer records of would be gone.
            ANOTHER_EPOCH
        } else {
            return Ok(());
        };
        Err(StorageError::corrupt(&self.path, self.position as u64, what))
    }

    /// Reads so many bytes from the position on, and what is cheap to read with them.
    async fn read(&mut self, needed: usize) -> Result<(), StorageError> {
        if self.length - self.position < needed {
            return Err(StorageError::corrupt(
                &self.path,
                self.position as u64,
                "it ends within a batch",
            ));
        }
        let start = self.position - self.position % self.block;
        let wanted = (self.position + needed - start)
            .next_multiple_of(self.block)
            .max(IO_BYTES);
        let mut buffer = match self.buffer.take() {
            // What a large batch took is not kept for the small ones after it.
            Some(buffer) if (wanted..=2 * wanted).contains(&buffer.capacity()) => buffer,
            // What is there is given back first: two would be too many for a small pool.
            other => {
                drop(other);
                take(&self.pool, wanted).await?
            }
        };
        let mut filled = 0;
        while filled < wanted {
            let to = wanted.min(filled + IO_BYTES);
            let _alone = self.background.acquire(1).await;
            let (result, returned) = self
                .file
                .read_exact_at(buffer, filled..to, (start + filled) as u64)
                .await;
            buffer = returned;
            let count = result.map_err(StorageError::io("read", &self.path))?;
            self.unreported += count as u64;
            filled += count;
            if filled < to {
                break;
            }
        }
        (self.buffer, self.start, self.filled) = (Some(buffer), start, filled);
        if self.there(needed).is_none() {
            let what = "the file ends before its last batch";
            return Err(StorageError::corrupt(&self.path, (start + filled) as u64, what));
        }
        Ok(())
    }
}
