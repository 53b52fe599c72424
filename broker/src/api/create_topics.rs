//! CreateTopics (key 19), versions 2-7.
//!
//! Any node takes it; the control thread decides and answers when every shard has opened its partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigResult, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use wire::{Array, ErrorCode};

use crate::api::{Call, Handled, bound_entries, later, uuid};
use crate::controller::request::{CreatedTopic, NewTopic};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: CreateTopicsRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().flat_map(|topic| {
        let replicas = topic
            .assignments
            .iter()
            .map(|assignment| assignment.broker_ids.len() + 1);
        [1, topic.configs.len()].into_iter().chain(replicas)
    }))?;
    let (topics, mut refused) = without_duplicates(request.topics);
    let validate_only = request.validate_only;
    let timeout = timeout(request.timeout_ms);
    let caller = call.into_caller();
    later(async move {
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let mut results = Vec::new();
        if !topics.is_empty() {
            match shard.control.create_topics(topics, validate_only, timeout).await {
                Ok(created) => results.extend(created.into_iter().map(result)),
                Err(error) => results.extend(
                    names
                        .iter()
                        .map(|name| failed(name, error, "no answer from the controller")),
                ),
            }
        }
        results.append(&mut refused);
        caller.reply(&CreateTopicsResponse {
            topics: results,
            ..CreateTopicsResponse::default()
        })
    })
}

/// How long an admin request may take, as the client asks.
pub(crate) fn timeout(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// The topics that are named once, and an error for each of the others.
fn without_duplicates(topics: Array<'_, CreatableTopic<'_>>) -> (Vec<NewTopic>, Vec<CreatableTopicResult>) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in topics {
        *times.entry(topic.name).or_default() += 1;
    }
    let twice: BTreeSet<&str> = times
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|(name, _)| *name)
        .collect();
    let refused = twice
        .iter()
        .map(|name| failed(name, ErrorCode::InvalidRequest, "Duplicate topic name."));
    let refused = refused.collect();
    let topics = topics
        .iter()
        .filter(|topic| !twice.contains(topic.name))
        .map(|topic| new_topic(&topic));
    (topics.collect(), refused)
}

fn new_topic(topic: &CreatableTopic<'_>) -> NewTopic {
    let assignments = topic.assignments.iter();
    let configs = topic.configs.iter();
    NewTopic {
        name: topic.name.to_owned(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|assignment| (assignment.partition, assignment.broker_ids.iter().collect()))
            .collect(),
        configs: configs
            .map(|config| (config.name.to_owned(), config.value.map(str::to_owned)))
            .collect(),
    }
}

fn result(created: CreatedTopic) -> CreatableTopicResult {
    let is_error = created.error_code != ErrorCode::None;
    let configs = created
        .configs
        .into_iter()
        .map(|config| CreatableTopicConfigResult {
            name: config.name,
            value: config.value,
            read_only: config.read_only,
            config_source: config.source,
            is_sensitive: config.sensitive,
        });
    CreatableTopicResult {
        name: created.name,
        topic_id: uuid(created.id),
        error_code: created.error_code,
        error_message: created.error_message,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: (!is_error).then(|| configs.collect()),
        ..CreatableTopicResult::default()
    }
}

fn failed(name: &str, error_code: ErrorCode, message: &str) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.to_owned(),
        error_code,
        error_message: Some(message.to_owned()),
        ..CreatableTopicResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> CreatableTopic<'_> {
        CreatableTopic {
            name,
            num_partitions: 3,
            ..CreatableTopic::default()
        }
    }

    #[test]
    fn a_name_given_twice_is_refused_once_and_not_created() {
        let topics = [topic("a"), topic("b"), topic("a"), topic("a")];
        let (new, refused) = without_duplicates(Array::from_slice(&topics));
        assert_eq!(new.iter().map(|topic| &topic.name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(refused.len(), 1);
        assert_eq!(
            (&*refused[0].name, refused[0].error_code),
            ("a", ErrorCode::InvalidRequest)
        );
    }

    #[test]
    fn a_negative_timeout_waits_for_nothing() {
        assert_eq!(timeout(-1), Duration::ZERO);
        assert_eq!(timeout(1_500), Duration::from_millis(1_500));
    }
}
