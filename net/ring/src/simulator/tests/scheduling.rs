//! Order, time, threads, kills.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::{Notes, NotesDrop};
use crate::buffer::Pool;
use crate::executor::{Class, spawn, yield_now};
use crate::file::{Durability, File, OpenOptions};
use crate::simulator::{HostId, Simulator};
use crate::thread::{self, ThreadOptions};
use crate::{channel, clock, random, timer};

const MEMORY: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

fn options(memory_bytes: usize) -> ThreadOptions {
    ThreadOptions {
        name: "worker".to_owned(),
        cpu: None,
        memory_bytes,
        ..ThreadOptions::default()
    }
}

/// A program with tasks, files, timers, threads and chance; its notes depend on their order.
fn busy_program(seed: u64) -> (u64, Vec<u64>) {
    let mut simulator = Simulator::new(seed);
    let host = simulator.host(1 << 30);
    let notes = Notes::default();
    let log = notes.clone();
    simulator.run(host, MEMORY, LIMIT, move || async move {
        let (sender, mut receiver) = channel::bounded::<u64>(2);
        let worker_log = log.clone();
        let worker = thread::spawn(options(MEMORY), move || async move {
            while let Some(message) = receiver.receive().await {
                worker_log.add(1000 + message);
                timer::sleep(Duration::from_micros(random::next_u64() % 50)).await;
            }
        })
        .unwrap();
        let mut tasks = Vec::new();
        for task in 0..5_u64 {
            let (log, sender) = (log.clone(), sender.clone());
            tasks.push(spawn(Class::Latency, async move {
                let path = format!("/{task}");
                let create = OpenOptions {
                    write: true,
                    create: true,
                    ..OpenOptions::default()
                };
                let file = File::open(path.as_ref(), create).await.unwrap();
                for round in 0..5 {
                    file.write_all_at(vec![vec![1; 100].into()], round * 100, Durability::Completed)
                        .await
                        .unwrap();
                    log.add(task);
                    sender.send(task).await.unwrap();
                    yield_now().await;
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        drop(sender);
        worker.ended().await;
        log.add(clock::now().0);
    });
    (simulator.trace_hash(), notes.all())
}

#[test]
fn a_seed_gives_the_same_run_again_and_others_give_others() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let first = busy_program(seed);
        assert_eq!(first, busy_program(seed), "seed {seed}");
        assert_eq!(first.1.len(), 51);
        traces.insert(first.0);
    }
    assert_eq!(traces.len(), 20);
}

#[test]
fn the_seed_decides_which_ready_task_goes_first() {
    let order = |seed| {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(0);
        let notes = Notes::default();
        let log = notes.clone();
        simulator.run(host, MEMORY, LIMIT, move || async move {
            let note = |number| {
                let log = log.clone();
                spawn(Class::Latency, async move { log.add(number) })
            };
            let tasks = [note(1), note(2), note(3)];
            for task in tasks {
                task.await;
            }
        });
        notes.all()
    };
    let orders: std::collections::BTreeSet<_> = (0..100).map(order).collect();
    assert_eq!(orders.len(), 6, "every order of three tasks happens");
}

#[test]
fn virtual_time_passes_without_real_time_and_timers_fire_in_order() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let notes = Notes::default();
    let log = notes.clone();
    let slept = simulator.run(host, MEMORY, Duration::from_secs(1 << 30), move || async move {
        let begun = clock::now();
        let mut tasks = Vec::new();
        for days in [3_u64, 1, 2] {
            let log = log.clone();
            tasks.push(spawn(Class::Background, async move {
                timer::sleep(Duration::from_hours(24 * days)).await;
                log.add(days);
            }));
        }
        for task in tasks {
            task.await;
        }
        let never = timer::timeout(Duration::from_secs(5), std::future::pending::<()>()).await;
        assert!(never.is_err());
        clock::now() - begun
    });
    assert_eq!(notes.all(), [1, 2, 3]);
    let slept = slept.unwrap();
    let expected = Duration::from_hours(72) + Duration::from_secs(5);
    assert!(
        slept >= expected && slept < expected + Duration::from_secs(1),
        "{slept:?}"
    );
}

#[test]
fn the_limit_ends_a_run_and_the_clock_stands_at_it() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let result = simulator.run(host, MEMORY, Duration::from_secs(3), std::future::pending::<()>);
    assert_eq!(result, None);
    assert!(simulator.is_running(host));
    assert_eq!(simulator.now().0, 3_000_000_000);
    simulator.kill(host);
    assert!(!simulator.is_running(host));
}

#[test]
fn the_wall_clock_jumps_and_the_monotonic_does_not() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let read = || async { (clock::now(), clock::wall_clock_ms()) };
    let (before, wall_before) = simulator.run(host, MEMORY, LIMIT, read).unwrap();
    simulator.jump_wall_clock(host, -3_600_000);
    let (after, wall_after) = simulator.run(host, MEMORY, LIMIT, read).unwrap();
    assert!(after > before && after.0 - before.0 < 1_000_000);
    assert!((-3_600_000..=-3_599_000).contains(&(wall_after - wall_before)));
}

#[test]
fn a_thread_that_spins_does_not_stop_time() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let turns = simulator.run(host, MEMORY, LIMIT, || async {
        let end = clock::now() + Duration::from_millis(1);
        let mut turns = 0;
        while clock::now() < end {
            turns += 1;
            yield_now().await;
        }
        turns
    });
    assert!(turns.unwrap() > 100);
}

