//! Waiting for time to pass.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Instant;
use crate::core::{self, Core};

/// A deadline passed before the awaited future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Returns once `duration` has passed.
pub async fn sleep(duration: Duration) {
    sleep_until(crate::clock::now() + duration).await;
}

/// Returns once the monotonic clock has reached `deadline`.
pub async fn sleep_until(deadline: Instant) {
    Sleep::new(deadline).await;
}

/// Runs `future` for at most `duration`; at the deadline the future is dropped.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = Sleep::new(crate::clock::now() + duration);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut sleep).poll(context).map(|()| Err(Elapsed))
    })
    .await
}

/// The timers of one core, by deadline; equal deadlines fire in the order in which they were set.
#[derive(Default)]
pub(crate) struct Timers {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    next_sequence: Cell<u64>,
}

/// Deadline, and a number that tells timers of one deadline apart.
type Key = (Instant, u64);

impl Timers {
    pub(crate) fn fire(&self, now: Instant) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some(entry) = waiting.first_entry() else {
                return;
            };
            if entry.key().0 > now {
                return;
            }
            let waker = entry.remove();
            drop(waiting);
            waker.wake();
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (self.waiting.borrow().first_key_value()).map(|((deadline, _), _)| *deadline)
    }
}

struct Sleep {
    core: Rc<Core>,
    deadline: Instant,
    key: Option<Key>,
}

impl Sleep {
    fn new(deadline: Instant) -> Sleep {
        Sleep {
            core: core::current(),
            deadline,
            key: None,
        }
    }

    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.core.timers().waiting.borrow_mut().remove(&key);
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.driver().now() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        let timers = self.core.timers();
        let key = self.key.unwrap_or_else(|| {
            let sequence = timers.next_sequence.get();
            timers.next_sequence.set(sequence + 1);
            (self.deadline, sequence)
        });
        let replaced = timers.waiting.borrow_mut().insert(key, context.waker().clone());
        drop(replaced);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}
