//! In which order a connection sends its batches, and how many records are in those before each.
//!
//! Pure. Its partitions take turns, and each sends its batches one after the other, from the first again after the last. Batches may
//! have different numbers of records: when one is due depends on the records before it, not on its number.

/// The batches of a connection, numbered from 0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// Partitions.
    places: u64,
    /// Batches that follow each other and have equally many records: those of all partitions, if these send the same.
    step: u64,
    /// Records before each step of a cycle, after which everything begins again; and, at the end, those of a cycle.
    before: Vec<u64>,
}

impl Turns {
    /// `records` are those of the batches, in their order, of each set of batches: either one that all partitions send, or one for each
    /// partition.
    ///
    /// # Panics
    /// If there is another number of sets, or sets are not equally long.
    pub fn new(records: &[Vec<u64>], places: usize) -> Turns {
        assert!(places > 0 && (records.len() == 1 || records.len() == places));
        let step = (places / records.len()) as u64;
        let length = records[0].len();
        assert!(length > 0 && records.iter().all(|set| set.len() == length));
        let mut before = vec![0];
        let mut sum = 0;
        for turn in 0..length {
            for set in records {
                assert!(set[turn] > 0, "a batch has a record");
                sum += step * set[turn];
                before.push(sum);
            }
        }
        Turns {
            places: places as u64,
            step,
            before,
        }
    }

    /// The place of the partition that a batch goes to.
    pub fn place(&self, number: u64) -> usize {
        usize::try_from(number % self.places).expect("less than a length")
    }

    /// How often that partition had a turn before.
    pub fn turn(&self, number: u64) -> u64 {
        number / self.places
    }

    /// Records in the batches before this one.
    pub fn records_before(&self, number: u64) -> u64 {
        let (cycle, within) = (number / self.cycle_batches(), number % self.cycle_batches());
        let step = usize::try_from(within / self.step).expect("less than a length");
        let records = (self.before[step + 1] - self.before[step]) / self.step;
        let in_cycle = self.before[step] + within % self.step * records;
        cycle
            .saturating_mul(self.cycle_records())
            .saturating_add(in_cycle)
    }

    /// Batches that begin within the first so many records.
    pub fn batches_before(&self, records: u64) -> u64 {
        let (cycle, within) = (records / self.cycle_records(), records % self.cycle_records());
        let batches = cycle * self.cycle_batches();
        if within == 0 {
            return batches;
        }
        // The last step that begins before: the first one of all does.
        let step = self.before.partition_point(|before| *before < within) - 1;
        let in_step =
            (within - self.before[step]).div_ceil((self.before[step + 1] - self.before[step]) / self.step);
        batches + step as u64 * self.step + in_step
    }

    /// Records of a batch on average, at least one.
    pub fn records_on_average(&self) -> u64 {
        self.cycle_records() / self.cycle_batches()
    }

    fn cycle_batches(&self) -> u64 {
        (self.before.len() as u64 - 1) * self.step
    }

    fn cycle_records(&self) -> u64 {
        *self.before.last().expect("it is never empty")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a plain count gives.
    fn assert_counted(sets: &[Vec<u64>], places: usize) {
        let turns = Turns::new(sets, places);
        let mut before = 0;
        for number in 0..100_u64 {
            let (place, turn) = (number as usize % places, number as usize / places);
            assert_eq!((turns.place(number), turns.turn(number)), (place, turn as u64));
            assert_eq!(turns.records_before(number), before, "{sets:?} {number}");
            let set = &sets[place % sets.len()];
            let records = set[turn % set.len()];
            // From the batch's second record on it is begun.
            assert_eq!(turns.batches_before(before), number, "{sets:?} {before}");
            for inside in before + 1..=before + records {
                assert_eq!(turns.batches_before(inside), number + 1, "{sets:?} {inside}");
            }
            before += records;
        }
    }

    #[test]
    fn records_before_a_batch_are_those_of_all_batches_before() {
        assert_counted(&[vec![15; 4]], 1);
        assert_counted(&[vec![15; 4]], 6);
        assert_counted(&[vec![3, 1, 7]], 1);
        assert_counted(&[vec![3, 1, 7]], 4);
        assert_counted(&[vec![3, 1, 7], vec![2, 2, 9]], 2);
        assert_counted(&[vec![1], vec![5], vec![2]], 3);
    }

    #[test]
    fn very_many_are_counted_as_well() {
        let turns = Turns::new(&[vec![3, 1]], 2);
        assert_eq!(turns.records_on_average(), 2);
        assert_eq!(turns.batches_before(u64::MAX), u64::MAX / 8 * 4 + 3);
        assert_eq!(turns.records_before(u64::MAX), u64::MAX);
    }
}
