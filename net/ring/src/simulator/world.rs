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
use super::host::{Finished, HandleId, Host, Plan};
use super::names::error;
use super::network::{Established, Network, NetworkEvent};
use super::page::Tear;
use crate::channel::Answer as Given;
use crate::driver::ThreadMain;
use crate::operation::{Operation, Outcome, SLICES_MAX, Slot};
use crate::socket::Shutdown;

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
    /// For operations on the disk.
    plan: Option<Plan>,
    /// For connection attempts: the endpoint.
    endpoint: Option<u64>,
}

/// An operation that has ended.
pub(super) struct Ended {
    pub(super) thread: ThreadNumber,
    pub(super) slot: Slot,
    pub(super) result: Finished,
}

/// A thread that was asked for and not started yet.
pub(super) struct NewThread {
    pub(super) number: ThreadNumber,
    pub(super) host: u16,
    pub(super) memory_bytes: usize,
    pub(super) main: ThreadMain,
    pub(super) ended: Given<()>,
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
        self.hosts.push(Host::new(disk_bytes, chance));
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
        self.hosts[usize::from(host)].wall_clock_ms(self.now)
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
            let host = &mut self.hosts[usize::from(host)];
            host.descriptors = host.descriptors.saturating_sub(1);
            match HandleId::of(id) {
                HandleId::File(number) => host.close(number),
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
        self.note(1, serial);
        let is_for_network = matches!(
            operation,
            Operation::Accept { .. }
                | Operation::Connect { .. }
                | Operation::Receive { .. }
                | Operation::Send { .. }
        );
        let (at, event, plan) = if is_for_network {
            let at = self.now + self.chance.between(ATTEMPT_NS.0, ATTEMPT_NS.1);
            (at, Event::Attempt(serial), None)
        } else {
            let plan = self.hosts[usize::from(host)].plan(self.now, &operation);
            (plan.ends_at, Event::Disk(serial), Some(plan))
        };
        let in_flight = InFlight {
            thread,
            slot,
            host,
            operation,
            plan,
            endpoint: None,
        };
        self.by_slot.insert((thread, slot), serial);
        self.in_flight.insert(serial, in_flight);
        self.schedule(at, event);
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
                let number = self.number();
                let host = &mut self.hosts[usize::from(in_flight.host)];
                let plan = in_flight.plan.expect("the disk's operations have a plan");
                Some(Ended {
                    thread: in_flight.thread,
                    slot: in_flight.slot,
                    result: host.finish(in_flight.operation, plan, number),
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
            if let Some(endpoint) = in_flight.endpoint {
                self.network.close(self.now, endpoint);
            }
            let number = self.number();
            if let Some(plan) = in_flight.plan {
                let host = &mut self.hosts[usize::from(host)];
                host.leave(&in_flight.operation, plan, by_power_cut, number);
            }
            operations.push(in_flight.operation);
        }
        let on = &mut self.hosts[usize::from(host)];
        on.end_process(self.now);
        on.counters.kills += u64::from(by_force);
        self.network.end_process(self.now, host, by_power_cut);
        self.collect_network();
        self.note(6, u64::from(host));
        operations
    }

    /// What was not flushed on the host's disk is lost, or not.
    pub(super) fn tear(&mut self, host: u16, tear: Tear) {
        let lost = self.hosts[usize::from(host)].tear(tear);
        self.note(7, lost);
    }

    /// Everything that is in flight, to be dropped.
    pub(super) fn clear(&mut self) -> Vec<Operation> {
        self.alive.clear();
        std::mem::take(&mut self.in_flight)
            .into_values()
            .map(|in_flight| in_flight.operation)
            .collect()
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
