//! A compacted segment in the place of those that it was made of, on disk and in the list (decision 9).
//!
//! Owns the list's change, the files' way to their names, and what a start finds of an earlier life. Promises: a start from
//! either checkpoint finds the files that it means. Must never rename over a file, or remove one, that one of the two checkpoints
//! may name.

use std::collections::BTreeSet;

use ring::directory::{self, Entry};

use super::PartitionLog;
use crate::error::StorageError;
use crate::files::{EXTENSIONS, aside_path, final_path};
use crate::index::SegmentIndex;
use crate::retention::age_from_ms;
use crate::segment::{Segment, SegmentName, SegmentTimes, aside_name, is_aside_name};

/// Checkpoints that must have been written since a list changed: each of the two files says the new one then.
pub(crate) const CHECKPOINTS: u64 = 2;

/// What has to wait until both checkpoints say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacing {
    /// The segment whose files go to their place, if it is still the one; none of what an earlier life left.
    name: Option<SegmentName>,
    /// Files of the partition's directory that nobody needs then.
    remove: Vec<String>,
    /// Checkpoints that this life had written before.
    since_checkpoint: u64,
}

/// A segment, as compaction looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub(crate) name: SegmentName,
    /// In memory or on disk.
    pub(crate) bytes: u32,
    pub(crate) is_sealed: bool,
    /// Entries of its two indexes.
    pub(crate) index_entries: u32,
    pub(crate) time_entries: u32,
    /// From when on its first batch grows old, in milliseconds since 1970: by its largest timestamp, or its append.
    pub(crate) oldest_ms: i64,
    /// The same of all its batches, and the newest append.
    pub(crate) newest_ms: i64,
}

/// A compacted segment, whole and flushed under the name of its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompactedSegment {
    pub(crate) bytes: u32,
    /// The largest timestamp of its first batch with a record; -1 without one.
    pub(crate) first_timestamp_ms: i64,
    pub(crate) index: SegmentIndex,
}

impl PartitionLog {
    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<SegmentSummary> {
        let now_ms = self.partition.shared.clock.age_now_ms();
        let state = self.partition.state.borrow();
        let summary = |segment: &Segment| SegmentSummary {
            name: segment.name(),
            bytes: segment.appended,
            is_sealed: segment.is_sealed,
            index_entries: segment.index_entries,
            time_entries: segment.time_entries,
            oldest_ms: age_from_ms(segment.times.first_timestamp_ms, segment.times.begun_ms, now_ms),
            newest_ms: age_from_ms(segment.times.max_timestamp_ms, segment.times.appended_ms, now_ms),
        };
        state.segments.all.iter().map(summary).collect()
    }

    /// Compaction is done up to here, as far as the log reaches.
    pub(crate) fn cleaned_to(&self) -> i64 {
        let start = self.log_start_offset();
        let cleaned_to = self.partition.state.borrow().cleaned_to;
        if cleaned_to > self.high_watermark() {
            start
        } else {
            cleaned_to.max(start)
        }
    }

    pub(crate) fn set_cleaned_to(&self, offset: i64) {
        self.partition.state.borrow_mut().cleaned_to = offset;
    }

    /// The last offset of the newest batch of an idempotent producer that is remembered.
    pub(crate) fn newest_offset_of_producer(&self, producer_id: i64) -> Option<i64> {
        self.partition.state.borrow().producers.newest_offset(producer_id)
    }

    /// The name that the compacted segment of these has: that of the first, a generation later.
    pub(crate) fn next_name(group: &[SegmentName]) -> Option<SegmentName> {
        let first = group.first()?;
        Some(SegmentName {
            generation: first.generation.checked_add(1)?,
            ..*first
        })
    }

    /// Puts a compacted segment in the place of `group`, in memory: a checkpoint that is made from now on says so. No
    /// checkpoint may be under way; `checkpoints` were written in this life. False if the group is not there any more as it was.
    pub(crate) fn replace(&self, group: &[SegmentName], with: &CompactedSegment, checkpoints: u64) -> bool {
        let partition = &self.partition;
        let Some(name) = PartitionLog::next_name(group).filter(|_| !partition.is_dropped.get()) else {
            return false;
        };
        let mut state = partition.state.borrow_mut();
        let state = &mut *state;
        let all = &mut state.segments.all;
        let Some(at) = all.iter().position(|segment| segment.name() == group[0]) else {
            return false;
        };
        let end = at + group.len();
        let is_there = end < all.len()
            && all[at..end]
                .iter()
                .zip(group)
                .all(|(segment, name)| segment.name() == *name && segment.is_sealed && !segment.is_aside);
        if !is_there {
            return false;
        }
        let next_base = all[end].base_offset;
        let replaced = &all[at..end];
        // How long it is kept goes by when the newest of them was appended.
        let begun = replaced.iter().map(|segment| segment.times.begun_ms).min();
        let appended = replaced.iter().map(|segment| segment.times.appended_ms).max();
        let times = SegmentTimes {
            first_timestamp_ms: with.first_timestamp_ms,
            max_timestamp_ms: with.index.max_timestamp_ms,
            begun_ms: begun.unwrap_or_default(),
            appended_ms: appended.unwrap_or_default(),
        };
        let merged = group[1..].iter().flat_map(|name| {
            let files = EXTENSIONS.map(|extension| final_path("".as_ref(), name.base_offset, extension));
            files.map(|path| path.to_string_lossy().into_owned())
        });
        state.replacing.push(Replacing {
            name: Some(name),
            remove: merged.collect(),
            since_checkpoint: checkpoints,
        });
        let (index_entries, time_entries) = (with.index.offsets.len() as u32, with.index.times.len() as u32);
        let segment = Segment {
            appended: with.bytes,
            migrated: with.bytes,
            is_sealed: true,
            // It is in its files.
            index: SegmentIndex {
                offsets: Vec::new(),
                times: Vec::new(),
                ..with.index
            },
            index_entries,
            time_entries,
            generation: name.generation,
            is_aside: true,
            ..Segment::new(name.base_offset, 0, times, 0)
        };
        all.drain(at..end);
        all.insert(at, segment);
        state.replaced += 1;
        state.segments.close_gaps();
        // What is in memory of them is what they were.
        let pieces = state.tail.partition_point(|piece| piece.base_offset < next_base);
        assert!(pieces <= state.migrated_pieces, "a sealed segment is migrated");
        state.tail.drain(..pieces);
        state.migrated_pieces -= pieces;
        for name in group {
            partition.shared.files.forget_segment(partition.id, *name);
        }
        true
    }

