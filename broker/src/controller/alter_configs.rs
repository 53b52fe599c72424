//! What the controller makes of a wish for other configs of topics and of brokers. Pure.
//!
//! As in [`crate::controller::decide`], a decision is records to be written and the answers to give then; the codes are
//! Kafka's for the same request: what is wrong with a topic's value is INVALID_CONFIG, with a broker's INVALID_REQUEST.

use std::collections::{BTreeMap, BTreeSet};

use wire::ErrorCode;

use crate::config::broker::{self, BrokerConfigs, CONFIGS_BYTES_MAX};
use crate::config::{Settings, table, topic};
use crate::controller::alter::find;
use crate::controller::decide::{Cluster, Refusal};
use crate::controller::record::MetadataRecord;
use crate::controller::request::{Altered, ConfigChange, ConfigOperation, ConfigResource, ResourceConfigs};
use crate::controller::state::Metadata;

/// Decides on other configs. One result for each resource, in order; each broker sees those before it.
pub fn alter_configs(
    metadata: &Metadata,
    cluster: &Cluster<'_>,
    wanted: &[ResourceConfigs],
) -> (Vec<MetadataRecord>, Vec<Altered>) {
    let mut brokers = BrokerConfigs::clone(&metadata.broker_configs);
    let mut topics_bytes = metadata.topic_configs_bytes();
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(wanted.len());
    for wish in wanted {
        let decided = match &wish.resource {
            ConfigResource::Topic(name) => {
                of_topic(metadata, cluster.settings, name, wish, &mut topics_bytes)
            }
            ConfigResource::Broker(id) => of_brokers(&mut brokers, cluster, Some(*id), wish),
            ConfigResource::AllBrokers => of_brokers(&mut brokers, cluster, None, wish),
        };
        results.push(Altered::of(decided.map(|record| records.extend(record))));
    }
    (records, results)
}

/// Nothing, if it has these configs already. `all_bytes` are of the configs of all topics.
fn of_topic(
    metadata: &Metadata,
    settings: &Settings,
    name: &str,
    wish: &ResourceConfigs,
    all_bytes: &mut usize,
) -> Result<Option<MetadataRecord>, Refusal> {
    let topic = find(metadata, name)?;
    let configs = changed(&topic::own(topic), &Rules::Topic(settings), wish)?;
    if topic.is_internal {
        topic::check_internal(&configs).map_err(|why| (ErrorCode::InvalidConfig, why))?;
    }
    topic::check_together(&configs, settings).map_err(|why| (ErrorCode::InvalidConfig, why))?;
    let (before, after) = (topic::bytes(&topic.configs), topic::bytes(&configs));
    let others = all_bytes.saturating_sub(before);
    if after > before {
        topic::check_bytes(&configs, others).map_err(|why| (ErrorCode::PolicyViolation, why))?;
    }
    *all_bytes = others + after;
    let topic_id = topic.id;
    Ok((configs != topic.configs).then_some(MetadataRecord::TopicConfigsSet { topic_id, configs }))
}

fn of_brokers(
    brokers: &mut BrokerConfigs,
    cluster: &Cluster<'_>,
    node_id: Option<i32>,
    wish: &ResourceConfigs,
) -> Result<Option<MetadataRecord>, Refusal> {
    let refuse = |why| (ErrorCode::InvalidRequest, why);
    let concerned = |id: i32| node_id.is_none_or(|node_id| node_id == id);
    let mut nodes = cluster.nodes.iter().filter(|node| concerned(node.id)).peekable();
    if let (Some(node_id), None) = (node_id, nodes.peek()) {
        return Err(refuse(format!("there is no broker {node_id}")));
    }
    let set = wish.changes.iter();
    let set = set.filter(|change| change.operation != ConfigOperation::Delete);
    broker::check_names(set.map(|change| change.name.as_str()), node_id.is_none()).map_err(refuse)?;
    let before = brokers.of(node_id).cloned().unwrap_or_default();
    let configs = changed(&before, &Rules::Broker, wish)?;
    let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > CONFIGS_BYTES_MAX {
        let why = format!("these configs would take {bytes} bytes, and may take {CONFIGS_BYTES_MAX}");
        return Err(refuse(why));
    }
    let mut after = brokers.clone();
    after.set(node_id, configs.clone());
    for node in nodes {
        // What did not go together before, as after a start with others, keeps nobody from mending it.
        let fits = |configs| cluster.settings.changed_by(configs, node.id).check_logs();
        if let (Ok(()), Err(why)) = (fits(brokers), fits(&after)) {
            return Err(refuse(format!("broker {}: {why}", node.id)));
        }
    }
    *brokers = after;
    Ok((configs != before).then_some(MetadataRecord::BrokerConfigsSet { node_id, configs }))
}

