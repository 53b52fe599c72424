//! Whole runs in the simulator, against a broker that stands still for a while.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use millstream_bench::arguments::{Arguments, Command};
use millstream_bench::compare;
use millstream_bench::report::Report;
use millstream_bench::run::run_here;
use millstream_bench::sweep;
use net::server::serve;
use net::{BoxedReply, Limits, Peer, Pending, Reply, Request, Service};
use ring::clock::{self, Instant};
use ring::executor;
use ring::local::Signal;
use ring::simulator::{HostId, Simulator};
use ring::socket::TcpListener;
use ring::timer::{sleep, sleep_until};
use wire::messages::api_versions::ApiVersionsResponse;
use wire::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use wire::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeConfigsResult, DescribedConfig,
};
use wire::messages::fetch::{FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse};
use wire::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use wire::messages::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic,
};
use wire::messages::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use wire::record_batch::assign_offset;
use wire::{ApiKey, ErrorCode, RecordBatch, Request as _, Response, decode_request_header};

const PORTS: [u16; 2] = [9092, 19093];
const PARTITIONS: i32 = 4;
/// The topic of single runs.
const TOPIC: &str = "bench";

/// How a cluster misbehaves.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// It stands still for topics whose name ends so,
    stalled: &'static str,
    /// from and to, in milliseconds from the topic's first Produce on.
    stall_ms: [u64; 2],
    /// Partitions whose Produce gets NOT_LEADER_OR_FOLLOWER, always.
    refused: Option<i32>,
    /// Partitions whose batches are acknowledged and lost.
    lost: Option<i32>,
}

/// In the measured time of a run, after a warm-up of a second.
const HALF_A_SECOND: Faults = Faults {
    stalled: TOPIC,
    stall_ms: [1_700, 2_200],
    refused: None,
    lost: None,
};

/// The batches of a partition, and the offset behind them.
#[derive(Default)]
struct Log {
    batches: Vec<(i64, Vec<u8>)>,
    end: i64,
}

/// What both nodes know.
struct Cluster {
    address: std::net::IpAddr,
    faults: Faults,
    /// By topic.
    first_produce: RefCell<BTreeMap<String, Instant>>,
    /// By partition.
    logs: RefCell<[Log; PARTITIONS as usize]>,
    /// Shared with the test.
    topics: Arc<Mutex<BTreeSet<String>>>,
}

/// A node: leads the partitions whose number has its parity, and refuses the others.
struct Node {
    id: i32,
    cluster: Rc<Cluster>,
}

impl Service for Node {
    type Later = BoxedReply;

    fn is_short(&self) -> bool {
        false
    }

    async fn begin(self: &Rc<Self>, _peer: &Peer, request: Request) -> Pending<BoxedReply> {
        let (header, body) = decode_request_header(&request.frame).unwrap();
        let (version, id) = (header.api_version, header.correlation_id);
        let frame = match ApiKey::from_code(header.api_key).unwrap() {
            ApiKey::ApiVersions => ApiVersionsResponse::from_table().encode(version, id),
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(body, version).unwrap();
                self.metadata(&request).encode(version, id)
            }
            ApiKey::CreateTopics => {
                let request = CreateTopicsRequest::decode(body, version).unwrap();
                self.create(&request).encode(version, id)
            }
            ApiKey::DeleteTopics => {
                let request = DeleteTopicsRequest::decode(body, version).unwrap();
                self.delete(&request).encode(version, id)
            }
            ApiKey::DescribeConfigs => {
                let request = DescribeConfigsRequest::decode(body, version).unwrap();
                describe_configs(&request).encode(version, id)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(body, version).unwrap();
                list_offsets(&request).encode(version, id)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(body, version).unwrap();
                let topic = request.topics.iter().next().unwrap().name.to_owned();
                let faults = self.cluster.faults;
                let now = clock::now();
                let is_stalled = topic.ends_with(faults.stalled);
                let first = *self
                    .cluster
                    .first_produce
                    .borrow_mut()
                    .entry(topic)
                    .or_insert(now);
                let [from, to] = faults.stall_ms.map(|ms| first + Duration::from_millis(ms));
                if is_stalled && from <= now && now < to {
                    sleep_until(to).await;
                }
                self.produce(&request).encode(version, id)
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(body, version).unwrap();
                let wait = Duration::from_millis(request.max_wait_ms.try_into().unwrap());
                let until = clock::now() + wait;
                while self.fetch(&request).1 == 0 && clock::now() < until {
                    sleep(Duration::from_millis(1)).await;
                }
                self.fetch(&request).0.encode(version, id)
            }
            other => panic!("{other:?} was not expected"),
        };
        Pending::Ready(Reply::Bytes(frame.into()))
    }
}

