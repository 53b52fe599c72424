//! CreatePartitions (key 37), versions 0-3. Any node takes it; answered when every shard has opened the new partitions.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsResult, CreatePartitionsTopic,
};

use crate::api::create_topics::timeout;
use crate::api::{Call, Handled, bound_entries, later};
use crate::controller::request::{Altered, MorePartitions};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: CreatePartitionsRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().flat_map(|topic| {
        let assignments = topic
            .assignments
            .into_iter()
            .flat_map(|assignments| assignments.iter());
        let nodes = assignments.map(|assignment| assignment.broker_ids.len() + 1);
        nodes.chain([1]).collect::<Vec<_>>()
    }))?;
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in request.topics.iter() {
        *times.entry(topic.name).or_default() += 1;
    }
    let refused = times.iter().filter(|(_, times)| **times > 1).map(|(name, _)| {
        let twice = (ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned());
        result((*name).to_owned(), Altered::of(Err(twice)))
    });
    let mut results: Vec<CreatePartitionsResult> = refused.collect();
    let once = request.topics.iter().filter(|topic| times[topic.name] == 1);
    let wanted: Vec<MorePartitions> = once.map(|topic| more(&topic)).collect();
    let (validate_only, timeout) = (request.validate_only, timeout(request.timeout_ms));
    let caller = call.into_caller();
    later(async move {
        let names: Vec<String> = wanted.iter().map(|wanted| wanted.topic.clone()).collect();
        if !wanted.is_empty() {
            let answered = shard
                .control
                .create_partitions(wanted, validate_only, timeout)
                .await;
            let failed = |error| Altered::of(Err((error, "no answer from the controller".to_owned())));
            let altered = answered.unwrap_or_else(|error| names.iter().map(|_| failed(error)).collect());
            results.extend(
                names
                    .into_iter()
                    .zip(altered)
                    .map(|(name, altered)| result(name, altered)),
            );
        }
        caller.reply(&CreatePartitionsResponse {
            results,
            ..CreatePartitionsResponse::default()
        })
    })
}

fn more(topic: &CreatePartitionsTopic<'_>) -> MorePartitions {
    let assignments = topic.assignments.map(|assignments| {
        let nodes = assignments
            .iter()
            .map(|assignment| assignment.broker_ids.iter().collect());
        nodes.collect()
    });
    MorePartitions {
        topic: topic.name.to_owned(),
        count: topic.count,
        assignments,
    }
}

fn result(name: String, altered: Altered) -> CreatePartitionsResult {
    CreatePartitionsResult {
        name,
        error_code: altered.error_code,
        error_message: altered.error_message,
    }
}
