//! The wall clock without its jumps: what the age of records goes by.
//!
//! A clock that is wrong for a moment must not delete a log, nor keep for years what was appended meanwhile. So time
//! goes on here as the monotonic clock does. The wall clock is followed while it agrees; when it jumps, only after it
//! has kept its new time for an hour. What time passed between two lives only the wall clock knows: what is
//! appended takes it from there at once, and what is there already grows older by it only after an hour.
//! The decisions are pure ([`SteadyTime`]); [`SteadyClock`] asks the two clocks.

use std::cell::Cell;
use std::time::Duration;

use ring::clock::{self, Instant};
use ring::local::Signal;

/// A wall clock that is further away has jumped: more than what time servers correct, and far less than a retention.
const JUMP_MS: i64 = 60_000;
/// A jump that was kept for so long is believed.
const BELIEF: Duration = Duration::from_secs(60 * 60);

/// The clock of a shard's log. One for all of its partitions.
pub(crate) struct SteadyClock {
    time: Cell<SteadyTime>,
    looked: Signal,
}

/// The wall clock was believed to be right when it was ahead: what was appended from `from_ms` to `to_ms`, in all of this
/// life, may have been appended `by_ms` later. Since when it had been wrong nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Correction {
    from_ms: i64,
    to_ms: i64,
    by_ms: i64,
}

/// See the module. Milliseconds are since 1970.
#[derive(Debug, Clone, Copy)]
struct SteadyTime {
    /// What the wall clock showed when it last agreed, and when that was.
    base_ms: i64,
    base_at: Instant,
    /// The earliest that was now in this life.
    first_ms: i64,
    jump: Option<Jump>,
    /// The newest time that an earlier life knew, and when this one began.
    held: Option<(i64, Instant)>,
}

/// The wall clock is elsewhere.
#[derive(Debug, Clone, Copy)]
struct Jump {
    since: Instant,
    ahead_ms: i64,
}

impl SteadyClock {
    /// A clock that begins now; `known_ms` is the newest time that an earlier life of the log knew, if any did.
    pub(crate) fn new(known_ms: Option<i64>) -> SteadyClock {
        let time = SteadyTime::new(known_ms, clock::wall_clock_ms(), clock::now());
        SteadyClock {
            time: Cell::new(time),
            looked: Signal::new(),
        }
    }

    /// Now, for what is being appended.
    pub(crate) fn now_ms(&self) -> i64 {
        self.time.get().now_ms(clock::now())
    }

    /// Now, for the age of what is there: no later than what any clock says that may be right.
    pub(crate) fn age_now_ms(&self) -> i64 {
        let time = self.time.get();
        time.age_now_ms(clock::wall_clock_ms(), clock::now())
    }

    /// What a later life is told to be known.
    pub(crate) fn known_ms(&self) -> i64 {
        self.time.get().known_ms(clock::now())
    }

    /// By how much the wall clock is ahead of what the age goes by, in milliseconds: 0 while it is believed.
    pub(crate) fn wall_clock_ahead_ms(&self) -> i64 {
        clock::wall_clock_ms().saturating_sub(self.known_ms()).max(0)
    }

    /// Compares the clocks. To be called now and then: a jump is noticed, and believed, by this alone.
    pub(crate) fn look(&self) -> Option<Correction> {
        let mut time = self.time.get();
        let correction = time.look(clock::wall_clock_ms(), clock::now());
        self.time.set(time);
        self.looked.notify_all();
        correction
    }

    /// Waits until the wall clock has jumped, or after `has_jumped` until it is believed again. By how many milliseconds
    /// it has, either way.
    pub(crate) async fn turn(&self, has_jumped: bool) -> i64 {
        loop {
            let looked = self.looked.wait();
            let jump = self.time.get().jump;
            if jump.is_some() != has_jumped {
                return jump.map_or(0, |jump| jump.ahead_ms);
            }
            looked.await;
        }
    }
}

impl Correction {
    /// A time at which something was appended, as it is known now.
    pub(crate) fn of(&self, appended_ms: i64) -> i64 {
        if (self.from_ms..=self.to_ms).contains(&appended_ms) {
            appended_ms.saturating_add(self.by_ms)
        } else {
            appended_ms
        }
    }
}

impl SteadyTime {
    fn new(known_ms: Option<i64>, wall_ms: i64, at: Instant) -> SteadyTime {
        let known_ms = known_ms.unwrap_or(wall_ms);
        SteadyTime {
            base_ms: wall_ms.max(known_ms),
            base_at: at,
            first_ms: wall_ms.max(known_ms),
            jump: None,
            held: (wall_ms.saturating_sub(known_ms) > JUMP_MS).then_some((known_ms, at)),
        }
    }

    fn now_ms(&self, at: Instant) -> i64 {
        after(self.base_ms, at - self.base_at)
    }

    fn known_ms(&self, at: Instant) -> i64 {
        let held = self.held.map(|(known_ms, since)| after(known_ms, at - since));
        self.now_ms(at).min(held.unwrap_or(i64::MAX))
    }

    fn age_now_ms(&self, wall_ms: i64, at: Instant) -> i64 {
        self.known_ms(at).min(wall_ms)
    }

