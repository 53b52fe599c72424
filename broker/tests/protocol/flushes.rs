//! When records are flushed: `flush.messages` and `flush.ms`, of topics and of brokers.
//!
//! What they promise of a power cut is the storage room's to test, and `broker/tests/powercut.sh`'s. Here: what is
//! shown, who is told, what is flushed, and what survives a kill.

use std::time::{Duration, Instant};

use wire::{Compression, ErrorCode};

use crate::admin::{BROKER, DELETE, SET, TOPIC, change, configs_of};
use crate::metrics::Samples;
use crate::support::{ASK, Ask, Broker, Client, batch, fetch};

/// Kafka's default.
const NEVER: &str = "9223372036854775807";

/// The value of a topic's config, and where it is from.
fn shown(client: &mut Client, topic: &str, name: &str) -> (String, i8) {
    let mut found = configs_of(client, TOPIC, topic, Some(&[name]));
    let config = found.configs.remove(0);
    (config.value.unwrap(), config.config_source)
}

fn produce(leader: &mut Client, topic: &str, acks: i16) {
    let produced = leader
        .produce(9, topic, 0, acks, Some(&batch(Compression::None, &[b"value"])))
        .unwrap();
    assert_eq!(produced.error_code, ErrorCode::None);
}

/// Journal records that were written and flushed, and flushes that came later, of all shards.
fn flushes(broker: &Broker) -> u64 {
    Samples::scrape(broker).sum("millstream_journal_write_seconds_count", "") as u64
}

/// The same, when nothing is to come: an idle journal says what is durable, which is a write with a flush, once after
/// the last.
fn flushes_at_rest(broker: &Broker) -> u64 {
    let (mut found, mut looks) = (flushes(broker), 0);
    while looks < 3 {
        std::thread::sleep(Duration::from_millis(50));
        let now = flushes(broker);
        looks = if now == found { looks + 1 } else { 0 };
        found = now;
    }
    found
}

/// A broker of our own; none if the tests are of another.
fn own() -> Option<Broker> {
    Broker::foreign().is_none().then(Broker::start)
}

#[test]
fn our_default_is_shown_as_the_default_and_kafkas_takes_effect() {
    let broker = Broker::start();
    let client = &mut broker.client();
    let topic = client.create_topic(1, &[]);
    let own = client.create_topic(1, &[("flush.messages", NEVER), ("flush.ms", "1000")]);
    let default = if Broker::foreign().is_none() { "1" } else { NEVER };
    assert_eq!(shown(client, &topic, "flush.messages"), (default.to_owned(), 5));
    assert_eq!(shown(client, &topic, "flush.ms"), (NEVER.to_owned(), 5));
    assert_eq!(shown(client, &own, "flush.messages"), (NEVER.to_owned(), 1));
    assert_eq!(shown(client, &own, "flush.ms"), ("1000".to_owned(), 1));
    for (name, wrong) in [
        ("flush.messages", "0"),
        ("flush.ms", "-1"),
        ("flush.messages", "all"),
    ] {
        let changed = change(client, TOPIC, &topic, &[(name, SET, Some(wrong))]);
        assert_eq!(changed, ErrorCode::InvalidConfig, "{name}={wrong}");
    }
}

#[test]
fn a_flush_comes_before_the_acknowledgement_or_after_so_many_records() {
    let Some(broker) = own() else { return };
    let client = &mut broker.client();
    // What is flushed of one topic, one record after the other; and what was flushed by the metrics.
    let mut flushed = |configs: &[(&str, &str)], records: u64| {
        let topic = client.create_topic(1, configs);
        let mut leader = broker.leader(&topic, 0);
        let before = flushes_at_rest(&broker);
        for _ in 0..records {
            produce(&mut leader, &topic, -1);
        }
        flushes(&broker) - before
    };
    assert!(
        flushed(&[], 40) >= 40,
        "each is flushed before it is acknowledged"
    );
    let few = flushed(&[("flush.messages", NEVER)], 40);
    assert!(few < 10, "{few} flushes for nothing");
    let every_tenth = flushed(&[("flush.messages", "10")], 40);
    assert!(
        (4..30).contains(&every_tenth),
        "{every_tenth} flushes for four times ten records"
    );
}

#[test]
fn what_is_only_written_is_read_at_once_and_survives_a_kill() {
    if Broker::foreign().is_some() {
        return;
    }
    let mut broker =
        Broker::start_restartable_with(&["--set", &format!("log.flush.interval.messages={NEVER}")]);
    let topic = broker.client().create_topic(1, &[]);
    assert_eq!(
        shown(&mut broker.client(), &topic, "flush.messages"),
        (NEVER.to_owned(), 4)
    );
    let mut leader = broker.leader(&topic, 0);
    for offset in 0..100 {
        produce(&mut leader, &topic, if offset % 2 == 0 { -1 } else { 1 });
        let found = fetch(&mut leader, &topic, Ask { offset, ..ASK });
        assert_eq!(
            (found.error_code, found.high_watermark),
            (ErrorCode::None, offset + 1)
        );
    }
    drop(leader);
    let said = broker.restart("-KILL");
    for node in [1000, 1001] {
        assert!(
            said.contains(&format!(
                "what node {node} appends to topics without a flush.messages"
            )),
            "{said}"
        );
    }
    let found = fetch(&mut broker.leader(&topic, 0), &topic, ASK);
    assert_eq!(found.high_watermark, 100);
    // It is told again with every start.
    let said = broker.end("-TERM");
    assert!(said.contains("a power cut may take back"), "{said}");
}

#[test]
fn whoever_flushes_later_is_told_what_is_at_stake() {
    let Some(broker) = own() else { return };
    let client = &mut broker.client();
    let (first, later) = (
        client.create_topic(1, &[]),
        client.create_topic(1, &[("flush.messages", "5")]),
    );
    // What changes nothing of it is no news.
    for (kind, name, key, operation, value) in [
        (TOPIC, &*first, "flush.messages", SET, Some("1")),
        (TOPIC, &first, "retention.ms", SET, Some("70000")),
        (TOPIC, &later, "flush.ms", SET, Some("100")),
        (BROKER, "1001", "log.flush.interval.messages", SET, Some("77")),
        (BROKER, "1001", "log.flush.interval.messages", DELETE, None),
        (TOPIC, &first, "flush.messages", SET, Some("6")),
    ] {
        assert_eq!(
            change(client, kind, name, &[(key, operation, value)]),
            ErrorCode::None,
            "{key}"
        );
    }
    let said = broker.stop();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("power cut")).collect();
    let expected = [
        format!("topic {later} (flush.messages=5)"),
        "node 1001 appends to topics without a flush.messages of their own (log.flush.interval.messages=77)"
            .to_owned(),
        format!("topic {first} (flush.messages=6)"),
    ];
    assert_eq!(told.len(), expected.len(), "{said}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(&expected), "{told}");
    }
}

#[test]
fn flush_ms_is_kept_without_another_record() {
    let Some(broker) = own() else { return };
    let client = &mut broker.client();
    let topic = client.create_topic(1, &[("flush.messages", NEVER), ("flush.ms", "20")]);
    let mut leader = broker.leader(&topic, 0);
    let before = flushes_at_rest(&broker);
    produce(&mut leader, &topic, -1);
    let patience = Instant::now() + Duration::from_secs(4);
    while flushes(&broker) == before {
        assert!(
            Instant::now() < patience,
            "nothing was flushed, and after 5 s it is without it"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
