//! Consecutive bytes of a segment in memory: read for one reader, or out of tiles that many share.
//!
//! Owns how they are read from the disk, and in which memory a batch was checked. Knows no chain of batches.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::{Buffer, Slice};
use ring::local::Permit;
use wire::BatchHeader;
use wire::record_batch::{BATCH_HEADER_BYTES, crc_of_parts};

use super::PartitionLog;
use crate::disk_turns::read_bytes_max;
use crate::error::StorageError;
use crate::files::log_path;
use crate::index::EntryCounts;
use crate::read_cache::Tile;
use crate::segment::SegmentName;

/// What a reader waits for memory. Those before it may wait for more memory themselves: then it gets nothing this
/// time, and asks again.
const MEMORY_WAIT: Duration = Duration::from_millis(500);

/// What a segment was when a read of it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentView {
    pub(super) name: SegmentName,
    pub(super) migrated: u32,
    pub(super) on_disk: u32,
    pub(super) is_sealed: bool,
    pub(super) in_files: EntryCounts,
}

/// See the module.
pub(super) struct Window {
    parts: Vec<Part>,
    bytes: usize,
}

struct Part {
    /// Where in the window it begins.
    at: usize,
    slice: Slice,
    /// Bytes of memory that the slice keeps from others.
    held: usize,
    /// What it was cut from, and where.
    tile: Option<(Rc<Tile>, usize)>,
}

impl Part {
    /// What a range of the window has of this part.
    fn overlap(&self, range: &Range<usize>) -> Range<usize> {
        let within = |at: usize| at.clamp(self.at, self.at + self.slice.len()) - self.at;
        within(range.start)..within(range.end)
    }
}

impl Window {
    /// One that nothing is in yet.
    pub(super) fn empty() -> Window {
        Window {
            parts: Vec::new(),
            bytes: 0,
        }
    }

    /// What was read into a buffer for this window alone.
    fn of(buffer: Buffer, bytes: Range<usize>) -> Window {
        let held = buffer.capacity();
        let slice = buffer.freeze(bytes);
        Window {
            bytes: slice.len(),
            parts: vec![Part {
                at: 0,
                slice,
                held,
                tile: None,
            }],
        }
    }

    /// Adds what a tile has in this range of it.
    pub(super) fn push(&mut self, tile: &Rc<Tile>, range: Range<usize>) {
        let from = range.start;
        let part = Part {
            at: self.bytes,
            held: tile.bytes().len(),
            slice: tile.bytes().slice(range),
            tile: Some((tile.clone(), from)),
        };
        self.bytes += part.slice.len();
        self.parts.push(part);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// The header of a batch that begins at `at`, if all of that is there.
    pub(super) fn header(&self, at: usize) -> Option<BatchHeader> {
        let range = at..at.checked_add(BATCH_HEADER_BYTES)?;
        let mut header = [0; BATCH_HEADER_BYTES];
        let mut done = 0;
        for part in self.parts_of(&range)? {
            if let Some(whole) = part.first_chunk() {
                return Some(BatchHeader::decode(whole));
            }
            header[done..done + part.len()].copy_from_slice(part);
            done += part.len();
        }
        Some(BatchHeader::decode(&header))
    }

    /// Whether the bytes of a batch are those that its CRC was taken of. `None` if they are not all there.
    pub(super) fn is_intact(&self, header: &BatchHeader, range: &Range<usize>) -> Option<bool> {
        let parts = self.parts_of(range)?;
        if self.is_checked(range) {
            return Some(true);
        }
        let is_intact = crc_of_parts(parts) == header.crc;
        if is_intact {
            self.note_checked(range);
        }
        Some(is_intact)
    }

    /// A range of it, in memory that others get back when it is dropped.
    pub(super) fn slices(&self, range: &Range<usize>) -> Vec<Slice> {
        let parts = self.parts.iter().filter(|part| !part.overlap(range).is_empty());
        parts.map(|part| part.slice.slice(part.overlap(range))).collect()
    }

    /// Bytes of memory that the slices of a range keep from others.
    pub(super) fn held_by(&self, range: &Range<usize>) -> usize {
        let parts = self.parts.iter().filter(|part| !part.overlap(range).is_empty());
        parts.map(|part| part.held).sum()
    }

    fn parts_of(&self, range: &Range<usize>) -> Option<impl Iterator<Item = &[u8]>> {
        let range = range.clone();
        (range.end <= self.bytes).then(move || {
            let parts = self.parts.iter();
            parts.filter_map(move |part| {
                part.slice
                    .get(part.overlap(&range))
                    .filter(|part| !part.is_empty())
            })
        })
    }

    fn tiles(&self, range: &Range<usize>) -> impl Iterator<Item = Option<(&Tile, Range<usize>)>> {
        let range = range.clone();
        let parts = self.parts.iter().filter_map(move |part| {
            let overlap = part.overlap(&range);
            (!overlap.is_empty()).then_some((part, overlap))
        });
        parts.map(|(part, overlap)| {
            let (tile, from) = part.tile.as_ref()?;
            Some((&**tile, from + overlap.start..from + overlap.end))
        })
    }

    fn is_checked(&self, range: &Range<usize>) -> bool {
        let mut tiles = self.tiles(range);
        tiles.all(|tile| tile.is_some_and(|(tile, range)| tile.is_checked(&range)))
    }

    fn note_checked(&self, range: &Range<usize>) {
        for (tile, range) in self.tiles(range).flatten() {
            tile.note_checked(&range);
        }
    }
}

impl PartitionLog {
    pub(super) fn segment_of(&self, offset: i64) -> Option<SegmentView> {
        let state = self.partition.state.borrow();
        let segment = &state.segments.all[state.segments.index_of(offset)?];
        Some(SegmentView {
            name: segment.name(),
            migrated: segment.migrated,
            on_disk: segment.on_disk(self.partition.shared.block_bytes),
            is_sealed: segment.is_sealed,
            in_files: segment.entries_in_files(),
        })
    }

