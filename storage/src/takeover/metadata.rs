//! The records of Kafka's metadata log, whatever they mean.

use std::path::Path;

use ring::buffer::Pool;
use ring::directory;
use wire::{RecordBatch, records};

use crate::error::StorageError;
use crate::inspect::{Source, Step};
use crate::opening::OPENED_BYTES_MAX;

/// The directory of its only partition.
pub(super) const DIRECTORY: &str = "__cluster_metadata-0";

/// Shows the value of each record: of the newest snapshot first, and then of the log from there on.
pub(super) async fn each_record(
    directory: &Path,
    pool: &Pool,
    mut visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), StorageError> {
    let names = match directory::list(directory).await {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = "it is not there, and says which topics there are and what their configs are. It is in Kafka's metadata.log.dir: \
                        copy it here";
            return Err(StorageError::refused(directory, what));
        }
        Err(error) => return Err(StorageError::io("list", directory)(error)),
    };
    // 20 digits, the offset that follows; 10 digits, an epoch: the last name is the newest.
    let snapshot = names.iter().rfind(|entry| entry.name.ends_with(".checkpoint"));
    let mut from = 0;
    if let Some(snapshot) = snapshot {
        let path = directory.join(&snapshot.name);
        let offset = snapshot
            .name
            .split('-')
            .next()
            .and_then(|offset| offset.parse().ok());
        from = offset.ok_or_else(|| StorageError::corrupt(&path, 0, "its name says no offset"))?;
        each_of_file(&path, 0, pool, &mut visit).await?;
    }
    let mut next = from;
    for entry in names.iter().filter(|entry| entry.name.ends_with(".log")) {
        let path = directory.join(&entry.name);
        let base: Option<i64> = entry.name.strip_suffix(".log").and_then(|base| base.parse().ok());
        if base.is_none_or(|base| base > next) {
            let what = format!("it should begin at offset {next}, or before");
            return Err(StorageError::corrupt(&path, 0, what));
        }
        next = each_of_file(&path, from, pool, &mut visit).await?.max(next);
    }
    Ok(())
}

/// Shows the values of a file's records from an offset on. The offset that follows the last.
async fn each_of_file(
    path: &Path,
    from: i64,
    pool: &Pool,
    visit: &mut impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<i64, StorageError> {
    let corrupt = |at: u64, what: String| StorageError::corrupt(path, at, what);
    let Some(mut source) = Source::open(path, pool).await? else {
        return Err(corrupt(0, "it was there a moment ago".to_owned()));
    };
    let (mut at, mut next) = (0, from);
    loop {
        let header = match source.batch(at).await? {
            Step::End => return Ok(next),
            Step::NoBatch(what) => return Err(corrupt(at, what)),
            Step::Batch(seen) if !seen.is_whole() => {
                return Err(corrupt(at, "a batch has a wrong CRC-32C".to_owned()));
            }
            Step::Batch(seen) => seen.header,
        };
        let begins = at;
        at += header.batch_bytes() as u64;
        next = header.next_offset();
        if next <= from || header.attributes.is_control() {
            continue;
        }
        let Some(bytes) = source.bytes(begins, header.batch_bytes()).await? else {
            return Err(corrupt(begins, "the file ends while it is read".to_owned()));
        };
        each_of_batch(bytes, from, visit).map_err(|what| corrupt(begins, what))?;
    }
}

fn each_of_batch(
    bytes: &[u8],
    from: i64,
    visit: &mut impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let (batch, _) = RecordBatch::parse(bytes).map_err(|error| error.to_string())?;
    let header = batch.header();
    let codec = header.attributes.compression();
    let codec = codec.ok_or("a batch has a codec that nobody knows")?;
    let section = codec
        .decompress(batch.records_bytes(), OPENED_BYTES_MAX)
        .map_err(|error| error.to_string())?;
    for record in records(&section, header.record_count) {
        let record = record.map_err(|error| error.to_string())?;
        let offset = header.base_offset.saturating_add(record.offset_delta.into());
        if offset >= from
            && let Some(value) = record.value
        {
            visit(value).map_err(|what| format!("the record of offset {offset}: {what}"))?;
        }
    }
    Ok(())
}
