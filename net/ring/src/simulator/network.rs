//! The simulated network: listeners, connections, byte streams, and the paths between hosts that delay and cut them.
//!
//! A pure model. It never waits: it says what shall happen later ([`Network::next_scheduled`]) and who should try again
//! ([`Network::next_woken`]), and its caller keeps the clock. The rules:
//!
//! - Within one direction of a connection bytes arrive once and in order. Nothing orders two connections.
//! - A receiver that does not read is not sent to: the window is bounded, and the sender waits.
//! - A cut path loses nothing that TCP would send again: what is under way waits for the path to heal. A connection
//!   attempt gives up after [`CONNECT_PATIENCE`].
//! - A process that dies resets its connections; bytes that it had sent may be lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::chance::Chance;
use super::endpoint::{Arrived, Endpoint, Packet, Progress};
use super::faults::NetworkFaults;
use super::names::error;
use crate::socket::Shutdown;

/// How long connect(2) tries on Linux with its default of 6 repetitions.
const CONNECT_PATIENCE: Duration = Duration::from_secs(127);
/// The pause before a connection attempt is repeated.
const CONNECT_REPEAT: Duration = Duration::from_secs(1);
/// The ports that connect(2) and port 0 take from, as Linux does.
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;
/// The longest time until the peers of a host without power learn of it.
const POWER_CUT_NOTICE: Duration = Duration::from_secs(2);

/// Something that happens later on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NetworkEvent {
    /// A connection attempt reaches the host it is meant for.
    Attempt(u64),
    /// The answer to it comes back.
    Answered(u64),
    /// The next packet of this endpoint arrives.
    Arrival(u64),
}

/// Who waits: chosen by the caller.
pub(super) type Waiter = u64;

/// A connection that was accepted or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Established {
    pub(super) endpoint: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

#[derive(Debug)]
struct Listener {
    host: u16,
    address: SocketAddr,
    backlog: usize,
    queue: VecDeque<u64>,
    waiters: Vec<Waiter>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Network {
    faults: NetworkFaults,
    chance: Chance,
    listeners: BTreeMap<u64, Listener>,
    endpoints: BTreeMap<u64, Endpoint>,
    /// Directions that nothing passes: from, to.
    cut: BTreeSet<(u16, u16)>,
    hosts: u16,
    next_number: u64,
    next_port: u16,
    scheduled: Vec<(u64, NetworkEvent)>,
    woken: Vec<Waiter>,
}

impl Network {
    pub(super) fn new(mut chance: Chance) -> Network {
        let ports = u64::from(EPHEMERAL_PORTS.end() - EPHEMERAL_PORTS.start());
        let next_port = EPHEMERAL_PORTS.start() + u16::try_from(chance.below(ports)).unwrap_or(0);
        Network {
            faults: NetworkFaults::default(),
            chance,
            listeners: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            cut: BTreeSet::new(),
            hosts: 0,
            next_number: 1,
            next_port,
            scheduled: Vec::new(),
            woken: Vec::new(),
        }
    }

    pub(super) fn set_faults(&mut self, faults: NetworkFaults) {
        self.faults = faults;
    }

    pub(super) fn add_host(&mut self) {
        self.hosts += 1;
    }

    /// What shall happen, and when; each is given once.
    pub(super) fn next_scheduled(&mut self) -> Option<(u64, NetworkEvent)> {
        self.scheduled.pop()
    }

    /// Who should try again; each is given once for each time it waited.
    pub(super) fn next_woken(&mut self) -> Option<Waiter> {
        self.woken.pop()
    }

    /// bind(2) and listen(2): the listener's number and its address.
    pub(super) fn listen(
        &mut self,
        host: u16,
        address: SocketAddr,
        backlog: u32,
    ) -> io::Result<(u64, SocketAddr)> {
        let ip = address.ip();
        if !(ip.is_unspecified() || ip.is_loopback() || ip == address_of(host)) {
            return Err(error(libc::EADDRNOTAVAIL));
        }
        let port = match address.port() {
            0 => self.free_port(host)?,
            port => port,
        };
        let address = SocketAddr::new(ip, port);
        let is_taken = |listener: &Listener| {
            listener.host == host
                && listener.address.port() == port
                && (listener.address.ip() == ip
                    || ip.is_unspecified()
                    || listener.address.ip().is_unspecified())
        };
        if self.listeners.values().any(is_taken) {
            return Err(error(libc::EADDRINUSE));
        }
        let number = self.number();
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX).max(1);
        self.listeners.insert(
            number,
            Listener {
                host,
                address,
                backlog,
                queue: VecDeque::new(),
                waiters: Vec::new(),
            },
        );
        Ok((number, address))
    }

