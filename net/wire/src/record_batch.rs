//! The header of a record batch, format 2: 61 bytes, then the records, perhaps compressed.
//!
//! ```text
//!  0  i64  base offset             what the broker writes; the CRC does not cover it
//!  8  i32  batch length            bytes after this field: 49 and the records
//! 12  i32  partition leader epoch  what the broker writes; the CRC does not cover it
//! 16  i8   magic                   2
//! 17  u32  crc                     CRC-32C of all that follows
//! 21  i16  attributes              bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//! 23  i32  last offset delta
//! 27  i64  base timestamp          or the delete horizon, when attributes say so
//! 35  i64  max timestamp
//! 43  i64  producer id             -1: none
//! 51  i16  producer epoch
//! 53  i32  base sequence
//! 57  i32  record count
//! ```
//! Promises: parsing is bounded by the bytes given and allocates nothing. Whether the numbers make sense together is
//! the log's to decide. Source: Kafka's documentation, "Message Format".

use std::ops::Range;

use crate::compression::Compression;
use crate::crc::{crc32c, crc32c_append, crc32c_between, crc32c_of_both};
use crate::primitive::sequence;

/// Bytes of the header.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes that `batch_length` does not count: itself and the base offset.
pub const BATCH_LENGTH_OVERHEAD: usize = 12;
/// The only format that Kafka 4 writes or takes.
pub const MAGIC_V2: i8 = 2;
/// "No producer id" (and no transaction, no deduplication).
pub const NO_PRODUCER_ID: i64 = -1;

const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where the bytes that the CRC covers begin.
const CRC_COVERS_FROM: usize = 21;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;

/// Why bytes are not a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("a record batch of {needed} bytes is cut short: {remaining} bytes are left")]
    Short {
        /// Bytes that the batch (or as much of its header as must be seen first) takes.
        needed: usize,
        /// Bytes that were there.
        remaining: usize,
    },
    /// The length is less than a header.
    #[error("a record batch claims a length of {batch_length}, less than its own header")]
    Length {
        /// The length field.
        batch_length: i32,
    },
    /// An old message format, or none.
    #[error("message format {magic} is not supported: only format 2 is")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// The bytes are not those that the checksum was taken of.
    #[error("a record batch is corrupt: its CRC-32C says {stored:#010x}, its bytes give {computed:#010x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
}

/// The attributes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

impl Attributes {
    /// Attributes of a plain batch with this codec.
    pub const fn new(compression: Compression) -> Self {
        Self(compression as i16)
    }

    /// With the transactional bit.
    #[must_use]
    pub const fn transactional(self) -> Self {
        Self(self.0 | TRANSACTIONAL)
    }

    /// With the control bit.
    #[must_use]
    pub const fn control(self) -> Self {
        Self(self.0 | CONTROL)
    }

    /// With the timestamp type LogAppendTime.
    #[must_use]
    pub const fn log_append_time(self) -> Self {
        Self(self.0 | LOG_APPEND_TIME)
    }

    /// With the bit that says that the base timestamp is a delete horizon (KIP-534).
    #[must_use]
    pub const fn with_delete_horizon(self) -> Self {
        Self(self.0 | DELETE_HORIZON)
    }

    /// The same of a batch in another codec.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !CODEC_MASK | compression as i16)
    }

    /// Of a batch without records: no codec, and no delete horizon.
    #[must_use]
    pub(crate) const fn emptied(self) -> Self {
        Self(self.0 & !(CODEC_MASK | DELETE_HORIZON))
    }

    /// The codec, `None` for a number that Kafka has not given out.
    #[inline]
    pub const fn compression(self) -> Option<Compression> {
        Compression::from_code(self.0 & CODEC_MASK)
    }

    /// Whether the max timestamp is the broker's time of appending, and so each record's.
    #[inline]
    pub const fn is_log_append_time(self) -> bool {
        self.0 & LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether the batch holds a marker of the broker's, not records of a client's.
    #[inline]
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp is the time from which compaction may drop the batch's tombstones.
    #[inline]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }
}

