//! The file of the metadata log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millstream::fuzzing::metadata_log(data));
