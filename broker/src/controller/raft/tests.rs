//! The log in the simulator: crashes, power cuts, rot.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ring::simulator::{HostId, Simulator};

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
