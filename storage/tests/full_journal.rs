//! A journal that producers fill faster than it is emptied.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ring::simulator::Simulator;
use ring::timer::timeout;
use storage::{
    AppendError, Appended, DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec,
    ScrubOptions, ShardLog, ShardOptions, TopicPartition,
};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

const JOURNAL_BYTES: u64 = 8 << 20;
const MEMORY_BYTES: usize = 64 << 20;
/// Migrating these takes longer than filling the journal.
const PARTITIONS: i32 = 30;
/// Small ones fill the journal to the brim; a large one is refused long before a migration is due by what is in it.
const BATCH_BYTES: [usize; 2] = [100 << 10, 1_000 << 10];
/// Far more than a journal holds.
const LAPS: u64 = 6;

fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&vec![7; bytes - 100]),
        ..Default::default()
    });
    builder.build()
}

async fn open() -> ShardLog {
    let directory = Path::new("/data");
    let options = DirectoryOptions {
        journal_bytes: JOURNAL_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let mut opened = LogDirectory::open(directory, options).await.unwrap();
    opened
        .prepare_shards(1, &[], &BTreeSet::new(), |_| 0)
        .await
        .unwrap();
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
    ShardLog::open(options, Vec::new(), &BTreeSet::new())
        .await
        .unwrap()
        .0
}

/// As a producer's request does: waits for room, but not for ever.
async fn append(partition: &PartitionLog, batch: &RecordBatch<'_>) -> Appended {
    loop {
        let room = partition.room().wait();
        match partition.append(batch.bytes(), batch.header()) {
            Ok(appended) => return appended,
            Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                let waited = timeout(Duration::from_secs(20), room).await;
                assert!(waited.is_ok(), "the journal stays full");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_journal_is_emptied_again_and_again() {
    for batch_bytes in BATCH_BYTES {
        fill(batch(batch_bytes));
    }
}

fn fill(bytes: Vec<u8>) {
    let appended = LAPS * JOURNAL_BYTES / bytes.len() as u64;
    let mut simulator = Simulator::new(3);
    let host = simulator.host(1 << 30);
    let limit = Duration::from_secs(600);
    let ended = simulator.run(host, 256 << 20, limit, move || async move {
        let log = open().await;
        let mut partitions = Vec::new();
        for partition in 0..PARTITIONS {
            let spec = PartitionSpec {
                id: TopicPartition {
                    topic_id: 5,
                    partition,
                },
                topic: "orders".to_owned(),
                leader_epoch: 0,
                config: PartitionConfig::default(),
            };
            partitions.push(log.create_partition(spec).await.unwrap());
        }
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        // Nobody waits for a batch before the next one: the journal is full again as soon as there is room.
        let mut turn = partitions.iter().cycle();
        let mut last = None;
        for _ in 0..appended {
            let partition = turn.next().unwrap();
            last = Some(append(partition, &batch).await);
        }
        last.unwrap().ticket.committed().await.unwrap();
        log.stop().await.unwrap();
        partitions.iter().map(PartitionLog::high_watermark).sum::<i64>()
    });
    assert_eq!(ended, Some(appended.cast_signed()));
}
