//! Asks the control thread and the shards, and puts together what they say.
//!
//! Consumer lag takes two rounds: the shard that coordinates a group knows what it has committed, the shard that leads
//! a partition knows where that ends. Whoever does not answer in time is left out, and the rest is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ring::channel::{Answer, Sender, oneshot};
use storage::TopicPartition;

use super::health;
use crate::controller::image::{Image, NODES_PER_HOST};
use crate::controller::roster::{HostCondition, Stage};
use crate::shard::probe::{
    COMMIT_NAMES_BYTES_MAX, Commit, Commits, Lag, ShardCondition, ShardMeasures, ShardProbe,
};

/// How long an answer is waited for. Prometheus waits 10 s for a scrape: who does not answer its first round is not
/// asked in the others.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 3 });

/// The way to the control thread.
pub(super) type HostQueue = Sender<Answer<HostCondition>>;

/// How the host's threads are.
pub(super) struct Health {
    /// Nothing if the control thread does not answer.
    pub(super) stage: Option<Stage>,
    /// By number, nothing for one that does not answer.
    pub(super) shards: Vec<Option<ShardCondition>>,
}

/// What one scrape shows.
#[derive(Default)]
pub(super) struct Scrape {
    pub(super) is_ready: bool,
    /// By number, nothing for one that does not answer, or is not there yet.
    pub(super) shards: Vec<Option<Box<ShardMeasures>>>,
    /// The newest metadata that a shard shows.
    pub(super) image: Option<Arc<Image>>,
    pub(super) lags: Vec<(Commit, Option<Lag>)>,
    /// Committed offsets whose lag is not shown, because there are too many.
    pub(super) lags_omitted: u64,
    pub(super) took: Duration,
}

/// Asks every thread how it is.
pub(super) async fn health(host: &HostQueue) -> Health {
    health_and_shards(host).await.0
}

/// And the way to each shard that answers.
async fn health_and_shards(host: &HostQueue) -> (Health, Vec<Option<Sender<ShardProbe>>>) {
    let Some(condition) = ask(host.clone(), |answer| answer).await else {
        let health = Health {
            stage: None,
            shards: Vec::new(),
        };
        return (health, Vec::new());
    };
    let queues: Vec<_> = condition.shards.into_iter().map(Some).collect();
    let shards = ask_all(&queues, |answer| ShardProbe::Condition { answer }).await;
    let answering = queues.into_iter().zip(&shards);
    let answering = answering.map(|(queue, answered)| queue.filter(|_| answered.is_some()));
    let queues = answering.collect();
    let health = Health {
        stage: Some(condition.stage),
        shards,
    };
    (health, queues)
}

/// Gathers what the metrics show, with the lag of at most so many committed offsets.
pub(super) async fn scrape(host: &HostQueue, lags_max: usize) -> Scrape {
    let begun = tokio::time::Instant::now();
    let (health, shards) = health_and_shards(host).await;
    let measures = ask_all(&shards, |answer| ShardProbe::Measures { answer }).await;
    let measures: Vec<Option<Box<ShardMeasures>>> = measures.into_iter().map(Option::flatten).collect();
    let images = measures.iter().flatten().map(|measures| measures.image.clone());
    let image = images.max_by_key(|image: &Arc<Image>| image.version);
    let mut scrape = Scrape {
        is_ready: health::readiness(health.stage, &health.shards).is_ok(),
        shards: measures,
        ..Scrape::default()
    };
    if let Some(image) = image {
        if lags_max > 0 {
            let commits = ask_all(&shards, move |answer| ShardProbe::Commits {
                most: lags_max,
                answer,
            });
            let commits = joined(commits.await.into_iter().flatten(), lags_max);
            scrape.lags_omitted = commits.omitted;
            scrape.lags = lags(&shards, &image, commits.listed).await;
        }
        scrape.image = Some(image);
    }
    scrape.took = begun.elapsed();
    scrape
}

/// What several shards listed, within the bounds of one.
fn joined(shards: impl Iterator<Item = Commits>, most: usize) -> Commits {
    let mut joined = Commits::default();
    let mut names_bytes = 0;
    for commits in shards {
        joined.omitted += commits.omitted;
        for commit in commits.listed {
            let bytes = commit.group.len() + commit.topic.len();
            if joined.listed.len() == most || names_bytes + bytes > COMMIT_NAMES_BYTES_MAX {
                joined.omitted += 1;
                continue;
            }
            names_bytes += bytes;
            joined.listed.push(commit);
        }
    }
    joined
}

