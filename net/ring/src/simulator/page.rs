//! One 4 KiB page of a simulated file: what reads see, what is on stable storage, and the writes in between.
//!
//! Durability is by 512-byte sector. Contents are shared, so that keeping an old version costs a pointer.

use std::rc::Rc;

use super::chance::Chance;

/// Bytes of a page, the unit in which contents are kept.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a sector, the unit that a power cut decides about.
pub(super) const SECTOR_BYTES: usize = 512;
/// A mask that names every sector of a page.
pub(super) const ALL_SECTORS: u8 = 0xff;
/// The sequence of a write that no flush will ever cover: one that a failed flush gave up.
pub(super) const NEVER: u64 = u64::MAX;

/// More unflushed versions of a page than this are merged, oldest kept: an older one is as good a hostile answer.
const VERSIONS_MAX: usize = 4;

static ZEROES: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// The bytes of a page.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Zeroes,
    Bytes(Rc<[u8; PAGE_BYTES]>),
}

impl Content {
    /// A whole page.
    pub(super) fn new(page: &[u8]) -> Content {
        assert_eq!(page.len(), PAGE_BYTES);
        if page.iter().all(|&byte| byte == 0) {
            return Content::Zeroes;
        }
        let bytes: Rc<[u8]> = Rc::from(page);
        Content::Bytes(bytes.try_into().expect("the length was asserted"))
    }

    pub(super) fn bytes(&self) -> &[u8; PAGE_BYTES] {
        match self {
            Content::Zeroes => &ZEROES,
            Content::Bytes(bytes) => bytes,
        }
    }

    /// This page with `sectors` of `other` in it.
    pub(super) fn with_sectors(&self, other: &Content, sectors: u8) -> Content {
        match sectors {
            0 => self.clone(),
            ALL_SECTORS => other.clone(),
            _ => {
                let mut page = *self.bytes();
                for sector in sectors_of(sectors) {
                    let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    page[range.clone()].copy_from_slice(&other.bytes()[range]);
                }
                Content::new(&page)
            }
        }
    }
}

/// The numbers of the sectors in a mask.
fn sectors_of(mask: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |sector| mask & (1 << sector) != 0)
}

/// The sectors that `from..to` (in bytes of the page, not empty) touches.
pub(super) fn sectors_touched(from: usize, to: usize) -> u8 {
    let first = from / SECTOR_BYTES;
    let last = (to - 1) / SECTOR_BYTES;
    let mut mask = 0;
    for sector in first..=last {
        mask |= 1 << sector;
    }
    mask
}

/// Why a version exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Write,
    /// A truncation took the page away. It survives with the file's size, or not at all.
    Truncation,
}

/// A change that is not on stable storage yet.
#[derive(Debug, Clone)]
struct Version {
    sequence: u64,
    sectors: u8,
    cause: Cause,
    content: Content,
}

impl Version {
    /// Whether the page has bytes of its own afterwards. A truncation takes it away unless it kept its beginning, or
    /// something later was written to it.
    fn leaves_page(&self) -> bool {
        self.cause == Cause::Write || self.sectors != ALL_SECTORS || !matches!(self.content, Content::Zeroes)
    }
}

/// How a power cut treats what was not flushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tear {
    /// The probability that an unflushed sector comes back new.
    pub(super) new: f64,
    /// The probability that an unflushed sector cannot be read.
    pub(super) unreadable: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Page {
    current: Content,
    durable: Content,
    /// Whether the page had bytes of its own on stable storage: otherwise its block holds whatever was there before.
    is_on_disk: bool,
    versions: Vec<Version>,
    /// Sectors of the durable content that give EIO.
    unreadable: u8,
}

impl Page {
    /// A hole: reads as zeroes.
    pub(super) fn hole() -> Page {
        Page {
            current: Content::Zeroes,
            durable: Content::Zeroes,
            is_on_disk: false,
            versions: Vec::new(),
            unreadable: 0,
        }
    }

    pub(super) fn current(&self) -> &Content {
        &self.current
    }

    pub(super) fn durable(&self) -> &Content {
        &self.durable
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.versions.is_empty()
    }

