//! Produce (key 0), versions 3-11: appends batches, and answers when they are as safe as their topics want them.
//!
//! The batches of a request are checked, numbered and put into the pending commit while the request is begun, in
//! order, so that what a connection pipelines keeps its order; the answer ([`answer`]) waits for the commit. Until then the
//! request's own bytes are not needed: they go back to the connection.

mod answer;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ring::clock::Instant;
use ring::local::Permit;
use smallvec::SmallVec;
use storage::{
    AppendError, Appended, CommitTicket, OPENED_BYTES_MAX, OpenError, OpeningBudget, PartitionLog,
    ProducerCheck, StorageError,
};
use wire::messages::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceTopic, RecordError,
};
use wire::{ErrorCode, RecordBatch};

pub(crate) use self::answer::{AnswerMemory, Committing};
use self::answer::{Draft, Part};
use crate::api::{Call, Handled, Later, Pending, bound_entries};
use crate::partition::leader::{self, Refusal, TimestampType};
use crate::shard::{LocalTopic, Place, Shard, World};

/// The client id of Kafka's own tools: it alone may write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// How long a request waits for room in the journal: less than the time after which clients give up on a request.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// The most records that a request's answer says are the bad ones, for all of its batches; of each batch one at least.
const RECORD_ERRORS_MAX: usize = 10_000;
/// The first version whose answer names the new leader (KIP-951).
const FIRST_LEADER_VERSION: i16 = 10;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: ProduceRequest<'_> = call.body()?;
    bound_entries(std::iter::once(request.topics.len()))?;
    // Read once: each time costs a walk over all of the topic.
    let sent: SmallVec<[ProduceTopic<'_>; 1]> = request.topics.iter().collect();
    bound_entries(sent.iter().map(|topic| topic.partitions.len() + 1))?;
    let acks = request.acks;
    let begun = ring::clock::now();
    let world = shard.world_with(|| sent.iter().map(|topic| topic.name)).await;
    let locals: SmallVec<[_; 1]> = sent.iter().map(|topic| world.topic(topic.name)).collect();
    let prefetch = |local: Option<&LocalTopic>, partition: Option<ProducePartition<'_>>| {
        let log = partition.and_then(|partition| local?.log(partition.partition));
        log.inspect(|log| log.prefetch());
    };
    // Of the first batch before the request is judged, of every other before the one ahead of it is appended.
    if let (Some(first), Some(local)) = (sent.first(), locals.first()) {
        prefetch(*local, first.partitions.iter().next());
    }
    let rules = RequestRules::of(&request, &sent, &call, begun);
    let mut draft = Draft::begin(&shard.produce_answer);
    for (topic, local) in sent.iter().zip(locals) {
        draft.topic(topic.name);
        let mut next = topic.partitions.iter().skip(1);
        for partition in topic.partitions {
            prefetch(local, next.next());
            let part = append(&shard, &world, local, &partition, &rules, &call).await;
            shard.counters.produce_errors.count(part.response.error_code);
            draft.add(part);
        }
    }
    if acks == 0 {
        shard.counters.produce_time.record(ring::clock::now() - begun);
        return Ok(Pending::Ready(draft.silence()));
    }
    drop(sent);
    Ok(match draft.wait(&shard, call.into_caller(), begun) {
        Ok(committing) => Pending::Later(Later::Committing(committing)),
        // The batches are appended all the same: it is not the request that is malformed.
        Err(refused) => Pending::Ready(refused.close()),
    })
}

/// What holds for all partitions of a request.
struct RequestRules {
    version: i16,
    /// The whole request is refused with this.
    refusal: Option<Refusal>,
    acks_are_valid: bool,
    /// Until when all of its batches together wait for room in the journal.
    room_deadline: Instant,
    /// How many more records may be named as bad ones.
    record_errors_left: Cell<usize>,
    /// What its batches that have to be opened may inflate to.
    opening: OpeningBudget,
}

