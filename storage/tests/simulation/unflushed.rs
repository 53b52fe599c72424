//! Topics whose records are acknowledged when they are written (`flush.messages`, `flush.ms`): what a flush covers, when it
//! comes, and what a power cut may take back.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{DiskFaults, DiskOperation, HostId, Injection, PowerCut, Simulator, for_each_seed};
use storage::{PartitionConfig, PartitionSpec};

use crate::LIMIT;
use crate::plain::{Opened, Place, append, batch, open, read, spec, try_append};

const MEMORY_BYTES: usize = 64 << 20;
/// Kafka's default: never.
const NEVER: u64 = i64::MAX as u64;
/// Everything that was not flushed is gone.
const WORST: PowerCut = PowerCut {
    new: 0.0,
    unreadable: 0.0,
};

/// A topic that is flushed so late.
fn later(topic_id: u128, flush_messages: u64, flush_ms: u64) -> PartitionSpec {
    PartitionSpec {
        config: PartitionConfig {
            flush_messages,
            flush_ms,
            ..PartitionConfig::default()
        },
        ..spec(topic_id, &format!("topic{topic_id}"))
    }
}

/// Flushes of the journal so far, with a write or after it.
fn flushes(opened: &Opened) -> u64 {
    opened.shard.statistics().flushes.buckets.iter().sum()
}

/// Starts a process that does `write`, and ends it when that says that it is done, with everything in memory.
fn until_done<F>(simulator: &mut Simulator, host: HostId, write: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = Opened> + 'static,
{
    let done = Arc::new(Mutex::new(false));
    let told = done.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let _opened = write().await;
        *told.lock().expect("it runs") = true;
        std::future::pending::<()>().await;
    });
    assert!(simulator.run_until(LIMIT, |_| *done.lock().expect("it runs")));
}

/// Opens it again; where each log ends. All before that must be readable.
fn ends(simulator: &mut Simulator, host: HostId, specs: Vec<PartitionSpec>) -> Vec<i64> {
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let ids: Vec<u128> = specs.iter().map(|spec| spec.id.topic_id).collect();
        let opened = open(Place::default(), specs).await.expect("opened");
        let mut ends = Vec::new();
        for id in ids {
            let log = opened.log(id);
            let (mut offset, end) = (log.log_start_offset(), log.log_end_offset());
            while offset < end {
                let found = read(&log, offset).await.expect("read");
                assert_eq!(found.first(), Some(&offset));
                offset += found.len() as i64;
            }
            ends.push(end);
        }
        ends
    });
    ended.expect("it ends")
}

#[test]
fn what_is_written_is_acknowledged_survives_a_kill_and_not_every_power_cut() {
    for (is_power_cut, bytes) in [(false, 100), (false, 90_000), (true, 100), (true, 90_000)] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(256 << 20);
        let specs = || vec![later(7, NEVER, NEVER)];
        until_done(&mut simulator, host, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            let before = flushes(&opened);
            for _ in 0..10 {
                append(&opened.log(7), &batch(1, bytes))
                    .await
                    .expect("acknowledged");
            }
            assert_eq!(flushes(&opened), before, "something was flushed");
            opened
        });
        if is_power_cut {
            simulator.power_cut_with(host, WORST);
            let end = ends(&mut simulator, host, specs())[0];
            assert!(end < 10, "everything was durable");
        } else {
            simulator.kill(host);
            assert_eq!(ends(&mut simulator, host, specs()), [10]);
        }
    }
}

