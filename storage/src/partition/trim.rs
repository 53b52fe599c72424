//! The log's start: records before it are deleted, first for readers, then on disk.
//!
//! A START entry in the journal is what makes it last. Segments that lie wholly before the start are taken out of the
//! log by the next migration, and their files removed: any recovery knows the START, from a checkpoint or from the
//! journal, before it looks at files, and takes the same segments out again. That holds for the last one as well: if
//! nothing that is durable follows the start, a recovery finds an empty log there, and the next batch begins a segment.
//! Must never take a segment out for a start that is not durable.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ring::clock::Instant;
use ring::directory;
use ring::executor::{Class, spawn, yield_now};

use super::piece::Piece;
use super::spare::is_spare_name;
use super::{Partition, PartitionLog, State};
use crate::commit::{CommitTicket, ROOM_RETRY};
use crate::directory::topic_id_of;
use crate::error::{AppendError, DeleteRecordsError, ReadError, StorageError};
use crate::files::{EXTENSIONS, aside_path, final_path};
use crate::journal::record::{Entry, Kind};
use crate::retention::{KeptSegment, Retention};
use crate::segment::{Segment, SegmentName};
use crate::steady_clock::Correction;

/// A longer `file.delete.delay.ms` is taken for this: a year.
const DELETE_DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl PartitionLog {
    /// Deletes all records before `offset`. They cannot be read any more, durably, when this returns; their disk space
    /// comes back segment by segment. An offset at or before the log's start changes nothing. Gives the log's start.
    /// Once it is under way, dropping this future ends only the wait.
    ///
    /// # Errors
    /// [`DeleteRecordsError::OutOfRange`] for an offset beyond the high watermark; or what the log failed with.
    pub async fn delete_records(&self, offset: i64) -> Result<i64, DeleteRecordsError> {
        let partition = &self.partition;
        let end_offset = self.high_watermark();
        if offset > end_offset {
            return Err(DeleteRecordsError::OutOfRange(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset: self.log_start_offset(),
                end_offset,
            }));
        }
        if offset <= self.log_start_offset() {
            return Ok(self.log_start_offset());
        }
        let entry = Entry {
            kind: Kind::Start,
            at_block: false,
            goes_on: false,
            id: partition.id,
            owner_epoch: partition.owner_epoch,
            data_crc: 0,
            base_offset: offset,
            next_offset: offset,
            segment_base: 0,
            file_position: 0,
            length: 0,
        };
        // The entry comes after what it deletes was durable: a recovery that finds files gone has to be told that they were
        // there.
        partition.committer().flush_written().await?;
        let ticket = loop {
            let room = partition.committer().room().wait();
            // Looked at each time: nothing of a partition may follow its DROP.
            if partition.is_dropped.get() {
                return Err(StorageError::Dropped.into());
            }
            match partition.committer().control(entry, &[]) {
                Ok(ticket) => break ticket,
                Err(AppendError::Fenced(error)) => return Err(error.into()),
                Err(_) => {
                    let _ = ring::timer::timeout(ROOM_RETRY, room).await;
                }
            }
        };
        // From here on a checkpoint has it: one that is made before the entry's flush ends may replace the journal's
        // records up to the entry.
        let committed = partition.committed_log_start.get().max(offset);
        partition.committed_log_start.set(committed);
        // A recovery will know the entry, so this life must too, whether or not anyone still waits for it.
        let (giver, deleted) = ring::local::oneshot();
        let log = self.clone();
        let finishing = async move { giver.give(log.finish_deletion(ticket, offset).await) };
        spawn(Class::Latency, finishing).detach();
        deleted.await.unwrap_or(Err(StorageError::Stopped))?;
        Ok(self.log_start_offset())
    }

    async fn finish_deletion(&self, ticket: CommitTicket, offset: i64) -> Result<(), StorageError> {
        ticket.committed().await?;
        self.begin_at(offset);
        let partition = &self.partition;
        if partition.state.borrow().segments_before(offset) > 0 {
            partition.shared.is_checkpoint_due.set(true);
            partition.committer().progress().notify_all();
        }
        Ok(())
    }

    /// Where the log begins when what its topic's `retention.ms` and `retention.bytes` no longer keep is gone, if that
    /// is later than now.
    pub(crate) fn retention_start(&self, now_ms: i64) -> Option<i64> {
        let config = self.partition.config.get();
        let retention = Retention {
            ms: config.retention_ms,
            bytes: config.retention_bytes,
        };
        let state = self.partition.state.borrow();
        let segments = state.segments.all.iter().zip(state.segment_ends());
        let segments = segments.map(|(segment, end_offset)| KeptSegment {
            end_offset,
            bytes: segment.appended,
            max_timestamp_ms: segment.times.max_timestamp_ms,
            appended_ms: segment.times.appended_ms,
        });
        let start = self.partition.committed_log_start.get();
        retention.new_start(segments, start, self.high_watermark(), now_ms)
    }

    /// Corrects when its segments were appended to.
    pub(crate) fn correct_times(&self, correction: &Correction) {
        for segment in &mut self.partition.state.borrow_mut().segments.all {
            segment.times.appended_ms = correction.of(segment.times.appended_ms);
        }
    }

    /// Bytes of the log's segments, those of deleted records included while their segments are there.
    pub fn size_bytes(&self) -> u64 {
        let state = self.partition.state.borrow();
        let segments = state.segments.all.iter();
        segments.map(|segment| u64::from(segment.appended)).sum()
    }

    /// The log begins at `offset`, or where it began if that is later.
    pub(crate) fn begin_at(&self, offset: i64) {
        let partition = &self.partition;
        let start = partition.log_start_offset.get().max(offset);
        partition.log_start_offset.set(start);
        partition
            .committed_log_start
            .set(partition.committed_log_start.get().max(start));
        partition.state.borrow_mut().leader_epochs.begin_at(start);
        partition.moved.notify_all();
    }

    /// The same, at the offset that is in the journal: it must be durable.
    pub(crate) fn begin_where_committed(&self) {
        self.begin_at(self.partition.committed_log_start.get());
    }

    /// Takes segments out that lie wholly before the log's start, the first ones and `most` at most, with what of them was
    /// still to be written. Everything up to journal record `up_to_seq` is durable, and may be forgotten.
    pub(crate) fn take_deleted(&self, up_to_seq: u64, most: usize) -> Vec<Segment> {
        let start = self.log_start_offset();
        let mut state = self.partition.state.borrow_mut();
        let state = &mut *state;
        let count = state.segments_before(start).min(most);
        if count == 0 {
            return Vec::new();
        }
        let kept = state.segments.all.get(count);
        let kept_from = kept.map_or(state.next_offset, |kept| kept.base_offset);
        let pieces = state.tail.partition_point(|piece| piece.base_offset < kept_from);
        let is_due = |piece: &Piece| piece.group.seq().is_some_and(|seq| seq <= up_to_seq);
        let unwritten = state.migrated_pieces.min(pieces)..pieces;
        if !state.tail.range(unwritten.clone()).all(is_due) {
            return Vec::new(); // the next migration finds them
        }
        for piece in state.tail.range(unwritten) {
            let header = piece.header();
            state.producers.migrated(&header);
            state.migrated.next_offset = header.next_offset();
        }
        state.tail.drain(..pieces);
        state.migrated_pieces = state.migrated_pieces.saturating_sub(pieces);
        let taken: Vec<_> = state.segments.all.drain(..count).collect();
        if taken.iter().any(|segment| !segment.is_sealed) {
            state.migrated.partial.clear();
            state.migrated.reserved = 0;
        }
        taken
    }

    /// Removes the files of segments that were taken out: after `file.delete.delay.ms`, or at once if the log `is_over`.
    /// Those of a life that ends before are found by the next.
    pub(crate) async fn remove_deleted(&self, taken: Vec<Segment>, is_over: bool) {
        let Partition { config, leaving, .. } = &*self.partition;
        let delay = Duration::from_millis(config.get().file_delete_delay_ms).min(DELETE_DELAY_MAX);
        let due = ring::clock::now() + delay;
        let has_any = !taken.is_empty();
        let taken = taken.into_iter().map(|segment| (due, segment));
        leaving.borrow_mut().extend(taken);
        if is_over || delay.is_zero() {
            self.remove_leaving().await;
        } else if has_any {
            let partition = Rc::downgrade(&self.partition);
            spawn(Class::Background, async move {
                ring::timer::sleep_until(due).await;
                if let Some(partition) = partition.upgrade() {
                    PartitionLog { partition }.remove_left_before(due).await;
                }
            })
            .detach();
        }
    }

    /// Removes the files of all segments that were taken out, due or not.
    pub(crate) async fn remove_leaving(&self) {
        let last_due = self.partition.leaving.borrow().iter().map(|(due, _)| *due).max();
        if let Some(due) = last_due {
            self.remove_left_before(due).await;
        }
    }

    /// Removes the files of those that were due by then.
    async fn remove_left_before(&self, due: Instant) {
        let Partition { shared, leaving, .. } = &*self.partition;
        loop {
            let next = {
                let mut leaving = leaving.borrow_mut();
                let at = leaving.iter().position(|(its_due, _)| *its_due <= due);
                at.and_then(|at| leaving.remove(at))
            };
            let Some((_, segment)) = next else {
                return;
            };
            self.remove_files(segment.name(), Some(&segment)).await;
            shared.removed_segments.add(1);
            shared.removed_bytes.add(u64::from(segment.appended));
        }
    }

    /// Removes a segment's files; that of a segment of this life may be of use. What cannot be removed is found by the next start.
    async fn remove_files(&self, name: SegmentName, segment: Option<&Segment>) {
        let Partition { shared, id, .. } = &*self.partition;
        // Or one that is being made ready would come back.
        let _no_preparing = self.pause_preparing().await;
        if self.partition.is_dropped.get() {
            // Whoever drops it waits for the permit, and then the next topic of that name may have its files there.
            return;
        }
        self.forget_direct(name.base_offset);
        let spare = match segment {
            Some(segment) => self.set_aside_spare(segment).await,
            None => None,
        };
        // After the renaming: whoever opens it after this does not find it.
        let users = shared.files.forget_segment(*id, name);
        if let Some(spare) = spare {
            self.keep_spare(spare, users).await;
        }
        let directory = self.directory();
        for extension in EXTENSIONS {
            let _ = directory::remove_file(&final_path(&directory, name.base_offset, extension)).await;
            if name.generation > 0 {
                let _ = directory::remove_file(&aside_path(&directory, name, extension)).await;
            }
        }
    }

    /// Removes files of segments before the first, which an earlier life did not come to: a segment at a time, until the
    /// partition is dropped or the log ends. A compacted one that is not at its place may be what the other checkpoint
    /// means: that has to wait.
    pub(crate) async fn remove_leftovers(&self) -> Result<(), StorageError> {
        let first = {
            let state = self.partition.state.borrow();
            let first = state.segments.all.first().map(|segment| segment.base_offset);
            first.unwrap_or_else(|| self.log_start_offset())
        };
        let directory = self.directory();
        let shared = &self.partition.shared;
        if self.log_start_offset() == 0
            || self.partition.is_dropped.get()
            || topic_id_of(&directory, &shared.staging).await? != Some(self.id().topic_id)
        {
            return Ok(());
        }
        let names = directory::list(&directory)
            .await
            .map_err(StorageError::io("list", &directory))?;
        for spare in names.iter().filter(|entry| is_spare_name(&entry.name)) {
            let path = directory.join(&spare.name);
            let _no_preparing = self.pause_preparing().await;
            if !self.is_spare(&path) && !shared.has_failed() && !self.partition.is_dropped.get() {
                let _ = directory::remove_file(&path).await;
            }
        }
        for base_offset in segments_in(&names).range(..first) {
            if shared.has_failed() {
                break;
            }
            self.remove_files(SegmentName::first(*base_offset), None).await;
            yield_now().await;
        }
        Ok(())
    }
}

