//! Reading: from memory without a copy, or from the segments by direct reads.
//!
//! What is read from a segment is believed only if it is a chain of whole batches whose CRCs hold; an index is a hint.

use std::time::Duration;

use ring::buffer::{Buffer, Slice};
use wire::BatchHeader;
use wire::RecordBatch;
use wire::record_batch::BATCH_HEADER_BYTES;

use super::PartitionLog;
use super::piece::Piece;
use crate::error::{ReadError, StorageError};
use crate::files::log_path;
use crate::index::{self, IndexEntry};
use crate::segment::SegmentName;

/// What is said of such a batch. No CRC covers its epoch.
pub(crate) const ANOTHER_EPOCH: &str = "a batch has another leader epoch than had written it";
/// The most that one read takes from a segment, in bytes, apart from one larger batch.
const COLD_READ_BYTES: usize = 1 << 20;
/// Read beyond what was asked for: an index entry is that far before the batch, as a rule.
const INDEX_SLACK_BYTES: usize = 8 << 10;
/// What a reader waits for memory. Those before it may wait for more memory themselves: then it gets nothing this
/// time, and asks again.
const MEMORY_WAIT: Duration = Duration::from_millis(500);

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
struct Cold {
    offset: i64,
    max_bytes: usize,
    at_least_one: bool,
    up_to_offset: i64,
    /// It waits for memory to read into; else it gets nothing when there is none.
    waits: bool,
}

/// Where in a segment bytes were read from.
struct Window {
    buffer: Buffer,
    /// Of the buffer, what was asked for.
    bytes: std::ops::Range<usize>,
}

/// What is known of the batch that comes next in a segment.
#[derive(Debug, Clone, Copy)]
struct Chain {
    /// Its first offset, or the least that it can be where compaction has left holes.
    next_offset: Option<i64>,
    /// Its last one, by the index.
    last_offset: Option<i64>,
    has_holes: bool,
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
    /// Whole batches; none if there was no memory for them, or they are not to be read.
    Batches(Vec<Slice>),
    /// Nothing from the offset on: compaction has removed it. The next segment begins here.
    Hole(i64),
}

/// What a segment was when a read of it began.
#[derive(Debug, Clone, Copy)]
struct SegmentView {
    name: SegmentName,
    migrated: u32,
    on_disk: u32,
    is_sealed: bool,
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
                waits: true,
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

