//! Configs of brokers: all of Kafka's are shown, and those that may be are changed while a broker runs. All of it holds
//! for Apache Kafka as well, but where a test says so.
//!
//! `broker_configs.txt` holds Apache Kafka 4.4's own: name, type, update mode and default of each, as
//! `broker/tests/tools/record_kafka.sh` records them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use wire::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlteredConfig,
};
use wire::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse, DescribedConfig,
};
use wire::messages::incremental_alter_configs::{
    ChangedConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
};
use wire::{Array, Compression, ErrorCode};

use crate::admin::{APPEND, BROKER, DELETE, SET, SUBTRACT, TOPIC, change, configs_of};
use crate::support::{Broker, Client, batch};

const RECORDED: &str = include_str!("broker_configs.txt");
/// The environment's word for: write what the broker shows here instead of comparing it.
const RECORD_TO: &str = "MILLSTREAM_RECORD_CONFIGS_TO";
/// All brokers that do not say otherwise.
const ALL: &str = "";

/// Configs that differ from Kafka's on purpose, and why.
const DIFFER: [(&str, &str); 2] = [
    (
        "log.flush.interval.messages",
        "every batch is flushed before it is acknowledged, unless somebody says otherwise",
    ),
    ("node.id", "a host has one without being told"),
];

/// Settings that Kafka does not have.
const OURS: [&str; 13] = [
    "admin.listen",
    "advertised.host",
    "host",
    "journal.bytes",
    "journal.direct.min.bytes",
    "memory.bytes",
    "memory.prefault",
    "metrics.lag.partitions.max",
    "port",
    "scrub.interval.ms",
    "scrub.max.bytes.per.second",
    "shard.port.base",
    "shards",
];

/// Held by tests that change what others change as well: they may share a foreign broker.
static TURN: Mutex<()> = Mutex::new(());

fn first_node(client: &mut Client) -> String {
    client.metadata(Some(&[])).brokers[0].node_id.to_string()
}

/// What Kafka's documentation calls the type.
fn type_name(code: i8) -> &'static str {
    let names = [
        "boolean", "string", "int", "short", "long", "double", "list", "class", "password",
    ];
    names[usize::try_from(code - 1).expect("a type of a config")]
}

/// The update mode (KIP-226), as the broker judges a change for all brokers.
fn mode(client: &mut Client, config: &DescribedConfig, default: Option<&str>) -> &'static str {
    if config.read_only {
        return "read-only";
    }
    let some = match type_name(config.config_type) {
        "boolean" => "true",
        "string" | "class" | "password" | "list" => "x",
        "double" => "0.5",
        _ => "10",
    };
    let changes = [(config.name.as_str(), SET, Some(default.unwrap_or(some)))];
    let (_, message) = validate(client, ALL, &changes);
    match message {
        Some(message) if message.contains("at default cluster level") => "per-broker",
        Some(message) if message.contains("only per-listener") => "per-listener",
        _ => "cluster-wide",
    }
}

