//! Open segment files of a shard, and indexes that were read: a bounded cache.
//!
//! 10,000 partitions may not hold 30,000 descriptors: the least recently used are closed.
//! Owns who has a segment's file open, kept here or not: nobody else opens one to read or write it, but who asks after each
//! read whether the segment is still there (the scrubber), and who cuts one while none of the partition may be made ready.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ring::buffer::{Pool, Slice};
use ring::directory;
use ring::file::{Durability, File, OpenOptions, WeakFile};

use crate::error::StorageError;
use crate::id::TopicPartition;
use crate::index::{self, Entries, EntryCounts};
use crate::segment::{Segment, SegmentName, aside_name, file_stem};

/// One in so many files that are opened to be written to is kept at another's cost: a migration comes by all partitions, and
/// would have each file closed again before it comes back.
const PASSING: u64 = 8;
/// Of so many segments at least it is known who has them open, before those that nobody has any more are forgotten.
const USERS_MIN: usize = 64;
/// Indexes that were read, in memory: of 1 GiB each they are 3 MiB.
const INDEXES_MAX: usize = 16;
/// The largest index file that is believed, in bytes: a segment of 4 GiB with an entry each 4 KiB has 12 MiB.
pub(crate) const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The files of a segment: their extensions.
pub(crate) const EXTENSIONS: [&str; 3] = ["log", "index", "timeindex"];

/// A segment of a partition. A compacted one is another than it was before: what was opened or read of that is not of it.
type Key = (TopicPartition, SegmentName);

/// So many entries of a segment's indexes, as its files have them.
#[derive(Clone)]
struct ReadIndex {
    counts: EntryCounts,
    entries: Rc<Entries>,
}

/// Who has a segment's file open.
#[derive(Default)]
pub(crate) struct Users {
    /// Whoever opens it has a clone.
    opening: Rc<()>,
    file: Option<WeakFile>,
}

impl Users {
    /// Whether there may be more of them than are known: somebody was about to open it when it was forgotten.
    pub(crate) fn may_come(&self) -> bool {
        Rc::strong_count(&self.opening) > 1
    }

