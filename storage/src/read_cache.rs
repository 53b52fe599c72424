//! What consumers read from segments, kept in memory for whoever reads the same next, and who reads on from where.
//!
//! Owns tiles: a segment in stretches of one size, each of which is read once, whatever its readers ask for. What is in a
//! tile is on the disk, and never changes under its segment's name. Promises: a bound on what is kept, and that it can be taken
//! back; a bound on who gets in, so that what one reader needs next is not thrown out for another's (or for those who share its
//! place, as long as these are close behind it): who finds no place reads what it asked for, and nothing more. No I/O.
//! Must never vouch for a batch that was not checked in the very bytes that are given away.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::Slice;
use ring::clock::Instant;
use ring::local::{Signal, SignalWait};

use crate::id::TopicPartition;
use crate::segment::SegmentName;

/// Bytes of a tile, a power of two: as much as a disk reads about as fast as more, and less where memory is small.
const TILE_BYTES: RangeInclusive<usize> = 16 << 10..=256 << 10;
/// Tiles of a large memory, at least.
const TILES: usize = 64;
/// What is kept has this part of the memory for reading; the rest is for reads under way, answers being sent, compaction.
const PART: usize = 2;
/// What an answer takes at most, and what is read beyond it, in tiles. One more each, as they begin anywhere.
pub(crate) const ANSWER_TILES: usize = 4;
/// So many tiles a reader may need.
const READER_TILES: usize = 2 * (ANSWER_TILES + 1);
/// Places at most: more readers keep a disk busy by themselves.
const READERS_MAX: usize = 64;
/// A reader that did not come for so long loses its place, if another wants one.
const IDLE: Duration = Duration::from_secs(1);
/// So many ends of its last answers are known: those who read the same a little later share its place.
const ENDS_MAX: usize = 8;

/// Which tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TileKey {
    pub(crate) id: TopicPartition,
    pub(crate) segment: SegmentName,
    /// From 0, in tiles from the segment's beginning.
    pub(crate) index: u32,
}

/// A stretch of a segment, in memory.
pub(crate) struct Tile {
    bytes: Slice,
    /// Of the tile, what belongs to batches whose CRC held.
    checked: Cell<(usize, usize)>,
}

impl Tile {
    pub(crate) fn new(bytes: Slice) -> Tile {
        Tile {
            bytes,
            checked: Cell::new((0, 0)),
        }
    }

    pub(crate) fn bytes(&self) -> &Slice {
        &self.bytes
    }

    /// Whether all of `range` belongs to batches that were checked in this memory.
    pub(crate) fn is_checked(&self, range: &Range<usize>) -> bool {
        let (from, to) = self.checked.get();
        from <= range.start && range.end <= to
    }

    /// A batch was checked that has this of the tile. Only one stretch is remembered: readers go forward.
    pub(crate) fn note_checked(&self, range: &Range<usize>) {
        let (from, to) = self.checked.get();
        let is_apart = range.start > to || range.end < from;
        self.checked.set(if is_apart {
            (range.start, range.end)
        } else {
            (from.min(range.start), to.max(range.end))
        });
    }
}

/// What is known of a tile.
pub(crate) enum Lookup {
    Kept(Rc<Tile>),
    BeingRead(SignalWait),
    Missing,
}

/// Where an answer ended: the next begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The offset that comes next.
    pub(crate) offset: i64,
    pub(crate) segment: SegmentName,
    /// Where in the segment its batch begins, if it is in that.
    pub(crate) position: u32,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct ReadCache {
    shared: Rc<Shared>,
}

struct Shared {
    tile_bytes: usize,
    tiles_max: usize,
    readers_max: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    tiles: BTreeMap<TileKey, Entry>,
    /// Those that are kept, by when they were used last.
    by_use: BTreeMap<u64, TileKey>,
    uses: u64,
    /// Bytes of those that are kept.
    bytes: usize,
    readers: Vec<Reader>,
}

enum Entry {
    BeingRead(Signal),
    Kept { tile: Rc<Tile>, used: u64 },
}

/// Who reads on, and those close behind it.
struct Reader {
    id: TopicPartition,
    /// The newest last.
    ends: VecDeque<End>,
    came_at: Instant,
}

impl Reader {
    fn end(&self, id: TopicPartition, offset: i64) -> Option<&End> {
        if self.id != id {
            return None;
        }
        self.ends.iter().rev().find(|end| end.offset == offset)
    }
}

