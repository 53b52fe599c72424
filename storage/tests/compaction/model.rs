//! What compaction may remove, and what it may not: the truth that a log is held against.

use std::collections::{BTreeMap, BTreeSet};

use storage::TopicPartition;
use wire::record_batch::batches;
use wire::{RecordBatch, records};

/// `delete.retention.ms`.
pub(crate) const DELETE_RETENTION_MS: i64 = 100;

/// A record as its producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) key: u16,
    /// Unique; none for a tombstone.
    pub(crate) value: Option<u64>,
    pub(crate) time_ms: i64,
}

/// A batch that was sent at least once.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) records: Vec<Written>,
    pub(crate) bytes: Vec<u8>,
}

/// A partition and its one producer.
#[derive(Debug, Default)]
pub(crate) struct PartitionModel {
    pub(crate) producer_id: i64,
    /// How many keys it has: few, or more than the smallest map can hold.
    pub(crate) keys: u64,
    pub(crate) next_sequence: i32,
    /// By first sequence.
    pub(crate) sent: BTreeMap<i32, Sent>,
    /// Where each batch is, once somebody was told.
    pub(crate) promised: BTreeMap<i32, i64>,
    /// Every record whose offset somebody knows.
    pub(crate) at: BTreeMap<i64, Written>,
    /// Sent and not acknowledged, oldest first.
    pub(crate) outstanding: Vec<i32>,
    /// Everything before it was acknowledged to be deleted, or may have been.
    pub(crate) deleted_before: i64,
    pub(crate) deleting_before: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionModel>,
    pub(crate) acknowledged: u64,
    pub(crate) cleanings: u64,
    /// Offsets that starts have found missing.
    pub(crate) holes: u64,
    /// Of segments that were read again.
    pub(crate) scrubbed_bytes: u64,
    pub(crate) next_value: u64,
}

impl Model {
    pub(crate) fn new(partitions: i32) -> Model {
        let mut model = Model::default();
        for partition in 0..partitions {
            let id = TopicPartition {
                topic_id: 5 << 64 | 5,
                partition,
            };
            let producer_id = 1_000 + i64::from(partition);
            let state = PartitionModel {
                producer_id,
                keys: if partition == 0 { 12 } else { 400 },
                ..PartitionModel::default()
            };
            model.partitions.insert(id, state);
        }
        model
    }
}

impl PartitionModel {
    /// Somebody was told where a batch is: that can never change again.
    pub(crate) fn promise(&mut self, first_sequence: i32, base_offset: i64) {
        let before = self.promised.insert(first_sequence, base_offset);
        assert!(
            before.is_none_or(|before| before == base_offset),
            "batch {first_sequence} was promised at {before:?}, and is at {base_offset}"
        );
        let sent = &self.sent[&first_sequence];
        for (offset, record) in (base_offset..).zip(&sent.records) {
            let before = self.at.insert(offset, *record);
            assert!(
                before.is_none_or(|before| before == *record),
                "offset {offset} was {before:?}"
            );
        }
    }

    /// A batch that the log gave: its records are some of those that were sent, where they were sent to.
    pub(crate) fn see(&mut self, batch: &RecordBatch<'_>) -> Vec<i64> {
        batch.verify_crc().expect("a good CRC");
        let header = batch.header();
        assert_eq!(header.producer_id, self.producer_id);
        let sent = &self.sent[&header.base_sequence];
        assert_eq!(header.last_offset_delta as usize + 1, sent.records.len());
        let codec = header.attributes.compression().expect("a codec");
        let section = codec.decompress(batch.records_bytes(), 1 << 20).expect("whole");
        let mut offsets = Vec::new();
        for record in records(&section, header.record_count) {
            let record = record.expect("a record");
            let written = Written {
                key: u16::from_be_bytes(*record.key.and_then(<[u8]>::first_chunk).expect("a key")),
                value: record
                    .value
                    .map(|value| u64::from_be_bytes(*value.first_chunk().expect("a value"))),
                time_ms: header.base_timestamp_ms + record.timestamp_delta_ms,
            };
            assert_eq!(written, sent.records[record.offset_delta as usize]);
            offsets.push(header.base_offset + i64::from(record.offset_delta));
        }
        self.promise(header.base_sequence, header.base_offset);
        offsets
    }

    /// All of the log, read while nothing cleans it. Returns how many offsets are missing.
    pub(crate) fn check(
        &mut self,
        id: TopicPartition,
        log: &[u8],
        log_start: i64,
        high_watermark: i64,
        now_ms: i64,
    ) -> u64 {
        assert!(
            (self.deleted_before..=self.deleting_before).contains(&log_start),
            "{id}: the log begins at {log_start}; {} was acknowledged, and nobody asked for more than {}",
            self.deleted_before,
            self.deleting_before
        );
        self.deleted_before = log_start;
        let mut present = BTreeSet::new();
        let mut next = 0;
        for batch in batches(log) {
            let batch = batch.expect("a batch");
            assert!(batch.header().base_offset >= next, "{id}: offsets go back");
            next = batch.header().next_offset();
            present.extend(self.see(&batch));
        }
        assert_eq!(next.max(log_start), high_watermark, "{id}: its end is not there");
        // What is promised is a hole, or there; where it must be there is told by the key's newest record.
        let mut newest = BTreeMap::new();
        for (offset, record) in self.at.range(log_start..) {
            newest.insert(record.key, (*offset, *record));
        }
        assert!(
            self.at
                .keys()
                .next_back()
                .is_none_or(|last| *last < high_watermark)
        );
        for (key, (offset, record)) in &newest {
            if present.contains(offset) {
                continue;
            }
            assert_eq!(
                record.value, None,
                "{id}: the newest record of key {key}, at {offset}, is gone"
            );
            let age_ms = now_ms - record.time_ms;
            assert!(
                age_ms >= DELETE_RETENTION_MS,
                "{id}: the tombstone of key {key}, at {offset}, is gone after {age_ms} ms"
            );
            let older = present
                .iter()
                .filter(|at| **at >= log_start && self.at[at].key == *key)
                .max();
            assert_eq!(
                older, None,
                "{id}: the tombstone of key {key} is gone, and not what it deletes"
            );
        }
        let promised = self.at.range(log_start..).count();
        let there = present.iter().filter(|at| **at >= log_start).count();
        (promised - there) as u64
    }
}
