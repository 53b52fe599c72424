//! Receives frames into pooled memory, copying little.
//!
//! Small frames share a receive buffer and are slices of it, unless so little came that a copy is cheaper than the
//! page. A longer frame gets a buffer of its own, taken once its length was checked, and is received right into it; only
//! what came along with its length is copied.
//!
//! Promises on memory: a connection holds at most one receive buffer that no whole frame is in. Buffers of more than a
//! page are taken from the first quarter of the pool only, so that pages for everybody remain (see `Pools`).

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use ring::buffer::{Buffer, OutOfBudget, PAGE_SIZE, Pool, PoolUsage, Slice};
use ring::clock::{self, Instant};
use ring::socket::TcpStream;
use wire::LENGTH_PREFIX_BYTES;

use crate::framing::{FrameError, Head, RECEIVE_BUFFER_BYTES_MAX, Sizing, head, long_frame_capacity};

/// Frames of one receive that are no more than this together are copied out, in bytes: a waiting request, such as a long
/// poll, then holds what it is, not a page.
const COPY_BYTES_MAX: usize = 1_024;

/// The memory that connections receive into.
///
/// Of the receive pool's pages a quarter is for connections (one each), a quarter for the first request in flight of
/// each, a quarter for further requests in flight, a quarter for buffers larger than a page. The limits of a listener
/// are cut to that, so that a page is there for every receive.
#[derive(Clone)]
pub(crate) struct Pools {
    receive: Pool,
    long_frames: Pool,
    /// How many frames wait for memory.
    waiting: Rc<Cell<usize>>,
}

impl Pools {
    /// Both in bytes, whole pages.
    pub(crate) fn new(receive_bytes: usize, long_frame_bytes: usize) -> Result<Pools, OutOfBudget> {
        assert!(receive_bytes >= PAGE_SIZE && long_frame_bytes.is_multiple_of(PAGE_SIZE));
        Ok(Pools {
            receive: Pool::new("receive", receive_bytes)?,
            long_frames: Pool::new("long frames", long_frame_bytes)?,
            waiting: Rc::default(),
        })
    }

    /// What is taken of both.
    pub(crate) fn usage(&self) -> [PoolUsage; 2] {
        [self.receive.usage(), self.long_frames.usage()]
    }

    /// Whether a long frame waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.get() > 0
    }

    /// A buffer of one page.
    pub(crate) async fn page(&self) -> Buffer {
        let page = self.receive.take(PAGE_SIZE).await;
        page.expect("the receive pool has a page")
    }

    /// A buffer to be shared by small frames, if there is plenty.
    fn several_pages(&self, bytes: usize) -> Option<Buffer> {
        let plenty = self.receive.bytes_left() >= self.receive.bytes() / 4 * 3 + bytes;
        if plenty && bytes <= RECEIVE_BUFFER_BYTES_MAX {
            self.receive.try_take(bytes).ok()
        } else {
            None
        }
    }

    async fn long(&self, bytes: usize) -> Buffer {
        let bytes = long_frame_capacity(bytes, self.long_frames.bytes());
        if let Ok(buffer) = self.long_frames.try_take(bytes) {
            return buffer;
        }
        let _waiting = Waiting::new(&self.waiting);
        let buffer = self.long_frames.take(bytes).await;
        buffer.expect("a frame's length was compared with the pool")
    }
}

/// Counts a frame that waits.
struct Waiting<'a>(&'a Cell<usize>);

impl Waiting<'_> {
    fn new(count: &Cell<usize>) -> Waiting<'_> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// When bytes moved on a connection, for those who watch over it.
pub(crate) struct Progress {
    /// The last time.
    pub(crate) moved: Cell<Instant>,
    /// When the long frame began that is being received.
    pub(crate) long_frame_since: Cell<Option<Instant>>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress {
            moved: Cell::new(clock::now()),
            long_frame_since: Cell::new(None),
        }
    }
}

/// Why no further frame comes.
#[derive(Debug)]
pub(crate) enum End {
    /// The other side closed, or we shut down the reading.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// What came is no frame.
    Refused(FrameError),
}

/// See the module.
pub(crate) struct FrameReader {
    stream: TcpStream,
    pools: Pools,
    frame_bytes_max: usize,
    progress: Rc<Progress>,
    sizing: Sizing,
    /// Whole frames. Those of one receive: it is empty before the next.
    ready: VecDeque<Slice>,
    rest: Rest,
    /// Comes after the frames before it.
    refused: Option<FrameError>,
}

/// The bytes after the last whole frame.
enum Rest {
    None,
    /// They are the first of a buffer in which what they begin has room.
    Within(Buffer, usize),
    /// They are here, and need so many bytes in all.
    Apart(Slice, usize),
}

impl FrameReader {
    /// Reads frames of at most `frame_bytes_max` bytes, which the long-frame pool must have.
    pub(crate) fn new(
        stream: TcpStream,
        pools: Pools,
        frame_bytes_max: usize,
        progress: Rc<Progress>,
    ) -> FrameReader {
        assert!(frame_bytes_max <= pools.long_frames.bytes());
        FrameReader {
            stream,
            pools,
            frame_bytes_max,
            progress,
            sizing: Sizing::new(),
            ready: VecDeque::new(),
            rest: Rest::None,
            refused: None,
        }
    }

