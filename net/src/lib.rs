//! Listeners and connections: what lies between a socket and a request.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | accepts connections, and drains them at the end |
//! | [`client`] | the other side: connections to brokers, and the way to a partition's leader |
//! | [`Limits`] | every bound of a listener, with its reason |
//! | [`Traffic`] | what goes through a listener, counted |
//!
//! Promises: requests of a connection begin, and are answered, in the order in which they came; memory stays within
//! the pools of [`Limits`] whatever clients send or leave unread; nothing is allocated by a length that was not
//! checked. Must never look into a request beyond its length prefix.

#![forbid(unsafe_code)]

pub mod client;
mod connection;
mod frame_reader;
mod framing;
mod limits;
mod load;
pub mod server;
mod service;
mod traffic;

pub use limits::{ConnectionLimits, Limits};
pub use service::{BoxedReply, FrameBytes, Peer, Pending, Reply, Request, Service};
pub use traffic::Traffic;
