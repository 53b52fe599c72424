//! Sequence numbers of idempotent producers: 0 to 2^31 - 1, then 0 again.

/// The sequence number `increment` after `sequence`. Both are at least 0; negative ones count as 0.
#[inline]
pub const fn add(sequence: i32, increment: i32) -> i32 {
    let sequence = if sequence < 0 { 0 } else { sequence };
    let increment = if increment < 0 { 0 } else { increment };
    sequence.wrapping_add(increment) & i32::MAX
}

/// The sequence number that must follow `sequence`.
#[inline]
pub const fn next(sequence: i32) -> i32 {
    add(sequence, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_from_the_greatest_to_zero() {
        assert_eq!(add(0, 0), 0);
        assert_eq!(next(0), 1);
        assert_eq!(next(i32::MAX), 0);
        assert_eq!(add(i32::MAX - 1, 3), 1);
        assert_eq!(add(i32::MAX, i32::MAX), i32::MAX - 1);
        assert_eq!(add(-1, 1), 1);
    }
}
