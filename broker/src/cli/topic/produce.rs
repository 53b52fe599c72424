//! `millstream topic produce`: the lines of standard input, a record each.
//!
//! An ordinary thread reads lines into chunks, one ahead of the chunk that is being sent. A chunk is a batch for each
//! partition that it has records for. The producer is idempotent: a batch that is sent again, because its
//! acknowledgement was lost, is stored once.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use net::client::{Answer, Client, ClientError, partition_of};
use ring::buffer::Slice;
use ring::channel::{self, Awaited, Receiver, Sender};
use ring::clock;
use ring::timer::sleep;
use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::{
    ApiKey, Array, BatchBuilder, Compression, ErrorCode, NewRecord, Request, Response, decode_response_header,
};

use super::partitions_of;
use crate::cli::CliError;
use crate::cli::session::{self, RETRY, failed};

/// Bytes of lines that make a chunk full; with what goes around them, a batch is still smaller than the broker's default
/// limit (message.max.bytes, 1 MiB).
const CHUNK_BYTES: usize = 512 << 10;
/// The longest line, in bytes: what fits a request.
const LINE_BYTES_MAX: usize = 99 << 20;
/// What is read from standard input at once, in bytes: more than a pipe holds.
const READ_BYTES: usize = 256 << 10;
/// Chunks that are read and not taken to be sent.
const CHUNKS_AHEAD: usize = 1;
/// How long a broker may take to have a batch on all replicas, in milliseconds: Kafka's request.timeout.ms.
const ACKNOWLEDGE_MS: i32 = 30_000;
/// How long a batch is sent again and again: Kafka's delivery.timeout.ms.
const DELIVERY: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct ProduceArguments {
    /// Name of the topic
    topic: String,
    /// Partition of all records [default: by key as Kafka's clients choose it; without keys, each chunk the next]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// What comes before this text in a line is the record's key
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Codec of the batches
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = compression())]
    compression: Compression,
}

fn compression() -> impl TypedValueParser<Value = Compression> {
    PossibleValuesParser::new(Compression::ALL.map(Compression::name))
        .map(|name| Compression::from_name(&name).expect("it is one of the names"))
}

pub(super) fn run(brokers: Vec<String>, arguments: ProduceArguments) -> Result<(), CliError> {
    let (sender, chunks) = channel::bounded(CHUNKS_AHEAD + 1);
    #[expect(
        clippy::disallowed_methods,
        reason = "standard input is read by an ordinary, blocking thread"
    )]
    std::thread::spawn(move || read(&mut BufReader::with_capacity(READ_BYTES, io::stdin()), &sender));
    // The reader may be inside a read for ever; it ends with the process.
    let records = session::run(brokers, move |client| produce(client, arguments, chunks))?;
    eprintln!("{records} records acknowledged");
    Ok(())
}

/// Lines that are sent together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Chunk {
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
    }
}

/// What the reader hands over, and how it hears that it was taken.
type Handed = (io::Result<Chunk>, channel::Answer<()>);

/// Reads chunks until the end of the input, an error, or until nobody takes them.
fn read(input: &mut BufReader<impl Read>, sender: &Sender<Handed>) {
    let mut ahead: VecDeque<Awaited<()>> = VecDeque::new();
    loop {
        let chunk = match next_chunk(input) {
            Ok(chunk) if chunk.ends.is_empty() => return,
            chunk => chunk,
        };
        let is_last = chunk.is_err();
        if ahead.len() > CHUNKS_AHEAD
            && let Some(oldest) = ahead.pop_front()
            && oldest.wait_blocking().is_err()
        {
            return;
        }
        let (answer, taken) = channel::oneshot();
        ahead.push_back(taken);
        if sender.try_send((chunk, answer)).is_err() || is_last {
            return;
        }
    }
}

