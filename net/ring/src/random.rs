//! Chance, from the kernel or from the simulator's seed. Not for secrets: the generator is seeded once a thread.

/// 64 random bits, different on each start of a real host (seeded from the kernel), repeatable in the simulator.
pub fn next_u64() -> u64 {
    crate::core::current().driver().random_u64()
}

/// 16 random bytes, for identifiers.
pub fn next_u128() -> u128 {
    (u128::from(next_u64()) << 64) | u128::from(next_u64())
}
