//! Which batches were acknowledged and which were read, until both is known of each: for latencies from end to end.
//!
//! A batch is known by its partition and offset. Its acknowledgement and the answer to a fetch that holds it travel on two connections,
//! and come in either order. Must never count a batch twice, nor lose one: what was acknowledged and does not come is a failure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ring::clock::Instant;

use crate::recorder::{Failure, Recorder};

/// How long after the end of the window what was acknowledged is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Batches that were read and that nobody has an acknowledgement for, at most: more than can be in flight. They are somebody else's.
const STRANGERS_MAX: usize = 1 << 20;

/// Where in the cluster a batch is.
pub(crate) type Place = (i32, i64);

/// A batch that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// When it was due.
    pub(crate) due: Instant,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// What is known of batches by one side alone. Pure.
#[derive(Debug, Default)]
struct Waiting {
    acknowledged: BTreeMap<Place, Sent>,
    read: BTreeMap<Place, Instant>,
}

impl Waiting {
    /// When the batch was read, if it was.
    fn acknowledged(&mut self, place: Place, sent: Sent) -> Option<Instant> {
        let read_at = self.read.remove(&place);
        if read_at.is_none() {
            self.acknowledged.insert(place, sent);
        }
        read_at
    }

    /// The batch, if it was acknowledged.
    fn read(&mut self, place: Place, at: Instant) -> Option<Sent> {
        let sent = self.acknowledged.remove(&place);
        if sent.is_none() {
            if self.read.len() >= STRANGERS_MAX {
                self.read.pop_first();
            }
            self.read.insert(place, at);
        }
        sent
    }
}

/// The batches of one client's partitions at one node.
pub(crate) struct ReadBack {
    waiting: RefCell<Waiting>,
    /// Of the connection that sends, those that have not ended.
    senders: Cell<u32>,
    recorder: Rc<RefCell<Recorder>>,
}

impl ReadBack {
    /// For a connection with so many senders.
    pub(crate) fn new(senders: u32, recorder: &Rc<RefCell<Recorder>>) -> Rc<ReadBack> {
        Rc::new(ReadBack {
            waiting: RefCell::default(),
            senders: Cell::new(senders),
            recorder: recorder.clone(),
        })
    }

    /// A batch was acknowledged.
    pub(crate) fn acknowledged(&self, place: Place, sent: Sent) {
        let read_at = self.waiting.borrow_mut().acknowledged(place, sent);
        if let Some(at) = read_at {
            self.count(sent, at);
        }
    }

    /// A batch was read.
    pub(crate) fn read(&self, place: Place, at: Instant) {
        let sent = self.waiting.borrow_mut().read(place, at);
        if let Some(sent) = sent {
            self.count(sent, at);
        }
    }

    fn count(&self, sent: Sent, read_at: Instant) {
        let mut recorder = self.recorder.borrow_mut();
        recorder.answered(sent.due, read_at, sent.records, sent.bytes);
    }

    /// A sender sends no more.
    pub(crate) fn sender_ended(&self) {
        self.senders.set(self.senders.get() - 1);
    }

    /// Whether there is nothing left to read; or whether it was waited for long enough.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let is_all_read = self.senders.get() == 0 && self.waiting.borrow().acknowledged.is_empty();
        is_all_read || now >= self.recorder.borrow().window().to + PATIENCE
    }

    /// Nothing more will be read.
    pub(crate) fn end(&self, broker: &str) {
        let waiting = self.waiting.take();
        let mut recorder = self.recorder.borrow_mut();
        for (partition, _) in waiting.acknowledged.into_keys() {
            recorder.failed(Failure {
                broker: broker.to_owned(),
                partition,
                what: "a batch was acknowledged and never read".to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Window;

    const SENT: Sent = Sent {
        due: Instant(1_000),
        records: 3,
        bytes: 30,
    };
    const WINDOW: Window = Window {
        from: Instant(0),
        to: Instant(1_000_000),
    };

    fn read_back(senders: u32) -> (Rc<ReadBack>, Rc<RefCell<Recorder>>) {
        let recorder = Rc::new(RefCell::new(Recorder::new(WINDOW)));
        (ReadBack::new(senders, &recorder), recorder)
    }

    #[test]
    fn a_batch_counts_once_both_sides_know_it_whichever_is_first() {
        let (read_back, recorder) = read_back(1);
        read_back.acknowledged((3, 10), SENT);
        read_back.read((3, 20), Instant(5_000));
        assert_eq!(recorder.borrow_mut().take().measured.requests, 0);
        read_back.read((3, 10), Instant(4_000));
        read_back.acknowledged((3, 20), SENT);
        // Read once more, and of another partition.
        read_back.read((3, 10), Instant(9_000));
        read_back.read((4, 10), Instant(9_000));
        let seen = recorder.borrow_mut().take().measured;
        assert_eq!((seen.requests, seen.records, seen.bytes), (2, 6, 60));
        // As far as a histogram tells them apart.
        assert_eq!(seen.latency_ns.count_between(2_500, 3_100), 1);
        assert_eq!(seen.latency_ns.count_between(3_900, 4_100), 1);
    }

    #[test]
    fn what_was_acknowledged_is_waited_for_and_then_missed() {
        let (read_back, recorder) = read_back(2);
        read_back.acknowledged((3, 10), SENT);
        read_back.acknowledged((5, 10), SENT);
        read_back.sender_ended();
        read_back.read((3, 10), WINDOW.to);
        read_back.sender_ended();
        assert!(!read_back.is_over(WINDOW.to + PATIENCE / 2));
        assert!(read_back.is_over(WINDOW.to + PATIENCE));
        read_back.end("node 1");
        let failures = recorder.borrow_mut().take().measured.failures;
        let failures: Vec<_> = failures.into_iter().collect();
        let [(failure, 1)] = &failures[..] else {
            panic!("one was expected: {failures:?}");
        };
        assert_eq!((failure.partition, failure.broker.as_str()), (5, "node 1"));
    }

    #[test]
    fn it_is_over_when_nothing_is_sent_any_more_and_all_is_read() {
        let (read_back, _) = read_back(1);
        assert!(!read_back.is_over(WINDOW.to));
        read_back.acknowledged((0, 0), SENT);
        read_back.sender_ended();
        assert!(!read_back.is_over(WINDOW.from));
        read_back.read((0, 0), WINDOW.from);
        assert!(read_back.is_over(WINDOW.from));
    }

    #[test]
    fn what_others_write_takes_no_more_memory_than_so_much() {
        let mut waiting = Waiting::default();
        for offset in 0..STRANGERS_MAX as i64 + 10 {
            assert_eq!(waiting.read((0, offset), WINDOW.from), None);
        }
        assert_eq!(waiting.read.len(), STRANGERS_MAX);
        assert_eq!(
            waiting.acknowledged((0, STRANGERS_MAX as i64), SENT),
            Some(WINDOW.from)
        );
    }
}
