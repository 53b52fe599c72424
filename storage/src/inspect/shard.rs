//! A shard's journal and checkpoints, looked at together: for `check` and for `explain`.

use std::path::{Path, PathBuf};

use ring::buffer::Pool;

use super::source::Source;
use crate::checkpoint::{self, Checkpoint};
use crate::directory::JournalPlace;
use crate::error::StorageError;
use crate::journal::record::{self, Bounds};
use crate::journal::superblock::{ReplayStart, Superblock};
use crate::journal::{Access, Journal, Scan, Visit};
use crate::recovery::{Memory, Recovered, recover};

/// Records past the chain's end that are told. Two are in flight at most; more were left by earlier crashes.
const BEYOND_MAX: usize = 4;

/// One of the two checkpoint files.
pub(super) struct CheckpointFile {
    pub(super) path: PathBuf,
    pub(super) state: CheckpointState,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckpointState {
    Missing,
    Damaged,
    Whole {
        generation: u64,
        replay: ReplayStart,
        /// The journal can be replayed onto it.
        is_of_journal: bool,
    },
}

/// A record past the end of the chain, of the journal as it is, that nobody vouches for: torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) seq: u64,
    pub(super) position: u64,
}

/// What was found of a shard.
pub(super) struct ShardLook {
    pub(super) journal: PathBuf,
    pub(super) journal_bytes: u64,
    pub(super) superblock: Superblock,
    /// A and B.
    pub(super) copies: [Option<Superblock>; 2],
    pub(super) checkpoints: [CheckpointFile; 2],
    /// The generation that a start uses.
    pub(super) used: Option<u64>,
    /// Whether the journal is whole from the older of the checkpoints on.
    pub(super) older: Result<(), StorageError>,
    /// What a start would have in memory before it writes anything.
    pub(super) recovered: Result<Recovered, StorageError>,
    pub(super) torn: Vec<Torn>,
}

/// Looks at a shard.
///
/// # Errors
/// If the journal cannot be opened, or neither superblock is whole.
pub(super) async fn look(data: &Path, place: &JournalPlace, pool: &Pool) -> Result<ShardLook, StorageError> {
    let path = place.journal();
    let journal = Journal::open(&path, place.id, pool, Access::ReadOnly).await?;
    let superblock = journal.superblock();
    let copies = journal.superblocks().await?;
    let mut whole = Vec::new();
    let mut files = Vec::with_capacity(2);
    for generation in [0, 1] {
        let path = checkpoint::path(&place.directory, generation);
        let (state, checkpoint) = checkpoint_in(&path, &superblock, pool).await?;
        whole.extend(checkpoint);
        files.push(CheckpointFile { path, state });
    }
    let chosen = checkpoint::choose(whole, &superblock);
    let (used, tail) = match &chosen {
        Some((checkpoint, tail)) => (Some(checkpoint.head.generation), Some(*tail)),
        None => (None, None),
    };
    drop(chosen);
    let older = match tail {
        Some(tail) => journal.scan(tail, |_| Ok(Visit::Next)).await.map(|_: Scan| ()),
        None => Ok(()),
    };
    let recovered = recover(
        data.to_path_buf(),
        place,
        &[],
        memory_for(&superblock),
        Access::ReadOnly,
    )
    .await;
    let torn = match &recovered {
        Ok(recovered) => torn_records(&path, &superblock, recovered.end, pool).await?,
        Err(_) => Vec::new(),
    };
    let [first, second] =
        <[CheckpointFile; 2]>::try_from(files).unwrap_or_else(|_| unreachable!("there are two"));
    Ok(ShardLook {
        journal_bytes: 2 * u64::from(superblock.block_bytes) + superblock.ring_bytes,
        journal: path,
        superblock,
        copies,
        checkpoints: [first, second],
        used,
        older,
        recovered,
        torn,
    })
}

async fn checkpoint_in(
    path: &Path,
    superblock: &Superblock,
    pool: &Pool,
) -> Result<(CheckpointState, Option<Checkpoint>), StorageError> {
    if !ring::directory::exists(path)
        .await
        .map_err(StorageError::io("look at", path))?
    {
        return Ok((CheckpointState::Missing, None));
    }
    let bytes = checkpoint::read_file(path, pool).await?;
    Ok(match bytes.and_then(|bytes| checkpoint::decode(&bytes)) {
        None => (CheckpointState::Damaged, None),
        Some(found) => {
            let state = CheckpointState::Whole {
                generation: found.head.generation,
                replay: found.head.replay,
                is_of_journal: checkpoint::is_of(&found, superblock),
            };
            (state, Some(found))
        }
    })
}

/// So much that a replay of the whole ring stays in memory: nothing may be migrated. Only what the journal holds is
/// taken of it; the smallest block is an eighth of a page.
fn memory_for(superblock: &Superblock) -> Memory {
    let ring = usize::try_from(superblock.ring_bytes).unwrap_or(usize::MAX >> 8);
    let largest = superblock.largest_record as usize;
    Memory {
        tail: 16 * ring + 8 * largest,
        reading: 4 * largest + (8 << 20),
        staging: 4 * largest + (8 << 20),
        producers: ring + (8 << 20),
        compaction: 0,
    }
}

/// Headers of the journal's records that come after the chain's end.
async fn torn_records(
    path: &Path,
    superblock: &Superblock,
    end: ReplayStart,
    pool: &Pool,
) -> Result<Vec<Torn>, StorageError> {
    let block_bytes = superblock.block_bytes as usize;
    let first = 2 * block_bytes as u64;
    let ring_end = first + superblock.ring_bytes;
    let mut torn = Vec::new();
    let Some(mut source) = Source::open(path, pool).await? else {
        return Ok(torn);
    };
    let mut position = first;
    while position < ring_end && torn.len() < BEYOND_MAX {
        let bounds = Bounds {
            block_bytes,
            largest_record: superblock.largest_record as usize,
            to_end: ring_end - position,
        };
        // What cannot be read was not part of the chain.
        if let Ok(Some(head)) = source.bytes(position, block_bytes).await
            && let Some((header, _)) = record::decode_header(head, &bounds)
            && header.journal_id == superblock.journal_id
            && header.position == position
            && header.seq >= end.seq
        {
            torn.push(Torn {
                seq: header.seq,
                position,
            });
        }
        position += block_bytes as u64;
    }
    torn.sort_by_key(|torn| torn.seq);
    Ok(torn)
}
