//! Waiting between tasks of one thread: no atomics, `!Send`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A level that tasks wait on: [`Signal::notify_all`] wakes every task that was waiting when it was called.
/// Clones share it.
#[derive(Clone, Default)]
pub struct Signal {}

impl Signal {
    /// A new signal without waiters.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Wakes all present waiters.
    pub fn notify_all(&self) {
        todo!()
    }

    /// Waits for the next `notify_all` after this call (the registration happens now, not at the first poll, so that
    /// checking a condition and then awaiting loses nothing).
    pub fn wait(&self) -> SignalWait {
        todo!()
    }
}

/// See [`Signal::wait`].
pub struct SignalWait {}

impl Future for SignalWait {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        todo!()
    }
}

/// A value that one task gives another, once.
pub fn oneshot<T: 'static>() -> (Giver<T>, Taker<T>) {
    todo!()
}

/// Gives the value; dropped without giving, the taker gets `None`.
pub struct Giver<T> {
    _value: std::marker::PhantomData<std::rc::Rc<T>>,
}

impl<T> Giver<T> {
    /// Gives the value.
    pub fn give(self, value: T) {
        let _ = value;
        todo!()
    }
}

/// Awaiting it gives the value, or `None` if the giver was dropped.
pub struct Taker<T> {
    _value: std::marker::PhantomData<std::rc::Rc<T>>,
}

impl<T> Future for Taker<T> {
    type Output = Option<T>;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<T>> {
        todo!()
    }
}

/// Counted permits, first come first served: bounds what a thread has under way.
#[derive(Clone)]
pub struct Semaphore {}

impl Semaphore {
    /// `permits` to begin with.
    pub fn new(permits: usize) -> Semaphore {
        let _ = permits;
        todo!()
    }

    /// Waits for `permits` of them. The permit gives them back when dropped.
    pub async fn acquire(&self, permits: usize) -> Permit {
        let _ = permits;
        todo!()
    }

    /// Takes `permits` if they are free and nobody waits.
    pub fn try_acquire(&self, permits: usize) -> Option<Permit> {
        let _ = permits;
        todo!()
    }

    /// Permits free now.
    pub fn available(&self) -> usize {
        todo!()
    }
}

/// Permits held; dropped, they go back.
pub struct Permit {}
