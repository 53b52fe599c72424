//! The bytes of the log file: its header, its entries, and the scan that tells a torn tail from damage.
//!
//! Little-endian:
//!
//! ```text
//! header, 64 bytes
//!  0  magic "MSMETALG"   8  version u32      12  entries were purged: 0 or 1, u32
//! 16  file id u64       24  purged term u64  32  purged node u64       40  purged index u64
//! 48  zero              60  CRC-32C of the first 60 bytes
//!
//! frame, a multiple of 8 bytes
//!  0  CRC-32C of the file id, then of what follows up to the payload's end
//!  4  payload length u32
//!  8  index u64         16  term u64         24  node u64
//! 32  durable end u64: every entry below it was durable before this frame was written
//! 40  kind u8: 0 voucher, 1 blank, 2 records, 3 membership; then 7 zeroes
//! 48  payload, then zeroes
//! ```
//!
//! The header has a block of 4,096 bytes to itself, and so has every write: a write that tears, or that leaves a sector
//! which cannot be read, never spoils what was acknowledged before it. The rest of a block is zero.
//!
//! A frame that cannot be read ends the log. If anything behind it, or beside it, vouches for the entry that should be
//! there, it was acknowledged and is damaged; if not, the write was torn and nobody was told of it. A voucher has no
//! entry: it follows a flush, so that the newest entries do not wait for the next ones to be vouched for.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, CommittedLeaderId, EntryPayload, Membership};

use crate::controller::bytes::{Malformed, Reader, put_count, put_string};
use crate::controller::raft::{Batch, Entry, LogId};
use crate::controller::record::{self, BATCH_BYTES_MAX};

/// No write touches a block of another: the unit that a torn write may damage is no larger.
const BLOCK_BYTES: usize = 4_096;
const HEADER_BYTES: usize = 64;
const FRAME_HEADER_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"MSMETALG";
const VERSION: u32 = 1;
/// The scan behind a bad frame computes checksums over so many bytes at most: a file made to be slow is refused.
const SCAN_BYTES_MAX: u64 = 1 << 30;

const VOUCHER: u8 = 0;
const BLANK: u8 = 1;
const RECORDS: u8 = 2;
const MEMBERSHIP: u8 = 3;

/// What a log file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Chance: frames of another file are no frames of this one.
    pub(crate) file_id: u64,
    /// The newest entry that is not in the file any more.
    pub(crate) purged: Option<LogId>,
}

/// What a log file holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) header: Header,
    pub(crate) entries: Vec<Entry>,
    /// Where the next frame goes, in bytes; behind it there may be a torn tail.
    pub(crate) end: u64,
}

/// What is wrong, and where in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) why: String,
}

impl Header {
    /// The first block of a file.
    pub(crate) fn block(&self) -> Vec<u8> {
        let mut bytes = self.encode().to_vec();
        fill_block(&mut bytes);
        bytes
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let purged = self.purged.unwrap_or_default();
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.purged.is_some()).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&purged.leader_id.term.to_le_bytes());
        bytes[32..40].copy_from_slice(&purged.leader_id.node_id.to_le_bytes());
        bytes[40..48].copy_from_slice(&purged.index.to_le_bytes());
        let crc = wire::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Header, &'static str> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or("it is shorter than its header")?;
        let (fields, crc) = bytes.split_at(60);
        if wire::crc32c(fields).to_le_bytes() != crc {
            return Err("its header's checksum does not match");
        }
        let mut reader = Reader::new(fields);
        let mut read = || -> Result<Option<Header>, Malformed> {
            if reader.bytes(8, "magic")? != MAGIC || reader.u32("version")? != VERSION {
                return Ok(None);
            }
            let is_purged = reader.u32("purged")? != 0;
            let file_id = reader.u64("file id")?;
            let purged = take_log_id(&mut reader)?;
            Ok(Some(Header {
                file_id,
                purged: is_purged.then_some(purged),
            }))
        };
        match read() {
            Ok(Some(header)) => Ok(header),
            Ok(None) => Err("it is not a metadata log of a version that is known"),
            Err(_) => Err("its header is malformed"),
        }
    }
}

