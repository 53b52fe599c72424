//! One life of a broker's storage: open, check everything, then write and read until the power goes.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::executor::{Class, Task, spawn};
use storage::{
    AppendError, DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ProducerCheck,
    ScrubOptions, ShardLog, ShardOptions, StorageError, TopicPartition,
};
use wire::record_batch::{BATCH_HEADER_BYTES, batches};
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

use crate::model::{BatchKey, Kept, Model, PartitionModel, Read, Sent};
use crate::plain::load_either;

pub(crate) type Shared = Arc<Mutex<Model>>;

/// The smallest that this is tested with: laps are short.
pub(crate) const RING_BYTES: u64 = 512 << 10;
pub(crate) const LOG_MEMORY_BYTES: usize = 16 << 20;
pub(crate) const DATA: &str = "/data";
/// Several times in a life.
const RETENTION_CHECK_INTERVAL: Duration = Duration::from_millis(3);
/// As often, and faster than anything is written.
const SCRUB: ScrubOptions = ScrubOptions {
    bytes_per_second: NonZeroU64::new(256 << 20),
    interval: Duration::from_millis(1),
};
/// Batches of a producer in flight at most, as Kafka's clients have it.
const WINDOW: usize = 4;

/// What a life is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) number: u32,
    pub(crate) shards: u32,
    /// How often their number has changed before.
    pub(crate) layout: u32,
    /// Ends by itself, with a clean stop, when so many batches were acknowledged in all, and some journal has made so
    /// many laps.
    pub(crate) stops_at: Option<(u64, u64)>,
    /// Topics come and go.
    pub(crate) topics_change: bool,
    /// Sealed segments are read again all the time. Nothing is ever found: the disk is good.
    pub(crate) scrubs: bool,
}

impl Plan {
    /// The first life of a run has all of it in the journal, and no partition a directory before the first migration.
    fn direct_bytes_min(&self) -> usize {
        [usize::MAX, 4 << 10, 16 << 10, 48 << 10][(self.number as usize - 1) % 4]
    }
}

pub(crate) fn lock(model: &Shared) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until it is killed, or until the plan's end.
pub(crate) async fn live(model: Shared, plan: Plan) -> Result<(), StorageError> {
    let (_directory, shards) = open(&model, plan).await?;
    lock(&model).lives += 1;
    let stop = Rc::new(Cell::new(false));
    let mut tasks: Vec<Task<()>> = Vec::new();
    for log in logs(&model, &shards) {
        tasks.push(spawn(
            Class::Latency,
            write(model.clone(), log.clone(), stop.clone()),
        ));
        tasks.push(spawn(
            Class::Latency,
            follow(model.clone(), log.clone(), stop.clone()),
        ));
        // Else the logs would not grow so large that old segments go.
        if !matches!(lock(&model).kept, Kept::Bytes(_)) {
            tasks.push(spawn(Class::Latency, delete(model.clone(), log, stop.clone())));
        }
    }
    if plan.topics_change {
        tasks.push(spawn(
            Class::Latency,
            change_topics(model.clone(), shards.clone(), plan, stop.clone()),
        ));
    }
    let watched = shards.iter().cloned().map(|shard| {
        spawn(Class::Latency, async move {
            let finding = shard.next_finding().await;
            panic!("nothing is damaged, and the scrubber says {finding:?}");
        })
    });
    let _watched: Vec<Task<()>> = watched.collect();
    let mut before = vec![(0, 0); shards.len()];
    loop {
        ring::timer::sleep(Duration::from_millis(1)).await;
        let mut model = lock(&model);
        for (shard, (log, before)) in shards.iter().zip(&mut before).enumerate() {
            let statistics = log.statistics();
            let bytes = statistics.journal_bytes;
            model.direct_bytes = model.direct_bytes.max(statistics.direct_bytes);
            *model
                .journal_bytes
                .entry((plan.layout, shard as u32))
                .or_default() += bytes - before.0;
            model.scrubbed_bytes += statistics.scrub.bytes - before.1;
            *before = (bytes, statistics.scrub.bytes);
        }
        let is_enough = |(batches, laps)| model.acknowledged >= batches && model.laps() >= laps;
        if plan.stops_at.is_some_and(is_enough) {
            break;
        }
    }
    stop.set(true);
    for task in tasks {
        task.await;
    }
    // What earlier lives have left to remove is gone by then. Nobody writes meanwhile, so it costs nothing.
    ring::timer::sleep(Duration::from_secs(1)).await;
    for shard in &shards {
        shard.stop().await?;
    }
    Ok(())
}

