//! A partition's sealed segments, as somebody sees them who walks over all of a log while it lives.
//!
//! Nothing is written to a sealed segment any more, but it may go at any time: what was read of its files means something
//! only if it is still there afterwards.

use super::{PartitionLog, State};
use crate::leader_epochs::LeaderEpochs;
use crate::segment::SegmentName;

/// A sealed segment, as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedSegment {
    pub(crate) name: SegmentName,
    /// The offset at which the next one begins.
    pub(crate) next_offset: i64,
    /// Of its `.log`.
    pub(crate) bytes: u32,
    /// Of its `.index`.
    pub(crate) index_entries: u32,
    /// Of its `.timeindex`.
    pub(crate) time_entries: u32,
}

impl PartitionLog {
    /// The first sealed segment that begins at or after `offset`, and holds something that can be read.
    pub(crate) fn sealed_from(&self, offset: i64) -> Option<SealedSegment> {
        if self.partition.is_dropped.get() {
            return None;
        }
        let log_start = self.log_start_offset();
        let state = self.partition.state.borrow();
        let first = state
            .segments
            .all
            .partition_point(|segment| segment.base_offset < offset);
        (first..state.segments.all.len())
            .map_while(|at| state.sealed(at))
            .find(|segment| segment.next_offset > log_start)
    }

    /// Whether the segment is there, and the same.
    pub(crate) fn has_sealed(&self, segment: &SealedSegment) -> bool {
        self.sealed_from(segment.name.base_offset) == Some(*segment)
    }

    /// Whether the segment's files are not at their place yet. They may come there at any time.
    pub(crate) fn is_aside(&self, name: SegmentName) -> bool {
        let state = self.partition.state.borrow();
        let at = state.segments.index_of(name.base_offset);
        at.is_some_and(|at| state.segments.all[at].name() == name && state.segments.all[at].is_aside)
    }

    /// Which epochs wrote its records.
    pub(crate) fn leader_epochs(&self) -> LeaderEpochs {
        self.partition.state.borrow().leader_epochs.clone()
    }
}

impl State {
    /// The segment at `at`, if it is sealed, and its indexes are written: what comes after it is on its way to the disk
    /// only then, or was even compacted, to nothing perhaps.
    fn sealed(&self, at: usize) -> Option<SealedSegment> {
        let [segment, next] = self.segments.all.get(at..at + 2)? else {
            return None;
        };
        (segment.is_sealed && (next.migrated > 0 || next.is_sealed)).then_some(SealedSegment {
            name: segment.name(),
            next_offset: next.base_offset,
            bytes: segment.migrated,
            index_entries: segment.index_entries,
            time_entries: segment.time_entries,
        })
    }
}
