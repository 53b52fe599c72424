//! The journal's superblock as bytes. Pure.
//!
//! Two copies, written in turn, each in a block of its own. The one with the higher generation is the newer.

/// Bytes that are used of a superblock's block.
pub(crate) const SUPERBLOCK_BYTES: usize = 128;
/// The blocks that there are, in bytes.
pub(super) const BLOCK_BYTES_MIN: u32 = 512;
pub(super) const BLOCK_BYTES_MAX: u32 = 64 << 10;

const MAGIC: u32 = 0x4d4c_5342; // "MLSB"
const VERSION: u32 = 1;

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReplayStart {
    /// The first record's sequence number.
    pub seq: u64,
    /// Where it is (or will be) in the file, in bytes: the end of the ring means its first block as well.
    pub position: u64,
    /// The header CRC of the record before it; 0 before the first.
    pub previous_crc: u32,
}

/// What a journal says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) journal_id: u128,
    /// Starts of this journal so far: records of a start that crashed are void where a later start has cut.
    pub(crate) start_epoch: u64,
    /// Writes of a superblock so far.
    pub(crate) generation: u64,
    /// What the checkpoint before the newest needs: everything from here on is kept.
    pub(crate) tail: ReplayStart,
    /// Bytes of the ring, a multiple of the block.
    pub(crate) ring_bytes: u64,
    /// The newest checkpoint; 0 if there is none.
    pub(crate) checkpoint_generation: u64,
    /// What no torn write damages a part of.
    pub(crate) block_bytes: u32,
    /// Bytes of the largest record that may ever be in the ring.
    pub(crate) largest_record: u32,
}

/// Writes the superblock to the front of `block`.
pub(crate) fn encode(block: &mut [u8], superblock: &Superblock) {
    let bytes = &mut block[..SUPERBLOCK_BYTES];
    bytes.fill(0);
    let mut at = 4;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&MAGIC.to_le_bytes());
    put(&superblock.journal_id.to_le_bytes());
    put(&superblock.start_epoch.to_le_bytes());
    put(&superblock.generation.to_le_bytes());
    put(&superblock.tail.seq.to_le_bytes());
    put(&superblock.tail.position.to_le_bytes());
    put(&superblock.ring_bytes.to_le_bytes());
    put(&superblock.checkpoint_generation.to_le_bytes());
    put(&superblock.block_bytes.to_le_bytes());
    put(&VERSION.to_le_bytes());
    put(&superblock.tail.previous_crc.to_le_bytes());
    put(&superblock.largest_record.to_le_bytes());
    let crc = wire::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

/// The superblock in `block`, unless it is damaged or of another version.
pub(crate) fn decode(block: &[u8]) -> Option<Superblock> {
    let bytes = block.get(..SUPERBLOCK_BYTES)?;
    if wire::crc32c(&bytes[4..]).to_le_bytes() != bytes[..4] {
        return None;
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    let superblock = Superblock {
        journal_id: u128::from_le_bytes(bytes[8..24].try_into().unwrap_or_default()),
        start_epoch: u64_at(24),
        generation: u64_at(32),
        tail: ReplayStart {
            seq: u64_at(40),
            position: u64_at(48),
            previous_crc: u32_at(80),
        },
        ring_bytes: u64_at(56),
        checkpoint_generation: u64_at(64),
        block_bytes: u32_at(72),
        largest_record: u32_at(84),
    };
    let known = u32_at(4) == MAGIC && u32_at(76) == VERSION;
    (known && superblock.is_sane()).then_some(superblock)
}

impl Superblock {
    /// Whether its numbers can be computed with.
    fn is_sane(&self) -> bool {
        let block = u64::from(self.block_bytes);
        let begin = 2 * block;
        self.block_bytes.is_power_of_two()
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&self.block_bytes)
            && self.ring_bytes.is_multiple_of(block)
            && self.ring_bytes <= 1 << 40
            && u64::from(self.largest_record) <= self.ring_bytes / 2
            && self.largest_record as usize >= self.block_bytes as usize
            && self.tail.position.is_multiple_of(block)
            && (begin..=begin + self.ring_bytes).contains(&self.tail.position)
            && self.tail.seq > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            journal_id: u128::MAX - 5,
            start_epoch: 3,
            generation: 9,
            tail: ReplayStart {
                seq: 100,
                position: 12_288,
                previous_crc: 77,
            },
            ring_bytes: 8 << 20,
            checkpoint_generation: 4,
            block_bytes: 4_096,
            largest_record: 1 << 20,
        }
    }

    #[test]
    fn a_superblock_comes_back_as_it_was_written() {
        let mut block = vec![0xaa; 4_096];
        encode(&mut block, &superblock());
        assert_eq!(decode(&block), Some(superblock()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut block = vec![0; 4_096];
        encode(&mut block, &superblock());
        for bit in 0..SUPERBLOCK_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut block in proptest::collection::vec(any::<u8>(), 0..200)) {
            if block.len() >= SUPERBLOCK_BYTES {
                block[4..8].copy_from_slice(&MAGIC.to_le_bytes());
                block[76..80].copy_from_slice(&VERSION.to_le_bytes());
                let crc = wire::crc32c(&block[4..SUPERBLOCK_BYTES]);
                block[..4].copy_from_slice(&crc.to_le_bytes());
            }
            let _ = decode(&block);
        }
    }
}
