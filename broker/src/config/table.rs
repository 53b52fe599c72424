//! The settings: every name, with its type, default, range and documentation. The one place.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use crate::config::kept::{
    COMPRESSION_TYPES, GZIP_LEVELS, INT, INT_FROM_0, INT_FROM_1, KEPT, LONG, LONG_FROM_0, LONG_FROM_1,
    LONG_OR_NONE,
};

/// Shards of a host at most: nodes are numbered by the thousand.
const SHARDS_MAX: i64 = 64;
/// How far the other shards' ports are from the first one's: consecutive ports belong to what monitors hosts.
pub const SHARD_PORT_DISTANCE: i64 = 10_000;
/// What a shard cannot work with less of, in bytes.
pub const SHARD_MEMORY_BYTES_MIN: i64 = 64 << 20;
pub(super) const I32_MAX: i64 = i32::MAX as i64;
/// The longest text, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name for it, if Kafka has it.
    pub name: &'static str,
    /// Whose it is: the table of the configuration file that it stands in.
    pub table: Table,
    /// What its values are.
    pub kind: Kind,
    /// Whether and how it can be changed while a broker runs.
    pub mode: UpdateMode,
    /// Its value when nobody sets it; some have none.
    pub default: Option<&'static str>,
    /// What it does, with its unit.
    pub documentation: &'static str,
    /// Whether it does anything here. One that does not cannot be set when a broker starts.
    pub is_used: bool,
}

/// Whether and how a setting can be changed while brokers run: Kafka's update modes (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateMode {
    /// Not at all.
    ReadOnly,
    /// For one broker, never for all.
    PerBroker,
    /// For one broker, and for all that do not say otherwise.
    ClusterWide,
    /// Under a listener's name only, and listeners have no names here yet.
    PerListener,
}

/// Whose name a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Kafka's.
    Kafka,
    /// Ours.
    Millstream,
}

/// What a setting's values are. Each of Kafka's types has its own, so that DescribeConfigs names the right one.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A 16-bit integer within a range.
    Short(RangeInclusive<i64>),
    /// A 32-bit integer within a range.
    Integer(RangeInclusive<i64>),
    /// One of these 32-bit integers.
    IntegerOf(&'static [&'static str]),
    /// A 64-bit integer within a range.
    Long(RangeInclusive<i64>),
    /// A number.
    Double,
    /// A number from 0 to 1.
    Fraction,
    /// `true` or `false`.
    Boolean,
    /// What Kafka would let be `true`, and what cannot be that here yet.
    False,
    /// A text.
    Text,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// The name of a class of Java.
    Class,
    /// A secret, which is never shown.
    Password,
    /// Some of these, separated by commas; any, if there are none of these.
    List(&'static [&'static str]),
    /// `partition:node` of some replicas, separated by commas; `*` for all, or nothing.
    Replicas,
}