    /// Whether there is nobody any more, nor anything on its way to the file.
    pub(crate) fn are_gone(&self) -> bool {
        !self.may_come() && !self.file.as_ref().is_some_and(WeakFile::is_open)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Files {
    open_max: Cell<usize>,
    /// Files that were opened.
    opened: Cell<u64>,
    files: RefCell<Recent<File>>,
    indexes: RefCell<Recent<ReadIndex>>,
    /// Of those and of others.
    users: RefCell<BTreeMap<Key, Users>>,
    /// When there are more, those that have gone are forgotten.
    users_max: Cell<usize>,
}

impl Files {
    /// From now on so many files are kept open.
    pub(crate) fn keep_open(&self, most: usize) {
        self.open_max.set(most);
    }

    /// The `.log` file of a segment, opened for direct reads and writes, made if it is missing and `create` is set.
    pub(crate) async fn log(
        &self,
        directory: &Path,
        id: TopicPartition,
        name: SegmentName,
        create: bool,
    ) -> Result<File, StorageError> {
        let key = (id, name);
        if let Some(file) = self.files.borrow_mut().get(key) {
            return Ok(file);
        }
        let opening = {
            let mut users = self.users.borrow_mut();
            let users = users.entry(key).or_default();
            if let Some(file) = users.file.as_ref().and_then(WeakFile::upgrade) {
                return Ok(file);
            }
            users.opening.clone()
        };
        let path = log_path(directory, name.base_offset);
        // It may come to its place at any time.
        let aside = match name.generation {
            0 => None,
            _ => open_if_there(&aside_path(directory, name, "log"), true).await?,
        };
        let options = OpenOptions {
            read: true,
            write: true,
            direct: true,
            ..OpenOptions::default()
        };
        // Most are there; and the kernel opens those at once, but makes a file on another thread.
        let file = match aside {
            Some(file) => Ok(file),
            None => match File::open(&path, options).await {
                Err(error) if create && error.kind() == std::io::ErrorKind::NotFound => {
                    File::open(&path, OpenOptions { create, ..options }).await
                }
                opened => opened,
            },
        };
        let file = file.map_err(StorageError::io("open", &path))?;
        self.opened.set(self.opened.get() + 1);
        let mut users = self.users.borrow_mut();
        let known = users.get_mut(&key);
        let Some(known) = known.filter(|known| Rc::ptr_eq(&known.opening, &opening)) else {
            // It was forgotten meanwhile, so it may be the file that is removed: kept, it would hold its space.
            return Ok(file);
        };
        if let Some(file) = known.file.as_ref().and_then(WeakFile::upgrade) {
            return Ok(file); // another was faster
        }
        known.file = Some(file.downgrade());
        drop(opening);
        if users.len() > self.users_max.get().max(USERS_MIN) {
            users.retain(|_, users| !users.are_gone());
            self.users_max.set(2 * users.len());
        }
        let mut files = self.files.borrow_mut();
        let is_kept =
            !create || files.values.len() < self.open_max.get() || self.opened.get().is_multiple_of(PASSING);
        if is_kept {
            files.put(key, file.clone(), self.open_max.get());
        }
        Ok(file)
    }

    /// The first so many entries of a segment's indexes. Files that make no sense give none: everything is found without,
    /// too.
    pub(crate) async fn index(
        &self,
        directory: &Path,
        id: TopicPartition,
        name: SegmentName,
        segment_bytes: u32,
        counts: EntryCounts,
        pool: &Pool,
    ) -> Rc<Entries> {
        let key = (id, name);
        let known = self.indexes.borrow_mut().get(key);
        if let Some(known) = known.filter(|known| known.counts == counts) {
            return known.entries;
        }
        let read = async |extension: &str| {
            let aside = aside_path(directory, name, extension);
            let found = match name.generation {
                0 => Vec::new(),
                _ => read_index(&aside, pool).await?,
            };
            if found.is_empty() {
                read_index(&final_path(directory, name.base_offset, extension), pool).await
            } else {
                Some(found)
            }
        };
        let (Some(offsets), Some(times)) = (read("index").await, read("timeindex").await) else {
            return Rc::default(); // not remembered: it may be opened the next time
        };
        let entries = Rc::new(index::decode(&offsets, &times, counts, segment_bytes).unwrap_or_default());
        let index = ReadIndex {
            counts,
            entries: entries.clone(),
        };
        self.indexes.borrow_mut().put(key, index, INDEXES_MAX);
        entries
    }

    /// Forgets the files of a segment. Who has its `.log` open.
    pub(crate) fn forget_segment(&self, id: TopicPartition, name: SegmentName) -> Users {
        self.files.borrow_mut().remove((id, name));
        self.indexes.borrow_mut().remove((id, name));
        self.users.borrow_mut().remove(&(id, name)).unwrap_or_default()
    }

    /// Forgets the indexes of a segment.
    pub(crate) fn forget_index(&self, id: TopicPartition, name: SegmentName) {
        self.indexes.borrow_mut().remove((id, name));
    }

    /// Forgets all files of a partition.
    pub(crate) fn forget(&self, id: TopicPartition) {
        self.users.borrow_mut().retain(|key, _| key.0 != id);
        self.files.borrow_mut().forget(id);
        self.indexes.borrow_mut().forget(id);
    }
}

/// The path of a segment's `.log`.
pub(crate) fn log_path(directory: &Path, base_offset: i64) -> PathBuf {
    final_path(directory, base_offset, "log")
}

/// Where one of a segment's files is, or will be at last.
pub(crate) fn final_path(directory: &Path, base_offset: i64, extension: &str) -> PathBuf {
    directory.join(file_stem(base_offset)).with_extension(extension)
}

/// Where one of a compacted segment's files is before that.
pub(crate) fn aside_path(directory: &Path, name: SegmentName, extension: &str) -> PathBuf {
    directory.join(aside_name(name, extension))
}

/// The files of a segment, where they are now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentFiles<'a> {
    /// Of the partition.
    pub(crate) directory: &'a Path,
    pub(crate) name: SegmentName,
    /// It was compacted, and they are not at their place yet.
    pub(crate) is_aside: bool,
}

impl<'a> SegmentFiles<'a> {
    /// Those of a segment that is known, in its partition's directory.
    pub(crate) fn of(segment: &Segment, directory: &'a Path) -> SegmentFiles<'a> {
        SegmentFiles {
            directory,
            name: segment.name(),
            is_aside: segment.is_aside,
        }
    }

    /// The same where they are going to be.
    pub(crate) fn in_place(&self) -> SegmentFiles<'a> {
        SegmentFiles {
            is_aside: false,
            ..*self
        }
    }

