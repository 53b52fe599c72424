//! One log, compacted step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ring::simulator::{DiskOperation, HostId, Injection, Simulator};
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
fn a_log_that_has_rotted_is_not_cleaned_and_others_are() {
    // What a CRC covers, and the first batch's leader epoch, which none does.
    for at in [5_000, 15] {
        is_not_cleaned_with_rot_at(at);
    }
}

fn is_not_cleaned_with_rot_at(at: u64) {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let shard = open(ANY).await.expect("opened");
        for partition in 0..2 {
            let log = shard.partition(id(partition)).expect("it is there");
            fill(&log, 0..1_000, 20).await;
        }
        shard.stop().await.expect("stopped");
    });
    let first = "/data/topic-0/00000000000000000000.log";
    assert!(simulator.flip_bit(host, first, at, 2).expect("a file"));
    let before = names(&simulator, host, 0);
    on_a_host(&mut simulator, host, || async {
        let shard = open(ANY).await.expect("opened");
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(report.is_final);
        assert_eq!(report.partition, "topic-0");
        assert!(
            matches!(report.error, StorageError::Corrupt { .. }),
            "{}",
            report.error
        );
        assert!(
            report.error.to_string().contains("00000000000000000000.log"),
            "{}",
            report.error
        );
        ring::timer::sleep(Duration::from_secs(5)).await;
        let compaction = shard.statistics().compaction;
        assert_eq!((compaction.cleanings, compaction.uncleanable_partitions), (1, 1));
        let other = shard.partition(id(1)).expect("it is there");
        assert!(contents(&other).await.len() < 300);
        shard.stop().await.expect("stopped");
    });
    assert_eq!(
        names(&simulator, host, 0),
        before,
        "something of a rotten log was changed"
    );
}

#[test]
fn a_full_disk_ends_a_cleaning_and_the_next_one_goes_on() {
    let mut simulator = Simulator::new(6);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..1_000, 500).await;
        shard.stop().await.expect("stopped");
    });
    // Room for a checkpoint beside the one that it replaces, and not for all segments twice.
    let taken = (1 << 30) - simulator.disk_bytes_free(host);
    simulator.set_disk_bytes(host, taken + 2 * 4_096);
    let (told, tell) = std::sync::mpsc::channel();
    simulator.start(host, 2 * MEMORY_BYTES + (8 << 20), move || async move {
        let (shard, log) = open_one(ANY).await;
        let failing = shard.clone();
        let failed = async move { panic!("{}", failing.failed().await) };
        ring::executor::spawn(ring::executor::Class::Background, failed).detach();
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(!report.is_final, "{}", report.error);
        told.send("full").expect("heard");
        while shard.statistics().compaction.cleanings == 0 {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        assert!(contents(&log).await.len() < 1_000);
        check_lookups(&log).await;
        told.send("cleaned").expect("heard");
    });
    let heard = |simulator: &mut Simulator, what: &str| {
        let mut said = "";
        let is_said = simulator.run_until(LIMIT, |_| {
            said = tell.try_recv().unwrap_or(said);
            said == what
        });
        assert!(is_said, "it did not say '{what}', but '{said}'");
    };
    heard(&mut simulator, "full");
    simulator.set_disk_bytes(host, 1 << 30);
    heard(&mut simulator, "cleaned");
}

#[test]
fn a_disk_that_is_full_while_compacted_segments_get_their_names_delays_them() {
    for after in 0..12 {
        let mut simulator = Simulator::new(8);
        let host = simulator.host(1 << 30);
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Name,
                path_contains: ".cleaned".to_owned(),
                after,
                times: 2,
                errno: 28,
            },
        );
        on_a_host(&mut simulator, host, || async {
            let (shard, log) = open_one(ANY).await;
            fill(&log, 0..1_000, 500).await;
            cleaned(&shard).await;
            // What is written makes checkpoints, which give them their names.
            let other = shard.partition(id(1)).expect("it is there");
            fill(&other, 0..20_000, 500).await;
            assert!(shard.failure().is_none());
            assert!(contents(&log).await.len() < 1_000);
            check_lookups(&log).await;
            shard.stop().await.expect("stopped");
        });
        on_a_host(&mut simulator, host, || async {
            let (_shard, log) = open_one(ANY).await;
            assert!(contents(&log).await.len() < 1_000);
        });
    }
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

/// A log whose first segment is compacted, batches of one record and 128 bytes each; closed. What it holds.
fn compacted_in_equal_batches(simulator: &mut Simulator, host: HostId) -> BTreeMap<i64, (u32, bool, i64)> {
    on_a_host(simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        for n in 0..600_u32 {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(&NewRecord {
                timestamp_ms: time_of(n),
                // Keys that come again, and keys that do not.
                key: Some(&(if n % 2 == 0 { n } else { n % 7 }).to_be_bytes()),
                value: Some(&[9; 55]),
                ..NewRecord::default()
            });
            let bytes = builder.build();
            assert_eq!(bytes.len(), 128);
            append(&log, &bytes).await;
        }
        cleaned(&shard).await;
        let all = contents(&log).await;
        shard.stop().await.expect("stopped");
        all
    })
}

