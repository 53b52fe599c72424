//! Another layout: every log is recovered, drained to its segments, and given to a new journal.
//!
//! The old journals rule until the manifest names the new ones. What is written before that are the same bytes that
//! the old journals would write again.

use std::collections::BTreeMap;

use ring::directory;

use super::{JOURNALS, LogDirectory, journal_place};
use crate::checkpoint::PartitionCheckpoint;
use crate::error::StorageError;
use crate::id::TopicPartition;
use crate::journal::Access;
use crate::metadata::{KnownTopics, Layout};
use crate::partition::{PartitionLog, PartitionSpec};
use crate::recovery::{Memory, recover};
use crate::shard_log::separate_unknown;

impl LogDirectory {
    pub(super) async fn reshard(
        &mut self,
        layout: Layout,
        live: &[PartitionSpec],
        topics: KnownTopics<'_>,
        owner: impl Fn(TopicPartition) -> u32,
    ) -> Result<(), StorageError> {
        let old = self
            .manifest
            .clone()
            .expect("a directory without journals is not re-sharded");
        let mut drained = BTreeMap::new();
        let mut time_ms = 0;
        for shard in 0..old.journals.len() as u32 {
            let (known_ms, partitions) = self.drain(shard, live, topics).await?;
            time_ms = known_ms.max(time_ms);
            for partition in partitions {
                let id = partition.id;
                if drained.insert(id, partition).is_some() {
                    let what = format!("partition {id} is in two journals");
                    return Err(StorageError::corrupt(&self.path.join(JOURNALS), 0, what));
                }
            }
        }
        directory::sync_file_system(&self.path)
            .await
            .map_err(StorageError::io("flush", &self.path))?;
        let mut by_shard: Vec<Vec<PartitionCheckpoint>> = vec![Vec::new(); layout.shards as usize];
        for (id, mut partition) in drained {
            partition.owner_epoch += 1;
            by_shard[owner(id) as usize].push(partition);
        }
        self.create_journals(old.generation + 1, layout, time_ms, by_shard)
            .await?;
        for shard in 0..old.journals.len() {
            let path = self
                .path
                .join(JOURNALS)
                .join(format!("{}-{shard}", old.generation));
            directory::remove_all(&path)
                .await
                .map_err(StorageError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Everything of one journal in its segments; its time, and the partitions as they are then.
    async fn drain(
        &self,
        shard: u32,
        live: &[PartitionSpec],
        topics: KnownTopics<'_>,
    ) -> Result<(i64, Vec<PartitionCheckpoint>), StorageError> {
        let place = journal_place(&self.path, shard, &self.pool).await?;
        let memory = Memory::of(self.options.memory_bytes);
        let mut recovered = recover(self.path.clone(), &place, live, memory, Access::ReadWrite).await?;
        let end_seq = recovered.end.seq - 1;
        separate_unknown(&mut recovered, live, topics, end_seq).await?;
        for log in recovered.partitions.values() {
            log.check_and_cut_files().await?;
            log.migrate(end_seq).await?;
            log.finish().await?;
        }
        let partitions = recovered.partitions.values().map(PartitionLog::checkpoint);
        Ok((recovered.shared.clock.known_ms(), partitions.collect()))
    }
}
