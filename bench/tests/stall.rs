//! A whole run in the simulator, against a broker that stands still for half a second.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use millstream_bench::arguments::Arguments;
use millstream_bench::report::Report;
use millstream_bench::run::run_here;
use net::server::serve;
use net::{Limits, Peer, Pending, Reply, Request, Service};
use ring::clock::{self, Instant};
use ring::executor;
use ring::local::Signal;
use ring::simulator::{HostId, Simulator};
use ring::socket::TcpListener;
use ring::timer::sleep_until;
use wire::messages::api_versions::ApiVersionsResponse;
use wire::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use wire::messages::metadata::{MetadataBroker, MetadataPartition, MetadataResponse, MetadataTopic};
use wire::messages::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use wire::{ApiKey, ErrorCode, RecordBatch, Request as _, Response, decode_request_header};

const PORTS: [u16; 2] = [9092, 19093];
const PARTITIONS: i32 = 4;
/// Counts from the first Produce: in the measured time, after the warm-up of a second.
const STALL: [Duration; 2] = [Duration::from_millis(1_700), Duration::from_millis(2_200)];

/// What both nodes know.
struct Cluster {
    address: std::net::IpAddr,
    first_produce: Cell<Option<Instant>>,
    /// By partition.
    records: RefCell<[i64; PARTITIONS as usize]>,
    /// Partitions whose Produce gets NOT_LEADER_OR_FOLLOWER, always.
    refused: Option<i32>,
}

/// A node: leads the partitions whose number has its parity, and refuses the others.
struct Node {
    id: i32,
    cluster: Rc<Cluster>,
}

impl Service for Node {
    fn is_short(&self) -> bool {
        false
    }

    async fn begin(self: &Rc<Self>, _peer: &Peer, request: Request) -> Pending {
        let (header, body) = decode_request_header(&request.frame).unwrap();
        let (version, id) = (header.api_version, header.correlation_id);
        let frame = match ApiKey::from_code(header.api_key).unwrap() {
            ApiKey::ApiVersions => ApiVersionsResponse::from_table().encode(version, id),
            ApiKey::Metadata => self.metadata().encode(version, id),
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(body, version).unwrap();
                list_offsets(&request).encode(version, id)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(body, version).unwrap();
                let frame = self.produce(&request).encode(version, id);
                let first = self.cluster.first_produce.get().unwrap_or_else(clock::now);
                self.cluster.first_produce.set(Some(first));
                let now = clock::now();
                if first + STALL[0] <= now && now < first + STALL[1] {
                    sleep_until(first + STALL[1]).await;
                }
                frame
            }
            other => panic!("{other:?} was not expected"),
        };
        Pending::Ready(Reply::Frame(vec![frame.into()]))
    }
}

impl Node {
    fn metadata(&self) -> MetadataResponse {
        let brokers = (0..).zip(PORTS).map(|(node_id, port)| MetadataBroker {
            node_id,
            host: self.cluster.address.to_string(),
            port: port.into(),
            ..Default::default()
        });
        let partitions = (0..PARTITIONS).map(|partition| MetadataPartition {
            partition,
            leader_id: partition % 2,
            ..Default::default()
        });
        MetadataResponse {
            brokers: brokers.collect(),
            topics: vec![MetadataTopic {
                name: Some("bench".to_owned()),
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&self, request: &ProduceRequest<'_>) -> ProduceResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let (batch, rest) = RecordBatch::parse(asked.records.unwrap()).unwrap();
                batch.verify_crc().unwrap();
                assert!(rest.is_empty());
                let is_led = asked.partition % 2 == self.id && self.cluster.refused != Some(asked.partition);
                if is_led {
                    let place = usize::try_from(asked.partition).unwrap();
                    self.cluster.records.borrow_mut()[place] += i64::from(batch.header().record_count);
                }
                ProducePartitionResponse {
                    partition: asked.partition,
                    error_code: if is_led {
                        ErrorCode::None
                    } else {
                        ErrorCode::NotLeaderOrFollower
                    },
                    ..Default::default()
                }
            });
            ProduceTopicResponse {
                name: topic.name.to_owned(),
                partitions: partitions.collect(),
            }
        });
        ProduceResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }
}

