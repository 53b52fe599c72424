//! Requests with batches that were built ahead, made when they are sent.
//!
//! The bytes of requests with a batch differ in the number of the partition, and in what an idempotent producer says of itself in the
//! batch's header. Must never look at a batch's records, nor copy more than a little: that would be what is measured.

use ring::buffer::Slice;
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use wire::record_batch::{BATCH_HEADER_BYTES, assign_producer};
use wire::{Array, Piece};

use crate::batches::Batch;
use crate::producer_id::Stamp;
use crate::turns::Turns;

/// A request of no more bytes is copied when it is sent; of a longer one its head is.
const COPIED_BYTES_MAX: usize = 1_024;
/// Slices of a request up to the records of its batch: what is before the batch, and the batch's header.
const HEAD_SLICES: usize = 2;
/// Of a partition's number in a request.
const NUMBER_BYTES: usize = size_of::<i32>();

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

/// Whole requests for some partitions.
pub struct Requests {
    /// By batch: one set that all partitions send, or one for each.
    sets: Vec<Vec<Template>>,
    partitions: Vec<i32>,
    turns: Turns,
}

/// A batch, and the partition that it goes to.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The place of the partition.
    pub place: usize,
    /// Its number.
    pub partition: i32,
    template: &'a Template,
}

impl Requests {
    /// Of batches for these partitions: one set that all send in turn, or one for each.
    pub(crate) fn new(shape: RequestShape<'_>, sets: &[Vec<Batch>], partitions: &[i32]) -> Requests {
        let records: Vec<Vec<u64>> = (sets.iter())
            .map(|set| set.iter().map(|batch| batch.records).collect())
            .collect();
        let templates = |set: &Vec<Batch>| set.iter().map(|batch| Template::new(shape, batch)).collect();
        Requests {
            sets: sets.iter().map(templates).collect(),
            partitions: partitions.to_vec(),
            turns: Turns::new(&records, partitions.len()),
        }
    }

    /// In which order they are sent.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// The batch with this number, from 0 on.
    pub fn outgoing(&self, number: u64) -> Outgoing<'_> {
        let place = self.turns.place(number);
        let set = &self.sets[place % self.sets.len()];
        let turn = self.turns.turn(number) % set.len() as u64;
        Outgoing {
            place,
            partition: self.partitions[place],
            template: &set[usize::try_from(turn).expect("less than a length")],
        }
    }
}

impl Outgoing<'_> {
    /// Its records.
    pub fn records(&self) -> u64 {
        self.template.records
    }

    /// The bytes of their values.
    pub fn value_bytes(&self) -> u64 {
        self.template.value_bytes
    }

    /// The request, of an idempotent producer if there is a stamp. Copies no more than [`COPIED_BYTES_MAX`], and looks at no more.
    pub(crate) fn request(&self, stamp: Option<Stamp>) -> Vec<Slice> {
        self.template.request(self.partition, stamp)
    }
}

/// The requests with a batch.
struct Template {
    /// What they begin with, the number of the partition and the batch's header in it.
    head: Vec<u8>,
    number_at: usize,
    batch_at: usize,
    /// What follows that.
    rest: Vec<Slice>,
    records: u64,
    value_bytes: u64,
}

impl Template {
    fn new(shape: RequestShape<'_>, batch: &Batch) -> Template {
        let [slices, others] = [0, -1].map(|partition| pieces(shape, partition, &batch.bytes));
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let heads = if bytes <= COPIED_BYTES_MAX {
            slices.len()
        } else {
            HEAD_SLICES
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
            batch_at: slices[0].len(),
            rest: slices[heads..].to_vec(),
            records: batch.records,
            value_bytes: batch.value_bytes,
        }
    }

