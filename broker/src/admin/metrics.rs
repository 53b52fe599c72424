//! Every metric: its name, its type, what it means, and where its numbers come from.
//!
//! Names are Prometheus' own style: `millstream_` before, the unit behind, `_total` behind what only grows. Few series:
//! a shard is a label, a partition is none, except for the lag of groups, which is bounded.

use ring::buffer::PoolUsage;
use ring::count::DurationCounts;

use super::exposition::{Exposition, Family, Kind, family};
use super::gather::Scrape;
use super::log_metrics;
use crate::shard::probe::ShardMeasures;

const BUILD_INFO: Family = family(
    "millstream_build_info",
    Kind::Gauge,
    "1, with the version as a label.",
);
const READY: Family = family(
    "millstream_ready",
    Kind::Gauge,
    "1 if every shard serves and none is fenced, as /readyz says; else 0.",
);
const TOPICS: Family = family("millstream_topics", Kind::Gauge, "Topics of the cluster.");
const METADATA_VERSION: Family = family(
    "millstream_metadata_version",
    Kind::Gauge,
    "The newest entry of the metadata log that a shard has installed.",
);
const SCRAPE_SECONDS: Family = family(
    "millstream_scrape_seconds",
    Kind::Gauge,
    "How long it took to gather these metrics.",
);
const SHARD_UP: Family = family(
    "millstream_shard_up",
    Kind::Gauge,
    "1 if the shard has recovered its log and gave its metrics; else 0, and it has no others.",
);
const REQUESTS: Family = family(
    "millstream_requests_total",
    Kind::Counter,
    "Requests begun, by API.",
);
const REQUEST_ERRORS: Family = family(
    "millstream_request_errors_total",
    Kind::Counter,
    "Partitions of Produce and Fetch that were refused, and Fetches refused whole, by error code.",
);
const MEMORY_LIMIT: Family = family(
    "millstream_memory_limit_bytes",
    Kind::Gauge,
    "The size of a memory pool.",
);
const MEMORY_USED: Family = family(
    "millstream_memory_used_bytes",
    Kind::Gauge,
    "What is taken of a memory pool. The pool tail is full as a rule: what is migrated stays in it until others need it.",
);
const GROUPS: Family = family(
    "millstream_groups",
    Kind::Gauge,
    "Consumer groups that the shard coordinates, by state.",
);
const LAG_RECORDS: Family = family(
    "millstream_consumer_lag_records",
    Kind::Gauge,
    "Offsets from a group's committed one to the end of what can be read.",
);
const LAG_SECONDS: Family = family(
    "millstream_consumer_lag_seconds",
    Kind::Gauge,
    "The age of the batch that a group wants next, by its timestamp; 0 if it has all. Missing if that is not known.",
);
const LAG_OMITTED: Family = family(
    "millstream_consumer_lag_omitted",
    Kind::Gauge,
    "Committed partitions of groups beyond metrics.lag.partitions.max, or with too long names: their lag is not shown.",
);

/// A number of a shard without other labels.
type Number = (Family, fn(&ShardMeasures) -> u64);

