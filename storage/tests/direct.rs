//! Large batches, written to their segments at once: laps of memory with little of the journal, through power cuts.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::simulator::{Simulator, for_each_seed};
use storage::{
    AppendError, DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ScrubOptions,
    ShardLog, ShardOptions, ShardStatistics, TopicPartition,
};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

const JOURNAL_BYTES: u64 = 8 << 20;
const MEMORY_BYTES: usize = 24 << 20;
const PARTITIONS: i32 = 3;
const LIMIT: Duration = Duration::from_secs(600);
/// Of a run: several times what the memory holds.
const BATCHES: i64 = 240;

/// A batch that says by its bytes which it is: the `number`th of its partition.
fn batch(partition: i32, number: i64) -> Vec<u8> {
    let bytes = 90_000 + number.unsigned_abs() as usize * 7_919 % 300_000;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&vec![(number % 251) as u8 ^ partition as u8; bytes]),
        ..Default::default()
    });
    builder.build()
}

/// The shard's log, with its partitions, which are all there or were never made.
async fn open(life: i32) -> (ShardLog, Vec<PartitionLog>) {
    let directory = Path::new("/data");
    let options = DirectoryOptions {
        journal_bytes: JOURNAL_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let specs: Vec<PartitionSpec> = (0..PARTITIONS)
        .map(|partition| PartitionSpec {
            id: TopicPartition {
                topic_id: 5,
                partition,
            },
            topic: "orders".to_owned(),
            leader_epoch: life,
            config: PartitionConfig {
                segment_bytes: 4 << 20,
                ..PartitionConfig::default()
            },
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
        memory_bytes: MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (log, _) = ShardLog::open(options, specs.clone(), &BTreeSet::new())
        .await
        .unwrap();
    let logs = specs.iter().map(|spec| log.partition(spec.id).unwrap()).collect();
    (log, logs)
}

/// Every batch of a log, held against what was sent. How many there are.
async fn check(log: &PartitionLog) -> i64 {
    let end = log.high_watermark();
    let mut number = 0;
    while number < end {
        let extent = log.read(number, 1, true, end).unwrap();
        for slice in log.load(extent).await.unwrap() {
            let (read, _) = RecordBatch::parse(&slice).unwrap();
            let sent = batch(log.id().partition, number);
            let (sent, _) = RecordBatch::parse(&sent).unwrap();
            assert_eq!(read.header().base_offset, number);
            assert_eq!(read.header().crc, sent.header().crc, "batch {number} is another");
            read.verify_crc().unwrap();
            number += 1;
        }
    }
    number
}

/// What was acknowledged, by partition, and what the log did.
type Told = Arc<Mutex<(Vec<i64>, Option<ShardStatistics>)>>;

async fn live(told: Told, life: i32) {
    let (shard, logs) = open(life).await;
    let mut next = Vec::new();
    let acknowledged = told.lock().unwrap().0.clone();
    for (log, promised) in logs.iter().zip(acknowledged) {
        let there = check(log).await;
        assert!(
            there >= promised,
            "{there} batches of {promised} are left of {}",
            log.id()
        );
        next.push(there);
    }
    while next.iter().any(|next| *next < BATCHES) {
        let mut tickets = Vec::new();
        for (index, log) in logs.iter().enumerate() {
            // Two at a time: they share a block.
            for _ in 0..2 {
                let bytes = batch(log.id().partition, next[index]);
                let (parsed, _) = RecordBatch::parse(&bytes).unwrap();
                let appended = loop {
                    let room = log.room().wait();
                    match log.append(parsed.bytes(), parsed.header()) {
                        Ok(appended) => break appended,
                        Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                            let _ = ring::timer::timeout(Duration::from_millis(20), room).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                };
                assert_eq!(appended.base_offset, next[index]);
                next[index] += 1;
                tickets.push((index, appended));
            }
        }
        for (index, appended) in tickets {
            appended.ticket.committed().await.unwrap();
            let mut told = told.lock().unwrap();
            told.0[index] = told.0[index].max(appended.base_offset + 1);
        }
        told.lock().unwrap().1 = Some(shard.statistics());
    }
    shard.stop().await.unwrap();
}

#[test]
fn large_batches_survive_power_cuts_and_do_not_fill_the_journal() {
    for_each_seed(0..if cfg!(debug_assertions) { 6 } else { 60 }, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(1 << 30);
        let told: Told = Arc::new(Mutex::new((vec![0; PARTITIONS as usize], None)));
        for life in 0..3 {
            let shared = told.clone();
            simulator.start(host, 64 << 20, move || live(shared, life));
            let micros = simulator.random_u64() % 60_000;
            simulator.run_for(Duration::from_micros(micros));
            if simulator.random_u64().is_multiple_of(2) {
                simulator.kill(host);
            } else {
                simulator.power_cut(host);
            }
        }
        let shared = told.clone();
        simulator
            .run(host, 64 << 20, LIMIT, move || live(shared, 3))
            .unwrap();
        let (acknowledged, statistics) = told.lock().unwrap().clone();
        assert!(acknowledged.iter().all(|count| *count >= BATCHES));
        let statistics = statistics.unwrap();
        assert!(
            statistics.direct_bytes > 2 * statistics.journal_bytes,
            "{statistics:?}"
        );
        // After the clean stop the segments alone have it all.
        simulator
            .run(host, 64 << 20, LIMIT, || async {
                for log in open(4).await.1 {
                    assert!(check(&log).await >= BATCHES);
                }
            })
            .unwrap();
    });
}
