//! What a group takes of the heap, and what a request would add to that.

use std::collections::BTreeMap;
use std::mem::size_of;

use super::{Group, JoinRequest, Pending, Replacement};
use crate::group::member::{Member, MemberHeap, Opaque, no_bytes};
use crate::group::memory::{
    block_bytes, entry_bytes, map_bytes, opaque_bytes, optional_text_bytes, text_bytes,
};
use crate::group::stored::Generation;

/// What a group takes that has nothing: itself, and its maps, which keep a node when they have been used.
const EMPTY_BYTES: usize = block_bytes(size_of::<Group>())
    + block_bytes(16)
    + map_bytes::<String, Box<Member>>()
    + map_bytes::<String, u64>()
    + map_bytes::<String, ()>()
    + map_bytes::<String, usize>()
    + 8 * size_of::<Pending>();

impl Group {
    /// What a group without members takes, in bytes.
    pub(crate) const fn empty_bytes() -> usize {
        EMPTY_BYTES + size_of::<Generation>()
    }

    /// What it takes of the heap, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        EMPTY_BYTES
            + self.names_bytes()
            + self.members.live_bytes()
            + self.pending_members.bytes()
            + self.writes_bytes
    }

    /// What its generation takes once it is written, in bytes.
    pub(crate) fn generation_bytes(&self) -> usize {
        size_of::<Generation>() + self.names_bytes() + self.members.generation_bytes()
    }

    fn names_bytes(&self) -> usize {
        // The leader's is counted with the members', twice.
        optional_text_bytes(self.protocol_type.as_ref()) + optional_text_bytes(self.protocol.as_ref())
    }

    /// What a request would add at most: to the group, and to its generation in the log.
    pub(super) fn growth_of(&self, join: &JoinRequest) -> usize {
        let instance_id = join.client.group_instance_id.as_ref();
        let by_instance = || self.static_members.get(instance_id?);
        let member_id = if join.member_id.is_empty() {
            by_instance()
        } else {
            Some(&join.member_id)
        };
        let known = member_id.and_then(|member_id| Some((member_id, self.members.get(member_id)?)));
        let total = |heap: MemberHeap| heap.live() + heap.generation();
        let Some((known_id, known)) = known else {
            let new = MemberHeap::of(&join.new_member_id, &join.client, &join.protocols, &no_bytes());
            // Whoever comes first says what the group's type is; and one of its protocols may be everybody's.
            let names = join
                .protocols
                .iter()
                .map(|protocol| text_bytes(&protocol.name))
                .max();
            return total(new) + 2 * (text_bytes(&join.protocol_type) + names.unwrap_or(0));
        };
        let id = if join.member_id.is_empty() {
            &join.new_member_id
        } else {
            known_id
        };
        let after = MemberHeap::of(id, &known.client, &join.protocols, known.assignment());
        total(after).saturating_sub(total(known.heap(known_id)))
    }

    /// What these assignments would add to those that there are, likewise.
    pub(super) fn growth_of_assignments(&self, assignments: &BTreeMap<String, Opaque>) -> usize {
        let after = assignments.values().map(opaque_bytes).sum::<usize>();
        2 * after.saturating_sub(self.members.assignment_bytes())
    }

    pub(super) fn push_write(&mut self, pending: Pending) {
        self.writes_bytes += pending.bytes();
        self.writes.push_back(pending);
    }

    pub(super) fn pop_write(&mut self) -> Option<Pending> {
        let pending = self.writes.pop_front()?;
        self.writes_bytes -= pending.bytes();
        Some(pending)
    }

    /// What it takes, and its generation, counted anew.
    #[cfg(test)]
    pub(crate) fn recount(&self) -> (usize, usize) {
        let [live, generation, assignments] = self.members.recount();
        assert_eq!(self.members.assignment_bytes(), assignments);
        let writes: usize = self.writes.iter().map(Pending::bytes).sum();
        let machine = EMPTY_BYTES + self.names_bytes() + live + self.pending_members.recount() + writes;
        (machine, size_of::<Generation>() + self.names_bytes() + generation)
    }
}

impl Pending {
    /// What it takes of the heap; of assignments also what they will take when they are the members' and in the log.
    fn bytes(&self) -> usize {
        2 * size_of::<Pending>()
            + match self {
                Pending::Assignment { assignments, .. } => {
                    let each = assignments.iter().map(|(member_id, assignment)| {
                        entry_bytes::<String, Opaque>() + text_bytes(member_id) + 2 * opaque_bytes(assignment)
                    });
                    map_bytes::<String, Opaque>() + each.sum::<usize>()
                }
                Pending::Replacement(replacement) => {
                    let Replacement {
                        old_member_id,
                        old_member,
                        ..
                    } = &**replacement;
                    block_bytes(size_of::<Replacement>())
                        + old_member.heap(old_member_id).live()
                        + 2 * text_bytes(old_member_id)
                }
                Pending::Empty => 0,
            }
    }
}
