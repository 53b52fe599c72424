//! Whether a segment's batches follow each other, and its indexes lead to them. Pure.

use std::path::PathBuf;

use wire::BatchHeader;

use super::check::Severity;
use crate::files::SegmentFiles;
use crate::index::{INDEX_ENTRY_BYTES, IndexEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::leader_epochs::LeaderEpochs;

/// Findings of one segment that are told one by one; more are counted.
const FINDINGS_MAX: usize = 20;
pub(super) const RESTORE: &str = "restore the file from a copy that was made while the broker was stopped; until then \
                                  whoever reads there gets an error";
const REBUILD: &str =
    "remove the file while the broker is stopped: everything is found without it, only later";

/// What is at a place where a batch should be.
pub(crate) enum Step {
    /// A batch: its length can be believed, the rest is to be judged.
    Batch(SeenBatch),
    /// Why there is none, in words.
    NoBatch(String),
    /// No bytes are left.
    End,
}

/// A batch as it is in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenBatch {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    /// Of its bytes. Its header says what it should be.
    pub(crate) computed_crc: u32,
}

impl SeenBatch {
    pub(crate) fn is_whole(&self) -> bool {
        self.computed_crc == self.header.crc
    }
}

/// The files of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Log,
    Index,
    TimeIndex,
}

impl Part {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Part::Log => "log",
            Part::Index => "index",
            Part::TimeIndex => "timeindex",
        }
    }

    /// The one of these files.
    pub(crate) fn path(self, files: &SegmentFiles<'_>) -> PathBuf {
        files.path(self.extension())
    }

    /// How bad it is that something in it is wrong.
    pub(crate) fn severity(self) -> Severity {
        match self {
            Part::Log => Severity::Damage,
            Part::Index | Part::TimeIndex => Severity::Warning,
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Part::Log => RESTORE,
            Part::Index | Part::TimeIndex => REBUILD,
        }
    }
}

/// Something wrong in one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) part: Part,
    /// In that file, in bytes.
    pub(crate) position: u64,
    pub(crate) what: String,
}

impl Flaw {
    /// A file's length is not what it should be.
    pub(crate) fn length(part: Part, found: u64, expected: u64) -> Flaw {
        Flaw {
            part,
            position: found.min(expected),
            what: format!("it has {found} bytes, and {expected} were written to it"),
        }
    }
}

/// Judges the batches of one segment, in their order.
pub(crate) struct Judge {
    base_offset: i64,
    /// The least that the next batch's offset may be; just that, if the segment is dense.
    next_offset: i64,
    /// No batch was taken out by compaction, so that no offset is missing.
    is_dense: bool,
    /// Who wrote which offsets: the CRC does not cover a batch's epoch.
    epochs: LeaderEpochs,
    offsets: Vec<IndexEntry>,
    times: Vec<TimeEntry>,
    /// Entries that were compared so far.
    offsets_seen: usize,
    times_seen: usize,
    max_timestamp_ms: i64,
    /// Where the last batch ends is not known, because it is damaged; and whether that was ever so.
    is_lost: bool,
    has_lost: bool,
    flaws: Vec<Flaw>,
    untold: usize,
}

impl Judge {
    pub(crate) fn new(base_offset: i64, is_dense: bool, epochs: LeaderEpochs) -> Judge {
        Judge {
            base_offset,
            next_offset: base_offset,
            is_dense,
            epochs,
            offsets: Vec::new(),
            times: Vec::new(),
            offsets_seen: 0,
            times_seen: 0,
            max_timestamp_ms: -1,
            is_lost: false,
            has_lost: false,
            flaws: Vec::new(),
            untold: 0,
        }
    }

    /// The segment's indexes, before its first batch.
    pub(crate) fn indexes(&mut self, offsets: Vec<IndexEntry>, times: Vec<TimeEntry>) {
        (self.offsets, self.times) = (offsets, times);
        self.compare_entries();
    }

    /// Indexes must increase: a search would miss what is behind an entry that does not.
    fn compare_entries(&mut self) {
        for at in 1..self.offsets.len() {
            let (one, next) = (self.offsets[at - 1], self.offsets[at]);
            if one.relative_offset >= next.relative_offset || one.position >= next.position {
                let what = format!("entry {at} does not increase");
                self.flaw(Part::Index, (at * INDEX_ENTRY_BYTES) as u64, what);
            }
        }
        for at in 1..self.times.len() {
            let (one, next) = (self.times[at - 1], self.times[at]);
            if one.timestamp_ms >= next.timestamp_ms || one.relative_offset >= next.relative_offset {
                let what = format!("entry {at} does not increase");
                self.flaw(Part::TimeIndex, (at * TIME_ENTRY_BYTES) as u64, what);
            }
        }
    }

