//! A listener and its clients on the real kernel: what the simulator cannot show.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use millstream_net::client::{Connection, ConnectionOptions};
use millstream_net::{BoxedReply, Limits, Peer, Pending, Reply, Request, Service};
use ring::buffer::Slice;
use ring::channel;
use ring::executor::{Class, spawn};
use ring::local::Signal;
use ring::socket::TcpListener;
use ring::thread::{ThreadOptions, spawn as spawn_thread};
use ring::timer;

/// Answers with the request; every third a moment later.
struct Echo;

impl Service for Echo {
    type Later = BoxedReply;

    fn is_short(&self) -> bool {
        false
    }

    async fn begin(self: &Rc<Self>, _peer: &Peer, request: Request) -> Pending<BoxedReply> {
        let frame = request.frame;
        let length = (frame.len() as i32 - 4).to_be_bytes();
        let reply = Reply::Frame(vec![Slice::from(length.to_vec()), frame.slice(4..frame.len())]);
        if frame[7].is_multiple_of(3) {
            return Pending::Later(Box::pin(async move {
                timer::sleep(Duration::from_micros(100)).await;
                reply
            }));
        }
        Pending::Ready(reply)
    }
}

fn options(name: &str, memory_bytes: usize) -> ThreadOptions {
    ThreadOptions {
        name: name.to_owned(),
        cpu: None,
        memory_bytes,
        ..ThreadOptions::default()
    }
}

/// Key and version (0), correlation id, filling.
fn frame(id: i32, bytes: usize) -> Vec<u8> {
    let mut frame = (8 + bytes as i32).to_be_bytes().to_vec();
    frame.extend([0; 4]);
    frame.extend(id.to_be_bytes());
    frame.resize(12 + bytes, id as u8);
    frame
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_shutdown_drains() {
    let limits = Limits::default();
    let (bound, address) = channel::oneshot();
    let (stop, stopped) = channel::oneshot();
    let server = spawn_thread(options("server", limits.memory_bytes()), move || async move {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any, 64).await.unwrap();
        bound.give(listener.local_address()).unwrap();
        let shutdown = Signal::new();
        let serving = millstream_net::server::serve(
            listener,
            Rc::new(limits),
            Rc::new(Echo),
            shutdown.clone(),
            Rc::default(),
        );
        let serving = spawn(Class::Latency, serving);
        let _ = stopped.await;
        shutdown.notify_all();
        serving.await;
    });
    let address = address.wait_blocking().unwrap();
    let client = spawn_thread(options("client", 256 << 20), move || async move {
        let mut tasks = Vec::new();
        for number in 0..4 {
            tasks.push(spawn(Class::Latency, async move {
                let options = ConnectionOptions {
                    requests_in_flight_max: 64,
                    ..ConnectionOptions::default()
                };
                let connection = Connection::connect(address, &options).await.unwrap();
                let mut answers = std::collections::VecDeque::new();
                for id in 0..2_000 {
                    let bytes = [0, 100, 3_000, 20_000, 200_000][(id + number) as usize % 5];
                    let frame = frame(id, bytes);
                    answers.push_back((id, bytes, connection.send(vec![frame.into()]).await.unwrap()));
                    if answers.len() == 50 {
                        check(answers.pop_front().unwrap()).await;
                    }
                }
                for answer in answers {
                    check(answer).await;
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        // In flight when the server stops.
        let connection = Connection::connect(address, &ConnectionOptions::default())
            .await
            .unwrap();
        let last = connection.send(vec![frame(3, 5).into()]).await.unwrap();
        timer::sleep(Duration::from_millis(20)).await;
        stop.give(()).unwrap();
        check((3, 5, last)).await;
    });
    client.unwrap().join_blocking();
    server.unwrap().join_blocking();
}

async fn check((id, bytes, answer): (i32, usize, millstream_net::client::Answer)) {
    let answer = answer.await.unwrap();
    assert_eq!(&answer[..], &frame(id, bytes)[8..]);
}
