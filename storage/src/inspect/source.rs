//! A file, read in windows, and what is thought to be behind it.

use std::path::{Path, PathBuf};

use ring::buffer::{Buffer, Pool};
use ring::file::File;
use wire::BatchHeader;
use wire::record_batch::{BATCH_HEADER_BYTES, BATCH_LENGTH_OVERHEAD, MAGIC_V2};

use super::segment::{SeenBatch, Step};
use crate::error::StorageError;
use crate::files::open_if_there;
use crate::journal::take;

/// Read at a time, in bytes.
const WINDOW_BYTES: usize = 1 << 20;
/// Where the bytes begin that a batch's CRC covers.
pub(super) const CRC_COVERS_FROM: usize = 21;

/// Bytes of a file up to a length, and then those of `tail`: a segment's last bytes may be in a checkpoint alone.
pub(crate) struct Source {
    /// None if all is in `tail`.
    file: Option<File>,
    path: PathBuf,
    pool: Pool,
    /// Taken from the file; what is behind them means nothing.
    file_bytes: u64,
    tail: Vec<u8>,
    window: Option<Buffer>,
    start: u64,
    filled: usize,
}

impl Source {
    /// Opens a file for reading; `None` if it is not there.
    pub(crate) async fn open(path: &Path, pool: &Pool) -> Result<Option<Source>, StorageError> {
        let Some(file) = open_if_there(path, false).await? else {
            return Ok(None);
        };
        let file_bytes = file.len().await.map_err(StorageError::io("look at", path))?;
        Ok(Some(Source {
            file: Some(file),
            file_bytes,
            ..Source::without_file(path, pool)
        }))
    }

    /// Of a file that is not there.
    pub(super) fn without_file(path: &Path, pool: &Pool) -> Source {
        Source {
            file: None,
            path: path.to_path_buf(),
            pool: pool.clone(),
            file_bytes: 0,
            tail: Vec::new(),
            window: None,
            start: 0,
            filled: 0,
        }
    }

    /// Takes only so many bytes of the file, and `tail` after them.
    pub(super) fn limit(&mut self, file_bytes: u64, tail: Vec<u8>) {
        self.file_bytes = file_bytes.min(self.file_bytes);
        self.tail = tail;
        self.filled = 0;
    }

    pub(super) fn len(&self) -> u64 {
        self.file_bytes + self.tail.len() as u64
    }

    /// `count` bytes from `at`; `None` if there are fewer.
    pub(crate) async fn bytes(&mut self, at: u64, count: usize) -> Result<Option<&[u8]>, StorageError> {
        if at.checked_add(count as u64).is_none_or(|end| end > self.len()) {
            return Ok(None);
        }
        let is_here = at >= self.start && at + count as u64 <= self.start + self.filled as u64;
        if !is_here {
            self.fill(at, count).await?;
        }
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let range = from..from.saturating_add(count).min(self.filled);
        Ok(self
            .window
            .as_ref()
            .and_then(|window| window.get(range))
            .filter(|bytes| bytes.len() == count))
    }

    async fn fill(&mut self, at: u64, count: usize) -> Result<(), StorageError> {
        let mut window = self.window.take().filter(|window| window.capacity() >= count);
        if window.is_none() {
            window = Some(take(&self.pool, count.max(WINDOW_BYTES)).await?);
        }
        let Some(window) = window else { return Ok(()) };
        let wanted = (self.len() - at).min(window.capacity() as u64) as usize;
        let from_file = self.file_bytes.saturating_sub(at).min(wanted as u64) as usize;
        let (result, mut window) = match &self.file {
            Some(file) if from_file > 0 => file.read_exact_at(window, 0..from_file, at).await,
            _ => (Ok(0), window),
        };
        let read = result.map_err(StorageError::io("read", &self.path))?;
        (self.start, self.filled) = (at, read);
        if read == from_file {
            let skip = (at + read as u64).saturating_sub(self.file_bytes) as usize;
            let rest = &self.tail[skip.min(self.tail.len())..];
            let rest = &rest[..rest.len().min(wanted - read)];
            window[read..read + rest.len()].copy_from_slice(rest);
            self.filled += rest.len();
        }
        self.window = Some(window);
        Ok(())
    }

    /// The batch at `at`, if there is one. Its CRC is taken window by window: a length that a file claims costs no memory.
    pub(crate) async fn batch(&mut self, at: u64) -> Result<Step, StorageError> {
        let left = self.len().saturating_sub(at);
        if left == 0 {
            return Ok(Step::End);
        }
        let Some(head) = self.bytes(at, BATCH_HEADER_BYTES.min(left as usize)).await? else {
            return Ok(Step::NoBatch("the file ends while it is read".to_owned()));
        };
        let header = match head_of(head, left) {
            Ok(header) => header,
            Err(what) => return Ok(Step::NoBatch(what)),
        };
        let end = at + header.batch_bytes() as u64;
        let mut crc = 0;
        let mut from = at + CRC_COVERS_FROM as u64;
        while from < end {
            let count = (end - from).min(WINDOW_BYTES as u64 / 2) as usize;
            let Some(bytes) = self.bytes(from, count).await? else {
                return Ok(Step::NoBatch("the file ends while it is read".to_owned()));
            };
            crc = wire::crc32c_append(crc, bytes);
            from += count as u64;
        }
        Ok(Step::Batch(SeenBatch {
            position: at,
            header,
            computed_crc: crc,
        }))
    }
}

/// A batch's header, if it can be one: of `left` bytes that there are. Else why not, in words.
pub(super) fn head_of(head: &[u8], left: u64) -> Result<BatchHeader, String> {
    let Some(bytes) = head.first_chunk::<BATCH_HEADER_BYTES>() else {
        return Err(format!("{left} bytes are less than a batch's header"));
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Err("zeroes, and no batch".to_owned());
    }
    let header = BatchHeader::decode(bytes);
    if header.magic != MAGIC_V2 {
        return Err(format!("no batch: its magic is {}, not 2", header.magic));
    }
    let least = (BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD) as i32;
    if header.batch_length < least {
        return Err(format!("no batch: its length is {}", header.batch_length));
    }
    if header.batch_bytes() as u64 > left {
        return Err(format!(
            "a batch of {} bytes, of which {left} are there",
            header.batch_bytes()
        ));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_believed_only_as_far_as_there_are_bytes() {
        let header = |batch_length, magic| {
            let header = BatchHeader {
                batch_length,
                magic,
                ..BatchHeader::decode(&[0; BATCH_HEADER_BYTES])
            };
            header.encode()
        };
        assert!(head_of(&header(49, 2), 61).is_ok());
        for (head, left, what) in [
            (header(50, 2), 61, "62 bytes, of which 61"),
            (header(i32::MAX, 2), 1 << 20, "of which 1048576"),
            (header(48, 2), 61, "length is 48"),
            (header(-1, 2), 61, "length is -1"),
            (header(49, 1), 61, "magic is 1"),
            ([0; BATCH_HEADER_BYTES], 61, "zeroes"),
        ] {
            let said = head_of(&head, left).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
        assert!(head_of(&[1; 60], 60).is_err());
    }
}
