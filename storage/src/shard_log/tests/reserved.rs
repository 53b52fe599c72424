//! What migrations reserve behind a segment, and when it is given back.

use super::indexes::append_small;
use super::*;

/// Bytes of the first segment's file, and of what is written to it in whole blocks.
async fn lengths(shard: &ShardLog) -> (u64, u64) {
    let log = shard.partition(spec(KEPT).id).expect("it is there");
    let names = directory::list(&log.directory()).await.expect("its directory");
    let file = names.iter().find(|entry| entry.name.ends_with("0.log"));
    let saved = log.checkpoint();
    let written = u64::from(saved.segments[0].length) - saved.partial.len() as u64;
    (file.expect("a segment").bytes, written)
}

#[test]
fn three_times_what_there_is_is_reserved_and_given_back_when_the_disk_is_full() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_small(&shard, 2).await;
        let (bytes, written) = lengths(&shard).await;
        assert_eq!((bytes, written), (60 << 10, 4_096), "of little, more");
        append_small(&shard, 18).await;
        append_small(&shard, 20).await;
        let (bytes, written) = lengths(&shard).await;
        assert_eq!(bytes, 4 * written);
        let log = shard.partition(spec(KEPT).id).expect("it is there");
        log.give_back().await;
        let (bytes, written) = lengths(&shard).await;
        assert!(
            (written..=written + 4_096).contains(&bytes),
            "{bytes} of {written}"
        );
        // On a full disk nothing is reserved again, until there is room.
        shard.inner.shared.is_disk_short.set(true);
        append_small(&shard, 20).await;
        let (bytes, written) = lengths(&shard).await;
        assert_eq!(bytes, written);
        append_small(&shard, 20).await;
        let (bytes, written) = lengths(&shard).await;
        assert_eq!(bytes, 4 * written);
    });
    life.expect("it ends");
}

#[test]
fn what_was_reserved_for_a_segment_that_is_deleted_is_not_taken_for_the_next_ones() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let life = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_small(&shard, 40).await;
        let log = shard.partition(spec(KEPT).id).expect("it is there");
        log.delete_records(40).await.expect("deleted");
        shard.inner.migration.checkpoint().await.expect("a checkpoint");
        append_small(&shard, 2).await;
        lengths(&shard).await
    });
    assert_eq!(life.expect("it ends"), (60 << 10, 4_096));
}

#[test]
fn what_an_earlier_life_has_reserved_is_used_and_a_clean_stop_gives_it_back() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let first = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_small(&shard, 20).await;
        lengths(&shard).await
    });
    let (reserved, _) = first.expect("it ends");
    let second = simulator.run(host, 256 << 20, LIMIT, || async {
        let (_directory, shard) = open(vec![spec(KEPT)]).await;
        append_small(&shard, 1).await;
        let within = lengths(&shard).await;
        shard.stop().await.expect("stopped");
        let log = shard.partition(spec(KEPT).id).expect("it is there");
        let end = u64::from(log.checkpoint().segments[0].length);
        (within, (lengths(&shard).await.0, end))
    });
    let ((bytes, written), (stopped, end)) = second.expect("it ends");
    assert!(written < reserved);
    assert_eq!((bytes, stopped), (reserved, end));
}
