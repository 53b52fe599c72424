//! The leader's decision on what a producer sent for one partition: one batch to append, or Kafka's error.
//!
//! Promises: O(1) in the number of records, apart from the CRC over the bytes; the records are not opened, so a lie
//! inside them is stored as it was sent (docs: differences), but for those of a compacted topic, and those that are compressed anew. Each refusal carries the code that Kafka 4 gives to the
//! same bytes, and a cause in words.
//! Must never touch a log: numbering, producer state and storing are the storage room's.
//!
//! Order of the checks is Kafka's (ProduceRequest.validateRecords, then UnifiedLog, then LogValidator), because bytes
//! with two faults must get the same code.

use std::ops::ControlFlow;

use storage::{OpenError, Opened, RewriteError};
use wire::record_batch::{BATCH_LENGTH_OVERHEAD, MAGIC_V2};
use wire::{BatchHeader, Compression, ErrorCode, RecordBatch};

/// The fewest bytes of a record: its length, attributes, two deltas, two null lengths and a count.
const RECORD_BYTES_MIN: i64 = 7;
/// The most records that a byte of a compressed batch may stand for: ten times what zstd makes of a million equal ones.
/// Offsets that are counted and not there would make a log of nothing but segments.
const RECORDS_OF_A_BYTE_MAX: i64 = 16_384;

/// The first Produce version that may carry zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;
/// The least length field of any format: a record of format 0 has 14 bytes beside its key and value.
const LEAST_RECORD_BYTES: i32 = 14;
/// Where every format has its magic byte.
const MAGIC_AT: usize = 16;

/// Whose time a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// `CreateTime`: the producer's.
    #[default]
    Create,
    /// `LogAppendTime`: the broker's.
    LogAppend,
}

/// What batches are compressed to that came in another codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recompression {
    /// The codec.
    pub codec: Compression,
    /// How hard it tries; none: as by default.
    pub level: Option<i32>,
}

/// A topic's settings that decide what may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendRules {
    /// `max.message.bytes`: of a whole batch, in bytes.
    pub max_message_bytes: usize,
    /// `segment.bytes`: a batch larger than a segment can never be stored, in bytes.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// Whether `cleanup.policy` has `compact`: every record needs a key.
    pub is_compacted: bool,
    /// `compression.type`, if that is not `producer`.
    pub recompression: Option<Recompression>,
}

impl AppendRules {
    /// What a batch has to be compressed to first.
    pub(crate) fn recompression_of(&self, header: &BatchHeader) -> Option<Recompression> {
        (self.recompression).filter(|target| header.attributes.compression() != Some(target.codec))
    }
}

impl Default for AppendRules {
    /// Kafka's defaults.
    fn default() -> AppendRules {
        AppendRules {
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::Create,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            is_compacted: false,
            recompression: None,
        }
    }
}

/// Why a producer's bytes are not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Kafka's code for it.
    pub(crate) code: ErrorCode,
    /// The cause, for people.
    pub(crate) cause: &'static str,
    /// When it is found.
    pub(crate) stage: Stage,
}

/// Kafka looks at a partition's bytes twice, and at other things in between (acks, leadership): of two faults the one
/// that is found first is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// When the request is taken apart.
    Request,
    /// When the leader appends.
    Append,
}

const fn refuse<T>(code: ErrorCode, cause: &'static str) -> Result<T, Refusal> {
    let stage = Stage::Append;
    Err(Refusal { code, cause, stage })
}

const fn refuse_request<T>(code: ErrorCode, cause: &'static str) -> Result<T, Refusal> {
    let stage = Stage::Request;
    Err(Refusal { code, cause, stage })
}

