//! Which segment comes next: each once a round, from some place on to the end, and from the beginning to there. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::id::TopicPartition;

/// Partitions that are looked at in one step.
const STEP: usize = 64;

/// A segment's base offset, or an offset before it.
pub(super) type Place = (TopicPartition, i64);

/// A round under way. What comes or goes meanwhile may be missed.
#[derive(Debug)]
pub(super) struct Round {
    from: Place,
    /// Where to look next, and from which offset on if the partition is still there.
    partition: Bound<TopicPartition>,
    offset: i64,
    is_past_the_end: bool,
}

/// What a round comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A partition's segment.
    Segment(Place),
    /// Nothing yet: others go first.
    Later,
    /// The round is over.
    End,
}

impl Round {
    pub(super) fn new(from: Place) -> Round {
        Round {
            from,
            partition: Bound::Included(from.0),
            offset: from.1,
            is_past_the_end: false,
        }
    }

    /// The next one. `first` says where a partition's first segment begins that is at or after an offset.
    pub(super) fn next<T>(
        &mut self,
        partitions: &BTreeMap<TopicPartition, T>,
        first: impl Fn(&T, i64) -> Option<i64>,
    ) -> Next {
        for _ in 0..STEP {
            let Some((id, partition)) = partitions.range((self.partition, Bound::Unbounded)).next() else {
                if self.is_past_the_end {
                    return Next::End;
                }
                (self.partition, self.is_past_the_end) = (Bound::Unbounded, true);
                continue;
            };
            let offset = match self.partition {
                Bound::Included(same) if same == *id => self.offset,
                _ => i64::MIN,
            };
            let found = first(partition, offset);
            if self.is_past_the_end && (*id, found.unwrap_or(i64::MAX)) >= self.from {
                return Next::End;
            }
            match found {
                Some(base_offset) => {
                    (self.partition, self.offset) = (Bound::Included(*id), base_offset.saturating_add(1));
                    return Next::Segment((*id, base_offset));
                }
                None => self.partition = Bound::Excluded(*id),
            }
        }
        Next::Later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Partitions = BTreeMap<TopicPartition, Vec<i64>>;

    fn id(partition: i32) -> TopicPartition {
        TopicPartition {
            topic_id: 1,
            partition,
        }
    }

    fn partitions(segments: &[&[i64]]) -> Partitions {
        let numbered = (0..).zip(segments);
        numbered.map(|(at, bases)| (id(at), bases.to_vec())).collect()
    }

    fn next(round: &mut Round, partitions: &Partitions) -> Next {
        let first = |bases: &Vec<i64>, offset| bases.iter().copied().find(|base| *base >= offset);
        round.next(partitions, first)
    }

    /// All of a round, and how often others went first.
    fn round(partitions: &Partitions, from: Place) -> (Vec<(i32, i64)>, usize) {
        let mut round = Round::new(from);
        let (mut seen, mut later) = (Vec::new(), 0);
        loop {
            match next(&mut round, partitions) {
                Next::Segment((id, base)) => seen.push((id.partition, base)),
                Next::Later => later += 1,
                Next::End => return (seen, later),
            }
            assert!(seen.len() + later < 10_000, "it does not end");
        }
    }

    #[test]
    fn wherever_a_round_begins_each_segment_comes_once() {
        let all = partitions(&[&[0, 10, 20], &[], &[5], &[0, 7]]);
        let whole = [(0, 0), (0, 10), (0, 20), (2, 5), (3, 0), (3, 7)];
        for (from, rotated) in [
            ((id(0), i64::MIN), 0),
            ((id(0), 0), 0),
            ((id(0), 1), 1),
            ((id(0), 20), 2),
            ((id(0), 21), 3),
            ((id(1), 4), 3),
            ((id(2), 6), 4),
            ((id(3), 7), 5),
            // After all of them, and before.
            ((id(3), 8), 0),
            ((id(9), 0), 0),
            ((TopicPartition::default(), 0), 0),
        ] {
            let mut expected = whole.to_vec();
            expected.rotate_left(rotated);
            assert_eq!(round(&all, from).0, expected, "from {from:?}");
        }
        assert_eq!(round(&partitions(&[]), (id(0), 0)).0, []);
        assert_eq!(round(&partitions(&[&[], &[]]), (id(1), 0)).0, []);
    }

    #[test]
    fn what_comes_and_goes_does_not_stop_it() {
        let mut all = partitions(&[&[0, 10], &[0, 10], &[0]]);
        let mut round = Round::new((id(1), 0));
        assert_eq!(next(&mut round, &all), Next::Segment((id(1), 0)));
        all.insert(id(1), vec![20]);
        assert_eq!(next(&mut round, &all), Next::Segment((id(1), 20)));
        all.remove(&id(2));
        all.remove(&id(1));
        all.insert(id(7), vec![3]);
        assert_eq!(next(&mut round, &all), Next::Segment((id(7), 3)));
        assert_eq!(next(&mut round, &all), Next::Segment((id(0), 0)));
        all.clear();
        assert_eq!(next(&mut round, &all), Next::End);
        assert_eq!(next(&mut round, &all), Next::End);
    }

    #[test]
    fn partitions_without_a_segment_are_passed_over_in_steps() {
        let mut bases = vec![&[][..]; 10 * STEP];
        bases.push(&[0]);
        let (seen, later) = round(&partitions(&bases), (id(0), 0));
        assert_eq!(seen, [(10 * STEP as i32, 0)]);
        assert!((10..=12).contains(&later), "{later} steps");
    }
}
