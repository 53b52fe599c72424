//! What a shard does for its partitions by itself, whether or not anybody asks: it looks at all of them now and then.
//!
//! Owns when, and how much at a step: in the `Background` class, a bounded number of partitions between two turns of
//! the others, so that 10,000 idle ones cost next to nothing. What is done is decided elsewhere (`retention.rs`), and
//! carried out as if a client had asked (`partition/trim.rs`). Producers that have not written for long are forgotten. What a start finds to remove, and what a quiet shard has to
//! give back, has no other moment: a start must not wait for it, and a quiet shard makes no checkpoint.
//! Must never hold up a stop, nor do anything to a log that has failed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use ring::executor::{Class, Task, spawn, yield_now};
use ring::local::oneshot;
use ring::timer::sleep;

use crate::id::TopicPartition;
use crate::migration::Migration;
use crate::partition::{LogShared, PartitionLog};

/// Partitions that are looked at in one step.
const STEP: usize = 64;
/// The first look is no later than this after a start, as Kafka's.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// A segment that took no direct writes for so long gives back what is reserved of it.
const RESTED: Duration = Duration::from_secs(30);
/// A disk is nearly full when less than this part of it is free.
const TIGHT_PART: u64 = 20;
/// How often that is looked at.
const REST_LOOK: Duration = Duration::from_secs(10);

/// How often it is looked for producers to forget: as often as Kafka does.
const PRODUCERS_LOOK: Duration = Duration::from_secs(600);
/// `producer.id.expiration.ms`, unless it is set.
const PRODUCERS_EXPIRE: Duration = Duration::from_secs(86_400);

/// See the module.
pub(crate) struct Housekeeping {
    inner: Rc<Inner>,
    tasks: RefCell<Vec<Task<()>>>,
}

struct Inner {
    shared: Rc<LogShared>,
    partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    migration: Migration,
    producer_expiration: Cell<Duration>,
}

impl Housekeeping {
    /// For these partitions, and those that come.
    pub(crate) fn new(
        shared: Rc<LogShared>,
        partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
        migration: Migration,
    ) -> Housekeeping {
        Housekeeping {
            inner: Rc::new(Inner {
                shared,
                partitions,
                migration,
                producer_expiration: Cell::new(PRODUCERS_EXPIRE),
            }),
            tasks: RefCell::default(),
        }
    }

    /// Looks for segments that need not be kept, from now on and that often; and does the rest of its work.
    pub(crate) fn start(&self, retention_check_interval: Duration) {
        let inner = || self.inner.clone();
        *self.tasks.borrow_mut() = vec![
            spawn(Class::Background, inner().retain(retention_check_interval)),
            spawn(Class::Background, inner().remove_leftovers()),
            spawn(Class::Background, inner().rest()),
            spawn(Class::Background, inner().forget_producers()),
        ];
    }

    /// Producers are forgotten that have not written for so long.
    pub(crate) fn set_producer_expiration(&self, expiration: Duration) {
        self.inner.producer_expiration.set(expiration);
    }

    /// Does nothing from now on. What is under way is finished by others, or by the next start.
    pub(crate) fn stop(&self) {
        self.tasks.borrow_mut().clear();
    }
}

impl Inner {
    async fn retain(self: Rc<Self>, interval: Duration) {
        sleep(interval.min(FIRST_LOOK)).await;
        loop {
            self.remove_old_segments().await;
            sleep(interval).await;
        }
    }

    /// Once: an earlier life may have been ended before it had removed what it took out.
    async fn remove_leftovers(self: Rc<Self>) {
        let mut walk = Walk::default();
        while let Some(logs) = walk.next_step(&self.partitions) {
            for log in logs.drain(..) {
                // What cannot be looked at, or removed, is left to the next start: it holds nothing but space.
                let _ = log.remove_leftovers().await;
            }
            yield_now().await;
        }
    }

