//! The service, its requests, and a host that serves.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_net::client::{Answer, ClientError, Connection, ConnectionOptions};
use millstream_net::{BoxedReply, ConnectionLimits, Limits, Peer, Pending, Reply, Request, Service};
use ring::buffer::{Pool, Slice};
use ring::local::Signal;
use ring::simulator::{HostId, NetworkFaults, Simulator};
use ring::socket::{TcpListener, TcpStream};
use ring::{clock, timer};

pub(crate) const PORT: u16 = 9092;
pub(crate) const LIMIT: Duration = Duration::from_secs(3_600);
/// Of a client's thread.
pub(crate) const MEMORY: usize = 512 << 20;

/// What a request asks for. On the wire: API key and version (0), correlation id, what, a number, then any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The bytes of the request, at once.
    Echo,
    /// The same after so many milliseconds.
    Later(u32),
    /// The same, as a long poll.
    LongPoll(u32),
    /// The same, but the next request is not begun before.
    SlowBegin(u32),
    /// So many bytes, at once.
    Bytes(u32),
    /// No answer.
    Nothing,
    /// The end of the connection.
    Close,
    /// The end of the connection, after so many milliseconds.
    CloseLater(u32),
}

/// A whole frame.
pub(crate) fn frame(id: i32, ask: Ask, rest: usize) -> Vec<u8> {
    let (what, number) = match ask {
        Ask::Echo => (0, 0),
        Ask::Later(ms) => (1, ms),
        Ask::SlowBegin(ms) => (2, ms),
        Ask::Bytes(bytes) => (3, bytes),
        Ask::Nothing => (4, 0),
        Ask::Close => (5, 0),
        Ask::CloseLater(ms) => (6, ms),
        Ask::LongPoll(ms) => (7, ms),
    };
    let mut body = vec![0; 4];
    body.extend(id.to_be_bytes());
    body.push(what);
    body.extend(u32::to_be_bytes(number));
    body.extend((0..rest).map(|at| (at as i32 ^ id) as u8));
    prefixed(&body)
}

pub(crate) fn prefixed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

/// Does what it is asked, and notes the correlation ids in the order of beginning.
#[derive(Default)]
pub(crate) struct Obedient {
    begun: Arc<Mutex<Vec<i32>>>,
    /// Others wait for its memory.
    is_short: Arc<AtomicBool>,
    connections: Rc<ConnectionLimits>,
}

impl Service for Obedient {
    type Later = BoxedReply;

    fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    fn connection_limits(&self) -> Rc<ConnectionLimits> {
        self.connections.clone()
    }

    fn begin(self: &Rc<Self>, _peer: &Peer, request: Request) -> impl Future<Output = Pending<BoxedReply>> {
        let later = |reply: BoxedReply| Pending::Later(reply);
        let begun = self.begun.clone();
        async move {
            let frame = request.frame;
            let Some(head) = frame.first_chunk::<13>() else {
                return Pending::Ready(Reply::Close("a short frame".to_owned()));
            };
            let id = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let number = u32::from_be_bytes([head[9], head[10], head[11], head[12]]);
            begun.lock().unwrap().push(id);
            let then = clock::now() + Duration::from_millis(number.into());
            let answer = move |rest: Vec<Slice>| {
                let length = 4 + rest.iter().map(|slice| slice.len()).sum::<usize>();
                let mut head = (length as i32).to_be_bytes().to_vec();
                head.extend(id.to_be_bytes());
                // Of every kind some follow each other.
                if id % 8 < 5 {
                    rest.iter().for_each(|slice| head.extend_from_slice(slice));
                    return Reply::Bytes(head.into());
                }
                let mut slices = vec![Slice::from(head)];
                slices.extend(rest);
                Reply::Frame(slices)
            };
            let echo = move |frame: &Slice| answer(vec![frame.slice(13..frame.len())]);
            match head[8] {
                0 => Pending::Ready(echo(&frame)),
                1 => later(Box::pin(async move {
                    timer::sleep_until(then).await;
                    echo(&frame)
                })),
                2 => {
                    timer::sleep_until(then).await;
                    Pending::Ready(echo(&frame))
                }
                3 => Pending::Ready(answer(vec![Slice::from(vec![id as u8; number as usize])])),
                4 => Pending::Ready(Reply::Nothing),
                5 => Pending::Ready(Reply::Close("it was asked to".to_owned())),
                7 => Pending::LongPoll(Box::pin(async move {
                    timer::sleep_until(then).await;
                    echo(&frame)
                })),
                _ => later(Box::pin(async move {
                    timer::sleep_until(then).await;
                    Reply::Close("it was asked to".to_owned())
                })),
            }
        }
    }
}

/// Small limits, so that tests reach them.
pub(crate) fn limits() -> Limits {
    Limits {
        frame_bytes_max: 1 << 20,
        frame_pool_bytes: 2 << 20,
        receive_pool_bytes: 1 << 20,
        ..Limits::default()
    }
}

