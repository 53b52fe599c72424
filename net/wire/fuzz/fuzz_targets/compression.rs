//! Compressed records: the first byte chooses the codec.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::Compression;

const LIMIT_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [codec, input @ ..] = data else { return };
    let codec = Compression::ALL[usize::from(*codec) % Compression::ALL.len()];
    if let Ok(output) = codec.decompress(input, LIMIT_BYTES) {
        assert!(output.len() <= LIMIT_BYTES);
    }
    let compressed = codec.compress(input);
    assert_eq!(codec.decompress(&compressed, input.len()).as_deref(), Ok(input));
});
