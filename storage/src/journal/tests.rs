//! What a start says in the superblocks.

use std::time::Duration;

use ring::simulator::Simulator;

use super::*;

#[test]
fn both_superblocks_name_what_a_start_needs_of_the_journal() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(64 << 20);
    let ended = simulator.run(host, 64 << 20, Duration::from_secs(60), || async {
        let pool = Pool::new("staging", 8 << 20).expect("memory");
        let path = Path::new("/journal");
        let options = JournalOptions::new(8 << 20, 4_096);
        let first = Journal::first_superblock(options, 0);
        Journal::create(path, options, 7, first, &pool)
            .await
            .expect("made");
        let journal = Journal::open(path, 7, &pool, Access::ReadWrite)
            .await
            .expect("opened");
        let tail = ReplayStart {
            seq: 9,
            position: 3 * 4_096,
            previous_crc: 5,
        };
        assert_ne!(journal.superblock().tail, tail);
        let epoch = journal.begin_epoch(tail).await.expect("begun");
        let said = journal.superblocks().await.expect("read");
        let said = said.map(|copy| copy.map(|copy| (copy.start_epoch, copy.tail)));
        assert_eq!(said, [Some((epoch, tail)); 2]);
    });
    ended.expect("it ends");
}
