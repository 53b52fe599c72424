//! Kafka's APIs, one file each.

mod session;
