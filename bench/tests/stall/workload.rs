//! What is sent: keys, sizes and sequences, as a cluster sees them.

use std::collections::BTreeSet;

use net::client::partition_of;
use wire::{RecordBatch, records};

use super::cluster::{Faults, PARTITIONS, Seen};
use super::{HALF_A_SECOND, produce, single_run_seen};

/// Partition, key and length of the value of each record that a cluster has.
fn stored(seen: &Seen) -> Vec<(usize, Option<Vec<u8>>, u64)> {
    let mut stored = Vec::new();
    for (partition, log) in seen.logs.lock().unwrap().iter().enumerate() {
        for (_, bytes) in &log.batches {
            let (batch, _) = RecordBatch::parse(bytes).unwrap();
            for record in records(batch.records_bytes(), batch.header().record_count) {
                let record = record.unwrap();
                let value_bytes = record.value.unwrap().len() as u64;
                stored.push((partition, record.key.map(<[u8]>::to_vec), value_bytes));
            }
        }
    }
    stored
}

/// The producer of each batch that a cluster has.
fn producers(seen: &Seen) -> Vec<i64> {
    let logs = seen.logs.lock().unwrap();
    let batches = logs.iter().flat_map(|log| &log.batches);
    let ids = batches.map(|(_, bytes)| RecordBatch::parse(bytes).unwrap().0.header().producer_id);
    ids.collect()
}

#[test]
fn a_rate_of_records_of_many_sizes_with_keys_is_kept_and_counted_exactly() {
    let options =
        "--keys 40 --record-size 0-300 --batch-size 1000 --rate 2000 --seconds 2 --warmup-seconds 0";
    for command in ["produce", "end-to-end"] {
        let (report, seen) = single_run_seen(command, Faults::default(), options);
        let report = report.unwrap();
        assert!(report.is_clean(), "{report}");
        // Within a batch of each connection.
        let (records, stored) = (report.sample.records, stored(&seen));
        assert!((3_980..4_020).contains(&records), "{records} {report}");
        assert_eq!(records, stored.len() as u64);
        let bytes: u64 = stored.iter().map(|(.., bytes)| bytes).sum();
        assert_eq!(report.sample.bytes, bytes);
        let mut keys = BTreeSet::new();
        for (partition, key, value_bytes) in stored {
            let key = key.unwrap();
            assert_eq!(partition_of(&key, PARTITIONS as usize), partition);
            assert!(value_bytes <= 300);
            keys.insert(key);
        }
        assert_eq!(keys.len(), 40);
        let text = report.to_string();
        assert!(text.contains(" record_size=0-300 keys=40 "), "{text}");
    }
}

#[test]
fn sequences_are_in_order_with_several_requests_in_flight() {
    let options = "--idempotent --batch-size 500 --connections 2 --in-flight 5 --seconds 1";
    for (command, pace) in [
        ("produce", ""),
        ("produce", "--rate 20000"),
        ("end-to-end", "--rate 20000"),
    ] {
        let (report, seen) = single_run_seen(command, HALF_A_SECOND, &format!("{options} {pace}"));
        let report = report.unwrap();
        // The cluster refuses what is out of order.
        assert!(report.is_clean(), "{report}");
        let producers = producers(&seen);
        assert!(producers.len() > 1_000);
        assert_eq!(BTreeSet::from_iter(producers), BTreeSet::from([0, 1]));
        assert_eq!(report.to_json()["settings"]["idempotent"], true);
    }
    let (_, seen) = single_run_seen("produce", Faults::default(), "--seconds 1 --rate 100");
    assert_eq!(BTreeSet::from_iter(producers(&seen)), BTreeSet::from([-1]));
}

#[test]
fn a_partition_that_refuses_a_batch_of_an_idempotent_producer_gets_no_more() {
    let refusing = Faults {
        refused: Some(3),
        ..Faults::default()
    };
    let options = "--idempotent --rate 100 --seconds 1 --warmup-seconds 0";
    let report = produce(refusing, options);
    let failures: Vec<_> = report.sample.failures.iter().collect();
    let [(failure, 1)] = failures[..] else {
        panic!("one failure was expected\n{report}");
    };
    assert_eq!(
        (failure.partition, failure.what.as_str()),
        (3, "NOT_LEADER_OR_FOLLOWER")
    );
    assert_eq!(
        (report.sample.records, report.sample.unsent),
        (75, 24),
        "{report}"
    );
    // Flat out, the others go on; and a connection whose partitions all refuse has nothing to do.
    let report = produce(refusing, "--idempotent --connections 4 --seconds 1");
    assert!(report.sample.records > 1_000, "{report}");
    assert!((1..=5).contains(&report.sample.failure_count()), "{report}");
}

#[test]
fn keys_of_a_part_of_a_topic_are_refused() {
    let (report, _) = single_run_seen("produce", Faults::default(), "--keys 40 --partitions 3");
    let error = report.unwrap_err().to_string();
    assert!(error.ends_with("--partitions 4"), "{error}");
}
