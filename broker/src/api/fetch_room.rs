//! What the Fetches of a shard hold together while they wait and read: their room on the heap.
//!
//! A Fetch waits for as long as its client says, so its request does not count as bytes in flight
//! ([`net::Pending::LongPoll`]). Its room does instead, by what it asks for. While somebody waits for room, those that
//! have some are answered early (`fetch.rs` `wait`), and the listener cuts who does not take an answer.

use ring::local::{Permit, Semaphore, Signal, SignalWait};

/// What a partition of a Fetch costs from its request to its answer, in bytes: an upper bound of what `fetch.rs` keeps
/// of it, checked there.
pub(crate) const PARTITION_BYTES: usize = 512;
/// A Fetch of no more costs what a request costs anyway, in bytes: the number of requests bounds it.
const SMALL_FETCH_BYTES: usize = 2 << 10;

/// See the module.
pub(crate) struct FetchRoom {
    bytes: Semaphore,
    bytes_max: usize,
    wanted: Signal,
}

impl FetchRoom {
    /// Room of so many bytes.
    pub(crate) fn new(bytes_max: usize) -> FetchRoom {
        FetchRoom {
            bytes: Semaphore::new(bytes_max),
            bytes_max,
            wanted: Signal::new(),
        }
    }

    /// Waits for the room of a Fetch of so many partitions, whose topics' names have so many bytes. One that is larger
    /// than all the room begins when it is alone. A small one needs none.
    pub(crate) async fn take(&self, partitions: usize, names_bytes: usize) -> Option<Permit> {
        let bytes = self.bytes_of(partitions, names_bytes)?;
        if let Some(room) = self.bytes.try_acquire(bytes) {
            return Some(room);
        }
        // Those that wait look when this has got its place in the line.
        self.wanted.notify_all();
        Some(self.bytes.acquire(bytes).await)
    }

    /// Gives back what is not needed of a room, because there are fewer partitions than there seemed to be.
    pub(crate) fn keep(&self, room: Option<Permit>, partitions: usize, names_bytes: usize) -> Option<Permit> {
        let bytes = self.bytes_of(partitions, names_bytes)?;
        let mut room = room?;
        room.keep(bytes);
        Some(room)
    }

    /// None for a small one.
    fn bytes_of(&self, partitions: usize, names_bytes: usize) -> Option<usize> {
        let bytes = partitions.saturating_mul(PARTITION_BYTES) + names_bytes;
        (bytes > SMALL_FETCH_BYTES).then_some(bytes.min(self.bytes_max))
    }

    /// Whether a Fetch waits for room.
    pub(crate) fn is_short(&self) -> bool {
        self.bytes.is_waited_for()
    }

    /// Waits until one does.
    pub(crate) fn wanted(&self) -> SignalWait {
        self.wanted.wait()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn large_fetches_share_the_room_and_small_ones_need_none() {
        let room = FetchRoom::new(10 * PARTITION_BYTES);
        let mut context = Context::from_waker(Waker::noop());
        let mut wanted = pin!(room.wanted());
        let Poll::Ready(Some(first)) = pin!(room.take(6, PARTITION_BYTES)).poll(&mut context) else {
            panic!("there is room");
        };
        assert!(wanted.as_mut().poll(&mut context).is_pending() && !room.is_short());
        let mut second = pin!(room.take(1_000_000, usize::MAX >> 1));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(wanted.as_mut().poll(&mut context).is_ready() && room.is_short());
        assert!(matches!(
            pin!(room.take(1, 1_000)).poll(&mut context),
            Poll::Ready(None)
        ));
        let first = room.keep(Some(first), 5, 0);
        assert_eq!(room.bytes.available(), 5 * PARTITION_BYTES);
        assert!(room.keep(first, 1, 0).is_none());
        assert!(matches!(second.poll(&mut context), Poll::Ready(Some(_))));
        assert!(!room.is_short());
    }
}
