//! A checkpoint as bytes: see `docs/formats.md`. Pure.
//!
//! It is written piece by piece, so that a shard with many partitions neither needs memory for all of it nor stands still meanwhile;
//! what must be known of all the pieces is in the first block, which is written last.

use super::{Checkpoint, Head, PartitionCheckpoint, SegmentCheckpoint};
use crate::id::TopicPartition;
use crate::index::{self, TimeEntry};
use crate::journal::superblock::ReplayStart;
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::{ProducerBatch, SavedProducer};

const MAGIC: u32 = 0x4d4c_4350; // "MLCP"
const VERSION: u32 = 4;
/// One CRC over all of it, the body behind the header's fields, and without what is not in the index files. It is still read.
const VERSION_IN_ONE: u32 = 3;
/// Without what compaction needs, too: generations of segments, and how far logs are clean. It is still read.
const VERSION_WITHOUT_GENERATIONS: u32 = 2;
/// Without times, too: of the checkpoint, and of segments. It is still read.
const VERSION_WITHOUT_TIMES: u32 = 1;
/// Bytes of the first block, which has the header. The body begins behind it, and what is behind the body ends with a block
/// of this size.
pub(super) const BLOCK_BYTES: usize = 4_096;

/// The body of a checkpoint that is being written.
pub(super) struct Body {
    waiting: Writer,
    bytes: u64,
    crc: u32,
}

impl Body {
    /// Of a checkpoint of so many partitions.
    pub(super) fn new(partitions: usize) -> Body {
        let mut waiting = Writer(Vec::new());
        waiting.length(partitions);
        Body {
            waiting,
            bytes: 0,
            crc: 0,
        }
    }

    pub(super) fn add(&mut self, partition: &PartitionCheckpoint) {
        encode_partition(&mut self.waiting, partition);
    }

