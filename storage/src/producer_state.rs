//! What a partition remembers of its idempotent producers (KIP-98). Pure.
//!
//! Decides whether a batch is new, a repetition, or out of order, as Kafka's ProducerStateManager does: the last five
//! batches of each producer are known. How many producers there may be is for `partition/producers.rs` to say, and when it is
//! time to forget one for `housekeeping.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ring::clock::Instant;
use wire::BatchHeader;

/// Batches of a producer that a repetition is recognised among: a client has at most five requests in flight.
const BATCHES_MAX: usize = 5;
/// What a producer takes at most, in bytes: in the map, where a node may be half empty; copied when a checkpoint is made;
/// and in the checkpoint's bytes, whose vector may have grown to twice of them.
pub(crate) const PRODUCER_BYTES: usize = 1 << 10;
const _: () = {
    let batches = BATCHES_MAX * size_of::<ProducerBatch>();
    let (entry, saved, encoded) = (
        8 + size_of::<Producer>(),
        size_of::<SavedProducer>(),
        18 + 32 * BATCHES_MAX,
    );
    assert!((2 * entry + batches) + (saved + batches) + 2 * encoded <= PRODUCER_BYTES);
};

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
#[derive(Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first, at most [`BATCHES_MAX`].
    batches: VecDeque<ProducerBatch>,
    /// The last of its batches that is in a segment, and its epoch: what a checkpoint says when the five are all newer.
    migrated: Option<(i16, ProducerBatch)>,
    /// When it wrote last, in this life of the log: whatever its records say of their times.
    wrote_at: Instant,
}

/// A producer, as a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedProducer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// Oldest first.
    pub(crate) batches: Vec<ProducerBatch>,
}

/// All producers of a partition.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct ProducerState {
    producers: BTreeMap<i64, Producer>,
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

impl ProducerBatch {
    fn of(header: &BatchHeader) -> ProducerBatch {
        ProducerBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp_ms: header.max_timestamp_ms,
        }
    }
}

impl ProducerState {
    /// As [`ProducerState::save`] said it. They are as good as if they had written now.
    pub(crate) fn restore(saved: Vec<SavedProducer>, now: Instant) -> ProducerState {
        let producer = |saved: SavedProducer| {
            let migrated = saved.batches.last().map(|last| (saved.epoch, *last));
            let producer = Producer {
                epoch: saved.epoch,
                batches: saved.batches.into(),
                migrated,
                wrote_at: now,
            };
            (saved.id, producer)
        };
        ProducerState {
            producers: saved.into_iter().map(producer).collect(),
        }
    }

    /// What is known of the batches before `next_offset`, up to which all is migrated. With the batches from there on
    /// appended, it is this state again.
    pub(crate) fn save(&self, next_offset: i64) -> Vec<SavedProducer> {
        let saved = |(id, producer): (&i64, &Producer)| {
            let migrated = |batch: &&ProducerBatch| batch.base_offset < next_offset;
            let batches: Vec<_> = producer.batches.iter().take_while(migrated).copied().collect();
            let (epoch, batches) = match producer.migrated {
                Some((epoch, last)) if batches.is_empty() => (epoch, vec![last]),
                _ => (producer.epoch, batches),
            };
            (!batches.is_empty()).then_some(SavedProducer {
                id: *id,
                epoch,
                batches,
            })
        };
        self.producers.iter().filter_map(saved).collect()
    }

    /// How many producers there are.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// The last offset of the newest batch of a producer that is known.
    pub(crate) fn newest_offset(&self, producer_id: i64) -> Option<i64> {
        let producer = self.producers.get(&producer_id)?;
        producer.batches.back().map(|batch| batch.last_offset)
    }

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

    /// Remembers a batch that was appended now, with its offsets in `header`.
    pub(crate) fn appended(&mut self, header: &BatchHeader, now: Instant) {
        debug_assert!(header.has_producer_id());
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                batches: VecDeque::new(),
                migrated: None,
                wrote_at: now,
            });
        producer.wrote_at = now;
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.reserve_exact(1);
        producer.batches.push_back(ProducerBatch::of(header));
    }

    /// A batch that was appended is in its segment now.
    pub(crate) fn migrated(&mut self, header: &BatchHeader) {
        if header.has_producer_id()
            && let Some(producer) = self.producers.get_mut(&header.producer_id)
        {
            producer.migrated = Some((header.producer_epoch, ProducerBatch::of(header)));
        }
    }

    /// Forgets those that have not written for so long.
    pub(crate) fn forget_idle(&mut self, idle: Duration, now: Instant) {
        let is_idle = |producer: &Producer| now - producer.wrote_at >= idle;
        self.producers.retain(|_, producer| !is_idle(producer));
    }

    /// Forgets half of the producers, rounded up: those that have not written for longest.
    pub(crate) fn forget_half(&mut self) {
        let newest = |producer: &Producer| producer.batches.back().map(|batch| batch.last_offset);
        let mut offsets: Vec<_> = self.producers.values().map(newest).collect();
        if offsets.is_empty() {
            return;
        }
        let middle = (offsets.len() - 1) / 2;
        let (_, forgotten, _) = offsets.select_nth_unstable(middle);
        let forgotten = *forgotten;
        self.producers.retain(|_, producer| newest(producer) > forgotten);
    }
}

