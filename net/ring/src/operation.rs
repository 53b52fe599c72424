//! What a driver is asked to do, and how a task waits for it.
//!
//! An [`Operation`] owns all that it touches until it has ended; its [`Outcome`] gives it back. So a dropped future
//! never leaves the kernel, or a simulated disk, with memory that somebody else uses by then.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::buffer::{Buffer, Slice};
use crate::core::Core;
use crate::directory::{Alignment, Entry, Volume};
use crate::driver::Handle;
use crate::file::{Allocate, Durability, OpenOptions};

/// The most slices that one write or send takes (IOV_MAX). What is beyond is left for the next call.
pub(crate) const SLICES_MAX: usize = 1024;

/// One request to a driver. After each kind: the outcome it must end with.
pub(crate) enum Operation {
    /// open(2), close-on-exec. [`Outcome::Opened`].
    Open { path: PathBuf, options: OpenOptions },
    /// pread(2); may be short. [`Outcome::Read`].
    Read {
        file: Rc<Handle>,
        buffer: Buffer,
        range: Range<usize>,
        offset: u64,
    },
    /// pwritev2(2) of the first [`SLICES_MAX`] slices that are not empty; may be short. [`Outcome::Written`].
    Write {
        file: Rc<Handle>,
        slices: Vec<Slice>,
        offset: u64,
        durability: Durability,
    },
    /// fdatasync(2), or fsync(2) when `metadata`. [`Outcome::Done`].
    Sync { file: Rc<Handle>, metadata: bool },
    /// accept(2), close-on-exec, TCP_NODELAY. [`Outcome::Connected`].
    Accept { listener: Rc<Handle> },
    /// socket(2) and connect(2), close-on-exec, TCP_NODELAY. [`Outcome::Connected`].
    Connect { address: SocketAddr },
    /// recv(2): at least one byte, or 0 at the end. [`Outcome::Read`].
    Receive {
        connection: Rc<Handle>,
        buffer: Buffer,
        range: Range<usize>,
    },
    /// sendmsg(2) of the first [`SLICES_MAX`] slices that are not empty; may be short. [`Outcome::Written`].
    Send {
        connection: Rc<Handle>,
        slices: Vec<Slice>,
    },
    /// Something that may block the caller, so it runs elsewhere. [`Outcome::Answered`].
    Blocking {
        /// The file that the call is about, for those that are about one.
        file: Option<Rc<Handle>>,
        call: Call,
    },
}

/// A call that may block. It can be sent to another thread; its file, if any, travels beside it.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// fallocate(2) of the file. [`Answer::Done`].
    Allocate { range: Range<u64>, mode: Allocate },
    /// ftruncate(2) of the file. [`Answer::Done`].
    SetLength { bytes: u64 },
    /// The file's size. [`Answer::Length`].
    Length,
    /// mkdir -p. [`Answer::Done`].
    CreateAll { path: PathBuf },
    /// The names in a directory, at most so many of them, sorted. [`Answer::Entries`].
    List { path: PathBuf, most: usize },
    /// Whether the name is there. [`Answer::Exists`].
    Exists { path: PathBuf },
    /// rename(2). [`Answer::Done`].
    Rename { from: PathBuf, to: PathBuf },
    /// unlink(2). [`Answer::Done`].
    RemoveFile { path: PathBuf },
    /// rm -r. [`Answer::Done`].
    RemoveAll { path: PathBuf },
    /// fsync(2) of a directory. [`Answer::Done`].
    SyncDirectory { path: PathBuf },
    /// syncfs(2). [`Answer::Done`].
    SyncFileSystem { path: PathBuf },
    /// What O_DIRECT asks for in a directory. [`Answer::Alignment`].
    Alignment { path: PathBuf },
    /// The size of a directory's file system. [`Answer::Volume`].
    Volume { path: PathBuf },
}

impl Call {
    /// Whether the kernel makes it on a worker of its own where it can: many of them wait for the disk together.
    pub(crate) fn is_for_the_kernel(&self) -> bool {
        matches!(self, Call::Exists { .. })
    }

