//! The host's log directories: the first, which has the metadata as well, and others, which may fail.
//!
//! Owns their locks, and which of them are online. Promises that a directory that is missing is not taken for an empty one:
//! nothing new is begun anywhere while one that the metadata knows is not there. Without the first the host ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use storage::{KnownTopics, Layout, Leftovers, LogDirectory, PartitionSpec, StorageError, TopicPartition};

use crate::controller::image::{LogDirectories, UNASSIGNED_DIRECTORY};
use crate::shard::context::DirectoryFailure;

/// Where the metadata is, in the first directory.
const METADATA: &str = "metadata";

/// See the module.
pub(super) struct Directories {
    first: LogDirectory,
    others: Vec<Other>,
    /// All that the metadata knows, the first among them.
    known: BTreeSet<u128>,
}

/// A directory that may fail.
struct Other {
    path: PathBuf,
    condition: Condition,
}

enum Condition {
    Online(LogDirectory),
    /// It has failed since it was taken: its lock is kept.
    Failed {
        _lock: LogDirectory,
    },
    /// It could not be taken.
    Absent,
}

/// Where the metadata is has to be the first. Comes before anything is written.
///
/// # Errors
/// If the first has none, and another one was used before; or it cannot be looked at.
pub(super) async fn check_order(paths: &[PathBuf]) -> Result<(), String> {
    let (first, others) = paths.split_first().expect("there is one");
    if has_metadata(first).await? {
        return Ok(());
    }
    for other in others {
        // What cannot be looked at was used before, or it would not be here.
        if !LogDirectory::is_new(other).await.unwrap_or(false) {
            return Err(format!(
                "{} has no metadata, and {} was used before: give the directory with the metadata first, and mount its file \
                 system",
                first.display(),
                other.display()
            ));
        }
    }
    Ok(())
}

/// The first has the metadata, or is new: beside new metadata every log would be nobody's.
///
/// # Errors
/// If it has logs and no metadata, or cannot be looked at.
pub(super) async fn check_first(first: &LogDirectory) -> Result<(), String> {
    if first.shards() == 0 || has_metadata(first.path()).await? {
        return Ok(());
    }
    Err(format!(
        "{} has logs and no metadata. Nothing was changed. If it is one of several log directories, give the one with the \
         metadata first; else restore {METADATA}/ in it from a copy",
        first.path().display()
    ))
}

/// Before what Kafka wrote is claimed: the others are not Kafka's as well, nor another cluster's.
///
/// # Errors
/// If one is.
pub(super) async fn check_beside_kafka(first: &LogDirectory, others: &[PathBuf]) -> Result<(), String> {
    for other in others {
        let words = |error: StorageError| error.to_string();
        if LogDirectory::is_new(other).await.map_err(words)? {
            continue;
        }
        let other = first.open_beside(other).await.map_err(words)?;
        if other.is_of_kafka().await.map_err(words)? {
            return Err(format!(
                "{} was written by Kafka, too: only a single directory of Kafka's can be taken over, the first",
                other.path().display()
            ));
        }
    }
    Ok(())
}

async fn has_metadata(path: &Path) -> Result<bool, String> {
    let metadata = path.join(METADATA);
    let there = ring::directory::exists(&metadata).await;
    there.map_err(|error| format!("cannot look at {}: {error}", metadata.display()))
}

