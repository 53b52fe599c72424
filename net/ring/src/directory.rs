//! Names: directories, renames, removals, and the flushes that make names durable.
//!
//! All of it may block, so all of it runs on the thread's helper.

use std::io;
use std::path::Path;

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

/// mkdir(2) for `path` and every missing parent. Not durable by itself.
pub async fn create_all(path: &Path) -> io::Result<()> {
    let _ = path;
    todo!()
}

/// The names in `path`, sorted.
pub async fn list(path: &Path) -> io::Result<Vec<Entry>> {
    let _ = path;
    todo!()
}

/// Whether something has this name.
pub async fn exists(path: &Path) -> io::Result<bool> {
    let _ = path;
    todo!()
}

/// rename(2): atomically replaces `to`. Durable after [`sync`] of both directories.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let _ = (from, to);
    todo!()
}

/// unlink(2). Durable after [`sync`] of the directory.
pub async fn remove_file(path: &Path) -> io::Result<()> {
    let _ = path;
    todo!()
}

/// Removes a directory and all below it.
pub async fn remove_all(path: &Path) -> io::Result<()> {
    let _ = path;
    todo!()
}

/// fsync(2) of a directory: the names in it are durable, and so are its removals.
pub async fn sync(path: &Path) -> io::Result<()> {
    let _ = path;
    todo!()
}

/// syncfs(2) of the file system that holds `path`: every completed write, size and name on it is durable.
pub async fn sync_file_system(path: &Path) -> io::Result<()> {
    let _ = path;
    todo!()
}

/// What O_DIRECT asks for in directory `path`.
pub async fn alignment(path: &Path) -> io::Result<Alignment> {
    let _ = path;
    todo!()
}
