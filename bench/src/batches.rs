//! Batches that are built before the run, so that sending one costs a system call and little else.
//!
//! The bytes of a partition's requests differ in the partition's number only. Each request is made when it is sent, from that of
//! its batch: those of many partitions, kept, would be in memory that is in no cache, and the generator slower the more there are.

use ring::buffer::Slice;
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use wire::{Array, BatchBuilder, Compression, NewRecord, Piece};

/// Batches with different bytes, that requests take in turn: enough that no cache below us learns one by heart.
const BATCHES: u64 = 4;
/// A request of no more bytes is copied when it is sent; of a longer one its head is.
const COPIED_BYTES_MAX: usize = 1_024;
/// Of a partition's number in a request.
const NUMBER_BYTES: usize = size_of::<i32>();

/// What a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// The value of a record, in bytes.
    pub record_bytes: usize,
    /// A batch before compression, in bytes, at most; but at least one record.
    pub batch_bytes_max: usize,
    /// The codec.
    pub compression: Compression,
    /// The time of the records, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// How a produce request is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestShape<'a> {
    /// The version of Produce.
    pub api_version: i16,
    /// 0, 1 or -1.
    pub acks: i16,
    /// How long the broker may wait for replicas, in milliseconds.
    pub timeout_ms: i32,
    /// The topic.
    pub topic: &'a str,
}

/// Batches, all with equally many records.
pub struct Batches {
    records: u64,
    record_bytes: u64,
    batches: Vec<Vec<u8>>,
}

impl Batches {
    /// Builds them.
    pub fn build(shape: BatchShape) -> Batches {
        let records = records_that_fit(shape);
        let batches = (0..BATCHES).map(|number| batch(shape, records, number + 1));
        Batches {
            records,
            record_bytes: shape.record_bytes as u64,
            batches: batches.collect(),
        }
    }

    /// Records of a batch.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of the values in a batch.
    pub fn value_bytes(&self) -> u64 {
        self.records * self.record_bytes
    }

    /// Bytes of a batch, on average, as it travels.
    pub fn wire_bytes(&self) -> u64 {
        let all: usize = self.batches.iter().map(Vec::len).sum();
        (all / self.batches.len()) as u64
    }

    /// The requests of these partitions; large batches are shared by them.
    pub fn requests(&self, shape: RequestShape<'_>, partitions: &[i32]) -> Requests {
        let batches = self.batches.iter().map(|batch| Template::new(shape, batch));
        Requests {
            templates: batches.collect(),
            partitions: partitions.to_vec(),
        }
    }
}

/// Whole requests for some partitions.
pub struct Requests {
    /// By batch.
    templates: Vec<Template>,
    partitions: Vec<i32>,
}

impl Requests {
    /// A request for the partition at this place; `turn` chooses among the batches. Copies no more than [`COPIED_BYTES_MAX`].
    pub fn request(&self, place: usize, turn: u64) -> Vec<Slice> {
        let turn = turn % self.templates.len() as u64;
        let template = &self.templates[usize::try_from(turn).expect("less than a length")];
        template.request(self.partitions[place])
    }
}

/// The requests with a batch.
struct Template {
    /// What they begin with, the number of the partition in it.
    head: Vec<u8>,
    number_at: usize,
    /// What follows that.
    rest: Vec<Slice>,
}

impl Template {
    fn new(shape: RequestShape<'_>, batch: &[u8]) -> Template {
        let batch = Slice::from(batch.to_vec());
        let [slices, others] = [0, -1].map(|partition| pieces(shape, partition, &batch));
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let heads = if bytes <= COPIED_BYTES_MAX {
            slices.len()
        } else {
            1
        };
        let joined = |slices: &[Slice]| {
            slices
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect::<Vec<u8>>()
        };
        let (head, other) = (joined(&slices[..heads]), joined(&others[..heads]));
        let number_at = head.iter().zip(&other).position(|(one, other)| one != other);
        Template {
            head,
            number_at: number_at.expect("requests for two partitions differ"),
            rest: slices[heads..].to_vec(),
        }
    }

    fn request(&self, partition: i32) -> Vec<Slice> {
        let mut head = self.head.clone();
        head[self.number_at..][..NUMBER_BYTES].copy_from_slice(&partition.to_be_bytes());
        let mut slices = Vec::with_capacity(1 + self.rest.len());
        slices.push(head.into());
        slices.extend_from_slice(&self.rest);
        slices
    }
}

