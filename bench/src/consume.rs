//! Reads a topic: each connection fetches all its partitions again and again, from where the last answer ended.

use std::cell::RefCell;
use std::rc::Rc;

use net::client::{ClientError, Connection, ConnectionOptions};
use ring::clock;
use ring::executor::{self, Class, Task};
use ring::timer::sleep_until;
use wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use wire::record_batch::batches;
use wire::{ApiKey, Array, ErrorCode, Request, Response, Uuid, decode_response_header};

use crate::arguments::AtEnd;
use crate::error::BenchError;
use crate::log_place::offsets_at;
use crate::read_back::{Place, ReadBack};
use crate::recorder::{Failure, Recorder};
use crate::worker::{Link, Start};

/// What an answer may hold beside `max_bytes`: the first batch, which comes whole, and what stands around the records.
const ANSWER_SPARE_BYTES: usize = 2 << 20;

/// What to read, and how.
#[derive(Debug, Clone)]
pub(crate) struct ConsumeLoad {
    pub(crate) topic: String,
    pub(crate) topic_id: Uuid,
    /// Where it is begun, as ListOffsets has it.
    pub(crate) from_timestamp: i64,
    pub(crate) at_end: AtEnd,
    pub(crate) max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_wait_ms: i32,
    pub(crate) check_crcs: bool,
}

/// Connections, and where each partition is read from.
pub(crate) struct Prepared {
    load: ConsumeLoad,
    links: Vec<(Link, Vec<Position>)>,
}

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    partition: i32,
    offset: i64,
}

impl ConsumeLoad {
    pub(crate) fn connection_options(&self) -> ConnectionOptions {
        ConnectionOptions {
            client_id: crate::CLIENT_ID.to_owned(),
            requests_in_flight_max: 1,
            answer_bytes_max: usize::try_from(self.max_bytes).expect("it is in range") + ANSWER_SPARE_BYTES,
            ..ConnectionOptions::default()
        }
    }

    pub(crate) async fn prepare(self, links: Vec<Link>) -> Result<Prepared, BenchError> {
        let mut placed = Vec::with_capacity(links.len());
        for link in links {
            let starts = offsets_at(self.from_timestamp, &link.route, &link.connection, &self.topic).await?;
            let positions = (starts.into_iter()).map(|(partition, offset)| Position { partition, offset });
            placed.push((link, positions.collect()));
        }
        Ok(Prepared {
            load: self,
            links: placed,
        })
    }
}

impl Prepared {
    /// Starts a reader for each connection.
    pub(crate) fn begin(self, start: Start, recorder: &Rc<RefCell<Recorder>>) -> Vec<Task<()>> {
        let readings = self.readings(start, recorder).into_iter();
        let tasks = readings.map(|reading| executor::spawn(Class::Latency, reading.read_until_the_end()));
        tasks.collect()
    }

    /// A reader for each connection.
    pub(crate) fn readings(self, start: Start, recorder: &Rc<RefCell<Recorder>>) -> Vec<Reading> {
        let readings = self.links.into_iter().map(|(link, positions)| Reading {
            load: self.load.clone(),
            broker: link.route.broker(),
            api_version: link.route.api_version,
            connection: link.connection,
            positions,
            start,
            recorder: recorder.clone(),
        });
        readings.collect()
    }
}

/// A connection that reads.
pub(crate) struct Reading {
    load: ConsumeLoad,
    broker: String,
    api_version: i16,
    connection: Connection,
    positions: Vec<Position>,
    start: Start,
    recorder: Rc<RefCell<Recorder>>,
}

/// What an answer held.
#[derive(Debug, Default)]
struct Got {
    records: u64,
    bytes: u64,
    /// Where its batches are.
    batches: Vec<Place>,
    failures: Vec<(i32, String)>,
}

