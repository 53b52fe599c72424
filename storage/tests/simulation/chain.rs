//! A batch's offset is covered by no CRC: a reader knows it by the batch before.

use ring::simulator::Simulator;

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, read, spec};

const LOG: &str = "/data/topic-0/00000000000000000000.log";
const MEMORY_BYTES: usize = 64 << 20;

#[test]
fn a_rotten_offset_is_neither_served_nor_taken_for_the_end() {
    // Four batches of ten records; bits of the second one's first offset, 10.
    for (byte, bit) in [(0, 7), (2, 0), (6, 0), (7, 0), (7, 1), (7, 2), (7, 3)] {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(64 << 20);
        let written = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let opened = open(Place::default(), vec![spec(7, "topic")])
                .await
                .expect("opened");
            for _ in 0..4 {
                append(&opened.log(7), &batch(10, 100)).await.expect("appended");
            }
            opened.shard.stop().await.expect("stopped");
        });
        written.expect("it ends");
        let at = batch(10, 100).len() as u64 + byte;
        assert!(simulator.flip_bit(host, LOG, at, bit).expect("a file"));
        let found = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let opened = open(Place::default(), vec![spec(7, "topic")])
                .await
                .expect("opened");
            let mut found = Vec::new();
            for offset in [0, 9, 10, 12, 15, 20, 39] {
                found.push((offset, read(&opened.log(7), offset).await));
            }
            found
        });
        for (offset, read) in found.expect("it ends") {
            let what = format!("byte {byte}, bit {bit}, read from {offset}: {read:?}");
            match read {
                Ok(offsets) => {
                    assert!(!offsets.is_empty(), "{what}");
                    let is_there = |offset: &i64| [0, 10, 20, 30].contains(offset);
                    assert!(offsets.iter().all(is_there) && offsets.is_sorted(), "{what}");
                    assert!(offsets[0] <= offset && offset < offsets[0] + 10, "{what}");
                }
                Err(error) => assert!(error.contains("is damaged at byte"), "{what}"),
            }
        }
    }
}
