//! Which log is due for compaction, from where to where, and which of its segments become one. Pure.
//!
//! Kafka's rules (LogCleanerManager, and the Cleaner's groupSegmentsBySize).

use crate::index::{INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::partition::{CompactionConfig, SegmentSummary};

/// Parts of the dirty ratio: a millionth.
pub(crate) const PPM: u64 = 1_000_000;

/// A log, as it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged<'a> {
    /// All of its segments, oldest first. The last is the active one.
    pub(crate) segments: &'a [SegmentSummary],
    /// Up to here it is clean.
    pub(crate) cleaned_to: i64,
    pub(crate) config: CompactionConfig,
}

/// What can be cleaned of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) dirty_from: i64,
    /// Where a segment begins.
    pub(crate) uncleanable_from: i64,
    /// Of what is clean and what could be cleaned, what is dirty.
    pub(crate) dirty_ppm: u64,
    /// All of it is in its segments' files.
    pub(crate) is_sealed: bool,
}

/// What can be cleaned of a log, if it is due. `only_sealed`: up to the first segment that is not sealed yet.
pub(crate) fn plan(log: &Judged<'_>, now_ms: i64, only_sealed: bool) -> Option<Plan> {
    let (active, closed) = log.segments.split_last()?;
    let config = &log.config;
    let is_dirty = |at: usize| {
        let next = closed.get(at + 1).unwrap_or(active);
        next.name.base_offset > log.cleaned_to
    };
    let youngest_ms = now_ms.saturating_sub(config.min_compaction_lag_ms);
    let stops = |(at, segment): (usize, &SegmentSummary)| {
        let is_young = config.min_compaction_lag_ms > 0 && segment.newest_ms > youngest_ms;
        (is_dirty(at) && is_young) || (only_sealed && !segment.is_sealed)
    };
    let end = closed.iter().enumerate().position(stops).unwrap_or(closed.len());
    let dirty = (0..end).find(|at| is_dirty(*at))?;
    let bytes = |segments: &[SegmentSummary]| {
        segments
            .iter()
            .map(|segment| u64::from(segment.bytes))
            .sum::<u64>()
    };
    let is_clean_before = |segment: &&SegmentSummary| segment.name.base_offset < log.cleaned_to;
    // A segment that is dirty from its middle on is on both sides, as in Kafka.
    let clean_bytes: u64 = closed[..end]
        .iter()
        .filter(is_clean_before)
        .map(|segment| u64::from(segment.bytes))
        .sum();
    let dirty_bytes = bytes(&closed[dirty..end]);
    if dirty_bytes == 0 {
        return None;
    }
    let dirty_ppm = dirty_bytes.saturating_mul(PPM) / (clean_bytes + dirty_bytes);
    let oldest_allowed_ms = now_ms.saturating_sub(config.max_compaction_lag_ms);
    let mut first_times = (0..closed.len())
        .filter(|at| is_dirty(*at))
        .map(|at| closed[at].oldest_ms);
    let is_late = first_times.any(|first_ms| first_ms > 0 && first_ms < oldest_allowed_ms);
    let is_due = is_late || dirty_ppm > u64::from(config.min_cleanable_dirty_ppm);
    is_due.then(|| Plan {
        dirty_from: log.cleaned_to,
        uncleanable_from: log.segments[end].name.base_offset,
        dirty_ppm,
        is_sealed: closed[dirty..end].iter().all(|segment| segment.is_sealed),
    })
}

