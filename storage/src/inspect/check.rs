//! `millstream log check`: every file of a data directory that nobody uses, against what the others say of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use ring::buffer::Pool;
use ring::directory::{self, Entry};

use super::shard::{CheckpointState, ShardLook, look};
use super::{partition, pool, shown};
use crate::checkpoint::PartitionCheckpoint;
use crate::directory::{
    JOURNALS, JournalPlace, LOCK_FILE, MANIFEST_FILE, Manifest, PROPERTIES_FILE, ids_in, lock_to_look,
    partition_of,
};
use crate::error::StorageError;
use crate::files::read_small;
use crate::partition::{directory_name, is_spare_name};
use crate::takeover;

/// Between two reports of progress, in bytes of the log.
const PROGRESS_BYTES: u64 = 256 << 20;
/// The control thread's: it is not looked into.
const METADATA: &str = "metadata";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it may be after a crash: the next start does what is to be done.
    Note,
    /// Something is not as it was written, and nothing is lost by it.
    Warning,
    /// What was acknowledged cannot be read, or the next start is refused.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Damage => "damage",
        })
    }
}

/// Something to know about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, from the data directory on.
    pub path: String,
    /// Where in the file, in bytes; nowhere in particular if it is about the whole.
    pub position: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

/// How far the segments are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// What is told while a check runs.
#[derive(Debug, Clone, Copy)]
pub enum Report<'a> {
    /// A finding.
    Finding(&'a Finding),
    /// For large logs, now and then.
    Progress(Progress),
}

/// What was checked, and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "counts of what their names say")]
pub struct CheckSummary {
    pub shards: u64,
    pub partitions: u64,
    pub segments: u64,
    pub batches: u64,
    /// Of segments, read.
    pub bytes: u64,
    pub notes: u64,
    pub warnings: u64,
    pub damages: u64,
}

impl CheckSummary {
    /// Whether nothing is wrong. Notes are of what is as it may be.
    pub fn is_clean(&self) -> bool {
        self.warnings == 0 && self.damages == 0
    }
}

/// Checks the data directory `path`; of its segments those of the partitions `wanted`, such as `orders-0`, or all if none
/// is. Holds the directory's lock meanwhile, so that no broker starts on it.
///
/// # Errors
/// If the directory is in use or is none of ours, a partition is not there, or memory is short. What is wrong with files
/// is reported, not returned.
pub async fn check(
    path: &Path,
    wanted: &[String],
    report: &mut dyn FnMut(Report<'_>),
) -> Result<CheckSummary, StorageError> {
    let pool = pool()?;
    let names = directory::list(path)
        .await
        .map_err(StorageError::io("list", path))?;
    let _lock = lock_to_look(path, &pool).await?;
    let mut checking = Checking {
        directory: path.to_path_buf(),
        pool,
        report,
        summary: CheckSummary::default(),
        total_bytes: 0,
        told_bytes: 0,
    };
    let Some(manifest) = checking.manifest(&names).await? else {
        return Ok(checking.summary);
    };
    checking.properties().await?;
    let shards = checking.shards(&manifest).await?;
    if let Some(missing) = wanted.iter().find(|name| {
        let is_known = |held: &Held| directory_name(&held.saved.topic, held.saved.id.partition) == **name;
        shards.is_whole && !shards.partitions.iter().any(is_known)
    }) {
        return Err(StorageError::refused(
            path,
            format!("it has no partition {missing}"),
        ));
    }
    let is_wanted = |name: &String| wanted.is_empty() || wanted.contains(name);
    let chosen = (shards.partitions.iter())
        .filter(|held| is_wanted(&directory_name(&held.saved.topic, held.saved.id.partition)));
    let chosen: Vec<&Held> = chosen.collect();
    let lengths = chosen.iter().flat_map(|held| &held.saved.segments);
    checking.total_bytes = lengths.map(|segment| u64::from(segment.length)).sum();
    for held in chosen {
        partition::check(&mut checking, held).await?;
    }
    checking.strangers(&names, &shards);
    Ok(checking.summary)
}

/// A partition that a journal or its checkpoint knows.
pub(super) struct Held {
    /// As of its last batch that is in a segment.
    pub(super) saved: PartitionCheckpoint,
    /// Base offsets of all its segments, those included that only the journal knows.
    pub(super) segments: Vec<i64>,
    /// Of the log, as the journal has it.
    pub(super) end_offset: i64,
    pub(super) block_bytes: u32,
}

struct Shards {
    partitions: Vec<Held>,
    /// All of them could be read: what is not among their partitions is nobody's.
    is_whole: bool,
}

/// A check under way.
pub(super) struct Checking<'a> {
    pub(super) directory: PathBuf,
    pub(super) pool: Pool,
    report: &'a mut dyn FnMut(Report<'_>),
    pub(super) summary: CheckSummary,
    total_bytes: u64,
    told_bytes: u64,
}

