//! What is on its way into the log, in order: appended at once where there is room, and told of when it is durable.

use std::mem::size_of;
use std::rc::Rc;

use ring::executor::{Class, spawn};
use ring::local::{Giver, Taker, oneshot};
use storage::{AppendError, CommitTicket, PartitionLog, ROOM_RETRY};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, BatchHeader, Compression, ErrorCode};

use super::{Coordinator, Inner, Phase};
use crate::group::machine::{Event, Token};
use crate::group::memory::{entry_bytes, shared_bytes};
use crate::group::stored::Change;

/// Bytes of a batch of removals.
const REMOVAL_BATCH_BYTES: usize = 256 << 10;

/// Something of a group's on its way into the log.
pub(super) struct Write {
    pub(super) group: Rc<str>,
    pub(super) changes: Vec<Change>,
    /// What they add to what is kept at most, in bytes: it is taken until they are counted there.
    pub(super) growth: usize,
    pub(super) progress: Progress,
    pub(super) then: Then,
    /// Those who read what it changes, perhaps, and wait for it: one request of a connection at most.
    pub(super) readers: Vec<Giver<()>>,
}

pub(super) enum Progress {
    /// It waits for room in the journal.
    Queued,
    /// It is in the log, and durable when the ticket resolves.
    Appended(CommitTicket),
    /// Somebody waits for its ticket.
    Awaited,
    /// The log does not take it.
    Refused(ErrorCode),
}

/// Whom to tell of a write.
pub(super) enum Then {
    /// The state machine of this very group: another may have its name by then.
    Machine(Token),
    /// A request.
    Request(Giver<Result<(), ErrorCode>>),
    /// Nobody.
    Nobody,
}

impl Write {
    /// What it takes of the heap, in bytes: itself, and its place in a queue that may have twice as many, and among its
    /// group's. Names of topics are shared by neighbours.
    pub(super) fn bytes(&self) -> usize {
        let mut bytes = 2 * size_of::<Write>() + shared_bytes(self.group.len());
        bytes += entry_bytes::<(Rc<str>, u64), ()>();
        let mut shared: Option<&Rc<str>> = None;
        for change in &self.changes {
            bytes += change.bytes();
            if let Change::Offset { topic, .. } = change
                && shared.is_none_or(|shared| !Rc::ptr_eq(shared, topic))
            {
                bytes += shared_bytes(topic.len());
                shared = Some(topic);
            }
        }
        bytes
    }

    /// Made when it is appended, so that nothing large waits.
    fn batch(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        let timestamp_ms = ring::clock::wall_clock_ms();
        for change in &self.changes {
            change.put(&self.group, timestamp_ms, |record| builder.push(record));
        }
        builder.build()
    }
}

impl Coordinator {
    /// Puts changes of a group into the log, behind all that was put there before.
    pub(super) fn write(&self, inner: &mut Inner, group: &str, changes: Vec<Change>, then: Then) {
        self.write_reserved(inner, group, changes, 0, then);
    }

    /// Likewise; they will add `growth` bytes to what is kept at most.
    pub(super) fn write_reserved(
        &self,
        inner: &mut Inner,
        group: &str,
        changes: Vec<Change>,
        growth: usize,
        then: Then,
    ) {
        let write = Write {
            group: Rc::from(group),
            changes,
            growth,
            progress: Progress::Queued,
            then,
            readers: Vec::new(),
        };
        inner.moving.change(0, write.bytes());
        inner.groups.reserve(growth);
        inner.queue.push(write);
        self.append_queued(inner);
        self.work.notify_all();
    }

    /// Resolves when all that is on its way into the log now is durable, and shown, or refused; nothing, if nothing is.
    /// Who reads after that sees what it has asked for before, on the same connection too, where a request is begun
    /// before the answer to the one before it was given.
    pub(crate) fn written_before(&self) -> Option<Taker<()>> {
        let mut inner = self.inner.borrow_mut();
        let last = inner.queue.last_mut()?;
        let (giver, taker) = oneshot();
        last.readers.push(giver);
        Some(taker)
    }

    /// Puts the removal of whatever a group has into the log, in as many batches as that takes.
    pub(super) fn write_removal(&self, inner: &mut Inner, group: &str, changes: Vec<Change>, then: Then) {
        let largest = REMOVAL_BATCH_BYTES.min(self.log.largest_batch());
        let (mut piece, mut bytes) = (Vec::new(), BATCH_HEADER_BYTES);
        for change in changes {
            let more = change.record_bytes(group);
            if bytes + more > largest && !piece.is_empty() {
                self.write(inner, group, std::mem::take(&mut piece), Then::Nobody);
                bytes = BATCH_HEADER_BYTES;
            }
            piece.push(change);
            bytes += more;
        }
        self.write(inner, group, piece, then);
    }