impl ReadCache {
    /// Of a shard that has so many bytes for reading. Too few are no cache.
    pub(crate) fn new(reading_bytes: usize) -> ReadCache {
        let kept = reading_bytes / PART;
        let wanted = (kept / TILES).clamp(*TILE_BYTES.start(), *TILE_BYTES.end());
        let tile_bytes = 1 << wanted.ilog2();
        let tiles_max = kept / tile_bytes;
        ReadCache {
            shared: Rc::new(Shared {
                tile_bytes,
                tiles_max,
                readers_max: (tiles_max / READER_TILES).min(READERS_MAX),
                state: RefCell::default(),
            }),
        }
    }

    pub(crate) fn tile_bytes(&self) -> usize {
        self.shared.tile_bytes
    }

    /// Bytes that are kept, and could be given back.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.state.borrow().bytes
    }

    /// Where an answer that begins with `offset` begins in `segment`, if a reader has come to it, or begins with the segment
    /// and finds a place: who reads a segment's first batch reads on, as a rule.
    pub(crate) fn position_of(
        &self,
        id: TopicPartition,
        offset: i64,
        segment: SegmentName,
        now: Instant,
    ) -> Option<u32> {
        let mut state = self.shared.state.borrow_mut();
        let readers = &state.readers;
        let known = readers.iter().find_map(|reader| reader.end(id, offset));
        let begins = offset == segment.base_offset;
        match known {
            Some(end) if end.segment == segment => Some(end.position),
            Some(_) => begins.then_some(0),
            None => {
                let end = End {
                    offset,
                    segment,
                    position: 0,
                };
                (begins && state.admit(id, end, self.shared.readers_max, now)).then_some(0)
            }
        }
    }

    /// An answer began with `from`, and ended at `end`. Whether its reader has read up to `from` before, and has a place.
    pub(crate) fn came(&self, id: TopicPartition, from: i64, end: End, now: Instant) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let readers = &mut state.readers;
        if let Some(reader) = readers.iter_mut().find(|reader| reader.end(id, from).is_some()) {
            reader.came_at = now;
            // It may be in another segment since that was compacted.
            reader.ends.retain(|known| known.offset != end.offset);
            reader.ends.push_back(end);
            if reader.ends.len() > ENDS_MAX {
                reader.ends.pop_front();
            }
            return true;
        }
        if !readers.iter().any(|reader| reader.end(id, end.offset).is_some()) {
            state.admit(id, end, self.shared.readers_max, now);
        }
        false
    }

    /// Looks a tile up, and uses it.
    pub(crate) fn get(&self, key: TileKey) -> Lookup {
        let mut state = self.shared.state.borrow_mut();
        let state = &mut *state;
        match state.tiles.get_mut(&key) {
            None => Lookup::Missing,
            Some(Entry::BeingRead(signal)) => Lookup::BeingRead(signal.wait()),
            Some(Entry::Kept { tile, used }) => {
                state.by_use.remove(used);
                state.uses += 1;
                *used = state.uses;
                state.by_use.insert(state.uses, key);
                Lookup::Kept(tile.clone())
            }
        }
    }

    /// Says that a tile is being read, or read again; whoever looks for it waits until the reading has ended, one way or the other.
    ///
    /// # Panics
    /// If it is being read.
    pub(crate) fn begin(&self, key: TileKey) -> Reading {
        let signal = Signal::new();
        let mut state = self.shared.state.borrow_mut();
        let before = state.take(key);
        assert!(
            !matches!(before, Some(Entry::BeingRead(_))),
            "a tile is read once at a time"
        );
        (state.tiles).insert(key, Entry::BeingRead(signal.clone()));
        drop(state);
        drop(before); // may wake who waits for memory
        self.make_room();
        Reading {
            cache: self.clone(),
            key,
            signal,
        }
    }

    /// Forgets a tile that is kept.
    pub(crate) fn forget(&self, key: TileKey) {
        let mut state = self.shared.state.borrow_mut();
        if !matches!(state.tiles.get(&key), Some(Entry::Kept { .. })) {
            return;
        }
        let forgotten = state.take(key);
        drop(state);
        drop(forgotten); // may wake who waits for memory
    }

    /// Forgets what was used longest ago. False if nothing is kept.
    pub(crate) fn forget_oldest(&self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let Some(oldest) = state.by_use.first_key_value().map(|(_, key)| *key) else {
            return false;
        };
        let forgotten = state.take(oldest);
        drop(state);
        drop(forgotten);
        true
    }

    fn make_room(&self) {
        let has_too_many = || self.shared.state.borrow().tiles.len() > self.shared.tiles_max;
        while has_too_many() && self.forget_oldest() {}
    }
}

