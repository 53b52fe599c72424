//! A member of a classic group: what it can do, what it was given, and what it waits for. Pure.

use std::rc::Rc;

/// A request that waits for its answer: a number that the driver gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Waiter(pub(crate) u64);

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
    /// For a static member (KIP-345): the name that it keeps over restarts.
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the order of its preference, no name twice.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Opaque,
    /// It has joined, and was not in a generation yet: it cannot send heartbeats, so its wait is bounded.
    pub(crate) is_new: bool,
    pub(crate) awaiting_join: Option<Waiter>,
    pub(crate) awaiting_sync: Option<Waiter>,
    /// When it is taken for dead, in milliseconds of the shard's clock.
    pub(crate) deadline_ms: Option<u64>,
}

impl Member {
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

    /// Whether it is heard of without heartbeats: while its request is parked it cannot send any.
    pub(crate) fn is_heard_of(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// Its session begins again.
    pub(crate) fn touch(&mut self, now_ms: u64) {
        self.deadline_ms = Some(after(now_ms, self.session_timeout_ms));
    }
}

/// So many milliseconds later; a negative timeout is none.
pub(crate) fn after(now_ms: u64, timeout_ms: i32) -> u64 {
    now_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0))
}

pub(crate) fn no_bytes() -> Opaque {
    Rc::from([])
}
