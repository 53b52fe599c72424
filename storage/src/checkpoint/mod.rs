//! A shard's checkpoint: all of its partitions as of one journal record, in one of two files written in turn.
//!
//! A checkpoint and the journal from its replay start on are everything: partial last blocks are in it, so that the
//! journal's blocks can be reused whatever the number of partitions. `docs/formats.md` draws it.

mod format;

use std::path::{Path, PathBuf};

use ring::buffer::{Pool, Slice};
use ring::directory;
use ring::file::{Durability, File, OpenOptions};

pub(crate) use self::format::decode;
#[cfg(fuzzing)]
pub(crate) use self::format::read_and_write_again;
use self::format::{BLOCK_BYTES, Body};
use crate::error::{StorageError, is_unreadable};
use crate::files::open_if_there;
use crate::id::TopicPartition;
use crate::index::{IndexEntry, TimeEntry};
use crate::journal::superblock::{ReplayStart, Superblock};
use crate::journal::take;
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::SavedProducer;

/// Read or written at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// Of a checkpoint that no start begins from any more.
const ASIDE_EXTENSION: &str = "aside";
/// The largest checkpoint that is read, in bytes: a million partitions with a partial block each are 4 GiB.
const CHECKPOINT_BYTES_MAX: u64 = 8 << 30;

/// All of a shard's partitions as of one journal record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub(crate) head: Head,
    pub(crate) partitions: Vec<PartitionCheckpoint>,
}

/// Which checkpoint it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Head {
    /// Checkpoints of this journal so far.
    pub(crate) generation: u64,
    pub(crate) journal_id: u128,
    /// The first record that is not in it.
    pub(crate) replay: ReplayStart,
    /// When it was made, in milliseconds since 1970; 0 if that is not known.
    pub(crate) time_ms: i64,
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
    /// The entries of the active segment's index that are not in its file yet.
    pub(crate) offsets: Vec<IndexEntry>,
    /// The same of its time index.
    pub(crate) times: Vec<TimeEntry>,
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
    /// The last entry of its time index, wherever that is.
    pub(crate) newest_time: Option<TimeEntry>,
}

/// The file that a generation is in.
pub(crate) fn path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("checkpoint-{}", generation % 2))
}

/// Puts the checkpoint in the place of the one before the last. Durable when it returns; a crash in it leaves both as
/// they were. Between two pieces others have their turn: `partitions` gives what holds for the head all the while. The disk has
/// blocks of so many bytes.
pub(crate) async fn write(
    directory: &Path,
    head: &Head,
    partitions: impl ExactSizeIterator<Item = PartitionCheckpoint>,
    block_bytes: usize,
    pool: &Pool,
) -> Result<(), StorageError> {
    let path = path(directory, head.generation);
    let new = path.with_extension("new");
    let options = OpenOptions {
        write: true,
        create: true,
        truncate: true,
        direct: block_bytes <= BLOCK_BYTES,
        ..OpenOptions::default()
    };
    let file = File::open(&new, options)
        .await
        .map_err(StorageError::io("create", &new))?;
    let write = async |slice: Slice, at: usize| {
        let written = file
            .write_all_at(vec![slice], at as u64, Durability::Completed)
            .await;
        written.map_err(StorageError::io("write", &new))
    };
    let mut body = Body::new(partitions.len());
    let mut at = BLOCK_BYTES;
    let mut partitions = partitions.peekable();
    while body.waiting() > 0 || partitions.peek().is_some() {
        while body.waiting() < PIECE_BYTES
            && let Some(partition) = partitions.next()
        {
            body.add(&partition);
        }
        let mut piece = take(pool, PIECE_BYTES).await?;
        let count = body.take(&mut piece[..PIECE_BYTES]);
        let whole = count.next_multiple_of(BLOCK_BYTES);
        piece[count..whole].fill(0);
        write(piece.freeze(0..whole), at).await?;
        at += whole;
    }
    let mut first = take(pool, BLOCK_BYTES).await?;
    body.first_block(head, &mut first[..BLOCK_BYTES]);
    write(first.freeze(0..BLOCK_BYTES), 0).await?;
    file.sync_all().await.map_err(StorageError::io("flush", &new))?;
    directory::rename(&new, &path)
        .await
        .map_err(StorageError::io("rename", &new))?;
    directory::sync(directory)
        .await
        .map_err(StorageError::io("flush", directory))
}

/// The checkpoint that the superblock names; or, if that is damaged, the one before it: the journal reaches back far
/// enough for either. One that was written and not named yet is as good. And from where on the journal is needed: for the
/// older of those that are whole. A superblock that stands in for a damaged, newer one names blocks before that, which
/// may have been written again since.
pub(crate) async fn read(
    directory: &Path,
    superblock: &Superblock,
    pool: &Pool,
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
        let generation = checkpoint.head.generation;
        (generation <= superblock.checkpoint_generation, generation)
    };
    let mut best: Option<Checkpoint> = None;
    let mut tail: Option<ReplayStart> = None;
    for found in found {
        if !is_of(&found, superblock) {
            continue;
        }
        if tail.is_none_or(|tail| found.head.replay.seq < tail.seq) {
            tail = Some(found.head.replay);
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
    let head = &checkpoint.head;
    head.journal_id == superblock.journal_id && head.replay.seq >= superblock.tail.seq
}

/// A file's bytes; `None` if it is not there, or cannot be read.
pub(crate) async fn read_file(path: &Path, pool: &Pool) -> Result<Option<Vec<u8>>, StorageError> {
    let Some(file) = open_if_there(path, false).await? else {
        return Ok(None);
    };
    let length = file.len().await.map_err(StorageError::io("look at", path))?;
    if length > CHECKPOINT_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut buffer = take(pool, PIECE_BYTES).await?;
    loop {
        let (result, returned) = file
            .read_exact_at(buffer, 0..PIECE_BYTES, bytes.len() as u64)
            .await;
        buffer = returned;
        match result {
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                if count < PIECE_BYTES || bytes.len() as u64 > length {
                    return Ok(Some(bytes));
                }
            }
            Err(error) if is_unreadable(&error) => return Ok(None),
            Err(error) => return Err(StorageError::io("read", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::simulator::Simulator;

    use super::*;

    #[test]
    fn a_checkpoint_of_many_pieces_is_read_as_it_was_written() {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        let ended = simulator.run(host, 16 << 20, Duration::from_secs(60), || async {
            let pool = Pool::new("checkpoint", 1 << 20).expect("memory");
            for (generation, block_bytes) in [(1, 4_096), (2, 16_384), (3, 512)] {
                let head = Head {
                    generation,
                    ..Head::default()
                };
                let partition = |number: i32| PartitionCheckpoint {
                    id: TopicPartition {
                        topic_id: 7,
                        partition: number,
                    },
                    // One is larger than a piece.
                    partial: vec![number as u8; if number == 50 { 3 * PIECE_BYTES } else { 4_000 }],
                    ..PartitionCheckpoint::default()
                };
                let partitions: Vec<_> = (0..300).map(partition).collect();
                let directory = Path::new("/");
                let given = partitions.clone().into_iter();
                write(directory, &head, given, block_bytes, &pool)
                    .await
                    .expect("written");
                let bytes = read_file(&path(directory, generation), &pool)
                    .await
                    .expect("read");
                let found = bytes.and_then(|bytes| decode(&bytes));
                assert!(
                    found == Some(Checkpoint { head, partitions }),
                    "generation {generation}"
                );
            }
        });
        ended.expect("it ends");
    }
}
