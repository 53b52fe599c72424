//! The host's log directories: the first, which has the metadata as well, and others, which may fail.
//!
//! Owns their locks, and which of them are online. Promises that a directory that is missing is not taken for an empty one:
//! nothing new is begun in its place while the metadata has partitions in it. Without the first the host ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use storage::{Leftovers, LogDirectory, PartitionSpec, StorageError, TopicPartition};

use crate::controller::image::UNASSIGNED_DIRECTORY;

/// Where the metadata is, in the first directory.
const METADATA: &str = "metadata";

/// See the module.
pub(super) struct Directories {
    first: LogDirectory,
    others: Vec<Other>,
    /// The metadata has partitions in a directory that is in none of the places given.
    is_one_missing: bool,
}

/// A directory that may fail.
struct Other {
    path: PathBuf,
    /// Kept after it has failed, for its lock. None, if it could not be taken.
    directory: Option<LogDirectory>,
    is_online: bool,
}

/// Where the metadata is has to be the first. Comes before anything is written.
///
/// # Errors
/// If another has it.
pub(super) async fn check_order(paths: &[PathBuf]) -> Result<(), String> {
    let (first, others) = paths.split_first().expect("there is one");
    if has_metadata(first).await {
        return Ok(());
    }
    for other in others {
        if has_metadata(other).await {
            return Err(format!(
                "the metadata is in {}, and {} comes before it: give the directory with the metadata first",
                other.display(),
                first.display()
            ));
        }
    }
    Ok(())
}

/// The first has the metadata, or is new: beside new metadata every log would be nobody's.
///
/// # Errors
/// If it has logs and no metadata.
pub(super) async fn check_first(first: &LogDirectory) -> Result<(), String> {
    if first.shards() == 0 || has_metadata(first.path()).await {
        return Ok(());
    }
    Err(format!(
        "{} has logs and no metadata. Nothing was changed. If it is one of several log directories, give the one with the \
         metadata first; else restore {METADATA}/ in it from a copy",
        first.path().display()
    ))
}

async fn has_metadata(path: &Path) -> bool {
    // What cannot be looked at is told of when it is opened.
    let there = ring::directory::exists(&path.join(METADATA)).await;
    there.unwrap_or(false)
}

impl Directories {
    /// Takes `others` beside the first. `assigned` are the directories in which the metadata has partitions. What cannot be
    /// used is offline, and the operator is told.
    ///
    /// # Errors
    /// If one is in use, or not of this cluster: a mistake that costs nothing yet.
    pub(super) async fn open(
        first: LogDirectory,
        others: &[PathBuf],
        assigned: &BTreeSet<u128>,
    ) -> Result<Directories, String> {
        let mut directories = Directories {
            first,
            others: Vec::with_capacity(others.len()),
            is_one_missing: false,
        };
        let mut new = Vec::new();
        for (at, path) in others.iter().enumerate() {
            directories.others.push(Other {
                path: path.clone(),
                directory: None,
                is_online: false,
            });
            match LogDirectory::is_new(path).await {
                Ok(true) => new.push(at),
                Ok(false) => directories.take(at).await?,
                Err(error) => directories.others[at].tell(&error.to_string()),
            }
        }
        let there: BTreeSet<u128> = directories.online().into_iter().collect();
        let missing: Vec<String> = assigned
            .difference(&there)
            .map(|&id| storage::to_base64(id))
            .collect();
        directories.is_one_missing = !missing.is_empty();
        for at in new {
            if missing.is_empty() {
                directories.take(at).await?;
                continue;
            }
            directories.others[at].tell(&format!(
                "it holds no log, and the metadata has partitions in directories that are not there (directory.id {}). If one of \
                 them belongs here, mount its file system. If it is lost, delete the topics that have partitions in it: then a \
                 start takes this one as new",
                missing.join(", ")
            ));
        }
        if directories.is_one_missing {
            eprintln!(
                "millstream: partitions are offline that are in log directories that are not there: directory.id {}",
                missing.join(", ")
            );
        }
        Ok(directories)
    }

    async fn take(&mut self, at: usize) -> Result<(), String> {
        let online = self.online();
        let other = &mut self.others[at];
        match self.first.open_beside(&other.path).await {
            Ok(directory) => {
                let path = other.path.display();
                if directory.is_of_kafka().await.map_err(|error| error.to_string())? {
                    return Err(format!(
                        "{path} was written by Kafka: only a single directory of Kafka's can be taken over, the first"
                    ));
                }
                if online.contains(&directory.directory_id()) {
                    return Err(format!(
                        "{path} has the directory.id of another one that was given: it is a copy of that. Leave it out"
                    ));
                }
                other.directory = Some(directory);
                other.is_online = true;
                Ok(())
            }
            Err(error @ (StorageError::InUse { .. } | StorageError::Refused { .. })) => {
                Err(error.to_string())
            }
            Err(error) => {
                other.tell(&error.to_string());
                Ok(())
            }
        }
    }

