//! `millstream log explain`: what a start would do with a data directory now, as recovery itself decides it.

use std::path::{Path, PathBuf};

use super::shard::{CheckpointState, ShardLook, look};
use super::{pool, shown};
use crate::directory::{JOURNALS, JournalPlace, MANIFEST_FILE, Manifest, lock_to_look};
use crate::error::StorageError;
use crate::id::to_base64;
use crate::journal::superblock::Superblock;
use crate::partition::{PartitionLog, directory_name};

/// How often a journal that a broker writes to is read again when it moved meanwhile.
const TRIES: usize = 5;

/// What a start would do.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The process that uses the directory, if one does: everything is of one moment in the past then.
    pub in_use_by: Option<String>,
    /// By number.
    pub shards: Vec<ExplainedShard>,
}

/// One shard.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "said where they are shown")]
pub struct ExplainedShard {
    pub shard: usize,
    /// From the data directory on.
    pub journal: String,
    pub journal_bytes: u64,
    /// Starts of this journal so far.
    pub start_epoch: u64,
    /// A and B.
    pub superblocks: Vec<CopyState>,
    pub checkpoints: Vec<CopyState>,
    pub replay: Option<Replay>,
    /// Why the start would be refused.
    pub refusal: Option<String>,
    pub partitions: Vec<ExplainedPartition>,
}

/// One of two copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyState {
    /// `superblock A`, or the file from the data directory on.
    pub name: String,
    /// Its generation, if it is whole.
    pub generation: Option<u64>,
    /// A start uses this one.
    pub is_used: bool,
    /// Why, or why not.
    pub why: String,
}

/// The records that a start reads back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The first record.
    pub from_seq: u64,
    /// Where it is in the journal, in bytes.
    pub from_position: u64,
    /// The next record that would be written.
    pub next_seq: u64,
    /// Where it would be.
    pub next_position: u64,
    /// Records in between.
    pub records: u64,
    /// Bytes of the journal that they take.
    pub bytes: u64,
    /// Batches in them, of partitions that are still there.
    pub batches: u64,
    /// Records behind the end that are torn, and cut: sequence number and position.
    pub torn: Vec<(u64, u64)>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "said where they are shown")]
pub struct ExplainedPartition {
    pub name: String,
    pub topic_id: String,
    pub log_start_offset: i64,
    /// The offset behind the last batch that is known to be in a segment.
    pub checkpoint_end_offset: i64,
    pub end_offset: i64,
    pub segments: usize,
    /// Only in the journal.
    pub journal_batches: usize,
    pub journal_bytes: u64,
    /// What is wrong with its files, so that the start would be refused.
    pub refusal: Option<String>,
}

/// Explains the data directory `path`; of its partitions those that are `wanted`, such as `orders-0`, or all if none is.
///
/// # Errors
/// If it is no data directory of ours, a partition is not there, or a broker writes faster than can be read.
pub async fn explain(path: &Path, wanted: &[String]) -> Result<Explained, StorageError> {
    let pool = pool()?;
    let (in_use_by, _lock) = match lock_to_look(path, &pool).await {
        Ok(lock) => (None, lock),
        Err(StorageError::InUse { holder, .. }) => (Some(holder), None),
        Err(error) => return Err(error),
    };
    let manifest_path = path.join(MANIFEST_FILE);
    let Some(manifest) = Manifest::read(&manifest_path, &pool).await? else {
        let what =
            "it is missing: this is no data directory of a broker that was started, or its journals are lost";
        return Err(StorageError::refused(&manifest_path, what));
    };
    let mut shards = Vec::with_capacity(manifest.journals.len());
    for (shard, id) in manifest.journals.iter().enumerate() {
        let place = JournalPlace {
            directory: path
                .join(JOURNALS)
                .join(format!("{}-{shard}", manifest.generation)),
            id: *id,
        };
        let mut tries = 0;
        let found = loop {
            let found = look(path, &place, &pool).await;
            tries += 1;
            // What a broker writes in the middle of a look is not damage.
            let has_failed = match &found {
                Ok(found) => found.recovered.is_err(),
                Err(_) => true,
            };
            if in_use_by.is_none() || !has_failed {
                break found;
            }
            if tries == TRIES {
                let what = "the broker writes to it faster than it can be looked at: stop the broker, or try again when \
                            it has less to do. This says nothing about damage";
                return Err(StorageError::refused(&place.journal(), what));
            }
        };
        shards.push(match found {
            Ok(found) => explained(shard, path, found, wanted, in_use_by.is_some()).await,
            Err(error) => ExplainedShard {
                shard,
                journal: shown(&place.journal(), path),
                journal_bytes: 0,
                start_epoch: 0,
                superblocks: Vec::new(),
                checkpoints: Vec::new(),
                replay: None,
                refusal: Some(error.to_string()),
                partitions: Vec::new(),
            },
        });
    }
    let is_whole = shards.iter().all(|shard| shard.refusal.is_none());
    let is_known =
        |name: &str| (shards.iter()).any(|shard| shard.partitions.iter().any(|held| held.name == name));
    if let Some(missing) = wanted.iter().find(|name| is_whole && !is_known(name)) {
        return Err(StorageError::refused(
            path,
            format!("it has no partition {missing}"),
        ));
    }
    Ok(Explained { in_use_by, shards })
}

