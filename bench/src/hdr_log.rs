//! Histograms in the formats of HdrHistogram's own tools: the percentiles of one (`.hgrm`), and a log of one for each
//! interval.
//!
//! Pure. The log holds each histogram in the V2 encoding, in a zlib stream, in base64. Formats: HdrHistogram's
//! HistogramLogWriter, AbstractHistogram.encodeIntoByteBuffer; RFC 4648.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdrhistogram::Histogram;

use crate::wall_time;

/// Nanoseconds in the unit of the files, which is a millisecond.
const UNIT_NS: f64 = 1e6;
/// Steps from one halving of what is left of the percentiles to the next.
const STEPS: u32 = 5;
/// V2, uncompressed, with words of up to 9 bytes.
const COOKIE: u32 = 0x1c84_9303 | 0x10;
/// V2, in a zlib stream.
const COMPRESSED_COOKIE: u32 = 0x1c84_9304 | 0x10;

/// The percentiles of a histogram of nanoseconds, in milliseconds, as `HistogramLogProcessor` prints them.
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut count = 0;
    for step in histogram.iter_quantiles(STEPS) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / UNIT_NS;
        let quantile = step.quantile_iterated_to();
        let _ = write!(text, "{value:12.3} {quantile:14.12} {count:10}");
        let _ = match quantile {
            whole if whole >= 1.0 => writeln!(text),
            part => writeln!(text, " {:14.2}", 1.0 / (1.0 - part)),
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        histogram.mean() / UNIT_NS,
        histogram.stdev() / UNIT_NS
    );
    let _ = writeln!(
        text,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64 / UNIT_NS,
        histogram.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        sub_buckets(histogram)
    );
    text
}

/// Values that a bucket tells apart: the power of two above twice ten to the digits.
fn sub_buckets(histogram: &Histogram<u64>) -> u64 {
    (2 * 10_u64.pow(histogram.sigfig().into())).next_power_of_two()
}

/// The first lines of a log that began then, in milliseconds since 1970.
pub fn header(began_ms: i64) -> String {
    let began_s = began_ms as f64 / 1e3;
    format!(
        "#[Latencies in nanoseconds; written by millstream-bench {}]\n\
         #[Histogram log format version 1.3]\n\
         #[StartTime: {began_s:.3} (seconds since epoch), {}]\n\
         #[BaseTime: {began_s:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        env!("CARGO_PKG_VERSION"),
        wall_time::shown(began_ms)
    )
}

/// A line for each interval of so many seconds, from `start_s` seconds after the beginning on.
pub fn lines(tag: &str, start_s: f64, interval_seconds: u32, intervals: &[Histogram<u64>]) -> String {
    let mut text = String::new();
    for (number, histogram) in intervals.iter().enumerate() {
        let at_s = start_s + number as f64 * f64::from(interval_seconds);
        let max = histogram.max() as f64 / UNIT_NS;
        let _ = writeln!(
            text,
            "Tag={tag},{at_s:.3},{interval_seconds}.000,{max:.3},{}",
            base64(&compressed(histogram))
        );
    }
    text
}

fn compressed(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut stream = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = stream.write_all(&encoded(histogram));
    let stream = written.and_then(|()| stream.finish()).expect("memory takes it");
    let length = u32::try_from(stream.len()).expect("a histogram of ours has less than a MiB");
    let mut bytes = COMPRESSED_COOKIE.to_be_bytes().to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.extend(stream);
    bytes
}

/// V2: a header, then the counts up to the largest value's, as ZigZag LEB128; a run of zeroes is its negative length.
fn encoded(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut counts = Vec::new();
    let mut zeroes = 0_i64;
    for step in histogram.iter_all() {
        let count = step.count_at_value();
        if count == 0 {
            zeroes += 1;
        } else {
            put_zeroes(&mut counts, std::mem::take(&mut zeroes));
            put_word(&mut counts, i64::try_from(count).unwrap_or(i64::MAX));
        }
        if step.value_iterated_to() >= histogram.max() {
            break;
        }
    }
    put_zeroes(&mut counts, zeroes);
    let length = u32::try_from(counts.len()).expect("a histogram of ours has less than a MiB");
    let mut bytes = COOKIE.to_be_bytes().to_vec();
    bytes.extend(length.to_be_bytes());
    // No values are shifted.
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(u32::from(histogram.sigfig()).to_be_bytes());
    bytes.extend(histogram.low().to_be_bytes());
    bytes.extend(histogram.high().to_be_bytes());
    bytes.extend(1.0_f64.to_be_bytes());
    bytes.extend(counts);
    bytes
}

fn put_zeroes(bytes: &mut Vec<u8>, zeroes: i64) {
    match zeroes {
        0 => {}
        1 => put_word(bytes, 0),
        _ => put_word(bytes, -zeroes),
    }
}

/// LEB128 of at most nine bytes: the ninth holds eight bits.
fn put_word(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    for _ in 0..8 {
        if rest < 0x80 {
            bytes.push(rest as u8);
            return;
        }
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0_u32, |word, place| {
            word << 8 | u32::from(*three.get(place).unwrap_or(&0))
        });
        for place in 0..4 {
            if place <= three.len() {
                text.push(LETTERS[(word >> (18 - 6 * place) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;

    #[test]
    fn base64_is_the_standards() {
        let vectors = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(
            vectors,
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]
        );
    }

    #[test]
    fn words_are_zigzag_and_runs_of_zeroes_are_negative() {
        let words = |value: i64| {
            let mut bytes = Vec::new();
            put_word(&mut bytes, value);
            bytes
        };
        assert_eq!(words(0), [0]);
        assert_eq!(words(-1), [1]);
        assert_eq!(words(63), [126]);
        assert_eq!(words(64), [0x80, 1]);
        assert_eq!(words(i64::MAX).len(), 9);
        assert_eq!(words(i64::MIN), [0xff; 9]);
    }

    #[test]
    fn a_histogram_is_encoded_up_to_its_largest_value() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).unwrap();
        histogram.record_n(2, 5).unwrap();
        histogram.record(4).unwrap();
        let bytes = encoded(&histogram);
        let mut expected = vec![0x1c, 0x84, 0x93, 0x13, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 3];
        expected.extend(1_u64.to_be_bytes());
        expected.extend(1_000_000_u64.to_be_bytes());
        expected.extend([0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        // Two zeroes, five, one zero, one.
        expected.extend([3, 10, 0, 2]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn an_empty_histogram_can_be_written() {
        let text = lines("t", 1.0, 2, &[histogram()]);
        assert!(text.starts_with("Tag=t,1.000,2.000,0.000,HISTF"), "{text}");
        assert!(percentiles(&histogram()).contains("Total count    =            0"));
    }

    #[test]
    fn percentiles_are_milliseconds_and_end_with_all() {
        let mut histogram = histogram();
        for ms in 1..=1_000 {
            histogram.record(ms * 1_000_000).unwrap();
        }
        let text = percentiles(&histogram);
        let rows: Vec<Vec<f64>> = (text.lines().skip(2).take_while(|line| !line.starts_with('#')))
            .map(|line| {
                line.split_whitespace()
                    .map(|cell| cell.parse().unwrap())
                    .collect()
            })
            .collect();
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!(
            (median[0] - 500.0).abs() < 1.0 && (median[2] - 500.0).abs() <= 1.0,
            "{median:?}"
        );
        let last = rows.last().unwrap();
        assert!(
            (last[0] - 1_000.0).abs() < 1.0 && last[1] == 1.0 && last[2] == 1_000.0,
            "{last:?}"
        );
        assert!(
            rows.windows(2)
                .all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2])
        );
    }
}
