//! What those who look at a shard from outside ask it, and what they are told.
//!
//! Probes have a queue of their own: whether a thread answers must not wait until its log is recovered, or an image is
//! installed. Tasks of the background class answer them: one at once, one after the other what takes more than a moment,
//! in slices. No client waits because somebody looks, and nothing here changes anything.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ring::buffer::PoolUsage;
use ring::channel::{Answer, Receiver, bounded};
use ring::count::DurationCounts;
use ring::executor::{Class, spawn, yield_now};
use storage::{PartitionLog, ShardStatistics, TopicPartition};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{API_TABLE, BatchHeader, ErrorCode};

use crate::controller::image::Image;
use crate::group::coordinator::CommitPosition;
use crate::shard::Shard;

/// Probes that may wait for a shard: more than those who may look at a time.
pub const PROBES_MAX: usize = 32;
/// Names of groups and topics in one answer, in bytes.
pub const COMMIT_NAMES_BYTES_MAX: usize = 1 << 20;
/// Partitions that are looked up in one step.
const ENDS_SLICE: usize = 64;
/// Batches that one probe reads from segments, and for how long. A batch that was found is remembered until the next
/// probe, which so begins where this one gave up.
const SEGMENT_READS_MAX: usize = 1_000;
const SEGMENT_READS_TIME: Duration = Duration::from_secs(2);

/// A question.
pub enum ShardProbe {
    /// How it is.
    Condition {
        /// Given at once.
        answer: Answer<ShardCondition>,
    },
    /// What it has done.
    Measures {
        /// Nothing before its log is recovered.
        answer: Answer<Option<Box<ShardMeasures>>>,
    },
    /// The committed offsets that it keeps.
    Commits {
        /// At most so many.
        most: usize,
        /// Given when all were looked at.
        answer: Answer<Commits>,
    },
    /// How far partitions that it leads are ahead of a consumer.
    Ends {
        /// The partitions, each with the next offset that its consumer wants.
        asked: Vec<(TopicPartition, i64)>,
        /// One for each, in order; none for a partition that is not here.
        answer: Answer<Vec<Option<Lag>>>,
    },
}

/// How a shard is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardCondition {
    /// Its log is recovered.
    pub is_recovered: bool,
    /// It accepts clients.
    pub is_serving: bool,
    /// Why its log takes nothing any more.
    pub failure: Option<String>,
}

/// What a shard has done since its start, and what it has now.
#[derive(Debug, Clone)]
pub struct ShardMeasures {
    /// The metadata that it shows.
    pub image: Arc<Image>,
    /// Requests begun, by API, of those that had any.
    pub requests: Vec<(&'static str, u64)>,
    /// Errors given, by API and code, of those that were.
    pub errors: Vec<(&'static str, ErrorCode, u64)>,
    /// Connections closed for bytes that are not Kafka's protocol.
    pub malformed_requests: u64,
    /// Requests for the data of a partition that another shard of the host leads.
    pub misrouted_data_requests: u64,
    /// Reads of the log that found damage, or that the disk refused.
    pub failed_reads: u64,
    /// Batches appended.
    pub produced_batches: u64,
    /// Records of the batches appended.
    pub produced_records: u64,
    /// Bytes of the batches appended.
    pub produced_bytes: u64,
    /// Batches that were there already.
    pub duplicate_batches: u64,
    /// Bytes of the records returned.
    pub fetched_bytes: u64,
    /// From the begin of a Produce to its answer.
    pub produce_time: DurationCounts,
    /// From the begin of a Fetch to its answer.
    pub fetch_time: DurationCounts,
    /// Connections that are open.
    pub connections: u64,
    /// Connections accepted.
    pub accepted_connections: u64,
    /// Connections closed because their address had too many.
    pub refused_connections: u64,
    /// Bytes of requests received.
    pub received_bytes: u64,
    /// Bytes of answers sent.
    pub sent_bytes: u64,
    /// Fetch sessions kept.
    pub fetch_sessions: u64,
    /// The log in each log directory.
    pub logs: Vec<LogMeasures>,
    /// The pools of the listener, and what groups take of the heap.
    pub memory: Vec<PoolUsage>,
    /// The groups that it coordinates.
    pub groups: Census,
}

/// What the log in a log directory has done since its start, and what it has now.
#[derive(Debug, Clone)]
pub struct LogMeasures {
    /// The directory.
    pub directory: String,
    /// Nothing once the directory is offline.
    pub statistics: Option<ShardStatistics>,
}

/// How many groups there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Groups without members.
    pub empty: u64,
    /// Groups that ask their members to join again.
    pub preparing_rebalance: u64,
    /// Groups whose leader decides who gets what.
    pub completing_rebalance: u64,
    /// Groups whose members all have what the leader gave.
    pub stable: u64,
    /// Members of all groups.
    pub members: u64,
    /// Coordinators that still read their groups back.
    pub loading_coordinators: u64,
}

/// Committed offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commits {
    /// Group by group, topic by topic.
    pub listed: Vec<Commit>,
    /// How many more there are.
    pub omitted: u64,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Whose it is.
    pub group: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The next offset that the group wants.
    pub offset: i64,
}

