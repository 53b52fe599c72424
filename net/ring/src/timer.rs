//! Waiting for time to pass.

use std::future::Future;
use std::time::Duration;

use crate::clock::Instant;

/// A deadline passed before the awaited future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Returns once `duration` has passed.
pub async fn sleep(duration: Duration) {
    sleep_until(crate::clock::now() + duration).await;
}

/// Returns once the monotonic clock has reached `deadline`.
pub async fn sleep_until(deadline: Instant) {
    let _ = deadline;
    todo!()
}

/// Runs `future` for at most `duration`; at the deadline the future is dropped.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let _ = (duration, future);
    todo!()
}
