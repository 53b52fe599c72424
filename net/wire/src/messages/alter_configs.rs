//! AlterConfigs (key 33), versions 0-2: all configs of a resource at once.
//!
//! 1: as 0. 2: flexible.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Gives resources these configs, and no others.
    pub struct AlterConfigsRequest<'a> {
        [..] resources: Array<'a, AlterConfigsResource<'a>>,
        [..] validate_only: bool,
    }
}

message! {
    /// A resource.
    pub struct AlterConfigsResource<'a> {
        [..] resource_type: i8,
        [..] resource_name: &'a str,
        [..] configs: Array<'a, AlteredConfig<'a>>,
    }
}

message! {
    /// A config.
    pub struct AlteredConfig<'a> {
        [..] name: &'a str,
        [..] value: Option<&'a str>,
    }
}

message! {
    /// What came of it.
    pub struct AlterConfigsResponse {
        [..] throttle_time_ms: i32,
        [..] responses: Vec<AlteredResource>,
    }
}

message! {
    /// Of a resource.
    pub struct AlteredResource {
        [..] error_code: ErrorCode,
        [..] error_message: Option<String>,
        [..] resource_type: i8,
        [..] resource_name: String,
    }
}

api! { AlterConfigs: AlterConfigsRequest<'a>, AlterConfigsResponse }