    /// Whether something has to wait until both checkpoints know it.
    pub(crate) fn is_replacing(&self) -> bool {
        !self.partition.state.borrow().replacing.is_empty()
    }

    /// Gives the files of compacted segments their names, and removes what they replace, as far as both checkpoints say so.
    /// No checkpoint may be under way; `checkpoints` were written in this life.
    pub(crate) async fn finish_replacements(&self, checkpoints: u64) -> Result<(), StorageError> {
        let is_due = |replacing: &Replacing| replacing.since_checkpoint + CHECKPOINTS <= checkpoints;
        let due: Vec<Replacing> = {
            let state = self.partition.state.borrow();
            state
                .replacing
                .iter()
                .filter(|one| is_due(one))
                .cloned()
                .collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        let directory = self.directory();
        let names: Vec<SegmentName> = {
            // Records may have been deleted, and segments with them.
            let state = self.partition.state.borrow();
            let aside = state.segments.all.iter().filter(|segment| segment.is_aside);
            let aside: BTreeSet<SegmentName> = aside.map(Segment::name).collect();
            let names = due.iter().filter_map(|one| one.name);
            names.filter(|name| aside.contains(name)).collect()
        };
        // A segment without its aside name is at its place with its indexes.
        for extensions in [&EXTENSIONS[1..], &EXTENSIONS[..1]] {
            for (name, extension) in names
                .iter()
                .flat_map(|name| extensions.iter().map(move |one| (*name, *one)))
            {
                let aside = aside_path(&directory, name, extension);
                let place = final_path(&directory, name.base_offset, extension);
                match directory::rename(&aside, &place).await {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound && extension != "log" => {}
                    renamed => renamed.map_err(StorageError::io("rename", &aside))?,
                }
                if extension == "log" {
                    self.is_at_its_place(name);
                }
            }
            // Also if no name is left: an attempt that found the disk full may have ended before this.
            if due.iter().any(|one| one.name.is_some()) {
                self.partition.committer().flush_names(&directory).await?;
            }
        }
        for file in due.iter().flat_map(|one| &one.remove) {
            // What cannot be removed is found by the next start.
            let _ = directory::remove_file(&directory.join(file)).await;
        }
        let mut state = self.partition.state.borrow_mut();
        state.replacing.retain(|one| !is_due(one));
        Ok(())
    }

    /// A compacted segment's files have their names.
    fn is_at_its_place(&self, name: SegmentName) {
        let mut state = self.partition.state.borrow_mut();
        let segments = state.segments.all.iter_mut();
        for segment in segments.filter(|segment| segment.name() == name) {
            segment.is_aside = false;
        }
        // Whoever looked for an index in between may have found none.
        let Self { partition } = self;
        partition.shared.files.forget_index(partition.id, name);
    }

    /// After a start: which files the compacted segments are, and what nobody claims. `files` are the directory's.
    pub(crate) fn find_replaced(&self, files: &[Entry]) {
        let mut state = self.partition.state.borrow_mut();
        let state = &mut *state;
        // A recovery that is short of memory looks twice.
        state.replacing.clear();
        let there: BTreeSet<&str> = files.iter().map(|entry| entry.name.as_str()).collect();
        let mut claimed = BTreeSet::new();
        for segment in state
            .segments
            .all
            .iter_mut()
            .filter(|segment| segment.generation > 0)
        {
            let names = EXTENSIONS.map(|extension| aside_name(segment.name(), extension));
            segment.is_aside = there.contains(names[0].as_str());
            if segment.is_aside {
                claimed.extend(names);
                state.replacing.push(Replacing {
                    name: Some(segment.name()),
                    remove: Vec::new(),
                    since_checkpoint: 0,
                });
            }
        }
        let bases: BTreeSet<i64> = state
            .segments
            .all
            .iter()
            .map(|segment| segment.base_offset)
            .collect();
        let is_between = |base: i64| {
            let (first, last) = (bases.first(), bases.last());
            first.is_some_and(|first| base > *first)
                && last.is_some_and(|last| base < *last)
                && !bases.contains(&base)
        };
        let is_left = |name: &str| {
            let is_of_no_segment = || {
                let (stem, extension) = name.split_once('.')?;
                let base = stem.parse().ok().filter(|_| EXTENSIONS.contains(&extension))?;
                Some(is_between(base))
            };
            (is_aside_name(name) && !claimed.contains(name)) || is_of_no_segment() == Some(true)
        };
        let remove: Vec<String> = there
            .into_iter()
            .filter(|name| is_left(name))
            .map(str::to_owned)
            .collect();
        if !remove.is_empty() {
            state.replacing.push(Replacing {
                name: None,
                remove,
                since_checkpoint: 0,
            });
        }
    }

    /// The cleaner has the partition while the permit is held.
    pub(crate) async fn cleaning(&self) -> ring::local::Permit {
        self.partition.cleaning.acquire(1).await
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.partition.is_dropped.get()
    }
}
