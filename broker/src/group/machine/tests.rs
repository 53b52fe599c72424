use super::*;
use crate::group::member::no_bytes;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;
const DELAY_MS: i32 = 3_000;

/// A group, its clock, and what it has said.
struct World {
    group: Group,
    now_ms: u64,
    next_waiter: u64,
    joined: BTreeMap<Waiter, Joined>,
    synced: BTreeMap<Waiter, Synced>,
    written: Vec<Generation>,
    /// Writes that are not reported yet.
    unreported: usize,
}

impl World {
    fn new() -> World {
        World::with_rules(GroupRules {
            initial_rebalance_delay_ms: DELAY_MS,
            max_size: 100,
        })
    }

    fn with_rules(rules: GroupRules) -> World {
        let mut world = World {
            group: Group::new(
                rules,
                Now {
                    monotonic_ms: 0,
                    wall_ms: 0,
                },
            ),
            now_ms: 0,
            next_waiter: 0,
            joined: BTreeMap::new(),
            synced: BTreeMap::new(),
            written: Vec::new(),
            unreported: 0,
        };
        world.now_ms = 1_000;
        world
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            wall_ms: 1_700_000_000_000 + self.now_ms as i64,
        }
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Join(waiter, outcome) => {
                    let joined = self.group.joined(&outcome);
                    assert!(self.joined.insert(waiter, joined).is_none(), "answered twice");
                }
                Action::Sync(waiter, outcome) => {
                    let synced = self.group.synced(&outcome);
                    assert!(self.synced.insert(waiter, synced).is_none(), "answered twice");
                }
                Action::Write(generation) => {
                    self.written.push(generation);
                    self.unreported += 1;
                }
            }
        }
    }

    fn step(&mut self, event: Event) {
        let now = self.now();
        let actions = self.group.step(event, now);
        self.take(actions);
    }

    fn waiter(&mut self) -> Waiter {
        self.next_waiter += 1;
        Waiter(self.next_waiter)
    }

    fn join(&mut self, join: JoinRequest) -> Waiter {
        let waiter = self.waiter();
        self.step(Event::Join(waiter, join));
        waiter
    }

    fn sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &[u8])]) -> Waiter {
        let waiter = self.waiter();
        let assignments = assignments.iter();
        self.step(Event::Sync(
            waiter,
            SyncRequest {
                member: who(member_id),
                generation,
                protocol_type: None,
                protocol: None,
                assignments: assignments
                    .map(|(id, bytes)| ((*id).to_owned(), Opaque::from(*bytes)))
                    .collect(),
                room_bytes: usize::MAX,
            },
        ));
        waiter
    }

    fn report(&mut self, result: Result<(), ErrorCode>) {
        assert!(self.unreported > 0, "nothing was written");
        self.unreported -= 1;
        self.step(Event::Written(result));
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.step(Event::Tick);
    }

    fn leave(&mut self, member: Identity) -> ErrorCode {
        let now = self.now();
        let (codes, actions) = self.group.leave(&[member], now);
        self.take(actions);
        codes[0]
    }

    fn beat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        let now = self.now();
        self.group.heartbeat(&who(member_id), generation, now)
    }

    fn commit(&mut self, member_id: &str, generation: i32) -> Result<(), ErrorCode> {
        let now = self.now();
        self.group.check_commit(&who(member_id), generation, now)
    }

    /// A stable group of these members, in generation 1; the first joined first.
    fn stable(ids: &[&str]) -> World {
        let mut world = World::new();
        let joins: Vec<Waiter> = ids.iter().map(|id| world.join(new(id))).collect();
        world.pass(DELAY_MS as u64);
        world.pass(DELAY_MS as u64);
        for (waiter, id) in joins.iter().zip(ids) {
            let joined = &world.joined[waiter];
            assert_eq!(
                (joined.error_code, joined.generation),
                (ErrorCode::None, 1),
                "{id}"
            );
        }
        world.settle(ids, 1);
        world
    }

    /// Everybody asks for the generation's assignments; the leader's are written.
    fn settle(&mut self, ids: &[&str], generation: i32) {
        let leader = self.group.leader.clone().expect("a leader");
        let assignments: Vec<(&str, &[u8])> = ids.iter().map(|id| (*id, id.as_bytes())).collect();
        let waiters: Vec<Waiter> = ids
            .iter()
            .map(|id| self.sync(id, generation, if *id == leader { &assignments } else { &[] }))
            .collect();
        assert!(
            waiters.iter().all(|waiter| !self.synced.contains_key(waiter)),
            "told before it is durable"
        );
        self.report(Ok(()));
        for (waiter, id) in waiters.iter().zip(ids) {
            assert_eq!(&*self.synced[waiter].assignment, id.as_bytes());
        }
        assert_eq!(self.group.state(), State::Stable);
    }
}

