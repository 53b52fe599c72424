//! One log, compacted step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ring::simulator::{HostId, Simulator};
use storage::{
    AppendError, CleanerConfig, CompactionConfig, DirectoryOptions, LogDirectory, OpeningBudget,
    PartitionConfig, PartitionLog, PartitionSpec, ScrubOptions, ShardLog, ShardOptions, StorageError,
    TopicPartition,
};
use wire::record_batch::{BATCH_HEADER_BYTES, assign_log_append_time, batches};
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord, records};

use crate::LIMIT;
use crate::life::read_all;

pub(crate) const MEMORY_BYTES: usize = 16 << 20;
const SEGMENT_BYTES: u32 = 16 << 10;
pub(crate) const ANY: CompactionConfig = CompactionConfig {
    min_cleanable_dirty_ppm: 0,
    min_compaction_lag_ms: 0,
    max_compaction_lag_ms: i64::MAX,
    delete_retention_ms: 1_000,
};
pub(crate) const CLEANER: CleanerConfig = CleanerConfig {
    is_enabled: true,
    dedupe_buffer_bytes: 1 << 20,
    io_bytes_per_second: u64::MAX,
    backoff: Duration::from_millis(1),
};

pub(crate) fn id(partition: i32) -> TopicPartition {
    TopicPartition {
        topic_id: 7,
        partition,
    }
}

pub(crate) async fn open(compaction: CompactionConfig) -> Result<ShardLog, StorageError> {
    open_with(compaction, ScrubOptions::OFF).await
}

pub(crate) async fn open_with(
    compaction: CompactionConfig,
    scrub: ScrubOptions,
) -> Result<ShardLog, StorageError> {
    open_keeping(128, compaction, scrub).await
}

