//! Writers on a faulty disk: a careful one never loses what it vouched for, a careless one is caught.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::Notes;
use crate::buffer::{Buffer, PAGE_SIZE, Pool};
use crate::file::{Allocate, Durability, File, OpenOptions};
use crate::simulator::{DiskFaults, DiskOperation, HostId, Injection, PowerCut, Simulator};
use crate::{clock, directory, executor, timer};

const MEMORY: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(600);
const BLOCK: u64 = PAGE_SIZE as u64;

const CREATE: OpenOptions = OpenOptions {
    read: true,
    write: true,
    create: true,
    create_new: false,
    truncate: false,
    direct: true,
};

fn block(pool: &Pool, byte: u64) -> Buffer {
    let mut buffer = pool.try_take(PAGE_SIZE).expect("a test's budget suffices");
    buffer.fill(byte as u8);
    buffer
}

async fn write(file: &File, pool: &Pool, number: u64, durability: Durability) -> io::Result<()> {
    let slice = block(pool, number + 1).freeze(0..PAGE_SIZE);
    file.write_all_at(vec![slice], number * BLOCK, durability).await
}

/// How a writer of numbered blocks makes them durable before it notes (acknowledges) them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Durable,
    Synced,
    FileSystemSynced,
    /// Mutants.
    NoSync,
    NoDirectorySync,
    SyncBesideTheWrite,
    SyncAgainAfterFailure,
    DurableVouchesForEarlier,
}

async fn append_blocks(writer: Writer, acknowledged: Notes) {
    let pool = Pool::new("blocks", 1 << 20).expect("a test's budget suffices");
    let Ok(file) = File::open("/f".as_ref(), CREATE).await else {
        return;
    };
    if writer != Writer::NoDirectorySync && directory::sync("/".as_ref()).await.is_err() {
        return;
    }
    for number in 0..40 {
        let written = match writer {
            Writer::Durable | Writer::NoDirectorySync => {
                write(&file, &pool, number, Durability::Durable).await
            }
            Writer::NoSync => write(&file, &pool, number, Durability::Completed).await,
            Writer::Synced | Writer::FileSystemSynced | Writer::SyncAgainAfterFailure => {
                let written = write(&file, &pool, number, Durability::Completed).await;
                match (written, writer) {
                    (Ok(()), Writer::FileSystemSynced) => directory::sync_file_system("/".as_ref()).await,
                    (Ok(()), Writer::SyncAgainAfterFailure) => match file.sync_data().await {
                        Ok(()) => Ok(()),
                        Err(_) => file.sync_data().await,
                    },
                    (Ok(()), _) => file.sync_data().await,
                    (failed, _) => failed,
                }
            }
            Writer::SyncBesideTheWrite => {
                let (beside, pool) = (file.clone(), pool.clone());
                let other = executor::spawn(executor::Class::Latency, async move {
                    write(&beside, &pool, number, Durability::Completed).await
                });
                let synced = file.sync_data().await;
                other.await.and(synced)
            }
            Writer::DurableVouchesForEarlier => {
                let durability = if number % 2 == 0 {
                    Durability::Completed
                } else {
                    Durability::Durable
                };
                let written = write(&file, &pool, number, durability).await;
                if number % 2 == 0 {
                    continue;
                }
                acknowledged.add(number - 1);
                written
            }
        };
        if written.is_err() {
            return;
        }
        acknowledged.add(number);
    }
    timer::sleep(Duration::from_secs(1)).await;
}

