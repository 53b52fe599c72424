//! Consumers that read a backlog: from the disk once, whoever reads it, and never more than they asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ring::buffer::Slice;
use ring::simulator::{HostId, Simulator};
use storage::{PartitionLog, ShardLog, StorageError};
use wire::BatchHeader;
use wire::record_batch;

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, spec};

/// Bytes of a batch, about.
const BATCH_BYTES: usize = 10_000;
/// Of virtual time: less than the quickest read.
const DISK: Duration = Duration::from_micros(10);
/// What a consumer asks for at a time.
const ASKED_BYTES: usize = 50_000;

/// Logs with so many batches each, all of them in segments alone.
fn written(simulator: &mut Simulator, host: HostId, logs: u128, batches: usize) {
    written_with(simulator, host, logs, batches, BATCH_BYTES);
}

fn written_with(simulator: &mut Simulator, host: HostId, logs: u128, batches: usize, bytes: usize) {
    let ended = simulator.run(
        host,
        2 * Place::default().memory_bytes,
        LIMIT,
        move || async move {
            let opened = open(Place::default(), specs(logs)).await.expect("opened");
            for topic_id in 1..=logs {
                let log = opened.log(topic_id);
                for _ in 0..batches {
                    append(&log, &batch(1, bytes)).await.expect("appended");
                }
            }
            opened.shard.stop().await.expect("stopped");
        },
    );
    ended.expect("it ends");
}

fn specs(logs: u128) -> Vec<storage::PartitionSpec> {
    (1..=logs).map(|id| spec(id, &format!("topic{id}"))).collect()
}

/// What a consumer gets that asks for `bytes` from `offset` on, and the offset that it asks for next.
async fn consume(log: &PartitionLog, offset: i64, bytes: usize) -> Result<(Vec<Slice>, i64), StorageError> {
    let extent = log
        .read(offset, bytes, true, log.high_watermark())
        .expect("there");
    let slices = log.load_for_consumer(extent, true).await?;
    let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
    let mut next = offset;
    for batch in record_batch::batches(&joined) {
        let batch = batch.expect("whole");
        batch.verify_crc().expect("a good CRC");
        let header: &BatchHeader = batch.header();
        assert_eq!(header.base_offset, next, "in order");
        next = header.next_offset();
    }
    Ok((slices, next))
}

/// All of it, one answer after the other.
async fn consume_all(log: &PartitionLog) {
    let mut offset = 0;
    while offset < log.high_watermark() {
        offset = consume(log, offset, ASKED_BYTES).await.expect("readable").1;
    }
}

fn read_bytes(shard: &ShardLog) -> usize {
    shard.statistics().read_bytes as usize
}

