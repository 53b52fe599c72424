//! The simulated world as one simulated thread sees it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::world::{ThreadNumber, World};
use crate::channel;
use crate::clock::Instant;
use crate::driver::{Driver, Poke, ThreadMain};
use crate::operation::{Operation, Slot};
use crate::socket::Shutdown;
use crate::thread::{ThreadHandle, ThreadOptions};

/// The world, and the handles that were given up where it could not be entered.
#[derive(Clone)]
pub(super) struct Shared {
    world: Rc<RefCell<World>>,
    closes: Rc<RefCell<Vec<(u16, u64)>>>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Shared {
        let closes = Rc::default();
        Shared {
            world: Rc::new(RefCell::new(World::new(seed, Rc::clone(&closes)))),
            closes,
        }
    }

    /// Enters the world. `with` must not run code of tasks.
    pub(super) fn enter<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.borrow_mut();
        world.settle_closes();
        with(&mut world)
    }

    /// Looks at the world.
    pub(super) fn look<T>(&self, with: impl FnOnce(&World) -> T) -> T {
        with(&self.world.borrow())
    }
}

/// See the module.
pub(super) struct SimulatedThread {
    pub(super) shared: Shared,
    pub(super) thread: ThreadNumber,
    pub(super) host: u16,
}

impl Driver for SimulatedThread {
    fn submit(&self, slot: Slot, operation: Operation) {
        let refused = self
            .shared
            .enter(|world| world.submit(self.thread, slot, operation));
        drop(refused);
    }

    fn cancel(&self, slot: Slot) {
        self.shared.enter(|world| world.cancel(self.thread, slot));
    }

    fn close(&self, handle: u64) {
        // It may come from inside the world, where an operation's handle is dropped: so it takes effect on the next
        // entry, before anything else can see the difference.
        self.shared.closes.borrow_mut().push((self.host, handle));
    }

    fn now(&self) -> Instant {
        Instant(self.shared.look(|world| world.now))
    }

    fn wall_clock_ms(&self) -> i64 {
        self.shared.look(|world| world.wall_clock_ms(self.host))
    }

    fn random_u64(&self) -> u64 {
        self.shared.enter(|world| world.random_u64(self.host))
    }

    fn spawn_thread(&self, options: ThreadOptions, main: ThreadMain) -> io::Result<ThreadHandle> {
        let (ended, awaited) = channel::oneshot();
        self.shared
            .enter(|world| world.add_thread(self.host, options.memory_bytes, main, ended));
        Ok(ThreadHandle::new(awaited))
    }

    fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<(u64, SocketAddr)> {
        self.shared
            .enter(|world| world.listen(self.host, address, backlog))
    }

    fn shutdown(&self, connection: u64, how: Shutdown) {
        self.shared.enter(|world| world.shutdown(connection, how));
    }

    fn try_lock(&self, file: u64) -> io::Result<bool> {
        self.shared.enter(|world| world.try_lock(self.host, file))
    }
}

/// The scheduler looks at every injection queue before it lets time pass: nobody needs to be woken.
pub(super) struct NoPoke;

impl Poke for NoPoke {
    fn poke(&self) {}
}
