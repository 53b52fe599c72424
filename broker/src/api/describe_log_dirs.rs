//! DescribeLogDirs (key 35), versions 1-4: how large the logs are that this node leads, and the volumes that they are on.
//!
//! All nodes of a host name its log directories, each with its own partitions; only the first tells how large the volumes
//! are, so that who adds nodes up counts them once. A directory that has failed is named with KAFKA_STORAGE_ERROR.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use storage::PartitionLog;
use wire::ErrorCode;
use wire::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribedLogDir, DescribedLogDirPartition,
    DescribedLogDirTopic, UNKNOWN_VOLUME_BYTES,
};

use crate::api::{ANSWER_BYTES_MAX, AnswerBudget, Call, Handled, Refused, bound_entries, later};
use crate::controller::image::{NODES_PER_HOST, PartitionState};
use crate::shard::{Shard, World};

/// What a partition takes in the answer, and what a topic takes beside its name, in bytes.
const PARTITION_BYTES: usize = 22;
const TOPIC_BYTES: usize = 8;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeLogDirsRequest<'_> = call.body()?;
    let asked = request.topics.iter().flatten();
    bound_entries(asked.map(|topic| topic.partitions.len() + 1))?;
    let wanted = request.topics.map(|asked| {
        let mut wanted = Wanted::new();
        for topic in asked.iter() {
            let partitions = topic.partitions.iter();
            wanted
                .entry(topic.topic.to_owned())
                .or_default()
                .extend(partitions);
        }
        wanted
    });
    let caller = call.into_caller();
    // Made when it is its turn: a small request asks for all, and may wait behind others for long.
    later(async move {
        shard.room_for_answer(ANSWER_BYTES_MAX).await;
        let names = || wanted.iter().flat_map(BTreeMap::keys).map(String::as_str);
        let world = shard.world_with(names).await;
        match describe(&shard, &world, wanted.as_ref()).await {
            Ok(response) => caller.reply(&response),
            Err(refused) => refused.close(),
        }
    })
}

/// The partitions of each topic that are wanted.
type Wanted = BTreeMap<String, BTreeSet<i32>>;

async fn describe(
    shard: &Shard,
    world: &World,
    wanted: Option<&Wanted>,
) -> Result<DescribeLogDirsResponse, Refused> {
    let mut budget = AnswerBudget::new();
    let mut results = Vec::new();
    for (path, log) in shard.logs.all() {
        let online = match log {
            None => None,
            Some((directory, _)) => {
                let is_here = |state: &PartitionState| shard.logs.named(state.directory()) == directory;
                let topics = match wanted {
                    None => {
                        let all = world.topics().map(|topic| (topic.topic.name.as_str(), None));
                        topics(world, all, is_here, &mut budget)?
                    }
                    Some(wanted) => {
                        let wanted = wanted.iter().map(|(name, some)| (name.as_str(), Some(some)));
                        topics(world, wanted, is_here, &mut budget)?
                    }
                };
                Some(topics)
            }
        };
        results.push(described(shard, path, online).await);
    }
    Ok(DescribeLogDirsResponse {
        results,
        ..DescribeLogDirsResponse::default()
    })
}

/// What of these topics is in a directory: of each the partitions that are wanted, or all. One of which nothing is there is
/// left out.
fn topics<'a>(
    world: &World,
    wanted: impl Iterator<Item = (&'a str, Option<&'a BTreeSet<i32>>)>,
    is_here: impl Fn(&PartitionState) -> bool,
    budget: &mut AnswerBudget,
) -> Result<Vec<DescribedLogDirTopic>, Refused> {
    let mut described = Vec::new();
    for (name, wanted) in wanted {
        let Some(topic) = world.topic(name) else {
            continue;
        };
        let led = topic.led().filter(|(partition, _)| {
            wanted.is_none_or(|wanted| wanted.contains(partition))
                && topic.state(*partition).is_some_and(&is_here)
        });
        let partitions: Vec<_> = led.map(|(partition, log)| one(partition, log)).collect();
        if !partitions.is_empty() {
            budget.take(TOPIC_BYTES + name.len() + PARTITION_BYTES * partitions.len())?;
            described.push(DescribedLogDirTopic {
                name: name.to_owned(),
                partitions,
            });
        }
    }
    Ok(described)
}

fn one(partition_index: i32, log: &PartitionLog) -> DescribedLogDirPartition {
    DescribedLogDirPartition {
        partition_index,
        partition_size: bytes(log.size_bytes()),
        // A leader is behind nobody, and there is no other directory that a log could move to.
        offset_lag: 0,
        is_future_key: false,
    }
}

/// A directory with what is in it; none if it has failed.
async fn described(shard: &Shard, path: &Path, topics: Option<Vec<DescribedLogDirTopic>>) -> DescribedLogDir {
    // A disk whose failing was seen is not asked.
    let volume = match shard.node_id % NODES_PER_HOST {
        0 if topics.is_some() => ring::directory::volume(path).await.map(Some),
        _ => Ok(None),
    };
    let log_dir = path.display().to_string();
    match (topics, volume) {
        (Some(topics), Ok(volume)) => DescribedLogDir {
            log_dir,
            topics,
            total_bytes: volume.map_or(UNKNOWN_VOLUME_BYTES, |volume| bytes(volume.total_bytes)),
            usable_bytes: volume.map_or(UNKNOWN_VOLUME_BYTES, |volume| bytes(volume.usable_bytes)),
            ..DescribedLogDir::default()
        },
        _ => DescribedLogDir {
            error_code: ErrorCode::KafkaStorageError,
            log_dir,
            ..DescribedLogDir::default()
        },
    }
}

/// A file system may be larger than Kafka can say.
fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
