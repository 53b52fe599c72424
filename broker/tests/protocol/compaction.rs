//! Compaction, as clients see it. It holds for Apache Kafka as well, started with `log.cleaner.backoff.ms=50`; what is restarted is a
//! broker of our own.
//!
//! `MILLSTREAM_UPDATES=10000000 cargo test --release -p millstream --test protocol compaction` is the long form: 10 million
//! updates of 100,000 keys.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::record_batch::batches;
use wire::{BatchBuilder, Compression, ErrorCode, NewRecord, records};

use crate::admin::{SET, TOPIC, change, log_dir, sizes};
use crate::support::{ASK, Ask, Broker, Client, fetch, now_ms};

/// Updates of each key.
const UPDATES_OF_KEY: u64 = 100;
const BATCH_RECORDS: u64 = 500;
const VALUE_BYTES: usize = 100;
/// Looks at a log before it is said that it does not change: far more than the broker takes.
const LOOKS: u32 = 1_500;
const SEGMENT: &str = "1048576";

const SETTINGS: [&str; 2] = ["--set", "log.cleaner.backoff.ms=50"];

fn start() -> Broker {
    Broker::start_with(&SETTINGS)
}

/// Update n is the record at offset n: of key n % `keys`, its value begins with n.
struct Log {
    topic: String,
    leader: Client,
    keys: u64,
    next: u64,
}

impl Log {
    fn new(broker: &Broker, keys: u64, configs: &[(&str, &str)]) -> Log {
        let topic = broker.client().create_topic(1, configs);
        let leader = broker.leader(&topic, 0);
        Log {
            topic,
            leader,
            keys,
            next: 0,
        }
    }

    fn produce(&mut self, count: u64) {
        let codec = Compression::ALL[(self.next / BATCH_RECORDS % 5) as usize];
        let mut builder = BatchBuilder::new(codec);
        for n in self.next..self.next + count {
            let mut value = n.to_be_bytes().to_vec();
            // As they come from people: they compress, but not to nothing.
            value.extend((0..VALUE_BYTES as u64).map(|at| (n.wrapping_mul(at * at + 7) >> 3) as u8 & 0x1f));
            builder.push(&NewRecord {
                timestamp_ms: now_ms(),
                key: Some(&(n % self.keys).to_be_bytes()),
                value: Some(&value),
                ..NewRecord::default()
            });
        }
        self.put(&builder.build());
        self.next += count;
    }

    fn put(&mut self, batch: &[u8]) {
        let produced = self.leader.produce(9, &self.topic, 0, -1, Some(batch)).unwrap();
        assert_eq!(produced.error_code, ErrorCode::None);
    }

    fn bytes(&mut self) -> i64 {
        sizes(&log_dir(&mut self.leader, 4, None), &self.topic)[0].1
    }

    /// Every record, by offset: its key, and its value's number; none for a tombstone.
    fn read(&mut self) -> BTreeMap<i64, (u64, Option<u64>)> {
        let (mut all, mut offset) = (BTreeMap::new(), 0);
        loop {
            let fetched = fetch(&mut self.leader, &self.topic, Ask { offset, ..ASK });
            assert_eq!(fetched.error_code, ErrorCode::None);
            if offset >= fetched.high_watermark {
                return all;
            }
            let bytes = fetched.records.0.concat();
            assert!(!bytes.is_empty(), "nothing at {offset}");
            for batch in batches(&bytes) {
                // The last one may be cut.
                let Ok(batch) = batch else { break };
                batch.verify_crc().unwrap();
                let header = batch.header();
                assert!(header.next_offset() > offset, "offsets go back");
                let codec = header.attributes.compression().unwrap();
                let section = codec.decompress(batch.records_bytes(), 16 << 20).unwrap();
                for record in records(&section, header.record_count) {
                    let record = record.unwrap();
                    let number = |bytes: &[u8]| u64::from_be_bytes(*bytes.first_chunk().unwrap());
                    let at = header.base_offset + i64::from(record.offset_delta);
                    all.insert(at, (number(record.key.unwrap()), record.value.map(number)));
                }
                offset = header.next_offset();
            }
        }
    }
}

