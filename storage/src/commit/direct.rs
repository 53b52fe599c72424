//! Batches that are written to their segment at once: which of their bytes go there, and which into the record.
//!
//! A run is a stretch of one segment in memory, with each byte as far from a block's boundary as in the file. Its whole
//! blocks are written to the file; what shares its first and its last block with others rides in the record, so that
//! nobody ever writes again to a block that holds what was acknowledged (storage.md, "Blocks").
//! Must never decide that a write is durable: the record's task does.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use ring::buffer::Slice;
use ring::file::{Durability, File};
use wire::record_batch::{BATCH_HEADER_BYTES, crc_of_range};

use crate::error::StorageError;
use crate::journal::record::{self, DIRECT_PAYLOAD_BYTES, ENTRY_BYTES, Entry, Kind};

/// A segment that takes direct writes: it has its name, durably, and its blocks.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) file: File,
    pub(crate) path: Rc<Path>,
}

/// Batches of one segment that follow each other, in a chunk of their own; and the segment.
pub(super) struct Run {
    pub(super) target: Target,
    pub(super) stretch: Stretch,
}

/// Which batches they are, and where.
pub(super) struct Stretch {
    /// Where in the segment the chunk's first byte would be, in bytes: a block's boundary.
    start: u32,
    /// As whole batches, in order.
    batches: Vec<Entry>,
}

/// A part of a batch as the record has it.
pub(super) struct Fragment {
    pub(super) entry: Entry,
    /// Where in the chunk its bytes are; of a DIRECT one, those of the batch's header.
    pub(super) source: Range<usize>,
}

/// Whole blocks on their way to a segment.
pub(super) struct DirectWrite {
    target: Target,
    blocks: Slice,
    position: u64,
}

impl Run {
    /// The write of its blocks, once the chunk takes no more.
    pub(super) fn write(self, blocks: &Range<usize>, chunk: &Slice) -> Option<DirectWrite> {
        (!blocks.is_empty()).then(|| DirectWrite {
            target: self.target,
            blocks: chunk.slice(blocks.clone()),
            position: u64::from(self.stretch.start) + blocks.start as u64,
        })
    }
}

impl Stretch {
    /// For batches from `first` on.
    pub(super) fn new(first: &Entry, block_bytes: usize) -> Stretch {
        Stretch {
            start: first.file_position - first.file_position % block_bytes as u32,
            batches: Vec::new(),
        }
    }

    /// Where in the chunk a byte of the segment is.
    pub(super) fn place_of(&self, file_position: u32) -> usize {
        (file_position - self.start) as usize
    }

