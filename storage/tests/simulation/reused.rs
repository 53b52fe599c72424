//! Files of removed segments, written over by those that come next: what is read is what was written there last, the disk is
//! no fuller than without, and they go when nobody needs them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::file::{Allocate, File, OpenOptions};
use ring::simulator::{HostId, PowerCut, Simulator};
use storage::{PartitionConfig, PartitionLog, ScrubOptions};
use wire::record_batch::batches;

use crate::LIMIT;
use crate::plain::load_either;
use crate::retention::{MEMORY_BYTES, append, open_with, segments};

const SEGMENT_BYTES: u64 = 128 << 10;
/// `retention.bytes`; it is looked at once a second.
const KEPT: u64 = 1 << 20;
/// Of a record: enough for a direct write, and fifteen fill a segment.
const VALUE_BYTES: usize = 8_500;

fn config() -> PartitionConfig {
    PartitionConfig {
        segment_bytes: SEGMENT_BYTES as u32,
        retention_bytes: Some(KEPT),
        ..PartitionConfig::default()
    }
}

/// Appends so many batches, about 400 kB a second; each says by its timestamp which it is.
async fn write(log: &PartitionLog, count: i64) {
    for _ in 0..count {
        let number = log.log_end_offset();
        assert_eq!(append(log, 1_000 + number, VALUE_BYTES).await, number);
        ring::timer::sleep(Duration::from_millis(20)).await;
    }
}

/// Holds every batch against what was written.
async fn check(log: &PartitionLog) {
    let (mut number, end) = (log.log_start_offset(), log.high_watermark());
    while number < end {
        let extent = log.read(number, 64 << 10, true, end).expect("within the log");
        let slices = load_either(log, extent).await.expect("read");
        for batch in slices.iter().flat_map(|slice| batches(slice)) {
            let batch = batch.expect("a batch");
            batch.verify_crc().expect("a good CRC");
            let header = batch.header();
            assert_eq!(
                (header.base_offset, header.max_timestamp_ms),
                (number, 1_000 + number)
            );
            number += 1;
        }
    }
}

/// Bytes of the files that are kept.
fn spare_bytes(simulator: &Simulator, host: HostId) -> u64 {
    let files = segments(simulator, host);
    let spares = files.iter().filter(|(path, _)| path.ends_with(".log.deleted"));
    spares.map(|(_, bytes)| bytes).sum()
}

#[test]
fn segments_that_come_next_are_written_over_those_that_went_and_the_disk_is_no_fuller() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    simulator.start(host, MEMORY_BYTES, || async {
        let (_directory, shard, log) = open_with(config(), ScrubOptions::OFF).await;
        write(&log, 1_000).await;
        check(&log).await;
        let statistics = shard.statistics();
        assert!(
            statistics.removed_segments > 40 && statistics.reused_segments + 8 > statistics.removed_segments,
            "{statistics:?}"
        );
        shard.stop().await.expect("stopped");
    });
    let (mut most, mut most_spare) = (0, 0);
    while simulator.is_running(host) {
        simulator.run_for(Duration::from_millis(50));
        most = most.max(segments(&simulator, host).iter().map(|(_, bytes)| bytes).sum());
        most_spare = most_spare.max(spare_bytes(&simulator, host));
    }
    assert!(most_spare >= SEGMENT_BYTES / 2, "nothing was kept");
    // Without spares it has what is kept, what comes between two looks, the segment that is written, and its indexes.
    let second = 50 * (VALUE_BYTES as u64 + 100);
    assert!(most < KEPT + 2 * second + 2 * SEGMENT_BYTES, "{most} bytes");
    assert_eq!(spare_bytes(&simulator, host), 0, "a clean stop leaves none");
}

