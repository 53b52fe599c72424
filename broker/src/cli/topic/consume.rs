//! `millstream topic consume`: the values of records, a line each.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use net::client::{Answer, Client, ClientError};
use ring::buffer::Slice;
use ring::clock::{self, Instant};
use ring::timer::sleep;
use wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use wire::record_batch::{BatchError, batches};
use wire::{ApiKey, Array, ErrorCode, RecordBatch, Request, Response, Uuid, decode_response_header, records};

use super::{Partitions, partitions_of};
use crate::cli::CliError;
use crate::cli::offsets::{Place, offsets};
use crate::cli::output::{Printed, print};
use crate::cli::session::{self, RETRY, failed};

/// What one partition gives at once, in bytes: Kafka's max.partition.fetch.bytes.
const PARTITION_BYTES: i32 = 1 << 20;
/// What one answer holds, in bytes; a single larger batch comes all the same.
const FETCH_BYTES: i32 = 16 << 20;
/// The most that a batch may inflate to, in bytes: ten times what a request can hold.
const INFLATED_BYTES_MAX: usize = 1 << 30;
/// How long a node waits for records when there are none, in milliseconds: Kafka's fetch.max.wait.ms. Shorter when
/// several nodes are asked, because the slowest holds up the others.
const WAIT_MS: i32 = 500;
const WAIT_AMONG_SEVERAL_MS: i32 = 100;
/// How long a cluster that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct ConsumeArguments {
    /// Name of the topic
    topic: String,
    /// Only this partition [default: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where to begin: earliest, latest, or an offset
    #[arg(long, value_name = "OFFSET", default_value = "earliest", value_parser = start)]
    offset: Start,
    /// Leave after so many records
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,
    /// Leave behind the last record that was there at the start
    #[arg(long)]
    exit_at_end: bool,
    /// Print each key too, before the value and this text
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Edge(Place),
    Offset(i64),
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Edge(Place::Earliest)),
        "latest" => Ok(Start::Edge(Place::Latest)),
        number => match number.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Start::Offset(offset)),
            _ => Err("give earliest, latest, or an offset from 0".to_owned()),
        },
    }
}

pub(super) fn run(brokers: Vec<String>, arguments: ConsumeArguments) -> Result<(), CliError> {
    session::run(brokers, move |client| consume(client, arguments))
}

async fn consume(client: Client, arguments: ConsumeArguments) -> Result<(), CliError> {
    let Partitions { topic_id, ids } = partitions_of(&client, &arguments.topic, false).await?;
    let ids = match arguments.partition {
        None => ids,
        Some(partition) if ids.contains(&partition) => vec![partition],
        Some(partition) => {
            return Err(CliError::Refused {
                doing: format!("consume {}-{partition}", arguments.topic),
                code: ErrorCode::UnknownTopicOrPartition,
                message: Some(format!("the topic has {} partitions", ids.len())),
            });
        }
    };
    let mut consumer = Consumer {
        client,
        topic_id,
        positions: BTreeMap::new(),
        left: arguments.max_messages.unwrap_or(u64::MAX),
        give_up_at: clock::now() + PATIENCE,
        arguments,
    };
    consumer.find_positions(ids).await?;
    while consumer.is_wanting() {
        let printed = consumer.round().await?;
        if printed == Printed::NobodyReads {
            break;
        }
    }
    Ok(())
}

struct Consumer {
    client: Client,
    arguments: ConsumeArguments,
    topic_id: Uuid,
    positions: BTreeMap<i32, Position>,
    /// Records that are still to be printed.
    left: u64,
    /// If nothing has worked by then.
    give_up_at: Instant,
}

/// How far a partition was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    next_offset: i64,
    /// Where to leave, with `--exit-at-end`.
    end_offset: Option<i64>,
    /// The partition has more, as far as is known.
    has_more: bool,
}

impl Position {
    fn is_at_end(&self) -> bool {
        self.end_offset.is_some_and(|end| self.next_offset >= end)
    }
}

impl Consumer {
    fn is_wanting(&self) -> bool {
        self.left > 0 && !self.positions.values().all(Position::is_at_end)
    }

    async fn find_positions(&mut self, ids: Vec<i32>) -> Result<(), CliError> {
        for (leader, ids) in self.by_leader(ids).await? {
            let (client, topic) = (&self.client, &self.arguments.topic);
            let starts = match self.arguments.offset {
                Start::Edge(edge) => offsets(client, leader, topic, &ids, edge).await?,
                Start::Offset(offset) => vec![offset; ids.len()],
            };
            let mut ends = vec![None; ids.len()];
            if self.arguments.exit_at_end {
                let latest = offsets(client, leader, topic, &ids, Place::Latest).await?;
                ends = latest.into_iter().map(Some).collect();
            }
            for ((id, next_offset), end_offset) in ids.into_iter().zip(starts).zip(ends) {
                let position = Position {
                    next_offset,
                    end_offset,
                    has_more: true,
                };
                self.positions.insert(id, position);
            }
        }
        Ok(())
    }

