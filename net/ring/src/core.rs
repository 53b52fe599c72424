//! One ring thread's own state, whatever drives it: tasks, timers, operations in flight, memory budget.
//!
//! [`current`] is the core whose task runs now. The io_uring loop enters its core once for the thread's life; the
//! simulator enters the core of each simulated thread in turn. Nothing here asks the operating system for anything.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::Budget;
use crate::clock::Instant;
use crate::driver::{Driver, Handle, Poke, ThreadMain};
use crate::executor::{Class, Executor, Task};
use crate::operation::{Answer, Call, Operation, Operations, Outcome, Pending, Slot};
use crate::timer::Timers;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The core whose task runs now.
///
/// # Panics
/// Outside a ring thread.
pub(crate) fn current() -> Rc<Core> {
    try_current().expect("called outside a ring thread: see ring::thread::spawn")
}

/// The core whose task runs now; `None` outside a ring thread.
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

/// Calls `with` with the current core, if there is one. `with` must not run code of tasks.
pub(crate) fn with_current(with: impl FnOnce(&Core)) {
    let _ = CURRENT.try_with(|current| {
        if let Some(core) = &*current.borrow() {
            with(core);
        }
    });
}

/// Makes `core` the current one until the guard is dropped; then the one before it is current again.
pub(crate) fn enter(core: Rc<Core>) -> Entered {
    Entered {
        before: CURRENT.with(|current| current.replace(Some(core))),
    }
}

/// See [`enter`].
pub(crate) struct Entered {
    before: Option<Rc<Core>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        drop(CURRENT.with(|current| current.replace(before)));
    }
}

/// See the module.
pub(crate) struct Core {
    driver: Rc<dyn Driver>,
    executor: Executor,
    timers: Timers,
    operations: Operations,
    budget: Rc<Budget>,
    main: RefCell<Option<Task<()>>>,
}

impl Core {
    /// A core without tasks, with a budget for its buffers. `poke` wakes the loop that will turn it.
    pub(crate) fn new(driver: Rc<dyn Driver>, poke: Arc<dyn Poke>, budget: Rc<Budget>) -> Rc<Core> {
        Rc::new(Core {
            driver,
            executor: Executor::new(poke),
            timers: Timers::default(),
            operations: Operations::default(),
            budget,
            main: RefCell::new(None),
        })
    }

    /// Spawns the thread's first task. The core must be entered.
    pub(crate) fn start_main(self: &Rc<Self>, main: ThreadMain) {
        let task = Executor::spawn(self, Class::Latency, async move { main().await });
        *self.main.borrow_mut() = Some(task);
    }

    /// Whether the first task has returned.
    pub(crate) fn main_has_ended(&self) -> bool {
        self.main.borrow().as_ref().is_none_or(Task::is_finished)
    }

    /// Polls a bounded number of ready tasks, by class; those woken from other threads come in first.
    /// The core must be entered.
    pub(crate) fn run_batch(&self) {
        self.executor.run_batch();
    }

    /// Polls one ready task, the one that `choose` picks of so many; classes count as in [`Core::run_batch`]. False if
    /// none is ready. The core must be entered. For the simulator.
    pub(crate) fn run_one(&self, choose: impl FnOnce(usize) -> usize) -> bool {
        self.executor.run_one(choose)
    }

    /// Whether a task is ready, so that the loop must not sleep.
    pub(crate) fn has_ready(&self) -> bool {
        self.executor.has_ready()
    }

    /// Wakes every timer whose deadline is at or before `now`, in the order of their deadlines.
    pub(crate) fn fire_timers(&self, now: Instant) {
        self.timers.fire(now);
    }

    /// When the loop must call [`Core::fire_timers`] next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Ends the operation of `slot`. The driver calls it once for each submit, from its loop.
    pub(crate) fn complete(&self, slot: Slot, outcome: Outcome) {
        self.operations.complete(slot, outcome);
    }

    /// Operations submitted and not completed.
    pub(crate) fn operations_in_flight(&self) -> usize {
        self.operations.in_flight()
    }

    /// Drops the futures of all tasks, the main one included. False if another thread is just waking one of them: call
    /// again after the poke. The core must be entered. Also how the simulator kills a thread.
    pub(crate) fn cancel_tasks(&self) -> bool {
        drop(self.main.borrow_mut().take());
        self.executor.cancel_all()
    }

    /// Begins an operation; the future gives its outcome.
    pub(crate) fn begin(self: &Rc<Self>, operation: Operation) -> Pending {
        let slot = self.operations.reserve();
        let pending = Pending::new(self.clone(), slot);
        self.driver.submit(slot, operation);
        pending
    }

    /// Makes a call that may block where it does not hold this thread up.
    pub(crate) async fn block_on_helper(
        self: &Rc<Self>,
        file: Option<Rc<Handle>>,
        call: Call,
    ) -> io::Result<Answer> {
        match self.begin(Operation::Blocking { file, call }).await {
            Outcome::Answered(answer) => answer,
            _ => unreachable!("a call ends with an answer"),
        }
    }

    /// Takes charge of a handle that the driver has opened.
    pub(crate) fn own(&self, id: u64) -> Handle {
        Handle::new(id, self.driver.clone())
    }

    pub(crate) fn driver(&self) -> &Rc<dyn Driver> {
        &self.driver
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.operations
    }

    pub(crate) fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }
}
