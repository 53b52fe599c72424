//! One life of a broker's storage: open, check everything, then write, read, delete and clean until the power goes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::buffer::Slice;
use ring::executor::{Class, Task, spawn};
use storage::{
    AppendError, CleanerConfig, CompactionConfig, DirectoryOptions, LogDirectory, PartitionConfig,
    PartitionLog, PartitionSpec, ProducerCheck, ScrubOptions, ShardLog, ShardOptions, StorageError,
    TopicPartition,
};
use wire::record_batch::{BATCH_HEADER_BYTES, batches};
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

use crate::model::{DELETE_RETENTION_MS, Model, PartitionModel, Sent, Written};

pub(crate) type Shared = Arc<Mutex<Model>>;

const RING_BYTES: u64 = 512 << 10;
pub(crate) const LOG_MEMORY_BYTES: usize = 16 << 20;
pub(crate) const DATA: &str = "/data";
const WINDOW: usize = 4;
/// Sealed segments are read again all the time, while others take their place. Nothing is ever found: the disk is good.
const SCRUB: ScrubOptions = ScrubOptions {
    bytes_per_second: NonZeroU64::new(256 << 20),
    interval: Duration::from_millis(1),
};

/// What a life is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) number: u32,
    pub(crate) shards: u32,
    /// Ends by itself, with a clean stop, when so many batches were acknowledged and so many cleanings done, in all.
    pub(crate) stops_at: Option<(u64, u64)>,
}

pub(crate) fn lock(model: &Shared) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until it is killed, or until the plan's end.
pub(crate) async fn live(model: Shared, plan: Plan) -> Result<(), StorageError> {
    let (_directory, shards) = open(&model, plan).await?;
    let stop = Rc::new(Cell::new(false));
    let mut tasks: Vec<Task<()>> = Vec::new();
    for shard in &shards {
        shard.set_cleaner(cleaner());
        let cleaning = shard.clone();
        spawn(Class::Background, async move {
            let report = cleaning.compaction_report().await;
            panic!("{} cannot be cleaned: {}", report.partition, report.error);
        })
        .detach();
        let scrubbing = shard.clone();
        spawn(Class::Background, async move {
            let finding = scrubbing.next_finding().await;
            panic!("nothing is damaged, and the scrubber says {finding:?}");
        })
        .detach();
    }
    for log in logs(&model, &shards) {
        tasks.push(spawn(
            Class::Latency,
            write(model.clone(), log.clone(), stop.clone()),
        ));
        tasks.push(spawn(
            Class::Latency,
            read_anywhere(model.clone(), log.clone(), stop.clone()),
        ));
        tasks.push(spawn(Class::Latency, delete(model.clone(), log, stop.clone())));
    }
    let mut before = vec![(0, 0); shards.len()];
    loop {
        ring::timer::sleep(Duration::from_millis(1)).await;
        let mut model = lock(&model);
        for (shard, before) in shards.iter().zip(&mut before) {
            let statistics = shard.statistics();
            let (cleanings, scrubbed) = (statistics.compaction.cleanings, statistics.scrub.bytes);
            model.cleanings += cleanings - before.0;
            model.scrubbed_bytes += scrubbed - before.1;
            *before = (cleanings, scrubbed);
        }
        let is_enough = |(batches, cleanings)| model.acknowledged >= batches && model.cleanings >= cleanings;
        if plan.stops_at.is_some_and(is_enough) {
            break;
        }
    }
    stop.set(true);
    for task in tasks {
        task.await;
    }
    for shard in &shards {
        shard.stop().await?;
    }
    Ok(())
}

/// Any that there may be: a map for all keys or for few, held back or not.
fn cleaner() -> CleanerConfig {
    let chance = ring::random::next_u64();
    CleanerConfig {
        is_enabled: true,
        dedupe_buffer_bytes: [1, 1 << 20][(chance % 2) as usize],
        io_bytes_per_second: [u64::MAX, 4 << 20][(chance / 2 % 2) as usize],
        backoff: Duration::from_micros(100 + chance / 4 % 10_000),
    }
}

