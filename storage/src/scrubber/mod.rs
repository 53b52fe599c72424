//! Reads what is sealed again, whether or not anybody asks for it: rot is found while there is still a copy to mend it from.
//!
//! Owns when and how much: in the `Background` class, within a budget of bytes a second, one file open and one read in
//! flight at a time, not while the journal fills or memory is short. What is wrong with a segment is judged in
//! `inspect/`, as `millstream log check` does; which comes next, how fast, and what was told before are in the rooms
//! beside this, and pure.
//! Must never change or cut anything, hold up a stop or a deletion, or wait in a queue for memory that a reader wants.
//! Keeps nothing over a restart: each life begins at a place by chance, so that one that is often restarted comes to all
//! of its log as well.

mod findings;
mod pace;
mod round;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::Buffer;
use ring::count::Counter;
use ring::executor::{Class, Task, spawn, yield_now};
use ring::file::{File, OpenOptions};
use ring::local::Signal;
use ring::timer::{sleep, sleep_until};

use self::findings::Findings;
use self::pace::Pace;
use self::round::{Next, Place, Round};
use crate::commit::Committer;
use crate::error::is_short_of_descriptors;
use crate::files::{INDEX_BYTES_MAX, SegmentFiles};
use crate::id::TopicPartition;
use crate::index::{self, INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::inspect::{BatchStream, Finding, Flaw, Judge, Part, shown};
use crate::migration::Migration;
use crate::partition::{LogShared, PartitionLog, SealedSegment};
use crate::segment::SegmentName;

/// Read at a time, in bytes: what background work may have in flight while others commit.
const STEP_BYTES: usize = 128 << 10;
/// Opening a file costs as much of the budget, so that a log of small segments is not opened without end.
const OPEN_BYTES: u64 = 16 << 10;
/// The first round begins no later than this after a start, which has better to do.
const FIRST_ROUND: Duration = Duration::from_secs(60);
/// While something is in the way, it is looked again so often; and whether what is being read is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// It does not read while more than this part of the journal is to be migrated. A migration is due at a quarter: more than
/// that comes while one does not keep up, and never stays.
const JOURNAL_PART: (u64, u64) = (3, 8);
/// Of the memory for reading, readers have this part to themselves.
const READERS_PART: usize = 2;
/// Findings that nobody has taken yet. It does not go on while there are more.
const UNTOLD_MAX: usize = 256;

/// How sealed segments are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Bytes a second, at most; none: they are not.
    pub bytes_per_second: Option<NonZeroU64>,
    /// From the begin of one round over all of them to that of the next, at least.
    pub interval: Duration,
}

impl ScrubOptions {
    /// They are not read again.
    pub const OFF: ScrubOptions = ScrubOptions {
        bytes_per_second: None,
        interval: Duration::MAX,
    };
}

/// What was read again since the start, and what is wrong now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubStatistics {
    /// Bytes read.
    pub bytes: u64,
    /// Rounds over all sealed segments that came to their end.
    pub rounds: u64,
    /// When the last of them did, in milliseconds since 1970; 0 without any.
    pub last_round_ms: i64,
    /// Segments with records that cannot be read, of those that are there now.
    pub damaged_segments: u64,
    /// Segments with an index that is not as it was written, of those that are there now.
    pub damaged_indexes: u64,
}

/// Something wrong with a partition's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubFinding {
    /// Whose files.
    pub partition: TopicPartition,
    /// What is wrong where, and what to do.
    pub finding: Finding,
}

/// See the module.
pub(crate) struct Scrubber {
    inner: Rc<Inner>,
    task: RefCell<Option<Task<()>>>,
}

struct Inner {
    shared: Rc<LogShared>,
    committer: Committer,
    migration: Migration,
    partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    findings: RefCell<Findings>,
    untold: RefCell<VecDeque<ScrubFinding>>,
    found: Signal,
    bytes: Counter,
    rounds: Counter,
    last_round_ms: Cell<i64>,
}

/// What is being read.
struct Subject {
    log: PartitionLog,
    segment: SealedSegment,
}

