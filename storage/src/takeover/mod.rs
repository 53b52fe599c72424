//! A data directory that Kafka wrote, on its way to be ours: its logs as they are, its metadata record by record.
//!
//! Owns what is believed of Kafka's files. Every byte of every log is read once, before anything begins: what a clean stop of
//! Kafka leaves is whole, and what is not is refused. Must never write to what Kafka has written, but for index files, and
//! nothing that Kafka minds before the directory is claimed: until then Kafka can be started again. The manifest decides: a
//! start that is killed before there is one begins again.

mod log;
mod metadata;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;

use ring::buffer::Pool;
use ring::directory;

use self::log::ReadLog;
use crate::directory::{LogDirectory, PROPERTIES_FILE, partition_of, topic_id_of};
use crate::error::StorageError;
use crate::files::read_small;
use crate::id::TopicPartition;

/// Kafka leaves it when it was stopped cleanly, and removes it when it starts.
pub(crate) const CLEAN_STOP_FILE: &str = ".kafka_cleanshutdown";
/// The same file, from when the directory is being taken over until there is a manifest.
const CLAIM_FILE: &str = ".kafka_taken_over";
/// Where Kafka says which offset each log begins at, of those that do not begin with their first segment.
const LOG_STARTS_FILE: &str = "log-start-offset-checkpoint";
/// Memory for reading, in bytes: a batch of Kafka's metadata may have 8 MiB.
const MEMORY_BYTES: usize = 12 << 20;

/// A log that Kafka wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaLog {
    /// The topic's name.
    pub topic: String,
    /// Its id, and the partition's number.
    pub id: TopicPartition,
    /// The newest leader epoch of its batches; -1 without one.
    pub leader_epoch: i32,
    /// The largest producer id of its batches; -1 without one.
    pub producer_id: i64,
}

/// How far the reading of logs has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Logs that were read.
    pub logs: usize,
    /// Logs that there are.
    pub logs_in_all: usize,
    /// Bytes that were read.
    pub bytes: u64,
}

impl LogDirectory {
    /// Whether Kafka wrote it and was stopped cleanly, and it has not been taken over yet.
    ///
    /// # Errors
    /// If the directory cannot be looked at.
    pub async fn is_of_kafka(&self) -> Result<bool, StorageError> {
        if self.shards() > 0 {
            return Ok(false);
        }
        let [stopped, claimed] = marks(self.path()).await?;
        Ok(stopped || claimed)
    }

    /// The number of the broker that it was (`node.id`).
    ///
    /// # Errors
    /// If the directory does not say so.
    pub async fn kafka_node(&self) -> Result<i32, StorageError> {
        let file = self.path().join(PROPERTIES_FILE);
        let text = read_small(&file, &pool()?).await?;
        let text = String::from_utf8_lossy(&text);
        let node = text
            .lines()
            .find_map(|line| line.strip_prefix("node.id=")?.trim().parse().ok());
        node.ok_or_else(|| StorageError::refused(&file, "it says no node.id, as Kafka's does"))
    }

    /// From here on the directory is not Kafka's any more: a start of Kafka would look at every log. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::Refused`] if Kafka was started since it was looked at.
    pub async fn claim_from_kafka(&self) -> Result<(), StorageError> {
        let (file, claim) = (self.path().join(CLEAN_STOP_FILE), self.path().join(CLAIM_FILE));
        let [stopped, claimed] = marks(self.path()).await?;
        if claimed {
            return Ok(());
        }
        if !stopped {
            let what =
                "it was there a moment ago: Kafka was started meanwhile. Stop it, and start this again";
            return Err(StorageError::refused(&file, what));
        }
        directory::rename(&file, &claim)
            .await
            .map_err(StorageError::io("rename", &file))?;
        directory::sync(self.path())
            .await
            .map_err(StorageError::io("flush", self.path()))
    }

    /// Shows the values of all records of Kafka's metadata (KRaft, KIP-631): those of the newest snapshot, and those since.
    ///
    /// # Errors
    /// If they are not there, or not whole; or what `visit` says is wrong with one.
    pub async fn kafka_metadata(
        &self,
        visit: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), StorageError> {
        metadata::each_record(&self.path().join(metadata::DIRECTORY), &pool()?, visit).await
    }

