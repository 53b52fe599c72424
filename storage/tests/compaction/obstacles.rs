//! What stands in the way of compaction: rot, and a shortage that passes. Neither costs a record.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::simulator::{DiskOperation, HostId, Injection, Simulator};
use storage::{PartitionConfig, StorageError};
use wire::record_batch::batches;
use wire::{BatchBuilder, Compression, NewRecord};

use crate::LIMIT;
use crate::one_log::{
    ANY, CLEANER, MEMORY_BYTES, append, check_lookups, cleaned, contents, fill, id, names, on_a_host, open,
    open_one, time_of,
};

/// A host with a log that has something to clean.
fn filled(seed: u64) -> (Simulator, HostId) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..1_000, 500).await;
        shard.stop().await.expect("stopped");
    });
    (simulator, host)
}

#[test]
fn a_log_that_has_rotted_is_not_cleaned_and_others_are() {
    // What a CRC covers, and the first batch's leader epoch, which none does.
    for at in [5_000, 15] {
        is_not_cleaned_with_rot_at(at);
    }
}

fn is_not_cleaned_with_rot_at(at: u64) {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let shard = open(ANY).await.expect("opened");
        for partition in 0..2 {
            let log = shard.partition(id(partition)).expect("it is there");
            fill(&log, 0..1_000, 20).await;
        }
        shard.stop().await.expect("stopped");
    });
    let first = "/data/topic-0/00000000000000000000.log";
    assert!(simulator.flip_bit(host, first, at, 2).expect("a file"));
    let before = names(&simulator, host, 0);
    on_a_host(&mut simulator, host, || async {
        let shard = open(ANY).await.expect("opened");
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(report.is_final);
        assert_eq!(report.partition, "topic-0");
        assert!(
            matches!(report.error, StorageError::Corrupt { .. }),
            "{}",
            report.error
        );
        assert!(
            report.error.to_string().contains("00000000000000000000.log"),
            "{}",
            report.error
        );
        ring::timer::sleep(Duration::from_secs(5)).await;
        let compaction = shard.statistics().compaction;
        assert_eq!((compaction.cleanings, compaction.uncleanable_partitions), (1, 1));
        let other = shard.partition(id(1)).expect("it is there");
        assert!(contents(&other).await.len() < 300);
        shard.stop().await.expect("stopped");
    });
    assert_eq!(
        names(&simulator, host, 0),
        before,
        "something of a rotten log was changed"
    );
}

#[test]
fn a_full_disk_ends_a_cleaning_and_the_next_one_goes_on() {
    let (mut simulator, host) = filled(6);
    // Room for a checkpoint beside the one that it replaces, and not for all segments twice.
    let taken = (1 << 30) - simulator.disk_bytes_free(host);
    simulator.set_disk_bytes(host, taken + 2 * 4_096);
    let (told, tell) = std::sync::mpsc::channel();
    simulator.start(host, 2 * MEMORY_BYTES + (8 << 20), move || async move {
        let (shard, log) = open_one(ANY).await;
        let failing = shard.clone();
        let failed = async move { panic!("{}", failing.failed().await) };
        ring::executor::spawn(ring::executor::Class::Background, failed).detach();
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(!report.is_final, "{}", report.error);
        told.send("full").expect("heard");
        while shard.statistics().compaction.cleanings == 0 {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        assert!(contents(&log).await.len() < 1_000);
        check_lookups(&log).await;
        told.send("cleaned").expect("heard");
    });
    let heard = |simulator: &mut Simulator, what: &str| {
        let mut said = "";
        let is_said = simulator.run_until(LIMIT, |_| {
            said = tell.try_recv().unwrap_or(said);
            said == what
        });
        assert!(is_said, "it did not say '{what}', but '{said}'");
    };
    heard(&mut simulator, "full");
    simulator.set_disk_bytes(host, 1 << 30);
    heard(&mut simulator, "cleaned");
}

#[test]
fn a_disk_that_is_full_while_compacted_segments_get_their_names_delays_them() {
    for after in 0..12 {
        let mut simulator = Simulator::new(8);
        let host = simulator.host(1 << 30);
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Name,
                path_contains: ".cleaned".to_owned(),
                after,
                times: 2,
                errno: 28,
            },
        );
        on_a_host(&mut simulator, host, || async {
            let (shard, log) = open_one(ANY).await;
            fill(&log, 0..1_000, 500).await;
            cleaned(&shard).await;
            // What is written makes checkpoints, which give them their names.
            let other = shard.partition(id(1)).expect("it is there");
            fill(&other, 0..20_000, 500).await;
            assert!(shard.failure().is_none());
            assert!(contents(&log).await.len() < 1_000);
            check_lookups(&log).await;
            shard.stop().await.expect("stopped");
        });
        on_a_host(&mut simulator, host, || async {
            let (_shard, log) = open_one(ANY).await;
            assert!(contents(&log).await.len() < 1_000);
        });
    }
}

/// A log whose first segment is compacted, batches of one record and 128 bytes each; closed. What it holds.
fn compacted_in_equal_batches(simulator: &mut Simulator, host: HostId) -> BTreeMap<i64, (u32, bool, i64)> {
    on_a_host(simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        for n in 0..600_u32 {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(&NewRecord {
                timestamp_ms: time_of(n),
                // Keys that come again, and keys that do not.
                key: Some(&(if n % 2 == 0 { n } else { n % 7 }).to_be_bytes()),
                value: Some(&[9; 55]),
                ..NewRecord::default()
            });
            let bytes = builder.build();
            assert_eq!(bytes.len(), 128);
            append(&log, &bytes).await;
        }
        cleaned(&shard).await;
        let all = contents(&log).await;
        shard.stop().await.expect("stopped");
        all
    })
}

