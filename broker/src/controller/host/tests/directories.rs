//! A host with several log directories: where partitions go, and what one that fails, or is missing, takes with it.

use ring::simulator::{DiskOperation, Injection};
use wire::BatchBuilder;
use wire::Compression;
use wire::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use wire::messages::metadata::MetadataRequestTopic;
use wire::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use wire::record::NewRecord;

use super::*;

const TWO: [&str; 2] = ["/data", "/more"];
/// Of the topic `a`.
const COUNT: i32 = 8;
const EIO: i32 = 5;

/// What a client sees of a topic.
#[derive(Debug, Clone, Default)]
struct View {
    /// Each partition's error in Metadata.
    errors: Vec<ErrorCode>,
    /// What Produce says of each, at the node that led it when all was well.
    produced: Vec<ErrorCode>,
    /// Where each ends; -1, if that is not told.
    ends: Vec<i64>,
    /// The log directory of each, as DescribeLogDirs names it.
    directories: Vec<Option<String>>,
    /// The directories that every node says have failed.
    failed: BTreeSet<String>,
}

impl View {
    /// The partitions in a directory.
    fn within(&self, directory: &str) -> BTreeSet<usize> {
        let within = |at: &usize| self.directories[*at].as_deref() == Some(directory);
        (0..self.directories.len()).filter(within).collect()
    }
}

/// The node of each partition, with nobody's help: they go round the shards. With one shard it is that.
fn leader(partition: i32, shards: i32) -> i32 {
    1_000 + partition % shards
}

async fn create_with(client: &Client, name: &str) -> ErrorCode {
    let topics = [CreatableTopic {
        name,
        num_partitions: COUNT,
        replication_factor: -1,
        ..CreatableTopic::default()
    }];
    let request = CreateTopicsRequest {
        topics: Array::from_slice(&topics),
        timeout_ms: 30_000,
        ..CreateTopicsRequest::default()
    };
    let created: CreateTopicsResponse = call(client, 1_000, &request).await.expect("it serves");
    created.topics[0].error_code
}

async fn produce(client: &Client, node_id: i32, topic: &str, partition: i32) -> ErrorCode {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(&NewRecord {
        value: Some(b"value"),
        ..NewRecord::default()
    });
    let batch = batch.build();
    let partitions = [ProducePartition {
        partition,
        records: Some(&batch),
    }];
    let topics = [ProduceTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topics: Array::from_slice(&topics),
        ..ProduceRequest::default()
    };
    let produced: ProduceResponse = call(client, node_id, &request).await.expect("it serves");
    produced.topics[0].partitions[0].error_code
}

async fn end(client: &Client, node_id: i32, topic: &str, partition: i32) -> i64 {
    let partitions = [ListOffsetsPartition {
        partition,
        timestamp: LATEST_TIMESTAMP,
        ..ListOffsetsPartition::default()
    }];
    let topics = [ListOffsetsTopic {
        name: topic,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ListOffsetsRequest {
        topics: Array::from_slice(&topics),
        ..ListOffsetsRequest::default()
    };
    let offsets: ListOffsetsResponse = call(client, node_id, &request).await.expect("it serves");
    let partition = &offsets.topics[0].partitions[0];
    match partition.error_code {
        ErrorCode::None => partition.offset,
        error => {
            assert_eq!(error, ErrorCode::KafkaStorageError);
            -1
        }
    }
}

/// Produces a record to each partition of a topic, and looks at it.
async fn look(client: &Client, topic: &str, shards: i32) -> View {
    let mut view = View {
        directories: vec![None; COUNT as usize],
        ..View::default()
    };
    for partition in 0..COUNT {
        let node_id = leader(partition, shards);
        view.produced
            .push(produce(client, node_id, topic, partition).await);
        view.ends.push(end(client, node_id, topic, partition).await);
    }
    let names = [MetadataRequestTopic {
        name: Some(topic),
        ..MetadataRequestTopic::default()
    }];
    let request = MetadataRequest {
        topics: Some(Array::from_slice(&names)),
        ..MetadataRequest::default()
    };
    let metadata: MetadataResponse = call(client, 1_000 + shards - 1, &request)
        .await
        .expect("it serves");
    for (partition, told) in (0..).zip(&metadata.topics[0].partitions) {
        view.errors.push(told.error_code);
        let offline = vec![leader(partition, shards)];
        match told.error_code {
            ErrorCode::None => assert_eq!((told.leader_id, &told.offline_replicas), (offline[0], &vec![])),
            error => {
                assert_eq!(error, ErrorCode::LeaderNotAvailable);
                assert_eq!((told.leader_id, &told.offline_replicas), (-1, &offline));
            }
        }
    }
    let mut failed = Vec::new();
    for node_id in 1_000..1_000 + shards {
        let all = DescribeLogDirsRequest::default();
        let described: DescribeLogDirsResponse = call(client, node_id, &all).await.expect("it serves");
        let offline = described
            .results
            .iter()
            .filter(|one| one.error_code == ErrorCode::KafkaStorageError);
        failed.push(offline.map(|one| one.log_dir.clone()).collect());
        for directory in &described.results {
            let here = directory.topics.iter().filter(|one| one.name == topic);
            for partition in here.flat_map(|topic| &topic.partitions) {
                let place = &mut view.directories[partition.partition_index as usize];
                assert_eq!(
                    place.replace(directory.log_dir.clone()),
                    None,
                    "in two directories"
                );
            }
        }
    }
    assert!(failed.iter().all(|one| *one == failed[0]), "{failed:?}");
    view.failed = failed.swap_remove(0);
    view
}

/// What a client sees of the topic `a`, which it creates if that is not there, and of what else it does.
fn look_at<T: Send + 'static>(
    simulator: &mut Simulator,
    topic: &'static str,
    shards: i32,
    and: impl AsyncFnOnce(&Client) -> T + Send + 'static,
) -> (View, T) {
    let looked = simulator.run(CLIENT, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        let client = connect().await.expect("it serves");
        let code = create_with(&client, topic).await;
        assert!(
            [ErrorCode::None, ErrorCode::TopicAlreadyExists].contains(&code),
            "{code:?}"
        );
        let view = look(&client, topic, shards).await;
        let more = and(&client).await;
        (view, more)
    });
    looked.expect("it ends")
}

