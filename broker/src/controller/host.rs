//! The control thread: starts the host's shards, and gives them image after image.
//!
//! Owns the log directories' locks, the metadata log and the shards' threads. The order of a start: directories, metadata
//! log, one record that raises every leader epoch, journals as many as shards, listeners, logs, clients. Promises that
//! a request is answered only when what it did is durable and installed on every shard.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ring::channel::{Answer, Receiver, Sender, bounded, oneshot};
use ring::executor::{Class, Task, spawn};
use ring::thread::ThreadOptions;
use storage::{
    DirectoryOptions, KnownTopics, Layout, LogDirectory, PartitionSpec, ShardOptions, TopicPartition,
};
use wire::ErrorCode;

use crate::config::table;
use crate::controller::decide::{self, Cluster};
use crate::controller::directories::{self, Directories};
use crate::controller::image::{Image, NODES_PER_HOST, Node, Topic};
use crate::controller::raft::{MetadataError, MetadataLog};
use crate::controller::record::MetadataRecord;
use crate::controller::request::{
    Altered, ControllerRequest, CreatedTopic, DeletedTopic, NewTopic, TopicReference,
};
use crate::controller::roster::{self, HostCondition, Roster, Stage};
use crate::controller::state::Metadata;
use crate::controller::takeover::Found;
use crate::controller::unflushed::Unflushed;
use crate::controller::{alter, alter_configs};
use crate::shard::context::{
    self, AnnouncedVersion, COMMANDS_MAX, DirectoryFailure, ShardCommand, ShardContext, ShardDirectory,
    TopicSettings,
};
use crate::shard::probe::PROBES_MAX;

mod options;
#[cfg(test)]
mod tests;

pub use self::options::HostOptions;

/// Requests of all shards that may wait: more are told to come again.
const REQUESTS_MAX: usize = 1_024;
/// Deleted topics that are forgotten with one entry of the metadata log: far below its largest.
const DROPPED_AT_ONCE: usize = 100_000;

/// Runs a host until `stop` says so. `ready` is given the addresses when clients can connect; `probes` are answered all
/// the while; a clean stop returns each shard's line of counters.
///
/// # Errors
/// What kept it from starting, or from going on; in words for its operator.
pub async fn run(
    options: HostOptions,
    mut stop: Receiver<()>,
    ready: Answer<Vec<SocketAddr>>,
    probes: Receiver<Answer<HostCondition>>,
) -> Result<Vec<String>, String> {
    let (to_host, requests) = bounded(REQUESTS_MAX);
    let roster = Rc::new(Roster::default());
    spawn(Class::Latency, roster::answer_probes(probes, roster.clone())).detach();
    let mut host = Host::open(options, roster).await?;
    let ended = match host.start(to_host).await {
        Ok(()) => {
            let _nobody_asks = ready.give(host.addresses.clone());
            host.work(requests, &mut stop).await
        }
        Err(error) => Err(error),
    };
    host.metadata.close().await;
    ended
}

/// The next request; `None` when it is time to stop.
async fn next(
    requests: &mut Receiver<ControllerRequest>,
    stop: &mut Receiver<()>,
) -> Option<ControllerRequest> {
    let mut request = pin!(requests.receive());
    let mut stopped = pin!(stop.receive());
    poll_fn(|context| {
        if stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        request.as_mut().poll(context)
    })
    .await
}

struct Host {
    options: HostOptions,
    metadata: MetadataLog,
    /// Removes what is left of deleted partitions.
    removing: Option<Task<()>>,
    /// What is taken over from Kafka.
    found: Option<Found>,
    /// The log directory that is given up with this start.
    given_up: Option<u128>,
    directories: Directories,
    nodes: Vec<Node>,
    addresses: Vec<SocketAddr>,
    shards: Vec<Sender<ShardCommand>>,
    announced: AnnouncedVersion,
    roster: Rc<Roster>,
    unflushed: Unflushed,
}

