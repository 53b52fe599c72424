//! Files of removed segments: which are kept, for whom, and until when.

use ring::file::{Allocate, File, OpenOptions};

use super::*;
use crate::files::log_path;
use crate::segment::SegmentName;

/// Fills segments of two batches each, up to so many of them in all.
async fn fill(log: &PartitionLog, segments: i64) {
    log.set_config(PartitionConfig {
        segment_bytes: 2 * BATCH_BYTES as u32 + 1_000,
        ..PartitionConfig::default()
    });
    while log.log_end_offset() < 2 * segments {
        append(log).await;
        ring::timer::sleep(Duration::from_millis(20)).await;
    }
    log.migrate(u64::MAX).await.expect("migrated");
}

/// The same, and has all but the last two removed.
async fn roll(shard: &ShardLog, log: &PartitionLog, segments: i64) {
    fill(log, segments).await;
    let removed = shard.statistics().removed_segments;
    let start = log.log_end_offset() - 4;
    log.delete_records(start).await.expect("deleted");
    while shard.statistics().removed_segments == removed {
        ring::timer::sleep(Duration::from_millis(5)).await;
    }
    ring::timer::sleep(Duration::from_millis(20)).await;
}

/// The names of the files that are kept.
async fn spares(log: &PartitionLog) -> Vec<String> {
    let names = directory::list(&log.directory()).await.expect("listed");
    let names = names.into_iter().map(|entry| entry.name);
    names.filter(|name| is_spare_name(name)).collect()
}

/// A file of somebody else, on the same disk.
async fn others() -> File {
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    File::open(Path::new("/others"), options).await.expect("made")
}

#[test]
fn a_file_that_somebody_has_open_is_not_written_over() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        append(&log).await;
        ring::timer::sleep(Duration::from_millis(20)).await;
        let files = &log.partition.shared.files;
        let first = SegmentName::first(0);
        let reader = files.log(&log.directory(), ID, first, false).await.expect("open");
        roll(&shard, &log, 4).await;
        assert_eq!(
            spares(&log).await,
            [
                "00000000000000000000.log.deleted",
                "00000000000000000002.log.deleted"
            ]
        );
        let first_block = async || {
            let buffer = log.partition.shared.reading.try_take(4_096).expect("memory");
            let (read, buffer) = reader.read_exact_at(buffer, 0..4_096, 0).await;
            assert_eq!(read.expect("read"), 4_096);
            buffer[..4_096].to_vec()
        };
        let before = first_block().await;
        // One of the two is taken, and the other is not.
        roll(&shard, &log, 6).await;
        assert_eq!(shard.statistics().reused_segments, 1);
        assert!(
            spares(&log)
                .await
                .contains(&"00000000000000000000.log.deleted".to_owned())
        );
        assert!(first_block().await == before, "another segment's");
        drop(reader);
        roll(&shard, &log, 8).await;
        assert!(
            !spares(&log)
                .await
                .contains(&"00000000000000000000.log.deleted".to_owned())
        );
        assert!(shard.statistics().reused_segments > 1);
    });
}

#[test]
fn a_file_that_somebody_is_about_to_open_is_not_kept() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        fill(&log, 4).await;
        let (files, directory) = (&log.partition.shared.files, log.directory());
        let first = SegmentName::first(0);
        drop(files.forget_segment(ID, first));
        let mut opening = std::pin::pin!(files.log(&directory, ID, first, false));
        std::future::poll_fn(|context| {
            assert!(opening.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        roll(&shard, &log, 4).await;
        assert_eq!(spares(&log).await, ["00000000000000000002.log.deleted"]);
        opening.await.expect("it was there");
    });
}

#[test]
fn whoever_opens_a_file_while_it_goes_keeps_it_from_being_written_over() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        fill(&log, 3).await;
        let (files, directory) = (&log.partition.shared.files, log.directory());
        let first = SegmentName::first(0);
        let (its, of_shard) = (log.clone(), shard.clone());
        let removing = spawn(Class::Latency, async move { roll(&of_shard, &its, 3).await });
        let mut reader = None;
        while let Ok(opened) = files.log(&directory, ID, first, false).await {
            reader = Some(opened);
            ring::executor::yield_now().await;
        }
        removing.await;
        assert!(reader.is_some());
        assert_eq!(spares(&log).await, ["00000000000000000000.log.deleted"]);
        roll(&shard, &log, 6).await;
        assert_eq!(shard.statistics().reused_segments, 0);
        drop(reader);
        roll(&shard, &log, 8).await;
        assert!(shard.statistics().reused_segments > 0);
    });
}

