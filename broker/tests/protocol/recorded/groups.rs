//! Of consumer groups.

use wire::messages::delete_groups::DeleteGroupsResponse;
use wire::messages::describe_groups::DescribeGroupsResponse;
use wire::messages::heartbeat::HeartbeatResponse;
use wire::messages::join_group::JoinGroupResponse;
use wire::messages::leave_group::LeaveGroupResponse;
use wire::messages::list_groups::ListGroupsResponse;
use wire::messages::offset_commit::OffsetCommitResponse;
use wire::messages::offset_delete::OffsetDeleteResponse;
use wire::messages::offset_fetch::OffsetFetchResponse;
use wire::messages::sync_group::SyncGroupResponse;
use wire::{ApiKey, ErrorCode};

use super::case::{Bytes, Case, bytes, case};
use super::{TOPIC, read};

/// Its coordinator is asked.
pub(super) const GROUP: &str = "recorded-group";
pub(super) const APIS: [ApiKey; 10] = [
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
];

pub(super) fn cases() -> Vec<Case> {
    [
        joining(),
        members(),
        commits(),
        fetched(),
        tools(),
        offsets_alone(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn joining() -> Vec<Case> {
    let range = || bytes().string("range").byte_string(b"metadata");
    let join = |group: &str, session_ms: i32, member: &str, protocols: &[Bytes]| {
        let head = bytes().string(group).i32(session_ms).i32(60_000).string(member);
        head.string("consumer").array(protocols)
    };
    let named = |name: &'static str, body: Bytes| case(name, 11, 4, body);
    let good = join(GROUP, 10_000, "", &[range()]);
    vec![
        named("join: no member id", good.clone()),
        named("join: a trailing byte", good.clone().i8(0)),
        named("join: no group", join("", 10_000, "", &[range()])),
        named("join: a session of 1 ms", join(GROUP, 1, "", &[range()])),
        named("join: a session of -1 ms", join(GROUP, -1, "", &[range()])),
        named(
            "join: a session of 2^31-1 ms",
            join(GROUP, i32::MAX, "", &[range()]),
        ),
        named(
            "join: a member id that nobody gave",
            join(GROUP, 10_000, "nobody", &[range()]),
        ),
        named("join: no protocols", join(GROUP, 10_000, "", &[])),
        named(
            "join: a protocol twice",
            join(GROUP, 10_000, "", &[range(), range()]),
        ),
        named(
            "join: a protocol without a name",
            join(GROUP, 10_000, "", &[bytes().string("").byte_string(b"")]),
        ),
        named(
            "join: no protocol type",
            bytes()
                .string(GROUP)
                .i32(10_000)
                .i32(60_000)
                .string("")
                .string("")
                .array(&[range()]),
        ),
        named(
            "join: a rebalance of -1 ms",
            bytes()
                .string(GROUP)
                .i32(10_000)
                .i32(-1)
                .string("")
                .string("consumer")
                .array(&[range()]),
        ),
        named(
            "join: a null group",
            bytes()
                .i16(-1)
                .i32(10_000)
                .i32(60_000)
                .string("")
                .string("consumer")
                .array(&[range()]),
        ),
        named(
            "join: a null member id",
            bytes()
                .string(GROUP)
                .i32(10_000)
                .i32(60_000)
                .i16(-1)
                .string("consumer")
                .array(&[range()]),
        ),
        named(
            "join: null protocols",
            bytes()
                .string(GROUP)
                .i32(10_000)
                .i32(60_000)
                .string("")
                .string("consumer")
                .i32(-1),
        ),
        named(
            "join: 2^31-1 protocols",
            bytes()
                .string(GROUP)
                .i32(10_000)
                .i32(60_000)
                .string("")
                .string("consumer")
                .i32(i32::MAX),
        ),
        named(
            "join: null metadata",
            join(GROUP, 10_000, "", &[bytes().string("range").i32(-1)]),
        ),
        named(
            "join: metadata of 2^31-1 bytes",
            join(GROUP, 10_000, "", &[bytes().string("range").i32(i32::MAX)]),
        ),
        case("join: an empty body", 11, 0, bytes()),
        case("join: version 10", 11, 10, good),
    ]
}

fn members() -> Vec<Case> {
    let sync = |group: &str, generation: i32, member: &str, assignments: &[Bytes]| {
        bytes()
            .string(group)
            .i32(generation)
            .string(member)
            .array(assignments)
    };
    let heartbeat =
        |group: &str, generation: i32, member: &str| bytes().string(group).i32(generation).string(member);
    let leave = |group: &str, members: &[Bytes]| bytes().string(group).array(members);
    let one = || bytes().string("nobody").byte_string(b"assignment");
    let leaving = |member: &str| bytes().string(member).i16(-1);
    vec![
        case(
            "sync: a group that is not there",
            14,
            1,
            sync(GROUP, 1, "nobody", &[one()]),
        ),
        case("sync: no group", 14, 1, sync("", 1, "nobody", &[])),
        case("sync: no member id", 14, 1, sync(GROUP, 1, "", &[])),
        case("sync: generation -7", 14, 1, sync(GROUP, -7, "nobody", &[])),
        case(
            "sync: null assignments",
            14,
            1,
            bytes().string(GROUP).i32(1).string("nobody").i32(-1),
        ),
        case(
            "sync: a null assignment",
            14,
            1,
            sync(GROUP, 1, "nobody", &[bytes().string("nobody").i32(-1)]),
        ),
        case(
            "sync: a null member id",
            14,
            1,
            bytes().string(GROUP).i32(1).i16(-1).i32(0),
        ),
        case(
            "heartbeat: a group that is not there",
            12,
            1,
            heartbeat(GROUP, 1, "nobody"),
        ),
        case("heartbeat: no group", 12, 1, heartbeat("", 1, "nobody")),
        case("heartbeat: no member id", 12, 1, heartbeat(GROUP, 1, "")),
        case("heartbeat: generation -1", 12, 1, heartbeat(GROUP, -1, "nobody")),
        case(
            "heartbeat: a null group",
            12,
            1,
            bytes().i16(-1).i32(1).string("nobody"),
        ),
        case(
            "heartbeat: a trailing byte",
            12,
            1,
            heartbeat(GROUP, 1, "nobody").i8(0),
        ),
        case(
            "leave: a group that is not there",
            13,
            1,
            bytes().string(GROUP).string("nobody"),
        ),
        case("leave: no group", 13, 1, bytes().string("").string("nobody")),
        case("leave: no member id", 13, 1, bytes().string(GROUP).string("")),
        case(
            "leave: two members of a group that is not there",
            13,
            3,
            leave(GROUP, &[leaving("a"), leaving("b")]),
        ),
        case(
            "leave: a member twice",
            13,
            3,
            leave(GROUP, &[leaving("a"), leaving("a")]),
        ),
        case(
            "leave: a static member that is not there",
            13,
            3,
            leave(GROUP, &[bytes().string("").string("instance")]),
        ),
        case("leave: no members", 13, 3, leave(GROUP, &[])),
        case("leave: null members", 13, 3, bytes().string(GROUP).i32(-1)),
    ]
}

fn commits() -> Vec<Case> {
    let committed =
        |partition: i32, offset: i64, metadata: &str| bytes().i32(partition).i64(offset).string(metadata);
    let commit = |group: &str, generation: i32, member: &str, topics: &[Bytes]| {
        let head = bytes().string(group).i32(generation).string(member).i64(-1);
        head.array(topics)
    };
    let of = |topic: &str, partitions: &[Bytes]| bytes().string(topic).array(partitions);
    let simple = |topics: &[Bytes]| commit(GROUP, -1, "", topics);
    let named = |name: &'static str, body: Bytes| case(name, 8, 2, body);
    let good = || of(TOPIC, &[committed(0, 5, "metadata")]);
    vec![
        named(
            "commit: generation 3 of a group that is not there",
            commit(GROUP, 3, "nobody", &[good()]),
        ),
        named(
            "commit: a member of a group that is not there",
            commit(GROUP, -1, "nobody", &[good()]),
        ),
        named("commit: good", simple(&[good()])),
        named(
            "commit: generation 3 of a group without members",
            commit(GROUP, 3, "", &[good()]),
        ),
        named(
            "commit: a member of a group without members",
            commit(GROUP, -1, "nobody", &[good()]),
        ),
        named("commit: no group", commit("", -1, "", &[good()])),
        named("commit: no topics", simple(&[])),
        named("commit: no partitions", simple(&[of(TOPIC, &[])])),
        named(
            "commit: an unknown topic",
            simple(&[of("recorded-nowhere", &[committed(0, 5, "")])]),
        ),
        named(
            "commit: an empty topic name",
            simple(&[of("", &[committed(0, 5, "")])]),
        ),
        named(
            "commit: partition 99",
            simple(&[of(TOPIC, &[committed(99, 5, "")])]),
        ),
        named(
            "commit: partition -1",
            simple(&[of(TOPIC, &[committed(-1, 5, "")])]),
        ),
        named("commit: offset -1", simple(&[of(TOPIC, &[committed(0, -1, "")])])),
        named(
            "commit: offset -2^63",
            simple(&[of(TOPIC, &[committed(0, i64::MIN, "")])]),
        ),
        named(
            "commit: offset 2^63-1",
            simple(&[of(TOPIC, &[committed(0, i64::MAX, "")])]),
        ),
        named(
            "commit: metadata of 5,000 bytes",
            simple(&[of(TOPIC, &[committed(0, 5, &"m".repeat(5_000))])]),
        ),
        named(
            "commit: null metadata",
            simple(&[of(TOPIC, &[bytes().i32(0).i64(5).i16(-1)])]),
        ),
        named(
            "commit: a partition twice",
            simple(&[of(TOPIC, &[committed(0, 5, ""), committed(0, 6, "")])]),
        ),
        named(
            "commit: null topics",
            bytes().string(GROUP).i32(-1).string("").i64(-1).i32(-1),
        ),
        named("commit: a null topic name", simple(&[bytes().i16(-1).i32(0)])),
        case("commit: version 1", 8, 1, simple(&[good()])),
        case("commit: version 99", 8, 99, simple(&[good()])),
    ]
}

fn fetched() -> Vec<Case> {
    let ask = |group: &str, topics: &[Bytes]| bytes().string(group).array(topics);
    let of = |topic: &str, partitions: &[i32]| {
        let numbers: Vec<Bytes> = partitions.iter().map(|number| bytes().i32(*number)).collect();
        bytes().string(topic).array(&numbers)
    };
    let named = |name: &'static str, version: i16, body: Bytes| case(name, 9, version, body);
    // From version 8 on: groups, each with its topics, and whether only what is stable is wanted.
    let group = |name: &str| bytes().compact(name).i8(0).i8(0);
    vec![
        named("offset fetch: good", 1, ask(GROUP, &[of(TOPIC, &[0])])),
        named(
            "offset fetch: a group that is not there",
            1,
            ask("recorded-no-group", &[of(TOPIC, &[0])]),
        ),
        named("offset fetch: no group", 1, ask("", &[of(TOPIC, &[0])])),
        named(
            "offset fetch: an unknown topic",
            1,
            ask(GROUP, &[of("recorded-nowhere", &[0])]),
        ),
        named(
            "offset fetch: partitions 99 and -1",
            1,
            ask(GROUP, &[of(TOPIC, &[99, -1])]),
        ),
        named(
            "offset fetch: a partition twice",
            1,
            ask(GROUP, &[of(TOPIC, &[0, 0])]),
        ),
        named("offset fetch: no topics", 1, ask(GROUP, &[])),
        named(
            "offset fetch: null topics before version 2",
            1,
            bytes().string(GROUP).i32(-1),
        ),
        named("offset fetch: null topics", 2, bytes().string(GROUP).i32(-1)),
        named("offset fetch: a null group", 1, bytes().i16(-1).i32(0)),
        named(
            "offset fetch: two groups",
            8,
            bytes()
                .i8(3)
                .raw(&group(GROUP).0)
                .raw(&group("recorded-no-group").0)
                .i8(0)
                .i8(0),
        ),
        named("offset fetch: no groups", 8, bytes().i8(1).i8(0).i8(0)),
        named("offset fetch: null groups", 8, bytes().i8(0).i8(0).i8(0)),
        named("offset fetch: version 0", 0, ask(GROUP, &[])),
    ]
}

fn tools() -> Vec<Case> {
    let names = |names: &[&str]| {
        let names: Vec<Bytes> = names.iter().map(|name| bytes().string(name)).collect();
        bytes().array(&names)
    };
    let of = |topic: &str, partition: i32| bytes().string(topic).array(&[bytes().i32(partition)]);
    let forget = |group: &str, topics: &[Bytes]| bytes().string(group).array(topics);
    let authorized = |name: &str| bytes().i8(2).compact(name).i8(0).i8(0);
    vec![
        case(
            "list groups: a state that is none",
            16,
            4,
            bytes().i8(2).compact("Nonsense").i8(0),
        ),
        case(
            "list groups: a type that is none",
            16,
            5,
            bytes().i8(1).i8(2).compact("nonsense").i8(0),
        ),
        case("list groups: null states", 16, 4, bytes().i8(0).i8(0)),
        case("list groups: a trailing byte", 16, 2, bytes().i8(0)),
        case(
            "describe groups: one that is not there",
            15,
            0,
            names(&["recorded-no-group"]),
        ),
        case(
            "describe groups: one that is not there, version 6",
            15,
            6,
            authorized("recorded-no-group"),
        ),
        case("describe groups: no name", 15, 0, names(&[""])),
        case("describe groups: one twice", 15, 0, names(&[GROUP, GROUP])),
        case("describe groups: none", 15, 0, names(&[])),
        case("describe groups: null groups", 15, 0, bytes().i32(-1)),
        case(
            "offset delete: a group that is not there",
            47,
            0,
            forget("recorded-no-group", &[of(TOPIC, 0)]),
        ),
        case("offset delete: no group", 47, 0, forget("", &[of(TOPIC, 0)])),
        case(
            "offset delete: a group and a topic that are not there",
            47,
            0,
            forget("recorded-no-group", &[of("recorded-nowhere", 0)]),
        ),
        case(
            "offset delete: a group that is not there, partition 99",
            47,
            0,
            forget("recorded-no-group", &[of(TOPIC, 99)]),
        ),
        case(
            "offset delete: a group that is not there, no partitions",
            47,
            0,
            forget("recorded-no-group", &[bytes().string(TOPIC).array(&[])]),
        ),
        case(
            "offset delete: no group, an unknown topic",
            47,
            0,
            forget("", &[of("recorded-nowhere", 0)]),
        ),
        case("offset delete: no group, no topics", 47, 0, forget("", &[])),
        case(
            "offset delete: an unknown topic",
            47,
            0,
            forget(GROUP, &[of("recorded-nowhere", 0)]),
        ),
        case(
            "offset delete: partition 99",
            47,
            0,
            forget(GROUP, &[of(TOPIC, 99)]),
        ),
        case("offset delete: good", 47, 0, forget(GROUP, &[of(TOPIC, 0)])),
        case("offset delete: no topics", 47, 0, forget(GROUP, &[])),
        case("offset delete: null topics", 47, 0, bytes().string(GROUP).i32(-1)),
        case(
            "delete groups: one that is not there",
            42,
            0,
            names(&["recorded-no-group"]),
        ),
        case("delete groups: no name", 42, 0, names(&[""])),
        case("delete groups: none", 42, 0, names(&[])),
        case("delete groups: null groups", 42, 0, bytes().i32(-1)),
        case("delete groups: a null name", 42, 0, bytes().i32(1).i16(-1)),
        case("delete groups: good or not there", 42, 0, names(&[GROUP])),
    ]
}

/// Of a group that is not there, and then has nothing but offsets. What was before has deleted it.
fn offsets_alone() -> Vec<Case> {
    let good = || bytes().string(TOPIC).array(&[bytes().i32(0).i64(5).string("")]);
    let commit = |generation: i32, member: &str| {
        let head = bytes().string(GROUP).i32(generation).string(member).i64(-1);
        head.array(&[good()])
    };
    let of_instance = |generation: i32, member: &str, instance: &str| {
        let head = bytes()
            .string(GROUP)
            .i32(generation)
            .string(member)
            .string(instance);
        let partition = bytes().i32(0).i64(5).i32(-1).string("");
        head.array(&[bytes().string(TOPIC).array(&[partition])])
    };
    let flexible = |generation: i32, member: &str| {
        let head = bytes().compact(GROUP).i32(generation).compact(member).i8(0);
        let partition = bytes().i32(0).i64(5).i32(-1).compact("").i8(0);
        head.i8(2).compact(TOPIC).i8(2).raw(&partition.0).i8(0).i8(0)
    };
    let join = |member: &str, protocol_type: &str, protocols: &[Bytes]| {
        let head = bytes().string(GROUP).i32(10_000).i32(60_000).string(member);
        head.string(protocol_type).array(protocols)
    };
    let range = || bytes().string("range").byte_string(b"metadata");
    let names = || bytes().array(&[bytes().string(GROUP)]);
    vec![
        case("gone: commit, version 2", 8, 2, commit(0, "nobody")),
        case("gone: commit, version 8", 8, 8, flexible(0, "nobody")),
        case("gone: commit, version 9", 8, 9, flexible(0, "nobody")),
        case(
            "gone: commit of an instance",
            8,
            7,
            of_instance(0, "nobody", "instance"),
        ),
        case("gone: commit without a member id", 8, 9, flexible(3, "")),
        case("offsets alone: they come", 8, 2, commit(-1, "")),
        case("offsets alone: commit, version 2", 8, 2, commit(0, "nobody")),
        case("offsets alone: commit, version 9", 8, 9, flexible(0, "nobody")),
        case("offsets alone: commit without a member id", 8, 9, flexible(3, "")),
        case(
            "offsets alone: commit of an instance",
            8,
            7,
            of_instance(0, "nobody", "instance"),
        ),
        case(
            "offsets alone: commit of an instance, generation -1",
            8,
            7,
            of_instance(-1, "", "instance"),
        ),
        case(
            "offsets alone: commit of a member, generation -1",
            8,
            9,
            flexible(-1, "nobody"),
        ),
        case(
            "offsets alone: heartbeat",
            12,
            1,
            bytes().string(GROUP).i32(0).string("nobody"),
        ),
        case(
            "offsets alone: sync",
            14,
            1,
            bytes().string(GROUP).i32(0).string("nobody").i32(0),
        ),
        case(
            "offsets alone: leave",
            13,
            3,
            bytes().string(GROUP).array(&[bytes().string("nobody").i16(-1)]),
        ),
        case(
            "offsets alone: join",
            11,
            4,
            join("nobody", "consumer", &[range()]),
        ),
        case(
            "offsets alone: join without protocols",
            11,
            4,
            join("nobody", "consumer", &[]),
        ),
        case(
            "offsets alone: join without a type",
            11,
            4,
            join("nobody", "", &[range()]),
        ),
        case(
            "offsets alone: describe",
            15,
            6,
            bytes().i8(2).compact(GROUP).i8(0).i8(0),
        ),
        case("offsets alone: delete", 42, 0, names()),
        case("offsets alone: deleted", 42, 0, names()),
    ]
}

/// The error codes of an answer.
pub(super) fn codes(key: ApiKey, frame: &[u8], version: i16) -> Vec<ErrorCode> {
    match key {
        ApiKey::JoinGroup => vec![read::<JoinGroupResponse>(frame, version).error_code],
        ApiKey::SyncGroup => vec![read::<SyncGroupResponse>(frame, version).error_code],
        ApiKey::Heartbeat => vec![read::<HeartbeatResponse>(frame, version).error_code],
        ApiKey::ListGroups => vec![read::<ListGroupsResponse>(frame, version).error_code],
        ApiKey::LeaveGroup => {
            let answer: LeaveGroupResponse = read(frame, version);
            let members = answer.members.iter().map(|member| member.error_code);
            [answer.error_code].into_iter().chain(members).collect()
        }
        ApiKey::OffsetCommit => {
            let answer: OffsetCommitResponse = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.map(|part| part.error_code).collect()
        }
        ApiKey::OffsetFetch => {
            let answer: OffsetFetchResponse = read(frame, version);
            let groups = answer.groups.iter().map(|group| group.error_code);
            let topics = answer
                .topics
                .iter()
                .chain(answer.groups.iter().flat_map(|group| &group.topics));
            let parts = topics
                .flat_map(|topic| &topic.partitions)
                .map(|part| part.error_code);
            [answer.error_code]
                .into_iter()
                .chain(groups)
                .chain(parts)
                .collect()
        }
        ApiKey::DescribeGroups => {
            let answer: DescribeGroupsResponse = read(frame, version);
            answer.groups.iter().map(|group| group.error_code).collect()
        }
        ApiKey::DeleteGroups => {
            let answer: DeleteGroupsResponse = read(frame, version);
            answer.results.iter().map(|group| group.error_code).collect()
        }
        ApiKey::OffsetDelete => {
            let answer: OffsetDeleteResponse = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let parts = parts.map(|part| part.error_code);
            [answer.error_code].into_iter().chain(parts).collect()
        }
        _ => panic!("{key:?} is not an API of groups"),
    }
}
