//! A batch that is written anew: with fewer records than it came with, which is what compaction leaves of it; or in another
//! codec.
//!
//! What stays of a header is Kafka's rule: the base offset, the last offset, the producer's fields and the timestamp type, so that
//! offsets mean what they meant and a producer's last sequence number is still known.
//! Promises: allocates what the records take, and no more than a few times that. Source: KIP-534, and Kafka's documentation,
//! "Message Format".

use crate::compression::{Compression, Compressor};
use crate::primitive::Writer;
use crate::record::{NewRecord, Record, write_length};
use crate::record_batch::{BATCH_HEADER_BYTES, BATCH_LENGTH_OVERHEAD, BatchHeader, crc_of};

/// "No timestamp".
const NO_TIMESTAMP: i64 = -1;

/// A batch that is written anew, record by record, and compressed in steps.
pub struct RewrittenBatch {
    before: BatchHeader,
    /// Of the records so far.
    header: BatchHeader,
    horizon_ms: Option<i64>,
    compressor: Compressor,
    /// Records that are not compressed yet, from `begin` on.
    records: Vec<u8>,
    begin: usize,
    length: Writer,
    body: Writer,
}

impl RewrittenBatch {
    /// The batch of `header` in its codec, at that's default level, with none of its records yet; `None` if the codec is not
    /// known. A `delete_horizon_ms` becomes the base timestamp, against which the records' times are counted then; a batch that
    /// has one keeps it.
    pub fn new(header: &BatchHeader, delete_horizon_ms: Option<i64>) -> Option<RewrittenBatch> {
        let compressor = Compressor::new(header.attributes.compression()?);
        Some(RewrittenBatch::of(header, delete_horizon_ms, compressor))
    }

    /// The batch of `header` in another codec, at that level, with none of its records yet, of which there will be about
    /// `bytes`. All of them are to come, numbered from 0.
    pub fn recompressed(
        header: &BatchHeader,
        codec: Compression,
        level: Option<i32>,
        bytes: usize,
    ) -> RewrittenBatch {
        let mut new = *header;
        new.attributes = header.attributes.with_compression(codec);
        RewrittenBatch::of(&new, None, Compressor::with_level(codec, level, bytes))
    }

    fn of(header: &BatchHeader, delete_horizon_ms: Option<i64>, compressor: Compressor) -> RewrittenBatch {
        let horizon_ms = match header.attributes.has_delete_horizon() {
            true => Some(header.base_timestamp_ms),
            false => delete_horizon_ms,
        };
        let mut new = *header;
        if horizon_ms.is_some() {
            new.attributes = header.attributes.with_delete_horizon();
        }
        new.record_count = 0;
        RewrittenBatch {
            before: *header,
            header: new,
            horizon_ms,
            compressor,
            records: Vec::new(),
            begin: 0,
            length: Writer::flat(),
            body: Writer::flat(),
        }
    }

    /// Appends a record of the batch; in their order.
    pub fn push(&mut self, record: &Record<'_>) {
        let (before, new) = (&self.before, &mut self.header);
        let time_ms = if before.attributes.is_log_append_time() {
            before.max_timestamp_ms
        } else {
            before.base_timestamp_ms.wrapping_add(record.timestamp_delta_ms)
        };
        if new.record_count == 0 {
            new.base_timestamp_ms = self.horizon_ms.unwrap_or(time_ms);
            new.max_timestamp_ms = time_ms;
        }
        new.max_timestamp_ms = new.max_timestamp_ms.max(time_ms);
        new.record_count += 1;
        let headers: Vec<_> = record.headers.iter().collect();
        let kept = NewRecord {
            timestamp_ms: time_ms,
            key: record.key,
            value: record.value,
            headers: &headers,
        };
        self.body.clear();
        let delta_ms = time_ms.wrapping_sub(new.base_timestamp_ms);
        kept.write(&mut self.body, delta_ms, record.offset_delta);
        self.length.clear();
        write_length(&mut self.length, self.body.len());
        self.records.extend_from_slice(self.length.as_bytes());
        self.records.extend_from_slice(self.body.as_bytes());
    }

    /// Compresses so many bytes of the records, if that many wait for it. Whether it did: then there may be more.
    pub fn step(&mut self, bytes: usize) -> bool {
        let waiting = self.records.get(self.begin..).unwrap_or_default();
        let Some(now) = waiting.get(..bytes.max(1)) else {
            return false;
        };
        self.compressor.write(now);
        self.begin += now.len();
        if self.begin >= self.records.len() / 2 {
            self.records.drain(..self.begin);
            self.begin = 0;
        }
        true
    }

