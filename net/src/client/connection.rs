//! One connection to a broker: requests go out one behind the other, answers come back in the same order.
//!
//! Three tasks: one sends what was queued, all of it in one call; one receives answers and gives each to the first that
//! waits; one watches the clock. The first error ends the connection, and everyone that waits gets it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ring::buffer::{PAGE_SIZE, Slice};
use ring::clock::{self, Instant};
use ring::executor::{Class, Task, spawn};
use ring::local::{self, Giver, Permit, Semaphore, Signal, Taker};
use ring::socket::{Shutdown, TcpStream};
use ring::timer;
use wire::schema::Decode;
use wire::{LENGTH_PREFIX_BYTES, Request, Response, decode_response_header};

use super::ClientError;
use crate::frame_reader::{End, FrameReader, Pools, Progress};

/// Where a request's correlation id is: behind the length, the API key and the version.
const CORRELATION_ID_AT: usize = LENGTH_PREFIX_BYTES + 4;
/// Receive pages beside one for each answer in flight.
const SPARE_PAGES: usize = 60;

/// How a connection behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The client id in requests of [`Connection::call`].
    pub client_id: String,
    /// Requests sent and not answered; one more waits.
    pub requests_in_flight_max: usize,
    /// The longest answer, in bytes.
    pub answer_bytes_max: usize,
    /// How long to wait for a connection, and for each answer from the moment at which its request was queued, in
    /// milliseconds.
    pub timeout_ms: u64,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            client_id: "millstream".to_owned(),
            // Kafka's max.in.flight.requests.per.connection.
            requests_in_flight_max: 5,
            // fetch.max.bytes of Kafka's consumer is 50 MiB; our own ask for less.
            answer_bytes_max: 8 << 20,
            // Kafka's request.timeout.ms.
            timeout_ms: 30_000,
        }
    }
}

impl ConnectionOptions {
    /// Memory that one connection sets aside in the budget of its thread, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.receive_bytes() + self.long_frame_bytes()
    }

    fn long_frame_bytes(&self) -> usize {
        self.answer_bytes_max.next_multiple_of(PAGE_SIZE)
    }

    fn receive_bytes(&self) -> usize {
        (self.requests_in_flight_max.saturating_add(SPARE_PAGES)).saturating_mul(PAGE_SIZE)
    }
}

/// A connection. Clones share it; it closes when the last, and the last [`Answer`], is gone.
#[derive(Clone)]
pub struct Connection {
    shared: Rc<Shared>,
    _tasks: Rc<Tasks>,
}

/// The tasks that work for a connection, cancelled with the last handle.
struct Tasks {
    shared: Rc<Shared>,
    _tasks: [Task<()>; 3],
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.stream.shutdown(Shutdown::Both);
    }
}

struct Shared {
    stream: TcpStream,
    address: SocketAddr,
    client_id: String,
    timeout_ms: u64,
    next_correlation_id: Cell<i32>,
    /// One permit for each request in flight.
    in_flight: Semaphore,
    /// To be sent. Those with an answer are bounded by the permits; of the others each holds back its caller.
    outgoing: RefCell<VecDeque<Outgoing>>,
    /// Sent or to be sent, in the order of the answers. Bounded by the permits.
    unanswered: RefCell<VecDeque<Unanswered>>,
    /// Why it ended.
    ended: RefCell<Option<ClientError>>,
    /// Notified when a request was queued, and at the end.
    queued: Signal,
}

struct Outgoing {
    frame: Vec<Slice>,
    /// Given when it was handed to the system.
    sent: Option<Giver<Result<(), ClientError>>>,
}

struct Unanswered {
    correlation_id: i32,
    deadline: Instant,
    giver: Giver<Result<Slice, ClientError>>,
    _permit: Permit,
}