    /// Bytes that were added and not taken.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.0.len()
    }

    /// Takes the next bytes, as many as there are or fit. How many they are.
    pub(super) fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.waiting());
        to[..count].copy_from_slice(&self.waiting.0[..count]);
        self.waiting.0.drain(..count);
        self.crc = wire::crc32c_append(self.crc, &to[..count]);
        self.bytes += count as u64;
        count
    }

    /// The first block, when all of the body was taken.
    pub(super) fn first_block(&self, head: &Head, to: &mut [u8]) {
        assert_eq!((self.waiting(), to.len()), (0, BLOCK_BYTES));
        let mut block = Writer(Vec::with_capacity(BLOCK_BYTES));
        block.put(&MAGIC.to_le_bytes());
        block.put(&VERSION.to_le_bytes());
        block.put(&head.replay.previous_crc.to_le_bytes());
        block.put(&head.generation.to_le_bytes());
        block.put(&head.journal_id.to_le_bytes());
        block.put(&head.replay.seq.to_le_bytes());
        block.put(&head.replay.position.to_le_bytes());
        block.put(&head.time_ms.to_le_bytes());
        block.put(&self.bytes.to_le_bytes());
        block.put(&self.crc.to_le_bytes());
        to.fill(0);
        to[4..][..block.0.len()].copy_from_slice(&block.0);
        let crc = wire::crc32c(&to[4..]);
        to[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

fn encode_partition(to: &mut Writer, partition: &PartitionCheckpoint) {
    to.put(&partition.id.topic_id.to_le_bytes());
    to.put(&partition.id.partition.to_le_bytes());
    to.bytes(partition.topic.as_bytes());
    to.put(&partition.owner_epoch.to_le_bytes());
    to.put(&partition.log_start_offset.to_le_bytes());
    to.put(&partition.next_offset.to_le_bytes());
    to.length(partition.segments.len());
    for segment in &partition.segments {
        to.put(&segment.base_offset.to_le_bytes());
        to.put(&segment.length.to_le_bytes());
        to.put(&u32::from(segment.is_sealed).to_le_bytes());
        to.put(&segment.index_entries.to_le_bytes());
        to.put(&segment.time_entries.to_le_bytes());
        to.put(&segment.max_timestamp_ms.to_le_bytes());
        to.put(&segment.max_timestamp_offset.to_le_bytes());
        to.put(&segment.bytes_since_entry.to_le_bytes());
        to.put(&segment.first_timestamp_ms.to_le_bytes());
        to.put(&segment.begun_ms.to_le_bytes());
        to.put(&segment.appended_ms.to_le_bytes());
        to.put(&segment.generation.to_le_bytes());
        let newest = segment.newest_time;
        to.put(&newest.map_or(-1, |entry| entry.timestamp_ms).to_le_bytes());
        to.put(&newest.map_or(0, |entry| entry.relative_offset).to_le_bytes());
    }
    to.bytes(&partition.partial);
    to.length(partition.leader_epochs.starts.len());
    for (epoch, start) in &partition.leader_epochs.starts {
        to.put(&epoch.to_le_bytes());
        to.put(&start.to_le_bytes());
    }
    to.length(partition.producers.len());
    for producer in &partition.producers {
        to.put(&producer.id.to_le_bytes());
        to.put(&producer.epoch.to_le_bytes());
        to.length(producer.batches.len());
        for batch in &producer.batches {
            to.put(&batch.first_sequence.to_le_bytes());
            to.put(&batch.last_sequence.to_le_bytes());
            to.put(&batch.base_offset.to_le_bytes());
            to.put(&batch.last_offset.to_le_bytes());
            to.put(&batch.timestamp_ms.to_le_bytes());
        }
    }
    to.put(&partition.cleaned_to.to_le_bytes());
    to.bytes(&index::encode_offsets(&partition.offsets));
    to.bytes(&index::encode_times(&partition.times));
}

/// `None` for anything that was not written as one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let mut from = Reader(bytes);
    let crc = from.u32()?;
    if from.u32()? != MAGIC {
        return None;
    }
    let version = from.u32()?;
    if !(VERSION_WITHOUT_TIMES..=VERSION).contains(&version) {
        return None;
    }
    let is_in_one = version <= VERSION_IN_ONE;
    let covered = if is_in_one { bytes.len() } else { BLOCK_BYTES };
    if wire::crc32c(bytes.get(4..covered)?) != crc {
        return None;
    }
    let previous_crc = from.u32()?;
    let generation = from.u64()?;
    let journal_id = from.u128()?;
    let replay = ReplayStart {
        seq: from.u64()?,
        position: from.u64()?,
        previous_crc,
    };
    let time_ms = match version {
        VERSION_WITHOUT_TIMES => 0,
        _ => from.i64()?,
    };
    let body_bytes = usize::try_from(from.u64()?).ok()?;
    if !is_in_one {
        let body_crc = from.u32()?;
        let (body, padding) = bytes.get(BLOCK_BYTES..)?.split_at_checked(body_bytes)?;
        let is_padding = padding.len() < BLOCK_BYTES && padding.iter().all(|byte| *byte == 0);
        if !is_padding || !bytes.len().is_multiple_of(BLOCK_BYTES) || wire::crc32c(body) != body_crc {
            return None;
        }
        from = Reader(body);
    } else if body_bytes != from.0.len() {
        return None;
    }
    let partitions = from.list(|from| decode_partition(from, version))?;
    let head = Head {
        generation,
        journal_id,
        replay,
        time_ms,
    };
    from.0.is_empty().then_some(Checkpoint { head, partitions })
}

fn decode_partition(from: &mut Reader<'_>, version: u32) -> Option<PartitionCheckpoint> {
    Some(PartitionCheckpoint {
        id: TopicPartition {
            topic_id: from.u128()?,
            partition: from.i32()?,
        },
        topic: String::from_utf8(from.bytes()?.to_vec()).ok()?,
        owner_epoch: from.u32()?,
        log_start_offset: from.i64()?,
        next_offset: from.i64()?,
        segments: from.list(|from| decode_segment(from, version))?,
        partial: from.bytes()?.to_vec(),
        leader_epochs: LeaderEpochs {
            starts: from.list(|from| Some((from.i32()?, from.i64()?)))?,
        },
        producers: from.list(decode_producer)?,
        cleaned_to: match version {
            ..=VERSION_WITHOUT_GENERATIONS => 0,
            _ => from.i64()?,
        },
        offsets: match version {
            ..=VERSION_IN_ONE => Vec::new(),
            _ => index::offset_entries(from.bytes()?).collect(),
        },
        times: match version {
            ..=VERSION_IN_ONE => Vec::new(),
            _ => index::time_entries(from.bytes()?).collect(),
        },
    })
}

fn decode_segment(from: &mut Reader<'_>, version: u32) -> Option<SegmentCheckpoint> {
    let mut segment = SegmentCheckpoint {
        base_offset: from.i64()?,
        length: from.u32()?,
        is_sealed: from.u32()? != 0,
        index_entries: from.u32()?,
        time_entries: from.u32()?,
        max_timestamp_ms: from.i64()?,
        max_timestamp_offset: from.u32()?,
        bytes_since_entry: from.u32()?,
        ..SegmentCheckpoint::default()
    };
    if version > VERSION_WITHOUT_TIMES {
        segment.first_timestamp_ms = from.i64()?;
        segment.begun_ms = from.i64()?;
        segment.appended_ms = from.i64()?;
    } else {
        segment.first_timestamp_ms = segment.max_timestamp_ms;
    }
    if version > VERSION_WITHOUT_GENERATIONS {
        segment.generation = from.u32()?;
    }
    let newest = match version {
        // It may be a later entry than the last one there is: the index is a little less exact then.
        ..=VERSION_IN_ONE => (segment.max_timestamp_ms, segment.max_timestamp_offset),
        _ => (from.i64()?, from.u32()?),
    };
    segment.newest_time = (newest.0 >= 0).then_some(TimeEntry {
        timestamp_ms: newest.0,
        relative_offset: newest.1,
    });
    Some(segment)
}

fn decode_producer(from: &mut Reader<'_>) -> Option<SavedProducer> {
    Some(SavedProducer {
        id: from.i64()?,
        epoch: i16::from_le_bytes(from.take()?),
        batches: from.list(|from| {
            Some(ProducerBatch {
                first_sequence: from.i32()?,
                last_sequence: from.i32()?,
                base_offset: from.i64()?,
                last_offset: from.i64()?,
                timestamp_ms: from.i64()?,
            })
        })?,
    })
}

/// All of a checkpoint at once.
#[cfg(any(test, fuzzing))]
fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut body = Body::new(checkpoint.partitions.len());
    for partition in &checkpoint.partitions {
        body.add(partition);
    }
    let mut bytes = vec![0; (BLOCK_BYTES + body.waiting()).next_multiple_of(BLOCK_BYTES)];
    body.take(&mut bytes[BLOCK_BYTES..]);
    body.first_block(&checkpoint.head, &mut bytes[..BLOCK_BYTES]);
    bytes
}

