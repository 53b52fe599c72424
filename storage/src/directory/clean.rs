//! What earlier starts left behind of journals, and its removal. That of partitions has time (`removal.rs`).
//!
//! Everything is looked at before anything is removed. A journal goes only if what the manifest lists is there and came
//! after it, or if no start has ever written to it: a lost manifest, or an old one from a copy, costs nothing.

use std::path::Path;

use ring::directory;

use super::{JOURNALS, LogDirectory, MANIFEST_FILE, partition_of};
use crate::checkpoint;
use crate::error::StorageError;
use crate::journal::Journal;
use crate::takeover;

impl LogDirectory {
    /// Removes what earlier starts left behind, and refuses a directory whose journals are gone, or would be.
    pub(super) async fn clean(&self) -> Result<(), StorageError> {
        takeover::refuse_if_kafka_was_here(&self.path, self.manifest.is_some()).await?;
        let is_of_kafka = self.is_of_kafka().await?;
        for name in directories_in(&self.path).await? {
            if self.manifest.is_none() && !is_of_kafka && partition_of(&name).is_some() {
                return Err(self.ends_nowhere(&name).await);
            }
        }
        let journals = self.path.join(JOURNALS);
        let found = directories_in(&journals).await?;
        let mut leftovers = Vec::new();
        let manifest = self.manifest.as_ref();
        // An old manifest names journals that a change of the number of shards has removed.
        let is_whole = manifest.is_some_and(|manifest| manifest.names().all(|name| found.contains(&name)));
        for name in found {
            if manifest.is_some_and(|manifest| manifest.lists(&name)) {
                continue;
            }
            let path = journals.join(&name);
            let journal = path.join("journal");
            let Some(generation) = generation_of(&name) else {
                // No start gives a directory such a name: it is somebody's copy, or nothing of ours.
                if directory::exists(&journal)
                    .await
                    .map_err(StorageError::io("look at", &journal))?
                {
                    let what = "no start has made a journal of that name. Nothing was changed. Move it out of the data \
                                directory";
                    return Err(StorageError::refused(&path, what));
                }
                continue;
            };
            let is_older = manifest.is_some_and(|manifest| generation < manifest.generation);
            let others_are_there = is_whole || is_of_kafka;
            if !(is_whole && is_older) && self.may_hold_data(&path, others_are_there).await? {
                let what = format!(
                    "the journal {} holds what was acknowledged, and this file is missing or does not name it. Nothing \
                     was changed. Restore the newest {MANIFEST_FILE} from a copy, or write it anew: docs/formats.md says \
                     how",
                    path.display()
                );
                return Err(StorageError::refused(&self.path.join(MANIFEST_FILE), what));
            }
            leftovers.push(path);
        }
        for path in leftovers {
            directory::remove_all(&path)
                .await
                .map_err(StorageError::io("remove", &path))?;
        }
        Ok(())
    }

    /// There is a partition, and nothing that says where its log ends.
    async fn ends_nowhere(&self, name: &str) -> StorageError {
        let of_kafka = self.path.join("recovery-point-offset-checkpoint");
        let what = match directory::exists(&of_kafka).await {
            Ok(true) => "it was Kafka's last, which was not stopped cleanly, or still runs. Start Kafka on it once more, stop it with \
                         SIGTERM, and wait until it has ended"
                .to_owned(),
            _ => format!(
                "it holds the partition {name} and no manifest, so it cannot be told where its logs end. Restore the manifest and the \
                 journals from a copy, or choose another --data-dir"
            ),
        };
        StorageError::refused(&self.path, what)
    }

    /// Whether a journal that the manifest does not list may be the only one that knows of a batch. A first start that
    /// crashed has left one that was never begun and lists nothing; a change of the number of shards one that was never
    /// begun, beside those of the manifest; and one that took over what Kafka wrote, beside that.
    async fn may_hold_data(&self, path: &Path, others_are_there: bool) -> Result<bool, StorageError> {
        let Some(superblock) = Journal::look_at(&path.join("journal"), &self.pool).await? else {
            // It gets its name when it is whole: the start that made its directory went no further.
            return Ok(false);
        };
        if superblock.start_epoch > 0 {
            return Ok(true);
        }
        if others_are_there {
            return Ok(false);
        }
        match checkpoint::read(path, &superblock, &self.pool).await {
            Ok((newest, _)) => Ok(!newest.partitions.is_empty()),
            // They are whole before the manifest names the journal: the start that made it went no further.
            Err(StorageError::NoCheckpoint { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The names of the directories in `path`; none if it is not there.
pub(super) async fn directories_in(path: &Path) -> Result<Vec<String>, StorageError> {
    let entries = match directory::list(path).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(StorageError::io("list", path)(error)),
    };
    let directories = entries.into_iter().filter(|entry| entry.is_directory);
    Ok(directories.map(|entry| entry.name).collect())
}

/// The generation in the name of a journal's directory.
fn generation_of(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}