/// Sequence numbers go from the largest back to 0.
fn following(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant(0);

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
            state.appended(header, NOW);
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
        state.appended(&first, NOW);
        assert_eq!(state.check(&batch(7, 3, 1, 1, 0)), Verdict::EpochFenced);
        assert_eq!(state.producers[&7].batches.len(), 1);
    }

    #[test]
    fn those_that_have_not_written_for_longest_are_forgotten_first() {
        let mut state = state(&(0..5).map(|id| batch(id, 0, 0, 1, id)).collect::<Vec<_>>());
        // The first one writes again.
        state.appended(&batch(0, 0, 1, 1, 5), NOW);
        let mut left = Vec::new();
        for _ in 0..4 {
            state.forget_half();
            left.push(state.producers.keys().copied().collect::<Vec<_>>());
        }
        assert_eq!(left, [vec![0, 4], vec![0], vec![], vec![]]);
        assert_eq!(state.check(&batch(1, 0, 7, 1, 0)), Verdict::Append);
    }

    #[test]
    fn who_has_not_written_for_long_is_forgotten_whatever_the_records_times() {
        let at = |seconds| NOW + Duration::from_secs(seconds);
        let idle = Duration::from_secs(10);
        let mut state = ProducerState::default();
        for (id, seconds) in [(1, 0), (2, 5)] {
            let mut header = batch(id, 0, 0, 1, id);
            header.max_timestamp_ms = [i64::MAX, 0][id as usize - 1];
            state.appended(&header, at(seconds));
        }
        state.forget_idle(idle, at(9));
        assert_eq!(state.len(), 2);
        state.appended(&batch(1, 0, 1, 1, 7), at(9));
        state.forget_idle(idle, at(15));
        assert_eq!(state.producers.keys().collect::<Vec<_>>(), [&1]);
        // A start knows nothing of when it was.
        let mut restored = ProducerState::restore(state.save(i64::MAX), at(100));
        restored.forget_idle(idle, at(109));
        assert_eq!(restored.len(), 1);
        restored.forget_idle(idle, at(110));
        assert_eq!(restored.len(), 0);
    }

    /// Batches of few producers, among them epochs that grow and repetitions of what was forgotten.
    fn history() -> impl Strategy<Value = Vec<BatchHeader>> {
        proptest::collection::vec((0..3_i64, 0..8_u8, 1..4_i32), 1..60).prop_map(|drawn| {
            let (mut offset, mut producers) = (0, [(0_i16, 0_i32); 3]);
            let mut appended = |(id, bump, records): (i64, u8, i32)| {
                let (epoch, sequence) = &mut producers[id as usize];
                if bump == 0 {
                    (*epoch, *sequence) = (*epoch + 1, 0);
                }
                let header = batch(id, *epoch, *sequence, records, offset);
                (*sequence, offset) = (*sequence + records, offset + i64::from(records));
                header
            };
            drawn.into_iter().map(&mut appended).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_saved_and_the_batches_after_it_are_the_state(
            history in history(), migrated in 0..60_usize, appended in 0..60_usize
        ) {
            let migrated = migrated.min(history.len());
            let appended = (migrated + appended).min(history.len());
            let next_offset = history.get(migrated).map_or(i64::MAX, |header| header.base_offset);
            let mut state = ProducerState::default();
            for header in &history[..appended] {
                state.appended(header, NOW);
            }
            for header in &history[..migrated] {
                state.migrated(header);
            }
            let saved = state.save(next_offset);
            // A crash that loses everything after what is migrated: the next batch of each producer is known all the same.
            let only_migrated = ProducerState::restore(saved.clone(), NOW);
            for id in 0..3 {
                let last = history[..migrated].iter().rfind(|header| header.producer_id == id);
                let known = only_migrated.producers.get(&id);
                let known = known.and_then(|known| Some((known.epoch, known.batches.back()?.last_sequence)));
                assert_eq!(known, last.map(|last| (last.producer_epoch, last.last_sequence())));
            }
            // A crash that loses nothing.
            let mut replayed = ProducerState::restore(saved, NOW);
            for header in &history[migrated..] {
                replayed.appended(header, NOW);
            }
            for header in &history[appended..] {
                state.appended(header, NOW);
            }
            for (id, producer) in &state.producers {
                let again = &replayed.producers[id];
                assert_eq!((again.epoch, &again.batches), (producer.epoch, &producer.batches));
            }
            assert_eq!(replayed.len(), state.len());
        }
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
