//! Old segments go by themselves: the active one too, by a clock that does not jump, and the disk stays bounded.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::simulator::{DiskOperation, HostId, Injection, Simulator};
use storage::{
    AppendError, DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ScrubOptions,
    ShardLog, ShardOptions, TopicPartition,
};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

use crate::LIMIT;
use crate::life::{DATA, LOG_MEMORY_BYTES, RING_BYTES};

pub(crate) const MEMORY_BYTES: usize = 64 << 20;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR_MS: i64 = 365 * 24 * 3_600_000;
pub(crate) const ID: TopicPartition = TopicPartition {
    topic_id: 7,
    partition: 0,
};

async fn open(config: PartitionConfig) -> (LogDirectory, ShardLog, PartitionLog) {
    open_with(config, ScrubOptions::OFF).await
}

/// A log of one partition.
pub(crate) async fn open_with(
    config: PartitionConfig,
    scrub: ScrubOptions,
) -> (LogDirectory, ShardLog, PartitionLog) {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    let specs = vec![PartitionSpec {
        id: ID,
        topic: "topic".to_owned(),
        leader_epoch: 1,
        config,
    }];
    directory
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await
        .expect("prepared");
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: LOG_MEMORY_BYTES,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        direct_bytes_min: 8 << 10,
        retention_check_interval: Duration::from_secs(1),
        scrub,
    };
    let (shard, _) = ShardLog::open(options, specs, &BTreeSet::new())
        .await
        .expect("opened");
    let log = shard.partition(ID).expect("it is there");
    (directory, shard, log)
}

fn config(retention_ms: u64) -> PartitionConfig {
    PartitionConfig {
        segment_bytes: 64 << 10,
        retention_ms: Some(retention_ms),
        ..PartitionConfig::default()
    }
}

/// One batch of one record, of that time and size. Durable when it returns.
pub(crate) async fn append(log: &PartitionLog, timestamp_ms: i64, value_bytes: usize) -> i64 {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![7; value_bytes];
    builder.push(&NewRecord {
        timestamp_ms,
        value: Some(&value),
        ..NewRecord::default()
    });
    let bytes = builder.build();
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
    loop {
        match log.append(&bytes, &header) {
            Ok(appended) => {
                appended.ticket.committed().await.expect("durable");
                return appended.base_offset;
            }
            Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                ring::timer::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn begins_at(log: &PartitionLog, offset: i64) {
    while log.log_start_offset() < offset {
        ring::timer::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(log.log_start_offset(), offset);
}

/// The log's segment files, and their bytes.
pub(crate) fn segments(simulator: &Simulator, host: HostId) -> Vec<(String, u64)> {
    let mut files = simulator.files(host);
    files.retain(|(path, _)| path.contains("/topic-0/") && !path.ends_with("partition.metadata"));
    files
}

#[test]
fn an_idle_log_that_is_too_old_is_emptied_to_its_last_byte_and_goes_on() {
    for ends_cleanly in [true, false] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let (_directory, shard, log) = open(config(5_000)).await;
            for _ in 0..3 {
                append(&log, ring::clock::wall_clock_ms(), 30_000).await;
            }
            begins_at(&log, 3).await;
            while shard.statistics().removed_segments < 2 {
                ring::timer::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(log.size_bytes(), 0);
            assert!(shard.statistics().removed_bytes > 90_000);
            if ends_cleanly {
                shard.stop().await.expect("stopped");
            }
        });
        ended.expect("the log is emptied");
        if !ends_cleanly {
            simulator.power_cut(host);
        }
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let (_directory, shard, log) = open(config(5_000)).await;
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (3, 3));
            assert_eq!(log.size_bytes(), 0);
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        let left = segments(&simulator, host);
        assert!(left.is_empty(), "{left:?}, ended cleanly: {ends_cleanly}");
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let (_directory, shard, log) = open(config(600_000)).await;
            assert_eq!(append(&log, ring::clock::wall_clock_ms(), 10).await, 3);
            let extent = log.read(3, 1 << 20, true, 4).expect("it is there");
            assert_eq!(log.load(extent).await.expect("readable").len(), 1);
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        let names: Vec<String> = segments(&simulator, host)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert!(
            names.iter().all(|name| name.contains("/00000000000000000003.")),
            "{names:?}"
        );
    }
}

/// Base offsets of the segments that have files, in their order.
fn bases(simulator: &Simulator, host: HostId) -> BTreeSet<i64> {
    let files = segments(simulator, host);
    let name = |path: &str| {
        path.rsplit('/')
            .next()
            .map(|name| name[..20].parse().expect("a segment's"))
    };
    files.iter().filter_map(|(path, _)| name(path)).collect()
}

/// A log of some segments, of which the first are deleted; their files stay for a minute. Once they are there
/// without their records, `then` goes on.
fn leaving(then: impl FnOnce(&mut Simulator, HostId)) {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let is_deleted = Arc::new(Mutex::new(false));
    let told = is_deleted.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let config = PartitionConfig {
            segment_bytes: 64 << 10,
            file_delete_delay_ms: 60_000,
            ..PartitionConfig::default()
        };
        let (_directory, shard, log) = open(config).await;
        for _ in 0..10 {
            append(&log, 1, 30_000).await;
        }
        log.delete_records(6).await.expect("deleted");
        while log.size_bytes() > 130_000 {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        *told.lock().expect("it runs") = true;
        ring::timer::sleep(2 * MINUTE).await;
        shard.stop().await.expect("stopped");
    });
    assert!(simulator.run_until(LIMIT, |_| *is_deleted.lock().expect("it runs")));
    assert_eq!(bases(&simulator, host), BTreeSet::from([0, 2, 4, 6, 8]));
    then(&mut simulator, host);
}

