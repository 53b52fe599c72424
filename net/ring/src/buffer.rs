//! Page-aligned buffers under a hard budget, and the shared slices cut from them.
//!
//! Owns every large allocation of a thread. Never hands out more than a pool's bytes: a taker is refused or waits.
//! A pool keeps what comes back for the next taker of the same size; what it keeps counts as its own, so that a
//! thread's memory stays within its budget whatever sizes are asked for.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Range, RangeInclusive};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::core;
use crate::local::{Permit, Semaphore};
use crate::region::Region;

/// Alignment, and granule, of every [`Buffer`]: what O_DIRECT wants at most, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// The pool has fewer bytes left than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBudget {
    /// Bytes asked for, rounded up to whole pages.
    pub wanted: usize,
    /// Bytes that the pool had left.
    pub left: usize,
}

impl std::fmt::Display for OutOfBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OutOfBudget { wanted, left } = self;
        write!(f, "{wanted} bytes of buffer memory wanted, {left} left")
    }
}

impl std::error::Error for OutOfBudget {}

/// What one thread's pools may take together.
pub(crate) struct Budget {
    bytes_left: Cell<usize>,
    /// What the memory is taken from as long as there are pages that follow each other.
    region: Option<Rc<Region>>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Rc<Budget> {
        Budget::of(bytes, None)
    }

    /// So many bytes, of which the process has those of the region.
    pub(crate) fn of(bytes: usize, region: Option<Region>) -> Rc<Budget> {
        Rc::new(Budget {
            bytes_left: Cell::new(bytes),
            region: region.map(Rc::new),
        })
    }
}

/// A named share of this thread's memory budget. Cheap to clone; all clones draw from the same share.
#[derive(Clone)]
pub struct Pool {
    share: Rc<Share>,
}

struct Share {
    name: &'static str,
    bytes: usize,
    budget: Rc<Budget>,
    /// One permit a page.
    pages: Semaphore,
    /// Memory that nobody uses, by its size in pages.
    kept: RefCell<BTreeMap<usize, Vec<Memory>>>,
    pages_kept: Cell<usize>,
}

/// How much of a pool is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    /// The pool's name.
    pub name: &'static str,
    /// Its share of the thread's budget, in bytes.
    pub bytes: usize,
    /// Bytes of it that are taken, in whole pages.
    pub bytes_used: usize,
}

impl Pool {
    /// Sets `bytes` of the thread's budget aside under `name`.
    ///
    /// # Errors
    /// [`OutOfBudget`] if the thread's budget (`thread::ThreadOptions::memory_bytes`) has less left.
    pub fn new(name: &'static str, bytes: usize) -> Result<Pool, OutOfBudget> {
        Pool::of_budget(core::current().budget(), name, bytes)
    }

    fn of_budget(budget: &Rc<Budget>, name: &'static str, bytes: usize) -> Result<Pool, OutOfBudget> {
        let left = budget.bytes_left.get();
        let rest = left
            .checked_sub(bytes)
            .ok_or(OutOfBudget { wanted: bytes, left })?;
        budget.bytes_left.set(rest);
        Ok(Pool {
            share: Rc::new(Share {
                name,
                bytes,
                budget: budget.clone(),
                pages: Semaphore::new(bytes / PAGE_SIZE),
                kept: RefCell::default(),
                pages_kept: Cell::new(0),
            }),
        })
    }

    /// A buffer of at least `capacity` bytes (rounded up to whole pages, by an eighth at most), or a refusal at once. Also refused while
    /// others wait, who came first.
    pub fn try_take(&self, capacity: usize) -> Result<Buffer, OutOfBudget> {
        let pages = self.pages_for(capacity);
        let permit = (self.share.pages.try_acquire(pages)).ok_or_else(|| self.refusal(pages))?;
        Ok(self.buffer(pages, permit))
    }

    /// A buffer of at least `least` bytes: the largest that is kept, up to twice `wanted`, or else new memory for `wanted`. For whoever
    /// fills what it gets, and would rather have it soon: memory that is kept is not new to the process.
    pub fn try_take_about(&self, least: usize, wanted: usize) -> Result<Buffer, OutOfBudget> {
        assert!(least <= wanted);
        let sizes = self.pages_for(least)..=self.pages_for(wanted.saturating_mul(2));
        match self.share.largest_kept(sizes) {
            Some(pages) => self.try_take(pages * PAGE_SIZE),
            None => self.try_take(wanted),
        }
    }

