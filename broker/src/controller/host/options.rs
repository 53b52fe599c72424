//! What a host is started with, and how its memory and its descriptors are divided.

use std::path::PathBuf;
use std::time::Duration;

use storage::LogDirectory;

use crate::config::{Settings, table};
use crate::shard::context::{GroupSettings, ShardSettings};

/// Memory of the control thread beside a shard's log, which it needs to change the number of shards, in bytes.
const CONTROL_MEMORY_BYTES: usize = 32 << 20;
/// Segment files that all shards together keep open.
const OPEN_FILES_MAX: usize = 4_096;
/// Memory of a shard for neither its listener nor its log, in bytes.
const SHARD_SPARE_BYTES: usize = 2 << 20;

/// What a host is started with.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// All settings, checked.
    pub settings: Settings,
    /// The log directories. The first has the metadata as well.
    pub log_directories: Vec<PathBuf>,
    /// The id of a log directory that is lost for good: what was in it begins anew in others.
    pub given_up_directory: Option<u128>,
    /// CPUs to pin shards to, one after the other; none are pinned when there are fewer than shards.
    pub cpus: Vec<usize>,
    /// Files and sockets that the process may have open.
    pub descriptors: u64,
}

impl HostOptions {
    /// Memory that the control thread needs, in bytes.
    pub fn control_memory_bytes(&self) -> usize {
        CONTROL_MEMORY_BYTES
            + self.log_memory_bytes()
            + self.log_directories.len() * LogDirectory::MEMORY_BYTES
    }

    /// The log directories that may stand still without the host: all but the first.
    pub fn disks(&self) -> Vec<PathBuf> {
        self.log_directories[1..].to_vec()
    }

    pub(super) fn shard_memory_bytes(&self) -> usize {
        usize::try_from(self.settings.memory_bytes()).expect("not negative") / self.shards() as usize
    }

    /// The listener's bounds: at most three eighths of a shard's memory.
    fn limits(&self) -> net::Limits {
        let memory = self.shard_memory_bytes();
        let defaults = net::Limits::default();
        let settings = &self.settings;
        net::Limits {
            frame_bytes_max: settings.usize(&table::SOCKET_REQUEST_MAX_BYTES),
            frame_pool_bytes: defaults.frame_pool_bytes.min(memory / 4),
            receive_pool_bytes: defaults.receive_pool_bytes.min(memory / 8),
            unsent_bytes: defaults.unsent_bytes.min(memory / 4),
            bytes_in_flight: defaults.bytes_in_flight.min(memory / 4),
            // max.connections and max.connections.per.ip can be changed: the shard says what holds (`LiveSettings`).
            connections_max: self.connections_max(),
            connections_per_address_max: usize::MAX,
            idle_ms: settings.integer(&table::CONNECTIONS_MAX_IDLE_MS).unsigned_abs(),
            ..defaults
        }
    }

    /// Half of the descriptors are for the shards' connections, so that clients cannot take those that the log opens its
    /// files with.
    fn connections_max(&self) -> usize {
        let half = usize::try_from(self.descriptors / 2).unwrap_or(usize::MAX);
        (half / self.shards() as usize).max(1)
    }

    /// Of a quarter of the descriptors, and of no more than a directory of many partitions needs to be written to.
    pub(super) fn open_files_max(&self) -> usize {
        let quarter = usize::try_from(self.descriptors / 4).unwrap_or(usize::MAX);
        let logs = self.shards() as usize * self.log_directories.len();
        (quarter.min(OPEN_FILES_MAX) / logs).max(1)
    }

    fn group_memory_bytes(&self) -> usize {
        self.shard_memory_bytes() / 16
    }

    fn fetch_memory_bytes(&self) -> usize {
        self.shard_memory_bytes() / 32
    }

    /// Of a shard's log in one directory.
    pub(super) fn log_memory_bytes(&self) -> usize {
        let heap = self.group_memory_bytes() + self.fetch_memory_bytes();
        let others = self.limits().memory_bytes() + heap + SHARD_SPARE_BYTES;
        (self.shard_memory_bytes() - others) / self.log_directories.len()
    }

    pub(super) fn shards(&self) -> u32 {
        self.settings.i32(&table::SHARDS).unsigned_abs()
    }

    pub(super) fn shard_settings(&self) -> ShardSettings {
        let settings = &self.settings;
        ShardSettings {
            auto_create_topics_enable: settings.boolean(&table::AUTO_CREATE_TOPICS_ENABLE),
            offsets_topic_num_partitions: settings.i32(&table::OFFSETS_TOPIC_NUM_PARTITIONS),
            groups: GroupSettings {
                initial_rebalance_delay_ms: settings.i32(&table::GROUP_INITIAL_REBALANCE_DELAY_MS),
                min_session_timeout_ms: settings.i32(&table::GROUP_MIN_SESSION_TIMEOUT_MS),
                max_session_timeout_ms: settings.i32(&table::GROUP_MAX_SESSION_TIMEOUT_MS),
                max_size: settings.usize(&table::GROUP_MAX_SIZE),
                offsets_retention_ms: settings.integer(&table::OFFSETS_RETENTION_MINUTES) * 60_000,
                offsets_retention_check_interval: Duration::from_millis(
                    settings.usize(&table::OFFSETS_RETENTION_CHECK_INTERVAL_MS) as u64,
                ),
                offset_metadata_max: settings.usize(&table::OFFSET_METADATA_MAX_BYTES),
                memory_bytes: self.group_memory_bytes(),
            },
            fetch_memory_bytes: self.fetch_memory_bytes(),
            fetch_max_bytes: settings.i32(&table::FETCH_MAX_BYTES),
            fetch_session_slots: settings.usize(&table::FETCH_SESSION_SLOTS),
            limits: self.limits(),
            started: settings.clone(),
        }
    }
}