    /// The cluster that all of them belong to.
    pub(super) fn cluster_id(&self) -> u128 {
        self.first.cluster_id()
    }

    /// The ids of those that are online, the first first.
    pub(super) fn online(&self) -> Vec<u128> {
        let others = self.others.iter().filter(|other| other.is_online);
        let others = others.filter_map(|other| other.directory.as_ref());
        std::iter::once(&self.first)
            .chain(others)
            .map(LogDirectory::directory_id)
            .collect()
    }

    /// Those that are online, by id, with their paths.
    pub(super) fn online_paths(&self) -> Vec<(u128, PathBuf)> {
        let first = (self.first.directory_id(), self.first.path().to_path_buf());
        let others = self.others.iter().filter(|other| other.is_online);
        let others =
            others.filter_map(|other| Some((other.directory.as_ref()?.directory_id(), other.path.clone())));
        std::iter::once(first).chain(others).collect()
    }

    /// The paths of those that are not.
    pub(super) fn offline_paths(&self) -> Vec<PathBuf> {
        let others = self.others.iter().filter(|other| !other.is_online);
        others.map(|other| other.path.clone()).collect()
    }

    /// Whether every partition is in a directory that is online: then no journal is left that knows of what was deleted.
    pub(super) fn are_whole(&self) -> bool {
        !self.is_one_missing && self.others.iter().all(|other| other.is_online)
    }

    /// As many journals as shards in each, as [`LogDirectory::prepare_shards`] does. `live` are all partitions, each with its
    /// directory. One in which that fails is offline.
    ///
    /// # Errors
    /// If it fails in the first.
    pub(super) async fn prepare_shards(
        &mut self,
        shards: u32,
        live: Vec<(u128, PartitionSpec)>,
        deleted: &BTreeSet<u128>,
        owner: impl Fn(TopicPartition) -> u32,
    ) -> Result<(), String> {
        let in_directory = |wanted: &[u128]| -> Vec<PartitionSpec> {
            let live = live.iter().filter(|(directory, _)| wanted.contains(directory));
            live.map(|(_, spec)| spec.clone()).collect()
        };
        let first = in_directory(&[UNASSIGNED_DIRECTORY, self.first.directory_id()]);
        let prepared = self.first.prepare_shards(shards, &first, deleted, &owner).await;
        prepared.map_err(|error| error.to_string())?;
        for other in self.others.iter_mut().filter(|other| other.is_online) {
            let Some(directory) = &mut other.directory else {
                continue;
            };
            let live = in_directory(&[directory.directory_id()]);
            let prepared = directory.prepare_shards(shards, &live, deleted, &owner).await;
            if let Err(error) = prepared {
                other.is_online = false;
                other.tell(&error.to_string());
            }
        }
        Ok(())
    }

    /// What there is of deleted partitions in those that are online.
    ///
    /// # Errors
    /// If one of them cannot be listed.
    pub(super) async fn leftovers(&self) -> Result<Vec<Leftovers>, String> {
        let others = self.others.iter().filter(|other| other.is_online);
        let others = others.filter_map(|other| other.directory.as_ref());
        let mut leftovers = Vec::new();
        for directory in std::iter::once(&self.first).chain(others) {
            let found = directory.leftovers().await;
            leftovers.push(found.map_err(|error| error.to_string())?);
        }
        Ok(leftovers)
    }

    /// Takes one offline, and tells the operator. `false`: it was offline already.
    ///
    /// # Errors
    /// If it is the first: the host cannot go on.
    pub(super) fn fail(&mut self, id: u128, reason: &str) -> Result<bool, String> {
        if id == self.first.directory_id() {
            return Err(format!(
                "the log in {} cannot go on: {reason}. What was acknowledged is on the disk: mend the cause and start again",
                self.first.path().display()
            ));
        }
        let is_it = |other: &&mut Other| {
            let directory = other.directory.as_ref();
            other.is_online && directory.is_some_and(|directory| directory.directory_id() == id)
        };
        let Some(other) = self.others.iter_mut().find(is_it) else {
            return Ok(false);
        };
        other.is_online = false;
        other.tell(reason);
        Ok(true)
    }
}

impl Other {
    fn tell(&self, reason: &str) {
        eprintln!(
            "millstream: log directory {} is offline until the next start, and so are the partitions in it: {reason}",
            self.path.display()
        );
    }
}
