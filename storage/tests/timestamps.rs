//! Offsets by time: exact, by reading a few index entries and one stretch of one segment.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ring::executor::{Class, spawn, yield_now};
use ring::simulator::{Simulator, for_each_seed};
use storage::{
    AppendError, DirectoryOptions, LogDirectory, OpeningBudget, PartitionConfig, PartitionLog, PartitionSpec,
    ScrubOptions, ShardLog, ShardOptions, TopicPartition,
};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

const MEMORY_BYTES: usize = 16 << 20;
const LIMIT: Duration = Duration::from_secs(600);
const SEGMENT_BYTES: u32 = 4 << 20;
const ID: TopicPartition = TopicPartition {
    topic_id: 7,
    partition: 0,
};

async fn open() -> (ShardLog, PartitionLog) {
    let config = PartitionConfig {
        segment_bytes: SEGMENT_BYTES,
        ..PartitionConfig::default()
    };
    open_with(config).await
}

async fn open_with(config: PartitionConfig) -> (ShardLog, PartitionLog) {
    let options = DirectoryOptions {
        journal_bytes: 1 << 20,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let spec = PartitionSpec {
        id: ID,
        topic: "topic".to_owned(),
        leader_epoch: 1,
        config,
    };
    let specs = vec![spec];
    let mut directory = LogDirectory::open(Path::new("/data"), options)
        .await
        .expect("opened");
    directory
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await
        .expect("prepared");
    let options = ShardOptions {
        directory: "/data".into(),
        shard: 0,
        memory_bytes: MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (shard, _) = ShardLog::open(options, specs, &BTreeSet::new())
        .await
        .expect("opened");
    let log = shard.partition(ID).expect("it is there");
    (shard, log)
}

/// One batch with a record of each time.
async fn append(log: &PartitionLog, times_ms: &[i64], value_bytes: usize) {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![7; value_bytes];
    for &timestamp_ms in times_ms {
        builder.push(&NewRecord {
            timestamp_ms,
            value: Some(&value),
            ..NewRecord::default()
        });
    }
    append_bytes(log, &builder.build()).await;
}

async fn append_bytes(log: &PartitionLog, bytes: &[u8]) {
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
    loop {
        let room = log.room().wait();
        match log.append(bytes, &header) {
            Ok(appended) => return appended.ticket.committed().await.expect("durable"),
            Err(AppendError::JournalFull | AppendError::BacklogFull) => room.await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// More than any of these tests needs.
fn budget() -> OpeningBudget {
    OpeningBudget::new(64 << 20)
}

/// Offset and time of what is found.
async fn at(log: &PartitionLog, timestamp_ms: i64) -> Option<(i64, i64)> {
    let found = log
        .offset_for_timestamp(timestamp_ms, &budget())
        .await
        .expect("readable");
    found.map(|(offset, time_ms, _)| (offset, time_ms))
}

async fn largest(log: &PartitionLog) -> Option<(i64, i64)> {
    let found = log.max_timestamp_offset(&budget()).await.expect("readable");
    found.map(|(offset, time_ms, _)| (offset, time_ms))
}

/// Times that go up in steps of two, but for every fifth.
fn time_of(offset: i64) -> i64 {
    if offset % 5 == 4 {
        1_000 + offset
    } else {
        1_000 + 2 * offset
    }
}

#[test]
fn the_first_record_of_a_time_is_found_in_memory_and_in_segments() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    for life in 0..2 {
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let (shard, log) = open().await;
            if life == 0 {
                for first in (0..3_000).step_by(3) {
                    let times = [first, first + 1, first + 2].map(time_of);
                    append(&log, &times, 2_000).await;
                }
            }
            let end = log.high_watermark();
            assert_eq!(end, 3_000);
            for timestamp_ms in (990..7_010).step_by(7) {
                let expected = (0..end).find(|offset| time_of(*offset) >= timestamp_ms);
                let expected = expected.map(|offset| (offset, time_of(offset)));
                assert_eq!(at(&log, timestamp_ms).await, expected, "time {timestamp_ms}");
            }
            let newest = (0..end)
                .max_by_key(|offset| (time_of(*offset), -offset))
                .expect("some");
            assert_eq!(largest(&log).await, Some((newest, time_of(newest))));
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    }
}

#[test]
fn a_time_index_that_has_rotted_hides_no_record() {
    const TIME_ENTRY_BYTES: u64 = 12;
    const END: i64 = 3_000;
    // Some thirty records from one entry to the next.
    let config = PartitionConfig {
        segment_bytes: 256 << 10,
        index_interval_bytes: 8 << 10,
        ..PartitionConfig::default()
    };
    for_each_seed(0..8, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let (shard, log) = open_with(config).await;
            for first in (0..END).step_by(3) {
                let times = [first, first + 1, first + 2].map(time_of);
                append(&log, &times, 200).await;
            }
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        let mut indexes = simulator.files(host);
        indexes.retain(|(path, bytes)| path.ends_with(".timeindex") && *bytes >= 4 * TIME_ENTRY_BYTES);
        assert!(indexes.len() > 1);
        let mut what = Vec::new();
        for (path, bytes) in indexes {
            let chance = simulator.random_u64();
            let entry = chance / 64 % (bytes / TIME_ENTRY_BYTES);
            // The time or the offset, by so little that the entries may still be in order; or the last offset, by much.
            let (at, bit) = match chance % 3 {
                0 => (entry * TIME_ENTRY_BYTES + 7, 3 + chance / 4 % 3),
                1 => (entry * TIME_ENTRY_BYTES + 11, 2 + chance / 4 % 3),
                _ => (bytes - 2, chance / 4 % 8),
            };
            what.push((path.clone(), at, bit));
            assert!(simulator.flip_bit(host, &path, at, bit as u8).expect("a file"));
        }
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let (shard, log) = open_with(config).await;
            for timestamp_ms in (995..1_010 + 2 * END).step_by(3) {
                let expected = (0..END).find(|offset| time_of(*offset) >= timestamp_ms);
                let expected = expected.map(|offset| (offset, time_of(offset)));
                assert_eq!(
                    at(&log, timestamp_ms).await,
                    expected,
                    "time {timestamp_ms}: {what:?}"
                );
            }
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    });
}

#[test]
fn deleted_records_are_not_found_by_their_time() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    for life in 0..2 {
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let (shard, log) = open().await;
            if life == 0 {
                append(&log, &[10, 900, 20], 10).await;
                append(&log, &[30, 40], 10).await;
                assert_eq!(largest(&log).await, Some((1, 900)));
                assert_eq!(log.delete_records(2).await.expect("deleted"), 2);
            }
            // The batch is still there, and its header says 900.
            assert_eq!(largest(&log).await, Some((4, 40)));
            assert_eq!(at(&log, 0).await, Some((2, 20)));
            assert_eq!(at(&log, 25).await, Some((3, 30)));
            assert_eq!(at(&log, 900).await, None);
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    }
}

/// A batch with one record of so many bytes.
fn compressed(value_bytes: usize, timestamp_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    builder.push(&NewRecord {
        timestamp_ms,
        value: Some(&vec![0; value_bytes]),
        ..NewRecord::default()
    });
    builder.build()
}

/// A batch with one old record of so many bytes; its header says that it is of that time.
fn lie(value_bytes: usize, max_timestamp_ms: i64) -> Vec<u8> {
    const MAX_TIMESTAMP: std::ops::Range<usize> = 35..43;
    let mut bytes = compressed(value_bytes, 10);
    bytes[MAX_TIMESTAMP].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    bytes
}

#[test]
fn batches_that_lie_of_their_time_cost_others_no_more_than_a_step_and_a_request_no_more_than_its_budget() {
    const LIES: i64 = 8;
    const LIE_MIB: usize = 3;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    let ended = simulator.run(host, 64 << 20, LIMIT, || async {
        let (shard, log) = open().await;
        for at in 0..LIES {
            append_bytes(&log, &lie(LIE_MIB << 20, 1_000 + at)).await;
        }
        append(&log, &[900, 1_500], 10).await;

        // Another task's turns while all lies are opened.
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        let other = spawn(Class::Latency, async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        let generous = budget();
        let found = log.offset_for_timestamp(800, &generous).await.expect("readable");
        assert_eq!(
            found.map(|(offset, time_ms, _)| (offset, time_ms)),
            Some((LIES, 900))
        );
        let steps = LIES as usize * (LIE_MIB + 1);
        // Its first turn may come after the first step.
        assert!(turns.get() + 1 >= steps, "{} turns in {steps} steps", turns.get());
        drop(other);

        // Four are opened, the fifth is believed.
        let small = OpeningBudget::new(10 << 20);
        let found = log.offset_for_timestamp(800, &small).await.expect("readable");
        assert_eq!(
            found.map(|(offset, time_ms, _)| (offset, time_ms)),
            Some((4, 1_004))
        );
        assert!(small.is_spent());

        // Lies that have little in them cost something as well.
        let small = OpeningBudget::new(100 << 10);
        let found = async |from| {
            let found = log.offset_for_timestamp(from, &small).await.expect("readable");
            found.map(|(offset, time_ms, _)| (offset, time_ms))
        };
        append_bytes(&log, &compressed(200 << 10, 1_600)).await;
        for _ in 0..20 {
            append_bytes(&log, &lie(10, 2_000)).await;
        }
        assert_eq!(
            found(1_600).await,
            Some((LIES + 2, 1_600)),
            "what is found costs nothing"
        );
        assert!(!small.is_spent());
        assert_eq!(found(2_000).await, Some((LIES + 5, 2_000)));
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn a_time_is_found_without_reading_the_log() {
    const RECORDS: i64 = 3_000;
    const VALUE_BYTES: usize = 16 << 10;
    /// Both index files of a segment, and one step through its batches. Of the start's own reads a few bytes vary.
    const READ_BYTES_MAX: u64 = 512 << 10;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let ended = simulator.run(host, 64 << 20, LIMIT, || async {
        let (shard, log) = open().await;
        for offset in 0..RECORDS {
            append(&log, &[1_000 + offset], VALUE_BYTES).await;
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    // In the first segment, in the middle, the newest, one that is to come, and the largest of all.
    let asked = [Some(1_001), Some(2_500), Some(3_999), Some(9_000), None];
    let reads = |simulator: &mut Simulator, asks: bool, timestamp_ms: Option<i64>| {
        let before = simulator.disk_counters(host).bytes_read;
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let (shard, log) = open().await;
            let found = match timestamp_ms {
                _ if !asks => None,
                Some(timestamp_ms) => at(&log, timestamp_ms).await,
                None => largest(&log).await,
            };
            shard.stop().await.expect("stopped");
            found
        });
        let found = ended.expect("it ends");
        (found, simulator.disk_counters(host).bytes_read - before)
    };
    let (_, opening) = reads(&mut simulator, false, None);
    for timestamp_ms in asked {
        let (found, bytes) = reads(&mut simulator, true, timestamp_ms);
        let time_ms = timestamp_ms.unwrap_or(999 + RECORDS);
        let expected = (time_ms < 1_000 + RECORDS).then_some((time_ms - 1_000, time_ms));
        assert_eq!(found, expected);
        let bytes = bytes.saturating_sub(opening);
        assert!(
            bytes <= READ_BYTES_MAX,
            "{timestamp_ms:?}: {bytes} bytes were read"
        );
        if expected.is_none() {
            assert!(
                bytes < 4_096,
                "{bytes}: what is later than all is known without reading"
            );
        }
    }
}
