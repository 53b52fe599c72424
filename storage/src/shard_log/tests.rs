//! A replay that memory is too short for: what was read so far is migrated, and it goes on. And what a checkpoint says
//! while batches are on their way.

mod indexes;
mod reserved;

use std::collections::BTreeSet;
use std::path::Path;

use ring::simulator::{HostId, Simulator};
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch};

use super::*;
use crate::directory::{DirectoryOptions, LogDirectory};
use crate::files::{log_path, replace};
use crate::id::to_base64;
use crate::journal::largest_record_of;
use crate::migration::REMOVED_MAX;
use crate::partition::{METADATA_FILE, PartitionConfig};

const DATA: &str = "/data";
const RING_BYTES: u64 = 8 << 20;
const MEMORY_BYTES: usize = 64 << 20;
const BATCH_BYTES: usize = 60 << 10;
/// More than a replay's memory, less than the ring takes.
const BATCHES: i64 = 96;
/// The first batch of the partition that is kept is deleted; it is all that its segment has at the checkpoint.
const KEPT_FROM: i64 = 1;
const LIMIT: Duration = Duration::from_secs(60);
const KEPT: u128 = 5;
const DELETED: u128 = 6;

fn spec(topic_id: u128) -> PartitionSpec {
    PartitionSpec {
        id: TopicPartition {
            topic_id,
            partition: 0,
        },
        topic: format!("topic-{topic_id}"),
        leader_epoch: 1,
        config: PartitionConfig::default(),
    }
}

async fn prepare(specs: &[PartitionSpec]) -> LogDirectory {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    directory
        .prepare_shards(1, specs, &BTreeSet::from([DELETED]), |_| 0)
        .await
        .expect("prepared");
    directory
}

async fn open(specs: Vec<PartitionSpec>) -> (LogDirectory, ShardLog) {
    let directory = prepare(&specs).await;
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: MEMORY_BYTES,
        // All of it through the journal: a replay needs memory for it.
        direct_bytes_min: usize::MAX,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (log, _report) = ShardLog::open(options, specs, &BTreeSet::new())
        .await
        .expect("opened");
    (directory, log)
}

/// Appends so many batches to each of both partitions, and waits until the last one is durable.
async fn append(log: &ShardLog, batches: i64) {
    append_to(log, &[KEPT, DELETED], batches).await;
}

async fn append_to(log: &ShardLog, topic_ids: &[u128], batches: i64) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&NewRecord {
        value: Some(&[7; BATCH_BYTES]),
        ..NewRecord::default()
    });
    let bytes = builder.build();
    let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
    for number in 0..batches {
        for &topic_id in topic_ids {
            let partition = log.partition(spec(topic_id).id).expect("it is there");
            let appended = partition
                .append(batch.bytes(), batch.header())
                .expect("there is room");
            if number % 8 == 7 || number == batches - 1 {
                appended.ticket.committed().await.expect("durable");
            }
        }
    }
}

/// A host whose journal has more than a replay's memory takes, and both partitions something in a segment.
fn filled() -> (Simulator, HostId) {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    // Something of each is in its segment.
    let first = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, log) = open(vec![spec(KEPT), spec(DELETED)]).await;
        append(&log, 1).await;
        log.stop().await.expect("stopped");
    });
    first.expect("it ends");
    // And then far more in the journal alone, when the process ends.
    let second = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, log) = open(vec![spec(KEPT), spec(DELETED)]).await;
        let no_migration = log.inner.migration.pause().await;
        append(&log, BATCHES / 2).await;
        let kept = log.partition(spec(KEPT).id).expect("it is there");
        kept.delete_records(KEPT_FROM).await.expect("deleted");
        std::mem::forget(no_migration);
    });
    second.expect("it ends");
    (simulator, host)
}

/// Recovers the journal with memory that is too short for a replay.
async fn recover_short(live: &[PartitionSpec]) -> Result<Recovered, StorageError> {
    let memory = Memory {
        tail: 4 * largest_record_of(RING_BYTES).next_multiple_of(64 << 10),
        ..Memory::of(MEMORY_BYTES)
    };
    let pool = Pool::new("manifest", 1 << 20).expect("memory");
    let place = journal_place(Path::new(DATA), 0, &pool).await.expect("a journal");
    let recovered = recover(DATA.into(), &place, live, memory, Access::ReadWrite).await?;
    assert!(recovered.migrated_seq > 0, "memory was not short");
    Ok(recovered)
}