impl Kind {
    /// Whether `value` is one of its values.
    ///
    /// # Errors
    /// What the value may be.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Kind::Short(range) | Kind::Integer(range) | Kind::Long(range) => match value.parse::<i64>() {
                Ok(number) if range.contains(&number) => Ok(()),
                _ => Err(format!(
                    "an integer from {} to {} is wanted",
                    range.start(),
                    range.end()
                )),
            },
            Kind::Double | Kind::Fraction => {
                let (range, wanted) = match self {
                    Kind::Fraction => (0.0..=1.0, "a number from 0 to 1 is wanted"),
                    _ => (f64::MIN..=f64::MAX, "a number is wanted"),
                };
                let is_good = value.parse().is_ok_and(|number: f64| range.contains(&number));
                is_good.then_some(()).ok_or_else(|| wanted.to_owned())
            }
            Kind::Boolean
                if ["true", "false"]
                    .iter()
                    .any(|one| value.eq_ignore_ascii_case(one)) =>
            {
                Ok(())
            }
            Kind::Boolean => Err("true or false is wanted".to_owned()),
            Kind::False if value.eq_ignore_ascii_case("false") => Ok(()),
            Kind::False => Err("only false is possible yet".to_owned()),
            Kind::OneOf(values) | Kind::IntegerOf(values) if values.contains(&value) => Ok(()),
            Kind::OneOf(values) | Kind::IntegerOf(values) => {
                Err(format!("one of {} is wanted", values.join(", ")))
            }
            Kind::Text | Kind::Class | Kind::Password => check_text(value),
            Kind::List(known) => check_text(value).and_then(|()| check_list(value, known)),
            Kind::Replicas => check_text(value).and_then(|()| check_replicas(value)),
        }
    }

    /// A value in the form in which it is kept.
    pub(crate) fn normal(&self, value: &str) -> String {
        match self {
            Kind::Boolean | Kind::False => value.trim().to_ascii_lowercase(),
            _ => value.trim().to_owned(),
        }
    }

    /// Whether its values are lists.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Kind::List(_) | Kind::Replicas)
    }

    /// Kafka's number for its type (DescribeConfigs 3).
    pub(crate) fn type_code(&self) -> i8 {
        match self {
            Kind::Boolean | Kind::False => 1,
            Kind::Text | Kind::OneOf(_) => 2,
            Kind::Integer(_) | Kind::IntegerOf(_) => 3,
            Kind::Short(_) => 4,
            Kind::Long(_) => 5,
            Kind::Double | Kind::Fraction => 6,
            Kind::List(_) | Kind::Replicas => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }
}

fn check_text(value: &str) -> Result<(), String> {
    if value.len() > TEXT_BYTES_MAX {
        return Err(format!("at most {TEXT_BYTES_MAX} characters are wanted"));
    }
    if value.contains(char::is_control) {
        return Err("printable text is wanted".to_owned());
    }
    Ok(())
}

fn check_list(value: &str, known: &[&str]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for one in list(value) {
        if !known.is_empty() && !known.contains(&one) {
            return Err(format!(
                "some of {}, separated by commas, are wanted",
                known.join(", ")
            ));
        }
        if one.is_empty() || !seen.insert(one) {
            return Err(
                "values that are not empty and not repeated, separated by commas, are wanted".to_owned(),
            );
        }
    }
    Ok(())
}

fn check_replicas(value: &str) -> Result<(), String> {
    let is_number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<i32>().is_ok();
    let is_replica = |one: &str| {
        one.split_once(':')
            .is_some_and(|(partition, node)| is_number(partition) && is_number(node))
    };
    if value == "*" || list(value).all(is_replica) {
        return Ok(());
    }
    Err("partition:node,partition:node,... or * is wanted".to_owned())
}

/// The values of a list.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    let is_empty = value.is_empty();
    value.split(',').map(str::trim).filter(move |_| !is_empty)
}

/// A default, or `none`.
macro_rules! default {
    (none) => {
        None
    };
    ($default:literal) => {
        Some($default)
    };
}
pub(super) use default;

macro_rules! settings {
    ($($constant:ident: $table:ident $name:literal, $kind:expr, $mode:ident, $default:tt, $documentation:literal;)*) => {
        $(
            #[doc = $documentation]
            pub static $constant: Setting = Setting {
                name: $name,
                table: Table::$table,
                kind: $kind,
                mode: UpdateMode::$mode,
                default: default!($default),
                documentation: $documentation,
                is_used: true,
            };
        )*

        /// The settings that do something here.
        pub static SETTINGS: &[&Setting] = &[$(&$constant),*];
    };
}

