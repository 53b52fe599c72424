//! `millstream log dump`: what is in a file, as it is there. Nothing is judged but checksums.
//!
//! What a file says of its own lengths is bounded before it is believed. A batch or a record that cannot be read is said
//! to be so, and what can be read of the rest is shown.

use std::path::Path;

use ring::buffer::Pool;
use ring::directory;
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchHeader, RecordBatch, records};

use super::pool;
use super::segment::Step;
use super::source::Source;
use crate::checkpoint::{self, Checkpoint, PartitionCheckpoint};
use crate::error::StorageError;
use crate::files::read_small;
use crate::id::to_base64;
use crate::index::{self, INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::journal::largest_record_of;
use crate::journal::record::{self, Bounds, Entry, Kind, RecordHeader};
use crate::journal::superblock::{self, SUPERBLOCK_BYTES, Superblock};

/// Directories below each other that are looked into: a data directory, its journals, one of them.
const DEPTH_MAX: usize = 3;
/// The largest batch whose records are shown, in bytes: Kafka's largest request, and more.
const RECORDS_BYTES_MAX: usize = 128 << 20;

/// What to show.
#[derive(Debug, Clone, Copy)]
pub struct DumpOptions {
    /// The records of batches.
    pub records: bool,
    /// Of keys and values at most so many bytes.
    pub bytes_max: usize,
}

/// Whether the reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// It does.
    On,
    /// It has left.
    Stop,
}

/// Something that a file says: a batch, a record, an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// How deep it is: files 0, what is in them 1, what is in that 2.
    pub depth: usize,
    /// What it is: `batch`.
    pub kind: &'static str,
    /// What is said of it.
    pub fields: Vec<(&'static str, Value)>,
}

/// What is said of something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain values")]
pub enum Value {
    Signed(i64),
    Unsigned(u64),
    Flag(bool),
    Text(String),
    /// Of a client's; `None` is null.
    Bytes(Option<Cut>),
}

/// The first of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// As many as are to be shown.
    pub shown: Vec<u8>,
    /// How many there are in all.
    pub bytes: usize,
}

impl Cut {
    /// Text is cut between its characters.
    fn new(bytes: &[u8], most: usize) -> Cut {
        let shown = match std::str::from_utf8(bytes) {
            Ok(text) => text.floor_char_boundary(most),
            Err(_) => most.min(bytes.len()),
        };
        Cut {
            shown: bytes[..shown].to_vec(),
            bytes: bytes.len(),
        }
    }
}

