//! A segment's offset and time index: Kafka's `.index` and `.timeindex`, as bytes and in memory. Pure.
//!
//! An index only says where to begin to look: what it leads to is always checked against the segment.

/// Bytes of an entry of an `.index` file.
pub(crate) const INDEX_ENTRY_BYTES: usize = 8;
/// Bytes of an entry of a `.timeindex` file.
pub(crate) const TIME_ENTRY_BYTES: usize = 12;

/// A batch's last offset, and where the batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Less the segment's base offset.
    pub(crate) relative_offset: u32,
    /// In the `.log` file, in bytes.
    pub(crate) position: u32,
}

/// The largest timestamp so far, and the last offset of the batch that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp_ms: i64,
    /// Less the segment's base offset.
    pub(crate) relative_offset: u32,
}

/// Both indexes of a segment, and what is needed to continue them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    pub(crate) offsets: Vec<IndexEntry>,
    pub(crate) times: Vec<TimeEntry>,
    /// Of all batches so far; -1 without any.
    pub(crate) max_timestamp_ms: i64,
    /// The last offset of the batch that has it, less the segment's base offset.
    pub(crate) max_timestamp_offset: u32,
    /// The last time entry, also of those that are in the file alone.
    pub(crate) newest_time: Option<TimeEntry>,
    /// Bytes of the batches since the last entry.
    pub(crate) bytes_since_entry: u32,
}

impl SegmentIndex {
    pub(crate) fn new() -> SegmentIndex {
        SegmentIndex {
            offsets: Vec::new(),
            times: Vec::new(),
            max_timestamp_ms: -1,
            max_timestamp_offset: 0,
            newest_time: None,
            bytes_since_entry: 0,
        }
    }

    /// Whether what is in memory comes after all of these.
    pub(crate) fn follows(&self, before: &Entries) -> bool {
        let offsets =
            [before.offsets.last(), self.offsets.first()].map(|entry| entry.map(|entry| entry.position));
        let times =
            [before.times.last(), self.times.first()].map(|entry| entry.map(|entry| entry.timestamp_ms));
        let is_before =
            |pair: [Option<i64>; 2]| !matches!(pair, [Some(before), Some(after)] if before >= after);
        is_before(offsets.map(|position| position.map(i64::from))) && is_before(times)
    }

    /// A batch was appended: an entry for it, if the last one is more than `interval_bytes` back.
    pub(crate) fn add(&mut self, batch: IndexEntry, max_timestamp_ms: i64, bytes: u32, interval_bytes: u32) {
        if max_timestamp_ms > self.max_timestamp_ms {
            self.max_timestamp_ms = max_timestamp_ms;
            self.max_timestamp_offset = batch.relative_offset;
        }
        if self.bytes_since_entry > interval_bytes {
            self.offsets.push(batch);
            self.add_time();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(bytes);
    }

    /// The last time entry, when a segment is closed: a search by time then sees all of it.
    pub(crate) fn add_time(&mut self) {
        let entry = TimeEntry {
            timestamp_ms: self.max_timestamp_ms,
            relative_offset: self.max_timestamp_offset,
        };
        let is_next = |newest: TimeEntry| {
            newest.timestamp_ms < entry.timestamp_ms && newest.relative_offset < entry.relative_offset
        };
        if entry.timestamp_ms >= 0 && self.newest_time.is_none_or(is_next) {
            self.times.push(entry);
            self.newest_time = Some(entry);
        }
    }
}

/// So many entries of both indexes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryCounts {
    pub(crate) offsets: u32,
    pub(crate) times: u32,
}

impl EntryCounts {
    pub(crate) const NONE: EntryCounts = EntryCounts { offsets: 0, times: 0 };
}

/// Both indexes of a segment as far as its files have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    pub(crate) offsets: Vec<IndexEntry>,
    pub(crate) times: Vec<TimeEntry>,
}

/// How many entries the indexes of a segment will have when all that was appended to it is in them. The indexes
/// themselves follow the segment's file; a segment ends before its indexes are too large (`segment.index.bytes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexCount {
    pub(crate) offsets: u32,
    pub(crate) times: u32,
    /// The timestamp of the last time entry; -1 without one.
    pub(crate) newest_time_ms: i64,
    pub(crate) bytes_since_entry: u32,
}

