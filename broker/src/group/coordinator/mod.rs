//! The coordinator of the groups in one partition of `__consumer_offsets`: it drives their state machines.
//!
//! Owns the groups, what is known of them, and the order of what is written. Each request is judged on the groups as
//! they are, and what comes of it is put into the log at once, in that order; it is answered, and shown to others, when
//! it is durable. Must never hold a borrow across an await.

pub(in crate::group) mod groups;
mod queue;
mod snapshot;
mod survey;
mod time;
mod waiting;
mod writing;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{self, Excluded, Unbounded};
use std::rc::Rc;

use ring::executor::{Class, spawn};
use ring::local::{Giver, Signal, Taker, oneshot};
use storage::PartitionLog;
use wire::ErrorCode;

use self::groups::Groups;
use self::queue::Queue;
use self::snapshot::SNAPSHOT_BYTES_MIN;
pub(crate) use self::survey::CommitPosition;
#[cfg(test)]
pub(crate) use self::waiting::Waiting;
use self::writing::{Progress, Then, batch_bytes};
use crate::group::load::load;
use crate::group::machine::{
    Action, Event, Group, GroupRules, Identity, JoinOutcome, Now, State, SyncOutcome, Token,
};
use crate::group::member::Waiter;
use crate::group::memory::{Charge, GroupMemory};
use crate::group::stored::{Change, Committed, Stored};
use crate::group::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
use crate::shard::context::GroupSettings;

/// See the module. One for each partition that the shard leads, behind an `Rc`.
pub(crate) struct Coordinator {
    log: PartitionLog,
    settings: GroupSettings,
    rules: GroupRules,
    /// Notified when something is to be written.
    work: Signal,
    /// Notified when the next deadline is earlier than it was.
    earlier: Signal,
    is_snapshotting: Cell<bool>,
    memory: GroupMemory,
    inner: RefCell<Inner>,
}

struct Inner {
    phase: Phase,
    groups: Groups,
    /// What is on its way into the log, in order.
    queue: Queue,
    /// What it takes of the heap.
    moving: Charge,
    waiting: BTreeMap<Waiter, Reply>,
    next_waiter: u64,
    /// When groups are looked at next, in milliseconds; and the same by group.
    alarms: BTreeSet<(u64, Rc<str>)>,
    alarm_of: BTreeMap<Rc<str>, u64>,
    /// Bytes of the log from its start on.
    log_bytes: u64,
    /// When it has more than so many, it is written anew.
    snapshot_at_bytes: u64,
    /// A batch of a snapshot waits for room: nothing is appended before it.
    is_held: bool,
    /// The log has records that are not ours to drop.
    keeps_all: bool,
    /// Topics that were deleted while the log was read, or before it, without the log having been told.
    deleted_topics: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Active,
    Gone,
}

enum Reply {
    Join(Giver<JoinOutcome>),
    Sync(Giver<SyncOutcome>),
}

fn now() -> Now {
    Now {
        monotonic_ms: ring::clock::now().0 / 1_000_000,
        wall_ms: ring::clock::wall_clock_ms(),
    }
}

impl Coordinator {
    /// Begins to read the log; until that is done every request is told to wait. Offsets in topics that are not there
    /// are forgotten then: their topic was deleted, and the node ended before it had forgotten them.
    pub(crate) fn start(
        log: PartitionLog,
        settings: GroupSettings,
        memory: GroupMemory,
        is_there: impl Fn(&str) -> bool + 'static,
    ) -> Rc<Coordinator> {
        let coordinator = Rc::new(Coordinator {
            log,
            settings,
            rules: GroupRules {
                initial_rebalance_delay_ms: settings.initial_rebalance_delay_ms,
                max_size: settings.max_size,
            },
            work: Signal::new(),
            earlier: Signal::new(),
            is_snapshotting: Cell::new(false),
            inner: RefCell::new(Inner {
                phase: Phase::Loading,
                groups: Groups::new(&memory),
                queue: Queue::default(),
                moving: Charge::new(memory.moving.clone()),
                waiting: BTreeMap::new(),
                next_waiter: 0,
                alarms: BTreeSet::new(),
                alarm_of: BTreeMap::new(),
                log_bytes: 0,
                snapshot_at_bytes: SNAPSHOT_BYTES_MIN,
                is_held: false,
                keeps_all: false,
                deleted_topics: BTreeSet::new(),
            }),
            memory,
        });
        spawn(Class::Latency, coordinator.clone().run(is_there)).detach();
        coordinator
    }