    /// Reads the logs of the topics that `is_wanted`. The journals that [`LogDirectory::prepare_shards`] makes begin with them.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if one is not whole; [`StorageError::Refused`] if it has what we cannot serve as Kafka would.
    pub async fn read_kafka_logs(
        &mut self,
        is_wanted: impl Fn(u128) -> bool,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<KafkaLog>, StorageError> {
        let pool = pool()?;
        let starts = log_starts(self.path(), &pool).await?;
        let names = directory::list(self.path())
            .await
            .map_err(StorageError::io("list", self.path()))?;
        let mut logs = Vec::new();
        for entry in names.iter().filter(|entry| entry.is_directory) {
            let Some((topic, partition)) = partition_of(&entry.name) else {
                continue;
            };
            let path = self.path().join(&entry.name);
            if let Some(topic_id) = topic_id_of(&path, &pool).await?.filter(|id| is_wanted(*id)) {
                let id = TopicPartition { topic_id, partition };
                let start = starts.get(&(topic.to_owned(), partition)).copied();
                logs.push((path, topic.to_owned(), id, start));
            }
        }
        let (mut found, mut taken) = (Vec::with_capacity(logs.len()), Vec::with_capacity(logs.len()));
        let mut done = Progress {
            logs: 0,
            logs_in_all: logs.len(),
            bytes: 0,
        };
        for (path, topic, id, start) in logs {
            let log = ReadLog::read(&path, start, &pool, |bytes| {
                done.bytes += bytes;
                progress(done);
            });
            let (checkpoint, producer_id) = log.await?.checkpoint(id, &topic);
            done.logs += 1;
            found.push(KafkaLog {
                topic,
                id,
                leader_epoch: checkpoint.leader_epochs.newest(),
                producer_id,
            });
            taken.push(checkpoint);
        }
        // The indexes, before a journal relies on them.
        directory::sync_file_system(self.path())
            .await
            .map_err(StorageError::io("flush", self.path()))?;
        self.begin_with(taken);
        Ok(found)
    }
}

fn pool() -> Result<Pool, StorageError> {
    Pool::new("takeover", MEMORY_BYTES).map_err(|_| StorageError::OutOfMemory {
        bytes: MEMORY_BYTES,
        pool: "takeover",
    })
}

/// Whether Kafka says that it was stopped cleanly, and whether we say that the directory is being taken over.
async fn marks(path: &Path) -> Result<[bool; 2], StorageError> {
    Ok([
        is_there(&path.join(CLEAN_STOP_FILE)).await?,
        is_there(&path.join(CLAIM_FILE)).await?,
    ])
}

/// Refuses a directory in which Kafka was since it was taken over, or claimed: what Kafka wrote, our files do not know.
pub(crate) async fn refuse_if_kafka_was_here(path: &Path, has_journals: bool) -> Result<(), StorageError> {
    let [stopped, claimed] = marks(path).await?;
    let what = match (stopped, has_journals, claimed) {
        (true, true, _) => {
            "Kafka has run in this directory since it was taken over, and may have written to its logs. Restore the directory from a copy \
             of before that; or remove this file, if Kafka has written nothing"
        }
        (true, false, true) => {
            "Kafka has run in this directory since a start began to take it over. To begin anew, remove the directories metadata and \
             journals and the file .kafka_taken_over"
        }
        _ => return Ok(()),
    };
    Err(StorageError::refused(&path.join(CLEAN_STOP_FILE), what))
}

/// There is a manifest: the directory is ours.
pub(crate) async fn end_claim(path: &Path) -> Result<(), StorageError> {
    let claim = path.join(CLAIM_FILE);
    if !is_there(&claim).await? {
        return Ok(());
    }
    directory::remove_file(&claim)
        .await
        .map_err(StorageError::io("remove", &claim))
}

async fn is_there(path: &Path) -> Result<bool, StorageError> {
    directory::exists(path)
        .await
        .map_err(StorageError::io("look at", path))
}

/// Whether a file, or a directory, is one that Kafka leaves, and that nobody reads once the directory is taken over.
pub(crate) fn is_kafkas(path: &Path) -> bool {
    const NAMES: [&str; 8] = [
        CLAIM_FILE,
        LOG_STARTS_FILE,
        "cleaner-offset-checkpoint",
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "leader-epoch-checkpoint",
        "bootstrap.checkpoint",
        metadata::DIRECTORY,
    ];
    let is_of_a_segment = |extension: &str| ["snapshot", "txnindex", "deleted"].contains(&extension);
    path.file_name()
        .is_some_and(|name| NAMES.iter().any(|known| name == *known))
        || path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(is_of_a_segment)
}

/// The offsets that logs begin at, where Kafka says so: by topic and partition.
async fn log_starts(path: &Path, pool: &Pool) -> Result<BTreeMap<(String, i32), i64>, StorageError> {
    let file = path.join(LOG_STARTS_FILE);
    let text = read_small(&file, pool).await?;
    let text = String::from_utf8_lossy(&text);
    starts_in(&text).ok_or_else(|| StorageError::corrupt(&file, 0, "it is not a list of offsets"))
}

/// A version, how many lines follow, and in each of these a topic, a partition and an offset. Nothing is an empty list.
fn starts_in(text: &str) -> Option<BTreeMap<(String, i32), i64>> {
    let mut lines = text.lines();
    match lines.next() {
        None => return Some(BTreeMap::new()),
        Some(version) if version.trim() != "0" => return None,
        Some(_) => {}
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let starts: Option<BTreeMap<_, _>> = lines
        .map(|line| {
            let mut words = line.split(' ');
            let topic = words.next()?.to_owned();
            let partition = words.next()?.parse().ok()?;
            let offset = words.next()?.trim().parse().ok()?;
            words.next().is_none().then_some(((topic, partition), offset))
        })
        .collect();
    starts.filter(|starts| starts.len() == count)
}

#[cfg(test)]
mod tests;
