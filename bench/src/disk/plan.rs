//! What is asked of a disk, case by case.
//!
//! Pure.

use std::fmt;

use ring::file::Durability;

/// Writes in flight where bandwidth is asked for.
const BANDWIDTH_DEPTH: u32 = 4;
/// Sizes of these writes, in bytes.
const BANDWIDTH_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
/// Sizes of commits, in bytes: what a journal writes for one group of small batches.
const COMMIT_BYTES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];
/// Commits in flight: alone, and as many as our journal has.
const COMMIT_DEPTHS: [u32; 2] = [1, 2];

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

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What it is about.
    pub subject: &'static str,
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
            subject: "bandwidth",
            block_bytes,
            place,
            depth: BANDWIDTH_DEPTH,
            flush: Flush::AtEnd,
        }));
    }
    cases.extend([Flush::Fdatasync, Flush::Dsync].map(|flush| Case {
        subject: "flush",
        block_bytes: COMMIT_BYTES[0],
        place: Place::Overwrite,
        depth: 1,
        flush,
    }));
    for depth in COMMIT_DEPTHS {
        cases.extend(COMMIT_BYTES.map(|block_bytes| Case {
            subject: "commit",
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
        let has = |subject: &str, bytes: usize, place: Place, flush: Flush| {
            (cases.iter()).any(|case| {
                (case.subject, case.block_bytes, case.place, case.flush) == (subject, bytes, place, flush)
            })
        };
        for bytes in [64 << 10, 256 << 10, 1 << 20] {
            assert!(has("bandwidth", bytes, Place::Overwrite, Flush::AtEnd));
            assert!(has("bandwidth", bytes, Place::Fresh, Flush::AtEnd));
        }
        assert!(has("flush", 4_096, Place::Overwrite, Flush::Fdatasync));
        assert!(has("flush", 4_096, Place::Overwrite, Flush::Dsync));
        for bytes in [4_096, 16_384, 65_536] {
            assert!(has("commit", bytes, Place::Overwrite, Flush::Dsync));
        }
        assert_eq!(block_bytes_max(), 1 << 20);
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
