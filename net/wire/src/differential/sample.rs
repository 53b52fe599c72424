//! Random values of every type that a message is made of, from a seed.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::Records;
use crate::primitive::{ByteString, Uuid};
use crate::schema::NullableStruct;

/// A small generator (SplitMix64): the same seed gives the same values for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    /// Mostly a few elements; sometimes enough for a count of two bytes.
    fn count(&mut self) -> usize {
        if self.one_in(100) { 130 } else { self.below(4) }
    }
}

/// A random value.
pub(crate) trait Sample {
    fn sample(random: &mut Random) -> Self;
}

macro_rules! sample_integers {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(random: &mut Random) -> Self {
                let edges = [0, 1, -1, <$type>::MIN, <$type>::MAX];
                if random.one_in(3) { edges[random.below(edges.len())] } else { random.next() as $type }
            }
        }
    )*};
}

sample_integers!(i8, i16, i32, i64);

impl Sample for bool {
    fn sample(random: &mut Random) -> Self {
        random.one_in(2)
    }
}

impl Sample for Uuid {
    fn sample(random: &mut Random) -> Self {
        Self((u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes())
    }
}

impl Sample for ErrorCode {
    fn sample(random: &mut Random) -> Self {
        Self::ALL[random.below(Self::ALL.len())]
    }
}

impl Sample for String {
    fn sample(random: &mut Random) -> Self {
        let most = if random.one_in(20) { 300 } else { 9 };
        let characters: Vec<char> = "abc.-_é日🦀".chars().collect();
        (0..random.below(most + 1))
            .map(|_| characters[random.below(characters.len())])
            .collect()
    }
}

impl Sample for &'static str {
    fn sample(random: &mut Random) -> Self {
        String::sample(random).leak()
    }
}

impl Sample for &'static [u8] {
    fn sample(random: &mut Random) -> Self {
        random.bytes(200).leak()
    }
}

impl Sample for ByteString {
    fn sample(random: &mut Random) -> Self {
        Self(random.bytes(8))
    }
}

impl Sample for Records<&'static [u8]> {
    fn sample(random: &mut Random) -> Self {
        Self((0..random.below(3)).map(|_| Sample::sample(random)).collect())
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(random: &mut Random) -> Self {
        if random.one_in(4) {
            None
        } else {
            Some(T::sample(random))
        }
    }
}

impl<T: Sample> Sample for NullableStruct<T> {
    fn sample(random: &mut Random) -> Self {
        Self(Sample::sample(random))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(random: &mut Random) -> Self {
        (0..random.count()).map(|_| T::sample(random)).collect()
    }
}

impl<T: Sample> Sample for Array<'static, T> {
    fn sample(random: &mut Random) -> Self {
        Self::from_slice(Vec::sample(random).leak())
    }
}
