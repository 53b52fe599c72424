//! Clients and servers over the simulated network: delays, cuts, resets, back-pressure.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Notes;
use crate::buffer::Pool;
use crate::executor::{Class, spawn};
use crate::simulator::{HostId, NetworkFaults, Simulator};
use crate::socket::{Shutdown, TcpListener, TcpStream};
use crate::{clock, timer};

const MEMORY: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(600);
const PORT: u16 = 9092;

fn address(host: HostId) -> SocketAddr {
    SocketAddr::new(host.address(), PORT)
}

async fn echo_server() {
    let pool = Pool::new("receive", 1 << 19).unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)), 8)
        .await
        .unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let pool = pool.clone();
        spawn(Class::Latency, async move {
            loop {
                let Ok(buffer) = pool.take(4096).await else { return };
                let (Ok(bytes), buffer) = stream.receive(buffer, 0..4096).await else {
                    return;
                };
                if bytes == 0 || stream.send_all(vec![buffer.freeze(0..bytes)]).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

/// Sends `bytes` bytes and checks that they come back in order.
async fn echo_client(server: SocketAddr, bytes: usize) -> io::Result<()> {
    let pool = Pool::new("receive", 1 << 16).unwrap();
    let stream = TcpStream::connect(server).await?;
    assert_eq!(stream.peer_address(), server);
    let sending = stream.clone();
    let sender = spawn(Class::Latency, async move {
        let numbers: Vec<u8> = (0..bytes).map(|number| (number % 251) as u8).collect();
        let pieces = numbers.chunks(1000).map(|piece| piece.to_vec().into()).collect();
        sending.send_all(pieces).await?;
        sending.shutdown(Shutdown::Write);
        Ok::<_, io::Error>(())
    });
    let mut received = 0;
    loop {
        let (result, buffer) = stream.receive(pool.take(4096).await.unwrap(), 0..4096).await;
        let count = result?;
        if count == 0 {
            break;
        }
        for &byte in &buffer[..count] {
            assert_eq!(usize::from(byte), received % 251);
            received += 1;
        }
    }
    sender.await?;
    if received < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn server_and_clients(seed: u64, clients: usize) -> (Simulator, HostId, Vec<HostId>) {
    let mut simulator = Simulator::new(seed);
    let server = simulator.host(0);
    let clients = (0..clients).map(|_| simulator.host(0)).collect();
    simulator.start(server, MEMORY, echo_server);
    (simulator, server, clients)
}

#[test]
fn bytes_come_back_in_order_under_delays_short_transfers_and_small_windows() {
    for seed in 0..30 {
        let (mut simulator, server, clients) = server_and_clients(seed, 3);
        simulator.set_network_faults(NetworkFaults {
            slow: 0.2,
            short_receive: 0.5,
            short_send: 0.5,
            window_bytes: 3000,
            ..NetworkFaults::default()
        });
        simulator.run_for(Duration::from_millis(1));
        let done = Notes::default();
        for &client in &clients {
            let done = done.clone();
            let server = address(server);
            simulator.start(client, MEMORY, move || async move {
                echo_client(server, 50_000).await.unwrap();
                done.add(1);
            });
        }
        assert!(
            simulator.run_until(LIMIT, |_| done.all().len() == 3),
            "seed {seed}"
        );
    }
}

#[test]
fn a_host_talks_to_itself_and_an_unused_port_refuses() {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(0);
    let refused = simulator.run(host, MEMORY, LIMIT, || async {
        spawn(Class::Latency, echo_server()).detach();
        timer::sleep(Duration::from_millis(1)).await;
        echo_client(SocketAddr::from(([127, 0, 0, 1], PORT)), 10_000)
            .await
            .unwrap();
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 1)))
            .await
            .err()
            .map(|error| error.kind())
    });
    assert_eq!(refused, Some(Some(io::ErrorKind::ConnectionRefused)));
}

#[test]
fn ports_are_taken_once_and_zero_takes_a_free_one() {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(0);
    simulator.run(host, MEMORY, LIMIT, || async {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let first = TcpListener::bind(any, 1).await.unwrap();
        let taken = TcpListener::bind(first.local_address(), 1).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let second = TcpListener::bind(any, 1).await.unwrap();
        assert_ne!(first.local_address().port(), second.local_address().port());
        let elsewhere = TcpListener::bind(SocketAddr::from(([10, 9, 9, 9], 1)), 1)
            .await
            .err()
            .unwrap();
        assert_eq!(elsewhere.kind(), io::ErrorKind::AddrNotAvailable);
        let address = first.local_address();
        drop(first);
        assert!(TcpListener::bind(address, 1).await.is_ok());
    });
}

#[test]
fn a_partition_delays_and_healing_delivers() {
    for seed in 0..10 {
        let (mut simulator, server, clients) = server_and_clients(seed, 1);
        let done = Notes::default();
        let notes = done.clone();
        simulator.start(clients[0], MEMORY, move || async move {
            timer::sleep(Duration::from_millis(1)).await;
            echo_client(address(server), 2_000_000).await.unwrap();
            notes.add(clock::now().0);
        });
        simulator.run_for(Duration::from_millis(2));
        if seed % 2 == 0 {
            simulator.partition(server, clients[0]);
        } else {
            simulator.partition_one_way(server, clients[0]);
        }
        simulator.run_for(Duration::from_secs(20));
        assert_eq!(done.all(), [], "seed {seed}: nothing passes");
        simulator.heal_all();
        assert!(
            simulator.run_until(LIMIT, |_| !done.all().is_empty()),
            "seed {seed}"
        );
    }
}

#[test]
fn a_connection_attempt_into_a_partition_times_out() {
    let (mut simulator, server, clients) = server_and_clients(1, 1);
    simulator.partition(server, clients[0]);
    let result = simulator.run(clients[0], MEMORY, LIMIT, move || async move {
        TcpStream::connect(address(server))
            .await
            .err()
            .map(|error| error.kind())
    });
    assert_eq!(result, Some(Some(io::ErrorKind::TimedOut)));
    assert!(simulator.now().0 > 100_000_000_000);
}

#[test]
fn killing_a_process_resets_its_connections_and_frees_its_ports() {
    for (seed, by_power_cut) in [(1, false), (2, true)] {
        let (mut simulator, server, clients) = server_and_clients(seed, 1);
        let results = Notes::default();
        let notes = results.clone();
        simulator.start(clients[0], MEMORY, move || async move {
            timer::sleep(Duration::from_millis(1)).await;
            let pool = Pool::new("receive", 1 << 16).unwrap();
            let stream = TcpStream::connect(address(server)).await.unwrap();
            notes.add(1);
            let (result, _) = stream.receive(pool.take(4096).await.unwrap(), 0..4096).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert!(stream.send_all(vec![vec![1].into()]).await.is_err());
            let refused = TcpStream::connect(address(server)).await;
            assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
            notes.add(2);
        });
        assert!(simulator.run_until(LIMIT, |_| results.all() == [1]));
        if by_power_cut {
            simulator.power_cut(server);
        } else {
            simulator.kill(server);
        }
        assert!(simulator.run_until(LIMIT, |_| results.all() == [1, 2]));
        simulator.start(server, MEMORY, echo_server);
        simulator.run_for(Duration::from_millis(1));
        simulator.run_until(LIMIT, |simulator| !simulator.is_running(clients[0]));
        let again = simulator.run(clients[0], MEMORY, LIMIT, move || {
            echo_client(address(server), 1000)
        });
        assert!(again.unwrap().is_ok());
    }
}

#[test]
fn connections_can_be_reset_from_outside() {
    let (mut simulator, server, clients) = server_and_clients(9, 1);
    let results = Notes::default();
    let notes = results.clone();
    simulator.start(clients[0], MEMORY, move || async move {
        timer::sleep(Duration::from_millis(1)).await;
        let result = echo_client(address(server), 50_000_000).await;
        notes.add(u64::from(result.is_err()));
    });
    simulator.run_for(Duration::from_millis(3));
    assert_eq!(simulator.reset_connections(server, clients[0]), 2);
    assert!(simulator.run_until(LIMIT, |_| results.all() == [1]));
}

#[test]
fn a_receiver_that_does_not_read_stops_its_sender() {
    let mut simulator = Simulator::new(2);
    let (server, client) = (simulator.host(0), simulator.host(0));
    simulator.set_network_faults(NetworkFaults {
        window_bytes: 10_000,
        ..NetworkFaults::default()
    });
    simulator.start(server, MEMORY, || async {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)), 8)
            .await
            .unwrap();
        let _stream = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let sent = simulator.run(client, MEMORY, LIMIT, move || async move {
        timer::sleep(Duration::from_millis(1)).await;
        let stream = TcpStream::connect(address(server)).await.unwrap();
        let mut sent = 0;
        loop {
            let sending = stream.send_all(vec![vec![0; 1000].into()]);
            match timer::timeout(Duration::from_secs(5), sending).await {
                Ok(result) => result.unwrap(),
                Err(_) => return sent,
            }
            sent += 1000;
        }
    });
    assert_eq!(sent, Some(10_000));
}

