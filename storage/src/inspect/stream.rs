//! Finds the batches in a segment's bytes as these come, and shows them to the judge. Pure.
//!
//! Takes no memory for what it is told: of a batch it keeps the header and a CRC.

use wire::BatchHeader;
use wire::record_batch::BATCH_HEADER_BYTES;

use super::segment::{Flaw, Judge, SeenBatch};
use super::source::{CRC_COVERS_FROM, head_of};

/// See the module.
pub(crate) struct BatchStream {
    judge: Judge,
    /// Of the segment, in bytes.
    length: u64,
    /// Where the batch begins that is being taken, or the next one.
    position: u64,
    head: [u8; BATCH_HEADER_BYTES],
    head_bytes: usize,
    /// When the head is there.
    body: Option<Body>,
    /// Why there is no batch where one should be.
    broken: Option<String>,
}

struct Body {
    header: BatchHeader,
    crc: u32,
    left: usize,
}

impl BatchStream {
    /// Of a segment of so many bytes. The judge has its indexes.
    pub(crate) fn new(judge: Judge, length: u64) -> BatchStream {
        BatchStream {
            judge,
            length,
            position: 0,
            head: [0; BATCH_HEADER_BYTES],
            head_bytes: 0,
            body: None,
            broken: None,
        }
    }

