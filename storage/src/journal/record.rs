//! A journal record as bytes: header, entries, and where the payload lies. Pure.
//!
//! One record is one group commit. `docs/formats.md` draws it. Decoding bounds every number before it is used and
//! believes nothing that the header's CRC does not cover; the payload is proven by its entries' CRCs.

use std::ops::Range;

use wire::record_batch::BATCH_HEADER_BYTES;

use crate::id::TopicPartition;

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 64;
/// The most entries of one record: 256 KiB of them.
pub(crate) const ENTRIES_MAX: usize = 4_096;

const MAGIC: u32 = 0x4d4c_5352; // "MLSR"
const VERSION: u16 = 1;
const FLAG_WRAP: u16 = 1;
const ENTRY_FLAG_AT_BLOCK: u16 = 1;
const ENTRY_FLAG_GOES_ON: u16 = 2;
/// Payloads begin at a multiple of this many bytes.
const PAYLOAD_ALIGNMENT: usize = 8;

/// Bytes of a DIRECT entry's payload: the batch's header, and the CRC-32C of that.
pub(crate) const DIRECT_PAYLOAD_BYTES: usize = BATCH_HEADER_BYTES + 4;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A batch, or a part of one, whose bytes are in the payload.
    Inline = 1,
    /// The part of a batch that is in its segment: whole blocks, written before the record was flushed. The payload is
    /// a copy of the batch's header.
    Direct = 2,
    /// The partition's log begins here.
    Open = 5,
    /// The partition's log begins later from now on: `base_offset` is its first offset.
    Start = 8,
    /// The partition is deleted.
    Drop = 9,
}

impl Kind {
    fn of(code: u16) -> Option<Kind> {
        [Kind::Inline, Kind::Direct, Kind::Open, Kind::Start, Kind::Drop]
            .into_iter()
            .find(|kind| *kind as u16 == code)
    }
}

/// One entry of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The payload begins at the next block boundary of the record, not merely at the next 8 bytes.
    pub(crate) at_block: bool,
    /// The batch goes on in the next entry, which has the same offsets.
    pub(crate) goes_on: bool,
    pub(crate) id: TopicPartition,
    /// How often the partition was opened by a journal: 0, then one more for each hand-over.
    pub(crate) owner_epoch: u32,
    /// CRC-32C of the bytes: of those in the payload, or of those in the segment.
    pub(crate) data_crc: u32,
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    /// Base offset of the segment that the batch is in.
    pub(crate) segment_base: i64,
    /// Where in the segment the batch begins, in bytes. 0 with `segment_base == base_offset` begins a segment.
    pub(crate) file_position: u32,
    /// How many bytes: in the payload, or in the segment.
    pub(crate) length: u32,
}

impl Entry {
    /// Bytes of its payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self.kind {
            Kind::Direct => DIRECT_PAYLOAD_BYTES,
            Kind::Inline | Kind::Open | Kind::Start | Kind::Drop => self.length as usize,
        }
    }

    /// Whether this is its payload.
    fn is_proven_by(&self, payload: &[u8]) -> bool {
        match self.kind {
            Kind::Direct => direct_header(payload).is_some(),
            Kind::Inline | Kind::Open | Kind::Start | Kind::Drop => wire::crc32c(payload) == self.data_crc,
        }
    }
}

/// Writes the payload of a DIRECT entry.
///
/// # Panics
/// If either has not the bytes that it must have.
pub(crate) fn encode_direct(payload: &mut [u8], header: &[u8]) {
    assert_eq!(payload.len(), DIRECT_PAYLOAD_BYTES);
    payload[..4].copy_from_slice(&wire::crc32c(header).to_le_bytes());
    payload[4..].copy_from_slice(header);
}

/// The batch's header in the payload of a DIRECT entry, if its CRC holds.
pub(crate) fn direct_header(payload: &[u8]) -> Option<&[u8; BATCH_HEADER_BYTES]> {
    let (crc, header) = payload.split_first_chunk()?;
    let header: &[u8; BATCH_HEADER_BYTES] = header.try_into().ok()?;
    (wire::crc32c(header) == u32::from_le_bytes(*crc)).then_some(header)
}

