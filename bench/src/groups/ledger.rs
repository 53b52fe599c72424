//! What the members of a group know together: who has which partitions in which generation, and what was committed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use hdrhistogram::Histogram;

use crate::recorder::Sample;

/// Failures that are told; more are not.
const FAILURES_MAX: usize = 20;

/// See the module.
pub(super) struct Ledger {
    partitions: i32,
    connecting: Cell<usize>,
    is_measuring: Cell<bool>,
    is_over: Cell<bool>,
    inner: RefCell<Inner>,
}

struct Inner {
    generation: i32,
    leader: Option<u32>,
    /// Of the newest generation, by member.
    assigned: BTreeMap<u32, Vec<i32>>,
    /// By partition: the newest offset that was acknowledged.
    acknowledged: BTreeMap<i32, i64>,
    next_offset: i64,
    ended: Ended,
}

/// What a group has seen when it ends.
pub(super) struct Ended {
    pub(super) commits: u64,
    pub(super) commit_ns: Histogram<u64>,
    pub(super) failures: Vec<String>,
}

/// A histogram of latencies in nanoseconds.
pub(super) fn latencies() -> Histogram<u64> {
    Sample::default().latency_ns
}

impl Ledger {
    pub(super) fn new(partitions: i32) -> Rc<Ledger> {
        Rc::new(Ledger {
            partitions,
            connecting: Cell::new(0),
            is_measuring: Cell::new(false),
            is_over: Cell::new(false),
            inner: RefCell::new(Inner {
                generation: -1,
                leader: None,
                assigned: BTreeMap::new(),
                acknowledged: BTreeMap::new(),
                next_offset: 0,
                ended: Ended {
                    commits: 0,
                    commit_ns: latencies(),
                    failures: Vec::new(),
                },
            }),
        })
    }

    pub(super) fn connecting(&self) -> usize {
        self.connecting.get()
    }

    pub(super) fn connects(&self) {
        self.connecting.set(self.connecting.get() + 1);
    }

    pub(super) fn connected(&self) {
        self.connecting.set(self.connecting.get() - 1);
    }

    pub(super) fn begin_measuring(&self) {
        self.is_measuring.set(true);
    }

    pub(super) fn end(&self) {
        self.is_over.set(true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    pub(super) fn generation(&self) -> i32 {
        self.inner.borrow().generation
    }

    pub(super) fn leader(&self) -> Option<u32> {
        self.inner.borrow().leader
    }

    /// A member leads that generation.
    pub(super) fn leads(&self, member: u32, generation: i32) {
        let mut inner = self.inner.borrow_mut();
        inner.enter(generation);
        inner.leader = Some(member);
    }

    /// A member has these partitions in that generation.
    pub(super) fn assigned(&self, member: u32, generation: i32, partitions: Vec<i32>) {
        let mut inner = self.inner.borrow_mut();
        inner.enter(generation);
        if generation == inner.generation {
            inner.assigned.insert(member, partitions);
        }
    }

    /// Nothing more is heard of a member.
    pub(super) fn died(&self, member: u32) {
        let mut inner = self.inner.borrow_mut();
        inner.assigned.remove(&member);
        if inner.leader == Some(member) {
            inner.leader = None;
        }
    }

    /// The newest generation, if it is newer than that and so many members have their partitions in it. That each partition
    /// is one member's is checked then.
    pub(super) fn settled(&self, members: usize, after: i32) -> Option<i32> {
        let mut inner = self.inner.borrow_mut();
        if inner.generation <= after || inner.assigned.len() != members {
            return None;
        }
        let mut given: Vec<i32> = inner.assigned.values().flatten().copied().collect();
        given.sort_unstable();
        if !given.iter().copied().eq(0..self.partitions) {
            let generation = inner.generation;
            let what =
                format!("generation {generation}: partitions are nobody's or several members': {given:?}");
            inner.fail(what);
            return None;
        }
        Some(inner.generation)
    }

    /// The offset of the next commit: each is larger than those before it.
    pub(super) fn next_offset(&self) -> i64 {
        let mut inner = self.inner.borrow_mut();
        inner.next_offset += 1;
        inner.next_offset
    }

    /// A commit was acknowledged.
    pub(super) fn committed(&self, partitions: &[i32], offset: i64, latency_ns: u64) {
        let mut inner = self.inner.borrow_mut();
        for partition in partitions {
            inner.acknowledged.insert(*partition, offset);
        }
        if self.is_measuring.get() {
            inner.ended.commits += 1;
            inner.ended.commit_ns.saturating_record(latency_ns);
        }
    }

    /// The offset of a partition that the group finds.
    pub(super) fn found(&self, group: &str, partition: i32, offset: i64) {
        let mut inner = self.inner.borrow_mut();
        let acknowledged = inner.acknowledged.get(&partition).copied().unwrap_or(-1);
        if offset < acknowledged {
            inner.fail(format!(
                "{group}, partition {partition}: {offset} is committed, {acknowledged} was acknowledged"
            ));
        }
    }

    pub(super) fn fail(&self, what: String) {
        self.inner.borrow_mut().fail(what);
    }

    pub(super) fn first_failure(&self) -> Option<String> {
        self.inner.borrow().ended.failures.first().cloned()
    }

    pub(super) fn take(&self) -> Ended {
        let mut inner = self.inner.borrow_mut();
        let nothing = Ended {
            commits: 0,
            commit_ns: latencies(),
            failures: Vec::new(),
        };
        std::mem::replace(&mut inner.ended, nothing)
    }
}

impl Inner {
    fn enter(&mut self, generation: i32) {
        if generation > self.generation {
            self.generation = generation;
            self.assigned.clear();
            self.leader = None;
        }
    }

    fn fail(&mut self, what: String) {
        if self.ended.failures.len() < FAILURES_MAX {
            self.ended.failures.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_settled_when_each_partition_is_one_members() {
        let ledger = Ledger::new(3);
        ledger.assigned(0, 1, vec![0, 2]);
        assert_eq!(ledger.settled(2, -1), None, "one has not asked yet");
        ledger.assigned(1, 1, vec![1]);
        assert_eq!(ledger.settled(2, -1), Some(1));
        assert_eq!(ledger.settled(2, 1), None, "no newer one");
        ledger.assigned(1, 2, vec![0, 1]);
        assert_eq!(ledger.settled(1, 1), None, "a partition is nobody's");
        assert!(ledger.first_failure().is_some());
    }

    #[test]
    fn a_commit_that_is_lost_is_a_failure() {
        let ledger = Ledger::new(1);
        ledger.committed(&[0], 7, 1);
        ledger.found("g", 0, 7);
        assert_eq!(ledger.first_failure(), None);
        ledger.found("g", 0, 6);
        assert!(ledger.take().failures[0].contains("7 was acknowledged"));
    }
}
