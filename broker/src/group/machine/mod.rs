//! One group of the classic protocol: a pure state machine.
//!
//! [`Group::step`] takes an event and says what to answer and what to write. It knows no clock, no log and no
//! connection: the time comes with the event, a request is a number, and what is to be written comes back as
//! [`Event::Written`] once it is durable, in order. States, error codes and timers are those of Kafka's group
//! coordinator; where Kafka leaves a request without an answer for ever, this one answers.
//!
//! ```text
//! Empty ── a member joins ──> PreparingRebalance ── all have joined, or time is up ──> CompletingRebalance
//!   ^                           ^          ^                                               │ leader's assignment
//!   └── nobody is left ─────────┘          └──── a member comes, goes or changes ──── Stable <─┘ is durable
//! ```

mod generation;
mod heap;
mod join;
mod pending;
mod time;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use wire::ErrorCode;

use self::pending::PendingMembers;
pub(crate) use self::told::{JoinOutcome, Joined, SyncOutcome, Synced};
use crate::group::member::{Client, Member, Members, Opaque, Protocol, Waiter};
use crate::group::stored::Generation;

/// Ids that were given out and not used yet, of one group: each is forgotten after the session timeout that its request
/// named, and a client asks for one at a time.
const PENDING_MEMBERS_MAX: usize = 10_000;

/// What a group's behaviour is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupRules {
    /// `group.initial.rebalance.delay.ms`.
    pub(crate) initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub(crate) max_size: usize,
}

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds of a clock that never goes back: for timeouts.
    pub(crate) monotonic_ms: u64,
    /// Milliseconds since 1970: for what is stored.
    pub(crate) wall_ms: i64,
}

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no members. It may have offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All have joined; the leader decides who gets what.
    CompletingRebalance,
    /// Everybody has what the leader gave.
    Stable,
}

impl State {
    /// All of them, in their order.
    pub(crate) const ALL: [State; 4] = [
        State::Empty,
        State::PreparingRebalance,
        State::CompletingRebalance,
        State::Stable,
    ];

    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A member joins, or joins again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRequest {
    /// Empty: a member that has no id.
    pub(crate) member_id: String,
    /// The id that it gets then.
    pub(crate) new_member_id: String,
    pub(crate) client: Client,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// The client joins twice, the second time with the id that the first gave it (KIP-394).
    pub(crate) must_know_its_id: bool,
    /// The client's leader can be told to leave the assignment as it is (KIP-814).
    pub(crate) can_skip_assignment: bool,
    /// What it may add to the heap at most, in bytes.
    pub(crate) room_bytes: usize,
}

/// A member, as it names itself in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
}

/// A member asks for its assignment, or brings everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncRequest {
    pub(crate) member: Identity,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// Of each member, by its id. Only the leader's count.
    pub(crate) assignments: BTreeMap<String, Opaque>,
    /// What they may add to the heap at most, in bytes.
    pub(crate) room_bytes: usize,
}

/// What happens to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// JoinGroup.
    Join(Waiter, JoinRequest),
    /// SyncGroup.
    Sync(Waiter, SyncRequest),
    /// Time has passed.
    Tick,
    /// What was to be written first, of what is not reported yet, is durable; or it is refused with this code.
    Written(Result<(), ErrorCode>),
}

/// What is to be done after a step, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Answer a JoinGroup.
    Join(Waiter, JoinOutcome),
    /// Answer a SyncGroup.
    Sync(Waiter, SyncOutcome),
    /// Write this generation to the log, and tell when it is durable.
    Write(Generation),
}

/// Why the group does not go on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// The first rebalance waits for more members: how long this time, and how much longer at most.
    Initial { delay_ms: i32, remaining_ms: i32 },
    /// Members have to join again by then.
    Join,
    /// Members have to ask for their assignments by then.
    Sync,
}

/// What a write was for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    /// The leader's assignment.
    Assignment {
        generation: i32,
        assignments: BTreeMap<String, Opaque>,
    },
    /// A static member that came back under another id.
    Replacement(Box<Replacement>),
    /// The group has become empty: nobody waits.
    Empty,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Replacement {
    old_member_id: String,
    new_member_id: String,
    /// As it was before.
    old_member: Member,
    old_leader: Option<String>,
    can_skip_assignment: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    rules: GroupRules,
    state: State,
    /// It has not been in a generation since it was empty: the first rebalance waits for more members.
    is_initial: bool,
    member_was_added: bool,
    state_since_wall_ms: i64,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: Members,
    /// Member ids by instance id.
    static_members: BTreeMap<String, String>,
    pending_members: PendingMembers,
    /// Members of the generation that have not asked for their assignments.
    pending_sync: BTreeSet<String>,
    timer: Option<(u64, Timer)>,
    writes: VecDeque<Pending>,
    /// What they take of the heap.
    writes_bytes: usize,
    /// Tells it from another group that has had its name.
    token: Token,
}

