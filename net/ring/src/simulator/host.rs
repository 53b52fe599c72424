//! A simulated host: its disk, its clock, and what becomes of the operations on them.
//!
//! The disk itself is a pure model; here its operations get their fate and their time.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::chance::Chance;
use super::disk::{BLOCK_BYTES, Disk, Point};
use super::faults::{DiskCounters, DiskFaults, DiskOperation, Fate, Injection};
use super::names::error;
use super::page::{SECTOR_BYTES, Tear};
use crate::driver::Handle;
use crate::file::Durability;
use crate::operation::{Answer, Call, Connection, Operation, Outcome, SLICES_MAX};

/// The wall clock of every host at virtual time zero: 2026-01-01 00:00 UTC.
const WALL_CLOCK_START_MS: i64 = 1_767_225_600_000;
/// The usual time of a disk operation, in nanoseconds: from, to.
const DISK_NS: (u64, u64) = (15_000, 180_000);
/// The usual time of a flush, in nanoseconds: from, to.
const SYNC_NS: (u64, u64) = (60_000, 900_000);
/// One byte in so many takes a nanosecond: 2 GB/s.
const BYTES_A_NS: u64 = 2;
/// What will become of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) fate: Fate,
    /// For flushes: what they cover.
    pub(super) point: Option<Point>,
    pub(super) ends_at: u64,
}

/// An outcome whose handles are numbers still.
pub(super) enum Finished {
    Opened(io::Result<u64>),
    Connected(io::Result<(u64, SocketAddr, SocketAddr)>),
    Other(Outcome),
}

impl Finished {
    /// The outcome, its handles owned through `own`.
    pub(super) fn into_outcome(self, own: impl FnOnce(u64) -> Handle) -> Outcome {
        match self {
            Finished::Opened(opened) => Outcome::Opened(opened.map(own)),
            Finished::Connected(connected) => {
                Outcome::Connected(connected.map(|(id, peer, local)| Connection {
                    handle: own(id),
                    peer,
                    local,
                }))
            }
            Finished::Other(outcome) => outcome,
        }
    }
}

/// A simulated host.
pub(super) struct Host {
    pub(super) disk: Disk,
    pub(super) faults: DiskFaults,
    pub(super) injections: Vec<Injection>,
    pub(super) counters: DiskCounters,
    pub(super) wall_clock_offset_ms: i64,
    /// No disk operation ends before this moment.
    pub(super) disk_stalled_until: u64,
    /// No thread runs before this moment.
    pub(super) paused_until: u64,
    /// Files and sockets that the process has open, and may have.
    pub(super) descriptors: usize,
    pub(super) descriptors_max: usize,
    pub(super) chance: Chance,
    /// The paths of open files, for faults that are meant for some.
    pub(super) paths: BTreeMap<u64, Rc<str>>,
}

impl Host {
    pub(super) fn new(disk_bytes: u64, chance: Chance) -> Host {
        Host {
            disk: Disk::new(disk_bytes),
            faults: DiskFaults::default(),
            injections: Vec::new(),
            counters: DiskCounters::default(),
            wall_clock_offset_ms: 0,
            disk_stalled_until: 0,
            paused_until: 0,
            descriptors: 0,
            descriptors_max: usize::MAX,
            chance,
            paths: BTreeMap::new(),
        }
    }

    pub(super) fn wall_clock_ms(&self, now: u64) -> i64 {
        let passed = i64::try_from(now / 1_000_000).unwrap_or(i64::MAX);
        WALL_CLOCK_START_MS
            .saturating_add(passed)
            .saturating_add(self.wall_clock_offset_ms)
    }

    /// Closes a file; unknown ones are those of a process that was killed.
    pub(super) fn close(&mut self, file: u64) {
        self.paths.remove(&file);
        self.disk.close(file);
    }

    /// The process is gone.
    pub(super) fn end_process(&mut self, now: u64) {
        self.disk.close_all();
        self.paths.clear();
        self.descriptors = 0;
        self.disk_stalled_until = self.disk_stalled_until.min(now);
        self.paused_until = self.paused_until.min(now);
    }

