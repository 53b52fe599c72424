//! The data directory: who may use it, what it is called, and which journals it has.
//!
//! ```text
//! .lock               held by the process that uses the directory; names it
//! meta.properties     cluster id, directory id (Kafka's names)
//! manifest            the journals there are
//! journals/<generation>-<shard>/journal, checkpoint-0, checkpoint-1
//! metadata/           the control thread's
//! <topic>-<partition>/<base offset>.log, .index, .timeindex, partition.metadata
//! *-delete            a dropped partition: removed after a while, or when the next start serves
//! *-stray             a partition that no metadata knows; nothing removes it
//! ```
//! Promises: one process at a time; a directory that holds data and says nothing of its journals, or of its cluster, is
//! never taken for an empty one.

mod clean;
mod manifest;
mod removal;
mod reshard;

#[cfg(fuzzing)]
pub(crate) use manifest::read_and_write_again as read_and_write_manifest_again;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::buffer::{Pool, Slice};
use ring::directory;
use ring::file::{Durability, File, OpenOptions};

pub(crate) use self::manifest::Manifest;
pub use self::removal::Leftovers;
pub(crate) use self::removal::remove_directory;
use crate::at_once;
use crate::checkpoint::{self, Head, PartitionCheckpoint};
use crate::error::StorageError;
use crate::files::{read_if_there, read_small, replace};
use crate::id::{TopicPartition, from_base64, to_base64};
use crate::journal::superblock::ReplayStart;
use crate::journal::{Journal, JournalOptions};
use crate::metadata::{KnownTopics, Layout};
use crate::partition::{METADATA_FILE, PartitionSpec, set_deleted_aside};
use crate::takeover;

pub(crate) const LOCK_FILE: &str = ".lock";
pub(crate) const PROPERTIES_FILE: &str = "meta.properties";
pub(crate) const MANIFEST_FILE: &str = "manifest";
pub(crate) const JOURNALS: &str = "journals";
/// The control thread's.
const METADATA: &str = "metadata";
/// How long a holder of the lock may still be on its way out, and how often that is looked at.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// What to do without `meta.properties`.
const RESTORE_PROPERTIES: &str = "Restore it from a copy, or write it anew with the cluster id that clients know and the \
                                  directory id that the metadata knows (docs/formats.md draws it), or choose another \
                                  --data-dir";

/// How a data directory is opened.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryOptions {
    /// `journal.bytes`: of each new journal's ring.
    pub journal_bytes: u64,
    /// The id of the cluster, if the directory is new.
    pub new_cluster_id: u128,
    /// The id of the directory, if it is new.
    pub new_directory_id: u128,
    /// Memory for a change of the number of shards, in bytes: as much as one shard's log has.
    pub memory_bytes: usize,
}

/// A data directory that this process alone uses. Dropping it gives it free.
pub struct LogDirectory {
    path: PathBuf,
    options: DirectoryOptions,
    pool: Pool,
    cluster_id: u128,
    directory_id: u128,
    manifest: Option<Manifest>,
    /// What the first journals begin with.
    found: Vec<PartitionCheckpoint>,
    _lock: File,
}

/// Where a shard's journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalPlace {
    /// Holds the journal and its checkpoints.
    pub(crate) directory: PathBuf,
    pub(crate) id: u128,
}

impl JournalPlace {
    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.join("journal")
    }
}

impl LogDirectory {
    /// Memory that an open one takes, in bytes, apart from a change of the number of shards.
    pub const MEMORY_BYTES: usize = 4 << 20;