/// By what configs are judged.
enum Rules<'a> {
    /// A topic's, with what holds when it does not say.
    Topic(&'a Settings),
    /// A broker's.
    Broker,
}

impl Rules<'_> {
    fn is_list(&self, name: &str) -> bool {
        match self {
            Rules::Topic(_) => topic::is_list(name),
            Rules::Broker => table::find(name).is_some_and(|setting| setting.kind.is_list()),
        }
    }

    /// What a list is that is not set: as in Kafka, of a topic what holds, of a broker the default.
    fn otherwise(&self, name: &str) -> String {
        match self {
            Rules::Topic(settings) => {
                let mut effective = topic::effective(&BTreeMap::new(), settings).into_iter();
                let config = effective.find(|config| config.name == name);
                config.and_then(|config| config.value).unwrap_or_default()
            }
            Rules::Broker => {
                let default = table::find(name).and_then(|setting| setting.default);
                default.unwrap_or_default().to_owned()
            }
        }
    }

    /// A value in the form in which it is kept.
    fn normal(&self, name: &str, value: &str) -> String {
        match self {
            Rules::Topic(_) => topic::normal(name, value),
            Rules::Broker => value.trim().to_owned(),
        }
    }

    fn check(&self, name: &str, value: &str) -> Result<(), Refusal> {
        match self {
            Rules::Topic(settings) => {
                let checked = topic::check(name, value, settings);
                checked.map_err(|why| (ErrorCode::InvalidConfig, why))
            }
            Rules::Broker => {
                let checked = broker::check_value(name, value);
                checked.map_err(|why| (ErrorCode::InvalidRequest, why))
            }
        }
    }
}

fn changed(
    before: &BTreeMap<String, String>,
    rules: &Rules<'_>,
    wanted: &ResourceConfigs,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut configs = if wanted.replaces_all {
        BTreeMap::new()
    } else {
        before.clone()
    };
    let mut names = BTreeSet::new();
    for change in &wanted.changes {
        if !names.insert(&change.name) {
            let why = format!("config {} is named twice", change.name);
            return Err((ErrorCode::InvalidRequest, why));
        }
        let value = new_value(&configs, rules, change)?;
        match value {
            Some(value) => {
                let value = rules.normal(&change.name, &value);
                rules.check(&change.name, &value)?;
                configs.insert(change.name.clone(), value);
            }
            None => {
                configs.remove(&change.name);
            }
        }
    }
    Ok(configs)
}

