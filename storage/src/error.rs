//! What can go wrong with a log, with the facts that its operator needs.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// The system has no more open files to give.
const ENFILE: i32 = 23;
/// The process has as many open files as it may.
const EMFILE: i32 = 24;

/// Whether an errno(3) says that no more files may be open, of the process or of the system.
pub fn is_short_of_descriptors(code: Option<i32>) -> bool {
    matches!(code, Some(ENFILE | EMFILE))
}

/// Whether an errno(3) says that what is stored cannot be read, as a block device says it: EIO; of a direct read also ENODATA (the
/// medium), EILSEQ (its protection) or EREMOTEIO (the target), which the page cache makes EIO of
/// (Linux, `blk_status_to_errno`).
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const ENODATA: i32 = 61;
    const EILSEQ: i32 = 84;
    const EREMOTEIO: i32 = 121;
    matches!(error.raw_os_error(), Some(EIO | ENODATA | EILSEQ | EREMOTEIO))
}

/// Why storage cannot go on, or cannot answer. Clones, because everyone who waits for a commit is told the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried: "write", "open", ..
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it answered.
        error: IoError,
    },
    /// A file does not hold what was written to it, and what is lost may have been acknowledged.
    #[error("{} is damaged at byte {position}: {what}. Nothing was changed. Restore the file from a copy, or move the data directory away to start empty", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// Both checkpoints of a journal are damaged: nobody knows which segments there are, nor where the journal's records
    /// belong.
    #[error("{} is damaged, and so is the checkpoint before it. Nothing was changed. Restore the whole data directory from a copy that was made while the broker was stopped: one file of it is of no use. Without a copy choose another --data-dir, and write to it again what `millstream log dump --records` finds in the segments of this one", path.display())]
    NoCheckpoint {
        /// The newest.
        path: PathBuf,
    },
    /// Another process has the data directory.
    #[error("{} is in use by process {holder}: stop it first, or choose another --data-dir", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The process id that the lock names, or words for an unknown one.
        holder: String,
    },
    /// A directory of another cluster was given.
    #[error("{} is of cluster {cluster_id}, and the directory with the metadata is of {wanted}. Nothing was changed. Give each cluster its own", path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Its `cluster.id`.
        cluster_id: String,
        /// The one of the directories beside it.
        wanted: String,
    },
    /// The directory, or the settings, do not allow to go on.
    #[error("{}: {what}", path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// An earlier failure ended all writing.
    #[error("the log takes no more writes since this happened: {0}")]
    Fenced(Box<StorageError>),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Dropped,
    /// The log was stopped.
    #[error("the log is stopped")]
    Stopped,
    /// Memory for reading is short.
    #[error("no memory for {bytes} bytes: the pool '{pool}' is smaller than that")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Of which pool.
        pool: &'static str,
    },
}

impl StorageError {
    /// Names the file and what was tried with it.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.to_path_buf();
        move |error| StorageError::Io {
            action,
            path,
            error: IoError::from(error),
        }
    }

    /// Whether what was tried can be tried again, because nothing was lost: a write found the file system full, or a file
    /// could not be opened. A flush that finds no space cannot: what it was for may be lost.
    pub(crate) fn may_pass(&self) -> bool {
        let is_flush = matches!(self, StorageError::Io { action: "flush", .. });
        (self.is_no_space() && !is_flush) || self.is_short_of_descriptors()
    }

    /// Whether the process, or the system, may have no more files open. Only opening one says so, also the opening of a
    /// directory that was to be flushed.
    pub fn is_short_of_descriptors(&self) -> bool {
        matches!(self, StorageError::Io { error, .. } if is_short_of_descriptors(error.code))
    }

    /// Whether the file system is full, or what its owner may have of it is.
    pub(crate) fn is_no_space(&self) -> bool {
        let is_full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, StorageError::Io { error, .. } if is_full(error.kind))
    }

    pub(crate) fn corrupt(path: &Path, position: u64, what: impl Into<String>) -> StorageError {
        StorageError::Corrupt {
            path: path.to_path_buf(),
            position,
            what: what.into(),
        }
    }

    pub(crate) fn refused(path: &Path, what: impl Into<String>) -> StorageError {
        StorageError::Refused {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }
}

/// An [`io::Error`] that can be told to many.
#[derive(Debug, Clone)]
pub struct IoError {
    /// Its kind.
    pub kind: io::ErrorKind,
    /// errno(3), if it is the system's.
    code: Option<i32>,
    text: String,
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> IoError {
        IoError {
            kind: error.kind(),
            code: error.raw_os_error(),
            text: error.to_string(),
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The journal, or the memory for what is not migrated yet and for what is known of it, is full for the moment: no batch
    /// is taken. Wait for `ShardLog::room`.
    #[error("the journal is full until what it holds is migrated")]
    JournalFull,
    /// The batch would end a segment, and too many of its partition or of the shard are to be sealed; others may be taken.
    /// Wait for `ShardLog::room`.
    #[error("no segment can end here until those that are complete are written")]
    BacklogFull,
    /// The batch is larger than a journal record can be.
    #[error("the batch has {bytes} bytes, the log takes at most {largest}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most that is taken.
        largest: usize,
    },
    /// The bytes are not one record batch.
    #[error("the bytes are not one record batch")]
    Malformed,
    /// The log takes nothing any more.
    #[error(transparent)]
    Fenced(StorageError),
}

/// Why records were not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteRecordsError {
    /// Beyond what may be read.
    #[error(transparent)]
    OutOfRange(ReadError),
    /// The log takes nothing any more.
    #[error(transparent)]
    Log(#[from] StorageError),
}

/// Why nothing can be read at an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Before the log's start, or past what may be read.
    #[error("offset {offset} is outside {log_start_offset}..={end_offset}")]
    OffsetOutOfRange {
        /// Asked for.
        offset: i64,
        /// The first that there is.
        log_start_offset: i64,
        /// The next one after the last.
        end_offset: i64,
    },
}