#[test]
fn files_of_deleted_segments_stay_for_as_long_as_their_topic_says() {
    leaving(|simulator, host| {
        simulator.run_for(MINUTE - SECOND);
        assert_eq!(bases(simulator, host), BTreeSet::from([0, 2, 4, 6, 8]));
        simulator.run_for(2 * SECOND);
        assert_eq!(bases(simulator, host), BTreeSet::from([6, 8]));
    });
}

#[test]
fn a_shorter_delay_holds_for_what_is_deleted_from_then_on() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let late = |file_delete_delay_ms| PartitionConfig {
            file_delete_delay_ms,
            ..config(u64::MAX)
        };
        let (_directory, shard, log) = open(late(u64::MAX)).await;
        for _ in 0..10 {
            append(&log, 1, 30_000).await;
        }
        for (offset, delay_ms) in [(2, u64::MAX), (4, 1_000)] {
            log.set_config(late(delay_ms));
            let before = log.size_bytes();
            log.delete_records(offset).await.expect("deleted");
            while log.size_bytes() == before {
                ring::timer::sleep(Duration::from_millis(10)).await;
            }
        }
        ring::timer::sleep(2 * SECOND).await;
        assert_eq!(shard.statistics().removed_segments, 1);
    });
    ended.expect("it ends");
    assert_eq!(bases(&simulator, host), BTreeSet::from([0, 4, 6, 8]));
}

/// The disk has room, but its owner may have no more of it.
#[test]
fn files_of_deleted_segments_go_at_once_when_the_disk_takes_no_more() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let is_deleted = Arc::new(AtomicBool::new(false));
    let told = is_deleted.clone();
    let removed = Arc::new(Mutex::new(None));
    let seen = removed.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let (_directory, shard, log) = open(PartitionConfig {
            file_delete_delay_ms: u64::MAX,
            ..config(u64::MAX)
        })
        .await;
        for _ in 0..10 {
            append(&log, 1, 30_000).await;
        }
        log.delete_records(6).await.expect("deleted");
        ring::timer::sleep(SECOND).await;
        assert_eq!(shard.statistics().removed_segments, 0);
        told.store(true, Ordering::Relaxed);
        // A migration meets the fault, long before the disk is nearly full.
        for _ in 0..300 {
            append(&log, 1, 30_000).await;
        }
        *seen.lock().expect("it runs") = Some(shard.statistics().removed_segments);
    });
    assert!(simulator.run_until(LIMIT, |_| is_deleted.load(Ordering::Relaxed)));
    const EDQUOT: i32 = 122;
    simulator.inject(
        host,
        Injection {
            operation: DiskOperation::Write,
            path_contains: ".log".to_owned(),
            after: 0,
            times: 1,
            errno: EDQUOT,
        },
    );
    assert!(simulator.run_until(LIMIT, |_| removed.lock().expect("it runs").is_some()));
    assert_eq!(*removed.lock().expect("it runs"), Some(3));
}

