//! Files: owned-buffer reads and writes at offsets, flushes, sizes.
//!
//! Every call states whether it makes anything durable. None does unless it says so.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::buffer::{Buffer, PAGE_SIZE, Slice};
use crate::core;
use crate::driver::Handle;
use crate::operation::{Answer, Call, Operation, Outcome, advance};

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
pub struct File {
    handle: Rc<Handle>,
    direct: bool,
}

/// A file that somebody may have open: it does not keep the descriptor.
#[derive(Clone)]
pub struct WeakFile {
    handle: Weak<Handle>,
    direct: bool,
}

impl WeakFile {
    /// Whether a clone of it, or an operation, is still there.
    pub fn is_open(&self) -> bool {
        self.handle.strong_count() > 0
    }

    /// The file, if it is still open.
    pub fn upgrade(&self) -> Option<File> {
        let handle = self.handle.upgrade()?;
        Some(File {
            handle,
            direct: self.direct,
        })
    }
}

impl File {
    /// The same file, without keeping it open.
    pub fn downgrade(&self) -> WeakFile {
        WeakFile {
            handle: Rc::downgrade(&self.handle),
            direct: self.direct,
        }
    }

    /// Opens `path`. The name of a created file is durable only after [`crate::directory::sync`] of its directory.
    pub async fn open(path: &Path, options: OpenOptions) -> io::Result<File> {
        let path = path.to_path_buf();
        match core::current().begin(Operation::Open { path, options }).await {
            Outcome::Opened(opened) => Ok(File {
                handle: Rc::new(opened?),
                direct: options.direct,
            }),
            _ => unreachable!("an open ends with a file"),
        }
    }

    /// Reads into `range` of `buffer` from `offset`. Returns the bytes read, fewer at the end of the file.
    ///
    /// # Panics
    /// If `range` reaches past the buffer.
    pub async fn read_at(
        &self,
        mut buffer: Buffer,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Buffer) {
        assert!(range.start <= range.end && range.end <= buffer.capacity());
        let mut patience = Patience::new();
        loop {
            let operation = Operation::Read {
                file: self.handle.clone(),
                buffer,
                range: range.clone(),
                offset,
            };
            let Outcome::Read(result, returned) = core::current().begin(operation).await else {
                unreachable!("a read ends with its buffer");
            };
            buffer = returned;
            match result {
                Err(error) if patience.allows(&error).await => {}
                result => return (result, buffer),
            }
        }
    }

    /// Like [`File::read_at`], again and again until `range` is full or the file ends.
    pub async fn read_exact_at(
        &self,
        mut buffer: Buffer,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Buffer) {
        let mut done = 0;
        loop {
            // A direct read that ended within a block is repeated from the block's beginning: the next byte's offset
            // would be refused. If it gives no more, the file ends there.
            let whole = if self.direct {
                done - done % PAGE_SIZE
            } else {
                done
            };
            let left = range.start + whole..range.end;
            let (result, returned) = self.read_at(buffer, left, offset + whole as u64).await;
            buffer = returned;
            match result {
                Ok(count) if whole + count > done => done = whole + count,
                Ok(_) => return (Ok(done), buffer),
                Err(error) => return (Err(error), buffer),
            }
            if done == range.len() {
                return (Ok(done), buffer);
            }
        }
    }

    /// Writes the slices, one after the other, at `offset`; all of them or an error. Short writes are carried on with
    /// (at a block boundary when the file is `direct`). More than 1,024 slices (IOV_MAX) take several writes.
    ///
    /// After an error, or when the future is dropped, any part of the bytes may have been written, or still be.
    pub async fn write_all_at(
        &self,
        mut slices: Vec<Slice>,
        mut offset: u64,
        durability: Durability,
    ) -> io::Result<()> {
        let mut patience = Patience::new();
        while slices.iter().any(|slice| !slice.is_empty()) {
            let operation = Operation::Write {
                file: self.handle.clone(),
                slices,
                offset,
                durability,
            };
            let Outcome::Written(result, returned) = core::current().begin(operation).await else {
                unreachable!("a write ends with its slices");
            };
            slices = returned;
            let left: usize = slices.iter().map(|slice| slice.len()).sum();
            match result {
                Ok(written) if written >= left => return Ok(()),
                Ok(written) => {
                    let whole = if self.direct {
                        written - written % PAGE_SIZE
                    } else {
                        written
                    };
                    advance(&mut slices, whole);
                    offset += whole as u64;
                    if whole > 0 {
                        patience = Patience::new();
                    } else if !patience.allows(&io::ErrorKind::WouldBlock.into()).await {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                }
                Err(error) if patience.allows(&error).await => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// fdatasync(2): every write that completed before this call, and the size, is on stable storage.
    /// After an error nothing may be assumed about them, and a second call proves nothing.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// fsync(2): like [`File::sync_data`], with all metadata. Not the file's name: see [`crate::directory::sync`].
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, metadata: bool) -> io::Result<()> {
        let file = self.handle.clone();
        match core::current().begin(Operation::Sync { file, metadata }).await {
            Outcome::Done(result) => result,
            _ => unreachable!("a flush only ends"),
        }
    }

    /// fallocate(2), on the helper thread. Durable only after a sync.
    pub async fn allocate(&self, range: Range<u64>, mode: Allocate) -> io::Result<()> {
        self.call(Call::Allocate { range, mode }).await.map(drop)
    }

    /// ftruncate(2), on the helper thread. Durable only after a sync.
    pub async fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.call(Call::SetLength { bytes }).await.map(drop)
    }

    /// The file's size, in bytes.
    pub async fn len(&self) -> io::Result<u64> {
        match self.call(Call::Length).await? {
            Answer::Length(bytes) => Ok(bytes),
            answer => unreachable!("a length is answered with a length, not {answer:?}"),
        }
    }

    /// Whether the file has no bytes.
    pub async fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Takes the exclusive advisory lock (flock(2)) if it is free; false if another open file holds it.
    pub fn try_lock(&self) -> io::Result<bool> {
        self.handle.driver().try_lock(self.handle.id())
    }

    async fn call(&self, call: Call) -> io::Result<Answer> {
        core::current()
            .block_on_helper(Some(self.handle.clone()), call)
            .await
    }
}

/// How often a file operation that made no progress (EINTR, EAGAIN, nothing written) is tried again. The kernel does
/// its own waiting for io_uring, so that a second try is rare and a tenth means trouble.
const TRIES_MAX: u32 = 10;
/// The pause before it is tried again.
const TRY_PAUSE: Duration = Duration::from_millis(1);

/// Bounds the tries of one operation.
struct Patience {
    tries: u32,
}

impl Patience {
    fn new() -> Patience {
        Patience { tries: 0 }
    }

    /// Whether to try again after `error`; pauses first.
    async fn allows(&mut self, error: &io::Error) -> bool {
        self.tries += 1;
        let passing = matches!(
            error.kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
        );
        if passing && self.tries < TRIES_MAX {
            crate::timer::sleep(TRY_PAUSE).await;
            return true;
        }
        false
    }
}
