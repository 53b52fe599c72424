//! `millstream log dump`, `check` and `explain` on directories that brokers left, as an operator would type them.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test crate: its items are nobody's interface, and a failed unwrap is a failed test"
)]

mod process;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use process::Broker;

const LOG: &str = "orders-0/00000000000000000000.log";
const INDEX: &str = "orders-0/00000000000000000000.index";
const TIMEINDEX: &str = "orders-0/00000000000000000000.timeindex";
const METADATA: &str = "orders-0/partition.metadata";
/// A block of most file systems: where a journal's second superblock is.
const BLOCK: u64 = 4_096;
const BATCHES: usize = 8;

/// Runs `millstream ARGUMENTS`: its exit code, and what it prints on either stream.
fn millstream(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that reads no input closes it early.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// `millstream log VERB --data-dir DIRECTORY MORE`: its exit code and what it prints.
fn log(verb: &str, directory: &Path, more: &[&str]) -> (i32, String) {
    let directory = directory.to_str().unwrap();
    let arguments = [&["log", verb, "--data-dir", directory], more].concat();
    let (code, printed, errors) = millstream(&arguments, b"");
    (code, printed + &errors)
}

fn dump(path: &Path, more: &[&str]) -> String {
    let arguments = [&["log", "dump", path.to_str().unwrap()], more].concat();
    let (code, printed, errors) = millstream(&arguments, b"");
    assert_eq!(code, 0, "{errors}");
    printed
}

/// A broker that took some batches of a record each, which fill more than a block together.
fn broker() -> Broker {
    let broker = Broker::start();
    let topic = |arguments: &[&str], input: &str| {
        let arguments = [&["topic", "--brokers", broker.address()], arguments].concat();
        let (code, _, errors) = millstream(&arguments, input.as_bytes());
        assert_eq!(code, 0, "{errors}");
    };
    topic(&["create", "orders", "--config", "index.interval.bytes=1000"], "");
    for number in 0..BATCHES {
        let line = format!("key-{number}:value-{number}-{}\n", "x".repeat(1_500));
        topic(&["produce", "orders", "--key-separator", ":"], &line);
    }
    broker
}

/// Every file of a directory, with its bytes and when it was changed.
fn everything(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let changed = path.metadata().unwrap().modified().unwrap();
        if path.is_dir() {
            waiting.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            found.insert(path, (Vec::new(), changed));
        } else {
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), changed));
        }
    }
    found
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

/// The journal that has the topic.
fn journal(directory: &Path) -> PathBuf {
    let journals = ["journals/1-0/journal", "journals/1-1/journal"].map(|name| directory.join(name));
    let has_topic = |path: &&PathBuf| dump(path, &[]).contains("topic=\"orders\"");
    journals
        .iter()
        .find(has_topic)
        .expect("a journal with the topic")
        .clone()
}

#[test]
fn what_was_stopped_is_clean_and_each_bit_that_rots_is_found_where_it_is() {
    let mut broker = broker();
    broker.end("-TERM");
    let directory = broker.directory();
    let before = everything(directory);
    let (code, printed) = log("check", directory, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.starts_with(
            "clean: damages 0, warnings 0, notes 0; checked shards 2, partitions 1, segments 1, batches 8"
        ),
        "{printed}"
    );
    let (code, printed) = log("explain", directory, &[]);
    assert_eq!(code, 0, "{printed}");
    let row = printed
        .lines()
        .find(|line| line.trim_start().starts_with("orders-0"))
        .expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["orders-0", "0", "8", "8", "1", "0", "0"]);
    let printed = dump(directory, &["--records", "--limit", "7"]);
    let records = printed
        .lines()
        .filter(|line| line.contains("key=\"key-3\" value=\"value-3\"...(1508 bytes)"));
    assert_eq!(
        records.count(),
        2,
        "in the segment, and still in the journal:\n{printed}"
    );
    let json = dump(&directory.join(LOG), &["--output", "json"]);
    let batches: Vec<serde_json::Value> = json
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(batches.len(), BATCHES);
    for (number, batch) in batches.iter().enumerate() {
        assert_eq!(batch["type"], "batch");
        assert_eq!(
            (&batch["base_offset"], &batch["is_crc_right"]),
            (&number.into(), &true.into())
        );
    }
    assert_eq!(everything(directory), before, "nothing may be written");
    let second = batches[1]["position"].as_u64().unwrap();
    for (name, at, severity, place) in [
        (LOG, second + 100, "damage", second),
        (INDEX, 9, "warning", 8),
        (TIMEINDEX, 7, "warning", 0),
        ("journals/1-0/checkpoint-0", 60, "warning", 0),
        ("journals/1-0/journal", 40, "warning", 0),
        ("journals/1-1/journal", BLOCK + 40, "warning", BLOCK),
        (METADATA, 30, "damage", 30),
        ("manifest", 20, "damage", 0),
    ] {
        flip(&directory.join(name), at);
        let (code, printed) = log("check", directory, &[]);
        assert_eq!(code, 1, "{name}: {printed}");
        let expected = format!("{severity}: {name} at byte {place}: ");
        assert!(
            printed.lines().any(|line| line.starts_with(&expected)),
            "{expected}\n{printed}"
        );
        flip(&directory.join(name), at);
    }
    let (code, printed) = log("check", directory, &["orders-0", "--output", "json"]);
    assert_eq!(code, 0, "{printed}");
    let summary: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&summary["is_clean"], &summary["batches"]),
        (&true.into(), &8.into())
    );
    let (code, printed) = log("check", directory, &["orders-1"]);
    assert_eq!(code, 2, "{printed}");
    assert!(printed.contains("no partition orders-1"), "{printed}");
}

