//! The scrubber: what rots is found and told once, within its budget; what is whole, or has gone, is not.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, Task, spawn};
use ring::simulator::{HostId, Simulator, for_each_seed};
use storage::inspect::Severity;
use storage::{PartitionConfig, PartitionSpec, ScrubFinding, ScrubOptions, ShardLog, TopicPartition};

use crate::life::DATA;
use crate::retention::{ID, MEMORY_BYTES, append, open_with, segments};
use crate::{LIMIT, seeds};

const SEGMENT_BYTES: u32 = 64 << 10;
/// The largest batch.
const BATCH_BYTES: u64 = 12_000;
const SECOND: Duration = Duration::from_secs(1);

type Found = Arc<Mutex<Vec<ScrubFinding>>>;

pub(crate) fn config() -> PartitionConfig {
    PartitionConfig {
        segment_bytes: SEGMENT_BYTES,
        index_interval_bytes: 4_096,
        ..PartitionConfig::default()
    }
}

fn scrub(bytes_per_second: u64, interval: Duration) -> ScrubOptions {
    ScrubOptions {
        bytes_per_second: NonZeroU64::new(bytes_per_second),
        interval,
    }
}

/// A log that was written and stopped: some sealed segments, and one that is not. Each batch is of a later time than the one
/// before it: an entry of a time index could be led astray to a batch of the same time, and would still be right.
pub(crate) fn written(simulator: &mut Simulator, host: HostId, batches: u64) {
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let (_directory, shard, log) = open_with(config(), ScrubOptions::OFF).await;
        let begun_ms = ring::clock::wall_clock_ms();
        for number in 0..batches {
            let bytes = 100 + ring::random::next_u64() % (BATCH_BYTES - 200);
            append(&log, begun_ms + number as i64, bytes as usize).await;
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

/// Takes what the scrubber finds as long as the task is held.
fn collect(shard: &ShardLog, found: &Found) -> Task<()> {
    let (shard, found) = (shard.clone(), found.clone());
    spawn(Class::Latency, async move {
        loop {
            let finding = shard.next_finding().await;
            found.lock().expect("it runs").push(finding);
        }
    })
}

async fn rounds(shard: &ShardLog, rounds: u64) {
    while shard.statistics().scrub.rounds < rounds {
        ring::timer::sleep(SECOND / 10).await;
    }
}

/// Opens the log, lets the scrubber go round a few times, and gives what it found; then all of the log is deleted.
fn scrubbed(simulator: &mut Simulator, host: HostId, deletes: bool) -> Vec<ScrubFinding> {
    let found = Found::default();
    let inside = found.clone();
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let (_directory, shard, log) = open_with(config(), scrub(1 << 20, SECOND)).await;
        let _collecting = collect(&shard, &inside);
        let told = || inside.lock().expect("it runs").len();
        rounds(&shard, 1).await;
        ring::timer::sleep(SECOND / 10).await;
        let first = told();
        let damaged = |shard: &ShardLog| {
            let scrub = shard.statistics().scrub;
            scrub.damaged_segments + scrub.damaged_indexes
        };
        assert_eq!(damaged(&shard), u64::from(first > 0), "one file was damaged");
        rounds(&shard, 4).await;
        ring::timer::sleep(SECOND / 10).await;
        assert_eq!(told(), first, "what was told is told again, or was missed before");
        if deletes {
            log.delete_records(log.log_end_offset()).await.expect("deleted");
            while log.size_bytes() > 0 {
                ring::timer::sleep(SECOND / 10).await;
            }
            assert_eq!(damaged(&shard), 0, "it is not there any more");
        }
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    let mut found = found.lock().expect("it has ended");
    std::mem::take(&mut *found)
}

#[test]
fn rot_in_a_closed_segment_is_found_within_a_round_and_told_once() {
    for_each_seed(seeds(), |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        written(&mut simulator, host, 60);
        let mut files = segments(&simulator, host);
        let newest = files.iter().map(|(path, _)| path.clone()).max().expect("files");
        let newest = newest.rsplit_once('.').expect("a name").0.to_owned();
        files.retain(|(path, bytes)| !path.starts_with(&newest) && *bytes > 0);
        // Most of the time what holds the records.
        let extension =
            [".log", ".log", ".log", ".index", ".timeindex"][(simulator.random_u64() % 5) as usize];
        files.retain(|(path, _)| path.ends_with(extension));
        let (path, bytes) = files[simulator.random_u64() as usize % files.len()].clone();
        let at = simulator.random_u64() % bytes;
        let is_unreadable = simulator.random_u64().is_multiple_of(4);
        if is_unreadable {
            assert!(simulator.make_unreadable(host, &path, at).expect("a file"));
        } else {
            let bit = (simulator.random_u64() % 8) as u8;
            assert!(simulator.flip_bit(host, &path, at, bit).expect("a file"));
        }
        let before = simulator.read_file(host, &path).ok();
        let found = scrubbed(&mut simulator, host, false);
        let what = format!("{path}, byte {at}, unreadable: {is_unreadable}");
        assert_eq!(
            simulator.read_file(host, &path).ok(),
            before,
            "{what}: it was changed"
        );
        assert!(!found.is_empty(), "{what}: it was not found");
        let severity = match extension {
            ".log" => Severity::Damage,
            _ => Severity::Warning,
        };
        for ScrubFinding { partition, finding } in &found {
            assert_eq!(
                (*partition, finding.severity),
                (ID, severity),
                "{what}: {finding:?}"
            );
            assert_eq!(format!("{DATA}/{}", finding.path), path, "{what}: {finding:?}");
            assert!(!finding.what.is_empty() && !finding.next.is_empty());
        }
        // The batch or entry that has the byte, or the next one; a read that is refused is told where it begins.
        let positions: Vec<u64> = found.iter().filter_map(|found| found.finding.position).collect();
        let around = match (is_unreadable, extension) {
            (true, _) => at.saturating_sub(128 << 10)..=at,
            (false, ".log") => at.saturating_sub(BATCH_BYTES)..=at,
            (false, _) => at.saturating_sub(24)..=at + 24,
        };
        assert!(
            positions.iter().any(|place| around.contains(place)),
            "{what}: {found:?}"
        );
        // A life knows nothing of the one before.
        assert_eq!(scrubbed(&mut simulator, host, true), found);
    });
}

#[test]
fn a_file_that_is_cut_or_gone_is_told_and_one_that_was_deleted_is_not() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 60);
    let paths: Vec<String> = segments(&simulator, host)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let logs: Vec<String> = paths
        .iter()
        .filter(|path| path.ends_with(".log"))
        .cloned()
        .collect();
    let found = Found::default();
    let inside = found.clone();
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let (_directory, shard, log) = open_with(config(), scrub(1 << 20, SECOND)).await;
        let _collecting = collect(&shard, &inside);
        ring::directory::remove_file(logs[1].as_ref())
            .await
            .expect("removed");
        let index = logs[2].replace(".log", ".index");
        ring::directory::remove_file(index.as_ref())
            .await
            .expect("removed");
        let options = ring::file::OpenOptions {
            write: true,
            ..ring::file::OpenOptions::default()
        };
        let file = ring::file::File::open(logs[3].as_ref(), options).await;
        file.expect("opened").set_len(5_000).await.expect("cut");
        rounds(&shard, 2).await;
        let scrub = shard.statistics().scrub;
        assert_eq!((scrub.damaged_segments, scrub.damaged_indexes), (2, 1));
        assert!(scrub.last_round_ms > 0);
        let mut told = std::mem::take(&mut *inside.lock().expect("it runs"));
        told.sort_by(|one, next| one.finding.path.cmp(&next.finding.path));
        let said: Vec<(String, bool)> = told
            .iter()
            .map(|told| {
                let finding = &told.finding;
                let what = finding.what.contains("is missing") || finding.what.contains("bytes, and");
                (format!("{DATA}/{}", finding.path), what)
            })
            .collect();
        // Of what was cut, its length, and the batch that it ends within.
        let expected = [
            (logs[1].clone(), true),
            (index, true),
            (logs[3].clone(), true),
            (logs[3].clone(), false),
        ];
        assert_eq!(said, expected, "{told:?}");
        // The log's own deletions are no damage, whatever is there or not.
        log.delete_records(log.log_end_offset()).await.expect("deleted");
        let begun = shard.statistics().scrub.rounds;
        rounds(&shard, begun + 2).await;
        let scrub = shard.statistics().scrub;
        assert_eq!((scrub.damaged_segments, scrub.damaged_indexes), (0, 0));
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
    assert_eq!(*found.lock().expect("it has ended"), []);
}