    /// The power went: what was not flushed is lost, or not. Returns the sectors lost.
    pub(super) fn tear(&mut self, tear: Tear) -> u64 {
        let damage = self.disk.tear(tear, &mut self.chance);
        self.counters.power_cuts += 1;
        self.counters.sectors_lost += damage.sectors_lost;
        self.counters.sectors_unreadable += damage.sectors_unreadable;
        self.counters.stale_pages += damage.stale_pages;
        self.counters.names_lost += damage.names_lost;
        damage.sectors_lost
    }

    /// Whether one more file or socket may be open (EMFILE).
    pub(super) fn check_descriptors(&self) -> io::Result<()> {
        if self.descriptors < self.descriptors_max {
            Ok(())
        } else {
            Err(error(libc::EMFILE))
        }
    }

    /// Decides what will become of an operation that is submitted now.
    pub(super) fn plan(&mut self, now: u64, operation: &Operation) -> Plan {
        let path_of = |file: &Rc<Handle>| match HandleId::of(file.id()) {
            HandleId::File(number) => self.paths.get(&number).cloned(),
            HandleId::Socket(_) => None,
        };
        let (kind, path, bytes) = match operation {
            Operation::Open { path, .. } => (DiskOperation::Name, path.to_str().map(Rc::from), 0),
            Operation::Read { file, range, .. } => (DiskOperation::Read, path_of(file), range.len()),
            Operation::Write { file, slices, .. } => {
                let bytes = slices.iter().take(SLICES_MAX).map(|slice| slice.len()).sum();
                (DiskOperation::Write, path_of(file), bytes)
            }
            Operation::Sync { file, .. } => (DiskOperation::Sync, path_of(file), 0),
            Operation::Blocking { file, call } => {
                let kind = match call {
                    Call::SyncDirectory { .. } | Call::SyncFileSystem { .. } => DiskOperation::Sync,
                    _ => DiskOperation::Name,
                };
                let path = match file {
                    Some(file) => path_of(file),
                    None => call.path().and_then(|path| path.to_str()).map(Rc::from),
                };
                (kind, path, 0)
            }
            _ => unreachable!("the others are the network's"),
        };
        let path = path.as_deref().unwrap_or_default();
        let mut fate = self.faults.fate(kind, path, bytes, &mut self.chance);
        let strikes = |injection: &mut Injection| injection.strikes(kind, path).then_some(injection.errno);
        if let Some(errno) = self.injections.iter_mut().find_map(strikes) {
            fate = Fate::Fails(errno);
        }
        let point = (kind == DiskOperation::Sync).then(|| self.disk.submit_flush());
        let (from, to) = if kind == DiskOperation::Sync {
            SYNC_NS
        } else {
            DISK_NS
        };
        let stall = self.faults.stall_ns(kind, path, &mut self.chance);
        self.counters.stalls += u64::from(stall > 0);
        let usual = self.chance.between(from, to) + bytes as u64 / BYTES_A_NS;
        let ends_at = (now + usual + stall).max(self.disk_stalled_until);
        Plan { fate, point, ends_at }
    }