/// Opens all shards, and holds everything that they have against the model.
async fn open(model: &Shared, plan: Plan) -> Result<(LogDirectory, Vec<ShardLog>), StorageError> {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options).await?;
    let ids: Vec<TopicPartition> = lock(model).partitions.keys().copied().collect();
    let specs = ids.iter().map(|id| PartitionSpec {
        id: *id,
        topic: "compacted".to_owned(),
        leader_epoch: plan.number as i32,
        config: PartitionConfig {
            segment_bytes: 12 << 10,
            index_interval_bytes: 500,
            compaction: Some(CompactionConfig {
                min_cleanable_dirty_ppm: 0,
                delete_retention_ms: DELETE_RETENTION_MS,
                ..CompactionConfig::default()
            }),
            ..PartitionConfig::default()
        },
    });
    let specs: Vec<_> = specs.collect();
    let owner = |id: TopicPartition| owner(id, plan.shards);
    directory
        .prepare_shards(plan.shards, &specs, &BTreeSet::new(), owner)
        .await?;
    let mut shards = Vec::new();
    for shard in 0..plan.shards {
        let options = ShardOptions {
            directory: DATA.into(),
            shard,
            memory_bytes: LOG_MEMORY_BYTES,
            direct_bytes_min: [4 << 10, 64 << 10][(ring::random::next_u64() % 2) as usize],
            open_files_max: 128,
            file_delete_delay: Duration::from_millis(5),
            retention_check_interval: Duration::from_secs(300),
            scrub: SCRUB,
        };
        let own = specs.iter().filter(|spec| owner(spec.id) == shard).cloned();
        let (log, _) = ShardLog::open(options, own.collect(), &BTreeSet::new()).await?;
        shards.push(log);
    }
    for log in logs(model, &shards) {
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        assert_eq!(end, log.log_end_offset());
        let read = read_all(&log, start, end).await?;
        let now_ms = ring::clock::wall_clock_ms();
        let mut model = lock(model);
        let partition = model.partitions.get_mut(&log.id()).expect("it is in the model");
        let missing = partition.check(log.id(), &read, start, end, now_ms);
        model.holes += missing;
    }
    Ok((directory, shards))
}

fn owner(id: TopicPartition, shards: u32) -> u32 {
    id.partition.unsigned_abs() % shards
}

fn logs(model: &Shared, shards: &[ShardLog]) -> Vec<PartitionLog> {
    let find = |id: &TopicPartition| {
        let log = shards[owner(*id, shards.len() as u32) as usize].partition(*id);
        log.unwrap_or_else(|| panic!("{id} is not there after a start"))
    };
    lock(model).partitions.keys().map(find).collect()
}

/// The bytes of every batch from `from` up to `to`.
pub(crate) async fn read_all(log: &PartitionLog, from: i64, to: i64) -> Result<Vec<u8>, StorageError> {
    let mut all = Vec::new();
    let mut offset = from;
    while offset < to {
        let Ok(extent) = log.read(offset, 64 << 10, true, to) else {
            assert!(offset < log.log_start_offset(), "within the log");
            break;
        };
        let slices = if ring::random::next_u64().is_multiple_of(4) {
            log.load(extent).await?
        } else {
            let slices = log.load_for_consumer(extent, true).await?;
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            vec![Slice::from(bytes)]
        };
        let before = offset;
        for slice in &slices {
            for batch in batches(slice) {
                let header = *batch.expect("a batch").header();
                assert!(
                    header.next_offset() > offset,
                    "what was before the offset was given"
                );
                assert!(header.next_offset() <= to, "what is not durable was readable");
                offset = header.next_offset();
            }
            all.extend_from_slice(slice);
        }
        if offset == before {
            // What was there may have newer records beyond the end by now.
            if log.high_watermark() > to {
                break;
            }
            assert!(
                offset < log.log_start_offset(),
                "nothing is there from {offset} to {to}"
            );
            break;
        }
    }
    Ok(all)
}

/// A producer: first what was not acknowledged in an earlier life, then new batches, a few in flight.
async fn write(model: Shared, log: PartitionLog, stop: Rc<Cell<bool>>) {
    let id = log.id();
    let again = lock(&model).partitions[&id].outstanding.clone();
    let mut waiting: Vec<Task<()>> = Vec::new();
    let mut sequences = again.into_iter();
    loop {
        let next = sequences.next();
        if next.is_none() && stop.get() {
            break;
        }
        let (sequence, bytes) = {
            let mut model = lock(&model);
            let model = &mut *model;
            let partition = model.partitions.get_mut(&id).expect("it is in the model");
            let sequence = next.unwrap_or_else(|| new_batch(partition, &mut model.next_value));
            (sequence, partition.sent[&sequence].bytes.clone())
        };
        match send(&model, &log, sequence, &bytes).await {
            Some(task) => waiting.push(task),
            None => break,
        }
        while waiting.len() >= WINDOW {
            waiting.remove(0).await;
        }
        if ring::random::next_u64().is_multiple_of(8) {
            ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 5_000)).await;
        }
    }
    for task in waiting {
        task.await;
    }
}

