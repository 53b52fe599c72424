//! Single steps: deleted records, dropped partitions, memory that others hold, directories that nobody claims.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{Simulator, for_each_seed};
use storage::{
    AppendError, DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ProducerCheck,
    ScrubOptions, ShardLog, ShardOptions, TopicPartition,
};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

use crate::life::{DATA, LOG_MEMORY_BYTES, RING_BYTES};
use crate::{LIMIT, seeds};

const ID: TopicPartition = TopicPartition {
    topic_id: 7,
    partition: 0,
};

async fn open() -> (ShardLog, PartitionLog) {
    let shard = open_with(1).await;
    let log = shard.partition(ID).expect("it is there");
    (shard, log)
}

/// A shard with so many partitions.
async fn open_with(partitions: i32) -> ShardLog {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    let specs = (0..partitions).map(|partition| PartitionSpec {
        id: TopicPartition { partition, ..ID },
        topic: "topic".to_owned(),
        leader_epoch: 1,
        config: PartitionConfig::default(),
    });
    let specs: Vec<PartitionSpec> = specs.collect();
    directory
        .prepare_shards(1, &specs, &BTreeSet::new(), |_| 0)
        .await
        .expect("prepared");
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: LOG_MEMORY_BYTES,
        direct_bytes_min: 64 << 10,
        open_files_max: 128,
        file_delete_delay: Duration::ZERO,
        retention_check_interval: Duration::from_secs(300),
        scrub: ScrubOptions::OFF,
    };
    let (shard, _report) = ShardLog::open(options, specs, &BTreeSet::new())
        .await
        .expect("opened");
    shard
}

fn batch(producer_id: i64) -> (Vec<u8>, BatchHeader) {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, 0, 0);
    builder.push(&NewRecord {
        timestamp_ms: 1,
        value: Some(b"value"),
        ..NewRecord::default()
    });
    let bytes = builder.build();
    let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
    (bytes, header)
}

#[test]
fn a_batch_that_was_deleted_before_it_was_migrated_is_still_known_as_sent() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let run = |simulator: &mut Simulator, is_first: bool| {
        let ended = simulator.run(host, 64 << 20, Duration::from_secs(60), move || async move {
            let (shard, log) = open().await;
            let (first, first_header) = batch(1_000);
            let (second, second_header) = batch(2_000);
            if is_first {
                let appended = log.append(&first, &first_header).expect("there is room");
                appended.ticket.committed().await.expect("durable");
                assert_eq!(log.delete_records(1).await.expect("deleted"), 1);
                assert!(log.delete_records(2).await.is_err(), "beyond the high watermark");
                let appended = log.append(&second, &second_header).expect("there is room");
                appended.ticket.committed().await.expect("durable");
                let both = (first.len() + second.len()) as u64;
                assert!((second.len() as u64..=both).contains(&log.size_bytes()));
            } else {
                assert_eq!((log.log_start_offset(), log.log_end_offset()), (1, 2));
                assert_eq!(log.size_bytes(), second.len() as u64, "the first segment is gone");
                for (header, offset) in [(first_header, 0), (second_header, 1)] {
                    let ProducerCheck::Duplicate { base_offset, .. } = log.check_producer(&header) else {
                        panic!("the producer of offset {offset} was forgotten");
                    };
                    assert_eq!(base_offset, offset);
                }
            }
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    };
    run(&mut simulator, true);
    run(&mut simulator, false);
}

#[test]
fn a_deletion_that_nobody_waits_for_any_more_is_applied_without_a_restart() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, 64 << 20, Duration::from_secs(60), move || async move {
        let (shard, log) = open().await;
        let (bytes, header) = batch(1_000);
        let appended = log.append(&bytes, &header).expect("there is room");
        appended.ticket.committed().await.expect("durable");
        let deletion = ring::timer::timeout(Duration::ZERO, log.delete_records(1)).await;
        assert!(deletion.is_err(), "its flush cannot be over");
        loop {
            let moved = log.moved().wait();
            if log.log_start_offset() == 1 {
                break;
            }
            moved.await;
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("the log's start moves");
}

#[test]
fn a_kill_before_a_deletion_is_durable_finds_what_was_not_deleted() {
    for_each_seed(seeds(), |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        let ids = [1, 0].map(|partition| TopicPartition { partition, ..ID });
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let shard = open_with(2).await;
            // More than a block: less would be in the checkpoint.
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(&NewRecord {
                value: Some(&[7; 20_000]),
                ..NewRecord::default()
            });
            let bytes = builder.build();
            let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
            for id in ids {
                let log = shard.partition(id).expect("it is there");
                log.append(&bytes, &header).expect("there is room");
            }
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        let is_asked = Arc::new(AtomicBool::new(false));
        let asked = is_asked.clone();
        simulator.start(host, 64 << 20, move || async move {
            let shard = open_with(2).await;
            let [first, second] = ids.map(|id| shard.partition(id).expect("it is there"));
            let moved = first.moved();
            let moved = moved.wait();
            let deleting = spawn(Class::Latency, async move {
                first.delete_records(1).await.expect("deleted");
            });
            // Now a migration removes the first one's files, and looks at the second before that.
            moved.await;
            asked.store(true, Ordering::Relaxed);
            second.delete_records(1).await.expect("deleted");
            deleting.await;
            std::future::pending::<()>().await;
        });
        assert!(simulator.run_until(LIMIT, |_| is_asked.load(Ordering::Relaxed)));
        let lives_ns = simulator.random_u64() % 300_000;
        simulator.run_for(Duration::from_nanos(lives_ns));
        // A name that was removed may come back after a power cut.
        simulator.kill(host);
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let shard = open_with(2).await;
            let [first, second] = ids.map(|id| shard.partition(id).expect("it is there"));
            assert_eq!((first.log_start_offset(), first.log_end_offset()), (1, 1));
            assert_eq!(second.log_end_offset(), 1);
            if second.log_start_offset() == 0 {
                let extent = second.read(0, 1 << 20, true, 1).expect("it is there");
                assert_eq!(second.load(extent).await.expect("readable").len(), 1);
            }
        });
        ended.expect("it ends");
    });
}

