//! While a compacted segment comes into the place of others: who starts then, and who reads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{DiskFaults, DiskOperation, HostId, Injection, Simulator, for_each_seed};

use storage::inspect::{self, Report, Severity};
use storage::{PartitionLog, ScrubOptions};

use crate::LIMIT;
use crate::life::DATA;
use crate::one_log::{
    ANY, CLEANER, MEMORY_BYTES, cleaned, contents, fill, id, names, on_a_host, open_keeping, open_one,
};

const UPDATES: u32 = 1_200;
const ALL: u32 = UPDATES + 600;
const KEYS: u32 = 20;
/// What the command line gives a thread that looks.
const INSPECTION_MEMORY_BYTES: usize = 1 << 52;
/// A part of what a checkpoint takes.
const STEP: Duration = Duration::from_millis(1);

/// Update n; of each sixty ten have keys of their own, and stay.
async fn fill_some(log: &PartitionLog, updates: Range<u32>) {
    for first in updates.step_by(60) {
        fill(log, first..first + 50, KEYS).await;
        fill(log, first + 50..first + 60, u32::MAX).await;
    }
}

/// The newest offset of each key of so many updates.
fn newest_of(updates: u32) -> BTreeMap<u32, i64> {
    let key = |n: u32| if n % 60 < 50 { n % KEYS } else { n };
    (0..updates).map(|n| (key(n), i64::from(n))).collect()
}

/// What each of the two checkpoints is now.
fn checkpoints(simulator: &Simulator, host: HostId) -> [Vec<u8>; 2] {
    [0, 1].map(|which| {
        let path = format!("/data/journals/1-0/checkpoint-{which}");
        simulator.read_file(host, path).unwrap_or_default()
    })
}

/// Kills a broker that compacts, so long after the first checkpoint that was written when the file of a compacted segment was
/// there. The file of the checkpoint that was written last; none, if the segments are at their places.
fn killed_after(simulator: &mut Simulator, host: HostId, time: Duration) -> Option<usize> {
    let cleans = Arc::new(AtomicBool::new(false));
    let is_next = cleans.clone();
    simulator.start(host, 2 * MEMORY_BYTES + (8 << 20), move || async move {
        let (shard, log) = open_one(ANY).await;
        for half in [0..UPDATES / 2, UPDATES / 2..UPDATES] {
            fill_some(&log, half).await;
            cleaned(&shard).await;
        }
        // Segments of which little is left become one now.
        fill_some(&log, UPDATES..ALL).await;
        is_next.store(true, Ordering::Relaxed);
        shard.set_cleaner(CLEANER);
        ring::timer::sleep(LIMIT).await;
    });
    let is_aside = |simulator: &Simulator| {
        let files = names(simulator, host, 0);
        files.iter().any(|(name, _)| name.ends_with(".cleaned"))
    };
    let begun = simulator.run_until(LIMIT, |simulator| {
        cleans.load(Ordering::Relaxed) && is_aside(simulator)
    });
    assert!(begun, "nothing was compacted");
    let (mut last, mut newest, mut end) = (checkpoints(simulator, host), 0, None);
    simulator.run_until(LIMIT, |simulator| {
        let now = checkpoints(simulator, host);
        if let Some(which) = (0..2).find(|which| now[*which] != last[*which]) {
            newest = which;
            end = end.or(Some(simulator.now() + time));
        }
        last = now;
        end.is_some_and(|end| simulator.now() >= end)
    });
    let is_in_time = is_aside(simulator);
    simulator.kill(host);
    is_in_time.then_some(newest)
}

