//! What the log of `__consumer_offsets` says of a group: its last written generation and its committed offsets. Pure.
//!
//! The log is a list of [`Change`]s. Applied in order they give [`Stored`]; what is not applied yet is not durable, and
//! nobody is told of it.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::rc::Rc;

use wire::group_record::{
    GroupMemberValue, GroupMetadataKey, GroupMetadataValue, GroupRecord, OffsetCommitKey, OffsetCommitValue,
};
use wire::{Array, NewRecord};

use crate::group::member::Opaque;
use crate::group::memory::{
    block_bytes, entry_bytes, map_bytes, opaque_bytes, optional_text_bytes, shared_bytes, text_bytes,
};

/// What a record has beside its names and what only members understand, at most; a member in one likewise.
const RECORD_BYTES: usize = 128;

/// A generation of a group, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) protocol_type: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    /// When the group took this state, in milliseconds since 1970; -1: not known.
    pub(crate) since_wall_ms: i64,
    pub(crate) members: Vec<StoredMember>,
}

/// A member of a generation, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredMember {
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Opaque,
    pub(crate) assignment: Opaque,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// Of the last record that was consumed; -1: not known.
    pub(crate) leader_epoch: i32,
    /// Whatever the client wanted to keep.
    pub(crate) metadata: Rc<str>,
    /// When it was committed, in milliseconds since 1970.
    pub(crate) commit_timestamp_ms: i64,
    /// When it expires, if the client said so; -1: as the broker is set.
    pub(crate) expire_timestamp_ms: i64,
}

impl Committed {
    /// What it takes of the heap among others.
    fn bytes(&self) -> usize {
        entry_bytes::<i32, Committed>() + shared_bytes(self.metadata.len())
    }
}

/// What a topic takes of the heap, beside its offsets.
fn topic_bytes(topic: &str) -> usize {
    entry_bytes::<Rc<str>, Offsets>() + shared_bytes(topic.len()) + map_bytes::<i32, Committed>()
}

impl Generation {
    /// What it takes of the heap, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let names = [
            Some(&self.protocol_type),
            self.protocol.as_ref(),
            self.leader.as_ref(),
        ];
        let members = self.members.iter().map(|member| {
            let names = [&member.member_id, &member.client_id, &member.client_host];
            names.map(|name| text_bytes(name)).iter().sum::<usize>()
                + optional_text_bytes(member.group_instance_id.as_ref())
                + opaque_bytes(&member.subscription)
                + opaque_bytes(&member.assignment)
        });
        size_of::<Generation>()
            + names.map(optional_text_bytes).iter().sum::<usize>()
            + block_bytes(size_of_val(&*self.members))
            + members.sum::<usize>()
    }

    /// What its record takes in a batch at most, beside the group's name, in bytes.
    fn record_bytes(&self) -> usize {
        let names = [
            Some(&self.protocol_type),
            self.protocol.as_ref(),
            self.leader.as_ref(),
        ];
        let members = self.members.iter().map(|member| {
            let names = [&member.member_id, &member.client_id, &member.client_host];
            let instance_id = member.group_instance_id.as_ref().map_or(0, String::len);
            names.iter().map(|name| name.len()).sum::<usize>()
                + instance_id
                + member.subscription.len()
                + member.assignment.len()
                + RECORD_BYTES
        });
        names.into_iter().flatten().map(String::len).sum::<usize>() + members.sum::<usize>()
    }
}

/// One record of a group's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The offset of a partition is this, or there is none any more.
    Offset {
        topic: Rc<str>,
        partition: i32,
        committed: Option<Committed>,
    },
    /// The group is in this generation, or it is gone.
    Generation(Option<Generation>),
}

/// The offsets of a topic, by partition.
pub(crate) type Offsets = BTreeMap<i32, Committed>;

/// What is known of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) generation: Option<Generation>,
    /// What it takes of the heap.
    generation_bytes: usize,
    /// By topic. No topic is without offsets.
    pub(crate) offsets: BTreeMap<Rc<str>, Offsets>,
    /// What they take of the heap.
    offsets_bytes: usize,
}

