//! What the batches of a log that Kafka wrote say, one after the other. Pure.
//!
//! Makes of them what a checkpoint of ours has. Refuses what cannot be: a batch that does not follow, an epoch that goes back.

use std::collections::BTreeMap;

use ring::clock::Instant;
use wire::BatchHeader;

use crate::checkpoint::{PartitionCheckpoint, SegmentCheckpoint};
use crate::index::SegmentIndex;
use crate::leader_epochs::LeaderEpochs;
use crate::partition::index_batch;
use crate::producer_state::ProducerState;

/// So many producers of a log are remembered; beyond, the older half is forgotten.
const PRODUCERS_MAX: usize = 10_000;
/// For how long Kafka remembers a producer that does not write (`producer.id.expiration.ms`), in milliseconds.
const PRODUCER_EXPIRES_MS: i64 = 86_400_000;

/// See the module.
pub(super) struct Walk {
    /// In milliseconds since 1970.
    now_ms: i64,
    index_interval_bytes: u32,
    next_offset: i64,
    epochs: LeaderEpochs,
    producers: ProducerState,
    largest_producer_id: i64,
    /// Transactions that have not ended: of which producer, and where they began.
    open: BTreeMap<i64, i64>,
    segments: Vec<SegmentCheckpoint>,
    segment: Option<Walked>,
}

/// The segment that is being walked.
struct Walked {
    base_offset: i64,
    position: u32,
    index: SegmentIndex,
    first_timestamp_ms: Option<i64>,
    /// No offset is missing so far.
    is_dense: bool,
}

impl Walk {
    pub(super) fn new(now_ms: i64, index_interval_bytes: u32) -> Walk {
        Walk {
            now_ms,
            index_interval_bytes,
            next_offset: 0,
            epochs: LeaderEpochs::default(),
            producers: ProducerState::default(),
            largest_producer_id: -1,
            open: BTreeMap::new(),
            segments: Vec::new(),
            segment: None,
        }
    }

    /// A segment of that base offset follows.
    pub(super) fn begin_segment(&mut self, base_offset: i64) -> Result<(), String> {
        assert!(self.segment.is_none(), "the one before was ended");
        if let Some(last) = self.segments.last_mut() {
            if base_offset < self.next_offset {
                return Err(format!(
                    "the segment before it goes up to offset {}",
                    self.next_offset
                ));
            }
            if base_offset > self.next_offset {
                last.generation = 1;
            }
        }
        self.next_offset = base_offset;
        self.segment = Some(Walked {
            base_offset,
            position: 0,
            index: SegmentIndex::new(),
            first_timestamp_ms: None,
            is_dense: true,
        });
        Ok(())
    }

    /// Its next batch, which is whole.
    pub(super) fn batch(&mut self, header: &BatchHeader) -> Result<(), String> {
        let segment = self.segment.as_mut().expect("a segment was begun");
        let (base_offset, expected) = (header.base_offset, self.next_offset);
        if base_offset < expected {
            return Err(format!(
                "a batch of offset {base_offset} where offset {expected} should follow"
            ));
        }
        let is_sane = header.last_offset_delta >= 0 && header.record_count >= 0;
        let is_near = header.last_offset() - segment.base_offset <= i64::from(i32::MAX);
        let end = u32::try_from(header.batch_bytes())
            .ok()
            .and_then(|bytes| segment.position.checked_add(bytes));
        let (Some(end), true, true) = (end, is_sane, is_near) else {
            return Err(format!(
                "the batch of offset {base_offset} counts {} records up to {} behind its first",
                header.record_count, header.last_offset_delta
            ));
        };
        let epoch = header.partition_leader_epoch;
        if epoch < self.epochs.newest() {
            return Err(format!(
                "the batch of offset {base_offset} is of leader epoch {epoch}, and one before it of {}",
                self.epochs.newest()
            ));
        }
        if epoch >= 0 {
            self.epochs.begin(epoch, base_offset);
        }
        segment.is_dense &= base_offset == expected;
        segment.first_timestamp_ms.get_or_insert(header.max_timestamp_ms);
        index_batch(
            &mut segment.index,
            segment.base_offset,
            segment.position,
            header,
            self.index_interval_bytes,
        );
        segment.position = end;
        self.next_offset = header.next_offset();
        self.largest_producer_id = self.largest_producer_id.max(header.producer_id);
        if header.attributes.is_control() {
            self.open.remove(&header.producer_id);
        } else {
            self.remember(header);
        }
        Ok(())
    }