/// The same, with so many files that stay open.
pub(crate) async fn open_keeping(
    open_files_max: usize,
    compaction: CompactionConfig,
    scrub: ScrubOptions,
) -> Result<ShardLog, StorageError> {
    let options = DirectoryOptions {
        journal_bytes: 1 << 20,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let specs: Vec<_> = (0..2)
        .map(|partition| PartitionSpec {
            id: id(partition),
            topic: "topic".to_owned(),
            leader_epoch: 1,
            config: PartitionConfig {
                segment_bytes: SEGMENT_BYTES,
                index_interval_bytes: 512,
                compaction: Some(compaction),
                ..PartitionConfig::default()
            },
        })
        .collect();
    let mut directory = LogDirectory::open(Path::new("/data"), options).await?;
    directory
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await?;
    let options = ShardOptions {
        directory: "/data".into(),
        shard: 0,
        memory_bytes: MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub,
    };
    Ok(ShardLog::open(options, specs, &BTreeSet::new()).await?.0)
}

pub(crate) async fn open_one(compaction: CompactionConfig) -> (ShardLog, PartitionLog) {
    let shard = open(compaction).await.expect("opened");
    let log = shard.partition(id(0)).expect("it is there");
    (shard, log)
}

/// A record: key, value (none: a tombstone), time.
pub(crate) type Update = (u32, Option<u32>, i64);

pub(crate) fn batch_of(codec: Compression, updates: &[Update]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (key, value, timestamp_ms) in updates {
        let value = value.map(|value| format!("value {value:0100}").into_bytes());
        builder.push(&NewRecord {
            timestamp_ms: *timestamp_ms,
            key: Some(&key.to_be_bytes()),
            value: value.as_deref(),
            ..NewRecord::default()
        });
    }
    builder.build()
}

pub(crate) async fn append(log: &PartitionLog, bytes: &[u8]) {
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
    loop {
        let room = log.room().wait();
        match log.append(bytes, &header) {
            Ok(appended) => return appended.ticket.committed().await.expect("durable"),
            Err(AppendError::JournalFull | AppendError::BacklogFull) => room.await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Update n is of key n % `keys`, with value n, at a time that goes on with n. Three in a batch.
pub(crate) async fn fill(log: &PartitionLog, updates: std::ops::Range<u32>, keys: u32) {
    let all: Vec<Update> = updates.map(|n| (n % keys, Some(n), time_of(n))).collect();
    for (n, some) in all.chunks(3).enumerate() {
        let codec = Compression::ALL[n % 5];
        append(log, &batch_of(codec, some)).await;
    }
}

pub(crate) fn time_of(n: u32) -> i64 {
    1_000_000 + i64::from(n)
}

/// Waits until the cleaner has nothing to do any more.
pub(crate) async fn cleaned(shard: &ShardLog) {
    shard.set_cleaner(CLEANER);
    let mut before = None;
    loop {
        ring::timer::sleep(Duration::from_millis(200)).await;
        let now = shard.statistics().compaction;
        if now.cleanings > 0 && before == Some(now) {
            break;
        }
        before = Some(now);
    }
    shard.set_cleaner(CleanerConfig {
        is_enabled: false,
        ..CLEANER
    });
}

/// Key, value and time of every record, by offset.
pub(crate) async fn contents(log: &PartitionLog) -> BTreeMap<i64, (u32, bool, i64)> {
    let bytes = read_all(log, log.log_start_offset(), log.high_watermark())
        .await
        .expect("readable");
    let mut all = BTreeMap::new();
    for batch in batches(&bytes) {
        let batch = batch.expect("a batch");
        let header = batch.header();
        let codec = header.attributes.compression().expect("a codec");
        let section = codec.decompress(batch.records_bytes(), 64 << 20).expect("whole");
        for record in records(&section, header.record_count) {
            let record = record.expect("a record");
            let key = u32::from_be_bytes(*record.key.and_then(<[u8]>::first_chunk).expect("a key"));
            let time_ms = if header.attributes.is_log_append_time() {
                header.max_timestamp_ms
            } else {
                header.base_timestamp_ms + record.timestamp_delta_ms
            };
            let offset = header.base_offset + i64::from(record.offset_delta);
            all.insert(offset, (key, record.value.is_some(), time_ms));
        }
    }
    all
}

/// Offsets, times and the largest time are found around the holes.
pub(crate) async fn check_lookups(log: &PartitionLog) {
    let all = contents(log).await;
    let end = log.high_watermark();
    for offset in log.log_start_offset()..end {
        let extent = log.read(offset, 1, true, end).expect("within the log");
        let slices = log.load(extent).await.expect("readable");
        let first = batches(&slices[0]).next().expect("a batch").expect("whole");
        assert!(first.header().next_offset() > offset, "the batch before {offset}");
        let last = first.header().last_offset();
        let skipped = all.range(offset..first.header().base_offset.max(offset)).next();
        assert_eq!(
            skipped, None,
            "a read at {offset} passes over a record, and gives {last}"
        );
    }
    let times: Vec<i64> = all.values().map(|(_, _, time_ms)| *time_ms).collect();
    for time_ms in times
        .iter()
        .flat_map(|time_ms| [time_ms - 1, *time_ms, time_ms + 1])
    {
        let expected = all
            .iter()
            .find(|(_, record)| record.2 >= time_ms)
            .map(|(offset, record)| (*offset, record.2));
        let found = log
            .offset_for_timestamp(time_ms, &OpeningBudget::new(64 << 20))
            .await
            .expect("readable");
        assert_eq!(
            found.map(|(offset, time_ms, _)| (offset, time_ms)),
            expected,
            "at {time_ms}"
        );
    }
    let largest = times.iter().max().copied();
    let found = log
        .max_timestamp_offset(&OpeningBudget::new(64 << 20))
        .await
        .expect("readable");
    assert_eq!(found.map(|(_, time_ms, _)| time_ms), largest);
}

pub(crate) fn names(simulator: &Simulator, host: HostId, partition: i32) -> Vec<(String, u64)> {
    let directory = format!("/data/topic-{partition}/");
    let files = simulator.files(host).into_iter();
    files.filter(|(path, _)| path.starts_with(&directory)).collect()
}

pub(crate) fn on_a_host<T: Send + 'static, F>(
    simulator: &mut Simulator,
    host: HostId,
    life: impl FnOnce() -> F + Send + 'static,
) -> T
where
    F: Future<Output = T> + 'static,
{
    simulator
        .run(host, 2 * MEMORY_BYTES + (8 << 20), LIMIT, life)
        .expect("it ends")
}

#[test]
fn the_newest_of_each_key_stays_and_everything_is_found_around_the_holes() {
    const UPDATES: u32 = 3_000;
    const KEYS: u32 = 70;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let before = on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..UPDATES, KEYS).await;
        let bytes = log.size_bytes();
        cleaned(&shard).await;
        assert!(log.size_bytes() < bytes / 4, "{} of {bytes}", log.size_bytes());
        let all = contents(&log).await;
        // The active segment is as it was; before it each key is there once at most.
        let newest: Vec<i64> = (i64::from(UPDATES - KEYS)..i64::from(UPDATES)).collect();
        assert!(newest.iter().all(|offset| all.contains_key(offset)));
        assert!(all.len() < 400, "{} of {UPDATES}", all.len());
        for (offset, (key, _, time_ms)) in &all {
            let n = *offset as u32;
            assert_eq!((*key, *time_ms), (n % KEYS, time_of(n)));
        }
        check_lookups(&log).await;
        // Segments of which little is left become one with the next cleaning.
        fill(&log, UPDATES..UPDATES + 600, KEYS).await;
        cleaned(&shard).await;
        check_lookups(&log).await;
        shard.stop().await.expect("stopped");
        contents(&log).await
    });
    let files = names(&simulator, host, 0);
    assert!(
        files.iter().all(|(name, _)| !name.ends_with(".cleaned")),
        "{files:?}"
    );
    let segments = files.iter().filter(|(name, _)| name.ends_with(".log")).count();
    assert!((2..6).contains(&segments), "{files:?}");
    on_a_host(&mut simulator, host, move || async move {
        let (_shard, log) = open_one(ANY).await;
        assert_eq!(contents(&log).await, before);
        check_lookups(&log).await;
    });
}