/// Where a record stands in the journal's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) journal_id: u128,
    pub(crate) start_epoch: u64,
    pub(crate) seq: u64,
    /// Its own offset in the file.
    pub(crate) position: u64,
    /// Every record up to this one was flushed when this one was built.
    pub(crate) durable_seq: u64,
    /// The journal's tail when this one was built.
    pub(crate) tail_seq: u64,
    pub(crate) previous_crc: u32,
    /// Bytes of the whole record, a multiple of the block; of a WRAP, all bytes to the ring's end.
    pub(crate) total_length: u32,
    pub(crate) entry_count: u32,
    pub(crate) payload_offset: u32,
    pub(crate) payload_length: u32,
    pub(crate) is_wrap: bool,
    /// When it was built, in milliseconds since 1970; 0 in records of versions that did not say.
    pub(crate) time_ms: i64,
}

/// What bounds a record, from the superblock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) block_bytes: usize,
    pub(crate) largest_record: usize,
    /// From the record's first byte to the end of the ring.
    pub(crate) to_end: u64,
}

/// Bytes of a header with so many entries.
pub(crate) const fn head_bytes(entries: usize) -> usize {
    HEADER_BYTES + entries * ENTRY_BYTES
}

/// Writes header and entries to the front of `bytes`. Returns the header's CRC.
///
/// # Panics
/// If `bytes` is too short, or the counts of the header are not those of the entries.
pub(crate) fn encode(bytes: &mut [u8], header: &RecordHeader, entries: &[Entry]) -> u32 {
    assert_eq!(header.entry_count as usize, entries.len());
    let head = &mut bytes[..head_bytes(entries.len())];
    head[..HEADER_BYTES].fill(0);
    put(head, 4, &MAGIC.to_le_bytes());
    put(head, 8, &header.journal_id.to_le_bytes());
    put(head, 24, &header.start_epoch.to_le_bytes());
    put(head, 32, &header.seq.to_le_bytes());
    put(head, 40, &header.position.to_le_bytes());
    put(head, 48, &header.durable_seq.to_le_bytes());
    put(head, 56, &header.tail_seq.to_le_bytes());
    put(head, 64, &header.previous_crc.to_le_bytes());
    put(head, 72, &header.total_length.to_le_bytes());
    put(head, 76, &header.entry_count.to_le_bytes());
    put(head, 80, &header.payload_length.to_le_bytes());
    put(head, 84, &VERSION.to_le_bytes());
    put(
        head,
        86,
        &(if header.is_wrap { FLAG_WRAP } else { 0 }).to_le_bytes(),
    );
    put(head, 88, &header.payload_offset.to_le_bytes());
    put(head, 92, &header.time_ms.to_le_bytes());
    for (entry, at) in entries.iter().zip((HEADER_BYTES..).step_by(ENTRY_BYTES)) {
        encode_entry(&mut head[at..at + ENTRY_BYTES], entry);
    }
    let crc = wire::crc32c(&head[4..]);
    put(head, 0, &crc.to_le_bytes());
    crc
}

fn encode_entry(bytes: &mut [u8], entry: &Entry) {
    put(bytes, 0, &(entry.kind as u16).to_le_bytes());
    let at_block = if entry.at_block { ENTRY_FLAG_AT_BLOCK } else { 0 };
    let goes_on = if entry.goes_on { ENTRY_FLAG_GOES_ON } else { 0 };
    put(bytes, 2, &(at_block | goes_on).to_le_bytes());
    put(bytes, 4, &entry.id.partition.to_le_bytes());
    put(bytes, 8, &entry.id.topic_id.to_le_bytes());
    put(bytes, 24, &entry.owner_epoch.to_le_bytes());
    put(bytes, 28, &entry.data_crc.to_le_bytes());
    put(bytes, 32, &entry.base_offset.to_le_bytes());
    put(bytes, 40, &entry.next_offset.to_le_bytes());
    put(bytes, 48, &entry.segment_base.to_le_bytes());
    put(bytes, 56, &entry.file_position.to_le_bytes());
    put(bytes, 60, &entry.length.to_le_bytes());
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|field| field.try_into().ok())
        .unwrap_or([0; N])
}

