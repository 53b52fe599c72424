//! The broker: what a core does with requests, and what the control plane decides.

#![forbid(unsafe_code)]

<<<<<<< HEAD
pub mod cli;
=======
pub mod config;
pub mod controller;
>>>>>>> 7d66f84 (Decide on topics and producer ids in a pure state machine, and read one table of settings)
mod partition;
