//! Accepts connections, watches over them, and drains them at the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ring::clock::{self, Instant};
use ring::executor::{Class, spawn};
use ring::local::Signal;
use ring::socket::{TcpListener, TcpStream};
use ring::timer;

use crate::connection::{Connection, Why};
use crate::frame_reader::Pools;
use crate::load::{ListenerLoad, Load};
use crate::{ConnectionLimits, Limits, Peer, Service, Traffic};

/// How often connections are looked at for those that stand still.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The part of the connections that may go at once to make room for others: one in so many.
const ROOM_PART: usize = 16;
/// The wait after an accept that failed (descriptors or memory ran out), and the longest after several.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);
/// One line of the log for what clients do wrong in so long: they may do it as fast as they like.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Serves connections until `shutdown` is notified (which counts from this call on); then accepts no more, begins no
/// more requests, sends the answers of those in flight, and ends when all connections have; after
/// [`Limits::drain_ms`] it cuts those that are left. Takes [`Limits::memory_bytes`] of the thread's budget. Counts in
/// `traffic`, which is this listener's alone.
///
/// # Panics
/// If the thread's budget has less left.
#[expect(clippy::needless_pass_by_value, reason = "a listener takes all that it needs")]
pub fn serve<S: Service>(
    listener: TcpListener,
    limits: Rc<Limits>,
    service: Rc<S>,
    shutdown: Signal,
    traffic: Rc<Traffic>,
) -> impl Future<Output = ()> {
    let stop = shutdown.wait();
    let pools = Pools::new(limits.receive_pool_bytes, limits.long_frame_bytes());
    let pools = pools.expect("the thread's budget has the memory of its listener");
    let _set_once = traffic.pools.set(pools.clone());
    async move {
        let allowed = service.connection_limits();
        let house = Rc::new(House {
            load: Rc::new(ListenerLoad::new(&limits, traffic)),
            limits,
            pools,
            connections: RefCell::default(),
            next_number: Cell::new(0),
            by_address: RefCell::default(),
            left: allowed.changed().clone(),
            allowed,
            is_full: Cell::new(false),
            log: Log::default(),
        });
        let _cut = CutAll(house.clone());
        let accepting = spawn(Class::Latency, accept(house.clone(), listener, service.clone()));
        let _watching = spawn(Class::Latency, watch(house.clone(), service));
        stop.await;
        drop(accepting);
        house.each(|connection| connection.drain());
        let drained = Duration::from_millis(house.limits.drain_ms);
        if timer::timeout(drained, house.empty()).await.is_err() {
            house.each(|connection| connection.cut("the broker stops, and its answer took too long"));
            house.empty().await;
        }
    }
}

/// What the tasks of a listener share.
struct House {
    limits: Rc<Limits>,
    pools: Pools,
    load: Rc<ListenerLoad>,
    /// In the order of their coming.
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next_number: Cell<u64>,
    by_address: RefCell<BTreeMap<IpAddr, usize>>,
    /// How many connections there may be, beside `limits`.
    allowed: Rc<ConnectionLimits>,
    /// Notified when a connection has ended, and when there may be another number of them.
    left: Signal,
    /// One waits to be accepted until another has ended.
    is_full: Cell<bool>,
    log: Log,
}

/// Ends the connections when the server's future is dropped.
struct CutAll(Rc<House>);

impl Drop for CutAll {
    fn drop(&mut self) {
        self.0
            .each(|connection| connection.cut("the listener was dropped"));
    }
}

async fn accept<S: Service>(house: Rc<House>, listener: TcpListener, service: Rc<S>) {
    let mut retry = ACCEPT_RETRY;
    loop {
        house.room().await;
        match listener.accept().await {
            Ok((stream, address)) => {
                retry = ACCEPT_RETRY;
                // There may be fewer now than when it began to wait for one.
                house.room().await;
                house.admit(stream, address, &service);
            }
            Err(error) => {
                house
                    .log
                    .warn(format_args!("cannot accept a connection: {error}; trying again"));
                timer::sleep(retry).await;
                retry = (retry * 2).min(ACCEPT_RETRY_MAX);
            }
        }
    }
}