impl Reading {
    async fn read_until_the_end(mut self) {
        // What is answered before is not measured.
        sleep_until(self.start.at).await;
        loop {
            let asked = clock::now();
            if asked >= self.start.window.to {
                return;
            }
            let Some(got) = self.next().await else { return };
            if got.records > 0 {
                let mut recorder = self.recorder.borrow_mut();
                recorder.answered(asked, clock::now(), got.records, got.bytes);
            }
        }
    }

    /// Reads what others send, until all of it is read.
    pub(crate) async fn read_back(mut self, read_back: &ReadBack) {
        while !read_back.is_over(clock::now()) {
            let Some(got) = self.next().await else { return };
            let now = clock::now();
            for place in got.batches {
                read_back.read(place, now);
            }
        }
    }

    /// The next answer; none if nothing more can be read, or shall be.
    async fn next(&mut self) -> Option<Got> {
        if self.positions.is_empty() {
            return None;
        }
        // Not always the same partition first: a broker fills an answer in the order of the request.
        self.positions.rotate_left(1);
        let fetched = self.fetch().await;
        let mut recorder = self.recorder.borrow_mut();
        match fetched {
            Ok(got) => {
                for (partition, what) in &got.failures {
                    recorder.failed(self.failure(*partition, what.clone()));
                }
                Some(got)
            }
            Err(error) => {
                recorder.failed(self.failure(-1, error));
                None
            }
        }
    }

    async fn fetch(&mut self) -> Result<Got, String> {
        let request = self.request(&self.positions);
        let said = |error: ClientError| error.to_string();
        let answer = self.connection.send(vec![request.into()]).await.map_err(said)?;
        let frame = answer.await.map_err(said)?;
        let read = || {
            let (_, body) = decode_response_header(&frame, ApiKey::Fetch, self.api_version)?;
            FetchResponse::<&[u8]>::decode(body, self.api_version)
        };
        let response = read().map_err(|error| format!("an answer that cannot be read: {error}"))?;
        if response.error_code != ErrorCode::None {
            return Err(response.error_code.to_string());
        }
        Ok(take(&self.load, &response, &mut self.positions))
    }

    fn request(&self, positions: &[Position]) -> Vec<u8> {
        let partitions = positions.iter().map(|position| FetchPartition {
            partition: position.partition,
            fetch_offset: position.offset,
            partition_max_bytes: self.load.partition_max_bytes,
            ..Default::default()
        });
        let partitions: Vec<_> = partitions.collect();
        let topics = [FetchTopic {
            name: &self.load.topic,
            topic_id: self.load.topic_id,
            partitions: Array::from_slice(&partitions),
        }];
        let request = FetchRequest {
            max_wait_ms: self.load.max_wait_ms,
            min_bytes: self.load.min_bytes,
            max_bytes: self.load.max_bytes,
            topics: Array::from_slice(&topics),
            ..Default::default()
        };
        request.encode(self.api_version, 0, Some(crate::CLIENT_ID))
    }

    fn failure(&self, partition: i32, what: String) -> Failure {
        Failure {
            broker: self.broker.clone(),
            partition,
            what,
        }
    }
}

