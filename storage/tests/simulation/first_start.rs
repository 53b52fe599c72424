//! A first start that ends before its journal is in a manifest, and what the next ones make of what it left.

use std::time::Duration;

use ring::simulator::{HostId, Simulator, for_each_seed};

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
            Ok::<_, storage::StorageError>(())
        });
        if let Err(error) = ended.expect("it ends") {
            panic!("{error}");
        }
    });
}