    /// A buffer of at least `capacity` bytes, rounded up as in [`Pool::try_take`]; waits, first come first served, until the pool has room.
    ///
    /// # Errors
    /// [`OutOfBudget`] if the whole pool is smaller than `capacity`: waiting would never end.
    pub async fn take(&self, capacity: usize) -> Result<Buffer, OutOfBudget> {
        let pages = self.pages_for(capacity);
        if pages > self.share.bytes / PAGE_SIZE {
            return Err(self.refusal(pages));
        }
        let permit = self.share.pages.acquire(pages).await;
        Ok(self.buffer(pages, permit))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.share.name
    }

    /// Bytes of the share.
    pub fn bytes(&self) -> usize {
        self.share.bytes
    }

    /// Bytes not taken now.
    pub fn bytes_left(&self) -> usize {
        self.share.pages.available() * PAGE_SIZE
    }

    /// What is taken of it now.
    pub fn usage(&self) -> PoolUsage {
        let pages = self.share.bytes / PAGE_SIZE;
        PoolUsage {
            name: self.share.name,
            bytes: self.share.bytes,
            bytes_used: pages * PAGE_SIZE - self.bytes_left(),
        }
    }

    /// Pages of a buffer of `capacity` bytes. Rounded up, so that what comes back fits the next taker, whose size is
    /// seldom the same to the page: memory that is new to the process costs more than writing to it.
    fn pages_for(&self, capacity: usize) -> usize {
        let pages = size_class(capacity);
        if pages <= self.share.bytes / PAGE_SIZE {
            pages
        } else {
            capacity.div_ceil(PAGE_SIZE)
        }
    }

    fn refusal(&self, pages: usize) -> OutOfBudget {
        OutOfBudget {
            wanted: pages.saturating_mul(PAGE_SIZE),
            left: self.bytes_left(),
        }
    }

    fn buffer(&self, pages: usize, permit: Permit) -> Buffer {
        Buffer {
            memory: Some(self.share.memory(pages)),
            share: self.share.clone(),
            permit: Some(permit),
        }
    }
}

/// A buffer has at least one page; up to 16 it has as many as are needed, and beyond, one of eight sizes for each
/// doubling.
fn size_class(capacity: usize) -> usize {
    let pages = capacity.div_ceil(PAGE_SIZE).max(1);
    let step = (pages.next_power_of_two() / 16).max(1);
    pages.next_multiple_of(step)
}

impl Share {
    /// The largest of these sizes of which memory is kept, in pages.
    fn largest_kept(&self, pages: RangeInclusive<usize>) -> Option<usize> {
        let kept = self.kept.borrow();
        let mut sizes = kept.range(pages).rev();
        sizes.find_map(|(pages, memory)| (!memory.is_empty()).then_some(*pages))
    }

    /// Memory for pages whose permit is held: kept memory of that size, or new; other kept memory goes first if both
    /// would be more than the share.
    fn memory(&self, pages: usize) -> Memory {
        let mut kept = self.kept.borrow_mut();
        if let Some(memory) = kept.get_mut(&pages).and_then(Vec::pop) {
            self.pages_kept.set(self.pages_kept.get() - pages);
            return memory;
        }
        // `available` was counted down by `pages` already: what is in use, these included, is the rest.
        let room = self.pages.available();
        while self.pages_kept.get() > room {
            drop(
                self.give_up_largest(&mut kept)
                    .expect("pages that are kept are there"),
            );
        }
        drop(kept);
        self.of_region(pages).unwrap_or_else(|| Memory::new(pages))
    }

    /// Memory that the thread has already. What the pool keeps of it goes, if none is left that follows each other.
    fn of_region(&self, pages: usize) -> Option<Memory> {
        let region = self.budget.region.as_ref()?;
        loop {
            if let Some(start) = region.take(pages) {
                return Some(Memory {
                    start,
                    bytes: pages * PAGE_SIZE,
                    region: Some(region.clone()),
                });
            }
            let freed = self.give_up_largest(&mut self.kept.borrow_mut())?;
            drop(freed);
        }
    }

