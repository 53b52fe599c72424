//! A first start that ends before its journal is in a manifest, and what the next ones make of what it left.

use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{HostId, Simulator, for_each_seed};
use ring::timer::sleep;
use storage::StorageError;

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, spec};

const MEMORY_BYTES: usize = 64 << 20;
const JOURNAL: &str = "/data/journals/1-0/journal";

fn start(simulator: &mut Simulator, host: HostId) {
    simulator.start(host, MEMORY_BYTES, || async {
        let _opened = open(Place::default(), vec![spec(7, "r")]).await.expect("opened");
        std::future::pending::<()>().await;
    });
}

fn is_there(simulator: &Simulator, host: HostId, path: &str) -> bool {
    simulator.files(host).iter().any(|(name, _)| name == path)
}

/// The second start removes what the first has made, until the power goes. Of what it removed anything may come back: a
/// journal without its checkpoints, too.
#[test]
fn a_power_cut_while_a_start_removes_what_the_first_has_left_is_no_lost_manifest() {
    for_each_seed(0..60, |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(64 << 20);
        start(&mut simulator, host);
        assert!(simulator.run_until(LIMIT, |simulator| is_there(simulator, host, JOURNAL)));
        simulator.run_for(Duration::from_micros(seed));
        assert!(!is_there(&simulator, host, "/data/manifest"));
        simulator.kill(host);
        start(&mut simulator, host);
        assert!(simulator.run_until(LIMIT, |simulator| !is_there(simulator, host, JOURNAL)));
        simulator.power_cut(host);
        let ended = simulator.run(host, MEMORY_BYTES, LIMIT, || async {
            let opened = open(Place::default(), vec![spec(7, "r")]).await?;
            append(&opened.log(7), &batch(1, 100)).await.expect("appended");
            Ok::<_, StorageError>(())
        });
        if let Err(error) = ended.expect("it ends") {
            panic!("{error}");
        }
    });
}

/// How long the first holder keeps the directory after the second has come; whether the second gets it.
fn second_start(kept: Duration) -> bool {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let started = simulator.run(host, 2 * MEMORY_BYTES, LIMIT, move || async move {
        let place = Place::default();
        let first = open(place, vec![spec(7, "topic")]).await.expect("opened");
        first.shard.stop().await.expect("stopped");
        let leaving = spawn(Class::Latency, async move {
            sleep(kept).await;
            drop(first);
        });
        let second = open(place, vec![spec(7, "topic")]).await;
        leaving.await;
        match second {
            Ok(_) => true,
            Err(StorageError::InUse { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    });
    started.expect("it ends")
}

#[test]
fn a_start_waits_for_a_holder_that_is_on_its_way_out_and_for_no_other() {
    assert!(second_start(Duration::from_millis(500)));
    assert!(!second_start(Duration::from_secs(60)));
}
