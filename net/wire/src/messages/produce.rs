//! Produce (key 0), versions 3-11.
//!
//! 3: transactional id, record batches v2. 4: no change. 5: log start offset in the response. 6: throttled clients are
//! answered before they wait. 7: zstd. 8: record errors and a message (KIP-467). 9: flexible. 10: the new leader and
//! its endpoint come with NOT_LEADER_OR_FOLLOWER (KIP-951). 11: same bytes as 10; only for transactions before
//! version 2 (KIP-890).

use crate::array::Array;
use crate::error_code::ErrorCode;
use crate::frame::{Piece, api, fill_gaps, write_request};
use crate::messages::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::primitive::{FRAME_BYTES_MAX, Writer};
use crate::schema::message;

message! {
    /// Batches to append.
    pub struct ProduceRequest<'a> {
        [..] transactional_id: Option<&'a str>,
        /// How many replicas must have the batches before the answer: 0 (no answer), 1, or -1 for all in sync.
        [..] acks: i16,
        [..] timeout_ms: i32,
        [..] topics: Array<'a, ProduceTopic<'a>>,
    }
}

message! {
    /// Batches for a topic.
    pub struct ProduceTopic<'a> {
        [..] name: &'a str,
        [..] partitions: Array<'a, ProducePartition<'a>>,
    }
}

message! {
    /// Batches for a partition.
    pub struct ProducePartition<'a> {
        [..] partition: i32,
        /// Record batches as the client built them, unchecked.
        [..] records: Option<&'a [u8]>,
    }
}

message! {
    /// What became of each partition's batches.
    pub struct ProduceResponse {
        [..] topics: Vec<ProduceTopicResponse>,
        [..] throttle_time_ms: i32,
        /// Endpoints of the leaders that partitions name.
        [10.., tag 0] node_endpoints: Vec<NodeEndpoint>,
    }
}

message! {
    /// A topic's part of the answer.
    pub struct ProduceTopicResponse {
        [..] name: String,
        [..] partitions: Vec<ProducePartitionResponse>,
    }
}

message! {
    /// A partition's part of the answer.
    pub struct ProducePartitionResponse {
        [..] partition: i32,
        [..] error_code: ErrorCode,
        /// The offset of the first record, -1 on error.
        [..] base_offset: i64 = -1,
        /// The broker's time when the topic uses LogAppendTime, else -1.
        [..] log_append_time_ms: i64 = -1,
        [5..] log_start_offset: i64 = -1,
        [8..] record_errors: Vec<RecordError>,
        [8..] error_message: Option<String>,
        [10.., tag 0] current_leader: LeaderIdAndEpoch,
    }
}

message! {
    /// A record that made its batch refused.
    pub struct RecordError {
        /// The record's place in its batch.
        [..] batch_index: i32,
        [..] batch_index_error_message: Option<String>,
    }
}

api! { Produce: ProduceRequest<'a>, ProduceResponse }

impl<'a> ProduceRequest<'a> {
    /// The whole frame, with the batches as they were handed in: one [`Piece::Records`] for each partition whose
    /// records are not empty, in order.
    pub fn encode_vectored(
        &self,
        api_version: i16,
        correlation_id: i32,
        client_id: Option<&str>,
    ) -> Vec<Piece<&'a [u8]>> {
        let mut writer = Writer::vectored(FRAME_BYTES_MAX);
        write_request(self, &mut writer, api_version, correlation_id, client_id);
        let partitions = self.topics.iter().flat_map(|topic| topic.partitions.iter());
        let pieces = fill_gaps(writer, partitions.filter_map(|partition| partition.records));
        pieces.expect("what we ask for is smaller than 2 GiB")
    }
}