#[test]
fn a_tombstone_goes_when_its_time_has_come_and_what_it_deletes_stays_gone() {
    let mut simulator = Simulator::new(2);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..300, 10).await;
        append(&log, &batch_of(Compression::Lz4, &[(3, None, time_of(300))])).await;
        fill(&log, 1_000..1_400, 1).await;
        cleaned(&shard).await;
        let of_key = async |log: &PartitionLog| {
            let all = contents(log).await.into_iter();
            let of_key = all.filter(|(_, (key, ..))| *key == 3);
            of_key
                .map(|(offset, (_, has_value, _))| (offset, has_value))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_key(&log).await, [(300, false)]);
        // Its time has not come.
        fill(&log, 1_400..1_800, 1).await;
        cleaned(&shard).await;
        assert_eq!(of_key(&log).await, [(300, false)]);
        ring::timer::sleep(Duration::from_millis(1_500)).await;
        fill(&log, 1_800..2_200, 1).await;
        cleaned(&shard).await;
        assert_eq!(of_key(&log).await, []);
        check_lookups(&log).await;
    });
}

#[test]
fn more_keys_than_memory_take_several_passes() {
    const KEYS: u32 = 1_000;
    let mut simulator = Simulator::new(3);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..5 * KEYS, KEYS).await;
        // 153 keys.
        let few = CleanerConfig {
            dedupe_buffer_bytes: 4_096,
            ..CLEANER
        };
        shard.set_cleaner(few);
        // How many it takes depends on what of the log is closed at each of them.
        let passes = || shard.statistics().compaction.cleanings;
        while passes() < 10 || contents(&log).await.len() >= 2 * KEYS as usize {
            assert!(passes() < 60, "what is left does not become less");
            ring::timer::sleep(Duration::from_millis(100)).await;
        }
        shard.set_cleaner(CleanerConfig {
            is_enabled: false,
            ..few
        });
        let usage = shard.statistics().memory;
        let compaction = usage
            .iter()
            .find(|pool| pool.name == "compaction")
            .expect("a pool");
        assert!(compaction.bytes >= 4_096 && compaction.bytes <= MEMORY_BYTES / 16);
        let all = contents(&log).await;
        assert!((4 * KEYS..5 * KEYS).all(|n| all.contains_key(&i64::from(n))));
        check_lookups(&log).await;
    });
}

