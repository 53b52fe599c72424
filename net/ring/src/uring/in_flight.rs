//! An operation in the kernel's hands: what is submitted, what is kept meanwhile, what comes of it.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use super::system::{self, SocketAddress};
use super::{descriptor, file_handle, socket_handle};
use crate::buffer::{Buffer, Slice};
use crate::core::Core;
use crate::driver::Handle;
use crate::file::{Durability, OpenOptions};
use crate::operation::{Answer, Call, Connection, Operation, Outcome, SLICES_MAX};

/// The most bytes of one read, write or send: what the kernel cuts longer ones to (MAX_RW_COUNT).
const BYTES_MAX: usize = 0x7fff_f000;

/// Everything that the kernel, or the helper, may still use. Nothing here moves what a submission entry points at: it
/// points at buffers, boxes and vectors, never at this struct.
pub(super) struct InFlight {
    kind: Kind,
    /// What it works on stays open meanwhile.
    _handle: Option<Rc<Handle>>,
    _memory: Memory,
}

enum Kind {
    Open,
    Read(Buffer),
    Receive(Buffer),
    Write(Vec<Slice>),
    Send(Vec<Slice>),
    Sync,
    Accept(Box<SocketAddress>),
    Connect(OwnedFd, SocketAddr),
    Exists,
    OnHelper,
}

/// What the kernel reads or writes besides buffers and slices.
#[expect(dead_code, reason = "only kept")]
enum Memory {
    None,
    Path(CString),
    Status(CString, Box<MaybeUninit<libc::statx>>),
    Address(Box<SocketAddress>),
    Vectors(Box<[libc::iovec]>),
    Message(Box<libc::msghdr>, Box<[libc::iovec]>),
}