    /// One of them.
    pub(crate) fn path(&self, extension: &str) -> PathBuf {
        if self.is_aside {
            aside_path(self.directory, self.name, extension)
        } else {
            final_path(self.directory, self.name.base_offset, extension)
        }
    }
}

/// An index file; empty if it cannot be read, because everything is found without it, only later. `None` if no file can be
/// opened now.
async fn read_index(path: &Path, pool: &Pool) -> Option<Vec<u8>> {
    match read_small(path, pool).await {
        Err(error) if error.is_short_of_descriptors() => None,
        read => Some(read.unwrap_or_default()),
    }
}

/// A file opened for reading, direct or not; `None` if there is none.
pub(crate) async fn open_if_there(path: &Path, direct: bool) -> Result<Option<File>, StorageError> {
    let options = OpenOptions {
        read: true,
        direct,
        ..OpenOptions::default()
    };
    match File::open(path, options).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open", path)(error)),
    }
}

/// A whole small file; empty if there is none. See [`read_if_there`].
pub(crate) async fn read_small(path: &Path, pool: &Pool) -> Result<Vec<u8>, StorageError> {
    Ok(read_if_there(path, pool).await?.unwrap_or_default())
}

/// A whole small file; `None` if there is none.
///
/// # Errors
/// If it cannot be read, or is too large to be one of ours: that is never the same as a file that is not there.
pub(crate) async fn read_if_there(path: &Path, pool: &Pool) -> Result<Option<Vec<u8>>, StorageError> {
    const STEP: usize = 64 << 10;
    let Some(file) = open_if_there(path, false).await? else {
        return Ok(None);
    };
    let length = file.len().await.map_err(StorageError::io("look at", path))?;
    let mut bytes = Vec::new();
    if length > INDEX_BYTES_MAX {
        let what = format!("it has {length} bytes, and never should have more than {INDEX_BYTES_MAX}");
        return Err(StorageError::corrupt(path, 0, what));
    }
    let mut buffer = crate::journal::take(pool, STEP).await?;
    while (bytes.len() as u64) < length {
        let (result, returned) = file.read_exact_at(buffer, 0..STEP, bytes.len() as u64).await;
        buffer = returned;
        match result {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(StorageError::io("read", path)(error)),
        }
    }
    Ok(Some(bytes))
}

/// Puts a file in the place of another, whole or not at all. Durable when it returns.
pub(crate) async fn replace(path: &Path, bytes: Vec<u8>) -> Result<(), StorageError> {
    put_whole(path, bytes).await?;
    let parent = path.parent().unwrap_or(Path::new("."));
    directory::sync(parent)
        .await
        .map_err(StorageError::io("flush", parent))
}

/// The same, but its name is durable only with the next flush of the directory.
pub(crate) async fn put_whole(path: &Path, bytes: Vec<u8>) -> Result<(), StorageError> {
    let new = path.with_extension("new");
    let file = write_whole(&new, bytes).await?;
    file.sync_all().await.map_err(StorageError::io("flush", &new))?;
    directory::rename(&new, path)
        .await
        .map_err(StorageError::io("rename", &new))
}

/// Makes a file of these bytes, whatever was there. Not durable by itself.
pub(crate) async fn write_whole(path: &Path, bytes: Vec<u8>) -> Result<File, StorageError> {
    let options = OpenOptions {
        write: true,
        create: true,
        truncate: true,
        ..OpenOptions::default()
    };
    let file = File::open(path, options)
        .await
        .map_err(StorageError::io("create", path))?;
    file.write_all_at(vec![Slice::from(bytes)], 0, Durability::Completed)
        .await
        .map_err(StorageError::io("write", path))?;
    Ok(file)
}

