//! Memory that a start has filled comes back.

use ring::simulator::Simulator;
use storage::AppendError;

use crate::LIMIT;
use crate::plain::{Place, append, batch, open, spec, try_append};

#[test]
fn a_log_whose_memory_the_replay_has_filled_takes_a_large_batch() {
    let place = Place {
        journal_bytes: 640 << 20,
        memory_bytes: 264 << 20,
        direct_bytes_min: usize::MAX,
        ..Place::default()
    };
    let memory_bytes = 2 * place.memory_bytes;
    let mut simulator = Simulator::new(1);
    let host = simulator.host(2 << 30);
    let ended = simulator.run(host, memory_bytes, LIMIT, move || async move {
        let opened = open(place, vec![spec(7, "topic")]).await.expect("opened");
        let mut written = 0;
        // Less than what makes a migration due, and as much as fits.
        while opened.shard.statistics().checkpoints == 0 && written < 117 {
            append(&opened.log(7), &batch(1, 1 << 20))
                .await
                .expect("appended");
            written += 1;
        }
    });
    ended.expect("it ends");
    simulator.kill(host);
    let ended = simulator.run(host, memory_bytes, LIMIT, move || async move {
        let opened = open(place, vec![spec(7, "topic")]).await.expect("opened");
        let mut refused = 0;
        loop {
            match try_append(&opened.log(7), &batch(1, 1 << 20)) {
                Ok(_) => return,
                Err(AppendError::JournalFull | AppendError::BacklogFull) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(refused < 1_000, "it is refused for ever");
            ring::timer::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    ended.expect("it ends");
}
