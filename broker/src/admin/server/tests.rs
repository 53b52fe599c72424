//! The server against clients that mean harm, with threads behind it that are the test's own.
#![expect(clippy::disallowed_methods, reason = "a test, on ordinary threads")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use ring::channel::{Receiver, bounded};

use super::*;
use crate::controller::roster::{HostCondition, Stage};
use crate::shard::probe::{Commits, ShardCondition, ShardProbe};

/// How long a test waits for bytes before it calls the server dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a test.
const NEVER: Duration = Duration::from_secs(3_600);
const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";

/// A host whose shards say what they are told to.
struct Puppets {
    stage: Stage,
    /// Nothing: it does not answer.
    shards: Vec<Option<ShardCondition>>,
}

fn serving() -> ShardCondition {
    ShardCondition {
        is_recovered: true,
        is_serving: true,
        failure: None,
    }
}

impl Puppets {
    fn ready() -> Puppets {
        Puppets {
            stage: Stage::Serving,
            shards: vec![Some(serving()), Some(serving())],
        }
    }

    /// Serves them; the address.
    fn serve(self, limits: Limits) -> SocketAddr {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the test's process.
        std::thread::spawn(move || {
            runtime.block_on(async {
                let mut shards = Vec::new();
                for condition in self.shards {
                    let (queue, probes) = bounded(PROBES_MAX);
                    shards.push(queue);
                    tokio::spawn(play_shard(condition, probes));
                }
                let (host, mut probes) = bounded(PROBES_MAX);
                let condition = HostCondition {
                    stage: self.stage,
                    shards,
                };
                tokio::spawn(async move {
                    while let Some(answer) = probes.receive().await {
                        let answer: ring::channel::Answer<HostCondition> = answer;
                        drop(answer.give(condition.clone()));
                    }
                });
                serve(listener, limits, Arc::new(Admin::new(host, 100))).await;
            });
        });
        address
    }
}

async fn play_shard(condition: Option<ShardCondition>, mut probes: Receiver<ShardProbe>) {
    while let Some(probe) = probes.receive().await {
        match (probe, &condition) {
            (ShardProbe::Condition { answer }, Some(condition)) => drop(answer.give(condition.clone())),
            (ShardProbe::Measures { answer }, Some(_)) => drop(answer.give(None)),
            (ShardProbe::Commits { answer, .. }, Some(_)) => drop(answer.give(Commits::default())),
            _ => {}
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // It closed, and did not read all that it was sent.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection stays open: {error}"),
    }
    String::from_utf8(bytes).unwrap()
}

/// Sends bytes, and gives all that comes back.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // It may have closed already.
    let _ = stream.write_all(bytes);
    rest(&mut stream)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    let answer = exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("\r\nconnection: close"), "{head}");
    (status(head).to_owned(), body.to_owned())
}