/// Asks the shard that leads each partition how far that is ahead. A partition that is gone has no lag.
async fn lags(
    shards: &[Option<Sender<ShardProbe>>],
    image: &Image,
    commits: Vec<Commit>,
) -> Vec<(Commit, Option<Lag>)> {
    /// What a shard is asked, and of which commits.
    #[derive(Default)]
    struct Asked {
        ends: Vec<(TopicPartition, i64)>,
        commits: Vec<usize>,
    }
    let mut by_shard: BTreeMap<usize, Asked> = BTreeMap::new();
    for (index, commit) in commits.iter().enumerate() {
        let Some(topic) = image.topics_by_name.get(&*commit.topic) else {
            continue;
        };
        let number = usize::try_from(commit.partition).ok();
        let Some(state) = number.and_then(|number| topic.partitions.get(number)) else {
            continue;
        };
        let id = TopicPartition {
            topic_id: topic.id,
            partition: commit.partition,
        };
        let shard = usize::try_from(state.leader % NODES_PER_HOST).unwrap_or(usize::MAX);
        let asked = by_shard.entry(shard).or_default();
        asked.ends.push((id, commit.offset));
        asked.commits.push(index);
    }
    let mut asking = Vec::new();
    for (shard, asked) in by_shard {
        if let Some(Some(queue)) = shards.get(shard) {
            let ends = asked.ends;
            let probe = move |answer| ShardProbe::Ends { asked: ends, answer };
            asking.push((asked.commits, tokio::spawn(ask(queue.clone(), probe))));
        }
    }
    let mut lags: Vec<(Commit, Option<Lag>)> = commits.into_iter().map(|commit| (commit, None)).collect();
    for (commits, answered) in asking {
        let Ok(Some(found)) = answered.await else {
            continue;
        };
        for (index, lag) in commits.into_iter().zip(found) {
            lags[index].1 = lag;
        }
    }
    lags
}

/// Asks all at once. Nothing for one that does not answer, or that there is no way to.
async fn ask_all<P, T>(
    queues: &[Option<Sender<P>>],
    probe: impl Fn(Answer<T>) -> P + Copy + Send + 'static,
) -> Vec<Option<T>>
where
    P: Send + 'static,
    T: Send + 'static,
{
    let asking: Vec<_> = queues
        .iter()
        .map(|queue| Some(tokio::spawn(ask(queue.clone()?, probe))))
        .collect();
    let mut answers = Vec::with_capacity(asking.len());
    for asked in asking {
        answers.push(match asked {
            Some(asked) => asked.await.ok().flatten(),
            None => None,
        });
    }
    answers
}

async fn ask<P, T>(queue: Sender<P>, probe: impl FnOnce(Answer<T>) -> P) -> Option<T>
where
    P: Send + 'static,
    T: Send + 'static,
{
    let (answer, awaited) = oneshot();
    let asked = async {
        queue.send(probe(answer)).await.ok()?;
        awaited.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(count: usize, topic: &str) -> Commits {
        let commit = |partition| Commit {
            group: Arc::from("g"),
            topic: Arc::from(topic),
            partition,
            offset: 1,
        };
        Commits {
            listed: (0..count as i32).map(commit).collect(),
            omitted: 1,
        }
    }

    #[test]
    fn what_shards_list_together_has_the_bounds_of_one() {
        let all = joined([commits(3, "t"), commits(3, "t")].into_iter(), 10);
        assert_eq!((all.listed.len(), all.omitted), (6, 2));
        let few = joined([commits(3, "t"), commits(3, "t")].into_iter(), 4);
        assert_eq!((few.listed.len(), few.omitted), (4, 4));
        let long = "t".repeat(COMMIT_NAMES_BYTES_MAX / 2);
        let few = joined([commits(3, &long), commits(3, "t")].into_iter(), 100);
        // One long name fits beside the short ones, two do not.
        assert_eq!((few.listed.len(), few.omitted), (1 + 3, 2 + 2));
    }
}