/// Which of the groups that have had a name.
pub(crate) type Token = Rc<()>;

impl Group {
    /// A group without members.
    pub(crate) fn new(rules: GroupRules, now: Now) -> Group {
        Group {
            rules,
            state: State::Empty,
            is_initial: false,
            member_was_added: false,
            state_since_wall_ms: now.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            static_members: BTreeMap::new(),
            pending_members: PendingMembers::default(),
            pending_sync: BTreeSet::new(),
            timer: None,
            writes: VecDeque::new(),
            writes_bytes: 0,
            token: Token::default(),
        }
    }

    /// Which of the groups that have had its name it is.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// The group as the log has it. Its members' sessions begin now: the coordinator may have been away for long. Others
    /// can write into the log: a member id or an instance id that comes twice counts once.
    pub(crate) fn restore(rules: GroupRules, stored: &Generation, now: Now) -> Group {
        let mut group = Group::new(rules, now);
        group.generation = stored.generation;
        group.protocol_type = Some(stored.protocol_type.clone()).filter(|name| !name.is_empty());
        group.protocol.clone_from(&stored.protocol);
        group.state_since_wall_ms = stored.since_wall_ms;
        for stored in &stored.members {
            let instance_id = stored.group_instance_id.as_ref();
            if group.members.contains_key(&stored.member_id)
                || instance_id.is_some_and(|instance_id| group.static_members.contains_key(instance_id))
            {
                continue;
            }
            let client = Client {
                group_instance_id: stored.group_instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
            };
            let protocols = vec![Protocol {
                name: group.protocol.clone().unwrap_or_default(),
                metadata: stored.subscription.clone(),
            }];
            let mut member = Member::new(
                client,
                stored.rebalance_timeout_ms,
                stored.session_timeout_ms,
                protocols,
                stored.assignment.clone(),
            );
            member.touch(now.monotonic_ms);
            if let Some(instance_id) = &member.client.group_instance_id {
                group
                    .static_members
                    .insert(instance_id.clone(), stored.member_id.clone());
            }
            group.members.insert(stored.member_id.clone(), member);
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            let first = group.members.keys().next().cloned();
            let leader = stored
                .leader
                .clone()
                .filter(|leader| group.members.contains_key(leader));
            group.leader = leader.or(first);
        }
        group
    }

    /// Lets a group that was restored join again if it has more members than it may have now: as many as may find room.
    pub(crate) fn reduce(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.members.len() > self.rules.max_size {
            self.prepare_rebalance(now, &mut actions);
        }
        self.check_invariants();
        actions
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Since when, in milliseconds since 1970; -1 if that is not known.
    pub(crate) fn state_since_wall_ms(&self) -> i64 {
        self.state_since_wall_ms
    }

    /// What its members have in common, such as `consumer`; none for one that only has offsets.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// How its members share the work; none outside of a generation.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Its members, by id.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether nothing of it is in the log or on its way there, and nobody is in it: it can be forgotten.
    pub(crate) fn is_nothing(&self) -> bool {
        self.state == State::Empty
            && self.generation == 0
            && self.pending_members.is_empty()
            && self.writes.is_empty()
    }

    /// When it next needs a [`Event::Tick`], in milliseconds of the shard's clock.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let members = self.members.values().filter_map(|member| member.deadline_ms);
        let pending = self.pending_members.deadlines_ms();
        let timer = self.timer.map(|(at_ms, _)| at_ms);
        members.chain(pending).chain(timer).min()
    }

    /// The answer to a heartbeat.
    pub(crate) fn heartbeat(&mut self, from: &Identity, generation: i32, now: Now) -> ErrorCode {
        if let Err(error) = self.check_member(from) {
            return error;
        }
        if generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.touch(&from.member_id, now);
        match self.state {
            State::Empty => ErrorCode::UnknownMemberId,
            State::PreparingRebalance => ErrorCode::RebalanceInProgress,
            State::CompletingRebalance | State::Stable => ErrorCode::None,
        }
    }