fn who(member_id: &str) -> Identity {
    Identity {
        member_id: member_id.to_owned(),
        group_instance_id: None,
    }
}

/// A client that is given its id at once, as the oldest are.
fn new(id: &str) -> JoinRequest {
    JoinRequest {
        member_id: String::new(),
        new_member_id: id.to_owned(),
        client: Client {
            group_instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
        },
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        protocol_type: "consumer".to_owned(),
        protocols: protocols(&["range", "sticky"]),
        must_know_its_id: false,
        can_skip_assignment: false,
        room_bytes: usize::MAX,
    }
}

fn again(id: &str) -> JoinRequest {
    JoinRequest {
        member_id: id.to_owned(),
        ..new("nobody")
    }
}

fn fixed(id: &str, instance_id: &str) -> JoinRequest {
    let mut join = new(id);
    join.client.group_instance_id = Some(instance_id.to_owned());
    join
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let names = names.iter();
    names
        .map(|name| Protocol {
            name: (*name).to_owned(),
            metadata: Opaque::from(name.as_bytes()),
        })
        .collect()
}

#[test]
fn the_first_generation_waits_for_more_members() {
    let mut world = World::new();
    let first = world.join(new("a"));
    world.pass(DELAY_MS as u64 - 1);
    let second = world.join(new("b"));
    world.pass(1);
    assert!(world.joined.is_empty(), "a new member extends the delay");
    world.pass(DELAY_MS as u64);
    let (a, b) = (&world.joined[&first], &world.joined[&second]);
    assert_eq!((a.generation, b.generation), (1, 1));
    assert_eq!((a.leader.as_str(), b.leader.as_str()), ("a", "a"));
    assert_eq!(a.members.len(), 2, "the leader learns who is there");
    assert!(b.members.is_empty());
    assert_eq!(a.protocol.as_deref(), Some("range"));
}

#[test]
fn the_first_generation_does_not_wait_longer_than_a_member_would() {
    let mut world = World::new();
    let impatient = |id| JoinRequest {
        rebalance_timeout_ms: 5_000,
        ..new(id)
    };
    let first = world.join(impatient("a"));
    for id in ["b", "c", "d", "e"] {
        world.pass(1_500);
        world.join(impatient(id));
    }
    assert!(world.joined.contains_key(&first), "it has waited for 5 seconds");
}

#[test]
fn a_client_that_can_joins_twice() {
    let mut world = World::new();
    let ask = JoinRequest {
        must_know_its_id: true,
        ..new("a")
    };
    let waiter = world.join(ask);
    let given = &world.joined[&waiter];
    assert_eq!(
        (given.error_code, given.member_id.as_str()),
        (ErrorCode::MemberIdRequired, "a")
    );
    assert_eq!(world.group.state(), State::Empty);
    assert!(!world.group.is_nothing());
    world.join(again("a"));
    assert_eq!(world.group.state(), State::PreparingRebalance);
    // One that never comes is forgotten.
    let mut world = World::new();
    world.join(JoinRequest {
        must_know_its_id: true,
        ..new("a")
    });
    world.pass(SESSION_MS as u64);
    assert!(world.group.is_nothing());
    let late = world.join(again("a"));
    assert_eq!(world.joined[&late].error_code, ErrorCode::UnknownMemberId);
}

