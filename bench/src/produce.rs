//! Sends batches: each connection has as many senders as requests may be in flight; each takes the next batch that is
//! due, waits for its time, sends it, and waits for its answer. A batch whose time has come while all were busy goes
//! out late, and its latency counts from when it was due, to when it was acknowledged or read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use net::client::{ClientError, Connection, ConnectionOptions};
use ring::buffer::Slice;
use ring::clock;
use ring::executor::{self, Class, Task};
use ring::timer::sleep_until;
use wire::messages::produce::ProduceResponse;
use wire::{ApiKey, DecodeError, ErrorCode, Response, decode_response_header};

use crate::batches::{BatchShape, Batches};
use crate::error::BenchError;
use crate::keys::KeySet;
use crate::log_place::log_starts;
use crate::producer_id::{ProducerId, Sequences};
use crate::read_back::{Place, ReadBack, Sent};
use crate::recorder::{Failure, Recorder};
use crate::requests::{RequestShape, Requests};
use crate::schedule::Schedule;
use crate::worker::{Link, Start};

/// The longest answer to a request for one partition: a topic's name, and an error with its message.
const ANSWER_BYTES_MAX: usize = 128 << 10;
/// How long a broker may wait for replicas, in milliseconds, as Java's request.timeout.ms.
const TIMEOUT_MS: i32 = 30_000;

/// What to send.
#[derive(Debug, Clone)]
pub(crate) struct ProduceLoad {
    pub(crate) topic: String,
    pub(crate) shape: BatchShape,
    /// Without them, records have no key.
    pub(crate) keys: Option<Arc<KeySet>>,
    /// By client, if these are idempotent.
    pub(crate) producers: Option<Arc<[ProducerId]>>,
    pub(crate) acks: i16,
    pub(crate) in_flight: u32,
    pub(crate) records_per_s: Option<u64>,
}

/// Connections and batches, ready to go.
pub(crate) struct Prepared {
    load: ProduceLoad,
    links: Vec<(Link, Requests)>,
}

impl ProduceLoad {
    pub(crate) fn connection_options(&self) -> ConnectionOptions {
        ConnectionOptions {
            client_id: crate::CLIENT_ID.to_owned(),
            requests_in_flight_max: usize::try_from(self.in_flight).expect("it is in range"),
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..ConnectionOptions::default()
        }
    }

    pub(crate) async fn prepare(self, links: Vec<Link>) -> Result<Prepared, BenchError> {
        let batches = Batches::build(self.shape, self.keys.clone());
        let mut ready = Vec::with_capacity(links.len());
        for link in links {
            log_starts(&link.route, &link.connection, &self.topic).await?;
            let shape = RequestShape {
                api_version: link.route.api_version,
                acks: self.acks,
                timeout_ms: TIMEOUT_MS,
                topic: &self.topic,
            };
            let requests = batches.requests(shape, &link.route.lane.partitions, link.route.lane.share.whole);
            ready.push((link, requests));
        }
        Ok(Prepared {
            load: self,
            links: ready,
        })
    }
}

/// What ends the latency of a batch.
pub(crate) enum Ending {
    /// Its acknowledgement; without one, that it is handed to the system.
    Acknowledged,
    /// That it was read.
    Read(Rc<ReadBack>),
}

impl Prepared {
    /// Starts the senders.
    pub(crate) fn begin(self, start: Start, recorder: &Rc<RefCell<Recorder>>) -> Vec<Task<()>> {
        self.begin_each(start, recorder, |_| Ending::Acknowledged)
    }

    /// Starts the senders; `ending` is told the place of each connection among all.
    pub(crate) fn begin_each(
        self,
        start: Start,
        recorder: &Rc<RefCell<Recorder>>,
        ending: impl Fn(usize) -> Ending,
    ) -> Vec<Task<()>> {
        let mut tasks = Vec::new();
        for (place, (link, requests)) in self.links.into_iter().enumerate() {
            let lane = &link.route.lane;
            let lane = Rc::new(Sending {
                schedule: Schedule::new(
                    start.at,
                    self.load.records_per_s,
                    requests.turns().records_on_average(),
                    lane.share,
                ),
                next: Cell::new(0),
                requests,
                sequences: (self.load.producers.as_ref())
                    .map(|producers| Sequences::new(producers[lane.client], lane.partitions.len())),
                is_answered: self.load.acks != 0,
                broker: link.route.broker(),
                api_version: link.route.api_version,
                connection: link.connection,
                start,
                recorder: recorder.clone(),
                ending: ending(place),
            });
            let senders = (0..self.load.in_flight).map(|_| {
                let lane = lane.clone();
                executor::spawn(Class::Latency, async move {
                    lane.send_until_the_end().await;
                    if let Ending::Read(read_back) = &lane.ending {
                        read_back.sender_ended();
                    }
                })
            });
            tasks.extend(senders);
        }
        tasks
    }
}