#[test]
fn a_segment_that_is_deleted_while_it_is_read_is_no_damage_and_gives_its_space_back() {
    for drops_all in [false, true] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        written(&mut simulator, host, 60);
        let files = segments(&simulator, host);
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes.next_multiple_of(4_096)).sum();
        let before = simulator.disk_bytes_free(host);
        let found = Found::default();
        let inside = found.clone();
        let deleted = Arc::new(Mutex::new(false));
        let has_deleted = deleted.clone();
        simulator.start(host, MEMORY_BYTES, move || async move {
            // Hours for each step.
            let (_directory, shard, log) = open_with(config(), scrub(4, SECOND)).await;
            let _collecting = collect(&shard, &inside);
            let next_read = async || {
                let before = shard.statistics().scrub.bytes;
                while shard.statistics().scrub.bytes == before {
                    ring::timer::sleep(SECOND).await;
                }
            };
            // Both indexes; then the log is opened, and waited with it open for the turn to read it.
            next_read().await;
            next_read().await;
            ring::timer::sleep(2_000 * SECOND).await;
            if drops_all {
                shard.drop_partition(ID).await.expect("dropped");
            } else {
                log.delete_records(log.log_end_offset()).await.expect("deleted");
            }
            ring::timer::sleep(SECOND).await;
            *has_deleted.lock().expect("it runs") = true;
            let left = shard.statistics().scrub;
            ring::timer::sleep(24 * 3_600 * SECOND).await;
            let scrub = shard.statistics().scrub;
            assert_eq!(scrub.bytes, left.bytes, "it reads what is gone");
            assert!(scrub.rounds > left.rounds, "it does not go on");
            std::future::pending::<()>().await;
        });
        let day = 30 * 3_600 * SECOND;
        let is_deleted = |_: &Simulator| *deleted.lock().expect("it runs");
        assert!(simulator.run_until(day, is_deleted));
        let free = simulator.disk_bytes_free(host) - before;
        // A checkpoint may take a little.
        assert!(free + (16 << 10) > bytes, "{free} of {bytes} bytes came back");
        simulator.run_for(day);
        assert_eq!(*found.lock().expect("it runs"), []);
    }
}

