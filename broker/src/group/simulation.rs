//! Coordinators in the simulator: committed offsets under crashes, power cuts, snapshots and restarts with another
//! number of shards, against a model of what was promised.
//!
//! `cargo test --release -p millstream --lib simulation`; `MILLSTREAM_SEEDS=0..10000` for the long form,
//! `MILLSTREAM_SEED=N` to repeat one run.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::executor::{Class, Task, spawn};
use ring::simulator::{HostId, Simulator, for_each_seed};
use storage::{
    DirectoryOptions, LogDirectory, PartitionConfig, PartitionSpec, ScrubOptions, ShardLog, ShardOptions,
    TopicPartition,
};
use wire::ErrorCode;

use crate::group::coordinator::{CommitPosition, Coordinator};
use crate::group::machine::{Identity, JoinRequest, Joined, State, SyncRequest};
use crate::group::member::{Client, Opaque, Protocol};
use crate::group::memory::GroupMemory;
use crate::group::stored::Committed;
use crate::shard::context::GroupSettings;
use crate::shard::probe::Census;

mod scripted;

/// Of virtual time, for anything that must end.
const LIMIT: Duration = Duration::from_secs(600);
const RING_BYTES: u64 = 512 << 10;
const LOG_MEMORY_BYTES: usize = 16 << 20;
const DATA: &str = "/data";
const TOPIC_ID: u128 = 9;
/// Partitions of `__consumer_offsets`; a group belongs to the one of its number's remainder.
const PARTITIONS: i32 = 2;
const GROUPS: i32 = 4;
/// Partitions that groups commit offsets of.
const OFFSETS: i32 = 3;
const CRASHES: u32 = 4;
/// Commits of a group that are under way at most.
const WINDOW: usize = 3;
/// How far the groups may go beyond what they may take: what replaces something is taken beside it until it is durable,
/// and one request more moves.
const BEYOND_BYTES: usize = 8 << 10;
/// Names of groups that only take room begin so.
const FILLER: &str = "filler-";

/// What a group was promised: by partition, the newest offset that was acknowledged, or seen.
#[derive(Debug, Default)]
struct Promise {
    kept: BTreeMap<i32, i64>,
    /// The newest that was sent.
    sent: BTreeMap<i32, i64>,
    /// The newest generation whose assignment was told.
    generation: i32,
}

#[derive(Debug, Default)]
struct Model {
    groups: BTreeMap<i32, Promise>,
    next_offset: i64,
    acknowledged: u64,
    refused: u64,
    snapshots: u64,
    /// Of requests that would have taken more than the groups' share.
    without_room: u64,
}

type Shared = Arc<Mutex<Model>>;

fn lock(model: &Shared) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("MILLSTREAM_SEEDS") else {
        return 0..if cfg!(debug_assertions) { 20 } else { 500 };
    };
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from < to => from..to,
        _ => panic!("MILLSTREAM_SEEDS={asked}: say a count, or FROM..TO"),
    }
}

#[test]
fn committed_offsets_never_go_back_and_old_generations_commit_nothing() {
    let totals = Mutex::new((0, 0, 0, 0));
    for_each_seed(seeds(), |seed| {
        let model = run(seed);
        let model = lock(&model);
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.0 += model.acknowledged;
        totals.1 += model.refused;
        totals.2 += model.snapshots;
        totals.3 += model.without_room;
    });
    // What no run has tried is not shown by all of them.
    let (acknowledged, refused, snapshots, without_room) =
        totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{acknowledged} commits acknowledged, {refused} of old generations refused, {without_room} without room, \
         {snapshots} snapshots"
    );
    assert!(acknowledged > 0 && refused > 0 && snapshots > 0 && without_room > 0);
}

fn run(seed: u64) -> Shared {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    let model = Shared::default();
    let mut shards = 2;
    for number in 1..=CRASHES {
        if simulator.random_u64().is_multiple_of(3) {
            shards = 1 + (simulator.random_u64() % 2) as u32;
        }
        let shared = model.clone();
        simulator.start(host, memory_bytes(), move || live(shared, number as i32, shards));
        let longest_us = [5_000, 200_000, 3_000_000][(simulator.random_u64() % 3) as usize];
        let lives_us = simulator.random_u64() % longest_us;
        simulator.run_for(Duration::from_micros(lives_us));
        if simulator.random_u64().is_multiple_of(2) {
            simulator.kill(host);
        } else {
            simulator.power_cut(host);
        }
    }
    check_at_the_end(&mut simulator, host, &model);
    model
}

