//! Crafted bytes: each gets the code that Apache Kafka 4 gives to the same bytes, or a closed connection; nothing is
//! stored; and others are served meanwhile.

use wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ReplicaState};
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::{API_TABLE, Array, Compression, ErrorCode, Request};

use crate::support::{Broker, Client, batch, builder, now_ms, patched, sequenced};

/// A batch that is wrong in one way, and what it gets.
struct Crafted {
    what: &'static str,
    version: i16,
    acks: i16,
    records: Option<Vec<u8>>,
    code: ErrorCode,
}

fn crafted() -> Vec<Crafted> {
    use ErrorCode::*;
    let good = || batch(Compression::None, &[b"one", b"two", b"three"]);
    let row = |what, records, code| Crafted {
        what,
        version: 9,
        acks: -1,
        records: Some(records),
        code,
    };
    let i32_at = |at: usize, value: i32| patched(good(), at, &value.to_be_bytes());
    let i16_at = |at: usize, value: i16| patched(good(), at, &value.to_be_bytes());
    let i64_at = |at: usize, value: i64| patched(good(), at, &value.to_be_bytes());
    let mut rows = vec![
        row("a good batch", good(), None),
        row("no bytes", vec![], InvalidRecord),
        row(
            "a batch cut in its base offset",
            good()[..7].to_vec(),
            InvalidRecord,
        ),
        row(
            "a batch cut before its magic",
            good()[..16].to_vec(),
            InvalidRecord,
        ),
        row("a batch cut in its header", good()[..50].to_vec(), InvalidRecord),
        row("a batch cut in its records", good()[..70].to_vec(), InvalidRecord),
        row("two batches", [good(), good()].concat(), InvalidRecord),
        row(
            "a batch and a cut one",
            [&good()[..], &good()[..40]].concat(),
            None,
        ),
        row(
            "a batch and a few bytes",
            [&good()[..], &[1, 2, 3]].concat(),
            None,
        ),
        row(
            "a batch and zeroes",
            [&good()[..], &[0; 32]].concat(),
            CorruptMessage,
        ),
        row("magic 0", patched(good(), 16, &[0]), InvalidRecord),
        row("magic 1", patched(good(), 16, &[1]), InvalidRecord),
        row("magic 3", patched(good(), 16, &[3]), CorruptMessage),
        row("magic -1", patched(good(), 16, &[255]), CorruptMessage),
        row("length 0", i32_at(8, 0), CorruptMessage),
        row("length -1", i32_at(8, -1), CorruptMessage),
        row("length 13", i32_at(8, 13), CorruptMessage),
        row("length 48", i32_at(8, 48), CorruptMessage),
        row("length 2^31-13", i32_at(8, i32::MAX - 12), InvalidRecord),
        row("length 2^31-1", i32_at(8, i32::MAX), UnknownServerError),
        row(
            "a wrong CRC",
            {
                let mut bytes = good();
                bytes[17] ^= 1;
                bytes
            },
            CorruptMessage,
        ),
        row(
            "a flipped bit",
            {
                let mut bytes = good();
                bytes[65] ^= 1;
                bytes
            },
            CorruptMessage,
        ),
        row(
            "base offset 1",
            {
                let mut bytes = good();
                bytes[7] = 1;
                bytes
            },
            InvalidRecord,
        ),
        row("count 0", i32_at(57, 0), InvalidRecord),
        row("count -1", i32_at(57, -1), InvalidRecord),
        row("count 2 of 3", i32_at(57, 2), InvalidRecord),
        row("last offset delta -1", i32_at(23, -1), InvalidRecord),
        row("last offset delta 3 of 3", i32_at(23, 3), InvalidRecord),
        row("last offset delta 2^31-1", i32_at(23, i32::MAX), InvalidRecord),
        row("codec 5", i16_at(21, 5), UnknownServerError),
        row("codec 7", i16_at(21, 7), UnknownServerError),
        row("a control batch", i16_at(21, 0x20), InvalidRecord),
        row(
            "a transactional batch",
            builder(Compression::None, &[b"a"])
                .producer(7, 0, 0)
                .transactional()
                .build(),
            TransactionalIdAuthorizationFailed,
        ),
        row("a producer id without a sequence", i64_at(43, 7), InvalidRecord),
        row(
            "a time two hours ahead",
            {
                let at = (now_ms() + 7_200_000).to_be_bytes();
                patched(patched(good(), 27, &at), 35, &at)
            },
            InvalidTimestamp,
        ),
        row(
            "larger than max.message.bytes",
            batch(Compression::None, &[&[7; 3_000]]),
            MessageTooLarge,
        ),
        row(
            "an idempotent batch out of order at once",
            sequenced(1_000_000, 0, 5, &[b"a"]),
            None,
        ),
    ];
    rows.push(Crafted {
        version: 6,
        ..row(
            "zstd before version 7",
            batch(Compression::Zstd, &[b"a"]),
            UnsupportedCompressionType,
        )
    });
    rows.push(Crafted {
        version: 7,
        ..row("zstd in version 7", batch(Compression::Zstd, &[b"a"]), None)
    });
    rows.push(Crafted {
        acks: 2,
        ..row("acks 2", good(), InvalidRequiredAcks)
    });
    rows.push(Crafted {
        acks: -2,
        ..row("acks -2", good(), InvalidRequiredAcks)
    });
    rows.push(Crafted {
        acks: 2,
        ..row("acks 2 and magic 1", patched(good(), 16, &[1]), InvalidRecord)
    });
    rows.push(Crafted {
        acks: 2,
        ..row("acks 2 and a wrong CRC", i32_at(57, 2), InvalidRequiredAcks)
    });
    for version in [3, 5, 8, 11] {
        rows.push(Crafted {
            version,
            ..row("a good batch in another version", good(), None)
        });
    }
    rows
}