/// The one batch in `records` that a client may append, or why not. Bytes after the batch that are not a whole batch
/// are left out, as Kafka leaves them out.
pub(crate) fn check<'a>(
    records: Option<&'a [u8]>,
    api_version: i16,
    rules: &AppendRules,
    now_ms: i64,
) -> Result<RecordBatch<'a>, Refusal> {
    let batch = only_batch(records.unwrap_or_default(), api_version)?;
    let header = batch.header();
    if header.base_offset != 0 {
        return refuse(
            ErrorCode::InvalidRecord,
            "a producer's batch must have base offset 0",
        );
    }
    if header.attributes.is_transactional() {
        return refuse(
            ErrorCode::InvalidTxnState,
            "the batch belongs to a transaction that does not exist",
        );
    }
    if batch.bytes().len() > rules.max_message_bytes {
        return refuse(
            ErrorCode::MessageTooLarge,
            "the batch is larger than the topic's max.message.bytes",
        );
    }
    if batch.verify_crc().is_err() {
        return refuse(
            ErrorCode::CorruptMessage,
            "the batch's CRC does not match its bytes",
        );
    }
    let Some(_) = header.attributes.compression() else {
        return refuse(
            ErrorCode::UnknownServerError,
            "the batch's compression codec is not known",
        );
    };
    let counted = i64::from(header.last_offset_delta) + 1;
    if counted <= 0 {
        return refuse(
            ErrorCode::InvalidRecord,
            "the batch's last offset is before its first",
        );
    }
    if header.record_count <= 0 {
        return refuse(ErrorCode::InvalidRecord, "the batch has no records");
    }
    if counted != i64::from(header.record_count) {
        return refuse(
            ErrorCode::InvalidRecord,
            "the batch's record count does not match its last offset",
        );
    }
    let records_bytes = i64::try_from(batch.records_bytes().len()).unwrap_or(i64::MAX);
    let most = match header.attributes.compression() {
        Some(Compression::None) => records_bytes / RECORD_BYTES_MIN,
        _ => records_bytes.saturating_mul(RECORDS_OF_A_BYTE_MAX),
    };
    if counted > most {
        return refuse(
            ErrorCode::InvalidRecord,
            "the batch counts more records than its bytes can hold",
        );
    }
    if header.attributes.is_control() {
        return refuse(ErrorCode::InvalidRecord, "clients may not write control batches");
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return refuse(
            ErrorCode::InvalidRecord,
            "the batch has a producer id and no sequence number",
        );
    }
    check_timestamps(&batch, rules, now_ms)?;
    if rules.recompression_of(header).is_none() {
        check_fits_segment(&batch, rules)?;
    }
    Ok(batch)
}

/// Checks once more what its records may have changed in a batch that was compressed anew.
pub(crate) fn check_recompressed(
    batch: &RecordBatch<'_>,
    rules: &AppendRules,
    now_ms: i64,
) -> Result<(), Refusal> {
    check_timestamps(batch, rules, now_ms)?;
    check_fits_segment(batch, rules)
}

fn check_fits_segment(batch: &RecordBatch<'_>, rules: &AppendRules) -> Result<(), Refusal> {
    if batch.bytes().len() > rules.segment_bytes {
        return refuse(
            ErrorCode::RecordListTooLarge,
            "the batch is larger than the topic's segment.bytes",
        );
    }
    Ok(())
}

/// Whether a topic with this `cleanup.policy` is compacted.
pub(crate) fn is_compacting(policy: &str) -> bool {
    policy.split(',').any(|part| part.trim() == "compact")
}

/// Whether old segments of a topic with this `cleanup.policy` are deleted.
pub(crate) fn is_deleting(policy: &str) -> bool {
    policy.split(',').any(|part| part.trim() == "delete")
}

/// The records of a batch that a compacted topic cannot take because they have no key, by their place in the batch (from
/// 0): the first of them, one at least, `most` at most. A batch whose records are not numbered one after the other is refused: it
/// could never be compacted. Lets others go first between steps.
pub(crate) async fn records_without_key(opened: &Opened<'_>, most: usize) -> Result<Vec<i32>, Refusal> {
    let mut places = Vec::new();
    let mut place = 0;
    let broken = opened.each_record(|record| {
        match record {
            Ok(record) if record.offset_delta != place => {
                let cause = "the batch's records are not numbered one after the other, as a compacted topic needs them";
                return ControlFlow::Break(refuse(ErrorCode::InvalidRecord, cause));
            }
            Ok(record) if record.key.is_some() => {}
            Ok(_) => places.push(place),
            Err(_) => {
                return ControlFlow::Break(refuse(
                    ErrorCode::InvalidRecord,
                    "the batch holds what is no record",
                ));
            }
        }
        place += 1;
        if places.len() >= most.max(1) {
            return ControlFlow::Break(Ok(()));
        }
        ControlFlow::Continue(())
    });
    broken.await.unwrap_or(Ok(()))?;
    Ok(places)
}

