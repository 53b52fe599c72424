//! Frames as the network cuts them, and frames that are none.

use std::time::Duration;

use ring::simulator::{Simulator, for_each_seed};
use ring::socket::TcpStream;
use ring::timer;

use crate::support::{
    Ask, Server, ask, assert_echo, client, connect, frame, limits, prefixed, read_to_end, rough,
};

#[test]
fn a_frame_may_come_in_two_parts_cut_anywhere() {
    for rest in [0, 40, 5_000] {
        let mut simulator = Simulator::new(1);
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        client(&mut simulator, move || async move {
            let bytes = frame(7, Ask::Echo, rest);
            let step = if rest > 1_000 { 97 } else { 1 };
            let stream = TcpStream::connect(address).await.unwrap();
            let mut times = 0;
            for cut in (0..=bytes.len()).step_by(step) {
                for part in [&bytes[..cut], &bytes[cut..]] {
                    stream.send_all(vec![part.to_vec().into()]).await.unwrap();
                    timer::sleep(Duration::from_millis(20)).await;
                }
                times += 1;
            }
            let close = frame(8, Ask::Close, 0);
            stream.send_all(vec![close.into()]).await.unwrap();
            let answers = read_to_end(&stream).await.unwrap();
            let answer = prefixed(&[&bytes[8..12], &bytes[17..]].concat());
            assert_eq!(answers, answer.repeat(times));
        });
        server.ends(&mut simulator);
    }
}

#[test]
fn many_small_frames_may_come_at_once_and_the_last_in_part() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for id in 0..2_000 {
            let rest = id as usize % 90;
            let one = frame(id, Ask::Echo, rest);
            expected.extend(prefixed(&[&one[8..12], &one[17..]].concat()));
            bytes.extend(one);
        }
        let last = bytes.split_off(bytes.len() - 10);
        stream.send_all(vec![bytes.into()]).await.unwrap();
        timer::sleep(Duration::from_secs(1)).await;
        stream
            .send_all(vec![last.into(), frame(0, Ask::Close, 0).into()])
            .await
            .unwrap();
        assert!(read_to_end(&stream).await.unwrap() == expected);
    });
    server.ends(&mut simulator);
}

#[test]
fn frames_of_every_size_pass_through_a_rough_network() {
    for_each_seed(0..6, |seed| {
        let mut simulator = Simulator::new(seed);
        simulator.set_network_faults(rough());
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        client(&mut simulator, move || async move {
            let connection = connect(address).await;
            let sizes = [
                0, 1_000, 1_011, 4_075, 4_076, 4_080, 5_000, 30_000, 65_500, 66_000, 200_000, 1_000,
            ];
            let mut answers = Vec::new();
            for (id, rest) in (0..).zip([sizes, sizes].concat()) {
                answers.push((id, rest, ask(&connection, id, Ask::Echo, rest).await.unwrap()));
                if answers.len() == 5 {
                    let (id, rest, answer) = answers.remove(0);
                    assert_echo(&answer.await.unwrap(), id, rest);
                }
            }
            for (id, rest, answer) in answers {
                assert_echo(&answer.await.unwrap(), id, rest);
            }
        });
        server.ends(&mut simulator);
    });
}

#[test]
fn a_length_that_is_refused_ends_the_connection_after_the_answers_before_it() {
    for length in [-1, i32::MIN, (1 << 20) + 1, i32::MAX] {
        let mut simulator = Simulator::new(1);
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        client(&mut simulator, move || async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut bytes = [frame(1, Ask::Later(300), 3), frame(2, Ask::Echo, 3)].concat();
            bytes.extend(length.to_be_bytes());
            bytes.extend(vec![9; 10_000]);
            stream.send_all(vec![bytes.into()]).await.unwrap();
            let answers = read_to_end(&stream).await.unwrap();
            assert_eq!(answers.len(), 2 * (4 + 4 + 3), "length {length}");
            // Others are served.
            let answer = ask(&connect(address).await, 3, Ask::Echo, 0).await.unwrap();
            assert_echo(&answer.await.unwrap(), 3, 0);
        });
        assert_eq!(server.begun(), [1, 2, 3]);
        server.ends(&mut simulator);
    }
}

#[test]
fn the_longest_frame_passes() {
    let mut simulator = Simulator::new(1);
    let server = Server::start(&mut simulator, limits());
    let address = server.address();
    client(&mut simulator, move || async move {
        let rest = (1 << 20) - 13;
        let connection = connect(address).await;
        let answer = ask(&connection, 1, Ask::Echo, rest).await.unwrap();
        assert_echo(&answer.await.unwrap(), 1, rest);
        let one_more = ask(&connection, 2, Ask::Echo, rest + 1).await.unwrap();
        assert!(one_more.await.is_err());
    });
    server.ends(&mut simulator);
}

#[test]
fn close_sends_what_was_before_it_and_begins_nothing_behind_it() {
    for close in [Ask::Close, Ask::CloseLater(50)] {
        let mut simulator = Simulator::new(1);
        let server = Server::start(&mut simulator, limits());
        let address = server.address();
        client(&mut simulator, move || async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let frames = [
                frame(1, Ask::Later(100), 3),
                frame(2, Ask::Echo, 3),
                frame(3, close, 0),
                frame(4, Ask::Echo, 3),
            ];
            stream.send_all(vec![frames.concat().into()]).await.unwrap();
            assert_eq!(read_to_end(&stream).await.unwrap().len(), 2 * (4 + 4 + 3));
        });
        let begun = server.begun();
        match close {
            Ask::Close => assert_eq!(begun, [1, 2, 3]),
            _ => assert_eq!(begun, [1, 2, 3, 4]),
        }
        server.ends(&mut simulator);
    }
}