impl Host {
    /// Takes the directories and reads the metadata log. There are no shards yet.
    async fn open(options: HostOptions, roster: Rc<Roster>) -> Result<Host, String> {
        let settings = &options.settings;
        directories::check_order(&options.log_directories).await?;
        let (path, others) = options.log_directories.split_first().expect("there is one");
        let mut first = LogDirectory::open(
            path,
            DirectoryOptions {
                journal_bytes: settings.integer(&table::JOURNAL_BYTES).unsigned_abs(),
                new_cluster_id: ring::random::next_u128(),
                new_directory_id: ring::random::next_u128(),
                memory_bytes: options.log_memory_bytes(),
            },
        )
        .await
        .map_err(|error| error.to_string())?;
        directories::check_first(&first).await?;
        if first.is_of_kafka().await.map_err(|error| error.to_string())? {
            if options.given_up_directory.is_some() {
                return Err(
                    "a directory that Kafka wrote has no other to give up: leave --give-up-directory out"
                        .to_owned(),
                );
            }
            directories::check_beside_kafka(&first, others).await?;
        }
        let found = Found::read(&mut first, settings).await?;
        let host_id = settings.i32(&table::NODE_ID);
        let metadata = MetadataLog::open(path, host_id.unsigned_abs().into())
            .await
            .map_err(|error| error.to_string())?;
        let mut known = metadata.with(|metadata| metadata.directories_of(host_id));
        let mut given_up = None;
        if let Some(id) = options.given_up_directory {
            if known.give_up(id)? {
                given_up = Some(id);
            } else {
                let id = storage::to_base64(id);
                eprintln!("millstream: the metadata knows no log directory {id}: nothing is given up now");
            }
        }
        let directories = Directories::open(first, others, &known, given_up).await?;
        Ok(Host {
            metadata,
            removing: None,
            found,
            given_up,
            directories,
            nodes: Vec::new(),
            addresses: Vec::new(),
            shards: Vec::new(),
            announced: AnnouncedVersion::default(),
            roster,
            unflushed: Unflushed::default(),
            options,
        })
    }

    /// From the directory and the metadata to shards that serve.
    async fn start(&mut self, requests: Sender<ControllerRequest>) -> Result<(), String> {
        let host_id = self.options.settings.i32(&table::NODE_ID);
        let shards = self.options.shards();
        if let Some(found) = self.found.take() {
            let settings = &self.options.settings;
            found.propose(&self.metadata, settings, host_id, shards).await?;
        }
        let directories = self.directories.named();
        let (records, lost) = self.metadata.with(|metadata| {
            let records = decide::start(metadata, host_id, shards, directories.clone(), self.given_up);
            let lost = self.given_up.map(|id| (id, metadata.partitions_in(host_id, id)));
            (records, lost)
        });
        self.propose(records).await?;
        if let Some((id, partitions)) = lost {
            let id = storage::to_base64(id);
            eprintln!(
                "millstream: log directory {id} is given up: {partitions} partitions begin anew, and empty"
            );
        }
        self.roster.stage.set(Stage::Journals);
        self.prepare_journals(host_id).await?;
        if self.directories.named() != directories {
            self.propose(vec![self.directories_known()]).await?;
        }
        self.roster.stage.set(Stage::Recovering);
        self.start_shards(host_id, &requests).await?;
        self.open_shards().await?;
        self.remove_leftovers().await?;
        self.roster.stage.set(Stage::Serving);
        Ok(())
    }

    /// Begins to remove what is left of deleted partitions, however much that is: nobody waits for it.
    async fn remove_leftovers(&mut self) -> Result<(), String> {
        let leftovers = self.directories.leftovers().await?;
        self.removing = Some(spawn(Class::Background, async move {
            for leftovers in leftovers {
                if let Err(error) = leftovers.remove().await {
                    eprintln!(
                        "millstream: {error}; a deleted partition keeps its space until the next start tries again"
                    );
                }
            }
        }));
        Ok(())
    }

