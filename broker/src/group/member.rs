//! A member of a classic group: what it can do, what it was given, and what it waits for; and all of a group's. Pure.
//!
//! Owns what members take of the heap: whatever of a member can grow changes through [`Members`] alone, which counts it.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::ops::Deref;
use std::rc::Rc;

use super::memory::{block_bytes, entry_bytes, map_bytes, opaque_bytes, optional_text_bytes, text_bytes};
use super::stored::StoredMember;

/// A request that waits for its answer: a number that the driver gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Waiter(pub(crate) u64);

/// A request of a member that waits: its place among those of its coordinator, and the cell that its answer comes in.
const WAITING_BYTES: usize = entry_bytes::<Waiter, [usize; 2]>() + block_bytes(256);

/// Bytes that only members understand: a subscription or an assignment. Shared, not copied.
pub(crate) type Opaque = Rc<[u8]>;

/// A way to share the work that a member knows, and what it says about itself in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    pub(crate) metadata: Opaque,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    protocols: Vec<Protocol>,
    assignment: Opaque,
    /// It has joined, and was not in a generation yet: it cannot send heartbeats, so its wait is bounded.
    pub(crate) is_new: bool,
    pub(crate) awaiting_join: Option<Waiter>,
    pub(crate) awaiting_sync: Option<Waiter>,
    /// When it is taken for dead, in milliseconds of the shard's clock.
    pub(crate) deadline_ms: Option<u64>,
}

/// Who a member is: it stays as it was when it joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// For a static member (KIP-345): the name that it keeps over restarts.
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
}

impl Member {
    /// One that is in the generation, and waits for nothing. `protocols` are in the order of its preference, no name
    /// twice.
    pub(crate) fn new(
        client: Client,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
        protocols: Vec<Protocol>,
        assignment: Opaque,
    ) -> Member {
        Member {
            client,
            rebalance_timeout_ms,
            session_timeout_ms,
            protocols,
            assignment,
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
            deadline_ms: None,
        }
    }

    /// In the order of its preference, no name twice.
    pub(crate) fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// What the leader gave it.
    pub(crate) fn assignment(&self) -> &Opaque {
        &self.assignment
    }

    /// What it says about itself in that protocol; nothing if it does not know it.
    pub(crate) fn metadata(&self, protocol: &str) -> Opaque {
        let known = self.protocols.iter().find(|known| known.name == protocol);
        known.map_or_else(no_bytes, |known| known.metadata.clone())
    }

    /// The protocol that it likes best, of those that `is_candidate`.
    pub(crate) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        let mut names = self.protocols.iter().map(|protocol| protocol.name.as_str());
        names.find(|name| is_candidate(name))
    }

    /// Whether a request of it is parked.
    pub(crate) fn waits(&self) -> bool {
        self.awaiting_join.is_some() || self.awaiting_sync.is_some()
    }

    /// Whether it is heard of without heartbeats: while its request is parked it cannot send any.
    pub(crate) fn is_heard_of(&self) -> bool {
        !self.is_new && self.waits()
    }

    /// Its session begins again.
    pub(crate) fn touch(&mut self, now_ms: u64) {
        self.deadline_ms = Some(after(now_ms, self.session_timeout_ms));
    }

    /// What it takes of the heap under that id.
    pub(crate) fn heap(&self, member_id: &str) -> MemberHeap {
        MemberHeap::of(member_id, &self.client, &self.protocols, &self.assignment)
    }
}

/// What a member's protocols take of the heap, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProtocolsHeap {
    all: usize,
    /// What a generation can have of them: the metadata of one.
    largest: usize,
}

impl ProtocolsHeap {
    fn of(protocols: &[Protocol]) -> ProtocolsHeap {
        let each = protocols.iter();
        let names_and_metadata = each
            .clone()
            .map(|protocol| text_bytes(&protocol.name) + opaque_bytes(&protocol.metadata));
        ProtocolsHeap {
            all: block_bytes(size_of_val(protocols))
                + names_and_metadata.sum::<usize>()
                + each
                    .clone()
                    .map(|protocol| known_bytes(&protocol.name))
                    .sum::<usize>(),
            largest: each
                .map(|protocol| opaque_bytes(&protocol.metadata))
                .max()
                .unwrap_or(0),
        }
    }
}

/// A protocol in the count of who knows what, as if no other member knew it.
fn known_bytes(name: &str) -> usize {
    entry_bytes::<String, usize>() + text_bytes(name)
}

/// What a member takes of the heap, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemberHeap {
    /// In the state machine, beside its protocols and its assignment.
    live: usize,
    /// In a written generation, likewise.
    generation: usize,
    protocols: ProtocolsHeap,
    assignment: usize,
}

impl MemberHeap {
    /// Of a member of that id.
    pub(crate) fn of(
        member_id: &str,
        client: &Client,
        protocols: &[Protocol],
        assignment: &Opaque,
    ) -> MemberHeap {
        let instance_id = client.group_instance_id.as_ref();
        let names = [member_id, &client.client_id, &client.client_host].map(text_bytes);
        let names = names.into_iter().sum::<usize>() + optional_text_bytes(instance_id);
        // It is in the map of members and in the set of those that have not asked for their assignments, it may lead, and
        // a request of it may wait.
        let mut live = entry_bytes::<String, Box<Member>>() + block_bytes(size_of::<Member>()) + names;
        live += entry_bytes::<String, ()>() + 2 * text_bytes(member_id) + WAITING_BYTES;
        if instance_id.is_some() {
            live += map_bytes::<String, String>() + entry_bytes::<String, String>();
            live += text_bytes(member_id) + optional_text_bytes(instance_id);
        }
        MemberHeap {
            live,
            generation: size_of::<StoredMember>() + names,
            protocols: ProtocolsHeap::of(protocols),
            assignment: opaque_bytes(assignment),
        }
    }