    /// Reads about `wanted` bytes of a segment from byte `from` on, fewer at its end. `None` if memory stays short.
    pub(super) async fn window(
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
        let Some(mut buffer) = self.reading_memory(capacity, waits).await? else {
            return Ok(None);
        };
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
                    drop(buffer);
                    return Box::pin(self.window(&newer, from, to - from as usize, waits)).await;
                }
            }
        }
        if start < on_disk {
            let end = to.min(on_disk) - start;
            let count;
            (count, buffer) = self.read_blocks(view, start, buffer, end, None).await?;
            if count < end {
                return Err(self.corrupt(
                    view,
                    (start + count) as u32,
                    "the file ends before its last batch",
                ));
            }
        }
        let skipped = from as usize - start;
        Ok(Some(Window::of(buffer, skipped..to - start)))
    }

    /// Memory for reading; `None` if there is none, or there still is none after `waits`.
    async fn reading_memory(&self, bytes: usize, waits: bool) -> Result<Option<Buffer>, StorageError> {
        let shared = &self.partition.shared;
        let pool = &shared.reading;
        if let Ok(buffer) = pool.try_take(bytes) {
            return Ok(Some(buffer));
        }
        if bytes > pool.bytes() {
            let pool = pool.name();
            return Err(StorageError::OutOfMemory { bytes, pool });
        }
        // What is kept is nobody's: it goes before somebody waits. A size is rounded up by an eighth.
        while pool.bytes_left() < bytes + bytes / 8 && shared.cache.forget_oldest() {}
        let taken = match pool.try_take(bytes) {
            Ok(buffer) => return Ok(Some(buffer)),
            Err(_) if waits => ring::timer::timeout(MEMORY_WAIT, pool.take(bytes)).await,
            Err(_) => return Ok(None),
        };
        let Ok(taken) = taken else {
            shared.reading_shortage.note();
            return Ok(None);
        };
        let pool = pool.name();
        taken
            .map(Some)
            .map_err(|_| StorageError::OutOfMemory { bytes, pool })
    }

    /// Reads `bytes` of a segment from byte `start` on, where a block begins, into the front of a buffer that has room for
    /// whole blocks; when it is its turn, if it has none. How many there were.
    pub(super) async fn read_blocks(
        &self,
        view: &SegmentView,
        start: usize,
        mut buffer: Buffer,
        bytes: usize,
        mut turn: Option<Permit>,
    ) -> Result<(usize, Buffer), StorageError> {
        let shared = &self.partition.shared;
        let directory = self.directory();
        let file = shared
            .files
            .log(&directory, self.partition.id, view.name, false)
            .await?;
        let end = bytes.next_multiple_of(shared.block_bytes as usize);
        let mut done = 0;
        while done < end {
            // Asked again after the wait: commits may have begun meanwhile.
            let to = |beside_commits| end.min(done + read_bytes_max(beside_commits));
            let turn = match turn.take() {
                Some(turn) => turn,
                None => {
                    let beside_commits = shared.has_committed_lately();
                    let bytes = to(beside_commits) - done;
                    shared.disk_turns.take(bytes, beside_commits).await
                }
            };
            let to = to(shared.has_committed_lately());
            let (result, returned) = file.read_exact_at(buffer, done..to, (start + done) as u64).await;
            drop(turn);
            buffer = returned;
            let count = result.map_err(StorageError::io(
                "read",
                &log_path(&directory, view.name.base_offset),
            ))?;
            shared.read_bytes.add(count as u64);
            done += count;
            if done < to {
                break;
            }
        }
        Ok((done, buffer))
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

    pub(super) fn corrupt(&self, view: &SegmentView, at: u32, what: &str) -> StorageError {
        let path = log_path(&self.directory(), view.name.base_offset);
        StorageError::corrupt(&path, u64::from(at), what)
    }
}

