//! Reading for consumers, who read on from where an answer ended: out of tiles that are kept for the next reader, while the
//! next ones are being read.
//!
//! Owns when the disk is asked for a tile. Whatever is not as it should be (no memory, an error of the disk, damage) is left
//! to the reading without (`read.rs`), which forgets damaged tiles first, and says what it is. Must never give bytes that
//! were not checked as there.

use ring::executor::{Class, spawn};
use ring::local::Permit;
use wire::record_batch::BATCH_HEADER_BYTES;

use super::PartitionLog;
use super::read::{Batches, Chain, Cold};
use super::window::{SegmentView, Window};
use crate::read_cache::{ANSWER_TILES, End, Lookup, TileKey};

impl PartitionLog {
    /// Collects whole batches from where another answer ended. `None`: they are to be read without.
    pub(super) async fn load_cached(&self, cold: &Cold, view: &SegmentView) -> Option<Batches> {
        let shared = &self.partition.shared;
        let now = ring::clock::now();
        let position = (shared.cache).position_of(self.partition.id, cold.offset, view.name, now)?;
        let chain = Chain {
            next_offset: Some(cold.offset),
            last_offset: None,
            has_holes: view.name.generation > 0,
        };
        let cold = cold.at_most(self.tiles_bytes_max());
        let mut wanted = cold.max_bytes.max(BATCH_HEADER_BYTES);
        loop {
            let (window, was_there) = self.cached_window(view, position, wanted).await?;
            let collected = (self.collect(&cold, view, &window, position, chain)).ok()?;
            if let Some(found) = collected.found.as_ref().filter(|_| was_there) {
                shared.cached_bytes.add(found.len() as u64);
            }
            if collected.found.is_some() || collected.is_over {
                return Some(self.give(view, &window, position, &collected));
            }
            // One batch that is larger than what was asked for.
            if collected.longer <= wanted {
                return None;
            }
            wanted = collected.longer;
        }
    }

    /// A consumer that asked for `from` got so many bytes, what is before `end`: if it has read on, it will again. Batches that are
    /// larger than what tiles are read for come without.
    pub(super) fn read_on(&self, from: i64, end: End, bytes: usize) {
        let cache = &self.partition.shared.cache;
        if bytes <= self.tiles_bytes_max() && cache.came(self.partition.id, from, end, ring::clock::now()) {
            self.read_ahead(end);
        }
    }

    /// Has the disk read what comes next, as far as it and the memory have nothing else to do.
    fn read_ahead(&self, end: End) {
        let shared = &self.partition.shared;
        let Some(view) = self.segment_of(end.offset) else {
            return;
        };
        let position = if view.name == end.segment {
            end.position
        } else if view.name.base_offset == end.offset {
            0
        } else {
            return;
        };
        let first = position / self.tile_bytes();
        for index in first..=first + ANSWER_TILES as u32 {
            let bytes = self.tile_length(&view, index);
            if bytes == 0 {
                return;
            }
            if !self.is_to_be_read(&view, index, position) {
                continue;
            }
            let turn = (shared.disk_turns).try_take(bytes, shared.has_committed_lately());
            if turn.is_none() || !self.begin_tile(&view, index, turn) {
                return;
            }
        }
    }

    /// A window from byte `position` of a segment on, with `wanted` bytes if there are so many; and whether the disk had not to be
    /// asked for any of them now.
    async fn cached_window(
        &self,
        view: &SegmentView,
        position: u32,
        wanted: usize,
    ) -> Option<(Window, bool)> {
        if wanted > self.tiles_bytes_max() {
            return None;
        }
        let end = u64::from(position) + wanted as u64;
        let tiles = position / self.tile_bytes()..end.div_ceil(u64::from(self.tile_bytes())) as u32;
        let mut was_there = true;
        // All are begun before one is waited for: the disk reads them together.
        for index in tiles.clone() {
            if self.is_to_be_read(view, index, position) {
                was_there = false;
                if !self.begin_tile(view, index, None) {
                    break;
                }
            }
        }
        for index in tiles {
            let key = self.tile_key(view, index);
            if let Lookup::BeingRead(wait) = self.partition.shared.cache.get(key) {
                wait.await;
            }
        }
        let window = self.kept_up_to(view, position, end);
        (window.len() > 0).then_some((window, was_there))
    }

