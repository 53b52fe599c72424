//! Metrics and health of a broker that has done what a test knows, read as strictly as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use wire::messages::metadata::MetadataRequest;
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use wire::{Array, Compression, ErrorCode, Request};

use crate::support::{ASK, Ask, Broker, Client, batch, batch_from, fetch, now_ms};

/// From one record to the next of old batches: so far that the first is not taken for the last.
const STEP_MS: i64 = 1_500_000;

/// The samples of a text: `name{labels}` as they stand there, and their values.
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    pub fn scrape(broker: &Broker) -> Samples {
        let (head, body) = get(broker, "/metrics");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{head}"
        );
        Samples::parse(&body)
    }

    /// Takes nothing that is not exactly the format: HELP, TYPE, then all samples of the family, no series twice.
    fn parse(text: &str) -> Samples {
        assert!(text.ends_with('\n'));
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(help) = lines.next() {
            let help = help
                .strip_prefix("# HELP ")
                .unwrap_or_else(|| panic!("no HELP: {help}"));
            let (name, what) = help.split_once(' ').expect("a help text");
            assert!(!what.is_empty() && families.insert(name), "{name} comes twice");
            let kind = lines
                .next()
                .and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name));
            let kind = kind.unwrap_or_else(|| panic!("no TYPE of {name}")).trim_start();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{name} {kind}");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = line
                    .rsplit_once(' ')
                    .unwrap_or_else(|| panic!("no value: {line}"));
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                let suffix = check_series(series, name);
                let wanted: &[&str] = if kind == "histogram" {
                    &["_bucket", "_sum", "_count"]
                } else {
                    &[""]
                };
                assert!(wanted.contains(&suffix), "{line} is not of {name}");
                assert!(value >= 0.0 && value.is_finite(), "{line}");
                assert!(
                    samples.insert(series.to_owned(), value).is_none(),
                    "{series} comes twice"
                );
            }
        }
        Samples(samples)
    }

    fn value(&self, series: &str) -> f64 {
        *self
            .0
            .get(series)
            .unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    /// Of all shards together.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of = |series: &&String| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with('{')) && rest.contains(label))
        };
        self.0.keys().filter(of).map(|series| self.0[series]).sum()
    }

    fn has(&self, part: &str) -> bool {
        self.0.keys().any(|series| series.contains(part))
    }
}

/// Checks that a series is `family[suffix]` or `family[suffix]{label="value",...}`, and gives the suffix.
fn check_series<'a>(series: &'a str, family: &str) -> &'a str {
    let (name, labels) = match series.find('{') {
        None => (series, None),
        Some(at) => (&series[..at], Some(&series[at..])),
    };
    if let Some(labels) = labels {
        let mut rest = labels.strip_prefix('{').expect("labels");
        loop {
            let (label, after) = rest
                .split_once("=\"")
                .unwrap_or_else(|| panic!("no label: {series}"));
            assert!(
                label.bytes().all(|byte| byte.is_ascii_lowercase()) && !label.is_empty(),
                "{series}"
            );
            let mut end = None;
            let mut is_escaped = false;
            for (at, character) in after.char_indices() {
                match character {
                    _ if is_escaped => {
                        assert!(['\\', '"', 'n'].contains(&character), "{series}");
                        is_escaped = false;
                    }
                    '\\' => is_escaped = true,
                    '"' => {
                        end = Some(at);
                        break;
                    }
                    _ => {}
                }
            }
            rest = &after[end.unwrap_or_else(|| panic!("an open value: {series}")) + 1..];
            match rest {
                "}" => break,
                _ => rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("junk: {series}")),
            }
        }
    }
    name.strip_prefix(family)
        .unwrap_or_else(|| panic!("{series} is not of {family}"))
}

/// The head and the body of an answer.
fn get(broker: &Broker, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(broker.admin()).expect("metrics are served");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (format!("{head}\r\n"), body.to_owned())
}

