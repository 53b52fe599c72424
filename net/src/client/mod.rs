//! The client's side: pipelined connections, and the way to a partition's leader.

mod cluster;
mod connection;
mod error;

pub use cluster::{Client, ClientOptions, Resolve, resolve_literal};
pub use connection::{Answer, Connection, ConnectionOptions};
pub use error::ClientError;
