//! Kafka's settings of a broker that do nothing here yet, as Apache Kafka 4.4 has them: name, values, update mode,
//! default, documentation. They cannot be set when a broker starts; those that can be changed while one runs are kept and
//! shown. One that comes into use moves to [`crate::config::table`].
//!
//! Names, types and defaults are Kafka's. `broker/tests/protocol/broker_configs.rs` compares them with Kafka's.

use Kind::*;

use crate::config::table::{I32_MAX, Kind, Setting, Table, UpdateMode, default};

const I16_MAX: i64 = i16::MAX as i64;
const SHORT: Kind = Short(i16::MIN as i64..=I16_MAX);
const SHORT_FROM_1: Kind = Short(1..=I16_MAX);
pub(super) const INT: Kind = Integer(i32::MIN as i64..=I32_MAX);
pub(super) const INT_FROM_0: Kind = Integer(0..=I32_MAX);
pub(super) const INT_FROM_1: Kind = Integer(1..=I32_MAX);
pub(super) const LONG: Kind = Long(i64::MIN..=i64::MAX);
pub(super) const LONG_OR_NONE: Kind = Long(-1..=i64::MAX);
pub(super) const LONG_FROM_0: Kind = Long(0..=i64::MAX);
pub(super) const LONG_FROM_1: Kind = Long(1..=i64::MAX);
const LIST: Kind = List(&[]);
/// The levels of gzip; -1 is its own default.
pub(super) const GZIP_LEVELS: Kind = IntegerOf(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
/// How batches may be compressed.
pub(super) const COMPRESSION_TYPES: &[&str] = &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];

macro_rules! kept {
    ($($name:literal, $kind:expr, $mode:ident, $default:tt, $documentation:literal;)*) => {
        /// See the module.
        pub(super) static KEPT: &[Setting] = &[$(Setting {
            name: $name,
            table: Table::Kafka,
            kind: $kind,
            mode: UpdateMode::$mode,
            default: default!($default),
            documentation: $documentation,
            is_used: false,
        }),*];
    };
}

