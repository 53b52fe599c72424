//! What goes through a listener, counted: plain numbers of its thread, which it shares with whoever started it; and what
//! of that has not gone yet, which whoever makes large answers waits for.

use std::cell::{Cell, OnceCell};

use ring::buffer::PoolUsage;
use ring::count::Counter;
use ring::local::Signal;

use crate::frame_reader::Pools;

/// An answer of no more bytes is small: the sockets' buffers hold several.
pub(crate) const SMALL_ANSWER_BYTES: usize = 64 << 10;

/// How full a listener is of answers that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Crowd {
    /// Below its limit.
    Room,
    /// Beyond it: each connection has one request at a time.
    Crowded,
    /// Beyond twice its limit: only those begin one who are known to read what they asked for, and to ask for little.
    Full,
}

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
    /// Of answers that were not sent, and how many there should be.
    pub(crate) unsent_bytes: Cell<usize>,
    pub(crate) unsent_bytes_max: Cell<usize>,
    /// Notified when answers have gone.
    pub(crate) relieved: Signal,
    pub(crate) pools: OnceCell<Pools>,
}

impl Traffic {
    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Waits until an answer of so many bytes may be made, for a request that was begun before: not while twice as many
    /// bytes wait to be sent as should. A small one is always made.
    pub async fn room_for(&self, answer_bytes: usize) {
        while answer_bytes > SMALL_ANSWER_BYTES && self.crowd() == Crowd::Full {
            self.relieved.wait().await;
        }
    }

    pub(crate) fn crowd(&self) -> Crowd {
        let (unsent, limit) = (self.unsent_bytes.get(), self.unsent_bytes_max.get());
        if unsent <= limit {
            Crowd::Room
        } else if unsent <= limit.saturating_mul(2) {
            Crowd::Crowded
        } else {
            Crowd::Full
        }
    }

    /// The listener's memory; none before it serves.
    pub fn memory(&self) -> Option<[PoolUsage; 2]> {
        self.pools.get().map(Pools::usage)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_large_answer_is_made_when_others_have_gone_and_a_small_one_at_once() {
        let traffic = Traffic::default();
        traffic.unsent_bytes_max.set(1_000);
        traffic.unsent_bytes.set(2_001);
        let mut context = Context::from_waker(Waker::noop());
        let mut large = pin!(traffic.room_for(SMALL_ANSWER_BYTES + 1));
        assert!(large.as_mut().poll(&mut context).is_pending());
        assert!(
            pin!(traffic.room_for(SMALL_ANSWER_BYTES))
                .poll(&mut context)
                .is_ready()
        );
        traffic.relieved.notify_all();
        assert!(
            large.as_mut().poll(&mut context).is_pending(),
            "not enough has gone"
        );
        traffic.unsent_bytes.set(2_000);
        traffic.relieved.notify_all();
        assert!(large.as_mut().poll(&mut context).is_ready());
    }
}
