//! The load generator against a broker of its own: what one says was written, the other reads.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test crate: its items are nobody's interface, and a failed unwrap is a failed test"
)]

mod process;

use std::path::Path;
use std::process::Command as Process;

use bench::arguments::{Arguments, Command};
use bench::report::Report;
use clap::Parser;
use process::Broker;

/// Records of a batch of 16 KiB: as many as a producer puts into it.
const BATCH_RECORDS: u64 = 15;

fn run(broker: &Broker, options: &str) -> Report {
    let line = format!("bench {options} --brokers {}", broker.address());
    let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
    let Command::Load(load) = arguments.command else {
        panic!("a single run was asked for");
    };
    let report = bench::run::run(load).unwrap();
    assert!(report.is_clean(), "{report}");
    report
}

#[test]
fn every_batch_that_was_acknowledged_is_read_once() {
    let broker = Broker::start();
    let produce = "produce --topic load --partitions 6 --seconds 1 --warmup-seconds 0";
    let flat_out = run(&broker, &format!("{produce} --connections 3 --threads 2"));
    let paced = run(&broker, &format!("{produce} --acks 1 --rate 3000"));
    // 200 batches a second; those that were due and not sent are on a machine that had other things to do.
    assert_eq!(
        paced.sample.latency_ns.len() + paced.sample.unsent,
        200,
        "{paced}"
    );
    // Every answer has a latency, also one that came after the end.
    let acknowledged = flat_out.sample.latency_ns.len() + paced.sample.latency_ns.len();
    assert!(acknowledged > 200, "{flat_out}");
    let read = run(
        &broker,
        "consume --topic load --connections 2 --seconds 60 --check-crcs",
    );
    assert_eq!(read.sample.records, acknowledged * BATCH_RECORDS, "{read}");
}

/// `millstream bench`, and the JSON that it prints.
fn bench(place: &Path, options: &str) -> serde_json::Value {
    let mut program = Process::new(env!("CARGO_BIN_EXE_millstream"));
    // Nobody's broker but its own.
    program
        .env_remove("BROKERS")
        .arg("bench")
        .args(options.split(' '));
    let output = program
        .args(["--json", "--directory"])
        .arg(place)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{options}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_sweep_and_a_comparison_bring_their_own_broker_and_leave_nothing() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load");
    let _not_there = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(place.join("data")).unwrap();
    let written = [
        "page.html",
        "p99.svg",
        "hgrm/batch-4096-500-permille.hgrm",
        "hgrm/sweep.hlog",
    ];
    let [page, plot, ..] = written.map(|name| place.join(name).display().to_string());
    let sweep = bench(
        &place.join("data"),
        &format!(
            "sweep --batch-sizes 4k --fractions 50% --seconds 1 --warmup-seconds 0 --html {page} --svg {plot} --hgrm {}",
            place.join("hgrm").display()
        ),
    );
    let results = sweep["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{sweep:#}");
    for result in results {
        assert!(result["latency_us"]["p99"].as_f64().unwrap() > 0.0, "{result:#}");
        assert!(
            result["server_cpu"]["seconds"].as_f64().unwrap() > 0.0,
            "{result:#}"
        );
    }
    // Our default.
    let durability = sweep["cluster"]["durability"].as_str().unwrap();
    assert_eq!(durability, "flushed before it is acknowledged (flush.messages=1)");
    // The file system is not told in a chroot: its root is no mount.
    assert!(sweep["host"]["kernel"].is_string(), "{sweep:#}");
    for name in written {
        let text = std::fs::read_to_string(place.join(name)).unwrap();
        assert!(!text.is_empty(), "{name}");
    }
    let compared = bench(
        &place.join("data"),
        "compare embedded embedded --batch-size 4k --pairs 1 --seconds 1 --warmup-seconds 0",
    );
    assert!(
        compared["a_times_as_good"]["median"].as_f64().unwrap() > 0.0,
        "{compared:#}"
    );
    assert_eq!(compared["is_good"], true);
    assert!(std::fs::read_dir(place.join("data")).unwrap().next().is_none());
}
