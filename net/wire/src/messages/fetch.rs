//! Fetch (key 1), versions 4-17.
//!
//! 4: isolation level, aborted transactions. 5: log start offset. 6: no change. 7: fetch sessions (KIP-227). 8: as
//! Produce 6. 9: the client's leader epoch (KIP-320). 10: zstd. 11: rack id, preferred read replica (KIP-392).
//! 12: flexible; last fetched epoch, diverging epoch (KIP-595). 13: topic ids instead of names (KIP-516). 14: tiered
//! offsets. 15: replica state replaces the replica id (KIP-903). 16: endpoints of new leaders (KIP-951). 17: a
//! follower's directory id (KIP-853).

use crate::array::Array;
use crate::error::TooLarge;
use crate::error_code::ErrorCode;
use crate::frame::{Piece, Records, api, fill_gaps, write_response};
use crate::messages::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::primitive::{Uuid, Writer};
use crate::schema::message;

message! {
    /// What to read, and how long to wait for it.
    pub struct FetchRequest<'a> {
        [12.., tag 0] cluster_id: Option<&'a str>,
        /// -1 from a consumer. From version 15 on it is in `replica_state`: see [`Self::replica_id`].
        [..=14] replica_id: i32 = -1,
        [15.., tag 1] replica_state: ReplicaState,
        [..] max_wait_ms: i32,
        [..] min_bytes: i32,
        [..] max_bytes: i32 = i32::MAX,
        /// 0: up to the high watermark; 1: up to the last stable offset.
        [..] isolation_level: i8,
        /// 0 asks for no session, or for a new one.
        [7..] session_id: i32,
        /// 0 asks for a new session, -1 for none.
        [7..] session_epoch: i32 = -1,
        [..] topics: Array<'a, FetchTopic<'a>>,
        [7..] forgotten_topics: Array<'a, ForgottenTopic<'a>>,
        [11..] rack_id: &'a str,
    }
}

message! {
    /// A replica that fetches: -1 for a consumer.
    #[derive(Copy)]
    pub struct ReplicaState {
        [..] replica_id: i32 = -1,
        [..] replica_epoch: i64 = -1,
    }
}

message! {
    /// What to read of a topic: named up to version 12, by id from 13 on.
    pub struct FetchTopic<'a> {
        [..=12] name: &'a str,
        [13..] topic_id: Uuid,
        [..] partitions: Array<'a, FetchPartition>,
    }
}

message! {
    /// What to read of a partition.
    #[derive(Copy)]
    pub struct FetchPartition {
        [..] partition: i32,
        [9..] current_leader_epoch: i32 = -1,
        [..] fetch_offset: i64,
        [12..] last_fetched_epoch: i32 = -1,
        /// A follower's own log start offset, -1 from a consumer.
        [5..] log_start_offset: i64 = -1,
        [..] partition_max_bytes: i32,
        [17.., tag 0] replica_directory_id: Uuid,
    }
}

message! {
    /// Partitions to drop from the session.
    pub struct ForgottenTopic<'a> {
        [..=12] name: &'a str,
        [13..] topic_id: Uuid,
        [..] partitions: Array<'a, i32>,
    }
}

message! {
    /// What was read. [`Response::encode`](crate::Response::encode) copies the records into one buffer; a broker uses
    /// [`Self::encode_vectored`].
    pub struct FetchResponse<R> {
        [..] throttle_time_ms: i32,
        [7..] error_code: ErrorCode,
        [7..] session_id: i32,
        [..] topics: Vec<FetchTopicResponse<R>>,
        /// Endpoints of the leaders that partitions name.
        [16.., tag 0] node_endpoints: Vec<NodeEndpoint>,
    }
}

message! {
    /// A topic's part of the answer.
    pub struct FetchTopicResponse<R> {
        [..=12] name: String,
        [13..] topic_id: Uuid,
        [..] partitions: Vec<FetchPartitionResponse<R>>,
    }
}

message! {
    /// A partition's part of the answer.
    pub struct FetchPartitionResponse<R> {
        [..] partition: i32,
        [..] error_code: ErrorCode,
        [..] high_watermark: i64,
        [..] last_stable_offset: i64 = -1,
        [5..] log_start_offset: i64 = -1,
        /// Set when the follower's log has diverged.
        [12.., tag 0] diverging_epoch: EpochEndOffset,
        [12.., tag 1] current_leader: LeaderIdAndEpoch,
        [12.., tag 2] snapshot_id: SnapshotId,
        [..] aborted_transactions: Option<Vec<AbortedTransaction>>,
        [11..] preferred_read_replica: i32 = -1,
        [..] records: Records<R>,
    }
}

message! {
    /// The last epoch that leader and follower share, and where it ends. -1 when they agree.
    #[derive(Copy)]
    pub struct EpochEndOffset {
        [..] epoch: i32 = -1,
        [..] end_offset: i64 = -1,
    }
}

message! {
    /// A snapshot to fetch instead. -1 when none.
    #[derive(Copy)]
    pub struct SnapshotId {
        [..] end_offset: i64 = -1,
        [..] epoch: i32 = -1,
    }
}

message! {
    /// A transaction whose records a read-committed consumer must skip.
    #[derive(Copy)]
    pub struct AbortedTransaction {
        [..] producer_id: i64,
        [..] first_offset: i64,
    }
}

api! { Fetch: FetchRequest<'a>, FetchResponse<R> }

impl FetchRequest<'_> {
    /// Who fetches, in whichever field its version has it: a node id, or -1 for a consumer.
    pub fn replica_id(&self) -> i32 {
        if self.replica_state.replica_id >= 0 {
            self.replica_state.replica_id
        } else {
            self.replica_id
        }
    }
}

impl<R: AsRef<[u8]> + PartialEq> FetchResponse<R> {
    /// The whole frame, length prefix included, with the record data as it was handed in. Beside that it has at most
    /// `bytes_max` bytes.
    ///
    /// # Errors
    /// If it would be larger.
    pub fn encode_vectored(
        self,
        bytes_max: usize,
        api_version: i16,
        correlation_id: i32,
    ) -> Result<Vec<Piece<R>>, TooLarge> {
        let mut writer = Writer::vectored(bytes_max);
        write_response(&self, &mut writer, api_version, correlation_id);
        let partitions = self.topics.into_iter().flat_map(|topic| topic.partitions);
        fill_gaps(writer, partitions.flat_map(|partition| partition.records.0))
    }
}
