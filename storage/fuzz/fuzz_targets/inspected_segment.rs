//! A segment and its indexes, as `millstream log check` judges them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzzing::inspected_segment(data));
