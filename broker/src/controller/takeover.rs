//! A start on a directory that Kafka wrote: its topics into our metadata, its logs to the journals that are made next.

use std::cell::Cell;
use std::time::Duration;

use ring::clock::Instant;
use storage::{KafkaLog, LogDirectory, TakeoverProgress};

use crate::config::Settings;
use crate::controller::kafka::KafkaMetadata;
use crate::controller::raft::MetadataLog;
use crate::controller::state::Metadata;

/// How often it is said how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// All that Kafka left, read and found fit to be taken over.
pub(super) struct Found {
    kafka: KafkaMetadata,
    logs: Vec<KafkaLog>,
}

impl Found {
    /// Reads it, if Kafka wrote the directory and nobody has taken it over yet; then the directory is claimed. Comes before
    /// anything is made in the directory: Kafka does not start where it finds another's.
    ///
    /// # Errors
    /// Why it cannot be taken over, in words.
    pub(super) async fn read(
        directory: &mut LogDirectory,
        settings: &Settings,
    ) -> Result<Option<Found>, String> {
        if !directory.is_of_kafka().await.map_err(|error| error.to_string())? {
            return Ok(None);
        }
        let node = directory.kafka_node().await.map_err(|error| error.to_string())?;
        let mut kafka = KafkaMetadata::new(node);
        let read = directory.kafka_metadata(|value| kafka.apply(value)).await;
        read.map_err(|error| error.to_string())?;
        let said = Cell::new(ring::clock::now());
        let logs = directory
            .read_kafka_logs(|topic_id| kafka.knows(topic_id), |progress| say(&said, &progress))
            .await
            .map_err(|error| error.to_string())?;
        // Whatever is refused is refused here: where the partitions go does not matter for that.
        let all = kafka.taken_over(&logs, &Metadata::default(), settings, 0, 1)?;
        directory
            .claim_from_kafka()
            .await
            .map_err(|error| error.to_string())?;
        for note in &all.notes {
            eprintln!("millstream: {note}");
        }
        Ok(Some(Found { kafka, logs }))
    }

    /// Writes to our metadata what it lacks. The journals that are made next have the logs.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) async fn propose(
        self,
        metadata: &MetadataLog,
        settings: &Settings,
        host_id: i32,
        shards: u32,
    ) -> Result<(), String> {
        let Found { kafka, logs } = self;
        let takeover =
            metadata.with(|metadata| kafka.taken_over(&logs, metadata, settings, host_id, shards))?;
        for records in takeover.entries {
            metadata
                .propose(records)
                .await
                .map_err(|error| error.to_string())?;
        }
        eprintln!(
            "millstream: took over {} partitions that Kafka wrote; Kafka must not be started on this directory any more",
            logs.len()
        );
        Ok(())
    }
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
