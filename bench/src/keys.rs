//! The keys of records, and which partition each belongs to, as Kafka's default partitioner has it.
//!
//! Of the keys that there could be, those are taken with which each partition has equally many, or one more: each partition is sent equally
//! much, so every key is as likely as any other. Must never give a partition a key that belongs to another.

use std::sync::atomic::{AtomicU32, Ordering};

use net::client::partition_of;

/// A key, in bytes: the digits of its number.
pub const KEY_BYTES: usize = 10;

/// Chance leaves some keys out. If fewer than these are in batches, in percent, it was for want of memory.
const IN_BATCHES_MIN: u64 = 90;

/// Keys by partition. Shared by the threads that make batches of them.
#[derive(Debug)]
pub struct KeySet {
    by_partition: Vec<Vec<u32>>,
    /// By partition: how many of its keys are in the batches that were made.
    in_batches: Vec<AtomicU32>,
}

impl KeySet {
    /// So many keys for so many partitions, the same ones each time.
    ///
    /// # Panics
    /// If there are fewer keys than partitions.
    pub fn new(keys: u32, partitions: usize) -> KeySet {
        let count = usize::try_from(keys).expect("it is in range");
        assert!(0 < partitions && partitions <= count, "each partition has a key");
        let wanted = |partition: usize| count / partitions + usize::from(partition < count % partitions);
        let mut by_partition: Vec<Vec<u32>> = vec![Vec::new(); partitions];
        let mut missing = count;
        // A partition gets every so many of them: with all keys and partitions that the command line allows, this ends long before.
        let mut numbers = 0_u32..;
        while missing > 0 {
            let number = numbers.next().expect("there are more numbers than keys");
            let partition = partition_of(&key(number), partitions);
            let its = &mut by_partition[partition];
            if its.len() < wanted(partition) {
                its.push(number);
                missing -= 1;
            }
        }
        KeySet {
            by_partition,
            in_batches: (0..partitions).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// The numbers of the keys that belong to a partition.
    pub fn of(&self, partition: i32) -> &[u32] {
        &self.by_partition[place(partition)]
    }

    /// The most keys of a partition.
    pub fn each_at_most(&self) -> usize {
        self.by_partition[0].len()
    }

    /// Batches were made for a partition, with so many of its keys in them. Whoever makes them makes the same.
    pub fn made(&self, partition: i32, distinct: usize) {
        let distinct = u32::try_from(distinct).expect("there are no more keys");
        self.in_batches[place(partition)].store(distinct, Ordering::Relaxed);
    }

    /// What a reader has to know of keys that no batch has, if they are many: those are never sent.
    pub fn note(&self) -> Option<String> {
        let count: u64 = self.by_partition.iter().map(|keys| keys.len() as u64).sum();
        let made = |made: &AtomicU32| u64::from(made.load(Ordering::Relaxed));
        let sent: u64 = self.in_batches.iter().map(made).sum();
        (100 * sent < IN_BATCHES_MIN * count).then(|| {
            format!("{sent} of {count} keys are in the batches that were built ahead: no others were sent")
        })
    }
}

/// The bytes of a key.
pub fn key(number: u32) -> [u8; KEY_BYTES] {
    let mut bytes = [b'0'; KEY_BYTES];
    let mut left = number;
    for byte in bytes.iter_mut().rev() {
        *byte += (left % 10) as u8;
        left /= 10;
    }
    bytes
}

fn place(partition: i32) -> usize {
    usize::try_from(partition).expect("partitions that are sent to are numbered from 0 on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_key_is_its_number() {
        assert_eq!(&key(0), b"0000000000");
        assert_eq!(&key(u32::MAX), b"4294967295");
        assert_eq!(&key(10_203), b"0000010203");
    }

    #[test]
    fn each_partition_has_its_own_keys_and_equally_many() {
        for (keys, partitions) in [(1, 1), (6, 6), (7, 6), (1_000, 6), (997, 997), (10_000, 3)] {
            let set = KeySet::new(keys, partitions);
            let mut all = BTreeSet::<u32>::new();
            let each = keys as usize / partitions;
            for partition in 0..partitions {
                let its = set.of(partition as i32);
                assert!((each..=each + 1).contains(&its.len()), "{keys} {partitions}");
                assert!(its.len() <= set.each_at_most());
                for number in its {
                    assert_eq!(partition_of(&key(*number), partitions), partition);
                }
                all.extend(its.iter().copied());
            }
            assert_eq!(all.len(), keys as usize);
        }
    }

    #[test]
    fn keys_that_are_in_no_batch_are_told() {
        let set = KeySet::new(10, 2);
        set.made(0, 5);
        set.made(1, 3);
        // By another thread, for the same partition.
        set.made(0, 5);
        let note = set.note().unwrap();
        assert!(note.starts_with("8 of 10 keys are"), "{note}");
        set.made(1, 4);
        assert_eq!(set.note(), None);
    }
}