    /// Whether its durable content is its own, not that of a block nobody wrote.
    pub(super) fn is_on_disk(&self) -> bool {
        self.is_on_disk
    }

    /// Whether it is as good as not there.
    pub(super) fn is_hole(&self) -> bool {
        self.versions.is_empty() && !self.is_on_disk && self.unreadable == 0
    }

    /// Sectors that give EIO now: those of the durable content that no write has replaced.
    pub(super) fn unreadable(&self) -> u8 {
        let written = self
            .versions
            .iter()
            .fold(0, |mask, version| mask | version.sectors);
        self.unreadable & !written
    }

    /// A completed write of `sectors`; `content` is the whole page as it is now. Versions that a flush in flight may
    /// still have to tell apart are those up to `last_flush`.
    pub(super) fn write(&mut self, sequence: u64, sectors: u8, content: Content, last_flush: u64) {
        self.current = content.clone();
        self.push(
            Version {
                sequence,
                sectors,
                cause: Cause::Write,
                content,
            },
            last_flush,
        );
    }

    /// A write that is on stable storage with its completion. It vouches for nothing but its own sectors.
    /// Returns the durable content that it replaced.
    pub(super) fn write_durably(&mut self, sectors: u8, content: Content) -> Content {
        let durable = self.durable.with_sectors(&content, sectors);
        for version in &mut self.versions {
            version.sectors &= !sectors;
        }
        self.versions.retain(|version| version.sectors != 0);
        self.current = content;
        self.unreadable &= !sectors;
        self.is_on_disk = true;
        std::mem::replace(&mut self.durable, durable)
    }

    /// A truncation took the page away, or (with `kept` bytes) all but its beginning.
    pub(super) fn truncate(&mut self, sequence: u64, kept: usize) {
        let content = if kept == 0 {
            Content::Zeroes
        } else {
            let mut page = *self.current.bytes();
            page[kept..].fill(0);
            Content::new(&page)
        };
        self.current = content.clone();
        let sectors = sectors_touched(kept, PAGE_BYTES);
        self.versions.push(Version {
            sequence,
            sectors,
            cause: Cause::Truncation,
            content,
        });
    }

    /// A flush that was submitted at `point` has completed. Returns the durable content that it replaced, if it did.
    pub(super) fn settle(&mut self, point: u64) -> Option<Content> {
        let before = self.durable.clone();
        let mut settled = 0_u8;
        let mut versions = std::mem::take(&mut self.versions);
        // From the newest back, so that an older write is not put over a newer one that is durable.
        for version in versions.iter_mut().rev() {
            version.sectors &= !settled;
            if version.sequence > point || version.sectors == 0 {
                continue;
            }
            self.durable = self.durable.with_sectors(&version.content, version.sectors);
            self.unreadable &= !version.sectors;
            self.is_on_disk = version.leaves_page();
            settled |= version.sectors;
            version.sectors = 0;
        }
        versions.retain(|version| version.sectors != 0);
        self.versions = versions;
        (settled != 0).then_some(before)
    }

    /// The file's size is durable up to `point`: what truncations took away by then is gone for good. Writes gain
    /// nothing by it.
    pub(super) fn settle_truncation(&mut self, point: u64) {
        let is_covered = |version: &Version| version.cause == Cause::Truncation && version.sequence <= point;
        let Some(last) = self.versions.iter().rposition(is_covered) else {
            return;
        };
        let truncation = self.versions.remove(last);
        for version in &mut self.versions[..last] {
            version.sectors &= !truncation.sectors;
        }
        self.durable = self.durable.with_sectors(&truncation.content, truncation.sectors);
        self.unreadable &= !truncation.sectors;
        self.is_on_disk = truncation.leaves_page();
        self.versions.retain(|version| version.sectors != 0);
    }

    /// What follows `kept` bytes is past the end of the file.
    pub(super) fn zero_from(&mut self, kept: usize) {
        for content in [&mut self.current, &mut self.durable] {
            let mut page = *content.bytes();
            page[kept..].fill(0);
            *content = Content::new(&page);
        }
    }

