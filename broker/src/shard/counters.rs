//! What a shard has done: plain numbers of one thread.

use std::fmt;

use ring::count::{Counter, DurationHistogram};
use wire::{API_TABLE, ApiKey, ErrorCode};

/// The keys of all APIs are below it.
const API_KEYS: usize = API_TABLE[API_TABLE.len() - 1].key as usize + 1;

/// The counters of a shard. They print as one line.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Requests begun, by the API's key.
    requests: [Counter; API_KEYS],
    /// Bytes of the batches appended.
    pub(crate) produced_bytes: Counter,
    /// Batches appended.
    pub(crate) produced_batches: Counter,
    /// Records of the batches appended.
    pub(crate) produced_records: Counter,
    /// Batches that were there already, and were answered with their first offset.
    pub(crate) duplicate_batches: Counter,
    /// Bytes of the records returned.
    pub(crate) fetched_bytes: Counter,
    /// Connections closed for bytes that are not Kafka's protocol.
    pub(crate) malformed_requests: Counter,
    /// Requests for the data of a partition that another shard of this host leads. A client that follows Metadata
    /// never sends one.
    pub(crate) misrouted_data_requests: Counter,
    /// Partitions in answers to Produce that were refused.
    pub(crate) produce_errors: ErrorCounters,
    /// Partitions in answers to Fetch that were refused, and answers that were refused whole.
    pub(crate) fetch_errors: ErrorCounters,
    /// From the begin of a Produce to its answer.
    pub(crate) produce_time: DurationHistogram,
    /// From the begin of a Fetch to its answer, with the time that it waits for records.
    pub(crate) fetch_time: DurationHistogram,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            requests: [const { Counter::new() }; API_KEYS],
            produced_bytes: Counter::new(),
            produced_batches: Counter::new(),
            produced_records: Counter::new(),
            duplicate_batches: Counter::new(),
            fetched_bytes: Counter::new(),
            malformed_requests: Counter::new(),
            misrouted_data_requests: Counter::new(),
            produce_errors: ErrorCounters::default(),
            fetch_errors: ErrorCounters::default(),
            produce_time: DurationHistogram::default(),
            fetch_time: DurationHistogram::default(),
        }
    }
}

impl Counters {
    /// A request of this API is begun.
    pub(crate) fn request(&self, api: ApiKey) {
        self.requests[api.code() as usize].add(1);
    }

    /// Requests begun of this API.
    pub(crate) fn requests_of(&self, api: ApiKey) -> u64 {
        self.requests[api.code() as usize].get()
    }

    fn other_requests(&self) -> u64 {
        let all: u64 = self.requests.iter().map(Counter::get).sum();
        all - self.requests_of(ApiKey::Produce) - self.requests_of(ApiKey::Fetch)
    }
}

/// How often each error code was given.
#[derive(Debug)]
pub(crate) struct ErrorCounters([Counter; ErrorCode::ALL.len()]);

impl Default for ErrorCounters {
    fn default() -> ErrorCounters {
        ErrorCounters([const { Counter::new() }; ErrorCode::ALL.len()])
    }
}

impl ErrorCounters {
    /// The code was given, if it is one of an error.
    pub(crate) fn count(&self, code: ErrorCode) {
        if code.is_error() {
            // The codes are dense, and begin at -1.
            self.0[(code.code() + 1) as usize].add(1);
        }
    }

    /// The codes that were given, and how often.
    pub(crate) fn counts(&self) -> Vec<(ErrorCode, u64)> {
        let counts = ErrorCode::ALL.iter().zip(&self.0);
        let counts = counts.map(|(code, counter)| (*code, counter.get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("produce_requests", self.requests_of(ApiKey::Produce)),
            ("produced_batches", self.produced_batches.get()),
            ("produced_bytes", self.produced_bytes.get()),
            ("duplicate_batches", self.duplicate_batches.get()),
            ("fetch_requests", self.requests_of(ApiKey::Fetch)),
            ("fetched_bytes", self.fetched_bytes.get()),
            ("other_requests", self.other_requests()),
            ("malformed_requests", self.malformed_requests.get()),
            ("misrouted_data_requests", self.misrouted_data_requests.get()),
        ];
        for (index, (name, count)) in all.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_print_as_names_and_numbers() {
        let counters = Counters::default();
        counters.misrouted_data_requests.add(2);
        counters.misrouted_data_requests.add(1);
        let line = counters.to_string();
        assert!(line.starts_with("produce_requests=0 "));
        assert!(line.ends_with(" misrouted_data_requests=3"));
    }

    #[test]
    fn requests_are_counted_by_their_api() {
        let counters = Counters::default();
        for (count, api) in (1..).zip(API_TABLE) {
            (0..count).for_each(|_| counters.request(api.key));
        }
        for (count, api) in (1..).zip(API_TABLE) {
            assert_eq!(counters.requests_of(api.key), count, "{}", api.name);
        }
        let all = API_TABLE.len() as u64 * (API_TABLE.len() as u64 + 1) / 2;
        assert_eq!(counters.other_requests(), all - 1 - 2);
    }

    #[test]
    fn every_error_code_has_its_counter() {
        let errors = ErrorCounters::default();
        let mut expected = Vec::new();
        for (count, code) in (1..).zip(ErrorCode::ALL) {
            (0..count).for_each(|_| errors.count(*code));
            if *code != ErrorCode::None {
                expected.push((*code, count));
            }
        }
        assert_eq!(errors.counts(), expected);
    }
}
