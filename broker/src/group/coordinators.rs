//! The coordinators of a shard: one for each partition of `__consumer_offsets` that it leads.
//!
//! Owns which group belongs to which. A group's partition is the hash of its name, as in Kafka, so that a client finds
//! the same coordinator whichever node it asks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::PoolUsage;
use ring::local::Taker;
use storage::TopicPartition;
use wire::ErrorCode;

use crate::controller::decide::OFFSETS_TOPIC;
use crate::controller::image::{PartitionState, UNASSIGNED_DIRECTORY};
use crate::group::coordinator::Coordinator;
use crate::group::memory::GroupMemory;
use crate::shard::context::GroupSettings;
use crate::shard::{Place, World};

/// How long a request that reads waits for what was begun before it: Kafka's `offsets.commit.timeout.ms`. A log that takes
/// longer has its journal full, and the client's own retry takes over.
const READ_WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Coordinators {
    settings: GroupSettings,
    memory: GroupMemory,
    led: RefCell<BTreeMap<TopicPartition, Rc<Coordinator>>>,
}

impl Coordinators {
    /// None yet.
    pub(crate) fn new(settings: GroupSettings) -> Coordinators {
        Coordinators {
            settings,
            memory: GroupMemory::new(settings.memory_bytes),
            led: RefCell::default(),
        }
    }

    /// Follows a newer image: coordinators begin for partitions that are led here now, and end for those that are not.
    /// What it gives resolves when nothing is left of the offsets in topics that are gone, in each log directory.
    pub(crate) fn follow(
        &self,
        before: Option<&World>,
        world: &World,
        node_id: i32,
    ) -> Vec<(u128, Taker<Result<(), ErrorCode>>)> {
        let offsets = world.topic(OFFSETS_TOPIC);
        let partitions = offsets.map_or(0, |offsets| offsets.topic.partitions.len());
        let mut led = BTreeMap::new();
        for partition in (0..).take(partitions) {
            if let Some(offsets) = offsets
                && let Place::Here(log) = offsets.place(partition, node_id)
            {
                led.insert(log.id(), log.clone());
            }
        }
        let mut coordinators = self.led.borrow_mut();
        coordinators.retain(|id, coordinator| {
            let stays = led.contains_key(id);
            if !stays {
                coordinator.stop();
            }
            stays
        });
        for (id, log) in led {
            coordinators.entry(id).or_insert_with(|| {
                let image = world.image.clone();
                let is_there = move |topic: &str| image.topics_by_name.contains_key(topic);
                Coordinator::start(log, self.settings, self.memory.clone(), is_there)
            });
        }
        if let Some(before) = before {
            let gone = |name: &&String| !world.image.topics_by_name.contains_key(*name);
            let deleted: BTreeSet<String> =
                before.image.topics_by_name.keys().filter(gone).cloned().collect();
            if !deleted.is_empty() {
                let deleting = coordinators.iter().flat_map(|(id, coordinator)| {
                    let state = offsets.and_then(|offsets| offsets.state(id.partition));
                    let directory = state.map_or(UNASSIGNED_DIRECTORY, PartitionState::directory);
                    let gone = coordinator.topics_deleted(&deleted).into_iter();
                    gone.map(move |gone| (directory, gone))
                });
                return deleting.collect();
            }
        }
        Vec::new()
    }

    /// All of them end.
    pub(crate) fn stop(&self) {
        for coordinator in std::mem::take(&mut *self.led.borrow_mut()).into_values() {
            coordinator.stop();
        }
    }

    /// The coordinator of a group.
    ///
    /// # Errors
    /// NOT_COORDINATOR, if it is not here.
    pub(crate) fn of(&self, world: &World, group: &str) -> Result<Rc<Coordinator>, ErrorCode> {
        let offsets = world.topic(OFFSETS_TOPIC).map(|offsets| &offsets.topic);
        let id = offsets.and_then(|topic| {
            Some(TopicPartition {
                topic_id: topic.id,
                partition: partition_of(group, topic.partitions.len())?,
            })
        });
        let led = self.led.borrow();
        let coordinator = id.and_then(|id| led.get(&id));
        coordinator.cloned().ok_or(ErrorCode::NotCoordinator)
    }

    /// Waits until what these coordinators had on its way into their logs is durable, or refused: what is read then
    /// follows every request that was begun before. All of them are waited for together.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS, which every client asks again on, if the logs do not take it in time.
    pub(crate) async fn written_before(
        coordinators: impl Iterator<Item = &Rc<Coordinator>>,
    ) -> Result<(), ErrorCode> {
        let mut asked = BTreeSet::new();
        let new = coordinators.filter(|coordinator| asked.insert(Rc::as_ptr(coordinator)));
        let waiting: Vec<Taker<()>> = new
            .filter_map(|coordinator| coordinator.written_before())
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let all = async {
            for written in waiting {
                written.await;
            }
        };
        let waited = ring::timer::timeout(READ_WAIT, all).await;
        waited.map_err(|_| ErrorCode::CoordinatorLoadInProgress)
    }

    /// What all groups of the shard take of what they may: what is kept, what is on its way into the log, and what waits.
    pub(crate) fn memory(&self) -> [PoolUsage; 3] {
        let accounts = [
            ("groups", &self.memory.kept),
            ("groups moving", &self.memory.moving),
            ("groups waiting", &self.memory.waiting),
        ];
        accounts.map(|(name, account)| PoolUsage {
            name,
            bytes: account.budget(),
            bytes_used: account.taken(),
        })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Rc<Coordinator>> {
        self.led.borrow().values().cloned().collect()
    }
}

/// The partition of `__consumer_offsets` that holds the group: the non-negative remainder of Java's hash of its name.
pub(crate) fn partition_of(group: &str, partitions: usize) -> Option<i32> {
    // Kafka's `Utils.abs`: the hash without its sign bit would differ, so the smallest value maps to 0.
    let hash = java_hash(group);
    let hash = if hash == i32::MIN { 0 } else { hash.abs() };
    hash.checked_rem(i32::try_from(partitions).ok()?)
}

/// `String.hashCode` of the Java language: over UTF-16 units, wrapping.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        // Values of String.hashCode.
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("my-group", -1_906_497_762),
            ("polygenelubricants", i32::MIN),
            ("\u{1f600}", 1_772_899),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
    }

    #[test]
    fn a_groups_partition_is_never_negative() {
        assert_eq!(partition_of("polygenelubricants", 50), Some(0));
        assert_eq!(partition_of("my-group", 50), Some(12));
        assert_eq!(partition_of("a", 50), Some(47));
        assert_eq!(partition_of("a", 0), None);
    }
}
