//! What a host and its shards say of themselves while they start, serve, and fail.

use ring::simulator::{DiskOperation, Injection};
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};

use super::*;
use crate::shard::probe::{Commits, ShardCondition, ShardMeasures, ShardProbe};

/// Asks a shard, and gives what it says.
async fn ask<T: Send + 'static>(
    shard: &Sender<ShardProbe>,
    probe: impl FnOnce(Answer<T>) -> ShardProbe,
) -> Option<T> {
    let (answer, awaited) = oneshot();
    shard.send(probe(answer)).await.ok()?;
    awaited.await.ok()
}

async fn condition_of(shard: &Sender<ShardProbe>) -> Option<ShardCondition> {
    ask(shard, |answer| ShardProbe::Condition { answer }).await
}

async fn measures(shard: &Sender<ShardProbe>) -> Option<Box<ShardMeasures>> {
    ask(shard, |answer| ShardProbe::Measures { answer }).await?
}

/// Asks a host.
async fn host_condition(probes: &Sender<Answer<HostCondition>>) -> HostCondition {
    let (answer, awaited) = oneshot();
    assert!(probes.send(answer).await.is_ok());
    awaited.await.expect("it answers")
}

#[test]
fn a_start_can_be_watched_from_its_first_moment_to_the_last() {
    in_simulator(|| async {
        let (probes, probed) = bounded(4);
        let (stop, stopped) = bounded(1);
        let (ready, is_ready) = oneshot();
        let host = spawn(Class::Latency, run(options(2), stopped, ready, probed));
        let mut seen: Vec<(Stage, Vec<Option<ShardCondition>>)> = Vec::new();
        while seen.last().is_none_or(|(stage, _)| *stage != Stage::Serving) {
            let host = host_condition(&probes).await;
            let mut shards = Vec::new();
            for shard in &host.shards {
                let condition = condition_of(shard).await;
                let is_recovered = condition.as_ref().is_some_and(|condition| condition.is_recovered);
                shards.push(condition);
                if !is_recovered && measures(shard).await.is_some() {
                    // It has recovered in between.
                    assert!(condition_of(shard).await.expect("it answers").is_recovered);
                }
            }
            let now = (host.stage, shards);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            ring::timer::sleep(Duration::from_micros(10)).await;
        }
        assert_eq!(seen[0], (Stage::Opening, Vec::new()));
        let is_recovering = |shard: &Option<ShardCondition>| *shard == Some(ShardCondition::default());
        let recovers = |(stage, shards): &(Stage, Vec<Option<ShardCondition>>)| {
            *stage == Stage::Recovering && shards.iter().any(is_recovering)
        };
        assert!(seen.iter().any(recovers), "{seen:?}");
        let serving = Some(ShardCondition {
            is_recovered: true,
            is_serving: true,
            failure: None,
        });
        assert_eq!(
            seen.last(),
            Some(&(Stage::Serving, vec![serving.clone(), serving]))
        );
        is_ready.await.expect("it serves");
        let shards = host_condition(&probes).await.shards;
        assert_eq!(measures(&shards[1]).await.expect("it serves").logs.len(), 1);
        assert_eq!(
            ask(&shards[0], |answer| ShardProbe::Commits { most: 9, answer }).await,
            Some(Commits::default())
        );
        let nobody = TopicPartition {
            topic_id: 1,
            partition: 0,
        };
        let lags = ask(&shards[0], |answer| ShardProbe::Ends {
            asked: vec![(nobody, 0)],
            answer,
        });
        assert_eq!(lags.await, Some(vec![None]));
        // Whether it lives does not wait for what takes long.
        let (answer, mut long) = oneshot();
        let asked = vec![(nobody, 0); 100_000];
        assert!(shards[0].send(ShardProbe::Ends { asked, answer }).await.is_ok());
        assert!(condition_of(&shards[0]).await.is_some());
        let is_there = ring::timer::timeout(Duration::ZERO, &mut long).await;
        assert!(is_there.is_err(), "it waited");
        assert_eq!(long.await.map(|lags| lags.len()), Ok(100_000));
        stop.try_send(()).expect("it runs");
        host.await.expect("a clean stop");
        assert_eq!(condition_of(&shards[0]).await, None, "its thread has ended");
    });
}

