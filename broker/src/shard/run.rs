//! A shard's life: bind, open, serve, install image after image, stop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use net::ConnectionLimits;
use ring::channel::Answer;
use ring::executor::{Class, Task, spawn};
use ring::local::{Semaphore, Signal};
use ring::socket::TcpListener;
use storage::{PartitionSpec, ScrubFinding, ShardLog, TopicPartition};

use crate::api::fetch_room::FetchRoom;
use crate::config::{Settings, table};
use crate::controller::image::{Image, Topic};
use crate::controller::request::ControllerRequest;
use crate::group::coordinators::Coordinators;
use crate::shard::context::{
    AnnouncedVersion, DirectoryFailure, LiveSettings, ShardCommand, ShardContext, ShardDirectory,
    ShardSettings, TopicSettings, spec,
};
use crate::shard::failures::ReadFailures;
use crate::shard::logs::Logs;
use crate::shard::probe::{Life, answer_probes};
use crate::shard::world::led_partitions;
use crate::shard::{Control, Counters, PARTITIONS_MAX, RECOMPRESSIONS_MAX, SessionCache, Shard, World};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How long a port may be in use before that is an error: far longer than the kernel needs after a kill.
const PORT_WAIT: Duration = Duration::from_secs(2);
/// How long partitions may take to be made or dropped in a log directory without which the host can go on: longer than a disk
/// stands still that is not lost.
const DIRECTORY_WAIT: Duration = Duration::from_secs(30);
/// How soon it is tried again.
const PORT_RETRY: Duration = Duration::from_millis(10);

/// Runs a shard to its end: the body of its thread.
pub async fn run(context: ShardContext) {
    let ShardContext {
        listen,
        bound,
        mut commands,
        probes,
        ..
    } = context;
    let life = Rc::new(Life::default());
    spawn(Class::Background, answer_probes(probes, life.clone())).detach();
    let listener = match bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            let _nobody_asks = bound.give(Err(format!("cannot listen on {listen}: {error}")));
            return;
        }
    };
    let _nobody_asks = bound.give(Ok(listener.local_address()));
    let parts = Parts {
        node_id: context.node_id,
        settings: context.settings,
        control: Rc::new(Control::new(context.controller.clone())),
        announced: context.announced,
    };
    let Some(ShardCommand::Open { image, done }) = commands.receive().await else {
        return; // stopped before it began
    };
    let (directories, offline) = (context.directories, context.offline_directories);
    let (shard, failures) = match open(parts, directories, offline, image).await {
        Ok(opened) => opened,
        Err(error) => {
            let _nobody_asks = done.give(Err(error));
            return;
        }
    };
    let _set_once = life.shard.set(shard.clone());
    let _nobody_asks = done.give(Ok(failures));
    let number = context.shard;
    spawn(Class::Background, report_clock(shard.logs.first(), number)).detach();
    for (directory, log) in shard.logs.online() {
        let whose = format!("shard {number}, {}", log.directory().display());
        spawn(
            Class::Background,
            report_failure(shard.clone(), directory, log.clone()),
        )
        .detach();
        spawn(Class::Background, report_compaction(log.clone(), whose.clone())).detach();
        spawn(Class::Background, report_hold_up(log.clone(), whose)).detach();
        spawn(Class::Background, report_findings(log)).detach();
    }

    let mut listener = Some(listener);
    let mut serving = None;
    let shutdown = Signal::new();
    while let Some(command) = commands.receive().await {
        match command {
            ShardCommand::Open { done, .. } => {
                let _nobody_asks = done.give(Err("the shard is open already".to_owned()));
            }
            ShardCommand::Serve { done } => {
                if let Some(listener) = listener.take() {
                    let server = net::server::serve(
                        listener,
                        Rc::new(shard.settings.limits.clone()),
                        shard.clone(),
                        shutdown.clone(),
                        shard.traffic.clone(),
                    );
                    serving = Some(spawn(Class::Latency, server));
                    life.is_serving.set(true);
                }
                let _nobody_asks = done.give(());
            }
            ShardCommand::Install { image, done } => {
                let _nobody_asks = done.give(shard.install(image).await);
            }
            ShardCommand::Stop { done } => {
                stop(&shard, serving, &shutdown, done).await;
                return;
            }
        }
    }
}

