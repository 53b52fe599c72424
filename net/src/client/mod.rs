//! The client's side: pipelined connections, the way to a partition's leader, and which partition a key belongs to.

mod cluster;
mod connection;
mod error;
mod partitioner;

pub use cluster::{Client, ClientOptions, Resolve, resolve_literal};
pub use connection::{Answer, Connection, ConnectionOptions};
pub use error::ClientError;
pub use partitioner::partition_of;
