//! Groups: members, generations and committed offsets, as clients see them. All of it holds for Apache Kafka as well.

use std::sync::atomic::{AtomicU32, Ordering};

use wire::group_record::{GroupRecord, OffsetCommitKey, OffsetCommitValue};
use wire::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use wire::messages::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, LeavingMember};
use wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use wire::messages::offset_delete::{
    OffsetDeletePartition, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopic,
};
use wire::messages::offset_fetch::{
    OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic,
};
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::messages::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};
use wire::{Array, BatchBuilder, Compression, ErrorCode, NewRecord, Request};

use crate::support::{Broker, Client, now_ms};

/// The first rebalance waits for nobody: the same is set for Apache Kafka.
const NO_DELAY: &[&str] = &["--set", "group.initial.rebalance.delay.ms=0"];

fn broker() -> Broker {
    Broker::foreign().unwrap_or_else(|| Broker::start_with(NO_DELAY))
}

/// A group that no other test has, and a connection to its coordinator.
fn group(broker: &Broker) -> (String, Client) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("group-{}-{number}", std::process::id());
    let client = broker.coordinator(&name);
    (name, client)
}

fn join_request<'a>(
    group: &'a str,
    member_id: &'a str,
    protocols: &'a [JoinGroupProtocol<'a>],
) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id,
        protocol_type: "consumer",
        protocols: Array::from_slice(protocols),
        ..JoinGroupRequest::default()
    }
}

const RANGE: &[JoinGroupProtocol<'static>] = &[JoinGroupProtocol {
    name: "range",
    // Version 0, no topics, no user data.
    metadata: &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
}];

/// Joins as new clients do: once for an id, once with it.
fn join(client: &mut Client, group: &str) -> JoinGroupResponse {
    let given: JoinGroupResponse = client.call(9, &join_request(group, "", RANGE)).unwrap();
    assert_eq!(given.error_code, ErrorCode::MemberIdRequired);
    assert!(given.member_id.starts_with("test-"), "{}", given.member_id);
    client
        .call(9, &join_request(group, &given.member_id, RANGE))
        .unwrap()
}

fn sync(
    client: &mut Client,
    group: &str,
    joined: &JoinGroupResponse,
    assignment: &[u8],
) -> SyncGroupResponse {
    let assignments = [SyncGroupAssignment {
        member_id: &joined.member_id,
        assignment,
    }];
    let request = SyncGroupRequest {
        group_id: group,
        generation_id: joined.generation_id,
        member_id: &joined.member_id,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        assignments: Array::from_slice(&assignments),
        ..SyncGroupRequest::default()
    };
    client.call(5, &request).unwrap()
}

/// A stable group of one.
fn settled(client: &mut Client, group: &str) -> JoinGroupResponse {
    let joined = join(client, group);
    assert_eq!(joined.error_code, ErrorCode::None);
    let synced = sync(client, group, &joined, b"mine");
    assert_eq!(
        (synced.error_code, &synced.assignment.0[..]),
        (ErrorCode::None, &b"mine"[..])
    );
    joined
}

fn heartbeat(client: &mut Client, group: &str, member_id: &str, generation_id: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group,
        generation_id,
        member_id,
        ..HeartbeatRequest::default()
    };
    let response: HeartbeatResponse = client.call(4, &request).unwrap();
    response.error_code
}

fn leave(client: &mut Client, group: &str, member_id: &str, group_instance_id: Option<&str>) -> ErrorCode {
    let members = [LeavingMember {
        member_id,
        group_instance_id,
        ..LeavingMember::default()
    }];
    let request = LeaveGroupRequest {
        group_id: group,
        members: Array::from_slice(&members),
        ..LeaveGroupRequest::default()
    };
    let response: LeaveGroupResponse = client.call(5, &request).unwrap();
    match response.error_code {
        ErrorCode::None => response.members[0].error_code,
        error => error,
    }
}

struct Commit<'a> {
    group: &'a str,
    member_id: &'a str,
    generation_id: i32,
    topic: &'a str,
    partition: i32,
    offset: i64,
    metadata: Option<&'a str>,
    version: i16,
}

