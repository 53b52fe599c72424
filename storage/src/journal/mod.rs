//! The journal of a shard: the file that says what was acknowledged.
//!
//! Owns the ring file and both superblocks. Promises: no block is written twice within a lap, a superblock is never
//! the only copy of what it says, and nothing of a file is believed that its CRC does not cover.
//! Must never decide what an entry means: that is recovery's.

pub(crate) mod record;
mod scan;
pub(crate) mod superblock;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use ring::buffer::{Pool, Slice};
use ring::directory;
use ring::file::{Durability, File, OpenOptions};

pub(crate) use self::scan::{Scan, Visit};
use self::superblock::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, ReplayStart, Superblock};
use crate::error::{StorageError, is_unreadable};

/// Written at a time while a new ring is filled with zeroes, in bytes.
const FILL_BYTES: usize = 1 << 20;

/// No journal takes a larger batch, whatever its ring, in bytes: a shard must have memory for several.
pub const LARGEST_RECORD_MAX: usize = 16 << 20;
/// A record has so many bytes more than that, for its head.
pub(crate) const LARGEST_RECORD_ROOM: usize = 128 << 10;

/// How a journal is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalOptions {
    pub(crate) ring_bytes: u64,
    pub(crate) block_bytes: usize,
    pub(crate) largest_record: usize,
}

/// The largest record of a ring, in bytes: an eighth of it, and 128 KiB.
pub(crate) fn largest_record_of(ring_bytes: u64) -> usize {
    let eighth = usize::try_from(ring_bytes / 8).unwrap_or(LARGEST_RECORD_MAX);
    eighth.min(LARGEST_RECORD_MAX) + LARGEST_RECORD_ROOM
}

impl JournalOptions {
    /// A ring of about `ring_bytes`. A record is at most an eighth of the ring and 128 KiB, so that a ring of 8 MiB
    /// takes a batch of Kafka's default `max.message.bytes`.
    pub(crate) fn new(ring_bytes: u64, block_bytes: usize) -> JournalOptions {
        let ring_bytes = ring_bytes.next_multiple_of(block_bytes as u64);
        let largest_record = largest_record_of(ring_bytes);
        JournalOptions {
            ring_bytes,
            block_bytes,
            largest_record: largest_record.next_multiple_of(block_bytes),
        }
    }
}

/// What a journal is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To go on with it.
    ReadWrite,
    /// To look at it: nothing can be written.
    ReadOnly,
}

/// An open journal.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    pool: Pool,
    superblock: RefCell<Superblock>,
}

impl Journal {
    /// Makes the journal `path`, filled with zeroes so that no write to it ever changes metadata. It gets its name
    /// when all of it is durable; the directory's entry is durable when this returns.
    pub(crate) async fn create(
        path: &Path,
        options: JournalOptions,
        journal_id: u128,
        first: Superblock,
        pool: &Pool,
    ) -> Result<(), StorageError> {
        let new = path.with_extension("new");
        let write = OpenOptions {
            write: true,
            create: true,
            truncate: true,
            direct: true,
            ..OpenOptions::default()
        };
        let file = File::open(&new, write)
            .await
            .map_err(StorageError::io("create", &new))?;
        let end = 2 * options.block_bytes as u64 + options.ring_bytes;
        let mut zeroes = take(pool, FILL_BYTES).await?;
        zeroes.fill(0);
        let zeroes = zeroes.freeze(0..FILL_BYTES);
        let mut at = 0;
        while at < end {
            let bytes = FILL_BYTES.min(usize::try_from(end - at).unwrap_or(FILL_BYTES));
            file.write_all_at(vec![zeroes.slice(0..bytes)], at, Durability::Completed)
                .await
                .map_err(StorageError::io("write", &new))?;
            at += bytes as u64;
        }
        drop(zeroes);
        let journal = Journal {
            file,
            path: new.clone(),
            pool: pool.clone(),
            superblock: RefCell::new(Superblock { journal_id, ..first }),
        };
        journal.write_superblock(|_| {}).await?;
        journal.write_superblock(|_| {}).await?;
        journal
            .file
            .sync_all()
            .await
            .map_err(StorageError::io("flush", &new))?;
        directory::rename(&new, path)
            .await
            .map_err(StorageError::io("rename", &new))?;
        let parent = path.parent().unwrap_or(Path::new("."));
        directory::sync(parent)
            .await
            .map_err(StorageError::io("flush", parent))
    }

