//! Clients that send too much, too slowly or too often, and those that do not read.

use std::time::Duration;

use millstream_net::Limits;
use millstream_net::client::Connection;
use ring::simulator::{NetworkFaults, Simulator};
use ring::socket::TcpStream;
use ring::{clock, timer};

use crate::support::{
    Ask, LIMIT, MEMORY, Server, ask, assert_echo, client, connect, frame, limits, read_bytes, read_to_end,
};

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut simulator = Simulator::new(1);
    simulator.set_network_faults(NetworkFaults {
        window_bytes: 20_000,
        ..NetworkFaults::default()
    });
    let limits = Limits {
        bytes_in_flight_per_connection: 100_000,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    let host = simulator.host(0);
    simulator.start(host, MEMORY, move || async move {
        let stream = TcpStream::connect(address).await.unwrap();
        for id in 0..10_000 {
            let _ = stream
                .send_all(vec![frame(id, Ask::Bytes(10_000), 100).into()])
                .await;
        }
        unreachable!("the server stops reading");
    });
    simulator.run_for(Duration::from_secs(60));
    let begun = server.begun().len();
    assert!(
        (10..=13).contains(&begun),
        "{begun} answers of 10 kB for a window of 20 kB and a limit of 100 kB"
    );
    // Another client does not notice.
    client(&mut simulator, move || async move {
        let answer = ask(&connect(address).await, 7, Ask::Echo, 10).await.unwrap();
        assert_echo(&answer.await.unwrap(), 7, 10);
    });
    simulator.kill(host);
    server.ends(&mut simulator);
}

#[test]
fn a_connection_has_only_so_many_requests_in_flight() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        requests_in_flight_per_connection: 20,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    let host = simulator.host(0);
    simulator.start(host, MEMORY, move || async move {
        let connection = connect(address).await;
        let mut answers = Vec::new();
        for id in 0..100 {
            answers.push(ask(&connection, id, Ask::Later(1_000), 0).await.unwrap());
        }
        for answer in answers {
            let _ = answer.await.unwrap();
        }
    });
    simulator.run_for(Duration::from_millis(500));
    assert_eq!(server.begun().len(), 20);
    assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(host)));
    assert_eq!(server.begun().len(), 100);
    server.ends(&mut simulator);
}

#[test]
fn further_requests_share_a_limit_and_the_first_of_a_connection_is_always_begun() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        requests_in_flight: 10,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    client(&mut simulator, move || async move {
        let mut answers = Vec::new();
        let mut connections = Vec::new();
        for number in 0..30 {
            let connection = connect(address).await;
            for id in 0..3 {
                let poll = ask(&connection, number * 3 + id, Ask::Later(2_000), 0);
                answers.push(poll.await.unwrap());
            }
            connections.push(connection);
        }
        let before = clock::now();
        let late = ask(&connect(address).await, 999, Ask::Echo, 0).await.unwrap();
        let _ = late.await.unwrap();
        assert!((clock::now() - before).as_millis() < 500);
        for answer in answers {
            let _ = answer.await.unwrap();
        }
    });
    let begun = server.begun();
    assert_eq!(begun.len(), 91);
    let late = begun.iter().position(|&id| id == 999).unwrap();
    assert!(late <= 40, "30 firsts and 10 further ones before it: {late}");
    server.ends(&mut simulator);
}

#[test]
fn long_requests_in_flight_share_a_limit_and_small_ones_pass() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        bytes_in_flight: 100_000,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    client(&mut simulator, move || async move {
        let mut polls = Vec::new();
        for id in 0..4 {
            let connection = connect(address).await;
            polls.push(ask(&connection, id, Ask::Later(5_000), 40_000).await.unwrap());
        }
        timer::sleep(Duration::from_millis(100)).await;
        let small = ask(&connect(address).await, 9, Ask::Echo, 900).await.unwrap();
        assert_echo(&small.await.unwrap(), 9, 900);
        // Longer than the limit: it begins when it is alone.
        let longest = connect(address).await;
        let longest = ask(&longest, 10, Ask::Echo, 200_000).await.unwrap();
        for (id, poll) in (0..).zip(polls) {
            assert_echo(&poll.await.unwrap(), id, 40_000);
        }
        assert_echo(&longest.await.unwrap(), 10, 200_000);
    });
    let begun = server.begun();
    assert_eq!(begun[..3], [0, 1, 9], "two of 40 kB, and the small one");
    assert_eq!(begun[5], 10);
    server.ends(&mut simulator);
}