#[test]
fn many_partitions_are_dropped_while_producers_fill_the_journal() {
    const PARTITIONS: i32 = 300;
    let mut simulator = Simulator::new(2);
    let host = simulator.host(256 << 20);
    let ended = simulator.run(host, 64 << 20, Duration::from_secs(600), || async move {
        let shard = open_with(PARTITIONS).await;
        let log = shard.partition(ID).expect("it is there");
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&NewRecord {
            value: Some(&[7; 20_000]),
            ..NewRecord::default()
        });
        let bytes = builder.build();
        let header = BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
        spawn(Class::Latency, async move {
            loop {
                match log.append(&bytes, &header) {
                    Ok(_) => {}
                    Err(AppendError::JournalFull | AppendError::BacklogFull) => {
                        ring::timer::sleep(Duration::from_micros(50)).await;
                    }
                    Err(_) => return,
                }
            }
        })
        .detach();
        ring::timer::sleep(Duration::from_millis(20)).await;
        let dropping = (1..PARTITIONS).map(|partition| {
            let shard = shard.clone();
            spawn(Class::Latency, async move {
                let id = TopicPartition { partition, ..ID };
                shard.drop_partition(id).await.expect("dropped");
            })
        });
        for dropped in dropping.collect::<Vec<_>>() {
            dropped.await;
        }
        assert!(shard.partition(TopicPartition { partition: 1, ..ID }).is_none());
    });
    ended.expect("it ends");
}

