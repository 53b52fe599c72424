//! `compression.type`: what came in one codec is kept in another, and is the same to whoever reads it. All of it holds for
//! Apache Kafka as well, but where a test says so.

use wire::record::{RecordHeader, records};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, BatchHeader, Compression, ErrorCode, NewRecord, RecordBatch};

use crate::admin::{BROKER, DELETE, SET, TOPIC, change};
use crate::support::{ASK, Ask, Broker, Client, fetch, now_ms};

/// The values of `compression.type`, and the codec that each is; none for the producer's.
const TYPES: [(&str, Option<Compression>); 6] = [
    ("producer", None),
    ("uncompressed", Some(Compression::None)),
    ("gzip", Some(Compression::Gzip)),
    ("snappy", Some(Compression::Snappy)),
    ("lz4", Some(Compression::Lz4)),
    ("zstd", Some(Compression::Zstd)),
];
const HEADERS: [RecordHeader<'static>; 2] = [
    RecordHeader {
        key: "a",
        value: None,
    },
    RecordHeader {
        key: "a",
        value: Some(b"header"),
    },
];

/// Records that have everything that a record can have, of an idempotent producer.
fn sent(codec: Compression, producer_id: i64, sequence: i32) -> Vec<u8> {
    let now_ms = now_ms();
    let mut builder = BatchBuilder::new(codec).producer(producer_id, 3, sequence);
    for n in 0..5_i64 {
        builder.push(&NewRecord {
            timestamp_ms: now_ms - n * n * 100 + 50 * n,
            key: (n != 1).then_some(&n.to_be_bytes()),
            value: (n != 2).then_some(&[n as u8; 1_000]),
            headers: if n == 3 { &HEADERS } else { &[] },
        });
    }
    builder.build()
}

/// A record, as its consumer has it: offset, time, key, value, headers.
type Seen = (
    i64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
);

/// The records of a batch whose CRC is right.
fn seen(bytes: &[u8]) -> (BatchHeader, Vec<Seen>) {
    let (batch, rest) = RecordBatch::parse(bytes).unwrap();
    assert_eq!((batch.verify_crc(), rest), (Ok(()), &[][..]));
    let header = *batch.header();
    let codec = header.attributes.compression().unwrap();
    let section = codec.decompress(batch.records_bytes(), 1 << 20).unwrap();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let all = records(&section, header.record_count).map(|record| {
        let record = record.unwrap();
        let headers = record.headers.iter();
        (
            header.base_offset + i64::from(record.offset_delta),
            header.base_timestamp_ms + record.timestamp_delta_ms,
            own(record.key),
            own(record.value),
            headers
                .map(|header| (header.key.to_owned(), own(header.value)))
                .collect(),
        )
    });
    (header, all.collect())
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

    /// The offset that a batch gets, or why it gets none.
    fn produce(&mut self, batch: &[u8]) -> Result<i64, ErrorCode> {
        let produced = self.leader.produce(9, &self.topic, 0, -1, Some(batch)).unwrap();
        match produced.error_code {
            ErrorCode::None => Ok(produced.base_offset),
            error => Err(error),
        }
    }

    /// The batch at an offset.
    fn read(&mut self, offset: i64) -> Vec<u8> {
        let ask = Ask {
            offset,
            partition_max_bytes: 1,
            ..ASK
        };
        let found = fetch(&mut self.leader, &self.topic, ask);
        assert_eq!(found.error_code, ErrorCode::None);
        let mut bytes = found.records.0.concat();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let length = batch.bytes().len();
        bytes.truncate(length);
        bytes
    }
}

