//! DeleteGroups (key 42), versions 0-2: removes groups that have no members, with all their offsets.

use std::collections::BTreeSet;
use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup};

use crate::api::{Call, Handled, Turn, bound_entries, later};
use crate::shard::Shard;

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DeleteGroupsRequest<'_> = call.body()?;
    bound_entries([request.groups_names.len()].into_iter())?;
    let mut seen = BTreeSet::new();
    let mut turn = Turn::default();
    let mut deleting = Vec::with_capacity(request.groups_names.len());
    for name in request.groups_names.iter().filter(|name| seen.insert(*name)) {
        let coordinator = shard.coordinator(name).await;
        let deleted = coordinator.and_then(|coordinator| coordinator.delete(name));
        deleting.push((name.to_owned(), deleted));
        turn.took(4).await;
    }
    let caller = call.into_caller();
    later(async move {
        let mut response = DeleteGroupsResponse::default();
        for (group_id, deleted) in deleting {
            let result = match deleted {
                Ok(deleted) => deleted.await.unwrap_or(Err(ErrorCode::NotCoordinator)),
                Err(error) => Err(error),
            };
            response.results.push(DeletedGroup {
                group_id,
                error_code: result.err().unwrap_or(ErrorCode::None),
            });
        }
        caller.reply(&response)
    })
}
