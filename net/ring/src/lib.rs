//! The runtime: one pinned thread, one io_uring, one executor; and the deterministic simulator behind the same calls.
//!
//! This room owns every system call of the project and all of its `unsafe`. Everything above it is written against
//! the functions of these modules and cannot tell whether the thread it runs on is real or simulated:
//!
//! | module | what |
//! |---|---|
//! | [`thread`] | starts threads, pinned and real, or simulated when the caller is |
//! | [`executor`] | tasks of one thread, in three classes |
//! | [`buffer`] | page-aligned buffers under a hard budget, and the shared slices cut from them |
//! | [`file`], [`directory`] | files (owned-buffer operations) and the names above them |
//! | [`socket`] | TCP |
//! | [`clock`], [`timer`], [`random`] | time and chance, which the simulator drives |
//! | [`channel`] | bounded queues between threads |
//! | [`count`] | what happened how often, and how long it took |
//! | [`copy`] | copies past the processor's caches |
//! | [`prefetch`] | memory that is asked for before it is needed |
//! | [`local`] | signals and one-shot cells between tasks of one thread |
//! | [`descriptors`] | how many files and sockets the process may have open |
//! | [`simulator`] | a whole cluster in one process: seeded order, virtual time, faulty disks and network |
//!
//! Inside, the shared half of a thread (`core`, `executor`, `timer`, `operation`, `buffer`) stands on one small trait,
//! `driver::Driver`, which `uring` and `simulator` implement.
//!
//! Rules that hold for every operation:
//! - It owns its buffer until its completion arrives, so that a dropped future is safe: the kernel writes into memory
//!   that the ring still owns, and the completion frees it.
//! - Handles (`File`, `TcpStream`, `Slice`, ...) belong to their thread (`!Send`). Only `channel` crosses threads.
//! - A call made outside a ring thread panics: it is a mistake of ours, never of a client.

pub mod buffer;
pub mod channel;
pub mod clock;
pub mod copy;
mod core;
pub mod count;
pub mod descriptors;
pub mod directory;
mod driver;
pub mod executor;
pub mod file;
pub mod local;
mod operation;
pub mod prefetch;
pub mod random;
mod region;
pub mod simulator;
pub mod socket;
pub mod thread;
pub mod timer;
mod uring;
