//! The inner seam: what a ring thread asks of the world around it. Two worlds implement it, `uring` and `simulator`.
//!
//! Shape, for whoever writes a driver:
//!
//! - A thread is a [`Core`](crate::core::Core) (tasks, timers, operation slots, buffer budget: shared code) and a
//!   [`Driver`] (the world as this thread sees it). The loop that turns them is the driver's own:
//!   ```text
//!   let _entered = core::enter(core.clone());           // `current()` is this core until the guard drops
//!   core.start_main(main);
//!   while !core.main_has_ended() {
//!       core.fire_timers(driver.now());
//!       core.run_batch();                               // a bounded number of task polls
//!       // then: wait for a completion, a poke or core.next_deadline(); not at all while core.has_ready()
//!       core.complete(slot, outcome);                   // for every operation that has ended
//!   }
//!   while !core.cancel_tasks() { /* wait for a poke */ } // drops every future, which abandons their operations
//!   // complete what is still in flight: core.operations_in_flight() reaches 0
//!   ```
//! - [`Driver::submit`] moves an [`Operation`] with all its resources into the driver, which gives them back inside the
//!   [`Outcome`](crate::operation::Outcome). The future that waits owns nothing but its slot. Dropped, it abandons the slot: the driver hears
//!   [`Driver::cancel`], must still complete the slot some day, and the core then drops the outcome: buffers go back
//!   to their pools, a handle that was just opened or accepted is closed.
//! - A slot's number is used again only after its completion.
//! - Operations may end short (a read, a write, a receive, a send) or with `Interrupted` or `WouldBlock`: `file` and
//!   `socket` carry on, in code that both drivers share. Flushes are never repeated.
//! - Files, listeners and connections are a [`Handle`]: a number of the driver's choice, closed when its last `Rc` is
//!   gone. Every operation holds an `Rc` of the handle that it uses, so that close comes after its completion.
//! - A poke ([`Poke`]) comes from any thread, whenever something was put into a sleeping core's injection queue. In the
//!   simulator a wake from one simulated thread to another is such a poke, because the other core is not `current()`.
//! - `submit`, `cancel` and `close` may be called while tasks run and inside `Drop`: they must not call into the core.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use crate::clock::Instant;
use crate::operation::{Operation, Slot};
use crate::socket::Shutdown;
use crate::thread::{ThreadHandle, ThreadOptions};

/// A thread's first future, made on that thread.
pub(crate) type ThreadMain = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The world as one ring thread sees it.
pub(crate) trait Driver {
    /// Begins an operation. It ends by `Core::complete(slot, ..)`, later, from the driver's loop.
    fn submit(&self, slot: Slot, operation: Operation);

    /// Nobody waits for this operation any more: end it early if that can be done, but do complete it.
    fn cancel(&self, slot: Slot);

    /// Gives a handle up. No operation uses it any more.
    fn close(&self, handle: u64);

    /// See [`crate::clock::now`].
    fn now(&self) -> Instant;

    /// See [`crate::clock::wall_clock_ms`].
    fn wall_clock_ms(&self) -> i64;

    /// See [`crate::random::next_u64`].
    fn random_u64(&self) -> u64;

    /// Starts another thread of the same process.
    fn spawn_thread(&self, options: ThreadOptions, main: ThreadMain) -> io::Result<ThreadHandle>;

    /// Binds and listens: the handle's number, and the address with the port that was taken.
    fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<(u64, SocketAddr)>;

    /// shutdown(2) of a connection. Errors mean that it is down already.
    fn shutdown(&self, connection: u64, how: Shutdown);

    /// Takes a file's exclusive advisory lock if it is free.
    fn try_lock(&self, file: u64) -> io::Result<bool>;
}

/// Wakes the loop of one thread, from any thread.
pub(crate) trait Poke: Send + Sync {
    /// Makes the loop look at its injection queue soon. Cheap when it has been poked already.
    fn poke(&self);
}

/// A file, a listener or a connection, open until dropped.
pub(crate) struct Handle {
    id: u64,
    driver: Rc<dyn Driver>,
}

impl Handle {
    /// Takes charge of the driver's `id`.
    pub(crate) fn new(id: u64, driver: Rc<dyn Driver>) -> Handle {
        Handle { id, driver }
    }

    /// The driver's number for it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The driver it belongs to.
    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.driver
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.close(self.id);
    }
}
