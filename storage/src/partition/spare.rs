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
const SPARE_EXTENSION: &str = "log.deleted";

/// Those of a partition.
#[derive(Default)]
pub(super) struct Spares {
    /// The one that was removed first comes first.
    files: RefCell<VecDeque<Spare>>,
    /// Segments that were begun in files since the last look, and between that and the one before.
    begun: Cell<usize>,
    begun_before: Cell<usize>,
}

/// A file that has got its spare name.
pub(super) struct NewSpare {
    path: PathBuf,
    bytes: u64,
}

/// A file under its spare name.
struct Spare {
    path: PathBuf,
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
    /// Gives the `.log` file of a segment that is removed its spare name, if it is of use; no file of the partition may be made
    /// ready meanwhile. What it has become, to be kept or removed once the segment is forgotten.
    pub(super) async fn set_aside_spare(&self, segment: &Segment) -> Option<NewSpare> {
        let partition = &self.partition;
        let spares = &partition.direct.spares;
        let bytes = u64::from(segment.appended);
        // A compacted segment may be at one of two places, and of what has no end the file may have no blocks.
        let is_fit = segment.generation == 0 && segment.is_sealed && self.is_fit_for_next(bytes);
        let is_wanted = self.writes_direct()
            && !partition.shared.is_disk_short.get()
            && !partition.shared.is_disk_tight.get()
            && spares.files.borrow().len() < spares.most();
        if !is_fit || !is_wanted {
            return None;
        }
        let directory = self.directory();
        let from = final_path(&directory, segment.base_offset, "log");
        let path = final_path(&directory, segment.base_offset, SPARE_EXTENSION);
        let renamed = directory::rename(&from, &path).await;
        renamed.is_ok().then_some(NewSpare { path, bytes })
    }

    /// Keeps such a file. Whoever opens it from now on does not find it; these may have it open.
    pub(super) async fn keep_spare(&self, new: NewSpare, users: Users) {
        let NewSpare { path, bytes } = new;
        if users.may_come() {
            // Somebody has found it under its old name, and nobody knows when that ends. The next start removes what cannot be.
            let _ = directory::remove_file(&path).await;
            return;
        }
        let spare = Spare { path, bytes, users };
        self.partition.direct.spares.files.borrow_mut().push_back(spare);
    }

    /// Gives a segment that begins a file to write over; no other may be made or removed meanwhile. How many bytes
    /// it has: 0 if there is none, or the segment has a file.
    pub(super) async fn take_spare(&self, path: &Path) -> u64 {
        let spares = &self.partition.direct.spares;
        if directory::exists(path).await.unwrap_or(true) {
            return 0;
        }
        spares.begun.set(spares.begun.get() + 1);
        let is_free = |spare: &Spare| spare.users.are_gone() && self.is_fit_for_next(spare.bytes);
        let at = spares.files.borrow().iter().position(is_free);
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

    /// A time in which segments are begun is over; what will not be needed in the next goes. If a file is being made ready, the
    /// next time will do.
    pub(crate) async fn look_at_spares(&self) {
        let spares = &self.partition.direct.spares;
        spares.begun_before.set(spares.begun.replace(0));
        let has_unfit = || {
            let files = spares.files.borrow();
            files.len() > spares.most() || files.iter().any(|spare| !self.is_fit_for_next(spare.bytes))
        };
        if has_unfit()
            && let Some(_one) = self.try_pause_preparing()
        {
            self.remove_spares(spares.most()).await;
        }
    }

    pub(crate) fn has_spares(&self) -> bool {
        !self.partition.direct.spares.files.borrow().is_empty()
    }

    /// Removes all.
    pub(crate) async fn give_spares_back(&self) {
        let _one = self.pause_preparing().await;
        self.remove_spares(0).await;
    }

    /// Removes what is of no use any more, and all but so many. No file of the partition may be made ready meanwhile.
    pub(super) async fn remove_spares(&self, most: usize) {
        let spares = &self.partition.direct.spares;
        loop {
            let spare = {
                let mut files = spares.files.borrow_mut();
                let unfit = files.iter().position(|spare| !self.is_fit_for_next(spare.bytes));
                // Those of a dropped partition are removed with its directory, under another name.
                match unfit.or(files.len().checked_sub(1).filter(|last| *last >= most)) {
                    Some(at) if !self.partition.is_dropped.get() => files.remove(at),
                    _ => None,
                }
            };
            let Some(spare) = spare else { return };
            // What cannot be removed is found by the next start.
            let _ = directory::remove_file(&spare.path).await;
        }
    }

    /// Whether a file is kept by this life under that name.
    pub(super) fn is_spare(&self, path: &Path) -> bool {
        let files = self.partition.direct.spares.files.borrow();
        files.iter().any(|spare| spare.path == path)
    }

    /// Not one that would be cut to a small part, or be most of it new.
    fn is_fit_for_next(&self, bytes: u64) -> bool {
        let segment_bytes = u64::from(self.partition.config.get().segment_bytes);
        (segment_bytes / 2..=segment_bytes).contains(&bytes)
    }
}

/// Whether a file's name is such a one: a segment's base offset, and what says that it was removed.
pub(crate) fn is_spare_name(name: &str) -> bool {
    let stem = name
        .strip_suffix(SPARE_EXTENSION)
        .and_then(|stem| stem.strip_suffix('.'));
    stem.is_some_and(|stem| stem.len() == 20 && stem.parse::<i64>().is_ok())
}