    fn request(&self, partition: i32, stamp: Option<Stamp>) -> Vec<Slice> {
        let mut head = self.head.clone();
        head[self.number_at..][..NUMBER_BYTES].copy_from_slice(&partition.to_be_bytes());
        if let Some(Stamp {
            producer,
            base_sequence,
        }) = stamp
        {
            let header = head[self.batch_at..].first_chunk_mut();
            let header = header.expect("a request's head has the header of its batch");
            assign_producer(header, producer.id, producer.epoch, base_sequence);
        }
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
    let mut slices = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => slices.push(bytes.into()),
            // The only record data is the batch: share it.
            Piece::Records(_) => {
                slices.push(batch.slice(0..BATCH_HEADER_BYTES));
                slices.push(batch.slice(BATCH_HEADER_BYTES..batch.len()));
            }
        }
    }
    slices
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::batches::{BatchShape, Batches};
    use crate::producer_id::ProducerId;
    use crate::record_arguments::RecordSizes;
    use crate::records::RecordShape;
    use wire::{ApiKey, Compression, RecordBatch, Request, decode_request_header};

    pub(crate) const SHAPE: BatchShape = BatchShape {
        records: RecordShape {
            sizes: RecordSizes {
                min: 1_024,
                max: 1_024,
            },
            compressible_percent: 0,
            timestamp_ms: 1_700_000_000_000,
        },
        batch_bytes_max: 16_384,
        compression: Compression::None,
    };
    pub(crate) const REQUEST: RequestShape<'_> = RequestShape {
        api_version: 9,
        acks: -1,
        timeout_ms: 30_000,
        topic: "orders",
    };

    pub(crate) fn with_sizes(min: u32, max: u32) -> BatchShape {
        let records = RecordShape {
            sizes: RecordSizes { min, max },
            ..SHAPE.records
        };
        BatchShape { records, ..SHAPE }
    }

    /// The bytes of a batch, after its request was read as a broker reads it.
    pub(crate) fn sent(outgoing: &Outgoing<'_>, stamp: Option<Stamp>) -> Vec<u8> {
        let slices = outgoing.request(stamp);
        let frame: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let length = i32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - 4);
        let (header, body) = decode_request_header(&frame[4..]).unwrap();
        assert_eq!(header.api_key, ApiKey::Produce.code());
        let request = ProduceRequest::decode(body, header.api_version).unwrap();
        let topic = request.topics.iter().next().unwrap();
        let found = topic.partitions.iter().next().unwrap();
        assert_eq!(
            (request.acks, topic.name, found.partition),
            (-1, "orders", outgoing.partition)
        );
        let (batch, rest) = RecordBatch::parse(found.records.unwrap()).unwrap();
        batch.verify_crc().unwrap();
        assert!(rest.is_empty());
        assert_eq!(batch.header().record_count as u64, outgoing.records());
        batch.bytes().to_vec()
    }

    #[test]
    fn a_stamp_changes_producer_and_sequence_and_nothing_else() {
        for record_bytes in [10, 1_024] {
            for batch_bytes_max in [1, 16_384] {
                let shape = BatchShape {
                    batch_bytes_max,
                    ..with_sizes(record_bytes, record_bytes)
                };
                let requests = Batches::build(shape, None).requests(REQUEST, &[5], 1);
                for (number, base_sequence) in [(0, 0), (1, i32::MAX), (4, 77)] {
                    let producer = ProducerId {
                        id: 1 << 40,
                        epoch: 9,
                    };
                    let stamp = Stamp {
                        producer,
                        base_sequence,
                    };
                    let outgoing = requests.outgoing(number);
                    let (plain, stamped) = (sent(&outgoing, None), sent(&outgoing, Some(stamp)));
                    let mut header = *RecordBatch::parse(&stamped).unwrap().0.header();
                    assert_eq!(
                        (header.producer_id, header.producer_epoch, header.base_sequence),
                        (1 << 40, 9, base_sequence)
                    );
                    let unstamped = RecordBatch::parse(&plain).unwrap().0;
                    (header.producer_id, header.producer_epoch, header.base_sequence) = (-1, -1, -1);
                    header.crc = unstamped.header().crc;
                    assert_eq!(header, *unstamped.header());
                    assert_eq!(stamped[BATCH_HEADER_BYTES..], plain[BATCH_HEADER_BYTES..]);
                }
            }
        }
    }

    #[test]
    fn every_request_is_one_that_a_broker_takes() {
        let one = BatchShape {
            batch_bytes_max: 1,
            ..with_sizes(100, 100)
        };
        for (shape, records) in [(SHAPE, 15), (one, 1)] {
            let compression = Compression::Lz4;
            let batches = Batches::build(BatchShape { compression, ..shape }, None);
            for api_version in [3, 8, 9, 11] {
                let requests = batches.requests(
                    RequestShape {
                        api_version,
                        ..REQUEST
                    },
                    &[3, 70_000],
                    2,
                );
                for number in 0..10 {
                    let outgoing = requests.outgoing(number);
                    assert_eq!(outgoing.partition, [3, 70_000][number as usize % 2]);
                    assert_eq!(outgoing.records(), records);
                    sent(&outgoing, None);
                }
            }
        }
    }
}
