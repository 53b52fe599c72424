//! DescribeConfigs (key 32), versions 1-4.
//!
//! 1: sources and synonyms (KIP-226). 2: as 1. 3: types and documentation (KIP-569). 4: flexible.

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

message! {
    /// Asks for the configs of resources.
    pub struct DescribeConfigsRequest<'a> {
        [..] resources: Array<'a, DescribeConfigsResource<'a>>,
        [1..] include_synonyms: bool,
        [3..] include_documentation: bool,
    }
}

message! {
    /// A resource.
    pub struct DescribeConfigsResource<'a> {
        [..] resource_type: i8,
        [..] resource_name: &'a str,
        /// Null: all.
        [..] configuration_keys: Option<Array<'a, &'a str>>,
    }
}

message! {
    /// The configs.
    pub struct DescribeConfigsResponse {
        [..] throttle_time_ms: i32,
        [..] results: Vec<DescribeConfigsResult>,
    }
}

message! {
    /// Of a resource.
    pub struct DescribeConfigsResult {
        [..] error_code: ErrorCode,
        [..] error_message: Option<String>,
        [..] resource_type: i8,
        [..] resource_name: String,
        [..] configs: Vec<DescribedConfig>,
    }
}

message! {
    /// A config.
    pub struct DescribedConfig {
        [..] name: String,
        [..] value: Option<String>,
        [..] read_only: bool,
        [1..] config_source: i8 = -1,
        [..] is_sensitive: bool,
        [1..] synonyms: Vec<ConfigSynonym>,
        [3..] config_type: i8,
        [3..] documentation: Option<String>,
    }
}

message! {
    /// A value that would hold if those before it did not.
    pub struct ConfigSynonym {
        [1..] name: String,
        [1..] value: Option<String>,
        [1..] source: i8,
    }
}

api! { DescribeConfigs: DescribeConfigsRequest<'a>, DescribeConfigsResponse }
