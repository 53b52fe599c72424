//! What a partition remembers of its idempotent producers (KIP-98). Pure.
//!
//! Decides whether a batch is new, a repetition, or out of order, as Kafka's ProducerStateManager does: the last five
//! batches of each producer are known. Producers beyond a bound are forgotten, those first that have not written for
//! longest; Kafka's expiry by time comes with retention.

use std::collections::{BTreeMap, VecDeque};

use wire::BatchHeader;

/// Batches of a producer that a repetition is recognised among: a client has at most five requests in flight.
const BATCHES_MAX: usize = 5;
/// Producers that a partition remembers, about 4 MB of them: a client chooses its id, and may choose many.
const PRODUCERS_MAX: usize = 10_000;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// Its largest timestamp, in milliseconds since 1970.
    pub(crate) timestamp_ms: i64,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// Oldest first; not empty, at most [`BATCHES_MAX`].
    pub(crate) batches: VecDeque<ProducerBatch>,
}

/// All producers of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ProducerState {
    pub(crate) producers: BTreeMap<i64, Producer>,
}

/// What a batch is to its producer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// New: append it.
    Append,
    /// It was appended before.
    Duplicate(ProducerBatch),
    /// A batch before it is missing.
    OutOfOrder,
    /// A newer epoch of the producer has written.
    EpochFenced,
}

impl ProducerState {
    /// Judges a batch that has a producer id. Any sequence is taken from a producer that is not known, as Kafka does.
    pub(crate) fn check(&self, header: &BatchHeader) -> Verdict {
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Verdict::Append;
        };
        if header.producer_epoch < producer.epoch {
            return Verdict::EpochFenced;
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 {
                Verdict::Append
            } else {
                Verdict::OutOfOrder
            };
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        let same = |batch: &&ProducerBatch| batch.first_sequence == first && batch.last_sequence == last;
        if let Some(batch) = producer.batches.iter().find(same) {
            return Verdict::Duplicate(*batch);
        }
        match producer.batches.back() {
            Some(newest) if first != following(newest.last_sequence) => Verdict::OutOfOrder,
            _ => Verdict::Append,
        }
    }

    /// Remembers a batch that was appended, with its offsets in `header`.
    pub(crate) fn appended(&mut self, header: &BatchHeader) {
        if !header.has_producer_id() {
            return;
        }
        let batch = ProducerBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp_ms: header.max_timestamp_ms,
        };
        if self.producers.len() == PRODUCERS_MAX && !self.producers.contains_key(&header.producer_id) {
            self.forget_half();
        }
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                batches: VecDeque::with_capacity(1),
            });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
    }

    /// Forgets those that have not written for longest. Half of them at a time, so that a new producer costs little. By
    /// offsets alone, so that a replay forgets the same.
    fn forget_half(&mut self) {
        let newest = |producer: &Producer| producer.batches.back().map(|batch| batch.last_offset);
        let mut offsets: Vec<_> = self.producers.values().map(newest).collect();
        let middle = offsets.len() / 2;
        let (_, kept_from, _) = offsets.select_nth_unstable(middle);
        let kept_from = *kept_from;
        self.producers.retain(|_, producer| newest(producer) >= kept_from);
    }
}

/// Sequence numbers go from the largest back to 0.
fn following(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_id: i64, epoch: i16, sequence: i32, records: i32, offset: i64) -> BatchHeader {
        let mut header = BatchHeader::decode(&[0; 61]);
        header.producer_id = producer_id;
        header.producer_epoch = epoch;
        header.base_sequence = sequence;
        header.record_count = records;
        header.last_offset_delta = records - 1;
        header.base_offset = offset;
        header
    }

    fn state(batches: &[BatchHeader]) -> ProducerState {
        let mut state = ProducerState::default();
        for header in batches {
            assert_eq!(state.check(header), Verdict::Append);
            state.appended(header);
        }
        state
    }

    #[test]
    fn a_batch_that_follows_is_new_and_a_gap_is_not() {
        let state = state(&[batch(7, 0, 0, 3, 100)]);
        assert_eq!(state.check(&batch(7, 0, 3, 1, 0)), Verdict::Append);
        assert_eq!(state.check(&batch(7, 0, 4, 1, 0)), Verdict::OutOfOrder);
        assert_eq!(state.check(&batch(7, 0, 2, 1, 0)), Verdict::OutOfOrder);
        assert_eq!(state.check(&batch(8, 0, 9, 1, 0)), Verdict::Append);
    }

    #[test]
    fn the_last_five_batches_are_recognised_and_no_older_one() {
        let sent: Vec<BatchHeader> = (0..7).map(|n| batch(7, 0, n * 2, 2, i64::from(n) * 10)).collect();
        let state = state(&sent);
        for (n, header) in sent.iter().enumerate() {
            match state.check(header) {
                Verdict::Duplicate(known) => {
                    assert!(n >= 2);
                    assert_eq!(
                        (known.base_offset, known.last_offset),
                        (n as i64 * 10, n as i64 * 10 + 1)
                    );
                }
                verdict => assert!(n < 2 && verdict == Verdict::OutOfOrder, "{n}: {verdict:?}"),
            }
        }
        // The same beginning, another end: not the same batch.
        assert_eq!(state.check(&batch(7, 0, 12, 3, 0)), Verdict::OutOfOrder);
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_0() {
        let mut state = state(&[batch(7, 3, 0, 1, 0)]);
        assert_eq!(state.check(&batch(7, 2, 1, 1, 0)), Verdict::EpochFenced);
        assert_eq!(state.check(&batch(7, 4, 1, 1, 0)), Verdict::OutOfOrder);
        let first = batch(7, 4, 0, 1, 1);
        assert_eq!(state.check(&first), Verdict::Append);
        state.appended(&first);
        assert_eq!(state.check(&batch(7, 3, 1, 1, 0)), Verdict::EpochFenced);
        assert_eq!(state.producers[&7].batches.len(), 1);
    }

    #[test]
    fn as_many_producers_as_a_client_likes_are_not_remembered() {
        let mut state = ProducerState::default();
        let most = PRODUCERS_MAX as i64;
        for id in 0..most {
            state.appended(&batch(id, 0, 0, 1, id));
        }
        // The first one writes again, and is not among those that have not written for longest.
        state.appended(&batch(0, 0, 1, 1, most));
        assert_eq!(state.producers.len(), PRODUCERS_MAX);
        state.appended(&batch(most, 0, 0, 1, most + 1));
        assert_eq!(state.producers.len(), PRODUCERS_MAX / 2 + 1);
        for id in [0, most / 2 + 1, most - 1, most] {
            assert!(state.producers.contains_key(&id), "{id}");
        }
        assert_eq!(state.check(&batch(1, 0, 7, 1, 0)), Verdict::Append);
    }

    #[test]
    fn sequences_go_on_at_0_after_the_largest() {
        let near = batch(7, 0, i32::MAX - 1, 2, 0);
        let state = state(&[near]);
        assert_eq!(near.last_sequence(), i32::MAX);
        assert_eq!(state.check(&batch(7, 0, 0, 1, 2)), Verdict::Append);
        assert_eq!(state.check(&batch(7, 0, 1, 1, 2)), Verdict::OutOfOrder);
    }
}
