//! The simulated world outside the threads: hosts, the clock, what is in flight and what happens when.
//!
//! Owns every operation from its submission to its end. It runs no task and wakes none: [`World::fire`] gives the
//! outcomes back to the scheduler, which hands them to the threads.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::chance::Chance;
use super::disk::{BLOCK_BYTES, Disk, Point};
use super::faults::{DiskCounters, DiskFaults, DiskOperation, Fate, Injection};
use super::names::error;
use super::network::{Established, Network, NetworkEvent};
use super::page::Tear;
use crate::channel::Answer as Given;
use crate::driver::{Handle, ThreadMain};
use crate::file::Durability;
use crate::operation::{Answer, Call, Connection, Operation, Outcome, SLICES_MAX, Slot};
use crate::socket::Shutdown;

/// The wall clock of every host at virtual time zero: 2026-01-01 00:00 UTC.
const WALL_CLOCK_START_MS: i64 = 1_767_225_600_000;
/// The usual time of a disk operation, in nanoseconds: from, to.
const DISK_NS: (u64, u64) = (15_000, 180_000);
/// The usual time of a flush, in nanoseconds: from, to.
const SYNC_NS: (u64, u64) = (60_000, 900_000);
/// One byte in so many takes a nanosecond: 2 GB/s.
const BYTES_A_NS: u64 = 2;
/// The time that a ring takes to look at a socket again, in nanoseconds: from, to.
const ATTEMPT_NS: (u64, u64) = (500, 8_000);

/// A thread's number; never used twice.
pub(super) type ThreadNumber = u64;

/// Something that happens at a moment. The numbers are those of operations in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Event {
    Disk(u64),
    /// A socket operation tries, for the first time or again.
    Attempt(u64),
    Cancel(u64),
    Network(NetworkEvent),
}

struct InFlight {
    thread: ThreadNumber,
    slot: Slot,
    host: u16,
    operation: Operation,
    fate: Fate,
    /// For flushes: what they cover.
    point: Option<Point>,
    /// For connection attempts: the endpoint.
    endpoint: Option<u64>,
}

/// An operation that has ended.
pub(super) struct Ended {
    pub(super) thread: ThreadNumber,
    pub(super) slot: Slot,
    pub(super) result: Finished,
}

/// An outcome whose handles are numbers still.
pub(super) enum Finished {
    Opened(io::Result<u64>),
    Connected(io::Result<(u64, SocketAddr, SocketAddr)>),
    Other(Outcome),
}

impl Finished {
    /// The outcome, its handles owned through `own`.
    pub(super) fn into_outcome(self, own: impl FnOnce(u64) -> Handle) -> Outcome {
        match self {
            Finished::Opened(opened) => Outcome::Opened(opened.map(own)),
            Finished::Connected(connected) => {
                Outcome::Connected(connected.map(|(id, peer, local)| Connection {
                    handle: own(id),
                    peer,
                    local,
                }))
            }
            Finished::Other(outcome) => outcome,
        }
    }
}

/// A thread that was asked for and not started yet.
pub(super) struct NewThread {
    pub(super) number: ThreadNumber,
    pub(super) host: u16,
    pub(super) memory_bytes: usize,
    pub(super) main: ThreadMain,
    pub(super) ended: Given<()>,
}

/// A simulated host.
pub(super) struct Host {
    pub(super) disk: Disk,
    pub(super) faults: DiskFaults,
    pub(super) injections: Vec<Injection>,
    pub(super) counters: DiskCounters,
    pub(super) wall_clock_offset_ms: i64,
    /// No disk operation ends before this moment.
    pub(super) disk_stalled_until: u64,
    /// No thread runs before this moment.
    pub(super) paused_until: u64,
    /// Files and sockets that the process has open, and may have.
    pub(super) descriptors: usize,
    pub(super) descriptors_max: usize,
    chance: Chance,
    /// The paths of open files, for faults that are meant for some.
    paths: BTreeMap<u64, Rc<str>>,
}

