//! What a shard does for its partitions by itself, whether or not anybody asks: it looks at all of them now and then.
//!
//! Owns when, and how much at a step: in the `Background` class, a bounded number of partitions between two turns of
//! the others, so that 10,000 idle ones cost next to nothing. What is done is decided elsewhere (`retention.rs`), and
//! carried out as if a client had asked (`partition/trim.rs`).
//! Must never hold up a stop, nor do anything to a log that has failed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use ring::executor::{Class, Task, spawn, yield_now};
use ring::timer::sleep;

use crate::id::TopicPartition;
use crate::partition::{LogShared, PartitionLog};

/// Partitions that are looked at in one step.
const STEP: usize = 64;
/// The first look is no later than this after a start, as Kafka's.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Housekeeping {
    inner: Rc<Inner>,
    tasks: RefCell<Vec<Task<()>>>,
}

struct Inner {
    shared: Rc<LogShared>,
    partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
}

impl Housekeeping {
    /// For these partitions, and those that come.
    pub(crate) fn new(
        shared: Rc<LogShared>,
        partitions: Rc<RefCell<BTreeMap<TopicPartition, PartitionLog>>>,
    ) -> Housekeeping {
        Housekeeping {
            inner: Rc::new(Inner { shared, partitions }),
            tasks: RefCell::default(),
        }
    }

    /// Looks for segments that need not be kept, from now on and that often.
    pub(crate) fn start(&self, retention_check_interval: Duration) {
        let retain = self.inner.clone().retain(retention_check_interval);
        self.tasks.borrow_mut().push(spawn(Class::Background, retain));
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
