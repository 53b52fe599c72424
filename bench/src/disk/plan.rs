//! What is asked of a disk, case by case.
//!
//! Pure.

use std::fmt;

use clap::ValueEnum;
use ring::file::Durability;

/// Writes in flight where bandwidth is asked for.
const BANDWIDTH_DEPTH: u32 = 4;
/// Sizes of these writes, in bytes.
const BANDWIDTH_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
/// Sizes of groups, in bytes: what a log makes durable at once when batches are large.
const GROUP_BYTES: [usize; 3] = [1 << 20, 4 << 20, 16 << 20];
/// Sizes of commits, in bytes: what a journal writes for one group of small batches.
const COMMIT_BYTES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];
/// Commits or groups in flight: alone, and as many as our log has.
const COMMIT_DEPTHS: [u32; 2] = [1, 2];

/// The ways to flush what was just written.
const FLUSHES: [Flush; 2] = [Flush::Fdatasync, Flush::Dsync];

/// Where a write goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Over blocks that were written before: a journal that is used again.
    Overwrite,
    /// Behind the end of a file that grows: a segment.
    Fresh,
}

/// When a write is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// All of them at the end, by one fdatasync, whose time counts.
    AtEnd,
    /// Each by itself (RWF_DSYNC).
    Dsync,
    /// Each by an fdatasync behind it.
    Fdatasync,
}

impl Flush {
    /// What the write itself promises.
    pub(super) fn of_a_write(self) -> Durability {
        match self {
            Flush::Dsync => Durability::Durable,
            Flush::AtEnd | Flush::Fdatasync => Durability::Completed,
        }
    }
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// What goes through when nothing is durable before the end.
    Bandwidth,
    /// What goes through when large groups of bytes are durable before the next are written.
    Group,
    /// The latency of a flush.
    Flush,
    /// Commits of a journal's size.
    Commit,
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What it is about.
    pub subject: Subject,
    /// Bytes of a write.
    pub block_bytes: usize,
    /// Where it goes.
    pub place: Place,
    /// Writes in flight.
    pub depth: u32,
    /// When it is durable.
    pub flush: Flush,
}

/// All questions, in their order. No block is larger than [`block_bytes_max`].
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for place in [Place::Overwrite, Place::Fresh] {
        cases.extend(BANDWIDTH_BYTES.map(|block_bytes| Case {
            subject: Subject::Bandwidth,
            block_bytes,
            place,
            depth: BANDWIDTH_DEPTH,
            flush: Flush::AtEnd,
        }));
    }
    for place in [Place::Overwrite, Place::Fresh] {
        for flush in FLUSHES {
            for depth in COMMIT_DEPTHS {
                cases.extend(GROUP_BYTES.map(|block_bytes| Case {
                    subject: Subject::Group,
                    block_bytes,
                    place,
                    depth,
                    flush,
                }));
            }
        }
    }
    cases.extend(FLUSHES.map(|flush| Case {
        subject: Subject::Flush,
        block_bytes: COMMIT_BYTES[0],
        place: Place::Overwrite,
        depth: 1,
        flush,
    }));
    for depth in COMMIT_DEPTHS {
        cases.extend(COMMIT_BYTES.map(|block_bytes| Case {
            subject: Subject::Commit,
            block_bytes,
            place: Place::Overwrite,
            depth,
            flush: Flush::Dsync,
        }));
    }
    cases
}

/// The largest write.
pub fn block_bytes_max() -> usize {
    cases().iter().map(|case| case.block_bytes).max().unwrap_or(0)
}

/// As the table has it, and the command line.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Bandwidth => "bandwidth",
            Subject::Group => "group",
            Subject::Flush => "flush",
            Subject::Commit => "commit",
        })
    }
}

/// As the table has it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Overwrite => "overwrite",
            Place::Fresh => "fresh",
        })
    }
}

/// As the table has it.
impl fmt::Display for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flush::AtEnd => "at the end",
            Flush::Dsync => "RWF_DSYNC",
            Flush::Fdatasync => "fdatasync",
        })
    }
}

/// Where the writes of a case go: block after block of a file, and again from its start, or to its end once.
#[derive(Debug, Clone, Copy)]
pub struct Offsets {
    next: u64,
    block_bytes: u64,
    file_bytes: u64,
    is_again: bool,
}

impl Offsets {
    /// Of a file of so many bytes.
    pub fn new(case: &Case, file_bytes: u64) -> Offsets {
        Offsets {
            next: 0,
            block_bytes: case.block_bytes as u64,
            file_bytes,
            is_again: case.place == Place::Overwrite,
        }
    }
}

impl Iterator for Offsets {
    type Item = u64;

    /// Never gives one whose block reaches past the file's size.
    fn next(&mut self) -> Option<u64> {
        if self.next + self.block_bytes > self.file_bytes {
            if !self.is_again || self.block_bytes > self.file_bytes {
                return None;
            }
            self.next = 0;
        }
        let offset = self.next;
        self.next += self.block_bytes;
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_are_those_of_a_log() {
        let cases = cases();
        let has = |subject: Subject, bytes: usize, place: Place, flush: Flush| {
            (cases.iter()).any(|case| {
                (case.subject, case.block_bytes, case.place, case.flush) == (subject, bytes, place, flush)
            })
        };
        for bytes in [64 << 10, 256 << 10, 1 << 20] {
            assert!(has(Subject::Bandwidth, bytes, Place::Overwrite, Flush::AtEnd));
            assert!(has(Subject::Bandwidth, bytes, Place::Fresh, Flush::AtEnd));
        }
        assert!(has(Subject::Flush, 4_096, Place::Overwrite, Flush::Fdatasync));
        assert!(has(Subject::Flush, 4_096, Place::Overwrite, Flush::Dsync));
        for bytes in [4_096, 16_384, 65_536] {
            assert!(has(Subject::Commit, bytes, Place::Overwrite, Flush::Dsync));
        }
        for bytes in [1 << 20, 4 << 20, 16 << 20] {
            for place in [Place::Overwrite, Place::Fresh] {
                assert!(has(Subject::Group, bytes, place, Flush::Fdatasync));
                assert!(has(Subject::Group, bytes, place, Flush::Dsync));
            }
        }
        assert_eq!(block_bytes_max(), 16 << 20);
        for subject in Subject::value_variants() {
            let name = subject.to_possible_value().expect("none is hidden");
            assert_eq!(name.get_name(), subject.to_string());
            assert!(cases.iter().any(|case| case.subject == *subject));
        }
        assert_eq!(Flush::Dsync.of_a_write(), Durability::Durable);
        assert_eq!(Flush::Fdatasync.of_a_write(), Durability::Completed);
    }

    #[test]
    fn no_write_reaches_past_the_file() {
        let case = |place| Case {
            place,
            block_bytes: 4_096,
            ..cases()[0]
        };
        let overwrite: Vec<u64> = Offsets::new(&case(Place::Overwrite), 10_000).take(5).collect();
        assert_eq!(overwrite, [0, 4_096, 0, 4_096, 0]);
        let fresh: Vec<u64> = Offsets::new(&case(Place::Fresh), 12_288).take(5).collect();
        assert_eq!(fresh, [0, 4_096, 8_192]);
        for place in [Place::Overwrite, Place::Fresh] {
            assert_eq!(Offsets::new(&case(place), 4_095).next(), None);
        }
    }
}
