//! Small requests that ask for large answers: none is made that is larger than an answer may be, and what waits to be
//! told holds little.

use std::time::Duration;

use wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use wire::messages::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use wire::messages::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse};
use wire::messages::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};
use wire::{Array, ErrorCode, Request};

use crate::support::{Broker, Client};

const MEMORY_BYTES: u64 = 256 << 20;
/// Of the program itself, its threads and the control thread's log; and of answers that are being sent.
const OUTSIDE_BYTES: u64 = 160 << 20;
const BYTES_MAX: u64 = MEMORY_BYTES + OUTSIDE_BYTES;
/// What an answer may have.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The last version whose clients join once.
const JOIN: i16 = 3;
const CLIENT_ID_BYTES: usize = 32_000;

fn broker() -> Broker {
    let memory = format!("memory.bytes={MEMORY_BYTES}");
    let delay = "group.initial.rebalance.delay.ms=1000";
    Broker::start_with(&["--set", &memory, "--set", delay])
}

/// The node that coordinates the group.
fn node_of(broker: &Broker, group: &str) -> i32 {
    let request = FindCoordinatorRequest {
        key: group,
        ..FindCoordinatorRequest::default()
    };
    let found: FindCoordinatorResponse = broker.client().call(3, &request).unwrap();
    assert_eq!(found.error_code, ErrorCode::None);
    found.node_id
}

fn join_frame(group: &str, member_id: &str, client_id: &str) -> Vec<u8> {
    let protocols = [JoinGroupProtocol {
        name: "range",
        metadata: b"m",
    }];
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id,
        protocol_type: "consumer",
        protocols: Array::from_slice(&protocols),
        ..JoinGroupRequest::default()
    };
    request.encode(JOIN, 1, Some(client_id))
}

fn joined(client: &mut Client) -> JoinGroupResponse {
    client.receive(JOIN, 1).unwrap()
}

/// A group of members in their first generation, which they did not ask for their assignments in: the first, which
/// leads, is called `leader`, and so many others have long names.
fn large_group(
    broker: &Broker,
    group: &str,
    leader: &str,
    others: usize,
) -> Vec<(Client, JoinGroupResponse)> {
    let client_id = "c".repeat(CLIENT_ID_BYTES);
    let mut clients: Vec<Client> = (0..=others).map(|_| broker.coordinator(group)).collect();
    clients[0].send_bytes(&join_frame(group, "", leader));
    let groups = [group];
    let request = DescribeGroupsRequest {
        groups: Array::from_slice(&groups),
        ..DescribeGroupsRequest::default()
    };
    loop {
        let described: DescribeGroupsResponse = clients[1].call(5, &request).unwrap();
        if described.groups[0].members.len() == 1 {
            break;
        }
    }
    for client in &mut clients[1..] {
        client.send_bytes(&join_frame(group, "", &client_id));
    }
    let joined = clients.into_iter().map(|mut client| {
        let joined = joined(&mut client);
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::None, 1));
        (client, joined)
    });
    joined.collect()
}

#[test]
fn a_group_that_is_named_again_and_again_makes_no_answer_beyond_the_bound() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = broker();
    let _members = large_group(&broker, "large", "leader", 10);
    let ask = |client: &mut Client, repeats: usize| {
        let groups = vec!["large"; repeats];
        let request = DescribeGroupsRequest {
            groups: Array::from_slice(&groups),
            ..DescribeGroupsRequest::default()
        };
        client.send(0, &request);
        client.receive_frame()
    };
    let mut client = broker.coordinator("large");
    let answer = ask(&mut client, 50).expect("an answer that is large, and not too large");
    assert!((30_000_000..ANSWER_BYTES_MAX).contains(&answer.len()));
    // 256 MB, and more than a frame's length can say.
    for repeats in [400, 3_600, 90_000] {
        assert!(ask(&mut client, repeats).is_err(), "{repeats}");
        broker.has_at_most(BYTES_MAX, "groups that are described");
        client = broker.coordinator("large");
    }
    // Those that are not there are named again in the message.
    let name = "n".repeat(30_000);
    let groups = vec![name.as_str(); 1_500];
    let request = DescribeGroupsRequest {
        groups: Array::from_slice(&groups),
        ..DescribeGroupsRequest::default()
    };
    client.send(6, &request);
    assert!(client.is_closed());
    let mut client = broker.coordinator("large");
    let few = DescribeGroupsRequest {
        groups: Array::from_slice(&groups[..2]),
        ..DescribeGroupsRequest::default()
    };
    let answer: DescribeGroupsResponse = client.call(5, &few).unwrap();
    assert_eq!(answer.groups.len(), 2);
}