kept! {
    "add.partitions.to.txn.retry.backoff.max.ms", INT_FROM_0, ReadOnly, "100",
        "The longest wait before partitions are added to a transaction again, in milliseconds.";
    "add.partitions.to.txn.retry.backoff.ms", INT_FROM_1, ReadOnly, "20",
        "The first wait before partitions are added to a transaction again, in milliseconds.";
    "advertised.listeners", LIST, ReadOnly, none,
        "Where clients are told to connect. Here advertised.host and the ports say it.";
    "alter.config.policy.class.name", Class, ReadOnly, none,
        "A class that judges changes of configs.";
    "alter.log.dirs.replication.quota.window.num", INT_FROM_1, ReadOnly, "11",
        "Samples by which moves between log directories are measured.";
    "alter.log.dirs.replication.quota.window.size.seconds", INT_FROM_1, ReadOnly, "1",
        "The time of a sample of moves between log directories, in seconds.";
    "authorizer.class.name", Text, ReadOnly, "",
        "The class that says who may do what.";
    "auto.leader.rebalance.enable", Boolean, ReadOnly, "true",
        "Whether leadership goes back to preferred replicas by itself.";
    "background.threads", INT_FROM_1, ClusterWide, "10",
        "Threads for chores in the background.";
    "broker.heartbeat.interval.ms", INT, ReadOnly, "2000",
        "How often a broker tells the controller that it lives, in milliseconds.";
    "broker.id", INT, ReadOnly, "-1",
        "The old name of node.id.";
    "broker.session.timeout.ms", INT, ReadOnly, "9000",
        "How long a broker may be silent before the controller fences it, in milliseconds.";
    "client.quota.callback.class", Class, ReadOnly, none,
        "A class that computes clients' quotas.";
    "compression.lz4.level", Integer(1..=17), ClusterWide, "9",
        "How hard lz4 tries, when the broker compresses. Here it always tries as by Kafka's default.";
    "config.providers", LIST, ClusterWide, "",
        "Names of classes that look up values of configs elsewhere.";
    "connection.failed.authentication.delay.ms", INT_FROM_0, ReadOnly, "100",
        "How long a connection stays after its authentication failed, in milliseconds.";
    "connections.max.reauth.ms", LONG, ReadOnly, "0",
        "After so many milliseconds a client has to authenticate again; 0: never.";
    "controlled.shutdown.enable", Boolean, ReadOnly, "true",
        "Whether a broker hands its leadership over before it stops.";
    "controller.listener.names", LIST, ReadOnly, none,
        "Names of the listeners that controllers use.";
    "controller.quorum.append.linger.ms", INT_FROM_0, ReadOnly, "25",
        "How long the controller collects records before it writes them, in milliseconds.";
    "controller.quorum.auto.join.enable", Boolean, ReadOnly, "false",
        "Whether a new controller joins the quorum by itself.";
    "controller.quorum.bootstrap.servers", LIST, ReadOnly, "",
        "Addresses by which the controllers are found.";
    "controller.quorum.election.backoff.max.ms", INT_FROM_0, ReadOnly, "1000",
        "The longest wait before another election of a controller, in milliseconds.";
    "controller.quorum.election.timeout.ms", INT_FROM_0, ReadOnly, "1000",
        "How long an election of a controller may take, in milliseconds.";
    "controller.quorum.fetch.max.bytes", INT_FROM_1, ReadOnly, "1048576",
        "What controllers fetch of the metadata log at once, in bytes.";
    "controller.quorum.fetch.snapshot.max.bytes", INT_FROM_1, ReadOnly, "1048576",
        "What controllers fetch of a snapshot at once, in bytes.";
    "controller.quorum.fetch.timeout.ms", INT_FROM_0, ReadOnly, "2000",
        "How long a controller waits for its leader before it wants to be elected, in milliseconds.";
    "controller.quorum.request.timeout.ms", INT_FROM_0, ReadOnly, "2000",
        "How long controllers wait for each other's answers, in milliseconds.";
    "controller.quorum.retry.backoff.ms", INT_FROM_0, ReadOnly, "20",
        "The wait before a request between controllers is repeated, in milliseconds.";
    "controller.quorum.voters", LIST, ReadOnly, "",
        "The controllers that vote, with their addresses.";
    "controller.quota.window.num", INT_FROM_1, ReadOnly, "11",
        "Samples by which changes of topics are measured.";
    "controller.quota.window.size.seconds", INT_FROM_1, ReadOnly, "1",
        "The time of a sample of changes of topics, in seconds.";
    "controller.socket.timeout.ms", INT, ReadOnly, "30000",
        "How long a broker waits for the controller's answer, in milliseconds.";
    "cordoned.log.dirs", LIST, PerBroker, "",
        "Log directories that take no new replicas.";
    "create.topic.policy.class.name", Class, ReadOnly, none,
        "A class that judges new topics.";
    "delegation.token.expiry.check.interval.ms", LONG_FROM_1, ReadOnly, "3600000",
        "How often expired delegation tokens are removed, in milliseconds.";
    "delegation.token.expiry.time.ms", LONG_FROM_1, ReadOnly, "86400000",
        "How long a delegation token holds without a renewal, in milliseconds.";
    "delegation.token.max.lifetime.ms", LONG_FROM_1, ReadOnly, "604800000",
        "How long a delegation token holds at most, in milliseconds.";
    "delegation.token.secret.key", Password, ReadOnly, none,
        "The secret by which delegation tokens are made.";
    "delete.records.purgatory.purge.interval.requests", INT, ReadOnly, "1",
        "After so many DeleteRecords requests, those that have ended are forgotten.";
    "delete.topic.enable", Boolean, ReadOnly, "true",
        "Whether topics can be deleted. Here they always can.";
    "early.start.listeners", LIST, ReadOnly, none,
        "Listeners that serve before the broker is ready.";
    "errors.deadletterqueue.auto.create.topics.enable", Boolean, ClusterWide, "false",
        "Whether topics for records that nobody could handle are created by themselves.";
    "errors.deadletterqueue.topic.name.prefix", Text, ClusterWide, "dlq.",
        "How the names of topics begin that get records which nobody could handle.";
    "fetch.purgatory.purge.interval.requests", INT, ReadOnly, "1000",
        "After so many Fetch requests, those that have ended are forgotten.";
    "follower.fetch.last.tiered.offset.enable", Boolean, ClusterWide, "false",
        "Whether a new follower begins where the tiered log ends.";
    "group.consumer.assignment.interval.ms", INT_FROM_0, ClusterWide, "1000",
        "The time between two assignments of a consumer group (KIP-848), in milliseconds.";
    "group.consumer.assignors", LIST, ReadOnly, "uniform,range",
        "The assignors of consumer groups (KIP-848), the preferred one first.";
    "group.consumer.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "5000",
        "How often members of consumer groups report (KIP-848), in milliseconds.";
    "group.consumer.max.assignment.interval.ms", INT_FROM_0, ReadOnly, "15000",
        "The longest time between assignments that a consumer group may be set to, in milliseconds.";
    "group.consumer.max.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "15000",
        "The longest heartbeat interval that a consumer group may be set to, in milliseconds.";
    "group.consumer.max.session.timeout.ms", INT_FROM_1, ReadOnly, "60000",
        "The longest session timeout that a consumer group may be set to, in milliseconds.";
    "group.consumer.max.size", INT_FROM_1, ReadOnly, "2147483647",
        "Members of a consumer group (KIP-848) at most.";
    "group.consumer.migration.policy", Text, ReadOnly, "bidirectional",
        "Which groups change between the classic and the newer protocol.";
    "group.consumer.min.assignment.interval.ms", INT_FROM_0, ReadOnly, "0",
        "The shortest time between assignments that a consumer group may be set to, in milliseconds.";
    "group.consumer.min.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "5000",
        "The shortest heartbeat interval that a consumer group may be set to, in milliseconds.";
    "group.consumer.min.session.timeout.ms", INT_FROM_1, ReadOnly, "45000",
        "The shortest session timeout that a consumer group may be set to, in milliseconds.";
    "group.consumer.session.timeout.ms", INT_FROM_1, ReadOnly, "45000",
        "After so many silent milliseconds a member of a consumer group is removed (KIP-848).";
    "group.coordinator.append.linger.ms", Integer(-1..=I32_MAX), ReadOnly, "-1",
        "How long a coordinator collects what it writes, in milliseconds; -1: as long as it is busy.";
    "group.coordinator.background.threads", INT_FROM_1, ReadOnly, "2",
        "Threads for the coordinators' chores.";
    "group.coordinator.cached.buffer.max.bytes", Integer(524_288..=I32_MAX), ClusterWide, "1048588",
        "The largest buffer that a coordinator keeps for its next write, in bytes.";
    "group.coordinator.rebalance.protocols", LIST, ReadOnly, "classic,consumer,streams",
        "The group protocols that are spoken.";
    "group.coordinator.threads", INT_FROM_1, ReadOnly, "4",
        "Threads of the group coordinators. Here a shard coordinates its own groups.";
    "group.share.assignment.interval.ms", INT_FROM_0, ClusterWide, "1000",
        "The time between two assignments of a share group, in milliseconds.";
    "group.share.assignors", LIST, ReadOnly, "simple",
        "The assignors of share groups.";
    "group.share.delivery.count.limit", Integer(2..=10), ReadOnly, "5",
        "How often a share group is given a record at most.";
    "group.share.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "5000",
        "How often members of share groups report, in milliseconds.";
    "group.share.max.assignment.interval.ms", INT_FROM_0, ReadOnly, "15000",
        "The longest time between assignments that a share group may be set to, in milliseconds.";
    "group.share.max.delivery.count.limit", Integer(5..=25), ReadOnly, "10",
        "The most deliveries that a share group may be set to.";
    "group.share.max.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "15000",
        "The longest heartbeat interval that a share group may be set to, in milliseconds.";
    "group.share.max.partition.max.record.locks", Integer(2_000..=10_000), ReadOnly, "4000",
        "The most locks on a partition's records that a share group may be set to.";
    "group.share.max.record.lock.duration.ms", Integer(30_000..=3_600_000), ReadOnly, "60000",
        "The longest lock on a record that a share group may be set to, in milliseconds.";
    "group.share.max.session.timeout.ms", INT_FROM_1, ReadOnly, "60000",
        "The longest session timeout that a share group may be set to, in milliseconds.";
    "group.share.max.share.sessions", INT_FROM_1, ReadOnly, "2000",
        "Share sessions of a broker at most.";
    "group.share.max.size", Integer(1..=1_000), ReadOnly, "200",
        "Members of a share group at most.";
    "group.share.min.assignment.interval.ms", INT_FROM_0, ReadOnly, "0",
        "The shortest time between assignments that a share group may be set to, in milliseconds.";
    "group.share.min.delivery.count.limit", Integer(2..=5), ReadOnly, "2",
        "The fewest deliveries that a share group may be set to.";
    "group.share.min.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "5000",
        "The shortest heartbeat interval that a share group may be set to, in milliseconds.";
    "group.share.min.partition.max.record.locks", Integer(100..=2_000), ReadOnly, "100",
        "The fewest locks on a partition's records that a share group may be set to.";
    "group.share.min.record.lock.duration.ms", Integer(1_000..=30_000), ReadOnly, "15000",
        "The shortest lock on a record that a share group may be set to, in milliseconds.";
    "group.share.min.session.timeout.ms", INT_FROM_1, ReadOnly, "45000",
        "The shortest session timeout that a share group may be set to, in milliseconds.";
    "group.share.partition.max.record.locks", Integer(100..=10_000), ReadOnly, "2000",
        "Records of a partition that a share group may have locked at once.";
    "group.share.record.lock.duration.ms", Integer(1_000..=3_600_000), ReadOnly, "30000",
        "How long a share group's member has a record for itself, in milliseconds.";
    "group.share.session.timeout.ms", INT_FROM_1, ReadOnly, "45000",
        "After so many silent milliseconds a member of a share group is removed.";
    "group.streams.assignment.interval.ms", INT_FROM_0, ClusterWide, "1000",
        "The time between two assignments of a streams group, in milliseconds.";
    "group.streams.assignors", LIST, ReadOnly, "sticky",
        "The assignors of streams groups.";
    "group.streams.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "5000",
        "How often members of streams groups report, in milliseconds.";
    "group.streams.initial.rebalance.delay.ms", INT_FROM_0, ReadOnly, "3000",
        "How long a new streams group waits for more members, in milliseconds.";
    "group.streams.max.assignment.interval.ms", INT_FROM_0, ReadOnly, "15000",
        "The longest time between assignments that a streams group may be set to, in milliseconds.";
    "group.streams.max.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "15000",
        "The longest heartbeat interval that a streams group may be set to, in milliseconds.";
    "group.streams.max.session.timeout.ms", INT_FROM_1, ReadOnly, "60000",
        "The longest session timeout that a streams group may be set to, in milliseconds.";
    "group.streams.max.size", INT_FROM_1, ReadOnly, "2147483647",
        "Members of a streams group at most.";
    "group.streams.max.standby.replicas", INT_FROM_0, ReadOnly, "2",
        "The most standby copies that a streams group may be set to.";
    "group.streams.min.assignment.interval.ms", INT_FROM_0, ReadOnly, "0",
        "The shortest time between assignments that a streams group may be set to, in milliseconds.";
    "group.streams.min.heartbeat.interval.ms", INT_FROM_1, ReadOnly, "5000",
        "The shortest heartbeat interval that a streams group may be set to, in milliseconds.";
    "group.streams.min.session.timeout.ms", INT_FROM_1, ReadOnly, "45000",
        "The shortest session timeout that a streams group may be set to, in milliseconds.";
    "group.streams.num.standby.replicas", INT_FROM_0, ReadOnly, "0",
        "Standby copies of a task's state in a streams group.";
    "group.streams.rack.aware.assignment.tags", LIST, ReadOnly, "",
        "Tags of clients by which standby copies are kept apart.";
    "group.streams.session.timeout.ms", INT_FROM_1, ReadOnly, "45000",
        "After so many silent milliseconds a member of a streams group is removed.";
    "group.streams.topology.description.plugin.class", Class, ReadOnly, none,
        "A class that describes the topologies of streams groups.";
    "initial.broker.registration.timeout.ms", INT, ReadOnly, "60000",
        "How long a broker may need to register when it starts, in milliseconds.";
    "inter.broker.listener.name", Text, ReadOnly, none,
        "The listener by which brokers speak to each other.";
    "kafka.metrics.polling.interval.secs", INT_FROM_1, ReadOnly, "10",
        "How often metrics reporters are fed, in seconds.";
    "kafka.metrics.reporters", LIST, ReadOnly, "",
        "Classes that report metrics of Kafka's older kind.";
    "leader.imbalance.check.interval.seconds", LONG_FROM_1, ReadOnly, "300",
        "How often leadership is compared with what is preferred, in seconds.";
    "listener.security.protocol.map", Text, PerBroker, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "Which security protocol each listener speaks. There is only PLAINTEXT here yet.";
    "listeners", LIST, PerBroker, "PLAINTEXT://:9092",
        "Where the broker listens. Here host and the ports say it.";
    "log.cleaner.io.buffer.load.factor", Double, ClusterWide, "0.9",
        "How full the cleaner's memory may get, from 0 to 1.";
    "log.cleaner.io.buffer.size", INT_FROM_0, ClusterWide, "524288",
        "Memory that the cleaner reads and writes with, in bytes.";
    "log.cleaner.threads", INT_FROM_1, ClusterWide, "1",
        "Threads that compact logs.";
    "log.dir", LIST, ReadOnly, "/tmp/kafka-logs",
        "The directory of the data, if log.dirs is not set. Here --data-dir and log.dirs say it.";
    "log.dir.failure.timeout.ms", LONG_FROM_1, ReadOnly, "30000",
        "How long a failed log directory may be unknown to the controller, in milliseconds.";
    "log.flush.offset.checkpoint.interval.ms", INT_FROM_0, ReadOnly, "60000",
        "How often it is noted up to where logs are flushed, in milliseconds.";
    "log.flush.start.offset.checkpoint.interval.ms", INT_FROM_0, ReadOnly, "60000",
        "How often it is noted where logs begin, in milliseconds.";
    "log.local.retention.bytes", Long(-2..=i64::MAX), ClusterWide, "-2",
        "Bytes of a tiered log that stay on the host; -2: as log.retention.bytes.";
    "log.local.retention.ms", Long(-2..=i64::MAX), ClusterWide, "-2",
        "How long records of a tiered log stay on the host, in milliseconds; -2: as log.retention.ms.";
    "log.preallocate", Boolean, ClusterWide, "false",
        "Whether a segment's space is taken when it begins.";
    "log.remote.copy.lag.bytes", LONG_OR_NONE, ClusterWide, "-1",
        "Bytes of a tiered log that may wait to be copied; -1: any.";
    "log.remote.copy.lag.ms", LONG_OR_NONE, ClusterWide, "0",
        "How long a segment of a tiered log may wait to be copied, in milliseconds.";
    "max.connection.creation.rate", INT_FROM_0, ClusterWide, "2147483647",
        "New connections in a second at most.";
    "max.connections.per.ip.overrides", Text, ClusterWide, "",
        "Connections of certain addresses at most: address:number, separated by commas.";
    "max.decompressed.message.bytes", Integer(1..=2_147_483_639), ClusterWide, "2147483639",
        "The largest that a compressed batch may unpack to, in bytes.";
    "max.request.partition.size.limit", INT_FROM_1, ReadOnly, "2000",
        "Partitions of a page of DescribeTopicPartitions at most.";
    "metadata.log.dir", Text, ReadOnly, none,
        "The directory of the metadata. Here it is in the data directory.";
    "metadata.log.max.record.bytes.between.snapshots", LONG_FROM_1, ReadOnly, "20971520",
        "New metadata after which a snapshot is written, in bytes.";
    "metadata.log.max.snapshot.interval.ms", LONG_FROM_0, ReadOnly, "3600000",
        "The longest time between two snapshots of the metadata, in milliseconds.";
    "metadata.log.segment.bytes", Integer(8_388_608..=I32_MAX), ReadOnly, "1073741824",
        "The size of a segment of the metadata log, in bytes.";
    "metadata.log.segment.ms", LONG, ReadOnly, "604800000",
        "The age at which the metadata log begins a new segment, in milliseconds.";
    "metadata.max.idle.interval.ms", INT_FROM_0, ReadOnly, "500",
        "How often the controller writes that it lives, in milliseconds.";
    "metadata.max.retention.bytes", LONG, ReadOnly, "104857600",
        "The size above which old metadata is removed, in bytes.";
    "metadata.max.retention.ms", LONG, ReadOnly, "604800000",
        "The age above which old metadata is removed, in milliseconds.";
    "metric.reporters", LIST, ClusterWide, "org.apache.kafka.common.metrics.JmxReporter",
        "Classes that report metrics.";
    "metrics.num.samples", INT_FROM_1, ReadOnly, "2",
        "Samples by which metrics are computed.";
    "metrics.recording.level", Text, ReadOnly, "INFO",
        "How many metrics are recorded.";
    "metrics.sample.window.ms", LONG_FROM_1, ReadOnly, "30000",
        "The time of a sample of metrics, in milliseconds.";
    "min.insync.replicas", Integer(1..=1), ClusterWide, "1",
        "Replicas that must have a record before it is acknowledged with acks=all. There is one replica, so only 1.";
    "num.io.threads", INT_FROM_1, ClusterWide, "8",
        "Threads that carry requests out. Here shards does.";
    "num.network.threads", INT_FROM_1, ClusterWide, "3",
        "Threads that receive and send. Here shards does.";
    "num.recovery.threads.per.data.dir", INT_FROM_1, ClusterWide, "2",
        "Threads that recover the logs of a directory. Here every shard recovers its own.";
    "num.replica.alter.log.dirs.threads", INT, ReadOnly, none,
        "Threads that move replicas between directories.";
    "num.replica.fetchers", INT_FROM_1, ClusterWide, "1",
        "Threads that fetch from each other broker.";
    "offsets.commit.timeout.ms", INT_FROM_1, ReadOnly, "5000",
        "How long a commit of offsets may wait for its replicas, in milliseconds.";
    "offsets.load.buffer.size", INT_FROM_1, ReadOnly, "5242880",
        "What is read at once when a coordinator loads its groups, in bytes.";
    "offsets.topic.compression.codec", INT, ReadOnly, "0",
        "The compression of __consumer_offsets, by Kafka's number.";
    "offsets.topic.replication.factor", SHORT_FROM_1, ReadOnly, "3",
        "Replicas of __consumer_offsets. Replication is not there yet: one.";
    "offsets.topic.segment.bytes", INT_FROM_1, ReadOnly, "104857600",
        "The size of a segment of __consumer_offsets, in bytes.";
    "principal.builder.class", Class, PerBroker, "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        "The class that says who a client is.";
    "process.roles", LIST, ReadOnly, none,
        "Whether the process is a broker, a controller, or both. Here it is both.";
    "producer.purgatory.purge.interval.requests", INT, ReadOnly, "1000",
        "After so many Produce requests, those that have ended are forgotten.";
    "queued.max.request.bytes", LONG, ReadOnly, "-1",
        "Bytes of requests that may wait to be carried out; -1: any.";
    "queued.max.requests", INT_FROM_1, ReadOnly, "500",
        "Requests that may wait to be carried out. Here memory and what a connection has in flight bound them.";
    "quota.window.num", INT_FROM_1, ReadOnly, "11",
        "Samples by which clients' quotas are measured.";
    "quota.window.size.seconds", INT_FROM_1, ReadOnly, "1",
        "The time of a sample of clients' quotas, in seconds.";
    "remote.fetch.max.wait.ms", INT_FROM_1, ClusterWide, "500",
        "How long a Fetch waits for tiered data, in milliseconds.";
    "remote.list.offsets.request.timeout.ms", LONG_FROM_1, ClusterWide, "30000",
        "How long ListOffsets waits for tiered data, in milliseconds.";
    "remote.log.index.file.cache.total.size.bytes", LONG_FROM_1, ClusterWide, "1073741824",
        "Room for the indexes of tiered segments, in bytes.";
    "remote.log.manager.copier.thread.pool.size", INT_FROM_1, ClusterWide, "10",
        "Threads that copy segments to the other store.";
    "remote.log.manager.copy.max.bytes.per.second", LONG_FROM_1, ClusterWide, "9223372036854775807",
        "What is copied to the other store in a second at most, in bytes.";
    "remote.log.manager.copy.quota.window.num", INT_FROM_1, ReadOnly, "11",
        "Samples by which copies to the other store are measured.";
    "remote.log.manager.copy.quota.window.size.seconds", INT_FROM_1, ReadOnly, "1",
        "The time of a sample of copies to the other store, in seconds.";
    "remote.log.manager.expiration.thread.pool.size", INT_FROM_1, ClusterWide, "10",
        "Threads that remove expired segments from the other store.";
    "remote.log.manager.fetch.max.bytes.per.second", LONG_FROM_1, ClusterWide, "9223372036854775807",
        "What is fetched from the other store in a second at most, in bytes.";
    "remote.log.manager.fetch.quota.window.num", INT_FROM_1, ReadOnly, "11",
        "Samples by which reads from the other store are measured.";
    "remote.log.manager.fetch.quota.window.size.seconds", INT_FROM_1, ReadOnly, "1",
        "The time of a sample of reads from the other store, in seconds.";
    "remote.log.manager.follower.thread.pool.size", INT_FROM_1, ClusterWide, "2",
        "Threads that follow the tiered logs of other leaders.";
    "remote.log.manager.task.interval.ms", LONG_FROM_1, ReadOnly, "30000",
        "How often it is looked for segments to copy or remove, in milliseconds.";
    "remote.log.manager.thread.pool.size", INT_FROM_1, ReadOnly, "2",
        "Threads for all of tiering, in older versions.";
    "remote.log.metadata.custom.metadata.max.bytes", INT_FROM_0, ReadOnly, "128",
        "What the other store may note for a segment, in bytes.";
    "remote.log.metadata.manager.class.name", Text, ReadOnly, "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        "The class that knows which segments are in the other store.";
    "remote.log.metadata.manager.class.path", Text, ReadOnly, none,
        "Where the class is that knows which segments are in the other store.";
    "remote.log.metadata.manager.impl.prefix", Text, ReadOnly, "rlmm.config.",
        "How the names of configs begin that are for the class that knows the tiered segments.";
    "remote.log.metadata.manager.listener.name", Text, ReadOnly, none,
        "The listener for the class that knows which segments are in the other store.";
    "remote.log.reader.max.pending.tasks", INT_FROM_1, ReadOnly, "100",
        "Reads from the other store that may wait.";
    "remote.log.reader.threads", INT_FROM_1, ClusterWide, "10",
        "Threads that read from the other store.";
    "remote.log.storage.manager.class.name", Text, ReadOnly, none,
        "The class that speaks to the other store.";
    "remote.log.storage.manager.class.path", Text, ReadOnly, none,
        "Where the class is that speaks to the other store.";
    "remote.log.storage.manager.impl.prefix", Text, ReadOnly, "rsm.config.",
        "How the names of configs begin that are for the class that speaks to the other store.";
    "remote.log.storage.system.enable", Boolean, ReadOnly, "false",
        "Whether old segments can go to another store.";
    "replica.fetch.backoff.ms", INT_FROM_0, ReadOnly, "1000",
        "How long a follower waits after a fetch that failed, in milliseconds.";
    "replica.fetch.max.bytes", INT_FROM_0, ReadOnly, "1048576",
        "What a follower fetches of a partition at once, in bytes.";
    "replica.fetch.min.bytes", INT, ReadOnly, "1",
        "What a leader gathers before it answers a follower, in bytes.";
    "replica.fetch.response.max.bytes", INT_FROM_0, ReadOnly, "10485760",
        "What a follower fetches at once, in bytes.";
    "replica.fetch.wait.max.ms", INT, ReadOnly, "500",
        "How long a leader gathers before it answers a follower, in milliseconds.";
    "replica.high.watermark.checkpoint.interval.ms", LONG, ReadOnly, "5000",
        "How often high watermarks are noted, in milliseconds.";
    "replica.lag.time.max.ms", LONG, ReadOnly, "30000",
        "How long a follower may be behind before it leaves the ISR, in milliseconds.";
    "replica.selector.class", Text, ReadOnly, none,
        "The class that says from which replica a consumer reads.";
    "replica.socket.receive.buffer.bytes", INT, ReadOnly, "65536",
        "The receive buffer of followers' sockets, in bytes.";
    "replica.socket.timeout.ms", INT, ReadOnly, "30000",
        "How long followers wait for answers, in milliseconds.";
    "replication.quota.window.num", INT_FROM_1, ReadOnly, "11",
        "Samples by which replication is measured.";
    "replication.quota.window.size.seconds", INT_FROM_1, ReadOnly, "1",
        "The time of a sample of replication, in seconds.";
    "request.timeout.ms", INT, ReadOnly, "30000",
        "How long brokers wait for answers to their own requests, in milliseconds.";
    "sasl.client.callback.handler.class", Class, ReadOnly, none,
        "A class that gives SASL clients what they need.";
    "sasl.enabled.mechanisms", LIST, PerBroker, "GSSAPI",
        "The SASL mechanisms that are offered.";
    "sasl.jaas.config", Password, PerBroker, none,
        "The login of SASL, in JAAS's form.";
    "sasl.kerberos.kinit.cmd", Text, PerBroker, "/usr/bin/kinit",
        "Where Kerberos's kinit is.";
    "sasl.kerberos.min.time.before.relogin", LONG, PerBroker, "60000",
        "The shortest time between two logins to Kerberos, in milliseconds.";
    "sasl.kerberos.principal.to.local.rules", LIST, PerBroker, "DEFAULT",
        "How Kerberos principals become short names.";
    "sasl.kerberos.service.name", Text, PerBroker, none,
        "The name of the service in Kerberos.";
    "sasl.kerberos.ticket.renew.jitter", Double, PerBroker, "0.05",
        "Chance that is added to the renewal of a ticket, as a part of its time.";
    "sasl.kerberos.ticket.renew.window.factor", Double, PerBroker, "0.8",
        "The part of a ticket's time after which it is renewed.";
    "sasl.login.callback.handler.class", Class, ReadOnly, none,
        "A class that gives SASL logins what they need.";
    "sasl.login.class", Class, ReadOnly, none,
        "The class that logs in by SASL.";
    "sasl.login.connect.timeout.ms", INT, ReadOnly, none,
        "How long a login waits for a connection, in milliseconds.";
    "sasl.login.read.timeout.ms", INT, ReadOnly, none,
        "How long a login waits for an answer, in milliseconds.";
    "sasl.login.refresh.buffer.seconds", SHORT, PerBroker, "300",
        "How long before its end a credential is renewed at the latest, in seconds.";
    "sasl.login.refresh.min.period.seconds", SHORT, PerBroker, "60",
        "The shortest time between two renewals of a credential, in seconds.";
    "sasl.login.refresh.window.factor", Double, PerBroker, "0.8",
        "The part of a credential's time after which it is renewed.";
    "sasl.login.refresh.window.jitter", Double, PerBroker, "0.05",
        "Chance that is added to the renewal of a credential, as a part of its time.";
    "sasl.login.retry.backoff.max.ms", LONG, ReadOnly, "10000",
        "The longest wait before a login is tried again, in milliseconds.";
    "sasl.login.retry.backoff.ms", LONG, ReadOnly, "100",
        "The first wait before a login is tried again, in milliseconds.";
    "sasl.mechanism.controller.protocol", Text, ReadOnly, "GSSAPI",
        "The SASL mechanism by which controllers are spoken to.";
    "sasl.mechanism.inter.broker.protocol", Text, PerBroker, "GSSAPI",
        "The SASL mechanism by which brokers speak to each other.";
    "sasl.oauthbearer.allow.unverified.audience", Boolean, ReadOnly, "false",
        "Whether an OAuth token's audience may go unchecked.";
    "sasl.oauthbearer.allow.unverified.issuer", Boolean, ReadOnly, "false",
        "Whether an OAuth token's issuer may go unchecked.";
    "sasl.oauthbearer.assertion.algorithm", Text, ReadOnly, "RS256",
        "How the OAuth assertion is signed.";
    "sasl.oauthbearer.assertion.claim.aud", Text, ReadOnly, none,
        "The audience that the OAuth assertion names.";
    "sasl.oauthbearer.assertion.claim.exp.seconds", Integer(0..=86_400), ReadOnly, "300",
        "How long the OAuth assertion holds, in seconds.";
    "sasl.oauthbearer.assertion.claim.iss", Text, ReadOnly, none,
        "The issuer that the OAuth assertion names.";
    "sasl.oauthbearer.assertion.claim.jti.include", Boolean, ReadOnly, "false",
        "Whether the OAuth assertion has an id of its own.";
    "sasl.oauthbearer.assertion.claim.nbf.seconds", Integer(0..=3_600), ReadOnly, "60",
        "How long before it is made the OAuth assertion holds, in seconds.";
    "sasl.oauthbearer.assertion.claim.sub", Text, ReadOnly, none,
        "The subject that the OAuth assertion names.";
    "sasl.oauthbearer.assertion.file", Text, ReadOnly, none,
        "A file that has the OAuth assertion.";
    "sasl.oauthbearer.assertion.private.key.file", Text, ReadOnly, none,
        "A file that has the key by which the OAuth assertion is signed.";
    "sasl.oauthbearer.assertion.private.key.passphrase", Password, ReadOnly, none,
        "The passphrase of the key by which the OAuth assertion is signed.";
    "sasl.oauthbearer.assertion.template.file", Text, ReadOnly, none,
        "A file that the OAuth assertion is made from.";
    "sasl.oauthbearer.client.credentials.client.id", Text, ReadOnly, none,
        "The id by which OAuth tokens are asked for.";
    "sasl.oauthbearer.client.credentials.client.secret", Password, ReadOnly, none,
        "The secret by which OAuth tokens are asked for.";
    "sasl.oauthbearer.clock.skew.seconds", INT, ReadOnly, "30",
        "By how much clocks may differ when OAuth tokens are judged, in seconds.";
    "sasl.oauthbearer.expected.audience", LIST, ReadOnly, "",
        "The audiences that OAuth tokens may be for.";
    "sasl.oauthbearer.expected.issuer", Text, ReadOnly, none,
        "The issuer that OAuth tokens must be from.";
    "sasl.oauthbearer.jwks.endpoint.refresh.ms", LONG, ReadOnly, "3600000",
        "How often the keys of OAuth tokens are fetched again, in milliseconds.";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", LONG, ReadOnly, "10000",
        "The longest wait before the keys of OAuth tokens are fetched again after a failure, in milliseconds.";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", LONG, ReadOnly, "100",
        "The first wait before the keys of OAuth tokens are fetched again after a failure, in milliseconds.";
    "sasl.oauthbearer.jwks.endpoint.url", Text, ReadOnly, none,
        "Where the keys of OAuth tokens are fetched.";
    "sasl.oauthbearer.jwt.retriever.class", Class, ReadOnly, "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
        "The class that fetches OAuth tokens.";
    "sasl.oauthbearer.jwt.validator.class", Class, ReadOnly, "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
        "The class that judges OAuth tokens.";
    "sasl.oauthbearer.scope", Text, ReadOnly, none,
        "The scope that OAuth tokens are asked for.";
    "sasl.oauthbearer.scope.claim.name", Text, ReadOnly, "scope",
        "Where an OAuth token has its scope.";
    "sasl.oauthbearer.sub.claim.name", Text, ReadOnly, "sub",
        "Where an OAuth token has its subject.";
    "sasl.oauthbearer.token.endpoint.url", Text, ReadOnly, none,
        "Where OAuth tokens are asked for.";
    "sasl.server.callback.handler.class", Class, ReadOnly, none,
        "A class that gives SASL servers what they need.";
    "sasl.server.max.receive.size", INT, ReadOnly, "524288",
        "The largest message before and while a client authenticates, in bytes.";
    "security.inter.broker.protocol", OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), ReadOnly, "PLAINTEXT",
        "The security protocol by which brokers speak to each other.";
    "security.providers", Text, ReadOnly, none,
        "Classes that provide security algorithms.";
    "share.coordinator.append.linger.ms", Integer(-1..=I32_MAX), ReadOnly, "-1",
        "How long the share coordinator collects what it writes, in milliseconds; -1: as long as it is busy.";
    "share.coordinator.cached.buffer.max.bytes", Integer(524_288..=I32_MAX), ClusterWide, "1048588",
        "The largest buffer that the share coordinator keeps for its next write, in bytes.";
    "share.coordinator.load.buffer.size", INT_FROM_1, ReadOnly, "5242880",
        "What is read at once when share groups are loaded, in bytes.";
    "share.coordinator.snapshot.update.records.per.snapshot", Integer(0..=500), ReadOnly, "500",
        "Updates of a share partition's state between two snapshots of it.";
    "share.coordinator.state.topic.compression.codec", INT, ReadOnly, "0",
        "The compression of the share groups' topic, by Kafka's number.";
    "share.coordinator.state.topic.min.isr", SHORT_FROM_1, ReadOnly, "2",
        "Replicas of the share groups' topic that must have what is acknowledged.";
    "share.coordinator.state.topic.num.partitions", INT_FROM_1, ReadOnly, "50",
        "Partitions of the share groups' topic.";
    "share.coordinator.state.topic.replication.factor", SHORT_FROM_1, ReadOnly, "3",
        "Replicas of the share groups' topic.";
    "share.coordinator.state.topic.segment.bytes", INT_FROM_1, ReadOnly, "104857600",
        "The size of a segment of the share groups' topic, in bytes.";
    "share.coordinator.threads", INT_FROM_1, ReadOnly, "1",
        "Threads of the share coordinator.";
    "share.coordinator.write.timeout.ms", INT_FROM_1, ReadOnly, "5000",
        "How long the share coordinator waits for its writes, in milliseconds.";
    "share.fetch.purgatory.purge.interval.requests", INT, ReadOnly, "1000",
        "After so many fetches of share groups, those that have ended are forgotten.";
    "socket.connection.setup.timeout.max.ms", LONG, ReadOnly, "30000",
        "The longest that a broker waits for a connection of its own, in milliseconds.";
    "socket.connection.setup.timeout.ms", LONG, ReadOnly, "10000",
        "How long a broker first waits for a connection of its own, in milliseconds.";
    "socket.listen.backlog.size", INT_FROM_1, ReadOnly, "50",
        "Connections that may wait to be accepted. Here 1024.";
    "socket.receive.buffer.bytes", INT, ReadOnly, "102400",
        "The receive buffer of clients' sockets, in bytes; -1: the system's.";
    "socket.send.buffer.bytes", INT, ReadOnly, "102400",
        "The send buffer of clients' sockets, in bytes; -1: the system's.";
    "ssl.allow.dn.changes", Boolean, ReadOnly, "false",
        "Whether a new certificate may have another distinguished name.";
    "ssl.allow.san.changes", Boolean, ReadOnly, "false",
        "Whether a new certificate may have other alternative names.";
    "ssl.cipher.suites", LIST, PerBroker, "",
        "The cipher suites of TLS.";
    "ssl.client.auth", OneOf(&["required", "requested", "none"]), PerBroker, "none",
        "Whether clients must have a certificate.";
    "ssl.enabled.protocols", LIST, PerBroker, "TLSv1.2,TLSv1.3",
        "The versions of TLS that are spoken.";
    "ssl.endpoint.identification.algorithm", Text, PerBroker, "https",
        "How a certificate's host name is checked.";
    "ssl.engine.factory.class", Class, ClusterWide, none,
        "The class that makes TLS engines.";
    "ssl.key.password", Password, PerListener, none,
        "The password of the private key.";
    "ssl.keymanager.algorithm", Text, PerBroker, "SunX509",
        "How the key manager works.";
    "ssl.keystore.certificate.chain", Password, PerListener, none,
        "The certificates of the broker, in PEM.";
    "ssl.keystore.key", Password, PerListener, none,
        "The private key of the broker, in PEM.";
    "ssl.keystore.location", Text, PerListener, none,
        "The file with the broker's key and certificates.";
    "ssl.keystore.password", Password, PerListener, none,
        "The password of the file with the broker's key and certificates.";
    "ssl.keystore.type", Text, PerListener, "JKS",
        "The form of the file with the broker's key and certificates.";
    "ssl.principal.mapping.rules", Text, ReadOnly, "DEFAULT",
        "How certificates' names become short names.";
    "ssl.protocol", Text, PerBroker, "TLSv1.3",
        "The version of TLS that contexts are made for.";
    "ssl.provider", Text, PerBroker, none,
        "Who provides TLS.";
    "ssl.secure.random.implementation", Text, PerBroker, none,
        "Where TLS has its chance from.";
    "ssl.trustmanager.algorithm", Text, PerBroker, "PKIX",
        "How the trust manager works.";
    "ssl.truststore.certificates", Password, PerListener, none,
        "The certificates that are trusted, in PEM.";
    "ssl.truststore.location", Text, PerListener, none,
        "The file with the certificates that are trusted.";
    "ssl.truststore.password", Password, PerListener, none,
        "The password of the file with the certificates that are trusted.";
    "ssl.truststore.type", Text, PerListener, "JKS",
        "The form of the file with the certificates that are trusted.";
    "telemetry.max.bytes", INT_FROM_1, ReadOnly, "1048576",
        "The largest report of a client's metrics, in bytes.";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms", INT_FROM_1, ReadOnly, "10000",
        "How often transactions are looked at that took too long, in milliseconds.";
    "transaction.max.timeout.ms", INT_FROM_1, ReadOnly, "900000",
        "The longest timeout that a transaction may ask for, in milliseconds.";
    "transaction.partition.verification.enable", Boolean, ClusterWide, "true",
        "Whether it is checked that a partition belongs to the transaction that writes to it.";
    "transaction.remove.expired.transaction.cleanup.interval.ms", INT_FROM_1, ReadOnly, "3600000",
        "How often expired transactional ids are removed, in milliseconds.";
    "transaction.state.log.load.buffer.size", INT_FROM_1, ReadOnly, "5242880",
        "What is read at once when transactions are loaded, in bytes.";
    "transaction.state.log.min.isr", INT_FROM_1, ReadOnly, "2",
        "Replicas of the transactions' topic that must have what is acknowledged.";
    "transaction.state.log.num.partitions", INT_FROM_1, ReadOnly, "50",
        "Partitions of the transactions' topic.";
    "transaction.state.log.replication.factor", SHORT_FROM_1, ReadOnly, "3",
        "Replicas of the transactions' topic.";
    "transaction.state.log.segment.bytes", INT_FROM_1, ReadOnly, "104857600",
        "The size of a segment of the transactions' topic, in bytes.";
    "transaction.two.phase.commit.enable", Boolean, ReadOnly, "false",
        "Whether transactions may take part in a two-phase commit.";
    "transactional.id.expiration.ms", INT_FROM_1, ReadOnly, "604800000",
        "How long an idle transactional id is remembered, in milliseconds.";
    "unclean.leader.election.enable", Boolean, ClusterWide, "false",
        "Whether a replica that is not in sync may lead when none is.";
}