fn memory_bytes() -> usize {
    3 * LOG_MEMORY_BYTES + (8 << 20)
}

fn check_at_the_end(simulator: &mut Simulator, host: HostId, model: &Shared) {
    let shared = model.clone();
    let ended = simulator.run(host, memory_bytes(), LIMIT, move || async move {
        let (shards, coordinators, memory) = open(99, 1).await;
        check(&shared, &coordinators).await;
        delete_everything(&coordinators).await;
        for (memory, _) in &memory {
            let taken = [&memory.kept, &memory.moving, &memory.waiting].map(|account| account.taken());
            assert_eq!(taken, [0; 3], "nothing is left, and something is taken");
        }
        coordinators.iter().for_each(|coordinator| coordinator.stop());
        for shard in shards {
            shard.stop().await.expect("stopped");
        }
    });
    ended.expect("it ends");
}

/// Serves until the power goes.
async fn live(model: Shared, number: i32, shards: u32) {
    let (_shards, coordinators, memory) = open(number, shards).await;
    check(&model, &coordinators).await;
    let loaded: Vec<usize> = memory.iter().map(|(memory, _)| memory.kept.taken()).collect();
    let mut tasks: Vec<Task<()>> = Vec::new();
    for group in 0..GROUPS {
        let coordinator = coordinators[(group % PARTITIONS) as usize].clone();
        tasks.push(spawn(
            Class::Latency,
            client(model.clone(), coordinator, group, number),
        ));
    }
    for coordinator in &coordinators {
        tasks.push(spawn(Class::Latency, fill(model.clone(), coordinator.clone())));
    }
    let mut starts = coordinators
        .iter()
        .map(|coordinator| coordinator.log_start_offset())
        .collect::<Vec<_>>();
    loop {
        ring::timer::sleep(Duration::from_millis(2)).await;
        for (coordinator, start) in coordinators.iter().zip(&mut starts) {
            let now = coordinator.log_start_offset();
            lock(&model).snapshots += u64::from(now > *start);
            *start = now;
        }
        for ((memory, of), loaded) in memory.iter().zip(&loaded) {
            check_memory(
                memory,
                coordinators.iter().filter(|one| of.contains(&one.partition())),
                *loaded,
            );
        }
    }
}

/// What a shard's groups take is what its coordinators say, and within bounds.
fn check_memory<'a>(
    memory: &GroupMemory,
    coordinators: impl Iterator<Item = &'a Rc<Coordinator>>,
    loaded: usize,
) {
    let taken = (memory.kept.taken(), memory.moving.taken());
    let mut sum = (0, 0);
    for coordinator in coordinators {
        let (kept, moving) = coordinator.memory_taken().expect("loaded");
        sum = (sum.0 + kept, sum.1 + moving);
    }
    assert_eq!(taken, sum, "what the shard's groups take");
    let (kept, moving) = (memory.kept.budget().max(loaded), memory.moving.budget());
    assert!(taken.0 <= kept + BEYOND_BYTES, "{} are kept, of {kept}", taken.0);
    assert!(taken.1 <= moving + BEYOND_BYTES, "{} move, of {moving}", taken.1);
}

/// The accounts of a shard, and the partitions that it coordinates.
type ShardMemory = (GroupMemory, Vec<i32>);

async fn open(leader_epoch: i32, shards: u32) -> (Vec<ShardLog>, Vec<Rc<Coordinator>>, Vec<ShardMemory>) {
    // Less than was kept by an earlier life, or too little for all that comes, or plenty.
    let memory_bytes = [24 << 10, 96 << 10, 1 << 20][(ring::random::next_u64() % 3) as usize];
    open_with(leader_epoch, shards, memory_bytes, settings(), |_| true).await
}