/// Lines until the chunk is full, or the next line could have to be waited for: so that what a person types goes out
/// line by line. Empty at the end of the input.
fn next_chunk(input: &mut BufReader<impl Read>) -> io::Result<Chunk> {
    let mut chunk = Chunk::default();
    loop {
        let start = chunk.bytes.len();
        let most = LINE_BYTES_MAX as u64 + 1;
        if input.by_ref().take(most).read_until(b'\n', &mut chunk.bytes)? == 0 {
            return Ok(chunk);
        }
        if chunk.bytes.last() == Some(&b'\n') {
            chunk.bytes.pop();
        }
        if chunk.bytes.len() - start > LINE_BYTES_MAX {
            let error = format!("a line is longer than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::other(error));
        }
        chunk.ends.push(chunk.bytes.len());
        if chunk.bytes.len() >= CHUNK_BYTES || !input.buffer().contains(&b'\n') {
            return Ok(chunk);
        }
    }
}

async fn produce(
    client: Client,
    arguments: ProduceArguments,
    mut chunks: Receiver<Handed>,
) -> Result<u64, CliError> {
    let topic = &arguments.topic;
    let partitions = partitions_of(&client, topic, true).await?;
    if let Some(partition) = arguments.partition
        && !partitions.ids.contains(&partition)
    {
        return Err(CliError::Refused {
            doing: format!("produce to {topic}-{partition}"),
            code: ErrorCode::UnknownTopicOrPartition,
            message: Some(format!("the topic has {} partitions", partitions.ids.len())),
        });
    }
    let (producer_id, producer_epoch) = producer_id(&client).await?;
    let mut batcher = Batcher {
        arguments: &arguments,
        partitions: &partitions.ids,
        chunks: 0,
        producer_id,
        producer_epoch,
        sequences: BTreeMap::new(),
    };
    let mut records = 0;
    while let Some((chunk, taken)) = chunks.receive().await {
        // The reader may have ended by itself.
        let _ = taken.give(());
        let chunk = chunk.map_err(|error| CliError::Stream {
            doing: "read standard input",
            error,
        })?;
        let batches = batcher.batches(&chunk, clock::wall_clock_ms());
        deliver(&client, topic, batches).await?;
        records += chunk.ends.len() as u64;
    }
    Ok(records)
}

async fn producer_id(client: &Client) -> Result<(i64, i16), CliError> {
    let doing = "ask for a producer id";
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    let deadline = clock::now() + DELIVERY;
    loop {
        let response: Result<InitProducerIdResponse, _> = client.call_controller(&request).await;
        let error = match response {
            Ok(response) if response.error_code == ErrorCode::None => {
                return Ok((response.producer_id, response.producer_epoch));
            }
            Ok(response) => refused(doing, response.error_code, None),
            Err(error) => Failure::new(error.is_retriable(), failed(doing)(error)),
        };
        if !error.is_retriable || clock::now() >= deadline {
            return Err(error.error);
        }
        sleep(RETRY).await;
    }
}

/// Makes batches of chunks.
struct Batcher<'a> {
    arguments: &'a ProduceArguments,
    partitions: &'a [i32],
    /// Made into batches so far.
    chunks: usize,
    producer_id: i64,
    producer_epoch: i16,
    /// The next sequence number of each partition.
    sequences: BTreeMap<i32, i32>,
}

impl Batcher<'_> {
    fn batches(&mut self, chunk: &Chunk, now_ms: i64) -> BTreeMap<i32, Vec<u8>> {
        let separator = self.arguments.key_separator.as_deref().map(str::as_bytes);
        let keyless = self.partitions[self.chunks % self.partitions.len()];
        self.chunks += 1;
        let mut builders: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
        for line in chunk.lines() {
            let (key, value) = split(line, separator);
            let partition = match (self.arguments.partition, key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => self.partitions[partition_of(key, self.partitions.len())],
                (None, None) => keyless,
            };
            let builder = builders.entry(partition).or_insert_with(|| {
                let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
                BatchBuilder::new(self.arguments.compression).producer(
                    self.producer_id,
                    self.producer_epoch,
                    sequence,
                )
            });
            builder.push(&NewRecord {
                timestamp_ms: now_ms,
                key,
                value: Some(value),
                ..NewRecord::default()
            });
        }
        for (&partition, builder) in &builders {
            // After the greatest sequence number comes 0.
            let next = self.sequences.entry(partition).or_insert(0);
            *next = next.wrapping_add(builder.record_count()) & i32::MAX;
        }
        let batches = builders.into_iter();
        batches
            .map(|(partition, builder)| (partition, builder.build()))
            .collect()
    }
}