#[test]
fn files_of_deleted_segments_do_not_outlast_what_ends_their_log() {
    let reopened = |simulator: &mut Simulator, host| {
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let (_directory, shard, log) = open(config(u64::MAX)).await;
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (6, 10));
            ring::timer::sleep(SECOND).await;
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        assert_eq!(bases(simulator, host), BTreeSet::from([6, 8]));
    };
    leaving(|simulator, host| {
        simulator.power_cut(host);
        reopened(simulator, host);
    });
    // A stop removes them itself: for other tools they would be a part of the log.
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let late = PartitionConfig {
            file_delete_delay_ms: 60_000,
            ..config(u64::MAX)
        };
        let (_directory, shard, log) = open(late).await;
        for _ in 0..10 {
            append(&log, 1, 30_000).await;
        }
        log.delete_records(4).await.expect("deleted");
        while log.size_bytes() > 190_000 {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        log.delete_records(6).await.expect("deleted");
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    assert_eq!(bases(&simulator, host), BTreeSet::from([6, 8]));
}

#[test]
fn what_is_appended_while_a_log_is_emptied_begins_a_segment_of_its_own() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let (_directory, shard, log) = open(config(u64::MAX)).await;
        append(&log, 1, 1_000).await;
        // Not awaited: its entry is in the journal before the next batch's, and not durable when that is appended.
        let deletion = log.delete_records(1);
        let mut deletion = std::pin::pin!(deletion);
        std::future::poll_fn(|context| {
            assert!(deletion.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        assert_eq!(log.log_start_offset(), 0);
        let both = log.size_bytes() + append(&log, 1, 10).await.unsigned_abs();
        deletion.await.expect("deleted");
        while log.size_bytes() >= both {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (1, 2));
        shard.stop().await.expect("stopped");
    });
    ended.expect("the first batch's segment goes");
    assert!(
        segments(&simulator, host)
            .iter()
            .all(|(name, _)| name.contains("/00000000000000000001."))
    );
}

#[test]
fn a_log_that_is_written_to_all_the_time_keeps_its_size() {
    const KEPT: u64 = 256 << 10;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let kept = PartitionConfig {
            segment_bytes: 64 << 10,
            retention_bytes: Some(KEPT),
            ..PartitionConfig::default()
        };
        let (_directory, shard, log) = open(kept).await;
        let mut largest = 0;
        for _ in 0..1_000 {
            // 8 MB, at 128 kB between two looks.
            append(&log, 1, 8_000).await;
            ring::timer::sleep(Duration::from_millis(60)).await;
            largest = largest.max(log.size_bytes());
        }
        assert!(
            largest < KEPT + (64 << 10) + 2 * (136 << 10),
            "it has had {largest} bytes"
        );
        shard.stop().await.expect("stopped");
        assert!(log.size_bytes() >= KEPT, "no more goes than has to");
    });
    ended.expect("it ends");
    let bytes: u64 = segments(&simulator, host).iter().map(|(_, bytes)| bytes).sum();
    assert!(
        bytes < KEPT + (64 << 10) + 2 * (136 << 10),
        "{bytes} bytes on the disk"
    );
}

/// What a log was and does, told to a test that moves its clock.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    start: i64,
    end: i64,
    ahead_ms: i64,
    /// Batches that are wanted.
    wanted: i64,
}

