//! What the broker says on the wire, request by request: the promises that stock clients rely on but seldom exercise.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test crate: its items are nobody's interface, and a failed unwrap is a failed test"
)]

mod admin;
mod amplified;
mod broker_configs;
mod compaction;
mod consuming;
mod flushes;
mod groups;
mod hostile;
mod memory;
mod metrics;
mod pipelined;
#[allow(dead_code, reason = "the tests of the command line use the rest")]
#[path = "../process/mod.rs"]
mod process;
mod producing;
mod recompression;
mod recorded;
mod refused;
mod retention;
mod routing;
mod support;
