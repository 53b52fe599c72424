//! The check of one partition's files.

use std::collections::BTreeSet;
use std::path::Path;

use ring::directory;

use super::check::{Checking, Held, Severity};
use super::segment::{Flaw, Judge, Part, RESTORE, Step};
use super::source::Source;
use crate::checkpoint::SegmentCheckpoint;
use crate::error::StorageError;
use crate::files::{EXTENSIONS, SegmentFiles, read_small};
use crate::index::{self, INDEX_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::partition::{METADATA_FILE, directory_name, metadata_text};
use crate::segment::{SegmentName, aside_name, is_aside_name};

/// Checks the partition's directory and all of its segments.
pub(super) async fn check(checking: &mut Checking<'_>, held: &Held) -> Result<(), StorageError> {
    let saved = &held.saved;
    let path = checking
        .directory
        .join(directory_name(&saved.topic, saved.id.partition));
    checking.summary.partitions += 1;
    let mut is_there = true;
    let names = match directory::list(&path).await {
        Ok(names) => names,
        // It is made with the first block of a segment.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && (saved.segments.iter()).all(|segment| on_disk(segment, held.block_bytes) == 0) =>
        {
            is_there = false;
            Vec::new()
        }
        Err(error) => return checking.unreadable(StorageError::io("list", &path)(error)),
    };
    if is_there {
        metadata(checking, &path, saved.id.topic_id).await?;
    }
    // Those of compacted segments that are not at their place yet.
    let mut aside = BTreeSet::new();
    for (at, segment) in saved.segments.iter().enumerate() {
        let next = saved.segments.get(at + 1);
        let next_offset = next.map_or(saved.next_offset, |next| next.base_offset);
        let partial = match next {
            None if !segment.is_sealed => saved.partial.clone(),
            _ => Vec::new(),
        };
        let name = SegmentName {
            base_offset: segment.base_offset,
            generation: segment.generation,
        };
        let aside_log = aside_name(name, "log");
        let files = SegmentFiles {
            directory: &path,
            name,
            is_aside: name.generation > 0 && names.iter().any(|entry| entry.name == aside_log),
        };
        if files.is_aside {
            aside.extend(EXTENSIONS.map(|extension| files.path(extension)));
        }
        check_segment(checking, held, &files, segment, next_offset, partial).await?;
    }
    let first = held.segments.first().copied().unwrap_or(saved.log_start_offset);
    for entry in names.iter().filter(|entry| entry.name != METADATA_FILE) {
        let file = path.join(&entry.name);
        if is_aside_name(&entry.name) {
            if !aside.contains(&file) {
                let what = "a compacted segment that this checkpoint does not know";
                let next = "it is removed when the broker has run for two checkpoints, unless the other checkpoint is used";
                checking.find(Severity::Note, &file, None, what, next);
            }
            continue;
        }
        let base_offset = entry.name.split_once('.').and_then(|(stem, extension)| {
            let base_offset = stem.parse::<i64>().ok().filter(|_| stem.len() == 20)?;
            EXTENSIONS.contains(&extension).then_some(base_offset)
        });
        match base_offset {
            Some(base_offset) if held.segments.contains(&base_offset) => {}
            Some(base_offset) if base_offset < first => {
                let what = "a segment before the log's start";
                checking.find(Severity::Note, &file, None, what, "the next start removes it");
            }
            Some(base_offset) if is_merged(&saved.segments, base_offset) => {
                let what = "a segment that compaction has merged with the one before it";
                checking.find(Severity::Note, &file, None, what, "the next start removes it");
            }
            Some(base_offset) if base_offset == held.end_offset => {
                let what = "a segment of which nothing is acknowledged yet";
                let next = "nothing: the next batch begins it, or a later start removes it";
                checking.find(Severity::Note, &file, None, what, next);
            }
            Some(_) => {
                let what = "a segment that neither the checkpoint nor the journal knows; nothing reads it";
                checking.find(
                    Severity::Warning,
                    &file,
                    None,
                    what,
                    "move it out of the data directory",
                );
            }
            None => checking.stranger(&file),
        }
    }
    Ok(())
}

/// Whether a segment of that offset would be within one that compaction has written.
fn is_merged(segments: &[SegmentCheckpoint], base_offset: i64) -> bool {
    let before = segments.partition_point(|segment| segment.base_offset <= base_offset);
    // Behind the last there is what the checkpoint does not know yet.
    before > 0 && before < segments.len() && segments[before - 1].generation > 0
}

/// Whether the directory says whose it is.
async fn metadata(checking: &mut Checking<'_>, path: &Path, topic_id: u128) -> Result<(), StorageError> {
    let path = path.join(METADATA_FILE);
    let bytes = match read_small(&path, &checking.pool).await {
        Ok(bytes) => bytes,
        Err(error) => return checking.unreadable(error),
    };
    let expected = metadata_text(topic_id);
    // Kafka ends the last line with the file.
    if bytes != expected.as_bytes() && bytes != expected.trim_end().as_bytes() {
        let same = bytes
            .iter()
            .zip(expected.as_bytes())
            .take_while(|(one, other)| one == other);
        let position = same.count() as u64;
        let next = format!(
            "write it anew while the broker is stopped, these two lines: {}",
            expected.trim_end().replace('\n', ", ")
        );
        let what = "it does not say that the directory is its topic's";
        checking.find(Severity::Damage, &path, Some(position), what, next);
    }
    Ok(())
}

/// Bytes of a segment that its file has.
fn on_disk(segment: &SegmentCheckpoint, block_bytes: u32) -> u64 {
    let length = u64::from(segment.length);
    match segment.is_sealed {
        true => length,
        false => length - length % u64::from(block_bytes),
    }
}

async fn check_segment(
    checking: &mut Checking<'_>,
    held: &Held,
    files: &SegmentFiles<'_>,
    segment: &SegmentCheckpoint,
    next_offset: i64,
    partial: Vec<u8>,
) -> Result<(), StorageError> {
    checking.summary.segments += 1;
    let path = &Part::Log.path(files);
    let length = u64::from(segment.length);
    let on_disk = on_disk(segment, held.block_bytes);
    let mut source = match Source::open(path, &checking.pool).await {
        Ok(Some(source)) => source,
        Ok(None) if on_disk == 0 => Source::without_file(path, &checking.pool),
        Ok(None) => {
            let what = format!("it is missing, and {on_disk} bytes were written to it");
            checking.find(Severity::Damage, path, None, what, RESTORE);
            return Ok(());
        }
        Err(error) => return checking.unreadable(error),
    };
    let found = source.len();
    if found < on_disk || (segment.is_sealed && found != on_disk) {
        tell(checking, files, Flaw::length(Part::Log, found, on_disk));
    }
    if !segment.is_sealed && found == length {
        unread_end(checking, &mut source, path, on_disk, &partial).await?;
    }
    let offsets = segment.index_entries as usize * INDEX_ENTRY_BYTES;
    let offsets = read_entries(checking, segment, files, Part::Index, offsets).await?;
    let times = segment.time_entries as usize * TIME_ENTRY_BYTES;
    let times = read_entries(checking, segment, files, Part::TimeIndex, times).await?;
    source.limit(on_disk, partial);
    // Only compaction takes offsets out.
    let is_dense = segment.generation == 0;
    let mut judge = Judge::new(segment.base_offset, is_dense, held.saved.leader_epochs.clone());
    let (mut offsets, mut times) = (
        Vec::from_iter(index::offset_entries(&offsets)),
        Vec::from_iter(index::time_entries(&times)),
    );
    if !segment.is_sealed {
        offsets.extend(&held.saved.offsets);
        times.extend(&held.saved.times);
    }
    judge.indexes(offsets, times);
    let mut position = 0;
    let (flaws, untold) = loop {
        match source.batch(position).await {
            Ok(Step::Batch(seen)) => {
                judge.batch(&seen);
                let bytes = seen.header.batch_bytes() as u64;
                position += bytes;
                checking.summary.batches += 1;
                checking.read(bytes);
            }
            Ok(Step::NoBatch(what)) => break judge.no_batch(position, &what),
            Ok(Step::End) => break judge.end(position, Some(next_offset)),
            Err(error) => {
                checking.unreadable(error)?;
                break judge.no_batch(position, "it cannot be read");
            }
        }
    };
    for flaw in flaws {
        tell(checking, files, flaw);
    }
    if untold > 0 {
        let what = format!("{untold} findings more in this segment and its indexes");
        checking.find(Severity::Damage, path, None, what, RESTORE);
    }
    Ok(())
}

fn tell(checking: &mut Checking<'_>, files: &SegmentFiles<'_>, flaw: Flaw) {
    let Flaw { part, position, what } = flaw;
    let path = part.path(files);
    checking.find(part.severity(), &path, Some(position), what, part.remedy());
}

/// After a clean stop the file has the bytes, too, that the broker keeps in its checkpoint: for other tools.
async fn unread_end(
    checking: &mut Checking<'_>,
    source: &mut Source,
    path: &Path,
    from: u64,
    partial: &[u8],
) -> Result<(), StorageError> {
    let differs = match source.bytes(from, partial.len()).await {
        Ok(bytes) => {
            let bytes = bytes.unwrap_or_default();
            (bytes != partial).then(|| {
                bytes
                    .iter()
                    .zip(partial)
                    .take_while(|(one, other)| one == other)
                    .count()
            })
        }
        Err(error) => return checking.unreadable(error),
    };
    if let Some(same) = differs {
        let what = "the bytes from here on are not those of the checkpoint, which the broker uses instead";
        let next =
            "nothing for the broker; before other tools read the file, start the broker and stop it again";
        checking.find(Severity::Warning, path, Some(from + same as u64), what, next);
    }
    Ok(())
}

/// The bytes of the entries that an index should have.
async fn read_entries(
    checking: &mut Checking<'_>,
    segment: &SegmentCheckpoint,
    files: &SegmentFiles<'_>,
    part: Part,
    expected: usize,
) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    // A crash may have come between a compacted segment's indexes and its log, which come to their place in this order.
    for files in [*files, files.in_place()] {
        bytes = match read_small(&part.path(&files), &checking.pool).await {
            Ok(bytes) => bytes,
            Err(error) => {
                checking.unreadable(error)?;
                return Ok(Vec::new());
            }
        };
        if !bytes.is_empty() || !files.is_aside {
            break;
        }
    }
    if bytes.len() < expected || (segment.is_sealed && bytes.len() != expected) {
        let flaw = Flaw::length(part, bytes.len() as u64, expected as u64);
        tell(checking, files, flaw);
    }
    bytes.truncate(expected);
    Ok(bytes)
}
