//! One connection of a listener: a task that reads and begins requests, and a task that gives their answers.
//!
//! Between the two is a queue of requests in flight, in the order of arrival. The writer waits for the answer to the
//! first, and sends it with those behind it that are there too. The connection ends with the writer: everything that
//! belongs to it is dropped then, the reader and unfinished answers included.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ring::buffer::Slice;
use ring::clock::{self, Instant};
use ring::executor::{Class, spawn};
use ring::local::Signal;
use ring::socket::{Shutdown, TcpStream};
use ring::timer;
use wire::LENGTH_PREFIX_BYTES;

use crate::frame_reader::{End, FrameReader, Pools, Progress};
use crate::load::{Load, Weight};
use crate::{Peer, Pending, Reply, Request, Service};

/// Answers are gathered up to so many bytes before they are sent together: enough that the call no longer matters.
const GATHERED_BYTES: usize = 256 << 10;
/// Frames that are no longer are copied together, in bytes: each slice of a send costs the kernel more.
const COPIED_BYTES_MAX: usize = 1_024;
/// Slices of one send: what sendmsg(2) takes at once (IOV_MAX).
const SLICES_MAX: usize = 1_024;
/// Bytes of one send, so that a client that reads slowly is told from one that does not read.
const SEND_BYTES_MAX: usize = 1 << 20;
/// How long a connection that we close lets the client read what was sent before: bytes that arrive at a closed socket
/// make the system throw that away (RFC 1122, 4.2.2.13).
const LINGER: Duration = Duration::from_millis(500);

/// A connection, as its two tasks and the listener share it.
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) progress: Rc<Progress>,
    stream: TcpStream,
    load: Rc<Load>,
    reading: Cell<Reading>,
    /// A request is being begun.
    is_beginning: Cell<bool>,
    is_sending: Cell<bool>,
    /// What is being sent, while it is.
    pace: Cell<Pace>,
    /// When the client last took a part of an answer, or the answer was there.
    sent: Cell<Instant>,
    /// When the request began whose answer is awaited, if it is a long poll.
    long_poll_since: Cell<Option<Instant>>,
    /// Why it must end now.
    cut: Cell<Option<&'static str>>,
    /// Notified when the writer has something to look at.
    stirred: Signal,
}

/// How fast a client takes what is sent to it.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// In one go.
    whole_bytes: usize,
    /// Since then it has taken so many of them.
    since: Instant,
    taken_bytes: usize,
}

/// What comes after the requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// More requests.
    Open,
    /// Nothing: the connection ends when all were answered.
    Draining,
    /// Nothing, and nobody reads the answers: it ends with the first that is not there.
    Gone,
}

struct InFlight<L> {
    pending: Pending<L>,
    weight: Weight,
    long_poll_since: Option<Instant>,
}