impl State {
    fn take(&mut self, key: TileKey) -> Option<Entry> {
        let taken = self.tiles.remove(&key);
        if let Some(Entry::Kept { tile, used }) = &taken {
            self.by_use.remove(used);
            self.bytes -= tile.bytes.len();
        }
        taken
    }

    /// Gives a new reader a place, if there is one, or somebody is idle.
    fn admit(&mut self, id: TopicPartition, end: End, readers_max: usize, now: Instant) -> bool {
        let new = Reader {
            id,
            ends: VecDeque::from([end]),
            came_at: now,
        };
        if self.readers.len() < readers_max {
            self.readers.push(new);
            return true;
        }
        let oldest = self.readers.iter_mut().min_by_key(|reader| reader.came_at);
        let idle = oldest.filter(|oldest| now - oldest.came_at >= IDLE);
        idle.is_some_and(|idle| {
            *idle = new;
            true
        })
    }
}

/// A tile that is being read. Dropped without bytes, it is missing again.
pub(crate) struct Reading {
    cache: ReadCache,
    key: TileKey,
    signal: Signal,
}

impl Reading {
    /// It was read.
    pub(crate) fn finish(self, bytes: Slice) {
        debug_assert!(bytes.len() <= self.cache.tile_bytes());
        let mut state = self.cache.shared.state.borrow_mut();
        state.uses += 1;
        state.bytes += bytes.len();
        let used = state.uses;
        state.by_use.insert(used, self.key);
        let tile = Rc::new(Tile::new(bytes));
        state.tiles.insert(self.key, Entry::Kept { tile, used });
        drop(state);
        self.cache.make_room();
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.cache.shared.state.borrow_mut();
        if let Some(Entry::BeingRead(_)) = state.tiles.get(&self.key) {
            state.tiles.remove(&self.key);
        }
        drop(state);
        self.signal.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicPartition = TopicPartition {
        topic_id: 1,
        partition: 0,
    };
    const SEGMENT: SegmentName = SegmentName {
        base_offset: 100,
        generation: 0,
    };

    fn key(index: u32) -> TileKey {
        TileKey {
            id: ID,
            segment: SEGMENT,
            index,
        }
    }

    fn end(offset: i64) -> End {
        End {
            offset,
            segment: SEGMENT,
            position: offset as u32 * 10,
        }
    }

    fn at(milliseconds: u64) -> Instant {
        Instant(milliseconds * 1_000_000)
    }

    fn position(cache: &ReadCache, offset: i64, segment: SegmentName) -> Option<u32> {
        cache.position_of(ID, offset, segment, at(0))
    }

    fn is_kept(cache: &ReadCache, index: u32) -> bool {
        matches!(cache.get(key(index)), Lookup::Kept(_))
    }

    fn put(cache: &ReadCache, index: u32) {
        cache.begin(key(index)).finish(Slice::from(vec![index as u8; 10]));
    }

    #[test]
    fn a_tile_is_as_large_as_the_memory_lets_it() {
        let shape = |bytes| {
            let cache = ReadCache::new(bytes);
            (
                cache.tile_bytes(),
                cache.shared.tiles_max,
                cache.shared.readers_max,
            )
        };
        assert_eq!(shape(0), (16 << 10, 0, 0));
        assert_eq!(shape(1 << 20), (16 << 10, 32, 3));
        assert_eq!(shape(64 << 20), (256 << 10, 128, 12));
        assert_eq!(shape(1 << 30), (256 << 10, 2_048, 64));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = ReadCache::new(4 * 2 * (16 << 10));
        for index in 0..4 {
            put(&cache, index);
        }
        assert!(is_kept(&cache, 0));
        put(&cache, 4);
        assert!(is_kept(&cache, 0) && !is_kept(&cache, 1) && is_kept(&cache, 4));
        let counts = || {
            let state = cache.shared.state.borrow();
            (state.tiles.len(), state.by_use.len(), state.bytes)
        };
        assert_eq!(counts(), (4, 4, 40));
        let again = cache.begin(key(4));
        assert_eq!(counts(), (4, 3, 30));
        again.finish(Slice::from(vec![0; 20]));
        assert_eq!(counts(), (4, 4, 50));
    }

    #[test]
    fn who_waits_for_a_tile_is_woken_whatever_becomes_of_it() {
        let cache = ReadCache::new(1 << 20);
        let reading = cache.begin(key(0));
        let Lookup::BeingRead(wait) = cache.get(key(0)) else {
            panic!("it is being read");
        };
        drop(reading);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(wait).poll(&mut context).is_ready());
        assert!(matches!(cache.get(key(0)), Lookup::Missing));
        put(&cache, 0);
        assert!(is_kept(&cache, 0));
    }

