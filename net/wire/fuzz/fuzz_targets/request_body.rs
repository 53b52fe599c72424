//! Bodies of requests, as a broker reads them: the first byte chooses the API, the second the version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{API_TABLE, ApiKey, Reader, Request, decode_request_header};

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let api = &API_TABLE[usize::from(*api) % API_TABLE.len()];
    let version = api.min_version + i16::from(*version) % (api.max_version - api.min_version + 1);
    // What was read can be written and read again, and is no longer than what came.
    macro_rules! check {
        ($request:ty) => {
            if let Ok(request) = <$request>::decode(Reader::new(body), version) {
                let frame = request.encode(version, 7, Some("fuzz"));
                let (header, again) = decode_request_header(&frame[4..]).expect("our own header");
                assert_eq!((header.api_version, header.correlation_id), (version, 7));
                assert!(again.remaining() <= body.len());
                assert_eq!(<$request>::decode(again, version), Ok(request));
            }
        };
    }
    macro_rules! check_its_own {
        ($($name:ident = $key:literal in $module:ident $versions:tt;)*) => {
            match api.key {
                $(ApiKey::$name => check!(wire::messages::$module::Request),)*
            }
        };
    }
    wire::for_each_api!(check_its_own);
});
