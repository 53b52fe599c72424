//! A partition's files while several would make them, or one that comes too late.

mod spare;

use std::collections::BTreeSet;
use std::path::Path;

use ring::directory;
use ring::executor::{Class, spawn};
use ring::simulator::Simulator;
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

use super::*;
use crate::directory::{DirectoryOptions, LogDirectory};
use crate::scrubber::ScrubOptions;
use crate::shard_log::{ShardLog, ShardOptions};

const DATA: &str = "/data";
const MEMORY_BYTES: usize = 64 << 20;
const LIMIT: Duration = Duration::from_secs(60);
/// Enough for a direct write.
const BATCH_BYTES: usize = 90_000;
const ID: TopicPartition = TopicPartition {
    topic_id: 5,
    partition: 0,
};

async fn open() -> (LogDirectory, ShardLog, PartitionLog) {
    let options = DirectoryOptions {
        journal_bytes: 8 << 20,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let specs = vec![PartitionSpec {
        id: ID,
        topic: "topic".to_owned(),
        leader_epoch: 1,
        config: PartitionConfig::default(),
    }];
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    directory
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await
        .expect("prepared");
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (shard, _report) = ShardLog::open(options, specs, &BTreeSet::new())
        .await
        .expect("opened");
    let log = shard.partition(ID).expect("it is there");
    (directory, shard, log)
}

/// Runs a test on a host of its own.
fn simulate<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    let ended = simulator.run(host, 256 << 20, LIMIT, async move || test().await);
    ended.expect("it ends")
}

async fn append(log: &PartitionLog) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&[7; BATCH_BYTES]),
        ..NewRecord::default()
    });
    let bytes = builder.build();
    let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
    let appended = log.append(batch.bytes(), batch.header()).expect("there is room");
    appended.ticket.committed().await.expect("durable");
}

/// Whether a first large batch makes its segment ready, if `meanwhile` comes between.
fn makes_ready(meanwhile: impl AsyncFnOnce(&PartitionLog) + Send + 'static) -> bool {
    simulate(async move || {
        let (_directory, _shard, log) = open().await;
        let no_preparing = log.pause_preparing().await;
        append(&log).await;
        meanwhile(&log).await;
        drop(no_preparing);
        ring::timer::sleep(Duration::from_millis(20)).await;
        directory::exists(&log.directory()).await.expect("looked at")
    })
}

#[test]
fn a_segment_is_made_ready_that_takes_more() {
    assert!(makes_ready(async |_| {}));
}

#[test]
fn a_partition_that_was_dropped_meanwhile_gets_no_files() {
    assert!(!makes_ready(async |log| log.close()));
}

#[test]
fn a_segment_that_another_follows_gets_no_blocks() {
    assert!(!makes_ready(async |log| {
        log.set_config(PartitionConfig {
            segment_bytes: BATCH_BYTES as u32,
            ..PartitionConfig::default()
        });
        append(log).await;
    }));
}

#[test]
fn a_log_that_was_finished_meanwhile_gets_no_blocks() {
    assert!(!makes_ready(async |log| {
        let log = log.clone();
        spawn(Class::Latency, async move { log.end_preparing().await }).detach();
        ring::timer::sleep(Duration::from_millis(1)).await;
    }));
}

#[test]
fn two_may_make_a_partitions_directory_at_once() {
    simulate(|| async {
        let (_directory, _shard, log) = open().await;
        let other = log.clone();
        let other = spawn(Class::Latency, async move { other.make_directory().await });
        log.make_directory().await.expect("made");
        other.await.expect("made");
        let names = directory::list(&log.directory()).await.expect("listed");
        let names: Vec<&str> = names.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, [METADATA_FILE]);
    });
}

#[test]
fn no_index_grows_beyond_what_is_believed_of_a_file() {
    let config = PartitionConfig {
        segment_index_bytes: u32::MAX,
        ..PartitionConfig::default()
    };
    assert_eq!(u64::from(config.segment_limits().index_bytes), INDEX_BYTES_MAX);
}