/// Why a file is not read to its end.
enum Obstacle {
    /// The segment is not there any more, or another: what was read means nothing.
    Gone,
    /// The file is not there, and should be.
    Missing,
    /// The disk refuses, from this byte on.
    Refused(u64, String),
}

impl Scrubber {
    /// For these partitions, and those that come.
    pub(crate) fn new(
        shared: Rc<LogShared>,
        committer: Committer,
        migration: Migration,
        partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    ) -> Scrubber {
        Scrubber {
            inner: Rc::new(Inner {
                shared,
                committer,
                migration,
                partitions,
                findings: RefCell::default(),
                untold: RefCell::default(),
                found: Signal::new(),
                bytes: Counter::new(),
                rounds: Counter::new(),
                last_round_ms: Cell::new(0),
            }),
            task: RefCell::default(),
        }
    }

    /// Begins, unless it is off.
    pub(crate) fn start(&self, options: ScrubOptions) {
        if let Some(bytes_per_second) = options.bytes_per_second {
            let pace = Pace::new(bytes_per_second);
            let task = spawn(
                Class::Background,
                self.inner.clone().scrub(pace, options.interval),
            );
            *self.task.borrow_mut() = Some(task);
        }
    }

    /// Reads nothing from now on.
    pub(crate) fn stop(&self) {
        drop(self.task.borrow_mut().take());
    }

    /// Waits until something is found, and says what: each place once.
    pub(crate) async fn next_finding(&self) -> ScrubFinding {
        loop {
            let found = self.inner.found.wait();
            let next = self.inner.untold.borrow_mut().pop_front();
            match next {
                Some(next) => return next,
                None => found.await,
            }
        }
    }

    pub(crate) fn statistics(&self) -> ScrubStatistics {
        let Inner {
            findings,
            bytes,
            rounds,
            last_round_ms,
            ..
        } = &*self.inner;
        let count = |parts: &[Part]| {
            let is_there = |place, segment: &SealedSegment| self.inner.is_there(place, segment);
            findings.borrow().count(parts, is_there)
        };
        ScrubStatistics {
            bytes: bytes.get(),
            rounds: rounds.get(),
            last_round_ms: last_round_ms.get(),
            damaged_segments: count(&[Part::Log]),
            damaged_indexes: count(&[Part::Index, Part::TimeIndex]),
        }
    }
}

impl Inner {
    async fn scrub(self: Rc<Self>, mut pace: Pace, interval: Duration) {
        sleep(interval.min(FIRST_ROUND)).await;
        let from = self.place_by_chance();
        loop {
            let begun = ring::clock::now();
            let mut round = Round::new(from);
            loop {
                let next = round.next(&self.partitions.borrow(), |log, offset| {
                    Some(log.sealed_from(offset)?.name.base_offset)
                });
                match next {
                    Next::Segment(place) => self.examine(place, &mut pace).await,
                    Next::Later => yield_now().await,
                    Next::End => break,
                }
            }
            self.findings
                .borrow_mut()
                .keep(|place, segment| self.is_there(place, segment));
            self.rounds.add(1);
            self.last_round_ms.set(ring::clock::wall_clock_ms());
            sleep_until(begun + interval).await;
            // Whatever the interval, and however little there is to read, others come to their turn.
            yield_now().await;
        }
    }

    fn place_by_chance(&self) -> Place {
        let partitions = self.partitions.borrow();
        let chance = ring::random::next_u64();
        let Some(at) = chance.checked_rem(partitions.len() as u64) else {
            return Place::default();
        };
        let Some((id, log)) = partitions.iter().nth(at as usize) else {
            return Place::default();
        };
        let span = (log.log_end_offset() - log.log_start_offset()).max(1);
        let offset = ring::random::next_u64() % span.unsigned_abs();
        (*id, log.log_start_offset() + offset.cast_signed())
    }

    fn is_there(&self, place: Place, segment: &SealedSegment) -> bool {
        let partitions = self.partitions.borrow();
        let log = partitions.get(&place.0);
        log.is_some_and(|log| log.has_sealed(segment))
    }

