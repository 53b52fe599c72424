//! Whole runs in the simulator, against a broker that stands still for a while.

#![expect(clippy::unwrap_used, reason = "a test")]

mod cluster;
mod workload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use millstream_bench::arguments::{Arguments, Command};
use millstream_bench::compare;
use millstream_bench::error::BenchError;
use millstream_bench::report::Report;
use millstream_bench::run::run_here;
use millstream_bench::sweep;
use ring::simulator::Simulator;

use self::cluster::{Faults, PARTITIONS, Seen, TOPIC, serve_cluster};

/// In the measured time of a run, after a warm-up of a second.
const HALF_A_SECOND: Faults = Faults {
    stalled: TOPIC,
    stall_ms: [1_700, 2_200],
    refused: None,
    lost: None,
};

/// Runs a command of `bench` with these options, against two nodes for each of `clusters`, on a simulated host. `%0`
/// and `%1` in the options are the clusters' addresses. Every topic that it makes has to be gone at its end.
fn run<F, Fut, T>(clusters: &[Faults], options: &str, command: F) -> T
where
    F: FnOnce(Command) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    run_seen(clusters, options, command).0
}

/// The same, and what the clusters saw.
fn run_seen<F, Fut, T>(clusters: &[Faults], options: &str, command: F) -> (T, Vec<Arc<Seen>>)
where
    F: FnOnce(Command) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let mut simulator = Simulator::new(11);
    let mut line = format!("bench {options}");
    for (option, value) in [("--partitions", PARTITIONS), ("--record-size", 100)] {
        if !options.contains(option) {
            line = format!("{line} {option} {value}");
        }
    }
    let mut all_seen = Vec::new();
    for (number, faults) in clusters.iter().enumerate() {
        let seen = Arc::new(Seen::default());
        all_seen.push(seen.clone());
        let (faults, server) = (*faults, simulator.host(1 << 20));
        simulator.start(server, 1 << 30, move || serve_cluster(server, faults, seen));
        line = line.replace(&format!("%{number}"), &format!("{}:9092", server.address()));
    }
    let client = simulator.host(1 << 20);
    let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
    let limit = Duration::from_secs(60);
    let ended = simulator.run(client, 16 << 30, limit, || command(arguments.command));
    for seen in &all_seen {
        assert_eq!(*seen.topics.lock().unwrap(), BTreeSet::from([TOPIC.to_owned()]));
    }
    (ended.unwrap(), all_seen)
}

/// `bench produce` with these options.
fn produce(faults: Faults, options: &str) -> Report {
    single_run("produce", faults, options)
}

fn single_run(command: &str, faults: Faults, options: &str) -> Report {
    single_run_seen(command, faults, &format!("--batch-size 1 {options}"))
        .0
        .unwrap()
}

fn single_run_seen(command: &str, faults: Faults, options: &str) -> (Result<Report, BenchError>, Arc<Seen>) {
    let (report, mut seen) = run_seen(
        &[faults],
        &format!("{command} --brokers %0 {options}"),
        async |command| {
            let Command::Load(load) = command else {
                panic!("a single run was asked for");
            };
            run_here(load).await
        },
    );
    (report, seen.remove(0))
}

/// `bench sweep`: a run flat out and one at a tenth of that, two seconds each. The first and second topic are called -1
/// and -2.
fn sweep(faults: Faults) -> sweep::table::Sweep {
    let options = "sweep --brokers %0 --batch-sizes 1k --fractions 10% --connections 2 --in-flight 2 --seconds 2 \
                   --warmup-seconds 1";
    run(&[faults], options, async |command| {
        let Command::Sweep(arguments) = command else {
            panic!("a sweep was asked for");
        };
        sweep::run_here(arguments).await.unwrap()
    })
}

/// Of 2,000 batches that were due in two seconds, during [`HALF_A_SECOND`].
fn assert_a_tenth_waited_long(report: &Report) {
    let latency_ns = &report.sample.latency_ns;
    assert_eq!(latency_ns.len(), 2_000, "{report}");
    let stalled = latency_ns.count_between(300_000_000, 520_000_000);
    assert!(
        (180..=280).contains(&stalled),
        "{stalled} of 2,000 waited long\n{report}"
    );
}

#[test]
fn a_stall_is_charged_to_every_batch_that_was_due_meanwhile() {
    let report = produce(
        HALF_A_SECOND,
        "--rate 1000 --seconds 2 --connections 2 --threads 2",
    );
    assert!(report.is_clean(), "{report}");
    // Batches of one record: 2,000 were due. A quarter of them while the broker stood still, the last of these with
    // nearly no wait: so a tenth of all waited for longer than 300 ms, and some more while the rest was caught up with.
    // A client that stops its clock while it waits would have seen the stall only as often as it has requests in
    // flight.
    let latency_ns = &report.sample.latency_ns;
    assert_a_tenth_waited_long(&report);
    assert!(latency_ns.value_at_quantile(0.5) < 20_000_000, "{report}");
    assert_eq!(report.sample.unsent, 0);
    // It was the broker that stood still, and not this client.
    let own_delay_ns = &report.sample.own_delay_ns;
    assert!(own_delay_ns.len() > 1_000, "{report}");
    assert!(own_delay_ns.max() < 5_000_000, "{} ns", own_delay_ns.max());
    assert!(report.warnings().is_empty(), "{report}");
}

