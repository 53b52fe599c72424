//! The contents of one simulated file: pages, size and extents, each with what is durable of them.
//!
//! A power cut decides about every unflushed sector on its own. Changes of size and extents survive in their order up
//! to some point, as in a journalling file system; data does not follow them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::chance::Chance;
use super::page::{Content, NEVER, PAGE_BYTES, Page, Tear, sectors_touched};
use super::ranges::Ranges;
use super::stale::Stale;

/// A new block shows what it held before with this probability, and zeroes otherwise.
const STALE_PROBABILITY: f64 = 0.75;
/// Pages that a buffered read brings in ahead of what was asked for.
const READ_AHEAD_PAGES: u64 = 8;

/// A sector has gone bad: what comes before it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Bytes before the page that it is in, from the beginning of what was asked for.
    pub(super) bytes_before: usize,
}

/// A change of size or extents, as a file system's own journal holds it.
#[derive(Debug, Clone)]
enum Change {
    /// A write reached past the end: the file ends here now.
    Grown(u64),
    /// ftruncate(2).
    SetLength(u64),
    /// fallocate(2): these pages read as zeroes until written.
    Allocated(Range<u64>),
}

#[derive(Debug, Clone, Default)]
struct Extents {
    bytes: u64,
    /// Pages that the file system promises to show as zeroes until they are written.
    zeroes_promised: Ranges,
}

impl Extents {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Grown(bytes) => self.bytes = *bytes,
            Change::SetLength(bytes) => {
                if *bytes > self.bytes {
                    self.zeroes_promised.insert(pages_over(self.bytes..*bytes));
                } else {
                    self.zeroes_promised
                        .remove_from(bytes.div_ceil(PAGE_BYTES as u64));
                }
                self.bytes = *bytes;
            }
            Change::Allocated(pages) => {
                self.zeroes_promised.insert(pages.clone());
            }
        }
    }
}

/// What a power cut did to a file.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct TornSectors {
    pub(super) lost: u64,
    pub(super) unreadable: u64,
    pub(super) stale_pages: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inode {
    pages: BTreeMap<u64, Page>,
    /// Pages that may have unflushed versions.
    dirty: Vec<u64>,
    bytes: u64,
    durable: Extents,
    pending: Vec<(u64, Change)>,
    /// Pages that take space.
    allocated: Ranges,
    /// What buffered reads have brought into memory. Direct writes may leave it stale.
    cached: BTreeMap<u64, Content>,
}

impl Inode {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn allocated_pages(&self) -> u64 {
        self.allocated.count()
    }

    /// Pages that a write or an allocation of these bytes would take from the disk's free space.
    pub(super) fn pages_missing(&self, bytes: Range<u64>) -> u64 {
        self.allocated.missing(pages_over(bytes))
    }

    /// Reads what direct I/O sees. The range is within the file.
    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> Result<(), Unreadable> {
        let mut next = offset;
        let end = offset + out.len() as u64;
        for (&number, page) in self.pages.range(pages_over(offset..end)) {
            let page_start = number * PAGE_BYTES as u64;
            let from = page_start.max(offset);
            let to = (page_start + PAGE_BYTES as u64).min(end);
            out[index(next - offset)..index(from - offset)].fill(0);
            let (start, stop) = (index(from - page_start), index(to - page_start));
            let unreadable = page.unreadable();
            if unreadable != 0 && unreadable & sectors_touched(start, stop) != 0 {
                return Err(Unreadable {
                    bytes_before: index(from - offset),
                });
            }
            out[index(from - offset)..index(to - offset)]
                .copy_from_slice(&page.current().bytes()[start..stop]);
            next = to;
        }
        out[index(next - offset)..].fill(0);
        Ok(())
    }

    /// Reads through the page cache: a page that is in it may be older than a direct write.
    /// `keeps_pages` says whether what is read now stays there.
    pub(super) fn read_buffered(
        &mut self,
        out: &mut [u8],
        offset: u64,
        keeps_pages: bool,
    ) -> Result<(), Unreadable> {
        self.read(out, offset)?;
        let end = offset + out.len() as u64;
        for (&number, content) in self.cached.range(pages_over(offset..end)) {
            let page_start = number * PAGE_BYTES as u64;
            let from = page_start.max(offset);
            let to = (page_start + PAGE_BYTES as u64).min(end);
            out[index(from - offset)..index(to - offset)]
                .copy_from_slice(&content.bytes()[index(from - page_start)..index(to - page_start)]);
        }
        if keeps_pages {
            let pages = pages_over(offset..end);
            for number in pages.start..pages.end + READ_AHEAD_PAGES {
                let current = self
                    .pages
                    .get(&number)
                    .map_or(Content::Zeroes, |page| page.current().clone());
                self.cached.entry(number).or_insert(current);
            }
        }
        Ok(())
    }

    /// Whether the page cache holds anything.
    pub(super) fn has_cached_pages(&self) -> bool {
        !self.cached.is_empty()
    }