#[test]
fn a_young_segment_waits_and_an_old_one_does_not_wait_for_the_ratio() {
    let mut simulator = Simulator::new(4);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let now_ms = ring::clock::wall_clock_ms();
        let young = CompactionConfig {
            min_compaction_lag_ms: 60_000,
            ..ANY
        };
        let (shard, log) = open_one(young).await;
        // A time that has not come makes nothing younger than it is.
        let time_ms = now_ms + 1_000_000_000;
        let updates = |from: u32, count: u32| {
            let some: Vec<Update> = (from..from + count).map(|n| (n % 5, Some(n), time_ms)).collect();
            some
        };
        for chunk in updates(0, 600).chunks(10) {
            append(&log, &batch_of(Compression::None, chunk)).await;
        }
        shard.set_cleaner(CLEANER);
        ring::timer::sleep(Duration::from_secs(2)).await;
        assert_eq!(shard.statistics().compaction.cleanings, 0);
        ring::timer::sleep(Duration::from_secs(60)).await;
        let cleanings = shard.statistics().compaction.cleanings;
        assert!(cleanings > 0);
        // Hardly dirty, but old enough.
        let late = CompactionConfig {
            min_cleanable_dirty_ppm: 1_000_000,
            max_compaction_lag_ms: 120_000,
            ..ANY
        };
        log.set_config(PartitionConfig {
            segment_bytes: SEGMENT_BYTES,
            compaction: Some(late),
            ..PartitionConfig::default()
        });
        for chunk in updates(600, 300).chunks(10) {
            append(&log, &batch_of(Compression::None, chunk)).await;
        }
        ring::timer::sleep(Duration::from_secs(2)).await;
        assert_eq!(shard.statistics().compaction.cleanings, cleanings);
        ring::timer::sleep(Duration::from_secs(120)).await;
        assert!(shard.statistics().compaction.cleanings > cleanings);
    });
}

#[test]
fn the_brokers_time_is_found_in_a_batch_with_holes() {
    let mut simulator = Simulator::new(7);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        let mut first = batch_of(
            Compression::None,
            &[(1, Some(0), 5), (2, Some(1), 6), (3, Some(2), 7)],
        );
        assign_log_append_time(&mut first, 9_000).expect("a batch");
        append(&log, &first).await;
        // Of keys 1 and 3; key 2's record is the first that is left of that batch.
        fill(&log, 0..600, 1).await;
        append(&log, &batch_of(Compression::None, &[(1, Some(700), 1_700_000)])).await;
        append(&log, &batch_of(Compression::None, &[(3, Some(701), 1_700_000)])).await;
        fill(&log, 800..1_200, 1).await;
        cleaned(&shard).await;
        assert_eq!(
            contents(&log).await.first_key_value(),
            Some((&1, &(2, true, 9_000)))
        );
        let found = log
            .offset_for_timestamp(8_000, &OpeningBudget::new(64 << 20))
            .await
            .expect("readable");
        assert_eq!(
            found.map(|(offset, time_ms, _)| (offset, time_ms)),
            Some((1, 9_000))
        );
    });
}