/// The most recently used values.
struct Recent<T> {
    values: BTreeMap<Key, (u64, T)>,
    /// Whose each use was last.
    uses: BTreeMap<u64, Key>,
    clock: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent {
            values: BTreeMap::new(),
            uses: BTreeMap::new(),
            clock: 0,
        }
    }
}

impl<T: Clone> Recent<T> {
    fn get(&mut self, key: Key) -> Option<T> {
        let (used, value) = self.values.get_mut(&key)?;
        self.clock += 1;
        self.uses.remove(used);
        self.uses.insert(self.clock, key);
        *used = self.clock;
        Some(value.clone())
    }

    fn put(&mut self, key: Key, value: T, most: usize) {
        self.remove(key);
        self.clock += 1;
        self.values.insert(key, (self.clock, value));
        self.uses.insert(self.clock, key);
        if self.values.len() > most
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.values.remove(&oldest);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some((used, _)) = self.values.remove(&key) {
            self.uses.remove(&used);
        }
    }

    fn forget(&mut self, id: TopicPartition) {
        self.values.retain(|key, _| key.0 != id);
        self.uses.retain(|_, key| key.0 != id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::simulator::Simulator;

    use super::*;

    #[test]
    fn a_file_that_is_removed_while_it_is_opened_is_not_kept_open() {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let ended = simulator.run(host, 1 << 20, Duration::from_secs(60), || async {
            let (files, id) = (Files::default(), TopicPartition::default());
            files.keep_open(8);
            files
                .log(Path::new("/"), id, SegmentName::first(0), true)
                .await
                .expect("opened");
            assert_eq!(files.files.borrow().values.len(), 1);
            files.forget_segment(id, SegmentName::first(0));
            let mut opening = std::pin::pin!(files.log(Path::new("/"), id, SegmentName::first(0), true));
            std::future::poll_fn(|context| {
                assert!(opening.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            files.forget_segment(id, SegmentName::first(0));
            opening.await.expect("opened");
            assert!(files.files.borrow().values.is_empty(), "it would hold its space");
        });
        ended.expect("it ends");
    }

    #[test]
    fn whoever_comes_by_all_files_has_no_more_of_them_open_and_finds_most_of_those_again() {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let ended = simulator.run(host, 1 << 20, Duration::from_secs(60), || async {
            const OPEN_MAX: usize = 40;
            let files = Files::default();
            files.keep_open(OPEN_MAX);
            let path = Path::new("/");
            for _ in 0..2 {
                files.opened.set(0);
                for partition in 0..100 {
                    let id = TopicPartition {
                        partition,
                        ..TopicPartition::default()
                    };
                    let name = SegmentName::first(partition.into());
                    files.log(path, id, name, true).await.expect("opened");
                }
                assert_eq!(files.files.borrow().values.len(), OPEN_MAX);
            }
            files.opened.get()
        });
        let opened = ended.expect("it ends");
        assert!((60..=80).contains(&opened), "{opened} of 100 were opened again");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_one_that_is_not_there() {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let read = |simulator: &mut Simulator| {
            let ended = simulator.run(host, 4 << 20, Duration::from_secs(60), || async {
                let pool = Pool::new("small", 1 << 20).expect("memory");
                let path = Path::new("/manifest");
                let before = read_if_there(path, &pool).await;
                replace(path, b"text".to_vec()).await.expect("written");
                before
            });
            ended.expect("it ends")
        };
        assert_eq!(read(&mut simulator).expect("read"), None);
        assert_eq!(read(&mut simulator).expect("read"), Some(b"text".to_vec()));
        assert!(simulator.make_unreadable(host, "/manifest", 0).expect("a file"));
        assert!(matches!(read(&mut simulator), Err(StorageError::Io { .. })));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let id = TopicPartition::default();
        let name = SegmentName::first;
        let mut recent = Recent::default();
        for base in 0..3 {
            recent.put((id, name(base)), base, 3);
        }
        assert_eq!(recent.get((id, name(0))), Some(0));
        recent.put((id, name(3)), 3, 3);
        assert_eq!(recent.get((id, name(1))), None);
        assert_eq!(recent.get((id, name(0))), Some(0));
        recent.forget(id);
        assert_eq!(recent.values.len(), 0);
    }
}
