//! Reading a journal back: its chain of records, and what vouches for them.
//!
//! The chain ends at the first record that is not whole. Whether it was torn, and may be cut, or has rotted, and must
//! not be, is told by the records' `durable_seq`: every one in the ring is looked at, past the end of the chain too.

use ring::buffer::{Buffer, Pool};

use super::record::{self, Bounds, Entry, RecordHeader};
use super::superblock::{ReplayStart, Superblock};
use super::{Journal, take};
use crate::error::{StorageError, is_unreadable};

/// Read at a time, in bytes; more only for a larger record.
const WINDOW_BYTES: usize = 1 << 20;

/// A record of the chain.
pub(crate) struct Scanned<'a> {
    pub(crate) header: &'a RecordHeader,
    pub(crate) entries: &'a [Entry],
    /// Where each entry's payload lies in `bytes`.
    pub(crate) payloads: &'a [std::ops::Range<usize>],
    /// The whole record.
    pub(crate) bytes: &'a [u8],
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// To the next record.
    Next,
    /// Not now: the walk can begin again with this record.
    Pause,
}

/// Where a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The chain ends: here the record after the last whole one would be. Records up to `evidence` were durable, all of
    /// them: another one says so.
    End { at: ReplayStart, evidence: u64 },
    /// The visitor wanted to pause before this record.
    Paused(ReplayStart),
}

impl Journal {
    /// Walks the chain from `from`, gives each record to `visit` in order, and finds its end.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if a record is damaged that another one vouches for, or a whole record says what this
    /// version does not know.
    pub(crate) async fn scan(
        &self,
        from: ReplayStart,
        mut visit: impl FnMut(&Scanned<'_>) -> Result<Visit, StorageError>,
    ) -> Result<Scan, StorageError> {
        let superblock = self.superblock();
        let mut window = Window::new(self).await?;
        let mut epoch = 0;
        let mut evidence = 0;
        let mut end = from;
        while let Some(found) = self.next_record(&mut window, end, epoch, &superblock).await? {
            let Found {
                header,
                crc,
                entries,
                payloads,
            } = found;
            let scanned = Scanned {
                header: &header,
                entries: &entries,
                payloads: &payloads,
                bytes: window.bytes(
                    header.position,
                    if header.is_wrap {
                        0
                    } else {
                        header.total_length as usize
                    },
                ),
            };
            if visit(&scanned)? == Visit::Pause {
                return Ok(Scan::Paused(end));
            }
            epoch = header.start_epoch;
            evidence = evidence.max(header.durable_seq);
            end = ReplayStart {
                seq: header.seq + 1,
                position: header.position + u64::from(header.total_length),
                previous_crc: crc,
            };
        }
        evidence = evidence.max(self.evidence(&mut window, &superblock).await?);
        if evidence >= end.seq {
            let what = format!(
                "journal record {} cannot be read, and records up to {evidence} were acknowledged",
                end.seq
            );
            return Err(StorageError::corrupt(self.path(), end.position, what));
        }
        Ok(Scan::End { at: end, evidence })
    }

    /// The record that follows the chain so far, if it is whole.
    async fn next_record(
        &self,
        window: &mut Window,
        at: ReplayStart,
        epoch: u64,
        superblock: &Superblock,
    ) -> Result<Option<Found>, StorageError> {
        let ring = self.ring();
        let position = if at.position >= ring.end {
            ring.start
        } else {
            at.position
        };
        let bounds = self.bounds(superblock, ring.end - position);
        if !window.load(self, position, bounds.block_bytes).await? {
            return Ok(None);
        }
        let head = window.bytes(position, bounds.block_bytes);
        let Some((header, crc)) = record::decode_header(head, &bounds) else {
            if record::is_of_another_version(head, superblock.journal_id, at.seq, position) {
                let what = format!("record {} was written by another version of this program", at.seq);
                return Err(StorageError::corrupt(self.path(), position, what));
            }
            return Ok(None);
        };
        let follows = header.journal_id == superblock.journal_id
            && header.seq == at.seq
            && header.position == position
            && header.previous_crc == at.previous_crc
            && (epoch..=superblock.start_epoch).contains(&header.start_epoch);
        if !follows {
            return Ok(None);
        }
        let bytes = if header.is_wrap {
            bounds.block_bytes
        } else {
            header.total_length as usize
        };
        if !window.load(self, position, bytes).await? {
            return Ok(None);
        }
        let bytes = window.bytes(position, bytes);
        let entries = match record::decode_entries(bytes, &header, crc) {
            None => return Ok(None),
            Some(Err(what)) => return Err(StorageError::corrupt(self.path(), position, what)),
            Some(Ok(entries)) => entries,
        };
        let payloads = record::payloads(bytes, &header, &entries, bounds.block_bytes);
        Ok(payloads.map(|payloads| Found {
            header,
            crc,
            entries,
            payloads,
        }))
    }

    /// The highest sequence number that any header in the ring vouches for, wherever it stands. Nothing else of such
    /// a header is used.
    async fn evidence(&self, window: &mut Window, superblock: &Superblock) -> Result<u64, StorageError> {
        let ring = self.ring();
        let block_bytes = superblock.block_bytes as usize;
        let mut evidence = 0;
        let mut position = ring.start;
        while position < ring.end {
            let bounds = self.bounds(superblock, ring.end - position);
            if window.load(self, position, block_bytes).await?
                && let Some((header, crc)) =
                    record::decode_header(window.bytes(position, block_bytes), &bounds)
                && header.journal_id == superblock.journal_id
                && header.position == position
                && header.start_epoch <= superblock.start_epoch
                && header.durable_seq > evidence
            {
                let head = record::head_bytes(header.entry_count as usize).next_multiple_of(block_bytes);
                let whole = position + head as u64 <= ring.end && window.load(self, position, head).await?;
                if whole && record::decode_entries(window.bytes(position, head), &header, crc).is_some() {
                    evidence = header.durable_seq;
                }
            }
            position += block_bytes as u64;
        }
        Ok(evidence)
    }

    fn bounds(&self, superblock: &Superblock, to_end: u64) -> Bounds {
        Bounds {
            block_bytes: superblock.block_bytes as usize,
            largest_record: superblock.largest_record as usize,
            to_end,
        }
    }
}

/// A whole record that follows the chain.
struct Found {
    header: RecordHeader,
    crc: u32,
    entries: Vec<Entry>,
    payloads: Vec<std::ops::Range<usize>>,
}

/// A part of the ring in memory.
struct Window {
    pool: Pool,
    buffer: Option<Buffer>,
    start: u64,
    length: usize,
}

impl Window {
    async fn new(journal: &Journal) -> Result<Window, StorageError> {
        Ok(Window {
            pool: journal.pool.clone(),
            buffer: Some(take(&journal.pool, WINDOW_BYTES).await?),
            start: 0,
            length: 0,
        })
    }

