//! One end of a simulated connection: the bytes on their way to it, and those that arrived and were not read.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::network::Waiter;

/// What is sent.
#[derive(Debug)]
pub(super) enum Packet {
    Data(Vec<u8>),
    /// No more bytes follow.
    End,
    Reset,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Until this moment the attempt is repeated.
    Connecting {
        until: u64,
    },
    Established,
    Failed(i32),
}

/// What became of the packet that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// It is here, or none was due.
    Well,
    /// It brought bytes to an end that was closed.
    TooLate,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: u16,
    pub(super) local: SocketAddr,
    pub(super) peer_address: SocketAddr,
    pub(super) peer: Option<u64>,
    pub(super) peer_host: u16,
    pub(super) progress: Progress,
    /// Packets on their way to this endpoint, in order, with the moment at which each may arrive.
    under_way: VecDeque<(u64, Packet)>,
    under_way_bytes: usize,
    unread: VecDeque<Vec<u8>>,
    unread_bytes: usize,
    /// Bytes of the first unread piece that were read.
    first_read: usize,
    pub(super) window_bytes: usize,
    pub(super) end_received: bool,
    pub(super) end_sent: bool,
    pub(super) read_ended: bool,
    pub(super) was_reset: bool,
    pub(super) closed: bool,
    pub(super) waiters: Vec<Waiter>,
}

impl Endpoint {
    /// An end at `here` of a connection to `there`: hosts and addresses.
    pub(super) fn new(
        here: (u16, SocketAddr),
        there: (u16, SocketAddr),
        progress: Progress,
        window_bytes: usize,
    ) -> Endpoint {
        Endpoint {
            host: here.0,
            local: here.1,
            peer_address: there.1,
            peer: None,
            peer_host: there.0,
            progress,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            unread: VecDeque::new(),
            unread_bytes: 0,
            first_read: 0,
            window_bytes,
            end_received: false,
            end_sent: false,
            read_ended: false,
            was_reset: false,
            closed: false,
            waiters: Vec::new(),
        }
    }

    /// Bytes that arrived and were not read.
    pub(super) fn unread_bytes(&self) -> usize {
        self.unread_bytes
    }

    /// Bytes that may be sent to it now.
    pub(super) fn room(&self) -> usize {
        self.window_bytes
            .saturating_sub(self.unread_bytes + self.under_way_bytes)
    }

    /// Reads as many bytes as `out` has; they are there.
    pub(super) fn read(&mut self, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let piece = self.unread.front().expect("unread bytes are in a piece");
            let count = (piece.len() - self.first_read).min(out.len() - done);
            out[done..done + count].copy_from_slice(&piece[self.first_read..self.first_read + count]);
            done += count;
            self.first_read += count;
            if self.first_read == piece.len() {
                self.unread.pop_front();
                self.first_read = 0;
            }
        }
        self.unread_bytes -= done;
    }

    /// The moments at which packets may arrive.
    pub(super) fn under_way(&self) -> impl Iterator<Item = u64> {
        self.under_way.iter().map(|(at, _)| *at)
    }

    /// Puts a packet on its way, to arrive at `at`, but never before the one sent last. Returns that moment.
    pub(super) fn put_under_way(&mut self, at: u64, packet: Packet) -> u64 {
        let before = self.under_way.back().map_or(0, |(at, _)| *at);
        let at = at.max(before);
        self.under_way_bytes += packet.bytes();
        self.under_way.push_back((at, packet));
        at
    }

    /// All packets but the first `kept` get lost.
    pub(super) fn lose_under_way(&mut self, kept: usize) {
        for (_, packet) in self.under_way.drain(kept..) {
            self.under_way_bytes -= packet.bytes();
        }
    }

    /// The first packet arrives, if it is due.
    pub(super) fn arrive(&mut self, now: u64) -> Arrived {
        let Some((_, packet)) = self.under_way.pop_front_if(|(at, _)| *at <= now) else {
            return Arrived::Well;
        };
        match packet {
            Packet::Data(bytes) => {
                self.under_way_bytes -= bytes.len();
                if self.closed {
                    return Arrived::TooLate;
                }
                if !self.read_ended {
                    self.unread_bytes += bytes.len();
                    self.unread.push_back(bytes);
                }
            }
            Packet::End => self.end_received = true,
            Packet::Reset => self.was_reset = true,
        }
        Arrived::Well
    }
}

impl Packet {
    fn bytes(&self) -> usize {
        match self {
            Packet::Data(bytes) => bytes.len(),
            Packet::End | Packet::Reset => 0,
        }
    }
}