impl Connection {
    /// Connects to a broker.
    ///
    /// # Errors
    /// [`ClientError::Connect`], and [`ClientError::TimedOut`].
    ///
    /// # Panics
    /// If the thread's memory budget has not [`ConnectionOptions::memory_bytes`] left.
    pub async fn connect(
        address: SocketAddr,
        options: &ConnectionOptions,
    ) -> Result<Connection, ClientError> {
        let timeout_ms = options.timeout_ms;
        let connecting = TcpStream::connect(address);
        let stream = timer::timeout(Duration::from_millis(timeout_ms), connecting)
            .await
            .map_err(|timer::Elapsed| ClientError::TimedOut { address, timeout_ms })?
            .map_err(|error| ClientError::Connect {
                address,
                kind: error.kind(),
            })?;
        let pools = Pools::new(options.receive_bytes(), options.long_frame_bytes());
        let pools = pools.expect("the thread's budget has the memory of its connections");
        let frames = FrameReader::new(
            stream.clone(),
            pools,
            options.answer_bytes_max,
            Rc::new(Progress::new()),
        );
        let shared = Rc::new(Shared {
            stream,
            address,
            client_id: options.client_id.clone(),
            timeout_ms,
            next_correlation_id: Cell::new(0),
            in_flight: Semaphore::new(options.requests_in_flight_max),
            outgoing: RefCell::default(),
            unanswered: RefCell::default(),
            ended: RefCell::default(),
            queued: Signal::new(),
        });
        let tasks = [
            spawn(Class::Latency, send(shared.clone())),
            spawn(Class::Latency, receive(shared.clone(), frames)),
            spawn(Class::Latency, watch(shared.clone())),
        ];
        Ok(Connection {
            shared: shared.clone(),
            _tasks: Rc::new(Tasks {
                shared,
                _tasks: tasks,
            }),
        })
    }

    /// The broker's address.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.shared.ended.borrow().is_none()
    }

    /// A number that no request in flight has, unless its sender chose it.
    pub fn next_correlation_id(&self) -> i32 {
        let id = self.shared.next_correlation_id.get();
        self.shared.next_correlation_id.set(id.wrapping_add(1));
        id
    }

    /// Queues a whole frame (length prefix, then a request with any correlation id) as soon as fewer than
    /// `requests_in_flight_max` are in flight, in the order of these calls. The [`Answer`] gives the answer's frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send(&self, frame: Vec<Slice>) -> Result<Answer, ClientError> {
        let correlation_id = correlation_id(&frame);
        let shared = &self.shared;
        let permit = shared.in_flight.acquire(1).await;
        shared.check()?;
        let (giver, taker) = local::oneshot();
        shared.unanswered.borrow_mut().push_back(Unanswered {
            correlation_id,
            deadline: clock::now() + Duration::from_millis(shared.timeout_ms),
            giver,
            _permit: permit,
        });
        let outgoing = Outgoing { frame, sent: None };
        shared.outgoing.borrow_mut().push_back(outgoing);
        shared.queued.notify_all();
        Ok(Answer {
            taker,
            connection: self.clone(),
        })
    }

    /// Sends a whole frame that gets no answer (Produce with acks=0). Returns when it was handed to the system.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send_unanswered(&self, frame: Vec<Slice>) -> Result<(), ClientError> {
        let shared = &self.shared;
        shared.check()?;
        let (giver, taker) = local::oneshot();
        shared.outgoing.borrow_mut().push_back(Outgoing {
            frame,
            sent: Some(giver),
        });
        shared.queued.notify_all();
        taker
            .await
            .unwrap_or_else(|| Err(shared.closed("it was dropped")))
    }

    /// Asks and waits for the answer. The version must be one that `wire` speaks.
    ///
    /// # Errors
    /// If the connection ended, no answer came in time, or it could not be read.
    pub async fn call<'a, Q, A>(&self, version: i16, request: &Q) -> Result<A, ClientError>
    where
        Q: Request<'a>,
        A: Response + for<'b> Decode<'b>,
    {
        let frame = request.encode(version, self.next_correlation_id(), Some(&self.shared.client_id));
        let answer = self.send(vec![Slice::from(frame)]).await?.await?;
        let (_, body) =
            decode_response_header(&answer, Q::API_KEY, version).map_err(|error| self.malformed(error))?;
        A::decode(body, version).map_err(|error| self.malformed(error))
    }

    /// The error for an answer of this connection that cannot be read.
    pub fn malformed(&self, error: wire::DecodeError) -> ClientError {
        ClientError::Malformed {
            address: self.shared.address,
            error,
        }
    }

    /// Closes it; what is in flight gets [`ClientError::Closed`].
    pub fn close(&self) {
        self.shared.end(self.shared.closed("it was closed here"));
    }
}

