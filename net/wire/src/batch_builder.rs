//! Builds a record batch: what producers do. The broker itself only stores batches.

use crate::compression::Compression;
use crate::primitive::Writer;
use crate::record::{NewRecord, write_length};
use crate::record_batch::{
    Attributes, BATCH_HEADER_BYTES, BATCH_LENGTH_OVERHEAD, BatchHeader, MAGIC_V2, NO_PRODUCER_ID, crc_of,
};

/// The most records that one batch can count.
pub const MAX_RECORDS_PER_BATCH: i32 = i32::MAX;

/// Collects records and closes them into a batch.
///
/// ```
/// use wire::{BatchBuilder, Compression, NewRecord, RecordBatch, records};
///
/// let mut builder = BatchBuilder::new(Compression::Zstd);
/// builder.push(&NewRecord { timestamp_ms: 1_000, value: Some(b"hello"), ..Default::default() });
/// let bytes = builder.build();
///
/// let (batch, rest) = RecordBatch::parse(&bytes)?;
/// batch.verify_crc()?;
/// let opened = Compression::Zstd.decompress(batch.records_bytes(), 1 << 20)?;
/// for record in records(&opened, batch.header().record_count) {
///     assert_eq!(record?.value, Some(&b"hello"[..]));
/// }
/// # assert!(rest.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    records: Writer,
    body: Writer,
}

impl BatchBuilder {
    /// An empty batch of a producer without an id.
    pub fn new(compression: Compression) -> Self {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes::new(compression),
            last_offset_delta: -1,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self {
            header,
            compression,
            records: Writer::flat(),
            body: Writer::flat(),
        }
    }

    /// Makes it a batch of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes it part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes = self.header.attributes.transactional();
        self
    }

    /// Appends a record. The first one's time is the batch's base timestamp.
    pub fn push(&mut self, record: &NewRecord<'_>) {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp_ms = record.timestamp_ms;
            header.max_timestamp_ms = record.timestamp_ms;
        }
        header.max_timestamp_ms = header.max_timestamp_ms.max(record.timestamp_ms);
        assert!(
            header.record_count < MAX_RECORDS_PER_BATCH,
            "a batch's record count is an i32"
        );
        header.last_offset_delta = header.record_count;
        header.record_count += 1;
        let timestamp_delta_ms = record.timestamp_ms.wrapping_sub(header.base_timestamp_ms);
        self.body.clear();
        record.write(&mut self.body, timestamp_delta_ms, header.last_offset_delta);
        write_length(&mut self.records, self.body.len());
        self.records.raw(self.body.as_bytes());
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Bytes so far: those of the batch if it were not compressed.
    pub fn uncompressed_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// The batch. It must have a record.
    pub fn build(mut self) -> Vec<u8> {
        assert!(self.header.record_count > 0, "a producer's batch has a record");
        let section = self.compression.compress(self.records.as_bytes());
        let batch_bytes = BATCH_HEADER_BYTES + section.len();
        self.header.batch_length =
            i32::try_from(batch_bytes - BATCH_LENGTH_OVERHEAD).expect("a batch is smaller than 2 GiB");
        let mut batch = Vec::with_capacity(batch_bytes);
        batch.extend_from_slice(&self.header.encode());
        batch.extend_from_slice(&section);
        self.header.crc = crc_of(&batch);
        batch[..BATCH_HEADER_BYTES].copy_from_slice(&self.header.encode());
        batch
    }
}
