//! Lives of coordinators that are written out, each to show one thing; a coordinator's partition is 0.

use super::*;
use crate::group::coordinator::Waiting;
use crate::group::coordinators::Coordinators;
use crate::group::machine::{Group, JoinOutcome};

const MEMORY_BYTES: usize = 8 << 20;

/// One life of a host, from a start to an orderly end.
fn life<T: Send + 'static, L: Future<Output = T> + 'static>(
    simulator: &mut Simulator,
    host: HostId,
    settings: GroupSettings,
    is_there: fn(&str) -> bool,
    live: impl FnOnce(Rc<Coordinator>) -> L + Send + 'static,
) -> T {
    let ended = simulator.run(host, memory_bytes() + MEMORY_BYTES, LIMIT, move || async move {
        static EPOCH: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(1);
        let epoch = EPOCH.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (logs, coordinators, _) = open_with(epoch, 1, MEMORY_BYTES, settings, is_there).await;
        let coordinator = coordinators[0].clone();
        while coordinator.look("", |_, _| ()).is_err() {
            ring::timer::sleep(Duration::from_millis(1)).await;
        }
        let result = live(coordinator).await;
        coordinators.iter().for_each(|coordinator| coordinator.stop());
        for log in logs {
            log.stop().await.expect("stopped");
        }
        result
    });
    ended.expect("it ends")
}

/// The same, with the usual settings, where every topic is there.
fn plain_life<T: Send + 'static, L: Future<Output = T> + 'static>(
    simulator: &mut Simulator,
    host: HostId,
    live: impl FnOnce(Rc<Coordinator>) -> L + Send + 'static,
) -> T {
    life(simulator, host, settings(), |_| true, live)
}

/// A commit of `topic`, which is durable when this ends.
async fn commit(coordinator: &Coordinator, group: &str, offset: i64, metadata: &str) {
    let mut offsets = one(0, offset);
    offsets[0].2.metadata = Rc::from(metadata);
    let committed = coordinator.commit(group, &who(""), -1, offsets);
    let committed = committed.expect("taken").expect("something to write");
    assert_eq!(committed.await, Some(Ok(())));
}

fn offset(coordinator: &Coordinator, group: &str) -> Option<i64> {
    let looked = coordinator.look(group, |_, stored| Some(stored?.committed("topic", 0)?.offset));
    looked.expect("it has loaded")
}

#[test]
fn who_reads_sees_what_was_begun_before() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    plain_life(&mut simulator, host, async |coordinator| {
        assert!(coordinator.written_before().is_none(), "nothing is on its way");
        for number in 1..100 {
            let committing = coordinator.commit("group", &who(""), -1, one(0, number));
            assert!(committing.expect("taken").is_some());
            assert_ne!(
                offset(&coordinator, "group"),
                Some(number),
                "it is not durable yet"
            );
            let waited = Coordinators::written_before([&coordinator, &coordinator].into_iter()).await;
            assert_eq!((waited, offset(&coordinator, "group")), (Ok(()), Some(number)));
        }
    });
}

#[test]
fn what_the_log_does_not_keep_up_with_is_refused_until_it_does() {
    let mut simulator = Simulator::new(6);
    let host = simulator.host(1 << 30);
    plain_life(&mut simulator, host, async |coordinator| {
        let offsets = |number| {
            let mut offsets = one(0, number);
            offsets[0].2.metadata = Rc::from("m".repeat(4_000));
            offsets
        };
        // Nothing that is kept becomes more: what moves alone can be too much.
        commit(&coordinator, "group", 0, &"m".repeat(4_000)).await;
        let mut taken = Vec::new();
        let refused = loop {
            match coordinator.commit("group", &who(""), -1, offsets(1)) {
                Ok(committing) => taken.push(committing.expect("something to write")),
                Err(error) => break error,
            }
            assert!(taken.len() * 4_000 < MEMORY_BYTES, "it fills the heap");
        };
        assert_eq!(refused, ErrorCode::CoordinatorNotAvailable);
        for committing in taken {
            assert_eq!(committing.await, Some(Ok(())));
        }
        commit(&coordinator, "group", 2, "").await;
    });
}