#[test]
fn long_polls_do_not_count_as_bytes_in_flight() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        bytes_in_flight: 100_000,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    client(&mut simulator, move || async move {
        let mut polls = Vec::new();
        for id in 0..20 {
            let connection = connect(address).await;
            let poll = ask(&connection, id, Ask::LongPoll(u32::MAX), 40_000)
                .await
                .unwrap();
            polls.push((connection, poll));
        }
        let long = ask(&connect(address).await, 99, Ask::Echo, 90_000).await.unwrap();
        assert_echo(&long.await.unwrap(), 99, 90_000);
    });
    server.ends(&mut simulator);
}

#[test]
fn what_stands_behind_a_long_poll_does_not_hold_others_up_for_long() {
    for (behind, is_cut) in [(None, false), (Some(100), false), (Some(90_000), true)] {
        let mut simulator = Simulator::new(1);
        let limits = Limits {
            bytes_in_flight: 100_000,
            ..limits()
        };
        let server = Server::start(&mut simulator, limits);
        let address = server.address();
        let patient = simulator.host(0);
        simulator.start(patient, MEMORY, move || async move {
            let stream = TcpStream::connect(address).await.unwrap();
            // The second is a poll for ever, and the third is done and cannot be told.
            for (id, what, rest) in [(1, Ask::Echo, 0), (2, Ask::LongPoll(u32::MAX), 5_000)] {
                stream.send_all(vec![frame(id, what, rest).into()]).await.unwrap();
            }
            if let Some(rest) = behind {
                stream
                    .send_all(vec![frame(3, Ask::Echo, rest).into()])
                    .await
                    .unwrap();
            }
            let _ = read_to_end(&stream).await;
        });
        simulator.run_for(Duration::from_secs(60));
        assert!(simulator.is_running(patient), "nobody wants what it holds");
        client(&mut simulator, move || async move {
            // The second of these waits for the first, or for both.
            let (one, other) = (connect(address).await, connect(address).await);
            let first = ask(&one, 8, Ask::Later(20_000), 90_000).await.unwrap();
            timer::sleep(Duration::from_millis(100)).await;
            let second = ask(&other, 9, Ask::Echo, 90_000).await.unwrap();
            assert_echo(&first.await.unwrap(), 8, 90_000);
            assert_echo(&second.await.unwrap(), 9, 90_000);
        });
        assert_eq!(!simulator.is_running(patient), is_cut, "{behind:?}");
        simulator.kill(patient);
        server.ends(&mut simulator);
    }
}

#[test]
fn a_full_house_lets_nobody_in_until_one_leaves_or_has_long_been_idle() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        connections_max: 3,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    client(&mut simulator, move || async move {
        let mut connections = Vec::new();
        for _ in 0..3 {
            connections.push(connect(address).await);
        }
        timer::sleep(Duration::from_millis(10)).await;
        let fourth = connect(address).await;
        let answer = ask(&fourth, 1, Ask::Echo, 0).await.unwrap();
        let mut answer = std::pin::pin!(answer);
        let waited = timer::timeout(Duration::from_secs(5), answer.as_mut()).await;
        assert!(waited.is_err());
        connections.pop();
        assert_echo(&answer.await.unwrap(), 1, 0);

        // One of the first two polls, the other is idle; so the other goes.
        let poll = ask(&connections[0], 2, Ask::Later(20_000), 0).await.unwrap();
        let before = clock::now();
        let fifth = ask(&connect(address).await, 3, Ask::Echo, 0).await.unwrap();
        assert_echo(&fifth.await.unwrap(), 3, 0);
        let seconds = (clock::now() - before).as_secs();
        assert!((4..=7).contains(&seconds), "{seconds}");
        timer::sleep(Duration::from_millis(100)).await;
        assert!(!connections[1].is_open() && fourth.is_open());
        assert_echo(&poll.await.unwrap(), 2, 0);
    });
    server.ends(&mut simulator);
}

