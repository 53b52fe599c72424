//! A whole cluster in one process: seeded order, virtual time, disks and a network that fail.
//!
//! Deterministic: the same seed and the same program give the same run, event for event ([`Simulator::trace_hash`]).
//! Time is virtual: it passes when nothing is ready, and a little with every poll of a task, so that no loop stands
//! still. A panic of a simulated task reaches the test, and the seed is printed; [`for_each_seed`] runs many.
//!
//! What the disk does is said in `simulator/disk.rs`, what the network does in `simulator/network.rs`. Neither
//! misbehaves unless it is told to, with one exception: [`Simulator::power_cut`] always treats what was not flushed
//! as badly as the seed says.
//!
//! ```
//! use std::time::Duration;
//! use millstream_ring::{file, simulator::Simulator};
//!
//! let mut simulator = Simulator::new(7);
//! let host = simulator.host(1 << 30);
//! let length = simulator.run(host, 1 << 20, Duration::from_secs(1), || async {
//!     let options = file::OpenOptions { write: true, create: true, ..Default::default() };
//!     let file = file::File::open("/f".as_ref(), options).await.expect("a good disk");
//!     file.write_all_at(vec![vec![1; 100].into()], 0, file::Durability::Completed).await.expect("a good disk");
//!     file.len().await.expect("a good disk")
//! });
//! assert_eq!(length, Some(100));
//! ```

mod chance;
mod disk;
mod driver;
mod endpoint;
mod faults;
mod host;
mod inode;
mod names;
mod network;
mod page;
mod ranges;
mod seeds;
mod stale;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::driver::{NoPoke, Shared, SimulatedThread};
pub use self::faults::{DiskCounters, DiskFaults, DiskOperation, Injection, NetworkFaults};
use self::host::Host;
use self::network::{address_of, nanoseconds};
use self::page::Tear;
pub use self::seeds::for_each_seed;
use self::world::{NewThread, ThreadNumber, World};
use crate::buffer::Budget;
use crate::channel::Answer;
use crate::clock::Instant;
use crate::core::{self, Core};
use crate::driver::ThreadMain;

/// What one poll of a task costs in virtual time, in nanoseconds: from, to.
const POLL_NS: (u64, u64) = (100, 1_500);
/// Polls of one thread in a row, at most, before the seed chooses again.
const POLLS_MAX: u64 = 4;

/// A simulated host: a disk, an address, a clock, and at most one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u16);

impl HostId {
    /// Its address: 10.0.0.(number + 1).
    pub fn address(self) -> IpAddr {
        address_of(self.0)
    }
}

/// How a power cut treats sectors that were not flushed. Probabilities are for each sector on its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerCut {
    /// It comes back as it was written last, or by one of the writes before.
    pub new: f64,
    /// It comes back unreadable.
    pub unreadable: f64,
}

/// A simulated cluster.
pub struct Simulator {
    seed: u64,
    shared: Shared,
    threads: BTreeMap<ThreadNumber, Thread>,
    /// Kept between steps, to spare allocations.
    ready: Vec<ThreadNumber>,
}

struct Thread {
    host: u16,
    core: Rc<Core>,
    /// Answered when the thread has ended.
    ended: Answer<()>,
    /// The first task has returned, the others were cancelled; operations may be in flight still.
    is_ending: bool,
}

impl Simulator {
    /// An empty cluster at virtual time zero.
    pub fn new(seed: u64) -> Simulator {
        Simulator {
            seed,
            shared: Shared::new(seed),
            threads: BTreeMap::new(),
            ready: Vec::new(),
        }
    }

    /// A new host with an empty disk of `disk_bytes`. Its address is 10.0.0.(id + 1).
    pub fn host(&mut self, disk_bytes: u64) -> HostId {
        HostId(self.shared.enter(|world| world.add_host(disk_bytes)))
    }