    /// Whether nothing of ours is in the directory, or there is none.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub async fn is_new(path: &Path) -> Result<bool, StorageError> {
        let names = match directory::list(path).await {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(StorageError::io("list", path)(error)),
        };
        let is_ours = |name: &str| name == PROPERTIES_FILE || comes_later(name);
        Ok(!names.iter().any(|entry| is_ours(&entry.name)))
    }

    /// Takes the directory for this process, and makes it if it is missing.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if another process has it; [`StorageError::Refused`] if it holds data and lacks a file that
    /// says whose it is or where; [`StorageError::Corrupt`] if what it says of itself is damaged. Nothing was changed.
    pub async fn open(path: &Path, options: DirectoryOptions) -> Result<LogDirectory, StorageError> {
        LogDirectory::open_of(path, options, None).await
    }

    /// Takes another directory for the same cluster, as [`Self::open`] does.
    ///
    /// # Errors
    /// As there; and [`StorageError::OtherCluster`].
    pub async fn open_beside(&self, path: &Path) -> Result<LogDirectory, StorageError> {
        let options = DirectoryOptions {
            new_cluster_id: self.cluster_id,
            new_directory_id: ring::random::next_u128(),
            ..self.options
        };
        LogDirectory::open_of(path, options, Some(self.cluster_id)).await
    }

    async fn open_of(
        path: &Path,
        options: DirectoryOptions,
        cluster: Option<u128>,
    ) -> Result<LogDirectory, StorageError> {
        let bytes = LogDirectory::MEMORY_BYTES;
        let pool = Pool::new("directory", bytes).map_err(|_| StorageError::OutOfMemory {
            bytes,
            pool: "directory",
        })?;
        directory::create_all(path)
            .await
            .map_err(StorageError::io("create", path))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            directory::sync(parent)
                .await
                .map_err(StorageError::io("flush", parent))?;
        }
        let lock = lock(path, &pool).await?;
        let (cluster_id, directory_id) = properties(path, &options, &pool).await?;
        if let Some(wanted) = cluster.filter(|wanted| *wanted != cluster_id) {
            return Err(StorageError::OtherCluster {
                path: path.to_path_buf(),
                cluster_id: to_base64(cluster_id),
                wanted: to_base64(wanted),
            });
        }
        let manifest = Manifest::read(&path.join(MANIFEST_FILE), &pool).await?;
        let directory = LogDirectory {
            path: path.to_path_buf(),
            options,
            pool,
            cluster_id,
            directory_id,
            manifest,
            found: Vec::new(),
            _lock: lock,
        };
        directory.clean().await?;
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journals that are made first begin with these partitions, which nobody of ours has written.
    pub(crate) fn begin_with(&mut self, partitions: Vec<PartitionCheckpoint>) {
        assert!(self.manifest.is_none());
        self.found = partitions;
    }

    /// The id of the cluster that the directory belongs to.
    pub fn cluster_id(&self) -> u128 {
        self.cluster_id
    }

    /// The id of the directory.
    pub fn directory_id(&self) -> u128 {
        self.directory_id
    }

    /// Journals that there are: the shards of the last start. 0 in a new directory.
    pub fn shards(&self) -> u32 {
        self.manifest
            .as_ref()
            .map_or(0, |manifest| manifest.journals.len() as u32)
    }

    /// Makes a journal for each shard of `layout`, or moves all partitions to new ones, if those that there are have another
    /// layout: `owner` says which shard has a partition from now on. `live` are the partitions that the metadata has in this
    /// directory; what is of no topic is set aside. A crash anywhere in it leaves either the old journals or the new ones.
    ///
    /// # Errors
    /// What keeps a log from being recovered, or a file from being written.
    pub async fn prepare_shards<'a>(
        &mut self,
        layout: impl Into<Layout>,
        live: &[PartitionSpec],
        topics: impl Into<KnownTopics<'a>>,
        owner: impl Fn(TopicPartition) -> u32,
    ) -> Result<(), StorageError> {
        let (layout, topics) = (layout.into(), topics.into());
        assert!(layout.shards > 0);
        let now = self.manifest.as_ref().map(|manifest| Layout {
            shards: manifest.journals.len() as u32,
            number: manifest.layout,
        });
        match now {
            None => {
                let now_ms = ring::clock::wall_clock_ms();
                let mut by_shard = vec![Vec::new(); layout.shards as usize];
                for partition in std::mem::take(&mut self.found) {
                    by_shard[owner(partition.id) as usize].push(partition);
                }
                self.create_journals(1, layout, now_ms, by_shard).await?;
            }
            Some(now) if now != layout => self.reshard(layout, live, topics, owner).await?,
            Some(_) => {}
        }
        takeover::end_claim(&self.path).await?;
        self.set_deleted_aside(live, topics.deleted).await
    }

    /// Makes one journal for each list of partitions, a shard of `layout` each, as of `time_ms`, and then names them all in
    /// the manifest.
    async fn create_journals(
        &mut self,
        generation: u64,
        layout: Layout,
        time_ms: i64,
        partitions: Vec<Vec<PartitionCheckpoint>>,
    ) -> Result<(), StorageError> {
        let block_bytes = directory::alignment(&self.path)
            .await
            .map_err(StorageError::io("look at", &self.path))?
            .block_bytes;
        let options = JournalOptions::new(self.options.journal_bytes, block_bytes);
        let parent = self.path.join(JOURNALS);
        let mut journals = Vec::with_capacity(partitions.len());
        for (shard, partitions) in partitions.into_iter().enumerate() {
            let place = JournalPlace {
                directory: parent.join(format!("{generation}-{shard}")),
                id: ring::random::next_u128(),
            };
            directory::create_all(&place.directory)
                .await
                .map_err(StorageError::io("create", &place.directory))?;
            let mut first = Head {
                generation: 1,
                journal_id: place.id,
                replay: ReplayStart {
                    seq: 1,
                    position: 2 * block_bytes as u64,
                    previous_crc: 0,
                },
                time_ms,
            };
            // Both files, so that there is one before the newest from the beginning.
            for generation in [1, 2] {
                first.generation = generation;
                let partitions = partitions.iter().cloned();
                checkpoint::write(&place.directory, &first, partitions, block_bytes, &self.pool).await?;
            }
            let superblock = Journal::first_superblock(options, first.generation);
            Journal::create(&place.journal(), options, place.id, superblock, &self.pool).await?;
            journals.push(place.id);
        }
        for path in [&parent, &self.path] {
            directory::sync(path)
                .await
                .map_err(StorageError::io("flush", path))?;
        }
        let manifest = Manifest {
            generation,
            layout: layout.number,
            journals,
        };
        manifest.write(&self.path.join(MANIFEST_FILE)).await?;
        self.manifest = Some(manifest);
        Ok(())
    }

    /// Renames the directories of partitions of `deleted` topics: no journal need know them any more. Without any, which is
    /// nearly always, no directory is looked into.
    async fn set_deleted_aside(
        &self,
        live: &[PartitionSpec],
        deleted: &BTreeSet<u128>,
    ) -> Result<(), StorageError> {
        if deleted.is_empty() {
            return Ok(());
        }
        let names = directory::list(&self.path)
            .await
            .map_err(StorageError::io("list", &self.path))?;
        let places = names.iter().filter(|entry| entry.is_directory);
        let places: Vec<(PathBuf, i32)> = places
            .filter_map(|entry| Some((self.path.join(&entry.name), partition_of(&entry.name)?.1)))
            .collect();
        let live: BTreeSet<TopicPartition> = live.iter().map(|spec| spec.id).collect();
        let (deleted, pool) = (deleted.clone(), self.pool.clone());
        let look = async move |(path, partition): (PathBuf, i32)| {
            // What does not say whose it is is left alone.
            let Ok(Some(topic_id)) = topic_id_of(&path, &pool).await else {
                return Ok(());
            };
            let id = TopicPartition { topic_id, partition };
            // A live one's journal, or a dropped one's DROP, is not this function's business.
            if !live.contains(&id) && deleted.contains(&topic_id) {
                set_deleted_aside(&path, id).await?;
            }
            Ok(())
        };
        at_once::for_each(&places, look).await
    }
}

