//! The client's side: what it makes of brokers that are slow, wrong or gone, and how it finds a leader.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use millstream_net::client::{Client, ClientError, ClientOptions, Connection, ConnectionOptions};
use millstream_net::{BoxedReply, Limits, Peer, Pending, Reply, Request, Service};
use ring::executor::{Class, spawn};
use ring::local::Signal;
use ring::simulator::{HostId, Simulator};
use ring::socket::{TcpListener, TcpStream};
use ring::{clock, timer};
use wire::messages::api_versions::ApiVersionsResponse;
use wire::messages::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic,
};
use wire::{ApiKey, ErrorCode, Request as _, Response, decode_request_header};

use crate::support::{Ask, LIMIT, PORT, Server, ask, assert_echo, client, connect, frame, limits};

/// A listener whose first connection gets `answer` for whatever it sends first, and then nothing.
fn liar(simulator: &mut Simulator, answer: Vec<u8>) -> SocketAddr {
    let host = simulator.host(0);
    simulator.start(host, 1 << 20, move || async move {
        let any = SocketAddr::from(([0, 0, 0, 0], PORT));
        let listener = TcpListener::bind(any, 8).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.send_all(vec![answer.into()]).await.unwrap();
        std::future::pending::<()>().await;
    });
    simulator.run_for(Duration::from_millis(1));
    SocketAddr::new(host.address(), PORT)
}

#[test]
fn an_answer_that_is_not_the_next_ends_the_connection() {
    let answers: [&[u8]; 5] = [
        &[0, 0, 0, 4, 0, 0, 0, 8],
        &[0, 0, 0, 3, 0, 0, 0],
        &[0, 0, 0, 0],
        &[255, 255, 255, 255],
        &[127, 0, 0, 0, 0],
    ];
    for answer in answers {
        let mut simulator = Simulator::new(1);
        let address = liar(&mut simulator, answer.to_vec());
        client(&mut simulator, move || async move {
            let connection = connect(address).await;
            for id in [7, 8] {
                let failed = match ask(&connection, id, Ask::Echo, 0).await {
                    Ok(answer) => answer.await.map(drop),
                    Err(error) => Err(error),
                };
                let error = failed.unwrap_err();
                assert!(matches!(error, ClientError::Closed { .. }), "{answer:?}: {error}");
            }
            assert!(!connection.is_open());
        });
    }
}

#[test]
fn an_answer_that_does_not_come_ends_the_connection_in_time() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let options = ConnectionOptions {
            timeout_ms: 2_000,
            ..ConnectionOptions::default()
        };
        let connection = Connection::connect(address, &options).await.unwrap();
        for id in 0..3 {
            let answer = ask(&connection, id, Ask::Later(1_500), 0).await.unwrap();
            assert_echo(&answer.await.unwrap(), id, 0);
        }
        let before = clock::now();
        let one = ask(&connection, 4, Ask::Later(9_000), 0).await.unwrap();
        let other = ask(&connection, 5, Ask::Echo, 0).await.unwrap();
        for answer in [one, other] {
            let error = answer.await.err().unwrap();
            let timed_out = matches!(
                error,
                ClientError::TimedOut {
                    timeout_ms: 2_000,
                    ..
                }
            );
            assert!(timed_out, "{error}");
        }
        assert_eq!((clock::now() - before).as_secs(), 2);
        assert!(ask(&connection, 6, Ask::Echo, 0).await.is_err());
    });
    server.ends(&mut simulator);
}

#[test]
fn requests_in_flight_are_bounded() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let options = ConnectionOptions {
            requests_in_flight_max: 2,
            ..ConnectionOptions::default()
        };
        let connection = Connection::connect(address, &options).await.unwrap();
        let before = clock::now();
        let one = ask(&connection, 1, Ask::Later(3_000), 0).await.unwrap();
        let two = ask(&connection, 2, Ask::Echo, 0).await.unwrap();
        assert!((clock::now() - before).as_millis() < 100);
        let three = ask(&connection, 3, Ask::Echo, 0).await.unwrap();
        assert!((clock::now() - before).as_millis() >= 3_000);
        for (id, answer) in [(1, one), (2, two), (3, three)] {
            assert_echo(&answer.await.unwrap(), id, 0);
        }
    });
    server.ends(&mut simulator);
}

