//! Which records of a batch stay: Kafka's rules for format 2 (its Cleaner and MemoryRecords.filterTo, KIP-534). Decides, and
//! does no I/O.
//!
//! A record stays if none of its key is newer, among those that the map has seen. A tombstone stays, with its batch marked, until
//! the time of the mark. Of a batch without records only the header stays, and that only where it is needed: for its
//! producer's last sequence number, or as the end of what is cleaned.
//! Must never drop what the map has not seen, nor anything of a batch that it cannot read; nor keep a shard's thread for
//! longer than a step.

use std::ops::DerefMut;

use ring::executor::yield_now;
use wire::rewritten_batch::{RewrittenBatch, emptied};
use wire::{BatchHeader, DecodeError, Record};

use super::key_map::KeyMap;
use crate::opening::{Opened, STEP_BYTES};

/// Keys that are looked up in one step: a millisecond.
const STEP_KEYS: usize = 1 << 12;

/// What a cleaning goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// When it began, in milliseconds since 1970: what a mark is counted from.
    pub(crate) now_ms: i64,
    /// The same, and no later than what any clock says that may be right: what a mark is compared with.
    pub(crate) age_now_ms: i64,
    /// `delete.retention.ms`.
    pub(crate) delete_retention_ms: i64,
    /// Records from this offset on are not in the map: they stay.
    pub(crate) mapped_to: i64,
    /// What may be cleaned ends here: the batch before it stays, at least without records.
    pub(crate) uncleanable_from: i64,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cleaned {
    /// It stays as it is.
    Same,
    /// It is replaced by this one.
    Other(Vec<u8>),
    /// Nothing of it stays.
    Gone,
}

/// Whether compaction looks at the records of a batch: not at a control batch's, which stays. Why it cannot, otherwise.
pub(crate) fn looks_into(header: &BatchHeader) -> Result<bool, &'static str> {
    if header.attributes.is_control() {
        return Ok(false);
    }
    if header.attributes.is_transactional() {
        return Err("a batch belongs to a transaction, and compaction does not know how that ended");
    }
    match header.attributes.compression() {
        Some(_) => Ok(true),
        None => Err("a batch has a codec that is not known"),
    }
}

/// Puts the keys of a batch into the map, of records from `from` on. Returns the offset up to which that was possible: the
/// batch's end, or a record for which the map had no room. Why the batch cannot be read, otherwise.
pub(crate) async fn note_keys<B: DerefMut<Target = [u8]>>(
    header: &BatchHeader,
    opened: &Opened<'_>,
    from: i64,
    map: &mut KeyMap<B>,
) -> Result<i64, &'static str> {
    let mut pace = Pace::default();
    for record in opened.records() {
        let (record, offset) = read(header, record)?;
        let key = record.key.filter(|_| offset >= from);
        if key.is_some_and(|key| map.put(key, offset).is_err()) {
            return Ok(offset);
        }
        pace.looked_at(&record).await;
    }
    Ok(header.next_offset())
}

/// What becomes of a batch. `holds_last_sequence`: it is the last one of a producer that is remembered.
pub(crate) async fn clean<B: DerefMut<Target = [u8]>>(
    header: &BatchHeader,
    opened: &Opened<'_>,
    map: &KeyMap<B>,
    rules: &Rules,
    holds_last_sequence: bool,
) -> Result<Cleaned, &'static str> {
    let horizon_ms = header
        .attributes
        .has_delete_horizon()
        .then_some(header.base_timestamp_ms);
    let keeps_tombstones = horizon_ms.is_none_or(|horizon_ms| rules.age_now_ms < horizon_ms);
    let stays = |record: &Record<'_>, offset: i64| {
        if offset >= rules.mapped_to {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let is_newest = map.get(key).is_none_or(|newest| offset >= newest);
        is_newest && (record.value.is_some() || keeps_tombstones)
    };
    let (mut kept, mut has_tombstone) = (0, false);
    let mut pace = Pace::default();
    for record in opened.records() {
        let (record, offset) = read(header, record)?;
        if stays(&record, offset) {
            kept += 1;
            has_tombstone |= record.value.is_none() && offset < rules.mapped_to;
        }
        pace.looked_at(&record).await;
    }
    if kept == 0 {
        let ends_it = header.next_offset() == rules.uncleanable_from;
        let holds_a_sequence = holds_last_sequence && header.has_producer_id();
        return Ok(match ends_it || holds_a_sequence {
            false => Cleaned::Gone,
            true if header.record_count == 0 => Cleaned::Same,
            true => Cleaned::Other(emptied(header)),
        });
    }
    let gets_horizon = has_tombstone && horizon_ms.is_none();
    if kept == header.record_count && !gets_horizon {
        return Ok(Cleaned::Same);
    }
    let new_horizon_ms = gets_horizon.then(|| rules.now_ms.saturating_add(rules.delete_retention_ms));
    let filtered = RewrittenBatch::new(header, new_horizon_ms);
    let mut filtered = filtered.ok_or("a batch has a codec that is not known")?;
    for record in opened.records() {
        let (record, offset) = read(header, record)?;
        if stays(&record, offset) {
            filtered.push(&record);
        }
        while filtered.step(STEP_BYTES) {
            yield_now().await;
        }
        pace.looked_at(&record).await;
    }
    let left = filtered
        .finish()
        .ok_or("what is left of a batch is too large for one")?;
    Ok(Cleaned::Other(left))
}