#[test]
fn offsets_that_are_asked_for_again_and_again_make_no_answer_beyond_the_bound() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = broker();
    let mut admin = broker.client();
    let names: Vec<String> = (0..100).map(|_| admin.create_topic(1, &[])).collect();
    let mut client = broker.coordinator("offsets");
    let metadata = "m".repeat(4_000);
    let partitions = [OffsetCommitPartition {
        partition: 0,
        committed_offset: 1,
        committed_leader_epoch: -1,
        committed_metadata: Some(&metadata),
    }];
    let topics: Vec<OffsetCommitTopic<'_>> = names
        .iter()
        .map(|name| OffsetCommitTopic {
            name,
            partitions: Array::from_slice(&partitions),
        })
        .collect();
    let request = OffsetCommitRequest {
        group_id: "offsets",
        generation_id: -1,
        topics: Array::from_slice(&topics),
        ..OffsetCommitRequest::default()
    };
    let response: OffsetCommitResponse = client.call(8, &request).unwrap();
    assert!(
        response
            .topics
            .iter()
            .all(|topic| topic.partitions[0].error_code == ErrorCode::None)
    );
    let all = OffsetFetchGroup {
        group_id: "offsets",
        topics: None,
        ..OffsetFetchGroup::default()
    };
    let ask = |client: &mut Client, repeats: usize| {
        let groups = vec![all; repeats];
        let request = OffsetFetchRequest {
            groups: Array::from_slice(&groups),
            ..OffsetFetchRequest::default()
        };
        client.call::<_, OffsetFetchResponse>(8, &request)
    };
    assert_eq!(ask(&mut client, 10).unwrap().groups.len(), 10);
    for repeats in [200, 50_000] {
        assert!(ask(&mut client, repeats).is_err(), "{repeats}");
        broker.has_at_most(BYTES_MAX, "offsets that are asked for");
        client = broker.coordinator("offsets");
    }
}

/// A connection whose first answer waits: a member joins a group whose other member does not come back.
struct Parked {
    client: Client,
    group: String,
    other: Client,
    other_id: String,
}

/// Each sends `frames` behind that, to the coordinator of `group`.
fn park(broker: &Broker, count: usize, group: &str, frames: &[u8]) -> Vec<Parked> {
    let mut waiting: Vec<(String, Client)> = Vec::new();
    let node = node_of(broker, group);
    let names = (0..).map(|number| format!("parked-{number}"));
    for group in names.filter(|group| node_of(broker, group) == node).take(count) {
        let mut other = broker.coordinator(&group);
        other.send_bytes(&join_frame(&group, "", "other"));
        waiting.push((group, other));
    }
    let parked = waiting.into_iter().map(|(group, mut other)| {
        let other_id = joined(&mut other).member_id;
        let mut client = broker.coordinator(&group);
        client.send_bytes(&join_frame(&group, "", "parked"));
        client.send_bytes(frames);
        Parked {
            client,
            group,
            other,
            other_id,
        }
    });
    let mut parked: Vec<Parked> = parked.collect();
    for parked in &mut parked {
        assert!(parked.client.is_silent(Duration::from_millis(300)));
    }
    parked
}

impl Parked {
    /// The other comes back, and all that waits is told.
    fn release(&mut self) {
        let back = join_frame(&self.group, &self.other_id, "other");
        self.other.send_bytes(&back);
        let joined = joined(&mut self.client);
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::None, 2));
    }
}

#[test]
fn joins_that_wait_for_their_turn_hold_nothing_of_the_group() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = broker();
    let mut members = large_group(&broker, "large", "leader", 10);
    let (_client, leader) = members.remove(0);
    assert_eq!(leader.members.len(), 11);
    let leader_id = leader.member_id;
    let again = join_frame("large", &leader_id, "again");
    let mut parked = park(&broker, 6, "large", &again.repeat(250));
    broker.has_at_most(BYTES_MAX, "answers that wait");
    parked[0].release();
    for _ in 0..250 {
        let joined = joined(&mut parked[0].client);
        assert_eq!((joined.error_code, joined.members.len()), (ErrorCode::None, 11));
        assert_eq!((&joined.leader, &joined.member_id), (&leader_id, &leader_id));
    }
    broker.has_at_most(BYTES_MAX, "answers that were told");

    // A member leaves, and the others begin anew: what is told then leads nobody.
    let (mut client, gone) = members.pop().unwrap();
    let request = LeaveGroupRequest {
        group_id: "large",
        member_id: &gone.member_id,
        ..LeaveGroupRequest::default()
    };
    let left: LeaveGroupResponse = client.call(2, &request).unwrap();
    assert_eq!(left.error_code, ErrorCode::None);
    for (client, joined) in &mut members {
        client.send_bytes(&join_frame("large", &joined.member_id, "again"));
    }
    let mut client = broker.coordinator("large");
    client.send_bytes(&join_frame("large", &leader_id, "again"));
    let anew = joined(&mut client);
    assert_eq!((anew.generation_id, anew.members.len()), (2, 10));
    parked[1].release();
    for _ in 0..250 {
        let late = joined(&mut parked[1].client);
        assert_eq!((late.error_code, late.generation_id), (ErrorCode::None, 1));
        assert_eq!((late.members.len(), late.leader.as_str()), (0, ""));
    }
    let request = HeartbeatRequest {
        group_id: "large",
        generation_id: 2,
        member_id: &leader_id,
        ..HeartbeatRequest::default()
    };
    let beat: HeartbeatResponse = client.call(3, &request).unwrap();
    assert_eq!(beat.error_code, ErrorCode::None);
}

