//! Prometheus' text format, version 0.0.4: families of samples, each with its HELP and TYPE before them.

use std::fmt::{Display, Write};

use ring::count::{DURATION_BOUNDS, DurationCounts, duration_bound};

/// What the answer says it is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They only grow, until a restart.
    Counter,
    /// They go up and down.
    Gauge,
    /// How long things took.
    Histogram,
}

impl Kind {
    /// Its name in a TYPE line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A family: what its samples have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    /// With its unit last; a counter's ends in `_total`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One line for people.
    pub(super) help: &'static str,
}

/// A family.
pub(super) const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

/// Names and values of a sample's labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A text in the making.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// Begins a family. Its samples follow.
    pub(super) fn begin(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
        self.put(format_args!(
            "# HELP {name} {help}\n# TYPE {name} {}\n",
            kind.name()
        ));
    }

    /// One sample of it.
    pub(super) fn sample(&mut self, family: &Family, labels: Labels<'_>, value: impl Display) {
        self.line(family.name, "", labels, None, value);
    }

    /// The samples of a histogram, in seconds.
    pub(super) fn durations(&mut self, family: &Family, labels: Labels<'_>, counts: &DurationCounts) {
        let mut so_far = 0;
        for (index, count) in counts.buckets.iter().enumerate() {
            so_far += count;
            let bound = match index {
                DURATION_BOUNDS.. => "+Inf".to_owned(),
                _ => duration_bound(index).as_secs_f64().to_string(),
            };
            self.line(family.name, "_bucket", labels, Some(&bound), so_far);
        }
        self.line(family.name, "_sum", labels, None, counts.sum.as_secs_f64());
        self.line(family.name, "_count", labels, None, so_far);
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&str>,
        value: impl Display,
    ) {
        self.put(format_args!("{name}{suffix}"));
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut opening = '{';
        for (label, text) in labels {
            self.put(format_args!("{opening}{label}=\""));
            self.escaped(text);
            self.0.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.0.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(what)
            .expect("a text takes what is written to it");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::count::DurationHistogram;

    use super::*;

    const FAMILY: Family = Family {
        name: "a_total",
        kind: Kind::Counter,
        help: "What it is.",
    };

    #[test]
    fn samples_follow_their_familys_help_and_type() {
        let mut text = Exposition::default();
        text.begin(&FAMILY);
        text.sample(&FAMILY, &[], 3);
        text.sample(&FAMILY, &[("shard", "0"), ("api", "Fetch")], 0.5);
        let expected = "# HELP a_total What it is.\n# TYPE a_total counter\na_total 3\n\
                        a_total{shard=\"0\",api=\"Fetch\"} 0.5\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn no_labels_value_can_end_its_quotes_or_its_line() {
        let mut text = Exposition::default();
        text.sample(&FAMILY, &[("group", "a\"} 1\nb_total 2\\")], 3);
        assert_eq!(text.finish(), "a_total{group=\"a\\\"} 1\\nb_total 2\\\\\"} 3\n");
    }

    #[test]
    fn buckets_add_up() {
        let histogram = DurationHistogram::default();
        for microseconds in [10, 65, 100, 20_000_000] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let family = Family {
            name: "h_seconds",
            kind: Kind::Histogram,
            ..FAMILY
        };
        let mut text = Exposition::default();
        text.durations(&family, &[("shard", "1")], &histogram.counts());
        let text = text.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), DURATION_BOUNDS + 3);
        assert_eq!(lines[0], "h_seconds_bucket{shard=\"1\",le=\"0.000064\"} 1");
        assert_eq!(lines[1], "h_seconds_bucket{shard=\"1\",le=\"0.000128\"} 3");
        assert_eq!(
            lines[DURATION_BOUNDS - 1],
            "h_seconds_bucket{shard=\"1\",le=\"16.777216\"} 3"
        );
        assert_eq!(
            lines[DURATION_BOUNDS],
            "h_seconds_bucket{shard=\"1\",le=\"+Inf\"} 4"
        );
        assert_eq!(lines[DURATION_BOUNDS + 1], "h_seconds_sum{shard=\"1\"} 20.000175");
        assert_eq!(lines[DURATION_BOUNDS + 2], "h_seconds_count{shard=\"1\"} 4");
    }
}
