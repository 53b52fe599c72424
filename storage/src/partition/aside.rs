//! A partition's directory out of sight, under a name that no partition can have: of one that is deleted, to be removed later,
//! or of one that no metadata knows.
//!
//! Owns those names. Must never touch a directory that says it is another incarnation's.

use std::path::{Path, PathBuf};

use ring::directory;

use super::{Partition, PartitionLog};
use crate::directory::{remove_directory, topic_id_of};
use crate::error::StorageError;
use crate::id::TopicPartition;

impl PartitionLog {
    /// Takes the directory of a deleted partition out of sight, to be removed later; durably with the next flush of the data
    /// directory. Its new name, if it has one now: see [`hide_deleted`]. The partition's end must be durable.
    pub(crate) async fn hide_deleted(&self) -> Result<Option<PathBuf>, StorageError> {
        let Partition { shared, id, .. } = &*self.partition;
        shared.files.forget(*id);
        let directory = self.directory();
        match topic_id_of(&directory, &shared.staging).await? {
            Some(topic_id) if topic_id != id.topic_id => Ok(None),
            _ => hide_deleted(&directory, *id).await,
        }
    }
}

/// Sets a directory aside that no metadata knows, if it is there. Durable when it returns; nothing removes it.
pub(crate) async fn set_stray_aside(directory: &Path, id: TopicPartition) -> Result<(), StorageError> {
    rename_aside(directory, id, "stray").await?;
    flush_parent(directory).await
}

/// Sets the directory of a deleted partition aside, if it is there. Durable when it returns.
pub(crate) async fn set_deleted_aside(directory: &Path, id: TopicPartition) -> Result<(), StorageError> {
    hide_deleted(directory, id).await?;
    flush_parent(directory).await
}

/// Renames the directory of a deleted partition. On a disk that is too full for another name it is removed at once instead: who
/// deletes a topic to make room must not need room for it.
async fn hide_deleted(directory: &Path, id: TopicPartition) -> Result<Option<PathBuf>, StorageError> {
    match rename_aside(directory, id, "delete").await {
        Err(error) if error.is_no_space() => {
            remove_directory(directory).await?;
            // A power cut would bring it back, when nobody may know any more that it was deleted.
            flush_parent(directory).await?;
            Ok(None)
        }
        renamed => renamed,
    }
}

async fn flush_parent(directory: &Path) -> Result<(), StorageError> {
    if let Some(parent) = directory.parent() {
        directory::sync(parent)
            .await
            .map_err(StorageError::io("flush", parent))?;
    }
    Ok(())
}

async fn rename_aside(
    directory: &Path,
    id: TopicPartition,
    suffix: &str,
) -> Result<Option<PathBuf>, StorageError> {
    /// Of the old name, so that the new one stays below NAME_MAX.
    const NAME_BYTES: usize = 190;
    let exists = async |path: &Path| {
        directory::exists(path)
            .await
            .map_err(StorageError::io("look at", path))
    };
    let (Some(name), Some(parent), true) = (
        directory.file_name(),
        directory.parent(),
        exists(directory).await?,
    ) else {
        return Ok(None);
    };
    let name = name.to_string_lossy();
    let kept = name.get(..NAME_BYTES.min(name.len())).unwrap_or("partition");
    let mut to = parent.join(format!("{kept}.{:032x}-{suffix}", id.topic_id));
    let mut count = 1;
    while exists(&to).await? {
        count += 1;
        to = parent.join(format!("{kept}.{:032x}.{count}-{suffix}", id.topic_id));
    }
    directory::rename(directory, &to)
        .await
        .map_err(StorageError::io("rename", directory))?;
    Ok(Some(to))
}
