//! A client that says exactly what a test wants it to say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::messages::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};
use wire::schema::Decode;
use wire::{
    Array, BatchBuilder, Compression, ErrorCode, NewRecord, Request, Response, Uuid, decode_response_header,
};

pub use crate::process::Broker;

/// How long a test waits for bytes before it calls the broker dead.
const PATIENCE: Duration = Duration::from_secs(30);

impl Broker {
    /// A connection to its first address.
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A connection to the node that leads the partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Client {
        let metadata = self.client().metadata(Some(&[topic]));
        let leader = metadata.topics[0].partitions[partition as usize].leader_id;
        self.node(leader)
    }

    /// A connection to the node.
    pub fn node(&self, id: i32) -> Client {
        let metadata = self.client().metadata(Some(&[]));
        let node = metadata
            .brokers
            .iter()
            .find(|node| node.node_id == id)
            .expect("a node of Metadata");
        Client::connect(&format!("{}:{}", node.host, node.port))
    }

    /// A connection to the node that coordinates the group.
    pub fn coordinator(&self, group: &str) -> Client {
        loop {
            let request = FindCoordinatorRequest {
                key: group,
                ..FindCoordinatorRequest::default()
            };
            let found: FindCoordinatorResponse = self.client().call(3, &request).unwrap();
            if found.error_code == ErrorCode::None {
                let mut client = Client::connect(&format!("{}:{}", found.host, found.port));
                // It may still be reading its log, and Apache Kafka's may not know yet that it is one.
                let groups = [group];
                let request = DescribeGroupsRequest {
                    groups: Array::from_slice(&groups),
                    ..DescribeGroupsRequest::default()
                };
                let described: DescribeGroupsResponse = client.call(5, &request).unwrap();
                if described.groups[0].error_code == ErrorCode::None {
                    return client;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The other side closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// One connection.
pub struct Client {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    pub fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Client {
            stream,
            next_correlation_id: 1,
        }
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // A broker that has closed already is seen when reading.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends `frame` behind its length.
    pub fn send_frame(&mut self, frame: &[u8]) {
        self.send_bytes(&i32::try_from(frame.len()).unwrap().to_be_bytes());
        self.send_bytes(frame);
    }

    /// The next frame, without its length.
    pub fn receive_frame(&mut self) -> Result<Vec<u8>, Closed> {
        let mut length = [0; 4];
        self.read(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
        self.read(&mut frame)?;
        Ok(frame)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Closed> {
        use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
        match self.stream.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => Err(Closed),
            Err(error) => panic!("neither an answer nor a closed connection: {error}"),
        }
    }

    /// Whether nothing comes for so long, not even the connection's end.
    pub fn is_silent(&mut self, patience: Duration) -> bool {
        self.stream
            .set_read_timeout(Some(patience))
            .expect("a socket option");
        let peeked = self.stream.peek(&mut [0]);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Whether the broker closes the connection without a word.
    pub fn is_closed(&mut self) -> bool {
        self.receive_frame() == Err(Closed)
    }

    /// Sends a request and returns its number.
    pub fn send<'a, Q: Request<'a>>(&mut self, version: i16, request: &Q) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.send_bytes(&request.encode(version, id, Some("test")));
        id
    }

    /// Receives the answer to the request of this number.
    pub fn receive<R: Response + for<'a> Decode<'a>>(&mut self, version: i16, id: i32) -> Result<R, Closed> {
        let frame = self.receive_frame()?;
        let (answered, body) =
            decode_response_header(&frame, R::API_KEY, version).expect("a response header");
        assert_eq!(answered, id, "answers come in the order of their requests");
        Ok(R::decode(body, version).expect("a response of its version"))
    }

    /// Sends and receives.
    pub fn call<'a, Q: Request<'a>, R: Response + for<'b> Decode<'b>>(
        &mut self,
        version: i16,
        request: &Q,
    ) -> Result<R, Closed> {
        let id = self.send(version, request);
        self.receive(version, id)
    }

    pub fn metadata(&mut self, topics: Option<&[&str]>) -> MetadataResponse {
        let topics: Option<Vec<_>> = topics.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name),
                    ..MetadataRequestTopic::default()
                })
                .collect()
        });
        let request = MetadataRequest {
            topics: topics.as_deref().map(Array::from_slice),
            ..MetadataRequest::default()
        };
        self.call(9, &request).expect("metadata")
    }

    /// The id of a topic that is there.
    pub fn topic_id(&mut self, name: &str) -> Uuid {
        let topics = [MetadataRequestTopic {
            name: Some(name),
            ..MetadataRequestTopic::default()
        }];
        let request = MetadataRequest {
            topics: Some(Array::from_slice(&topics)),
            ..MetadataRequest::default()
        };
        let response: MetadataResponse = self.call(12, &request).expect("metadata");
        response.topics[0].topic_id
    }

    /// Creates a topic with a name that no other run has used.
    pub fn create_topic(&mut self, partitions: i32, configs: &[(&str, &str)]) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("protocol-{}-{number}", std::process::id());
        let configs: Vec<_> = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name,
                value: Some(value),
            })
            .collect();
        let topics = [CreatableTopic {
            name: &name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: Array::from_slice(&configs),
            ..CreatableTopic::default()
        }];
        let request = CreateTopicsRequest {
            topics: Array::from_slice(&topics),
            timeout_ms: 30_000,
            validate_only: false,
        };
        let response: CreateTopicsResponse = self.call(5, &request).expect("an answer");
        assert_eq!(
            response.topics[0].error_code,
            ErrorCode::None,
            "{:?}",
            response.topics[0].error_message
        );
        // Kafka answers before its own metadata shows the topic.
        while self.metadata(Some(&[&name])).topics[0].partitions.len() < partitions as usize {
            std::thread::sleep(Duration::from_millis(20));
        }
        name
    }

    /// Sends `records` to one partition and returns its part of the answer.
    pub fn produce(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        acks: i16,
        records: Option<&[u8]>,
    ) -> Result<ProducePartitionResponse, Closed> {
        let id = self.send_produce(version, topic, partition, acks, records);
        let response: ProduceResponse = self.receive(version, id)?;
        Ok(response.topics[0].partitions[0].clone())
    }

    /// Sends a question for an offset of partition 0 and returns the request's number.
    pub fn send_list_offsets(&mut self, version: i16, topic: &str, timestamp: i64) -> i32 {
        let partitions = [ListOffsetsPartition {
            timestamp,
            ..ListOffsetsPartition::default()
        }];
        let topics = [ListOffsetsTopic {
            name: topic,
            partitions: Array::from_slice(&partitions),
        }];
        let request = ListOffsetsRequest {
            topics: Array::from_slice(&topics),
            ..ListOffsetsRequest::default()
        };
        self.send(version, &request)
    }

    /// Asks for an offset of partition 0 and returns that part of the answer.
    pub fn list_offsets(
        &mut self,
        version: i16,
        topic: &str,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let id = self.send_list_offsets(version, topic, timestamp);
        self.listed(version, id)
    }

    /// The one partition of the answer to a ListOffsets.
    pub fn listed(&mut self, version: i16, id: i32) -> ListOffsetsPartitionResponse {
        let response: ListOffsetsResponse = self.receive(version, id).expect("an answer");
        response.topics[0].partitions[0]
    }

    /// Sends `records` to one partition and returns the request's number.
    pub fn send_produce(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        acks: i16,
        records: Option<&[u8]>,
    ) -> i32 {
        let partitions = [ProducePartition { partition, records }];
        let topics = [ProduceTopic {
            name: topic,
            partitions: Array::from_slice(&partitions),
        }];
        let request = ProduceRequest {
            acks,
            timeout_ms: 30_000,
            topics: Array::from_slice(&topics),
            ..ProduceRequest::default()
        };
        self.send(version, &request)
    }
}

