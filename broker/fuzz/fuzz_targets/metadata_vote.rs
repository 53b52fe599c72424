//! The file of the vote.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millstream::fuzzing::metadata_vote(data));
