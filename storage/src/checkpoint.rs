//! A shard's checkpoint: all of its partitions as of one journal record, in one of two files written in turn.
//!
//! A checkpoint and the journal from its replay start on are everything: partial last blocks are in it, so that the
//! journal's blocks can be reused whatever the number of partitions. `docs/formats.md` draws it.

use std::path::{Path, PathBuf};

use ring::directory;

use crate::error::StorageError;
use crate::files::{open_if_there, replace};
use crate::id::TopicPartition;
use crate::journal::superblock::{ReplayStart, Superblock};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::{ProducerBatch, SavedProducer};

const MAGIC: u32 = 0x4d4c_4350; // "MLCP"
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 72;
/// Without what compaction needs: generations of segments, and how far logs are clean. It is still read.
const VERSION_WITHOUT_GENERATIONS: u32 = 2;
/// Without times, too: of the checkpoint, and of segments. It is still read.
const VERSION_WITHOUT_TIMES: u32 = 1;
/// Of a checkpoint that no start begins from any more.
const ASIDE_EXTENSION: &str = "aside";
/// The largest checkpoint that is read, in bytes: a million partitions with a partial block each are 4 GiB.
const CHECKPOINT_BYTES_MAX: u64 = 8 << 30;

/// All of a shard's partitions as of one journal record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    /// Checkpoints of this journal so far.
    pub(crate) generation: u64,
    pub(crate) journal_id: u128,
    /// The first record that is not in it.
    pub(crate) replay: ReplayStart,
    /// When it was made, in milliseconds since 1970; 0 if that is not known.
    pub(crate) time_ms: i64,
    pub(crate) partitions: Vec<PartitionCheckpoint>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartitionCheckpoint {
    pub(crate) id: TopicPartition,
    /// The topic's name: its directory's.
    pub(crate) topic: String,
    pub(crate) owner_epoch: u32,
    pub(crate) log_start_offset: i64,
    pub(crate) next_offset: i64,
    /// By base offset. The last is the active one, if it is not sealed.
    pub(crate) segments: Vec<SegmentCheckpoint>,
    /// The active segment's bytes after its last whole block.
    pub(crate) partial: Vec<u8>,
    pub(crate) leader_epochs: LeaderEpochs,
    pub(crate) producers: Vec<SavedProducer>,
    /// Compaction is done up to here.
    pub(crate) cleaned_to: i64,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SegmentCheckpoint {
    pub(crate) base_offset: i64,
    /// Bytes, with the partial block.
    pub(crate) length: u32,
    pub(crate) is_sealed: bool,
    pub(crate) index_entries: u32,
    pub(crate) time_entries: u32,
    pub(crate) max_timestamp_ms: i64,
    pub(crate) max_timestamp_offset: u32,
    pub(crate) bytes_since_entry: u32,
    /// The largest of its first batch.
    pub(crate) first_timestamp_ms: i64,
    /// When its first batch was appended, in milliseconds since 1970; 0 if that is not known.
    pub(crate) begun_ms: i64,
    /// When its newest batch was appended, in milliseconds since 1970; 0 if that is not known.
    pub(crate) appended_ms: i64,
    /// How often it was compacted: which file it is.
    pub(crate) generation: u32,
}

/// The file that a generation is in.
pub(crate) fn path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("checkpoint-{}", generation % 2))
}

/// Puts the checkpoint in the place of the one before the last. Durable when it returns; a crash in it leaves both as
/// they were.
pub(crate) async fn write(directory: &Path, checkpoint: &Checkpoint) -> Result<(), StorageError> {
    replace(&path(directory, checkpoint.generation), encode(checkpoint)).await
}

