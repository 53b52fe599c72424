//! Rot and I/O errors: what was acknowledged is there, or the start says that it is not. Never less, in silence.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ring::buffer::Slice;
use ring::directory;
use ring::file::{Durability, File, OpenOptions};
use ring::simulator::{DiskOperation, HostId, Injection, Simulator, for_each_seed};
use storage::{ScrubOptions, StorageError};

use crate::life::{Plan, Shared, live, lock, open};
use crate::plain::load_either;
use crate::retention::{MEMORY_BYTES, open_with, segments};
use crate::scrub::{config, written};
use crate::{LIMIT, begin, memory_bytes, seeds};

pub(crate) const SHARDS: u32 = 1;
/// Of the simulated disk.
const BLOCK_BYTES: u64 = 4_096;

pub(crate) fn plan(number: u32) -> Plan {
    Plan {
        number,
        shards: SHARDS,
        layout: 0,
        stops_at: None,
        topics_change: false,
        scrubs: false,
    }
}

/// A life that ends in a kill, long after its last batch was published.
fn filled(seed: u64) -> (Simulator, HostId, Shared) {
    let (mut simulator, host, model) = begin(seed);
    let shared = model.clone();
    simulator.start(host, memory_bytes(SHARDS), move || async move {
        live(shared, plan(1)).await.expect("a good disk");
    });
    let is_full = |_: &Simulator| lock(&model).acknowledged >= 300;
    assert!(simulator.run_until(LIMIT, is_full));
    simulator.power_cut(host);
    (simulator, host, model)
}

/// Opens and checks everything, and stays long enough to vouch for it.
fn reopen(simulator: &mut Simulator, host: HostId, model: &Shared, number: u32) -> Result<(), StorageError> {
    reopen_as(simulator, host, model, plan(number))
}

/// The same, with any number of shards.
pub(crate) fn reopen_as(
    simulator: &mut Simulator,
    host: HostId,
    model: &Shared,
    plan: Plan,
) -> Result<(), StorageError> {
    let shared = model.clone();
    let opened = simulator.run(host, memory_bytes(plan.shards), LIMIT, move || async move {
        let opened = open(&shared, plan).await;
        ring::timer::sleep(Duration::from_millis(20)).await;
        opened.map(drop)
    });
    opened.expect("it ends")
}

fn path_of(simulator: &Simulator, host: HostId, name: &str) -> String {
    let files = simulator.files(host);
    let found = files.into_iter().find(|(path, _)| path.ends_with(name));
    found.unwrap_or_else(|| panic!("no file {name}")).0
}

#[test]
fn a_rotten_bit_in_the_journal_is_reported_or_was_not_needed() {
    // In few runs the rot may miss all that is needed.
    const RUNS_ENOUGH: u32 = 100;
    let (runs, reported) = (AtomicU32::new(0), AtomicU32::new(0));
    for_each_seed(seeds(), |seed| {
        let (mut simulator, host, model) = filled(seed);
        // Vouched for by now: a whole start, and the record that it publishes.
        reopen(&mut simulator, host, &model, 2).expect("a good disk");
        let path = path_of(&simulator, host, "/journal");
        let length = simulator
            .files(host)
            .into_iter()
            .find(|(name, _)| *name == path)
            .expect("a file")
            .1;
        let at = simulator.random_u64() % length;
        if simulator.random_u64().is_multiple_of(2) {
            let bit = (simulator.random_u64() % 8) as u8;
            simulator.flip_bit(host, &path, at, bit).expect("a file");
        } else {
            simulator
                .make_unreadable(host, &path, at - at % 512)
                .expect("a file");
        }
        match reopen(&mut simulator, host, &model, 3) {
            Ok(()) => {}
            Err(error @ StorageError::Corrupt { .. }) => {
                assert!(error.to_string().contains("journal"), "{error}");
                reported.fetch_add(1, Ordering::Relaxed);
                // It is no different when it is asked again: nothing was changed.
                assert!(reopen(&mut simulator, host, &model, 3).is_err());
            }
            Err(error) => panic!("{error}"),
        }
        runs.fetch_add(1, Ordering::Relaxed);
    });
    let (runs, reported) = (runs.into_inner(), reported.into_inner());
    assert!(
        runs < RUNS_ENOUGH || reported > 0,
        "no run has hit what was acknowledged"
    );
}