#[test]
fn a_host_whose_shards_all_serve_is_alive_and_ready() {
    let address = Puppets::ready().serve(LIMITS);
    assert_eq!(get(address, "/livez"), ("200".into(), "ok\n".into()));
    assert_eq!(get(address, "/readyz?verbose"), ("200".into(), "ok\n".into()));
    let (code, text) = get(address, "/metrics");
    assert_eq!(code, "200");
    assert!(text.contains("\nmillstream_ready 1\n"), "{text}");
    let (code, text) = get(address, "/");
    assert_eq!(code, "404");
    assert!(text.contains("/metrics"), "{text}");
    let head = exchange(address, b"HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&head), "200");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_fenced_shard_is_alive_but_not_ready() {
    let mut puppets = Puppets::ready();
    puppets.shards[1] = Some(ShardCondition {
        failure: Some("its disk is gone".to_owned()),
        ..serving()
    });
    let address = puppets.serve(LIMITS);
    let lacks = "shard 1 is fenced: its disk is gone\n";
    assert_eq!(get(address, "/readyz"), ("503".into(), lacks.into()));
    assert_eq!(get(address, "/livez").0, "200");
    assert!(get(address, "/metrics").1.contains("\nmillstream_ready 0\n"));
}

#[test]
fn a_start_is_alive_but_not_ready() {
    let address = Puppets {
        stage: Stage::Recovering,
        shards: vec![Some(ShardCondition::default())],
    }
    .serve(LIMITS);
    let lacks = "starting: the shards recover their logs\nshard 0 recovers its log\n";
    assert_eq!(get(address, "/readyz"), ("503".into(), lacks.into()));
    assert_eq!(get(address, "/livez").0, "200");
}

#[test]
fn a_shard_that_does_not_answer_is_neither_alive_nor_ready_and_the_others_are_told_of() {
    let mut puppets = Puppets::ready();
    puppets.shards[0] = None;
    let address = puppets.serve(LIMITS);
    let lacks = ("503".to_owned(), "shard 0 does not answer\n".to_owned());
    assert_eq!(get(address, "/livez"), lacks);
    assert_eq!(get(address, "/readyz"), lacks);
    let (code, text) = get(address, "/metrics");
    assert_eq!(code, "200");
    assert!(text.contains("\nmillstream_shard_up{shard=\"0\"} 0\n"), "{text}");
}

#[test]
fn what_is_no_request_is_refused_and_the_next_is_served() {
    let address = Puppets::ready().serve(LIMITS);
    let long_line = [
        b"GET /",
        "a".repeat(2 * HEAD_BYTES_MAX).as_bytes(),
        b" HTTP/1.1\r\n\r\n",
    ]
    .concat();
    let header = "x: y\r\n".repeat(HEADERS_MAX + 1);
    let many_headers = format!("GET /readyz HTTP/1.1\r\n{header}\r\n");
    let long_header = format!(
        "GET /readyz HTTP/1.1\r\nx: {}\r\n\r\n",
        "y".repeat(2 * HEAD_BYTES_MAX)
    );
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut surprises = Vec::new();
    for (bytes, code) in [
        (&long_line[..], "431"),
        (many_headers.as_bytes(), "431"),
        (long_header.as_bytes(), "431"),
        (
            b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
            "405",
        ),
        (b"DELETE /readyz HTTP/1.1\r\n\r\n", "405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        // RFC 9112, 6.3: the first counts. Whatever follows is no second request: the connection ends.
        (
            b"GET /readyz HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "200",
        ),
        (b"GET /readyz HTTP/9.9\r\n\r\n", "400"),
        (b"GET /re\0adyz HTTP/1.1\r\n\r\n", "400"),
        (b"\r\n\r\n\r\nnonsense\r\n\r\n", "400"),
        (&binary[..], "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
    ] {
        let answer = exchange(address, bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        if status(&answer) != code {
            surprises.push(format!("{shown:?} was answered with {answer:?}, not {code}"));
        }
    }
    assert_eq!(surprises, Vec::<String>::new());
    assert_eq!(status(&exchange(address, READY)), "200");
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_the_setting() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let listen = taken.local_addr().unwrap();
    let (host, _probes) = bounded(1);
    let error = start(AdminOptions { listen, lags_max: 0 }, host).expect_err("it is taken");
    assert!(
        error.contains(&listen.to_string()) && error.contains("admin.listen"),
        "{error}"
    );
}

#[test]
fn of_pipelined_requests_one_is_answered() {
    let address = Puppets::ready().serve(LIMITS);
    let answer = exchange(address, &READY.repeat(100));
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
}

#[test]
fn a_client_that_does_not_say_what_it_wants_is_cut_off() {
    let soon = Duration::from_millis(100);
    let slow_heads = Puppets::ready().serve(Limits {
        head_time: soon,
        time: NEVER,
    });
    let slow_anything = Puppets::ready().serve(Limits {
        head_time: NEVER,
        time: soon,
    });
    for address in [slow_heads, slow_anything] {
        for begun in [&b""[..], b"GET /readyz HTT", b"GET /readyz HTTP/1.1\r\nx: "] {
            let mut stream = connect(address);
            stream.write_all(begun).unwrap();
            let answer = rest(&mut stream);
            assert!(!answer.contains(" 200 "), "{answer}");
        }
    }
}

#[test]
fn connections_are_bounded_and_those_that_wait_come_in_later() {
    let address = Puppets::ready().serve(Limits {
        head_time: NEVER,
        time: NEVER,
    });
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    // All of them are in.
    for stream in &mut idle {
        stream.write_all(b"GET /readyz").unwrap();
    }
    let mut late = connect(address);
    late.write_all(READY).unwrap();
    late.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waited = late.read(&mut [0; 1]).expect_err("it is not let in yet");
    assert_eq!(waited.kind(), ErrorKind::WouldBlock);
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(idle.pop());
    assert_eq!(status(&rest(&mut late)), "200");
}
