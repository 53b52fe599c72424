//! A broker process, for a test to talk to.
//!
//! `MILLSTREAM_TEST_BROKER=HOST:PORT` takes a broker that runs already, of whatever make: so the expectations of these
//! tests are checked against Apache Kafka itself. A test that only a broker of our own can take says so.
#![expect(clippy::disallowed_methods, reason = "a test is an ordinary process")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
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
}

impl Broker {
    /// Starts one with two shards, or takes the one that the environment names.
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// Starts one with further arguments of `millstream start`.
    pub fn start_with(arguments: &[&str]) -> Broker {
        if let Some(broker) = Broker::foreign() {
            return broker;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("millstream-test-{}-{number}", std::process::id()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args([
                "start",
                "--port",
                "0",
                "--shards",
                "2",
                "--set",
                "journal.bytes=8388608",
                "--data-dir",
            ])
            .arg(&directory)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the broker's binary starts");
        let output = child.stdout.take().expect("its output is piped");
        let address = ready_address(BufReader::new(output));
        Broker {
            address,
            own: Some(Own { child, directory }),
        }
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
