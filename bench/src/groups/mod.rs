//! The binary `bench-groups`: consumer groups of the classic protocol without their consumers, as many as are asked for.
//!
//! Each member is a client of its own: a connection, JoinGroup, SyncGroup, Heartbeat, OffsetCommit. It shows how soon a
//! group settles after a member's death, and how many groups commit at once. Must never flatter: a generation in which
//! a partition is nobody's or two members', a commit that was acknowledged and is not there, and a request that failed
//! end it with an error.

mod ledger;
mod member;
mod protocol;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use net::client::{Client, ClientError};
use ring::channel;
use ring::clock;
use ring::executor::{self, Class, Task};
use ring::thread::{self, ThreadOptions};
use ring::timer::sleep;
use serde_json::{Value, json};
use wire::ApiKey;

use self::ledger::Ledger;
use self::member::{Member, Versions};
use crate::error::BenchError;
use crate::target::{Target, resolve};

/// Memory of the thread beside what its connections set aside, in bytes.
const SPARE_MEMORY_BYTES: usize = 64 << 20;
/// How often a group is looked at that has not settled.
const LOOK: Duration = Duration::from_millis(5);
/// Members that connect at once.
const CONNECTING_MAX: usize = 64;

/// Keeps consumer groups busy, and says how soon they settle and how fast they commit.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench-groups", version)]
pub struct GroupsArguments {
    /// Where to find the cluster: host:port, several with commas.
    #[arg(
        long,
        short = 'b',
        env = "BROKERS",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092"
    )]
    pub brokers: Vec<String>,
    /// The topic that they share out. One that is missing is created.
    #[arg(long, short = 't', default_value = "bench-groups")]
    pub topic: String,
    /// Its partitions.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub partitions: i32,
    /// Groups.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub groups: u32,
    /// Members of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub members: u32,
    /// session.timeout.ms.
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub session_timeout_ms: i32,
    /// heartbeat.interval.ms.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub heartbeat_interval_ms: u64,
    /// auto.commit.interval.ms: how often a member commits all its partitions. 0: never.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub commit_interval_ms: u64,
    /// Partitions of a commit at most; 0: all that the member has.
    #[arg(long, default_value_t = 0)]
    pub commit_partitions: usize,
    /// How long to go on once all have settled, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub seconds: u64,
    /// Then members of the first group die, one after the other, each when the group has settled after the last; the first
    /// is its leader. They do not leave: their connections end, and nothing more is heard of them.
    #[arg(long, default_value_t = 0)]
    pub kills: u32,
    /// Prints what is found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was found.
#[derive(Debug)]
pub struct GroupsReport {
    groups: u32,
    members: u32,
    partitions: i32,
    session_timeout_ms: i32,
    /// From the first connection to the last group's first generation.
    settled_ms: u128,
    /// From each death to the generation without the dead.
    after_death_ms: Vec<u128>,
    commits: u64,
    commit_ns: Histogram<u64>,
    failures: Vec<String>,
}

