//! What was promised: the truth that a log is held against.

use std::collections::BTreeMap;

use storage::TopicPartition;

/// A batch as its producer knows it, in every life of the broker.
pub(crate) type BatchKey = (i64, i32); // producer id, first sequence

/// A batch that was sent at least once.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Its CRC: covers everything but the base offset and the leader epoch.
    pub(crate) crc: u32,
    /// How many records it has.
    pub(crate) records: i32,
    /// Its bytes, to send it again.
    pub(crate) bytes: Vec<u8>,
    /// The offset that was acknowledged, or seen by a reader.
    pub(crate) promised: Option<i64>,
}

/// A batch that the log gave back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) key: BatchKey,
    pub(crate) crc: u32,
    pub(crate) records: i32,
}

/// A partition and its one producer.
#[derive(Debug, Default)]
pub(crate) struct PartitionModel {
    pub(crate) topic: String,
    pub(crate) producer_id: i64,
    pub(crate) next_sequence: i32,
    pub(crate) sent: BTreeMap<BatchKey, Sent>,
    /// Everything before it was acknowledged to be deleted.
    pub(crate) deleted_before: i64,
    /// Everything before it may have been deleted: somebody asked for it.
    pub(crate) deleting_before: i64,
    /// Sent and not acknowledged, oldest first.
    pub(crate) outstanding: Vec<BatchKey>,
    /// `flush.messages`; 0 is 1.
    pub(crate) flush_messages: u64,
    /// Everything before it is flushed, whatever that says.
    pub(crate) flushed_before: i64,
    /// Where the log ends, in this life.
    pub(crate) end: i64,
    /// The power was cut since the log was looked at.
    pub(crate) is_power_cut: bool,
}

/// What the topics' settings keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kept {
    #[default]
    All,
    /// `retention.bytes`.
    Bytes(u64),
    /// All records are older than `retention.ms`: whatever is durable may go.
    Nothing,
}

/// All topics, and what happened so far.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) kept: Kept,
    /// A log began later than anybody had asked for.
    pub(crate) removed_unasked: u32,
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionModel>,
    pub(crate) deleted: Vec<u128>,
    pub(crate) next_topic: u128,
    pub(crate) acknowledged: u64,
    /// Bytes that each journal has taken: by how often the number of shards has changed, and by shard.
    pub(crate) journal_bytes: BTreeMap<(u32, u32), u64>,
    /// The most bytes that a shard wrote to its segments at once, in one life.
    pub(crate) direct_bytes: u64,
    /// Of segments that were read again.
    pub(crate) scrubbed_bytes: u64,
    pub(crate) duplicates: u64,
    /// Some topics are flushed after they are acknowledged.
    pub(crate) flushes_later: bool,
    /// Of those, batches that a power cut has taken back.
    pub(crate) taken_back: u64,
    pub(crate) shards: u32,
    /// Of each life: whether it got as far as serving.
    pub(crate) lives: u32,
    pub(crate) crashes_in_recovery: u32,
}

impl PartitionModel {
    /// An acknowledgement: the offset can never change again.
    pub(crate) fn promise(&mut self, key: BatchKey, base_offset: i64) {
        let sent = self.sent.get_mut(&key).expect("only what was sent is promised");
        if let Some(before) = sent.promised {
            assert_eq!(
                before, base_offset,
                "batch {key:?} was promised at another offset"
            );
        }
        sent.promised = Some(base_offset);
    }

    /// Everything in the log from its start on must be what was sent, once each, without a gap; and everything that
    /// was promised must be there, but for what was deleted. Whether more was than anybody asked for.
    pub(crate) fn check(
        &mut self,
        id: TopicPartition,
        log: &[Read],
        log_start: i64,
        high_watermark: i64,
        kept: Kept,
    ) -> bool {
        let end = log.last().map_or(log_start, |last| last.next_offset);
        let taken_back = self.take_back(id, end);
        let is_unasked = log_start > self.deleting_before;
        let is_right = match kept {
            Kept::All => !is_unasked,
            // What was counted when it was decided, and is lost by the crash, was never acknowledged.
            Kept::Bytes(bytes) => !is_unasked || self.bytes_of(log) + self.outstanding_bytes() >= bytes,
            Kept::Nothing => true,
        };
        assert!(
            is_right && self.deleted_before <= log_start,
            "{id}: the log begins at {log_start}; {} was acknowledged, nobody asked for more than {}, and {kept:?} is kept",
            self.deleted_before,
            self.deleting_before
        );
        self.deleted_before = log_start;
        self.deleting_before = self.deleting_before.max(log_start);
        // The batch that holds the start is there whole.
        let mut next = log.first().map_or(log_start, |first| first.base_offset);
        assert!(next <= log_start, "{id}: the log's start is missing");
        let mut found = BTreeMap::new();
        for read in log {
            assert_eq!(read.base_offset, next, "{id}: offsets have a gap or go back");
            assert_eq!(read.next_offset, next + i64::from(read.records));
            next = read.next_offset;
            let sent = self.sent.get(&read.key);
            let sent = sent.unwrap_or_else(|| panic!("{id}: offset {} was never sent", read.base_offset));
            assert_eq!(
                (sent.crc, sent.records),
                (read.crc, read.records),
                "{id}: other bytes than were sent"
            );
            let twice = found.insert(read.key, read.base_offset);
            assert_eq!(twice, None, "{id}: batch {:?} is there twice", read.key);
        }
        assert_eq!(
            next, high_watermark,
            "{id}: the log ends before its high watermark"
        );
        for (key, sent) in &self.sent {
            if let Some(offset) = sent.promised
                && offset >= log_start
            {
                assert_eq!(
                    found.get(key),
                    Some(&offset),
                    "{id}: batch {key:?} was promised at {offset}"
                );
            }
        }
        // Whoever wrote it sends it again.
        self.outstanding.extend(taken_back);
        self.outstanding.sort_unstable();
        (self.end, self.flushed_before, self.is_power_cut) = (next, next, false);
        // A reader has seen all of it now.
        for (key, offset) in found {
            self.promise(key, offset);
        }
        is_unasked
    }

    /// Forgets what a power cut has taken back, which it may: what was not flushed, from the end.
    fn take_back(&mut self, id: TopicPartition, end: i64) -> Vec<BatchKey> {
        if !self.is_power_cut || self.flush_messages <= 1 {
            return Vec::new();
        }
        let mut keys = Vec::new();
        let mut records = 0;
        for (key, sent) in &mut self.sent {
            if sent
                .promised
                .is_some_and(|offset| offset >= end.max(self.flushed_before))
            {
                sent.promised = None;
                records += sent.records.unsigned_abs() as u64;
                keys.push(*key);
            }
        }
        assert!(
            records < self.flush_messages,
            "{id}: {records} records were taken back, and {} are flushed",
            self.flush_messages
        );
        keys
    }

    fn bytes_of(&self, log: &[Read]) -> u64 {
        let sent = log.iter().filter_map(|read| self.sent.get(&read.key));
        sent.map(|sent| sent.bytes.len() as u64).sum()
    }

    fn outstanding_bytes(&self) -> u64 {
        let sent = self.outstanding.iter().map(|key| &self.sent[key]);
        sent.map(|sent| sent.bytes.len() as u64).sum()
    }
}
