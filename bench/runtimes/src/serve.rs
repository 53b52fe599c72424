//! The measured process: one runtime's echo or append, and what it says to the process that started it.
//!
//! Lines on standard output and input. An echo says `ready ADDRESS` and serves until it is ended. An append, again and
//! again: it opens its file and says `ready`; is told `go MILLISECONDS`; writes, and says `done WRITES NANOSECONDS`; and
//! does nothing until it is told `next`. Both end with their parent, which holds the other end of standard input.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Subcommand;

use crate::case::{FLUSH_BYTES, Place, Runtime};

/// What an echo receives at once, at most: the same for all.
pub(crate) const ECHO_BUFFER_BYTES: usize = 64 << 10;
/// How many connections may wait to be accepted.
pub(crate) const BACKLOG: u32 = 128;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    runtime: Runtime,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Echo,
    Append(Appending),
}

/// An append, as its process needs to know it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Appending {
    pub(crate) path: PathBuf,
    /// Where it writes: a new file is made for each window, an old one is there.
    pub(crate) place: Place,
    pub(crate) file_bytes: u64,
    pub(crate) block_bytes: usize,
    pub(crate) in_flight: usize,
}

/// Serves until the parent is gone.
pub(crate) fn run(arguments: Arguments) -> io::Result<Infallible> {
    match arguments.what {
        What::Echo => {
            std::thread::spawn(|| {
                loop {
                    line_of_parent();
                }
            });
            match arguments.runtime {
                Runtime::Ours => crate::ours::echo(),
                Runtime::Glommio => crate::glommio::echo(),
                Runtime::Compio => crate::compio::echo(),
                Runtime::Tokio => crate::tokio::echo(),
            }
        }
        What::Append(appending) => match arguments.runtime {
            Runtime::Ours => crate::ours::append(appending),
            Runtime::Glommio => crate::glommio::append(appending),
            Runtime::Compio => crate::compio::append(appending),
            Runtime::Tokio => crate::tokio::append(appending),
        },
    }
}

/// An echo listens.
pub(crate) fn listening_at(address: SocketAddr) -> io::Result<()> {
    say(&format!("ready {address}"))
}

/// The time in which an append is measured. Its calls block the thread of the runtime, outside that time.
pub(crate) struct Window {
    appending: Appending,
    began: Instant,
    time: Duration,
    next: u64,
    bytes: u64,
}

impl Window {
    /// Waits until the parent begins to measure.
    pub(crate) fn open(appending: &Appending) -> io::Result<Window> {
        say("ready")?;
        let line = line_of_parent();
        let milliseconds = line.strip_prefix("go ").and_then(|rest| rest.parse().ok());
        let milliseconds = milliseconds.ok_or_else(|| io::Error::other(format!("told {line:?}")))?;
        Ok(Window::new(appending, Duration::from_millis(milliseconds)))
    }

    fn new(appending: &Appending, time: Duration) -> Window {
        Window {
            appending: appending.clone(),
            began: Instant::now(),
            time,
            next: 0,
            bytes: 0,
        }
    }

    /// What is to be written before the next fdatasync, at least once; nothing if the time is over, or a new file full.
    pub(crate) fn next_group(&mut self) -> Option<Group> {
        let Appending {
            place, file_bytes, ..
        } = self.appending;
        if self.bytes > 0 && self.began.elapsed() >= self.time {
            return None;
        }
        if self.next == file_bytes {
            match place {
                Place::New => return None,
                Place::Old => self.next = 0,
            }
        }
        let bytes = FLUSH_BYTES.min(file_bytes - self.next);
        let group = Group::new(self.next..self.next + bytes, self.appending.block_bytes);
        self.next += bytes;
        self.bytes += bytes;
        Some(group)
    }

    /// Says what was written, and waits until the parent has seen it.
    pub(crate) fn close(self) -> io::Result<()> {
        let nanoseconds = self.began.elapsed().as_nanos();
        let writes = self.bytes / self.appending.block_bytes as u64;
        say(&format!("done {writes} {nanoseconds}"))?;
        line_of_parent();
        Ok(())
    }
}

/// The blocks between two flushes; those in flight take one after the other.
pub(crate) struct Group {
    next: AtomicU64,
    end: u64,
    block_bytes: u64,
}

impl Group {
    fn new(range: Range<u64>, block_bytes: usize) -> Group {
        Group {
            next: AtomicU64::new(range.start),
            end: range.end,
            block_bytes: block_bytes as u64,
        }
    }

    /// Where the next block goes.
    pub(crate) fn take(&self) -> Option<u64> {
        let offset = self.next.fetch_add(self.block_bytes, Ordering::Relaxed);
        (offset < self.end).then_some(offset)
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// The next line; ends the process if there is none any more.
fn line_of_parent() -> String {
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => std::process::exit(0),
        Ok(_) => line.trim_end().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(place: Place, time: Duration) -> Vec<Vec<u64>> {
        let appending = Appending {
            path: PathBuf::new(),
            place,
            file_bytes: 2 * FLUSH_BYTES,
            block_bytes: 8 << 20,
            in_flight: 1,
        };
        let mut window = Window::new(&appending, time);
        let groups = std::iter::from_fn(|| window.next_group());
        let offsets = groups.map(|group| std::iter::from_fn(|| group.take()).map(|at| at >> 20).collect());
        offsets.take(3).collect()
    }

    #[test]
    fn a_new_file_ends_and_old_blocks_begin_again() {
        let long = Duration::from_secs(60);
        assert_eq!(groups(Place::New, long), [[0, 8], [16, 24]]);
        assert_eq!(groups(Place::Old, long), [[0, 8], [16, 24], [0, 8]]);
    }

    #[test]
    fn one_group_is_written_however_short_the_time_is() {
        assert_eq!(groups(Place::Old, Duration::ZERO), [[0, 8]]);
    }
}
