//! ApiVersions (key 18), versions 0-4: what we speak. A version above is the frame's to answer (`dispatch`).

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};

use crate::api::{Call, Handled};
use crate::shard::Shard;

/// The first version in which a client says what software it is.
const FIRST_VERSION_WITH_SOFTWARE: i16 = 3;

pub(crate) async fn handle(_shard: Rc<Shard>, call: Call) -> Handled {
    let request: ApiVersionsRequest<'_> = call.body()?;
    let named =
        is_software_name(request.client_software_name) && is_software_name(request.client_software_version);
    let mut response = ApiVersionsResponse::from_table();
    if call.version >= FIRST_VERSION_WITH_SOFTWARE && !named {
        response = ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest,
            ..ApiVersionsResponse::default()
        };
    }
    call.ready(&response)
}

/// KIP-511: letters and digits, with dots and hyphens between them.
fn is_software_name(name: &str) -> bool {
    let name = name.as_bytes();
    let ends = [name.first(), name.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_kafkas() {
        for name in ["librdkafka", "apache-kafka-java", "2.0.2", "a"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", ".", "a b", "a/b", "\u{e9}"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