fn view(simulator: &mut Simulator, topic: &'static str) -> View {
    look_at(simulator, topic, 2, async |_| ()).0
}

/// Half of the partitions of each shard are in each directory.
fn assert_spread(view: &View) {
    for directory in TWO {
        let within = view.within(directory);
        for shard in 0..2 {
            let of_shard = within.iter().filter(|partition| *partition % 2 == shard);
            assert_eq!(of_shard.count(), COUNT as usize / 4, "{view:?}");
        }
    }
}

/// All is well with the partitions in one directory, and nothing can be done with those of the other.
fn assert_half(view: &View, offline: &BTreeSet<usize>) {
    for partition in 0..COUNT as usize {
        let is_offline = offline.contains(&partition);
        let (error, produced) = match is_offline {
            true => (ErrorCode::LeaderNotAvailable, ErrorCode::KafkaStorageError),
            false => (ErrorCode::None, ErrorCode::None),
        };
        let seen = (
            view.errors[partition],
            view.produced[partition],
            view.ends[partition] < 0,
        );
        assert_eq!(seen, (error, produced, is_offline), "{partition} of {view:?}");
    }
}

fn assert_well(view: &View, ends: i64) {
    assert_half(view, &BTreeSet::new());
    assert!(
        view.failed.is_empty() && view.ends.iter().all(|end| *end >= ends),
        "{view:?}"
    );
}

#[test]
fn a_directory_that_fails_takes_down_what_is_in_it_and_nothing_else() {
    for_each_seed(0..24, |seed| {
        let mut simulator = simulator(seed);
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        let before = view(&mut simulator, "a");
        assert_well(&before, 1);
        assert_spread(&before);
        assert_spread(&view(&mut simulator, "gone"));
        let in_more = before.within("/more");
        let operation = match seed % 3 {
            0 => DiskOperation::Write,
            1 => DiskOperation::Sync,
            _ => DiskOperation::Name,
        };
        simulator.inject(
            BROKER,
            Injection {
                operation,
                path_contains: "/more".to_owned(),
                after: 0,
                times: u32::MAX,
                errno: EIO,
            },
        );
        // Who writes to it notices first, then all nodes are told. A new topic may be what notices.
        let noticed = view(&mut simulator, "b");
        assert!(
            noticed
                .produced
                .iter()
                .all(|code| { [ErrorCode::None, ErrorCode::KafkaStorageError].contains(code) })
        );
        let mut tries = 0;
        let after = loop {
            let after = view(&mut simulator, "a");
            if !after.failed.is_empty() {
                break after;
            }
            // A name that cannot be made is noticed when segments are.
            simulator.run_for(Duration::from_secs(10));
            tries += 1;
            assert!(tries < 20, "nobody notices: {operation:?}");
        };
        let after = match after.errors.contains(&ErrorCode::LeaderNotAvailable) {
            true => after,
            false => view(&mut simulator, "a"),
        };
        assert_eq!(after.failed, BTreeSet::from(["/more".to_owned()]));
        assert!(after.within("/more").is_empty());
        // What is asked while it fails may be told so, and be there all the same.
        assert_half(&view(&mut simulator, "a"), &in_more);
        // What comes new goes where it can.
        let (new, deleted) = look_at(&mut simulator, "c", 2, async |client| {
            let topics = [DeleteTopicState {
                name: Some("gone"),
                ..DeleteTopicState::default()
            }];
            let request = DeleteTopicsRequest {
                topics: Array::from_slice(&topics),
                topic_names: Array::from_slice(&["gone"]),
                timeout_ms: 30_000,
            };
            let deleted: DeleteTopicsResponse = call(client, 1_000, &request).await.expect("it serves");
            deleted.topics[0].error_code
        });
        assert_eq!(deleted, ErrorCode::None);
        assert_half(&new, &BTreeSet::new());
        assert_eq!(new.within("/data").len(), COUNT as usize);
        assert!(!broker.has_ended());
        if seed % 2 == 0 {
            broker.end(&mut simulator);
        } else {
            simulator.power_cut(BROKER);
        }

        // It is offline as long as it fails, and comes back whole.
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        assert_half(&view(&mut simulator, "a"), &in_more);
        broker.end(&mut simulator);
        simulator.heal_disk(BROKER);
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        let healed = view(&mut simulator, "a");
        assert_well(&healed, 2);
        assert_eq!(healed.directories, before.directories);
        simulator.run_for(Duration::from_secs(120));
        // A directory that was being made as the disk failed does not say whose it is, and has nothing in it.
        let files = simulator.files(BROKER);
        let is_left = |path: &str| path.contains("/gone-") || path.contains("-stray");
        let left = files.iter().filter(|(path, bytes)| *bytes > 0 && is_left(path));
        let left: Vec<_> = left.collect();
        assert!(
            left.is_empty(),
            "what was deleted meanwhile is still there: {left:?}"
        );
        broker.end(&mut simulator);
    });
}

