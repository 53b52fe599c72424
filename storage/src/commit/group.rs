//! The batches that share one flush, from the first append until their memory is needed for others.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ring::buffer::{Buffer, Pool, Slice};
use ring::clock::Instant;
use ring::local::{Signal, SignalWait};
use wire::record_batch::crc_of_range;

use super::CommitObserver;
use super::direct::{DirectWrite, Fragment, Run, Stretch, Target};
use super::flush::{FLUSH_WITHIN_MAX, Flush};
use crate::error::StorageError;
use crate::journal::record::{self, Entry, Kind, RecordHeader};

/// Room at the front of a group's first chunk for the record's header and six entries, so that a small commit is one
/// run of blocks.
pub(super) const HEAD_ROOM: usize = 512;
/// A batch of as many bytes goes past the processor's caches on its way to a segment: the disk reads it next, and a consumer
/// after a flush, when groups of such batches would have pushed it out of them.
const PAST_CACHES_BYTES_MIN: usize = 128 << 10;

/// Batches that are made durable together. Their bytes stay here, readable, until they are evicted.
pub(crate) struct Group {
    /// 0 until the record is written.
    seq: Cell<u64>,
    outcome: RefCell<Outcome>,
    /// Empty before the group is closed and after it is evicted.
    chunks: RefCell<Vec<Closed>>,
    ended: Signal,
}

/// A chunk that takes no more.
struct Closed {
    bytes: Slice,
    /// Of them, what was written to a segment with the record.
    written: Range<usize>,
}