impl IndexCount {
    pub(crate) const NONE: IndexCount = IndexCount {
        offsets: 0,
        times: 0,
        newest_time_ms: -1,
        bytes_since_entry: 0,
    };

    /// A batch was appended; `max_timestamp_ms` is the largest of the segment so far.
    pub(crate) fn add(&mut self, max_timestamp_ms: i64, bytes: u32, interval_bytes: u32) {
        if self.bytes_since_entry > interval_bytes {
            self.offsets += 1;
            if max_timestamp_ms > self.newest_time_ms {
                self.times += 1;
                self.newest_time_ms = max_timestamp_ms;
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(bytes);
    }

    /// Whether an index of so many bytes has no room for the next entry. The time index keeps room for the entry that
    /// closes a segment, as Kafka's does.
    pub(crate) fn is_full(&self, index_bytes: u32) -> bool {
        self.offsets >= index_bytes / INDEX_ENTRY_BYTES as u32
            || self.times + 1 >= index_bytes / TIME_ENTRY_BYTES as u32
    }
}

/// Where to begin to look for an offset: at the last batch whose entry is not past it; if there is none, at the first byte.
pub(crate) fn floor(entries: &[IndexEntry], relative_offset: u32) -> Option<IndexEntry> {
    let after = entries.partition_point(|entry| entry.relative_offset <= relative_offset);
    after.checked_sub(1).map(|index| entries[index])
}

/// The last entry before a time: everything up to its offset is older than that. `None`: nothing is known to be.
pub(crate) fn last_older(entries: &[TimeEntry], timestamp_ms: i64) -> Option<TimeEntry> {
    let after = entries.partition_point(|entry| entry.timestamp_ms < timestamp_ms);
    after.checked_sub(1).map(|index| entries[index])
}

pub(crate) fn encode_offsets(entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * INDEX_ENTRY_BYTES);
    for entry in entries {
        bytes.extend(entry.relative_offset.to_be_bytes());
        bytes.extend(entry.position.to_be_bytes());
    }
    bytes
}

pub(crate) fn encode_times(entries: &[TimeEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES);
    for entry in entries {
        bytes.extend(entry.timestamp_ms.to_be_bytes());
        bytes.extend(entry.relative_offset.to_be_bytes());
    }
    bytes
}

/// The whole entries of an `.index`, whatever they say.
pub(crate) fn offset_entries(bytes: &[u8]) -> impl Iterator<Item = IndexEntry> {
    let entries = bytes.as_chunks::<INDEX_ENTRY_BYTES>().0.iter();
    entries.map(|entry| IndexEntry {
        relative_offset: u32::from_be_bytes(entry[..4].try_into().unwrap_or_default()),
        position: u32::from_be_bytes(entry[4..].try_into().unwrap_or_default()),
    })
}

/// The whole entries of a `.timeindex`, whatever they say.
pub(crate) fn time_entries(bytes: &[u8]) -> impl Iterator<Item = TimeEntry> {
    let entries = bytes.as_chunks::<TIME_ENTRY_BYTES>().0.iter();
    entries.map(|entry| TimeEntry {
        timestamp_ms: i64::from_be_bytes(entry[..8].try_into().unwrap_or_default()),
        relative_offset: u32::from_be_bytes(entry[8..].try_into().unwrap_or_default()),
    })
}

/// The entries, if they could be those of a segment of `segment_bytes`: they increase, and stay in it.
pub(crate) fn decode_offsets(bytes: &[u8], segment_bytes: u32) -> Option<Vec<IndexEntry>> {
    let entries: Vec<IndexEntry> = offset_entries(bytes).collect();
    let increase = entries
        .is_sorted_by(|one, next| one.relative_offset < next.relative_offset && one.position < next.position);
    let inside = entries.last().is_none_or(|last| last.position < segment_bytes);
    (increase && inside).then_some(entries)
}

/// The first so many entries of both files, if they could be those of a segment of `segment_bytes`.
pub(crate) fn decode(
    offsets: &[u8],
    times: &[u8],
    counts: EntryCounts,
    segment_bytes: u32,
) -> Option<Entries> {
    let offsets = offsets.get(..counts.offsets as usize * INDEX_ENTRY_BYTES)?;
    let times = times.get(..counts.times as usize * TIME_ENTRY_BYTES)?;
    Some(Entries {
        offsets: decode_offsets(offsets, segment_bytes)?,
        times: decode_times(times)?,
    })
}

/// The entries, if they increase.
pub(crate) fn decode_times(bytes: &[u8]) -> Option<Vec<TimeEntry>> {
    let entries: Vec<TimeEntry> = time_entries(bytes).collect();
    let increase = entries.is_sorted_by(|one, next| {
        one.timestamp_ms < next.timestamp_ms && one.relative_offset < next.relative_offset
    });
    increase.then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> SegmentIndex {
        let mut index = SegmentIndex::new();
        for n in 0..10_u32 {
            let batch = IndexEntry {
                relative_offset: n * 10 + 9,
                position: n * 1_000,
            };
            // Times go back once.
            let time = if n == 5 { 100 } else { 1_000 + i64::from(n) };
            index.add(batch, time, 1_000, 1_500);
        }
        index
    }

    #[test]
    fn entries_come_after_the_interval_and_name_the_batch_that_begins_there() {
        let index = filled();
        let positions: Vec<u32> = index.offsets.iter().map(|entry| entry.position).collect();
        assert_eq!(positions, [2_000, 4_000, 6_000, 8_000]);
        let position = |relative_offset| floor(&index.offsets, relative_offset).map(|entry| entry.position);
        assert_eq!(position(28), None);
        assert_eq!(position(29), Some(2_000));
        assert_eq!(position(48), Some(2_000));
        assert_eq!(position(1_000), Some(8_000));
        assert_eq!(floor(&[], 5), None);
    }

    #[test]
    fn times_only_grow_and_the_last_is_added_when_the_segment_is_closed() {
        let mut index = filled();
        let times = |index: &SegmentIndex| {
            index
                .times
                .iter()
                .map(|entry| entry.timestamp_ms)
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&index), [1_002, 1_004, 1_006, 1_008]);
        index.add_time();
        index.add_time();
        assert_eq!(times(&index), [1_002, 1_004, 1_006, 1_008, 1_009]);
        let older = |time| last_older(&index.times, time).map(|entry| entry.relative_offset);
        assert_eq!(older(1_002), None);
        assert_eq!(older(1_003), Some(29));
        assert_eq!(older(i64::MAX), Some(99));
    }