/// With one bit of a file turned, each record is read as it was, or something is said to be wrong. How often it was.
fn never_passed_over(
    simulator: &mut Simulator,
    host: HostId,
    (file, at, bit): (&str, u64, u8),
    all: &BTreeMap<i64, (u32, bool, i64)>,
) -> usize {
    assert!(simulator.flip_bit(host, file, at, bit).expect("a file"));
    let offsets: Vec<i64> = all.keys().copied().take(200).collect();
    let file_name = file.to_owned();
    let refused = on_a_host(simulator, host, move || async move {
        let (_shard, log) = open_one(ANY).await;
        let mut refused = 0;
        for offset in offsets {
            let extent = log
                .read(offset, 1, true, log.high_watermark())
                .expect("within the log");
            match log.load(extent).await {
                Ok(slices) => {
                    let first = batches(&slices[0]).next().expect("a batch").expect("whole");
                    let found = first.header().base_offset;
                    assert_eq!(
                        found, offset,
                        "bit {bit} of byte {at} of {file_name}: {offset} was passed over"
                    );
                }
                Err(StorageError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        refused
    });
    assert!(simulator.flip_bit(host, file, at, bit).expect("a file"));
    refused
}

#[test]
fn a_rotten_index_of_a_compacted_segment_leads_past_no_record() {
    let mut simulator = Simulator::new(8);
    let host = simulator.host(1 << 30);
    let all = compacted_in_equal_batches(&mut simulator, host);
    for at in 0..16 {
        for bit in 0..8 {
            let index = ("/data/topic-0/00000000000000000000.index", at, bit);
            let refused = never_passed_over(&mut simulator, host, index, &all);
            assert_eq!(refused, 0, "everything is found without an index");
        }
    }
}

#[test]
fn a_rotten_length_in_a_compacted_segment_hides_no_record() {
    let mut simulator = Simulator::new(9);
    let host = simulator.host(1 << 30);
    let all = compacted_in_equal_batches(&mut simulator, host);
    let mut refused = 0;
    for batch in 1..4 {
        for (byte, bit) in [(11, 7), (10, 0), (10, 1), (11, 6)] {
            let length = ("/data/topic-0/00000000000000000000.log", batch * 128 + byte, bit);
            refused += never_passed_over(&mut simulator, host, length, &all);
        }
    }
    assert!(refused > 0, "nobody has noticed");
}

#[test]
fn a_rotten_length_is_damage_however_large_and_not_a_shortage_of_memory() {
    let mut simulator = Simulator::new(3);
    let host = simulator.host(1 << 30);
    let large = |segment_bytes| PartitionConfig {
        segment_bytes,
        compaction: Some(ANY),
        ..PartitionConfig::default()
    };
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        timestamp_ms: 1,
        key: Some(b"key!"),
        value: Some(&[7; 200_000]),
        ..NewRecord::default()
    });
    let batch = builder.build();
    let batch_bytes = batch.len() as u64;
    let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
        let (shard, log) = open_one(ANY).await;
        log.set_config(large(64 << 20));
        for _ in 0..90 {
            append(&log, &batch).await;
        }
        log.set_config(large(1 << 20));
        for _ in 0..20 {
            append(&log, &batch).await;
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    // 16 MiB more, which the segment has behind it, and memory has not.
    let path = "/data/topic-0/00000000000000000000.log";
    assert!(
        simulator
            .flip_bit(host, path, 2 * batch_bytes + 8, 0)
            .expect("a file")
    );
    let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
        let (shard, log) = open_one(ANY).await;
        let is_damage = |error: &StorageError| {
            matches!(error, StorageError::Corrupt { position, .. } if *position == 2 * batch_bytes)
        };
        for offset in 0..5 {
            let extent = log.read(offset, 1, true, log.high_watermark()).expect("within the log");
            match log.load(extent).await {
                Ok(_) => assert_ne!(offset, 2),
                Err(error) => assert!(offset == 2 && is_damage(&error), "{offset}: {error}"),
            }
        }
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(report.is_final && is_damage(&report.error), "{report:?}");
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn a_shortage_of_descriptors_ends_a_cleaning_and_the_next_one_goes_on() {
    let (mut simulator, host) = filled(6);
    let (told, tell) = std::sync::mpsc::channel();
    simulator.start(host, 2 * MEMORY_BYTES + (8 << 20), move || async move {
        let (shard, _log) = open_one(ANY).await;
        ring::timer::sleep(Duration::from_secs(60)).await;
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(
            !report.is_final && report.error.is_short_of_descriptors(),
            "{report:?}"
        );
        told.send("short").expect("heard");
        while shard.statistics().compaction.cleanings == 0 {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        shard.stop().await.expect("stopped");
        told.send("cleaned").expect("heard");
        std::future::pending::<()>().await;
    });
    simulator.run_for(Duration::from_secs(30));
    // Enough for a checkpoint, and not for what a cleaning reads and writes.
    let descriptors = simulator.descriptors(host);
    simulator.set_descriptors_max(host, descriptors + 1);
    assert!(simulator.run_until(LIMIT, |_| tell.try_recv() == Ok("short")));
    simulator.set_descriptors_max(host, usize::MAX);
    assert!(simulator.run_until(LIMIT, |_| tell.try_recv() == Ok("cleaned")));
}
