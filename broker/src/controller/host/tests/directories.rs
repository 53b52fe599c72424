//! A host with several log directories: where partitions go, and what one that fails, or is missing, takes with it.

use ring::simulator::{DiskFaults, DiskOperation, Injection};
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
    /// Each partition's node.
    nodes: Vec<i32>,
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

/// The `directory.id` of a directory.
fn id_of(simulator: &Simulator, directory: &str) -> String {
    let path = format!("{directory}/meta.properties");
    let bytes = simulator.read_file(BROKER, path).expect("a file");
    let text = String::from_utf8(bytes).expect("a text");
    let id = text.lines().find_map(|line| line.strip_prefix("directory.id="));
    id.expect("an id").to_owned()
}

/// Writes a file, as an operator does while no broker runs. Nothing: it is removed.
fn write_file(simulator: &mut Simulator, path: &str, text: Option<String>) {
    let path = PathBuf::from(path);
    let written = simulator.run(BROKER, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        ring::directory::create_all(path.parent().expect("a directory"))
            .await
            .expect("made");
        let Some(text) = text else {
            return ring::directory::remove_file(&path).await.expect("removed");
        };
        let options = ring::file::OpenOptions {
            write: true,
            create: true,
            truncate: true,
            ..ring::file::OpenOptions::default()
        };
        let file = ring::file::File::open(&path, options).await.expect("made");
        let bytes = vec![ring::buffer::Slice::from(text.into_bytes())];
        let written = file.write_all_at(bytes, 0, ring::file::Durability::Durable);
        written.await.expect("written");
    });
    written.expect("it ends");
}

async fn delete_with(client: &Client, name: &str) -> ErrorCode {
    ask_to_delete(client, name).await.expect("it serves")
}

async fn create_with(client: &Client, name: &str) -> ErrorCode {
    ask_for_topic(client, name, COUNT).await.expect("it serves").0
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
    match end_of(client, node_id, topic, partition)
        .await
        .expect("it serves")
    {
        (ErrorCode::None, offset) => offset,
        (error, _) => {
            assert_eq!(error, ErrorCode::KafkaStorageError);
            -1
        }
    }
}

/// Produces a record to each partition of a topic, and looks at it.
async fn look(client: &Client, topic: &str) -> View {
    let mut view = View {
        directories: vec![None; COUNT as usize],
        ..View::default()
    };
    let names = [MetadataRequestTopic {
        name: Some(topic),
        ..MetadataRequestTopic::default()
    }];
    let request = MetadataRequest {
        topics: Some(Array::from_slice(&names)),
        ..MetadataRequest::default()
    };
    let metadata: MetadataResponse = call(client, 1_000, &request).await.expect("it serves");
    for (partition, told) in (0..).zip(&metadata.topics[0].partitions) {
        // Whoever has it answers, also if Metadata names no leader.
        let node_id = told.replica_nodes[0];
        view.produced
            .push(produce(client, node_id, topic, partition).await);
        view.ends.push(end(client, node_id, topic, partition).await);
        view.nodes.push(node_id);
        view.errors.push(told.error_code);
        let offline = vec![node_id];
        match told.error_code {
            ErrorCode::None => assert_eq!((told.leader_id, &told.offline_replicas), (node_id, &vec![])),
            error => {
                assert_eq!(error, ErrorCode::LeaderNotAvailable);
                assert_eq!((told.leader_id, &told.offline_replicas), (-1, &offline));
            }
        }
    }
    let mut failed = Vec::new();
    for broker in &metadata.brokers {
        let all = DescribeLogDirsRequest::default();
        let described: DescribeLogDirsResponse = call(client, broker.node_id, &all).await.expect("it serves");
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
    and: impl AsyncFnOnce(&Client) -> T + Send + 'static,
) -> (View, T) {
    let looked = simulator.run(CLIENT, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        let client = connect().await.expect("it serves");
        let code = create_with(&client, topic).await;
        assert!(
            [ErrorCode::None, ErrorCode::TopicAlreadyExists].contains(&code),
            "{code:?}"
        );
        let view = look(&client, topic).await;
        let more = and(&client).await;
        (view, more)
    });
    looked.expect("it ends")
}

fn view(simulator: &mut Simulator, topic: &'static str) -> View {
    look_at(simulator, topic, async |_| ()).0
}

