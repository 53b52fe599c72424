//! The order of requests and answers.

use ring::simulator::{Simulator, for_each_seed};

use crate::support::{Ask, Server, ask, assert_echo, client, connect, limits, rough};

#[test]
fn pipelined_requests_begin_and_are_answered_in_order() {
    for_each_seed(0..20, |seed| {
        let mut simulator = Simulator::new(seed);
        simulator.set_network_faults(rough());
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        client(&mut simulator, move || async move {
            let connection = connect(address).await;
            let mut answers = Vec::new();
            for id in 0..300 {
                let what = match id % 7 {
                    0 => Ask::Later(20),
                    3 => Ask::Later(id as u32 % 5),
                    5 => Ask::SlowBegin(1),
                    _ => Ask::Echo,
                };
                let rest = [0, 10, 700, 3_000, 9_000][id as usize % 5];
                answers.push((id, rest, ask(&connection, id, what, rest).await.unwrap()));
            }
            for (id, rest, answer) in answers {
                assert_echo(&answer.await.unwrap(), id, rest);
            }
        });
        assert_eq!(server.begun(), (0..300).collect::<Vec<_>>());
        server.ends(&mut simulator);
    });
}

#[test]
fn a_long_poll_holds_back_answers_but_not_requests_and_not_other_connections() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let (one, other) = (connect(address).await, connect(address).await);
        let before = ring::clock::now();
        let poll = ask(&one, 1, Ask::Later(5_000), 0).await.unwrap();
        let behind = ask(&one, 2, Ask::Echo, 0).await.unwrap();
        let elsewhere = ask(&other, 3, Ask::Echo, 0).await.unwrap();
        let _ = elsewhere.await.unwrap();
        assert!((ring::clock::now() - before).as_millis() < 1_000);
        let _ = behind.await.unwrap();
        assert!((ring::clock::now() - before).as_millis() >= 5_000);
        let _ = poll.await.unwrap();
    });
    assert_eq!(server.begun(), [1, 2, 3]);
    server.ends(&mut simulator);
}

#[test]
fn requests_without_answers_are_not_answered() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let connection = connect(address).await;
        for id in 0..500 {
            let silent = crate::support::frame(id, Ask::Nothing, 100);
            connection.send_unanswered(vec![silent.into()]).await.unwrap();
        }
        let answer = ask(&connection, 500, Ask::Echo, 5).await.unwrap();
        assert_echo(&answer.await.unwrap(), 500, 5);
    });
    assert_eq!(server.begun(), (0..=500).collect::<Vec<_>>());
    server.ends(&mut simulator);
}

#[test]
fn a_long_answer_comes_whole_and_the_next_behind_it() {
    let mut simulator = Simulator::new(1);
    simulator.set_network_faults(rough());
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let connection = connect(address).await;
        let long = ask(&connection, 7, Ask::Bytes(3_000_000), 0).await.unwrap();
        let next = ask(&connection, 8, Ask::Echo, 100).await.unwrap();
        let long = long.await.unwrap();
        assert!(long.len() == 3_000_004 && long[4..].iter().all(|&byte| byte == 7));
        assert_echo(&next.await.unwrap(), 8, 100);
    });
    server.ends(&mut simulator);
}
