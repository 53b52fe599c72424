//! Ids that were given out and have not joined, with the time at which they are forgotten; and what they take.

use std::collections::BTreeMap;

use crate::group::memory::{entry_bytes, text_bytes};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PendingMembers {
    deadline_of: BTreeMap<String, u64>,
    bytes: usize,
}

impl PendingMembers {
    /// What one takes of the heap, in bytes.
    pub(super) fn bytes_of(member_id: &str) -> usize {
        entry_bytes::<String, u64>() + text_bytes(member_id)
    }

    /// What they take of the heap, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, member_id: String, forgotten_at_ms: u64) {
        let bytes = PendingMembers::bytes_of(&member_id);
        if self.deadline_of.insert(member_id, forgotten_at_ms).is_none() {
            self.bytes += bytes;
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, member_id: &str) -> bool {
        let was_there = self.deadline_of.remove(member_id).is_some();
        if was_there {
            self.bytes -= PendingMembers::bytes_of(member_id);
        }
        was_there
    }

    /// Whether some were there whose time had come.
    pub(super) fn forget_due(&mut self, now_ms: u64) -> bool {
        let before = self.deadline_of.len();
        let PendingMembers { deadline_of, bytes } = self;
        deadline_of.retain(|member_id, at_ms| {
            let stays = *at_ms > now_ms;
            if !stays {
                *bytes -= PendingMembers::bytes_of(member_id);
            }
            stays
        });
        self.deadline_of.len() < before
    }

    pub(super) fn contains(&self, member_id: &str) -> bool {
        self.deadline_of.contains_key(member_id)
    }

    pub(super) fn len(&self) -> usize {
        self.deadline_of.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deadline_of.is_empty()
    }

    /// When they are forgotten, in milliseconds of the shard's clock.
    pub(super) fn deadlines_ms(&self) -> impl Iterator<Item = u64> + '_ {
        self.deadline_of.values().copied()
    }

    /// What they take, counted anew.
    #[cfg(test)]
    pub(super) fn recount(&self) -> usize {
        let each = self
            .deadline_of
            .keys()
            .map(|member_id| PendingMembers::bytes_of(member_id));
        each.sum()
    }
}