    /// Whether the batch is of this partition.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        self.batches.first().is_some_and(|first| first.id == entry.id)
    }

    /// Whether the batch follows, in the same segment.
    pub(super) fn is_followed_by(&self, entry: &Entry) -> bool {
        (self.batches.last()).is_some_and(|last| {
            (last.id, last.segment_base) == (entry.id, entry.segment_base)
                && last.file_position + last.length == entry.file_position
        })
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.batches.push(entry);
    }

    /// Bytes of its batches.
    pub(super) fn bytes(&self) -> usize {
        self.extent().len()
    }

    /// Entries that it gets at most.
    pub(super) fn entries_max(&self) -> usize {
        self.batches.len() + 2
    }

    /// Bytes of the record's payload that it takes at most.
    pub(super) fn payload_bytes_max(&self, direct_bytes_min: usize, block_bytes: usize) -> usize {
        let each = (DIRECT_PAYLOAD_BYTES + 8).max(ENTRY_BYTES) * self.entries_max();
        each + if self.bytes() < direct_bytes_min {
            self.bytes()
        } else {
            2 * block_bytes
        }
    }

    /// Of the segment, what its batches fill.
    fn extent(&self) -> Range<usize> {
        let (first, last) = (self.batches.first(), self.batches.last());
        let from = first.map_or(self.start, |first| first.file_position);
        let to = last.map_or(from, |last| last.file_position + last.length);
        from as usize..to as usize
    }

    /// Of the chunk, the whole blocks that are written to the segment; empty if the run has less than
    /// `direct_bytes_min` bytes, or no whole block.
    pub(super) fn blocks(&self, direct_bytes_min: usize, block_bytes: usize) -> Range<usize> {
        let Range { start, end } = self.extent();
        let (from, to) = (start.next_multiple_of(block_bytes), end - end % block_bytes);
        let before = self.start as usize;
        if end - start < direct_bytes_min || from >= to {
            return 0..0;
        }
        from - before..to - before
    }

    /// The batches as the record has them, `blocks` of the chunk being in the segment.
    pub(super) fn fragments(&self, blocks: &Range<usize>, chunk: &[u8]) -> Vec<Fragment> {
        let mut fragments = Vec::with_capacity(self.entries_max());
        for batch in &self.batches {
            let from = self.place_of(batch.file_position);
            let whole = from..from + batch.length as usize;
            let parts = if blocks.is_empty() {
                [
                    (Kind::Inline, whole.clone()),
                    (Kind::Direct, 0..0),
                    (Kind::Inline, 0..0),
                ]
            } else {
                [
                    (Kind::Inline, whole.start..whole.end.min(blocks.start)),
                    (
                        Kind::Direct,
                        whole.start.max(blocks.start)..whole.end.min(blocks.end),
                    ),
                    (Kind::Inline, whole.start.max(blocks.end)..whole.end),
                ]
            };
            let first = fragments.len();
            for (kind, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
                let entry = Entry {
                    kind,
                    goes_on: true,
                    data_crc: crc_of_range(&chunk[whole.clone()], part.start - from..part.end - from),
                    file_position: self.start + part.start as u32,
                    length: part.len() as u32,
                    ..*batch
                };
                let source = match kind {
                    Kind::Direct => whole.start..whole.start + BATCH_HEADER_BYTES,
                    _ => part,
                };
                fragments.push(Fragment { entry, source });
            }
            debug_assert!(fragments.len() > first, "a batch has bytes");
            if let Some(last) = fragments.last_mut() {
                last.entry.goes_on = false;
            }
        }
        fragments
    }
}

impl Fragment {
    /// Writes its payload.
    pub(super) fn put(&self, payload: &mut [u8], chunk: &[u8]) {
        let bytes = &chunk[self.source.clone()];
        match self.entry.kind {
            Kind::Direct => record::encode_direct(payload, bytes),
            _ => payload.copy_from_slice(bytes),
        }
    }
}

impl DirectWrite {
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len()
    }

    /// Writes the blocks. They are durable only after [`Target::flush`], begun when this has returned.
    pub(super) async fn write(self) -> Result<Target, StorageError> {
        let DirectWrite {
            target,
            blocks,
            position,
        } = self;
        target
            .file
            .write_all_at(vec![blocks], position, Durability::Completed)
            .await
            .map_err(StorageError::io("write", &target.path))?;
        Ok(target)
    }
}

impl Target {
    /// Makes durable what was written, and that its extents hold data.
    pub(super) async fn flush(self) -> Result<(), StorageError> {
        self.file
            .sync_data()
            .await
            .map_err(StorageError::io("flush", &self.path))
    }

