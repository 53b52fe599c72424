//! IncrementalAlterConfigs (key 44), versions 0-1 (KIP-339): some configs of a resource.
//!
//! 1: flexible.

use crate::array::Array;
use crate::frame::api;
use crate::messages::alter_configs::AlteredResource;
use crate::schema::message;

/// The config gets the value.
pub const OPERATION_SET: i8 = 0;
/// The config gets its default again.
pub const OPERATION_DELETE: i8 = 1;
/// The values are added to a config that is a list.
pub const OPERATION_APPEND: i8 = 2;
/// The values are taken out of a config that is a list.
pub const OPERATION_SUBTRACT: i8 = 3;

message! {
    /// Changes configs of resources.
    pub struct IncrementalAlterConfigsRequest<'a> {
        [..] resources: Array<'a, IncrementalAlterConfigsResource<'a>>,
        [..] validate_only: bool,
    }
}

message! {
    /// A resource.
    pub struct IncrementalAlterConfigsResource<'a> {
        [..] resource_type: i8,
        [..] resource_name: &'a str,
        [..] configs: Array<'a, ChangedConfig<'a>>,
    }
}

message! {
    /// A config.
    pub struct ChangedConfig<'a> {
        [..] name: &'a str,
        [..] config_operation: i8,
        [..] value: Option<&'a str>,
    }
}

message! {
    /// What came of it.
    pub struct IncrementalAlterConfigsResponse {
        [..] throttle_time_ms: i32,
        [..] responses: Vec<AlteredResource>,
    }
}

api! { IncrementalAlterConfigs: IncrementalAlterConfigsRequest<'a>, IncrementalAlterConfigsResponse }