/// The batch with its first record's bytes changed, and a CRC that says nothing of it.
fn changed(mut batch: Vec<u8>, change: impl FnOnce(&mut BatchHeader, &mut [u8])) -> Vec<u8> {
    let (head, section) = batch.split_first_chunk_mut::<BATCH_HEADER_BYTES>().unwrap();
    let mut header = BatchHeader::decode(head);
    change(&mut header, section);
    *head = header.encode();
    header.crc = wire::crc32c(&batch[21..]);
    batch[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    batch
}

#[test]
fn every_codec_becomes_the_topics_and_nothing_else_changes() {
    let broker = Broker::start();
    for (name, target) in TYPES {
        let mut log = Log::new(&broker, &[("compression.type", name)]);
        for (n, codec) in (0..).zip(Compression::ALL) {
            let producer_id = 5_000 + i64::from(n);
            let batch = sent(codec, producer_id, 0);
            let base_offset = i64::from(n) * 5;
            assert_eq!(log.produce(&batch), Ok(base_offset), "{codec:?} to {name}");
            let kept = log.read(base_offset);
            let ((before, mut expected), (after, found)) = (seen(&batch), seen(&kept));
            for (offset, ..) in &mut expected {
                *offset += base_offset;
            }
            assert_eq!(found, expected, "{codec:?} to {name}");
            let target = target.unwrap_or(codec);
            assert_eq!(
                after.attributes.compression(),
                Some(target),
                "{codec:?} to {name}"
            );
            let said = |header: &BatchHeader| {
                (
                    (header.producer_id, header.producer_epoch, header.base_sequence),
                    (header.base_timestamp_ms, header.max_timestamp_ms),
                    (header.last_offset_delta, header.record_count),
                )
            };
            assert_eq!(said(&after), said(&before), "{codec:?} to {name}");
            if target == codec {
                assert_eq!(
                    kept[17..],
                    batch[17..],
                    "{codec:?} to {name}: it was written anew"
                );
            }
            // The producer's sequence went on.
            assert_eq!(log.produce(&batch), Ok(base_offset), "a repetition");
            assert_eq!(
                log.produce(&sent(codec, producer_id, 9)),
                Err(ErrorCode::OutOfOrderSequenceNumber)
            );
        }
        assert_eq!(fetch(&mut log.leader, &log.topic, ASK).high_watermark, 25);
    }
}

#[test]
fn the_limit_of_a_batch_holds_before_and_after() {
    let broker = Broker::start();
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.push(&NewRecord {
        timestamp_ms: now_ms(),
        value: Some(&[0; 5_000]),
        ..NewRecord::default()
    });
    let small = builder.build();
    let large = sent(Compression::None, -1, -1);
    assert!(small.len() < 1_000 && large.len() > 4_000);
    for (name, batch, is_taken) in [
        ("producer", &small, true),
        ("uncompressed", &small, false),
        ("zstd", &small, true),
        ("zstd", &large, false),
    ] {
        let configs = [("compression.type", name), ("max.message.bytes", "1000")];
        let mut log = Log::new(&broker, &configs);
        let expected = if is_taken {
            Ok(0)
        } else {
            Err(ErrorCode::MessageTooLarge)
        };
        assert_eq!(log.produce(batch), expected, "{} bytes to {name}", batch.len());
        let end = fetch(&mut log.leader, &log.topic, ASK).high_watermark;
        assert_eq!(end, i64::from(is_taken), "{name}");
    }
}

#[test]
fn what_cannot_be_opened_is_refused() {
    let broker = Broker::start();
    for (codec, name) in [
        (Compression::None, "lz4"),
        (Compression::Gzip, "uncompressed"),
        (Compression::Zstd, "gzip"),
    ] {
        let mut log = Log::new(&broker, &[("compression.type", name)]);
        let good = sent(codec, -1, -1);
        let cut = changed(good.clone(), |_, section| section.fill(0xff));
        let refused = log.produce(&cut).expect_err("no records");
        // Apache Kafka fails inside at some of them.
        if Broker::foreign().is_none() || refused != ErrorCode::UnknownServerError {
            assert_eq!(refused, ErrorCode::InvalidRecord, "{codec:?} to {name}");
        }
        let counted = changed(good.clone(), |header, _| {
            (header.record_count, header.last_offset_delta) = (6, 5);
        });
        assert_eq!(
            log.produce(&counted),
            Err(ErrorCode::InvalidRecord),
            "{codec:?} to {name}"
        );
        assert_eq!(log.produce(&good), Ok(0));
    }
}

#[test]
fn records_are_numbered_and_timed_by_what_they_are() {
    let broker = Broker::start();
    let mut log = Log::new(&broker, &[("compression.type", "zstd")]);
    // Three small records: offset deltas are the fourth byte of each, and all have one length.
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..3 {
        builder.push(&NewRecord {
            timestamp_ms: now_ms(),
            value: Some(b"v"),
            ..NewRecord::default()
        });
    }
    let good = builder.build();
    let record = (good.len() - BATCH_HEADER_BYTES) / 3;
    let numbered = changed(good.clone(), |_, section| {
        for (at, delta) in [(0, 7), (1, 7), (2, 1)] {
            section[at * record + 3] = 2 * delta;
        }
    });
    assert_eq!(log.produce(&numbered), Ok(0));
    let (_, found) = seen(&log.read(0));
    assert_eq!(found.iter().map(|record| record.0).collect::<Vec<_>>(), [0, 1, 2]);
    // What the header says of times is nothing.
    let early = changed(good.clone(), |header, _| header.max_timestamp_ms -= 10_000);
    assert_eq!(log.produce(&early), Ok(3));
    let (header, found) = seen(&log.read(3));
    assert_eq!(header.max_timestamp_ms, found[0].1);
    let hour = 3_600_000;
    let late = changed(good, |header, _| header.base_timestamp_ms += 3 * hour);
    assert_eq!(log.produce(&late), Err(ErrorCode::InvalidTimestamp));
    // Nor may it hide what the records say.
    let mut builder = BatchBuilder::new(Compression::None);
    for hours in [0, 3] {
        builder.push(&NewRecord {
            timestamp_ms: now_ms() + hours * hour,
            ..NewRecord::default()
        });
    }
    let hidden = changed(builder.build(), |header, _| {
        header.max_timestamp_ms = header.base_timestamp_ms;
    });
    assert_eq!(log.produce(&hidden), Err(ErrorCode::InvalidTimestamp));
}

#[test]
fn who_does_not_know_zstd_gets_none_of_a_topic_that_is_kept_in_it() {
    let broker = Broker::start();
    for (codec, version, answer) in [
        ("zstd", 9, ErrorCode::UnsupportedCompressionType),
        ("zstd", 10, ErrorCode::None),
        ("gzip", 9, ErrorCode::None),
    ] {
        let mut log = Log::new(&broker, &[("compression.type", codec)]);
        log.produce(&sent(Compression::None, -1, -1)).unwrap();
        let found = fetch(&mut log.leader, &log.topic, Ask { version, ..ASK });
        assert_eq!(found.error_code, answer, "{codec}, Fetch {version}");
        assert_eq!(found.records.0.is_empty(), answer != ErrorCode::None);
    }
}

#[test]
fn the_brokers_time_is_every_records() {
    let broker = Broker::start();
    let configs = [
        ("compression.type", "snappy"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let mut log = Log::new(&broker, &configs);
    let before = now_ms();
    assert_eq!(log.produce(&sent(Compression::Lz4, -1, -1)), Ok(0));
    let (header, found) = seen(&log.read(0));
    assert!(header.attributes.is_log_append_time());
    assert!((before..=now_ms()).contains(&header.max_timestamp_ms));
    assert_eq!(found.len(), 5);
}

#[test]
fn a_compacted_topic_is_asked_for_keys_before() {
    let broker = Broker::start();
    let configs = [("compression.type", "gzip"), ("cleanup.policy", "compact")];
    let mut log = Log::new(&broker, &configs);
    assert_eq!(
        log.produce(&sent(Compression::Zstd, -1, -1)),
        Err(ErrorCode::InvalidRecord)
    );
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(&NewRecord {
        timestamp_ms: now_ms(),
        key: Some(b"key"),
        ..NewRecord::default()
    });
    assert_eq!(log.produce(&builder.build()), Ok(0));
    assert_eq!(
        seen(&log.read(0)).0.attributes.compression(),
        Some(Compression::Gzip)
    );
}

#[test]
fn a_config_holds_for_what_comes_after_it() {
    let broker = Broker::start();
    let mut log = Log::new(&broker, &[]);
    let batch = sent(Compression::Gzip, -1, -1);
    let node = broker.client().metadata(Some(&[&log.topic])).topics[0].partitions[0]
        .leader_id
        .to_string();
    let mut codecs = Vec::new();
    for (kind, name, operation, value) in [
        (TOPIC, log.topic.clone(), SET, Some("lz4")),
        (TOPIC, log.topic.clone(), DELETE, None),
        (BROKER, node.clone(), SET, Some("uncompressed")),
        (BROKER, node, DELETE, None),
    ] {
        let changes = [("compression.type", operation, value)];
        assert_eq!(
            change(&mut broker.client(), kind, &name, &changes),
            ErrorCode::None
        );
        let kept = loop {
            let offset = log.produce(&batch).unwrap();
            let kept = seen(&log.read(offset)).0.attributes.compression().unwrap();
            // Apache Kafka answers before it holds.
            if Broker::foreign().is_none() || codecs.last() != Some(&kept) {
                break kept;
            }
        };
        codecs.push(kept);
    }
    let expected = [
        Compression::Lz4,
        Compression::Gzip,
        Compression::None,
        Compression::Gzip,
    ];
    assert_eq!(codecs, expected);
}

#[test]
fn a_level_is_how_hard_a_codec_tries() {
    let broker = Broker::start();
    // It compresses, and better the harder one tries.
    let text: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| (n.wrapping_mul(n) % 1_000).to_string().into_bytes())
        .collect();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        timestamp_ms: now_ms(),
        value: Some(&text),
        ..NewRecord::default()
    });
    let batch = builder.build();
    for (name, level, least, most) in [
        ("gzip", "compression.gzip.level", "1", "9"),
        ("zstd", "compression.zstd.level", "-7", "19"),
    ] {
        let mut bytes = [least, most].map(|value| {
            let mut log = Log::new(&broker, &[("compression.type", name), (level, value)]);
            assert_eq!(log.produce(&batch), Ok(0));
            let kept = log.read(0);
            assert_eq!(seen(&kept).1[0].3.as_deref(), Some(&text[..]));
            kept.len()
        });
        assert!(
            bytes[1] * 10 < bytes[0] * 9,
            "{name}: {bytes:?} bytes at levels {least} and {most}"
        );
        bytes.reverse();
    }
}