    /// In the state machine.
    pub(crate) fn live(&self) -> usize {
        self.live + self.protocols.all + self.assignment
    }

    /// In a written generation, at most.
    pub(crate) fn generation(&self) -> usize {
        self.generation + self.protocols.largest + self.assignment
    }
}

/// The members of a group by id, and what they take of the heap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    by_id: BTreeMap<String, Box<Member>>,
    /// How many of them know each protocol: whoever wants to join must not make us look through all that all know.
    knowing: BTreeMap<String, usize>,
    live_bytes: usize,
    generation_bytes: usize,
    assignment_bytes: usize,
}

impl Members {
    /// All of them, to change what they wait for.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Member)> {
        self.by_id
            .iter_mut()
            .map(|(member_id, member)| (member_id, &mut **member))
    }

    /// One of them, to change what it waits for.
    pub(crate) fn get_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(member_id).map(|member| &mut **member)
    }

    /// Adds one; there is none of that id.
    pub(crate) fn insert(&mut self, member_id: String, member: Member) {
        self.count(&member.heap(&member_id), true);
        self.learn(member.protocols());
        let before = self.by_id.insert(member_id, Box::new(member));
        debug_assert!(before.is_none(), "an id is given once");
    }

    /// Removes one.
    pub(crate) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.by_id.remove(member_id)?;
        self.count(&member.heap(member_id), false);
        self.unlearn(member.protocols());
        Some(*member)
    }

    /// What a member now says about itself.
    pub(crate) fn set_protocols(&mut self, member_id: &str, protocols: Vec<Protocol>) {
        let Some((member_id, mut member)) = self.by_id.remove_entry(member_id) else {
            return;
        };
        self.count(&member.heap(&member_id), false);
        self.unlearn(&member.protocols);
        member.protocols = protocols;
        self.learn(&member.protocols);
        self.count(&member.heap(&member_id), true);
        self.by_id.insert(member_id, member);
    }

    /// Whether all of them know that protocol.
    pub(crate) fn all_know(&self, protocol: &str) -> bool {
        self.knowing.get(protocol) == Some(&self.by_id.len())
    }

    fn learn(&mut self, protocols: &[Protocol]) {
        for Protocol { name, .. } in protocols {
            match self.knowing.get_mut(name) {
                Some(count) => *count += 1,
                None => {
                    self.knowing.insert(name.clone(), 1);
                }
            }
        }
    }

    fn unlearn(&mut self, protocols: &[Protocol]) {
        for Protocol { name, .. } in protocols {
            if let Some(count) = self.knowing.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.knowing.remove(name);
                }
            }
        }
    }

    /// What everybody has now.
    pub(crate) fn assign(&mut self, assignment_of: impl Fn(&str) -> Opaque) {
        for (member_id, member) in &mut self.by_id {
            let before = opaque_bytes(&member.assignment);
            member.assignment = assignment_of(member_id);
            let after = opaque_bytes(&member.assignment);
            for bytes in [
                &mut self.live_bytes,
                &mut self.generation_bytes,
                &mut self.assignment_bytes,
            ] {
                *bytes = *bytes - before + after;
            }
        }
    }

    /// What they take in the state machine, in bytes.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// What they would take in a generation that is written, in bytes.
    pub(crate) fn generation_bytes(&self) -> usize {
        self.generation_bytes
    }

    /// What their assignments take of either, in bytes.
    pub(crate) fn assignment_bytes(&self) -> usize {
        self.assignment_bytes
    }

    fn count(&mut self, heap: &MemberHeap, comes: bool) {
        for (total, bytes) in [
            (&mut self.live_bytes, heap.live()),
            (&mut self.generation_bytes, heap.generation()),
            (&mut self.assignment_bytes, heap.assignment),
        ] {
            *total = if comes { *total + bytes } else { *total - bytes };
        }
    }

    /// What they take, counted anew: in the state machine, in a generation, and of their assignments.
    #[cfg(test)]
    pub(crate) fn recount(&self) -> [usize; 3] {
        let mut knowing = BTreeMap::new();
        for protocol in self.by_id.values().flat_map(|member| member.protocols()) {
            *knowing.entry(protocol.name.clone()).or_default() += 1;
        }
        assert_eq!(self.knowing, knowing, "who knows what, counted anew");
        let heaps = self
            .by_id
            .iter()
            .map(|(member_id, member)| member.heap(member_id));
        heaps.fold([0; 3], |[live, generation, assignments], heap| {
            [
                live + heap.live(),
                generation + heap.generation(),
                assignments + heap.assignment,
            ]
        })
    }
}

impl Deref for Members {
    type Target = BTreeMap<String, Box<Member>>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

/// So many milliseconds later; a negative timeout is none.
pub(crate) fn after(now_ms: u64, timeout_ms: i32) -> u64 {
    now_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0))
}

pub(crate) fn no_bytes() -> Opaque {
    Rc::from([])
}
