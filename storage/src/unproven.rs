//! Blocks in segments that nothing vouches for: those of the journal's last records.
//!
//! A record may be on the disk before the blocks that it speaks of. Once another record says that it was durable, they
//! are there. Before that they are read and compared, and a record whose blocks are not what it says was torn: of it, and of
//! any after it, nothing was acknowledged but what its topic lets a power cut take back, so the chain ends before it.
//! Must never look at what is vouched for: recovery's time would depend on the log's size.

use std::time::Duration;

use crate::error::{StorageError, is_unreadable};
use crate::files::{log_path, open_if_there};
use crate::id::TopicPartition;
use crate::journal::record::{Entry, Kind, RecordHeader};
use crate::journal::superblock::ReplayStart;
use crate::journal::take;
use crate::partition::{LogShared, directory_name};

/// Read at a time, in bytes.
const WINDOW_BYTES: usize = 256 << 10;
/// Reads that fail in all, of an entry's blocks, before they are taken for unreadable; and the pause after each.
const READ_ATTEMPTS: u32 = 8;
const READ_PAUSE: Duration = Duration::from_millis(10);

/// What the last records say of blocks in segments.
#[derive(Default)]
pub(crate) struct Unproven {
    /// In the order of the journal: where each one's record begins.
    blocks: Vec<(ReplayStart, Entry)>,
}

impl Unproven {
    /// Takes the next record.
    pub(crate) fn look_at(&mut self, header: &RecordHeader, entries: &[Entry]) {
        self.blocks.retain(|(at, _)| at.seq > header.durable_seq);
        let at = ReplayStart {
            seq: header.seq,
            position: header.position,
            previous_crc: header.previous_crc,
        };
        let direct = entries.iter().filter(|entry| entry.kind == Kind::Direct);
        self.blocks.extend(direct.map(|entry| (at, *entry)));
    }

    /// The first record after `evidence` whose blocks are not in their segments. What is there is durable when this
    /// returns. Partitions that `topic_of` does not know at that record are no matter: their files may have gone. Those of deleted
    /// records are never looked for: a START comes after what it deletes was durable, so its record vouches for that.
    pub(crate) async fn first_torn<'a>(
        &self,
        evidence: u64,
        topic_of: impl Fn(TopicPartition, u64) -> Option<&'a str>,
        shared: &LogShared,
    ) -> Result<Option<ReplayStart>, StorageError> {
        for (at, entry) in self.blocks.iter().filter(|(at, _)| at.seq > evidence) {
            let Some(topic) = topic_of(entry.id, at.seq) else {
                continue;
            };
            if !is_there(entry, topic, shared).await? {
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }
}

/// Whether the blocks of an entry are in its segment; durably, then.
async fn is_there(entry: &Entry, topic: &str, shared: &LogShared) -> Result<bool, StorageError> {
    let directory = shared.directory.join(directory_name(topic, entry.id.partition));
    let path = log_path(&directory, entry.segment_base);
    let Some(file) = open_if_there(&path, true).await? else {
        return Ok(false);
    };
    // Of a batch within a run: it begins and ends anywhere in the blocks, which are read whole.
    let block = u64::from(shared.block_bytes);
    let (mut at, end) = (
        u64::from(entry.file_position),
        u64::from(entry.file_position) + u64::from(entry.length),
    );
    let mut buffer = take(&shared.staging, WINDOW_BYTES).await?;
    let (mut crc, mut failures) = (0, 0);
    while at < end {
        let from = at - at % block;
        let to = end.min(from + WINDOW_BYTES as u64);
        let bytes = (to.next_multiple_of(block) - from) as usize;
        let (result, returned) = file.read_exact_at(buffer, 0..bytes, from).await;
        buffer = returned;
        let wanted = (at - from) as usize..(to - from) as usize;
        match result {
            Ok(count) if count >= wanted.end => {}
            Ok(_) => return Ok(false),
            // A sector that was being written when the power went stays unreadable; a disk that had a bad moment does not.
            Err(error) if is_unreadable(&error) => {
                failures += 1;
                if failures == READ_ATTEMPTS {
                    return Ok(false);
                }
                ring::timer::sleep(READ_PAUSE).await;
                continue;
            }
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        }
        crc = wire::crc32c_append(crc, &buffer[wanted]);
        at = to;
    }
    if crc != entry.data_crc {
        return Ok(false);
    }
    file.sync_all().await.map_err(StorageError::io("flush", &path))?;
    Ok(true)
}
