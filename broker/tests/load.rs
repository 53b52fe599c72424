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

use bench::arguments::Arguments;
use bench::report::Report;
use clap::Parser;
use process::Broker;

/// Records of a batch of 16 KiB: as many as a producer puts into it.
const BATCH_RECORDS: u64 = 15;

fn run(broker: &Broker, options: &str) -> Report {
    let line = format!("bench {options} --brokers {}", broker.address());
    let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
    let report = bench::run::run(arguments).unwrap();
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
