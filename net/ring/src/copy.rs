//! Copies of much memory to a place that no processor reads soon: a device does, say.
//!
//! They go past the caches. A copy that does not has each line read from memory only to be written over, and throws out what
//! others need. Must not be used for what is read next: that would wait for memory.

/// Bytes that a processor has its memory in.
const LINE_BYTES: usize = 64;

/// Copies `from` to `to` past the caches.
///
/// # Panics
/// If they do not have as many bytes.
pub fn past_the_caches(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy has the bytes of what it is of");
    let first = to.as_ptr().align_offset(LINE_BYTES).min(to.len());
    let (to_head, to) = to.split_at_mut(first);
    let (from_head, from) = from.split_at(first);
    to_head.copy_from_slice(from_head);
    let (to_lines, to_tail) = to.as_chunks_mut();
    let (from_lines, from_tail) = from.as_chunks();
    for (to, from) in to_lines.iter_mut().zip(from_lines) {
        copy_line(to, from);
    }
    end_of_lines();
    to_tail.copy_from_slice(from_tail);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn copy_line(to: &mut [u8; LINE_BYTES], from: &[u8; LINE_BYTES]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    const WORD_BYTES: usize = size_of::<__m128i>();
    assert!(to.as_ptr().addr().is_multiple_of(WORD_BYTES));
    let (to_words, _) = to.as_chunks_mut::<WORD_BYTES>();
    let (from_words, _) = from.as_chunks::<WORD_BYTES>();
    for (to, from) in to_words.iter_mut().zip(from_words) {
        // SAFETY: every x86-64 has the instructions. Both places are of a word, and that of the store is aligned, as it asks
        // for. What it writes is in order with all that follows from `end_of_lines` on, and nothing reads it before.
        unsafe { _mm_stream_si128(to.as_mut_ptr().cast(), _mm_loadu_si128(from.as_ptr().cast())) };
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn end_of_lines() {
    // SAFETY: every x86-64 has the instruction, and it does nothing but wait for the stores before it.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn copy_line(to: &mut [u8; LINE_BYTES], from: &[u8; LINE_BYTES]) {
    *to = *from;
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn end_of_lines() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_copy_whatever_its_place_and_length() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|at| (at * at / 7) as u8).collect();
        for length in (0..200).chain([255, 256, 257, 900]) {
            for at in [0, 1, 15, 16, 63, 64, 65] {
                let mut to = vec![0xee; 1_000];
                past_the_caches(&mut to[at..at + length], &bytes[100 - at..100 - at + length]);
                assert!(to[..at].iter().all(|byte| *byte == 0xee), "{length} at {at}");
                assert_eq!(
                    to[at..at + length],
                    bytes[100 - at..100 - at + length],
                    "{length} at {at}"
                );
                assert!(
                    to[at + length..].iter().all(|byte| *byte == 0xee),
                    "{length} at {at}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "a copy has the bytes")]
    fn two_lengths_are_refused() {
        past_the_caches(&mut [0; 100], &[1; 99]);
    }
}
