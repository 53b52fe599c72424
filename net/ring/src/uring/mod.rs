//! The io_uring driver: a real thread, one ring, a helper thread, and one for each disk that may fail.
//!
//! Promises: one io_uring_enter(2) a turn of the loop at most, for everything that the turn's tasks asked for; memory
//! that the kernel may touch stays in the in-flight table until the kernel has answered; every descriptor that an
//! abandoned operation brings is closed; the thread ends with nothing in flight.
//! Never: a call on the ring thread that may wait for a disk or for another thread.
//!
//! | file | what |
//! |---|---|
//! | `ring` | set-up with its fallbacks, the probe and its advice, submission, waiting |
//! | `in_flight` | operation to submission entry, completion to outcome |
//! | `helper` | the threads for calls that may block, and the calls |
//! | `wake` | waking the loop from other threads |
//! | `system` | clocks, random numbers, sockets: small calls that never wait |

mod helper;
mod in_flight;
mod ring;
mod system;
mod wake;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::Budget;
use crate::channel::{self, Gone};
use crate::clock::Instant;
use crate::core::{self, Core};
use crate::driver::{Driver, ThreadMain};
use crate::operation::{Operation, Outcome, Slot};
use crate::region::Region;
use crate::socket::Shutdown;
use crate::thread::{ThreadHandle, ThreadOptions};
use helper::Helpers;
use in_flight::InFlight;
use ring::{Completion, Ring};
pub(crate) use system::allowed_cpus;
use wake::Wake;

/// Starts a pinned thread with its ring, and waits until the ring is there or has been refused.
pub(crate) fn spawn_thread(options: ThreadOptions, main: ThreadMain) -> io::Result<ThreadHandle> {
    let (started, starting) = channel::oneshot();
    let (end, ended) = channel::oneshot();
    std::thread::Builder::new()
        .name(options.name.clone())
        .spawn(move || {
            let driver = match Uring::new(&options) {
                Ok(driver) => Rc::new(driver),
                Err(error) => return drop(started.give(Err(error))),
            };
            let region = match prefaulted(&options) {
                Ok(region) => region,
                Err(error) => return drop(started.give(Err(error))),
            };
            let _ = started.give(Ok(()));
            // Each thread for itself, beside the others, and on the memory that is next to its CPU.
            region.as_ref().inspect(|region| region.touch());
            let budget = Budget::of(options.memory_bytes, region);
            let core = Core::new(driver.clone(), driver.wake.clone(), budget);
            // Both outlive a panic, because the kernel may be writing into memory that they hold.
            abort_on_panic(&options.name, || run(&core, &driver, main));
            drop(core);
            drop(driver);
            let _ = end.give(());
        })?;
    match starting.wait_blocking() {
        Ok(result) => result.map(|()| ThreadHandle::new(ended)),
        Err(Gone) => Err(io::Error::other("the thread ended before its ring was set up")),
    }
}

/// The thread's memory, if it is to have it before it serves.
fn prefaulted(options: &ThreadOptions) -> io::Result<Option<Region>> {
    if !options.prefault {
        return Ok(None);
    }
    let refused = || {
        let ThreadOptions {
            name, memory_bytes, ..
        } = options;
        let what = format!("the system does not give thread {name} its {memory_bytes} bytes of memory");
        io::Error::new(io::ErrorKind::OutOfMemory, what)
    };
    Region::new(options.memory_bytes).ok_or_else(refused).map(Some)
}

fn run(core: &Rc<Core>, driver: &Uring, main: ThreadMain) {
    let _entered = core::enter(core.clone());
    core.start_main(main);
    loop {
        if core.next_deadline().is_some() {
            core.fire_timers(driver.now());
        }
        core.run_batch();
        if core.main_has_ended() {
            break;
        }
        driver.turn(core);
    }
    // A waker in the middle of its work on another thread holds its task back for an instant.
    while !core.cancel_tasks() {
        std::thread::yield_now();
    }
    while core.operations_in_flight() > 0 || driver.closing.get() > 0 {
        driver.turn(core);
    }
}

/// A half-alive thread would serve half of its partitions, so a panic ends the process.
fn abort_on_panic(name: &str, body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        eprintln!("thread {name} panicked (see above): this is a defect, the process stops at once");
        std::process::abort();
    }
}

/// One thread's view of the kernel.
struct Uring {
    ring: RefCell<Ring>,
    /// What the kernel and the helper work on, by slot.
    in_flight: RefCell<Vec<Option<InFlight>>>,
    /// Outcomes of operations that failed before they reached the kernel.
    refused: RefCell<VecDeque<(Slot, Outcome)>>,
    /// Sockets whose close is not completed.
    closing: Cell<usize>,
    /// Files that hold the advisory lock, which must be free as soon as the file is dropped.
    locked: RefCell<BTreeSet<RawFd>>,
    helpers: Helpers,
    wake: Arc<Wake>,
    random: RefCell<system::Random>,
    /// Reused from turn to turn.
    completions: RefCell<Vec<Completion>>,
}

impl Uring {
    fn new(options: &ThreadOptions) -> io::Result<Uring> {
        if let Some(cpu) = options.cpu {
            system::pin(cpu)?;
        }
        let wake = Arc::new(Wake::new()?);
        let mut ring = Ring::new(options.cpu, options.disks.len())?;
        ring.watch(&wake);
        Ok(Uring {
            ring: RefCell::new(ring),
            in_flight: RefCell::default(),
            refused: RefCell::default(),
            closing: Cell::new(0),
            locked: RefCell::default(),
            helpers: Helpers::start(options, wake.clone())?,
            wake,
            random: RefCell::new(system::Random::new()?),
            completions: RefCell::default(),
        })
    }

