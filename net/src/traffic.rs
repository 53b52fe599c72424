//! What goes through a listener, counted: plain numbers of its thread, which it shares with whoever started it.

use std::cell::{Cell, OnceCell};

use ring::buffer::PoolUsage;
use ring::count::Counter;

use crate::frame_reader::Pools;

/// See the module.
#[derive(Default)]
pub struct Traffic {
    /// Connections that were accepted and let in.
    pub accepted: Counter,
    /// Connections that were closed at once, because their address has as many as it may have.
    pub refused: Counter,
    /// Bytes of the requests that were received whole, with their length prefixes.
    pub received_bytes: Counter,
    /// Bytes of the answers that were sent.
    pub sent_bytes: Counter,
    pub(crate) connections: Cell<usize>,
    pub(crate) pools: OnceCell<Pools>,
}

impl Traffic {
    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// The listener's memory; none before it serves.
    pub fn memory(&self) -> Option<[PoolUsage; 2]> {
        self.pools.get().map(Pools::usage)
    }
}