#[test]
fn a_backlog_is_read_from_the_disk_once_whoever_reads_it() {
    const BATCHES: usize = 150;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 1, BATCHES);
    let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
        let opened = open(Place::default(), specs(1)).await.expect("opened");
        let log = opened.log(1);
        let begun = read_bytes(&opened.shard);
        consume_all(&log).await;
        let once = read_bytes(&opened.shard) - begun;
        let all = BATCHES * BATCH_BYTES;
        assert!(once >= all, "{once} of {all}");
        assert!(once < all + 3 * ASKED_BYTES, "{once} of {all}");
        assert!(opened.shard.statistics().cached_bytes as usize > all - 2 * ASKED_BYTES);
        // Who comes later finds it, but for the end of the segment, which may still grow.
        for _ in 0..3 {
            let before = read_bytes(&opened.shard);
            consume_all(&log).await;
            let again = read_bytes(&opened.shard) - before;
            assert!(again < ASKED_BYTES, "{again}");
        }
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn what_comes_next_is_read_before_it_is_asked_for() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 1, 100);
    let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
        let opened = open(Place::default(), specs(1)).await.expect("opened");
        let log = opened.log(1);
        let mut offset = 0;
        for answer in 0..8 {
            let begun = ring::clock::now();
            offset = consume(&log, offset, ASKED_BYTES).await.expect("readable").1;
            let took = ring::clock::now() - begun;
            assert!(
                answer < 2 || took < DISK,
                "answer {answer} waited for the disk: {took:?}"
            );
            ring::timer::sleep(Duration::from_millis(500)).await;
        }
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn more_readers_than_the_memory_has_places_for_read_what_they_ask_for() {
    const LOGS: u128 = 40;
    const BATCHES: usize = 30;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(128 << 20);
    written(&mut simulator, host, LOGS, BATCHES);
    let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
        let opened = open(Place::default(), specs(LOGS)).await.expect("opened");
        let begun = read_bytes(&opened.shard);
        let mut offsets = [0; LOGS as usize];
        while offsets.iter().any(|offset| *offset < BATCHES as i64) {
            for (at, offset) in offsets.iter_mut().enumerate() {
                if *offset < BATCHES as i64 {
                    let log = opened.log(at as u128 + 1);
                    *offset = consume(&log, *offset, ASKED_BYTES).await.expect("readable").1;
                }
            }
        }
        let (read, all) = (
            read_bytes(&opened.shard) - begun,
            LOGS as usize * BATCHES * BATCH_BYTES,
        );
        assert!(read < all + all / 2, "{read} of {all}");
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn a_slow_client_keeps_as_much_memory_as_its_answers_have() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written_with(&mut simulator, host, 1, 3_000, 500);
    let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
        let opened = open(Place::default(), specs(1)).await.expect("opened");
        let log = opened.log(1);
        let mut held = Vec::new();
        // From anywhere, and one behind the other.
        for offset in (0..2_400).step_by(8).chain(2_400..2_700) {
            let (slices, next) = consume(&log, offset, 1).await.expect("readable");
            assert_eq!(next, offset + 1, "with {} answers held", held.len());
            held.push(slices);
        }
        drop(held);
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn what_the_disk_cannot_read_is_told_and_what_is_around_it_is_read() {
    const BATCHES: i64 = 100;
    for at in [0, 150_000, 333_000, 800_000] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        written(&mut simulator, host, 1, BATCHES as usize);
        let path = "data/topic1-0/00000000000000000000.log";
        assert!(simulator.make_unreadable(host, path, at).expect("a file"));
        let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
            let opened = open(Place::default(), specs(1)).await.expect("opened");
            let log = opened.log(1);
            let (mut offset, mut lost) = (0, Vec::new());
            while offset < BATCHES {
                match consume(&log, offset, ASKED_BYTES).await {
                    Ok((_, next)) => offset = next,
                    Err(error) => {
                        assert!(error.to_string().contains("00000000000000000000.log"), "{error}");
                        lost.push(offset);
                        offset += 1;
                    }
                }
            }
            opened.shard.stop().await.expect("stopped");
            lost
        });
        let lost = ended.expect("it ends");
        assert!(!lost.is_empty() && lost.len() < 20, "byte {at}: {lost:?}");
    }
}

#[test]
fn beside_commits_a_long_read_is_many_short_ones() {
    let reads = |commits: bool| {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        written(&mut simulator, host, 2, 300);
        let before = simulator.disk_counters(host).reads;
        let ended = simulator.run(
            host,
            2 * Place::default().memory_bytes,
            LIMIT,
            move || async move {
                let opened = open(Place::default(), specs(2)).await.expect("opened");
                let (log, other) = (opened.log(1), opened.log(2));
                let mut offset = 0;
                while offset < 300 {
                    if commits {
                        append(&other, &batch(1, 100)).await.expect("appended");
                    }
                    let extent = log.read(offset, 1 << 20, true, 300).expect("there");
                    let slices = log.load(extent).await.expect("readable");
                    let batches = slices.iter().flat_map(|slice| record_batch::batches(slice));
                    offset += batches.count() as i64;
                }
                // Killed: a stop would read and write more.
            },
        );
        ended.expect("it ends");
        simulator.disk_counters(host).reads - before
    };
    let (alone, beside) = (reads(false), reads(true));
    assert!(
        beside >= alone + 6,
        "{beside} reads beside commits, {alone} without"
    );
}

