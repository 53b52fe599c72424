//! The newest offset of each key, in memory of a fixed size. Pure.
//!
//! A slot is 16 bytes of a keyed hash and an offset: Kafka's layout (its SkimpyOffsetMap). Two keys of one hash would be taken for one, and
//! the older one's record lost: with 128 bits that nobody outside can foresee, not in the life of a broker. Must never allocate.

use std::hash::{DefaultHasher, Hasher};
use std::ops::DerefMut;

/// The hash, and the offset plus 1 (0: the slot is free), both little-endian.
pub(crate) const SLOT_BYTES: usize = 16 + 8;
/// So many tenths of the slots are taken at most: with fewer free ones a search takes long.
const LOAD_TENTHS: usize = 9;

/// See the module.
pub(crate) struct KeyMap<B> {
    bytes: B,
    slots: usize,
    keys: usize,
    salts: [u128; 2],
}

/// No key more fits: the map is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<B: DerefMut<Target = [u8]>> KeyMap<B> {
    /// An empty map in `bytes`, all of which are 0. The salts are random, and nobody else's.
    pub(crate) fn new(bytes: B, salts: [u128; 2]) -> KeyMap<B> {
        KeyMap {
            slots: bytes.len() / SLOT_BYTES,
            keys: 0,
            bytes,
            salts,
        }
    }

    /// Remembers `offset` for `key`. Offsets come in order, so that the last one is the newest.
    pub(crate) fn put(&mut self, key: &[u8], offset: i64) -> Result<(), Full> {
        let hash = self.hash(key);
        let (at, known) = self.find(hash).ok_or(Full)?;
        if known.is_none() {
            if self.keys >= self.slots * LOAD_TENTHS / 10 {
                return Err(Full);
            }
            self.keys += 1;
            self.bytes[at..at + 16].copy_from_slice(&hash.to_le_bytes());
        }
        let stored = offset.wrapping_add(1);
        self.bytes[at + 16..at + SLOT_BYTES].copy_from_slice(&stored.to_le_bytes());
        Ok(())
    }

    /// The newest offset of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<i64> {
        self.find(self.hash(key))?.1
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.keys
    }

    /// The hash's slot, and its offset; or the free slot that it would take. `None` if there is neither.
    fn find(&self, hash: u128) -> Option<(usize, Option<i64>)> {
        let first = (hash % self.slots.max(1) as u128) as usize;
        for slot in (first..self.slots).chain(0..first) {
            let at = slot * SLOT_BYTES;
            let slot = self.bytes[at..at + SLOT_BYTES].first_chunk::<SLOT_BYTES>()?;
            let (found, stored) = slot.split_first_chunk::<16>()?;
            let stored = i64::from_le_bytes(*stored.first_chunk()?);
            if stored == 0 {
                return Some((at, None));
            }
            if u128::from_le_bytes(*found) == hash {
                return Some((at, Some(stored.wrapping_sub(1))));
            }
        }
        None
    }

    fn hash(&self, key: &[u8]) -> u128 {
        let half = |salt: u128| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u128(salt);
            hasher.write(key);
            u128::from(hasher.finish())
        };
        half(self.salts[0]) << 64 | half(self.salts[1])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn map(bytes: usize) -> KeyMap<Vec<u8>> {
        KeyMap::new(vec![0; bytes], [1, 2])
    }

    #[test]
    fn the_newest_offset_of_each_key_is_known() {
        let mut map = map(SLOT_BYTES * 500);
        let mut model = BTreeMap::new();
        for offset in 0..3_000_i64 {
            let key = (offset * 7_919 % 400).to_be_bytes();
            assert_eq!(map.put(&key, offset), Ok(()));
            model.insert(key, offset);
        }
        assert_eq!(map.len(), model.len());
        for (key, offset) in model {
            assert_eq!(map.get(&key), Some(offset));
        }
        assert_eq!(map.get(b"another"), None);
        assert_eq!(map.get(b""), None);
    }

    #[test]
    fn a_full_map_takes_no_new_key_and_goes_on_with_the_old_ones() {
        let mut map = map(SLOT_BYTES * 10 + 5);
        let taken = (0..20_i64).filter(|key| map.put(&key.to_be_bytes(), *key).is_ok());
        assert_eq!(taken.collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        assert_eq!(map.put(&3_i64.to_be_bytes(), 77), Ok(()));
        assert_eq!(map.get(&3_i64.to_be_bytes()), Some(77));
        assert_eq!(map.get(&12_i64.to_be_bytes()), None);
    }

    #[test]
    fn memory_for_no_key_is_full() {
        assert_eq!(map(SLOT_BYTES - 1).put(b"key", 0), Err(Full));
        assert_eq!(map(0).get(b"key"), None);
    }
}
