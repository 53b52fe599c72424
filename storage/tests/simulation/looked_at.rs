//! Blocks in segments that nothing vouches for when a process ends: the next start looks at them, and what it has seen
//! and served stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::simulator::{DiskOperation, HostId, Injection, Simulator};

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, read, spec, try_append};

const MEMORY_BYTES: usize = 64 << 20;

/// Writes two large batches, of which the second goes to the segment at once, and one more of which nobody is told.
/// Gives the host when that is on its way.
fn begin(seed: u64) -> (Simulator, HostId) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(64 << 20);
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        for _ in 0..2 {
            append(&opened.log(7), &batch(1, 90_000)).await.expect("appended");
            ring::timer::sleep(Duration::from_millis(50)).await;
        }
        let before = opened.shard.statistics().direct_bytes;
        let _appended = try_append(&opened.log(7), &batch(1, 90_000)).expect("there is room");
        while opened.shard.statistics().direct_bytes == before {
            ring::timer::sleep(Duration::from_micros(1)).await;
        }
        tell.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    });
    assert!(simulator.run_until(LIMIT, |_| told.load(Ordering::Relaxed)));
    (simulator, host)
}

/// Opens the log, reads all of it, and ends at once. Where it ends.
fn look(simulator: &mut Simulator, host: HostId) -> i64 {
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
        let opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        let log = opened.log(7);
        let end = log.log_end_offset();
        let mut offset = 0;
        while offset < end {
            let found = read(&log, offset).await.expect("read");
            assert_eq!(found.first(), Some(&offset));
            offset += found.len() as i64;
        }
        end
    });
    ended.expect("it ends")
}

#[test]
fn what_a_start_has_seen_in_a_segment_outlives_the_power_cut_that_follows() {
    let (mut seen, mut missed) = (0, 0);
    for lives_us in (0..400).step_by(8) {
        let (mut simulator, host) = begin(lives_us);
        simulator.run_for(Duration::from_micros(lives_us));
        simulator.kill(host);
        let end = look(&mut simulator, host);
        simulator.power_cut(host);
        assert_eq!(look(&mut simulator, host), end, "after {lives_us} us");
        match end {
            2 => missed += 1,
            _ => seen += 1,
        }
    }
    assert!(missed > 0 && seen > 0, "{missed} were torn, {seen} were not");
}

#[test]
fn blocks_that_cannot_be_read_at_first_are_not_taken_for_torn() {
    for times in 1..=7 {
        let (mut simulator, host) = begin(1);
        // Its record is durable, and the next one, which would say so, is not written yet.
        simulator.run_for(Duration::from_millis(2));
        simulator.kill(host);
        simulator.inject(
            host,
            Injection {
                operation: DiskOperation::Read,
                path_contains: ".log".to_owned(),
                after: 0,
                times,
                errno: 5,
            },
        );
        assert_eq!(look(&mut simulator, host), 3, "{times} reads failed");
        assert_eq!(simulator.disk_counters(host).errors, u64::from(times));
    }
}