/// What a batch gets that could not be compressed anew.
pub(crate) const fn not_recompressed(error: RewriteError) -> Refusal {
    let stage = Stage::Append;
    let (code, cause) = match error {
        RewriteError::Malformed => (ErrorCode::InvalidRecord, "the batch holds what is no record"),
        RewriteError::TooLarge => (
            ErrorCode::MessageTooLarge,
            "the batch is larger than the topic's max.message.bytes, compressed as the topic's compression.type says",
        ),
    };
    Refusal { code, cause, stage }
}

/// What a batch gets that has to be opened and was not.
pub(crate) const fn not_opened(error: OpenError) -> Refusal {
    let stage = Stage::Append;
    let (code, cause) = match error {
        OpenError::Unreadable(_) => (
            ErrorCode::InvalidRecord,
            "the batch cannot be decompressed, or to more than 64 MiB",
        ),
        // Clients send it again: by then those before it are done.
        OpenError::Spent => (
            ErrorCode::RequestTimedOut,
            "the request's batches that have to be opened inflate to more than 64 MiB",
        ),
        OpenError::Busy => (
            ErrorCode::RequestTimedOut,
            "batches that have to be opened wait for each other, and too many do",
        ),
    };
    Refusal { code, cause, stage }
}

/// Compares the leader epoch that a client knows (-1: none) with the partition's (KIP-320).
pub(crate) fn check_leader_epoch(clients: i32, ours: i32) -> Result<(), ErrorCode> {
    match clients {
        -1 => Ok(()),
        older if older < ours => Err(ErrorCode::FencedLeaderEpoch),
        newer if newer > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Whether the bytes begin with a batch that belongs to a transaction. Anything that is not a batch does not.
pub(crate) fn is_transactional(records: Option<&[u8]>) -> bool {
    records.is_some_and(|bytes| {
        RecordBatch::parse(bytes).is_ok_and(|(batch, _)| batch.header().attributes.is_transactional())
    })
}

/// The first batch, if it is a batch of format 2 and the only one.
fn only_batch(records: &[u8], api_version: i16) -> Result<RecordBatch<'_>, Refusal> {
    let Some(length) = next_batch(records)? else {
        return refuse_request(ErrorCode::InvalidRecord, "there is no record batch");
    };
    let (bytes, rest) = records.split_at(length);
    if bytes[MAGIC_AT] != MAGIC_V2 as u8 {
        return refuse_request(
            ErrorCode::InvalidRecord,
            "only record batches of format 2 are taken",
        );
    }
    let batch = RecordBatch::parse(bytes).ok().map(|(batch, _)| batch);
    if api_version < FIRST_ZSTD_VERSION
        && batch.is_some_and(|batch| batch.header().attributes.compression() == Some(Compression::Zstd))
    {
        return refuse_request(
            ErrorCode::UnsupportedCompressionType,
            "zstd needs Produce version 7 or later",
        );
    }
    if next_batch(rest)?.is_some() {
        return refuse_request(
            ErrorCode::InvalidRecord,
            "there is more than one record batch for the partition",
        );
    }
    match batch {
        Some(batch) => Ok(batch),
        None => refuse_request(
            ErrorCode::CorruptMessage,
            "the batch is shorter than its own header",
        ),
    }
}

/// Bytes of the whole batch, of whatever format, that `bytes` begins with; `None` when they end before it does.
/// A batch is at least up to its magic byte long, so that indexing there is safe.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let Some(length) = bytes.get(8..BATCH_LENGTH_OVERHEAD) else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(length.try_into().unwrap_or_default());
    if length < LEAST_RECORD_BYTES {
        return refuse_request(
            ErrorCode::CorruptMessage,
            "the batch's length is less than any record's",
        );
    }
    let Some(&magic) = bytes.get(MAGIC_AT) else {
        return Ok(None);
    };
    if magic > MAGIC_V2 as u8 {
        return refuse_request(ErrorCode::CorruptMessage, "the batch's format is not known");
    }
    let Some(whole) = length.checked_add(BATCH_LENGTH_OVERHEAD as i32) else {
        // Kafka's own sum overflows here, and this is what it then says.
        return refuse_request(
            ErrorCode::UnknownServerError,
            "the batch's length is not a length",
        );
    };
    let whole = usize::try_from(whole).unwrap_or(usize::MAX);
    Ok((whole <= bytes.len()).then_some(whole))
}