    #[test]
    fn checked_is_what_was_checked_in_one_piece() {
        let tile = Tile::new(Slice::from(vec![0; 100]));
        assert!(!tile.is_checked(&(0..1)));
        tile.note_checked(&(10..20));
        assert!(tile.is_checked(&(10..20)) && !tile.is_checked(&(9..20)) && !tile.is_checked(&(10..21)));
        tile.note_checked(&(20..30));
        assert!(tile.is_checked(&(10..30)));
        tile.note_checked(&(5..10));
        assert!(tile.is_checked(&(5..30)));
        tile.note_checked(&(40..50));
        assert!(tile.is_checked(&(40..50)) && !tile.is_checked(&(30..41)) && !tile.is_checked(&(10..20)));
    }

    #[test]
    fn a_reader_is_known_where_it_ended_and_those_close_behind_it() {
        let cache = ReadCache::new(1 << 20);
        let next = SegmentName::first(200);
        assert_eq!(position(&cache, 110, SEGMENT), None);
        assert!(!cache.came(ID, 100, end(110), at(0)), "it was never here");
        assert_eq!(position(&cache, 110, SEGMENT), Some(1_100));
        let other = TopicPartition { partition: 1, ..ID };
        assert_eq!(cache.position_of(other, 110, SEGMENT, at(0)), None);
        for offset in 111..111 + ENDS_MAX as i64 {
            assert!(cache.came(ID, offset - 1, end(offset), at(0)));
        }
        assert_eq!(position(&cache, 110, SEGMENT), None, "too long ago");
        assert_eq!(position(&cache, 111, SEGMENT), Some(1_110));
        assert!(cache.came(ID, 111, end(112), at(0)), "close behind it");
        assert_eq!(cache.shared.state.borrow().readers.len(), 1);
        // The next segment begins where this one ends.
        assert!(cache.came(ID, 118, end(200), at(0)));
        assert_eq!(position(&cache, 200, next), Some(0));
        assert_eq!(position(&cache, 112, next), None);
    }

    #[test]
    fn there_are_places_for_so_many_readers_and_who_is_idle_gives_its_own() {
        let cache = ReadCache::new(1 << 20);
        for reader in 0..4 {
            assert!(!cache.came(ID, 77, end(1_000 * reader), at(500)));
        }
        let is_known = |offset| position(&cache, offset, SEGMENT).is_some();
        assert!(is_known(0) && is_known(1_000) && is_known(2_000) && !is_known(3_000));
        assert!(cache.came(ID, 0, end(1), at(1_400)));
        assert!(
            !cache.came(ID, 77, end(3_000), at(1_499)) && !is_known(3_000),
            "nobody is idle"
        );
        assert!(!cache.came(ID, 77, end(3_000), at(1_500)));
        assert!(is_known(3_000) && !is_known(1_000) && is_known(1));
    }

    #[test]
    fn who_begins_with_a_segment_is_a_reader_if_there_is_a_place() {
        let cache = ReadCache::new(1 << 20);
        for reader in 0..3 {
            let name = SegmentName::first(reader);
            assert_eq!(cache.position_of(ID, reader, name, at(500)), Some(0));
            assert_eq!(
                cache.position_of(ID, reader, name, at(500)),
                Some(0),
                "it is known"
            );
        }
        assert_eq!(cache.position_of(ID, 3, SegmentName::first(3), at(1_499)), None);
        assert!(cache.came(ID, 0, end(1), at(1_500)));
        assert_eq!(
            cache.position_of(ID, 3, SegmentName::first(3), at(1_500)),
            Some(0)
        );
    }
}
