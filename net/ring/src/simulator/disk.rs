//! A simulated host's disk and the file system on it: what completes, and what is still there after a power cut.
//!
//! A pure model: it neither waits nor fails by chance. Its caller decides when an operation takes effect, and passes
//! with each flush the [`Point`] at which that flush was submitted. The rules:
//!
//! - A write is seen by every reader when it completes. It is durable when a flush of its file that was submitted
//!   after that has completed, or by itself when it asked for that; then it vouches for no other write.
//! - Sizes and extents need a flush of their file, names a flush of their directory.
//! - At a power cut every unflushed sector comes back old, new or unreadable, each on its own. "Old", in a block that
//!   was new to the file, is what its last owner left in it, unless the file system had promised zeroes durably.
//! - Each directory of the root is a file system of its own, on one disk with the others: syncfs covers no other's files.
//! - A flush that failed is not made good by one that succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;

use super::chance::Chance;
use super::inode::{Inode, Moment, Unreadable};
use super::names::{Names, Node, Number, error};
use super::page::{PAGE_BYTES, Tear};
use super::stale::Stale;
use crate::directory::{Alignment, Entry, Volume};
use crate::file::{Allocate, OpenOptions};

/// What O_DIRECT asks for.
pub(super) const BLOCK_BYTES: usize = PAGE_BYTES;
/// The largest file, in bytes (EFBIG beyond it): what a 4 KiB ext4 takes.
const FILE_BYTES_MAX: u64 = 16 << 40;

/// A moment of the disk's history: everything that had completed by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point(u64);

/// What a power cut did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Damage {
    pub(super) sectors_lost: u64,
    pub(super) sectors_unreadable: u64,
    pub(super) stale_pages: u64,
    pub(super) names_lost: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    number: Number,
    options: OpenOptions,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    names: Names,
    inodes: BTreeMap<Number, Inode>,
    open: BTreeMap<u64, Open>,
    locks: BTreeMap<Number, u64>,
    stale: Stale,
    pages: u64,
    pages_used: u64,
    next_number: Number,
    sequence: u64,
    last_flush: u64,
    /// Files that may have lost their last name and last handle.
    has_orphans: bool,
    /// The probability that a direct write leaves an older page in the page cache.
    stale_cache: f64,
}

impl Disk {
    pub(super) fn new(bytes: u64) -> Disk {
        Disk {
            names: Names::new(),
            inodes: BTreeMap::new(),
            open: BTreeMap::new(),
            locks: BTreeMap::new(),
            stale: Stale::default(),
            pages: bytes / PAGE_BYTES as u64,
            pages_used: 0,
            next_number: 1,
            sequence: 0,
            last_flush: 0,
            has_orphans: false,
            stale_cache: 0.0,
        }
    }

