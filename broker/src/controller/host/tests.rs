//! The control thread in the simulator: shards that are slow, whole brokers that die at every moment, and the stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::client::{Client, ClientError, ClientOptions, resolve_literal};
use ring::executor::Task;
use ring::simulator::{HostId, Simulator, for_each_seed};
use wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::messages::list_offsets::{
    LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use wire::messages::metadata::{MetadataRequest, MetadataResponse};
use wire::schema::Decode;
use wire::{Array, Request, Response, Uuid};

use super::*;
use crate::config::Settings;

mod directories;
mod probes;

/// Of virtual time, for anything that must end.
const LIMIT: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 1 << 30;
const CLIENT_MEMORY_BYTES: usize = 1 << 30;
const BROKER: HostId = HostId(0);
const CLIENT: HostId = HostId(1);
const ADDRESS: &str = "10.0.0.1:9092";
/// Partitions of a topic: more than the most shards here, and no multiple of their number.
const PARTITIONS: i32 = 5;

fn options(shards: u32) -> HostOptions {
    options_with(shards, &["/data"])
}

fn options_with(shards: u32, log_directories: &[&str]) -> HostOptions {
    let mut settings = Settings::default();
    let shards = format!("shards={shards}");
    let directories = format!("log.dirs={}", log_directories.join(","));
    for assignment in ["host=10.0.0.1", "journal.bytes=8388608", &shards, &directories] {
        settings.take_assignment(assignment).expect("a good setting");
    }
    settings.check().expect("settings that go together");
    HostOptions {
        settings,
        log_directories: log_directories.iter().map(PathBuf::from).collect(),
        given_up_directory: None,
        cpus: Vec::new(),
        descriptors: 4_096,
    }
}

fn simulator(seed: u64) -> Simulator {
    let mut simulator = Simulator::new(seed);
    for host in [BROKER, CLIENT] {
        assert_eq!(simulator.host(DISK_BYTES), host);
    }
    simulator
}

fn new_topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: 2,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    }
}

/// Gives the host back, and how it went.
type Handling = Task<(Host, Result<(), String>)>;

/// How a broker's life ended: the shards' lines of counters, or why it could not go on.
type Ended = Arc<Mutex<Option<Result<Vec<String>, String>>>>;

/// A host whose two shards are the test's own: it sees what they are told, and answers when it likes.
struct Puppets {
    host: Host,
    commands: Vec<Receiver<ShardCommand>>,
}

impl Puppets {
    async fn new() -> Puppets {
        let mut host = Host::open(options(2), Rc::default()).await.expect("a good disk");
        let mut receivers = Vec::new();
        for shard in 0..2 {
            let (commands, receiver) = bounded(COMMANDS_MAX);
            host.shards.push(commands);
            receivers.push(receiver);
            host.nodes.push(Node {
                id: 1_000 + shard,
                host: "10.0.0.1".to_owned(),
                port: 9_092,
                rack: None,
            });
        }
        Puppets {
            host,
            commands: receivers,
        }
    }

    /// Begins to handle a request; the task gives the host back.
    fn handle(self, request: ControllerRequest) -> (Handling, Vec<Receiver<ShardCommand>>) {
        let mut host = self.host;
        let handling = spawn(Class::Latency, async move {
            let handled = host.handle(request).await;
            (host, handled)
        });
        (handling, self.commands)
    }
}

/// The next command, which must be an image.
async fn installed(
    commands: &mut Receiver<ShardCommand>,
) -> (Arc<Image>, Answer<Result<Vec<DirectoryFailure>, String>>) {
    match commands.receive().await {
        Some(ShardCommand::Install { image, done }) => (image, done),
        _ => panic!("an image is installed first"),
    }
}

/// Whether `awaited` has no answer after more time than anything takes that is under way.
async fn is_unanswered<T: Send + 'static>(awaited: &mut ring::channel::Awaited<T>) -> bool {
    ring::timer::timeout(Duration::from_secs(5), awaited)
        .await
        .is_err()
}

fn in_simulator<Fut: Future<Output = ()> + 'static>(test: impl FnOnce() -> Fut + Send + 'static) {
    let ran = simulator(1).run(BROKER, options(2).control_memory_bytes(), LIMIT, test);
    ran.expect("it ends");
}

