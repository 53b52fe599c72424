//! Directories as brokers leave them, whole and with a bit flipped anywhere, under the three commands.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ring::file::{Durability, File, OpenOptions};
use ring::simulator::{HostId, Simulator};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

use super::*;
use crate::directory::{DirectoryOptions, LogDirectory};
use crate::id::TopicPartition;
use crate::partition::{PartitionConfig, PartitionSpec};
use crate::scrubber::ScrubOptions;
use crate::shard_log::{ShardLog, ShardOptions};

const DATA: &str = "/data";
const LOG_MEMORY_BYTES: usize = 64 << 20;
/// What the command line gives its thread.
const MEMORY_BYTES: usize = 1 << 52;
const LIMIT: Duration = Duration::from_secs(60);
const LOG: &str = "topic-0/00000000000000000000.log";

fn spec() -> PartitionSpec {
    PartitionSpec {
        id: TopicPartition {
            topic_id: 5,
            partition: 0,
        },
        topic: "topic".to_owned(),
        leader_epoch: 1,
        config: PartitionConfig {
            segment_bytes: 20_000,
            index_interval_bytes: 1_000,
            ..PartitionConfig::default()
        },
    }
}

async fn open() -> (LogDirectory, ShardLog) {
    let options = DirectoryOptions {
        journal_bytes: 8 << 20,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    directory
        .prepare_shards(1, &[spec()], &BTreeSet::new(), |_| 0)
        .await
        .expect("prepared");
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: LOG_MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let opened = ShardLog::open(options, vec![spec()], &BTreeSet::new()).await;
    (directory, opened.expect("opened").0)
}

/// Appends so many batches of 1,500 bytes, each in a record of its own and with a later time than the one before.
async fn append(log: &ShardLog, batches: i64) {
    let partition = log.partition(spec().id).expect("it is there");
    for number in 0..batches {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&NewRecord {
            timestamp_ms: ring::clock::wall_clock_ms() + number,
            value: Some(&[number as u8; 1_430]),
            ..NewRecord::default()
        });
        let bytes = builder.build();
        let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
        let appended = partition
            .append(batch.bytes(), batch.header())
            .expect("there is room");
        appended.ticket.committed().await.expect("durable");
    }
}

/// A directory that was stopped, and another that was killed with batches in the journal alone.
fn directory(is_stopped: bool) -> (Simulator, HostId) {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let stopped = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, log) = open().await;
        append(&log, 40).await;
        log.stop().await.expect("stopped");
    });
    stopped.expect("it ends");
    if !is_stopped {
        let killed = simulator.run(host, 256 << 20, LIMIT, || async {
            let (_directory, log) = open().await;
            append(&log, 10).await;
        });
        killed.expect("it ends");
    }
    (simulator, host)
}

fn checked(simulator: &mut Simulator, host: HostId) -> (CheckSummary, Vec<Finding>) {
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let mut findings = Vec::new();
        let mut report = |report: Report<'_>| {
            if let Report::Finding(finding) = report {
                findings.push(finding.clone());
            }
        };
        let summary = check(Path::new(DATA), &[], &mut report)
            .await
            .expect("it can run");
        (summary, findings)
    });
    ran.expect("it ends")
}

fn explained(simulator: &mut Simulator, host: HostId) -> Explained {
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        explain(Path::new(DATA), &[]).await.expect("it can run")
    });
    ran.expect("it ends")
}

fn dumped(simulator: &mut Simulator, host: HostId, path: &str) -> Vec<Fact> {
    let path = path.to_owned();
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let mut facts = Vec::new();
        let options = DumpOptions {
            records: true,
            bytes_max: 10,
        };
        let mut sink = |fact: Fact| {
            facts.push(fact);
            Go::On
        };
        let ended = dump(Path::new(&path), options, &mut sink).await;
        ended.expect("it can run");
        facts
    });
    ran.expect("it ends")
}

