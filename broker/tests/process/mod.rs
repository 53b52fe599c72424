//! A broker process, for a test to talk to.
//!
//! `MILLSTREAM_TEST_BROKER=HOST:PORT` takes a broker that runs already, of whatever make: so the expectations of these
//! tests are checked against Apache Kafka itself. A test that only a broker of our own can take says so.
#![expect(clippy::disallowed_methods, reason = "a test is an ordinary process")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A broker of its own for a test, on free ports, in a directory that goes with it.
pub struct Broker {
    address: String,
    /// Where its metrics are; nowhere if it is not ours.
    admin: String,
    own: Option<Own>,
}

struct Own {
    process: Process,
    directory: PathBuf,
    arguments: Vec<String>,
}

/// One life of a broker.
struct Process {
    child: Child,
    /// Ends with the process, and has its standard error.
    said: Option<JoinHandle<String>>,
}

impl Broker {
    /// Starts one with two shards, or takes the one that the environment names.
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// Starts one with further arguments of `millstream start`.
    pub fn start_with(arguments: &[&str]) -> Broker {
        Broker::foreign().unwrap_or_else(|| Broker::start_on("0", arguments))
    }

    /// Starts one of our own that can be restarted: on ports that it finds free again, most likely.
    pub fn start_restartable() -> Broker {
        Broker::start_restartable_with(&[])
    }

    /// The same with further arguments of `millstream start`.
    pub fn start_restartable_with(arguments: &[&str]) -> Broker {
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let first = 20_000 + (std::process::id() % 10_000) as u16;
        // The shards after the first listen 10,001 above it, and on.
        let are_free = |&port: &u16| is_free(port) && (1..4).all(|shard| is_free(port + 10_000 + shard));
        // Each is offered to one test alone: others start theirs at the same time, and a restart wants its port again.
        static OFFERED: AtomicU32 = AtomicU32::new(0);
        let offered = || first + 4 * OFFERED.fetch_add(1, Ordering::Relaxed) as u16;
        let port = std::iter::repeat_with(offered).take(250).find(are_free);
        Broker::start_on(&port.expect("a free port").to_string(), arguments)
    }

    fn start_on(port: &str, arguments: &[&str]) -> Broker {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("millstream-test-{}-{number}", std::process::id()));
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (process, ready) = spawn(&directory, port, 2, &arguments);
        Broker {
            address: ready.address,
            admin: ready.admin,
            own: Some(Own {
                process,
                directory,
                arguments,
            }),
        }
    }

    /// Ends it, by SIGTERM or SIGKILL, and starts it again on the port that it had. Gives its standard error.
    pub fn restart(&mut self, signal: &str) -> String {
        self.restart_with_shards(signal, 2)
    }

    /// Starts it again with so many shards.
    pub fn restart_with_shards(&mut self, signal: &str, shards: u32) -> String {
        let own = self.own.as_mut().expect("a broker of our own");
        let said = own.process.end(signal);
        let port = self.address.rsplit(':').next().expect("HOST:PORT");
        let (process, ready) = spawn(&own.directory, port, shards, &own.arguments);
        own.process = process;
        self.address = ready.address;
        self.admin = ready.admin;
        said
    }

    /// Ends it by SIGTERM; its standard error, which has each shard's counters.
    pub fn stop(mut self) -> String {
        let own = self.own.as_mut().expect("a broker of our own");
        own.process.end("-TERM")
    }

    /// Ends it and leaves its directory, for as long as this is there. Gives its standard error.
    pub fn end(&mut self, signal: &str) -> String {
        let own = self.own.as_mut().expect("a broker of our own");
        own.process.end(signal)
    }

    /// Its data directory.
    pub fn directory(&self) -> &Path {
        &self.own.as_ref().expect("a broker of our own").directory
    }

    /// Its process has no more memory than so many bytes.
    pub fn has_at_most(&self, bytes: u64, what: &str) {
        let resident = self.resident_bytes();
        assert!(resident < bytes, "{what}: {} MiB", resident >> 20);
    }

    /// Memory that its process has, in bytes (VmRSS of proc(5)).
    pub fn resident_bytes(&self) -> u64 {
        let id = self.own.as_ref().expect("a broker of our own").process.child.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        kib.expect("a line of it")
            .trim()
            .parse::<u64>()
            .expect("a number")
            << 10
    }

    /// The broker that the environment names.
    pub fn foreign() -> Option<Broker> {
        let address = std::env::var("MILLSTREAM_TEST_BROKER").ok()?;
        Some(Broker {
            address,
            admin: String::new(),
            own: None,
        })
    }

    /// Its first address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of its metrics and health.
    pub fn admin(&self) -> &str {
        &self.admin
    }
}

