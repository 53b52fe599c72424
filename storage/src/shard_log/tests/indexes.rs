//! The indexes of a log that is written over several lives: what no file has yet is in checkpoints.

use ring::simulator::{DiskOperation, Injection};

use super::*;
use crate::index::{self, Entries, EntryCounts};
use crate::opening::OpeningBudget;
use crate::segment::SegmentName;

/// Two of them, and there is an entry.
const SMALL_BYTES: usize = 3_000;

/// Appends so many batches, and writes them to the segment. The first half of them are older than all before; each of the others
/// is newer.
pub(super) async fn append_small(shard: &ShardLog, batches: i64) {
    append_at(shard, batches, |number, offset| {
        if number < batches / 2 { 500 } else { 1_000 + offset }
    })
    .await;
}

/// The same, with the times that are said for the number and the offset of each.
async fn append_at(shard: &ShardLog, batches: i64, time_ms: impl Fn(i64, i64) -> i64) {
    let log = shard.partition(spec(KEPT).id).expect("it is there");
    for number in 0..batches {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&NewRecord {
            timestamp_ms: time_ms(number, log.log_end_offset()),
            value: Some(&[7; SMALL_BYTES]),
            ..NewRecord::default()
        });
        let bytes = builder.build();
        let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
        let appended = log.append(batch.bytes(), batch.header()).expect("there is room");
        appended.ticket.committed().await.expect("durable");
    }
    while let Err(error) = shard.inner.migration.checkpoint().await {
        assert!(error.may_pass(), "{error}");
    }
}

/// Lives with so many batches each, of which none ends well but the last; `between` them something happens. The first
/// segment's indexes then, from its files, and from its batches.
fn after(lives: &'static [i64], between: fn(&mut Simulator, HostId)) -> (Entries, Entries) {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    for batches in lives {
        let life = simulator.run(host, 256 << 20, LIMIT, || async {
            let (_directory, shard) = open(vec![spec(KEPT)]).await;
            append_small(&shard, *batches).await;
        });
        life.expect("it ends");
        between(&mut simulator, host);
    }
    let last = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        sealed(&shard).await
    });
    last.expect("it ends")
}

/// Ends the first segment. Its indexes then, from its files, and from its batches.
async fn sealed(shard: &ShardLog) -> (Entries, Entries) {
    let log = shard.partition(spec(KEPT).id).expect("it is there");
    log.set_config(PartitionConfig {
        segment_bytes: SMALL_BYTES as u32,
        ..log.config()
    });
    append_small(shard, 1).await;
    let read = async |extension: &str| {
        let path = log_path(&log.directory(), 0).with_extension(extension);
        let pool = &shard.inner.shared.staging;
        crate::files::read_small(&path, pool).await.expect("it is there")
    };
    let in_files = Entries {
        offsets: index::offset_entries(&read("index").await).collect(),
        times: index::time_entries(&read("timeindex").await).collect(),
    };
    let of_batches = log.rebuilt_index(0).await.expect("it is read");
    let last_time = of_batches.max_timestamp_ms;
    assert_eq!(
        in_files.times.last().map(|time| time.timestamp_ms),
        Some(last_time)
    );
    let of_batches = Entries {
        offsets: of_batches.offsets,
        times: of_batches.times,
    };
    (in_files, of_batches)
}

#[test]
fn indexes_of_active_segments_have_bounded_memory_and_all_is_found_with_them() {
    const BATCHES: i64 = 100_000;
    const BUSY: u128 = 9;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT), spec(BUSY)]).await;
        // So few entries that no file has them.
        append_small(&shard, 20).await;
        let log = shard.partition(spec(BUSY).id).expect("it is there");
        log.set_config(PartitionConfig {
            index_interval_bytes: 0,
            ..PartitionConfig::default()
        });
        let bounds = &shard.inner.shared;
        let mut most = 0;
        for offset in 0..BATCHES {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(&NewRecord {
                timestamp_ms: 1_000 + 2 * offset,
                ..NewRecord::default()
            });
            let bytes = builder.build();
            let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
            let appended = log.append(batch.bytes(), batch.header()).expect("there is room");
            if offset % 500 == 499 {
                appended.ticket.committed().await.expect("durable");
            }
            if offset % 10_000 == 9_999 {
                shard.inner.migration.checkpoint().await.expect("a checkpoint");
                most = most.max(log.index_memory_bytes());
            }
        }
        assert!(
            most > bounds.index_bytes_max / 2 && most <= bounds.index_bytes_max,
            "{most}"
        );
        assert!(shard.inner.committer.evict_half(), "it is read from the segment");
        while shard.inner.committer.evict_half() {}
        let budget = OpeningBudget::new(1 << 20);
        let before = shard.statistics().read_bytes;
        for offset in (0..BATCHES).step_by(9_973) {
            let found = log
                .offset_for_timestamp(1_000 + 2 * offset, &budget)
                .await
                .expect("readable");
            assert_eq!(found.map(|(offset, ..)| offset), Some(offset));
        }
        let read = shard.statistics().read_bytes - before;
        assert!(read < 11 * (1 << 20), "{read} bytes were read");
        sealed(&shard).await
    });
    let (in_files, of_batches) = life.expect("it ends");
    assert!(of_batches.offsets.len() > 5);
    assert_eq!(without_last_time(in_files, &of_batches), of_batches);
}

