//! The load generator: drives any Kafka-protocol broker, and says how fast it was.
//!
//! Promises: latency counts from the moment at which a batch was due (no coordinated omission), percentiles are those
//! of all requests together, and what the client itself costs is told beside what the broker costs. Batches are built
//! before the run. Must never flatter: what was due and not sent, what failed, and what kept the client busy is said.
//!
//! | file | what |
//! |---|---|
//! | `arguments.rs`, `record_arguments.rs` | the command line; of it, what records are made of |
//! | `run.rs` | the commands, from the command line to what is printed |
//! | `measure.rs` | one measurement: workers, progress, sums |
//! | `sweep/` | latency against batch size and rate |
//! | `compare/` | two clusters in turns, and the ratio |
//! | `disk/` | what a file system and its disk give |
//! | `cluster.rs` | what a cluster says of itself, its durability among it |
//! | `room.rs` | whether a disk has room for a run |
//! | `embedded.rs`, `leftovers.rs` | a broker of our own; what a run must not leave behind |
//! | `target.rs` | the topic, and the way to its leaders |
//! | `log_place.rs` | where logs begin or end, and that their leaders serve them |
//! | `worker.rs` | a thread with its connections |
//! | `produce.rs`, `consume.rs` | what travels on a connection |
//! | `end_to_end.rs`, `read_back.rs` | both at once: what is sent is read back |
//! | `plan.rs` | which client sends to which partitions over which connections |
//! | `schedule.rs` | when each batch is due |
//! | `batches.rs` | batches, built ahead |
//! | `requests.rs`, `turns.rs` | requests with them, and in which order they are sent |
//! | `records.rs`, `keys.rs` | what is in batches; which keys belong to a partition |
//! | `producer_id.rs` | idempotent producers: ids and sequences |
//! | `recorder.rs` | what was answered when |
//! | `groups/` | consumer groups, as a binary of their own |
//! | `cpu.rs` | CPU time of processes |
//! | `environment.rs` | the host, its disk and its file system |
//! | `report.rs`, `kafka_lines.rs`, `hdr_log.rs` | a run's table and JSON; Kafka's lines; HdrHistogram's formats |
//! | `text.rs`, `wall_time.rs` | columns, dates |

#![forbid(unsafe_code)]

pub mod arguments;
pub mod batches;
pub mod cluster;
pub mod compare;
mod consume;
pub mod cpu;
pub mod disk;
pub mod embedded;
mod end_to_end;
pub mod environment;
pub mod error;
pub mod groups;
pub mod hdr_log;
mod kafka_lines;
pub mod keys;
mod leftovers;
mod log_place;
mod measure;
pub mod plan;
mod produce;
mod producer_id;
mod read_back;
pub mod record_arguments;
pub mod recorder;
pub mod records;
pub mod report;
pub mod requests;
mod room;
pub mod run;
pub mod schedule;
pub mod sweep;
mod target;
mod text;
pub mod turns;
mod wall_time;
mod worker;

/// Our name in requests.
pub const CLIENT_ID: &str = "millstream-bench";
