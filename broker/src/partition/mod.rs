//! What a partition's leader decides. Pure: no I/O, no clock, no state of its own.

pub(crate) mod leader;
