//! The batches that share one flush, from the first append until their memory is needed for others.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ring::buffer::{Buffer, Pool, Slice};
use ring::local::Signal;

use super::CommitObserver;
use crate::error::StorageError;
use crate::journal::record::{self, Entry, RecordHeader};

/// Room at the front of a group's first chunk for the record's header and six entries, so that a small commit is one
/// run of blocks.
pub(super) const HEAD_ROOM: usize = 512;

/// Batches that are made durable together. Their bytes stay here, readable, until they are evicted.
pub(crate) struct Group {
    /// 0 until the record is written.
    seq: Cell<u64>,
    outcome: RefCell<Outcome>,
    /// Empty before the group is closed and after it is evicted.
    chunks: RefCell<Vec<Slice>>,
    ended: Signal,
}

enum Outcome {
    Pending,
    Durable,
    Failed(StorageError),
}

impl Group {
    pub(super) fn new() -> Rc<Group> {
        Rc::new(Group {
            seq: Cell::new(0),
            outcome: RefCell::new(Outcome::Pending),
            chunks: RefCell::default(),
            ended: Signal::new(),
        })
    }

    /// A group that was read back from the journal.
    pub(crate) fn recovered(seq: u64, payload: Slice) -> Rc<Group> {
        let group = Group::new();
        group.seq.set(seq);
        *group.chunks.borrow_mut() = vec![payload];
        *group.outcome.borrow_mut() = Outcome::Durable;
        group
    }

    /// Its record's sequence number, once that is written.
    pub(crate) fn seq(&self) -> Option<u64> {
        Some(self.seq.get()).filter(|seq| *seq != 0)
    }

    pub(crate) fn is_durable(&self) -> bool {
        matches!(*self.outcome.borrow(), Outcome::Durable)
    }

    /// The bytes at a place; `None` once they are evicted.
    pub(crate) fn bytes(&self, place: Place) -> Option<Slice> {
        let chunks = self.chunks.borrow();
        let chunk = chunks.get(place.chunk as usize)?;
        let from = place.offset as usize;
        Some(chunk.slice(from..from + place.length as usize))
    }

    /// Whether its bytes are in memory.
    pub(crate) fn is_resident(&self) -> bool {
        !self.chunks.borrow().is_empty()
    }

    /// Gives the memory back, as soon as no reader holds a part of it.
    pub(crate) fn evict(&self) {
        self.chunks.borrow_mut().clear();
    }

    pub(super) fn close(&self, seq: u64, chunks: Vec<Slice>) {
        self.seq.set(seq);
        *self.chunks.borrow_mut() = chunks;
    }

    pub(super) fn succeed(&self) {
        *self.outcome.borrow_mut() = Outcome::Durable;
        self.ended.notify_all();
    }

    pub(super) fn fail(&self, error: StorageError) {
        *self.outcome.borrow_mut() = Outcome::Failed(error);
        self.ended.notify_all();
    }
}

/// Where in its group a batch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chunk: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// What resolves when a batch is durable.
#[derive(Clone)]
pub struct CommitTicket(Ticket);

#[derive(Clone)]
enum Ticket {
    Durable,
    Pending(Rc<Group>),
}

impl CommitTicket {
    /// For what is durable already.
    pub(crate) fn done() -> CommitTicket {
        CommitTicket(Ticket::Durable)
    }

    pub(crate) fn of(group: Rc<Group>) -> CommitTicket {
        CommitTicket(Ticket::Pending(group))
    }

    /// Waits until the batch, and every one before it in the shard's journal, is on stable storage.
    ///
    /// # Errors
    /// If that cannot be said of it: it may or may not be in the log after a restart.
    pub async fn durable(self) -> Result<(), StorageError> {
        let Ticket::Pending(group) = self.0 else {
            return Ok(());
        };
        loop {
            let ended = group.ended.wait();
            match &*group.outcome.borrow() {
                Outcome::Durable => return Ok(()),
                Outcome::Failed(error) => return Err(error.clone()),
                Outcome::Pending => {}
            }
            ended.await;
        }
    }
}

/// A group that takes batches.
pub(super) struct OpenGroup {
    pub(super) group: Rc<Group>,
    pub(super) entries: Vec<Entry>,
    pub(super) observers: Vec<(Rc<dyn CommitObserver>, i64)>,
    chunks: Vec<Chunk>,
}

struct Chunk {
    buffer: Buffer,
    used: usize,
}

/// A group made ready to be written.
pub(super) struct Sealed {
    /// From the record's first byte; `None` if the header fits in the first chunk's room.
    pub(super) head: Option<usize>,
    pub(super) payload_offset: usize,
    pub(super) payload_length: usize,
    pub(super) total_length: usize,
}