    /// An operation takes effect and ends. `number` was never used before: it is for a file that is opened.
    pub(super) fn finish(&mut self, operation: Operation, plan: Plan, number: u64) -> Finished {
        let Plan { fate, point, .. } = plan;
        match fate {
            Fate::Good => {}
            Fate::Fails(libc::EAGAIN | libc::EINTR) | Fate::Short(_) => self.counters.disturbances += 1,
            Fate::Fails(_) => self.counters.errors += 1,
            Fate::Lost | Fate::Misdirected => self.counters.lies += 1,
        }
        let failure = match fate {
            Fate::Fails(errno) => Some(errno),
            Fate::Good | Fate::Short(_) | Fate::Lost | Fate::Misdirected => None,
        };
        match operation {
            Operation::Open { path, options } => {
                if let Some(errno) = failure {
                    return Finished::Opened(Err(error(errno)));
                }
                if let Err(refused) = self.check_descriptors() {
                    return Finished::Opened(Err(refused));
                }
                let opened = self.disk.open(number, &path, options);
                self.descriptors += usize::from(opened.is_ok());
                if let Some(path) = path.to_str() {
                    self.paths.insert(number, Rc::from(path));
                }
                Finished::Opened(opened.map(|()| HandleId::File(number).id()))
            }
            Operation::Read {
                file,
                mut buffer,
                range,
                offset,
            } => {
                let result = match failure {
                    Some(errno) => Err(error(errno)),
                    None => self.read(file.id(), &mut buffer[range], offset, fate),
                };
                Finished::Other(Outcome::Read(result, buffer))
            }
            Operation::Write {
                file,
                slices,
                offset,
                durability,
            } => {
                let pieces = &slices[..slices.len().min(SLICES_MAX)];
                let durable = durability == Durability::Durable;
                let result = match failure {
                    Some(errno) => {
                        self.leave_part(file.id(), pieces, offset, errno);
                        Err(error(errno))
                    }
                    None => self.write(file.id(), pieces, offset, durable, fate),
                };
                Finished::Other(Outcome::Written(result, slices))
            }
            Operation::Sync { file, .. } => {
                let (id, point) = (
                    HandleId::of(file.id()).number(),
                    point.expect("a flush has its point"),
                );
                let result = match failure {
                    Some(errno) => {
                        self.disk.fail_sync(id, point);
                        Err(error(errno))
                    }
                    None => self.disk.sync(id, point),
                };
                self.counters.syncs += u64::from(result.is_ok());
                Finished::Other(Outcome::Done(result))
            }
            Operation::Blocking { file, call } => {
                let number = file.as_ref().map_or(0, |file| HandleId::of(file.id()).number());
                let result = match failure {
                    Some(errno) => {
                        self.fail_call(&call, point);
                        Err(error(errno))
                    }
                    None => self.call(number, call, point),
                };
                Finished::Other(Outcome::Answered(result))
            }
            _ => unreachable!("the others are the network's"),
        }
    }

    /// The process died with this in flight: it happens whole, in part, or not at all.
    pub(super) fn leave(&mut self, operation: &Operation, plan: Plan, by_power_cut: bool, number: u64) {
        let Plan { fate, point, .. } = plan;
        if matches!(fate, Fate::Fails(_)) || self.chance.happens(0.4) {
            return;
        }
        match operation {
            Operation::Open { path, options } => {
                // A process that died has no use for the handle, but the file may be made, or cut.
                let _ = self.disk.open(number, path, *options);
            }
            Operation::Write {
                file,
                slices,
                offset,
                durability,
            } => {
                let pieces = &slices[..slices.len().min(SLICES_MAX)];
                let durable = *durability == Durability::Durable && !by_power_cut && self.chance.happens(0.5);
                if self.chance.happens(0.3) {
                    self.leave_part(file.id(), pieces, *offset, libc::EIO);
                } else {
                    let _ = self.write(file.id(), pieces, *offset, durable, Fate::Good);
                }
            }
            Operation::Sync { file, .. } => {
                if let Some(point) = point {
                    let _ = self.disk.sync(HandleId::of(file.id()).number(), point);
                }
            }
            Operation::Blocking { file, call } => {
                let number = file.as_ref().map_or(0, |file| HandleId::of(file.id()).number());
                let _ = self.call(number, call.clone(), point);
            }
            _ => {}
        }
    }

    fn read(&mut self, id: u64, out: &mut [u8], offset: u64, fate: Fate) -> io::Result<usize> {
        let number = HandleId::of(id).number();
        let mut length = out.len();
        if let Fate::Short(bytes) = fate {
            length = self.disk.short_read_length(number, bytes, length);
        }
        let read = self
            .disk
            .read(number, &mut out[..length], offset, &mut self.chance)?;
        self.counters.reads += 1;
        self.counters.bytes_read += read as u64;
        Ok(read)
    }

