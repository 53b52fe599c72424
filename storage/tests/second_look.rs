//! A journal that can be read when recovery looks for its end, and not when it is replayed a moment later.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ring::simulator::{DiskOperation, Injection, Simulator};
use storage::{
    DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ScrubOptions, ShardLog,
    ShardOptions, StorageError, TopicPartition,
};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

const LIMIT: Duration = Duration::from_secs(60);
const MEMORY_BYTES: usize = 64 << 20;
const ID: TopicPartition = TopicPartition {
    topic_id: 5,
    partition: 0,
};
/// Recovery reads a MiB at a time: the last record does not fit in what is read with those before it.
const FIRST_BYTES: usize = 700 << 10;
const LAST_BYTES: usize = 600 << 10;

async fn open() -> Result<(LogDirectory, ShardLog, PartitionLog), StorageError> {
    let options = DirectoryOptions {
        journal_bytes: 8 << 20,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let spec = PartitionSpec {
        id: ID,
        topic: "orders".to_owned(),
        leader_epoch: 0,
        config: PartitionConfig::default(),
    };
    let specs = vec![spec];
    let mut directory = LogDirectory::open(Path::new("/data"), options).await?;
    directory
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await?;
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
    let (log, _) = ShardLog::open(options, specs, &BTreeSet::new()).await?;
    let partition = log.partition(ID).unwrap();
    Ok((directory, log, partition))
}

async fn append(partition: &PartitionLog, bytes: usize) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&vec![7; bytes]),
        ..Default::default()
    });
    let bytes = builder.build();
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    let appended = partition.append(batch.bytes(), batch.header()).unwrap();
    appended.ticket.committed().await.unwrap();
}

#[test]
fn a_record_that_the_first_pass_accepted_is_not_left_out_by_the_second() {
    let mut refused = 0;
    for after in 0..40 {
        let mut simulator = Simulator::new(after);
        let host = simulator.host(1 << 30);
        simulator
            .run(host, 256 << 20, LIMIT, || async {
                let (_directory, _log, partition) = open().await.unwrap();
                append(&partition, FIRST_BYTES).await;
                // Nothing vouches for it: the process ends at once.
                append(&partition, LAST_BYTES).await;
            })
            .unwrap();
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Read,
                path_contains: "/journal".to_owned(),
                after: after as u32,
                // The second try fails as well.
                times: 2,
                errno: 5,
            },
        );
        let opened = simulator.run(host, 256 << 20, LIMIT, || async {
            let (_directory, _log, partition) = open().await?;
            append(&partition, 1).await;
            Ok::<_, StorageError>(partition.high_watermark())
        });
        refused += u32::from(opened.unwrap().is_err());
        simulator.heal_disk(host);
        // Whatever was said then, the log is whole: there is no hole where the record was.
        let again = simulator.run(host, 256 << 20, LIMIT, || async {
            let (_directory, _log, partition) = open().await?;
            Ok::<_, StorageError>(partition.high_watermark())
        });
        if let Err(error) = again.unwrap() {
            panic!("two reads failed after {after}: {error}");
        }
    }
    assert!(refused > 0, "no read that matters has failed");
}
