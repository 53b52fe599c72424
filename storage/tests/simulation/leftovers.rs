//! What a start finds to remove: it serves first, whatever ends it goes on with the next start, and nothing goes that
//! somebody has put in its place.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::directory;
use ring::file::{File, OpenOptions};
use ring::simulator::{HostId, Simulator};
use storage::PartitionConfig;

use crate::LIMIT;
use crate::life::DATA;
use crate::plain::{Opened, Place, append, batch, id, open, read, spec};

const MEMORY_BYTES: usize = 64 << 20;
/// Segments before the log's start, of three files each; and files of a deleted partition, more than are listed at a time.
const SEGMENTS: i64 = 300;
const FILES: usize = 600;
/// Where the log of `r` begins.
const START: i64 = 1_000;
const LOG: &str = "/data/r-0";
const DELETED: &str = "/data/gone-0.0000000000000000000000000000002a-delete";

async fn make(path: &Path) {
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    File::open(path, options).await.expect("made");
}

/// A log that begins at [`START`], with the files of segments before it as a kill leaves them, and a partition's whose
/// removal the kill has ended.
async fn fill(opened: &Opened) {
    let log = opened.log(7);
    append(&log, &batch(START as usize, 1)).await.expect("appended");
    log.delete_records(START).await.expect("deleted");
    append(&log, &batch(1, 100)).await.expect("appended");
    while opened.shard.statistics().removed_segments == 0 {
        ring::timer::sleep(Duration::from_millis(1)).await;
    }
    opened.shard.stop().await.expect("stopped");
    directory::create_all(Path::new(DELETED)).await.expect("made");
    for base_offset in 0..SEGMENTS {
        for extension in ["log", "index", "timeindex"] {
            make(&Path::new(LOG).join(format!("{base_offset:020}.{extension}"))).await;
        }
    }
    for file in 0..FILES {
        make(&Path::new(DELETED).join(format!("{file:020}.log"))).await;
    }
    for path in [LOG, DELETED, DATA] {
        directory::sync(Path::new(path)).await.expect("flushed");
    }
}

fn is_leftover(directory: &str, name: &str) -> bool {
    let base_offset = name.split('.').next().and_then(|stem| stem.parse::<i64>().ok());
    base_offset.is_some_and(|base_offset| directory == DELETED || base_offset < START)
}

/// Of the log, and of the deleted partition.
fn left(simulator: &Simulator, host: HostId) -> [usize; 2] {
    let files = simulator.files(host);
    [LOG, DELETED].map(|directory| {
        let names = files
            .iter()
            .filter_map(|(path, _)| path.strip_prefix(directory)?.strip_prefix('/'));
        names.filter(|name| is_leftover(directory, name)).count()
    })
}

/// The same, for one that runs.
async fn count() -> [usize; 2] {
    let mut counts = [0; 2];
    for (count, directory) in counts.iter_mut().zip([LOG, DELETED]) {
        let names = directory::list(Path::new(directory)).await.unwrap_or_default();
        *count = names
            .iter()
            .filter(|entry| is_leftover(directory, &entry.name))
            .count();
    }
    counts
}

#[test]
fn a_start_serves_first_and_what_a_crash_and_a_stop_leave_is_removed_after_the_next() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let specs = || vec![spec(7, "r")];
    let filled = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        fill(&open(Place::default(), specs()).await.expect("opened")).await;
    });
    filled.expect("it ends");
    simulator.power_cut(host);
    let all = [3 * SEGMENTS as usize, FILES];
    assert_eq!(left(&simulator, host), all);
    let first = Arc::new(Mutex::new(None));
    let told = first.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        *told.lock().expect("it runs") = Some(count().await);
        append(&opened.log(7), &batch(1, 100)).await.expect("appended");
        std::future::pending::<()>().await;
    });
    let is_half = |simulator: &Simulator| {
        let left = left(simulator, host);
        left.iter().zip(all).all(|(left, all)| *left < all / 2)
    };
    let halved = simulator.run_until(LIMIT, is_half);
    assert!(halved, "{:?}", left(&simulator, host));
    let first = first.lock().expect("it runs").expect("it has opened");
    let is_begun = first.iter().zip(all).all(|(first, all)| *first > all / 2);
    assert!(
        is_begun,
        "of {all:?} files {first:?} were left when the log was open"
    );
    // The names that are gone may come back.
    simulator.power_cut(host);
    let stopped = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        opened.shard.stop().await.expect("stopped");
        count().await
    });
    let [of_log, of_deleted] = stopped.expect("it ends");
    assert!(of_log > 0 && of_deleted > 0, "the stop has waited for all of it");
    assert_eq!(left(&simulator, host)[0], of_log, "it went on after the stop");
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), specs()).await.expect("opened");
        while count().await != [0, 0] || directory::exists(Path::new(DELETED)).await.expect("looked at") {
            ring::timer::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            read(&opened.log(7), START).await.expect("read"),
            [START, START + 1]
        );
        opened.shard.stop().await.expect("stopped");
    });
    ended.expect("all of it is removed");
}

#[test]
fn what_a_partition_has_left_is_not_looked_for_in_the_next_of_its_name() {
    const BATCHES: i64 = 100;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let place = Place {
        // Segments are written all the time.
        journal_bytes: 1 << 20,
        ..Place::default()
    };
    let next = || {
        let config = PartitionConfig {
            segment_bytes: 1,
            ..PartitionConfig::default()
        };
        storage::PartitionSpec {
            config,
            ..spec(9, "r")
        }
    };
    let filled = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        fill(&open(place, vec![spec(7, "r")]).await.expect("opened")).await;
    });
    filled.expect("it ends");
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(place, vec![spec(7, "r")]).await.expect("opened");
        assert!(count().await[0] > 0, "it was too late");
        opened.shard.drop_partition(id(7)).await.expect("dropped");
        let log = opened.shard.create_partition(next()).await.expect("made");
        // Each has a segment of its own, the first with the name of one that was there before; and they come faster than
        // those would go.
        for _ in 0..BATCHES {
            append(&log, &batch(10, 800)).await.expect("appended");
        }
        ring::timer::sleep(Duration::from_secs(5)).await;
    });
    ended.expect("it ends");
    simulator.kill(host);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(place, vec![next()]).await.expect("opened");
        let log = opened.log(9);
        assert_eq!(log.log_end_offset(), 10 * BATCHES);
        for offset in (0..10 * BATCHES).step_by(10) {
            let found = read(&log, offset).await.expect("read");
            assert_eq!(found.first(), Some(&offset));
        }
    });
    ended.expect("it ends");
}