/// See the module.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) chance: Chance,
    pub(super) hosts: Vec<Host>,
    pub(super) network: Network,
    pub(super) new_threads: Vec<NewThread>,
    /// Handles given up since the world was last entered: host and number.
    closes: Rc<RefCell<Vec<(u16, u64)>>>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    in_flight: BTreeMap<u64, InFlight>,
    by_slot: BTreeMap<(ThreadNumber, Slot), u64>,
    /// Threads whose operations count. Those of others vanish.
    alive: BTreeMap<ThreadNumber, u16>,
    next_number: u64,
    trace: u64,
}

impl World {
    pub(super) fn new(seed: u64, closes: Rc<RefCell<Vec<(u16, u64)>>>) -> World {
        let mut chance = Chance::new(seed);
        let network = Network::new(chance.split());
        World {
            now: 0,
            chance,
            hosts: Vec::new(),
            network,
            new_threads: Vec::new(),
            closes,
            events: BinaryHeap::new(),
            in_flight: BTreeMap::new(),
            by_slot: BTreeMap::new(),
            alive: BTreeMap::new(),
            next_number: 1,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub(super) fn add_host(&mut self, disk_bytes: u64) -> u16 {
        let number = u16::try_from(self.hosts.len()).expect("fewer than 65,536 hosts");
        let chance = self.chance.split();
        self.network.add_host();
        self.hosts.push(Host {
            disk: Disk::new(disk_bytes),
            faults: DiskFaults::default(),
            injections: Vec::new(),
            counters: DiskCounters::default(),
            wall_clock_offset_ms: 0,
            disk_stalled_until: 0,
            paused_until: 0,
            descriptors: 0,
            descriptors_max: usize::MAX,
            chance,
            paths: BTreeMap::new(),
        });
        number
    }

    /// Asks for a new thread; it begins when the scheduler takes it.
    pub(super) fn add_thread(&mut self, host: u16, memory_bytes: usize, main: ThreadMain, ended: Given<()>) {
        let number = self.number();
        self.alive.insert(number, host);
        self.new_threads.push(NewThread {
            number,
            host,
            memory_bytes,
            main,
            ended,
        });
    }

    /// The thread is over: what it may still submit while its futures are dropped vanishes.
    pub(super) fn bury_thread(&mut self, thread: ThreadNumber) {
        self.alive.remove(&thread);
    }

    pub(super) fn has_threads(&self, host: u16) -> bool {
        self.alive.values().any(|on| *on == host)
    }

    /// What happened so far, as one number: two runs of one seed agree on it.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// Adds something that happened to the trace.
    pub(super) fn note(&mut self, kind: u64, value: u64) {
        for part in [self.now, kind, value] {
            self.trace = (self.trace ^ part)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23);
        }
    }

    pub(super) fn wall_clock_ms(&self, host: u16) -> i64 {
        let passed = i64::try_from(self.now / 1_000_000).unwrap_or(i64::MAX);
        WALL_CLOCK_START_MS
            .saturating_add(passed)
            .saturating_add(self.hosts[usize::from(host)].wall_clock_offset_ms)
    }

    pub(super) fn random_u64(&mut self, host: u16) -> u64 {
        self.hosts[usize::from(host)].chance.next_u64()
    }

    /// When the next event is due.
    pub(super) fn next_event(&self) -> Option<u64> {
        self.events.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Closes what was given up since.
    pub(super) fn settle_closes(&mut self) {
        let closes = std::mem::take(&mut *self.closes.borrow_mut());
        for (host, id) in closes {
            let descriptors = &mut self.hosts[usize::from(host)].descriptors;
            *descriptors = descriptors.saturating_sub(1);
            match HandleId::of(id) {
                HandleId::File(number) => {
                    let host = &mut self.hosts[usize::from(host)];
                    host.paths.remove(&number);
                    host.disk.close(number);
                }
                HandleId::Socket(number) => self.network.close(self.now, number),
            }
        }
        self.collect_network();
    }

    /// Begins an operation. One that comes from a thread that is over is given back, to be dropped.
    pub(super) fn submit(
        &mut self,
        thread: ThreadNumber,
        slot: Slot,
        operation: Operation,
    ) -> Option<Operation> {
        let Some(&host) = self.alive.get(&thread) else {
            return Some(operation);
        };
        let serial = self.number();
        let mut in_flight = InFlight {
            thread,
            slot,
            host,
            operation,
            fate: Fate::Good,
            point: None,
            endpoint: None,
        };
        self.note(1, serial);
        let event = match &in_flight.operation {
            Operation::Accept { .. }
            | Operation::Connect { .. }
            | Operation::Receive { .. }
            | Operation::Send { .. } => {
                let at = self.now + self.chance.between(ATTEMPT_NS.0, ATTEMPT_NS.1);
                (at, Event::Attempt(serial))
            }
            _ => (self.plan_disk(&mut in_flight), Event::Disk(serial)),
        };
        self.by_slot.insert((thread, slot), serial);
        self.in_flight.insert(serial, in_flight);
        self.schedule(event.0, event.1);
        None
    }

    /// Ends an operation early, if it only waits.
    pub(super) fn cancel(&mut self, thread: ThreadNumber, slot: Slot) {
        let Some(&serial) = self.by_slot.get(&(thread, slot)) else {
            return;
        };
        let Some(in_flight) = self.in_flight.get(&serial) else {
            return;
        };
        let waits_on = match &in_flight.operation {
            Operation::Accept { listener } => Some(listener.id()),
            Operation::Receive { connection, .. } | Operation::Send { connection, .. } => {
                Some(connection.id())
            }
            Operation::Connect { .. } => None,
            _ => return,
        };
        if let Some(HandleId::Socket(number)) = waits_on.map(HandleId::of) {
            self.network.stop_waiting(number, serial);
        }
        let at = self.now + self.chance.between(ATTEMPT_NS.0, ATTEMPT_NS.1);
        self.schedule(at, Event::Cancel(serial));
    }

    pub(super) fn listen(
        &mut self,
        host: u16,
        address: SocketAddr,
        backlog: u32,
    ) -> io::Result<(u64, SocketAddr)> {
        let on = &mut self.hosts[usize::from(host)];
        on.check_descriptors()?;
        let (number, address) = self.network.listen(host, address, backlog)?;
        on.descriptors += 1;
        Ok((HandleId::Socket(number).id(), address))
    }

    pub(super) fn shutdown(&mut self, connection: u64, how: Shutdown) {
        if let HandleId::Socket(number) = HandleId::of(connection) {
            self.network.shutdown(self.now, number, how);
            self.collect_network();
        }
    }

    pub(super) fn try_lock(&mut self, host: u16, file: u64) -> io::Result<bool> {
        match HandleId::of(file) {
            HandleId::File(number) => self.hosts[usize::from(host)].disk.try_lock(number),
            HandleId::Socket(_) => Err(error(libc::EBADF)),
        }
    }

    /// Makes the next event happen, if it is due. Returns the operation that it ended, if any.
    pub(super) fn fire(&mut self) -> Option<Ended> {
        match self.events.peek() {
            Some(Reverse((at, _, _))) if *at <= self.now => {}
            _ => return None,
        }
        let Reverse((_, _, event)) = self.events.pop()?;
        let ended = match event {
            Event::Disk(serial) => {
                self.note(2, serial);
                let in_flight = self.take(serial)?;
                let (thread, slot) = (in_flight.thread, in_flight.slot);
                Some(Ended {
                    thread,
                    slot,
                    result: self.finish_disk(in_flight),
                })
            }
            Event::Attempt(serial) => {
                self.note(3, serial);
                let in_flight = self.take(serial)?;
                self.attempt(serial, in_flight)
            }
            Event::Cancel(serial) => {
                self.note(4, serial);
                let in_flight = self.take(serial)?;
                Some(self.end_cancelled(in_flight))
            }
            Event::Network(event) => {
                self.note(5, 0);
                self.network.fire(self.now, event);
                None
            }
        };
        self.collect_network();
        ended
    }

    /// Schedules what the network has planned, and tries again whoever it woke.
    pub(super) fn collect_network(&mut self) {
        while let Some((at, event)) = self.network.next_scheduled() {
            self.schedule(at, Event::Network(event));
        }
        while let Some(serial) = self.network.next_woken() {
            let at = self.now + self.chance.between(ATTEMPT_NS.0, ATTEMPT_NS.1);
            self.schedule(at, Event::Attempt(serial));
        }
    }

    /// The host's process is gone. What it had in flight happened or not; its operations are given back to be dropped.
    pub(super) fn end_process(&mut self, host: u16, by_force: bool, by_power_cut: bool) -> Vec<Operation> {
        self.alive.retain(|_, on| *on != host);
        let mut serials: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, in_flight)| in_flight.host == host)
            .map(|(serial, _)| *serial)
            .collect();
        let mut operations = Vec::new();
        while !serials.is_empty() {
            let serial = serials.swap_remove(self.chance.index(serials.len()));
            let Some(in_flight) = self.take(serial) else {
                continue;
            };
            operations.push(self.leave_in_flight(in_flight, by_power_cut));
        }
        let on = &mut self.hosts[usize::from(host)];
        on.disk.close_all();
        on.paths.clear();
        on.descriptors = 0;
        on.disk_stalled_until = on.disk_stalled_until.min(self.now);
        on.paused_until = on.paused_until.min(self.now);
        on.counters.kills += u64::from(by_force);
        self.network.end_process(self.now, host, by_power_cut);
        self.collect_network();
        self.note(6, u64::from(host));
        operations
    }

