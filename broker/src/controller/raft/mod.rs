//! The metadata log: `openraft` as a quorum of one, over our own files and our own runtime.
//!
//! Owns `<data-dir>/metadata/`. Promises that what [`MetadataLog::propose`] has accepted survives a power cut, that a
//! tail that was never acknowledged is cut, and that damage to anything else refuses to start. Must never reach the
//! operating system around `ring`.
//!
//! | file | what |
//! |---|---|
//! | `runtime` | openraft's runtime on `ring`: tasks, timers, clock, chance |
//! | `files` | reading and replacing whole files |
//! | `frame` | an entry's bytes, and the scan of a log file |
//! | `log_store` | the log: append, purge, truncate |
//! | `vote` | the vote, in two slots |
//! | `state_machine` | applies entries; snapshots |
//! | `network` | to other members: there are none yet |

mod files;
mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod log_store;
mod network;
mod runtime;
mod state_machine;
#[cfg(test)]
mod tests;
mod vote;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Raft, SnapshotPolicy};
use storage::is_short_of_descriptors;

use crate::controller::raft::files::Files;
use crate::controller::raft::log_store::LogStore;
use crate::controller::raft::network::NoNetwork;
use crate::controller::raft::state_machine::{Applied, SNAPSHOT_BYTES_MAX, StateMachine};
use crate::controller::raft::vote::VoteStore;
use crate::controller::record::{self, BATCH_BYTES_MAX, MetadataRecord};
use crate::controller::state::Metadata;

/// Entries between snapshots: the log stays small, and a start is short.
const SNAPSHOT_ENTRIES: u64 = 1_000;
/// A log of so many bytes is snapshotted whatever its entries.
const SNAPSHOT_LOG_BYTES: u64 = 64 << 20;
/// How long the election of a quorum of one and the replay of its log may take: it is a few flushes.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Milliseconds between heartbeats, and the election timeout's range: what several hosts will need.
const HEARTBEAT_INTERVAL_MS: u64 = 200;
const ELECTION_TIMEOUT_MS: std::ops::Range<u64> = 500..1_000;

openraft::declare_raft_types!(
    /// What openraft is made of here.
    pub(crate) TypeConfig:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        AsyncRuntime = runtime::RingRuntime,
);

type Entry = openraft::Entry<TypeConfig>;
type LogId = openraft::LogId<u64>;
type Vote = openraft::Vote<u64>;
type RaftStorageError = openraft::StorageError<u64>;

/// The records of one entry: applied together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch(pub(crate) Vec<MetadataRecord>);

/// Why the metadata log cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetadataError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// A file is not what was written, and it is not a torn tail.
    #[error(
        "{path} is damaged at offset {offset}: {why}. Nothing was changed. Restore the directory `metadata` from a \
         copy, or start with an empty --data-dir"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The log is another host's.
    #[error(
        "this data directory belongs to node.id {owners}, and the configuration says node.id {member}: start with \
         node.id={owners}, or with another --data-dir"
    )]
    OtherMember {
        /// Whose it is.
        owners: String,
        /// Who asked.
        member: u64,
    },
    /// An earlier write or flush failed: what is on disk is not known, so nothing more is acknowledged.
    #[error("the metadata log stopped after an error, restart the broker: {0}")]
    Stopped(String),
    /// The metadata is larger than a snapshot may be.
    #[error(
        "the metadata takes {bytes} bytes, and a snapshot of it at most {SNAPSHOT_BYTES_MAX}: it was not written, and \
         the log before it is kept. Start again, and delete topics or configs"
    )]
    SnapshotTooLarge {
        /// How many.
        bytes: u64,
    },
    /// More records at once than an entry holds.
    #[error("{bytes} bytes of metadata at once are more than the {BATCH_BYTES_MAX} that an entry holds")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
}

impl MetadataError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> MetadataError {
        MetadataError::Io {
            action,
            path: path.display().to_string(),
            source: Arc::new(source),
        }
    }

    /// Whether the disk was full, or no file could be opened, before anything was done that cannot be done again. A flush that
    /// finds no space may have lost what it was for.
    fn may_pass(&self) -> bool {
        let is_full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let is_full_at_write = matches!(self, MetadataError::Io { action, source, .. }
            if *action != "flush" && is_full(source.kind()));
        is_full_at_write || self.is_short_of_descriptors()
    }

    /// Whether the process, or the system, may have no more files open.
    fn is_short_of_descriptors(&self) -> bool {
        matches!(self, MetadataError::Io { source, .. } if is_short_of_descriptors(source.raw_os_error()))
    }

    fn corrupt(path: &Path, offset: u64, why: impl Into<String>) -> MetadataError {
        MetadataError::Corrupt {
            path: path.display().to_string(),
            offset,
            why: why.into(),
        }
    }
}

/// The first error of the files: after it, nothing more is written.
#[derive(Clone, Default)]
struct Fence(Rc<RefCell<Option<MetadataError>>>);

impl Fence {
    fn check(&self) -> Result<(), MetadataError> {
        match &*self.0.borrow() {
            Some(error) => Err(MetadataError::Stopped(error.to_string())),
            None => Ok(()),
        }
    }

    /// Keeps the first error, and gives it on.
    fn guard<T>(&self, result: Result<T, MetadataError>) -> Result<T, MetadataError> {
        if let Err(error) = &result {
            self.0.borrow_mut().get_or_insert_with(|| error.clone());
        }
        result
    }
}

/// The metadata log of this host, and the metadata that it gives.
pub struct MetadataLog {
    raft: Raft<TypeConfig>,
    applied: Rc<RefCell<Applied>>,
    log_bytes: Rc<Cell<u64>>,
    fence: Fence,
    waits_for_room: Rc<Cell<bool>>,
}