    pub(super) fn is(&self, other: &Target) -> bool {
        Rc::ptr_eq(&self.path, &other.path) || self.path == other.path
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::TopicPartition;

    const BLOCK: usize = 512;

    fn stretch(from: u32, lengths: &[u32]) -> (Stretch, Vec<u8>) {
        let mut batch = Entry {
            kind: Kind::Inline,
            at_block: false,
            goes_on: false,
            id: TopicPartition::default(),
            owner_epoch: 0,
            data_crc: 0,
            base_offset: 7,
            next_offset: 8,
            segment_base: 0,
            file_position: from,
            length: 0,
        };
        let mut stretch = Stretch::new(&batch, BLOCK);
        for length in lengths {
            batch.length = *length;
            stretch.push(batch);
            batch.file_position += length;
            (batch.base_offset, batch.next_offset) = (batch.next_offset, batch.next_offset + 1);
        }
        let end = stretch.place_of(batch.file_position);
        let chunk = (0..end).map(|at| (at * 7 % 251) as u8).collect();
        (stretch, chunk)
    }

    #[test]
    fn a_block_that_others_share_is_not_written() {
        let (stretch, chunk) = stretch(500, &[100, 2_000, 61]);
        // 500..2661: whole blocks are 512..2560.
        let blocks = stretch.blocks(1_000, BLOCK);
        assert_eq!(blocks, 512..2_560);
        let parts: Vec<_> = stretch
            .fragments(&blocks, &chunk)
            .into_iter()
            .map(|part| {
                (
                    part.entry.kind,
                    part.entry.file_position,
                    part.entry.length,
                    part.entry.goes_on,
                )
            })
            .collect();
        assert_eq!(
            parts,
            [
                (Kind::Inline, 500, 12, true),
                (Kind::Direct, 512, 88, false),
                (Kind::Direct, 600, 1_960, true),
                (Kind::Inline, 2_560, 40, false),
                (Kind::Inline, 2_600, 61, false),
            ]
        );
    }

    #[test]
    fn too_few_bytes_or_no_whole_block_go_into_the_record() {
        let (few, chunk) = stretch(0, &[999]);
        assert!(few.blocks(1_000, BLOCK).is_empty());
        assert_eq!(few.fragments(&(0..0), &chunk).len(), 1);
        let (none, _) = stretch(100, &[900]);
        assert!(none.blocks(1, BLOCK).is_empty());
        let (aligned, _) = stretch(1_024, &[1_024]);
        assert_eq!(aligned.blocks(1_000, BLOCK), 0..1_024);
    }

    proptest! {
        #[test]
        fn the_parts_tile_the_batches(
            from in 0_u32..3_000,
            lengths in prop::collection::vec(61_u32..3_000, 1..20),
            min in 1_usize..8_000,
        ) {
            let (stretch, chunk) = stretch(from, &lengths);
            let blocks = stretch.blocks(min, BLOCK);
            prop_assert_eq!(stretch.bytes(), lengths.iter().sum::<u32>() as usize);
            let position = |at: usize| stretch.start as usize + at;
            prop_assert!(blocks.is_empty() || position(blocks.start) % BLOCK == 0 && position(blocks.end) % BLOCK == 0);
            let parts = stretch.fragments(&blocks, &chunk);
            prop_assert!(parts.len() <= stretch.entries_max());
            let (mut end, mut payload, mut offset) = (from, 0, 7);
            for part in &parts {
                let entry = part.entry;
                prop_assert_eq!(entry.file_position, end);
                prop_assert_eq!(entry.base_offset, offset);
                end += entry.length;
                offset += i64::from(!entry.goes_on);
                let at = stretch.place_of(entry.file_position);
                let bytes = at..at + entry.length as usize;
                prop_assert_eq!(entry.data_crc, wire::crc32c(&chunk[bytes.clone()]));
                let is_within = blocks.start <= bytes.start && bytes.end <= blocks.end && !blocks.is_empty();
                prop_assert_eq!(entry.kind == Kind::Direct, is_within);
                payload = record::payload_start(payload, false, BLOCK) + entry.payload_bytes();
                let mut copy = vec![0; entry.payload_bytes()];
                part.put(&mut copy, &chunk);
                if entry.kind == Kind::Direct {
                    prop_assert!(record::direct_header(&copy).is_some());
                } else {
                    prop_assert_eq!(&copy, &chunk[bytes]);
                }
            }
            prop_assert_eq!((end, offset), (from + stretch.bytes() as u32, 7 + lengths.len() as i64));
            prop_assert!(payload <= stretch.payload_bytes_max(min, BLOCK));
        }
    }
}
