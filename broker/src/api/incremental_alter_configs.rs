//! IncrementalAlterConfigs (key 44), versions 0-1: some configs of topics and brokers are set, deleted, or changed as
//! lists. Checked and answered as in [`alter_configs`](super::alter_configs).

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, OPERATION_APPEND, OPERATION_DELETE,
    OPERATION_SET, OPERATION_SUBTRACT,
};

use crate::api::alter_configs::{Wish, alter};
use crate::api::resource::Refusal;
use crate::api::{Call, Handled, bound_entries, later};
use crate::controller::request::{ConfigChange, ConfigOperation};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: IncrementalAlterConfigsRequest<'_> = call.body()?;
    bound_entries(
        request
            .resources
            .iter()
            .map(|resource| resource.configs.len() + 1),
    )?;
    let wishes = request.resources.iter().map(|resource| {
        let changes = resource.configs.iter().map(|config| {
            Ok(ConfigChange {
                name: config.name.to_owned(),
                operation: operation(config.config_operation)?,
                value: config.value.map(str::to_owned),
            })
        });
        Wish {
            kind: resource.resource_type,
            name: resource.resource_name.to_owned(),
            replaces_all: false,
            changes: changes.collect(),
        }
    });
    let (wishes, validate_only): (Vec<Wish>, bool) = (wishes.collect(), request.validate_only);
    let caller = call.into_caller();
    later(async move {
        caller.reply(&IncrementalAlterConfigsResponse {
            responses: alter(&shard, wishes, validate_only).await,
            ..IncrementalAlterConfigsResponse::default()
        })
    })
}

fn operation(code: i8) -> Result<ConfigOperation, Refusal> {
    match code {
        OPERATION_SET => Ok(ConfigOperation::Set),
        OPERATION_DELETE => Ok(ConfigOperation::Delete),
        OPERATION_APPEND => Ok(ConfigOperation::Append),
        OPERATION_SUBTRACT => Ok(ConfigOperation::Subtract),
        _ => Err((
            ErrorCode::InvalidRequest,
            format!("Unknown operation type {code}"),
        )),
    }
}
