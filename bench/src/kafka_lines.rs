//! A report as Kafka's own perf tests print theirs, for scripts that read those.
//!
//! Pure. The lines of `kafka-producer-perf-test.sh`, `kafka-consumer-perf-test.sh` and `kafka-e2e-latency.sh` of Kafka 4.x. MB are MiB there.
//! Must not be mistaken for their figures: latency counts from when a batch was due, where theirs counts from the sending.
//! Without a single answer latencies are `NaN`, which Java prints and reads as well.

use crate::report::Report;
use crate::wall_time;

/// Bytes of what Kafka's tools call a MB.
const MIB: f64 = (1 << 20) as f64;

/// The report's lines.
pub(crate) fn lines(report: &Report) -> String {
    match report.command {
        "consume" => consumer(report),
        "end-to-end" => end_to_end(report),
        _ => producer(report),
    }
}

fn mean_ms(report: &Report) -> f64 {
    let latency_ns = &report.sample.latency_ns;
    if latency_ns.is_empty() {
        f64::NAN
    } else {
        latency_ns.mean() / 1e6
    }
}

fn end_to_end(report: &Report) -> String {
    let quantile = |quantile| report.latency_ms(quantile).trunc();
    format!(
        "Avg latency: {:.4} ms\nPercentiles: 50th = {}, 99th = {}, 99.9th = {}\n",
        mean_ms(report),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
    )
}

fn producer(report: &Report) -> String {
    let sample = &report.sample;
    let mean_ms = mean_ms(report);
    let quantile = |quantile| report.latency_ms(quantile).round();
    format!(
        "{} records sent, {:.6} records/sec ({:.2} MB/sec), {mean_ms:.2} ms avg latency, {:.2} ms max latency, \
         {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.\n",
        sample.records,
        report.reached_per_s(),
        sample.bytes as f64 / MIB / report.seconds,
        report.latency_ms(1.0),
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
        quantile(0.999),
    )
}

/// No group is joined: the time of a rebalance is 0, and all time is fetch time.
fn consumer(report: &Report) -> String {
    let sample = &report.sample;
    let mib = sample.bytes as f64 / MIB;
    let ms = (report.seconds * 1e3).round();
    let end_ms = report.began_ms.saturating_add(ms as i64);
    let (mib_per_s, per_s) = (mib / report.seconds, report.reached_per_s());
    format!(
        "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, \
         fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
         {}, {}, {mib:.4}, {mib_per_s:.4}, {}, {per_s:.4}, 0, {ms}, {mib_per_s:.4}, {per_s:.4}\n",
        date(report.began_ms),
        date(end_ms),
        sample.records,
    )
}

fn date(wall_clock_ms: i64) -> String {
    let [year, month, day, hour, minute, second, ms] = wall_time::utc(wall_clock_ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}:{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Sample;

    fn report(command: &'static str) -> Report {
        let mut sample = Sample {
            records: 3_000,
            bytes: 3 << 20,
            ..Sample::default()
        };
        sample.latency_ns.record_n(2_000_000, 98).unwrap();
        sample.latency_ns.record_n(9_000_000, 2).unwrap();
        Report {
            command,
            began_ms: 951_782_400_123,
            ..Report::of(sample, 1.5)
        }
    }

    #[test]
    fn the_producers_line_is_kafkas() {
        assert_eq!(
            lines(&report("produce")),
            "3000 records sent, 2000.000000 records/sec (2.00 MB/sec), 2.14 ms avg latency, 9.00 ms max latency, \
             2 ms 50th, 2 ms 95th, 9 ms 99th, 9 ms 99.9th.\n"
        );
    }

    #[test]
    fn the_lines_from_end_to_end_are_kafkas() {
        assert_eq!(
            lines(&report("end-to-end")),
            "Avg latency: 2.1404 ms\nPercentiles: 50th = 2, 99th = 9, 99.9th = 9\n"
        );
    }

    #[test]
    fn the_consumers_lines_are_kafkas() {
        let text = lines(&report("consume"));
        let [head, row] = &text.lines().collect::<Vec<_>>()[..] else {
            panic!("two lines were expected: {text}");
        };
        assert_eq!(head.split(", ").count(), row.split(", ").count());
        assert_eq!(
            *row,
            "2000-02-29 00:00:00:123, 2000-02-29 00:00:01:623, 3.0000, 2.0000, 3000, 2000.0000, 0, 1500, 2.0000, 2000.0000"
        );
    }
}