/// Commits offsets of a topic for a group without members.
pub fn commit(broker: &Broker, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let partitions: Vec<_> = offsets
        .iter()
        .map(|&(partition, offset)| OffsetCommitPartition {
            partition,
            committed_offset: offset,
            ..OffsetCommitPartition::default()
        })
        .collect();
    let topics = [OffsetCommitTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = OffsetCommitRequest {
        group_id: group,
        topics: Array::from_slice(&topics),
        ..OffsetCommitRequest::default()
    };
    let response: OffsetCommitResponse = broker.coordinator(group).call(8, &request).unwrap();
    for partition in &response.topics[0].partitions {
        assert_eq!(partition.error_code, ErrorCode::None);
    }
}

/// Deletes what is before an offset.
fn delete_records(broker: &Broker, topic: &str, partition: i32, offset: i64) {
    let partitions = [DeleteRecordsPartition { partition, offset }];
    let topics = [DeleteRecordsTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = DeleteRecordsRequest {
        topics: Array::from_slice(&topics),
        timeout_ms: 30_000,
    };
    let response: DeleteRecordsResponse = broker.leader(topic, partition).call(2, &request).unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
}

/// Produces a batch to a partition.
fn produce(broker: &Broker, topic: &str, partition: i32, batch: &[u8]) {
    let answer = broker
        .leader(topic, partition)
        .produce(9, topic, partition, -1, Some(batch));
    assert_eq!(answer.unwrap().error_code, ErrorCode::None);
}

fn lag(of: &str, group: &str, topic: &str, partition: i32) -> String {
    format!("millstream_consumer_lag_{of}{{group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"}}")
}

#[test]
fn what_was_produced_and_consumed_is_counted_exactly() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let topic = broker.client().create_topic(4, &[]);
    let before = Samples::scrape(&broker);
    assert_eq!(before.sum("millstream_produced_records_total", ""), 0.0);
    let mut bytes = 0;
    for partition in 0..4 {
        let values: Vec<&[u8]> = vec![b"value"; 1 + partition as usize];
        let batch = batch(Compression::None, &values);
        bytes += batch.len();
        produce(&broker, &topic, partition, &batch);
    }
    let unknown = broker
        .client()
        .produce(9, &topic, 77, -1, Some(&batch(Compression::None, &[b"x"])));
    assert_eq!(unknown.unwrap().error_code, ErrorCode::UnknownTopicOrPartition);
    let ask = Ask { partition: 2, ..ASK };
    let fetched = fetch(&mut broker.leader(&topic, 2), &topic, ask)
        .records
        .0
        .concat()
        .len();
    let beyond = Ask { offset: 99, ..ask };
    let refused = fetch(&mut broker.leader(&topic, 2), &topic, beyond);
    assert_eq!(refused.error_code, ErrorCode::OffsetOutOfRange);

    let after = Samples::scrape(&broker);
    for (name, label, expected) in [
        ("millstream_produced_batches_total", "", 4.0),
        ("millstream_produced_records_total", "", 1.0 + 2.0 + 3.0 + 4.0),
        ("millstream_produced_bytes_total", "", bytes as f64),
        ("millstream_duplicate_batches_total", "", 0.0),
        ("millstream_fetched_bytes_total", "", fetched as f64),
        ("millstream_requests_total", "api=\"Produce\"", 5.0),
        ("millstream_requests_total", "api=\"Fetch\"", 2.0),
        ("millstream_requests_total", "api=\"CreateTopics\"", 1.0),
        (
            "millstream_request_errors_total",
            "api=\"Produce\",code=\"UNKNOWN_TOPIC_OR_PARTITION\"",
            1.0,
        ),
        (
            "millstream_request_errors_total",
            "api=\"Fetch\",code=\"OFFSET_OUT_OF_RANGE\"",
            1.0,
        ),
        ("millstream_request_errors_total", "", 2.0),
        ("millstream_malformed_requests_total", "", 0.0),
        ("millstream_misrouted_data_requests_total", "", 0.0),
        ("millstream_failed_reads_total", "", 0.0),
        ("millstream_produce_seconds_count", "", 5.0),
        ("millstream_fetch_seconds_count", "", 2.0),
        ("millstream_partitions", "", 4.0),
        ("millstream_topics", "", 1.0),
        ("millstream_idempotent_producers", "", 0.0),
        ("millstream_shard_up", "", 2.0),
        ("millstream_ready", "", 1.0),
        (
            "millstream_journal_size_bytes",
            "",
            2.0 * after.sum("millstream_journal_size_bytes", "shard=\"0\""),
        ),
    ] {
        assert_eq!(after.sum(name, label), expected, "{name} {label}");
    }
    // Four partitions opened, four batches; a record may hold several, and one more may say that the last is durable.
    let records = after.sum("millstream_journal_records_total", "");
    assert!((6.0..=24.0).contains(&records), "{records}");
    // Two of each shard may still be on their way to the disk.
    let written = after.sum("millstream_journal_write_seconds_count", "");
    assert!(
        (records - 4.0..=records).contains(&written),
        "{written} of {records}"
    );
    assert!(after.sum("millstream_received_bytes_total", "") > bytes as f64);
    assert!(after.sum("millstream_sent_bytes_total", "") > fetched as f64);
    for pool in [
        "receive",
        "long frames",
        "tail",
        "reading",
        "staging",
        "groups",
        "groups moving",
        "groups waiting",
    ] {
        let of = |name: &str| after.sum(name, &format!("shard=\"0\",pool=\"{pool}\""));
        assert!(of("millstream_memory_limit_bytes") > 0.0);
        assert!(of("millstream_memory_used_bytes") <= of("millstream_memory_limit_bytes"));
    }
    // Nothing that only grows has shrunk.
    for (series, value) in &before.0 {
        if series.contains("_total") || series.contains("_count") || series.contains("_bucket") {
            assert!(after.value(series) >= *value, "{series}");
        }
    }
}