/// The checkpoint that the superblock names; or, if that is damaged, the one before it: the journal reaches back far
/// enough for either. One that was written and not named yet is as good. And from where on the journal is needed: for the
/// older of those that are whole. A superblock that stands in for a damaged, newer one names blocks before that, which
/// may have been written again since.
pub(crate) async fn read(
    directory: &Path,
    superblock: &Superblock,
    pool: &ring::buffer::Pool,
) -> Result<(Checkpoint, ReplayStart), StorageError> {
    let mut found = Vec::new();
    for generation in [0, 1] {
        let bytes = read_file(&path(directory, generation), pool).await?;
        found.extend(bytes.and_then(|bytes| decode(&bytes)));
    }
    choose(found, superblock).ok_or_else(|| StorageError::NoCheckpoint {
        path: path(directory, superblock.checkpoint_generation),
    })
}

/// Of the checkpoints that are whole, the one to begin from, and from where on the journal is needed. See [`read`].
pub(crate) fn choose(found: Vec<Checkpoint>, superblock: &Superblock) -> Option<(Checkpoint, ReplayStart)> {
    let rank = |checkpoint: &Checkpoint| {
        let is_named_or_older = checkpoint.generation <= superblock.checkpoint_generation;
        (is_named_or_older, checkpoint.generation)
    };
    let mut best: Option<Checkpoint> = None;
    let mut tail: Option<ReplayStart> = None;
    for found in found {
        if !is_of(&found, superblock) {
            continue;
        }
        if tail.is_none_or(|tail| found.replay.seq < tail.seq) {
            tail = Some(found.replay);
        }
        if best.as_ref().is_none_or(|best| rank(best) < rank(&found)) {
            best = Some(found);
        }
    }
    best.zip(tail)
}

/// Sees to it that no later start begins from the checkpoint of this generation, which could not be read: from the one before it
/// this start migrates again, over blocks that are there and that a power cut may leave unreadable, and the newer would take
/// them for there. What cannot be read now may be read then. Its file keeps its bytes, under another name.
pub(crate) async fn set_aside(directory: &Path, generation: u64) -> Result<(), StorageError> {
    let unread = path(directory, generation);
    match directory::rename(&unread, &unread.with_extension(ASIDE_EXTENSION)).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::io("rename", &unread)(error)),
        Ok(()) => {
            let synced = directory::sync(directory).await;
            synced.map_err(StorageError::io("flush", directory))
        }
    }
}

/// Whether the journal of this superblock can be replayed onto the checkpoint.
pub(crate) fn is_of(checkpoint: &Checkpoint, superblock: &Superblock) -> bool {
    checkpoint.journal_id == superblock.journal_id && checkpoint.replay.seq >= superblock.tail.seq
}

/// A file's bytes; `None` if it is not there, or cannot be read.
pub(crate) async fn read_file(
    path: &Path,
    pool: &ring::buffer::Pool,
) -> Result<Option<Vec<u8>>, StorageError> {
    const STEP: usize = 256 << 10;
    let Some(file) = open_if_there(path, false).await? else {
        return Ok(None);
    };
    let length = file.len().await.map_err(StorageError::io("look at", path))?;
    if length > CHECKPOINT_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut buffer = crate::journal::take(pool, STEP).await?;
    loop {
        let (result, returned) = file.read_exact_at(buffer, 0..STEP, bytes.len() as u64).await;
        buffer = returned;
        match result {
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                if count < STEP || bytes.len() as u64 > length {
                    return Ok(Some(bytes));
                }
            }
            Err(error) if error.raw_os_error() == Some(5) => return Ok(None),
            Err(error) => return Err(StorageError::io("read", path)(error)),
        }
    }
}

fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut to = Writer(vec![0; HEADER_BYTES]);
    to.length(checkpoint.partitions.len());
    for partition in &checkpoint.partitions {
        encode_partition(&mut to, partition);
    }
    let mut bytes = to.0;
    let body = (bytes.len() - HEADER_BYTES) as u64;
    let mut header = Writer(Vec::with_capacity(HEADER_BYTES));
    header.put(&0_u32.to_le_bytes());
    header.put(&MAGIC.to_le_bytes());
    header.put(&VERSION.to_le_bytes());
    header.put(&checkpoint.replay.previous_crc.to_le_bytes());
    header.put(&checkpoint.generation.to_le_bytes());
    header.put(&checkpoint.journal_id.to_le_bytes());
    header.put(&checkpoint.replay.seq.to_le_bytes());
    header.put(&checkpoint.replay.position.to_le_bytes());
    header.put(&checkpoint.time_ms.to_le_bytes());
    header.put(&body.to_le_bytes());
    bytes[..HEADER_BYTES].copy_from_slice(&header.0);
    let crc = wire::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
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
}