/// With one bit of a file turned, each record is read as it was, or something is said to be wrong. How often it was.
fn never_passed_over(
    simulator: &mut Simulator,
    host: HostId,
    (file, at, bit): (&str, u64, u8),
    all: &BTreeMap<i64, (u32, bool, i64)>,
) -> usize {
    assert!(simulator.flip_bit(host, file, at, bit).expect("a file"));
    let offsets: Vec<i64> = all.keys().copied().take(200).collect();
    let file_name = file.to_owned();
    let refused = on_a_host(simulator, host, move || async move {
        let (_shard, log) = open_one(ANY).await;
        let mut refused = 0;
        for offset in offsets {
            let extent = log
                .read(offset, 1, true, log.high_watermark())
                .expect("within the log");
            match log.load(extent).await {
                Ok(slices) => {
                    let first = batches(&slices[0]).next().expect("a batch").expect("whole");
                    let found = first.header().base_offset;
                    assert_eq!(
                        found, offset,
                        "bit {bit} of byte {at} of {file_name}: {offset} was passed over"
                    );
                }
                Err(StorageError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        refused
    });
    assert!(simulator.flip_bit(host, file, at, bit).expect("a file"));
    refused
}

#[test]
fn a_rotten_index_of_a_compacted_segment_leads_past_no_record() {
    let mut simulator = Simulator::new(8);
    let host = simulator.host(1 << 30);
    let all = compacted_in_equal_batches(&mut simulator, host);
    for at in 0..16 {
        for bit in 0..8 {
            let index = ("/data/topic-0/00000000000000000000.index", at, bit);
            let refused = never_passed_over(&mut simulator, host, index, &all);
            assert_eq!(refused, 0, "everything is found without an index");
        }
    }
}

#[test]
fn a_rotten_length_in_a_compacted_segment_hides_no_record() {
    let mut simulator = Simulator::new(9);
    let host = simulator.host(1 << 30);
    let all = compacted_in_equal_batches(&mut simulator, host);
    let mut refused = 0;
    for batch in 1..4 {
        for (byte, bit) in [(11, 7), (10, 0), (10, 1), (11, 6)] {
            let length = ("/data/topic-0/00000000000000000000.log", batch * 128 + byte, bit);
            refused += never_passed_over(&mut simulator, host, length, &all);
        }
    }
    assert!(refused > 0, "nobody has noticed");
}

#[test]
fn a_rotten_length_is_damage_however_large_and_not_a_shortage_of_memory() {
    let mut simulator = Simulator::new(3);
    let host = simulator.host(1 << 30);
    let large = |segment_bytes| PartitionConfig {
        segment_bytes,
        compaction: Some(ANY),
        ..PartitionConfig::default()
    };
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        timestamp_ms: 1,
        key: Some(b"key!"),
        value: Some(&[7; 200_000]),
        ..NewRecord::default()
    });
    let batch = builder.build();
    let batch_bytes = batch.len() as u64;
    let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
        let (shard, log) = open_one(ANY).await;
        log.set_config(large(64 << 20));
        for _ in 0..90 {
            append(&log, &batch).await;
        }
        log.set_config(large(1 << 20));
        for _ in 0..20 {
            append(&log, &batch).await;
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    // 16 MiB more, which the segment has behind it, and memory has not.
    let path = "/data/topic-0/00000000000000000000.log";
    assert!(
        simulator
            .flip_bit(host, path, 2 * batch_bytes + 8, 0)
            .expect("a file")
    );
    let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
        let (shard, log) = open_one(ANY).await;
        let is_damage = |error: &StorageError| {
            matches!(error, StorageError::Corrupt { position, .. } if *position == 2 * batch_bytes)
        };
        for offset in 0..5 {
            let extent = log.read(offset, 1, true, log.high_watermark()).expect("within the log");
            match log.load(extent).await {
                Ok(_) => assert_ne!(offset, 2),
                Err(error) => assert!(offset == 2 && is_damage(&error), "{offset}: {error}"),
            }
        }
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(report.is_final && is_damage(&report.error), "{report:?}");
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn a_shortage_of_descriptors_ends_a_cleaning_and_the_next_one_goes_on() {
    let mut simulator = Simulator::new(6);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..1_000, 500).await;
        shard.stop().await.expect("stopped");
    });
    let (told, tell) = std::sync::mpsc::channel();
    simulator.start(host, 2 * MEMORY_BYTES + (8 << 20), move || async move {
        let (shard, _log) = open_one(ANY).await;
        ring::timer::sleep(Duration::from_secs(60)).await;
        shard.set_cleaner(CLEANER);
        let report = shard.compaction_report().await;
        assert!(
            !report.is_final && report.error.is_short_of_descriptors(),
            "{report:?}"
        );
        told.send("short").expect("heard");
        while shard.statistics().compaction.cleanings == 0 {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        shard.stop().await.expect("stopped");
        told.send("cleaned").expect("heard");
        std::future::pending::<()>().await;
    });
    simulator.run_for(Duration::from_secs(30));
    // Enough for a checkpoint, and not for what a cleaning reads and writes.
    let descriptors = simulator.descriptors(host);
    simulator.set_descriptors_max(host, descriptors + 1);
    assert!(simulator.run_until(LIMIT, |_| tell.try_recv() == Ok("short")));
    simulator.set_descriptors_max(host, usize::MAX);
    assert!(simulator.run_until(LIMIT, |_| tell.try_recv() == Ok("cleaned")));
}
