//! One cleaning of one log: the keys of its dirty part are remembered, then its segments are written anew.
//!
//! Owns the order, and what it stands aside for: others after each batch, and the bytes in a second that it may move.
//! Must never go on with a log that is dropped: its directory's name may be another incarnation's by now.

use std::time::Duration;

use ring::buffer::Buffer;
use ring::clock::Instant;
use ring::executor::yield_now;
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchHeader, RecordBatch};

use super::choose::{Plan, groups};
use super::cleaner::{Cleaned, Rules, clean, looks_into, note_keys};
use super::key_map::KeyMap;
use super::segment_reader::SegmentReader;
use super::segment_writer::{IndexLimits, SegmentWriter, discard};
use super::{IO_BYTES, Inner};
use crate::error::StorageError;
use crate::journal::take;
use crate::opening::{OPENED_BYTES_MAX, OpenError, Opened, OpeningBudget};
use crate::partition::{CompactionConfig, PartitionLog, SegmentSummary};
use crate::segment::SegmentName;

/// Nothing is slowed down for less than this: a pause for each batch would cost more than it says.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// It looks up after so long, whatever it is held back to.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Pass<'a> {
    cleaner: &'a Inner,
    log: &'a PartitionLog,
    throttle: Throttle,
}

/// What holds the cleaner back to so many bytes in a second.
struct Throttle {
    bytes_per_second: u64,
    began: Instant,
    bytes: u64,
}