    /// The same out of tiles that are there already, for who has not read up to here; `None` if something is missing.
    pub(super) fn kept_window(&self, view: &SegmentView, position: u32, wanted: usize) -> Option<Window> {
        let end = (u64::from(position) + wanted as u64).min(u64::from(view.migrated));
        let window = self.kept_up_to(view, position, end);
        (window.len() as u64 >= end - u64::from(position)).then_some(window)
    }

    /// What of the tiles up to byte `end` of a segment is there, without a gap.
    fn kept_up_to(&self, view: &SegmentView, position: u32, end: u64) -> Window {
        let tile_bytes = self.tile_bytes();
        let mut window = Window::empty();
        for index in position / tile_bytes..end.div_ceil(u64::from(tile_bytes)) as u32 {
            let Lookup::Kept(tile) = self.partition.shared.cache.get(self.tile_key(view, index)) else {
                break;
            };
            let (from, to) = (
                position.saturating_sub(index * tile_bytes) as usize,
                tile.bytes().len(),
            );
            if from < to {
                window.push(&tile, from..to);
            }
            if to < tile_bytes as usize {
                break;
            }
        }
        window
    }

    /// So that they are read anew: what is wrong with them may not be on the disk.
    pub(super) fn forget_tiles(&self, view: &SegmentView, position: u32, bytes: usize) {
        let end = u64::from(position) + bytes as u64;
        for index in position / self.tile_bytes()..end.div_ceil(u64::from(self.tile_bytes())) as u32 {
            self.partition.shared.cache.forget(self.tile_key(view, index));
        }
    }

    /// Begins to read a missing tile. False if there is no memory for it.
    fn begin_tile(&self, view: &SegmentView, index: u32, turn: Option<Permit>) -> bool {
        let shared = &self.partition.shared;
        let bytes = self.tile_length(view, index);
        let capacity = bytes.next_multiple_of(shared.block_bytes as usize);
        let Ok(buffer) = shared.reading.try_take(capacity) else {
            return false;
        };
        let reading = shared.cache.begin(self.tile_key(view, index));
        let (log, view) = (self.clone(), *view);
        let start = index as usize * shared.cache.tile_bytes();
        // Of its own: others may wait for it when the one that wants it now has gone.
        spawn(Class::Latency, async move {
            let read = log.read_blocks(&view, start, buffer, bytes, turn).await;
            if let Ok((count, buffer)) = read
                && count >= bytes
            {
                reading.finish(buffer.freeze(0..bytes));
            }
        })
        .detach();
        true
    }

    /// Whether the disk is to be asked for a tile, for who reads from `position` on. The last one of a segment that is written
    /// to is short, and read again when it has grown to twice as much, or will not grow any more.
    fn is_to_be_read(&self, view: &SegmentView, index: u32, position: u32) -> bool {
        let bytes = self.tile_length(view, index);
        let is_final = view.is_sealed || bytes == self.tile_bytes() as usize;
        match self.partition.shared.cache.get(self.tile_key(view, index)) {
            Lookup::BeingRead(_) => false,
            Lookup::Missing => bytes > 0 && (is_final || position <= index * self.tile_bytes()),
            Lookup::Kept(tile) => {
                let kept = tile.bytes().len();
                kept < bytes && (is_final || 2 * kept <= bytes)
            }
        }
    }

    /// Bytes of a tile that are on the disk, and do not change any more.
    fn tile_length(&self, view: &SegmentView, index: u32) -> usize {
        let tile_bytes = self.tile_bytes();
        let left = u64::from(view.on_disk).saturating_sub(u64::from(index) * u64::from(tile_bytes));
        left.min(u64::from(tile_bytes)) as usize
    }

    fn tile_key(&self, view: &SegmentView, index: u32) -> TileKey {
        TileKey {
            id: self.partition.id,
            segment: view.name,
            index,
        }
    }

    fn tile_bytes(&self) -> u32 {
        self.partition.shared.cache.tile_bytes() as u32
    }

    fn tiles_bytes_max(&self) -> usize {
        ANSWER_TILES * self.partition.shared.cache.tile_bytes()
    }
}
