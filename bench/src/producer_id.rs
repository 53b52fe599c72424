//! Idempotent producers: their ids, and the sequence of what each sends to a partition.
//!
//! Promises that sequences have no gap: a partition that refused a batch gets no more, as there is none that could follow.

use std::cell::RefCell;
use std::time::Duration;

use net::client::Client;
use ring::timer::sleep;
use wire::ErrorCode;
use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::primitive::sequence;

use crate::error::BenchError;

/// How often a cluster is asked that has no id yet: one that has just started.
const ATTEMPTS: u32 = 100;
/// How long to wait between two of these.
const ATTEMPT: Duration = Duration::from_millis(100);

/// What a cluster calls a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerId {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// What the header of a batch says of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) producer: ProducerId,
    pub(crate) base_sequence: i32,
}

/// An id for each of so many clients.
pub(crate) async fn producer_ids(client: &Client, clients: u32) -> Result<Vec<ProducerId>, BenchError> {
    let mut ids = Vec::new();
    for _ in 0..clients {
        ids.push(producer_id(client).await?);
    }
    Ok(ids)
}

async fn producer_id(client: &Client) -> Result<ProducerId, BenchError> {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let response: InitProducerIdResponse = client.call_controller(&request).await?;
        match response.error_code {
            ErrorCode::None => {
                return Ok(ProducerId {
                    id: response.producer_id,
                    epoch: response.producer_epoch,
                });
            }
            code if attempts >= ATTEMPTS || !code.is_retriable() => {
                return Err(BenchError::ProducerId { code });
            }
            _ => sleep(ATTEMPT).await,
        }
    }
}

/// The sequences of a producer's batches for some partitions, which are named by their places.
pub(crate) struct Sequences {
    producer: ProducerId,
    /// By place: that of the next batch; none if one was refused.
    next: RefCell<Vec<Option<i32>>>,
}

impl Sequences {
    pub(crate) fn new(producer: ProducerId, places: usize) -> Sequences {
        Sequences {
            producer,
            next: RefCell::new(vec![Some(0); places]),
        }
    }

    /// For a batch of so many records, which has to be sent before another is asked for; nothing after one was refused.
    pub(crate) fn take(&self, place: usize, records: u64) -> Option<Stamp> {
        let mut next = self.next.borrow_mut();
        let base_sequence = next[place]?;
        let records = i32::try_from(records).expect("a batch's record count is an i32");
        next[place] = Some(sequence::add(base_sequence, records));
        Some(Stamp {
            producer: self.producer,
            base_sequence,
        })
    }

    /// A batch was refused.
    pub(crate) fn refused(&self, place: usize) {
        self.next.borrow_mut()[place] = None;
    }

    /// Whether no place is left.
    pub(crate) fn are_over(&self) -> bool {
        self.next.borrow().iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: ProducerId = ProducerId { id: 7, epoch: 3 };

    #[test]
    fn each_partition_has_a_sequence_of_its_own_until_it_refuses() {
        let sequences = Sequences::new(PRODUCER, 2);
        let take = |place, records| sequences.take(place, records).map(|stamp| stamp.base_sequence);
        assert_eq!(
            [take(0, 15), take(0, 1), take(0, 3)],
            [Some(0), Some(15), Some(16)]
        );
        assert_eq!([take(1, 2), take(1, 2)], [Some(0), Some(2)]);
        sequences.refused(0);
        assert_eq!([take(0, 1), take(1, 1)], [None, Some(4)]);
        assert!(!sequences.are_over());
        sequences.refused(1);
        assert!(sequences.are_over());
    }

    #[test]
    fn a_sequence_begins_again_behind_the_greatest() {
        let sequences = Sequences::new(PRODUCER, 1);
        sequences.next.borrow_mut()[0] = Some(i32::MAX - 1);
        for expected in [i32::MAX - 1, 1] {
            assert_eq!(sequences.take(0, 3).unwrap().base_sequence, expected);
        }
    }
}