    fn remember(&mut self, header: &BatchHeader) {
        if header.attributes.is_transactional() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
        }
        if header.has_producer_id() {
            // When does not matter here: what expires is told by the times of Kafka's records, as Kafka does it.
            self.producers.appended(header, Instant(0));
            self.producers.migrated(header);
        }
        if self.producers.len() > PRODUCERS_MAX {
            self.producers.forget_half();
        }
    }

    /// It has no more batches. Its indexes.
    pub(super) fn end_segment(&mut self) -> SegmentIndex {
        let segment = self.segment.take().expect("a segment was begun");
        let mut index = segment.index;
        index.add_time();
        let past = |time_ms: i64| {
            if time_ms > 0 {
                time_ms.min(self.now_ms)
            } else {
                self.now_ms
            }
        };
        let first_timestamp_ms = segment.first_timestamp_ms.unwrap_or(-1);
        self.segments.push(SegmentCheckpoint {
            base_offset: segment.base_offset,
            length: segment.position,
            is_sealed: true,
            index_entries: index.offsets.len() as u32,
            time_entries: index.times.len() as u32,
            max_timestamp_ms: index.max_timestamp_ms,
            max_timestamp_offset: index.max_timestamp_offset,
            bytes_since_entry: index.bytes_since_entry,
            first_timestamp_ms,
            begun_ms: past(first_timestamp_ms),
            appended_ms: past(index.max_timestamp_ms),
            generation: u32::from(!segment.is_dense),
            newest_time: index.newest_time,
        });
        index
    }

    /// The log has no more segments: it ends with the last one's batches, or at `end_offset` if that is later. It begins at
    /// `log_start`, if that is in it. What there is beside the partition's name, and the largest producer id; or which
    /// transaction has not ended.
    pub(super) fn end(
        mut self,
        end_offset: i64,
        log_start: Option<i64>,
    ) -> Result<(PartitionCheckpoint, i64), String> {
        if let Some((producer_id, offset)) = self.open.first_key_value() {
            return Err(format!(
                "producer {producer_id} has begun a transaction at offset {offset}, and not ended it. Start Kafka once more, and end or \
                 abort it (kafka-transactions.sh find-hanging, abort)"
            ));
        }
        if end_offset > self.next_offset {
            if let Some(last) = self.segments.last_mut() {
                last.generation = 1;
            }
            self.next_offset = end_offset;
        }
        let first = (self.segments.first()).map_or(self.next_offset, |segment| segment.base_offset);
        let log_start = log_start.unwrap_or(first).min(self.next_offset);
        if log_start < first {
            return Err(format!(
                "its log begins at offset {log_start}, and its first segment at {first}: what is between is in remote storage, or gone"
            ));
        }
        self.epochs.begin_at(log_start);
        let mut producers = self.producers.save(self.next_offset);
        producers.retain(|producer| {
            let newest_ms = producer.batches.last().map_or(-1, |batch| batch.timestamp_ms);
            self.now_ms.saturating_sub(newest_ms) < PRODUCER_EXPIRES_MS
        });
        let checkpoint = PartitionCheckpoint {
            log_start_offset: log_start,
            next_offset: self.next_offset,
            segments: self.segments,
            leader_epochs: self.epochs,
            producers,
            ..PartitionCheckpoint::default()
        };
        Ok((checkpoint, self.largest_producer_id))
    }
}

#[cfg(test)]
mod tests {
    use wire::BatchBuilder;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    /// A batch of one record, at that offset.
    fn header(base_offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(wire::Compression::None);
        builder.push(&wire::NewRecord {
            timestamp_ms: NOW_MS - 1_000 + base_offset,
            ..wire::NewRecord::default()
        });
        let bytes = builder.build();
        let header = BatchHeader::decode(bytes.first_chunk().expect("a header"));
        BatchHeader {
            base_offset,
            partition_leader_epoch: 3,
            ..header
        }
    }

    fn walk(segments: &[&[BatchHeader]]) -> Walk {
        let mut walk = Walk::new(NOW_MS, 4_096);
        for batches in segments {
            walk.begin_segment(batches[0].base_offset).expect("it follows");
            for batch in *batches {
                walk.batch(batch).expect("it follows");
            }
            walk.end_segment();
        }
        walk
    }