#[test]
fn a_killed_broker_leaves_a_journal_that_is_explained_and_rot_in_it_is_told_from_a_tear() {
    let mut broker = broker();
    let directory = broker.directory().to_path_buf();
    // It runs: it may be looked at, and not checked.
    let (code, printed) = log("check", &directory, &[]);
    assert_eq!(code, 2, "{printed}");
    assert!(
        printed.contains("is in use by process") && printed.contains("next: "),
        "{printed}"
    );
    let (code, printed) = log("explain", &directory, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains(" uses the directory"), "{printed}");
    broker.end("-KILL");
    let before = everything(&directory);
    let (code, printed) = log("check", &directory, &[]);
    assert_eq!(code, 0, "{printed}");
    let (code, printed) = log("explain", &directory, &["orders-0", "--output", "json"]);
    assert_eq!(code, 0, "{printed}");
    let shards: Vec<serde_json::Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let has_partition = |shard: &&serde_json::Value| shard["partitions"][0]["partition"] == "orders-0";
    let shard = shards.iter().find(has_partition).expect("the partition's shard");
    assert_eq!(shard["partitions"][0]["end_offset"], BATCHES);
    assert_eq!(shard["partitions"][0]["journal_batches"], BATCHES);
    let journal = journal(&directory);
    let records = dump(&journal, &["--output", "json"]);
    assert_eq!(everything(&directory), before, "nothing may be written");
    let records: Vec<serde_json::Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let whole: Vec<&serde_json::Value> = (records.iter())
        .filter(|fact| fact["type"] == "journal record" && fact["state"] == "whole")
        .collect();
    let first = whole
        .iter()
        .find(|fact| fact["payload_bytes"].as_u64() > Some(1_000))
        .expect("a batch");
    let position = first["position"].as_u64().unwrap();
    let name = journal.strip_prefix(&directory).unwrap().to_str().unwrap();
    flip(&journal, position + 1_000);
    let (code, printed) = log("check", &directory, &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.starts_with(&format!("damage: {name} at byte {position}: journal record")),
        "{printed}"
    );
    let (code, printed) = log("explain", &directory, &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("refused: "), "{printed}");
    flip(&journal, position + 1_000);
    // Nobody vouches for the last record: it is as if the write of it had been cut off.
    let last = whole.last().unwrap()["position"].as_u64().unwrap();
    flip(&journal, last + 57);
    let (code, printed) = log("check", &directory, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains(&format!("note: {name} at byte {last}: record")),
        "{printed}"
    );
    assert!(printed.contains("torn by a crash, not rotten"), "{printed}");
    let (code, printed) = log("explain", &directory, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("  torn: record"), "{printed}");
}

#[test]
fn what_is_no_directory_of_ours_cannot_be_looked_into() {
    let empty = std::env::temp_dir().join(format!("millstream-log-{}", std::process::id()));
    std::fs::create_dir_all(&empty).unwrap();
    for verb in ["check", "explain"] {
        let (code, printed) = log(verb, &empty, &[]);
        assert_eq!(code, 2, "{verb}: {printed}");
        assert!(printed.contains("manifest"), "{verb}: {printed}");
        let (code, printed) = log(verb, &empty.join("nowhere"), &[]);
        assert_eq!(code, 2, "{verb}: {printed}");
    }
    let file = empty.join("notes.txt");
    std::fs::write(&file, "x").unwrap();
    let (code, _, errors) = millstream(&["log", "dump", file.to_str().unwrap()], b"");
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("does not say what it is"), "{errors}");
    std::fs::remove_dir_all(&empty).unwrap();
}