    /// How many bytes it has so far, at least.
    pub fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.compressor.output_bytes()
    }

    /// The batch; `None` if it has no record, or too many bytes for one. What waits is compressed at once.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        if self.header.record_count == 0 {
            return None;
        }
        self.compressor
            .write(self.records.get(self.begin..).unwrap_or_default());
        close(self.header, &self.compressor.finish())
    }
}

/// The batch of `header` without a record: only its offsets and its producer's state are left.
pub fn emptied(header: &BatchHeader) -> Vec<u8> {
    let mut new = *header;
    new.attributes = header.attributes.emptied();
    new.base_timestamp_ms = NO_TIMESTAMP;
    new.record_count = 0;
    close(new, &[]).expect("a header is short enough for a batch")
}

fn close(mut header: BatchHeader, section: &[u8]) -> Option<Vec<u8>> {
    let bytes = BATCH_HEADER_BYTES + section.len();
    header.batch_length = i32::try_from(bytes - BATCH_LENGTH_OVERHEAD).ok()?;
    let mut batch = Vec::with_capacity(bytes);
    batch.extend_from_slice(&header.encode());
    batch.extend_from_slice(section);
    header.crc = crc_of(&batch);
    batch[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordHeader, records};
    use crate::record_batch::{Attributes, RecordBatch, assign_log_append_time, assign_offset};
    use crate::{BatchBuilder, record_batch};

    const HEADERS: [RecordHeader<'static>; 2] = [
        RecordHeader {
            key: "a",
            value: None,
        },
        RecordHeader {
            key: "",
            value: Some(b"header"),
        },
    ];

    fn batch(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec).producer(7, 1, 40);
        for n in 0..4_i64 {
            builder.push(&NewRecord {
                timestamp_ms: 1_000 - n * 100,
                key: Some(&n.to_be_bytes()),
                value: (n != 2).then_some(b"value"),
                headers: if n == 3 { &HEADERS } else { &[] },
            });
        }
        let mut bytes = builder.build();
        assign_offset(bytes.first_chunk_mut().unwrap(), 500, 3);
        bytes
    }

    fn parse(bytes: &[u8]) -> RecordBatch<'_> {
        let (batch, rest) = RecordBatch::parse(bytes).unwrap();
        assert_eq!((batch.verify_crc(), rest), (Ok(()), &[][..]));
        batch
    }

    /// Offsets and times, and what else a record is.
    fn all(bytes: &[u8]) -> Vec<(i64, i64, Option<Vec<u8>>, usize)> {
        let batch = parse(bytes);
        let header = batch.header();
        let codec = header.attributes.compression().unwrap();
        let section = codec.decompress(batch.records_bytes(), 1 << 20).unwrap();
        let all = records(&section, header.record_count).map(|record| {
            let record = record.unwrap();
            let offset = header.base_offset + i64::from(record.offset_delta);
            let time = header.base_timestamp_ms + record.timestamp_delta_ms;
            (
                offset,
                time,
                record.value.map(<[u8]>::to_vec),
                record.headers.len(),
            )
        });
        all.collect()
    }

    fn filter(bytes: &[u8], keep: impl Fn(i32) -> bool, horizon_ms: Option<i64>) -> Option<Vec<u8>> {
        let batch = parse(bytes);
        let codec = batch.header().attributes.compression().unwrap();
        let section = codec.decompress(batch.records_bytes(), 1 << 20).unwrap();
        let mut filtered = RewrittenBatch::new(batch.header(), horizon_ms).unwrap();
        for record in records(&section, batch.header().record_count).map(Result::unwrap) {
            if keep(record.offset_delta) {
                filtered.push(&record);
                while filtered.step(16) {}
            }
        }
        filtered.finish()
    }

    #[test]
    fn offsets_times_and_the_producers_state_stay_whatever_is_left() {
        for codec in Compression::ALL {
            let bytes = batch(codec);
            for left in 1..16_i32 {
                let kept = filter(&bytes, |delta| left >> delta & 1 == 1, None).unwrap();
                let expected: Vec<_> = all(&bytes)
                    .into_iter()
                    .filter(|(offset, ..)| left >> (offset - 500) & 1 == 1)
                    .collect();
                assert_eq!(all(&kept), expected, "{codec:?} {left:b}");
                let (before, after) = (parse(&bytes), parse(&kept));
                let (before, after) = (before.header(), after.header());
                assert_eq!(after.attributes, before.attributes);
                assert_eq!(after.last_sequence(), before.last_sequence());
                assert_eq!(
                    (
                        after.base_offset,
                        after.last_offset(),
                        after.producer_id,
                        after.base_sequence
                    ),
                    (
                        before.base_offset,
                        before.last_offset(),
                        before.producer_id,
                        before.base_sequence
                    )
                );
                assert_eq!(after.partition_leader_epoch, 3);
                let largest = expected.iter().map(|(_, time, ..)| *time).max();
                assert_eq!(Some(after.max_timestamp_ms), largest);
            }
            assert_eq!(filter(&bytes, |_| false, None), None);
        }
    }

    #[test]
    fn a_step_takes_as_much_as_it_was_asked_for() {
        let bytes = batch(Compression::None);
        let batch = parse(&bytes);
        let mut filtered = RewrittenBatch::new(batch.header(), None).unwrap();
        assert!(!filtered.step(1), "there is nothing");
        for record in records(batch.records_bytes(), batch.header().record_count) {
            filtered.push(&record.unwrap());
        }
        let steps = std::iter::repeat_with(|| filtered.step(10))
            .take_while(|went| *went)
            .count();
        assert_eq!(steps, batch.records_bytes().len() / 10);
        let again = filtered.finish().unwrap();
        assert_eq!(again, bytes, "nothing was left out");
    }

    #[test]
    fn in_another_codec_all_is_as_it_was() {
        for (from, to) in Compression::ALL
            .into_iter()
            .flat_map(|from| Compression::ALL.map(|to| (from, to)))
        {
            let bytes = batch(from);
            let parsed = parse(&bytes);
            let section = from.decompress(parsed.records_bytes(), 1 << 20).unwrap();
            let mut written = RewrittenBatch::recompressed(parsed.header(), to, None, section.len());
            for record in records(&section, parsed.header().record_count) {
                written.push(&record.unwrap());
                while written.step(16) {}
            }
            let least = written.bytes();
            let again = written.finish().unwrap();
            assert!(least <= again.len());
            assert_eq!(all(&again), all(&bytes), "{from:?} to {to:?}");
            let (before, after) = (*parsed.header(), *parse(&again).header());
            let expected = BatchHeader {
                attributes: Attributes::new(to),
                batch_length: after.batch_length,
                crc: after.crc,
                ..before
            };
            assert_eq!(after, expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn a_delete_horizon_is_set_once_and_changes_no_records_time() {
        let bytes = batch(Compression::Lz4);
        let set = filter(&bytes, |_| true, Some(9_000)).unwrap();
        assert_eq!(all(&set), all(&bytes));
        let header = *parse(&set).header();
        assert!(header.attributes.has_delete_horizon());
        assert_eq!(
            (header.base_timestamp_ms, header.max_timestamp_ms),
            (9_000, 1_000)
        );
        let again = filter(&set, |delta| delta > 1, Some(12_000)).unwrap();
        assert_eq!(all(&again), all(&bytes)[2..]);
        assert_eq!(parse(&again).header().base_timestamp_ms, 9_000);
    }

    #[test]
    fn the_brokers_time_stays_the_batchs() {
        let mut bytes = batch(Compression::None);
        assign_log_append_time(&mut bytes, 5_000).unwrap();
        let kept = filter(&bytes, |delta| delta == 1, None).unwrap();
        let header = *parse(&kept).header();
        assert!(header.attributes.is_log_append_time());
        assert_eq!(
            (header.base_timestamp_ms, header.max_timestamp_ms),
            (5_000, 5_000)
        );
        assert_eq!(all(&kept)[0].1, 5_000);
    }

    #[test]
    fn an_emptied_batch_is_a_header() {
        for codec in Compression::ALL {
            let set = filter(&batch(codec), |_| true, Some(9_000)).unwrap();
            let empty = emptied(parse(&set).header());
            assert_eq!(empty.len(), BATCH_HEADER_BYTES);
            assert_eq!(record_batch::batches(&empty).count(), 1);
            let header = *parse(&empty).header();
            assert_eq!(
                (header.base_offset, header.last_offset(), header.record_count),
                (500, 503, 0)
            );
            assert_eq!((header.producer_id, header.last_sequence()), (7, 43));
            assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (-1, 1_000));
            assert_eq!(header.attributes, Attributes::new(Compression::None));
        }
    }
}
