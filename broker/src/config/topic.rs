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

/// Configs of Kafka's topics that do nothing here yet, with the one value that describes what is done: it is taken.
static FIXED: [(&str, &str); 18] = [
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "1"),
    ("flush.ms", "9223372036854775807"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("remote.storage.enable", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "-1"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "9223372036854775807"),
    ("unclean.leader.election.enable", "false"),
];

/// Whether a topic may have this config.
///
/// # Errors
/// Why not.
pub fn check(name: &str, value: &str, settings: &Settings) -> Result<(), String> {
    let value = value.trim();
    if let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name) {
        return match value == *fixed {
            true => Ok(()),
            false => Err(format!(
                "topic config {name} is known but not honoured yet: only {fixed}, which is what is done, is taken"
            )),
        };
    }
    let Some(config) = TOPIC_CONFIGS.iter().find(|config| config.name == name) else {
        let names = TOPIC_CONFIGS.iter().map(|config| config.name);
        let names = names.chain(FIXED.iter().map(|(name, _)| *name));
        let meant = nearest::nearest(name, names);
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"));
        return Err(format!("unknown topic config '{name}'{meant}"));
    };
    (config.kind.check(value)).map_err(|why| format!("topic config {name}={value}: {why}"))?;
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
    let fixed = FIXED
        .iter()
        .map(|&(name, value)| match configs.contains_key(name) {
            true => (name, value, SOURCE_TOPIC, true),
            false => (name, value, SOURCE_DEFAULT, true),
        });
    let mut all: Vec<CreatedConfig> = honoured
        .chain(fixed)
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
    fn configs_are_honoured_or_refused() {
        let settings = Settings::default();
        let ok = |name: &str, value: &str| check(name, value, &settings);
        assert_eq!(ok("segment.bytes", "1048576"), Ok(()));
        assert_eq!(ok("retention.ms", "-1"), Ok(()));
        assert!(
            ok("retention.ms", "1000")
                .expect_err("refused")
                .contains("not honoured")
        );
        assert!(
            ok("segment.byte", "1")
                .expect_err("refused")
                .contains("segment.bytes")
        );
        assert!(ok("segment.bytes", "-1").is_err());
        let error = ok("max.message.bytes", "100000000").expect_err("refused");
        assert!(error.contains("journal.bytes"), "{error}");
    }

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