    /// accept(2), if a connection is there; else the waiter is woken when one is.
    pub(super) fn accept(&mut self, listener: u64, waiter: Waiter) -> Option<io::Result<Established>> {
        let Some(listener) = self.listeners.get_mut(&listener) else {
            return Some(Err(error(libc::EBADF)));
        };
        let Some(endpoint) = listener.queue.pop_front() else {
            listener.waiters.push(waiter);
            return None;
        };
        let end = &self.endpoints[&endpoint];
        Some(Ok(Established {
            endpoint,
            peer: end.peer_address,
            local: end.local,
        }))
    }

    /// Begins a connection; [`Network::connected`] tells how it went.
    pub(super) fn connect(&mut self, now: u64, host: u16, address: SocketAddr) -> io::Result<u64> {
        let peer_host = if address.ip().is_loopback() || address.ip().is_unspecified() {
            host
        } else {
            host_of(address.ip())
                .filter(|peer| *peer < self.hosts)
                .ok_or_else(|| error(libc::EHOSTUNREACH))?
        };
        let ip = if address.ip().is_loopback() {
            address.ip()
        } else {
            address_of(host)
        };
        let local = SocketAddr::new(ip, self.free_port(host)?);
        let until = now.saturating_add(nanoseconds(CONNECT_PATIENCE));
        let number = self.number();
        let window_bytes = self.faults.window_bytes.max(1);
        let endpoint = Endpoint::new(
            (host, local),
            (peer_host, address),
            Progress::Connecting { until },
            window_bytes,
        );
        self.endpoints.insert(number, endpoint);
        let delay = self.delay(host, peer_host);
        self.scheduled.push((now + delay, NetworkEvent::Attempt(number)));
        Ok(number)
    }

    /// How a connection attempt went, once it has; else the waiter is woken then.
    pub(super) fn connected(&mut self, endpoint: u64, waiter: Waiter) -> Option<io::Result<Established>> {
        let Some(end) = self.endpoints.get_mut(&endpoint) else {
            return Some(Err(error(libc::ECONNABORTED)));
        };
        match end.progress {
            Progress::Connecting { .. } => {
                end.waiters.push(waiter);
                None
            }
            Progress::Established => Some(Ok(Established {
                endpoint,
                peer: end.peer_address,
                local: end.local,
            })),
            Progress::Failed(errno) => Some(Err(error(errno))),
        }
    }

    /// recv(2): bytes, or 0 at the end; `None` if there is nothing yet: then the waiter is woken.
    pub(super) fn receive(
        &mut self,
        endpoint: u64,
        out: &mut [u8],
        waiter: Waiter,
    ) -> Option<io::Result<usize>> {
        let Some(end) = self.endpoints.get_mut(&endpoint) else {
            return Some(Err(error(libc::EBADF)));
        };
        if end.read_ended || out.is_empty() {
            return Some(Ok(0));
        }
        if end.unread_bytes() == 0 {
            if end.was_reset {
                return Some(Err(error(libc::ECONNRESET)));
            }
            if end.end_received {
                return Some(Ok(0));
            }
            end.waiters.push(waiter);
            return None;
        }
        let mut wanted = end.unread_bytes().min(out.len());
        if self.chance.happens(self.faults.short_receive) {
            wanted = 1 + self.chance.index(wanted);
        }
        end.read(&mut out[..wanted]);
        // The sender learns of the room; without a delay, as nothing depends on it but its own speed.
        if let Some(peer) = end.peer.and_then(|peer| self.endpoints.get_mut(&peer)) {
            self.woken.append(&mut peer.waiters);
        }
        Some(Ok(wanted))
    }