impl MetadataLog {
    /// Opens the log in `<data_dir>/metadata`, or begins one, and applies what it holds. `member` is this host's
    /// number in the quorum.
    ///
    /// # Errors
    /// Files that cannot be read, that are damaged, or that are another host's: then nothing is changed.
    pub async fn open(data_dir: &Path, member: u64) -> Result<MetadataLog, MetadataError> {
        let fence = Fence::default();
        let files = Files::open(data_dir.join("metadata")).await?;
        let snapshot = state_machine::recover(&files).await?;
        let is_new = snapshot.is_none() && !files.exists("log").await?;
        if is_new && VoteStore::is_used(&files).await? {
            let why = "it is missing, and the vote beside it says that it was there";
            return Err(MetadataError::corrupt(&files.path("log"), 0, why));
        }
        if is_new {
            VoteStore::create(&files).await?;
            LogStore::create(&files).await?;
        }
        let votes = VoteStore::open(files.clone(), fence.clone()).await?;
        let snapshot_end = snapshot.as_ref().map_or(0, Applied::end);
        let log = LogStore::open(files.clone(), votes, fence.clone(), snapshot_end).await?;
        let log_bytes = log.bytes();
        let end = log.end();

        let waits_for_room = files.waits_for_room();
        let applied = Rc::new(RefCell::new(snapshot.unwrap_or_default()));
        let machine = StateMachine::new(applied.clone(), files, fence.clone());
        let config = openraft::Config {
            cluster_name: "metadata".to_owned(),
            heartbeat_interval: HEARTBEAT_INTERVAL_MS,
            election_timeout_min: ELECTION_TIMEOUT_MS.start,
            election_timeout_max: ELECTION_TIMEOUT_MS.end,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            max_in_snapshot_log_to_keep: 0,
            purge_batch_size: 1,
            ..openraft::Config::default()
        };
        let stopped = |error: &dyn std::fmt::Display| MetadataError::Stopped(error.to_string());
        let config = Arc::new(config.validate().map_err(|error| stopped(&error))?);
        let raft = Raft::new(member, config, NoNetwork, log, machine)
            .await
            .map_err(|error| stopped(&error))?;
        let opened = MetadataLog {
            raft,
            applied,
            log_bytes,
            fence,
            waits_for_room,
        };
        if opened
            .raft
            .is_initialized()
            .await
            .map_err(|error| stopped(&error))?
        {
            // Before it asks to be elected: nobody else is there to say no, and it would wait for ever.
            let owners: Vec<u64> = {
                let metrics = opened.raft.metrics();
                let metrics = metrics.borrow();
                metrics.membership_config.membership().voter_ids().collect()
            };
            if !owners.contains(&member) {
                let owners: Vec<String> = owners.iter().map(u64::to_string).collect();
                let owners = owners.join(", ");
                opened.close().await;
                return Err(MetadataError::OtherMember { owners, member });
            }
            // A vote is read as not yet won (see `vote`): every start is a term of its own.
            let elected = opened.raft.trigger().elect().await;
            elected.map_err(|error| stopped(&error))?;
        } else {
            let members = BTreeMap::from([(member, BasicNode::default())]);
            let initialized = opened.raft.initialize(members).await;
            initialized.map_err(|error| stopped(&error))?;
        }
        let is_replayed = |metrics: &openraft::RaftMetrics<u64, BasicNode>| {
            metrics.current_leader == Some(member)
                && metrics.last_applied.map_or(0, |last| last.index + 1) > end
                && metrics.last_applied.map(|last| last.index) == metrics.last_log_index
        };
        let wait = opened.raft.wait(Some(READY_TIMEOUT));
        let ready = wait.metrics(is_replayed, "the log is replayed").await;
        ready.map_err(|error| match opened.fence.check() {
            Ok(()) => stopped(&error),
            Err(fenced) => fenced,
        })?;
        Ok(opened)
    }

    /// Looks at the metadata.
    pub fn with<T>(&self, look: impl FnOnce(&Metadata) -> T) -> T {
        look(&self.applied.borrow().metadata)
    }

    /// The number of entries that the metadata is made of: grows with every proposal, also over restarts.
    pub fn version(&self) -> u64 {
        self.applied.borrow().end()
    }

    /// To say whether a proposal waits while the disk is full, which stops nothing then. At first it does not.
    pub fn waits_for_room(&self) -> Rc<Cell<bool>> {
        self.waits_for_room.clone()
    }

    /// Writes the records as one entry. When it returns, they are durable and applied.
    ///
    /// # Errors
    /// After any but [`MetadataError::TooLarge`], whether they were written is not known, and the log takes no more.
    pub async fn propose(&self, records: Vec<MetadataRecord>) -> Result<(), MetadataError> {
        let bytes = record::encode(&records).len();
        if bytes > BATCH_BYTES_MAX {
            return Err(MetadataError::TooLarge { bytes });
        }
        self.fence.check()?;
        let written = self.raft.client_write(Batch(records)).await;
        self.fence.check()?;
        written.map_err(|error| MetadataError::Stopped(error.to_string()))?;
        if self.log_bytes.get() > SNAPSHOT_LOG_BYTES {
            let begun = self.raft.trigger().snapshot().await;
            begun.map_err(|error| MetadataError::Stopped(error.to_string()))?;
        }
        Ok(())
    }

    /// Stops the log: nothing is written afterwards.
    pub async fn close(self) {
        self.waits_for_room.set(false);
        // Its tasks only ever end in a panic by panicking, which ends the process.
        let _ended = self.raft.shutdown().await;
    }
}

/// The directory's files, for messages.
fn path_in(directory: &Path, name: &str) -> PathBuf {
    directory.join(name)
}
