//! What a listener asks of those who answer requests.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use ring::buffer::Slice;
use smallvec::SmallVec;

use crate::ConnectionLimits;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client's end of the connection.
    pub address: SocketAddr,
}

/// A request as it came.
pub struct Request {
    /// The whole frame, without its length prefix. It may share its memory with its neighbours: a holder keeps all of
    /// that memory from being received into.
    pub frame: Slice,
}

/// Answers requests.
pub trait Service: 'static {
    /// What an answer that is still to come is waited for with: [`BoxedReply`], or what costs no allocation for those that come
    /// most often.
    type Later: Future<Output = Reply> + Unpin + 'static;

    /// Begins a request. Called in the order of arrival: a connection's next request is begun when this future has
    /// ended, so what must keep the order (an append) happens in it. It is dropped if the connection ends first.
    fn begin(self: &Rc<Self>, peer: &Peer, request: Request) -> impl Future<Output = Pending<Self::Later>>;

    /// Whether others wait for memory of the service's, which answers that were not read, or not given, may hold. Asked each second:
    /// while it is so, clients that stand still are cut.
    fn is_short(&self) -> bool;

    /// How many connections there may be, beside the listener's [`crate::Limits`]. Asked once, when it begins to serve.
    fn connection_limits(&self) -> Rc<ConnectionLimits> {
        Rc::default()
    }
}

/// Any future that gives an answer.
pub type BoxedReply = Pin<Box<dyn Future<Output = Reply>>>;

/// A request that was begun; its answer is waited for with an `L` if it is not there.
pub enum Pending<L> {
    /// Its answer is there.
    Ready(Reply),
    /// Its answer is still to come. It is polled when those of the connection's earlier requests were given, and
    /// dropped if the connection ends first: what must happen anyway must not depend on it. It is polled no more while
    /// the client does not read: what others wait for it must not hold across an await.
    Later(L),
    /// The same, of a request that waits for as long as its client says. Its bytes do not count as in flight any more,
    /// since nobody could say until when: what it keeps is the service's to bound. While others wait for memory, a
    /// connection is cut that has such a request for [`Limits::stalled_ms`](crate::Limits::stalled_ms) and one behind it
    /// that holds memory.
    LongPoll(L),
}

impl<L> fmt::Debug for Pending<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pending::Ready(_) => "Ready",
            Pending::Later(_) => "Later",
            Pending::LongPoll(_) => "LongPoll",
        })
    }
}

/// A whole frame. A short one, as most are, costs no allocation.
pub type FrameBytes = SmallVec<[u8; 96]>;

/// What a connection does about a request.
pub enum Reply {
    /// Sends these bytes, the length prefix among them.
    Frame(Vec<Slice>),
    /// The same, of a frame that shares no memory with others.
    Bytes(FrameBytes),
    /// Sends nothing (Produce with acks=0).
    Nothing,
    /// Sends what came before and closes; why, for the log.
    Close(String),
}

impl Reply {
    /// Bytes that it sends.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Reply::Frame(slices) => slices.iter().map(|slice| slice.len()).sum(),
            Reply::Bytes(bytes) => bytes.len(),
            Reply::Nothing | Reply::Close(_) => 0,
        }
    }
}