/// What the senders of a connection share.
struct Sending {
    schedule: Schedule,
    /// The number of the next batch.
    next: Cell<u64>,
    requests: Requests,
    /// Of an idempotent producer.
    sequences: Option<Sequences>,
    is_answered: bool,
    broker: String,
    api_version: i16,
    connection: Connection,
    start: Start,
    recorder: Rc<RefCell<Recorder>>,
    ending: Ending,
}

impl Sending {
    async fn send_until_the_end(&self) {
        let end = self.start.window.to;
        // All connections at once, however soon each stands.
        sleep_until(self.start.at).await;
        loop {
            let number = self.next.get();
            self.next.set(number + 1);
            let due = self.schedule.due(self.requests.turns().records_before(number));
            match due {
                Some(due) if due >= end => return,
                Some(due) if due > clock::now() => {
                    sleep_until(due).await;
                    self.recorder.borrow_mut().woke(due, clock::now());
                }
                // It was due while all senders were busy: the broker's doing.
                Some(_) => {}
                None => {}
            }
            let now = clock::now();
            if now >= end {
                self.count_unsent();
                return;
            }
            let outgoing = self.requests.outgoing(number);
            let (place, partition) = (outgoing.place, outgoing.partition);
            let stamp = match &self.sequences {
                None => None,
                Some(sequences) => match sequences.take(place, outgoing.records()) {
                    Some(stamp) => Some(stamp),
                    None if sequences.are_over() => {
                        self.count_unsent();
                        return;
                    }
                    None => {
                        if due.is_some() {
                            self.recorder.borrow_mut().unsent(1);
                        }
                        continue;
                    }
                },
            };
            let due = due.unwrap_or(now);
            // From the stamp to the connection's queue nothing waits: they go out in the order of their sequences.
            match self.exchange(outgoing.request(stamp), partition).await {
                Ok(base_offset) => {
                    let sent = Sent {
                        due,
                        records: outgoing.records(),
                        bytes: outgoing.value_bytes(),
                    };
                    self.acknowledged((partition, base_offset), sent);
                }
                Err(Refused::Batch(failure)) => {
                    self.recorder.borrow_mut().failed(failure);
                    if let Some(sequences) = &self.sequences {
                        sequences.refused(place);
                    }
                }
                Err(Refused::Connection(failure)) => {
                    self.recorder.borrow_mut().failed(failure);
                    return;
                }
            }
        }
    }

    fn acknowledged(&self, place: Place, sent: Sent) {
        match &self.ending {
            Ending::Acknowledged => {
                let mut recorder = self.recorder.borrow_mut();
                recorder.answered(sent.due, clock::now(), sent.records, sent.bytes);
            }
            Ending::Read(read_back) => read_back.acknowledged(place, sent),
        }
    }

    /// A sender took a batch that was due and found the window closed, or no partition that takes it: this one, and all that were due behind it, stay
    /// unsent. The numbers are taken from the other senders, so that each is counted once.
    fn count_unsent(&self) {
        if let Some(records) = self.schedule.due_before(self.start.window.to) {
            let due = self.requests.turns().batches_before(records);
            let behind = due.saturating_sub(self.next.get());
            self.next.set(self.next.get().max(due));
            self.recorder.borrow_mut().unsent(1 + behind);
        }
    }

    /// The offset of the batch; -1 if there is no answer.
    async fn exchange(&self, request: Vec<Slice>, partition: i32) -> Result<i64, Refused> {
        if !self.is_answered {
            let sent = self.connection.send_unanswered(request).await;
            return sent.map(|()| -1).map_err(|error| self.broken(&error));
        }
        let answer = self.connection.send(request).await;
        let answer = answer.map_err(|error| self.broken(&error))?;
        let frame = answer.await.map_err(|error| self.broken(&error))?;
        match self.outcome_of(&frame) {
            Ok((ErrorCode::None, base_offset)) => Ok(base_offset),
            Ok((code, _)) => Err(Refused::Batch(self.failure(partition, code.to_string()))),
            Err(error) => Err(Refused::Connection(self.failure(partition, error.to_string()))),
        }
    }

    /// The code of the one partition that was asked about, and the batch's offset.
    fn outcome_of(&self, frame: &[u8]) -> Result<(ErrorCode, i64), DecodeError> {
        let (_, body) = decode_response_header(frame, ApiKey::Produce, self.api_version)?;
        let response = ProduceResponse::decode(body, self.api_version)?;
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        Ok(
            partition.map_or((ErrorCode::UnknownServerError, -1), |partition| {
                (partition.error_code, partition.base_offset)
            }),
        )
    }

    fn broken(&self, error: &ClientError) -> Refused {
        Refused::Connection(self.failure(-1, error.to_string()))
    }

    fn failure(&self, partition: i32, what: String) -> Failure {
        Failure {
            broker: self.broker.clone(),
            partition,
            what,
        }
    }
}

/// Why a batch was not acknowledged.
enum Refused {
    /// The broker refused it; the connection stands.
    Batch(Failure),
    /// Nothing more can be sent.
    Connection(Failure),
}