/// Gives bytes the CRCs that they need to be believed, whatever they say.
#[cfg(any(test, fuzzing))]
fn seal(bytes: &mut [u8]) {
    const LENGTH_AT: usize = 64;
    const BODY_CRC_AT: usize = 72;
    if bytes.len() < BLOCK_BYTES || bytes[8..12] != VERSION.to_le_bytes() {
        if let Some((crc, covered)) = bytes.split_first_chunk_mut() {
            *crc = wire::crc32c(covered).to_le_bytes();
        }
        return;
    }
    let length = Reader(&bytes[LENGTH_AT..]).u64().map(usize::try_from);
    if let Some(Ok(length)) = length
        && let Some(body) = bytes[BLOCK_BYTES..].get(..length)
    {
        let crc = wire::crc32c(body).to_le_bytes();
        bytes[BODY_CRC_AT..][..4].copy_from_slice(&crc);
    }
    let crc = wire::crc32c(&bytes[4..BLOCK_BYTES]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

/// For the fuzz target: whatever is read is written, and read as the same. What is `laid_out` is the header's fields and the
/// body behind them, and comes to its place first.
#[cfg(fuzzing)]
pub(crate) fn read_and_write_again(bytes: &[u8], laid_out: bool, sealed: bool) {
    const FIELDS_BYTES: usize = 76;
    let mut bytes = bytes.to_vec();
    if laid_out && let Some((fields, body)) = bytes.split_at_checked(FIELDS_BYTES) {
        let mut file = vec![0; (BLOCK_BYTES + body.len()).next_multiple_of(BLOCK_BYTES)];
        file[..FIELDS_BYTES].copy_from_slice(fields);
        file[4..12].copy_from_slice(&[MAGIC.to_le_bytes(), VERSION.to_le_bytes()].concat());
        file[64..72].copy_from_slice(&(body.len() as u64).to_le_bytes());
        file[BLOCK_BYTES..][..body.len()].copy_from_slice(body);
        bytes = file;
    }
    if sealed {
        seal(&mut bytes);
    }
    if let Some(checkpoint) = decode(&bytes) {
        assert_eq!(decode(&encode(&checkpoint)), Some(checkpoint));
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        self.put(&(length as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.put(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// An item takes at least 8 bytes, so that a count cannot ask for more than the file's size.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.u64()?).ok()?;
        if count > self.0.len() / 8 {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::IndexEntry;

    fn checkpoint() -> Checkpoint {
        let batch = ProducerBatch {
            first_sequence: 4,
            last_sequence: 6,
            base_offset: 97,
            last_offset: 99,
            timestamp_ms: 1_700_000_000_000,
        };
        let producer = SavedProducer {
            id: 9,
            epoch: 2,
            batches: vec![batch],
        };
        let time = TimeEntry {
            timestamp_ms: 5,
            relative_offset: 6,
        };
        let partition = PartitionCheckpoint {
            id: TopicPartition {
                topic_id: 77,
                partition: 5,
            },
            topic: "orders".into(),
            owner_epoch: 1,
            log_start_offset: 3,
            next_offset: 100,
            segments: vec![SegmentCheckpoint {
                base_offset: 3,
                length: 9_000,
                is_sealed: false,
                index_entries: 2,
                time_entries: 1,
                max_timestamp_ms: 5,
                max_timestamp_offset: 6,
                bytes_since_entry: 7,
                first_timestamp_ms: 4,
                begun_ms: 1_700_000_000_000,
                appended_ms: 1_700_000_000_500,
                generation: 8,
                newest_time: Some(time),
            }],
            partial: vec![1, 2, 3],
            leader_epochs: LeaderEpochs {
                starts: vec![(0, 3), (4, 50)],
            },
            producers: vec![producer],
            cleaned_to: 60,
            offsets: vec![IndexEntry {
                relative_offset: 90,
                position: 8_000,
            }],
            times: vec![time],
        };
        let head = Head {
            generation: 12,
            journal_id: u128::MAX / 3,
            replay: ReplayStart {
                seq: 400,
                position: 8_192,
                previous_crc: 0xfeed,
            },
            time_ms: 1_700_000_000_999,
        };
        Checkpoint {
            head,
            partitions: vec![partition, PartitionCheckpoint::default()],
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was_written() {
        assert_eq!(decode(&encode(&checkpoint())), Some(checkpoint()));
        let empty = Checkpoint::default();
        assert_eq!(decode(&encode(&empty)), Some(empty));
    }

    /// The bytes that an older version wrote.
    fn encode_as(version: u32, checkpoint: &Checkpoint) -> Vec<u8> {
        let mut body = Writer(Vec::new());
        body.length(checkpoint.partitions.len());
        for partition in &checkpoint.partitions {
            body.put(&encode_partition_as(version, partition));
        }
        let bytes = encode(checkpoint);
        let mut old = bytes[..if version == VERSION_WITHOUT_TIMES { 56 } else { 64 }].to_vec();
        old.extend((body.0.len() as u64).to_le_bytes());
        old.extend(body.0);
        old[8..12].copy_from_slice(&version.to_le_bytes());
        let crc = wire::crc32c(&old[4..]);
        old[..4].copy_from_slice(&crc.to_le_bytes());
        old
    }

    /// Of a partition with a segment at most.
    fn encode_partition_as(version: u32, partition: &PartitionCheckpoint) -> Vec<u8> {
        let mut to = Writer(Vec::new());
        encode_partition(&mut to, partition);
        let mut bytes = to.0;
        let unwritten = 8 + 8 * partition.offsets.len() + 8 + 12 * partition.times.len();
        let clean = if version < VERSION_IN_ONE { 8 } else { 0 };
        bytes.truncate(bytes.len() - unwritten - clean);
        if !partition.segments.is_empty() {
            let begin = 16 + 4 + (8 + partition.topic.len()) + 4 + 8 + 8 + 8;
            let (first, times, generation, newest) = (8 + 4 * 4 + 8 + 4 + 4, 24, 4, 12);
            let kept = match version {
                VERSION_WITHOUT_TIMES => first,
                VERSION_WITHOUT_GENERATIONS => first + times,
                _ => first + times + generation,
            };
            bytes.drain(begin + kept..begin + first + times + generation + newest);
        }
        bytes
    }

    #[test]
    fn checkpoints_of_versions_before_are_read_and_what_they_do_not_say_is_not_known() {
        let mut expected = checkpoint();
        let in_one = encode_as(VERSION_IN_ONE, &expected);
        let old = encode_as(VERSION_WITHOUT_GENERATIONS, &expected);
        let oldest = encode_as(VERSION_WITHOUT_TIMES, &expected);
        let partition = &mut expected.partitions[0];
        (partition.offsets, partition.times) = (Vec::new(), Vec::new());
        let segment = &mut partition.segments[0];
        segment.newest_time = Some(TimeEntry {
            timestamp_ms: segment.max_timestamp_ms,
            relative_offset: segment.max_timestamp_offset,
        });
        assert_eq!(decode(&in_one), Some(expected.clone()));
        expected.partitions[0].cleaned_to = 0;
        expected.partitions[0].segments[0].generation = 0;
        assert_eq!(decode(&old), Some(expected.clone()));
        expected.head.time_ms = 0;
        let segment = &mut expected.partitions[0].segments[0];
        (segment.begun_ms, segment.appended_ms) = (0, 0);
        segment.first_timestamp_ms = segment.max_timestamp_ms;
        assert_eq!(decode(&oldest), Some(expected));
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = encode(&checkpoint());
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn lies_under_a_true_crc_are_refused_without_a_panic(
            at in prop_oneof![4..80usize, BLOCK_BYTES..BLOCK_BYTES + 500],
            value: u8,
            version in 1..=4u32,
        ) {
            let mut bytes = match version {
                VERSION => encode(&checkpoint()),
                _ => encode_as(version, &checkpoint()),
            };
            let at = if version == VERSION { at } else { at % (bytes.len() - 4) + 4 };
            bytes[at] = value;
            seal(&mut bytes);
            let _ = decode(&bytes);
        }

        #[test]
        fn a_byte_that_rots_is_noticed_wherever_it_is(at in 0..2 * BLOCK_BYTES, flip in 1..=255u8) {
            let mut bytes = encode(&checkpoint());
            assert_eq!(bytes.len(), 2 * BLOCK_BYTES);
            bytes[at] ^= flip;
            assert_eq!(decode(&bytes), None);
        }
    }
}