#[test]
fn a_flush_of_another_topic_covers_what_was_written_before() {
    for_each_seed(0..60, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let bytes = [100, 3_000, 90_000][seed as usize % 3];
        let specs = || vec![later(7, NEVER, NEVER), later(8, NEVER, NEVER), spec(9, "first")];
        until_done(&mut simulator, host, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            for _ in 0..10 {
                for id in [7, 8] {
                    append(&opened.log(id), &batch(1, bytes))
                        .await
                        .expect("acknowledged");
                }
            }
            let begun = ring::clock::now();
            append(&opened.log(9), &batch(1, 100))
                .await
                .expect("acknowledged");
            let waited = ring::clock::now() - begun;
            assert!(
                waited < Duration::from_secs(1),
                "it waited for the time of a flush"
            );
            for _ in 0..10 {
                append(&opened.log(7), &batch(1, bytes))
                    .await
                    .expect("acknowledged");
            }
            opened
        });
        simulator.power_cut(host);
        let ends = ends(&mut simulator, host, specs());
        assert!((10..=20).contains(&ends[0]), "{ends:?}");
        assert_eq!(ends[1..], [10, 1]);
    });
}

#[test]
fn a_flush_comes_in_time() {
    for (flush_ms, waits, is_there) in [(50, 60, true), (NEVER, 6_000, true), (NEVER, 60, false)] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(256 << 20);
        let specs = move || vec![later(7, NEVER, flush_ms)];
        until_done(&mut simulator, host, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            append(&opened.log(7), &batch(1, 100))
                .await
                .expect("acknowledged");
            // Later ones do not put it off.
            for _ in 0..waits / 10 {
                ring::timer::sleep(Duration::from_millis(10)).await;
                append(&opened.log(7), &batch(1, 100))
                    .await
                    .expect("acknowledged");
            }
            opened
        });
        simulator.power_cut_with(host, WORST);
        let end = ends(&mut simulator, host, specs())[0];
        assert_eq!(
            end > 0,
            is_there,
            "flush.ms={flush_ms}, {waits} ms: the log ends at {end}"
        );
    }
}

#[test]
fn so_many_bytes_are_flushed_whatever_the_time() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    let specs = || vec![later(7, NEVER, NEVER)];
    until_done(&mut simulator, host, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        // An eighth of the ring, and half as much again.
        for _ in 0..16 {
            append(&opened.log(7), &batch(1, 96 << 10))
                .await
                .expect("acknowledged");
        }
        ring::timer::sleep(Duration::from_millis(5)).await;
        opened
    });
    simulator.power_cut_with(host, WORST);
    let end = ends(&mut simulator, host, specs())[0];
    assert!((10..16).contains(&end), "the log ends at {end}");
}

#[test]
fn fewer_than_flush_messages_are_at_risk_however_many_are_on_their_way() {
    let taken_back = AtomicU64::new(0);
    for_each_seed(0..100, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let specs = || vec![later(7, 10, NEVER)];
        let acknowledged = Arc::new(Mutex::new(0));
        let told = acknowledged.clone();
        simulator.start(host, MEMORY_BYTES, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            let mut writers = Vec::new();
            for _ in 0..2 {
                let (log, told) = (opened.log(7), told.clone());
                writers.push(spawn(Class::Latency, async move {
                    loop {
                        let offset = append(&log, &batch(1, 100)).await.expect("acknowledged");
                        let mut told = told.lock().expect("it runs");
                        *told = (*told).max(offset + 1);
                    }
                }));
            }
            std::future::pending::<()>().await;
        });
        let enough = 1 + (simulator.random_u64() % 300).cast_signed();
        assert!(simulator.run_until(LIMIT, |_| *acknowledged.lock().expect("it runs") >= enough));
        simulator.power_cut_with(host, WORST);
        let acknowledged = *acknowledged.lock().expect("it runs");
        let end = ends(&mut simulator, host, specs())[0];
        assert!(
            end > acknowledged - 10,
            "{acknowledged} were acknowledged, and {end} are there"
        );
        taken_back.fetch_add((acknowledged - end).max(0).unsigned_abs(), Ordering::Relaxed);
    });
    assert!(taken_back.into_inner() > 50, "everything was flushed");
}

/// Flushes take up to so long; writes do not.
fn slow_flushes(longest: Duration) -> DiskFaults {
    DiskFaults {
        stall: 1.0,
        stall_longest: longest,
        stall_only: Some(DiskOperation::Sync),
        ..DiskFaults::default()
    }
}

