//! The offset and time index of a segment.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzzing::segment_index(data));