/// Ends connections on which nothing moves.
async fn watch<S: Service>(house: Rc<House>, service: Rc<S>) {
    let limits = &house.limits;
    let (idle, stalled) = (
        Duration::from_millis(limits.idle_ms),
        Duration::from_millis(limits.stalled_ms),
    );
    loop {
        timer::sleep(WATCH_EVERY).await;
        let now = clock::now();
        let is_crowded = house.load.is_crowded();
        let is_short = is_crowded || house.pools.is_short() || house.load.is_short() || service.is_short();
        house.each(|connection| {
            if connection.is_idle(now, idle) {
                connection.cut("nothing moved for longer than connections.max.idle.ms");
            } else if (is_short && connection.is_stalled(now, stalled))
                || (is_crowded && connection.keeps_answers_back(now, stalled))
            {
                connection.cut("the client stands still, and others wait for the memory that it holds");
            }
        });
        if house.is_full.get() {
            house.make_room(now, stalled);
        }
    }
}

impl House {
    /// Waits until there may be one more connection.
    async fn room(&self) {
        loop {
            let left = self.left.wait();
            let most = self.limits.connections().min(self.allowed.all());
            self.is_full.set(self.connections.borrow().len() >= most);
            if !self.is_full.get() {
                return;
            }
            self.log.warn(format_args!(
                "{most} connections are open, as many as may be: the next one waits"
            ));
            left.await;
        }
    }

    fn connections_per_address(&self) -> usize {
        self.limits
            .connections_per_address_max
            .min(self.allowed.of_an_address())
    }

    fn admit<S: Service>(self: &Rc<Self>, stream: TcpStream, address: SocketAddr, service: &Rc<S>) {
        let peer = Peer { address };
        let Some(guest) = Guest::new(self, address.ip().to_canonical()) else {
            self.load.traffic.refused.add(1);
            self.log.warn(format_args!(
                "{address} is closed: its host has {} connections, as many as it may have",
                self.connections_per_address()
            ));
            return;
        };
        let load = Load::new(self.load.clone(), &self.limits);
        let connection = Rc::new(Connection::new(stream, peer, load));
        self.connections
            .borrow_mut()
            .insert(guest.number, connection.clone());
        self.load.traffic.accepted.add(1);
        self.count_connections();
        let (pools, frame_bytes) = (self.pools.clone(), self.limits.frame_bytes());
        let service = service.clone();
        spawn(Class::Latency, async move {
            let guest = guest;
            let why = connection.run(service, pools, frame_bytes).await;
            if let Why::Refused(why) = why {
                guest
                    .house
                    .log
                    .warn(format_args!("the connection of {address} is closed: {why}"));
            }
        })
        .detach();
    }

    fn count_connections(&self) {
        let connections = self.connections.borrow().len();
        self.load.traffic.connections.set(connections);
    }

    fn each(&self, with: impl FnMut(&Rc<Connection>)) {
        self.connections.borrow().values().for_each(with);
    }

    /// Ends some of the connections that have been idle for at least `idle`, the longest first.
    fn make_room(&self, now: Instant, idle: Duration) {
        let connections = self.connections.borrow();
        let mut idle: Vec<_> = connections
            .values()
            .filter(|connection| connection.is_idle(now, idle))
            .collect();
        idle.sort_by_key(|connection| connection.progress.moved.get());
        for connection in idle.into_iter().take(connections.len().div_ceil(ROOM_PART)) {
            connection.cut("it was idle, and others wait to be accepted");
        }
    }

    async fn empty(&self) {
        loop {
            let left = self.left.wait();
            if self.connections.borrow().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// A connection's place among the others, until it is dropped.
struct Guest {
    house: Rc<House>,
    number: u64,
    address: IpAddr,
}

impl Guest {
    fn new(house: &Rc<House>, address: IpAddr) -> Option<Guest> {
        let mut by_address = house.by_address.borrow_mut();
        let count = by_address.entry(address).or_default();
        if *count >= house.connections_per_address() {
            return None;
        }
        *count += 1;
        let number = house.next_number.get();
        house.next_number.set(number + 1);
        Some(Guest {
            house: house.clone(),
            number,
            address,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let house = &self.house;
        let connection = house.connections.borrow_mut().remove(&self.number);
        drop(connection);
        house.count_connections();
        let mut by_address = house.by_address.borrow_mut();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        drop(by_address);
        house.left.notify_all();
    }
}

/// Says what clients do wrong, not more often than anyone can read.
#[derive(Default)]
struct Log {
    quiet_until: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Log {
    fn warn(&self, what: fmt::Arguments<'_>) {
        let now = clock::now();
        if self.quiet_until.get().is_some_and(|until| now < until) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.quiet_until.set(Some(now + LOG_EVERY));
        match self.unsaid.take() {
            0 => tracing::warn!("{what}"),
            unsaid => tracing::warn!("{what} ({unsaid} more since the last line)"),
        }
    }
}
