//! A record of a shard's journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzzing::journal_record(data));
