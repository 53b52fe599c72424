//! The answer to a Produce: put together while the batches are appended, given when they are committed.
//!
//! It is encoded at once, as if all of them were committed, and encoded anew if one of them is not. So what waits for a commit
//! is a few bytes, and no heap is taken for a request of one batch: that is memory that has been out of the caches for long.
//! acks=0 asks for no answer; if anything failed its connection is closed, as in Kafka, because silence would lose data.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::{FrameBytes, Reply};
use ring::clock::Instant;
use smallvec::SmallVec;
use storage::{CommitTicket, Committed, StorageError};
use wire::messages::leader::NodeEndpoint;
use wire::messages::produce::{ProducePartitionResponse, ProduceResponse, ProduceTopicResponse};
use wire::{ApiKey, ErrorCode, LENGTH_PREFIX_BYTES, Response, decode_response_header};

use crate::api::{ANSWER_BYTES_MAX, Caller, Refused};
use crate::shard::Shard;

/// The memory that is kept has room for at most so many topics, and partitions of each; and so many bytes.
const KEPT_TOPICS_MAX: usize = 4;
const KEPT_PARTITIONS_MAX: usize = 64;
const KEPT_BYTES_MAX: usize = 4_096;

/// A partition's part of the answer, once its batch is committed.
pub(super) struct Part {
    pub(super) response: ProducePartitionResponse,
    /// What to wait for.
    pub(super) ticket: Option<CommitTicket>,
    pub(super) endpoint: Option<NodeEndpoint>,
}

impl Part {
    pub(super) fn failed(partition: i32, error_code: ErrorCode, cause: &str) -> Part {
        Part {
            response: ProducePartitionResponse {
                partition,
                error_code,
                error_message: Some(cause.to_owned()),
                ..ProducePartitionResponse::default()
            },
            ticket: None,
            endpoint: None,
        }
    }
}

/// What the last answer was put together in, for the next one to use again.
#[derive(Default)]
pub(crate) struct AnswerMemory {
    response: ProduceResponse,
    bytes: Vec<u8>,
}

impl AnswerMemory {
    /// Forgets the answer, and gives back what is too large to be kept.
    fn forget(&mut self) {
        let topics = &mut self.response.topics;
        topics.truncate(KEPT_TOPICS_MAX);
        topics.shrink_to(KEPT_TOPICS_MAX);
        for topic in topics {
            topic.name.clear();
            topic.name.shrink_to(KEPT_BYTES_MAX);
            topic.partitions.clear();
            topic.partitions.shrink_to(KEPT_PARTITIONS_MAX);
        }
        self.response.node_endpoints.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }
}

/// An answer that is being put together.
pub(super) struct Draft<'a> {
    memory: AnswerMemory,
    home: &'a Cell<AnswerMemory>,
    /// Topics of the answer; behind them, there is the memory of more.
    topics: usize,
    /// Of each partition, in order.
    committed: SmallVec<[Committed; 1]>,
}

