//! Page-aligned buffers under a hard budget, and the shared slices cut from them.
//!
//! Owns every large allocation of a thread. Never hands out more than a pool's bytes: a taker is refused or waits.

use std::ops::{Deref, DerefMut, Range};

/// Alignment, and granule, of every [`Buffer`]: what O_DIRECT wants at most, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// The pool has fewer bytes left than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBudget {
    /// Bytes asked for, rounded up to whole pages.
    pub wanted: usize,
    /// Bytes that the pool had left.
    pub left: usize,
}

/// A named share of this thread's memory budget. Cheap to clone; all clones draw from the same share.
#[derive(Clone)]
pub struct Pool {}

impl Pool {
    /// Sets `bytes` of the thread's budget aside under `name`.
    ///
    /// # Errors
    /// [`OutOfBudget`] if the thread's budget (`thread::ThreadOptions::memory_bytes`) has less left.
    pub fn new(name: &'static str, bytes: usize) -> Result<Pool, OutOfBudget> {
        let _ = (name, bytes);
        todo!()
    }

    /// A buffer of at least `capacity` bytes (rounded up to whole pages), or a refusal at once.
    pub fn try_take(&self, capacity: usize) -> Result<Buffer, OutOfBudget> {
        let _ = capacity;
        todo!()
    }

    /// A buffer of at least `capacity` bytes; waits, first come first served, until the pool has room.
    ///
    /// # Errors
    /// [`OutOfBudget`] if the whole pool is smaller than `capacity`: waiting would never end.
    pub async fn take(&self, capacity: usize) -> Result<Buffer, OutOfBudget> {
        let _ = capacity;
        todo!()
    }

    /// Bytes of the share.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// Bytes not taken now.
    pub fn bytes_left(&self) -> usize {
        todo!()
    }
}

/// A page-aligned piece of memory with one owner. Its bytes are initialised, but stale: it may have been used before.
/// Dropping it gives its bytes back to the pool.
pub struct Buffer {}

impl Buffer {
    /// Bytes it holds, a multiple of [`PAGE_SIZE`].
    pub fn capacity(&self) -> usize {
        todo!()
    }

    /// Ends writing: the buffer becomes shared and immutable, and `range` of it a slice.
    ///
    /// # Panics
    /// If `range` reaches past the capacity.
    pub fn freeze(self, range: Range<usize>) -> Slice {
        let _ = range;
        todo!()
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        todo!()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        todo!()
    }
}

/// Immutable shared bytes: a range of a frozen [`Buffer`] or of a `Vec<u8>`. A clone costs one non-atomic count.
/// The memory goes back to its pool when the last slice of it is dropped.
#[derive(Clone)]
pub struct Slice {}

impl Slice {
    /// A part of this slice, sharing its memory.
    ///
    /// # Panics
    /// If `range` reaches past its length.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        let _ = range;
        todo!()
    }

    /// Takes the memory back for writing when this is the only slice of a buffer; otherwise returns the slice.
    pub fn try_into_buffer(self) -> Result<Buffer, Slice> {
        todo!()
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        let _ = bytes;
        todo!()
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        todo!()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