/// Opens all shards, and holds everything that they have against the model.
pub(crate) async fn open(model: &Shared, plan: Plan) -> Result<(LogDirectory, Vec<ShardLog>), StorageError> {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options).await?;
    let (specs, deleted) = {
        let model = lock(model);
        let specs = model.partitions.iter().map(|(id, partition)| PartitionSpec {
            id: *id,
            topic: partition.topic.clone(),
            leader_epoch: plan.number as i32,
            config: config(model.kept, partition.flush_messages),
        });
        (specs.collect::<Vec<_>>(), model.deleted.iter().copied().collect())
    };
    let owner = |id: TopicPartition| owner(id, plan.shards);
    directory
        .prepare_shards(plan.shards, &specs, &deleted, owner)
        .await?;
    let mut shards = Vec::new();
    for shard in 0..plan.shards {
        let options = ShardOptions {
            directory: DATA.into(),
            shard,
            memory_bytes: LOG_MEMORY_BYTES,
            direct_bytes_min: plan.direct_bytes_min(),
            open_files_max: 128,
            file_delete_delay: Duration::from_millis(5),
            retention_check_interval: RETENTION_CHECK_INTERVAL,
            scrub: if plan.scrubs { SCRUB } else { ScrubOptions::OFF },
        };
        let own = specs.iter().filter(|spec| owner(spec.id) == shard).cloned();
        let (log, report) = ShardLog::open(options, own.collect(), &deleted).await?;
        assert!(report.strays.is_empty(), "{:?} are no strays", report.strays);
        shards.push(log);
    }
    let leftovers = directory.leftovers().await?;
    spawn(Class::Background, async move { leftovers.remove().await }).detach();
    for log in logs(model, &shards) {
        let high_watermark = log.high_watermark();
        assert_eq!(high_watermark, log.log_end_offset());
        let (log_start, read) = loop {
            let log_start = log.log_start_offset();
            let read = read_all(&log, log_start, high_watermark).await?;
            // Old segments may go meanwhile.
            if log.log_start_offset() == log_start {
                break (log_start, read);
            }
        };
        let mut model = lock(model);
        let kept = model.kept;
        model.shards = plan.shards;
        let partition = model.partitions.get_mut(&log.id()).expect("it is in the model");
        let before = partition.outstanding.len();
        let is_unasked = partition.check(log.id(), &read, log_start, high_watermark, kept);
        let taken_back = partition.outstanding.len() - before;
        model.taken_back += taken_back as u64;
        model.acknowledged -= taken_back as u64;
        model.removed_unasked += u32::from(is_unasked);
    }
    Ok((directory, shards))
}

fn config(kept: Kept, flush_messages: u64) -> PartitionConfig {
    PartitionConfig {
        segment_bytes: 96 << 10,
        retention_bytes: match kept {
            Kept::Bytes(bytes) => Some(bytes),
            Kept::All | Kept::Nothing => None,
        },
        // Their timestamps are of 1970.
        retention_ms: (kept == Kept::Nothing).then_some(1),
        flush_messages: flush_messages.max(1),
        // Some flushes come by themselves in a life, and some do not.
        flush_ms: if flush_messages == 7 { 30 } else { u64::MAX },
        ..PartitionConfig::default()
    }
}

fn owner(id: TopicPartition, shards: u32) -> u32 {
    (id.topic_id as u32).wrapping_add(id.partition.unsigned_abs()) % shards
}

fn logs(model: &Shared, shards: &[ShardLog]) -> Vec<PartitionLog> {
    let find = |id: &TopicPartition| {
        let log = shards[owner(*id, shards.len() as u32) as usize].partition(*id);
        log.unwrap_or_else(|| panic!("{id} is not there after a start"))
    };
    lock(model).partitions.keys().map(find).collect()
}

/// Every batch from `from` up to `to`.
async fn read_all(log: &PartitionLog, from: i64, to: i64) -> Result<Vec<Read>, StorageError> {
    let mut all = Vec::new();
    let mut offset = from;
    while offset < to {
        let Ok(extent) = log.read(offset, 64 << 10, true, to) else {
            assert!(offset < log.log_start_offset(), "within the log");
            break;
        };
        let slices = load_either(log, extent).await?;
        for batch in slices.iter().flat_map(|slice| batches(slice)) {
            let batch = batch.expect("a batch");
            batch.verify_crc().expect("a good CRC");
            let header = batch.header();
            assert!(header.next_offset() <= to, "what is not durable was readable");
            offset = header.next_offset();
            all.push(Read {
                base_offset: header.base_offset,
                next_offset: header.next_offset(),
                key: (header.producer_id, header.base_sequence),
                crc: header.crc,
                records: header.record_count,
            });
        }
    }
    Ok(all)
}

