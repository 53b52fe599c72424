//! Clients that make up producer ids: what a shard remembers of them is bounded, and only those who flood it forget.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ring::simulator::Simulator;
use storage::{
    AppendError, DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ProducerCheck,
    ScrubOptions, ShardLog, ShardOptions, TopicPartition,
};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

const JOURNAL_BYTES: u64 = 8 << 20;
const MEMORY_BYTES: usize = 32 << 20;
/// An eighth of the memory, at 1 KiB each.
const PRODUCERS_MAX: i64 = 4 << 10;
const QUIET: i32 = 0;
const FLOODED: i32 = 1;
const PARTITIONS: i32 = 4;
/// What the quiet partition has: fewer than its part.
const FEW: i64 = 100;

fn id(partition: i32) -> TopicPartition {
    TopicPartition {
        topic_id: 7,
        partition,
    }
}

async fn open(partitions: i32) -> ShardLog {
    let directory = Path::new("/data");
    let options = DirectoryOptions {
        journal_bytes: JOURNAL_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let specs: Vec<_> = (0..partitions)
        .map(|partition| PartitionSpec {
            id: id(partition),
            topic: "topic".to_owned(),
            leader_epoch: 1,
            config: PartitionConfig::default(),
        })
        .collect();
    let mut opened = LogDirectory::open(directory, options).await.unwrap();
    opened
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await
        .unwrap();
    let options = ShardOptions {
        directory: directory.to_owned(),
        shard: 0,
        // The log keeps some of it for its manifest: the bound is a little below.
        memory_bytes: MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    ShardLog::open(options, specs, &BTreeSet::new()).await.unwrap().0
}

fn batch(producer_id: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, 0, 0);
    builder.push(&NewRecord {
        value: Some(b"value"),
        ..Default::default()
    });
    builder.build()
}

async fn append(partition: &PartitionLog, producer_id: i64) {
    let bytes = batch(producer_id);
    let header = *RecordBatch::parse(&bytes).unwrap().0.header();
    loop {
        let room = partition.room().wait();
        match partition.append(&bytes, &header) {
            Ok(_) => return,
            Err(AppendError::JournalFull | AppendError::BacklogFull) => room.await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// How many of the producers with these ids a partition remembers.
fn remembered(partition: &PartitionLog, ids: std::ops::Range<i64>) -> i64 {
    let is_known = |id: &i64| {
        let bytes = batch(*id);
        let header = *RecordBatch::parse(&bytes).unwrap().0.header();
        matches!(partition.check_producer(&header), ProducerCheck::Duplicate { .. })
    };
    ids.filter(is_known).count() as i64
}

#[test]
fn as_many_producers_as_clients_like_are_not_remembered() {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(1 << 30);
    let limit = Duration::from_secs(600);
    let first = simulator.run(host, 64 << 20, limit, move || async move {
        let log = open(PARTITIONS).await;
        let quiet = log.partition(id(QUIET)).unwrap();
        let flooded = log.partition(id(FLOODED)).unwrap();
        for producer in 0..FEW {
            append(&quiet, producer).await;
        }
        let flood = 10 * PRODUCERS_MAX;
        for producer in 0..flood {
            append(&flooded, producer).await;
            let newest = remembered(&flooded, producer..producer + 1);
            assert_eq!(newest, 1, "the newest is never the one that is forgotten");
        }
        assert_eq!(remembered(&quiet, 0..FEW), FEW);
        let left = remembered(&flooded, 0..flood);
        assert!((PRODUCERS_MAX / 4..PRODUCERS_MAX).contains(&left), "{left}");
        let newest = flood - left..flood;
        assert_eq!(
            remembered(&flooded, newest),
            left,
            "the oldest are forgotten first"
        );

        // A partition's part is free once it is gone.
        log.drop_partition(id(FLOODED)).await.unwrap();
        drop(flooded);
        let other = log.partition(id(2)).unwrap();
        let most = PRODUCERS_MAX * 9 / 10;
        for producer in 0..most {
            append(&other, producer).await;
        }
        assert_eq!(remembered(&other, 0..most), most);
        log.stop().await.unwrap();
    });
    first.unwrap();
    let second = simulator.run(host, 64 << 20, limit, move || async move {
        let log = open(PARTITIONS).await;
        let most = PRODUCERS_MAX * 9 / 10;
        assert_eq!(remembered(&log.partition(id(QUIET)).unwrap(), 0..FEW), FEW);
        assert_eq!(remembered(&log.partition(id(2)).unwrap(), 0..most), most);
        assert_eq!(remembered(&log.partition(id(FLOODED)).unwrap(), 0..most), 0);
        log.stop().await.unwrap();
    });
    second.unwrap();
}

#[test]
fn those_that_have_not_written_for_long_are_forgotten() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    let ended = simulator.run(host, 256 << 20, minutes(120), move || async move {
        let shard = open(1).await;
        shard.set_producer_expiration(minutes(30));
        let partition = shard.partition(id(0)).unwrap();
        for producer_id in 0..FEW {
            append(&partition, producer_id).await;
        }
        let mut header = *RecordBatch::parse(&batch(0)).unwrap().0.header();
        assert!(matches!(
            partition.check_producer(&header),
            ProducerCheck::Duplicate { .. }
        ));
        ring::timer::sleep(minutes(25)).await;
        assert_eq!(shard.statistics().producers, FEW as usize);
        append(&partition, FEW).await;
        ring::timer::sleep(minutes(16)).await;
        assert_eq!(shard.statistics().producers, 1, "the one that wrote since");
        // As one that was never seen.
        header.base_sequence = 77;
        assert!(matches!(partition.check_producer(&header), ProducerCheck::Append));
    });
    ended.unwrap();
}