/// Runs a log, appends when it is told to, and tells.
fn run(simulator: &mut Simulator, host: HostId, config: PartitionConfig) -> Arc<Mutex<Told>> {
    let told = Arc::new(Mutex::new(Told::default()));
    let inside = told.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let (_directory, shard, log) = open(config).await;
        loop {
            let wanted = inside.lock().expect("it runs").wanted;
            if wanted > log.log_end_offset() {
                append(&log, ring::clock::wall_clock_ms(), 100).await;
            }
            {
                let mut told = inside.lock().expect("it runs");
                (told.start, told.end) = (log.log_start_offset(), log.log_end_offset());
                told.ahead_ms = shard.statistics().wall_clock_ahead_ms;
            }
            ring::timer::sleep(Duration::from_secs(1)).await;
        }
    });
    told
}

fn appended(simulator: &mut Simulator, told: &Mutex<Told>, wanted: i64) {
    told.lock().expect("it runs").wanted = wanted;
    let is_there = |_: &Simulator| told.lock().expect("it runs").end == wanted;
    assert!(simulator.run_until(LIMIT, is_there));
}

#[test]
fn a_clock_that_jumps_for_a_moment_removes_nothing_and_keeps_nothing_for_ever() {
    const KEPT: Duration = Duration::from_secs(6 * 3_600);
    for is_log_append_time in [false, true] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        let config = PartitionConfig {
            is_log_append_time,
            ..config(KEPT.as_millis() as u64)
        };
        let told = run(&mut simulator, host, config);
        let look = || *told.lock().expect("it runs");
        appended(&mut simulator, &told, 1);
        simulator.run_for(5 * MINUTE);
        simulator.jump_wall_clock(host, 10 * YEAR_MS);
        simulator.run_for(5 * MINUTE);
        // Its record says that it is from the future, whose clock ever it has.
        appended(&mut simulator, &told, 2);
        simulator.run_for(50 * MINUTE);
        assert_eq!(look().start, 0, "a jump has deleted a log");
        assert!(look().ahead_ms > YEAR_MS, "nobody is told");
        simulator.jump_wall_clock(host, -10 * YEAR_MS);
        simulator.run_for(20 * MINUTE);
        assert_eq!(look().start, 0, "a jump back has deleted a log");
        // Both clocks are read in whole milliseconds.
        assert!(look().ahead_ms.abs() <= 1, "{} ms are left", look().ahead_ms);
        simulator.jump_wall_clock(host, -50 * YEAR_MS);
        simulator.run_for(30 * MINUTE);
        simulator.jump_wall_clock(host, 50 * YEAR_MS);
        simulator.run_for(KEPT - 120 * MINUTE);
        assert_eq!(look().start, 0, "it is not old enough");
        simulator.run_for(60 * MINUTE);
        assert_eq!(look().start, 2, "a future timestamp keeps it");
    }
}

async fn stays_for_100_minutes(log: &PartitionLog) {
    ring::timer::sleep(100 * MINUTE).await;
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 2));
}

#[test]
fn a_clock_that_was_behind_and_is_set_right_removes_nothing_that_is_young() {
    const BEHIND_MS: i64 = 6 * YEAR_MS;
    // The producer's clock is right; or it sends no timestamps, and only the time of the append is known.
    for has_timestamp in [true, false] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        simulator.jump_wall_clock(host, -BEHIND_MS);
        let config = config(7 * 24 * 3_600_000);
        let (sent, jumped) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(false)));
        let (sending, jumping) = (sent.clone(), jumped.clone());
        simulator.start(host, MEMORY_BYTES, move || async move {
            let (_directory, _shard, log) = open(config).await;
            for is_right in [false, true] {
                while *jumping.lock().expect("it runs") != is_right {
                    ring::timer::sleep(Duration::from_secs(1)).await;
                }
                let behind_ms = if is_right { 0 } else { BEHIND_MS };
                let timestamp_ms = match has_timestamp {
                    true => ring::clock::wall_clock_ms() + behind_ms,
                    false => -1,
                };
                // Each in a segment of its own.
                append(&log, timestamp_ms, 50_000).await;
                *sending.lock().expect("it runs") += 1;
            }
            stays_for_100_minutes(&log).await;
            *sending.lock().expect("it runs") += 1;
            std::future::pending::<()>().await;
        });
        let is_sent = |count| {
            let sent = sent.clone();
            move |_: &Simulator| *sent.lock().expect("it runs") == count
        };
        assert!(simulator.run_until(LIMIT, is_sent(1)));
        simulator.run_for(MINUTE);
        simulator.jump_wall_clock(host, BEHIND_MS);
        *jumped.lock().expect("it runs") = true;
        assert!(simulator.run_until(LIMIT, is_sent(2)));
        assert!(
            simulator.run_until(120 * MINUTE, is_sent(3)),
            "the log is not what it was"
        );
        simulator.power_cut(host);
        let ended = simulator.run(host, MEMORY_BYTES, 200 * MINUTE, move || async move {
            let (_directory, _shard, log) = open(config).await;
            stays_for_100_minutes(&log).await;
        });
        ended.expect("it ends");
    }
}

