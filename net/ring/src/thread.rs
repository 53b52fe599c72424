//! Ring threads: real and pinned, or simulated when the caller is.

use std::future::Future;
use std::io;
use std::path::PathBuf;

use crate::channel::Awaited;
use crate::core;
use crate::driver::ThreadMain;
use crate::uring;

/// How to start a thread.
#[derive(Debug, Clone, Default)]
pub struct ThreadOptions {
    /// Its name (at most 15 bytes are shown by the kernel).
    pub name: String,
    /// The CPU to pin it to. `None`: not pinned. Ignored by the simulator.
    pub cpu: Option<usize>,
    /// The hard budget of all its buffer pools, in bytes.
    pub memory_bytes: usize,
    /// Whether the process has all of it before the thread runs. Ignored by the simulator.
    pub prefault: bool,
    /// Directories on disks of their own: what may block on what is below one waits for no other. Ignored by the simulator.
    pub disks: Vec<PathBuf>,
}

/// Starts a thread that runs `main` and everything it spawns, until `main` returns; then what is left is cancelled,
/// operations in flight are waited for, and the thread ends. A real thread gets an io_uring and a helper thread of its
/// own, and one more for each of its disks; a caller that is simulated gets a simulated thread in the same simulated process.
///
/// A panic in a task aborts the process: a half-alive thread would serve half of its partitions.
///
/// # Errors
/// Where io_uring is missing or blocked: what was missing, the kernel's version, and the setting to change. Nothing is
/// running then. [`io::ErrorKind::OutOfMemory`] if it is to have its memory at once, and the system does not give that.
pub fn spawn<F, Fut>(options: ThreadOptions, main: F) -> io::Result<ThreadHandle>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let main: ThreadMain = Box::new(move || Box::pin(main()));
    match core::try_current() {
        Some(core) => core.driver().spawn_thread(options, main),
        None => uring::spawn_thread(options, main),
    }
}

/// The CPUs that the calling thread may run on, by number, ascending: what taskset, a container or a pinned parent left it.
pub fn allowed_cpus() -> Vec<usize> {
    uring::allowed_cpus()
}

/// A started thread.
pub struct ThreadHandle {
    ended: Awaited<()>,
}

impl ThreadHandle {
    /// `ended` is answered, or its answer dropped, when the thread has ended.
    pub(crate) fn new(ended: Awaited<()>) -> ThreadHandle {
        ThreadHandle { ended }
    }

    /// Waits for the thread's end; for ring threads and simulated ones.
    pub async fn ended(self) {
        // A dropped answer is a simulated thread that was killed: it has ended as well.
        let _ = self.ended.await;
    }

    /// Blocks an ordinary thread until the ring thread has ended.
    pub fn join_blocking(self) {
        let _ = self.ended.wait_blocking();
    }
}