    /// Whether a commit of offsets may be taken. One that may is as good as a heartbeat.
    ///
    /// # Errors
    /// Kafka's code for it.
    pub(crate) fn check_commit(
        &mut self,
        from: &Identity,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !from.member_id.is_empty() || from.group_instance_id.is_some() {
            self.check_member(from)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if self.state != State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.touch(&from.member_id, now);
        Ok(())
    }

    /// Members leave. One code for each, and what comes of it.
    pub(crate) fn leave(&mut self, leaving: &[Identity], now: Now) -> (Vec<ErrorCode>, Vec<Action>) {
        let mut actions = Vec::new();
        let mut codes = Vec::with_capacity(leaving.len());
        for one in leaving {
            codes.push(match self.leaver(one) {
                Ok(member_id) => {
                    if !self.pending_members.remove(&member_id) {
                        self.dismiss(&member_id, &mut actions);
                    }
                    ErrorCode::None
                }
                Err(error) => error,
            });
        }
        if codes.contains(&ErrorCode::None) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, &mut actions),
                State::PreparingRebalance => self.complete_join_if_all_joined(now, &mut actions),
                State::Empty => {}
            }
        }
        (codes, actions)
    }

    /// Takes an event.
    pub(crate) fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Join(waiter, join) => self.join(waiter, join, now, &mut actions),
            Event::Sync(waiter, sync) => self.sync(waiter, sync, now, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
            Event::Written(result) => self.written(result, now, &mut actions),
        }
        self.check_invariants();
        actions
    }

    /// Every request that waits is answered with `error_code`: the coordinator goes away.
    pub(crate) fn unload(&mut self, error_code: ErrorCode) -> Vec<Action> {
        let mut actions = Vec::new();
        for (member_id, member) in self.members.iter_mut() {
            if let Some(waiter) = member.awaiting_join.take() {
                actions.push(Action::Join(waiter, JoinOutcome::refused(error_code, member_id)));
            }
            if let Some(waiter) = member.awaiting_sync.take() {
                actions.push(Action::Sync(waiter, SyncOutcome::refused(error_code)));
            }
        }
        actions
    }

    fn check_invariants(&self) {
        debug_assert_eq!(
            self.state == State::Empty,
            self.members.is_empty() && !self.is_preparing()
        );
        debug_assert!(
            self.leader
                .as_ref()
                .is_none_or(|leader| self.members.contains_key(leader)),
            "the leader is a member"
        );
        debug_assert!(
            self.static_members
                .values()
                .all(|id| self.members.contains_key(id)),
            "a static member is a member"
        );
        debug_assert!(self.pending_sync.iter().all(|id| self.members.contains_key(id)));
        debug_assert!(self.state != State::Stable || self.protocol.is_some());
        debug_assert!(
            self.members
                .values()
                .all(|member| member.deadline_ms.is_some() || member.waits()),
            "who awaits nothing has a deadline"
        );
        #[cfg(test)]
        assert_eq!(
            (self.bytes(), self.generation_bytes()),
            self.recount(),
            "counted anew"
        );
    }

    fn is_preparing(&self) -> bool {
        self.state == State::PreparingRebalance
    }

    fn move_to(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_since_wall_ms = now.wall_ms;
    }

    fn touch(&mut self, member_id: &str, now: Now) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now.monotonic_ms);
        }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Whether the member is who it says it is.
    fn check_member(&self, identity: &Identity) -> Result<(), ErrorCode> {
        if let Some(instance_id) = &identity.group_instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if *known != identity.member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(&identity.member_id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(())
    }

    /// The id of the member that is meant to leave: an administrator may name a static one by its instance id alone.
    fn leaver(&self, leaving: &Identity) -> Result<String, ErrorCode> {
        if leaving.member_id.is_empty() {
            let instance_id = leaving.group_instance_id.as_ref();
            let known = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            return known.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.pending_members.contains(&leaving.member_id) {
            self.check_member(leaving)?;
        }
        Ok(leaving.member_id.clone())
    }

    /// Removes a member. What it waits for is answered: it may still be there.
    fn dismiss(&mut self, member_id: &str, actions: &mut Vec<Action>) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(waiter) = member.awaiting_join {
            actions.push(Action::Join(
                waiter,
                JoinOutcome::refused(ErrorCode::UnknownMemberId, ""),
            ));
        }
        if let Some(waiter) = member.awaiting_sync {
            actions.push(Action::Sync(
                waiter,
                SyncOutcome::refused(ErrorCode::UnknownMemberId),
            ));
        }
        if let Some(instance_id) = &member.client.group_instance_id {
            self.static_members.remove(instance_id);
            if self.static_members.is_empty() {
                // Whose node would stay.
                self.static_members = BTreeMap::new();
            }
        }
        self.pending_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}

#[cfg(test)]
mod tests;
