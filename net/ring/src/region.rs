//! Memory that a thread takes from the system all at once, before it serves. What is new to a process costs a page fault where
//! it is first written to: with huge pages 2 MiB are cleared then, on a virtual machine that may take tens of milliseconds, and
//! the thread that everybody waits for does it.
//!
//! Owns which of its pages are free. Must never give pages away that somebody has.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use crate::buffer::PAGE_SIZE;

/// So that the system may use huge pages, where it does.
const ALIGNMENT: usize = 2 << 20;

/// See the module.
pub(crate) struct Region {
    /// What the system gave, and in it the first of the pages.
    given: NonNull<u8>,
    layout: Layout,
    start: NonNull<u8>,
    pages: usize,
    /// Pages that are free: where they begin, and how many follow each other.
    free: RefCell<BTreeMap<usize, usize>>,
}

impl Region {
    /// So many bytes, in whole pages, that the process may not have yet: [`Region::touch`] sees to that. `None` if the system
    /// does not give as much.
    pub(crate) fn new(bytes: usize) -> Option<Region> {
        let pages = bytes / PAGE_SIZE;
        // Not as the layout's own alignment: an allocator may write to all of it then.
        let layout = Layout::from_size_align((pages * PAGE_SIZE).checked_add(ALIGNMENT)?, 1).ok()?;
        // SAFETY: the layout is not empty.
        let given = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let before = given.addr().get().next_multiple_of(ALIGNMENT) - given.addr().get();
        Some(Region {
            given,
            layout,
            // SAFETY: less than the alignment, by which there is more than the pages take.
            start: unsafe { given.add(before) },
            pages,
            free: RefCell::new(BTreeMap::from([(0, pages)])),
        })
    }

    /// Has the system give what nobody has taken yet, by writing to each of its pages.
    pub(crate) fn touch(&self) {
        for (first, pages) in &*self.free.borrow() {
            for page in *first..first + pages {
                // SAFETY: within the region, and nobody else has a page that is free. Volatile: or it would be left out, as the
                // byte is 0 already.
                unsafe { self.start.add(page * PAGE_SIZE).write_volatile(0) };
            }
        }
    }

    /// So many pages that follow each other; `None` if no free ones do. They are the taker's until it gives them back.
    pub(crate) fn take(&self, pages: usize) -> Option<NonNull<u8>> {
        assert!(pages > 0, "nobody takes nothing");
        let mut free = self.free.borrow_mut();
        let (first, count) = free.iter().find(|(_, count)| **count >= pages)?;
        let (first, count) = (*first, *count);
        free.remove(&first);
        if count > pages {
            free.insert(first + pages, count - pages);
        }
        // SAFETY: within the region.
        Some(unsafe { self.start.add(first * PAGE_SIZE) })
    }

    /// Takes back what was taken, with the same number of pages.
    ///
    /// # Panics
    /// If one of them is free, or they are no pages of the region.
    pub(crate) fn give_back(&self, start: NonNull<u8>, pages: usize) {
        let at = start.addr().get().checked_sub(self.start.addr().get());
        let mut first = at.expect("pages below the region") / PAGE_SIZE;
        let end = first + pages;
        assert!(end <= self.pages, "pages behind the region");
        let mut free = self.free.borrow_mut();
        let before = free
            .range(..end)
            .next_back()
            .map(|(first, count)| (*first, *count));
        let after = free.get(&end).copied();
        let mut count = pages + after.unwrap_or(0);
        if after.is_some() {
            free.remove(&end);
        }
        if let Some((before, its)) = before {
            assert!(before + its <= first, "pages that are free come back");
            if before + its == first {
                (first, count) = (before, count + its);
            }
        }
        free.insert(first, count);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; who has pages of it has the region too.
        unsafe { dealloc(self.given.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_one_piece_again() {
        let region = Region::new(10 * PAGE_SIZE + 1).unwrap();
        region.touch();
        assert!(region.take(11).is_none());
        let all: Vec<_> = [3, 3, 4].map(|pages| (region.take(pages).unwrap(), pages)).into();
        assert!(region.take(1).is_none());
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            order
                .iter()
                .for_each(|at| region.give_back(all[*at].0, all[*at].1));
            assert_eq!(*region.free.borrow(), BTreeMap::from([(0, 10)]), "{order:?}");
            let again = [3, 3, 4].map(|pages| region.take(pages).unwrap());
            assert!(again.iter().zip(&all).all(|(again, (before, _))| again == before));
        }
    }

    /// How many of its pages the process has.
    #[cfg(not(miri))]
    fn resident(region: &Region) -> usize {
        let mut pages = vec![0_u8; region.pages];
        let start = region.start.as_ptr().cast();
        // SAFETY: mincore(2) looks at the region's pages, and writes a byte for each.
        let looked = unsafe { libc::mincore(start, region.pages * PAGE_SIZE, pages.as_mut_ptr()) };
        assert_eq!(looked, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    #[cfg(not(miri))]
    fn what_is_touched_is_there_and_what_somebody_has_is_left_alone() {
        let region = Region::new(4096 * PAGE_SIZE).unwrap();
        assert!(resident(&region) < 4096, "the system has given all of it already");
        let taken = region.take(1).unwrap();
        // SAFETY: this page was taken.
        unsafe { taken.write(7) };
        region.touch();
        assert_eq!(resident(&region), 4096);
        // SAFETY: as above.
        assert_eq!(unsafe { taken.read() }, 7);
        region.give_back(taken, 1);
    }

    #[test]
    fn less_than_a_page_is_nothing_and_too_much_is_refused() {
        assert!(Region::new(PAGE_SIZE - 1).unwrap().take(1).is_none());
        assert!(Region::new(usize::MAX).is_none());
    }

    #[test]
    #[should_panic(expected = "pages that are free come back")]
    fn what_is_free_is_not_given_back() {
        let region = Region::new(4 * PAGE_SIZE).unwrap();
        let taken = region.take(2).unwrap();
        region.give_back(taken, 2);
        region.give_back(taken, 1);
    }

    #[test]
    fn nobody_has_what_another_has() {
        const PAGES: usize = 24;
        let mut random = 1_u64;
        let mut below = |end: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % end
        };
        let region = Region::new(PAGES * PAGE_SIZE).unwrap();
        let mut taken: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
        for step in 0..2_000 {
            let pages = 1 + below(8);
            if below(2) == 0 && !taken.is_empty() {
                let (start, pages, mark) = taken.swap_remove(below(taken.len()));
                for page in 0..pages {
                    // SAFETY: these pages were taken and not given back.
                    assert_eq!(unsafe { start.add(page * PAGE_SIZE).read() }, mark, "{step}");
                }
                region.give_back(start, pages);
            } else if let Some(start) = region.take(pages) {
                let mark = step as u8;
                for page in 0..pages {
                    // SAFETY: as above.
                    unsafe { start.add(page * PAGE_SIZE).write(mark) };
                }
                taken.push((start, pages, mark));
            }
            let in_use: usize = taken.iter().map(|(_, pages, _)| pages).sum();
            assert_eq!(
                region.free.borrow().values().sum::<usize>(),
                PAGES - in_use,
                "{step}"
            );
        }
    }
}
