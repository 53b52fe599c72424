//! librdkafka (2.12, through the crate `rdkafka`) with its defaults: what a producer was told is there, once, in order.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test crate: its items are nobody's interface, and a failed unwrap is a failed test"
)]

mod process;
#[path = "protocol/support.rs"]
mod support;

use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use support::{ASK, Ask, fetch};
use wire::{Compression, RecordBatch};

use crate::process::Broker;

const PARTITIONS: usize = 6;
const LINES: usize = 20_000;
/// How long a test waits before it calls the broker dead.
const PATIENCE: Duration = Duration::from_secs(90);

/// Refuses what was not delivered.
struct Strict;

impl ClientContext for Strict {}

impl ProducerContext for Strict {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("not delivered: {error}");
        }
    }
}

/// Numbered lines of the licences that every Debian has, or of our own where there are none.
fn lines() -> Vec<Vec<u8>> {
    let mut text = include_str!("../../LICENSE").to_owned();
    for entry in std::fs::read_dir("/usr/share/common-licenses")
        .into_iter()
        .flatten()
    {
        text += &String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap_or_default());
    }
    let numbered = |(number, line)| format!("{number}\t{line} \u{2013} \u{fc}\u{1f980}").into_bytes();
    text.lines()
        .cycle()
        .take(LINES)
        .enumerate()
        .map(numbered)
        .collect()
}

fn producer(broker: &Broker, codec: &str) -> BaseProducer<Strict> {
    ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("linger.ms", "20")
        .create_with_context(Strict)
        .unwrap()
}

fn consumer(broker: &Broker, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut assigned = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let offset = Offset::Beginning;
        assigned
            .add_partition_offset(topic, partition as i32, offset)
            .unwrap();
    }
    consumer.assign(&assigned).unwrap();
    consumer
}

/// Line `n` goes to partition `n % PARTITIONS`.
fn send(producer: &BaseProducer<Strict>, topic: &str, lines: &[Vec<u8>], from: usize) {
    for (number, line) in lines.iter().enumerate() {
        let partition = ((from + number) % PARTITIONS) as i32;
        let mut record = BaseRecord::<(), _, _>::to(topic)
            .partition(partition)
            .payload(line);
        while let Err((error, back)) = producer.send(record) {
            let is_full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, is_full);
            record = back;
            producer.poll(Duration::from_millis(10));
        }
        producer.poll(Duration::ZERO);
    }
}

/// What a consumer has read so far of each partition.
struct Reader {
    consumer: BaseConsumer,
    read: Vec<Vec<Vec<u8>>>,
}

impl Reader {
    /// Reads until it has `count` lines in all; errors on the way are a restart's, and pass.
    fn read_up_to(&mut self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.read.iter().map(Vec::len).sum::<usize>() < count {
            assert!(Instant::now() < until, "some of {count} lines do not come");
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) {
                let read = &mut self.read[message.partition() as usize];
                assert_eq!(
                    message.offset(),
                    read.len() as i64,
                    "an offset is left out or comes twice"
                );
                read.push(message.payload().unwrap().to_vec());
            }
        }
    }

    fn new(broker: &Broker, topic: &str) -> Reader {
        Reader {
            consumer: consumer(broker, topic),
            read: vec![Vec::new(); PARTITIONS],
        }
    }

    fn has_exactly(&self, lines: &[Vec<u8>]) {
        for (partition, read) in self.read.iter().enumerate() {
            let sent: Vec<_> = lines.iter().skip(partition).step_by(PARTITIONS).collect();
            assert!(read.iter().eq(sent), "partition {partition} has other lines");
        }
    }
}

/// The codecs of all batches of a partition.
fn codecs(broker: &Broker, topic: &str, partition: i32) -> Vec<Compression> {
    let mut leader = broker.leader(topic, partition);
    let mut codecs = Vec::new();
    let mut ask = Ask { partition, ..ASK };
    loop {
        let part = fetch(&mut leader, topic, ask);
        let bytes = part.records.0.concat();
        let mut rest = &bytes[..];
        while let Ok((batch, after)) = RecordBatch::parse(rest) {
            batch.verify_crc().unwrap();
            codecs.push(batch.header().attributes.compression().unwrap());
            ask.offset = batch.header().next_offset();
            rest = after;
        }
        if ask.offset == part.high_watermark {
            return codecs;
        }
    }
}

#[test]
fn every_codec_brings_every_line_back_in_order_through_both_shards() {
    let broker = Broker::start();
    let lines = lines();
    for (name, codec) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        let topic = broker.client().create_topic(PARTITIONS as i32, &[]);
        let producer = producer(&broker, name);
        send(&producer, &topic, &lines, 0);
        producer.flush(PATIENCE).unwrap();
        let mut reader = Reader::new(&broker, &topic);
        reader.read_up_to(LINES);
        reader.has_exactly(&lines);
        for partition in 0..PARTITIONS as i32 {
            let codecs = codecs(&broker, &topic, partition);
            assert!(
                !codecs.is_empty() && codecs.iter().all(|&found| found == codec),
                "{name}: {codecs:?}"
            );
        }
    }
    if Broker::foreign().is_none() {
        let said = broker.stop();
        let stopped: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("millstream stopped"))
            .collect();
        assert_eq!(stopped.len(), 2, "{said}");
        for line in stopped {
            assert!(line.contains(" misrouted_data_requests=0"), "{line}");
            assert!(
                !line.contains(" produced_batches=0 "),
                "a shard has nothing to do: {line}"
            );
        }
    }
}

#[test]
fn a_producer_and_a_consumer_outlive_restarts_with_other_numbers_of_shards() {
    if Broker::foreign().is_some() {
        return;
    }
    let mut broker = Broker::start_restartable();
    let lines = lines();
    let topic = broker.client().create_topic(PARTITIONS as i32, &[]);
    let producer = producer(&broker, "lz4");
    let mut reader = Reader::new(&broker, &topic);
    let mut sent = 0;
    let step = 1_200;
    for (signal, shards) in [
        ("-TERM", 2),
        ("-KILL", 2),
        ("-TERM", 4),
        ("-KILL", 1),
        ("-TERM", 2),
    ] {
        send(&producer, &topic, &lines[sent..sent + step], sent);
        // Some are on their way while it goes down.
        reader.read_up_to(sent + step / 2);
        broker.restart_with_shards(signal, shards);
        sent += step;
        producer.flush(PATIENCE).unwrap();
        reader.read_up_to(sent);
    }
    reader.has_exactly(&lines[..sent]);
    let mut again = Reader::new(&broker, &topic);
    again.read_up_to(sent);
    again.has_exactly(&lines[..sent]);
}
