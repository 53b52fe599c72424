//! Batches that are built before the run, so that sending one costs a system call and little else.
//!
//! Without keys, all partitions send the same ones: those of many partitions, kept, would be in memory that is in no cache, and the
//! generator slower the more there are. With keys each partition has batches of its own, and that is what it costs.

use std::sync::Arc;

use ring::buffer::Slice;
use wire::{BatchBuilder, Compression, NewRecord};

use crate::error::BenchError;
use crate::keys::{KEY_BYTES, KeySet};
use crate::records::{RecordShape, RecordSource};
use crate::requests::{RequestShape, Requests};

/// Batches with different bytes, that requests take in turn, at least: enough that no cache below us learns one by heart.
const BATCHES_MIN: usize = 4;
/// Records in a set of batches, about, if their sizes differ: enough that those have nearly the average of the range.
const SIZES_DRAWN: usize = 1_000;
/// Draws for each key of a partition, about, if memory allows: 98 of 100 keys are among them.
const DRAWS_PER_KEY: usize = 4;
/// Memory of batches that are more than the least: of those of all partitions, if there are keys; else of a thread's.
const BUILT_BYTES_MAX: usize = 256 << 20;

/// What a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Its records.
    pub records: RecordShape,
    /// A batch before compression, in bytes, at most; but at least one record.
    pub batch_bytes_max: usize,
    /// The codec.
    pub compression: Compression,
}

/// A batch as it travels, but for what the header of an idempotent producer's says.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) bytes: Slice,
    pub(crate) records: u64,
    /// Of the values in it, in bytes.
    pub(crate) value_bytes: u64,
}

/// Batches for the connections of a thread.
pub struct Batches {
    shape: BatchShape,
    keys: Option<Arc<KeySet>>,
    /// What all partitions send, without keys; else empty.
    shared: Vec<Batch>,
}

impl Batches {
    /// Fails if batches with keys for so many partitions (one counts for each client that sends to it) take too much memory.
    pub(crate) fn check_room(
        shape: &BatchShape,
        keys: Option<&KeySet>,
        places: u64,
    ) -> Result<(), BenchError> {
        let (_, bytes) = of_average_records(shape, keys.is_some());
        let too_many = (bytes as u64).saturating_mul(places) > BUILT_BYTES_MAX as u64;
        if keys.is_some() && too_many {
            let what = format!(
                "--keys: each of {places} partitions of clients has batches of its own, and one of {bytes} bytes for each is \
                 more than {} MiB: fewer --partitions or --connections, or a smaller --batch-size",
                BUILT_BYTES_MAX >> 20
            );
            return Err(BenchError::Workload { what });
        }
        Ok(())
    }

    /// Builds those that do not depend on partitions.
    pub fn build(shape: BatchShape, keys: Option<Arc<KeySet>>) -> Batches {
        let shared = if keys.is_none() {
            let (count, mut source) = (count_of(&shape, 0, 1), RecordSource::new(shape.records, &[], 0));
            set_of(&shape, count, &mut source)
        } else {
            Vec::new()
        };
        Batches { shape, keys, shared }
    }

    /// The requests of these partitions, of `places` that all clients have together. Large batches are shared by those that send the
    /// same.
    pub fn requests(&self, shape: RequestShape<'_>, partitions: &[i32], places: u64) -> Requests {
        match &self.keys {
            None => Requests::new(shape, std::slice::from_ref(&self.shared), partitions),
            Some(keys) => {
                let sets = (partitions.iter()).map(|partition| self.of_keys(keys, *partition, places));
                Requests::new(shape, &sets.collect::<Vec<_>>(), partitions)
            }
        }
    }

    /// The same ones for whoever sends to the partition.
    fn of_keys(&self, keys: &KeySet, partition: i32, places: u64) -> Vec<Batch> {
        let count = count_of(&self.shape, keys.each_at_most(), places);
        let seed = u64::try_from(partition).expect("partitions are numbered from 0 on");
        let mut source = RecordSource::new(self.shape.records, keys.of(partition), seed);
        let batches = set_of(&self.shape, count, &mut source);
        keys.made(partition, source.distinct_keys());
        batches
    }
}