    /// The coordinator goes away: what waits is told to look for another one. What is on its way into the log is still
    /// answered.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.phase = Phase::Gone;
        let groups: Vec<Rc<str>> = inner.groups.live().keys().cloned().collect();
        for group in groups {
            let unload = |live: &mut Group| live.unload(ErrorCode::NotCoordinator);
            let actions = inner.groups.with_live(&group, unload);
            self.perform(&mut inner, &group, actions.unwrap_or_default());
            inner.groups.forget(&group);
        }
        drop(inner);
        self.work.notify_all();
        self.earlier.notify_all();
    }

    /// Heartbeat.
    pub(crate) fn heartbeat(&self, group: &str, from: &Identity, generation: i32) -> ErrorCode {
        let mut inner = self.inner.borrow_mut();
        if let Err(error) = inner.ready() {
            // As in Kafka: a member does no harm by waiting, and would lose its place otherwise.
            let is_loading = error == ErrorCode::CoordinatorLoadInProgress;
            return if is_loading { ErrorCode::None } else { error };
        }
        let answer = inner
            .groups
            .with_live(group, |live| live.heartbeat(from, generation, now()));
        answer.unwrap_or(ErrorCode::UnknownMemberId)
    }

    /// LeaveGroup: one code for each member.
    ///
    /// # Errors
    /// If the coordinator cannot be asked.
    pub(crate) fn leave(&self, group: &str, leaving: &[Identity]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let mut inner = self.inner.borrow_mut();
        inner.ready()?;
        let left = inner.groups.with_live(group, |live| live.leave(leaving, now()));
        let Some((codes, actions)) = left else {
            return Ok(vec![ErrorCode::UnknownMemberId; leaving.len()]);
        };
        self.perform(&mut inner, group, actions);
        self.settle(&mut inner, group);
        Ok(codes)
    }

    /// Commits offsets for a member, or for a client that is in no group (generation -1). What it gives, if there are
    /// any, resolves when they are durable.
    ///
    /// # Errors
    /// Kafka's code for the whole request; nothing is committed then.
    pub(crate) fn commit(
        &self,
        group: &str,
        from: &Identity,
        generation: i32,
        offsets: Vec<(Rc<str>, i32, Committed)>,
    ) -> Result<Option<Taker<Result<(), ErrorCode>>>, ErrorCode> {
        let mut guard = self.inner.borrow_mut();
        let inner = &mut *guard;
        inner.ready_to_write()?;
        let check = |live: &mut Group| live.check_commit(from, generation, now());
        match inner.groups.with_live(group, check) {
            Some(checked) => checked?,
            // Who names a generation takes itself for a member, and one that only has offsets has no members.
            None if generation >= 0 && inner.is_known(group) => return Err(ErrorCode::UnknownMemberId),
            None if generation >= 0 => return Err(ErrorCode::GroupIdNotFound),
            None => {}
        }
        let changes = offsets
            .into_iter()
            .map(|(topic, partition, committed)| Change::Offset {
                topic,
                partition,
                committed: Some(committed),
            });
        let changes: Vec<Change> = changes.collect();
        if changes.is_empty() {
            return Ok(None);
        }
        let growth = inner.groups.growth_of(group, &changes);
        // What replaces offsets that are kept is always taken.
        let has_room = growth == 0 || growth <= inner.groups.room();
        if !has_room || batch_bytes(group, &changes) > self.log.largest_batch() {
            return Err(ErrorCode::InvalidCommitOffsetSize);
        }
        let (giver, taker) = oneshot();
        self.write_reserved(inner, group, changes, growth, Then::Request(giver));
        Ok(Some(taker))
    }

    /// Deletes offsets: of those that the group is subscribed to none. One code for each, and what to wait for.
    ///
    /// # Errors
    /// Kafka's code for the whole request.
    #[expect(
        clippy::type_complexity,
        reason = "the codes, and what to wait for before they are told"
    )]
    pub(crate) fn delete_offsets(
        &self,
        group: &str,
        offsets: &[(Rc<str>, i32)],
    ) -> Result<(Vec<ErrorCode>, Option<Taker<Result<(), ErrorCode>>>), ErrorCode> {
        let mut inner = self.inner.borrow_mut();
        inner.ready_to_write()?;
        let live = inner.groups.live().get(group).map(|live| &**live);
        if live.is_none() && !inner.is_known(group) {
            return Err(ErrorCode::GroupIdNotFound);
        }
        let is_consumer = |live: &Group| live.protocol_type() == Some(CONSUMER_PROTOCOL_TYPE);
        if live.is_some_and(|live| live.state() != State::Empty && !is_consumer(live)) {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let subscribed = live.and_then(subscribed_topics);
        let is_subscribed = |topic: &str| match &subscribed {
            Some(topics) => topics.contains(topic),
            None => live.is_some_and(is_consumer),
        };
        let mut codes = Vec::with_capacity(offsets.len());
        let mut changes = Vec::new();
        let newest = inner.newest(group);
        for (topic, partition) in offsets {
            if is_subscribed(topic) {
                codes.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            codes.push(ErrorCode::None);
            if newest.committed(topic, *partition).is_some() {
                changes.push(Change::Offset {
                    topic: topic.clone(),
                    partition: *partition,
                    committed: None,
                });
            }
        }
        drop(newest);
        if changes.is_empty() {
            return Ok((codes, None));
        }
        let (giver, taker) = oneshot();
        self.write_removal(&mut inner, group, changes, Then::Request(giver));
        Ok((codes, Some(taker)))
    }

    /// Deletes a group that has no members. Resolves when that is durable.
    ///
    /// # Errors
    /// Kafka's code for it.
    pub(crate) fn delete(&self, group: &str) -> Result<Taker<Result<(), ErrorCode>>, ErrorCode> {
        let mut inner = self.inner.borrow_mut();
        inner.ready_to_write()?;
        let live = inner.groups.live().get(group).map(|live| &**live);
        if live.is_none() && !inner.is_known(group) {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if live.is_some_and(|live| live.state() != State::Empty) {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let removal = inner.newest(group).removal();
        inner.forget(group);
        let (giver, taker) = oneshot();
        self.write_removal(&mut inner, group, removal, Then::Request(giver));
        Ok(taker)
    }

    /// Topics are gone, and so are all offsets in them. What it gives resolves when that is durable: another topic of
    /// that name must not find them.
    pub(crate) fn topics_deleted(&self, names: &BTreeSet<String>) -> Vec<Taker<Result<(), ErrorCode>>> {
        let mut inner = self.inner.borrow_mut();
        let mut deleting = Vec::new();
        if inner.phase == Phase::Loading {
            inner.deleted_topics.extend(names.iter().cloned());
        }
        if inner.phase != Phase::Active {
            return deleting;
        }
        let mut next = inner.group_from(Unbounded);
        while let Some(group) = next {
            let changes: Vec<Change> = {
                let newest = inner.newest(&group);
                let topics = newest.offsets.iter();
                let gone = topics.filter(|(topic, _)| names.contains(&***topic));
                gone.flat_map(|(topic, offsets)| {
                    offsets.keys().map(|partition| Change::Offset {
                        topic: topic.clone(),
                        partition: *partition,
                        committed: None,
                    })
                })
                .collect()
            };
            if !changes.is_empty() {
                let (giver, taker) = oneshot();
                self.write_removal(&mut inner, &group, changes, Then::Request(giver));
                deleting.push(taker);
            }
            next = inner.group_from(Excluded(&group));
        }
        deleting
    }

    /// Where its log begins: what is before it was written anew.
    #[cfg(test)]
    pub(crate) fn log_start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    /// The largest batch that its log takes, in bytes.
    #[cfg(test)]
    pub(crate) fn largest_batch(&self) -> usize {
        self.log.largest_batch()
    }

    /// The partition of `__consumer_offsets` that its groups are in.
    #[cfg(test)]
    pub(crate) fn partition(&self) -> i32 {
        self.log.id().partition
    }

    /// What its groups keep, and what is on its way, in bytes; `None` while it loads.
    #[cfg(test)]
    pub(crate) fn memory_taken(&self) -> Option<(usize, usize)> {
        let inner = self.inner.borrow();
        let is_loading = inner.phase == Phase::Loading;
        (!is_loading).then(|| (inner.groups.recount().1, inner.moving.bytes()))
    }

    /// Shows what is known of a group: its state machine, and what is durable.
    ///
    /// # Errors
    /// If the coordinator cannot be asked.
    pub(crate) fn look<T>(
        &self,
        group: &str,
        look: impl FnOnce(Option<&Group>, Option<&Stored>) -> T,
    ) -> Result<T, ErrorCode> {
        let inner = self.inner.borrow();
        inner.ready()?;
        let live = inner.groups.live().get(group);
        Ok(look(live.map(|live| &**live), inner.groups.stored().get(group)))
    }

    /// Shows every group.
    ///
    /// # Errors
    /// If the coordinator cannot be asked.
    pub(crate) fn look_at_all(
        &self,
        mut look: impl FnMut(&str, Option<&Group>, Option<&Stored>),
    ) -> Result<(), ErrorCode> {
        let inner = self.inner.borrow();
        inner.ready()?;
        let (stored, live) = (inner.groups.stored(), inner.groups.live());
        let names: BTreeSet<&Rc<str>> = stored.keys().chain(live.keys()).collect();
        for name in names {
            look(name, live.get(name).map(|live| &**live), stored.get(name));
        }
        Ok(())
    }

    /// Lets the group's state machine take an event, and does what it says.
    fn step(&self, inner: &mut Inner, group: &str, event: Event) {
        let Some(actions) = inner.groups.with_live(group, |live| live.step(event, now())) else {
            return;
        };
        self.perform(inner, group, actions);
        self.settle(inner, group);
        #[cfg(test)]
        inner.check_memory();
    }

    fn perform(&self, inner: &mut Inner, group: &str, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Join(waiter, outcome) => {
                    if let Some(Reply::Join(giver)) = inner.waiting.remove(&waiter) {
                        giver.give(outcome);
                    }
                }
                Action::Sync(waiter, outcome) => {
                    if let Some(Reply::Sync(giver)) = inner.waiting.remove(&waiter) {
                        giver.give(outcome);
                    }
                }
                Action::Write(generation) => {
                    let change = Change::Generation(Some(generation));
                    if let Some(token) = inner.token_of(group) {
                        self.write(inner, group, vec![change], Then::Machine(token));
                    }
                }
            }
        }
    }

    /// After a group has changed: when it is looked at next, or that it is nothing any more.
    fn settle(&self, inner: &mut Inner, group: &str) {
        let Some(live) = inner.groups.live().get(group) else {
            return;
        };
        if live.is_nothing() {
            inner.forget(group);
            return;
        }
        let Some(at_ms) = live.deadline_ms() else {
            return;
        };
        // One that is later than the alarm is found when that rings.
        if inner.alarm_of.get(group).is_none_or(|set_ms| at_ms < *set_ms) {
            let was_first = inner.alarms.first().is_none_or(|(first_ms, _)| at_ms < *first_ms);
            inner.set_alarm(group, at_ms);
            if was_first {
                self.earlier.notify_all();
            }
        }
    }

    /// The coordinator's life: read the log, then see to it that writes are told of and that time passes.
    async fn run(self: Rc<Self>, is_there: impl Fn(&str) -> bool) {
        match load(&self.log, Groups::new(&self.memory)).await {
            Ok(loaded) => {
                let mut inner = self.inner.borrow_mut();
                if inner.phase == Phase::Gone {
                    return;
                }
                if loaded.strange_records > 0 {
                    tracing::warn!(
                        partition = self.log.id().partition,
                        records = loaded.strange_records,
                        "__consumer_offsets has records of another kind: this partition is kept whole"
                    );
                }
                inner.keeps_all = loaded.strange_records > 0;
                inner.log_bytes = loaded.log_bytes;
                inner.groups = loaded.groups;
                self.begin(&mut inner);
            }
            Err(error) => {
                let partition = self.log.id().partition;
                eprintln!(
                    "millstream: the groups of __consumer_offsets-{partition} are not served: {error}. Mend the cause \
                     and start again"
                );
                self.stop();
                return;
            }
        }
        let deleted = {
            let inner = &mut *self.inner.borrow_mut();
            let topics = inner
                .groups
                .stored()
                .values()
                .flat_map(|stored| stored.offsets.keys());
            let gone = topics.filter(|topic| !is_there(topic)).map(ToString::to_string);
            inner.deleted_topics.extend(gone);
            std::mem::take(&mut inner.deleted_topics)
        };
        drop(is_there);
        if !deleted.is_empty() {
            // Whoever deleted them has been answered, or is not there any more. Whoever reads waits for it.
            drop(self.topics_deleted(&deleted));
        }
        spawn(Class::Latency, self.clone().watch_time()).detach();
        self.watch_writes().await;
    }

    fn begin(&self, inner: &mut Inner) {
        let now = now();
        let restored = inner.groups.stored().iter().filter_map(|(name, stored)| {
            let generation = stored.generation.as_ref()?;
            Some((name.clone(), Group::restore(self.rules, generation, now)))
        });
        let restored: Vec<(Rc<str>, Group)> = restored.collect();
        inner.phase = Phase::Active;
        for (name, group) in restored {
            inner.groups.begin(&name, group);
            let actions = inner.groups.with_live(&name, |live| live.reduce(now));
            self.perform(inner, &name, actions.unwrap_or_default());
            self.settle(inner, &name);
        }
        #[cfg(test)]
        inner.check_memory();
    }
}

impl Inner {
    fn ready(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Active => Ok(()),
            Phase::Gone => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Also whether what comes of a request may be put behind what is on its way into the log already: one that the log
    /// does not keep up with shall not fill the heap.
    fn ready_to_write(&self) -> Result<(), ErrorCode> {
        self.ready()?;
        match self.moving.room() {
            0 => Err(ErrorCode::CoordinatorNotAvailable),
            _ => Ok(()),
        }
    }

    fn park(&mut self, reply: Reply) -> Waiter {
        self.next_waiter += 1;
        let waiter = Waiter(self.next_waiter);
        self.waiting.insert(waiter, reply);
        waiter
    }

    /// Which of the groups that have had the name it is now.
    fn token_of(&self, group: &str) -> Option<Token> {
        let live = self.groups.live().get(group);
        live.map(|live| live.token().clone())
    }

    /// Whether anything of the group is in the log, or on its way there.
    fn is_known(&self, group: &str) -> bool {
        if self.queue.of(group).next().is_some() {
            return !self.newest(group).is_nothing();
        }
        self.groups.stored().contains_key(group)
    }

    /// The first group by name, from there on, of which something is in the log, or on its way there.
    fn group_from(&self, from: Bound<&Rc<str>>) -> Option<Rc<str>> {
        let names = (from.map(|group| &**group), Unbounded);
        let stored = self.groups.stored().range::<str, _>(names).next();
        let stored = stored.map(|(group, _)| group);
        stored
            .into_iter()
            .chain(self.queue.group_from(from))
            .min()
            .cloned()
    }

    /// What will be known of a group once all that is on its way is durable.
    fn newest(&self, group: &str) -> Cow<'_, Stored> {
        let mut newest = match self.groups.stored().get(group) {
            Some(stored) => Cow::Borrowed(stored),
            None => Cow::Owned(Stored::default()),
        };
        for write in self.queue.of(group) {
            if !matches!(write.progress, Progress::Refused(_)) {
                let newest = newest.to_mut();
                write.changes.iter().for_each(|change| newest.apply(change));
            }
        }
        newest
    }

    /// Forgets a group's state machine.
    fn forget(&mut self, group: &str) {
        self.groups.forget(group);
        self.clear_alarm(group);
    }

    /// What is thought to be on the heap is there.
    #[cfg(test)]
    fn check_memory(&self) {
        let (counted, thought) = self.groups.recount();
        let reserved: usize = self.queue.iter().map(|write| write.growth).sum();
        assert_eq!(thought, counted + reserved, "what groups keep, counted anew");
        self.queue.check();
        let moving: usize = self.queue.iter().map(writing::Write::bytes).sum();
        assert_eq!(self.moving.bytes(), moving, "what is on its way, counted anew");
    }
}