/// Dumps a file, or all files of a partition's, a journal's or a data directory, one fact after the other.
///
/// # Errors
/// If it cannot be read, or its name does not say what it is.
pub async fn dump(
    path: &Path,
    options: DumpOptions,
    sink: &mut dyn FnMut(Fact) -> Go,
) -> Result<(), StorageError> {
    let mut dumping = Dumping {
        pool: pool()?,
        options,
        sink,
        go: Go::On,
    };
    let mut waiting = vec![(path.to_path_buf(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        match directory::list(&path).await {
            Ok(entries) if depth < DEPTH_MAX => {
                let below = entries
                    .iter()
                    .rev()
                    .map(|entry| (path.join(&entry.name), depth + 1));
                waiting.extend(below);
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                let is_known = dumping.file(&path).await?;
                if !is_known && depth == 0 {
                    let what = "its name does not say what it is: give a .log, .index or .timeindex, a journal, a \
                                checkpoint-0 or -1, a manifest, or a directory of them";
                    return Err(StorageError::refused(&path, what));
                }
            }
            Err(error) => return Err(StorageError::io("open", &path)(error)),
        }
        if dumping.go == Go::Stop {
            break;
        }
    }
    Ok(())
}

struct Dumping<'a> {
    pool: Pool,
    options: DumpOptions,
    sink: &'a mut dyn FnMut(Fact) -> Go,
    go: Go,
}

impl Dumping<'_> {
    fn say(&mut self, depth: usize, kind: &'static str, fields: Vec<(&'static str, Value)>) {
        if self.go == Go::On {
            self.go = (self.sink)(Fact { depth, kind, fields });
        }
    }

    fn say_file(&mut self, path: &Path, bytes: u64, holds: &str) {
        let fields = vec![
            ("path", Value::Text(path.display().to_string())),
            ("holds", text(holds)),
            ("bytes", Value::Unsigned(bytes)),
        ];
        self.say(0, "file", fields);
    }

    /// Whether it is a file that can be shown.
    async fn file(&mut self, path: &Path) -> Result<bool, StorageError> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (name.as_str(), extension) {
            (_, Some("log")) => self.segment(path).await?,
            (_, Some("index" | "timeindex")) => self.index(path).await?,
            ("journal", _) => self.journal(path).await?,
            ("checkpoint-0" | "checkpoint-1", _) => self.checkpoint(path).await?,
            ("manifest" | "meta.properties" | "partition.metadata", _) => self.text(path).await?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn open(&mut self, path: &Path) -> Result<Source, StorageError> {
        let source = Source::open(path, &self.pool).await?;
        source.ok_or_else(|| StorageError::io("open", path)(std::io::ErrorKind::NotFound.into()))
    }

    async fn text(&mut self, path: &Path) -> Result<(), StorageError> {
        let bytes = read_small(path, &self.pool).await?;
        self.say_file(path, bytes.len() as u64, "text");
        for line in String::from_utf8_lossy(&bytes).lines() {
            self.say(1, "line", vec![("text", text(line))]);
        }
        Ok(())
    }

    async fn segment(&mut self, path: &Path) -> Result<(), StorageError> {
        let mut source = self.open(path).await?;
        self.say_file(path, source.len(), "segment");
        let mut position = 0;
        while self.go == Go::On {
            match source.batch(position).await? {
                Step::Batch(seen) => {
                    let header = seen.header;
                    self.batch(1, position, &header, seen.is_whole());
                    let bytes = header.batch_bytes();
                    if self.options.records && seen.is_whole() {
                        self.records_at(&mut source, position, bytes).await?;
                    }
                    position += bytes as u64;
                }
                Step::NoBatch(what) => {
                    let fields = vec![
                        ("position", Value::Unsigned(position)),
                        ("bytes", Value::Unsigned(source.len() - position)),
                        ("what", Value::Text(what)),
                    ];
                    self.say(1, "no batch", fields);
                    return Ok(());
                }
                Step::End => return Ok(()),
            }
        }
        Ok(())
    }

    fn batch(&mut self, depth: usize, position: u64, header: &BatchHeader, is_whole: bool) {
        let attributes = header.attributes;
        let codec = attributes.compression().map_or("unknown", |codec| codec.name());
        let time = if attributes.is_log_append_time() {
            "LogAppendTime"
        } else {
            "CreateTime"
        };
        let fields = vec![
            ("base_offset", Value::Signed(header.base_offset)),
            ("last_offset", Value::Signed(header.last_offset())),
            ("position", Value::Unsigned(position)),
            ("bytes", Value::Unsigned(header.batch_bytes() as u64)),
            ("records", Value::Signed(header.record_count.into())),
            ("magic", Value::Signed(header.magic.into())),
            ("codec", text(codec)),
            (
                "leader_epoch",
                Value::Signed(header.partition_leader_epoch.into()),
            ),
            ("timestamp_type", text(time)),
            ("base_timestamp_ms", Value::Signed(header.base_timestamp_ms)),
            ("max_timestamp_ms", Value::Signed(header.max_timestamp_ms)),
            ("producer_id", Value::Signed(header.producer_id)),
            ("producer_epoch", Value::Signed(header.producer_epoch.into())),
            ("base_sequence", Value::Signed(header.base_sequence.into())),
            ("is_transactional", Value::Flag(attributes.is_transactional())),
            ("is_control", Value::Flag(attributes.is_control())),
            ("crc", hex(header.crc)),
            ("is_crc_right", Value::Flag(is_whole)),
        ];
        self.say(depth, "batch", fields);
    }

    async fn records_at(
        &mut self,
        source: &mut Source,
        position: u64,
        bytes: usize,
    ) -> Result<(), StorageError> {
        if bytes > RECORDS_BYTES_MAX {
            self.not_shown(&format!("a batch of more than {RECORDS_BYTES_MAX} bytes"));
            return Ok(());
        }
        let batch = source.bytes(position, bytes).await?.map(<[u8]>::to_vec);
        match batch {
            Some(batch) => self.records(&batch),
            None => self.not_shown("the file ends while it is read"),
        }
        Ok(())
    }

    fn records(&mut self, batch: &[u8]) {
        let Ok((batch, _)) = RecordBatch::parse(batch) else {
            return self.not_shown("not one batch");
        };
        let header = *batch.header();
        let Some(codec) = header.attributes.compression() else {
            return self.not_shown("an unknown codec");
        };
        let section = match codec.decompress(batch.records_bytes(), RECORDS_BYTES_MAX) {
            Ok(section) => section,
            Err(error) => return self.not_shown(&error.to_string()),
        };
        let most = self.options.bytes_max;
        for record in records(&section, header.record_count) {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.not_shown(&error.to_string()),
            };
            let timestamp_ms = match header.attributes.is_log_append_time() {
                true => header.max_timestamp_ms,
                false => header.base_timestamp_ms.saturating_add(record.timestamp_delta_ms),
            };
            let cut = |bytes: Option<&[u8]>| Value::Bytes(bytes.map(|bytes| Cut::new(bytes, most)));
            let offset = header.base_offset.saturating_add(record.offset_delta.into());
            let fields = vec![
                ("offset", Value::Signed(offset)),
                ("timestamp_ms", Value::Signed(timestamp_ms)),
                ("headers", Value::Unsigned(record.headers.len() as u64)),
                ("key", cut(record.key)),
                ("value", cut(record.value)),
            ];
            self.say(2, "record", fields);
            if self.go == Go::Stop {
                return;
            }
        }
    }

    fn not_shown(&mut self, what: &str) {
        self.say(2, "no records", vec![("what", text(what))]);
    }

    async fn index(&mut self, path: &Path) -> Result<(), StorageError> {
        let bytes = read_small(path, &self.pool).await?;
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        // Without a segment's name the offsets are shown as they are there.
        let base = stem.and_then(|stem| stem.parse::<i64>().ok()).unwrap_or(0);
        let offset = |relative: u32| Value::Signed(base.saturating_add(relative.into()));
        if path.extension().is_some_and(|extension| extension == "index") {
            self.say_file(path, bytes.len() as u64, "offset index");
            for (at, entry) in index::offset_entries(&bytes).enumerate() {
                let fields = vec![
                    ("at", Value::Unsigned((at * INDEX_ENTRY_BYTES) as u64)),
                    ("offset", offset(entry.relative_offset)),
                    ("position", Value::Unsigned(entry.position.into())),
                ];
                self.say(1, "index entry", fields);
            }
        } else {
            self.say_file(path, bytes.len() as u64, "time index");
            for (at, entry) in index::time_entries(&bytes).enumerate() {
                let fields = vec![
                    ("at", Value::Unsigned((at * TIME_ENTRY_BYTES) as u64)),
                    ("timestamp_ms", Value::Signed(entry.timestamp_ms)),
                    ("offset", offset(entry.relative_offset)),
                ];
                self.say(1, "time entry", fields);
            }
        }
        Ok(())
    }

    async fn journal(&mut self, path: &Path) -> Result<(), StorageError> {
        let mut source = self.open(path).await?;
        self.say_file(path, source.len(), "journal");
        let superblock = self.superblocks(&mut source).await?;
        // Without a superblock every block that a journal may have is tried.
        let block_bytes = superblock.map_or(512, |superblock| superblock.block_bytes as usize);
        // Whatever a superblock says: so much is read at a time.
        let most = largest_record_of(u64::MAX);
        let largest_record = superblock
            .map_or(most, |superblock| superblock.largest_record as usize)
            .min(most);
        let first = superblock.map_or(0, |superblock| 2 * u64::from(superblock.block_bytes));
        let end = superblock.map_or(u64::MAX, |superblock| first + superblock.ring_bytes);
        let end = end.min(source.len());
        let mut position = first;
        let mut nothing = 0;
        while position + block_bytes as u64 <= end && self.go == Go::On {
            let bounds = Bounds {
                block_bytes,
                largest_record,
                to_end: end - position,
            };
            match self
                .record(&mut source, position, &bounds, superblock.as_ref())
                .await?
            {
                Some(bytes) => {
                    self.no_record(position, &mut nothing);
                    position += bytes;
                }
                None => {
                    nothing += block_bytes as u64;
                    position += block_bytes as u64;
                }
            }
        }
        self.no_record(position, &mut nothing);
        Ok(())
    }

    fn no_record(&mut self, end: u64, nothing: &mut u64) {
        let bytes = std::mem::take(nothing);
        if bytes > 0 {
            let fields = vec![
                ("position", Value::Unsigned(end - bytes)),
                ("bytes", Value::Unsigned(bytes)),
            ];
            self.say(1, "no record", fields);
        }
    }

    /// Shows both copies; the newer whole one.
    async fn superblocks(&mut self, source: &mut Source) -> Result<Option<Superblock>, StorageError> {
        let decoded = |bytes: Option<&[u8]>| bytes.and_then(superblock::decode);
        let first = decoded(source.bytes(0, SUPERBLOCK_BYTES).await?);
        let mut block_bytes = first.map_or(4_096, |first| u64::from(first.block_bytes));
        let mut second = decoded(source.bytes(block_bytes, SUPERBLOCK_BYTES).await?);
        // The second copy is one block in, and only it may say how large a block is.
        for shift in 9..=16 {
            if second.is_none() && first.is_none() {
                let at = 1_u64 << shift;
                second = decoded(source.bytes(at, SUPERBLOCK_BYTES).await?)
                    .filter(|second| u64::from(second.block_bytes) == at);
                block_bytes = if second.is_some() { at } else { block_bytes };
            }
        }
        for (copy, position, found) in [("A", 0, &first), ("B", block_bytes, &second)] {
            let mut fields = vec![
                ("copy", text(copy)),
                ("position", Value::Unsigned(position)),
                ("is_whole", Value::Flag(found.is_some())),
            ];
            if let Some(found) = found {
                fields.extend([
                    ("journal_id", Value::Text(format!("{:032x}", found.journal_id))),
                    ("generation", Value::Unsigned(found.generation)),
                    ("start_epoch", Value::Unsigned(found.start_epoch)),
                    ("tail_seq", Value::Unsigned(found.tail.seq)),
                    ("tail_position", Value::Unsigned(found.tail.position)),
                    (
                        "checkpoint_generation",
                        Value::Unsigned(found.checkpoint_generation),
                    ),
                    ("ring_bytes", Value::Unsigned(found.ring_bytes)),
                    ("block_bytes", Value::Unsigned(found.block_bytes.into())),
                    ("largest_record", Value::Unsigned(found.largest_record.into())),
                ]);
            }
            self.say(1, "superblock", fields);
        }
        Ok([first, second]
            .into_iter()
            .flatten()
            .max_by_key(|copy| copy.generation))
    }

    /// Shows the record at `position`, if there is one: how many bytes to go on by.
    async fn record(
        &mut self,
        source: &mut Source,
        position: u64,
        bounds: &Bounds,
        superblock: Option<&Superblock>,
    ) -> Result<Option<u64>, StorageError> {
        let head = source.bytes(position, bounds.block_bytes).await?;
        let Some((header, crc)) = head.and_then(|head| record::decode_header(head, bounds)) else {
            return Ok(None);
        };
        let is_here = header.position == position
            && superblock.is_none_or(|superblock| superblock.journal_id == header.journal_id);
        if !is_here {
            return Ok(None);
        }
        let bytes = match header.is_wrap {
            true => bounds.block_bytes,
            false => header.total_length as usize,
        };
        // A buffer of its own: what is said of it needs `self`.
        let whole = source.bytes(position, bytes).await?.map(<[u8]>::to_vec);
        let Some(whole) = whole else { return Ok(None) };
        let (state, entries, payloads) = match record::decode_entries(&whole, &header, crc) {
            // Not even its header can be believed: its length neither.
            None => ("header or entries damaged".to_owned(), None, None),
            Some(Err(what)) => (what, Some(Vec::new()), None),
            Some(Ok(entries)) => match record::payloads(&whole, &header, &entries, bounds.block_bytes) {
                Some(payloads) => ("whole".to_owned(), Some(entries), Some(payloads)),
                None => ("payload damaged".to_owned(), Some(entries), None),
            },
        };
        self.record_header(&header, crc, state, superblock);
        let is_believed = entries.is_some();
        for (at, entry) in entries.unwrap_or_default().iter().enumerate() {
            let payload = payloads
                .as_ref()
                .and_then(|payloads| whole.get(payloads.get(at)?.clone()));
            self.entry(entry, payload);
        }
        Ok(Some(match is_believed {
            true => header.total_length.into(),
            false => bounds.block_bytes as u64,
        }))
    }

    fn record_header(
        &mut self,
        header: &RecordHeader,
        crc: u32,
        state: String,
        superblock: Option<&Superblock>,
    ) {
        let mut fields = vec![
            ("seq", Value::Unsigned(header.seq)),
            ("position", Value::Unsigned(header.position)),
            ("bytes", Value::Unsigned(header.total_length.into())),
            ("start_epoch", Value::Unsigned(header.start_epoch)),
            ("durable_seq", Value::Unsigned(header.durable_seq)),
            ("time_ms", Value::Signed(header.time_ms)),
            ("tail_seq", Value::Unsigned(header.tail_seq)),
            ("entries", Value::Unsigned(header.entry_count.into())),
            ("payload_bytes", Value::Unsigned(header.payload_length.into())),
            ("is_wrap", Value::Flag(header.is_wrap)),
            ("previous_crc", hex(header.previous_crc)),
            ("crc", hex(crc)),
            ("state", Value::Text(state)),
        ];
        if let Some(superblock) = superblock {
            // What is before the tail is of an earlier lap, or in both checkpoints.
            fields.push(("is_needed", Value::Flag(header.seq >= superblock.tail.seq)));
        }
        self.say(1, "journal record", fields);
    }

    fn entry(&mut self, entry: &Entry, payload: Option<&[u8]>) {
        // The one place that knows what each kind of entry carries.
        let (kind, topic, batch) = match entry.kind {
            // A part of one is none.
            Kind::Inline => (
                "INLINE",
                None,
                payload.filter(|payload| is_batch_of(entry, payload)),
            ),
            Kind::Direct => ("DIRECT", None, None),
            Kind::Open => ("OPEN", payload, None),
            Kind::Start => ("START", None, None),
            Kind::Drop => ("DROP", None, None),
        };
        let mut fields = vec![
            ("kind", text(kind)),
            ("topic_id", Value::Text(to_base64(entry.id.topic_id))),
            ("partition", Value::Signed(entry.id.partition.into())),
            ("owner_epoch", Value::Unsigned(entry.owner_epoch.into())),
            ("base_offset", Value::Signed(entry.base_offset)),
            ("next_offset", Value::Signed(entry.next_offset)),
            ("segment", Value::Signed(entry.segment_base)),
            ("position", Value::Unsigned(entry.file_position.into())),
            ("length", Value::Unsigned(entry.length.into())),
            ("crc", hex(entry.data_crc)),
            ("goes_on", Value::Flag(entry.goes_on)),
        ];
        if let Some(topic) = topic {
            fields.push((
                "topic",
                Value::Bytes(Some(Cut::new(topic, self.options.bytes_max))),
            ));
        }
        self.say(2, "entry", fields);
        if let Some(batch) = batch.filter(|_| self.options.records) {
            if let Some(header) = batch.first_chunk::<BATCH_HEADER_BYTES>().map(BatchHeader::decode) {
                // The payload's CRC covers all of the batch's.
                let is_whole = RecordBatch::parse(batch).is_ok_and(|(batch, _)| batch.verify_crc().is_ok());
                self.batch(3, entry.file_position.into(), &header, is_whole);
            }
            self.records(batch);
        }
    }

    async fn checkpoint(&mut self, path: &Path) -> Result<(), StorageError> {
        let bytes = checkpoint::read_file(path, &self.pool).await?.unwrap_or_default();
        self.say_file(path, bytes.len() as u64, "checkpoint");
        let Some(found) = checkpoint::decode(&bytes) else {
            let what = "its bytes do not match its checksum, or are of another version";
            self.say(1, "no checkpoint", vec![("what", text(what))]);
            return Ok(());
        };
        drop(bytes);
        let Checkpoint { head, partitions } = found;
        let fields = vec![
            ("generation", Value::Unsigned(head.generation)),
            ("journal_id", Value::Text(format!("{:032x}", head.journal_id))),
            ("time_ms", Value::Signed(head.time_ms)),
            ("replay_seq", Value::Unsigned(head.replay.seq)),
            ("replay_position", Value::Unsigned(head.replay.position)),
            ("previous_crc", hex(head.replay.previous_crc)),
            ("partitions", Value::Unsigned(partitions.len() as u64)),
        ];
        self.say(1, "checkpoint", fields);
        for partition in &partitions {
            self.partition(partition);
        }
        Ok(())
    }

    fn partition(&mut self, partition: &PartitionCheckpoint) {
        let fields = vec![
            ("topic", Value::Text(partition.topic.clone())),
            ("partition", Value::Signed(partition.id.partition.into())),
            ("topic_id", Value::Text(to_base64(partition.id.topic_id))),
            ("owner_epoch", Value::Unsigned(partition.owner_epoch.into())),
            ("log_start_offset", Value::Signed(partition.log_start_offset)),
            ("next_offset", Value::Signed(partition.next_offset)),
            ("segments", Value::Unsigned(partition.segments.len() as u64)),
            ("partial_bytes", Value::Unsigned(partition.partial.len() as u64)),
            (
                "index_entries_here",
                Value::Unsigned(partition.offsets.len() as u64),
            ),
            ("time_entries_here", Value::Unsigned(partition.times.len() as u64)),
            ("producers", Value::Unsigned(partition.producers.len() as u64)),
        ];
        self.say(2, "partition", fields);
        for segment in &partition.segments {
            let fields = vec![
                ("base_offset", Value::Signed(segment.base_offset)),
                ("bytes", Value::Unsigned(segment.length.into())),
                ("is_sealed", Value::Flag(segment.is_sealed)),
                ("index_entries", Value::Unsigned(segment.index_entries.into())),
                ("time_entries", Value::Unsigned(segment.time_entries.into())),
                ("max_timestamp_ms", Value::Signed(segment.max_timestamp_ms)),
            ];
            self.say(3, "segment", fields);
        }
        for (epoch, start) in &partition.leader_epochs.starts {
            let fields = vec![
                ("epoch", Value::Signed((*epoch).into())),
                ("start_offset", Value::Signed(*start)),
            ];
            self.say(3, "leader epoch", fields);
        }
        for producer in &partition.producers {
            let last = producer.batches.last();
            let mut fields = vec![
                ("producer_id", Value::Signed(producer.id)),
                ("epoch", Value::Signed(producer.epoch.into())),
                ("batches", Value::Unsigned(producer.batches.len() as u64)),
            ];
            if let Some(last) = last {
                fields.push(("last_sequence", Value::Signed(last.last_sequence.into())));
                fields.push(("last_offset", Value::Signed(last.last_offset)));
            }
            self.say(3, "producer", fields);
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn hex(number: u32) -> Value {
    Value::Text(format!("{number:#010x}"))
}

/// Whether an entry's payload is the whole batch, as far as its header says.
fn is_batch_of(entry: &Entry, payload: &[u8]) -> bool {
    let header = payload
        .first_chunk::<BATCH_HEADER_BYTES>()
        .map(BatchHeader::decode);
    header.is_some_and(|header| {
        header.batch_bytes() == payload.len() && header.base_offset == entry.base_offset
    })
}