/// Tells the control thread when the log takes no more: nothing that is in its directory can be written then.
async fn report_failure(shard: Rc<Shard>, directory: u128, log: ShardLog) {
    let reason = log.failed().await.to_string();
    let failure = DirectoryFailure { directory, reason };
    shard.control.tell(ControllerRequest::DirectoryFailed(failure));
}

/// Tells the operator which logs cannot be compacted.
async fn report_compaction(log: ShardLog, whose: String) {
    loop {
        let report = log.compaction_report().await;
        let again = if report.is_final {
            "It is not tried again until the next start"
        } else {
            "It is tried again"
        };
        eprintln!(
            "millstream: {whose}: partition {} was not compacted: {}. {again}",
            report.partition, report.error
        );
    }
}

/// Tells the operator when no segment can be written because the disk is full, or no file can be opened; and when they can
/// again.
async fn report_hold_up(log: ShardLog, whose: String) {
    loop {
        let Some(error) = log.hold_up_turn(false).await else {
            continue;
        };
        let (what, remedy, end) = if error.is_short_of_descriptors() {
            let remedy = "Raise `ulimit -n` or fs.file-max, or end what else opens so many files";
            ("no file can be opened", remedy, "files can be opened again")
        } else {
            let remedy = "Delete records or topics, lower a retention, or enlarge the volume";
            ("the disk is full", remedy, "the disk has room again")
        };
        eprintln!(
            "millstream: {whose}: {what}: {error}. What is acknowledged is safe, and readers are served; when the journal is \
             full too, producers are told to come again (REQUEST_TIMED_OUT). {remedy}: the shard goes on by itself"
        );
        log.hold_up_turn(true).await;
        eprintln!("millstream: {whose}: {end}");
    }
}

/// Tells the operator when the wall clock jumps: what is removed by its age is not removed by that, at first.
async fn report_clock(log: ShardLog, shard: u32) {
    loop {
        let seconds = log.wall_clock_turn(false).await / 1_000;
        eprintln!(
            "millstream: shard {shard}: the wall clock has jumped by {seconds} s. Until it has kept its time for an hour, \
             records grow old as if it had not. Look at the host's clock"
        );
        log.wall_clock_turn(true).await;
        eprintln!("millstream: shard {shard}: records grow old by the wall clock again");
    }
}

/// Tells the operator what is wrong in segments that nobody may have asked for since, each place once.
async fn report_findings(log: ShardLog) {
    loop {
        let ScrubFinding { partition, finding } = log.next_finding().await;
        let at = finding
            .position
            .map_or(String::new(), |position| format!(" at byte {position}"));
        tracing::warn!(
            %partition,
            "the scrubber found {} in {}{at}: {}. Do this: {}",
            finding.severity,
            log.directory().join(&finding.path).display(),
            finding.what,
            finding.next
        );
    }
}

/// Listens on `address`. A process that was killed leaves its port a moment after its end: the kernel takes its ring
/// apart in the background, and the listener with it.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = ring::clock::now() + PORT_WAIT;
    loop {
        match TcpListener::bind(address, BACKLOG).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && ring::clock::now() < deadline => {
                ring::timer::sleep(PORT_RETRY).await;
            }
            bound => return bound,
        }
    }
}

async fn stop(
    shard: &Rc<Shard>,
    serving: Option<Task<()>>,
    shutdown: &Signal,
    done: Answer<Result<String, String>>,
) {
    shard.stopping.set(true);
    shard.world_moved.notify_all();
    shard.coordinators.stop();
    shutdown.notify_all();
    if let Some(serving) = serving {
        serving.await;
    }
    let logs = shard.logs.online().map(|(directory, log)| {
        let stopped = spawn(Class::Latency, async move {
            log.stop().await.map_err(|error| error.to_string())
        });
        (directory, stopped)
    });
    let mut stopped = Ok(());
    for (directory, task) in logs.collect::<Vec<_>>() {
        match task.await {
            Err(error) if shard.logs.is_first(directory) => stopped = Err(error),
            Err(error) => eprintln!("millstream: {error}; the next start recovers what is there"),
            Ok(()) => {}
        }
    }
    let _nobody_asks = done.give(stopped.map(|()| shard.counters.to_string()));
}

