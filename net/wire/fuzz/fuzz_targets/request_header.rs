//! Headers of requests and of responses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{API_TABLE, decode_request_header, decode_response_header};

fuzz_target!(|data: &[u8]| {
    if let Ok((header, body)) = decode_request_header(data) {
        assert!(body.remaining() + 10 + header.client_id.map_or(0, str::len) <= data.len());
    }
    for api in API_TABLE {
        for version in [api.min_version, api.max_version, api.max_version + 1] {
            if let Ok((_, body)) = decode_response_header(data, api.key, version) {
                assert!(body.remaining() + 4 <= data.len());
            }
        }
    }
});