#[test]
fn a_topic_is_answered_when_every_shard_has_installed_it() {
    in_simulator(|| async {
        let puppets = Puppets::new().await;
        let announced = puppets.host.announced.clone();
        let (answer, mut awaited) = oneshot();
        let (handling, mut commands) = puppets.handle(ControllerRequest::CreateTopics {
            topics: vec![new_topic("a")],
            validate_only: false,
            answer,
        });
        for shard in &mut commands {
            assert!(
                is_unanswered(&mut awaited).await,
                "answered before it was installed"
            );
            let (image, done) = installed(shard).await;
            assert!(image.topics_by_name.contains_key("a"));
            assert_eq!(announced.get(), image.version, "announced before it is sent");
            done.give(Ok(Vec::new())).expect("the control thread waits");
        }
        let created = awaited.await.expect("an answer");
        assert_eq!(created[0].error_code, ErrorCode::None);
        let (_host, handled) = handling.await;
        assert_eq!(handled, Ok(()));
    });
}

#[test]
fn a_deleted_topic_is_remembered_until_every_shard_has_dropped_it() {
    in_simulator(|| async {
        let puppets = Puppets::new().await;
        let host = puppets.host;
        let topic = Topic {
            name: "a".to_owned(),
            id: 7,
            ..Default::default()
        };
        host.propose(vec![MetadataRecord::TopicCreated(topic)])
            .await
            .expect("a good disk");
        let (answer, mut awaited) = oneshot();
        let puppets = Puppets { host, ..puppets };
        let (handling, mut commands) = puppets.handle(ControllerRequest::DeleteTopics {
            topics: vec![TopicReference::Name("a".to_owned())],
            answer,
        });
        let (image, done) = installed(&mut commands[0]).await;
        assert!(image.deleted_topics.contains(&7) && image.topics_by_id.is_empty());
        done.give(Ok(Vec::new())).expect("the control thread waits");
        assert!(is_unanswered(&mut awaited).await, "one shard has not dropped it");
        let (_, done) = installed(&mut commands[1]).await;
        drop(done);
        let (mut host, handled) = handling.await;
        assert!(handled.expect_err("a shard died").contains("shard 1"));
        assert!(awaited.await.is_err(), "nobody may hear that it is done");
        let remembered = |host: &Host| {
            host.metadata
                .with(|metadata| metadata.deleted_topics.contains(&7))
        };
        assert!(remembered(&host));

        // As after a start: every shard has dropped it when it has opened its log.
        let opening = spawn(Class::Latency, async move {
            let opened = host.open_shards().await;
            (host, opened)
        });
        for shard in &mut commands {
            let Some(ShardCommand::Open { done, .. }) = shard.receive().await else {
                panic!("logs are opened first");
            };
            done.give(Ok(Vec::new())).expect("the control thread waits");
        }
        for shard in &mut commands {
            let Some(ShardCommand::Serve { done }) = shard.receive().await else {
                panic!("and then clients are served");
            };
            done.give(()).expect("the control thread waits");
        }
        let (host, opened) = opening.await;
        assert_eq!(opened, Ok(()));
        assert!(!remembered(&host));
    });
}

#[test]
fn no_shard_serves_before_all_have_opened_their_logs() {
    in_simulator(|| async {
        let Puppets {
            mut host,
            mut commands,
        } = Puppets::new().await;
        let opening = spawn(Class::Latency, async move { host.open_shards().await });
        let Some(ShardCommand::Open { done, .. }) = commands[0].receive().await else {
            panic!("logs are opened first");
        };
        done.give(Ok(Vec::new())).expect("the control thread waits");
        let early = ring::timer::timeout(Duration::from_secs(5), commands[0].receive()).await;
        assert!(early.is_err(), "shard 1 has not opened its log");
        let Some(ShardCommand::Open { done, .. }) = commands[1].receive().await else {
            panic!("logs are opened first");
        };
        done.give(Err("its disk is gone".to_owned()))
            .expect("the control thread waits");
        let error = opening.await.expect_err("a start that fails");
        assert!(
            error.contains("shard 1") && error.contains("its disk is gone"),
            "{error}"
        );
        assert!(commands[0].receive().await.is_none(), "nobody is served");
    });
}