    /// The next batch.
    pub(super) fn batch(&mut self, seen: &SeenBatch) {
        let header = &seen.header;
        let follows = match self.is_dense && !self.is_lost {
            true => header.base_offset == self.next_offset,
            false => header.base_offset >= self.next_offset,
        };
        if let Some(what) = self.wrong_with(seen, follows) {
            self.flaw(Part::Log, seen.position, what);
        }
        self.is_lost = !seen.is_whole() || !follows;
        if self.is_lost {
            // One flaw is told once: what it says of offsets and times is not held against its neighbours.
            self.has_lost = true;
            self.compare_offset(seen.position, None);
            return;
        }
        self.next_offset = header.next_offset().max(self.next_offset);
        // A batch that compaction has emptied has no record of its time.
        if header.record_count > 0 {
            self.max_timestamp_ms = self.max_timestamp_ms.max(header.max_timestamp_ms);
        }
        let relative = header.last_offset().saturating_sub(self.base_offset);
        self.compare_offset(seen.position, Some(relative));
        self.compare_time(relative);
    }

    /// What is wrong with a batch, if something is: the worst of it.
    fn wrong_with(&self, seen: &SeenBatch, follows: bool) -> Option<String> {
        let header = &seen.header;
        if !seen.is_whole() {
            return Some(format!(
                "the batch of offset {} is damaged: its CRC-32C says {:#010x}, its bytes give {:#010x}",
                header.base_offset, header.crc, seen.computed_crc
            ));
        }
        if !follows {
            return Some(format!(
                "a batch of offset {} where offset {} should follow",
                header.base_offset, self.next_offset
            ));
        }
        if header.last_offset_delta < 0 || header.record_count < 0 {
            return Some(format!(
                "the batch of offset {} counts {} records up to {} behind its first",
                header.base_offset, header.record_count, header.last_offset_delta
            ));
        }
        let (epoch, offset) = (header.partition_leader_epoch, header.base_offset);
        if let Some(writer) = self.epochs.instead_of(epoch, offset) {
            return Some(format!(
                "the batch of offset {offset} is of leader epoch {epoch}, and {writer} had written it"
            ));
        }
        None
    }

    /// The batch at `position` ends with offset `relative`, if that is known.
    fn compare_offset(&mut self, position: u64, relative: Option<i64>) {
        while let Some(entry) = self.offsets.get(self.offsets_seen).copied() {
            let at = (self.offsets_seen * INDEX_ENTRY_BYTES) as u64;
            if u64::from(entry.position) > position {
                return;
            }
            self.offsets_seen += 1;
            if u64::from(entry.position) < position {
                let what = format!("an entry for byte {}, where no batch begins", entry.position);
                self.flaw(Part::Index, at, what);
            } else if let Some(relative) = relative.filter(|last| *last != i64::from(entry.relative_offset)) {
                let what = format!(
                    "an entry says offset {}, and the batch at byte {position} ends with {}",
                    self.base_offset.saturating_add(i64::from(entry.relative_offset)),
                    self.base_offset.saturating_add(relative)
                );
                self.flaw(Part::Index, at, what);
            }
        }
    }

    fn compare_time(&mut self, relative: i64) {
        while let Some(entry) = self.times.get(self.times_seen).copied() {
            let at = (self.times_seen * TIME_ENTRY_BYTES) as u64;
            let of_entry = i64::from(entry.relative_offset);
            if of_entry > relative {
                return;
            }
            self.times_seen += 1;
            if self.has_lost {
                continue; // it may be of a batch that is
            }
            let offset = self.base_offset.saturating_add(of_entry);
            if of_entry < relative {
                let what = format!("an entry for offset {offset}, with which no batch ends");
                self.flaw(Part::TimeIndex, at, what);
            } else if entry.timestamp_ms != self.max_timestamp_ms {
                let what = format!(
                    "an entry says time {} for offset {offset}, and the largest up to there is {}",
                    entry.timestamp_ms, self.max_timestamp_ms
                );
                self.flaw(Part::TimeIndex, at, what);
            }
        }
    }

    /// No batch at `position`, where one should be: the rest cannot be judged.
    pub(crate) fn no_batch(mut self, position: u64, what: &str) -> (Vec<Flaw>, usize) {
        self.flaw(
            Part::Log,
            position,
            format!("{what}; what is behind it was not checked"),
        );
        (self.flaws, self.untold)
    }

