//! What a migration has to do, and what is in memory after it, has bounds that no budget of bytes knows.

use std::time::Duration;

use ring::simulator::Simulator;
use storage::{AppendError, PartitionConfig, PartitionLog, PartitionSpec};

use crate::LIMIT;
use crate::plain::{Opened, Place, append, batch, open, spec, try_append};

/// Each of its batches begins a segment.
fn rolling(topic_id: u128) -> PartitionSpec {
    let mut spec = spec(topic_id, &format!("rolling-{topic_id}"));
    spec.config = PartitionConfig {
        segment_bytes: 1,
        ..PartitionConfig::default()
    };
    spec
}

/// Appends without a pause until one is refused.
fn burst(log: &PartitionLog, bytes: &[u8], most: usize) -> usize {
    (0..most)
        .take_while(|_| match try_append(log, bytes) {
            Ok(_) => true,
            Err(AppendError::JournalFull | AppendError::BacklogFull) => false,
            Err(error) => panic!("{error}"),
        })
        .count()
}

fn batches_bytes(opened: &Opened) -> (usize, usize) {
    let memory = opened.shard.statistics().memory;
    let batches = memory.iter().find(|pool| pool.name == "batches");
    let batches = batches.expect("it is told");
    (batches.bytes_used, batches.bytes)
}

#[test]
fn who_ends_segment_after_segment_waits_alone() {
    const ROLLING: u128 = 12;
    let place = Place::default();
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let plain = spec(100, "plain");
        let opened = open(place, (1..=ROLLING).map(rolling).chain([plain]).collect())
            .await
            .expect("opened");
        let (small, plain) = (batch(1, 10), opened.log(100));
        let taken: Vec<usize> = (1..=ROLLING)
            .map(|topic_id| burst(&opened.log(topic_id), &small, 1_000))
            .collect();
        // 64 complete segments of a partition and an active one; 512 complete ones of all.
        assert_eq!(taken, [65, 65, 65, 65, 65, 65, 65, 65, 1, 1, 1, 1]);
        assert_eq!(burst(&plain, &small, 100), 100, "others go on");
        // It is a wait, not an end.
        for _ in 0..300 {
            append(&opened.log(1), &small).await.expect("appended");
        }
        assert_eq!(opened.log(1).log_end_offset(), 365);
        // A partition is dropped in the time that so much takes, and not in that of all its segments.
        opened.shard.stop().await.expect("stopped");
        (1..=ROLLING)
            .map(|id| opened.log(id).high_watermark())
            .sum::<i64>()
    });
    assert_eq!(ended, Some(365 + 7 * 65 + 4));
}

#[test]
fn the_journal_does_not_wait_until_all_is_removed_that_was_deleted() {
    const SEGMENTS: i64 = 1_000;
    let place = Place::default();
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let opened = open(place, vec![rolling(1)]).await.expect("opened");
        let log = opened.log(1);
        for _ in 0..SEGMENTS {
            append(&log, &batch(1, 10)).await.expect("appended");
        }
        let before = opened.shard.statistics();
        log.delete_records(SEGMENTS).await.expect("deleted");
        let mut removed = 0;
        while removed < SEGMENTS.unsigned_abs() {
            ring::timer::sleep(Duration::from_millis(10)).await;
            let now = opened.shard.statistics();
            removed = now.removed_segments;
            let migrations = now.checkpoints - before.checkpoints + 1;
            assert!(
                removed <= 256 * migrations,
                "{removed} in {migrations} migrations"
            );
        }
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn what_is_known_of_batches_is_forgotten_by_partitions_that_get_no_more() {
    let place = Place {
        direct_bytes_min: usize::MAX,
        ..Place::default()
    };
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let opened = open(
            place,
            (1..=6).map(|id| spec(id, &format!("topic-{id}"))).collect(),
        )
        .await
        .expect("opened");
        let small = batch(1, 1);
        let mut most = 0;
        for topic_id in 1..=6 {
            let log = opened.log(topic_id);
            let mut written = 0;
            while written < 30_000 {
                written += burst(&log, &small, 2_000);
                let (used, limit) = batches_bytes(&opened);
                assert!(used <= limit, "{used} of {limit}");
                most = most.max(used);
                append(&log, &small).await.expect("appended");
            }
        }
        let (used, limit) = batches_bytes(&opened);
        assert!(
            most > limit / 2,
            "the bound was not come near to: {most} of {limit}"
        );
        // What others write takes the memory of all that was there before.
        let last = opened.log(6);
        for _ in 0..40 {
            append(&last, &batch(1, 500 << 10)).await.expect("appended");
        }
        let (left, _) = batches_bytes(&opened);
        assert!(left < used / 10, "{left} of {used}");
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}
