//! A superblock that rots while the journal is all but full: the copy before it names a tail that the ring has passed.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{HostId, Simulator};
use storage::{
    AppendError, DirectoryOptions, LogDirectory, PartitionConfig, PartitionSpec, ScrubOptions, ShardLog,
    ShardOptions, StorageError, TopicPartition,
};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

const JOURNAL_BYTES: u64 = 8 << 20;
const MEMORY_BYTES: usize = 64 << 20;
const PARTITIONS: i32 = 30;
const BATCH_BYTES: usize = 50 << 10;
const SEEDS: u64 = 3;
/// How often it is looked for the moment of the crash.
const LOOKS: u32 = 400;

/// Of each partition: up to where it was acknowledged.
type Acknowledged = Arc<Mutex<Vec<i64>>>;

fn id(partition: i32) -> TopicPartition {
    TopicPartition {
        topic_id: 5,
        partition,
    }
}

async fn open() -> Result<ShardLog, StorageError> {
    let directory = Path::new("/data");
    let options = DirectoryOptions {
        journal_bytes: JOURNAL_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let spec = |partition| PartitionSpec {
        id: id(partition),
        topic: "orders".to_owned(),
        leader_epoch: 0,
        config: PartitionConfig::default(),
    };
    let specs: Vec<PartitionSpec> = (0..PARTITIONS).map(spec).collect();
    let mut opened = LogDirectory::open(directory, options).await?;
    opened.prepare_shards(1, &specs, &BTreeSet::new(), |_| 0).await?;
    let options = ShardOptions {
        directory: directory.to_owned(),
        shard: 0,
        memory_bytes: MEMORY_BYTES,
        // All of it through the journal, which should be full.
        direct_bytes_min: usize::MAX,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    Ok(ShardLog::open(options, specs, &BTreeSet::new()).await?.0)
}

/// Every partition is written to for ever, with some `pause` after each batch.
async fn fill(acknowledged: Acknowledged, pause: Duration) {
    let log = open().await.unwrap();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&vec![7; BATCH_BYTES]),
        ..Default::default()
    });
    let bytes = Arc::new(builder.build());
    for number in 0..PARTITIONS {
        let (log, bytes, acknowledged) = (log.clone(), bytes.clone(), acknowledged.clone());
        let partition = log.partition(id(number)).unwrap();
        let write = async move {
            let (batch, _) = RecordBatch::parse(&bytes).unwrap();
            loop {
                let room = partition.room().wait();
                match partition.append(batch.bytes(), batch.header()) {
                    Ok(appended) => {
                        ring::timer::sleep(pause).await;
                        if appended.ticket.committed().await.is_ok() {
                            acknowledged.lock().unwrap()[number as usize] = appended.base_offset + 1;
                        }
                    }
                    Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                        let _ = ring::timer::timeout(Duration::from_millis(20), room).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        spawn(Class::Latency, write).detach();
    }
    std::future::pending::<()>().await;
}

/// The journal's path, and its bytes as a crash left them.
fn journal(simulator: &Simulator, host: HostId) -> (String, Vec<u8>) {
    let mut files = simulator.files(host).into_iter();
    let (path, _) = files.find(|(path, _)| path.ends_with("journal")).unwrap();
    let bytes = simulator.read_file(host, &path).unwrap();
    (path, bytes)
}

/// Whether the ring has passed the tail of the superblock at `older`: what is from there to the other's tail, and from
/// that to the newest record, is more than a lap.
fn has_passed(bytes: &[u8], newer: usize, older: usize) -> bool {
    const TAIL_AT: usize = 48;
    const RECORD_MAGIC: &[u8] = b"RSLM";
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let records = (8_192..bytes.len() - 128).step_by(4_096);
    let records =
        records.filter(|at| &bytes[at + 4..at + 8] == RECORD_MAGIC && u64_at(at + 40) == *at as u64);
    let head = records.max_by_key(|at| u64_at(at + 32)).unwrap() as u64;
    let (tail, older_tail) = (u64_at(newer + TAIL_AT), u64_at(older + TAIL_AT));
    let distance = |from: u64, to: u64| (to + JOURNAL_BYTES - from) % JOURNAL_BYTES;
    distance(older_tail, tail) + distance(tail, head) > JOURNAL_BYTES
}

/// Where the newer superblock is, and the older.
fn superblocks(journal: &[u8]) -> (usize, usize) {
    const GENERATION_AT: usize = 32;
    let generation = |at: usize| u64::from_le_bytes(journal[at + GENERATION_AT..][..8].try_into().unwrap());
    if generation(0) > generation(4_096) {
        (0, 4_096)
    } else {
        (4_096, 0)
    }
}

/// A crash while the journal is all but full, after which the newer superblock rots; `None` if the ring never passed the tail
/// of the older one.
fn rotten(seed: u64) -> Option<(Simulator, HostId, Acknowledged)> {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    let acknowledged: Acknowledged = Arc::new(Mutex::new(vec![0; PARTITIONS as usize]));
    let shared = acknowledged.clone();
    simulator.start(host, 256 << 20, move || fill(shared, Duration::from_millis(1)));
    simulator.run_for(Duration::from_millis(1_000));
    for _ in 0..LOOKS {
        simulator.run_for(Duration::from_millis(5));
        let (path, bytes) = journal(&simulator, host);
        let (newer, older) = superblocks(&bytes);
        if has_passed(&bytes, newer, older) {
            simulator.kill(host);
            assert!(simulator.flip_bit(host, &path, newer as u64 + 20, 3).unwrap());
            return Some((simulator, host, acknowledged));
        }
    }
    None
}

#[test]
fn a_rotten_superblock_costs_nothing_when_the_ring_has_passed_the_older_ones_tail() {
    let mut passed = 0;
    for seed in 0..SEEDS {
        // Some write over all that is not kept, and end before a checkpoint makes that needless.
        for lives_ms in (60..=100).step_by(10) {
            let Some((mut simulator, host, acknowledged)) = rotten(seed) else {
                break;
            };
            passed += 1;
            let shared = acknowledged.clone();
            simulator.start(host, 256 << 20, move || fill(shared, Duration::from_millis(1)));
            simulator.run_for(Duration::from_millis(lives_ms));
            assert!(simulator.is_running(host), "seed {seed}: the start after the rot");
            simulator.kill(host);

            let reopened = simulator.run(host, 256 << 20, Duration::from_secs(60), move || async move {
                let log = open().await?;
                for (number, acknowledged) in acknowledged.lock().unwrap().iter().enumerate() {
                    let partition = log.partition(id(number as i32)).unwrap();
                    assert!(partition.high_watermark() >= *acknowledged, "partition {number}");
                }
                Ok::<(), StorageError>(())
            });
            reopened
                .unwrap()
                .unwrap_or_else(|error| panic!("seed {seed}, {lives_ms} ms: {error}"));
        }
    }
    assert!(passed > 0, "no crash came at the moment that this is about");
}