/// What clients were told, over all lives of a broker.
#[derive(Debug, Default)]
struct Promises {
    /// Created and acknowledged.
    created: BTreeMap<String, Uuid>,
    /// Deleted and acknowledged.
    deleted: BTreeSet<Uuid>,
    /// A request is under way: it may have happened or not.
    is_unsure: BTreeSet<String>,
    /// Given to clients.
    producer_ids: BTreeSet<i64>,
    /// The highest leader epoch that a client saw, and the life in which.
    epochs: BTreeMap<(Uuid, i32), (i32, u32)>,
    /// Requests that were answered.
    answers: u32,
    /// Names are never used again.
    next_name: u32,
}

type Shared = Arc<Mutex<Promises>>;

fn lock(promises: &Shared) -> MutexGuard<'_, Promises> {
    promises.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a broker, and waits until it serves; none if `limit` of virtual time passed first.
fn start_broker(simulator: &mut Simulator, shards: u32, limit: Duration) -> Option<Life> {
    start_with(simulator, options(shards), limit)
}

fn start_with(simulator: &mut Simulator, options: HostOptions, limit: Duration) -> Option<Life> {
    let (stop, stopped) = bounded(1);
    let ended = Ended::default();
    let serves = Arc::new(Mutex::new(false));
    let memory_bytes = options.control_memory_bytes();
    let (told, served) = (ended.clone(), serves.clone());
    simulator.start(BROKER, memory_bytes, move || async move {
        let (ready, is_ready) = oneshot();
        spawn(Class::Latency, async move {
            if is_ready.await.is_ok() {
                *served.lock().expect("no panic") = true;
            }
        })
        .detach();
        let (_probes, probed) = bounded(1);
        let result = run(options, stopped, ready, probed).await;
        *told.lock().expect("no panic") = Some(result);
    });
    let life = Life { stop, ended };
    let begun = simulator.run_until(limit, |_| {
        *serves.lock().expect("no panic") || life.ended.lock().expect("no panic").is_some()
    });
    if let Some(Err(error)) = &*life.ended.lock().expect("no panic") {
        panic!("the broker does not start: {error}");
    }
    begun.then_some(life)
}

struct Life {
    stop: Sender<()>,
    ended: Ended,
}

impl Life {
    fn has_ended(&self) -> bool {
        self.ended.lock().expect("no panic").is_some()
    }

    /// A clean stop.
    fn end(self, simulator: &mut Simulator) {
        self.stop.try_send(()).expect("it runs");
        assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(BROKER)));
        let ended = self.ended.lock().expect("no panic").take();
        ended.expect("it has ended").expect("a clean stop");
    }
}

async fn connect() -> Result<Client, ClientError> {
    let options = ClientOptions {
        resolve: resolve_literal,
        ..ClientOptions::default()
    };
    Client::connect(&[ADDRESS.to_owned()], options).await
}

async fn call<'a, Q, A>(client: &Client, node_id: i32, request: &Q) -> Result<A, ClientError>
where
    Q: Request<'a>,
    A: Response + for<'b> Decode<'b>,
{
    let version = client.version(node_id, Q::API_KEY).await?;
    client.node(node_id).await?.call(version, request).await
}

