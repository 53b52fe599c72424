//! Files of segments that were removed, kept for the segments that come next: a disk takes more over blocks that a file has
//! than into new ones (decision 18).
//!
//! Owns which are kept, and how many: about as many as the partition begins until segments are removed again, so that the log
//! takes no more of the disk than it would without. What is in such a file is nobody's: nothing is read of a segment but what was
//! written to it. Must never give a file away that somebody still has open, nor put it in the place of another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use ring::directory;

use super::PartitionLog;
use crate::files::{Users, final_path};
use crate::segment::Segment;

/// What the name of such a file ends with; Kafka knows it, and removes what has it at a start.
pub(crate) const SPARE_EXTENSION: &str = "log.deleted";

/// Those of a partition.
#[derive(Default)]
pub(super) struct Spares {
    /// The one that was removed first comes first.
    files: RefCell<VecDeque<Spare>>,
    /// Segments that were begun in files since the last look, and between that and the one before.
    begun: Cell<usize>,
    begun_before: Cell<usize>,
}

/// A file under its spare name.
struct Spare {
    path: PathBuf,
    /// Its blocks.
    bytes: u64,
    /// Of the segment that it was.
    users: Users,
}

impl Spares {
    /// One more than were begun: they are not counted to the moment. None if none was.
    fn most(&self) -> usize {
        match self.begun.get().max(self.begun_before.get()) {
            0 => 0,
            begun => begun + 1,
        }
    }
}

impl PartitionLog {
    /// Keeps the `.log` file of a segment that is removed, if it is of use; nobody may have it open but `users`, and no file of
    /// the partition be made ready. False if it is still there under its name.
    pub(super) async fn keep_spare(&self, segment: &Segment, users: Users) -> bool {
        let partition = &self.partition;
        let spares = &partition.direct.spares;
        let block = u64::from(partition.shared.block_bytes);
        let bytes = u64::from(segment.appended) / block * block;
        // A compacted segment may be at one of two places, and what has no end may be written to.
        let is_fit = segment.generation == 0 && segment.is_sealed && !users.may_come();
        let is_wanted = self.writes_direct()
            && !partition.shared.is_disk_short.get()
            && self.is_long_enough(bytes)
            && spares.files.borrow().len() < spares.most();
        if !is_fit || !is_wanted {
            return false;
        }
        let directory = self.directory();
        let from = final_path(&directory, segment.base_offset, "log");
        let path = final_path(&directory, segment.base_offset, SPARE_EXTENSION);
        if directory::rename(&from, &path).await.is_err() {
            return false;
        }
        let spare = Spare { path, bytes, users };
        spares.files.borrow_mut().push_back(spare);
        true
    }

    /// Gives a segment that begins a file to write over; no other may be made or removed meanwhile. How many bytes
    /// it has: 0 if there is none, or the segment has a file.
    pub(super) async fn take_spare(&self, path: &Path) -> u64 {
        let spares = &self.partition.direct.spares;
        spares.begun.set(spares.begun.get() + 1);
        let is_free = |spare: &Spare| spare.users.are_gone() && self.is_long_enough(spare.bytes);
        let at = spares.files.borrow().iter().position(is_free);
        // Only looked at when there is one: as a rule there is none.
        if at.is_none() || directory::exists(path).await.unwrap_or(true) {
            return 0;
        }
        let Some(spare) = at.and_then(|at| spares.files.borrow_mut().remove(at)) else {
            return 0;
        };
        match directory::rename(&spare.path, path).await {
            Ok(()) => {
                self.partition.shared.reused_segments.add(1);
                spare.bytes
            }
            // The next start removes it, if it is there.
            Err(_) => 0,
        }
    }

    /// A time in which segments are begun is over; what will not be needed in the next goes.
    pub(crate) async fn look_at_spares(&self) {
        let spares = &self.partition.direct.spares;
        spares.begun_before.set(spares.begun.replace(0));
        if spares.files.borrow().len() > spares.most() {
            let _one = self.pause_preparing().await;
            self.remove_spares(spares.most()).await;
        }
    }

    pub(super) fn has_spares(&self) -> bool {
        !self.partition.direct.spares.files.borrow().is_empty()
    }

    /// Removes all but so many. No file of the partition may be made ready meanwhile.
    pub(super) async fn remove_spares(&self, most: usize) {
        loop {
            let spare = {
                let mut files = self.partition.direct.spares.files.borrow_mut();
                if files.len() <= most || self.partition.is_dropped.get() {
                    return;
                }
                files.pop_back()
            };
            if let Some(spare) = spare {
                // What cannot be removed is found by the next start.
                let _ = directory::remove_file(&spare.path).await;
            }
        }
    }

    /// Not one that would be cut to a small part, or be most of it new.
    fn is_long_enough(&self, bytes: u64) -> bool {
        let segment_bytes = u64::from(self.partition.config.get().segment_bytes);
        (segment_bytes / 2..=segment_bytes).contains(&bytes)
    }
}