/// Where the journal of `shard` is.
pub(crate) async fn journal_place(
    path: &Path,
    shard: u32,
    pool: &Pool,
) -> Result<JournalPlace, StorageError> {
    let manifest_path = path.join(MANIFEST_FILE);
    let manifest = Manifest::read(&manifest_path, pool).await?;
    let place = manifest.and_then(|manifest| {
        let id = *manifest.journals.get(shard as usize)?;
        let directory = path
            .join(JOURNALS)
            .join(format!("{}-{shard}", manifest.generation));
        Some(JournalPlace { directory, id })
    });
    place.ok_or_else(|| {
        StorageError::refused(&manifest_path, format!("it names no journal for shard {shard}"))
    })
}

/// The topic's name and the partition's number in the name of a partition's directory.
pub(crate) fn partition_of(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    let partition = number.parse().ok().filter(|_| is_number && !topic.is_empty())?;
    Some((topic, partition))
}

/// The topic id that a partition's directory belongs to, if it says so.
pub(crate) async fn topic_id_of(directory: &Path, pool: &Pool) -> Result<Option<u128>, StorageError> {
    let bytes = read_small(&directory.join(METADATA_FILE), pool).await?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .find_map(|line| from_base64(line.strip_prefix("topic_id:")?.trim())))
}

