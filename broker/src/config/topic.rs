//! Configs of a topic: which there are, and which hold.

mod table;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::config::broker::{Source, Synonym};
use crate::config::table::{Kind, find, list};
use crate::config::{Settings, nearest};
use crate::controller::image::Topic;
use crate::controller::request::CreatedConfig;

use self::table::{TOPIC_CONFIGS, TopicConfig};

fn config(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|config| config.name == name)
}

/// The most that the configs of one topic may take, in bytes.
pub(crate) const CONFIGS_BYTES_MAX: usize = 64 << 10;
/// The most that the configs of all topics may take, in bytes: with all the rest that there may be, the metadata's
/// snapshot stays far below the largest that is read.
pub(crate) const ALL_CONFIGS_BYTES_MAX: usize = 64 << 20;

/// Bytes of a topic's configs, with what a snapshot says beside each.
pub(crate) fn bytes(configs: &BTreeMap<String, String>) -> usize {
    const LENGTHS_BYTES: usize = 8;
    let bytes = configs
        .iter()
        .map(|(name, value)| name.len() + value.len() + LENGTHS_BYTES);
    bytes.sum()
}

/// Whether a topic may have these configs beside others of `others` bytes.
///
/// # Errors
/// Why not.
pub(crate) fn check_bytes(configs: &BTreeMap<String, String>, others: usize) -> Result<(), String> {
    let bytes = bytes(configs);
    if bytes > CONFIGS_BYTES_MAX {
        return Err(format!(
            "the topic's configs would take {bytes} bytes, and may take {CONFIGS_BYTES_MAX}"
        ));
    }
    if others + bytes > ALL_CONFIGS_BYTES_MAX {
        return Err(format!(
            "the configs of all topics would take {} bytes, and may take {ALL_CONFIGS_BYTES_MAX}: delete some, or put \
             what most topics have into the broker's configuration",
            others + bytes
        ));
    }
    Ok(())
}

/// Whether a topic may have this config.
///
/// # Errors
/// Why not.
pub fn check(name: &str, value: &str, settings: &Settings) -> Result<(), String> {
    let value = &normal(name, value);
    let Some(config) = config(name) else {
        let meant = nearest::nearest(name, TOPIC_CONFIGS.iter().map(|config| config.name));
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"));
        return Err(format!("unknown topic config '{name}'{meant}"));
    };
    let checked = config.kind.check(value);
    checked.map_err(|why| format!("topic config {name}={value}: {why}"))?;
    if name == "max.message.bytes" {
        let bytes = value.parse().expect("checked to be an integer");
        settings.fits_journal(name, bytes)?;
    }
    Ok(())
}

/// A value in the form in which it is kept: of a list that names a value twice, once, as in Kafka.
pub(crate) fn normal(name: &str, value: &str) -> String {
    let value = value.trim();
    if !config(name).is_some_and(|config| matches!(config.kind, Kind::List(_))) {
        return value.to_owned();
    }
    let mut seen = BTreeSet::new();
    let values: Vec<&str> = list(value)
        // An empty one is none, and is refused.
        .filter(|one| one.is_empty() || seen.insert(*one))
        .collect();
    values.join(",")
}

/// The policy of a topic that the broker keeps its own records in, whatever anyone sets: they are the newest of each key,
/// whatever their age, and their owner removes what it has written anew.
pub(crate) const INTERNAL_CLEANUP_POLICY: &str = "compact";

/// What a topic says for itself. An internal one has the policy that it is kept by, if it was created before that was
/// among its configs too.
pub(crate) fn own(topic: &Topic) -> Cow<'_, BTreeMap<String, String>> {
    let policy = topic.configs.get("cleanup.policy").map(String::as_str);
    if !topic.is_internal || policy == Some(INTERNAL_CLEANUP_POLICY) {
        return Cow::Borrowed(&topic.configs);
    }
    let mut configs = topic.configs.clone();
    configs.insert("cleanup.policy".to_owned(), INTERNAL_CLEANUP_POLICY.to_owned());
    Cow::Owned(configs)
}

/// Whether an internal topic may have these configs.
///
/// # Errors
/// Why not.
pub(crate) fn check_internal(configs: &BTreeMap<String, String>) -> Result<(), String> {
    match configs.get("cleanup.policy").map(String::as_str) {
        None | Some(INTERNAL_CLEANUP_POLICY) => Ok(()),
        Some(policy) => Err(format!(
            "topic config cleanup.policy={policy}: of a topic that the broker keeps its own records in it is \
             {INTERNAL_CLEANUP_POLICY}, or groups and their offsets would go with old segments"
        )),
    }
}