/// Counts what an answer holds, and moves the positions behind it. A partition that failed, or was read to its end and
/// shall not be read further, is no longer among them.
fn take(load: &ConsumeLoad, response: &FetchResponse<&[u8]>, positions: &mut Vec<Position>) -> Got {
    let mut got = Got::default();
    for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
        let Some(place) = (positions.iter()).position(|position| position.partition == answer.partition)
        else {
            continue;
        };
        if answer.error_code != ErrorCode::None {
            got.failures
                .push((answer.partition, answer.error_code.to_string()));
            positions.remove(place);
            continue;
        }
        let position = &mut positions[place];
        for batch in answer.records.0.iter().flat_map(|records| batches(records)) {
            // The last one may be cut short: it comes again, from its start.
            let Ok(batch) = batch else { break };
            if load.check_crcs
                && let Err(error) = batch.verify_crc()
            {
                got.failures.push((answer.partition, error.to_string()));
            }
            let header = batch.header();
            if header.next_offset() <= position.offset {
                continue;
            }
            // Offsets have no gaps where nothing is compacted away: what is before our position was read.
            let seen = position.offset.saturating_sub(header.base_offset).max(0);
            got.records += u64::try_from(i64::from(header.record_count) - seen).unwrap_or(0);
            got.bytes += batch.bytes().len() as u64;
            got.batches.push((answer.partition, header.base_offset));
            position.offset = header.next_offset();
        }
        if position.offset >= answer.high_watermark {
            match load.at_end {
                AtEnd::Stop => drop(positions.remove(place)),
                AtEnd::Restart => position.offset = answer.log_start_offset.max(0),
                AtEnd::Wait => {}
            }
        }
    }
    got
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::messages::fetch::{FetchPartitionResponse, FetchTopicResponse};
    use wire::messages::list_offsets::EARLIEST_TIMESTAMP;
    use wire::record_batch::assign_offset;
    use wire::{BatchBuilder, Compression, NewRecord};

    fn load(at_end: AtEnd) -> ConsumeLoad {
        ConsumeLoad {
            topic: "orders".to_owned(),
            topic_id: Uuid::default(),
            from_timestamp: EARLIEST_TIMESTAMP,
            at_end,
            max_bytes: 1 << 20,
            partition_max_bytes: 1 << 20,
            min_bytes: 1,
            max_wait_ms: 100,
            check_crcs: true,
        }
    }

    fn batch(base_offset: i64, records: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.push(&NewRecord {
                value: Some(b"value"),
                ..Default::default()
            });
        }
        let mut bytes = builder.build();
        assign_offset(bytes.first_chunk_mut().unwrap(), base_offset, 0);
        bytes
    }

    fn answer(records: &[u8], high_watermark: i64) -> FetchResponse<&[u8]> {
        let partition = FetchPartitionResponse {
            partition: 3,
            high_watermark,
            log_start_offset: 2,
            records: vec![records].into(),
            ..Default::default()
        };
        FetchResponse {
            topics: vec![FetchTopicResponse {
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn at(offset: i64) -> Vec<Position> {
        vec![Position { partition: 3, offset }]
    }

    #[test]
    fn a_batch_that_is_cut_short_is_fetched_again() {
        let mut bytes = [batch(10, 5), batch(15, 5)].concat();
        bytes.pop();
        let mut positions = at(10);
        let got = take(&load(AtEnd::Stop), &answer(&bytes, 20), &mut positions);
        assert_eq!((got.records, positions), (5, at(15)));
    }

    #[test]
    fn records_before_the_position_are_not_counted_twice() {
        let bytes = [batch(10, 5), batch(15, 5)].concat();
        let mut positions = at(17);
        let got = take(&load(AtEnd::Wait), &answer(&bytes, 20), &mut positions);
        assert_eq!((got.records, positions), (3, at(20)));
    }

    #[test]
    fn the_end_is_what_was_asked_for() {
        let bytes = batch(10, 10);
        for (at_end, left) in [
            (AtEnd::Stop, vec![]),
            (AtEnd::Wait, at(20)),
            (AtEnd::Restart, at(2)),
        ] {
            let mut positions = at(10);
            take(&load(at_end), &answer(&bytes, 20), &mut positions);
            assert_eq!(positions, left);
        }
    }

    #[test]
    fn a_rotten_batch_and_a_refused_partition_are_failures() {
        let mut bytes = batch(10, 1);
        *bytes.last_mut().unwrap() ^= 1;
        let got = take(&load(AtEnd::Wait), &answer(&bytes, 20), &mut at(10));
        assert_eq!(got.failures.len(), 1);
        let mut refused = answer(&[], 20);
        refused.topics[0].partitions[0].error_code = ErrorCode::NotLeaderOrFollower;
        let mut positions = at(10);
        let got = take(&load(AtEnd::Wait), &refused, &mut positions);
        assert_eq!(got.failures, [(3, "NOT_LEADER_OR_FOLLOWER".to_owned())]);
        assert_eq!(positions, []);
    }
}
