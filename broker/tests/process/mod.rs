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

/// A broker of its own for a test, on free ports, in a directory that goes with it.
pub struct Broker {
    address: String,
    own: Option<Own>,
}

struct Own {
    child: Child,
    directory: PathBuf,
    arguments: Vec<String>,
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
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let first = 20_000 + (std::process::id() % 10_000) as u16;
        // The second shard listens 10,001 above the first.
        let port = (first..31_000).find(|&port| is_free(port) && is_free(port + 10_001));
        Broker::start_on(&port.expect("a free port").to_string(), &[])
    }

    fn start_on(port: &str, arguments: &[&str]) -> Broker {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("millstream-test-{}-{number}", std::process::id()));
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (child, address) = spawn(&directory, port, &arguments);
        Broker {
            address,
            own: Some(Own {
                child,
                directory,
                arguments,
            }),
        }
    }

    /// Ends it, by SIGTERM or SIGKILL, and starts it again on the port that it had.
    pub fn restart(&mut self, signal: &str) {
        let own = self.own.as_mut().expect("a broker of our own");
        let id = own.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("kill(1) is there").success());
        own.child.wait().expect("it was started here");
        let port = self.address.rsplit(':').next().expect("HOST:PORT");
        (own.child, self.address) = spawn(&own.directory, port, &own.arguments);
    }

    /// The broker that the environment names.
    pub fn foreign() -> Option<Broker> {
        let address = std::env::var("MILLSTREAM_TEST_BROKER").ok()?;
        Some(Broker { address, own: None })
    }

    /// Its first address.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Starts a broker of two shards; its first address once it serves.
fn spawn(directory: &Path, port: &str, arguments: &[String]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["start", "--port", port, "--shards", "2"])
        .args(["--set", "journal.bytes=8388608", "--data-dir"])
        .arg(directory)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the broker's binary starts");
    let output = child.stdout.take().expect("its output is piped");
    let address = ready_address(BufReader::new(output));
    (child, address)
}

/// Waits for "millstream ready", and takes the first address of the line.
fn ready_address(mut output: BufReader<impl Read + Send + 'static>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).expect("its output can be read"),
            0,
            "the broker ended"
        );
        if line.contains("millstream ready") {
            let is_address = |word: &&str| word.parse::<SocketAddr>().is_ok();
            let mut words = line.split(|c: char| c.is_whitespace() || c == ',');
            let address = words
                .find(is_address)
                .expect("an address in the ready line")
                .to_owned();
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            return address;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
            let _ = std::fs::remove_dir_all(&own.directory);
        }
    }
}
