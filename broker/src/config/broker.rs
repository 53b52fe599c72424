//! Configs of brokers that are changed while they run: which may be, what is kept, and which value holds.
//!
//! A value for one broker wins over one for all brokers, that over what the broker was started with, and that over the
//! default (KIP-226). A broker is a shard: what is set for node 1001 holds for the second shard of its host alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::table::{self, Kind, Setting, UpdateMode};
use crate::config::{Origin, Settings, nearest};

/// What is kept for one broker, or for all, in bytes of names and values: several times all names with usual values.
pub(crate) const CONFIGS_BYTES_MAX: usize = 64 << 10;

/// Names under which Kafka takes the same thing in other units, the one that wins first: each is shown with those
/// behind it.
static SYNONYMS: [&[&str]; 4] = [
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.roll.ms", "log.roll.hours"],
];

/// What was changed while brokers ran. Bounded: names are known ones, each broker's are [`CONFIGS_BYTES_MAX`] at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfigs {
    /// For all brokers.
    pub all: BTreeMap<String, String>,
    /// For single ones, by node id.
    pub nodes: BTreeMap<i32, BTreeMap<String, String>>,
}

impl BrokerConfigs {
    /// What was changed for this broker; without one, for all.
    pub(crate) fn of(&self, node_id: Option<i32>) -> Option<&BTreeMap<String, String>> {
        match node_id {
            Some(node_id) => self.nodes.get(&node_id),
            None => Some(&self.all),
        }
    }

    /// Replaces that.
    pub(crate) fn set(&mut self, node_id: Option<i32>, configs: BTreeMap<String, String>) {
        match node_id {
            Some(node_id) if configs.is_empty() => drop(self.nodes.remove(&node_id)),
            Some(node_id) => drop(self.nodes.insert(node_id, configs)),
            None => self.all = configs,
        }
    }
}

/// A value that a config has, or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synonym {
    /// The name under which it is set.
    pub(crate) name: &'static str,
    /// The value; none for a secret.
    pub(crate) value: Option<String>,
    /// Where it is from.
    pub(crate) source: Source,
}

/// Where a config's value is from: Kafka's ConfigSource, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The topic's own.
    Topic = 1,
    /// Changed for this broker while it ran.
    Broker = 2,
    /// Changed for all brokers.
    AllBrokers = 3,
    /// What the broker was started with.
    Start = 4,
    /// The table.
    Default = 5,
}

impl From<Origin> for Source {
    fn from(origin: Origin) -> Source {
        match origin {
            Origin::Broker => Source::Broker,
            Origin::AllBrokers => Source::AllBrokers,
            Origin::Profile | Origin::File | Origin::Set | Origin::Flag => Source::Start,
            Origin::Default => Source::Default,
        }
    }
}

/// Whether these settings may be given other values while brokers run: those of one, or of all.
///
/// # Errors
/// Why not, in Kafka's words where it has some.
pub(crate) fn check_names<'a>(names: impl Iterator<Item = &'a str>, is_for_all: bool) -> Result<(), String> {
    let mut refused: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        let Some(setting) = table::find(name) else {
            let known = table::all().iter().map(|setting| setting.name);
            let meant = nearest::nearest(name, known);
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"));
            return Err(format!("unknown broker config '{name}'{meant}"));
        };
        let why = match setting.mode {
            UpdateMode::ReadOnly => "Cannot update these configs dynamically",
            UpdateMode::PerListener => {
                "These security configs can be dynamically updated only per-listener using the listener prefix"
            }
            UpdateMode::PerBroker if is_for_all => {
                "Cannot update these configs at default cluster level, broker id must be specified"
            }
            UpdateMode::PerBroker | UpdateMode::ClusterWide => continue,
        };
        refused.entry(why).or_default().insert(name);
    }
    match refused.pop_first() {
        Some((why, names)) => {
            let names: Vec<_> = names.into_iter().collect();
            Err(format!("{why}: [{}]", names.join(", ")))
        }
        None => Ok(()),
    }
}

/// Whether a setting may have this value.
///
/// # Errors
/// Why not; a secret is not repeated.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), String> {
    let setting = table::find(name).ok_or_else(|| format!("unknown broker config '{name}'"))?;
    let shown = if setting.kind == Kind::Password {
        "(hidden)"
    } else {
        value
    };
    let checked = setting.kind.check(value);
    checked.map_err(|why| format!("Invalid value {shown} for configuration {name}: {why}"))
}

impl Setting {
    /// Whether its value is a secret.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// What it does; one that does nothing here says so.
    pub(crate) fn described(&self) -> String {
        let unused = match (self.is_used, self.mode) {
            (true, _) => "",
            (false, UpdateMode::ReadOnly | UpdateMode::PerListener) => " Not used yet by Millstream.",
            (false, _) => " Not used yet by Millstream: kept and shown.",
        };
        format!("{}{unused}", self.documentation)
    }
}

