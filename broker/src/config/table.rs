//! The settings: every name, with its type, default, range and documentation. The one place.

use std::ops::RangeInclusive;

/// Shards of a host at most: nodes are numbered by the thousand.
const SHARDS_MAX: i64 = 64;
/// How far the other shards' ports are from the first one's: consecutive ports belong to what monitors hosts.
pub const SHARD_PORT_DISTANCE: i64 = 10_000;
/// What a shard cannot work with less of, in bytes.
pub const SHARD_MEMORY_BYTES_MIN: i64 = 64 << 20;
const I32_MAX: i64 = i32::MAX as i64;

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name for it, if Kafka has it.
    pub name: &'static str,
    /// Whose it is: the table of the configuration file that it stands in.
    pub table: Table,
    /// What its values are.
    pub kind: Kind,
    /// Its value when nobody sets it.
    pub default: &'static str,
    /// What it does, with its unit.
    pub documentation: &'static str,
}

/// Whose name a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Kafka's.
    Kafka,
    /// Ours.
    Millstream,
}

/// What a setting's values are.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer within a range.
    Integer(RangeInclusive<i64>),
    /// `true` or `false`.
    Boolean,
    /// A text, possibly one that must not be empty.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A number from 0 to 1.
    Fraction,
    /// `partition:node` of some replicas, separated by commas; `*` for all, or nothing.
    Replicas,
}

impl Kind {
    /// Whether `value` is one of its values.
    ///
    /// # Errors
    /// What the value may be.
    pub fn check(&self, value: &str) -> Result<(), String> {
        /// The longest text.
        const TEXT_BYTES_MAX: usize = 4_096;
        match self {
            Kind::Integer(range) => match value.parse::<i64>() {
                Ok(number) if range.contains(&number) => Ok(()),
                _ => Err(format!(
                    "an integer from {} to {} is wanted",
                    range.start(),
                    range.end()
                )),
            },
            Kind::Boolean if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => {
                Ok(())
            }
            Kind::Boolean => Err("true or false is wanted".to_owned()),
            Kind::Text if value.len() > TEXT_BYTES_MAX => {
                Err(format!("at most {TEXT_BYTES_MAX} characters are wanted"))
            }
            Kind::Text if value.contains(char::is_control) => Err("printable text is wanted".to_owned()),
            Kind::Text => Ok(()),
            Kind::OneOf(values) if values.contains(&value) => Ok(()),
            Kind::OneOf(values) => Err(format!("one of {} is wanted", values.join(", "))),
            Kind::Fraction => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => Err("a number from 0 to 1 is wanted".to_owned()),
            },
            Kind::Replicas if value.len() > TEXT_BYTES_MAX => {
                Err(format!("at most {TEXT_BYTES_MAX} characters are wanted"))
            }
            Kind::Replicas if value.is_empty() || value == "*" => Ok(()),
            Kind::Replicas => {
                let is_number = |part: &str| {
                    part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<i32>().is_ok()
                };
                let is_replica = |one: &str| {
                    one.split_once(':')
                        .is_some_and(|(partition, node)| is_number(partition) && is_number(node))
                };
                let mut replicas = value.split(',').map(str::trim);
                replicas
                    .all(is_replica)
                    .then_some(())
                    .ok_or_else(|| "partition:node,partition:node,... or * is wanted".to_owned())
            }
        }
    }
}

macro_rules! settings {
    ($($constant:ident: $table:ident $name:literal, $kind:expr, $default:literal, $documentation:literal;)*) => {
        $(
            #[doc = $documentation]
            pub static $constant: Setting = Setting {
                name: $name,
                table: Table::$table,
                kind: $kind,
                default: $default,
                documentation: $documentation,
            };
        )*

        /// All settings.
        pub static SETTINGS: &[&Setting] = &[$(&$constant),*];
    };
}

