//! A log that Kafka wrote, read from its first byte to its last.

use std::path::Path;

use ring::buffer::Pool;
use ring::directory;

use super::walk::Walk;
use crate::checkpoint::PartitionCheckpoint;
use crate::error::StorageError;
use crate::files::{log_path, write_whole};
use crate::id::TopicPartition;
use crate::index;
use crate::inspect::{Source, Step};
use crate::partition::PartitionConfig;
use crate::segment::file_stem;

/// How often it is said how far it has come, in bytes.
const PROGRESS_BYTES: u64 = 64 << 20;

/// What a log says.
pub(super) struct ReadLog {
    checkpoint: PartitionCheckpoint,
    producer_id: i64,
}

impl ReadLog {
    /// Reads all of the log in a partition's directory, and writes its indexes anew. It begins at `log_start`, if Kafka says
    /// so. `progress` is told of bytes that were read.
    pub(super) async fn read(
        directory: &Path,
        log_start: Option<i64>,
        pool: &Pool,
        mut progress: impl FnMut(u64),
    ) -> Result<ReadLog, StorageError> {
        let names = directory::list(directory)
            .await
            .map_err(StorageError::io("list", directory))?;
        for entry in &names {
            let path = directory.join(&entry.name);
            if entry.name.ends_with(".txnindex") && entry.bytes > 0 {
                let what = "it names transactions that were aborted, whose records would be served as if they were not. Move the \
                            topic to another broker, or delete it";
                return Err(StorageError::refused(&path, what));
            }
            if entry.name.ends_with(".swap") {
                let what =
                    "Kafka has begun to put it in the place of another: start Kafka once more, and stop it";
                return Err(StorageError::refused(&path, what));
            }
        }
        let segments: Vec<(i64, u64)> = names
            .iter()
            .filter_map(|entry| Some((base_of(&entry.name)?, entry.bytes)))
            .collect();
        let end_offset = segments.last().map_or(0, |(base_offset, _)| *base_offset);
        let interval = PartitionConfig::default().index_interval_bytes;
        let mut walk = Walk::new(ring::clock::wall_clock_ms(), interval);
        for (at, (base_offset, bytes)) in segments.iter().enumerate() {
            // An empty one at the end is what comes next; another holds the place of what compaction has removed.
            if *bytes > 0 || at + 1 < segments.len() {
                read_segment(directory, *base_offset, &mut walk, pool, &mut progress).await?;
            }
        }
        let ended = walk.end(end_offset, log_start);
        let (checkpoint, producer_id) = ended.map_err(|what| StorageError::refused(directory, what))?;
        Ok(ReadLog {
            checkpoint,
            producer_id,
        })
    }

    /// As a checkpoint has it, and the largest producer id.
    pub(super) fn checkpoint(self, id: TopicPartition, topic: &str) -> (PartitionCheckpoint, i64) {
        let checkpoint = PartitionCheckpoint {
            id,
            topic: topic.to_owned(),
            ..self.checkpoint
        };
        (checkpoint, self.producer_id)
    }
}

/// The base offset in the name of a segment's `.log`.
fn base_of(name: &str) -> Option<i64> {
    let base_offset = name.strip_suffix(".log")?.parse().ok()?;
    (base_offset >= 0 && name.strip_suffix(".log")? == file_stem(base_offset)).then_some(base_offset)
}

async fn read_segment(
    directory: &Path,
    base_offset: i64,
    walk: &mut Walk,
    pool: &Pool,
    progress: &mut impl FnMut(u64),
) -> Result<(), StorageError> {
    let path = log_path(directory, base_offset);
    let corrupt = |at: u64, what: String| StorageError::corrupt(&path, at, what);
    let Some(mut source) = Source::open(&path, pool).await? else {
        return Err(corrupt(0, "it was there a moment ago".to_owned()));
    };
    walk.begin_segment(base_offset).map_err(|what| corrupt(0, what))?;
    let (mut at, mut told) = (0, 0);
    loop {
        match source.batch(at).await? {
            Step::End => break,
            Step::NoBatch(what) => return Err(corrupt(at, what)),
            Step::Batch(seen) if !seen.is_whole() => {
                let what = format!(
                    "the batch of offset {} has a wrong CRC-32C",
                    seen.header.base_offset
                );
                return Err(corrupt(at, what));
            }
            Step::Batch(seen) => {
                walk.batch(&seen.header).map_err(|what| corrupt(at, what))?;
                at += seen.header.batch_bytes() as u64;
            }
        }
        if at - told >= PROGRESS_BYTES {
            progress(at - told);
            told = at;
        }
    }
    progress(at - told);
    let index = walk.end_segment();
    let stem = directory.join(file_stem(base_offset));
    let (offsets, times) = (
        index::encode_offsets(&index.offsets),
        index::encode_times(&index.times),
    );
    write_whole(&stem.with_extension("index"), offsets).await?;
    write_whole(&stem.with_extension("timeindex"), times).await?;
    Ok(())
}
