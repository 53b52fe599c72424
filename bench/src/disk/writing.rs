//! The writes of `bench disk`: so many in flight, each at the next offset, until the time is over.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::{PAGE_SIZE, Pool, Slice};
use ring::clock::{self, Instant};
use ring::directory;
use ring::executor::{self, Class};
use ring::file::{Durability, File, OpenOptions};

use super::plan::{Case, Flush, Offsets, Place, block_bytes_max};
use super::table::Answer;
use crate::error::BenchError;
use crate::recorder::histogram;

/// The file that is overwritten.
const OLD: &str = "old";
/// The file that grows.
const NEW: &str = "new";
/// What is not counted at the beginning, where blocks are overwritten.
const WARMUP: Duration = Duration::from_millis(200);

/// A file whose blocks have all been written, and the bytes to write.
pub(super) struct Area {
    place: PathBuf,
    file: File,
    file_bytes: u64,
    bytes: Slice,
}

impl Area {
    /// Writes the file once, and flushes it.
    pub(super) async fn make(place: &Path, file_bytes: u64) -> Result<Area, BenchError> {
        let failed = failed_in(place, "write a file");
        let block_bytes = block_bytes_max();
        let out_of_memory = |error| io::Error::new(io::ErrorKind::OutOfMemory, error);
        let pool = Pool::new("blocks", block_bytes)
            .map_err(out_of_memory)
            .map_err(&failed)?;
        let mut buffer = pool
            .try_take(block_bytes)
            .map_err(out_of_memory)
            .map_err(&failed)?;
        fill(&mut buffer[..block_bytes]);
        let bytes = buffer.freeze(0..block_bytes);
        let file = open_new(place, OLD).await?;
        let area = Area {
            place: place.into(),
            file,
            file_bytes,
            bytes,
        };
        match area.write_once().await {
            Ok(()) => Ok(area),
            Err(error) => {
                area.remove().await?;
                Err(failed(error))
            }
        }
    }

    async fn write_once(&self) -> io::Result<()> {
        let block_bytes = self.bytes.len() as u64;
        for offset in (0..self.file_bytes).step_by(self.bytes.len()) {
            let length = usize::try_from(block_bytes.min(self.file_bytes - offset)).expect("a block at most");
            let slices = vec![self.bytes.slice(0..length)];
            self.file
                .write_all_at(slices, offset, Durability::Completed)
                .await?;
        }
        self.file.sync_all().await
    }

    /// Removes the file.
    pub(super) async fn remove(self) -> Result<(), BenchError> {
        remove(&self.place, OLD).await
    }

    /// Writes as the case says, for so many seconds at most.
    pub(super) async fn ask(&self, case: Case, seconds: u64) -> Result<Answer, BenchError> {
        match case.place {
            Place::Overwrite => self.write(case, &self.file, WARMUP, seconds).await,
            Place::Fresh => {
                let file = open_new(&self.place, NEW).await?;
                let answer = self.write(case, &file, Duration::ZERO, seconds).await;
                drop(file);
                remove(&self.place, NEW).await?;
                answer
            }
        }
    }

    async fn write(
        &self,
        case: Case,
        file: &File,
        warmup: Duration,
        seconds: u64,
    ) -> Result<Answer, BenchError> {
        let from = clock::now() + warmup;
        let writing = Rc::new(Writing {
            case,
            file: file.clone(),
            bytes: self.bytes.slice(0..case.block_bytes),
            offsets: RefCell::new(Offsets::new(&case, self.file_bytes)),
            from,
            to: from + Duration::from_secs(seconds),
            latency_ns: RefCell::new(histogram()),
        });
        let writers: Vec<_> = (0..case.depth)
            .map(|_| executor::spawn(Class::Latency, writing.clone().write_until_the_end()))
            .collect();
        let mut ended = Ok(());
        for writer in writers {
            ended = ended.and(writer.await);
        }
        if case.flush == Flush::AtEnd && ended.is_ok() {
            ended = file.sync_data().await;
        }
        let end = clock::now();
        ended.map_err(failed_in(&self.place, "write"))?;
        let latency_ns = writing.latency_ns.borrow().clone();
        Ok(Answer {
            case,
            seconds: (end - from).as_secs_f64(),
            latency_ns,
        })
    }
}

/// What the writers of a case share.
struct Writing {
    case: Case,
    file: File,
    bytes: Slice,
    offsets: RefCell<Offsets>,
    from: Instant,
    to: Instant,
    latency_ns: RefCell<hdrhistogram::Histogram<u64>>,
}

impl Writing {
    async fn write_until_the_end(self: Rc<Self>) -> io::Result<()> {
        loop {
            let began = clock::now();
            // However slow a disk is, it has one write to show.
            if began >= self.to && !self.latency_ns.borrow().is_empty() {
                return Ok(());
            }
            let Some(offset) = self.offsets.borrow_mut().next() else {
                return Ok(());
            };
            let durability = self.case.flush.of_a_write();
            self.file
                .write_all_at(vec![self.bytes.clone()], offset, durability)
                .await?;
            if self.case.flush == Flush::Fdatasync {
                self.file.sync_data().await?;
            }
            // What was done in the warm-up warms up.
            if began >= self.from {
                let latency_ns = u64::try_from((clock::now() - began).as_nanos()).unwrap_or(u64::MAX);
                self.latency_ns.borrow_mut().saturating_record(latency_ns);
            }
        }
    }
}

async fn open_new(place: &Path, name: &str) -> Result<File, BenchError> {
    let options = OpenOptions {
        read: true,
        write: true,
        create: true,
        truncate: true,
        direct: true,
        ..OpenOptions::default()
    };
    let opened = File::open(&place.join(name), options).await;
    opened.map_err(failed_in(
        place,
        "open a file for direct writes, which a file system in memory may not have,",
    ))
}

async fn remove(place: &Path, name: &str) -> Result<(), BenchError> {
    let removed = directory::remove_file(&place.join(name)).await;
    removed.map_err(failed_in(place, "remove a file"))
}

fn failed_in(place: &Path, doing: &str) -> impl Fn(io::Error) -> BenchError {
    let doing = format!("{doing} in {}", place.display());
    move |error| BenchError::Local {
        doing: doing.clone(),
        error,
    }
}

/// Bytes that no disk makes smaller (xorshift64).
fn fill(bytes: &mut [u8]) {
    debug_assert!(bytes.len().is_multiple_of(PAGE_SIZE));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
}
