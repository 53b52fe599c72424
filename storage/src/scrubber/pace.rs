//! How fast the scrubber reads: so many bytes a second at most. Pure.

use std::num::NonZeroU64;
use std::time::Duration;

use ring::clock::Instant;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: NonZeroU64,
    /// When what was read so far is paid for.
    paid: Instant,
}

impl Pace {
    pub(super) fn new(bytes_per_second: NonZeroU64) -> Pace {
        Pace {
            bytes_per_second,
            paid: Instant(0),
        }
    }

    /// How long the next read has to wait; zero if it may begin.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.paid - now
    }

    /// So many bytes are read now. What was not used before is lost: an idle hour does not end in a burst.
    pub(super) fn spend(&mut self, now: Instant, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now) + cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_read_is_waited_for() {
        let mut pace = Pace::new(NonZeroU64::new(1_000).unwrap());
        let now = Instant(0) + 5 * SECOND;
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.spend(now, 500);
        assert_eq!(pace.wait(now), SECOND / 2);
        // Whoever does not wait pays for it.
        pace.spend(now, 1_500);
        assert_eq!(pace.wait(now), 2 * SECOND);
        assert_eq!(pace.wait(now + SECOND), SECOND);
        assert_eq!(pace.wait(now + 2 * SECOND), Duration::ZERO);
    }

    #[test]
    fn idle_time_is_no_credit() {
        let mut pace = Pace::new(NonZeroU64::new(1_000).unwrap());
        let late = Instant(0) + 3_600 * SECOND;
        for _ in 0..10 {
            pace.spend(late, 1_000);
        }
        assert_eq!(pace.wait(late), 10 * SECOND);
    }

    #[test]
    fn no_budget_is_too_small_to_be_kept() {
        let mut pace = Pace::new(NonZeroU64::MIN);
        pace.spend(Instant(1), u64::MAX);
        pace.spend(Instant(1), u64::MAX);
        assert!(pace.wait(Instant(1)) > 3_600 * SECOND);
        let mut pace = Pace::new(NonZeroU64::MAX);
        pace.spend(Instant(1), 1 << 20);
        assert_eq!(pace.wait(Instant(1)), Duration::ZERO);
    }
}
