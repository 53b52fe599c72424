//! The metrics of a shard's logs: one log in each log directory, which is a label beside the shard.

use storage::ShardStatistics;

use super::exposition::{Exposition, Family, Kind, family};
use crate::shard::probe::ShardMeasures;

const DIRECTORY_ONLINE: Family = family(
    "millstream_log_directory_online",
    Kind::Gauge,
    "1 while the shard uses the log directory; 0 once that has failed, until the next start.",
);
const JOURNAL_WRITE_SECONDS: Family = family(
    "millstream_journal_write_seconds",
    Kind::Histogram,
    "The write of a journal record, flushed to the disk; of what is flushed later, the flush.",
);

/// A number of a log.
type Number = (Family, fn(&ShardStatistics) -> u64);

const NUMBERS: &[Number] = &[
    (
        family(
            "millstream_partitions",
            Kind::Gauge,
            "Partitions that the shard leads.",
        ),
        |log| log.partitions as u64,
    ),
    (
        family(
            "millstream_idempotent_producers",
            Kind::Gauge,
            "Idempotent producers that the shard's partitions remember.",
        ),
        |log| log.producers as u64,
    ),
    (
        family(
            "millstream_idempotent_producers_limit",
            Kind::Gauge,
            "How many they may be. Beyond, some are forgotten, and their repetitions are not known as such.",
        ),
        |log| log.producers_max as u64,
    ),
    (
        family(
            "millstream_journal_records_total",
            Kind::Counter,
            "Journal records written: each is a commit of all that was pending, and one flush, unless its topics are flushed later.",
        ),
        |log| log.records,
    ),
    (
        family(
            "millstream_journal_written_bytes_total",
            Kind::Counter,
            "Bytes of the journal records written.",
        ),
        |log| log.journal_bytes,
    ),
    (
        family(
            "millstream_segment_direct_bytes_total",
            Kind::Counter,
            "Bytes of batches written to their segments with their commit, and not through the journal.",
        ),
        |log| log.direct_bytes,
    ),
    (
        family(
            "millstream_journal_size_bytes",
            Kind::Gauge,
            "The journal's size.",
        ),
        |log| log.ring_bytes,
    ),
    (
        family(
            "millstream_journal_used_bytes",
            Kind::Gauge,
            "What a recovery may still need of the journal. Producers wait when it is nine tenths.",
        ),
        |log| log.ring_bytes_used,
    ),
    (
        family(
            "millstream_journal_unmigrated_bytes",
            Kind::Gauge,
            "What of the journal no checkpoint covers: it is still to be copied to segments.",
        ),
        |log| log.unmigrated_bytes,
    ),
    (
        family(
            "millstream_checkpoints_total",
            Kind::Counter,
            "Checkpoints written: each frees a part of the journal.",
        ),
        |log| log.checkpoints,
    ),
    (
        family(
            "millstream_removed_segments_total",
            Kind::Counter,
            "Segments removed: by retention.ms, retention.bytes, or DeleteRecords.",
        ),
        |log| log.removed_segments,
    ),
    (
        family(
            "millstream_removed_bytes_total",
            Kind::Counter,
            "Bytes of the segments removed.",
        ),
        |log| log.removed_bytes,
    ),
    (
        family(
            "millstream_reused_segments_total",
            Kind::Counter,
            "Segments begun in the file of a removed one, whose blocks are written over.",
        ),
        |log| log.reused_segments,
    ),
    (
        family(
            "millstream_segment_read_bytes_total",
            Kind::Counter,
            "Bytes of segments read from the disk: for consumers, to find offsets, to load groups.",
        ),
        |log| log.read_bytes,
    ),
    (
        family(
            "millstream_read_cache_bytes_total",
            Kind::Counter,
            "Bytes of segments that consumers got without asking the disk: they had been read ahead, or for others.",
        ),
        |log| log.cached_bytes,
    ),
    (
        family(
            "millstream_cleanings_total",
            Kind::Counter,
            "Compactions of a log that came to their end.",
        ),
        |log| log.compaction.cleanings,
    ),
    (
        family(
            "millstream_cleaner_read_bytes_total",
            Kind::Counter,
            "Bytes that compaction has read.",
        ),
        |log| log.compaction.bytes_read,
    ),
    (
        family(
            "millstream_cleaner_written_bytes_total",
            Kind::Counter,
            "Bytes that compaction has written.",
        ),
        |log| log.compaction.bytes_written,
    ),
    (
        family(
            "millstream_uncleanable_partitions",
            Kind::Gauge,
            "Partitions that are not compacted until the next start, because of what was found in them.",
        ),
        |log| log.compaction.uncleanable_partitions as u64,
    ),
    (
        family(
            "millstream_scrubbed_bytes_total",
            Kind::Counter,
            "Bytes of closed segments and their indexes that were read again, to look for rot.",
        ),
        |log| log.scrub.bytes,
    ),
    (
        family(
            "millstream_scrub_rounds_total",
            Kind::Counter,
            "Rounds over all closed segments that came to their end.",
        ),
        |log| log.scrub.rounds,
    ),
    (
        family(
            "millstream_scrub_last_round_timestamp_seconds",
            Kind::Gauge,
            "When the last of these rounds came to its end, in seconds since 1970; 0 if none did since the start.",
        ),
        |log| log.scrub.last_round_ms.unsigned_abs() / 1_000,
    ),
    (
        family(
            "millstream_damaged_segments",
            Kind::Gauge,
            "Closed segments that the scrubber has found damaged, and that are still there: records in them cannot be read.",
        ),
        |log| log.scrub.damaged_segments,
    ),
    (
        family(
            "millstream_damaged_indexes",
            Kind::Gauge,
            "The same of segments whose indexes are damaged: nothing is lost by that.",
        ),
        |log| log.scrub.damaged_indexes,
    ),
    (
        family(
            "millstream_wall_clock_ahead_seconds",
            Kind::Gauge,
            "By how much the wall clock is ahead of the time that retention.ms goes by: 0 unless it has jumped, or the broker has started, within the last hour.",
        ),
        |log| log.wall_clock_ahead_ms.unsigned_abs() / 1_000,
    ),
];