    /// The segment ends at `position`; `next_offset` is what should follow its last batch, if that is known.
    pub(crate) fn end(mut self, position: u64, next_offset: Option<i64>) -> (Vec<Flaw>, usize) {
        if let Some(expected) = next_offset {
            let ends_right = match self.is_dense {
                true => self.next_offset == expected,
                false => self.next_offset <= expected,
            };
            if !ends_right && !self.is_lost {
                let what = format!(
                    "its batches end before offset {}, and should before {expected}",
                    self.next_offset
                );
                self.flaw(Part::Log, position, what);
            }
        }
        if self.offsets_seen < self.offsets.len() {
            let what = format!(
                "an entry for byte {}, where no batch begins",
                self.offsets[self.offsets_seen].position
            );
            self.flaw(Part::Index, (self.offsets_seen * INDEX_ENTRY_BYTES) as u64, what);
        }
        if self.times_seen < self.times.len() && !self.has_lost {
            let offset = i64::from(self.times[self.times_seen].relative_offset);
            let what = format!(
                "an entry for offset {}, with which no batch ends",
                self.base_offset.saturating_add(offset)
            );
            self.flaw(Part::TimeIndex, (self.times_seen * TIME_ENTRY_BYTES) as u64, what);
        }
        (self.flaws, self.untold)
    }

    fn flaw(&mut self, part: Part, position: u64, what: String) {
        self.add(Flaw { part, position, what });
    }

    /// Something else that was found wrong with the segment's files.
    pub(crate) fn add(&mut self, flaw: Flaw) {
        if self.flaws.len() < FINDINGS_MAX {
            self.flaws.push(flaw);
        } else {
            self.untold += 1;
        }
    }
}