    /// Starts the host's process with its first thread.
    ///
    /// # Panics
    /// If the host's process runs already.
    pub fn start<F, Fut>(&mut self, host: HostId, memory_bytes: usize, main: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        assert!(!self.is_running(host), "{host:?} has a process already");
        let main: ThreadMain = Box::new(move || Box::pin(main()));
        let (ended, _) = crate::channel::oneshot();
        self.shared
            .enter(|world| world.add_thread(host.0, memory_bytes, main, ended));
    }

    /// Starts a process on `host`, runs the cluster until its first task returns, and gives what that returned; `None`
    /// if it was killed or `limit` of virtual time passed first. For clients and checks of a test.
    ///
    /// # Panics
    /// If the host's process runs already.
    pub fn run<F, Fut, T>(&mut self, host: HostId, memory_bytes: usize, limit: Duration, main: F) -> Option<T>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let output = Arc::new(Mutex::new(None));
        let given = output.clone();
        self.start(host, memory_bytes, move || async move {
            let value = main().await;
            *given.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        self.run_until(limit, |simulator| !simulator.is_running(host));
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.take()
    }

    /// Whether the host's process has a thread left.
    pub fn is_running(&self, host: HostId) -> bool {
        self.shared.look(|world| world.has_threads(host.0))
    }

    /// Kills the process: its memory is gone, what it had in flight happens or not, the disk's cache survives, its
    /// connections are reset. Nothing happens if no process runs.
    pub fn kill(&mut self, host: HostId) {
        if self.is_running(host) {
            self.end_process(host.0, false);
        }
    }

    /// Cuts the host's power: kills the process, and every sector that was not flushed comes back old, new or
    /// unreadable, each on its own; names, sizes and extents that were not flushed may be gone. How bad it gets
    /// is the seed's choice.
    pub fn power_cut(&mut self, host: HostId) {
        let cut = self.shared.enter(|world| {
            let chance = &mut world.chance;
            let new = match chance.below(4) {
                0 => 0.0,
                1 => 1.0,
                _ => chance.below(1000) as f64 / 1000.0,
            };
            let unreadable = [0.0, 0.0, 0.05, 0.25][chance.index(4)];
            PowerCut { new, unreadable }
        });
        self.power_cut_with(host, cut);
    }

    /// Like [`Simulator::power_cut`], as bad as `cut` says.
    pub fn power_cut_with(&mut self, host: HostId, cut: PowerCut) {
        self.end_process(host.0, true);
        self.shared.enter(|world| {
            world.tear(
                host.0,
                Tear {
                    new: cut.new,
                    unreadable: cut.unreadable,
                },
            );
        });
    }

    /// Runs events until `done` says so (checked after every event) or `limit` of virtual time has passed.
    /// Returns whether `done` was reached.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Simulator) -> bool) -> bool {
        let deadline = self.now().0.saturating_add(nanoseconds(limit));
        loop {
            if done(self) {
                return true;
            }
            if !self.step(deadline) {
                return done(self);
            }
        }
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// The virtual time since the cluster began.
    pub fn now(&self) -> Instant {
        Instant(self.shared.look(|world| world.now))
    }

    /// The seed that it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Everything that happened so far, as one number: two runs of one seed must agree on it.
    pub fn trace_hash(&self) -> u64 {
        self.shared.look(World::trace)
    }

    /// A number from the simulator's own stream, for a test's choices.
    pub fn random_u64(&mut self) -> u64 {
        self.shared.enter(|world| world.chance.next_u64())
    }

    /// What goes wrong on the host's disk from now on.
    pub fn set_disk_faults(&mut self, host: HostId, faults: DiskFaults) {
        self.on(host, |host| {
            host.disk.set_stale_cache(faults.stale_buffered_read);
            host.faults = faults;
        });
    }

    /// Makes certain operations to come fail, besides those that fail by chance.
    pub fn inject(&mut self, host: HostId, injection: Injection) {
        self.on(host, |host| host.injections.push(injection));
    }

    /// Ends every disk fault of the host: by chance, injected and stalls. What was lost stays lost.
    pub fn heal_disk(&mut self, host: HostId) {
        self.set_disk_faults(host, DiskFaults::default());
        self.on(host, |host| {
            host.injections.clear();
            host.disk_stalled_until = 0;
        });
    }

    /// No disk operation that is submitted from now on ends within `duration`.
    pub fn stall_disk(&mut self, host: HostId, duration: Duration) {
        let until = self.now().0.saturating_add(nanoseconds(duration));
        self.on(host, |host| host.disk_stalled_until = until);
    }

    /// Changes the size of the host's disk, in bytes; what is on it stays.
    pub fn set_disk_bytes(&mut self, host: HostId, bytes: u64) {
        self.on(host, |host| host.disk.set_bytes(bytes));
    }

    /// Bytes that the host's disk has free.
    pub fn disk_bytes_free(&self, host: HostId) -> u64 {
        self.shared
            .enter(|world| world.hosts[usize::from(host.0)].disk.bytes_free())
    }

    /// Leaves whole 4 KiB blocks of `bytes` in the disk's free space, as its former use left them there: new extents
    /// may show them after a power cut.
    pub fn leave_stale_blocks(&mut self, host: HostId, bytes: &[u8]) {
        self.on(host, |host| host.disk.leave_stale_blocks(bytes));
    }

    /// Flips one bit (0 to 7) of the byte at `offset`, flushed or not. False if the file is shorter.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn flip_bit(
        &mut self,
        host: HostId,
        path: impl AsRef<Path>,
        offset: u64,
        bit: u8,
    ) -> io::Result<bool> {
        self.on(host, |host| host.disk.flip_bit(path.as_ref(), offset, bit & 7))
    }