    /// Changes the disk's size; what is on it stays.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.pages = bytes / PAGE_BYTES as u64;
    }

    pub(super) fn bytes_free(&mut self) -> u64 {
        self.recount();
        self.pages.saturating_sub(self.pages_used) * PAGE_BYTES as u64
    }

    pub(super) fn set_stale_cache(&mut self, probability: f64) {
        self.stale_cache = probability;
    }

    /// Where a flush that is submitted now stands: it covers what has completed so far.
    pub(super) fn submit_flush(&mut self) -> Point {
        self.last_flush = self.sequence;
        Point(self.sequence)
    }

    /// open(2). `handle` is a number that was never used before.
    pub(super) fn open(&mut self, handle: u64, path: &Path, options: OpenOptions) -> io::Result<()> {
        if !options.read && !options.write {
            return Err(error(libc::EINVAL));
        }
        if (options.create || options.create_new || options.truncate) && !options.write {
            return Err(error(libc::EINVAL));
        }
        let number = match self.names.resolve(path) {
            Ok(_) if options.create_new => return Err(error(libc::EEXIST)),
            Ok(Node::Directory(_)) => return Err(error(libc::EISDIR)),
            Ok(Node::File(number)) => number,
            Err(missing) if missing.raw_os_error() == Some(libc::ENOENT) => {
                if !options.create && !options.create_new {
                    return Err(missing);
                }
                let number = self.next_number;
                self.sequence += 1;
                self.names.add(path, Node::File(number), self.sequence)?;
                self.next_number += 1;
                self.inodes.insert(number, Inode::default());
                number
            }
            Err(other) => return Err(other),
        };
        if options.truncate {
            self.sequence += 1;
            let sequence = self.sequence;
            let freed = self.inode(number).set_length(0, sequence);
            self.pages_used = self.pages_used.saturating_sub(freed);
        }
        self.open.insert(handle, Open { number, options });
        Ok(())
    }

    /// close(2). Unknown numbers are those of a process that was killed.
    pub(super) fn close(&mut self, handle: u64) {
        let Some(open) = self.open.remove(&handle) else {
            return;
        };
        if self.locks.get(&open.number) == Some(&handle) {
            self.locks.remove(&open.number);
        }
        self.has_orphans = true;
    }

    /// The process that held these is gone.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.locks.clear();
        self.has_orphans = true;
        self.free_orphans();
    }

    /// pread(2): bytes read, fewer at the end of the file.
    pub(super) fn read(
        &mut self,
        handle: u64,
        out: &mut [u8],
        offset: u64,
        chance: &mut Chance,
    ) -> io::Result<usize> {
        let open = self.handle(handle)?;
        if !open.options.read {
            return Err(error(libc::EBADF));
        }
        if open.options.direct && !is_aligned(out, offset) {
            return Err(error(libc::EINVAL));
        }
        let stale_cache = self.stale_cache;
        let inode = self.inode(open.number);
        let left = inode.bytes().saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        if length == 0 {
            return Ok(0);
        }
        let out = &mut out[..length];
        let result = if open.options.direct {
            inode.read(out, offset)
        } else {
            inode.read_buffered(out, offset, chance.happens(stale_cache))
        };
        match result {
            Ok(()) => Ok(length),
            // Linux gives what it had before the bad sector, or nothing: the next read tells.
            Err(Unreadable { bytes_before }) if bytes_before > 0 && chance.happens(0.5) => Ok(bytes_before),
            // What the device says, the same each time; the page cache makes EIO of it.
            Err(Unreadable { bytes_before }) if open.options.direct => {
                let block = (offset + bytes_before as u64) / BLOCK_BYTES as u64;
                let said = (open.number + block) % 3;
                Err(error([libc::EIO, libc::ENODATA, libc::EILSEQ][said as usize]))
            }
            Err(_) => Err(error(libc::EIO)),
        }
    }

    /// How long a read of `length` bytes is when it shall be short, of about `bytes`: a direct one ends with a block.
    pub(super) fn short_read_length(&self, handle: u64, bytes: usize, length: usize) -> usize {
        match self.open.get(&handle) {
            Some(open) if open.options.direct => bytes.next_multiple_of(BLOCK_BYTES).min(length),
            _ => bytes.min(length),
        }
    }

    /// Whether a direct write of these pieces at `offset` would be refused (EINVAL), or the handle is of no use.
    pub(super) fn check_write<S: AsRef<[u8]>>(
        &self,
        handle: u64,
        pieces: &[S],
        offset: u64,
    ) -> io::Result<()> {
        let open = self.handle(handle)?;
        if !open.options.write {
            return Err(error(libc::EBADF));
        }
        let is_refused = |piece: &S| !is_aligned(piece.as_ref(), 0);
        if open.options.direct && (!is_aligned(&[], offset) || pieces.iter().any(is_refused)) {
            return Err(error(libc::EINVAL));
        }
        Ok(())
    }

    /// pwritev2(2) of at most `length` bytes of `pieces`; `durable`: with RWF_DSYNC. Writes less if space runs out.
    pub(super) fn write<S: AsRef<[u8]>>(
        &mut self,
        handle: u64,
        pieces: &[S],
        length: usize,
        offset: u64,
        durable: bool,
        chance: &mut Chance,
    ) -> io::Result<usize> {
        self.check_write(handle, pieces, offset)?;
        let open = self.handle(handle)?;
        let whole: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        let mut length = length.min(whole);
        if length == 0 {
            return Ok(0);
        }
        if offset.saturating_add(length as u64) > FILE_BYTES_MAX {
            return Err(error(libc::EFBIG));
        }
        let missing = self.inodes[&open.number].pages_missing(offset..offset + length as u64);
        let free = self.pages_free(missing);
        let inode = self.inodes.get_mut(&open.number).expect("indexed above");
        if missing > free {
            let mut fits = 0;
            while fits < length {
                let next = (PAGE_BYTES - (offset as usize + fits) % PAGE_BYTES).min(length - fits);
                if inode.pages_missing(offset..offset + (fits + next) as u64) > free {
                    break;
                }
                fits += next;
            }
            if fits == 0 {
                return Err(error(libc::ENOSPC));
            }
            length = fits;
        }
        let bytes = offset..offset + length as u64;
        if inode.has_cached_pages() && !(open.options.direct && chance.happens(self.stale_cache)) {
            inode.drop_cached(bytes);
        }
        self.sequence += 1;
        let moment = Moment {
            sequence: self.sequence,
            last_flush: self.last_flush,
        };
        let pieces = pieces.iter().map(AsRef::as_ref);
        self.pages_used += inode.write(pieces, length, offset, durable, moment, &mut self.stale);
        Ok(length)
    }

    /// fsync(2) of a file, submitted at `point`, has succeeded.
    pub(super) fn sync(&mut self, handle: u64, point: Point) -> io::Result<()> {
        let open = self.handle(handle)?;
        if let Some(inode) = self.inodes.get_mut(&open.number) {
            inode.settle(point.0, &mut self.stale);
        }
        Ok(())
    }

    /// fsync(2) of a file has failed.
    pub(super) fn fail_sync(&mut self, handle: u64, point: Point) {
        if let Ok(open) = self.handle(handle) {
            self.inode(open.number).give_up(point.0);
        }
    }

    /// fsync(2) of a directory.
    pub(super) fn sync_directory(&mut self, path: &Path, point: Point) -> io::Result<()> {
        let directory = self.names.directory(path)?;
        self.names.settle(|number| number == directory, point.0);
        self.has_orphans = true;
        self.free_orphans();
        Ok(())
    }

    /// fsync(2) of a directory has failed.
    pub(super) fn fail_sync_directory(&mut self, path: &Path, point: Point) {
        if let Ok(directory) = self.names.directory(path) {
            self.names.give_up(|number| number == directory, point.0);
        }
    }

    /// syncfs(2): of the directory in the root that `path` is in, as if another disk were mounted on each.
    pub(super) fn sync_file_system(&mut self, path: &Path, point: Point) -> io::Result<()> {
        self.names.resolve(path)?;
        let elsewhere = self.names.elsewhere(path)?;
        self.names.settle(|number| !elsewhere.contains(&number), point.0);
        for (number, inode) in &mut self.inodes {
            if !elsewhere.contains(number) {
                inode.settle(point.0, &mut self.stale);
            }
        }
        self.has_orphans = true;
        self.free_orphans();
        Ok(())
    }

    /// syncfs(2) has failed.
    pub(super) fn fail_sync_file_system(&mut self, path: &Path, point: Point) {
        let elsewhere = self.names.elsewhere(path).unwrap_or_default();
        self.names.give_up(|number| !elsewhere.contains(&number), point.0);
        for (number, inode) in &mut self.inodes {
            if !elsewhere.contains(number) {
                inode.give_up(point.0);
            }
        }
    }

    /// fallocate(2).
    pub(super) fn allocate(&mut self, handle: u64, range: Range<u64>, mode: Allocate) -> io::Result<()> {
        let open = self.handle(handle)?;
        if !open.options.write {
            return Err(error(libc::EBADF));
        }
        if range.is_empty() {
            return Err(error(libc::EINVAL));
        }
        if range.end > FILE_BYTES_MAX {
            return Err(error(libc::EFBIG));
        }
        let missing = self.inodes[&open.number].pages_missing(range.clone());
        if missing > self.pages_free(missing) {
            return Err(error(libc::ENOSPC));
        }
        let sequence = self.sequence + 1;
        let inode = self.inode(open.number);
        let taken = inode.allocate(range, mode == Allocate::Extend, sequence);
        self.sequence = sequence;
        self.pages_used += taken;
        Ok(())
    }

    /// ftruncate(2).
    pub(super) fn set_length(&mut self, handle: u64, bytes: u64) -> io::Result<()> {
        let open = self.handle(handle)?;
        if !open.options.write {
            return Err(error(libc::EINVAL));
        }
        if bytes > FILE_BYTES_MAX {
            return Err(error(libc::EFBIG));
        }
        self.sequence += 1;
        let sequence = self.sequence;
        let freed = self.inode(open.number).set_length(bytes, sequence);
        self.pages_used = self.pages_used.saturating_sub(freed);
        Ok(())
    }

    /// The size of an open file.
    pub(super) fn length(&self, handle: u64) -> io::Result<u64> {
        let open = self.handle(handle)?;
        Ok(self.inodes[&open.number].bytes())
    }

    /// flock(2), exclusive, without waiting.
    pub(super) fn try_lock(&mut self, handle: u64) -> io::Result<bool> {
        let open = self.handle(handle)?;
        Ok(*self.locks.entry(open.number).or_insert(handle) == handle)
    }

    /// mkdir(2) of `path` and every missing parent.
    pub(super) fn create_all(&mut self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path
            .ancestors()
            .filter(|part| !part.as_os_str().is_empty())
            .collect();
        above.reverse();
        for part in above {
            match self.names.resolve(part) {
                Ok(Node::Directory(_)) => {}
                Ok(Node::File(_)) if part == path => return Err(error(libc::EEXIST)),
                Ok(Node::File(_)) => return Err(error(libc::ENOTDIR)),
                Err(missing) if missing.raw_os_error() == Some(libc::ENOENT) => {
                    self.sequence += 1;
                    self.names
                        .add(part, Node::Directory(self.next_number), self.sequence)?;
                    self.next_number += 1;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// The names in a directory, sorted; so many at most.
    pub(super) fn list(&self, path: &Path, most: usize) -> io::Result<Vec<Entry>> {
        let directory = self.names.directory(path)?;
        let entry = |(name, node): (&String, Node)| Entry {
            name: name.clone(),
            is_directory: matches!(node, Node::Directory(_)),
            bytes: match node {
                Node::Directory(_) => PAGE_BYTES as u64,
                Node::File(number) => self.inodes[&number].bytes(),
            },
        };
        Ok(self.names.list(directory).map(entry).take(most).collect())
    }

    /// Whether something has this name.
    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.names.resolve(path) {
            Ok(_) => Ok(true),
            Err(missing) if missing.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// rename(2).
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.sequence += 1;
        self.names.rename(from, to, self.sequence)?;
        self.has_orphans = true;
        Ok(())
    }

    /// unlink(2).
    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.sequence += 1;
        self.names.remove_file(path, self.sequence)?;
        self.has_orphans = true;
        Ok(())
    }

    /// Removes a directory and all below it.
    pub(super) fn remove_all(&mut self, path: &Path) -> io::Result<()> {
        self.sequence += 1;
        self.names.remove_all(path, self.sequence)?;
        self.has_orphans = true;
        Ok(())
    }

    /// What O_DIRECT asks for in a directory.
    pub(super) fn alignment(&self, path: &Path) -> io::Result<Alignment> {
        self.names.directory(path)?;
        Ok(Alignment {
            block_bytes: BLOCK_BYTES,
        })
    }

    /// How large it is, and what of it is free.
    pub(super) fn volume(&mut self, path: &Path) -> io::Result<Volume> {
        self.names.directory(path)?;
        let total_bytes = self.pages * PAGE_BYTES as u64;
        Ok(Volume {
            total_bytes,
            usable_bytes: self.bytes_free().min(total_bytes),
        })
    }

    /// The power goes. Nothing is open afterwards.
    pub(super) fn tear(&mut self, tear: Tear, chance: &mut Chance) -> Damage {
        self.open.clear();
        self.locks.clear();
        let mut damage = Damage {
            names_lost: self.names.tear(chance),
            ..Damage::default()
        };
        for inode in self.inodes.values_mut() {
            let torn = inode.tear(tear, chance, &mut self.stale);
            damage.sectors_lost += torn.lost;
            damage.sectors_unreadable += torn.unreadable;
            damage.stale_pages += torn.stale_pages;
        }
        self.has_orphans = true;
        self.free_orphans();
        self.recount();
        damage
    }

    /// Every file with its size, by path.
    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let files = self.names.walk().into_iter();
        files
            .map(|(path, number)| (path, self.inodes[&number].bytes()))
            .collect()
    }

    /// The whole file, as direct reads see it; EIO where a sector is bad.
    pub(super) fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inode = &self.inodes[&self.file(path)?];
        let bytes = usize::try_from(inode.bytes()).map_err(|_| error(libc::EFBIG))?;
        let mut out = vec![0; bytes];
        inode.read(&mut out, 0).map_err(|_| error(libc::EIO))?;
        Ok(out)
    }

    /// Flips one bit of a file; false if the file is shorter.
    pub(super) fn flip_bit(&mut self, path: &Path, offset: u64, bit: u8) -> io::Result<bool> {
        let number = self.file(path)?;
        Ok(self.inode(number).flip_bit(offset, bit))
    }

    /// Makes one sector of a file unreadable; false if the file is shorter.
    pub(super) fn make_unreadable(&mut self, path: &Path, offset: u64) -> io::Result<bool> {
        let number = self.file(path)?;
        Ok(self.inode(number).make_unreadable(offset))
    }

    /// Fills the pool of old blocks with these, as a disk that was used before holds them.
    pub(super) fn leave_stale_blocks(&mut self, bytes: &[u8]) {
        for page in bytes.chunks_exact(PAGE_BYTES) {
            self.stale.keep(super::page::Content::new(page));
        }
    }

    /// Free pages; counted anew when `wanted` are not there, because files without a name give theirs back.
    fn pages_free(&mut self, wanted: u64) -> u64 {
        if self.pages_used + wanted > self.pages {
            self.recount();
        }
        self.pages.saturating_sub(self.pages_used)
    }

    fn recount(&mut self) {
        let mut live: BTreeSet<Number> = self.names.walk().into_iter().map(|(_, number)| number).collect();
        live.extend(self.open.values().map(|open| open.number));
        self.pages_used = live
            .iter()
            .map(|number| self.inodes[number].allocated_pages())
            .sum();
    }

    fn handle(&self, handle: u64) -> io::Result<Open> {
        self.open.get(&handle).copied().ok_or_else(|| error(libc::EBADF))
    }

    fn file(&self, path: &Path) -> io::Result<Number> {
        match self.names.resolve(path)? {
            Node::File(number) => Ok(number),
            Node::Directory(_) => Err(error(libc::EISDIR)),
        }
    }

    fn inode(&mut self, number: Number) -> &mut Inode {
        self.inodes
            .get_mut(&number)
            .expect("an open or named file is there")
    }

    /// Frees the files that nobody can reach any more, even after a power cut.
    fn free_orphans(&mut self) {
        if !std::mem::take(&mut self.has_orphans) {
            return;
        }
        let mut kept = self.names.files();
        kept.extend(self.open.values().map(|open| open.number));
        let gone: Vec<Number> = self
            .inodes
            .keys()
            .copied()
            .filter(|number| !kept.contains(number))
            .collect();
        for number in gone {
            if let Some(inode) = self.inodes.remove(&number) {
                inode.free_into(&mut self.stale);
            }
        }
        self.recount();
    }
}

/// Whether memory, length and offset suit O_DIRECT.
fn is_aligned(memory: &[u8], offset: u64) -> bool {
    (memory.is_empty() || memory.as_ptr().addr().is_multiple_of(BLOCK_BYTES))
        && memory.len().is_multiple_of(BLOCK_BYTES)
        && offset.is_multiple_of(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests;
