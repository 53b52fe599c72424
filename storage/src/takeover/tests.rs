//! A directory as Kafka leaves it, taken over: whole, in the middle of which the power fails, and refused.

use std::collections::BTreeSet;
use std::time::Duration;

use ring::simulator::{HostId, Simulator};
use wire::record_batch::{assign_offset, batches};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

use super::*;
use crate::directory::DirectoryOptions;
use crate::files::replace;
use crate::id::to_base64;
use crate::inspect::{Finding, Report, Severity, check};
use crate::opening::OpeningBudget;
use crate::partition::{PartitionConfig, PartitionLog, PartitionSpec};
use crate::scrubber::ScrubOptions;
use crate::shard_log::{ShardLog, ShardOptions};

const DATA: &str = "/data";
const LIMIT: Duration = Duration::from_secs(60);
const MEMORY_BYTES: usize = 256 << 20;
const TOPIC_ID: u128 = 7;
/// Another topic's, which nobody wants.
const OTHER_ID: u128 = 8;
const EPOCH: i32 = 4;
/// What the log has: batches of one record, at these offsets. Of its first segment, which begins at `FIRST`, compaction has left
/// nothing; its last one is empty, and begins at `END`.
const OFFSETS: [i64; 6] = [10, 11, 12, 20, 22, 23];
const FIRST: i64 = 5;
const START: i64 = 7;
const END: i64 = 30;

fn spec() -> PartitionSpec {
    PartitionSpec {
        id: TopicPartition {
            topic_id: TOPIC_ID,
            partition: 0,
        },
        topic: "orders".to_owned(),
        leader_epoch: EPOCH + 1,
        config: PartitionConfig::default(),
    }
}

fn batch(base_offset: i64, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        timestamp_ms: 1_000 + base_offset,
        value: Some(value),
        ..NewRecord::default()
    });
    let mut bytes = builder.build();
    assign_offset(bytes.first_chunk_mut().expect("a header"), base_offset, EPOCH);
    bytes
}

fn log_batch(base_offset: i64) -> Vec<u8> {
    batch(base_offset, &[base_offset as u8; 3_000])
}

async fn write(name: &str, bytes: Vec<u8>) {
    let path = Path::new(DATA).join(name);
    directory::create_all(path.parent().expect("a directory"))
        .await
        .expect("created");
    if bytes.is_empty() {
        // The files of Kafka's that are empty say something, too.
        crate::files::put_whole(&path, bytes).await.expect("written");
    } else {
        replace(&path, bytes).await.expect("written");
    }
}

/// What Kafka leaves, durably.
async fn leave() {
    let properties = format!(
        "version=1\ncluster.id={}\nnode.id=1\ndirectory.id={}\n",
        to_base64(1),
        to_base64(2)
    );
    write("meta.properties", properties.into_bytes()).await;
    write(CLEAN_STOP_FILE, b"{\"version\":0,\"brokerEpoch\":3}".to_vec()).await;
    let starts = format!("0\n1\norders 0 {START}\n");
    write(LOG_STARTS_FILE, starts.into_bytes()).await;
    for (name, id) in [("orders-0", TOPIC_ID), ("others-0", OTHER_ID)] {
        // Without an end of the last line.
        let text = format!("version: 0\ntopic_id: {}", to_base64(id));
        write(&format!("{name}/partition.metadata"), text.into_bytes()).await;
    }
    for segment in [&OFFSETS[..3], &OFFSETS[3..]] {
        let bytes: Vec<u8> = segment.iter().flat_map(|offset| log_batch(*offset)).collect();
        let name = format!("orders-0/{:020}", segment[0]);
        write(&format!("{name}.log"), bytes).await;
        write(&format!("{name}.index"), vec![9; 10]).await;
        write(&format!("{name}.txnindex"), Vec::new()).await;
    }
    for empty in [FIRST, END] {
        write(&format!("orders-0/{empty:020}.log"), Vec::new()).await;
    }
    write("orders-0/leader-epoch-checkpoint", b"0\n1\n4 10\n".to_vec()).await;
    let metadata = "__cluster_metadata-0/00000000000000000000";
    let records = [batch(0, b"old"), batch(1, b"in the snapshot"), batch(2, b"since")];
    write(&format!("{metadata}.log"), records.concat()).await;
    let snapshot = "__cluster_metadata-0/00000000000000000002-0000000001.checkpoint";
    write(snapshot, batch(0, b"snapshot")).await;
    directory::sync_file_system(DATA.as_ref()).await.expect("flushed");
}

fn left(seed: u64) -> (Simulator, HostId) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    simulator.run(host, MEMORY_BYTES, LIMIT, leave).expect("it ends");
    (simulator, host)
}

async fn open() -> Result<LogDirectory, StorageError> {
    let options = DirectoryOptions {
        journal_bytes: 8 << 20,
        new_cluster_id: 3,
        new_directory_id: 4,
        memory_bytes: 64 << 20,
    };
    LogDirectory::open(Path::new(DATA), options).await
}