/// Looks at the cluster through every node, and holds what it shows against what was promised.
async fn check(client: &Client, promises: &Shared, life: u32) -> Result<(), ClientError> {
    let mut views = Vec::new();
    for node_id in client.nodes().into_keys() {
        let all = MetadataRequest::default();
        let view: MetadataResponse = call(client, node_id, &all).await?;
        views.push(view);
    }
    for view in &views {
        assert_eq!(view.topics, views[0].topics, "nodes show different topics");
    }
    let topics = &views[0].topics;
    let present: BTreeMap<&str, Uuid> = topics
        .iter()
        .map(|topic| (topic.name.as_deref().expect("a name"), topic.topic_id))
        .collect();
    {
        let mut promises = lock(promises);
        for (name, id) in &promises.created {
            let is_there = present.get(name.as_str()) == Some(id);
            assert!(is_there || promises.is_unsure.contains(name), "{name} is lost");
        }
        for (&name, id) in &present {
            assert!(!promises.deleted.contains(id), "{name} was deleted");
            let is_known = promises.created.contains_key(name) || promises.is_unsure.contains(name);
            assert!(is_known, "{name} is nobody's");
        }
        // What was under way has happened, or it has not: it stays as it is now.
        promises.created = present.iter().map(|(&name, &id)| (name.to_owned(), id)).collect();
        promises.is_unsure.clear();
        for topic in topics {
            assert_eq!(topic.partitions.len(), PARTITIONS as usize);
            for partition in &topic.partitions {
                let key = (topic.topic_id, partition.partition);
                let epoch = partition.leader_epoch;
                if let Some((before, seen_in)) = promises.epochs.insert(key, (epoch, life)) {
                    let least = before + i32::from(seen_in != life);
                    assert!(epoch >= least, "leader epoch {epoch} of {key:?} after {before}");
                }
            }
        }
    }
    for topic in topics {
        for partition in &topic.partitions {
            assert_open(
                client,
                topic.name.as_deref().expect("a name"),
                partition.partition,
                partition.leader_id,
            )
            .await?;
        }
    }
    Ok(())
}

/// The leader that Metadata names has the partition open.
async fn assert_open(client: &Client, name: &str, partition: i32, leader: i32) -> Result<(), ClientError> {
    let (code, _) = end_of(client, leader, name, partition).await?;
    assert_eq!(code, ErrorCode::None, "{name}-{partition} on node {leader}");
    Ok(())
}

/// Where a partition ends, by a node, or why it does not say.
async fn end_of(
    client: &Client,
    node_id: i32,
    name: &str,
    partition: i32,
) -> Result<(ErrorCode, i64), ClientError> {
    let partitions = [ListOffsetsPartition {
        partition,
        timestamp: LATEST_TIMESTAMP,
        ..ListOffsetsPartition::default()
    }];
    let topics = [ListOffsetsTopic {
        name,
        partitions: Array::from_slice(&partitions),
    }];
    let request = ListOffsetsRequest {
        topics: Array::from_slice(&topics),
        ..ListOffsetsRequest::default()
    };
    let offsets: ListOffsetsResponse = call(client, node_id, &request).await?;
    let told = &offsets.topics[0].partitions[0];
    Ok((told.error_code, told.offset))
}

async fn create(client: &Client, promises: &Shared) -> Result<String, ClientError> {
    let name = {
        let mut promises = lock(promises);
        promises.next_name += 1;
        let name = format!("t{}", promises.next_name);
        promises.is_unsure.insert(name.clone());
        name
    };
    let (error_code, id) = ask_for_topic(client, &name, PARTITIONS).await?;
    assert_eq!(error_code, ErrorCode::None);
    let mut promises = lock(promises);
    promises.created.insert(name.clone(), id);
    promises.is_unsure.remove(&name);
    promises.answers += 1;
    Ok(name)
}

async fn ask_for_topic(
    client: &Client,
    name: &str,
    num_partitions: i32,
) -> Result<(ErrorCode, Uuid), ClientError> {
    let topics = [CreatableTopic {
        name,
        num_partitions,
        replication_factor: -1,
        ..CreatableTopic::default()
    }];
    let request = CreateTopicsRequest {
        topics: Array::from_slice(&topics),
        ..CreateTopicsRequest::default()
    };
    let (controller, _) = client.controller().await?;
    let created: CreateTopicsResponse = call(client, controller, &request).await?;
    Ok((created.topics[0].error_code, created.topics[0].topic_id))
}

async fn delete(client: &Client, promises: &Shared, name: &str) -> Result<(), ClientError> {
    lock(promises).is_unsure.insert(name.to_owned());
    assert_eq!(ask_to_delete(client, name).await?, ErrorCode::None);
    let mut promises = lock(promises);
    let id = promises.created.remove(name).expect("it was created");
    promises.deleted.insert(id);
    promises.is_unsure.remove(name);
    promises.answers += 1;
    Ok(())
}

