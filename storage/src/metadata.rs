//! What the cluster's metadata says, as far as the logs of a host have to know it.

use std::collections::BTreeSet;

/// How partitions are divided among shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How many shards there are.
    pub shards: u32,
    /// Goes up whenever partitions go to other shards: journals of another number may have other shards' partitions, however
    /// many there are.
    pub number: u64,
}

impl From<u32> for Layout {
    /// The first layout, of so many shards.
    fn from(shards: u32) -> Layout {
        Layout { shards, number: 0 }
    }
}

/// The topics that there are, and were: what becomes of a partition that a journal has and nobody asks for.
#[derive(Debug, Clone, Copy)]
pub struct KnownTopics<'a> {
    /// That are there. A partition of one of them is somewhere else by the metadata: it is refused, never taken for nobody's.
    pub live: &'a BTreeSet<u128>,
    /// That were deleted, and may be in journals still: their partitions are dropped.
    pub deleted: &'a BTreeSet<u128>,
}

static NONE: BTreeSet<u128> = BTreeSet::new();

impl<'a> From<&'a BTreeSet<u128>> for KnownTopics<'a> {
    /// These were deleted, and no partition is elsewhere.
    fn from(deleted: &'a BTreeSet<u128>) -> KnownTopics<'a> {
        KnownTopics { live: &NONE, deleted }
    }
}
