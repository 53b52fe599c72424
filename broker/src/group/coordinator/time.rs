//! Time for groups: deadlines of members and rebalances, and offsets that expire.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;

use ring::clock::Instant;
use ring::executor::yield_now;

use super::survey::SLICE;
use super::writing::Then;
use super::{Coordinator, Inner, Phase, now};
use crate::group::machine::{Event, Group, State};
use crate::group::stored::{Change, Committed, Stored};
use crate::group::subscription::subscribed_topics;

impl Coordinator {
    /// Rings the groups' alarms, and looks for offsets that have expired.
    pub(super) async fn watch_time(self: Rc<Self>) {
        let mut next_check = ring::clock::now() + self.settings.offsets_retention_check_interval;
        loop {
            let earlier = self.earlier.wait();
            if ring::clock::now() >= next_check {
                self.expire_offsets().await;
                next_check = ring::clock::now() + self.settings.offsets_retention_check_interval;
            }
            let at = {
                let mut inner = self.inner.borrow_mut();
                if inner.phase == Phase::Gone {
                    return;
                }
                self.ring_alarms(&mut inner);
                let first = inner
                    .alarms
                    .first()
                    .map(|(at_ms, _)| at_ms.saturating_mul(1_000_000));
                first.map_or(next_check, |at| next_check.min(Instant(at)))
            };
            let left = at - ring::clock::now();
            let _ = ring::timer::timeout(left, earlier).await;
        }
    }

    pub(super) fn ring_alarms(&self, inner: &mut Inner) {
        let now_ms = now().monotonic_ms;
        while let Some((at_ms, group)) = inner.alarms.first().cloned() {
            if at_ms > now_ms {
                return;
            }
            inner.clear_alarm(&group);
            self.step(inner, &group, Event::Tick);
        }
    }

    /// Removes offsets that nobody has used for `offsets.retention.minutes`, and groups that have nothing left: some
    /// groups in a step.
    async fn expire_offsets(&self) {
        let mut done: Option<Rc<str>> = None;
        loop {
            {
                let mut inner = self.inner.borrow_mut();
                for _ in 0..SLICE {
                    let next = inner.group_from(done.as_ref().map_or(Unbounded, Excluded));
                    let Some(group) = next.filter(|_| inner.phase == Phase::Active) else {
                        return;
                    };
                    self.expire_offsets_of(&mut inner, &group);
                    done = Some(group);
                }
            }
            yield_now().await;
        }
    }

    fn expire_offsets_of(&self, inner: &mut Inner, group: &str) {
        let live = inner.groups.live().get(group).map(|live| &**live);
        let newest = inner.newest(group);
        let now_ms = ring::clock::wall_clock_ms();
        let expired = expired(live, &newest, now_ms, self.settings.offsets_retention_ms);
        let left = newest.offsets.values().map(BTreeMap::len).sum::<usize>() - expired.len();
        let is_empty = live.is_none_or(|live| live.state() == State::Empty);
        if left == 0 && is_empty && !newest.is_nothing() {
            let removal = newest.removal();
            inner.forget(group);
            self.write_removal(inner, group, removal, Then::Nobody);
        } else if !expired.is_empty() {
            self.write_removal(inner, group, expired, Then::Nobody);
        }
    }
}

impl Inner {
    pub(super) fn set_alarm(&mut self, group: &str, at_ms: u64) {
        self.clear_alarm(group);
        let group: Rc<str> = Rc::from(group);
        self.alarms.insert((at_ms, group.clone()));
        self.alarm_of.insert(group, at_ms);
    }

    pub(super) fn clear_alarm(&mut self, group: &str) {
        if let Some((group, at_ms)) = self.alarm_of.remove_entry(group) {
            self.alarms.remove(&(at_ms, group));
        }
    }
}

/// The offsets of a group that have expired (KIP-211): those of a group that was left, from then on; those that no group
/// ever used, or that its members are not subscribed to, from their commit on.
fn expired(live: Option<&Group>, newest: &Stored, now_ms: i64, retention_ms: i64) -> Vec<Change> {
    let (since_ms, subscribed) = match live {
        None => (-1, BTreeSet::new()),
        Some(live) if live.state() == State::Empty => (live.state_since_wall_ms(), BTreeSet::new()),
        Some(live) if live.state() == State::Stable => match subscribed_topics(live) {
            Some(topics) => (-1, topics),
            None => return Vec::new(),
        },
        Some(_) => return Vec::new(),
    };
    let is_expired = |committed: &Committed| {
        if committed.expire_timestamp_ms >= 0 {
            return now_ms >= committed.expire_timestamp_ms;
        }
        let since_ms = if since_ms >= 0 {
            since_ms
        } else {
            committed.commit_timestamp_ms
        };
        now_ms.saturating_sub(since_ms) >= retention_ms
    };
    let topics = newest
        .offsets
        .iter()
        .filter(|(topic, _)| !subscribed.contains(&***topic));
    let offsets = topics.flat_map(|(topic, offsets)| offsets.iter().map(move |entry| (topic, entry)));
    offsets
        .filter(|(_, (_, committed))| is_expired(committed))
        .map(|(topic, (partition, _))| Change::Offset {
            topic: topic.clone(),
            partition: *partition,
            committed: None,
        })
        .collect()
}
