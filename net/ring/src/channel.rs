//! Bounded queues between threads, and answers that cross once. Executor-agnostic: either side may be a ring thread,
//! a simulated one, or (for the `try_` and blocking calls) an ordinary thread.
//!
//! For metadata images, controller commands and replication fan-out. Never for a client's data.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A queue of at most `capacity` messages, from any number of senders to one receiver, first in first out.
pub fn bounded<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let _ = capacity;
    todo!()
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
    _message: std::marker::PhantomData<T>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        todo!()
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Queues the message, waiting for room. `Err` gives it back when the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), T> {
        let _ = message;
        todo!()
    }

    /// Queues the message if there is room now. May be called from any thread.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let _ = message;
        todo!()
    }
}

/// The receiving side.
pub struct Receiver<T> {
    _message: std::marker::PhantomData<T>,
}

impl<T: Send + 'static> Receiver<T> {
    /// The next message; `None` once the queue is empty and every sender is gone.
    pub async fn receive(&mut self) -> Option<T> {
        todo!()
    }

    /// The next message if one is there.
    pub fn try_receive(&mut self) -> Option<T> {
        todo!()
    }
}

/// A value that crosses threads once.
pub fn oneshot<T: Send + 'static>() -> (Answer<T>, Awaited<T>) {
    todo!()
}

/// Gives the value. Dropped without giving, the other side sees [`Gone`].
pub struct Answer<T> {
    _message: std::marker::PhantomData<T>,
}

impl<T: Send + 'static> Answer<T> {
    /// Gives the value; `Err` gives it back when nobody waits any more.
    pub fn give(self, value: T) -> Result<(), T> {
        let _ = value;
        todo!()
    }
}

/// The giver went away without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Waits for the value: await it, or [`Awaited::wait_blocking`] on an ordinary thread.
pub struct Awaited<T> {
    _message: std::marker::PhantomData<T>,
}

impl<T: Send + 'static> Awaited<T> {
    /// Blocks an ordinary (not a ring) thread until the value is there.
    pub fn wait_blocking(self) -> Result<T, Gone> {
        todo!()
    }
}

impl<T> Future for Awaited<T> {
    type Output = Result<T, Gone>;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}
