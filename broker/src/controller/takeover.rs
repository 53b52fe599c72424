//! A start on a directory that Kafka wrote: its topics into our metadata, its logs to the journals that are made next.

use std::cell::Cell;
use std::time::Duration;

use ring::clock::Instant;
use storage::{LogDirectory, TakeoverProgress};

use crate::config::Settings;
use crate::controller::kafka::KafkaMetadata;
use crate::controller::raft::MetadataLog;

/// How often it is said how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Takes the directory over, if Kafka wrote it and nobody has yet. What it says is for its operator.
///
/// # Errors
/// Why it cannot be, in words. Nothing was changed that Kafka minds.
pub(super) async fn take_over(
    directory: &mut LogDirectory,
    metadata: &MetadataLog,
    settings: &Settings,
    host_id: i32,
    shards: u32,
) -> Result<(), String> {
    if !directory.is_of_kafka().await.map_err(|error| error.to_string())? {
        return Ok(());
    }
    let mut kafka = KafkaMetadata::default();
    let read = directory.kafka_metadata(|value| kafka.apply(value)).await;
    read.map_err(|error| error.to_string())?;
    let said = Cell::new(ring::clock::now());
    let found = directory
        .read_kafka_logs(|topic_id| kafka.knows(topic_id), |progress| say(&said, &progress))
        .await
        .map_err(|error| error.to_string())?;
    let takeover = metadata.with(|metadata| kafka.taken_over(&found, metadata, settings, host_id, shards))?;
    for records in takeover.entries {
        metadata
            .propose(records)
            .await
            .map_err(|error| error.to_string())?;
    }
    for note in &takeover.notes {
        eprintln!("millstream: {note}");
    }
    eprintln!(
        "millstream: took over {} partitions that Kafka wrote; Kafka must not be started on this directory any more",
        found.len()
    );
    Ok(())
}

fn say(said: &Cell<Instant>, progress: &TakeoverProgress) {
    let now = ring::clock::now();
    if now - said.get() < PROGRESS_EVERY {
        return;
    }
    said.set(now);
    let TakeoverProgress {
        logs,
        logs_in_all,
        bytes,
    } = progress;
    eprintln!(
        "millstream: reading what Kafka wrote: {logs} of {logs_in_all} partitions, {:.1} GB",
        *bytes as f64 / 1e9
    );
}