/// How many batches a set has, of one partition among `places` if there are keys.
fn count_of(shape: &BatchShape, keys: usize, places: u64) -> usize {
    let (records, bytes) = of_average_records(shape, keys > 0);
    let for_sizes = if shape.records.sizes.are_equal() {
        0
    } else {
        SIZES_DRAWN
    };
    let wanted = for_sizes.max(DRAWS_PER_KEY * keys).div_ceil(records);
    let places = usize::try_from(places).unwrap_or(usize::MAX);
    let affordable = BUILT_BYTES_MAX / bytes.saturating_mul(places);
    // Without keys the least is what it always was.
    let least = if keys > 0 { 1 } else { BATCHES_MIN };
    wanted.max(BATCHES_MIN).min(affordable.max(least))
}

/// How many records of the average size fit into a batch, and its bytes before compression.
fn of_average_records(shape: &BatchShape, have_keys: bool) -> (usize, usize) {
    let sizes = shape.records.sizes;
    let value = vec![0; usize::try_from(sizes.min.midpoint(sizes.max)).expect("it is in range")];
    let record = NewRecord {
        key: have_keys.then_some(&[b'0'; KEY_BYTES]),
        value: Some(&value),
        ..NewRecord::default()
    };
    let mut builder = BatchBuilder::new(Compression::None);
    let mut fitting = (0, 0);
    loop {
        builder.push(&record);
        let bytes = builder.uncompressed_bytes();
        if fitting.0 > 0 && bytes > shape.batch_bytes_max {
            return fitting;
        }
        fitting = (fitting.0 + 1, bytes);
    }
}

/// So many batches, with as many records of the source in each as a producer with this batch.size would put into it.
fn set_of(shape: &BatchShape, count: usize, source: &mut RecordSource<'_>) -> Vec<Batch> {
    let mut batches = Vec::with_capacity(count);
    let mut open = OpenBatch::new(shape);
    loop {
        source.advance();
        if !open.push(&source.record()) {
            batches.push(open.close());
            if batches.len() == count {
                return batches;
            }
            open = OpenBatch::new(shape);
            assert!(open.push(&source.record()), "an empty batch takes any record");
        }
    }
}

/// A batch that takes more records.
struct OpenBatch {
    builder: BatchBuilder,
    /// The same records: what it would be with one more.
    probe: BatchBuilder,
    bytes_max: usize,
    records: u64,
    value_bytes: u64,
}

impl OpenBatch {
    fn new(shape: &BatchShape) -> OpenBatch {
        OpenBatch {
            builder: BatchBuilder::new(shape.compression),
            probe: BatchBuilder::new(Compression::None),
            bytes_max: shape.batch_bytes_max,
            records: 0,
            value_bytes: 0,
        }
    }

    /// Whether there was room for it.
    fn push(&mut self, record: &NewRecord<'_>) -> bool {
        self.probe.push(record);
        if self.records > 0 && self.probe.uncompressed_bytes() > self.bytes_max {
            return false;
        }
        self.builder.push(record);
        self.records += 1;
        self.value_bytes += record.value.map_or(0, <[u8]>::len) as u64;
        true
    }

