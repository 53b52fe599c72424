//! The log under power cuts, kills and restarts with another number of shards, against a model of what was promised.
//!
//! `cargo test --release -p millstream-storage --test simulation`; `MILLSTREAM_SEEDS=0..1000` for the long form,
//! `MILLSTREAM_SEED=N` to repeat one run.

mod backlog;
mod cached;
mod chain;
mod deleted;
mod descriptors;
mod dropped;
mod first_start;
mod flushes;
mod full_disk;
mod leftovers;
mod life;
mod looked_at;
mod lost;
mod memory;
mod model;
mod plain;
mod reserved;
mod retention;
mod reused;
mod rot;
mod scrub;
mod unflushed;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::simulator::{DiskFaults, HostId, Simulator, for_each_seed};

use crate::life::{LOG_MEMORY_BYTES, Plan, Shared, live, lock};
use crate::model::{Kept, Model};

/// Of virtual time, for anything that must end.
const LIMIT: Duration = Duration::from_secs(600);
const DISK_BYTES: u64 = 1 << 30;
/// Batches that a run acknowledges at least.
const BATCHES: u64 = 2_000;
/// Crashes that a run has at least.
const CRASHES: u32 = 3;
/// Times that a journal is written from one end to the other at least.
const LAPS: u64 = 2;
const TOPICS: usize = 3;
/// Read again by the scrubber in most runs: some segments, which are there while others come and go.
const SCRUBBED_BYTES: u64 = 1 << 20;
/// Runs; those in which some batches were written to their segments at once, and those in which segments were read again.
static RUNS: AtomicU64 = AtomicU64::new(0);
static DIRECT_RUNS: AtomicU64 = AtomicU64::new(0);
static SCRUBBED_RUNS: AtomicU64 = AtomicU64::new(0);
/// Batches that were acknowledged when they were written, and that a power cut has taken back.
static TAKEN_BACK: AtomicU64 = AtomicU64::new(0);

fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("MILLSTREAM_SEEDS") else {
        return 0..if cfg!(debug_assertions) { 16 } else { 200 };
    };
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from < to => from..to,
        _ => panic!("MILLSTREAM_SEEDS={asked}: say a count, or FROM..TO"),
    }
}

pub(crate) fn memory_bytes(shards: u32) -> usize {
    (shards as usize + 1) * LOG_MEMORY_BYTES + (8 << 20)
}

/// A host with an empty data directory's parent, and a model with a few topics.
pub(crate) fn begin(seed: u64) -> (Simulator, HostId, Shared) {
    begin_with(seed, false)
}

/// The same; some of the topics may be flushed after they are acknowledged.
fn begin_with(seed: u64, flushes_later: bool) -> (Simulator, HostId, Shared) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(DISK_BYTES);
    let mut model = Model {
        flushes_later,
        ..Model::default()
    };
    for _ in 0..TOPICS {
        model.add_topic();
    }
    (simulator, host, Arc::new(Mutex::new(model)))
}

/// One run; its trace, and how often more was removed than anybody had asked for.
fn run(seed: u64, kept: Kept) -> (u64, u32) {
    // Where none is, each record is flushed with its own write.
    let (mut simulator, host, model) = begin_with(seed, (seed / 2) % 2 == 1);
    lock(&model).kept = kept;
    let mut crashes = 0;
    let mut number = 0;
    let (mut shards, mut layout) = (2, 0);
    loop {
        number += 1;
        assert!(number < 500, "no progress: {:?}", lock(&model).acknowledged);
        disturb(&mut simulator, host);
        let is_enough = lock(&model).acknowledged >= BATCHES && crashes >= CRASHES;
        if simulator.random_u64().is_multiple_of(6) {
            let before = std::mem::replace(&mut shards, 1 + (simulator.random_u64() % 3) as u32);
            layout += u32::from(before != shards);
        }
        let plan = Plan {
            number,
            shards,
            layout,
            stops_at: is_enough.then_some((BATCHES + 20, LAPS)),
            topics_change: simulator.random_u64().is_multiple_of(2),
            scrubs: true,
        };
        let (before, shared) = (lock(&model).lives, model.clone());
        if is_enough {
            let ended = simulator.run(host, memory_bytes(shards), LIMIT, move || live(shared, plan));
            ended.expect("it ends").expect("a good disk");
            break;
        }
        simulator.start(host, memory_bytes(shards), move || async move {
            // Ends only with an error, which this disk has no reason for.
            live(shared, plan).await.expect("a good disk");
        });
        let longest_us = [500, 5_000, 60_000, 400_000][(simulator.random_u64() % 4) as usize];
        let lives_us = simulator.random_u64() % longest_us;
        simulator.run_for(Duration::from_micros(lives_us));
        assert!(simulator.is_running(host), "it ended by itself");
        if simulator.random_u64().is_multiple_of(4) {
            simulator.kill(host);
        } else {
            cut_power(&mut simulator, host, &model);
        }
        crashes += 1;
        if lock(&model).lives == before {
            lock(&model).crashes_in_recovery += 1;
        }
    }
    // After the clean stop everything is in the segments: once more, from them alone.
    number += 1;
    let plan = Plan {
        number,
        shards,
        layout,
        stops_at: Some((0, 0)),
        topics_change: false,
        scrubs: true,
    };
    let shared = model.clone();
    let ended = simulator.run(host, memory_bytes(shards), LIMIT, move || live(shared, plan));
    ended.expect("it ends").expect("a good disk");
    // Else everything may be deleted by now.
    if let Kept::Bytes(_) = kept {
        assert!(has_rolled(&simulator, host), "every log has one segment");
    }
    let model = lock(&model);
    RUNS.fetch_add(1, Ordering::Relaxed);
    TAKEN_BACK.fetch_add(model.taken_back, Ordering::Relaxed);
    if model.direct_bytes > 0 {
        DIRECT_RUNS.fetch_add(1, Ordering::Relaxed);
    }
    if model.scrubbed_bytes > SCRUBBED_BYTES {
        SCRUBBED_RUNS.fetch_add(1, Ordering::Relaxed);
    }
    check_files(&simulator, host, &model);
    (simulator.trace_hash(), model.removed_unasked)
}

