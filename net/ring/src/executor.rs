//! The tasks of one thread.
//!
//! Three classes share the thread: latency work (requests, with their reads of old data, and commits) runs before
//! throughput work (migration, snapshots of groups), and background work (metrics, removal of files) runs on a small
//! budget, so that none of them starves. A task never moves to another thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_task::Runnable;
use slab::Slab;

use crate::core::{self, Core};
use crate::driver::Poke;

/// One turn in this many begins with the throughput tasks, whatever else is ready.
const THROUGHPUT_TURN: u64 = 8;
/// One turn in this many begins with the background tasks, whatever else is ready.
const BACKGROUND_TURN: u64 = 64;
/// What one batch may cost before completions and timers are looked at again; see [`Class::cost`].
const BATCH_COST: u32 = 128;

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

impl Class {
    /// The share of a batch that one poll uses up: bulk polls are long ones, and what a client waits for may have
    /// completed meanwhile.
    fn cost(self) -> u32 {
        match self {
            Class::Latency => 1,
            Class::Throughput => 8,
            Class::Background => BATCH_COST,
        }
    }
}

/// Starts `future` on this thread. Dropping the returned task cancels it; [`Task::detach`] lets it run on.
pub fn spawn<F>(class: Class, future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Executor::spawn(&core::current(), class, future)
}

/// A started task; awaiting it gives its output.
#[must_use = "a dropped task is cancelled: detach it"]
pub struct Task<T> {
    task: async_task::Task<T, Class>,
}

impl<T> Task<T> {
    /// Lets the task run to its end without a holder.
    pub fn detach(self) {
        self.task.detach();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.task).poll(context)
    }
}

/// Lets the other tasks of this thread, and new completions, go first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The ready queues of one core, and the registry of its tasks.
pub(crate) struct Executor {
    /// Bounded by the number of tasks: a task is in a queue once.
    ready: [RefCell<VecDeque<Runnable<Class>>>; 3],
    turn: Cell<u64>,
    /// A waker of every task that has not ended, so that all of them can be cancelled.
    tasks: RefCell<Slab<Waker>>,
    remote: Arc<Remote>,
}

/// What other threads see of an executor.
struct Remote {
    /// Tasks that other threads have woken. Bounded by the number of tasks.
    injected: Mutex<VecDeque<Runnable<Class>>>,
    poke: Arc<dyn Poke>,
}

impl Executor {
    pub(crate) fn new(poke: Arc<dyn Poke>) -> Executor {
        Executor {
            ready: [const { RefCell::new(VecDeque::new()) }; 3],
            turn: Cell::new(0),
            tasks: RefCell::default(),
            remote: Arc::new(Remote {
                injected: Mutex::default(),
                poke,
            }),
        }
    }

    /// See [`spawn`]; `core` is the one that owns this executor.
    pub(crate) fn spawn<F>(core: &Rc<Core>, class: Class, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let executor = core.executor();
        let key = executor.tasks.borrow_mut().insert(Waker::noop().clone());
        let registered = Registered {
            core: core.clone(),
            key,
        };
        let future = async move {
            let _registered = registered;
            future.await
        };
        let remote = executor.remote.clone();
        let schedule = move |runnable: Runnable<Class>| remote.schedule(runnable);
        // SAFETY: the future and its output are 'static; `schedule` is Send, Sync and 'static. The future is not Send,
        // so its runnable must be run and dropped on this thread: `schedule` only ever moves a runnable into a queue,
        // and the queues are emptied by this executor's own methods, which are `!Sync` and so stay on this thread.
        // `cancel_all` runs before the executor goes, until no task is left, so no runnable is in a queue by then.
        let (runnable, task) = unsafe {
            async_task::Builder::new()
                .metadata(class)
                .spawn_unchecked(|_| future, schedule)
        };
        executor.tasks.borrow_mut()[key] = runnable.waker();
        executor.push(runnable);
        Task { task }
    }

    /// See [`Core::run_batch`].
    pub(crate) fn run_batch(&self) {
        self.take_injected();
        let mut cost = 0;
        while cost < BATCH_COST {
            let Some(runnable) = self.next() else { return };
            cost += runnable.metadata().cost();
            runnable.run();
        }
    }

    /// See [`Core::run_one`].
    pub(crate) fn run_one(&self, choose: impl FnOnce(usize) -> usize) -> bool {
        self.take_injected();
        let Some(mut queue) = (self.order().into_iter())
            .map(|class| self.ready[class as usize].borrow_mut())
            .find(|queue| !queue.is_empty())
        else {
            return false;
        };
        let chosen = choose(queue.len());
        let runnable = queue.remove(chosen).expect("one of those there are was chosen");
        drop(queue);
        runnable.run();
        true
    }

    /// See [`Core::has_ready`].
    pub(crate) fn has_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.borrow().is_empty()) || !self.remote.lock().is_empty()
    }

    /// See [`Core::cancel_tasks`].
    pub(crate) fn cancel_all(&self) -> bool {
        loop {
            // A woken task is put into a queue, unless it is in one already; dropping its runnable drops its future.
            let wakers: Vec<Waker> = (self.tasks.borrow().iter())
                .map(|(_, waker)| waker.clone())
                .collect();
            wakers.iter().for_each(Waker::wake_by_ref);
            drop(wakers);
            self.take_injected();
            let mut progress = false;
            while let Some(runnable) = self.next() {
                progress = true;
                drop(runnable);
            }
            if self.tasks.borrow().is_empty() {
                return true;
            }
            if !progress {
                return false;
            }
        }
    }

    fn take_injected(&self) {
        let mut injected = self.remote.lock();
        while let Some(runnable) = injected.pop_front() {
            self.push(runnable);
        }
    }

    fn push(&self, runnable: Runnable<Class>) {
        self.ready[*runnable.metadata() as usize]
            .borrow_mut()
            .push_back(runnable);
    }

    fn next(&self) -> Option<Runnable<Class>> {
        (self.order().into_iter()).find_map(|class| self.ready[class as usize].borrow_mut().pop_front())
    }

    /// In which order the classes are looked at, this turn.
    fn order(&self) -> [Class; 3] {
        use Class::{Background, Latency, Throughput};
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        if turn.is_multiple_of(BACKGROUND_TURN) {
            [Background, Throughput, Latency]
        } else if turn.is_multiple_of(THROUGHPUT_TURN) {
            [Throughput, Latency, Background]
        } else {
            [Latency, Throughput, Background]
        }
    }
}

impl Remote {
    /// Queues a woken task: at once when its own thread wakes it, through the injection queue when another does.
    fn schedule(self: &Arc<Self>, runnable: Runnable<Class>) {
        let mut runnable = Some(runnable);
        core::with_current(|core| {
            let executor = core.executor();
            if Arc::ptr_eq(&executor.remote, self)
                && let Some(runnable) = runnable.take()
            {
                executor.push(runnable);
            }
        });
        if let Some(runnable) = runnable {
            self.lock().push_back(runnable);
            self.poke.poke();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Runnable<Class>>> {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a task in the registry while its future lives.
struct Registered {
    core: Rc<Core>,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let waker = self.core.executor().tasks.borrow_mut().remove(self.key);
        drop(waker);
    }
}
