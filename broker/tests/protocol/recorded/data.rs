//! Of the APIs that move records, and of what a client asks before it does.

use wire::Compression;

use super::TOPIC;
use super::case::{Bytes, Case, bytes, case};
use crate::support::batch;

pub(super) fn cases() -> Vec<Case> {
    let good = batch(Compression::None, &[b"one"]);
    let produce = |acks: i16, topics: Bytes| bytes().i16(-1).i16(acks).i32(30_000).raw(&topics.0);
    let topic = |partitions: Bytes| bytes().i32(1).string(TOPIC).raw(&partitions.0);
    let records = |length: i32| bytes().i32(1).i32(0).i32(length).raw(&good);
    let whole = i32::try_from(good.len()).unwrap();
    let good_produce = produce(-1, topic(records(whole)));
    let two = |partition: i32| {
        let one = bytes().i32(partition).i32(whole).raw(&good);
        bytes().i32(2).raw(&one.0).raw(&one.0)
    };
    let offsets = |timestamp: i64| {
        let partition = bytes().i32(1).i32(0).i64(timestamp);
        bytes().i32(-1).i32(1).string(TOPIC).raw(&partition.0)
    };
    let fetch = |session: i32, epoch: i32, isolation: i8, max: i32, partition: i32| {
        let head = bytes()
            .i32(-1)
            .i32(0)
            .i32(0)
            .i32(max)
            .i8(isolation)
            .i32(session)
            .i32(epoch);
        let asked = bytes()
            .i32(1)
            .i32(partition)
            .i32(-1)
            .i64(0)
            .i64(-1)
            .i32(1_000_000);
        head.i32(1).string(TOPIC).raw(&asked.0).i32(0).i16(0)
    };
    let create = |name: &str, tail: Bytes| bytes().i32(1).string(name).i32(1).i16(1).raw(&tail.0);
    vec![
        case("produce: good", 0, 7, good_produce.clone()),
        case("produce: acks 7", 0, 7, produce(7, topic(records(whole)))),
        case("produce: acks -3", 0, 7, produce(-3, topic(records(whole)))),
        case("produce: no topics", 0, 7, produce(-1, bytes().i32(0))),
        case("produce: null topics", 0, 7, produce(-1, bytes().i32(-1))),
        case("produce: -2 topics", 0, 7, produce(-1, bytes().i32(-2))),
        case("produce: 2^31-1 topics", 0, 7, produce(-1, bytes().i32(i32::MAX))),
        case("produce: no partitions", 0, 7, produce(-1, topic(bytes().i32(0)))),
        case(
            "produce: null partitions",
            0,
            7,
            produce(-1, topic(bytes().i32(-1))),
        ),
        case(
            "produce: null records",
            0,
            7,
            produce(-1, topic(bytes().i32(1).i32(0).i32(-1))),
        ),
        case(
            "produce: records of -2 bytes",
            0,
            7,
            produce(-1, topic(records(-2))),
        ),
        case(
            "produce: records of 2^31-1 bytes",
            0,
            7,
            produce(-1, topic(records(i32::MAX))),
        ),
        case(
            "produce: records of a byte too many",
            0,
            7,
            produce(-1, topic(records(whole + 1))),
        ),
        case(
            "produce: partition -1",
            0,
            7,
            produce(-1, topic(bytes().i32(1).i32(-1).i32(whole).raw(&good))),
        ),
        case(
            "produce: partition 2^31-1",
            0,
            7,
            produce(-1, topic(bytes().i32(1).i32(i32::MAX).i32(whole).raw(&good))),
        ),
        case(
            "produce: an unknown partition twice",
            0,
            7,
            produce(-1, topic(two(99))),
        ),
        case(
            "produce: a null topic name",
            0,
            7,
            produce(-1, bytes().i32(1).i16(-1).i32(0)),
        ),
        case(
            "produce: a topic name of -2 bytes",
            0,
            7,
            produce(-1, bytes().i32(1).i16(-2).i32(0)),
        ),
        case(
            "produce: a topic name longer than the frame",
            0,
            7,
            produce(-1, bytes().i32(1).i16(32_767)),
        ),
        case(
            "produce: an empty topic name",
            0,
            7,
            produce(-1, bytes().i32(1).string("").raw(&records(whole).0)),
        ),
        case("produce: a trailing byte", 0, 7, good_produce.clone().i8(0)),
        case("produce: version 2", 0, 2, bytes().i16(-1).i32(100).i32(0)),
        case("produce: version 99", 0, 99, good_produce.clone()),
        case("produce: version -1", 0, -1, good_produce),
        case("fetch: a full fetch", 1, 11, fetch(0, -1, 0, 1_000, 0)),
        case("fetch: an unknown session", 1, 11, fetch(99, 1, 0, 1_000, 0)),
        case(
            "fetch: session 99 to be closed",
            1,
            11,
            fetch(99, -1, 0, 1_000, 0),
        ),
        case("fetch: session -5", 1, 11, fetch(-5, 5, 0, 1_000, 0)),
        case(
            "fetch: epoch 5 without a session",
            1,
            11,
            fetch(0, 5, 0, 1_000, 0),
        ),
        case("fetch: epoch -7", 1, 11, fetch(0, -7, 0, 1_000, 0)),
        case("fetch: isolation level 2", 1, 11, fetch(0, -1, 2, 1_000, 0)),
        case("fetch: isolation level -1", 1, 11, fetch(0, -1, -1, 1_000, 0)),
        case("fetch: partition -1", 1, 11, fetch(0, -1, 0, 1_000, -1)),
        case("fetch: at most 0 bytes", 1, 11, fetch(0, -1, 0, 0, 0)),
        case("fetch: a trailing byte", 1, 11, fetch(0, -1, 0, 1_000, 0).i8(0)),
        case(
            "fetch: version 3",
            1,
            3,
            bytes().i32(-1).i32(0).i32(0).i32(0).i32(0),
        ),
        case(
            "fetch: null topics",
            1,
            4,
            bytes().i32(-1).i32(0).i32(0).i32(9).i8(0).i32(-1),
        ),
        case(
            "fetch: 2^31-1 topics",
            1,
            4,
            bytes().i32(-1).i32(0).i32(0).i32(9).i8(0).i32(i32::MAX),
        ),
        case("list offsets: latest", 2, 1, offsets(-1)),
        case("list offsets: timestamp -3 before version 7", 2, 1, offsets(-3)),
        case("list offsets: timestamp -6", 2, 1, offsets(-6)),
        case("list offsets: timestamp -2^63", 2, 1, offsets(i64::MIN)),
        case("list offsets: timestamp 2^63-1", 2, 1, offsets(i64::MAX)),
        case("list offsets: version 0", 2, 0, bytes().i32(-1).i32(0)),
        case("list offsets: null topics", 2, 1, bytes().i32(-1).i32(-1)),
        case("metadata: -2 topics", 3, 1, bytes().i32(-2)),
        case("metadata: 2^31-1 topics", 3, 1, bytes().i32(i32::MAX)),
        case("metadata: a null name", 3, 1, bytes().i32(1).i16(-1)),
        case("metadata: an empty name", 3, 1, bytes().i32(1).string("")),
        case(
            "metadata: a name that is not UTF-8",
            3,
            1,
            bytes().i32(1).i16(2).raw(&[0xff, 0xfe]),
        ),
        case("metadata: a name with a NUL", 3, 1, bytes().i32(1).string("a\0b")),
        case(
            "metadata: a compact array of 2^32-2",
            3,
            9,
            bytes().raw(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        case(
            "metadata: an overlong varint",
            3,
            9,
            bytes().raw(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        case("metadata: a boolean of 7", 3, 4, bytes().i32(0).i8(7)),
        case(
            "metadata: an unknown tag",
            3,
            9,
            bytes().raw(&[1, 1, 0, 0, 1, 99, 1, 5]),
        ),
        case(
            "metadata: tags beyond the frame",
            3,
            9,
            bytes().raw(&[1, 1, 0, 0, 1, 99, 100, 5]),
        ),
        case(
            "metadata: a tag twice",
            3,
            9,
            bytes().raw(&[1, 1, 0, 0, 2, 9, 0, 9, 0]),
        ),
        case("metadata: version 99", 3, 99, bytes().i32(0)),
        case("find coordinator: key type 9", 10, 1, bytes().string("g").i8(9)),
        case("find coordinator: key type -1", 10, 1, bytes().string("g").i8(-1)),
        case("find coordinator: a null key", 10, 1, bytes().i16(-1).i8(0)),
        case(
            "create: a null name",
            19,
            2,
            bytes()
                .i32(1)
                .i16(-1)
                .i32(1)
                .i16(1)
                .i32(0)
                .i32(0)
                .i32(9_000)
                .i8(1),
        ),
        case(
            "create: null assignments",
            19,
            2,
            create("recorded-a", bytes().i32(-1).i32(0).i32(9_000).i8(1)),
        ),
        case(
            "create: null configs",
            19,
            2,
            create("recorded-b", bytes().i32(0).i32(-1).i32(9_000).i8(1)),
        ),
        case("create: no topics", 19, 2, bytes().i32(0).i32(9_000).i8(1)),
        case(
            "create: a trailing byte",
            19,
            2,
            bytes().i32(0).i32(9_000).i8(1).i8(0),
        ),
        case("create: version 1", 19, 1, bytes().i32(0).i32(9_000).i8(1)),
        case(
            "producer id: an empty transactional id",
            22,
            0,
            bytes().string("").i32(1_000),
        ),
        case("producer id: a time-out of -1", 22, 0, bytes().i16(-1).i32(-1)),
        case(
            "producer id: a transactional id and a time-out of -1",
            22,
            0,
            bytes().string("t").i32(-1),
        ),
        case(
            "API versions: a client name with a space",
            18,
            3,
            bytes().i8(0).raw(&[4, b'a', b' ', b'b', 2, b'1', 0]),
        ),
        case(
            "API versions: an empty client name",
            18,
            3,
            bytes().i8(0).raw(&[1, 2, b'1', 0]),
        ),
        case("API versions: version 99", 18, 99, bytes().raw(&[0; 4])),
        case("stop replica", 5, 0, bytes().raw(&[0; 9])),
        case("API key 999", 999, 0, bytes()),
        case("API key -1", -1, 0, bytes()),
    ]
}