    /// The next frame, without its length prefix.
    pub(crate) async fn next(&mut self) -> Result<Slice, End> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(frame);
            }
            if let Some(error) = self.refused {
                return Err(End::Refused(error));
            }
            let (buffer, filled) = match std::mem::replace(&mut self.rest, Rest::None) {
                Rest::None => (self.receive_buffer().await, 0),
                Rest::Within(buffer, filled) => (buffer, filled),
                Rest::Apart(bytes, wanted) => match self.shared_place(wanted).await {
                    Some(mut buffer) => {
                        buffer[..bytes.len()].copy_from_slice(&bytes);
                        (buffer, bytes.len())
                    }
                    None => return self.long_frame(bytes, wanted).await,
                },
            };
            let capacity = buffer.capacity();
            let (received, buffer) = self.receive(buffer, filled..capacity).await;
            let filled = filled + received?;
            self.cut(buffer, filled);
        }
    }

    async fn receive_buffer(&self) -> Buffer {
        let bytes = self.sizing.next();
        if bytes > PAGE_SIZE
            && let Some(buffer) = self.pools.several_pages(bytes)
        {
            return buffer;
        }
        self.pools.page().await
    }

    /// A receive buffer of at least `wanted` bytes; none if it must be a long frame's.
    async fn shared_place(&self, wanted: usize) -> Option<Buffer> {
        let bytes = wanted.next_multiple_of(PAGE_SIZE).max(self.sizing.next());
        if bytes > PAGE_SIZE
            && let Some(buffer) = self.pools.several_pages(bytes)
        {
            return Some(buffer);
        }
        if wanted > PAGE_SIZE {
            return None;
        }
        Some(self.pools.page().await)
    }

    /// Finds the frames in the first `filled` bytes of `buffer`, and puts what is left where it can go on.
    fn cut(&mut self, mut buffer: Buffer, filled: usize) {
        let capacity = buffer.capacity();
        let (end, part) = self.whole_frames_end(&buffer[..filled]);
        if end == 0 && (part <= capacity || self.refused.is_some()) {
            self.rest = Rest::Within(buffer, filled);
            return;
        }
        self.sizing.observe(capacity, filled);
        if part > RECEIVE_BUFFER_BYTES_MAX {
            self.sizing.long_frame();
        }
        let rest = end..filled;
        let stays = part <= capacity && (!rest.is_empty() || self.sizing.next() >= capacity);
        if end <= COPY_BYTES_MAX && stays {
            each_frame(&buffer[..end], |frame| {
                self.ready.push_back(Slice::from(buffer[frame].to_vec()));
            });
            buffer.copy_within(rest.clone(), 0);
            self.rest = Rest::Within(buffer, rest.len());
            return;
        }
        let bytes = buffer.freeze(0..filled);
        each_frame(&bytes[..end], |frame| {
            self.ready.push_back(if end <= COPY_BYTES_MAX {
                Slice::from(bytes[frame].to_vec())
            } else {
                bytes.slice(frame)
            });
        });
        if !rest.is_empty() {
            self.rest = Rest::Apart(bytes.slice(rest), part);
        }
    }

    /// Where the whole frames end, and how many bytes what follows them wants.
    fn whole_frames_end(&mut self, bytes: &[u8]) -> (usize, usize) {
        let mut end = 0;
        loop {
            match head(bytes, end, self.frame_bytes_max) {
                Ok(Head::Whole(frame)) => end = frame.end,
                Ok(Head::Part(wanted)) => return (end, wanted),
                Err(error) => {
                    self.refused = Some(error);
                    return (end, 0);
                }
            }
        }
    }

    /// Receives a frame into a buffer of its own. `bytes` are its first, `wanted` is its size with the prefix.
    async fn long_frame(&mut self, bytes: Slice, wanted: usize) -> Result<Slice, End> {
        let length = wanted - LENGTH_PREFIX_BYTES;
        let mut buffer = self.pools.long(length).await;
        let body = &bytes[LENGTH_PREFIX_BYTES..];
        buffer[..body.len()].copy_from_slice(body);
        let mut filled = body.len();
        drop(bytes);
        self.progress.long_frame_since.set(Some(clock::now()));
        while filled < length {
            let (received, returned) = self.receive(buffer, filled..length).await;
            filled += received?;
            buffer = returned;
        }
        self.progress.long_frame_since.set(None);
        Ok(buffer.freeze(0..length))
    }

    async fn receive(&self, buffer: Buffer, range: Range<usize>) -> (Result<usize, End>, Buffer) {
        let (result, buffer) = self.stream.receive(buffer, range).await;
        let result = match result {
            Ok(0) => Err(End::Closed),
            Ok(bytes) => {
                self.progress.moved.set(clock::now());
                Ok(bytes)
            }
            Err(error) => Err(End::Broken(error)),
        };
        (result, buffer)
    }
}

/// The places of the frames that `bytes`, which are whole frames, hold.
fn each_frame(bytes: &[u8], mut with: impl FnMut(Range<usize>)) {
    let mut at = 0;
    while let Ok(Head::Whole(frame)) = head(bytes, at, usize::MAX) {
        at = frame.end;
        with(frame);
    }
}