    /// Does what shards ask for, until it is time to stop.
    async fn work(
        &mut self,
        mut requests: Receiver<ControllerRequest>,
        stop: &mut Receiver<()>,
    ) -> Result<Vec<String>, String> {
        let waits_for_room = self.metadata.waits_for_room();
        waits_for_room.set(true);
        while let Some(request) = next(&mut requests, stop).await {
            let mut stopped = pin!(stop.receive());
            let mut is_stopped = false;
            let mut handled = pin!(self.handle(request));
            poll_fn(|context| {
                if !is_stopped && stopped.as_mut().poll(context).is_ready() {
                    is_stopped = true;
                    waits_for_room.set(false);
                }
                handled.as_mut().poll(context)
            })
            .await?;
            if is_stopped {
                break;
            }
        }
        // At the name that it is at: the next start finds the rest.
        drop(self.removing.take());
        // Those that wait in it learn that nobody answers them: shards do not stop before they have.
        drop(requests);
        self.stop().await
    }

    /// As many journals as shards in each directory, each with the partitions that the metadata gives its shard.
    async fn prepare_journals(&mut self, host_id: i32) -> Result<(), String> {
        let image = self.image();
        let first = host_id * NODES_PER_HOST;
        let nodes = first..first + i32::try_from(self.options.shards()).expect("a bounded number");
        let defaults: BTreeMap<i32, TopicSettings> = nodes
            .map(|node| {
                let settings = self.options.settings.changed_by(&image.broker_configs, node);
                (node, TopicSettings::defaults(&settings))
            })
            .collect();
        let config = |topic: &Topic, leader: i32| {
            let defaults = defaults.get(&leader).unwrap_or(&defaults[&first]);
            TopicSettings::of(topic, defaults).partition
        };
        let live: Vec<(u128, PartitionSpec)> = image
            .topics_by_id
            .values()
            .flat_map(|topic| {
                let partitions = (0..).zip(&topic.partitions);
                partitions.map(|(partition, state)| {
                    context::spec(topic, partition, state, config(topic, state.leader))
                })
            })
            .collect();
        let shard_of = |id: TopicPartition| {
            let topic = image.topics_by_id.get(&id.topic_id);
            let state = topic.and_then(|topic| topic.partitions.get(usize::try_from(id.partition).ok()?));
            state.map_or(0, |state| {
                (state.leader - host_id * NODES_PER_HOST).unsigned_abs()
            })
        };
        let host = self.metadata.with(|metadata| metadata.host);
        let layout = Layout {
            shards: self.options.shards(),
            number: host.map_or(0, |host| host.layout),
        };
        let topics = KnownTopics {
            live: &image.topics_by_id.keys().copied().collect(),
            deleted: &image.deleted_topics,
        };
        let preparing = self.directories.prepare_shards(layout, live, topics, shard_of);
        preparing.await
    }

    /// Which log directories there are now, for the metadata.
    fn directories_known(&self) -> MetadataRecord {
        MetadataRecord::DirectoriesKnown {
            host_id: self.options.settings.i32(&table::NODE_ID),
            directories: self.directories.named(),
        }
    }

    /// How a shard opens its log in each directory that is online.
    fn shard_directories(&self, shard: u32) -> Vec<ShardDirectory> {
        let settings = &self.options.settings;
        let online = self.directories.online_paths().into_iter();
        let of = |(id, directory)| ShardDirectory {
            id,
            storage: ShardOptions {
                directory,
                shard,
                memory_bytes: self.options.log_memory_bytes(),
                direct_bytes_min: settings.direct_bytes_min(),
                open_files_max: self.options.open_files_max(),
                file_delete_delay: settings.file_delete_delay(),
                retention_check_interval: settings.retention_check_interval(),
                scrub: settings.scrub(),
            },
        };
        online.map(of).collect()
    }