    fn close(self) -> Batch {
        Batch {
            bytes: self.builder.build().into(),
            records: self.records,
            value_bytes: self.value_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::tests::{REQUEST, SHAPE, sent, with_sizes};
    use net::client::partition_of;
    use std::collections::BTreeSet;
    use wire::{RecordBatch, records};

    /// Keys and lengths of the values in a batch.
    fn opened(batch: &[u8]) -> Vec<(Option<Vec<u8>>, u32)> {
        let (batch, _) = RecordBatch::parse(batch).unwrap();
        let records = records(batch.records_bytes(), batch.header().record_count);
        let record = records.map(|record| {
            let record = record.unwrap();
            (record.key.map(<[u8]>::to_vec), record.value.unwrap().len() as u32)
        });
        record.collect()
    }

    #[test]
    fn a_batch_is_as_full_as_a_producers() {
        let batches = Batches::build(SHAPE, None);
        assert_eq!(batches.shared.len(), BATCHES_MIN);
        for batch in &batches.shared {
            assert_eq!((batch.records, batch.value_bytes), (15, 15 * 1_024));
            assert!((15 * 1_024..16_384).contains(&batch.bytes.len()));
        }
        let different: BTreeSet<&[u8]> = batches.shared.iter().map(|batch| &*batch.bytes).collect();
        assert_eq!(different.len(), BATCHES_MIN);
        let small = BatchShape {
            batch_bytes_max: 1,
            ..SHAPE
        };
        assert!(
            Batches::build(small, None)
                .shared
                .iter()
                .all(|batch| batch.records == 1)
        );
    }

    #[test]
    fn sizes_are_within_their_range_and_counted_exactly() {
        let batches = Batches::build(with_sizes(100, 2_000), None);
        let requests = batches.requests(REQUEST, &[0, 1], 2);
        let (mut values, mut bytes, mut sizes) = (0, 0, BTreeSet::new());
        for number in 0..batches.shared.len() as u64 {
            let outgoing = requests.outgoing(2 * number);
            let records = opened(&sent(&outgoing, None));
            assert_eq!(requests.turns().records_before(2 * number), 2 * values);
            let of_batch: u64 = records.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
            assert_eq!(of_batch, outgoing.value_bytes());
            // Nearly full: the next one did not fit.
            assert!((16_384 - 2_100..16_384).contains(&outgoing.request(None)[1].len()));
            values += records.len() as u64;
            bytes += of_batch;
            sizes.extend(records.iter().map(|(_, bytes)| *bytes));
        }
        assert!(sizes.iter().all(|bytes| (100..=2_000).contains(bytes)));
        assert!(values >= 900 && sizes.len() > 600, "{values} {}", sizes.len());
        let average = bytes as f64 / values as f64;
        assert!((1_000.0..1_100.0).contains(&average), "{average}");
    }

    #[test]
    fn keys_are_sent_to_the_partition_that_they_hash_to() {
        let keys = Arc::new(KeySet::new(100, 3));
        let batches = Batches::build(with_sizes(10, 500), Some(keys.clone()));
        let (mut seen, mut number) = (BTreeSet::new(), 0);
        let requests = batches.requests(REQUEST, &[0, 2], 3);
        let others = Batches::build(with_sizes(10, 500), Some(keys.clone())).requests(REQUEST, &[1], 3);
        for requests in [requests, others] {
            // Each batch of a partition twice.
            for _ in 0..4 * count_of(&with_sizes(10, 500), keys.each_at_most(), 3) {
                let outgoing = requests.outgoing(number);
                let partition = usize::try_from(outgoing.partition).unwrap();
                for (key, _) in opened(&sent(&outgoing, None)) {
                    assert_eq!(partition_of(key.as_ref().unwrap(), 3), partition);
                    seen.insert(key);
                }
                number += 1;
            }
        }
        assert_eq!((seen.len(), keys.note()), (100, None));
    }

    #[test]
    fn batches_with_keys_take_no_more_memory_than_so_much() {
        // With all draws it would be 40 GB.
        let count = count_of(&SHAPE, 10_000_000, 4);
        assert_eq!(count, BUILT_BYTES_MAX / 4 / of_average_records(&SHAPE, true).1);
        assert_eq!(count_of(&SHAPE, 100, 4), (DRAWS_PER_KEY * 100_usize).div_ceil(15));
        let keys = KeySet::new(10_000, 10_000);
        assert!(Batches::check_room(&SHAPE, Some(&keys), 10_000).is_ok());
        let large = BatchShape {
            batch_bytes_max: 1 << 20,
            ..SHAPE
        };
        let error = Batches::check_room(&large, Some(&keys), 10_000).unwrap_err();
        assert!(error.to_string().contains("a smaller --batch-size"), "{error}");
        assert!(Batches::check_room(&large, None, 10_000).is_ok());
    }
}