/// Appends one batch, and waits in a task until it is durable. `None` if the log takes no more.
async fn send(model: &Shared, log: &PartitionLog, sequence: i32, bytes: &[u8]) -> Option<Task<()>> {
    let id = log.id();
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>()?);
    let (base_offset, ticket) = loop {
        match log.check_producer(&header) {
            ProducerCheck::Append => {}
            ProducerCheck::Duplicate {
                base_offset, ticket, ..
            } => break (base_offset, ticket),
            ProducerCheck::OutOfOrder => panic!("{id}: the producer's state was lost at {sequence}"),
            ProducerCheck::EpochFenced => panic!("{id}: a producer was fenced by nobody"),
        }
        match log.append(bytes, &header) {
            Ok(appended) => break (appended.base_offset, appended.ticket),
            Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                ring::timer::sleep(Duration::from_micros(500)).await;
            }
            Err(AppendError::Fenced(_)) => return None,
            Err(error) => panic!("{id}: {error}"),
        }
    };
    let model = model.clone();
    Some(spawn(Class::Latency, async move {
        if ticket.committed().await.is_err() {
            return;
        }
        let mut model = lock(&model);
        let partition = model.partitions.get_mut(&id).expect("it is in the model");
        partition.promise(sequence, base_offset);
        let outstanding = partition.outstanding.len();
        partition.outstanding.retain(|other| *other != sequence);
        let acknowledged = u64::from(partition.outstanding.len() < outstanding);
        model.acknowledged += acknowledged;
    }))
}

/// A batch that nobody has sent before, of a few keys.
fn new_batch(partition: &mut PartitionModel, next_value: &mut u64) -> i32 {
    let sequence = partition.next_sequence;
    let chance = ring::random::next_u64();
    let codec = Compression::ALL[(chance % 8).min(4) as usize];
    let mut builder = BatchBuilder::new(codec).producer(partition.producer_id, 0, sequence);
    let mut records = Vec::new();
    for _ in 0..1 + chance / 8 % 4 {
        let chance = ring::random::next_u64();
        *next_value += 1;
        let record = Written {
            key: (chance % partition.keys) as u16,
            value: (!(chance >> 10).is_multiple_of(6)).then_some(*next_value),
            time_ms: ring::clock::wall_clock_ms(),
        };
        let length = 8 + [chance >> 20 & 2_047, chance >> 20 & 63][usize::from(chance >> 16 & 7 > 0)];
        let value = record.value.map(|value| {
            let mut bytes = value.to_be_bytes().to_vec();
            bytes.resize(length as usize, value as u8);
            bytes
        });
        builder.push(&NewRecord {
            timestamp_ms: record.time_ms,
            key: Some(&record.key.to_be_bytes()),
            value: value.as_deref(),
            ..NewRecord::default()
        });
        records.push(record);
    }
    partition.next_sequence += records.len() as i32;
    partition.outstanding.push(sequence);
    let bytes = builder.build();
    partition.sent.insert(sequence, Sent { records, bytes });
    sequence
}

/// A consumer that looks at one place and another: whatever it sees is what was sent there.
async fn read_anywhere(model: Shared, log: PartitionLog, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let span = (end - start).unsigned_abs() + 1;
        let from = start + (ring::random::next_u64() % span).cast_signed();
        let to = if ring::random::next_u64().is_multiple_of(4) {
            start
        } else {
            from
        };
        let Ok(read) = read_all(&log, to, end).await else {
            return;
        };
        {
            let mut model = lock(&model);
            let partition = model.partitions.get_mut(&log.id()).expect("it is in the model");
            for batch in batches(&read) {
                partition.see(&batch.expect("a batch"));
            }
        }
        ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 4_000)).await;
    }
}

/// Deletes records from the front of the log now and then.
async fn delete(model: Shared, log: PartitionLog, stop: Rc<Cell<bool>>) {
    let id = log.id();
    while !stop.get() {
        ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 200_000)).await;
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let span = (end - start + 1).unsigned_abs();
        let before = start + (ring::random::next_u64() % span / 2).cast_signed();
        if let Some(partition) = lock(&model).partitions.get_mut(&id) {
            partition.deleting_before = partition.deleting_before.max(before);
        }
        let Ok(begins) = log.delete_records(before).await else {
            return;
        };
        if let Some(partition) = lock(&model).partitions.get_mut(&id) {
            partition.deleted_before = partition.deleted_before.max(begins);
        }
    }
}