enum Outcome {
    Pending,
    /// And not flushed.
    Written,
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
        *group.chunks.borrow_mut() = vec![Closed {
            bytes: payload,
            written: 0..0,
        }];
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
        Some(chunk.bytes.slice(from..from + place.length as usize))
    }

    /// Of the bytes at a place, those that are in their segment already; `None` once they are evicted.
    pub(crate) fn written(&self, place: Place) -> Option<Range<u32>> {
        let chunks = self.chunks.borrow();
        let written = &chunks.get(place.chunk as usize)?.written;
        let within = |at: usize| (at as u32).clamp(place.offset, place.offset + place.length) - place.offset;
        Some(within(written.start)..within(written.end))
    }

    /// Whether its bytes are in memory.
    pub(crate) fn is_resident(&self) -> bool {
        !self.chunks.borrow().is_empty()
    }

    /// Bytes of its batches in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunks.borrow().iter().map(|chunk| chunk.bytes.len()).sum()
    }

    /// Gives the memory back, as soon as no reader holds a part of it.
    pub(crate) fn evict(&self) {
        self.chunks.borrow_mut().clear();
    }

    fn close(&self, seq: u64, chunks: Vec<Closed>) {
        self.seq.set(seq);
        *self.chunks.borrow_mut() = chunks;
    }

    /// Its record and all before it are written, and not flushed.
    pub(super) fn acknowledge(&self) {
        *self.outcome.borrow_mut() = Outcome::Written;
        self.ended.notify_all();
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

/// What resolves when a batch is as safe as its topic wants it.
#[derive(Clone)]
pub struct CommitTicket(Ticket);

#[derive(Clone)]
enum Ticket {
    Done,
    Flushed(Rc<Group>),
    Written(Rc<Group>),
}

impl CommitTicket {
    /// For what is safe already: there is nothing to wait for.
    pub fn done() -> CommitTicket {
        CommitTicket(Ticket::Done)
    }

    /// For what is flushed before it is acknowledged.
    pub(crate) fn of(group: Rc<Group>) -> CommitTicket {
        CommitTicket(Ticket::Flushed(group))
    }

    /// For what is acknowledged when it is written.
    pub(crate) fn of_written(group: Rc<Group>) -> CommitTicket {
        CommitTicket(Ticket::Written(group))
    }

    /// Waits until the batch, and every one before it in the shard's journal, is on stable storage; or, if its topic's
    /// `flush.messages` asks for no more, written: that survives the process and not a power cut.
    ///
    /// It gives an error if that cannot be said of the batch: it may or may not be in the log after a restart.
    pub fn committed(self) -> Committed {
        Committed {
            ticket: self.0,
            ended: None,
        }
    }
}

/// See [`CommitTicket::committed`].
#[must_use = "it waits when it is awaited"]
pub struct Committed {
    ticket: Ticket,
    /// Of the group, once that was found pending.
    ended: Option<SignalWait>,
}

impl Future for Committed {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StorageError>> {
        let Committed { ticket, ended } = &mut *self;
        let (group, is_written_enough) = match ticket {
            Ticket::Done => return Poll::Ready(Ok(())),
            Ticket::Flushed(group) => (group, false),
            Ticket::Written(group) => (group, true),
        };
        loop {
            match &*group.outcome.borrow() {
                Outcome::Durable => return Poll::Ready(Ok(())),
                Outcome::Written if is_written_enough => return Poll::Ready(Ok(())),
                Outcome::Failed(error) => return Poll::Ready(Err(error.clone())),
                Outcome::Written | Outcome::Pending => {}
            }
            ready!(Pin::new(ended.get_or_insert_with(|| group.ended.wait())).poll(context));
            *ended = None;
        }
    }
}

/// A group that takes batches.
pub(super) struct OpenGroup {
    pub(super) group: Rc<Group>,
    pub(super) entries: Vec<Entry>,
    pub(super) observers: Vec<Observed>,
    /// Something in it is flushed before it is acknowledged.
    pub(super) wants_flush: bool,
    /// When what is acknowledged before that is to be flushed, at the latest; none if there is nothing of it.
    pub(super) flush_by: Option<Instant>,
    chunks: Vec<Chunk>,
    /// The newest chunk of the record's payload.
    shared: Option<usize>,
}

/// Who is told of a batch.
pub(super) struct Observed {
    pub(super) observer: Rc<dyn CommitObserver>,
    pub(super) next_offset: i64,
    /// When it is flushed, or when it is written.
    pub(super) is_flushed_first: bool,
}

struct Chunk {
    buffer: Buffer,
    used: usize,
    /// Batches that go to their segment; else the chunk is a part of the record's payload.
    run: Option<Run>,
}

impl Chunk {
    fn takes(&self, bytes: usize) -> bool {
        self.used.next_multiple_of(8) + bytes <= self.buffer.capacity()
    }
}

/// How a group's record will be laid out.
pub(super) struct Layout {
    /// From the record's first byte; `None` if the header fits in the first chunk's room.
    pub(super) head: Option<usize>,
    pub(super) payload_offset: usize,
    pub(super) payload_length: usize,
    pub(super) total_length: usize,
}

/// What a group's runs leave to the record.
pub(super) struct Runs {
    /// Of each chunk, what goes to its segment.
    blocks: Vec<Range<usize>>,
    /// Of each fragment, the chunk.
    fragments: Vec<(usize, Fragment)>,
    /// Bytes of their payloads: they begin at a block's boundary.
    pub(super) payload_bytes: usize,
}

/// What is written for a group.
pub(super) struct Written {
    /// The record's payload, each slice a whole number of blocks.
    pub(super) payload: Vec<Slice>,
    /// Beside it.
    pub(super) direct: Vec<DirectWrite>,
}

impl OpenGroup {
    pub(super) fn new() -> OpenGroup {
        OpenGroup {
            group: Group::new(),
            entries: Vec::new(),
            observers: Vec::new(),
            wants_flush: false,
            flush_by: None,
            chunks: Vec::new(),
            shared: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.runs().next().is_none()
    }

    /// Takes note of when something that it got is flushed; `now` is the time.
    pub(super) fn note(&mut self, flush: Flush, now: impl FnOnce() -> Instant) {
        match flush {
            Flush::First => self.wants_flush = true,
            Flush::Within(time) => {
                let by = now() + time.min(FLUSH_WITHIN_MAX);
                self.flush_by = Some(self.flush_by.map_or(by, |before| before.min(by)));
            }
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Stretch> {
        self.chunks
            .iter()
            .filter_map(|chunk| chunk.run.as_ref().map(|run| &run.stretch))
    }

    fn shared_chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().filter(|chunk| chunk.run.is_none())
    }

    /// Bytes of the payload's chunks.
    pub(super) fn shared_bytes(&self, block_bytes: usize) -> usize {
        self.shared_chunks()
            .map(|chunk| chunk.used.next_multiple_of(block_bytes))
            .sum()
    }

    /// Bytes of the runs.
    pub(super) fn run_bytes(&self) -> usize {
        self.runs().map(Stretch::bytes).sum()
    }

    /// Bytes of memory that its batches take.
    pub(super) fn batch_bytes(&self, block_bytes: usize) -> usize {
        self.shared_bytes(block_bytes) + self.run_bytes()
    }

    /// Entries that the record gets at most.
    pub(super) fn entries_max(&self) -> usize {
        self.entries.len() + self.runs().map(Stretch::entries_max).sum::<usize>()
    }

    /// Bytes that the record gets at most, with `more` entries; 0 while nothing is in it.
    pub(super) fn record_bytes_max(&self, more: usize, direct_bytes_min: usize, block_bytes: usize) -> usize {
        let entries = self.entries_max() + more;
        if entries == 0 {
            return 0;
        }
        let fragments: usize = self
            .runs()
            .map(|run| run.payload_bytes_max(direct_bytes_min, block_bytes))
            .sum();
        let head = record::head_bytes(entries);
        let head = if head <= HEAD_ROOM && self.shared.is_some() {
            0
        } else {
            head.next_multiple_of(block_bytes)
        };
        head + self.shared_bytes(block_bytes) + fragments.next_multiple_of(block_bytes)
    }

    /// Whether a batch of the record's payload needs a new chunk.
    pub(super) fn needs_chunk(&self, bytes: usize) -> bool {
        self.shared.is_none_or(|shared| !self.chunks[shared].takes(bytes))
    }

    /// Adds a chunk of at least `least` bytes, and about `wanted`, for the record's payload, if the pool has that.
    pub(super) fn add_chunk(&mut self, pool: &Pool, least: usize, wanted: usize) -> bool {
        let Ok(mut buffer) = pool.try_take_about(least, wanted) else {
            return false;
        };
        let used = if self.shared.is_none() { HEAD_ROOM } else { 0 };
        // The room is written even if the header does not fit in it, and a buffer has had other owners.
        buffer[..used].fill(0);
        self.shared = Some(self.chunks.len());
        self.chunks.push(Chunk {
            buffer,
            used,
            run: None,
        });
        true
    }

    /// The newest chunk with a run of the batch's partition.
    pub(super) fn run_of(&self, entry: &Entry) -> Option<usize> {
        let is_its = |chunk: &Chunk| chunk.run.as_ref().is_some_and(|run| run.stretch.is_of(entry));
        self.chunks.iter().rposition(is_its)
    }

    /// Whether the batch fits behind the last one of a run.
    pub(super) fn run_takes(&self, chunk: usize, entry: &Entry, bytes: usize) -> bool {
        let Chunk { buffer, used, run } = &self.chunks[chunk];
        let follows = run.as_ref().is_some_and(|run| run.stretch.is_followed_by(entry));
        follows && used + bytes <= buffer.capacity()
    }

    /// Bytes that the buffer of a run has.
    pub(super) fn capacity_of(&self, chunk: usize) -> usize {
        self.chunks[chunk].buffer.capacity()
    }

    /// Adds a chunk for a run that begins with the batch, for which it has room. Its number.
    pub(super) fn add_run(
        &mut self,
        buffer: Buffer,
        target: &Target,
        first: &Entry,
        block_bytes: usize,
    ) -> usize {
        let stretch = Stretch::new(first, block_bytes);
        self.chunks.push(Chunk {
            buffer,
            used: stretch.place_of(first.file_position),
            run: Some(Run {
                target: target.clone(),
                stretch,
            }),
        });
        self.chunks.len() - 1
    }

    /// Copies a batch into a run, and lets `patch` change the copy.
    ///
    /// # Panics
    /// If there is no room for it.
    pub(super) fn push_to_run(
        &mut self,
        index: usize,
        mut entry: Entry,
        bytes: &[u8],
        patch: impl FnOnce(&mut [u8]),
    ) -> Place {
        let chunk = &mut self.chunks[index];
        let Run { stretch, .. } = chunk.run.as_mut().expect("it is a run's chunk");
        let from = stretch.place_of(entry.file_position);
        assert_eq!(from, chunk.used, "a run has no holes");
        let to = from + bytes.len();
        let copy = &mut chunk.buffer[from..to];
        if bytes.len() < PAST_CACHES_BYTES_MIN {
            copy.copy_from_slice(bytes);
        } else {
            ring::copy::past_the_caches(copy, bytes);
        }
        patch(copy);
        entry.length = bytes.len() as u32;
        chunk.used = to;
        stretch.push(entry);
        Place {
            chunk: index as u32,
            offset: from as u32,
            length: bytes.len() as u32,
        }
    }

    /// Copies a batch into the record's payload, lets `patch` change the copy, and adds its entry.
    ///
    /// # Panics
    /// If there is no chunk with room for it.
    pub(super) fn push(&mut self, mut entry: Entry, bytes: &[u8], patch: impl FnOnce(&mut [u8])) -> Place {
        let index = self.shared.expect("a chunk was added");
        let chunk = &mut self.chunks[index];
        entry.at_block = chunk.used == 0;
        let from = chunk.used.next_multiple_of(8);
        let to = from + bytes.len();
        chunk.buffer[chunk.used..from].fill(0);
        let copy = &mut chunk.buffer[from..to];
        copy.copy_from_slice(bytes);
        patch(copy);
        entry.data_crc = match entry.kind {
            Kind::Inline => crc_of_range(copy, 0..copy.len()),
            _ => wire::crc32c(copy), // it is no batch
        };
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

    /// Says what of the runs goes where, and adds their entries. `None` if there are none. Nothing may be added after it.
    pub(super) fn divide_runs(&mut self, direct_bytes_min: usize, block_bytes: usize) -> Option<Runs> {
        let mut blocks = Vec::with_capacity(self.chunks.len());
        let mut fragments = Vec::new();
        let mut payload_bytes = 0;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let Some(Run { stretch, .. }) = &chunk.run else {
                blocks.push(0..0);
                continue;
            };
            let direct = stretch.blocks(direct_bytes_min, block_bytes);
            for mut fragment in stretch.fragments(&direct, &chunk.buffer) {
                fragment.entry.at_block = fragments.is_empty();
                payload_bytes = record::payload_start(payload_bytes, false, block_bytes);
                payload_bytes += fragment.entry.payload_bytes();
                self.entries.push(fragment.entry);
                fragments.push((index, fragment));
            }
            blocks.push(direct);
        }
        (!fragments.is_empty()).then_some(Runs {
            blocks,
            fragments,
            payload_bytes,
        })
    }

    /// Writes the payloads of the runs' fragments to `bytes`, a whole number of blocks.
    pub(super) fn put_fragments(&self, runs: &Runs, bytes: &mut [u8], block_bytes: usize) {
        let mut end = 0;
        for (index, fragment) in &runs.fragments {
            let start = record::payload_start(end, false, block_bytes);
            bytes[end..start].fill(0);
            end = start + fragment.entry.payload_bytes();
            fragment.put(&mut bytes[start..end], &self.chunks[*index].buffer);
        }
        bytes[end..].fill(0);
    }

    /// How the record is laid out.
    pub(super) fn layout(&self, runs: Option<&Runs>, block_bytes: usize) -> Layout {
        let head_bytes = record::head_bytes(self.entries.len());
        let fits = head_bytes <= HEAD_ROOM && self.shared.is_some();
        let head = if fits {
            0
        } else {
            head_bytes.next_multiple_of(block_bytes)
        };
        let payload_offset = if self.shared.is_some() {
            head + HEAD_ROOM
        } else {
            head
        };
        let fragments = runs.map_or(0, |runs| runs.payload_bytes);
        let last = match runs {
            Some(_) => fragments,
            None => self.shared.map_or(0, |shared| self.chunks[shared].used),
        };
        let padding = last.next_multiple_of(block_bytes) - last;
        let total_length = head + self.shared_bytes(block_bytes) + fragments.next_multiple_of(block_bytes);
        Layout {
            head: (!fits).then_some(head),
            payload_offset,
            payload_length: total_length - padding - payload_offset,
            total_length,
        }
    }

    /// Writes the header to the room for it in the first chunk of the payload. Returns its CRC.
    pub(super) fn encode_head(&mut self, header: &RecordHeader) -> u32 {
        let first = self.chunks.iter_mut().find(|chunk| chunk.run.is_none());
        let room = &mut first.expect("the header fits in one").buffer[..HEAD_ROOM];
        record::encode(room, header, &self.entries)
    }

    /// Ends it: what is to be written. The group can be read from now on.
    pub(super) fn freeze(&mut self, seq: u64, runs: Option<&Runs>, block_bytes: usize) -> Written {
        let mut closed = Vec::with_capacity(self.chunks.len());
        let mut written = Written {
            payload: Vec::with_capacity(2),
            direct: Vec::new(),
        };
        for (index, mut chunk) in std::mem::take(&mut self.chunks).into_iter().enumerate() {
            let end = chunk.used.next_multiple_of(block_bytes);
            let is_shared = chunk.run.is_none();
            if is_shared {
                chunk.buffer[chunk.used..end].fill(0);
            }
            let bytes = chunk.buffer.freeze(0..if is_shared { end } else { chunk.used });
            let blocks = runs
                .and_then(|runs| runs.blocks.get(index))
                .cloned()
                .unwrap_or(0..0);
            match chunk.run {
                Some(run) => written.direct.extend(run.write(&blocks, &bytes)),
                None => written.payload.push(bytes.clone()),
            }
            closed.push(Closed {
                bytes,
                written: blocks,
            });
        }
        self.group.close(seq, closed);
        written
    }
}