/// `None` for anything that was not written by [`encode`].
pub(crate) fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let crc = bytes.get(..4)?;
    if wire::crc32c(bytes.get(4..)?).to_le_bytes() != crc {
        return None;
    }
    let mut from = Reader(&bytes[4..]);
    if from.u32()? != MAGIC {
        return None;
    }
    let version = from.u32()?;
    if !(VERSION_WITHOUT_TIMES..=VERSION).contains(&version) {
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
    if from.u64()? != from.0.len() as u64 {
        return None;
    }
    let partitions = from.list(|from| decode_partition(from, version))?;
    from.0.is_empty().then_some(Checkpoint {
        generation,
        journal_id,
        replay,
        time_ms,
        partitions,
    })
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
            VERSION => from.i64()?,
            _ => 0,
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

/// For the fuzz target: whatever is read is written, and read as the same.
#[cfg(fuzzing)]
pub(crate) fn read_and_write_again(bytes: &[u8]) {
    if let Some(checkpoint) = decode(bytes) {
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
            }],
            partial: vec![1, 2, 3],
            leader_epochs: LeaderEpochs {
                starts: vec![(0, 3), (4, 50)],
            },
            producers: vec![producer],
            cleaned_to: 60,
        };
        Checkpoint {
            generation: 12,
            journal_id: u128::MAX / 3,
            replay: ReplayStart {
                seq: 400,
                position: 8_192,
                previous_crc: 0xfeed,
            },
            time_ms: 1_700_000_000_999,
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
        let bytes = encode(checkpoint);
        let (header, mut body) = (&bytes[..HEADER_BYTES], bytes[HEADER_BYTES..].to_vec());
        // Each partition ends with how far it is clean. The second one has nothing else that is not a field or an empty list.
        let second = 16 + 4 + 8 + 4 + 8 + 8 + 4 * 8;
        body.truncate(body.len() - 8);
        let end = body.len() - second;
        body.drain(end - 8..end);
        // A count of partitions, then of each what is before its segments; only the first has one.
        let segments = 8 + 16 + 4 + (8 + "orders".len()) + 4 + 8 + 8 + 8;
        let (without, times, generation) = (8 + 4 * 4 + 8 + 4 + 4, 24, 4);
        let from = segments
            + without
            + if version == VERSION_WITHOUT_TIMES {
                0
            } else {
                times
            };
        body.drain(from..segments + without + times + generation);
        let mut old = match version {
            VERSION_WITHOUT_TIMES => header[..56].to_vec(),
            _ => header[..64].to_vec(),
        };
        old.extend((body.len() as u64).to_le_bytes());
        old.extend(body);
        old[8..12].copy_from_slice(&version.to_le_bytes());
        let crc = wire::crc32c(&old[4..]);
        old[..4].copy_from_slice(&crc.to_le_bytes());
        old
    }

    #[test]
    fn checkpoints_of_versions_before_are_read_and_what_they_do_not_say_is_not_known() {
        let mut expected = checkpoint();
        let old = encode_as(VERSION_WITHOUT_GENERATIONS, &expected);
        let oldest = encode_as(VERSION_WITHOUT_TIMES, &expected);
        expected.partitions[0].cleaned_to = 0;
        expected.partitions[0].segments[0].generation = 0;
        assert_eq!(decode(&old), Some(expected.clone()));
        expected.time_ms = 0;
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
        fn lies_under_a_true_crc_are_refused_without_a_panic(at in 4..400usize, value: u8) {
            let mut bytes = encode(&checkpoint());
            let at = at % (bytes.len() - 4) + 4;
            bytes[at] = value;
            let crc = wire::crc32c(&bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            let _ = decode(&bytes);
        }
    }
}