#[test]
fn a_replay_that_memory_is_too_short_for_keeps_everything_and_bears_a_deleted_topic() {
    let (mut simulator, host) = filled();
    let third = simulator.run(host, 256 << 20, LIMIT, || async {
        let live = [spec(KEPT)];
        let _directory = prepare(&live).await;
        let mut recovered = recover_short(&live).await.expect("recovered");
        assert_eq!(recovered.report.batches, BATCHES as u64);
        let end_seq = recovered.end.seq - 1;
        separate_unknown(
            &mut recovered,
            &live,
            (&BTreeSet::from([DELETED])).into(),
            end_seq,
        )
        .await
        .expect("separated");
        let kept = &recovered.partitions[&spec(KEPT).id];
        assert_eq!(kept.log_end_offset(), 1 + BATCHES / 2);
        assert_eq!(recovered.partitions.len(), 1);
        let gone = Path::new(DATA).join(directory_name(&spec(DELETED).topic, 0));
        assert!(!directory::exists(&gone).await.expect("a look"));
    });
    third.expect("it ends");
    let fourth = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, log) = open(vec![spec(KEPT)]).await;
        let kept = log.partition(spec(KEPT).id).expect("it is there");
        assert_eq!(kept.log_end_offset(), 1 + BATCHES / 2);
        log.stop().await.expect("stopped");
    });
    fourth.expect("it ends");
}

#[test]
fn a_start_puts_out_of_its_way_what_deleted_topics_have_left_and_nothing_else() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let ended = simulator.run(host, 8 << 20, LIMIT, || async {
        let nobodys = DELETED + 1;
        let live = [spec(KEPT)];
        drop(prepare(&live).await);
        for topic_id in [KEPT, DELETED, nobodys] {
            let path = Path::new(DATA).join(directory_name(&spec(topic_id).topic, 0));
            directory::create_all(&path).await.expect("created");
            let text = format!("version: 0\ntopic_id: {}\n", to_base64(topic_id));
            replace(&path.join(METADATA_FILE), text.into_bytes())
                .await
                .expect("written");
        }
        let silent = Path::new(DATA).join("silent-0");
        directory::create_all(&silent).await.expect("created");
        let _directory = prepare(&live).await;
        let names = directory::list(DATA.as_ref()).await.expect("listed");
        names.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    });
    let names = ended.expect("it ends");
    let left: Vec<&str> = (names.iter().filter(|name| name.contains("-0")))
        .map(|name| name.split('.').next().unwrap_or(name))
        .collect();
    assert_eq!(left, ["silent-0", "topic-5-0", "topic-6-0", "topic-7-0"]);
    let aside = names.iter().filter(|name| name.ends_with("-delete"));
    let aside: Vec<&String> = aside.collect();
    assert!(
        aside.len() == 1 && aside[0].starts_with("topic-6-0."),
        "{names:?}"
    );
}

#[test]
fn a_replay_that_memory_is_too_short_for_makes_no_segment_anew_that_is_missing() {
    let (mut simulator, host) = filled();
    let third = simulator.run(host, 256 << 20, LIMIT, || async {
        let live = [spec(KEPT), spec(DELETED)];
        let remove = async |topic_id| {
            let directory = Path::new(DATA).join(directory_name(&spec(topic_id).topic, 0));
            let path = log_path(&directory, 0);
            directory::remove_file(&path).await.expect("removed");
            path
        };
        // All that it held was deleted: an earlier life may have removed it.
        remove(KEPT).await;
        recover_short(&live).await.expect("nothing is missing");
        let missing = remove(DELETED).await;
        let error = recover_short(&live).await.err().expect("refused").to_string();
        assert!(error.contains(&*missing.to_string_lossy()), "{error}");
        assert!(!directory::exists(&missing).await.expect("a look"));
    });
    third.expect("it ends");
}

