//! Where each leader epoch of a partition began (KIP-101, KIP-320). Pure.

/// Epochs and their first offsets, both strictly increasing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LeaderEpochs {
    pub(crate) starts: Vec<(i32, i64)>,
}

impl LeaderEpochs {
    /// `epoch` leads from `offset` on. An older or equal epoch changes nothing; an epoch under which nothing was
    /// appended is forgotten.
    pub(crate) fn begin(&mut self, epoch: i32, offset: i64) {
        if self.starts.last().is_some_and(|&(newest, _)| newest >= epoch) {
            return;
        }
        while self.starts.last().is_some_and(|&(_, start)| start >= offset) {
            self.starts.pop();
        }
        self.starts.push((epoch, offset));
    }

    /// The log begins at `offset` now: what was led before is forgotten, and the epoch that wrote `offset` begins there.
    pub(crate) fn begin_at(&mut self, offset: i64) {
        let after = self.starts.partition_point(|&(_, start)| start <= offset);
        if let Some(first) = after.checked_sub(1) {
            self.starts.drain(..first);
            self.starts[0].1 = offset;
        }
    }

    /// The newest epoch; -1 if there was none.
    pub(crate) fn newest(&self) -> i32 {
        self.starts.last().map_or(-1, |&(epoch, _)| epoch)
    }

    /// The epoch that wrote `offset`; -1 if none did.
    pub(crate) fn of(&self, offset: i64) -> i32 {
        let after = self.starts.partition_point(|&(_, start)| start <= offset);
        after.checked_sub(1).map_or(-1, |index| self.starts[index].0)
    }

    /// The epoch that wrote `offset`, if it is known and not `epoch`. No CRC covers what a batch says of it.
    pub(crate) fn instead_of(&self, epoch: i32, offset: i64) -> Option<i32> {
        Some(self.of(offset)).filter(|&writer| writer >= 0 && writer != epoch)
    }

    /// The largest epoch that is not above `epoch`, and where it ended: at the start of the next one, or at the end of
    /// the log for the newest. (-1, -1) for what was never led.
    pub(crate) fn end_of(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        const UNKNOWN: (i32, i64) = (-1, -1);
        if epoch < 0 || epoch > self.newest() {
            return UNKNOWN;
        }
        if epoch == self.newest() {
            return (epoch, log_end_offset);
        }
        let after = self.starts.partition_point(|&(known, _)| known <= epoch);
        match (after.checked_sub(1), self.starts.get(after)) {
            (Some(index), Some(&(_, end))) => (self.starts[index].0, end),
            // Before the first epoch that is known: nothing that it wrote is here, so it ended where the log begins.
            (None, Some(&(_, start))) => (epoch, start),
            _ => UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let mut epochs = LeaderEpochs::default();
        for (epoch, offset) in [(2, 0), (5, 10), (6, 25)] {
            epochs.begin(epoch, offset);
        }
        assert_eq!(epochs.end_of(6, 40), (6, 40));
        assert_eq!(epochs.end_of(5, 40), (5, 25));
        assert_eq!(epochs.end_of(4, 40), (2, 10));
        assert_eq!(epochs.end_of(2, 40), (2, 10));
        assert_eq!(epochs.end_of(1, 40), (1, 0));
        assert_eq!(epochs.end_of(7, 40), (-1, -1));
        assert_eq!(epochs.end_of(-1, 40), (-1, -1));
        assert_eq!(
            [0, 9, 10, 24, 25, 99].map(|offset| epochs.of(offset)),
            [2, 2, 5, 5, 6, 6]
        );
    }

    #[test]
    fn an_epoch_without_a_batch_is_forgotten_and_an_old_one_changes_nothing() {
        let mut epochs = LeaderEpochs::default();
        epochs.begin(1, 0);
        epochs.begin(2, 10);
        epochs.begin(3, 10);
        epochs.begin(2, 50);
        assert_eq!(epochs.starts, [(1, 0), (3, 10)]);
        assert_eq!(LeaderEpochs::default().end_of(0, 5), (-1, -1));
    }
}
