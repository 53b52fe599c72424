//! Malformed requests, byte by byte: each gets what Apache Kafka 4 answered to the same bytes, as `recorded.txt` holds
//! it. `broker/tests/tools/record_kafka.sh` starts a Kafka and writes that file. Where ours differs on purpose, the
//! case says what ours does, and why.

mod admin;
mod case;
mod data;
mod groups;

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
use wire::{ApiKey, ErrorCode, Request, Response, decode_response_header};

use self::case::Case;
use crate::support::{Broker, Client};

const RECORDED: &str = include_str!("recorded.txt");
/// The environment's word for: write the answers here instead of comparing them.
const RECORD_TO: &str = "MILLSTREAM_RECORD_TO";
const TOPIC: &str = "recorded-ground";
/// Correlation id of the well-formed request that follows each case on its connection.
const PROBE: i32 = 7_777;

/// A broker that says nothing for so long will say nothing. Only while recording.
const SILENCE: Duration = Duration::from_secs(3);

/// What ours does on purpose where Kafka does otherwise.
fn difference(case: &Case) -> Option<(&'static str, &'static str)> {
    const SILENT: &str = "Kafka fails inside and never answers: the client would wait for its time-out";
    const INSIDE: &str = "Kafka fails inside, and can only say that the server has a fault";
    const STRICT: &str = "no client sends it, and what follows it could not be trusted";
    const ISOLATION: &str = "Kafka fails inside; until transactions exist all levels read the same";
    match case.name {
        "produce: null records" => Some(("[INVALID_RECORD], open", SILENT)),
        "produce: records of -2 bytes" => Some(("closed", SILENT)),
        "produce: an unknown partition twice" => Some((
            "[UNKNOWN_TOPIC_OR_PARTITION UNKNOWN_TOPIC_OR_PARTITION], open",
            "each part of a request has its part of the answer; Kafka answers equal parts once",
        )),
        "alter configs: a topic twice" => Some(("[INVALID_REQUEST INVALID_REQUEST], open", SILENT)),
        "change configs: operation 9" | "change configs: operation -1" => {
            Some(("[INVALID_REQUEST], open", INSIDE))
        }
        "describe partitions: no topic name" => Some(("[INVALID_TOPIC_EXCEPTION], open", INSIDE)),
        "metadata: -2 topics" | "metadata: a name that is not UTF-8" => Some(("closed", STRICT)),
        "fetch: isolation level 2" | "fetch: isolation level -1" => Some(("[NONE NONE], open", ISOLATION)),
        "producer id: a transactional id and a time-out of -1" => Some((
            "[INVALID_REQUEST], open",
            "a transactional id is refused, whatever its time-out, until transactions exist",
        )),
        _ => None,
    }
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
        Some(key) if groups::APIS.contains(&key) => groups::codes(key, frame, version),
        Some(key) => admin::codes(key, frame, version),
        None => return "answered".to_owned(),
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
    let all = [data::cases(), groups::cases(), admin::cases()];
    for case in all.into_iter().flatten() {
        let mut client = match ApiKey::from_code(case.key) {
            Some(key) if groups::APIS.contains(&key) => broker.coordinator(groups::GROUP),
            _ => broker.leader(TOPIC, 0),
        };
        let seen = observe(&mut client, &case);
        lines.push(format!("{} => {seen}\n", case.name));
        let recorded = RECORDED.lines().find_map(|line| {
            let (name, answer) = line.split_once(" => ")?;
            (name == case.name).then_some(answer)
        });
        let is_kafka = Broker::foreign().is_some();
        let expected = match (difference(&case), recorded) {
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