const NUMBERS: &[Number] = &[
    (
        family(
            "millstream_malformed_requests_total",
            Kind::Counter,
            "Connections closed for bytes that are not Kafka's protocol.",
        ),
        |shard| shard.malformed_requests,
    ),
    (
        family(
            "millstream_misrouted_data_requests_total",
            Kind::Counter,
            "Requests for data that another shard of the host leads: 0 while clients route by Metadata.",
        ),
        |shard| shard.misrouted_data_requests,
    ),
    (
        family(
            "millstream_failed_reads_total",
            Kind::Counter,
            "Reads of the log that found damage, or that the disk refused: standard error says where.",
        ),
        |shard| shard.failed_reads,
    ),
    (
        family(
            "millstream_produced_batches_total",
            Kind::Counter,
            "Record batches appended.",
        ),
        |shard| shard.produced_batches,
    ),
    (
        family(
            "millstream_produced_records_total",
            Kind::Counter,
            "Records of the batches appended.",
        ),
        |shard| shard.produced_records,
    ),
    (
        family(
            "millstream_produced_bytes_total",
            Kind::Counter,
            "Bytes of the batches appended.",
        ),
        |shard| shard.produced_bytes,
    ),
    (
        family(
            "millstream_duplicate_batches_total",
            Kind::Counter,
            "Batches of idempotent producers that were there already.",
        ),
        |shard| shard.duplicate_batches,
    ),
    (
        family(
            "millstream_fetched_bytes_total",
            Kind::Counter,
            "Bytes of the batches in answers to Fetch.",
        ),
        |shard| shard.fetched_bytes,
    ),
    (
        family(
            "millstream_received_bytes_total",
            Kind::Counter,
            "Bytes of requests received.",
        ),
        |shard| shard.received_bytes,
    ),
    (
        family(
            "millstream_sent_bytes_total",
            Kind::Counter,
            "Bytes of answers sent.",
        ),
        |shard| shard.sent_bytes,
    ),
    (
        family(
            "millstream_connections",
            Kind::Gauge,
            "Connections that are open.",
        ),
        |shard| shard.connections,
    ),
    (
        family(
            "millstream_accepted_connections_total",
            Kind::Counter,
            "Connections accepted.",
        ),
        |shard| shard.accepted_connections,
    ),
    (
        family(
            "millstream_refused_connections_total",
            Kind::Counter,
            "Connections closed at once, by max.connections.per.ip.",
        ),
        |shard| shard.refused_connections,
    ),
    (
        family(
            "millstream_fetch_sessions",
            Kind::Gauge,
            "Fetch sessions kept for consumers.",
        ),
        |shard| shard.fetch_sessions,
    ),
    (
        family(
            "millstream_group_members",
            Kind::Gauge,
            "Members of the consumer groups that the shard coordinates.",
        ),
        |shard| shard.groups.members,
    ),
    (
        family(
            "millstream_loading_coordinators",
            Kind::Gauge,
            "Partitions of __consumer_offsets whose groups are still being read back.",
        ),
        |shard| shard.groups.loading_coordinators,
    ),
];

/// Times of a shard.
type Times = (Family, fn(&ShardMeasures) -> DurationCounts);

const TIMES: &[Times] = &[
    (
        family(
            "millstream_produce_seconds",
            Kind::Histogram,
            "From the begin of a Produce to its answer, the flush between them.",
        ),
        |shard| shard.produce_time,
    ),
    (
        family(
            "millstream_fetch_seconds",
            Kind::Histogram,
            "From the begin of a Fetch to its answer, with the time that it waits for records.",
        ),
        |shard| shard.fetch_time,
    ),
];