#[test]
fn no_more_is_read_in_a_second_than_may_be_and_no_round_begins_too_soon() {
    const BYTES_PER_SECOND: u64 = 32 << 10;
    const INTERVAL: Duration = Duration::from_secs(100);
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 120);
    let sealed: u64 = segments(&simulator, host).iter().map(|(_, bytes)| bytes).sum();
    let told = Arc::new(Mutex::new(Default::default()));
    let inside = told.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let (_directory, shard, _log) = open_with(config(), scrub(BYTES_PER_SECOND, INTERVAL)).await;
        loop {
            *inside.lock().expect("it runs") = shard.statistics().scrub;
            ring::timer::sleep(SECOND / 100).await;
        }
    });
    let look = || *told.lock().expect("it runs");
    // What a start itself reads.
    simulator.run_for(50 * SECOND);
    assert_eq!(look().bytes, 0, "a start has better to do");
    let start = simulator.disk_counters(host).bytes_read;
    simulator.run_for(10 * SECOND);
    let mut ended = Vec::new();
    for second in 1..=300 {
        let before = look();
        simulator.run_for(SECOND);
        let after = look();
        // One step more was begun before.
        let read = after.bytes - before.bytes;
        assert!(
            read <= BYTES_PER_SECOND + u64::from(SEGMENT_BYTES),
            "{read} bytes in a second"
        );
        let on_disk = simulator.disk_counters(host).bytes_read - start;
        let allowed = BYTES_PER_SECOND * second + u64::from(SEGMENT_BYTES);
        assert!(on_disk <= allowed, "{on_disk} of {allowed} bytes in {second} s");
        if after.rounds > before.rounds {
            ended.push((second, after.bytes));
        }
    }
    let rounds: Vec<u64> = ended.iter().map(|(second, _)| *second).collect();
    assert_eq!(rounds.len(), 3, "rounds ended in seconds {rounds:?}");
    assert!(rounds.is_sorted_by(|one, next| next - one >= 99), "{rounds:?}");
    // All but the last segment, and nothing twice.
    let bytes = ended[1].1 - ended[0].1;
    assert!(
        bytes <= sealed && bytes * 2 > sealed,
        "{bytes} of {sealed} bytes in a round"
    );
    // And the budget is used: opening files takes most of what is left of it.
    assert!(rounds[0] < 2 * sealed / BYTES_PER_SECOND + 10, "{rounds:?}");
}