impl Stored {
    /// Takes a change that is durable.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Generation(generation) => {
                self.generation.clone_from(generation);
                self.generation_bytes = generation.as_ref().map_or(0, Generation::bytes);
            }
            Change::Offset {
                topic,
                partition,
                committed: Some(committed),
            } => {
                let is_first = !self.offsets.contains_key(topic);
                let offsets = self.offsets.entry(topic.clone()).or_default();
                let before = offsets.insert(*partition, committed.clone());
                self.offsets_bytes += committed.bytes() + if is_first { topic_bytes(topic) } else { 0 };
                self.offsets_bytes -= before.map_or(0, |before| before.bytes());
            }
            Change::Offset {
                topic,
                partition,
                committed: None,
            } => {
                if let Some(offsets) = self.offsets.get_mut(topic) {
                    let before = offsets.remove(partition);
                    self.offsets_bytes -= before.map_or(0, |before| before.bytes());
                    if offsets.is_empty() {
                        self.offsets.remove(topic);
                        self.offsets_bytes -= topic_bytes(topic);
                    }
                }
            }
        }
    }

    /// What it takes of the heap beside its generation and its offsets: its map keeps a node.
    pub(crate) const fn empty_bytes() -> usize {
        map_bytes::<Rc<str>, Offsets>()
    }

    /// What its generation takes, in bytes.
    pub(crate) fn generation_bytes(&self) -> usize {
        self.generation_bytes
    }

    /// What its offsets take, in bytes.
    pub(crate) fn offsets_bytes(&self) -> usize {
        self.offsets_bytes
    }

    /// What a commit adds to that at most, in bytes.
    pub(crate) fn growth_of(&self, changes: &[Change]) -> usize {
        let mut growth = 0;
        let mut new_topic: Option<&Rc<str>> = None;
        for change in changes {
            let Change::Offset {
                topic,
                partition,
                committed: Some(committed),
            } = change
            else {
                continue;
            };
            let before = self.committed(topic, *partition);
            growth += committed
                .bytes()
                .saturating_sub(before.map_or(0, Committed::bytes));
            if new_topic != Some(topic) && !self.offsets.contains_key(topic) {
                growth += topic_bytes(topic);
                new_topic = Some(topic);
            }
        }
        growth
    }

    /// The same, counted anew.
    #[cfg(test)]
    pub(crate) fn recounted(&self) -> Stored {
        let mut all = Stored::default();
        self.changes().for_each(|change| all.apply(&change));
        all
    }

    /// Whether nothing is known of it.
    pub(crate) fn is_nothing(&self) -> bool {
        self.generation.is_none() && self.offsets.is_empty()
    }

    /// The offset of a partition.
    pub(crate) fn committed(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// The changes that make this of nothing.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let generation = self.generation.iter().cloned();
        let offsets = self.offsets.iter().flat_map(|(topic, offsets)| {
            offsets.iter().map(|(partition, committed)| Change::Offset {
                topic: topic.clone(),
                partition: *partition,
                committed: Some(committed.clone()),
            })
        });
        generation
            .map(|generation| Change::Generation(Some(generation)))
            .chain(offsets)
    }

    /// The changes that make nothing of this.
    pub(crate) fn removal(&self) -> Vec<Change> {
        let offsets = self.offsets.iter().flat_map(|(topic, offsets)| {
            offsets.keys().map(|partition| Change::Offset {
                topic: topic.clone(),
                partition: *partition,
                committed: None,
            })
        });
        offsets.chain([Change::Generation(None)]).collect()
    }
}

impl Change {
    /// What it takes of the heap, without the name of its topic, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Change>()
            + match self {
                Change::Offset { committed, .. } => committed
                    .as_ref()
                    .map_or(0, |committed| shared_bytes(committed.metadata.len())),
                Change::Generation(generation) => generation.as_ref().map_or(0, Generation::bytes),
            }
    }

    /// What its record takes in a batch at most, in bytes.
    pub(crate) fn record_bytes(&self, group: &str) -> usize {
        RECORD_BYTES
            + group.len()
            + match self {
                Change::Offset { topic, committed, .. } => {
                    topic.len() + committed.as_ref().map_or(0, |committed| committed.metadata.len())
                }
                Change::Generation(generation) => generation.as_ref().map_or(0, Generation::record_bytes),
            }
    }

    /// The change that a record of the log is, and its group.
    pub(crate) fn of<'a>(record: &GroupRecord<'a>) -> (&'a str, Change) {
        match record {
            GroupRecord::Offset(key, value) => {
                let committed = value.map(|value| Committed {
                    offset: value.offset,
                    leader_epoch: value.leader_epoch,
                    metadata: Rc::from(value.metadata),
                    commit_timestamp_ms: value.commit_timestamp_ms,
                    expire_timestamp_ms: value.expire_timestamp_ms,
                });
                let change = Change::Offset {
                    topic: Rc::from(key.topic),
                    partition: key.partition,
                    committed,
                };
                (key.group, change)
            }
            GroupRecord::Group(key, value) => (key.group, Change::Generation(value.as_ref().map(generation))),
        }
    }

    /// The record of it, for that group: `put` gets its key and value.
    pub(crate) fn put(&self, group: &str, timestamp_ms: i64, put: impl FnOnce(&NewRecord<'_>)) {
        let (key, value) = match self {
            Change::Offset {
                topic,
                partition,
                committed,
            } => {
                let key = OffsetCommitKey {
                    group,
                    topic,
                    partition: *partition,
                };
                let value = committed.as_ref().map(|committed| OffsetCommitValue {
                    offset: committed.offset,
                    leader_epoch: committed.leader_epoch,
                    metadata: &committed.metadata,
                    commit_timestamp_ms: committed.commit_timestamp_ms,
                    expire_timestamp_ms: committed.expire_timestamp_ms,
                    ..OffsetCommitValue::default()
                });
                GroupRecord::Offset(key, value).encode()
            }
            Change::Generation(None) => GroupRecord::Group(GroupMetadataKey { group }, None).encode(),
            Change::Generation(Some(generation)) => {
                let members: Vec<GroupMemberValue<'_>> =
                    generation.members.iter().map(member_value).collect();
                let value = GroupMetadataValue {
                    protocol_type: &generation.protocol_type,
                    generation: generation.generation,
                    protocol: generation.protocol.as_deref(),
                    leader: generation.leader.as_deref(),
                    current_state_timestamp_ms: generation.since_wall_ms,
                    members: Array::from_slice(&members),
                };
                GroupRecord::Group(GroupMetadataKey { group }, Some(value)).encode()
            }
        };
        put(&NewRecord {
            timestamp_ms,
            key: Some(&key),
            value: value.as_deref(),
            headers: &[],
        });
    }
}