    /// A flush that was submitted at `point` has failed: the kernel calls these writes clean, whether they reached
    /// the disk or not, and no later flush looks at them again.
    pub(super) fn give_up(&mut self, point: u64) {
        for version in &mut self.versions {
            if version.sequence <= point {
                version.sequence = NEVER;
            }
        }
    }

    /// The power goes. `size_point` is the last change of the file's size and extents that survived; `old_block` says
    /// what the page's block held before it belonged to the file, if the file system promises no zeroes.
    /// Returns how many sectors came back not as they were written: old ones, and unreadable ones.
    pub(super) fn tear(
        &mut self,
        tear: Tear,
        size_point: u64,
        chance: &mut Chance,
        old_block: Option<Content>,
    ) -> (u64, u64) {
        let mut versions = std::mem::take(&mut self.versions);
        if versions.is_empty() {
            return (0, 0);
        }
        let mut content = self.durable.clone();
        if let (false, Some(old_block)) = (self.is_on_disk, old_block) {
            content = old_block;
        }
        let (mut lost, mut unreadable) = (0_u8, 0_u8);
        for version in versions.drain(..) {
            if version.cause == Cause::Truncation {
                if version.sequence > size_point {
                    // What came later was written to blocks that the surviving file does not know.
                    break;
                }
                content = content.with_sectors(&version.content, version.sectors);
                lost &= !version.sectors;
                unreadable &= !version.sectors;
                self.unreadable &= !version.sectors;
                self.is_on_disk = version.leaves_page();
                continue;
            }
            let new = version.sectors & chance.mask(tear.new);
            let bad = version.sectors & chance.mask(tear.unreadable);
            content = content.with_sectors(&version.content, new);
            self.is_on_disk = true;
            self.unreadable &= !new;
            lost = (lost | version.sectors) & !new;
            unreadable = (unreadable & !new) | bad;
        }
        self.unreadable |= unreadable;
        self.durable = content;
        self.current = self.durable.clone();
        self.versions = versions;
        (u64::from(lost.count_ones()), u64::from(unreadable.count_ones()))
    }

    /// Rot: flips one bit of the page, on stable storage and in what reads see.
    pub(super) fn flip_bit(&mut self, byte: usize, bit: u8) {
        for content in [&mut self.current, &mut self.durable] {
            let mut page = *content.bytes();
            page[byte] ^= 1 << bit;
            *content = Content::new(&page);
        }
        self.is_on_disk = true;
    }

    /// Rot: the sector gives EIO until it is written again.
    pub(super) fn make_unreadable(&mut self, sectors: u8) {
        self.unreadable |= sectors;
        for version in &mut self.versions {
            version.sectors &= !sectors;
        }
        self.versions.retain(|version| version.sectors != 0);
        self.is_on_disk = true;
    }

