//! What records are made of and who sends them, as the command line says it.

use std::fmt;

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Acks;
use crate::error::BenchError;
use crate::keys::KEY_BYTES;

/// The value of a record at most, in bytes.
const VALUE_BYTES_MAX: u32 = 64 << 20;
/// Keys at most: four bytes of memory each, in every run.
const KEYS_MAX: i64 = 10_000_000;
/// Requests of an idempotent producer in flight at most, as Kafka's client has it: brokers remember the last five batches.
const IDEMPOTENT_IN_FLIGHT_MAX: u32 = 5;

/// The records of a load.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RecordArguments {
    /// The value of a record, in bytes, 0 to 67108864: a number, or a range MIN-MAX, from which each record's is drawn
    /// uniformly (the same ones in each run).
    #[arg(long, default_value = "1024", value_name = "BYTES", value_parser = RecordSizes::parse)]
    pub record_size: RecordSizes,
    /// Records have a key of ten bytes, drawn uniformly from so many (the same ones in each run), 1 to 10000000; as many
    /// as partitions at least. A key belongs to the partition to which Kafka's default partitioner sends it. Without
    /// it: no keys.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=KEYS_MAX))]
    pub keys: Option<u32>,
    /// So much of each value, in percent of its bytes, is a text that repeats, the same one in all values, which a codec
    /// takes out. The rest are letters by chance, of which it takes out a quarter at most.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub compressible: u8,
    /// Each client is an idempotent producer, as with enable.idempotence: it has a producer id, and numbers what it sends
    /// to each partition. With --acks all, and at most 5 requests in flight. A partition that refuses a batch gets no
    /// more from that client.
    #[arg(long)]
    pub idempotent: bool,
}

impl RecordArguments {
    /// Fails if these records cannot be sent so.
    pub(crate) fn check(&self, partitions: i32, acks: Acks, in_flight: u32) -> Result<(), BenchError> {
        let what = if self.idempotent && acks != Acks::All {
            "--idempotent needs --acks all: what is not acknowledged by all replicas may be lost unseen"
                .to_owned()
        } else if self.idempotent && in_flight > IDEMPOTENT_IN_FLIGHT_MAX {
            format!(
                "--idempotent allows --in-flight {IDEMPOTENT_IN_FLIGHT_MAX} at most, as Kafka's client does, \
                 and {in_flight} were asked for"
            )
        } else if let Some(keys) = self.keys
            && i64::from(keys) < i64::from(partitions)
        {
            format!(
                "{keys} keys do not give each of {partitions} partitions one: --keys {partitions} at least"
            )
        } else {
            return Ok(());
        };
        Err(BenchError::Workload { what })
    }

    /// The settings of a report; what is not asked for is not there.
    pub(crate) fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = vec![("record_size", self.record_size.to_json())];
        if let Some(keys) = self.keys {
            settings.push(("keys", json!(keys)));
        }
        if self.compressible > 0 {
            settings.push(("compressible", json!(self.compressible)));
        }
        if self.idempotent {
            settings.push(("idempotent", json!(true)));
        }
        settings
    }

    /// Key and value of a record, on average, in bytes.
    pub(crate) fn bytes_on_average(&self) -> f64 {
        let key_bytes = self.keys.map_or(0, |_| KEY_BYTES);
        f64::from(self.record_size.min).midpoint(f64::from(self.record_size.max)) + key_bytes as f64
    }
}

/// For people: `records of 1024 bytes`, and what else is asked for.
impl fmt::Display for RecordArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records of {} bytes", self.record_size)?;
        if let Some(keys) = self.keys {
            write!(f, " with {keys} keys")?;
        }
        if self.compressible > 0 {
            write!(f, ", {} % compressible", self.compressible)?;
        }
        if self.idempotent {
            write!(f, ", idempotent")?;
        }
        Ok(())
    }
}

/// The sizes of values, in bytes: from, and up to, included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSizes {
    /// The smallest.
    pub min: u32,
    /// The largest.
    pub max: u32,
}

impl RecordSizes {
    /// Reads `1024` or `100-2000`.
    pub(crate) fn parse(text: &str) -> Result<RecordSizes, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| {
            let number = text.parse().ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX);
            number.ok_or_else(|| {
                format!(
                    "a number of bytes, such as 1024, or a range, such as 100-2000; at most {VALUE_BYTES_MAX}"
                )
            })
        };
        let sizes = RecordSizes {
            min: number(min)?,
            max: number(max)?,
        };
        if sizes.min > sizes.max {
            return Err("a range begins with its smaller number".to_owned());
        }
        Ok(sizes)
    }

    /// Whether all are the same.
    pub(crate) fn are_equal(self) -> bool {
        self.min == self.max
    }

    /// A number; or a text, if it is a range.
    fn to_json(self) -> Value {
        if self.are_equal() {
            json!(self.min)
        } else {
            json!(self.to_string())
        }
    }
}

impl fmt::Display for RecordSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.are_equal() {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// The options, as a command of its own.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        records: RecordArguments,
    }

    fn records(options: &str) -> Result<RecordArguments, clap::Error> {
        let line = Line::try_parse_from(format!("run {options}").trim().split(' '))?;
        Ok(line.records)
    }

    #[test]
    fn what_is_asked_for_is_what_is_shown() {
        let plain = records("").unwrap();
        assert_eq!(plain.to_string(), "records of 1024 bytes");
        assert_eq!(plain.settings(), [("record_size", json!(1_024))]);
        let all = "--record-size 100-2000 --keys 50 --compressible 30 --idempotent";
        let all = records(all).unwrap();
        assert_eq!(
            all.to_string(),
            "records of 100-2000 bytes with 50 keys, 30 % compressible, idempotent"
        );
        let settings = [
            ("record_size", json!("100-2000")),
            ("keys", json!(50)),
            ("compressible", json!(30)),
            ("idempotent", json!(true)),
        ];
        assert_eq!(all.settings(), settings);
        assert_eq!(all.bytes_on_average(), 1_060.0);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for options in [
            "--record-size=",
            "--record-size=-1",
            "--record-size=1-",
            "--record-size=-",
            "--record-size=2-1",
            "--record-size=1-2-3",
            "--record-size=67108865",
            "--record-size=0-67108865",
            "--record-size=1k",
            "--keys=0",
            "--keys=10000001",
            "--compressible=101",
            "--compressible=-1",
        ] {
            assert!(records(options).is_err(), "{options}");
        }
        for options in [
            "--record-size=0",
            "--record-size=67108864",
            "--record-size=0-67108864",
            "--record-size=7-7",
            "--compressible=100",
        ] {
            assert!(records(options).is_ok(), "{options}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_what_to_do() {
        let check = |options, partitions, acks, in_flight| {
            let checked = records(options).unwrap().check(partitions, acks, in_flight);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check("--keys=6 --idempotent", 6, Acks::All, 5), Ok(()));
        assert_eq!(check("", 6, Acks::None, 1_000), Ok(()));
        for (options, acks, in_flight, advice) in [
            ("--keys=5", Acks::All, 5, "--keys 6 at least"),
            ("--idempotent", Acks::Leader, 5, "needs --acks all"),
            ("--idempotent", Acks::All, 6, "--in-flight 5 at most"),
        ] {
            let error = check(options, 6, acks, in_flight).unwrap_err();
            assert!(error.contains(advice), "{error}");
        }
    }
}