/// The text of a scrape.
pub(super) fn render(scrape: &Scrape) -> String {
    let mut text = Exposition::default();
    let one = |text: &mut Exposition, family: &Family, value: f64| {
        text.begin(family);
        text.sample(family, &[], value);
    };
    text.begin(&BUILD_INFO);
    text.sample(&BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    one(&mut text, &READY, f64::from(u8::from(scrape.is_ready)));
    one(&mut text, &SCRAPE_SECONDS, scrape.took.as_secs_f64());
    if let Some(image) = &scrape.image {
        one(&mut text, &TOPICS, image.topics_by_id.len() as f64);
        one(&mut text, &METADATA_VERSION, image.version as f64);
    }
    render_shards(&mut text, scrape);
    render_lags(&mut text, scrape);
    text.finish()
}

fn render_shards(text: &mut Exposition, scrape: &Scrape) {
    let numbers: Vec<String> = (0..scrape.shards.len())
        .map(|number| number.to_string())
        .collect();
    let all = || numbers.iter().map(String::as_str).zip(&scrape.shards);
    let there = || all().filter_map(|(number, shard)| Some((number, shard.as_deref()?)));
    text.begin(&SHARD_UP);
    for (number, shard) in all() {
        text.sample(&SHARD_UP, &[("shard", number)], u8::from(shard.is_some()));
    }
    text.begin(&REQUESTS);
    for (number, shard) in there() {
        for (api, count) in &shard.requests {
            text.sample(&REQUESTS, &[("shard", number), ("api", api)], count);
        }
    }
    text.begin(&REQUEST_ERRORS);
    for (number, shard) in there() {
        for (api, code, count) in &shard.errors {
            let labels = [("shard", number), ("api", api), ("code", &code.to_string())];
            text.sample(&REQUEST_ERRORS, &labels, count);
        }
    }
    for (family, value) in NUMBERS {
        text.begin(family);
        for (number, shard) in there() {
            text.sample(family, &[("shard", number)], value(shard));
        }
    }
    for (family, counts) in TIMES {
        text.begin(family);
        for (number, shard) in there() {
            text.durations(family, &[("shard", number)], &counts(shard));
        }
    }
    log_metrics::render(text, &there().collect::<Vec<_>>());
    let mut pools = |family: &Family, value: fn(&PoolUsage) -> usize| {
        text.begin(family);
        for (number, shard) in there() {
            for pool in &shard.memory {
                let labels = [("shard", number), ("pool", pool.name)];
                text.sample(family, &labels, value(pool));
            }
            for (directory, log) in log_metrics::online(shard) {
                for pool in &log.memory {
                    let labels = [("shard", number), ("pool", pool.name), ("directory", directory)];
                    text.sample(family, &labels, value(pool));
                }
            }
        }
    };
    pools(&MEMORY_LIMIT, |pool| pool.bytes);
    pools(&MEMORY_USED, |pool| pool.bytes_used);
    text.begin(&GROUPS);
    for (number, shard) in there() {
        let groups = &shard.groups;
        for (state, count) in [
            ("Empty", groups.empty),
            ("PreparingRebalance", groups.preparing_rebalance),
            ("CompletingRebalance", groups.completing_rebalance),
            ("Stable", groups.stable),
        ] {
            text.sample(&GROUPS, &[("shard", number), ("state", state)], count);
        }
    }
}

fn render_lags(text: &mut Exposition, scrape: &Scrape) {
    let lags = || {
        let known = scrape.lags.iter();
        known.filter_map(|(commit, lag)| Some((commit, commit.partition.to_string(), (*lag)?)))
    };
    text.begin(&LAG_RECORDS);
    for (commit, partition, lag) in lags() {
        let labels = [
            ("group", &*commit.group),
            ("topic", &*commit.topic),
            ("partition", &partition),
        ];
        text.sample(&LAG_RECORDS, &labels, lag.records);
    }
    text.begin(&LAG_SECONDS);
    for (commit, partition, lag) in lags() {
        let labels = [
            ("group", &*commit.group),
            ("topic", &*commit.topic),
            ("partition", &partition),
        ];
        if let Some(behind) = lag.behind {
            text.sample(&LAG_SECONDS, &labels, behind.as_secs_f64());
        }
    }
    text.begin(&LAG_OMITTED);
    text.sample(&LAG_OMITTED, &[], scrape.lags_omitted);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn families() -> Vec<Family> {
        let others = [
            BUILD_INFO,
            READY,
            TOPICS,
            METADATA_VERSION,
            SCRAPE_SECONDS,
            SHARD_UP,
            REQUESTS,
            REQUEST_ERRORS,
            MEMORY_LIMIT,
            MEMORY_USED,
            GROUPS,
            LAG_RECORDS,
            LAG_SECONDS,
            LAG_OMITTED,
        ];
        let numbers = NUMBERS.iter().map(|(family, _)| *family);
        let times = TIMES.iter().map(|(family, _)| *family);
        let logs = log_metrics::families();
        others
            .into_iter()
            .chain(numbers)
            .chain(times)
            .chain(logs)
            .collect()
    }

    #[test]
    fn names_say_what_they_are() {
        let families = families();
        let names: BTreeSet<&str> = families.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), families.len(), "a name is used twice");
        for family in families {
            let name = family.name;
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(
                name.starts_with("millstream_") && name.chars().all(is_plain),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            assert!(
                family.kind != Kind::Histogram || name.ends_with("_seconds"),
                "{name}"
            );
            assert!(
                family.help.ends_with('.') && !family.help.contains(['\n', '\\']),
                "{name}"
            );
        }
    }

    #[test]
    fn the_book_has_every_metric_as_it_is() {
        let book = include_str!("../../../docs/run.md");
        for Family { name, kind, help } in families() {
            let row = format!("| `{name}` | {} | {help} |\n", kind.name());
            assert!(book.contains(&row), "docs/run.md lacks this row:\n{row}");
        }
    }

    #[test]
    fn a_shard_that_does_not_answer_is_told_of() {
        let scrape = Scrape {
            shards: vec![None],
            ..Scrape::default()
        };
        let text = render(&scrape);
        assert!(text.contains("\nmillstream_shard_up{shard=\"0\"} 0\n"), "{text}");
        assert!(text.contains("\nmillstream_ready 0\n"), "{text}");
        assert!(!text.contains("\nmillstream_produced_bytes_total{"), "{text}");
    }
}
