//! Bounding the log: what is known is written once more, and the log before it is deleted.
//!
//! Owns when. Until logs are compacted this keeps a partition of `__consumer_offsets` as long as what it holds, and not
//! as long as its history.

use std::rc::Rc;

use storage::{AppendError, ROOM_RETRY};
use wire::{BatchBuilder, Compression};

use super::writing::append;
use super::{Coordinator, Inner, Phase};
use crate::group::stored::Change;

/// A log of less is not written anew, in bytes.
const SNAPSHOT_BYTES_MIN: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// A log is written anew when it is so many times what it then holds: each byte is written less than twice so.
const SNAPSHOT_FACTOR: u64 = 4;
/// Bytes of a batch of a snapshot, and a record more.
const SNAPSHOT_BATCH_BYTES: usize = 256 << 10;

impl Coordinator {
    /// Writes all that is known once more, and deletes the log before it: its length follows what it holds.
    pub(super) async fn snapshot(self: Rc<Self>) {
        let before = self.inner.borrow().log_bytes;
        let written = match self.write_snapshot().await {
            Some((start, bytes)) => self.log.delete_records(start).await.ok().map(|_| bytes),
            None => None,
        };
        let mut inner = self.inner.borrow_mut();
        match written {
            Some(bytes) => {
                inner.log_bytes = inner.log_bytes - before + bytes;
                inner.snapshot_bytes = bytes;
            }
            // Whatever kept it from being written: not again with every commit.
            None => inner.snapshot_bytes = inner.log_bytes,
        }
        self.is_snapshotting.set(false);
    }

    /// Where the snapshot begins, and its bytes, once it is durable.
    async fn write_snapshot(&self) -> Option<(i64, u64)> {
        let start = self.log.log_end_offset();
        let mut position = Position::default();
        let mut bytes = 0;
        let mut last = None;
        loop {
            let room = self.room.wait();
            let appended = {
                let inner = self.inner.borrow();
                if inner.phase != Phase::Active {
                    return None;
                }
                match inner.snapshot_batch(&position) {
                    None => break,
                    Some((batch, up_to)) => {
                        append(&self.log, &batch).map(|ticket| (ticket, batch.len(), up_to))
                    }
                }
            };
            match appended {
                Ok((ticket, length, up_to)) => {
                    bytes += length as u64;
                    last = Some(ticket);
                    position = up_to;
                }
                Err(AppendError::JournalFull) => {
                    let _ = ring::timer::timeout(ROOM_RETRY, room).await;
                }
                Err(_) => return None,
            }
        }
        if let Some(ticket) = last {
            ticket.durable().await.ok()?;
        }
        Some((start, bytes))
    }
}

impl Inner {
    /// Whether the log is much longer than what it holds.
    pub(super) fn needs_snapshot(&self) -> bool {
        let bound = SNAPSHOT_BYTES_MIN.max(self.snapshot_bytes * SNAPSHOT_FACTOR);
        self.log_bytes > bound && !self.keeps_all && self.phase == Phase::Active
    }

    /// A batch of what is known beyond `from`, as much as fits; and how far it goes. Taken when it is appended, so that
    /// nothing older follows what is newer.
    fn snapshot_batch(&self, from: &Position) -> Option<(Vec<u8>, Position)> {
        let mut builder = BatchBuilder::new(Compression::None);
        let timestamp_ms = ring::clock::wall_clock_ms();
        let mut up_to = from.clone();
        'all: for group in self.names() {
            if from.group.as_ref().is_some_and(|done| group < *done) {
                continue;
            }
            for change in self.newest(&group).changes() {
                let at = Position::of(&group, &change);
                if at <= *from {
                    continue;
                }
                change.put(&group, timestamp_ms, |record| builder.push(record));
                up_to = at;
                if builder.uncompressed_bytes() >= SNAPSHOT_BATCH_BYTES {
                    break 'all;
                }
            }
        }
        (builder.record_count() > 0).then(|| (builder.build(), up_to))
    }
}

/// How far a snapshot has come: groups by name, of each its generation, then its offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    group: Option<Rc<str>>,
    offset: Option<(Rc<str>, i32)>,
}

impl Position {
    fn of(group: &Rc<str>, change: &Change) -> Position {
        Position {
            group: Some(group.clone()),
            offset: match change {
                Change::Generation(_) => None,
                Change::Offset { topic, partition, .. } => Some((topic.clone(), *partition)),
            },
        }
    }
}