/// Turns one bit of the file over, in place: the broker reads it meanwhile, and must not see it short.
fn rot(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

#[test]
fn damage_that_a_read_finds_is_counted_and_said() {
    if Broker::foreign().is_some() {
        return;
    }
    let mut broker = Broker::start_restartable();
    let topic = broker.client().create_topic(1, &[]);
    produce(&broker, &topic, 0, &batch(Compression::None, &[&[7; 9_000]]));
    // All of it is in the segment now, and nothing in memory.
    broker.restart("-TERM");
    let path = broker
        .directory()
        .join(format!("{topic}-0/00000000000000000000.log"));
    rot(&path, 5_000);
    for _ in 0..3 {
        let part = fetch(&mut broker.leader(&topic, 0), &topic, ASK);
        assert_eq!(part.error_code, ErrorCode::KafkaStorageError);
    }
    let found = broker.leader(&topic, 0).list_offsets(7, &topic, 1);
    assert_eq!(found.error_code, ErrorCode::KafkaStorageError);
    let samples = Samples::scrape(&broker);
    assert_eq!(samples.sum("millstream_failed_reads_total", ""), 4.0);
    let said = broker.stop();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("a read failed"))
        .collect();
    let place = format!("{} is damaged at byte 0", path.display());
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.contains(&place)),
        "{lines:?}"
    );
}

#[test]
fn rot_that_nobody_reads_is_counted_and_said_once_and_the_broker_goes_on() {
    if Broker::foreign().is_some() {
        return;
    }
    let mut broker = Broker::start_restartable_with(&["--set", "scrub.interval.ms=50"]);
    let topic = broker.client().create_topic(1, &[("segment.ms", "60000")]);
    for age_ms in [3_600_000, 1_800_000, 0] {
        let records = batch_from(now_ms() - age_ms, 0, &[&[7; 9_000]]);
        produce(&broker, &topic, 0, &records);
    }
    // All of it is in three segments now; two of them are closed.
    broker.restart("-TERM");
    let rounds = |samples: &Samples| {
        let of = |shard| samples.sum("millstream_scrub_rounds_total", &format!("shard=\"{shard}\""));
        of(0_u8).min(of(1))
    };
    let scrubbed = |broker: &Broker, more: f64| {
        let begun = rounds(&Samples::scrape(broker));
        loop {
            let samples = Samples::scrape(broker);
            if rounds(&samples) >= begun + more {
                return samples;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let samples = scrubbed(&broker, 2.0);
    assert_eq!(samples.sum("millstream_damaged_segments", ""), 0.0);
    assert!(samples.sum("millstream_scrubbed_bytes_total", "") > 18_000.0);
    let last = samples.sum("millstream_scrub_last_round_timestamp_seconds", "") / 2.0;
    assert!((now_ms() as f64 / 1_000.0 - last).abs() < 3_600.0, "{last}");
    let path = broker
        .directory()
        .join(format!("{topic}-0/00000000000000000001.log"));
    rot(&path, 5_000);
    let samples = scrubbed(&broker, 5.0);
    for (name, expected) in [
        ("millstream_damaged_segments", 1.0),
        ("millstream_damaged_indexes", 0.0),
        ("millstream_failed_reads_total", 0.0),
        ("millstream_ready", 1.0),
    ] {
        assert_eq!(samples.sum(name, ""), expected, "{name}");
    }
    // Only what is damaged cannot be read.
    for (offset, expected) in [
        (0, ErrorCode::None),
        (1, ErrorCode::KafkaStorageError),
        (2, ErrorCode::None),
    ] {
        let part = fetch(&mut broker.leader(&topic, 0), &topic, Ask { offset, ..ASK });
        assert_eq!(part.error_code, expected, "offset {offset}");
    }
    produce(&broker, &topic, 0, &batch(Compression::None, &[b"more"]));
    let said = broker.stop();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("the scrubber found"))
        .collect();
    let place = format!("damage in {} at byte 0: ", path.display());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(&place) && lines[0].contains("restore the file from a copy"),
        "{lines:?}"
    );
}

#[test]
fn buckets_add_up_to_the_count() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    (0..3).for_each(|_| produce(&broker, &topic, 0, &batch(Compression::None, &[b"x"])));
    let samples = Samples::scrape(&broker);
    let leader = broker.client().metadata(Some(&[&topic])).topics[0].partitions[0].leader_id;
    let shard = leader % 1_000;
    let all = format!("millstream_produce_seconds_bucket{{shard=\"{shard}\",le=\"+Inf\"}}");
    assert_eq!(samples.value(&all), 3.0);
    assert_eq!(
        samples.value(&format!("millstream_produce_seconds_count{{shard=\"{shard}\"}}")),
        3.0
    );
    assert!(samples.value(&format!("millstream_produce_seconds_sum{{shard=\"{shard}\"}}")) > 0.0);
}

