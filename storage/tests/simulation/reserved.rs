//! Blocks that are reserved ahead for direct writes are no more than what is being written, and never in anybody's way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{DiskFaults, DiskOperation, HostId, Injection, Simulator, for_each_seed};

use crate::LIMIT;
use crate::plain::{Opened, Place, append, batch, open, read, spec};

const MEMORY_BYTES: usize = 64 << 20;

/// Writes two large batches to each of so many new partitions: enough for direct writes, and no more.
async fn write_to_many(opened: &Opened, count: u128) -> Result<(), String> {
    let bytes = batch(1, 90_000);
    for topic in 0..count {
        let spec = spec(100 + topic, &format!("t{topic}"));
        let log = opened.shard.create_partition(spec).await;
        let log = log.map_err(|error| error.to_string())?;
        for _ in 0..2 {
            append(&log, &bytes).await?;
            ring::timer::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn log_bytes(simulator: &Simulator, host: HostId) -> u64 {
    let files = simulator.files(host).into_iter();
    files
        .filter(|(name, _)| name.ends_with(".log"))
        .map(|(_, bytes)| bytes)
        .sum()
}

#[test]
fn what_is_reserved_for_a_partition_comes_back_when_it_rests() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        write_to_many(&opened, 150).await.expect("written");
        assert!(opened.shard.statistics().direct_bytes > 0, "nothing was reserved");
        // Two more checkpoints: a partition rests when nothing came between them, nor for a second.
        ring::timer::sleep(Duration::from_secs(1)).await;
        let before = opened.shard.statistics().checkpoints;
        while opened.shard.statistics().checkpoints < before + 2 {
            append(&opened.log(7), &batch(1, 40_000)).await.expect("appended");
        }
    });
    ended.expect("it ends");
    let data = 150 * 2 * 90_000;
    let bytes = log_bytes(&simulator, host);
    // With the file that the last writes went to, and blocks that are not full.
    assert!(bytes < data + (16 << 20), "{bytes} bytes for {data} of data");
}

#[test]
fn a_disk_that_what_is_reserved_has_filled_takes_what_is_written() {
    let mut simulator = Simulator::new(1);
    let place = Place {
        journal_bytes: 64 << 20,
        memory_bytes: 264 << 20,
        ..Place::default()
    };
    // With a MiB for each partition it is full before the first migration, to which none has rested.
    let host = simulator.host(place.journal_bytes + (150 << 20));
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let opened = open(place, Vec::new()).await.expect("opened");
        write_to_many(&opened, 250).await
    });
    assert_eq!(ended.expect("it ends"), Ok(()));
}

#[test]
fn what_was_reserved_before_a_crash_comes_back_with_the_start() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    let place = Place {
        journal_bytes: 64 << 20,
        memory_bytes: 264 << 20,
        ..Place::default()
    };
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let opened = open(place, Vec::new()).await.expect("opened");
        write_to_many(&opened, 50).await.expect("written");
    });
    ended.expect("it ends");
    simulator.power_cut(host);
    let reserved = log_bytes(&simulator, host);
    assert!(reserved > 40 << 20, "{reserved} bytes were reserved");
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let specs = (0..50).map(|topic| spec(100 + topic, &format!("t{topic}")));
        let opened = open(place, specs.collect()).await.expect("opened");
        for topic in 0..50 {
            assert_eq!(opened.log(100 + topic).log_end_offset(), 2);
        }
    });
    ended.expect("it ends");
    let left = log_bytes(&simulator, host);
    assert!(left < 50 * 2 * 95_000, "{left} bytes");
}