impl RequestRules {
    fn of(
        request: &ProduceRequest<'_>,
        sent: &[ProduceTopic<'_>],
        call: &Call,
        begun: Instant,
    ) -> RequestRules {
        let mut partitions = sent.iter().flat_map(|topic| topic.partitions.iter());
        let is_transactional = request.transactional_id.is_none()
            && partitions.any(|partition| leader::is_transactional(partition.records));
        RequestRules {
            version: call.version,
            // As Kafka refuses a transactional batch without a transactional id.
            refusal: is_transactional.then_some(Refusal {
                code: ErrorCode::TransactionalIdAuthorizationFailed,
                cause: "a transactional batch needs a transactional id",
                stage: leader::Stage::Request,
            }),
            acks_are_valid: matches!(request.acks, -1..=1),
            room_deadline: begun + ROOM_WAIT,
            record_errors_left: Cell::new(RECORD_ERRORS_MAX),
            opening: OpeningBudget::new(OPENED_BYTES_MAX),
        }
    }
}

async fn append(
    shard: &Shard,
    world: &World,
    topic: Option<&LocalTopic>,
    sent: &ProducePartition<'_>,
    rules: &RequestRules,
    call: &Call,
) -> Part {
    let partition = sent.partition;
    if let Some(refusal) = rules.refusal {
        return Part::failed(partition, refusal.code, refusal.cause);
    }
    let Some(topic) = topic else {
        return Part::failed(
            partition,
            ErrorCode::UnknownTopicOrPartition,
            "the topic does not exist",
        );
    };
    let place = shard.place_for_data(topic, partition);
    if matches!(place, Place::Nowhere) {
        let cause = "the topic has no such partition";
        return Part::failed(partition, ErrorCode::UnknownTopicOrPartition, cause);
    }
    let now_ms = ring::clock::wall_clock_ms();
    let checked = leader::check(sent.records, rules.version, &topic.rules, now_ms);
    // The order of what follows is Kafka's, for requests that are wrong in more than one way.
    if let Err(refusal) = checked
        && refusal.stage == leader::Stage::Request
    {
        return Part::failed(partition, refusal.code, refusal.cause);
    }
    if !rules.acks_are_valid {
        return Part::failed(
            partition,
            ErrorCode::InvalidRequiredAcks,
            "acks must be 0, 1 or -1",
        );
    }
    if topic.topic.is_internal && call.client_id() != Some(ADMIN_CLIENT_ID) {
        let cause = "clients may not write to internal topics";
        return Part::failed(partition, ErrorCode::InvalidTopicException, cause);
    }
    let log = match place {
        Place::Here(log) => log,
        Place::Elsewhere(state) => {
            let mut part = Part::failed(
                partition,
                ErrorCode::NotLeaderOrFollower,
                "another node leads the partition",
            );
            if rules.version >= FIRST_LEADER_VERSION {
                (part.response.current_leader, part.endpoint) = world.leader(state);
            }
            return part;
        }
        Place::Offline => {
            let cause = "the log directory of the partition has failed";
            return Part::failed(partition, ErrorCode::KafkaStorageError, cause);
        }
        Place::Nowhere => unreachable!("answered above"),
    };
    let judged = match checked {
        Ok(batch) if is_opened(topic, &batch) => {
            // In a box, so that it is not a part of every request.
            Box::pin(judge_records(shard, log, topic, batch, rules)).await
        }
        Ok(batch) => Ok(Judged::AsSent(batch)),
        Err(refusal) => Err(refusal),
    };
    match judged {
        Ok(Judged::AsSent(batch)) => {
            append_here(shard, log, topic, partition, &batch, rules.room_deadline).await
        }
        Ok(Judged::Recompressed(batch, _permit)) => match RecordBatch::parse(&batch) {
            Ok((batch, _)) => append_here(shard, log, topic, partition, &batch, rules.room_deadline).await,
            Err(_) => unreachable!("it was written here"),
        },
        Ok(Judged::Keyless(places)) => {
            let left = rules.record_errors_left.get();
            rules.record_errors_left.set(left.saturating_sub(places.len()));
            refused_records(partition, &places)
        }
        Err(refusal) => Part::failed(partition, refusal.code, refusal.cause),
    }
}

/// What came of a batch whose header is good.
enum Judged<'a> {
    /// It is appended as it came.
    AsSent(RecordBatch<'a>),
    /// It is appended in the topic's codec. While the permit is held it counts among those that there may be.
    Recompressed(Vec<u8>, Permit),
    /// It is refused for these records, by their places.
    Keyless(Vec<i32>),
}

/// Whether its topic asks for a batch to be opened: for keys, or to compress it anew.
fn is_opened(topic: &LocalTopic, batch: &RecordBatch<'_>) -> bool {
    topic.rules.is_compacted || topic.rules.recompression_of(batch.header()).is_some()
}

/// Opens a batch, and does what its topic asks for.
async fn judge_records<'a>(
    shard: &Shard,
    log: &PartitionLog,
    topic: &LocalTopic,
    batch: RecordBatch<'a>,
    rules: &RequestRules,
) -> Result<Judged<'a>, Refusal> {
    let recompression = topic.rules.recompression_of(batch.header());
    let patience = || rules.room_deadline - ring::clock::now();
    let permit = match recompression {
        None => None,
        Some(_) => {
            let permit = ring::timer::timeout(patience(), shard.recompressions.acquire(1)).await;
            Some(permit.map_err(|_| leader::not_opened(OpenError::Busy))?)
        }
    };
    let opened = log.open_batch(&batch, &rules.opening, patience()).await;
    let opened = opened.map_err(leader::not_opened)?;
    if topic.rules.is_compacted {
        let keyless = leader::records_without_key(&opened, rules.record_errors_left.get()).await?;
        if !keyless.is_empty() {
            return Ok(Judged::Keyless(keyless));
        }
    }
    let (Some(target), Some(permit)) = (recompression, permit) else {
        return Ok(Judged::AsSent(batch));
    };
    let written = opened.recompress(target.codec, target.level, topic.rules.max_message_bytes);
    let written = written.await.map_err(leader::not_recompressed)?;
    match RecordBatch::parse(&written) {
        Ok((batch, _)) => leader::check_recompressed(&batch, &topic.rules, ring::clock::wall_clock_ms())?,
        Err(_) => unreachable!("it was written here"),
    }
    Ok(Judged::Recompressed(written, permit))
}

