//! Millstream's log: what is acknowledged is on disk, and comes back after any crash.
//!
//! A shard has a journal, one group commit for all of its partitions ([`ShardLog`]); a partition has segments in
//! Kafka's own format, written from the journal in the background ([`PartitionLog`]); a data directory has the
//! journals of all shards ([`LogDirectory`]). Follow an append: `partition/append.rs`, `commit/mod.rs`,
//! `commit/run.rs`, `journal/`. Follow a start: `directory/`, `recovery.rs`, `journal/scan.rs`,
//! `partition/replay.rs`.
//! Must never acknowledge what is not durable, and never cut what may have been acknowledged.

#![forbid(unsafe_code)]

mod at_once;
mod backlog;
mod checkpoint;
mod commit;
mod compaction;
mod directory;
mod disk_turns;
mod error;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod housekeeping;
mod id;
mod index;
pub mod inspect;
mod journal;
mod leader_epochs;
mod metadata;
mod migration;
mod opening;
mod partition;
mod phase;
mod producer_state;
mod read_cache;
mod recovery;
mod retention;
mod scrubber;
mod segment;
mod shard_log;
mod shortage;
mod steady_clock;
mod takeover;
mod unproven;

pub use commit::{CommitTicket, Committed, ROOM_RETRY};
pub use compaction::{CleanerConfig, CompactionReport, CompactionStatistics};
pub use directory::{DirectoryOptions, Leftovers, LogDirectory};
pub use error::{AppendError, DeleteRecordsError, IoError, ReadError, StorageError, is_short_of_descriptors};
pub use id::{TopicPartition, from_base64, to_base64};
pub use journal::LARGEST_RECORD_MAX;
pub use metadata::{KnownTopics, Layout};
pub use opening::{OPENED_BYTES_MAX, OpenError, Opened, OpeningBudget, RewriteError};
pub use partition::{
    Appended, CompactionConfig, Extent, PartitionConfig, PartitionLog, PartitionSpec, ProducerCheck,
};
pub use recovery::{RecoveryReport, log_memory_bytes_min};
pub use scrubber::{ScrubFinding, ScrubOptions, ScrubStatistics};
pub use shard_log::{ShardLog, ShardOptions, ShardStatistics};
pub use takeover::{KafkaLog, Progress as TakeoverProgress};
