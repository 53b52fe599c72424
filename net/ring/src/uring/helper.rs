//! Helper threads: calls that may block, made beside the ring thread, on its CPU, one after the other on each disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::system;
use super::wake::Wake;
use crate::directory::{Alignment, Entry};
use crate::driver::Poke;
use crate::file::Allocate;
use crate::operation::{Answer, Call, Slot};
use crate::thread::ThreadOptions;

/// All helpers of a ring thread: one, and one more for each of its disks.
pub(super) struct Helpers {
    /// The first is for what is on none of the disks.
    lanes: Vec<Helper>,
    disks: Vec<PathBuf>,
    answers: Arc<Answers>,
    /// The lanes of files that are being opened, by slot, and that are open. Empty without disks.
    opening: RefCell<BTreeMap<usize, usize>>,
    open: RefCell<BTreeMap<RawFd, usize>>,
}

/// The ring thread's side of one.
struct Helper {
    /// Bounded by the ring thread's operations in flight and its open files. `None` once it is being stopped.
    jobs: Option<mpsc::Sender<Job>>,
    /// Files to be closed, which it is not told of yet: to wake it for each costs more than the close.
    closing: RefCell<Vec<OwnedFd>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Call {
        slot: Slot,
        file: Option<RawFd>,
        call: Call,
    },
    Close(Vec<OwnedFd>),
}

/// Answers that the ring thread has not taken yet.
struct Answers {
    list: Mutex<Vec<(Slot, io::Result<Answer>)>>,
    wake: Arc<Wake>,
}

impl Helpers {
    /// Starts the threads, pinned with the ring thread.
    pub(super) fn start(options: &ThreadOptions, wake: Arc<Wake>) -> io::Result<Helpers> {
        let answers = Arc::new(Answers {
            list: Mutex::default(),
            wake,
        });
        let lanes = (0..=options.disks.len()).map(|lane| Helper::start(options, lane, &answers));
        Ok(Helpers {
            lanes: lanes.collect::<io::Result<_>>()?,
            disks: options.disks.clone(),
            answers,
            opening: RefCell::default(),
            open: RefCell::default(),
        })
    }

    /// Makes `call`; its answer comes under `slot`. The caller keeps `file` open until then.
    pub(super) fn call(&self, slot: Slot, file: Option<RawFd>, call: Call) {
        let lane = match (file, call.path()) {
            (Some(file), _) => self.open.borrow().get(&file).copied().unwrap_or(0),
            (None, path) => path.map_or(0, |path| self.lane_of(path)),
        };
        self.lanes[lane].send(Job::Call { slot, file, call });
    }

    /// A file at `path` is being opened under `slot`.
    pub(super) fn opens(&self, slot: Slot, path: &Path) {
        match self.lane_of(path) {
            0 => {}
            lane => drop(self.opening.borrow_mut().insert(slot.0, lane)),
        }
    }

    /// What was done under `slot` has ended; if a file was opened, it is this.
    pub(super) fn opened(&self, slot: Slot, file: Option<RawFd>) {
        if let Some(lane) = self.opening.borrow_mut().remove(&slot.0)
            && let Some(file) = file
        {
            self.open.borrow_mut().insert(file, lane);
        }
    }

    /// Closes a file that no operation uses, after the next [`Helpers::close_files`].
    pub(super) fn close(&self, file: RawFd) {
        let lane = self.open.borrow_mut().remove(&file).unwrap_or(0);
        // SAFETY: the ring thread's last handle of it was just dropped: nobody else closes it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        self.lanes[lane].closing.borrow_mut().push(file);
    }

    /// Has all files closed that are to be.
    pub(super) fn close_files(&self) {
        self.lanes.iter().for_each(Helper::close_files);
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.lock().is_empty()
    }

    pub(super) fn take_answers(&self) -> Vec<(Slot, io::Result<Answer>)> {
        std::mem::take(&mut *self.answers.lock())
    }

    fn lane_of(&self, path: &Path) -> usize {
        let disks = self.disks.iter().enumerate();
        let below = disks.filter(|(_, disk)| path.starts_with(disk));
        // One may be mounted below another.
        let nearest = below.max_by_key(|(_, disk)| disk.as_os_str().len());
        nearest.map_or(0, |(disk, _)| disk + 1)
    }
}

