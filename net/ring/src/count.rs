//! What happened how often, and how long it took: plain numbers of one thread, to be read by whoever looks after it.
//!
//! Counting costs a few instructions: no allocation, nothing shared with another thread, nothing to look up.

use std::cell::Cell;
use std::time::Duration;

/// Bounds of a [`DurationHistogram`]: 64 µs, and twice as much each time, up to 16.8 s.
pub const DURATION_BOUNDS: usize = 19;
/// The first bound is 2 to this power, in microseconds.
const FIRST_BOUND_BITS: u32 = 6;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Nothing yet.
    pub const fn new() -> Counter {
        Counter(Cell::new(0))
    }

    /// So many more.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How long things took, in buckets.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    /// By bound; the last has what was longer than all of them.
    buckets: [Counter; DURATION_BOUNDS + 1],
    sum_nanoseconds: Counter,
}

/// What a [`DurationHistogram`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DurationCounts {
    /// How many were no longer than the bound of that index, and longer than the one before. The last: longer than all.
    pub buckets: [u64; DURATION_BOUNDS + 1],
    /// All of them together.
    pub sum: Duration,
}

impl DurationHistogram {
    /// Something took so long.
    pub fn record(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanoseconds.div_ceil(1_000))].add(1);
        self.sum_nanoseconds.add(nanoseconds);
    }

    /// What was counted so far.
    pub fn counts(&self) -> DurationCounts {
        DurationCounts {
            buckets: std::array::from_fn(|index| self.buckets[index].get()),
            sum: Duration::from_nanos(self.sum_nanoseconds.get()),
        }
    }
}

/// The bound of that index.
pub fn duration_bound(index: usize) -> Duration {
    Duration::from_micros(1 << (FIRST_BOUND_BITS as usize + index))
}

/// The first bucket whose bound is not less than so many microseconds.
fn bucket_of(microseconds: u64) -> usize {
    let bits = microseconds
        .saturating_sub(1)
        .checked_ilog2()
        .map_or(0, |log| log + 1);
    (bits.saturating_sub(FIRST_BOUND_BITS) as usize).min(DURATION_BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for index in 0..DURATION_BOUNDS {
            let bound = duration_bound(index);
            let histogram = DurationHistogram::default();
            histogram.record(bound);
            histogram.record(bound + Duration::from_nanos(1));
            let mut expected = [0; DURATION_BOUNDS + 1];
            expected[index] = 1;
            expected[index + 1] = 1;
            assert_eq!(histogram.counts().buckets, expected, "{bound:?}");
        }
        assert_eq!(duration_bound(0), Duration::from_micros(64));
        assert_eq!(
            duration_bound(DURATION_BOUNDS - 1),
            Duration::from_micros(16_777_216)
        );
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let histogram = DurationHistogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_secs(3_600));
        let counts = histogram.counts();
        assert_eq!((counts.buckets[0], counts.buckets[DURATION_BOUNDS]), (1, 1));
        assert_eq!(counts.sum, Duration::from_secs(3_600));
        histogram.record(Duration::MAX);
        assert_eq!(histogram.counts().buckets[DURATION_BOUNDS], 2);
    }
}
