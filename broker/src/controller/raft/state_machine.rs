//! Applies the log's entries to the metadata, and keeps snapshots of it.
//!
//! A snapshot is one file, replaced as a whole. Little-endian:
//!
//! ```text
//!  0  magic "MSMESNAP"   8  version u32   12  CRC-32C of the body   16  body length u64   24  body
//! body: newest entry's id, membership's entry (flag u8, id), membership, records of the state
//! ```

use std::cell::RefCell;
use std::io::Cursor;
use std::rc::Rc;

use openraft::storage::{RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{AnyError, BasicNode, EntryPayload, RaftSnapshotBuilder, StorageIOError, StoredMembership};

use crate::controller::bytes::{Malformed, Reader};
use crate::controller::raft::files::Files;
use crate::controller::raft::frame::{put_log_id, put_membership, take_log_id, take_membership};
use crate::controller::raft::{Batch, Entry, Fence, LogId, MetadataError, RaftStorageError, TypeConfig};
use crate::controller::record;
use crate::controller::state::Metadata;

const NAME: &str = "snapshot";
const MAGIC: &[u8; 8] = b"MSMESNAP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
/// The largest snapshot that is read or written, in bytes. Decisions keep the metadata far below: every partition that
/// there may be, the configs of all topics, and those of all brokers are less together.
pub(super) const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// The metadata, and how far the log is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    pub(crate) metadata: Metadata,
    last: Option<LogId>,
    membership: StoredMembership<u64, BasicNode>,
}

impl Applied {
    /// One past the newest entry that is applied.
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(0, |last| last.index.saturating_add(1))
    }

    fn meta(&self) -> SnapshotMeta<u64, BasicNode> {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{}", self.end()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_log_id(&mut body, self.last.unwrap_or_default());
        body.push(self.membership.log_id().is_some().into());
        put_log_id(&mut body, self.membership.log_id().unwrap_or_default());
        put_membership(&mut body, self.membership.membership());
        body.extend(record::encode(&self.metadata.records()));
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&wire::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.append(&mut body);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Applied, String> {
        let mut reader = Reader::new(bytes);
        let header = (|| {
            let magic = reader.bytes(8, "magic")?;
            Ok::<_, Malformed>((
                magic,
                reader.u32("version")?,
                reader.u32("crc")?,
                reader.u64("length")?,
            ))
        })();
        let (magic, version, crc, length) = header.map_err(|error| error.to_string())?;
        if magic != MAGIC || version != VERSION {
            return Err("it is not a metadata snapshot of a version that is known".to_owned());
        }
        let body = &bytes[HEADER_BYTES..];
        if body.len() as u64 != length || wire::crc32c(body) != crc {
            return Err("its checksum does not match".to_owned());
        }
        Applied::decode_body(body)
    }

    fn decode_body(body: &[u8]) -> Result<Applied, String> {
        let mut reader = Reader::new(body);
        let mut fields = || {
            let last = take_log_id(&mut reader)?;
            let has_membership = reader.bool("membership flag")?;
            let id = take_log_id(&mut reader)?;
            let membership = take_membership(&mut reader)?;
            let membership = StoredMembership::new(has_membership.then_some(id), membership);
            Ok::<_, Malformed>((last, membership))
        };
        let (last, membership) = fields().map_err(|error| error.to_string())?;
        let records = record::decode(reader.rest()).map_err(|error| error.to_string())?;
        let mut metadata = Metadata::default();
        for record in &records {
            metadata.apply(record).map_err(|error| error.to_string())?;
        }
        Ok(Applied {
            metadata,
            last: Some(last),
            membership,
        })
    }
}

/// For the fuzz target: whatever is read is written, and read as the same.
#[cfg(fuzzing)]
pub(crate) fn read_snapshot(data: &[u8]) {
    let [sealed, bytes @ ..] = data else { return };
    let read = if sealed % 2 == 1 {
        Applied::decode_body(bytes)
    } else {
        Applied::decode(bytes)
    };
    if let Ok(applied) = read {
        let again = Applied::decode(&applied.encode()).expect("our own snapshot");
        assert_eq!(again.encode(), applied.encode());
    }
}

