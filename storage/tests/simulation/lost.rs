//! Files that say what a directory is, lost or put back from an old copy: the start is refused, and nothing is changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ring::buffer::Slice;
use ring::directory;
use ring::file::{Durability, File, OpenOptions};
use ring::simulator::{DiskOperation, HostId, Injection, PowerCut, Simulator, for_each_seed};

use crate::life::{DATA, Plan, Shared, live, lock};
use crate::plain::{self, Place};
use crate::rot::{SHARDS, plan, reopen_as};
use crate::{LIMIT, begin, memory_bytes};

const MANIFEST: &str = "/data/manifest";
const PROPERTIES: &str = "/data/meta.properties";

/// What is left of a file: nothing, or these bytes.
fn put(simulator: &mut Simulator, host: HostId, path: &'static str, bytes: Option<Vec<u8>>) {
    let done = simulator.run(host, memory_bytes(SHARDS), LIMIT, move || async move {
        let options = OpenOptions {
            write: true,
            create: true,
            truncate: true,
            ..OpenOptions::default()
        };
        match bytes {
            None => directory::remove_file(Path::new(path)).await.expect("removed"),
            Some(bytes) => {
                let file = File::open(Path::new(path), options).await.expect("opened");
                file.write_all_at(vec![Slice::from(bytes)], 0, Durability::Durable)
                    .await
                    .expect("written");
                file.sync_all().await.expect("flushed");
            }
        }
        directory::sync(Path::new(DATA)).await.expect("flushed");
    });
    done.expect("it ends");
}

/// Lives as `plan` says until `acknowledged` more batches are, and is killed.
fn live_until(simulator: &mut Simulator, host: HostId, model: &Shared, plan: Plan, acknowledged: u64) {
    let enough = lock(model).acknowledged + acknowledged;
    let shared = model.clone();
    simulator.start(host, memory_bytes(plan.shards), move || async move {
        live(shared, plan).await.expect("a good disk");
    });
    assert!(simulator.run_until(LIMIT, |_| lock(model).acknowledged >= enough));
    simulator.kill(host);
}

/// The start says that it is about `path`, and leaves every file as it was.
fn is_refused(simulator: &mut Simulator, host: HostId, model: &Shared, plan: Plan, path: &str) -> String {
    let before = simulator.files(host);
    let error = reopen_as(simulator, host, model, plan).expect_err("refused");
    let error = error.to_string();
    assert!(error.contains(path), "{error}");
    let without_lock = |files: Vec<(String, u64)>| -> Vec<(String, u64)> {
        files
            .into_iter()
            .filter(|(name, _)| !name.ends_with(".lock"))
            .collect()
    };
    assert_eq!(
        without_lock(simulator.files(host)),
        without_lock(before),
        "{error}: something was changed"
    );
    error
}

fn has(simulator: &Simulator, host: HostId, name: &str) -> bool {
    simulator.files(host).iter().any(|(path, _)| path.contains(name))
}

/// Stops another number of shards being made as soon as `is_there`.
fn reshard_until(
    simulator: &mut Simulator,
    host: HostId,
    model: &Shared,
    is_there: impl Fn(&Simulator) -> bool,
) -> Plan {
    let two = Plan {
        shards: 2,
        layout: 1,
        ..plan(2)
    };
    let shared = model.clone();
    simulator.start(host, memory_bytes(2), move || async move {
        live(shared, two).await.expect("a good disk");
    });
    assert!(simulator.run_until(LIMIT, is_there));
    simulator.kill(host);
    two
}

#[test]
fn a_lost_or_empty_manifest_or_properties_file_is_never_taken_for_a_new_directory() {
    for path in [MANIFEST, PROPERTIES] {
        for left in [None, Some(Vec::new())] {
            let is_missing = left.is_none();
            let (mut simulator, host, model) = begin(1);
            // Too little for a migration: all of it is in the journal, and no partition has a directory.
            live_until(&mut simulator, host, &model, plan(1), 10);
            assert!(!has(&simulator, host, ".log"));
            let whole = simulator.read_file(host, path).expect("a file");
            put(&mut simulator, host, path, left);
            let error = is_refused(&mut simulator, host, &model, plan(2), path);
            assert_eq!(error.contains("missing"), is_missing, "{error}");
            put(&mut simulator, host, path, Some(whole));
            reopen_as(&mut simulator, host, &model, plan(3)).expect("put back");
        }
    }
}

