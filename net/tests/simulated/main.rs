//! Listeners and clients on a simulated network.
//!
//! The service of these tests does what a request tells it to, so that a test says in one place when each answer comes.

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

mod clients;
mod ending;
mod frames;
mod hostile;
mod order;
mod pressure;
