//! The echo's client: a thread for each connection, and blocking sockets. No runtime, and the same for all.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::case::Echo;

/// A server that takes longer has stopped.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    echo: Echo,
    connections: Vec<TcpStream>,
}

/// What a client did.
pub(crate) struct Answers {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

impl Client {
    /// Connects, and looks once whether each connection answers with what was sent.
    pub(crate) fn connect(address: SocketAddr, echo: Echo) -> io::Result<Client> {
        let sent: Vec<u8> = (0..echo.request_bytes).map(|at| (at % 251) as u8).collect();
        let mut connections = Vec::new();
        for _ in 0..echo.connections {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(&sent)?;
            let mut received = vec![0; sent.len()];
            stream.read_exact(&mut received)?;
            if received != sent {
                return Err(io::Error::other("the answer is not what was sent"));
            }
            connections.push(stream);
        }
        Ok(Client { echo, connections })
    }

    /// Sends for so long, and waits for the last answers.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Answers> {
        let began = Instant::now();
        let until = began + time;
        let echo = self.echo;
        let count = std::thread::scope(|scope| {
            let threads: Vec<_> = (self.connections.iter_mut())
                .map(|stream| scope.spawn(move || answers(stream, echo, until)))
                .collect();
            let mut count = 0;
            for thread in threads {
                count += thread
                    .join()
                    .map_err(|_| io::Error::other("a client's thread panicked"))??;
            }
            io::Result::Ok(count)
        })?;
        Ok(Answers {
            count,
            time: began.elapsed(),
        })
    }
}

/// Keeps so many requests in flight: what is answered is sent anew, at once.
fn answers(stream: &mut TcpStream, echo: Echo, until: Instant) -> io::Result<u64> {
    let requests = vec![7; echo.request_bytes * echo.in_flight];
    let mut buffer = vec![0; requests.len()];
    let (mut count, mut part_bytes, mut in_flight) = (0, 0, echo.in_flight);
    stream.write_all(&requests)?;
    while in_flight > 0 {
        let received = stream.read(&mut buffer)?;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let whole = (part_bytes + received) / echo.request_bytes;
        part_bytes = (part_bytes + received) % echo.request_bytes;
        count += whole as u64;
        if Instant::now() < until {
            stream.write_all(&requests[..whole * echo.request_bytes])?;
        } else {
            in_flight -= whole;
        }
    }
    Ok(count)
}