fn number(fact: &Fact, name: &str) -> i64 {
    let (_, value) = fact
        .fields
        .iter()
        .find(|(field, _)| *field == name)
        .expect("a field");
    match value {
        Value::Signed(number) => *number,
        Value::Unsigned(number) => *number as i64,
        other => panic!("{name} is {other:?}"),
    }
}

fn of_kind<'a>(facts: &'a [Fact], kind: &str) -> Vec<&'a Fact> {
    facts.iter().filter(|fact| fact.kind == kind).collect()
}

#[test]
fn a_directory_that_was_stopped_is_clean_and_nothing_is_replayed() {
    let (mut simulator, host) = directory(true);
    let before: Vec<_> = files(&simulator, host);
    let (summary, findings) = checked(&mut simulator, host);
    assert_eq!(findings, []);
    assert!(summary.is_clean());
    assert_eq!(
        (summary.partitions, summary.segments, summary.batches),
        (1, 4, 40)
    );
    let explained = explained(&mut simulator, host);
    let shard = &explained.shards[0];
    let replay = shard.replay.as_ref().expect("a replay");
    assert_eq!((replay.batches, shard.refusal.as_ref()), (0, None));
    let partition = &shard.partitions[0];
    assert_eq!((partition.checkpoint_end_offset, partition.end_offset), (40, 40));
    assert_eq!((partition.segments, partition.journal_batches), (4, 0));
    let facts = dumped(&mut simulator, host, DATA);
    assert_eq!(of_kind(&facts, "segment").len(), 4, "in the newest checkpoint");
    assert_eq!(
        of_kind(&facts, "record").len(),
        80,
        "in segments and, still, in the journal"
    );
    assert_eq!(files(&simulator, host), before, "nothing was written");
}

/// Every file with its bytes.
fn files(simulator: &Simulator, host: HostId) -> Vec<(String, Vec<u8>)> {
    let files = simulator.files(host).into_iter();
    files
        .map(|(path, _)| {
            let bytes = simulator.read_file(host, &path).expect("it can be read");
            (path, bytes)
        })
        .collect()
}

#[test]
fn a_bit_that_is_flipped_anywhere_is_found_where_it_is() {
    let (mut simulator, host) = directory(true);
    let block = 4_096;
    for (path, bytes) in files(&simulator, host) {
        let name = path
            .strip_prefix(DATA)
            .unwrap_or(&path)
            .trim_start_matches('/')
            .to_owned();
        let is_ours = !name.starts_with('.') && name != "meta.properties";
        // Of a journal that was stopped only the superblocks count.
        let places: Vec<u64> = match name.ends_with("journal") {
            true => vec![3, 40, block + 7, block + 100],
            false => (0..8)
                .map(|_| simulator.random_u64() % (bytes.len() as u64).max(1))
                .collect(),
        };
        for at in places.into_iter().filter(|_| is_ours && !bytes.is_empty()) {
            let bit = (simulator.random_u64() % 8) as u8;
            assert!(simulator.flip_bit(host, &path, at, bit).expect("a file"));
            let (summary, findings) = checked(&mut simulator, host);
            assert!(!summary.is_clean(), "{name}: byte {at}, bit {bit}");
            // It names the batch, entry or copy that has the bit.
            let is_there = |finding: &&Finding| {
                finding.path == name && finding.position.is_some_and(|place| place <= at)
            };
            let found = findings.iter().find(is_there);
            let found = found.unwrap_or_else(|| panic!("{name}: byte {at}, bit {bit}: {findings:?}"));
            let position = found.position.expect("a place");
            if name.ends_with("index") {
                assert!(at - position < 24, "{name}: byte {at}: {found:?}");
            }
            let _never_panics = dumped(&mut simulator, host, &path);
            assert!(simulator.flip_bit(host, &path, at, bit).expect("a file"));
        }
    }
    assert!(checked(&mut simulator, host).0.is_clean(), "all is as it was");
}