/// A start: it takes over what is to be, and serves.
async fn start() -> Result<(LogDirectory, ShardLog, PartitionLog), StorageError> {
    let mut directory = open().await?;
    if directory.is_of_kafka().await? {
        let mut records = Vec::new();
        directory
            .kafka_metadata(|record| {
                records.push(record.to_vec());
                Ok(())
            })
            .await?;
        assert_eq!(records, [b"snapshot".to_vec(), b"since".to_vec()]);
        let found = directory.read_kafka_logs(|id| id == TOPIC_ID, |_| ()).await?;
        let expected = KafkaLog {
            topic: "orders".to_owned(),
            id: spec().id,
            leader_epoch: EPOCH,
            producer_id: -1,
        };
        assert_eq!(found, [expected]);
        assert_eq!(directory.kafka_node().await?, 1);
        directory.claim_from_kafka().await?;
    }
    directory
        .prepare_shards(1, &[spec()], &BTreeSet::new(), |_| 0)
        .await?;
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: 64 << 20,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (shard, _report) = ShardLog::open(options, vec![spec()], &BTreeSet::new()).await?;
    let log = shard.partition(spec().id).expect("it is there");
    Ok((directory, shard, log))
}

/// All batches from the log's start on.
async fn served(log: &PartitionLog) -> Vec<u8> {
    let (mut at, end) = (log.log_start_offset(), log.high_watermark());
    let mut served = Vec::new();
    while at < end {
        let extent = log.read(at, 1 << 20, true, end).expect("in range");
        let before = at;
        for slice in log.load(extent).await.expect("read") {
            for batch in batches(&slice) {
                let batch = batch.expect("whole");
                batch.verify_crc().expect("whole");
                at = batch.header().next_offset();
                served.extend_from_slice(batch.bytes());
            }
        }
        if at == before {
            // What was before the log's end, compaction has removed.
            break;
        }
    }
    served
}

async fn append(log: &PartitionLog) -> i64 {
    let bytes = batch(0, b"more");
    let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
    let appended = log.append(batch.bytes(), batch.header()).expect("there is room");
    appended.ticket.committed().await.expect("durable");
    log.log_end_offset() - 1
}

fn kafkas() -> Vec<u8> {
    OFFSETS.iter().flat_map(|offset| log_batch(*offset)).collect()
}

fn findings(simulator: &mut Simulator, host: HostId) -> Vec<Finding> {
    let ran = simulator.run(host, 2 << 30, LIMIT, || async {
        let mut findings = Vec::new();
        let mut report = |report: Report<'_>| {
            if let Report::Finding(finding) = report {
                findings.push(finding.clone());
            }
        };
        check(Path::new(DATA), &[], &mut report)
            .await
            .expect("it can run");
        findings
    });
    ran.expect("it ends")
}

#[test]
fn what_kafka_wrote_is_served_and_goes_on() {
    let (mut simulator, host) = left(1);
    for life in 0..3 {
        let ran = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let (directory, shard, log) = start().await.expect("started");
            assert_eq!(directory.cluster_id(), 1, "clients know it");
            assert_eq!(log.log_start_offset(), START);
            let served = served(&log).await;
            assert!(
                served.starts_with(&kafkas()),
                "what Kafka wrote is another in life {life}"
            );
            assert_eq!(append(&log).await, END + life);
            // In a hole, and before the first batch.
            for offset in [START, 9, 13, 19, 21, 24] {
                let extent = log.read(offset, 1, true, log.high_watermark()).expect("in range");
                assert!(!log.load(extent).await.expect("read").is_empty(), "{offset}");
            }
            let budget = OpeningBudget::new(1 << 20);
            let found = log.offset_for_timestamp(1_022, &budget).await.expect("read");
            assert_eq!(found.map(|(offset, ..)| offset), Some(22));
            shard.stop().await.expect("stopped");
        });
        ran.expect("it ends");
        let bad: Vec<Finding> = findings(&mut simulator, host)
            .into_iter()
            .filter(|finding| finding.severity > Severity::Note)
            .filter(|finding| !finding.path.ends_with("others-0"))
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_power_cut_in_the_middle_of_it_loses_nothing() {
    for seed in 0..60 {
        let (mut simulator, host) = left(seed);
        simulator.start(host, MEMORY_BYTES, || async {
            let (_directory, _shard, log) = start().await.expect("started");
            append(&log).await;
        });
        simulator.run_for(Duration::from_micros(500 * seed));
        simulator.power_cut(host);
        let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let (_directory, shard, log) = start().await.expect("started");
            assert!(served(&log).await.starts_with(&kafkas()));
            assert!(append(&log).await >= END);
            shard.stop().await.expect("stopped");
        });
        ran.unwrap_or_else(|| panic!("seed {seed}: it does not end"));
    }
}

/// What a start says after something was done to a directory of Kafka's.
fn refused(spoil: impl FnOnce(&mut Simulator, HostId)) -> String {
    let (mut simulator, host) = left(1);
    spoil(&mut simulator, host);
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        start().await.err().map(|error| error.to_string())
    });
    ran.expect("it ends").expect("it starts, and should not")
}