    /// What was not flushed on the host's disk is lost, or not.
    pub(super) fn tear(&mut self, host: u16, tear: Tear) {
        let on = &mut self.hosts[usize::from(host)];
        let damage = on.disk.tear(tear, &mut on.chance);
        on.counters.power_cuts += 1;
        on.counters.sectors_lost += damage.sectors_lost;
        on.counters.sectors_unreadable += damage.sectors_unreadable;
        on.counters.stale_pages += damage.stale_pages;
        on.counters.names_lost += damage.names_lost;
        self.note(7, damage.sectors_lost);
    }

    /// Everything that is in flight, to be dropped.
    pub(super) fn clear(&mut self) -> Vec<Operation> {
        self.alive.clear();
        std::mem::take(&mut self.in_flight)
            .into_values()
            .map(|in_flight| in_flight.operation)
            .collect()
    }

    /// Decides the operation's fate and duration. Returns when it ends.
    fn plan_disk(&mut self, in_flight: &mut InFlight) -> u64 {
        let host = &mut self.hosts[usize::from(in_flight.host)];
        let path_of = |file: &Rc<Handle>| match HandleId::of(file.id()) {
            HandleId::File(number) => host.paths.get(&number).cloned(),
            HandleId::Socket(_) => None,
        };
        let (kind, path, bytes) = match &in_flight.operation {
            Operation::Open { path, .. } => (DiskOperation::Name, path.to_str().map(Rc::from), 0),
            Operation::Read { file, range, .. } => (DiskOperation::Read, path_of(file), range.len()),
            Operation::Write { file, slices, .. } => {
                let bytes = slices.iter().take(SLICES_MAX).map(|slice| slice.len()).sum();
                (DiskOperation::Write, path_of(file), bytes)
            }
            Operation::Sync { file, .. } => (DiskOperation::Sync, path_of(file), 0),
            Operation::Blocking { file, call } => {
                let kind = match call {
                    Call::SyncDirectory { .. } | Call::SyncFileSystem { .. } => DiskOperation::Sync,
                    _ => DiskOperation::Name,
                };
                let path = match file {
                    Some(file) => path_of(file),
                    None => call_path(call).and_then(|path| path.to_str()).map(Rc::from),
                };
                (kind, path, 0)
            }
            _ => unreachable!("the others are the network's"),
        };
        let path = path.as_deref().unwrap_or_default();
        in_flight.fate = host.faults.fate(kind, path, bytes, &mut host.chance);
        if let Some(injection) = host.injections.iter_mut().find_map(|injection| {
            let errno = injection.errno;
            injection.strikes(kind, path).then_some(errno)
        }) {
            in_flight.fate = Fate::Fails(injection);
        }
        if kind == DiskOperation::Sync {
            in_flight.point = Some(host.disk.submit_flush());
        }
        let (from, to) = if kind == DiskOperation::Sync {
            SYNC_NS
        } else {
            DISK_NS
        };
        let stall = host.faults.stall_ns(&mut host.chance);
        host.counters.stalls += u64::from(stall > 0);
        let usual = host.chance.between(from, to) + bytes as u64 / BYTES_A_NS;
        (self.now + usual + stall).max(host.disk_stalled_until)
    }