    /// The largest memory that is kept; it is not any more.
    fn give_up_largest(&self, kept: &mut BTreeMap<usize, Vec<Memory>>) -> Option<Memory> {
        loop {
            let mut largest = kept.last_entry()?;
            match largest.get_mut().pop() {
                Some(freed) => {
                    self.pages_kept
                        .set(self.pages_kept.get() - freed.bytes / PAGE_SIZE);
                    return Some(freed);
                }
                None => drop(largest.remove()),
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let left = &self.budget.bytes_left;
        left.set(left.get() + self.bytes);
    }
}

/// A page-aligned piece of memory with one owner. Its bytes are initialised, but stale: it may have been used before.
/// Dropping it gives its bytes back to the pool.
pub struct Buffer {
    /// `None` only while it is dropped.
    memory: Option<Memory>,
    share: Rc<Share>,
    permit: Option<Permit>,
}

impl Buffer {
    /// Bytes it holds, a multiple of [`PAGE_SIZE`].
    pub fn capacity(&self) -> usize {
        self.memory().bytes
    }

    /// Ends writing: the buffer becomes shared and immutable, and `range` of it a slice.
    ///
    /// # Panics
    /// If `range` reaches past the capacity.
    pub fn freeze(self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.capacity());
        Slice {
            start: range.start,
            end: range.end,
            storage: Rc::new(Storage::Pooled(self)),
        }
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("a buffer has memory until its drop")
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let memory = self.memory();
        // SAFETY: `start` points at `bytes` initialised bytes, which live and belong to this buffer alone. While the
        // kernel writes into them an operation owns the buffer, so that no reference can exist.
        unsafe { std::slice::from_raw_parts(memory.start.as_ptr(), memory.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let memory = self.memory();
        // SAFETY: as in `deref`; and `&mut self` is the only way to the bytes now.
        unsafe { std::slice::from_raw_parts_mut(memory.start.as_ptr(), memory.bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let pages = memory.bytes / PAGE_SIZE;
            self.share
                .kept
                .borrow_mut()
                .entry(pages)
                .or_default()
                .push(memory);
            self.share.pages_kept.set(self.share.pages_kept.get() + pages);
        }
        // Only now, so that a waiter finds the memory.
        drop(self.permit.take());
    }
}

/// Initialised memory, page-aligned.
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    /// Whose pages they are; none if they are the system's.
    region: Option<Rc<Region>>,
}

impl Memory {
    fn new(pages: usize) -> Memory {
        let layout = Memory::layout(pages * PAGE_SIZE);
        // SAFETY: the layout is not empty: `size_class` gives at least one page.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        Memory {
            start: start.unwrap_or_else(|| handle_alloc_error(layout)),
            bytes: layout.size(),
            region: None,
        }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, PAGE_SIZE).expect("a pool's sizes are far below isize::MAX")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &self.region {
            Some(region) => region.give_back(self.start, self.bytes / PAGE_SIZE),
            // SAFETY: allocated in `new` with this layout, and nobody else frees it.
            None => unsafe { dealloc(self.start.as_ptr(), Memory::layout(self.bytes)) },
        }
    }
}

/// Immutable shared bytes: a range of a frozen [`Buffer`] or of a `Vec<u8>`. A clone costs one non-atomic count.
/// The memory goes back to its pool when the last slice of it is dropped.
#[derive(Clone)]
pub struct Slice {
    storage: Rc<Storage>,
    start: usize,
    end: usize,
}

enum Storage {
    Pooled(Buffer),
    Vector(Vec<u8>),
}

impl Slice {
    /// A part of this slice, sharing its memory.
    ///
    /// # Panics
    /// If `range` reaches past its length.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len());
        Slice {
            storage: self.storage.clone(),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }

