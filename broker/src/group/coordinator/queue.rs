//! What is on its way into the log, in order, and which of it is whose.
//!
//! Owns the order. What is asked of one group must cost what that group has on its way, whatever the others have.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::rc::Rc;

use super::writing::Write;

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    writes: VecDeque<Write>,
    /// The number of the first: they are counted from 0 on.
    first: u64,
    /// Groups, with the numbers of their writes.
    of_groups: BTreeSet<(Rc<str>, u64)>,
}

impl Queue {
    /// Puts one behind all others.
    pub(super) fn push(&mut self, write: Write) {
        let number = self.first + self.writes.len() as u64;
        self.of_groups.insert((write.group.clone(), number));
        self.writes.push_back(write);
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<Write> {
        let write = self.writes.pop_front()?;
        self.of_groups.remove(&(write.group.clone(), self.first));
        self.first += 1;
        Some(write)
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Write> {
        self.writes.front_mut()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Write> {
        self.writes.back_mut()
    }

    /// The last so many that are `such`.
    pub(super) fn last_such(&mut self, is_such: impl Fn(&Write) -> bool) -> impl Iterator<Item = &mut Write> {
        let count = self
            .writes
            .iter()
            .rev()
            .take_while(|write| is_such(write))
            .count();
        let from = self.writes.len() - count;
        self.writes.range_mut(from..)
    }

    /// A group's, in order.
    pub(super) fn of(&self, group: &str) -> impl Iterator<Item = &Write> {
        let group: Rc<str> = Rc::from(group);
        let numbers = self.of_groups.range((group.clone(), 0)..=(group, u64::MAX));
        numbers.filter_map(|(_, number)| self.writes.get((number - self.first) as usize))
    }

    /// The first group by name, from there on.
    pub(super) fn group_from(&self, from: Bound<&Rc<str>>) -> Option<&Rc<str>> {
        let from = match from {
            Included(group) => Included((group.clone(), 0)),
            Excluded(group) => Excluded((group.clone(), u64::MAX)),
            Unbounded => Unbounded,
        };
        let mut groups = self.of_groups.range((from, Unbounded));
        groups.next().map(|(group, _)| group)
    }

    /// All of them, in order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Write> {
        self.writes.iter()
    }

    /// Each group's are those that are its own.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let numbered = self.writes.iter().zip(self.first..);
        let of_groups = numbered.map(|(write, number)| (write.group.clone(), number));
        assert_eq!(
            self.of_groups,
            of_groups.collect(),
            "what each group has on its way"
        );
    }
}
