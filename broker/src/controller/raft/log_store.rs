//! The log: entries in a file, and the same entries in memory.
//!
//! An entry is in the file and flushed before openraft is told. Purging and truncating write a new file and rename it,
//! so that the file stays about as long as what it holds. After an error nothing more is written; a disk that is full is none
//! while somebody waits for room, and some room is kept for the changes that make more.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::rc::Rc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, RaftLogReader, StorageIOError};
use ring::buffer::Slice;
use ring::file::{Allocate, Durability, File};

use crate::controller::raft::files::Files;
use crate::controller::raft::frame::{self, Header};
use crate::controller::raft::vote::VoteStore;
use crate::controller::raft::{Entry, Fence, LogId, MetadataError, RaftStorageError, TypeConfig, Vote};

const NAME: &str = "log";
/// The longest log file, in bytes: snapshots keep it far below.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Reserved behind its end, in bytes, and at least half of it: a full disk still takes some hundred changes, such as the
/// deletion of topics.
const RESERVED_BYTES: u64 = 1 << 20;

/// The entries, for readers beside the writer. Bounded by the snapshots.
type Entries = Rc<RefCell<BTreeMap<u64, Entry>>>;

/// See the module.
pub(crate) struct LogStore {
    files: Files,
    fence: Fence,
    file: File,
    header: Header,
    /// The file's length, in bytes.
    end: Rc<Cell<u64>>,
    /// Up to here the disk has given it room.
    reserved: u64,
    entries: Entries,
    votes: VoteStore,
}

impl LogStore {
    /// Makes an empty log.
    pub(crate) async fn create(files: &Files) -> Result<(), MetadataError> {
        let header = Header {
            file_id: ring::random::next_u64(),
            purged: None,
        };
        files.replace(NAME, header.block()).await.map(drop)
    }

    /// Reads the log, and cuts a torn tail. Every entry below `snapshot_end` is in the snapshot.
    pub(crate) async fn open(
        files: Files,
        votes: VoteStore,
        fence: Fence,
        snapshot_end: u64,
    ) -> Result<LogStore, MetadataError> {
        let path = files.path(NAME);
        let bytes = files.read(NAME, FILE_BYTES_MAX).await?;
        let damaged = |offset, why: String| MetadataError::corrupt(&path, offset, why);
        let scan = frame::scan(&bytes, snapshot_end).map_err(|damage| damaged(damage.offset, damage.why))?;
        if let Some(purged) = scan.header.purged
            && purged.index >= snapshot_end
        {
            let why = format!(
                "entries up to {} are in a snapshot that is not there",
                purged.index
            );
            return Err(damaged(0, why));
        }
        let term = votes.vote().map_or(0, |vote| vote.leader_id.term);
        if let Some(entry) = scan.entries.last()
            && entry.log_id.leader_id.term > term
        {
            let why = format!(
                "its newest entry is of term {}, and the vote beside it of term {term}",
                entry.log_id.leader_id.term
            );
            return Err(damaged(scan.end, why));
        }
        let file = files.file(NAME).await?;
        let entries = scan.entries.into_iter().map(|entry| (entry.log_id.index, entry));
        let mut store = LogStore {
            file,
            header: scan.header,
            end: Rc::new(Cell::new(scan.end)),
            reserved: 0,
            entries: Rc::new(RefCell::new(entries.collect())),
            files,
            fence,
            votes,
        };
        if scan.end == bytes.len() as u64 {
            // After the death of a process, what was read may be in the page cache only: nothing is built on it
            // before it is flushed.
            let flushed = store.file.sync_all().await;
            flushed.map_err(|error| MetadataError::io("flush", &path, error))?;
        } else {
            // A new file, not a shorter one: blocks that are cut off may come back as part of a later write that
            // tears, and must not be taken for frames of it.
            store.rewrite(store.header.purged).await?;
        }
        store.reserve().await;
        Ok(store)
    }

    /// The file's length, in bytes, as it changes.
    pub(crate) fn bytes(&self) -> Rc<Cell<u64>> {
        self.end.clone()
    }

