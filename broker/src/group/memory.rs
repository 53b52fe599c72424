//! What groups take of a shard's heap: how it is estimated, and the budget that it is held against. Pure.
//!
//! Owns the estimate of each structure that clients can make grow, and the three accounts of a shard: what is *kept*
//! (members, generations, offsets, and what accepted requests will add), what is *moving* (on its way into the log),
//! and what is *waiting* (long names in requests that are not answered). They are apart because what is full refuses
//! what would be added to it: clients say how long a request waits, and must not stop what moves by that.
//!
//! The estimates are upper bounds: an allocation has its allocator's header and rounding, a map has the emptiest nodes
//! that it may have. Bytes that two holders share are counted for each. They add up, so that a change is charged by what
//! it changes, and nothing is walked.

use std::cell::Cell;
use std::mem::size_of;
use std::rc::Rc;

use super::member::Opaque;

/// Of a share, what may be kept; half of the rest is for what moves, and half for what waits.
const KEPT_QUARTERS: usize = 3;

/// The accounts of a shard, for all coordinators that it has.
#[derive(Debug, Clone)]
pub(crate) struct GroupMemory {
    pub(crate) kept: Rc<Account>,
    pub(crate) moving: Rc<Account>,
    pub(crate) waiting: Rc<Account>,
}

impl GroupMemory {
    /// Nothing is taken yet, of so many bytes.
    pub(crate) fn new(bytes: usize) -> GroupMemory {
        let kept = bytes / 4 * KEPT_QUARTERS;
        let moving = (bytes - kept) / 2;
        GroupMemory {
            kept: Account::new(kept),
            moving: Account::new(moving),
            waiting: Account::new(bytes - kept - moving),
        }
    }
}

/// Bytes that are taken, and how many may be.
#[derive(Debug)]
pub(crate) struct Account {
    budget: usize,
    taken: Cell<usize>,
}

impl Account {
    fn new(budget: usize) -> Rc<Account> {
        Rc::new(Account {
            budget,
            taken: Cell::new(0),
        })
    }

    /// What is left, in bytes. What was accepted before may have taken more than there is: a log is read back whatever
    /// it holds.
    pub(crate) fn room(&self) -> usize {
        self.budget.saturating_sub(self.taken.get())
    }

    /// How many may be taken.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// What is taken, in bytes.
    pub(crate) fn taken(&self) -> usize {
        self.taken.get()
    }
}

/// What one holder has taken of an account; its end gives it back.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Rc<Account>,
    bytes: usize,
}

impl Charge {
    /// Nothing yet.
    pub(crate) fn new(account: Rc<Account>) -> Charge {
        Charge { account, bytes: 0 }
    }

    /// Something that took `before` bytes takes `after` now.
    pub(crate) fn change(&mut self, before: usize, after: usize) {
        debug_assert!(before <= self.bytes, "more is given back than was taken");
        let others = self.account.taken.get().saturating_sub(self.bytes);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
        self.account.taken.set(others.saturating_add(self.bytes));
    }

    /// What is left for all holders, in bytes.
    pub(crate) fn room(&self) -> usize {
        self.account.room()
    }

    /// What this one has taken, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.change(self.bytes, 0);
    }
}

/// An allocation: a word before it, in steps of two.
pub(crate) const fn block_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => (bytes + 8).next_multiple_of(16),
    }
}

/// A string of its own.
pub(crate) fn text_bytes(text: &str) -> usize {
    block_bytes(text.len())
}

/// A string of its own, if there is one.
pub(crate) fn optional_text_bytes(text: Option<&String>) -> usize {
    text.map_or(0, |text| text_bytes(text))
}

/// Bytes behind an `Rc`, beside its two counts.
pub(crate) const fn shared_bytes(bytes: usize) -> usize {
    block_bytes(bytes + 2 * size_of::<usize>())
}

/// Bytes that only members understand.
pub(crate) fn opaque_bytes(opaque: &Opaque) -> usize {
    shared_bytes(opaque.len())
}

/// Entries of a node of the standard library's B-tree: at most, and at least in all nodes but the root.
const NODE_ENTRIES: (usize, usize) = (11, 5);

const fn leaf_bytes<K, V>() -> usize {
    // Its parent, its place there and its length are two words.
    block_bytes(NODE_ENTRIES.0 * (size_of::<K>() + size_of::<V>()) + 2 * size_of::<usize>())
}

const fn inner_node_bytes<K, V>() -> usize {
    block_bytes(leaf_bytes::<K, V>() + (NODE_ENTRIES.0 + 1) * size_of::<usize>())
}

/// A B-tree map that has, or had, entries; without what they take.
pub(crate) const fn map_bytes<K, V>() -> usize {
    inner_node_bytes::<K, V>()
}

/// An entry of a B-tree map: its part of a leaf, and of the nodes above it.
pub(crate) const fn entry_bytes<K, V>() -> usize {
    let (_, least) = NODE_ENTRIES;
    leaf_bytes::<K, V>().div_ceil(least) + inner_node_bytes::<K, V>().div_ceil(least * least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let memory = GroupMemory::new(1_000);
        let mut one = Charge::new(memory.kept.clone());
        let mut other = Charge::new(memory.kept.clone());
        one.change(0, 300);
        other.change(0, 500);
        other.change(500, 440);
        assert_eq!(
            (one.room(), memory.moving.room(), memory.waiting.room()),
            (10, 125, 125)
        );
        other.change(40, 100);
        assert_eq!(one.room(), 0);
        drop(other);
        assert_eq!((one.bytes(), one.room()), (300, 450));
        drop(one);
        assert_eq!(memory.kept.taken(), 0);
    }

    #[test]
    fn a_map_takes_no_more_than_is_thought() {
        // By the nodes that so many entries need at most: the leaves, and a level above for each that is too wide.
        for entries in 1..3_000 {
            let mut level = if entries <= 11 { 1 } else { entries / 5 };
            let mut bytes = level * leaf_bytes::<String, u64>();
            while level > 1 {
                level = if level <= 12 { 1 } else { level / 6 };
                bytes += level * inner_node_bytes::<String, u64>();
            }
            let thought = map_bytes::<String, u64>() + entries * entry_bytes::<String, u64>();
            assert!(bytes <= thought, "{entries} entries: {bytes}, not {thought}");
            assert!(thought <= 5 * bytes, "{entries} entries: {bytes}, not {thought}");
        }
    }
}
