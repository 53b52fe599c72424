//! What the scrubber has found: each place is told once, however often it is read. Pure.
//!
//! A place is what a flaw is about: a file of a segment, and a byte in it. Memory: some hundred bytes for each segment
//! that is damaged, which are as many as the partitions have at most.

use std::collections::{BTreeMap, BTreeSet};

use super::round::Place;
use crate::inspect::{Flaw, Part};
use crate::partition::SealedSegment;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Findings {
    known: BTreeMap<Place, Known>,
}

#[derive(Debug)]
struct Known {
    segment: SealedSegment,
    places: BTreeSet<(Part, u64)>,
}

impl Findings {
    /// A segment was read to its end, with these flaws. Those of them that are to be told.
    pub(super) fn judged(&mut self, place: Place, segment: SealedSegment, mut flaws: Vec<Flaw>) -> Vec<Flaw> {
        let before = self.known.remove(&place);
        let places: BTreeSet<_> = flaws.iter().map(|flaw| (flaw.part, flaw.position)).collect();
        if let Some(before) = before.filter(|before| before.segment == segment) {
            flaws.retain(|flaw| !before.places.contains(&(flaw.part, flaw.position)));
        }
        if !places.is_empty() {
            self.known.insert(place, Known { segment, places });
        }
        flaws
    }

    /// How many segments have a flaw in one of these files, of those that are still there.
    pub(super) fn count(&self, parts: &[Part], is_there: impl Fn(Place, &SealedSegment) -> bool) -> u64 {
        let has_one = |known: &Known| known.places.iter().any(|(part, _)| parts.contains(part));
        let counted = self.known.iter().filter(|(_, known)| has_one(known));
        counted
            .filter(|(place, known)| is_there(**place, &known.segment))
            .count() as u64
    }

    /// Forgets the segments that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(Place, &SealedSegment) -> bool) {
        self.known.retain(|place, known| is_there(*place, &known.segment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TopicPartition;
    use crate::segment::SegmentName;

    const SEGMENT: SealedSegment = SealedSegment {
        name: SegmentName {
            base_offset: 10,
            generation: 0,
        },
        next_offset: 20,
        bytes: 1_000,
        index_entries: 1,
        time_entries: 1,
    };
    const PLACE: Place = (
        TopicPartition {
            topic_id: 1,
            partition: 0,
        },
        10,
    );

    fn flaws(places: &[(Part, u64)]) -> Vec<Flaw> {
        let flaw = |&(part, position): &(Part, u64)| Flaw {
            part,
            position,
            what: "rot".to_owned(),
        };
        places.iter().map(flaw).collect()
    }

    fn told(findings: &mut Findings, segment: SealedSegment, places: &[(Part, u64)]) -> Vec<u64> {
        let told = findings.judged(PLACE, segment, flaws(places));
        told.into_iter().map(|flaw| flaw.position).collect()
    }

    #[test]
    fn a_place_is_told_once_and_again_only_if_it_was_whole_meanwhile() {
        let mut findings = Findings::default();
        assert_eq!(told(&mut findings, SEGMENT, &[(Part::Log, 5)]), [5]);
        assert_eq!(told(&mut findings, SEGMENT, &[(Part::Log, 5)]), []);
        // The same byte of another file is another place.
        let more = [(Part::Log, 5), (Part::Log, 7), (Part::Index, 5)];
        assert_eq!(told(&mut findings, SEGMENT, &more), [7, 5]);
        assert_eq!(told(&mut findings, SEGMENT, &[(Part::Log, 7)]), []);
        assert_eq!(told(&mut findings, SEGMENT, &more), [5, 5]);
        assert_eq!(told(&mut findings, SEGMENT, &[]), []);
        assert_eq!(told(&mut findings, SEGMENT, &[(Part::Log, 7)]), [7]);
        // What has taken its place is another segment.
        let compacted = SealedSegment {
            name: SegmentName {
                generation: 1,
                ..SEGMENT.name
            },
            ..SEGMENT
        };
        assert_eq!(told(&mut findings, compacted, &[(Part::Log, 7)]), [7]);
    }

    #[test]
    fn segments_are_counted_while_they_are_damaged_and_there() {
        const LOG: &[Part] = &[Part::Log];
        const INDEXES: &[Part] = &[Part::Index, Part::TimeIndex];
        let counts = |findings: &Findings| {
            (
                findings.count(LOG, |_, _| true),
                findings.count(INDEXES, |_, _| true),
            )
        };
        let mut findings = Findings::default();
        assert_eq!(counts(&findings), (0, 0));
        told(&mut findings, SEGMENT, &[(Part::Log, 5), (Part::Log, 7)]);
        assert_eq!(counts(&findings), (1, 0));
        told(&mut findings, SEGMENT, &[(Part::Log, 5), (Part::TimeIndex, 0)]);
        assert_eq!(counts(&findings), (1, 1));
        assert_eq!(findings.count(LOG, |_, _| false), 0);
        told(&mut findings, SEGMENT, &[(Part::Index, 0)]);
        assert_eq!(counts(&findings), (0, 1));
        findings.keep(|place, segment| (place, *segment) == (PLACE, SEGMENT));
        assert_eq!(counts(&findings), (0, 1));
        findings.keep(|_, _| false);
        assert_eq!(counts(&findings), (0, 0));
        told(&mut findings, SEGMENT, &[(Part::Index, 0)]);
        told(&mut findings, SEGMENT, &[]);
        assert_eq!(counts(&findings), (0, 0));
    }
}
