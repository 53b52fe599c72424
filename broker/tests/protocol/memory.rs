//! What clients promise, ask for and do not read takes no more memory than the settings say, and no time of others.

use std::time::Duration;

use wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use wire::messages::metadata::MetadataRequest;
use wire::{Array, Compression, ErrorCode, Request};

use crate::support::{ASK, Broker, Client, batch, fetch};

const MEMORY_BYTES: u64 = 256 << 20;
/// Of the program itself, its threads and the control thread's log.
const OUTSIDE_BYTES: u64 = 96 << 20;
const BYTES_MAX: u64 = MEMORY_BYTES + OUTSIDE_BYTES;

/// Produces and fetches on a topic of its own.
struct Bystander {
    client: Client,
    topic: String,
    offset: i64,
}

impl Bystander {
    fn new(broker: &Broker) -> Bystander {
        let topic = broker.client().create_topic(1, &[]);
        Bystander {
            client: broker.leader(&topic, 0),
            topic,
            offset: 0,
        }
    }

    fn is_served(&mut self) {
        for _ in 0..20 {
            let bytes = batch(Compression::None, &[b"bystander"]);
            let answer = self.client.produce(9, &self.topic, 0, -1, Some(&bytes)).unwrap();
            assert_eq!(answer.error_code, ErrorCode::None);
            assert_eq!(answer.base_offset, self.offset);
            let mut ask = ASK;
            ask.offset = self.offset;
            let answer = fetch(&mut self.client, &self.topic, ask);
            assert_eq!(answer.records.0.concat().len(), bytes.len());
            self.offset += 1;
        }
    }
}

#[test]
fn a_broker_has_its_memory_from_the_start_if_it_is_to() {
    if Broker::foreign().is_some() {
        return;
    }
    let start = |prefault| {
        let (bytes, prefault) = (
            format!("memory.bytes={MEMORY_BYTES}"),
            format!("memory.prefault={prefault}"),
        );
        Broker::start_with(&["--set", &bytes, "--set", &prefault])
    };
    let without = start(false).resident_bytes();
    assert!(without < MEMORY_BYTES / 2, "{without}");
    let broker = start(true);
    let at_the_start = broker.resident_bytes();
    assert!(
        (MEMORY_BYTES..BYTES_MAX).contains(&at_the_start),
        "{at_the_start}"
    );
    let topic = broker.client().create_topic(1, &[]);
    let mut leader = broker.leader(&topic, 0);
    for _ in 0..100 {
        let bytes = batch(Compression::None, &[&[7; 1_000_000]]);
        let answer = leader.produce(9, &topic, 0, -1, Some(&bytes)).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
    }
    Bystander::new(&broker).is_served();
    let used = broker.resident_bytes();
    assert!(used < BYTES_MAX, "what is taken is not taken from that: {used}");
}

#[test]
fn a_start_that_is_to_take_more_memory_than_there_is_is_refused() {
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["start", "--data-dir", "/nowhere/data", "--port", "0"])
        .args([
            "--set",
            "memory.bytes=1099511627776",
            "--set",
            "memory.prefault=true",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(
        told.contains("memory.prefault takes all of memory.bytes=1099511627776"),
        "{told}"
    );
}

#[test]
fn clients_that_promise_ask_and_do_not_read_take_no_more_than_their_share() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start_with(&["--set", &format!("memory.bytes={MEMORY_BYTES}")]);
    let mut bystander = Bystander::new(&broker);
    let topic = broker.client().create_topic(1, &[]);
    let mut leader = broker.leader(&topic, 0);
    for _ in 0..64 {
        let bytes = batch(Compression::None, &[&[7; 1_000_000]]);
        let answer = leader.produce(9, &topic, 0, -1, Some(&bytes)).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
    }
    bystander.is_served();

    // Frames of 90 MB that never come whole.
    let mut promising: Vec<Client> = (0..100).map(|_| broker.client()).collect();
    for client in &mut promising {
        client.send_bytes(&90_000_000_i32.to_be_bytes());
        client.send_bytes(&[0; 100_000]);
    }
    bystander.is_served();
    broker.has_at_most(BYTES_MAX, "long frames");

    // Answers of 6 GB in all, which nobody reads.
    let mut deaf: Vec<Client> = (0..20).map(|_| broker.leader(&topic, 0)).collect();
    let partitions = [FetchPartition {
        partition_max_bytes: 50 << 20,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        name: &topic,
        partitions: Array::from_slice(&partitions),
        ..FetchTopic::default()
    }];
    let request = FetchRequest {
        max_bytes: 50 << 20,
        min_bytes: 1,
        max_wait_ms: 100,
        topics: Array::from_slice(&topics),
        ..FetchRequest::default()
    };
    let fetches = request.encode(11, 1, Some("deaf")).repeat(6);
    for client in &mut deaf {
        client.send_bytes(&fetches);
    }
    bystander.is_served();
    broker.has_at_most(BYTES_MAX, "answers that nobody reads");

    // Small requests whose answers are large, as many as the sockets take.
    let requests = MetadataRequest::default()
        .encode(9, 1, Some("deaf"))
        .repeat(1_000);
    let mut chatty: Vec<Client> = (0..50).map(|_| broker.client()).collect();
    for client in &mut chatty {
        client.send_bytes(&requests);
    }
    bystander.is_served();
    broker.has_at_most(BYTES_MAX, "requests without end");
    drop((promising, deaf, chatty));
    bystander.is_served();
}