/// A header whose numbers are within bounds, and its CRC as it is written. The CRC is not checked yet: its entries may
/// not be at hand.
pub(crate) fn decode_header(bytes: &[u8], bounds: &Bounds) -> Option<(RecordHeader, u32)> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    let u32_at = |at| u32::from_le_bytes(get(bytes, at));
    let u64_at = |at| u64::from_le_bytes(get(bytes, at));
    let u16_at = |at| u16::from_le_bytes(get(bytes, at));
    if u32_at(4) != MAGIC || u16_at(84) != VERSION || u16_at(86) & !FLAG_WRAP != 0 {
        return None;
    }
    let header = RecordHeader {
        journal_id: u128::from_le_bytes(get(bytes, 8)),
        start_epoch: u64_at(24),
        seq: u64_at(32),
        position: u64_at(40),
        durable_seq: u64_at(48),
        tail_seq: u64_at(56),
        previous_crc: u32_at(64),
        total_length: u32_at(72),
        entry_count: u32_at(76),
        payload_length: u32_at(80),
        payload_offset: u32_at(88),
        is_wrap: u16_at(86) & FLAG_WRAP != 0,
        time_ms: i64::from_le_bytes(get(bytes, 92)),
    };
    let (total, entries) = (header.total_length as usize, header.entry_count as usize);
    let (from, length) = (header.payload_offset as usize, header.payload_length as usize);
    let fits = total >= bounds.block_bytes
        && total.is_multiple_of(bounds.block_bytes)
        && total as u64 <= bounds.to_end
        && entries <= ENTRIES_MAX
        && from.checked_add(length).is_some_and(|end| end <= total);
    let shape = if header.is_wrap {
        entries == 0 && from == 0 && length == 0 && total as u64 == bounds.to_end
    } else {
        total <= bounds.largest_record && head_bytes(entries) <= from
    };
    (fits && shape).then_some((header, u32_at(0)))
}

/// Whether this is the header of a record that [`decode_header`] cannot know: the next one of this chain, in another
/// version or with other flags. Its CRC may cover what we do not know of; no torn write leaves such a header, because it
/// lies in one sector.
pub(crate) fn is_of_another_version(bytes: &[u8], journal_id: u128, seq: u64, position: u64) -> bool {
    let Some(bytes) = bytes.get(..HEADER_BYTES) else {
        return false;
    };
    let is_next = u32::from_le_bytes(get(bytes, 4)) == MAGIC
        && u128::from_le_bytes(get(bytes, 8)) == journal_id
        && u64::from_le_bytes(get(bytes, 32)) == seq
        && u64::from_le_bytes(get(bytes, 40)) == position;
    let (version, flags) = (
        u16::from_le_bytes(get(bytes, 84)),
        u16::from_le_bytes(get(bytes, 86)),
    );
    is_next && (version != VERSION || flags & !FLAG_WRAP != 0)
}

/// The entries of a record, if the header's CRC holds over header and entries and each entry is one that we write.
/// `Err` tells a true CRC over something unknown: written by another version, or by nobody.
pub(crate) fn decode_entries(
    bytes: &[u8],
    header: &RecordHeader,
    crc: u32,
) -> Option<Result<Vec<Entry>, String>> {
    let head = bytes.get(..head_bytes(header.entry_count as usize))?;
    if wire::crc32c(&head[4..]) != crc {
        return None;
    }
    Some(
        head[HEADER_BYTES..]
            .chunks_exact(ENTRY_BYTES)
            .map(decode_entry)
            .collect(),
    )
}

fn decode_entry(bytes: &[u8]) -> Result<Entry, String> {
    let code = u16::from_le_bytes(get(bytes, 0));
    let flags = u16::from_le_bytes(get(bytes, 2));
    let kind = Kind::of(code).ok_or_else(|| format!("an entry of unknown kind {code}"))?;
    if flags & !(ENTRY_FLAG_AT_BLOCK | ENTRY_FLAG_GOES_ON) != 0 {
        return Err(format!("an entry with unknown flags {flags:#x}"));
    }
    let i64_at = |at| i64::from_le_bytes(get(bytes, at));
    let u32_at = |at| u32::from_le_bytes(get(bytes, at));
    Ok(Entry {
        kind,
        at_block: flags & ENTRY_FLAG_AT_BLOCK != 0,
        goes_on: flags & ENTRY_FLAG_GOES_ON != 0,
        id: TopicPartition {
            topic_id: u128::from_le_bytes(get(bytes, 8)),
            partition: i32::from_le_bytes(get(bytes, 4)),
        },
        owner_epoch: u32_at(24),
        data_crc: u32_at(28),
        base_offset: i64_at(32),
        next_offset: i64_at(40),
        segment_base: i64_at(48),
        file_position: u32_at(56),
        length: u32_at(60),
    })
}