impl<'a> Draft<'a> {
    /// Begins in the memory that is there; another one that begins meanwhile has its own.
    pub(super) fn begin(home: &'a Cell<AnswerMemory>) -> Draft<'a> {
        Draft {
            memory: home.take(),
            home,
            topics: 0,
            committed: SmallVec::new(),
        }
    }

    /// What is added from here on is of this topic.
    pub(super) fn topic(&mut self, name: &str) {
        let topics = &mut self.memory.response.topics;
        match topics.get_mut(self.topics) {
            Some(topic) => topic.name.push_str(name),
            None => topics.push(ProduceTopicResponse {
                name: name.to_owned(),
                partitions: Vec::new(),
            }),
        }
        self.topics += 1;
    }

    pub(super) fn add(&mut self, part: Part) {
        let response = &mut self.memory.response;
        if let Some(endpoint) = part.endpoint
            && !(response.node_endpoints.iter()).any(|known| known.node_id == endpoint.node_id)
        {
            response.node_endpoints.push(endpoint);
        }
        let topic = &mut response.topics[..self.topics];
        let topic = topic.last_mut().expect("a partition is of a topic");
        topic.partitions.push(part.response);
        self.committed
            .push(part.ticket.unwrap_or_else(CommitTicket::done).committed());
    }

    /// acks=0: nothing, if all went well.
    pub(super) fn silence(mut self) -> Reply {
        for topic in self.response().topics.iter() {
            for part in &topic.partitions {
                if part.error_code != ErrorCode::None {
                    let (name, error) = (&topic.name, part.error_code);
                    return Reply::Close(format!("acks=0, and {error} for {name}-{}", part.partition));
                }
            }
        }
        Reply::Nothing
    }

    /// The answer, when all batches are committed.
    ///
    /// # Errors
    /// If it would be larger than one may be.
    pub(super) fn wait(
        mut self,
        shard: &Rc<Shard>,
        caller: Caller,
        begun: Instant,
    ) -> Result<Committing, Refused> {
        self.response();
        let AnswerMemory { response, bytes } = &mut self.memory;
        let encoded = response.encode_into(bytes, ANSWER_BYTES_MAX, caller.version, caller.correlation_id);
        encoded.map_err(|_| Refused::AnswerTooLarge)?;
        let answer = if bytes.len() <= KEPT_BYTES_MAX {
            FrameBytes::from_slice(bytes)
        } else {
            FrameBytes::from_vec(std::mem::take(bytes))
        };
        Ok(Committing {
            shard: shard.clone(),
            caller,
            begun,
            answer,
            commits: Commits {
                all: std::mem::take(&mut self.committed),
                ended: 0,
                failed: Vec::new(),
            },
        })
    }

    /// What was put together.
    fn response(&mut self) -> &ProduceResponse {
        self.memory.response.topics.truncate(self.topics);
        &self.memory.response
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.memory.forget();
        self.home.set(std::mem::take(&mut self.memory));
    }
}

/// A Produce whose batches are appended, until each is as safe as its topic wants it, or that cannot be said of it.
pub(crate) struct Committing {
    shard: Rc<Shard>,
    caller: Caller,
    begun: Instant,
    /// If all of them are committed.
    answer: FrameBytes,
    commits: Commits<Committed>,
}

impl Future for Committing {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let this = &mut *self;
        let failed = ready!(this.commits.poll(context));
        let counters = &this.shard.counters;
        counters.produce_time.record(ring::clock::now() - this.begun);
        let answer = std::mem::take(&mut this.answer);
        if failed.is_empty() {
            return Poll::Ready(Reply::Bytes(answer));
        }
        for _ in &failed {
            counters.produce_errors.count(ErrorCode::KafkaStorageError);
        }
        Poll::Ready(
            this.caller
                .reply(&with_failures(&answer, this.caller.version, failed)),
        )
    }
}

/// The commits of a request's batches.
struct Commits<C> {
    /// Of each partition, in the order of the answer; so many of them have ended.
    all: SmallVec<[C; 1]>,
    ended: usize,
    failed: Vec<(usize, StorageError)>,
}

impl<C: Future<Output = Result<(), StorageError>> + Unpin> Commits<C> {
    /// Waits for all of them. Gives those that failed, by their places, in order.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Vec<(usize, StorageError)>> {
        while let Some(commit) = self.all.get_mut(self.ended) {
            if let Err(error) = ready!(Pin::new(commit).poll(context)) {
                self.failed.push((self.ended, error));
            }
            self.ended += 1;
        }
        Poll::Ready(std::mem::take(&mut self.failed))
    }
}