impl<'a> Pass<'a> {
    /// Over a log that nobody else cleans.
    pub(super) fn new(cleaner: &'a Inner, log: &'a PartitionLog) -> Pass<'a> {
        let throttle = Throttle {
            bytes_per_second: 0,
            began: ring::clock::now(),
            bytes: 0,
        };
        Pass {
            cleaner,
            log,
            throttle,
        }
    }

    /// All of it. What it has put in the place of others when it fails stays there.
    pub(super) async fn run(mut self, plan: Plan, config: CompactionConfig) -> Result<(), StorageError> {
        let log = self.log;
        let mut segments = log.segments();
        // What is deleted is about to be removed.
        let log_start = log.log_start_offset();
        let deleted = segments.partition_point(|segment| segment.name.base_offset <= log_start);
        segments.drain(..deleted.saturating_sub(1));
        let (map, mapped_to) = self.map_keys(&segments, plan).await?;
        let clock = &self.cleaner.shared.clock;
        let rules = Rules {
            now_ms: clock.now_ms(),
            age_now_ms: clock.age_now_ms(),
            delete_retention_ms: config.delete_retention_ms,
            mapped_to,
            uncleanable_from: plan.uncleanable_from,
        };
        let limits = log.config();
        let groups = groups(&segments, mapped_to, limits.segment_bytes, limits.index_bytes());
        for group in groups {
            let directory = log.directory();
            let names: Vec<SegmentName> = group.iter().map(|segment| segment.name).collect();
            let Some(name) = PartitionLog::next_name(&names) else {
                let what = "its segment was compacted more often than can be counted";
                return Err(StorageError::refused(&directory, what));
            };
            match self.write_group(&group, &names, name, &map, &rules).await {
                Ok(true) => {}
                // As it was.
                Ok(false) => discard(&directory, name).await,
                Err(error) => {
                    discard(&directory, name).await;
                    return Err(error);
                }
            }
            self.cleaner.make_room().await?;
        }
        log.set_cleaned_to(mapped_to);
        Ok(())
    }

    /// Remembers the newest offset of each key of the log's dirty part, as far as memory reaches, and says how far that is.
    async fn map_keys(
        &mut self,
        segments: &[SegmentSummary],
        plan: Plan,
    ) -> Result<(KeyMap<Buffer>, i64), StorageError> {
        let log = self.log;
        let mut map = self.empty_map().await?;
        let mut mapped_to = plan.dirty_from;
        for pair in segments.windows(2) {
            let end = pair[1].name.base_offset;
            if end <= mapped_to {
                continue;
            }
            if pair[0].name.base_offset >= plan.uncleanable_from {
                break;
            }
            let saw_all = self.each_batch(&pair[0], async |batch, opened| {
                let (header, next) = (batch.header(), batch.header().next_offset());
                let Some(opened) = opened.filter(|_| next > mapped_to) else {
                    mapped_to = mapped_to.max(next);
                    return Ok(Some(0));
                };
                let noted = note_keys(header, opened, mapped_to, &mut map).await;
                mapped_to = noted.map_err(|what| refused(log, what))?;
                Ok((mapped_to == next).then_some(0))
            });
            if !saw_all.await? {
                return Ok((map, mapped_to));
            }
            // Nothing is left of what is between the last batch and the next segment.
            mapped_to = end;
        }
        Ok((map, mapped_to))
    }

    async fn empty_map(&self) -> Result<KeyMap<Buffer>, StorageError> {
        let memory = &self.cleaner.memory;
        let wanted = self.cleaner.config.get().dedupe_buffer_bytes.min(memory.bytes());
        let mut buffer = take(memory, wanted).await?;
        for chunk in buffer.chunks_mut(IO_BYTES) {
            chunk.fill(0);
            yield_now().await;
        }
        let salts = [ring::random::next_u128(), ring::random::next_u128()];
        Ok(KeyMap::new(buffer, salts))
    }

    /// Writes what is left of the segments as one, and puts it in their place. False if all of a single one is left: it stays.
    async fn write_group(
        &mut self,
        group: &[SegmentSummary],
        names: &[SegmentName],
        name: SegmentName,
        map: &KeyMap<Buffer>,
        rules: &Rules,
    ) -> Result<bool, StorageError> {
        let (cleaner, log) = (self.cleaner, self.log);
        cleaner.may_go_on(log)?;
        let config = log.config();
        let limits = IndexLimits {
            interval_bytes: config.index_interval_bytes,
            index_bytes: config.index_bytes(),
        };
        let directory = log.directory();
        let mut writer = SegmentWriter::create(&cleaner.shared, &directory, name, limits).await?;
        let mut is_same = group.len() == 1;
        for segment in group {
            let copied = self.each_batch(segment, async |batch, opened| {
                let header = batch.header();
                let newest = log.newest_offset_of_producer(header.producer_id);
                let holds_last_sequence = newest == Some(header.last_offset());
                let cleaned = match opened {
                    Some(opened) => clean(header, opened, map, rules, holds_last_sequence).await,
                    None => Ok(Cleaned::Same),
                };
                let written = match cleaned.map_err(|what| refused(log, what))? {
                    Cleaned::Same => {
                        writer.put(header, batch.bytes()).await?;
                        batch.bytes().len()
                    }
                    Cleaned::Other(other) => {
                        if other.len() > batch.bytes().len().max(log.largest_batch()) {
                            let what = "what is left of a batch is larger than a batch may be";
                            return Err(refused(log, what));
                        }
                        is_same = false;
                        let header = other.first_chunk::<BATCH_HEADER_BYTES>().map(BatchHeader::decode);
                        writer.put(&header.expect("a batch has a header"), &other).await?;
                        other.len()
                    }
                    Cleaned::Gone => {
                        is_same = false;
                        0
                    }
                };
                Ok(Some(written as u64))
            });
            copied.await?;
        }
        if is_same {
            return Ok(false);
        }
        writer.end().await?;
        let compacted = match writer.flush().await {
            Ok(compacted) => compacted,
            Err(error) => {
                // It may have been told of what others wrote, and a checkpoint would not be told again.
                cleaner.committer.fence(&error);
                return Err(error);
            }
        };
        let _no_checkpoint = cleaner.migration.pause().await;
        if !log.replace(names, &compacted, cleaner.migration.checkpoints()) {
            // Records were deleted, and these segments with them.
            return Err(StorageError::Dropped);
        }
        let bytes: u64 = group.iter().map(|segment| u64::from(segment.bytes)).sum();
        cleaner.replacing_bytes.set(cleaner.replacing_bytes.get() + bytes);
        Ok(true)
    }

    /// Shows the batches of a segment, each with its records, but for a control batch's. `visit` gives how many bytes it has
    /// written; when it gives none, that was the last one. Whether it saw all.
    async fn each_batch(
        &mut self,
        segment: &SegmentSummary,
        mut visit: impl AsyncFnMut(&RecordBatch<'_>, Option<&Opened<'_>>) -> Result<Option<u64>, StorageError>,
    ) -> Result<bool, StorageError> {
        let (cleaner, log) = (self.cleaner, self.log);
        cleaner.may_go_on(log)?;
        let mut reader = SegmentReader::open(log, &cleaner.shared, segment).await?;
        loop {
            cleaner.may_go_on(log)?;
            let written = {
                let Some(batch) = reader.next().await? else {
                    return Ok(true);
                };
                let opened = self.open(&batch).await.map_err(|what| refused(log, what))?;
                visit(&batch, opened.as_ref()).await?
            };
            let Some(written) = written else {
                return Ok(false);
            };
            self.stand_aside(reader.take_bytes_read(), written).await;
        }
    }

    /// The records of a batch; none of a control batch. Why they cannot be read, otherwise.
    async fn open<'b>(&self, batch: &RecordBatch<'b>) -> Result<Option<Opened<'b>>, &'static str> {
        if !looks_into(batch.header())? {
            return Ok(None);
        }
        let budget = OpeningBudget::new(OPENED_BYTES_MAX);
        let opened = match Opened::at_once(batch, &budget) {
            Err(OpenError::Busy) => Opened::in_turn(batch, &budget, self.cleaner.turns.next().await).await,
            opened => opened,
        };
        opened
            .map(Some)
            .map_err(|_| "a batch cannot be decompressed, or to more than 64 MiB")
    }

    /// After each batch: lets others go first, and keeps to the bytes in a second.
    async fn stand_aside(&mut self, read: u64, written: u64) {
        let (cleaner, log) = (self.cleaner, self.log);
        cleaner.count(|statistics| {
            statistics.bytes_read += read;
            statistics.bytes_written += written;
        });
        yield_now().await;
        let rate = cleaner.config.get().io_bytes_per_second.max(1);
        let now = ring::clock::now();
        let throttle = &mut self.throttle;
        if throttle.bytes_per_second != rate {
            *throttle = Throttle {
                bytes_per_second: rate,
                began: now,
                bytes: 0,
            };
        }
        throttle.bytes = throttle.bytes.saturating_add(read + written);
        let mut pause = throttle.ahead_of(now);
        // In short steps: whoever drops the partition waits for them.
        while pause >= PAUSE_MIN && cleaner.may_go_on(log).is_ok() {
            ring::timer::sleep(pause.min(PAUSE_MAX)).await;
            pause = throttle.ahead_of(ring::clock::now());
        }
    }
}

impl Throttle {
    /// How much sooner so many bytes were moved than they should have been.
    fn ahead_of(&self, now: Instant) -> Duration {
        let due_ns = u128::from(self.bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let due = Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX));
        due.saturating_sub(now - self.began)
    }
}

fn refused(log: &PartitionLog, what: &str) -> StorageError {
    let what = format!("{what}: it is not compacted until the next start");
    StorageError::refused(&log.directory(), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_holds_back_for_as_long_as_the_bytes_should_have_taken() {
        let throttle = Throttle {
            bytes_per_second: 1_000,
            began: Instant(10_000_000_000),
            bytes: 500,
        };
        let after = |ms| throttle.ahead_of(throttle.began + Duration::from_millis(ms));
        assert_eq!(after(0), Duration::from_millis(500));
        assert_eq!(after(400), Duration::from_millis(100));
        assert_eq!(after(900), Duration::ZERO);
    }
}