/// What a shard is made of, beside its log and its image.
struct Parts {
    node_id: i32,
    settings: Arc<ShardSettings>,
    control: Rc<Control>,
    announced: AnnouncedVersion,
}

/// The shard, and the log directories that it cannot use.
async fn open(
    parts: Parts,
    directories: Vec<ShardDirectory>,
    offline: Vec<PathBuf>,
    image: Arc<Image>,
) -> Result<(Rc<Shard>, Vec<DirectoryFailure>), String> {
    let live = LiveSettings::new(&parts.settings.started, &image.broker_configs, parts.node_id);
    let specs = image
        .topics_by_id
        .values()
        .flat_map(|topic| specs(topic, parts.node_id, &live.topics));
    let (logs, strays, failures) = Logs::open(directories, offline, specs.collect(), &image).await?;
    for stray in strays {
        eprintln!(
            "millstream: no metadata knows the partition in {stray}: its directory was set aside as a stray"
        );
    }
    let connections = Rc::new(ConnectionLimits::default());
    take_settings(&live.all, &connections, &logs);
    let world = World::new(image, Rc::new(live), parts.node_id, None, |id| logs.partition(id));
    let coordinators = Coordinators::new(parts.settings.groups);
    drop(coordinators.follow(None, &world, parts.node_id));
    let shard = Rc::new(Shard {
        node_id: parts.node_id,
        sessions: RefCell::new(SessionCache::new(
            parts.settings.fetch_session_slots,
            PARTITIONS_MAX,
        )),
        fetch_room: FetchRoom::new(parts.settings.fetch_memory_bytes),
        settings: parts.settings,
        counters: Counters::default(),
        read_failures: ReadFailures::default(),
        control: parts.control,
        coordinators,
        traffic: Rc::default(),
        connections,
        produce_answer: Cell::default(),
        logs,
        world: RefCell::new(Rc::new(world)),
        world_moved: Signal::new(),
        announced: parts.announced,
        recompressions: Semaphore::new(RECOMPRESSIONS_MAX),
        stopping: Cell::new(false),
    });
    Ok((shard, failures))
}

impl Shard {
    /// Takes a newer image: opens what this node now leads, shows the image, drops what was deleted. Gives the directories
    /// in which that failed.
    async fn install(&self, image: Arc<Image>) -> Result<Vec<DirectoryFailure>, String> {
        let before = self.world();
        if image.version <= before.image.version {
            return Ok(Vec::new());
        }
        let settings = if image.broker_configs == before.image.broker_configs {
            before.settings.clone()
        } else {
            let started = &self.settings.started;
            Rc::new(LiveSettings::new(started, &image.broker_configs, self.node_id))
        };
        self.logs.follow(&image, self.node_id);
        let mut failures = self.open_partitions(&before, &image, &settings).await?;
        take_settings(&settings.all, &self.connections, &self.logs);
        let after = World::new(image.clone(), settings, self.node_id, Some(&before), |id| {
            self.logs.partition(id)
        });
        let deleting = self.coordinators.follow(Some(&before), &after, self.node_id);
        *self.world.borrow_mut() = Rc::new(after);
        self.world_moved.notify_all();
        let deleting = deleting.into_iter().map(|(directory, deleted)| {
            let deleted = spawn(Class::Latency, async move {
                // What could not be written is a log that has failed, which is told elsewhere.
                let _ = deleted.await;
                Ok(())
            });
            (directory, deleted)
        });
        failures.extend(self.all_or_offline(deleting.collect()).await?);
        failures.extend(self.drop_partitions(&before, &image).await?);
        Ok(failures)
    }