    /// sendmsg(2): how many bytes were taken; `None` if the window is full: then the waiter is woken.
    pub(super) fn send<S: AsRef<[u8]>>(
        &mut self,
        now: u64,
        endpoint: u64,
        pieces: &[S],
        waiter: Waiter,
    ) -> Option<io::Result<usize>> {
        let Some(end) = self.endpoints.get(&endpoint) else {
            return Some(Err(error(libc::EBADF)));
        };
        if end.was_reset {
            return Some(Err(error(libc::ECONNRESET)));
        }
        if end.end_sent {
            return Some(Err(error(libc::EPIPE)));
        }
        let total: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        if total == 0 {
            return Some(Ok(0));
        }
        let peer = end.peer.and_then(|peer| self.endpoints.get(&peer));
        let room = peer.map_or(end.window_bytes, Endpoint::room);
        if room == 0 {
            self.endpoints.get_mut(&endpoint)?.waiters.push(waiter);
            return None;
        }
        let mut count = total.min(room);
        if self.chance.happens(self.faults.short_send) {
            count = 1 + self.chance.index(count);
        }
        let mut bytes = Vec::with_capacity(count);
        for piece in pieces {
            let piece = piece.as_ref();
            bytes.extend_from_slice(&piece[..piece.len().min(count - bytes.len())]);
        }
        self.transmit(now, endpoint, Packet::Data(bytes));
        Some(Ok(count))
    }

    /// The waiter does not wait any more.
    pub(super) fn stop_waiting(&mut self, number: u64, waiter: Waiter) {
        let listeners = self
            .listeners
            .get_mut(&number)
            .map(|listener| &mut listener.waiters);
        let endpoints = self.endpoints.get_mut(&number).map(|end| &mut end.waiters);
        for waiters in [listeners, endpoints].into_iter().flatten() {
            waiters.retain(|other| *other != waiter);
        }
    }

