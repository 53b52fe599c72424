//! `millstream topic`, `group`, `config` and `cluster` against a broker, as a person would type it.
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

/// Runs `millstream ARGUMENTS`, of any noun: its exit code, and what it prints on either stream.
fn any(broker: &Broker, arguments: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(arguments.split(' '))
        .args(["--brokers", broker.address()])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a command of any noun prints when it succeeds.
fn any_printed(broker: &Broker, arguments: &str) -> String {
    let (code, printed, errors) = any(broker, arguments);
    assert_eq!(code, Some(0), "{arguments}: {errors}");
    printed
}

/// What a command of any noun says when it fails.
fn any_complaint(broker: &Broker, arguments: &str) -> String {
    let (code, printed, errors) = any(broker, arguments);
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{arguments}: {errors}");
    errors
}

/// The words of the row whose first words are these.
fn row<'a>(table: &'a str, first: &[&str]) -> Vec<&'a str> {
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.starts_with(first))
        .unwrap_or_else(|| panic!("no row {first:?}: {table}"))
}

#[test]
fn a_group_is_reset_described_and_deleted() {
    let broker = Broker::start();
    let t = name("reset");
    let g = name("group");
    printed(&broker, &format!("create {t} --partitions 2"), b"");
    printed(&broker, &format!("produce {t} --partition 1"), b"a\nb\nc\nd\n");
    let reset = |rest: &str| any_printed(&broker, &format!("group reset {g} --topic {t} {rest}"));

    let dry = reset("--to-latest");
    assert_eq!(row(&dry, &[&t, "1"])[2..], ["-", "4"], "{dry}");
    assert!(dry.contains("--execute"), "{dry}");
    let missing = any_complaint(&broker, &format!("group describe {g}"));
    assert!(
        missing.contains("GROUP_ID_NOT_FOUND") && missing.contains("next:"),
        "a dry run commits nothing: {missing}"
    );

    reset("--to-latest --execute");
    let list = any_printed(&broker, "group list");
    assert_eq!(row(&list, &[&g])[1], "Empty", "{list}");
    let table = any_printed(&broker, &format!("group describe {g}"));
    assert_eq!(row(&table, &[&t, "0"])[2..5], ["0", "0", "0"], "{table}");
    assert_eq!(row(&table, &[&t, "1"])[2..5], ["4", "4", "0"], "{table}");

    reset("--partition 1 --to-offset 3 --execute");
    let json = any_printed(&broker, &format!("group describe {g} --output json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let partition = &json[0]["partitions"][1];
    assert_eq!(
        (&partition["committed_offset"], &partition["lag"]),
        (&3.into(), &1.into()),
        "{json}"
    );

    let beyond = reset("--partition 1 --to-offset 99");
    assert_eq!(row(&beyond, &[&t, "1"])[2..], ["3", "4"], "{beyond}");
    let earliest = reset("--to-earliest");
    assert_eq!(row(&earliest, &[&t, "1"])[2..], ["3", "0"], "{earliest}");
    let since_1970 = reset("--to-time 1970-01-01T00:00:00Z --partition 1");
    assert_eq!(row(&since_1970, &[&t, "1"])[2..], ["3", "0"], "{since_1970}");
    let future = reset("--to-time 2999-01-01T00:00:00Z --partition 1");
    assert_eq!(row(&future, &[&t, "1"])[2..], ["3", "4"], "{future}");
    let gone = any_complaint(
        &broker,
        &format!("group reset {g} --topic {t} --partition 7 --to-latest"),
    );
    assert!(gone.contains(&format!("{t}-7")), "{gone}");

    assert_eq!(
        any_printed(&broker, &format!("group delete {g}")),
        format!("deleted group {g}\n")
    );
    let missing = any_complaint(&broker, &format!("group delete {g}"));
    assert!(
        missing.contains("GROUP_ID_NOT_FOUND") && missing.contains("group list"),
        "{missing}"
    );
}

#[test]
fn configs_are_shown_changed_and_put_back() {
    let broker = Broker::start();
    let t = name("configs");
    printed(&broker, &format!("create {t}"), b"");
    let get = || any_printed(&broker, &format!("config get topic {t} segment.bytes"));
    let before = get();
    assert_eq!(
        row(&before, &["segment.bytes"])[1..3],
        ["1073741824", "default"],
        "{before}"
    );
    any_printed(&broker, &format!("config set topic {t} segment.bytes=2097152"));
    let changed = get();
    assert_eq!(
        row(&changed, &["segment.bytes"])[1..3],
        ["2097152", "topic"],
        "{changed}"
    );
    any_printed(&broker, &format!("config set topic {t} --default segment.bytes"));
    assert_eq!(get(), before);
    let refused = any_complaint(&broker, &format!("config set topic {t} segment.bytes=many"));
    assert!(refused.contains("INVALID_CONFIG"), "{refused}");
    let unknown = any_complaint(&broker, &format!("config get topic {t} no.such.config"));
    assert!(unknown.contains("no.such.config"), "{unknown}");
    let missing = any_complaint(&broker, &format!("config get topic {t}-missing"));
    assert!(missing.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{missing}");
}

#[test]
fn a_cluster_names_its_nodes_and_a_brokers_configs_are_asked_from_it() {
    let broker = Broker::start();
    let json = any_printed(&broker, "cluster --output json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let node = json["controller"].as_i64().unwrap();
    let table = any_printed(&broker, "cluster");
    assert!(table.contains(json["cluster_id"].as_str().unwrap()), "{table}");
    assert_eq!(row(&table, &[&node.to_string()]).len(), 5, "{table}");
    let configs = any_printed(&broker, &format!("config get broker {node} num.partitions"));
    assert_eq!(row(&configs, &["num.partitions"])[1], "1", "{configs}");
}

#[test]
fn a_brokers_configs_are_changed_while_it_runs() {
    let broker = Broker::start();
    let cluster: serde_json::Value =
        serde_json::from_str(&any_printed(&broker, "cluster --output json")).unwrap();
    let node = cluster["controller"].as_i64().unwrap();
    let name = "log.cleaner.backoff.ms";
    let shown = |of: &str| {
        let table = any_printed(&broker, &format!("config get broker {of} {name}"));
        row(&table, &[name])[1..].join(" ")
    };
    any_printed(&broker, &format!("config set broker all {name}=20000"));
    assert_eq!(shown("all"), "20000 all brokers, changed no");
    any_printed(&broker, &format!("config set broker {node} {name}=30000"));
    assert_eq!(shown(&node.to_string()), "30000 broker, changed no");
    let complete = any_printed(&broker, &format!("config get broker {node}"));
    assert!(complete.lines().count() > 350, "{complete}");
    for of in ["all", &node.to_string()] {
        any_printed(&broker, &format!("config set broker {of} --default {name}"));
    }
    assert_eq!(shown(&node.to_string()), "15000 default no");
    let nothing = any_printed(&broker, "config get broker all");
    assert_eq!(nothing, "no config is set for all brokers\n");
    let nowhere = any_complaint(&broker, "config get broker 77");
    assert!(
        nowhere.contains("node 77 is not one") && nowhere.contains("millstream cluster"),
        "{nowhere}"
    );
    assert!(!nowhere.contains("advertises"), "{nowhere}");
    let unset = any_complaint(&broker, &format!("config get broker all {name}"));
    assert!(unset.contains("is not set for all brokers"), "{unset}");
    let fixed = any_complaint(&broker, &format!("config set broker {node} num.partitions=7"));
    assert!(
        fixed.contains("INVALID_REQUEST") && fixed.contains("num.partitions"),
        "{fixed}"
    );
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
    assert_eq!(rows[2][6..], ["0", "0", "0"], "{table}");
    assert_eq!(rows[3][6..8], ["0", "4"], "{table}");
    let json = printed(&broker, &format!("describe {t} --output json"), b"");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let size = json[0]["partitions"][1]["size_bytes"].as_u64().unwrap();
    assert_eq!(rows[3][8], size.to_string(), "{table}");
    // Four records in at most four batches of 61 bytes each, beside their own.
    assert!((80..600).contains(&size), "{size}");

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
