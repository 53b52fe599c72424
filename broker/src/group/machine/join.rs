//! Joining: who may, who is new, who is back, and what all can agree on.

use std::collections::{BTreeMap, BTreeSet};

use wire::ErrorCode;

use super::{
    Action, Group, Identity, JoinOutcome, JoinRequest, Now, PENDING_MEMBERS_MAX, Pending, Replacement, State,
    SyncOutcome,
};
use crate::group::member::{Member, Protocol, Waiter, after, no_bytes};

/// A member that has joined and has no generation yet is given up after so long: Kafka's bound, in milliseconds.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 300_000;

impl Group {
    /// Whether the member knows a protocol that all others know.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.members.all_know(&protocol.name))
            // Everybody has left before the first generation: whoever comes now begins anew.
            || self.members.is_empty() && !protocol_type.is_empty() && !protocols.is_empty()
    }

    /// The protocol with the most votes, of those that all know; of equals the first by name.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        // Whatever all know, the member with the fewest knows.
        let fewest = self
            .members
            .values()
            .min_by_key(|member| member.protocols().len())?;
        let common = fewest.protocols().iter().map(|protocol| protocol.name.as_str());
        let common: BTreeSet<&str> = common.filter(|name| self.members.all_know(name)).collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(|name| common.contains(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.iter().rev().max_by_key(|(_, count)| **count);
        most.map(|(name, _)| (*name).to_owned())
    }

    /// Whether there is room for one more to join.
    pub(super) fn has_room_for(&self, member_id: &str) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let is_waiting = |member: &Member| member.awaiting_join.is_some();
                let waiting = self.members.values().filter(|member| is_waiting(member)).count();
                member.is_some_and(|member| is_waiting(member)) || waiting < self.rules.max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < self.rules.max_size
            }
        }
    }

    pub(super) fn join(&mut self, waiter: Waiter, join: JoinRequest, now: Now, actions: &mut Vec<Action>) {
        let mut refuse = |error_code, member_id: &str| {
            actions.push(Action::Join(waiter, JoinOutcome::refused(error_code, member_id)));
        };
        if !self.has_room_for(&join.member_id) {
            refuse(ErrorCode::GroupMaxSizeReached, "");
            if self.members.contains_key(&join.member_id) {
                self.dismiss(&join.member_id, actions);
            }
            self.pending_members.remove(&join.member_id);
            return self.complete_join_if_all_joined(now, actions);
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return refuse(ErrorCode::InconsistentGroupProtocol, &join.member_id);
        }
        if self.growth_of(&join) > join.room_bytes {
            return refuse(ErrorCode::GroupMaxSizeReached, "");
        }
        if join.member_id.is_empty() {
            return self.join_new(waiter, join, now, actions);
        }
        if self.pending_members.contains(&join.member_id) {
            if join.client.group_instance_id.is_some() {
                // Ids are given ahead only to members without an instance id.
                return refuse(ErrorCode::UnknownMemberId, &join.member_id);
            }
            let member_id = join.member_id.clone();
            return self.add(waiter, member_id, join, now, actions);
        }
        let identity = Identity {
            member_id: join.member_id.clone(),
            group_instance_id: join.client.group_instance_id.clone(),
        };
        if let Err(error) = self.check_member(&identity) {
            return refuse(error, &join.member_id);
        }
        self.join_again(waiter, join, now, actions);
    }

    pub(super) fn join_new(
        &mut self,
        waiter: Waiter,
        join: JoinRequest,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let member_id = join.new_member_id.clone();
        if let Some(instance_id) = &join.client.group_instance_id {
            return match self.static_members.get(instance_id).cloned() {
                Some(old) => self.replace_static(waiter, &old, join, now, actions),
                None => self.add(waiter, member_id, join, now, actions),
            };
        }
        if !join.must_know_its_id {
            return self.add(waiter, member_id, join, now, actions);
        }
        let error_code = if self.pending_members.len() < PENDING_MEMBERS_MAX {
            let forgotten_at = after(now.monotonic_ms, join.session_timeout_ms);
            self.pending_members.insert(member_id.clone(), forgotten_at);
            ErrorCode::MemberIdRequired
        } else {
            ErrorCode::GroupMaxSizeReached
        };
        actions.push(Action::Join(waiter, JoinOutcome::refused(error_code, &member_id)));
    }

    /// A member that is in the group joins.
    pub(super) fn join_again(
        &mut self,
        waiter: Waiter,
        join: JoinRequest,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let member_id = join.member_id.clone();
        let is_same = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.protocols() == join.protocols);
        let needs_rebalance = match self.state {
            State::PreparingRebalance => true,
            State::CompletingRebalance => !is_same,
            // What the leader knows of the topics may have changed, which its own metadata does not show.
            State::Stable => !is_same || self.is_leader(&member_id),
            State::Empty => false,
        };
        if !needs_rebalance {
            // It may have missed its answer: it gets the generation as it is.
            let outcome = JoinOutcome {
                leads: self.state == State::CompletingRebalance && self.is_leader(&member_id),
                ..JoinOutcome::in_generation(self.generation, &member_id)
            };
            actions.push(Action::Join(waiter, outcome));
            return;
        }
        self.update(&member_id, waiter, join, actions);
        self.rebalance_or_complete_join(now, actions);
    }

    /// Takes what the member now says of itself; it waits for the generation.
    pub(super) fn update(
        &mut self,
        member_id: &str,
        waiter: Waiter,
        join: JoinRequest,
        actions: &mut Vec<Action>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        let older = member.awaiting_join.replace(waiter);
        self.members.set_protocols(member_id, join.protocols);
        if let Some(older) = older {
            // The client has asked again: nobody may be left to hear this, but its connection must not be held up.
            let joined = JoinOutcome::refused(ErrorCode::RebalanceInProgress, member_id);
            actions.push(Action::Join(older, joined));
        }
    }

    pub(super) fn add(
        &mut self,
        waiter: Waiter,
        member_id: String,
        join: JoinRequest,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.pending_members.remove(&member_id);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Some(instance_id) = &join.client.group_instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        let leader = self.leader.get_or_insert_with(|| member_id.clone());
        debug_assert!(*leader == member_id || self.members.contains_key(leader));
        let mut member = Member::new(
            join.client,
            join.rebalance_timeout_ms,
            join.session_timeout_ms,
            join.protocols,
            no_bytes(),
        );
        member.is_new = true;
        member.awaiting_join = Some(waiter);
        member.deadline_ms = Some(after(now.monotonic_ms, NEW_MEMBER_JOIN_TIMEOUT_MS));
        self.members.insert(member_id, member);
        if self.is_preparing() && self.is_initial {
            self.member_was_added = true;
        }
        self.rebalance_or_complete_join(now, actions);
    }

    /// A static member is back without its id: it takes its own place under another one, and whoever used the old one is
    /// fenced.
    pub(super) fn replace_static(
        &mut self,
        waiter: Waiter,
        old_id: &str,
        join: JoinRequest,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(old_member) = self.members.remove(old_id) else {
            let member_id = join.new_member_id.clone();
            return self.add(waiter, member_id, join, now, actions);
        };
        let (new_id, old_leader) = (join.new_member_id.clone(), self.leader.clone());
        let mut member = old_member.clone();
        if let Some(waiter) = member.awaiting_join.take() {
            actions.push(Action::Join(
                waiter,
                JoinOutcome::refused(ErrorCode::FencedInstanceId, old_id),
            ));
        }
        if let Some(waiter) = member.awaiting_sync.take() {
            actions.push(Action::Sync(
                waiter,
                SyncOutcome::refused(ErrorCode::FencedInstanceId),
            ));
        }
        member.touch(now.monotonic_ms);
        self.members.insert(new_id.clone(), member);
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if let Some(instance_id) = &join.client.group_instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
        let can_skip_assignment = join.can_skip_assignment;
        self.update(&new_id, waiter, join, actions);
        match self.state {
            State::Stable if self.elect_protocol() == self.protocol => {
                // Nothing changes for the others. That it has another id must be in the log before it is told.
                let mut old_member = old_member;
                old_member.awaiting_join = None;
                old_member.awaiting_sync = None;
                self.push_write(Pending::Replacement(Box::new(Replacement {
                    old_member_id: old_id.to_owned(),
                    new_member_id: new_id,
                    old_member,
                    old_leader,
                    can_skip_assignment,
                })));
                actions.push(Action::Write(self.generation_with(&BTreeMap::new())));
            }
            // The old id may already be with the leader, which would assign to nobody.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, actions),
            State::PreparingRebalance => self.complete_join_if_all_joined(now, actions),
            State::Empty => {}
        }
    }
}