#[test]
fn what_the_other_checkpoint_means_outlives_a_start() {
    let mut in_time = 0;
    for step in 0..20 {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 30);
        let Some(newest) = killed_after(&mut simulator, host, step * STEP) else {
            continue;
        };
        in_time += 1;
        // It begins, and is killed before it has written a checkpoint.
        on_a_host(&mut simulator, host, || async {
            let (_shard, _log) = open_one(ANY).await;
            ring::timer::sleep(Duration::from_millis(5)).await;
        });
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Read,
                path_contains: format!("/checkpoint-{newest}"),
                after: 0,
                times: u32::MAX,
                errno: 5,
            },
        );
        let found = on_a_host(&mut simulator, host, || async {
            let (_shard, log) = open_one(ANY).await;
            contents(&log).await
        });
        let found: BTreeMap<u32, i64> = found.iter().map(|(offset, (key, ..))| (*key, *offset)).collect();
        assert_eq!(found, newest_of(ALL), "step {step}");
    }
    assert!(in_time > 1, "no kill came between two checkpoints");
}

#[test]
fn what_a_kill_leaves_of_segments_on_their_way_is_not_damage() {
    let mut before_their_logs = 0;
    for step in 0..20 {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 30);
        if killed_after(&mut simulator, host, step * STEP).is_none() {
            continue;
        }
        // Indexes come to their places first.
        let aside = |extension: &str| {
            let part = format!(".{extension}.");
            let is_aside = |name: &str| name.contains(&part) && name.ends_with(".cleaned");
            let files = names(&simulator, host, 0);
            files.iter().filter(|(name, _)| is_aside(name)).count()
        };
        before_their_logs += aside("log") - aside("index");
        let findings = simulator.run(host, INSPECTION_MEMORY_BYTES, LIMIT, || async {
            let mut findings = Vec::new();
            let mut report = |report: Report<'_>| {
                if let Report::Finding(finding) = report
                    && finding.severity != Severity::Note
                {
                    findings.push(format!("{finding:?}"));
                }
            };
            let checked = inspect::check(Path::new(DATA), &[], &mut report).await;
            checked.expect("it can run");
            findings
        });
        assert_eq!(findings, Some(Vec::new()), "step {step}");
    }
    assert!(before_their_logs > 0, "no kill came between an index and its log");
}

#[test]
fn a_reader_that_is_slow_sees_one_segment_or_the_other_and_no_mixture() {
    // One in four has a reader between the two.
    for_each_seed(0..24, read_while_it_is_compacted);
}

fn read_while_it_is_compacted(seed: u64) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    // All of it is in files, and nothing in memory.
    on_a_host(&mut simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill_some(&log, 0..ALL).await;
        shard.stop().await.expect("stopped");
    });
    simulator.set_disk_faults(
        host,
        DiskFaults {
            stall: 0.3,
            stall_longest: Duration::from_secs(30),
            stall_only: Some(DiskOperation::Name),
            only_paths_with: ".log".to_owned(),
            ..DiskFaults::default()
        },
    );
    let reads = on_a_host(&mut simulator, host, || async {
        // Most reads begin with opening the file, and find out what is there then.
        let shard = open_keeping(2, ANY, ScrubOptions::OFF).await.expect("opened");
        let log = shard.partition(id(0)).expect("it is there");
        let stop = Rc::new(());
        let readers = (0..16).map(|reader| {
            let (log, goes_on) = (log.clone(), Rc::downgrade(&stop));
            spawn(Class::Latency, async move {
                let mut reads = 0;
                while goes_on.strong_count() > 0 {
                    let end = log.high_watermark();
                    let extent = log.read((reader * 151 + reads * 37) % end, 1, true, end);
                    log.load(extent.expect("within the log")).await.expect("readable");
                    reads += 1;
                    ring::timer::sleep(Duration::from_millis(1)).await;
                }
                reads
            })
        });
        let readers: Vec<_> = readers.collect();
        cleaned(&shard).await;
        drop(stop);
        // Which brings what was compacted to its place, while the last reads are on their way.
        shard.stop().await.expect("stopped");
        let mut all = 0;
        for reader in readers {
            all += reader.await;
        }
        all
    });
    assert!(reads > 100, "{reads}");
}
