//! Fetch (key 1), versions 4-17: reads records, or waits for them.
//!
//! A waiting fetch costs nothing until one of its partitions moves; the memory that all hold together has a bound
//! (`fetch_room.rs`). Nothing above the high watermark is shown, whoever
//! asks: a client that claims to be a replica is told that it is none. A fetch inside a batch returns the whole batch,
//! and the first batch is returned even if it is larger than all limits. The answer is protocol bytes with slices of the
//! log between them: record bytes are copied only where a few of them would keep much memory from others (`storage`).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use net::Reply;
use ring::buffer::Slice;
use ring::local::{Permit, SignalWait};
use storage::{PartitionLog, ReadError};
use wire::messages::fetch::{
    EpochEndOffset, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse,
};
use wire::messages::leader::{LeaderIdAndEpoch, NodeEndpoint};
use wire::{Compression, ErrorCode, Piece};

use crate::api::session::{FINAL_EPOCH, INITIAL_EPOCH, Interest, Plan, Seen, TopicKey};
use crate::api::{
    ANSWER_BYTES_MAX, AnswerBudget, Call, Caller, Handled, Pending, Refused, bound_entries, long_poll,
    topic_id, uuid,
};
use crate::partition::leader::check_leader_epoch;
use crate::shard::{LocalTopic, Place, Shard, World};

/// The first version that names topics by id.
const FIRST_VERSION_BY_ID: i16 = 13;
/// The first version whose clients know zstd (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 10;
/// The first version whose answer names the new leader (KIP-951).
const FIRST_LEADER_VERSION: i16 = 16;
/// The last version whose clients do not know KAFKA_STORAGE_ERROR.
const LAST_VERSION_WITHOUT_STORAGE_ERROR: i16 = 5;
/// `isolation_level` of a client that wants committed records only.
const READ_COMMITTED: i8 = 1;

/// What a request asks for, beside its partitions.
#[derive(Debug, Clone, Copy)]
struct Terms {
    caller: Caller,
    max_wait: Duration,
    /// It has room that others may want: then it does not wait for long.
    has_room: bool,
    min_bytes: usize,
    max_bytes: i32,
    read_committed: bool,
    /// The node that it claims to be, -1 for a consumer.
    replica_id: i32,
}

impl Terms {
    fn uses_topic_ids(&self) -> bool {
        self.caller.version >= FIRST_VERSION_BY_ID
    }
}