#[test]
fn a_segment_that_is_removed_gives_its_space_back_at_once() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    let stage = Arc::new(Mutex::new(0));
    let told = stage.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let reach = async |reached| {
            *told.lock().expect("it runs") = reached;
            ring::timer::sleep(Duration::from_millis(10)).await;
        };
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        reach(1).await;
        for _ in 0..20 {
            append(&opened.log(7), &batch(1, 900_000))
                .await
                .expect("appended");
            ring::timer::sleep(Duration::from_millis(20)).await;
        }
        assert!(opened.shard.statistics().direct_bytes > 9 << 20);
        reach(2).await;
        opened.log(7).delete_records(20).await.expect("deleted");
        while opened.shard.statistics().removed_segments == 0 {
            ring::timer::sleep(Duration::from_millis(1)).await;
        }
        // What closes its file does so behind the removal.
        ring::timer::sleep(Duration::from_millis(10)).await;
        reach(3).await;
        std::future::pending::<()>().await;
    });
    let mut free = Vec::new();
    for reached in 1..=3 {
        assert!(simulator.run_until(LIMIT, |_| *stage.lock().expect("it runs") == reached));
        free.push(simulator.disk_bytes_free(host));
    }
    assert!(free[1] + (18 << 20) < free[0], "{free:?} bytes were free");
    assert!(
        free[2] + (1 << 20) > free[0],
        "{free:?} bytes were free: the file is held"
    );
}

#[test]
fn what_is_reserved_comes_back_though_nobody_writes_to_the_shard_any_more() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    simulator.start(host, MEMORY_BYTES, move || async move {
        let opened = open(Place::default(), Vec::new()).await.expect("opened");
        write_to_many(&opened, 5).await.expect("written");
        assert!(opened.shard.statistics().direct_bytes > 0, "nothing was reserved");
        assert_eq!(opened.shard.statistics().checkpoints, 0);
        std::future::pending::<()>().await;
    });
    let data = 5 * 2 * 90_000;
    assert!(simulator.run_until(LIMIT, |simulator| log_bytes(simulator, host) > data + (4 << 20)));
    let is_back = |simulator: &Simulator| log_bytes(simulator, host) < data + (64 << 10);
    assert!(
        simulator.run_until(LIMIT, is_back),
        "{} bytes for {data} of data",
        log_bytes(&simulator, host)
    );
    simulator.power_cut(host);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let specs = (0..5).map(|topic| spec(100 + topic, &format!("t{topic}")));
        let opened = open(Place::default(), specs.collect()).await.expect("opened");
        for topic in 0..5 {
            for offset in 0..2 {
                let found = read(&opened.log(100 + topic), offset).await.expect("read");
                assert_eq!(found, [offset]);
            }
        }
    });
    ended.expect("it ends");
}

/// A partition rests, and just as its file is cut a lot is written to it.
#[test]
fn what_is_written_when_a_file_is_cut_is_there() {
    for_each_seed(0..60, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(1 << 30);
        // The cut takes its time.
        simulator.set_disk_faults(
            host,
            DiskFaults {
                stall: 0.3,
                stall_longest: Duration::from_millis(20),
                ..DiskFaults::default()
            },
        );
        let place = Place {
            journal_bytes: 1 << 20,
            ..Place::default()
        };
        let begins = Duration::from_micros(simulator.random_u64() % 20_000);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let opened = open(place, vec![spec(7, "r")]).await.expect("opened");
            let opened_at = ring::clock::now();
            let log = opened.log(7);
            for _ in 0..2 {
                append(&log, &batch(1, 90_000)).await.expect("appended");
                ring::timer::sleep(Duration::from_millis(20)).await;
            }
            // The fourth look finds that it has rested for 30 s.
            ring::timer::sleep(Duration::from_millis(39_990) + begins - (ring::clock::now() - opened_at))
                .await;
            for _ in 0..60 {
                append(&log, &batch(1, 20_000)).await.expect("appended");
            }
        });
        ended.expect("it ends");
        simulator.kill(host);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let opened = open(place, vec![spec(7, "r")]).await.expect("opened");
            for offset in 0..62 {
                let found = read(&opened.log(7), offset).await.expect("read");
                assert_eq!(found.first(), Some(&offset));
            }
        });
        ended.expect("it ends");
    });
}

