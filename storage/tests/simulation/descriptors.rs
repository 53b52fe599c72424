//! A host where no file can be opened for a while: what is to be written waits in the journal, and nothing ends for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::simulator::{DiskOperation, Injection, Simulator, for_each_seed};
use storage::{PartitionConfig, PartitionSpec};

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, read_through, spec};

const MEMORY_BYTES: usize = 64 << 20;
const TOPICS: u128 = 24;
/// Has no file yet when none can be opened.
const LATE: u128 = TOPICS;
/// Is deleted meanwhile.
const DELETED: u128 = TOPICS - 1;

fn specs() -> Vec<PartitionSpec> {
    let small = |topic_id| PartitionSpec {
        config: PartitionConfig {
            segment_bytes: 256 << 10,
            ..PartitionConfig::default()
        },
        ..spec(topic_id, &format!("topic-{topic_id}"))
    };
    (1..=TOPICS).map(small).collect()
}

/// What the host tells, and is told.
#[derive(Debug, Clone, Default)]
struct Told {
    has_begun: bool,
    held_up_by: Option<String>,
    /// Of the partition that was written to all the time.
    end: i64,
    is_done: bool,
}

#[test]
fn without_descriptors_the_journal_keeps_what_comes_and_all_goes_on_afterwards() {
    for_each_seed(0..12, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(256 << 20);
        let told = Arc::new(Mutex::new(Told::default()));
        let inside = told.clone();
        simulator.start(host, MEMORY_BYTES, move || async move {
            let opened = open(Place::default(), specs()).await.expect("opened");
            let set = |change: &dyn Fn(&mut Told)| change(&mut inside.lock().expect("it runs"));
            // Through the journal, or to segments at once.
            let bytes = [20_000, 90_000][seed as usize % 2];
            for topic_id in 1..LATE {
                append(&opened.log(topic_id), &batch(1, bytes))
                    .await
                    .expect("acknowledged");
            }
            set(&|told| told.has_begun = true);
            ring::timer::sleep(Duration::from_secs(1)).await;
            let deleting = opened.shard.clone();
            let deleted = ring::executor::spawn(ring::executor::Class::Latency, async move {
                deleting.drop_partition(crate::plain::id(DELETED)).await
            });
            let (writing, wrote) = (opened.log(1), inside.clone());
            let late = opened.log(LATE);
            ring::executor::spawn(ring::executor::Class::Latency, async move {
                append(&late, &batch(1, bytes)).await.expect("acknowledged");
                loop {
                    let offset = append(&writing, &batch(1, bytes)).await.expect("acknowledged");
                    wrote.lock().expect("it runs").end = offset + 1;
                }
            })
            .detach();
            let error = opened.shard.hold_up_turn(false).await.expect("it is held up");
            assert!(error.is_short_of_descriptors(), "{error}");
            set(&|told| told.held_up_by = Some(error.to_string()));
            opened.shard.hold_up_turn(true).await;
            deleted.await.expect("deleted");
            let before = inside.lock().expect("it runs").end;
            while inside.lock().expect("it runs").end < before + 100 {
                ring::timer::sleep(Duration::from_millis(10)).await;
            }
            assert!(opened.shard.failure().is_none());
            set(&|told| told.is_done = true);
            std::future::pending::<()>().await;
        });
        let look = || told.lock().expect("it runs").clone();
        assert!(simulator.run_until(LIMIT, |_| look().has_begun));
        // Those that are open may be closed, for others to be opened; and then none is left.
        simulator.set_descriptors_max(host, 0);
        assert!(
            simulator.run_until(LIMIT, |_| look().held_up_by.is_some()),
            "{:?}",
            look()
        );
        simulator.run_for(Duration::from_secs(30));
        assert!(!look().is_done);
        simulator.set_descriptors_max(host, usize::MAX);
        assert!(simulator.run_until(LIMIT, |_| look().is_done), "{:?}", look());
        let end = look().end;
        simulator.power_cut(host);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, move || async move {
            let kept = specs()
                .into_iter()
                .filter(|spec| spec.id.topic_id != DELETED)
                .collect();
            let opened = open(Place::default(), kept).await.expect("opened");
            for (topic_id, end) in (2..DELETED).map(|id| (id, 1)).chain([(1, end), (LATE, 1)]) {
                let log = opened.log(topic_id);
                assert!(log.log_end_offset() >= end, "topic {topic_id}");
                read_through(&log, 0, end).await;
            }
        });
        ended.expect("it ends");
    });
}

#[test]
fn a_directory_that_cannot_be_opened_to_flush_its_names_is_flushed_later() {
    // That of the partition's file that says whose it is; that of its directory.
    for after in 0..2 {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(256 << 20);
        let injection = Injection {
            operation: DiskOperation::Sync,
            path_contains: "topic-1-0".to_owned(),
            after,
            times: 1,
            errno: 24,
        };
        simulator.inject(host, injection);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let opened = open(Place::default(), specs()).await.expect("opened");
            let log = opened.log(1);
            // Large ones, which want to go to their segment at once.
            for offset in 0..20 {
                let appended = append(&log, &batch(1, 90_000)).await;
                assert_eq!(appended.expect("acknowledged"), offset);
            }
            assert!(opened.shard.failure().is_none());
            opened.shard.stop().await.expect("stopped");
        });
        ended.expect("it ends");
    }
}
