//! The records of batches, one after the other: their sizes, keys and values, by a chance that is the same in each run.
//!
//! Pure.

use wire::NewRecord;

use crate::keys::{KEY_BYTES, key};
use crate::record_arguments::RecordSizes;

/// What letters of chance are drawn from; also the text that repeats.
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/// What records are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordShape {
    /// Their values.
    pub sizes: RecordSizes,
    /// How much of a value repeats, in percent of its bytes.
    pub compressible_percent: u8,
    /// The time of all, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Makes records.
pub struct RecordSource<'a> {
    shape: RecordShape,
    /// The numbers of those that are drawn from; empty: records have no key.
    keys: &'a [u32],
    /// Which of them were drawn.
    drawn: Vec<bool>,
    size_chance: Chance,
    key_chance: Chance,
    value_chance: Chance,
    /// Of the record that was made last.
    key: [u8; KEY_BYTES],
    value: Vec<u8>,
}

impl<'a> RecordSource<'a> {
    /// The same seed gives the same records.
    pub fn new(shape: RecordShape, keys: &'a [u32], seed: u64) -> RecordSource<'a> {
        RecordSource {
            shape,
            keys,
            drawn: vec![false; keys.len()],
            size_chance: Chance::seeded(3 * seed),
            key_chance: Chance::seeded(3 * seed + 1),
            value_chance: Chance::seeded(3 * seed + 2),
            key: [0; KEY_BYTES],
            value: Vec::new(),
        }
    }

    /// Makes the next one.
    pub fn advance(&mut self) {
        let RecordSizes { min, max } = self.shape.sizes;
        let above = self.size_chance.below(u64::from(max - min) + 1);
        let bytes = usize::try_from(u64::from(min) + above).expect("a value is in range");
        let repeated = bytes * usize::from(self.shape.compressible_percent) / 100;
        self.value.resize(bytes, 0);
        let (random, text) = self.value.split_at_mut(bytes - repeated);
        self.value_chance.fill(random);
        for part in text.chunks_mut(LETTERS.len()) {
            part.copy_from_slice(&LETTERS[..part.len()]);
        }
        if !self.keys.is_empty() {
            let place = self.key_chance.below(self.keys.len() as u64);
            let place = usize::try_from(place).expect("less than a length");
            self.drawn[place] = true;
            self.key = key(self.keys[place]);
        }
    }

    /// The one that was made last.
    pub fn record(&self) -> NewRecord<'_> {
        NewRecord {
            timestamp_ms: self.shape.timestamp_ms,
            key: (!self.keys.is_empty()).then_some(&self.key),
            value: Some(&self.value),
            ..NewRecord::default()
        }
    }

    /// How many of the keys were drawn.
    pub fn distinct_keys(&self) -> usize {
        self.drawn.iter().filter(|is_drawn| **is_drawn).count()
    }
}

/// Numbers by chance (xorshift64).
struct Chance(u64);

impl Chance {
    /// Seeds that are near each other give numbers that are not (the last step of splitmix64).
    fn seeded(seed: u64) -> Chance {
        let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Nothing but 0 ever follows 0.
        Chance((mixed ^ mixed >> 31).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to `bound`, not included.
    fn below(&mut self, bound: u64) -> u64 {
        let number = (u128::from(self.next()) * u128::from(bound)) >> 64;
        u64::try_from(number).expect("less than the bound")
    }

    /// Printable bytes, 6 bits of chance in each: a codec gains a quarter, as on keys and digests, and no more.
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = LETTERS[(self.next() >> 58) as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Compression;

    const SHAPE: RecordShape = RecordShape {
        sizes: RecordSizes { min: 100, max: 199 },
        compressible_percent: 0,
        timestamp_ms: 1_700_000_000_000,
    };

    #[test]
    fn sizes_are_drawn_uniformly_and_the_same_each_time() {
        let mut counts = [0; 100];
        let [mut source, mut again, mut other] = [7, 7, 8].map(|seed| RecordSource::new(SHAPE, &[], seed));
        let mut others = 0;
        for _ in 0..100_000 {
            for source in [&mut source, &mut again, &mut other] {
                source.advance();
            }
            let value = source.record().value.unwrap();
            counts[value.len() - 100] += 1;
            assert_eq!(source.record(), again.record());
            others += u32::from(source.record() != other.record());
        }
        // A thousand of each, give or take five standard deviations.
        assert!(
            counts.iter().all(|count| (840..1_160).contains(count)),
            "{counts:?}"
        );
        assert!(others > 99_000);
    }

    #[test]
    fn keys_are_drawn_uniformly_and_counted() {
        let keys: Vec<u32> = (500..520).collect();
        let mut source = RecordSource::new(SHAPE, &keys, 1);
        assert_eq!(source.distinct_keys(), 0);
        let mut counts = [0; 20];
        for _ in 0..20_000 {
            source.advance();
            let key = source.record().key.unwrap();
            let number: usize = str::from_utf8(key).unwrap().parse().unwrap();
            counts[number - 500] += 1;
        }
        assert!(
            counts.iter().all(|count| (840..1_160).contains(count)),
            "{counts:?}"
        );
        assert_eq!(source.distinct_keys(), 20);
        let mut keyless = RecordSource::new(SHAPE, &[], 1);
        keyless.advance();
        assert_eq!(keyless.record().key, None);
    }

    #[test]
    fn a_codec_takes_out_what_repeats_and_a_quarter_of_the_rest() {
        for (compressible_percent, left) in [(0, 0.75), (40, 0.45), (100, 0.0)] {
            let shape = RecordShape {
                sizes: RecordSizes {
                    min: 10_000,
                    max: 10_000,
                },
                compressible_percent,
                ..SHAPE
            };
            let mut source = RecordSource::new(shape, &[], 1);
            let mut values = Vec::new();
            for _ in 0..20 {
                source.advance();
                values.extend_from_slice(source.record().value.unwrap());
            }
            assert_eq!(values.len(), 200_000);
            let share = Compression::Zstd.compress(&values).len() as f64 / values.len() as f64;
            assert!(
                (left..left + 0.03).contains(&share),
                "{compressible_percent} %: {share}"
            );
        }
    }
}
