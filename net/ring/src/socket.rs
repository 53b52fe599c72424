//! TCP, with owned buffers.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use crate::buffer::{Buffer, Slice};

/// A listening socket (SO_REUSEADDR set, close-on-exec).
pub struct TcpListener {}

impl TcpListener {
    /// Binds and listens. Port 0 takes a free one: see [`TcpListener::local_address`].
    pub async fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        let _ = (address, backlog);
        todo!()
    }

    /// The address it listens on.
    pub fn local_address(&self) -> SocketAddr {
        todo!()
    }

    /// The next connection, with TCP_NODELAY set. A connection accepted while the future is being dropped is closed.
    /// EMFILE and the like come back as errors: wait before the next try.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        todo!()
    }
}

/// Which direction of a connection to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// What we read.
    Read,
    /// What we write.
    Write,
    /// Both: pending reads and writes of every clone end.
    Both,
}

/// A connection. Clones share it; it closes when the last clone and the last operation are gone.
#[derive(Clone)]
pub struct TcpStream {}

impl TcpStream {
    /// Connects, with TCP_NODELAY set.
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let _ = address;
        todo!()
    }

    /// The other side's address.
    pub fn peer_address(&self) -> SocketAddr {
        todo!()
    }

    /// Our side's address.
    pub fn local_address(&self) -> SocketAddr {
        todo!()
    }

    /// Receives into `range` of `buffer`, as many bytes as are there, at least one; 0 at the end of the stream.
    pub async fn receive(&self, buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        let _ = (buffer, range);
        todo!()
    }

    /// Sends the slices, all of them, one after the other, in as few calls as it can (sendmsg(2), at most 1,024
    /// slices a call). A dropped future may have sent a part: close the connection.
    pub async fn send_all(&self, slices: Vec<Slice>) -> io::Result<()> {
        let _ = slices;
        todo!()
    }

    /// shutdown(2).
    pub fn shutdown(&self, how: Shutdown) {
        let _ = how;
        todo!()
    }
}
