//! ListGroups (key 16), versions 0-5: the groups that this node coordinates.

use std::rc::Rc;

use ring::executor::yield_now;
use wire::ErrorCode;
use wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::api::{AnswerBudget, Call, Handled, bound_entries};
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
    // The filter is as long as the client likes, and there are many groups.
    let wanted = State::ALL.map(|state| is_wanted(&request.states_filter, state.name()));
    let mut budget = AnswerBudget::new();
    for coordinator in coordinators {
        let mut has_room = Ok(());
        let looked = coordinator.look_at_all(|name, live, _| {
            let state = live.map_or(State::Empty, Group::state);
            if !wanted[state as usize] || has_room.is_err() {
                return;
            }
            let protocol_type = live.and_then(|live| live.protocol_type()).unwrap_or_default();
            let state = state.name();
            let texts = [name, protocol_type, state, CLASSIC].map(str::len);
            has_room = budget.take(size_of::<ListedGroup>() + texts.iter().sum::<usize>());
            if has_room.is_ok() {
                response.groups.push(ListedGroup {
                    group_id: name.to_owned(),
                    protocol_type: protocol_type.to_owned(),
                    group_state: state.to_owned(),
                    group_type: CLASSIC.to_owned(),
                });
            }
        });
        has_room?;
        // One coordinator's groups are a step.
        yield_now().await;
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