#[test]
fn one_rotten_superblock_or_checkpoint_costs_nothing() {
    for_each_seed(seeds(), |seed| {
        let (mut simulator, host, model) = filled(seed);
        reopen(&mut simulator, host, &model, 2).expect("a good disk");
        let (name, at) = match simulator.random_u64() % 4 {
            0 => ("/journal", simulator.random_u64() % 128),
            1 => ("/journal", 4_096 + simulator.random_u64() % 128),
            2 => ("/checkpoint-0", simulator.random_u64() % 64),
            _ => ("/checkpoint-1", simulator.random_u64() % 64),
        };
        let path = path_of(&simulator, host, name);
        assert!(simulator.flip_bit(host, &path, at, 3).expect("a file"));
        reopen(&mut simulator, host, &model, 3).unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
        let shared = model.clone();
        let mut more = plan(4);
        more.stops_at = Some((lock(&model).acknowledged + 300, 0));
        let ran = simulator.run(host, memory_bytes(SHARDS), LIMIT, move || live(shared, more));
        ran.expect("it ends").expect("it goes on");
        reopen(&mut simulator, host, &model, 5).expect("still whole");
    });
}

#[test]
fn after_an_io_error_nothing_more_is_acknowledged_and_nothing_promised_is_lost() {
    for_each_seed(seeds(), |seed| {
        let (mut simulator, host, model) = filled(seed);
        let operation = [DiskOperation::Write, DiskOperation::Sync, DiskOperation::Name]
            [(simulator.random_u64() % 3) as usize];
        let after = (simulator.random_u64() % 200) as u32;
        simulator.inject(
            host,
            Injection {
                operation,
                path_contains: String::new(),
                after,
                times: 1,
                errno: 5,
            },
        );
        let shared = model.clone();
        let mut until = plan(2);
        until.stops_at = Some((lock(&model).acknowledged + 400, 0));
        // It may end well (the error came too late, or where it could be borne), with the error, or stand still.
        simulator.start(host, memory_bytes(SHARDS), move || async move {
            let _ = live(shared, until).await;
        });
        let errors = simulator.disk_counters(host).errors;
        let has_failed = |simulator: &Simulator| simulator.disk_counters(host).errors > errors;
        simulator.run_until(Duration::from_secs(2), has_failed);
        // Before a migration has made good what the journal does not have, or after.
        let more = simulator.random_u64() % 30;
        let enough = lock(&model).acknowledged + more;
        simulator.run_until(Duration::from_secs(2), |_| lock(&model).acknowledged > enough);
        simulator.power_cut(host);
        simulator.heal_disk(host);
        reopen(&mut simulator, host, &model, 3).expect("a healed disk");
    });
}

#[test]
fn a_read_that_fails_once_or_more_loses_nothing() {
    for_each_seed(seeds(), |seed| {
        let (mut simulator, host, model) = filled(seed);
        let path = ["", "/journal", "/journals/", "/manifest"][(simulator.random_u64() % 4) as usize];
        let injection = Injection {
            operation: DiskOperation::Read,
            path_contains: path.to_owned(),
            after: (simulator.random_u64() % 24) as u32,
            times: 1 + (simulator.random_u64() % 4) as u32,
            errno: 5,
        };
        simulator.inject(host, injection.clone());
        // It is borne, or the start is refused: never is something else believed instead.
        let _ = reopen(&mut simulator, host, &model, 2);
        simulator.heal_disk(host);
        if let Err(error) = reopen(&mut simulator, host, &model, 3) {
            panic!("{injection:?}: {error}");
        }
    });
}

#[test]
fn an_unreadable_manifest_or_properties_file_is_never_taken_for_a_new_directory() {
    for name in ["/data/manifest", "/data/meta.properties"] {
        let (mut simulator, host, model) = begin(1);
        let shared = model.clone();
        simulator.start(host, memory_bytes(SHARDS), move || async move {
            live(shared, plan(1)).await.expect("a good disk");
        });
        // Too little for a migration: all of it is in the journal, and no partition has a directory.
        assert!(simulator.run_until(LIMIT, |_| lock(&model).acknowledged >= 10));
        simulator.kill(host);
        let before = simulator.files(host);
        assert!(before.iter().all(|(path, _)| !path.ends_with(".log")));
        assert!(simulator.make_unreadable(host, name, 0).expect("a file"));
        let error = reopen(&mut simulator, host, &model, 2).expect_err("it cannot be read");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(simulator.files(host), before, "{name}: something was changed");
    }
}