fn with_file(name: &'static str, bytes: &'static [u8]) -> impl FnOnce(&mut Simulator, HostId) {
    move |simulator, host| {
        let ran = simulator.run(host, MEMORY_BYTES, LIMIT, move || write(name, bytes.to_vec()));
        ran.expect("it ends");
    }
}

fn without(name: &'static str) -> impl FnOnce(&mut Simulator, HostId) {
    move |simulator, host| {
        let ran = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            directory::remove_all(&Path::new(DATA).join(name))
                .await
                .expect("removed");
        });
        ran.expect("it ends");
    }
}

#[test]
fn what_is_not_whole_or_would_be_another_is_refused() {
    let swap = with_file("orders-0/00000000000000000010.log.swap", b"s");
    assert!(refused(swap).contains("start Kafka once more"));
    let aborted = with_file("orders-0/00000000000000000020.txnindex", b"t");
    assert!(refused(aborted).contains("aborted"));
    let starts = with_file(LOG_STARTS_FILE, b"0\n2\norders 0 11\n");
    assert!(refused(starts).contains("list of offsets"));
    assert!(refused(without("__cluster_metadata-0")).contains("metadata.log.dir"));
    let flip = |name: &'static str, byte| {
        move |simulator: &mut Simulator, host| {
            let flipped = simulator.flip_bit(host, Path::new(DATA).join(name), byte, 1);
            assert!(flipped.expect("a file"));
        }
    };
    let damaged = refused(flip("orders-0/00000000000000000020.log", 3_200));
    assert!(damaged.contains("00020.log is damaged at byte 3"), "{damaged}");
    let damaged = refused(flip("__cluster_metadata-0/00000000000000000000.log", 70));
    assert!(damaged.contains("__cluster_metadata-0"), "{damaged}");
}

#[test]
fn kafka_must_have_been_stopped_and_not_been_there_since() {
    let killed = |simulator: &mut Simulator, host| {
        with_file("recovery-point-offset-checkpoint", b"0\n0\n")(simulator, host);
        let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let file = Path::new(DATA).join(CLEAN_STOP_FILE);
            directory::remove_file(&file).await.expect("removed");
        });
        ran.expect("it ends");
    };
    assert!(refused(killed).contains("not stopped cleanly"));
    let back = |simulator: &mut Simulator, host| {
        let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let (_directory, shard, _log) = start().await.expect("started");
            shard.stop().await.expect("stopped");
            write(CLEAN_STOP_FILE, b"{}".to_vec()).await;
        });
        ran.expect("it ends");
    };
    assert!(refused(back).contains("since it was taken over"));
    let (mut simulator, host) = left(1);
    back(&mut simulator, host);
    let said = findings(&mut simulator, host);
    assert!(
        said.iter()
            .any(|one| one.severity == Severity::Damage && one.path == CLEAN_STOP_FILE),
        "{said:?}"
    );
}

#[test]
fn kafka_must_not_come_while_it_is_taken_over() {
    let (mut simulator, host) = left(1);
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let mut directory = open().await.expect("opened");
        directory.read_kafka_logs(|_| true, |_| ()).await.expect("read");
        let mark = Path::new(DATA).join(CLEAN_STOP_FILE);
        directory::remove_file(&mark).await.expect("removed");
        let said = directory
            .claim_from_kafka()
            .await
            .expect_err("refused")
            .to_string();
        assert!(said.contains("started meanwhile"), "{said}");
        write(CLEAN_STOP_FILE, b"{}".to_vec()).await;
        for _ in 0..2 {
            directory.claim_from_kafka().await.expect("claimed");
        }
        drop(directory);
        assert!(open().await.expect("opened").is_of_kafka().await.expect("a look"));
        write(CLEAN_STOP_FILE, b"{}".to_vec()).await;
        open().await.err().map(|error| error.to_string())
    });
    let said = ran.expect("it ends").expect("it opens, and should not");
    assert!(said.contains("since a start began"), "{said}");
}

#[test]
fn a_list_of_offsets_is_believed_as_a_whole_or_not_at_all() {
    let starts = |text| starts_in(text).map(|starts| starts.into_iter().collect::<Vec<_>>());
    assert_eq!(starts(""), Some(vec![]));
    assert_eq!(starts("0\n0\n"), Some(vec![]));
    let of = |topic: &str, partition, offset| ((topic.to_owned(), partition), offset);
    assert_eq!(
        starts("0\n2\na 0 5\nb.c 12 7\n"),
        Some(vec![of("a", 0, 5), of("b.c", 12, 7)])
    );
    for text in [
        "1\n0\n",
        "0\n",
        "0\n1\n",
        "0\n1\na 0\n",
        "0\n1\na 0 5 6\n",
        "0\n1\na b 5\n",
        "0\n0\na 0 5\n",
    ] {
        assert_eq!(starts(text), None, "{text}");
    }
}