/// Whether the configs of a topic go together, each of which it may have.
///
/// # Errors
/// Why not.
pub fn check_together(configs: &BTreeMap<String, String>, settings: &Settings) -> Result<(), String> {
    let brokers = settings.compaction();
    let of = |name: &str, otherwise: i64| -> i64 {
        let own = configs.get(name).and_then(|value| value.parse().ok());
        own.unwrap_or(otherwise)
    };
    let shortest = of("min.compaction.lag.ms", brokers.min_compaction_lag_ms);
    let longest = of("max.compaction.lag.ms", brokers.max_compaction_lag_ms);
    if shortest > longest {
        return Err(format!(
            "min.compaction.lag.ms={shortest} must not be more than max.compaction.lag.ms={longest}"
        ));
    }
    Ok(())
}

/// Whether the config is a list of values.
pub(crate) fn is_list(name: &str) -> bool {
    config(name).is_some_and(|config| config.kind.is_list())
}

/// What the config does, in a sentence; one that does nothing here yet says so.
pub(crate) fn documentation(name: &str) -> Option<String> {
    let config = config(name)?;
    let unused = if config.is_used {
        ""
    } else {
        " Not used yet by Millstream: kept and shown."
    };
    Some(format!("{}{unused}", config.documentation))
}

/// Kafka's number for the type of the config's values (DescribeConfigs 3).
pub(crate) fn type_of(name: &str) -> i8 {
    config(name).map_or(0, |config| config.kind.type_code())
}

/// The values that would hold for the config, the one that does first.
pub(crate) fn synonyms(name: &str, configs: &BTreeMap<String, String>, settings: &Settings) -> Vec<Synonym> {
    let Some(config) = config(name) else {
        return Vec::new();
    };
    let own = configs.get(name).map(|value| Synonym {
        name: config.name,
        value: Some(value.clone()),
        source: Source::Topic,
    });
    let brokers = config.broker.and_then(find);
    let brokers = brokers.map_or_else(Vec::new, |setting| settings.synonyms(setting));
    own.into_iter().chain(brokers).collect()
}

/// What holds for a topic with these configs, by name.
pub fn effective(configs: &BTreeMap<String, String>, settings: &Settings) -> Vec<CreatedConfig> {
    effective_of(|_| true, configs, settings).collect()
}

/// Likewise, of the configs that are asked for.
pub(crate) fn effective_of(
    is_asked: impl Fn(&str) -> bool,
    configs: &BTreeMap<String, String>,
    settings: &Settings,
) -> impl Iterator<Item = CreatedConfig> {
    let asked = TOPIC_CONFIGS.iter().filter(move |config| is_asked(config.name));
    asked.map(|config| {
        let own = configs.get(config.name);
        let own = own.map(|value| (value.clone(), Source::Topic));
        let (value, source) = own.unwrap_or_else(|| otherwise(config, settings));
        CreatedConfig {
            name: config.name.to_owned(),
            value: Some(value),
            source: source as i8,
            read_only: false,
            sensitive: false,
        }
    })
}

