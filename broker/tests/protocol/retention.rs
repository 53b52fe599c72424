//! Old segments go by themselves, by time and by size, and segments end by age and by their index. All of it holds for
//! Apache Kafka as well, started with `log.retention.check.interval.ms=100` and `log.initial.task.delay.ms=100`, but
//! where a test says so.

use std::time::Duration;

use wire::{Compression, ErrorCode};

use crate::admin::{BROKER, DELETE, SET, TOPIC, change, log_dir, sizes};
use crate::consuming::list;
use crate::metrics::commit;
use crate::support::{ASK, Ask, Broker, Client, batch, batch_from, fetch, now_ms};

const EARLIEST: i64 = -2;
const HOUR_MS: i64 = 3_600_000;
/// Looks at a log before it is said that it does not change: far more than the broker takes.
const LOOKS: u32 = 1_500;

fn start() -> Broker {
    Broker::start_with(&["--set", "log.retention.check.interval.ms=50"])
}

/// A topic of one partition, and who leads it.
struct Log {
    topic: String,
    leader: Client,
}

impl Log {
    fn new(broker: &Broker, configs: &[(&str, &str)]) -> Log {
        let topic = broker.client().create_topic(1, configs);
        let leader = broker.leader(&topic, 0);
        Log { topic, leader }
    }

    fn produce(&mut self, records: &[u8]) {
        let produced = self.leader.produce(9, &self.topic, 0, -1, Some(records)).unwrap();
        assert_eq!(produced.error_code, ErrorCode::None);
    }

    /// One record that many milliseconds before now.
    fn produce_old(&mut self, age_ms: i64) {
        self.produce(&batch_from(now_ms() - age_ms, 0, &[b"value"]));
    }

    fn start(&mut self) -> i64 {
        let (code, offset, _) = list(&mut self.leader, &self.topic, 7, EARLIEST);
        assert_eq!(code, ErrorCode::None);
        offset
    }

    fn bytes(&mut self) -> i64 {
        sizes(&log_dir(&mut self.leader, 4, None), &self.topic)[0].1
    }

