//! Deleted records, step by step.

use std::path::Path;
use std::time::Duration;

use ring::simulator::Simulator;
use storage::{
    DirectoryOptions, LogDirectory, PartitionConfig, PartitionLog, PartitionSpec, ProducerCheck, ShardLog,
    ShardOptions, TopicPartition,
};
use wire::record_batch::BATCH_HEADER_BYTES;
use wire::{BatchBuilder, BatchHeader, Compression, NewRecord};

use crate::life::{DATA, LOG_MEMORY_BYTES, RING_BYTES};

const ID: TopicPartition = TopicPartition {
    topic_id: 7,
    partition: 0,
};

async fn open() -> (ShardLog, PartitionLog) {
    let options = DirectoryOptions {
        journal_bytes: RING_BYTES,
        new_cluster_id: 1,
        new_directory_id: 2,
        memory_bytes: LOG_MEMORY_BYTES,
    };
    let mut directory = LogDirectory::open(Path::new(DATA), options)
        .await
        .expect("opened");
    let spec = PartitionSpec {
        id: ID,
        topic: "topic".to_owned(),
        leader_epoch: 1,
        config: PartitionConfig::default(),
    };
    let specs = vec![spec];
    directory
        .prepare_shards(1, &specs, |_| false, |_| 0)
        .await
        .expect("prepared");
    let options = ShardOptions {
        directory: DATA.into(),
        shard: 0,
        memory_bytes: LOG_MEMORY_BYTES,
        file_delete_delay: Duration::ZERO,
    };
    let (shard, _report) = ShardLog::open(options, specs, |_| false).await.expect("opened");
    let log = shard.partition(ID).expect("it is there");
    (shard, log)
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
                appended.ticket.durable().await.expect("durable");
                assert_eq!(log.delete_records(1).await.expect("deleted"), 1);
                assert!(log.delete_records(2).await.is_err(), "beyond the high watermark");
                let appended = log.append(&second, &second_header).expect("there is room");
                appended.ticket.durable().await.expect("durable");
                assert_eq!(log.size_bytes(), (first.len() + second.len()) as u64);
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