#[test]
fn half_closing_still_receives_and_shutdown_ends_a_pending_receive() {
    let (mut simulator, server, clients) = server_and_clients(3, 1);
    let result = simulator.run(clients[0], MEMORY, LIMIT, move || async move {
        timer::sleep(Duration::from_millis(1)).await;
        echo_client(address(server), 1000).await.unwrap();
        let stream = TcpStream::connect(address(server)).await.unwrap();
        let waiting = stream.clone();
        let pool = Pool::new("receive", 4096).unwrap();
        let pending = spawn(Class::Latency, async move {
            waiting
                .receive(pool.take(4096).await.unwrap(), 0..4096)
                .await
                .0
                .unwrap()
        });
        timer::sleep(Duration::from_secs(1)).await;
        assert!(!pending.is_finished());
        stream.shutdown(Shutdown::Both);
        pending.await
    });
    assert_eq!(result, Some(0));
}

#[test]
fn a_cancelled_accept_or_receive_lets_the_next_one_have_it() {
    let (mut simulator, server, clients) = server_and_clients(3, 1);
    let result = simulator.run(clients[0], MEMORY, LIMIT, move || async move {
        timer::sleep(Duration::from_millis(1)).await;
        let pool = Pool::new("receive", 1 << 16).unwrap();
        let stream = TcpStream::connect(address(server)).await.unwrap();
        for _ in 0..5 {
            let waiting = stream.receive(pool.take(4096).await.unwrap(), 0..4096);
            assert!(timer::timeout(Duration::from_millis(5), waiting).await.is_err());
        }
        timer::sleep(Duration::from_millis(1)).await;
        assert_eq!(
            pool.bytes_left(),
            1 << 16,
            "a cancelled receive gives its buffer back"
        );
        stream.send_all(vec![vec![7; 3].into()]).await.unwrap();
        let (result, buffer) = stream.receive(pool.take(4096).await.unwrap(), 0..4096).await;
        (result.unwrap(), buffer[0])
    });
    let (bytes, first) = result.unwrap();
    assert!((1..=3).contains(&bytes));
    assert_eq!(first, 7);
}

#[test]
fn descriptors_are_counted_and_may_run_out() {
    let (mut simulator, server, clients) = server_and_clients(3, 1);
    simulator.run_for(Duration::from_millis(1));
    assert_eq!(simulator.descriptors(server), 1);
    simulator.set_descriptors_max(clients[0], 2);
    let kind = simulator.run(clients[0], MEMORY, LIMIT, move || async move {
        let first = TcpStream::connect(address(server)).await.unwrap();
        let _second = TcpStream::connect(address(server)).await.unwrap();
        let third = TcpStream::connect(address(server))
            .await
            .err()
            .unwrap()
            .raw_os_error();
        drop(first);
        assert!(TcpStream::connect(address(server)).await.is_ok());
        timer::sleep(Duration::from_secs(1)).await;
        third
    });
    assert_eq!(kind, Some(Some(libc::EMFILE)));
    simulator.run_for(Duration::from_secs(1));
    assert_eq!(
        (simulator.descriptors(clients[0]), simulator.descriptors(server)),
        (0, 1)
    );
}
