//! Reading a partition of `__consumer_offsets` back: what a coordinator knows when it begins.

use std::time::Duration;

use storage::{PartitionLog, StorageError};
use wire::RecordBatch;
use wire::group_record::GroupRecord;
use wire::record_batch::batches;

use crate::group::coordinator::groups::Groups;
use crate::group::stored::Change;

/// Read at a time, in bytes.
const STEP_BYTES: usize = 1 << 20;
/// The most that a batch may unpack to. We write none compressed; a larger one is not a coordinator's.
const UNPACKED_BYTES_MAX: usize = 64 << 20;
/// How soon a read that got no memory is tried again.
const MEMORY_RETRY: Duration = Duration::from_millis(20);

/// What a partition's log says.
pub(super) struct Loaded {
    pub(super) groups: Groups,
    /// Bytes of the log that were read.
    pub(super) log_bytes: u64,
    /// Records that are not ours to drop: of kinds that another coordinator keeps, or that could not be read.
    pub(super) strange_records: u64,
}

/// Reads the whole log into `groups`, which has none yet. What was acknowledged is taken whatever there is room for.
///
/// # Errors
/// If it cannot be read.
pub(super) async fn load(log: &PartitionLog, groups: Groups) -> Result<Loaded, StorageError> {
    let mut loaded = Loaded {
        groups,
        log_bytes: 0,
        strange_records: 0,
    };
    let mut offset = log.log_start_offset();
    let end = log.high_watermark();
    while offset < end {
        let Ok(extent) = log.read(offset, STEP_BYTES, true, end) else {
            // The log's start has moved past it.
            offset = log.log_start_offset().max(offset + 1);
            continue;
        };
        let before = offset;
        for slice in log.load(extent).await? {
            for batch in batches(&slice).map_while(Result::ok) {
                offset = offset.max(batch.header().next_offset());
                loaded.log_bytes += batch.bytes().len() as u64;
                loaded.take(&batch);
            }
        }
        if offset == before {
            ring::timer::sleep(MEMORY_RETRY).await;
        }
    }
    Ok(loaded)
}

impl Loaded {
    fn take(&mut self, batch: &RecordBatch<'_>) {
        let header = batch.header();
        if header.attributes.is_control() {
            self.strange_records += 1;
            return;
        }
        let unpacked = header
            .attributes
            .compression()
            .and_then(|codec| codec.decompress(batch.records_bytes(), UNPACKED_BYTES_MAX).ok());
        let Some(unpacked) = unpacked else {
            self.strange_records += 1;
            return;
        };
        for record in wire::records(&unpacked, header.record_count) {
            let decoded = record
                .ok()
                .and_then(|record| GroupRecord::decode(record.key?, record.value).ok().flatten());
            match decoded {
                Some(decoded) => {
                    let (group, change) = Change::of(&decoded);
                    self.groups.apply(group, &[change]);
                }
                None => self.strange_records += 1,
            }
        }
    }
}