#[test]
fn an_old_manifest_from_a_copy_costs_no_newer_journal() {
    let (mut simulator, host, model) = begin(2);
    live_until(&mut simulator, host, &model, plan(1), 10);
    let old = simulator.read_file(host, MANIFEST).expect("a file");
    let two = Plan {
        shards: 2,
        layout: 1,
        ..plan(2)
    };
    live_until(&mut simulator, host, &model, two, 10);
    let newest = simulator.read_file(host, MANIFEST).expect("a file");
    put(&mut simulator, host, MANIFEST, Some(old));
    for shards in [1, 2] {
        is_refused(&mut simulator, host, &model, Plan { shards, ..two }, MANIFEST);
    }
    put(&mut simulator, host, MANIFEST, Some(newest));
    reopen_as(&mut simulator, host, &model, two).expect("put back");
}

#[test]
fn what_a_crash_left_of_another_number_of_shards_is_removed() {
    // Before the manifest names the new journals, and after.
    for (is_after, gone) in [(false, "/journals/2-"), (true, "/journals/1-")] {
        let (mut simulator, host, model) = begin(3);
        live_until(&mut simulator, host, &model, plan(1), 10);
        let old = simulator.read_file(host, MANIFEST).expect("a file");
        let two = reshard_until(&mut simulator, host, &model, |simulator| {
            let is_renamed = simulator.read_file(host, MANIFEST).is_ok_and(|now| now != old);
            has(simulator, host, "/journals/2-1/journal") && is_renamed == is_after
        });
        assert!(has(&simulator, host, "/journals/1-0/journal"));
        let again = if is_after { two } else { plan(2) };
        reopen_as(&mut simulator, host, &model, again).expect("as it was, or as it shall be");
        assert!(!has(&simulator, host, gone), "{gone} is still there");
    }
}

#[test]
fn new_journals_that_hold_all_that_there_is_are_not_removed_although_no_start_has_begun_them() {
    let (mut simulator, host, model) = begin(4);
    live_until(&mut simulator, host, &model, plan(1), 10);
    let old = simulator.read_file(host, MANIFEST).expect("a file");
    // As soon as the old ones are gone.
    let two = reshard_until(&mut simulator, host, &model, |simulator| {
        !has(simulator, host, "/journals/1-0/journal")
    });
    let newest = simulator.read_file(host, MANIFEST).expect("a file");
    for lost in [None, Some(old)] {
        put(&mut simulator, host, MANIFEST, lost);
        is_refused(&mut simulator, host, &model, two, DATA);
    }
    put(&mut simulator, host, MANIFEST, Some(newest));
    reopen_as(&mut simulator, host, &model, two).expect("put back");
}

#[test]
fn a_copy_of_a_journal_beside_the_others_is_refused_and_stays() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, 64 << 20, LIMIT, || async {
        let opened = plain::open(Place::default(), vec![plain::spec(7, "topic")])
            .await
            .expect("opened");
        opened.shard.stop().await.expect("stopped");
        for name in ["backup", "lost+found"] {
            let path = Path::new(DATA).join("journals").join(name);
            let made = directory::create_all(&path);
            made.await.expect("made");
        }
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        let copy = Path::new(DATA).join("journals/backup/journal");
        File::open(&copy, options).await.expect("made");
        drop(opened);
        let refused = plain::open(Place::default(), vec![plain::spec(7, "topic")])
            .await
            .err();
        let refused = refused.expect("it is refused").to_string();
        assert!(
            refused.contains("journals/backup") && refused.contains("Move it out"),
            "{refused}"
        );
        assert!(
            directory::exists(&copy).await.expect("looked at"),
            "it was removed"
        );
        directory::remove_file(&copy).await.expect("removed");
        // What is no journal is nobody's business.
        plain::open(Place::default(), vec![plain::spec(7, "topic")])
            .await
            .expect("opened");
    });
    ended.expect("it ends");
}

