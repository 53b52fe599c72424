//! DescribeLogDirs (key 35), versions 1-4 (KIP-113).
//!
//! 1: as 0. 2: flexible. 3: an error for the whole. 4: the volume's bytes (KIP-827).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::api;
use crate::schema::message;

/// How large a volume is, where that is not told.
pub const UNKNOWN_VOLUME_BYTES: i64 = -1;

message! {
    /// Asks a node for its log directories.
    pub struct DescribeLogDirsRequest<'a> {
        /// Null: all that the node has.
        [..] topics: Option<Array<'a, DescribeLogDirsTopic<'a>>>,
    }
}

message! {
    /// Partitions of a topic.
    pub struct DescribeLogDirsTopic<'a> {
        [..] topic: &'a str,
        [..] partitions: Array<'a, i32>,
    }
}

message! {
    /// The log directories.
    pub struct DescribeLogDirsResponse {
        [..] throttle_time_ms: i32,
        [3..] error_code: ErrorCode,
        [..] results: Vec<DescribedLogDir>,
    }
}

message! {
    /// One of them.
    pub struct DescribedLogDir {
        [..] error_code: ErrorCode,
        /// Its absolute path.
        [..] log_dir: String,
        [..] topics: Vec<DescribedLogDirTopic>,
        /// Of the volume that it is on.
        [4..] total_bytes: i64 = UNKNOWN_VOLUME_BYTES,
        /// What of the volume can still be used.
        [4..] usable_bytes: i64 = UNKNOWN_VOLUME_BYTES,
    }
}

message! {
    /// What of a topic is in it.
    pub struct DescribedLogDirTopic {
        [..] name: String,
        [..] partitions: Vec<DescribedLogDirPartition>,
    }
}

message! {
    /// A partition's log.
    pub struct DescribedLogDirPartition {
        [..] partition_index: i32,
        /// Bytes of its segments.
        [..] partition_size: i64,
        /// How far it is behind the high watermark, or behind the log that it is to replace.
        [..] offset_lag: i64,
        /// It is to replace the log that another directory has.
        [..] is_future_key: bool,
    }
}

api! { DescribeLogDirs: DescribeLogDirsRequest<'a>, DescribeLogDirsResponse }
