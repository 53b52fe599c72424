//! The load generator: drives any Kafka-protocol broker, and says how fast it was.
//!
//! Promises: latency counts from the moment at which a batch was due (no coordinated omission), percentiles are those
//! of all requests together, and what the client itself costs is told beside what the broker costs. Batches are built
//! before the run. Must never flatter: what was due and not sent, what failed, and what kept the client busy is said.
//!
//! | file | what |
//! |---|---|
//! | `arguments.rs` | the command line |
//! | `run.rs` | a run, from the command line to the report |
//! | `target.rs` | the topic, and the way to its leaders |
//! | `log_start.rs` | where logs begin, and that their leaders serve them |
//! | `worker.rs` | a thread with its connections |
//! | `produce.rs`, `consume.rs` | what travels on a connection |
//! | `plan.rs` | which client sends to which partitions over which connections |
//! | `schedule.rs` | when each batch is due |
//! | `batches.rs` | batches and requests, built ahead |
//! | `recorder.rs` | what was answered when |
//! | `groups/` | consumer groups, as a binary of their own |
//! | `cpu.rs` | CPU time of processes |
//! | `report.rs` | the table, and the JSON |

#![forbid(unsafe_code)]

pub mod arguments;
pub mod batches;
mod consume;
pub mod cpu;
pub mod error;
pub mod groups;
mod log_start;
pub mod plan;
mod produce;
pub mod recorder;
pub mod report;
pub mod run;
pub mod schedule;
mod target;
mod worker;

/// Our name in requests.
pub const CLIENT_ID: &str = "millstream-bench";
