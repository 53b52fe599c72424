//! Blocks that belonged to somebody before: what a new extent shows when its data was never flushed.
//!
//! Real disks do not hand out zeroes. They hand out what was freed: old, valid batches and journal records. The pool
//! keeps runs in the order of their freeing, so that a stale read can give a whole old record.

use super::chance::Chance;
use super::page::Content;

/// Pages kept: 4 MiB a disk, enough for several whole records of the largest size that tests use.
const PAGES_MAX: usize = 1024;
/// One in so many pages jumps to another run.
const JUMP: u64 = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stale {
    pages: Vec<Content>,
    next_in: usize,
    next_out: usize,
}

impl Stale {
    /// Keeps a block that was freed or overwritten. Zeroes are not worth keeping.
    pub(super) fn keep(&mut self, content: Content) {
        if matches!(content, Content::Zeroes) {
            return;
        }
        if self.pages.len() < PAGES_MAX {
            self.pages.push(content);
        } else {
            self.pages[self.next_in] = content;
        }
        self.next_in = (self.next_in + 1) % PAGES_MAX;
    }

    /// A block for somebody new; mostly the one after the last that was given. `None` if nothing was ever freed.
    pub(super) fn give(&mut self, chance: &mut Chance) -> Option<Content> {
        if self.pages.is_empty() {
            return None;
        }
        if self.next_out >= self.pages.len() || chance.below(JUMP) == 0 {
            self.next_out = chance.index(self.pages.len());
        }
        let content = self.pages[self.next_out].clone();
        self.next_out += 1;
        Some(content)
    }
}