    fn look(&mut self, wall_ms: i64, at: Instant) -> Option<Correction> {
        self.held = self.held.filter(|(_, since)| at - *since < BELIEF);
        let now_ms = self.now_ms(at);
        let ahead_ms = wall_ms.saturating_sub(now_ms);
        let mut correction = None;
        if ahead_ms.saturating_abs() > JUMP_MS {
            let is_same = |jump: &Jump| ahead_ms.abs_diff(jump.ahead_ms) <= JUMP_MS.unsigned_abs();
            let since = at;
            let jump = self.jump.filter(is_same).unwrap_or(Jump { since, ahead_ms });
            if at - jump.since < BELIEF {
                self.jump = Some(jump);
                return None;
            }
            // Nothing is made older than it was known to be.
            correction = (ahead_ms > 0).then_some(Correction {
                from_ms: self.first_ms,
                to_ms: now_ms,
                by_ms: ahead_ms,
            });
        }
        (self.base_ms, self.base_at, self.jump) = (wall_ms, at, None);
        self.first_ms = self.first_ms.min(wall_ms);
        correction
    }
}

fn after(ms: i64, duration: Duration) -> i64 {
    ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000_000;
    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const YEAR: i64 = 365 * 24 * HOUR;

    fn at(minutes: i64) -> Instant {
        Instant(0) + Duration::from_millis((minutes * MINUTE).unsigned_abs())
    }

    /// A clock that was looked at every minute, with a wall clock that is `ahead` of the truth then.
    fn looked(minutes: i64, ahead: impl Fn(i64) -> i64) -> (SteadyTime, Option<Correction>) {
        let mut time = SteadyTime::new(None, START, at(0));
        let mut last = None;
        for minute in 1..=minutes {
            let wall_ms = START + minute * MINUTE + ahead(minute);
            last = time.look(wall_ms, at(minute)).or(last);
        }
        (time, last)
    }

    #[test]
    fn a_wall_clock_that_agrees_is_followed() {
        let (time, correction) = looked(30, |minute| minute * 100);
        assert_eq!(time.now_ms(at(30)), START + 30 * MINUTE + 3_000);
        assert_eq!(correction, None);
    }

    #[test]
    fn a_jump_for_a_moment_changes_nothing_in_either_direction() {
        for jump in [HOUR, 10 * YEAR, -HOUR, -50 * YEAR] {
            let during = |minute| if (10..30).contains(&minute) { jump } else { 0 };
            let (time, _) = looked(20, during);
            let truth = START + 20 * MINUTE;
            assert_eq!(time.now_ms(at(20)), truth, "{jump}");
            assert!(time.age_now_ms(truth + jump, at(20)) <= truth, "{jump}");
            let (time, correction) = looked(40, during);
            let truth = START + 40 * MINUTE;
            assert_eq!((time.now_ms(at(40)), correction), (truth, None), "{jump}");
            assert_eq!(time.age_now_ms(truth, at(40)), truth, "{jump}");
        }
    }

    #[test]
    fn a_jump_that_is_kept_for_an_hour_is_believed_and_what_was_appended_meanwhile_gets_its_time() {
        let jump = 3 * HOUR;
        let kept = |minute| if minute >= 10 { jump } else { 0 };
        assert_eq!(looked(69, kept).0.now_ms(at(69)), START + 69 * MINUTE);
        let (time, correction) = looked(70, kept);
        assert_eq!(time.now_ms(at(70)), START + 70 * MINUTE + jump);
        let correction = correction.expect("it was believed");
        let appended = |minute: i64| correction.of(START + minute * MINUTE) - START - minute * MINUTE;
        assert_eq!([0, 9, 40, 70].map(appended), [jump; 4]);
        assert_eq!(appended(-1), 0, "another life's");
        assert_eq!(
            correction.of(START + 71 * MINUTE + jump),
            START + 71 * MINUTE + jump
        );
        // Back again: nothing that is there is made older.
        let back = |minute| if (10..80).contains(&minute) { jump } else { 0 };
        assert_eq!(looked(79, back).1, looked(200, back).1);
        assert_eq!(looked(200, back).0.now_ms(at(200)), START + 200 * MINUTE);
    }

    #[test]
    fn a_clock_that_never_rests_is_never_believed() {
        let (time, correction) = looked(600, |minute| minute * HOUR);
        assert_eq!((time.now_ms(at(600)), correction), (START + 600 * MINUTE, None));
    }

    #[test]
    fn what_passed_between_two_lives_makes_nothing_older_for_an_hour_and_is_the_time_of_appends_at_once() {
        for down in [8 * 24 * HOUR, 10 * YEAR] {
            let wall = |minute: i64| START + down + minute * MINUTE;
            let mut time = SteadyTime::new(Some(START), wall(0), at(0));
            assert_eq!(time.now_ms(at(1)), wall(1));
            for minute in 1..60 {
                time.look(wall(minute), at(minute));
                assert_eq!(time.age_now_ms(wall(minute), at(minute)), START + minute * MINUTE);
                assert_eq!(time.known_ms(at(minute)), START + minute * MINUTE);
            }
            time.look(wall(60), at(60));
            assert_eq!(time.age_now_ms(wall(60), at(60)), wall(60));
        }
        let short = SteadyTime::new(Some(START), START + 20_000, at(0));
        assert_eq!(short.age_now_ms(START + 20_000, at(0)), START + 20_000);
    }

    #[test]
    fn a_start_with_a_clock_that_is_behind_goes_on_from_what_was_known() {
        let wall = START - 50 * YEAR;
        let time = SteadyTime::new(Some(START), wall, at(0));
        assert_eq!(time.now_ms(at(5)), START + 5 * MINUTE);
        assert_eq!(
            time.age_now_ms(wall, at(0)),
            wall,
            "nothing is old by a clock that is behind"
        );
    }
}