    /// Makes `bytes` from `position` readable. `false` if the disk cannot give them all.
    async fn load(&mut self, journal: &Journal, position: u64, bytes: usize) -> Result<bool, StorageError> {
        if position >= self.start && position + bytes as u64 <= self.start + self.length as u64 {
            return Ok(true);
        }
        let mut buffer = self.buffer.take();
        if buffer.as_ref().is_none_or(|buffer| buffer.capacity() < bytes) {
            // Back first: the pool may not have room for both.
            drop(buffer.take());
            buffer = Some(take(&self.pool, bytes.max(WINDOW_BYTES)).await?);
        }
        let Some(buffer) = buffer else { return Ok(false) };
        let to_end = usize::try_from(journal.ring().end - position).unwrap_or(usize::MAX);
        let wanted = buffer.capacity().min(to_end);
        let (result, buffer) = journal.file.read_exact_at(buffer, 0..wanted, position).await;
        let (result, buffer) = match result {
            // A sector that cannot be read hides only itself: what is asked for may lie before it.
            Err(_) if wanted > bytes => journal.file.read_exact_at(buffer, 0..bytes, position).await,
            result => (result, buffer),
        };
        self.buffer = Some(buffer);
        self.start = position;
        match result {
            Ok(length) => {
                self.length = length;
                Ok(length >= bytes)
            }
            Err(error) if is_unreadable(&error) => {
                self.length = 0;
                Ok(false)
            }
            Err(error) => Err(StorageError::io("read", journal.path())(error)),
        }
    }

    /// # Panics
    /// If they were not loaded.
    fn bytes(&self, position: u64, bytes: usize) -> &[u8] {
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        let buffer = self.buffer.as_ref().expect("loaded");
        &buffer[from..from + bytes]
    }
}