    #[test]
    fn entries_are_counted_before_they_are_made() {
        let mut count = IndexCount::NONE;
        let mut max = -1;
        for n in 0..10 {
            max = max.max(if n == 5 { 100 } else { 1_000 + i64::from(n) });
            count.add(max, 1_000, 1_500);
        }
        let index = filled();
        assert_eq!(
            (count.offsets as usize, count.times as usize),
            (index.offsets.len(), index.times.len())
        );
        assert_eq!(count.bytes_since_entry, index.bytes_since_entry);
        assert_eq!(count.newest_time_ms, 1_008);
        // 4 entries of 8 bytes are in it; 4 of 12, and one for the end.
        assert!(!count.is_full(72) && count.is_full(71));
        let offsets_only = IndexCount { times: 0, ..count };
        assert!(!offsets_only.is_full(40) && offsets_only.is_full(39));
        assert!(IndexCount::NONE.is_full(4));
    }

    #[test]
    fn files_come_back_and_nonsense_does_not() {
        let index = filled();
        let offsets = encode_offsets(&index.offsets);
        assert_eq!(decode_offsets(&offsets, 10_000), Some(index.offsets.clone()));
        assert_eq!(decode_offsets(&offsets, 8_000), None);
        let times = encode_times(&index.times);
        assert_eq!(decode_times(&times), Some(index.times));
        let twice = [offsets.clone(), offsets].concat();
        assert_eq!(decode_offsets(&twice, 10_000), None);
        assert_eq!(decode_times(&[times.clone(), times].concat()), None);
    }
}
