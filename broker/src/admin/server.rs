//! Connections of the admin server: each has one request, a bounded head and a bounded time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::exposition;
use super::gather::{self, HostQueue};
use super::{health, metrics};

/// Questions that may wait for the control thread: as many as there are connections, and more than one cannot have.
pub const PROBES_MAX: usize = CONNECTIONS_MAX;
/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// The longest head of a request, in bytes: what the library takes at least.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// The most headers that it has.
const HEADERS_MAX: usize = 64;
/// From one gathering of metrics to the next: whoever asks in a loop gets no more of the shards' time.
const GATHER_PAUSE: Duration = Duration::from_millis(50);
/// The wait after an accept that failed: descriptors or memory ran out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Paths, for whoever asks for another.
const PATHS: &str = "there is /metrics, /livez and /readyz here\n";
/// How long a port may be in use before that is an error, and how soon it is tried again: the kernel may still be taking
/// a process apart that had it and was killed.
const PORT_WAIT: Duration = Duration::from_secs(2);
const PORT_RETRY: Duration = Duration::from_millis(10);
const PLAIN: &str = "text/plain; charset=utf-8";

/// What the server is started with.
#[derive(Debug, Clone, Copy)]
pub struct AdminOptions {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Committed offsets whose lag is shown at most.
    pub lags_max: usize,
}

/// What clients may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// From the accept to the end of a request's head.
    head_time: Duration,
    /// From the accept to the end of the answer.
    time: Duration,
}

const LIMITS: Limits = Limits {
    head_time: Duration::from_secs(5),
    time: Duration::from_secs(30),
};

/// Listens, and answers from a thread of its own for as long as the process lives. Gives the address.
///
/// # Errors
/// In words for the operator.
pub fn start(options: AdminOptions, host: HostQueue) -> Result<SocketAddr, String> {
    let told = |error: &io::Error| {
        format!(
            "cannot serve metrics and health on {} (admin.listen): {error}. Give another address, or nothing for none",
            options.listen
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| told(&error))?;
    let listener = runtime
        .block_on(bind(options.listen))
        .map_err(|error| told(&error))?;
    let address = listener.local_addr().map_err(|error| told(&error))?;
    let admin = Admin::new(host, options.lags_max);
    let thread = std::thread::Builder::new().name("admin".to_owned());
    let started = thread.spawn(move || runtime.block_on(serve(listener, LIMITS, Arc::new(admin))));
    started.map_err(|error| told(&error))?;
    Ok(address)
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + PORT_WAIT;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(PORT_RETRY).await;
            }
            bound => return bound,
        }
    }
}

/// What requests share.
struct Admin {
    host: HostQueue,
    lags_max: usize,
    /// One gathering at a time.
    gathering: Mutex<()>,
}

impl Admin {
    fn new(host: HostQueue, lags_max: usize) -> Admin {
        Admin {
            host,
            lags_max,
            gathering: Mutex::new(()),
        }
    }
}

async fn serve(listener: TcpListener, limits: Limits, admin: Arc<Admin>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return; // nobody closes it
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                tokio::spawn(async move {
                    let _slot = slot;
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(limits.head_time)
                        .max_buf_size(HEAD_BYTES_MAX)
                        .max_headers(HEADERS_MAX)
                        .keep_alive(false)
                        .serve_connection(
                            TokioIo::new(stream),
                            service_fn(move |request| answer(admin.clone(), request)),
                        );
                    // A client that is wrong, slow or gone is no news.
                    let _ = tokio::time::timeout(limits.time, connection).await;
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection for metrics: {error}; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn answer(admin: Arc<Admin>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET is answered\n");
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let scrape = {
                let _one = admin.gathering.lock().await;
                let scrape = gather::scrape(&admin.host, admin.lags_max).await;
                tokio::time::sleep(GATHER_PAUSE).await;
                scrape
            };
            response(StatusCode::OK, exposition::CONTENT_TYPE, metrics::render(&scrape))
        }
        "/livez" => {
            let threads = gather::health(&admin.host).await;
            verdict(health::liveness(threads.stage, &threads.shards))
        }
        "/readyz" => {
            let threads = gather::health(&admin.host).await;
            verdict(health::readiness(threads.stage, &threads.shards))
        }
        _ => response(StatusCode::NOT_FOUND, PLAIN, PATHS),
    })
}

fn verdict(found: Result<(), Vec<String>>) -> Response<Full<Bytes>> {
    match found {
        Ok(()) => response(StatusCode::OK, PLAIN, "ok\n"),
        Err(lines) => response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines.join("\n") + "\n"),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