#[test]
fn what_is_acknowledged_when_it_is_written_does_not_wait_for_flushes() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    simulator.set_disk_faults(host, slow_flushes(Duration::from_secs(1)));
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let specs = vec![later(7, NEVER, NEVER), spec(9, "first")];
        let opened = open(Place::default(), specs).await.expect("opened");
        append(&opened.log(7), &batch(1, 100))
            .await
            .expect("acknowledged");
        let mut was_first = 0;
        for _ in 0..20 {
            let mut waiting = Vec::new();
            // As many records as may be in flight, each with a group of its own, whose flushes take long.
            for _ in 0..2 {
                let appended = try_append(&opened.log(9), &batch(1, 100)).expect("appended");
                let is_over = Rc::new(Cell::new(false));
                let over = is_over.clone();
                let task = spawn(Class::Latency, async move {
                    appended.ticket.committed().await.expect("acknowledged");
                    over.set(true);
                });
                waiting.push((task, is_over));
                ring::timer::sleep(Duration::from_millis(3)).await;
            }
            append(&opened.log(7), &batch(1, 100))
                .await
                .expect("acknowledged");
            was_first += usize::from(waiting.iter().all(|(_, is_over)| !is_over.get()));
            for (task, _) in waiting {
                task.await;
            }
        }
        assert!(was_first > 15, "it waited in {} of 20 cases", 20 - was_first);
    });
    ended.expect("it ends");
}

#[test]
fn what_is_at_risk_is_bounded_however_long_a_flush_takes() {
    // An eighth of the ring makes a flush due, and a group may come on top of twice that; or two times five seconds.
    let cases = [
        (20_000, Duration::ZERO, (3 << 20) / 20_000),
        (100, Duration::from_millis(20), 510),
    ];
    for (bytes, pause, most) in cases {
        let taken_back = AtomicU64::new(0);
        for_each_seed(0..40, |seed| {
            let mut simulator = Simulator::new(seed);
            let host = simulator.host(256 << 20);
            let specs = || vec![later(7, NEVER, NEVER)];
            let acknowledged = Arc::new(Mutex::new(0));
            let told = acknowledged.clone();
            simulator.start(host, MEMORY_BYTES, move || async move {
                let opened = open(Place::default(), specs()).await.expect("opened");
                let log = opened.log(7);
                loop {
                    let offset = append(&log, &batch(1, bytes)).await.expect("acknowledged");
                    *told.lock().expect("it runs") = offset + 1;
                    ring::timer::sleep(pause).await;
                }
            });
            assert!(simulator.run_until(LIMIT, |_| *acknowledged.lock().expect("it runs") > 0));
            simulator.set_disk_faults(host, slow_flushes(Duration::from_secs(60)));
            let lives = simulator.random_u64() % 40_000;
            simulator.run_for(Duration::from_millis(lives));
            simulator.power_cut_with(host, WORST);
            simulator.set_disk_faults(host, DiskFaults::default());
            let end = ends(&mut simulator, host, specs())[0];
            let lost = *acknowledged.lock().expect("it runs") - end;
            assert!(lost <= most, "{lost} records of {bytes} bytes were taken back");
            taken_back.fetch_max(lost.max(0).unsigned_abs(), Ordering::Relaxed);
        });
        let taken_back = taken_back.into_inner();
        assert!(
            taken_back * 2 > most.unsigned_abs(),
            "{taken_back} at most: all was flushed"
        );
    }
}

