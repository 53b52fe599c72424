//! Malformed requests, byte by byte: each gets what Apache Kafka 4 answered to the same bytes, as `recorded.txt` holds
//! it. `broker/tests/tools/record_malformed.sh` starts a Kafka and writes that file. Where ours differs on purpose, the
//! case says what ours does, and why.

use std::time::Duration;

use wire::messages::api_versions::ApiVersionsRequest;
use wire::messages::create_topics::CreateTopicsResponse;
use wire::messages::fetch::FetchResponse;
use wire::messages::find_coordinator::FindCoordinatorResponse;
use wire::messages::init_producer_id::InitProducerIdResponse;
use wire::messages::list_offsets::ListOffsetsResponse;
use wire::messages::metadata::MetadataResponse;
use wire::messages::produce::ProduceResponse;
use wire::schema::Decode;
use wire::{ApiKey, Compression, ErrorCode, Request, Response, decode_response_header};

use crate::support::{Broker, Client, batch};

const RECORDED: &str = include_str!("recorded.txt");
/// The environment's word for: write the answers here instead of comparing them.
const RECORD_TO: &str = "MILLSTREAM_RECORD_TO";
const TOPIC: &str = "recorded-ground";
/// Correlation id of the well-formed request that follows each case on its connection.
const PROBE: i32 = 7_777;

/// A broker that says nothing for so long will say nothing. Only while recording.
const SILENCE: Duration = Duration::from_secs(3);

struct Case {
    name: &'static str,
    key: i16,
    version: i16,
    bytes: Vec<u8>,
    /// What ours does instead, and why.
    differs: Option<(&'static str, &'static str)>,
}

/// Big-endian fields, one after the other.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn i8(mut self, value: i8) -> Bytes {
        self.0.push(value as u8);
        self
    }

    fn i16(mut self, value: i16) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend(bytes);
        self
    }

    fn string(self, text: &str) -> Bytes {
        self.i16(i16::try_from(text.len()).unwrap()).raw(text.as_bytes())
    }
}

fn bytes() -> Bytes {
    Bytes::default()
}

fn case(name: &'static str, key: i16, version: i16, body: Bytes) -> Case {
    let flexible = ApiKey::from_code(key).is_some_and(|key| {
        let info = key.info();
        version >= info.first_flexible_version && key != ApiKey::ApiVersions
    });
    let mut frame = bytes().i16(key).i16(version).i32(1).i16(-1);
    if flexible {
        frame = frame.i8(0);
    }
    let frame = [frame.0, body.0].concat();
    Case {
        name,
        key,
        version,
        bytes: bytes().i32(i32::try_from(frame.len()).unwrap()).raw(&frame).0,
        differs: None,
    }
}

fn cases() -> Vec<Case> {
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
        case("join group: an empty body", 11, 0, bytes()),
    ]
    .into_iter()
    .map(with_difference)
    .collect()
}

/// What ours does on purpose where Kafka does otherwise.
fn with_difference(mut case: Case) -> Case {
    const SILENT: &str = "Kafka fails inside and never answers: the client would wait for its time-out";
    const STRICT: &str = "no client sends it, and what follows it could not be trusted";
    const ISOLATION: &str = "Kafka fails inside; until transactions exist all levels read the same";
    case.differs = match case.name {
        "produce: null records" => Some(("[INVALID_RECORD], open", SILENT)),
        "produce: records of -2 bytes" => Some(("closed", SILENT)),
        "produce: an unknown partition twice" => Some((
            "[UNKNOWN_TOPIC_OR_PARTITION UNKNOWN_TOPIC_OR_PARTITION], open",
            "each part of a request has its part of the answer; Kafka answers equal parts once",
        )),
        "produce: a trailing byte" | "fetch: a trailing byte" | "create: a trailing byte" => {
            Some(("closed", STRICT))
        }
        "metadata: -2 topics" | "metadata: a name that is not UTF-8" => Some(("closed", STRICT)),
        "fetch: isolation level 2" | "fetch: isolation level -1" => Some(("[NONE NONE], open", ISOLATION)),
        "producer id: a transactional id and a time-out of -1" => Some((
            "[INVALID_REQUEST], open",
            "a transactional id is refused, whatever its time-out, until transactions exist",
        )),
        _ => None,
    };
    case
}

