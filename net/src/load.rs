//! What is in flight, of a connection and of all of a listener: counted here, given back by drops alone.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use ring::local::{Permit, Semaphore, Signal};

use crate::traffic::{Crowd, SMALL_ANSWER_BYTES};
use crate::{Limits, Traffic};

/// Of all connections of a listener.
pub(crate) struct ListenerLoad {
    /// Permits for requests beyond the first of each connection.
    further_requests: Semaphore,
    /// Permits for the bytes of requests that are not small.
    request_bytes: Semaphore,
    request_bytes_max: usize,
    pub(crate) traffic: Rc<Traffic>,
}

/// A request of no more bytes costs no more than the request itself: the number of requests bounds it.
const SMALL_REQUEST_BYTES: usize = 1_024;

impl ListenerLoad {
    pub(crate) fn new(limits: &Limits, traffic: Rc<Traffic>) -> ListenerLoad {
        traffic.unsent_bytes_max.set(limits.unsent_bytes);
        ListenerLoad {
            further_requests: Semaphore::new(limits.further_requests()),
            request_bytes: Semaphore::new(limits.bytes_in_flight),
            request_bytes_max: limits.bytes_in_flight,
            traffic,
        }
    }

    /// Whether a request waits for others to give way.
    pub(crate) fn is_short(&self) -> bool {
        self.request_bytes.is_waited_for()
    }

    async fn acquire_bytes(&self, bytes: usize) -> Option<Permit> {
        if bytes <= SMALL_REQUEST_BYTES {
            return None;
        }
        // One that is longer than the limit begins when it is alone.
        let bytes = bytes.min(self.request_bytes_max);
        Some(self.request_bytes.acquire(bytes).await)
    }

    /// Whether more bytes of answers were not sent yet than should be.
    pub(crate) fn is_crowded(&self) -> bool {
        self.traffic.crowd() > Crowd::Room
    }
}

/// Of one connection.
pub(crate) struct Load {
    listener: Rc<ListenerLoad>,
    requests_max: usize,
    bytes_max: usize,
    requests: Cell<usize>,
    /// Of requests, and of answers not sent.
    bytes: Cell<usize>,
    /// Of answers not sent.
    unsent_bytes: Cell<usize>,
    /// Of the last answer that there was.
    last_answer_bytes: Cell<Option<usize>>,
    /// Requests that hold what others may wait for, and one that waits for it.
    heavy: Cell<usize>,
    /// Notified when either has become less.
    lighter: Signal,
}

impl Load {
    pub(crate) fn new(listener: Rc<ListenerLoad>, limits: &Limits) -> Rc<Load> {
        Rc::new(Load {
            listener,
            requests_max: limits.requests_in_flight_per_connection,
            bytes_max: limits.bytes_in_flight_per_connection,
            requests: Cell::new(0),
            bytes: Cell::new(0),
            unsent_bytes: Cell::new(0),
            last_answer_bytes: Cell::new(None),
            heavy: Cell::new(0),
            lighter: Signal::new(),
        })
    }

    /// So many bytes of a whole request came.
    pub(crate) fn received(&self, bytes: usize) {
        self.listener.traffic.received_bytes.add(bytes as u64);
    }

    /// So many bytes of answers went.
    pub(crate) fn sent(&self, bytes: usize) {
        self.listener.traffic.sent_bytes.add(bytes as u64);
    }