#[test]
fn what_is_only_in_segments_is_counted_as_it_is() {
    let mut simulator = Simulator::new(3);
    let host = simulator.host(64 << 20);
    let run = |simulator: &mut Simulator, is_first: bool| {
        let ended = simulator.run(host, 64 << 20, Duration::from_secs(60), move || async move {
            let (shard, log) = open().await;
            if is_first {
                for producer_id in 1_000..1_200 {
                    let (bytes, header) = batch(producer_id);
                    log.append(&bytes, &header).expect("there is room");
                }
            } else {
                assert!(
                    log.bytes_available(0, 200) > 10_000,
                    "a reader would wait for more"
                );
                assert_eq!(log.bytes_available(200, 200), 0);
            }
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    };
    run(&mut simulator, true);
    run(&mut simulator, false);
}

#[test]
fn who_holds_memory_does_not_wait_for_more_and_a_shortage_is_told() {
    let mut simulator = Simulator::new(4);
    let host = simulator.host(256 << 20);
    let run = |simulator: &mut Simulator, is_first: bool| {
        let ended = simulator.run(host, 64 << 20, Duration::from_secs(600), move || async move {
            let (shard, log) = open().await;
            if is_first {
                let mut builder = BatchBuilder::new(Compression::None);
                builder.push(&NewRecord {
                    value: Some(&[7; 60_000]),
                    ..NewRecord::default()
                });
                let bytes = builder.build();
                let header =
                    BatchHeader::decode(bytes.first_chunk::<BATCH_HEADER_BYTES>().expect("a header"));
                for _ in 0..200 {
                    while log.append(&bytes, &header).is_err() {
                        ring::timer::sleep(Duration::from_millis(1)).await;
                    }
                }
            } else {
                let mut held = Vec::new();
                let mut offset = 0;
                loop {
                    let extent = log.read(offset, 1 << 20, true, 200).expect("it is there");
                    let slices = log.load_at_once(extent).await.expect("it can be read");
                    if slices.is_empty() {
                        break;
                    }
                    let batches = slices.iter().flat_map(|slice| wire::record_batch::batches(slice));
                    offset = batches
                        .last()
                        .expect("a batch")
                        .expect("a whole one")
                        .header()
                        .next_offset();
                    held.push(slices);
                }
                assert!(
                    !held.is_empty() && offset < 200,
                    "the memory for reading is smaller than the log"
                );
                assert!(!shard.is_short_of_memory(), "nobody waits");
                let before = ring::clock::now();
                let extent = log.read(offset, 1 << 20, true, 200).expect("it is there");
                assert!(log.load(extent).await.expect("it can be read").is_empty());
                assert!(
                    ring::clock::now() - before >= Duration::from_millis(400),
                    "it has waited"
                );
                assert!(shard.is_short_of_memory());
                drop(held);
                ring::timer::sleep(Duration::from_secs(10)).await;
                let extent = log.read(offset, 1 << 20, true, 200).expect("it is there");
                assert!(!log.load(extent).await.expect("it can be read").is_empty());
                assert!(!shard.is_short_of_memory());
            }
            shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    };
    run(&mut simulator, true);
    run(&mut simulator, false);
}

#[test]
fn a_new_topic_does_not_fail_for_files_that_nobody_claims() {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, 64 << 20, Duration::from_secs(60), || async move {
        let (shard, _log) = open().await;
        let place = Path::new(DATA).join("orders-0");
        ring::directory::create_all(&place).await.expect("created");
        let options = ring::file::OpenOptions {
            write: true,
            create: true,
            ..ring::file::OpenOptions::default()
        };
        let path = place.join("00000000000000000000.log");
        let file = ring::file::File::open(&path, options).await.expect("created");
        let bytes = ring::buffer::Slice::from(b"from a backup".to_vec());
        file.write_all_at(vec![bytes], 0, ring::file::Durability::Completed)
            .await
            .expect("written");
        let spec = PartitionSpec {
            id: TopicPartition {
                topic_id: 8,
                partition: 0,
            },
            topic: "orders".to_owned(),
            leader_epoch: 0,
            config: PartitionConfig::default(),
        };
        let log = shard.create_partition(spec).await.expect("it is new");
        assert_eq!(log.log_end_offset(), 0);
        let names = ring::directory::list(Path::new(DATA)).await.expect("listed");
        let is_aside = |name: &str| name.starts_with("orders-0.") && name.ends_with("-stray");
        assert!(
            names.iter().any(|entry| is_aside(&entry.name)),
            "the files are kept"
        );
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}
