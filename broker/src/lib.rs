//! The broker: what a core does with requests, and what the control plane decides.

#![forbid(unsafe_code)]

pub mod admin;
mod api;
pub mod cli;
pub mod config;
pub mod controller;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod partition;
pub mod shard;
pub mod tune;
