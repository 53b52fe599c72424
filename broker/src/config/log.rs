//! What the settings of a broker say of its logs where Kafka has several for the same thing.

use std::time::Duration;

use crate::config::Settings;
use crate::config::table::{self, Setting};

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

    /// `log.retention.check.interval.ms`.
    pub(crate) fn retention_check_interval(&self) -> Duration {
        let interval_ms = self.integer(&table::LOG_RETENTION_CHECK_INTERVAL_MS);
        Duration::from_millis(interval_ms.unsigned_abs())
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

#[cfg(test)]
mod tests {
    use super::*;

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