#[test]
fn nothing_is_begun_in_the_place_of_a_directory_that_is_missing() {
    let mut simulator = simulator(2);
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    let before = view(&mut simulator, "a");
    broker.end(&mut simulator);
    let in_more = before.within("/more");
    for directories in [&["/data", "/elsewhere"][..], &["/data"]] {
        let broker = start_with(&mut simulator, options_with(2, directories), LIMIT).expect("a start");
        let without = view(&mut simulator, "a");
        assert_half(&without, &in_more);
        let failed = directories[1..].iter().map(|path| (*path).to_owned());
        assert_eq!(without.failed, failed.collect());
        broker.end(&mut simulator);
        let files = simulator.files(BROKER);
        assert!(!files.iter().any(|(path, _)| path.starts_with("/elsewhere")));
    }
    // Its place among the others is of no matter, and one that is new gets what makes up for it.
    let three = ["/data", "/third", "/more"];
    let broker = start_with(&mut simulator, options_with(2, &three), LIMIT).expect("a start");
    let third = view(&mut simulator, "b");
    // The others had two of each shard, and two more of a shard are enough to begin anew with the first.
    assert_eq!(third.within("/third").len(), 6, "{third:?}");
    let again = view(&mut simulator, "a");
    assert_well(&again, 2);
    assert_eq!(again.directories, before.directories);
    broker.end(&mut simulator);
    // Another number of shards moves no log to another directory.
    let broker = start_with(&mut simulator, options_with(1, &three), LIMIT).expect("a start");
    let (moved, ()) = look_at(&mut simulator, "a", 1, async |_| ());
    assert_well(&moved, 3);
    assert_eq!(moved.directories, before.directories);
    broker.end(&mut simulator);
}

#[test]
fn the_directory_with_the_metadata_comes_first_and_no_cluster_takes_anothers() {
    let mut simulator = simulator(4);
    for directories in [&TWO[..], &["/other"]] {
        let broker = start_with(&mut simulator, options_with(2, directories), LIMIT).expect("a start");
        broker.end(&mut simulator);
    }
    for (directories, why) in [
        (
            &["/more", "/data"][..],
            "give the directory with the metadata first",
        ),
        (&["/new", "/data"], "give the directory with the metadata first"),
        (&["/more"], "/more has logs and no metadata"),
        (&["/other", "/more"], "is of cluster"),
    ] {
        let error = refusal(&mut simulator, options_with(2, directories));
        assert!(error.contains(why), "{directories:?}: {error}");
    }
    let files = simulator.files(BROKER);
    assert!(!files.iter().any(|(path, _)| path.starts_with("/new")));
    let properties = simulator
        .read_file(BROKER, "/more/meta.properties")
        .expect("a file");
    let copied = simulator.run(BROKER, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        ring::directory::create_all("/copy".as_ref()).await.expect("made");
        let options = ring::file::OpenOptions {
            write: true,
            create: true,
            ..ring::file::OpenOptions::default()
        };
        let copy = ring::file::File::open("/copy/meta.properties".as_ref(), options);
        let copy = copy.await.expect("made");
        let bytes = vec![ring::buffer::Slice::from(properties)];
        let written = copy.write_all_at(bytes, 0, ring::file::Durability::Completed);
        written.await.expect("written");
    });
    copied.expect("it ends");
    let error = refusal(&mut simulator, options_with(2, &["/data", "/more", "/copy"]));
    assert!(error.contains("it is a copy of that"), "{error}");
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("nothing was changed");
    assert_well(&view(&mut simulator, "a"), 1);
    broker.end(&mut simulator);
}
