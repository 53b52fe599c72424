//! What a cleaning bears: large batches, small indexes, a disk that fails it.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::simulator::{DiskOperation, Injection, Simulator};
use storage::{PartitionConfig, StorageError};
use wire::{BatchBuilder, Compression, NewRecord};

use crate::one_log::{
    ANY, CLEANER, MEMORY_BYTES, append, batch_of, check_lookups, cleaned, contents, fill, id, names,
    on_a_host, open, open_one, time_of,
};

#[test]
fn a_batch_that_inflates_to_much_is_compacted_as_others_are() {
    let mut simulator = Simulator::new(11);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        let value = vec![0; 3 << 20];
        // Snappy makes less of it.
        let value_of = |codec| match codec {
            Compression::Snappy => &value[..512 << 10],
            _ => &value[..],
        };
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let mut builder = BatchBuilder::new(codec);
            for key in 0..3_u32 {
                builder.push(&NewRecord {
                    timestamp_ms: time_of(key),
                    key: Some(&(key * 100 + codec as u32).to_be_bytes()),
                    value: Some(value_of(codec)),
                    ..NewRecord::default()
                });
            }
            append(&log, &builder.build()).await;
            let newer = [
                (codec as u32, None, time_of(4)),
                (100 + codec as u32, Some(5), time_of(5)),
            ];
            append(&log, &batch_of(Compression::None, &newer)).await;
        }
        fill(&log, 1_000..1_600, 1).await;
        cleaned(&shard).await;
        assert_eq!(shard.statistics().compaction.uncleanable_partitions, 0);
        let large: BTreeMap<u32, i64> = contents(&log)
            .await
            .into_iter()
            .filter(|(_, (key, ..))| *key >= 200)
            .map(|(offset, (key, ..))| (key, offset))
            .collect();
        // The third of each batch of three, with two after it.
        assert_eq!(large, [(201, 2), (202, 7), (203, 12), (204, 17)].into());
        let first = contents(&log).await.into_iter().next();
        assert_eq!(first, Some((2, (201, true, time_of(2)))));
    });
}

#[test]
fn merged_segments_have_indexes_of_no_more_than_a_segments() {
    const INDEX_BYTES: u32 = 60;
    let mut simulator = Simulator::new(12);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        // Of as many keys that nothing goes: copies are as large as what they are of, and have more entries.
        fill(&log, 0..600, 600).await;
        log.set_config(PartitionConfig {
            segment_bytes: 1 << 20,
            segment_index_bytes: INDEX_BYTES,
            index_interval_bytes: 0,
            compaction: Some(ANY),
            ..PartitionConfig::default()
        });
        // But for one record, so that the first segment is written anew.
        append(&log, &batch_of(Compression::None, &[(0, Some(1), time_of(600))])).await;
        fill(&log, 601..1_300, 1_300).await;
        cleaned(&shard).await;
        check_lookups(&log).await;
        shard.stop().await.expect("stopped");
    });
    let indexes = names(&simulator, host, 0);
    let indexes: Vec<_> = indexes
        .iter()
        .filter(|(name, _)| name.ends_with("index"))
        .collect();
    assert!(indexes.len() > 4, "{indexes:?}");
    // The first is of the segments that were cleaned.
    let too_large = indexes[..2]
        .iter()
        .find(|(_, bytes)| *bytes > u64::from(INDEX_BYTES));
    assert_eq!(too_large, None);
}

#[test]
fn a_flush_that_fails_ends_the_log_and_what_was_acknowledged_is_there() {
    for after in 0..4 {
        let mut simulator = Simulator::new(13);
        let host = simulator.host(1 << 30);
        let before = on_a_host(&mut simulator, host, || async {
            let (shard, log) = open_one(ANY).await;
            fill(&log, 0..600, 20).await;
            shard.stop().await.expect("stopped");
            contents(&log).await
        });
        let (told, tell) = std::sync::mpsc::channel();
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Sync,
                // Its log, its two indexes; and the directory that has their names.
                path_contains: if after < 3 { ".cleaned" } else { "topic-0" }.to_owned(),
                after: if after < 3 { after } else { 3 },
                times: 1,
                errno: 5,
            },
        );
        simulator.start(host, 2 * MEMORY_BYTES + (8 << 20), move || async move {
            let (shard, _log) = open_one(ANY).await;
            shard.set_cleaner(CLEANER);
            let _ = told.send(shard.failed().await);
        });
        let mut failed = None;
        let has_failed = simulator.run_until(crate::LIMIT, |_| {
            failed = tell.try_recv().ok();
            failed.is_some()
        });
        assert!(has_failed, "{after}: nobody was told");
        assert!(
            matches!(&failed, Some(StorageError::Fenced(error)) if error.to_string().starts_with("cannot flush")),
            "{after}: {failed:?}"
        );
        simulator.kill(host);
        let newest: BTreeMap<u32, i64> = before.iter().map(|(offset, (key, ..))| (*key, *offset)).collect();
        on_a_host(&mut simulator, host, move || async move {
            let (shard, log) = open_one(ANY).await;
            assert_eq!(contents(&log).await, before);
            cleaned(&shard).await;
            let all = contents(&log).await;
            assert!(all.len() < before.len());
            assert!(newest.values().all(|offset| all.contains_key(offset)));
        });
    }
}

#[test]
fn a_log_that_finds_no_room_keeps_none_of_the_others_waiting() {
    let mut simulator = Simulator::new(14);
    let host = simulator.host(1 << 30);
    simulator.inject(
        host,
        Injection {
            operation: DiskOperation::Write,
            path_contains: "topic-0/00000000000000000000.log.1.cleaned".to_owned(),
            after: 0,
            times: u32::MAX,
            errno: 28,
        },
    );
    on_a_host(&mut simulator, host, || async {
        let shard = open(ANY).await.expect("opened");
        // Of the first one's first segment something is left, and not all.
        for (partition, keys) in [(0, 1_000), (1, 20)] {
            let log = shard.partition(id(partition)).expect("it is there");
            fill(&log, 0..600, keys).await;
            append(&log, &batch_of(Compression::None, &[(0, Some(1), time_of(600))])).await;
            fill(&log, 601..1_000, keys).await;
        }
        shard.set_cleaner(CLEANER);
        for _ in 0..2 {
            let report = shard.compaction_report().await;
            assert!(!report.is_final && report.partition == "topic-0", "{report:?}");
        }
        ring::timer::sleep(Duration::from_secs(1)).await;
        assert_eq!(shard.statistics().compaction.cleanings, 1);
        let other = shard.partition(id(1)).expect("it is there");
        assert!(contents(&other).await.len() < 300);
    });
}