/// Takes the lock, or says who has it.
async fn lock(path: &Path, pool: &Pool) -> Result<File, StorageError> {
    let lock_path = path.join(LOCK_FILE);
    let options = OpenOptions {
        read: true,
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    let file = File::open(&lock_path, options)
        .await
        .map_err(StorageError::io("open", &lock_path))?;
    if !lock_soon(&file)
        .await
        .map_err(StorageError::io("lock", &lock_path))?
    {
        return Err(in_use(path, pool).await);
    }
    file.set_len(0)
        .await
        .map_err(StorageError::io("cut", &lock_path))?;
    let holder = format!("{}\n", std::process::id());
    file.write_all_at(vec![Slice::from(holder.into_bytes())], 0, Durability::Completed)
        .await
        .map_err(StorageError::io("write", &lock_path))?;
    Ok(file)
}

/// Takes the lock, now or soon. The kernel ends what a killed process had in flight on its ring after the process is gone,
/// and the lock file may be among it: whoever starts the next one at once would be told of a dead holder.
async fn lock_soon(file: &File) -> io::Result<bool> {
    let begun = ring::clock::now();
    loop {
        let is_locked = file.try_lock()?;
        if is_locked || ring::clock::now() - begun >= LOCK_WAIT {
            return Ok(is_locked);
        }
        ring::timer::sleep(LOCK_RETRY).await;
    }
}

/// Says who has the directory.
async fn in_use(path: &Path, pool: &Pool) -> StorageError {
    let bytes = read_small(&path.join(LOCK_FILE), pool).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let holder = text
        .lines()
        .next()
        .map(str::trim)
        .filter(|holder| !holder.is_empty());
    StorageError::InUse {
        path: path.to_path_buf(),
        holder: holder.unwrap_or("(it did not write its number)").to_owned(),
    }
}

/// Keeps a broker from starting on the directory while it is looked at, without writing to it. `None` if there is no lock
/// to take: no broker was ever here, or this is a copy without it.
///
/// # Errors
/// [`StorageError::InUse`] if a process has the directory.
pub(crate) async fn lock_to_look(path: &Path, pool: &Pool) -> Result<Option<File>, StorageError> {
    let lock_path = path.join(LOCK_FILE);
    let options = OpenOptions {
        read: true,
        ..OpenOptions::default()
    };
    let file = match File::open(&lock_path, options).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", &lock_path)(error)),
    };
    if !lock_soon(&file)
        .await
        .map_err(StorageError::io("lock", &lock_path))?
    {
        return Err(in_use(path, pool).await);
    }
    Ok(Some(file))
}

/// Whether a name is made in a directory only after its `meta.properties`.
fn comes_later(name: &str) -> bool {
    [MANIFEST_FILE, JOURNALS, METADATA].contains(&name) || partition_of(name).is_some()
}

/// Cluster id and directory id, from `meta.properties` or into it.
async fn properties(
    path: &Path,
    options: &DirectoryOptions,
    pool: &Pool,
) -> Result<(u128, u128), StorageError> {
    let file = path.join(PROPERTIES_FILE);
    if let Some(bytes) = read_if_there(&file, pool).await? {
        let ids = ids_in(&bytes);
        let ids =
            ids.map_err(|what| StorageError::refused(&file, format!("{what}. {RESTORE_PROPERTIES}")))?;
        // A start that was killed may have made it, and not come to this.
        directory::sync(path)
            .await
            .map_err(StorageError::io("flush", path))?;
        return Ok(ids);
    }
    // It is durable before anything else is made: beside any of that it was lost, and another id is another cluster.
    let names = directory::list(path)
        .await
        .map_err(StorageError::io("list", path))?;
    if let Some(later) = names.iter().find(|entry| comes_later(&entry.name)) {
        let what = format!(
            "the file is missing, and the directory is not new: it holds {}. With a new cluster id it would be another \
             cluster. {RESTORE_PROPERTIES}",
            later.name
        );
        return Err(StorageError::refused(&file, what));
    }
    let (cluster_id, directory_id) = (options.new_cluster_id, options.new_directory_id);
    let text = format!(
        "version=1\ncluster.id={}\ndirectory.id={}\n",
        to_base64(cluster_id),
        to_base64(directory_id)
    );
    replace(&file, text.into_bytes()).await?;
    Ok((cluster_id, directory_id))
}

/// Cluster id and directory id in a `meta.properties`; or what it lacks.
pub(crate) fn ids_in(bytes: &[u8]) -> Result<(u128, u128), String> {
    let text = String::from_utf8_lossy(bytes);
    let id = |key: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value
            .and_then(|value| from_base64(value.trim()))
            .ok_or_else(|| format!("it has no {key}"))
    };
    Ok((id("cluster.id")?, id("directory.id")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_partitions_are_told_from_others() {
        assert_eq!(partition_of("orders-0"), Some(("orders", 0)));
        assert_eq!(partition_of("my-topic-12"), Some(("my-topic", 12)));
        for name in [
            "metadata",
            "journals",
            "orders-",
            "-3",
            "orders-0.00ab-delete",
            "orders-+1",
            "a-99999999999",
        ] {
            assert_eq!(partition_of(name), None, "{name}");
        }
    }
}