/// A Fetch (version 12) of these partitions that waits for as long as can be said, with bytes in a tag that nobody knows.
fn long_poll(topic: &str, partitions: impl Iterator<Item = i32>, rest: usize) -> Vec<u8> {
    let partitions: Vec<FetchPartition> = partitions
        .map(|partition| FetchPartition {
            partition,
            partition_max_bytes: 1,
            ..FetchPartition::default()
        })
        .collect();
    let topics = [FetchTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
        ..FetchTopic::default()
    }];
    let request = FetchRequest {
        max_bytes: 1,
        min_bytes: 1,
        max_wait_ms: i32::MAX,
        session_epoch: -1,
        topics: Array::from_slice(&topics),
        ..FetchRequest::default()
    };
    let mut frame = request.encode(12, 1, Some("patient"))[4..].to_vec();
    assert_eq!(frame.pop(), Some(0), "it has no tags yet");
    frame.extend([1, 100]);
    let mut left = rest;
    while left >= 0x80 {
        frame.push(left as u8 | 0x80);
        left >>= 7;
    }
    frame.push(left as u8);
    frame.resize(frame.len() + rest, 7);
    frame
}

/// Two shards of half of it each.
fn small_broker() -> Broker {
    Broker::start_with(&["--set", &format!("memory.bytes={MEMORY_BYTES}")])
}

/// A new topic, and those of its partitions that the first node leads.
fn led_by_the_first(broker: &Broker, partitions: i32) -> (String, Vec<i32>) {
    let mut client = broker.client();
    let topic = client.create_topic(partitions, &[]);
    let metadata = client.metadata(Some(&[&topic]));
    let first = metadata.brokers.iter().map(|node| node.node_id).min();
    let partitions = metadata.topics[0].partitions.iter();
    let led = partitions.filter(|partition| Some(partition.leader_id) == first);
    (topic.clone(), led.map(|partition| partition.partition).collect())
}

#[test]
fn long_polls_keep_no_other_request_waiting_and_name_a_partition_once() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = small_broker();
    let mut bystander = Bystander::new(&broker);
    let (topic, led) = led_by_the_first(&broker, 2);
    let (other, other_led) = led_by_the_first(&broker, 2);
    let (partition, other_partition) = (led[0], other_led[0]);
    // 37 MB of requests, more than may be in flight.
    let frame = long_poll(&topic, [partition; 3].into_iter(), 261_000);
    let mut patient: Vec<Client> = (0..140).map(|_| broker.leader(&topic, partition)).collect();
    for client in &mut patient {
        client.send_frame(&frame);
    }
    let large = batch(Compression::None, &[&[7; 1_500]]);
    let mut producer = broker.leader(&other, other_partition);
    // More than one, because the first may come before some of the polls are begun.
    for _ in 0..100 {
        let answer = producer
            .produce(9, &other, other_partition, -1, Some(&large))
            .unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
    }
    bystander.is_served();
    broker.has_at_most(BYTES_MAX, "long polls");
    // All still wait, and are then told of the partition once.
    for client in &mut patient {
        assert!(client.is_silent(Duration::from_millis(1)));
    }
    producer.produce(9, &topic, partition, -1, Some(&large)).unwrap();
    for client in &mut patient {
        let answer: FetchResponse<Vec<u8>> = client.receive(12, 1).unwrap();
        assert_eq!(answer.topics[0].partitions.len(), 1);
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
    }
}

#[test]
fn long_polls_for_many_partitions_make_room_for_others() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = small_broker();
    let mut bystander = Bystander::new(&broker);
    let (topic, led) = led_by_the_first(&broker, 200);
    let frame = long_poll(&topic, led.iter().copied(), 0);
    let mut patient = vec![broker.leader(&topic, led[0])];
    patient[0].send_frame(&frame);
    assert!(
        patient[0].is_silent(Duration::from_millis(500)),
        "there is room for one"
    );
    // Half as much again as there is room for.
    let room = MEMORY_BYTES as usize / 2 / 32 / 512 / led.len();
    for _ in 0..room * 3 / 2 {
        let mut client = broker.leader(&topic, led[0]);
        client.send_frame(&frame);
        patient.push(client);
    }
    bystander.is_served();
    // Who came first is answered early, with nothing.
    let answer: FetchResponse<Vec<u8>> = patient[0].receive(12, 1).unwrap();
    let partitions = &answer.topics[0].partitions;
    assert_eq!(partitions.len(), led.len());
    let is_empty = |part: &FetchPartitionResponse<Vec<u8>>| {
        part.error_code == ErrorCode::None && part.records.byte_count() == 0
    };
    assert!(partitions.iter().all(is_empty));
    broker.has_at_most(BYTES_MAX, "long polls for many partitions");
}