    /// shutdown(2).
    pub(super) fn shutdown(&mut self, now: u64, endpoint: u64, how: Shutdown) {
        let Some(end) = self.endpoints.get_mut(&endpoint) else {
            return;
        };
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            end.read_ended = true;
        }
        self.woken.append(&mut end.waiters);
        if matches!(how, Shutdown::Write | Shutdown::Both) && !std::mem::replace(&mut end.end_sent, true) {
            self.transmit(now, endpoint, Packet::End);
        }
    }

    /// Gives a listener or a connection up.
    pub(super) fn close(&mut self, now: u64, number: u64) {
        if let Some(listener) = self.listeners.remove(&number) {
            for endpoint in listener.queue {
                self.abort(now, endpoint);
            }
            return;
        }
        let Some(end) = self.endpoints.get_mut(&number) else {
            return;
        };
        end.closed = true;
        if end.unread_bytes() > 0 {
            // Linux resets a connection that is closed with unread bytes.
            self.abort(now, number);
            return;
        }
        if !std::mem::replace(&mut end.end_sent, true) && !end.was_reset {
            self.transmit(now, number, Packet::End);
        }
        self.forget_if_done(number);
    }

    /// The host's process is gone: its ports are free, its connections are reset. Without power the peers learn of it
    /// late, and what was under way from it is lost.
    pub(super) fn end_process(&mut self, now: u64, host: u16, by_power_cut: bool) {
        let gone = |on: u16| on == host;
        let listeners: Vec<u64> = self
            .listeners
            .iter()
            .filter(|(_, listener)| gone(listener.host))
            .map(|(number, _)| *number)
            .collect();
        for number in listeners {
            self.close(now, number);
        }
        let endpoints: Vec<u64> = self
            .endpoints
            .iter()
            .filter(|(_, end)| gone(end.host))
            .map(|(number, _)| *number)
            .collect();
        for number in endpoints {
            let loses = by_power_cut || self.chance.happens(0.5);
            let notice = if by_power_cut {
                self.chance.below(nanoseconds(POWER_CUT_NOTICE))
            } else {
                0
            };
            if loses
                && let Some(peer) = self.endpoints.get(&number).and_then(|end| end.peer)
                && let Some(peer) = self.endpoints.get_mut(&peer)
            {
                peer.lose_under_way(self.chance.index(peer.under_way().count() + 1));
            }
            self.abort(now + notice, number);
        }
    }

    /// Cuts one direction between two hosts.
    pub(super) fn cut(&mut self, from: u16, to: u16) {
        self.cut.insert((from, to));
    }

    /// Heals one direction; what waited goes on.
    pub(super) fn heal(&mut self, now: u64, from: u16, to: u16) {
        if !self.cut.remove(&(from, to)) {
            return;
        }
        for (&number, end) in &self.endpoints {
            if end.host == to && end.peer_host == from {
                for at in end.under_way() {
                    self.scheduled
                        .push((at.max(now + 1), NetworkEvent::Arrival(number)));
                }
            }
        }
    }

    /// Every direction that is cut.
    pub(super) fn cuts(&self) -> Vec<(u16, u16)> {
        self.cut.iter().copied().collect()
    }

    /// Resets every connection between two hosts, at both ends and at once.
    pub(super) fn reset_between(&mut self, one: u16, other: u16) -> u64 {
        let mut numbers = Vec::new();
        for (&number, end) in &mut self.endpoints {
            let pair = (end.host, end.peer_host);
            if (pair == (one, other) || pair == (other, one)) && end.progress == Progress::Established {
                end.was_reset = true;
                end.lose_under_way(0);
                self.woken.append(&mut end.waiters);
                numbers.push(number);
            }
        }
        for &number in &numbers {
            self.forget_if_done(number);
        }
        numbers.len() as u64
    }

    /// An event that was scheduled is due.
    pub(super) fn fire(&mut self, now: u64, event: NetworkEvent) {
        match event {
            NetworkEvent::Attempt(number) => self.attempt(now, number),
            NetworkEvent::Answered(number) => self.answered(now, number),
            NetworkEvent::Arrival(number) => self.arrive(now, number),
        }
    }

    fn attempt(&mut self, now: u64, number: u64) {
        let Some(end) = self.endpoints.get(&number) else {
            return;
        };
        let Progress::Connecting { until } = end.progress else {
            return;
        };
        let (host, peer_host, local, address, window_bytes) = (
            end.host,
            end.peer_host,
            end.local,
            end.peer_address,
            end.window_bytes,
        );
        let is_meant = |listener: &&mut Listener| {
            listener.host == peer_host
                && listener.address.port() == address.port()
                && (listener.address.ip().is_unspecified() || listener.address.ip() == address.ip())
        };
        let is_cut = self.cut.contains(&(host, peer_host));
        match self.listeners.values_mut().find(is_meant) {
            _ if is_cut => self.repeat(now, number, until, NetworkEvent::Attempt(number)),
            None => {
                let delay = self.delay(peer_host, host);
                self.set_progress(number, Progress::Failed(libc::ECONNREFUSED), now + delay);
            }
            Some(listener) if listener.queue.len() >= listener.backlog => {
                self.repeat(now, number, until, NetworkEvent::Attempt(number));
            }
            Some(listener) => {
                let server = self.next_number;
                self.next_number += 1;
                listener.queue.push_back(server);
                self.woken.append(&mut listener.waiters);
                let (here, there) = ((peer_host, address), (host, local));
                let mut endpoint = Endpoint::new(here, there, Progress::Established, window_bytes);
                endpoint.peer = Some(number);
                self.endpoints.insert(server, endpoint);
                if let Some(end) = self.endpoints.get_mut(&number) {
                    end.peer = Some(server);
                }
                let delay = self.delay(peer_host, host);
                self.scheduled.push((now + delay, NetworkEvent::Answered(number)));
            }
        }
    }

    fn answered(&mut self, now: u64, number: u64) {
        let Some(end) = self.endpoints.get(&number) else {
            return;
        };
        match end.progress {
            Progress::Connecting { until } if self.cut.contains(&(end.peer_host, end.host)) => {
                self.repeat(now, number, until, NetworkEvent::Answered(number));
            }
            Progress::Connecting { .. } => {
                let progress = if end.was_reset {
                    Progress::Failed(libc::ECONNRESET)
                } else {
                    Progress::Established
                };
                if let Some(end) = self.endpoints.get_mut(&number) {
                    end.progress = progress;
                }
                self.wake(number);
            }
            Progress::Failed(_) | Progress::Established => self.wake(number),
        }
    }

    fn arrive(&mut self, now: u64, number: u64) {
        let Some(end) = self.endpoints.get_mut(&number) else {
            return;
        };
        if self.cut.contains(&(end.peer_host, end.host)) {
            return;
        }
        if end.arrive(now) == Arrived::TooLate {
            self.abort(now, number);
            return;
        }
        self.wake(number);
        self.forget_if_done(number);
    }

    /// Puts a packet on its way from `endpoint` to its peer.
    fn transmit(&mut self, now: u64, endpoint: u64, packet: Packet) {
        let Some(end) = self.endpoints.get(&endpoint) else {
            return;
        };
        let (host, peer_host) = (end.host, end.peer_host);
        let Some(peer_number) = end.peer else { return };
        if !self.endpoints.contains_key(&peer_number) {
            return;
        }
        let delay = self.delay(host, peer_host);
        let Some(peer) = self.endpoints.get_mut(&peer_number) else {
            return;
        };
        let at = peer.put_under_way(now + delay, packet);
        self.scheduled.push((at, NetworkEvent::Arrival(peer_number)));
    }

    /// Ends a connection from one side: the peer gets a reset, after what is under way to it.
    fn abort(&mut self, now: u64, endpoint: u64) {
        self.transmit(now, endpoint, Packet::Reset);
        self.wake(endpoint);
        self.endpoints.remove(&endpoint);
    }

    fn wake(&mut self, endpoint: u64) {
        if let Some(end) = self.endpoints.get_mut(&endpoint) {
            self.woken.append(&mut end.waiters);
        }
    }

    fn set_progress(&mut self, number: u64, progress: Progress, at: u64) {
        if let Some(end) = self.endpoints.get_mut(&number) {
            end.progress = progress;
        }
        self.scheduled.push((at, NetworkEvent::Answered(number)));
    }

    fn repeat(&mut self, now: u64, number: u64, until: u64, event: NetworkEvent) {
        let again = now + nanoseconds(CONNECT_REPEAT);
        if again > until {
            self.set_progress(number, Progress::Failed(libc::ETIMEDOUT), now);
        } else {
            self.scheduled.push((again, event));
        }
    }

    /// A closed connection goes when nothing can come to it any more.
    fn forget_if_done(&mut self, number: u64) {
        let Some(end) = self.endpoints.get(&number) else {
            return;
        };
        let peer_is_gone = end.peer.is_none_or(|peer| !self.endpoints.contains_key(&peer));
        if end.closed && (end.end_received || end.was_reset || peer_is_gone) && end.under_way().count() == 0 {
            self.endpoints.remove(&number);
        }
    }

    fn delay(&mut self, from: u16, to: u16) -> u64 {
        let longest = nanoseconds(self.faults.delay_longest);
        let shortest = nanoseconds(self.faults.delay_shortest).min(longest);
        let mut delay = self.chance.between(shortest, longest);
        if from == to {
            delay /= 8;
        } else if self.chance.happens(self.faults.slow) {
            delay += self.chance.below(nanoseconds(self.faults.slow_longest).max(1));
        }
        delay.max(1)
    }

    fn free_port(&mut self, host: u16) -> io::Result<u16> {
        for _ in EPHEMERAL_PORTS {
            let port = self.next_port;
            self.next_port = if port == *EPHEMERAL_PORTS.end() {
                *EPHEMERAL_PORTS.start()
            } else {
                port + 1
            };
            let is_taken = self
                .listeners
                .values()
                .any(|other| other.host == host && other.address.port() == port)
                || self
                    .endpoints
                    .values()
                    .any(|other| other.host == host && other.local.port() == port);
            if !is_taken {
                return Ok(port);
            }
        }
        Err(error(libc::EADDRNOTAVAIL))
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

/// The address of a host: 10.0.0.(number + 1), and on to 10.0.1.0.
pub(super) fn address_of(host: u16) -> IpAddr {
    let [high, low] = (u32::from(host) + 1).to_be_bytes()[2..] else {
        unreachable!("two of four bytes")
    };
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// The host of an address.
fn host_of(address: IpAddr) -> Option<u16> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [10, 0, high, low] => u16::from_be_bytes([high, low]).checked_sub(1),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
