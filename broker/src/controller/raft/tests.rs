//! The log in the simulator: crashes, power cuts, rot.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{HostId, Simulator};

use super::files::Files;
use super::{MetadataLog, MetadataRecord};

const MEMORY_BYTES: usize = 16 << 20;
const LIMIT: Duration = Duration::from_secs(600);

fn simulator(seed: u64) -> (Simulator, HostId) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    // The data directory is there, durably, before the log is opened: who opens the log sees to it.
    let made = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        ring::directory::create_all("/data".as_ref()).await?;
        ring::directory::sync("/".as_ref()).await
    });
    made.expect("it ends").expect("a good disk");
    (simulator, host)
}

fn leased(next: i64) -> Vec<MetadataRecord> {
    vec![MetadataRecord::ProducerIdsLeased { next }]
}

/// Opens the log, proposes up to producer id `up_to`, and tells what it found, and what it has.
fn open_and_lease(simulator: &mut Simulator, host: HostId, count: i64) -> Result<(i64, i64), String> {
    let ran = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let log = MetadataLog::open("/data".as_ref(), 1)
            .await
            .map_err(|error| error.to_string())?;
        let found = log.with(|metadata| metadata.next_producer_id);
        let mut next = found;
        let version = log.version();
        for step in 1..=count {
            next += 1;
            log.propose(leased(next))
                .await
                .map_err(|error| error.to_string())?;
            assert_eq!(log.with(|metadata| metadata.next_producer_id), next);
            assert_eq!(log.version(), version + step as u64);
        }
        log.close().await;
        Ok((found, next))
    });
    ran.expect("it ends")
}

#[test]
fn what_was_proposed_is_there_after_a_restart() {
    let (mut simulator, host) = simulator(1);
    assert_eq!(open_and_lease(&mut simulator, host, 3), Ok((0, 3)));
    assert_eq!(open_and_lease(&mut simulator, host, 3), Ok((3, 6)));
    assert_eq!(open_and_lease(&mut simulator, host, 0), Ok((6, 6)));
}

#[test]
fn the_log_is_bounded_by_snapshots() {
    let (mut simulator, host) = simulator(2);
    assert_eq!(open_and_lease(&mut simulator, host, 2_500), Ok((0, 2_500)));
    let length = |name: &str| {
        let files = simulator.files(host);
        let found = files.iter().find(|(path, _)| path.ends_with(name));
        found.map(|(_, bytes)| *bytes)
    };
    assert!(length("metadata/snapshot").is_some());
    assert!(length("metadata/log").expect("a log") < 9_000_000);
    assert_eq!(open_and_lease(&mut simulator, host, 1), Ok((2_500, 2_501)));
}

#[test]
fn acknowledged_records_survive_power_cuts() {
    ring::simulator::for_each_seed(0..200, |seed| {
        let (mut simulator, host) = simulator(seed);
        let promised = Arc::new(AtomicI64::new(0));
        for _ in 0..4 {
            let promise = promised.clone();
            simulator.start(host, MEMORY_BYTES, move || async move {
                let log = MetadataLog::open("/data".as_ref(), 1).await.expect("a start");
                let mut next = log.with(|metadata| metadata.next_producer_id);
                assert!(
                    next >= promise.load(Ordering::Relaxed),
                    "an acknowledged record is gone"
                );
                loop {
                    next += 1;
                    log.propose(leased(next)).await.expect("a good disk");
                    promise.store(next, Ordering::Relaxed);
                }
            });
            // Some die as they start, some after a while.
            if !simulator.random_u64().is_multiple_of(4) {
                let goal = promised.load(Ordering::Relaxed) + 1 + (simulator.random_u64() % 30) as i64;
                let promise = promised.clone();
                assert!(simulator.run_until(LIMIT, move |_| promise.load(Ordering::Relaxed) >= goal));
            }
            let more = Duration::from_micros(simulator.random_u64() % 10_000);
            simulator.run_for(more);
            if simulator.random_u64().is_multiple_of(3) {
                simulator.kill(host);
            } else {
                simulator.power_cut(host);
            }
        }
        let (found, _) = open_and_lease(&mut simulator, host, 1).expect("a start");
        assert!(found >= promised.load(Ordering::Relaxed));
    });
}

#[test]
fn rot_below_durable_evidence_refuses_to_start_and_says_where() {
    let (mut simulator, host) = simulator(4);
    open_and_lease(&mut simulator, host, 3).expect("a good start");
    let before = simulator.read_file(host, "/data/metadata/log").expect("a log");
    simulator
        .flip_bit(host, "/data/metadata/log", 4_096 + 9, 3)
        .expect("a file");
    let error = open_and_lease(&mut simulator, host, 0).expect_err("refused");
    assert!(
        error.contains("/data/metadata/log") && error.contains("offset"),
        "{error}"
    );
    let after = simulator.read_file(host, "/data/metadata/log").expect("a log");
    assert_eq!(before.len(), after.len(), "nothing was changed");
}

