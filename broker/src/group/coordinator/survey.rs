//! Looking at all groups without stopping the shard for it: a slice at a time, from where the last one ended.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::rc::Rc;

use super::{Coordinator, Phase};
use crate::group::machine::State;
use crate::shard::probe::Census;

/// Groups, or committed offsets, that are looked at in one step.
pub(super) const SLICE: usize = if cfg!(test) { 2 } else { 256 };

/// The committed offset that was looked at last: its group, topic and partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommitPosition(Option<(Rc<str>, Rc<str>, i32)>);

impl Coordinator {
    /// Counts some groups, from the one after `after` on. Gives the last that was looked at, unless all were.
    pub(crate) fn count_groups(&self, after: Option<&str>, census: &mut Census) -> Option<Rc<str>> {
        let inner = self.inner.borrow();
        if inner.phase != Phase::Active {
            census.loading_coordinators += u64::from(inner.phase == Phase::Loading);
            return None;
        }
        let from = after.map_or(Unbounded, Excluded);
        let groups = &inner.groups;
        let mut live = groups.live().range::<str, _>((from, Unbounded)).peekable();
        let mut stored = groups.stored().range::<str, _>((from, Unbounded)).peekable();
        let mut last = None;
        for _ in 0..SLICE {
            // Both are in the order of the names.
            let name = match (live.peek(), stored.peek()) {
                (None, None) => return None,
                (Some((name, _)), None) | (None, Some((name, _))) => (*name).clone(),
                (Some((one, _)), Some((other, _))) => (*one).min(*other).clone(),
            };
            let group = live.next_if(|(live, _)| **live == name);
            stored.next_if(|(stored, _)| **stored == name);
            let state = group.map_or(State::Empty, |(_, group)| group.state());
            census.members += group.map_or(0, |(_, group)| group.members().len() as u64);
            *match state {
                State::Empty => &mut census.empty,
                State::PreparingRebalance => &mut census.preparing_rebalance,
                State::CompletingRebalance => &mut census.completing_rebalance,
                State::Stable => &mut census.stable,
            } += 1;
            last = Some(name);
        }
        last
    }

    /// Shows some committed offsets, those after `position`: group, topic, partition and offset. Whether there may be
    /// more.
    pub(crate) fn look_at_commits(
        &self,
        position: &mut CommitPosition,
        mut look: impl FnMut(&str, &str, i32, i64),
    ) -> bool {
        let inner = self.inner.borrow();
        if inner.phase != Phase::Active {
            return false;
        }
        let mut left = SLICE;
        let before = position.0.clone();
        let before = before.as_ref();
        let from_group = before.map_or(Unbounded, |(group, ..)| Included(&**group));
        for (group, stored) in inner.groups.stored().range::<str, _>((from_group, Unbounded)) {
            let in_group = before.filter(|(before, ..)| before == group);
            let from_topic = in_group.map_or(Unbounded, |(_, topic, _)| Included(&**topic));
            for (topic, offsets) in stored.offsets.range::<str, _>((from_topic, Unbounded)) {
                let in_topic = in_group.filter(|(_, before, _)| before == topic);
                let from_partition = in_topic.map_or(Unbounded, |(.., partition)| Excluded(*partition));
                for (&partition, committed) in offsets.range((from_partition, Unbounded)) {
                    if left == 0 {
                        return true;
                    }
                    left -= 1;
                    look(group, topic, partition, committed.offset);
                    position.0 = Some((group.clone(), topic.clone(), partition));
                }
            }
            // A group without offsets costs a look as well.
            if in_group.is_none() && stored.offsets.is_empty() {
                if left == 0 {
                    return true;
                }
                left -= 1;
                position.0 = Some((group.clone(), Rc::from(""), i32::MAX));
            }
        }
        false
    }
}