#[test]
fn connections_are_counted_as_they_come_and_go() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let clients: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = broker.client();
            client.metadata(Some(&[]));
            client
        })
        .collect();
    let samples = Samples::scrape(&broker);
    assert_eq!(samples.sum("millstream_connections", ""), 5.0);
    assert_eq!(samples.sum("millstream_accepted_connections_total", ""), 5.0);
    // And what goes through them.
    let mut client = broker.client();
    let request = MetadataRequest::default().encode(9, 1, Some("test"));
    client.send_bytes(&request);
    let answer = client.receive_frame().unwrap();
    let after = Samples::scrape(&broker);
    let grown = |name| after.sum(name, "") - samples.sum(name, "");
    assert_eq!(grown("millstream_received_bytes_total"), request.len() as f64);
    assert_eq!(grown("millstream_sent_bytes_total"), (4 + answer.len()) as f64);
    assert_eq!(grown("millstream_connections"), 1.0);
    drop((clients, client));
    // The broker hears of it when it hears of it.
    while Samples::scrape(&broker).sum("millstream_connections", "") > 0.0 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_groups_lag_is_told_in_records_and_in_seconds() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let topic = broker.client().create_topic(3, &[]);
    const AGE_SECONDS: i64 = 5_000;
    for partition in 0..3 {
        // Old records first, and then some of now: the lag in seconds is that of the first that is not consumed.
        for (first_ms, step_ms) in [(now_ms() - AGE_SECONDS * 1_000, STEP_MS), (now_ms(), 0)] {
            produce(
                &broker,
                &topic,
                partition,
                &batch_from(first_ms, step_ms, &[b"a", b"b", b"c"]),
            );
        }
    }
    // Names that would break a text that does not quote them.
    let group = "a \"group\"\n\\";
    let quoted = "a \\\"group\\\"\\n\\\\";
    commit(&broker, group, &topic, &[(0, 1), (1, 3), (2, 6)]);
    commit(&broker, "ahead", &topic, &[(0, 1_000), (1, 0)]);
    let samples = Samples::scrape(&broker);
    let records = |group, partition| samples.value(&lag("records", group, &topic, partition));
    assert_eq!(
        [0, 1, 2].map(|partition| records(quoted, partition)),
        [5.0, 3.0, 0.0]
    );
    assert_eq!([0, 1].map(|partition| records("ahead", partition)), [0.0, 6.0]);
    assert!(
        !samples.0.contains_key(&lag("records", "ahead", &topic, 2)),
        "it has committed nothing there"
    );
    let seconds = |group, partition| samples.value(&lag("seconds", group, &topic, partition));
    let old = AGE_SECONDS as f64..AGE_SECONDS as f64 + 1_000.0;
    assert!(old.contains(&seconds(quoted, 0)), "{}", seconds(quoted, 0));
    assert!(
        (0.0..1_000.0).contains(&seconds(quoted, 1)),
        "{}",
        seconds(quoted, 1)
    );
    assert_eq!(seconds(quoted, 2), 0.0);
    assert_eq!(seconds("ahead", 0), 0.0);
    assert!(old.contains(&seconds("ahead", 1)));
    assert_eq!(samples.value("millstream_consumer_lag_omitted"), 0.0);
    assert_eq!(samples.sum("millstream_groups", "state=\"Empty\""), 2.0);
    assert_eq!(samples.sum("millstream_groups", ""), 2.0);

    // What was deleted is still missing from what was consumed, but nobody waits for it.
    delete_records(&broker, &topic, 1, 3);
    let samples = Samples::scrape(&broker);
    assert_eq!(samples.value(&lag("records", "ahead", &topic, 1)), 6.0);
    let seconds = samples.value(&lag("seconds", "ahead", &topic, 1));
    assert!((0.0..1_000.0).contains(&seconds), "{seconds}");

    // Consumed further, and more produced: the lag follows both.
    commit(&broker, group, &topic, &[(0, 6)]);
    produce(&broker, &topic, 2, &batch(Compression::None, &[b"d"]));
    let samples = Samples::scrape(&broker);
    let records = |partition| samples.value(&lag("records", quoted, &topic, partition));
    assert_eq!([0, 1, 2].map(records), [0.0, 3.0, 1.0]);
}