#[test]
fn a_first_start_that_is_killed_and_a_second_that_the_power_ends_leave_a_directory_that_opens() {
    for_each_seed(0..200, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        let starting = || async {
            let opened = plain::open(Place::default(), vec![plain::spec(7, "topic")]).await;
            opened.expect("opened").shard.stop().await.expect("stopped");
        };
        for ends_with_power in [false, true] {
            simulator.start(host, 64 << 20, starting);
            let lived = Duration::from_micros(simulator.random_u64() % 4_000);
            simulator.run_for(lived);
            if ends_with_power {
                simulator.power_cut(host);
            } else {
                simulator.kill(host);
            }
        }
        simulator.run(host, 64 << 20, LIMIT, starting).expect("it ends");
    });
}

#[test]
fn without_a_whole_checkpoint_a_start_is_refused_and_says_what_helps() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let open = || async { plain::open(Place::default(), vec![plain::spec(7, "topic")]).await };
    let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
        let opened = open().await.expect("opened");
        plain::append(&opened.log(7), &plain::batch(1, 100))
            .await
            .expect("appended");
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    for (number, is_taken) in [(0, true), (1, false)] {
        let path = format!("/data/journals/1-0/checkpoint-{number}");
        assert!(simulator.flip_bit(host, path, 20, 0).expect("a file"));
        let before = simulator.files(host);
        let opened = simulator.run(host, 64 << 20, LIMIT, move || async move {
            open().await.map(drop).map_err(|error| error.to_string())
        });
        match opened.expect("it ends") {
            Ok(()) => assert!(is_taken),
            Err(error) => {
                assert!(!is_taken, "{error}");
                assert!(
                    error.contains("checkpoint-") && error.contains("whole data directory"),
                    "{error}"
                );
                assert_eq!(simulator.files(host), before, "{error}: something was changed");
            }
        }
    }
}

#[test]
fn a_checkpoint_that_could_not_be_read_once_is_not_begun_from_later() {
    // The start that could not read it migrates again what it says is there.
    for_each_seed(0..60, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let specs = || vec![plain::spec(7, "topic")];
        let lives = |simulator: &mut Simulator, until: i64, runs: Duration| {
            let end = Arc::new(AtomicI64::new(0));
            let told = end.clone();
            simulator.start(host, 64 << 20, move || async move {
                let opened = plain::open(Place::default(), specs()).await.expect("opened");
                let log = opened.log(7);
                loop {
                    let offset = plain::append(&log, &plain::batch(1, 3_000))
                        .await
                        .expect("acknowledged");
                    told.store(offset + 1, Ordering::Relaxed);
                }
            });
            assert!(simulator.run_until(LIMIT, |_| end.load(Ordering::Relaxed) >= until));
            simulator.run_for(runs);
            end.load(Ordering::Relaxed)
        };
        // A few checkpoints; then it is killed, and a disk has a bad moment.
        lives(&mut simulator, 3_000, Duration::from_micros(seed * 100));
        simulator.kill(host);
        let newest = simulator.random_u64() % 2;
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Read,
                path_contains: format!("/checkpoint-{newest}"),
                after: 0,
                times: 1,
                errno: 5,
            },
        );
        let runs = Duration::from_micros(simulator.random_u64() % 30_000);
        let end = lives(&mut simulator, 1, runs);
        let unreadable = PowerCut {
            new: 0.5,
            unreadable: 0.5,
        };
        simulator.power_cut_with(host, unreadable);
        simulator.heal_disk(host);
        let ended = simulator.run(host, 64 << 20, LIMIT, move || async move {
            let opened = plain::open(Place::default(), specs()).await.expect("opened");
            let log = opened.log(7);
            assert!(log.log_end_offset() >= end);
            let mut offset = 0;
            while offset < end {
                let found = plain::read(&log, offset).await.expect("it can be read");
                assert_eq!(found.first(), Some(&offset));
                offset += found.len() as i64;
            }
        });
        ended.expect("it ends");
    });
}
