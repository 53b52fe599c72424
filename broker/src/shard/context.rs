//! What the control thread gives a shard when it starts it, and what it tells it afterwards.
//!
//! The order of a start: every shard binds its listener and reports the address; the control thread, which then knows
//! every port, sends [`ShardCommand::Open`] with the image; when all shards have opened their logs it sends
//! [`ShardCommand::Serve`] to each. No client is accepted before.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ring::channel::{Answer, Receiver, Sender};
use storage::{PartitionSpec, TopicPartition};

use crate::config::broker::BrokerConfigs;
use crate::config::log::{CompressionConfig, codec_named, millionths};
use crate::config::{self, Settings, table};
use crate::controller::image::{Image, PartitionState, Topic};
use crate::controller::request::ControllerRequest;
use crate::partition::leader::{AppendRules, TimestampType, is_compacting, is_deleting};
use crate::shard::probe::ShardProbe;

/// Commands that may wait for a shard: it takes them one after the other, and the control thread waits for answers.
pub const COMMANDS_MAX: usize = 64;

/// All that a shard is born with.
pub struct ShardContext {
    /// Its number on this host, from 0.
    pub shard: u32,
    /// The node that clients shall know it as.
    pub node_id: i32,
    /// What of the configuration it needs.
    pub settings: Arc<ShardSettings>,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its logs are: the host's log directories that are online, that with the metadata first.
    pub directories: Vec<ShardDirectory>,
    /// Those that are not.
    pub offline_directories: Vec<PathBuf>,
    /// Told the address that it listens on, or why it cannot.
    pub bound: Answer<Result<SocketAddr, String>>,
    /// What the control thread tells it.
    pub commands: Receiver<ShardCommand>,
    /// What those who look at it ask.
    pub probes: Receiver<ShardProbe>,
    /// What it asks of the control thread.
    pub controller: Sender<ControllerRequest>,
    /// The version of the newest image that the host has.
    pub announced: AnnouncedVersion,
}

/// A log directory, for a shard.
#[derive(Debug, Clone)]
pub struct ShardDirectory {
    /// Its id.
    pub id: u128,
    /// How the shard opens its log there.
    pub storage: storage::ShardOptions,
}

/// A log directory that cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFailure {
    /// Its id.
    pub directory: u128,
    /// Why, in words.
    pub reason: String,
}

/// What of the configuration a shard needs.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_num_partitions: i32,
    /// What groups are set to.
    pub groups: GroupSettings,
    /// What Fetches that are not answered hold on the heap at most, in bytes.
    pub fetch_memory_bytes: usize,
    /// `fetch.max.bytes`, in bytes.
    pub fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: usize,
    /// What a listener takes from its clients.
    pub limits: net::Limits,
    /// All settings, as the broker was started with them.
    pub started: Settings,
}

/// The settings as they are now: as the broker was started, and changed since.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    /// All of them.
    pub(crate) all: Settings,
    /// What holds for a topic that does not say otherwise.
    pub(crate) topics: TopicSettings,
}

impl LiveSettings {
    /// What holds for the node.
    pub(crate) fn new(started: &Settings, changed: &BrokerConfigs, node_id: i32) -> LiveSettings {
        let all = started.changed_by(changed, node_id);
        let topics = TopicSettings::defaults(&all);
        LiveSettings { all, topics }
    }
}

/// The settings of groups and their offsets.
#[derive(Debug, Clone, Copy)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub max_size: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offset.metadata.max.bytes`, in characters.
    pub offset_metadata_max: usize,
    /// What all groups of the shard may take of the heap, in bytes.
    pub memory_bytes: usize,
}

/// The settings of a topic that matter where its data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSettings {
    /// What may be appended.
    pub append: AppendRules,
    /// How the log is kept.
    pub partition: storage::PartitionConfig,
    /// What becomes of old records.
    pub cleanup: Cleanup,
    /// How batches are compressed.
    pub compression: CompressionConfig,
}

/// What becomes of a topic's old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Whether `cleanup.policy` has `delete`: old segments go.
    pub is_deleting: bool,
    /// `retention.ms`; negative: they stay.
    pub retention_ms: i64,
    /// `retention.bytes`; negative: they stay.
    pub retention_bytes: i64,
    /// How it is compacted, if `cleanup.policy` has `compact`.
    pub compaction: storage::CompactionConfig,
}

