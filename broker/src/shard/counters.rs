//! What a shard has done: plain numbers of one thread.

use std::cell::Cell;
use std::fmt;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// The counters of a shard. They print as one line.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Produce requests begun.
    pub(crate) produce_requests: Counter,
    /// Bytes of the batches appended.
    pub(crate) produced_bytes: Counter,
    /// Batches appended.
    pub(crate) produced_batches: Counter,
    /// Batches that were there already, and were answered with their first offset.
    pub(crate) duplicate_batches: Counter,
    /// Fetch requests begun.
    pub(crate) fetch_requests: Counter,
    /// Bytes of the records returned.
    pub(crate) fetched_bytes: Counter,
    /// All other requests begun.
    pub(crate) other_requests: Counter,
    /// Connections closed for bytes that are not Kafka's protocol.
    pub(crate) malformed_requests: Counter,
    /// Requests for the data of a partition that another shard of this host leads. A client that follows Metadata
    /// never sends one.
    pub(crate) misrouted_data_requests: Counter,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("produce_requests", &self.produce_requests),
            ("produced_batches", &self.produced_batches),
            ("produced_bytes", &self.produced_bytes),
            ("duplicate_batches", &self.duplicate_batches),
            ("fetch_requests", &self.fetch_requests),
            ("fetched_bytes", &self.fetched_bytes),
            ("other_requests", &self.other_requests),
            ("malformed_requests", &self.malformed_requests),
            ("misrouted_data_requests", &self.misrouted_data_requests),
        ];
        for (index, (name, counter)) in all.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}={}", counter.get())?;
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
}
