//! Configs of a topic: which there are, and which hold.

use std::collections::BTreeMap;

use crate::config::table::{self, Kind, Setting};
use crate::config::{Origin, Settings, nearest};
use crate::controller::request::CreatedConfig;

/// Kafka's ConfigSource numbers.
const SOURCE_TOPIC: i8 = 1;
pub(crate) const SOURCE_BROKER_FILE: i8 = 4;
pub(crate) const SOURCE_DEFAULT: i8 = 5;
/// Kafka's ConfigType numbers.
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;

/// A config that can be set for a topic.
struct TopicConfig {
    name: &'static str,
    documentation: &'static str,
    kind: Kind,
    /// What holds when the topic does not say.
    otherwise: Otherwise,
}

enum Otherwise {
    Setting(&'static Setting),
    Fixed(&'static str),
}

static TOPIC_CONFIGS: [TopicConfig; 6] = [
    TopicConfig {
        name: "index.interval.bytes",
        documentation: "Bytes of a log from one entry of its offset index to the next.",
        kind: Kind::Integer(0..=i32::MAX as i64),
        otherwise: Otherwise::Setting(&table::LOG_INDEX_INTERVAL_BYTES),
    },
    TopicConfig {
        name: "max.message.bytes",
        documentation: "The largest record batch, in bytes.",
        kind: Kind::Integer(0..=i32::MAX as i64),
        otherwise: Otherwise::Setting(&table::MESSAGE_MAX_BYTES),
    },
    TopicConfig {
        name: "message.timestamp.after.max.ms",
        documentation: "How far a record's timestamp may be in the future, in milliseconds.",
        kind: Kind::Integer(0..=i64::MAX),
        otherwise: Otherwise::Fixed("3600000"),
    },
    TopicConfig {
        name: "message.timestamp.before.max.ms",
        documentation: "How far a record's timestamp may be in the past, in milliseconds.",
        kind: Kind::Integer(0..=i64::MAX),
        otherwise: Otherwise::Fixed("9223372036854775807"),
    },
    TopicConfig {
        name: "message.timestamp.type",
        documentation: "Whether records keep their producer's timestamps or get the broker's.",
        kind: Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        otherwise: Otherwise::Setting(&table::LOG_MESSAGE_TIMESTAMP_TYPE),
    },
    TopicConfig {
        name: "segment.bytes",
        documentation: "The size at which a log begins a new segment, in bytes.",
        kind: Kind::Integer(1_048_576..=i32::MAX as i64),
        otherwise: Otherwise::Setting(&table::LOG_SEGMENT_BYTES),
    },
];

/// A config of Kafka's topics that is kept and shown, and does nothing here yet. None of these can lose data by doing
/// nothing: what should be removed stays.
struct KeptConfig {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    documentation: &'static str,
}

const fn kept(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    documentation: &'static str,
) -> KeptConfig {
    KeptConfig {
        name,
        kind,
        default,
        documentation,
    }
}

const ANY: Kind = Kind::Integer(0..=i64::MAX);
const ANY_OR_NONE: Kind = Kind::Integer(-1..=i64::MAX);

static KEPT: [KeptConfig; 31] = [
    kept(
        "cleanup.policy",
        Kind::OneOf(&["delete", "compact", "compact,delete", "delete,compact"]),
        "delete",
        "What becomes of old records: delete, compact, or both.",
    ),
    kept(
        "compression.gzip.level",
        Kind::OneOf(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        "-1",
        "How hard gzip tries, when the broker compresses.",
    ),
    kept(
        "compression.lz4.level",
        Kind::Integer(1..=17),
        "9",
        "How hard lz4 tries, when the broker compresses.",
    ),
    kept(
        "compression.type",
        Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
        "How batches are compressed; producer: as they came.",
    ),
    kept(
        "compression.zstd.level",
        Kind::Integer(-131_072..=22),
        "3",
        "How hard zstd tries, when the broker compresses.",
    ),
    kept(
        "delete.retention.ms",
        ANY,
        "86400000",
        "How long a compacted log keeps the marks of deletions, in milliseconds.",
    ),
    kept(
        "errors.deadletterqueue.group.enable",
        Kind::Boolean,
        "false",
        "Whether share groups may put records here that nobody could handle.",
    ),
    kept(
        "file.delete.delay.ms",
        ANY,
        "60000",
        "How long files of deleted segments stay, in milliseconds.",
    ),
    kept(
        "flush.messages",
        Kind::Integer(1..=i64::MAX),
        "1",
        "Records after which a log is flushed. Here every batch is flushed before it is acknowledged.",
    ),
    kept(
        "flush.ms",
        ANY,
        "9223372036854775807",
        "Milliseconds after which a log is flushed. Here every batch is flushed before it is acknowledged.",
    ),
    kept(
        "follower.replication.throttled.replicas",
        Kind::Replicas,
        "",
        "Replicas whose followers are slowed down.",
    ),
    kept(
        "leader.replication.throttled.replicas",
        Kind::Replicas,
        "",
        "Replicas whose leaders are slowed down.",
    ),
    kept(
        "local.retention.bytes",
        Kind::Integer(-2..=i64::MAX),
        "-2",
        "Bytes of a tiered log that stay on the host.",
    ),
    kept(
        "local.retention.ms",
        Kind::Integer(-2..=i64::MAX),
        "-2",
        "How long records of a tiered log stay on the host, in milliseconds.",
    ),
    kept(
        "max.compaction.lag.ms",
        Kind::Integer(1..=i64::MAX),
        "9223372036854775807",
        "The longest that a record stays out of compaction, in milliseconds.",
    ),
    kept(
        "max.decompressed.message.bytes",
        Kind::Integer(1..=i32::MAX as i64),
        "2147483639",
        "The largest that a compressed batch may unpack to, in bytes.",
    ),
    kept(
        "min.cleanable.dirty.ratio",
        Kind::Fraction,
        "0.5",
        "The part of a log that is not compacted yet, from which on it is.",
    ),
    kept(
        "min.compaction.lag.ms",
        ANY,
        "0",
        "The shortest that a record stays out of compaction, in milliseconds.",
    ),
    // With one replica anything else would refuse every write.
    kept(
        "min.insync.replicas",
        Kind::Integer(1..=1),
        "1",
        "Replicas that must have a record before it is acknowledged with acks=all.",
    ),
    kept(
        "preallocate",
        Kind::Boolean,
        "false",
        "Whether a segment's space is taken when it begins.",
    ),
    kept(
        "remote.copy.lag.bytes",
        ANY_OR_NONE,
        "-1",
        "Bytes of a tiered log that may wait to be copied; -1: any.",
    ),
    kept(
        "remote.copy.lag.ms",
        ANY_OR_NONE,
        "0",
        "How long a segment of a tiered log may wait to be copied, in milliseconds.",
    ),
    kept(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        "Whether a tiered log is copied no more.",
    ),
    kept(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        "Whether the tiered part goes when tiering ends.",
    ),
    kept(
        "remote.storage.enable",
        Kind::OneOf(&["false"]),
        "false",
        "Whether old segments go to another store.",
    ),
    kept(
        "retention.bytes",
        ANY_OR_NONE,
        "-1",
        "The size above which old segments are deleted, in bytes; -1: never.",
    ),
    kept(
        "retention.ms",
        ANY_OR_NONE,
        "-1",
        "The age above which old segments are deleted, in milliseconds; -1: never.",
    ),
    kept(
        "segment.index.bytes",
        Kind::Integer(4..=i32::MAX as i64),
        "10485760",
        "The size of a segment's index, in bytes.",
    ),
    kept(
        "segment.jitter.ms",
        ANY,
        "0",
        "By how much segment.ms differs from log to log, in milliseconds.",
    ),
    kept(
        "segment.ms",
        Kind::Integer(1..=i64::MAX),
        "9223372036854775807",
        "The age at which a log begins a new segment, in milliseconds.",
    ),
    kept(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "Whether a replica that is not in sync may lead when none is.",
    ),
];

/// What Kafka's brokers call the configs that we have no setting for. The others have no name there.
static BROKER_NAMES: [(&str, &str); 23] = [
    ("cleanup.policy", "log.cleanup.policy"),
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("delete.retention.ms", "log.cleaner.delete.retention.ms"),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms"),
    ("flush.messages", "log.flush.interval.messages"),
    ("local.retention.bytes", "log.local.retention.bytes"),
    ("local.retention.ms", "log.local.retention.ms"),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("max.decompressed.message.bytes", "max.decompressed.message.bytes"),
    (
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
    ),
    (
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
    ),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("preallocate", "log.preallocate"),
    ("remote.copy.lag.bytes", "log.remote.copy.lag.bytes"),
    ("remote.copy.lag.ms", "log.remote.copy.lag.ms"),
    ("retention.bytes", "log.retention.bytes"),
    ("segment.index.bytes", "log.index.size.max.bytes"),
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

/// Whether a topic may have this config.
///
/// # Errors
/// Why not.
pub fn check(name: &str, value: &str, settings: &Settings) -> Result<(), String> {
    let value = value.trim();
    let wrong = |why| format!("topic config {name}={value}: {why}");
    if let Some(kept) = KEPT.iter().find(|kept| kept.name == name) {
        return kept.kind.check(value).map_err(wrong);
    }
    let Some(config) = TOPIC_CONFIGS.iter().find(|config| config.name == name) else {
        let names = TOPIC_CONFIGS.iter().map(|config| config.name);
        let names = names.chain(KEPT.iter().map(|kept| kept.name));
        let meant = nearest::nearest(name, names);
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"));
        return Err(format!("unknown topic config '{name}'{meant}"));
    };
    config.kind.check(value).map_err(wrong)?;
    if name == "max.message.bytes" {
        let bytes = value.parse().expect("checked to be an integer");
        settings.fits_journal(name, bytes)?;
    }
    Ok(())
}

/// Whether the config is a list of values.
pub(crate) fn is_list(name: &str) -> bool {
    matches!(
        name,
        "cleanup.policy"
            | "follower.replication.throttled.replicas"
            | "leader.replication.throttled.replicas"
    )
}

/// What the config does, in a sentence; one that does nothing here yet says so.
pub(crate) fn documentation(name: &str) -> Option<String> {
    if let Some(config) = TOPIC_CONFIGS.iter().find(|config| config.name == name) {
        return Some(config.documentation.to_owned());
    }
    let kept = KEPT.iter().find(|kept| kept.name == name)?;
    Some(format!("{} Not used yet: kept and shown.", kept.documentation))
}

/// Kafka's number for the type of the config's values (DescribeConfigs 3).
pub(crate) fn type_of(name: &str) -> i8 {
    const INTS: [&str; 8] = [
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "index.interval.bytes",
        "max.message.bytes",
        "min.insync.replicas",
        "segment.bytes",
        "segment.index.bytes",
    ];
    let honoured = TOPIC_CONFIGS.iter().find(|config| config.name == name);
    let kept = KEPT.iter().find(|kept| kept.name == name);
    let kind = honoured
        .map(|config| &config.kind)
        .or(kept.map(|kept| &kept.kind));
    match kind {
        _ if is_list(name) => TYPE_LIST,
        _ if INTS.contains(&name) => TYPE_INT,
        _ if name == "remote.storage.enable" => TYPE_BOOLEAN,
        Some(kind) => type_of_kind(kind),
        None => 0,
    }
}

/// The same for a kind of values.
pub(crate) fn type_of_kind(kind: &Kind) -> i8 {
    match kind {
        Kind::Boolean => TYPE_BOOLEAN,
        Kind::Text | Kind::OneOf(_) => TYPE_STRING,
        Kind::Integer(range) if *range.end() <= i64::from(i32::MAX) => TYPE_INT,
        Kind::Integer(_) => TYPE_LONG,
        Kind::Fraction => TYPE_DOUBLE,
        Kind::Replicas => TYPE_LIST,
    }
}

/// The values that would hold for the config, the one that does first: name, value, source.
pub(crate) fn synonyms(
    name: &str,
    configs: &BTreeMap<String, String>,
    settings: &Settings,
) -> Vec<(&'static str, String, i8)> {
    let mut synonyms = Vec::new();
    let honoured = TOPIC_CONFIGS.iter().find(|config| config.name == name);
    let kept = KEPT.iter().find(|kept| kept.name == name);
    let own = honoured.map(|config| config.name).or(kept.map(|kept| kept.name));
    if let (Some(own), Some(value)) = (own, configs.get(name)) {
        synonyms.push((own, value.clone(), SOURCE_TOPIC));
    }
    let default = match honoured.map(|config| &config.otherwise) {
        Some(Otherwise::Setting(setting)) => {
            if settings.origin(setting) != Origin::Default {
                synonyms.push((
                    setting.name,
                    settings.text(setting).to_owned(),
                    SOURCE_BROKER_FILE,
                ));
            }
            synonyms.push((setting.name, setting.default.to_owned(), SOURCE_DEFAULT));
            None
        }
        Some(Otherwise::Fixed(value)) => Some(*value),
        None => kept.map(|kept| kept.default),
    };
    let broker_name = BROKER_NAMES.iter().find(|(topic_name, _)| *topic_name == name);
    if let (Some(value), Some((_, broker_name))) = (default, broker_name) {
        synonyms.push((*broker_name, value.to_owned(), SOURCE_DEFAULT));
    }
    synonyms
}

/// What holds for a topic with these configs, by name.
pub fn effective(configs: &BTreeMap<String, String>, settings: &Settings) -> Vec<CreatedConfig> {
    let honoured = TOPIC_CONFIGS.iter().map(|config| {
        let (value, source) = match (configs.get(config.name), &config.otherwise) {
            (Some(value), _) => (value.as_str(), SOURCE_TOPIC),
            (None, Otherwise::Fixed(value)) => (*value, SOURCE_DEFAULT),
            (None, Otherwise::Setting(setting)) => {
                let source = match settings.origin(setting) {
                    Origin::Default => SOURCE_DEFAULT,
                    Origin::File | Origin::Set | Origin::Flag => SOURCE_BROKER_FILE,
                };
                (settings.text(setting), source)
            }
        };
        (config.name, value, source, false)
    });
    let kept = KEPT.iter().map(|kept| match configs.get(kept.name) {
        Some(value) => (kept.name, value.as_str(), SOURCE_TOPIC, false),
        None => (kept.name, kept.default, SOURCE_DEFAULT, false),
    });
    let mut all: Vec<CreatedConfig> = honoured
        .chain(kept)
        .map(|(name, value, source, read_only)| CreatedConfig {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            source,
            read_only,
            sensitive: false,
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_taken_by_name_and_kind() {
        let settings = Settings::default();
        let ok = |name: &str, value: &str| check(name, value, &settings);
        assert_eq!(ok("segment.bytes", "1048576"), Ok(()));
        assert_eq!(ok("retention.ms", "-1"), Ok(()));
        assert_eq!(ok("retention.ms", "1000"), Ok(()));
        assert!(ok("retention.ms", "soon").is_err());
        assert!(ok("min.insync.replicas", "2").is_err());
        assert!(
            ok("segment.byte", "1")
                .expect_err("refused")
                .contains("segment.bytes")
        );
        assert!(ok("segment.bytes", "-1").is_err());
        let error = ok("max.message.bytes", "10000000").expect_err("refused");
        assert!(error.contains("journal.bytes"), "{error}");
        let error = ok("max.message.bytes", "100000000").expect_err("refused");
        assert!(error.contains("16777228"), "{error}");
    }

    #[test]
    fn every_config_of_kafka_4_is_known_and_takes_its_default() {
        let settings = Settings::default();
        let all = effective(&BTreeMap::new(), &settings);
        assert_eq!(all.len(), KAFKA_4.len());
        for (config, name) in all.iter().zip(KAFKA_4) {
            assert_eq!(config.name, name);
            let default = config.value.as_deref().expect("a default");
            assert_eq!(check(name, default, &settings), Ok(()), "{name}");
            for wrong in ["\u{7f}", "nan", "-3.5"] {
                assert!(check(name, wrong, &settings).is_err(), "{name}={wrong}");
            }
        }
        for (name, value, is_good) in [
            ("min.cleanable.dirty.ratio", "1", true),
            ("min.cleanable.dirty.ratio", "1.1", false),
            ("compression.gzip.level", "0", false),
            ("compression.zstd.level", "-5", true),
            ("leader.replication.throttled.replicas", "*", true),
            ("leader.replication.throttled.replicas", "0:1000, 1:1001", true),
            ("leader.replication.throttled.replicas", "0:1000,", false),
            ("leader.replication.throttled.replicas", "0:+1", false),
        ] {
            let checked = check(name, value, &settings);
            assert_eq!(checked.is_ok(), is_good, "{name}={value}");
        }
    }

    /// The topic configs of Apache Kafka 4.x, as its documentation lists them.
    const KAFKA_4: [&str; 37] = [
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "errors.deadletterqueue.group.enable",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.decompressed.message.bytes",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.copy.lag.bytes",
        "remote.copy.lag.ms",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    ];

    #[test]
    fn a_topics_own_config_is_told_from_the_brokers_and_the_default() {
        let mut settings = Settings::default();
        settings
            .take_assignment("message.max.bytes=2000")
            .expect("a good setting");
        let own = BTreeMap::from([("segment.bytes".to_owned(), "1048576".to_owned())]);
        let effective = effective(&own, &settings);
        let of = |name: &str| {
            let config = effective
                .iter()
                .find(|config| config.name == name)
                .expect("a config");
            (config.value.as_deref().expect("a value"), config.source)
        };
        assert_eq!(of("segment.bytes"), ("1048576", SOURCE_TOPIC));
        assert_eq!(of("max.message.bytes"), ("2000", SOURCE_BROKER_FILE));
        assert_eq!(of("index.interval.bytes"), ("4096", SOURCE_DEFAULT));
        assert_eq!(of("cleanup.policy"), ("delete", SOURCE_DEFAULT));
    }

    #[test]
    fn the_table_agrees_with_what_a_leader_does_by_default() {
        use crate::partition::leader::AppendRules;
        let rules = AppendRules::default();
        let settings = Settings::default();
        assert_eq!(settings.append_rules(), rules);
        let configs = effective(&BTreeMap::new(), &settings);
        let of = |name: &str| {
            configs
                .iter()
                .find(|config| config.name == name)
                .and_then(|config| config.value.clone())
        };
        assert_eq!(
            of("message.timestamp.after.max.ms"),
            Some(rules.timestamp_after_max_ms.to_string())
        );
        assert_eq!(
            of("message.timestamp.before.max.ms"),
            Some(rules.timestamp_before_max_ms.to_string())
        );
    }
}