impl Process {
    fn end(&mut self, signal: &str) -> String {
        // The shell's own: a small system has no kill(1).
        let command = format!("kill {signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status();
        assert!(sent.expect("a shell").success());
        self.child.wait().expect("it was started here");
        let said = self.said.take().expect("it ends once");
        said.join().expect("its standard error can be read")
    }
}

/// What a broker says when it serves.
struct Ready {
    /// Its first address.
    address: String,
    /// The address of its metrics; empty if there are none.
    admin: String,
}

/// Starts a broker, and waits until it serves. The ports of its shards follow from the first one: another test's
/// connection may have one of them, for a while.
fn spawn(directory: &Path, port: &str, shards: u32, arguments: &[String]) -> (Process, Ready) {
    const TRIES: u32 = 40;
    for _ in 1..TRIES {
        let (mut process, ready) = try_spawn(directory, port, shards, arguments);
        if let Some(ready) = ready {
            return (process, ready);
        }
        process.child.wait().expect("it was started here");
        let said = process.said.take().expect("it ends once").join();
        let said = said.expect("its standard error can be read");
        assert!(
            said.contains("Address already in use"),
            "the broker ended: {said}"
        );
        std::thread::sleep(Duration::from_millis(250));
    }
    let (process, ready) = try_spawn(directory, port, shards, arguments);
    (process, ready.expect("the broker ended"))
}

/// The same, once. `None` if it ended.
fn try_spawn(directory: &Path, port: &str, shards: u32, arguments: &[String]) -> (Process, Option<Ready>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["start", "--port", port, "--shards", &shards.to_string()])
        .args(["--set", "journal.bytes=8388608"])
        .args(["--set", "admin.listen=127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker's binary starts");
    let mut errors = child.stderr.take().expect("it is piped");
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = errors.read_to_string(&mut said);
        eprint!("{said}");
        said
    });
    let output = child.stdout.take().expect("its output is piped");
    let ready = ready(BufReader::new(output));
    let said = Some(said);
    (Process { child, said }, ready)
}

/// Waits for "millstream ready", and takes the first address of the line, and of the line of the metrics before it.
/// `None` if the broker ends before.
fn ready(mut output: BufReader<impl Read + Send + 'static>) -> Option<Ready> {
    let mut line = String::new();
    let mut admin = String::new();
    loop {
        line.clear();
        if output.read_line(&mut line).expect("its output can be read") == 0 {
            return None;
        }
        if let Some(url) = line.strip_prefix("millstream metrics http://") {
            admin = url.trim_end().trim_end_matches("/metrics").to_owned();
        }
        if line.contains("millstream ready") {
            let is_address = |word: &&str| word.parse::<SocketAddr>().is_ok();
            let mut words = line.split(|c: char| c.is_whitespace() || c == ',');
            let address = words
                .find(is_address)
                .expect("an address in the ready line")
                .to_owned();
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            return Some(Ready { address, admin });
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.process.child.kill();
            let _ = own.process.child.wait();
            let _ = std::fs::remove_dir_all(&own.directory);
        }
    }
}
