//! Bounding the log: what is known is written once more, and the log before it is deleted.
//!
//! Owns when. This keeps a partition of `__consumer_offsets` as long as what it holds, and not as long as its history:
//! compaction would leave the active segment alone, and a start reads all of it.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::rc::Rc;
use std::time::Duration;

use storage::{AppendError, ROOM_RETRY};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, Compression};

use super::writing::append;
use super::{Coordinator, Inner, Phase};
use crate::group::stored::Change;

/// A log of less is not written anew, in bytes.
pub(super) const SNAPSHOT_BYTES_MIN: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// A log is written anew when it is so many times what it then holds: each byte is written less than twice so.
const SNAPSHOT_FACTOR: u64 = 4;
/// Bytes of a batch of a snapshot. A record that is larger has a batch of its own.
const SNAPSHOT_BATCH_BYTES: usize = 256 << 10;

/// How long a batch of a snapshot that waits for room in the journal keeps what comes after it waiting too.
const HOLD: Duration = Duration::from_millis(500);

impl Coordinator {
    /// Writes all that is known once more, and deletes the log before it: its length follows what it holds.
    pub(super) async fn snapshot(self: Rc<Self>) {
        let before = self.inner.borrow().log_bytes;
        let start = self.log.log_end_offset();
        let mut bytes = 0;
        let is_written = match self.write_snapshot(&mut bytes).await {
            Some(()) => self.log.delete_records(start).await.is_ok(),
            None => false,
        };
        let mut inner = self.inner.borrow_mut();
        inner.log_bytes += bytes;
        if is_written {
            inner.log_bytes -= before;
            inner.snapshot_at_bytes = SNAPSHOT_BYTES_MIN.max(bytes * SNAPSHOT_FACTOR);
        } else {
            // Whatever kept it from being written: again soon, and not with every commit.
            inner.snapshot_at_bytes = inner.log_bytes + SNAPSHOT_BYTES_MIN.max(bytes);
        }
        self.is_snapshotting.set(false);
    }

    /// Writes the snapshot, and counts its bytes; nothing, if it cannot be written. Resolves when it is durable.
    async fn write_snapshot(&self, bytes: &mut u64) -> Option<()> {
        let mut position = Position::default();
        let mut last = None;
        let mut hold_until = None;
        loop {
            let room = self.log.room().wait();
            let appended = {
                let mut inner = self.inner.borrow_mut();
                inner.is_held = false;
                if inner.phase != Phase::Active {
                    return None;
                }
                match inner.snapshot_batch(&position, self.log.largest_batch()) {
                    None => break,
                    Some((batch, up_to)) => {
                        append(&self.log, &batch).map(|ticket| (ticket, batch.len(), up_to))
                    }
                }
            };
            match appended {
                Ok((ticket, length, up_to)) => {
                    *bytes += length as u64;
                    hold_until = None;
                    self.append_queued(&mut self.inner.borrow_mut());
                    last = Some(ticket);
                    position = up_to;
                }
                Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                    // Smaller writes would take the room before there is enough of it.
                    let now = ring::clock::now();
                    let until = *hold_until.get_or_insert(now + HOLD);
                    self.inner.borrow_mut().is_held = now < until;
                    let _ = ring::timer::timeout(ROOM_RETRY, room).await;
                }
                Err(_) => return None,
            }
        }
        if let Some(ticket) = last {
            ticket.committed().await.ok()?;
        }
        Some(())
    }
}

impl Inner {
    /// Whether the log is much longer than what it holds.
    pub(super) fn needs_snapshot(&self) -> bool {
        self.log_bytes > self.snapshot_at_bytes && !self.keeps_all && self.phase == Phase::Active
    }

    /// A batch of what is known beyond `from`, as much as fits; and how far it goes. Taken when it is appended, so that
    /// nothing older follows what is newer.
    fn snapshot_batch(&self, from: &Position, largest: usize) -> Option<(Vec<u8>, Position)> {
        let largest = SNAPSHOT_BATCH_BYTES.min(largest);
        let mut bytes = BATCH_HEADER_BYTES;
        let mut builder = BatchBuilder::new(Compression::None);
        let timestamp_ms = ring::clock::wall_clock_ms();
        let mut up_to = from.clone();
        let mut next = self.group_from(from.group.as_ref().map_or(Unbounded, Included));
        'all: while let Some(group) = next {
            for change in self.newest(&group).changes() {
                let at = Position::of(&group, &change);
                if at <= *from {
                    continue;
                }
                bytes += change.record_bytes(&group);
                if bytes > largest && builder.record_count() > 0 {
                    break 'all;
                }
                change.put(&group, timestamp_ms, |record| builder.push(record));
                up_to = at;
            }
            next = self.group_from(Excluded(&group));
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