    async fn by_leader(&self, ids: Vec<i32>) -> Result<BTreeMap<i32, Vec<i32>>, CliError> {
        let topic = &self.arguments.topic;
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for id in ids {
            let leader = self.client.leader(topic, id).await;
            let leader = leader.map_err(failed(format!("find the leader of {topic}-{id}")))?;
            by_leader.entry(leader).or_default().push(id);
        }
        Ok(by_leader)
    }

    /// Asks every leader once and prints what comes. What may pass is tried again, until patience ends.
    async fn round(&mut self) -> Result<Printed, CliError> {
        let mut trouble = None;
        let mut text = Vec::new();
        for answer in self.ask().await {
            let response = match answer {
                Ok(answer) => fetched(answer).await,
                Err(error) => Err(error),
            };
            match response {
                Ok(response) => {
                    self.give_up_at = clock::now() + PATIENCE;
                    if response.error_code.is_error() {
                        trouble = Some(self.check(response.error_code, -1)?);
                    }
                    for partition in response.topics.into_iter().flat_map(|topic| topic.partitions) {
                        match partition.error_code {
                            ErrorCode::None => self.take(&partition, &mut text)?,
                            code => trouble = Some(self.check(code, partition.partition)?),
                        }
                    }
                }
                Err(error) if error.is_retriable() => trouble = Some(self.failed(error)),
                Err(error) => return Err(self.failed(error)),
            }
        }
        let printed = print(&text)?;
        if let Some(trouble) = trouble {
            if clock::now() >= self.give_up_at {
                return Err(trouble);
            }
            self.client.forget(&self.arguments.topic);
            sleep(RETRY).await;
        }
        Ok(printed)
    }

    fn failed(&self, error: ClientError) -> CliError {
        failed(format!("consume {}", self.arguments.topic))(error)
    }

    /// An error of the topic or of a partition: given back if it may pass.
    fn check(&self, code: ErrorCode, partition: i32) -> Result<CliError, CliError> {
        let topic = &self.arguments.topic;
        let doing = match self.positions.get(&partition) {
            Some(position) => format!("consume {topic}-{partition} at offset {}", position.next_offset),
            None => format!("consume {topic}"),
        };
        let error = CliError::Refused {
            doing,
            code,
            message: None,
        };
        if code.is_retriable() {
            Ok(error)
        } else {
            Err(error)
        }
    }

    /// Sends a request to every leader.
    async fn ask(&self) -> Vec<Result<(i16, Answer), ClientError>> {
        let topic = &self.arguments.topic;
        let mut by_leader: BTreeMap<i32, Vec<FetchPartition>> = BTreeMap::new();
        let mut answers = Vec::new();
        let wanting = self
            .positions
            .iter()
            .filter(|(_, position)| !position.is_at_end());
        let has_more = wanting.clone().any(|(_, position)| position.has_more);
        for (&partition, position) in wanting {
            let asked = FetchPartition {
                partition,
                fetch_offset: position.next_offset,
                partition_max_bytes: PARTITION_BYTES,
                ..FetchPartition::default()
            };
            match self.client.leader(topic, partition).await {
                Ok(leader) => by_leader.entry(leader).or_default().push(asked),
                Err(error) => answers.push(Err(error)),
            }
        }
        let max_wait_ms = match by_leader.len() {
            _ if has_more => 0,
            1 => WAIT_MS,
            _ => WAIT_AMONG_SEVERAL_MS,
        };
        for (leader, partitions) in by_leader {
            let topics = [FetchTopic {
                name: topic,
                topic_id: self.topic_id,
                partitions: Array::from_slice(&partitions),
            }];
            let request = FetchRequest {
                max_wait_ms,
                min_bytes: 1,
                max_bytes: FETCH_BYTES,
                topics: Array::from_slice(&topics),
                ..FetchRequest::default()
            };
            answers.push(send(&self.client, leader, &request).await);
        }
        answers
    }

    /// Renders a partition's records, and moves behind them.
    fn take(
        &mut self,
        partition: &FetchPartitionResponse<Vec<u8>>,
        text: &mut Vec<u8>,
    ) -> Result<(), CliError> {
        let id = partition.partition;
        let Some(position) = self.positions.get_mut(&id) else {
            return Ok(());
        };
        let fetched = &partition.records.0;
        let mut rendering = Rendering {
            position,
            left: &mut self.left,
            separator: self.arguments.key_separator.as_deref(),
            text,
        };
        for bytes in fetched {
            for batch in batches(bytes) {
                let rendered = match batch {
                    // The last batch of an answer may be cut.
                    Err(BatchError::Short { .. }) => break,
                    Err(error) => Err(error.to_string()),
                    Ok(batch) => rendering.batch(&batch),
                };
                rendered.map_err(|why| CliError::Records {
                    topic: self.arguments.topic.clone(),
                    partition: id,
                    offset: rendering.position.next_offset,
                    why,
                })?;
            }
        }
        position.has_more = position.next_offset < partition.high_watermark;
        Ok(())
    }
}

