//! librdkafka through the crate `rdkafka`, cooperative-sticky. Of the commands of live.py it knows `group`.
#![expect(clippy::disallowed_methods, reason = "a client is an ordinary process")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use signal_hook::consts::SIGTERM;

/// Records between two commits.
const COMMIT_EVERY: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, brokers, topic, group, path] = arguments.as_slice() else {
        return Err("usage: rdkafka_client group BROKERS TOPIC GROUP FILE".into());
    };
    if command != "group" {
        return Err(format!("{command} is not known: group is").into());
    }
    let ended = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, ended.clone())?;
    let mut consumed = File::create(path)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()?;
    consumer.subscribe(&[topic])?;
    while !ended.load(Ordering::Relaxed) {
        let mut wait = Duration::from_millis(200);
        let mut count = 0;
        while count < COMMIT_EVERY
            && let Some(polled) = consumer.poll(wait)
        {
            match polled {
                Ok(record) => {
                    writeln!(consumed, "{} {}", record.partition(), record.offset())?;
                    count += 1;
                }
                Err(error) => eprintln!("poll: {error}"),
            }
            wait = Duration::ZERO;
        }
        if count > 0 {
            // A rebalance, or a broker that restarts: what was read comes again.
            if let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
                eprintln!("commit: {error}");
            }
        }
    }
    Ok(())
}