#[test]
fn long_names_that_wait_for_their_turn_have_a_bound() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = broker();
    let long = "l".repeat(CLIENT_ID_BYTES);
    let mut members = large_group(&broker, "large", &long, 1);
    let again = join_frame("large", &members[0].1.member_id, "again");
    let parked = park(&broker, 1, "large", &again.repeat(250));
    // Nobody else is let in before they were told.
    members[1].0.send_bytes(&again);
    assert_eq!(
        joined(&mut members[1].0).error_code,
        ErrorCode::CoordinatorNotAvailable
    );
    broker.has_at_most(BYTES_MAX, "names that wait");
    drop(parked);
    loop {
        members[1].0.send_bytes(&again);
        match joined(&mut members[1].0).error_code {
            ErrorCode::None => break,
            error => assert_eq!(error, ErrorCode::CoordinatorNotAvailable),
        }
    }
}

#[test]
fn assignments_that_wait_for_their_turn_are_those_of_the_generation_or_none() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = broker();
    let mut client = broker.coordinator("assigned");
    client.send_bytes(&join_frame("assigned", "", "member"));
    let first = joined(&mut client);
    let sync = |generation_id, assignment: &[u8]| {
        let assignments = [SyncGroupAssignment {
            member_id: &first.member_id,
            assignment,
        }];
        let request = SyncGroupRequest {
            group_id: "assigned",
            generation_id,
            member_id: &first.member_id,
            assignments: Array::from_slice(&assignments),
            ..SyncGroupRequest::default()
        };
        request.encode(3, 1, Some("member"))
    };
    client.send_bytes(&sync(1, b"mine"));
    let synced: SyncGroupResponse = client.receive(3, 1).unwrap();
    assert_eq!(synced.error_code, ErrorCode::None);
    let mut parked = park(&broker, 2, "assigned", &sync(1, b""));
    parked[0].release();
    let late: SyncGroupResponse = parked[0].client.receive(3, 1).unwrap();
    assert_eq!(
        (late.error_code, &late.assignment.0[..]),
        (ErrorCode::None, &b"mine"[..])
    );
    // The leader joins again: another generation.
    client.send_bytes(&join_frame("assigned", &first.member_id, "member"));
    assert_eq!(joined(&mut client).generation_id, 2);
    parked[1].release();
    let late: SyncGroupResponse = parked[1].client.receive(3, 1).unwrap();
    assert_eq!(late.error_code, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_client_id_that_leaves_no_room_for_a_member_id_is_refused() {
    let broker = Broker::foreign().unwrap_or_else(broker);
    let group = format!("long-ids-{}", std::process::id());
    for (bytes, error_code) in [
        (32_730, ErrorCode::None),
        (32_731, ErrorCode::UnknownServerError),
        (32_767, ErrorCode::UnknownServerError),
    ] {
        let mut client = broker.coordinator(&group);
        client.send_bytes(&join_frame(&group, "", &"c".repeat(bytes)));
        let joined = joined(&mut client);
        assert_eq!(joined.error_code, error_code, "{bytes}");
        if error_code == ErrorCode::None {
            let request = HeartbeatRequest {
                group_id: &group,
                generation_id: joined.generation_id,
                member_id: &joined.member_id,
                ..HeartbeatRequest::default()
            };
            let beat: HeartbeatResponse = client.call(3, &request).unwrap();
            assert_eq!(beat.error_code, ErrorCode::None, "its id is known");
            let request = LeaveGroupRequest {
                group_id: &group,
                member_id: &joined.member_id,
                ..LeaveGroupRequest::default()
            };
            let left: LeaveGroupResponse = client.call(2, &request).unwrap();
            assert_eq!(left.error_code, ErrorCode::None);
        }
    }
}