impl Commit<'_> {
    fn send(&self, client: &mut Client) -> ErrorCode {
        let partitions = [OffsetCommitPartition {
            partition: self.partition,
            committed_offset: self.offset,
            committed_leader_epoch: if self.version >= 6 { 3 } else { -1 },
            committed_metadata: self.metadata,
        }];
        let topics = [OffsetCommitTopic {
            name: self.topic,
            partitions: Array::from_slice(&partitions),
        }];
        let request = OffsetCommitRequest {
            group_id: self.group,
            generation_id: self.generation_id,
            member_id: self.member_id,
            topics: Array::from_slice(&topics),
            ..OffsetCommitRequest::default()
        };
        let response: OffsetCommitResponse = client.call(self.version, &request).unwrap();
        response.topics[0].partitions[0].error_code
    }
}

fn commit<'a>(group: &'a str, topic: &'a str, offset: i64) -> Commit<'a> {
    Commit {
        group,
        member_id: "",
        generation_id: -1,
        topic,
        partition: 0,
        offset,
        metadata: Some("kept"),
        version: 8,
    }
}

/// Offset, leader epoch and metadata that are committed.
fn committed(client: &mut Client, group: &str, topic: &str, partition: i32) -> (i64, i32, String) {
    let partitions = [partition];
    let topics = [OffsetFetchTopic {
        name: topic,
        partition_indexes: Array::from_slice(&partitions),
    }];
    let groups = [OffsetFetchGroup {
        group_id: group,
        topics: Some(Array::from_slice(&topics)),
        ..OffsetFetchGroup::default()
    }];
    let request = OffsetFetchRequest {
        groups: Array::from_slice(&groups),
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let response: OffsetFetchResponse = client.call(8, &request).unwrap();
    let group = &response.groups[0];
    assert_eq!(group.error_code, ErrorCode::None);
    let partition = &group.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::None);
    (
        partition.committed_offset,
        partition.committed_leader_epoch,
        partition.metadata.clone().unwrap_or_default(),
    )
}

fn described(client: &mut Client, group: &str, version: i16) -> DescribedGroup {
    let groups = [group];
    let request = DescribeGroupsRequest {
        groups: Array::from_slice(&groups),
        include_authorized_operations: true,
    };
    let mut response: DescribeGroupsResponse = client.call(version, &request).unwrap();
    response.groups.remove(0)
}

fn delete(client: &mut Client, group: &str) -> ErrorCode {
    let groups = [group];
    let request = DeleteGroupsRequest {
        groups_names: Array::from_slice(&groups),
    };
    let response: DeleteGroupsResponse = client.call(2, &request).unwrap();
    response.results[0].error_code
}

