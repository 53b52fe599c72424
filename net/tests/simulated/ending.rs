//! How connections end: idle, cut, reset, drained.

use std::time::Duration;

use millstream_net::Limits;
use millstream_net::client::ClientError;
use ring::executor::{Class, spawn};
use ring::simulator::{NetworkFaults, Simulator, for_each_seed};
use ring::socket::TcpStream;
use ring::{clock, timer};

use crate::support::{
    Ask, LIMIT, MEMORY, Obedient, Server, ask, assert_echo, client, connect, frame, limits, read_to_end,
    rough,
};

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let mut simulator = Simulator::new(1);
    let limits = Limits {
        idle_ms: 5_000,
        ..limits()
    };
    let server = Server::start(&mut simulator, limits);
    let address = server.address();
    client(&mut simulator, move || async move {
        let before = clock::now();
        let silent = TcpStream::connect(address).await.unwrap();
        let waiting = connect(address).await;
        let poll = ask(&waiting, 1, Ask::Later(20_000), 0).await.unwrap();
        let busy = spawn(Class::Latency, async move {
            let connection = connect(address).await;
            for id in 2..12 {
                let answer = ask(&connection, id, Ask::Echo, 0).await.unwrap();
                assert_echo(&answer.await.unwrap(), id, 0);
                timer::sleep(Duration::from_secs(3)).await;
            }
        });
        let _ = read_to_end(&silent).await;
        let seconds = (clock::now() - before).as_secs();
        assert!((5..=7).contains(&seconds), "{seconds}");
        busy.await;
        assert_echo(&poll.await.unwrap(), 1, 0);
    });
    server.ends(&mut simulator);
}

#[test]
fn half_open_connections_free_everything_when_they_are_idle() {
    for_each_seed(0..10, |seed| {
        let mut simulator = Simulator::new(seed);
        simulator.set_network_faults(NetworkFaults {
            window_bytes: 10_000,
            ..NetworkFaults::default()
        });
        let limits = Limits {
            idle_ms: 30_000,
            ..limits()
        };
        let server = Server::start(&mut simulator, limits);
        let address = server.address();
        let host = simulator.host(0);
        simulator.start(host, MEMORY, move || async move {
            let mut kept = Vec::new();
            for number in 0..8 {
                let stream = TcpStream::connect(address).await.unwrap();
                let bytes = match number % 4 {
                    0 => vec![0, 0],
                    1 => frame(1, Ask::Echo, 200_000)[..100_000].to_vec(),
                    2 => frame(1, Ask::Bytes(100_000), 10),
                    _ => frame(1, Ask::Later(1_000), 10).repeat(20),
                };
                let sent = stream.send_all(vec![bytes.into()]).await;
                sent.unwrap();
                kept.push(stream);
            }
            std::future::pending::<()>().await;
        });
        simulator.run_for(Duration::from_millis(200));
        assert_eq!(simulator.descriptors(server.host), 9);
        simulator.partition(server.host, host);
        // The client is gone, and nothing of it comes through any more.
        simulator.kill(host);
        simulator.run_for(Duration::from_secs(90));
        assert_eq!(simulator.descriptors(server.host), 1, "seed {seed}");
        server.ends(&mut simulator);
    });
}

#[test]
fn reset_connections_free_everything_at_once() {
    for_each_seed(0..20, |seed| {
        let mut simulator = Simulator::new(seed);
        simulator.set_network_faults(rough());
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        let host = simulator.host(0);
        simulator.start(host, MEMORY, move || async move {
            let mut tasks = Vec::new();
            for number in 0..6 {
                let task = spawn(Class::Latency, async move {
                    let connection = connect(address).await;
                    for id in 0.. {
                        let what = [Ask::Echo, Ask::Later(3), Ask::SlowBegin(3)][(number + id) as usize % 3];
                        let Ok(answer) = ask(&connection, id, what, 9_000 * number as usize).await else {
                            return;
                        };
                        drop(answer);
                        timer::sleep(Duration::from_micros(200)).await;
                    }
                });
                tasks.push(task);
            }
            // One that waits for nothing but a long poll.
            let polling = connect(address).await;
            let poll = ask(&polling, 0, Ask::Later(3_000_000), 0).await.unwrap();
            assert!(matches!(poll.await, Err(ClientError::Closed { .. })));
            for task in tasks {
                task.await;
            }
        });
        simulator.run_for(Duration::from_millis(20 + seed * 5));
        assert!(simulator.reset_connections(server.host, host) > 0);
        assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(host)));
        simulator.run_for(Duration::from_millis(100));
        assert_eq!(simulator.descriptors(server.host), 1, "seed {seed}");
        server.ends(&mut simulator);
    });
}