#[test]
fn an_address_has_only_so_many_connections() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        connections_per_address_max: 2,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    for _ in 0..2 {
        client(&mut simulator, move || async move {
            let first = connect(address).await;
            let second = connect(address).await;
            timer::sleep(Duration::from_millis(100)).await;
            let third = TcpStream::connect(address).await.unwrap();
            assert_eq!(read_to_end(&third).await.unwrap_or_default(), []);
            for connection in [&first, &second] {
                let answer = ask(connection, 1, Ask::Echo, 0).await.unwrap();
                assert_echo(&answer.await.unwrap(), 1, 0);
            }
            drop(first);
            timer::sleep(Duration::from_millis(100)).await;
            let answer = ask(&connect(address).await, 2, Ask::Echo, 0).await.unwrap();
            assert_echo(&answer.await.unwrap(), 2, 0);
        });
    }
    server.ends(&mut simulator);
}

#[test]
fn connections_are_as_many_as_may_be_now() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let (address, allowed) = (server.address(), server.allowed.clone());
    client(&mut simulator, move || async move {
        let allow = async |all, of_an_address| {
            *allowed.lock().unwrap() = Some((all, of_an_address));
            timer::sleep(Duration::from_millis(100)).await;
        };
        let works = async |connection: &Connection, id| {
            let answer = ask(connection, id, Ask::Echo, 0).await.unwrap();
            assert_echo(&answer.await.unwrap(), id, 0);
        };
        let held = [connect(address).await, connect(address).await];
        timer::sleep(Duration::from_millis(100)).await;
        allow(usize::MAX, 2).await;
        let third = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_to_end(&third).await.unwrap_or_default(), []);
        allow(2, usize::MAX).await;
        let third = connect(address).await;
        let answer = ask(&third, 3, Ask::Echo, 0).await.unwrap();
        let mut answer = std::pin::pin!(answer);
        let waited = timer::timeout(Duration::from_secs(2), answer.as_mut()).await;
        assert!(waited.is_err(), "it waits, as it would have from the start");
        for connection in &held {
            works(connection, 4).await;
        }
        allow(3, usize::MAX).await;
        let waited = timer::timeout(Duration::from_millis(500), answer.as_mut()).await;
        assert_echo(&waited.expect("there may be three at once").unwrap(), 3, 0);
    });
    server.ends(&mut simulator);
}

#[test]
fn long_frames_wait_for_memory_and_all_come_through() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let rest = 900_000;
        let mut answers = Vec::new();
        for id in 0..12 {
            let connection = connect(address).await;
            // Two have their memory at once, ten wait for it.
            let later = ask(&connection, id, Ask::Later(200), rest).await.unwrap();
            answers.push((id, later));
        }
        for (id, answer) in answers {
            assert_echo(&answer.await.unwrap(), id, rest);
        }
    });
    server.ends(&mut simulator);
}

#[test]
fn slow_senders_of_long_frames_keep_their_memory_only_while_nobody_wants_it() {
    for trickles in [false, true] {
        let mut simulator = Simulator::new(1);
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        let slow = simulator.host(0);
        simulator.start(slow, MEMORY, move || async move {
            let mut streams = Vec::new();
            for _ in 0..2 {
                let stream = TcpStream::connect(address).await.unwrap();
                let beginning = frame(1, Ask::Echo, 1_000_000)[..100_000].to_vec();
                stream.send_all(vec![beginning.into()]).await.unwrap();
                streams.push(stream);
            }
            loop {
                timer::sleep(Duration::from_secs(1)).await;
                for stream in &streams {
                    if trickles {
                        let _ = stream.send_all(vec![vec![1].into()]).await;
                    }
                }
            }
        });
        // Long enough to be cut, if anyone wanted it.
        simulator.run_for(Duration::from_secs(300));
        assert_eq!(simulator.descriptors(server.host), 3);
        let seconds = client(&mut simulator, move || async move {
            let before = clock::now();
            let answer = ask(&connect(address).await, 5, Ask::Echo, 900_000).await.unwrap();
            let small = ask(&connect(address).await, 6, Ask::Echo, 10).await.unwrap();
            assert_echo(&small.await.unwrap(), 6, 10);
            assert!((clock::now() - before).as_millis() < 500, "small frames go on");
            assert_echo(&answer.await.unwrap(), 5, 900_000);
            (clock::now() - before).as_secs()
        });
        assert!(seconds <= 2, "{seconds}");
        simulator.kill(slow);
        server.ends(&mut simulator);
    }
}