#[test]
fn a_replay_that_memory_is_too_short_for_misses_nothing_before_the_start_that_its_checkpoint_knows() {
    const SEGMENTS: i64 = REMOVED_MAX as i64 + 2;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let first = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT), spec(DELETED)]).await;
        let kept = shard.partition(spec(KEPT).id).expect("it is there");
        kept.set_config(PartitionConfig {
            segment_bytes: 1,
            ..PartitionConfig::default()
        });
        for _ in 0..=SEGMENTS {
            indexes::append_small(&shard, 1).await;
        }
        kept.set_config(PartitionConfig::default());
        kept.delete_records(SEGMENTS).await.expect("deleted");
        let removed = || shard.inner.shared.removed_segments.get();
        while removed() == 0 {
            ring::timer::sleep(Duration::from_millis(1)).await;
        }
        // Behind the migration that removes the first of them, and writes a checkpoint.
        let no_migration = shard.inner.migration.pause().await;
        assert_eq!(removed(), REMOVED_MAX as u64);
        // What the next one does before it writes its own.
        for base_offset in REMOVED_MAX as i64..SEGMENTS {
            let path = log_path(&kept.directory(), base_offset);
            directory::remove_file(&path).await.expect("removed");
        }
        append(&shard, BATCHES / 2).await;
        std::mem::forget(no_migration);
    });
    first.expect("it ends");
    let second = simulator.run(host, 256 << 20, LIMIT, || async {
        let live = [spec(KEPT), spec(DELETED)];
        let recovered = recover_short(&live).await.expect("nothing is missing");
        let kept = &recovered.partitions[&spec(KEPT).id];
        (kept.log_start_offset(), kept.log_end_offset())
    });
    let found = second.expect("it ends");
    assert_eq!(found, (SEGMENTS, SEGMENTS + 1 + BATCHES / 2));
}

/// Makes a directory of the deleted topic's name that says it is another one's, as another shard would.
async fn give_its_name_to(topic_id: u128) {
    let path = Path::new(DATA).join(directory_name(&spec(DELETED).topic, 0));
    directory::create_all(&path).await.expect("created");
    let text = format!("version: 0\ntopic_id: {}\n", to_base64(topic_id));
    let written = replace(&path.join(METADATA_FILE), text.into_bytes()).await;
    written.expect("written");
}

#[test]
fn an_unknown_partition_without_a_place_is_not_deleted_for_batches_that_came_late_or_are_in_the_checkpoint() {
    // Batches of the unknown one that its checkpoint has the end of, and those at the journal's end.
    for (first, late) in [(0, 1), (1, 0)] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 30);
        let life = simulator.run(host, 256 << 20, LIMIT, move || async move {
            let (_directory, shard) = open(vec![spec(KEPT), spec(DELETED)]).await;
            append_to(&shard, &[DELETED], first).await;
            shard.inner.migration.checkpoint().await.expect("a checkpoint");
            let no_migration = shard.inner.migration.pause().await;
            append_to(&shard, &[KEPT], BATCHES).await;
            append_to(&shard, &[DELETED], late).await;
            std::mem::forget(no_migration);
        });
        life.expect("it ends");
        let next = simulator.run(host, 256 << 20, LIMIT, move || async move {
            let live = [spec(KEPT)];
            let _directory = prepare(&live).await;
            give_its_name_to(DELETED + 1).await;
            let mut recovered = recover_short(&live).await.expect("recovered");
            let up_to = recovered.end.seq - 1;
            let deleted = BTreeSet::new();
            separate_unknown(&mut recovered, &live, (&deleted).into(), up_to).await
        });
        let separated = next.expect("it ends");
        let error = separated.expect_err("batches have no place").to_string();
        assert!(
            error.contains("which no metadata knows"),
            "{first} {late}: {error}"
        );
    }
}

