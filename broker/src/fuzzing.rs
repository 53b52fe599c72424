//! What the broker reads from its own files, and from clients beyond the protocol's decoders, for the fuzz targets in
//! `broker/fuzz`. Compiled for them alone.

use crate::controller::raft::fuzzing;
use crate::partition::leader::{AppendRules, check};

/// A metadata log: from a seal byte on, either a file as it is, or frames whose checksums are right.
pub fn metadata_log(data: &[u8]) {
    match data {
        [sealed, frames @ ..] if sealed % 2 == 1 => fuzzing::log_of(frames),
        [_, file @ ..] => fuzzing::log(file),
        [] => {}
    }
}

/// A metadata snapshot behind its checksum, and its records applied.
pub fn metadata_snapshot(data: &[u8]) {
    fuzzing::snapshot(data);
}

/// The two slots of the vote.
pub fn metadata_vote(data: &[u8]) {
    fuzzing::vote(data);
}

/// The leader's look at what a producer sent: the first byte is the version, the second says whether the CRC is made
/// right. What is taken is one whole batch, and what its header says agrees with itself.
pub fn produced_records(data: &[u8]) {
    const NOW_MS: i64 = 1_700_000_000_000;
    let [version, sealed, records @ ..] = data else {
        return;
    };
    let mut records = records.to_vec();
    if sealed % 2 == 1 && records.len() > 21 {
        let length = records[8..12].try_into().map(i32::from_be_bytes);
        let end = length.map_or(0, |length| usize::try_from(length).unwrap_or(0) + 12);
        if let Some(covered) = records.get(21..end) {
            let crc = wire::crc32c(covered);
            records[17..21].copy_from_slice(&crc.to_be_bytes());
        }
    }
    let version = 3 + i16::from(version % 9);
    if let Ok(batch) = check(Some(&records), version, &AppendRules::default(), NOW_MS) {
        assert!(records.starts_with(batch.bytes()));
        assert!(batch.verify_crc().is_ok());
        let header = batch.header();
        assert!(header.record_count > 0 && header.base_offset == 0);
        assert_eq!(header.next_offset(), i64::from(header.record_count));
    }
}
