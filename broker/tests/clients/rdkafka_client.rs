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
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
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
    let mut is_commit_due = false;
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
        is_commit_due |= count > 0;
        if is_commit_due {
            // A rebalance, or a broker that restarts: tried again, since of partitions that are kept nothing comes again.
            let committed = consumer.commit_consumer_state(CommitMode::Sync);
            if let Err(error) = &committed {
                eprintln!("commit: {error}");
            }
            let is_nothing_left =
                |error: &KafkaError| error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset);
            is_commit_due = committed.is_err_and(|error| !is_nothing_left(&error));
        }
    }
    Ok(())
}