/// A host that serves until it is told to stop.
pub(crate) struct Server {
    pub(crate) host: HostId,
    begun: Arc<Mutex<Vec<i32>>>,
    /// The service says that others wait for its memory.
    pub(crate) is_short: Arc<AtomicBool>,
    /// How many connections it shall take from now on, and how many of an address.
    pub(crate) allowed: Arc<Mutex<Option<(usize, usize)>>>,
    stop: Arc<Mutex<bool>>,
}

impl Server {
    /// Starts it on a new host.
    pub(crate) fn start(simulator: &mut Simulator, limits: Limits) -> Server {
        let server = Server {
            host: simulator.host(0),
            begun: Arc::default(),
            is_short: Arc::default(),
            allowed: Arc::default(),
            stop: Arc::default(),
        };
        let (begun, stop) = (server.begun.clone(), server.stop.clone());
        let (is_short, allowed) = (server.is_short.clone(), server.allowed.clone());
        simulator.start(server.host, limits.memory_bytes(), move || async move {
            let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)), 64)
                .await
                .unwrap();
            let shutdown = Signal::new();
            let memory = limits.memory_bytes();
            let connections = Rc::<ConnectionLimits>::default();
            let service = Rc::new(Obedient {
                begun,
                is_short,
                connections: connections.clone(),
            });
            let serving = millstream_net::server::serve(
                listener,
                Rc::new(limits),
                service,
                shutdown.clone(),
                Rc::default(),
            );
            let serving = ring::executor::spawn(ring::executor::Class::Latency, serving);
            while !*stop.lock().unwrap() {
                if let Some((all, of_an_address)) = allowed.lock().unwrap().take() {
                    connections.set(all, of_an_address);
                }
                timer::sleep(Duration::from_millis(10)).await;
            }
            shutdown.notify_all();
            serving.await;
            // Everything was given back, once cancelled tasks have had their turn.
            timer::sleep(Duration::from_millis(1)).await;
            Pool::new("all", memory).unwrap();
        });
        simulator.run_for(Duration::from_millis(1));
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.address(), PORT)
    }

    /// The requests that were begun, in order.
    pub(crate) fn begun(&self) -> Vec<i32> {
        self.begun.lock().unwrap().clone()
    }

    /// Begins its shutdown.
    pub(crate) fn stop(&self) {
        *self.stop.lock().unwrap() = true;
    }

    /// Shuts it down and checks that it gave everything back.
    pub(crate) fn ends(&self, simulator: &mut Simulator) {
        self.stop();
        assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(self.host)));
        assert_eq!(simulator.descriptors(self.host), 0);
    }
}

/// A network with nothing easy about it.
pub(crate) fn rough() -> NetworkFaults {
    NetworkFaults {
        slow: 0.1,
        short_receive: 0.3,
        short_send: 0.3,
        window_bytes: 5_000,
        ..NetworkFaults::default()
    }
}

/// Runs a client on a host of its own.
pub(crate) fn client<Fut, T>(simulator: &mut Simulator, main: impl FnOnce() -> Fut + Send + 'static) -> T
where
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let host = simulator.host(0);
    simulator
        .run(host, MEMORY, LIMIT, main)
        .expect("the client ends in time")
}

pub(crate) fn options() -> ConnectionOptions {
    ConnectionOptions {
        requests_in_flight_max: 1_000,
        ..ConnectionOptions::default()
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Connection {
    Connection::connect(address, &options()).await.unwrap()
}

pub(crate) async fn ask(
    connection: &Connection,
    id: i32,
    ask: Ask,
    rest: usize,
) -> Result<Answer, ClientError> {
    connection.send(vec![frame(id, ask, rest).into()]).await
}

/// Checks an echo.
pub(crate) fn assert_echo(answer: &[u8], id: i32, rest: usize) {
    assert_eq!(
        answer,
        &[&id.to_be_bytes(), &frame(id, Ask::Echo, rest)[17..]].concat()
    );
}

/// Whether so many bytes came.
pub(crate) async fn read_bytes(stream: &TcpStream, mut left: usize) -> bool {
    let pool = Pool::new("test", 1 << 16).unwrap();
    while left > 0 {
        let most = left.min(4096);
        let (received, _) = stream.receive(pool.take(4096).await.unwrap(), 0..most).await;
        match received {
            Ok(count @ 1..) => left -= count,
            Ok(0) | Err(_) => return false,
        }
    }
    true
}

/// Everything until the end of the stream; `None` if it was reset.
pub(crate) async fn read_to_end(stream: &TcpStream) -> Option<Vec<u8>> {
    let pool = Pool::new("test", 1 << 16).unwrap();
    let mut bytes = Vec::new();
    loop {
        let (received, buffer) = stream.receive(pool.take(4096).await.unwrap(), 0..4096).await;
        match received {
            Ok(0) => return Some(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(_) => return None,
        }
    }
}
