//! The ring itself: set-up, probe, submission, waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::{Builder, IoUring, Probe, opcode, types};

use super::wake::Wake;
use crate::operation::Slot;

/// Entries of the submission queue. More than one turn's worth: a batch is 128 polls of tasks that submit one or two.
const SUBMISSION_ENTRIES: u32 = 512;
/// Entries of the completion queue. What does not fit waits in the kernel (IORING_FEAT_NODROP), at a cost.
const COMPLETION_ENTRIES: u32 = 8192;
/// Kernel workers for file operations that had to block, and for the rest. As many as keep a disk busy with single blocks: a
/// start asks about many files, and waits for their directories to be read. While a shard serves, hardly anything blocks.
const WORKERS_MAX: [u32; 2] = [16, 2];
/// So many more for each disk of its own: all of them may be waiting for one that stands still, and the others go on. More than a
/// log asks of the kernel at a time, of what may block.
const WORKERS_PER_DISK: u32 = 48;

/// What a completion's user data means when it is not a slot.
const WOKEN: u64 = u64::MAX;
const CLOSED: u64 = u64::MAX - 1;
const CANCELLED: u64 = u64::MAX - 2;

/// Every operation that this driver uses, with the kernel that brought it.
const NEEDED: [(u8, &str, &str); 13] = [
    (opcode::OpenAt::CODE, "IORING_OP_OPENAT", "5.6"),
    (opcode::Read::CODE, "IORING_OP_READ", "5.6"),
    (opcode::Write::CODE, "IORING_OP_WRITE", "5.6"),
    (opcode::Writev::CODE, "IORING_OP_WRITEV", "5.1"),
    (opcode::Statx::CODE, "IORING_OP_STATX", "5.6"),
    (opcode::Fsync::CODE, "IORING_OP_FSYNC", "5.1"),
    (opcode::Close::CODE, "IORING_OP_CLOSE", "5.6"),
    (opcode::Accept::CODE, "IORING_OP_ACCEPT", "5.5"),
    (opcode::Connect::CODE, "IORING_OP_CONNECT", "5.5"),
    (opcode::Recv::CODE, "IORING_OP_RECV", "5.6"),
    (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG", "5.3"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
];

/// One io_uring.
pub(super) struct Ring {
    uring: IoUring,
    /// Entries that found the submission queue full and the kernel unwilling, in order. Bounded by the operations in
    /// flight and their cancellations.
    backlog: VecDeque<Entry>,
    /// Where the kernel puts the eventfd's count.
    wake_count: Box<u64>,
}

/// One thing that the kernel has finished.
pub(super) enum Completion {
    Operation { slot: Slot, result: io::Result<u32> },
    Closed,
    Woken,
}

impl Ring {
    /// A ring for the calling thread, which alone may use it; its kernel workers run on `cpu`, and wait for so many disks beside
    /// the first.
    pub(super) fn new(cpu: Option<usize>, disks: usize) -> io::Result<Ring> {
        let uring = set_up().map_err(|error| explain_set_up(&error))?;
        let mut probe = Probe::new();
        let missing = match uring.submitter().register_probe(&mut probe) {
            Ok(()) => missing_features(&uring, |code| probe.is_supported(code)),
            Err(_) => vec!["IORING_REGISTER_PROBE (Linux 5.6)".to_owned()],
        };
        if !missing.is_empty() {
            return Err(explain_missing(&missing));
        }
        // Both are limits, not needs: kernels before 5.15 and 5.14 do without.
        let [files, others] = WORKERS_MAX;
        let mut workers = [files + WORKERS_PER_DISK * disks as u32, others];
        let _ = uring.submitter().register_iowq_max_workers(&mut workers);
        if let Some(cpu) = cpu {
            let _ = uring.submitter().register_iowq_aff(&super::system::cpu_set(cpu));
        }
        Ok(Ring {
            uring,
            backlog: VecDeque::new(),
            wake_count: Box::new(0),
        })
    }

    /// Queues an operation's entry; it reaches the kernel in the next turn.
    ///
    /// # Safety
    /// What the entry points at stays valid until its completion has been taken.
    pub(super) unsafe fn submit(&mut self, slot: Slot, entry: Entry) {
        self.push(entry.user_data(slot.0 as u64));
    }

    /// Asks the kernel to end an operation early.
    pub(super) fn cancel(&mut self, slot: Slot) {
        self.push(
            opcode::AsyncCancel::new(slot.0 as u64)
                .build()
                .user_data(CANCELLED),
        );
    }

    /// Closes a descriptor that no operation uses.
    pub(super) fn close(&mut self, fd: RawFd) {
        self.push(opcode::Close::new(types::Fd(fd)).build().user_data(CLOSED));
    }

    /// Reads the eventfd, to hear of the next poke. Called again after each [`Completion::Woken`].
    pub(super) fn watch(&mut self, wake: &Wake) {
        let count = (&raw mut *self.wake_count).cast();
        let read = opcode::Read::new(types::Fd(wake.descriptor()), count, 8).build();
        self.push(read.user_data(WOKEN));
    }

    /// Gives the kernel what is queued, waits for a completion if told to, at most `timeout`, and takes what has
    /// completed. No system call if there is nothing to say and nothing to wait for.
    pub(super) fn turn(&mut self, wait: bool, timeout: Option<Duration>, completions: &mut Vec<Completion>) {
        self.take_backlog();
        let wait = wait && self.uring.completion().is_empty() && self.backlog.is_empty();
        let queue = self.uring.submission();
        let must_enter = wait || !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if must_enter {
            let entered = match timeout {
                Some(timeout) if wait => {
                    let timeout = types::Timespec::from(timeout);
                    let arguments = types::SubmitArgs::new().timespec(&timeout);
                    self.uring.submitter().submit_with_args(1, &arguments)
                }
                _ => self.uring.submit_and_wait(usize::from(wait)),
            };
            if let Err(error) = entered {
                check_enter(&error);
            }
        }
        completions.extend(self.uring.completion().filter_map(|entry| {
            let result = match entry.result() {
                error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
                result => Ok(result.unsigned_abs()),
            };
            match entry.user_data() {
                WOKEN => Some(Completion::Woken),
                CLOSED => Some(Completion::Closed),
                CANCELLED => None,
                slot => Some(Completion::Operation {
                    slot: Slot(usize::try_from(slot).expect("user data is what we put there")),
                    result,
                }),
            }
        }));
    }

    fn push(&mut self, entry: Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn take_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Puts an entry into the submission queue; if it is full, hands it to the kernel first.
    fn try_push(&mut self, entry: &Entry) -> bool {
        if self.uring.submission().is_full()
            && let Err(error) = self.uring.submit()
        {
            check_enter(&error);
        }
        // SAFETY: `submit`'s caller answers for operations; a cancel and a close point at nothing; the eventfd's
        // read points at `wake_count`, which lives as long as the ring.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }
}

/// EINTR: a signal. ETIME: the timeout. EAGAIN: no memory for more requests now. EBUSY: completions must be taken
/// first. After each the next turn carries on; anything else is a mistake of ours.
fn check_enter(error: &io::Error) {
    let code = error.raw_os_error();
    let passing = matches!(code, Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY));
    assert!(passing, "io_uring_enter failed: {error}");
}

/// The best set-up that this kernel knows. DEFER_TASKRUN (6.1): completions are worked off when this thread enters the
/// kernel, not whenever they happen. COOP_TASKRUN (5.19): at any entry, but without interrupting.
fn set_up() -> io::Result<IoUring> {
    type SetUp = fn(&mut Builder) -> &mut Builder;
    const SET_UPS: [SetUp; 4] = [
        |builder| {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
        },
        |builder| {
            builder
                .setup_single_issuer()
                .setup_coop_taskrun()
                .setup_taskrun_flag()
        },
        |builder| builder.setup_coop_taskrun().setup_taskrun_flag(),
        |builder| builder,
    ];
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for set_up in SET_UPS {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(COMPLETION_ENTRIES);
        set_up(&mut builder);
        match builder.build(SUBMISSION_ENTRIES) {
            Ok(uring) => return Ok(uring),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn missing_features(uring: &IoUring, is_supported: impl Fn(u8) -> bool) -> Vec<String> {
    let features = [
        (uring.params().is_feature_nodrop(), "IORING_FEAT_NODROP", "5.5"),
        (uring.params().is_feature_ext_arg(), "IORING_FEAT_EXT_ARG", "5.11"),
    ];
    let opcodes = NEEDED.map(|(code, name, since)| (is_supported(code), name, since));
    (features.into_iter().chain(opcodes))
        .filter(|(supported, ..)| !supported)
        .map(|(_, name, since)| format!("{name} (Linux {since})"))
        .collect()
}

fn explain_missing(missing: &[String]) -> io::Error {
    let what = missing.join(", ");
    let kernel = super::system::kernel_version();
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "io_uring lacks {what} on this host (kernel {kernel}): run Linux 5.15 or later, 6.1 for full speed"
        ),
    )
}

/// What to change when io_uring_setup(2) is refused.
fn explain_set_up(error: &io::Error) -> io::Error {
    let setting = "/proc/sys/kernel/io_uring_disabled";
    #[expect(
        clippy::disallowed_methods,
        reason = "a few bytes of /proc while the thread is being set up"
    )]
    let disabled = std::fs::read(setting).ok();
    let disabled = disabled.as_deref().map(<[u8]>::trim_ascii);
    let advice = match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(b"1")) => {
            "kernel.io_uring_disabled is 1: set it to 0 (`sysctl kernel.io_uring_disabled=0`), or put this user into \
             the group of kernel.io_uring_group"
        }
        (Some(libc::EPERM), Some(b"2")) => {
            "kernel.io_uring_disabled is 2: set it to 0 (`sysctl kernel.io_uring_disabled=0`)"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a container's seccomp profile or a security module blocks io_uring: allow io_uring_setup, \
             io_uring_enter and io_uring_register (Docker: `--security-opt seccomp=PROFILE`, or `=unconfined` to try; \
             Kubernetes: `seccompProfile`)"
        }
        (Some(libc::ENOSYS), _) => {
            "the kernel is built without io_uring (CONFIG_IO_URING), or a seccomp profile hides io_uring_setup, \
             io_uring_enter and io_uring_register: allow them"
        }
        (Some(libc::ENOMEM), _) => {
            "too little memory may be locked: raise `ulimit -l` (LimitMEMLOCK= in systemd)"
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "too many open files: raise `ulimit -n` (LimitNOFILE= in systemd)"
        }
        _ => "run Linux 5.15 or later, 6.1 for full speed",
    };
    let kernel = super::system::kernel_version();
    io::Error::new(
        error.kind(),
        format!("io_uring_setup was refused ({error}) on kernel {kernel}: {advice}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_opcode_is_named_with_its_kernel() {
        let uring = IoUring::new(2).unwrap();
        let missing = missing_features(&uring, |code| code != opcode::SendMsg::CODE);
        assert_eq!(missing, ["IORING_OP_SENDMSG (Linux 5.3)"]);
        let text = explain_missing(&missing).to_string();
        assert!(text.contains("IORING_OP_SENDMSG"), "{text}");
        assert!(text.contains(&super::super::system::kernel_version()), "{text}");
    }

    #[test]
    fn a_refused_set_up_says_what_to_change() {
        for (code, advice) in [
            (libc::EPERM, "seccomp"),
            (libc::ENOSYS, "CONFIG_IO_URING"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EINVAL, "Linux 5.15"),
        ] {
            let text = explain_set_up(&io::Error::from_raw_os_error(code)).to_string();
            assert!(text.contains(advice), "{text}");
        }
    }
}
