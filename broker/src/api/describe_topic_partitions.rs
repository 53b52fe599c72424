//! DescribeTopicPartitions (key 75), version 0 (KIP-966): topics by name, a page of partitions at a time.
//!
//! The answer to a cursor never names a topic before it, so that a client which follows the cursors sees every topic
//! that stays once, whatever is created and deleted between its pages.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::rc::Rc;

use net::Reply;
use wire::ErrorCode;
use wire::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribedPartition, DescribedTopic,
    NextPartitionCursor,
};
use wire::schema::NullableStruct;

use crate::api::metadata::{ALL_TOPIC_OPERATIONS, is_topic_name};
use crate::api::{Call, Handled, Refused, bound_entries, in_turn, uuid};
use crate::controller::image::{Image, PartitionState};
use crate::shard::Shard;

/// The most partitions of one page: the default of Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2_000;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeTopicPartitionsRequest<'_> = call.body()?;
    bound_entries([request.topics.len()].into_iter())?;
    if !is_valid(&request) {
        let refusal = refusal(&request);
        return call.ready(&refusal);
    }
    in_turn(reply(shard, call))
}

async fn reply(shard: Rc<Shard>, call: Call) -> Result<Reply, Refused> {
    let request: DescribeTopicPartitionsRequest<'_> = call.body()?;
    let world = shard
        .world_with(|| request.topics.iter().map(|asked| asked.name))
        .await;
    let page = page(&world.image, &request);
    Ok(call.into_caller().reply(&page))
}

/// A cursor must be at a partition, and at one of the topics that are asked for.
fn is_valid(request: &DescribeTopicPartitionsRequest<'_>) -> bool {
    request.cursor.0.is_none_or(|cursor| {
        let is_asked = |name| request.topics.iter().any(|topic| topic.name == name);
        cursor.partition_index >= 0 && (request.topics.is_empty() || is_asked(cursor.topic_name))
    })
}

fn refusal(request: &DescribeTopicPartitionsRequest<'_>) -> DescribeTopicPartitionsResponse {
    let names = request.topics.iter().map(|topic| topic.name);
    DescribeTopicPartitionsResponse {
        topics: names
            .map(|name| failed(name, ErrorCode::InvalidRequest))
            .collect(),
        ..DescribeTopicPartitionsResponse::default()
    }
}

fn page(image: &Image, request: &DescribeTopicPartitionsRequest<'_>) -> DescribeTopicPartitionsResponse {
    let topics = &image.topics_by_name;
    let cursor = request.cursor.0.unwrap_or_default();
    let mut left = at(request.response_partition_limit.clamp(1, PARTITIONS_MAX));
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        let from = (Bound::Included(cursor.topic_name), Bound::Unbounded);
        topics
            .range::<str, _>(from)
            // Each has a partition at least, but for the cursor's; and the page ends before the one behind the last.
            .take(left + 2)
            .map(|(name, _)| name.as_str())
            .collect()
    } else {
        let asked = request.topics.iter().map(|topic| topic.name);
        asked.filter(|name| *name >= cursor.topic_name).collect()
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if left == 0 {
            response.next_cursor = next(name, 0);
            break;
        }
        let Some(topic) = topics.get(name) else {
            let error_code = if is_topic_name(name) {
                ErrorCode::UnknownTopicOrPartition
            } else {
                ErrorCode::InvalidTopicException
            };
            response.topics.push(DescribedTopic {
                topic_authorized_operations: ALL_TOPIC_OPERATIONS,
                ..failed(name, error_code)
            });
            continue;
        };
        let first = if name == cursor.topic_name {
            at(cursor.partition_index)
        } else {
            0
        };
        let numbered = (0..).zip(&topic.partitions);
        let described = numbered.skip(first).take(left);
        let partitions: Vec<_> = described
            .map(|(number, state)| describe(image, number, state))
            .collect();
        left -= partitions.len();
        let end = first + partitions.len();
        response.topics.push(DescribedTopic {
            name: Some(topic.name.clone()),
            topic_id: uuid(topic.id),
            is_internal: topic.is_internal,
            partitions,
            topic_authorized_operations: ALL_TOPIC_OPERATIONS,
            ..DescribedTopic::default()
        });
        if end < topic.partitions.len() {
            let end = i32::try_from(end).expect("a topic has fewer partitions than i32 counts");
            response.next_cursor = next(name, end);
            break;
        }
    }
    response
}

fn describe(image: &Image, partition_index: i32, state: &PartitionState) -> DescribedPartition {
    let (leader_id, offline_replicas) = image.leader_and_offline(state);
    DescribedPartition {
        partition_index,
        leader_id,
        leader_epoch: state.leader_epoch,
        replica_nodes: state.replicas.clone(),
        isr_nodes: state.isr.clone(),
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas,
        ..DescribedPartition::default()
    }
}

fn failed(name: &str, error_code: ErrorCode) -> DescribedTopic {
    DescribedTopic {
        error_code,
        name: Some(name.to_owned()),
        ..DescribedTopic::default()
    }
}

fn next(topic_name: &str, partition_index: i32) -> NullableStruct<NextPartitionCursor> {
    NullableStruct(Some(NextPartitionCursor {
        topic_name: topic_name.to_owned(),
        partition_index,
    }))
}