    /// Drops these bytes' pages from the page cache, as a write does that notices them.
    pub(super) fn drop_cached(&mut self, bytes: Range<u64>) {
        for number in pages_over(bytes) {
            self.cached.remove(&number);
        }
    }

    /// A completed write of the next `length` bytes of `pieces` at `offset`. `durable`: it is on stable storage, with
    /// the size that it needs. Returns the pages newly taken from the free space.
    pub(super) fn write<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
        length: usize,
        offset: u64,
        durable: bool,
        moment: Moment,
        stale: &mut Stale,
    ) -> u64 {
        let end = offset + length as u64;
        if end > self.bytes {
            self.bytes = end;
            self.pending.push((moment.sequence, Change::Grown(end)));
        }
        if durable && self.may_end_before(end) {
            // Even changes that a failed flush left undecided: the file system commits what came before with it.
            self.settle_extents(NEVER, true);
        }
        let (pages, dirty) = (&mut self.pages, &mut self.dirty);
        for_each_page(pieces, length, offset, |number, from, chunk| {
            let page = pages.entry(number).or_insert_with(Page::hole);
            let content = if chunk.len() == PAGE_BYTES {
                Content::new(chunk)
            } else {
                let mut whole = *page.current().bytes();
                whole[from..from + chunk.len()].copy_from_slice(chunk);
                Content::new(&whole)
            };
            let sectors = sectors_touched(from, from + chunk.len());
            if durable {
                let was_on_disk = page.is_on_disk();
                let before = page.write_durably(sectors, content);
                if was_on_disk {
                    stale.keep(before);
                }
            } else {
                if !page.is_dirty() {
                    dirty.push(number);
                }
                page.write(moment.sequence, sectors, content, moment.last_flush);
            }
        });
        self.allocated.insert(pages_over(offset..end))
    }

    /// fallocate(2). Returns the pages newly taken.
    pub(super) fn allocate(&mut self, bytes: Range<u64>, extend: bool, sequence: u64) -> u64 {
        let pages = pages_over(bytes.clone());
        self.pending.push((sequence, Change::Allocated(pages.clone())));
        if extend && bytes.end > self.bytes {
            self.bytes = bytes.end;
            self.pending.push((sequence, Change::Grown(bytes.end)));
        }
        self.allocated.insert(pages)
    }

    /// ftruncate(2). Returns the pages given back.
    pub(super) fn set_length(&mut self, bytes: u64, sequence: u64) -> u64 {
        if bytes == self.bytes {
            return 0;
        }
        let mut freed = 0;
        if bytes < self.bytes {
            let whole = bytes.div_ceil(PAGE_BYTES as u64);
            freed = self.allocated.remove_from(whole);
            for (&number, page) in self.pages.range_mut(bytes / PAGE_BYTES as u64..) {
                if !page.is_dirty() {
                    self.dirty.push(number);
                }
                let kept = if number < whole {
                    index(bytes % PAGE_BYTES as u64)
                } else {
                    0
                };
                page.truncate(sequence, kept);
            }
            self.cached.split_off(&(bytes / PAGE_BYTES as u64));
        }
        self.bytes = bytes;
        self.pending.push((sequence, Change::SetLength(bytes)));
        freed
    }

    /// A flush of this file that was submitted at `point` has completed.
    pub(super) fn settle(&mut self, point: u64, stale: &mut Stale) {
        self.settle_extents(point, false);
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|number| {
            let Some(page) = self.pages.get_mut(number) else {
                return false;
            };
            let was_on_disk = page.is_on_disk();
            if let Some(before) = page.settle(point)
                && was_on_disk
            {
                stale.keep(before);
            }
            if page.is_hole() {
                self.pages.remove(number);
                return false;
            }
            page.is_dirty()
        });
        self.dirty = dirty;
    }

    /// A flush that was submitted at `point` has failed. Some of the pages may have reached the disk all the same;
    /// the rest never will by flushing again.
    pub(super) fn give_up(&mut self, point: u64) {
        for number in &self.dirty {
            if let Some(page) = self.pages.get_mut(number) {
                page.give_up(point);
            }
        }
        for (sequence, _) in &mut self.pending {
            if *sequence <= point {
                *sequence = NEVER;
            }
        }
    }

    /// The power goes.
    pub(super) fn tear(&mut self, tear: Tear, chance: &mut Chance, stale: &mut Stale) -> TornSectors {
        let mut torn = TornSectors::default();
        let survivors = match chance.below(4) {
            0 => 0,
            1 => self.pending.len(),
            _ => chance.index(self.pending.len() + 1),
        };
        let size_point = match survivors {
            0 => 0,
            count => self.pending[count - 1].0,
        };
        for (_, change) in self.pending.drain(..).take(survivors) {
            self.durable.apply(&change);
        }
        self.pending.clear();
        self.bytes = self.durable.bytes;
        self.cached.clear();

        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for number in dirty {
            let Some(page) = self.pages.get_mut(&number) else {
                continue;
            };
            let mut old_block = None;
            if !page.is_on_disk()
                && !self.durable.zeroes_promised.contains(number)
                && chance.happens(STALE_PROBABILITY)
            {
                old_block = stale.give(chance);
                torn.stale_pages += u64::from(old_block.is_some());
            }
            let (lost, unreadable) = page.tear(tear, size_point, chance, old_block);
            torn.lost += lost;
            torn.unreadable += unreadable;
        }
        // What is past the end is not part of the file, and would have to read as zeroes if it grew again.
        let whole = self.bytes.div_ceil(PAGE_BYTES as u64);
        self.pages.split_off(&whole);
        let kept = index(self.bytes % PAGE_BYTES as u64);
        if kept > 0
            && let Some(page) = self.pages.get_mut(&(self.bytes / PAGE_BYTES as u64))
        {
            page.zero_from(kept);
        }
        self.allocated = self.durable.zeroes_promised.clone();
        for &number in self.pages.keys() {
            self.allocated.insert(number..number + 1);
        }
        torn
    }

    /// Flips a bit of the byte at `offset`; false if the file is shorter.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let within = offset < self.bytes;
        if within {
            let page = self
                .pages
                .entry(offset / PAGE_BYTES as u64)
                .or_insert_with(Page::hole);
            page.flip_bit(index(offset % PAGE_BYTES as u64), bit);
            self.cached.remove(&(offset / PAGE_BYTES as u64));
        }
        within
    }

    /// Makes the sector at `offset` give EIO until it is written; false if the file is shorter.
    pub(super) fn make_unreadable(&mut self, offset: u64) -> bool {
        let within = offset < self.bytes;
        if within {
            let page = self
                .pages
                .entry(offset / PAGE_BYTES as u64)
                .or_insert_with(Page::hole);
            let byte = index(offset % PAGE_BYTES as u64);
            page.make_unreadable(sectors_touched(byte, byte + 1));
            self.cached.remove(&(offset / PAGE_BYTES as u64));
        }
        within
    }

    /// The file is gone: its blocks go back, with what they hold.
    pub(super) fn free_into(self, stale: &mut Stale) {
        for page in self.pages.into_values() {
            stale.keep(page.durable().clone());
        }
    }

    /// Whether a power cut now could leave the file shorter than `end`.
    fn may_end_before(&self, end: u64) -> bool {
        let is_before = |change: &Change| match change {
            Change::Grown(bytes) | Change::SetLength(bytes) => *bytes < end,
            Change::Allocated(_) => false,
        };
        self.durable.bytes < end || self.pending.iter().any(|(_, change)| is_before(change))
    }

    /// Changes of size and extents up to `point` are durable, and with them all that came before, as a file system
    /// commits its journal in order. `alone`: no page is flushed with them, only truncations take effect.
    fn settle_extents(&mut self, point: u64, alone: bool) {
        let Some(last) = self.pending.iter().rposition(|(sequence, _)| *sequence <= point) else {
            return;
        };
        let mut has_truncated = false;
        for (_, change) in self.pending.drain(..=last) {
            has_truncated |= matches!(change, Change::SetLength(_));
            self.durable.apply(&change);
        }
        if alone && has_truncated {
            for number in &self.dirty {
                if let Some(page) = self.pages.get_mut(number) {
                    page.settle_truncation(point);
                }
            }
        }
    }
}

