//! How many idempotent producers a shard's partitions may remember together.
//!
//! Owns the count, and who has to forget when there are too many: a client chooses its producer ids, and may choose many.
//! Those with at least half of the average forget half of theirs, so that one that is flooded takes nothing from those
//! that have few; where many have many, all of these forget. And, as Kafka does, those that have not written for long are
//! forgotten. A producer that was forgotten and writes again is one that was never seen: any sequence is taken from it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use wire::BatchHeader;

use super::{Partition, PartitionLog, State};
use crate::producer_state::PRODUCER_BYTES;

/// The producers of a shard.
pub(crate) struct ProducerBudget {
    max: usize,
    count: Cell<usize>,
    /// Those that are open, in the order in which they were.
    partitions: RefCell<BTreeMap<u64, Weak<Partition>>>,
    opened: Cell<u64>,
}

/// A partition's place in its shard's budget. When it goes, what the partition remembered is given back.
pub(super) struct Share {
    budget: Rc<ProducerBudget>,
    number: u64,
    count: Cell<usize>,
}

impl ProducerBudget {
    /// As many producers as `bytes` hold.
    pub(crate) fn new(bytes: usize) -> Rc<ProducerBudget> {
        Rc::new(ProducerBudget {
            max: bytes / PRODUCER_BYTES,
            count: Cell::new(0),
            partitions: RefCell::default(),
            opened: Cell::new(0),
        })
    }

    /// How many are remembered, and how many may be.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.count.get(), self.max)
    }

    /// A share for a partition that is being made.
    pub(super) fn share(self: &Rc<Self>, partition: &Weak<Partition>) -> Share {
        let number = self.opened.get();
        self.opened.set(number + 1);
        self.partitions.borrow_mut().insert(number, partition.clone());
        Share {
            budget: self.clone(),
            number,
            count: Cell::new(0),
        }
    }

    /// Makes partitions forget until there is room. Those with less than half of the average keep what they have: all of
    /// these together have less than half, so that a walk through the partitions frees at least a quarter.
    fn make_room(&self) {
        while self.count.get() > self.max {
            let partitions = self.partitions.borrow();
            let average = self.count.get() / partitions.len();
            for partition in partitions.values().filter_map(Weak::upgrade) {
                let count = partition.producers.count.get();
                if count > 0 && count * 2 >= average {
                    let mut state = partition.state.borrow_mut();
                    state.producers.forget_half();
                    partition.producers.set(state.producers.len());
                }
            }
        }
    }
}

impl PartitionLog {
    /// Forgets the producers that have not written for so long.
    pub(crate) fn forget_idle_producers(&self, idle: Duration) {
        let mut state = self.partition.state.borrow_mut();
        if state.producers.len() > 0 {
            state.producers.forget_idle(idle, ring::clock::now());
            self.partition.producers.set(state.producers.len());
        }
    }
}

impl Share {
    pub(super) fn set(&self, count: usize) {
        let others = self.budget.count.get() - self.count.replace(count);
        self.budget.count.set(others + count);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.budget.partitions.borrow_mut().remove(&self.number);
    }
}

impl Partition {
    /// Remembers a batch that was appended, with its offsets in `header`. Call [`Partition::bound_producers`] once nothing
    /// is borrowed.
    pub(super) fn remember(&self, state: &mut State, header: &BatchHeader) {
        if header.has_producer_id() {
            state.producers.appended(header, ring::clock::now());
            self.producers.set(state.producers.len());
        }
    }

    /// Makes the shard's partitions forget producers, if there are too many.
    pub(super) fn bound_producers(&self) {
        self.producers.budget.make_room();
    }
}
