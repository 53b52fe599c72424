//! A cluster of two nodes in the simulator, which answers what the load generator asks, and misbehaves as it is told.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::server::serve;
use net::{BoxedReply, Limits, Peer, Pending, Reply, Request, Service};
use ring::clock::{self, Instant};
use ring::executor;
use ring::local::Signal;
use ring::simulator::HostId;
use ring::socket::TcpListener;
use ring::timer::{sleep, sleep_until};
use wire::messages::api_versions::ApiVersionsResponse;
use wire::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use wire::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeConfigsResult, DescribedConfig,
};
use wire::messages::fetch::{FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse};
use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
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
use wire::{ApiKey, BatchHeader, ErrorCode, RecordBatch, Request as _, Response, decode_request_header};

const PORTS: [u16; 2] = [9092, 19093];
pub(crate) const PARTITIONS: i32 = 4;
/// The topic of single runs.
pub(crate) const TOPIC: &str = "bench";

/// How a cluster misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// It stands still for topics whose name ends so,
    pub(crate) stalled: &'static str,
    /// from and to, in milliseconds from the topic's first Produce on.
    pub(crate) stall_ms: [u64; 2],
    /// Partitions whose Produce gets NOT_LEADER_OR_FOLLOWER, always.
    pub(crate) refused: Option<i32>,
    /// Partitions whose batches are acknowledged and lost.
    pub(crate) lost: Option<i32>,
}

/// The batches of a partition, and the offset behind them.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<(i64, Vec<u8>)>,
    pub(crate) end: i64,
}

/// What both nodes know.
struct Cluster {
    address: std::net::IpAddr,
    faults: Faults,
    /// By topic.
    first_produce: RefCell<BTreeMap<String, Instant>>,
    /// How many producers have an id.
    producers: Cell<i64>,
    /// The next sequence, by producer and partition.
    sequences: RefCell<BTreeMap<(i64, i32), i32>>,
    seen: Arc<Seen>,
}

/// What a cluster was told; shared with the test.
pub(crate) struct Seen {
    pub(crate) topics: Mutex<BTreeSet<String>>,
    /// By partition.
    pub(crate) logs: Mutex<[Log; PARTITIONS as usize]>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            topics: Mutex::new(BTreeSet::from([TOPIC.to_owned()])),
            logs: Mutex::default(),
        }
    }
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
            ApiKey::InitProducerId => {
                let request = InitProducerIdRequest::decode(body, version).unwrap();
                assert_eq!(request.transactional_id, None);
                let producer_id = self.cluster.producers.get();
                self.cluster.producers.set(producer_id + 1);
                let response = InitProducerIdResponse {
                    producer_id,
                    ..Default::default()
                };
                response.encode(version, id)
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
            self.cluster
                .seen
                .topics
                .lock()
                .unwrap()
                .insert(topic.name.to_owned());
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
            assert!(self.cluster.seen.topics.lock().unwrap().remove(&name), "{name}");
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
            let is_there = self.cluster.seen.topics.lock().unwrap().contains(&name);
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

    /// Whether a batch follows those of its producer. One without a producer follows any.
    fn is_next(&self, partition: i32, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return true;
        }
        assert!(header.producer_id < self.cluster.producers.get() && header.producer_epoch == 0);
        let mut sequences = self.cluster.sequences.borrow_mut();
        let next = sequences.entry((header.producer_id, partition)).or_default();
        let is_next = *next == header.base_sequence;
        if is_next {
            *next += header.record_count;
        }
        is_next
    }

    fn produce(&self, request: &ProduceRequest<'_>) -> ProduceResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let (batch, rest) = RecordBatch::parse(asked.records.unwrap()).unwrap();
                batch.verify_crc().unwrap();
                assert!(rest.is_empty());
                let is_led =
                    asked.partition % 2 == self.id && self.cluster.faults.refused != Some(asked.partition);
                let error_code = if !is_led {
                    ErrorCode::NotLeaderOrFollower
                } else if !self.is_next(asked.partition, batch.header()) {
                    ErrorCode::OutOfOrderSequenceNumber
                } else {
                    ErrorCode::None
                };
                let mut base_offset = -1;
                if error_code == ErrorCode::None {
                    let place = usize::try_from(asked.partition).unwrap();
                    let log = &mut self.cluster.seen.logs.lock().unwrap()[place];
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
                    error_code,
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
        let logs = self.cluster.seen.logs.lock().unwrap();
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

pub(crate) async fn serve_cluster(host: HostId, faults: Faults, seen: Arc<Seen>) {
    let cluster = Rc::new(Cluster {
        address: host.address(),
        faults,
        first_produce: RefCell::default(),
        producers: Cell::new(0),
        sequences: RefCell::default(),
        seen,
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