/// Cuts the power: what is flushed later may be taken back.
fn cut_power(simulator: &mut Simulator, host: HostId, model: &Shared) {
    simulator.power_cut(host);
    for partition in lock(model).partitions.values_mut() {
        partition.is_power_cut = true;
    }
}

/// After a clean stop no file is left of a segment that lies wholly before its log's start.
fn check_files(simulator: &Simulator, host: HostId, model: &Model) {
    let files = simulator.files(host);
    for (id, partition) in &model.partitions {
        let directory = format!("{}/{}-{}/", life::DATA, partition.topic, id.partition);
        let own = files.iter().filter_map(|(path, _)| path.strip_prefix(&directory));
        let mut bases: Vec<i64> = own
            .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
            .collect();
        bases.sort_unstable();
        let end = partition.sent.values().filter_map(|sent| {
            let promised = sent.promised?;
            Some(promised + i64::from(sent.records))
        });
        let ends = bases.iter().skip(1).copied().chain(end.max());
        let over = bases
            .iter()
            .zip(ends)
            .filter(|(_, end)| *end <= partition.deleted_before);
        assert_eq!(
            over.count(),
            0,
            "{id} begins at {}, and has {bases:?}",
            partition.deleted_before
        );
    }
}

/// Whether some partition has a segment that is not its first. The first may be deleted by now.
fn has_rolled(simulator: &Simulator, host: HostId) -> bool {
    let files = simulator.files(host);
    let mut logs = files.iter().filter(|(path, _)| path.ends_with(".log"));
    logs.any(|(path, _)| !path.ends_with("/00000000000000000000.log"))
}

/// Short and interrupted operations are no faults: every life has some.
fn disturb(simulator: &mut Simulator, host: HostId) {
    let often = [0.0, 0.0, 0.02][(simulator.random_u64() % 3) as usize];
    simulator.set_disk_faults(
        host,
        DiskFaults {
            short_read: often,
            short_write: often,
            would_block: often,
            interrupted: often,
            // As long as what comes after it in a migration takes.
            stall: often,
            stall_longest: Duration::from_millis(20),
            ..DiskFaults::default()
        },
    );
}

#[test]
fn what_was_promised_survives_crashes_and_other_numbers_of_shards() {
    for_each_seed(seeds(), |seed| {
        run(seed, Kept::All);
    });
    let (runs, direct) = (RUNS.load(Ordering::Relaxed), DIRECT_RUNS.load(Ordering::Relaxed));
    let scrubbed = SCRUBBED_RUNS.load(Ordering::Relaxed);
    let taken_back = TAKEN_BACK.load(Ordering::Relaxed);
    assert!(
        taken_back > 10,
        "{taken_back} batches were taken back: all was flushed"
    );
    assert!(
        scrubbed * 2 > runs,
        "in {scrubbed} of {runs} runs sealed segments were read again"
    );
    assert!(
        direct * 2 > runs,
        "in {direct} of {runs} runs batches went to their segments at once"
    );
}

#[test]
fn so_it_does_when_old_segments_are_removed_meanwhile_and_no_more_goes_than_may() {
    for_each_seed(seeds(), |seed| {
        let kept = match seed % 2 {
            0 => Kept::Bytes(150 << 10),
            _ => Kept::Nothing,
        };
        let (_, removed) = run(seed, kept);
        assert!(removed > 0, "{kept:?}, and nothing was removed");
    });
}

#[test]
fn what_was_served_after_a_kill_outlives_the_power_cut_that_follows() {
    for_each_seed(seeds(), |seed| {
        let (mut simulator, host, model) = begin_with(seed, seed % 2 == 1);
        let plan = Plan {
            number: 1,
            shards: 1,
            layout: 0,
            stops_at: None,
            topics_change: false,
            scrubs: false,
        };
        let shared = model.clone();
        simulator.start(host, memory_bytes(1), move || async move {
            live(shared, plan).await.expect("a good disk");
        });
        let enough = 10 + simulator.random_u64() % 50;
        assert!(simulator.run_until(LIMIT, |_| lock(&model).acknowledged >= enough));
        simulator.run_for(Duration::from_micros(enough));
        // The last record may be readable, and only in the device's memory.
        simulator.kill(host);
        for number in 2..4 {
            let (shared, before) = (model.clone(), lock(&model).lives);
            simulator.start(host, memory_bytes(1), move || async move {
                live(shared, Plan { number, ..plan }).await.expect("a good disk");
            });
            assert!(simulator.run_until(LIMIT, |_| lock(&model).lives > before));
            cut_power(&mut simulator, host, &model);
        }
    });
}

#[test]
fn a_seed_replays_exactly() {
    for kept in [Kept::All, Kept::Bytes(150 << 10), Kept::Nothing] {
        assert_eq!(run(7, kept), run(7, kept));
    }
}
