//! Many runs, one for each seed, and how to repeat the one that failed.

use std::any::Any;
use std::env;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Set to a number, it is the only seed that [`for_each_seed`] runs.
const SEED_VARIABLE: &str = "MILLSTREAM_SEED";

/// Calls `check` for every seed, on as many threads as there are processors; each call must make its own
/// [`Simulator`](super::Simulator). With the environment variable `MILLSTREAM_SEED` only for that seed.
///
/// # Panics
/// If a call panics: with that panic, after the seed and the way to repeat it were printed. No further seed begins.
pub fn for_each_seed(seeds: Range<u64>, check: impl Fn(u64) + Sync) {
    let only = env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(seeds, |seed: u64| seed..seed.saturating_add(1));
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<Box<dyn Any + Send>>> = Mutex::default();
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(seed))) {
                eprintln!("seed {seed} failed: repeat it with {SEED_VARIABLE}={seed}");
                next.store(seeds.end, Ordering::Relaxed);
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
    thread::scope(|scope| {
        for _ in 1..processors.min(seeds.end - seeds.start) {
            scope.spawn(run);
        }
        run();
    });
    if let Some(panic) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_seed_runs_once() {
        let seen = Mutex::new(BTreeSet::new());
        for_each_seed(5..55, |seed| assert!(seen.lock().unwrap().insert(seed)));
        if env::var(SEED_VARIABLE).is_err() {
            assert_eq!(seen.into_inner().unwrap(), (5..55).collect());
        }
    }

    #[test]
    fn a_failing_seed_fails_the_test() {
        let only = env::var(SEED_VARIABLE)
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(7);
        let result = catch_unwind(|| for_each_seed(0..10, |seed| assert_ne!(seed, only)));
        assert!(result.is_err());
    }
}