/// A broker that stands still for a second of the two that are measured, in the run whose topic ends so.
fn a_second(stalled: &'static str) -> Faults {
    Faults {
        stalled,
        stall_ms: [1_500, 2_500],
        refused: None,
        lost: None,
    }
}

#[test]
fn a_stall_of_a_second_is_in_the_p99_of_a_sweep() {
    let sweep = sweep(a_second("-2"));
    assert!(sweep.is_clean(), "{sweep}");
    let [flat_out, paced] = &sweep.results[..] else {
        panic!("two runs were expected\n{sweep}");
    };
    assert!(flat_out.report.latency_ms(0.99) < 100.0, "{sweep}");
    // Half of what was due was due meanwhile, and waited for up to a second.
    assert!(
        (900.0..1_100.0).contains(&paced.report.latency_ms(0.99)),
        "{sweep}"
    );
    assert!((300.0..700.0).contains(&paced.report.latency_ms(0.75)), "{sweep}");
    let rate = paced.report.records_per_s.unwrap() as f64;
    assert!(
        (0.09..0.11).contains(&(rate / flat_out.report.reached_per_s())),
        "{sweep}"
    );
    assert!(
        sweep
            .to_string()
            .contains("flushed before it is acknowledged (flush.messages=1)"),
        "{sweep}"
    );
}

#[test]
fn a_closed_loop_hides_the_same_stall_from_its_p99() {
    // Why the sweep's latencies are those of an open loop. The maximum has it, for the few requests that were in flight.
    let sweep = sweep(a_second("-1"));
    let flat_out = &sweep.results[0].report;
    assert!(flat_out.latency_ms(0.99) < 100.0, "{sweep}");
    assert!(flat_out.latency_ms(1.0) > 900.0, "{sweep}");
}

#[test]
fn a_warm_up_is_in_no_figure_of_a_sweep() {
    let during_warm_up = Faults {
        stalled: "-2",
        stall_ms: [100, 600],
        refused: None,
        lost: None,
    };
    let sweep = sweep(during_warm_up);
    let paced = &sweep.results[1].report;
    assert!(paced.latency_ms(1.0) < 200.0, "{sweep}");
    let due = paced.records_per_s.unwrap() as f64 * 2.0;
    assert!(paced.sample.records as f64 <= 1.02 * due, "{sweep}");
}

#[test]
fn two_clusters_are_compared_pair_by_pair() {
    // B stands still for half of each run's time.
    let options =
        "compare %0 %1 --batch-size 1k --rate 2000 --pairs 2 --seconds 2 --warmup-seconds 1 --at-least 5";
    let clusters = [Faults::default(), a_second("")];
    let comparison = run(&clusters, options, async |command| {
        let Command::Compare(arguments) = command else {
            panic!("a comparison was asked for");
        };
        compare::run_here(arguments).await.unwrap()
    });
    assert_eq!(comparison.pairs.len(), 2);
    for pair in &comparison.pairs {
        assert!(pair.b.latency_ms(0.99) > 900.0, "{comparison}");
        assert!(pair.a.latency_ms(0.99) < 100.0, "{comparison}");
    }
    assert!(comparison.is_good(), "{comparison}");
    assert!(comparison.ratio().unwrap().lowest > 5.0, "{comparison}");
}

#[test]
fn batches_go_to_the_nodes_that_lead_and_flat_out_is_as_fast_as_the_answers() {
    let report = produce(HALF_A_SECOND, "--seconds 1 --connections 4 --in-flight 2");
    assert!(report.is_clean(), "{report}");
    assert!(report.sample.records > 1_000, "{report}");
    assert_eq!(report.sample.bytes, 100 * report.sample.records);
}

#[test]
fn what_a_broker_refuses_is_named() {
    let refusing = Faults {
        refused: Some(3),
        ..HALF_A_SECOND
    };
    let report = produce(refusing, "--rate 100 --seconds 1 --warmup-seconds 0");
    let failures: Vec<_> = report.sample.failures.iter().collect();
    let [(failure, count)] = failures[..] else {
        panic!("one kind of failure was expected\n{report}");
    };
    assert_eq!((failure.partition, *count), (3, 25));
    assert_eq!(failure.broker, "node 1 at 10.0.0.1:19093");
    assert_eq!(failure.what, "NOT_LEADER_OR_FOLLOWER");
    assert_eq!(report.sample.records, 75);
}

#[test]
fn from_end_to_end_a_batch_takes_until_it_is_read() {
    let options = "--rate 1000 --seconds 2 --connections 2 --threads 2";
    let report = single_run("end-to-end", HALF_A_SECOND, options);
    assert!(report.is_clean(), "{report}");
    // As what is only sent: every batch that was due while nothing could be read waited.
    assert_a_tenth_waited_long(&report);
    let sent = produce(Faults::default(), options).latency_ms(0.5);
    let read = single_run("end-to-end", Faults::default(), options).latency_ms(0.5);
    assert!(read > sent, "{read} ms and {sent} ms");
}

#[test]
fn what_is_acknowledged_and_never_read_is_named() {
    let losing = Faults {
        lost: Some(2),
        ..Faults::default()
    };
    let report = single_run("end-to-end", losing, "--rate 100 --seconds 1 --warmup-seconds 0");
    let failures: Vec<_> = report.sample.failures.iter().collect();
    let [(failure, 25)] = failures[..] else {
        panic!("one kind of failure was expected\n{report}");
    };
    assert_eq!(failure.partition, 2);
    assert_eq!(failure.what, "a batch was acknowledged and never read");
    assert_eq!(report.sample.records, 75);
}