async fn explained(
    shard: usize,
    data: &Path,
    found: ShardLook,
    wanted: &[String],
    is_in_use: bool,
) -> ExplainedShard {
    let (superblocks, checkpoints) = (superblocks(&found), checkpoints(&found, data));
    let mut explained = ExplainedShard {
        shard,
        journal: shown(&found.journal, data),
        journal_bytes: found.journal_bytes,
        start_epoch: found.superblock.start_epoch,
        superblocks,
        checkpoints,
        replay: None,
        refusal: None,
        partitions: Vec::new(),
    };
    match found.recovered {
        Err(error) => explained.refusal = Some(error.to_string()),
        Ok(recovered) => {
            explained.replay = Some(Replay {
                from_seq: recovered.replay.seq,
                from_position: recovered.replay.position,
                next_seq: recovered.end.seq,
                next_position: recovered.end.position,
                records: recovered.report.records,
                bytes: bytes_between(
                    &found.superblock,
                    recovered.replay.position,
                    recovered.end.position,
                ),
                batches: recovered.report.batches,
                torn: found.torn.iter().map(|torn| (torn.seq, torn.position)).collect(),
            });
            for log in recovered.partitions.values() {
                let mut partition = partition(log).await;
                if is_in_use {
                    // Its files change under our eyes: no verdict.
                    partition.refusal = None;
                }
                if wanted.is_empty() || wanted.contains(&partition.name) {
                    explained.partitions.push(partition);
                }
            }
        }
    }
    explained
}

async fn partition(log: &PartitionLog) -> ExplainedPartition {
    let saved = log.checkpoint();
    let unmigrated = log.unmigrated();
    // As a start does it; but that cuts them, too.
    let refusal = log.check_files(i64::MIN).await.err();
    ExplainedPartition {
        name: directory_name(&saved.topic, saved.id.partition),
        topic_id: to_base64(saved.id.topic_id),
        log_start_offset: log.log_start_offset(),
        checkpoint_end_offset: saved.next_offset,
        end_offset: log.log_end_offset(),
        segments: unmigrated.segments.len(),
        journal_batches: unmigrated.batches,
        journal_bytes: unmigrated.bytes,
        refusal: refusal.map(|error| error.to_string()),
    }
}

fn superblocks(found: &ShardLook) -> Vec<CopyState> {
    let newest = found.superblock.generation;
    let state = |(name, copy): (&str, &Option<Superblock>)| {
        let generation = copy.map(|copy| copy.generation);
        let why = match generation {
            None => "damaged: the other one is used",
            Some(generation) if generation == newest => "the newer one that is whole",
            Some(_) => "whole, and older",
        };
        CopyState {
            name: format!("superblock {name}"),
            generation,
            is_used: generation == Some(newest),
            why: why.to_owned(),
        }
    };
    ["A", "B"].into_iter().zip(&found.copies).map(state).collect()
}

fn checkpoints(found: &ShardLook, data: &Path) -> Vec<CopyState> {
    let named = found.superblock.checkpoint_generation;
    let state = |(path, state): (&PathBuf, CheckpointState)| {
        let generation = match state {
            CheckpointState::Whole { generation, .. } => Some(generation),
            CheckpointState::Missing | CheckpointState::Damaged => None,
        };
        let is_used = generation.is_some() && generation == found.used;
        let why = match state {
            CheckpointState::Missing => "it is missing".to_owned(),
            CheckpointState::Damaged => "damaged".to_owned(),
            CheckpointState::Whole {
                is_of_journal: false, ..
            } => "not of this journal as it is now".to_owned(),
            CheckpointState::Whole { generation, .. } if is_used && generation == named => {
                "the superblock names it".to_owned()
            }
            CheckpointState::Whole { generation, .. } if is_used && generation < named => {
                format!(
                    "the superblock names generation {named}, which cannot be read: this is the one before it"
                )
            }
            CheckpointState::Whole { .. } if is_used => {
                format!(
                    "the superblock names generation {named}, which cannot be read: this one was written after it"
                )
            }
            CheckpointState::Whole { generation, .. } if generation > named => {
                "written, and no superblock names it yet".to_owned()
            }
            CheckpointState::Whole { .. } => {
                "the one before: it stands in if the newest cannot be read".to_owned()
            }
        };
        CopyState {
            name: shown(path, data),
            generation,
            is_used,
            why,
        }
    };
    (found.checkpoints.iter())
        .map(|file| state((&file.path, file.state)))
        .collect()
}

/// Bytes of the ring from one position to another, around its end if need be.
fn bytes_between(superblock: &Superblock, from: u64, to: u64) -> u64 {
    if to >= from {
        to - from
    } else {
        (to + superblock.ring_bytes).saturating_sub(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_may_go_around_the_end_of_the_ring() {
        let superblock = Superblock {
            ring_bytes: 1_000,
            ..crate::journal::Journal::first_superblock(
                crate::journal::JournalOptions::new(8 << 20, 4_096),
                1,
            )
        };
        assert_eq!(bytes_between(&superblock, 200, 700), 500);
        assert_eq!(bytes_between(&superblock, 900, 100), 200);
        assert_eq!(bytes_between(&superblock, 300, 300), 0);
    }
}
