//! A batch at the end of a log: where its bytes are, in memory and on their way to the segment.

use std::rc::Rc;

use ring::buffer::Slice;
use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

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

/// Where a batch's bytes are.
pub(super) enum Bytes {
    /// In its group's memory, all of them.
    Whole(Place),
    /// Recovered: whole blocks are in the segment alone. Such a batch is migrated before anybody reads.
    Split(Box<Split>),
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
    pub(super) header: BatchHeader,
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
        let header = self.header();
        match &self.bytes {
            Bytes::Whole(place) => {
                let bytes = self.in_memory().expect(NOT_MIGRATED);
                let written = self.group.written(*place).expect(NOT_MIGRATED);
                if written.is_empty() {
                    return Unwritten {
                        header,
                        before: Some(bytes),
                        written: 0,
                        after: None,
                    };
                }
                let (from, to) = (written.start as usize, written.end as usize);
                Unwritten {
                    header,
                    before: Some(bytes.slice(0..from)),
                    written: written.end - written.start,
                    after: Some(bytes.slice(to..bytes.len())),
                }
            }
            Bytes::Split(split) => {
                let read = |place: &Place| self.group.bytes(*place).expect(NOT_MIGRATED);
                Unwritten {
                    header,
                    before: split.before.as_ref().map(read),
                    written: split.blocks,
                    after: split.after.as_ref().map(read),
                }
            }
        }
    }
}