/// A number that was found not to be negative.
fn at(number: i32) -> usize {
    usize::try_from(number).expect("not negative")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wire::Array;
    use wire::messages::describe_topic_partitions::{DescribeTopicPartitionsTopic, PartitionCursor};

    use super::*;
    use crate::controller::image::Topic;

    fn image(counts: &[(&str, usize)]) -> Image {
        let state = PartitionState {
            leader_epoch: 3,
            ..PartitionState::of(vec![1_000])
        };
        let topic = |name: &str, count| Topic {
            name: name.to_owned(),
            partitions: vec![state.clone(); count],
            ..Topic::default()
        };
        let topics = counts
            .iter()
            .map(|&(name, count)| (name.to_owned(), Arc::new(topic(name, count))));
        Image {
            topics_by_name: topics.collect(),
            ..Image::default()
        }
    }

    /// Partitions of each topic of every page, and where the page after it begins.
    type Page = (Vec<(String, Vec<i32>)>, Option<(String, i32)>);

    fn ask(
        known: &[(&str, usize)],
        asked: &[&str],
        limit: i32,
        cursor: Option<(&str, i32)>,
    ) -> DescribeTopicPartitionsResponse {
        let asked: Vec<_> = asked
            .iter()
            .map(|&name| DescribeTopicPartitionsTopic { name })
            .collect();
        let request = DescribeTopicPartitionsRequest {
            topics: Array::from_slice(&asked),
            response_partition_limit: limit,
            cursor: NullableStruct(cursor.map(|(topic_name, partition_index)| PartitionCursor {
                topic_name,
                partition_index,
            })),
        };
        if !is_valid(&request) {
            return refusal(&request);
        }
        page(&image(known), &request)
    }

    fn brief(response: DescribeTopicPartitionsResponse) -> Page {
        let next = response.next_cursor.0;
        let topics = response.topics.into_iter().map(|topic| {
            let numbers = topic.partitions.iter().map(|partition| partition.partition_index);
            (topic.name.unwrap_or_default(), numbers.collect())
        });
        (
            topics.collect(),
            next.map(|next| (next.topic_name, next.partition_index)),
        )
    }

    #[test]
    fn who_follows_the_cursors_sees_every_partition_once() {
        let known = [("a", 3), ("b", 1), ("c", 2), ("d", 5)];
        let all: Vec<(String, i32)> = known
            .iter()
            .flat_map(|&(name, count)| (0..count as i32).map(move |number| (name.to_owned(), number)))
            .collect();
        for limit in 1..=12 {
            let mut seen = Vec::new();
            let mut cursor: Option<(String, i32)> = None;
            for _ in 0..=all.len() {
                let at = cursor.as_ref().map(|(name, number)| (name.as_str(), *number));
                let (topics, next) = brief(ask(&known, &[], limit, at));
                let count: usize = topics.iter().map(|(_, numbers)| numbers.len()).sum();
                assert!(count <= limit as usize);
                for (name, numbers) in topics {
                    seen.extend(numbers.into_iter().map(|number| (name.clone(), number)));
                }
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!((seen, cursor), (all.clone(), None), "{limit}");
        }
    }

    #[test]
    fn a_page_has_at_least_one_partition_and_at_most_two_thousand() {
        for limit in [i32::MIN, -1, 0, 1] {
            let page = brief(ask(&[("a", 2)], &[], limit, None));
            assert_eq!(page, (vec![("a".into(), vec![0])], Some(("a".into(), 1))));
        }
        let (topics, next) = brief(ask(&[("a", 2_001)], &[], i32::MAX, None));
        assert_eq!((topics[0].1.len(), next), (2_000, Some(("a".into(), 2_000))));
    }

    #[test]
    fn asked_topics_come_once_in_order_from_the_cursor_on() {
        let known = [("a", 1), ("b", 2), ("c", 1)];
        let (topics, next) = brief(ask(&known, &["c", "b", "no", "a", "b"], 9, Some(("b", 1))));
        assert_eq!(
            topics,
            [
                ("b".into(), vec![1]),
                ("c".into(), vec![0]),
                ("no".into(), vec![])
            ]
        );
        assert_eq!(next, None);
        // A topic that is gone, or partitions that are not there, end nothing.
        assert_eq!(
            brief(ask(&known, &[], 9, Some(("bb", 7)))).0,
            [("c".into(), vec![0])]
        );
        let beyond = brief(ask(&known, &["b", "c"], 9, Some(("b", i32::MAX))));
        assert_eq!(beyond.0, [("b".into(), vec![]), ("c".into(), vec![0])]);
    }

    #[test]
    fn a_cursor_elsewhere_is_refused() {
        let known = [("a", 1), ("b", 1)];
        for cursor in [("a", -1), ("b", 0)] {
            let refused = ask(&known, &["a", "a"], 9, Some(cursor)).topics;
            assert_eq!(
                refused.len(),
                2,
                "one for each that was asked, as often as it was"
            );
            assert!(
                refused
                    .iter()
                    .all(|topic| topic.error_code == ErrorCode::InvalidRequest)
            );
        }
        assert!(ask(&known, &[], 9, Some(("a", -1))).topics.is_empty());
    }

    #[test]
    fn unknown_topics_and_names_that_cannot_be_are_told_apart() {
        let codes: Vec<_> = ask(&[], &["a/b", "no"], 9, None)
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(
            codes,
            [
                ErrorCode::InvalidTopicException,
                ErrorCode::UnknownTopicOrPartition
            ]
        );
    }
}