fn member_value(member: &StoredMember) -> GroupMemberValue<'_> {
    GroupMemberValue {
        member_id: &member.member_id,
        group_instance_id: member.group_instance_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription: &member.subscription,
        assignment: &member.assignment,
    }
}

fn generation(value: &GroupMetadataValue<'_>) -> Generation {
    let members = value.members.iter().map(|member| StoredMember {
        member_id: member.member_id.to_owned(),
        group_instance_id: member.group_instance_id.map(str::to_owned),
        client_id: member.client_id.to_owned(),
        client_host: member.client_host.to_owned(),
        // Before version 1 there was one timeout for both.
        rebalance_timeout_ms: if member.rebalance_timeout_ms < 0 {
            member.session_timeout_ms
        } else {
            member.rebalance_timeout_ms
        },
        session_timeout_ms: member.session_timeout_ms,
        subscription: Opaque::from(member.subscription),
        assignment: Opaque::from(member.assignment),
    });
    Generation {
        protocol_type: value.protocol_type.to_owned(),
        generation: value.generation,
        protocol: value.protocol.map(str::to_owned),
        leader: value.leader.map(str::to_owned),
        since_wall_ms: value.current_state_timestamp_ms,
        members: members.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(topic: &str, partition: i32, offset: Option<i64>) -> Change {
        let committed = offset.map(|offset| Committed {
            offset,
            leader_epoch: 3,
            metadata: Rc::from("kept"),
            commit_timestamp_ms: 1_000,
            expire_timestamp_ms: -1,
        });
        Change::Offset {
            topic: Rc::from(topic),
            partition,
            committed,
        }
    }

    fn a_generation() -> Change {
        let member = StoredMember {
            member_id: "m".into(),
            group_instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 5,
            session_timeout_ms: 6,
            subscription: Opaque::from(&b"s"[..]),
            assignment: Opaque::from(&b"a"[..]),
        };
        Change::Generation(Some(Generation {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            since_wall_ms: 9,
            members: vec![member],
        }))
    }

    /// The change, after it was a record.
    fn through_the_log(change: &Change) -> Change {
        let mut read = None;
        change.put("g", 1, |record| {
            let key = record.key.expect("a key");
            let decoded = GroupRecord::decode(key, record.value)
                .expect("good")
                .expect("ours");
            let (group, change) = Change::of(&decoded);
            assert_eq!(group, "g");
            read = Some(change);
        });
        read.expect("one record")
    }

    #[test]
    fn changes_come_back_from_the_log_as_they_went_in() {
        let mut expiring = offset("t", 1, Some(7));
        if let Change::Offset {
            committed: Some(committed),
            ..
        } = &mut expiring
        {
            committed.leader_epoch = -1;
            committed.expire_timestamp_ms = 2_000;
        }
        for change in [
            expiring,
            offset("t", 1, Some(7)),
            offset("t", 1, None),
            a_generation(),
            Change::Generation(None),
        ] {
            assert_eq!(through_the_log(&change), change);
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut stored = Stored::default();
        for change in [offset("t", 1, Some(7)), offset("u", 0, Some(8)), a_generation()] {
            stored.apply(&change);
        }
        assert_eq!(
            stored.committed("t", 1).map(|committed| committed.offset),
            Some(7)
        );
        assert_eq!(stored.committed("t", 0), None);
        let mut copy = Stored::default();
        stored.changes().for_each(|change| copy.apply(&change));
        assert_eq!(copy, stored);
        for change in stored.removal() {
            copy.apply(&change);
        }
        assert!(copy.is_nothing());
    }
}