impl TopicSettings {
    /// What holds for a topic that does not say otherwise.
    pub(crate) fn defaults(settings: &Settings) -> TopicSettings {
        let append = settings.append_rules();
        TopicSettings {
            append,
            partition: storage::PartitionConfig {
                segment_bytes: settings.i32(&table::LOG_SEGMENT_BYTES).unsigned_abs(),
                segment_ms: settings.log_roll_ms().unsigned_abs(),
                segment_jitter_ms: settings.log_roll_jitter_ms().unsigned_abs(),
                segment_index_bytes: settings.i32(&table::LOG_INDEX_SIZE_MAX_BYTES).unsigned_abs(),
                index_interval_bytes: settings.i32(&table::LOG_INDEX_INTERVAL_BYTES).unsigned_abs(),
                is_log_append_time: append.timestamp_type == TimestampType::LogAppend,
                // Of a topic alone: see `of`.
                retention_ms: None,
                retention_bytes: None,
                compaction: None,
                flush_messages: settings
                    .integer(&table::LOG_FLUSH_INTERVAL_MESSAGES)
                    .unsigned_abs(),
                flush_ms: settings.log_flush_ms().unsigned_abs(),
                file_delete_delay_ms: settings
                    .integer(&table::LOG_SEGMENT_DELETE_DELAY_MS)
                    .unsigned_abs(),
            },
            cleanup: Cleanup {
                is_deleting: is_deleting(settings.text(&table::LOG_CLEANUP_POLICY)),
                retention_ms: settings.log_retention_ms(),
                retention_bytes: settings.integer(&table::LOG_RETENTION_BYTES),
                compaction: settings.compaction(),
            },
            compression: settings.compression(),
        }
    }

    /// What holds for `topic`. Its configs were checked when it was created: one that cannot be read is left at its
    /// default.
    pub(crate) fn of(topic: &Topic, defaults: &TopicSettings) -> TopicSettings {
        fn number<T: FromStr>(topic: &Topic, name: &str, default: T) -> T {
            let set = topic.configs.get(name).and_then(|value| value.parse().ok());
            set.unwrap_or(default)
        }
        let mut settings = *defaults;
        let append = &mut settings.append;
        append.max_message_bytes = number(topic, "max.message.bytes", append.max_message_bytes);
        append.segment_bytes = number(topic, "segment.bytes", append.segment_bytes);
        append.timestamp_before_max_ms = number(
            topic,
            "message.timestamp.before.max.ms",
            append.timestamp_before_max_ms,
        );
        append.timestamp_after_max_ms = number(
            topic,
            "message.timestamp.after.max.ms",
            append.timestamp_after_max_ms,
        );
        append.timestamp_type = match topic.configs.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppend,
            Some("CreateTime") => TimestampType::Create,
            _ => append.timestamp_type,
        };
        let compression = &mut settings.compression;
        if let Some(name) = topic.configs.get("compression.type") {
            compression.codec = codec_named(name);
        }
        compression.gzip_level = number(topic, "compression.gzip.level", compression.gzip_level);
        compression.zstd_level = number(topic, "compression.zstd.level", compression.zstd_level);
        append.recompression = compression.recompression();
        let own = config::topic::own(topic);
        let policy = own.get("cleanup.policy");
        let cleanup = &mut settings.cleanup;
        if let Some(policy) = policy {
            append.is_compacted = is_compacting(policy);
            cleanup.is_deleting = is_deleting(policy);
        }
        cleanup.retention_ms = number(topic, "retention.ms", cleanup.retention_ms);
        cleanup.retention_bytes = number(topic, "retention.bytes", cleanup.retention_bytes);
        let kept = |most: i64| u64::try_from(most).ok().filter(|_| cleanup.is_deleting);
        let partition = &mut settings.partition;
        partition.is_log_append_time = append.timestamp_type == TimestampType::LogAppend;
        partition.segment_bytes = number(topic, "segment.bytes", partition.segment_bytes);
        partition.segment_ms = number(topic, "segment.ms", partition.segment_ms);
        partition.segment_jitter_ms = number(topic, "segment.jitter.ms", partition.segment_jitter_ms);
        partition.segment_index_bytes = number(topic, "segment.index.bytes", partition.segment_index_bytes);
        partition.index_interval_bytes =
            number(topic, "index.interval.bytes", partition.index_interval_bytes);
        partition.flush_messages = number(topic, "flush.messages", partition.flush_messages);
        partition.flush_ms = number(topic, "flush.ms", partition.flush_ms);
        partition.file_delete_delay_ms =
            number(topic, "file.delete.delay.ms", partition.file_delete_delay_ms);
        let compaction = &mut cleanup.compaction;
        let ratio = topic.configs.get("min.cleanable.dirty.ratio");
        if let Some(ratio) = ratio.and_then(|ratio| ratio.parse().ok()) {
            compaction.min_cleanable_dirty_ppm = millionths(ratio);
        }
        for (name, value) in [
            ("min.compaction.lag.ms", &mut compaction.min_compaction_lag_ms),
            ("max.compaction.lag.ms", &mut compaction.max_compaction_lag_ms),
            ("delete.retention.ms", &mut compaction.delete_retention_ms),
        ] {
            *value = number(topic, name, *value);
        }
        // An internal topic says so, and its owner bounds it.
        if append.is_compacted && !topic.is_internal {
            partition.compaction = Some(*compaction);
            // What may not wait for longer has to leave the active segment, as in Kafka.
            partition.segment_ms = partition
                .segment_ms
                .min(compaction.max_compaction_lag_ms.unsigned_abs());
        }
        partition.retention_ms = kept(cleanup.retention_ms);
        partition.retention_bytes = kept(cleanup.retention_bytes);
        settings
    }
}

