//! A core's world: its listener, its log, the partitions that it leads, and what it knows of the cluster.
//!
//! Owns everything a request may touch. Nothing here is shared with another thread except bounded queues (commands
//! from the control thread, requests to it, probes of those who look at it) and the number of the host's newest image. Must never wait for another
//! shard, and never hold a borrow across an await.

pub mod context;
mod control;
mod counters;
mod failures;
mod logs;
pub mod probe;
mod run;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use net::{ConnectionLimits, Traffic};
use ring::local::{Semaphore, Signal};
use wire::ErrorCode;

pub(crate) use self::control::Control;
pub(crate) use self::counters::Counters;
use self::failures::ReadFailures;
pub(crate) use self::logs::Logs;
pub use self::run::run;
pub(crate) use self::world::{LocalTopic, Place, World};
use crate::api::AnswerMemory;
use crate::api::fetch_room::FetchRoom;
use crate::api::session::{PARTITIONS_MAX, SessionCache};
use crate::controller::decide::OFFSETS_TOPIC;
use crate::controller::image::NODES_PER_HOST;
use crate::group::coordinator::Coordinator;
use crate::group::coordinators::Coordinators;
use crate::shard::context::{AnnouncedVersion, ShardSettings};

/// How long a request waits for an image that the host has and this shard does not: opening a topic's partitions is a
/// flush, so anything longer is a fault, and the client's own retry takes over.
const IMAGE_WAIT: Duration = Duration::from_secs(5);
/// Batches that are compressed anew at a time, or wait for room in the journal after that: clients do not size what they
/// take, and it is on the heap. One core compresses no more of them at once anyway.
const RECOMPRESSIONS_MAX: usize = 4;

/// A core's world. One for each shard, behind an `Rc`.
pub(crate) struct Shard {
    /// The node that clients know this shard as.
    pub(crate) node_id: i32,
    /// What of the configuration a shard needs.
    pub(crate) settings: Arc<ShardSettings>,
    /// What it has done.
    pub(crate) counters: Counters,
    /// Reads of its log that failed.
    pub(crate) read_failures: ReadFailures,
    /// The way to the control thread.
    pub(crate) control: Rc<Control>,
    /// The coordinators of the groups whose partitions it leads.
    pub(crate) coordinators: Coordinators,
    /// The fetch sessions of its clients.
    pub(crate) sessions: RefCell<SessionCache>,
    /// What goes through its listener.
    traffic: Rc<Traffic>,
    /// How many connections its listener takes.
    connections: Rc<ConnectionLimits>,
    /// What its Fetches hold.
    pub(crate) fetch_room: FetchRoom,
    /// For the next answer to a Produce.
    pub(crate) produce_answer: Cell<AnswerMemory>,
    /// Its logs.
    pub(crate) logs: Logs,
    world: RefCell<Rc<World>>,
    world_moved: Signal,
    announced: AnnouncedVersion,
    /// How many more batches may be compressed anew.
    pub(crate) recompressions: Semaphore,
    stopping: Cell<bool>,
}

impl Shard {
    /// What is known now. Take it once for a request: it does not change under its holder.
    pub(crate) fn world(&self) -> Rc<World> {
        self.world.borrow().clone()
    }

    /// How many connections its listener takes.
    pub(crate) fn connections(&self) -> &Rc<ConnectionLimits> {
        &self.connections
    }

    /// Whether the log has wanted memory lately and got none, or a Fetch does.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.logs.is_short_of_memory() || self.fetch_room.is_short()
    }

    /// Waits until an answer of so many bytes may be made, for a request that may have waited behind others for long.
    pub(crate) async fn room_for_answer(&self, bytes: usize) {
        self.traffic.room_for(bytes).await;
    }

    /// Notified when a newer image is installed, and when the shard stops.
    pub(crate) fn world_moved(&self) -> &Signal {
        &self.world_moved
    }

    /// Whether the shard is being stopped: long polls end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// The world, once `knows` is true of it; or the newest that the host has, when that does not help. A shard behind
    /// its host's newest image waits for it instead of refusing what another shard has already shown to the client.
    pub(crate) async fn world_that(&self, knows: impl Fn(&World) -> bool) -> Rc<World> {
        let will_do =
            |world: &World| knows(world) || world.image.version >= self.announced.get() || self.is_stopping();
        let world = self.world();
        if will_do(&world) {
            return world;
        }
        // In a box, so that what waits is not a part of every request.
        Box::pin(self.later_world(will_do)).await
    }

    async fn later_world(&self, will_do: impl Fn(&World) -> bool) -> Rc<World> {
        let deadline = ring::clock::now() + IMAGE_WAIT;
        loop {
            let moved = self.world_moved.wait();
            let world = self.world();
            if will_do(&world) {
                return world;
            }
            let left = deadline - ring::clock::now();
            if left.is_zero() || ring::timer::timeout(left, moved).await.is_err() {
                return self.world();
            }
        }
    }

    /// [`Self::world_that`] has every topic of these names.
    pub(crate) async fn world_with<'a, N>(&self, topics: impl Fn() -> N) -> Rc<World>
    where
        N: Iterator<Item = &'a str>,
    {
        self.world_that(|world| topics().all(|name| world.topic(name).is_some()))
            .await
    }

    /// A world in which the topics are there, after the control thread was asked to create those that are not; and
    /// why it did not, for those that are still missing.
    pub(crate) async fn world_with_topics(
        &self,
        names: Vec<String>,
    ) -> (Rc<World>, BTreeMap<String, ErrorCode>) {
        let mut errors = BTreeMap::new();
        if !names.is_empty() {
            match self.control.ensure_topics(names.clone()).await {
                Ok(results) => {
                    errors.extend(results.into_iter().filter(|(_, error)| *error != ErrorCode::None));
                }
                // Whatever kept the control thread from answering: every client tries again on this code.
                Err(_) => errors.extend(
                    names
                        .iter()
                        .map(|name| (name.clone(), ErrorCode::LeaderNotAvailable)),
                ),
            }
        }
        let there = |world: &World| {
            names
                .iter()
                .all(|name| errors.contains_key(name) || world.topic(name).is_some())
        };
        (self.world_that(there).await, errors)
    }

    /// The coordinator of a group.
    ///
    /// # Errors
    /// NOT_COORDINATOR, if it is on another node.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Rc<Coordinator>, ErrorCode> {
        let world = self.world_with(|| std::iter::once(OFFSETS_TOPIC)).await;
        self.coordinators.of(&world, group)
    }

    /// The coordinators of groups that are read, one for each name in order, once what was begun before is durable.
    pub(crate) async fn coordinators_to_read<'a>(
        &self,
        groups: impl Iterator<Item = &'a str>,
    ) -> Vec<Result<Rc<Coordinator>, ErrorCode>> {
        let world = self.world_with(|| std::iter::once(OFFSETS_TOPIC)).await;
        let found: Vec<_> = groups.map(|group| self.coordinators.of(&world, group)).collect();
        match Coordinators::written_before(found.iter().flatten()).await {
            Ok(()) => found,
            Err(error) => found.into_iter().map(|one| one.and(Err(error))).collect(),
        }
    }

    /// Where a partition's data is, for a request of a client: counts what should have gone to another shard.
    pub(crate) fn place_for_data<'a>(&self, topic: &'a LocalTopic, partition: i32) -> Place<'a> {
        let place = topic.place(partition, self.node_id);
        if let Place::Elsewhere(state) = &place
            && state.leader / NODES_PER_HOST == self.node_id / NODES_PER_HOST
        {
            self.counters.misrouted_data_requests.add(1);
        }
        place
    }
}