#[test]
fn each_thread_has_its_own_hard_memory_budget() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    simulator.run(host, 1 << 16, LIMIT, || async {
        let pool = Pool::new("all", 1 << 16).unwrap();
        assert!(Pool::new("more", 4096).is_err());
        assert!(pool.try_take(1 << 17).is_err());
        let (answer, awaited) = channel::oneshot();
        let worker = thread::spawn(options(1 << 13), move || async move {
            assert!(Pool::new("too much", 1 << 14).is_err());
            answer.give(Pool::new("some", 1 << 13).is_ok()).unwrap();
        });
        assert_eq!(awaited.await, Ok(true));
        worker.unwrap().ended().await;
    });
    assert!(!simulator.is_running(host));
}

#[test]
fn a_killed_process_drops_its_tasks_and_none_of_them_does_anything_more() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(1 << 30);
    let notes = Notes::default();
    let log = notes.clone();
    simulator.start(host, MEMORY, move || async move {
        let worker_log = log.clone();
        thread::spawn(options(MEMORY), move || async move {
            let _noted = NotesDrop(worker_log, 2.into());
            std::future::pending::<()>().await;
        })
        .unwrap();
        let _noted = NotesDrop(log.clone(), 1.into());
        // What a drop starts after the kill must vanish.
        const CREATE: OpenOptions = OpenOptions {
            read: false,
            write: true,
            create: true,
            create_new: false,
            truncate: false,
            direct: false,
        };
        struct CreatesOnDrop;
        impl Drop for CreatesOnDrop {
            fn drop(&mut self) {
                let open = File::open("/late".as_ref(), CREATE);
                let begun = pin!(open).poll(&mut Context::from_waker(Waker::noop()));
                assert!(begun.is_pending());
                spawn(Class::Latency, async {
                    let _ = File::open("/later".as_ref(), CREATE).await;
                })
                .detach();
            }
        }
        let _creates = CreatesOnDrop;
        drop(File::open("/f".as_ref(), CREATE).await.unwrap());
        log.add(0);
        std::future::pending::<()>().await;
    });
    assert!(simulator.run_until(LIMIT, |_| notes.all() == [0]));
    simulator.run_for(Duration::from_millis(1));
    simulator.kill(host);
    assert!(!simulator.is_running(host));
    let mut dropped = notes.all();
    dropped.sort_unstable();
    assert_eq!(dropped, [0, 1, 2]);
    simulator.run_for(Duration::from_secs(1));
    assert_eq!(simulator.files(host), [("/f".to_owned(), 0)]);
}

#[test]
fn the_process_ends_with_its_last_thread_and_can_start_again() {
    let mut simulator = Simulator::new(3);
    let host = simulator.host(1 << 20);
    simulator.start(host, MEMORY, || async {
        thread::spawn(options(MEMORY), || timer::sleep(Duration::from_secs(5))).unwrap();
    });
    simulator.run_for(Duration::from_secs(1));
    assert!(simulator.is_running(host));
    assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(host)));
    assert!(simulator.now().0 >= 5_000_000_000);
    assert_eq!(simulator.run(host, MEMORY, LIMIT, || async { 7 }), Some(7));
}

#[test]
fn a_paused_process_stands_still_and_goes_on() {
    let mut simulator = Simulator::new(3);
    let host = simulator.host(0);
    let notes = Notes::default();
    let log = notes.clone();
    simulator.start(host, MEMORY, move || async move {
        loop {
            timer::sleep(Duration::from_millis(10)).await;
            log.add(clock::now().0);
        }
    });
    simulator.run_for(Duration::from_millis(100));
    let before = notes.all().len();
    simulator.pause(host, Duration::from_secs(5));
    simulator.run_for(Duration::from_secs(4));
    assert_eq!(notes.all().len(), before);
    simulator.run_for(Duration::from_secs(2));
    assert!(notes.all().len() > before);
}

#[test]
fn two_threads_exchange_a_thousand_messages_through_small_channels() {
    for seed in 0..10 {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(0);
        let sum = simulator.run(host, MEMORY, LIMIT, || async {
            let (there, mut from_there) = channel::bounded::<u64>(3);
            let (back, mut from_back) = channel::bounded::<u64>(1);
            let worker = thread::spawn(options(MEMORY), move || async move {
                while let Some(number) = from_there.receive().await {
                    back.send(number * 2).await.unwrap();
                }
            })
            .unwrap();
            let sends = spawn(Class::Throughput, async move {
                for number in 0..1000 {
                    there.send(number).await.unwrap();
                }
            });
            let mut sum = 0;
            while let Some(number) = from_back.receive().await {
                sum += number;
            }
            sends.await;
            worker.ended().await;
            sum
        });
        assert_eq!(sum, Some(999_000), "seed {seed}");
    }
}

#[test]
fn a_panic_of_a_task_reaches_the_test() {
    let result = std::panic::catch_unwind(|| {
        let mut simulator = Simulator::new(11);
        let host: HostId = simulator.host(0);
        simulator.run(host, MEMORY, LIMIT, || async {
            spawn(Class::Latency, async { panic!("on purpose") }).await
        })
    });
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
}