#[test]
fn what_is_written_over_an_old_file_outlives_a_power_cut_and_what_is_left_of_them_goes() {
    for life in 0..8 {
        let mut simulator = Simulator::new(life);
        let host = simulator.host(64 << 20);
        let (acknowledged, reused) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicU64::new(0)));
        let (acknowledges, reuses) = (acknowledged.clone(), reused.clone());
        simulator.start(host, MEMORY_BYTES, || async move {
            let (_directory, shard, log) = open_with(config(), ScrubOptions::OFF).await;
            loop {
                write(&log, 1).await;
                acknowledges.store(log.log_end_offset(), Ordering::Relaxed);
                reuses.store(shard.statistics().reused_segments, Ordering::Relaxed);
            }
        });
        simulator.run_for(Duration::from_secs(8));
        assert!(simulator.run_until(LIMIT, |simulator| spare_bytes(simulator, host) > 0));
        simulator.run_for(Duration::from_millis(life * 37));
        simulator.power_cut_with(
            host,
            PowerCut {
                new: life as f64 / 8.0,
                unreadable: 0.0,
            },
        );
        assert!(reused.load(Ordering::Relaxed) > 3);
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let (_directory, shard, log) = open_with(config(), ScrubOptions::OFF).await;
            let end = log.log_end_offset();
            assert!(end >= acknowledged, "{end} of {acknowledged} batches");
            check(&log).await;
            ring::timer::sleep(Duration::from_millis(500)).await;
            std::mem::forget(shard);
        });
        ended.expect("it ends");
        assert_eq!(spare_bytes(&simulator, host), 0);
    }
}

#[test]
fn a_log_that_nobody_writes_to_any_more_keeps_none() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    simulator.start(host, MEMORY_BYTES, || async {
        let (_directory, _shard, log) = open_with(config(), ScrubOptions::OFF).await;
        write(&log, 400).await;
        std::future::pending::<()>().await;
    });
    assert!(simulator.run_until(LIMIT, |simulator| spare_bytes(simulator, host) > 0));
    simulator.run_for(Duration::from_secs(60));
    assert_eq!(spare_bytes(&simulator, host), 0);
}

#[test]
fn a_log_that_is_written_to_more_slowly_keeps_fewer() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let is_slow = Arc::new(AtomicBool::new(false));
    let slows = is_slow.clone();
    simulator.start(host, MEMORY_BYTES, || async move {
        let (_directory, _shard, log) = open_with(config(), ScrubOptions::OFF).await;
        loop {
            write(&log, 1).await;
            if slows.load(Ordering::Relaxed) {
                ring::timer::sleep(Duration::from_millis(500)).await;
            }
        }
    });
    assert!(
        simulator.run_until(LIMIT, |simulator| spare_bytes(simulator, host)
            > 2 * SEGMENT_BYTES)
    );
    is_slow.store(true, Ordering::Relaxed);
    // Not one segment is begun within the last two looks.
    simulator.run_for(Duration::from_millis(3_500));
    assert_eq!(spare_bytes(&simulator, host), 0);
}

#[test]
fn none_are_kept_when_the_disk_is_nearly_full_whoever_fills_it() {
    const OTHERS: &str = "/others";
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    simulator.start(host, MEMORY_BYTES, || async {
        let (_directory, _shard, log) = open_with(config(), ScrubOptions::OFF).await;
        let writing = spawn(Class::Latency, async move { write(&log, i64::MAX).await });
        ring::timer::sleep(Duration::from_secs(10)).await;
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        let file = File::open(Path::new(OTHERS), options).await.expect("made");
        file.allocate(0..59 << 20, Allocate::Extend)
            .await
            .expect("there is room");
        ring::timer::sleep(Duration::from_secs(20)).await;
        file.set_len(0).await.expect("cut");
        writing.await;
    });
    let is_full = |simulator: &Simulator| simulator.files(host).contains(&(OTHERS.to_owned(), 59 << 20));
    assert!(simulator.run_until(LIMIT, is_full));
    assert!(simulator.run_until(LIMIT, |simulator| spare_bytes(simulator, host) > 0));
    // It is looked at every ten seconds.
    simulator.run_for(Duration::from_secs(12));
    for _ in 0..100 {
        simulator.run_for(Duration::from_millis(50));
        assert_eq!(spare_bytes(&simulator, host), 0);
    }
    assert!(simulator.run_until(LIMIT, |simulator| spare_bytes(simulator, host) > 0));
}