#[test]
fn every_crafted_batch_gets_kafkas_code_and_only_good_ones_are_stored() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[("max.message.bytes", "2000")]);
    let mut client = broker.leader(&topic, 0);
    let mut wrong = Vec::new();
    let mut next_offset = 0;
    for row in crafted() {
        let answer = client.produce(row.version, &topic, 0, row.acks, row.records.as_deref());
        let Ok(answer) = answer else {
            wrong.push(format!("{}: closed, expected {}", row.what, row.code));
            client = broker.leader(&topic, 0);
            continue;
        };
        if answer.error_code != row.code {
            wrong.push(format!(
                "{}: {}, expected {}",
                row.what, answer.error_code, row.code
            ));
        }
        if answer.error_code == ErrorCode::None {
            assert_eq!(answer.base_offset, next_offset, "{}", row.what);
            let count = row
                .records
                .map(|bytes| i32::from_be_bytes(bytes[57..61].try_into().unwrap()));
            next_offset += i64::from(count.unwrap());
        } else {
            assert_eq!(answer.base_offset, -1, "{}", row.what);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(latest(&mut client, &topic), next_offset);
}

fn latest(client: &mut Client, topic: &str) -> i64 {
    client.list_offsets(5, topic, -1).offset
}

#[test]
fn batches_that_inflate_to_much_cost_a_request_no_more_than_its_share() {
    if Broker::foreign().is_some() {
        return;
    }
    let broker = Broker::start();
    let compacted = broker.client().create_topic(1, &[("cleanup.policy", "compact")]);
    let bomb = builder(Compression::Gzip, &[&vec![0; 63 << 20]]).build();
    let mut leader = broker.leader(&compacted, 0);
    let mut other = broker.leader(&compacted, 0);
    let partitions = [ProducePartition {
        partition: 0,
        records: Some(&bomb),
    }; 40];
    let topics = [ProduceTopic {
        name: &compacted,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topics: Array::from_slice(&topics),
        ..ProduceRequest::default()
    };
    let id = leader.send(9, &request);
    let _: ApiVersionsResponse = other.call(3, &ApiVersionsRequest::default()).unwrap();
    let response: ProduceResponse = leader.receive(9, id).unwrap();
    let codes = response.topics[0].partitions.iter().map(|part| part.error_code);
    let codes: Vec<ErrorCode> = codes.collect();
    assert_eq!(codes[..2], [ErrorCode::InvalidRecord; 2], "they have no keys");
    assert_eq!(
        codes[2..],
        [ErrorCode::RequestTimedOut; 38],
        "it has had its share"
    );
    // The next request has its own.
    let part = leader.produce(9, &compacted, 0, -1, Some(&bomb)).unwrap();
    assert_eq!(part.error_code, ErrorCode::InvalidRecord);

    let plain = broker.client().create_topic(1, &[]);
    let mut leader = broker.leader(&plain, 0);
    let now = now_ms();
    let lie = patched(bomb, 35, &(now + 2_000_000).to_be_bytes());
    for _ in 0..6 {
        let part = leader.produce(9, &plain, 0, -1, Some(&lie)).unwrap();
        assert_eq!(part.error_code, ErrorCode::None);
    }
    let part = leader.list_offsets(7, &plain, now + 1_000_000);
    assert_eq!(
        (part.offset, part.timestamp),
        (2, now + 2_000_000),
        "the third is believed"
    );
}

#[test]
fn frames_that_are_not_kafkas_close_their_connection_and_no_other() {
    let broker = Broker::start();
    let mut bystander = broker.client();
    let mut frames: Vec<(&str, Vec<u8>)> = vec![
        ("length -1", (-1i32).to_be_bytes().to_vec()),
        ("length -2^31", i32::MIN.to_be_bytes().to_vec()),
        ("length 2^31-1", i32::MAX.to_be_bytes().to_vec()),
        ("an empty frame", vec![0; 4]),
        ("half a header", [&[0, 0, 0, 5][..], &[0, 18, 0, 0, 0]].concat()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
    ];
    let header = |key: i16, version: i16, body: &[u8]| {
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(1i32.to_be_bytes());
        frame.extend((-1i16).to_be_bytes());
        frame.extend(body);
        let mut whole = i32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        whole.extend(frame);
        whole
    };
    frames.push(("API key -1", header(-1, 0, &[])));
    frames.push(("API key 999", header(999, 0, &[])));
    frames.push(("Produce 2", header(0, 2, &[0; 10])));
    frames.push(("Metadata 99", header(3, 99, &[0; 10])));
    frames.push(("an array of 2^31-1", header(3, 1, &i32::MAX.to_be_bytes())));
    frames.push((
        "a compact array of 2^32-2",
        header(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ));
    frames.push((
        "an overlong varint",
        header(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ));
    if Broker::foreign().is_none() {
        // Kafka replaces what is not UTF-8, and answers for the name that comes of it.
        frames.push((
            "a name that is not UTF-8",
            header(3, 1, &[0, 0, 0, 1, 0, 2, 0xff, 0xfe]),
        ));
        // One topic, "t", and more partitions than a request may name here.
        let mut logs = vec![0, 0, 0, 1, 0, 1, b't'];
        logs.extend(100_001i32.to_be_bytes());
        logs.resize(logs.len() + 4 * 100_001, 0);
        frames.push(("logs without end", header(35, 1, &logs)));
    }
    for (what, bytes) in frames {
        let mut client = broker.client();
        client.send_bytes(&bytes);
        assert!(client.is_closed(), "{what}");
        let metadata = bystander.metadata(Some(&[]));
        assert!(!metadata.brokers.is_empty(), "others are served after {what}");
    }
}

#[test]
fn every_truncation_of_a_request_closes_its_connection() {
    let broker = Broker::start();
    let partitions = [FetchPartition {
        partition_max_bytes: 1,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        name: "absent",
        partitions: Array::from_slice(&partitions),
        ..FetchTopic::default()
    }];
    let request = FetchRequest {
        topics: Array::from_slice(&topics),
        ..FetchRequest::default()
    };
    for version in [4, 12] {
        let whole = &request.encode(version, 1, Some("cut"))[4..];
        for length in 0..whole.len() {
            let mut client = broker.client();
            client.send_frame(&whole[..length]);
            assert!(client.is_closed(), "Fetch {version} cut to {length} bytes");
        }
    }
}

#[test]
fn an_unknown_version_of_api_versions_gets_version_0_and_its_own_range() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut frame = ApiVersionsRequest::default().encode(4, 5, Some("new"))[4..].to_vec();
    frame[2..4].copy_from_slice(&99i16.to_be_bytes());
    client.send_frame(&frame);
    let response: ApiVersionsResponse = client.receive(0, 5).unwrap();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
    assert!(response.api_keys.iter().any(|api| api.api_key == 18));
    // The connection stays, and the client asks again.
    let response: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default()).unwrap();
    assert_eq!(response.error_code, ErrorCode::None);
    if Broker::foreign().is_none() {
        let claimed: Vec<_> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let table = API_TABLE.iter().map(|api| {
            let min = if api.key.code() == 0 { 0 } else { api.min_version };
            (api.key.code(), min, api.max_version)
        });
        assert_eq!(claimed, table.collect::<Vec<_>>());
    }
}

#[test]
fn a_client_that_claims_to_be_a_replica_reads_nothing() {
    let broker = Broker::start();
    let topic = broker.client().create_topic(1, &[]);
    let mut client = broker.leader(&topic, 0);
    client
        .produce(9, &topic, 0, -1, Some(&batch(Compression::None, &[b"secret"])))
        .unwrap();
    for (version, epoch, code) in [
        (4, -1, ErrorCode::NotLeaderOrFollower),
        (11, -1, ErrorCode::NotLeaderOrFollower),
        (11, 0, ErrorCode::UnknownLeaderEpoch),
    ] {
        let partitions = [FetchPartition {
            current_leader_epoch: epoch,
            partition_max_bytes: 1_000,
            ..FetchPartition::default()
        }];
        let topics = [FetchTopic {
            name: &topic,
            partitions: Array::from_slice(&partitions),
            ..FetchTopic::default()
        }];
        let request = FetchRequest {
            replica_id: 77,
            replica_state: ReplicaState::default(),
            max_wait_ms: 10,
            topics: Array::from_slice(&topics),
            ..FetchRequest::default()
        };
        let response: FetchResponse<Vec<u8>> = client.call(version, &request).unwrap();
        let part = &response.topics[0].partitions[0];
        if Broker::foreign().is_some() || epoch == -1 {
            assert_eq!(part.error_code, code, "version {version}, epoch {epoch}");
        } else {
            assert_ne!(part.error_code, ErrorCode::None);
        }
        assert_eq!(part.records.byte_count(), 0);
    }
}