#[test]
fn files_of_another_size_go_and_those_of_a_log_that_was_emptied_too() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        roll(&shard, &log, 6).await;
        assert_eq!(spares(&log).await.len(), 4);
        log.set_config(PartitionConfig {
            segment_bytes: 10 * BATCH_BYTES as u32,
            ..PartitionConfig::default()
        });
        let path = log_path(&log.directory(), 100);
        assert_eq!(log.take_spare(&path).await, 0, "it would be most of it new");
        log.look_at_spares().await;
        assert_eq!(spares(&log).await.len(), 0);
        roll(&shard, &log, 12).await;
        let end = log.log_end_offset();
        log.delete_records(end).await.expect("deleted");
        ring::timer::sleep(Duration::from_millis(50)).await;
        assert!(!spares(&log).await.is_empty() && !log.writes_direct());
        ring::timer::sleep(Duration::from_secs(2)).await;
        assert!(log.rests_for(Duration::from_secs(1)));
        log.give_back().await;
        assert_eq!(spares(&log).await.len(), 0);
    });
}

#[test]
fn no_more_files_are_kept_than_segments_are_begun_and_none_on_a_full_disk() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        roll(&shard, &log, 6).await;
        assert_eq!(spares(&log).await.len(), 4);
        log.look_at_spares().await;
        assert_eq!(spares(&log).await.len(), 4);
        // Nothing is begun between two looks.
        log.look_at_spares().await;
        assert_eq!(spares(&log).await.len(), 0);
        fill(&log, 16).await;
        log.look_at_spares().await;
        log.look_at_spares().await;
        // Two are begun, and sixteen go.
        roll(&shard, &log, 18).await;
        assert_eq!(spares(&log).await.len(), 3);
        log.give_back().await;
        assert_eq!(spares(&log).await.len(), 0);
        log.partition.shared.is_disk_short.set(true);
        roll(&shard, &log, 22).await;
        assert_eq!(spares(&log).await.len(), 0);
    });
}

#[test]
fn no_file_is_put_in_the_place_of_one_that_a_migration_makes() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        let no_preparing = log.pause_preparing().await;
        append(&log).await;
        let its = log.clone();
        let migrating = spawn(Class::Latency, async move { its.migrate(u64::MAX).await });
        ring::timer::sleep(Duration::from_millis(50)).await;
        let first = log_path(&log.directory(), 0);
        assert!(
            !directory::exists(&first).await.expect("looked at"),
            "it is made beside"
        );
        drop(no_preparing);
        migrating.await.expect("migrated");
        assert!(directory::exists(&first).await.expect("looked at"));
        roll(&shard, &log, 4).await;
        let kept = spares(&log).await;
        assert!(!kept.is_empty());
        let newest = log_path(&log.directory(), 6);
        assert!(directory::exists(&newest).await.expect("looked at"));
        assert_eq!(log.take_spare(&newest).await, 0);
        assert_eq!(spares(&log).await, kept);
    });
}

#[test]
fn files_that_are_kept_go_when_the_disk_is_nearly_full() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        roll(&shard, &log, 6).await;
        let others = others().await;
        others
            .allocate(0..240 << 20, Allocate::Extend)
            .await
            .expect("there is room");
        assert_eq!(spares(&log).await.len(), 4);
        // It is looked at sooner than a partition has rested.
        ring::timer::sleep(Duration::from_secs(11)).await;
        assert_eq!(spares(&log).await.len(), 0);
        assert!(log.writes_direct());
    });
}

#[test]
fn an_old_file_that_cannot_get_the_blocks_that_it_lacks_is_cut() {
    simulate(|| async {
        let (_directory, shard, log) = open().await;
        roll(&shard, &log, 4).await;
        let others = others().await;
        let (mut bytes, mut step) = (0, 128 << 20);
        while step >= 4_096 {
            match others.allocate(0..bytes + step, Allocate::Extend).await {
                Ok(()) => bytes += step,
                Err(_) => step /= 2,
            }
        }
        let kept = spares(&log).await;
        append(&log).await;
        ring::timer::sleep(Duration::from_millis(20)).await;
        assert_eq!(spares(&log).await.len() + 1, kept.len());
        let names = directory::list(&log.directory()).await.expect("listed");
        let newest = names.iter().find(|entry| entry.name.ends_with("8.log"));
        let bytes = newest.expect("it got the file").bytes;
        assert!(bytes < BATCH_BYTES as u64 + 8_192, "{bytes} bytes");
    });
}