/// The longest wait of a request whose room others want: so short that a line of them moves on, so long that clients
/// which ask again do not keep the shard busy.
const SHORT_WAIT: Duration = Duration::from_millis(100);

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let since = ring::clock::now();
    let request: FetchRequest<'_> = call.body()?;
    let named = request.topics.iter().map(|topic| topic.partitions.len() + 1);
    bound_entries(
        named.chain(
            request
                .forgotten_topics
                .iter()
                .map(|topic| topic.partitions.len() + 1),
        ),
    )?;
    let by_id = call.version >= FIRST_VERSION_BY_ID;
    let key = |name: &str, id| {
        if by_id {
            TopicKey::Id(topic_id(id))
        } else {
            TopicKey::Name(name.into())
        }
    };
    let names_bytes = request.topics.iter().map(|topic| topic.name.len()).sum();
    let room = room(&shard, &request, names_bytes).await;
    let mut interests = Interests::default();
    for topic in request.topics {
        let topic_key = key(topic.name, topic.topic_id);
        for asked in topic.partitions {
            interests.add(Interest {
                topic: topic_key.clone(),
                partition: asked.partition,
                // Kafka takes any negative one for none, here and in no other API.
                current_leader_epoch: asked.current_leader_epoch.max(-1),
                fetch_offset: asked.fetch_offset,
                last_fetched_epoch: asked.last_fetched_epoch,
                max_bytes: asked.partition_max_bytes,
            });
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics {
        let topic_key = key(topic.name, topic.topic_id);
        forgotten.extend(
            topic
                .partitions
                .iter()
                .map(|partition| (topic_key.clone(), partition)),
        );
    }
    let max_bytes = request.max_bytes.min(shard.settings.fetch_max_bytes);
    let (session_id, session_epoch) = (request.session_id, request.session_epoch);
    let mut terms = Terms {
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        has_room: false,
        min_bytes: usize::try_from(request.min_bytes.min(max_bytes)).unwrap_or(0),
        max_bytes,
        read_committed: request.isolation_level == READ_COMMITTED,
        replica_id: request.replica_id(),
        caller: call.into_caller(),
    };
    let now_ms = ring::clock::wall_clock_ms();
    let begun = shard.sessions.borrow_mut().begin(
        session_id,
        session_epoch,
        by_id,
        interests.in_order,
        forgotten,
        now_ms,
    );
    match begun {
        Ok(plan) => {
            let room = shard.fetch_room.keep(room, plan.interests().len(), names_bytes);
            terms.has_room = room.is_some();
            long_poll(async move {
                let reply = answer(&shard, plan, terms).await;
                shard.counters.fetch_time.record(ring::clock::now() - since);
                drop(room);
                reply
            })
        }
        Err(error_code) => {
            shard.counters.fetch_errors.count(error_code);
            shard.counters.fetch_time.record(ring::clock::now() - since);
            let response = FetchResponse::<Slice> {
                error_code,
                ..FetchResponse::default()
            };
            Ok(Pending::Ready(frame(response, terms.caller)))
        }
    }
}

/// Waits for the room that the request needs, with the partitions of its session.
async fn room(shard: &Shard, request: &FetchRequest<'_>, names_bytes: usize) -> Option<Permit> {
    let named: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let partitions = || match request.session_epoch {
        INITIAL_EPOCH | FINAL_EPOCH => named,
        _ => named + shard.sessions.borrow().followed_by(request.session_id),
    };
    loop {
        let before = partitions();
        let room = shard.fetch_room.take(before, names_bytes).await;
        if partitions() <= before {
            return room;
        }
    }
}

/// What a request asks for, in its order. Of a partition that it names twice the last counts, in the place of the first:
/// Kafka reads them into such a map.
#[derive(Default)]
struct Interests {
    in_order: Vec<Interest>,
    places: BTreeMap<(TopicKey, i32), usize>,
}

impl Interests {
    fn add(&mut self, interest: Interest) {
        if let Some(last) = self.in_order.last_mut()
            && last.partition == interest.partition
            && last.topic == interest.topic
        {
            *last = interest;
            return;
        }
        let key = (interest.topic.clone(), interest.partition);
        let place = *self.places.entry(key).or_insert(self.in_order.len());
        match self.in_order.get_mut(place) {
            Some(earlier) => *earlier = interest,
            None => self.in_order.push(interest),
        }
    }
}

/// What the answer may still take for a partition.
#[derive(Clone, Copy)]
struct ReadLimits {
    /// Bytes.
    left: i32,
    /// The answer has no records: one batch may be larger than any limit.
    nothing_yet: bool,
    /// It may wait for memory.
    may_wait: bool,
}

async fn answer(shard: &Shard, plan: Plan, terms: Terms) -> Reply {
    let interests = plan.interests();
    shard
        .world_that(|world| interests.iter().all(|interest| topic(world, interest).is_some()))
        .await;
    let found = wait(shard, interests, &terms).await;
    let mut left = terms.max_bytes;
    let mut nothing_yet = true;
    // Once, for the first partition that has something: what the answer holds already must not be waited for.
    let mut may_wait = true;
    let mut partitions = Vec::with_capacity(found.len());
    let mut endpoints: Vec<NodeEndpoint> = Vec::new();
    for (interest, found) in interests.iter().zip(found) {
        if let Found::Refused {
            endpoint: Some(endpoint),
            ..
        } = &found
            && !endpoints.iter().any(|known| known.node_id == endpoint.node_id)
        {
            endpoints.push(endpoint.clone());
        }
        let has_something = matches!(&found, Found::Here { available, .. } if *available > 0);
        let limits = ReadLimits {
            left,
            nothing_yet,
            may_wait,
        };
        let part = read(shard, interest, found, &terms, limits).await;
        let bytes = part.records.byte_count();
        may_wait &= !has_something;
        nothing_yet &= bytes == 0;
        left = left
            .saturating_sub(i32::try_from(bytes).unwrap_or(i32::MAX))
            .max(0);
        shard.counters.fetched_bytes.add(bytes as u64);
        shard.counters.fetch_errors.count(part.error_code);
        partitions.push(part);
    }
    let seen: Vec<Seen> = partitions.iter().map(seen).collect();
    let outcome = shard.sessions.borrow_mut().finish(
        &plan,
        &seen,
        terms.uses_topic_ids(),
        ring::clock::wall_clock_ms(),
        ring::random::next_u64,
    );
    let included = interests.iter().zip(partitions).zip(outcome.included);
    let included = included.filter_map(|(pair, included)| included.then_some(pair));
    let topics = match by_topic(included) {
        Ok(topics) => topics,
        Err(refused) => return refused.close(),
    };
    let response = FetchResponse {
        error_code: outcome.error,
        session_id: outcome.session_id,
        topics,
        node_endpoints: endpoints,
        ..FetchResponse::default()
    };
    frame(response, terms.caller)
}

/// What a look at a partition found.
enum Found {
    /// It is led here, and this much can be read.
    Here { log: PartitionLog, available: usize },
    /// The consumer has records that this log has not.
    Diverging { log: PartitionLog, end: EpochEndOffset },
    /// It cannot be read here.
    Refused {
        error_code: ErrorCode,
        leader: LeaderIdAndEpoch,
        endpoint: Option<NodeEndpoint>,
    },
}

impl Found {
    fn refused(error_code: ErrorCode) -> Found {
        Found::Refused {
            error_code,
            leader: LeaderIdAndEpoch::default(),
            endpoint: None,
        }
    }
}

/// Looks at the partitions until there is enough to answer, or until the request's time is over.
async fn wait(shard: &Shard, interests: &[Interest], terms: &Terms) -> Vec<Found> {
    let begun = ring::clock::now();
    let mut found = look(shard, interests, terms);
    while !is_enough(&found, terms) && !shard.is_stopping() {
        // Registered before the second look, so that nothing that comes in between is missed.
        let mut moves = vec![shard.world_moved().wait()];
        if terms.has_room {
            moves.push(shard.fetch_room.wanted());
        }
        moves.extend(found.iter().filter_map(|found| match found {
            Found::Here { log, .. } => Some(log.moved().wait()),
            _ => None,
        }));
        found = look(shard, interests, terms);
        let max_wait = if terms.has_room && shard.fetch_room.is_short() {
            terms.max_wait.min(SHORT_WAIT)
        } else {
            terms.max_wait
        };
        let left = begun + max_wait - ring::clock::now();
        if is_enough(&found, terms) || left.is_zero() {
            break;
        }
        if ring::timer::timeout(left, any(moves)).await.is_err() {
            return look(shard, interests, terms);
        }
        found = look(shard, interests, terms);
    }
    found
}

/// As soon as one of the signals is given.
async fn any(mut waits: Vec<SignalWait>) {
    std::future::poll_fn(move |context| {
        let ready = waits
            .iter_mut()
            .any(|wait| Pin::new(wait).poll(context).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// As Kafka: an error, or a diverging log, is answered at once.
fn is_enough(found: &[Found], terms: &Terms) -> bool {
    let mut available = 0usize;
    for found in found {
        match found {
            Found::Here { available: bytes, .. } => available = available.saturating_add(*bytes),
            Found::Diverging { .. } | Found::Refused { .. } => return true,
        }
    }
    found.is_empty() || terms.max_wait.is_zero() || available >= terms.min_bytes
}

fn look(shard: &Shard, interests: &[Interest], terms: &Terms) -> Vec<Found> {
    let world = shard.world();
    let look = |interest| look_at(shard, &world, interest, terms);
    let mut found: Vec<Found> = interests.iter().map(look).collect();
    // The first that has something gives a whole batch, whatever its limit.
    for (found, interest) in found.iter_mut().zip(interests) {
        if let Found::Here { log, available } = found
            && *available > 0
        {
            *available = (*available).max(log.batch_bytes_in_memory(interest.fetch_offset));
            break;
        }
    }
    found
}

fn topic<'a>(world: &'a World, interest: &Interest) -> Option<&'a LocalTopic> {
    match &interest.topic {
        TopicKey::Name(name) => world.topic(name),
        TopicKey::Id(id) => world.topic_by_id(*id),
    }
}

fn look_at(shard: &Shard, world: &World, interest: &Interest, terms: &Terms) -> Found {
    let Some(topic) = topic(world, interest) else {
        return Found::refused(match interest.topic {
            TopicKey::Name(_) => ErrorCode::UnknownTopicOrPartition,
            TopicKey::Id(_) => ErrorCode::UnknownTopicId,
        });
    };
    let refused_with_leader = |error_code| {
        let mut found = Found::refused(error_code);
        if let (Found::Refused { leader, endpoint, .. }, Some(state)) =
            (&mut found, topic.state(interest.partition))
            && terms.caller.version >= FIRST_LEADER_VERSION
        {
            (*leader, *endpoint) = world.leader(state);
        }
        found
    };
    let log = match shard.place_for_data(topic, interest.partition) {
        Place::Here(log) => log,
        Place::Elsewhere(_) => return refused_with_leader(ErrorCode::NotLeaderOrFollower),
        Place::Offline => return Found::refused(storage_error(terms.caller.version)),
        Place::Nowhere => return Found::refused(ErrorCode::UnknownTopicOrPartition),
    };
    match check_leader_epoch(interest.current_leader_epoch, log.leader_epoch()) {
        Ok(()) => {}
        Err(ErrorCode::FencedLeaderEpoch) => return refused_with_leader(ErrorCode::FencedLeaderEpoch),
        Err(error) => return Found::refused(error),
    }
    let codec = topic.rules.recompression.map(|recompression| recompression.codec);
    if codec == Some(Compression::Zstd) && terms.caller.version < FIRST_VERSION_WITH_ZSTD {
        // As Kafka. What producers have compressed themselves is their clients' affair.
        return Found::refused(ErrorCode::UnsupportedCompressionType);
    }
    if terms.replica_id >= 0 {
        // No node has a replica of a partition that we lead: as Kafka answers a node that is not one of the replicas.
        return match interest.current_leader_epoch {
            -1 => refused_with_leader(ErrorCode::NotLeaderOrFollower),
            _ => Found::refused(ErrorCode::UnknownLeaderEpoch),
        };
    }
    if interest.last_fetched_epoch >= 0 {
        let (epoch, end_offset) = log.epoch_end_offset(interest.last_fetched_epoch);
        if epoch < 0 || end_offset < 0 || interest.fetch_offset < log.log_start_offset() {
            return Found::refused(ErrorCode::OffsetOutOfRange);
        }
        if epoch < interest.last_fetched_epoch || end_offset < interest.fetch_offset {
            return Found::Diverging {
                log: log.clone(),
                end: EpochEndOffset { epoch, end_offset },
            };
        }
    }
    if interest.fetch_offset < log.log_start_offset() || interest.fetch_offset > log.log_end_offset() {
        return Found::refused(ErrorCode::OffsetOutOfRange);
    }
    let available = log.bytes_available(interest.fetch_offset, log.high_watermark());
    if available > 0 && (interest.max_bytes < 0 || terms.max_bytes < 0) {
        // As Kafka answers a limit below zero.
        return Found::refused(ErrorCode::UnknownServerError);
    }
    let limit = usize::try_from(interest.max_bytes).unwrap_or(0).max(1);
    Found::Here {
        log: log.clone(),
        available: available.min(limit),
    }
}

/// Reads a partition: at most `left` bytes, but a whole batch if there is `nothing_yet` in the answer.
async fn read(
    shard: &Shard,
    interest: &Interest,
    found: Found,
    terms: &Terms,
    limits: ReadLimits,
) -> FetchPartitionResponse<Slice> {
    let ReadLimits {
        left,
        nothing_yet,
        may_wait,
    } = limits;
    let partition = interest.partition;
    let (log, available) = match found {
        Found::Here { log, available } => (log, available),
        Found::Diverging { log, end } => {
            return FetchPartitionResponse {
                diverging_epoch: end,
                ..position(partition, &log, terms)
            };
        }
        Found::Refused {
            error_code, leader, ..
        } => {
            return FetchPartitionResponse {
                current_leader: leader,
                ..failed(partition, error_code)
            };
        }
    };
    let mut response = position(partition, &log, terms);
    let max_bytes = usize::try_from(interest.max_bytes.min(left)).unwrap_or(0);
    if available == 0 || (max_bytes == 0 && !nothing_yet) {
        return response;
    }
    let extent = match log.read(
        interest.fetch_offset,
        max_bytes,
        nothing_yet,
        response.high_watermark,
    ) {
        Ok(extent) => extent,
        Err(ReadError::OffsetOutOfRange { .. }) => return failed(partition, ErrorCode::OffsetOutOfRange),
    };
    match log.load_for_consumer(extent, may_wait).await {
        Ok(slices) => response.records = slices.into(),
        Err(error) => {
            shard.read_failures.tell(log.id(), &error);
            return failed(partition, storage_error(terms.caller.version));
        }
    }
    response
}

/// What an answer without an error says of a partition.
fn position(partition: i32, log: &PartitionLog, terms: &Terms) -> FetchPartitionResponse<Slice> {
    FetchPartitionResponse {
        partition,
        high_watermark: log.high_watermark(),
        last_stable_offset: log.high_watermark(),
        log_start_offset: log.log_start_offset(),
        aborted_transactions: terms.read_committed.then(Vec::new),
        ..FetchPartitionResponse::default()
    }
}

fn failed(partition: i32, error_code: ErrorCode) -> FetchPartitionResponse<Slice> {
    FetchPartitionResponse {
        partition,
        error_code,
        high_watermark: -1,
        ..FetchPartitionResponse::default()
    }
}

fn storage_error(version: i16) -> ErrorCode {
    if version <= LAST_VERSION_WITHOUT_STORAGE_ERROR {
        ErrorCode::NotLeaderOrFollower
    } else {
        ErrorCode::KafkaStorageError
    }
}

fn seen(part: &FetchPartitionResponse<Slice>) -> Seen {
    Seen {
        high_watermark: part.high_watermark,
        log_start_offset: part.log_start_offset,
        has_records: part.records.byte_count() > 0,
        must_be_told: part.error_code != ErrorCode::None || part.diverging_epoch != EpochEndOffset::default(),
    }
}

/// Partitions of the same topic that follow each other are answered under one topic.
///
/// # Errors
/// If their names are more than an answer may have: a session may follow many that are long.
fn by_topic<'a>(
    partitions: impl Iterator<Item = (&'a Interest, FetchPartitionResponse<Slice>)>,
) -> Result<Vec<FetchTopicResponse<Slice>>, Refused> {
    let mut budget = AnswerBudget::new();
    let mut topics: Vec<FetchTopicResponse<Slice>> = Vec::new();
    let mut last: Option<&TopicKey> = None;
    for (interest, part) in partitions {
        match topics.last_mut() {
            Some(topic) if last == Some(&interest.topic) => topic.partitions.push(part),
            _ => {
                let (name, id) = match &interest.topic {
                    TopicKey::Name(name) => {
                        budget.take(name.len())?;
                        (name.to_string(), 0)
                    }
                    TopicKey::Id(id) => (String::new(), *id),
                };
                topics.push(FetchTopicResponse {
                    name,
                    topic_id: uuid(id),
                    partitions: vec![part],
                });
                last = Some(&interest.topic);
            }
        }
    }
    Ok(topics)
}

fn frame(response: FetchResponse<Slice>, caller: Caller) -> Reply {
    let pieces = response.encode_vectored(ANSWER_BYTES_MAX, caller.version, caller.correlation_id);
    let Ok(pieces) = pieces else {
        return Refused::AnswerTooLarge.close();
    };
    let slice = |piece| match piece {
        Piece::Bytes(bytes) => Slice::from(bytes),
        Piece::Records(records) => records,
    };
    Reply::Frame(pieces.into_iter().map(slice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(topic: u128, partition: i32) -> Interest {
        Interest {
            topic: TopicKey::Id(topic),
            partition,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 1,
        }
    }

    #[test]
    fn of_a_partition_that_is_named_twice_the_last_counts_in_the_place_of_the_first() {
        let mut interests = Interests::default();
        for (topic, partition, fetch_offset) in [(1, 0, 10), (1, 1, 11), (2, 0, 12), (1, 0, 13), (2, 0, 14)] {
            interests.add(Interest {
                fetch_offset,
                ..interest(topic, partition)
            });
        }
        let offsets = interests.in_order.iter().map(|interest| interest.fetch_offset);
        assert_eq!(offsets.collect::<Vec<_>>(), [13, 11, 14]);
    }

    #[test]
    fn a_partition_costs_no_more_than_its_room() {
        // A vector that grew may have twice what it needs; a wait is also a waker in its signal.
        let waiting = size_of::<Found>() + 2 * (size_of::<SignalWait>() + size_of::<std::task::Waker>() + 8);
        let answering = size_of::<Found>() + size_of::<FetchPartitionResponse<Slice>>() + size_of::<Seen>();
        let bytes = 2 * size_of::<Interest>() + waiting.max(answering);
        assert!(bytes <= crate::api::fetch_room::PARTITION_BYTES, "{bytes}");
    }

    #[test]
    fn partitions_of_one_topic_share_its_entry() {
        let interests = [interest(1, 0), interest(1, 3), interest(2, 0), interest(1, 1)];
        let parts = interests
            .iter()
            .map(|interest| (interest, failed(interest.partition, ErrorCode::None)));
        let topics = by_topic(parts).expect("few names");
        let shape: Vec<(u128, Vec<i32>)> = topics
            .iter()
            .map(|topic| {
                let partitions = topic.partitions.iter().map(|part| part.partition);
                (topic_id(topic.topic_id), partitions.collect())
            })
            .collect();
        assert_eq!(shape, [(1, vec![0, 3]), (2, vec![0]), (1, vec![1])]);
    }

    #[test]
    fn old_clients_hear_of_storage_errors_as_a_lost_leader() {
        assert_eq!(storage_error(5), ErrorCode::NotLeaderOrFollower);
        assert_eq!(storage_error(6), ErrorCode::KafkaStorageError);
    }
}