#[test]
fn a_log_is_bounded_that_holds_a_generation_as_large_as_a_batch() {
    let mut simulator = Simulator::new(2);
    let host = simulator.host(1 << 30);
    let moved = plain_life(&mut simulator, host, async |coordinator| {
        let largest = coordinator.largest_batch();
        // Others, before and behind it in a snapshot.
        for group in ["a", "z"] {
            commit(&coordinator, group, 1, &"m".repeat(4_000)).await;
        }
        let mut join = joining("member");
        join.protocols[0].metadata = Opaque::from(vec![1; largest - 2_000]);
        let joined = coordinator
            .join("large", join)
            .told(async |_| ())
            .await
            .expect("answered");
        assert_eq!(joined.error_code, ErrorCode::None);
        let request = syncing(&joined, b"");
        let synced = coordinator
            .sync("large", request)
            .told(async |_| ())
            .await
            .expect("answered");
        assert_eq!(synced.error_code, ErrorCode::None);
        let start = coordinator.log_start_offset();
        for number in 0..1_000 {
            commit(&coordinator, "a", number, &"m".repeat(4_000)).await;
        }
        coordinator.log_start_offset() - start
    });
    assert!(
        moved > 500,
        "the log's start has moved by {moved} of 1,000 records"
    );
    let kept = plain_life(&mut simulator, host, async |coordinator| {
        let members = coordinator.look("large", |live, _| live.map(|live| live.members().len()));
        (members, offset(&coordinator, "a"), offset(&coordinator, "z"))
    });
    assert_eq!(kept, (Ok(Some(1)), Some(999), Some(1)), "and nothing is lost");
}

#[test]
fn offsets_of_a_topic_that_was_deleted_before_a_crash_are_not_found_by_another_of_its_name() {
    let mut simulator = Simulator::new(3);
    let host = simulator.host(1 << 30);
    plain_life(&mut simulator, host, async |coordinator| {
        commit(&coordinator, "group", 7, "").await;
    });
    let found = life(
        &mut simulator,
        host,
        settings(),
        |topic| topic != "topic",
        async |coordinator| {
            let waited = Coordinators::written_before(std::iter::once(&coordinator)).await;
            assert_eq!(waited, Ok(()));
            offset(&coordinator, "group")
        },
    );
    assert_eq!(found, None, "in the life that finds its topic gone");
    let found = plain_life(&mut simulator, host, async |coordinator| {
        offset(&coordinator, "group")
    });
    assert_eq!(found, None, "when there is a topic of that name again");
}

#[test]
fn when_an_offset_expires_is_known_after_a_restart() {
    let mut simulator = Simulator::new(4);
    let host = simulator.host(1 << 30);
    let expires_ms = plain_life(&mut simulator, host, async |coordinator| {
        let expires_ms = ring::clock::wall_clock_ms() + 3_600_000;
        let mut offsets = one(0, 7);
        offsets[0].2.expire_timestamp_ms = expires_ms;
        let committed = coordinator.commit("group", &who(""), -1, offsets);
        let committed = committed.expect("taken").expect("something to write");
        assert_eq!(committed.await, Some(Ok(())));
        expires_ms
    });
    let known = plain_life(&mut simulator, host, async |coordinator| {
        coordinator.look("group", |_, stored| {
            Some(stored?.committed("topic", 0)?.expire_timestamp_ms)
        })
    });
    assert_eq!(known, Ok(Some(expires_ms)));
}

#[test]
fn a_group_that_is_too_large_after_a_restart_joins_again() {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(1 << 30);
    plain_life(&mut simulator, host, async |coordinator| {
        let joining = ["one", "two"].map(|member_id| coordinator.join("group", joining(member_id)));
        let mut leader = None;
        for joined in joining {
            let joined = joined.told(async |_| ()).await.expect("answered");
            assert_eq!(joined.error_code, ErrorCode::None);
            if joined.member_id == joined.leader {
                leader = Some(joined);
            }
        }
        let leader = leader.expect("one leads");
        let request = syncing(&leader, b"");
        let synced = coordinator
            .sync("group", request)
            .told(async |_| ())
            .await
            .expect("answered");
        assert_eq!(synced.error_code, ErrorCode::None);
    });
    for (max_size, state) in [(2, State::Stable), (1, State::PreparingRebalance)] {
        let settings = GroupSettings {
            max_size,
            ..settings()
        };
        let found = life(
            &mut simulator,
            host,
            settings,
            |_| true,
            async |coordinator| coordinator.look("group", |live, _| live.map(Group::state)),
        );
        assert_eq!(found, Ok(Some(state)), "at most {max_size}");
    }
}

