//! A snapshot of the metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millstream::fuzzing::metadata_snapshot(data));
