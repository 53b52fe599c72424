//! Compaction: of each key the newest record stays, whatever crashes, and whichever checkpoint a start reads.
//!
//! `cargo test --release -p millstream-storage --test compaction`; `MILLSTREAM_SEEDS=0..1000` for the long form,
//! `MILLSTREAM_SEED=N` to repeat one run.

mod in_place;
mod life;
mod limits;
mod model;
mod obstacles;
mod one_log;
mod scrub;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::simulator::{DiskFaults, DiskOperation, HostId, Injection, Simulator, for_each_seed};

use crate::life::{DATA, LOG_MEMORY_BYTES, Plan, live, lock};
use crate::model::Model;

/// Of virtual time, for anything that must end.
const LIMIT: Duration = Duration::from_secs(600);
const DISK_BYTES: u64 = 1 << 30;
/// What a run has at least.
const BATCHES: u64 = 600;
const CRASHES: u32 = 5;
const CLEANINGS: u64 = 5;

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

fn memory_bytes(shards: u32) -> usize {
    (shards as usize + 1) * LOG_MEMORY_BYTES + (8 << 20)
}

/// What runs have come across.
#[derive(Default)]
struct Seen {
    /// Crashes while a compacted segment was not at its place.
    aside: AtomicU32,
    /// Starts that could not read one of the checkpoints.
    from_the_other: AtomicU32,
}

fn run(seed: u64, seen: &Seen) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(DISK_BYTES);
    let model = Arc::new(Mutex::new(Model::new(2)));
    let (mut crashes, mut number, mut shards) = (0, 0, 1);
    loop {
        number += 1;
        assert!(number < 500, "no progress: {:?}", lock(&model).acknowledged);
        simulator.heal_disk(host);
        disturb(&mut simulator, host, seen, number > 1);
        let is_enough = {
            let model = lock(&model);
            model.acknowledged >= BATCHES && crashes >= CRASHES && model.cleanings >= CLEANINGS
        };
        if simulator.random_u64().is_multiple_of(8) {
            shards = 1 + (simulator.random_u64() % 2) as u32;
        }
        let plan = Plan {
            number,
            shards,
            stops_at: is_enough.then_some((BATCHES + 20, CLEANINGS + 1)),
        };
        let shared = model.clone();
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
            simulator.power_cut(host);
        }
        crashes += 1;
        if has_aside(&simulator, host) {
            seen.aside.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert!(
        !has_aside(&simulator, host),
        "a clean stop leaves Kafka's names alone"
    );
    number += 1;
    let plan = Plan {
        number,
        shards,
        stops_at: Some((0, 0)),
    };
    simulator.heal_disk(host);
    let shared = model.clone();
    let ended = simulator.run(host, memory_bytes(shards), LIMIT, move || live(shared, plan));
    ended.expect("it ends").expect("a good disk");
    assert!(lock(&model).holes > 0, "nothing was compacted");
    assert!(lock(&model).scrubbed_bytes > 0, "nothing was read again");
}

fn has_aside(simulator: &Simulator, host: HostId) -> bool {
    let files = simulator.files(host);
    files
        .iter()
        .any(|(path, _)| path.starts_with(DATA) && path.ends_with(".cleaned"))
}

/// Short operations and stalls; and, at times, a checkpoint that this start cannot read, and the next one can.
fn disturb(simulator: &mut Simulator, host: HostId, seen: &Seen, may_hide: bool) {
    let often = [0.0, 0.0, 0.02][(simulator.random_u64() % 3) as usize];
    simulator.set_disk_faults(
        host,
        DiskFaults {
            short_read: often,
            short_write: often,
            would_block: often,
            interrupted: often,
            stall: often,
            stall_longest: Duration::from_millis(20),
            ..DiskFaults::default()
        },
    );
    if may_hide && simulator.random_u64().is_multiple_of(3) {
        // Of a run always the same one: what a start could not see it does not keep the journal for.
        let which = simulator.seed() % 2;
        seen.from_the_other.fetch_add(1, Ordering::Relaxed);
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Read,
                path_contains: format!("/checkpoint-{which}"),
                after: 0,
                // A shard reads it once.
                times: u32::MAX,
                errno: 5,
            },
        );
    }
}

#[test]
fn the_newest_record_of_each_key_survives_crashes_in_compaction() {
    let seen = Seen::default();
    for_each_seed(seeds(), |seed| run(seed, &seen));
    if std::env::var_os("MILLSTREAM_SEED").is_none() {
        assert!(
            seen.aside.into_inner() > 0,
            "no crash came between two checkpoints"
        );
        assert!(seen.from_the_other.into_inner() > 0);
    }
}
