//! What the settings of a broker say of its logs where Kafka has several for the same thing.

use std::num::NonZeroU64;
use std::time::Duration;

use storage::{CleanerConfig, CompactionConfig, ScrubOptions};
use wire::Compression;

use crate::config::Settings;
use crate::config::table::{self, Setting};
use crate::partition::leader::Recompression;

const MINUTE_MS: i64 = 60 * 1_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

impl Settings {
    /// `log.retention.ms`, `.minutes` or `.hours`, in milliseconds; -1: for ever.
    pub(crate) fn log_retention_ms(&self) -> i64 {
        let retention_ms = self.first_of([
            (&table::LOG_RETENTION_MS, 1),
            (&table::LOG_RETENTION_MINUTES, MINUTE_MS),
            (&table::LOG_RETENTION_HOURS, HOUR_MS),
        ]);
        retention_ms.max(-1)
    }

    /// `log.roll.ms` or `.hours`, in milliseconds.
    pub(crate) fn log_roll_ms(&self) -> i64 {
        self.first_of([(&table::LOG_ROLL_MS, 1), (&table::LOG_ROLL_HOURS, HOUR_MS)])
    }

    /// `log.roll.jitter.ms` or `.hours`, in milliseconds.
    pub(crate) fn log_roll_jitter_ms(&self) -> i64 {
        self.first_of([
            (&table::LOG_ROLL_JITTER_MS, 1),
            (&table::LOG_ROLL_JITTER_HOURS, HOUR_MS),
        ])
    }

    /// `log.flush.interval.ms` or `log.flush.scheduler.interval.ms`, in milliseconds.
    pub(crate) fn log_flush_ms(&self) -> i64 {
        let flush_ms = self.first_of([
            (&table::LOG_FLUSH_INTERVAL_MS, 1),
            (&table::LOG_FLUSH_SCHEDULER_INTERVAL_MS, 1),
        ]);
        flush_ms.max(0)
    }

    /// `log.retention.check.interval.ms`.
    pub(crate) fn retention_check_interval(&self) -> Duration {
        let interval_ms = self.integer(&table::LOG_RETENTION_CHECK_INTERVAL_MS);
        Duration::from_millis(interval_ms.unsigned_abs())
    }

    /// How a shard compacts its logs.
    pub(crate) fn cleaner(&self) -> CleanerConfig {
        let dedupe_bytes = self.integer(&table::LOG_CLEANER_DEDUPE_BUFFER_SIZE);
        let backoff_ms = self.integer(&table::LOG_CLEANER_BACKOFF_MS);
        let rate: f64 = self.number(&table::LOG_CLEANER_IO_MAX_BYTES_PER_SECOND);
        CleanerConfig {
            is_enabled: self.boolean(&table::LOG_CLEANER_ENABLE),
            dedupe_buffer_bytes: usize::try_from(dedupe_bytes).unwrap_or(usize::MAX),
            // Saturates; less than a byte is a byte.
            io_bytes_per_second: (rate as u64).max(1),
            backoff: Duration::from_millis(backoff_ms.unsigned_abs()),
        }
    }

    /// How a log is compacted whose topic does not say otherwise.
    pub(crate) fn compaction(&self) -> CompactionConfig {
        CompactionConfig {
            min_cleanable_dirty_ppm: millionths(self.number(&table::LOG_CLEANER_MIN_CLEANABLE_RATIO)),
            min_compaction_lag_ms: self.integer(&table::LOG_CLEANER_MIN_COMPACTION_LAG_MS),
            max_compaction_lag_ms: self.integer(&table::LOG_CLEANER_MAX_COMPACTION_LAG_MS),
            delete_retention_ms: self.integer(&table::LOG_CLEANER_DELETE_RETENTION_MS),
        }
    }

    /// How batches are compressed of a topic that does not say otherwise.
    pub(crate) fn compression(&self) -> CompressionConfig {
        CompressionConfig {
            codec: codec_named(self.text(&table::COMPRESSION_TYPE)),
            gzip_level: self.i32(&table::COMPRESSION_GZIP_LEVEL),
            zstd_level: self.i32(&table::COMPRESSION_ZSTD_LEVEL),
        }
    }

    /// A setting that is a number with a fraction.
    fn number(&self, setting: &'static Setting) -> f64 {
        let number = self.text(setting).parse();
        number.expect("a number was checked when it was taken")
    }

    /// `scrub.max.bytes.per.second` and `scrub.interval.ms`.
    pub(crate) fn scrub(&self) -> ScrubOptions {
        ScrubOptions {
            bytes_per_second: NonZeroU64::new(
                self.integer(&table::SCRUB_MAX_BYTES_PER_SECOND).unsigned_abs(),
            ),
            interval: Duration::from_millis(self.integer(&table::SCRUB_INTERVAL_MS).unsigned_abs()),
        }
    }