    /// A disk operation takes effect and ends.
    fn finish_disk(&mut self, in_flight: InFlight) -> Finished {
        let InFlight {
            host,
            operation,
            fate,
            point,
            ..
        } = in_flight;
        let host = &mut self.hosts[usize::from(host)];
        match fate {
            Fate::Good => {}
            Fate::Fails(libc::EAGAIN | libc::EINTR) | Fate::Short(_) => host.counters.disturbances += 1,
            Fate::Fails(_) => host.counters.errors += 1,
            Fate::Lost | Fate::Misdirected => host.counters.lies += 1,
        }
        let failure = match fate {
            Fate::Fails(errno) => Some(errno),
            Fate::Good | Fate::Short(_) | Fate::Lost | Fate::Misdirected => None,
        };
        match operation {
            Operation::Open { path, options } => {
                if let Some(errno) = failure {
                    return Finished::Opened(Err(error(errno)));
                }
                if let Err(refused) = host.check_descriptors() {
                    return Finished::Opened(Err(refused));
                }
                let number = self.next_number;
                self.next_number += 1;
                let opened = host.disk.open(number, &path, options);
                host.descriptors += usize::from(opened.is_ok());
                if let Some(path) = path.to_str() {
                    host.paths.insert(number, Rc::from(path));
                }
                Finished::Opened(opened.map(|()| HandleId::File(number).id()))
            }
            Operation::Read {
                file,
                mut buffer,
                range,
                offset,
            } => {
                let result = match failure {
                    Some(errno) => Err(error(errno)),
                    None => host.read(file.id(), &mut buffer[range], offset, fate),
                };
                Finished::Other(Outcome::Read(result, buffer))
            }
            Operation::Write {
                file,
                slices,
                offset,
                durability,
            } => {
                let pieces = &slices[..slices.len().min(SLICES_MAX)];
                let durable = durability == Durability::Durable;
                let result = match failure {
                    Some(errno) => {
                        host.leave_part(file.id(), pieces, offset, errno);
                        Err(error(errno))
                    }
                    None => host.write(file.id(), pieces, offset, durable, fate),
                };
                Finished::Other(Outcome::Written(result, slices))
            }
            Operation::Sync { file, .. } => {
                let (id, point) = (
                    HandleId::of(file.id()).number(),
                    point.expect("a flush has its point"),
                );
                let result = match failure {
                    Some(errno) => {
                        host.disk.fail_sync(id, point);
                        Err(error(errno))
                    }
                    None => host.disk.sync(id, point),
                };
                host.counters.syncs += u64::from(result.is_ok());
                Finished::Other(Outcome::Done(result))
            }
            Operation::Blocking { file, call } => {
                let number = file.as_ref().map_or(0, |file| HandleId::of(file.id()).number());
                let result = match failure {
                    Some(errno) => {
                        host.fail_call(&call, point);
                        Err(error(errno))
                    }
                    None => host.call(number, call, point),
                };
                Finished::Other(Outcome::Answered(result))
            }
            _ => unreachable!("the others are the network's"),
        }
    }

