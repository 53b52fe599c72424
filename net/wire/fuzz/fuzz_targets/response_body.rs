//! Bodies of responses, as the load generator and the command line read them: the first byte chooses the API, the
//! second the version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{API_TABLE, ApiKey, Reader, Response, decode_response_header};

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let api = &API_TABLE[usize::from(*api) % API_TABLE.len()];
    let version = api.min_version + i16::from(*version) % (api.max_version - api.min_version + 1);
    // What was read can be written and read again, and is no longer than what came.
    macro_rules! check {
        ($response:ty) => {
            if let Ok(response) = <$response>::decode(Reader::new(body), version) {
                let frame = response.encode(version, 7);
                let (correlation_id, again) =
                    decode_response_header(&frame[4..], api.key, version).expect("our own header");
                assert_eq!(correlation_id, 7);
                assert!(again.remaining() <= body.len());
                assert_eq!(<$response>::decode(again, version), Ok(response));
            }
        };
    }
    macro_rules! check_its_own {
        ($($name:ident = $key:literal in $module:ident $versions:tt;)*) => {
            match api.key {
                $(ApiKey::$name => check!(wire::messages::$module::Response),)*
            }
        };
    }
    wire::for_each_api!(check_its_own);
});