#[test]
fn lag_is_told_of_what_is_no_longer_in_memory() {
    if Broker::foreign().is_some() {
        return;
    }
    let mut broker = Broker::start_restartable();
    let topic = broker.client().create_topic(1, &[]);
    const AGE_SECONDS: i64 = 7_000;
    let old = now_ms() - AGE_SECONDS * 1_000;
    produce(&broker, &topic, 0, &batch_from(old, STEP_MS, &[b"a", b"b"]));
    produce(&broker, &topic, 0, &batch(Compression::None, &[b"c"]));
    commit(&broker, "slow", &topic, &[(0, 1)]);
    commit(&broker, "slower", &topic, &[(0, 0)]);
    // A clean stop leaves everything in segments.
    broker.restart("-TERM");
    for _ in 0..2 {
        let samples = loop {
            let samples = Samples::scrape(&broker);
            if samples.sum("millstream_loading_coordinators", "") == 0.0 {
                break samples;
            }
        };
        for (group, records) in [("slow", 2.0), ("slower", 3.0)] {
            assert_eq!(samples.value(&lag("records", group, &topic, 0)), records);
            let seconds = samples.value(&lag("seconds", group, &topic, 0));
            let expected = AGE_SECONDS as f64..AGE_SECONDS as f64 + 1_000.0;
            assert!(expected.contains(&seconds), "{group}: {seconds}");
        }
    }
}

#[test]
fn the_number_of_lags_that_are_shown_is_bounded_and_the_rest_is_counted() {
    if Broker::foreign().is_some() {
        return;
    }
    for (most, shown) in [("2", 2), ("0", 0)] {
        let setting = format!("metrics.lag.partitions.max={most}");
        let broker = Broker::start_with(&["--set", &setting]);
        let topic = broker.client().create_topic(3, &[]);
        commit(&broker, "g1", &topic, &[(0, 0), (1, 0), (2, 0)]);
        commit(&broker, "g2", &topic, &[(0, 0), (1, 0), (2, 0)]);
        let samples = Samples::scrape(&broker);
        let lags = samples
            .0
            .keys()
            .filter(|series| series.starts_with("millstream_consumer_lag_records{"));
        assert_eq!(lags.count(), shown);
        let omitted = if shown == 0 { 0.0 } else { 4.0 };
        assert_eq!(samples.value("millstream_consumer_lag_omitted"), omitted);
    }
}

#[test]
fn a_broker_that_serves_is_alive_and_ready_and_its_metrics_can_be_switched_off() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    for path in ["/livez", "/readyz"] {
        let (head, body) = get(&broker, path);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert_eq!(body, "ok\n");
    }
    assert!(!Samples::scrape(&broker).has("_consumer_lag_records{"));
    let broker = Broker::start_with(&["--set", "admin.listen="]);
    assert_eq!(broker.admin(), "");
    broker.client().metadata(Some(&[]));
}