    /// A socket operation tries. If it cannot end yet it goes on waiting.
    fn attempt(&mut self, serial: u64, mut in_flight: InFlight) -> Option<Ended> {
        let (thread, slot, now) = (in_flight.thread, in_flight.slot, self.now);
        let host = &mut self.hosts[usize::from(in_flight.host)];
        let takes_descriptor = match in_flight.operation {
            Operation::Accept { .. } => true,
            Operation::Connect { .. } => in_flight.endpoint.is_none(),
            _ => false,
        };
        if takes_descriptor && let Err(refused) = host.check_descriptors() {
            return Some(Ended {
                thread,
                slot,
                result: Finished::Connected(Err(refused)),
            });
        }
        let network = &mut self.network;
        let established = |end: Established| (HandleId::Socket(end.endpoint).id(), end.peer, end.local);
        let result = match &mut in_flight.operation {
            Operation::Accept { listener } => network
                .accept(HandleId::of(listener.id()).number(), serial)
                .map(|accepted| Finished::Connected(accepted.map(established))),
            Operation::Connect { address } => {
                let endpoint = match in_flight.endpoint {
                    Some(endpoint) => Ok(endpoint),
                    None => network.connect(now, in_flight.host, *address),
                };
                match endpoint {
                    Ok(endpoint) => {
                        in_flight.endpoint = Some(endpoint);
                        let connected = network.connected(endpoint, serial);
                        if matches!(connected, Some(Err(_))) {
                            network.close(now, endpoint);
                        }
                        connected.map(|connected| Finished::Connected(connected.map(established)))
                    }
                    Err(unreachable) => Some(Finished::Connected(Err(unreachable))),
                }
            }
            Operation::Receive {
                connection,
                buffer,
                range,
            } => {
                let number = HandleId::of(connection.id()).number();
                match network.receive(number, &mut buffer[range.clone()], serial) {
                    None => None,
                    Some(result) => {
                        let Operation::Receive { buffer, .. } = in_flight.operation else {
                            unreachable!("matched above");
                        };
                        self.note(8, *result.as_ref().unwrap_or(&0) as u64);
                        return Some(Ended {
                            thread,
                            slot,
                            result: Finished::Other(Outcome::Read(result, buffer)),
                        });
                    }
                }
            }
            Operation::Send { connection, slices } => {
                let number = HandleId::of(connection.id()).number();
                let pieces = &slices[..slices.len().min(SLICES_MAX)];
                network
                    .send(now, number, pieces, serial)
                    .map(|result| Finished::Other(Outcome::Written(result, std::mem::take(slices))))
            }
            _ => unreachable!("the others are the disk's"),
        };
        if let Some(Finished::Connected(Ok(_))) = &result {
            host.descriptors += 1;
        }
        match result {
            Some(result) => Some(Ended { thread, slot, result }),
            None => {
                self.by_slot.insert((thread, slot), serial);
                self.in_flight.insert(serial, in_flight);
                None
            }
        }
    }

