//! A shard's logs: one in each log directory of its host, which fail one by one.
//!
//! Owns which of them are open. The first is where the host has its metadata: without it the host ends, so that it is always
//! there. Must never give a log of a directory that the metadata says is offline.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::executor::{Class, spawn};
use storage::{KnownTopics, PartitionLog, PartitionSpec, ShardLog, TopicPartition};

use crate::controller::image::{Image, UNASSIGNED_DIRECTORY, host_of};
use crate::shard::context::{DirectoryFailure, ShardDirectory};

/// See the module.
pub(crate) struct Logs {
    directories: Vec<Directory>,
    /// Of directories that were offline before the shard was there.
    offline: Vec<PathBuf>,
}

struct Directory {
    id: u128,
    path: PathBuf,
    /// None once it is offline.
    log: RefCell<Option<ShardLog>>,
}

impl Logs {
    /// Opens the log in each directory, with the partitions that are there, all at the same time. Beside them what was set
    /// aside as a stray, and which directories cannot be used.
    ///
    /// # Errors
    /// If the first cannot.
    pub(crate) async fn open(
        directories: Vec<ShardDirectory>,
        offline: Vec<PathBuf>,
        specs: Vec<(u128, PartitionSpec)>,
        image: &Arc<Image>,
    ) -> Result<(Logs, Vec<String>, Vec<DirectoryFailure>), String> {
        let mut opening = Vec::with_capacity(directories.len());
        for (at, ShardDirectory { id, storage }) in directories.into_iter().enumerate() {
            let is_here = |directory| directory == id || (at == 0 && directory == UNASSIGNED_DIRECTORY);
            let specs = specs.iter().filter(|(directory, _)| is_here(*directory));
            let specs: Vec<PartitionSpec> = specs.map(|(_, spec)| spec.clone()).collect();
            let (path, image) = (storage.directory.clone(), image.clone());
            let opened = spawn(Class::Latency, async move {
                let live: BTreeSet<u128> = image.topics_by_id.keys().copied().collect();
                let topics = KnownTopics {
                    live: &live,
                    deleted: &image.deleted_topics,
                };
                ShardLog::open(storage, specs, topics).await
            });
            opening.push((id, path, opened));
        }
        let mut logs = Logs {
            directories: Vec::with_capacity(opening.len()),
            offline,
        };
        let (mut strays, mut failures) = (Vec::new(), Vec::new());
        for (id, path, opened) in opening {
            let log = match opened.await {
                Ok((log, report)) => {
                    strays.extend(report.strays);
                    Some(log)
                }
                Err(error) if logs.directories.is_empty() => return Err(error.to_string()),
                Err(error) => {
                    failures.push(DirectoryFailure {
                        directory: id,
                        reason: error.to_string(),
                    });
                    None
                }
            };
            logs.directories.push(Directory {
                id,
                path,
                log: RefCell::new(log),
            });
        }
        Ok((logs, strays, failures))
    }

    /// The log beside the host's metadata.
    pub(crate) fn first(&self) -> ShardLog {
        let first = self.directories[0].log.borrow().clone();
        first.expect("the host ends when it fails")
    }

    /// Those that are online, with their directories.
    pub(crate) fn online(&self) -> impl Iterator<Item = (u128, ShardLog)> {
        let logs = self.directories.iter();
        logs.filter_map(|directory| Some((directory.id, directory.log.borrow().clone()?)))
    }

    /// All directories, each with the log if it is online.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Path, Option<(u128, ShardLog)>)> {
        let own = self.directories.iter().map(|directory| {
            let log = directory.log.borrow().clone();
            (&*directory.path, log.map(|log| (directory.id, log)))
        });
        own.chain(self.offline.iter().map(|path| (&**path, None)))
    }

    /// The id of a directory: of the first, if the metadata names none.
    pub(crate) fn named(&self, directory: u128) -> u128 {
        match directory {
            UNASSIGNED_DIRECTORY => self.directories[0].id,
            directory => directory,
        }
    }

    /// Whether it is the one without which the host ends.
    pub(crate) fn is_first(&self, directory: u128) -> bool {
        self.named(directory) == self.directories[0].id
    }

    /// The log in a directory, if it is online.
    pub(crate) fn in_directory(&self, directory: u128) -> Option<ShardLog> {
        let wanted = self.named(directory);
        self.online().find(|(id, _)| *id == wanted).map(|(_, log)| log)
    }

    /// A partition of this shard, if its directory is online.
    pub(crate) fn partition(&self, id: TopicPartition) -> Option<PartitionLog> {
        self.online().find_map(|(_, log)| log.partition(id))
    }

    /// Whether any of them has wanted memory lately and got none.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.online().any(|(_, log)| log.is_short_of_memory())
    }

    /// Takes out of use what is not online any more by the image. What is under way in it ends as it can; nobody waits.
    pub(crate) fn follow(&self, image: &Image, node_id: i32) {
        let known = image.directories.get(&host_of(node_id));
        let is_online = |id: &u128| known.is_some_and(|known| known.online.contains(id));
        for directory in self.directories.iter().skip(1) {
            if !is_online(&directory.id)
                && let Some(log) = directory.log.take()
            {
                spawn(Class::Background, async move {
                    // The disk may take nothing any more: what it takes is a shorter start, and no more than that.
                    let _ = log.stop().await;
                })
                .detach();
            }
        }
    }
}
