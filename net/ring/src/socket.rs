//! TCP, with owned buffers.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use crate::buffer::{Buffer, Slice};
use crate::core;
use crate::driver::Handle;
use crate::executor::yield_now;
use crate::operation::{Connection, Operation, Outcome, advance};

/// A listening socket (SO_REUSEADDR set, close-on-exec).
pub struct TcpListener {
    handle: Rc<Handle>,
    address: SocketAddr,
}

impl TcpListener {
    /// Binds and listens. Port 0 takes a free one: see [`TcpListener::local_address`].
    pub async fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        let core = core::current();
        let (id, address) = core.driver().listen(address, backlog)?;
        Ok(TcpListener {
            handle: Rc::new(core.own(id)),
            address,
        })
    }

    /// The address it listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, with TCP_NODELAY set. A connection accepted while the future is being dropped is closed.
    /// EMFILE and the like come back as errors: wait before the next try.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let listener = self.handle.clone();
        let stream = TcpStream::begin(Operation::Accept { listener }).await?;
        let peer = stream.peer;
        Ok((stream, peer))
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
pub struct TcpStream {
    handle: Rc<Handle>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl TcpStream {
    /// Connects, with TCP_NODELAY set.
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::begin(Operation::Connect { address }).await
    }

    /// The other side's address.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    /// Our side's address.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Receives into `range` of `buffer`, as many bytes as are there, at least one; 0 at the end of the stream.
    ///
    /// # Panics
    /// If `range` is empty or reaches past the buffer.
    pub async fn receive(&self, mut buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        assert!(range.start < range.end && range.end <= buffer.capacity());
        loop {
            let operation = Operation::Receive {
                connection: self.handle.clone(),
                buffer,
                range: range.clone(),
            };
            let Outcome::Read(result, returned) = core::current().begin(operation).await else {
                unreachable!("a receive ends with its buffer");
            };
            buffer = returned;
            match result {
                Err(error) if is_passing(&error) => yield_now().await,
                result => return (result, buffer),
            }
        }
    }

    /// Sends the slices, all of them, one after the other, in as few calls as it can (sendmsg(2), at most 1,024
    /// slices a call). A dropped future may have sent a part: close the connection.
    pub async fn send_all(&self, mut slices: Vec<Slice>) -> io::Result<()> {
        while slices.iter().any(|slice| !slice.is_empty()) {
            let operation = Operation::Send {
                connection: self.handle.clone(),
                slices,
            };
            let Outcome::Written(result, returned) = core::current().begin(operation).await else {
                unreachable!("a send ends with its slices");
            };
            slices = returned;
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => advance(&mut slices, sent),
                Err(error) if is_passing(&error) => yield_now().await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// shutdown(2).
    pub fn shutdown(&self, how: Shutdown) {
        self.handle.driver().shutdown(self.handle.id(), how);
    }

    #[cfg(test)]
    pub(crate) fn handle_for_test(&self) -> &Handle {
        &self.handle
    }

    async fn begin(operation: Operation) -> io::Result<TcpStream> {
        match core::current().begin(operation).await {
            Outcome::Connected(connection) => {
                let Connection { handle, peer, local } = connection?;
                let handle = Rc::new(handle);
                Ok(TcpStream { handle, peer, local })
            }
            _ => unreachable!("an accept or a connect ends with a connection"),
        }
    }
}

/// EINTR and EAGAIN say nothing about the connection. io_uring waits by itself, so that they are rare.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}