    fn end_cancelled(&mut self, in_flight: InFlight) -> Ended {
        let cancelled = || error(libc::ECANCELED);
        if let Some(endpoint) = in_flight.endpoint {
            self.network.close(self.now, endpoint);
        }
        let result = match in_flight.operation {
            Operation::Accept { .. } | Operation::Connect { .. } => Finished::Connected(Err(cancelled())),
            Operation::Receive { buffer, .. } => Finished::Other(Outcome::Read(Err(cancelled()), buffer)),
            Operation::Send { slices, .. } => Finished::Other(Outcome::Written(Err(cancelled()), slices)),
            _ => unreachable!("only waiting operations are cancelled"),
        };
        Ended {
            thread: in_flight.thread,
            slot: in_flight.slot,
            result,
        }
    }

    /// The process died with this in flight: it happens whole, in part, or not at all.
    fn leave_in_flight(&mut self, in_flight: InFlight, by_power_cut: bool) -> Operation {
        let InFlight {
            host,
            operation,
            fate,
            point,
            endpoint,
            ..
        } = in_flight;
        if let Some(endpoint) = endpoint {
            self.network.close(self.now, endpoint);
        }
        let host = &mut self.hosts[usize::from(host)];
        if matches!(fate, Fate::Fails(_)) || host.chance.happens(0.4) {
            return operation;
        }
        match &operation {
            Operation::Open { path, options } => {
                // A process that died has no use for the handle, but the file may be made, or cut.
                let number = self.next_number;
                self.next_number += 1;
                let _ = host.disk.open(number, path, *options);
            }
            Operation::Write {
                file,
                slices,
                offset,
                durability,
            } => {
                let pieces = &slices[..slices.len().min(SLICES_MAX)];
                let durable = *durability == Durability::Durable && !by_power_cut && host.chance.happens(0.5);
                if host.chance.happens(0.3) {
                    host.leave_part(file.id(), pieces, *offset, libc::EIO);
                } else {
                    let _ = host.write(file.id(), pieces, *offset, durable, Fate::Good);
                }
            }
            Operation::Sync { file, .. } => {
                if let Some(point) = point {
                    let _ = host.disk.sync(HandleId::of(file.id()).number(), point);
                }
            }
            Operation::Blocking { file, call } => {
                let number = file.as_ref().map_or(0, |file| HandleId::of(file.id()).number());
                let _ = host.call(number, call.clone(), point);
            }
            _ => {}
        }
        operation
    }