    /// Whether what the settings say of logs goes together.
    ///
    /// # Errors
    /// Which do not.
    pub(crate) fn check_logs(&self) -> Result<(), String> {
        self.check_sizes()?;
        if self.log_retention_ms() == 0 {
            return Err(
                "log.retention.ms must be at least 1, or -1 for no limit; so must log.retention.minutes and \
                        log.retention.hours"
                    .to_owned(),
            );
        }
        let CompactionConfig {
            min_compaction_lag_ms,
            max_compaction_lag_ms,
            ..
        } = self.compaction();
        if min_compaction_lag_ms > max_compaction_lag_ms {
            return Err(format!(
                "log.cleaner.min.compaction.lag.ms={min_compaction_lag_ms} must not be more than \
                 log.cleaner.max.compaction.lag.ms={max_compaction_lag_ms}"
            ));
        }
        Ok(())
    }

    /// The first setting that has a value, times its unit. The last one has a default.
    fn first_of<const N: usize>(&self, settings: [(&'static Setting, i64); N]) -> i64 {
        let in_ms = |(setting, unit): &(&'static Setting, i64)| {
            let value: i64 = self.text(setting).parse().ok()?;
            Some(value.saturating_mul(*unit))
        };
        settings.iter().find_map(in_ms).unwrap_or_default()
    }
}

/// `compression.type` and the levels beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionConfig {
    /// None: as batches come.
    pub codec: Option<Compression>,
    /// `compression.gzip.level`; -1: gzip's default.
    pub gzip_level: i32,
    /// `compression.zstd.level`.
    pub zstd_level: i32,
}

impl CompressionConfig {
    /// What batches are compressed to that came in another codec.
    pub(crate) fn recompression(&self) -> Option<Recompression> {
        let codec = self.codec?;
        let level = match codec {
            Compression::Gzip => Some(self.gzip_level).filter(|level| *level > 0),
            Compression::Zstd => Some(self.zstd_level),
            Compression::None | Compression::Snappy | Compression::Lz4 => None,
        };
        Some(Recompression { codec, level })
    }
}

/// The codec that a `compression.type` asks for; none for `producer`.
pub(crate) fn codec_named(compression_type: &str) -> Option<Compression> {
    match compression_type {
        "uncompressed" => Some(Compression::None),
        name => Compression::from_name(name),
    }
}

/// A part, from 0 to 1, in millionths.
pub(crate) fn millionths(part: f64) -> u32 {
    (part * 1_000_000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cleaner_is_set_by_kafkas_names() {
        let mut settings = Settings::default();
        assert_eq!(
            settings.cleaner(),
            CleanerConfig {
                is_enabled: true,
                ..CleanerConfig::default()
            }
        );
        assert_eq!(settings.compaction(), CompactionConfig::default());
        for assignment in [
            "log.cleaner.enable=false",
            "log.cleaner.backoff.ms=7",
            "log.cleaner.dedupe.buffer.size=2000000",
            "log.cleaner.io.max.bytes.per.second=1.5e6",
            "log.cleaner.min.cleanable.ratio=0.01",
            "log.cleaner.min.compaction.lag.ms=3",
            "log.cleaner.max.compaction.lag.ms=4",
            "log.cleaner.delete.retention.ms=5",
        ] {
            settings.take_assignment(assignment).expect("a good setting");
        }
        let cleaner = CleanerConfig {
            is_enabled: false,
            dedupe_buffer_bytes: 2_000_000,
            io_bytes_per_second: 1_500_000,
            backoff: Duration::from_millis(7),
        };
        assert_eq!(settings.cleaner(), cleaner);
        let compaction = CompactionConfig {
            min_cleanable_dirty_ppm: 10_000,
            min_compaction_lag_ms: 3,
            max_compaction_lag_ms: 4,
            delete_retention_ms: 5,
        };
        assert_eq!(settings.compaction(), compaction);
        assert_eq!(settings.check_logs(), Ok(()));
        settings
            .take_assignment("log.cleaner.min.compaction.lag.ms=5")
            .expect("a good setting");
        assert!(settings.check_logs().is_err());
    }

    #[test]
    fn nothing_can_be_kept_for_no_time() {
        for (assignment, is_good) in [
            ("log.retention.ms=0", false),
            ("log.retention.minutes=0", false),
            ("log.retention.hours=0", false),
            ("log.retention.hours=-5", true),
            ("log.retention.ms=-1", true),
            ("log.retention.ms=1", true),
        ] {
            let mut settings = Settings::default();
            settings.take_assignment(assignment).expect("an integer");
            assert_eq!(settings.check_logs().is_ok(), is_good, "{assignment}");
        }
    }
}