    /// Waits until it begins there, and its disk space is back: so much of it at most is left.
    fn begins_at(&mut self, offset: i64, bytes: i64) {
        for _ in 0..LOOKS {
            if self.start() == offset && self.bytes() <= bytes {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!(
            "it begins at {} with {} bytes; {offset} and {bytes} are wanted",
            self.start(),
            self.bytes()
        );
    }
}

/// Waits until every log has been looked at, whatever is done with it: others that are too old have gone twice.
fn all_are_looked_at(broker: &Broker) {
    all_are_looked_at_of(broker, &[("retention.ms", "1000")]);
}

/// The same, where others need further configs to go.
fn all_are_looked_at_of(broker: &Broker, configs: &[(&str, &str)]) {
    for _ in 0..2 {
        // A node looks at its own: one log on each.
        let topic = broker.client().create_topic(2, configs);
        for partition in 0..2 {
            let mut leader = broker.leader(&topic, partition);
            let old = batch_from(now_ms() - HOUR_MS, 0, &[b"old"]);
            leader.produce(9, &topic, partition, -1, Some(&old)).unwrap();
            while fetch(&mut leader, &topic, Ask { partition, ..ASK }).error_code
                != ErrorCode::OffsetOutOfRange
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn records_that_are_too_old_go_the_last_segment_too_and_the_log_goes_on() {
    let broker = start();
    let mut log = Log::new(&broker, &[("retention.ms", "600000")]);
    for _ in 0..3 {
        log.produce_old(HOUR_MS);
    }
    log.begins_at(3, 0);
    let at = |offset| Ask { offset, ..ASK };
    for offset in 0..3 {
        let found = fetch(&mut log.leader, &log.topic, at(offset));
        assert_eq!(found.error_code, ErrorCode::OffsetOutOfRange, "{offset}");
    }
    let found = fetch(&mut log.leader, &log.topic, at(3));
    assert_eq!((found.error_code, found.log_start_offset), (ErrorCode::None, 3));
    log.produce_old(0);
    all_are_looked_at(&broker);
    let found = fetch(&mut log.leader, &log.topic, at(3));
    assert_eq!((found.error_code, found.high_watermark), (ErrorCode::None, 4));
    assert!(!found.records.0.concat().is_empty());
}

#[test]
fn what_may_stay_stays() {
    let broker = start();
    let stays = [
        &[][..],
        &[("retention.ms", "-1")],
        &[("retention.ms", "7200000")],
        &[
            ("cleanup.policy", "compact"),
            ("retention.ms", "1000"),
            ("retention.bytes", "1"),
        ],
        &[("retention.ms", "-1"), ("retention.bytes", "10000")],
    ];
    let mut logs: Vec<Log> = stays.iter().map(|configs| Log::new(&broker, configs)).collect();
    let keyed = |age_ms| {
        let mut builder = wire::BatchBuilder::new(Compression::None);
        builder.push(&wire::NewRecord {
            timestamp_ms: now_ms() - age_ms,
            key: Some(b"key"),
            value: Some(b"value"),
            ..wire::NewRecord::default()
        });
        builder.build()
    };
    for log in &mut logs {
        log.produce(&keyed(HOUR_MS));
    }
    all_are_looked_at(&broker);
    for (log, configs) in logs.iter_mut().zip(stays) {
        assert_eq!(log.start(), 0, "{configs:?}");
        assert!(log.bytes() > 0, "{configs:?}");
    }
}

/// Of our own broker: Kafka keeps a record as long as its timestamp says.
#[test]
fn a_timestamp_in_the_future_keeps_nothing() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = start();
    let mut log = Log::new(&broker, &[("retention.ms", "500")]);
    log.produce_old(-HOUR_MS / 2);
    log.begins_at(1, 0);
}

#[test]
fn a_log_is_no_larger_than_it_may_be_and_a_segment() {
    const SEGMENT: i64 = 1 << 20;
    let broker = start();
    let mut log = Log::new(
        &broker,
        &[
            ("retention.bytes", "2097152"),
            ("segment.bytes", "1048576"),
            ("retention.ms", "-1"),
        ],
    );
    let records = batch(Compression::None, &[&[7; 100_000]]);
    for _ in 0..80 {
        log.produce(&records);
    }
    let mut looks = 0;
    while log.bytes() >= 3 * SEGMENT {
        looks += 1;
        assert!(looks < LOOKS, "it has {} bytes", log.bytes());
        std::thread::sleep(Duration::from_millis(20));
    }
    all_are_looked_at(&broker);
    assert!(
        log.bytes() >= 2 * SEGMENT,
        "more went than had to: {}",
        log.bytes()
    );
    let start = log.start();
    assert!(start > 0);
    let at = |offset| Ask { offset, ..ASK };
    let before = fetch(&mut log.leader, &log.topic, at(start - 1));
    assert_eq!(before.error_code, ErrorCode::OffsetOutOfRange);
    let first = fetch(&mut log.leader, &log.topic, at(start));
    assert_eq!((first.error_code, first.high_watermark), (ErrorCode::None, 80));
}

#[test]
fn what_is_changed_holds_at_the_next_look() {
    let broker = start();
    let mut client = broker.client();
    let mut by_time = Log::new(&broker, &[("retention.ms", "-1")]);
    let mut by_size = Log::new(&broker, &[("retention.ms", "-1")]);
    let mut by_policy = Log::new(&broker, &[("cleanup.policy", "")]);
    let mut logs = [&mut by_time, &mut by_size, &mut by_policy];
    for log in &mut logs {
        log.produce_old(HOUR_MS);
    }
    all_are_looked_at(&broker);
    assert!(logs.iter_mut().all(|log| log.start() == 0));
    for (topic, config, value) in [
        (&by_time.topic, "retention.ms", "600000"),
        (&by_size.topic, "retention.bytes", "0"),
        (&by_policy.topic, "retention.ms", "600000"),
        (&by_policy.topic, "cleanup.policy", "compact,delete"),
    ] {
        let changes = [(config, SET, Some(value))];
        assert_eq!(change(&mut client, TOPIC, topic, &changes), ErrorCode::None);
    }
    for log in [&mut by_time, &mut by_size, &mut by_policy] {
        log.begins_at(1, 0);
    }
}

/// Of our own broker: a change would hold for the topics of other tests.
#[test]
fn what_is_changed_of_a_broker_holds_for_its_topics_at_the_next_look() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = start();
    let mut log = Log::new(&broker, &[]);
    log.produce_old(HOUR_MS);
    let metadata = log.leader.metadata(Some(&[&log.topic]));
    let node = metadata.topics[0].partitions[0].leader_id.to_string();
    let change_it = |operation, name, value| {
        let changes = [(name, operation, value)];
        let changed = change(&mut broker.client(), BROKER, &node, &changes);
        assert_eq!(changed, ErrorCode::None, "{name}");
    };
    change_it(SET, "log.cleanup.policy", Some("compact"));
    change_it(SET, "log.retention.ms", Some("600000"));
    all_are_looked_at_of(&broker, &[("retention.ms", "1000"), ("cleanup.policy", "delete")]);
    assert_eq!(log.start(), 0, "it is compacted");
    change_it(DELETE, "log.cleanup.policy", None);
    log.begins_at(1, 0);
    change_it(DELETE, "log.retention.ms", None);
    change_it(SET, "log.retention.bytes", Some("0"));
    log.produce_old(HOUR_MS);
    log.begins_at(2, 0);
}

#[test]
fn a_segment_ends_by_its_age_and_by_its_index() {
    let broker = start();
    for configs in [
        &[("segment.ms", "60000")][..],
        // Room for one entry, which the third batch makes.
        &[("index.interval.bytes", "0"), ("segment.index.bytes", "24")],
    ] {
        let configs = [&[("retention.ms", "600000")], configs].concat();
        let mut log = Log::new(&broker, &configs);
        for _ in 0..3 {
            log.produce_old(HOUR_MS);
        }
        // Else it would keep all of them.
        log.produce_old(0);
        for _ in 0..LOOKS {
            if log.start() > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!((1..=3).contains(&log.start()), "{configs:?}: {}", log.start());
        let at = Ask { offset: 3, ..ASK };
        assert_eq!(fetch(&mut log.leader, &log.topic, at).error_code, ErrorCode::None);
    }
}

/// Of our own broker: what consumers have committed is no older than the last commit, whatever its age.
#[test]
fn the_topic_of_committed_offsets_is_not_aged() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start_with(&[
        "--set",
        "log.retention.check.interval.ms=50",
        "--set",
        "log.retention.ms=1",
        "--set",
        "log.retention.bytes=0",
    ]);
    let group = "aged";
    let topic = broker.client().create_topic(1, &[("retention.ms", "-1")]);
    commit(&broker, group, &topic, &[(0, 7)]);
    all_are_looked_at(&broker);
    let kept = (0..50).any(|partition| {
        let mut leader = broker.leader("__consumer_offsets", partition);
        let found = fetch(&mut leader, "__consumer_offsets", Ask { partition, ..ASK });
        found.error_code == ErrorCode::None && found.high_watermark > 0
    });
    assert!(kept, "the log of the commit is gone");
}