/// The fields of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "drawn at the head of this file")]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the fields, whatever they say.
    #[inline]
    pub fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length: i32::from_be_bytes(field(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            magic: i8::from_be_bytes(field(bytes, MAGIC_AT)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp_ms: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp_ms: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        }
    }

    /// The bytes of the fields, the CRC as it stands in `self`.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        put(&mut bytes, 0, self.base_offset.to_be_bytes());
        put(&mut bytes, 8, self.batch_length.to_be_bytes());
        put(&mut bytes, 12, self.partition_leader_epoch.to_be_bytes());
        put(&mut bytes, MAGIC_AT, self.magic.to_be_bytes());
        put(&mut bytes, CRC_AT, self.crc.to_be_bytes());
        put(&mut bytes, ATTRIBUTES_AT, self.attributes.0.to_be_bytes());
        put(&mut bytes, 23, self.last_offset_delta.to_be_bytes());
        put(&mut bytes, 27, self.base_timestamp_ms.to_be_bytes());
        put(&mut bytes, MAX_TIMESTAMP_AT, self.max_timestamp_ms.to_be_bytes());
        put(&mut bytes, 43, self.producer_id.to_be_bytes());
        put(&mut bytes, 51, self.producer_epoch.to_be_bytes());
        put(&mut bytes, 53, self.base_sequence.to_be_bytes());
        put(&mut bytes, 57, self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch. Meaningful for a batch that was parsed.
    #[inline]
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0) + BATCH_LENGTH_OVERHEAD
    }

    /// The offset of the last record (also when compaction has removed it).
    #[inline]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    #[inline]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Whether the producer is idempotent.
    #[inline]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The sequence number of the last record.
    #[inline]
    pub fn last_sequence(&self) -> i32 {
        sequence::add(self.base_sequence, self.last_offset_delta)
    }
}

/// One batch, whole: as many bytes as its length says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// The batch at the front of `bytes`, and what follows it. Length and magic are checked; the CRC is not.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let remaining = bytes.len();
        // An old message set is shorter than our header: say so, rather than "short".
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic != MAGIC_V2 as u8
        {
            return Err(BatchError::Magic { magic: magic as i8 });
        }
        let Some(header) = bytes.first_chunk() else {
            return Err(BatchError::Short {
                needed: BATCH_HEADER_BYTES,
                remaining,
            });
        };
        let header = BatchHeader::decode(header);
        if header.batch_length < (BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Length {
                batch_length: header.batch_length,
            });
        }
        match bytes.split_at_checked(header.batch_bytes()) {
            Some((bytes, rest)) => Ok((Self { header, bytes }, rest)),
            None => Err(BatchError::Short {
                needed: header.batch_bytes(),
                remaining,
            }),
        }
    }

    /// The header's fields.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, compressed with the header's codec.
    #[inline]
    pub fn records_bytes(&self) -> &'a [u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// Compares the CRC with the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc_of(self.bytes);
        let stored = self.header.crc;
        if computed == stored {
            Ok(())
        } else {
            Err(BatchError::Crc { stored, computed })
        }
    }
}

/// The batches in `bytes`, one after the other. The first error ends it; no bytes left end it without one.
pub fn batches(bytes: &[u8]) -> impl Iterator<Item = Result<RecordBatch<'_>, BatchError>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        Some(RecordBatch::parse(bytes).map(|(batch, tail)| {
            rest = Some(tail);
            batch
        }))
    })
}

/// Numbers a batch: its base offset and its leader epoch, neither of which the CRC covers.
#[inline]
pub fn assign_offset(header: &mut [u8; BATCH_HEADER_BYTES], base_offset: i64, partition_leader_epoch: i32) {
    put(header, 0, base_offset.to_be_bytes());
    put(header, 12, partition_leader_epoch.to_be_bytes());
}

