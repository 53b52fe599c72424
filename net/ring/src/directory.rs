//! Names: directories, renames, removals, and the flushes that make names durable.
//!
//! All of it may block, so all of it runs elsewhere: on the thread's helper, one after the other; but many may look at
//! once whether a name is there.

use std::io;
use std::path::Path;

use crate::core;
use crate::operation::{Answer, Call};

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last part of its path. Names that are not UTF-8 are left out of listings.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What O_DIRECT on this file system asks of offsets, lengths and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alignment {
    /// The largest of statx(2)'s dio alignments, the file system's block and the device's physical block: also the
    /// unit that a torn write may damage.
    pub block_bytes: usize,
}

/// How large the file system of a directory is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// All of it.
    pub total_bytes: u64,
    /// What a process without privileges can still fill: never more than `total_bytes`.
    pub usable_bytes: u64,
}

/// mkdir(2) for `path` and every missing parent. Not durable by itself.
pub async fn create_all(path: &Path) -> io::Result<()> {
    call(Call::CreateAll { path: path.into() }).await.map(drop)
}

/// The names in `path`, sorted.
pub async fn list(path: &Path) -> io::Result<Vec<Entry>> {
    first(path, usize::MAX).await
}

/// At most `most` of the names in `path`, sorted; which of them, the file system chooses. For whoever removes what it is
/// given: a directory may have more names than a step, or memory, has room for.
pub async fn first(path: &Path, most: usize) -> io::Result<Vec<Entry>> {
    let path = path.into();
    match call(Call::List { path, most }).await? {
        Answer::Entries(entries) => Ok(entries),
        answer => unreachable!("a listing is answered with entries, not {answer:?}"),
    }
}

/// Whether something has this name.
pub async fn exists(path: &Path) -> io::Result<bool> {
    match call(Call::Exists { path: path.into() }).await? {
        Answer::Exists(exists) => Ok(exists),
        answer => unreachable!("a question of existence is not answered with {answer:?}"),
    }
}

/// rename(2): atomically replaces `to`. Durable after [`sync`] of both directories.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.into(), to.into());
    call(Call::Rename { from, to }).await.map(drop)
}

/// unlink(2). Durable after [`sync`] of the directory.
pub async fn remove_file(path: &Path) -> io::Result<()> {
    call(Call::RemoveFile { path: path.into() }).await.map(drop)
}

/// Removes a directory and all below it.
pub async fn remove_all(path: &Path) -> io::Result<()> {
    call(Call::RemoveAll { path: path.into() }).await.map(drop)
}

/// fsync(2) of a directory: the names in it are durable, and so are its removals.
pub async fn sync(path: &Path) -> io::Result<()> {
    call(Call::SyncDirectory { path: path.into() }).await.map(drop)
}

/// syncfs(2) of the file system that holds `path`: every completed write, size and name on it is durable.
pub async fn sync_file_system(path: &Path) -> io::Result<()> {
    call(Call::SyncFileSystem { path: path.into() }).await.map(drop)
}

/// What O_DIRECT asks for in directory `path`.
pub async fn alignment(path: &Path) -> io::Result<Alignment> {
    match call(Call::Alignment { path: path.into() }).await? {
        Answer::Alignment(alignment) => Ok(alignment),
        answer => unreachable!("an alignment is answered with one, not {answer:?}"),
    }
}

/// The file system that holds directory `path`, as statvfs(3) tells it.
pub async fn volume(path: &Path) -> io::Result<Volume> {
    match call(Call::Volume { path: path.into() }).await? {
        Answer::Volume(volume) => Ok(volume),
        answer => unreachable!("a question of size is not answered with {answer:?}"),
    }
}

async fn call(call: Call) -> io::Result<Answer> {
    core::current().block_on_helper(None, call).await
}
