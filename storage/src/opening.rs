//! Opens the batches of clients on a shard's thread: whoever sized them must not keep the others waiting.
//!
//! Owns the turn of large batches, of which one at a time is open. Must never open more than a step without letting
//! other tasks go first, nor wait for a turn with memory of the log's pools in hand.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

use ring::executor::yield_now;
use ring::local::{Permit, Semaphore};
use ring::timer;
use wire::record::{Record, RecordIter, records};
use wire::rewritten_batch::RewrittenBatch;
use wire::{BatchHeader, Compression, CompressionError, DecodeError, Decompressor, RecordBatch};

/// The most bytes that the records of one batch may have when it is open.
pub const OPENED_BYTES_MAX: usize = 64 << 20;
/// What is inflated in one step, in bytes: about 3 ms of the slowest codec. What is no more is opened at once.
pub(crate) const STEP_BYTES: usize = 1 << 20;
/// What is compressed in one step, in bytes: 3 ms of the slowest codec at its default level.
const COMPRESS_STEP_BYTES: usize = 64 << 10;
/// Records that are looked at in one step: a millisecond.
const STEP_RECORDS: usize = 1 << 16;

/// How much one request may have inflated. The batch that goes beyond it is opened to its end, the next one is not.
#[derive(Debug)]
pub struct OpeningBudget {
    left: Cell<usize>,
}

impl OpeningBudget {
    /// So many bytes.
    pub fn new(bytes: usize) -> OpeningBudget {
        OpeningBudget {
            left: Cell::new(bytes),
        }
    }

    pub(crate) fn spend(&self, bytes: usize) {
        self.left.set(self.left.get().saturating_sub(bytes));
    }

    /// What is left, in bytes.
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    /// What was spent since so much was left was not what the budget is for.
    pub(crate) fn restore(&self, left: usize) {
        self.left.set(left);
    }

    /// Whether nothing more may be inflated.
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

/// Why a batch is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// It cannot be, or has more than [`OPENED_BYTES_MAX`].
    Unreadable(CompressionError),
    /// The request has had its share.
    Spent,
    /// It is large, and others are before it.
    Busy,
}

/// Why a batch is not written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewriteError {
    /// Something in it is no record.
    Malformed,
    /// It would have more bytes than it may.
    TooLarge,
}

/// The right to open a large batch, until it is dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held")] Permit);

/// Gives the turns of a shard, first come first served.
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn new() -> Turns {
        Turns(Semaphore::new(1))
    }

    pub(crate) async fn next(&self) -> Turn {
        Turn(self.0.acquire(1).await)
    }

    /// Opens a batch, in steps; a large one when it is its turn, which it waits for as long as `patience`.
    pub(crate) async fn open<'a>(
        &self,
        batch: &RecordBatch<'a>,
        budget: &OpeningBudget,
        patience: Duration,
    ) -> Result<Opened<'a>, OpenError> {
        // Others go between two batches of a request as well.
        yield_now().await;
        match Opened::at_once(batch, budget) {
            Err(OpenError::Busy) => {}
            opened => return opened,
        }
        let turn = timer::timeout(patience, self.next()).await;
        let turn = turn.map_err(|_| OpenError::Busy)?;
        Opened::in_turn(batch, budget, turn).await
    }
}

/// A batch whose records can be looked at.
pub struct Opened<'a> {
    section: Cow<'a, [u8]>,
    header: BatchHeader,
    turn: Option<Turn>,
}

impl<'a> Opened<'a> {
    /// Opens a batch that has little in it.
    ///
    /// # Errors
    /// [`OpenError::Busy`] if it has more than a step.
    pub fn at_once(batch: &RecordBatch<'a>, budget: &OpeningBudget) -> Result<Opened<'a>, OpenError> {
        let codec = codec_of(batch);
        let most = if codec == Compression::None {
            OPENED_BYTES_MAX
        } else if budget.is_spent() {
            return Err(OpenError::Spent);
        } else {
            STEP_BYTES
        };
        match codec.decompress(batch.records_bytes(), most) {
            Ok(section) => Ok(Opened::new(batch, section, budget)),
            Err(CompressionError::TooLarge { .. }) => Err(OpenError::Busy),
            Err(error) => {
                // So much may have been inflated before its end was found to be bad.
                budget.spend(most.min(STEP_BYTES).max(batch.bytes().len()));
                Err(OpenError::Unreadable(error))
            }
        }
    }

    /// Opens a batch whose turn it is.
    pub(crate) async fn in_steps(
        batch: &RecordBatch<'a>,
        budget: &OpeningBudget,
        _: &Turn,
    ) -> Result<Opened<'a>, OpenError> {
        if budget.is_spent() {
            return Err(OpenError::Spent);
        }
        let opening = Decompressor::new(codec_of(batch), batch.records_bytes(), OPENED_BYTES_MAX);
        let mut opening = opening.map_err(OpenError::Unreadable)?;
        loop {
            match opening.step(STEP_BYTES) {
                Ok(true) => {
                    let section = Cow::Owned(opening.into_output());
                    return Ok(Opened::new(batch, section, budget));
                }
                Ok(false) => yield_now().await,
                Err(error) => {
                    budget.spend(opening.output_bytes());
                    return Err(OpenError::Unreadable(error));
                }
            }
        }
    }