#[test]
fn nothing_is_read_when_it_is_off() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 60);
    let ended = simulator.run(host, MEMORY_BYTES, 2 * LIMIT, || async {
        let (_directory, shard, _log) = open_with(config(), scrub(0, SECOND)).await;
        ring::timer::sleep(LIMIT).await;
        assert_eq!(shard.statistics().scrub, Default::default());
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

/// Bytes of memory for reading that are taken, and what half of them is.
fn reading(shard: &ShardLog) -> (usize, usize) {
    let memory = shard.statistics().memory;
    let reading = memory.iter().find(|pool| pool.name == "reading").expect("a pool");
    (reading.bytes_used, reading.bytes / 2)
}

/// How much the scrubber reads meanwhile.
async fn read_in(shard: &ShardLog, time: Duration) -> u64 {
    let before = shard.statistics().scrub.bytes;
    ring::timer::sleep(time).await;
    shard.statistics().scrub.bytes - before
}

#[test]
fn it_takes_no_memory_that_readers_may_want() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 200);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let (_directory, shard, log) = open_with(config(), scrub(16 << 20, SECOND / 10)).await;
        rounds(&shard, 1).await;
        let mut held = Vec::new();
        let mut offset = 0;
        loop {
            let (used, half) = reading(&shard);
            if used >= half {
                break;
            }
            let extent = log
                .read(offset, 1 << 20, true, log.high_watermark())
                .expect("there");
            held.push(log.load(extent).await.expect("read"));
            offset = (offset + 7) % 100;
        }
        // What was begun may end.
        read_in(&shard, SECOND).await;
        assert_eq!(read_in(&shard, 60 * SECOND).await, 0);
        drop(held);
        assert!(read_in(&shard, 10 * SECOND).await > 0, "it goes on");
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

#[test]
fn it_stands_back_while_the_journal_fills() {
    /// Looked at so often.
    const TICK: Duration = Duration::from_micros(50);
    let mut simulator = Simulator::new(1);
    let host = simulator.host(256 << 20);
    written(&mut simulator, host, 200);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let (_directory, shard, _log) = open_with(config(), scrub(1 << 30, Duration::from_millis(1))).await;
        let filling = spawn(Class::Latency, fill(shard.clone()));
        let (mut busy, mut idle) = (0, 0);
        // For how long it was fuller than that, and what was read when that began.
        let mut full = (0, 0);
        while !filling.is_finished() {
            ring::timer::sleep(TICK).await;
            let statistics = shard.statistics();
            let bytes = statistics.scrub.bytes;
            if statistics.unmigrated_bytes * 8 <= statistics.ring_bytes * 3 {
                full = (0, bytes);
                idle = bytes;
                continue;
            }
            full.0 += 1;
            // What was begun before may end.
            if full.0 == 10 {
                full.1 = bytes;
            }
            if full.0 > 10 {
                busy += 1;
                assert_eq!(bytes, full.1, "it reads, and the journal fills");
            }
        }
        assert!(
            busy > 100 && idle > 0,
            "full for {busy} ticks, and {idle} bytes were read"
        );
        shard.stop().await.expect("stopped");
    });
    ended.expect("it ends");
}

/// Fills the journal faster than so many partitions are migrated: what each has in flight is more than it holds.
async fn fill(shard: ShardLog) {
    const PARTITIONS: i32 = 120;
    let mut writers = Vec::new();
    for partition in 1..=PARTITIONS {
        let spec = PartitionSpec {
            id: TopicPartition { partition, ..ID },
            topic: "topic".to_owned(),
            leader_epoch: 1,
            config: config(),
        };
        let log = shard.create_partition(spec).await.expect("created");
        writers.push(spawn(Class::Latency, async move {
            for _ in 0..20 {
                append(&log, 1, 5_000).await;
            }
        }));
    }
    for writer in writers {
        writer.await;
    }
}

#[test]
fn a_shortage_of_descriptors_is_no_damage() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    written(&mut simulator, host, 60);
    let found = Found::default();
    let told = Arc::new(Mutex::new(0));
    let (inside, rounds) = (found.clone(), told.clone());
    simulator.start(host, MEMORY_BYTES, move || async move {
        let (_directory, shard, _log) = open_with(config(), scrub(1 << 20, SECOND)).await;
        let _collecting = collect(&shard, &inside);
        loop {
            *rounds.lock().expect("it runs") = shard.statistics().scrub.rounds;
            ring::timer::sleep(SECOND / 10).await;
        }
    });
    let look = || *told.lock().expect("it runs");
    assert!(simulator.run_until(LIMIT, |_| look() == 2));
    let descriptors = simulator.descriptors(host);
    simulator.set_descriptors_max(host, descriptors.saturating_sub(1));
    simulator.run_for(30 * SECOND);
    let before = look();
    simulator.run_for(30 * SECOND);
    assert_eq!(look(), before, "it gets no file open");
    simulator.set_descriptors_max(host, usize::MAX);
    assert!(simulator.run_until(LIMIT, |_| look() > before + 1));
    assert_eq!(*found.lock().expect("it runs"), []);
}