#[test]
fn a_segment_of_another_length_is_found() {
    for (bytes, what) in [(5_000, "it has 5000 bytes"), (30_000, "it has 30000 bytes")] {
        let (mut simulator, host) = directory(true);
        let done = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let options = OpenOptions {
                write: true,
                ..OpenOptions::default()
            };
            let file = File::open(&Path::new(DATA).join(LOG), options)
                .await
                .expect("opened");
            file.set_len(bytes).await.expect("cut");
        });
        done.expect("it ends");
        let (summary, findings) = checked(&mut simulator, host);
        assert!(!summary.is_clean());
        assert!(findings[0].what.starts_with(what), "{findings:?}");
        let explained = explained(&mut simulator, host);
        assert!(
            explained.shards[0].partitions[0].refusal.is_some(),
            "a start would be refused"
        );
    }
}

#[test]
fn what_a_broker_has_reserved_and_begun_is_no_matter_and_is_left_as_it_is() {
    let (mut simulator, host) = directory(false);
    let logs = |(path, _): &(String, u64)| path.ends_with(".log").then(|| path.clone());
    let newest = simulator.files(host).iter().filter_map(logs).max();
    let newest = newest.expect("a segment");
    let done = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        // A broker may be writing behind the end that was read.
        let begun = format!("{DATA}/topic-0/00000000000000000050.log");
        for path in [&newest, &begun] {
            let file = File::open(Path::new(path), options).await.expect("opened");
            file.set_len(4 << 20).await.expect("made longer");
        }
        let unread = format!("{DATA}/journals/1-0/checkpoint-1.aside");
        File::open(Path::new(&unread), options).await.expect("made");
    });
    done.expect("it ends");
    let before = files(&simulator, host);
    let explained = explained(&mut simulator, host);
    assert_eq!(explained.shards[0].partitions[0].refusal, None);
    let (summary, findings) = checked(&mut simulator, host);
    assert!(summary.is_clean(), "{findings:?}");
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert_eq!(files(&simulator, host), before, "nothing was written");
}

#[test]
fn what_is_missing_or_nobodys_is_found() {
    let (mut simulator, host) = directory(true);
    let done = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let data = Path::new(DATA);
        ring::directory::remove_file(&data.join(LOG))
            .await
            .expect("removed");
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        for name in ["topic-0/what", "topic-0/00000000000000000777.log", "surprise"] {
            File::open(&data.join(name), options).await.expect("made");
        }
        ring::directory::create_all(&data.join("other-3"))
            .await
            .expect("made");
    });
    done.expect("it ends");
    let (summary, findings) = checked(&mut simulator, host);
    let found: Vec<(Severity, &str)> = (findings.iter())
        .map(|finding| (finding.severity, finding.path.as_str()))
        .collect();
    let warning = |path| (Severity::Warning, path);
    assert_eq!(
        found,
        [
            (Severity::Damage, LOG),
            warning("topic-0/00000000000000000777.log"),
            warning("topic-0/what"),
            warning("other-3"),
            warning("surprise"),
        ]
    );
    assert_eq!((summary.damages, summary.warnings), (1, 4));
    let explained = explained(&mut simulator, host);
    assert!(
        explained.shards[0].partitions[0].refusal.is_some(),
        "a start would be refused"
    );
}

