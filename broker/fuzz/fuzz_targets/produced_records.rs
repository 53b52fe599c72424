//! What a producer sends for a partition.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millstream::fuzzing::produced_records(data));
