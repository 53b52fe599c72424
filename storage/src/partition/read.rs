//! Reading: from memory without a copy, or from the segments by direct reads.
//!
//! What is read from a segment is believed only if it is a chain of whole batches whose CRCs hold; an index is a hint.

use std::ops::Range;
use std::rc::Rc;

use ring::buffer::Slice;
use ring::executor::yield_now;
use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

use super::piece::Piece;
use super::window::{SegmentView, Window};
use super::{Partition, PartitionLog};
use crate::error::{ReadError, StorageError};
use crate::index::{self, Entries, EntryCounts, IndexEntry};
use crate::read_cache::End;
use crate::segment::{OWN_BATCH_BYTES_MAX, SegmentName, is_plausible};

/// What is said of such a batch. No CRC covers its epoch.
pub(crate) const ANOTHER_EPOCH: &str = "a batch has another leader epoch than had written it";
/// The most that one read takes from a segment, in bytes, apart from one larger batch.
const COLD_READ_BYTES: usize = 1 << 20;
/// Read beyond what was asked for: an index entry is that far before the batch, as a rule.
const INDEX_SLACK_BYTES: usize = 8 << 10;
/// What has less than this part of the memory that it would keep from others is copied.
const LITTLE_PART: usize = 8;

/// Whole batches that were found, and where they are.
pub struct Extent(Found);

enum Found {
    /// In memory.
    Tail(Vec<Slice>),
    /// In the segments.
    Cold(Cold),
}

/// What to read from the segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cold {
    pub(super) offset: i64,
    pub(super) max_bytes: usize,
    at_least_one: bool,
    up_to_offset: i64,
}

impl Cold {
    /// The same with so many bytes at most.
    pub(super) fn at_most(self, bytes: usize) -> Cold {
        Cold {
            max_bytes: self.max_bytes.min(bytes),
            ..self
        }
    }
}

/// How it is read.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// It waits for memory to read into; else it gets nothing when there is none.
    waits: bool,
    /// Its reader is a consumer, which reads on from where an answer ended: through the cache.
    is_consumer: bool,
}

impl Manner {
    const PATIENT: Manner = Manner {
        waits: true,
        is_consumer: false,
    };
}

/// What is known of the batch that comes next in a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// Its first offset, or the least that it can be where compaction has left holes.
    pub(super) next_offset: Option<i64>,
    /// Its last one, by the index.
    pub(super) last_offset: Option<i64>,
    pub(super) has_holes: bool,
}

impl Chain {
    /// Behind this batch.
    fn after(self, header: &BatchHeader) -> Chain {
        Chain {
            next_offset: Some(header.next_offset()),
            last_offset: None,
            ..self
        }
    }

    fn goes_on_with(&self, header: &BatchHeader) -> bool {
        let follows = |first: i64| match self.has_holes {
            false => header.base_offset == first,
            true => header.base_offset >= first,
        };
        self.next_offset.is_none_or(follows)
            && self.last_offset.is_none_or(|last| header.last_offset() == last)
    }
}

/// What was in a segment.
enum Loaded {
    Batches(Batches),
    /// Nothing from the offset on: compaction has removed it. The next segment begins here.
    Hole(i64),
}

/// Whole batches; none if there was no memory for them, or they are not to be read.
#[derive(Default)]
pub(super) struct Batches {
    slices: Vec<Slice>,
    /// Where they end.
    end: Option<End>,
}

/// What of a window is to be given.
pub(super) struct Collected {
    /// The batches.
    pub(super) found: Option<Range<usize>>,
    /// Up to here it was looked through.
    pub(super) passed: usize,
    /// What comes next.
    pub(super) chain: Chain,
    /// Nothing behind that is to be given.
    pub(super) is_over: bool,
    /// Bytes of the batch that comes next, if the window ends within it.
    pub(super) longer: usize,
}

impl Extent {
    /// Whether [`PartitionLog::load`] reads nothing from a disk.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.0, Found::Tail(_))
    }
}