/// Appends an entry's frame. Everything below `durable_end` is durable.
pub(crate) fn put_entry(out: &mut Vec<u8>, file_id: u64, durable_end: u64, entry: &Entry) {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Vec::new()),
        EntryPayload::Normal(Batch(records)) => (RECORDS, record::encode(records)),
        EntryPayload::Membership(membership) => {
            let mut payload = Vec::new();
            put_membership(&mut payload, membership);
            (MEMBERSHIP, payload)
        }
    };
    put_frame(out, file_id, durable_end, entry.log_id, kind, &payload);
}

/// Appends a voucher: everything below `durable_end` is durable.
pub(crate) fn put_voucher(out: &mut Vec<u8>, file_id: u64, durable_end: u64) {
    put_frame(out, file_id, durable_end, LogId::default(), VOUCHER, &[]);
}

/// Ends a write: what comes next begins in a block of its own.
pub(crate) fn fill_block(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
}

fn put_frame(out: &mut Vec<u8>, file_id: u64, durable_end: u64, id: LogId, kind: u8, payload: &[u8]) {
    let start = out.len();
    let length = u32::try_from(payload.len()).expect("a proposal is bounded");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length.to_le_bytes());
    for field in [
        id.index,
        id.leader_id.term,
        id.leader_id.node_id,
        durable_end,
        u64::from(kind),
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(payload);
    let crc = frame_crc(file_id, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
}

fn frame_crc(file_id: u64, bytes: &[u8]) -> u32 {
    wire::crc32c_append(wire::crc32c(&file_id.to_le_bytes()), bytes)
}

/// A frame whose checksum matches.
struct Frame<'a> {
    id: LogId,
    durable_end: u64,
    kind: u8,
    payload: &'a [u8],
    /// With its padding.
    bytes: usize,
}

/// The frame at the front of `bytes`, if there is one. `checked` counts the bytes that checksums were computed over.
fn frame<'a>(file_id: u64, bytes: &'a [u8], checked: &mut u64) -> Option<Frame<'a>> {
    let mut reader = Reader::new(bytes);
    let read = (|| {
        let crc = reader.u32("crc")?;
        let length = reader.u32("length")?;
        let id = take_index_first(&mut reader)?;
        let durable_end = reader.u64("durable end")?;
        let kind = reader.u64("kind")?;
        let length = usize::try_from(length).map_err(|_| Malformed { what: "length" })?;
        if length > BATCH_BYTES_MAX || kind > u64::from(MEMBERSHIP) {
            return Err(Malformed { what: "frame" });
        }
        let payload = reader.bytes(length, "payload")?;
        Ok((crc, id, durable_end, kind as u8, payload))
    })();
    let (crc, id, durable_end, kind, payload) = read.ok()?;
    let covered = &bytes[4..FRAME_HEADER_BYTES + payload.len()];
    *checked += covered.len() as u64;
    (frame_crc(file_id, covered) == crc).then(|| Frame {
        id,
        durable_end,
        kind,
        payload,
        bytes: (FRAME_HEADER_BYTES + payload.len()).next_multiple_of(8),
    })
}