/// Where an entry's payload begins, when the one before ended at `end` (both from the record's first byte).
pub(crate) fn payload_start(end: usize, at_block: bool, block_bytes: usize) -> usize {
    end.next_multiple_of(if at_block { block_bytes } else { PAYLOAD_ALIGNMENT })
}

/// Where each entry's payload lies in the record; `None` if one does not lie in it or its CRC is wrong.
pub(crate) fn payloads(
    record: &[u8],
    header: &RecordHeader,
    entries: &[Entry],
    block_bytes: usize,
) -> Option<Vec<Range<usize>>> {
    let first = header.payload_offset as usize;
    let end = first + header.payload_length as usize;
    if end > record.len() {
        return None;
    }
    let mut at = first;
    let mut ranges = Vec::with_capacity(entries.len());
    for entry in entries {
        let length = entry.payload_bytes();
        if length == 0 {
            ranges.push(at..at);
            continue;
        }
        let start = payload_start(at, entry.at_block, block_bytes);
        at = start.checked_add(length)?;
        let payload = record.get(start..at).filter(|_| at <= end)?;
        if !entry.is_proven_by(payload) {
            return None;
        }
        ranges.push(start..at);
    }
    Some(ranges)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = 4_096;

    fn bounds() -> Bounds {
        Bounds {
            block_bytes: BLOCK,
            largest_record: 1 << 20,
            to_end: 4 << 20,
        }
    }

    fn entry(payload: &[u8]) -> Entry {
        Entry {
            kind: Kind::Inline,
            at_block: false,
            goes_on: false,
            id: TopicPartition {
                topic_id: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
                partition: 3,
            },
            owner_epoch: 1,
            data_crc: wire::crc32c(payload),
            base_offset: 10,
            next_offset: 13,
            segment_base: 0,
            file_position: 99,
            length: payload.len() as u32,
        }
    }

    fn record(payloads: &[&[u8]]) -> (Vec<u8>, RecordHeader, Vec<Entry>) {
        let entries: Vec<Entry> = payloads.iter().map(|payload| entry(payload)).collect();
        let payload_offset = head_bytes(entries.len()).next_multiple_of(8);
        let mut bytes = vec![0; payload_offset];
        for payload in payloads {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes.extend_from_slice(payload);
        }
        let payload_length = (bytes.len() - payload_offset) as u32;
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let header = RecordHeader {
            journal_id: 7,
            start_epoch: 2,
            seq: 40,
            position: 8_192,
            durable_seq: 38,
            tail_seq: 12,
            previous_crc: 0xdead_beef,
            total_length: bytes.len() as u32,
            entry_count: entries.len() as u32,
            payload_offset: payload_offset as u32,
            payload_length,
            is_wrap: false,
            time_ms: 1_700_000_000_000,
        };
        encode(&mut bytes, &header, &entries);
        (bytes, header, entries)
    }

    type Whole = (RecordHeader, Vec<Entry>, Vec<Range<usize>>);

    fn decode(bytes: &[u8]) -> Option<Whole> {
        let (header, crc) = decode_header(bytes, &bounds())?;
        let entries = decode_entries(bytes, &header, crc)?.ok()?;
        let ranges = payloads(bytes, &header, &entries, BLOCK)?;
        Some((header, entries, ranges))
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let (bytes, header, entries) = record(&[b"first batch", b"second"]);
        let (again, same, ranges) = decode(&bytes).unwrap();
        assert_eq!((again, same), (header, entries));
        assert_eq!(&bytes[ranges[0].clone()], b"first batch");
        assert_eq!(&bytes[ranges[1].clone()], b"second");
    }

    #[test]
    fn a_wrap_reaches_to_the_end_of_the_ring_and_holds_nothing() {
        let (_, mut header, _) = record(&[]);
        header.is_wrap = true;
        (header.payload_offset, header.payload_length) = (0, 0);
        header.total_length = 4 << 20;
        let mut bytes = vec![0; BLOCK];
        encode(&mut bytes, &header, &[]);
        assert_eq!(decode_header(&bytes, &bounds()).unwrap().0, header);
        header.total_length = 1 << 20;
        encode(&mut bytes, &header, &[]);
        assert_eq!(decode_header(&bytes, &bounds()), None);
    }

    #[test]
    fn an_entry_of_another_version_is_told_from_damage() {
        let (mut bytes, header, _) = record(&[b"x"]);
        bytes[HEADER_BYTES] = 77;
        assert!(
            decode_entries(&bytes, &header, wire::crc32c(&bytes[4..head_bytes(1)]))
                .unwrap()
                .is_err()
        );
        assert!(decode_entries(&bytes, &header, 1).is_none());
    }

    #[test]
    fn the_payload_of_blocks_is_a_header_with_its_own_crc() {
        let header = [7; BATCH_HEADER_BYTES];
        let mut payload = [0; DIRECT_PAYLOAD_BYTES];
        encode_direct(&mut payload, &header);
        let (mut bytes, mut whole, mut entries) = record(&[&payload]);
        entries[0] = Entry {
            kind: Kind::Direct,
            goes_on: true,
            // Of bytes that are elsewhere.
            data_crc: 1,
            length: 8_192,
            ..entries[0]
        };
        encode(&mut bytes, &whole, &entries);
        let (again, same, ranges) = decode(&bytes).unwrap();
        assert_eq!((again, &same), (whole, &entries));
        assert_eq!(direct_header(&bytes[ranges[0].clone()]), Some(&header));
        for at in ranges[0].clone() {
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes), None);
            bytes[at] ^= 1;
        }
        whole.payload_length -= 1;
        encode(&mut bytes, &whole, &entries);
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn every_flipped_bit_of_what_counts_is_noticed(bit in 0..(head_bytes(1) + 11) * 8) {
            let (mut bytes, _, _) = record(&[b"first batch"]);
            // Only the payload offset's gap, if any, may change unnoticed: here there is none.
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), seal: bool) {
            if seal && bytes.len() >= HEADER_BYTES {
                bytes[4..8].copy_from_slice(&MAGIC.to_le_bytes());
                bytes[84..88].copy_from_slice(&[1, 0, 0, 0]);
                let count = u32::from_le_bytes(get(&bytes, 76)) % 4;
                bytes[76..80].copy_from_slice(&count.to_le_bytes());
                bytes.resize(bytes.len().max(BLOCK), 0);
                bytes[72..76].copy_from_slice(&(BLOCK as u32).to_le_bytes());
                let crc = wire::crc32c(&bytes[4..head_bytes(count as usize)]);
                bytes[..4].copy_from_slice(&crc.to_le_bytes());
            }
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn another_version_is_told_from_what_is_no_record() {
        let (bytes, header, _) = record(&[b"one"]);
        let is_other =
            |bytes: &[u8], seq| is_of_another_version(bytes, header.journal_id, seq, header.position);
        assert!(!is_other(&bytes, header.seq), "it is of ours");
        for (at, value) in [(84, 2), (86, 2), (87, 1)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert!(decode_header(&other, &bounds()).is_none());
            assert!(is_other(&other, header.seq));
            assert!(!is_other(&other, header.seq + 1), "of an older lap");
            assert!(!is_other(&other[..100], header.seq));
            other[8] ^= 1;
            assert!(!is_other(&other, header.seq), "of another journal");
        }
        assert!(!is_other(&vec![0; BLOCK], header.seq));
    }

    #[test]
    fn a_record_that_is_cut_before_its_payload_has_none() {
        let (bytes, header, entries) = record(&[b""]);
        let ranges = |bytes: &[u8]| payloads(bytes, &header, &entries, BLOCK);
        assert!(ranges(&bytes).is_some());
        assert!(ranges(&bytes[..HEADER_BYTES]).is_none());
    }
}