    /// Starts the shards' threads, and learns where they listen.
    async fn start_shards(
        &mut self,
        host_id: i32,
        requests: &Sender<ControllerRequest>,
    ) -> Result<(), String> {
        let settings = &self.options.settings;
        let address = settings.listen_address().map_err(|error| error.to_string())?;
        let ports = settings.shard_ports().map_err(|error| error.to_string())?;
        let advertised = settings.advertised_host().map_err(|error| error.to_string())?;
        let rack = Some(settings.text(&table::BROKER_RACK)).filter(|rack| !rack.is_empty());
        let shard_settings = Arc::new(self.options.shard_settings());
        let is_pinned = self.options.cpus.len() >= ports.len();
        let mut bound = Vec::with_capacity(ports.len());
        for (shard, port) in (0..).zip(ports) {
            let (commands, receiver) = bounded(COMMANDS_MAX);
            let (probes, probed) = bounded(PROBES_MAX);
            let (bind, awaited) = oneshot();
            let context = ShardContext {
                shard,
                node_id: host_id * NODES_PER_HOST + shard as i32,
                settings: shard_settings.clone(),
                listen: SocketAddr::new(address, port),
                directories: self.shard_directories(shard),
                offline_directories: self.directories.offline_paths(),
                bound: bind,
                commands: receiver,
                probes: probed,
                controller: requests.clone(),
                announced: self.announced.clone(),
            };
            let options = ThreadOptions {
                name: format!("shard-{shard}"),
                cpu: is_pinned.then(|| self.options.cpus[shard as usize]),
                memory_bytes: self.options.shard_memory_bytes(),
                prefault: self.options.settings.boolean(&table::MEMORY_PREFAULT),
                disks: self.options.disks(),
            };
            let thread = ring::thread::spawn(options, move || crate::shard::run(context));
            thread.map_err(|error| match error.kind() {
                std::io::ErrorKind::OutOfMemory => {
                    format!("{error}: lower memory.bytes, or start without memory.prefault")
                }
                _ => error.to_string(),
            })?;
            self.shards.push(commands);
            self.roster.shards.borrow_mut().push(probes);
            bound.push(awaited);
        }
        for (shard, awaited) in (0..).zip(bound) {
            let listening = awaited
                .await
                .map_err(|_| format!("shard {shard} ended while it started"))??;
            self.addresses.push(listening);
            self.nodes.push(Node {
                id: host_id * NODES_PER_HOST + shard,
                host: advertised.to_owned(),
                port: listening.port(),
                rack: Some(rack.unwrap_or(advertised).to_owned()),
            });
        }
        Ok(())
    }

    /// Opens every shard's log, and then every listener.
    async fn open_shards(&mut self) -> Result<(), String> {
        let image = Arc::new(self.image());
        self.warn_of_unflushed(&image);
        self.announced.announce(image.version);
        let opening = self.tell_all(|done| ShardCommand::Open {
            image: image.clone(),
            done,
        });
        let failures = opening.await?;
        self.take_offline(failures).await?;
        // Every journal has dropped what was deleted.
        self.forget_dropped().await?;
        let mut serving = Vec::new();
        for shard in &self.shards {
            let (done, awaited) = oneshot();
            let sent = shard.send(ShardCommand::Serve { done }).await;
            sent.map_err(|_| "a shard ended while it started".to_owned())?;
            serving.push(awaited);
        }
        for awaited in serving {
            awaited
                .await
                .map_err(|_| "a shard ended while it started".to_owned())?;
        }
        Ok(())
    }

    async fn handle(&mut self, request: ControllerRequest) -> Result<(), String> {
        match request {
            ControllerRequest::CreateTopics {
                topics,
                validate_only,
                answer,
            } => {
                let results = self.create_topics(&topics, validate_only).await?;
                let _nobody_waits = answer.give(results);
            }
            ControllerRequest::EnsureTopics { names, answer } => {
                let results = self.ensure_topics(&names).await?;
                let _nobody_waits = answer.give(results);
            }
            ControllerRequest::DeleteTopics { topics, answer } => {
                let results = self.delete_topics(&topics).await?;
                let _nobody_waits = answer.give(results);
            }
            ControllerRequest::CreatePartitions {
                topics,
                validate_only,
                answer,
            } => {
                let decided =
                    self.decide(|metadata, cluster| alter::create_partitions(metadata, cluster, &topics));
                let results = self.alter(decided, validate_only).await?;
                let _nobody_waits = answer.give(results);
            }
            ControllerRequest::AlterConfigs {
                resources,
                validate_only,
                answer,
            } => {
                let decided = self
                    .decide(|metadata, cluster| alter_configs::alter_configs(metadata, cluster, &resources));
                let results = self.alter(decided, validate_only).await?;
                let _nobody_waits = answer.give(results);
            }
            ControllerRequest::ProducerIds { answer } => {
                let block = match self.metadata.with(decide::lease_producer_ids) {
                    None => Err(ErrorCode::UnknownServerError),
                    Some((record, block)) => {
                        self.propose(vec![record]).await?;
                        Ok(block)
                    }
                };
                let _nobody_waits = answer.give(block);
            }
            ControllerRequest::DirectoryFailed(failure) => self.take_offline(vec![failure]).await?,
        }
        Ok(())
    }