#[test]
fn of_two_unknown_partitions_of_one_name_neither_takes_the_place_of_the_other() {
    /// Looked at first.
    const OTHER: u128 = KEPT - 1;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT), spec(DELETED)]).await;
        let no_migration = shard.inner.migration.pause().await;
        let other = PartitionSpec {
            topic: spec(DELETED).topic,
            ..spec(OTHER)
        };
        shard.create_partition(other).await.expect("made");
        append_to(&shard, &[DELETED, OTHER], 1).await;
        append_to(&shard, &[KEPT], BATCHES).await;
        std::mem::forget(no_migration);
    });
    life.expect("it ends");
    let next = simulator.run(host, 256 << 20, LIMIT, || async {
        let live = [spec(KEPT)];
        let _directory = prepare(&live).await;
        give_its_name_to(OTHER).await;
        let mut recovered = recover_short(&live).await.expect("recovered");
        let up_to = recovered.end.seq - 1;
        separate_unknown(&mut recovered, &live, (&BTreeSet::new()).into(), up_to).await
    });
    let separated = next.expect("it ends");
    let error = separated.expect_err("a batch has no place").to_string();
    assert!(error.contains("which no metadata knows"), "{error}");
}

#[test]
fn the_end_of_a_partition_voids_what_came_before_it_and_no_later_life() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT), spec(DELETED)]).await;
        append(&shard, 3).await;
        shard.drop_partition(spec(KEPT).id).await.expect("dropped");
        // Metadata that was lost is found again, say.
        shard.create_partition(spec(KEPT)).await.expect("made");
        append_to(&shard, &[KEPT], 2).await;
    });
    life.expect("it ends");
    let next = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT), spec(DELETED)]).await;
        [KEPT, DELETED].map(|id| {
            shard
                .partition(spec(id).id)
                .expect("it is there")
                .log_end_offset()
        })
    });
    assert_eq!(next.expect("it ends"), [2, 3]);
}

#[test]
fn a_replay_that_memory_is_too_short_for_writes_nothing_where_another_incarnation_is() {
    let (mut simulator, host) = filled();
    let third = simulator.run(host, 256 << 20, LIMIT, || async {
        let live = [spec(KEPT)];
        // Which puts the deleted topic's directory aside; and another shard has made that of the next of its name.
        let _directory = prepare(&live).await;
        give_its_name_to(DELETED + 1).await;
        let path = Path::new(DATA).join(directory_name(&spec(DELETED).topic, 0));
        let end_seq = |recovered: &Recovered| recovered.end.seq - 1;
        let mut recovered = recover_short(&live).await.expect("recovered");
        let up_to = end_seq(&recovered);
        let refused = separate_unknown(&mut recovered, &live, (&BTreeSet::new()).into(), up_to).await;
        assert!(refused.is_err(), "batches have no place, and are not deleted");
        let mut recovered = recover_short(&live).await.expect("recovered");
        let dropped =
            separate_unknown(&mut recovered, &live, (&BTreeSet::from([DELETED])).into(), up_to).await;
        assert_eq!(dropped.expect("separated"), [(spec(DELETED).id, 0)]);
        let names = directory::list(&path).await.expect("its directory");
        let names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [METADATA_FILE]);
    });
    third.expect("it ends");
}

#[test]
fn a_checkpoint_knows_of_producers_what_it_knows_of_their_batches() {
    let mut simulator = Simulator::new(2);
    let host = simulator.host(1 << 30);
    let done = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        let no_migration = shard.inner.migration.pause().await;
        let log = shard.partition(spec(KEPT).id).expect("it is there");
        for sequence in 0..3 {
            let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, sequence);
            builder.push(&NewRecord::default());
            let bytes = builder.build();
            let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
            let appended = log.append(batch.bytes(), batch.header()).expect("there is room");
            // The last is on its way: a crash may take it back, and its producer sends it again.
            if sequence < 2 {
                appended.ticket.committed().await.expect("durable");
            }
            if sequence == 0 {
                let up_to_seq = shard.inner.committer.durable().seq - 1;
                log.migrate(up_to_seq).await.expect("migrated");
            }
        }
        drop(no_migration);
        log.checkpoint()
    });
    let saved = done.expect("it ends");
    let known: Vec<_> = saved
        .producers
        .iter()
        .flat_map(|producer| producer.batches.iter().map(|batch| batch.base_offset))
        .collect();
    assert_eq!((saved.next_offset, known), (1, vec![0]));
}