    /// The superblock of a journal that holds nothing.
    pub(crate) fn first_superblock(options: JournalOptions, checkpoint_generation: u64) -> Superblock {
        Superblock {
            journal_id: 0,
            start_epoch: 0,
            generation: 0,
            tail: ReplayStart {
                seq: 1,
                position: 2 * options.block_bytes as u64,
                previous_crc: 0,
            },
            ring_bytes: options.ring_bytes,
            checkpoint_generation,
            block_bytes: options.block_bytes as u32,
            largest_record: options.largest_record as u32,
        }
    }

    /// The newer superblock of the journal `path`; `None` if there is no such file. Nothing is changed.
    pub(crate) async fn look_at(path: &Path, pool: &Pool) -> Result<Option<Superblock>, StorageError> {
        let options = OpenOptions {
            read: true,
            direct: true,
            ..OpenOptions::default()
        };
        match File::open(path, options).await {
            Ok(file) => newest_superblock(&file, path, pool).await.map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("open", path)(error)),
        }
    }

    /// Opens the journal `path`, believing the newer of its superblocks that are whole.
    pub(crate) async fn open(
        path: &Path,
        journal_id: u128,
        pool: &Pool,
        access: Access,
    ) -> Result<Journal, StorageError> {
        let options = OpenOptions {
            read: true,
            write: access == Access::ReadWrite,
            direct: true,
            ..OpenOptions::default()
        };
        let file = File::open(path, options)
            .await
            .map_err(StorageError::io("open", path))?;
        let superblock = newest_superblock(&file, path, pool).await?;
        if superblock.journal_id != journal_id {
            let what = "it is another journal than the manifest names";
            return Err(StorageError::corrupt(path, 0, what));
        }
        let length = file.len().await.map_err(StorageError::io("look at", path))?;
        if length < 2 * u64::from(superblock.block_bytes) + superblock.ring_bytes {
            return Err(StorageError::corrupt(
                path,
                length,
                "the file is shorter than its ring",
            ));
        }
        Ok(Journal {
            file,
            path: path.to_path_buf(),
            pool: pool.clone(),
            superblock: RefCell::new(superblock),
        })
    }

    pub(crate) fn superblock(&self) -> Superblock {
        *self.superblock.borrow()
    }

    /// Both copies of the superblock, as they are in the file: A, then B.
    pub(crate) async fn superblocks(&self) -> Result<[Option<Superblock>; 2], StorageError> {
        let mut copies = [None; 2];
        for (copy, at) in copies.iter_mut().zip([0, self.block_bytes() as u64]) {
            *copy = read_superblock(&self.file, &self.path, at, &self.pool).await?;
        }
        Ok(copies)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn block_bytes(&self) -> usize {
        self.superblock.borrow().block_bytes as usize
    }

    /// Where the ring begins and ends in the file.
    pub(crate) fn ring(&self) -> std::ops::Range<u64> {
        let superblock = self.superblock.borrow();
        let begin = 2 * u64::from(superblock.block_bytes);
        begin..begin + superblock.ring_bytes
    }

    /// Begins a new start epoch: both superblocks carry it before this returns, one written after the other. What was
    /// read may so far have been in the device's cache alone: it is flushed first, because the new epoch's records
    /// will vouch for it. Both name `tail` as well: what is needed of the journal as it was found.
    pub(crate) async fn begin_epoch(&self, tail: ReplayStart) -> Result<u64, StorageError> {
        self.flush().await?;
        let epoch = self.superblock.borrow().start_epoch + 1;
        self.write_superblock(|superblock| {
            superblock.start_epoch = epoch;
            superblock.tail = tail;
        })
        .await?;
        self.write_superblock(|_| {}).await?;
        Ok(epoch)
    }

    /// Names the newest checkpoint, and gives the blocks before `tail` back. Durable when it returns; only then may
    /// they be written again.
    pub(crate) async fn advance_tail(&self, tail: ReplayStart, checkpoint: u64) -> Result<(), StorageError> {
        self.write_superblock(|superblock| {
            superblock.tail = tail;
            superblock.checkpoint_generation = checkpoint;
        })
        .await
    }

    /// Writes a record, durably.
    pub(crate) async fn write(&self, slices: Vec<Slice>, position: u64) -> Result<(), StorageError> {
        self.write_record(slices, position, Durability::Durable).await
    }

    /// The same, but it is durable only after a flush that begins when this has returned.
    pub(crate) async fn write_unflushed(
        &self,
        slices: Vec<Slice>,
        position: u64,
    ) -> Result<(), StorageError> {
        self.write_record(slices, position, Durability::Completed).await
    }

    async fn write_record(
        &self,
        slices: Vec<Slice>,
        position: u64,
        durability: Durability,
    ) -> Result<(), StorageError> {
        debug_assert!(self.ring().contains(&position));
        self.file
            .write_all_at(slices, position, durability)
            .await
            .map_err(StorageError::io("write", &self.path))
    }

    /// Flushes the device's cache: every write that had completed, to any file of the device, is on stable storage.
    /// What their files' metadata need is not.
    pub(crate) async fn flush(&self) -> Result<(), StorageError> {
        self.file
            .sync_data()
            .await
            .map_err(StorageError::io("flush", &self.path))
    }

    async fn write_superblock(&self, change: impl FnOnce(&mut Superblock)) -> Result<(), StorageError> {
        let mut next = self.superblock();
        change(&mut next);
        next.generation += 1;
        let block_bytes = next.block_bytes as usize;
        let mut block = take(&self.pool, block_bytes).await?;
        block.fill(0);
        superblock::encode(&mut block, &next);
        let at = (next.generation % 2) * block_bytes as u64;
        self.file
            .write_all_at(vec![block.freeze(0..block_bytes)], at, Durability::Durable)
            .await
            .map_err(StorageError::io("write", &self.path))?;
        *self.superblock.borrow_mut() = next;
        Ok(())
    }
}