    async fn create_topics(
        &mut self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<CreatedTopic>, String> {
        let (records, mut results) =
            self.decide(|metadata, cluster| decide::create_topics(metadata, cluster, topics, new_topic_id));
        if validate_only {
            results.iter_mut().for_each(|result| result.id = 0);
        } else if !self.change(records).await? {
            for result in results
                .iter_mut()
                .filter(|result| result.error_code == ErrorCode::None)
            {
                result.error_code = ErrorCode::PolicyViolation;
                result.error_message = Some(TOO_LARGE.to_owned());
            }
        }
        Ok(results)
    }

    async fn ensure_topics(&mut self, names: &[String]) -> Result<Vec<(String, ErrorCode)>, String> {
        let (records, mut results) =
            self.decide(|metadata, cluster| decide::ensure_topics(metadata, cluster, names, new_topic_id));
        if !self.change(records).await? {
            results
                .iter_mut()
                .for_each(|(_, error)| *error = ErrorCode::PolicyViolation);
        }
        Ok(results)
    }

    async fn delete_topics(&mut self, topics: &[TopicReference]) -> Result<Vec<DeletedTopic>, String> {
        let (records, mut results) = self
            .metadata
            .with(|metadata| decide::delete_topics(metadata, topics));
        if self.change(records).await? {
            // Every shard has dropped them, or the host has stopped.
            self.forget_dropped().await?;
        } else {
            for result in results
                .iter_mut()
                .filter(|result| result.error_code == ErrorCode::None)
            {
                result.error_code = ErrorCode::PolicyViolation;
                result.error_message = Some(TOO_LARGE.to_owned());
            }
        }
        Ok(results)
    }

    /// Forgets the topics that every journal has dropped. One that is not there now has not: it is told after a start with it.
    async fn forget_dropped(&self) -> Result<(), String> {
        if !self.directories.are_whole() {
            return Ok(());
        }
        let dropped = self.metadata.with(decide::forget_dropped);
        for some in dropped.chunks(DROPPED_AT_ONCE) {
            self.propose(some.to_vec()).await?;
        }
        Ok(())
    }

    /// A decision on the metadata as it is, with the settings of the node that is called the controller.
    fn decide<T>(&self, decide: impl FnOnce(&Metadata, &Cluster<'_>) -> T) -> T {
        let controller = self.nodes.first().map_or(-1, |node| node.id);
        self.metadata.with(|metadata| {
            let settings = &self.options.settings;
            let cluster = Cluster {
                nodes: &self.nodes,
                settings: &settings.changed_by(&metadata.broker_configs, controller),
            };
            decide(metadata, &cluster)
        })
    }

    /// Makes changes of what is there, unless it is only asked what would come of them.
    async fn alter(
        &mut self,
        decided: (Vec<MetadataRecord>, Vec<Altered>),
        validate_only: bool,
    ) -> Result<Vec<Altered>, String> {
        let (records, mut results) = decided;
        if !validate_only && !self.change(records).await? {
            for result in results
                .iter_mut()
                .filter(|result| result.error_code == ErrorCode::None)
            {
                result.error_code = ErrorCode::PolicyViolation;
                result.error_message = Some(TOO_LARGE.to_owned());
            }
        }
        Ok(results)
    }

    /// Writes records and installs what comes of them on every shard. `false`: they are too many for one entry, and
    /// nothing was written.
    async fn change(&mut self, records: Vec<MetadataRecord>) -> Result<bool, String> {
        if records.is_empty() {
            return Ok(true);
        }
        match self.metadata.propose(records).await {
            Ok(()) => {}
            Err(MetadataError::TooLarge { .. }) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
        let failures = self.install().await?;
        self.take_offline(failures).await?;
        Ok(true)
    }

    /// Has every shard take the metadata as it is now. Gives the log directories in which that failed.
    async fn install(&mut self) -> Result<Vec<DirectoryFailure>, String> {
        let image = Arc::new(self.image());
        self.warn_of_unflushed(&image);
        // Before the image is sent, so that a shard that is behind another knows that it is.
        self.announced.announce(image.version);
        let installing = self.tell_all(|done| ShardCommand::Install {
            image: image.clone(),
            done,
        });
        installing.await
    }

    /// Takes log directories offline, and those that fail meanwhile.
    async fn take_offline(&mut self, mut failures: Vec<DirectoryFailure>) -> Result<(), String> {
        while self.directories.fail(failures)? {
            self.propose(vec![self.directories_known()]).await?;
            failures = self.install().await?;
        }
        Ok(())
    }

    /// Tells the operator which topics are acknowledged before they are flushed, if that is new.
    fn warn_of_unflushed(&mut self, image: &Image) {
        let settings = &self.options.settings;
        let defaults = self.nodes.iter().map(|node| {
            let settings = settings.changed_by(&image.broker_configs, node.id);
            (
                node.id,
                settings.text(&table::LOG_FLUSH_INTERVAL_MESSAGES).to_owned(),
            )
        });
        for line in self.unflushed.news(image, defaults) {
            eprintln!("millstream: {line}");
        }
    }

    async fn propose(&self, records: Vec<MetadataRecord>) -> Result<(), String> {
        self.metadata
            .propose(records)
            .await
            .map_err(|error| error.to_string())
    }

    /// Gives every shard the command, and waits for all of them. Gives the log directories in which it failed.
    async fn tell_all(
        &self,
        command: impl Fn(Answer<Result<Vec<DirectoryFailure>, String>>) -> ShardCommand,
    ) -> Result<Vec<DirectoryFailure>, String> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for (number, shard) in self.shards.iter().enumerate() {
            let (done, awaited) = oneshot();
            let sent = shard.send(command(done)).await;
            sent.map_err(|_| format!("shard {number} has ended"))?;
            answers.push(awaited);
        }
        let mut failures = Vec::new();
        for (number, awaited) in answers.into_iter().enumerate() {
            let done = awaited.await.map_err(|_| format!("shard {number} has ended"))?;
            failures.extend(done.map_err(|error| format!("shard {number}: {error}"))?);
        }
        Ok(failures)
    }

    fn image(&self) -> Image {
        let version = self.metadata.version();
        let cluster_id = self.directories.cluster_id();
        self.metadata
            .with(|metadata| metadata.image(version, cluster_id, &self.nodes))
    }

    /// Every shard finishes what is in flight and seals its log.
    async fn stop(&self) -> Result<Vec<String>, String> {
        self.roster.stage.set(Stage::Stopping);
        let mut stopping = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (done, awaited) = oneshot();
            // One that has ended already is found below.
            let _ended = shard.send(ShardCommand::Stop { done }).await;
            stopping.push(awaited);
        }
        let mut lines = Vec::with_capacity(stopping.len());
        let mut result = Ok(());
        // All are waited for: one that cannot seal its log does not cut the others short.
        for (number, awaited) in stopping.into_iter().enumerate() {
            let stopped = awaited
                .await
                .map_err(|_| format!("shard {number} ended before it was stopped"))
                .and_then(|stopped| stopped.map_err(|error| format!("shard {number}: {error}")));
            match stopped {
                Ok(counters) => lines.push(format!("shard={number} {counters}")),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map(|()| lines)
    }
}

const TOO_LARGE: &str =
    "the request asks for more than one entry of the metadata log holds: ask for fewer at once";

/// An id that no topic ever had.
fn new_topic_id() -> u128 {
    loop {
        let id = ring::random::next_u128();
        // Kafka keeps the first ids for itself.
        if id > 100 {
            return id;
        }
    }
}
