//! Chance, from the kernel or from the simulator's seed.

/// 64 random bits, unpredictable on a real host (seeded from the kernel), repeatable in the simulator.
pub fn next_u64() -> u64 {
    todo!()
}

/// 16 random bytes, for identifiers.
pub fn next_u128() -> u128 {
    (u128::from(next_u64()) << 64) | u128::from(next_u64())
}