/// Those of a connection, in the order of arrival.
type Queue<L> = Rc<RefCell<VecDeque<InFlight<L>>>>;

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The client left, or we drained.
    Done,
    /// We had a reason that belongs into the log.
    Refused(String),
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: Peer, load: Rc<Load>) -> Connection {
        Connection {
            peer,
            progress: Rc::new(Progress::new()),
            stream,
            load,
            reading: Cell::new(Reading::Open),
            is_beginning: Cell::new(false),
            is_sending: Cell::new(false),
            pace: Cell::new(Pace {
                whole_bytes: 0,
                since: clock::now(),
                taken_bytes: 0,
            }),
            sent: Cell::new(clock::now()),
            long_poll_since: Cell::new(None),
            cut: Cell::new(None),
            stirred: Signal::new(),
        }
    }

    /// Serves it to its end.
    pub(crate) async fn run<S: Service>(
        self: &Rc<Self>,
        service: Rc<S>,
        pools: Pools,
        frame_bytes_max: usize,
    ) -> Why {
        let in_flight: Queue<S::Later> = Rc::default();
        let _emptied = Emptied(&in_flight);
        let frames = FrameReader::new(
            self.stream.clone(),
            pools.clone(),
            frame_bytes_max,
            self.progress.clone(),
        );
        let refused: Rc<RefCell<Option<String>>> = Rc::default();
        let reader = spawn(
            Class::Latency,
            read(self.clone(), in_flight.clone(), frames, service, refused.clone()),
        );
        let closed = self.write(&in_flight).await;
        drop(reader);
        let why = match (self.cut.get(), closed, refused.take()) {
            (Some(why), _, _) => Why::Refused(why.to_owned()),
            (None, Some(why), _) | (None, None, Some(why)) => Why::Refused(why),
            (None, None, None) => Why::Done,
        };
        if self.cut.get().is_none() && self.reading.get() != Reading::Gone {
            self.linger(&pools).await;
        }
        self.stream.shutdown(Shutdown::Both);
        why
    }

    /// Begins no more requests, answers those in flight, ends.
    pub(crate) fn drain(&self) {
        if self.reading.get() == Reading::Open {
            self.reading.set(Reading::Draining);
        }
        self.stirred.notify_all();
    }

    /// Ends at once.
    pub(crate) fn cut(&self, why: &'static str) {
        self.cut.set(Some(why));
        self.stream.shutdown(Shutdown::Both);
        self.stirred.notify_all();
    }

    /// Whether nothing moves on it for `idle` before `now`, and no answer of ours is due.
    pub(crate) fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        let waits_for_us = self.load.requests() > 0 && !self.is_sending.get();
        !waits_for_us && now - self.progress.moved.get() >= idle
    }

    /// Whether its client holds memory and stands still, or crawls.
    pub(crate) fn is_stalled(&self, now: Instant, stalled: Duration) -> bool {
        let is_long_since = |since: Instant| now - since >= stalled;
        let long_frame_since = self.progress.long_frame_since.get();
        // What it sends meanwhile does not make its answers fewer.
        (self.is_sending.get() && (is_long_since(self.sent.get()) || self.is_slow(now, stalled)))
            || (long_frame_since.is_some() && is_long_since(self.progress.moved.get()))
            || long_frame_since.is_some_and(|since| now - since >= stalled * 10)
            // Nobody reads Kafka's protocol so: there, the next request waits for the answer.
            || (self.long_poll_since.get().is_some_and(is_long_since) && self.load.heavy_requests() > 1)
    }

    /// Whether its client takes less than a tenth of what it is sent in so long a time. Looked at again and again, so that
    /// what it once took fast is no excuse.
    fn is_slow(&self, now: Instant, interval: Duration) -> bool {
        let pace = self.pace.get();
        if now - pace.since < interval {
            return false;
        }
        self.pace.set(Pace {
            since: now,
            taken_bytes: 0,
            ..pace
        });
        pace.taken_bytes < pace.whole_bytes / 10
    }

    /// Whether answers wait behind a long poll that is as old.
    pub(crate) fn keeps_answers_back(&self, now: Instant, long: Duration) -> bool {
        let since = self.long_poll_since.get();
        since.is_some_and(|since| now - since >= long) && self.load.has_unsent()
    }

    /// Answers requests until there is no more to do. Gives what a [`Reply::Close`] said.
    async fn write<L: Future<Output = Reply> + Unpin>(&self, in_flight: &Queue<L>) -> Option<String> {
        let mut first = None;
        loop {
            let gathered = self.gather(in_flight, &mut first).await;
            let _weights = gathered.weights;
            if !gathered.slices.is_empty() && self.send(gathered.slices).await.is_err() {
                return None;
            }
            match gathered.then {
                Then::More => {}
                Then::End => return None,
                Then::Close(why) => return Some(why),
            }
        }
    }

    /// Waits for the first answer, and takes all that are there behind it. `first` is the request whose answer is
    /// awaited between two calls.
    async fn gather<L: Future<Output = Reply> + Unpin>(
        &self,
        in_flight: &Queue<L>,
        first: &mut Option<InFlight<L>>,
    ) -> Gathered {
        let mut gathered = Gathered::default();
        let mut stirred = pin!(self.stirred.wait());
        std::future::poll_fn(|context| {
            loop {
                match self.next_reply(in_flight, first, context) {
                    Next::Reply(reply, weight) => {
                        gathered.add(reply, weight);
                        if gathered.is_full() {
                            return Poll::Ready(());
                        }
                    }
                    Next::End => {
                        gathered.then = Then::End;
                        return Poll::Ready(());
                    }
                    Next::Later if gathered.bytes > 0 => return Poll::Ready(()),
                    Next::Later => {
                        if stirred.as_mut().poll(context).is_pending() {
                            return Poll::Pending;
                        }
                        stirred.set(self.stirred.wait());
                    }
                }
            }
        })
        .await;
        gathered.end_copy();
        gathered
    }

    fn next_reply<L: Future<Output = Reply> + Unpin>(
        &self,
        in_flight: &Queue<L>,
        first: &mut Option<InFlight<L>>,
        context: &mut Context<'_>,
    ) -> Next {
        if self.cut.get().is_some() {
            return Next::End;
        }
        if first.is_none() {
            *first = in_flight.borrow_mut().pop_front();
        }
        self.long_poll_since.set(None);
        let Some(InFlight {
            pending,
            mut weight,
            long_poll_since,
        }) = first.take()
        else {
            let more = self.reading.get() == Reading::Open || self.is_beginning.get();
            return if more { Next::Later } else { Next::End };
        };
        match pending {
            Pending::Ready(reply) => Next::Reply(reply, weight),
            Pending::Later(mut later) | Pending::LongPoll(mut later) => {
                match Pin::new(&mut later).poll(context) {
                    Poll::Ready(reply) => {
                        weight.answered(reply.bytes());
                        Next::Reply(reply, weight)
                    }
                    Poll::Pending if self.reading.get() == Reading::Gone => Next::End,
                    Poll::Pending => {
                        self.long_poll_since.set(long_poll_since);
                        *first = Some(InFlight {
                            pending: Pending::Later(later),
                            weight,
                            long_poll_since,
                        });
                        Next::Later
                    }
                }
            }
        }
    }

    async fn send(&self, mut slices: Vec<Slice>) -> std::io::Result<()> {
        self.has_sent();
        self.pace.set(Pace {
            whole_bytes: slices.iter().map(|slice| slice.len()).sum(),
            since: clock::now(),
            taken_bytes: 0,
        });
        self.is_sending.set(true);
        while !slices.is_empty() {
            let part = take_front(&mut slices, SEND_BYTES_MAX);
            let bytes = part.iter().map(|slice| slice.len()).sum();
            self.stream.send_all(part).await?;
            self.load.sent(bytes);
            let pace = self.pace.get();
            self.pace.set(Pace {
                taken_bytes: pace.taken_bytes + bytes,
                ..pace
            });
            self.has_sent();
        }
        self.is_sending.set(false);
        Ok(())
    }

    fn has_sent(&self) {
        self.progress.moved.set(clock::now());
        self.sent.set(clock::now());
    }

    /// Ends our side and throws away what the client sends, until it has read all or time is up.
    async fn linger(&self, pools: &Pools) {
        self.stream.shutdown(Shutdown::Write);
        let discard = async {
            let mut page = pools.page().await;
            loop {
                let whole = 0..page.capacity();
                let (received, returned) = self.stream.receive(page, whole).await;
                if !matches!(received, Ok(1..)) {
                    return;
                }
                page = returned;
            }
        };
        let _ = timer::timeout(LINGER, discard).await;
    }
}

