//! Generations: how one ends, how the next begins, and who gets what in it.

use std::collections::BTreeMap;

use wire::ErrorCode;

use super::{Action, Group, JoinOutcome, Now, Pending, Replacement, State, SyncOutcome, SyncRequest, Timer};
use crate::group::member::{Member, Opaque, Waiter, after, no_bytes};
use crate::group::stored::{Generation, StoredMember};

impl Group {
    pub(super) fn sync(&mut self, waiter: Waiter, sync: SyncRequest, now: Now, actions: &mut Vec<Action>) {
        let differs =
            |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some() && one != other;
        let member_id = &sync.member.member_id;
        let refusal = match self.check_member(&sync.member) {
            Err(error) => Some(error),
            Ok(()) if sync.generation != self.generation => Some(ErrorCode::IllegalGeneration),
            Ok(())
                if differs(&sync.protocol_type, &self.protocol_type)
                    || differs(&sync.protocol, &self.protocol) =>
            {
                Some(ErrorCode::InconsistentGroupProtocol)
            }
            Ok(()) => match self.state {
                State::Empty => Some(ErrorCode::UnknownMemberId),
                State::PreparingRebalance => Some(ErrorCode::RebalanceInProgress),
                State::CompletingRebalance | State::Stable => None,
            },
        };
        if let Some(error_code) = refusal {
            actions.push(Action::Sync(waiter, SyncOutcome::refused(error_code)));
            return;
        }
        self.pending_sync.remove(member_id);
        let is_stable = self.state == State::Stable;
        if is_stable {
            let outcome = self.assigned(member_id);
            actions.push(Action::Sync(waiter, outcome));
            return;
        }
        let is_written_already = self.writes.iter().any(
            |write| matches!(write, Pending::Assignment { generation, .. } if *generation == self.generation),
        );
        let decides = self.is_leader(member_id) && !is_written_already;
        let mut assignments = sync.assignments;
        assignments.retain(|member_id, _| self.members.contains_key(member_id));
        if decides && self.growth_of_assignments(&assignments) > sync.room_bytes {
            // The others are not at fault: they are asked to join again, and another may lead them.
            let refused = SyncOutcome::refused(ErrorCode::GroupMaxSizeReached);
            actions.push(Action::Sync(waiter, refused));
            return self.prepare_rebalance(now, actions);
        }
        let member = self.members.get_mut(member_id);
        if let Some(older) = member.and_then(|member| member.awaiting_sync.replace(waiter)) {
            actions.push(Action::Sync(
                older,
                SyncOutcome::refused(ErrorCode::RebalanceInProgress),
            ));
        }
        if decides {
            actions.push(Action::Write(self.generation_with(&assignments)));
            self.push_write(Pending::Assignment {
                generation: self.generation,
                assignments,
            });
        }
    }

    fn assigned(&self, member_id: &str) -> SyncOutcome {
        SyncOutcome {
            error_code: ErrorCode::None,
            member_id: member_id.to_owned(),
            generation: self.generation,
        }
    }

    pub(super) fn written(&mut self, result: Result<(), ErrorCode>, now: Now, actions: &mut Vec<Action>) {
        let Some(pending) = self.pop_write() else {
            debug_assert!(false, "nothing was to be written");
            return;
        };
        match pending {
            Pending::Assignment {
                generation,
                assignments,
            } if self.state == State::CompletingRebalance && generation == self.generation => match result {
                Ok(()) => {
                    let given = |member_id: &str| assignments.get(member_id).cloned();
                    self.members
                        .assign(|member_id| given(member_id).unwrap_or_else(no_bytes));
                    self.move_to(State::Stable, now);
                    self.tell_assignments(ErrorCode::None, now, actions);
                }
                Err(error_code) => {
                    self.tell_assignments(error_code, now, actions);
                    self.prepare_rebalance(now, actions);
                }
            },
            // The group has gone on meanwhile.
            Pending::Assignment { .. } | Pending::Empty => {}
            Pending::Replacement(replacement) => self.replaced(*replacement, result, now, actions),
        }
    }