fn delete_offset(client: &mut Client, group: &str, topic: &str) -> Result<ErrorCode, ErrorCode> {
    let partitions = [OffsetDeletePartition { partition: 0 }];
    let topics = [OffsetDeleteTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = OffsetDeleteRequest {
        group_id: group,
        topics: Array::from_slice(&topics),
    };
    let response: OffsetDeleteResponse = client.call(0, &request).unwrap();
    match response.error_code {
        ErrorCode::None => Ok(response.topics[0].partitions[0].error_code),
        error => Err(error),
    }
}

#[test]
fn a_member_lives_from_join_to_leave() {
    let broker = broker();
    let (group, mut client) = group(&broker);
    let joined = settled(&mut client, &group);
    assert_eq!(joined.generation_id, 1);
    assert_eq!(
        (joined.leader.as_str(), joined.members.len()),
        (joined.member_id.as_str(), 1)
    );
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(
        heartbeat(&mut client, &group, &joined.member_id, 1),
        ErrorCode::None
    );
    let shown = described(&mut client, &group, 6);
    assert_eq!(
        (shown.group_state.as_str(), shown.protocol_data.as_str()),
        ("Stable", "range")
    );
    assert_eq!(shown.authorized_operations, 0b1101_0100_1000);
    let member = &shown.members[0];
    assert_eq!(
        (member.client_id.as_str(), member.client_host.as_str()),
        ("test", "/127.0.0.1")
    );
    assert_eq!(&member.member_assignment.0[..], b"mine");
    assert_eq!(
        leave(&mut client, &group, &joined.member_id, None),
        ErrorCode::None
    );
    assert_eq!(described(&mut client, &group, 6).group_state, "Empty");
    assert_eq!(
        heartbeat(&mut client, &group, &joined.member_id, 1),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn a_newcomer_is_waited_for_until_the_others_have_joined_again() {
    let broker = broker();
    let (group, mut first) = group(&broker);
    let joined = settled(&mut first, &group);
    let mut second = broker.coordinator(&group);
    let given: JoinGroupResponse = second.call(9, &join_request(&group, "", RANGE)).unwrap();
    let waiting = second.send(9, &join_request(&group, &given.member_id, RANGE));
    while heartbeat(&mut first, &group, &joined.member_id, 1) == ErrorCode::None {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(
        heartbeat(&mut first, &group, &joined.member_id, 1),
        ErrorCode::RebalanceInProgress
    );
    let again: JoinGroupResponse = first
        .call(9, &join_request(&group, &joined.member_id, RANGE))
        .unwrap();
    let newcomer: JoinGroupResponse = second.receive(9, waiting).unwrap();
    assert_eq!((again.generation_id, newcomer.generation_id), (2, 2));
    assert_eq!((again.members.len(), newcomer.members.len()), (2, 0));
    let assignments = [&again.member_id, &newcomer.member_id].map(|id| SyncGroupAssignment {
        member_id: id,
        assignment: id.as_bytes(),
    });
    let request = |member_id, assignments| SyncGroupRequest {
        group_id: &group,
        generation_id: 2,
        member_id,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        assignments,
        ..SyncGroupRequest::default()
    };
    let waiting = second.send(5, &request(&newcomer.member_id, Array::default()));
    let led: SyncGroupResponse = first
        .call(5, &request(&again.member_id, Array::from_slice(&assignments)))
        .unwrap();
    let followed: SyncGroupResponse = second.receive(5, waiting).unwrap();
    assert_eq!(&led.assignment.0[..], again.member_id.as_bytes());
    assert_eq!(&followed.assignment.0[..], newcomer.member_id.as_bytes());
}

#[test]
fn offsets_are_kept_as_they_were_committed() {
    let broker = broker();
    let (group, mut client) = group(&broker);
    let topic = broker.client().create_topic(2, &[]);
    let nothing = (-1, -1, String::new());
    assert_eq!(
        committed(&mut client, &group, &topic, 0),
        nothing,
        "an unknown group is no error"
    );
    assert_eq!(commit(&group, &topic, 42).send(&mut client), ErrorCode::None);
    assert_eq!(
        committed(&mut client, &group, &topic, 0),
        (42, 3, "kept".to_owned())
    );
    assert_eq!(committed(&mut client, &group, &topic, 1), nothing);
    let older = Commit {
        metadata: None,
        version: 2,
        ..commit(&group, &topic, 41)
    };
    assert_eq!(older.send(&mut client), ErrorCode::None);
    assert_eq!(committed(&mut client, &group, &topic, 0), (41, -1, String::new()));
    let shown = described(&mut client, &group, 6);
    assert_eq!(
        (shown.group_state.as_str(), shown.protocol_type.as_str()),
        ("Empty", "")
    );
    let all = OffsetFetchRequest {
        group_id: &group,
        topics: None,
        ..OffsetFetchRequest::default()
    };
    let all: OffsetFetchResponse = client.call(7, &all).unwrap();
    assert_eq!((all.topics.len(), all.topics[0].partitions.len()), (1, 1));
    assert_eq!(delete_offset(&mut client, &group, &topic), Ok(ErrorCode::None));
    assert_eq!(committed(&mut client, &group, &topic, 0), nothing);
}

#[test]
fn a_request_that_is_wrong_gets_kafkas_code() {
    use ErrorCode as E;
    let broker = broker();
    let (group, mut client) = group(&broker);
    let topic = broker.client().create_topic(1, &[]);
    let client = &mut client;
    let member = settled(client, &group).member_id;
    let member = member.as_str();
    let in_group = |member_id, generation_id| Commit {
        member_id,
        generation_id,
        ..commit(&group, &topic, 7)
    };

    // Commits.
    let long = "m".repeat(4_097);
    let commits: [(&str, Commit<'_>, ErrorCode); 14] = [
        ("a member's", in_group(member, 1), E::None),
        ("of an old generation", in_group(member, 0), E::IllegalGeneration),
        (
            "of a generation to come",
            in_group(member, 2),
            E::IllegalGeneration,
        ),
        ("of a stranger", in_group("nobody", 1), E::UnknownMemberId),
        ("of nobody", in_group("", -1), E::UnknownMemberId),
        ("without a generation", in_group(member, -1), E::IllegalGeneration),
        (
            "long metadata",
            Commit {
                metadata: Some(&long),
                ..in_group(member, 1)
            },
            E::OffsetMetadataTooLarge,
        ),
        (
            "longest metadata",
            Commit {
                metadata: Some(&long[1..]),
                ..in_group(member, 1)
            },
            E::None,
        ),
        (
            "unknown topic",
            Commit {
                topic: "no-such",
                ..in_group(member, 1)
            },
            E::UnknownTopicOrPartition,
        ),
        (
            "unknown partition",
            Commit {
                partition: 1,
                ..in_group(member, 1)
            },
            E::UnknownTopicOrPartition,
        ),
        (
            "negative partition",
            Commit {
                partition: -1,
                ..in_group(member, 1)
            },
            E::UnknownTopicOrPartition,
        ),
        (
            "unknown group, version 8",
            Commit {
                group: "no-such-g",
                ..in_group(member, 1)
            },
            E::NotCoordinator,
        ),
        (
            "unknown topic, old generation",
            Commit {
                topic: "no-such",
                ..in_group(member, 0)
            },
            E::UnknownTopicOrPartition,
        ),
        (
            "negative offset",
            Commit {
                offset: -5,
                ..in_group(member, 1)
            },
            E::None,
        ),
    ];
    for (what, commit, code) in commits {
        let answered = commit.send(client);
        let other_node = code == E::NotCoordinator;
        // The other group may be this coordinator's as well.
        assert!(
            answered == code || other_node && answered == E::IllegalGeneration,
            "{what}: {answered}"
        );
    }

    // Joins.
    let two = [
        RANGE[0],
        JoinGroupProtocol {
            name: "mine",
            metadata: b"",
        },
    ];
    let other = [two[1]];
    let good = join_request(&group, "", RANGE);
    let joins = [
        (
            "no group",
            JoinGroupRequest { group_id: "", ..good },
            E::InvalidGroupId,
        ),
        (
            "short session",
            JoinGroupRequest {
                session_timeout_ms: 5_999,
                ..good
            },
            E::InvalidSessionTimeout,
        ),
        (
            "long session",
            JoinGroupRequest {
                session_timeout_ms: 1_800_001,
                ..good
            },
            E::InvalidSessionTimeout,
        ),
        (
            "negative session",
            JoinGroupRequest {
                session_timeout_ms: -1,
                ..good
            },
            E::InvalidSessionTimeout,
        ),
        (
            "another type",
            JoinGroupRequest {
                protocol_type: "connect",
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "no type",
            JoinGroupRequest {
                protocol_type: "",
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "no protocol",
            JoinGroupRequest {
                protocols: Array::default(),
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "another protocol",
            JoinGroupRequest {
                protocols: Array::from_slice(&other),
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "an unknown id",
            JoinGroupRequest {
                member_id: "nobody",
                ..good
            },
            E::UnknownMemberId,
        ),
        (
            "an unknown instance with an id",
            JoinGroupRequest {
                member_id: member,
                group_instance_id: Some("i"),
                ..good
            },
            E::UnknownMemberId,
        ),
    ];
    for (what, request, code) in joins {
        let response: JoinGroupResponse = client.call(9, &request).unwrap();
        assert_eq!(response.error_code, code, "join: {what}");
        assert_eq!(
            (response.generation_id, response.leader.as_str()),
            (-1, ""),
            "join: {what}"
        );
    }

    // Syncs.
    let good = SyncGroupRequest {
        group_id: &group,
        generation_id: 1,
        member_id: member,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        ..SyncGroupRequest::default()
    };
    let syncs = [
        ("again", good, E::None),
        (
            "no group",
            SyncGroupRequest { group_id: "", ..good },
            E::InvalidGroupId,
        ),
        (
            "old",
            SyncGroupRequest {
                generation_id: 0,
                ..good
            },
            E::IllegalGeneration,
        ),
        (
            "a stranger",
            SyncGroupRequest {
                member_id: "nobody",
                ..good
            },
            E::UnknownMemberId,
        ),
        (
            "no id",
            SyncGroupRequest {
                member_id: "",
                ..good
            },
            E::UnknownMemberId,
        ),
        (
            "another type",
            SyncGroupRequest {
                protocol_type: Some("connect"),
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "another protocol",
            SyncGroupRequest {
                protocol_name: Some("mine"),
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "no protocol",
            SyncGroupRequest {
                protocol_name: None,
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "no type",
            SyncGroupRequest {
                protocol_type: None,
                ..good
            },
            E::InconsistentGroupProtocol,
        ),
        (
            "an unknown instance",
            SyncGroupRequest {
                group_instance_id: Some("i"),
                ..good
            },
            E::UnknownMemberId,
        ),
    ];
    for (what, request, code) in syncs {
        let response: SyncGroupResponse = client.call(5, &request).unwrap();
        assert_eq!(response.error_code, code, "sync: {what}");
    }

    // Heartbeats.
    for (group, member_id, generation_id, code) in [
        (group.as_str(), member, 1, E::None),
        (&group, member, 0, E::IllegalGeneration),
        (&group, member, -1, E::IllegalGeneration),
        (&group, "nobody", 1, E::UnknownMemberId),
        (&group, "", 1, E::UnknownMemberId),
        ("", member, 1, E::InvalidGroupId),
    ] {
        let code_of = heartbeat(client, group, member_id, generation_id);
        assert_eq!(code_of, code, "heartbeat: {group} {member_id} {generation_id}");
    }

    // Deletions, while the group has a member.
    assert_eq!(delete(client, &group), E::NonEmptyGroup);
    assert_eq!(
        delete_offset(client, &group, "no-such"),
        Ok(E::UnknownTopicOrPartition)
    );
    assert_eq!(
        delete_offset(client, &group, &topic),
        Ok(E::None),
        "nobody is subscribed to it"
    );
    assert_eq!(delete_offset(client, "", &topic), Err(E::InvalidGroupId));

    // Leaving.
    assert_eq!(leave(client, "", member, None), E::InvalidGroupId);
    assert_eq!(leave(client, &group, "nobody", None), E::UnknownMemberId);
    assert_eq!(leave(client, &group, "", None), E::UnknownMemberId);
    assert_eq!(leave(client, &group, "", Some("i")), E::UnknownMemberId);
    assert_eq!(leave(client, &group, member, Some("i")), E::UnknownMemberId);
    assert_eq!(leave(client, &group, member, None), E::None);
    assert_eq!(leave(client, &group, member, None), E::UnknownMemberId);

    // What is left.
    assert_eq!(in_group("", -1).send(client), E::None);
    assert_eq!(in_group("nobody", 1).send(client), E::UnknownMemberId);
    assert_eq!(delete(client, &group), E::None);
    assert_eq!(delete(client, &group), E::GroupIdNotFound);
    assert_eq!(delete_offset(client, &group, &topic), Err(E::GroupIdNotFound));
    assert_eq!(
        Commit {
            version: 8,
            ..in_group(member, 1)
        }
        .send(client),
        E::IllegalGeneration
    );
    assert_eq!(
        Commit {
            version: 9,
            ..in_group(member, 1)
        }
        .send(client),
        E::GroupIdNotFound
    );
    let gone = described(client, &group, 6);
    assert_eq!(
        (gone.error_code, gone.group_state.as_str()),
        (E::GroupIdNotFound, "Dead")
    );
    let gone = described(client, &group, 5);
    assert_eq!((gone.error_code, gone.group_state.as_str()), (E::None, "Dead"));
}

#[test]
fn a_static_member_that_comes_back_fences_the_one_before() {
    let broker = broker();
    let (group, mut client) = group(&broker);
    let fixed = JoinGroupRequest {
        group_instance_id: Some("i"),
        ..join_request(&group, "", RANGE)
    };
    let first: JoinGroupResponse = client.call(9, &fixed).unwrap();
    assert_eq!((first.error_code, first.generation_id), (ErrorCode::None, 1));
    assert!(first.member_id.starts_with("i-"));
    assert_eq!(
        sync(&mut client, &group, &first, b"mine").error_code,
        ErrorCode::None
    );
    let second: JoinGroupResponse = client.call(9, &fixed).unwrap();
    assert_eq!((second.error_code, second.generation_id), (ErrorCode::None, 1));
    assert!(second.skip_assignment && second.member_id != first.member_id);
    let request = HeartbeatRequest {
        group_id: &group,
        generation_id: 1,
        member_id: &first.member_id,
        group_instance_id: Some("i"),
    };
    let response: HeartbeatResponse = client.call(4, &request).unwrap();
    assert_eq!(response.error_code, ErrorCode::FencedInstanceId);
    let synced = sync(&mut client, &group, &second, b"ignored");
    assert_eq!(&synced.assignment.0[..], b"mine", "it keeps what it had");
    assert_eq!(
        leave(&mut client, &group, "", Some("i")),
        ErrorCode::None,
        "an administrator may remove it"
    );
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let broker = broker();
    let (group, mut client) = group(&broker);
    settled(&mut client, &group);
    let mut listed = |states: &[&str], types: &[&str]| {
        let request = ListGroupsRequest {
            states_filter: Array::from_slice(states),
            types_filter: Array::from_slice(types),
        };
        let response: ListGroupsResponse = client.call(5, &request).unwrap();
        response
            .groups
            .into_iter()
            .find(|listed| listed.group_id == group)
    };
    let found = listed(&[], &[]).expect("it is there");
    assert_eq!(
        (
            found.group_state.as_str(),
            found.group_type.as_str(),
            found.protocol_type.as_str()
        ),
        ("Stable", "classic", "consumer")
    );
    for (states, types, is_there) in [
        (&["Stable"][..], &[][..], true),
        (&["stable", "Dead"], &["Classic"], true),
        (&["Empty"], &[], false),
        (&[], &["consumer"], false),
    ] {
        assert_eq!(listed(states, types).is_some(), is_there, "{states:?} {types:?}");
    }
}

#[test]
fn groups_and_offsets_outlive_a_restart_and_a_kill_and_another_number_of_shards() {
    let mut broker = Broker::start_restartable();
    let (group, mut client) = group(&broker);
    let topic = broker.client().create_topic(1, &[]);
    let joined = settled(&mut client, &group);
    let commit_as_member = |client: &mut Client, offset| {
        let commit = Commit {
            member_id: &joined.member_id,
            generation_id: 1,
            ..commit(&group, &topic, offset)
        };
        commit.send(client)
    };
    for (round, (signal, shards)) in [("-KILL", 2), ("-TERM", 2), ("-KILL", 4), ("-TERM", 1)]
        .into_iter()
        .enumerate()
    {
        let offset = 10 + round as i64;
        assert_eq!(commit_as_member(&mut client, offset), ErrorCode::None, "{signal}");
        broker.restart_with_shards(signal, shards);
        client = broker.coordinator(&group);
        assert_eq!(
            committed(&mut client, &group, &topic, 0).0,
            offset,
            "{signal} {shards}"
        );
        assert_eq!(
            described(&mut client, &group, 6).group_state,
            "Stable",
            "{signal} {shards}"
        );
        assert_eq!(
            heartbeat(&mut client, &group, &joined.member_id, 1),
            ErrorCode::None,
            "the generation goes on"
        );
        assert_eq!(commit_as_member(&mut client, offset), ErrorCode::None);
        assert_eq!(
            sync(&mut client, &group, &joined, b"").assignment.0,
            b"mine",
            "the assignment is kept"
        );
    }
}

#[test]
fn groups_beyond_their_share_are_refused_and_what_is_deleted_is_room_again() {
    if Broker::foreign().is_some() {
        return;
    }
    let mut options = NO_DELAY.to_vec();
    options.extend(["--set", "memory.bytes=134217728"]);
    let broker = Broker::start_with(&options);
    let (member, mut client) = group(&broker);
    let topic = broker.client().create_topic(1, &[]);
    let metadata = "m".repeat(4_096);
    let fill = |name: &str, client: &mut Client| {
        let mut filling = commit(name, &topic, 1);
        filling.metadata = Some(&metadata);
        filling.send(client)
    };
    // Of a shard's 64 MiB, three quarters of a sixteenth are 3 MiB; and a group has its names and maps beside its 4 KiB.
    let mut groups = Vec::new();
    for number in 0.. {
        let name = format!("filling-{number}");
        match fill(&name, &mut client) {
            ErrorCode::None => groups.push(name),
            // It is the other shard's.
            ErrorCode::NotCoordinator => {}
            ErrorCode::InvalidCommitOffsetSize => break,
            error => panic!("{error}"),
        }
        assert!(groups.len() * 4_096 < 3 << 20, "{} groups of 4 KiB", groups.len());
    }
    assert!(groups.len() * 4_096 > 3 << 19, "{} groups of 4 KiB", groups.len());
    // Nothing that was there is gone, and it can be replaced.
    assert_eq!(committed(&mut client, &groups[0], &topic, 0).0, 1);
    assert_eq!(fill(&groups[0], &mut client), ErrorCode::None);
    // A member that says much of itself is refused.
    let large = [JoinGroupProtocol {
        name: "range",
        metadata: &[0; 500_000],
    }];
    let refused: JoinGroupResponse = client.call(9, &join_request(&member, "", &large)).unwrap();
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(described(&mut client, &member, 5).group_state, "Dead");
    let (again, half) = (groups[0].clone(), groups.len() / 2);
    for group in groups.drain(..half) {
        assert_eq!(delete(&mut client, &group), ErrorCode::None);
    }
    assert_eq!(fill(&again, &mut client), ErrorCode::None);
    let joined: JoinGroupResponse = client.call(9, &join_request(&member, "", &large)).unwrap();
    assert_eq!(joined.error_code, ErrorCode::MemberIdRequired);
}

#[test]
fn what_is_asked_for_first_is_done_first() {
    let broker = broker();
    let topic = broker.client().create_topic(1, &[]);
    let (group, mut client) = group(&broker);
    let partitions = [0];
    let topics = [OffsetFetchTopic {
        name: &topic,
        partition_indexes: Array::from_slice(&partitions),
    }];
    let fetch = OffsetFetchRequest {
        group_id: &group,
        topics: Some(Array::from_slice(&topics)),
        ..OffsetFetchRequest::default()
    };
    let names = [group.as_str()];
    let describe = DescribeGroupsRequest {
        groups: Array::from_slice(&names),
        ..DescribeGroupsRequest::default()
    };
    let remove = DeleteGroupsRequest {
        groups_names: Array::from_slice(&names),
    };
    let gone = [OffsetDeletePartition { partition: 0 }];
    let gone = [OffsetDeleteTopic {
        name: &topic,
        partitions: Array::from_slice(&gone),
    }];
    let forget = OffsetDeleteRequest {
        group_id: &group,
        topics: Array::from_slice(&gone),
    };
    // Each is sent before the one before it was answered.
    for offset in 0..20 {
        let partitions = [OffsetCommitPartition {
            partition: 0,
            committed_offset: offset,
            ..OffsetCommitPartition::default()
        }];
        let topics = [OffsetCommitTopic {
            name: &topic,
            partitions: Array::from_slice(&partitions),
        }];
        let commit = OffsetCommitRequest {
            group_id: &group,
            generation_id: -1,
            topics: Array::from_slice(&topics),
            ..OffsetCommitRequest::default()
        };
        let sent = [client.send(8, &commit), client.send(7, &fetch)];
        let committed: OffsetCommitResponse = client.receive(8, sent[0]).unwrap();
        assert_eq!(committed.topics[0].partitions[0].error_code, ErrorCode::None);
        let fetched: OffsetFetchResponse = client.receive(7, sent[1]).unwrap();
        assert_eq!(fetched.topics[0].partitions[0].committed_offset, offset);

        let sent = [client.send(0, &forget), client.send(7, &fetch)];
        let forgotten: OffsetDeleteResponse = client.receive(0, sent[0]).unwrap();
        assert_eq!(forgotten.topics[0].partitions[0].error_code, ErrorCode::None);
        let fetched: OffsetFetchResponse = client.receive(7, sent[1]).unwrap();
        assert_eq!(fetched.topics[0].partitions[0].committed_offset, -1);

        let sent = [
            client.send(8, &commit),
            client.send(2, &remove),
            client.send(6, &describe),
            client.send(2, &ListGroupsRequest::default()),
        ];
        let _: OffsetCommitResponse = client.receive(8, sent[0]).unwrap();
        let removed: DeleteGroupsResponse = client.receive(2, sent[1]).unwrap();
        assert_eq!(removed.results[0].error_code, ErrorCode::None);
        let described: DescribeGroupsResponse = client.receive(6, sent[2]).unwrap();
        assert_eq!(described.groups[0].error_code, ErrorCode::GroupIdNotFound);
        let listed: ListGroupsResponse = client.receive(2, sent[3]).unwrap();
        assert!(listed.groups.iter().all(|listed| listed.group_id != group));
    }
}

/// As after a crash between the deletion of a topic and that of its offsets.
#[test]
fn offsets_of_a_topic_that_is_gone_are_forgotten_by_a_start() {
    let mut broker = Broker::start_restartable();
    let topic = broker.client().create_topic(1, &[]);
    // Of 50 partitions it has 47 (Java's hash of its name).
    let (group, partition) = ("a", 47);
    drop(broker.coordinator(group));
    let mut records = BatchBuilder::new(Compression::None);
    for topic in [&topic, "gone"] {
        let key = OffsetCommitKey {
            group,
            topic,
            partition: 0,
        };
        let value = OffsetCommitValue {
            offset: 5,
            ..OffsetCommitValue::default()
        };
        let (key, value) = GroupRecord::Offset(key, Some(value)).encode();
        records.push(&NewRecord {
            timestamp_ms: now_ms(),
            key: Some(&key),
            value: value.as_deref(),
            ..NewRecord::default()
        });
    }
    let records = records.build();
    let partitions = [ProducePartition {
        partition,
        records: Some(&records),
    }];
    let topics = [ProduceTopic {
        name: "__consumer_offsets",
        partitions: Array::from_slice(&partitions),
    }];
    let produce = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topics: Array::from_slice(&topics),
        ..ProduceRequest::default()
    };
    let mut client = broker.leader("__consumer_offsets", partition);
    client.send_bytes(&produce.encode(9, 1, Some("__admin_client")));
    let produced: ProduceResponse = client.receive(9, 1).unwrap();
    assert_eq!(produced.topics[0].partitions[0].error_code, ErrorCode::None);
    broker.restart("-KILL");
    let mut client = broker.coordinator(group);
    assert_eq!(committed(&mut client, group, &topic, 0).0, 5);
    assert_eq!(committed(&mut client, group, "gone", 0).0, -1);
}
