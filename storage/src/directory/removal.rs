//! The removal of what nobody needs any more: a name at a time, so that whoever does it may be stopped between two, and
//! the thread's other calls wait for one name and not for a directory of 100,000.
//!
//! Must never be given a directory that somebody uses, or whose name somebody may take meanwhile.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ring::directory;
use ring::executor::yield_now;

use super::LogDirectory;
use super::clean::directories_in;
use crate::error::StorageError;
use crate::partition::METADATA_FILE;

/// Names that are listed at a time.
const STEP: usize = 256;
/// What a deleted partition's directory ends with.
const DELETED_SUFFIX: &str = "-delete";

/// Directories of deleted partitions that are still there.
pub struct Leftovers {
    paths: Vec<PathBuf>,
}

impl LogDirectory {
    /// What there is of deleted partitions: an earlier life did not come to it, or this one's start has set it aside. To be
    /// asked between the start and the first deletion: what is deleted later is removed by its shard, in its time.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub async fn leftovers(&self) -> Result<Leftovers, StorageError> {
        let names = directories_in(&self.path).await?;
        let deleted = names.iter().filter(|name| name.ends_with(DELETED_SUFFIX));
        Ok(Leftovers {
            paths: deleted.map(|name| self.path.join(name)).collect(),
        })
    }
}

impl Leftovers {
    /// Removes all that can be removed. What a crash leaves is found by the next start.
    ///
    /// # Errors
    /// The first of what could not be removed.
    pub async fn remove(self) -> Result<(), StorageError> {
        let mut result = Ok(());
        for path in self.paths {
            result = result.and(remove_directory(&path).await);
        }
        result
    }
}

/// Removes a partition's directory and all below it, a name at a time; what says whose it is comes last, for whoever finds it half
/// removed.
pub(crate) async fn remove_directory(path: &Path) -> Result<(), StorageError> {
    loop {
        let entries = match directory::first(path, STEP).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StorageError::io("list", path)(error)),
        };
        let mut is_removed = false;
        let files = entries.iter().filter(|entry| !entry.is_directory);
        for entry in files.filter(|entry| entry.name != METADATA_FILE) {
            let file = path.join(&entry.name);
            is_removed |= remove_file(&file)
                .await
                .map_err(StorageError::io("remove", &file))?;
            yield_now().await;
        }
        if !is_removed {
            break;
        }
    }
    // Only what has no business there is left in it.
    directory::remove_all(path)
        .await
        .map_err(StorageError::io("remove", path))
}

/// Whether it was there.
async fn remove_file(path: &Path) -> io::Result<bool> {
    match directory::remove_file(path).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::file::{File, OpenOptions};
    use ring::simulator::{DiskOperation, Injection, Simulator};

    use super::*;

    #[test]
    fn a_directory_says_whose_it_is_until_all_else_is_gone() {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let injection = Injection {
            operation: DiskOperation::Name,
            path_contains: "zzz".to_owned(),
            // It is made first.
            after: 1,
            times: 1,
            errno: 5,
        };
        simulator.inject(host, injection);
        let ended = simulator.run(host, 1 << 20, Duration::from_secs(1), || async {
            let path = Path::new("/p-0");
            directory::create_all(path).await.expect("made");
            let options = OpenOptions {
                write: true,
                create: true,
                ..OpenOptions::default()
            };
            for name in ["aaa", METADATA_FILE, "zzz"] {
                File::open(&path.join(name), options).await.expect("made");
            }
            remove_directory(path).await.expect_err("it is interrupted");
            let left = directory::list(path).await.expect("listed");
            let left: Vec<String> = left.into_iter().map(|entry| entry.name).collect();
            assert_eq!(left, [METADATA_FILE, "zzz"]);
            remove_directory(path).await.expect("removed");
            assert!(!directory::exists(path).await.expect("a look"));
        });
        ended.expect("it ends");
    }
}