settings! {
    NODE_ID: Kafka "node.id", Kind::Integer(1..=2_000_000), "1",
        "The host's id. Its shards are the nodes node.id * 1000, node.id * 1000 + 1, and so on.";
    BROKER_RACK: Kafka "broker.rack", Kind::Text, "",
        "The rack that nodes are shown in. Empty: the host's name.";
    NUM_PARTITIONS: Kafka "num.partitions", Kind::Integer(1..=10_000), "1",
        "Partitions of a topic that is created without saying how many.";
    AUTO_CREATE_TOPICS_ENABLE: Kafka "auto.create.topics.enable", Kind::Boolean, "true",
        "Whether a topic that a producer or consumer asks for is created.";
    MESSAGE_MAX_BYTES: Kafka "message.max.bytes", Kind::Integer(1_024..=I32_MAX), "1048588",
        "The largest record batch, in bytes. At most an eighth of journal.bytes, and 16 MiB.";
    LOG_SEGMENT_BYTES: Kafka "log.segment.bytes", Kind::Integer(1_048_576..=I32_MAX), "1073741824",
        "The size at which a log begins a new segment, in bytes.";
    LOG_INDEX_INTERVAL_BYTES: Kafka "log.index.interval.bytes", Kind::Integer(0..=I32_MAX), "4096",
        "Bytes of a log from one entry of its offset index to the next.";
    DEFAULT_REPLICATION_FACTOR: Kafka "default.replication.factor", Kind::Integer(1..=1), "1",
        "Replicas of a topic that is created without saying how many. Replication is not there yet: only 1.";
    OFFSETS_TOPIC_NUM_PARTITIONS: Kafka "offsets.topic.num.partitions", Kind::Integer(1..=10_000), "50",
        "Partitions of __consumer_offsets when it is created.";
    OFFSETS_RETENTION_MINUTES: Kafka "offsets.retention.minutes", Kind::Integer(1..=I32_MAX), "10080",
        "Committed offsets that no group uses are removed after so many minutes.";
    OFFSETS_RETENTION_CHECK_INTERVAL_MS: Kafka "offsets.retention.check.interval.ms",
        Kind::Integer(1..=I32_MAX), "600000",
        "How often a coordinator looks for offsets to remove, in milliseconds.";
    OFFSET_METADATA_MAX_BYTES: Kafka "offset.metadata.max.bytes", Kind::Integer(0..=32_767), "4096",
        "The longest text that a client may keep with a committed offset, in characters.";
    GROUP_INITIAL_REBALANCE_DELAY_MS: Kafka "group.initial.rebalance.delay.ms", Kind::Integer(0..=I32_MAX), "3000",
        "How long the first rebalance of an empty group waits for more members, in milliseconds.";
    GROUP_MIN_SESSION_TIMEOUT_MS: Kafka "group.min.session.timeout.ms", Kind::Integer(1..=I32_MAX), "6000",
        "The shortest session timeout that a member may ask for, in milliseconds.";
    GROUP_MAX_SESSION_TIMEOUT_MS: Kafka "group.max.session.timeout.ms", Kind::Integer(1..=I32_MAX), "1800000",
        "The longest session timeout that a member may ask for, in milliseconds.";
    GROUP_MAX_SIZE: Kafka "group.max.size", Kind::Integer(1..=I32_MAX), "2147483647",
        "Members of a group at most.";
    SOCKET_REQUEST_MAX_BYTES: Kafka "socket.request.max.bytes", Kind::Integer(1_024..=I32_MAX), "104857600",
        "The largest request, in bytes. A larger one closes its connection.";
    CONNECTIONS_MAX_IDLE_MS: Kafka "connections.max.idle.ms", Kind::Integer(1_000..=86_400_000), "600000",
        "A connection without a request for so many milliseconds is closed.";
    MAX_CONNECTIONS: Kafka "max.connections", Kind::Integer(1..=I32_MAX), "2147483647",
        "Connections of a shard at most.";
    MAX_CONNECTIONS_PER_IP: Kafka "max.connections.per.ip", Kind::Integer(1..=I32_MAX), "2147483647",
        "Connections of a shard from one address at most.";
    FILE_DELETE_DELAY_MS: Kafka "file.delete.delay.ms", Kind::Integer(0..=I32_MAX), "60000",
        "Files of a deleted topic are removed after so many milliseconds.";
    FETCH_SESSION_SLOTS: Kafka "max.incremental.fetch.session.cache.slots", Kind::Integer(0..=100_000), "1000",
        "Fetch sessions that a shard keeps.";
    FETCH_MAX_BYTES: Kafka "fetch.max.bytes", Kind::Integer(1_024..=I32_MAX), "57671680",
        "What a fetch response holds at most, in bytes.";
    LOG_MESSAGE_TIMESTAMP_TYPE: Kafka "log.message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]), "CreateTime",
        "Whether a record keeps its producer's timestamp or gets the broker's.";
    SHARDS: Millstream "shards", Kind::Integer(1..=SHARDS_MAX), "2",
        "Shards of this host: threads with their own partitions, each a node of its own.";
    HOST: Millstream "host", Kind::Text, "127.0.0.1",
        "The address that shards listen on.";
    PORT: Millstream "port", Kind::Integer(0..=65_535), "9092",
        "The port of the first shard. 0: every shard takes a free port.";
    SHARD_PORT_BASE: Millstream "shard.port.base", Kind::Integer(0..=65_535), "0",
        "Shard i from 1 on listens on this port + i. 0: port + 10000.";
    ADVERTISED_HOST: Millstream "advertised.host", Kind::Text, "",
        "The host that clients are told to connect to. Empty: host.";
    JOURNAL_BYTES: Millstream "journal.bytes", Kind::Integer(8_388_608..=1_099_511_627_776), "67108864",
        "The journal of each shard, in bytes, allocated at the first start.";
    ADMIN_LISTEN: Millstream "admin.listen", Kind::Text, "127.0.0.1:9644",
        "Where metrics and health are served: ADDRESS:PORT. Port 0 takes a free one, as port=0 does by default. Empty: nowhere.";
    METRICS_LAG_PARTITIONS_MAX: Millstream "metrics.lag.partitions.max", Kind::Integer(0..=100_000), "10000",
        "Committed partitions of groups whose lag the metrics show at most. 0: none.";
    MEMORY_BYTES: Millstream "memory.bytes", Kind::Integer(67_108_864..=1_099_511_627_776), "1073741824",
        "Buffer memory of all shards together, in bytes.";
}

/// Settings of Kafka that do nothing here yet.
pub static NOT_HONOURED: &[&str] = &[
    "advertised.listeners",
    "authorizer.class.name",
    "auto.leader.rebalance.enable",
    "background.threads",
    "broker.id",
    "compression.type",
    "connection.failed.authentication.delay.ms",
    "controlled.shutdown.enable",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "delete.topic.enable",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.cleaner.enable",
    "log.cleaner.threads",
    "log.cleanup.policy",
    "log.dir",
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.retention.bytes",
    "log.retention.check.interval.ms",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.ms",
    "log.segment.delete.delay.ms",
    "metric.reporters",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "offsets.topic.replication.factor",
    "offsets.topic.segment.bytes",
    "process.roles",
    "producer.id.expiration.ms",
    "queued.max.requests",
    "replica.lag.time.max.ms",
    "sasl.enabled.mechanisms",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.keystore.location",
    "transaction.state.log.min.isr",
    "transaction.state.log.num.partitions",
    "transaction.state.log.replication.factor",
    "transactional.id.expiration.ms",
    "unclean.leader.election.enable",
];