/// Lets others go first after each step.
#[derive(Default)]
struct Pace {
    keys: usize,
    bytes: usize,
}

impl Pace {
    async fn looked_at(&mut self, record: &Record<'_>) {
        self.keys += 1;
        self.bytes += record.key.map_or(0, <[u8]>::len);
        if self.keys >= STEP_KEYS || self.bytes >= STEP_BYTES {
            *self = Pace::default();
            yield_now().await;
        }
    }
}

/// A record and its offset, which is within the batch.
fn read<'a>(
    header: &BatchHeader,
    record: Result<Record<'a>, DecodeError>,
) -> Result<(Record<'a>, i64), &'static str> {
    let record = record.map_err(|_| "a batch holds what is no record")?;
    let is_inside = (0..=header.last_offset_delta).contains(&record.offset_delta);
    if !is_inside {
        return Err("a record's offset is not in its batch");
    }
    let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
    Ok((record, offset))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;
    use wire::record_batch::{assign_offset, batches};
    use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

    use super::super::key_map::SLOT_BYTES;
    use super::*;
    use crate::opening::{OPENED_BYTES_MAX, OpenError, OpeningBudget, Turns};

    /// What it gives, and how often others went first.
    fn ran<T>(future: impl Future<Output = T>) -> (T, usize) {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for turns in 0..100_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return (output, turns);
            }
        }
        panic!("it never ends")
    }

    fn open<'a>(batch: &RecordBatch<'a>) -> Result<Opened<'a>, &'static str> {
        looks_into(batch.header())?;
        let turns = Turns::new();
        let budget = OpeningBudget::new(OPENED_BYTES_MAX);
        let opened = match Opened::at_once(batch, &budget) {
            Err(OpenError::Busy) => ran(Opened::in_turn(batch, &budget, ran(turns.next()).0)).0,
            opened => opened,
        };
        opened.map_err(|_| "a batch cannot be opened")
    }

    /// What becomes of a batch, opened.
    fn cleaned(
        batch: &RecordBatch<'_>,
        map: &KeyMap<Vec<u8>>,
        rules: &Rules,
        holds_last_sequence: bool,
    ) -> Result<Cleaned, &'static str> {
        if !looks_into(batch.header())? {
            return Ok(Cleaned::Same);
        }
        ran(clean(
            batch.header(),
            &open(batch)?,
            map,
            rules,
            holds_last_sequence,
        ))
        .0
    }

    /// A record that a client wrote, by its offset.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Written {
        key: Option<u8>,
        value: Option<u8>,
        time_ms: i64,
    }

    /// Batches as they are in a log: codec, producer (0: none), and of each record its key (4: none) and value (0: null).
    type Drawn = Vec<(usize, i64, Vec<(u8, u8)>)>;

    fn drawn() -> impl Strategy<Value = Drawn> {
        let record = (0..5_u8, 0..4_u8);
        let records = proptest::collection::vec(record, 1..6);
        proptest::collection::vec((0..5_usize, 0..3_i64, records), 1..24)
    }

    /// The log's bytes, and its records.
    fn log_of(drawn: &Drawn) -> (Vec<u8>, BTreeMap<i64, Written>) {
        let (mut bytes, mut written, mut offset) = (Vec::new(), BTreeMap::new(), 0_i64);
        let mut sequences = BTreeMap::<i64, i32>::new();
        for (codec, producer, records) in drawn {
            let mut builder = BatchBuilder::new(Compression::ALL[*codec]);
            if *producer > 0 {
                let sequence = sequences.entry(*producer).or_default();
                builder = builder.producer(*producer, 0, *sequence);
                *sequence += records.len() as i32;
            }
            let base = offset;
            for (key, value) in records {
                let record = Written {
                    key: (*key < 4).then_some(*key),
                    value: (*value > 0).then_some(*value),
                    time_ms: 1_000 + offset * 3 % 11,
                };
                builder.push(&NewRecord {
                    timestamp_ms: record.time_ms,
                    key: record.key.as_ref().map(std::slice::from_ref),
                    value: record.value.as_ref().map(std::slice::from_ref),
                    ..NewRecord::default()
                });
                written.insert(offset, record);
                offset += 1;
            }
            let mut batch = builder.build();
            assign_offset(batch.first_chunk_mut().unwrap(), base, 1);
            bytes.extend(batch);
        }
        (bytes, written)
    }

    /// What a log holds, as a client sees it, and the batches that have no record left.
    fn read(log: &[u8]) -> (BTreeMap<i64, Written>, BTreeSet<(i64, i64)>) {
        let (mut all, mut empty, mut next) = (BTreeMap::new(), BTreeSet::new(), 0);
        for batch in batches(log) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let header = batch.header();
            assert!(header.base_offset >= next, "offsets go back");
            next = header.next_offset();
            if header.record_count == 0 {
                empty.insert((header.base_offset, header.last_offset()));
            }
            for record in open(&batch).unwrap().records() {
                let (record, offset) = super::read(header, record).unwrap();
                let byte = |bytes: &[u8]| bytes[0];
                let seen = Written {
                    key: record.key.map(byte),
                    value: record.value.map(byte),
                    time_ms: header.base_timestamp_ms + record.timestamp_delta_ms,
                };
                assert_eq!(all.insert(offset, seen), None, "an offset is there twice");
            }
        }
        (all, empty)
    }

    /// The offset at which each producer's newest batch ends.
    fn newest_of_producers(log: &[u8]) -> BTreeMap<i64, i64> {
        let all = batches(log).map(|batch| *batch.unwrap().header());
        let with_id = all.filter(BatchHeader::has_producer_id);
        with_id
            .map(|header| (header.producer_id, header.last_offset()))
            .collect()
    }

    /// A whole cleaning of `log`, whose dirty part begins at `dirty_from`, with room for so many keys. Where the map ended.
    fn clean_all(log: &[u8], dirty_from: i64, keys_max: usize, rules: Rules) -> (Vec<u8>, i64) {
        // Nine of ten slots are used.
        let slots = (keys_max * 10).div_ceil(9);
        let mut map = KeyMap::new(vec![0; slots * SLOT_BYTES], [3, 4]);
        let mut mapped_to = dirty_from;
        for batch in batches(log) {
            let batch = batch.unwrap();
            let (from, end) = (mapped_to, batch.header().next_offset());
            if end <= from || end > rules.uncleanable_from {
                continue;
            }
            let opened = open(&batch).unwrap();
            mapped_to = ran(note_keys(batch.header(), &opened, from, &mut map)).0.unwrap();
            if mapped_to < end {
                break;
            }
        }
        let rules = Rules { mapped_to, ..rules };
        let last = newest_of_producers(log);
        let mut out = Vec::new();
        for batch in batches(log) {
            let batch = batch.unwrap();
            let header = batch.header();
            let holds = last.get(&header.producer_id) == Some(&header.last_offset());
            match cleaned(&batch, &map, &rules, holds).unwrap() {
                Cleaned::Same => out.extend_from_slice(batch.bytes()),
                Cleaned::Other(other) => out.extend(other),
                Cleaned::Gone => {}
            }
        }
        (out, mapped_to)
    }

    fn rules(now_ms: i64, uncleanable_from: i64) -> Rules {
        Rules {
            now_ms,
            age_now_ms: now_ms,
            delete_retention_ms: 100,
            mapped_to: 0,
            uncleanable_from,
        }
    }

    /// The naive rule: what is before `to` and has a newer one of its key before `to`, or no key, goes.
    fn expected(written: &BTreeMap<i64, Written>, to: i64) -> BTreeMap<i64, Written> {
        let newer = |offset: i64, key: u8| {
            let mut later = written.range(offset + 1..to.max(offset + 1));
            later.any(|(_, other)| other.key == Some(key))
        };
        let stays =
            |offset: i64, record: &Written| offset >= to || record.key.is_some_and(|key| !newer(offset, key));
        let kept = written.iter().filter(|(offset, record)| stays(**offset, record));
        kept.map(|(offset, record)| (*offset, record.clone())).collect()
    }

    proptest! {
        #[test]
        fn the_newest_record_of_each_key_stays_at_its_offset(drawn in drawn(), uncleanable in 0..60_i64, keys in 1..6_usize) {
            let (log, written) = log_of(&drawn);
            let ends: BTreeSet<i64> = batches(&log).map(|batch| batch.unwrap().header().next_offset()).collect();
            // What may be cleaned ends between two batches.
            let end = *ends.range(..=uncleanable).next_back().unwrap_or(&0);
            let producers = newest_of_producers(&log);
            let (mut cleaned, mut dirty_from, mut passes) = (log.clone(), 0, 0);
            while dirty_from < end {
                let (out, mapped_to) = clean_all(&cleaned, dirty_from, keys, rules(5_000, end));
                prop_assert!(mapped_to > dirty_from, "a pass gets on");
                (cleaned, dirty_from, passes) = (out, mapped_to, passes + 1);
                let (left, empty) = read(&cleaned);
                prop_assert_eq!(&left, &expected(&written, mapped_to), "after pass {}", passes);
                // Empty batches are only where they are needed.
                for (_, last) in &empty {
                    prop_assert!(*last + 1 == end || producers.values().any(|newest| newest == last));
                }
            }
            prop_assert_eq!(dirty_from, end);
            prop_assert_eq!(newest_of_producers(&cleaned), producers, "a producer's last sequence is gone");
            if end > 0 {
                let last = batches(&cleaned).map(|batch| batch.unwrap().header().next_offset());
                prop_assert!(last.into_iter().any(|next| next == end), "the end of what was cleaned is gone");
            }
            // Once more changes nothing.
            let (again, _) = clean_all(&cleaned, end, keys, rules(5_050, end));
            prop_assert_eq!(again, cleaned);
        }

        #[test]
        fn a_tombstone_stays_until_its_horizon_and_no_longer(drawn in drawn()) {
            let (log, written) = log_of(&drawn);
            let end = written.len() as i64;
            let (first, _) = clean_all(&log, 0, 8, rules(5_000, end));
            let (before, _) = clean_all(&first, end, 8, rules(5_099, end));
            prop_assert_eq!(read(&before).0, expected(&written, end), "before its time");
            for batch in batches(&before) {
                let header = *batch.unwrap().header();
                let horizon = header.attributes.has_delete_horizon();
                prop_assert!(!horizon || header.base_timestamp_ms == 5_100);
            }
            let (after, _) = clean_all(&before, end, 8, rules(5_100, end));
            let mut values = expected(&written, end);
            values.retain(|_, record| record.value.is_some());
            prop_assert_eq!(read(&after).0, values, "after its time");
        }
    }

    fn one(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        builder.push(&NewRecord {
            key: Some(b"key"),
            value: Some(b"value"),
            ..NewRecord::default()
        });
        builder.build()
    }

    fn judged(bytes: &[u8]) -> Result<Cleaned, &'static str> {
        let map = KeyMap::new(vec![0; 100 * SLOT_BYTES], [3, 4]);
        let batch = RecordBatch::parse(bytes).unwrap().0;
        cleaned(
            &batch,
            &map,
            &Rules {
                mapped_to: 1,
                ..rules(0, 1)
            },
            false,
        )
    }

    /// With other bytes in the header's attributes, and a CRC that is right.
    fn with_attributes(mut bytes: Vec<u8>, attributes: i16) -> Vec<u8> {
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes
    }

    #[test]
    fn what_cannot_be_read_is_never_dropped() {
        assert_eq!(judged(&one(Compression::None)), Ok(Cleaned::Same));
        let mut damaged = one(Compression::Zstd);
        let at = damaged.len() - 3;
        damaged[at] ^= 0xff;
        damaged[61] ^= 0xff;
        assert!(judged(&damaged).is_err());
        let mut longer = one(Compression::None);
        longer[61] = 4;
        assert!(judged(&longer).is_err());
        assert!(judged(&with_attributes(one(Compression::None), 7)).is_err());
        // A record of an offset that its batch does not have.
        let mut outside = one(Compression::None);
        outside[64] = 2;
        assert!(judged(&outside).is_err());
    }

    #[test]
    fn a_clock_that_is_ahead_removes_no_tombstone() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&NewRecord {
            key: Some(b"key"),
            ..NewRecord::default()
        });
        let bytes = builder.build();
        let map = KeyMap::new(vec![0; 100 * SLOT_BYTES], [3, 4]);
        let ahead = Rules {
            age_now_ms: 200,
            mapped_to: 1,
            ..rules(1_000, 9)
        };
        let Ok(Cleaned::Other(marked)) = cleaned(&RecordBatch::parse(&bytes).unwrap().0, &map, &ahead, false)
        else {
            panic!("it gets its mark");
        };
        let marked = RecordBatch::parse(&marked).unwrap().0;
        assert_eq!(marked.header().base_timestamp_ms, 1_100);
        let later = Rules {
            now_ms: 5_000,
            age_now_ms: 1_099,
            ..ahead
        };
        assert_eq!(cleaned(&marked, &map, &later, false), Ok(Cleaned::Same));
        let over = Rules {
            age_now_ms: 1_100,
            ..later
        };
        assert_eq!(cleaned(&marked, &map, &over, false), Ok(Cleaned::Gone));
    }

    #[test]
    fn others_go_first_between_the_steps_of_a_large_batch() {
        const MIB: usize = 24;
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new(codec);
            let value = vec![7; 4 << 20];
            for key in 0..MIB as u8 / 4 {
                for value in [&[][..], &value] {
                    builder.push(&NewRecord {
                        key: Some(&[key]),
                        value: Some(value),
                        ..NewRecord::default()
                    });
                }
            }
            let bytes = builder.build();
            let batch = RecordBatch::parse(&bytes).unwrap().0;
            let opened = open(&batch).unwrap();
            let mut map = KeyMap::new(vec![0; 100 * SLOT_BYTES], [3, 4]);
            let end = ran(note_keys(batch.header(), &opened, 0, &mut map)).0.unwrap();
            let rules = Rules {
                mapped_to: end,
                ..rules(0, end)
            };
            let (left, turns) = ran(clean(batch.header(), &opened, &map, &rules, false));
            assert!(turns >= MIB, "{codec:?}: {turns}");
            let Ok(Cleaned::Other(left)) = left else {
                panic!("{codec:?}: half of its records go")
            };
            let left = RecordBatch::parse(&left).unwrap().0;
            let opened = open(&left).unwrap();
            assert!(
                opened
                    .records()
                    .all(|record| record.unwrap().value == Some(&value))
            );
            assert_eq!(left.header().record_count, MIB as i32 / 4);
        }
    }

    #[test]
    fn others_go_first_while_many_keys_are_looked_up() {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for _ in 0..10 * STEP_KEYS {
            builder.push(&NewRecord {
                key: Some(b"key"),
                value: Some(b""),
                ..NewRecord::default()
            });
        }
        let bytes = builder.build();
        let batch = RecordBatch::parse(&bytes).unwrap().0;
        let opened = open(&batch).unwrap();
        let mut map = KeyMap::new(vec![0; 100 * SLOT_BYTES], [3, 4]);
        let (end, turns) = ran(note_keys(batch.header(), &opened, 0, &mut map));
        assert!(turns >= 10, "{turns}");
        let rules = Rules {
            mapped_to: end.unwrap(),
            ..rules(0, 0)
        };
        // Once to see how many stay, and once to write them.
        let (_, turns) = ran(clean(batch.header(), &opened, &map, &rules, false));
        assert!(turns >= 20, "{turns}");
    }

    #[test]
    fn a_control_batch_stays_and_a_transactional_one_stops_it() {
        let control = with_attributes(one(Compression::None), 1 << 5 | 1 << 4);
        assert_eq!(judged(&control), Ok(Cleaned::Same));
        let transactional = with_attributes(one(Compression::None), 1 << 4);
        assert!(judged(&transactional).unwrap_err().contains("transaction"));
    }

    #[test]
    fn an_emptied_batch_goes_when_its_producer_has_written_more() {
        let empty = emptied(RecordBatch::parse(&one(Compression::Gzip)).unwrap().0.header());
        let batch = RecordBatch::parse(&empty).unwrap().0;
        let map = KeyMap::new(vec![0; 100 * SLOT_BYTES], [3, 4]);
        assert_eq!(cleaned(&batch, &map, &rules(0, 9), false), Ok(Cleaned::Gone));
        assert_eq!(cleaned(&batch, &map, &rules(0, 1), false), Ok(Cleaned::Same));
    }
}