#[cfg(test)]
mod tests {
    use wire::{BatchBuilder, Compression, NewRecord};

    use super::*;

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&NewRecord {
            value: Some(&[7; 100]),
            ..NewRecord::default()
        });
        builder.build()
    }

    /// A window of tiles that have these bytes, the first one from byte 3 on.
    fn window(tiles: &[Rc<Tile>]) -> Window {
        let mut window = Window::empty();
        for (index, tile) in tiles.iter().enumerate() {
            window.push(tile, if index == 0 { 3 } else { 0 }..tile.bytes().len());
        }
        window
    }

    fn tiles(bytes: &[u8], cuts: [usize; 2]) -> Vec<Rc<Tile>> {
        let first = [b"abc", &bytes[..cuts[0]]].concat();
        let parts = [first, bytes[cuts[0]..cuts[1]].to_vec(), bytes[cuts[1]..].to_vec()];
        let tile = |part| Rc::new(Tile::new(Slice::from(part)));
        parts.into_iter().map(tile).collect()
    }

    #[test]
    fn a_batch_is_the_same_wherever_tiles_cut_it() {
        let bytes = [batch(), batch()].concat();
        let whole = bytes.len() / 2;
        for first in 0..bytes.len() {
            for second in [first, first + 1, first + 30, bytes.len()] {
                let cuts = [first, second.min(bytes.len())];
                let tiles = tiles(&bytes, cuts);
                let window = window(&tiles);
                assert_eq!(window.len(), bytes.len());
                for range in [0..whole, whole..2 * whole] {
                    let header = window.header(range.start).expect("all there");
                    assert_eq!(header.batch_bytes(), whole, "{cuts:?}");
                    assert_eq!(window.is_intact(&header, &range), Some(true), "{cuts:?}");
                    let slices = window.slices(&range);
                    let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    assert!(joined == bytes[range] && slices.iter().all(|slice| !slice.is_empty()));
                }
                assert!(window.header(bytes.len() - BATCH_HEADER_BYTES + 1).is_none());
                let header = window.header(0).expect("there");
                assert_eq!(window.is_intact(&header, &(whole..2 * whole + 1)), None);
            }
        }
    }

    #[test]
    fn what_was_checked_is_checked_again_in_other_memory() {
        let bytes = batch();
        let whole = 0..bytes.len();
        let mut tiles = tiles(&bytes, [50, 120]);
        let header = window(&tiles).header(0).expect("there");
        assert_eq!(window(&tiles).is_intact(&header, &whole), Some(true));
        // One of its tiles was read again since.
        let mut rotten = bytes[50..120].to_vec();
        rotten[30] ^= 1;
        tiles[1] = Rc::new(Tile::new(Slice::from(rotten)));
        assert_eq!(window(&tiles).is_intact(&header, &whole), Some(false));
        assert_eq!(
            window(&tiles).is_intact(&header, &whole),
            Some(false),
            "nothing was noted"
        );
    }

    #[test]
    fn a_window_says_how_much_memory_a_part_of_it_keeps() {
        let bytes = batch();
        let tiles = tiles(&bytes, [50, 120]);
        let window = window(&tiles);
        assert_eq!(window.held_by(&(0..10)), 53);
        assert_eq!(window.held_by(&(49..51)), 53 + 70);
        assert_eq!(window.held_by(&(0..bytes.len())), 3 + bytes.len());
    }
}