/// Turns a partition's batches into lines.
struct Rendering<'a> {
    position: &'a mut Position,
    left: &'a mut u64,
    separator: Option<&'a str>,
    text: &'a mut Vec<u8>,
}

impl Rendering<'_> {
    fn batch(&mut self, batch: &RecordBatch<'_>) -> Result<(), String> {
        let header = batch.header();
        if header.next_offset() <= self.position.next_offset {
            return Ok(());
        }
        batch.verify_crc().map_err(|error| error.to_string())?;
        if !header.attributes.is_control() {
            let codec = header.attributes.compression();
            let codec = codec.ok_or_else(|| format!("codec {} is unknown", header.attributes.0 & 7))?;
            let opened = codec
                .decompress(batch.records_bytes(), INFLATED_BYTES_MAX)
                .map_err(|error| error.to_string())?;
            for record in records(&opened, header.record_count) {
                let record = record.map_err(|error| error.to_string())?;
                let offset = header.base_offset.wrapping_add(record.offset_delta.into());
                let is_behind = self.position.end_offset.is_some_and(|end| offset >= end);
                if offset < self.position.next_offset || is_behind {
                    continue;
                }
                if *self.left == 0 {
                    return Ok(());
                }
                *self.left -= 1;
                if let Some(separator) = self.separator {
                    self.text.extend_from_slice(record.key.unwrap_or_default());
                    self.text.extend_from_slice(separator.as_bytes());
                }
                self.text.extend_from_slice(record.value.unwrap_or_default());
                self.text.push(b'\n');
            }
        }
        self.position.next_offset = header.next_offset();
        Ok(())
    }
}

async fn send(
    client: &Client,
    leader: i32,
    request: &FetchRequest<'_>,
) -> Result<(i16, Answer), ClientError> {
    let version = client.version(leader, ApiKey::Fetch).await?;
    let connection = client.node(leader).await?;
    let frame = request.encode(
        version,
        connection.next_correlation_id(),
        Some(session::CLIENT_ID),
    );
    Ok((version, connection.send(vec![Slice::from(frame)]).await?))
}

async fn fetched((version, answer): (i16, Answer)) -> Result<FetchResponse<Vec<u8>>, ClientError> {
    let connection = answer.connection();
    let frame = answer.await?;
    let malformed = |error| connection.malformed(error);
    let (_, body) = decode_response_header(&frame, ApiKey::Fetch, version).map_err(malformed)?;
    FetchResponse::decode(body, version).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use wire::{BatchBuilder, Compression, NewRecord};

    use super::*;

    fn batch(base_offset: i64, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::Snappy);
        for value in values {
            builder.push(&NewRecord {
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                ..NewRecord::default()
            });
        }
        let mut bytes = builder.build();
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes
    }

    fn render(bytes: &[u8], position: &mut Position, left: &mut u64, separator: Option<&str>) -> String {
        let mut text = Vec::new();
        let (batch, _) = RecordBatch::parse(bytes).unwrap();
        let mut rendering = Rendering {
            position,
            left,
            separator,
            text: &mut text,
        };
        rendering.batch(&batch).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn position(next_offset: i64, end_offset: Option<i64>) -> Position {
        Position {
            next_offset,
            end_offset,
            has_more: true,
        }
    }

    #[test]
    fn records_are_printed_from_the_position_to_the_end() {
        let bytes = batch(10, &["a", "b", "c", "d"]);
        let cases = [
            (position(10, None), "a\nb\nc\nd\n", 14),
            (position(12, None), "c\nd\n", 14),
            (position(14, None), "", 14),
            (position(20, None), "", 20),
            (position(9, Some(12)), "a\nb\n", 14),
        ];
        for (mut at, expected, next_offset) in cases {
            assert_eq!(render(&bytes, &mut at, &mut 99, None), expected);
            assert_eq!(at.next_offset, next_offset);
        }
        let mut left = 3;
        let mut at = position(0, None);
        assert_eq!(render(&bytes, &mut at, &mut left, Some("=")), "k=a\nk=b\nk=c\n");
        assert_eq!(left, 0);
    }

    #[test]
    fn a_corrupt_batch_is_said_to_be_so() {
        let mut bytes = batch(0, &["a"]);
        *bytes.last_mut().unwrap() ^= 1;
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let mut rendering = Rendering {
            position: &mut position(0, None),
            left: &mut 9,
            separator: None,
            text: &mut Vec::new(),
        };
        assert!(rendering.batch(&batch).unwrap_err().contains("CRC"));
    }
}