/// The logs of a shard that are online, with their directories.
pub(super) fn online(shard: &ShardMeasures) -> impl Iterator<Item = (&str, &ShardStatistics)> {
    let logs = shard.logs.iter();
    logs.filter_map(|log| Some((&*log.directory, log.statistics.as_ref()?)))
}

/// What the logs of these shards, by their numbers, say of themselves.
pub(super) fn render(text: &mut Exposition, shards: &[(&str, &ShardMeasures)]) {
    text.begin(&DIRECTORY_ONLINE);
    for &(number, shard) in shards {
        for log in &shard.logs {
            let labels = [("shard", number), ("directory", &*log.directory)];
            text.sample(&DIRECTORY_ONLINE, &labels, u8::from(log.statistics.is_some()));
        }
    }
    for (family, value) in NUMBERS {
        text.begin(family);
        for &(number, shard) in shards {
            for (directory, log) in online(shard) {
                let labels = [("shard", number), ("directory", directory)];
                text.sample(family, &labels, value(log));
            }
        }
    }
    text.begin(&JOURNAL_WRITE_SECONDS);
    for &(number, shard) in shards {
        for (directory, log) in online(shard) {
            let labels = [("shard", number), ("directory", directory)];
            text.durations(&JOURNAL_WRITE_SECONDS, &labels, &log.flushes);
        }
    }
}

#[cfg(test)]
pub(super) fn families() -> Vec<Family> {
    let numbers = NUMBERS.iter().map(|(family, _)| *family);
    [DIRECTORY_ONLINE, JOURNAL_WRITE_SECONDS]
        .into_iter()
        .chain(numbers)
        .collect()
}
