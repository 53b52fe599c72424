//! The tasks of one thread.
//!
//! Three classes share the thread: latency work (requests, commits) runs before throughput work (fetching old data,
//! migration), and background work (recovery's checks, scrubbing, index rebuilds) runs on a small budget, so that none
//! of them starves. A task never moves to another thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How urgent a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What a client waits for: runs first.
    Latency,
    /// Bulk work that must keep up on average.
    Throughput,
    /// Work that may wait for an idle moment, but always makes some progress.
    Background,
}

/// Starts `future` on this thread. Dropping the returned task cancels it; [`Task::detach`] lets it run on.
pub fn spawn<F>(class: Class, future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let _ = (class, future);
    todo!()
}

/// A started task; awaiting it gives its output.
pub struct Task<T> {
    _output: std::marker::PhantomData<T>,
}

impl<T> Task<T> {
    /// Lets the task run to its end without a holder.
    pub fn detach(self) {
        todo!()
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        todo!()
    }
}

impl<T> Future for Task<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<T> {
        todo!()
    }
}

/// Lets the other tasks of this thread, and new completions, go first.
pub async fn yield_now() {
    todo!()
}