/// A producer: first what was not acknowledged in an earlier life, then new batches, a few in flight.
async fn write(model: Shared, log: PartitionLog, stop: Rc<Cell<bool>>) {
    let id = log.id();
    let again: Vec<BatchKey> = match lock(&model).partitions.get(&id) {
        Some(partition) => partition.outstanding.clone(),
        None => return,
    };
    let mut waiting: Vec<Task<()>> = Vec::new();
    let mut keys = again.into_iter();
    loop {
        let next = keys.next();
        if next.is_none() && stop.get() {
            break;
        }
        let (key, bytes) = {
            let mut model = lock(&model);
            let Some(partition) = model.partitions.get_mut(&id) else {
                break;
            };
            let key = next.unwrap_or_else(|| new_batch(partition));
            (key, partition.sent[&key].bytes.clone())
        };
        match send(&model, &log, key, &bytes).await {
            Some(task) => waiting.push(task),
            None => break,
        }
        // A client that heard nothing sends again, on another connection, while the first is being committed.
        if ring::random::next_u64().is_multiple_of(8)
            && let Some(task) = send(&model, &log, key, &bytes).await
        {
            waiting.push(task);
        }
        while waiting.len() >= WINDOW {
            waiting.remove(0).await;
        }
        if ring::random::next_u64().is_multiple_of(16) {
            ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 3_000)).await;
        }
    }
    for task in waiting {
        task.await;
    }
}

/// Appends one batch, and waits in a task until it is durable. `None` if the log takes no more.
async fn send(model: &Shared, log: &PartitionLog, key: BatchKey, bytes: &[u8]) -> Option<Task<()>> {
    let id = log.id();
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>()?);
    let (base_offset, ticket, flushed) = loop {
        match log.check_producer(&header) {
            ProducerCheck::Append => {}
            ProducerCheck::Duplicate {
                base_offset, ticket, ..
            } => {
                lock(model).duplicates += 1;
                // What came between the batch and its repetition is not flushed with it.
                break (base_offset, ticket, Vec::new());
            }
            ProducerCheck::OutOfOrder => panic!("{id}: the producer's state was lost at {key:?}"),
            ProducerCheck::EpochFenced => panic!("{id}: a producer was fenced by nobody"),
        }
        match log.append(bytes, &header) {
            Ok(appended) => {
                let next_offset = appended.base_offset + i64::from(header.record_count);
                let mut model = lock(model);
                model.appended(id, next_offset);
                break (appended.base_offset, appended.ticket, model.flushed_with(id));
            }
            Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                ring::timer::sleep(Duration::from_micros(500)).await;
            }
            Err(AppendError::Fenced(_)) => return None,
            Err(error) => panic!("{id}: {error}"),
        }
    };
    let (model, log) = (model.clone(), log.clone());
    Some(spawn(Class::Latency, async move {
        if ticket.committed().await.is_err() {
            return;
        }
        assert!(
            log.high_watermark() > base_offset,
            "{id}: acknowledged before it could be read"
        );
        let mut model = lock(&model);
        for (id, offset) in flushed {
            if let Some(partition) = model.partitions.get_mut(&id) {
                partition.flushed_before = partition.flushed_before.max(offset);
            }
        }
        if let Some(partition) = model.partitions.get_mut(&id) {
            partition.promise(key, base_offset);
            let outstanding = partition.outstanding.len();
            partition.outstanding.retain(|other| *other != key);
            model.acknowledged += u64::from(partition.outstanding.len() < outstanding);
        }
    }))
}

/// A batch that nobody has sent before, of any size up to a few blocks.
fn new_batch(partition: &mut PartitionModel) -> BatchKey {
    let key = (partition.producer_id, partition.next_sequence);
    let chance = ring::random::next_u64();
    let value_bytes = match chance % 16 {
        0 => chance / 16 % 12_000,
        1..4 => chance / 16 % 4_000,
        _ => chance / 16 % 300,
    };
    let records = 1 + (chance / 1_000 % 3) as i32;
    let mut builder = BatchBuilder::new(Compression::None).producer(key.0, 0, key.1);
    let value = vec![(chance % 251) as u8; value_bytes as usize];
    for record in 0..records {
        builder.push(&NewRecord {
            timestamp_ms: i64::from(key.1 + record),
            value: Some(&value),
            ..NewRecord::default()
        });
    }
    let bytes = builder.build();
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a batch"));
    partition.next_sequence += records;
    partition.outstanding.push(key);
    let sent = Sent {
        crc: header.crc,
        records,
        bytes,
        promised: None,
    };
    partition.sent.insert(key, sent);
    key
}