/// Half of the partitions of each shard are in each directory.
fn assert_spread(view: &View) {
    for directory in TWO {
        let within = view.within(directory);
        for shard in 0..2 {
            let of_shard = within
                .iter()
                .filter(|&&partition| view.nodes[partition] == 1_000 + shard);
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

/// Nothing is left of the deleted topic, and nothing is a stray.
fn assert_is_gone(simulator: &Simulator) {
    // A directory that was being made as the disk failed does not say whose it is, and has nothing in it.
    let files = simulator.files(BROKER);
    let is_left = |path: &str| path.contains("/gone-") || path.contains("-stray");
    let left = files.iter().filter(|(path, bytes)| *bytes > 0 && is_left(path));
    let left: Vec<_> = left.collect();
    assert!(
        left.is_empty(),
        "what was deleted meanwhile is still there: {left:?}"
    );
}

#[test]
fn a_topic_that_was_deleted_is_remembered_until_every_log_has_dropped_it() {
    let mut simulator = simulator(8);
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    for topic in ["a", "gone"] {
        assert_well(&view(&mut simulator, topic), 1);
    }
    broker.end(&mut simulator);
    let broker = start_with(&mut simulator, options_with(2, &["/data"]), LIMIT).expect("a start");
    let (_, deleted) = look_at(&mut simulator, "a", async |client| {
        delete_with(client, "gone").await
    });
    assert_eq!(deleted, ErrorCode::None);
    broker.end(&mut simulator);
    // The directory is there, and a log in it cannot be opened.
    simulator.inject(
        BROKER,
        Injection {
            operation: DiskOperation::Read,
            path_contains: "/more/journals".to_owned(),
            after: 0,
            times: u32::MAX,
            errno: EIO,
        },
    );
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    let half = view(&mut simulator, "a");
    assert_eq!(half.failed, BTreeSet::from(["/more".to_owned()]));
    broker.end(&mut simulator);
    simulator.heal_disk(BROKER);
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    assert_well(&view(&mut simulator, "a"), 2);
    simulator.run_for(Duration::from_secs(120));
    assert_is_gone(&simulator);
    broker.end(&mut simulator);
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
        let (new, deleted) = look_at(&mut simulator, "c", async |client| {
            delete_with(client, "gone").await
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
        assert_is_gone(&simulator);
        broker.end(&mut simulator);
    });
}

#[test]
fn a_disk_that_stands_still_for_long_takes_its_directory_offline_and_keeps_nobody_waiting_for_ever() {
    let mut simulator = simulator(10);
    // One shard, so that it coordinates every group: their offsets are in both directories.
    let broker = start_with(&mut simulator, options_with(1, &TWO), LIMIT).expect("a start");
    let before = view(&mut simulator, "a");
    look_at(&mut simulator, "gone", async |client| {
        for group in 0..8 {
            probes::commit(client, &format!("g{group}"), "gone", 1).await;
        }
    });
    simulator.set_disk_faults(
        BROKER,
        DiskFaults {
            stall: 1.0,
            stall_longest: Duration::from_secs(1_000_000),
            only_paths_with: "/more".to_owned(),
            ..DiskFaults::default()
        },
    );
    let asked = simulator.run(CLIENT, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        // Shorter than it takes until the directory is offline: whoever asks asks again.
        let patience = Duration::from_secs(20);
        let client = connect().await.expect("it serves");
        let _ = ring::timer::timeout(patience, delete_with(&client, "gone")).await;
        loop {
            let client = connect().await.expect("it serves");
            let created = ring::timer::timeout(patience, create_with(&client, "new")).await;
            if matches!(created, Ok(ErrorCode::None | ErrorCode::TopicAlreadyExists)) {
                return;
            }
            ring::timer::sleep(Duration::from_secs(1)).await;
        }
    });
    asked.expect("the control thread goes on");
    let after = view(&mut simulator, "a");
    assert_eq!(after.failed, BTreeSet::from(["/more".to_owned()]));
    assert_half(&after, &before.within("/more"));
    assert_eq!(view(&mut simulator, "new").within("/data").len(), COUNT as usize);
    assert!(!broker.has_ended());
    simulator.kill(BROKER);
    simulator.heal_disk(BROKER);
    let broker = start_with(&mut simulator, options_with(1, &TWO), LIMIT).expect("a start");
    assert_well(&view(&mut simulator, "a"), 2);
    simulator.run_for(Duration::from_secs(120));
    assert_is_gone(&simulator);
    broker.end(&mut simulator);
}

#[test]
fn nothing_is_begun_in_the_place_of_a_directory_that_is_missing() {
    let mut simulator = simulator(2);
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    let before = view(&mut simulator, "a");
    broker.end(&mut simulator);
    let in_more = before.within("/more");
    let properties = simulator
        .read_file(BROKER, "/more/meta.properties")
        .expect("a file");
    let properties = String::from_utf8(properties).expect("a text");
    let (first, more) = (id_of(&simulator, "/data"), id_of(&simulator, "/more"));
    // A start has begun it, and was killed before the metadata knew.
    let begun = properties.replace(&more, &first.chars().rev().collect::<String>());
    write_file(&mut simulator, "/begun/meta.properties", Some(begun));
    for directories in [&["/data", "/elsewhere"][..], &["/data", "/begun"], &["/data"]] {
        let broker = start_with(&mut simulator, options_with(2, directories), LIMIT).expect("a start");
        let without = view(&mut simulator, "a");
        assert_half(&without, &in_more);
        let failed = directories[1..].iter().map(|path| (*path).to_owned());
        assert_eq!(without.failed, failed.collect());
        broker.end(&mut simulator);
        let files = simulator.files(BROKER);
        let is_new = |path: &str| path.starts_with("/elsewhere") || path.starts_with("/begun/j");
        assert!(!files.iter().any(|(path, _)| is_new(path)));
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
    let moved = view(&mut simulator, "a");
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
    let properties = simulator.read_file(BROKER, "/more/meta.properties");
    let properties = String::from_utf8(properties.expect("a file")).expect("a text");
    write_file(&mut simulator, "/copy/meta.properties", Some(properties));
    let error = refusal(&mut simulator, options_with(2, &["/data", "/more", "/copy"]));
    assert!(error.contains("it is a copy of that"), "{error}");
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("nothing was changed");
    assert_well(&view(&mut simulator, "a"), 1);
    broker.end(&mut simulator);
}

#[test]
fn shards_that_come_and_go_while_a_directory_is_away_cost_no_record() {
    let mut simulator = simulator(5);
    for (shards, directories) in [
        (2, &TWO[..]),
        (1, &["/data"]),
        (2, &TWO),
        (3, &["/data"]),
        (1, &["/data"]),
        (2, &["/data"]),
        (2, &TWO),
    ] {
        let broker = start_with(&mut simulator, options_with(shards, directories), LIMIT).expect("a start");
        let view = view(&mut simulator, "a");
        if directories.len() == 2 {
            assert_well(&view, 1);
        }
        broker.end(&mut simulator);
    }
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    assert_well(&view(&mut simulator, "a"), 4);
    let files = simulator.files(BROKER);
    assert!(
        !files.iter().any(|(path, _)| path.contains("-stray")),
        "{files:?}"
    );
    broker.end(&mut simulator);
}

#[test]
fn another_number_of_shards_that_a_death_undoes_costs_no_record() {
    let seeds = if cfg!(debug_assertions) { 24 } else { 200 };
    for_each_seed(0..seeds, |seed| {
        let mut simulator = simulator(seed);
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        assert_well(&view(&mut simulator, "a"), 1);
        broker.end(&mut simulator);
        for _ in 0..4 {
            let shards = 1 + (simulator.random_u64() % 3) as u32;
            // Most die as they start: what one has begun another number of shards goes on from.
            let patience = Duration::from_micros(simulator.random_u64() % 80_000);
            drop(start_with(&mut simulator, options_with(shards, &TWO), patience));
            match simulator.random_u64() % 2 {
                0 => simulator.kill(BROKER),
                _ => simulator.power_cut(BROKER),
            }
        }
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        assert_well(&view(&mut simulator, "a"), 2);
        broker.end(&mut simulator);
    });
}

#[test]
fn a_first_start_that_dies_is_gone_on_with() {
    let seeds = if cfg!(debug_assertions) { 48 } else { 200 };
    for_each_seed(0..seeds, |seed| {
        let mut simulator = simulator(seed);
        for _ in 0..4 {
            let patience = Duration::from_micros(simulator.random_u64() % 30_000);
            drop(start_with(&mut simulator, options_with(2, &TWO), patience));
            match simulator.random_u64() % 2 {
                0 => simulator.kill(BROKER),
                _ => simulator.power_cut(BROKER),
            }
        }
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        let view = view(&mut simulator, "a");
        assert_well(&view, 1);
        assert_spread(&view);
        broker.end(&mut simulator);
    });
}

#[test]
fn ids_that_do_not_belong_together_cost_no_record() {
    let mut simulator = simulator(6);
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    let before = view(&mut simulator, "a");
    broker.end(&mut simulator);
    let files = ["/data/meta.properties", "/more/meta.properties"];
    let good = files.map(|file| {
        let bytes = simulator.read_file(BROKER, file).expect("a file");
        String::from_utf8(bytes).expect("a text")
    });
    // The first has another id.
    let (first, more) = (id_of(&simulator, "/data"), id_of(&simulator, "/more"));
    let another = good[0].replace(&first, &more);
    write_file(&mut simulator, files[0], Some(another));
    let error = refusal(&mut simulator, options_with(2, &TWO));
    assert!(
        error.contains(&format!("Write directory.id={first} there")),
        "{error}"
    );
    write_file(&mut simulator, files[0], Some(good[0].clone()));
    // The other one has one that nobody knows, and none at all.
    let another = good[1].replace(&more, &first.chars().rev().collect::<String>());
    for text in [Some(another), None] {
        write_file(&mut simulator, files[1], text);
        let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
        assert_half(&view(&mut simulator, "a"), &before.within("/more"));
        broker.end(&mut simulator);
    }
    write_file(&mut simulator, files[1], Some(good[1].clone()));
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    let after = view(&mut simulator, "a");
    assert_well(&after, 2);
    assert_eq!(after.directories, before.directories);
    broker.end(&mut simulator);
}

#[test]
fn directories_whose_ids_are_swapped_cost_no_record() {
    let mut simulator = simulator(9);
    let three = ["/data", "/more", "/third"];
    let broker = start_with(&mut simulator, options_with(2, &three), LIMIT).expect("a start");
    let before = view(&mut simulator, "a");
    broker.end(&mut simulator);
    let files = ["/more/meta.properties", "/third/meta.properties"];
    let swap = |simulator: &mut Simulator| {
        let [one, other] = files.map(|file| {
            let bytes = simulator.read_file(BROKER, file).expect("a file");
            String::from_utf8(bytes).expect("a text")
        });
        write_file(simulator, files[0], Some(other));
        write_file(simulator, files[1], Some(one));
    };
    swap(&mut simulator);
    let broker = start_with(&mut simulator, options_with(2, &three), LIMIT).expect("a start");
    let swapped = view(&mut simulator, "a");
    let elsewhere = &before.within("/more") | &before.within("/third");
    assert_half(&swapped, &elsewhere);
    broker.end(&mut simulator);
    swap(&mut simulator);
    let broker = start_with(&mut simulator, options_with(2, &three), LIMIT).expect("a start");
    let after = view(&mut simulator, "a");
    assert_well(&after, 2);
    assert_eq!(after.directories, before.directories);
    broker.end(&mut simulator);
}

#[test]
fn what_is_in_a_directory_that_is_given_up_begins_anew() {
    let mut simulator = simulator(7);
    let broker = start_with(&mut simulator, options_with(2, &TWO), LIMIT).expect("a start");
    let before = view(&mut simulator, "a");
    broker.end(&mut simulator);
    let give_up = |directories: &[&str], id: &str| HostOptions {
        given_up_directory: storage::from_base64(id),
        ..options_with(2, directories)
    };
    let (first, more) = (id_of(&simulator, "/data"), id_of(&simulator, "/more"));
    for (directories, id, why) in [
        (&["/data", "/new"], &first, "cannot be given up"),
        (&TWO, &more, "is there, in /more"),
    ] {
        let error = refusal(&mut simulator, give_up(directories, id));
        assert!(error.contains(why), "{error}");
    }
    // One that nobody knows is given up in vain.
    let unknown: String = first.chars().rev().collect();
    let broker = start_with(&mut simulator, give_up(&TWO, &unknown), LIMIT).expect("a start");
    broker.end(&mut simulator);
    let broker = start_with(&mut simulator, give_up(&["/data", "/new"], &more), LIMIT).expect("a start");
    let after = view(&mut simulator, "a");
    assert_well(&after, 1);
    for partition in 0..COUNT as usize {
        let was_lost = before.within("/more").contains(&partition);
        assert_eq!(after.ends[partition], if was_lost { 1 } else { 2 }, "{after:?}");
    }
    assert_spread(&View {
        directories: (after.directories.iter())
            .map(|directory| directory.as_ref().map(|path| path.replace("/new", "/more")))
            .collect(),
        ..after
    });
    broker.end(&mut simulator);
    // The same command once more.
    let broker = start_with(&mut simulator, give_up(&["/data", "/new"], &more), LIMIT).expect("a start");
    broker.end(&mut simulator);
    // It is back after all: nobody takes what is in it for theirs.
    let broker = start_with(
        &mut simulator,
        options_with(2, &["/data", "/new", "/more"]),
        LIMIT,
    );
    let again = view(&mut simulator, "a");
    assert_eq!(again.failed, BTreeSet::from(["/more".to_owned()]));
    assert!(again.ends.iter().all(|end| *end >= 2), "{again:?}");
    broker.expect("a start").end(&mut simulator);
    // Nor is it missed: one that is new is taken.
    let fresh = ["/data", "/new", "/fresh"];
    let broker = start_with(&mut simulator, options_with(2, &fresh), LIMIT).expect("a start");
    assert!(view(&mut simulator, "a").failed.is_empty());
    broker.end(&mut simulator);
}