/// Which acknowledged blocks are lost after a power cut at a moment of the seed's choice.
fn losses(writer: Writer, seed: u64, faults: DiskFaults) -> Vec<u64> {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    simulator.set_disk_faults(host, faults);
    let acknowledged = Notes::default();
    let notes = acknowledged.clone();
    simulator.start(host, MEMORY, move || append_blocks(writer, notes));
    let cut_after = Duration::from_micros(simulator.random_u64() % 40_000);
    simulator.run_for(cut_after);
    simulator.power_cut(host);
    simulator.heal_disk(host);
    let expected = acknowledged.all();
    let read = simulator.run(host, MEMORY, LIMIT, move || async move {
        let pool = Pool::new("blocks", 1 << 20).unwrap();
        let mut lost = Vec::new();
        let options = OpenOptions {
            write: false,
            create: false,
            ..CREATE
        };
        let file = File::open("/f".as_ref(), options).await;
        for number in expected {
            let Ok(file) = &file else {
                lost.push(number);
                continue;
            };
            let (result, buffer) = file
                .read_exact_at(pool.try_take(PAGE_SIZE).unwrap(), 0..PAGE_SIZE, number * BLOCK)
                .await;
            if !result.is_ok_and(|bytes| bytes == PAGE_SIZE)
                || buffer.iter().any(|&byte| byte != number as u8 + 1)
            {
                lost.push(number);
            }
        }
        lost
    });
    read.expect("the check ends")
}

#[test]
fn a_careful_writer_never_loses_what_it_acknowledged() {
    for writer in [Writer::Durable, Writer::Synced, Writer::FileSystemSynced] {
        for seed in 0..150 {
            let faults = if seed % 2 == 0 {
                DiskFaults::default()
            } else {
                DiskFaults {
                    write_error: 0.01,
                    sync_error: 0.02,
                    short_write: 0.2,
                    would_block: 0.1,
                    interrupted: 0.1,
                    ..DiskFaults::default()
                }
            };
            assert_eq!(losses(writer, seed, faults), [], "seed {seed}");
        }
    }
}

#[test]
fn careless_writers_are_caught() {
    for (writer, sync_error) in [
        (Writer::NoSync, 0.0),
        (Writer::NoDirectorySync, 0.0),
        (Writer::SyncBesideTheWrite, 0.0),
        (Writer::DurableVouchesForEarlier, 0.0),
        (Writer::SyncAgainAfterFailure, 0.2),
    ] {
        let faults = DiskFaults {
            sync_error,
            ..DiskFaults::default()
        };
        let caught = (0..200)
            .filter(|&seed| !losses(writer, seed, faults.clone()).is_empty())
            .count();
        assert!(
            caught >= 10,
            "writer {} was caught by {caught} of 200 seeds",
            writer as u8
        );
    }
}

/// Runs a task on a good disk of 64 MiB.
fn with_disk<F, Fut, T>(seed: u64, main: F) -> (Simulator, HostId, T)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(64 << 20);
    let value = simulator.run(host, MEMORY, LIMIT, main).expect("the task ends");
    (simulator, host, value)
}