    #[test]
    fn a_dense_log_is_one_of_a_first_life_and_one_with_holes_was_compacted() {
        let (checkpoint, _) = walk(&[&[header(5), header(6)], &[header(7)]])
            .end(0, None)
            .expect("a log");
        let generations = |checkpoint: &PartitionCheckpoint| -> Vec<u32> {
            checkpoint
                .segments
                .iter()
                .map(|segment| segment.generation)
                .collect()
        };
        assert_eq!(generations(&checkpoint), [0, 0]);
        assert_eq!((checkpoint.log_start_offset, checkpoint.next_offset), (5, 8));
        assert_eq!(checkpoint.leader_epochs.starts, [(3, 5)]);
        let first = checkpoint.segments[0];
        assert!(first.is_sealed && first.length as usize == 2 * header(5).batch_bytes());
        assert_eq!((first.begun_ms, first.appended_ms), (NOW_MS - 995, NOW_MS - 994));
        for (segments, expected) in [
            (&[&[header(5), header(9)][..], &[header(10)]][..], [1, 0]),
            (&[&[header(5)], &[header(10)]], [1, 0]),
            (&[&[header(5)], &[header(6), header(8)]], [0, 1]),
        ] {
            let (checkpoint, _) = walk(segments).end(0, None).expect("a log");
            assert_eq!(generations(&checkpoint), expected);
        }
    }

    #[test]
    fn an_empty_segment_says_where_a_log_ends_and_kafka_where_it_begins() {
        let log = || walk(&[&[header(5), header(6)]]);
        for (end, start, expected) in [
            (7, None, (5, 7)),
            (20, None, (5, 20)),
            (7, Some(6), (6, 7)),
            (7, Some(90), (7, 7)),
        ] {
            let (checkpoint, _) = log().end(end, start).expect("a log");
            assert_eq!((checkpoint.log_start_offset, checkpoint.next_offset), expected);
        }
        let said = log().end(7, Some(3)).expect_err("refused");
        assert!(said.contains("begins at offset 3"), "{said}");
        let (empty, producer_id) = walk(&[]).end(12, Some(12)).expect("a log");
        assert_eq!(
            (empty.log_start_offset, empty.next_offset, producer_id),
            (12, 12, -1)
        );
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        for (batch, why) in [
            (header(5), "where offset 6 should follow"),
            (
                BatchHeader {
                    partition_leader_epoch: 2,
                    ..header(6)
                },
                "leader epoch 2",
            ),
            (
                BatchHeader {
                    last_offset_delta: -1,
                    ..header(6)
                },
                "up to -1",
            ),
            (header(5 + (1 << 32)), "counts"),
        ] {
            let mut walk = Walk::new(NOW_MS, 4_096);
            walk.begin_segment(5).expect("the first");
            walk.batch(&header(5)).expect("the first");
            let said = walk.batch(&batch).expect_err("refused");
            assert!(said.contains(why), "{said}");
        }
        let mut walk = walk(&[&[header(5)]]);
        assert!(walk.begin_segment(5).is_err());
    }

    #[test]
    fn producers_are_known_for_a_day_and_their_transactions_have_to_end() {
        let of = |producer_id, base_offset, age_ms, attributes: wire::record_batch::Attributes| BatchHeader {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            max_timestamp_ms: NOW_MS - age_ms,
            attributes,
            ..header(base_offset)
        };
        let plain = wire::record_batch::Attributes::default();
        let (checkpoint, largest) = walk(&[&[
            of(70, 0, PRODUCER_EXPIRES_MS, plain),
            of(60, 1, PRODUCER_EXPIRES_MS - 1, plain),
        ]])
        .end(0, None)
        .expect("a log");
        let known: Vec<i64> = checkpoint.producers.iter().map(|producer| producer.id).collect();
        assert_eq!((known, largest), (vec![60], 70));
        let in_transaction = plain.transactional();
        let open = || walk(&[&[of(60, 0, 0, in_transaction), of(60, 1, 0, in_transaction)]]);
        let said = open().end(0, None).expect_err("it goes on");
        assert!(
            said.contains("producer 60") && said.contains("offset 0"),
            "{said}"
        );
        let mut ended = open();
        ended.begin_segment(2).expect("it follows");
        ended
            .batch(&of(60, 2, 0, in_transaction.control()))
            .expect("it follows");
        ended.end_segment();
        assert!(ended.end(0, None).is_ok());
    }
}
