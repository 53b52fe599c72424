//! The configs of a topic, as Apache Kafka 4.4 has them: name, values, whether it does anything here, what brokers call
//! it, what holds when neither a topic nor a broker says, documentation.
//!
//! None of those that do nothing yet can lose data by it: what should be removed stays. Their defaults are Kafka's, but
//! for those that say what happens here.

use Kind::*;

use crate::config::kept::{
    COMPRESSION_TYPES, GZIP_LEVELS, INT_FROM_0, INT_FROM_1, LONG_FROM_0, LONG_FROM_1, LONG_OR_NONE,
};
use crate::config::table::{I32_MAX, Kind, default};

/// A config that a topic can have.
pub(super) struct TopicConfig {
    /// Kafka's name for it.
    pub(super) name: &'static str,
    /// What its values are.
    pub(super) kind: Kind,
    /// Whether it does anything here. One that does not is kept and shown.
    pub(super) is_used: bool,
    /// The broker's setting that holds when the topic does not say; some have none.
    pub(super) broker: Option<&'static str>,
    /// What holds when the broker does not say either.
    pub(super) default: &'static str,
    /// What it does, with its unit.
    pub(super) documentation: &'static str,
}

macro_rules! is_used {
    (used) => {
        true
    };
    (kept) => {
        false
    };
}

macro_rules! topic_configs {
    ($($name:literal, $kind:expr, $used:ident, $broker:tt, $default:literal, $documentation:literal;)*) => {
        /// All of them, by name.
        pub(super) static TOPIC_CONFIGS: &[TopicConfig] = &[$(TopicConfig {
            name: $name,
            kind: $kind,
            is_used: is_used!($used),
            broker: default!($broker),
            default: $default,
            documentation: $documentation,
        }),*];
    };
}