    /// The new id of a static member is in the log, or could not be written.
    pub(super) fn replaced(
        &mut self,
        replacement: Replacement,
        result: Result<(), ErrorCode>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let new_id = &replacement.new_member_id;
        let Some(member) = self.members.get_mut(new_id) else {
            return; // it has left meanwhile, and was answered then
        };
        // In a rebalance the member is answered with the others.
        let waiter = if self.state == State::Stable {
            member.awaiting_join.take()
        } else {
            None
        };
        let Some(waiter) = waiter else {
            return;
        };
        // The write may have taken longer than its session.
        member.touch(now.monotonic_ms);
        match result {
            Ok(()) if replacement.can_skip_assignment => {
                let outcome = JoinOutcome {
                    leads: self.is_leader(new_id),
                    skips_assignment: true,
                    ..JoinOutcome::in_generation(self.generation, new_id)
                };
                actions.push(Action::Join(waiter, outcome));
            }
            Ok(()) => {
                let outcome = JoinOutcome {
                    // A client that cannot skip the assignment must not take itself for the leader.
                    other_leader: replacement.old_leader,
                    ..JoinOutcome::in_generation(self.generation, new_id)
                };
                actions.push(Action::Join(waiter, outcome));
            }
            Err(error_code) => {
                self.members.remove(new_id);
                let (old_id, mut old_member) = (replacement.old_member_id, replacement.old_member);
                old_member.touch(now.monotonic_ms);
                if let Some(instance_id) = &old_member.client.group_instance_id {
                    self.static_members.insert(instance_id.clone(), old_id.clone());
                }
                self.members.insert(old_id, old_member);
                self.leader = replacement.old_leader;
                actions.push(Action::Join(waiter, JoinOutcome::refused(error_code, "")));
            }
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now, actions: &mut Vec<Action>) {
        debug_assert!(!self.is_preparing());
        if self.state == State::CompletingRebalance {
            self.tell_assignments(ErrorCode::RebalanceInProgress, now, actions);
        }
        self.pending_sync.clear();
        self.is_initial = self.state == State::Empty;
        self.move_to(State::PreparingRebalance, now);
        if self.is_initial {
            self.member_was_added = false;
            let delay_ms = self.rules.initial_rebalance_delay_ms;
            let timer = Timer::Initial {
                delay_ms,
                remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
            };
            self.timer = Some((after(now.monotonic_ms, delay_ms), timer));
        } else if self.all_have_joined() {
            self.complete_join(now, actions);
        } else {
            self.timer = Some((after(now.monotonic_ms, self.rebalance_timeout_ms()), Timer::Join));
        }
    }

    pub(super) fn rebalance_or_complete_join(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.is_preparing() {
            self.complete_join_if_all_joined(now, actions);
        } else {
            self.prepare_rebalance(now, actions);
        }
    }

    /// The longest that a member wants to be waited for.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).max(0)
    }

    pub(super) fn all_have_joined(&self) -> bool {
        self.pending_members.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    pub(super) fn complete_join_if_all_joined(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.is_preparing() && !self.is_initial && self.all_have_joined() {
            self.complete_join(now, actions);
        }
    }

    /// The next generation begins with those that have joined, and with the static members, who may be restarting.
    pub(super) fn complete_join(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.is_preparing() {
            return;
        }
        self.timer = None;
        let is_late =
            |member: &Member| member.awaiting_join.is_none() && member.client.group_instance_id.is_none();
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        for member_id in late.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.dismiss(&member_id, actions);
        }
        if !self.members.is_empty() && !self.leader_has_joined() {
            // Only static members are left, and none is back: their sessions will end, or they will join.
            self.timer = Some((after(now.monotonic_ms, self.rebalance_timeout_ms()), Timer::Join));
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        self.is_initial = false;
        if self.members.is_empty() {
            self.protocol = None;
            self.move_to(State::Empty, now);
            self.push_write(Pending::Empty);
            actions.push(Action::Write(self.generation_with(&BTreeMap::new())));
            return;
        }
        self.protocol = self.elect_protocol();
        self.move_to(State::CompletingRebalance, now);
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let outcome = JoinOutcome {
                leads: self.is_leader(&member_id),
                ..JoinOutcome::in_generation(self.generation, &member_id)
            };
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            if let Some(waiter) = member.awaiting_join.take() {
                actions.push(Action::Join(waiter, outcome));
            }
            member.is_new = false;
            member.touch(now.monotonic_ms);
            self.pending_sync.insert(member_id);
        }
        self.timer = Some((after(now.monotonic_ms, self.rebalance_timeout_ms()), Timer::Sync));
    }

    /// Whether there is a leader among those who have joined; one is found if need be.
    pub(super) fn leader_has_joined(&mut self) -> bool {
        let has_joined = |member: &Member| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(|leader| has_joined(leader)) {
            return true;
        }
        let other = self.members.iter().find(|(_, member)| has_joined(member));
        match other.map(|(member_id, _)| member_id.clone()) {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }

    pub(super) fn tell_assignments(&mut self, error_code: ErrorCode, now: Now, actions: &mut Vec<Action>) {
        let is_good = error_code == ErrorCode::None;
        if !is_good {
            self.members.assign(|_| no_bytes());
        }
        let generation = self.generation;
        for (member_id, member) in self.members.iter_mut() {
            if let Some(waiter) = member.awaiting_sync.take() {
                let outcome = SyncOutcome {
                    error_code,
                    member_id: member_id.clone(),
                    generation,
                };
                actions.push(Action::Sync(waiter, outcome));
                member.touch(now.monotonic_ms);
            }
        }
    }

    /// The generation as the log shall have it: with these assignments, or with those that the members have.
    pub(super) fn generation_with(&self, assignments: &BTreeMap<String, Opaque>) -> Generation {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let is_given = self.state == State::CompletingRebalance;
        let members = self.members.iter().map(|(member_id, member)| StoredMember {
            member_id: member_id.clone(),
            group_instance_id: member.client.group_instance_id.clone(),
            client_id: member.client.client_id.clone(),
            client_host: member.client.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: if is_given {
                assignments.get(member_id).cloned().unwrap_or_else(no_bytes)
            } else {
                member.assignment().clone()
            },
        });
        Generation {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_wall_ms: self.state_since_wall_ms,
            members: members.collect(),
        }
    }
}