/// What is served of a log from each of its offsets on: whole batches, or nothing if they cannot be read.
fn served(simulator: &mut Simulator, host: HostId) -> Vec<Option<Vec<u8>>> {
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let (_directory, shard, log) = open_with(config(), ScrubOptions::OFF).await;
        let mut served = Vec::new();
        for offset in 0..log.high_watermark() {
            let extent = log
                .read(offset, 40_000, true, log.high_watermark())
                .expect("there");
            assert!(!extent.is_in_memory());
            let loaded = load_either(&log, extent).await.ok();
            served.push(loaded.map(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect()));
        }
        shard.stop().await.expect("stopped");
        served
    });
    ended.expect("it ends")
}

#[test]
fn rot_is_never_served_and_keeps_no_more_from_being_served_than_what_is_around_it() {
    for_each_seed(seeds(), |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        written(&mut simulator, host, 60);
        let whole = served(&mut simulator, host);
        assert!(whole.iter().all(Option::is_some));
        let mut logs = segments(&simulator, host);
        logs.retain(|(path, _)| path.ends_with(".log"));
        // What is behind the last whole block of the segment that is written to, a start has from its checkpoint.
        logs.sort();
        logs.last_mut().expect("a segment").1 &= !(BLOCK_BYTES - 1);
        logs.retain(|(_, bytes)| *bytes > 0);
        let (path, bytes) = logs[simulator.random_u64() as usize % logs.len()].clone();
        // A third of the time in what no CRC covers.
        let at = match simulator.random_u64() % 6 {
            0 => simulator.random_u64() % 8,
            1 => 12 + simulator.random_u64() % 4,
            // Where a batch says how far it goes: beyond what may be read, maybe.
            2 => 23 + simulator.random_u64() % 4,
            _ => simulator.random_u64() % bytes,
        };
        let bit = (simulator.random_u64() % 8) as u8;
        assert!(simulator.flip_bit(host, &path, at, bit).expect("a file"));
        let rotten = served(&mut simulator, host);
        let what = format!("{path}, byte {at}, bit {bit}");
        assert_eq!(rotten.len(), whole.len(), "{what}");
        let mut refused = 0;
        for (offset, (rotten, whole)) in rotten.iter().zip(&whole).enumerate() {
            match rotten {
                // It may end before the damage, and either where a tile does.
                Some(rotten) => assert!(
                    !rotten.is_empty()
                        && (whole.as_ref())
                            .is_some_and(|whole| whole.starts_with(rotten) || rotten.starts_with(whole)),
                    "{what}: something else is served from offset {offset} on"
                ),
                None => refused += 1,
            }
        }
        assert!(refused > 0, "{what}: it is served");
        // Of those behind it, the ones that an index leads to only through it.
        assert!(
            refused < 10,
            "{what}: {refused} of {} are not served",
            whole.len()
        );
    });
}

#[test]
fn rot_in_an_index_costs_time_and_no_record() {
    for_each_seed(seeds(), |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        written(&mut simulator, host, 60);
        let whole = served(&mut simulator, host);
        // Of closed segments, and of the one that is written to.
        let mut indexes = segments(&simulator, host);
        indexes.retain(|(path, bytes)| path.ends_with("index") && *bytes > 0);
        let mut what = Vec::new();
        for (path, bytes) in indexes {
            let chance = simulator.random_u64();
            let at = chance / 16 % bytes;
            let damage = chance % 6;
            what.push((path.clone(), at, damage));
            match damage {
                0 => continue,
                1 => assert!(simulator.flip_bit(host, &path, at, 3).expect("a file")),
                2 => assert!(simulator.make_unreadable(host, &path, at).expect("a file")),
                _ => {}
            }
            let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
                if damage == 3 {
                    return directory::remove_file(path.as_ref()).await;
                }
                let options = OpenOptions {
                    write: true,
                    ..OpenOptions::default()
                };
                let file = File::open(path.as_ref(), options).await?;
                match damage {
                    4 => file.set_len(at).await,
                    5 => {
                        let nonsense = vec![Slice::from(vec![0xee; bytes as usize])];
                        file.write_all_at(nonsense, 0, Durability::Completed).await
                    }
                    _ => Ok(()),
                }
            });
            ended.expect("it ends").expect("damaged");
        }
        for (offset, (now, whole)) in served(&mut simulator, host).iter().zip(&whole).enumerate() {
            let now = now.as_deref().unwrap_or_default();
            let whole = whole.as_deref().unwrap_or_default();
            assert!(
                !now.is_empty() && (whole.starts_with(now) || now.starts_with(whole)),
                "{what:?}: offset {offset}"
            );
        }
    });
}
