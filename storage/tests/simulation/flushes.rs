//! A flush that fails: nothing may be believed that it made doubtful, whoever else flushes after it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{DiskOperation, HostId, Injection, Simulator, for_each_seed};

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, read, spec};

const MEMORY_BYTES: usize = 64 << 20;

/// Writes large batches, four at a time, until something fails.
fn write(simulator: &mut Simulator, host: HostId) -> Arc<Mutex<i64>> {
    let acknowledged = Arc::new(Mutex::new(-1));
    let told = acknowledged.clone();
    simulator.start(host, MEMORY_BYTES, move || async move {
        let opened = open(Place::default(), vec![spec(7, "topic")])
            .await
            .expect("opened");
        let mut writers = Vec::new();
        for _ in 0..4 {
            let (log, told) = (opened.log(7), told.clone());
            writers.push(spawn(Class::Latency, async move {
                while let Ok(offset) = append(&log, &batch(1, 90_000)).await {
                    let mut told = told.lock().expect("it runs");
                    *told = offset.max(*told);
                }
            }));
        }
        for writer in writers {
            writer.await;
        }
    });
    acknowledged
}

/// Cuts the power, and looks for everything up to `last`.
fn check(simulator: &mut Simulator, host: HostId, last: i64) {
    simulator.power_cut(host);
    simulator.heal_disk(host);
    let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
        let opened = open(Place::default(), vec![spec(7, "topic")])
            .await
            .expect("opened");
        let log = opened.log(7);
        let end = log.log_end_offset();
        assert!(end > last, "{last} was acknowledged, and the log ends at {end}");
        let mut offset = 0;
        while offset <= last {
            let found = read(&log, offset).await.expect("read");
            assert_eq!(found.first(), Some(&offset));
            offset += found.len() as i64;
        }
    });
    ended.expect("it ends");
}

#[test]
fn what_was_acknowledged_beside_a_flush_that_failed_is_there_after_a_power_cut() {
    for_each_seed(0..300, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let acknowledged = write(&mut simulator, host);
        let has_begun = |_: &Simulator| *acknowledged.lock().expect("it runs") > 20;
        assert!(simulator.run_until(LIMIT, has_begun));
        let injection = Injection {
            operation: DiskOperation::Sync,
            path_contains: ["/journal", ".log"][(simulator.random_u64() % 2) as usize].to_owned(),
            after: (simulator.random_u64() % 8) as u32,
            times: 1,
            errno: 5,
        };
        simulator.inject(host, injection);
        simulator.run_for(Duration::from_millis(50));
        let last = *acknowledged.lock().expect("it runs");
        check(&mut simulator, host, last);
    });
}