impl Helper {
    fn start(options: &ThreadOptions, lane: usize, answers: &Arc<Answers>) -> io::Result<Helper> {
        let (jobs, queue) = mpsc::channel();
        let (name, cpu) = (format!("{}-help{lane}", options.name), options.cpu);
        let shared = answers.clone();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // The ring thread has been pinned to the same CPU: if this one cannot be, it still does its work.
            let _ = cpu.map(system::pin);
            super::abort_on_panic(&name, || work(&queue, &shared));
        })?;
        Ok(Helper {
            jobs: Some(jobs),
            closing: RefCell::default(),
            thread: Some(thread),
        })
    }

    fn close_files(&self) {
        let files = self.closing.take();
        if !files.is_empty() {
            self.send(Job::Close(files));
        }
    }

    fn send(&self, job: Job) {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        assert!(
            matches!(sent, Some(Ok(()))),
            "the helper works until its ring thread has ended"
        );
    }
}

impl Drop for Helper {
    /// Waits for what is queued, closes included.
    fn drop(&mut self) {
        self.close_files();
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Vec<(Slot, io::Result<Answer>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(queue: &mpsc::Receiver<Job>, answers: &Answers) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Call { slot, file, call } => {
                let answer = make(file, call);
                answers.lock().push((slot, answer));
                answers.wake.poke();
            }
            Job::Close(files) => drop(files),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where the runtime makes these calls"
)]
fn make(file: Option<RawFd>, call: Call) -> io::Result<Answer> {
    let file = || file.expect("a call about a file comes with it");
    let done = match call {
        Call::Allocate { range, mode } => {
            let mode = match mode {
                Allocate::KeepSize => libc::FALLOC_FL_KEEP_SIZE,
                Allocate::Extend => 0,
            };
            let (start, bytes) = (
                offset(range.start)?,
                offset(range.end.saturating_sub(range.start))?,
            );
            // SAFETY: takes no pointers.
            repeat(|| unsafe { libc::fallocate(file(), mode, start, bytes) })
        }
        Call::SetLength { bytes } => {
            let bytes = offset(bytes)?;
            // SAFETY: takes no pointers.
            repeat(|| unsafe { libc::ftruncate(file(), bytes) })
        }
        Call::Length => return system::file_length(file()).map(Answer::Length),
        Call::CreateAll { path } => std::fs::create_dir_all(path),
        Call::List { path, most } => return list(&path, most).map(Answer::Entries),
        Call::Exists { .. } => unreachable!("it is for the kernel"),
        Call::Rename { from, to } => std::fs::rename(from, to),
        Call::RemoveFile { path } => std::fs::remove_file(path),
        Call::RemoveAll { path } => std::fs::remove_dir_all(path),
        Call::SyncDirectory { path } => std::fs::File::open(path)?.sync_all(),
        Call::SyncFileSystem { path } => {
            let directory = std::fs::File::open(path)?;
            // SAFETY: takes no pointers. Not repeated: a flush that failed proves nothing the second time.
            check(unsafe { libc::syncfs(directory.as_raw_fd()) })
        }
        Call::Alignment { path } => {
            let block_bytes = system::direct_alignment(&path)?;
            return Ok(Answer::Alignment(Alignment { block_bytes }));
        }
        Call::Volume { path } => return system::volume(&path).map(Answer::Volume),
    };
    done.map(|()| Answer::Done)
}

fn offset(bytes: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn list(path: &Path, most: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)?.take(most) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        entries.push(Entry {
            name,
            is_directory: metadata.is_dir(),
            bytes: metadata.len(),
        });
    }
    entries.sort();
    Ok(entries)
}

/// How often a call that a signal interrupted is made again.
const TRIES_MAX: usize = 100;

fn repeat(mut call: impl FnMut() -> libc::c_int) -> io::Result<()> {
    let mut result = check(call());
    for _ in 1..TRIES_MAX {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => result = check(call()),
            _ => break,
        }
    }
    result
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
