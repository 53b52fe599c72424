//! The admin server: metrics and health over HTTP, beside the Kafka protocol.
//!
//! A thread of its own that runs tokio, because libraries for HTTP want it: no shard and no control thread ever waits
//! for it. It has no state of the broker: it asks the control thread and each shard, and puts together what they say.
//!
//! | file | what |
//! |---|---|
//! | `server` | connections and their bounds, paths |
//! | `gather` | asks the threads, within bounds of time and size |
//! | `metrics` | every metric: name, type, meaning, and where its numbers come from |
//! | `exposition` | the text format |
//! | `health` | pure: alive, ready |
//!
//! Must never make a client of the broker wait, and never change anything.

mod exposition;
mod gather;
mod health;
mod log_metrics;
mod metrics;
mod server;

pub use self::server::{AdminOptions, PROBES_MAX, start};