fn pieces(shape: RequestShape<'_>, partition: i32, batch: &Slice) -> Vec<Slice> {
    let partitions = [ProducePartition {
        partition,
        records: Some(batch),
    }];
    let topics = [ProduceTopic {
        name: shape.topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ProduceRequest {
        acks: shape.acks,
        timeout_ms: shape.timeout_ms,
        topics: Array::from_slice(&topics),
        ..Default::default()
    };
    let pieces = request.encode_vectored(shape.api_version, 0, Some(crate::CLIENT_ID));
    let slices = pieces.into_iter().map(|piece| match piece {
        Piece::Bytes(bytes) => bytes.into(),
        // The only record data is the batch: share it.
        Piece::Records(_) => batch.clone(),
    });
    slices.collect()
}

/// As many records as a producer with this batch.size would put into a batch.
fn records_that_fit(shape: BatchShape) -> u64 {
    let value = vec![0; shape.record_bytes];
    let mut builder = BatchBuilder::new(Compression::None);
    let mut records = 0;
    loop {
        builder.push(&NewRecord {
            timestamp_ms: shape.timestamp_ms,
            value: Some(&value),
            ..Default::default()
        });
        if records > 0 && builder.uncompressed_bytes() > shape.batch_bytes_max {
            return records;
        }
        records += 1;
    }
}

fn batch(shape: BatchShape, records: u64, seed: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(shape.compression);
    let mut value = vec![0; shape.record_bytes];
    let mut state = seed;
    for _ in 0..records {
        fill(&mut value, &mut state);
        builder.push(&NewRecord {
            timestamp_ms: shape.timestamp_ms,
            value: Some(&value),
            ..Default::default()
        });
    }
    builder.build()
}

/// Printable bytes, 6 bits of chance in each (xorshift64): a codec gains a quarter, as on keys and digests, and no
/// more.
fn fill(bytes: &mut [u8], state: &mut u64) {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    for byte in bytes {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *byte = LETTERS[(*state >> 58) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{ApiKey, RecordBatch, Request, decode_request_header};

    const SHAPE: BatchShape = BatchShape {
        record_bytes: 1_024,
        batch_bytes_max: 16_384,
        compression: Compression::None,
        timestamp_ms: 1_700_000_000_000,
    };

    #[test]
    fn a_batch_is_as_full_as_a_producers() {
        let batches = Batches::build(SHAPE);
        assert_eq!((batches.records(), batches.value_bytes()), (15, 15 * 1_024));
        assert!((15 * 1_024..16_384).contains(&batches.wire_bytes()));
        let small = Batches::build(BatchShape {
            batch_bytes_max: 1,
            ..SHAPE
        });
        assert_eq!(small.records(), 1);
    }

    #[test]
    fn every_request_is_one_that_a_broker_takes() {
        requests_are_taken(SHAPE, 15);
        requests_are_taken(
            BatchShape {
                record_bytes: 100,
                batch_bytes_max: 1,
                ..SHAPE
            },
            1,
        );
    }

    fn requests_are_taken(shape: BatchShape, records: i32) {
        let batches = Batches::build(BatchShape {
            compression: Compression::Lz4,
            ..shape
        });
        for api_version in [3, 8, 9, 11] {
            let shape = RequestShape {
                api_version,
                acks: -1,
                timeout_ms: 30_000,
                topic: "orders",
            };
            let requests = batches.requests(shape, &[3, 70_000]);
            for (place, partition) in [(0, 3), (1, 70_000)] {
                for turn in 0..5 {
                    let frame: Vec<u8> = requests
                        .request(place, turn)
                        .iter()
                        .flat_map(|slice| slice.to_vec())
                        .collect();
                    let length = i32::from_be_bytes(frame[..4].try_into().unwrap());
                    assert_eq!(length as usize, frame.len() - 4);
                    let (header, body) = decode_request_header(&frame[4..]).unwrap();
                    assert_eq!(header.api_key, ApiKey::Produce.code());
                    let request = ProduceRequest::decode(body, header.api_version).unwrap();
                    let topic = request.topics.iter().next().unwrap();
                    let found = topic.partitions.iter().next().unwrap();
                    assert_eq!(
                        (request.acks, topic.name, found.partition),
                        (-1, "orders", partition)
                    );
                    let (batch, rest) = RecordBatch::parse(found.records.unwrap()).unwrap();
                    batch.verify_crc().unwrap();
                    assert_eq!((batch.header().record_count, rest.len()), (records, 0));
                }
            }
        }
    }
}
