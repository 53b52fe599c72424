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

/// The CRC-32C of two stretches of bytes, one behind the other, from those of each, without looking at them.
pub(crate) fn crc32c_of_both(first: u32, second: u32, second_bytes: usize) -> u32 {
    multiply(power(&FORWARD, second_bytes), first) ^ second
}

/// The CRC-32C of so many bytes, from that of all bytes of which these are `before` them, and these `after` them: what it
/// costs depends on those alone.
pub(crate) fn crc32c_between(all: u32, before: &[u8], bytes: usize, after: &[u8]) -> u32 {
    let up_to_end = multiply(power(&BACKWARD, after.len()), all ^ crc32c(after));
    up_to_end ^ multiply(power(&FORWARD, bytes), crc32c(before))
}

// What a CRC is changed by when bytes come behind its own is, but for those bytes' CRC, a multiplication by x^8 for each, of
// polynomials modulo the CRC's; and it can be undone, by one with the inverse of x. As 32 bits, that of x^0 is the highest.

/// x^32 modulo the CRC's polynomial.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// x^8, and what gives 1 when it is multiplied by x, eight times by itself.
const FORWARD: [u32; usize::BITS as usize] = powers(1 << 23);
const BACKWARD: [u32; usize::BITS as usize] = {
    let inverse = ((1 << 31) ^ POLYNOMIAL) << 1 | 1;
    let square = multiply(inverse, inverse);
    let fourth = multiply(square, square);
    powers(multiply(fourth, fourth))
};

/// To the powers of 1, 2, 4, ...
const fn powers(base: u32) -> [u32; usize::BITS as usize] {
    let mut powers = [base; usize::BITS as usize];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = multiply(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

fn power(powers: &[u32; usize::BITS as usize], exponent: usize) -> u32 {
    let bits = powers
        .iter()
        .enumerate()
        .filter(|(bit, _)| exponent >> bit & 1 == 1);
    bits.fold(1 << 31, |product, (_, power)| multiply(product, *power))
}

const fn multiply(one: u32, mut other: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= other & 0u32.wrapping_sub(one >> bit & 1);
        other = (other >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(other & 1));
    }
    product
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

    #[test]
    fn that_of_a_part_follows_from_that_of_all() {
        let bytes: Vec<u8> = (0..5_000u32).map(|at| (at * at / 11) as u8).collect();
        for (from, to) in [
            (0, 0),
            (0, 5_000),
            (1, 4_999),
            (500, 500),
            (0, 7),
            (4_321, 5_000),
            (77, 2_048),
        ] {
            let (before, part, after) = (&bytes[..from], &bytes[from..to], &bytes[to..]);
            let expected = slow(part);
            assert_eq!(
                crc32c_between(slow(&bytes), before, part.len(), after),
                expected,
                "{from}..{to}"
            );
            assert_eq!(
                crc32c_of_both(slow(before), expected, part.len()),
                slow(&bytes[..to]),
                "{from}..{to}"
            );
        }
    }
}