    fn push(&mut self, version: Version, last_flush: u64) {
        if self.versions.len() >= VERSIONS_MAX
            && let Some(last) = self.versions.last_mut()
            && last.cause == Cause::Write
            && last.sequence > last_flush
            && last.sequence != NEVER
        {
            last.sequence = version.sequence;
            last.sectors |= version.sectors;
            last.content = version.content;
            return;
        }
        self.versions.push(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_OLD: Tear = Tear {
        new: 0.0,
        unreadable: 0.0,
    };
    const KEEP_NEW: Tear = Tear {
        new: 1.0,
        unreadable: 0.0,
    };

    fn filled(byte: u8) -> Content {
        Content::new(&[byte; PAGE_BYTES])
    }

    fn first(content: &Content) -> u8 {
        content.bytes()[0]
    }

    #[test]
    fn a_flush_covers_only_what_had_completed_at_its_submission() {
        let mut page = Page::hole();
        page.write(1, ALL_SECTORS, filled(1), 0);
        page.write(2, ALL_SECTORS, filled(2), 1);
        page.settle(1);
        assert_eq!((first(page.current()), first(page.durable())), (2, 1));
        page.tear(KEEP_OLD, 0, &mut Chance::new(0), None);
        assert_eq!(first(page.current()), 1);
    }

    #[test]
    fn a_durable_write_vouches_for_its_own_sectors_only() {
        let mut page = Page::hole();
        page.write(1, ALL_SECTORS, filled(1), 0);
        page.write_durably(1, page.current().with_sectors(&filled(2), 1));
        let (lost, _) = page.tear(KEEP_OLD, 0, &mut Chance::new(0), None);
        assert_eq!(lost, 7);
        assert_eq!(page.current().bytes()[..SECTOR_BYTES], [2; SECTOR_BYTES]);
        assert_eq!(page.current().bytes()[SECTOR_BYTES], 0);
    }

    #[test]
    fn a_failed_flush_is_not_mended_by_the_next() {
        let mut page = Page::hole();
        page.write(1, ALL_SECTORS, filled(1), 0);
        page.give_up(1);
        page.settle(9);
        assert_eq!((first(page.current()), first(page.durable())), (1, 0));
        page.write(10, ALL_SECTORS, filled(2), 9);
        page.settle(10);
        assert!(!page.is_dirty());
        assert_eq!(first(page.durable()), 2);
    }

    #[test]
    fn sectors_tear_each_on_its_own() {
        let mut chance = Chance::new(5);
        let mut seen = [false; 3];
        let mut mixed = 0;
        for _ in 0..100 {
            let mut page = Page::hole();
            page.write(1, ALL_SECTORS, filled(1), 0);
            page.settle(1);
            page.write(2, ALL_SECTORS, filled(2), 1);
            page.tear(
                Tear {
                    new: 0.5,
                    unreadable: 0.2,
                },
                0,
                &mut chance,
                None,
            );
            let bytes = page.current().bytes();
            mixed += u32::from(bytes.contains(&1) && bytes.contains(&2));
            for sector in 0..8 {
                let value = page.current().bytes()[sector * SECTOR_BYTES];
                if page.unreadable() & (1 << sector) != 0 {
                    seen[0] = true;
                } else {
                    seen[usize::from(value)] = true;
                }
            }
        }
        assert_eq!(seen, [true; 3]);
        assert!(mixed > 50, "{mixed}");
    }

    #[test]
    fn an_unreadable_sector_is_mended_by_writing_it() {
        let mut page = Page::hole();
        page.write_durably(ALL_SECTORS, filled(1));
        page.make_unreadable(0b10);
        assert_eq!(page.unreadable(), 0b10);
        page.write(1, ALL_SECTORS, filled(2), 0);
        assert_eq!(page.unreadable(), 0);
        page.tear(KEEP_OLD, 0, &mut Chance::new(0), None);
        assert_eq!(page.unreadable(), 0b10);
        page.write(2, ALL_SECTORS, filled(2), 0);
        page.settle(2);
        assert_eq!(page.unreadable(), 0);
    }

    #[test]
    fn a_new_block_shows_what_it_held_before() {
        let mut page = Page::hole();
        page.write(1, ALL_SECTORS, filled(1), 0);
        page.tear(KEEP_OLD, 0, &mut Chance::new(0), Some(filled(77)));
        assert_eq!(first(page.current()), 77);
    }

    #[test]
    fn a_truncation_survives_with_the_size_and_hides_later_writes_when_it_does_not() {
        let torn = |size_point| {
            let mut page = Page::hole();
            page.write_durably(ALL_SECTORS, filled(1));
            page.truncate(5, 0);
            page.write(6, ALL_SECTORS, filled(2), 0);
            page.tear(KEEP_NEW, size_point, &mut Chance::new(0), None);
            first(page.current())
        };
        assert_eq!(torn(4), 1);
        assert_eq!(torn(5), 2);
    }

    #[test]
    fn versions_are_bounded_and_the_newest_is_kept() {
        let mut page = Page::hole();
        for byte in 1..=200 {
            page.write(u64::from(byte), ALL_SECTORS, filled(byte), 2);
        }
        assert!(page.versions.len() <= VERSIONS_MAX);
        page.settle(2);
        assert_eq!(first(page.durable()), 2);
        page.settle(200);
        assert_eq!(first(page.durable()), 200);
    }
}
