//! The control plane: what the cluster is, and who may change it.
//!
//! Owns the metadata log, its state machine, and the control thread, which starts the shards and gives them image
//! after image. Promises that an answer is given only after what it says is durable and installed on every shard.
//! Must never touch a client's data, and no shard ever waits for it on the data path.
//!
//! | file | what |
//! |---|---|
//! | `record` | what the metadata log holds |
//! | `state`, `decide`, `alter`, `alter_configs`, `placement`, `folded` | pure: records in, image out; requests in, records and answers out |
//! | `raft` | the log itself |
//! | `host` | the control thread: starts shards, carries decisions out |
//! | `directories` | its log directories, and which of them are online |
//! | `unflushed` | pure: which topics an operator is warned of |
//! | `takeover`, `kafka` | a start on a directory that Kafka wrote; pure: what its metadata says, and becomes here |
//! | `roster` | how far it is, for those who look from outside |
//! | `image`, `request` | what is told to shards, and asked by them |

pub mod alter;
pub mod alter_configs;
mod bytes;
pub mod decide;
mod directories;
mod folded;
pub mod host;
pub mod image;
mod kafka;
mod placement;
pub mod raft;
pub mod record;
pub mod request;
pub mod roster;
pub mod state;
mod takeover;
mod unflushed;