async fn ask_to_delete(client: &Client, name: &str) -> Result<ErrorCode, ClientError> {
    let topics = [DeleteTopicState {
        name: Some(name),
        ..DeleteTopicState::default()
    }];
    let names = [name];
    let request = DeleteTopicsRequest {
        topics: Array::from_slice(&topics),
        topic_names: Array::from_slice(&names),
        timeout_ms: 30_000,
    };
    let (controller, _) = client.controller().await?;
    let deleted: DeleteTopicsResponse = call(client, controller, &request).await?;
    Ok(deleted.topics[0].error_code)
}

async fn producer_id(client: &Client, promises: &Shared, node_id: i32) -> Result<(), ClientError> {
    let request = InitProducerIdRequest::default();
    let given: InitProducerIdResponse = call(client, node_id, &request).await?;
    assert_eq!(given.error_code, ErrorCode::None);
    let mut promises = lock(promises);
    let id = given.producer_id;
    assert!(
        promises.producer_ids.insert(id),
        "producer id {id} was given twice"
    );
    promises.answers += 1;
    Ok(())
}

/// Checks the cluster, and then changes it for as long as it lives.
async fn change(promises: Shared, life: u32) -> Result<(), ClientError> {
    let client = connect().await?;
    check(&client, &promises, life).await?;
    loop {
        for node_id in client.nodes().into_keys() {
            producer_id(&client, &promises, node_id).await?;
        }
        let name = create(&client, &promises).await?;
        check(&client, &promises, life).await?;
        create(&client, &promises).await?;
        delete(&client, &promises, &name).await?;
    }
}

/// A client finds what was promised, in a life that no client has seen yet.
fn last_check(simulator: &mut Simulator, promises: &Shared) {
    let promises = promises.clone();
    let checked = simulator.run(CLIENT, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        let client = connect().await?;
        check(&client, &promises, u32::MAX).await?;
        for node_id in client.nodes().into_keys() {
            producer_id(&client, &promises, node_id).await?;
        }
        Ok::<(), ClientError>(())
    });
    checked.expect("it ends").expect("a broker that serves");
}

#[test]
fn what_admin_clients_were_told_survives_every_death() {
    let seeds = if cfg!(debug_assertions) { 24 } else { 200 };
    for_each_seed(0..seeds, |seed| {
        let mut simulator = simulator(seed);
        let promises = Shared::default();
        for life in 0..5 {
            let shards = [2, 4, 1, 2, 3][life as usize];
            // Some die as they start.
            let patience = match simulator.random_u64() % 4 {
                0 => Duration::from_micros(simulator.random_u64() % 60_000),
                _ => LIMIT,
            };
            let broker = start_broker(&mut simulator, shards, patience);
            if broker.is_some() {
                let told = promises.clone();
                simulator.start(CLIENT, CLIENT_MEMORY_BYTES, move || async move {
                    // It ends with the broker's life.
                    let _ = change(told, life).await;
                });
                let goal = lock(&promises).answers + (simulator.random_u64() % 8) as u32;
                assert!(simulator.run_until(LIMIT, |_| lock(&promises).answers >= goal));
                let more = Duration::from_micros(simulator.random_u64() % 20_000);
                simulator.run_for(more);
            } else {
                assert!(patience < LIMIT, "the broker does not serve");
            }
            if simulator.random_u64().is_multiple_of(3) {
                simulator.kill(BROKER);
            } else {
                simulator.power_cut(BROKER);
            }
            simulator.kill(CLIENT);
        }
        let _broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
        last_check(&mut simulator, &promises);
    });
}

/// What a client of [`dies_after`] does last.
#[derive(Debug, Clone, Copy)]
enum Last {
    Create,
    Delete,
    ProducerId,
}