/// Reads a log file. `vouched_end`: every entry below it was durable, as other files say.
pub(crate) fn scan(bytes: &[u8], vouched_end: u64) -> Result<Scan, Damage> {
    let header = Header::decode(bytes).map_err(|why| Damage {
        offset: 0,
        why: why.to_owned(),
    })?;
    let mut next = header.purged.map_or(0, |purged| purged.index.saturating_add(1));
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = BLOCK_BYTES;
    let mut vouched_end = vouched_end;
    let mut checked = 0;
    loop {
        // The next frame follows in the same write, or begins the next one.
        let block = at.next_multiple_of(BLOCK_BYTES);
        let mut frame_at = |at: usize| frame(header.file_id, bytes.get(at..)?, &mut checked);
        let frame = match frame_at(at) {
            Some(frame) => frame,
            None => match frame_at(block) {
                Some(frame) => {
                    at = block;
                    frame
                }
                None => break,
            },
        };
        let damaged = |why: String| Damage {
            offset: at as u64,
            why,
        };
        vouched_end = vouched_end.max(frame.durable_end);
        if frame.kind != VOUCHER {
            if frame.id.index != next {
                return Err(damaged(format!(
                    "entry {next} should be there, and entry {} is",
                    frame.id.index
                )));
            }
            let before = entries.last().map(|entry| entry.log_id).or(header.purged);
            if before.is_some_and(|before| before.leader_id > frame.id.leader_id) {
                return Err(damaged(format!(
                    "entry {next} is of an older term than the one before"
                )));
            }
            let payload = payload(frame.kind, frame.payload).map_err(|malformed| {
                damaged(format!("entry {next} is whole, and not understood: {malformed}"))
            })?;
            entries.push(Entry {
                log_id: frame.id,
                payload,
            });
            next = next.saturating_add(1);
        }
        at += frame.bytes;
    }
    let mut behind = at;
    while let Some(rest) = bytes
        .get(behind..)
        .filter(|rest| rest.len() >= FRAME_HEADER_BYTES)
    {
        if let Some(frame) = frame(header.file_id, rest, &mut checked) {
            vouched_end = vouched_end.max(frame.durable_end);
        }
        if checked > SCAN_BYTES_MAX {
            return Err(Damage {
                offset: behind as u64,
                why: "what follows the last whole entry looks like many entries and is none".to_owned(),
            });
        }
        behind += 8;
    }
    if vouched_end > next {
        return Err(Damage {
            offset: at as u64,
            why: format!(
                "entry {next} cannot be read, and it was durable: every entry below {vouched_end} was"
            ),
        });
    }
    Ok(Scan {
        header,
        entries,
        end: at.next_multiple_of(BLOCK_BYTES) as u64,
    })
}

fn payload(kind: u8, bytes: &[u8]) -> Result<EntryPayload<super::TypeConfig>, Malformed> {
    let mut reader = Reader::new(bytes);
    Ok(match kind {
        RECORDS => EntryPayload::Normal(Batch(record::decode(bytes)?)),
        MEMBERSHIP => {
            let membership = take_membership(&mut reader)?;
            reader.end("membership")?;
            EntryPayload::Membership(membership)
        }
        _ => {
            reader.end("blank entry")?;
            EntryPayload::Blank
        }
    })
}

/// Appends term, node and index.
pub(crate) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    for field in [id.leader_id.term, id.leader_id.node_id, id.index] {
        out.extend_from_slice(&field.to_le_bytes());
    }
}

/// Takes term, node and index.
pub(crate) fn take_log_id(reader: &mut Reader<'_>) -> Result<LogId, Malformed> {
    let (term, node) = (reader.u64("term")?, reader.u64("node")?);
    let index = reader.u64("index")?;
    Ok(LogId::new(CommittedLeaderId::new(term, node), index))
}

fn take_index_first(reader: &mut Reader<'_>) -> Result<LogId, Malformed> {
    let index = reader.u64("index")?;
    let (term, node) = (reader.u64("term")?, reader.u64("node")?);
    Ok(LogId::new(CommittedLeaderId::new(term, node), index))
}

/// Appends a membership: its sets of voters, then its nodes with their addresses.
pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Membership<u64, BasicNode>) {
    put_count(out, membership.get_joint_config().len());
    for voters in membership.get_joint_config() {
        put_count(out, voters.len());
        voters
            .iter()
            .for_each(|voter| out.extend_from_slice(&voter.to_le_bytes()));
    }
    put_count(out, membership.nodes().count());
    for (id, node) in membership.nodes() {
        out.extend_from_slice(&id.to_le_bytes());
        put_string(out, &node.addr);
    }
}

