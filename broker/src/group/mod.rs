//! Consumer groups: who is in one, which generation it is in, and what it has committed.
//!
//! [`machine`] is one group of the classic protocol as a pure state machine, [`stored`] what the log of
//! `__consumer_offsets` says of it. [`coordinator`] drives both for one partition of that topic, on the shard that
//! leads it; [`coordinators`] are those of a shard. Promises: nothing is answered as committed before it is durable, and
//! no commit of an old generation is taken. Must never tell of an offset that a power cut could take back.

pub(crate) mod coordinator;
pub(crate) mod coordinators;
mod load;
pub(crate) mod machine;
pub(crate) mod member;
pub(crate) mod memory;
#[cfg(test)]
mod simulation;
pub(crate) mod stored;
mod subscription;