/// Makes the batch with this header one of an idempotent producer, or of another one: id, epoch and base sequence, and the CRC
/// anew from the one that it carries, which must hold. The records are not looked at: what it costs does not depend on them.
pub fn assign_producer(
    header: &mut [u8; BATCH_HEADER_BYTES],
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) {
    let covered_before = crc32c(&header[CRC_COVERS_FROM..]);
    put(header, PRODUCER_ID_AT, producer_id.to_be_bytes());
    put(header, PRODUCER_EPOCH_AT, producer_epoch.to_be_bytes());
    put(header, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
    let covered = crc32c(&header[CRC_COVERS_FROM..]);
    let whole = BatchHeader::decode(header);
    let records_bytes = whole.batch_bytes().saturating_sub(BATCH_HEADER_BYTES);
    // The records' share of a CRC is the same behind either header: what differs is the headers' share.
    let crc = crc32c_of_both(covered_before ^ covered, whole.crc, records_bytes);
    put(header, CRC_AT, crc.to_be_bytes());
}

/// Stamps a whole batch with the broker's time, as topics with LogAppendTime ask: the attribute, the max timestamp,
/// and the CRC over all of it anew. Fails when `batch` is shorter than a header.
pub fn assign_log_append_time(batch: &mut [u8], time_ms: i64) -> Result<(), BatchError> {
    let remaining = batch.len();
    let Some(header) = batch.first_chunk_mut::<BATCH_HEADER_BYTES>() else {
        return Err(BatchError::Short {
            needed: BATCH_HEADER_BYTES,
            remaining,
        });
    };
    let attributes = Attributes(i16::from_be_bytes(field(header, ATTRIBUTES_AT))).log_append_time();
    put(header, ATTRIBUTES_AT, attributes.0.to_be_bytes());
    put(header, MAX_TIMESTAMP_AT, time_ms.to_be_bytes());
    let crc = crc_of(batch);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// The CRC-32C that a whole batch should carry.
pub(crate) fn crc_of(batch: &[u8]) -> u32 {
    crc32c(batch.get(CRC_COVERS_FROM..).unwrap_or_default())
}

/// The CRC-32C of some bytes of a batch whose own CRC is known to hold: if they are most of a large one, from that, without
/// looking at them.
///
/// # Panics
/// If the batch has fewer bytes.
pub fn crc_of_range(batch: &[u8], range: Range<usize>) -> u32 {
    /// Fewer are looked at in the time that it takes to do without.
    const BYTES_MIN: usize = 32 << 10;
    let head = range.start..range.start.max(CRC_COVERS_FROM.min(range.end));
    let rest = head.end..range.end;
    let others = (rest.start.saturating_sub(CRC_COVERS_FROM)) + (batch.len() - rest.end);
    let header = batch.first_chunk::<BATCH_HEADER_BYTES>();
    let Some(header) = header.filter(|_| rest.len() >= BYTES_MIN.max(2 * others)) else {
        return crc32c(&batch[range]);
    };
    let own = u32::from_be_bytes(field(header, CRC_AT));
    let (before, after) = (&batch[CRC_COVERS_FROM..rest.start], &batch[rest.end..]);
    let crc = crc32c_between(own, before, rest.len(), after);
    let crc = crc32c_of_both(crc32c(&batch[head]), crc, rest.len());
    debug_assert_eq!(crc, crc32c(&batch[range]), "the batch's CRC does not hold");
    crc
}

/// The CRC-32C that a whole batch should carry, of its bytes in consecutive parts.
pub fn crc_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut skipped = CRC_COVERS_FROM;
    let mut crc = 0;
    for part in parts {
        let (not_covered, covered) = part.split_at(skipped.min(part.len()));
        skipped -= not_covered.len();
        crc = crc32c_append(crc, covered);
    }
    crc
}

#[inline]
fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

#[inline]
fn put<const N: usize>(bytes: &mut [u8; BATCH_HEADER_BYTES], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_builder::BatchBuilder;
    use crate::record::NewRecord;

    fn batch(records: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::Lz4).producer(7, 1, i32::MAX - 1);
        for index in 0..records {
            builder.push(&NewRecord {
                timestamp_ms: 100 - index,
                value: Some(b"value"),
                ..Default::default()
            });
        }
        builder.build()
    }

    #[test]
    fn that_of_a_range_is_that_of_its_bytes_however_it_is_found() {
        let mut builder = BatchBuilder::new(Compression::None);
        let value: Vec<u8> = (0..100_000u64).map(|at| (at * at / 13) as u8).collect();
        builder.push(&NewRecord {
            value: Some(&value),
            ..NewRecord::default()
        });
        let mut bytes = builder.build();
        // What no CRC covers may be changed.
        bytes[..8].fill(0x5a);
        let end = bytes.len();
        for (from, to) in [
            (0, end),
            (0, 21),
            (3, 70_000),
            (20, end - 1),
            (21, end),
            (22, 90_000),
            (4_000, 40_000),
            (60_000, end),
            (0, 33_000),
            (end, end),
        ] {
            assert_eq!(
                crc_of_range(&bytes, from..to),
                crc32c(&bytes[from..to]),
                "{from}..{to}"
            );
        }
    }

    #[test]
    fn the_crc_is_the_same_wherever_a_batch_is_cut() {
        let bytes = batch(3);
        for first in 0..bytes.len() {
            for second in [first, first + 1, bytes.len()] {
                let second = second.min(bytes.len());
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(crc_of_parts(parts), crc_of(&bytes), "{first} {second}");
            }
        }
    }

    #[test]
    fn a_built_batch_says_what_was_put_in() {
        let bytes = batch(3);
        let (batch, rest) = RecordBatch::parse(&bytes).unwrap();
        assert!(rest.is_empty());
        batch.verify_crc().unwrap();
        let header = batch.header();
        assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
        assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (100, 100));
        assert_eq!(
            (header.producer_id, header.producer_epoch, header.last_sequence()),
            (7, 1, 0)
        );
        assert_eq!(header.attributes.compression(), Some(Compression::Lz4));
        assert_eq!(header.batch_bytes(), bytes.len());
        assert_eq!(header.encode(), bytes[..BATCH_HEADER_BYTES]);
    }

    #[test]
    fn numbering_leaves_the_crc_alone_and_stamping_renews_it() {
        let mut bytes = batch(2);
        assign_offset(bytes.first_chunk_mut().unwrap(), 41, 5);
        let (numbered, _) = RecordBatch::parse(&bytes).unwrap();
        numbered.verify_crc().unwrap();
        assert_eq!(
            (numbered.header().base_offset, numbered.header().next_offset()),
            (41, 43)
        );
        assert_eq!(numbered.header().partition_leader_epoch, 5);

        assign_log_append_time(&mut bytes, 777).unwrap();
        let (stamped, _) = RecordBatch::parse(&bytes).unwrap();
        stamped.verify_crc().unwrap();
        assert!(stamped.header().attributes.is_log_append_time());
        assert_eq!(stamped.header().max_timestamp_ms, 777);
        assert_eq!(stamped.header().attributes.compression(), Some(Compression::Lz4));
        assert!(assign_log_append_time(&mut bytes[..60], 1).is_err());
    }

    #[test]
    fn a_batch_may_be_given_another_producer_and_another_sequence() {
        for records in [1, 2, 3, 50, 5_000] {
            let mut bytes = batch(records);
            for (producer_id, epoch, sequence) in [(i64::MAX, i16::MAX, 0), (0, 0, i32::MAX), (-1, -1, -1)] {
                assign_producer(bytes.first_chunk_mut().unwrap(), producer_id, epoch, sequence);
                let (assigned, _) = RecordBatch::parse(&bytes).unwrap();
                assigned.verify_crc().unwrap();
                let header = assigned.header();
                assert_eq!(
                    (header.producer_id, header.producer_epoch, header.base_sequence),
                    (producer_id, epoch, sequence)
                );
            }
            assign_producer(bytes.first_chunk_mut().unwrap(), 7, 1, i32::MAX - 1);
            assert_eq!(bytes, batch(records));
        }
    }

    #[test]
    fn a_flipped_bit_fails_the_crc() {
        let good = batch(1);
        for at in CRC_AT..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            let (flipped, _) = RecordBatch::parse(&bytes).unwrap();
            assert!(
                matches!(flipped.verify_crc(), Err(BatchError::Crc { .. })),
                "byte {at}"
            );
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_named() {
        let two = [batch(1), batch(2)].concat();
        let read: Vec<_> = batches(&two).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].unwrap().header().record_count, 2);
        for cut in 1..two.len() {
            let error = batches(&two[..cut]).find_map(Result::err);
            let whole = cut == batch(1).len();
            assert!(matches!(error, Some(BatchError::Short { .. })) != whole, "{cut}");
        }
        let mut bytes = batch(1);
        bytes[MAGIC_AT] = 1;
        assert_eq!(RecordBatch::parse(&bytes), Err(BatchError::Magic { magic: 1 }));
        assert_eq!(
            RecordBatch::parse(&bytes[..20]),
            Err(BatchError::Magic { magic: 1 })
        );
        for batch_length in [i32::MIN, -1, 0, 48] {
            let mut bytes = batch(1);
            bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
            assert_eq!(
                RecordBatch::parse(&bytes),
                Err(BatchError::Length { batch_length })
            );
        }
        let mut bytes = batch(1);
        bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(matches!(
            RecordBatch::parse(&bytes),
            Err(BatchError::Short { .. })
        ));
    }
}