#[test]
fn rot_below_the_evidence_is_damage_and_a_torn_end_is_not() {
    let (mut simulator, host) = directory(false);
    let journal = format!("{DATA}/journals/1-0/journal");
    let (summary, findings) = checked(&mut simulator, host);
    assert!(summary.is_clean(), "{findings:?}");
    let whole = explained(&mut simulator, host);
    let partition = &whole.shards[0].partitions[0];
    assert_eq!((partition.checkpoint_end_offset, partition.end_offset), (40, 50));
    assert_eq!(partition.journal_batches, 10);
    let replay = whole.shards[0].replay.clone().expect("a replay");
    let facts = dumped(&mut simulator, host, &journal);
    let records = of_kind(&facts, "journal record");
    let in_replay =
        |fact: &&&Fact| (replay.from_seq..replay.next_seq).contains(&(number(fact, "seq") as u64));
    let in_replay: Vec<&&Fact> = records.iter().filter(in_replay).collect();
    assert_eq!(in_replay.len() as u64, replay.records);
    let first = in_replay
        .iter()
        .find(|fact| number(fact, "payload_bytes") > 1_000)
        .expect("a batch");
    // In the middle of its payload.
    let at = number(first, "position") as u64 + 1_000;
    assert!(simulator.flip_bit(host, &journal, at, 3).expect("a file"));
    let (summary, findings) = checked(&mut simulator, host);
    let position = number(first, "position") as u64;
    assert_eq!(
        (summary.damages, findings[0].position),
        (1, Some(position)),
        "{findings:?}"
    );
    assert!(findings[0].what.contains("were acknowledged"), "{findings:?}");
    let refused = explained(&mut simulator, host);
    assert!(refused.shards[0].refusal.is_some());
    let facts = dumped(&mut simulator, host, &journal);
    let damaged = Value::Text("payload damaged".to_owned());
    let damaged = facts
        .iter()
        .filter(|fact| fact.fields.contains(&("state", damaged.clone())));
    assert_eq!(damaged.count(), 1);
    assert!(simulator.flip_bit(host, &journal, at, 3).expect("a file"));
    // Nobody vouches for the last record.
    let last = in_replay.last().expect("records");
    let torn_at = number(last, "position") as u64;
    assert!(
        simulator
            .flip_bit(host, &journal, torn_at + 57, 3)
            .expect("a file")
    );
    let (summary, findings) = checked(&mut simulator, host);
    assert!(summary.is_clean(), "{findings:?}");
    assert_eq!(
        (findings[0].severity, findings[0].position),
        (Severity::Note, Some(torn_at))
    );
    let cut = explained(&mut simulator, host);
    let cut = cut.shards[0].replay.as_ref().expect("a replay");
    assert_eq!(cut.torn, [(replay.next_seq - 1, torn_at)]);
    assert_eq!(cut.next_seq, replay.next_seq - 1);
}

#[test]
fn a_directory_in_use_is_explained_and_not_checked() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let (_directory, log) = open().await;
        append(&log, 3).await;
        let refused = check(Path::new(DATA), &[], &mut |_| {}).await;
        let holder = match refused {
            Err(StorageError::InUse { holder, .. }) => holder,
            other => panic!("{other:?}"),
        };
        let explained = explain(Path::new(DATA), &[]).await.expect("it can run");
        assert_eq!(explained.in_use_by, Some(holder));
        assert_eq!(explained.shards[0].partitions[0].end_offset, 3);
        let missing = explain(Path::new(DATA), &["topic-1".to_owned()]).await;
        assert!(missing.is_err_and(|error| error.to_string().contains("topic-1")));
    });
    ran.expect("it ends");
}

#[test]
fn no_file_makes_a_dump_panic() {
    let mut simulator = Simulator::new(7);
    let host = simulator.host(1 << 30);
    let names = [
        "00000000000000000000.log",
        "x.index",
        "5.timeindex",
        "journal",
        "checkpoint-0",
        "manifest",
    ];
    for round in 0..20_i32 {
        for name in names {
            let mut bytes: Vec<u8> = (0..20_000).map(|_| simulator.random_u64() as u8).collect();
            if round % 2 == 1 {
                // As far as a batch's magic, or a record's: then lengths are believed, or not.
                bytes[16] = 2;
                bytes[4..8].copy_from_slice(&0x4d4c_5352_u32.to_le_bytes());
                bytes[8..12].copy_from_slice(&(round * 1_000).to_be_bytes());
            }
            let ran = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
                let path = Path::new("/").join(name);
                let options = OpenOptions {
                    write: true,
                    create: true,
                    truncate: true,
                    ..OpenOptions::default()
                };
                let file = File::open(&path, options).await.expect("made");
                file.write_all_at(vec![bytes.into()], 0, Durability::Completed)
                    .await
                    .expect("written");
            });
            ran.expect("it ends");
            let facts = dumped(&mut simulator, host, &format!("/{name}"));
            assert_eq!(facts[0].kind, "file");
        }
    }
}