/// The newer of those superblocks that are whole.
async fn newest_superblock(file: &File, path: &Path, pool: &Pool) -> Result<Superblock, StorageError> {
    let first = read_superblock(file, path, 0, pool).await?;
    // The second copy is one block in. If the first does not say what a block is, the smallest is looked for first: before the
    // second copy there is nothing but the first one's padding, and behind it what clients have sent.
    let is_possible = |bytes: &u32| first.is_none_or(|first| first.block_bytes == *bytes);
    let powers = BLOCK_BYTES_MIN.ilog2()..=BLOCK_BYTES_MAX.ilog2();
    let blocks = powers.map(|power| 1_u32 << power).filter(is_possible);
    let mut second = None;
    for block_bytes in blocks {
        let found = read_superblock(file, path, u64::from(block_bytes), pool).await?;
        second = found.filter(|found| found.block_bytes == block_bytes);
        if second.is_some() {
            break;
        }
    }
    let newest = [first, second]
        .into_iter()
        .flatten()
        .max_by_key(|copy| copy.generation);
    newest.ok_or_else(|| StorageError::corrupt(path, 0, "neither superblock is whole"))
}

async fn read_superblock(
    file: &File,
    path: &Path,
    at: u64,
    pool: &Pool,
) -> Result<Option<Superblock>, StorageError> {
    // A whole page from its boundary: copies closer together than that are read with it.
    let page = at - at % 4_096;
    let buffer = take(pool, 4_096).await?;
    match file.read_exact_at(buffer, 0..4_096, page).await {
        // What lies behind the file's end is whatever the buffer was used for before.
        (Ok(count), buffer) => {
            let from = usize::try_from(at - page).unwrap_or(0);
            Ok(superblock::decode(&buffer[from.min(count)..count]))
        }
        // The other copy may be readable.
        (Err(error), _) if is_unreadable(&error) => Ok(None),
        (Err(error), _) => Err(StorageError::io("read", path)(error)),
    }
}

/// A buffer from `pool`, waiting for one if need be.
pub(crate) async fn take(pool: &Pool, bytes: usize) -> Result<ring::buffer::Buffer, StorageError> {
    pool.take(bytes).await.map_err(|_| StorageError::OutOfMemory {
        bytes,
        pool: pool.name(),
    })
}

#[cfg(test)]
mod tests;