/// A batch is refused for these records of it, by their places (KIP-467).
fn refused_records(partition: i32, places: &[i32]) -> Part {
    let cause = "the topic is compacted: its records need keys";
    let mut part = Part::failed(partition, ErrorCode::InvalidRecord, cause);
    let errors = places.iter().map(|place| RecordError {
        batch_index: *place,
        batch_index_error_message: None,
    });
    part.response.record_errors = errors.collect();
    part
}

async fn append_here(
    shard: &Shard,
    log: &PartitionLog,
    topic: &LocalTopic,
    partition: i32,
    batch: &RecordBatch<'_>,
    room_deadline: Instant,
) -> Part {
    let outcome = append_when_there_is_room(shard, log, batch, room_deadline).await;
    let log_start_offset = log.log_start_offset();
    match outcome {
        Ok((base_offset, log_append_time_ms, ticket)) => Part {
            response: ProducePartitionResponse {
                partition,
                base_offset,
                log_append_time_ms: match topic.rules.timestamp_type {
                    TimestampType::Create => -1,
                    TimestampType::LogAppend => log_append_time_ms.unwrap_or(-1),
                },
                log_start_offset,
                ..ProducePartitionResponse::default()
            },
            ticket: Some(ticket),
            endpoint: None,
        },
        Err(error_code) => {
            let mut part = Part::failed(partition, error_code, cause_of(error_code));
            part.response.log_start_offset = log_start_offset;
            part
        }
    }
}

/// The batch's first offset, the broker's time, and what to wait for.
type Placed = (i64, Option<i64>, CommitTicket);

/// Appends, waiting in turn for the journal if that is full: the connection is not read meanwhile.
async fn append_when_there_is_room(
    shard: &Shard,
    log: &PartitionLog,
    batch: &RecordBatch<'_>,
    deadline: Instant,
) -> Result<Placed, ErrorCode> {
    let header = batch.header();
    let attempt = || {
        // Judged again each time: others may have appended meanwhile.
        match log.check_producer(header) {
            ProducerCheck::Append => {}
            ProducerCheck::OutOfOrder => return Ok(Err(ErrorCode::OutOfOrderSequenceNumber)),
            ProducerCheck::EpochFenced => return Ok(Err(ErrorCode::InvalidProducerEpoch)),
            ProducerCheck::Duplicate {
                base_offset,
                log_append_time_ms,
                ticket,
                ..
            } => {
                shard.counters.duplicate_batches.add(1);
                return Ok(Ok((base_offset, Some(log_append_time_ms), ticket)));
            }
        }
        let Appended {
            base_offset,
            log_append_time_ms,
            ticket,
        } = log.append(batch.bytes(), header)?;
        let counters = &shard.counters;
        counters.produced_batches.add(1);
        counters
            .produced_records
            .add(u64::from(header.record_count.unsigned_abs()));
        counters.produced_bytes.add(batch.bytes().len() as u64);
        Ok(Ok((base_offset, log_append_time_ms, ticket)))
    };
    log.append_in_turn(deadline, attempt)
        .await
        .unwrap_or_else(|refused| {
            Err(match refused {
                AppendError::JournalFull | AppendError::BacklogFull => ErrorCode::RequestTimedOut,
                AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
                AppendError::Malformed => ErrorCode::InvalidRecord,
                AppendError::Fenced(StorageError::Dropped) => ErrorCode::UnknownTopicOrPartition,
                AppendError::Fenced(_) => ErrorCode::KafkaStorageError,
            })
        })
}

fn cause_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::OutOfOrderSequenceNumber => "the batch does not follow the producer's last one",
        ErrorCode::InvalidProducerEpoch => "a producer of a newer epoch has written",
        ErrorCode::MessageTooLarge => "the batch is larger than the log takes",
        ErrorCode::RequestTimedOut => "the disk is behind: the journal was full for too long",
        _ => "the log does not take batches now",
    }
}