/// How far a partition is ahead of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Offsets from the next one that the consumer wants to the first that it cannot read yet.
    pub records: u64,
    /// How long ago the batch was written that it wants next, by the batch's own timestamp. Unknown if the batch has
    /// none, or could not be read in time.
    pub behind: Option<Duration>,
}

/// How far a shard is, as its task and those who answer for it share it.
#[derive(Default)]
pub(super) struct Life {
    /// There when its log is recovered.
    pub(super) shard: OnceCell<Rc<Shard>>,
    /// It accepts clients.
    pub(super) is_serving: Cell<bool>,
}

/// Answers until nobody asks any more.
pub(super) async fn answer_probes(mut probes: Receiver<ShardProbe>, life: Rc<Life>) {
    let (surveys, waiting) = bounded(PROBES_MAX);
    let _surveyor = spawn(Class::Background, answer_surveys(waiting, life.clone()));
    while let Some(probe) = probes.receive().await {
        match probe {
            // Whoever asked may have gone: nobody minds.
            ShardProbe::Condition { answer } => drop(answer.give(condition(&life))),
            // Of so many that wait, nobody waits for the last any more.
            survey => drop(surveys.try_send(survey)),
        }
    }
}

/// Answers what takes more than a moment.
async fn answer_surveys(mut surveys: Receiver<ShardProbe>, life: Rc<Life>) {
    let mut times = BatchTimes::default();
    while let Some(survey) = surveys.receive().await {
        let shard = life.shard.get();
        match survey {
            ShardProbe::Condition { answer } => drop(answer.give(condition(&life))),
            ShardProbe::Measures { answer } => {
                let measures = match shard {
                    Some(shard) => Some(Box::new(shard.measures().await)),
                    None => None,
                };
                drop(answer.give(measures));
            }
            ShardProbe::Commits { most, answer } => {
                let commits = match shard {
                    Some(shard) => shard.commits(most).await,
                    None => Commits::default(),
                };
                drop(answer.give(commits));
            }
            ShardProbe::Ends { asked, answer } => {
                let lags = match shard {
                    Some(shard) => shard.lags(&asked, &mut times).await,
                    None => vec![None; asked.len()],
                };
                drop(answer.give(lags));
            }
        }
    }
}

fn condition(life: &Life) -> ShardCondition {
    let shard = life.shard.get();
    ShardCondition {
        is_recovered: shard.is_some(),
        is_serving: life.is_serving.get() && shard.is_some_and(|shard| !shard.is_stopping()),
        failure: shard.and_then(|shard| Some(shard.logs.first().failure()?.to_string())),
    }
}

/// Timestamps of batches in segments, by an offset in them: they never change.
#[derive(Default)]
struct BatchTimes {
    /// As of the last probe.
    known: BTreeMap<(TopicPartition, i64), i64>,
    /// Those of them that this probe wanted as well, and its own.
    wanted: BTreeMap<(TopicPartition, i64), i64>,
}

impl Shard {
    async fn measures(&self) -> ShardMeasures {
        // It alone takes more than a moment.
        let groups = self.census().await;
        let counters = &self.counters;
        let counted = API_TABLE
            .iter()
            .map(|api| (api.name, counters.requests_of(api.key)));
        let errors = [
            ("Produce", counters.produce_errors.counts()),
            ("Fetch", counters.fetch_errors.counts()),
        ];
        let errors = errors
            .into_iter()
            .flat_map(|(api, counts)| counts.into_iter().map(move |(code, count)| (api, code, count)));
        let logs = self.logs.all().map(|(path, log)| LogMeasures {
            directory: path.display().to_string(),
            statistics: log.map(|(_, log)| log.statistics()),
        });
        let traffic = &self.traffic;
        ShardMeasures {
            image: self.world().image.clone(),
            requests: counted.filter(|(_, count)| *count > 0).collect(),
            errors: errors.collect(),
            malformed_requests: counters.malformed_requests.get(),
            misrouted_data_requests: counters.misrouted_data_requests.get(),
            failed_reads: self.read_failures.reads.get(),
            produced_batches: counters.produced_batches.get(),
            produced_records: counters.produced_records.get(),
            produced_bytes: counters.produced_bytes.get(),
            duplicate_batches: counters.duplicate_batches.get(),
            fetched_bytes: counters.fetched_bytes.get(),
            produce_time: counters.produce_time.counts(),
            fetch_time: counters.fetch_time.counts(),
            connections: traffic.connections() as u64,
            accepted_connections: traffic.accepted.get(),
            refused_connections: traffic.refused.get(),
            received_bytes: traffic.received_bytes.get(),
            sent_bytes: traffic.sent_bytes.get(),
            fetch_sessions: self.sessions.borrow().len() as u64,
            memory: traffic
                .memory()
                .into_iter()
                .flatten()
                .chain(self.coordinators.memory())
                .collect(),
            logs: logs.collect(),
            groups,
        }
    }

