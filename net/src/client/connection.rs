//! One connection to a broker: requests go out one behind the other, answers come back in the same order.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use ring::buffer::Slice;
use wire::{Request, Response};

use super::ClientError;

/// How a connection behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The client id in requests of [`Connection::call`].
    pub client_id: String,
    /// Requests sent and not answered; one more waits.
    pub requests_in_flight_max: usize,
    /// The longest answer, in bytes: the memory that a connection sets aside for answers, from its thread's budget.
    pub answer_bytes_max: usize,
    /// How long to wait for a connection, and for each answer from the moment at which its request is sent, in
    /// milliseconds.
    pub timeout_ms: u64,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            client_id: "millstream".to_owned(),
            // Kafka's max.in.flight.requests.per.connection.
            requests_in_flight_max: 5,
            // fetch.max.bytes of Kafka's consumer is 50 MiB, our own ask for less.
            answer_bytes_max: 8 << 20,
            // Kafka's request.timeout.ms.
            timeout_ms: 30_000,
        }
    }
}

/// A connection. Clones share it; it closes when the last is gone.
#[derive(Clone)]
pub struct Connection {}

impl Connection {
    /// Connects to a broker.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    ///
    /// # Panics
    /// If the thread's memory budget has not the options' `answer_bytes_max` left.
    pub async fn connect(
        address: SocketAddr,
        options: &ConnectionOptions,
    ) -> Result<Connection, ClientError> {
        todo!("{address} {options:?}")
    }

    /// The broker's address.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// A number that no request in flight has.
    pub fn next_correlation_id(&self) -> i32 {
        todo!()
    }

    /// Sends a whole frame (length prefix, then a request with any correlation id) as soon as fewer than
    /// `requests_in_flight_max` are in flight, in the order of these calls. Returns when it was queued to be sent; the
    /// [`Answer`] gives the answer's frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send(&self, frame: Vec<Slice>) -> Result<Answer, ClientError> {
        todo!("{}", frame.len())
    }

    /// Sends a whole frame that gets no answer (Produce with acks=0). Returns when it was handed to the system.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send_unanswered(&self, frame: Vec<Slice>) -> Result<(), ClientError> {
        todo!("{}", frame.len())
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// If the connection ended, no answer came in time, or it could not be read.
    pub async fn call<'a, Q, A>(&self, version: i16, request: &Q) -> Result<A, ClientError>
    where
        Q: Request<'a>,
        A: Response + for<'b> wire::schema::Decode<'b>,
    {
        todo!("{version} {:?}", std::ptr::from_ref(request))
    }

    /// Closes it; what is in flight gets [`ClientError::Closed`].
    pub fn close(&self) {
        todo!()
    }
}

/// The answer to a request: the whole frame without its length prefix. It holds memory that the connection receives
/// into: read it and drop it. Dropping it unasked gives the answer up, not the request.
#[must_use = "it gives the answer when it is awaited"]
pub struct Answer {}

impl Future for Answer {
    type Output = Result<Slice, ClientError>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}