fn list_offsets(request: &ListOffsetsRequest<'_>) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| ListOffsetsPartitionResponse {
            partition: asked.partition,
            offset: 0,
            ..Default::default()
        });
        ListOffsetsTopicResponse {
            name: topic.name.to_owned(),
            partitions: partitions.collect(),
        }
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

async fn serve_cluster(host: HostId, refused: Option<i32>) {
    let cluster = Rc::new(Cluster {
        address: host.address(),
        first_produce: Cell::new(None),
        records: RefCell::default(),
        refused,
    });
    let mut nodes = Vec::new();
    for (id, port) in (0..).zip(PORTS) {
        let address = SocketAddr::new(host.address(), port);
        let listener = TcpListener::bind(address, 64).await.unwrap();
        let node = Rc::new(Node {
            id,
            cluster: cluster.clone(),
        });
        let serving = serve(
            listener,
            Rc::new(Limits::default()),
            node,
            Signal::new(),
            Rc::default(),
        );
        nodes.push(executor::spawn(executor::Class::Latency, serving));
    }
    for node in nodes {
        node.await;
    }
}

/// Runs `bench produce` with these options against the two nodes.
fn produce(refused: Option<i32>, options: &str) -> Report {
    let mut simulator = Simulator::new(11);
    let server = simulator.host(1 << 20);
    simulator.start(server, 1 << 30, move || serve_cluster(server, refused));
    let client = simulator.host(1 << 20);
    let line = format!(
        "bench produce --brokers {}:9092 --partitions {PARTITIONS} --record-size 100 --batch-size 1 {options}",
        server.address()
    );
    let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
    let limit = Duration::from_secs(60);
    let report = simulator.run(client, 4 << 30, limit, || run_here(arguments));
    report.unwrap().unwrap()
}

#[test]
fn a_stall_is_charged_to_every_batch_that_was_due_meanwhile() {
    let report = produce(None, "--rate 1000 --seconds 2 --connections 2 --threads 2");
    assert!(report.is_clean(), "{report}");
    // Batches of one record: 2,000 were due. A quarter of them while the broker stood still, the last of these with
    // nearly no wait: so a tenth of all waited for longer than 300 ms, and some more while the rest was caught up with.
    // A client that stops its clock while it waits would have seen the stall only as often as it has requests in
    // flight.
    let latency_ns = &report.sample.latency_ns;
    assert_eq!(latency_ns.len(), 2_000, "{report}");
    let stalled = latency_ns.count_between(300_000_000, 520_000_000);
    assert!(
        (180..=280).contains(&stalled),
        "{stalled} of 2,000 waited long\n{report}"
    );
    assert!(latency_ns.value_at_quantile(0.5) < 20_000_000, "{report}");
    assert_eq!(report.sample.unsent, 0);
}

#[test]
fn batches_go_to_the_nodes_that_lead_and_flat_out_is_as_fast_as_the_answers() {
    let report = produce(None, "--seconds 1 --connections 4 --in-flight 2");
    assert!(report.is_clean(), "{report}");
    assert!(report.sample.records > 1_000, "{report}");
    assert_eq!(report.sample.bytes, 100 * report.sample.records);
}

#[test]
fn what_a_broker_refuses_is_named() {
    let report = produce(Some(3), "--rate 100 --seconds 1 --warmup-seconds 0");
    let failures: Vec<_> = report.sample.failures.iter().collect();
    let [(failure, count)] = failures[..] else {
        panic!("one kind of failure was expected\n{report}");
    };
    assert_eq!((failure.partition, *count), (3, 25));
    assert_eq!(failure.broker, "node 1 at 10.0.0.1:19093");
    assert_eq!(failure.what, "NOT_LEADER_OR_FOLLOWER");
    assert_eq!(report.sample.records, 75);
}