/// Two members of the group, and the generation that they are in; the first leads.
async fn two_members(coordinator: &Rc<Coordinator>, group: &str) -> (Identity, Identity, i32) {
    let joining = ["one", "two"].map(|member_id| coordinator.join(group, joining(member_id)));
    let mut members = Vec::new();
    for joined in joining {
        let joined = joined.told(async |_| ()).await.expect("answered");
        assert_eq!(joined.error_code, ErrorCode::None);
        members.push(joined);
    }
    members.sort_by_key(|joined| joined.member_id != joined.leader);
    let synced = coordinator.sync(group, syncing(&members[0], b""));
    let synced = synced.told(async |_| ()).await.expect("answered");
    assert_eq!(synced.error_code, ErrorCode::None);
    let [first, second] = [0, 1].map(|place| who(&members[place].member_id));
    (first, second, members[0].generation)
}

/// Joins for as long as its rebalance timeout says, which is long.
fn join_and_wait(coordinator: &Rc<Coordinator>, group: &str, member_id: &str) -> Waiting<JoinOutcome> {
    let mut join = joining(member_id);
    join.rebalance_timeout_ms = i32::MAX;
    coordinator.join(group, join)
}

#[test]
fn long_names_that_wait_stop_nobody_else() {
    let mut simulator = Simulator::new(6);
    let host = simulator.host(1 << 30);
    plain_life(&mut simulator, host, async |coordinator| {
        let (leader, member, generation) = two_members(&coordinator, "group").await;
        let committed = coordinator.commit("group", &member, generation, one(0, 1));
        assert_eq!(committed.expect("taken").expect("written").await, Some(Ok(())));
        // A member of a group with a long name, which does not join again; others do, and wait for it.
        let long = "g".repeat(30_000);
        let joined = join_and_wait(&coordinator, &long, "silent").told(async |_| ());
        assert_eq!(joined.await.expect("answered").error_code, ErrorCode::None);
        let mut waiting = Vec::new();
        let refused = loop {
            let mut join = join_and_wait(&coordinator, &long, &format!("member-{}", waiting.len()));
            if let Some(answered) = join.answered() {
                break answered.error_code;
            }
            waiting.push(join);
            assert!(waiting.len() < 1_000, "there is a bound");
        };
        assert_eq!(refused, ErrorCode::CoordinatorNotAvailable);
        assert!(waiting.len() > 3, "{} wait", waiting.len());

        assert_eq!(
            coordinator.heartbeat("group", &member, generation),
            ErrorCode::None
        );
        let committed = coordinator.commit("group", &member, generation, one(0, 2));
        assert_eq!(committed.expect("taken").expect("written").await, Some(Ok(())));
        let newcomer = coordinator.join("group", joining("newcomer"));
        let [leader, member] = [leader, member].map(|member| {
            let mut again = joining("");
            again.member_id = member.member_id;
            coordinator.join("group", again)
        });
        let leader = leader.told(async |_| ()).await.expect("answered");
        for joined in [member, newcomer] {
            let joined = joined.told(async |_| ()).await.expect("answered");
            assert_eq!(
                (joined.error_code, joined.generation),
                (ErrorCode::None, generation + 1)
            );
        }
        let synced = coordinator.sync("group", syncing(&leader, b""));
        let synced = synced.told(async |_| ()).await.expect("answered");
        assert_eq!(synced.error_code, ErrorCode::None);
        let offset = [(Rc::from("other"), 0)];
        assert!(coordinator.delete_offsets("group", &offset).is_ok());

        // Those who go away make room.
        waiting.clear();
        let mut join = join_and_wait(&coordinator, &long, "late");
        assert!(join.answered().is_none(), "it may wait");
    });
}

#[test]
fn what_a_group_has_on_its_way_is_its_own() {
    let mut simulator = Simulator::new(7);
    let host = simulator.host(1 << 30);
    plain_life(&mut simulator, host, async |coordinator| {
        for round in 0..50 {
            // Of some, something is durable; all of it is replaced, or deleted, while it is on its way.
            let mut writing = Vec::new();
            for group in ["a", "b", "c", "a", "b"] {
                let committing = coordinator.commit(group, &who(""), -1, one(0, round));
                writing.push(committing.expect("taken").expect("written"));
            }
            if round % 2 == 0 {
                writing.push(coordinator.delete("b").expect("it is there"));
                assert_eq!(coordinator.delete("b").err(), Some(ErrorCode::GroupIdNotFound));
                writing.extend(coordinator.topics_deleted(&["topic".to_owned()].into()));
            }
            for group in ["a", "c"] {
                let deleted = coordinator.delete(group);
                assert_eq!(deleted.is_ok(), round % 2 == 1, "{group}, round {round}");
                writing.extend(deleted);
            }
            for written in writing {
                assert_eq!(written.await, Some(Ok(())));
            }
            let left = ["a", "b", "c"].map(|group| offset(&coordinator, group));
            assert_eq!(left, [None, (round % 2 == 1).then_some(round), None]);
        }
    });
}
