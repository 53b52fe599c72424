//! A node for each shard: every partition's bytes go to the shard that owns it, and to no other.

use wire::{Compression, ErrorCode};

use crate::support::{ASK, Ask, Broker, batch, fetch};

const PARTITIONS: i32 = 6;

/// The counter of each shard, from what the broker says when it ends.
fn counters(said: &str, name: &str) -> Vec<u64> {
    let lines = said
        .lines()
        .filter(|line| line.starts_with("millstream stopped shard="));
    let value = |line: &str| {
        let mut words = line.split(' ');
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.expect("the counter").parse().expect("a number")
    };
    lines.map(value).collect()
}

#[test]
fn every_partitions_bytes_arrive_at_the_shard_that_owns_it() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let topic = broker.client().create_topic(PARTITIONS, &[]);
    let metadata = broker.client().metadata(Some(&[&topic]));
    assert_eq!(metadata.brokers.len(), 2);
    assert_ne!(metadata.brokers[0].port, metadata.brokers[1].port);
    let mut expected = vec![0; 2];
    for partition in &metadata.topics[0].partitions {
        let at = metadata
            .brokers
            .iter()
            .position(|node| node.node_id == partition.leader_id);
        let values: Vec<&[u8]> = vec![b"value"; 1 + partition.partition as usize];
        let bytes = batch(Compression::None, &values);
        expected[at.expect("a node of the cluster")] += bytes.len() as u64;
        let mut leader = broker.node(partition.leader_id);
        let answer = leader
            .produce(9, &topic, partition.partition, -1, Some(&bytes))
            .unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
        let from_start = Ask {
            partition: partition.partition,
            ..ASK
        };
        let answer = fetch(&mut leader, &topic, from_start);
        assert_eq!(answer.error_code, ErrorCode::None);
        assert_eq!(answer.records.0.concat().len(), bytes.len());
    }
    let said = broker.stop();
    assert_eq!(counters(&said, "produced_bytes"), expected);
    assert_eq!(counters(&said, "fetched_bytes"), expected);
    assert_eq!(counters(&said, "misrouted_data_requests"), [0, 0]);
}

#[test]
fn a_data_request_for_another_shard_is_refused_and_counted() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let topic = broker.client().create_topic(PARTITIONS, &[]);
    let metadata = broker.client().metadata(Some(&[&topic]));
    for partition in &metadata.topics[0].partitions {
        let other = metadata
            .brokers
            .iter()
            .find(|node| node.node_id != partition.leader_id);
        let mut other = broker.node(other.expect("two nodes").node_id);
        let bytes = batch(Compression::None, &[b"value"]);
        let answer = other
            .produce(9, &topic, partition.partition, -1, Some(&bytes))
            .unwrap();
        assert_eq!(answer.error_code, ErrorCode::NotLeaderOrFollower);
        let from_start = Ask {
            partition: partition.partition,
            ..ASK
        };
        let answer = fetch(&mut other, &topic, from_start);
        assert_eq!(answer.error_code, ErrorCode::NotLeaderOrFollower);
    }
    let said = broker.stop();
    let misrouted: u64 = counters(&said, "misrouted_data_requests").iter().sum();
    assert_eq!(misrouted, 2 * PARTITIONS as u64);
    assert_eq!(counters(&said, "produced_bytes"), [0, 0]);
}