    /// Reads a segment and its indexes, and tells what is new of what is wrong with them.
    async fn examine(&self, place: Place, pace: &mut Pace) {
        let log = self.partitions.borrow().get(&place.0).cloned();
        let Some(log) = log else { return };
        let Some(segment) = log.sealed_from(place.1) else {
            return;
        };
        let subject = Subject { log, segment };
        if let Some((flaws, unnoted)) = self.judge(&subject, pace).await {
            self.tell(&subject, flaws, unnoted);
        }
    }

    fn tell(&self, subject: &Subject, flaws: Vec<Flaw>, unnoted: usize) {
        let Subject { log, segment } = subject;
        let directory = log.directory();
        let files = SegmentFiles {
            directory: &directory,
            name: segment.name,
            is_aside: log.is_aside(segment.name),
        };
        let find = |part: Part, position, what| ScrubFinding {
            partition: log.id(),
            finding: Finding {
                severity: part.severity(),
                path: shown(&part.path(&files), &self.shared.directory),
                position,
                what,
                next: part.remedy().to_owned(),
            },
        };
        let mut findings = self.findings.borrow_mut();
        let new = findings.judged((log.id(), segment.name.base_offset), *segment, flaws);
        let has_more = unnoted > 0 && !new.is_empty();
        let mut untold = self.untold.borrow_mut();
        for Flaw { part, position, what } in new {
            untold.push_back(find(part, Some(position), what));
        }
        if has_more {
            let what = format!("{unnoted} findings more in this segment and its indexes");
            untold.push_back(find(Part::Log, None, what));
        }
        if !untold.is_empty() {
            self.found.notify_all();
        }
    }

    /// What is wrong with a segment, and how much more was not noted; none if it has gone meanwhile.
    async fn judge(&self, subject: &Subject, pace: &mut Pace) -> Option<(Vec<Flaw>, usize)> {
        let segment = &subject.segment;
        // Only compaction takes offsets out.
        let is_dense = segment.name.generation == 0;
        let mut judge = Judge::new(segment.name.base_offset, is_dense, subject.log.leader_epochs());
        let mut indexes = [Vec::new(), Vec::new()];
        let parts = [
            (Part::Index, segment.index_entries as usize * INDEX_ENTRY_BYTES),
            (Part::TimeIndex, segment.time_entries as usize * TIME_ENTRY_BYTES),
        ];
        for ((part, expected), bytes) in parts.into_iter().zip(&mut indexes) {
            let expected = expected as u64;
            // None that large is ever used.
            if expected > INDEX_BYTES_MAX {
                continue;
            }
            let read = self.read(subject, part, expected, pace, |piece| {
                bytes.extend_from_slice(piece);
                true
            });
            match read.await {
                Ok(found) if found == expected => {}
                Ok(found) => judge.add(Flaw::length(part, found, expected)),
                Err(Obstacle::Gone) => return None,
                Err(Obstacle::Missing) if expected == 0 => {}
                Err(Obstacle::Missing) => judge.add(Flaw::length(part, 0, expected)),
                Err(Obstacle::Refused(position, what)) => judge.add(Flaw { part, position, what }),
            }
        }
        judge.indexes(
            index::offset_entries(&indexes[0]).collect(),
            index::time_entries(&indexes[1]).collect(),
        );
        drop(indexes);
        let expected = u64::from(segment.bytes);
        let mut stream = BatchStream::new(judge, expected);
        let read = self.read(subject, Part::Log, expected, pace, |piece| stream.take(piece));
        let (found, failure) = match read.await {
            Ok(found) => (found, None),
            Err(Obstacle::Gone) => return None,
            Err(Obstacle::Missing) if expected == 0 => (0, None),
            Err(Obstacle::Missing) => {
                let what = format!("it is missing, and {expected} bytes were written to it");
                (expected, Some((0, what)))
            }
            Err(Obstacle::Refused(position, what)) => (expected, Some((position, what))),
        };
        if found != expected {
            stream.add(Flaw::length(Part::Log, found, expected));
        }
        let judged = match failure {
            Some((position, what)) => stream.fail(position, &what),
            None => stream.end(segment.next_offset),
        };
        // It may have been removed meanwhile, or another file have come to its name.
        subject.log.has_sealed(segment).then_some(judged)
    }

