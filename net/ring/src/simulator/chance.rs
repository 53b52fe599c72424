//! Chance from a seed: the one source of every choice that the simulator makes.
//!
//! A small generator (SplitMix64): fast, the same on every machine, and split into streams, so that one subject's
//! choices do not shift another's.

/// A stream of choices.
#[derive(Debug, Clone)]
pub(super) struct Chance {
    state: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// A stream of its own, decided by this one's next value.
    pub(super) fn split(&mut self) -> Chance {
        Chance::new(self.next_u64())
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        // The bias of a multiplication instead of a division is far below what a test could see.
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// An index below `bound`, which is not zero.
    pub(super) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "{low} to {high} is empty");
        low + self.below((high - low).saturating_add(1))
    }

    /// True with this probability. It draws nothing when the answer is certain.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        if probability >= 1.0 {
            return true;
        }
        // 53 bits: what an f64 holds exactly.
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 <= probability
    }

    /// A mask with each of its 8 bits set with this probability.
    pub(super) fn mask(&mut self, probability: f64) -> u8 {
        if probability <= 0.0 {
            return 0;
        }
        if probability >= 1.0 {
            return 0xff;
        }
        let threshold = (probability * 256.0) as u64;
        let bytes = self.next_u64();
        let mut mask = 0;
        for bit in 0..8 {
            if (bytes >> (8 * bit)) & 0xff < threshold {
                mask |= 1 << bit;
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn bounds_and_probabilities_hold() {
        let mut chance = Chance::new(1);
        let mut seen = [0_u32; 5];
        for _ in 0..5000 {
            seen[chance.index(5)] += 1;
            assert!((3..=4).contains(&chance.between(3, 4)));
        }
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
        let half = (0..1000).filter(|_| chance.happens(0.5)).count();
        assert!((400..600).contains(&half), "{half}");
        assert!(!chance.happens(0.0) && chance.happens(1.0));
        assert_eq!((chance.mask(0.0), chance.mask(1.0)), (0, 0xff));
        let bits: u32 = (0..1000).map(|_| chance.mask(0.25).count_ones()).sum();
        assert!((1700..2300).contains(&bits), "{bits}");
    }
}