topic_configs! {
    "cleanup.policy", List(&["compact", "delete"]), used, "log.cleanup.policy", "delete",
        "What becomes of old records: delete, compact, or both.";
    "compression.gzip.level", GZIP_LEVELS, used, "compression.gzip.level", "-1",
        "How hard gzip tries when the broker compresses, from 1 to 9; -1: 6.";
    "compression.lz4.level", Integer(1..=17), kept, "compression.lz4.level", "9",
        "How hard lz4 tries, when the broker compresses. Here it always tries as by Kafka's default.";
    "compression.type", OneOf(COMPRESSION_TYPES), used, "compression.type", "producer",
        "The codec that batches are kept in; producer: as they came.";
    "compression.zstd.level", Integer(-131_072..=22), used, "compression.zstd.level", "3",
        "How hard zstd tries when the broker compresses.";
    "delete.retention.ms", LONG_FROM_0, used, "log.cleaner.delete.retention.ms", "86400000",
        "How long a compacted log keeps the marks of deletions, in milliseconds.";
    "errors.deadletterqueue.group.enable", Boolean, kept, none, "false",
        "Whether share groups may put records here that nobody could handle.";
    "file.delete.delay.ms", LONG_FROM_0, used, "log.segment.delete.delay.ms", "60000",
        "How long files of deleted segments stay, in milliseconds.";
    "flush.messages", LONG_FROM_1, used, "log.flush.interval.messages", "1",
        "Records after which a log is flushed. 1: before each acknowledgement; more: those before are acknowledged when they are written.";
    "flush.ms", LONG_FROM_0, used, "log.flush.interval.ms", "9223372036854775807",
        "How soon what was acknowledged when it was written is flushed, in milliseconds; 5000 at most.";
    "follower.replication.throttled.replicas", Replicas, kept, none, "",
        "Replicas whose followers are slowed down.";
    "index.interval.bytes", INT_FROM_0, used, "log.index.interval.bytes", "4096",
        "Bytes of a log from one entry of its offset index to the next.";
    "leader.replication.throttled.replicas", Replicas, kept, none, "",
        "Replicas whose leaders are slowed down.";
    "local.retention.bytes", Long(-2..=i64::MAX), kept, "log.local.retention.bytes", "-2",
        "Bytes of a tiered log that stay on the host.";
    "local.retention.ms", Long(-2..=i64::MAX), kept, "log.local.retention.ms", "-2",
        "How long records of a tiered log stay on the host, in milliseconds.";
    "max.compaction.lag.ms", LONG_FROM_1, used, "log.cleaner.max.compaction.lag.ms", "9223372036854775807",
        "The longest that a record stays out of compaction, in milliseconds.";
    "max.decompressed.message.bytes", INT_FROM_1, kept, "max.decompressed.message.bytes", "2147483639",
        "The largest that a compressed batch may unpack to, in bytes.";
    "max.message.bytes", INT_FROM_0, used, "message.max.bytes", "1048588",
        "The largest record batch, in bytes.";
    "message.timestamp.after.max.ms", LONG_FROM_0, used, "log.message.timestamp.after.max.ms", "3600000",
        "How far a record's timestamp may be in the future, in milliseconds.";
    "message.timestamp.before.max.ms", LONG_FROM_0, used, "log.message.timestamp.before.max.ms", "9223372036854775807",
        "How far a record's timestamp may be in the past, in milliseconds.";
    "message.timestamp.type", OneOf(&["CreateTime", "LogAppendTime"]), used, "log.message.timestamp.type", "CreateTime",
        "Whether records keep their producer's timestamps or get the broker's.";
    "min.cleanable.dirty.ratio", Fraction, used, "log.cleaner.min.cleanable.ratio", "0.5",
        "The part of a log that is not compacted yet, above which it is.";
    "min.compaction.lag.ms", LONG_FROM_0, used, "log.cleaner.min.compaction.lag.ms", "0",
        "The shortest that a record stays out of compaction, in milliseconds.";
    "min.insync.replicas", Integer(1..=1), kept, "min.insync.replicas", "1",
        "Replicas that must have a record before it is acknowledged with acks=all.";
    "preallocate", Boolean, kept, "log.preallocate", "false",
        "Whether a segment's space is taken when it begins.";
    "remote.copy.lag.bytes", LONG_OR_NONE, kept, "log.remote.copy.lag.bytes", "-1",
        "Bytes of a tiered log that may wait to be copied; -1: any.";
    "remote.copy.lag.ms", LONG_OR_NONE, kept, "log.remote.copy.lag.ms", "0",
        "How long a segment of a tiered log may wait to be copied, in milliseconds.";
    "remote.log.copy.disable", Boolean, kept, none, "false",
        "Whether a tiered log is copied no more.";
    "remote.log.delete.on.disable", Boolean, kept, none, "false",
        "Whether the tiered part goes when tiering ends.";
    "remote.storage.enable", False, kept, none, "false",
        "Whether old segments go to another store.";
    "retention.bytes", LONG_OR_NONE, used, "log.retention.bytes", "-1",
        "The size of a partition above which its oldest segments are deleted, in bytes; -1: never.";
    "retention.ms", LONG_OR_NONE, used, "log.retention.ms", "604800000",
        "The age above which old segments are deleted, in milliseconds; -1: never.";
    "segment.bytes", Integer(1_048_576..=I32_MAX), used, "log.segment.bytes", "1073741824",
        "The size at which a log begins a new segment, in bytes.";
    "segment.index.bytes", Integer(4..=I32_MAX), used, "log.index.size.max.bytes", "10485760",
        "The size of a segment's index at which a log begins a new segment, in bytes.";
    "segment.jitter.ms", LONG_FROM_0, used, "log.roll.jitter.ms", "0",
        "By how much segment.ms differs from segment to segment, in milliseconds.";
    "segment.ms", LONG_FROM_1, used, "log.roll.ms", "604800000",
        "The age at which a log begins a new segment, in milliseconds.";
    "unclean.leader.election.enable", Boolean, kept, "unclean.leader.election.enable", "false",
        "Whether a replica that is not in sync may lead when none is.";
}