#[test]
fn of_many_updates_the_last_of_each_key_is_left_while_producing_goes_on() {
    let updates = std::env::var("MILLSTREAM_UPDATES").map_or(200_000, |updates| updates.parse().unwrap());
    let keys = updates / UPDATES_OF_KEY;
    let broker = start();
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", SEGMENT),
        ("min.cleanable.dirty.ratio", "0.3"),
    ];
    let mut log = Log::new(&broker, keys, &configs);
    while log.next < updates {
        log.produce(BATCH_RECORDS);
    }
    // What is clean has each key once; what is not may be half of it, and the active segment.
    let record_bytes = VALUE_BYTES as u64 + 30;
    let clean = i64::try_from(2 * keys * record_bytes + (4 << 20)).unwrap();
    for look in 0.. {
        log.produce(BATCH_RECORDS);
        let bytes = log.bytes();
        if bytes <= clean {
            break;
        }
        assert!(
            look < 20 * LOOKS,
            "{bytes} bytes of {} updates are left",
            log.next
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let all = log.read();
    for (offset, (key, value)) in &all {
        let n = *offset as u64;
        assert_eq!((*key, *value), (n % keys, Some(n)), "at offset {offset}");
    }
    for n in log.next - keys..log.next {
        assert!(
            all.contains_key(&(n as i64)),
            "the newest of key {} is gone",
            n % keys
        );
    }
    assert!(
        all.len() < log.next as usize / 2,
        "{} of {} are left",
        all.len(),
        log.next
    );
}

#[test]
fn a_deleted_key_is_gone_in_time_its_tombstone_too() {
    let broker = start();
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", SEGMENT),
        ("min.cleanable.dirty.ratio", "0"),
        ("delete.retention.ms", "1000"),
    ];
    let mut log = Log::new(&broker, 100, &configs);
    log.produce(BATCH_RECORDS);
    let mut builder = BatchBuilder::new(Compression::None);
    for key in 0..50_u64 {
        builder.push(&NewRecord {
            timestamp_ms: now_ms(),
            key: Some(&key.to_be_bytes()),
            ..NewRecord::default()
        });
    }
    log.put(&builder.build());
    // Of the others only, so that each pass is of newer segments.
    let more = |log: &mut Log| {
        for _ in 0..3 {
            let mut builder = BatchBuilder::new(Compression::None);
            for n in 0..BATCH_RECORDS {
                let value = [0x55; 1_000];
                builder.push(&NewRecord {
                    timestamp_ms: now_ms(),
                    key: Some(&(50 + n % 50).to_be_bytes()),
                    value: Some(&value),
                    ..NewRecord::default()
                });
            }
            log.put(&builder.build());
        }
    };
    for look in 0.. {
        more(&mut log);
        let all = log.read();
        let of_deleted: Vec<_> = all.iter().filter(|(_, (key, _))| *key < 50).collect();
        if of_deleted.is_empty() {
            let others = all
                .values()
                .map(|(key, _)| *key)
                .collect::<std::collections::BTreeSet<_>>();
            assert_eq!(others.len(), 50, "the others are there");
            return;
        }
        assert!(look < LOOKS, "{of_deleted:?} are left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn of_each_key_only_the_newest_record_is_left_and_so_after_restarts() {
    const KEYS: u64 = 50;
    let mut broker = Broker::start_restartable_with(&SETTINGS);
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", SEGMENT),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    let mut log = Log::new(&broker, KEYS, &configs);
    while log.next < 20 * BATCH_RECORDS {
        log.produce(BATCH_RECORDS);
    }
    let newest: BTreeMap<i64, (u64, Option<u64>)> = (log.next - KEYS..log.next)
        .map(|n| (n as i64, (n % KEYS, Some(n))))
        .collect();
    let of_keys = |log: &mut Log| {
        let mut all = log.read();
        all.retain(|_, (key, _)| *key < KEYS);
        all
    };
    for look in 0.. {
        // Of one other key, so that the segments of these are closed.
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..BATCH_RECORDS {
            builder.push(&NewRecord {
                timestamp_ms: now_ms(),
                key: Some(&KEYS.to_be_bytes()),
                value: Some(&[0x55; 1_000]),
                ..NewRecord::default()
            });
        }
        log.put(&builder.build());
        let left = of_keys(&mut log);
        if left == newest {
            break;
        }
        assert!(look < LOOKS, "{} records are left of {KEYS} keys", left.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (signal, shards) in [("-KILL", 2), ("-TERM", 1), ("-KILL", 2)] {
        broker.restart_with_shards(signal, shards);
        log.leader = broker.leader(&log.topic, 0);
        assert_eq!(of_keys(&mut log), newest, "after kill {signal}");
    }
}

#[test]
fn a_topic_that_begins_to_be_compacted_is_and_one_that_ends_is_not() {
    let broker = start();
    let mut log = Log::new(&broker, 10, &[("segment.bytes", SEGMENT)]);
    let mut always = Log::new(
        &broker,
        10,
        &[
            ("cleanup.policy", "compact"),
            ("segment.bytes", SEGMENT),
            ("min.cleanable.dirty.ratio", "0"),
        ],
    );
    let fill = |log: &mut Log| {
        let before = log.next;
        while log.next < before + 40 * BATCH_RECORDS {
            log.produce(BATCH_RECORDS);
        }
    };
    let shrinks_to = |log: &mut Log, bytes: i64| {
        for _ in 0..LOOKS {
            if log.bytes() <= bytes {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{} bytes are left", log.bytes());
    };
    fill(&mut log);
    fill(&mut always);
    shrinks_to(&mut always, 1_200_000);
    let whole = log.bytes();
    assert_eq!(log.read().len() as u64, log.next);
    let mut client = broker.client();
    for (name, value) in [
        ("min.cleanable.dirty.ratio", "0"),
        ("cleanup.policy", "compact,delete"),
    ] {
        let changed = change(&mut client, TOPIC, &log.topic, &[(name, SET, Some(value))]);
        assert_eq!(changed, ErrorCode::None);
    }
    shrinks_to(&mut log, whole / 2);
    let lags = [
        ("min.compaction.lag.ms", SET, Some("10")),
        ("max.compaction.lag.ms", SET, Some("9")),
    ];
    let changed = change(&mut client, TOPIC, &log.topic, &lags);
    assert_eq!(changed, ErrorCode::InvalidConfig);
}