#[test]
fn closing_gives_everyone_an_answer_and_the_memory_back() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let options = ConnectionOptions::default();
        for _ in 0..200 {
            let connection = Connection::connect(address, &options).await.unwrap();
            let answer = ask(&connection, 1, Ask::Later(60_000), 0).await.unwrap();
            let sending = connection.clone();
            let more = spawn(Class::Latency, async move {
                for id in 2..20 {
                    if let Err(error) = ask(&sending, id, Ask::Echo, 0).await {
                        return error;
                    }
                }
                unreachable!("five are in flight at most");
            });
            timer::sleep(Duration::from_millis(3)).await;
            connection.close();
            assert!(matches!(answer.await, Err(ClientError::Closed { .. })));
            assert!(matches!(more.await, ClientError::Closed { .. }));
        }
    });
    server.ends(&mut simulator);
}

#[test]
fn connecting_says_what_is_wrong() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let address = SocketAddr::new(host.address(), PORT);
    client(&mut simulator, move || async move {
        let options = ConnectionOptions::default();
        let refused = Connection::connect(address, &options).await.err().unwrap();
        assert!(matches!(refused, ClientError::Connect { .. }), "{refused}");
        let bootstrap = [address.to_string(), "nowhere.example".to_owned()];
        let nobody = Client::connect(&bootstrap, ClientOptions::default()).await;
        let message = nobody.err().unwrap().to_string();
        assert!(
            message.contains(&bootstrap[0]) && message.contains(&bootstrap[1]),
            "{message}"
        );
    });
}

/// Two nodes: partition 0 of `orders` is on node 1 first, and on node 2 after it was asked three times; `lost` has
/// no leader.
struct Node {
    hosts: [HostId; 2],
    asked: std::cell::Cell<u32>,
}

impl Service for Node {
    type Later = BoxedReply;

    fn is_short(&self) -> bool {
        false
    }

    fn begin(self: &Rc<Self>, _peer: &Peer, request: Request) -> impl Future<Output = Pending<BoxedReply>> {
        let node = self.clone();
        async move {
            let (header, body) = decode_request_header(&request.frame).unwrap();
            let (version, id) = (header.api_version, header.correlation_id);
            let answer = if header.api_key == ApiKey::ApiVersions.code() {
                ApiVersionsResponse::from_table().encode(version, id)
            } else {
                let request = MetadataRequest::decode(body, version).unwrap();
                node.metadata(&request).encode(version, id)
            };
            Pending::Ready(Reply::Bytes(answer.into()))
        }
    }
}

impl Node {
    fn metadata(&self, request: &MetadataRequest<'_>) -> MetadataResponse {
        let brokers = [1, 2].map(|node_id| MetadataBroker {
            node_id,
            host: self.hosts[node_id as usize - 1].address().to_string(),
            port: PORT.into(),
            rack: None,
        });
        let topics = request.topics.into_iter().flatten().map(|topic| {
            self.asked.set(self.asked.get() + 1);
            let (error_code, leader_id) = match topic.name {
                Some("orders") if self.asked.get() > 3 => (ErrorCode::None, 2),
                Some("orders") => (ErrorCode::None, 1),
                _ => (ErrorCode::LeaderNotAvailable, -1),
            };
            MetadataTopic {
                name: topic.name.map(str::to_owned),
                partitions: vec![MetadataPartition {
                    error_code,
                    leader_id,
                    ..MetadataPartition::default()
                }],
                ..MetadataTopic::default()
            }
        });
        MetadataResponse {
            brokers: brokers.into(),
            controller_id: 2,
            topics: topics.collect(),
            ..MetadataResponse::default()
        }
    }
}