impl Directories {
    /// Takes `others` beside the first. `known` is what the metadata knows, without what is `given_up`. What cannot be used is
    /// offline, and the operator is told.
    ///
    /// # Errors
    /// If the first is not the one that the metadata knows, the one that is given up is there, or another one is in use, of
    /// another cluster, or there twice: mistakes that cost nothing yet.
    pub(super) async fn open(
        first: LogDirectory,
        others: &[PathBuf],
        known: &LogDirectories,
        given_up: Option<u128>,
    ) -> Result<Directories, String> {
        if let Some(&id) = known.online.first()
            && id != first.directory_id()
        {
            return Err(format!(
                "{}/meta.properties has another directory.id than the one under which the metadata knows the directory. Nothing was \
                 changed. Write directory.id={} there",
                first.path().display(),
                storage::to_base64(id)
            ));
        }
        let mut directories = Directories {
            known: known.online.iter().chain(&known.offline).copied().collect(),
            first,
            others: Vec::with_capacity(others.len()),
        };
        directories.known.insert(directories.first.directory_id());
        let (mut new, mut begun) = (Vec::new(), Vec::new());
        for (at, path) in others.iter().enumerate() {
            directories.others.push(Other {
                path: path.clone(),
                condition: Condition::Absent,
            });
            match LogDirectory::is_new(path).await {
                Ok(true) => new.push(at),
                // A start that was killed before the metadata knew it has begun it.
                Ok(false) => {
                    if directories.take(at, given_up).await? {
                        begun.push(at);
                    }
                }
                Err(error) => directories.others[at].tell(&error.to_string()),
            }
        }
        let missing = directories.named().offline;
        let missing: Vec<String> = missing.into_iter().map(storage::to_base64).collect();
        let missing = missing.join(", ");
        if !missing.is_empty() {
            eprintln!(
                "millstream: the metadata knows log directories that cannot be used now: directory.id {missing}"
            );
        }
        if missing.is_empty() {
            for at in new {
                directories.take(at, given_up).await?;
            }
            return Ok(directories);
        }
        for at in new.into_iter().chain(begun) {
            directories.leave(at, &format!(
                "it is empty, and the log directories {missing} are missing. If one of them belongs here, mount its file system. If \
                 it is lost for good, start once with --give-up-directory and its id: the partitions in it begin anew, and empty"
            ));
        }
        Ok(directories)
    }

    /// Takes one, unless it cannot be used. Whether it is one that the metadata does not know, and nothing is in it.
    async fn take(&mut self, at: usize, given_up: Option<u128>) -> Result<bool, String> {
        let online = self.named().online;
        let other = &mut self.others[at];
        let opened = match self.first.open_beside(&other.path).await {
            Ok(directory) => directory
                .is_of_kafka()
                .await
                .map(|is_kafkas| (directory, is_kafkas)),
            Err(error) => Err(error),
        };
        match opened {
            Ok((_, true)) => Err(format!(
                "{} was written by Kafka: only a single directory of Kafka's can be taken over, the first",
                other.path.display()
            )),
            Ok((directory, false)) if online.contains(&directory.directory_id()) => Err(format!(
                "{} has the directory.id of another one that was given: it is a copy of that. Leave it out",
                other.path.display()
            )),
            Ok((directory, false)) if given_up == Some(directory.directory_id()) => Err(format!(
                "the log directory that is given up is there, in {}. Nothing was changed. If that is meant, leave it out",
                other.path.display()
            )),
            // It is known before it has a journal.
            Ok((directory, false))
                if directory.shards() > 0 && !self.known.contains(&directory.directory_id()) =>
            {
                other.tell(
                    "the metadata does not know it: it was given up, or the metadata is an older copy. Nothing of it was changed",
                );
                Ok(false)
            }
            Ok((directory, false)) => {
                let is_begun = self.known.insert(directory.directory_id());
                other.condition = Condition::Online(directory);
                Ok(is_begun)
            }
            Err(error @ (StorageError::InUse { .. } | StorageError::OtherCluster { .. })) => {
                Err(error.to_string())
            }
            Err(error) => {
                other.tell(&error.to_string());
                Ok(false)
            }
        }
    }

    /// Leaves one alone in which nothing may begin now.
    fn leave(&mut self, at: usize, reason: &str) {
        let other = &mut self.others[at];
        if let Condition::Online(directory) = &other.condition {
            self.known.remove(&directory.directory_id());
        }
        other.fail(reason);
    }

    /// The cluster that all of them belong to.
    pub(super) fn cluster_id(&self) -> u128 {
        self.first.cluster_id()
    }

    /// Those that are online, the first first.
    fn online(&self) -> impl Iterator<Item = &LogDirectory> {
        let others = self.others.iter().filter_map(|other| match &other.condition {
            Condition::Online(directory) => Some(directory),
            Condition::Failed { .. } | Condition::Absent => None,
        });
        std::iter::once(&self.first).chain(others)
    }

    /// Which are online, and which are not, for the metadata.
    pub(super) fn named(&self) -> LogDirectories {
        let online: Vec<u128> = self.online().map(LogDirectory::directory_id).collect();
        let offline = self.known.iter().filter(|id| !online.contains(id));
        LogDirectories {
            offline: offline.copied().collect(),
            online,
        }
    }