/// What the config shall be; `None`: its default again.
fn new_value(
    configs: &BTreeMap<String, String>,
    rules: &Rules<'_>,
    change: &ConfigChange,
) -> Result<Option<String>, Refusal> {
    let name = &change.name;
    if change.operation == ConfigOperation::Delete {
        return Ok(None);
    }
    let Some(value) = &change.value else {
        return Err((
            ErrorCode::InvalidRequest,
            format!("Null value not supported for : {name}"),
        ));
    };
    if change.operation == ConfigOperation::Set {
        return Ok(Some(value.clone()));
    }
    if !rules.is_list(name) {
        let why = format!("only values of lists can be added or taken out, and {name} is none");
        return Err((ErrorCode::InvalidConfig, why));
    }
    let now = configs
        .get(name)
        .cloned()
        .unwrap_or_else(|| rules.otherwise(name));
    let mut values: Vec<&str> = table::list(&now).collect();
    for one in table::list(value) {
        match change.operation {
            ConfigOperation::Subtract => values.retain(|known| *known != one),
            _ if !values.contains(&one) => values.push(one),
            _ => {}
        }
    }
    Ok(Some(values.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::image::{Node, Topic};

    fn nodes() -> Vec<Node> {
        let nodes = (1000..1002).map(|id| Node {
            id,
            host: "127.0.0.1".into(),
            port: 9092,
            rack: None,
        });
        nodes.collect()
    }

    fn metadata() -> Metadata {
        let topic = Topic {
            name: "t".into(),
            id: 1,
            configs: BTreeMap::from([("retention.ms".into(), "5".into())]),
            ..Topic::default()
        };
        let mut metadata = Metadata::default();
        metadata
            .apply(&MetadataRecord::TopicCreated(topic))
            .expect("applied");
        metadata
    }

    /// Decides on changes of one resource, applies them, and gives the configs that it has then.
    fn alter_resource(
        metadata: &mut Metadata,
        resource: &ConfigResource,
        replaces_all: bool,
        changes: &[(&str, ConfigOperation, Option<&str>)],
    ) -> Result<Vec<String>, ErrorCode> {
        let changes = changes.iter().map(|(name, operation, value)| ConfigChange {
            name: (*name).into(),
            operation: *operation,
            value: value.map(str::to_owned),
        });
        let wanted = [ResourceConfigs {
            resource: resource.clone(),
            replaces_all,
            changes: changes.collect(),
        }];
        let cluster = Cluster {
            nodes: &nodes(),
            settings: &Settings::default(),
        };
        let (records, results) = alter_configs(metadata, &cluster, &wanted);
        for record in &records {
            metadata.apply(record).expect("a decision that can be applied");
        }
        let configs = match resource {
            ConfigResource::Topic(_) => Some(&metadata.topics_by_id[&1].configs),
            ConfigResource::Broker(id) => metadata.broker_configs.of(Some(*id)),
            ConfigResource::AllBrokers => metadata.broker_configs.of(None),
        };
        match results[0].error_code {
            ErrorCode::None => {
                let configs = configs.into_iter().flatten();
                Ok(configs.map(|(name, value)| format!("{name}={value}")).collect())
            }
            error => Err(error),
        }
    }

    fn alter(
        replaces_all: bool,
        changes: &[(&str, ConfigOperation, Option<&str>)],
    ) -> Result<Vec<String>, ErrorCode> {
        let topic = ConfigResource::Topic("t".into());
        alter_resource(&mut metadata(), &topic, replaces_all, changes)
    }

    #[test]
    fn configs_are_set_deleted_added_to_and_taken_from() {
        use ConfigOperation::{Append, Delete, Set, Subtract};
        let set = ("segment.ms", Set, Some("7"));
        assert_eq!(
            alter(false, &[set]),
            Ok(vec!["retention.ms=5".into(), "segment.ms=7".into()])
        );
        assert_eq!(alter(true, &[set]), Ok(vec!["segment.ms=7".into()]));
        assert_eq!(alter(true, &[]), Ok(vec![]));
        assert_eq!(alter(false, &[("retention.ms", Delete, None)]), Ok(vec![]));
        let compact = ("cleanup.policy", Append, Some("compact"));
        assert_eq!(
            alter(true, &[compact]),
            Ok(vec!["cleanup.policy=delete,compact".into()]),
            "the default is what is added to"
        );
        assert_eq!(
            alter(true, &[("cleanup.policy", Append, Some("delete"))]),
            Ok(vec!["cleanup.policy=delete".into()])
        );
        assert_eq!(
            alter(true, &[("cleanup.policy", Subtract, Some("compact"))]),
            Ok(vec!["cleanup.policy=delete".into()])
        );
        assert_eq!(
            alter(true, &[("cleanup.policy", Set, Some("delete, compact,delete"))]),
            Ok(vec!["cleanup.policy=delete,compact".into()]),
            "what is named twice is kept once"
        );
        // As in Kafka, which keeps these as they come.
        let replicas = ("leader.replication.throttled.replicas", Set, Some("0:1,0:1"));
        assert_eq!(
            alter(true, &[replicas]),
            Ok(vec!["leader.replication.throttled.replicas=0:1,0:1".into()])
        );
        for empty in ["delete,,compact", ",", "delete,"] {
            let empty = ("cleanup.policy", Set, Some(empty));
            assert_eq!(alter(true, &[empty]), Err(ErrorCode::InvalidConfig));
        }
    }

    #[test]
    fn a_change_that_is_wrong_changes_nothing() {
        use ConfigOperation::{Append, Set};
        use ErrorCode::{InvalidConfig, InvalidRequest};
        for (changes, code) in [
            (&[("no.such", Set, Some("1"))][..], InvalidConfig),
            (&[("segment.ms", Set, Some("soon"))], InvalidConfig),
            (&[("segment.ms", Set, None)], InvalidRequest),
            (&[("segment.ms", Append, Some("1"))], InvalidConfig),
            (
                &[("segment.ms", Set, Some("1")), ("segment.ms", Set, Some("2"))],
                InvalidRequest,
            ),
            (
                &[("segment.ms", Set, Some("1")), ("no.such", Set, Some("2"))],
                InvalidConfig,
            ),
        ] {
            assert_eq!(alter(false, changes), Err(code), "{changes:?}");
        }
    }

    #[test]
    fn configs_of_topics_have_a_bound_and_what_is_less_is_always_taken() {
        use ConfigOperation::Set;
        let long = "0".repeat(topic::CONFIGS_BYTES_MAX) + "7";
        assert_eq!(
            alter(false, &[("segment.ms", Set, Some(&long))]),
            Err(ErrorCode::PolicyViolation)
        );
        // As a log may have them that was written without a bound.
        let mut metadata = metadata();
        let mut full = Topic::clone(&metadata.topics_by_id[&1]);
        (full.name, full.id) = ("full".into(), 2);
        let value = "7".repeat(topic::ALL_CONFIGS_BYTES_MAX);
        full.configs = BTreeMap::from([("segment.ms".into(), value)]);
        metadata
            .apply(&MetadataRecord::TopicCreated(full))
            .expect("applied");
        let topic = |name: &str| ConfigResource::Topic(name.into());
        let mut set = |name: &str, value| {
            alter_resource(
                &mut metadata,
                &topic(name),
                false,
                &[("segment.ms", Set, Some(value))],
            )
        };
        assert_eq!(set("t", "7"), Err(ErrorCode::PolicyViolation));
        assert!(set("full", "7").is_ok());
        assert!(set("t", "7").is_ok());
    }

    #[test]
    fn configs_of_brokers_are_kept_for_one_and_for_all() {
        use ConfigOperation::{Append, Delete, Set, Subtract};
        use ConfigResource::{AllBrokers, Broker};
        let mut metadata = metadata();
        let mut alter = |resource, changes: &[_]| alter_resource(&mut metadata, &resource, false, changes);
        let threads = |value| ("log.cleaner.threads", Set, Some(value));
        assert_eq!(
            alter(Broker(1001), &[threads(" 2 ")]),
            Ok(vec!["log.cleaner.threads=2".into()])
        );
        assert_eq!(
            alter(
                AllBrokers,
                &[threads("3"), ("log.cleanup.policy", Append, Some("compact"))]
            ),
            Ok(vec![
                "log.cleaner.threads=3".into(),
                "log.cleanup.policy=delete,compact".into()
            ]),
            "the default is what is added to"
        );
        assert_eq!(
            alter(
                Broker(1001),
                &[
                    ("log.cleanup.policy", Subtract, Some("compact")),
                    ("log.cleaner.threads", Delete, None),
                    ("num.partitions", Delete, None),
                ]
            ),
            Ok(vec!["log.cleanup.policy=delete".into()])
        );
        assert_eq!(
            alter(Broker(1001), &[("log.cleanup.policy", Delete, None)]),
            Ok(vec![])
        );
        assert_eq!(metadata.broker_configs.nodes, BTreeMap::new());
        assert_eq!(metadata.broker_configs.all["log.cleaner.threads"], "3");
    }

    #[test]
    fn a_change_of_a_broker_that_is_wrong_changes_nothing() {
        use ConfigOperation::{Append, Set};
        use ConfigResource::{AllBrokers, Broker};
        use ErrorCode::{InvalidConfig, InvalidRequest};
        let long = "x".repeat(4_096);
        let texts: Vec<_> = table::all()
            .iter()
            .filter(|setting| setting.kind.check(&long).is_ok())
            .collect();
        let texts: Vec<_> = texts
            .iter()
            .map(|setting| (setting.name, Set, Some(long.as_str())))
            .collect();
        let texts: Vec<_> = texts
            .into_iter()
            .filter(|(name, ..)| broker::check_names([*name].into_iter(), false).is_ok())
            .collect();
        assert!(texts.len() * long.len() > CONFIGS_BYTES_MAX);
        let segment = ("log.segment.bytes", Set, Some("1048576"));
        for (resource, changes, code) in [
            (
                Broker(1002),
                &[("log.cleaner.threads", Set, Some("2"))][..],
                InvalidRequest,
            ),
            (Broker(1001), &[("no.such", Set, Some("2"))], InvalidRequest),
            (
                Broker(1001),
                &[("num.partitions", Set, Some("2"))],
                InvalidRequest,
            ),
            (
                AllBrokers,
                &[("ssl.client.auth", Set, Some("none"))],
                InvalidRequest,
            ),
            (
                Broker(1001),
                &[("ssl.key.password", Set, Some("x"))],
                InvalidRequest,
            ),
            (
                Broker(1001),
                &[("log.cleaner.threads", Set, Some("soon"))],
                InvalidRequest,
            ),
            (
                Broker(1001),
                &[("log.cleaner.threads", Set, Some("0"))],
                InvalidRequest,
            ),
            (
                Broker(1001),
                &[("log.cleaner.threads", Set, None)],
                InvalidRequest,
            ),
            (
                Broker(1001),
                &[("log.cleaner.threads", Append, Some("2"))],
                InvalidConfig,
            ),
            (
                Broker(1001),
                &[
                    ("log.cleaner.threads", Set, Some("2")),
                    ("log.cleaner.threads", Set, Some("3")),
                ],
                InvalidRequest,
            ),
            (Broker(1001), &texts, InvalidRequest),
            (
                AllBrokers,
                &[("message.max.bytes", Set, Some("10000000"))],
                InvalidRequest,
            ),
            (
                AllBrokers,
                &[segment, ("message.max.bytes", Set, Some("2000000"))],
                InvalidRequest,
            ),
        ] {
            let mut metadata = metadata();
            let altered = alter_resource(&mut metadata, &resource, false, changes);
            assert_eq!(altered, Err(code), "{:?}", changes[0]);
            assert_eq!(*metadata.broker_configs, BrokerConfigs::default());
        }
    }

    #[test]
    fn sizes_are_judged_for_each_broker_with_what_holds_for_all() {
        use ConfigOperation::{Delete, Set};
        use ConfigResource::{AllBrokers, Broker};
        let mut metadata = metadata();
        let mut alter =
            |resource, changes: &[_]| alter_resource(&mut metadata, &resource, false, changes).map(drop);
        let segment = |value| ("log.segment.bytes", Set, Some(value));
        let batch = ("message.max.bytes", Set, Some("4000000"));
        assert_eq!(alter(AllBrokers, &[segment("5000000")]), Ok(()));
        assert_eq!(alter(Broker(1001), &[batch]), Ok(()));
        assert_eq!(
            alter(AllBrokers, &[segment("3000000")]),
            Err(ErrorCode::InvalidRequest),
            "broker 1001 would have larger batches"
        );
        assert_eq!(
            alter(Broker(1001), &[("message.max.bytes", Delete, None)]),
            Ok(())
        );
        assert_eq!(alter(AllBrokers, &[segment("3000000")]), Ok(()));
    }
}
