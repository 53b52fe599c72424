//! Time, from the kernel or from the simulator.

use std::ops::{Add, Sub};
use std::time::Duration;

use crate::core;

/// A point of the monotonic clock, in nanoseconds since an unnamed start. Comparable within one run of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Instant {
    type Output = Duration;
    /// The time from `earlier` to `self`; zero if `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The monotonic clock. It never goes back and does not follow changes of the wall clock.
pub fn now() -> Instant {
    core::current().driver().now()
}

/// The wall clock, in milliseconds since 1970-01-01 UTC. It may jump either way.
pub fn wall_clock_ms() -> i64 {
    core::current().driver().wall_clock_ms()
}