#[test]
fn a_clock_that_is_wrong_at_a_start_removes_nothing_at_once() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let (_directory, shard, log) = open(config(24 * 3_600_000)).await;
        append(&log, ring::clock::wall_clock_ms(), 100).await;
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    simulator.jump_wall_clock(host, 10 * YEAR_MS);
    for _ in 0..2 {
        let ended = simulator.run(host, MEMORY_BYTES, 60 * MINUTE, || async {
            let (_directory, shard, log) = open(config(24 * 3_600_000)).await;
            ring::timer::sleep(50 * MINUTE).await;
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 1));
            assert!(shard.statistics().wall_clock_ahead_ms > YEAR_MS);
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    }
    // A clock that stays so is right.
    let told = run(&mut simulator, host, config(24 * 3_600_000));
    simulator.run_for(70 * MINUTE);
    let looked = *told.lock().expect("it runs");
    assert_eq!(looked.start, 1);
    // Both clocks are rounded to milliseconds.
    assert!(looked.ahead_ms <= 1, "{} ms ahead", looked.ahead_ms);
}

#[test]
fn the_time_of_an_append_outlives_crashes_and_clean_stops() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let hour = 3_600_000;
    // Its timestamp is in the future: only the time of its append can make it old.
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let (_directory, _shard, log) = open(config(4 * 3_600_000)).await;
        append(&log, ring::clock::wall_clock_ms() + 48 * hour, 100).await;
    });
    ended.expect("it ends");
    for ends_cleanly in [false, true, false, true] {
        simulator.jump_wall_clock(host, hour);
        let ended = simulator.run(host, MEMORY_BYTES, 2 * LIMIT, move || async move {
            let (_directory, shard, log) = open(config(4 * 3_600_000)).await;
            ring::timer::sleep(Duration::from_secs(2)).await;
            assert_eq!(log.log_start_offset(), 0);
            if ends_cleanly {
                shard.stop().await.expect("stopped");
            }
        });
        ended.expect("it ends");
        if !ends_cleanly {
            simulator.power_cut(host);
        }
    }
    let told = run(&mut simulator, host, config(4 * 3_600_000));
    simulator.run_for(70 * MINUTE);
    assert_eq!(
        told.lock().expect("it runs").start,
        1,
        "a start has made it younger"
    );
}

#[test]
fn settings_that_change_hold_for_the_log_as_it_is() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let (_directory, shard, log) = open(PartitionConfig::default()).await;
        append(&log, 1, 100).await;
        ring::timer::sleep(2 * MINUTE).await;
        assert_eq!(log.log_start_offset(), 0, "nothing says that it may go");
        log.set_config(config(1_000));
        begins_at(&log, 1).await;
        // And a segment's age, for the next batch.
        log.set_config(PartitionConfig {
            segment_ms: 1_000,
            ..config(u64::MAX)
        });
        for timestamp_ms in [5_000, 6_000, 6_001, 7_001, 7_002] {
            append(&log, timestamp_ms, 100).await;
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    let bases: Vec<String> = segments(&simulator, host)
        .into_iter()
        .filter_map(|(name, _)| Some(name.rsplit('/').next()?.strip_suffix(".log")?.to_owned()))
        .map(|name| name.trim_start_matches('0').to_owned())
        .collect();
    assert_eq!(bases, ["1", "3", "5"]);
}
