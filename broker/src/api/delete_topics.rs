//! DeleteTopics (key 20), versions 1-6: by name, and from 6 on by id as well.
//!
//! Any node takes it; the control thread decides and answers when every shard has dropped its partitions.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

use crate::api::create_topics::timeout;
use crate::api::{Call, Handled, bound_entries, later, topic_id, uuid};
use crate::controller::request::{DeletedTopic, TopicReference};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DeleteTopicsRequest<'_> = call.body()?;
    bound_entries([request.topics.len(), request.topic_names.len()].into_iter())?;
    let (topics, mut refused) = references(&request);
    let timeout = timeout(request.timeout_ms);
    let caller = call.into_caller();
    later(async move {
        let mut results = Vec::new();
        if !topics.is_empty() {
            match shard.control.delete_topics(topics.clone(), timeout).await {
                Ok(deleted) => results.extend(deleted.into_iter().map(result)),
                Err(error) => {
                    let message = "no answer from the controller";
                    results.extend(topics.iter().map(|topic| failed(topic, error, message)));
                }
            }
        }
        results.append(&mut refused);
        caller.reply(&DeleteTopicsResponse {
            topics: results,
            ..DeleteTopicsResponse::default()
        })
    })
}

/// The topics that are named once, and an error for each of the others.
fn references(request: &DeleteTopicsRequest<'_>) -> (Vec<TopicReference>, Vec<DeletableTopicResult>) {
    let mut refused = Vec::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ids: BTreeMap<u128, usize> = BTreeMap::new();
    for name in request.topic_names {
        *names.entry(name).or_default() += 1;
    }
    for topic in request.topics {
        match (topic.name, topic.topic_id.is_zero()) {
            (Some(name), true) => *names.entry(name).or_default() += 1,
            (None, false) => *ids.entry(topic_id(topic.topic_id)).or_default() += 1,
            (name, _) => refused.push(DeletableTopicResult {
                name: name.map(str::to_owned),
                topic_id: topic.topic_id,
                error_code: ErrorCode::InvalidRequest,
                error_message: Some("Exactly one of topic name and topic id must be given.".to_owned()),
            }),
        }
    }
    let by_name = names
        .into_iter()
        .map(|(name, times)| (TopicReference::Name(name.to_owned()), times));
    let by_id = ids.into_iter().map(|(id, times)| (TopicReference::Id(id), times));
    let mut topics = Vec::new();
    for (topic, times) in by_name.chain(by_id) {
        if times == 1 {
            topics.push(topic);
        } else {
            refused.push(failed(
                &topic,
                ErrorCode::InvalidRequest,
                "The topic is named twice.",
            ));
        }
    }
    (topics, refused)
}

fn result(deleted: DeletedTopic) -> DeletableTopicResult {
    DeletableTopicResult {
        name: deleted.name,
        topic_id: uuid(deleted.id),
        error_code: deleted.error_code,
        error_message: deleted.error_message,
    }
}

fn failed(topic: &TopicReference, error_code: ErrorCode, message: &str) -> DeletableTopicResult {
    let (name, id) = match topic {
        TopicReference::Name(name) => (Some(name.clone()), 0),
        TopicReference::Id(id) => (None, *id),
    };
    DeletableTopicResult {
        name,
        topic_id: uuid(id),
        error_code,
        error_message: Some(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use wire::messages::delete_topics::DeleteTopicState;
    use wire::{Array, Uuid};

    use super::*;

    #[test]
    fn topics_are_named_once_by_name_or_by_id() {
        let id = Uuid([9; 16]);
        let by_name = |name| DeleteTopicState {
            name: Some(name),
            topic_id: Uuid::ZERO,
        };
        let states = [
            by_name("a"),
            by_name("b"),
            by_name("a"),
            DeleteTopicState {
                name: None,
                topic_id: id,
            },
            DeleteTopicState {
                name: Some("c"),
                topic_id: id,
            },
            DeleteTopicState {
                name: None,
                topic_id: Uuid::ZERO,
            },
        ];
        let request = DeleteTopicsRequest {
            topics: Array::from_slice(&states),
            ..DeleteTopicsRequest::default()
        };
        let (topics, refused) = references(&request);
        assert_eq!(
            topics,
            [TopicReference::Name("b".into()), TopicReference::Id(topic_id(id))]
        );
        assert_eq!(refused.len(), 3);
        assert!(
            refused
                .iter()
                .all(|result| result.error_code == ErrorCode::InvalidRequest)
        );
    }

    #[test]
    fn old_versions_name_topics_only() {
        let names = ["a", "b"];
        let request = DeleteTopicsRequest {
            topic_names: Array::from_slice(&names),
            ..DeleteTopicsRequest::default()
        };
        let (topics, refused) = references(&request);
        assert_eq!(topics, ["a", "b"].map(|name| TopicReference::Name(name.into())));
        assert!(refused.is_empty());
    }
}
