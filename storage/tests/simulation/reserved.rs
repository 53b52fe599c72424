//! Blocks that are reserved ahead for direct writes are no more than what is being written, and never in anybody's way.

use std::time::Duration;

use ring::simulator::{HostId, Simulator};

use crate::LIMIT;
use crate::plain::{Opened, Place, append, batch, open, spec};

const MEMORY_BYTES: usize = 64 << 20;

/// Writes two large batches to each of so many new partitions: enough for direct writes, and no more.
async fn write_to_many(opened: &Opened, count: u128) -> Result<(), String> {
    let bytes = batch(1, 90_000);
    for topic in 0..count {
        let spec = spec(100 + topic, &format!("t{topic}"));
        let log = opened.shard.create_partition(spec).await;
        let log = log.map_err(|error| error.to_string())?;
        for _ in 0..2 {
            append(&log, &bytes).await?;
            ring::timer::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn log_bytes(simulator: &Simulator, host: HostId) -> u64 {
    let files = simulator.files(host).into_iter();
    files
        .filter(|(name, _)| name.ends_with(".log"))
        .map(|(_, bytes)| bytes)
        .sum()
}

#[test]
fn what_is_reserved_for_a_partition_comes_back_when_it_rests() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        write_to_many(&opened, 150).await.expect("written");
        assert!(opened.shard.statistics().direct_bytes > 0, "nothing was reserved");
        // Two more checkpoints: a partition rests when nothing came between them.
        let before = opened.shard.statistics().checkpoints;
        while opened.shard.statistics().checkpoints < before + 2 {
            append(&opened.log(7), &batch(1, 40_000)).await.expect("appended");
        }
    });
    ended.expect("it ends");
    let data = 150 * 2 * 90_000;
    let bytes = log_bytes(&simulator, host);
    // With the file that the last writes went to, and blocks that are not full.
    assert!(bytes < data + (16 << 20), "{bytes} bytes for {data} of data");
}

#[test]
fn a_disk_that_what_is_reserved_has_filled_takes_what_is_written() {
    let mut simulator = Simulator::new(1);
    let place = Place {
        journal_bytes: 64 << 20,
        memory_bytes: 264 << 20,
        ..Place::default()
    };
    // With a MiB for each partition it is full before the first migration, to which none has rested.
    let host = simulator.host(place.journal_bytes + (150 << 20));
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let opened = open(place, Vec::new()).await.expect("opened");
        write_to_many(&opened, 250).await
    });
    assert_eq!(ended.expect("it ends"), Ok(()));
}

#[test]
fn what_was_reserved_before_a_crash_comes_back_with_the_start() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(8 << 30);
    let place = Place {
        journal_bytes: 64 << 20,
        memory_bytes: 264 << 20,
        ..Place::default()
    };
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let opened = open(place, Vec::new()).await.expect("opened");
        write_to_many(&opened, 50).await.expect("written");
    });
    ended.expect("it ends");
    simulator.power_cut(host);
    let reserved = log_bytes(&simulator, host);
    assert!(reserved > 40 << 20, "{reserved} bytes were reserved");
    let ended = simulator.run(host, 2 * place.memory_bytes, LIMIT, move || async move {
        let specs = (0..50).map(|topic| spec(100 + topic, &format!("t{topic}")));
        let opened = open(place, specs.collect()).await.expect("opened");
        for topic in 0..50 {
            assert_eq!(opened.log(100 + topic).log_end_offset(), 2);
        }
    });
    ended.expect("it ends");
    let left = log_bytes(&simulator, host);
    assert!(left < 50 * 2 * 95_000, "{left} bytes");
}