    /// Those that are online, by id, with their paths.
    pub(super) fn online_paths(&self) -> Vec<(u128, PathBuf)> {
        let online = self.online();
        online
            .map(|directory| (directory.directory_id(), directory.path().to_path_buf()))
            .collect()
    }

    /// The paths of those that are not.
    pub(super) fn offline_paths(&self) -> Vec<PathBuf> {
        let is_online = |other: &&Other| matches!(other.condition, Condition::Online(_));
        let offline = self.others.iter().filter(|other| !is_online(other));
        offline.map(|other| other.path.clone()).collect()
    }

    /// Whether all that the metadata knows are online: then no journal is left that knows of what was deleted.
    pub(super) fn are_whole(&self) -> bool {
        self.named().offline.is_empty()
    }

    /// Journals of this layout in each, as [`LogDirectory::prepare_shards`] does. `live` are all partitions, each with its
    /// directory. One in which that fails is offline.
    ///
    /// # Errors
    /// If it fails in the first.
    pub(super) async fn prepare_shards(
        &mut self,
        layout: Layout,
        live: Vec<(u128, PartitionSpec)>,
        topics: KnownTopics<'_>,
        owner: impl Fn(TopicPartition) -> u32,
    ) -> Result<(), String> {
        let in_directory = |wanted: &[u128]| -> Vec<PartitionSpec> {
            let live = live.iter().filter(|(directory, _)| wanted.contains(directory));
            live.map(|(_, spec)| spec.clone()).collect()
        };
        let first = in_directory(&[UNASSIGNED_DIRECTORY, self.first.directory_id()]);
        let prepared = self.first.prepare_shards(layout, &first, topics, &owner).await;
        prepared.map_err(|error| error.to_string())?;
        for other in &mut self.others {
            let Condition::Online(directory) = &mut other.condition else {
                continue;
            };
            let live = in_directory(&[directory.directory_id()]);
            let prepared = directory.prepare_shards(layout, &live, topics, &owner).await;
            if let Err(error) = prepared {
                other.fail(&error.to_string());
            }
        }
        Ok(())
    }

    /// What there is of deleted partitions in those that are online; of the others', what can be listed.
    ///
    /// # Errors
    /// If the first cannot be listed.
    pub(super) async fn leftovers(&self) -> Result<Vec<Leftovers>, String> {
        let mut leftovers = Vec::new();
        for (at, directory) in self.online().enumerate() {
            match directory.leftovers().await {
                Ok(found) => leftovers.push(found),
                Err(error) if at == 0 => return Err(error.to_string()),
                // A disk that fails is noticed by who writes to it. These are looked for again by the next start.
                Err(error) => {
                    eprintln!("millstream: {error}; what was deleted there keeps its space for now");
                }
            }
        }
        Ok(leftovers)
    }

    /// Takes those offline that have failed, and tells the operator. Whether one of them was online.
    ///
    /// # Errors
    /// If the first is among them: the host cannot go on.
    pub(super) fn fail(&mut self, failures: Vec<DirectoryFailure>) -> Result<bool, String> {
        let mut is_news = false;
        for DirectoryFailure {
            directory: id,
            reason,
        } in failures
        {
            if id == self.first.directory_id() {
                return Err(format!(
                    "the log in {} cannot go on: {reason}. What was acknowledged is on the disk: mend the cause and start again",
                    self.first.path().display()
                ));
            }
            let is_it = |other: &&mut Other| matches!(&other.condition, Condition::Online(directory) if directory.directory_id() == id);
            if let Some(other) = self.others.iter_mut().find(is_it) {
                other.fail(&reason);
                is_news = true;
            }
        }
        Ok(is_news)
    }
}

impl Other {
    fn fail(&mut self, reason: &str) {
        if let Condition::Online(lock) = std::mem::replace(&mut self.condition, Condition::Absent) {
            self.condition = Condition::Failed { _lock: lock };
        }
        self.tell(reason);
    }

    fn tell(&self, reason: &str) {
        eprintln!(
            "millstream: log directory {} is offline until the next start, and so are the partitions in it: {reason}",
            self.path.display()
        );
    }
}