    /// One past the newest entry's index.
    pub(crate) fn end(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn last(&self) -> Option<LogId> {
        let newest = self
            .entries
            .borrow()
            .last_key_value()
            .map(|(_, entry)| entry.log_id);
        newest.or(self.header.purged)
    }

    async fn append_entries(&mut self, new: Vec<Entry>) -> Result<(), MetadataError> {
        self.fence.check()?;
        let durable_end = self.end();
        let mut bytes = Vec::new();
        for entry in &new {
            frame::put_entry(&mut bytes, self.header.file_id, durable_end, entry);
        }
        frame::fill_block(&mut bytes);
        let written = self.write(bytes, true).await;
        self.fence.guard(written)?;
        let numbered = new.into_iter().map(|entry| (entry.log_id.index, entry));
        self.entries.borrow_mut().extend(numbered);
        // Not flushed: the next flush takes it along. It only tells rot from a torn write sooner.
        let mut voucher = Vec::new();
        frame::put_voucher(&mut voucher, self.header.file_id, self.end());
        frame::fill_block(&mut voucher);
        let written = self.write(voucher, false).await;
        self.fence.guard(written)?;
        self.reserve().await;
        Ok(())
    }

    /// Sees to it that some room is kept. A file system that is full, or does not know how, is no worse than without.
    async fn reserve(&mut self) {
        let end = self.end.get();
        if self.reserved < end + RESERVED_BYTES / 2 {
            let to = end + RESERVED_BYTES;
            if self.file.allocate(end..to, Allocate::KeepSize).await.is_ok() {
                self.reserved = to;
            }
        }
    }

    async fn write(&mut self, bytes: Vec<u8>, flush: bool) -> Result<(), MetadataError> {
        let path = self.files.path(NAME);
        let count = bytes.len() as u64;
        if self.end.get() + count > FILE_BYTES_MAX {
            let full = io::Error::other(format!("it would grow beyond {FILE_BYTES_MAX} bytes"));
            return Err(MetadataError::io("write", &path, full));
        }
        let (bytes, file, end) = (Slice::from(bytes), &self.file, self.end.get());
        self.files
            .when_there_is_room(async || {
                let written = file.write_all_at(vec![bytes.clone()], end, Durability::Completed);
                written
                    .await
                    .map_err(|error| MetadataError::io("write", &path, error))
            })
            .await?;
        if flush {
            let flushed = self.file.sync_data().await;
            flushed.map_err(|error| MetadataError::io("flush", &path, error))?;
        }
        self.end.set(self.end.get() + count);
        Ok(())
    }

    /// Writes the file anew with what is in memory.
    async fn rewrite(&mut self, purged: Option<LogId>) -> Result<(), MetadataError> {
        self.fence.check()?;
        let header = Header {
            file_id: ring::random::next_u64(),
            purged,
        };
        let mut bytes = header.block();
        let durable_end = {
            let entries = self.entries.borrow();
            let newest = entries.last_key_value().map(|(index, _)| *index);
            newest.or(purged.map(|id| id.index)).map_or(0, |index| index + 1)
        };
        // The whole file is durable before its name is: each of its entries is vouched for from the first.
        for entry in self.entries.borrow().values() {
            frame::put_entry(&mut bytes, header.file_id, durable_end, entry);
        }
        frame::fill_block(&mut bytes);
        let end = bytes.len() as u64;
        let replaced = self.files.replace(NAME, bytes).await;
        self.file = self.fence.guard(replaced)?;
        self.header = header;
        self.end.set(end);
        self.reserved = 0;
        self.reserve().await;
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, RaftStorageError> {
        Ok(entries_of(&self.entries, range))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, RaftStorageError> {
        Ok(LogState {
            last_purged_log_id: self.header.purged,
            last_log_id: self.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader {
            entries: self.entries.clone(),
        }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), RaftStorageError> {
        let saved = self.votes.save(*vote).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, RaftStorageError> {
        Ok(self.votes.vote())
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<TypeConfig>) -> Result<(), RaftStorageError>
    where
        I: IntoIterator<Item = Entry>,
    {
        let appended = self.append_entries(entries.into_iter().collect()).await;
        match appended {
            Ok(()) => {
                flushed.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                flushed.log_io_completed(Err(io::Error::other(error.to_string())));
                Err(StorageIOError::write_logs(AnyError::new(&error)).into())
            }
        }
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), RaftStorageError> {
        self.entries.borrow_mut().split_off(&from.index);
        let rewritten = self.rewrite(self.header.purged).await;
        rewritten.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    async fn purge(&mut self, up_to: LogId) -> Result<(), RaftStorageError> {
        if self
            .header
            .purged
            .is_some_and(|purged| purged.index >= up_to.index)
        {
            return Ok(());
        }
        let kept = self.entries.borrow_mut().split_off(&(up_to.index + 1));
        *self.entries.borrow_mut() = kept;
        let rewritten = self.rewrite(Some(up_to)).await;
        rewritten.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }
}

/// Reads entries beside the writer.
pub(crate) struct LogReader {
    entries: Entries,
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, RaftStorageError> {
        Ok(entries_of(&self.entries, range))
    }
}

fn entries_of(entries: &Entries, range: impl RangeBounds<u64>) -> Vec<Entry> {
    let entries = entries.borrow();
    // A range that ends before it begins is empty, and `BTreeMap::range` does not take it.
    let found = entries.iter().filter(|&(index, _)| range.contains(index));
    found.map(|(_, entry)| entry.clone()).collect()
}