impl PartitionLog {
    /// Finds whole batches from the one that holds `offset` on: at most `max_bytes` of them, or one that is larger if
    /// `at_least_one`; none that reaches past `up_to_offset`.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`].
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        up_to_offset: i64,
    ) -> Result<Extent, ReadError> {
        let log_start_offset = self.log_start_offset();
        let end_offset = up_to_offset.min(self.high_watermark());
        if offset < log_start_offset || offset > end_offset {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                end_offset,
            });
        }
        let state = self.partition.state.borrow();
        let first = state.tail.partition_point(|piece| piece.next_offset <= offset);
        let in_memory = state.tail.get(first).filter(|piece| piece.base_offset <= offset);
        if offset < end_offset && in_memory.is_none_or(|piece| !piece.is_in_memory()) {
            return Ok(Extent(Found::Cold(Cold {
                offset,
                max_bytes,
                at_least_one,
                up_to_offset: end_offset,
            })));
        }
        let mut slices = Vec::new();
        let mut bytes = 0;
        for piece in state.tail.range(first..) {
            let length = piece.length();
            let fits = bytes + length <= max_bytes || (slices.is_empty() && at_least_one);
            if piece.next_offset > end_offset || !fits {
                break;
            }
            let Some(slice) = piece.in_memory() else {
                break;
            };
            bytes += length;
            slices.push(slice);
        }
        Ok(Extent(Found::Tail(slices)))
    }

    /// The bytes of what was found. No batch is in two slices.
    ///
    /// # Errors
    /// If the segment cannot be read, or does not hold what was written to it.
    pub async fn load(&self, extent: Extent) -> Result<Vec<Slice>, StorageError> {
        self.load_in(extent, Manner::PATIENT).await
    }

    /// The same, but it does not wait for memory: it gives nothing if there is none. For whoever holds some already, and
    /// would wait for what it holds.
    ///
    /// # Errors
    /// As for [`PartitionLog::load`].
    pub async fn load_at_once(&self, extent: Extent) -> Result<Vec<Slice>, StorageError> {
        let at_once = Manner {
            waits: false,
            ..Manner::PATIENT
        };
        self.load_in(extent, at_once).await
    }

    /// The same for a consumer, which will want what comes next: that is read before it asks. Here a batch may be in several
    /// consecutive slices.
    ///
    /// # Errors
    /// As for [`PartitionLog::load`].
    pub async fn load_for_consumer(&self, extent: Extent, waits: bool) -> Result<Vec<Slice>, StorageError> {
        let manner = Manner {
            waits,
            is_consumer: true,
        };
        self.load_in(extent, manner).await
    }

    async fn load_in(&self, extent: Extent, manner: Manner) -> Result<Vec<Slice>, StorageError> {
        let cold = match extent.0 {
            Found::Tail(slices) => return Ok(slices),
            Found::Cold(cold) => cold,
        };
        let mut part = cold;
        loop {
            let loaded = self.load_cold(&part, manner).await;
            // Its segment may have been removed meanwhile: the next read says that the log begins later.
            if part.offset < self.log_start_offset() {
                return Ok(Vec::new());
            }
            // Its files' names may be those of another incarnation of the topic by now.
            if self.partition.is_dropped.get() {
                return Err(StorageError::Dropped);
            }
            let next = match loaded? {
                Loaded::Batches(Batches { slices, end }) => {
                    if let Some(end) = end.filter(|_| manner.is_consumer) {
                        let bytes = slices.iter().map(|slice| slice.len()).sum();
                        self.read_on(cold.offset, end, bytes);
                        // Checking it has taken some time.
                        yield_now().await;
                    }
                    return Ok(slices);
                }
                Loaded::Hole(next) => next,
            };
            match self.read(next, part.max_bytes, part.at_least_one, part.up_to_offset) {
                Ok(Extent(Found::Tail(slices))) => return Ok(slices),
                Ok(Extent(Found::Cold(after))) => part = after,
                // What comes next is not to be read yet.
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    /// About how many bytes there are from `offset` to `up_to_offset`: exact in memory, and by the index's entries in
    /// the segments.
    pub fn bytes_available(&self, offset: i64, up_to_offset: i64) -> usize {
        if offset >= up_to_offset {
            return 0;
        }
        let state = self.partition.state.borrow();
        let position = |offset: i64| {
            let at = state.tail.partition_point(|piece| piece.next_offset <= offset);
            match state.tail.get(at) {
                Some(piece) if piece.base_offset <= offset => piece.stream_position,
                None if offset >= state.next_offset => state.segments.stream_end(),
                _ => match state.segments.index_of(offset) {
                    None => 0,
                    Some(at) => {
                        let segment = &state.segments.all[at];
                        let relative = u32::try_from(offset - segment.base_offset).unwrap_or(u32::MAX);
                        let entry = index::floor(&segment.index.offsets, relative);
                        segment.stream_start + entry.map_or(0, |entry| u64::from(entry.position))
                    }
                },
            }
        };
        let bytes = position(up_to_offset).saturating_sub(position(offset));
        // Something is there: an index that cannot tell how much must not make a reader wait.
        usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
    }

    /// Bytes of the batch with `offset`; 0 if it is not in memory.
    pub fn batch_bytes_in_memory(&self, offset: i64) -> usize {
        let state = self.partition.state.borrow();
        let at = state.tail.partition_point(|piece| piece.next_offset <= offset);
        let piece = state.tail.get(at).filter(|piece| piece.base_offset <= offset);
        piece.map_or(0, Piece::length)
    }

    async fn load_cold(&self, cold: &Cold, manner: Manner) -> Result<Loaded, StorageError> {
        loop {
            let Some(view) = self.segment_of(cold.offset) else {
                return Ok(Loaded::Batches(Batches::default()));
            };
            let cached = match manner.is_consumer {
                true => self.load_cached(cold, &view).await,
                false => None,
            };
            let loaded = match cached {
                Some(batches) => Ok(Loaded::Batches(batches)),
                None => self.load_from(cold, &view, manner).await,
            };
            // If the segment was compacted meanwhile, what was read may be of either file.
            let now = self.segment_of(cold.offset);
            if now.is_none_or(|now| now.name == view.name) {
                return loaded;
            }
        }
    }

    async fn load_from(
        &self,
        cold: &Cold,
        view: &SegmentView,
        manner: Manner,
    ) -> Result<Loaded, StorageError> {
        let entry = self.floor(view, cold.offset).await;
        match self.walk(cold, view, entry, manner).await {
            // The index may be what is wrong.
            Err(StorageError::Corrupt { .. }) if entry.is_some() => self.walk(cold, view, None, manner).await,
            walked => walked,
        }
    }

    /// Where in the segment to begin to look, if not at its first byte.
    async fn floor(&self, view: &SegmentView, offset: i64) -> Option<IndexEntry> {
        let base_offset = view.name.base_offset;
        let relative = u32::try_from(offset - base_offset).unwrap_or(u32::MAX);
        let in_memory = {
            let state = self.partition.state.borrow();
            let at = state.segments.index_of(base_offset);
            at.and_then(|at| index::floor(&state.segments.all[at].index.offsets, relative))
        };
        if in_memory.is_some() || view.in_files.offsets == 0 {
            return in_memory;
        }
        let index = self.index_in_files(view.name, view.migrated, view.in_files).await;
        index::floor(&index.offsets, relative)
    }

    /// So many entries of a segment's indexes, from its files.
    pub(super) async fn index_in_files(
        &self,
        name: SegmentName,
        bytes: u32,
        counts: EntryCounts,
    ) -> Rc<Entries> {
        let Partition { shared, id, .. } = &*self.partition;
        let directory = self.directory();
        let index = (shared.files).index(&directory, *id, name, bytes, counts, &shared.staging);
        index.await
    }

    /// Collects whole batches from the one that holds the offset on, or from the next one if compaction has removed that;
    /// looking from where an index's entry says. No CRC covers a batch's offset: that it is the one which must come here is
    /// what vouches for it, where there are no holes.
    async fn walk(
        &self,
        cold: &Cold,
        view: &SegmentView,
        entry: Option<IndexEntry>,
        manner: Manner,
    ) -> Result<Loaded, StorageError> {
        let cold = cold.at_most(COLD_READ_BYTES);
        let is_compacted = view.name.generation > 0;
        let base_offset = view.name.base_offset;
        let mut position = entry.map_or(0, |entry| entry.position);
        let mut chain = Chain {
            next_offset: entry.is_none().then_some(base_offset),
            last_offset: entry.map(|entry| base_offset + i64::from(entry.relative_offset)),
            has_holes: is_compacted,
        };
        let mut wanted = cold.max_bytes + INDEX_SLACK_BYTES;
        loop {
            if position >= view.migrated {
                return match self.end_of_segment(view).filter(|_| is_compacted) {
                    Some(next) => Ok(Loaded::Hole(next)),
                    None => Err(self.corrupt(view, position, "the batch that holds an offset is not there")),
                };
            }
            let kept = match manner.is_consumer {
                true => self.kept_window(view, position, wanted),
                false => None,
            };
            let is_kept = kept.is_some();
            let window = match kept {
                Some(window) => Some(window),
                None => self.window(view, position, wanted, manner.waits).await?,
            };
            let Some(window) = window else {
                return Ok(Loaded::Batches(Batches::default()));
            };
            let collected = match self.collect(&cold, view, &window, position, chain) {
                Err(StorageError::Corrupt { .. }) if is_kept => {
                    self.forget_tiles(view, position, window.len());
                    continue;
                }
                collected => collected?,
            };
            if let Some(found) = collected.found.as_ref().filter(|_| is_kept) {
                self.partition.shared.cached_bytes.add(found.len() as u64);
            }
            if collected.found.is_some() || collected.is_over {
                return Ok(Loaded::Batches(self.give(view, &window, position, &collected)));
            }
            // Nothing collected: the batch is further on, or larger than the window.
            let Collected { passed, longer, .. } = collected;
            if passed == 0 && longer == 0 {
                return Err(self.corrupt(view, position, "it ends within a batch"));
            }
            chain = collected.chain;
            position += passed as u32;
            // Before memory is taken for it.
            if longer > OWN_BATCH_BYTES_MAX
                && let Some(header) = window.header(passed)
                && !self
                    .is_followed(view, position, &header, chain, manner.waits)
                    .await?
            {
                return Err(self.corrupt(
                    view,
                    position,
                    "no batch begins where the one here says that it ends",
                ));
            }
            wanted = wanted.max(longer);
        }
    }

    /// Whether another batch begins behind the one at byte `position`, or its segment ends there. If there is no memory to look,
    /// there is none for the batch.
    async fn is_followed(
        &self,
        view: &SegmentView,
        position: u32,
        header: &BatchHeader,
        chain: Chain,
        waits: bool,
    ) -> Result<bool, StorageError> {
        let behind = position + header.batch_bytes() as u32;
        if behind == view.migrated {
            return Ok(true);
        }
        let Some(window) = self.window(view, behind, BATCH_HEADER_BYTES, waits).await? else {
            return Ok(true);
        };
        let next = window.header(0);
        let is_next = |next: &BatchHeader| {
            self.batch_bytes(view, next, behind).is_ok() && chain.after(header).goes_on_with(next)
        };
        Ok(next.as_ref().is_some_and(is_next))
    }

    /// Looks through a window that begins at byte `position` of its segment, with the batch that `chain` is of.
    pub(super) fn collect(
        &self,
        cold: &Cold,
        view: &SegmentView,
        window: &Window,
        position: u32,
        chain: Chain,
    ) -> Result<Collected, StorageError> {
        let mut collected = Collected {
            found: None,
            passed: 0,
            chain,
            is_over: false,
            longer: 0,
        };
        let is_compacted = chain.has_holes;
        while let Some(header) = window.header(collected.passed) {
            let at = collected.passed;
            let here = position + at as u32;
            let length = match self.batch_bytes(view, &header, here) {
                Ok(length) if collected.chain.goes_on_with(&header) => length,
                // What comes before it can be read.
                _ if collected.found.is_some() => break,
                Ok(_) => return Err(self.corrupt(view, here, "another batch begins here than should")),
                Err(error) => return Err(error),
            };
            let is_before = header.next_offset() <= cold.offset;
            let is_beyond = !is_before && header.next_offset() > cold.up_to_offset;
            if is_beyond && collected.found.is_some() {
                break;
            }
            if !is_before && !is_compacted && collected.found.is_none() && header.base_offset > cold.offset {
                return Err(self.corrupt(view, here, "the batch that holds an offset is not there"));
            }
            let bytes = collected.found.as_ref().map_or(0, ExactSizeIterator::len);
            let may_be_larger = collected.found.is_none() && cold.at_least_one;
            if !is_before && bytes + length > cold.max_bytes && !may_be_larger {
                collected.is_over = true;
                break;
            }
            // Where offsets may be missing, only the CRC tells that a batch which is passed over is as long as it says.
            if !is_before || is_compacted {
                let Some(is_intact) = window.is_intact(&header, &(at..at + length)) else {
                    collected.longer = length;
                    break;
                };
                // Who wrote it matters only to whoever gets it.
                let wrong = (!is_intact).then_some("a batch's CRC does not match its bytes");
                let wrong = wrong.or_else(|| self.wrong_epoch(&header).filter(|_| !is_before));
                if let Some(what) = wrong {
                    if collected.found.is_some() {
                        break;
                    }
                    return Err(self.corrupt(view, here, what));
                }
            }
            // Only now: damage may have made it look so, and whoever gets nothing would ask for it for ever.
            if is_beyond {
                collected.is_over = true;
                break;
            }
            if !is_before {
                collected.found = Some(collected.found.map_or(at, |found| found.start)..at + length);
            }
            collected.chain = collected.chain.after(&header);
            collected.passed = at + length;
        }
        Ok(collected)
    }

    /// What was collected from a window that begins at byte `position` of its segment. A little of it is copied: else a slow
    /// client would keep much memory from others.
    pub(super) fn give(
        &self,
        view: &SegmentView,
        window: &Window,
        position: u32,
        collected: &Collected,
    ) -> Batches {
        let Some(found) = &collected.found else {
            return Batches::default();
        };
        let mut slices = window.slices(found);
        let is_little = found.len() * LITTLE_PART < window.held_by(found);
        if is_little && let Ok(mut buffer) = self.partition.shared.reading.try_take(found.len()) {
            let mut at = 0;
            for slice in &slices {
                buffer[at..at + slice.len()].copy_from_slice(slice);
                at += slice.len();
            }
            slices = vec![buffer.freeze(0..at)];
        }
        let end = collected.chain.next_offset.map(|offset| End {
            offset,
            segment: view.name,
            position: position + found.end as u32,
        });
        Batches { slices, end }
    }

    /// Where the segment after this one begins, or the next batch does.
    fn end_of_segment(&self, view: &SegmentView) -> Option<i64> {
        let state = self.partition.state.borrow();
        let at = state.segments.index_of(view.name.base_offset)?;
        let next = state.segments.all.get(at + 1);
        Some(next.map_or(state.next_offset, |next| next.base_offset))
    }

    /// What is wrong with a batch's leader epoch, if something is.
    fn wrong_epoch(&self, header: &BatchHeader) -> Option<&'static str> {
        let epochs = &self.partition.state.borrow().leader_epochs;
        let writer = epochs.instead_of(header.partition_leader_epoch, header.base_offset);
        writer.map(|_| ANOTHER_EPOCH)
    }

    /// Shows every batch of a segment that is migrated, with its position.
    pub(crate) async fn walk_segment(
        &self,
        segment_base: i64,
        mut visit: impl FnMut(&BatchHeader, u32),
    ) -> Result<(), StorageError> {
        let Some(view) = self.segment_of(segment_base) else {
            return Ok(());
        };
        let mut position = 0;
        while position < view.migrated {
            let Some(window) = self.window(&view, position, COLD_READ_BYTES, true).await? else {
                return Err(StorageError::OutOfMemory {
                    bytes: COLD_READ_BYTES,
                    pool: self.partition.shared.reading.name(),
                });
            };
            let mut at = 0;
            while let Some(header) = window.header(at) {
                let here = position + at as u32;
                at += self.batch_bytes(&view, &header, here)?;
                visit(&header, here);
            }
            if at == 0 {
                return Err(self.corrupt(&view, position, "it ends within a batch"));
            }
            position += at as u32;
        }
        Ok(())
    }

    /// Bytes of the batch that begins with `header`, if that can be one of this segment's.
    fn batch_bytes(&self, view: &SegmentView, header: &BatchHeader, at: u32) -> Result<usize, StorageError> {
        let length = header.batch_bytes();
        let left = (view.migrated - at) as usize;
        if is_plausible(header, left) && header.base_offset >= view.name.base_offset {
            Ok(length)
        } else {
            Err(self.corrupt(view, at, "there is no batch where one was written"))
        }
    }
}