/// What the broker does with the case: what it answers, and whether the connection lives on.
fn observe(client: &mut Client, case: &Case) -> String {
    client.send_bytes(&case.bytes);
    client.send_bytes(&ApiVersionsRequest::default().encode(0, PROBE, None));
    let mut seen = Vec::new();
    loop {
        // Kafka fails at some bytes without a word, and its connection stays as it is; ours always says something.
        if Broker::foreign().is_some() && client.is_silent(SILENCE) {
            seen.push("silent".to_owned());
            return seen.join(", ");
        }
        let Ok(frame) = client.receive_frame() else {
            seen.push("closed".to_owned());
            return seen.join(", ");
        };
        if frame.starts_with(&PROBE.to_be_bytes()) {
            seen.push("open".to_owned());
            return seen.join(", ");
        }
        seen.push(codes(case, &frame));
    }
}

fn read<R: Response + for<'a> Decode<'a>>(frame: &[u8], version: i16) -> R {
    let (_, body) = decode_response_header(frame, R::API_KEY, version).expect("a response header");
    R::decode(body, version).expect("a response of its version")
}

/// The error codes of an answer.
fn codes(case: &Case, frame: &[u8]) -> String {
    let version = case.version;
    let codes: Vec<ErrorCode> = match ApiKey::from_code(case.key) {
        Some(ApiKey::Produce) => {
            let answer: ProduceResponse = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.map(|part| part.error_code).collect()
        }
        Some(ApiKey::Fetch) => {
            let answer: FetchResponse<Vec<u8>> = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let parts = parts.map(|part| part.error_code);
            [answer.error_code].into_iter().chain(parts).collect()
        }
        Some(ApiKey::ListOffsets) => {
            let answer: ListOffsetsResponse = read(frame, version);
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.map(|part| part.error_code).collect()
        }
        Some(ApiKey::Metadata) => {
            let answer: MetadataResponse = read(frame, version);
            answer.topics.iter().map(|topic| topic.error_code).collect()
        }
        Some(ApiKey::FindCoordinator) => vec![read::<FindCoordinatorResponse>(frame, version).error_code],
        Some(ApiKey::CreateTopics) => {
            let answer: CreateTopicsResponse = read(frame, version);
            answer.topics.iter().map(|topic| topic.error_code).collect()
        }
        Some(ApiKey::InitProducerId) => vec![read::<InitProducerIdResponse>(frame, version).error_code],
        Some(ApiKey::ApiVersions) => {
            let code = i16::from_be_bytes([frame[4], frame[5]]);
            vec![ErrorCode::from_code(code).expect("a code")]
        }
        _ => return "answered".to_owned(),
    };
    let codes: Vec<String> = codes.iter().map(ErrorCode::to_string).collect();
    format!("[{}]", codes.join(" "))
}

#[test]
fn malformed_requests_get_what_kafka_answered() {
    let broker = Broker::start();
    let mut control = broker.client();
    while control.metadata(Some(&[TOPIC])).topics[0].partitions.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let record_to = std::env::var(RECORD_TO).ok();
    let mut lines = Vec::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let seen = observe(&mut broker.leader(TOPIC, 0), &case);
        lines.push(format!("{} => {seen}\n", case.name));
        let recorded = RECORDED.lines().find_map(|line| {
            let (name, answer) = line.split_once(" => ")?;
            (name == case.name).then_some(answer)
        });
        let is_kafka = Broker::foreign().is_some();
        let expected = match (case.differs, recorded) {
            (Some((answer, why)), Some(kafka)) if !is_kafka => {
                assert_ne!(
                    answer, kafka,
                    "{}: does not differ, and was said to: {why}",
                    case.name
                );
                Some(answer)
            }
            (_, recorded) => recorded,
        };
        if expected != Some(seen.as_str()) {
            wrong.push(format!("{}: {seen}; expected {expected:?}", case.name));
        }
    }
    if let Some(path) = record_to {
        std::fs::write(path, lines.concat()).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
