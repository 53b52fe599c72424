//! Asking the processor for memory before it is needed: 10,000 partitions do not stay in its caches, and what is waited for
//! one line after the other takes as long as all the work that is done with it.
//!
//! A hint, and never more: nothing is read, and nothing depends on it. Must never be given what is used at once.

/// Bytes that a processor has its memory in.
const LINE_BYTES: usize = 64;
/// Of one value at most: more would push out what others have asked for.
const LINES_MAX: usize = 24;

/// Asks for a value's lines.
pub fn value<T>(value: &T) {
    lines(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for the first `most` bytes of some.
pub fn bytes(bytes: &[u8], most: usize) {
    lines(bytes.as_ptr(), bytes.len().min(most));
}

/// Asks for what lies behind a value in memory, where the next one of its kind may come.
pub fn behind<T>(value: &T) {
    lines(std::ptr::from_ref(value).wrapping_add(1).cast(), size_of::<T>());
}

fn lines(from: *const u8, bytes: usize) {
    let skipped = from.addr() % LINE_BYTES;
    let count = (skipped + bytes).div_ceil(LINE_BYTES).min(LINES_MAX);
    let first = from.wrapping_sub(skipped);
    for line in 0..count {
        prefetch(first.wrapping_add(line * LINE_BYTES));
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn prefetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 has the instruction, and it is a hint for any address: one that is not mapped is ignored.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn prefetch(_line: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_may_be_asked_for() {
        value(&());
        value(&[0_u8; 10_000]);
        bytes(&[], 10);
        bytes(&[0; 100], 1_000);
        behind(&u128::MAX);
        lines(std::ptr::null(), 5_000);
        lines(std::ptr::without_provenance(usize::MAX), 1);
    }
}