#[test]
fn a_client_that_reads_nothing_is_cut_when_its_answers_fill_the_memory() {
    let mut simulator = Simulator::new(1);
    simulator.set_network_faults(NetworkFaults {
        window_bytes: 20_000,
        ..NetworkFaults::default()
    });
    let limits = Limits {
        unsent_bytes: 1 << 20,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    let deaf = simulator.host(0);
    simulator.start(deaf, MEMORY, move || async move {
        let mut streams = Vec::new();
        for id in 0..3 {
            let stream = TcpStream::connect(address).await.unwrap();
            let much = frame(id, Ask::Bytes(500_000), 0);
            stream.send_all(vec![much.into()]).await.unwrap();
            streams.push(stream);
        }
        std::future::pending::<()>().await;
    });
    simulator.run_for(Duration::from_secs(5));
    assert_eq!(simulator.descriptors(server.host), 4);
    simulator.run_for(Duration::from_secs(20));
    assert_eq!(simulator.descriptors(server.host), 1);
    simulator.kill(deaf);
    server.ends(&mut simulator);
}

#[test]
fn answers_that_nobody_reads_stay_near_their_limit_and_others_are_served() {
    const ANSWER_BYTES: u32 = 500_000;
    let mut simulator = Simulator::new(1);
    simulator.set_network_faults(NetworkFaults {
        window_bytes: 20_000,
        ..NetworkFaults::default()
    });
    let limits = Limits {
        unsent_bytes: 1 << 20,
        ..limits()
    };
    // Up to twice that, and the one that goes beyond.
    let standing_max = 2 * limits.unsent_bytes / ANSWER_BYTES as usize + 1;
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    let modest = simulator.host(0);
    simulator.start(modest, MEMORY, move || async move {
        let connection = connect(address).await;
        for id in 1_000..1_060 {
            let answer = ask(&connection, id, Ask::Echo, 100).await.unwrap();
            let answer = timer::timeout(Duration::from_millis(900), answer).await;
            assert_echo(&answer.expect("it is served").unwrap(), id, 100);
            timer::sleep(Duration::from_millis(500)).await;
        }
    });
    simulator.run_for(Duration::from_secs(1));
    let deaf = simulator.host(0);
    simulator.start(deaf, MEMORY, move || async move {
        let mut streams = Vec::new();
        for id in 0..64 {
            let stream = TcpStream::connect(address).await.unwrap();
            let much = frame(id, Ask::Bytes(ANSWER_BYTES), 0);
            stream
                .send_all(vec![much.clone().into(), much.into()])
                .await
                .unwrap();
            streams.push(stream);
        }
        std::future::pending::<()>().await;
    });
    let made = |server: &Server| server.begun().iter().filter(|&&id| id < 1_000).count();
    simulator.run_for(Duration::from_secs(8));
    let begun = server.begun();
    let first = made(&server);
    assert!((3..=standing_max).contains(&first), "{first} answers stand there");
    let mut once: Vec<i32> = begun.into_iter().filter(|&id| id < 1_000).collect();
    once.dedup();
    assert!(
        once.len() >= first - 1,
        "beyond the limit a connection has one at a time"
    );
    // Those are cut, and others take their place: no more of them.
    simulator.run_for(Duration::from_secs(12));
    let later = made(&server);
    assert!(
        (first + 1..=2 * standing_max).contains(&later),
        "{later} after {first}"
    );
    assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(modest)));
    // All deaf ones are cut in time.
    assert!(simulator.run_until(LIMIT, |simulator| simulator.descriptors(server.host) == 1));
    simulator.kill(deaf);
    server.ends(&mut simulator);
}