    /// The same, and it is its turn as long as it is open.
    pub(crate) async fn in_turn(
        batch: &RecordBatch<'a>,
        budget: &OpeningBudget,
        turn: Turn,
    ) -> Result<Opened<'a>, OpenError> {
        let mut opened = Opened::in_steps(batch, budget, &turn).await?;
        opened.turn = Some(turn);
        Ok(opened)
    }

    fn new(batch: &RecordBatch<'_>, section: Cow<'a, [u8]>, budget: &OpeningBudget) -> Opened<'a> {
        let opened = Opened {
            section,
            header: *batch.header(),
            turn: None,
        };
        budget.spend(opened.inflated_bytes());
        opened
    }

    /// What was inflated for it. Nothing, if it was not compressed.
    pub(crate) fn inflated_bytes(&self) -> usize {
        match &self.section {
            Cow::Borrowed(_) => 0,
            Cow::Owned(section) => section.len(),
        }
    }

    /// The records, for whoever stands aside between them.
    pub(crate) fn records(&self) -> RecordIter<'_> {
        records(&self.section, self.header.record_count)
    }

    /// The batch in another codec, at that level if the codec has some; of at most `bytes_max` bytes. Its records are
    /// numbered from 0 on, whatever they say, and its times are theirs, as Kafka has it. In steps.
    ///
    /// # Errors
    /// See [`RewriteError`].
    pub async fn recompress(
        &self,
        codec: Compression,
        level: Option<i32>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, RewriteError> {
        let bytes = self.section.len();
        let mut written = RewrittenBatch::recompressed(&self.header, codec, level, bytes);
        for (offset_delta, record) in (0..).zip(self.records()) {
            let record = record.map_err(|_| RewriteError::Malformed)?;
            written.push(&Record {
                offset_delta,
                ..record
            });
            while written.step(COMPRESS_STEP_BYTES) {
                if written.bytes() > bytes_max {
                    return Err(RewriteError::TooLarge);
                }
                yield_now().await;
            }
            if (offset_delta as usize + 1).is_multiple_of(STEP_RECORDS) {
                yield_now().await;
            }
        }
        let batch = written.finish().ok_or(RewriteError::Malformed)?;
        match batch.len() > bytes_max {
            true => Err(RewriteError::TooLarge),
            false => Ok(batch),
        }
    }

    /// Shows the records, in order, until `visit` breaks or one is none, which is the last. In steps.
    pub async fn each_record<T>(
        &self,
        mut visit: impl FnMut(Result<Record<'_>, DecodeError>) -> ControlFlow<T>,
    ) -> Option<T> {
        for (at, record) in (1..).zip(self.records()) {
            if let ControlFlow::Break(found) = visit(record) {
                return Some(found);
            }
            if at % STEP_RECORDS == 0 {
                yield_now().await;
            }
        }
        None
    }
}

/// An unknown codec is none: what is in the batch then is no record.
fn codec_of(batch: &RecordBatch<'_>) -> Compression {
    batch.header().attributes.compression().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wire::{BatchBuilder, NewRecord};

    use super::*;

    fn zeroes(codec: Compression, bytes: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        builder.push(&NewRecord {
            value: Some(&vec![0; bytes]),
            ..NewRecord::default()
        });
        builder.build()
    }

    /// What it gives, and how often others went first.
    fn ran<T>(future: impl Future<Output = T>) -> (T, usize) {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for turns in 0..1_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return (output, turns);
            }
        }
        panic!("it never ends")
    }

    fn turn(turns: &Turns) -> Turn {
        ran(turns.next()).0
    }

    #[test]
    fn others_go_first_between_steps() {
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bytes = zeroes(codec, 20 << 20);
            let (batch, _) = RecordBatch::parse(&bytes).unwrap();
            let budget = OpeningBudget::new(OPENED_BYTES_MAX);
            assert_eq!(Opened::at_once(&batch, &budget).err(), Some(OpenError::Busy));
            let (opened, turns) = ran(Opened::in_steps(&batch, &budget, &turn(&Turns::new())));
            assert!(opened.unwrap().inflated_bytes() > 20 << 20);
            assert!(turns >= 20, "{codec:?}: {turns}");
        }
    }

    #[test]
    fn many_records_are_looked_at_in_steps() {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..5 * STEP_RECORDS {
            builder.push(&NewRecord::default());
        }
        let bytes = builder.build();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let opened = Opened::at_once(&batch, &OpeningBudget::new(0)).expect("nothing is inflated");
        let mut seen = 0;
        let (none, turns) = ran(opened.each_record(|record| {
            seen += usize::from(record.is_ok());
            ControlFlow::<()>::Continue(())
        }));
        assert_eq!((none, seen, turns), (None, 5 * STEP_RECORDS, 5));
    }

    #[test]
    fn a_request_has_no_more_inflated_than_its_budget_and_one_batch() {
        let bytes = zeroes(Compression::Gzip, 600_000);
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let budget = OpeningBudget::new(1_000_000);
        let opened: Vec<_> = (0..4).map(|_| Opened::at_once(&batch, &budget).err()).collect();
        let spent = Some(OpenError::Spent);
        assert_eq!(opened, [None, None, spent, spent]);
    }

    #[test]
    fn what_ends_badly_is_paid_for() {
        let mut bytes = zeroes(Compression::Gzip, 1_000_000);
        *bytes.last_mut().unwrap() ^= 1;
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let budget = OpeningBudget::new(4 * STEP_BYTES);
        let mut opened = 0;
        while let Err(OpenError::Unreadable(_)) = Opened::at_once(&batch, &budget) {
            opened += 1;
            assert!(opened <= 4, "a request may have any number inflated");
        }
        assert!(budget.is_spent());
    }

    #[test]
    fn a_batch_is_compressed_in_steps_and_no_further_than_it_may_grow() {
        let bytes = zeroes(Compression::Lz4, 10 << 20);
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let budget = OpeningBudget::new(OPENED_BYTES_MAX);
        let (opened, _) = ran(Opened::in_steps(&batch, &budget, &turn(&Turns::new())));
        let opened = opened.unwrap();
        for codec in Compression::ALL {
            let (written, turns) = ran(opened.recompress(codec, None, 20 << 20));
            let written = written.unwrap();
            assert!(turns >= 160, "{codec:?}: {turns}");
            let (again, _) = RecordBatch::parse(&written).unwrap();
            let section = codec.decompress(again.records_bytes(), 20 << 20).unwrap();
            assert_eq!(section, opened.section, "{codec:?}");
        }
        let (written, turns) = ran(opened.recompress(Compression::None, None, 1 << 20));
        assert_eq!(written, Err(RewriteError::TooLarge));
        assert!(turns < 20, "all of it was written first: {turns}");
        let (exact, _) = ran(opened.recompress(Compression::Zstd, None, 20 << 20));
        let bytes = exact.unwrap().len();
        assert!(ran(opened.recompress(Compression::Zstd, None, bytes)).0.is_ok());
        assert!(
            ran(opened.recompress(Compression::Zstd, None, bytes - 1))
                .0
                .is_err()
        );
    }

    #[test]
    fn one_large_batch_is_open_at_a_time() {
        let bytes = zeroes(Compression::Lz4, 3 << 20);
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let turns = Turns::new();
        let held = turn(&turns);
        let mut second = pin!(turns.next());
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        let budget = OpeningBudget::new(OPENED_BYTES_MAX);
        let (opened, _) = ran(Opened::in_steps(&batch, &budget, &held));
        assert!(opened.is_ok());
        drop(held);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn what_inflates_to_too_much_is_refused_and_paid_for() {
        let bytes = zeroes(Compression::Lz4, OPENED_BYTES_MAX);
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let budget = OpeningBudget::new(OPENED_BYTES_MAX);
        let (opened, _) = ran(Opened::in_steps(&batch, &budget, &turn(&Turns::new())));
        assert!(matches!(opened.err(), Some(OpenError::Unreadable(_))));
        assert!(budget.is_spent());
    }
}
