//! Time: members that are silent, and waits that are over.

use super::{Action, Group, Now, State, Timer};
use crate::group::member::after;

impl Group {
    pub(super) fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        let is_due = |at_ms: u64| at_ms <= now.monotonic_ms;
        let forgot_some = self.pending_members.forget_due(now.monotonic_ms);
        let mut dead = Vec::new();
        for (member_id, member) in self.members.iter_mut() {
            if member.deadline_ms.is_some_and(is_due) {
                // Whoever waits is heard of; its session begins again with its answer.
                member.deadline_ms = None;
                if !member.is_heard_of() {
                    dead.push(member_id.clone());
                }
            }
        }
        for member_id in &dead {
            self.dismiss(member_id, actions);
        }
        if !dead.is_empty() && matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.prepare_rebalance(now, actions);
        } else if (forgot_some || !dead.is_empty()) && self.is_preparing() && self.all_have_joined() {
            self.complete_join(now, actions);
        }
        if let Some((at_ms, timer)) = self.timer
            && is_due(at_ms)
        {
            self.timer = None;
            match timer {
                Timer::Initial {
                    delay_ms,
                    remaining_ms,
                } => {
                    self.initial_delay_is_over(delay_ms, remaining_ms, now, actions);
                }
                Timer::Join => self.complete_join(now, actions),
                Timer::Sync => self.dismiss_unsynced(now, actions),
            }
        }
    }

    pub(super) fn initial_delay_is_over(
        &mut self,
        delay_ms: i32,
        remaining_ms: i32,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if !std::mem::take(&mut self.member_was_added) || remaining_ms == 0 {
            return self.complete_join(now, actions);
        }
        let next_ms = self.rules.initial_rebalance_delay_ms.min(remaining_ms);
        let timer = Timer::Initial {
            delay_ms: next_ms,
            remaining_ms: (remaining_ms - delay_ms).max(0),
        };
        self.timer = Some((after(now.monotonic_ms, next_ms), timer));
    }

    /// Members that did not ask for their assignments in time are out.
    pub(super) fn dismiss_unsynced(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.dismiss(&member_id, actions);
        }
        self.prepare_rebalance(now, actions);
    }
}