    /// Submits what is queued, waits if no task is ready, and completes what has ended.
    fn turn(&self, core: &Core) {
        self.helpers.close_files();
        let idle = || !core.has_ready() && self.refused.borrow().is_empty() && !self.helpers.has_answers();
        let wait = idle() && self.wake.fall_asleep_if(idle);
        let timeout = core
            .next_deadline()
            .filter(|_| wait)
            .map(|deadline| deadline - self.now());
        let mut completions = self.completions.take();
        self.ring.borrow_mut().turn(wait, timeout, &mut completions);
        if wait {
            self.wake.awake();
        }
        for completion in completions.drain(..) {
            match completion {
                Completion::Operation { slot, result } => self.complete(core, slot, result),
                Completion::Closed => self.closing.set(self.closing.get() - 1),
                Completion::Woken => self.ring.borrow_mut().watch(&self.wake),
            }
        }
        self.completions.replace(completions);
        for (slot, answer) in self.helpers.take_answers() {
            self.in_flight.borrow_mut()[slot.0] = None;
            core.complete(slot, Outcome::Answered(answer));
        }
        while let Some((slot, outcome)) = self.take_refused() {
            core.complete(slot, outcome);
        }
    }

    fn complete(&self, core: &Core, slot: Slot, result: io::Result<u32>) {
        let in_flight = self.in_flight.borrow_mut()[slot.0].take();
        let in_flight = in_flight.expect("a completion names an operation in flight");
        let outcome = in_flight.finish(result, core);
        if let Outcome::Opened(opened) = &outcome {
            let file = opened.as_ref().ok().map(|file| descriptor(file.id()));
            self.helpers.opened(slot, file);
        }
        core.complete(slot, outcome);
    }

    fn take_refused(&self) -> Option<(Slot, Outcome)> {
        self.refused.borrow_mut().pop_front()
    }

    fn keep(&self, slot: Slot, entry: InFlight) {
        let mut in_flight = self.in_flight.borrow_mut();
        if in_flight.len() <= slot.0 {
            in_flight.resize_with(slot.0 + 1, || None);
        }
        assert!(
            in_flight[slot.0].is_none(),
            "a slot is used again only after its completion"
        );
        in_flight[slot.0] = Some(entry);
    }
}

impl Driver for Uring {
    fn submit(&self, slot: Slot, operation: Operation) {
        let operation = match operation {
            Operation::Blocking { file, call } if !call.is_for_the_kernel() => {
                self.helpers
                    .call(slot, file.as_ref().map(|file| descriptor(file.id())), call);
                self.keep(slot, InFlight::on_helper(file));
                return;
            }
            Operation::Open { path, options } => {
                self.helpers.opens(slot, &path);
                Operation::Open { path, options }
            }
            operation => operation,
        };
        match InFlight::prepare(operation) {
            Ok((entry, in_flight)) => {
                self.keep(slot, in_flight);
                // SAFETY: what the entry points at belongs to `in_flight`, which stays in the table, whatever happens
                // to the waiting future, until the completion of this slot has been taken from the ring.
                unsafe { self.ring.borrow_mut().submit(slot, entry) }
            }
            Err(outcome) => {
                self.helpers.opened(slot, None);
                self.refused.borrow_mut().push_back((slot, outcome));
            }
        }
    }

    fn cancel(&self, slot: Slot) {
        let waits = |entry: &InFlight| entry.waits_for_a_peer();
        if (self.in_flight.borrow().get(slot.0)).is_some_and(|entry| entry.as_ref().is_some_and(waits)) {
            self.ring.borrow_mut().cancel(slot);
        }
    }

    fn close(&self, handle: u64) {
        let fd = descriptor(handle);
        if handle & FILE == 0 {
            self.closing.set(self.closing.get() + 1);
            self.ring.borrow_mut().close(fd);
        } else {
            if self.locked.borrow_mut().remove(&fd) {
                system::unlock(fd);
            }
            // The last close of a removed file frees its blocks, which may take long.
            self.helpers.close(fd);
        }
    }

    fn now(&self) -> Instant {
        Instant(system::clock_ns(libc::CLOCK_MONOTONIC))
    }

    fn wall_clock_ms(&self) -> i64 {
        i64::try_from(system::clock_ns(libc::CLOCK_REALTIME) / 1_000_000).unwrap_or(i64::MAX)
    }

    fn random_u64(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    fn spawn_thread(&self, options: ThreadOptions, main: ThreadMain) -> io::Result<ThreadHandle> {
        spawn_thread(options, main)
    }

    fn listen(&self, address: SocketAddr, backlog: u32) -> io::Result<(u64, SocketAddr)> {
        let (listener, address) = system::listen(address, backlog)?;
        Ok((socket_handle(listener.into_raw_fd()), address))
    }

    fn shutdown(&self, connection: u64, how: Shutdown) {
        system::shutdown(descriptor(connection), how);
    }

    fn try_lock(&self, file: u64) -> io::Result<bool> {
        let locked = system::try_lock(descriptor(file))?;
        if locked {
            self.locked.borrow_mut().insert(descriptor(file));
        }
        Ok(locked)
    }
}

/// Marks the handle of a file: a descriptor in the low 32 bits, this above.
const FILE: u64 = 1 << 32;

fn file_handle(fd: RawFd) -> u64 {
    socket_handle(fd) | FILE
}

fn socket_handle(fd: RawFd) -> u64 {
    u64::try_from(fd).expect("an open descriptor is not negative")
}

fn descriptor(handle: u64) -> RawFd {
    RawFd::try_from(handle & (FILE - 1)).expect("a handle holds a descriptor")
}

#[cfg(test)]
mod tests;