impl OpenGroup {
    pub(super) fn new() -> OpenGroup {
        OpenGroup {
            group: Group::new(),
            entries: Vec::new(),
            observers: Vec::new(),
            chunks: Vec::new(),
        }
    }

    /// Bytes of the payload's chunks.
    pub(super) fn chunk_bytes(&self, block_bytes: usize) -> usize {
        self.chunks
            .iter()
            .map(|chunk| chunk.used.next_multiple_of(block_bytes))
            .sum()
    }

    /// Bytes of the record as it is now; 0 while nothing is in it.
    pub(super) fn bytes_so_far(&self, block_bytes: usize) -> usize {
        if self.entries.is_empty() {
            0
        } else {
            self.layout(block_bytes).total_length
        }
    }

    /// At most so many bytes would the record have with one more batch of `bytes`.
    pub(super) fn record_bytes_with(&self, bytes: usize, block_bytes: usize) -> usize {
        let head = record::head_bytes(self.entries.len() + 1).next_multiple_of(block_bytes);
        head + self.chunk_bytes(block_bytes) + (HEAD_ROOM + 8 + bytes).next_multiple_of(block_bytes)
    }

    /// Whether the batch needs a new chunk.
    pub(super) fn needs_chunk(&self, bytes: usize) -> bool {
        self.chunks
            .last()
            .is_none_or(|chunk| chunk.used.next_multiple_of(8) + bytes > chunk.buffer.capacity())
    }

    /// Adds a chunk of at least `bytes`, if the pool has that.
    pub(super) fn add_chunk(&mut self, pool: &Pool, bytes: usize) -> bool {
        let Ok(mut buffer) = pool.try_take(bytes) else {
            return false;
        };
        let used = if self.chunks.is_empty() { HEAD_ROOM } else { 0 };
        // The room is written even if the header does not fit in it, and a buffer has had other owners.
        buffer[..used].fill(0);
        self.chunks.push(Chunk { buffer, used });
        true
    }

    /// Copies a batch in, lets `patch` change the copy, and adds its entry.
    ///
    /// # Panics
    /// If there is no chunk with room for it.
    pub(super) fn push(&mut self, mut entry: Entry, bytes: &[u8], patch: impl FnOnce(&mut [u8])) -> Place {
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        entry.at_block = chunk.used == 0;
        let from = chunk.used.next_multiple_of(8);
        let to = from + bytes.len();
        chunk.buffer[chunk.used..from].fill(0);
        let copy = &mut chunk.buffer[from..to];
        copy.copy_from_slice(bytes);
        patch(copy);
        entry.data_crc = crc32c::crc32c(copy);
        entry.length = bytes.len() as u32;
        chunk.used = to;
        self.entries.push(entry);
        Place {
            chunk: index as u32,
            offset: from as u32,
            length: bytes.len() as u32,
        }
    }

    /// Adds an entry without bytes.
    pub(super) fn push_empty(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// How the record will be laid out.
    pub(super) fn layout(&self, block_bytes: usize) -> Sealed {
        let head_bytes = record::head_bytes(self.entries.len());
        let fits = head_bytes <= HEAD_ROOM && !self.chunks.is_empty();
        let head = if fits {
            0
        } else {
            head_bytes.next_multiple_of(block_bytes)
        };
        let chunk_bytes = self.chunk_bytes(block_bytes);
        let payload_offset = if self.chunks.is_empty() {
            head
        } else {
            head + HEAD_ROOM
        };
        let padding =
            (self.chunks.last()).map_or(0, |last| last.used.next_multiple_of(block_bytes) - last.used);
        let total_length = head + chunk_bytes;
        Sealed {
            head: (!fits).then_some(head),
            payload_offset,
            payload_length: total_length - padding - payload_offset,
            total_length,
        }
    }

    /// Writes the header to the room for it in the first chunk. Returns its CRC.
    pub(super) fn encode_head(&mut self, header: &RecordHeader) -> u32 {
        let room = &mut self.chunks[0].buffer[..HEAD_ROOM];
        record::encode(room, header, &self.entries)
    }

    /// Ends writing: the slices to write, each a whole number of blocks. The group can be read from now on.
    pub(super) fn freeze(&mut self, seq: u64, block_bytes: usize) -> Vec<Slice> {
        let chunks: Vec<Slice> = std::mem::take(&mut self.chunks)
            .into_iter()
            .map(|mut chunk| {
                let end = chunk.used.next_multiple_of(block_bytes);
                chunk.buffer[chunk.used..end].fill(0);
                chunk.buffer.freeze(0..end)
            })
            .collect();
        self.group.close(seq, chunks.clone());
        chunks
    }
}