    /// Opens the partitions that `image` gives to this node, all at once: their flushes are one group's. Those that are
    /// open take their settings.
    async fn open_partitions(
        &self,
        before: &World,
        image: &Image,
        settings: &LiveSettings,
    ) -> Result<Vec<DirectoryFailure>, String> {
        let mut opening = Vec::new();
        let same_defaults = settings.topics == before.settings.topics;
        for (id, topic) in &image.topics_by_id {
            let known = before.image.topics_by_id.get(id);
            if same_defaults && known.is_some_and(|known| Arc::ptr_eq(known, topic)) {
                continue;
            }
            for (directory, spec) in specs(topic, self.node_id, &settings.topics) {
                let Some(log) = self.logs.in_directory(directory) else {
                    continue;
                };
                match log.partition(spec.id) {
                    Some(partition) => {
                        partition.set_leader_epoch(spec.leader_epoch);
                        partition.set_config(spec.config);
                    }
                    None => {
                        let opened = spawn(Class::Latency, async move {
                            let name = format!("{}-{}", spec.topic, spec.id.partition);
                            let opened = log.create_partition(spec).await;
                            opened
                                .map(drop)
                                .map_err(|error| format!("cannot open {name}: {error}"))
                        });
                        opening.push((directory, opened));
                    }
                }
            }
        }
        self.all_or_offline(opening).await
    }

    /// Drops the partitions of the topics that are gone from `image`.
    async fn drop_partitions(&self, before: &World, image: &Image) -> Result<Vec<DirectoryFailure>, String> {
        let mut dropping = Vec::new();
        for (&topic_id, topic) in &before.image.topics_by_id {
            if image.topics_by_id.contains_key(&topic_id) {
                continue;
            }
            for (partition, state) in led_partitions(topic, self.node_id) {
                let directory = state.directory();
                let Some(log) = self.logs.in_directory(directory) else {
                    continue;
                };
                let name = format!("{}-{partition}", topic.name);
                let dropped = spawn(Class::Latency, async move {
                    let dropped = log.drop_partition(TopicPartition { topic_id, partition }).await;
                    dropped.map_err(|error| format!("cannot drop {name}: {error}"))
                });
                dropping.push((directory, dropped));
            }
        }
        self.all_or_offline(dropping).await
    }

    /// Waits for what is done in each directory, and gives those in which it failed, or is not done for too long. What fails in
    /// the first is the answer.
    async fn all_or_offline(
        &self,
        tasks: Vec<(u128, Task<Result<(), String>>)>,
    ) -> Result<Vec<DirectoryFailure>, String> {
        let deadline = ring::clock::now() + DIRECTORY_WAIT;
        let (first, others): (Vec<_>, Vec<_>) =
            (tasks.into_iter()).partition(|(directory, _)| self.logs.is_first(*directory));
        let mut failures = BTreeMap::new();
        for (directory, task) in others {
            let left = deadline - ring::clock::now();
            let ended = ring::timer::timeout(left, task).await;
            let ended = ended.unwrap_or_else(|_| {
                let seconds = DIRECTORY_WAIT.as_secs();
                Err(format!("what is asked of its disk is not done after {seconds} s"))
            });
            if let Err(reason) = ended {
                failures.entry(directory).or_insert(reason);
            }
        }
        let mut result = Ok(());
        for (_, task) in first {
            let ended = task.await;
            result = result.and(ended);
        }
        result?;
        let failures = failures.into_iter();
        Ok(failures
            .map(|(directory, reason)| DirectoryFailure { directory, reason })
            .collect())
    }
}

/// What of the settings holds for the shard as a whole, and not for a topic.
fn take_settings(settings: &Settings, connections: &ConnectionLimits, logs: &Logs) {
    connections.set(
        settings.usize(&table::MAX_CONNECTIONS),
        settings.usize(&table::MAX_CONNECTIONS_PER_IP),
    );
    for (_, log) in logs.online() {
        log.set_file_delete_delay(settings.file_delete_delay());
        log.set_producer_expiration(settings.producer_expiration());
        log.set_cleaner(settings.cleaner());
    }
}

/// The partitions of `topic` that the node leads, as their logs open them, each with its directory.
fn specs(
    topic: &Topic,
    node_id: i32,
    defaults: &TopicSettings,
) -> impl Iterator<Item = (u128, PartitionSpec)> {
    let config = TopicSettings::of(topic, defaults).partition;
    led_partitions(topic, node_id).map(move |(partition, state)| spec(topic, partition, state, config))
}
