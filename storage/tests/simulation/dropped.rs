//! Partitions that are deleted: what a crash makes of it, and what many at once cost the others.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{DiskOperation, Injection, Simulator};
use storage::{PartitionSpec, TopicPartition};

use crate::LIMIT;
use crate::plain::{Place, append, batch, id, open, spec, try_append};

const MEMORY_BYTES: usize = 64 << 20;

/// A record has blocks of `r`, which are torn. The next one, whole, is the end of `p`.
#[test]
fn an_end_behind_a_torn_record_never_was() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let large = batch(1, 90_000);
    let written = large.clone();
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), vec![spec(7, "r"), spec(8, "p")])
            .await
            .expect("opened");
        append(&opened.log(8), &batch(1, 100)).await.expect("appended");
        for _ in 0..2 {
            append(&opened.log(7), &written).await.expect("appended");
            ring::timer::sleep(Duration::from_millis(50)).await;
        }
        let before = opened.shard.statistics().direct_bytes;
        let appended = try_append(&opened.log(7), &written).expect("there is room");
        while opened.shard.statistics().direct_bytes == before {
            ring::timer::sleep(Duration::from_micros(1)).await;
        }
        let shard = opened.shard.clone();
        spawn(Class::Latency, async move { shard.drop_partition(id(8)).await }).detach();
        appended.ticket.committed().await.expect("durable");
        ring::timer::sleep(Duration::from_millis(1)).await;
    });
    ended.expect("it ends");
    simulator.kill(host);
    // In the third batch, of which nobody has heard.
    let log = "/data/r-0/00000000000000000000.log";
    assert!(simulator.flip_bit(host, log, 210_000, 0).expect("a file"));
    let deleted = Place {
        deleted: Some(8),
        ..Place::default()
    };
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(deleted, vec![spec(7, "r")]).await.expect("opened");
        assert_eq!(opened.log(7).log_end_offset(), 2, "the torn record counts");
        // Its name is free, and its metadata may forget it from now on.
        let again = opened.shard.create_partition(spec(9, "p")).await.expect("made");
        for _ in 0..3 {
            append(&again, &large).await.expect("appended");
            ring::timer::sleep(Duration::from_millis(50)).await;
        }
    });
    ended.expect("it ends");
    simulator.kill(host);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = open(Place::default(), vec![spec(7, "r"), spec(9, "p")])
            .await
            .expect("opened");
        assert_eq!(opened.log(9).log_end_offset(), 3);
        assert!(opened.report.strays.is_empty(), "{:?}", opened.report.strays);
    });
    ended.expect("it ends");
}

/// The data directory has to grow for another name, and cannot.
#[test]
fn a_full_disk_loses_the_files_of_what_is_deleted_though_it_cannot_rename_them() {
    for at_start in [false, true] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        let both = || vec![spec(7, "r"), spec(8, "p")];
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let opened = open(Place::default(), both()).await.expect("opened");
            append(&opened.log(8), &batch(1, 20_000)).await.expect("appended");
            opened.shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        let files_of_p = |simulator: &Simulator| {
            let files = simulator.files(host).into_iter();
            files.filter(|(path, _)| path.starts_with("/data/p-0")).count()
        };
        assert!(files_of_p(&simulator) > 1);
        let rename = Injection {
            operation: DiskOperation::Name,
            path_contains: "-delete".to_owned(),
            // It is looked whether that name is free.
            after: 1,
            times: 1,
            errno: 28,
        };
        simulator.inject(host, rename);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let place = Place {
                deleted: at_start.then_some(8),
                ..Place::default()
            };
            let specs = if at_start { vec![spec(7, "r")] } else { both() };
            let opened = open(place, specs).await.expect("opened");
            opened.shard.drop_partition(id(8)).await.expect("dropped");
            append(&opened.log(7), &batch(1, 20_000)).await.expect("appended");
        });
        ended.expect("it ends");
        assert_eq!(files_of_p(&simulator), 0);
    }
}

#[test]
fn many_partitions_end_together_and_the_others_go_on() {
    const COUNT: u128 = 400;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = Rc::new(open(Place::default(), vec![spec(7, "r")]).await.expect("opened"));
        let mut tasks = Vec::new();
        for topic in 100..100 + COUNT {
            let opened = opened.clone();
            tasks.push(spawn(Class::Latency, async move {
                let log = opened
                    .shard
                    .create_partition(spec(topic, &format!("t{topic}")))
                    .await;
                append(&log.expect("made"), &batch(1, 100))
                    .await
                    .expect("appended");
            }));
        }
        for made in tasks.drain(..) {
            made.await;
        }
        // Until every one has its directory.
        let first = opened.shard.statistics().checkpoints;
        while opened.shard.statistics().checkpoints < first + 2 {
            append(&opened.log(7), &batch(1, 40_000)).await.expect("appended");
        }
        let before = opened.shard.statistics().records;
        for topic in 100..100 + COUNT {
            let shard = opened.shard.clone();
            let dropping = async move { shard.drop_partition(id(topic)).await.expect("dropped") };
            tasks.push(spawn(Class::Latency, dropping));
        }
        let is_over = Rc::new(Cell::new(false));
        let (writer, over) = (opened.clone(), is_over.clone());
        let writing = spawn(Class::Latency, async move {
            let mut written = 0;
            while !over.get() {
                append(&writer.log(7), &batch(1, 40_000)).await.expect("appended");
                written += 1;
            }
            written
        });
        for dropped in tasks {
            dropped.await;
        }
        is_over.set(true);
        let written: u64 = writing.await;
        (opened.shard.statistics().records - before, written)
    });
    let (records, written) = ended.expect("it ends");
    // Alone each of them would have a record of its own, and a flush.
    let theirs = records - written.min(records);
    assert!(theirs < COUNT as u64 / 4, "{theirs} records for {COUNT} ends");
}

/// Partitions of one topic whose name is as long as one may be. Their directories go out of sight at the same time.
#[test]
fn partitions_of_a_topic_with_a_long_name_end_together() {
    const COUNT: i32 = 40;
    const ITS: u128 = 8;
    let specs = || -> Vec<PartitionSpec> {
        let its = (0..COUNT).map(|partition| PartitionSpec {
            id: TopicPartition {
                topic_id: ITS,
                partition,
            },
            ..spec(ITS, &"p".repeat(249))
        });
        its.chain([spec(7, "r")]).collect()
    };
    for at_start in [false, true] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 30);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            for spec in specs() {
                let log = opened.shard.partition(spec.id).expect("it is there");
                append(&log, &batch(1, 2_000)).await.expect("appended");
            }
            opened.shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
        let files = |simulator: &Simulator| {
            let files = simulator.files(host).into_iter();
            files.filter(|(path, _)| path.starts_with("/data/ppp")).count()
        };
        assert!(files(&simulator) > COUNT as usize);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let place = Place {
                deleted: at_start.then_some(ITS),
                ..Place::default()
            };
            let live = if at_start { vec![spec(7, "r")] } else { specs() };
            let opened = open(place, live).await.expect("opened");
            let mut dropping = Vec::new();
            for spec in specs() {
                let shard = opened.shard.clone();
                if spec.id.topic_id == ITS {
                    dropping.push(spawn(Class::Latency, async move {
                        shard.drop_partition(spec.id).await.expect("dropped");
                    }));
                }
            }
            for dropped in dropping {
                dropped.await;
            }
            append(&opened.log(7), &batch(1, 2_000)).await.expect("appended");
            ring::timer::sleep(Duration::from_secs(1)).await;
        });
        ended.expect("it ends");
        assert_eq!(files(&simulator), 0, "at a start: {at_start}");
    }
}