/// Runs what the command line asks for: the whole of the binary.
pub fn main(arguments: GroupsArguments) -> ExitCode {
    let is_json = arguments.json;
    match run(arguments) {
        Ok(report) => {
            if is_json {
                println!("{:#}", report.to_json());
            } else {
                print!("{report}");
            }
            if report.failures.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("bench-groups: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Blocks the calling thread, which must be an ordinary one.
///
/// # Errors
/// If there is nothing to report.
pub fn run(arguments: GroupsArguments) -> Result<GroupsReport, BenchError> {
    let members = arguments.groups as usize * arguments.members as usize;
    let (answer, awaited) = channel::oneshot();
    let options = ThreadOptions {
        name: "bench-groups".to_owned(),
        cpu: None,
        memory_bytes: SPARE_MEMORY_BYTES + members * member::connection_options().memory_bytes(),
        ..ThreadOptions::default()
    };
    let thread = thread::spawn(options, move || async move {
        // The one who asked waits until it is given.
        let _ = answer.give(run_here(arguments).await);
    })?;
    let report = awaited.wait_blocking();
    thread.join_blocking();
    report.unwrap_or(Err(BenchError::Lost))
}

async fn run_here(arguments: GroupsArguments) -> Result<GroupsReport, BenchError> {
    let target = Target::find(&arguments.brokers, &arguments.topic, Some(arguments.partitions)).await?;
    let names: Vec<String> = (0..arguments.groups)
        .map(|number| format!("{}-{number}", arguments.topic))
        .collect();
    let coordinators = protocol::find_coordinators(target.client(), &names).await?;
    let mut groups = Vec::new();
    let began = clock::now();
    let arguments = Rc::new(arguments);
    let mut nodes = BTreeMap::new();
    for (name, node) in names.into_iter().zip(coordinators) {
        let (address, versions) = match nodes.entry(node) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(place(target.client(), node).await?),
        };
        let ledger = Ledger::new(arguments.partitions);
        let members = (0..arguments.members).map(|number| {
            let member = Member {
                arguments: arguments.clone(),
                group: name.clone(),
                number,
                address,
                versions,
                ledger: ledger.clone(),
            };
            executor::spawn(Class::Latency, member.live())
        });
        let members: Vec<Option<Task<()>>> = members.map(Some).collect();
        groups.push(Running { ledger, members });
        // Not all at once: a listener's queue is short.
        while groups
            .iter()
            .map(|group: &Running| group.ledger.connecting())
            .sum::<usize>()
            > CONNECTING_MAX
        {
            sleep(LOOK).await;
        }
    }
    for group in &groups {
        settle(group, arguments.members as usize, -1).await?;
    }
    let settled_ms = (clock::now() - began).as_millis();
    eprintln!("all have settled after {settled_ms} ms");
    groups.iter().for_each(|group| group.ledger.begin_measuring());
    sleep(Duration::from_secs(arguments.seconds)).await;
    let mut after_death_ms = Vec::new();
    for number in 0..arguments.kills {
        after_death_ms.push(kill(&mut groups[0], number).await?);
        eprintln!(
            "settled {} ms after a death",
            after_death_ms[after_death_ms.len() - 1]
        );
    }
    let mut report = GroupsReport {
        groups: arguments.groups,
        members: arguments.members,
        partitions: arguments.partitions,
        session_timeout_ms: arguments.session_timeout_ms,
        settled_ms,
        after_death_ms,
        commits: 0,
        commit_ns: ledger::latencies(),
        failures: Vec::new(),
    };
    groups.iter().for_each(|group| group.ledger.end());
    for group in groups {
        for member in group.members.into_iter().flatten() {
            member.await;
        }
        let ended = group.ledger.take();
        report.commits += ended.commits;
        (report.commit_ns.add(&ended.commit_ns)).expect("all histograms have the same bounds");
        report.failures.extend(ended.failures);
    }
    Ok(report)
}

/// A group whose members live.
struct Running {
    ledger: Rc<Ledger>,
    members: Vec<Option<Task<()>>>,
}

/// Where a node is, and what it speaks.
async fn place(client: &Client, node: i32) -> Result<(std::net::SocketAddr, Versions), BenchError> {
    let address = {
        let nodes = client.nodes();
        let (host, port) = nodes
            .get(&node)
            .ok_or(BenchError::UnknownNode { node_id: node })?
            .clone();
        resolve(&host, port).map_err(|why| ClientError::Resolve { host, why })?
    };
    let versions = Versions {
        join: client.version(node, ApiKey::JoinGroup).await?,
        sync: client.version(node, ApiKey::SyncGroup).await?,
        heartbeat: client.version(node, ApiKey::Heartbeat).await?,
        leave: client.version(node, ApiKey::LeaveGroup).await?,
        // The newest that names topics, and not their ids.
        commit: client.version(node, ApiKey::OffsetCommit).await?.min(9),
        fetch: client.version(node, ApiKey::OffsetFetch).await?.min(9),
    };
    Ok((address, versions))
}

/// Waits until the group is in a newer generation than that, all of its members have their partitions, and each partition
/// is one member's.
async fn settle(group: &Running, members: usize, after_generation: i32) -> Result<i32, BenchError> {
    loop {
        if let Some(settled) = group.ledger.settled(members, after_generation) {
            return Ok(settled);
        }
        if let Some(failure) = group.ledger.first_failure() {
            return Err(BenchError::Group { what: failure });
        }
        sleep(LOOK).await;
    }
}

/// Ends a member, and says how soon the others have settled, in milliseconds.
async fn kill(group: &mut Running, number: u32) -> Result<u128, BenchError> {
    let generation = group.ledger.generation();
    let leader = group.ledger.leader().filter(|_| number == 0);
    let alive = |member: &(usize, &mut Option<Task<()>>)| member.1.is_some();
    let mut living = group.members.iter_mut().enumerate().filter(alive);
    let victim = match leader {
        Some(leader) => living.find(|(place, _)| *place == leader as usize),
        None => living.next(),
    };
    let Some((place, victim)) = victim else {
        return Err(BenchError::Group {
            what: "there is nobody left to die".to_owned(),
        });
    };
    let died = clock::now();
    // It is cancelled where it stands, and its connection is closed.
    drop(victim.take());
    group.ledger.died(place as u32);
    let left = group.members.iter().flatten().count();
    settle(group, left, generation).await?;
    Ok((clock::now() - died).as_millis())
}

impl GroupsReport {
    fn to_json(&self) -> Value {
        json!({
            "groups": self.groups,
            "members": self.members,
            "partitions": self.partitions,
            "session_timeout_ms": self.session_timeout_ms,
            "settled_ms": self.settled_ms as u64,
            "after_death_ms": self.after_death_ms.iter().map(|ms| *ms as u64).collect::<Vec<u64>>(),
            "commits": self.commits,
            "commit_p50_ms": self.commit_ms(0.5),
            "commit_p99_ms": self.commit_ms(0.99),
            "failures": self.failures,
        })
    }

    fn commit_ms(&self, quantile: f64) -> f64 {
        self.commit_ns.value_at_quantile(quantile) as f64 / 1e6
    }
}

impl fmt::Display for GroupsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} group(s) of {} member(s) over {} partitions: all settled after {} ms",
            self.groups, self.members, self.partitions, self.settled_ms
        )?;
        writeln!(
            f,
            "{} commits acknowledged, p50 {:.2} ms, p99 {:.2} ms",
            self.commits,
            self.commit_ms(0.5),
            self.commit_ms(0.99)
        )?;
        for ms in &self.after_death_ms {
            writeln!(
                f,
                "settled {ms} ms after a member's death: {} ms after the end of its session",
                *ms as i128 - i128::from(self.session_timeout_ms)
            )?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}