/// A client has a topic, and asks for one thing more; the broker dies `events` after that. Whether it was answered.
fn dies_after(events: u64, last: Last, is_power_cut: bool) -> bool {
    let mut simulator = simulator(7);
    let promises = Shared::default();
    let broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
    let is_asking = Arc::new(Mutex::new(false));
    let (told, asks) = (promises.clone(), is_asking.clone());
    simulator.start(CLIENT, CLIENT_MEMORY_BYTES, move || async move {
        let client = connect().await.expect("a broker that serves");
        let name = create(&client, &told).await.expect("a broker that serves");
        check(&client, &told, 0).await.expect("a broker that serves");
        *asks.lock().expect("no panic") = true;
        // It ends with the broker's life, or before.
        let _ = match last {
            Last::Create => create(&client, &told).await.map(drop),
            Last::Delete => delete(&client, &told, &name).await,
            Last::ProducerId => producer_id(&client, &told, 1_001).await,
        };
    });
    assert!(simulator.run_until(LIMIT, |_| *is_asking.lock().expect("no panic")));
    let mut left = events;
    let is_answered = |promises: &Shared| lock(promises).answers == 2;
    simulator.run_until(LIMIT, |_| {
        let is_over = left == 0 || is_answered(&promises);
        left = left.saturating_sub(1);
        is_over
    });
    let was_answered = is_answered(&promises);
    if is_power_cut {
        simulator.power_cut(BROKER);
    } else {
        simulator.kill(BROKER);
    }
    drop(broker);
    simulator.kill(CLIENT);
    let _broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
    last_check(&mut simulator, &promises);
    was_answered
}

#[test]
fn a_death_after_any_event_of_a_request_leaves_it_done_or_not_begun() {
    for last in [Last::Create, Last::Delete, Last::ProducerId] {
        for is_power_cut in [false, true] {
            let mut events = 0;
            while !dies_after(events, last, is_power_cut) {
                events += 1;
            }
            assert!(events > 20, "{last:?} is answered after {events} events");
        }
    }
}

#[test]
fn a_stop_leaves_no_request_without_an_answer() {
    for_each_seed(0..24, |seed| {
        let mut simulator = simulator(seed);
        let broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
        let promises = Shared::default();
        let told = promises.clone();
        simulator.start(CLIENT, CLIENT_MEMORY_BYTES, move || async move {
            let client = connect().await.expect("a broker that serves");
            for number in 0..8 {
                let (client, told) = (client.clone(), told.clone());
                spawn(Class::Latency, async move {
                    for next in 0.. {
                        match ask_for_topic(&client, &format!("t{number}-{next}"), PARTITIONS).await {
                            Ok((ErrorCode::None, _)) => lock(&told).answers += 1,
                            Ok((code, _)) => {
                                // It waited as the stop began, or it came after that.
                                let refused = [ErrorCode::BrokerNotAvailable, ErrorCode::RequestTimedOut];
                                assert!(refused.contains(&code), "{code:?}");
                                return;
                            }
                            Err(_closed) => return,
                        }
                    }
                })
                .detach();
            }
            ring::timer::sleep(LIMIT).await;
        });
        let goal = 20 + (simulator.random_u64() % 20) as u32;
        assert!(simulator.run_until(LIMIT, |_| lock(&promises).answers >= goal));
        broker.stop.try_send(()).expect("it runs");
        let has_ended = |_: &Simulator| broker.ended.lock().expect("no panic").is_some();
        let is_prompt = simulator.run_until(Duration::from_secs(2), has_ended);
        assert!(is_prompt, "it waits for answers that nobody gives");
        let ended = broker.ended.lock().expect("no panic").take();
        let lines = ended.expect("it has ended").expect("a clean stop");
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("shard=1 ") && lines[1].ends_with(" misrouted_data_requests=0"));
    });
}

