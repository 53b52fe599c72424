//! Waking a ring thread's loop from other threads: an eventfd(2) that the ring reads, written only when the loop
//! sleeps or is about to.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::driver::Poke;

/// See the module.
pub(super) struct Wake {
    /// Blocking, so that the ring's read of it waits.
    event: File,
    asleep: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Wake {
            // SAFETY: a new descriptor that nobody else owns.
            event: unsafe { File::from_raw_fd(fd) },
            asleep: AtomicBool::new(false),
        })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Says that the loop is about to wait, then looks once more whether it is `idle`. Whoever put work into a queue
    /// before this look is seen by it; whoever does so later sees the loop asleep, and writes. (The queues' locks and
    /// the flag's order make one of the two certain.)
    pub(super) fn fall_asleep_if(&self, idle: impl Fn() -> bool) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let asleep = idle();
        if !asleep {
            self.awake();
        }
        asleep
    }

    /// The loop is looking at its queues again.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Poke for Wake {
    fn poke(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Fails only if 2^64 pokes are unread.
            let _ = (&self.event).write_all(&1u64.to_ne_bytes());
        }
    }
}
