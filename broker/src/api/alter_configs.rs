//! AlterConfigs (key 33), versions 0-2: other configs for topics and brokers, in place of all that they have. What
//! IncrementalAlterConfigs has in common with it is here.
//!
//! Any node takes them, those of a broker any node of its host; answered when every shard has them.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::alter_configs::{AlterConfigsRequest, AlterConfigsResponse, AlteredResource};

use crate::api::resource::{self, Refusal, Resource};
use crate::api::{Call, Handled, bound_entries, later};
use crate::controller::request::{Altered, ConfigChange, ConfigOperation, ConfigResource, ResourceConfigs};
use crate::shard::{Shard, World};

/// What is wanted for a resource.
pub(super) struct Wish {
    /// The resource's type, as Kafka numbers it.
    pub(super) kind: i8,
    /// The resource's name.
    pub(super) name: String,
    /// Whether configs that are not named go back to their defaults.
    pub(super) replaces_all: bool,
    /// What to change; or why that cannot be.
    pub(super) changes: Result<Vec<ConfigChange>, Refusal>,
}

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: AlterConfigsRequest<'_> = call.body()?;
    bound_entries(
        request
            .resources
            .iter()
            .map(|resource| resource.configs.len() + 1),
    )?;
    let wishes = request.resources.iter().map(|resource| {
        let changes = resource.configs.iter().map(|config| ConfigChange {
            name: config.name.to_owned(),
            operation: ConfigOperation::Set,
            value: config.value.map(str::to_owned),
        });
        Wish {
            kind: resource.resource_type,
            name: resource.resource_name.to_owned(),
            replaces_all: true,
            changes: Ok(changes.collect()),
        }
    });
    let (wishes, validate_only): (Vec<Wish>, bool) = (wishes.collect(), request.validate_only);
    let caller = call.into_caller();
    later(async move {
        caller.reply(&AlterConfigsResponse {
            responses: alter(&shard, wishes, validate_only).await,
            ..AlterConfigsResponse::default()
        })
    })
}

/// One result for each wish, in order.
pub(super) async fn alter(shard: &Shard, wishes: Vec<Wish>, validate_only: bool) -> Vec<AlteredResource> {
    let world = shard.world();
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for wish in &wishes {
        *times.entry((wish.kind, &wish.name)).or_default() += 1;
    }
    let mut resources = Vec::new();
    let mut decided: Vec<Option<Altered>> = Vec::with_capacity(wishes.len());
    for wish in &wishes {
        let is_twice = times[&(wish.kind, wish.name.as_str())] > 1;
        let checked = if is_twice {
            Err((
                ErrorCode::InvalidRequest,
                "Each resource must appear at most once.".to_owned(),
            ))
        } else {
            wish.changes.clone()
        };
        let wanted = checked.and_then(|changes| {
            Ok(ResourceConfigs {
                resource: named(wish, &world, shard.node_id)?,
                replaces_all: wish.replaces_all,
                changes,
            })
        });
        decided.push(match wanted {
            Ok(wanted) => {
                resources.push(wanted);
                None
            }
            Err(refusal) => Some(Altered::of(Err(refusal))),
        });
    }
    let count = resources.len();
    let answered = if resources.is_empty() {
        Ok(Vec::new())
    } else {
        shard.control.alter_configs(resources, validate_only).await
    };
    let failed = |error| Altered::of(Err((error, "no answer from the controller".to_owned())));
    let answered = answered.unwrap_or_else(|error| (0..count).map(|_| failed(error)).collect());
    let mut answered = answered.into_iter();
    let results = wishes.into_iter().zip(decided).map(|(wish, decided)| {
        let altered = decided.or_else(|| answered.next());
        let altered = altered.unwrap_or_else(|| failed(ErrorCode::UnknownServerError));
        AlteredResource {
            error_code: altered.error_code,
            error_message: altered.error_message,
            resource_type: wish.kind,
            resource_name: wish.name,
        }
    });
    results.collect()
}

/// What the controller calls it.
fn named(wish: &Wish, world: &World, node_id: i32) -> Result<ConfigResource, Refusal> {
    // Whether a topic is there is for the controller to say: it may be newer than this shard's image.
    if wish.kind == resource::TOPIC {
        if wish.name.is_empty() {
            let why = "a topic has to be named: no configs hold for all topics".to_owned();
            return Err((ErrorCode::InvalidRequest, why));
        }
        resource::check_topic_name(&wish.name)?;
        return Ok(ConfigResource::Topic(wish.name.clone()));
    }
    match resource::of(wish.kind, &wish.name, world, node_id)? {
        Resource::Topic(_) => Ok(ConfigResource::Topic(wish.name.clone())),
        Resource::Broker(id) => Ok(ConfigResource::Broker(id)),
        Resource::AllBrokers => Ok(ConfigResource::AllBrokers),
    }
}