/// Key and value of a line.
fn split<'a>(line: &'a [u8], separator: Option<&[u8]>) -> (Option<&'a [u8]>, &'a [u8]) {
    let found = separator
        .filter(|separator| !separator.is_empty())
        .and_then(|separator| {
            let at = line
                .windows(separator.len())
                .position(|window| window == separator)?;
            Some((at, at + separator.len()))
        });
    found.map_or((None, line), |(end, start)| (Some(&line[..end]), &line[start..]))
}

/// Sends batches, by partition, until all are acknowledged.
async fn deliver(client: &Client, topic: &str, mut batches: BTreeMap<i32, Vec<u8>>) -> Result<(), CliError> {
    let deadline = clock::now() + DELIVERY;
    loop {
        let failure = send(client, topic, &mut batches).await;
        let Some(failure) = failure else { return Ok(()) };
        if !failure.is_retriable || clock::now() >= deadline {
            return Err(failure.error);
        }
        client.forget(topic);
        sleep(RETRY).await;
    }
}

/// Sends each batch to its leader, all at once, and takes those away that are acknowledged. Gives a failure if some are
/// not, one that is final before one that is not.
async fn send(client: &Client, topic: &str, batches: &mut BTreeMap<i32, Vec<u8>>) -> Option<Failure> {
    let mut failures = Vec::new();
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for &partition in batches.keys() {
        match client.leader(topic, partition).await {
            Ok(leader) => by_leader.entry(leader).or_default().push(partition),
            Err(error) => failures.push(Failure::of(topic, error)),
        }
    }
    let mut answers = Vec::new();
    for (leader, partitions) in by_leader {
        match request(client, topic, leader, &partitions, batches).await {
            Ok(answer) => answers.push(answer),
            Err(error) => failures.push(Failure::of(topic, error)),
        }
    }
    for (version, answer) in answers {
        match acknowledged(version, answer).await {
            Ok(response) => {
                let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
                for partition in partitions {
                    match partition.error_code {
                        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                            batches.remove(&partition.partition);
                        }
                        code => failures.push(refused(
                            &format!("produce to {topic}-{}", partition.partition),
                            code,
                            partition.error_message,
                        )),
                    }
                }
            }
            Err(error) => failures.push(Failure::of(topic, error)),
        }
    }
    if batches.is_empty() {
        return None;
    }
    failures.sort_by_key(|failure| failure.is_retriable);
    let nothing = || {
        refused(
            &format!("produce to {topic}"),
            ErrorCode::UnknownServerError,
            None,
        )
    };
    Some(failures.into_iter().next().unwrap_or_else(nothing))
}

async fn request(
    client: &Client,
    topic: &str,
    leader: i32,
    partitions: &[i32],
    batches: &BTreeMap<i32, Vec<u8>>,
) -> Result<(i16, Answer), ClientError> {
    let version = client.version(leader, ApiKey::Produce).await?;
    let connection = client.node(leader).await?;
    let partitions = partitions.iter().map(|partition| ProducePartition {
        partition: *partition,
        records: batches.get(partition).map(Vec::as_slice),
    });
    let partitions: Vec<_> = partitions.collect();
    let topics = [ProduceTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: ACKNOWLEDGE_MS,
        topics: Array::from_slice(&topics),
        ..ProduceRequest::default()
    };
    let frame = request.encode(
        version,
        connection.next_correlation_id(),
        Some(session::CLIENT_ID),
    );
    Ok((version, connection.send(vec![Slice::from(frame)]).await?))
}

async fn acknowledged(version: i16, answer: Answer) -> Result<ProduceResponse, ClientError> {
    let connection = answer.connection();
    let frame = answer.await?;
    let malformed = |error| connection.malformed(error);
    let (_, body) = decode_response_header(&frame, ApiKey::Produce, version).map_err(malformed)?;
    ProduceResponse::decode(body, version).map_err(malformed)
}

/// Why something was not done, and whether it may be tried again.
struct Failure {
    is_retriable: bool,
    error: CliError,
}

impl Failure {
    fn new(is_retriable: bool, error: CliError) -> Failure {
        Failure { is_retriable, error }
    }

    fn of(topic: &str, error: ClientError) -> Failure {
        let is_retriable = error.is_retriable();
        Failure::new(is_retriable, failed(format!("produce to {topic}"))(error))
    }
}