#[test]
fn assignments_are_told_when_they_are_durable_and_kept_as_they_were_told() {
    let world = World::stable(&["a", "b"]);
    let stored = &world.written[0];
    assert_eq!(
        (stored.generation, stored.protocol.as_deref()),
        (1, Some("range"))
    );
    assert_eq!(stored.members.len(), 2);
    let restored = Group::restore(world.group.rules, stored, world.now());
    assert_eq!(restored.state(), State::Stable);
    for (id, member) in restored.members().iter() {
        assert_eq!(member.assignment(), world.group.members()[id].assignment());
        assert_eq!(member.deadline_ms, Some(world.now_ms + SESSION_MS as u64));
    }
}

#[test]
fn an_assignment_that_cannot_be_written_is_nobodys() {
    let mut world = World::new();
    let first = world.join(new("a"));
    world.pass(DELAY_MS as u64);
    assert!(world.joined.contains_key(&first));
    let sync = world.sync("a", 1, &[("a", b"all")]);
    world.report(Err(ErrorCode::UnknownServerError));
    assert_eq!(world.synced[&sync].error_code, ErrorCode::UnknownServerError);
    assert_eq!(world.group.state(), State::PreparingRebalance);
    assert_eq!(*world.group.members()["a"].assignment(), no_bytes());
}

#[test]
fn a_generation_that_was_overtaken_while_it_was_written_assigns_nothing() {
    let mut world = World::new();
    world.join(new("a"));
    world.pass(DELAY_MS as u64);
    let sync = world.sync("a", 1, &[("a", b"old")]);
    world.join(new("b"));
    assert_eq!(world.synced[&sync].error_code, ErrorCode::RebalanceInProgress);
    world.join(again("a"));
    assert_eq!(world.group.state(), State::CompletingRebalance);
    world.report(Ok(()));
    assert_eq!(
        world.group.state(),
        State::CompletingRebalance,
        "that was generation 1"
    );
    world.settle(&["a", "b"], 2);
}

