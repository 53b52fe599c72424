//! A journal-like load: what a seed of the storage tests asks of the simulator, and what it costs.

use std::time::Duration;

use crate::buffer::{PAGE_SIZE, Pool};
use crate::file::{Durability, File, OpenOptions};
use crate::simulator::Simulator;
use crate::{directory, random};

const JOURNAL_BYTES: u64 = 8 << 20;
const WRITTEN_BYTES: u64 = 16 << 20;
const LIMIT: Duration = Duration::from_secs(600);

const DIRECT: OpenOptions = OpenOptions {
    read: true,
    write: true,
    create: true,
    create_new: false,
    truncate: false,
    direct: true,
};

/// Two laps of a prewritten journal in durable writes of 4 to 16 KiB, with a power cut after each third.
fn journal_laps(seed: u64) -> Simulator {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    simulator.run(host, 1 << 22, LIMIT, || async {
        let pool = Pool::new("zeroes", 1 << 20).expect("the budget suffices");
        let mut zeroes = pool.try_take(1 << 20).expect("the pool is new");
        zeroes.fill(0);
        let zeroes = zeroes.freeze(0..1 << 20);
        let file = File::open("/journal".as_ref(), DIRECT)
            .await
            .expect("a good disk");
        for megabyte in 0..JOURNAL_BYTES >> 20 {
            file.write_all_at(vec![zeroes.clone()], megabyte << 20, Durability::Completed)
                .await
                .expect("a good disk");
        }
        file.sync_all().await.expect("a good disk");
        directory::sync("/".as_ref()).await.expect("a good disk");
    });
    for third in 0..3 {
        simulator.run(host, 1 << 22, LIMIT, move || async move {
            let pool = Pool::new("records", 1 << 20).expect("the budget suffices");
            let file = File::open("/journal".as_ref(), DIRECT)
                .await
                .expect("a good disk");
            let mut written = third * WRITTEN_BYTES / 3;
            while written < (third + 1) * WRITTEN_BYTES / 3 {
                let bytes = PAGE_SIZE * (1 + (random::next_u64() % 4) as usize);
                let mut record = pool.take(bytes).await.expect("the pool is larger");
                record[..bytes].fill(written as u8 | 1);
                let record = vec![record.freeze(0..bytes)];
                let position =
                    written % (JOURNAL_BYTES - (4 * PAGE_SIZE) as u64) / PAGE_SIZE as u64 * PAGE_SIZE as u64;
                file.write_all_at(record, position, Durability::Durable)
                    .await
                    .expect("a good disk");
                written += bytes as u64;
            }
        });
        simulator.power_cut(host);
    }
    assert_eq!(
        simulator
            .read_file(host, "/journal")
            .expect("nothing was unflushed")
            .len() as u64,
        JOURNAL_BYTES
    );
    simulator
}

#[test]
fn two_laps_of_a_journal_are_the_same_in_every_run_of_a_seed() {
    assert_eq!(journal_laps(1).trace_hash(), journal_laps(1).trace_hash());
}

/// `cargo test --release -p millstream-ring -- --ignored --nocapture journal`
#[test]
#[ignore = "a measurement"]
fn journal_seeds_a_second() {
    let seeds = 200;
    #[expect(clippy::disallowed_methods, reason = "it measures the simulator from outside")]
    let begun = std::time::Instant::now();
    for seed in 0..seeds {
        let simulator = journal_laps(seed);
        assert!(
            simulator.disk_counters(crate::simulator::HostId(0)).bytes_written
                >= JOURNAL_BYTES + WRITTEN_BYTES
        );
    }
    let each = begun.elapsed() / seeds as u32;
    println!(
        "{} MiB written, 3 power cuts: {each:?} a seed",
        (JOURNAL_BYTES + WRITTEN_BYTES) >> 20
    );
}
