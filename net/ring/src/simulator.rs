//! A whole cluster in one process: seeded order, virtual time, disks and a network that fail.
//!
//! Deterministic: the same seed and the same program give the same run, event for event. See storage's and broker's
//! simulation tests for use.

use std::future::Future;
use std::time::Duration;

/// How a simulated host's disk misbehaves, and when. Everything is off by default.
#[derive(Debug, Clone, Default)]
pub struct DiskFaults {}

/// A simulated cluster.
pub struct Simulator {}

/// A simulated host: a disk, an address, a clock, and at most one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u16);

impl Simulator {
    /// An empty cluster at virtual time zero.
    pub fn new(seed: u64) -> Simulator {
        let _ = seed;
        todo!()
    }

    /// A new host with an empty disk of `disk_bytes`. Its address is 10.0.0.(id + 1).
    pub fn host(&mut self, disk_bytes: u64) -> HostId {
        let _ = disk_bytes;
        todo!()
    }

    /// Starts the host's process with its first thread.
    pub fn start<F, Fut>(&mut self, host: HostId, memory_bytes: usize, main: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let _ = (host, memory_bytes, main);
        todo!()
    }

    /// Whether the host's process has a thread left.
    pub fn is_running(&self, host: HostId) -> bool {
        let _ = host;
        todo!()
    }

    /// Kills the process: its memory is gone, what it had written completes or not, the disk's cache survives.
    pub fn kill(&mut self, host: HostId) {
        let _ = host;
        todo!()
    }

    /// Cuts the host's power: kills the process, and every sector that was not flushed comes back old, new or
    /// unreadable, each on its own; names, sizes and extents that were not flushed may be gone.
    pub fn power_cut(&mut self, host: HostId) {
        let _ = host;
        todo!()
    }

    /// Runs events until `done` says so (checked after every event) or `limit` of virtual time has passed.
    /// Returns whether `done` was reached.
    pub fn run_until(&mut self, limit: Duration, done: impl FnMut(&Simulator) -> bool) -> bool {
        let _ = (limit, done);
        todo!()
    }
}
