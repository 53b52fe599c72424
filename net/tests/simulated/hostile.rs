//! Clients that do anything at all, beside one that behaves.

use std::time::Duration;

use ring::executor::{Class, spawn};
use ring::simulator::{Simulator, for_each_seed};
use ring::socket::{Shutdown, TcpStream};
use ring::{random, timer};

use crate::support::{Ask, LIMIT, MEMORY, Server, ask, assert_echo, connect, frame, limits, rough};

fn below(bound: u64) -> u64 {
    random::next_u64() % bound
}

/// Some bytes: good frames, cut ones, lies about lengths, noise.
fn bytes() -> Vec<u8> {
    let id = below(1_000) as i32;
    let asks = [
        Ask::Echo,
        Ask::Later(below(300) as u32),
        Ask::SlowBegin(below(100) as u32),
        Ask::Bytes(below(200_000) as u32),
        Ask::Nothing,
        Ask::Close,
        Ask::CloseLater(below(100) as u32),
    ];
    let rest = [0, 20, 3_000, 70_000, 900_000][below(5) as usize];
    let mut bytes = frame(id, asks[below(7) as usize], rest);
    match below(12) {
        0 => bytes.truncate(below(bytes.len() as u64) as usize),
        1 => bytes[..4].copy_from_slice(&random::next_u64().to_be_bytes()[..4]),
        2 => bytes = (0..below(5_000)).map(|_| random::next_u64() as u8).collect(),
        3 => bytes = vec![0; below(100) as usize],
        4 => bytes = bytes.repeat(1 + 20_000 / bytes.len()),
        _ => {}
    }
    bytes
}

/// One connection of a client that has no manners.
async fn misbehave(address: std::net::SocketAddr) {
    let Ok(stream) = TcpStream::connect(address).await else {
        return;
    };
    let reads = below(3) > 0;
    let reading = stream.clone();
    let reader = spawn(Class::Latency, async move {
        if reads {
            let pool = ring::buffer::Pool::new("test", 8_192).unwrap();
            while let (Ok(1..), _) = reading.receive(pool.take(4096).await.unwrap(), 0..4096).await {}
        }
    });
    for _ in 0..below(12) {
        let sending = stream.send_all(vec![bytes().into()]);
        let patience = Duration::from_millis(below(2_000));
        if !matches!(timer::timeout(patience, sending).await, Ok(Ok(()))) {
            break;
        }
        if below(3) == 0 {
            timer::sleep(Duration::from_millis(below(200))).await;
        }
    }
    match below(4) {
        0 => stream.shutdown(Shutdown::Write),
        1 => timer::sleep(Duration::from_secs(below(60))).await,
        _ => {}
    }
    drop(reader);
}

#[test]
fn whatever_clients_do_others_are_served_and_everything_is_given_back() {
    for_each_seed(0..12, |seed| {
        let mut simulator = Simulator::new(seed);
        simulator.set_network_faults(rough());
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        let bad = simulator.host(0);
        simulator.start(bad, MEMORY, move || async move {
            let mut all = Vec::new();
            for _ in 0..6 {
                all.push(spawn(Class::Latency, async move {
                    for _ in 0..6 {
                        misbehave(address).await;
                    }
                }));
            }
            for one in all {
                one.await;
            }
        });
        let good = simulator.host(0);
        simulator.start(good, MEMORY, move || async move {
            let connection = connect(address).await;
            for id in 0..40 {
                // A long frame now and then: it may wait for memory, until those who hold it are cut.
                let rest = if id % 10 == 9 { 300_000 } else { 500 };
                let answer = ask(&connection, id, Ask::Echo, rest).await.unwrap();
                assert_echo(&answer.await.unwrap(), id, rest);
                timer::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(
            simulator.run_until(LIMIT, |simulator| !simulator.is_running(good)),
            "seed {seed}: the good client is served"
        );
        assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(bad)));
        simulator.run_for(Duration::from_secs(30));
        server.ends(&mut simulator);
    });
}