/// A partition rests, and as its file is cut, which takes long, more is written and the log is stopped.
#[test]
fn a_stop_waits_for_a_file_that_is_being_cut() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let stage = Arc::new(Mutex::new(0));
    let told = stage.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        *told.lock().expect("it runs") = 1;
        let opened_at = ring::clock::now();
        let log = opened.log(7);
        for _ in 0..2 {
            append(&log, &batch(1, 90_000)).await.expect("appended");
            ring::timer::sleep(Duration::from_millis(20)).await;
        }
        ring::timer::sleep(Duration::from_millis(40_010) - (ring::clock::now() - opened_at)).await;
        for _ in 0..2 {
            append(&log, &batch(1, 20_000)).await.expect("appended");
        }
        opened.shard.stop().await.expect("stopped");
        ring::timer::sleep(Duration::from_secs(20)).await;
        *told.lock().expect("it runs") = 2;
        std::future::pending::<()>().await;
    });
    let is_at = |reached| {
        let stage = stage.clone();
        move |_: &Simulator| *stage.lock().expect("it runs") == reached
    };
    assert!(simulator.run_until(LIMIT, is_at(1)));
    simulator.run_for(Duration::from_millis(39_995));
    let reserved = log_bytes(&simulator, host);
    assert!(reserved > 1 << 20, "{reserved} bytes: it was cut before");
    let slow = DiskFaults {
        stall: 1.0,
        stall_longest: Duration::from_secs(10),
        ..DiskFaults::default()
    };
    simulator.set_disk_faults(host, slow);
    // The fourth look finds that it has rested for 30 s.
    simulator.run_for(Duration::from_millis(10));
    simulator.set_disk_faults(host, DiskFaults::default());
    assert_eq!(log_bytes(&simulator, host), reserved, "nothing was slow");
    assert!(simulator.disk_counters(host).stalls > 0, "nothing was being cut");
    assert!(simulator.run_until(LIMIT, is_at(2)));
    simulator.kill(host);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        for offset in 0..4 {
            let found = read(&opened.log(7), offset).await.expect("read");
            assert_eq!(found.first(), Some(&offset));
        }
    });
    ended.expect("it ends");
}

/// Segments that are full before their blocks could be reserved, and sealed soon after.
#[test]
fn a_segment_that_is_over_gets_no_more_blocks() {
    let direct_bytes = AtomicU64::new(0);
    for_each_seed(0..40, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(1 << 30);
        // A reservation may take longer than a seal.
        simulator.set_disk_faults(
            host,
            DiskFaults {
                stall: 0.1,
                stall_longest: Duration::from_millis(20),
                ..DiskFaults::default()
            },
        );
        let place = Place {
            journal_bytes: 1 << 20,
            direct_bytes_min: 32 << 10,
            ..Place::default()
        };
        let small = || storage::PartitionSpec {
            config: storage::PartitionConfig {
                segment_bytes: 300_000,
                ..storage::PartitionConfig::default()
            },
            ..spec(7, "r")
        };
        let written = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let opened = open(place, vec![small()]).await.expect("opened");
            let mut writers = Vec::new();
            for _ in 0..4 {
                let log = opened.log(7);
                writers.push(spawn(Class::Latency, async move {
                    for _ in 0..40 {
                        append(&log, &batch(1, 40_000)).await.expect("appended");
                    }
                }));
            }
            for writer in writers {
                writer.await;
            }
            opened.shard.statistics().direct_bytes
        });
        direct_bytes.fetch_add(written.expect("it ends"), Ordering::Relaxed);
        simulator.kill(host);
        simulator.set_disk_faults(host, DiskFaults::default());
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let opened = open(place, vec![small()])
                .await
                .expect("every segment has its length");
            assert_eq!(opened.log(7).log_end_offset(), 160);
        });
        ended.expect("it ends");
    });
    let direct_bytes = direct_bytes.load(Ordering::Relaxed);
    assert!(
        direct_bytes > 10 << 20,
        "{direct_bytes} bytes went to a segment at once"
    );
}

#[test]
fn a_segment_that_could_not_be_made_ready_for_a_moment_takes_large_batches_later() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let shortage = Injection {
        operation: DiskOperation::Name,
        path_contains: ".log".to_owned(),
        // It is looked whether the file is there.
        after: 1,
        times: 1,
        errno: 24,
    };
    simulator.inject(host, shortage);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        let write = async || {
            for _ in 0..4 {
                append(&opened.log(7), &batch(1, 90_000)).await.expect("appended");
                ring::timer::sleep(Duration::from_millis(50)).await;
            }
            opened.shard.statistics().direct_bytes
        };
        assert_eq!(write().await, 0, "it was ready");
        ring::timer::sleep(Duration::from_secs(11)).await;
        assert!(write().await > 0, "it is not tried again");
    });
    ended.expect("it ends");
}