#[test]
fn a_full_disk_takes_some_changes_and_keeps_nobody_from_stopping() {
    for_each_seed(0..8, |seed| {
        let mut simulator = simulator(seed);
        let broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
        let used = DISK_BYTES - simulator.disk_bytes_free(BROKER);
        simulator.set_disk_bytes(BROKER, used);
        let promises = Shared::default();
        let told = promises.clone();
        simulator.start(CLIENT, CLIENT_MEMORY_BYTES, move || async move {
            let client = connect().await.expect("a broker that serves");
            while create(&client, &told).await.is_ok() {}
            ring::timer::sleep(LIMIT).await;
        });
        simulator.run_for(Duration::from_secs(10));
        let answers = lock(&promises).answers;
        assert!(answers >= 32, "{answers} topics were created");
        simulator.run_for(Duration::from_secs(10));
        assert_eq!(lock(&promises).answers, answers, "it was not full");
        let has_ended = |_: &Simulator| broker.ended.lock().expect("no panic").is_some();
        assert!(!has_ended(&simulator), "a full disk ends it");
        broker.stop.try_send(()).expect("it runs");
        let is_prompt = simulator.run_until(Duration::from_secs(5), has_ended);
        assert!(is_prompt, "it waits for room that nobody makes");
        let ended = broker.ended.lock().expect("no panic").take();
        let error = ended.expect("it has ended").expect_err("a change was not made");
        assert!(error.contains("space"), "{error}");
        // With room what was answered is there.
        simulator.kill(CLIENT);
        assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(BROKER)));
        simulator.set_disk_bytes(BROKER, DISK_BYTES);
        let _broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
        last_check(&mut simulator, &promises);
    });
}

#[test]
fn what_is_left_of_deleted_partitions_goes_when_the_broker_serves_and_keeps_nobody_from_stopping_it() {
    const FILES: u64 = 2_000;
    let directory = std::path::Path::new("/data/gone-0.0000000000000000000000000000002a-delete");
    let mut simulator = simulator(5);
    let made = simulator.run(BROKER, CLIENT_MEMORY_BYTES, LIMIT, move || async move {
        ring::directory::create_all(directory).await.expect("made");
        for file in 0..FILES {
            let options = ring::file::OpenOptions {
                write: true,
                create: true,
                ..ring::file::OpenOptions::default()
            };
            let path = directory.join(format!("{file:020}.log"));
            ring::file::File::open(&path, options).await.expect("made");
        }
    });
    made.expect("it ends");
    let left = |simulator: &Simulator| {
        let files = simulator.files(BROKER);
        files.iter().filter(|(path, _)| path.contains("-delete/")).count() as u64
    };
    let mut before = FILES;
    while before > 0 {
        let broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
        assert!(left(&simulator) > before / 2, "the start has waited");
        // A half of them in each life, until there are few.
        let goal = if before > FILES / 4 { before / 2 } else { 0 };
        assert!(simulator.run_until(LIMIT, |simulator| left(simulator) <= goal));
        broker.stop.try_send(()).expect("it runs");
        let has_ended = |_: &Simulator| broker.ended.lock().expect("no panic").is_some();
        assert!(simulator.run_until(LIMIT, has_ended));
        before = left(&simulator);
        assert!(goal == 0 || before > goal / 2, "the stop has waited");
    }
}

/// Why a host does not start.
fn refusal(simulator: &mut Simulator, options: HostOptions) -> String {
    let memory_bytes = options.control_memory_bytes();
    let ended = simulator.run(BROKER, memory_bytes, LIMIT, move || async move {
        let (_stop, stopped) = bounded(1);
        let (ready, _) = oneshot();
        let (_probes, probed) = bounded(1);
        run(options, stopped, ready, probed).await
    });
    ended.expect("it ends").expect_err("it is refused")
}

#[test]
fn another_node_id_is_refused_and_so_is_damaged_metadata() {
    let mut simulator = simulator(3);
    let broker = start_broker(&mut simulator, 2, LIMIT).expect("a start");
    broker.stop.try_send(()).expect("it runs");
    assert!(simulator.run_until(LIMIT, |simulator| !simulator.is_running(BROKER)));
    let mut other = options(2);
    other
        .settings
        .take_assignment("node.id=2")
        .expect("a good setting");
    let error = refusal(&mut simulator, other);
    assert!(
        error.contains("node.id 1") && error.contains("node.id=1"),
        "{error}"
    );
    simulator
        .flip_bit(BROKER, "/data/metadata/log", 4_096 + 9, 3)
        .expect("a file");
    let error = refusal(&mut simulator, options(2));
    assert!(
        error.contains("/data/metadata/log is damaged at offset"),
        "{error}"
    );
}