/// A consumer that starts at a random offset and follows the log; whatever it has seen is promised.
async fn follow(model: Shared, log: PartitionLog, stop: Rc<Cell<bool>>) {
    let id = log.id();
    let mut offset = match log.high_watermark() {
        0 => 0,
        end => (ring::random::next_u64() % end as u64) as i64,
    };
    let mut is_first = true;
    while !stop.get() {
        let moved = log.moved();
        let moved = moved.wait();
        let end = log.high_watermark();
        if offset < log.log_start_offset() {
            offset = log.log_start_offset();
            is_first = true;
        }
        let Ok(read) = read_all(&log, offset, end).await else {
            return;
        };
        {
            let mut model = lock(&model);
            let Some(partition) = model.partitions.get_mut(&id) else {
                return;
            };
            for read in read {
                // The first batch may begin before the offset that was asked for.
                assert!(is_first || read.base_offset == offset);
                is_first = false;
                offset = read.next_offset;
                partition.promise(read.key, read.base_offset);
            }
        }
        let _ = ring::timer::timeout(Duration::from_millis(5), moved).await;
    }
}

/// Deletes records from the front of the log now and then, some or all.
async fn delete(model: Shared, log: PartitionLog, stop: Rc<Cell<bool>>) {
    let id = log.id();
    while !stop.get() {
        ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 60_000)).await;
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let span = (end - start + 1).unsigned_abs();
        let before = match ring::random::next_u64() % 4 {
            0 => end,
            _ => start + (ring::random::next_u64() % span / 2).cast_signed(),
        };
        if let Some(partition) = lock(&model).partitions.get_mut(&id) {
            partition.deleting_before = partition.deleting_before.max(before);
        }
        let Ok(begins) = log.delete_records(before).await else {
            return;
        };
        assert!(
            begins >= before && log.log_start_offset() >= begins,
            "{id}: deleted, and still there"
        );
        if let Some(partition) = lock(&model).partitions.get_mut(&id) {
            partition.deleted_before = partition.deleted_before.max(begins);
        }
    }
}

/// Deletes a topic now and then, and creates another.
async fn change_topics(model: Shared, shards: Vec<ShardLog>, plan: Plan, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        ring::timer::sleep(Duration::from_micros(ring::random::next_u64() % 40_000)).await;
        let of = |id: TopicPartition| shards[owner(id, plan.shards) as usize].clone();
        if ring::random::next_u64().is_multiple_of(2) {
            let (id, spec) = {
                let mut model = lock(&model);
                let id = model.add_topic();
                let topic = model.partitions[&id].topic.clone();
                let config = config(model.kept, model.partitions[&id].flush_messages);
                let leader_epoch = plan.number as i32;
                (
                    id,
                    PartitionSpec {
                        id,
                        topic,
                        leader_epoch,
                        config,
                    },
                )
            };
            let Ok(log) = of(id).create_partition(spec).await else {
                return;
            };
            spawn(Class::Latency, write(model.clone(), log, stop.clone())).detach();
        } else {
            let id = {
                let mut model = lock(&model);
                if model.partitions.len() < 4 {
                    continue;
                }
                let nth = ring::random::next_u64() as usize % model.partitions.len();
                let id = *model.partitions.keys().nth(nth).expect("counted");
                // Metadata leads: it is deleted before any shard drops it.
                model.partitions.remove(&id);
                model.deleted.push(id.topic_id);
                id
            };
            if of(id).drop_partition(id).await.is_err() {
                return;
            }
        }
    }
}

impl Model {
    /// Of the journal that has made most.
    pub(crate) fn laps(&self) -> u64 {
        self.journal_bytes
            .values()
            .max()
            .map_or(0, |bytes| bytes / RING_BYTES)
    }

    /// A batch is in the pending commit.
    fn appended(&mut self, id: TopicPartition, next_offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.end = next_offset;
        }
    }

    /// What of partitions that are flushed later has to be flushed when all that this one has so far is acknowledged.
    fn flushed_with(&self, id: TopicPartition) -> Vec<(TopicPartition, i64)> {
        let is_flushed_first =
            (self.partitions.get(&id)).is_some_and(|partition| partition.flush_messages <= 1);
        if !is_flushed_first {
            return Vec::new();
        }
        let others = self.partitions.iter();
        let its = others.filter(|(other, partition)| {
            partition.flush_messages > 1 && owner(**other, self.shards) == owner(id, self.shards)
        });
        its.map(|(other, partition)| (*other, partition.end)).collect()
    }

    /// A new topic with one partition. Names recur.
    pub(crate) fn add_topic(&mut self) -> TopicPartition {
        self.next_topic += 1;
        let id = TopicPartition {
            topic_id: self.next_topic << 64 | self.next_topic,
            partition: 0,
        };
        let mut topic = (0..).map(|n| format!("topic{n}"));
        let is_free = |name: &String| self.partitions.values().all(|partition| partition.topic != *name);
        let partition = PartitionModel {
            topic: topic.find(is_free).expect("numbers do not end"),
            producer_id: 1_000 + self.next_topic as i64,
            flush_messages: match self.next_topic % 3 {
                1 if self.flushes_later => u64::MAX,
                2 if self.flushes_later => 7,
                _ => 1,
            },
            ..PartitionModel::default()
        };
        self.partitions.insert(id, partition);
        id
    }
}
