//! A shard's checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzzing::shard_checkpoint(data));