/// The base offsets of the segments that have a file among these.
fn segments_in(names: &[directory::Entry]) -> BTreeSet<i64> {
    let base_offset = |entry: &directory::Entry| {
        let (stem, extension) = entry.name.split_once('.')?;
        let base_offset = stem.parse().ok();
        base_offset.filter(|_| EXTENSIONS.contains(&extension))
    };
    names.iter().filter_map(base_offset).collect()
}

impl State {
    /// The offset after the last of each segment.
    fn segment_ends(&self) -> impl Iterator<Item = i64> + Clone {
        let later = self.segments.all.iter().skip(1);
        let later = later.map(|segment| segment.base_offset);
        later.chain(std::iter::once(self.next_offset))
    }

    /// How many segments lie wholly before `start`.
    fn segments_before(&self, start: i64) -> usize {
        let ends = self.segments.all.iter().zip(self.segment_ends());
        ends.take_while(|(_, end)| *end <= start).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_one_however_many_of_its_files_there_are() {
        let names = [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000007.timeindex",
            "00000000000000000009.new",
            "leader-epoch-checkpoint",
            "partition.metadata",
        ];
        let entries = names.map(|name| directory::Entry {
            name: name.to_owned(),
            is_directory: false,
            bytes: 0,
        });
        assert_eq!(segments_in(&entries).into_iter().collect::<Vec<_>>(), [0, 7]);
    }
}
