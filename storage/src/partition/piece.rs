//! A batch at the end of a log: where its bytes are, in memory and on their way to the segment.

use std::rc::Rc;

use ring::buffer::Slice;
use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

use crate::backlog::BATCH_BYTES;
use crate::commit::{Group, Place};

/// A batch that is not migrated, or still in memory.
pub(super) struct Piece {
    pub(super) base_offset: i64,
    pub(super) next_offset: i64,
    /// Where in the partition's stream it begins.
    pub(super) stream_position: u64,
    pub(super) segment_base: i64,
    /// As its header says, in milliseconds since 1970.
    pub(super) max_timestamp_ms: i64,
    pub(super) group: Rc<Group>,
    pub(super) bytes: Bytes,
}

const _: () = assert!(2 * size_of::<Piece>() <= BATCH_BYTES);

/// Where a batch's bytes are.
pub(super) enum Bytes {
    /// In its group's memory, all of them.
    Whole(Place),
    /// Recovered: whole blocks are in the segment alone. Such a batch is migrated before anybody reads.
    Split(Box<Split>),
}

impl Bytes {
    /// Whether it begins at byte `at` of its segment in a block that is in the segment alone, and that another batch begins.
    pub(super) fn begins_within_block(&self, at: u32, block_bytes: u32) -> bool {
        matches!(self, Bytes::Split(split) if split.before.is_none()) && !at.is_multiple_of(block_bytes)
    }

    /// Whether it ends before byte `end` in such a block.
    pub(super) fn ends_within_block(&self, end: u32, block_bytes: u32) -> bool {
        matches!(self, Bytes::Split(split) if split.after.is_none()) && !end.is_multiple_of(block_bytes)
    }
}

/// What a journal has of a batch whose blocks are in the segment.
pub(super) struct Split {
    pub(super) header: BatchHeader,
    /// What comes before the blocks.
    pub(super) before: Option<Place>,
    /// Bytes of the blocks.
    pub(super) blocks: u32,
    /// What comes after them.
    pub(super) after: Option<Place>,
}

/// Of a batch, what its segment does not have yet.
pub(super) struct Unwritten {
    pub(super) before: Option<Slice>,
    /// Bytes between the two that are there.
    pub(super) written: u32,
    pub(super) after: Option<Slice>,
}

const NOT_MIGRATED: &str = "what is not migrated is in memory";

impl Piece {
    /// Bytes of the batch.
    pub(super) fn length(&self) -> usize {
        match &self.bytes {
            Bytes::Whole(place) => place.length as usize,
            Bytes::Split(split) => split.header.batch_bytes(),
        }
    }

    /// The whole batch, if it is in memory.
    pub(super) fn in_memory(&self) -> Option<Slice> {
        match &self.bytes {
            Bytes::Whole(place) => self.group.bytes(*place),
            Bytes::Split(_) => None,
        }
    }

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.bytes, Bytes::Whole(_)) && self.group.is_resident()
    }

    /// Whether its last block, which ends at byte `end` of its segment, is shared with the next batch there.
    pub(super) fn ends_within_block(&self, end: u32, block_bytes: u32) -> bool {
        self.bytes.ends_within_block(end, block_bytes)
    }

    pub(super) fn is_split(&self) -> bool {
        matches!(self.bytes, Bytes::Split(_))
    }

    /// Its header.
    ///
    /// # Panics
    /// If it is migrated.
    pub(super) fn header(&self) -> BatchHeader {
        match &self.bytes {
            Bytes::Whole(_) => {
                let bytes = self.in_memory().expect(NOT_MIGRATED);
                let header = bytes.first_chunk::<BATCH_HEADER_BYTES>().map(BatchHeader::decode);
                header.expect("a batch has a header")
            }
            Bytes::Split(split) => split.header,
        }
    }

    /// What of it a migration has to write.
    ///
    /// # Panics
    /// If it is migrated.
    pub(super) fn unwritten(&self) -> Unwritten {
        match &self.bytes {
            Bytes::Whole(place) => {
                let bytes = self.in_memory().expect(NOT_MIGRATED);
                let written = self.group.written(*place).expect(NOT_MIGRATED);
                if written.is_empty() {
                    return Unwritten {
                        before: Some(bytes),
                        written: 0,
                        after: None,
                    };
                }
                let (from, to) = (written.start as usize, written.end as usize);
                Unwritten {
                    before: Some(bytes.slice(0..from)),
                    written: written.end - written.start,
                    after: Some(bytes.slice(to..bytes.len())),
                }
            }
            Bytes::Split(split) => {
                let read = |place: &Place| self.group.bytes(*place).expect(NOT_MIGRATED);
                Unwritten {
                    before: split.before.as_ref().map(read),
                    written: split.blocks,
                    after: split.after.as_ref().map(read),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_batches_share_is_known_from_both_sides() {
        let place = Place {
            chunk: 0,
            offset: 0,
            length: 100,
        };
        let split = |before: Option<Place>, after: Option<Place>| {
            Bytes::Split(Box::new(Split {
                header: BatchHeader::decode(&[0; BATCH_HEADER_BYTES]),
                before,
                blocks: 4_096,
                after,
            }))
        };
        for (bytes, begins, ends) in [
            (Bytes::Whole(place), false, false),
            (split(None, None), true, true),
            (split(Some(place), None), false, true),
            (split(None, Some(place)), true, false),
            (split(Some(place), Some(place)), false, false),
        ] {
            assert_eq!(bytes.begins_within_block(100, 4_096), begins);
            assert_eq!(bytes.ends_within_block(4_196, 4_096), ends);
            assert!(!bytes.begins_within_block(8_192, 4_096) && !bytes.ends_within_block(8_192, 4_096));
        }
    }
}