/// The last time of a segment has an entry of its own, which its batches do not give.
fn without_last_time(mut entries: Entries, of_batches: &Entries) -> Entries {
    entries.times.truncate(of_batches.times.len());
    entries
}

#[test]
fn indexes_go_on_over_lives_as_if_there_had_been_one() {
    for lives in [&[1, 20][..], &[40, 1, 60], &[150, 10], &[10, 150, 10]] {
        let (in_files, of_batches) = after(lives, |_, _| {});
        assert!(in_files.times.len() <= of_batches.times.len() + 1);
        let in_files = without_last_time(in_files, &of_batches);
        assert_eq!(in_files, of_batches, "{lives:?}");
    }
}

#[test]
fn an_index_that_is_not_whole_is_made_anew_before_it_is_gone_on_with() {
    let lose = |simulator: &mut Simulator, host: HostId| {
        let path = format!("/data/{}/00000000000000000000.index", "topic-5-0");
        assert!(simulator.flip_bit(host, &path, 12, 7).expect("a file"));
    };
    let (in_files, of_batches) = after(&[150], lose);
    assert!(of_batches.offsets.len() > 70);
    let in_files = without_last_time(in_files, &of_batches);
    assert_eq!(in_files, of_batches);
}

#[test]
fn an_index_that_cannot_be_opened_now_is_gone_on_with_later() {
    // Whatever of the segment cannot: its indexes, and the log that they would be made anew from.
    for after in 0..12 {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 30);
        let first = simulator.run(host, 256 << 20, LIMIT, || async {
            let (_directory, shard) = open(vec![spec(KEPT)]).await;
            append_small(&shard, 150).await;
        });
        first.expect("it ends");
        let injection = Injection {
            operation: DiskOperation::Name,
            path_contains: "topic-5-0/0000".to_owned(),
            after,
            times: 4,
            errno: 24,
        };
        simulator.inject(host, injection);
        let second = simulator.run(host, 256 << 20, LIMIT, || async {
            let (_directory, shard) = open(vec![spec(KEPT)]).await;
            // Among many logs a file that was written to may be closed by now.
            shard.inner.shared.files.keep_open(0);
            append_small(&shard, 150).await;
            sealed(&shard).await
        });
        let (in_files, of_batches) = second.expect("it ends");
        assert!(of_batches.offsets.len() > 140);
        assert_eq!(
            without_last_time(in_files, &of_batches),
            of_batches,
            "after {after}"
        );
    }
}

#[test]
fn a_search_that_could_open_no_index_once_looks_at_it_the_next_time() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_small(&shard, 150).await;
        sealed(&shard).await;
        shard.stop().await.expect("stopped");
    });
    life.expect("it ends");
    let injection = Injection {
        operation: DiskOperation::Name,
        path_contains: "00.index".to_owned(),
        after: 0,
        times: 1,
        errno: 23,
    };
    simulator.inject(host, injection);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        let log = shard.partition(spec(KEPT).id).expect("it is there");
        let counts = log.sealed_from(0).expect("a sealed segment");
        let counts = EntryCounts {
            offsets: counts.index_entries,
            times: counts.time_entries,
        };
        let directory = log.directory();
        let look = async || {
            let index = (shard.inner.shared.files).index(
                &directory,
                log.id(),
                SegmentName::first(0),
                u32::MAX,
                counts,
                &shard.inner.shared.staging,
            );
            index.await.offsets.len()
        };
        (look().await, look().await)
    });
    let (first, second) = life.expect("it ends");
    assert!(first == 0 && second > 70, "{first} {second}");
}

#[test]
fn a_log_that_has_no_block_has_no_files() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let mut there = |batches: i64| {
        let life = simulator.run(host, 256 << 20, LIMIT, move || async move {
            let (_directory, shard) = open(vec![spec(KEPT)]).await;
            append_small(&shard, batches).await;
            let log = shard.partition(spec(KEPT).id).expect("it is there");
            let is_there = directory::exists(&log.directory()).await.expect("looked at");
            (is_there, log.log_end_offset())
        });
        life.expect("it ends")
    };
    assert_eq!(
        [there(1), there(0), there(1)],
        [(false, 1), (false, 1), (true, 2)]
    );
}

#[test]
fn after_a_clean_stop_both_indexes_are_there_whatever_is_in_them() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_at(&shard, 150, |_, _| -1).await;
        shard.stop().await.expect("stopped");
    });
    life.expect("it ends");
    let bytes = |extension: &str| {
        let path = format!("/data/topic-5-0/00000000000000000000.{extension}");
        simulator.read_file(host, &path).expect("it is there").len()
    };
    let (offsets, times) = (bytes("index"), bytes("timeindex"));
    assert!(
        offsets > 64 * index::INDEX_ENTRY_BYTES && times == 0,
        "{offsets} {times}"
    );
}

#[test]
fn what_only_a_checkpoint_has_is_checked() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_small(&shard, 1).await;
        shard.stop().await.expect("stopped");
        let path = shard.partition(spec(KEPT).id).expect("it is there").directory();
        directory::remove_all(&path).await.expect("removed");
    });
    life.expect("it ends");
    let batches = simulator.run(host, 2 << 30, LIMIT, || async {
        let checked = crate::inspect::check(Path::new(DATA), &[], &mut |_| {}).await;
        let summary = checked.expect("it can run");
        (summary.batches, summary.is_clean())
    });
    assert_eq!(batches.expect("it ends"), (1, true));
}
