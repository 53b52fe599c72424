//! The decoders of the metadata directory, for the fuzz targets. Compiled for them alone.

pub(crate) use crate::controller::raft::frame::fuzzing::{log, log_of};
pub(crate) use crate::controller::raft::state_machine::read_snapshot as snapshot;
pub(crate) use crate::controller::raft::vote::read_and_write_again as vote;