/// The answer without what it says of these partitions: their flush failed, or was never tried, and nothing may be said of
/// their batches.
fn with_failures(answer: &[u8], version: i16, failed: Vec<(usize, StorageError)>) -> ProduceResponse {
    let body = decode_response_header(&answer[LENGTH_PREFIX_BYTES..], ApiKey::Produce, version);
    let response = body.and_then(|(_, body)| ProduceResponse::decode(body, version));
    let mut response: ProduceResponse = response.expect("it was encoded here");
    let mut failed = failed.into_iter().peekable();
    let parts = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (number, part) in parts.enumerate() {
        if let Some((_, error)) = failed.next_if(|(at, _)| *at == number) {
            *part = ProducePartitionResponse {
                partition: part.partition,
                error_code: ErrorCode::KafkaStorageError,
                error_message: Some(error.to_string()),
                ..ProducePartitionResponse::default()
            };
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(partition: i32) -> Part {
        Part {
            response: ProducePartitionResponse {
                partition,
                base_offset: 7,
                ..ProducePartitionResponse::default()
            },
            ticket: None,
            endpoint: None,
        }
    }

    /// An answer in the memory at hand: topics, and their parts.
    fn draft<'a>(home: &'a Cell<AnswerMemory>, topics: Vec<(&str, Vec<Part>)>) -> Draft<'a> {
        let mut draft = Draft::begin(home);
        for (name, parts) in topics {
            draft.topic(name);
            parts.into_iter().for_each(|part| draft.add(part));
        }
        draft
    }

    #[test]
    fn an_acks_0_request_that_fails_closes_its_connection() {
        let home = Cell::default();
        assert!(matches!(
            draft(&home, vec![("a", vec![good(0), good(1)])]).silence(),
            Reply::Nothing
        ));
        let bad = Part::failed(3, ErrorCode::NotLeaderOrFollower, "elsewhere");
        let refused = draft(&home, vec![("a", vec![good(0)]), ("b", vec![bad])]);
        let Reply::Close(reason) = refused.silence() else {
            panic!("the connection stays open");
        };
        assert_eq!(reason, "acks=0, and NOT_LEADER_OR_FOLLOWER for b-3");
        // Of an earlier answer nothing is left.
        assert!(matches!(
            draft(&home, vec![("c", vec![good(0)])]).silence(),
            Reply::Nothing
        ));
    }

    #[test]
    fn an_endpoint_is_told_of_once_and_in_its_answer_only() {
        let home = Cell::default();
        let elsewhere = || {
            let mut part = Part::failed(1, ErrorCode::NotLeaderOrFollower, "elsewhere");
            part.endpoint = Some(NodeEndpoint {
                node_id: 7,
                ..NodeEndpoint::default()
            });
            part
        };
        let mut moved = draft(
            &home,
            vec![("a", vec![elsewhere(), elsewhere()]), ("b", vec![elsewhere()])],
        );
        assert_eq!(moved.response().node_endpoints.len(), 1);
        let answer = moved.response().encode(11, 1);
        let told = with_failures(&answer, 11, vec![(2, StorageError::Dropped)]);
        assert_eq!(told.node_endpoints, moved.response().node_endpoints);
        drop(moved);
        assert!(
            draft(&home, vec![("a", vec![good(1)])])
                .response()
                .node_endpoints
                .is_empty()
        );
    }

    #[test]
    fn an_answer_is_the_same_in_memory_that_was_used() {
        let home = Cell::default();
        let many = |partitions: i32| (0..partitions).map(good).collect::<Vec<Part>>();
        for topics in [1, 3, 2, KEPT_TOPICS_MAX + 3, 1] {
            for partitions in [3, 1, KEPT_PARTITIONS_MAX as i32 * 2, 2] {
                let names: Vec<String> = (0..topics).map(|topic| format!("{topic}-{partitions}")).collect();
                let all = || {
                    names
                        .iter()
                        .map(|name| (name.as_str(), many(partitions)))
                        .collect()
                };
                let fresh = Cell::default();
                let expected = draft(&fresh, all()).response().clone();
                assert_eq!(expected.topics.len(), topics);
                assert!(
                    expected
                        .topics
                        .iter()
                        .all(|topic| topic.partitions.len() == partitions as usize)
                );
                assert_eq!(*draft(&home, all()).response(), expected);
            }
        }
        let kept = home.take().response.topics;
        assert!(kept.capacity() <= KEPT_TOPICS_MAX);
        assert!(
            kept.iter()
                .all(|topic| topic.partitions.capacity() <= KEPT_PARTITIONS_MAX)
        );
    }

    #[test]
    fn what_is_not_committed_is_said_of_its_partition_alone() {
        let home = Cell::default();
        let refused = Part::failed(5, ErrorCode::MessageTooLarge, "too large");
        let mut draft = draft(
            &home,
            vec![("a", vec![good(0), good(1)]), ("b", vec![refused, good(2)])],
        );
        let response = draft.response().clone();
        for version in [3, 8, 9, 11] {
            let answer = response.encode(version, 99);
            let failed = vec![(1, StorageError::Dropped), (3, StorageError::Dropped)];
            let told = with_failures(&answer, version, failed);
            let codes = |topic: &ProduceTopicResponse| {
                let parts = topic.partitions.iter();
                parts
                    .map(|part| (part.partition, part.error_code, part.base_offset))
                    .collect::<Vec<_>>()
            };
            let storage = ErrorCode::KafkaStorageError;
            assert_eq!(
                codes(&told.topics[0]),
                [(0, ErrorCode::None, 7), (1, storage, -1)]
            );
            assert_eq!(
                codes(&told.topics[1]),
                [(5, ErrorCode::MessageTooLarge, -1), (2, storage, -1)]
            );
            assert_eq!(told.topics[1].name, "b");
        }
    }

    #[test]
    fn all_commits_are_waited_for_and_those_that_failed_are_told() {
        type Commit = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (giver, taker) = ring::local::oneshot();
        let late = async move { taker.await.expect("given") };
        let all: [Commit; 4] = [
            Box::pin(std::future::ready(Err(StorageError::Dropped))),
            Box::pin(std::future::ready(Ok(()))),
            Box::pin(late),
            Box::pin(std::future::ready(Ok(()))),
        ];
        let mut commits = Commits {
            all: all.into_iter().collect(),
            ended: 0,
            failed: Vec::new(),
        };
        assert!(commits.poll(&mut context).is_pending());
        giver.give(Err(StorageError::Dropped));
        let Poll::Ready(failed) = commits.poll(&mut context) else {
            panic!("all have ended");
        };
        let places: Vec<usize> = failed.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [0, 2]);
    }
}