/// Drops what is in flight when the connection's task ends, however it does.
struct Emptied<'a, L>(&'a Queue<L>);

impl<L> Drop for Emptied<'_, L> {
    fn drop(&mut self) {
        let in_flight = self.0.take();
        drop(in_flight);
    }
}

/// Reads and begins requests, one after the other.
async fn read<S: Service>(
    connection: Rc<Connection>,
    in_flight: Queue<S::Later>,
    mut frames: FrameReader,
    service: Rc<S>,
    refused: Rc<RefCell<Option<String>>>,
) {
    let reading = loop {
        let frame = match frames.next().await {
            Ok(frame) => frame,
            Err(End::Closed | End::Broken(_)) => break Reading::Gone,
            Err(End::Refused(error)) => {
                *refused.borrow_mut() = Some(error.to_string());
                break Reading::Draining;
            }
        };
        connection.load.received(LENGTH_PREFIX_BYTES + frame.len());
        let mut weight = connection.load.admit(frame.len()).await;
        if connection.reading.get() != Reading::Open {
            break Reading::Draining;
        }
        connection.is_beginning.set(true);
        let pending = service.begin(&connection.peer, Request { frame }).await;
        connection.is_beginning.set(false);
        let closes = matches!(pending, Pending::Ready(Reply::Close(_)));
        if let Pending::Ready(reply) = &pending {
            weight.answered(reply.bytes());
        }
        let long_poll_since = matches!(pending, Pending::LongPoll(_)).then(|| {
            weight.waits();
            clock::now()
        });
        let request = InFlight {
            pending,
            weight,
            long_poll_since,
        };
        in_flight.borrow_mut().push_back(request);
        connection.stirred.notify_all();
        if closes {
            break Reading::Draining;
        }
    };
    connection.reading.set(reading);
    connection.stirred.notify_all();
}

