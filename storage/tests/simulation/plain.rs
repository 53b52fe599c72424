//! A directory of one shard, batches and reads: for tests that say themselves what happens to it.

use std::path::Path;
use std::time::Duration;

use ring::buffer::Slice;
use ring::executor::{Class, spawn};
use storage::{
    AppendError, Appended, DirectoryOptions, Extent, LogDirectory, PartitionLog, PartitionSpec,
    RecoveryReport, ScrubOptions, ShardLog, ShardOptions, StorageError, TopicPartition,
};
use wire::record_batch::{self, BATCH_HEADER_BYTES};
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

use crate::life::DATA;

/// How a directory is opened.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) journal_bytes: u64,
    pub(crate) memory_bytes: usize,
    pub(crate) direct_bytes_min: usize,
    /// The topic that the metadata says is deleted.
    pub(crate) deleted: Option<u128>,
}

impl Default for Place {
    fn default() -> Place {
        Place {
            journal_bytes: 8 << 20,
            memory_bytes: 24 << 20,
            direct_bytes_min: 64 << 10,
            deleted: None,
        }
    }
}

/// An open directory; it is in use for as long as this lives.
pub(crate) struct Opened {
    _directory: LogDirectory,
    pub(crate) shard: ShardLog,
    pub(crate) report: RecoveryReport,
}

impl Opened {
    pub(crate) fn log(&self, topic_id: u128) -> PartitionLog {
        self.shard.partition(id(topic_id)).expect("it is there")
    }
}

pub(crate) fn id(topic_id: u128) -> TopicPartition {
    TopicPartition {
        topic_id,
        partition: 0,
    }
}

pub(crate) fn spec(topic_id: u128, topic: &str) -> PartitionSpec {
    PartitionSpec {
        id: id(topic_id),
        topic: topic.to_owned(),
        leader_epoch: 1,
        config: storage::PartitionConfig::default(),
    }
}

pub(crate) async fn open(place: Place, specs: Vec<PartitionSpec>) -> Result<Opened, StorageError> {
    let options = DirectoryOptions {
        journal_bytes: place.journal_bytes,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: place.memory_bytes,
    };
    let deleted = place.deleted.into_iter().collect();
    let mut directory = LogDirectory::open(Path::new(DATA), options).await?;
    directory.prepare_shards(1, &specs, &deleted, |_| 0).await?;
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: place.memory_bytes,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        direct_bytes_min: place.direct_bytes_min,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (shard, report) = ShardLog::open(options, specs, &deleted).await?;
    let leftovers = directory.leftovers().await?;
    spawn(Class::Background, async move { leftovers.remove().await }).detach();
    Ok(Opened {
        _directory: directory,
        shard,
        report,
    })
}

/// A batch of so many records, each with a value of so many bytes.
pub(crate) fn batch(records: usize, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![7; value_bytes];
    for _ in 0..records {
        builder.push(&NewRecord {
            timestamp_ms: 1,
            value: Some(&value),
            ..NewRecord::default()
        });
    }
    builder.build()
}

pub(crate) fn try_append(log: &PartitionLog, bytes: &[u8]) -> Result<Appended, AppendError> {
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
    log.append(bytes, &header)
}

/// Waits for room, and until it is acknowledged.
pub(crate) async fn append(log: &PartitionLog, bytes: &[u8]) -> Result<i64, String> {
    loop {
        match try_append(log, bytes) {
            Ok(appended) => {
                let committed = appended.ticket.committed().await;
                return committed
                    .map(|()| appended.base_offset)
                    .map_err(|error| error.to_string());
            }
            Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                ring::timer::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// First offsets of the batches that a read gives.
pub(crate) async fn read(log: &PartitionLog, offset: i64) -> Result<Vec<i64>, String> {
    let extent = log
        .read(offset, 1 << 20, true, log.high_watermark())
        .map_err(|error| error.to_string())?;
    let slices = log.load(extent).await.map_err(|error| error.to_string())?;
    let batches = slices.iter().flat_map(|slice| record_batch::batches(slice));
    Ok(batches
        .map(|batch| batch.expect("whole").header().base_offset)
        .collect())
}

/// Reads all batches from `from` up to `end`, one answer after the other, and nothing else.
pub(crate) async fn read_through(log: &PartitionLog, from: i64, end: i64) {
    let mut offset = from;
    while offset < end {
        let found = read(log, offset).await.expect("read");
        assert_eq!(found.first(), Some(&offset));
        offset += found.len() as i64;
    }
}

/// Loads as a consumer does, or as others do.
pub(crate) async fn load_either(log: &PartitionLog, extent: Extent) -> Result<Vec<Slice>, StorageError> {
    if ring::random::next_u64().is_multiple_of(4) {
        return log.load(extent).await;
    }
    let slices = log.load_for_consumer(extent, true).await?;
    Ok(vec![Slice::from(
        slices
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect::<Vec<u8>>(),
    )])
}