#[test]
fn a_shard_whose_disk_fails_says_that_it_is_fenced() {
    let mut simulator = simulator(1);
    let serves = Arc::new(Mutex::new(false));
    let told = Arc::new(Mutex::new(Vec::new()));
    let (is_serving, tells) = (serves.clone(), told.clone());
    simulator.start(BROKER, options(1).control_memory_bytes(), move || async move {
        let roster = Rc::new(Roster::default());
        let mut host = Host::open(options(1), roster.clone()).await.expect("a good disk");
        // Nobody hears that a shard has failed: the host would end.
        let (to_host, _requests) = bounded(REQUESTS_MAX);
        host.start(to_host).await.expect("a good disk");
        let shard = roster.shards.borrow()[0].clone();
        let condition = condition_of(&shard).await.expect("it answers");
        lock_of(&tells).push(condition);
        *is_serving.lock().expect("no panic") = true;
        // By now writes fail.
        ring::timer::sleep(Duration::from_secs(1)).await;
        let (answer, _) = oneshot();
        let failed = host.handle(ControllerRequest::CreateTopics {
            topics: vec![new_topic("a")],
            validate_only: false,
            answer,
        });
        failed.await.expect_err("its partitions cannot be opened");
        let condition = condition_of(&shard).await.expect("it answers");
        lock_of(&tells).push(condition);
    });
    assert!(simulator.run_until(LIMIT, |_| *serves.lock().expect("no panic")));
    let injection = Injection {
        operation: DiskOperation::Write,
        path_contains: "/journal".to_owned(),
        after: 0,
        times: u32::MAX,
        errno: 5,
    };
    simulator.inject(BROKER, injection);
    assert!(simulator.run_until(LIMIT, |_| lock_of(&told).len() == 2));
    let told = lock_of(&told);
    assert_eq!(told[0].failure, None);
    let failure = told[1].failure.as_ref().expect("it has failed");
    assert!(failure.contains("journal"), "{failure}");
}

/// Commits offset 7 of some partitions for a group, at the coordinator that a node names.
pub(super) async fn commit(client: &Client, group: &str, topic: &str, partitions: i32) {
    let request = FindCoordinatorRequest {
        key: group,
        ..FindCoordinatorRequest::default()
    };
    let offsets: Vec<_> = (0..partitions)
        .map(|partition| OffsetCommitPartition {
            partition,
            committed_offset: 7,
            ..OffsetCommitPartition::default()
        })
        .collect();
    let topics = [OffsetCommitTopic {
        name: topic,
        partitions: Array::from_slice(&offsets),
    }];
    let commits = OffsetCommitRequest {
        group_id: group,
        topics: Array::from_slice(&topics),
        ..OffsetCommitRequest::default()
    };
    loop {
        // The topic of the offsets is made by the first who asks, and then the coordinator reads it.
        let _: FindCoordinatorResponse = call(client, 1_000, &request).await.expect("it serves");
        let committed: OffsetCommitResponse = call(client, 1_000, &commits).await.expect("it serves");
        let codes = committed.topics[0].partitions.iter();
        if codes
            .map(|partition| partition.error_code)
            .all(|code| code == ErrorCode::None)
        {
            return;
        }
        ring::timer::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_shard_lists_no_more_committed_offsets_than_it_is_asked_for() {
    let mut simulator = simulator(1);
    let (probes, probed) = bounded(4);
    let (_stop, stopped) = bounded(1);
    simulator.start(BROKER, options(1).control_memory_bytes(), move || async move {
        let (ready, _) = oneshot();
        run(options(1), stopped, ready, probed).await.expect("it serves");
    });
    let listed = simulator.run(CLIENT, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        while host_condition(&probes).await.stage != Stage::Serving {
            ring::timer::sleep(Duration::from_millis(1)).await;
        }
        let client = connect().await.expect("it serves");
        ask_for_topic(&client, "t", PARTITIONS).await.expect("it serves");
        for group in ["g1", "g2"] {
            commit(&client, group, "t", PARTITIONS).await;
        }
        let shard = host_condition(&probes).await.shards.remove(0);
        let mut listed = Vec::new();
        for most in [0, 3, 2 * PARTITIONS as usize - 1, 2 * PARTITIONS as usize, 1_000] {
            let commits = ask(&shard, |answer| ShardProbe::Commits { most, answer }).await;
            listed.push(commits.expect("it answers"));
        }
        listed
    });
    let listed = listed.expect("it ends");
    let all = &listed[4].listed;
    assert_eq!(all.len(), 2 * PARTITIONS as usize);
    let partitions: BTreeSet<(&str, i32)> = all
        .iter()
        .map(|commit| (&*commit.group, commit.partition))
        .collect();
    assert_eq!(partitions.len(), all.len(), "one is listed twice");
    assert!(
        all.iter()
            .all(|commit| (&*commit.topic, commit.offset) == ("t", 7))
    );
    for (commits, most) in listed.iter().zip([0, 3, all.len() - 1, all.len(), all.len()]) {
        assert_eq!(commits.listed, all[..most]);
        assert_eq!(commits.omitted, (all.len() - most) as u64);
    }
}

fn lock_of<T>(shared: &Arc<Mutex<T>>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