impl InFlight {
    /// The submission entry, and what must be kept until its completion; or the outcome, if it fails at once.
    pub(super) fn prepare(operation: Operation) -> Result<(Entry, InFlight), Outcome> {
        let (entry, kind, handle, memory) = match operation {
            Operation::Open { path, options } => {
                let path = CString::new(path.into_os_string().into_vec())
                    .map_err(|error| Outcome::Opened(Err(error.into())))?;
                let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
                    .flags(open_flags(options))
                    .mode(0o644)
                    .build();
                (entry, Kind::Open, None, Memory::Path(path))
            }
            Operation::Read {
                file,
                mut buffer,
                range,
                offset,
            } => {
                let bytes = &mut buffer[range];
                let entry = opcode::Read::new(fd(&file), bytes.as_mut_ptr(), length(bytes))
                    .offset(offset)
                    .build();
                (entry, Kind::Read(buffer), Some(file), Memory::None)
            }
            Operation::Receive {
                connection,
                mut buffer,
                range,
            } => {
                let bytes = &mut buffer[range];
                let entry = opcode::Recv::new(fd(&connection), bytes.as_mut_ptr(), length(bytes)).build();
                (entry, Kind::Receive(buffer), Some(connection), Memory::None)
            }
            Operation::Write {
                file,
                slices,
                offset,
                durability,
            } => {
                let flags = match durability {
                    Durability::Completed => 0,
                    Durability::Durable => libc::RWF_DSYNC,
                };
                let (entry, memory) = match only_part(&slices) {
                    Some(part) => {
                        let write = opcode::Write::new(fd(&file), part.as_ptr(), length(part));
                        (write.offset(offset).rw_flags(flags).build(), Memory::None)
                    }
                    None => {
                        let vectors = vectors(&slices);
                        let count = u32::try_from(vectors.len()).expect("at most SLICES_MAX");
                        let write = opcode::Writev::new(fd(&file), vectors.as_ptr(), count);
                        let entry = write.offset(offset).rw_flags(flags).build();
                        (entry, Memory::Vectors(vectors))
                    }
                };
                (entry, Kind::Write(slices), Some(file), memory)
            }
            Operation::Send { connection, slices } => {
                // WAITALL: the kernel carries on with a short send by itself where it can.
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                let (entry, memory) = match only_part(&slices) {
                    Some(part) => {
                        let send = opcode::Send::new(fd(&connection), part.as_ptr(), length(part));
                        (send.flags(flags).build(), Memory::None)
                    }
                    None => {
                        let mut vectors = vectors(&slices);
                        let message = Box::new(system::message(&mut vectors));
                        let send = opcode::SendMsg::new(fd(&connection), &raw const *message);
                        let entry = send.flags(flags.unsigned_abs()).build();
                        (entry, Memory::Message(message, vectors))
                    }
                };
                (entry, Kind::Send(slices), Some(connection), memory)
            }
            Operation::Sync { file, metadata } => {
                let flags = match metadata {
                    true => types::FsyncFlags::empty(),
                    false => types::FsyncFlags::DATASYNC,
                };
                let entry = opcode::Fsync::new(fd(&file)).flags(flags).build();
                (entry, Kind::Sync, Some(file), Memory::None)
            }
            Operation::Accept { listener } => {
                let mut address = Box::new(SocketAddress::empty());
                let (storage, length) = address.parts();
                let entry = opcode::Accept::new(fd(&listener), storage, length)
                    .flags(libc::SOCK_CLOEXEC)
                    .build();
                (entry, Kind::Accept(address), Some(listener), Memory::None)
            }
            Operation::Connect { address } => {
                let socket =
                    system::stream_socket(address).map_err(|error| Outcome::Connected(Err(error)))?;
                let mut encoded = Box::new(SocketAddress::from(address));
                let (storage, length) = encoded.parts();
                // SAFETY: `length` points into `encoded`, which lives here.
                let length = unsafe { *length };
                let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), storage, length).build();
                (
                    entry,
                    Kind::Connect(socket, address),
                    None,
                    Memory::Address(encoded),
                )
            }
            Operation::Blocking {
                call: Call::Exists { path },
                ..
            } => {
                let path = CString::new(path.into_os_string().into_vec())
                    .map_err(|error| Outcome::Answered(Err(error.into())))?;
                let mut status = Box::new(MaybeUninit::<libc::statx>::uninit());
                let directory = types::Fd(libc::AT_FDCWD);
                // Nothing of what it tells is asked for.
                let entry = opcode::Statx::new(directory, path.as_ptr(), status.as_mut_ptr().cast()).build();
                (entry, Kind::Exists, None, Memory::Status(path, status))
            }
            Operation::Blocking { .. } => unreachable!("the helper makes these calls"),
        };
        let in_flight = InFlight {
            kind,
            _handle: handle,
            _memory: memory,
        };
        Ok((entry, in_flight))
    }

    /// A call that the helper makes.
    pub(super) fn on_helper(file: Option<Rc<Handle>>) -> InFlight {
        InFlight {
            kind: Kind::OnHelper,
            _handle: file,
            _memory: Memory::None,
        }
    }

    /// Whether it may last for ever, and so must be cancelled when nobody waits for it. File operations end soon by
    /// themselves, and a cancelled write would only leave a part of it behind.
    pub(super) fn waits_for_a_peer(&self) -> bool {
        match &self.kind {
            Kind::Accept(_) | Kind::Connect(..) | Kind::Receive(_) | Kind::Send(_) => true,
            Kind::Open | Kind::Read(_) | Kind::Write(_) | Kind::Sync | Kind::Exists | Kind::OnHelper => false,
        }
    }

    /// The outcome of a completed operation. New descriptors belong to `core`'s driver from here on.
    pub(super) fn finish(self, result: io::Result<u32>, core: &Core) -> Outcome {
        match self.kind {
            Kind::Open => Outcome::Opened(result.map(|fd| core.own(file_handle(raw(fd))))),
            Kind::Read(buffer) | Kind::Receive(buffer) => {
                Outcome::Read(result.map(|count| count as usize), buffer)
            }
            Kind::Write(slices) | Kind::Send(slices) => {
                Outcome::Written(result.map(|count| count as usize), slices)
            }
            Kind::Sync => Outcome::Done(result.map(drop)),
            Kind::Exists => Outcome::Answered(match result {
                Ok(_) => Ok(Answer::Exists(true)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Answer::Exists(false)),
                Err(error) => Err(error),
            }),
            Kind::Accept(address) => Outcome::Connected(result.and_then(|fd| {
                // SAFETY: the kernel has just made this descriptor for us.
                let socket = unsafe { OwnedFd::from_raw_fd(raw(fd)) };
                let peer = address.decode()?;
                connection(socket, peer, core)
            })),
            Kind::Connect(socket, peer) => {
                Outcome::Connected(result.and_then(|_| connection(socket, peer, core)))
            }
            Kind::OnHelper => unreachable!("the helper's answer is the outcome"),
        }
    }
}

fn connection(socket: OwnedFd, peer: SocketAddr, core: &Core) -> io::Result<Connection> {
    let local = system::local_address(&socket)?;
    let handle = core.own(socket_handle(socket.into_raw_fd()));
    Ok(Connection { handle, peer, local })
}

fn open_flags(options: OpenOptions) -> i32 {
    let OpenOptions {
        read,
        write,
        create,
        create_new,
        truncate,
        direct,
    } = options;
    let mut flags = match (read, write) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    for (wanted, flag) in [
        (create, libc::O_CREAT),
        (create_new, libc::O_CREAT | libc::O_EXCL),
        (truncate, libc::O_TRUNC),
        (direct, libc::O_DIRECT),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    flags | libc::O_CLOEXEC
}

fn fd(handle: &Handle) -> types::Fd {
    types::Fd(descriptor(handle.id()))
}

fn raw(fd: u32) -> RawFd {
    RawFd::try_from(fd).expect("a descriptor fits")
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len().min(BYTES_MAX)).expect("bounded just now")
}

/// The only slice that is not empty, if there is one alone.
fn only_part(slices: &[Slice]) -> Option<&Slice> {
    let mut parts = slices.iter().filter(|slice| !slice.is_empty());
    parts.next().filter(|_| parts.next().is_none())
}

fn vectors(slices: &[Slice]) -> Box<[libc::iovec]> {
    (slices.iter().filter(|slice| !slice.is_empty()))
        .take(SLICES_MAX)
        .map(|slice| libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(),
            iov_len: slice.len(),
        })
        .collect()
}