settings! {
    NODE_ID: Kafka "node.id", Kind::Integer(1..=2_000_000), ReadOnly, "1",
        "The host's id. Its shards are the nodes node.id * 1000, node.id * 1000 + 1, and so on.";
    BROKER_RACK: Kafka "broker.rack", Kind::Text, ReadOnly, none,
        "The rack that nodes are shown in. Empty: the host's name.";
    LOG_DIRS: Kafka "log.dirs", Kind::List(&[]), ReadOnly, none,
        "The directories of the data, one for each disk, separated by commas; the first has the metadata, too. As --data-dir.";
    NUM_PARTITIONS: Kafka "num.partitions", Kind::Integer(1..=10_000), ReadOnly, "1",
        "Partitions of a topic that is created without saying how many.";
    AUTO_CREATE_TOPICS_ENABLE: Kafka "auto.create.topics.enable", Kind::Boolean, ReadOnly, "true",
        "Whether a topic that a producer or consumer asks for is created.";
    MESSAGE_MAX_BYTES: Kafka "message.max.bytes", Kind::Integer(1_024..=I32_MAX), ClusterWide, "1048588",
        "The largest record batch, in bytes. At most an eighth of journal.bytes, and 16 MiB.";
    LOG_SEGMENT_BYTES: Kafka "log.segment.bytes", Kind::Integer(1_048_576..=I32_MAX), ClusterWide, "1073741824",
        "The size at which a log begins a new segment, in bytes.";
    LOG_INDEX_INTERVAL_BYTES: Kafka "log.index.interval.bytes", Kind::Integer(0..=I32_MAX), ClusterWide, "4096",
        "Bytes of a log from one entry of its offset index to the next.";
    LOG_INDEX_SIZE_MAX_BYTES: Kafka "log.index.size.max.bytes", Kind::Integer(4..=I32_MAX), ClusterWide, "10485760",
        "The size of a segment's index at which a log begins a new segment, in bytes.";
    LOG_ROLL_MS: Kafka "log.roll.ms", LONG_FROM_1, ClusterWide, none,
        "The age at which a log begins a new segment, in milliseconds. Not set: log.roll.hours.";
    LOG_ROLL_HOURS: Kafka "log.roll.hours", INT_FROM_1, ReadOnly, "168",
        "The age at which a log begins a new segment, in hours, if log.roll.ms is not set.";
    LOG_ROLL_JITTER_MS: Kafka "log.roll.jitter.ms", LONG_FROM_0, ClusterWide, none,
        "By how much log.roll.ms differs from segment to segment, in milliseconds. Not set: log.roll.jitter.hours.";
    LOG_ROLL_JITTER_HOURS: Kafka "log.roll.jitter.hours", INT_FROM_0, ReadOnly, "0",
        "By how much log.roll.ms differs from segment to segment, in hours, if log.roll.jitter.ms is not set.";
    COMPRESSION_TYPE: Kafka "compression.type", Kind::OneOf(COMPRESSION_TYPES), ClusterWide, "producer",
        "The codec that batches are kept in; producer: as they came.";
    COMPRESSION_GZIP_LEVEL: Kafka "compression.gzip.level", GZIP_LEVELS, ClusterWide, "-1",
        "How hard gzip tries when the broker compresses, from 1 to 9; -1: 6.";
    COMPRESSION_ZSTD_LEVEL: Kafka "compression.zstd.level", Kind::Integer(-131_072..=22), ClusterWide, "3",
        "How hard zstd tries when the broker compresses. Others of the shard wait for each 64 KiB of it: the highest levels take long.";
    LOG_CLEANUP_POLICY: Kafka "log.cleanup.policy", Kind::List(&["compact", "delete"]), ClusterWide, "delete",
        "What becomes of old records: delete, compact, or both.";
    LOG_CLEANER_ENABLE: Kafka "log.cleaner.enable", Kind::Boolean, ReadOnly, "true",
        "Whether logs are compacted whose topics say so.";
    LOG_CLEANER_BACKOFF_MS: Kafka "log.cleaner.backoff.ms", LONG_FROM_0, ClusterWide, "15000",
        "How long the cleaner rests when there is nothing to compact, in milliseconds.";
    LOG_CLEANER_DEDUPE_BUFFER_SIZE: Kafka "log.cleaner.dedupe.buffer.size", Kind::Long(1_048_576..=i64::MAX), ClusterWide, "134217728",
        "Memory in which a shard's cleaner of a log directory remembers keys, 24 bytes each, in bytes. It has a sixteenth of the log's memory at most.";
    LOG_CLEANER_IO_MAX_BYTES_PER_SECOND: Kafka "log.cleaner.io.max.bytes.per.second", Kind::Double, ClusterWide, "1.7976931348623157E308",
        "What a shard's cleaner of a log directory reads and writes in a second at most, in bytes.";
    LOG_CLEANER_MIN_CLEANABLE_RATIO: Kafka "log.cleaner.min.cleanable.ratio", Kind::Fraction, ClusterWide, "0.5",
        "The part of a log that is not compacted yet, above which it is.";
    LOG_CLEANER_MIN_COMPACTION_LAG_MS: Kafka "log.cleaner.min.compaction.lag.ms", LONG_FROM_0, ClusterWide, "0",
        "The shortest that a record stays out of compaction, in milliseconds.";
    LOG_CLEANER_MAX_COMPACTION_LAG_MS: Kafka "log.cleaner.max.compaction.lag.ms", LONG_FROM_1, ClusterWide, "9223372036854775807",
        "The longest that a record stays out of compaction, in milliseconds.";
    LOG_CLEANER_DELETE_RETENTION_MS: Kafka "log.cleaner.delete.retention.ms", LONG_FROM_0, ClusterWide, "86400000",
        "How long a compacted log keeps the marks of deletions, in milliseconds.";
    LOG_RETENTION_MS: Kafka "log.retention.ms", LONG_OR_NONE, ClusterWide, none,
        "The age above which old segments are deleted, in milliseconds; -1: never. Not set: log.retention.minutes.";
    LOG_RETENTION_MINUTES: Kafka "log.retention.minutes", INT, ReadOnly, none,
        "The age above which old segments are deleted, in minutes, if log.retention.ms is not set; -1: never.";
    LOG_RETENTION_HOURS: Kafka "log.retention.hours", INT, ReadOnly, "168",
        "The age above which old segments are deleted, in hours, if neither log.retention.ms nor .minutes is set; -1: never.";
    LOG_RETENTION_BYTES: Kafka "log.retention.bytes", LONG_OR_NONE, ClusterWide, "-1",
        "The size of a partition above which its oldest segments are deleted, in bytes; -1: never.";
    LOG_RETENTION_CHECK_INTERVAL_MS: Kafka "log.retention.check.interval.ms", LONG_FROM_1, ReadOnly, "300000",
        "How often logs are looked at for segments to delete, in milliseconds.";
    DEFAULT_REPLICATION_FACTOR: Kafka "default.replication.factor", Kind::Integer(1..=1), ReadOnly, "1",
        "Replicas of a topic that is created without saying how many. Replication is not there yet: only 1.";
    OFFSETS_TOPIC_NUM_PARTITIONS: Kafka "offsets.topic.num.partitions", Kind::Integer(1..=10_000), ReadOnly, "50",
        "Partitions of __consumer_offsets when it is created.";
    OFFSETS_RETENTION_MINUTES: Kafka "offsets.retention.minutes", Kind::Integer(1..=I32_MAX), ReadOnly, "10080",
        "Committed offsets that no group uses are removed after so many minutes.";
    OFFSETS_RETENTION_CHECK_INTERVAL_MS: Kafka "offsets.retention.check.interval.ms",
        Kind::Long(1..=I32_MAX), ReadOnly, "600000",
        "How often a coordinator looks for offsets to remove, in milliseconds.";
    OFFSET_METADATA_MAX_BYTES: Kafka "offset.metadata.max.bytes", Kind::Integer(0..=32_767), ReadOnly, "4096",
        "The longest text that a client may keep with a committed offset, in characters.";
    GROUP_INITIAL_REBALANCE_DELAY_MS: Kafka "group.initial.rebalance.delay.ms", Kind::Integer(0..=I32_MAX), ReadOnly, "3000",
        "How long the first rebalance of an empty group waits for more members, in milliseconds.";
    GROUP_MIN_SESSION_TIMEOUT_MS: Kafka "group.min.session.timeout.ms", Kind::Integer(1..=I32_MAX), ReadOnly, "6000",
        "The shortest session timeout that a member may ask for, in milliseconds.";
    GROUP_MAX_SESSION_TIMEOUT_MS: Kafka "group.max.session.timeout.ms", Kind::Integer(1..=I32_MAX), ReadOnly, "1800000",
        "The longest session timeout that a member may ask for, in milliseconds.";
    GROUP_MAX_SIZE: Kafka "group.max.size", Kind::Integer(1..=I32_MAX), ReadOnly, "2147483647",
        "Members of a group at most.";
    SOCKET_REQUEST_MAX_BYTES: Kafka "socket.request.max.bytes", Kind::Integer(1_024..=I32_MAX), ReadOnly, "104857600",
        "The largest request, in bytes. A larger one closes its connection.";
    CONNECTIONS_MAX_IDLE_MS: Kafka "connections.max.idle.ms", Kind::Long(1_000..=86_400_000), ReadOnly, "600000",
        "A connection without a request for so many milliseconds is closed.";
    MAX_CONNECTIONS: Kafka "max.connections", Kind::Integer(1..=I32_MAX), ClusterWide, "2147483647",
        "Connections of a shard at most.";
    MAX_CONNECTIONS_PER_IP: Kafka "max.connections.per.ip", Kind::Integer(1..=I32_MAX), ClusterWide, "2147483647",
        "Connections of a shard from one address at most.";
    LOG_FLUSH_INTERVAL_MESSAGES: Kafka "log.flush.interval.messages", LONG_FROM_1, ClusterWide, "1",
        "Records after which a log is flushed. 1: before each acknowledgement; more: those before are acknowledged when they are written.";
    LOG_FLUSH_INTERVAL_MS: Kafka "log.flush.interval.ms", LONG_FROM_0, ClusterWide, none,
        "How soon what was acknowledged when it was written is flushed, in milliseconds; 5000 at most. Not set: log.flush.scheduler.interval.ms.";
    LOG_FLUSH_SCHEDULER_INTERVAL_MS: Kafka "log.flush.scheduler.interval.ms", LONG, ReadOnly, "9223372036854775807",
        "How soon what was acknowledged when it was written is flushed, in milliseconds, if log.flush.interval.ms is not set.";
    PRODUCER_ID_EXPIRATION_MS: Kafka "producer.id.expiration.ms", INT_FROM_1, ClusterWide, "86400000",
        "How long the sequence numbers of a producer that does not write are remembered, in milliseconds.";
    LOG_SEGMENT_DELETE_DELAY_MS: Kafka "log.segment.delete.delay.ms", Kind::Long(0..=I32_MAX), ClusterWide, "60000",
        "Files of a deleted topic, and of deleted segments unless their topic's file.delete.delay.ms says otherwise, are removed after so many milliseconds.";
    FETCH_SESSION_SLOTS: Kafka "max.incremental.fetch.session.cache.slots", Kind::Integer(0..=100_000), ReadOnly, "1000",
        "Fetch sessions that a shard keeps.";
    FETCH_MAX_BYTES: Kafka "fetch.max.bytes", Kind::Integer(1_024..=I32_MAX), ReadOnly, "57671680",
        "What a fetch response holds at most, in bytes.";
    LOG_MESSAGE_TIMESTAMP_TYPE: Kafka "log.message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, "CreateTime",
        "Whether a record keeps its producer's timestamp or gets the broker's.";
    LOG_MESSAGE_TIMESTAMP_BEFORE_MAX_MS: Kafka "log.message.timestamp.before.max.ms", Kind::Long(0..=i64::MAX),
        ClusterWide, "9223372036854775807",
        "How far a record's timestamp may be in the past, in milliseconds.";
    LOG_MESSAGE_TIMESTAMP_AFTER_MAX_MS: Kafka "log.message.timestamp.after.max.ms", Kind::Long(0..=i64::MAX),
        ClusterWide, "3600000",
        "How far a record's timestamp may be in the future, in milliseconds.";
    SHARDS: Millstream "shards", Kind::Integer(1..=SHARDS_MAX), ReadOnly, "2",
        "Shards of this host: threads with their own partitions, each a node of its own.";
    HOST: Millstream "host", Kind::Text, ReadOnly, "127.0.0.1",
        "The address that shards listen on.";
    PORT: Millstream "port", Kind::Integer(0..=65_535), ReadOnly, "9092",
        "The port of the first shard. 0: every shard takes a free port.";
    SHARD_PORT_BASE: Millstream "shard.port.base", Kind::Integer(0..=65_535), ReadOnly, "0",
        "Shard i from 1 on listens on this port + i. 0: port + 10000.";
    ADVERTISED_HOST: Millstream "advertised.host", Kind::Text, ReadOnly, "",
        "The host that clients are told to connect to. Empty: host.";
    JOURNAL_DIRECT_MIN_BYTES: Millstream "journal.direct.min.bytes", Kind::Integer(4_096..=I32_MAX), ReadOnly, "65536",
        "From so many bytes on, what a partition has in a group commit goes to its segment at once, not through the journal.";
    JOURNAL_BYTES: Millstream "journal.bytes", Kind::Long(8_388_608..=1_099_511_627_776), ReadOnly, "67108864",
        "The journal of each shard in each log directory, in bytes, allocated at the first start.";
    SCRUB_MAX_BYTES_PER_SECOND: Millstream "scrub.max.bytes.per.second", Kind::Long(0..=1_099_511_627_776), ReadOnly,
        "4194304",
        "How much of its closed segments in a log directory a shard reads again in a second at most, looking for rot, in bytes. 0: nothing.";
    SCRUB_INTERVAL_MS: Millstream "scrub.interval.ms", Kind::Long(1..=i64::MAX), ReadOnly, "86400000",
        "From the begin of one round over all closed segments to the next, at least, in milliseconds.";
    ADMIN_LISTEN: Millstream "admin.listen", Kind::Text, ReadOnly, "127.0.0.1:9644",
        "Where metrics and health are served: ADDRESS:PORT. Port 0 takes a free one, as port=0 does by default. Empty: nowhere.";
    METRICS_LAG_PARTITIONS_MAX: Millstream "metrics.lag.partitions.max", Kind::Integer(0..=100_000), ReadOnly, "10000",
        "Committed partitions of groups whose lag the metrics show at most. 0: none.";
    MEMORY_BYTES: Millstream "memory.bytes", Kind::Long(67_108_864..=1_099_511_627_776), ReadOnly, "1073741824",
        "Buffer memory of all shards together, in bytes.";
    MEMORY_PREFAULT: Millstream "memory.prefault", Kind::Boolean, ReadOnly, "false",
        "Whether a start takes all of memory.bytes from the system before the shards serve, instead of with the first bytes that need it.";
}

/// The settings that do something, and those of Kafka that are only shown, or kept and shown; by name.
static ALL: LazyLock<Vec<&'static Setting>> = LazyLock::new(|| {
    let mut all: Vec<_> = SETTINGS.iter().copied().chain(KEPT).collect();
    all.sort_by_key(|setting| setting.name);
    all
});

/// All settings, by name.
pub fn all() -> &'static [&'static Setting] {
    &ALL
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    let at = ALL.binary_search_by_key(&name, |setting| setting.name);
    at.ok().map(|at| ALL[at])
}
