//! The broker: what a core does with requests, and what the control plane decides.

#![forbid(unsafe_code)]

pub mod cli;
mod partition;