/// Blocks of it could come back as part of a later write that tears.
#[test]
fn nothing_of_a_torn_tail_is_left_in_the_file() {
    const TORN: [u8; 64] = [0xa5; 64];
    const PATH: &str = "/data/metadata/log";
    let (mut simulator, host) = simulator(5);
    assert_eq!(open_and_lease(&mut simulator, host, 3), Ok((0, 3)));
    let end = simulator.read_file(host, PATH).expect("a log").len() as u64;
    let written = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let options = ring::file::OpenOptions {
            write: true,
            ..ring::file::OpenOptions::default()
        };
        let file = ring::file::File::open(PATH.as_ref(), options).await?;
        let torn = ring::buffer::Slice::from(TORN.repeat(1_024));
        file.write_all_at(vec![torn], end, ring::file::Durability::Durable)
            .await
    });
    written.expect("it ends").expect("a good disk");
    assert_eq!(open_and_lease(&mut simulator, host, 0), Ok((3, 3)));
    let after = simulator.read_file(host, PATH).expect("a log");
    let is_left = after.windows(64).any(|bytes| bytes == TORN);
    assert!(!is_left, "some of it is in the {} bytes", after.len());
    assert_eq!(open_and_lease(&mut simulator, host, 1), Ok((3, 4)));
}

/// Takes all room that there is, and leases producer ids until it is told not to wait for more. Gives the error.
fn lease_on_a_full_disk(
    simulator: &mut Simulator,
    host: HostId,
    leased_to: &Arc<AtomicI64>,
    stop: &Arc<AtomicBool>,
) -> Arc<Mutex<String>> {
    let error = Arc::new(Mutex::new(String::new()));
    let (told, leased_to, stop) = (error.clone(), leased_to.clone(), stop.clone());
    simulator.start(host, MEMORY_BYTES, move || async move {
        let log = MetadataLog::open("/data".as_ref(), 1).await.expect("a start");
        let waits_for_room = log.waits_for_room();
        waits_for_room.set(true);
        spawn(Class::Latency, async move {
            while !stop.load(Ordering::Relaxed) {
                ring::timer::sleep(Duration::from_millis(10)).await;
            }
            waits_for_room.set(false);
        })
        .detach();
        let options = ring::file::OpenOptions {
            write: true,
            create: true,
            ..ring::file::OpenOptions::default()
        };
        let file = ring::file::File::open("/data/records".as_ref(), options).await;
        let file = file.expect("a good disk");
        let mut end = 0;
        let taken = loop {
            let some = ring::buffer::Slice::from(vec![7; 4_096]);
            match file
                .write_all_at(vec![some], end, ring::file::Durability::Completed)
                .await
            {
                Ok(()) => end += 4_096,
                Err(error) => break error,
            }
        };
        assert_eq!(taken.kind(), std::io::ErrorKind::StorageFull);
        let mut next = log.with(|metadata| metadata.next_producer_id);
        let failed = loop {
            next += 1;
            match log.propose(leased(next)).await {
                Ok(()) => leased_to.store(next, Ordering::Relaxed),
                Err(error) => break error.to_string(),
            }
        };
        *told.lock().expect("it runs") = failed;
        std::future::pending::<()>().await;
    });
    error
}

#[test]
fn a_full_disk_takes_some_changes_and_keeps_the_others_waiting() {
    ring::simulator::for_each_seed(0..20, |seed| {
        let (mut simulator, host) = simulator(seed);
        simulator.set_disk_bytes(host, 8 << 20);
        let (leased_to, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let leased = || leased_to.load(Ordering::Relaxed);
        let error = lease_on_a_full_disk(&mut simulator, host, &leased_to, &stop);
        simulator.run_for(Duration::from_secs(60));
        let on_a_full_disk = leased();
        assert!(
            (64..=128).contains(&on_a_full_disk),
            "{on_a_full_disk} changes were taken"
        );
        simulator.run_for(Duration::from_secs(60));
        assert_eq!(leased(), on_a_full_disk, "it was not full");
        if seed % 2 == 0 {
            // With room it goes on, beyond a snapshot.
            simulator.set_disk_bytes(host, 256 << 20);
            assert!(simulator.run_until(LIMIT, |_| leased() > 2_000));
        } else {
            stop.store(true, Ordering::Relaxed);
            assert!(simulator.run_until(LIMIT, |_| !error.lock().expect("it runs").is_empty()));
            let error = error.lock().expect("it runs").clone();
            assert!(error.contains("space"), "{error}");
        }
        simulator.power_cut(host);
        simulator.set_disk_bytes(host, 256 << 20);
        let (found, _) = open_and_lease(&mut simulator, host, 1).expect("a start");
        assert!(found >= leased());
    });
}

#[test]
fn without_descriptors_files_wait_until_they_can_be_opened() {
    let (mut simulator, host) = simulator(1);
    let stage = Arc::new(AtomicI64::new(0));
    let told = stage.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let files = Files::open("/data/metadata".into()).await.expect("a good disk");
        files.waits_for_room().set(true);
        told.store(1, Ordering::Relaxed);
        ring::timer::sleep(Duration::from_secs(60)).await;
        files
            .replace("file", b"bytes".to_vec())
            .await
            .expect("in the end");
        told.store(2, Ordering::Relaxed);
        std::future::pending::<()>().await;
    });
    let is = |wanted: i64| stage.load(Ordering::Relaxed) == wanted;
    assert!(simulator.run_until(LIMIT, |_| is(1)));
    simulator.set_descriptors_max(host, 0);
    simulator.run_for(Duration::from_secs(120));
    assert!(is(1));
    simulator.set_descriptors_max(host, usize::MAX);
    assert!(simulator.run_until(LIMIT, |_| is(2)));
    simulator.power_cut(host);
    let bytes = simulator
        .read_file(host, "/data/metadata/file")
        .expect("it is there");
    assert_eq!(bytes, b"bytes");
}