    /// The path that it is about; none, if it comes with a file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Call::Allocate { .. } | Call::SetLength { .. } | Call::Length => None,
            Call::CreateAll { path }
            | Call::List { path, .. }
            | Call::Exists { path }
            | Call::RemoveFile { path }
            | Call::RemoveAll { path }
            | Call::SyncDirectory { path }
            | Call::SyncFileSystem { path }
            | Call::Alignment { path }
            | Call::Volume { path } => Some(path),
            Call::Rename { to, .. } => Some(to),
        }
    }
}

/// What a [`Call`] found.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Exists(bool),
    Length(u64),
    Entries(Vec<Entry>),
    Alignment(Alignment),
    Volume(Volume),
}

/// How an operation ended, and its resources.
pub(crate) enum Outcome {
    Opened(io::Result<Handle>),
    Connected(io::Result<Connection>),
    /// Bytes read or received, and the buffer.
    Read(io::Result<usize>, Buffer),
    /// Bytes written or sent, and the slices, unchanged.
    Written(io::Result<usize>, Vec<Slice>),
    Done(io::Result<()>),
    Answered(io::Result<Answer>),
}

/// A new connection.
pub(crate) struct Connection {
    pub(crate) handle: Handle,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Takes the first `bytes` bytes off a list of slices.
pub(crate) fn advance(slices: &mut Vec<Slice>, mut bytes: usize) {
    let mut whole = 0;
    for slice in slices.iter_mut() {
        if bytes < slice.len() {
            *slice = slice.slice(bytes..slice.len());
            break;
        }
        bytes -= slice.len();
        whole += 1;
    }
    slices.drain(..whole);
}

/// The number of an operation in flight, of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) usize);

/// The operations in flight of one thread. Their number is bounded by the tasks that wait: each waits for few.
#[derive(Default)]
pub(crate) struct Operations {
    slots: RefCell<Slab<State>>,
}

enum State {
    Waiting(Option<Waker>),
    /// The future was dropped first.
    Abandoned,
    Ended(Outcome),
}

impl Operations {
    /// Those whose completion is still to come.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots
            .borrow()
            .iter()
            .filter(|(_, state)| !matches!(state, State::Ended(_)))
            .count()
    }

    pub(crate) fn reserve(&self) -> Slot {
        Slot(self.slots.borrow_mut().insert(State::Waiting(None)))
    }

    /// Stores the outcome and wakes its task, or drops it when nobody waits.
    pub(crate) fn complete(&self, slot: Slot, outcome: Outcome) {
        let mut slots = self.slots.borrow_mut();
        let state = slots.get_mut(slot.0).expect("a completion names a slot in use");
        match std::mem::replace(state, State::Abandoned) {
            State::Waiting(waker) => {
                *state = State::Ended(outcome);
                drop(slots);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Abandoned => {
                slots.remove(slot.0);
                // The outcome's drop returns buffers and closes handles: the slots must not be borrowed then.
                drop(slots);
                drop(outcome);
            }
            State::Ended(_) => panic!("operation {} ended twice", slot.0),
        }
    }
}

/// Waits for one operation. Dropped before the end, it abandons it.
pub(crate) struct Pending {
    core: Rc<Core>,
    slot: Option<Slot>,
}

impl Pending {
    /// Waits for `slot` of `core`.
    pub(crate) fn new(core: Rc<Core>, slot: Slot) -> Pending {
        Pending {
            core,
            slot: Some(slot),
        }
    }
}

impl Future for Pending {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let slot = self.slot.expect("an operation is not polled after its end");
        let mut slots = self.core.operations().slots.borrow_mut();
        match &mut slots[slot.0] {
            State::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            State::Ended(_) => {
                let State::Ended(outcome) = slots.remove(slot.0) else {
                    unreachable!("matched above");
                };
                drop(slots);
                self.slot = None;
                Poll::Ready(outcome)
            }
            State::Abandoned => unreachable!("a waiting future has not abandoned its slot"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let mut slots = self.core.operations().slots.borrow_mut();
        if matches!(slots[slot.0], State::Ended(_)) {
            let unused = slots.remove(slot.0);
            drop(slots);
            drop(unused);
        } else {
            let waker = std::mem::replace(&mut slots[slot.0], State::Abandoned);
            drop(slots);
            drop(waker);
            self.core.driver().cancel(slot);
        }
    }
}