impl Settings {
    /// The values that the setting has, and would have without those before: also of its other names, but for those
    /// that stand before the setting's own first value (as Kafka leaves them out).
    pub(crate) fn synonyms(&self, setting: &'static Setting) -> Vec<Synonym> {
        let own = [setting.name];
        let group = SYNONYMS.iter().find(|group| group.contains(&setting.name));
        let names = group.map_or(&own[..], |group| group);
        let settings = names.iter().filter_map(|name| table::find(name));
        let mut synonyms: Vec<Synonym> = settings
            .flat_map(|setting| {
                self.layers(setting).map(|(value, origin)| Synonym {
                    name: setting.name,
                    value: (!setting.is_sensitive()).then(|| value.to_owned()),
                    source: origin.into(),
                })
            })
            .collect();
        synonyms.sort_by_key(|synonym| synonym.source);
        let first = synonyms.iter().position(|synonym| synonym.name == setting.name);
        synonyms.split_off(first.unwrap_or(synonyms.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn changed(all: &[(&str, &str)], node: &[(&str, &str)]) -> Settings {
        let mut started = Settings::default();
        started
            .take_assignment("message.max.bytes=4000")
            .expect("a good setting");
        let mut configs = BrokerConfigs::default();
        configs.set(None, map(all));
        configs.set(Some(1001), map(node));
        started.changed_by(&configs, 1001)
    }

    fn synonyms(settings: &Settings, name: &str) -> Vec<(&'static str, Option<String>, i8)> {
        let found = settings.synonyms(table::find(name).expect("a setting"));
        let found = found.into_iter();
        found.map(|one| (one.name, one.value, one.source as i8)).collect()
    }

    #[test]
    fn a_value_for_one_broker_wins_over_all_brokers_over_the_start_over_the_default() {
        let name = "message.max.bytes";
        let of = |value: &str, source| (name, Some(value.to_owned()), source);
        let all: &[_] = &[(name, "3000")];
        for (all, node, value, shown) in [
            (&[][..], &[][..], 4_000, vec![of("4000", 4)]),
            (all, &[], 3_000, vec![of("3000", 3), of("4000", 4)]),
            (
                all,
                &[(name, "2000")],
                2_000,
                vec![of("2000", 2), of("3000", 3), of("4000", 4)],
            ),
        ] {
            let settings = changed(all, node);
            let expected: Vec<_> = shown.into_iter().chain([of("1048588", 5)]).collect();
            assert_eq!(synonyms(&settings, name), expected);
            assert_eq!(settings.append_rules().max_message_bytes, value);
        }
        let others = BrokerConfigs {
            nodes: BTreeMap::from([(1000, map(&[(name, "2000")]))]),
            ..BrokerConfigs::default()
        };
        let settings = Settings::default().changed_by(&others, 1001);
        assert_eq!(
            settings.append_rules().max_message_bytes,
            1_048_588,
            "another node's"
        );
    }

    #[test]
    fn what_cannot_be_a_value_or_cannot_be_changed_is_left_as_it_was() {
        let settings = changed(
            &[
                ("message.max.bytes", "soon"),
                ("no.such", "1"),
                ("num.partitions", "7"),
            ],
            &[],
        );
        assert_eq!(settings.append_rules().max_message_bytes, 4_000);
        assert_eq!(settings.num_partitions(), 1);
    }

    #[test]
    fn other_units_of_a_setting_are_shown_behind_it() {
        let settings = changed(&[("log.retention.ms", "5")], &[]);
        let of = |name, value: &str, source| (name, Some(value.to_owned()), source);
        assert_eq!(
            synonyms(&settings, "log.retention.ms"),
            [
                of("log.retention.ms", "5", 3),
                of("log.retention.hours", "168", 5)
            ]
        );
        assert_eq!(
            synonyms(&settings, "log.retention.hours"),
            [of("log.retention.hours", "168", 5)]
        );
        assert_eq!(synonyms(&settings, "log.retention.minutes"), []);
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = changed(&[], &[("sasl.jaas.config", "hush")]);
        assert_eq!(
            synonyms(&settings, "sasl.jaas.config"),
            [("sasl.jaas.config", None, 2)]
        );
        let error = check_value("sasl.jaas.config", "hush\u{7}").expect_err("refused");
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn each_update_mode_is_refused_in_kafkas_words() {
        for (name, is_for_all, part) in [
            ("message.max.bytes", true, None),
            ("message.max.bytes", false, None),
            ("ssl.client.auth", false, None),
            ("ssl.client.auth", true, Some("default cluster level")),
            ("ssl.key.password", false, Some("listener prefix")),
            (
                "num.partitions",
                false,
                Some("Cannot update these configs dynamically: [num.partitions]"),
            ),
            ("shards", true, Some("dynamically")),
            (
                "message.max.byte",
                false,
                Some("did you mean 'message.max.bytes'"),
            ),
        ] {
            let checked = check_names([name].into_iter(), is_for_all);
            match part {
                None => assert_eq!(checked, Ok(()), "{name}"),
                Some(part) => {
                    let error = checked.expect_err(name);
                    assert!(error.contains(part), "{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_setting_takes_its_default_and_says_whether_it_does_anything() {
        for setting in table::all() {
            if let Some(default) = setting.default {
                assert_eq!(setting.kind.check(default), Ok(()), "{}", setting.name);
            }
            assert!(setting.documentation.ends_with('.'), "{}", setting.name);
            let says = setting.described().contains("Not used yet by Millstream");
            assert_eq!(says, !setting.is_used, "{}", setting.name);
        }
        let names = table::all().windows(2);
        for pair in names {
            assert!(pair[0].name < pair[1].name, "{} twice", pair[0].name);
        }
        let groups = SYNONYMS.iter().flat_map(|group| group.iter());
        for name in groups {
            assert!(table::find(name).is_some(), "{name}");
        }
    }
}