    /// Makes the 512-byte sector at `offset` give EIO until it is written again. False if the file is shorter.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn make_unreadable(&mut self, host: HostId, path: impl AsRef<Path>, offset: u64) -> io::Result<bool> {
        self.on(host, |host| host.disk.make_unreadable(path.as_ref(), offset))
    }

    /// Every file of the host with its size in bytes, by path.
    pub fn files(&self, host: HostId) -> Vec<(String, u64)> {
        self.shared
            .look(|world| world.hosts[usize::from(host.0)].disk.files())
    }

    /// The bytes of a file, as direct reads see them.
    ///
    /// # Errors
    /// If there is no such file, or a sector of it cannot be read.
    pub fn read_file(&self, host: HostId, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.shared
            .look(|world| world.hosts[usize::from(host.0)].disk.contents(path.as_ref()))
    }

    /// How often something happened on the host.
    pub fn disk_counters(&self, host: HostId) -> DiskCounters {
        self.shared
            .look(|world| world.hosts[usize::from(host.0)].counters)
    }

    /// The most files and sockets that the host's process may have open (EMFILE beyond it). At first there is no limit.
    pub fn set_descriptors_max(&mut self, host: HostId, descriptors: usize) {
        self.on(host, |host| host.descriptors_max = descriptors);
    }

    /// Files and sockets that the host's process has open.
    pub fn descriptors(&self, host: HostId) -> usize {
        self.shared
            .enter(|world| world.hosts[usize::from(host.0)].descriptors)
    }

    /// Moves the host's wall clock by so many milliseconds, either way. The monotonic clock does not follow.
    pub fn jump_wall_clock(&mut self, host: HostId, milliseconds: i64) {
        self.on(host, |host| {
            host.wall_clock_offset_ms = host.wall_clock_offset_ms.saturating_add(milliseconds);
        });
    }

    /// Stops the host's process for `duration`, as SIGSTOP and SIGCONT do: its operations end meanwhile.
    pub fn pause(&mut self, host: HostId, duration: Duration) {
        let until = self.now().0.saturating_add(nanoseconds(duration));
        self.on(host, |host| host.paused_until = until);
    }

    /// Delays and habits of the network from now on.
    pub fn set_network_faults(&mut self, faults: NetworkFaults) {
        self.shared.enter(|world| world.network.set_faults(faults));
    }

    /// Nothing passes between the two hosts, either way, until it is healed. Connections stay.
    pub fn partition(&mut self, one: HostId, other: HostId) {
        self.partition_one_way(one, other);
        self.partition_one_way(other, one);
    }

    /// Nothing passes from `from` to `to`; the other way it does.
    pub fn partition_one_way(&mut self, from: HostId, to: HostId) {
        self.shared.enter(|world| world.network.cut(from.0, to.0));
    }

    /// Ends a partition, both ways.
    pub fn heal(&mut self, one: HostId, other: HostId) {
        self.shared.enter(|world| {
            let now = world.now;
            world.network.heal(now, one.0, other.0);
            world.network.heal(now, other.0, one.0);
            world.collect_network();
        });
    }

    /// Ends every partition.
    pub fn heal_all(&mut self) {
        let cuts = self.shared.look(|world| world.network.cuts());
        for (from, to) in cuts {
            self.heal(HostId(from), HostId(to));
        }
    }

    /// Resets every connection between two hosts (or within one) at both ends; what was under way is lost.
    /// Returns the number of ends.
    pub fn reset_connections(&mut self, one: HostId, other: HostId) -> u64 {
        self.shared.enter(|world| {
            let ends = world.network.reset_between(one.0, other.0);
            world.collect_network();
            ends
        })
    }

    fn on<T>(&mut self, host: HostId, with: impl FnOnce(&mut Host) -> T) -> T {
        self.shared
            .enter(|world| with(&mut world.hosts[usize::from(host.0)]))
    }

    /// Makes one thing happen: a few polls of a ready thread, or an event that is due; or lets time pass to the next.
    /// False if nothing happens until `deadline`: then it is `deadline` now.
    fn step(&mut self, deadline: u64) -> bool {
        self.adopt_threads();
        let now = self.now().0;
        if now >= deadline {
            return false;
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let mut next = self.shared.look(World::next_event);
        for (&number, thread) in &self.threads {
            let paused_until = self
                .shared
                .look(|world| world.hosts[usize::from(thread.host)].paused_until);
            let runs_at = if thread.core.has_ready() {
                Some(now)
            } else {
                thread.core.next_deadline().map(|at| at.0)
            };
            match runs_at.map(|at| at.max(paused_until)) {
                Some(at) if at <= now => ready.push(number),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        let is_event_due = self.shared.look(World::next_event).is_some_and(|at| at <= now);
        let choices = ready.len() + usize::from(is_event_due);
        let happened = if choices == 0 {
            let to = next.unwrap_or(deadline).min(deadline);
            self.shared.enter(|world| world.now = to);
            next.is_some_and(|at| at <= deadline)
        } else {
            let choice = self.shared.enter(|world| world.chance.index(choices));
            match ready.get(choice) {
                Some(&number) => self.run_thread(number),
                None => self.fire_event(),
            }
            true
        };
        self.ready = ready;
        happened
    }

    fn adopt_threads(&mut self) {
        if self.shared.look(|world| world.new_threads.is_empty()) {
            return;
        }
        let new_threads = self.shared.enter(|world| std::mem::take(&mut world.new_threads));
        for NewThread {
            number,
            host,
            memory_bytes,
            main,
            ended,
        } in new_threads
        {
            let driver = Rc::new(SimulatedThread {
                shared: self.shared.clone(),
                thread: number,
                host,
            });
            let core = Core::new(driver, Arc::new(NoPoke), Budget::new(memory_bytes));
            let entered = core::enter(core.clone());
            core.start_main(main);
            drop(entered);
            self.threads.insert(
                number,
                Thread {
                    host,
                    core,
                    ended,
                    is_ending: false,
                },
            );
        }
    }

    fn run_thread(&mut self, number: ThreadNumber) {
        let core = self.threads[&number].core.clone();
        let entered = core::enter(core.clone());
        core.fire_timers(self.now());
        let polls = self.shared.enter(|world| {
            world.note(9, number);
            world.chance.between(1, POLLS_MAX)
        });
        for _ in 0..polls {
            let shared = &self.shared;
            if !core.run_one(|choices| shared.enter(|world| world.chance.index(choices))) {
                break;
            }
            self.shared
                .enter(|world| world.now += world.chance.between(POLL_NS.0, POLL_NS.1));
            if core.main_has_ended() {
                break;
            }
        }
        drop(entered);
        self.end_thread_if_done(number);
    }

    fn fire_event(&mut self) {
        let Some(ended) = self.shared.enter(World::fire) else {
            return;
        };
        let Some(thread) = self.threads.get(&ended.thread) else {
            return;
        };
        let core = thread.core.clone();
        let entered = core::enter(core.clone());
        core.complete(ended.slot, ended.result.into_outcome(|id| core.own(id)));
        drop(entered);
        if self.threads[&ended.thread].is_ending {
            self.end_thread_if_done(ended.thread);
        }
    }

    /// The first task has returned: the others are cancelled, what is in flight is waited for, then the thread ends.
    fn end_thread_if_done(&mut self, number: ThreadNumber) {
        let Some(thread) = self.threads.get_mut(&number) else {
            return;
        };
        if !thread.core.main_has_ended() && !thread.is_ending {
            return;
        }
        let core = thread.core.clone();
        if !std::mem::replace(&mut thread.is_ending, true) {
            cancel_tasks(&core);
        }
        if core.operations_in_flight() > 0 {
            return;
        }
        let Some(thread) = self.threads.remove(&number) else {
            return;
        };
        let host = thread.host;
        let was_last = self.shared.enter(|world| {
            world.bury_thread(number);
            !world.has_threads(host)
        });
        drop(thread.core);
        drop(core);
        // Nobody may wait for it.
        let _ = thread.ended.give(());
        if was_last {
            let operations = self.shared.enter(|world| world.end_process(host, false, false));
            drop(operations);
        }
    }

    fn end_process(&mut self, host: u16, by_power_cut: bool) {
        let (operations, unstarted) = self.shared.enter(|world| {
            let operations = world.end_process(host, true, by_power_cut);
            let (unstarted, others) = std::mem::take(&mut world.new_threads)
                .into_iter()
                .partition::<Vec<_>, _>(|thread| thread.host == host);
            world.new_threads = others;
            (operations, unstarted)
        });
        drop(unstarted);
        let numbers: Vec<ThreadNumber> = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.host == host)
            .map(|(number, _)| *number)
            .collect();
        let dead: Vec<Thread> = numbers
            .iter()
            .filter_map(|number| self.threads.remove(number))
            .collect();
        // Futures are dropped, and what they try to do in their drop vanishes: their threads do not count any more.
        for thread in &dead {
            cancel_tasks(&thread.core);
        }
        drop(operations);
        drop(dead);
        self.shared.enter(|_| ());
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Tasks in the middle of a panic are not fit to be dropped.
            eprintln!(
                "simulator: seed {}, {} ns of virtual time",
                self.seed,
                self.now().0
            );
            std::mem::forget(std::mem::take(&mut self.threads));
            std::mem::forget(self.shared.clone());
            return;
        }
        let (operations, unstarted) = self
            .shared
            .enter(|world| (world.clear(), std::mem::take(&mut world.new_threads)));
        for thread in self.threads.values() {
            cancel_tasks(&thread.core);
        }
        drop(operations);
        drop(unstarted);
    }
}

fn cancel_tasks(core: &Rc<Core>) {
    let entered = core::enter(core.clone());
    // Every waker is on this thread: nobody can be in the middle of waking.
    while !core.cancel_tasks() {}
    drop(entered);
}