    fn write<S: AsRef<[u8]>>(
        &mut self,
        id: u64,
        pieces: &[S],
        offset: u64,
        durable: bool,
        fate: Fate,
    ) -> io::Result<usize> {
        let number = HandleId::of(id).number();
        let mut offset = offset;
        let mut length = usize::MAX;
        match fate {
            Fate::Short(bytes) => length = bytes,
            Fate::Lost => {
                self.disk.check_write(number, pieces, offset)?;
                return Ok(pieces.iter().map(|piece| piece.as_ref().len()).sum());
            }
            Fate::Misdirected => {
                let blocks = self.disk.length(number)?.div_ceil(BLOCK_BYTES as u64);
                offset = self.chance.below(blocks.max(1)) * BLOCK_BYTES as u64;
            }
            Fate::Good | Fate::Fails(_) => {}
        }
        let written = self
            .disk
            .write(number, pieces, length, offset, durable, &mut self.chance)?;
        self.counters.writes += 1;
        self.counters.bytes_written += written as u64;
        Ok(written)
    }

    /// A write failed on the way: some of its sectors may be there.
    fn leave_part<S: AsRef<[u8]>>(&mut self, id: u64, pieces: &[S], offset: u64, errno: i32) {
        if errno != libc::EIO || self.chance.happens(0.5) {
            return;
        }
        let whole: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        let length = self.chance.index(whole / SECTOR_BYTES + 1) * SECTOR_BYTES;
        if length > 0 {
            let _ = self.write(id, pieces, offset, false, Fate::Short(length));
        }
    }

    fn call(&mut self, file: u64, call: Call, point: Option<Point>) -> io::Result<Answer> {
        let disk = &mut self.disk;
        let point = || point.expect("a flush has its point");
        match call {
            Call::Allocate { range, mode } => disk.allocate(file, range, mode).map(|()| Answer::Done),
            Call::SetLength { bytes } => disk.set_length(file, bytes).map(|()| Answer::Done),
            Call::Length => disk.length(file).map(Answer::Length),
            Call::CreateAll { path } => disk.create_all(&path).map(|()| Answer::Done),
            Call::List { path, most } => disk.list(&path, most).map(Answer::Entries),
            Call::Exists { path } => disk.exists(&path).map(Answer::Exists),
            Call::Rename { from, to } => disk.rename(&from, &to).map(|()| Answer::Done),
            Call::RemoveFile { path } => disk.remove_file(&path).map(|()| Answer::Done),
            Call::RemoveAll { path } => disk.remove_all(&path).map(|()| Answer::Done),
            Call::SyncDirectory { path } => {
                self.counters.syncs += 1;
                disk.sync_directory(&path, point()).map(|()| Answer::Done)
            }
            Call::SyncFileSystem { path } => {
                self.counters.syncs += 1;
                disk.sync_file_system(&path, point()).map(|()| Answer::Done)
            }
            Call::Alignment { path } => disk.alignment(&path).map(Answer::Alignment),
            Call::Volume { path } => disk.volume(&path).map(Answer::Volume),
        }
    }

    /// A call failed: what a flush should have covered stays undecided.
    fn fail_call(&mut self, call: &Call, point: Option<Point>) {
        let Some(point) = point else { return };
        match call {
            Call::SyncDirectory { path } => self.disk.fail_sync_directory(path, point),
            Call::SyncFileSystem { path } => self.disk.fail_sync_file_system(path, point),
            _ => {}
        }
    }
}

/// What a handle's number stands for: even ones are files, odd ones sockets.
#[derive(Debug, Clone, Copy)]
pub(super) enum HandleId {
    File(u64),
    Socket(u64),
}

impl HandleId {
    pub(super) fn of(id: u64) -> HandleId {
        if id.is_multiple_of(2) {
            HandleId::File(id / 2)
        } else {
            HandleId::Socket(id / 2)
        }
    }

    pub(super) fn id(self) -> u64 {
        match self {
            HandleId::File(number) => number * 2,
            HandleId::Socket(number) => number * 2 + 1,
        }
    }

    pub(super) fn number(self) -> u64 {
        match self {
            HandleId::File(number) | HandleId::Socket(number) => number,
        }
    }
}