enum Next {
    Reply(Reply, Weight),
    /// There is a request, or may be one, but no answer.
    Later,
    /// Nothing more will come.
    End,
}

#[derive(Default)]
struct Gathered {
    slices: Vec<Slice>,
    /// Short frames that follow the slices: one piece of memory for all of them.
    copy: Vec<u8>,
    /// Of both.
    bytes: usize,
    weights: Vec<Weight>,
    then: Then,
}

#[derive(Default)]
enum Then {
    #[default]
    More,
    End,
    Close(String),
}

impl Gathered {
    fn add(&mut self, reply: Reply, weight: Weight) {
        self.bytes += reply.bytes();
        match reply {
            Reply::Frame(mut slices) => {
                self.end_copy();
                if self.slices.is_empty() {
                    self.slices = slices;
                } else {
                    self.slices.append(&mut slices);
                }
            }
            Reply::Bytes(bytes) if bytes.len() <= COPIED_BYTES_MAX => self.copy.extend_from_slice(&bytes),
            Reply::Bytes(bytes) => {
                self.end_copy();
                self.slices.push(Slice::from(bytes.into_vec()));
            }
            Reply::Nothing => return,
            Reply::Close(why) => {
                self.then = Then::Close(why);
                return;
            }
        }
        self.weights.push(weight);
    }

    /// What is copied becomes a slice.
    fn end_copy(&mut self) {
        if !self.copy.is_empty() {
            self.slices.push(Slice::from(std::mem::take(&mut self.copy)));
        }
    }

    fn is_full(&self) -> bool {
        !matches!(self.then, Then::More) || self.bytes >= GATHERED_BYTES || self.slices.len() >= SLICES_MAX
    }
}

/// Takes slices, or a part of one, of at most `bytes_max` bytes together off the front.
fn take_front(slices: &mut Vec<Slice>, bytes_max: usize) -> Vec<Slice> {
    let mut left = bytes_max;
    for at in 0..slices.len() {
        let slice = &slices[at];
        if slice.len() <= left {
            left -= slice.len();
            continue;
        }
        let (front, back) = (slice.slice(0..left), slice.slice(left..slice.len()));
        let mut rest = slices.split_off(at);
        rest[0] = back;
        let mut taken = std::mem::replace(slices, rest);
        taken.push(front);
        return taken;
    }
    std::mem::take(slices)
}