/// The answer to a request: the whole frame without its length prefix. It may hold memory that the connection receives
/// into: read it and drop it. Giving it up does not take the request back.
#[must_use = "it gives the answer when it is awaited"]
pub struct Answer {
    taker: Taker<Result<Slice, ClientError>>,
    /// Kept open until the answer is there.
    connection: Connection,
}

impl Answer {
    /// The connection that it comes on.
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }
}

impl Future for Answer {
    type Output = Result<Slice, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let taken = std::task::ready!(Pin::new(&mut self.taker).poll(context));
        let gone = || Err(self.connection.shared.closed("it was dropped"));
        Poll::Ready(taken.unwrap_or_else(gone))
    }
}

impl Shared {
    fn check(&self) -> Result<(), ClientError> {
        self.ended.borrow().clone().map_or(Ok(()), Err)
    }

    fn closed(&self, why: impl Display) -> ClientError {
        ClientError::Closed {
            address: self.address,
            why: why.to_string(),
        }
    }

    /// Ends the connection, for the first reason that is given.
    fn end(&self, error: ClientError) {
        let error = self.ended.borrow_mut().get_or_insert(error).clone();
        let (outgoing, unanswered) = (self.outgoing.take(), self.unanswered.take());
        for giver in outgoing.into_iter().filter_map(|outgoing| outgoing.sent) {
            giver.give(Err(error.clone()));
        }
        for request in unanswered {
            request.giver.give(Err(error.clone()));
        }
        self.stream.shutdown(Shutdown::Both);
        self.queued.notify_all();
    }
}

/// Sends what is queued, until the end.
async fn send(shared: Rc<Shared>) {
    loop {
        let queued = shared.queued.wait();
        let outgoing = shared.outgoing.take();
        if outgoing.is_empty() {
            if shared.check().is_err() {
                return;
            }
            queued.await;
            continue;
        }
        let (mut slices, mut givers) = (Vec::new(), Vec::new());
        for Outgoing { mut frame, sent } in outgoing {
            slices.append(&mut frame);
            givers.extend(sent);
        }
        let result = shared.stream.send_all(slices).await;
        let result = result.map_err(|error| shared.closed(error));
        for giver in givers {
            giver.give(result.clone());
        }
        if let Err(error) = result {
            shared.end(error);
            return;
        }
    }
}

/// Gives answers to those that wait, until the end.
async fn receive(shared: Rc<Shared>, mut frames: FrameReader) {
    loop {
        let answer = match frames.next().await {
            Ok(answer) => answer,
            Err(end) => {
                return shared.end(match end {
                    End::Closed => shared.closed("the broker closed it"),
                    End::Broken(error) => shared.closed(error),
                    End::Refused(error) => shared.closed(error),
                });
            }
        };
        let first = shared.unanswered.borrow_mut().pop_front();
        let Some(request) = first else {
            return shared.end(shared.closed("the broker answered what nobody asked"));
        };
        let answered = answer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        if answered != Some(request.correlation_id) {
            let error = shared.closed("the broker gave the answer to another request");
            request.giver.give(Err(error.clone()));
            return shared.end(error);
        }
        request.giver.give(Ok(answer));
    }
}

/// Ends the connection when the answer that is next takes too long.
async fn watch(shared: Rc<Shared>) {
    while shared.check().is_ok() {
        let queued = shared.queued.wait();
        let deadline = |shared: &Shared| shared.unanswered.borrow().front().map(|first| first.deadline);
        let Some(first) = deadline(&shared) else {
            queued.await;
            continue;
        };
        timer::sleep_until(first).await;
        if deadline(&shared).is_some_and(|deadline| deadline <= clock::now()) {
            shared.end(ClientError::TimedOut {
                address: shared.address,
                timeout_ms: shared.timeout_ms,
            });
        }
    }
}

/// The correlation id of a request's frame, which may be in pieces.
///
/// # Panics
/// If the frame is shorter than a request header.
fn correlation_id(frame: &[Slice]) -> i32 {
    let bytes = frame.iter().flat_map(|slice| slice.iter().copied());
    let mut id = [0; 4];
    let mut count = 0;
    for (place, byte) in id.iter_mut().zip(bytes.skip(CORRELATION_ID_AT)) {
        *place = byte;
        count += 1;
    }
    assert_eq!(count, id.len(), "a request has a header");
    i32::from_be_bytes(id)
}