    fn take(&mut self, serial: u64) -> Option<InFlight> {
        let in_flight = self.in_flight.remove(&serial)?;
        self.by_slot.remove(&(in_flight.thread, in_flight.slot));
        Some(in_flight)
    }

    fn schedule(&mut self, at: u64, event: Event) {
        let number = self.number();
        self.events.push(Reverse((at, number, event)));
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

impl Host {
    /// Whether one more file or socket may be open (EMFILE).
    fn check_descriptors(&self) -> io::Result<()> {
        if self.descriptors < self.descriptors_max {
            Ok(())
        } else {
            Err(error(libc::EMFILE))
        }
    }

    fn read(&mut self, id: u64, out: &mut [u8], offset: u64, fate: Fate) -> io::Result<usize> {
        let number = HandleId::of(id).number();
        let mut length = out.len();
        if let Fate::Short(bytes) = fate {
            length = self.disk.short_read_length(number, bytes, length);
        }
        let read = self
            .disk
            .read(number, &mut out[..length], offset, &mut self.chance)?;
        self.counters.reads += 1;
        Ok(read)
    }

    fn write<S: AsRef<[u8]>>(
        &mut self,
        id: u64,
        pieces: &[S],
        offset: u64,
        durable: bool,
        fate: Fate,
    ) -> io::Result<usize> {
        let number = HandleId::of(id).number();
        let mut offset = offset;
        let mut length = usize::MAX;
        match fate {
            Fate::Short(bytes) => length = bytes,
            Fate::Lost => {
                self.disk.check_write(number, pieces, offset)?;
                return Ok(pieces.iter().map(|piece| piece.as_ref().len()).sum());
            }
            Fate::Misdirected => {
                let blocks = self.disk.length(number)?.div_ceil(BLOCK_BYTES as u64);
                offset = self.chance.below(blocks.max(1)) * BLOCK_BYTES as u64;
            }
            Fate::Good | Fate::Fails(_) => {}
        }
        let written = self
            .disk
            .write(number, pieces, length, offset, durable, &mut self.chance)?;
        self.counters.writes += 1;
        self.counters.bytes_written += written as u64;
        Ok(written)
    }

    /// A write failed on the way: some of its sectors may be there.
    fn leave_part<S: AsRef<[u8]>>(&mut self, id: u64, pieces: &[S], offset: u64, errno: i32) {
        if errno != libc::EIO || self.chance.happens(0.5) {
            return;
        }
        let whole: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        let length = self.chance.index(whole / super::page::SECTOR_BYTES + 1) * super::page::SECTOR_BYTES;
        if length > 0 {
            let _ = self.write(id, pieces, offset, false, Fate::Short(length));
        }
    }

    fn call(&mut self, file: u64, call: Call, point: Option<Point>) -> io::Result<Answer> {
        let disk = &mut self.disk;
        let point = || point.expect("a flush has its point");
        match call {
            Call::Allocate { range, mode } => disk.allocate(file, range, mode).map(|()| Answer::Done),
            Call::SetLength { bytes } => disk.set_length(file, bytes).map(|()| Answer::Done),
            Call::Length => disk.length(file).map(Answer::Length),
            Call::CreateAll { path } => disk.create_all(&path).map(|()| Answer::Done),
            Call::List { path } => disk.list(&path).map(Answer::Entries),
            Call::Exists { path } => disk.exists(&path).map(Answer::Exists),
            Call::Rename { from, to } => disk.rename(&from, &to).map(|()| Answer::Done),
            Call::RemoveFile { path } => disk.remove_file(&path).map(|()| Answer::Done),
            Call::RemoveAll { path } => disk.remove_all(&path).map(|()| Answer::Done),
            Call::SyncDirectory { path } => {
                self.counters.syncs += 1;
                disk.sync_directory(&path, point()).map(|()| Answer::Done)
            }
            Call::SyncFileSystem { path } => {
                self.counters.syncs += 1;
                disk.sync_file_system(&path, point()).map(|()| Answer::Done)
            }
            Call::Alignment { path } => disk.alignment(&path).map(Answer::Alignment),
        }
    }

    /// A call failed: what a flush should have covered stays undecided.
    fn fail_call(&mut self, call: &Call, point: Option<Point>) {
        let Some(point) = point else { return };
        match call {
            Call::SyncDirectory { path } => self.disk.fail_sync_directory(path, point),
            Call::SyncFileSystem { .. } => self.disk.fail_sync_file_system(point),
            _ => {}
        }
    }
}

/// What a handle's number stands for: even ones are files, odd ones sockets.
#[derive(Debug, Clone, Copy)]
enum HandleId {
    File(u64),
    Socket(u64),
}

impl HandleId {
    fn of(id: u64) -> HandleId {
        if id.is_multiple_of(2) {
            HandleId::File(id / 2)
        } else {
            HandleId::Socket(id / 2)
        }
    }

    fn id(self) -> u64 {
        match self {
            HandleId::File(number) => number * 2,
            HandleId::Socket(number) => number * 2 + 1,
        }
    }

    fn number(self) -> u64 {
        match self {
            HandleId::File(number) | HandleId::Socket(number) => number,
        }
    }
}

fn call_path(call: &Call) -> Option<&std::path::Path> {
    match call {
        Call::Allocate { .. } | Call::SetLength { .. } | Call::Length => None,
        Call::CreateAll { path }
        | Call::List { path }
        | Call::Exists { path }
        | Call::RemoveFile { path }
        | Call::RemoveAll { path }
        | Call::SyncDirectory { path }
        | Call::SyncFileSystem { path }
        | Call::Alignment { path } => Some(path),
        Call::Rename { to, .. } => Some(to),
    }
}