#[test]
fn answers_behind_a_long_poll_make_room_for_others() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        unsent_bytes: 1 << 20,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    let patient = simulator.host(0);
    simulator.start(patient, MEMORY, move || async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let poll = frame(1, Ask::LongPoll(u32::MAX), 0);
        let much = frame(2, Ask::Bytes(2_200_000), 0);
        stream.send_all(vec![poll.into(), much.into()]).await.unwrap();
        std::future::pending::<()>().await;
    });
    simulator.run_for(Duration::from_secs(1));
    let seconds = client(&mut simulator, move || async move {
        let before = clock::now();
        let connection = connect(address).await;
        for id in 8..10 {
            let answer = ask(&connection, id, Ask::Bytes(200_000), 0).await.unwrap();
            let _ = answer.await.unwrap();
        }
        (clock::now() - before).as_secs()
    });
    assert!(seconds <= 15, "{seconds}");
    simulator.kill(patient);
    server.ends(&mut simulator);
}

#[test]
fn a_client_that_takes_little_of_much_is_cut_when_answers_fill_the_memory() {
    // A piece of 1 MiB every nine seconds, of an answer of so many bytes.
    for (bytes, is_cut) in [(8_000_000, false), (24_000_000, true)] {
        let mut simulator = Simulator::new(1);
        simulator.set_network_faults(NetworkFaults {
            window_bytes: 20_000,
            ..NetworkFaults::default()
        });
        let limits = Limits {
            unsent_bytes: 1 << 20,
            ..limits()
        };
        let server = Server::start(&mut simulator, limits);
        let address = server.address();
        let slow = simulator.host(0);
        simulator.start(slow, MEMORY, move || async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let much = frame(1, Ask::Bytes(bytes), 0);
            stream.send_all(vec![much.into()]).await.unwrap();
            let mut left = bytes as usize + 8;
            while left > 0 {
                timer::sleep(Duration::from_secs(9)).await;
                let piece = left.min(1 << 20);
                if !read_bytes(&stream, piece).await {
                    return;
                }
                left -= piece;
            }
            std::future::pending::<()>().await;
        });
        simulator.run_for(Duration::from_secs(40));
        assert_eq!(!simulator.is_running(slow), is_cut, "{bytes} bytes");
        simulator.kill(slow);
        server.ends(&mut simulator);
    }
}

#[test]
fn running_out_of_descriptors_pauses_accepting() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    simulator.set_descriptors_max(server.host, 3);
    client(&mut simulator, move || async move {
        let (first, _second) = (connect(address).await, connect(address).await);
        let answer = ask(&first, 1, Ask::Echo, 0).await.unwrap();
        assert_echo(&answer.await.unwrap(), 1, 0);
        let third = connect(address).await;
        let waits = ask(&third, 2, Ask::Echo, 0).await.unwrap();
        let mut waits = std::pin::pin!(waits);
        let waited = timer::timeout(Duration::from_secs(10), waits.as_mut()).await;
        assert!(waited.is_err());
        let answer = ask(&first, 3, Ask::Echo, 0).await.unwrap();
        assert_echo(&answer.await.unwrap(), 3, 0);
        drop(first);
        assert_echo(&waits.await.unwrap(), 2, 0);
    });
    server.ends(&mut simulator);
}

#[test]
fn a_client_that_stands_still_is_cut_while_others_wait_for_the_services_memory() {
    for is_short in [false, true] {
        let mut simulator = Simulator::new(1);
        simulator.set_network_faults(NetworkFaults {
            window_bytes: 20_000,
            ..NetworkFaults::default()
        });
        let server = Server::start(&mut simulator, limits());
        server
            .is_short
            .store(is_short, std::sync::atomic::Ordering::Relaxed);
        let address = server.address();
        let host = simulator.host(0);
        simulator.start(host, MEMORY, move || async move {
            let stream = TcpStream::connect(address).await.unwrap();
            stream
                .send_all(vec![frame(1, Ask::Bytes(100_000), 100).into()])
                .await
                .unwrap();
            // It holds an answer far below any limit, and reads it much later. That it sends more meanwhile is no help.
            for id in 2..62 {
                let _ = stream.send_all(vec![frame(id, Ask::Nothing, 0).into()]).await;
                timer::sleep(Duration::from_secs(1)).await;
            }
            let answer = read_to_end(&stream).await.map_or(0, |answer| answer.len());
            assert_eq!(answer < 100_000, is_short, "{answer} bytes");
        });
        simulator.run_for(Duration::from_secs(120));
        assert_eq!(simulator.is_running(host), !is_short, "it is cut only then");
        simulator.kill(host);
        server.ends(&mut simulator);
    }
}