impl Checking<'_> {
    pub(super) fn find(
        &mut self,
        severity: Severity,
        path: &Path,
        position: Option<u64>,
        what: impl Into<String>,
        next: impl Into<String>,
    ) {
        match severity {
            Severity::Note => self.summary.notes += 1,
            Severity::Warning => self.summary.warnings += 1,
            Severity::Damage => self.summary.damages += 1,
        }
        let finding = Finding {
            severity,
            path: shown(path, &self.directory),
            position,
            what: what.into(),
            next: next.into(),
        };
        (self.report)(Report::Finding(&finding));
    }

    /// Tells what keeps a file from being read; gives back what is not about files.
    pub(super) fn unreadable(&mut self, error: StorageError) -> Result<(), StorageError> {
        match error {
            StorageError::Corrupt { path, position, what } => {
                let next = "the next start is refused: restore the whole data directory from a copy. Nothing may be cut, \
                            because records there were acknowledged";
                self.find(Severity::Damage, &path, Some(position), what, next);
                Ok(())
            }
            StorageError::NoCheckpoint { path } => {
                let what = "it is damaged, and so is the checkpoint before it";
                let next = "the next start is refused: restore the whole data directory from a copy";
                self.find(Severity::Damage, &path, None, what, next);
                Ok(())
            }
            StorageError::Io { action, path, error } => {
                let what = format!("cannot {action} it: {error}");
                self.find(
                    Severity::Damage,
                    &path,
                    None,
                    what,
                    "see to the disk and to the file's rights",
                );
                Ok(())
            }
            other => Err(other),
        }
    }

    pub(super) fn read(&mut self, bytes: u64) {
        self.summary.bytes += bytes;
        if self.summary.bytes - self.told_bytes >= PROGRESS_BYTES {
            self.told_bytes = self.summary.bytes;
            (self.report)(Report::Progress(Progress {
                bytes: self.summary.bytes,
                total_bytes: self.total_bytes,
            }));
        }
    }

    async fn manifest(&mut self, names: &[Entry]) -> Result<Option<Manifest>, StorageError> {
        let path = self.directory.join(MANIFEST_FILE);
        match Manifest::read(&path, &self.pool).await {
            Ok(Some(manifest)) => Ok(Some(manifest)),
            Ok(None)
                if names
                    .iter()
                    .any(|entry| entry.is_directory && partition_of(&entry.name).is_some()) =>
            {
                let what = "it is missing, and there are partitions: nobody can tell where their logs end";
                self.find(
                    Severity::Damage,
                    &path,
                    None,
                    what,
                    "restore it and the journals from a copy",
                );
                Ok(None)
            }
            Ok(None) => {
                let what = "it has no manifest, so it is not a data directory of a broker that was started";
                Err(StorageError::refused(&self.directory, what))
            }
            Err(StorageError::Corrupt { position, what, .. }) => {
                let next = "restore it from a copy: without it nobody knows which journals there are";
                self.find(Severity::Damage, &path, Some(position), what, next);
                Ok(None)
            }
            Err(error) => self.unreadable(error).map(|()| None),
        }
    }

    async fn properties(&mut self) -> Result<(), StorageError> {
        let path = self.directory.join(PROPERTIES_FILE);
        match read_small(&path, &self.pool).await {
            Ok(bytes) => {
                if let Err(what) = ids_in(&bytes) {
                    self.find(
                        Severity::Damage,
                        &path,
                        Some(0),
                        what,
                        "the next start is refused, or takes another id",
                    );
                }
                Ok(())
            }
            Err(error) => self.unreadable(error),
        }
    }

    async fn shards(&mut self, manifest: &Manifest) -> Result<Shards, StorageError> {
        let mut shards = Shards {
            partitions: Vec::new(),
            is_whole: true,
        };
        let journals = self.directory.join(JOURNALS);
        for (shard, id) in manifest.journals.iter().enumerate() {
            self.summary.shards += 1;
            let place = JournalPlace {
                directory: journals.join(format!("{}-{shard}", manifest.generation)),
                id: *id,
            };
            let found = match look(&self.directory, &place, &self.pool).await {
                Ok(found) => found,
                Err(error) => {
                    shards.is_whole = false;
                    self.unreadable(error)?;
                    continue;
                }
            };
            self.superblocks(&found);
            self.checkpoints(&found);
            shards.is_whole &= self.journal(found, &mut shards.partitions)?;
            self.journal_strangers(&place.directory).await?;
        }
        match directory::list(&journals).await {
            Ok(found) => {
                for entry in found.iter().filter(|entry| !manifest.lists(&entry.name)) {
                    let what =
                        "a journal that the manifest does not name, left by a change of the number of shards";
                    self.find(
                        Severity::Note,
                        &journals.join(&entry.name),
                        None,
                        what,
                        "the next start removes it",
                    );
                }
            }
            Err(error) => self.unreadable(StorageError::io("list", &journals)(error))?,
        }
        Ok(shards)
    }

    fn superblocks(&mut self, found: &ShardLook) {
        let places = [0, u64::from(found.superblock.block_bytes)];
        for ((name, at), copy) in ["A", "B"].into_iter().zip(places).zip(found.copies) {
            if copy.is_none() {
                let what = format!("superblock {name} is damaged; the other one is used");
                self.find(
                    Severity::Warning,
                    &found.journal,
                    Some(at),
                    what,
                    "the next start writes it again",
                );
            }
        }
    }

    fn checkpoints(&mut self, found: &ShardLook) {
        // Without any, it is the end: recovery says so.
        let Some(used) = found.used else { return };
        for file in &found.checkpoints {
            let what = match file.state {
                CheckpointState::Missing => "it is missing",
                CheckpointState::Damaged => "its bytes do not match its checksum",
                CheckpointState::Whole {
                    is_of_journal: false, ..
                } => "it is not of this journal as it is now",
                CheckpointState::Whole { .. } => continue,
            };
            let what = format!("{what}; checkpoint generation {used} is used");
            let next =
                "nothing: the next checkpoint but one writes it again. Until then there is no second one";
            self.find(Severity::Warning, &file.path, Some(0), what, next);
        }
    }

    /// Whether all of the journal that counts could be read.
    fn journal(&mut self, found: ShardLook, partitions: &mut Vec<Held>) -> Result<bool, StorageError> {
        let recovered = match found.recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                self.unreadable(error)?;
                return Ok(false);
            }
        };
        if let Err(StorageError::Corrupt { path, position, what }) = found.older {
            let what = format!("{what}; only the checkpoint before the newest needs it");
            self.find(
                Severity::Warning,
                &path,
                Some(position),
                what,
                "nothing, while the newest checkpoint is whole",
            );
        }
        for torn in &found.torn {
            let what = format!(
                "record {} is behind the end of the journal: torn by a crash, not rotten, and nobody was told of it",
                torn.seq
            );
            self.find(
                Severity::Note,
                &found.journal,
                Some(torn.position),
                what,
                "the next start cuts it",
            );
        }
        partitions.extend(recovered.partitions.values().map(|log| Held {
            saved: log.checkpoint(),
            segments: log.unmigrated().segments,
            end_offset: log.log_end_offset(),
            block_bytes: found.superblock.block_bytes,
        }));
        Ok(true)
    }

    async fn journal_strangers(&mut self, place: &Path) -> Result<(), StorageError> {
        let known = ["journal", "checkpoint-0", "checkpoint-1"];
        let unread = ["checkpoint-0.aside", "checkpoint-1.aside"];
        match directory::list(place).await {
            Ok(names) => {
                for entry in names.iter().filter(|entry| !known.contains(&&*entry.name)) {
                    let path = place.join(&entry.name);
                    if unread.contains(&&*entry.name) {
                        let what = "a checkpoint that a start could not read; it has begun from the other";
                        self.find(Severity::Note, &path, None, what, "remove it");
                    } else {
                        self.stranger(&path);
                    }
                }
                Ok(())
            }
            Err(error) => self.unreadable(StorageError::io("list", place)(error)),
        }
    }

    /// A file that nobody knows.
    pub(super) fn stranger(&mut self, path: &Path) {
        if path.extension().is_some_and(|extension| extension == "new") {
            let what = "left by a crash while a file was replaced; nothing reads it";
            self.find(
                Severity::Note,
                path,
                None,
                what,
                "nothing: it is written over when its time comes",
            );
        } else if path
            .file_name()
            .is_some_and(|name| is_spare_name(&name.to_string_lossy()))
        {
            let what = "the file of a segment that was removed; nothing reads it";
            self.find(
                Severity::Note,
                path,
                None,
                what,
                "remove it, if the next start does not",
            );
        } else if takeover::is_kafkas(path) {
            let what = "Kafka left it, from which the directory was taken over; nothing reads it";
            self.find(
                Severity::Note,
                path,
                None,
                what,
                "remove it when Kafka has no use for it",
            );
        } else {
            let what = "nobody knows this file, and nothing reads it";
            self.find(
                Severity::Warning,
                path,
                None,
                what,
                "move it out of the data directory",
            );
        }
    }

    fn strangers(&mut self, names: &[Entry], shards: &Shards) {
        let held: BTreeSet<String> = (shards.partitions.iter())
            .map(|held| directory_name(&held.saved.topic, held.saved.id.partition))
            .collect();
        let files = [LOCK_FILE, PROPERTIES_FILE, MANIFEST_FILE];
        for entry in names {
            let path = self.directory.join(&entry.name);
            let name = entry.name.as_str();
            match entry.is_directory {
                false if files.contains(&name) => {}
                false if name == takeover::CLEAN_STOP_FILE => {
                    let what =
                        "Kafka has run in this directory since it was taken over: the next start is refused";
                    let next = "restore the directory from a copy of before that; or remove this file, if Kafka has written nothing";
                    self.find(Severity::Damage, &path, None, what, next);
                }
                true if [JOURNALS, METADATA].contains(&name) || held.contains(name) => {}
                true if name.ends_with("-delete") => {
                    self.find(
                        Severity::Note,
                        &path,
                        None,
                        "a deleted partition",
                        "the next start removes it",
                    );
                }
                true if name.ends_with("-stray") => {
                    let what = "a partition that no metadata knew when a broker started; nothing removes it";
                    self.find(
                        Severity::Note,
                        &path,
                        None,
                        what,
                        "move it away when nobody needs it",
                    );
                }
                true if partition_of(name).is_some() && !takeover::is_kafkas(&path) => {
                    if shards.is_whole {
                        let what = "a partition's directory that no journal knows";
                        let next = "move it away, or restore the journals from the copy that it is of";
                        self.find(Severity::Warning, &path, None, what, next);
                    }
                }
                _ => self.stranger(&path),
            }
        }
    }
}