#[test]
fn what_is_kept_is_given_to_who_wants_memory() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 1, 400);
    let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
        let opened = open(Place::default(), specs(1)).await.expect("opened");
        let log = opened.log(1);
        consume_all(&log).await;
        let begun = ring::clock::now();
        let mut held = Vec::new();
        for offset in [0, 100, 200] {
            let extent = log.read(offset, 1 << 20, true, 400).expect("there");
            held.push(log.load(extent).await.expect("readable"));
        }
        assert!(held.iter().all(|slices| !slices.is_empty()));
        assert!(
            ring::clock::now() - begun < Duration::from_millis(400),
            "nobody waited"
        );
        drop(held);
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn damage_that_only_a_tile_has_is_not_told_and_read_once_more() {
    const PATH: &str = "data/topic1-0/00000000000000000000.log";
    // Beyond the first answer, and read ahead with it.
    const DAMAGE: u64 = 70_000;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 1, 100);
    assert!(simulator.flip_bit(host, PATH, DAMAGE, 3).expect("a file"));
    let phase = Arc::new(AtomicU32::new(0));
    let told = phase.clone();
    simulator.start(host, 2 * Place::default().memory_bytes, move || async move {
        let opened = open(Place::default(), specs(1)).await.expect("opened");
        let log = opened.log(1);
        let (_, mut offset) = consume(&log, 0, ASKED_BYTES).await.expect("readable");
        ring::timer::sleep(Duration::from_secs(1)).await;
        told.store(1, Ordering::Relaxed);
        ring::timer::sleep(Duration::from_secs(1)).await;
        let before = read_bytes(&opened.shard);
        // Somebody else, who begins there.
        consume(&log, 6, ASKED_BYTES).await.expect("the disk has it");
        while offset < 100 {
            offset = consume(&log, offset, ASKED_BYTES)
                .await
                .expect("the disk has it")
                .1;
        }
        consume_all(&log).await;
        let read = read_bytes(&opened.shard) - before;
        assert!(read < 100 * BATCH_BYTES + 3 * ASKED_BYTES, "{read}");
        told.store(2, Ordering::Relaxed);
        std::future::pending::<()>().await;
    });
    assert!(simulator.run_until(LIMIT, |_| phase.load(Ordering::Relaxed) == 1));
    assert!(simulator.flip_bit(host, PATH, DAMAGE, 3).expect("a file"));
    assert!(simulator.run_until(LIMIT, |_| phase.load(Ordering::Relaxed) == 2));
}

#[test]
fn what_comes_before_damage_and_behind_it_is_read() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 1, 20);
    let path = "data/topic1-0/00000000000000000000.log";
    // In the fourth batch.
    assert!(simulator.flip_bit(host, path, 35_000, 3).expect("a file"));
    let ended = simulator.run(host, 2 * Place::default().memory_bytes, LIMIT, || async {
        let opened = open(Place::default(), specs(1)).await.expect("opened");
        let log = opened.log(1);
        for is_consumer in [false, true, true] {
            let load = async |offset: i64| {
                let extent = log.read(offset, 100_000, true, 20).expect("there");
                match is_consumer {
                    true => log.load_for_consumer(extent, true).await,
                    false => log.load(extent).await,
                }
            };
            for (offset, batches) in [(0, 3), (1, 2), (2, 1)] {
                let slices = load(offset).await.expect("what comes before it is whole");
                let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(record_batch::batches(&bytes).count(), batches);
            }
            let error = load(3).await.map(drop).expect_err("it is damaged");
            assert!(error.to_string().contains("CRC"), "{error}");
            assert!(!load(4).await.expect("it is whole").is_empty());
        }
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}
