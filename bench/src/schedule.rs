//! When each batch of a connection is due: as long after the first as the records before it take at the rate.
//!
//! Pure. An open loop: what is due does not depend on what was answered, so a broker that stalls is charged for every
//! batch that should have been sent meanwhile (no coordinated omission).

use ring::clock::Instant;

/// Nanoseconds of a second.
const SECOND_NS: u128 = 1_000_000_000;

/// The due times of one connection's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    start: Instant,
    pace: Option<Pace>,
}

/// The time of a record as a fraction, so that no rounding adds up: `numerator / denominator` nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    numerator: u128,
    denominator: u128,
    /// Where in the first batch's time this connection begins, in nanoseconds, so that connections do not send in step.
    offset_ns: u64,
}

/// A connection's part of the whole rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What this connection carries, in the unit of `whole`.
    pub part: u64,
    /// What all carry together.
    pub whole: u64,
    /// The sum of `part` over the connections before this one: where in the first batch's time it begins.
    pub before: u64,
}

impl Schedule {
    /// Batches of `records_per_batch` on average such that all connections together send `records_per_s`. `None`: flat out.
    ///
    /// # Panics
    /// If a number is 0.
    pub fn new(start: Instant, records_per_s: Option<u64>, records_per_batch: u64, share: Share) -> Schedule {
        assert!(share.part > 0 && share.part <= share.whole && records_per_batch > 0);
        let pace = records_per_s.map(|records_per_s| {
            let numerator = u128::from(records_per_batch) * SECOND_NS * u128::from(share.whole);
            let denominator = u128::from(records_per_s) * u128::from(share.part);
            let offset = numerator * u128::from(share.before) / denominator / u128::from(share.whole);
            Pace {
                numerator: SECOND_NS * u128::from(share.whole),
                denominator,
                offset_ns: u64::try_from(offset).unwrap_or(u64::MAX),
            }
        });
        Schedule { start, pace }
    }

    /// When the batch with so many records before it is due. `None`: as soon as it can be sent.
    pub fn due(&self, records_before: u64) -> Option<Instant> {
        let pace = self.pace?;
        let elapsed = u128::from(records_before) * pace.numerator / pace.denominator;
        let elapsed_ns = u64::try_from(elapsed).unwrap_or(u64::MAX);
        Some(Instant(
            (self.start.0)
                .saturating_add(pace.offset_ns)
                .saturating_add(elapsed_ns),
        ))
    }

    /// How many records are due before `end`. `None`: flat out.
    pub fn due_before(&self, end: Instant) -> Option<u64> {
        let pace = self.pace?;
        let first = self.start.0.saturating_add(pace.offset_ns);
        let Some(left) = end.0.checked_sub(first).filter(|left| *left > 0) else {
            return Some(0);
        };
        // The record `n` is due at floor(n * numerator / denominator), which is below `left` as long as
        // n * numerator < left * denominator.
        let records = (u128::from(left) * pace.denominator).div_ceil(pace.numerator);
        Some(u64::try_from(records).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ALONE: Share = Share {
        part: 1,
        whole: 1,
        before: 0,
    };

    #[test]
    fn a_rate_is_kept_without_drift() {
        // Three records a second in batches of one: no whole number of nanoseconds.
        let schedule = Schedule::new(Instant(5), Some(3), 1, ALONE);
        assert_eq!(schedule.due(0), Some(Instant(5)));
        assert_eq!(schedule.due(1), Some(Instant(5 + 333_333_333)));
        assert_eq!(schedule.due(3_000_000), Some(Instant(5 + 1_000_000_000_000_000)));
    }

    #[test]
    fn connections_share_the_rate_and_do_not_send_in_step() {
        let end = Instant(0) + Duration::from_secs(10);
        let mut total = 0;
        let mut firsts = Vec::new();
        for (part, before) in [(1, 0), (2, 1), (3, 3)] {
            let share = Share {
                part,
                whole: 6,
                before,
            };
            let schedule = Schedule::new(Instant(0), Some(6_000), 10, share);
            // Batches of ten, begun or whole.
            total += schedule.due_before(end).unwrap().div_ceil(10);
            firsts.push(schedule.due(0).unwrap());
        }
        assert_eq!(total, 6_000);
        firsts.dedup();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn what_is_due_before_an_end_is_counted_exactly() {
        for rate in [1, 7, 999, 1_000_003] {
            let schedule = Schedule::new(Instant(11), Some(rate), 3, ALONE);
            for end in [
                Instant(0),
                Instant(11),
                Instant(12),
                Instant(3_000_000_011),
                Instant(7_123_456_789),
            ] {
                let count = schedule.due_before(end).unwrap();
                assert!(
                    count == 0 || schedule.due(count - 1).unwrap() < end,
                    "{rate} {end:?}"
                );
                assert!(schedule.due(count).unwrap() >= end, "{rate} {end:?}");
            }
        }
    }

    #[test]
    fn flat_out_has_no_due_times() {
        let schedule = Schedule::new(Instant(0), None, 1, ALONE);
        assert_eq!((schedule.due(9), schedule.due_before(Instant(9))), (None, None));
    }
}
