//! A set of page numbers, kept as sorted ranges that do not touch.

use std::ops::Range;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    list: Vec<Range<u64>>,
}

impl Ranges {
    /// Adds `range`; returns how many of its numbers were new.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // Those that overlap or touch the new range are first..last.
        let first = self.list.partition_point(|old| old.end < range.start);
        let last = self.list.partition_point(|old| old.start <= range.end);
        let mut merged = range.clone();
        let mut already = 0;
        for old in &self.list[first..last] {
            already += old.end.min(range.end).saturating_sub(old.start.max(range.start));
            merged = merged.start.min(old.start)..merged.end.max(old.end);
        }
        let new = range.end - range.start - already;
        if new > 0 {
            self.list.splice(first..last, [merged]);
        }
        new
    }

    /// How many numbers [`Ranges::insert`] would add.
    pub(super) fn missing(&self, range: Range<u64>) -> u64 {
        let first = self.list.partition_point(|old| old.end <= range.start);
        let mut missing = range.end.saturating_sub(range.start);
        for old in &self.list[first..] {
            if old.start >= range.end {
                break;
            }
            missing -= old.end.min(range.end) - old.start.max(range.start);
        }
        missing
    }

    /// Removes every number from `start` on; returns how many there were.
    pub(super) fn remove_from(&mut self, start: u64) -> u64 {
        let mut removed = 0;
        while let Some(last) = self.list.last_mut() {
            if last.end <= start {
                break;
            }
            if last.start < start {
                removed += last.end - start;
                last.end = start;
                break;
            }
            removed += last.end - last.start;
            self.list.pop();
        }
        removed
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let next = self.list.partition_point(|old| old.end <= number);
        self.list.get(next).is_some_and(|range| range.start <= number)
    }

    pub(super) fn count(&self) -> u64 {
        self.list.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::simulator::chance::Chance;

    #[test]
    fn it_agrees_with_a_plain_set() {
        let mut chance = Chance::new(3);
        for _ in 0..200 {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for _ in 0..40 {
                let start = chance.below(60);
                if chance.happens(0.1) {
                    let before = set.len();
                    set.retain(|&number| number < start);
                    assert_eq!(ranges.remove_from(start), (before - set.len()) as u64);
                } else {
                    let range = start..start + chance.below(8);
                    let before = set.len();
                    let missing = ranges.missing(range.clone());
                    set.extend(range.clone());
                    assert_eq!(missing, (set.len() - before) as u64);
                    assert_eq!(ranges.insert(range), missing);
                }
                assert_eq!(ranges.count(), set.len() as u64);
                assert!((0..70).all(|number| ranges.contains(number) == set.contains(&number)));
            }
        }
    }
}
