//! Bounded queues between threads, and answers that cross once. Executor-agnostic: either side may be a ring thread,
//! a simulated one, or (for the `try_` and blocking calls) an ordinary thread.
//!
//! For metadata images, controller commands and replication fan-out. Never for a client's data.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A queue of at most `capacity` messages, from any number of senders to one receiver, first in first out.
///
/// # Panics
/// If `capacity` is 0.
pub fn bounded<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a queue without room passes nothing on");
    let shared = Arc::new(Mutex::new(Queue {
        messages: VecDeque::new(),
        capacity,
        senders: 1,
        receiver_gone: false,
        receiver: None,
        waiting_senders: Vec::new(),
    }));
    (
        Sender {
            queue: shared.clone(),
        },
        Receiver { queue: shared },
    )
}

struct Queue<T> {
    messages: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receiver_gone: bool,
    receiver: Option<Waker>,
    /// All are woken when there is room: they are a handful of control tasks. Bounded by these tasks.
    waiting_senders: Vec<Waker>,
}

/// The message could not be queued: given back.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The queue holds its capacity.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// The sending side; clones feed the same queue.
pub struct Sender<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.queue).senders += 1;
        Sender {
            queue: self.queue.clone(),
        }
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Queues the message, waiting for room. `Err` gives it back when the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), T> {
        let mut message = Some(message);
        poll_fn(|context| {
            let unsent = message.take().expect("not polled after its end");
            match self.try_send_or(unsent, Some(context.waker())) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TrySendError::Closed(unsent)) => Poll::Ready(Err(unsent)),
                Err(TrySendError::Full(unsent)) => {
                    message = Some(unsent);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Queues the message if there is room now. May be called from any thread.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.try_send_or(message, None)
    }

    /// Without room, `waiter` is woken when there is some.
    fn try_send_or(&self, message: T, waiter: Option<&Waker>) -> Result<(), TrySendError<T>> {
        let mut queue = lock(&self.queue);
        if queue.receiver_gone {
            return Err(TrySendError::Closed(message));
        }
        if queue.messages.len() >= queue.capacity {
            if let Some(waiter) = waiter
                && !queue.waiting_senders.iter().any(|waker| waker.will_wake(waiter))
            {
                queue.waiting_senders.push(waiter.clone());
            }
            return Err(TrySendError::Full(message));
        }
        queue.messages.push_back(message);
        let receiver = queue.receiver.take();
        drop(queue);
        wake(receiver);
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.senders -= 1;
        let receiver = if queue.senders == 0 {
            queue.receiver.take()
        } else {
            None
        };
        drop(queue);
        wake(receiver);
    }
}

/// The receiving side.
pub struct Receiver<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

impl<T: Send + 'static> Receiver<T> {
    /// The next message; `None` once the queue is empty and every sender is gone.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut queue = lock(&self.queue);
            if queue.messages.is_empty() && queue.senders > 0 {
                queue.receiver = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(take_next(queue))
        })
        .await
    }

    /// The next message if one is there.
    pub fn try_receive(&mut self) -> Option<T> {
        take_next(lock(&self.queue))
    }
}

fn take_next<T>(mut queue: MutexGuard<'_, Queue<T>>) -> Option<T> {
    let message = queue.messages.pop_front();
    let waiting = std::mem::take(&mut queue.waiting_senders);
    drop(queue);
    waiting.into_iter().for_each(Waker::wake);
    message
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.receiver_gone = true;
        let unread = std::mem::take(&mut queue.messages);
        let waiting = std::mem::take(&mut queue.waiting_senders);
        drop(queue);
        drop(unread);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A value that crosses threads once.
pub fn oneshot<T: Send + 'static>() -> (Answer<T>, Awaited<T>) {
    let shared = Arc::new(Crossing {
        state: Mutex::new(CrossingState {
            value: None,
            answer_gone: false,
            awaited_gone: false,
            waker: None,
        }),
        answered: Condvar::new(),
    });
    (
        Answer {
            crossing: shared.clone(),
        },
        Awaited { crossing: shared },
    )
}

struct Crossing<T> {
    state: Mutex<CrossingState<T>>,
    /// For [`Awaited::wait_blocking`].
    answered: Condvar,
}

struct CrossingState<T> {
    value: Option<T>,
    answer_gone: bool,
    awaited_gone: bool,
    waker: Option<Waker>,
}

/// Gives the value. Dropped without giving, the other side sees [`Gone`].
pub struct Answer<T> {
    crossing: Arc<Crossing<T>>,
}

impl<T: Send + 'static> Answer<T> {
    /// Gives the value; `Err` gives it back when nobody waits any more.
    pub fn give(self, value: T) -> Result<(), T> {
        let mut state = lock(&self.crossing.state);
        if state.awaited_gone {
            return Err(value);
        }
        state.value = Some(value);
        // The drop of `self` wakes the other side.
        Ok(())
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.crossing.state);
        state.answer_gone = true;
        let waker = state.waker.take();
        drop(state);
        self.crossing.answered.notify_one();
        wake(waker);
    }
}

/// The giver went away without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Waits for the value: await it, or [`Awaited::wait_blocking`] on an ordinary thread.
pub struct Awaited<T> {
    crossing: Arc<Crossing<T>>,
}

impl<T: Send + 'static> Awaited<T> {
    /// Blocks an ordinary (not a ring) thread until the value is there.
    pub fn wait_blocking(self) -> Result<T, Gone> {
        let mut state = lock(&self.crossing.state);
        while !state.answer_gone {
            state = (self.crossing.answered.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
        state.value.take().ok_or(Gone)
    }
}

impl<T> Future for Awaited<T> {
    type Output = Result<T, Gone>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.crossing.state);
        if state.answer_gone {
            return Poll::Ready(state.value.take().ok_or(Gone));
        }
        let replaced = state.waker.replace(context.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.crossing.state);
        state.awaited_gone = true;
        let (value, waker) = (state.value.take(), state.waker.take());
        drop(state);
        drop((value, waker));
    }
}

/// A panic elsewhere cannot have left these small states half changed, so a poisoned lock is as good as a whole one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