/// Where in the disk's history a write stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The write's own number.
    pub(super) sequence: u64,
    /// Where the newest flush was submitted that may still be under way.
    pub(super) last_flush: u64,
}

/// The pages that hold these bytes.
pub(super) fn pages_over(bytes: Range<u64>) -> Range<u64> {
    if bytes.is_empty() {
        let page = bytes.start / PAGE_BYTES as u64;
        return page..page;
    }
    bytes.start / PAGE_BYTES as u64..bytes.end.div_ceil(PAGE_BYTES as u64)
}

/// An index into memory: everything that is asked for fits into it.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the range is in memory")
}

/// Cuts `length` bytes of the pieces into pages from `offset` on: page number, first byte in the page, bytes.
fn for_each_page<'a>(
    mut pieces: impl Iterator<Item = &'a [u8]>,
    length: usize,
    offset: u64,
    mut each: impl FnMut(u64, usize, &[u8]),
) {
    let mut gathered = [0_u8; PAGE_BYTES];
    let mut piece: &[u8] = &[];
    let (mut position, mut left) = (offset, length);
    while left > 0 {
        let from = index(position % PAGE_BYTES as u64);
        let wanted = (PAGE_BYTES - from).min(left);
        while piece.is_empty() {
            piece = pieces.next().expect("the pieces hold the length");
        }
        let number = position / PAGE_BYTES as u64;
        if piece.len() >= wanted {
            each(number, from, &piece[..wanted]);
            piece = &piece[wanted..];
        } else {
            let mut filled = 0;
            while filled < wanted {
                while piece.is_empty() {
                    piece = pieces.next().expect("the pieces hold the length");
                }
                let count = piece.len().min(wanted - filled);
                gathered[filled..filled + count].copy_from_slice(&piece[..count]);
                piece = &piece[count..];
                filled += count;
            }
            each(number, from, &gathered[..wanted]);
        }
        position += wanted as u64;
        left -= wanted;
    }
}
