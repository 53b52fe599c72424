//! The scrubber, over segments that were compacted: what is gone from them is no damage, and what rots in them is found.

use std::num::NonZeroU64;
use std::time::Duration;

use ring::simulator::{HostId, Simulator};
use storage::inspect::Severity;
use storage::{ScrubFinding, ScrubOptions};

use crate::one_log::{ANY, cleaned, fill, id, names, on_a_host, open_one, open_with};

const SCRUB: ScrubOptions = ScrubOptions {
    bytes_per_second: NonZeroU64::new(16 << 20),
    interval: Duration::from_millis(100),
};
/// Keys that come once, and fill some segments.
const SINGLE: u32 = 600;

/// A log of which everything is left in some segments, and nothing in others behind them; closed. Its `.log` files.
fn written(simulator: &mut Simulator, host: HostId) -> Vec<(String, u64)> {
    on_a_host(simulator, host, || async {
        let (shard, log) = open_one(ANY).await;
        fill(&log, 0..SINGLE, SINGLE).await;
        fill(&log, SINGLE..3 * SINGLE, 3).await;
        cleaned(&shard).await;
        shard.stop().await.expect("stopped");
    });
    let mut logs = names(simulator, host, 0);
    logs.retain(|(name, _)| name.ends_with(".log"));
    logs
}

/// What two rounds have found.
fn found(simulator: &mut Simulator, host: HostId) -> Vec<ScrubFinding> {
    on_a_host(simulator, host, || async {
        let shard = open_with(ANY, SCRUB).await.expect("opened");
        while shard.statistics().scrub.rounds < 2 {
            ring::timer::sleep(SCRUB.interval).await;
        }
        let mut found = Vec::new();
        while let Ok(finding) = ring::timer::timeout(SCRUB.interval, shard.next_finding()).await {
            found.push(finding);
        }
        shard.stop().await.expect("stopped");
        found
    })
}

#[test]
fn rot_in_a_compacted_segment_is_found_and_holes_are_none() {
    let mut simulator = Simulator::new(15);
    let host = simulator.host(1 << 30);
    let logs = written(&mut simulator, host);
    assert_eq!(found(&mut simulator, host), []);
    // Each of those that were compacted; one comes before another of which nothing is left.
    let closed = &logs[..logs.len() - 1];
    let before_nothing = closed.iter().zip(&closed[1..]);
    let before_nothing = before_nothing.filter(|(one, next)| one.1 > 0 && next.1 == 0);
    assert!(before_nothing.count() > 0, "{logs:?}");
    for (path, bytes) in closed.iter().filter(|(_, bytes)| *bytes > 0) {
        assert!(simulator.flip_bit(host, path, bytes - 1, 3).expect("a file"));
        let found = found(&mut simulator, host);
        assert!(
            matches!(&found[..], [ScrubFinding { partition, finding }]
                if *partition == id(0)
                    && finding.severity == Severity::Damage
                    && format!("/data/{}", finding.path) == *path),
            "{path}: {found:?}"
        );
        assert!(simulator.flip_bit(host, path, bytes - 1, 3).expect("a file"));
    }
}

#[test]
fn a_segment_that_is_compacted_while_it_is_read_is_no_damage() {
    let mut simulator = Simulator::new(16);
    let host = simulator.host(1 << 30);
    on_a_host(&mut simulator, host, || async {
        // Seconds for each step.
        let slow = ScrubOptions {
            bytes_per_second: NonZeroU64::new(1_000),
            ..SCRUB
        };
        let shard = open_with(ANY, slow).await.expect("opened");
        let log = shard.partition(id(0)).expect("it is there");
        fill(&log, 0..600, 20).await;
        while shard.statistics().scrub.bytes == 0 {
            ring::timer::sleep(SCRUB.interval).await;
        }
        let before = log.size_bytes();
        cleaned(&shard).await;
        assert!(log.size_bytes() < before / 2);
        let more = ring::timer::timeout(Duration::from_secs(200), shard.next_finding()).await;
        assert!(more.is_err(), "{more:?}");
        shard.stop().await.expect("stopped");
    });
}