    /// Takes the memory back for writing when this is the only slice of a buffer; otherwise returns the slice.
    pub fn try_into_buffer(self) -> Result<Buffer, Slice> {
        let Slice { storage, start, end } = self;
        match Rc::try_unwrap(storage) {
            Ok(Storage::Pooled(buffer)) => Ok(buffer),
            Ok(vector) => Err(Slice {
                storage: Rc::new(vector),
                start,
                end,
            }),
            Err(storage) => Err(Slice { storage, start, end }),
        }
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        Slice {
            start: 0,
            end: bytes.len(),
            storage: Rc::new(Storage::Vector(bytes)),
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.storage {
            Storage::Pooled(buffer) => &buffer[self.start..self.end],
            Storage::Vector(bytes) => &bytes[self.start..self.end],
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// By their bytes, wherever these are.
impl PartialEq for Slice {
    fn eq(&self, other: &Slice) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_by_an_eighth_at_most() {
        for pages in 1..5_000 {
            let class = size_class(pages * PAGE_SIZE);
            assert!(
                pages <= class && class <= pages + pages / 8,
                "{pages} became {class}"
            );
            assert_eq!(size_class(pages * PAGE_SIZE - 1), class);
            assert_eq!(size_class(class * PAGE_SIZE), class);
            assert!(pages > 16 || class == pages);
        }
    }

    #[test]
    fn memory_that_comes_back_serves_the_next_taker_of_about_its_size() {
        let pool = Pool::of_budget(&Budget::new(1 << 20), "test", 1 << 20).unwrap();
        let mut buffer = pool.try_take(70 * PAGE_SIZE).unwrap();
        assert_eq!(buffer.capacity(), 72 * PAGE_SIZE);
        buffer[0] = 7;
        drop(buffer);
        let again = pool.try_take(66 * PAGE_SIZE).unwrap();
        assert_eq!((again.capacity(), again[0]), (72 * PAGE_SIZE, 7));
    }

    #[test]
    fn what_the_process_has_is_taken_first_and_comes_back() {
        let bytes = 64 * PAGE_SIZE;
        let budget = Budget::of(bytes, Region::new(48 * PAGE_SIZE));
        let pool = Pool::of_budget(&budget, "test", bytes).unwrap();
        let is_of_region = |buffer: &Buffer| buffer.memory().region.is_some();
        let taken = [16, 16, 20, 12].map(|pages| pool.try_take(pages * PAGE_SIZE).unwrap());
        assert_eq!(taken.each_ref().map(is_of_region), [true, true, false, true]);
        assert!(pool.try_take(1).is_err(), "a region is not a larger budget");
        drop(taken);
        // What is kept is of other sizes, so it makes room.
        let most = pool.try_take(48 * PAGE_SIZE).unwrap();
        assert!(is_of_region(&most));
        drop((most, pool));
        let region = budget.region.as_ref().unwrap();
        assert!(region.take(48).is_some(), "a pool that has ended gives all back");
    }

    #[test]
    fn what_is_kept_serves_whoever_is_not_particular() {
        let pool = Pool::of_budget(&Budget::new(1 << 20), "test", 1 << 20).unwrap();
        let sizes = |least, wanted| {
            let taken = pool.try_take_about(least * PAGE_SIZE, wanted * PAGE_SIZE);
            taken.map(|buffer| (buffer.capacity() / PAGE_SIZE, buffer))
        };
        let (new, mut first) = sizes(8, 16).unwrap();
        assert_eq!(new, 16);
        first[0] = 7;
        let (_, second) = sizes(9, 9).unwrap();
        drop((first, second));
        let (kept, first) = sizes(8, 12).unwrap();
        assert_eq!((kept, first[0]), (16, 7), "the larger of two");
        assert_eq!(sizes(8, 12).unwrap().0, 9, "and then the other");
        drop(first);
        assert_eq!(sizes(17, 20).unwrap().0, 20, "none is large enough");
        assert_eq!(sizes(2, 4).unwrap().0, 4, "and none so small");
        let _all = pool.try_take(pool.bytes_left()).unwrap();
        assert!(sizes(8, 12).is_err());
    }

    #[test]
    fn rounding_does_not_refuse_what_the_pool_can_hold() {
        let bytes = 33 * PAGE_SIZE;
        let pool = Pool::of_budget(&Budget::new(bytes), "test", bytes).unwrap();
        assert_eq!(pool.try_take(bytes).unwrap().capacity(), bytes);
        assert!(pool.try_take(bytes + 1).is_err());
    }
}
