//! `millstream topic ...` against a broker, as a person would type it.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test crate: its items are nobody's interface, and a failed unwrap is a failed test"
)]

mod process;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use process::Broker;

/// Runs `millstream topic ARGUMENTS` with `input` on its standard input.
fn topic(broker: &Broker, arguments: &str, input: &[u8]) -> Output {
    let mut child = command(broker, arguments).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that reads no input closes it early.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

fn command(broker: &Broker, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .args(["topic", "--brokers", broker.address()])
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command that succeeds prints.
fn printed(broker: &Broker, arguments: &str, input: &[u8]) -> String {
    let output = topic(broker, arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn complaint(broker: &Broker, arguments: &str) -> String {
    let output = topic(broker, arguments, b"");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
    errors
}

/// A name that no other test has.
fn name(of: &str) -> String {
    format!("cli-{of}-{}", std::process::id())
}

#[test]
fn a_topic_lives_from_create_to_delete() {
    let broker = Broker::start();
    let t = name("life");
    assert_eq!(
        printed(
            &broker,
            &format!("create {t} --partitions 2 --config retention.ms=86400000"),
            b""
        ),
        format!("created topic {t}\n")
    );
    let again = complaint(&broker, &format!("create {t}"));
    assert!(
        again.contains(&t) && again.contains("TOPIC_ALREADY_EXISTS"),
        "{again}"
    );
    assert!(again.contains("next:"), "{again}");
    let list = printed(&broker, "list", b"");
    assert!(list.lines().any(|line| line == t), "{list}");

    let lines = "one\n\nthree with words\nünf\n";
    printed(&broker, &format!("produce {t} --partition 1"), lines.as_bytes());
    let consume = |rest: &str| printed(&broker, &format!("consume {t} {rest}"), b"");
    assert_eq!(consume("--exit-at-end"), lines);
    assert_eq!(consume("--exit-at-end --partition 0"), "");
    assert_eq!(
        consume("--exit-at-end --partition 1 --offset 2"),
        "three with words\nünf\n"
    );
    assert_eq!(consume("--exit-at-end --offset latest"), "");
    assert_eq!(consume("--max-messages 2"), "one\n\n");

    let table = printed(&broker, &format!("describe {t}"), b"");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 4, "{table}");
    for (row, (partition, next_offset)) in rows[2..].iter().zip([("0", "0"), ("1", "4")]) {
        assert_eq!(
            (row[0], row[row.len() - 2], row[row.len() - 1]),
            (partition, "0", next_offset),
            "{table}"
        );
    }

    let gone = complaint(&broker, &format!("consume {t} --partition 2"));
    assert!(
        gone.contains(&format!("{t}-2")) && gone.contains("2 partitions"),
        "{gone}"
    );
    let gone = complaint(&broker, &format!("consume {t} --partition 1 --offset 9"));
    assert!(
        gone.contains("OFFSET_OUT_OF_RANGE") && gone.contains("describe"),
        "{gone}"
    );

    assert_eq!(
        printed(&broker, &format!("delete {t}"), b""),
        format!("deleted topic {t}\n")
    );
    for arguments in ["delete", "consume", "describe"] {
        let missing = complaint(&broker, &format!("{arguments} {t}"));
        assert!(
            missing.contains("UNKNOWN_TOPIC_OR_PARTITION") && missing.contains(&t),
            "{missing}"
        );
    }
}

#[test]
fn lines_come_back_in_order_with_every_codec_and_keys_stay_together() {
    let broker = Broker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let t = name(codec);
        printed(&broker, &format!("create {t} --partitions 6"), b"");
        let lines: String = (0..20_000)
            .map(|n| format!("key{}=line {n} of {codec}\n", n % 100))
            .collect();
        printed(
            &broker,
            &format!("produce {t} --key-separator = --compression {codec}"),
            lines.as_bytes(),
        );
        let mut all = Vec::new();
        let mut partitions = 0;
        for partition in 0..6 {
            let arguments = format!("consume {t} --exit-at-end --key-separator = --partition {partition}");
            let text = printed(&broker, &arguments, b"");
            let number = |line: &str| line.split(' ').nth(1).unwrap().parse::<u32>().unwrap();
            assert!(text.lines().map(number).is_sorted(), "{t}-{partition}");
            partitions += u32::from(!text.is_empty());
            all.extend(text.lines().map(|line| (number(line), line.to_owned())));
        }
        assert!(
            partitions > 3,
            "a hundred keys are spread over {partitions} partitions"
        );
        all.sort();
        let all: String = all.into_iter().map(|(_, line)| line + "\n").collect();
        assert!(all == lines, "{codec}");
    }
}

#[test]
fn what_is_typed_arrives_line_by_line() {
    let broker = Broker::start();
    let t = name("typed");
    printed(&broker, &format!("create {t} --partitions 1"), b"");
    let mut producer = command(&broker, &format!("produce {t}")).spawn().unwrap();
    let mut consumer = command(&broker, &format!("consume {t}")).spawn().unwrap();
    let mut typed = producer.stdin.take().unwrap();
    let mut shown = BufReader::new(consumer.stdout.take().unwrap());
    for line in ["first\n", "second\n", "third\n"] {
        typed.write_all(line.as_bytes()).unwrap();
        let mut seen = String::new();
        shown.read_line(&mut seen).unwrap();
        assert_eq!(seen, line);
    }
    drop(typed);
    assert!(producer.wait().unwrap().success());
    // A reader that leaves ends the consumer without a word.
    drop(shown);
    printed(&broker, &format!("produce {t}"), b"for nobody\n");
    let output = consumer.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn a_producer_and_a_consumer_outlive_clean_and_unclean_restarts() {
    let mut broker = Broker::start_restartable();
    let t = name("live");
    printed(&broker, &format!("create {t} --partitions 3"), b"");
    let mut producer = command(&broker, &format!("produce {t}")).spawn().unwrap();
    let consumer = command(&broker, &format!("consume {t} --max-messages 1000"))
        .spawn()
        .unwrap();
    let mut typed = producer.stdin.take().unwrap();
    let typist = std::thread::spawn(move || {
        for number in 0..1_000 {
            writeln!(typed, "{number}").unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    for signal in ["-TERM", "-KILL", "-TERM", "-KILL"] {
        std::thread::sleep(Duration::from_millis(300));
        broker.restart(signal);
    }
    typist.join().unwrap();
    assert!(producer.wait().unwrap().success());
    let output = consumer.wait_with_output().unwrap();
    let mut seen: Vec<u32> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_broker_that_is_not_there_is_named_and_so_is_the_next_step() {
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let output = command.args(arguments.split(' ')).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, errors) = run("topic list --brokers 127.0.0.1:1,nowhere.invalid:9092");
    assert_eq!(code, Some(1), "{errors}");
    for part in [
        "127.0.0.1:1",
        "nowhere.invalid:9092",
        "millstream start",
        "--brokers",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
    for usage in [
        "topic",
        "topic list extra",
        "topic create",
        "begin",
        "topic create t --config k",
    ] {
        let (code, errors) = run(usage);
        assert_eq!(code, Some(2), "{usage}: {errors}");
    }
}
