//! Configs of a topic: which there are, and which hold.

use std::collections::BTreeMap;

use crate::config::table::{self, Kind, Setting};
use crate::config::{Origin, Settings, nearest};
use crate::controller::request::CreatedConfig;

/// Kafka's ConfigSource numbers.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER_FILE: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// A config that can be set for a topic.
struct TopicConfig {
    name: &'static str,
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
        kind: Kind::Integer(0..=i32::MAX as i64),
        otherwise: Otherwise::Setting(&table::LOG_INDEX_INTERVAL_BYTES),
    },
    TopicConfig {
        name: "max.message.bytes",
        kind: Kind::Integer(0..=i32::MAX as i64),
        otherwise: Otherwise::Setting(&table::MESSAGE_MAX_BYTES),
    },
    TopicConfig {
        name: "message.timestamp.after.max.ms",
        kind: Kind::Integer(0..=i64::MAX),
        otherwise: Otherwise::Fixed("3600000"),
    },
    TopicConfig {
        name: "message.timestamp.before.max.ms",
        kind: Kind::Integer(0..=i64::MAX),
        otherwise: Otherwise::Fixed("9223372036854775807"),
    },
    TopicConfig {
        name: "message.timestamp.type",
        kind: Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        otherwise: Otherwise::Setting(&table::LOG_MESSAGE_TIMESTAMP_TYPE),
    },
    TopicConfig {
        name: "segment.bytes",
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
}

const fn kept(name: &'static str, kind: Kind, default: &'static str) -> KeptConfig {
    KeptConfig { name, kind, default }
}

const ANY: Kind = Kind::Integer(0..=i64::MAX);
const ANY_OR_NONE: Kind = Kind::Integer(-1..=i64::MAX);

static KEPT: [KeptConfig; 27] = [
    kept(
        "cleanup.policy",
        Kind::OneOf(&["delete", "compact", "compact,delete", "delete,compact"]),
        "delete",
    ),
    kept(
        "compression.gzip.level",
        Kind::OneOf(&["-1", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        "-1",
    ),
    kept("compression.lz4.level", Kind::Integer(1..=17), "9"),
    kept(
        "compression.type",
        Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
    ),
    kept("compression.zstd.level", Kind::Integer(-131_072..=22), "3"),
    kept("delete.retention.ms", ANY, "86400000"),
    kept("file.delete.delay.ms", ANY, "60000"),
    kept("flush.messages", Kind::Integer(1..=i64::MAX), "1"),
    kept("flush.ms", ANY, "9223372036854775807"),
    kept("follower.replication.throttled.replicas", Kind::Replicas, ""),
    kept("leader.replication.throttled.replicas", Kind::Replicas, ""),
    kept("local.retention.bytes", Kind::Integer(-2..=i64::MAX), "-2"),
    kept("local.retention.ms", Kind::Integer(-2..=i64::MAX), "-2"),
    kept(
        "max.compaction.lag.ms",
        Kind::Integer(1..=i64::MAX),
        "9223372036854775807",
    ),
    kept("min.cleanable.dirty.ratio", Kind::Fraction, "0.5"),
    kept("min.compaction.lag.ms", ANY, "0"),
    // With one replica anything else would refuse every write.
    kept("min.insync.replicas", Kind::Integer(1..=1), "1"),
    kept("preallocate", Kind::Boolean, "false"),
    kept("remote.log.copy.disable", Kind::Boolean, "false"),
    kept("remote.log.delete.on.disable", Kind::Boolean, "false"),
    kept("remote.storage.enable", Kind::OneOf(&["false"]), "false"),
    kept("retention.bytes", ANY_OR_NONE, "-1"),
    kept("retention.ms", ANY_OR_NONE, "-1"),
    kept(
        "segment.index.bytes",
        Kind::Integer(4..=i32::MAX as i64),
        "10485760",
    ),
    kept("segment.jitter.ms", ANY, "0"),
    kept("segment.ms", Kind::Integer(1..=i64::MAX), "9223372036854775807"),
    kept("unclean.leader.election.enable", Kind::Boolean, "false"),
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
    const KAFKA_4: [&str; 33] = [
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
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