/// For the fuzz target: a segment and its indexes of any bytes are judged, with a bounded number of findings.
#[cfg(fuzzing)]
pub(crate) fn judge_anything(base_offset: i64, log: &[u8], index: &[u8], times: &[u8], is_dense: bool) {
    let mut judge = Judge::new(base_offset, is_dense, LeaderEpochs::default());
    judge.indexes(
        crate::index::offset_entries(index).collect(),
        crate::index::time_entries(times).collect(),
    );
    let mut stream = super::BatchStream::new(judge, log.len() as u64);
    // Pieces of any size, that of the base offset.
    for piece in log.chunks(1 + (base_offset as usize & 0xff)) {
        if !stream.take(piece) {
            break;
        }
    }
    let (flaws, _) = stream.end(base_offset);
    assert!(flaws.len() <= FINDINGS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of `records` records, whole.
    fn batch(base_offset: i64, records: i32, position: u64, max_timestamp_ms: i64) -> SeenBatch {
        let header = BatchHeader {
            base_offset,
            last_offset_delta: records - 1,
            record_count: records,
            max_timestamp_ms,
            crc: 5,
            ..BatchHeader::decode(&[0; 61])
        };
        SeenBatch {
            position,
            header,
            computed_crc: 5,
        }
    }

    /// Three batches of ten records and 100 bytes each, from offset 20 on.
    fn batches() -> [SeenBatch; 3] {
        [
            batch(20, 10, 0, 50),
            batch(30, 10, 100, 40),
            batch(40, 10, 200, 60),
        ]
    }

    fn judged(
        batches: &[SeenBatch],
        is_dense: bool,
        offsets: &[(u32, u32)],
        times: &[(i64, u32)],
    ) -> Vec<(Part, u64)> {
        let mut judge = Judge::new(20, is_dense, LeaderEpochs::default());
        let offsets = offsets.iter().map(|&(relative_offset, position)| IndexEntry {
            relative_offset,
            position,
        });
        let times = times.iter().map(|&(timestamp_ms, relative_offset)| TimeEntry {
            timestamp_ms,
            relative_offset,
        });
        judge.indexes(offsets.collect(), times.collect());
        for seen in batches {
            judge.batch(seen);
        }
        let (flaws, untold) = judge.end(300, Some(50));
        assert_eq!(untold, 0);
        flaws.into_iter().map(|flaw| (flaw.part, flaw.position)).collect()
    }

    #[test]
    fn a_segment_as_it_is_written_has_no_flaw() {
        let none: [(Part, u64); 0] = [];
        assert_eq!(
            judged(&batches(), true, &[(19, 100), (29, 200)], &[(50, 9), (60, 29)]),
            none
        );
        assert_eq!(judged(&batches(), true, &[], &[]), none);
    }

    #[test]
    fn offsets_of_a_dense_segment_follow_each_other_and_others_only_increase() {
        let mut gap = batches();
        gap[1].header.last_offset_delta = 5;
        assert_eq!(judged(&gap, true, &[], &[]), [(Part::Log, 200)]);
        assert_eq!(judged(&gap, false, &[], &[]), []);
        let mut back = batches();
        back[2].header.base_offset = 35;
        assert_eq!(judged(&back, false, &[], &[]), [(Part::Log, 200)]);
        // The last one is missing.
        assert_eq!(judged(&batches()[..2], true, &[], &[]), [(Part::Log, 300)]);
        assert_eq!(judged(&batches()[..2], false, &[], &[]), []);
    }

    #[test]
    fn a_batch_is_judged_by_its_crc_its_counts_and_its_epoch() {
        let mut rotten = batches();
        rotten[1].computed_crc = 6;
        assert_eq!(judged(&rotten, true, &[], &[]), [(Part::Log, 100)]);
        let mut counts = batches();
        counts[1].header.record_count = -1;
        assert_eq!(judged(&counts, true, &[], &[]), [(Part::Log, 100)]);
        let mut epochs = LeaderEpochs::default();
        epochs.begin(1, 30);
        epochs.begin(2, 40);
        let mut judge = Judge::new(20, true, epochs);
        for (mut seen, epoch) in batches().into_iter().zip([0, 1, 1]) {
            seen.header.partition_leader_epoch = epoch;
            judge.batch(&seen);
        }
        let (flaws, _) = judge.end(300, Some(50));
        assert_eq!(
            flaws.len(),
            1,
            "before the first known epoch nothing is known: {flaws:?}"
        );
        assert_eq!((flaws[0].part, flaws[0].position), (Part::Log, 200));
    }

    #[test]
    fn one_flaw_of_a_batch_is_told_once_and_not_held_against_its_neighbours_or_the_index() {
        let break_it: [fn(&mut SeenBatch); 5] = [
            |seen| seen.header.base_offset ^= 1 << 40,
            |seen| seen.header.base_offset -= 5,
            |seen| (seen.header.last_offset_delta, seen.computed_crc) = (1_000, 7),
            |seen| (seen.header.record_count, seen.computed_crc) = (-1, 7),
            |seen| (seen.header.max_timestamp_ms, seen.computed_crc) = (i64::MAX, 7),
        ];
        for (at, place) in [(1, 100), (2, 200)] {
            for break_it in break_it {
                let mut broken = batches();
                break_it(&mut broken[at]);
                let flaws = judged(&broken, true, &[(19, 100), (29, 200)], &[(50, 9), (60, 29)]);
                assert_eq!(flaws, [(Part::Log, place)], "{:?}", broken[at].header);
            }
        }
        // What is wrong behind it is seen.
        let mut broken = batches();
        broken[0].computed_crc = 7;
        broken[2].header.base_offset = 45;
        let flaws = judged(&broken, true, &[(19, 101), (29, 200)], &[(50, 9), (60, 29)]);
        assert_eq!(flaws, [(Part::Log, 0), (Part::Log, 200), (Part::Index, 0)]);
    }

    #[test]
    fn an_index_leads_to_batches_by_their_last_offsets() {
        for (offsets, at) in [
            (&[(19, 101)][..], 0),
            (&[(9, 0), (20, 100)][..], 8),
            (&[(9, 0), (19, 100), (29, 300)][..], 16),
            (&[(9, 0), (29, 200), (19, 100)][..], 16),
        ] {
            let flaws = judged(&batches(), true, offsets, &[]);
            assert_eq!(flaws.first(), Some(&(Part::Index, at)), "{offsets:?}");
        }
    }

    #[test]
    fn a_time_index_has_the_largest_time_so_far_and_whose_it_is() {
        for (times, at) in [
            (&[(51, 9)][..], 0),
            (&[(50, 9), (40, 19)][..], 12),
            (&[(50, 9), (60, 28)][..], 12),
            (&[(50, 9), (60, 39)][..], 12),
        ] {
            let flaws = judged(&batches(), true, &[], times);
            assert_eq!(flaws.first(), Some(&(Part::TimeIndex, at)), "{times:?}");
        }
    }

    #[test]
    fn however_much_is_wrong_a_bounded_number_of_flaws_is_told() {
        let offsets: Vec<_> = (0..1_000).map(|_| (3, 3)).collect();
        let mut judge = Judge::new(20, true, LeaderEpochs::default());
        let entry = |&(relative_offset, position): &(u32, u32)| IndexEntry {
            relative_offset,
            position,
        };
        judge.indexes(offsets.iter().map(entry).collect(), Vec::new());
        let (flaws, untold) = judge.no_batch(0, "zeroes");
        assert_eq!((flaws.len(), untold), (FINDINGS_MAX, 1_000 - FINDINGS_MAX));
    }
}