/// By the header alone: the first record's time and the greatest.
fn check_timestamps(batch: &RecordBatch<'_>, rules: &AppendRules, now_ms: i64) -> Result<(), Refusal> {
    /// "The producer gave no time."
    const NO_TIMESTAMP: i64 = -1;
    let header = batch.header();
    if header.attributes.is_log_append_time() {
        return refuse(
            ErrorCode::InvalidTimestamp,
            "a producer may not set the timestamp type LogAppendTime",
        );
    }
    if rules.timestamp_type == TimestampType::LogAppend {
        return Ok(());
    }
    for timestamp_ms in [header.base_timestamp_ms, header.max_timestamp_ms] {
        let age_ms = now_ms.saturating_sub(timestamp_ms);
        if timestamp_ms != NO_TIMESTAMP
            && (age_ms > rules.timestamp_before_max_ms
                || age_ms.saturating_neg() > rules.timestamp_after_max_ms)
        {
            return refuse(
                ErrorCode::InvalidTimestamp,
                "a record's timestamp is outside message.timestamp.before.max.ms and .after.max.ms",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use storage::OpeningBudget;
    use wire::record_batch::{Attributes, BATCH_HEADER_BYTES};
    use wire::{BatchBuilder, NewRecord};

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const VERSION: i16 = 9;

    /// A batch of `records` bytes after its header, with a right CRC, as `change` leaves it.
    pub(crate) fn batch(records: usize, change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: i32::try_from(BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD + records).unwrap(),
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 2,
            base_timestamp_ms: NOW_MS,
            max_timestamp_ms: NOW_MS,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 3,
        };
        change(&mut header);
        let mut bytes = header.encode().to_vec();
        bytes.extend((0..records).map(|index| index as u8));
        let crc = wire::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn code(bytes: &[u8]) -> ErrorCode {
        code_at(bytes, VERSION)
    }

    fn code_at(bytes: &[u8], version: i16) -> ErrorCode {
        match check(Some(bytes), version, &AppendRules::default(), NOW_MS) {
            Ok(_) => ErrorCode::None,
            Err(refusal) => refusal.code,
        }
    }

    #[test]
    fn a_plain_batch_is_taken_whole() {
        let bytes = batch(40, |_| {});
        let checked = check(Some(&bytes), VERSION, &AppendRules::default(), NOW_MS).unwrap();
        assert_eq!(checked.bytes(), bytes);
        for codec in 1..=4 {
            assert_eq!(
                code(&batch(40, |header| header.attributes = Attributes(codec))),
                ErrorCode::None
            );
        }
    }

    #[test]
    fn a_batch_counts_no_more_records_than_its_bytes_can_hold() {
        let counting = |bytes: usize, count: i32, codec: i16| {
            code(&batch(bytes, |header| {
                header.attributes = Attributes(codec);
                header.record_count = count;
                header.last_offset_delta = count - 1;
            }))
        };
        assert_eq!(counting(21, 3, 0), ErrorCode::None);
        assert_eq!(counting(20, 3, 0), ErrorCode::InvalidRecord);
        assert_eq!(counting(0, 1, 0), ErrorCode::InvalidRecord);
        assert_eq!(counting(0, i32::MAX, 4), ErrorCode::InvalidRecord);
        assert_eq!(
            counting(700, 1_000_000, 4),
            ErrorCode::None,
            "as zstd makes it of equal records"
        );
        assert_eq!(counting(700, i32::MAX, 4), ErrorCode::InvalidRecord);
    }

    #[test]
    fn what_is_no_batch_gets_kafkas_codes() {
        assert_eq!(
            check(None, VERSION, &AppendRules::default(), NOW_MS)
                .unwrap_err()
                .code,
            ErrorCode::InvalidRecord
        );
        let whole = batch(40, |_| {});
        for length in 0..whole.len() {
            assert_eq!(code(&whole[..length]), ErrorCode::InvalidRecord, "{length} bytes");
        }
        for magic in [0, 1] {
            assert_eq!(
                code(&batch(40, |header| header.magic = magic)),
                ErrorCode::InvalidRecord
            );
        }
        for magic in [3, -1, 127] {
            assert_eq!(
                code(&batch(40, |header| header.magic = magic)),
                ErrorCode::CorruptMessage
            );
        }
        for length in [i32::MIN, -1, 0, 13] {
            assert_eq!(
                code(&batch(40, |header| header.batch_length = length)),
                ErrorCode::CorruptMessage
            );
        }
        // Longer than a record of format 0, shorter than our own header.
        for length in [14, 48] {
            assert_eq!(
                code(&batch(40, |header| header.batch_length = length)),
                ErrorCode::CorruptMessage
            );
        }
        let length = |length| code(&batch(40, |header| header.batch_length = length));
        assert_eq!(length(i32::MAX - 12), ErrorCode::InvalidRecord);
        assert_eq!(length(i32::MAX), ErrorCode::UnknownServerError);
    }

    #[test]
    fn only_one_batch_is_taken_and_a_broken_tail_is_left_out() {
        let one = batch(40, |_| {});
        let two = [one.clone(), one.clone()].concat();
        assert_eq!(code(&two), ErrorCode::InvalidRecord);
        let cut = [&one[..], &one[..30]].concat();
        let checked = check(Some(&cut), VERSION, &AppendRules::default(), NOW_MS).unwrap();
        assert_eq!(checked.bytes(), one);
        let rotten = [&one[..], &[0; 20]].concat();
        assert_eq!(code(&rotten), ErrorCode::CorruptMessage);
    }

    #[test]
    fn a_flipped_bit_anywhere_under_the_crc_is_corruption() {
        let whole = batch(40, |_| {});
        for at in 21..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_ne!(code(&bytes), ErrorCode::None, "byte {at}");
        }
        let mut bytes = whole;
        bytes[90] ^= 1;
        assert_eq!(code(&bytes), ErrorCode::CorruptMessage);
    }

    #[test]
    fn headers_that_contradict_themselves_are_invalid() {
        type Change = fn(&mut BatchHeader);
        let changes: [Change; 8] = [
            |header| header.base_offset = 7,
            |header| header.record_count = 4,
            |header| header.record_count = 0,
            |header| header.record_count = -1,
            |header| header.last_offset_delta = -1,
            |header| header.last_offset_delta = i32::MAX,
            |header| header.attributes = Attributes::default().control(),
            |header| header.producer_id = 5,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(
                code(&batch(40, change)),
                ErrorCode::InvalidRecord,
                "change {index}"
            );
        }
    }

    #[test]
    fn a_transaction_that_was_never_begun_takes_no_batch() {
        let bytes = batch(40, |header| {
            header.attributes = Attributes::default().transactional();
        });
        assert_eq!(code(&bytes), ErrorCode::InvalidTxnState);
    }

    #[test]
    fn codecs_are_checked_against_the_version() {
        let zstd = batch(40, |header| {
            header.attributes = Attributes::new(Compression::Zstd);
        });
        assert_eq!(code_at(&zstd, 6), ErrorCode::UnsupportedCompressionType);
        assert_eq!(code_at(&zstd, 7), ErrorCode::None);
        for codec in 5..=7 {
            let bytes = batch(40, |header| header.attributes = Attributes(codec));
            assert_eq!(code(&bytes), ErrorCode::UnknownServerError);
        }
    }

    #[test]
    fn sizes_are_bounded_by_the_topics_settings() {
        let bytes = batch(40, |_| {});
        let with = |max_message_bytes, segment_bytes| {
            let rules = AppendRules {
                max_message_bytes,
                segment_bytes,
                ..AppendRules::default()
            };
            check(Some(&bytes), VERSION, &rules, NOW_MS)
                .err()
                .map(|refusal| refusal.code)
        };
        assert_eq!(with(bytes.len(), bytes.len()), None);
        assert_eq!(with(bytes.len() - 1, 1), Some(ErrorCode::MessageTooLarge));
        assert_eq!(
            with(bytes.len(), bytes.len() - 1),
            Some(ErrorCode::RecordListTooLarge)
        );
    }

    #[test]
    fn timestamps_stay_within_the_topics_bounds() {
        let hour_ms = 3_600_000;
        let at = |timestamp_ms: i64| {
            batch(40, |header| {
                header.base_timestamp_ms = timestamp_ms;
                header.max_timestamp_ms = timestamp_ms;
            })
        };
        assert_eq!(code(&at(NOW_MS + hour_ms)), ErrorCode::None);
        assert_eq!(code(&at(NOW_MS + hour_ms + 1)), ErrorCode::InvalidTimestamp);
        assert_eq!(code(&at(-1)), ErrorCode::None);
        assert_eq!(code(&at(0)), ErrorCode::None);
        assert_eq!(code(&at(i64::MAX)), ErrorCode::InvalidTimestamp);
        let rules = AppendRules {
            timestamp_before_max_ms: 1_000,
            ..AppendRules::default()
        };
        assert!(check(Some(&at(NOW_MS - 1_000)), VERSION, &rules, NOW_MS).is_ok());
        assert_eq!(
            check(Some(&at(NOW_MS - 1_001)), VERSION, &rules, NOW_MS)
                .unwrap_err()
                .code,
            ErrorCode::InvalidTimestamp
        );
        let claimed = batch(40, |header| {
            header.attributes = Attributes::default().log_append_time();
        });
        assert_eq!(code(&claimed), ErrorCode::InvalidTimestamp);
        // The broker's own time replaces the producer's, whatever it was.
        let rules = AppendRules {
            timestamp_type: TimestampType::LogAppend,
            ..AppendRules::default()
        };
        assert!(check(Some(&at(i64::MAX)), VERSION, &rules, NOW_MS).is_ok());
    }

    /// Of a batch that is small enough for one step.
    fn keyless(batch: &RecordBatch<'_>, most: usize) -> Result<Vec<i32>, Refusal> {
        let budget = OpeningBudget::new(1 << 20);
        let opened = Opened::at_once(batch, &budget).map_err(not_opened)?;
        let mut judged = std::pin::pin!(records_without_key(&opened, most));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match judged.as_mut().poll(&mut context) {
            std::task::Poll::Ready(judged) => judged,
            std::task::Poll::Pending => panic!("one step is enough"),
        }
    }

    #[test]
    fn a_compacted_topic_wants_keys() {
        for (policy, compacted) in [
            ("compact", true),
            ("delete, compact", true),
            ("delete", false),
            ("", false),
        ] {
            assert_eq!(is_compacting(policy), compacted, "{policy}");
        }
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new(codec);
            for key in [Some(&b"key"[..]), None, Some(b""), None, None] {
                builder.push(&NewRecord {
                    key,
                    value: Some(b"value"),
                    ..NewRecord::default()
                });
            }
            let bytes = builder.build();
            let (batch, _) = RecordBatch::parse(&bytes).unwrap();
            assert_eq!(keyless(&batch, 9), Ok(vec![1, 3, 4]));
            assert_eq!(keyless(&batch, 2), Ok(vec![1, 3]));
            assert_eq!(keyless(&batch, 0), Ok(vec![1]));
        }
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..2 {
            builder.push(&NewRecord {
                key: Some(b"key"),
                ..NewRecord::default()
            });
        }
        let mut bytes = builder.build();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        assert_eq!(keyless(&batch, 9), Ok(vec![]));
        // The first record's offset, as a varint.
        bytes[61 + 3] = 2 * 50;
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        assert_eq!(keyless(&batch, 9).unwrap_err().code, ErrorCode::InvalidRecord);
        for codec in 0..5 {
            let bytes = self::batch(40, |header| header.attributes = Attributes(codec));
            let (batch, _) = RecordBatch::parse(&bytes).unwrap();
            let refused = keyless(&batch, 9);
            assert_eq!(
                refused.map_err(|refusal| refusal.code),
                Err(ErrorCode::InvalidRecord),
                "{codec}"
            );
        }
    }

    #[test]
    fn leader_epochs_are_compared() {
        assert_eq!(check_leader_epoch(-1, 3), Ok(()));
        assert_eq!(check_leader_epoch(3, 3), Ok(()));
        assert_eq!(check_leader_epoch(2, 3), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check_leader_epoch(-2, 3), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check_leader_epoch(4, 3), Err(ErrorCode::UnknownLeaderEpoch));
    }

    #[test]
    fn transactional_batches_are_recognised() {
        let bytes = batch(40, |header| {
            header.attributes = Attributes::default().transactional();
        });
        assert!(is_transactional(Some(&bytes)));
        assert!(!is_transactional(Some(&batch(40, |_| {}))));
        assert!(!is_transactional(Some(&bytes[..50])));
        assert!(!is_transactional(None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), version in 3..12i16) {
            let rules = AppendRules { is_compacted: true, ..AppendRules::default() };
            if let Ok(batch) = check(Some(&bytes), version, &rules, NOW_MS) {
                let _ = keyless(&batch, 9);
            }
            let _ = is_transactional(Some(&bytes));
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0..101usize, value: u8, cut in 0..102usize) {
            let mut bytes = batch(40, |_| {});
            bytes[at] = value;
            bytes.truncate(cut);
            let _ = check(Some(&bytes), VERSION, &AppendRules::default(), NOW_MS);
        }
    }
}