/// The segments before `end`, neighbours together that make one segment of at most `segment_bytes`, with indexes of at most
/// `index_bytes`. `segments` has one more behind them.
pub(crate) fn groups(
    segments: &[SegmentSummary],
    end: i64,
    segment_bytes: u32,
    index_bytes: u32,
) -> Vec<Vec<SegmentSummary>> {
    let mut groups: Vec<Vec<SegmentSummary>> = Vec::new();
    for pair in segments.windows(2) {
        let (segment, next) = (pair[0], pair[1]);
        if segment.name.base_offset >= end {
            break;
        }
        let fits = |group: &Vec<SegmentSummary>| {
            let sum = |of: fn(&SegmentSummary) -> u64| group.iter().map(of).sum::<u64>() + of(&segment);
            // An index counts so far.
            let span = next.name.base_offset - 1 - group[0].name.base_offset;
            let entries = sum(|one| u64::from(one.index_entries)) * INDEX_ENTRY_BYTES as u64;
            let times = sum(|one| u64::from(one.time_entries)) * TIME_ENTRY_BYTES as u64;
            sum(|one| u64::from(one.bytes)) <= u64::from(segment_bytes)
                && entries.max(times) <= u64::from(index_bytes)
                && span <= i64::from(i32::MAX)
        };
        match groups.last_mut().filter(|group| fits(group)) {
            Some(group) => group.push(segment),
            None => groups.push(vec![segment]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentName;

    const CONFIG: CompactionConfig = CompactionConfig {
        min_cleanable_dirty_ppm: 500_000,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: 0,
    };

    /// Segments of 10 offsets each, with so many bytes; the times of segment n are n * 100.
    fn segments(bytes: &[u32]) -> Vec<SegmentSummary> {
        let segment = |(at, bytes): (usize, &u32)| SegmentSummary {
            name: SegmentName::first(at as i64 * 10),
            bytes: *bytes,
            is_sealed: true,
            index_entries: 0,
            time_entries: 0,
            oldest_ms: at as i64 * 100,
            newest_ms: at as i64 * 100,
        };
        bytes.iter().enumerate().map(segment).collect()
    }

    fn due(
        segments: &[SegmentSummary],
        cleaned_to: i64,
        config: CompactionConfig,
        now_ms: i64,
    ) -> Option<(i64, i64, u64)> {
        let judged = Judged {
            segments,
            cleaned_to,
            config,
        };
        plan(&judged, now_ms, false).map(|plan| (plan.dirty_from, plan.uncleanable_from, plan.dirty_ppm))
    }

    #[test]
    fn what_is_dirty_enough_is_due_up_to_the_active_segment() {
        let segments = segments(&[100, 100, 100, 100, 9_999]);
        assert_eq!(due(&segments, 0, CONFIG, 0), Some((0, 40, 1_000_000)));
        assert_eq!(due(&segments, 10, CONFIG, 0), Some((10, 40, 750_000)));
        // Half is not more than half.
        assert_eq!(due(&segments, 20, CONFIG, 0), None);
        assert_eq!(due(&segments, 40, CONFIG, 0), None);
        assert_eq!(due(&segments, 45, CONFIG, 0), None);
        // Dirty from the middle of a segment on: it counts twice.
        assert_eq!(due(&segments, 15, CONFIG, 0), Some((15, 40, 600_000)));
        let any = CompactionConfig {
            min_cleanable_dirty_ppm: 0,
            ..CONFIG
        };
        assert_eq!(due(&segments, 30, any, 0), Some((30, 40, 250_000)));
        assert_eq!(due(&segments[..1], 0, any, 0), None);
        assert_eq!(due(&[], 0, any, 0), None);
    }

    #[test]
    fn what_is_too_young_waits_and_what_is_too_old_does_not() {
        let segments = segments(&[100, 100, 100, 100, 100]);
        let lag = CompactionConfig {
            min_compaction_lag_ms: 50,
            ..CONFIG
        };
        assert_eq!(due(&segments, 0, lag, 250), Some((0, 30, 1_000_000)));
        assert_eq!(due(&segments, 0, lag, 249), Some((0, 20, 1_000_000)));
        assert_eq!(due(&segments, 0, lag, 49), None);
        assert_eq!(due(&segments, 10, lag, 400), Some((10, 40, 750_000)));
        let late = CompactionConfig {
            max_compaction_lag_ms: 500,
            ..CONFIG
        };
        assert_eq!(due(&segments, 30, late, 800), None);
        assert_eq!(due(&segments, 30, late, 801), Some((30, 40, 250_000)));
    }

    #[test]
    fn a_plan_ends_before_what_is_not_sealed_when_only_that_is_asked_for() {
        let mut segments = segments(&[100, 100, 100]);
        segments[1].is_sealed = false;
        let judged = Judged {
            segments: &segments,
            cleaned_to: 0,
            config: CONFIG,
        };
        let of =
            |only_sealed| plan(&judged, 0, only_sealed).map(|plan| (plan.uncleanable_from, plan.is_sealed));
        assert_eq!(of(false), Some((20, false)));
        assert_eq!(of(true), Some((10, true)));
    }

    #[test]
    fn neighbours_are_merged_up_to_a_segments_size() {
        let mut segments = segments(&[40, 50, 20, 0, 0, 90, 10, 1]);
        let of = |segments: &[SegmentSummary], end| {
            let groups = groups(segments, end, 100, 24).into_iter();
            let bases = |group: Vec<SegmentSummary>| group.iter().map(|one| one.name.base_offset).collect();
            groups.map(bases).collect::<Vec<Vec<i64>>>()
        };
        assert_eq!(of(&segments, 70), [vec![0, 10], vec![20, 30, 40], vec![50, 60]]);
        assert_eq!(of(&segments, 11), [vec![0, 10]]);
        assert_eq!(of(&segments, 0), Vec::<Vec<i64>>::new());
        // Three entries of the one index are as much as it may have, and two of the other.
        for (index_entries, time_entries, merged) in [(3, 2, true), (4, 0, false), (0, 3, false)] {
            let mut indexed = segments.clone();
            (indexed[0].index_entries, indexed[1].time_entries) = (index_entries, time_entries);
            assert_eq!(of(&indexed, 11).len() == 1, merged);
        }
        segments[1].name.base_offset = i64::from(i32::MAX) + 1;
        assert_eq!(of(&segments[..2], 5), [vec![0]]);
        segments[2].name.base_offset = i64::from(i32::MAX) + 2;
        segments[3].name.base_offset = i64::from(i32::MAX) + 3;
        assert_eq!(
            of(&segments[..3], i64::MAX),
            [vec![0], vec![i64::from(i32::MAX) + 1]]
        );
    }
}