fn refused(doing: &str, code: ErrorCode, message: Option<String>) -> Failure {
    let error = CliError::Refused {
        doing: doing.to_owned(),
        code,
        message,
    };
    Failure::new(code.is_retriable(), error)
}

#[cfg(test)]
mod tests {
    use wire::{RecordBatch, records};

    use super::*;

    fn chunks(input: &[u8], buffer_bytes: usize) -> Vec<Chunk> {
        let mut input = BufReader::with_capacity(buffer_bytes, input);
        let mut chunks = Vec::new();
        loop {
            let chunk = next_chunk(&mut input).unwrap();
            if chunk.ends.is_empty() {
                return chunks;
            }
            chunks.push(chunk);
        }
    }

    #[test]
    fn every_line_is_a_record_however_it_is_buffered() {
        let input = b"one\n\nthree is longer\nfour\r\nlast";
        for buffer_bytes in 1..40 {
            let chunks = chunks(input, buffer_bytes);
            let lines: Vec<&[u8]> = chunks.iter().flat_map(Chunk::lines).collect();
            assert_eq!(lines, [&b"one"[..], b"", b"three is longer", b"four\r", b"last"]);
        }
        assert_eq!(chunks(b"", 10), []);
        assert_eq!(chunks(b"a\nb\nc\n", 100).len(), 1);
    }

    #[test]
    fn a_chunk_ends_when_it_is_full() {
        let line = [vec![7; 99_999], b"\n".to_vec()].concat();
        let chunks = chunks(&line.repeat(20), 1 << 24);
        assert_eq!(chunks.len(), 4);
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.bytes.len() < CHUNK_BYTES + 100_000)
        );
        assert_eq!(chunks.iter().map(|chunk| chunk.ends.len()).sum::<usize>(), 20);
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        for (line, separator, key, value) in [
            ("k:v:w", Some(":"), Some("k"), "v:w"),
            ("k::v", Some("::"), Some("k"), "v"),
            (":v", Some(":"), Some(""), "v"),
            ("v", Some(":"), None, "v"),
            ("k:v", None, None, "k:v"),
            ("k:v", Some(""), None, "k:v"),
            ("", Some(":"), None, ""),
        ] {
            let split = split(line.as_bytes(), separator.map(str::as_bytes));
            assert_eq!(split, (key.map(str::as_bytes), value.as_bytes()), "{line}");
        }
    }

    #[test]
    fn sequences_go_on_from_batch_to_batch() {
        let arguments = ProduceArguments {
            topic: "t".to_owned(),
            partition: None,
            key_separator: Some(":".to_owned()),
            compression: Compression::Lz4,
        };
        let mut batcher = Batcher {
            arguments: &arguments,
            partitions: &[0, 1, 2],
            chunks: 0,
            producer_id: 9,
            producer_epoch: 1,
            sequences: BTreeMap::from([(0, i32::MAX)]),
        };
        let chunk = &chunks(b"a\nb\n", 100)[0];
        let mut seen = Vec::new();
        for _ in 0..4 {
            for (partition, bytes) in batcher.batches(chunk, 5) {
                let (batch, rest) = RecordBatch::parse(&bytes).unwrap();
                assert!(rest.is_empty() && batch.verify_crc().is_ok());
                let header = batch.header();
                assert_eq!(
                    (header.producer_id, header.producer_epoch, header.record_count),
                    (9, 1, 2)
                );
                let opened = Compression::Lz4.decompress(batch.records_bytes(), 100).unwrap();
                let values: Vec<_> = records(&opened, 2).map(|record| record.unwrap().value).collect();
                assert_eq!(values, [Some(&b"a"[..]), Some(b"b")]);
                seen.push((partition, header.base_sequence));
            }
        }
        assert_eq!(seen, [(0, i32::MAX), (1, 0), (2, 0), (0, 1)]);
        let keyed = &chunks(b"a:1\nb:2\na:3\n", 100)[0];
        let batches = batcher.batches(keyed, 5);
        let partition = [0, 1, 2][partition_of(b"a", 3)];
        let (batch, _) = RecordBatch::parse(&batches[&partition]).unwrap();
        assert!(batch.header().record_count >= 2);
    }
}