/// Takes a membership.
pub(crate) fn take_membership(reader: &mut Reader<'_>) -> Result<Membership<u64, BasicNode>, Malformed> {
    let mut sets = Vec::new();
    for _ in 0..reader.count(4, "voter sets")? {
        let mut voters = BTreeSet::new();
        for _ in 0..reader.count(8, "voters")? {
            voters.insert(reader.u64("voter")?);
        }
        sets.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.count(10, "members")? {
        let id = reader.u64("member")?;
        nodes.insert(id, BasicNode::new(reader.string("member's address")?));
    }
    Ok(Membership::new(sets, nodes))
}

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use super::*;

    const FILE_ID: u64 = 1;

    /// A file as it is.
    pub(crate) fn log(file: &[u8]) {
        if let Ok(read) = scan(file, 0) {
            check(&read);
        }
    }

    /// A file of frames whose checksums are right, made of `data`: for each frame its kind (and whether a new write
    /// begins), index, term, durable end and the length of its payload, a byte each, then the payload.
    pub(crate) fn log_of(mut data: &[u8]) {
        let purged = None;
        let file_id = FILE_ID;
        let mut file = Header { file_id, purged }.block();
        while let [kind, index, term, durable_end, length, rest @ ..] = data {
            let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
            let id = LogId::new(CommittedLeaderId::new((*term).into(), 1), (*index).into());
            put_frame(&mut file, FILE_ID, (*durable_end).into(), id, kind % 8, payload);
            if kind & 0x80 != 0 {
                fill_block(&mut file);
            }
            data = rest;
        }
        if let Ok(read) = scan(&file, 0) {
            assert!(read.end <= file.len().next_multiple_of(BLOCK_BYTES) as u64);
            check(&read);
        }
    }

    /// Entries follow each other, and are read again as they were read.
    fn check(read: &Scan) {
        let first = read
            .header
            .purged
            .map_or(0, |purged| purged.index.saturating_add(1));
        let mut file = read.header.block();
        for (entry, index) in read.entries.iter().zip(first..) {
            assert_eq!(entry.log_id.index, index);
            put_entry(&mut file, read.header.file_id, 0, entry);
        }
        let again = scan(&file, 0).expect("our own file");
        assert_eq!(again.header, read.header);
        assert_eq!(again.entries, read.entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::record::MetadataRecord;

    const FILE_ID: u64 = 0x0123_4567_89ab_cdef;

    fn entry(index: u64, payload: EntryPayload<super::super::TypeConfig>) -> Entry {
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1 + index / 3, 1), index),
            payload,
        }
    }

    fn entries() -> Vec<Entry> {
        let members = Membership::new(
            vec![BTreeSet::from([1])],
            BTreeMap::from([(1, BasicNode::new("here"))]),
        );
        let records = |id| EntryPayload::Normal(Batch(vec![MetadataRecord::TopicDeleted { id }]));
        vec![
            entry(0, EntryPayload::Membership(members)),
            entry(1, EntryPayload::Blank),
            entry(2, records(2)),
            entry(3, records(3)),
        ]
    }

    /// A file in which each entry was flushed before the next was written, and where each frame begins.
    fn file(entries: &[Entry], voucher: bool) -> (Vec<u8>, Vec<usize>) {
        let header = Header {
            file_id: FILE_ID,
            purged: None,
        };
        let mut bytes = header.block();
        let mut starts = Vec::new();
        for entry in entries {
            starts.push(bytes.len());
            put_entry(&mut bytes, FILE_ID, entry.log_id.index, entry);
            fill_block(&mut bytes);
        }
        if voucher {
            starts.push(bytes.len());
            put_voucher(&mut bytes, FILE_ID, entries.len() as u64);
            fill_block(&mut bytes);
        }
        (bytes, starts)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, _) = file(&entries(), true);
        let scan = scan(&bytes, 0).expect("a whole file");
        assert_eq!(scan.entries, entries());
        assert_eq!(scan.end, bytes.len() as u64);
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_is_torn() {
        let (bytes, starts) = file(&entries(), false);
        for length in (BLOCK_BYTES..bytes.len()).filter(|length| length % BLOCK_BYTES < 200) {
            let scan = scan(&bytes[..length], 0).expect("a torn tail");
            // What fills a block is not part of an entry.
            let whole = starts[1..].iter().filter(|&&start| start <= length).count();
            let count = scan.entries.len();
            assert!(count == whole || count == whole + 1, "{length}");
            assert_eq!(scan.entries, entries()[..count]);
            assert_eq!(scan.end, (BLOCK_BYTES * (1 + count)) as u64);
        }
        let mut torn = bytes.clone();
        torn[starts[3] + 20] ^= 1;
        let scan = scan(&torn, 0).expect("a torn last entry");
        assert_eq!((scan.entries.len(), scan.end), (3, starts[3] as u64));
    }

    #[test]
    fn entries_of_one_write_follow_each_other_and_tear_apart() {
        let all = entries();
        let mut bytes = file(&all[..1], false).0;
        let mut starts = Vec::new();
        for entry in &all[1..] {
            starts.push(bytes.len());
            put_entry(&mut bytes, FILE_ID, 1, entry);
        }
        fill_block(&mut bytes);
        assert_eq!(scan(&bytes, 0).expect("a whole file").entries, all);
        bytes[starts[1] + 8] ^= 1;
        let torn = scan(&bytes, 0).expect("a torn write");
        assert_eq!((torn.entries.len(), torn.end), (2, 3 * BLOCK_BYTES as u64));
        put_entry(&mut bytes, FILE_ID, 4, &entry(4, EntryPayload::Blank));
        assert!(
            scan(&bytes, 0).is_err(),
            "the next write shows that it was not torn"
        );
    }

    #[test]
    fn damage_below_durable_evidence_is_refused_with_its_place() {
        let (bytes, starts) = file(&entries(), true);
        for (number, &start) in starts[..4].iter().enumerate() {
            for at in [start, start + 4, start + 9, start + 33, start + 40] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                let damage = scan(&damaged, 0).expect_err("damage");
                assert!(
                    damage.offset.abs_diff(start as u64) <= BLOCK_BYTES as u64,
                    "entry {number}, byte {at}: {}",
                    damage.why
                );
            }
        }
    }

    #[test]
    fn the_snapshot_vouches_for_what_the_log_lost() {
        let (bytes, starts) = file(&entries(), false);
        assert!(scan(&bytes[..starts[3]], 3).is_ok());
        assert!(scan(&bytes[..starts[3]], 4).is_err());
    }

    #[test]
    fn frames_of_another_file_are_no_evidence() {
        let (mut bytes, _) = file(&entries()[..2], false);
        let end = bytes.len() as u64;
        put_entry(&mut bytes, FILE_ID ^ 1, 9, &entries()[2]);
        let scan = scan(&bytes, 0).expect("stale bytes behind the end");
        assert_eq!((scan.entries.len(), scan.end), (2, end));
    }

    #[test]
    fn gaps_old_terms_and_bad_headers_are_refused() {
        let all = entries();
        let (gap, _) = file(&[all[0].clone(), all[2].clone()], false);
        assert!(scan(&gap, 0).is_err());
        let mut old = all.clone();
        old[3].log_id.leader_id = CommittedLeaderId::new(0, 1);
        assert!(scan(&file(&old, false).0, 0).is_err());
        let (bytes, _) = file(&all, true);
        for at in 0..HEADER_BYTES {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(scan(&damaged, 0).expect_err("damage").offset, 0);
        }
        assert!(scan(&bytes[..10], 0).is_err());
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            changes in proptest::collection::vec((0_usize..24_576, proptest::prelude::any::<u8>()), 0..8),
            cut in 0_usize..24_577,
        ) {
            let (mut bytes, _) = file(&entries(), true);
            for (at, value) in changes {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            bytes.truncate(cut);
            let _any_answer_but_a_panic = scan(&bytes, 0);
        }
    }
}
