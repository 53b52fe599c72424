//! Waiting between tasks of one thread: no atomics, `!Send`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// A level that tasks wait on: [`Signal::notify_all`] wakes every task that was waiting when it was called.
/// Clones share it.
#[derive(Clone, Default)]
pub struct Signal {
    shared: Rc<SignalShared>,
}

#[derive(Default)]
struct SignalShared {
    /// Calls of `notify_all` so far.
    round: Cell<u64>,
    /// Those that have been polled. Bounded by the tasks that wait.
    waiters: RefCell<Slab<Waker>>,
}

impl Signal {
    /// A new signal without waiters.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Wakes all present waiters.
    pub fn notify_all(&self) {
        let shared = &self.shared;
        shared.round.set(shared.round.get() + 1);
        if shared.waiters.borrow().is_empty() {
            return;
        }
        // The wakers stay until their tasks have seen the new round, so that each removes its own entry.
        let waiters = shared.waiters.borrow();
        for (_, waker) in waiters.iter() {
            waker.wake_by_ref();
        }
    }

    /// Waits for the next `notify_all` after this call (the registration happens now, not at the first poll, so that
    /// checking a condition and then awaiting loses nothing).
    pub fn wait(&self) -> SignalWait {
        SignalWait {
            shared: self.shared.clone(),
            round: self.shared.round.get(),
            key: None,
        }
    }
}

/// See [`Signal::wait`].
#[must_use = "it waits when it is awaited"]
pub struct SignalWait {
    shared: Rc<SignalShared>,
    round: u64,
    key: Option<usize>,
}

impl SignalWait {
    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.shared.waiters.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

impl Future for SignalWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.round.get() != self.round {
            self.forget();
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let mut waiters = self.shared.waiters.borrow_mut();
        let replaced = match self.key {
            Some(key) => Some(std::mem::replace(&mut waiters[key], waker)),
            None => {
                let key = waiters.insert(waker);
                drop(waiters);
                self.key = Some(key);
                return Poll::Pending;
            }
        };
        drop(waiters);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for SignalWait {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A value that one task gives another, once.
pub fn oneshot<T>() -> (Giver<T>, Taker<T>) {
    let cell = Rc::new(RefCell::new(OneshotCell {
        value: None,
        giver_gone: false,
        waker: None,
    }));
    (Giver { cell: cell.clone() }, Taker { cell })
}

struct OneshotCell<T> {
    value: Option<T>,
    giver_gone: bool,
    waker: Option<Waker>,
}

/// Gives the value; dropped without giving, the taker gets `None`.
pub struct Giver<T> {
    cell: Rc<RefCell<OneshotCell<T>>>,
}

impl<T> Giver<T> {
    /// Gives the value.
    pub fn give(self, value: T) {
        self.cell.borrow_mut().value = Some(value);
        // The drop of `self` wakes the taker.
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let mut cell = self.cell.borrow_mut();
        cell.giver_gone = true;
        let waker = cell.waker.take();
        drop(cell);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Awaiting it gives the value, or `None` if the giver was dropped.
pub struct Taker<T> {
    cell: Rc<RefCell<OneshotCell<T>>>,
}

impl<T> Future for Taker<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut cell = self.cell.borrow_mut();
        if cell.giver_gone {
            return Poll::Ready(cell.value.take());
        }
        let replaced = cell.waker.replace(context.waker().clone());
        drop(cell);
        drop(replaced);
        Poll::Pending
    }
}

/// Counted permits, first come first served: bounds what a thread has under way.
#[derive(Clone)]
pub struct Semaphore {
    shared: Rc<RefCell<SemaphoreState>>,
}

struct SemaphoreState {
    available: usize,
    next_ticket: u64,
    /// Those without their permits yet, in order of arrival. Bounded by the tasks that wait.
    queue: VecDeque<Ticket>,
}

struct Ticket {
    number: u64,
    permits: usize,
    waker: Waker,
}

impl Semaphore {
    /// `permits` to begin with.
    pub fn new(permits: usize) -> Semaphore {
        Semaphore {
            shared: Rc::new(RefCell::new(SemaphoreState {
                available: permits,
                next_ticket: 0,
                queue: VecDeque::new(),
            })),
        }
    }

    /// Waits for `permits` of them. The permit gives them back when dropped.
    pub async fn acquire(&self, permits: usize) -> Permit {
        Acquire {
            semaphore: self.clone(),
            permits,
            ticket: None,
        }
        .await
    }

    /// Takes `permits` if they are free and nobody waits.
    pub fn try_acquire(&self, permits: usize) -> Option<Permit> {
        let mut state = self.shared.borrow_mut();
        if !state.queue.is_empty() || state.available < permits {
            return None;
        }
        state.available -= permits;
        Some(Permit {
            semaphore: self.clone(),
            permits,
        })
    }

    /// Permits free now.
    pub fn available(&self) -> usize {
        self.shared.borrow().available
    }

    /// Whether somebody waits for permits.
    pub fn is_waited_for(&self) -> bool {
        !self.shared.borrow().queue.is_empty()
    }

    /// Gives permits back, and hands them to those at the head of the queue that can now have all they want.
    fn release(&self, permits: usize) {
        self.shared.borrow_mut().available += permits;
        loop {
            let mut state = self.shared.borrow_mut();
            let Some(head) = state.queue.front() else { return };
            if head.permits > state.available {
                return;
            }
            state.available -= head.permits;
            let granted = state.queue.pop_front();
            drop(state);
            if let Some(ticket) = granted {
                ticket.waker.wake();
            }
        }
    }
}

/// Waits in a semaphore's queue. A ticket that is no longer in the queue has been granted.
struct Acquire {
    semaphore: Semaphore,
    permits: usize,
    ticket: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let Some(number) = self.ticket else {
            if let Some(permit) = self.semaphore.try_acquire(self.permits) {
                return Poll::Ready(permit);
            }
            let mut state = self.semaphore.shared.borrow_mut();
            let number = state.next_ticket;
            state.next_ticket += 1;
            state.queue.push_back(Ticket {
                number,
                permits: self.permits,
                waker: context.waker().clone(),
            });
            drop(state);
            self.ticket = Some(number);
            return Poll::Pending;
        };
        let mut state = self.semaphore.shared.borrow_mut();
        if let Some(ticket) = state.queue.iter_mut().find(|ticket| ticket.number == number) {
            let replaced = std::mem::replace(&mut ticket.waker, context.waker().clone());
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        drop(state);
        self.ticket = None;
        Poll::Ready(Permit {
            semaphore: self.semaphore.clone(),
            permits: self.permits,
        })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(number) = self.ticket else { return };
        let mut state = self.semaphore.shared.borrow_mut();
        let place = state.queue.iter().position(|ticket| ticket.number == number);
        // Out of the queue: the permits were granted and never seen. In it: those behind may have fitted all along.
        let (permits, ticket) = match place {
            Some(place) => (0, state.queue.remove(place)),
            None => (self.permits, None),
        };
        drop(state);
        drop(ticket);
        self.semaphore.release(permits);
    }
}

/// Permits held; dropped, they go back.
pub struct Permit {
    semaphore: Semaphore,
    permits: usize,
}

impl Permit {
    /// Gives back what is more than `permits` of it.
    pub fn keep(&mut self, permits: usize) {
        let kept = self.permits.min(permits);
        let rest = std::mem::replace(&mut self.permits, kept) - kept;
        self.semaphore.release(rest);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release(self.permits);
    }
}