#[test]
fn a_newcomer_makes_the_others_join_again() {
    let mut world = World::stable(&["a", "b"]);
    let third = world.join(new("c"));
    assert_eq!(world.beat("a", 1), ErrorCode::RebalanceInProgress);
    assert_eq!(
        world.commit("a", 1),
        Ok(()),
        "what was consumed may still be committed"
    );
    let a = world.join(again("a"));
    assert!(!world.joined.contains_key(&a));
    let b = world.join(again("b"));
    for waiter in [a, b, third] {
        assert_eq!(world.joined[&waiter].generation, 2);
    }
    assert_eq!(world.commit("a", 2), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(world.commit("a", 1), Err(ErrorCode::IllegalGeneration));
    world.settle(&["a", "b", "c"], 2);
    assert_eq!(world.commit("a", 2), Ok(()));
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut world = World::stable(&["a", "b"]);
    let c = world.join(new("c"));
    for _ in 0..REBALANCE_MS / 5_000 {
        world.pass(5_000);
        world.beat("a", 1);
        world.beat("b", 1);
    }
    assert_eq!(world.joined[&c].generation, 2);
    assert_eq!(world.joined[&c].leader, "c", "the leader was out as well");
    assert_eq!(world.group.members().len(), 1);
    assert_eq!(world.beat("a", 1), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit("a", 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_member_that_is_silent_is_out_after_its_session_and_not_before() {
    let mut world = World::stable(&["a", "b"]);
    world.pass(SESSION_MS as u64 - 1);
    assert_eq!(world.beat("b", 1), ErrorCode::None);
    assert_eq!(world.group.members().len(), 2);
    world.pass(1);
    assert_eq!(world.group.members().keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(world.beat("b", 1), ErrorCode::RebalanceInProgress);
    world.join(again("b"));
    world.settle(&["b"], 2);
}

#[test]
fn a_commit_is_as_good_as_a_heartbeat() {
    let mut world = World::stable(&["a"]);
    for _ in 0..5 {
        world.pass(SESSION_MS as u64 - 1);
        assert_eq!(world.commit("a", 1), Ok(()));
    }
    assert_eq!(world.group.state(), State::Stable);
}

#[test]
fn a_member_that_never_asks_for_its_assignment_is_out() {
    let mut world = World::new();
    world.join(new("a"));
    world.join(new("b"));
    world.pass(DELAY_MS as u64);
    world.pass(DELAY_MS as u64);
    let leader = world.sync("a", 1, &[("a", b"x"), ("b", b"y")]);
    world.report(Ok(()));
    assert_eq!(world.synced[&leader].error_code, ErrorCode::None);
    for _ in 0..REBALANCE_MS / 5_000 {
        world.pass(5_000);
        world.beat("a", 1);
        world.beat("b", 1);
    }
    assert_eq!(world.group.members().keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(world.group.state(), State::PreparingRebalance);
}

#[test]
fn leaving_is_at_once_and_the_last_one_empties_the_group() {
    let mut world = World::stable(&["a", "b"]);
    assert_eq!(world.leave(who("nobody")), ErrorCode::UnknownMemberId);
    assert_eq!(world.leave(who("a")), ErrorCode::None);
    let b = world.join(again("b"));
    assert_eq!(world.joined[&b].leader, "b");
    world.settle(&["b"], 2);
    assert_eq!(world.leave(who("b")), ErrorCode::None);
    assert_eq!((world.group.state(), world.group.generation), (State::Empty, 3));
    let stored = world.written.last().expect("written");
    assert_eq!((stored.generation, stored.members.len()), (3, 0));
    assert_eq!(stored.protocol, None);
    world.report(Ok(()));
    assert_eq!(world.commit("", -1), Ok(()), "anybody may reset an empty group");
}

#[test]
fn strangers_do_not_commit_into_a_group_that_has_members() {
    let mut world = World::stable(&["a"]);
    assert_eq!(world.commit("", -1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.commit("a", -1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(world.commit("b", 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_who_used_its_name() {
    let mut world = World::new();
    world.join(fixed("a-1", "a"));
    world.join(fixed("b-1", "b"));
    world.pass(DELAY_MS as u64);
    world.pass(DELAY_MS as u64);
    world.settle(&["a-1", "b-1"], 1);
    let back = world.join(JoinRequest {
        can_skip_assignment: true,
        ..fixed("a-2", "a")
    });
    assert!(
        !world.joined.contains_key(&back),
        "told before its new id is durable"
    );
    world.report(Ok(()));
    let joined = &world.joined[&back];
    assert_eq!((joined.generation, joined.member_id.as_str()), (1, "a-2"));
    assert!(
        joined.skip_assignment,
        "it leads, and the others keep what they have"
    );
    assert_eq!(world.group.state(), State::Stable);
    assert_eq!(
        &**world.group.members()["a-2"].assignment(),
        b"a-1",
        "it keeps what it had"
    );
    let old = Identity {
        member_id: "a-1".into(),
        group_instance_id: Some("a".into()),
    };
    let now = world.now();
    assert_eq!(world.group.heartbeat(&old, 1, now), ErrorCode::FencedInstanceId);
    assert_eq!(
        world.group.check_commit(&old, 1, now),
        Err(ErrorCode::FencedInstanceId)
    );
}

#[test]
fn a_static_member_whose_new_id_cannot_be_written_keeps_the_old_one() {
    let mut world = World::new();
    world.join(fixed("a-1", "a"));
    world.pass(DELAY_MS as u64);
    world.settle(&["a-1"], 1);
    let before = world.group.clone();
    let back = world.join(fixed("a-2", "a"));
    world.report(Err(ErrorCode::UnknownServerError));
    assert_eq!(world.joined[&back].error_code, ErrorCode::UnknownServerError);
    assert_eq!(world.group.members().keys().collect::<Vec<_>>(), ["a-1"]);
    assert_eq!(world.group.static_members, before.static_members);
    assert_eq!(world.group.leader, before.leader);
}

#[test]
fn a_static_member_whose_new_id_is_written_slowly_has_a_session_again() {
    for is_written in [true, false] {
        for can_skip_assignment in [true, false] {
            let mut world = World::new();
            world.join(fixed("a-1", "a"));
            world.pass(DELAY_MS as u64);
            world.settle(&["a-1"], 1);
            let back = world.join(JoinRequest {
                can_skip_assignment,
                ..fixed("a-2", "a")
            });
            world.pass(SESSION_MS as u64);
            assert!(!world.joined.contains_key(&back), "it is not written yet");
            world.report(is_written.then_some(()).ok_or(ErrorCode::UnknownServerError));
            assert!(world.joined.contains_key(&back));
            world.pass(SESSION_MS as u64 - 1);
            assert_eq!(
                world.group.members().len(),
                1,
                "its session began with its answer"
            );
            world.pass(1);
            assert_eq!(world.group.members().len(), 0, "it has not been heard of since");
        }
    }
}

#[test]
fn a_static_member_is_waited_for_over_a_rebalance() {
    let mut world = World::new();
    world.join(fixed("a-1", "a"));
    world.pass(DELAY_MS as u64);
    world.settle(&["a-1"], 1);
    let b = world.join(new("b"));
    world.pass(SESSION_MS as u64 - 1);
    assert!(!world.joined.contains_key(&b));
    world.pass(1);
    assert_eq!(world.joined[&b].generation, 2, "its session is over");
    assert_eq!(world.group.members().len(), 1);
}

#[test]
fn members_without_a_common_protocol_are_refused() {
    let mut world = World::stable(&["a"]);
    let other = |type_name: &str, names: &[&str]| JoinRequest {
        protocol_type: type_name.to_owned(),
        protocols: protocols(names),
        ..new("b")
    };
    for join in [
        other("connect", &["range"]),
        other("consumer", &["mine"]),
        other("consumer", &[]),
    ] {
        let waiter = world.join(join);
        assert_eq!(
            world.joined[&waiter].error_code,
            ErrorCode::InconsistentGroupProtocol
        );
    }
    let good = world.join(other("consumer", &["sticky", "mine"]));
    world.join(again("a"));
    assert_eq!(
        world.joined[&good].protocol.as_deref(),
        Some("sticky"),
        "all know it"
    );
    let mut empty = World::new();
    let waiter = empty.join(other("", &["range"]));
    assert_eq!(
        empty.joined[&waiter].error_code,
        ErrorCode::InconsistentGroupProtocol
    );
    assert!(empty.group.is_nothing());
}

#[test]
fn a_full_group_takes_nobody() {
    let mut world = World::with_rules(GroupRules {
        initial_rebalance_delay_ms: 0,
        max_size: 2,
    });
    world.join(new("a"));
    world.join(new("b"));
    let third = world.join(new("c"));
    assert_eq!(world.joined[&third].error_code, ErrorCode::GroupMaxSizeReached);
    world.pass(0);
    world.pass(0);
    world.settle(&["a", "b"], 1);
    let third = world.join(new("c"));
    assert_eq!(world.joined[&third].error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.group.state(), State::Stable);
}

#[test]
fn a_follower_that_asks_again_changes_nothing_and_the_leader_does() {
    let mut world = World::stable(&["a", "b"]);
    let follower = world.join(again("b"));
    assert_eq!(world.joined[&follower].generation, 1);
    assert_eq!(world.group.state(), State::Stable);
    world.join(again("a"));
    assert_eq!(world.group.state(), State::PreparingRebalance);
}

#[test]
fn a_request_that_is_repeated_while_it_waits_is_answered_both_times() {
    let mut world = World::stable(&["a", "b"]);
    let first = world.join(again("a"));
    let second = world.join(again("a"));
    assert_eq!(world.joined[&first].error_code, ErrorCode::RebalanceInProgress);
    world.join(again("b"));
    assert_eq!(world.joined[&second].generation, 2);
    let first = world.sync("b", 2, &[]);
    let second = world.sync("b", 2, &[]);
    assert_eq!(world.synced[&first].error_code, ErrorCode::RebalanceInProgress);
    assert!(!world.synced.contains_key(&second));
    assert_eq!(world.leave(who("b")), ErrorCode::None);
    assert_eq!(
        world.synced[&second].error_code,
        ErrorCode::UnknownMemberId,
        "it is not left waiting"
    );
}

#[test]
fn sync_is_refused_to_whoever_is_not_of_the_generation() {
    let mut world = World::stable(&["a"]);
    for (member, generation, code) in [
        ("b", 1, ErrorCode::UnknownMemberId),
        ("a", 0, ErrorCode::IllegalGeneration),
        ("a", 2, ErrorCode::IllegalGeneration),
    ] {
        let waiter = world.sync(member, generation, &[]);
        assert_eq!(world.synced[&waiter].error_code, code);
    }
    let waiter = world.waiter();
    let sync = SyncRequest {
        member: who("a"),
        generation: 1,
        protocol_type: Some("consumer".into()),
        protocol: Some("sticky".into()),
        assignments: BTreeMap::new(),
        room_bytes: usize::MAX,
    };
    world.step(Event::Sync(waiter, sync));
    assert_eq!(
        world.synced[&waiter].error_code,
        ErrorCode::InconsistentGroupProtocol
    );
}

#[test]
fn a_coordinator_that_goes_away_answers_all_that_wait() {
    let mut world = World::stable(&["a", "b"]);
    let a = world.join(again("a"));
    let actions = world.group.unload(ErrorCode::NotCoordinator);
    world.take(actions);
    assert_eq!(world.joined[&a].error_code, ErrorCode::NotCoordinator);
}

/// Random members do random things; the invariants of `check_invariants` hold after each, nobody is answered twice, and
/// in the end everybody is answered.
#[test]
fn random_groups_keep_their_promises() {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok();
    let seeds = seeds.and_then(|seeds| {
        let (from, to) = seeds.split_once("..")?;
        Some(from.parse::<u64>().ok()?..to.parse::<u64>().ok()?)
    });
    for seed in seeds.unwrap_or(0..300) {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % bound
        };
        let mut world = World::new();
        let mut asked = Vec::new();
        for step in 0..400 {
            let id = format!("m{}", below(6));
            let instance = format!("i{}", below(2));
            let generation = world.group.generation - i32::from(below(8) == 0);
            match below(12) {
                0 => asked.push((true, world.join(new(&format!("{id}-{step}"))))),
                1 => asked.push((true, world.join(fixed(&format!("{id}-{step}"), &instance)))),
                2..=5 => {
                    let ids: Vec<String> = world.group.members().keys().cloned().collect();
                    for id in ids.iter().filter(|_| below(3) > 0) {
                        let join = JoinRequest {
                            client: world.group.members()[id].client.clone(),
                            ..again(id)
                        };
                        asked.push((true, world.join(join)));
                        if !world.group.members().contains_key(id) {
                            break;
                        }
                    }
                }
                6 | 7 => {
                    let ids: Vec<String> = world.group.members().keys().cloned().collect();
                    for id in &ids {
                        asked.push((false, world.sync(id, generation, &[(id, b"x")])));
                    }
                }
                8 => {
                    let ids: Vec<String> = world.group.members().keys().cloned().collect();
                    if let Some(id) = ids.first() {
                        world.leave(who(id));
                    }
                }
                9 => {
                    let ids: Vec<String> = world.group.members().keys().cloned().collect();
                    for id in &ids {
                        let stable = world.group.state() == State::Stable;
                        let code = world.commit(id, generation);
                        let is_current = generation == world.group.generation;
                        assert!(
                            code.is_err() || is_current,
                            "seed {seed}: an old generation commits"
                        );
                        assert!(
                            !stable
                                || !is_current
                                || code.is_ok()
                                || code == Err(ErrorCode::FencedInstanceId)
                        );
                    }
                }
                10 => world.pass(below(4_000)),
                _ => {
                    if world.unreported > 0 {
                        let result = if below(10) == 0 {
                            Err(ErrorCode::UnknownServerError)
                        } else {
                            Ok(())
                        };
                        world.report(result);
                    }
                }
            }
        }
        while world.unreported > 0 {
            world.report(Ok(()));
        }
        for _ in 0..200 {
            world.pass(10_000);
            while world.unreported > 0 {
                world.report(Ok(()));
            }
        }
        for (is_join, waiter) in asked {
            let answered = if is_join {
                world.joined.contains_key(&waiter)
            } else {
                world.synced.contains_key(&waiter)
            };
            assert!(answered, "seed {seed}: {waiter:?} is never answered");
        }
        assert_eq!(
            world.group.state(),
            State::Empty,
            "seed {seed}: everybody is dead by now"
        );
    }
}

/// What a group takes, and its generation.
fn taken(group: &Group) -> usize {
    group.bytes() + group.generation_bytes()
}

#[test]
fn a_member_that_there_is_no_room_for_is_refused_and_one_that_there_is_room_for_takes_no_more() {
    let mut world = World::new();
    let before = taken(&world.group);
    let large = |room_bytes| JoinRequest {
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Opaque::from(vec![1; 10_000]),
        }],
        room_bytes,
        ..new("a")
    };
    let refused = world.join(large(20_000));
    assert_eq!(world.joined[&refused].error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(
        taken(&world.group),
        before,
        "a member that was refused takes nothing"
    );
    assert!(world.group.is_nothing());
    world.join(large(22_000));
    let grown = taken(&world.group) - before;
    assert!((20_000..=22_000).contains(&grown), "{grown}");
    assert_eq!(world.leave(who("a")), ErrorCode::None);
    assert_eq!(
        taken(&world.group) - before,
        world.group.writes_bytes + text_of_the_group(&world.group)
    );
}

/// What the names take that a group keeps when it is left.
fn text_of_the_group(group: &Group) -> usize {
    2 * group
        .protocol_type
        .as_deref()
        .map_or(0, crate::group::memory::text_bytes)
}

#[test]
fn a_member_may_say_as_much_of_itself_again_but_not_more_than_there_is_room_for() {
    let mut world = World::new();
    world.join(new("a"));
    world.pass(DELAY_MS as u64);
    world.settle(&["a"], 1);
    let again_with = |bytes: usize| JoinRequest {
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Opaque::from(vec![1; bytes]),
        }],
        room_bytes: 0,
        ..again("a")
    };
    let larger = world.join(again_with(10_000));
    assert_eq!(world.joined[&larger].error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.group.state(), State::Stable, "it stays as it was");
    let smaller = world.join(again_with(1));
    assert_eq!(world.joined[&smaller].error_code, ErrorCode::None);
}

#[test]
fn an_assignment_that_there_is_no_room_for_is_refused_and_the_group_goes_on() {
    let mut world = World::new();
    world.join(new("a"));
    world.join(new("b"));
    world.pass(DELAY_MS as u64);
    world.pass(DELAY_MS as u64);
    let sync = |member_id: &str, bytes: usize| SyncRequest {
        member: who(member_id),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: BTreeMap::from([("b".to_owned(), Opaque::from(vec![1; bytes]))]),
        room_bytes: 4_000,
    };
    let (follower, leader) = (world.waiter(), world.waiter());
    world.step(Event::Sync(follower, sync("b", 0)));
    world.step(Event::Sync(leader, sync("a", 10_000)));
    assert_eq!(world.synced[&leader].error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.synced[&follower].error_code, ErrorCode::RebalanceInProgress);
    assert!(world.written.is_empty());
    let (a, b) = (world.join(again("a")), world.join(again("b")));
    assert_eq!((world.joined[&a].generation, world.joined[&b].generation), (2, 2));
    let leader = world.waiter();
    let mut smaller = sync("a", 1_000);
    smaller.generation = 2;
    world.step(Event::Sync(leader, smaller));
    world.report(Ok(()));
    assert_eq!(world.synced[&leader].error_code, ErrorCode::None);
}

#[test]
fn what_the_log_says_twice_counts_once_and_everybody_is_answered() {
    let stored = |member_id: &str, instance_id: &str| crate::group::stored::StoredMember {
        member_id: member_id.to_owned(),
        group_instance_id: Some(instance_id.to_owned()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        subscription: no_bytes(),
        assignment: no_bytes(),
    };
    let mut world = World::new();
    let generation = Generation {
        protocol_type: "consumer".to_owned(),
        generation: 5,
        protocol: Some("range".to_owned()),
        leader: Some("twice".to_owned()),
        since_wall_ms: -1,
        members: vec![stored("twice", "A"), stored("twice", "B"), stored("other", "A")],
    };
    world.group = Group::restore(world.group.rules, &generation, world.now());
    assert_eq!(world.group.members().len(), 1);
    let unknown = Identity {
        member_id: String::new(),
        group_instance_id: Some("B".to_owned()),
    };
    assert_eq!(world.leave(unknown), ErrorCode::UnknownMemberId);
    let known = Identity {
        member_id: String::new(),
        group_instance_id: Some("A".to_owned()),
    };
    assert_eq!(world.leave(known), ErrorCode::None);
    let waiter = world.join(fixed("new", "A"));
    world.pass(DELAY_MS as u64);
    world.pass(DELAY_MS as u64);
    assert_eq!(world.joined[&waiter].error_code, ErrorCode::None);
}

#[test]
fn what_is_told_late_is_what_the_group_has_then_and_leads_nobody_in_what_is_over() {
    let mut world = World::stable(&["a", "b"]);
    world.join(again("a"));
    world.join(again("b"));
    let waiter = world.waiter();
    let now = world.now();
    let actions = world.group.step(Event::Join(waiter, again("a")), now);
    let [Action::Join(_, outcome)] = &actions[..] else {
        panic!("it is told at once: {actions:?}");
    };
    let in_time = world.group.joined(outcome);
    assert_eq!((in_time.generation, in_time.members.len()), (2, 2));
    assert_eq!(in_time.leader, "a");
    assert!(world.group.joined_bytes(outcome) > 0);
    let assigned = SyncOutcome {
        error_code: ErrorCode::None,
        member_id: "b".to_owned(),
        generation: 2,
    };
    world.settle(&["a", "b"], 2);
    assert_eq!(&*world.group.synced(&assigned).assignment, b"b");

    // The next generation begins.
    world.join(again("a"));
    world.join(again("b"));
    let late = world.group.joined(outcome);
    assert_eq!((late.error_code, late.generation), (ErrorCode::None, 2));
    assert_eq!((late.leader.as_str(), late.members.len()), ("", 0));
    assert_eq!(
        late.protocol.as_deref(),
        Some("range"),
        "the client compares it with its own"
    );
    let synced = world.group.synced(&assigned);
    assert_eq!(synced.error_code, ErrorCode::RebalanceInProgress);

    // And then it is not even there.
    assert_eq!(world.leave(who("a")), ErrorCode::None);
    assert_eq!(world.leave(who("b")), ErrorCode::None);
    assert_eq!(world.group.joined(outcome).error_code, ErrorCode::UnknownMemberId);
    assert_eq!(
        world.group.synced(&assigned).error_code,
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn who_became_the_leader_meanwhile_is_not_told_so_without_the_others() {
    let mut world = World::stable(&["a", "b"]);
    let follower = JoinOutcome::in_generation(1, "b");
    assert_eq!(world.group.joined(&follower).leader, "a");
    assert_eq!(world.leave(who("a")), ErrorCode::None);
    assert_eq!(world.group.leader.as_deref(), Some("b"));
    let told = world.group.joined(&follower);
    assert_eq!((told.error_code, told.leader.as_str()), (ErrorCode::None, ""));
}

#[test]
fn protocols_are_known_to_all_until_one_comes_that_does_not_know_them() {
    let mut world = World::stable(&["a", "b"]);
    assert!(world.group.members.all_know("range") && world.group.members.all_know("sticky"));
    let only = |id: &str, name: &str| JoinRequest {
        protocols: protocols(&[name]),
        ..again(id)
    };
    world.join(only("a", "sticky"));
    assert!(!world.group.members.all_know("range"));
    let mut other = new("c");
    other.protocols = protocols(&["range"]);
    let refused = world.join(other);
    assert_eq!(
        world.joined[&refused].error_code,
        ErrorCode::InconsistentGroupProtocol
    );
    world.join(again("b"));
    assert_eq!(world.group.protocol.as_deref(), Some("sticky"));
    assert_eq!(world.leave(who("a")), ErrorCode::None);
    assert!(
        world.group.members.all_know("range"),
        "whoever did not know it has left"
    );
    assert!(!world.group.members.all_know("nobody's"));
}