impl Node {
    fn create(&self, request: &CreateTopicsRequest<'_>) -> CreateTopicsResponse {
        let topics = request.topics.iter().map(|topic| {
            assert_eq!(topic.num_partitions, PARTITIONS);
            self.cluster.topics.lock().unwrap().insert(topic.name.to_owned());
            CreatableTopicResult {
                name: topic.name.to_owned(),
                ..Default::default()
            }
        });
        CreateTopicsResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn delete(&self, request: &DeleteTopicsRequest<'_>) -> DeleteTopicsResponse {
        let topics = request.topics.iter().map(|topic| {
            let name = topic.name.unwrap().to_owned();
            assert!(self.cluster.topics.lock().unwrap().remove(&name), "{name}");
            DeletableTopicResult {
                name: Some(name),
                ..Default::default()
            }
        });
        DeleteTopicsResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn metadata(&self, request: &MetadataRequest<'_>) -> MetadataResponse {
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
        let partitions: Vec<_> = partitions.collect();
        let asked = request.topics.iter().flat_map(wire::Array::iter);
        let topics = asked.map(|topic| {
            let name = topic.name.unwrap().to_owned();
            let is_there = self.cluster.topics.lock().unwrap().contains(&name);
            MetadataTopic {
                name: Some(name),
                error_code: if is_there {
                    ErrorCode::None
                } else {
                    ErrorCode::UnknownTopicOrPartition
                },
                partitions: if is_there { partitions.clone() } else { Vec::new() },
                ..Default::default()
            }
        });
        MetadataResponse {
            brokers: brokers.collect(),
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn produce(&self, request: &ProduceRequest<'_>) -> ProduceResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let (batch, rest) = RecordBatch::parse(asked.records.unwrap()).unwrap();
                batch.verify_crc().unwrap();
                assert!(rest.is_empty());
                let is_led =
                    asked.partition % 2 == self.id && self.cluster.faults.refused != Some(asked.partition);
                let mut base_offset = -1;
                if is_led {
                    let place = usize::try_from(asked.partition).unwrap();
                    let log = &mut self.cluster.logs.borrow_mut()[place];
                    base_offset = log.end;
                    log.end += i64::from(batch.header().record_count);
                    if self.cluster.faults.lost != Some(asked.partition) {
                        let mut bytes = batch.bytes().to_vec();
                        assign_offset(bytes.first_chunk_mut().unwrap(), base_offset, 0);
                        log.batches.push((base_offset, bytes));
                    }
                }
                ProducePartitionResponse {
                    partition: asked.partition,
                    base_offset,
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

impl Node {
    /// What there is from the offsets on that are asked for, and how many batches.
    fn fetch(&self, request: &FetchRequest<'_>) -> (FetchResponse<Vec<u8>>, usize) {
        let mut count = 0;
        let logs = self.cluster.logs.borrow();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let log = &logs[usize::try_from(asked.partition).unwrap()];
                let from = log
                    .batches
                    .partition_point(|(offset, _)| *offset < asked.fetch_offset);
                let found = &log.batches[from..];
                count += found.len();
                FetchPartitionResponse {
                    partition: asked.partition,
                    high_watermark: log.end,
                    log_start_offset: 0,
                    records: vec![found.iter().flat_map(|(_, bytes)| bytes.clone()).collect()].into(),
                    ..Default::default()
                }
            });
            FetchTopicResponse {
                name: topic.name.to_owned(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
            }
        });
        let response = FetchResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        (response, count)
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

fn describe_configs(request: &DescribeConfigsRequest<'_>) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let configs = [("flush.messages", "1"), ("min.insync.replicas", "1")];
        let configs = configs.map(|(name, value)| DescribedConfig {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        });
        DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.to_owned(),
            configs: configs.into(),
            ..Default::default()
        }
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

async fn serve_cluster(host: HostId, faults: Faults, topics: Arc<Mutex<BTreeSet<String>>>) {
    let cluster = Rc::new(Cluster {
        address: host.address(),
        faults,
        first_produce: RefCell::default(),
        logs: RefCell::default(),
        topics,
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

/// Runs a command of `bench` with these options, against two nodes for each of `clusters`, on a simulated host. `%0`
/// and `%1` in the options are the clusters' addresses. Every topic that it makes has to be gone at its end.
fn run<F, Fut, T>(clusters: &[Faults], options: &str, command: F) -> T
where
    F: FnOnce(Command) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let mut simulator = Simulator::new(11);
    let mut line = format!("bench {options} --partitions {PARTITIONS} --record-size 100");
    let mut topics = Vec::new();
    for (number, faults) in clusters.iter().enumerate() {
        let known = Arc::new(Mutex::new(BTreeSet::from([TOPIC.to_owned()])));
        topics.push(known.clone());
        let (faults, server) = (*faults, simulator.host(1 << 20));
        simulator.start(server, 1 << 30, move || serve_cluster(server, faults, known));
        line = line.replace(&format!("%{number}"), &format!("{}:9092", server.address()));
    }
    let client = simulator.host(1 << 20);
    let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
    let limit = Duration::from_secs(60);
    let ended = simulator.run(client, 16 << 30, limit, || command(arguments.command));
    for topics in topics {
        assert_eq!(*topics.lock().unwrap(), BTreeSet::from([TOPIC.to_owned()]));
    }
    ended.unwrap()
}

/// `bench produce` with these options.
fn produce(faults: Faults, options: &str) -> Report {
    single_run("produce", faults, options)
}

fn single_run(command: &str, faults: Faults, options: &str) -> Report {
    run(
        &[faults],
        &format!("{command} --brokers %0 --batch-size 1 {options}"),
        async |command| {
            let Command::Load(load) = command else {
                panic!("a single run was asked for");
            };
            run_here(load).await.unwrap()
        },
    )
}

/// `bench sweep`: a run flat out and one at a tenth of that, two seconds each. The first and second topic are called -1
/// and -2.
fn sweep(faults: Faults) -> sweep::table::Sweep {
    let options = "sweep --brokers %0 --batch-sizes 1k --fractions 10% --connections 2 --in-flight 2 --seconds 2 \
                   --warmup-seconds 1";
    run(&[faults], options, async |command| {
        let Command::Sweep(arguments) = command else {
            panic!("a sweep was asked for");
        };
        sweep::run_here(arguments).await.unwrap()
    })
}

/// Of 2,000 batches that were due in two seconds, during [`HALF_A_SECOND`].
fn assert_a_tenth_waited_long(report: &Report) {
    let latency_ns = &report.sample.latency_ns;
    assert_eq!(latency_ns.len(), 2_000, "{report}");
    let stalled = latency_ns.count_between(300_000_000, 520_000_000);
    assert!(
        (180..=280).contains(&stalled),
        "{stalled} of 2,000 waited long\n{report}"
    );
}

#[test]
fn a_stall_is_charged_to_every_batch_that_was_due_meanwhile() {
    let report = produce(
        HALF_A_SECOND,
        "--rate 1000 --seconds 2 --connections 2 --threads 2",
    );
    assert!(report.is_clean(), "{report}");
    // Batches of one record: 2,000 were due. A quarter of them while the broker stood still, the last of these with
    // nearly no wait: so a tenth of all waited for longer than 300 ms, and some more while the rest was caught up with.
    // A client that stops its clock while it waits would have seen the stall only as often as it has requests in
    // flight.
    let latency_ns = &report.sample.latency_ns;
    assert_a_tenth_waited_long(&report);
    assert!(latency_ns.value_at_quantile(0.5) < 20_000_000, "{report}");
    assert_eq!(report.sample.unsent, 0);
    // It was the broker that stood still, and not this client.
    let own_delay_ns = &report.sample.own_delay_ns;
    assert!(own_delay_ns.len() > 1_000, "{report}");
    assert!(own_delay_ns.max() < 5_000_000, "{} ns", own_delay_ns.max());
    assert!(report.warnings().is_empty(), "{report}");
}

/// A broker that stands still for a second of the two that are measured, in the run whose topic ends so.
fn a_second(stalled: &'static str) -> Faults {
    Faults {
        stalled,
        stall_ms: [1_500, 2_500],
        refused: None,
        lost: None,
    }
}

#[test]
fn a_stall_of_a_second_is_in_the_p99_of_a_sweep() {
    let sweep = sweep(a_second("-2"));
    assert!(sweep.is_clean(), "{sweep}");
    let [flat_out, paced] = &sweep.results[..] else {
        panic!("two runs were expected\n{sweep}");
    };
    assert!(flat_out.report.latency_ms(0.99) < 100.0, "{sweep}");
    // Half of what was due was due meanwhile, and waited for up to a second.
    assert!(
        (900.0..1_100.0).contains(&paced.report.latency_ms(0.99)),
        "{sweep}"
    );
    assert!((300.0..700.0).contains(&paced.report.latency_ms(0.75)), "{sweep}");
    let rate = paced.report.records_per_s.unwrap() as f64;
    assert!(
        (0.09..0.11).contains(&(rate / flat_out.report.reached_per_s())),
        "{sweep}"
    );
    assert!(
        sweep
            .to_string()
            .contains("flushed before it is acknowledged (flush.messages=1)"),
        "{sweep}"
    );
}

#[test]
fn a_closed_loop_hides_the_same_stall_from_its_p99() {
    // Why the sweep's latencies are those of an open loop. The maximum has it, for the few requests that were in flight.
    let sweep = sweep(a_second("-1"));
    let flat_out = &sweep.results[0].report;
    assert!(flat_out.latency_ms(0.99) < 100.0, "{sweep}");
    assert!(flat_out.latency_ms(1.0) > 900.0, "{sweep}");
}

#[test]
fn a_warm_up_is_in_no_figure_of_a_sweep() {
    let during_warm_up = Faults {
        stalled: "-2",
        stall_ms: [100, 600],
        refused: None,
        lost: None,
    };
    let sweep = sweep(during_warm_up);
    let paced = &sweep.results[1].report;
    assert!(paced.latency_ms(1.0) < 200.0, "{sweep}");
    let due = paced.records_per_s.unwrap() as f64 * 2.0;
    assert!(paced.sample.records as f64 <= 1.02 * due, "{sweep}");
}

#[test]
fn two_clusters_are_compared_pair_by_pair() {
    // B stands still for half of each run's time.
    let options =
        "compare %0 %1 --batch-size 1k --rate 2000 --pairs 2 --seconds 2 --warmup-seconds 1 --at-least 5";
    let clusters = [Faults::default(), a_second("")];
    let comparison = run(&clusters, options, async |command| {
        let Command::Compare(arguments) = command else {
            panic!("a comparison was asked for");
        };
        compare::run_here(arguments).await.unwrap()
    });
    assert_eq!(comparison.pairs.len(), 2);
    for pair in &comparison.pairs {
        assert!(pair.b.latency_ms(0.99) > 900.0, "{comparison}");
        assert!(pair.a.latency_ms(0.99) < 100.0, "{comparison}");
    }
    assert!(comparison.is_good(), "{comparison}");
    assert!(comparison.ratio().unwrap().lowest > 5.0, "{comparison}");
}

#[test]
fn batches_go_to_the_nodes_that_lead_and_flat_out_is_as_fast_as_the_answers() {
    let report = produce(HALF_A_SECOND, "--seconds 1 --connections 4 --in-flight 2");
    assert!(report.is_clean(), "{report}");
    assert!(report.sample.records > 1_000, "{report}");
    assert_eq!(report.sample.bytes, 100 * report.sample.records);
}

#[test]
fn what_a_broker_refuses_is_named() {
    let refusing = Faults {
        refused: Some(3),
        ..HALF_A_SECOND
    };
    let report = produce(refusing, "--rate 100 --seconds 1 --warmup-seconds 0");
    let failures: Vec<_> = report.sample.failures.iter().collect();
    let [(failure, count)] = failures[..] else {
        panic!("one kind of failure was expected\n{report}");
    };
    assert_eq!((failure.partition, *count), (3, 25));
    assert_eq!(failure.broker, "node 1 at 10.0.0.1:19093");
    assert_eq!(failure.what, "NOT_LEADER_OR_FOLLOWER");
    assert_eq!(report.sample.records, 75);
}

#[test]
fn from_end_to_end_a_batch_takes_until_it_is_read() {
    let options = "--rate 1000 --seconds 2 --connections 2 --threads 2";
    let report = single_run("end-to-end", HALF_A_SECOND, options);
    assert!(report.is_clean(), "{report}");
    // As what is only sent: every batch that was due while nothing could be read waited.
    assert_a_tenth_waited_long(&report);
    let sent = produce(Faults::default(), options).latency_ms(0.5);
    let read = single_run("end-to-end", Faults::default(), options).latency_ms(0.5);
    assert!(read > sent, "{read} ms and {sent} ms");
}

#[test]
fn what_is_acknowledged_and_never_read_is_named() {
    let losing = Faults {
        lost: Some(2),
        ..Faults::default()
    };
    let report = single_run("end-to-end", losing, "--rate 100 --seconds 1 --warmup-seconds 0");
    let failures: Vec<_> = report.sample.failures.iter().collect();
    let [(failure, 25)] = failures[..] else {
        panic!("one kind of failure was expected\n{report}");
    };
    assert_eq!(failure.partition, 2);
    assert_eq!(failure.what, "a batch was acknowledged and never read");
    assert_eq!(report.sample.records, 75);
}
