//! What a run must not leave behind: its directories, and its brokers. Also when it is told to stop (SIGINT, SIGTERM, SIGHUP).
//!
//! Owns them from the moment they are there. Only ordinary threads are here.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::BenchError;

/// Directories that are tried, until one is new.
const NAMES_MAX: u32 = 1_000;
/// How often a directory is removed that something is still put into.
const REMOVALS_MAX: u32 = 10;
/// What shells add to a signal's number.
const BY_SIGNAL: i32 = 128;

/// What is to be removed. Clones are the same.
#[derive(Clone)]
pub(crate) struct Leftovers {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    children: Vec<Child>,
    directories: Vec<PathBuf>,
}

impl Leftovers {
    /// Nothing yet. From now on, these signals remove what there is and end the process.
    pub(crate) fn watched() -> Result<Leftovers, BenchError> {
        let leftovers = Leftovers { held: Arc::default() };
        let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]);
        let mut signals = signals.map_err(|error| BenchError::Local {
            doing: "take signals".to_owned(),
            error,
        })?;
        let watching = leftovers.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "it blocks for signals, which no ring thread may"
        )]
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // Held to the end: whoever runs waits in `clear`, and prints nothing of what was cut off.
                let mut held = watching.lock();
                eprintln!("bench: stopped; its brokers and its files are removed");
                held.clear();
                std::process::exit(BY_SIGNAL + signal);
            }
        });
        Ok(leftovers)
    }

    /// Makes a new directory in `place`.
    pub(crate) fn directory(&self, place: &Path) -> Result<PathBuf, BenchError> {
        let failed = |error| BenchError::Local {
            doing: format!("make a directory in {}", place.display()),
            error,
        };
        let place = std::path::absolute(place).map_err(failed)?;
        // A signal that comes meanwhile waits, and then removes it.
        let mut held = self.lock();
        let mut number = 0;
        let directory = loop {
            let directory = place.join(format!("millstream-bench-{}-{number}", std::process::id()));
            match std::fs::create_dir(&directory) {
                Ok(()) => break directory,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES_MAX => {
                    number += 1;
                }
                Err(error) => return Err(failed(error)),
            }
        };
        held.directories.push(directory.clone());
        Ok(directory)
    }

    /// Starts a process of ours; `start` does. It is killed, not asked: its data is thrown away.
    pub(crate) fn child(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<u32> {
        let mut held = self.lock();
        let child = start()?;
        let id = child.id();
        held.children.push(child);
        Ok(id)
    }

    /// Whether this process of ours has ended.
    pub(crate) fn has_ended(&self, id: u32) -> bool {
        let mut held = self.lock();
        let child = held.children.iter_mut().find(|child| child.id() == id);
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the processes and removes the directories.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn clear(&mut self) {
        for mut child in self.children.drain(..) {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        for directory in self.directories.drain(..) {
            let is_removed = (0..REMOVALS_MAX).any(|_| match std::fs::remove_dir_all(&directory) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            });
            if !is_removed {
                eprintln!("bench: cannot remove {}: remove it by hand", directory.display());
            }
        }
    }
}

/// However a command ends, nothing is left.
impl Drop for Leftovers {
    fn drop(&mut self) {
        // The thread that watches signals has the other clone.
        if Arc::strong_count(&self.held) <= 2 {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_process_ends_and_the_directory_goes() {
        let leftovers = Leftovers::watched().unwrap();
        let directory = leftovers.directory(&std::env::temp_dir()).unwrap();
        let other = Leftovers::watched().unwrap();
        let second = other.directory(&std::env::temp_dir()).unwrap();
        assert_ne!(directory, second);
        std::fs::create_dir(directory.join("below")).unwrap();
        let started = leftovers.child(|| Command::new("sleep").arg("600").stdin(Stdio::null()).spawn());
        let id = started.unwrap();
        assert!(!leftovers.has_ended(id));
        drop(leftovers);
        assert!(!directory.exists());
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        assert!(second.exists());
        other.clear();
        assert!(!second.exists());
    }
}