/// The same, of groups with so much memory, where there are these topics.
async fn open_with(
    leader_epoch: i32,
    shards: u32,
    memory_bytes: usize,
    settings: GroupSettings,
    is_there: fn(&str) -> bool,
) -> (Vec<ShardLog>, Vec<Rc<Coordinator>>, Vec<ShardMemory>) {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    let specs: Vec<PartitionSpec> = (0..PARTITIONS)
        .map(|partition| PartitionSpec {
            id: TopicPartition {
                topic_id: TOPIC_ID,
                partition,
            },
            topic: "__consumer_offsets".to_owned(),
            leader_epoch,
            config: PartitionConfig {
                segment_bytes: 64 << 10,
                ..PartitionConfig::default()
            },
        })
        .collect();
    let owner = |id: TopicPartition| id.partition.unsigned_abs() % shards;
    directory
        .prepare_shards(shards, &specs, &BTreeSet::new(), owner)
        .await
        .expect("prepared");
    let mut logs = Vec::new();
    let mut memories = Vec::new();
    let mut coordinators = BTreeMap::new();
    for shard in 0..shards {
        let options = ShardOptions {
            directory: DATA.into(),
            shard,
            memory_bytes: LOG_MEMORY_BYTES,
            direct_bytes_min: 64 << 10,
            open_files_max: 128,
            file_delete_delay: Duration::ZERO,
            retention_check_interval: Duration::from_secs(300),
            scrub: ScrubOptions::OFF,
        };
        let own: Vec<PartitionSpec> = specs
            .iter()
            .filter(|spec| owner(spec.id) == shard)
            .cloned()
            .collect();
        let ids: Vec<TopicPartition> = own.iter().map(|spec| spec.id).collect();
        let (log, _report) = ShardLog::open(options, own, &BTreeSet::new())
            .await
            .expect("opened");
        let memory = GroupMemory::new(memory_bytes);
        for id in &ids {
            let partition = log.partition(*id).expect("it is there");
            let coordinator = Coordinator::start(partition, settings, memory.clone(), is_there);
            coordinators.insert(id.partition, coordinator);
        }
        memories.push((memory, ids.iter().map(|id| id.partition).collect()));
        logs.push(log);
    }
    (logs, coordinators.into_values().collect(), memories)
}

fn settings() -> GroupSettings {
    GroupSettings {
        initial_rebalance_delay_ms: 5,
        min_session_timeout_ms: 1,
        max_session_timeout_ms: 1_000_000,
        max_size: 100,
        offsets_retention_ms: i64::MAX,
        offsets_retention_check_interval: Duration::from_secs(1),
        offset_metadata_max: 4_096,
        memory_bytes: 0,
    }
}

fn name(group: i32) -> String {
    format!("group-{group}")
}

/// Holds what the coordinators know against what was promised.
async fn check(model: &Shared, coordinators: &[Rc<Coordinator>]) {
    for group in 0..GROUPS {
        let coordinator = &coordinators[(group % PARTITIONS) as usize];
        let found = loop {
            let looked = coordinator.look(&name(group), |live, stored| {
                let offsets = (0..OFFSETS).filter_map(|partition| {
                    let committed = stored?.committed("topic", partition)?;
                    Some((partition, committed.offset))
                });
                let generation = stored.and_then(|stored| Some(stored.generation.as_ref()?.generation));
                assert!(
                    live.is_some() || generation.is_none(),
                    "a generation without a group"
                );
                (offsets.collect::<BTreeMap<i32, i64>>(), generation.unwrap_or(0))
            });
            match looked {
                Ok(found) => break found,
                Err(error) => assert_eq!(error, ErrorCode::CoordinatorLoadInProgress),
            }
            ring::timer::sleep(Duration::from_micros(100)).await;
        };
        let mut model = lock(model);
        let promise = model.groups.entry(group).or_default();
        let (offsets, generation) = found;
        for partition in 0..OFFSETS {
            let now = offsets.get(&partition).copied().unwrap_or(-1);
            let kept = promise.kept.get(&partition).copied().unwrap_or(-1);
            let sent = promise.sent.get(&partition).copied().unwrap_or(-1);
            assert!(
                (kept..=sent).contains(&now),
                "group {group}, partition {partition}: {now} is committed; {kept} was promised, {sent} was sent"
            );
            if now >= 0 {
                promise.kept.insert(partition, now);
            }
        }
        assert!(
            generation >= promise.generation || promise.kept.is_empty(),
            "group {group}: generation {generation}, after {}",
            promise.generation
        );
        promise.generation = generation;
    }
    coordinators
        .iter()
        .for_each(|coordinator| check_survey(coordinator));
}