    /// The bytes of what was found.
    ///
    /// # Errors
    /// If the segment cannot be read, or does not hold what was written to it.
    pub async fn load(&self, extent: Extent) -> Result<Vec<Slice>, StorageError> {
        let mut cold = match extent.0 {
            Found::Tail(slices) => return Ok(slices),
            Found::Cold(cold) => cold,
        };
        loop {
            let loaded = self.load_cold(&cold).await;
            // Its segment may have been removed meanwhile: the next read says that the log begins later.
            if cold.offset < self.log_start_offset() {
                return Ok(Vec::new());
            }
            // Its files' names may be those of another incarnation of the topic by now.
            if self.partition.is_dropped.get() {
                return Err(StorageError::Dropped);
            }
            let next = match loaded? {
                Loaded::Batches(slices) => return Ok(slices),
                Loaded::Hole(next) => next,
            };
            match self.read(next, cold.max_bytes, cold.at_least_one, cold.up_to_offset) {
                Ok(Extent(Found::Tail(slices))) => return Ok(slices),
                Ok(Extent(Found::Cold(after))) => {
                    let waits = cold.waits;
                    cold = Cold { waits, ..after };
                }
                // What comes next is not to be read yet.
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    /// The same, but it does not wait for memory: it gives nothing if there is none. For whoever holds some already, and
    /// would wait for what it holds.
    ///
    /// # Errors
    /// As for [`PartitionLog::load`].
    pub async fn load_at_once(&self, extent: Extent) -> Result<Vec<Slice>, StorageError> {
        let extent = match extent.0 {
            Found::Cold(cold) => Extent(Found::Cold(Cold { waits: false, ..cold })),
            tail => Extent(tail),
        };
        self.load(extent).await
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

    async fn load_cold(&self, cold: &Cold) -> Result<Loaded, StorageError> {
        loop {
            let Some(view) = self.segment_of(cold.offset) else {
                return Ok(Loaded::Batches(Vec::new()));
            };
            let loaded = self.load_from(cold, &view).await;
            // If the segment was compacted meanwhile, what was read may be of either file.
            let now = self.segment_of(cold.offset);
            if now.is_none_or(|now| now.name == view.name) {
                return loaded;
            }
        }
    }

    async fn load_from(&self, cold: &Cold, view: &SegmentView) -> Result<Loaded, StorageError> {
        let entry = self.floor(view, cold.offset).await?;
        match self.walk(cold, view, entry).await {
            // The index may be what is wrong.
            Err(StorageError::Corrupt { .. }) if entry.is_some() => self.walk(cold, view, None).await,
            walked => walked,
        }
    }

    /// Where in the segment to begin to look, if not at its first byte.
    async fn floor(&self, view: &SegmentView, offset: i64) -> Result<Option<IndexEntry>, StorageError> {
        let base_offset = view.name.base_offset;
        let relative = u32::try_from(offset - base_offset).unwrap_or(u32::MAX);
        if view.is_sealed {
            let Self { partition } = self;
            let index = partition
                .shared
                .files
                .sealed_index(
                    &self.directory(),
                    partition.id,
                    view.name,
                    view.migrated,
                    &partition.shared.staging,
                )
                .await?;
            return Ok(index::floor(&index.offsets, relative));
        }
        let state = self.partition.state.borrow();
        let segment = state
            .segments
            .index_of(base_offset)
            .map(|at| &state.segments.all[at]);
        Ok(segment.and_then(|segment| index::floor(&segment.index.offsets, relative)))
    }

    /// Collects whole batches from the one that holds the offset on, or from the next one if compaction has removed that;
    /// looking from where an index's entry says. No CRC covers a batch's offset: that it is the one which must come here is
    /// what vouches for it, where there are no holes.
    async fn walk(
        &self,
        cold: &Cold,
        view: &SegmentView,
        entry: Option<IndexEntry>,
    ) -> Result<Loaded, StorageError> {
        let max_bytes = cold.max_bytes.min(COLD_READ_BYTES);
        let is_compacted = view.name.generation > 0;
        let nothing = Ok(Loaded::Batches(Vec::new()));
        let base_offset = view.name.base_offset;
        let mut position = entry.map_or(0, |entry| entry.position);
        let mut chain = Chain {
            next_offset: entry.is_none().then_some(base_offset),
            last_offset: entry.map(|entry| base_offset + i64::from(entry.relative_offset)),
            has_holes: is_compacted,
        };
        let mut wanted = max_bytes + INDEX_SLACK_BYTES;
        loop {
            if position >= view.migrated {
                return match self.segment_after(view).filter(|_| is_compacted) {
                    Some(next) => Ok(Loaded::Hole(next)),
                    None => Err(self.corrupt(view, position, "the batch that holds an offset is not there")),
                };
            }
            let Some(window) = self.window(view, position, wanted, cold.waits).await? else {
                return nothing;
            };
            let bytes = &window.buffer[window.bytes.clone()];
            let mut at = 0;
            let mut found: Option<std::ops::Range<usize>> = None;
            // What ends the look at this window: a batch that is not to be read, or one that the window does not hold.
            let mut is_over = false;
            let mut longer = 0;
            while let Some(header) = bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk::<BATCH_HEADER_BYTES>())
            {
                let header = BatchHeader::decode(header);
                let here = position + at as u32;
                let length = match self.batch_bytes(view, &header, here) {
                    Ok(length) if chain.goes_on_with(&header) => length,
                    // What comes before it can be read.
                    _ if found.is_some() => break,
                    Ok(_) => return Err(self.corrupt(view, here, "another batch begins here than should")),
                    Err(error) => return Err(error),
                };
                let is_before = header.next_offset() <= cold.offset;
                let is_beyond = !is_before && header.next_offset() > cold.up_to_offset;
                if is_beyond && found.is_some() {
                    break;
                }
                if !is_before && !is_compacted && found.is_none() && header.base_offset > cold.offset {
                    return Err(self.corrupt(view, here, "the batch that holds an offset is not there"));
                }
                let collected = found.as_ref().map_or(0, ExactSizeIterator::len);
                let may_be_larger = found.is_none() && cold.at_least_one;
                if !is_before && collected + length > max_bytes && !may_be_larger {
                    is_over = true;
                    break;
                }
                // Where offsets may be missing, only the CRC tells that a batch which is passed over is as long as it says.
                if !is_before || is_compacted {
                    let Some(batch) = bytes.get(at..at + length) else {
                        longer = length;
                        break;
                    };
                    // Who wrote it matters only to whoever gets it.
                    let wrong = damage(batch).or_else(|| self.wrong_epoch(&header).filter(|_| !is_before));
                    if let Some(what) = wrong {
                        if found.is_some() {
                            break;
                        }
                        return Err(self.corrupt(view, here, what));
                    }
                }
                // Only now: damage may have made it look so, and whoever gets nothing would ask for it for ever.
                if is_beyond {
                    is_over = true;
                    break;
                }
                if !is_before {
                    found = Some(found.map_or(at, |found| found.start)..at + length);
                }
                chain = chain.after(&header);
                at += length;
            }
            if let Some(found) = found {
                let start = window.bytes.start;
                let batches = window.buffer.freeze(start + found.start..start + found.end);
                return Ok(Loaded::Batches(vec![batches]));
            }
            if is_over {
                return nothing;
            }
            // Nothing collected: the batch is further on, or larger than the window.
            if at == 0 && longer == 0 {
                return Err(self.corrupt(view, position, "it ends within a batch"));
            }
            position += at as u32;
            wanted = wanted.max(longer);
        }
    }

    /// Where the segment after this one begins.
    fn segment_after(&self, view: &SegmentView) -> Option<i64> {
        let state = self.partition.state.borrow();
        let at = state.segments.index_of(view.name.base_offset)?;
        Some(state.segments.all.get(at + 1)?.base_offset)
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
            let bytes = &window.buffer[window.bytes.clone()];
            let mut at = 0;
            while let Some(header) = bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk::<BATCH_HEADER_BYTES>())
            {
                let header = BatchHeader::decode(header);
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
        let plausible = header.magic == 2
            && (BATCH_HEADER_BYTES..=left).contains(&length)
            && header.base_offset >= view.name.base_offset
            && header.last_offset_delta >= 0
            && header.base_offset < i64::MAX - i64::from(i32::MAX);
        if plausible {
            Ok(length)
        } else {
            Err(self.corrupt(view, at, "there is no batch where one was written"))
        }
    }

    /// Reads about `wanted` bytes of a segment from byte `from` on, fewer at its end. `None` if memory stays short.
    async fn window(
        &self,
        view: &SegmentView,
        from: u32,
        wanted: usize,
        waits: bool,
    ) -> Result<Option<Window>, StorageError> {
        let shared = &self.partition.shared;
        let block = shared.block_bytes as usize;
        let to = (from as usize + wanted).min(view.migrated as usize);
        let start = from as usize - from as usize % block;
        let capacity = (to - start).next_multiple_of(block) + block;
        let taken = match shared.reading.try_take(capacity) {
            Ok(buffer) => Ok(Ok(buffer)),
            Err(_) if waits => ring::timer::timeout(MEMORY_WAIT, shared.reading.take(capacity)).await,
            Err(_) => return Ok(None),
        };
        let Ok(taken) = taken else {
            shared.reading_shortage.note();
            return Ok(None);
        };
        let mut buffer = taken.map_err(|_| StorageError::OutOfMemory {
            bytes: capacity,
            pool: shared.reading.name(),
        })?;
        let on_disk = view.on_disk as usize;
        if to > on_disk {
            // The partial block is in memory. It is copied before anything is awaited, so that it is still the one of
            // this view; if migration was faster, it is on the disk by now.
            match self.partial_of(view) {
                Some(partial) => {
                    let at = on_disk.max(start) - start;
                    let bytes = to - on_disk;
                    buffer[at..at + bytes].copy_from_slice(&partial[..bytes]);
                }
                None => {
                    let newer = self.segment_of(view.name.base_offset);
                    // One that was compacted since is another file: the read begins anew.
                    let Some(newer) = newer.filter(|newer| newer.name == view.name) else {
                        return Ok(None);
                    };
                    return Box::pin(self.window(&newer, from, to - from as usize, waits)).await;
                }
            }
        }
        if start < on_disk {
            let directory = self.directory();
            let file = shared
                .files
                .log(&directory, self.partition.id, view.name, false)
                .await?;
            let end = to
                .min(on_disk)
                .next_multiple_of(block)
                .min(on_disk.next_multiple_of(block));
            let (result, returned) = file.read_exact_at(buffer, 0..end - start, start as u64).await;
            buffer = returned;
            let path = log_path(&directory, view.name.base_offset);
            let count = result.map_err(StorageError::io("read", &path))?;
            if count < to.min(on_disk) - start {
                return Err(self.corrupt(
                    view,
                    (start + count) as u32,
                    "the file ends before its last batch",
                ));
            }
        }
        let skipped = from as usize - start;
        Ok(Some(Window {
            buffer,
            bytes: skipped..to - start,
        }))
    }

    /// The partial block of the active segment, if the segment is still as `view` says.
    fn partial_of(&self, view: &SegmentView) -> Option<Vec<u8>> {
        let state = self.partition.state.borrow();
        let segment = state
            .segments
            .index_of(view.name.base_offset)
            .map(|at| &state.segments.all[at])?;
        let same = segment.base_offset == view.name.base_offset
            && segment.on_disk(self.partition.shared.block_bytes) == view.on_disk
            && !segment.is_sealed
            && segment.migrated >= view.migrated;
        same.then(|| state.migrated.partial.clone())
    }

    fn segment_of(&self, offset: i64) -> Option<SegmentView> {
        let state = self.partition.state.borrow();
        let segment = &state.segments.all[state.segments.index_of(offset)?];
        Some(SegmentView {
            name: segment.name(),
            migrated: segment.migrated,
            on_disk: segment.on_disk(self.partition.shared.block_bytes),
            is_sealed: segment.is_sealed,
        })
    }

    fn corrupt(&self, view: &SegmentView, at: u32, what: &str) -> StorageError {
        let path = log_path(&self.directory(), view.name.base_offset);
        StorageError::corrupt(&path, u64::from(at), what)
    }
}

/// What is wrong with a batch's bytes, if something is.
fn damage(batch: &[u8]) -> Option<&'static str> {
    match RecordBatch::parse(batch) {
        Err(_) => Some("there is no batch where one was written"),
        Ok((batch, _)) => {
            let is_whole = batch.verify_crc().is_ok();
            (!is_whole).then_some("a batch's CRC does not match its bytes")
        }
    }
}
