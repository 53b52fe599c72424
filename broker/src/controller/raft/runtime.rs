//! openraft's runtime on `ring`: everything stays on the control thread, and the simulator drives it too.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::async_runtime::AsyncOneshotSendExt;
use ring::executor::{Class, Task};
use ring::local::{Giver, Taker};

/// See the module.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingRuntime;

impl openraft::AsyncRuntime for RingRuntime {
    type JoinError = Never;
    type JoinHandle<T: 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R>> = Timeout<T>;
    type ThreadLocalRng = Random;
    type OneshotSender<T> = OneshotSender<T>;
    type OneshotReceiverError = Gone;
    type OneshotReceiver<T> = OneshotReceiver<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + 'static,
        T::Output: 'static,
    {
        JoinHandle {
            task: Some(ring::executor::spawn(Class::Latency, future)),
        }
    }

    fn sleep(duration: Duration) -> Sleep {
        Box::pin(ring::timer::sleep(duration))
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        Box::pin(ring::timer::sleep_until(deadline.0))
    }

    fn timeout<R, F: Future<Output = R>>(duration: Duration, future: F) -> Timeout<F> {
        Timeout {
            future: Box::pin(future),
            sleep: Self::sleep(duration),
        }
    }

    fn timeout_at<R, F: Future<Output = R>>(deadline: Instant, future: F) -> Timeout<F> {
        Timeout {
            future: Box::pin(future),
            sleep: Self::sleep_until(deadline),
        }
    }

    fn is_panic(error: &Never) -> bool {
        match *error {}
    }

    fn thread_rng() -> Random {
        Random
    }

    fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
        let (giver, taker) = ring::local::oneshot();
        (OneshotSender(giver), OneshotReceiver(taker))
    }
}

/// A task's failure to end. There is none: a panic ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// A started task; dropped, it runs on.
pub(crate) struct JoinHandle<T> {
    task: Option<Task<T>>,
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Never>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self
            .task
            .as_mut()
            .expect("the task is there until the handle goes");
        Pin::new(task).poll(context).map(Ok)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time is up")]
pub(crate) struct Elapsed;

/// A future that gives up in time.
pub(crate) struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        self.sleep.as_mut().poll(context).map(|()| Err(Elapsed))
    }
}

/// A point of ring's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(ring::clock::Instant);

impl openraft::Instant for Instant {
    fn now() -> Instant {
        Instant(ring::clock::now())
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, duration: Duration) -> Instant {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(ring::clock::Instant(self.0.0.saturating_sub(nanoseconds)))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

/// ring's chance.
pub(crate) struct Random;

impl rand_core::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        ring::random::next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rand_core::impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// Gives a value to another task.
pub(crate) struct OneshotSender<T>(Giver<T>);

impl<T> fmt::Debug for OneshotSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneshotSender")
    }
}

impl<T> AsyncOneshotSendExt<T> for OneshotSender<T> {
    /// openraft only logs that nobody waits any more, so that is not told.
    fn send(self, value: T) -> Result<(), T> {
        self.0.give(value);
        Ok(())
    }
}

/// The giver went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sender went away")]
pub(crate) struct Gone;

/// Waits for the value.
pub(crate) struct OneshotReceiver<T>(Taker<T>);

impl<T> Future for OneshotReceiver<T> {
    type Output = Result<T, Gone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|value| value.ok_or(Gone))
    }
}