/// Asks what would come of the changes of a broker.
fn validate(
    client: &mut Client,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> (ErrorCode, Option<String>) {
    let configs = changes
        .iter()
        .map(|(name, config_operation, value)| ChangedConfig {
            name,
            config_operation: *config_operation,
            value: *value,
        });
    let configs: Vec<_> = configs.collect();
    let resources = [IncrementalAlterConfigsResource {
        resource_type: BROKER,
        resource_name: name,
        configs: Array::from_slice(&configs),
    }];
    let request = IncrementalAlterConfigsRequest {
        resources: Array::from_slice(&resources),
        validate_only: true,
    };
    let mut response: IncrementalAlterConfigsResponse = client.call(1, &request).unwrap();
    let response = response.responses.remove(0);
    (response.error_code, response.error_message)
}

#[test]
fn every_config_of_kafkas_brokers_is_shown_as_kafka_shows_it() {
    let broker = Broker::start();
    let mut client = broker.client();
    let node = first_node(&mut client);
    let mut configs = configs_of(&mut client, BROKER, &node, None).configs;
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    let mut shown = BTreeMap::new();
    for config in &configs {
        let defaults = config.synonyms.iter();
        let mut defaults = defaults.filter(|synonym| synonym.source == 5 && synonym.name == config.name);
        let default = defaults.next().and_then(|synonym| synonym.value.clone());
        let mode = mode(&mut client, config, default.as_deref());
        let default = default.map_or("none".to_owned(), |default| format!("={default}"));
        let line = format!("{} {mode} {default}", type_name(config.config_type));
        assert!(
            shown.insert(config.name.clone(), line).is_none(),
            "{} twice",
            config.name
        );
        assert!(
            !config.documentation.as_deref().unwrap_or_default().is_empty(),
            "{}",
            config.name
        );
        assert_eq!(
            config.is_sensitive,
            type_name(config.config_type) == "password",
            "{}",
            config.name
        );
    }
    if let Ok(path) = std::env::var(RECORD_TO) {
        let lines = shown.iter().map(|(name, line)| format!("{name} {line}\n"));
        std::fs::write(path, lines.collect::<String>()).expect("the list is written");
        return;
    }
    let is_ours = Broker::foreign().is_none();
    let mut differ = BTreeSet::new();
    for recorded in RECORDED.lines() {
        let (name, line) = recorded.split_once(' ').expect("a name and what it is");
        let shown = shown.remove(name);
        let shown = shown.unwrap_or_else(|| panic!("{name} is not shown"));
        if shown != line {
            assert!(
                is_ours && DIFFER.iter().any(|(known, _)| *known == name),
                "{name}: {shown}, and Kafka has {line}"
            );
            differ.insert(name);
        }
    }
    if is_ours {
        let known: BTreeSet<_> = DIFFER.iter().map(|(name, _)| *name).collect();
        assert_eq!(differ, known, "what does not differ any more is not listed");
        let left: Vec<_> = shown.keys().map(String::as_str).collect();
        assert_eq!(left, OURS);
    } else {
        assert_eq!(shown, BTreeMap::new());
    }
}

/// A config once it is shown with this source and value (`None`: whatever there is without a change). Apache Kafka's
/// brokers learn of a change after its answer, the source before the value.
fn config_from(
    client: &mut Client,
    (kind, of): (i8, &str),
    name: &str,
    source: i8,
    value: Option<&str>,
) -> DescribedConfig {
    let mut looks = 0;
    loop {
        let mut found = configs_of(client, kind, of, Some(&[name])).configs;
        assert_eq!(found.len(), 1, "{name}");
        let found = found.remove(0);
        if found.config_source == source && value.is_none_or(|value| found.value.as_deref() == Some(value)) {
            return found;
        }
        looks += 1;
        assert!(
            looks < 1_500,
            "{name}={value:?} from {source} is wanted: {found:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn synonyms(config: &DescribedConfig) -> Vec<(&str, &str, i8)> {
    let synonyms = config.synonyms.iter();
    synonyms
        .map(|one| (&*one.name, one.value.as_deref().unwrap_or_default(), one.source))
        .collect()
}

#[test]
fn a_value_for_one_broker_wins_over_one_for_all_and_topics_follow() {
    use ErrorCode as E;
    let _turn = TURN.lock();
    let broker = Broker::start();
    let mut client = broker.client();
    let client = &mut client;
    let node = first_node(client);
    let topic = client.create_topic(1, &[]);
    let name = "log.cleaner.min.compaction.lag.ms";
    let set = |value| [(name, SET, Some(value))];
    assert_eq!(validate(client, ALL, &set("1000")), (E::None, None));
    config_from(client, (BROKER, &node), name, 5, Some("0"));
    assert_eq!(change(client, BROKER, ALL, &set("2000")), E::None);
    let shown = config_from(client, (BROKER, &node), name, 3, Some("2000"));
    assert_eq!(synonyms(&shown), [(name, "2000", 3), (name, "0", 5)]);
    assert!(!shown.read_only);
    assert_eq!(change(client, BROKER, &node, &set(" 3000 ")), E::None);
    let shown = config_from(client, (BROKER, &node), name, 2, Some("3000"));
    let all: Vec<_> = shown.synonyms.iter().map(|one| one.source).collect();
    assert_eq!(all, [2, 3, 5]);

    let mut for_all = configs_of(client, BROKER, ALL, None).configs;
    for_all.retain(|config| config.name == name);
    assert_eq!(for_all.len(), 1);
    assert_eq!(
        (for_all[0].value.as_deref(), for_all[0].config_source),
        (Some("2000"), 3)
    );
    assert_eq!(synonyms(&for_all[0]), [(name, "2000", 3)]);

    let followed = config_from(client, (TOPIC, &topic), "min.compaction.lag.ms", 2, Some("3000"));
    assert_eq!(followed.synonyms.len(), 3);
    let own = [("min.compaction.lag.ms", SET, Some("7"))];
    assert_eq!(change(client, TOPIC, &topic, &own), E::None);
    let own = config_from(client, (TOPIC, &topic), "min.compaction.lag.ms", 1, Some("7"));
    let all: Vec<_> = own.synonyms.iter().map(|one| (&*one.name, one.source)).collect();
    assert_eq!(
        all,
        [("min.compaction.lag.ms", 1), (name, 2), (name, 3), (name, 5)]
    );

    assert_eq!(change(client, BROKER, &node, &[(name, DELETE, None)]), E::None);
    config_from(client, (BROKER, &node), name, 3, Some("2000"));
    assert_eq!(change(client, BROKER, ALL, &[(name, DELETE, None)]), E::None);
    let shown = config_from(client, (BROKER, &node), name, 5, Some("0"));
    assert_eq!(synonyms(&shown), [(name, "0", 5)]);
    let for_all = configs_of(client, BROKER, ALL, Some(&[name]));
    assert_eq!((for_all.error_code, for_all.configs.len()), (E::None, 0));
}

#[test]
fn lists_are_added_to_and_other_units_are_shown() {
    use ErrorCode as E;
    let _turn = TURN.lock();
    let broker = Broker::start();
    let mut client = broker.client();
    let client = &mut client;
    let node = first_node(client);
    let policy = "log.cleanup.policy";
    assert_eq!(
        change(client, BROKER, &node, &[(policy, APPEND, Some("compact"))]),
        E::None
    );
    config_from(client, (BROKER, &node), policy, 2, Some("delete,compact"));
    assert_eq!(
        change(client, BROKER, &node, &[(policy, SUBTRACT, Some("compact"))]),
        E::None
    );
    config_from(client, (BROKER, &node), policy, 2, Some("delete"));
    assert_eq!(change(client, BROKER, &node, &[(policy, DELETE, None)]), E::None);

    let retention = [("log.retention.ms", SET, Some("3600000"))];
    assert_eq!(change(client, BROKER, &node, &retention), E::None);
    let shown = config_from(client, (BROKER, &node), "log.retention.ms", 2, Some("3600000"));
    let all = synonyms(&shown);
    assert_eq!(all[0], ("log.retention.ms", "3600000", 2));
    assert_eq!(*all.last().unwrap(), ("log.retention.hours", "168", 5));
    let topic = client.create_topic(1, &[]);
    let followed = config_from(client, (TOPIC, &topic), "retention.ms", 2, Some("3600000"));
    assert_eq!(synonyms(&followed), all);

    // What AlterConfigs does not name has its default again.
    let configs = [AlteredConfig {
        name: "log.roll.jitter.ms",
        value: Some("5"),
    }];
    let resources = [AlterConfigsResource {
        resource_type: BROKER,
        resource_name: &node,
        configs: Array::from_slice(&configs),
    }];
    let request = AlterConfigsRequest {
        resources: Array::from_slice(&resources),
        validate_only: false,
    };
    let response: AlterConfigsResponse = client.call(2, &request).unwrap();
    assert_eq!(response.responses[0].error_code, E::None);
    config_from(client, (BROKER, &node), "log.roll.jitter.ms", 2, Some("5"));
    config_from(client, (BROKER, &node), "log.retention.ms", 5, None);
    assert_eq!(
        change(client, BROKER, &node, &[("log.roll.jitter.ms", DELETE, None)]),
        E::None
    );
}

#[test]
fn what_cannot_be_changed_or_cannot_be_a_value_is_refused() {
    use ErrorCode as E;
    let broker = Broker::start();
    let mut client = broker.client();
    let client = &mut client;
    let node = first_node(client);
    for (name, changes, code, part) in [
        (
            &*node,
            &[("node.id", SET, Some("7"))][..],
            E::InvalidRequest,
            "dynamically: [node.id]",
        ),
        (
            ALL,
            &[
                ("num.partitions", SET, Some("7")),
                ("log.roll.ms", SET, Some("7")),
            ],
            E::InvalidRequest,
            "dynamically: [num.partitions]",
        ),
        (&node, &[("num.partitions", DELETE, None)], E::None, ""),
        (
            ALL,
            &[("ssl.client.auth", SET, Some("none"))],
            E::InvalidRequest,
            "broker id must be specified",
        ),
        (
            &node,
            &[("ssl.key.password", SET, Some("x"))],
            E::InvalidRequest,
            "listener prefix",
        ),
        (
            &node,
            &[("message.max.bytes", SET, Some("soon"))],
            E::InvalidRequest,
            "soon",
        ),
        (
            &node,
            &[("message.max.bytes", SET, Some("-1"))],
            E::InvalidRequest,
            "-1",
        ),
        (
            &node,
            &[("message.max.bytes", SET, Some("4294967296"))],
            E::InvalidRequest,
            "",
        ),
        (
            &node,
            &[("message.max.bytes", SET, None)],
            E::InvalidRequest,
            "Null value",
        ),
        (
            &node,
            &[("message.max.bytes", APPEND, Some("1"))],
            E::InvalidConfig,
            "message.max.bytes",
        ),
        (
            &node,
            &[("max.connections", SET, Some("0"))],
            E::InvalidRequest,
            "max.connections",
        ),
        (
            &node,
            &[("log.segment.bytes", SET, Some("1000"))],
            E::InvalidRequest,
            "log.segment.bytes",
        ),
        (
            &node,
            &[("log.message.timestamp.type", SET, Some("x"))],
            E::InvalidRequest,
            "LogAppendTime",
        ),
        (
            &node,
            &[("unclean.leader.election.enable", SET, Some("maybe"))],
            E::InvalidRequest,
            "true",
        ),
        (
            &node,
            &[("log.cleaner.min.cleanable.ratio", SET, Some("2"))],
            E::InvalidRequest,
            "",
        ),
        (
            &node,
            &[("log.roll.ms", SET, Some("0"))],
            E::InvalidRequest,
            "log.roll.ms",
        ),
        (
            &node,
            &[("log.roll.ms", SET, Some("7")), ("log.roll.ms", SET, Some("8"))],
            E::InvalidRequest,
            "",
        ),
        (
            "999999",
            &[("log.roll.ms", SET, Some("7"))],
            E::InvalidRequest,
            "999999",
        ),
        (
            "no-number",
            &[("log.roll.ms", SET, Some("7"))],
            E::InvalidRequest,
            "integer",
        ),
    ] {
        let (found, message) = validate(client, name, changes);
        assert_eq!(found, code, "{changes:?}: {message:?}");
        assert!(message.unwrap_or_default().contains(part), "{changes:?}");
        if code != E::None {
            assert_eq!(change(client, BROKER, name, changes), code, "{changes:?}");
        }
    }
    let untouched = configs_of(client, BROKER, &node, Some(&["log.roll.ms"]));
    assert_eq!(untouched.configs[0].config_source, 5);
    for wrong in ["no-number", "999999"] {
        assert_eq!(
            configs_of(client, BROKER, wrong, None).error_code,
            E::InvalidRequest
        );
    }
}

#[test]
fn only_what_is_asked_for_is_told() {
    let broker = Broker::start();
    let mut client = broker.client();
    let node = first_node(&mut client);
    let keys = ["message.max.bytes", "no.such", "node.id", "message.max.bytes"];
    let mut shown = configs_of(&mut client, BROKER, &node, Some(&keys)).configs;
    shown.sort_by(|one, other| one.name.cmp(&other.name));
    let told: Vec<_> = shown
        .iter()
        .map(|one| (&*one.name, one.config_type, one.read_only, one.is_sensitive))
        .collect();
    assert_eq!(
        told,
        [
            ("message.max.bytes", 3, false, false),
            ("node.id", 3, true, false)
        ]
    );
    assert!(configs_of(&mut client, BROKER, &node, Some(&[])).configs.len() >= 350);
    let resources = [DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: &node,
        configuration_keys: None,
    }];
    let request = DescribeConfigsRequest {
        resources: Array::from_slice(&resources),
        ..DescribeConfigsRequest::default()
    };
    for version in 1..=4 {
        let response: DescribeConfigsResponse = client.call(version, &request).unwrap();
        for config in &response.results[0].configs {
            assert_eq!(
                (config.synonyms.len(), config.documentation.as_deref()),
                (0, None)
            );
        }
    }
}

/// Of our own broker: Kafka reads "01" as a number too.
#[test]
fn a_broker_has_one_name() {
    let broker = Broker::start_restartable();
    let mut client = broker.client();
    for name in ["01000", "+1000", " 1000"] {
        let (code, _) = validate(&mut client, name, &[("log.roll.ms", SET, Some("7"))]);
        assert_eq!(code, ErrorCode::InvalidRequest, "{name}");
        let shown = configs_of(&mut client, BROKER, name, None);
        assert_eq!(shown.error_code, ErrorCode::InvalidRequest, "{name}");
    }
}

/// What the leader of the partition says to a batch of 2,000 bytes.
fn produce(broker: &Broker, topic: &str, partition: i32) -> (ErrorCode, i64) {
    let large = batch(Compression::None, &[&[7; 2_000]]);
    let mut leader = broker.leader(topic, partition);
    let produced = leader.produce(9, topic, partition, -1, Some(&large)).unwrap();
    (produced.error_code, produced.log_append_time_ms)
}

/// Of our own broker: it has two nodes, and changes hold when they are answered.
#[test]
fn what_is_changed_holds_at_once_on_its_shard_and_after_a_restart() {
    use ErrorCode as E;
    let mut broker = Broker::start_restartable();
    let topic = broker.client().create_topic(2, &[]);
    let own = broker
        .client()
        .create_topic(2, &[("max.message.bytes", "1000000")]);
    let metadata = broker.client().metadata(Some(&[&topic]));
    let leaders = metadata.topics[0].partitions.iter();
    let leaders: BTreeMap<i32, i32> = leaders.map(|one| (one.leader_id, one.partition)).collect();
    let (first, second) = (leaders[&1000], leaders[&1001]);
    let size = |value| [("message.max.bytes", SET, Some(value))];

    assert_eq!(produce(&broker, &topic, second), (E::None, -1));
    // Any node takes it.
    assert_eq!(
        change(&mut broker.node(1000), BROKER, "1001", &size("1024")),
        E::None
    );
    let expect_one = |broker: &Broker| {
        assert_eq!(produce(broker, &topic, first).0, E::None);
        assert_eq!(produce(broker, &topic, second).0, E::MessageTooLarge);
        for partition in [0, 1] {
            assert_eq!(
                produce(broker, &own, partition).0,
                E::None,
                "a topic's own value wins"
            );
        }
        for (node, value, source) in [("1000", "1048588", 5), ("1001", "1024", 2)] {
            // Of any node of the host.
            let shown = configs_of(&mut broker.client(), BROKER, node, Some(&["message.max.bytes"]));
            let shown = &shown.configs[0];
            assert_eq!(
                (shown.value.as_deref(), shown.config_source),
                (Some(value), source)
            );
        }
    };
    expect_one(&broker);
    broker.restart("-KILL");
    expect_one(&broker);

    assert_eq!(change(&mut broker.client(), BROKER, ALL, &size("1024")), E::None);
    let client = &mut broker.client();
    assert_eq!(
        change(client, BROKER, "1001", &[("message.max.bytes", DELETE, None)]),
        E::None
    );
    let append_time = [("log.message.timestamp.type", SET, Some("LogAppendTime"))];
    assert_eq!(change(client, BROKER, "1001", &append_time), E::None);
    for partition in [first, second] {
        assert_eq!(produce(&broker, &topic, partition).0, E::MessageTooLarge);
    }
    assert_eq!(produce(&broker, &own, first).1, -1);
    assert!(produce(&broker, &own, second).1 > 0, "the broker's time");
    // New topics as well.
    let new = client.create_topic(2, &[]);
    assert_eq!(produce(&broker, &new, 0).0, E::MessageTooLarge);
    broker.restart("-TERM");
    for partition in [first, second] {
        assert_eq!(produce(&broker, &topic, partition).0, E::MessageTooLarge);
    }
    let client = &mut broker.client();
    assert_eq!(
        change(client, BROKER, ALL, &[("message.max.bytes", DELETE, None)]),
        E::None
    );
    assert_eq!(produce(&broker, &new, 0).0, E::None);
    // Batches that no journal takes, for whichever node.
    assert_eq!(change(client, BROKER, ALL, &size("9000000")), E::InvalidRequest);
    assert_eq!(
        change(client, BROKER, "1000", &size("9000000")),
        E::InvalidRequest
    );
}

/// Of our own broker: its files are looked at.
#[test]
fn partitions_that_are_open_begin_segments_of_the_size_that_holds_now() {
    let mut broker = Broker::start_restartable();
    let topic = broker.client().create_topic(1, &[]);
    let size = [("log.segment.bytes", SET, Some("1100000"))];
    assert_eq!(change(&mut broker.client(), BROKER, ALL, &size), ErrorCode::None);
    let large = batch(Compression::None, &[&[7; 600_000]]);
    for _ in 0..3 {
        let mut leader = broker.leader(&topic, 0);
        let produced = leader.produce(9, &topic, 0, -1, Some(&large)).unwrap();
        assert_eq!(produced.error_code, ErrorCode::None);
    }
    // A stop brings all of it into segments.
    broker.restart("-TERM");
    let directory = broker.directory().join(format!("{topic}-0"));
    let files = std::fs::read_dir(directory).expect("it is there");
    let files = files.map(|file| file.expect("a file").path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    assert_eq!(logs.count(), 3, "no two of the batches fit a segment");
}

/// Of our own broker: its second node has no other clients.
#[test]
fn connections_are_as_many_as_may_be_now() {
    use ErrorCode as E;
    let broker = Broker::start_restartable();
    let mut client = broker.client();
    let name = "max.connections.per.ip";
    let mut limit = |value| {
        assert_eq!(
            change(&mut client, BROKER, "1001", &[(name, SET, Some(value))]),
            E::None
        );
    };
    let mut held = vec![broker.node(1001), broker.node(1001)];
    held.iter_mut().for_each(|one| drop(one.metadata(Some(&[]))));
    limit("2");
    assert!(broker.node(1001).is_closed(), "a third is not taken");
    held.iter_mut().for_each(|one| drop(one.metadata(Some(&[]))));
    broker.client().metadata(Some(&[]));
    limit("3");
    held.push(broker.node(1001));
    held.iter_mut().for_each(|one| drop(one.metadata(Some(&[]))));
}

/// Of our own broker: its files are looked at.
#[test]
fn files_of_deleted_topics_go_after_the_time_that_holds_now() {
    let mut broker = Broker::start_restartable();
    let set = |broker: &Broker, milliseconds| {
        let changes = [("log.segment.delete.delay.ms", SET, Some(milliseconds))];
        assert_eq!(
            change(&mut broker.client(), BROKER, ALL, &changes),
            ErrorCode::None
        );
    };
    set(&broker, "2147483647");
    let [kept, gone] = [(); 2].map(|()| broker.client().create_topic(2, &[]));
    for (topic, partition) in [(&kept, 0), (&kept, 1), (&gone, 0), (&gone, 1)] {
        assert_eq!(produce(&broker, topic, partition).0, ErrorCode::None);
    }
    // A stop brings all of it into segments.
    broker.restart("-TERM");
    let delete = |topic: &str| {
        let topic_names = [topic];
        let request = DeleteTopicsRequest {
            topic_names: Array::from_slice(&topic_names),
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let response: DeleteTopicsResponse = broker.client().call(5, &request).unwrap();
        assert_eq!(response.topics[0].error_code, ErrorCode::None);
    };
    let directories_of = |topic: &str| {
        let of_topic = format!("{topic}-");
        let entries = std::fs::read_dir(broker.directory()).expect("it is there");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(&of_topic))
            .count()
    };
    assert_eq!((directories_of(&kept), directories_of(&gone)), (2, 2));
    delete(&kept);
    set(&broker, "0");
    delete(&gone);
    let mut looks = 0;
    while directories_of(&gone) > 0 {
        looks += 1;
        assert!(looks < 1_500, "the files of {gone} stay");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(directories_of(&kept), 2, "it was deleted when another time held");
}

/// Of our own broker: Kafka would log in with it.
#[test]
fn a_secret_is_kept_and_never_shown() {
    let mut broker = Broker::start_restartable();
    let secret = [("sasl.jaas.config", SET, Some("hush"))];
    assert_eq!(
        change(&mut broker.client(), BROKER, "1000", &secret),
        ErrorCode::None
    );
    broker.restart("-TERM");
    let shown = configs_of(&mut broker.client(), BROKER, "1000", Some(&["sasl.jaas.config"]));
    let shown = &shown.configs[0];
    assert_eq!(
        (shown.value.as_deref(), shown.config_source, shown.is_sensitive),
        (None, 2, true)
    );
    assert_eq!(shown.synonyms.len(), 1);
    assert_eq!(shown.synonyms[0].value, None);
    let wrong = [("sasl.jaas.config", SET, Some("hush\u{7}"))];
    let (code, message) = validate(&mut broker.client(), "1000", &wrong);
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert!(!message.expect("a reason").contains("hush"));
}

/// Of our own broker: an answer is bounded, and one that would be larger closes the connection.
#[test]
fn an_answer_with_the_configs_of_too_many_resources_is_not_given() {
    let broker = Broker::start();
    if Broker::foreign().is_some() {
        return;
    }
    let ask = |count: usize| {
        let resources = vec![
            DescribeConfigsResource {
                resource_type: BROKER,
                resource_name: "1000",
                configuration_keys: None,
            };
            count
        ];
        let request = DescribeConfigsRequest {
            resources: Array::from_slice(&resources),
            include_synonyms: true,
            include_documentation: true,
        };
        let mut client = broker.client();
        let response: Result<DescribeConfigsResponse, _> = client.call(4, &request);
        response.map(|response| response.results.len())
    };
    assert_eq!(ask(20), Ok(20));
    assert!(ask(5_000).is_err());
    broker.client().metadata(Some(&[]));
}