#[test]
fn kill_keeps_what_had_completed_without_any_flush() {
    for seed in 0..50 {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        let acknowledged = Notes::default();
        let notes = acknowledged.clone();
        simulator.start(host, MEMORY, move || append_blocks(Writer::NoSync, notes));
        simulator.run_for(Duration::from_millis(2));
        simulator.kill(host);
        let bytes = simulator.read_file(host, "/f").unwrap_or_default();
        for number in acknowledged.all() {
            assert_eq!(
                bytes[number as usize * PAGE_SIZE],
                number as u8 + 1,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn an_injected_error_comes_where_it_was_asked_for_and_then_no_more() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let injection = Injection {
        operation: DiskOperation::Write,
        path_contains: "f".to_owned(),
        after: 1,
        times: 1,
        errno: libc::ENOSPC,
    };
    simulator.inject(host, injection);
    let results = simulator.run(host, MEMORY, LIMIT, || async {
        let pool = Pool::new("blocks", 1 << 20).unwrap();
        let mut results = Vec::new();
        for path in ["/e", "/f"] {
            let file = File::open(path.as_ref(), CREATE).await.unwrap();
            for number in 0..3 {
                results.push(write(&file, &pool, number, Durability::Completed).await.is_ok());
            }
        }
        results
    });
    assert_eq!(results.unwrap(), [true, true, true, true, false, true]);
    assert_eq!(simulator.disk_counters(host).errors, 1);
}

#[test]
fn every_kind_of_fault_happens_and_is_counted() {
    let mut simulator = Simulator::new(4);
    let host = simulator.host(8 << 20);
    simulator.set_disk_faults(
        host,
        DiskFaults {
            read_error: 0.1,
            write_error: 0.1,
            sync_error: 0.1,
            name_error: 0.1,
            short_read: 0.2,
            short_write: 0.2,
            would_block: 0.1,
            interrupted: 0.1,
            stall: 0.05,
            stall_longest: Duration::from_secs(10),
            ..DiskFaults::default()
        },
    );
    let kinds = simulator.run(host, MEMORY, LIMIT, || async {
        let pool = Pool::new("blocks", 1 << 20).unwrap();
        let mut failed = BTreeSet::new();
        let file = loop {
            match File::open("/f".as_ref(), CREATE).await {
                Ok(file) => break file,
                Err(_) => failed.insert("open"),
            };
        };
        let begun = clock::now();
        for _ in 0..100 {
            let slice = block_of(&pool, 8).freeze(0..8 * PAGE_SIZE);
            if file
                .write_all_at(vec![slice], 0, Durability::Completed)
                .await
                .is_err()
            {
                failed.insert("write");
            }
            if file.sync_data().await.is_err() {
                failed.insert("sync");
            }
            let (read, _) = file.read_exact_at(block_of(&pool, 8), 0..8 * PAGE_SIZE, 0).await;
            if read.is_err() {
                failed.insert("read");
            }
            if directory::rename("/f".as_ref(), "/f".as_ref()).await.is_err() {
                failed.insert("rename");
            }
        }
        assert!(
            clock::now() - begun > Duration::from_secs(10),
            "stalls take virtual time"
        );
        failed
    });
    assert_eq!(
        kinds.unwrap().into_iter().filter(|kind| *kind != "open").count(),
        4
    );
    let counters = simulator.disk_counters(host);
    assert!(
        counters.errors > 20 && counters.disturbances > 20 && counters.stalls > 5,
        "{counters:?}"
    );
}

fn block_of(pool: &Pool, pages: usize) -> Buffer {
    pool.try_take(pages * PAGE_SIZE)
        .expect("a test's budget suffices")
}

#[test]
fn a_full_disk_refuses_writes_until_something_is_removed() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(16 * BLOCK);
    simulator.run(host, MEMORY, LIMIT, || async {
        let pool = Pool::new("blocks", 1 << 20).unwrap();
        let first = File::open("/first".as_ref(), CREATE).await.unwrap();
        first.allocate(0..10 * BLOCK, Allocate::KeepSize).await.unwrap();
        let second = File::open("/second".as_ref(), CREATE).await.unwrap();
        for number in 0..6 {
            write(&second, &pool, number, Durability::Completed)
                .await
                .unwrap();
        }
        let full = write(&second, &pool, 6, Durability::Completed).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let usable = async || {
            directory::volume("/".as_ref())
                .await
                .map(|volume| volume.usable_bytes)
        };
        assert_eq!(usable().await.unwrap(), 0);
        drop(first);
        directory::remove_file("/first".as_ref()).await.unwrap();
        assert_eq!(usable().await.unwrap(), 10 * BLOCK);
        write(&second, &pool, 6, Durability::Completed).await.unwrap();
    });
    assert_eq!(simulator.disk_bytes_free(host), 9 * BLOCK);
}

#[test]
fn new_extents_hold_what_the_disk_held_before() {
    let mut stale = 0;
    for seed in 0..100 {
        let (mut simulator, host, ()) = with_disk(seed, || async {
            let pool = Pool::new("blocks", 1 << 20).unwrap();
            // An old file, full of what could be taken for the new one's.
            let old = File::open("/old".as_ref(), CREATE).await.unwrap();
            for number in 0..8 {
                let slice = block(&pool, 200).freeze(0..PAGE_SIZE);
                old.write_all_at(vec![slice], number * BLOCK, Durability::Durable)
                    .await
                    .unwrap();
            }
            drop(old);
            directory::remove_file("/old".as_ref()).await.unwrap();
            let new = File::open("/new".as_ref(), CREATE).await.unwrap();
            directory::sync("/".as_ref()).await.unwrap();
            for number in 0..8 {
                write(&new, &pool, number, Durability::Completed).await.unwrap();
            }
        });
        simulator.power_cut_with(
            host,
            PowerCut {
                new: 0.0,
                unreadable: 0.0,
            },
        );
        let bytes = simulator.read_file(host, "/new").unwrap();
        for page in bytes.chunks(PAGE_SIZE) {
            assert!(
                page[0] == 0 || page[0] == 200,
                "seed {seed}: neither zeroes nor an old block"
            );
            stale += u32::from(page[0] == 200);
        }
    }
    assert!(stale > 50, "{stale} stale pages");
}

#[test]
fn locks_names_and_listings_work_as_on_a_real_file_system() {
    with_disk(1, || async {
        directory::create_all("/a/b".as_ref()).await.unwrap();
        let file = File::open("/a/b/f".as_ref(), CREATE).await.unwrap();
        let again = File::open("/a/b/f".as_ref(), CREATE).await.unwrap();
        assert!(file.try_lock().unwrap() && !again.try_lock().unwrap());
        drop(file);
        assert!(again.try_lock().unwrap());
        again.set_len(5000).await.unwrap();
        directory::rename("/a/b/f".as_ref(), "/a/g".as_ref())
            .await
            .unwrap();
        let names = directory::list("/a".as_ref()).await.unwrap();
        let names: Vec<_> = names
            .iter()
            .map(|entry| (entry.name.as_str(), entry.is_directory))
            .collect();
        assert_eq!(names, [("b", true), ("g", false)]);
        assert_eq!(again.len().await.unwrap(), 5000);
        assert!(!directory::exists("/a/b/f".as_ref()).await.unwrap());
        let missing = File::open(Path::new("/no/f"), CREATE).await.err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            directory::alignment("/a".as_ref()).await.unwrap().block_bytes,
            PAGE_SIZE
        );
        directory::remove_all("/a".as_ref()).await.unwrap();
        assert!(!directory::exists("/a/g".as_ref()).await.unwrap());
    });
}

#[test]
fn rot_is_seen_by_readers() {
    let (mut simulator, host, ()) = with_disk(1, || async {
        let pool = Pool::new("blocks", 1 << 20).unwrap();
        let file = File::open("/f".as_ref(), CREATE).await.unwrap();
        write(&file, &pool, 0, Durability::Durable).await.unwrap();
    });
    assert!(simulator.flip_bit(host, "/f", 4095, 0).unwrap());
    assert_eq!(simulator.read_file(host, "/f").unwrap()[4094..], [1, 0]);
    assert!(simulator.make_unreadable(host, "/f", 0).unwrap());
    let error = simulator.run(host, MEMORY, LIMIT, || async {
        let pool = Pool::new("blocks", 1 << 20).unwrap();
        let file = File::open("/f".as_ref(), CREATE).await.unwrap();
        file.read_at(block_of(&pool, 1), 0..PAGE_SIZE, 0)
            .await
            .0
            .unwrap_err()
            .raw_os_error()
    });
    // Of a direct read, what the device says.
    let error = error.expect("it ends").expect("an errno");
    assert!(
        [libc::EIO, libc::ENODATA, libc::EILSEQ].contains(&error),
        "{error}"
    );
    assert!(simulator.flip_bit(host, "/g", 0, 0).is_err());
}

#[test]
fn a_direct_read_finds_the_end_of_a_file_that_ends_within_a_block() {
    for seed in 0..20 {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        simulator.set_disk_faults(
            host,
            DiskFaults {
                short_read: 0.5,
                ..DiskFaults::default()
            },
        );
        simulator.run(host, MEMORY, LIMIT, || async {
            let pool = Pool::new("blocks", 1 << 20).unwrap();
            let file = File::open("/f".as_ref(), CREATE).await.unwrap();
            for number in 0..4 {
                write(&file, &pool, number, Durability::Completed).await.unwrap();
            }
            for ends_at in [4, 512, 1536, 4095] {
                let bytes = 3 * PAGE_SIZE + ends_at;
                file.set_len(bytes as u64).await.unwrap();
                let (result, buffer) = file.read_exact_at(block_of(&pool, 4), 0..4 * PAGE_SIZE, 0).await;
                assert_eq!((result.unwrap(), buffer[bytes - 1]), (bytes, 4));
                file.set_len(4 * BLOCK).await.unwrap();
                write(&file, &pool, 3, Durability::Completed).await.unwrap();
            }
        });
        assert!(simulator.disk_counters(host).disturbances > 0);
    }
}

#[test]
fn writes_can_be_lost_or_misdirected_without_a_word() {
    for (lost_write, misdirected_write) in [(1.0, 0.0), (0.0, 1.0)] {
        let mut simulator = Simulator::new(8);
        let host = simulator.host(64 << 20);
        let writes = |first: u64| {
            move || async move {
                let pool = Pool::new("blocks", 1 << 20).unwrap();
                let file = File::open("/f".as_ref(), CREATE).await.unwrap();
                for number in first..first + 8 {
                    let slice = block(&pool, number + 1).freeze(0..PAGE_SIZE);
                    file.write_all_at(vec![slice], number % 8 * BLOCK, Durability::Durable)
                        .await
                        .unwrap();
                }
            }
        };
        simulator.run(host, MEMORY, LIMIT, writes(0));
        simulator.set_disk_faults(
            host,
            DiskFaults {
                lost_write,
                misdirected_write,
                ..DiskFaults::default()
            },
        );
        simulator.run(host, MEMORY, LIMIT, writes(8));
        let bytes = simulator.read_file(host, "/f").unwrap();
        let found: Vec<u8> = bytes.chunks(PAGE_SIZE).map(|page| page[0]).collect();
        let (old, new) = ([1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16]);
        assert_ne!(found, new);
        assert_eq!(found == old, lost_write > 0.0, "{found:?}");
        assert_eq!(simulator.disk_counters(host).lies, 8);
    }
}

#[test]
fn a_read_over_a_bad_sector_fails_or_stops_before_it() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..20 {
        let (mut simulator, host, ()) = with_disk(seed, || async {
            let pool = Pool::new("blocks", 1 << 20).unwrap();
            let file = File::open("/f".as_ref(), CREATE).await.unwrap();
            for number in 0..4 {
                write(&file, &pool, number, Durability::Durable).await.unwrap();
            }
        });
        simulator.make_unreadable(host, "/f", 2 * BLOCK + 1000).unwrap();
        let (whole, exact) = simulator
            .run(host, MEMORY, LIMIT, || async {
                let pool = Pool::new("blocks", 1 << 20).unwrap();
                let file = File::open("/f".as_ref(), CREATE).await.unwrap();
                let (whole, buffer) = file.read_at(block_of(&pool, 4), 0..4 * PAGE_SIZE, 0).await;
                let (exact, _) = file.read_exact_at(buffer, 0..4 * PAGE_SIZE, 0).await;
                (whole.ok(), exact.is_err())
            })
            .unwrap();
        assert!(exact);
        outcomes.insert(whole);
    }
    assert_eq!(
        outcomes.into_iter().collect::<Vec<_>>(),
        [None, Some(2 * PAGE_SIZE)]
    );
}

#[test]
fn a_cut_within_a_page_keeps_the_bytes_before_it_through_a_flush_and_a_power_cut() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 20);
    simulator.run(host, 1 << 20, Duration::from_secs(1), || async {
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        let file = File::open("/f".as_ref(), options).await.unwrap();
        let bytes = vec![7; 8192].into();
        file.write_all_at(vec![bytes], 0, Durability::Completed)
            .await
            .unwrap();
        file.set_len(4096 + 238).await.unwrap();
        directory::sync_file_system("/".as_ref()).await.unwrap();
    });
    simulator.power_cut(host);
    assert_eq!(simulator.read_file(host, "/f").unwrap(), vec![7; 4096 + 238]);
}