/// A partition as its log opens it, and the directory that it is in.
pub(crate) fn spec(
    topic: &Topic,
    partition: i32,
    state: &PartitionState,
    config: storage::PartitionConfig,
) -> (u128, PartitionSpec) {
    let id = TopicPartition {
        topic_id: topic.id,
        partition,
    };
    let spec = PartitionSpec {
        id,
        topic: topic.name.clone(),
        leader_epoch: state.leader_epoch,
        config,
    };
    (state.directory(), spec)
}

/// What the control thread tells a shard. Commands are carried out one after the other, in order.
pub enum ShardCommand {
    /// Open the log and the partitions that the image gives this node. The first command, once.
    Open {
        /// The image after this start's leader epochs were raised.
        image: Arc<Image>,
        /// Given when the logs are recovered, with the directories that cannot be used; an error is for the operator, and ends
        /// the shard.
        done: Answer<Result<Vec<DirectoryFailure>, String>>,
    },
    /// Begin to accept clients.
    Serve {
        /// Given when clients can connect.
        done: Answer<()>,
    },
    /// Take a newer image: open what it adds, show it, drop what it has deleted.
    Install {
        /// The image.
        image: Arc<Image>,
        /// Given when all of it is done, but what is in directories that have failed.
        done: Answer<Result<Vec<DirectoryFailure>, String>>,
    },
    /// Finish what is in flight, seal the log, and end.
    Stop {
        /// The counters' line, or what kept the log from being sealed.
        done: Answer<Result<String, String>>,
    },
}

/// The version of the newest image that the host has: announced by the control thread before it sends the image to
/// the shards, so that a shard knows whether an unknown topic is unknown or only not yet here.
#[derive(Debug, Clone, Default)]
pub struct AnnouncedVersion(Arc<AtomicU64>);

impl AnnouncedVersion {
    /// Announces `version`.
    pub fn announce(&self, version: u64) {
        self.0.fetch_max(version, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_retention_nor_compaction_touches_an_internal_topic() {
        let mut settings = Settings::default();
        settings
            .take_assignment("log.retention.ms=1000")
            .expect("a good setting");
        let defaults = TopicSettings::defaults(&settings);
        for policy in [None, Some("delete"), Some("compact,delete"), Some("compact")] {
            for is_internal in [false, true] {
                let configs = policy.map(|policy| ("cleanup.policy".to_owned(), policy.to_owned()));
                let topic = Topic {
                    is_internal,
                    configs: configs.into_iter().collect(),
                    ..Topic::default()
                };
                let of = TopicSettings::of(&topic, &defaults);
                let is_kept = is_internal || policy == Some("compact");
                assert_eq!(
                    of.partition.retention_ms.is_none(),
                    is_kept,
                    "{policy:?} {is_internal}"
                );
                assert_eq!(of.cleanup.is_deleting, !is_kept);
                let is_compacted = policy.is_some_and(|policy| policy.starts_with("compact"));
                assert_eq!(of.partition.compaction.is_some(), is_compacted && !is_internal);
            }
        }
    }
}