    async fn census(&self) -> Census {
        let mut census = Census::default();
        for coordinator in self.coordinators.all() {
            let mut after = None;
            while let Some(last) = coordinator.count_groups(after.as_deref(), &mut census) {
                after = Some(last);
                yield_now().await;
            }
        }
        census
    }

    async fn commits(&self, most: usize) -> Commits {
        let mut commits = Commits::default();
        let mut names_bytes = 0;
        for coordinator in self.coordinators.all() {
            let mut position = CommitPosition::default();
            let mut is_more = true;
            while is_more {
                is_more = coordinator.look_at_commits(&mut position, |group, topic, partition, offset| {
                    let bytes = group.len() + topic.len();
                    if commits.listed.len() == most || names_bytes + bytes > COMMIT_NAMES_BYTES_MAX {
                        commits.omitted += 1;
                        return;
                    }
                    names_bytes += bytes;
                    let last = commits.listed.last();
                    let group = match last {
                        Some(last) if *last.group == *group => last.group.clone(),
                        _ => Arc::from(group),
                    };
                    let topic = match last {
                        Some(last) if *last.topic == *topic => last.topic.clone(),
                        _ => Arc::from(topic),
                    };
                    commits.listed.push(Commit {
                        group,
                        topic,
                        partition,
                        offset,
                    });
                });
                yield_now().await;
            }
        }
        commits
    }

    async fn lags(&self, asked: &[(TopicPartition, i64)], times: &mut BatchTimes) -> Vec<Option<Lag>> {
        let deadline = ring::clock::now() + SEGMENT_READS_TIME;
        let mut reads_left = SEGMENT_READS_MAX;
        let mut lags = Vec::with_capacity(asked.len());
        for (index, &(id, offset)) in asked.iter().enumerate() {
            if index % ENDS_SLICE == ENDS_SLICE - 1 {
                yield_now().await;
            }
            if ring::clock::now() >= deadline {
                reads_left = 0;
            }
            lags.push(match self.logs.partition(id) {
                Some(log) => Some(lag(&log, offset, times, &mut reads_left).await),
                None => None,
            });
        }
        times.known = std::mem::take(&mut times.wanted);
        lags
    }
}

async fn lag(log: &PartitionLog, committed: i64, times: &mut BatchTimes, reads_left: &mut usize) -> Lag {
    let end = log.high_watermark();
    let records = u64::try_from(end.saturating_sub(committed)).unwrap_or(0);
    if records == 0 {
        return Lag {
            records,
            behind: Some(Duration::ZERO),
        };
    }
    // What was deleted before it was consumed will never be.
    let next = committed.max(log.log_start_offset());
    let behind = match batch_time_ms(log, next, times, reads_left).await {
        Some(time_ms) if time_ms >= 0 => {
            let age_ms = ring::clock::wall_clock_ms().saturating_sub(time_ms);
            // Its producer's clock may be ahead of ours.
            Some(Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
        }
        _ => None,
    };
    Lag { records, behind }
}

/// When the batch was written that holds `offset`, in milliseconds since 1970: the time of its first record, or the
/// broker's. Its other records are of about that time: a producer sends a batch after `linger.ms` at the latest.
async fn batch_time_ms(
    log: &PartitionLog,
    offset: i64,
    times: &mut BatchTimes,
    reads_left: &mut usize,
) -> Option<i64> {
    let key = (log.id(), offset);
    let extent = log.read(offset, 1, true, log.high_watermark()).ok()?;
    let is_in_memory = extent.is_in_memory();
    if !is_in_memory {
        let known = times.known.get(&key).or_else(|| times.wanted.get(&key)).copied();
        if let Some(known) = known {
            times.wanted.insert(key, known);
            return Some(known);
        }
        *reads_left = reads_left.checked_sub(1)?;
    }
    let slices = log.load_at_once(extent).await.ok()?;
    let header: &[u8; BATCH_HEADER_BYTES] = slices.first()?.first_chunk()?;
    let header = BatchHeader::decode(header);
    // What compaction has looked through may have another time there.
    let has_other_base = header.attributes.has_delete_horizon() || header.record_count == 0;
    let time_ms = if header.attributes.is_log_append_time() || has_other_base {
        header.max_timestamp_ms
    } else {
        header.base_timestamp_ms
    };
    if !is_in_memory {
        times.wanted.insert(key, time_ms);
    }
    Some(time_ms)
}