/// The newest snapshot, if there is one.
pub(crate) async fn recover(files: &Files) -> Result<Option<Applied>, MetadataError> {
    if !files.exists(NAME).await? {
        return Ok(None);
    }
    let bytes = files.read(NAME, SNAPSHOT_BYTES_MAX).await?;
    let applied = Applied::decode(&bytes);
    let applied = applied.map_err(|why| MetadataError::corrupt(&files.path(NAME), 0, why))?;
    Ok(Some(applied))
}

/// See the module.
pub(crate) struct StateMachine {
    applied: Rc<RefCell<Applied>>,
    files: Files,
    fence: Fence,
}

impl StateMachine {
    pub(crate) fn new(applied: Rc<RefCell<Applied>>, files: Files, fence: Fence) -> StateMachine {
        StateMachine {
            applied,
            files,
            fence,
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<u64, BasicNode>), RaftStorageError> {
        let applied = self.applied.borrow();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, RaftStorageError>
    where
        I: IntoIterator<Item = Entry>,
    {
        let mut answers = Vec::new();
        let mut applied = self.applied.borrow_mut();
        for entry in entries {
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(Batch(records)) => {
                    for record in &records {
                        let result = applied.metadata.apply(record);
                        result.map_err(|error| {
                            let path = self.files.path("log");
                            let damage = MetadataError::corrupt(&path, 0, error.to_string());
                            let damage = self.fence.guard::<()>(Err(damage));
                            debug_assert!(damage.is_err());
                            StorageIOError::apply(entry.log_id, AnyError::new(&error))
                        })?;
                    }
                }
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            applied.last = Some(entry.log_id);
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            applied: self.applied.borrow().clone(),
            files: self.files.clone(),
            fence: self.fence.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, RaftStorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), RaftStorageError> {
        let failed = |error: &MetadataError| {
            StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(error))
        };
        let bytes = snapshot.into_inner();
        let received = Applied::decode(&bytes)
            .map_err(|why| failed(&MetadataError::corrupt(&self.files.path(NAME), 0, why)))?;
        let replaced = self.files.replace(NAME, bytes).await;
        self.fence.guard(replaced).map_err(|error| failed(&error))?;
        *self.applied.borrow_mut() = received;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, RaftStorageError> {
        let failed = |error: &MetadataError| StorageIOError::read_snapshot(None, AnyError::new(error));
        let applied = recover(&self.files).await.map_err(|error| failed(&error))?;
        Ok(applied.map(|applied| snapshot_of(&applied)))
    }
}

/// Writes a snapshot of the metadata as it was when the builder was made.
pub(crate) struct SnapshotBuilder {
    applied: Applied,
    files: Files,
    fence: Fence,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, RaftStorageError> {
        let snapshot = snapshot_of(&self.applied);
        let bytes = snapshot.snapshot.get_ref();
        let written = match self.fence.check().and_then(|()| fits(bytes.len())) {
            Ok(()) => {
                let bytes = bytes.clone();
                let replaced = self.files.replace(NAME, bytes).await;
                self.fence.guard(replaced.map(drop))
            }
            Err(error) => self.fence.guard(Err(error)),
        };
        written.map_err(|error| {
            StorageIOError::write_snapshot(Some(snapshot.meta.signature()), AnyError::new(&error))
        })?;
        Ok(snapshot)
    }
}

/// What the next start would not read is not written: the log is kept, which has the same records.
fn fits(bytes: usize) -> Result<(), MetadataError> {
    match bytes as u64 {
        bytes if bytes > SNAPSHOT_BYTES_MAX => Err(MetadataError::SnapshotTooLarge { bytes }),
        _ => Ok(()),
    }
}

fn snapshot_of(applied: &Applied) -> Snapshot<TypeConfig> {
    Snapshot {
        meta: applied.meta(),
        snapshot: Box::new(Cursor::new(applied.encode())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_snapshot_is_written_that_would_not_be_read() {
        let largest = SNAPSHOT_BYTES_MAX as usize;
        assert!(fits(largest).is_ok());
        let error = fits(largest + 1).expect_err("too large").to_string();
        assert!(
            error.contains("268435457") && error.contains("268435456"),
            "{error}"
        );
    }
}
