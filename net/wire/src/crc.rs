//! CRC-32C (Castagnoli, RFC 3720 B.4): of record batches, and of whatever else we write to disk.
//!
//! The one place that knows which library counts it.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use crc_fast::{Digest, checksum};

/// The CRC-32C of these bytes; 0 of none.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(Crc32Iscsi, bytes) as u32
}

/// The CRC-32C of bytes with the CRC `before`, and these behind them.
#[inline]
pub fn crc32c_append(before: u32, bytes: &[u8]) -> u32 {
    // What the algorithm holds between bytes: the CRC without its last step.
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its definition: bit by bit, with the polynomial 0x1EDC6F41, reflected.
    fn slow(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _: u32| (crc >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(crc & 1));
        !bytes
            .iter()
            .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    #[test]
    fn it_is_the_one_of_rfc_3720() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }

    #[test]
    fn it_is_the_same_of_any_length_from_any_place_and_in_parts() {
        let bytes: Vec<u8> = (0..3_000u32).map(|at| (at * at / 7) as u8).collect();
        let lengths = (0..300).chain([511, 512, 513, 1_023, 1_024, 1_025, 2_047, 2_048, 2_900]);
        for length in lengths {
            let from = length % 64;
            let part = &bytes[from..from + length];
            let expected = slow(part);
            assert_eq!(crc32c(part), expected, "{length} bytes");
            for cut in [0, 1, length / 3, length] {
                let (first, second) = part.split_at(cut.min(length));
                assert_eq!(
                    crc32c_append(crc32c(first), second),
                    expected,
                    "{length} cut at {cut}"
                );
            }
        }
    }
}