/// What is seen slice by slice is what is seen at one look.
fn check_survey(coordinator: &Coordinator) {
    let mut expected = Vec::new();
    let mut groups = [0; 2];
    coordinator
        .look_at_all(|group, live, stored| {
            let is_empty = live.is_none_or(|live| live.state() == State::Empty);
            groups[usize::from(is_empty)] += 1;
            for (topic, offsets) in stored.iter().flat_map(|stored| &stored.offsets) {
                for (partition, committed) in offsets {
                    expected.push((group.to_owned(), topic.to_string(), *partition, committed.offset));
                }
            }
        })
        .expect("it has read its log");
    let mut seen = Vec::new();
    let mut position = CommitPosition::default();
    let mut look = |group: &str, topic: &str, partition, offset| {
        seen.push((group.to_owned(), topic.to_owned(), partition, offset));
    };
    while coordinator.look_at_commits(&mut position, &mut look) {}
    assert_eq!(seen, expected);
    let mut census = Census::default();
    let mut after = None;
    while let Some(last) = coordinator.count_groups(after.as_deref(), &mut census) {
        after = Some(last);
    }
    let with_members = census.preparing_rebalance + census.completing_rebalance + census.stable;
    assert_eq!([with_members, census.empty], groups);
}

/// A member: joins, commits for a while, joins again. Groups with an odd number have no members, and only commit.
async fn client(model: Shared, coordinator: Rc<Coordinator>, group: i32, life: i32) {
    let group_name = name(group);
    let mut older = None;
    loop {
        let (identity, generation) = if group % 2 == 1 {
            let nobody = who("");
            (nobody, -1)
        } else {
            match join(&coordinator, &group_name, life).await {
                Some(joined) => joined,
                None => {
                    // There may be no room for it.
                    ring::timer::sleep(Duration::from_millis(1)).await;
                    continue;
                }
            }
        };
        if generation > 0 {
            let mut model = lock(&model);
            let promise = model.groups.entry(group).or_default();
            // One that is empty and has committed nothing is removed in time, as in Kafka, and begins anew.
            assert!(
                generation > promise.generation || promise.kept.is_empty(),
                "a generation comes twice"
            );
            promise.generation = generation;
        }
        let mut waiting: Vec<Task<()>> = Vec::new();
        let lost = Rc::new(Cell::new(false));
        for _ in 0..1 + ring::random::next_u64() % 60 {
            if let Some((identity, generation)) = &older
                && ring::random::next_u64().is_multiple_of(10)
            {
                let partition = 0;
                let refused =
                    coordinator.commit(&group_name, identity, *generation, one(partition, i64::MAX));
                assert!(
                    refused.is_err(),
                    "group {group}: generation {generation} is over, and commits"
                );
                lock(&model).refused += 1;
            }
            let partition = (ring::random::next_u64() % OFFSETS as u64) as i32;
            let offset = {
                let mut model = lock(&model);
                model.next_offset += 1;
                let offset = model.next_offset;
                model
                    .groups
                    .entry(group)
                    .or_default()
                    .sent
                    .insert(partition, offset);
                offset
            };
            let committing = coordinator.commit(&group_name, &identity, generation, one(partition, offset));
            let Ok(Some(committed)) = committing else {
                lost.set(true);
                break;
            };
            let shared = model.clone();
            waiting.push(spawn(Class::Latency, async move {
                if committed.await != Some(Ok(())) {
                    return;
                }
                let mut model = lock(&shared);
                model.acknowledged += 1;
                // Two that became durable together are told in either order.
                let kept = model
                    .groups
                    .entry(group)
                    .or_default()
                    .kept
                    .entry(partition)
                    .or_insert(offset);
                *kept = offset.max(*kept);
            }));
            while waiting.len() >= WINDOW {
                waiting.remove(0).await;
            }
            if ring::random::next_u64().is_multiple_of(4) {
                ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 5_000)).await;
            }
        }
        for task in waiting {
            task.await;
        }
        if generation > 0 {
            older = Some((identity, generation));
        }
        if lost.get() {
            ring::timer::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Fills what there is for groups with groups that nobody needs, and deletes some.
async fn fill(model: Shared, coordinator: Rc<Coordinator>) {
    let below = |bound: u64| ring::random::next_u64() % bound;
    let partition = coordinator.partition();
    loop {
        let group = format!("{FILLER}{partition}-{}", below(8));
        let nobody = who("");
        let mut offset = one(below(4) as i32, 1);
        offset[0].2.metadata = Rc::from("x".repeat(below(3_000) as usize));
        let done = match below(8) {
            0 => coordinator.delete(&group).map(Some),
            1 => {
                let gone = [(Rc::from("topic"), below(4) as i32)];
                coordinator.delete_offsets(&group, &gone).map(|(_, taker)| taker)
            }
            2 => {
                let mut join = joining(&format!("filler-{}", ring::random::next_u64()));
                join.must_know_its_id = below(2) == 0;
                join.protocols[0].metadata = Opaque::from(vec![0; below(2_000) as usize]);
                // It leaves again, or its session ends, and what it has committed stays.
                let joined = coordinator.join(&group, join);
                if below(2) == 0 {
                    let joined = joined.told(|_| std::future::ready(())).await;
                    if joined.is_some_and(|joined| joined.error_code == ErrorCode::GroupMaxSizeReached) {
                        lock(&model).without_room += 1;
                    }
                }
                Ok(None)
            }
            3 => leave_all(&coordinator, &group).map(|()| None),
            _ => coordinator.commit(&group, &nobody, -1, offset),
        };
        match done {
            Ok(Some(done)) if below(4) > 0 => drop(done.await),
            Ok(_) => {}
            Err(ErrorCode::InvalidCommitOffsetSize) => lock(&model).without_room += 1,
            Err(
                ErrorCode::CoordinatorNotAvailable
                | ErrorCode::GroupIdNotFound
                | ErrorCode::NonEmptyGroup
                | ErrorCode::UnknownMemberId,
            ) => {}
            Err(error) => panic!("{group}: {error:?}"),
        }
        ring::timer::sleep(Duration::from_micros(below(2_000))).await;
    }
}

/// All members of the group leave.
fn leave_all(coordinator: &Coordinator, group: &str) -> Result<(), ErrorCode> {
    let members = coordinator.look(group, |live, _| {
        let members = live.into_iter().flat_map(|live| live.members().keys());
        members.cloned().collect::<Vec<String>>()
    });
    let leaving = members?.into_iter().map(|member_id| who(&member_id));
    coordinator.leave(group, &leaving.collect::<Vec<_>>()).map(drop)
}

/// Every group is left and deleted.
async fn delete_everything(coordinators: &[Rc<Coordinator>]) {
    for coordinator in coordinators {
        let mut names = Vec::new();
        let all = coordinator.look_at_all(|name, _, _| names.push(name.to_owned()));
        all.expect("it has loaded");
        for name in names {
            leave_all(coordinator, &name).expect("they leave");
            let deleted = coordinator.delete(&name).expect("it is empty");
            assert_eq!(deleted.await, Some(Ok(())));
        }
    }
}

/// A new member of the group, in its next generation, which it leads; what the members before it had is over.
async fn join(coordinator: &Rc<Coordinator>, group: &str, life: i32) -> Option<(Identity, i32)> {
    leave_all(coordinator, group).ok()?;
    let member_id = format!("member-{life}-{}", ring::random::next_u64());
    let joined = coordinator.join(group, joining(&member_id));
    let asked_bytes = Cell::new(0);
    let has_room = |bytes| {
        asked_bytes.set(bytes);
        std::future::ready(())
    };
    let joined = joined
        .told(has_room)
        .await
        .filter(|joined| joined.error_code == ErrorCode::None)?;
    let told_bytes = joined
        .members
        .iter()
        .map(|(member_id, _, metadata)| member_id.len() + metadata.len());
    assert!(
        told_bytes.sum::<usize>() <= asked_bytes.get(),
        "there was room for what was told"
    );
    let identity = who(&joined.member_id);
    let synced = coordinator.sync(group, syncing(&joined, b"all"));
    synced
        .told(|_| std::future::ready(()))
        .await
        .filter(|synced| synced.error_code == ErrorCode::None && &*synced.assignment == b"all")?;
    Some((identity, joined.generation))
}

/// The member of that id; nobody, if it has none.
fn who(member_id: &str) -> Identity {
    Identity {
        member_id: member_id.to_owned(),
        group_instance_id: None,
    }
}

fn syncing(joined: &Joined, assignment: &[u8]) -> SyncRequest {
    SyncRequest {
        member: who(&joined.member_id),
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: BTreeMap::from([(joined.member_id.clone(), Opaque::from(assignment))]),
        room_bytes: 0,
    }
}

fn joining(new_member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: String::new(),
        new_member_id: new_member_id.to_owned(),
        client: Client {
            group_instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
        },
        rebalance_timeout_ms: 1_000,
        session_timeout_ms: 100_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Opaque::from(vec![7; 200]),
        }],
        must_know_its_id: false,
        can_skip_assignment: false,
        room_bytes: 0,
    }
}

fn one(partition: i32, offset: i64) -> Vec<(Rc<str>, i32, Committed)> {
    let committed = Committed {
        offset,
        leader_epoch: -1,
        metadata: Rc::from(""),
        commit_timestamp_ms: 0,
        expire_timestamp_ms: -1,
    };
    vec![(Rc::from("topic"), partition, committed)]
}