#[test]
fn a_client_finds_the_leader_and_finds_it_again_when_it_moved() {
    let mut simulator = Simulator::new(1);
    let hosts = [simulator.host(0), simulator.host(0)];
    for host in hosts {
        simulator.start(host, 1 << 30, move || async move {
            let any = SocketAddr::from(([0, 0, 0, 0], PORT));
            let listener = TcpListener::bind(any, 8).await.unwrap();
            let node = Rc::new(Node {
                hosts,
                asked: Default::default(),
            });
            millstream_net::server::serve(
                listener,
                Rc::new(Limits::default()),
                node,
                Signal::new(),
                Rc::default(),
            )
            .await;
        });
    }
    simulator.run_for(Duration::from_millis(1));
    client(&mut simulator, move || async move {
        let bootstrap = ["127.0.0.1:1".to_owned(), hosts[0].address().to_string()];
        let client = Client::connect(&bootstrap, ClientOptions::default())
            .await
            .unwrap();
        assert_eq!(client.nodes().keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(client.controller().await.unwrap().0, 2);
        assert_eq!(
            client.version(2, ApiKey::Produce).await.unwrap(),
            ApiKey::Produce.info().max_version
        );
        for _ in 0..10 {
            assert_eq!(client.leader("orders", 0).await.unwrap(), 1, "remembered");
        }
        for _ in 0..3 {
            client.forget("orders");
            let _ = client.leader("orders", 0).await.unwrap();
        }
        assert_eq!(client.leader("orders", 0).await.unwrap(), 2);
        let address = client.node(2).await.unwrap().address();
        assert_eq!(address.ip(), hosts[1].address());
        for (topic, partition, expected) in [
            ("lost", 0, ErrorCode::LeaderNotAvailable),
            ("orders", 1, ErrorCode::UnknownTopicOrPartition),
        ] {
            let error = client.leader(topic, partition).await.unwrap_err();
            let ClientError::Partition { code, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*code, expected);
        }
        assert!(matches!(
            client.node(9).await,
            Err(ClientError::UnknownNode { node_id: 9 })
        ));
    });
}

#[test]
fn a_client_outlives_the_restart_of_its_only_broker() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let start = move |simulator: &mut Simulator| {
        simulator.start(host, 1 << 30, move || async move {
            let any = SocketAddr::from(([0, 0, 0, 0], PORT));
            let listener = TcpListener::bind(any, 8).await.unwrap();
            let node = Rc::new(Node {
                hosts: [host, host],
                asked: Default::default(),
            });
            millstream_net::server::serve(
                listener,
                Rc::new(Limits::default()),
                node,
                Signal::new(),
                Rc::default(),
            )
            .await;
        });
    };
    start(&mut simulator);
    simulator.run_for(Duration::from_millis(1));
    let asking = simulator.host(0);
    simulator.start(asking, 1 << 30, move || async move {
        let bootstrap = [host.address().to_string()];
        let client = Client::connect(&bootstrap, ClientOptions::default())
            .await
            .unwrap();
        timer::sleep(Duration::from_secs(10)).await;
        let (node_id, connection) = client.controller().await.unwrap();
        assert!(node_id == 2 && connection.is_open());
        client.metadata(Some(&["orders"]), false).await.unwrap();
    });
    simulator.run_for(Duration::from_secs(2));
    simulator.kill(host);
    simulator.run_for(Duration::from_secs(2));
    start(&mut simulator);
    assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(asking)));
}

#[test]
fn an_unanswered_send_reports_a_connection_that_ended() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let stream = TcpStream::connect(address).await.unwrap();
        drop(stream);
        let connection = connect(address).await;
        let close = frame(1, Ask::Close, 0);
        connection.send_unanswered(vec![close.into()]).await.unwrap();
        timer::sleep(Duration::from_secs(1)).await;
        let silent = frame(2, Ask::Nothing, 0);
        let error = connection.send_unanswered(vec![silent.into()]).await.unwrap_err();
        assert!(matches!(error, ClientError::Closed { .. }), "{error}");
    });
    assert_eq!(server.begun(), [1]);
    server.ends(&mut simulator);
}