    /// Appends what waits, as far as there is room.
    pub(super) fn append_queued(&self, inner: &mut Inner) {
        let Inner {
            queue,
            log_bytes,
            is_held,
            ..
        } = inner;
        let is_waiting = |write: &Write| matches!(write.progress, Progress::Queued);
        for write in queue.last_such(is_waiting) {
            if batch_bytes(&write.group, &write.changes) > self.log.largest_batch() {
                write.progress = Progress::Refused(ErrorCode::UnknownServerError);
                continue;
            }
            if *is_held {
                return;
            }
            let batch = write.batch();
            write.progress = match append(&self.log, &batch) {
                Ok(ticket) => {
                    *log_bytes += batch.len() as u64;
                    Progress::Appended(ticket)
                }
                Err(AppendError::JournalFull | AppendError::BacklogFull) => return,
                Err(AppendError::TooLarge { .. } | AppendError::Malformed) => {
                    Progress::Refused(ErrorCode::UnknownServerError)
                }
                Err(AppendError::Fenced(_)) => Progress::Refused(ErrorCode::NotCoordinator),
            };
        }
    }

    /// Tells of what is durable, in the order of the log.
    pub(super) async fn watch_writes(self: Rc<Self>) {
        loop {
            let (work, room) = (self.work.wait(), self.log.room().wait());
            let front = {
                let mut inner = self.inner.borrow_mut();
                let is_gone = inner.phase == Phase::Gone;
                match inner.queue.first_mut() {
                    None if is_gone => return,
                    None => None,
                    Some(write) => Some(std::mem::replace(&mut write.progress, Progress::Awaited)),
                }
            };
            let result = match front {
                None => {
                    work.await;
                    continue;
                }
                Some(Progress::Queued) => {
                    if let Some(write) = self.inner.borrow_mut().queue.first_mut() {
                        write.progress = Progress::Queued;
                    }
                    let _ = ring::timer::timeout(ROOM_RETRY, room).await;
                    self.append_queued(&mut self.inner.borrow_mut());
                    continue;
                }
                Some(Progress::Appended(ticket)) => {
                    ticket.committed().await.map_err(|_| ErrorCode::NotCoordinator)
                }
                Some(Progress::Refused(error_code)) => Err(error_code),
                Some(Progress::Awaited) => unreachable!("only this task waits for writes"),
            };
            self.written(result);
        }
    }

    /// The first write of the queue is durable, or will never be.
    pub(super) fn written(self: &Rc<Self>, result: Result<(), ErrorCode>) {
        let mut inner = self.inner.borrow_mut();
        let Some(write) = inner.queue.pop() else {
            return;
        };
        inner.moving.change(write.bytes(), 0);
        inner.groups.release(write.growth);
        if result.is_ok() {
            inner.groups.apply(&write.group, &write.changes);
        }
        match write.then {
            Then::Machine(token) => {
                let live = inner.groups.live().get(&write.group);
                if live.is_some_and(|live| Rc::ptr_eq(live.token(), &token)) {
                    self.step(&mut inner, &write.group, Event::Written(result));
                }
            }
            Then::Request(giver) => giver.give(result),
            Then::Nobody => {}
        }
        write.readers.into_iter().for_each(|reader| reader.give(()));
        #[cfg(test)]
        inner.check_memory();
        let is_due = inner.needs_snapshot();
        drop(inner);
        if is_due && !self.is_snapshotting.replace(true) {
            spawn(Class::Throughput, self.clone().snapshot()).detach();
        }
    }
}

/// What changes of a group take in the log at most, in bytes.
pub(super) fn batch_bytes(group: &str, changes: &[Change]) -> usize {
    let records = changes.iter().map(|change| change.record_bytes(group));
    records.fold(BATCH_HEADER_BYTES, usize::saturating_add)
}

pub(super) fn append(log: &PartitionLog, batch: &[u8]) -> Result<CommitTicket, AppendError> {
    let header: &[u8; BATCH_HEADER_BYTES] = batch.first_chunk().ok_or(AppendError::Malformed)?;
    log.append(batch, &BatchHeader::decode(header))
        .map(|appended| appended.ticket)
}
