//! The vote: the newest term, and for whom this host voted in it.
//!
//! One file, two slots of a block each, written in turn, so that a torn write leaves the older vote. Layout of a slot,
//! little-endian: magic "MSMEVOTE", sequence u64, term u64, node u64, kind u64 (0 no vote yet, 1 a vote, 2 a vote that
//! won), CRC-32C of these 40 bytes.

use crate::controller::bytes::Reader;
use crate::controller::raft::files::Files;
use crate::controller::raft::{Fence, MetadataError, Vote};
use ring::buffer::Slice;
use ring::file::{Durability, File};

const NAME: &str = "vote";
const MAGIC: &[u8; 8] = b"MSMEVOTE";
/// A write to one slot never touches the other's block.
const SLOT_BYTES: usize = 4_096;
const FIELDS_BYTES: usize = 40;

/// See the module.
pub(crate) struct VoteStore {
    file: File,
    files: Files,
    fence: Fence,
    slot: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    sequence: u64,
    vote: Option<Vote>,
}

impl VoteStore {
    /// Makes the file, without a vote.
    pub(crate) async fn create(files: &Files) -> Result<(), MetadataError> {
        let mut bytes = Slot {
            sequence: 0,
            vote: None,
        }
        .encode();
        bytes.resize(2 * SLOT_BYTES, 0);
        files.replace(NAME, bytes).await.map(drop)
    }

    /// Whether there is a file with a vote in it, or with what may have been one.
    pub(crate) async fn is_used(files: &Files) -> Result<bool, MetadataError> {
        if !files.exists(NAME).await? {
            return Ok(false);
        }
        Ok(read(files).await?.vote.is_some())
    }

    pub(crate) async fn open(files: Files, fence: Fence) -> Result<VoteStore, MetadataError> {
        let file = files.file(NAME).await?;
        let slot = read(&files).await?;
        // What an earlier process wrote may be in the page cache only.
        let flushed = file.sync_all().await;
        flushed.map_err(|error| MetadataError::io("flush", &files.path(NAME), error))?;
        Ok(VoteStore {
            slot,
            file,
            files,
            fence,
        })
    }

    /// The vote, as one that did not win: whoever led before a restart has to be elected again, in a new term. A
    /// leader that went on in its old term could give an index that was cut from its torn log to another entry.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.slot
            .vote
            .map(|vote| Vote::new(vote.leader_id.term, vote.leader_id.node_id))
    }

    /// Durable when it returns.
    pub(crate) async fn save(&mut self, vote: Vote) -> Result<(), MetadataError> {
        self.fence.check()?;
        let slot = Slot {
            sequence: self.slot.sequence + 1,
            vote: Some(vote),
        };
        let offset = slot.sequence % 2 * SLOT_BYTES as u64;
        let bytes = vec![Slice::from(slot.encode())];
        let written = async {
            self.file
                .write_all_at(bytes, offset, Durability::Completed)
                .await?;
            self.file.sync_data().await
        };
        let written = written.await;
        let path = self.files.path(NAME);
        self.fence
            .guard(written.map_err(|error| MetadataError::io("write", &path, error)))?;
        self.slot = slot;
        Ok(())
    }
}

async fn read(files: &Files) -> Result<Slot, MetadataError> {
    let bytes = files.read(NAME, 2 * SLOT_BYTES as u64).await?;
    newest(&bytes).ok_or_else(|| {
        let why = "neither of its two slots is whole, and a torn write spoils only one";
        MetadataError::corrupt(&files.path(NAME), 0, why)
    })
}

fn newest(bytes: &[u8]) -> Option<Slot> {
    let slots = [0, SLOT_BYTES].map(|at| bytes.get(at..).and_then(Slot::decode));
    slots.into_iter().flatten().max_by_key(|slot| slot.sequence)
}

impl Slot {
    fn encode(self) -> Vec<u8> {
        let (vote, kind) = match self.vote {
            None => (Vote::default(), 0),
            Some(vote) if vote.committed => (vote, 2),
            Some(vote) => (vote, 1_u64),
        };
        let mut bytes = MAGIC.to_vec();
        for field in [self.sequence, vote.leader_id.term, vote.leader_id.node_id, kind] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let crc = wire::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Slot> {
        let (fields, rest) = bytes.split_at_checked(FIELDS_BYTES)?;
        if !rest.starts_with(&wire::crc32c(fields).to_le_bytes()) || !fields.starts_with(MAGIC) {
            return None;
        }
        let mut reader = Reader::new(&fields[MAGIC.len()..]);
        let mut field = || reader.u64("vote").ok();
        let (sequence, term, node, kind) = (field()?, field()?, field()?, field()?);
        let vote = match kind {
            0 => None,
            1 => Some(Vote::new(term, node)),
            2 => Some(Vote::new_committed(term, node)),
            _ => return None,
        };
        Some(Slot { sequence, vote })
    }
}

/// For the fuzz target: whatever is read is written, and read as the same. The first byte says whether the checksum of
/// the first slot is made right.
#[cfg(fuzzing)]
pub(crate) fn read_and_write_again(data: &[u8]) {
    let [sealed, slots @ ..] = data else { return };
    let mut slots = slots.to_vec();
    if sealed % 2 == 1 && slots.len() >= FIELDS_BYTES + 4 {
        let crc = wire::crc32c(&slots[..FIELDS_BYTES]);
        slots[FIELDS_BYTES..FIELDS_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
    }
    if let Some(slot) = newest(&slots) {
        assert_eq!(newest(&slot.encode()), Some(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_older_vote_and_two_bad_slots_leave_none() {
        let older = Slot {
            sequence: 6,
            vote: Some(Vote::new(3, 1)),
        };
        let newer = Slot {
            sequence: 7,
            vote: Some(Vote::new_committed(4, 1)),
        };
        let mut bytes = older.encode();
        bytes.resize(SLOT_BYTES, 0);
        bytes.extend(newer.encode());
        assert_eq!(newest(&bytes), Some(newer));
        for length in SLOT_BYTES..bytes.len() {
            assert_eq!(newest(&bytes[..length]), Some(older));
        }
        bytes[SLOT_BYTES + 20] ^= 1;
        assert_eq!(newest(&bytes), Some(older));
        bytes[20] ^= 1;
        assert_eq!(newest(&bytes), None);
        assert_eq!(newest(&[]), None);
    }
}