/// What a test's fetch asks for of one partition.
#[derive(Clone, Copy)]
pub struct Ask {
    pub partition: i32,
    pub version: i16,
    pub offset: i64,
    pub epoch: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

/// The start of partition 0.
pub const ASK: Ask = Ask {
    partition: 0,
    version: 11,
    offset: 0,
    epoch: -1,
    max_wait_ms: 100,
    min_bytes: 1,
    max_bytes: 1 << 20,
    partition_max_bytes: 1 << 20,
};

/// What the broker says of the one partition.
pub fn fetch(client: &mut Client, topic: &str, ask: Ask) -> FetchPartitionResponse<Vec<u8>> {
    let partitions = [FetchPartition {
        partition: ask.partition,
        current_leader_epoch: ask.epoch,
        fetch_offset: ask.offset,
        partition_max_bytes: ask.partition_max_bytes,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
        ..FetchTopic::default()
    }];
    let request = FetchRequest {
        max_wait_ms: ask.max_wait_ms,
        min_bytes: ask.min_bytes,
        max_bytes: ask.max_bytes,
        topics: Array::from_slice(&topics),
        ..FetchRequest::default()
    };
    let mut response: FetchResponse<Vec<u8>> = client.call(ask.version, &request).unwrap();
    response.topics.remove(0).partitions.remove(0)
}

/// The wall clock, in milliseconds.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}

/// A batch of these values, of now.
pub fn batch(compression: Compression, values: &[&[u8]]) -> Vec<u8> {
    builder(compression, values).build()
}

/// A batch of these values, the first of this time, and each `step_ms` after the one before.
pub fn batch_from(first_ms: i64, step_ms: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    for (index, value) in (0..).zip(values) {
        builder.push(&NewRecord {
            timestamp_ms: first_ms + index * step_ms,
            value: Some(value),
            ..NewRecord::default()
        });
    }
    builder.build()
}

/// A batch of an idempotent producer.
pub fn sequenced(producer_id: i64, epoch: i16, sequence: i32, values: &[&[u8]]) -> Vec<u8> {
    builder(Compression::None, values)
        .producer(producer_id, epoch, sequence)
        .build()
}

/// The builder of such a batch, still open.
pub fn builder(compression: Compression, values: &[&[u8]]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(compression);
    for value in values {
        builder.push(&NewRecord {
            timestamp_ms: now_ms(),
            value: Some(value),
            ..NewRecord::default()
        });
    }
    builder
}

/// `batch` with the bytes at `at` replaced and its CRC made right again.
pub fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    if batch.len() >= 61 {
        let crc = wire::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch
}