    /// Takes the next bytes. False if there is no batch where one should be: what is behind that cannot be judged.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.broken.is_none() {
            let Some(body) = &mut self.body else {
                let count = bytes.len().min(BATCH_HEADER_BYTES - self.head_bytes);
                let (head, rest) = bytes.split_at(count);
                self.head[self.head_bytes..self.head_bytes + count].copy_from_slice(head);
                self.head_bytes += count;
                bytes = rest;
                if self.head_bytes == BATCH_HEADER_BYTES {
                    self.begin();
                }
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(body.left));
            body.crc = wire::crc32c_append(body.crc, part);
            body.left -= part.len();
            bytes = rest;
            self.end_batch();
        }
        self.broken.is_none()
    }

    /// Something else that was found wrong with the segment's files.
    pub(crate) fn add(&mut self, flaw: Flaw) {
        self.judge.add(flaw);
    }

    /// All were taken that there are. What is wrong, and how much more was not noted. `next_offset` should follow the
    /// last batch.
    pub(crate) fn end(mut self, next_offset: i64) -> (Vec<Flaw>, usize) {
        if self.broken.is_none() && (self.head_bytes > 0 || self.body.is_some()) {
            let head = &self.head[..self.head_bytes];
            let what = head_of(head, self.length.saturating_sub(self.position)).err();
            self.broken = Some(what.unwrap_or_else(|| "the file ends within a batch".to_owned()));
        }
        match self.broken {
            Some(what) => self.judge.no_batch(self.position, &what),
            None => self.judge.end(self.position, Some(next_offset)),
        }
    }

    /// The next bytes cannot be had.
    pub(crate) fn fail(self, position: u64, what: &str) -> (Vec<Flaw>, usize) {
        self.judge.no_batch(position, what)
    }

    /// A head is complete.
    fn begin(&mut self) {
        match head_of(&self.head, self.length.saturating_sub(self.position)) {
            Ok(header) => {
                self.body = Some(Body {
                    header,
                    crc: wire::crc32c(&self.head[CRC_COVERS_FROM..]),
                    left: header.batch_bytes() - BATCH_HEADER_BYTES,
                });
                self.end_batch();
            }
            Err(what) => self.broken = Some(what),
        }
    }

    /// Shows the judge the batch, if all of it was taken.
    fn end_batch(&mut self) {
        let Some(body) = self.body.take_if(|body| body.left == 0) else {
            return;
        };
        self.judge.batch(&SeenBatch {
            position: self.position,
            header: body.header,
            computed_crc: body.crc,
        });
        self.position += body.header.batch_bytes() as u64;
        self.head_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use wire::{BatchBuilder, Compression, NewRecord};

    use super::super::segment::Part;
    use super::*;
    use crate::leader_epochs::LeaderEpochs;

    const BASE_OFFSET: i64 = 40;
    const BATCHES: i64 = 4;

    /// Batches of one record each, and where each begins.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let (mut segment, mut starts) = (Vec::new(), Vec::new());
        for at in 0..BATCHES {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(&NewRecord {
                value: Some(&vec![7; at as usize * 60]),
                ..NewRecord::default()
            });
            let mut batch = builder.build();
            batch[..8].copy_from_slice(&(BASE_OFFSET + at).to_be_bytes());
            starts.push(segment.len());
            segment.extend(batch);
        }
        (segment, starts)
    }

    /// What is wrong with these bytes of a segment that should have `length`, taken in pieces.
    fn judged(bytes: &[u8], length: usize, piece: usize) -> Vec<(u64, String)> {
        let judge = Judge::new(BASE_OFFSET, true, LeaderEpochs::default());
        let mut stream = BatchStream::new(judge, length as u64);
        for piece in bytes.chunks(piece) {
            if !stream.take(piece) {
                assert!(!stream.take(piece), "it goes on behind what cannot be judged");
                break;
            }
        }
        let (flaws, untold) = stream.end(BASE_OFFSET + BATCHES);
        assert!(untold == 0 && flaws.iter().all(|flaw| flaw.part == Part::Log));
        flaws.into_iter().map(|flaw| (flaw.position, flaw.what)).collect()
    }

    #[test]
    fn batches_are_found_in_pieces_of_any_size() {
        let (segment, starts) = segment();
        for piece in 1..=segment.len() {
            assert_eq!(judged(&segment, segment.len(), piece), [], "pieces of {piece}");
            for at in &starts {
                let mut rotten = segment.clone();
                // Its attributes: only the CRC tells.
                rotten[at + 22] ^= 8;
                let flaws = judged(&rotten, rotten.len(), piece);
                assert_eq!(flaws.len(), 1, "{flaws:?}");
                assert_eq!(flaws[0].0, *at as u64);
                assert!(flaws[0].1.contains("CRC"), "{flaws:?}");
            }
        }
    }

    #[test]
    fn a_bit_that_turns_anywhere_is_noticed() {
        let (segment, starts) = segment();
        for at in 0..segment.len() {
            // Neither the CRC nor the chain covers a batch's leader epoch. Partitions know it.
            if starts.iter().any(|start| (start + 12..start + 16).contains(&at)) {
                continue;
            }
            let mut rotten = segment.clone();
            rotten[at] ^= 1 << (at % 8);
            assert_ne!(judged(&rotten, rotten.len(), 50), [], "byte {at}");
        }
    }

    #[test]
    fn what_ends_too_early_or_goes_on_is_said_where() {
        let (segment, starts) = segment();
        let last = starts[3];
        for (length, at, what) in [
            (segment.len() - 1, last, "of which"),
            (last + 60, last, "60 bytes are less than"),
            (last, last, "end before offset 43"),
            (0, 0, "end before offset 40"),
        ] {
            let flaws = judged(&segment[..length], length, 64);
            assert_eq!(flaws.len(), 1, "{flaws:?}");
            assert!(flaws[0].0 == at as u64 && flaws[0].1.contains(what), "{flaws:?}");
        }
        // It was as long as that when its length was asked for.
        let flaws = judged(&segment[..last + 70], segment.len(), 64);
        assert!(
            flaws.len() == 1 && flaws[0].1.contains("ends within a batch"),
            "{flaws:?}"
        );
        let mut longer = segment.clone();
        longer.extend([0; 70]);
        let flaws = judged(&longer, longer.len(), 64);
        assert_eq!(flaws.len(), 1, "{flaws:?}");
        assert!(flaws[0].0 == segment.len() as u64 && flaws[0].1.contains("zeroes"));
    }
}
