//! Files: owned-buffer reads and writes at offsets, flushes, sizes.
//!
//! Every call states whether it makes anything durable. None does unless it says so.

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::buffer::{Buffer, Slice};

/// How to open a file (open(2)).
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Create it if it is missing (mode 0644).
    pub create: bool,
    /// Create it; fail if it exists.
    pub create_new: bool,
    /// Cut it to nothing.
    pub truncate: bool,
    /// O_DIRECT: offsets, lengths and memory must be multiples of [`crate::directory::Alignment::block_bytes`].
    pub direct: bool,
}

/// What must be true when a write's completion arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The kernel, or the device's cache, has the bytes: they survive the process, not a power cut.
    Completed,
    /// RWF_DSYNC (pwritev2(2)): these bytes, and what is needed to read them back, are on stable storage. It covers
    /// no other write, not even an earlier one to the same file.
    Durable,
}

/// How `allocate` treats the file's size (fallocate(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Blocks are reserved, the size stays.
    KeepSize,
    /// Blocks are reserved and the size grows to cover them; they read as zeroes.
    Extend,
}

/// An open file. Clones share the descriptor, which closes when the last clone and the last operation are gone.
#[derive(Clone)]
pub struct File {}

impl File {
    /// Opens `path`. The name of a created file is durable only after [`crate::directory::sync`] of its directory.
    pub async fn open(path: &Path, options: OpenOptions) -> io::Result<File> {
        let _ = (path, options);
        todo!()
    }

    /// Reads into `range` of `buffer` from `offset`. Returns the bytes read, fewer at the end of the file.
    pub async fn read_at(
        &self,
        buffer: Buffer,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Buffer) {
        let _ = (buffer, range, offset);
        todo!()
    }

    /// Like [`File::read_at`], again and again until `range` is full or the file ends.
    pub async fn read_exact_at(
        &self,
        buffer: Buffer,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Buffer) {
        let _ = (buffer, range, offset);
        todo!()
    }

    /// Writes the slices, one after the other, at `offset`; all of them or an error. Short writes are carried on with
    /// (at a block boundary when the file is `direct`). At most 1,024 slices (IOV_MAX).
    pub async fn write_all_at(
        &self,
        slices: Vec<Slice>,
        offset: u64,
        durability: Durability,
    ) -> io::Result<()> {
        let _ = (slices, offset, durability);
        todo!()
    }

    /// fdatasync(2): every write that completed before this call, and the size, is on stable storage.
    /// After an error nothing may be assumed about them, and a second call proves nothing.
    pub async fn sync_data(&self) -> io::Result<()> {
        todo!()
    }

    /// fsync(2): like [`File::sync_data`], with all metadata. Not the file's name: see [`crate::directory::sync`].
    pub async fn sync_all(&self) -> io::Result<()> {
        todo!()
    }

    /// fallocate(2), on the helper thread. Durable only after a sync.
    pub async fn allocate(&self, range: Range<u64>, mode: Allocate) -> io::Result<()> {
        let _ = (range, mode);
        todo!()
    }

    /// ftruncate(2), on the helper thread. Durable only after a sync.
    pub async fn set_len(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        todo!()
    }

    /// The file's size, in bytes.
    pub async fn len(&self) -> io::Result<u64> {
        todo!()
    }

    /// Takes the exclusive advisory lock (flock(2)) if it is free; false if another open file holds it.
    pub fn try_lock(&self) -> io::Result<bool> {
        todo!()
    }
}