#[test]
fn records_are_deleted_only_when_they_were_durable() {
    // What is deleted lies in a segment of its own, was never flushed, and is removed by the next migration; a recovery
    // that misses its blocks must be told that they had been there, or it cuts off what was acknowledged after them.
    for_each_seed(0..150, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let specs = || {
            let mut later = later(7, NEVER, NEVER);
            later.config.segment_bytes = 300_000;
            vec![later, spec(9, "first")]
        };
        let is_quiet = seed % 2 == 0;
        let acknowledged = Arc::new(Mutex::new(0));
        let told = acknowledged.clone();
        simulator.start(host, MEMORY_BYTES, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            for _ in 0..8 {
                append(&opened.log(7), &batch(1, 90_000))
                    .await
                    .expect("acknowledged");
                ring::timer::sleep(Duration::from_millis(10)).await;
            }
            assert!(
                opened.shard.statistics().direct_bytes > 0,
                "nothing went to a segment at once"
            );
            opened.log(7).delete_records(8).await.expect("deleted");
            if is_quiet {
                // No record behind it says more than the deletion itself.
                *told.lock().expect("it runs") = 1;
                std::future::pending::<()>().await;
            }
            loop {
                let offset = append(&opened.log(9), &batch(1, 100))
                    .await
                    .expect("acknowledged");
                *told.lock().expect("it runs") = offset + 1;
            }
        });
        assert!(simulator.run_until(LIMIT, |_| *acknowledged.lock().expect("it runs") >= 1));
        let lives = simulator.random_u64() % 6_000;
        simulator.run_for(Duration::from_micros(lives));
        simulator.power_cut(host);
        let acknowledged = *acknowledged.lock().expect("it runs");
        let ends = ends(&mut simulator, host, specs());
        assert_eq!(ends[0], 8);
        assert!(
            is_quiet || ends[1] >= acknowledged,
            "{acknowledged} were acknowledged, and {ends:?} are there"
        );
    });
}

#[test]
fn a_log_that_fails_while_a_flush_is_due_ends() {
    for_each_seed(0..60, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        // Writes are on their way when another has failed, and the time of a flush comes meanwhile.
        simulator.set_disk_faults(
            host,
            DiskFaults {
                stall: 0.2,
                stall_longest: Duration::from_millis(200),
                ..DiskFaults::default()
            },
        );
        let has_begun = Arc::new(Mutex::new(false));
        let told = has_begun.clone();
        let has_failed = Arc::new(Mutex::new(false));
        let failing = has_failed.clone();
        simulator.start(host, MEMORY_BYTES, move || async move {
            let opened = open(Place::default(), vec![later(7, NEVER, 20)])
                .await
                .expect("opened");
            for _ in 0..4 {
                let (log, told) = (opened.log(7), told.clone());
                spawn(Class::Latency, async move {
                    while append(&log, &batch(1, 100)).await.is_ok() {
                        *told.lock().expect("it runs") = true;
                    }
                })
                .detach();
            }
            opened.shard.failed().await;
            ring::timer::sleep(Duration::from_secs(1)).await;
            *failing.lock().expect("it runs") = true;
            std::future::pending::<()>().await;
        });
        assert!(simulator.run_until(LIMIT, |_| *has_begun.lock().expect("it runs")));
        let injection = Injection {
            operation: DiskOperation::Write,
            path_contains: "/journal".to_owned(),
            after: (simulator.random_u64() % 20) as u32,
            times: 1,
            errno: 5,
        };
        simulator.inject(host, injection);
        assert!(simulator.run_until(LIMIT, |_| *has_failed.lock().expect("it runs")));
    });
}

#[test]
fn a_clean_stop_leaves_everything_in_the_segments() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    let specs = || vec![later(7, NEVER, NEVER)];
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        for _ in 0..5 {
            append(&opened.log(7), &batch(1, 3_000))
                .await
                .expect("acknowledged");
        }
        // On its way when the stop begins.
        let last = try_append(&opened.log(7), &batch(1, 3_000)).expect("appended");
        let begun = ring::clock::now();
        opened.shard.stop().await.expect("stopped");
        let took = ring::clock::now() - begun;
        assert!(took < Duration::from_secs(1), "it waited for the time of a flush");
        last.ticket.committed().await.expect("acknowledged");
    });
    ended.expect("it ends");
    simulator.power_cut_with(host, WORST);
    assert_eq!(ends(&mut simulator, host, specs()), [6]);
}
