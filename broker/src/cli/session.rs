//! Runs a client command against a cluster, on a ring thread of its own.

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use net::client::{Client, ClientError, ClientOptions, ConnectionOptions};
use ring::channel;
use ring::clock;
use ring::thread::{ThreadOptions, spawn};
use ring::timer::sleep;

use crate::cli::CliError;

/// The client id of these commands.
pub(crate) const CLIENT_ID: &str = "millstream-cli";
/// The longest answer: a batch as large as Kafka's largest request, and what goes around it. Memory is taken as answers
/// need it.
const ANSWER_BYTES_MAX: usize = 101 << 20;
/// Not a real bound: what a command holds is bounded by what it asks for.
const MEMORY_BYTES: usize = 1 << 40;

/// How long a command goes on trying what may work in a moment, such as a coordinator that is loading.
const RETRIED: Duration = Duration::from_secs(15);
/// The wait before something is tried again: Kafka's retry.backoff.ms.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// Where the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Bootstrap {
    /// Brokers to begin with, separated by commas; any of the cluster will do
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    pub(crate) brokers: Vec<String>,
}

/// Connects to the cluster and runs `command` to its end.
pub(crate) fn run<F, Fut, T>(brokers: Vec<String>, command: F) -> Result<T, CliError>
where
    F: FnOnce(Client) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, CliError>> + 'static,
    T: Send + 'static,
{
    let (answer, result) = channel::oneshot();
    let options = ThreadOptions {
        name: "client".to_owned(),
        cpu: None,
        memory_bytes: MEMORY_BYTES,
        ..ThreadOptions::default()
    };
    let thread = spawn(options, move || async move {
        let result = match Client::connect(&brokers, client_options()).await {
            Ok(client) => command(client).await,
            Err(error) => Err(failed("reach the cluster")(error)),
        };
        // The caller waits.
        let _ = answer.give(result);
    })
    .map_err(CliError::Runtime)?;
    let result = result.wait_blocking().expect("a client thread gives its result");
    thread.join_blocking();
    result
}

/// Makes the attempt again while the cluster answers that it may work in a moment.
pub(crate) async fn retried<T>(mut attempt: impl AsyncFnMut() -> Result<T, CliError>) -> Result<T, CliError> {
    let deadline = clock::now() + RETRIED;
    loop {
        match attempt().await {
            Err(CliError::Refused { code, .. }) if code.is_retriable() && clock::now() < deadline => {
                sleep(RETRY).await;
            }
            ended => return ended,
        }
    }
}

/// Turns a client's error into a command's; `doing` is a verb and its object.
pub(crate) fn failed(doing: impl Into<String>) -> impl FnOnce(ClientError) -> CliError {
    move |error| CliError::Client {
        doing: doing.into(),
        error,
    }
}

fn client_options() -> ClientOptions {
    ClientOptions {
        connection: ConnectionOptions {
            client_id: CLIENT_ID.to_owned(),
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..ConnectionOptions::default()
        },
        resolve,
    }
}

/// Asks the system's resolver; it blocks the client's thread, which waits for nothing else then.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    addresses
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}
