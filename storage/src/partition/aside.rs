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
    let kept = kept_of(&name.to_string_lossy(), id.partition);
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

/// What the new name has of the old one, so that it stays below NAME_MAX: the topic's, cut, and the partition's number. Without that
/// all partitions of a long topic, which go at the same time, would have one new name.
fn kept_of(name: &str, partition: i32) -> String {
    const TOPIC_BYTES: usize = 180;
    let number = format!("-{partition}");
    let topic = name.strip_suffix(&number).unwrap_or(name);
    let kept = topic.get(..TOPIC_BYTES.min(topic.len())).unwrap_or("partition");
    kept.to_owned() + &number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_of_a_long_topic_has_a_name_of_its_own_and_short_ones_keep_theirs() {
        assert_eq!(kept_of("orders-7", 7), "orders-7");
        let topic = "t".repeat(249);
        let names =
            [i32::MAX, 1, 11, 111].map(|partition| kept_of(&format!("{topic}-{partition}"), partition));
        for (at, name) in names.iter().enumerate() {
            let whole = format!("{name}.{:032x}.{}-delete", u128::MAX, u32::MAX);
            assert!(whole.len() <= 255, "{} bytes", whole.len());
            assert!(!names[..at].contains(name), "{name} twice");
        }
    }
}
