//! ListGroups (key 16), versions 0-5: the groups that this node coordinates.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::api::{Call, Handled, bound_entries};
use crate::group::coordinators::Coordinators;
use crate::group::machine::{Group, State};
use crate::shard::Shard;

/// The only type of group that there is.
const CLASSIC: &str = "classic";

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: ListGroupsRequest<'_> = call.body()?;
    bound_entries([request.states_filter.len(), request.types_filter.len()].into_iter())?;
    let is_wanted = |filter: &wire::Array<'_, &str>, name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let mut response = ListGroupsResponse::default();
    if !is_wanted(&request.types_filter, CLASSIC) {
        return call.ready(&response);
    }
    let coordinators = shard.coordinators.all();
    if let Err(error_code) = Coordinators::written_before(coordinators.iter()).await {
        return call.ready(&failed(error_code));
    }
    for coordinator in coordinators {
        let looked = coordinator.look_at_all(|name, live, _| {
            let state = live.map_or(State::Empty, Group::state).name();
            if is_wanted(&request.states_filter, state) {
                response.groups.push(ListedGroup {
                    group_id: name.to_owned(),
                    protocol_type: live
                        .and_then(|live| live.protocol_type())
                        .unwrap_or_default()
                        .to_owned(),
                    group_state: state.to_owned(),
                    group_type: CLASSIC.to_owned(),
                });
            }
        });
        match looked {
            // One that has gone away is another node's by now.
            Ok(()) | Err(ErrorCode::NotCoordinator) => {}
            Err(error_code) => return call.ready(&failed(error_code)),
        }
    }
    call.ready(&response)
}

fn failed(error_code: ErrorCode) -> ListGroupsResponse {
    ListGroupsResponse {
        error_code,
        ..ListGroupsResponse::default()
    }
}
