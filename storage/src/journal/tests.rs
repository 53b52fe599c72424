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

/// Journals of small blocks and of pages, with blocks in their rings that a client made up.
#[test]
fn what_clients_send_is_never_taken_for_a_superblock() {
    let mut simulator = Simulator::new(1);
    for block_bytes in [1_024, 4_096] {
        let host = simulator.host(64 << 20);
        let ended = simulator.run(host, 64 << 20, Duration::from_secs(60), move || async move {
            let pool = Pool::new("staging", 8 << 20).expect("memory");
            let path = Path::new("/journal");
            let options = OpenOptions {
                read: true,
                write: true,
                create: true,
                ..OpenOptions::default()
            };
            // The simulator's device has no smaller blocks than pages: its journal is written as a plain file.
            let file = File::open(path, options).await.expect("made");
            file.set_len(9 << 20).await.expect("made longer");
            let write = async |superblock: &Superblock, at| {
                let mut block = vec![0; block_bytes as usize];
                superblock::encode(&mut block, superblock);
                assert_eq!(superblock::decode(&block), Some(*superblock));
                write_plainly(&file, block, at).await;
            };
            let of = |journal_id, generation, block_bytes: u32| Superblock {
                journal_id,
                generation,
                ..Journal::first_superblock(JournalOptions::new(8 << 20, block_bytes as usize), 0)
            };
            write(&of(7, 2, block_bytes), 0).await;
            write(&of(7, 1, block_bytes), block_bytes.into()).await;
            // In the ring, where a journal of larger blocks has its second copy.
            for power in 1..6 {
                let larger = block_bytes << power;
                if larger <= BLOCK_BYTES_MAX {
                    write(&of(8, 1 << 40, larger), larger.into()).await;
                }
            }
            let opened = async || Journal::open(path, 7, &pool, Access::ReadOnly).await;
            let newest = opened().await.expect("it is this journal").superblock();
            assert_eq!((newest.generation, newest.block_bytes), (2, block_bytes));
            // One copy is torn, or the other.
            write_plainly(&file, vec![9; block_bytes as usize], 0).await;
            let newest = opened().await.expect("the second copy is found").superblock();
            assert_eq!((newest.generation, newest.block_bytes), (1, block_bytes));
            write(&of(7, 2, block_bytes), 0).await;
            write_plainly(&file, vec![9; block_bytes as usize], block_bytes.into()).await;
            let newest = opened().await.expect("the first copy is found").superblock();
            assert_eq!((newest.generation, newest.block_bytes), (2, block_bytes));
        });
        ended.expect("it ends");
    }
}

async fn write_plainly(file: &File, bytes: Vec<u8>, at: u64) {
    let slices = vec![Slice::from(bytes)];
    let written = file.write_all_at(slices, at, Durability::Completed).await;
    written.expect("written");
}
