//! Every bound of a listener. Memory first: the two pools bound all that is received; the rest bounds how many, how
//! much and how long.

use std::cell::Cell;

use ring::buffer::PAGE_SIZE;
use ring::local::Signal;

/// The bounds of one listener. A shard has one listener, so each number is a shard's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame, in bytes, its length prefix not counted (Kafka's `socket.request.max.bytes`). Never more than
    /// [`Limits::frame_pool_bytes`], whatever it says.
    pub frame_bytes_max: usize,
    /// Memory for frames that do not fit a receive buffer, in bytes. A frame waits here until it has its place.
    pub frame_pool_bytes: usize,
    /// Memory for receive buffers (4 to 64 KiB each, shared by the small frames in them), in bytes. A connection holds a
    /// 4 KiB page of it even when it is idle, and each request in flight may hold one. So it bounds the connections, to
    /// a quarter of its pages, and the requests in flight beyond one for each, to another quarter.
    pub receive_pool_bytes: usize,
    /// Requests of one connection that were begun and whose answers were not sent; beyond, it is not read.
    pub requests_in_flight_per_connection: usize,
    /// The same for all connections, where the first request of each does not count: a long poll in each must not stop
    /// the others.
    pub requests_in_flight: usize,
    /// Bytes of one connection's requests in flight and of its answers that were not sent; beyond, it is not read. One
    /// request is always allowed.
    pub bytes_in_flight_per_connection: usize,
    /// Bytes of all connections' requests in flight that have more than 1 KiB; beyond, the next one waits. It bounds what
    /// requests cost while they wait for something. Long polls do not count: they would hold up others for as long as
    /// they like.
    pub bytes_in_flight: usize,
    /// Bytes of all connections' answers that were not sent; beyond, clients that stand still are cut off early, and each
    /// connection has one request at a time. Beyond twice that, only connections begin one that took all of their
    /// answers, and whose last one was small. An answer is counted when it is there, so those that are made at that
    /// moment come on top.
    pub unsent_bytes: usize,
    /// Connections (Kafka's `max.connections`). At the limit the next one waits to be accepted, and those that have been
    /// idle for `stalled_ms` are closed one after the other, the longest first.
    pub connections_max: usize,
    /// Connections from one address (Kafka's `max.connections.per.ip`). One more is closed at once.
    pub connections_per_address_max: usize,
    /// A connection on which nothing moved for so long is closed, in milliseconds (Kafka's `connections.max.idle.ms`),
    /// unless it waits for an answer of ours.
    pub idle_ms: u64,
    /// While others wait for memory: a client that has stood still for so long in the middle of a long frame, or of an
    /// answer that it does not read, is cut off, in milliseconds. The same for one that takes less than a tenth of its
    /// answers in so long; the same for a long frame that takes ten times as
    /// long from its first byte to its last, and for a long poll that is as old and has requests behind it that hold
    /// memory.
    pub stalled_ms: u64,
    /// How long a shutdown waits for answers in flight before it cuts what is left, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Kafka's default.
            frame_bytes_max: 100 << 20,
            // The longest frame and, beside it, several of the 1 MiB requests that producers send by default.
            frame_pool_bytes: 128 << 20,
            // 4,096 connections.
            receive_pool_bytes: 64 << 20,
            // Clients keep 5 (Java) to some tens in flight; a load generator more.
            requests_in_flight_per_connection: 256,
            // As many as the receive pool allows; each costs about 1 KiB of our own.
            requests_in_flight: 4_096,
            // Sixteen requests of the producers' default size.
            bytes_in_flight_per_connection: 16 << 20,
            // As many as there can be frames.
            bytes_in_flight: 128 << 20,
            // Two answers to a consumer with defaults (fetch.max.bytes, 50 MiB).
            unsent_bytes: 128 << 20,
            // Kafka has no limit; the receive pool gives one, and this is it.
            connections_max: 4_096,
            // Kafka has no limit: many clients share an address behind a gateway.
            connections_per_address_max: 4_096,
            // Kafka's default.
            idle_ms: 600_000,
            // Far longer than a lost packet's repetition, far shorter than clients' request timeouts (30 s and more).
            stalled_ms: 10_000,
            // Flushes end within a second or so; long polls end at once when a shard stops.
            drain_ms: 10_000,
        }
    }
}

/// How many connections there may be now: unlike [`Limits`], which hold as well, it may change while a listener serves.
/// Connections that are there are not closed by it.
pub struct ConnectionLimits {
    all: Cell<usize>,
    of_an_address: Cell<usize>,
    changed: Signal,
}

impl Default for ConnectionLimits {
    /// No limit of its own.
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            all: Cell::new(usize::MAX),
            of_an_address: Cell::new(usize::MAX),
            changed: Signal::new(),
        }
    }
}

impl ConnectionLimits {
    /// Sets Kafka's `max.connections` and `max.connections.per.ip`.
    pub fn set(&self, all: usize, of_an_address: usize) {
        self.all.set(all);
        self.of_an_address.set(of_an_address);
        self.changed.notify_all();
    }

    /// `max.connections`.
    pub(crate) fn all(&self) -> usize {
        self.all.get()
    }

    /// `max.connections.per.ip`.
    pub(crate) fn of_an_address(&self) -> usize {
        self.of_an_address.get()
    }

    /// Notified when they change.
    pub(crate) fn changed(&self) -> &Signal {
        &self.changed
    }
}

impl Limits {
    /// Memory that a listener sets aside in the budget of its thread, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.long_frame_bytes() + self.receive_pool_bytes
    }

    /// The frame pool in whole pages, in bytes.
    pub(crate) fn long_frame_bytes(&self) -> usize {
        self.frame_pool_bytes / PAGE_SIZE * PAGE_SIZE
    }

    /// Connections that are accepted. A quarter of the receive pool's pages, as `Pools` shares them out.
    pub(crate) fn connections(&self) -> usize {
        (self.connections_max).min(self.receive_pool_bytes / PAGE_SIZE / 4)
    }

    /// Requests in flight beyond the first of each connection; another quarter.
    pub(crate) fn further_requests(&self) -> usize {
        (self.requests_in_flight).min(self.receive_pool_bytes / PAGE_SIZE / 4)
    }

    /// The longest frame that is believed, in bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_bytes_max
            .min(self.frame_pool_bytes / PAGE_SIZE * PAGE_SIZE)
    }
}