    /// Reads a file from its beginning on, as far as `take` wants it, and `expected` bytes at most. How many it has.
    async fn read(
        &self,
        subject: &Subject,
        part: Part,
        expected: u64,
        pace: &mut Pace,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<u64, Obstacle> {
        let (log, segment) = (&subject.log, &subject.segment);
        let block = self.shared.block_bytes as usize;
        let directory = log.directory();
        let refused = |at, action: &str, error: io::Error| {
            Obstacle::Refused(at, format!("it cannot be {action}: {error}"))
        };
        let file = loop {
            self.turn(subject, pace, OPEN_BYTES, || Some(())).await?;
            // Beside the files that all share: it would push out what others need.
            match open(&directory, segment.name, part).await {
                Ok(file) => break file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(Obstacle::Missing),
                // That is nothing about this file.
                Err(error)
                    if error.kind() == ErrorKind::OutOfMemory
                        || is_short_of_descriptors(error.raw_os_error()) =>
                {
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(refused(0, "opened", error)),
            }
        };
        let found = file.len().await.map_err(|error| refused(0, "looked at", error))?;
        let end = found.min(expected);
        let mut at = 0;
        while at < end {
            let wanted = (end - at).min(STEP_BYTES as u64) as usize;
            let bytes = wanted.next_multiple_of(block);
            let buffer = self
                .turn(subject, pace, bytes as u64, || self.buffer(bytes))
                .await?;
            let alone = self.shared.background.acquire(1).await;
            let (read, buffer) = file.read_exact_at(buffer, 0..bytes, at).await;
            drop(alone);
            if !log.has_sealed(segment) {
                return Err(Obstacle::Gone);
            }
            let count = read.map_err(|error| refused(at, "read", error))?.min(wanted);
            self.bytes.add(count as u64);
            at += count as u64;
            if !take(&buffer[..count]) || count < wanted {
                break;
            }
        }
        Ok(found)
    }

    /// Waits until so many bytes may be read, by the budget and by what else there is to do, and takes what `get` gives.
    /// An end if the segment goes meanwhile: the disk space of a file that is open does not come back.
    async fn turn<T>(
        &self,
        subject: &Subject,
        pace: &mut Pace,
        bytes: u64,
        get: impl Fn() -> Option<T>,
    ) -> Result<T, Obstacle> {
        loop {
            if !subject.log.has_sealed(&subject.segment) {
                return Err(Obstacle::Gone);
            }
            let now = ring::clock::now();
            let wait = pace.wait(now);
            if !wait.is_zero() {
                sleep(wait.min(LOOK_AGAIN)).await;
            } else if !self.is_behind()
                && let Some(got) = get()
            {
                pace.spend(now, bytes);
                return Ok(got);
            } else {
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Whether the shard has better to do.
    fn is_behind(&self) -> bool {
        let Inner {
            shared,
            committer,
            migration,
            untold,
            ..
        } = self;
        let (part, whole) = JOURNAL_PART;
        committer.failure().is_some()
            || migration.unmigrated_bytes() * whole > committer.ring_bytes() * part
            || committer.memory_shortage().is_recent()
            || shared.reading_shortage.is_recent()
            || untold.borrow().len() > UNTOLD_MAX
    }

    /// Memory for a read, if there is so much that nobody will miss it: what is kept for readers has nobody.
    fn buffer(&self, bytes: usize) -> Option<Buffer> {
        let LogShared { reading, cache, .. } = &*self.shared;
        let is_enough = reading.bytes_left() + cache.bytes() >= reading.bytes() / READERS_PART + bytes;
        is_enough.then(|| reading.try_take(bytes).ok()).flatten()
    }
}

/// Opens one of a segment's files, wherever it is: it may come to its place at any time.
async fn open(directory: &Path, name: SegmentName, part: Part) -> io::Result<File> {
    let options = OpenOptions {
        read: true,
        direct: true,
        ..OpenOptions::default()
    };
    let path = |is_aside| {
        part.path(&SegmentFiles {
            directory,
            name,
            is_aside,
        })
    };
    if name.generation > 0 {
        match File::open(&path(true), options).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    File::open(&path(false), options).await
}