    /// Requests that were begun and whose answers were not sent.
    pub(crate) fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Whether there are answers that were not sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent_bytes.get() > 0
    }

    /// Whether it may begin its only request, however many answers of others stand there. That its last answer has gone
    /// is known: it has no request.
    fn may_begin_one(&self) -> bool {
        let is_modest = self
            .last_answer_bytes
            .get()
            .is_some_and(|bytes| bytes <= SMALL_ANSWER_BYTES);
        is_modest || self.listener.traffic.crowd() < Crowd::Full
    }

    /// How many requests are there that hold what others may wait for (long polls do), or wait for it.
    pub(crate) fn heavy_requests(&self) -> usize {
        self.heavy.get()
    }

    /// Waits until one more request may begin, whose frame has so many bytes, and counts it.
    pub(crate) async fn admit(self: &Rc<Self>, frame_bytes: usize) -> Weight {
        let heavy = (frame_bytes > SMALL_REQUEST_BYTES).then(|| Heavy::new(self));
        let mut acquiring = pin!(self.listener.further_requests.acquire(1));
        let mut further = None;
        loop {
            let mut lighter = pin!(self.lighter.wait());
            let mut relieved = pin!(self.listener.traffic.relieved.wait());
            let requests = self.requests.get();
            let bytes = self.bytes.get().saturating_add(frame_bytes);
            if requests == 0 && self.may_begin_one() {
                break;
            }
            if requests == 0 || self.listener.is_crowded() {
                std::future::poll_fn(|context| {
                    let own = lighter.as_mut().poll(context);
                    if own.is_ready() {
                        own
                    } else {
                        relieved.as_mut().poll(context)
                    }
                })
                .await;
                continue;
            }
            if requests >= self.requests_max || bytes > self.bytes_max {
                lighter.await;
                continue;
            }
            if further.is_some() {
                break;
            }
            // Then looks again: an answer may have grown meanwhile, or all may have gone.
            std::future::poll_fn(|context| {
                if let Poll::Ready(permit) = acquiring.as_mut().poll(context) {
                    further = Some(permit);
                    return Poll::Ready(());
                }
                lighter.as_mut().poll(context)
            })
            .await;
        }
        let bytes_permit = self.listener.acquire_bytes(frame_bytes).await;
        self.requests.set(self.requests.get() + 1);
        self.bytes.set(self.bytes.get() + frame_bytes);
        Weight {
            load: self.clone(),
            request_bytes: frame_bytes,
            unsent_bytes: 0,
            heavy,
            bytes: bytes_permit,
            _further: further,
        }
    }
}

/// What one request weighs, until it is dropped.
pub(crate) struct Weight {
    load: Rc<Load>,
    request_bytes: usize,
    unsent_bytes: usize,
    heavy: Option<Heavy>,
    bytes: Option<Permit>,
    _further: Option<Permit>,
}

/// Counts a heavy request.
struct Heavy(Rc<Load>);

impl Heavy {
    fn new(load: &Rc<Load>) -> Heavy {
        load.heavy.set(load.heavy.get() + 1);
        Heavy(load.clone())
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.0.heavy.set(self.0.heavy.get() - 1);
    }
}

impl Weight {
    /// The request waits for as long as its client likes: its bytes are given back to others.
    pub(crate) fn waits(&mut self) {
        self.bytes = None;
        let load = &self.load;
        self.heavy.get_or_insert_with(|| Heavy::new(load));
    }

    /// The answer is there, and has so many bytes.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.unsent_bytes += bytes;
        let Load {
            listener,
            bytes: all,
            unsent_bytes: unsent,
            ..
        } = &*self.load;
        all.set(all.get() + bytes);
        unsent.set(unsent.get() + bytes);
        self.load.last_answer_bytes.set(Some(bytes));
        let of_all = &listener.traffic.unsent_bytes;
        of_all.set(of_all.get() + bytes);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        let load = &self.load;
        let unsent = &load.listener.traffic.unsent_bytes;
        unsent.set(unsent.get() - self.unsent_bytes);
        load.bytes
            .set(load.bytes.get() - self.request_bytes - self.unsent_bytes);
        load.unsent_bytes.set(load.unsent_bytes.get() - self.unsent_bytes);
        load.requests.set(load.requests.get() - 1);
        load.lighter.notify_all();
        if self.unsent_bytes > 0 {
            load.listener.traffic.relieved.notify_all();
        }
    }
}
