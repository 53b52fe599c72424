//! A disk that is full: producers wait, everything else goes on, and so do they when there is room again. No restart.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{DiskOperation, HostId, Injection, Simulator, for_each_seed};
use storage::{PartitionConfig, PartitionSpec};

use crate::LIMIT;
use crate::plain::{Opened, Place, append, batch, open, read, read_through, spec, try_append};

const MEMORY_BYTES: usize = 64 << 20;
/// Two journals of this size would not fit beside each other: it is full soon.
const DISK_BYTES: u64 = 24 << 20;

fn specs() -> Vec<PartitionSpec> {
    let small = |mut spec: PartitionSpec| {
        spec.config = PartitionConfig {
            segment_bytes: 1 << 20,
            ..PartitionConfig::default()
        };
        spec
    };
    vec![small(spec(7, "large")), small(spec(8, "other"))]
}

/// Writes until nothing is taken for a second, which is told; then goes on when there is room.
async fn fill(opened: &Opened, bytes: usize, full: &Mutex<bool>) {
    let log = opened.log(7);
    let mut refused = 0;
    while refused < 1_000 {
        match try_append(&log, &batch(1, bytes)) {
            Ok(appended) => {
                refused = 0;
                appended.ticket.committed().await.expect("acknowledged");
            }
            Err(_) => {
                refused += 1;
                ring::timer::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    *full.lock().expect("it runs") = true;
}

/// Cuts the power and opens it once more: everything is there.
fn check(simulator: &mut Simulator, host: HostId, from: i64, ends: [i64; 2]) {
    simulator.power_cut(host);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        for (id, end, from) in [(7, ends[0], from), (8, ends[1], 0)] {
            let log = opened.log(id);
            assert!(log.log_end_offset() >= end && log.log_start_offset() == from);
            read_through(&log, from, end).await;
        }
    });
    ended.expect("it ends");
}

#[test]
fn what_is_deleted_lets_producers_go_on_without_a_restart() {
    for_each_seed(0..24, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(DISK_BYTES);
        // Through the journal, or to segments at once.
        let bytes = [20_000, 90_000][seed as usize % 2];
        let done = Arc::new(Mutex::new(None));
        let told = done.clone();
        simulator.start(host, MEMORY_BYTES, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            let full = Mutex::new(false);
            fill(&opened, bytes, &full).await;
            let error = opened.shard.hold_up_turn(false).await.expect("it is full");
            assert!(error.to_string().contains("space"), "{error}");
            assert!(opened.shard.failure().is_none());
            let log = opened.log(7);
            let end = log.log_end_offset();
            assert!(end > 100, "it has {end} batches");
            for offset in [0, end / 2, end - 1] {
                let found = read(&log, offset).await.expect("read");
                assert_eq!(found.first(), Some(&offset));
            }
            log.delete_records(end / 2).await.expect("deleted");
            opened.shard.hold_up_turn(true).await;
            let last = append(&log, &batch(1, bytes)).await.expect("there is room");
            append(&opened.log(8), &batch(1, bytes))
                .await
                .expect("there is room");
            *told.lock().expect("it runs") = Some((end / 2, last + 1));
            std::future::pending::<()>().await;
        });
        assert!(simulator.run_until(LIMIT, |_| done.lock().expect("it runs").is_some()));
        let (from, end) = done.lock().expect("it runs").expect("looked at");
        check(&mut simulator, host, from, [end, 1]);
    });
}

/// Writes some segments, and stops. The sizes of all indexes.
fn indexes(full_at: Option<(&str, u32)>) -> Vec<(String, u64)> {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    if let Some((file, after)) = full_at {
        let injection = Injection {
            operation: DiskOperation::Write,
            path_contains: file.to_owned(),
            after,
            times: 2,
            errno: 28,
        };
        simulator.inject(host, injection);
    }
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = open(Place::default(), specs()).await.expect("opened");
        for _ in 0..400 {
            append(&opened.log(7), &batch(1, 20_000))
                .await
                .expect("acknowledged");
        }
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    let files = simulator.files(host).into_iter();
    files.filter(|(path, _)| path.ends_with("index")).collect()
}

#[test]
fn what_is_full_when_indexes_are_written_leaves_them_whole() {
    let whole = indexes(None);
    assert!(whole.len() > 8, "{whole:?}");
    for file in [".index", ".timeindex"] {
        for after in 0..6 {
            assert_eq!(indexes(Some((file, after))), whole, "{file}, {after}");
        }
    }
}

#[test]
fn a_larger_disk_lets_producers_go_on_without_a_restart() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(DISK_BYTES);
    let is_full = Arc::new(Mutex::new(false));
    let end = Arc::new(Mutex::new(0));
    let (full, told) = (is_full.clone(), end.clone());
    simulator.start(host, MEMORY_BYTES, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        fill(&opened, 20_000, &full).await;
        // Both wait, and nobody's batch is lost or written twice.
        let mut writers = Vec::new();
        for id in [7, 8] {
            let log = opened.log(id);
            writers.push(spawn(Class::Latency, async move {
                let mut last = -1;
                for _ in 0..50 {
                    last = append(&log, &batch(1, 20_000)).await.expect("there is room");
                }
                last
            }));
        }
        let mut ends = Vec::new();
        for writer in writers {
            ends.push(writer.await + 1);
        }
        assert_eq!(ends[1], 50);
        *told.lock().expect("it runs") = ends[0];
        std::future::pending::<()>().await;
    });
    assert!(simulator.run_until(LIMIT, |_| *is_full.lock().expect("it runs")));
    simulator.run_for(Duration::from_secs(30));
    assert_eq!(*end.lock().expect("it runs"), 0, "it was not full");
    simulator.set_disk_bytes(host, 256 << 20);
    assert!(simulator.run_until(LIMIT, |_| *end.lock().expect("it runs") > 0));
    let end = *end.lock().expect("it runs");
    check(&mut simulator, host, 0, [end, 50]);
}

#[test]
fn files_that_were_to_be_removed_later_go_when_the_disk_is_nearly_full() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(DISK_BYTES);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let mut specs = specs();
        for spec in &mut specs {
            spec.config.file_delete_delay_ms = 3_600_000;
        }
        let opened = open(Place::default(), specs).await.expect("opened");
        let log = opened.log(7);
        // Far more than the disk has room for.
        for _ in 0..100 {
            for _ in 0..20 {
                append(&log, &batch(1, 20_000)).await.expect("there is room");
            }
            log.delete_records(log.high_watermark()).await.expect("deleted");
        }
        assert!(opened.shard.statistics().removed_segments > 20);
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}