#[test]
fn a_client_that_leaves_frees_its_long_poll() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let connection = connect(address).await;
        let _poll = ask(&connection, 1, Ask::Later(3_000_000), 0).await.unwrap();
        timer::sleep(Duration::from_millis(100)).await;
    });
    simulator.run_for(Duration::from_secs(1));
    assert_eq!(simulator.descriptors(server.host), 1);
    server.ends(&mut simulator);
}

#[test]
fn a_shutdown_answers_what_is_in_flight_and_begins_nothing_more() {
    for_each_seed(0..20, |seed| {
        let mut simulator = Simulator::new(seed);
        simulator.set_network_faults(rough());
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        let host = simulator.host(0);
        simulator.start(host, MEMORY, move || async move {
            let connection = connect(address).await;
            let mut answers = Vec::new();
            for id in 0..400 {
                match ask(
                    &connection,
                    id,
                    [Ask::Later(500), Ask::Echo][id as usize % 2],
                    500,
                )
                .await
                {
                    Ok(answer) => answers.push(answer),
                    Err(_) => break,
                }
                timer::sleep(Duration::from_millis(10)).await;
            }
            let mut answered = Vec::new();
            for (id, answer) in (0..).zip(answers) {
                match answer.await {
                    Ok(answer) => {
                        assert_echo(&answer, id, 500);
                        answered.push(id);
                    }
                    Err(error) => assert!(matches!(error, ClientError::Closed { .. })),
                }
            }
            // The client tells how far it got by a file: one byte an answer.
            let options = ring::file::OpenOptions {
                write: true,
                create: true,
                ..Default::default()
            };
            let file = ring::file::File::open("/answered".as_ref(), options)
                .await
                .unwrap();
            file.set_len(answered.len() as u64).await.unwrap();
        });
        simulator.set_disk_bytes(host, 1 << 20);
        simulator.run_for(Duration::from_millis(700 + seed * 31));
        server.ends(&mut simulator);
        let begun = server.begun().len();
        assert!(begun > 20, "{begun}");
        assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(host)));
        let answered = simulator.files(host);
        assert_eq!(answered, [("/answered".to_owned(), begun as u64)], "seed {seed}");
    });
}

#[test]
fn a_shutdown_answers_the_request_that_is_being_begun_and_not_the_one_behind_it() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    let host = simulator.host(0);
    simulator.start(host, MEMORY, move || async move {
        let connection = connect(address).await;
        let first = ask(&connection, 1, Ask::SlowBegin(3_000), 9).await.unwrap();
        let second = ask(&connection, 2, Ask::Echo, 9).await.unwrap();
        assert_echo(&first.await.unwrap(), 1, 9);
        assert!(matches!(second.await, Err(ClientError::Closed { .. })));
    });
    simulator.run_for(Duration::from_secs(1));
    server.ends(&mut simulator);
    assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(host)));
    assert_eq!(server.begun(), [1]);
}

#[test]
fn a_shutdown_is_heard_from_the_call_on() {
    let mut simulator = Simulator::new(1);
    let host = simulator.host(0);
    let ended = simulator.run(host, MEMORY, LIMIT, || async {
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let listener = ring::socket::TcpListener::bind(any, 1).await.unwrap();
        let shutdown = ring::local::Signal::new();
        let service = std::rc::Rc::new(Obedient::default());
        let limits = std::rc::Rc::new(limits());
        let serving = millstream_net::server::serve(
            listener,
            limits,
            service,
            shutdown.clone(),
            std::rc::Rc::default(),
        );
        shutdown.notify_all();
        serving.await;
    });
    assert_eq!(ended, Some(()));
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    let host = simulator.host(0);
    simulator.start(host, MEMORY, move || async move {
        let one = connect(address).await;
        let _poll = ask(&one, 1, Ask::Later(3_000_000), 0).await.unwrap();
        let other = connect(address).await;
        let _begin = ask(&other, 1, Ask::SlowBegin(3_000_000), 0).await.unwrap();
        let deaf = TcpStream::connect(address).await.unwrap();
        let much = frame(1, Ask::Bytes(900_000), 0);
        deaf.send_all(vec![much.into()]).await.unwrap();
        std::future::pending::<()>().await;
    });
    simulator.run_for(Duration::from_secs(1));
    let before = simulator.now();
    server.ends(&mut simulator);
    let seconds = (simulator.now() - before).as_secs();
    assert!((9..=12).contains(&seconds), "{seconds}");
    simulator.kill(host);
}

#[test]
fn a_stopped_listener_refuses_connections() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    server.ends(&mut simulator);
    client(&mut simulator, move || async move {
        assert!(TcpStream::connect(address).await.is_err());
    });
}
