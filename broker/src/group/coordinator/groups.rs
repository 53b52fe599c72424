//! The groups of a coordinator: what is durable of them, their state machines, and what all of it takes of the heap.
//!
//! Owns the count of what is kept. A group takes what its machine takes, and of its generation the larger of what is in
//! the log and of what will be when the machine's is written: so what a member will take there is taken when it joins.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::group::machine::Group;
use crate::group::memory::{Charge, GroupMemory, entry_bytes, shared_bytes};
use crate::group::stored::{Change, Stored};

/// See the module.
pub(in crate::group) struct Groups {
    /// What is durable, by group.
    stored: BTreeMap<Rc<str>, Stored>,
    /// Groups that have, or had, members.
    live: BTreeMap<Rc<str>, Box<Group>>,
    kept: Charge,
}

impl Groups {
    /// None yet.
    pub(in crate::group) fn new(memory: &GroupMemory) -> Groups {
        Groups {
            stored: BTreeMap::new(),
            live: BTreeMap::new(),
            kept: Charge::new(memory.kept.clone()),
        }
    }

    /// What is durable, by group.
    pub(super) fn stored(&self) -> &BTreeMap<Rc<str>, Stored> {
        &self.stored
    }

    /// The state machines, by group.
    pub(super) fn live(&self) -> &BTreeMap<Rc<str>, Box<Group>> {
        &self.live
    }

    /// Changes that are durable.
    pub(in crate::group) fn apply(&mut self, group: &str, changes: &[Change]) {
        let before = self.bytes_of(group);
        if !self.stored.contains_key(group) {
            self.stored.insert(Rc::from(group), Stored::default());
        }
        if let Some(stored) = self.stored.get_mut(group) {
            changes.iter().for_each(|change| stored.apply(change));
            if stored.is_nothing() {
                self.stored.remove(group);
            }
        }
        self.kept.change(before, self.bytes_of(group));
    }

    /// A group begins, or begins anew.
    pub(super) fn begin(&mut self, group: &str, machine: Group) {
        let before = self.bytes_of(group);
        self.live.insert(Rc::from(group), Box::new(machine));
        self.kept.change(before, self.bytes_of(group));
    }

    /// Forgets a group's state machine.
    pub(super) fn forget(&mut self, group: &str) {
        let before = self.bytes_of(group);
        self.live.remove(group);
        self.kept.change(before, self.bytes_of(group));
    }

    /// Lets a group's state machine change.
    pub(super) fn with_live<T>(&mut self, group: &str, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let written = self.stored.get(group).map_or(0, Stored::generation_bytes);
        let live = self.live.get_mut(group)?;
        let before = live_bytes(live, written);
        let result = change(live);
        self.kept.change(before, live_bytes(live, written));
        Some(result)
    }

    /// What is left for groups, in bytes.
    pub(super) fn room(&self) -> usize {
        self.kept.room()
    }

    /// What the machine of a group that has none adds, without members, in bytes.
    pub(super) fn growth_of_machine(&self, group: &str) -> usize {
        let entry = if self.stored.contains_key(group) {
            0
        } else {
            entry_bytes_of(group)
        };
        entry + Group::empty_bytes() + alarm_bytes_of(group)
    }

    /// What these changes add at most, in bytes.
    pub(super) fn growth_of(&self, group: &str, changes: &[Change]) -> usize {
        match self.stored.get(group) {
            Some(stored) => stored.growth_of(changes),
            None if self.live.contains_key(group) => Stored::default().growth_of(changes),
            None => entry_bytes_of(group) + Stored::default().growth_of(changes),
        }
    }

    /// Takes what changes will add; it is given back when they are durable, and counted then, or refused.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.kept.change(0, bytes);
    }

    /// Gives back what was reserved.
    pub(super) fn release(&mut self, bytes: usize) {
        self.kept.change(bytes, 0);
    }

    fn bytes_of(&self, group: &str) -> usize {
        let stored = self.stored.get(group);
        bytes(
            group,
            stored,
            self.live
                .get(group)
                .map(|live| (live.bytes(), live.generation_bytes())),
        )
    }

    /// What all of them take, counted anew; and what they are thought to take.
    #[cfg(test)]
    pub(super) fn recount(&self) -> (usize, usize) {
        let names: std::collections::BTreeSet<&Rc<str>> =
            self.stored.keys().chain(self.live.keys()).collect();
        let each = names.into_iter().map(|name| {
            let stored = self.stored.get(name).map(Stored::recounted);
            bytes(
                name,
                stored.as_ref(),
                self.live.get(name).map(|live| live.recount()),
            )
        });
        (each.sum(), self.kept.bytes())
    }
}

/// What a group takes: `live` are its machine's bytes, and those of the generation that it is in.
fn bytes(group: &str, stored: Option<&Stored>, live: Option<(usize, usize)>) -> usize {
    if stored.is_none() && live.is_none() {
        return 0;
    }
    let written = stored.map_or(0, Stored::generation_bytes);
    let machine = live.map_or(written, |(machine, generation)| {
        alarm_bytes_of(group) + machine + generation.max(written)
    });
    entry_bytes_of(group) + machine + stored.map_or(0, Stored::offsets_bytes)
}

/// What a machine takes, and its generation.
fn live_bytes(live: &Group, written: usize) -> usize {
    live.bytes() + live.generation_bytes().max(written)
}

/// The entry of what is durable of a group, which it has or will have, with its name.
fn entry_bytes_of(group: &str) -> usize {
    entry_bytes::<Rc<str>, Stored>() + shared_bytes(group.len()) + Stored::empty_bytes()
}

/// The entry of a machine, and those of its alarm, with its name.
fn alarm_bytes_of(group: &str) -> usize {
    entry_bytes::<Rc<str>, Box<Group>>()
        + entry_bytes::<(u64, Rc<str>), ()>()
        + entry_bytes::<Rc<str>, u64>()
        + 2 * shared_bytes(group.len())
}