    async fn forget_producers(self: Rc<Self>) {
        loop {
            sleep(PRODUCERS_LOOK).await;
            let mut walk = Walk::default();
            while let Some(logs) = walk.next_step(&self.partitions) {
                for log in logs.drain(..) {
                    log.forget_idle_producers(self.producer_expiration.get());
                }
                yield_now().await;
            }
        }
    }

    async fn rest(self: Rc<Self>) {
        loop {
            sleep(REST_LOOK).await;
            self.look_at_the_disk().await;
            // Bounded: so many have a segment for direct writes.
            let mut resting = Vec::new();
            let mut walk = Walk::default();
            while let Some(logs) = walk.next_step(&self.partitions) {
                resting.extend(logs.drain(..).filter(|log| log.rests_for(RESTED)));
                yield_now().await;
            }
            if !resting.is_empty() {
                self.give_back(resting).await;
            }
        }
    }

    /// Files that are kept for later, or are to be removed later, are given up when the disk is nearly full, whoever fills it:
    /// another shard may wait for the room.
    async fn look_at_the_disk(&self) {
        let shared = &self.shared;
        let volume = ring::directory::volume(&shared.directory).await;
        let is_tight = volume.is_ok_and(|volume| volume.usable_bytes < volume.total_bytes / TIGHT_PART);
        shared.is_disk_tight.set(is_tight);
        let mut walk = Walk::default();
        while is_tight
            && !shared.has_failed()
            && let Some(logs) = walk.next_step(&self.partitions)
        {
            for log in logs.drain(..) {
                log.remove_leaving().await;
                if log.has_spares() {
                    log.give_spares_back().await;
                }
            }
            yield_now().await;
        }
    }

    /// Goes on when it is dropped: a file may not be cut when a migration has begun to write to it.
    async fn give_back(&self, resting: Vec<PartitionLog>) {
        let (shared, migration) = (self.shared.clone(), self.migration.clone());
        let (giver, given) = oneshot();
        let giving = async move {
            let _no_migration = migration.pause().await;
            for log in resting.iter().filter(|log| log.rests_for(RESTED)) {
                if !shared.has_failed() {
                    log.give_back().await;
                }
            }
            giver.give(());
        };
        spawn(Class::Background, giving).detach();
        let _ = given.await;
    }

    async fn remove_old_segments(&self) {
        let clock = &self.shared.clock;
        let correction = clock.look();
        if correction.is_some() {
            // A later life learns of it from a checkpoint alone.
            self.shared.is_checkpoint_due.set(true);
            self.shared
                .committer
                .get()
                .inspect(|committer| committer.progress().notify_all());
        }
        let mut walk = Walk::default();
        while let Some(logs) = walk.next_step(&self.partitions) {
            let mut deletions = Vec::new();
            for log in logs.drain(..) {
                if let Some(correction) = &correction {
                    log.correct_times(correction);
                }
                if !self.shared.has_failed() {
                    log.look_at_spares().await;
                }
                if let Some(start) = log.retention_start(clock.age_now_ms()) {
                    deletions.push(spawn(Class::Background, async move {
                        // Its partition was dropped, or the log has failed, which is told elsewhere.
                        let _ = log.delete_records(start).await;
                    }));
                }
            }
            // All at once: their entries are in one journal record, and one migration removes their files.
            for deletion in deletions {
                deletion.await;
            }
            yield_now().await;
        }
    }
}

/// A walk over all partitions of a shard, some at a step. Those that come or go meanwhile may be missed.
#[derive(Default)]
pub(crate) struct Walk {
    after: Option<TopicPartition>,
    step: Vec<PartitionLog>,
}

impl Walk {
    /// The next partitions; `None` when there are no more.
    pub(crate) fn next_step(
        &mut self,
        partitions: &RefCell<BTreeMap<TopicPartition, PartitionLog>>,
    ) -> Option<&mut Vec<PartitionLog>> {
        let after = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let partitions = partitions.borrow();
        let next = partitions.range((after, Bound::Unbounded)).take(STEP);
        self.step.clear();
        self.step.extend(next.map(|(_, log)| log.clone()));
        self.after = Some(self.step.last()?.id());
        Some(&mut self.step)
    }
}