/// What holds when a topic does not say. What a broker says in another unit is a default, as in Kafka.
fn otherwise(config: &TopicConfig, settings: &Settings) -> (String, Source) {
    let setting = config.broker.and_then(find);
    if let Some((value, origin)) = setting.and_then(|setting| settings.layers(setting).next()) {
        return (value.to_owned(), origin.into());
    }
    let value = match config.name {
        "retention.ms" => settings.log_retention_ms().to_string(),
        "flush.ms" => settings.log_flush_ms().to_string(),
        "segment.ms" => settings.log_roll_ms().to_string(),
        "segment.jitter.ms" => settings.log_roll_jitter_ms().to_string(),
        _ => config.default.to_owned(),
    };
    (value, Source::Default)
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
    fn a_record_cannot_wait_for_longer_than_it_may() {
        let settings = Settings::default();
        let lags = |min: &str, max: &str| {
            let configs = [("min.compaction.lag.ms", min), ("max.compaction.lag.ms", max)];
            let set = configs.into_iter().filter(|(_, value)| !value.is_empty());
            let configs = set
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            check_together(&configs, &settings)
        };
        assert_eq!(lags("", ""), Ok(()));
        assert_eq!(lags("5", ""), Ok(()));
        assert_eq!(lags("5", "5"), Ok(()));
        assert!(
            lags("6", "5")
                .expect_err("refused")
                .contains("max.compaction.lag.ms=5")
        );
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
    fn what_a_topic_has_without_a_word_of_its_brokers_is_their_default() {
        for config in TOPIC_CONFIGS {
            let Some(name) = config.broker else {
                continue;
            };
            let setting = find(name).expect(name);
            assert_eq!(setting.kind.type_code(), config.kind.type_code(), "{name}");
            assert_eq!(
                setting.default.unwrap_or(config.default),
                config.default,
                "{name}"
            );
        }
    }

    #[test]
    fn an_internal_topic_is_compacted_whatever_it_says() {
        let of = |policy: Option<&str>, is_internal| {
            let configs = policy.map(|policy| ("cleanup.policy".to_owned(), policy.to_owned()));
            let topic = Topic {
                is_internal,
                configs: configs.into_iter().collect(),
                ..Topic::default()
            };
            let shown = effective(&own(&topic), &Settings::default());
            let shown = shown.into_iter().find(|config| config.name == "cleanup.policy");
            let shown = shown.expect("a config");
            (
                shown.value.expect("a value"),
                shown.source,
                check_internal(&topic.configs).is_ok(),
            )
        };
        let compact = |is_good| ("compact".to_owned(), Source::Topic as i8, is_good);
        assert_eq!(of(None, true), compact(true));
        assert_eq!(of(Some("compact"), true), compact(true));
        assert_eq!(of(Some("delete"), true), compact(false));
        assert_eq!(of(Some("compact,delete"), true), compact(false));
        assert_eq!(of(None, false).0, "delete");
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
        assert_eq!(of("segment.bytes"), ("1048576", Source::Topic as i8));
        assert_eq!(of("max.message.bytes"), ("2000", Source::Start as i8));
        assert_eq!(of("index.interval.bytes"), ("4096", Source::Default as i8));
        assert_eq!(of("cleanup.policy"), ("delete", Source::Default as i8));
    }

    #[test]
    fn what_a_broker_says_in_other_units_holds_for_its_topics() {
        let of = |assignments: &[&str], name: &str| {
            let mut settings = Settings::default();
            for assignment in assignments {
                settings.take_assignment(assignment).expect("a good setting");
            }
            let all = effective(&BTreeMap::new(), &settings);
            let config = all.into_iter().find(|config| config.name == name);
            let config = config.expect("a config");
            (config.value.expect("a value"), config.source)
        };
        let (start, default) = (Source::Start as i8, Source::Default as i8);
        for (assignments, name, value, source) in [
            (&[][..], "retention.ms", "604800000", default),
            (&["log.retention.hours=2"], "retention.ms", "7200000", default),
            (&["log.retention.hours=-1"], "retention.ms", "-1", default),
            (
                &["log.retention.hours=2", "log.retention.minutes=3"],
                "retention.ms",
                "180000",
                default,
            ),
            (
                &["log.retention.minutes=3", "log.retention.ms=4"],
                "retention.ms",
                "4",
                start,
            ),
            (
                &["log.retention.minutes=3", "log.retention.ms=-1"],
                "retention.ms",
                "-1",
                start,
            ),
            (&[], "flush.ms", "9223372036854775807", default),
            (&["log.flush.scheduler.interval.ms=7"], "flush.ms", "7", default),
            (
                &["log.flush.scheduler.interval.ms=7", "log.flush.interval.ms=8"],
                "flush.ms",
                "8",
                start,
            ),
            (&[], "flush.messages", "1", default),
            (&["log.flush.interval.messages=9"], "flush.messages", "9", start),
            (&[], "segment.ms", "604800000", default),
            (&["log.roll.hours=1"], "segment.ms", "3600000", default),
            (&["log.roll.hours=1", "log.roll.ms=9"], "segment.ms", "9", start),
            (
                &["log.roll.jitter.hours=1"],
                "segment.jitter.ms",
                "3600000",
                default,
            ),
            (
                &["log.roll.jitter.hours=1", "log.roll.jitter.ms=0"],
                "segment.jitter.ms",
                "0",
                start,
            ),
        ] {
            let shown = of(assignments, name);
            assert_eq!(shown, (value.to_owned(), source), "{assignments:?}");
        }
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
