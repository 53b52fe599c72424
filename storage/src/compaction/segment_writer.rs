//! A compacted segment, written whole beside the one that it will replace.
//!
//! Nothing reads it, and no checkpoint names it, before it is flushed to its last byte. A write that fails ends only the cleaning.
//! Written in steps small enough to stand aside for commits.

use std::path::{Path, PathBuf};

use ring::buffer::{Buffer, Pool};
use ring::directory;
use ring::file::{Durability, File, OpenOptions};
use ring::local::Semaphore;
use wire::BatchHeader;

use super::IO_BYTES;
use crate::error::StorageError;
use crate::files::{EXTENSIONS, aside_path, write_whole};
use crate::index::{self, IndexCount, SegmentIndex};
use crate::journal::take;
use crate::partition::{CompactedSegment, LogShared, index_batch};
use crate::segment::SegmentName;

/// See the module.
pub(crate) struct SegmentWriter {
    directory: PathBuf,
    name: SegmentName,
    path: PathBuf,
    file: File,
    pool: Pool,
    background: Semaphore,
    block: usize,
    buffer: Option<Buffer>,
    filled: usize,
    /// Bytes that are on their way to the disk, a multiple of [`IO_BYTES`].
    written: usize,
    index: SegmentIndex,
    first_timestamp_ms: i64,
    limits: IndexLimits,
    /// Its indexes, written and not flushed.
    indexes: Vec<(PathBuf, File)>,
}

/// How large the indexes may get: `index.interval.bytes` and `segment.index.bytes`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexLimits {
    pub(crate) interval_bytes: u32,
    pub(crate) index_bytes: u32,
}

impl SegmentWriter {
    /// Begins the file. One that is there is nobody's.
    pub(crate) async fn create(
        shared: &LogShared,
        directory: &Path,
        name: SegmentName,
        limits: IndexLimits,
    ) -> Result<SegmentWriter, StorageError> {
        let path = aside_path(directory, name, "log");
        let options = OpenOptions {
            write: true,
            create: true,
            truncate: true,
            direct: true,
            ..OpenOptions::default()
        };
        let file = File::open(&path, options)
            .await
            .map_err(StorageError::io("create", &path))?;
        Ok(SegmentWriter {
            directory: directory.to_path_buf(),
            name,
            path,
            file,
            pool: shared.reading.clone(),
            background: shared.background.clone(),
            block: shared.block_bytes as usize,
            buffer: None,
            filled: 0,
            written: 0,
            index: SegmentIndex::new(),
            first_timestamp_ms: -1,
            limits,
            indexes: Vec::new(),
        })
    }

    /// Appends a batch, whose header is `header`.
    pub(crate) async fn put(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), StorageError> {
        let position = self.written + self.filled;
        let end = position + batch.len();
        let (Ok(position), Ok(_)) = (u32::try_from(position), u32::try_from(end)) else {
            let what = "what is left of its batches takes more bytes than a segment can have";
            return Err(StorageError::refused(&self.path, what));
        };
        let (base, limits) = (self.name.base_offset, self.limits);
        let count = IndexCount {
            offsets: self.index.offsets.len() as u32,
            times: self.index.times.len() as u32,
            ..IndexCount::NONE
        };
        // A batch without an entry is found from the entry before.
        let interval_bytes = match count.is_full(limits.index_bytes) {
            true => u32::MAX,
            false => limits.interval_bytes,
        };
        index_batch(&mut self.index, base, position, header, interval_bytes);
        if self.first_timestamp_ms < 0 && header.record_count > 0 {
            self.first_timestamp_ms = header.max_timestamp_ms;
        }
        let mut rest = batch;
        while !rest.is_empty() {
            let mut buffer = match self.buffer.take() {
                Some(buffer) => buffer,
                None => take(&self.pool, IO_BYTES).await?,
            };
            let (now, later) = rest.split_at(rest.len().min(IO_BYTES - self.filled));
            buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            self.buffer = Some(buffer);
            rest = later;
            if self.filled == IO_BYTES {
                self.write(IO_BYTES).await?;
            }
        }
        Ok(())
    }

    /// Writes what is left: the segment ends at its exact length, and its indexes are beside it.
    pub(crate) async fn end(&mut self) -> Result<(), StorageError> {
        let bytes = self.written + self.filled;
        if let Some(buffer) = self.buffer.as_mut().filter(|_| self.filled > 0) {
            let whole = self.filled.next_multiple_of(self.block);
            buffer[self.filled..whole].fill(0);
            self.write(whole).await?;
        }
        self.file
            .set_len(bytes as u64)
            .await
            .map_err(StorageError::io("cut", &self.path))?;
        self.index.add_time();
        for (extension, entries) in [
            ("index", index::encode_offsets(&self.index.offsets)),
            ("timeindex", index::encode_times(&self.index.times)),
        ] {
            let path = aside_path(&self.directory, self.name, extension);
            let file = write_whole(&path, entries).await?;
            self.indexes.push((path, file));
        }
        Ok(())
    }

    /// Makes all of it last: files and names.
    pub(crate) async fn flush(self) -> Result<CompactedSegment, StorageError> {
        let log = (self.path, self.file);
        for (path, file) in std::iter::once(&log).chain(&self.indexes) {
            file.sync_all().await.map_err(StorageError::io("flush", path))?;
        }
        directory::sync(&self.directory)
            .await
            .map_err(StorageError::io("flush", &self.directory))?;
        Ok(CompactedSegment {
            bytes: self.written as u32,
            first_timestamp_ms: self.first_timestamp_ms,
            index: self.index,
        })
    }

    async fn write(&mut self, bytes: usize) -> Result<(), StorageError> {
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        let slices = vec![buffer.freeze(0..bytes)];
        let _alone = self.background.acquire(1).await;
        self.file
            .write_all_at(slices, self.written as u64, Durability::Completed)
            .await
            .map_err(StorageError::io("write", &self.path))?;
        self.written += self.filled;
        self.filled = 0;
        Ok(())
    }
}

/// Removes what was written of a segment that is not to be. What cannot be removed is found by the next start.
pub(crate) async fn discard(directory: &Path, name: SegmentName) {
    for extension in EXTENSIONS {
        let _ = directory::remove_file(&aside_path(directory, name, extension)).await;
    }
}
