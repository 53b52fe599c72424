//! OffsetForLeaderEpoch (key 23), versions 2-4: where a leader epoch ends, so that a client that outlives a restart or
//! a new leader notices a log that was cut (KIP-320).

use std::rc::Rc;

use net::Reply;
use wire::ErrorCode;
use wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderPartitionResponse, OffsetForLeaderTopicResponse,
};

use crate::api::{Call, Handled, Refused, bound_entries, in_turn};
use crate::partition::leader::check_leader_epoch;
use crate::shard::{LocalTopic, Place, Shard};

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: OffsetForLeaderEpochRequest<'_> = call.body()?;
    bound_entries(request.topics.iter().map(|topic| topic.partitions.len() + 1))?;
    in_turn(reply(shard, call))
}

async fn reply(shard: Rc<Shard>, call: Call) -> Result<Reply, Refused> {
    let request: OffsetForLeaderEpochRequest<'_> = call.body()?;
    let world = shard
        .world_with(|| request.topics.iter().map(|topic| topic.name))
        .await;
    let topics = request.topics.iter().map(|topic| {
        let local = world.topic(topic.name);
        let partitions = topic.partitions.iter().map(|asked| answer(&shard, local, &asked));
        OffsetForLeaderTopicResponse {
            name: topic.name.to_owned(),
            partitions: partitions.collect(),
        }
    });
    let response = OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    };
    Ok(call.into_caller().reply(&response))
}

fn answer(
    shard: &Shard,
    topic: Option<&LocalTopic>,
    asked: &OffsetForLeaderPartition,
) -> OffsetForLeaderPartitionResponse {
    let place = topic.map_or(Place::Nowhere, |topic| {
        topic.place(asked.partition, shard.node_id)
    });
    let found = place.log().and_then(|log| {
        check_leader_epoch(asked.current_leader_epoch, log.leader_epoch())?;
        Ok(log.epoch_end_offset(asked.leader_epoch))
    });
    let (error_code, (leader_epoch, end_offset)) = match found {
        Ok(end) => (ErrorCode::None, end),
        Err(error) => (error, (-1, -1)),
    };
    OffsetForLeaderPartitionResponse {
        error_code,
        partition: asked.partition,
        leader_epoch,
        end_offset,
    }
}
