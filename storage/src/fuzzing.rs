//! The decoders of what a data directory holds, for the fuzz targets in `storage/fuzz`. Compiled for them alone.
//!
//! Every file carries a checksum, which chance does not find: the first byte of the input says whether it is made
//! right, so that what lies behind it is reached. Whatever is read must be written back as the same.

use crate::journal::{record, superblock};
use crate::{checkpoint, directory, index, inspect};

/// A record as recovery reads it: the header, its entries, and where their payloads lie.
pub fn journal_record(data: &[u8]) {
    const BLOCK_BYTES: usize = 512;
    let [sealed, bytes @ ..] = data else { return };
    let mut bytes = bytes.to_vec();
    let bounds = record::Bounds {
        block_bytes: BLOCK_BYTES,
        largest_record: 1 << 20,
        to_end: 4 << 20,
    };
    let Some((header, mut crc)) = record::decode_header(&bytes, &bounds) else {
        return;
    };
    let head = record::head_bytes(header.entry_count as usize);
    if sealed % 2 == 1
        && let Some(covered) = bytes.get(4..head)
    {
        crc = wire::crc32c(covered);
    }
    let Some(Ok(mut entries)) = record::decode_entries(&bytes, &header, crc) else {
        return;
    };
    let mut again = vec![0; head];
    let crc = record::encode(&mut again, &header, &entries);
    let (same, _) = record::decode_header(&again, &bounds).expect("our own header");
    assert_eq!(same, header);
    assert_eq!(
        record::decode_entries(&again, &header, crc),
        Some(Ok(entries.clone()))
    );
    if sealed % 2 == 1 {
        let mut end = header.payload_offset as usize;
        for entry in entries.iter_mut().filter(|entry| entry.payload_bytes() > 0) {
            let start = record::payload_start(end, entry.at_block, BLOCK_BYTES);
            end = start.saturating_add(entry.payload_bytes());
            match (entry.kind, bytes.get_mut(start..end)) {
                (record::Kind::Direct, Some(payload)) => {
                    let header = payload[4..].to_vec();
                    record::encode_direct(payload, &header);
                }
                (_, payload) => entry.data_crc = payload.map_or(0, |payload| wire::crc32c(payload)),
            }
        }
    }
    bytes.truncate(header.total_length as usize);
    if let Some(ranges) = record::payloads(&bytes, &header, &entries, BLOCK_BYTES) {
        assert_eq!(ranges.len(), entries.len());
        let end = (header.payload_offset + header.payload_length) as usize;
        assert!(ranges.is_sorted_by(|one, next| one.end <= next.start));
        assert!(ranges.iter().all(|range| range.end <= end.min(bytes.len())));
    }
}

/// A journal's superblock.
pub fn journal_superblock(data: &[u8]) {
    let [sealed, block @ ..] = data else { return };
    let mut block = block.to_vec();
    if sealed % 2 == 1 && block.len() >= superblock::SUPERBLOCK_BYTES {
        let crc = wire::crc32c(&block[4..superblock::SUPERBLOCK_BYTES]);
        block[..4].copy_from_slice(&crc.to_le_bytes());
    }
    if let Some(read) = superblock::decode(&block) {
        superblock::encode(&mut block, &read);
        assert_eq!(superblock::decode(&block), Some(read));
    }
}

/// A shard's checkpoint.
pub fn shard_checkpoint(data: &[u8]) {
    let [flags, bytes @ ..] = data else { return };
    checkpoint::read_and_write_again(bytes, flags & 2 != 0, flags & 1 != 0);
}

/// The directory's manifest.
pub fn manifest(data: &[u8]) {
    let [sealed, text @ ..] = data else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let mut text = text.to_owned();
    if sealed % 2 == 1 {
        text.push('\n');
        let crc = wire::crc32c(text.as_bytes());
        text.push_str(&format!("crc32c={crc:08x}\n"));
    }
    directory::read_and_write_manifest_again(&text);
}

/// A segment's two indexes.
pub fn segment_index(data: &[u8]) {
    let Some((segment_bytes, bytes)) = data.split_first_chunk() else {
        return;
    };
    let segment_bytes = u32::from_be_bytes(*segment_bytes);
    if let Some(entries) = index::decode_offsets(bytes, segment_bytes) {
        let whole = bytes.len() - bytes.len() % index::INDEX_ENTRY_BYTES;
        assert_eq!(index::encode_offsets(&entries), bytes[..whole]);
        for entry in &entries {
            assert_eq!(index::floor(&entries, entry.relative_offset), Some(*entry));
        }
    }
    if let Some(entries) = index::decode_times(bytes) {
        let whole = bytes.len() - bytes.len() % index::TIME_ENTRY_BYTES;
        assert_eq!(index::encode_times(&entries), bytes[..whole]);
        for entry in &entries {
            let older = index::last_older(&entries, entry.timestamp_ms);
            assert!(older.is_none_or(|older| older.relative_offset < entry.relative_offset));
        }
    }
}

/// A segment with its indexes, as `millstream log check` judges them.
pub fn inspected_segment(data: &[u8]) {
    let [flags, index_bytes, time_bytes, rest @ ..] = data else {
        return;
    };
    let (index, rest) = rest.split_at(usize::from(*index_bytes).min(rest.len()));
    let (times, log) = rest.split_at(usize::from(*time_bytes).min(rest.len()));
    let base_offset = if flags & 2 == 0 { 0 } else { i64::MAX - 5 };
    inspect::judge_anything(base_offset, log, index, times, flags & 1 == 0);
}
