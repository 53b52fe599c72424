//! What goes wrong on a simulated disk besides power cuts, and how often it did; and how the network behaves.

use std::time::Duration;

use super::chance::Chance;
use super::network::nanoseconds;
use super::page::SECTOR_BYTES;

/// How a simulated host's disk misbehaves, and when. Everything is off by default: power cuts apart, the disk is good.
/// Probabilities are from 0 to 1, and are drawn anew for each operation.
#[derive(Debug, Clone, Default)]
pub struct DiskFaults {
    /// A read gives EIO; the next may succeed.
    pub read_error: f64,
    /// A write gives EIO, and may have written some of its bytes; the next may succeed.
    pub write_error: f64,
    /// A flush (of a file, a directory or everything) gives EIO. What it should have covered stays undecided for good:
    /// the next flush succeeds without covering it.
    pub sync_error: f64,
    /// Opening, renaming, removing, allocating and the like give EIO, without effect.
    pub name_error: f64,
    /// A read gives fewer bytes than asked for and there.
    pub short_read: f64,
    /// A write takes fewer bytes than asked for.
    pub short_write: f64,
    /// A read or write gives EAGAIN.
    pub would_block: f64,
    /// A read or write gives EINTR.
    pub interrupted: f64,
    /// A write succeeds and has no effect, for good.
    pub lost_write: f64,
    /// A write succeeds and lands in another place of its file, a multiple of 4 KiB before its end.
    pub misdirected_write: f64,
    /// An operation takes up to [`DiskFaults::stall_longest`].
    pub stall: f64,
    /// The longest stall: 10 seconds at most are to be survived.
    pub stall_longest: Duration,
    /// Only operations of this kind stall. None: all.
    pub stall_only: Option<DiskOperation>,
    /// A direct write leaves an older page in the page cache, where buffered reads find it.
    pub stale_buffered_read: f64,
    /// Only what is at a path that contains this has errors, short and interrupted operations, and stalls. Empty: all.
    pub only_paths_with: String,
}

/// Unread bytes that a receiver takes at most, unless told otherwise.
const WINDOW_BYTES: usize = 128 << 10;
/// Delays and habits of the simulated network. The default is a quick network with now and then a slow packet.
#[derive(Debug, Clone)]
pub struct NetworkFaults {
    /// The shortest time that bytes take between two hosts.
    pub delay_shortest: Duration,
    /// The longest time that they usually take.
    pub delay_longest: Duration,
    /// The probability that a packet is slow.
    pub slow: f64,
    /// The longest time that a slow packet takes.
    pub slow_longest: Duration,
    /// The probability that a receive gives only some of the bytes that are there.
    pub short_receive: f64,
    /// The probability that a send takes only some of the bytes that there is room for.
    pub short_send: f64,
    /// Unread bytes that a receiver takes at most, for connections made from now on. At least 1.
    pub window_bytes: usize,
}

impl Default for NetworkFaults {
    fn default() -> NetworkFaults {
        NetworkFaults {
            delay_shortest: Duration::from_micros(20),
            delay_longest: Duration::from_micros(300),
            slow: 0.01,
            slow_longest: Duration::from_millis(20),
            short_receive: 0.1,
            short_send: 0.1,
            window_bytes: WINDOW_BYTES,
        }
    }
}

/// What kind of operation on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOperation {
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
    /// Flushing a file, a directory or the file system.
    Sync,
    /// Everything else: opening, renaming, removing, sizes.
    Name,
}

/// A fault for certain operations to come, instead of by chance.
#[derive(Debug, Clone)]
pub struct Injection {
    /// Which kind.
    pub operation: DiskOperation,
    /// On paths that contain this. Empty: all.
    pub path_contains: String,
    /// So many matching operations go well first.
    pub after: u32,
    /// Then so many fail.
    pub times: u32,
    /// With this error (errno(3)).
    pub errno: i32,
}

/// How often something happened on one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Reads that took effect.
    pub reads: u64,
    /// Writes that took effect.
    pub writes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Flushes that succeeded.
    pub syncs: u64,
    /// Operations that failed by chance or injection.
    pub errors: u64,
    /// Reads and writes that were cut short, interrupted or told to try again.
    pub disturbances: u64,
    /// Writes that succeeded without effect, or in another place.
    pub lies: u64,
    /// Operations that stalled.
    pub stalls: u64,
    /// Times the process was killed, power cuts included.
    pub kills: u64,
    /// Times the power was cut.
    pub power_cuts: u64,
    /// Unflushed sectors that came back old.
    pub sectors_lost: u64,
    /// Unflushed sectors that came back unreadable.
    pub sectors_unreadable: u64,
    /// New pages that came back with what another file had left in them.
    pub stale_pages: u64,
    /// Changes of names that did not survive.
    pub names_lost: u64,
}

/// What shall happen to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    /// It fails with this errno.
    Fails(i32),
    /// It does at most so many bytes.
    Short(usize),
    /// It claims to have succeeded.
    Lost,
    /// It goes to another place.
    Misdirected,
}

impl DiskFaults {
    /// How long the operation is held up besides its usual time, in nanoseconds.
    pub(super) fn stall_ns(&self, operation: DiskOperation, path: &str, chance: &mut Chance) -> u64 {
        let may_stall =
            self.stall_only.is_none_or(|only| only == operation) && path.contains(&self.only_paths_with);
        if !may_stall || self.stall_longest.is_zero() || !chance.happens(self.stall) {
            return 0;
        }
        chance.between(1, nanoseconds(self.stall_longest))
    }

    /// The fate of an operation on `path` that moves `bytes` bytes.
    pub(super) fn fate(
        &self,
        operation: DiskOperation,
        path: &str,
        bytes: usize,
        chance: &mut Chance,
    ) -> Fate {
        if !path.contains(&self.only_paths_with) {
            return Fate::Good;
        }
        let (error, short) = match operation {
            DiskOperation::Read => (self.read_error, self.short_read),
            DiskOperation::Write => (self.write_error, self.short_write),
            DiskOperation::Sync => (self.sync_error, 0.0),
            DiskOperation::Name => (self.name_error, 0.0),
        };
        if chance.happens(error) {
            return Fate::Fails(libc::EIO);
        }
        if !matches!(operation, DiskOperation::Read | DiskOperation::Write) {
            return Fate::Good;
        }
        if chance.happens(self.would_block) {
            return Fate::Fails(libc::EAGAIN);
        }
        if chance.happens(self.interrupted) {
            return Fate::Fails(libc::EINTR);
        }
        if operation == DiskOperation::Write && chance.happens(self.lost_write) {
            return Fate::Lost;
        }
        if operation == DiskOperation::Write && chance.happens(self.misdirected_write) {
            return Fate::Misdirected;
        }
        if bytes > SECTOR_BYTES && chance.happens(short) {
            // Whole sectors, at least one, not all.
            let sectors = bytes.div_ceil(SECTOR_BYTES) - 1;
            return Fate::Short(SECTOR_BYTES * (1 + chance.index(sectors)));
        }
        Fate::Good
    }
}

impl Injection {
    /// Whether it strikes this operation; counts it if so.
    pub(super) fn strikes(&mut self, operation: DiskOperation, path: &str) -> bool {
        if self.times == 0 || operation != self.operation || !path.contains(&self.path_contains) {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}
