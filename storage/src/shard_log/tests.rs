//! A replay that memory is too short for: what was read so far is migrated, and it goes on.

use std::path::Path;

use ring::simulator::Simulator;
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

use super::*;
use crate::directory::{DirectoryOptions, LogDirectory};
use crate::journal::largest_record_of;
use crate::partition::PartitionConfig;

const DATA: &str = "/data";
const RING_BYTES: u64 = 8 << 20;
const MEMORY_BYTES: usize = 64 << 20;
const BATCH_BYTES: usize = 60 << 10;
/// More than a replay's memory, less than the ring takes.
const BATCHES: i64 = 96;
const KEPT: u128 = 5;
const DELETED: u128 = 6;

fn spec(topic_id: u128) -> PartitionSpec {
    PartitionSpec {
        id: TopicPartition {
            topic_id,
            partition: 0,
        },
        topic: format!("topic-{topic_id}"),
        leader_epoch: 1,
        config: PartitionConfig::default(),
    }
}

async fn prepare(specs: &[PartitionSpec]) -> LogDirectory {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    let is_deleted = |topic_id| topic_id == DELETED;
    directory
        .prepare_shards(1, specs, is_deleted, |_| 0)
        .await
        .expect("prepared");
    directory
}

async fn open(specs: Vec<PartitionSpec>) -> (LogDirectory, ShardLog) {
    let directory = prepare(&specs).await;
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
    };
    let (log, _report) = ShardLog::open(options, specs, |_| false).await.expect("opened");
    (directory, log)
}

/// Appends so many batches to each of the partitions, and waits until the last one is durable.
async fn append(log: &ShardLog, batches: i64) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&[7; BATCH_BYTES]),
        ..NewRecord::default()
    });
    let bytes = builder.build();
    let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
    for number in 0..batches {
        for topic_id in [KEPT, DELETED] {
            let partition = log.partition(spec(topic_id).id).expect("it is there");
            let appended = partition
                .append(batch.bytes(), batch.header())
                .expect("there is room");
            if number % 8 == 7 || number == batches - 1 {
                appended.ticket.durable().await.expect("durable");
            }
        }
    }
}

#[test]
fn a_replay_that_memory_is_too_short_for_keeps_everything_and_bears_a_deleted_topic() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let limit = Duration::from_secs(60);
    // Something of each is in its segment.
    let first = simulator.run(host, 256 << 20, limit, || async {
        let (_directory, log) = open(vec![spec(KEPT), spec(DELETED)]).await;
        append(&log, 1).await;
        log.stop().await.expect("stopped");
    });
    first.expect("it ends");
    // And then far more in the journal alone, when the process ends.
    let second = simulator.run(host, 256 << 20, limit, || async {
        let (_directory, log) = open(vec![spec(KEPT), spec(DELETED)]).await;
        let no_migration = log.inner.migration.pause().await;
        append(&log, BATCHES / 2).await;
        std::mem::forget(no_migration);
    });
    second.expect("it ends");
    let third = simulator.run(host, 256 << 20, limit, || async {
        let live = [spec(KEPT)];
        let _directory = prepare(&live).await;
        let memory = Memory {
            tail: 4 * largest_record_of(RING_BYTES).next_multiple_of(64 << 10),
            ..Memory::of(MEMORY_BYTES)
        };
        let pool = Pool::new("manifest", 1 << 20).expect("memory");
        let place = journal_place(Path::new(DATA), 0, &pool).await.expect("a journal");
        let mut recovered = recover(DATA.into(), &place, &live, memory, Access::ReadWrite)
            .await
            .expect("recovered");
        assert!(recovered.migrated_seq > 0, "memory was not short");
        assert_eq!(recovered.report.batches, BATCHES as u64);
        let end_seq = recovered.end.seq - 1;
        separate_unknown(&mut recovered, &live, &|topic_id| topic_id == DELETED, end_seq)
            .await
            .expect("separated");
        let kept = &recovered.partitions[&spec(KEPT).id];
        assert_eq!(kept.log_end_offset(), 1 + BATCHES / 2);
        assert_eq!(recovered.partitions.len(), 1);
        let gone = Path::new(DATA).join(directory_name(&spec(DELETED).topic, 0));
        assert!(!directory::exists(&gone).await.expect("a look"));
    });
    third.expect("it ends");
    let fourth = simulator.run(host, 256 << 20, limit, || async {
        let (_directory, log) = open(vec![spec(KEPT)]).await;
        let kept = log.partition(spec(KEPT).id).expect("it is there");
        assert_eq!(kept.log_end_offset(), 1 + BATCHES / 2);
        log.stop().await.expect("stopped");
    });
    fourth.expect("it ends");
}
